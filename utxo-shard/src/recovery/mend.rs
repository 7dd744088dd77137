//! Mending: what recovery finishes or undoes once every table is as of the last complete epoch.
//!
//! * A decision whose spends are not all there: they are done now (*redo*). The coins are free: they were held for it.
//! * A block that had begun to be connected and has no tip record: it is off the chain, what was only in it is evicted, and the pool's
//!   transactions in it are the pool's again. One that had begun to be disconnected: that is finished, and what is immature or not
//!   final on the shorter chain goes, as where nothing had crashed.
//! * An eviction that had begun: it is finished, descendants first.
//! * A spend whose spender was evicted while the coin's owner had not heard of it: it is undone.
//!
//! All of it is logged in the first epoch of the new incarnation, so a crash in the middle begins again from the same journals.

use super::pool::{Kept, Places};
use super::replay::Nobody;
use super::{RecoverError, side_by_side};
use crate::config::COINBASE_MATURITY_BLOCKS;
use crate::journal::BlockNote;
use crate::shard::Shard;
use crate::slab::NONE;
use crate::table::{Rec, flag, out};
use consensus::hash::TxId;
use consensus::rules::is_final;
use consensus::tx::{OutPoint, TxLayout, parse};
use dataplane::msg::admin::{EvictStep, SpentBy};
use dataplane::partition::Partition;

/// What was mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// Spends done again of decisions that had lost theirs.
    pub redone_spends: u64,
    /// Transactions evicted: of a block that was undone, or whose eviction had begun.
    pub evicted: u64,
    /// Transactions of a block that are the pool's again.
    pub unmined: u64,
    /// Spends undone because their spender is gone.
    pub undone_spends: u64,
    /// The block that was undone, or whose disconnection was finished; 0 for none.
    pub block: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Mender<'a> {
    pub shards: &'a mut [Shard],
    pub partition: Partition,
    pub mended: Mended,
    /// Shards are walked side by side.
    pub threads: bool,
}

/// What a walk over one shard found.
#[derive(Debug, Default)]
struct Walked {
    evict: Vec<TxId>,
    unmine: Vec<TxId>,
    /// The newest block that is off the chain and has transactions here.
    undone: u32,
    pool: Places,
}

impl Mender<'_> {
    fn walk<T: Send>(&mut self, each: impl Fn(&Shard) -> T + Sync) -> Vec<T> {
        side_by_side(self.shards.iter_mut().collect(), self.threads, |shard| each(shard))
    }

    fn home(&self, txid: &TxId) -> usize {
        usize::from(self.partition.shard(txid))
    }

    /// Takes blocks off the chain that are not below its tip, in every shard.
    pub fn align_blocks(&mut self) -> Result<(), RecoverError> {
        let begun = self.shards[0].begun;
        if let Some(leaving) = begun.filter(|note| !note.connect) {
            self.mended.block = leaving.block;
            for shard in self.shards.iter_mut() {
                shard.unset_mined(leaving.block);
            }
        }
        let Some(tip) = self.tip() else {
            // The first block of all.
            if let Some(begun) = begun.filter(|note| note.connect) {
                for shard in self.shards.iter_mut() {
                    shard.unset_mined(begun.block);
                }
            }
            return Ok(());
        };
        for shard in self.shards.iter_mut() {
            while let Some(&(block, height)) = shard.mined.blocks().last() {
                if height <= tip.height {
                    break;
                }
                self.mended.block = block;
                shard.unset_mined(block);
            }
            let newest = shard.mined.blocks().last().map(|&(_, height)| height);
            if newest.is_some_and(|height| height != tip.height) {
                return Err(RecoverError::Chain {
                    shard: shard.number(),
                    got: newest.unwrap_or(0),
                    expected: tip.height,
                });
            }
        }
        Ok(())
    }

    /// The tip once a disconnection that had begun is finished.
    pub fn tip(&self) -> Option<BlockNote> {
        let first = &self.shards[0];
        let leaving = first.begun.filter(|note| !note.connect).map_or(u32::MAX, |note| note.height);
        first.chain.iter().rev().find(|note| note.height < leaving).copied()
    }

    /// Undoes a block that is not on the chain, and finishes evictions. Gives what is in no block then, shard by shard.
    pub fn settle_blocks(&mut self, kept: &[Vec<Kept>]) -> Result<Vec<Places>, RecoverError> {
        let leaving = self.shards[0].begun.filter(|note| !note.connect);
        let leaving_block = leaving.map(|note| note.block);
        let walked = self.walk(|shard| walk(shard, leaving_block));
        let undone = walked.iter().map(|walked| walked.undone).max().unwrap_or(0);
        self.mended.block = self.mended.block.max(undone);
        let mut sound = walked.iter().all(|w| w.evict.is_empty() && w.unmine.is_empty());
        for txid in walked.iter().flat_map(|walked| &walked.unmine) {
            let home = self.home(txid);
            self.mended.unmined += u64::from(self.shards[home].unmine(txid) > 0);
        }
        if let Some(note) = leaving {
            self.respend(note.block);
            let mut fallen = self.immature(note.height);
            fallen.extend(unfinal(&note, kept));
            sound &= fallen.is_empty();
            for txid in &fallen {
                self.evict(txid)?;
            }
        }
        for txid in walked.iter().flat_map(|walked| &walked.evict) {
            self.evict(txid)?;
        }
        if self.shards.iter().any(|shard| shard.evicted_any) {
            self.undo_dangling();
        }
        if let Some(begun) = self.shards[0].begun {
            match self.tip() {
                Some(tip) => self.shards[0].note_tip(&tip),
                None => self.shards[0].forget_chain(&begun),
            }
        }
        Ok(match sound {
            true => walked.into_iter().map(|walked| walked.pool).collect(),
            // What was evicted took its descendants with it, and what is the pool's again has another place.
            false => self.walk(|shard| walk(shard, None).pool),
        })
    }

    /// The spends of a disconnected block are the pool's.
    fn respend(&mut self, block: u32) {
        let mut spends = Vec::new();
        for shard in self.shards.iter() {
            shard.for_each_spend(|outpoint, claim| {
                if shard.table.claim_block(claim) == block {
                    spends.push((outpoint, shard.table.claimant(claim)));
                }
            });
        }
        for (outpoint, by) in spends {
            let home = &self.shards[self.home(&by)];
            let rec = home.table.find(&by).filter(|&rec| home.table.is(rec, flag::LIVE));
            if let Some(publish_seq) = rec.map(|rec| home.table.publish_seq(rec)) {
                let owner = self.home(&outpoint.txid);
                self.shards[owner].respend(&outpoint, &by, publish_seq);
            }
        }
    }

    /// Spenders of coinbases that no block at `height` may spend.
    fn immature(&self, height: u32) -> Vec<TxId> {
        let mut spenders = Vec::new();
        for shard in self.shards.iter() {
            shard.for_each_live(|rec| {
                let is_coinbase = shard.table.flags(rec) & flag::COINBASE != 0;
                let mined = shard.mined_height(rec).filter(|_| is_coinbase);
                if mined.is_none_or(|mined| mined + COINBASE_MATURITY_BLOCKS <= height) {
                    return;
                }
                let txid = shard.table.txid(rec);
                let outputs = (0..shard.table.outputs(rec)).map(|vout| OutPoint { txid, vout });
                for outpoint in outputs {
                    if let SpentBy::Tx(by) = shard.unmined_spender(&outpoint) {
                        spenders.push(by);
                    }
                }
            });
        }
        spenders
    }

    /// Evicts a transaction with its descendants.
    fn evict(&mut self, txid: &TxId) -> Result<(), RecoverError> {
        let mut path = vec![(*txid, 0)];
        while let Some(&(top, from)) = path.last() {
            let home = self.home(&top);
            let at = path.len() - 1;
            match self.shards[home].evict(&top, from, &mut Nobody) {
                EvictStep::Done => {
                    self.mended.evicted += 1;
                    path.pop();
                }
                EvictStep::More { vout } => path[at].1 = vout,
                EvictStep::Spent { vout, by, .. } => {
                    path[at].1 = vout;
                    let child = self.home(&by);
                    if self.shards[child].has(&by) {
                        path.push((by, 0));
                    } else {
                        self.shards[home].unspend(&OutPoint { txid: top, vout }, &by);
                        self.mended.undone_spends += 1;
                    }
                }
                EvictStep::Unknown => {
                    path.pop();
                }
                // A block has it by now: it stays, as where nothing had crashed.
                EvictStep::Mined => return Ok(()),
                EvictStep::Held { .. } => {
                    return Err(RecoverError::Contradiction {
                        shard: home as u16,
                        epoch: self.shards[home].epoch().number,
                        what: "an output of a transaction to be evicted that is held",
                    });
                }
            }
        }
        Ok(())
    }

    /// Undoes spends in no block whose spender has no record.
    fn undo_dangling(&mut self) {
        let mut dangling = Vec::new();
        for shard in self.shards.iter() {
            shard.for_each_spend(|outpoint, claim| {
                let block = shard.table.claim_block(claim);
                let mined =
                    shard.mined.is_connected(block) || shard.claim_pool_height(claim).is_some();
                let by = shard.table.claimant(claim);
                if !mined && !self.shards[self.home(&by)].has(&by) {
                    dangling.push((outpoint, by));
                }
            });
        }
        for (outpoint, by) in dangling {
            let owner = self.home(&outpoint.txid);
            self.shards[owner].unspend(&outpoint, &by);
            self.mended.undone_spends += 1;
        }
    }
}

/// Everything that is to be mended, and what is in no block.
fn walk(shard: &Shard, leaving: Option<u32>) -> Walked {
    let mut walked = Walked::default();
    shard.for_each_live(|rec| {
        let flags = shard.table.flags(rec);
        let block = shard.table.block(rec);
        let is_mined = shard.mined_height(rec).is_some();
        let lost = block != 0
            && flags & flag::SETTLED == 0
            && !shard.mined.is_connected(block)
            && !is_mined;
        let txid = shard.table.txid(rec);
        if flags & flag::EVICTING != 0 {
            walked.evict.push(txid);
        } else if lost
            && flags & flag::COINBASE == 0
            && (leaving == Some(block) || flags & flag::POOL != 0)
        {
            walked.unmine.push(txid);
        } else if lost {
            walked.evict.push(txid);
        }
        if lost {
            walked.undone = walked.undone.max(block);
        }
        if flags & (flag::COINBASE | flag::SETTLED) == 0 && !is_mined {
            walked.pool.push((shard.table.publish_seq(rec), txid));
        }
    });
    walked.pool.sort_unstable();
    walked
}

/// What is not final in the place of the block that is disconnected.
///
/// The block's own transactions are. The median time past that times are compared with is in no record; what was judged no
/// later than the block bounds it from below, so a lock that a moment may separate from it goes, too: it can be sent again.
fn unfinal(leaving: &BlockNote, kept: &[Vec<Kept>]) -> Vec<TxId> {
    let stood = |kept: &Kept| kept.context.height <= leaving.height;
    let all = || kept.iter().flatten();
    let times = all().filter(|kept| stood(kept)).map(|kept| kept.context.median_time_past);
    let median_time_past = times.max().unwrap_or(0);
    let mut layout = TxLayout::new();
    let mut stays = |kept: &Kept| {
        stood(kept)
            || parse(&kept.raw, &mut layout)
                .is_ok_and(|tx| is_final(tx, leaving.height, median_time_past))
    };
    all().filter(|kept| !stays(kept)).map(|kept| kept.txid).collect()
}

impl Shard {
    /// Every spend, also those under newer ones.
    pub(crate) fn for_each_spend(&self, mut each: impl FnMut(OutPoint, crate::table::Claim)) {
        self.for_each_live(|rec: Rec| {
            for vout in 0..self.table.outputs(rec) {
                if self.table.output(rec, vout) & out::SPENT == 0 {
                    continue;
                }
                let mut claim = self.table.claim(rec, vout);
                while claim.0 != NONE {
                    each(OutPoint { txid: self.table.txid(rec), vout }, claim);
                    claim = self.table.prior(claim);
                }
            }
        });
    }

    /// Nothing is left of a block that was the first: there is no tip.
    fn forget_chain(&mut self, begun: &BlockNote) {
        self.chain.retain(|note| note.height < begun.height);
        self.begun = None;
    }
}
