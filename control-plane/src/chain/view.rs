//! The read view: what interfaces see of the chain without asking its thread.
//!
//! The chain thread writes the tree under the lock, briefly, once everything about a block is on disk; readers copy out what they
//! need. Blocks are read from their files outside the lock.

use super::answers::{ChainTip, HeaderInfo, MinedTx, TipInfo};
use super::files::BlockReader;
use super::tree::{Id, Place, Tree};
use super::tx_index::TxIndex;
use consensus::hash::{BlockHash, TxId};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Shared by the chain thread and all handles.
#[derive(Debug)]
pub(crate) struct View {
    tree: RwLock<Tree>,
    blocks: BlockReader,
    index: RwLock<TxIndex>,
    genesis_block: Vec<u8>,
    ready: AtomicBool,
}

impl View {
    pub(crate) fn new(
        tree: Tree,
        blocks: BlockReader,
        index: TxIndex,
        genesis_block: Vec<u8>,
    ) -> Self {
        let (tree, index) = (RwLock::new(tree), RwLock::new(index));
        Self { tree, blocks, index, genesis_block, ready: AtomicBool::new(false) }
    }

    /// Everything the files held is connected.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, TxIndex> {
        self.index.write().expect("no holder of this lock panics")
    }

    /// Where a transaction is mined on the connected chain.
    pub(crate) fn find_tx(&self, txid: &TxId) -> std::io::Result<Option<MinedTx>> {
        let rows = self.index.read().expect("no holder of this lock panics").find(txid)?;
        for row in rows {
            let (place, block) = {
                let tree = self.tree();
                let entry = tree.entry(row.block);
                (entry.place.filter(|_| tree.is_active(row.block)), entry.hash)
            };
            let Some(place) = place else { continue };
            let raw = self.blocks.read_part(&place, row.at, row.len as usize)?;
            // Rows hold a part of the id: another transaction may share it.
            if TxId::of(&raw) == *txid {
                return Ok(Some(MinedTx { block, index: u64::from(row.index), raw }));
            }
        }
        Ok(None)
    }

    pub(crate) fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.tree.read().expect("no holder of this lock panics")
    }

    pub(crate) fn tree_mut(&self) -> RwLockWriteGuard<'_, Tree> {
        self.tree.write().expect("no holder of this lock panics")
    }

    /// The bytes of a block that is stored.
    pub(crate) fn read(&self, place: &Place) -> std::io::Result<Vec<u8>> {
        self.blocks.read(place)
    }

    pub(crate) fn blocks(&self) -> &BlockReader {
        &self.blocks
    }

    pub(crate) fn block(&self, hash: &BlockHash) -> std::io::Result<Option<Vec<u8>>> {
        let place = {
            let tree = self.tree();
            let Some(id) = tree.find(hash) else { return Ok(None) };
            if id == super::tree::GENESIS {
                return Ok(Some(self.genesis_block.clone()));
            }
            tree.entry(id).place
        };
        place.map(|place| self.read(&place)).transpose()
    }

    pub(crate) fn tip(&self) -> TipInfo {
        let tree = self.tree();
        tip_info(&tree, tree.tip())
    }

    pub(crate) fn header(&self, hash: &BlockHash) -> Option<HeaderInfo> {
        let tree = self.tree();
        let id = tree.find(hash)?;
        let entry = tree.entry(id);
        let on_active_chain = tree.is_active(id);
        let next = on_active_chain.then(|| tree.active_at(entry.height + 1)).flatten();
        let genesis_bytes = if entry.height == 0 { self.genesis_block.len() as u64 } else { 0 };
        Some(HeaderInfo {
            header: entry.header,
            hash: entry.hash,
            height: entry.height,
            chain_work: entry.work,
            status: tree.status(id),
            tx_count: entry.tx_count,
            size_bytes: entry.place.map_or(genesis_bytes, |p| p.len),
            median_time_past: entry.median_time_past,
            on_active_chain,
            next: next.map(|id| tree.entry(id).hash),
        })
    }

    pub(crate) fn hash_at(&self, height: u32) -> Option<BlockHash> {
        let tree = self.tree();
        tree.active_at(height).map(|id| tree.entry(id).hash)
    }

    pub(crate) fn tips(&self) -> Vec<ChainTip> {
        let tree = self.tree();
        let tip = |id: Id| {
            let entry = tree.entry(id);
            ChainTip {
                height: entry.height,
                hash: entry.hash,
                branch_len: entry.height - tree.entry(tree.fork(id)).height,
                status: tree.status(id),
            }
        };
        tree.ends().into_iter().map(tip).collect()
    }
}

pub(crate) fn tip_info(tree: &Tree, id: Id) -> TipInfo {
    let entry = tree.entry(id);
    TipInfo {
        height: entry.height,
        hash: entry.hash,
        header: entry.header,
        chain_work: entry.work,
        median_time_past: entry.median_time_past,
        chain_tx_count: entry.chain_tx_count,
    }
}
