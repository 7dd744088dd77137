//! Blocks of our own: candidates, and telling everybody that one is the tip.

use super::{ANSWER_TIMEOUT, Mined, Node, NodeError};
use crate::engine::{BlockToConnect, ChainEnd, ConnectError, Engine};
use crate::mine;
use consensus::hash::{MerkleHash, TxId, merkle_parent};
use dataplane::msg::pack_control::{PackRefusal, Want};
use std::path::PathBuf;
use std::time::Instant;

impl Node {
    /// Pool transactions a block could take now.
    pub fn pooled(&mut self) -> Result<u64, NodeError> {
        Ok(self.candidate(Want::Everything)?.id.leaves.saturating_sub(1))
    }

    /// Mines one block on top of the tip with everything pack offers, pays the reward to `locking_script`, connects it.
    pub fn mine(&mut self, locking_script: &[u8]) -> Result<Mined, NodeError> {
        let asked = Instant::now();
        let candidate = self.candidate(Want::Everything)?;
        let candidate_ms = asked.elapsed().as_secs_f64() * 1e3;
        let height = self.tip.height + 1;
        let reward_sat = self.params.subsidy_sat(height) + candidate.fees_sat;
        let coinbase = mine::coinbase(height, reward_sat, locking_script.to_vec(), &[]).to_bytes();
        let coinbase_txid = TxId::of(&coinbase);
        let root = candidate
            .branch
            .iter()
            .fold(coinbase_txid.0, |node, sibling| merkle_parent(&node, &sibling.0));
        let header = mine::solve(&self.params, &self.tip, MerkleHash(root));
        let leaves = self.leaves(candidate.id)?;
        let why = PackRefusal::Stale;
        let leaves = leaves.ok_or(NodeError::PackRefused { what: "its own candidate", why })?;
        let mut txs: Vec<Vec<u8>> = Vec::with_capacity(leaves.txids.len() + 1);
        txs.push(coinbase);
        for txid in &leaves.txids {
            txs.push(self.stored(txid)?);
        }
        let mut raw = Vec::new();
        consensus::block::write_block(&mut raw, &header, txs.iter());
        self.tip.advance(&header);
        let (hash, median_time_past) = (self.tip.hash, self.tip.median_time_past());
        let block = BlockToConnect { raw: &raw, end: ChainEnd { height, hash, median_time_past } };
        self.connect_ours(&block, &leaves).map_err(|error| match error {
            ConnectError::Failed(error) => error,
            ConnectError::Rejected(rejection) => NodeError::OwnBlock { rejection },
        })?;
        if let Some(pool) = &self.pool {
            pool.mined(&leaves.txids);
            pool.set_tip_height(height);
        }
        Ok(Mined { height, raw, candidate_ms })
    }

    /// The bytes of an accepted transaction. The store reads the same link as pack and may be a moment behind.
    fn stored(&mut self, txid: &TxId) -> Result<Vec<u8>, NodeError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let pool = self.pool.clone().ok_or(NodeError::NotStored { txid: *txid })?;
        loop {
            let got = pool.get(txid).map_err(|source| NodeError::File {
                doing: "reading",
                path: PathBuf::from("accepted.tx"),
                source,
            })?;
            match got {
                Some(tx) => return Ok(tx.raw),
                None if Instant::now() > deadline => {
                    return Err(NodeError::NotStored { txid: *txid });
                }
                None => self.drive.rest(),
            }
        }
    }
}
