//! From the folder of journals to shards that go on where they were: what a start finds, and who gets which part of it.
//!
//! In: the data directory. Out: shards with their journals for the tiles, the unmined transactions for pack and for the pool (in an
//! order that respects parents), the chain for the chain thread, which compares it with its own files ([`super::Node`] as engine).

use super::boot::{NodeOptions, shard_config};
use super::{Node, NodeError};
use crate::chain::files::{ChainFiles, FilesError};
use crate::engine::ChainEnd;
use crate::store::Pool;
use consensus::hash::{BlockHash, TxId};
use dataplane::blocks::Standing;
use dataplane::msg::pack_control::Restored;
use dataplane::msg::{Epoch, ParentSeq};
use dataplane::partition::Partition;
use dataplane::topo::Layout;
use std::collections::HashSet;
use std::path::Path;
use utxo_shard::{Folder, FolderConfig, Keeper, LastWords, Limits, Shard, Unmined};

/// Where journals and checkpoints are in a network's folder.
pub(crate) const JOURNALS: &str = "utxo";

/// Least bytes of a part of a journal, whatever was asked for.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// The chain the coins are of, as the journals have it.
#[derive(Clone, Debug)]
pub(crate) struct RecoveredChain {
    /// Its end.
    tip: BlockHash,
    height: u32,
    /// Number and height of each block that is connected.
    blocks: Vec<(u32, u32)>,
    newest_number: u32,
}

/// What a start found. Parts are taken out one after the other.
#[derive(Debug)]
pub(super) struct KeptShards {
    pub folder: Folder,
    pub partition: Partition,
    pub epoch: Epoch,
    /// One sentence.
    pub note: String,
    /// How far each shard has published.
    pub published: Vec<ParentSeq>,
    shards: Vec<Option<(Shard, Keeper)>>,
    unmined: Vec<Unmined>,
    chain: Option<RecoveredChain>,
}

/// Opens the folder of journals, or begins one, and recovers what is in it.
pub(super) fn open_journals(
    options: &NodeOptions,
    directory: &Path,
    layout: &Layout,
) -> Result<KeptShards, NodeError> {
    let path = directory.join(JOURNALS);
    let shards = layout.shard.len() as u16;
    let mut secret = [0; 16];
    // Used only where there is no folder yet: nobody outside may guess who owns what.
    getrandom::fill(&mut secret).map_err(|error| NodeError::File {
        doing: "drawing a secret for",
        path: path.clone(),
        source: std::io::Error::other(error.to_string()),
    })?;
    let mut opened = Folder::open(&path, &FolderConfig { shards, secret })?;
    let partition = Partition::new(opened.secret(), shards, layout.validate.len() as u16);
    let configs: Vec<_> = (0..shards)
        .map(|shard| shard_config(options, &partition, shard, opened.index_key(shard)))
        .collect();
    let mut recovered = opened
        .recover(&configs, &limits(options.journal_bytes))
        .map_err(|source| NodeError::Recover { path: path.clone(), source })?;
    fill_in(&mut recovered.unmined, options, directory)?;
    let published = recovered
        .shards
        .iter()
        .map(|shard| ParentSeq { shard: shard.number(), seq: shard.totals().publish_seq })
        .collect();
    let chain = recovered.tip.map(|tip| RecoveredChain {
        tip: tip.hash,
        height: tip.height,
        blocks: recovered.shards[0].connected_blocks().to_vec(),
        newest_number: recovered.block_max,
    });
    Ok(KeptShards {
        note: format!("journals in {}: {}", path.display(), recovered.report),
        folder: opened,
        partition,
        epoch: recovered.epoch,
        published,
        shards: recovered.shards.into_iter().zip(recovered.keepers).map(Some).collect(),
        unmined: recovered.unmined,
        chain,
    })
}

/// Bounds of the journals: parts so long that eight of them are what a checkpoint cuts.
fn limits(journal_bytes: u64) -> Limits {
    let limits = Limits::default();
    let segment_bytes = (journal_bytes / 8).clamp(SEGMENT_BYTES_MIN, limits.segment_bytes);
    Limits { checkpoint_bytes: journal_bytes.max(4 * segment_bytes), segment_bytes, ..limits }
}

/// Bytes that only the file of a disconnected block has.
fn fill_in(
    unmined: &mut [Unmined],
    options: &NodeOptions,
    directory: &Path,
) -> Result<(), NodeError> {
    let without = unmined.iter().filter(|tx| tx.raw.is_empty());
    let wanted: HashSet<TxId> = without.map(|tx| tx.txid).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut log = |line: String| tracing::warn!("{line}");
    let fail = |error: FilesError| NodeError::File {
        doing: "looking for the bytes of transactions in the blocks of",
        path: directory.to_owned(),
        source: std::io::Error::other(error.to_string()),
    };
    let (files, contents) = ChainFiles::open(directory, &options.params, &mut log).map_err(fail)?;
    let mut found = files.find_txs(&contents, &wanted).map_err(fail)?;
    for tx in unmined.iter_mut().filter(|tx| tx.raw.is_empty()) {
        tx.raw = found.remove(&tx.txid).ok_or(NodeError::NotStored { txid: tx.txid })?;
    }
    Ok(())
}

impl KeptShards {
    /// A shard and its journal; once.
    pub fn take_shard(&mut self, index: usize) -> (Shard, Keeper) {
        self.shards[index].take().expect("a shard is seated once")
    }

    /// Where each shard says why its files failed, if they do; before the shards are taken.
    pub fn last_words(&self) -> Vec<LastWords> {
        self.shards.iter().flatten().map(|(_, keeper)| keeper.last_words()).collect()
    }

    /// The chain; once.
    pub fn take_chain(&mut self) -> Option<RecoveredChain> {
        self.chain.take()
    }

    /// What pack begins with.
    pub fn leaves(&self) -> impl Iterator<Item = Restored> {
        self.unmined.iter().map(|tx| Restored {
            txid: tx.txid,
            fee_sat: tx.fee_sat,
            size_bytes: tx.raw.len() as u64,
            shard: tx.shard,
            publish_seq: tx.publish_seq,
        })
    }

    /// Puts what no block has into the pool, and tells it where the shards' numbers go on.
    pub fn fill(&self, pool: &Pool) {
        for &published in &self.published {
            pool.begin_at(published);
        }
        for tx in &self.unmined {
            pool.restore(tx.txid, &tx.raw, tx.fee_sat);
        }
    }
}

impl Node {
    /// The end of the chain that the journals have; `None` where nothing was connected yet, or the chain stands on it already.
    pub(super) fn recovered_tip(&self) -> Option<(BlockHash, u32)> {
        self.recovered.as_ref().map(|chain| (chain.tip, chain.height))
    }

    /// Its height; `None` where the coins are made from the blocks.
    pub fn recovered_height(&self) -> Option<u32> {
        self.recovered_tip().map(|(_, height)| height)
    }

    /// The chain up to the recovered tip was found; `coinbases` are those of its blocks from height 1 on.
    pub(super) fn stand_on(&mut self, coinbases: &[TxId], end: ChainEnd) -> Result<(), NodeError> {
        let Some(chain) = self.recovered.take() else { return Ok(()) };
        let standing = |&(number, height): &(u32, u32)| {
            let coinbase = *coinbases.get((height as usize).checked_sub(1)?)?;
            Some(Standing { number, height, coinbase })
        };
        let blocks: Vec<Standing> = chain.blocks.iter().filter_map(standing).collect();
        self.blocks.conductor.stand_on(blocks, chain.newest_number);
        self.blocks.end = end;
        self.set_pool()
    }
}
