//! `metanode utxo reshard`: another number of shards for a stopped node.
//!
//! ```text
//! utxo             what is there, only read, until the two names are exchanged
//! utxo.reshard     what is made, synced as a whole; after the exchange what was there, and then it goes
//! ```
//!
//! The exchange is one step of the file system, so a crash at any moment leaves `utxo` as it was or as it is to be, and running the
//! command again begins anew, or finishes by taking away what is left over.

use super::UtxoError;
use super::node_dir::NodeDir;
use crate::datadir::DataDir;
use crate::signals;
use dataplane::partition::Partition;
use load::evidence::Evidence;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;
use utxo_shard::{
    Folder, FolderConfig, FolderError, Limits, ReshardError, ReshardStep, SHARDS_MAX, ShardConfig,
    reshard,
};

use super::os;

const SLAB_BYTES_MAX: usize = 60 << 30;
const TRANSACTIONS_MAX: usize = 3 << 28;

/// The folder beside the coins that the new ones are made in.
fn beside(utxo: &Path) -> PathBuf {
    let mut name = utxo.file_name().unwrap_or_default().to_owned();
    name.push(".reshard");
    utxo.with_file_name(name)
}

/// Changes the number of shards of a node's directory.
pub(super) fn run(dir: &Path, shards: u16, evidence: &mut Evidence) -> Result<(), UtxoError> {
    if !(1..=SHARDS_MAX).contains(&shards) {
        return Err(UtxoError::ShardCount { got: shards });
    }
    let node = NodeDir::find(dir)?
        .ok_or_else(|| UtxoError::Folder(FolderError::Nothing { path: dir.to_owned() }))?;
    let began = Instant::now();
    // Neither a node nor another tool may begin meanwhile.
    let _data_dir = DataDir::at(&node.folder)?;
    let from = Folder::look(&node.utxo, true)?;
    let beside = beside(&node.utxo);
    take_away(&beside)?;
    evidence.set("directory", node.utxo.display().to_string());
    evidence.set("from", from.shards());
    evidence.set("to", shards);
    if from.shards() == shards {
        eprintln!("utxo: {} has {shards} shards already", node.utxo.display());
        evidence.set("changed", false);
        return Ok(());
    }
    try_exchange(&node.utxo)?;
    let stop = signals::interrupted();
    let made = make(&node, &from, &beside, shards, evidence, &mut |step| {
        match step {
            ReshardStep::Looking => {
                eprintln!("utxo: reading {} shards of {}", from.shards(), node.utxo.display());
            }
            ReshardStep::Moving { done, of } => {
                eprintln!("utxo: {done} of {of} transactions are at their new shards");
            }
            ReshardStep::Writing { shard } => eprintln!("utxo: writing shard {shard}"),
            ReshardStep::Opening => eprintln!("utxo: opening the new shards, and comparing"),
        }
        !stop.load(Ordering::Relaxed)
    });
    if let Err(error) = made {
        // What is left over is no harm, and the next run takes it away.
        let _ = take_away(&beside);
        return Err(error);
    }
    sync(node.utxo.parent())?;
    exchange(&node.utxo, &beside)?;
    sync(node.utxo.parent())?;
    drop(from);
    take_away(&beside)?;
    evidence.set("changed", true);
    eprintln!(
        "utxo: {} has {shards} shards now, after {:.1} s",
        node.utxo.display(),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Makes the new directory, to its last byte.
fn make(
    node: &NodeDir,
    from: &Folder,
    beside: &Path,
    shards: u16,
    evidence: &mut Evidence,
    tell: &mut dyn FnMut(ReshardStep) -> bool,
) -> Result<(), UtxoError> {
    let mut secret = [0; 16];
    // A number of the directory follows from it: no file of the old one is ever taken for one of this.
    getrandom::fill(&mut secret).map_err(|error| {
        os("draw a secret for", beside)(std::io::Error::other(error.to_string()))
    })?;
    let mut to = Folder::open(beside, &FolderConfig { shards, secret })?;
    let old = node.configs(from)?;
    let slab_bytes = old.iter().map(|config| config.slab_bytes).sum::<usize>().min(SLAB_BYTES_MAX);
    let sum = old.iter().map(|config| config.transactions_max).sum::<usize>();
    let transactions_max = sum.min(TRANSACTIONS_MAX);
    let partition = Partition::new(to.secret(), shards, 1);
    let new: Vec<ShardConfig> = (0..shards)
        .map(|shard| {
            let key = to.index_key(shard);
            let small = ShardConfig::small(shard, partition.clone(), key, node.params.clone());
            ShardConfig { slab_bytes, transactions_max, ..small }
        })
        .collect();
    let done = reshard(from, &old, &mut to, &new, &Limits::default(), tell);
    let done = done.map_err(|source| match source {
        ReshardError::Recover(source) => node.recover()(source),
        source => UtxoError::Reshard { path: node.utxo.clone(), source: Box::new(source) },
    })?;
    evidence.set("epoch", done.epoch);
    let (block, height) = node.tip(done.tip.as_slice());
    evidence.set("block", block.to_string());
    evidence.set("height", height);
    evidence.set("transactions", done.transactions);
    evidence.set("utxos", done.utxos);
    evidence.set("value_sat", done.value_sat);
    evidence.set("unmined", done.unmined);
    eprintln!(
        "utxo: {} transactions, {} unspent outputs, {} transactions in no block, as of epoch {}",
        done.transactions, done.utxos, done.unmined, done.epoch
    );
    sync(Some(beside))
}

fn exchange(one: &Path, other: &Path) -> Result<(), UtxoError> {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|error| UtxoError::Exchange { path: one.to_owned(), source: error.into() })
}

/// Whether the file system can exchange two names, before any work is done.
fn try_exchange(utxo: &Path) -> Result<(), UtxoError> {
    let parent = utxo.parent().unwrap_or(Path::new("."));
    let temp = tempfile::tempdir_in(parent).map_err(os("make a folder in", parent))?;
    let (one, other) = (temp.path().join("one"), temp.path().join("other"));
    for path in [&one, &other] {
        std::fs::create_dir(path).map_err(os("make", path))?;
    }
    exchange(&one, &other)
}

fn sync(folder: Option<&Path>) -> Result<(), UtxoError> {
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(os("sync", folder))
}

fn take_away(path: &Path) -> Result<(), UtxoError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(os("take away what is left in", path)(error))
        }
        _ => Ok(()),
    }
}
