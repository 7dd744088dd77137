//! A booted data plane and the thread that tells it about the chain.
//!
//! [`Node::boot`] takes the topology from memory to running cores. After that this thread is the chain state: it asks pack for a
//! candidate, solves it, tells the shards what is mined, pack what is taken and the validators what the pool is judged against.
//! Every answer is waited for with a deadline, so that a tile that does not answer is an error with its name, not silence.

use crate::counters::Counters;
use crate::mine::{self, Tip};
use crate::store::{Store, StoreTile};
use crate::topology::{self, Ingest};
use consensus::hash::{MerkleHash, TxId, merkle_parent};
use consensus::params::ChainParams;
use consensus::tx::OutPoint;
use dataplane::driver::{Crew, CrewError, Running, StartError, spin};
use dataplane::long::Long;
use dataplane::metrics::Metrics;
use dataplane::msg::admin::{Admin, AdminReply};
use dataplane::msg::pack_control::{CandidateId, PackCommand, PackReply, SeqRange, Want};
use dataplane::msg::{BatchReader, BatchWriter, Context, Epoch, IngestHeader};
use dataplane::pack::{PackConfig, PackTile};
use dataplane::partition::Partition;
use dataplane::rng::Rng;
use dataplane::stem::Turnable;
use dataplane::tile::Stamp;
use dataplane::time::{Clock, HostClock};
use dataplane::topo::{BuildError, BuildOptions, ExternalIn, ExternalOut, Layout, TopologyError};
use dataplane::validate::{Links, Validate};
use load::Offer;
use load::replay::{Log, Pace, Remote, Replay};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use utxo_shard::ShardTile;

/// Longest time a tile may take to answer the control plane.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time a stopping node may take to finish what is in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the node could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The table is not sound.
    #[error("the topology is refused: {0}")]
    Topology(#[from] TopologyError),
    /// A link could not be taken.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A tile was not seated.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// A thread could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A file could not be used.
    #[error("{doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A tile did not answer.
    #[error("{asked} did not answer within {} s; `metanode topo` shows its links", ANSWER_TIMEOUT.as_secs())]
    NoAnswer {
        /// Who, about what.
        asked: String,
    },
    /// A shard refused an item.
    #[error(
        "shard {shard} refused {refused} of {items} items ({what}); it is full, or does not know them"
    )]
    Refused {
        /// Which.
        shard: usize,
        /// How many.
        refused: u32,
        /// Of how many.
        items: u32,
        /// Of what.
        what: &'static str,
    },
    /// An accepted transaction is not in the store.
    #[error("transaction {txid} is in the candidate but the store does not have its bytes")]
    NotStored {
        /// Which.
        txid: TxId,
    },
    /// Pack refused a command.
    #[error("pack refused {what}: {why}")]
    PackRefused {
        /// Which command.
        what: &'static str,
        /// Its reason.
        why: String,
    },
}

/// How a node is booted.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The chain.
    pub params: ChainParams,
    /// Who sends transactions.
    pub ingest: Ingest,
    /// Cores for tiles; `None`: what this process may use.
    pub cores: Option<usize>,
    /// Where random choices of tiles come from.
    pub seed: u64,
    /// Where the node keeps its files; `None`: a temporary directory that goes with it.
    pub directory: Option<PathBuf>,
    /// Bounds of each validator.
    pub bounds: dataplane::validate::Bounds,
    /// What the operator accepts.
    pub policy: dataplane::validate::Policy,
    /// Who verifies signatures; `None`: the fastest kernel of this machine.
    pub verifier: Option<sigbatch::Backend>,
    /// Whether accepted transactions are kept for blocks (a pipeline benchmark does without).
    pub store: bool,
    /// Most transactions a shard holds.
    pub shard_transactions_max: usize,
    /// Bytes of a shard's slabs (committed as used).
    pub shard_slab_bytes: usize,
    /// Most transactions pack holds.
    pub pack_transactions_max: usize,
    /// Whether cores are threads. Otherwise the thread that waits turns every tile: one after the other, the same every time.
    pub threads: bool,
}

impl NodeOptions {
    /// A node for `params` on all cores, in a temporary directory.
    pub fn new(params: ChainParams, ingest: Ingest) -> Self {
        Self {
            params,
            ingest,
            cores: None,
            seed: 0,
            directory: None,
            bounds: dataplane::validate::Bounds::default(),
            policy: dataplane::validate::Policy::default(),
            verifier: None,
            store: true,
            shard_transactions_max: 1 << 22,
            shard_slab_bytes: 4 << 30,
            pack_transactions_max: 1 << 21,
            threads: true,
        }
    }
}

/// A block this node made.
#[derive(Debug)]
pub struct Mined {
    /// Its height.
    pub height: u32,
    /// Raw bytes.
    pub raw: Vec<u8>,
    /// From asking for the candidate to having its merkle branch, milliseconds.
    pub candidate_ms: f64,
}

/// Sums over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Unspent outputs.
    pub utxos: u64,
    /// Records.
    pub transactions: u64,
    /// Sum of the unspent values.
    pub value_sat: u64,
    /// Coins held by an attempt.
    pub reserved: u64,
    /// Announced and undecided transactions.
    pub announced: u64,
    /// Entries in wait lists and watches.
    pub waiting: u64,
}

/// A coin to import.
#[derive(Clone, Copy, Debug)]
pub struct ImportCoin<'a> {
    /// Where.
    pub outpoint: OutPoint,
    /// Value.
    pub value_sat: u64,
    /// Height of its block.
    pub height: u32,
    /// Whether a coinbase made it.
    pub coinbase: bool,
    /// Its locking script.
    pub locking_script: &'a [u8],
}

/// The ends of the control plane's own links.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) control_validate: Vec<ExternalOut>,
    pub(crate) block_validate: Vec<ExternalOut>,
    pub(crate) validate_submit: Vec<ExternalIn>,
    control_shard: Vec<ExternalOut>,
    shard_control: Vec<ExternalIn>,
    control_pack: Vec<ExternalOut>,
    pack_control: Vec<ExternalIn>,
}

/// Who turns the tiles.
#[allow(clippy::large_enum_variant)] // there is one of it
enum Drive {
    /// Threads of their own.
    Threads(Running),
    /// Whoever waits for them.
    Waiter { stems: Vec<Box<dyn Turnable>>, metrics: Metrics },
    /// Nobody any more.
    Stopped,
}

impl std::fmt::Debug for Drive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Threads(_) => "Threads",
            Self::Waiter { .. } => "Waiter",
            Self::Stopped => "Stopped",
        })
    }
}

impl Drive {
    /// Lets the tiles get on with it.
    fn rest(&mut self) {
        match self {
            Self::Waiter { stems, .. } => {
                for stem in stems {
                    stem.turn();
                }
            }
            Self::Threads(_) | Self::Stopped => std::thread::sleep(Duration::from_micros(50)),
        }
    }

    fn metrics(&self) -> &Metrics {
        match self {
            Self::Threads(running) => running.machine().metrics(),
            Self::Waiter { metrics, .. } => metrics,
            Self::Stopped => unreachable!("a node is not used after its shutdown"),
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    drive: Drive,
    clock: HostClock,
    layout: Layout,
    pub(crate) partition: Partition,
    pub(crate) params: ChainParams,
    pub(crate) ends: Ends,
    tip: Tip,
    store: Option<Store>,
    remote: Remote,
    kernel: String,
    notes: Vec<String>,
    token: u64,
    block_number: u32,
    _directory: Option<tempfile::TempDir>,
}

impl Node {
    /// Boots everything; when this returns, every core goes round and the validators know the tip.
    pub fn boot(options: NodeOptions) -> Result<Self, NodeError> {
        let cores = options.cores.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        let layout = Layout::for_cores(cores);
        let plan = topology::node(&layout, options.ingest, options.store).plan()?;
        let (temporary, directory) = directory(&options)?;
        let mut rng = Rng::salted(options.seed, BOOT_SALT);
        let mut secret = [0; 16];
        rng.fill(&mut secret);
        let shards = layout.shard.len() as u16;
        let partition = Partition::new(secret, shards, layout.validate.len() as u16);
        let build = BuildOptions { seed: options.seed, ..BuildOptions::default() };
        let clock = HostClock::start();
        let mut crew = Crew::new(plan.build(&build)?, clock.clone());
        let remote = Remote::default();
        let store = if options.store {
            let path = directory.clone();
            let fail = |source| NodeError::File { doing: "creating the store in", path, source };
            Some(Store::create(&directory).map_err(fail)?)
        } else {
            None
        };
        let (signatures, hashes) =
            (verifier(options.verifier).kernel(), sigbatch::Hasher::new().kernel());
        seat(&mut crew, &options, &partition, &mut rng, &remote, store.as_ref())?;
        let ends = take_ends(&mut crew, options.ingest)?;
        let (loads, machine) = crew.loads()?;
        let spin = spin::SpinOptions::for_machine(loads.len());
        let mut notes = vec![format!(
            "{} cores: {} validators, {} shards; links take {:.0} MB",
            layout.cores,
            layout.validate.len(),
            layout.shard.len(),
            plan.link_bytes() as f64 / 1e6
        )];
        for (what, kernel) in [("signatures", &signatures), ("hashes", &hashes)] {
            notes.push(format!("{what}: {} ({})", kernel.name, kernel.why));
        }
        let drive = if options.threads {
            Drive::Threads(spin::start(loads, machine, &clock, &spin)?)
        } else {
            let mut stems: Vec<_> = loads.into_iter().flat_map(|load| load.stems).collect();
            stems.iter_mut().for_each(|stem| stem.boot());
            Drive::Waiter { stems, metrics: machine.metrics().clone() }
        };
        let tip = Tip::genesis(&options.params);
        let mut node = Self {
            drive,
            clock,
            layout,
            partition,
            params: options.params,
            ends,
            tip,
            store,
            remote,
            kernel: format!("{}, {}", signatures.name, hashes.name),
            notes,
            token: 0,
            block_number: 0,
            _directory: temporary,
        };
        node.set_pool()?;
        Ok(node)
    }

    /// What runs, in sentences.
    pub fn describe(&self) -> &[String] {
        &self.notes
    }

    /// The signature kernel in use.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Where what turns.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The end of the chain.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// A reading of all counters.
    pub fn counters(&self) -> Counters {
        Counters::read(self.drive.metrics(), self.clock.now())
    }

    /// Starts a replay on the tile of that name (needs [`Ingest::Replay`]).
    pub fn replay(&self, offer: Arc<Offer>, pace: Pace) -> Arc<Log> {
        self.remote.start(offer, pace)
    }

    /// Waits for a replay to be done.
    pub fn wait(&mut self, log: &Log) {
        while !log.is_done() {
            self.drive.rest();
        }
    }

    /// Sends one transaction of an open block to its coordinator.
    pub(crate) fn send_block_tx(
        &mut self,
        header: IngestHeader,
        tx: &[u8],
    ) -> Result<(), NodeError> {
        let mut frag = vec![0; IngestHeader::LEN];
        header.write(&mut frag);
        frag.extend_from_slice(tx);
        let validator = usize::from(self.partition.validator_of_bytes(tx));
        publish(&mut self.drive, &mut self.ends.block_validate[validator], 0, &frag)
    }

    /// Tells the validators what the pool is judged against.
    fn set_pool(&mut self) -> Result<(), NodeError> {
        let context = self.tip.pool_context(&self.params);
        let message = dataplane::msg::control::ValidateControl::SetPool { context };
        self.tell_validators(&message)
    }

    pub(crate) fn tell_validators(
        &mut self,
        message: &dataplane::msg::control::ValidateControl,
    ) -> Result<(), NodeError> {
        let bytes = message.encode();
        for out in &mut self.ends.control_validate {
            publish(&mut self.drive, out, 0, &bytes)?;
        }
        Ok(())
    }

    /// Imports coins, each to its owner.
    pub fn import<'a>(
        &mut self,
        coins: impl Iterator<Item = ImportCoin<'a>>,
    ) -> Result<(), NodeError> {
        let mut by_shard: Vec<Vec<ImportCoin<'a>>> =
            vec![Vec::new(); usize::from(self.partition.shards())];
        for coin in coins {
            by_shard[usize::from(self.partition.shard(&coin.outpoint.txid))].push(coin);
        }
        let context = self.tip.pool_context(&self.params);
        for (shard, coins) in by_shard.iter().enumerate() {
            let items: Vec<Admin<'_>> = coins
                .iter()
                .map(|c| Admin::Import {
                    outpoint: c.outpoint,
                    value_sat: c.value_sat,
                    height: c.height,
                    coinbase: c.coinbase,
                    locking_script: c.locking_script,
                })
                .collect();
            self.administer(shard, context, &items, "imported coins")?;
        }
        Ok(())
    }

    /// Sends items to a shard and waits until they are done.
    pub(crate) fn administer(
        &mut self,
        shard: usize,
        context: Context,
        items: &[Admin<'_>],
        what: &'static str,
    ) -> Result<(), NodeError> {
        let mut sent = 0;
        while sent < items.len() {
            let from = sent;
            let mut buffer = vec![0; topology::BATCH_BYTES as usize];
            let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), context);
            while sent < items.len() && batch.push(&items[sent]) {
                sent += 1;
            }
            if sent == from {
                // Larger than a batch in line: one item by itself in the arena.
                buffer = vec![0; 1 << 26];
                let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), context);
                assert!(batch.push(&items[sent]), "one item of a control message is above 64 MiB");
                sent += 1;
                let len = batch.finish();
                publish(&mut self.drive, &mut self.ends.control_shard[shard], 0, &buffer[..len])?;
            } else {
                let len = batch.finish();
                publish(&mut self.drive, &mut self.ends.control_shard[shard], 0, &buffer[..len])?;
            }
            let items = (sent - from) as u32;
            let refused = self.shard_answer(shard, what, |reply| match reply {
                AdminReply::Done { refused, .. } => Some(refused),
                _ => None,
            })?;
            if refused > 0 {
                return Err(NodeError::Refused { shard, refused, items, what });
            }
        }
        Ok(())
    }

    fn shard_answer<T>(
        &mut self,
        shard: usize,
        what: &'static str,
        mut take: impl FnMut(AdminReply<'_>) -> Option<T>,
    ) -> Result<T, NodeError> {
        let input = &mut self.ends.shard_control[shard];
        let answer = wait_for(&mut self.drive, input, |bytes| {
            let mut batch = BatchReader::new(bytes)?;
            std::iter::from_fn(|| batch.next_item::<AdminReply<'_>>()).find_map(&mut take)
        });
        answer.ok_or_else(|| NodeError::NoAnswer { asked: format!("shard:{shard} about {what}") })
    }

    /// Sums over all shards.
    pub fn totals(&mut self) -> Result<Totals, NodeError> {
        let mut sum = Totals::default();
        for shard in 0..self.ends.control_shard.len() {
            self.token += 1;
            let asked = self.token;
            let mut buffer = [0; 256];
            let context = self.tip.pool_context(&self.params);
            let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), context);
            assert!(batch.push(&Admin::Totals { token: asked }), "a question fits a batch");
            let len = batch.finish();
            publish(&mut self.drive, &mut self.ends.control_shard[shard], 0, &buffer[..len])?;
            self.shard_answer(shard, "its totals", |reply| match reply {
                AdminReply::Totals {
                    token,
                    utxos,
                    transactions,
                    value_sat,
                    reserved,
                    announced,
                    waiting,
                    ..
                } if token == asked => {
                    sum.utxos += utxos;
                    sum.transactions += transactions;
                    sum.value_sat += value_sat;
                    sum.reserved += reserved;
                    sum.announced += announced;
                    sum.waiting += waiting;
                    Some(())
                }
                _ => None,
            })?;
        }
        Ok(sum)
    }

    fn ask_pack(&mut self, command: &PackCommand<'_>) -> Result<(), NodeError> {
        let mut buffer = vec![0; topology::BATCH_BYTES as usize];
        let len = command.encode(&mut buffer).expect("a command without a list fits a batch");
        publish(
            &mut self.drive,
            &mut self.ends.control_pack[0],
            u64::from(command.tag()),
            &buffer[..len],
        )
    }

    fn pack_answer<T>(
        &mut self,
        what: &'static str,
        mut take: impl FnMut(PackReply<'_>) -> Option<T>,
    ) -> Result<T, NodeError> {
        let input = &mut self.ends.pack_control[0];
        let mut refused = None;
        let answer = wait_for(&mut self.drive, input, |bytes| {
            let reply = PackReply::decode(bytes)?;
            if let PackReply::Refused { why, .. } = reply {
                refused = Some(format!("{why:?}"));
                return Some(None);
            }
            take(reply).map(Some)
        });
        match answer {
            Some(Some(answer)) => Ok(answer),
            Some(None) => Err(NodeError::PackRefused { what, why: refused.unwrap_or_default() }),
            None => Err(NodeError::NoAnswer { asked: format!("pack about {what}") }),
        }
    }

    fn candidate(&mut self) -> Result<Candidate, NodeError> {
        self.token += 1;
        let asked = self.token;
        self.ask_pack(&PackCommand::GetCandidate { token: asked, want: Want::Everything })?;
        self.pack_answer("a candidate", |reply| match reply {
            PackReply::Candidate { token, id, fees_sat, branch, .. } if token == asked => {
                Some(Candidate { id, fees_sat, branch: branch.iter().collect() })
            }
            _ => None,
        })
    }

    /// Pool transactions a block could take now.
    pub fn pooled(&mut self) -> Result<u64, NodeError> {
        Ok(self.candidate()?.id.leaves.saturating_sub(1))
    }

    /// Mines one block on top of the tip with everything pack offers, pays the reward to `locking_script`, connects it.
    pub fn mine(&mut self, locking_script: &[u8]) -> Result<Mined, NodeError> {
        let asked = Instant::now();
        let candidate = self.candidate()?;
        let candidate_ms = asked.elapsed().as_secs_f64() * 1e3;
        let height = self.tip.height + 1;
        let reward_sat = self.params.subsidy_sat(height) + candidate.fees_sat;
        let coinbase = mine::coinbase(height, reward_sat, locking_script.to_vec()).to_bytes();
        let coinbase_txid = TxId::of(&coinbase);
        let root = candidate
            .branch
            .iter()
            .fold(coinbase_txid.0, |node, sibling| merkle_parent(&node, &sibling.0));
        let header = mine::solve(&self.params, &self.tip, MerkleHash(root));
        let (txids, ranges) = self.leaves(candidate.id)?;
        let mut txs: Vec<Vec<u8>> = Vec::with_capacity(txids.len() + 1);
        txs.push(coinbase);
        for txid in &txids {
            txs.push(self.stored(txid)?);
        }
        let mut raw = Vec::new();
        consensus::block::write_block(&mut raw, &header, txs.iter());
        self.connect_ours(&txs[0], coinbase_txid, candidate.id, &ranges)?;
        self.tip.advance(&header);
        self.set_pool()?;
        if let Some(store) = &self.store {
            txids.iter().for_each(|txid| store.forget(txid));
        }
        Ok(Mined { height, raw, candidate_ms })
    }

    fn leaves(&mut self, candidate: CandidateId) -> Result<(Vec<TxId>, Vec<SeqRange>), NodeError> {
        self.token += 1;
        let asked = self.token;
        self.ask_pack(&PackCommand::GetLeaves { token: asked, candidate })?;
        let (mut txids, mut seqs) = (Vec::with_capacity(candidate.leaves as usize), Vec::new());
        self.pack_answer("the candidate's transactions", |reply| match reply {
            PackReply::Leaves { token, txids: more, .. } if token == asked => {
                txids.extend(more.iter());
                None
            }
            PackReply::Ranges { token, ranges } if token == asked => {
                seqs.extend(ranges.iter());
                None
            }
            PackReply::Streamed { token, txids, ranges } if token == asked => Some((txids, ranges)),
            _ => None,
        })?;
        Ok((txids, seqs))
    }

    /// The bytes of an accepted transaction. The store reads the same link as pack and may be a moment behind.
    fn stored(&mut self, txid: &TxId) -> Result<Vec<u8>, NodeError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let store = self.store.clone().ok_or(NodeError::NotStored { txid: *txid })?;
        loop {
            let got = store.get(txid).map_err(|source| NodeError::File {
                doing: "reading",
                path: PathBuf::from("accepted.tx"),
                source,
            })?;
            match got {
                Some(tx) => return Ok(tx),
                None if Instant::now() > deadline => {
                    return Err(NodeError::NotStored { txid: *txid });
                }
                None => self.drive.rest(),
            }
        }
    }

    /// Tells shards and pack that our own block is the tip.
    fn connect_ours(
        &mut self,
        coinbase: &[u8],
        coinbase_txid: TxId,
        candidate: CandidateId,
        ranges: &[SeqRange],
    ) -> Result<(), NodeError> {
        self.block_number += 1;
        let block = self.block_number;
        let height = self.tip.height + 1;
        let context = Context { block, ..self.tip.pool_context(&self.params) };
        let home = usize::from(self.partition.shard(&coinbase_txid));
        let set_mined = |SeqRange { shard, from_seq, to_seq }| Admin::SetMined {
            shard,
            block,
            height,
            from_seq,
            to_seq,
        };
        for shard in 0..self.ends.control_shard.len() {
            // Every shard hears all ranges: it must know of spenders elsewhere whether they are mined.
            let mut items: Vec<Admin<'_>> = ranges.iter().map(|r| set_mined(*r)).collect();
            if items.is_empty() {
                items.push(set_mined(SeqRange { shard: 0, from_seq: 1, to_seq: 0 }));
            }
            if shard == home {
                items.push(Admin::Coinbase { txid: coinbase_txid, tx: coinbase });
            }
            self.administer(shard, context, &items, "a mined block")?;
        }
        self.ask_pack(&PackCommand::MinedOurs { block, candidate })?;
        self.pack_answer("a mined block", |reply| match reply {
            PackReply::BlockDone { block: done, .. } if done == block => Some(()),
            _ => None,
        })
    }

    /// Finishes what is in flight and halts.
    pub fn shutdown(mut self) -> Result<(), NodeError> {
        match std::mem::replace(&mut self.drive, Drive::Stopped) {
            Drive::Threads(running) => match running.stop(STOP_TIMEOUT).drained {
                true => Ok(()),
                false => Err(NodeError::NoAnswer { asked: "the machine, asked to stop,".into() }),
            },
            Drive::Waiter { .. } | Drive::Stopped => Ok(()),
        }
    }
}

/// Transactions a replay has out at one validator: enough to keep it busy, and no more than the orphan pool holds of one source
/// if another validator falls behind with all the parents.
const REPLAY_WINDOW: u64 = 1_024;
/// How long new transactions wait in a short subtree before it is released as it is.
const RELEASE_SHORT_AFTER_NS: u64 = 1_000_000_000;
const BOOT_SALT: u64 = 0x62_6f_6f_74;

struct Candidate {
    id: CandidateId,
    fees_sat: u64,
    branch: Vec<TxId>,
}

fn verifier(backend: Option<sigbatch::Backend>) -> sigbatch::Verifier {
    backend.and_then(sigbatch::Verifier::with_backend).unwrap_or_default()
}

fn directory(options: &NodeOptions) -> Result<(Option<tempfile::TempDir>, PathBuf), NodeError> {
    if let Some(path) = &options.directory {
        let fail = |source| NodeError::File { doing: "creating", path: path.clone(), source };
        std::fs::create_dir_all(path).map_err(fail)?;
        return Ok((None, path.clone()));
    }
    let fail = |source| NodeError::File {
        doing: "creating a directory in",
        path: std::env::temp_dir(),
        source,
    };
    let temporary = tempfile::Builder::new().prefix("metanode-").tempdir().map_err(fail)?;
    let path = temporary.path().to_owned();
    Ok((Some(temporary), path))
}

fn seat(
    crew: &mut Crew<HostClock>,
    options: &NodeOptions,
    partition: &Partition,
    rng: &mut Rng,
    remote: &Remote,
    store: Option<&Store>,
) -> Result<(), NodeError> {
    let validate = dataplane::validate::Config {
        partition: partition.clone(),
        params: options.params.clone(),
        bounds: options.bounds,
        policy: options.policy.clone(),
        seed: options.seed,
        verifier: options.verifier,
    };
    crew.seat(|wiring| {
        let links = Links::of(wiring, topology::BATCH_BYTES as usize, topology::TX_BYTES as usize);
        Validate::new(validate.clone(), links)
    })?;
    crew.seat(|wiring| {
        let index_key = (rng.next_u64(), rng.next_u64());
        let shard = wiring.index() as u16;
        let small = utxo_shard::ShardConfig::small(
            shard,
            partition.clone(),
            index_key,
            options.params.clone(),
        );
        let config = utxo_shard::ShardConfig {
            transactions_max: options.shard_transactions_max,
            slab_bytes: options.shard_slab_bytes,
            ..small
        };
        ShardTile::new(config, wiring)
    })?;
    let pack = PackConfig {
        transactions_max: options.pack_transactions_max,
        restored_max: options.pack_transactions_max / 4,
        index_key: (rng.next_u64(), rng.next_u64()),
        release_short_after_ns: RELEASE_SHORT_AFTER_NS,
        ..PackConfig::new(partition.shards(), (0, 0))
    };
    crew.seat(|_| PackTile::new(pack.clone()))?;
    crew.seat(|wiring| Long::new(&validate, wiring))?;
    if options.ingest == Ingest::Replay {
        crew.seat(|_| Replay::new(remote.clone(), partition.clone(), REPLAY_WINDOW))?;
    }
    crew.seat(|wiring| StoreTile::new(store.cloned(), wiring))?;
    Ok(())
}

fn take_ends(crew: &mut Crew<HostClock>, ingest: Ingest) -> Result<Ends, NodeError> {
    let control = crew.external("control", 0)?;
    let block = crew.external("block", 0)?;
    let (mut outs, mut ins) = (control.outs, control.ins);
    outs.extend(block.outs);
    if ingest == Ingest::Control {
        let submit = crew.external("submit", 0)?;
        outs.extend(submit.outs);
        ins.extend(submit.ins);
    }
    let is_of = |name: &str, row: &str| name.split(':').next() == Some(row);
    let mut out = |row: &str| outs.extract_if(.., |o| is_of(&o.name, row)).collect::<Vec<_>>();
    let mut input = |row: &str| ins.extract_if(.., |i| is_of(&i.name, row)).collect::<Vec<_>>();
    Ok(Ends {
        control_validate: out("control_validate"),
        block_validate: out("block_validate"),
        validate_submit: input("validate_submit"),
        control_shard: out("control_shard"),
        shard_control: input("shard_control"),
        control_pack: out("control_pack"),
        pack_control: input("pack_control"),
    })
}

/// Publishes in line or through the arena, waiting for room.
fn publish(
    drive: &mut Drive,
    out: &mut ExternalOut,
    sig: u64,
    bytes: &[u8],
) -> Result<(), NodeError> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let producer = out.producer();
        producer.refresh();
        let sent = producer.publish_any(sig, Stamp::default().0, bytes, 0).is_ok();
        if sent {
            out.wake();
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(NodeError::NoAnswer { asked: format!("the reader of {}", out.name) });
        }
        drive.rest();
    }
}

/// Reads frags until `take` accepts one; `None` after the timeout.
fn wait_for<T>(
    drive: &mut Drive,
    input: &mut ExternalIn,
    mut take: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        while let Some(frag) = input.poll() {
            let taken = take(frag.bytes);
            if taken.is_some() {
                input.return_credit();
                return taken;
            }
        }
        input.return_credit();
        if Instant::now() > deadline {
            return None;
        }
        drive.rest();
    }
}
