//! Where a transaction is: nowhere, in the pool, or in a block, with the way to its merkle root.

use crate::service::Service;
use consensus::block::BlockView;
use consensus::hash::{BlockHash, TxId};
use consensus::proof::{Bump, MerkleBranch};
use std::io;

/// Where a transaction is, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Nowhere.
    Nowhere,
    /// Accepted, in no block of this chain.
    Pool,
    /// In a block of this chain.
    Mined {
        /// The block.
        block: BlockHash,
        /// Its height.
        height: u32,
        /// The way from the transaction to the block's merkle root, BUMP (BRC-74).
        merkle_path: Vec<u8>,
    },
}

/// Finds transactions. It may read files, so it is called where waiting for a disk is right.
pub trait Find: Send + Sync {
    /// Where `txid` is.
    fn find(&self, txid: &TxId) -> io::Result<Whereabouts>;
}

impl Find for Service {
    fn find(&self, txid: &TxId) -> io::Result<Whereabouts> {
        if self.pool.contains(txid) {
            return Ok(Whereabouts::Pool);
        }
        let Some(mined) = self.chain.find_tx(txid)? else { return Ok(Whereabouts::Nowhere) };
        let (block, index) = (mined.block, mined.index);
        let Some(header) = self.chain.header(&block) else { return Ok(Whereabouts::Nowhere) };
        let Some(raw) = self.chain.block(&block)? else { return Ok(Whereabouts::Nowhere) };
        let merkle_path = merkle_path(&raw, header.height, index, txid)?;
        Ok(Whereabouts::Mined { block, height: header.height, merkle_path })
    }
}

/// The BUMP of a block's transaction.
fn merkle_path(raw: &[u8], height: u32, index: u64, txid: &TxId) -> io::Result<Vec<u8>> {
    let corrupt = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let ids = BlockView::parse(raw).and_then(|block| block.txids());
    let ids = ids.map_err(|e| corrupt(format!("the block of {txid} at height {height}: {e}")))?;
    let leaves: Vec<[u8; 32]> = ids.iter().map(|id| id.0).collect();
    let branch = MerkleBranch::of(&leaves, index as usize).filter(|_| ids[index as usize] == *txid);
    let branch = branch.ok_or_else(|| {
        corrupt(format!("{txid} is not transaction {index} of the block at height {height}"))
    })?;
    let mut bytes = Vec::new();
    Bump::from_branch(height, txid, &branch).write(&mut bytes);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merkle_path_leads_to_the_root_in_the_header() {
        let raw = consensus::params::ChainParams::of(consensus::params::Network::Regtest);
        let raw = raw.genesis_block();
        let block = BlockView::parse(&raw).unwrap();
        let txid = block.txids().unwrap()[0];
        let path = Bump::parse(&merkle_path(&raw, 0, 0, &txid).unwrap()).unwrap();
        assert_eq!(path.root(&txid), Some(block.header().merkle_root));
        assert!(merkle_path(&raw, 0, 1, &txid).is_err());
        assert!(merkle_path(&raw[..90], 0, 0, &txid).is_err());
    }
}
