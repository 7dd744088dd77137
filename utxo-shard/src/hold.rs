//! Holding coins: reserve, the wait lists, release, watch.
//!
//! The rules (design section 4 step 5; explored exhaustively in `protocol-models/m5`): a reservation belongs to (txid,
//! coordinator, attempt) and only its coordinator ends it. Of two that want the same coin the smaller id keeps what it holds and
//! queues; the larger yields: it releases everything else and stays in the list. A freed coin goes to the smallest id in the queue,
//! and everybody in the queue who is larger than the new holder is told `Busy(new)` and becomes one who yielded. When nobody is
//! in the queue the coin is free and all who yielded are woken. When it is spent all are told so. A wait is on a coin, never on
//! another transaction's decision.

use crate::config::{COIN_WAITERS_MAX, TX_WAITERS_MAX};
use crate::journal::Record;
use crate::shard::{COIN_REPLY_BYTES, Found, Outbox, Progress, SHORT_REPLY_BYTES, Shard};
use crate::table::{Claim, Rec, Table, flag, out};
use crate::waits::{Kind, NOBODY, News, Waiter, WaiterId};
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::request::List;
use dataplane::msg::{Context, Expect, InputRef, InputVerdict, Reply, Ticket, WakeReason};

/// What a reserve of one input comes to, before anybody is put into a list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    /// It is the asker's now (or was already).
    Granted { parent_seq: u64 },
    /// Not to be had.
    No(InputVerdict),
    /// Not the coin the scripts were run with.
    Differs(Found),
    /// Held by another attempt.
    Held(Claim),
    /// Its transaction is not decided.
    Undecided(Rec),
}

/// The inputs from `first` on.
pub(crate) fn from_input(inputs: List<'_, InputRef>, first: usize) -> List<'_, InputRef> {
    match inputs {
        List::Wire(bytes) => List::Wire(&bytes[first * InputRef::LEN..]),
        List::Own(items) => List::Own(&items[first..]),
    }
}

impl Shard {
    /// Reserves inputs, each answered by itself. Stops when the outbox is full.
    pub(crate) fn reserve(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        txid: &TxId,
        inputs: &List<'_, InputRef>,
        to: &mut impl Outbox,
    ) -> Progress {
        for (i, input) in inputs.iter().enumerate() {
            if !to.has_room(from) {
                return Progress::From(i);
            }
            if !self.reserve_input(from, ctx, ticket, txid, &input, to) {
                return Progress::From(i);
            }
        }
        Progress::Done
    }

    /// One input; false if there is no room for the answer, and nothing was done.
    fn reserve_input(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        txid: &TxId,
        input: &InputRef,
        to: &mut impl Outbox,
    ) -> bool {
        let vin = input.vin;
        let verdict = match self.hold(from, ctx, ticket, txid, input) {
            Hold::Granted { parent_seq } => InputVerdict::Reserved { parent_seq },
            Hold::No(verdict) => verdict,
            Hold::Differs(found) => {
                let mut scratch = crate::form::SCRATCH;
                let coin = self.coin_reply(found, ctx, &mut scratch);
                let bytes = coin.locking_script.len() + COIN_REPLY_BYTES;
                if bytes > SHORT_REPLY_BYTES && !to.has_room_for(from, bytes) {
                    return false;
                }
                to.reply(from, &Reply::Differs { ticket, vin, coin });
                self.counts.differs += 1;
                return true;
            }
            Hold::Held(claim) => {
                let by = self.table.claimant(claim);
                let kind = if *txid < by { Kind::Queue } else { Kind::Yielded };
                let waiter = Waiter {
                    expect: input.expect,
                    block: ctx.block,
                    height: ctx.height,
                    ..Waiter::new(from, ticket, *txid, vin, kind)
                };
                if self.wait_for_coin(claim, waiter) {
                    self.counts.busy += 1;
                    InputVerdict::Busy { by }
                } else {
                    InputVerdict::Overloaded
                }
            }
            Hold::Undecided(rec) => {
                let waiter = Waiter::new(from, ticket, *txid, vin, Kind::Parent);
                if self.wait_for_tx(rec, waiter) {
                    InputVerdict::ParentInFlight
                } else {
                    InputVerdict::Overloaded
                }
            }
        };
        match verdict {
            InputVerdict::Missing => self.counts.missing += 1,
            InputVerdict::Spent { .. } => self.counts.found_spent += 1,
            InputVerdict::Overloaded => self.counts.overloaded += 1,
            _ => {}
        }
        to.reply(from, &Reply::Input { ticket, vin, verdict });
        true
    }

    /// Takes one coin if it is to be had; nobody is put into a list here.
    pub(crate) fn hold(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        txid: &TxId,
        input: &InputRef,
    ) -> Hold {
        let Some(rec) = self.table.find(&input.outpoint.txid) else {
            return Hold::No(InputVerdict::Missing);
        };
        let vout = input.outpoint.vout;
        let Some(bits) = self.coin_bits(rec, vout) else { return Hold::No(InputVerdict::Missing) };
        if self.table.is(rec, flag::PENDING) || self.is_pending_in(rec, ctx) {
            return Hold::Undecided(rec);
        }
        if !self.exists_in(rec, ctx) {
            return Hold::No(InputVerdict::Missing);
        }
        if let Some(claim) = self.spender(rec, vout, bits, ctx) {
            return Hold::No(InputVerdict::Spent { by: self.table.claimant(claim) });
        }
        if let Some(by_self) = self.note_own_spend(rec, vout, bits, ctx, txid) {
            return Hold::No(by_self);
        }
        if let Err(verdict) = self.may_spend(rec, vout, bits, ctx) {
            return Hold::No(verdict);
        }
        if self.differs(rec, vout, bits, ctx, &input.expect) {
            return Hold::Differs(Found { rec, vout, pending: false });
        }
        let top = self.table.claim(rec, vout);
        if bits & out::HELD != 0 {
            let same = self.table.claimant(top) == *txid
                && self.table.claim_validator(top) == from
                && self.table.claim_ticket(top).slot == ticket.slot;
            if !same {
                return Hold::Held(top);
            }
            // Asked again, or by a later attempt that found no need to release.
            self.table.put_holder(top, txid, from, ticket, input.vin, ctx.block);
            return Hold::Granted { parent_seq: self.parent_seq(rec) };
        }
        let Some(claim) = self.table.alloc_claim(txid, from, ticket, input.vin, ctx.block) else {
            return Hold::No(InputVerdict::Overloaded);
        };
        self.table.put_prior(claim, top);
        self.table.put_claim(rec, vout, claim);
        self.table.put_output(rec, vout, bits | out::HELD);
        self.totals.reserved += 1;
        self.counts.reserved += 1;
        if bits & out::SPENT != 0 {
            // Only a block takes a coin that the pool has spent.
            let (block, coins) = self.overruled;
            self.overruled = (ctx.block, if block == ctx.block { coins + 1 } else { 1 });
        }
        Hold::Granted { parent_seq: self.parent_seq(rec) }
    }

    /// In a block's context a coin that the asker itself has spent from the pool is `Spent` by the asker, and the spend is the
    /// block's from now on.
    fn note_own_spend(
        &mut self,
        rec: Rec,
        vout: u32,
        bits: u64,
        ctx: &Context,
        txid: &TxId,
    ) -> Option<InputVerdict> {
        let claim = self.newest_spend(rec, vout, bits)?;
        if self.table.claimant(claim) != *txid {
            return None;
        }
        let top = self.table.claim(rec, vout);
        if bits & out::HELD != 0 && self.table.claimant(top) != *txid {
            // A rival in the same block holds the coin over the pool's spend: whoever of the two it is, it is not both.
            return None;
        }
        if self.table.claim_block(claim) != ctx.block {
            self.table.put_claim_block(claim, ctx.block);
            self.block_max = self.block_max.max(ctx.block);
            let outpoint = OutPoint { txid: self.table.txid(rec), vout };
            self.log.push(&Record::BlockSpend { outpoint, by: *txid, block: ctx.block });
        }
        Some(InputVerdict::Spent { by: *txid })
    }

    fn differs(&self, rec: Rec, vout: u32, bits: u64, ctx: &Context, expect: &Expect) -> bool {
        if !expect.proven {
            return false;
        }
        let height = self.coin_height(rec, ctx);
        let mut scratch = crate::form::SCRATCH;
        Table::value_sat(bits) != expect.value_sat
            || self.table.is(rec, flag::COINBASE) != expect.coinbase
            || self.params.era(height) as u8 != expect.coin_era
            || (expect.height_matters && height != expect.coin_height)
            || self.partition.script_tag(self.table.script(rec, vout, &mut scratch))
                != expect.script_tag
    }

    fn parent_seq(&self, rec: Rec) -> u64 {
        if self.mined_height(rec).is_some() { 0 } else { self.table.publish_seq(rec) }
    }

    fn wait_for_coin(&mut self, claim: Claim, waiter: Waiter) -> bool {
        let list = (self.table.claim_waiters(claim), self.table.claim_waiting(claim));
        let Some((head, count)) = self.waits.join(list, COIN_WAITERS_MAX, waiter) else {
            return false;
        };
        self.table.put_claim_waiters(claim, head);
        self.table.put_claim_waiting(claim, count);
        true
    }

    fn wait_for_tx(&mut self, rec: Rec, waiter: Waiter) -> bool {
        let list = (self.table.waiters(rec), self.table.waiting(rec));
        let Some((head, count)) = self.waits.join(list, TX_WAITERS_MAX, waiter) else {
            return false;
        };
        self.table.put_waiters(rec, head);
        self.table.put_waiting(rec, count);
        true
    }

    /// Ends holds and entries of this attempt, and older ones of its slot, on one coin.
    ///
    /// Two inputs may wait for two outputs of one parent: of this attempt only the entry of input `vin` ends.
    pub(crate) fn release(&mut self, from: u16, ticket: Ticket, vin: u32, outpoint: &OutPoint) {
        let Some(rec) = self.table.find(&outpoint.txid) else { return };
        if self.table.waiting(rec) > 0 {
            let head = self.table.waiters(rec);
            let ends = |w: &Waiter| {
                w.kind == Kind::Parent
                    && w.ends_with(from, ticket)
                    && (w.vin == vin || w.ticket != ticket)
            };
            let (head, gone) = self.waits.retain(head, ends);
            let left = self.table.waiting(rec) - gone;
            self.table.put_waiters(rec, head);
            self.table.put_waiting(rec, left);
            self.drop_idle_anchor(rec);
        }
        let Some(rec) = self.table.find(&outpoint.txid) else { return };
        let vout = outpoint.vout;
        let Some(bits) = self.coin_bits(rec, vout) else { return };
        if bits & out::HELD == 0 {
            return;
        }
        let claim = self.table.claim(rec, vout);
        if self.table.claim_waiting(claim) > 0 {
            let head = self.table.claim_waiters(claim);
            let (head, gone) = self.waits.retain(head, |w| w.ends_with(from, ticket));
            let left = self.table.claim_waiting(claim) - gone;
            self.table.put_claim_waiters(claim, head);
            self.table.put_claim_waiting(claim, left);
        }
        let held = self.table.claim_ticket(claim);
        if self.table.claim_validator(claim) == from
            && held.slot == ticket.slot
            && held.attempt <= ticket.attempt
        {
            self.counts.released += 1;
            self.hand_over(rec, vout, claim);
        }
    }

    /// The holder is gone: the coin goes to the smallest id in its queue, or becomes free.
    fn hand_over(&mut self, rec: Rec, vout: u32, claim: Claim) {
        loop {
            let Some(heir) = self.smallest_in_queue(claim) else {
                self.free_coin(rec, vout, claim);
                return;
            };
            let waiter = *self.waits.get(heir);
            self.unlist_from_claim(claim, heir);
            let ctx = Context { block: waiter.block, height: waiter.height, ..Context::default() };
            let bits = self.table.output(rec, vout);
            // Who has spent it already notes that it has: it asks again.
            let own = self.newest_spend(rec, vout, bits).map(|spend| self.table.claimant(spend));
            let can = own != Some(waiter.txid)
                && self.exists_in(rec, &ctx)
                && self.spender(rec, vout, bits, &ctx).is_none()
                && self.may_spend(rec, vout, bits, &ctx).is_ok()
                && !self.differs(rec, vout, bits, &ctx, &waiter.expect);
            if !can {
                // Something changed while it waited; it asks again and is told what.
                self.waits.tell(heir, News::Wake(WakeReason::Free));
                continue;
            }
            self.table.put_holder(
                claim,
                &waiter.txid,
                waiter.validator,
                waiter.ticket,
                waiter.vin,
                waiter.block,
            );
            self.counts.reserved += 1;
            let parent_seq = self.parent_seq(rec);
            self.waits.tell(heir, News::Granted { parent_seq });
            self.tell_larger(claim, &waiter.txid);
            return;
        }
    }

    fn smallest_in_queue(&self, claim: Claim) -> Option<WaiterId> {
        self.waits
            .list(self.table.claim_waiters(claim))
            .filter(|&id| self.waits.get(id).kind == Kind::Queue)
            .min_by_key(|&id| self.waits.get(id).txid)
    }

    /// Takes one entry out of a coin's list; what it is told comes next.
    fn unlist_from_claim(&mut self, claim: Claim, id: WaiterId) {
        let head = self.table.claim_waiters(claim);
        let next = self.waits.get(id).next;
        if head == id {
            self.table.put_claim_waiters(claim, next);
        } else {
            let before = self.waits.list(head).find(|&w| self.waits.get(w).next == id);
            let before = before.expect("an entry of a list has one before it");
            self.waits.get_mut(before).next = next;
        }
        let left = self.table.claim_waiting(claim) - 1;
        self.table.put_claim_waiting(claim, left);
    }

    /// Everybody in the queue who is larger than the new holder yields.
    fn tell_larger(&mut self, claim: Claim, holder: &TxId) {
        let mut at = self.table.claim_waiters(claim);
        while at != NOBODY {
            let Waiter { next, kind, txid, .. } = *self.waits.get(at);
            if kind == Kind::Queue && txid > *holder {
                self.waits.get_mut(at).kind = Kind::Yielded;
                self.waits.tell_and_keep(at, News::Busy { by: *holder });
            }
            at = next;
        }
    }

    fn free_coin(&mut self, rec: Rec, vout: u32, claim: Claim) {
        let mut at = self.table.claim_waiters(claim);
        while at != NOBODY {
            let next = self.waits.get(at).next;
            self.waits.tell(at, News::Wake(WakeReason::Free));
            at = next;
        }
        let bits = self.table.output(rec, vout);
        let prior = self.table.prior(claim);
        self.table.put_claim(rec, vout, prior);
        self.table.put_output(rec, vout, bits & !out::HELD);
        self.table.free_claim(claim);
        self.totals.reserved -= 1;
    }

    /// Registers an orphan's watch, or wakes it at once if there is news already.
    pub(crate) fn watch(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        outpoint: &OutPoint,
        to: &mut impl Outbox,
    ) {
        let waiter = Waiter {
            block: ctx.block,
            height: ctx.height,
            ..Waiter::new(from, ticket, outpoint.txid, outpoint.vout, Kind::Orphan)
        };
        if self.waits.is_full() {
            self.counts.overloaded += 1;
            let verdict = InputVerdict::Overloaded;
            to.reply(from, &Reply::Input { ticket, vin: u32::MAX, verdict });
            return;
        }
        if let Some(news) = self.orphan_news(ctx, &outpoint.txid, outpoint.vout) {
            let id = self.waits.add(waiter, NOBODY);
            self.waits.tell(id, news);
            return;
        }
        let registered = match self.anchor(&outpoint.txid) {
            Some(rec) => self.wait_for_tx(rec, waiter),
            None => false,
        };
        if !registered {
            self.counts.overloaded += 1;
            let id = self.waits.add(waiter, NOBODY);
            self.waits.tell(id, News::Overloaded);
        }
    }

    /// Ends an orphan's watch.
    pub(crate) fn unwatch(&mut self, from: u16, ticket: Ticket, outpoint: &OutPoint) {
        let ends = |w: &Waiter| {
            w.kind == Kind::Orphan && w.vin == outpoint.vout && w.ends_with(from, ticket)
        };
        // One that is on its way to be told would otherwise be put back to watch, and stay for good.
        self.waits.retain_ripe(&outpoint.txid, ends);
        let Some(rec) = self.table.find(&outpoint.txid) else { return };
        let head = self.table.waiters(rec);
        let (head, gone) = self.waits.retain(head, ends);
        let left = self.table.waiting(rec) - gone;
        self.table.put_waiters(rec, head);
        self.table.put_waiting(rec, left);
        self.drop_idle_anchor(rec);
    }

    /// A held coin is spent by its holder: the claim becomes the spend, and everybody who waited is told.
    pub(crate) fn spend_claim(
        &mut self,
        rec: Rec,
        vout: u32,
        claim: Claim,
        ctx: &Context,
        publish_seq: u64,
    ) {
        let bits = self.table.output(rec, vout);
        let by = self.table.claimant(claim);
        self.table.put_claim_block(claim, ctx.block);
        self.table.put_claim_publish_seq(claim, if ctx.is_pool() { publish_seq } else { 0 });
        let mut at = self.table.claim_waiters(claim);
        while at != NOBODY {
            let Waiter { next, block, .. } = *self.waits.get(at);
            // A block does not see the pool's spends: it asks again.
            let seen = block == 0 || block == ctx.block;
            let news = if seen { News::Spent { by } } else { News::Wake(WakeReason::Free) };
            self.waits.tell(at, news);
            at = next;
        }
        self.table.put_claim_waiters(claim, NOBODY);
        self.table.put_claim_waiting(claim, 0);
        if bits & out::SPENT == 0 {
            let unspent = self.table.unspent(rec) - 1;
            self.table.put_unspent(rec, unspent);
            self.totals.utxos -= 1;
            self.totals.value_sat -= Table::value_sat(bits);
        }
        self.table.put_output(rec, vout, bits & !out::HELD | out::SPENT);
        self.totals.reserved -= 1;
        self.counts.spent += 1;
    }
}
