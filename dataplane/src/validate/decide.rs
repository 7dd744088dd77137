//! What shards answer, and what follows: reserve, wait, settle, spend. The rules of design section 4, steps 5 to 7.
//!
//! Of two that want one coin the smaller txid keeps what it holds and waits; the larger releases everything else and waits
//! for the coin. A wait is on a coin, never on a decision. Every answer to an older attempt is dropped: attempts of a slot
//! only grow, and a new attempt begins only after everything of the one before was sent.

use super::coordinator::Coordinator;
use super::slot::{Hold, NONE, Ops, Phase, Proof};
use crate::msg::reply::CoinReply;
use crate::msg::verdict::detail;
use crate::msg::{
    BatchReader, Epoch, InputVerdict, Reply, SeenState, Ticket, TxVerdict, VerdictFrag, WakeReason,
};
use consensus::hash::TxId;

/// Slots started anew in one turn.
const READY_PER_TURN_MAX: usize = 64;

impl Coordinator {
    /// A frag of `shard_validate`. False if it is no batch of replies.
    pub fn on_replies(&mut self, frag: &[u8]) -> bool {
        let Some(mut batch) = BatchReader::new(frag) else { return false };
        self.epoch = self.epoch.max(batch.header().epoch);
        while let Some(reply) = batch.next_item::<Reply<'_>>() {
            self.on_reply(&reply);
        }
        batch.is_done()
    }

    fn is_current(&mut self, ticket: Ticket) -> bool {
        let current = self.slots.get(ticket.slot as usize).is_some_and(|s| {
            s.attempt == ticket.attempt
                && !matches!(s.phase, Phase::Free | Phase::Leaving | Phase::Arriving | Phase::Woken)
        });
        self.counts.replies_stale += u64::from(!current);
        current
    }

    fn on_reply(&mut self, reply: &Reply<'_>) {
        let ticket = match reply {
            Reply::Seen { ticket, .. }
            | Reply::Coin { ticket, .. }
            | Reply::Input { ticket, .. }
            | Reply::Differs { ticket, .. }
            | Reply::Decided { ticket, .. }
            | Reply::Refused { ticket }
            | Reply::SpendLogged { ticket, .. }
            | Reply::Wake { ticket, .. } => *ticket,
        };
        if !self.is_current(ticket) {
            return;
        }
        let slot = ticket.slot;
        let phase = self.slots[slot as usize].phase;
        match *reply {
            Reply::Seen { state, .. } => self.on_seen(slot, state),
            Reply::Coin { vin, ref coin, .. } => {
                if phase == Phase::Resolving {
                    self.on_coin(slot, vin, coin);
                } else {
                    self.counts.replies_stale += 1;
                }
            }
            Reply::Input { vin, verdict, .. } => self.on_input(slot, vin, verdict),
            Reply::Differs { vin, ref coin, .. } => {
                if phase == Phase::Reserving {
                    self.on_differs(slot, vin, coin);
                }
            }
            Reply::Decided { epoch, publish_seq, from_pool, .. } => {
                let committing = self.slots[slot as usize].committing;
                if phase == Phase::Settling || phase == Phase::Reserving && committing {
                    self.accept(slot, epoch, publish_seq, from_pool);
                }
            }
            Reply::Refused { .. } => {
                if phase == Phase::Settling || phase == Phase::Reserving {
                    self.conclude(slot, TxVerdict::Overloaded, 0, 0, TxId::ZERO);
                }
            }
            Reply::SpendLogged { epoch, .. } => self.on_spend_logged(slot, epoch),
            Reply::Wake { vin, reason, .. } => self.on_wake(slot, vin, reason),
        }
    }

    fn on_seen(&mut self, slot: u32, state: SeenState) {
        if self.slots[slot as usize].phase != Phase::Resolving {
            return;
        }
        let block = self.slots[slot as usize].block;
        match state {
            SeenState::Unmined { .. } if block == 0 => {
                self.conclude(slot, TxVerdict::Known, 0, 0, TxId::ZERO);
            }
            SeenState::Mined { unspent, .. } => {
                let detail = if block != 0 && unspent { detail::UNSPENT } else { 0 };
                self.conclude(slot, TxVerdict::Known, detail, 0, TxId::ZERO);
            }
            SeenState::Unknown | SeenState::Unmined { .. } => {
                let s = &mut self.slots[slot as usize];
                s.waiting -= 1;
                if block != 0 {
                    // Its scripts were run when the pool took it; they need not be again under the same flags.
                    let rules = s.rule_set;
                    s.trusted =
                        matches!(state, SeenState::Unmined { rule_set, .. } if rule_set == rules);
                    s.ops.add(Ops::RESOLVE);
                    s.cursor = 0;
                    self.pump(slot);
                } else {
                    self.judge(slot);
                }
            }
        }
    }

    fn on_input(&mut self, slot: u32, vin: u32, verdict: InputVerdict) {
        let s = &self.slots[slot as usize];
        let (phase, work, txid) = (s.phase, s.work as usize, s.txid);
        if vin == NONE {
            // Of a watch: the owner has no room for it, so nobody would wake this one.
            if s.watching && verdict == InputVerdict::Overloaded {
                self.slots[slot as usize].watching = false;
                let vin = self.slots[slot as usize].watch_vin;
                self.conclude(slot, TxVerdict::Overloaded, 0, vin, TxId::ZERO);
            }
            return;
        }
        if phase == Phase::Resolving && self.works[work].inputs[vin as usize].proof != Proof::Asked
            || matches!(phase, Phase::Orphan | Phase::Settling | Phase::Spending)
        {
            self.counts.replies_stale += 1;
            return;
        }
        match verdict {
            // In a block: the pool's spend of this very transaction stands, and is the block's.
            InputVerdict::Spent { by } if by == txid && self.slots[slot as usize].block != 0 => {
                match phase {
                    Phase::Reserving => self.on_reserved(slot, vin, 0),
                    Phase::Resolving => self.conclude(slot, TxVerdict::Known, 0, vin, TxId::ZERO),
                    _ => self.counts.replies_stale += 1,
                }
            }
            // These end the transaction wherever it stands.
            InputVerdict::Spent { by } if by == txid => {
                self.conclude(slot, TxVerdict::Known, 0, vin, TxId::ZERO);
            }
            InputVerdict::Spent { by } => self.conclude(slot, TxVerdict::DoubleSpend, 0, vin, by),
            InputVerdict::Frozen => self.conclude(slot, TxVerdict::Frozen, 0, vin, TxId::ZERO),
            InputVerdict::Immature { .. } => {
                self.conclude(slot, TxVerdict::Immature, 0, vin, TxId::ZERO);
            }
            InputVerdict::Locked => self.conclude(slot, TxVerdict::Locked, 0, vin, TxId::ZERO),
            InputVerdict::Overloaded => {
                self.conclude(slot, TxVerdict::Overloaded, 0, vin, TxId::ZERO);
            }
            InputVerdict::Missing => match phase {
                Phase::Resolving => {
                    self.works[work].inputs[vin as usize].proof = Proof::Missing;
                    self.slots[slot as usize].waiting -= 1;
                    self.judge(slot);
                }
                Phase::Reserving | Phase::ParentWait => {
                    self.works[work].inputs[vin as usize].hold = Hold::Nothing;
                    self.miss(slot, vin);
                }
                _ => {}
            },
            InputVerdict::Reserved { parent_seq } => match phase {
                Phase::Reserving => self.on_reserved(slot, vin, parent_seq),
                // Granted before our release of it was read: the release is on its way and ends it.
                _ => self.counts.replies_stale += 1,
            },
            InputVerdict::Busy { by } => {
                // The same transaction may come to the pool and in a block at once: then the block's attempt goes on.
                let yields = txid > by || txid == by && self.slots[slot as usize].block == 0;
                if phase == Phase::Reserving && yields {
                    self.wait_for(slot, vin, Phase::Watching);
                }
            }
            InputVerdict::ParentInFlight => {
                if phase == Phase::Reserving {
                    self.wait_for(slot, vin, Phase::ParentWait);
                }
            }
        }
    }

    fn on_reserved(&mut self, slot: u32, vin: u32, parent_seq: u64) {
        let s = &mut self.slots[slot as usize];
        let inputs = &mut self.works[s.work as usize].inputs;
        let input = &mut inputs[vin as usize];
        if input.hold != Hold::Asked {
            self.counts.replies_stale += 1;
            return;
        }
        input.hold = Hold::Held;
        input.parent_seq = parent_seq;
        s.held += 1;
        if s.held as usize == inputs.len() {
            let (block, rule_set) = (s.block, s.rule_set);
            if rule_set != self.context(block).rule_set {
                // An activation passed while it reserved.
                return self.restart_later(slot, true);
            }
            let s = &mut self.slots[slot as usize];
            s.phase = Phase::Settling;
            s.ops.add(Ops::SETTLE);
            self.drop_liars(slot);
            self.pump(slot);
        }
    }

    /// The coin is not what the scripts were run with; nothing of it is held.
    fn on_differs(&mut self, slot: u32, vin: u32, coin: &CoinReply<'_>) {
        self.counts.differed += 1;
        let tag = self.cfg.partition.script_tag(coin.locking_script);
        let era = self.cfg.params.era(coin.height) as u8;
        let s = &self.slots[slot as usize];
        let (work, height_matters, inputs_only) =
            (s.work as usize, s.height_matters, s.inputs_only);
        let context = self.context(s.block);
        let input = &mut self.works[work].inputs[vin as usize];
        let same = input.value_sat == coin.value_sat && input.script_tag == tag;
        let same_era = input.era == era;
        input.hold = Hold::Nothing;
        if !same || height_matters {
            // Claims were wrong, or relative locks have to be judged anew: from the coins, in a new attempt.
            self.slots[slot as usize].claims = false;
            return self.restart_later(slot, true);
        }
        input.height = coin.height;
        input.era = era;
        input.coinbase = coin.coinbase;
        if !same_era && !inputs_only {
            let flags = self.input_flags(&context, coin.height).0;
            if let Err(error) = self.passes_exactly(slot, vin, flags, coin.locking_script) {
                return self.conclude(slot, TxVerdict::ScriptFailed, error, vin, TxId::ZERO);
            }
        }
        self.works[work].inputs[vin as usize].hold = Hold::Again;
        let s = &mut self.slots[slot as usize];
        s.committing = false;
        s.ops.add(Ops::RESERVE);
        s.cursor = 0;
        self.pump(slot);
    }

    /// Everything is proven: ask the owners to hold the coins.
    pub fn begin_reserve(&mut self, slot: u32) {
        let s = &self.slots[slot as usize];
        let home = self.cfg.partition.shard(&s.txid);
        let inputs = &mut self.works[s.work as usize].inputs;
        let one_owner = inputs.iter().all(|i| i.shard == home);
        for input in inputs.iter_mut() {
            input.hold = Hold::Again;
        }
        let commits = one_owner && inputs.len() <= self.commit_inputs_max;
        let s = &mut self.slots[slot as usize];
        s.phase = Phase::Reserving;
        s.held = 0;
        s.reserving = true;
        s.committing = commits;
        s.wait_vin = NONE;
        s.ops.add(if commits { Ops::COMMIT } else { Ops::RESERVE });
        s.cursor = 0;
        self.pump(slot);
    }

    /// Releases everything but the entry at `vin`, and waits for that.
    fn wait_for(&mut self, slot: u32, vin: u32, phase: Phase) {
        let s = &mut self.slots[slot as usize];
        s.phase = phase;
        s.wait_vin = vin;
        self.release(slot);
    }

    /// Sends releases for whatever of this attempt may be at owners, the entry at `wait_vin` apart.
    pub fn release(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        s.held = 0;
        s.committing = false;
        s.ops.remove(Ops::RESERVE | Ops::COMMIT | Ops::SETTLE);
        if s.reserving {
            s.ops.add(Ops::RELEASE);
            s.cursor = 0;
        }
        self.pump(slot);
    }

    /// An input's coin does not exist.
    pub fn miss(&mut self, slot: u32, vin: u32) {
        let block = self.slots[slot as usize].block;
        if block == 0 {
            if !self.wait_a_moment(slot, vin) {
                self.become_orphan(slot, vin);
            }
            return;
        }
        if self.slots[slot as usize].inputs_only {
            let parent = self.view(slot).prev(vin as usize).txid;
            return self.conclude(slot, TxVerdict::MissingInput, 0, vin, parent);
        }
        // The parent may be with another coordinator, or with this one, and not announced yet: who knows the block says whether
        // it ever will be.
        self.give_notice(slot, vin);
        self.watch_and_wait(slot, vin);
    }

    /// Says that a block's transaction waits for the coin of input `vin`.
    fn give_notice(&mut self, slot: u32, vin: u32) {
        let s = &self.slots[slot as usize];
        let offer = &self.offers[s.offers as usize];
        let notice = VerdictFrag {
            token: offer.token,
            source: offer.source,
            block: offer.block,
            verdict: TxVerdict::MissingInput,
            detail: detail::WAITS,
            vin,
            fee_sat: 0,
            txid: s.txid,
            other: self.view(slot).prev(vin as usize).txid,
        };
        self.block_verdicts.push_back((notice, offer.born));
    }

    /// Keeps the slot and waits for any news of the coin of input `vin`.
    pub fn watch_and_wait(&mut self, slot: u32, vin: u32) {
        let s = &mut self.slots[slot as usize];
        s.ops.add(Ops::WATCH);
        s.watching = true;
        s.watch_vin = vin;
        self.wait_for(slot, vin, Phase::ParentWait);
    }

    fn on_wake(&mut self, slot: u32, vin: u32, reason: WakeReason) {
        let s = &mut self.slots[slot as usize];
        // A watch ends with its first wake; other entries of this attempt may be called before our release of them is read.
        let of_watch = vin == NONE;
        if of_watch {
            s.watching = false;
        }
        let at = if of_watch { s.watch_vin } else { vin };
        match (s.phase, reason) {
            (Phase::Orphan, WakeReason::Free) if of_watch => self.wake_orphan(slot),
            (Phase::Orphan, WakeReason::ParentOrphaned) if of_watch => {
                s.watching = true;
                s.ops.add(Ops::WATCH);
                self.pump(slot);
            }
            (
                Phase::Orphan | Phase::ParentWait | Phase::Watching | Phase::Reserving,
                WakeReason::ParentRejected,
            ) => {
                let parent = self.view(slot).prev(at as usize).txid;
                self.conclude(slot, TxVerdict::ParentRejected, 0, at, parent);
            }
            (Phase::ParentWait, WakeReason::ParentOrphaned) if at == s.wait_vin => {
                let work = s.work as usize;
                self.works[work].inputs[at as usize].hold = Hold::Nothing;
                self.miss(slot, at);
            }
            (Phase::Watching | Phase::ParentWait, WakeReason::Free) if at == s.wait_vin => {
                self.restart_later(slot, false);
            }
            (Phase::Reserving, _) => self.restart_later(slot, false),
            _ => self.counts.replies_stale += 1,
        }
    }

    /// Ends the attempt; the next one begins once everything of this one was sent.
    pub fn restart_later(&mut self, slot: u32, forget: bool) {
        if forget {
            self.forget_proofs(slot);
        }
        let s = &mut self.slots[slot as usize];
        s.phase = Phase::Woken;
        s.wait_vin = NONE;
        if !s.in_ready {
            s.in_ready = true;
            self.ready.push_back(slot);
        }
        self.release(slot);
    }

    /// Starts woken slots, a few a turn; orphans only where there is room in flight.
    pub fn start_ready(&mut self) {
        for _ in 0..self.ready.len().min(READY_PER_TURN_MAX) {
            let Some(slot) = self.ready.pop_front() else { break };
            let s = &mut self.slots[slot as usize];
            s.in_ready = false;
            let idle = s.ops.0 == 0 && !s.queued && !s.large_queued;
            match s.phase {
                Phase::Leaving if idle => self.free(slot),
                Phase::Woken => {
                    let full = s.is_orphan && self.in_flight >= self.cfg.bounds.transactions_max;
                    if idle && !full {
                        self.restart(slot);
                    } else {
                        s.in_ready = true;
                        self.ready.push_back(slot);
                    }
                }
                _ => {}
            }
        }
    }

    fn restart(&mut self, slot: u32) {
        self.counts.restarts += 1;
        if self.slots[slot as usize].is_orphan {
            self.remove_orphan(slot);
            self.set_orphan(slot, false);
        }
        let context = self.context(self.slots[slot as usize].block);
        if self.slots[slot as usize].rule_set != context.rule_set {
            if let Err((verdict, reject)) = self.judge_without_coins(slot, &context) {
                return self.conclude(slot, verdict, reject as u8, 0, TxId::ZERO);
            }
            self.slots[slot as usize].rule_set = context.rule_set;
            self.slots[slot as usize].claims = false;
            self.forget_proofs(slot);
        }
        self.new_run(slot);
        let s = &mut self.slots[slot as usize];
        let mut unproven = 0;
        for input in &mut self.works[s.work as usize].inputs {
            input.hold = Hold::Nothing;
            if input.proof != Proof::Passed {
                input.proof = Proof::Unknown;
                unproven += 1;
            }
        }
        s.attempt = s.attempt.wrapping_add(1);
        s.phase = Phase::Resolving;
        s.waiting = unproven;
        s.failed_vin = NONE;
        s.too_costly = false;
        s.lane_full = false;
        s.wait_vin = NONE;
        s.reserving = false;
        if unproven > 0 {
            s.claims = false;
            s.ops.add(Ops::RESOLVE);
        }
        s.ops.add(Ops::ANNOUNCE);
        s.cursor = 0;
        self.pump(slot);
        if unproven == 0 {
            self.judge(slot);
        }
    }

    /// Home decided: the verdict is given, the owners are told.
    fn accept(&mut self, slot: u32, epoch: Epoch, publish_seq: u64, from_pool: bool) {
        self.epoch = self.epoch.max(epoch);
        let s = &mut self.slots[slot as usize];
        let committed = s.phase == Phase::Reserving;
        s.phase = Phase::Spending;
        s.decided = epoch;
        s.logged = epoch;
        s.publish_seq = publish_seq;
        s.held = 0;
        let (txid, fee_sat) = (s.txid, s.fee_sat);
        let mut detail = if s.block != 0 && from_pool { detail::FROM_POOL } else { 0 };
        self.drop_liars(slot);
        let mut verdict = TxVerdict::Accepted;
        while let Some(offer) = self.pop_offer(slot) {
            self.emit(&offer, verdict, detail, 0, fee_sat, txid, TxId::ZERO);
            (verdict, detail) = (TxVerdict::Known, 0);
        }
        let is_known = self.slots[slot as usize].block != 0 && from_pool;
        if committed || is_known {
            // Of a transaction that the pool has, the pool's spends stand: a second word about them could come when they are undone.
            self.counts.commits += u64::from(committed);
            let s = &mut self.slots[slot as usize];
            s.phase = Phase::Leaving;
        } else {
            let s = &mut self.slots[slot as usize];
            s.ops.add(Ops::SPEND);
            s.cursor = 0;
        }
        self.pump(slot);
    }

    fn on_spend_logged(&mut self, slot: u32, epoch: Epoch) {
        self.epoch = self.epoch.max(epoch);
        let s = &mut self.slots[slot as usize];
        if s.phase != Phase::Spending || s.spends_pending == 0 {
            self.counts.replies_stale += 1;
            return;
        }
        s.logged = s.logged.max(epoch);
        s.spends_pending -= 1;
        if s.spends_pending == 0 && !s.ops.has(Ops::SPEND) {
            s.ops.add(Ops::LOGGED);
            s.phase = Phase::Leaving;
            self.pump(slot);
        }
    }

    /// Gives every waiting copy this verdict, takes back what shards know, and lets the slot go.
    pub fn conclude(&mut self, slot: u32, verdict: TxVerdict, detail: u8, vin: u32, other: TxId) {
        let s = &self.slots[slot as usize];
        let (txid, fee_sat, hash) = (s.txid, s.fee_sat, s.hash);
        while let Some(offer) = self.pop_offer(slot) {
            self.emit(&offer, verdict, detail, vin, fee_sat, txid, other);
        }
        if self.slots[slot as usize].is_orphan {
            self.remove_orphan(slot);
            self.set_orphan(slot, false);
        }
        let s = &mut self.slots[slot as usize];
        if std::mem::take(&mut s.indexed) {
            self.index.remove(hash, slot);
        }
        s.phase = Phase::Leaving;
        s.wait_vin = NONE;
        let unwatches = s.watching && !s.ops.has(Ops::WATCH);
        s.watching = false;
        s.ops.0 &= Ops::UNWATCH;
        if unwatches {
            s.ops.add(Ops::UNWATCH);
        }
        s.withdraw_rejected = is_final(verdict);
        if s.announced || s.was_orphan && s.withdraw_rejected {
            s.ops.add(Ops::WITHDRAW);
        }
        if s.reserving {
            s.ops.add(Ops::RELEASE);
        }
        s.cursor = 0;
        self.pump(slot);
    }
}

/// Whether a verdict follows from the transaction and the chain, so that children cannot hope any more.
fn is_final(verdict: TxVerdict) -> bool {
    !matches!(
        verdict,
        TxVerdict::Accepted
            | TxVerdict::Known
            | TxVerdict::Overloaded
            | TxVerdict::TooCostly
            | TxVerdict::CoinMismatch
            | TxVerdict::OrphanExpired
    )
}
