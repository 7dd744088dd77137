//! Blocks of our own: candidates, and telling everybody that one is the tip.

use super::{ANSWER_TIMEOUT, Mined, Node, NodeError};
use crate::mine;
use consensus::hash::{MerkleHash, TxId, merkle_parent};
use dataplane::msg::Context;
use dataplane::msg::admin::Admin;
use dataplane::msg::pack_control::{CandidateId, PackCommand, PackReply, SeqRange, Want};
use std::path::PathBuf;
use std::time::Instant;

struct Candidate {
    id: CandidateId,
    fees_sat: u64,
    branch: Vec<TxId>,
}

impl Node {
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
        let coinbase = mine::coinbase(height, reward_sat, locking_script.to_vec(), &[]).to_bytes();
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
        if let Some(pool) = &self.pool {
            pool.mined(&txids);
            pool.set_tip_height(height);
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
}
