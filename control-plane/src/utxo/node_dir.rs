//! The coins of a node's data directory, for tools: where they are, who has them, and what a recovery would make of them.
//!
//! In: a `--data-dir`, the folder of its network, or the folder `utxo` in there. Out: tables as the node would go on with. Nothing is
//! written, so a tool that is killed leaves nothing behind.

use super::UtxoError;
use crate::chain::files::{ChainFiles, HeaderRecord};
use crate::datadir;
use crate::node::JOURNALS;
use consensus::hash::{BlockHash, TxId};
use consensus::header::Header;
use consensus::params::{ChainParams, Network};
use dataplane::partition::Partition;
use load::evidence::Evidence;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use utxo_shard::journal::BlockNote;
use utxo_shard::seed::SeedHead;
use utxo_shard::seed_headers::SeedHeader;
use utxo_shard::state_hash::StateHash;
use utxo_shard::{Examined, Folder, Limits, Shard, ShardConfig};

/// A folder of coins begins with this file.
const HEADER: &str = "HEADER";
/// Address space a shard is given beyond what its files say; memory is committed as it is used.
const SPARE_BYTES: u64 = 1 << 30;
const SLAB_BYTES_MAX: u64 = 60 << 30;
const TRANSACTIONS_MAX: u64 = 3 << 28;

/// Where a node keeps its coins.
#[derive(Debug)]
pub(super) struct NodeDir {
    /// Journals and checkpoints.
    pub utxo: PathBuf,
    /// The network's folder, with the blocks.
    pub folder: PathBuf,
    pub params: ChainParams,
}

impl NodeDir {
    /// The node's directory that `dir` names; `None` if it names none.
    pub fn find(dir: &Path) -> Result<Option<Self>, UtxoError> {
        let Ok(dir) = dir.canonicalize() else { return Ok(None) };
        let networks = Network::ALL.map(|network| datadir::folder(&dir, network).join(JOURNALS));
        let mut found: Vec<PathBuf> = [dir.clone(), dir.join(JOURNALS)]
            .into_iter()
            .chain(networks)
            .filter(|path| path.join(HEADER).is_file())
            .collect();
        found.dedup();
        let Some(utxo) = found.pop() else { return Ok(None) };
        if let Some(other) = found.pop() {
            return Err(UtxoError::Several { dir, one: utxo, other });
        }
        let folder = utxo.parent().map(Path::to_owned).unwrap_or_default();
        let named = |network: Network| {
            datadir::folder(Path::new(""), network).file_name() == folder.file_name()
        };
        let network = Network::ALL.into_iter().find(|network| named(*network));
        let network = network.ok_or_else(|| UtxoError::NoNetwork { path: folder.clone() })?;
        Ok(Some(Self { utxo, folder, params: ChainParams::of(network) }))
    }

    /// One configuration a shard, with room for whatever its files can hold.
    pub fn configs(&self, folder: &Folder) -> Result<Vec<ShardConfig>, UtxoError> {
        let partition = Partition::new(folder.secret(), folder.shards(), 1);
        let mut configs = Vec::new();
        for shard in 0..folder.shards() {
            let (slot, journal) = folder.bytes_of(shard).map_err(self.recover())?;
            let slab_bytes = (4 * (slot + journal) + SPARE_BYTES).min(SLAB_BYTES_MAX) as usize;
            // A place in the index takes eight bytes of a checkpoint, and is half empty or less.
            let transactions = (slot / 16 + journal / 64 + (1 << 20)).min(TRANSACTIONS_MAX);
            let (key, params) = (folder.index_key(shard), self.params.clone());
            let small = ShardConfig::small(shard, partition.clone(), key, params);
            let transactions_max = transactions as usize;
            configs.push(ShardConfig { slab_bytes, transactions_max, ..small });
        }
        Ok(configs)
    }

    /// What a recovery would go on with, of a node that is stopped.
    pub fn examine(&self) -> Result<(Folder, Examined), UtxoError> {
        let folder = Folder::look(&self.utxo, false)?;
        let (mut slots, mut journals) = (0, 0);
        for shard in 0..folder.shards() {
            let (slot, journal) = folder.bytes_of(shard).map_err(self.recover())?;
            (slots, journals) = (slots + slot, journals + journal);
        }
        eprintln!(
            "utxo: {}: {} shards, reading {:.1} MB of checkpoints and {:.1} MB of journals",
            self.utxo.display(),
            folder.shards(),
            slots as f64 / 1e6,
            journals as f64 / 1e6
        );
        let examined = folder.examine(&self.configs(&folder)?, &Limits::default());
        let examined = examined.map_err(self.recover())?;
        eprintln!("utxo: {}", examined.report);
        Ok((folder, examined))
    }

    pub fn recover(&self) -> impl Fn(utxo_shard::RecoverError) -> UtxoError + use<> {
        let path = self.utxo.clone();
        move |source| UtxoError::Recover { path: path.clone(), source: Box::new(source) }
    }

    /// The block that coins are as of.
    pub fn tip(&self, chain: &[BlockNote]) -> (BlockHash, u32) {
        chain.last().map_or((self.params.genesis_hash, 0), |tip| (tip.hash, tip.height))
    }

    /// Headers from height 1 up to a block; none if it is the first of all.
    pub fn headers(&self, (tip, height): (BlockHash, u32)) -> Result<Vec<SeedHeader>, UtxoError> {
        if height == 0 {
            return Ok(Vec::new());
        }
        let contents = ChainFiles::look(&self.folder, &self.params)?;
        let mut known: HashMap<BlockHash, (Header, u64)> = HashMap::new();
        for record in &contents.records {
            if let HeaderRecord::Header(header) = record {
                known.insert(header.hash(), (*header, 0));
            }
        }
        for block in &contents.blocks {
            known.insert(block.header.hash(), (block.header, block.tx_count));
        }
        let mut headers = Vec::with_capacity(height as usize);
        let mut at = tip;
        for height in (1..=height).rev() {
            let missing = || UtxoError::NoHeader { hash: at, height, path: self.folder.clone() };
            let &(header, transactions) = known.get(&at).ok_or_else(missing)?;
            headers.push(SeedHeader { height, transactions, header });
            at = header.prev;
        }
        headers.reverse();
        Ok(headers)
    }
}

/// What stands at the front of a file of these headers' last block.
pub(super) fn seed_head((block, height): (BlockHash, u32), headers: &[SeedHeader]) -> SeedHead {
    let previous = headers.last().map_or(BlockHash([0; 32]), |last| last.header.prev);
    SeedHead { block, height, previous }
}

/// What a directory says of itself without its tables being made.
pub(super) fn inspect(node: &NodeDir, evidence: &mut Evidence) -> Result<(), UtxoError> {
    let mut folder = Folder::look(&node.utxo, false)?;
    let manifest = folder.manifest().clone();
    let (mut slots, mut journals, mut records) = (0, 0, 0_u64);
    let mut closed = Vec::new();
    for shard in 0..folder.shards() {
        let (slot, journal) = folder.bytes_of(shard).map_err(node.recover())?;
        (slots, journals) = (slots + slot, journals + journal);
        let epoch = folder.read_journal(shard, &mut |_, _| records += 1).map_err(node.recover())?;
        closed.push(epoch.max(manifest.checkpoint));
    }
    eprintln!(
        "utxo: {} shards, incarnation {}, checkpoint as of epoch {}, {records} records in the journals",
        folder.shards(),
        manifest.incarnation,
        manifest.checkpoint
    );
    evidence.set("directory", node.utxo.display().to_string());
    evidence.set("network", node.params.network.name());
    evidence.set("shards", folder.shards());
    evidence.set("incarnation", manifest.incarnation);
    evidence.set("checkpoint", manifest.checkpoint);
    evidence.set("checkpoint_bytes", slots);
    evidence.set("journal_bytes", journals);
    evidence.set("journal_records", records);
    evidence.set("closed_epochs", closed);
    Ok(())
}

/// Recovers without writing, checks every invariant, and says what is there.
pub(super) fn verify(node: &NodeDir, evidence: &mut Evidence) -> Result<(), UtxoError> {
    let (folder, examined) = node.examine()?;
    let (tip, height) = node.tip(&examined.chain);
    let partition = Partition::new(folder.secret(), folder.shards(), 1);
    for shard in &examined.shards {
        check(node, shard)?;
    }
    let home = |txid: &TxId| &examined.shards[usize::from(partition.shard(txid))];
    let (mut dangling, mut astray) = (0_u64, 0_u64);
    let (mut as_of_tip, mut with_pool) = (StateHash::new(), StateHash::new());
    let (mut transactions, mut value_sat, mut ram_bytes) = (0, 0, 0);
    for shard in &examined.shards {
        shard.for_each_unmined_spend(&mut |by| dangling += u64::from(!home(&by).has(&by)));
        shard.for_each_mined_coin(&mut |outpoint, coin| {
            astray += u64::from(partition.shard(&outpoint.txid) != shard.number());
            as_of_tip.add(outpoint, coin);
        });
        shard.for_each_unspent(&mut |outpoint, coin| with_pool.add(outpoint, coin));
        let totals = shard.totals();
        transactions += totals.transactions;
        value_sat += totals.value_sat;
        ram_bytes += totals.resident_bytes;
    }
    let (mined, utxos) = (as_of_tip.coins(), with_pool.coins());
    let state_hash = hex::encode(as_of_tip.finish());
    eprintln!(
        "utxo: epoch {} of incarnation {}; tip {tip} at height {height}; {transactions} transactions, \
         {utxos} unspent outputs, {} transactions in no block",
        examined.complete,
        examined.incarnation,
        examined.unmined.len()
    );
    eprintln!("utxo: state hash as of the tip {state_hash}");
    evidence.set("directory", node.utxo.display().to_string());
    evidence.set("network", node.params.network.name());
    evidence.set("shards", folder.shards());
    evidence.set("epoch", examined.complete);
    evidence.set("incarnation", examined.incarnation);
    evidence.set("checkpoint", examined.report.checkpoint);
    evidence.set("block", tip.to_string());
    evidence.set("height", height);
    evidence.set("transactions", transactions);
    evidence.set("utxos", utxos);
    evidence.set("utxos_as_of_tip", mined);
    evidence.set("value_sat", value_sat);
    evidence.set("unmined", examined.unmined.len());
    evidence.set("dangling", dangling);
    evidence.set("state_hash", state_hash);
    evidence.set("pool_state_hash", hex::encode(with_pool.finish()));
    evidence.set("records_replayed", examined.report.records);
    evidence.set("bytes_to_cut", examined.report.cut_bytes);
    evidence.set("ram_bytes", ram_bytes);
    if dangling + astray > 0 {
        let what = format!("{dangling} spends have no spender, {astray} coins are another shard's");
        return Err(UtxoError::Unsound { path: node.utxo.clone(), what });
    }
    Ok(())
}

/// Every invariant of a shard; its assertion's words where one does not hold.
fn check(node: &NodeDir, shard: &Shard) -> Result<(), UtxoError> {
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shard.check()));
    checked.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("shard {}: {}", shard.number(), text.unwrap_or_default());
        UtxoError::Unsound { path: node.utxo.clone(), what }
    })
}
