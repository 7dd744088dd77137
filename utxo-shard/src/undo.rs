//! Undoing: eviction, unspending, pruning.
//!
//! An unmined transaction that lost to a block is evicted with all its descendants: the driver walks down the spenders this
//! module names, evicts them at their homes, gives their coins back at the owners ([`Shard::unspend`]), and comes up again. Every
//! call is bounded. Pruning drops records that nobody can need any more: mined, spent out, and all of it deep enough.

use crate::config::{KEPT_UNTIL_MAX, OUTPUTS_PER_STEP};
use crate::journal::Record;
use crate::shard::{Outbox, Shard};
use crate::table::{Claim, Rec, Table, flag, out};
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::admin::{EvictStep, SpendState, SpentBy, Whereabouts};
use dataplane::msg::request::List;
use dataplane::msg::{Accepted, AcceptedKind, Context, WakeReason};

/// How far pruning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneStep {
    /// Place in the index to go on from; `None` when the walk is at its end.
    pub next: Option<usize>,
    /// Records dropped by this step.
    pub pruned: u32,
}

/// What became of one record.
enum Pruned {
    Dropped,
    Kept,
    /// More of its outputs are to be looked at.
    Later,
}

impl Shard {
    /// One bounded step of the eviction of an unmined transaction, at its home, from output `from_vout` on (0 at first).
    pub fn evict(&mut self, txid: &TxId, from_vout: u32, to: &mut impl Outbox) -> EvictStep {
        let Some(rec) = self.table.find(txid) else { return EvictStep::Unknown };
        if !self.table.is(rec, flag::LIVE) {
            return EvictStep::Unknown;
        }
        if self.mined_height(rec).is_some() {
            return EvictStep::Mined;
        }
        let flags = self.table.flags(rec);
        if flags & flag::BLOCK_PENDING != 0 {
            self.table.put_block(rec, 0);
        }
        self.table.put_flags(rec, flags & !flag::BLOCK_PENDING | flag::EVICTING);
        self.evicted_any = true;
        let end = self.table.outputs(rec).min(from_vout.saturating_add(OUTPUTS_PER_STEP));
        let mut stopped = None;
        let mut reached = from_vout.min(end);
        for vout in from_vout..end {
            reached = vout;
            let bits = self.table.output(rec, vout);
            if bits & out::COIN == 0 {
                continue;
            }
            if bits & out::HELD != 0 {
                stopped = Some(EvictStep::Held { vout });
                break;
            }
            if bits & out::SPENT != 0 {
                let claim = self.table.claim(rec, vout);
                let (by, vin) = (self.table.claimant(claim), self.table.claim_vin(claim));
                stopped = Some(EvictStep::Spent { vout, by, vin });
                break;
            }
            self.blank_unspent(rec, vout, bits);
        }
        if stopped.is_none() {
            reached = end;
        }
        if flags & flag::EVICTING == 0 || reached > from_vout {
            self.log.push(&Record::Evicting { txid: *txid, from: from_vout, to: reached });
        }
        if let Some(step) = stopped {
            return step;
        }
        if end < self.table.outputs(rec) {
            return EvictStep::More { vout: end };
        }
        if !to.can_publish(Accepted::FIXED_LEN) {
            return EvictStep::More { vout: end };
        }
        self.ripen(rec, WakeReason::ParentRejected);
        if flags & flag::POOL != 0 {
            self.publish_seq += 1;
            to.publish(&Accepted {
                kind: AcceptedKind::Evicted,
                shard: self.shard,
                block: 0,
                publish_seq: self.publish_seq,
                epoch: self.epoch,
                fee_sat: 0,
                txid: *txid,
                parents: List::Own(&[]),
                tx: &[],
            });
        }
        self.totals.transactions -= 1;
        self.counts.evicted += 1;
        self.table.remove(rec);
        self.log.push(&Record::Evicted { txid: *txid });
        EvictStep::Done
    }

    /// An unspent output is no coin any more.
    pub(crate) fn blank_unspent(&mut self, rec: Rec, vout: u32, bits: u64) {
        self.table.free_script(rec, vout);
        self.table.write_blank(rec, vout);
        let unspent = self.table.unspent(rec) - 1;
        self.table.put_unspent(rec, unspent);
        self.totals.utxos -= 1;
        self.totals.value_sat -= Table::value_sat(bits);
    }

    /// Gives back a coin that `by` has spent: the undo of a spend, for evictions and disconnected blocks. A spend that `by` had
    /// overruled counts again. `Held`: `by` is decided, and its spend is on the way.
    pub fn unspend(&mut self, outpoint: &OutPoint, by: &TxId) -> SpendState {
        let Some(rec) = self.table.find(&outpoint.txid) else { return SpendState::NotSpent };
        let vout = outpoint.vout;
        let Some(bits) = self.coin_bits(rec, vout) else { return SpendState::NotSpent };
        // No spend of it, but its hold: the spend is on the way.
        let without = if self.is_holder(rec, vout, bits, by) {
            SpendState::Held
        } else {
            SpendState::NotSpent
        };
        if bits & out::SPENT == 0 {
            return without;
        }
        let top = self.table.claim(rec, vout);
        let holder = if bits & out::HELD != 0 { top } else { Claim::NONE };
        let mut above = holder;
        let mut at = if holder.is_some() { self.table.prior(holder) } else { top };
        while at.is_some() && self.table.claimant(at) != *by {
            above = at;
            at = self.table.prior(at);
        }
        if !at.is_some() {
            return without;
        }
        let below = self.table.prior(at);
        if above.is_some() {
            self.table.put_prior(above, below);
        } else {
            self.table.put_claim(rec, vout, below);
        }
        self.table.free_claim(at);
        let spent_still = below.is_some() || (above.is_some() && above != holder);
        if !spent_still {
            self.table.put_output(rec, vout, bits & !out::SPENT);
            let unspent = self.table.unspent(rec) + 1;
            self.table.put_unspent(rec, unspent);
            self.totals.utxos += 1;
            self.totals.value_sat += Table::value_sat(bits);
        }
        self.counts.unspent += 1;
        self.log.push(&Record::Unspend { outpoint: *outpoint, by: *by });
        SpendState::Done
    }

    fn is_holder(&self, rec: Rec, vout: u32, bits: u64, txid: &TxId) -> bool {
        bits & out::HELD != 0 && self.table.claimant(self.table.claim(rec, vout)) == *txid
    }

    /// The spend of `by` on an output, wherever it lies under newer ones.
    pub(crate) fn spend_of(&self, rec: Rec, vout: u32, bits: u64, by: &TxId) -> Option<Claim> {
        let mut at = self.newest_spend(rec, vout, bits)?;
        while at.is_some() {
            if self.table.claimant(at) == *by {
                return Some(at);
            }
            at = self.table.prior(at);
        }
        None
    }

    /// Where a transaction is, as its home knows it.
    pub fn whereabouts(&self, txid: &TxId) -> Whereabouts {
        match self.table.find(txid) {
            Some(rec) if self.table.is(rec, flag::LIVE) => match self.mined_height(rec) {
                Some(height) => Whereabouts::Mined { height, unspent: self.table.unspent(rec) },
                None => Whereabouts::Unmined { publish_seq: self.table.publish_seq(rec) },
            },
            _ => Whereabouts::Unknown,
        }
    }

    /// The block of a transaction is disconnected: it is the pool's, under the sequence its home gave it. 0 if it is not here.
    pub fn unmine(&mut self, txid: &TxId) -> u64 {
        let Some(rec) = self.table.find(txid) else { return 0 };
        let flags = self.table.flags(rec);
        let may = flags & flag::LIVE != 0 && flags & (flag::COINBASE | flag::SETTLED) == 0;
        if !may || self.mined_height(rec).is_some() {
            return 0;
        }
        self.table.put_flags(rec, flags & !flag::BLOCK_PENDING | flag::POOL);
        self.table.put_block(rec, 0);
        self.table.put_height(rec, 0);
        self.log.push(&Record::Unmine { txid: *txid });
        self.table.publish_seq(rec)
    }

    /// The same for one of its spends, at the owner; and what the coin is worth.
    pub fn respend(
        &mut self,
        outpoint: &OutPoint,
        by: &TxId,
        publish_seq: u64,
    ) -> (SpendState, u64) {
        let Some(rec) = self.table.find(&outpoint.txid) else { return (SpendState::NotSpent, 0) };
        let Some(bits) = self.coin_bits(rec, outpoint.vout) else {
            return (SpendState::NotSpent, 0);
        };
        let value_sat = Table::value_sat(bits);
        let Some(claim) = self.spend_of(rec, outpoint.vout, bits, by) else {
            let held = self.is_holder(rec, outpoint.vout, bits, by);
            return (if held { SpendState::Held } else { SpendState::NotSpent }, value_sat);
        };
        self.table.put_claim_block(claim, 0);
        self.table.put_claim_publish_seq(claim, publish_seq);
        let (outpoint, by) = (*outpoint, *by);
        self.log.push(&Record::Respend { outpoint, by, publish_seq });
        (SpendState::Done, value_sat)
    }

    /// Whose spend lies under that of the block's transaction `by`.
    pub fn loser(&self, outpoint: &OutPoint, by: &TxId) -> SpentBy {
        let Some(rec) = self.table.find(&outpoint.txid) else { return SpentBy::NoOutput };
        let vout = outpoint.vout;
        let Some(bits) = self.coin_bits(rec, vout) else { return SpentBy::NoOutput };
        let of = if self.is_holder(rec, vout, bits, by) {
            Some(self.table.claim(rec, vout))
        } else {
            self.spend_of(rec, vout, bits, by)
        };
        match of.map(|claim| self.table.prior(claim)).filter(|prior| prior.is_some()) {
            Some(prior) => SpentBy::Tx(self.table.claimant(prior)),
            None => SpentBy::Nobody,
        }
    }

    /// Which unmined transaction has spent an output.
    pub fn unmined_spender(&self, outpoint: &OutPoint) -> SpentBy {
        let Some(rec) = self.table.find(&outpoint.txid) else { return SpentBy::NoOutput };
        let vout = outpoint.vout;
        if self.table.is(rec, flag::ANCHOR) || vout >= self.table.outputs(rec) {
            return SpentBy::NoOutput;
        }
        let Some(bits) = self.coin_bits(rec, vout) else { return SpentBy::Nobody };
        let spend = self.newest_spend(rec, vout, bits);
        match spend.filter(|&claim| !self.is_claim_mined(claim, &Context::default())) {
            Some(claim) => SpentBy::Tx(self.table.claimant(claim)),
            None => SpentBy::Nobody,
        }
    }

    /// Drops records from index place `from` on that are mined and spent out at `height` or below; looks at `most` places, or at
    /// [`OUTPUTS_PER_STEP`] outputs of a record that has more.
    pub fn prune(&mut self, from: usize, most: usize, height: u32) -> PruneStep {
        let places = self.table.index.places();
        let mut at = from;
        let mut pruned = 0;
        for _ in 0..most {
            if at >= places {
                return PruneStep { next: None, pruned };
            }
            let handle = self.table.index.at(at);
            if handle == crate::slab::NONE || !self.may_prune(Rec(handle), height) {
                at += 1;
                continue;
            }
            match self.prune_record(Rec(handle), height) {
                // What stood behind it may have moved here.
                Pruned::Dropped => pruned += 1,
                Pruned::Kept => at += 1,
                Pruned::Later => return PruneStep { next: Some(at), pruned },
            }
        }
        PruneStep { next: (at < places).then_some(at), pruned }
    }

    /// Keeps the record of a transaction from every prune at a height below `until_height`, mined and spent out or not; 0 ends
    /// that. False where there is none, or the height is above [`KEPT_UNTIL_MAX`].
    ///
    /// Source: Teranode's `PreserveTransactions` and `ProcessExpiredPreservations` in one: nothing has to run when it expires.
    pub fn preserve(&mut self, txid: &TxId, until_height: u32) -> bool {
        let found = self.table.find(txid).filter(|&rec| self.table.is(rec, flag::LIVE));
        let Some(rec) = found.filter(|_| until_height <= KEPT_UNTIL_MAX) else { return false };
        self.table.put_kept_until(rec, until_height);
        self.log.push(&Record::Kept { txid: *txid, until_height });
        true
    }

    /// What can be said of a record without looking at its outputs.
    fn may_prune(&self, rec: Rec, height: u32) -> bool {
        self.table.is(rec, flag::LIVE)
            && self.table.unspent(rec) == 0
            && self.table.kept_until(rec) <= height
            && self.table.waiting(rec) == 0
            && self.mined_height(rec).is_some_and(|h| h <= height)
    }

    /// A record of many outputs takes several calls: all are looked at first, then all are freed, each looked at again.
    fn prune_record(&mut self, rec: Rec, height: u32) -> Pruned {
        let txid = self.table.txid(rec);
        let outputs = self.table.outputs(rec);
        let small = outputs <= OUTPUTS_PER_STEP;
        let begun = self.pruning.filter(|under_way| under_way.0 == txid);
        let (_, first, dropping) = begun.unwrap_or((txid, 0, false));
        let end = outputs.min(first.saturating_add(OUTPUTS_PER_STEP));
        self.pruning = None;
        if !(first..end).all(|vout| self.is_output_prunable(rec, vout, height)) {
            return Pruned::Kept;
        }
        if dropping || small {
            for vout in first..end {
                self.drop_output(rec, vout);
            }
        }
        if end < outputs {
            self.pruning = Some((txid, end, dropping));
            return Pruned::Later;
        }
        if !dropping && !small {
            self.pruning = Some((txid, 0, true));
            return Pruned::Later;
        }
        self.totals.transactions -= 1;
        self.counts.pruned += 1;
        self.table.remove(rec);
        self.log.push(&Record::Pruned { txid });
        Pruned::Dropped
    }

    fn is_output_prunable(&self, rec: Rec, vout: u32, height: u32) -> bool {
        let bits = self.table.output(rec, vout);
        if bits & out::COIN == 0 {
            return true;
        }
        let spent_at = self.claim_height(self.table.claim(rec, vout));
        bits & out::HELD == 0 && spent_at.is_some_and(|h| h <= height)
    }

    /// Frees the claims and the script of a spent output, which is no coin from then on.
    pub(crate) fn drop_output(&mut self, rec: Rec, vout: u32) {
        if self.table.output(rec, vout) & out::COIN == 0 {
            return;
        }
        let mut claim = self.table.claim(rec, vout);
        while claim.is_some() {
            let prior = self.table.prior(claim);
            self.table.free_claim(claim);
            claim = prior;
        }
        self.table.free_script(rec, vout);
        self.table.write_blank(rec, vout);
    }

    /// Height at which the spender behind a claim is mined on this chain.
    fn claim_height(&self, claim: Claim) -> Option<u32> {
        let block = self.table.claim_block(claim);
        self.mined.height_of_block(block).or_else(|| self.claim_pool_height(claim))
    }

    /// Whether a transaction's outputs can be seen from a context; for tests and tools.
    pub fn is_visible(&self, txid: &TxId, ctx: &Context) -> bool {
        self.table.find(txid).is_some_and(|rec| self.exists_in(rec, ctx))
    }
}
