//! Deciding: settle, commit, spend.
//!
//! Home's record is the decision. Only when it stands are owners told to spend, and each spend carries the decision's epoch, so
//! that a durable spend always has a durable decision. A transaction whose coins and home have one owner commits in one message:
//! all its inputs are taken, or it is treated as a reserve and nothing is decided.

use crate::build::Built;
use crate::config::PARENTS_MAX;
use crate::hold::Hold;
use crate::journal::Record;
use crate::shard::{Outbox, Progress, Shard};
use crate::table::{Rec, flag, out};
use consensus::hash::TxId;
use dataplane::msg::request::{Decision, List, SpentInput};
use dataplane::msg::{
    Accepted, AcceptedKind, Context, Epoch, InputRef, ParentSeq, Reply, Ticket, WakeReason,
};

/// Where a decision's record is.
enum Home {
    Pending(Rec),
    Live(Rec),
    Later,
    Refused,
}

impl Shard {
    /// Decides a transaction whose inputs are all reserved.
    pub(crate) fn settle(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        txid: &TxId,
        decision: &Decision<'_>,
        to: &mut impl Outbox,
    ) -> Progress {
        match self.home(from, ctx, ticket, txid, decision) {
            Home::Pending(rec) => {
                if !self.can_publish(rec, decision, to)
                    || !self.log_decision(ctx, rec, decision, false)
                {
                    return Progress::Again;
                }
                self.decide(from, ctx, ticket, rec, decision, 0, to);
            }
            Home::Live(rec) => {
                if !to.can_publish(Accepted::FIXED_LEN + decision.parents.len() * ParentSeq::LEN) {
                    return Progress::Again;
                }
                if !ctx.is_pool() && self.mined_height(rec).is_none() && !self.stands_in(rec, ctx) {
                    self.mine_known(ctx, rec, decision, to);
                } else {
                    self.counts.decided_again += 1;
                }
                self.reply_decided(from, ticket, rec, to);
            }
            Home::Later => return Progress::Again,
            Home::Refused => {
                self.counts.refused += 1;
                to.reply(from, &Reply::Refused { ticket });
            }
        }
        Progress::Done
    }

    /// Reserves, decides and spends at once; if any input is refused, a reserve of all.
    pub(crate) fn commit(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        txid: &TxId,
        inputs: &List<'_, InputRef>,
        decision: &Decision<'_>,
        to: &mut impl Outbox,
    ) -> Progress {
        // Decided before: its inputs say by whom they are spent, and the coordinator sees that it was itself.
        let decided = self.table.find(txid).is_some_and(|rec| self.table.is(rec, flag::LIVE));
        let all = !decided
            && inputs.iter().all(|input| {
                matches!(self.hold(from, ctx, ticket, txid, &input), Hold::Granted { .. })
            });
        if !all {
            assert!(self.log.midway() != Some(*txid), "{txid} lost a coin while it was logged");
            return self.reserve(from, ctx, ticket, txid, inputs, to);
        }
        let rec = match self.home(from, ctx, ticket, txid, decision) {
            Home::Pending(rec)
                if self.can_publish(rec, decision, to)
                    && self.log_decision(ctx, rec, decision, true) =>
            {
                rec
            }
            Home::Pending(_) | Home::Live(_) | Home::Later => return Progress::Again,
            Home::Refused => {
                for input in inputs.iter() {
                    self.release(from, ticket, input.vin, &input.outpoint);
                }
                self.counts.refused += 1;
                to.reply(from, &Reply::Refused { ticket });
                return Progress::Done;
            }
        };
        let publish_seq = self.publish_seq + 1;
        for input in inputs.iter() {
            let spent = SpentInput { vin: input.vin, outpoint: input.outpoint };
            self.spend(from, ctx, ticket, txid, publish_seq, &spent);
        }
        self.decide(from, ctx, ticket, rec, decision, publish_seq, to);
        Progress::Done
    }

    /// The record to decide on, made from the decision's bytes if nothing was announced.
    fn home(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        txid: &TxId,
        decision: &Decision<'_>,
    ) -> Home {
        let known = |shard: &Self| {
            let rec = shard.table.find(txid)?;
            if shard.table.is(rec, flag::PENDING) {
                Some(Home::Pending(rec))
            } else if shard.table.is(rec, flag::LIVE) {
                Some(Home::Live(rec))
            } else {
                None
            }
        };
        if let Some(home) = known(self) {
            return home;
        }
        if decision.tx.is_empty() {
            return Home::Refused;
        }
        match self.build_begin(from, ctx, ticket, txid, decision.tx, 0) {
            Built::Ready => known(self).unwrap_or(Home::Refused),
            Built::Later => Home::Later,
            Built::Refused => Home::Refused,
        }
    }

    fn can_publish(&self, rec: Rec, decision: &Decision<'_>, to: &mut impl Outbox) -> bool {
        let (_, raw_len) = self.table.raw(rec);
        to.can_publish(Accepted::FIXED_LEN + decision.parents.len() * ParentSeq::LEN + raw_len)
    }

    fn stands_in(&self, rec: Rec, ctx: &Context) -> bool {
        self.table.block(rec) == ctx.block && !self.table.is(rec, flag::BLOCK_PENDING)
    }

    /// Turns a pending record into the decision and publishes it.
    pub(crate) fn decide(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        rec: Rec,
        decision: &Decision<'_>,
        expected_seq: u64,
        to: &mut impl Outbox,
    ) {
        assert!(decision.parents.len() <= PARENTS_MAX, "more parents' positions than shards");
        let (raw, raw_len) = self.table.raw(rec);
        let value_sat = self.table.pending_value_sat(rec);
        self.publish_seq += 1;
        assert!(
            expected_seq == 0 || expected_seq == self.publish_seq,
            "a commit spends as the decision it makes"
        );
        let mut flags = self.table.flags(rec) & !flag::PENDING | flag::LIVE;
        if ctx.is_pool() {
            flags |= flag::POOL;
        }
        self.table.put_flags(rec, flags);
        self.table.put_kept_until(rec, 0);
        self.table.put_publish_seq(rec, self.publish_seq);
        let rule_set = self.rule_set_number(ctx);
        self.table.put_rule_set(rec, rule_set);
        self.table.put_epoch_number(rec, self.epoch.number);
        if expected_seq != 0 {
            self.table.put_spends_done(rec);
        }
        self.table.put_block(rec, ctx.block);
        self.table.put_height(rec, if ctx.is_pool() { 0 } else { ctx.height });
        self.block_max = self.block_max.max(ctx.block);
        let unspent = u64::from(self.table.unspent(rec));
        self.totals.announced -= 1;
        self.totals.transactions += 1;
        self.totals.utxos += unspent;
        self.totals.value_sat += value_sat;
        // A commit's spends are logged with it; the spends of a settle are still to be reported.
        self.totals.spends_outstanding += u64::from(expected_seq == 0);
        self.counts.decided += 1;
        let kind = if ctx.is_pool() { AcceptedKind::Pool } else { AcceptedKind::Block };
        to.publish(&Accepted {
            kind,
            shard: self.shard,
            block: ctx.block,
            publish_seq: self.publish_seq,
            epoch: self.epoch,
            fee_sat: decision.fee_sat,
            txid: self.table.txid(rec),
            parents: decision.parents,
            tx: self.table.slab.slice(raw, 0, raw_len),
        });
        self.table.slab.free(raw, raw_len);
        self.ripen(rec, WakeReason::Free);
        self.reply_decided(from, ticket, rec, to);
    }

    /// A transaction known from the pool is settled in a block's context: it stands there from now on.
    fn mine_known(
        &mut self,
        ctx: &Context,
        rec: Rec,
        decision: &Decision<'_>,
        to: &mut impl Outbox,
    ) {
        let flags = self.table.flags(rec);
        self.table.put_flags(rec, flags & !flag::BLOCK_PENDING);
        self.table.put_block(rec, ctx.block);
        self.table.put_height(rec, ctx.height);
        self.publish_seq += 1;
        let (txid, block, height) = (self.table.txid(rec), ctx.block, ctx.height);
        self.block_max = self.block_max.max(block);
        self.log.push(&Record::Known { txid, block, height });
        self.counts.decided += 1;
        to.publish(&Accepted {
            kind: AcceptedKind::Block,
            shard: self.shard,
            block: ctx.block,
            publish_seq: self.publish_seq,
            epoch: self.epoch,
            fee_sat: decision.fee_sat,
            txid: self.table.txid(rec),
            parents: decision.parents,
            tx: &[],
        });
        self.ripen(rec, WakeReason::Free);
    }

    fn reply_decided(&mut self, from: u16, ticket: Ticket, rec: Rec, to: &mut impl Outbox) {
        let epoch =
            Epoch { incarnation: self.epoch.incarnation, number: self.table.epoch_number(rec) };
        let publish_seq = self.table.publish_seq(rec);
        let from_pool = self.table.is(rec, flag::POOL);
        to.reply(from, &Reply::Decided { ticket, epoch, publish_seq, from_pool });
    }

    /// Home has decided: what `ticket` holds is spent. A repetition changes nothing, and is false.
    pub(crate) fn spend(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        txid: &TxId,
        publish_seq: u64,
        input: &SpentInput,
    ) -> bool {
        let outpoint = &input.outpoint;
        let rec = self.table.find(&outpoint.txid);
        let rec = rec.expect("a coin that is spent was reserved, so its record is there");
        let vout = outpoint.vout;
        let bits = self.coin_bits(rec, vout).expect("a coin that is spent was reserved");
        let spent = self.newest_spend(rec, vout, bits);
        if spent.is_some_and(|claim| self.table.claimant(claim) == *txid) {
            return false;
        }
        let claim = self.table.claim(rec, vout);
        assert!(
            bits & out::HELD != 0
                && self.table.claimant(claim) == *txid
                && self.table.claim_validator(claim) == from
                && self.table.claim_ticket(claim) == ticket,
            "{txid} spends {outpoint} without its reservation ({ticket:?} of validator {from})"
        );
        self.spend_claim(rec, vout, claim, ctx, publish_seq);
        true
    }

    /// A coordinator reports that all spends of a decision made here are logged.
    pub(crate) fn spends_logged(&mut self, txid: &TxId, epoch: Epoch) {
        self.meet_epoch(epoch);
        self.spends_epoch = self.spends_epoch.max(epoch);
        if let Some(rec) = self.table.find(txid).filter(|&rec| self.table.is(rec, flag::LIVE)) {
            self.totals.spends_outstanding = self.totals.spends_outstanding.saturating_sub(1);
            self.counts.spends_logged += 1;
            if self.log.is_on() {
                // From here on the record's epoch is that in which the last of all this was logged.
                let newest = self.table.epoch_number(rec).max(epoch.number);
                self.table.put_epoch_number(rec, newest);
                self.table.put_spends_done(rec);
            }
        }
    }
}
