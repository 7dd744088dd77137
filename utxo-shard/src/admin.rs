//! Orders and questions of the control plane: import, coinbase, mined, freeze, epochs, queries.

use crate::build::Built;
use crate::config::IMPORT_VOUT_MAX;
use crate::form::Scratch;
use crate::journal::{ImportRecord, Record};
use crate::shard::{Found, Outbox, Shard};
use crate::table::{Rec, Table, flag, out};
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::admin::{Admin, AdminReply};
use dataplane::msg::reply::CoinReply;
use dataplane::msg::{Context, Ticket, WakeReason};

/// What became of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminOutcome {
    /// Carried out, or answered.
    Done,
    /// Not: no room, not found, or in the wrong state. Counted.
    Refused,
    /// A record is being created in pieces: call [`Shard::step`], then hand the order in again.
    Again,
}

impl Shard {
    /// One order, at the context of its batch; answers to questions go to `answer`.
    pub fn admin(
        &mut self,
        ctx: &Context,
        order: &Admin<'_>,
        to: &mut impl Outbox,
        answer: &mut impl FnMut(&AdminReply<'_>),
    ) -> AdminOutcome {
        if self.build.is_some() || (self.log.is_on() && !self.log_admits_order(order)) {
            return AdminOutcome::Again;
        }
        self.table.draw_on_reserve(!ctx.is_pool());
        let done = match *order {
            Admin::Import { outpoint, value_sat, height, coinbase, locking_script } => {
                self.import(&outpoint, value_sat, height, coinbase, locking_script)
            }
            Admin::Coinbase { txid, tx } => match self.coinbase(ctx, &txid, tx) {
                AdminOutcome::Again => return AdminOutcome::Again,
                outcome => outcome == AdminOutcome::Done,
            },
            Admin::SetMined { shard, block, height, from_seq, to_seq } => {
                self.set_mined(shard, block, height, from_seq, to_seq)
            }
            Admin::UnsetMined { block } => self.unset_mined(block),
            Admin::Freeze { outpoint, frozen } => self.mark(&outpoint, out::FROZEN, frozen),
            Admin::NextEpoch { epoch } => {
                let newer = epoch > self.epoch && epoch.incarnation == self.epoch.incarnation;
                if newer {
                    self.meet_epoch(epoch);
                }
                newer
            }
            Admin::Query { .. } | Admin::QueryMined { .. } => {
                let mut scratch = crate::form::SCRATCH;
                let coin = self.coin_answer(ctx, order, &mut scratch);
                answer(&coin.expect("both ask for a coin"));
                true
            }
            Admin::Totals { token } => {
                let t = self.totals();
                answer(&AdminReply::Totals {
                    token,
                    utxos: t.utxos,
                    transactions: t.transactions,
                    value_sat: t.value_sat,
                    reserved: t.reserved,
                    announced: t.announced,
                    waiting: t.waiting,
                    publish_seq: t.publish_seq,
                });
                true
            }
            Admin::Barrier { number } => {
                // Asked again until it is so: that is no failure.
                let passed = self.has_passed(number);
                return if passed { AdminOutcome::Done } else { AdminOutcome::Refused };
            }
            Admin::Tip { tip } => {
                self.take_tip(&tip);
                true
            }
            // For who keeps a journal; there is nothing in the table to do.
            Admin::Together { .. } => true,
            Admin::Lock { outpoint, locked } => self.lock(&outpoint, locked),
            Admin::Preserve { txid, until_height } => self.preserve(&txid, until_height),
            Admin::Evict { token, txid, from_vout } => {
                let step = self.evict(&txid, from_vout, to);
                answer(&AdminReply::Evict { token, step });
                true
            }
            Admin::Unspend { token, outpoint, by } => {
                answer(&AdminReply::Unspent { token, state: self.unspend(&outpoint, &by) });
                true
            }
            Admin::Where { token, txid } => {
                answer(&AdminReply::Where { token, at: self.whereabouts(&txid) });
                true
            }
            Admin::Unmine { token, txid } => {
                answer(&AdminReply::Unmined { token, publish_seq: self.unmine(&txid) });
                true
            }
            Admin::Respend { token, outpoint, by, publish_seq } => {
                let (state, value_sat) = self.respend(&outpoint, &by, publish_seq);
                answer(&AdminReply::Respent { token, state, value_sat });
                true
            }
            Admin::Overruled { token, block } => {
                let coins = if self.overruled.0 == block { self.overruled.1 } else { 0 };
                answer(&AdminReply::Overruled { token, coins });
                true
            }
            Admin::Loser { token, outpoint, by } => {
                answer(&AdminReply::Spender { token, by: self.loser(&outpoint, &by) });
                true
            }
            Admin::Spender { token, outpoint } => {
                answer(&AdminReply::Spender { token, by: self.unmined_spender(&outpoint) });
                true
            }
            Admin::Prune { token, from, most, height } => {
                let step = self.prune(from as usize, most as usize, height);
                let next = step.next.map_or(u64::MAX, |next| next as u64);
                answer(&AdminReply::Pruned { token, next, pruned: step.pruned });
                true
            }
        };
        if done {
            return AdminOutcome::Done;
        }
        self.counts.admin_refused += 1;
        AdminOutcome::Refused
    }

    /// The answer to a question about a coin; `None` to every other order.
    pub(crate) fn coin_answer<'a>(
        &'a self,
        ctx: &Context,
        order: &Admin<'_>,
        scratch: &'a mut Scratch,
    ) -> Option<AdminReply<'a>> {
        let (token, found, is_mined) = match *order {
            Admin::Query { token, outpoint } => (token, self.find_unspent(&outpoint), false),
            Admin::QueryMined { token, outpoint } => (token, self.find_mined(&outpoint), true),
            _ => return None,
        };
        let coin = found.map(|found| {
            let pending = !is_mined && self.mined_height(found.rec).is_none();
            CoinReply { pending, ..self.coin_reply(found, ctx, scratch) }
        });
        Some(AdminReply::Coin { token, coin })
    }

    /// Lets nobody take a coin until it is unlocked again (Teranode's `TX_LOCKED`); false if it is spent, held, or not there.
    pub fn lock(&mut self, outpoint: &OutPoint, locked: bool) -> bool {
        self.mark(outpoint, out::LOCKED, locked)
    }

    fn mark(&mut self, outpoint: &OutPoint, bit: u64, on: bool) -> bool {
        let Some(rec) = self.table.find(&outpoint.txid) else { return false };
        let Some(bits) = self.coin_bits(rec, outpoint.vout) else { return false };
        if !self.table.is(rec, flag::LIVE) || bits & (out::SPENT | out::HELD) != 0 {
            return false;
        }
        if (bits & bit != 0) == on {
            return false;
        }
        self.table.put_output(rec, outpoint.vout, bits ^ bit);
        self.log_marks(outpoint, bits ^ bit);
        true
    }

    /// Puts a block on the chain, and publications of a shard into it.
    pub(crate) fn set_mined(
        &mut self,
        shard: u16,
        block: u32,
        height: u32,
        from_seq: u64,
        to_seq: u64,
    ) -> bool {
        let set = self.mined.set(shard, block, height, from_seq, to_seq);
        if set {
            self.block_max = self.block_max.max(block);
            self.log.push(&Record::Mined { shard, block, height, from_seq, to_seq });
        }
        set
    }

    /// Takes the newest block off the chain.
    pub(crate) fn unset_mined(&mut self, block: u32) -> bool {
        let unset = self.mined.unset(block);
        if unset {
            self.log.push(&Record::NotMined { block });
        }
        unset
    }

    fn find_unspent(&self, outpoint: &OutPoint) -> Option<Found> {
        let rec = self.table.find(&outpoint.txid)?;
        let bits = self.coin_bits(rec, outpoint.vout)?;
        let there = self.table.is(rec, flag::LIVE) && bits & out::SPENT == 0;
        there.then_some(Found { rec, vout: outpoint.vout, pending: false })
    }

    /// A coin of a block that no block has spent.
    fn find_mined(&self, outpoint: &OutPoint) -> Option<Found> {
        let rec = self.table.find(&outpoint.txid)?;
        let bits = self.coin_bits(rec, outpoint.vout)?;
        // Of no block that there is: what is mined counts, and nothing else.
        let nowhere = Context { block: u32::MAX, ..Context::default() };
        let there = self.table.is(rec, flag::LIVE)
            && self.mined_height(rec).is_some()
            && self.spender(rec, outpoint.vout, bits, &nowhere).is_none();
        there.then_some(Found { rec, vout: outpoint.vout, pending: false })
    }

    /// One coin of a mined transaction, by itself; false if there is no room or it contradicts what is known.
    pub fn import(
        &mut self,
        outpoint: &OutPoint,
        value_sat: u64,
        height: u32,
        coinbase: bool,
        locking_script: &[u8],
    ) -> bool {
        let vout = outpoint.vout;
        if vout > IMPORT_VOUT_MAX || value_sat >> out::VALUE_BITS != 0 {
            return false;
        }
        let found = self.import_record(&outpoint.txid, vout, height, coinbase);
        let Some((rec, is_new)) = found else { return false };
        if self.table.output(rec, vout) & out::COIN != 0
            || !self.table.write_coin_apart(rec, vout, value_sat, locking_script)
        {
            if is_new {
                self.drop_empty_import(rec);
            }
            return false;
        }
        let unspent = self.table.unspent(rec) + 1;
        self.table.put_unspent(rec, unspent);
        self.totals.utxos += 1;
        self.totals.value_sat += value_sat;
        self.ripen(rec, WakeReason::Free);
        let outpoint = *outpoint;
        let record = ImportRecord { outpoint, value_sat, height, coinbase, locking_script };
        self.log.push(&Record::Import(record));
        true
    }

    /// The record of an imported transaction, with room for output `vout`.
    fn import_record(
        &mut self,
        txid: &TxId,
        vout: u32,
        height: u32,
        coinbase: bool,
    ) -> Option<(Rec, bool)> {
        let found = self.table.find(txid);
        if let Some(rec) = found.filter(|&rec| !self.table.is(rec, flag::ANCHOR)) {
            let same = self.table.imported(rec) == 1
                && self.table.height(rec) == height
                && self.table.is(rec, flag::COINBASE) == coinbase;
            if !same {
                return None;
            }
            // Only records made by imports grow: others hold all their outputs.
            return self.table.grow(rec, vout).map(|rec| (rec, false));
        }
        if found.is_none() && self.table.index.is_full() {
            return None;
        }
        let flags = flag::LIVE | flag::SETTLED | if coinbase { flag::COINBASE } else { 0 };
        let rec = self.table.alloc(txid, flags, vout + 1, 0)?;
        if self.table.grow(rec, vout).is_none() {
            self.table.dealloc(rec);
            return None;
        }
        self.table.put_height(rec, height);
        self.table.put_imported(rec, 1);
        self.table.enter(rec);
        if found.is_some() {
            self.totals.watched -= 1;
        }
        self.totals.transactions += 1;
        Some((rec, true))
    }

    /// An import for which there was no room leaves nothing behind.
    fn drop_empty_import(&mut self, rec: Rec) {
        self.ripen(rec, WakeReason::Free);
        self.totals.transactions -= 1;
        self.table.remove(rec);
    }

    /// The outputs of a coinbase of the context's block; a context without a block makes it mined for good.
    pub(crate) fn coinbase(&mut self, ctx: &Context, txid: &TxId, tx: &[u8]) -> AdminOutcome {
        let waiting = Ticket::default();
        match self.table.find(txid) {
            Some(rec) if self.table.is(rec, flag::LIVE) => return AdminOutcome::Refused,
            Some(rec) if self.table.is(rec, flag::PENDING) => {}
            _ => match self.build_begin(0, ctx, waiting, txid, tx, flag::COINBASE) {
                Built::Ready => {}
                Built::Later => return AdminOutcome::Again,
                Built::Refused => return AdminOutcome::Refused,
            },
        }
        let Some(rec) = self.table.find(txid).filter(|&r| self.table.is(r, flag::COINBASE)) else {
            return AdminOutcome::Refused;
        };
        let (raw, raw_len) = self.table.raw(rec);
        let value_sat = self.table.pending_value_sat(rec);
        let settled = if ctx.is_pool() { flag::SETTLED } else { 0 };
        self.table.put_flags(rec, flag::LIVE | flag::COINBASE | settled);
        self.table.put_kept_until(rec, 0);
        self.table.put_publish_seq(rec, 0);
        self.table.put_epoch_number(rec, self.epoch.number);
        self.table.put_block(rec, ctx.block);
        self.block_max = self.block_max.max(ctx.block);
        self.table.put_height(rec, ctx.height);
        let tx = self.table.slab.slice(raw, 0, raw_len);
        self.log.push(&Record::Coinbase { context: *ctx, txid: *txid, tx });
        self.table.slab.free(raw, raw_len);
        self.totals.announced -= 1;
        self.totals.transactions += 1;
        self.totals.utxos += u64::from(self.table.unspent(rec));
        self.totals.value_sat += value_sat;
        self.ripen(rec, WakeReason::Free);
        AdminOutcome::Done
    }

    /// Values of all unspent coins and where they are, for tools and tests: slow.
    pub fn for_each_coin(&self, mut each: impl FnMut(OutPoint, u64, &[u8])) {
        for place in 0..self.table.index.places() {
            let rec = Rec(self.table.index.at(place));
            if rec.0 == crate::slab::NONE || !self.table.is(rec, flag::LIVE) {
                continue;
            }
            for vout in 0..self.table.outputs(rec) {
                let bits = self.table.output(rec, vout);
                if bits & out::COIN != 0 && bits & out::SPENT == 0 {
                    let mut scratch = crate::form::SCRATCH;
                    let script = self.table.script(rec, vout, &mut scratch);
                    let outpoint = OutPoint { txid: self.table.txid(rec), vout };
                    each(outpoint, Table::value_sat(bits), script);
                }
            }
        }
    }
}
