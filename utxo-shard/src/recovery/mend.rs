//! Mending: what recovery finishes or undoes once every table is as of the last complete epoch.
//!
//! * A decision whose spends are not all there: they are done now (*redo*). The coins are free: they were held for it.
//! * A block that had begun to be connected and has no tip record: it is off the chain, what was only in it is evicted, and the pool's
//!   transactions in it are the pool's again. One that had begun to be disconnected: that is finished.
//! * An eviction that had begun: it is finished, descendants first.
//! * A spend whose spender was evicted while the coin's owner had not heard of it: it is undone.
//!
//! All of it is logged in the first epoch of the new incarnation, so a crash in the middle begins again from the same journals.

use super::replay::{Nobody, inputs_of};
use super::{Kept, RecoverError};
use crate::journal::{BlockNote, DecisionRecord, SpendRecord};
use crate::shard::Shard;
use crate::slab::NONE;
use crate::table::{Rec, flag, out};
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::admin::EvictStep;
use dataplane::msg::request::SpentInput;
use dataplane::partition::Partition;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

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
}

impl Mender<'_> {
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

    /// A decision that is still needed: its spends are there or are done now. True if it is in no block.
    pub fn redo(
        &mut self,
        home: usize,
        decision: &DecisionRecord<'_>,
        complete: u64,
    ) -> Result<bool, RecoverError> {
        let Some(rec) = self.shards[home].decided_as(decision) else { return Ok(false) };
        let shard = &mut self.shards[home];
        let unmined = shard.mined_height(rec).is_none();
        if shard.table.is_spends_done(rec) {
            return Ok(unmined);
        }
        let mut newest = complete.max(shard.table.epoch_number(rec));
        let cannot = |what| RecoverError::Contradiction {
            shard: home as u16,
            epoch: decision.decided,
            what,
        };
        let inputs = inputs_of(decision.tx).ok_or(cannot("a decision that is no transaction"))?;
        let context = decision.context;
        for (vin, outpoint) in inputs.into_iter().enumerate() {
            let owner = self.home(&outpoint.txid);
            let owner = &mut self.shards[owner];
            // A parent whose record is pruned was spent.
            let there = owner.table.find(&outpoint.txid).is_none()
                || owner.spend_at(&outpoint, &decision.txid).is_some();
            if there {
                continue;
            }
            let vin = vin as u32;
            let publish_seq = if context.is_pool() { decision.publish_seq } else { 0 };
            let (by, block, decided) = (decision.txid, context.block, decision.decided);
            let spend = SpendRecord { outpoint, by, vin, block, publish_seq, decided };
            owner.replay_spend(&spend).map_err(cannot)?;
            let input = SpentInput { vin, outpoint };
            owner.log_spend(&context, &by, &input, publish_seq, decided);
            newest = newest.max(owner.epoch().number);
            self.mended.redone_spends += 1;
        }
        let shard = &mut self.shards[home];
        shard.table.put_epoch_number(rec, newest);
        shard.table.put_spends_done(rec);
        Ok(unmined)
    }

    /// Undoes a block that is not on the chain, and finishes evictions.
    pub fn settle_blocks(&mut self) -> Result<(), RecoverError> {
        let leaving = self.shards[0].begun.filter(|note| !note.connect);
        let (mut evict, mut unmine) = (Vec::new(), Vec::new());
        let mut undone = self.mended.block;
        for shard in self.shards.iter() {
            shard.for_each_live(|rec| {
                let flags = shard.table.flags(rec);
                let block = shard.table.block(rec);
                let lost = block != 0
                    && flags & flag::SETTLED == 0
                    && !shard.mined.is_connected(block)
                    && shard.mined_height(rec).is_none();
                let txid = shard.table.txid(rec);
                let of_leaving = leaving.is_some_and(|note| note.block == block);
                if flags & flag::EVICTING != 0 {
                    evict.push(txid);
                } else if lost
                    && flags & flag::COINBASE == 0
                    && (of_leaving || flags & flag::POOL != 0)
                {
                    unmine.push(txid);
                } else if lost {
                    evict.push(txid);
                }
                if lost {
                    undone = undone.max(block);
                }
            });
        }
        self.mended.block = undone;
        for txid in unmine {
            let home = self.home(&txid);
            self.mended.unmined += u64::from(self.shards[home].unmine(&txid) > 0);
        }
        if let Some(note) = leaving {
            self.respend(note.block);
        }
        for txid in evict {
            self.evict(&txid)?;
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
        Ok(())
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

    /// Ids of unmined transactions, parents before children; of those whose parents have gone before, the one decided first.
    pub fn unmined(&self, kept: &BTreeMap<TxId, Kept>) -> Vec<TxId> {
        let mut places: HashMap<TxId, (u64, usize)> = HashMap::new();
        for (lane, shard) in self.shards.iter().enumerate() {
            shard.for_each_live(|rec| {
                let flags = shard.table.flags(rec);
                if flags & (flag::COINBASE | flag::SETTLED) == 0
                    && shard.mined_height(rec).is_none()
                {
                    places.insert(shard.table.txid(rec), (shard.table.publish_seq(rec), lane));
                }
            });
        }
        let mut waits: HashMap<TxId, usize> = HashMap::new();
        let mut children: HashMap<TxId, Vec<TxId>> = HashMap::new();
        for txid in places.keys() {
            let inputs = kept.get(txid).and_then(|kept| inputs_of(&kept.raw)).unwrap_or_default();
            let mut parents: Vec<TxId> = inputs.iter().map(|input| input.txid).collect();
            parents.sort_unstable();
            parents.dedup();
            for parent in parents.into_iter().filter(|parent| places.contains_key(parent)) {
                *waits.entry(*txid).or_default() += 1;
                children.entry(parent).or_default().push(*txid);
            }
        }
        let key = |txid: &TxId| places.get(txid).map(|&(seq, lane)| Reverse((seq, lane, *txid)));
        let free = places.keys().filter(|txid| !waits.contains_key(*txid));
        let mut ready: BinaryHeap<_> = free.filter_map(key).collect();
        let mut order = Vec::with_capacity(places.len());
        while let Some(Reverse((.., txid))) = ready.pop() {
            order.push(txid);
            for child in children.get(&txid).into_iter().flatten() {
                let left = waits.get_mut(child).expect("counted above");
                *left -= 1;
                if *left == 0 {
                    ready.extend(key(child));
                }
            }
        }
        order
    }
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
