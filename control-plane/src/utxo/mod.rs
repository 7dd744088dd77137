//! `metanode utxo`: look into a set of coins, check it, bring it in, send it out.
//!
//! A set is a directory with one file in Teranode's format (`HASH.utxo-set`, see `utxo_shard::seed`), and where they are known the headers
//! of the chain below it (`HASH.utxo-headers`, see `utxo_shard::seed_headers`). Files are read a transaction at a time, and have no
//! epoch: `epoch` is 0 there. Or it is in a node's data directory, where it has one ([`node_dir`]); then it can be sent out while the
//! node runs ([`send`]), and given to another number of shards while it does not ([`reshard`]). Progress goes to stderr, once a second
//! where it takes long, a summary at the end, and with `--json` one object to stdout.

mod node_dir;
mod reshard;
mod send;

use crate::datadir::DataDirError;
use clap::{Args, Subcommand};
use consensus::params::{ChainParams, Network};
use dataplane::partition::Partition;
use load::evidence::Evidence;
use node_dir::NodeDir;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use utxo_shard::seed::{SeedError, SeedHead, SeedReader, SeedTx, SeedWriter};
use utxo_shard::seed_headers::{HeaderReader, HeaderWriter, SeedHeader};
use utxo_shard::state_hash::StateHash;
use utxo_shard::store::UtxoStore;
use utxo_shard::verdict::Verdict;
use utxo_shard::{FolderError, SHARDS_MAX, ShardConfig, Shards};

const EXTENSION: &str = "utxo-set";
const HEADERS: &str = "utxo-headers";
/// Transactions handed to the store together.
const BATCH_TXS: usize = 64;
/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

/// Looks into a set of coins, checks it, brings it in, sends it out
#[derive(Args, Debug)]
pub struct UtxoArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Says what is in a set: counts, values, kinds of scripts; of a node's directory: checkpoint and journals
    Inspect {
        /// Directory of the set, or a file, or a node's --data-dir
        dir: PathBuf,
        /// One JSON object as the last line of stdout
        #[arg(long)]
        json: bool,
    },
    /// Loads a set into shards, checks every invariant, and says its state hash; writes nothing
    Verify {
        /// Directory of the set, or a file, or a node's --data-dir
        dir: PathBuf,
        /// One JSON object as the last line of stdout
        #[arg(long)]
        json: bool,
    },
    /// Checks a file and puts it into a directory; with a `.utxo-set` the `.utxo-headers` of its name beside it
    Import {
        /// A `.utxo-set`, or the `.utxo-headers` of the set in the directory; a `.sha256` beside it is checked too
        file: PathBuf,
        /// The directory; it must not hold what is brought in
        dir: PathBuf,
        /// One JSON object as the last line of stdout
        #[arg(long)]
        json: bool,
    },
    /// Writes a set out as one file, and its headers beside it; a node may be running
    Export {
        /// Directory of the set, or a node's --data-dir
        dir: PathBuf,
        /// The file; it must not be there
        file: PathBuf,
        /// One JSON object as the last line of stdout
        #[arg(long)]
        json: bool,
    },
    /// Changes the number of shards of a stopped node's directory
    Reshard {
        /// A node's --data-dir
        dir: PathBuf,
        /// Shards it is to have: 1 to 256
        #[arg(long)]
        shards: u16,
        /// One JSON object as the last line of stdout
        #[arg(long)]
        json: bool,
    },
}

/// Why a set could not be handled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UtxoError {
    /// The operating system said no.
    #[error("cannot {tried} {path}: {source}")]
    Os {
        /// What was tried.
        tried: &'static str,
        /// On what.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// No set, or several.
    #[error(
        "{dir} holds {got} files *.utxo-set and no node's coins (a file utxo/HEADER), expected one of both; bring a set in with \
         `metanode utxo import FILE {dir}`, or name a node's --data-dir"
    )]
    NotOne {
        /// The directory.
        dir: PathBuf,
        /// How many.
        got: usize,
    },
    /// Something is where a set should go.
    #[error("{path} is there already; choose another place, or remove it first")]
    InTheWay {
        /// What is there.
        path: PathBuf,
    },
    /// The bytes are not those the list beside the file promises.
    #[error("{file} has SHA-256 {got}, expected {expected} as {list} says; fetch it again")]
    Sum {
        /// The file.
        file: PathBuf,
        /// The file beside it.
        list: PathBuf,
        /// What was computed.
        got: String,
        /// What it says.
        expected: String,
    },
    /// Headers of another chain.
    #[error(
        "{path} ends at block {got}, and the set is as of {expected}; take the headers that were written with the set"
    )]
    OtherTip {
        /// The headers.
        path: PathBuf,
        /// Their tip.
        got: consensus::hash::BlockHash,
        /// The block of the set.
        expected: consensus::hash::BlockHash,
    },
    /// Several networks.
    #[error("{dir} has the coins of several networks; name one of them: {one} or {other}")]
    Several {
        /// The directory.
        dir: PathBuf,
        /// One.
        one: PathBuf,
        /// Another.
        other: PathBuf,
    },
    /// A folder of coins in a folder that is no network's.
    #[error(
        "{path} is named after no network (mainnet, testnet3, stn, regtest, teratestnet, tstn), so the rules of its coins are not \
         known; give it the name that `metanode run` gave it"
    )]
    NoNetwork {
        /// The folder.
        path: PathBuf,
    },
    /// A number of shards that cannot be.
    #[error(
        "--shards {got} cannot be, expected 1 to {SHARDS_MAX}; `metanode topo --cores N` says how many N cores take"
    )]
    ShardCount {
        /// What was asked for.
        got: u16,
    },
    /// A node's directory.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The directory of a network.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Its journals.
    #[error("{path}: {source}")]
    Recover {
        /// Where they are.
        path: PathBuf,
        /// Why.
        source: Box<utxo_shard::RecoverError>,
    },
    /// They cannot be written anew.
    #[error("{path}: {source}")]
    Reshard {
        /// Where they are.
        path: PathBuf,
        /// Why.
        source: Box<utxo_shard::ReshardError>,
    },
    /// The two directories cannot change places.
    #[error(
        "exchanging {path} with what is made beside it: {source}; nothing was changed: copy the data directory to a local file system \
         (ext4, xfs, btrfs, tmpfs), and run it there"
    )]
    Exchange {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is there cannot be.
    #[error("{path} is not sound: {what}; restore the data directory from a copy, and report this")]
    Unsound {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The chain's files.
    #[error(transparent)]
    Chain(#[from] crate::chain::files::FilesError),
    /// A header that the chain's files do not have.
    #[error(
        "{path} has no header of block {hash} at height {height}; start the node once, so that it fetches the headers"
    )]
    NoHeader {
        /// Which.
        hash: consensus::hash::BlockHash,
        /// Its height.
        height: u32,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A node runs there and cannot be asked.
    #[error(
        "a node runs here, and {path} names {what}; start it with --rpc-listen, or stop it first"
    )]
    NotAsked {
        /// Its file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The node did not do it.
    #[error("asking the node for a checkpoint: {0}")]
    Asked(#[from] crate::load::rpc::RpcError),
    /// The file is wrong.
    #[error("{path}: {source}")]
    Seed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SeedError,
    },
    /// A store would not take a transaction.
    #[error(
        "{path}: transaction {txid} was answered `{verdict}`, expected `done`; the file is damaged: fetch it again"
    )]
    Refused {
        /// The file.
        path: PathBuf,
        /// The transaction.
        txid: consensus::hash::TxId,
        /// The answer.
        verdict: &'static str,
    },
}

/// Runs it.
pub fn main(args: &UtxoArgs) -> ExitCode {
    let (schema, json) = match &args.what {
        What::Inspect { json, .. } => ("utxo-inspect/1", *json),
        What::Verify { json, .. } => ("utxo-verify/1", *json),
        What::Import { json, .. } => ("utxo-import/1", *json),
        What::Export { json, .. } => ("utxo-export/1", *json),
        What::Reshard { json, .. } => ("utxo-reshard/1", *json),
    };
    let mut evidence = Evidence::new(schema, 0);
    let done = match &args.what {
        What::Inspect { dir, .. } => inspect(dir, &mut evidence),
        What::Verify { dir, .. } => verify(dir, &mut evidence),
        What::Import { file, dir, .. } => import(file, dir, &mut evidence),
        What::Export { dir, file, .. } => export(dir, file, &mut evidence),
        What::Reshard { dir, shards, .. } => reshard::run(dir, *shards, &mut evidence),
    };
    if let Err(error) = &done {
        eprintln!("utxo: {error}");
        evidence.set("error", error.to_string());
    }
    evidence.finish(done.is_ok(), json)
}

fn os(tried: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> UtxoError {
    let path = path.to_owned();
    move |source| UtxoError::Os { tried, path, source }
}

/// The one file of a set.
fn file_of(dir: &Path) -> Result<PathBuf, UtxoError> {
    if dir.is_file() {
        return Ok(dir.to_owned());
    }
    let mut files = files_of(dir, EXTENSION)?;
    match files.pop() {
        Some(file) if files.is_empty() => Ok(file),
        _ => Err(UtxoError::NotOne { dir: dir.to_owned(), got: files.len() }),
    }
}

/// The headers beside a set, if there are any.
fn headers_of(set: &Path) -> Option<PathBuf> {
    let path = set.with_extension(HEADERS);
    path.is_file().then_some(path)
}

fn files_of(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, UtxoError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(os("list", dir))? {
        let path = entry.map_err(os("list", dir))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    Ok(files)
}

/// A file that is read, hashed as it goes, with a line of progress now and then.
struct Source {
    path: PathBuf,
    reader: SeedReader<Summed>,
    len: u64,
    began: Instant,
    told: Instant,
    tx: SeedTx,
}

/// What was read, and its hash.
struct Summed {
    file: BufReader<File>,
    sum: Sha256,
}

impl Summed {
    /// A file, and its length.
    fn open(path: &Path) -> Result<(Self, u64), UtxoError> {
        let file = File::open(path).map_err(os("open", path))?;
        let len = file.metadata().map_err(os("look at", path))?.len();
        Ok((Self { file: BufReader::with_capacity(1 << 20, file), sum: Sha256::new() }, len))
    }
}

impl Read for Summed {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(into)?;
        self.sum.update(&into[..n]);
        Ok(n)
    }
}

impl Source {
    fn open(path: &Path) -> Result<Self, UtxoError> {
        let (summed, len) = Summed::open(path)?;
        let reader = SeedReader::new(summed, len)
            .map_err(|source| UtxoError::Seed { path: path.to_owned(), source })?;
        let now = Instant::now();
        let tx = SeedTx::default();
        Ok(Self { path: path.to_owned(), reader, len, began: now, told: now, tx })
    }

    fn head(&self) -> SeedHead {
        self.reader.head()
    }

    fn next(&mut self) -> Result<Option<&SeedTx>, UtxoError> {
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            let (txs, utxos) = self.reader.counts();
            let percent = self.reader.at() * 100 / self.len.max(1);
            let mb_per_s = self.reader.at() as f64 / 1e6 / self.began.elapsed().as_secs_f64();
            eprintln!(
                "utxo: {percent:>3} %  {txs} transactions, {utxos} outputs, {mb_per_s:.0} MB/s"
            );
        }
        let more = self
            .reader
            .next_tx(&mut self.tx)
            .map_err(|source| UtxoError::Seed { path: self.path.clone(), source })?;
        Ok(more.then_some(&self.tx))
    }

    /// Puts what every command says of a set into the evidence; call it behind the last transaction.
    fn summary(self, evidence: &mut Evidence) -> String {
        let (txs, utxos) = self.reader.counts();
        let head = self.head();
        evidence.set("file", self.path.display().to_string());
        evidence.set("bytes", self.len);
        evidence.set("block", head.block.to_string());
        evidence.set("height", head.height);
        evidence.set("transactions", txs);
        evidence.set("utxos", utxos);
        let sum = hex::encode(self.reader.into_inner().sum.finalize());
        evidence.set("sha256", sum.clone());
        eprintln!(
            "utxo: {txs} transactions with {utxos} unspent outputs as of block {} at height {}",
            head.block, head.height
        );
        sum
    }
}

fn inspect(dir: &Path, evidence: &mut Evidence) -> Result<(), UtxoError> {
    if let Some(node) = NodeDir::find(dir)? {
        return node_dir::inspect(&node, evidence);
    }
    let mut source = Source::open(&file_of(dir)?)?;
    let (mut value_sat, mut coinbases, mut heights) = (0_u64, 0_u64, (u32::MAX, 0));
    let mut longest = 0;
    let mut forms = std::collections::BTreeMap::<&str, u64>::new();
    while let Some(tx) = source.next()? {
        coinbases += u64::from(tx.coinbase);
        heights = (heights.0.min(tx.height), heights.1.max(tx.height));
        for (_, value, script) in tx.coins() {
            value_sat = value_sat.saturating_add(value);
            longest = longest.max(script.len());
            *forms.entry(utxo_shard::script_form(script)).or_default() += 1;
        }
    }
    evidence.set("previous", source.head().previous.to_string());
    evidence.set("value_sat", value_sat);
    evidence.set("coinbases", coinbases);
    evidence.set("height_min", heights.0.min(heights.1));
    evidence.set("height_max", heights.1);
    evidence.set("longest_script_bytes", longest);
    evidence.set("scripts", serde_json::json!(forms));
    let (path, head) = (source.path.clone(), source.head());
    source.summary(evidence);
    read_headers_beside(&path, &head, evidence)
}

fn verify(dir: &Path, evidence: &mut Evidence) -> Result<(), UtxoError> {
    if let Some(node) = NodeDir::find(dir)? {
        return node_dir::verify(&node, evidence);
    }
    let mut source = Source::open(&file_of(dir)?)?;
    let mut store = shards(source.len);
    let mut batch = Vec::with_capacity(BATCH_TXS);
    let mut verdicts = Vec::new();
    loop {
        let more = source.next()?.cloned();
        let ended = more.is_none();
        batch.extend(more);
        if batch.len() == BATCH_TXS || ended {
            create(&mut store, &batch, &mut verdicts, &source.path)?;
            batch.clear();
        }
        if ended {
            break;
        }
    }
    for shard in store.shards() {
        shard.check();
    }
    let totals = store.totals();
    let mut hash = StateHash::new();
    store.for_each_coin(&mut |outpoint, coin| hash.add(outpoint, coin));
    let state_hash = hex::encode(hash.finish());
    eprintln!("utxo: state hash {state_hash}");
    let (path, head) = (source.path.clone(), source.head());
    source.summary(evidence);
    read_headers_beside(&path, &head, evidence)?;
    // From here on what the shards say, not what the file says: transactions without a coin have no record.
    evidence.set("transactions", totals.transactions);
    evidence.set("utxos", totals.utxos);
    evidence.set("value_sat", totals.value_sat);
    evidence.set("epoch", 0);
    evidence.set("dangling", store.dangling());
    evidence.set("state_hash", state_hash);
    evidence.set("ram_bytes", totals.resident_bytes);
    Ok(())
}

/// Room for whatever a file of this many bytes can hold; memory is committed as it is used.
fn shards(file_bytes: u64) -> Shards {
    let partition = Partition::new([0; 16], 1, 1);
    let params = ChainParams::of(Network::Main);
    let small = ShardConfig::small(0, partition, (1, 2), params);
    // The smallest transaction with a coin takes 56 bytes of the file and 112 of the slab.
    let slab_bytes = (file_bytes * 3 + (64 << 20)).min(64 << 30) as usize;
    let transactions_max = (file_bytes / 56 + 1024).min(3 << 28) as usize;
    Shards::new(&ShardConfig { slab_bytes, transactions_max, ..small }, false)
}

fn create(
    store: &mut Shards,
    batch: &[SeedTx],
    verdicts: &mut Vec<Verdict>,
    path: &Path,
) -> Result<(), UtxoError> {
    let coins: Vec<Vec<_>> = batch.iter().map(|tx| tx.coins().collect()).collect();
    let txs: Vec<_> = batch.iter().zip(&coins).map(|(tx, coins)| tx.mined(coins)).collect();
    store.create_many(&txs, verdicts);
    for (verdict, tx) in verdicts.drain(..).zip(batch) {
        if verdict != Verdict::Done {
            let (path, txid) = (path.to_owned(), tx.txid);
            return Err(UtxoError::Refused { path, txid, verdict: verdict.name() });
        }
    }
    Ok(())
}

fn import(file: &Path, dir: &Path, evidence: &mut Evidence) -> Result<(), UtxoError> {
    std::fs::create_dir_all(dir).map_err(os("make", dir))?;
    if file.extension().is_some_and(|extension| extension == HEADERS) {
        let set = file_of(dir)?;
        if let Some(path) = headers_of(&set) {
            return Err(UtxoError::InTheWay { path });
        }
        let head = Source::open(&set)?.head();
        return copy_headers(file, &set.with_extension(HEADERS), &head, evidence);
    }
    if let Some(path) = files_of(dir, EXTENSION)?.pop() {
        return Err(UtxoError::InTheWay { path });
    }
    let source = Source::open(file)?;
    let head = source.head();
    let to = dir.join(format!("{}.{EXTENSION}", head.block));
    let headers = headers_of(file);
    // All that is brought in is read before anything is written.
    if let Some(from) = &headers {
        read_headers(from, &head, evidence, |_| Ok(()))?;
    }
    let sum = copy(source, &to, evidence, |sum| check_sum(file, sum))?;
    evidence.set("sha256_checked", sum);
    match headers {
        Some(from) => copy_headers(&from, &to.with_extension(HEADERS), &head, evidence),
        None => Ok(()),
    }
}

fn export(dir: &Path, file: &Path, evidence: &mut Evidence) -> Result<(), UtxoError> {
    if let Some(node) = NodeDir::find(dir)? {
        return send::export(&node, file, evidence);
    }
    let set = file_of(dir)?;
    let headers = headers_of(&set).map(|from| (from, file.with_extension(HEADERS)));
    let taken = std::iter::once(file).chain(headers.iter().map(|(_, to)| to.as_path()));
    if let Some(path) = taken.filter(|path| path.exists()).map(Path::to_owned).next() {
        return Err(UtxoError::InTheWay { path });
    }
    let source = Source::open(&set)?;
    let head = source.head();
    copy(source, file, evidence, |_| Ok(()))?;
    match headers {
        Some((from, to)) => copy_headers(&from, &to, &head, evidence),
        None => Ok(()),
    }
}

/// Reads headers to their end; they must be those of the set's chain. Gives the SHA-256 of the file.
fn read_headers(
    path: &Path,
    head: &SeedHead,
    evidence: &mut Evidence,
    mut each: impl FnMut(&SeedHeader) -> Result<(), UtxoError>,
) -> Result<String, UtxoError> {
    let wrong = |source| UtxoError::Seed { path: path.to_owned(), source };
    let (summed, len) = Summed::open(path)?;
    let mut reader = HeaderReader::new(summed, len).map_err(wrong)?;
    let (got, expected) = (reader.tip().0, head.block);
    if got != expected {
        return Err(UtxoError::OtherTip { path: path.to_owned(), got, expected });
    }
    while let Some(block) = reader.next_header().map_err(wrong)? {
        each(&block)?;
    }
    evidence.set("headers", reader.count());
    Ok(hex::encode(reader.into_inner().sum.finalize()))
}

fn read_headers_beside(
    set: &Path,
    head: &SeedHead,
    evidence: &mut Evidence,
) -> Result<(), UtxoError> {
    match headers_of(set) {
        Some(path) => read_headers(&path, head, evidence, |_| Ok(())).map(drop),
        None => Ok(()),
    }
}

fn copy_headers(
    from: &Path,
    to: &Path,
    head: &SeedHead,
    evidence: &mut Evidence,
) -> Result<(), UtxoError> {
    let file = Whole::begin(to)?;
    let mut writer = HeaderWriter::new(file, (head.block, head.height)).map_err(os("write", to))?;
    let sum =
        read_headers(from, head, evidence, |block| writer.write(block).map_err(os("write", to)))?;
    evidence.set("headers_sha256_checked", check_sum(from, &sum)?);
    writer.finish().map_err(os("write", to))?.end()?;
    evidence.set("headers_written", to.display().to_string());
    Ok(())
}

/// A file under construction, which appears whole or not at all.
struct Whole {
    file: BufWriter<tempfile::NamedTempFile>,
    to: PathBuf,
}

impl Whole {
    fn begin(to: &Path) -> Result<Self, UtxoError> {
        let dir = Self::folder(to);
        let temp = tempfile::NamedTempFile::new_in(dir).map_err(os("write into", dir))?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, temp), to: to.to_owned() })
    }

    fn folder(to: &Path) -> &Path {
        to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    fn end(self) -> Result<(), UtxoError> {
        let Self { file, to } = self;
        let write = |result: std::io::Result<()>| result.map_err(os("write", &to));
        let temp = file.into_inner().map_err(|error| os("write", &to)(error.into()))?;
        write(temp.as_file().sync_all())?;
        temp.persist_noclobber(&to).map_err(|error| os("name", &to)(error.error))?;
        write(File::open(Self::folder(&to)).and_then(|dir| dir.sync_all()))
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Reads a set to its end and writes it to a file, which appears whole or not at all.
fn copy<T>(
    mut source: Source,
    to: &Path,
    evidence: &mut Evidence,
    check: impl FnOnce(&str) -> Result<T, UtxoError>,
) -> Result<T, UtxoError> {
    let mut writer = SeedWriter::new(Whole::begin(to)?, &source.head()).map_err(os("write", to))?;
    while let Some(tx) = source.next()? {
        tx.with_mined(|mined| writer.write(mined)).map_err(os("write", to))?;
    }
    let sum = source.summary(evidence);
    let checked = check(&sum)?;
    writer.finish().map_err(os("write", to))?.end()?;
    evidence.set("written", to.display().to_string());
    Ok(checked)
}

/// Compares the sum of a file with the list beside it; false if there is none.
fn check_sum(file: &Path, got: &str) -> Result<bool, UtxoError> {
    let mut list = file.as_os_str().to_owned();
    list.push(".sha256");
    let list = PathBuf::from(list);
    let Ok(text) = std::fs::read_to_string(&list) else { return Ok(false) };
    let expected = text.split_whitespace().next().unwrap_or_default().to_owned();
    if expected != got {
        return Err(UtxoError::Sum { file: file.to_owned(), list, got: got.to_owned(), expected });
    }
    Ok(true)
}
