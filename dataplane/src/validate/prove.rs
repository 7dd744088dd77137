//! Coins and scripts: from "what is this coin?" to "everything about this transaction is proven".
//!
//! Scripts of an input run in the turn its coin arrives, over the bytes of the reply, so coins are never stored: what stays is
//! value, script tag, height. Signature checks are collected over many transactions and verified together. Whatever looks
//! bad is looked at again before anybody is told: a wrong signature in the batch means that the input's coin is asked for
//! once more and its scripts run exactly; a failure over *claimed* coins means that the real ones are asked for.

use super::coordinator::{Coordinator, LongJob, Owner};
use super::slot::{NONE, Ops, Phase, Proof};
use crate::msg::reply::CoinReply;
use crate::msg::{LongOutcome, LongReply, Ticket, TxVerdict};
use consensus::hash::TxId;
use consensus::rules::{
    self, CoinAge, CoinFacts, ConsolidationCoin, InputTally, RelativeLock, TxReject,
};
use consensus::script::{
    Collected, Immediate, Outcome, TxContext, verify_collecting, verify_script,
};
use consensus::tx::TxView;
use sigbatch::{Check, Signature};

/// Signatures that the kernel verifies side by side.
const ROUND: usize = 16;

/// Where a locking script lies while it runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script<'a> {
    /// In a reply.
    Given(&'a [u8]),
    /// In the extended transaction itself.
    Claimed,
}

/// How the scripts of an input ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ran {
    Passed,
    Assuming { checks: u32 },
    Failed { error: u8 },
    Costly,
}

impl Coordinator {
    /// An owner's answer to a resolve: facts are noted, scripts run.
    pub fn on_coin(&mut self, slot: u32, vin: u32, coin: &CoinReply<'_>) {
        let context = self.context(self.slots[slot as usize].block);
        let tag = self.cfg.partition.script_tag(coin.locking_script);
        let era = self.cfg.params.era(coin.height) as u8;
        let work = self.slots[slot as usize].work as usize;
        let input = &mut self.works[work].inputs[vin as usize];
        if input.proof != Proof::Asked {
            self.counts.replies_stale += 1;
            return;
        }
        input.value_sat = coin.value_sat;
        input.script_tag = tag;
        input.height = coin.height;
        input.era = era;
        input.coinbase = coin.coinbase;
        self.note_script(slot, vin, coin.locking_script, coin.height);
        if self.slots[slot as usize].trusted {
            self.set_proof(slot, vin, Proof::Passed);
        } else {
            let flags = self.input_flags(&context, coin.height).0;
            self.prove_input(slot, vin, flags, Script::Given(coin.locking_script));
        }
        self.slots[slot as usize].waiting -= 1;
        self.judge(slot);
    }

    /// What a consolidation is judged by: coins are not there any more once it is known what the transaction pays.
    fn note_script(&mut self, slot: u32, vin: u32, script: &[u8], coin_height: u32) {
        let s = &self.slots[slot as usize];
        if s.block != 0 || !self.cfg.policy.consolidation.may_apply(self.view(slot)) {
            return;
        }
        let is_standard = ConsolidationCoin::is_standard(script, self.cfg.params.era(coin_height));
        let input = &mut self.works[s.work as usize].inputs[vin as usize];
        input.script_bytes = script.len() as u32;
        input.is_standard = is_standard;
    }

    /// Whether the transaction shrinks the set of coins so much that it may pay less than others.
    fn is_consolidation(&self, slot: u32, height: u32) -> bool {
        let s = &self.slots[slot as usize];
        let inputs = &self.works[s.work as usize].inputs;
        // A coin of the pool has the height of the next block.
        rules::is_consolidation(self.view(slot), height - 1, &self.cfg.policy.consolidation, |i| {
            ConsolidationCoin {
                script_bytes: inputs[i].script_bytes.into(),
                is_standard: inputs[i].is_standard,
                height: (inputs[i].height < height).then_some(inputs[i].height),
            }
        })
    }

    /// One input over the coin its copy claims. Height and era are guesses that the owner compares at the reserve.
    pub fn prove_claim(&mut self, slot: u32, vin: u32) {
        let context = self.context(self.slots[slot as usize].block);
        let view = self.view(slot);
        let coin = view.input(vin as usize).extended.expect("only extended copies claim coins");
        let (value_sat, tag) = (coin.value_sat, self.cfg.partition.script_tag(coin.locking_script));
        let era = self.cfg.params.era(context.height) as u8;
        let work = self.slots[slot as usize].work as usize;
        let input = &mut self.works[work].inputs[vin as usize];
        input.value_sat = value_sat;
        input.script_tag = tag;
        input.height = context.height;
        input.era = era;
        input.coinbase = false;
        let flags = self.input_flags(&context, context.height).0;
        self.prove_input(slot, vin, flags, Script::Claimed);
        self.slots[slot as usize].waiting -= 1;
    }

    /// Runs the scripts of an input whose facts are noted, and notes the proof.
    fn prove_input(&mut self, slot: u32, vin: u32, flags: u32, script: Script<'_>) {
        let ran = self.run(slot, vin, flags, script);
        let proof = match ran {
            Ran::Passed => Proof::Passed,
            Ran::Assuming { checks } => {
                let s = &mut self.slots[slot as usize];
                s.sigs_pending += 1;
                let owner = Owner { slot, run: s.run, vin, checks };
                self.owners.push_back(owner);
                Proof::Passed
            }
            Ran::Failed { error } => {
                self.note_failure(slot, vin, error);
                Proof::Failed
            }
            Ran::Costly => self.hand_over(slot, vin, script),
        };
        self.set_proof(slot, vin, proof);
    }

    fn set_proof(&mut self, slot: u32, vin: u32, proof: Proof) {
        let work = self.slots[slot as usize].work as usize;
        self.works[work].inputs[vin as usize].proof = proof;
    }

    fn note_failure(&mut self, slot: u32, vin: u32, error: u8) {
        let s = &mut self.slots[slot as usize];
        if vin < s.failed_vin {
            s.failed_vin = vin;
            s.failed_error = error;
        }
    }

    /// Runs the scripts of one input.
    fn run(&mut self, slot: u32, vin: u32, flags: u32, script: Script<'_>) -> Ran {
        if let Some(ran) = self.run_once(slot, vin, flags, script, false) {
            return ran;
        }
        self.verify_batch();
        self.run_once(slot, vin, flags, script, false).unwrap_or_else(|| {
            // More checks in one input than a batch holds.
            self.run_once(slot, vin, flags, script, true).unwrap_or(Ran::Costly)
        })
    }

    /// `None` if the batch is full. Exact runs never are.
    fn run_once(
        &mut self,
        slot: u32,
        vin: u32,
        flags: u32,
        script: Script<'_>,
        exactly: bool,
    ) -> Option<Ran> {
        let flags = consensus::script::Flags(flags);
        let s = &self.slots[slot as usize];
        let for_block = s.block != 0;
        let exactly = exactly || s.exact;
        let work = &mut self.works[s.work as usize];
        let view = TxView::new(self.arena.get(s.tx), &work.layout);
        let spent = view.input(vin as usize);
        let locking = match script {
            Script::Given(bytes) => bytes,
            Script::Claimed => {
                spent.extended.expect("only extended copies claim coins").locking_script
            }
        };
        let policy = &self.cfg.policy;
        let limits = if for_block { &policy.block_script_limits } else { &policy.script_limits };
        let mut budget = policy.hot_budget;
        if for_block && !self.has_long {
            budget = consensus::script::Budget::UNLIMITED;
        }
        let value_sat = work.inputs[vin as usize].value_sat;
        let tx = TxContext::new(view, vin as usize, value_sat);
        let unlocking = spent.unlocking_script;
        self.counts.inputs_run += 1;
        let outcome = if exactly {
            verify_script(
                unlocking,
                locking,
                flags,
                &tx,
                &mut work.sighash,
                &mut Immediate,
                limits,
                &mut budget,
                &mut self.scratch,
            )
        } else {
            let collected = verify_collecting(
                unlocking,
                locking,
                flags,
                &tx,
                &mut work.sighash,
                &mut self.batch,
                slot,
                limits,
                &mut budget,
                &mut self.scratch,
            );
            match collected {
                Collected::Assuming { checks } => {
                    return Some(Ran::Assuming { checks: checks as u32 });
                }
                Collected::Final(outcome) => outcome,
            }
        };
        match outcome {
            Outcome::Accepted => Some(Ran::Passed),
            Outcome::Rejected(error) => Some(Ran::Failed { error: error as u8 }),
            Outcome::BudgetExceeded(_) => Some(Ran::Costly),
            Outcome::BatchFull => None,
        }
    }

    /// Runs an input exactly over a coin that differed only in height; true if it passes.
    pub fn passes_exactly(
        &mut self,
        slot: u32,
        vin: u32,
        flags: u32,
        script: &[u8],
    ) -> Result<(), u8> {
        match self.run_once(slot, vin, flags, Script::Given(script), true) {
            Some(Ran::Failed { error }) => Err(error),
            // What is too costly here was proven on the slow lane; an era that changes in flight is proven there again.
            _ => Ok(()),
        }
    }

    /// Gives an input to the slow lane; what there is no room for is asked for again later.
    fn hand_over(&mut self, slot: u32, vin: u32, script: Script<'_>) -> Proof {
        if !self.has_long {
            self.slots[slot as usize].too_costly = true;
            return Proof::Failed;
        }
        let s = &self.slots[slot as usize];
        let (run, tx, work) = (s.run, s.tx, s.work as usize);
        let input = self.works[work].inputs[vin as usize];
        let len = match script {
            Script::Given(bytes) => bytes.len(),
            Script::Claimed => {
                self.view(slot).input(vin as usize).extended.map_or(0, |c| c.locking_script.len())
            }
        };
        let room = self.long.len() < self.cfg.bounds.long_queue_max;
        let span = if room { self.arena.take(len) } else { None };
        let Some(span) = span else {
            self.slots[slot as usize].lane_full = true;
            return Proof::Failed;
        };
        match script {
            Script::Given(bytes) => self.arena.get_mut(span).copy_from_slice(bytes),
            Script::Claimed => {
                let at = {
                    let view = TxView::new(self.arena.get(tx), &self.works[work].layout);
                    let claimed =
                        view.input(vin as usize).extended.map_or(&[][..], |c| c.locking_script);
                    claimed.as_ptr() as usize - view.bytes().as_ptr() as usize
                };
                self.arena.copy_within(tx, at, span);
            }
        }
        self.long.push_back(LongJob {
            slot,
            run,
            vin,
            value_sat: input.value_sat,
            coin_height: input.height,
            script: Some(span),
        });
        self.counts.inputs_long += 1;
        self.slots[slot as usize].long_pending += 1;
        Proof::Long
    }

    /// The first job of the slow lane's queue can never travel: its transaction is larger than the lane takes.
    pub fn long_refused(&mut self, job: LongJob) {
        self.long.pop_front();
        if let Some(span) = job.script {
            self.arena.give(span);
        }
        let ticket = Ticket { slot: job.slot, attempt: job.run };
        let outcome = LongOutcome::Overloaded;
        self.on_long(&LongReply { ticket, vin: job.vin, outcome });
    }

    /// The slow lane's answer.
    pub fn on_long(&mut self, reply: &LongReply) {
        let slot = reply.ticket.slot;
        let Some(s) = self.slots.get(slot as usize) else { return };
        if s.phase != Phase::Resolving || s.run != reply.ticket.attempt {
            self.counts.replies_stale += 1;
            return;
        }
        let input = &mut self.works[s.work as usize].inputs[reply.vin as usize];
        if input.proof != Proof::Long {
            self.counts.replies_stale += 1;
            return;
        }
        input.proof =
            if reply.outcome == LongOutcome::Passed { Proof::Passed } else { Proof::Failed };
        let s = &mut self.slots[slot as usize];
        s.long_pending -= 1;
        match reply.outcome {
            LongOutcome::Passed => {}
            LongOutcome::Failed { error } => self.note_failure(slot, reply.vin, error),
            LongOutcome::TooCostly => s.too_costly = true,
            LongOutcome::Overloaded => s.lane_full = true,
        }
        self.judge(slot);
    }

    /// Verifies everything collected and judges the transactions that waited for it.
    pub fn verify_batch(&mut self) {
        self.verify_first(self.owners.len());
        self.batch_since_ns = None;
    }

    /// Verifies as many inputs as fill whole rounds of the kernel; what is left over waits for company. (Half a round costs as
    /// much as a whole one.)
    pub fn verify_whole_rounds(&mut self) {
        let most = self.batch.len() - self.batch.len() % ROUND;
        let mut checks = 0;
        let fits = |owner: &&Owner| {
            checks += owner.checks as usize;
            checks <= most
        };
        match self.owners.iter().take_while(fits).count() {
            0 => self.verify_batch(),
            inputs => self.verify_first(inputs),
        }
    }

    /// Verifies the oldest `inputs` that are collected and judges the transactions that waited for them.
    fn verify_first(&mut self, inputs: usize) {
        let count = self.owners.iter().take(inputs).map(|owner| owner.checks as usize).sum();
        let checks = &self.batch.checks()[..count];
        if checks.is_empty() {
            return;
        }
        let verdicts = &mut self.sig_verdicts[..checks.len()];
        self.verifier.verify_each(
            |i| Check {
                public_key: checks[i].pubkey(),
                digest: &checks[i].digest,
                signature: Signature::Compact(&checks[i].signature),
            },
            verdicts,
        );
        self.counts.signatures_batched += verdicts.len() as u64;
        self.counts.signature_batches += 1;
        let counts = self.verifier.all_counts();
        self.counts.signatures_by_kernel = counts.by_kernel;
        self.counts.signatures_audited = counts.audited;
        self.batch.pop_front(count);
        let mut at = 0;
        // First all signs, then the judging, which may collect anew and write over `sig_verdicts`.
        for i in 0..inputs {
            let owner = self.owners[i];
            let own = &self.sig_verdicts[at..at + owner.checks as usize];
            let wrong = own.iter().filter(|v| !v.is_valid()).count();
            at += owner.checks as usize;
            self.counts.signatures_wrong += wrong as u64;
            let s = &mut self.slots[owner.slot as usize];
            if s.run != owner.run {
                continue;
            }
            s.sigs_pending -= 1;
            if wrong > 0 {
                self.set_proof(owner.slot, owner.vin, Proof::Inexact);
            }
        }
        for _ in 0..inputs {
            let owner = self.owners.pop_front().expect("as many as were counted");
            if self.slots[owner.slot as usize].run == owner.run {
                self.judge(owner.slot);
            }
        }
    }

    /// Everything was asked anew: the real coins, from their owners.
    pub fn fall_back(&mut self, slot: u32, exact: bool) {
        self.forget_proofs(slot);
        let s = &mut self.slots[slot as usize];
        s.claims = false;
        s.exact = exact;
        s.ops.remove(Ops::CLAIMS);
        s.ops.add(Ops::RESOLVE);
        s.cursor = 0;
        self.pump(slot);
    }

    /// Forgets what is known about every input; they all have to be answered again.
    pub fn forget_proofs(&mut self, slot: u32) {
        self.new_run(slot);
        let s = &mut self.slots[slot as usize];
        s.failed_vin = NONE;
        s.failed_error = 0;
        s.too_costly = false;
        s.lane_full = false;
        let inputs = &mut self.works[s.work as usize].inputs;
        for input in inputs.iter_mut() {
            input.proof = Proof::Unknown;
        }
        s.waiting = inputs.len() as u32;
    }

    /// Once nothing is outstanding: is the transaction proven?
    pub fn judge(&mut self, slot: u32) {
        let s = &self.slots[slot as usize];
        if s.phase != Phase::Resolving
            || s.waiting > 0
            || s.sigs_pending > 0
            || s.long_pending > 0
            || s.ops.has(Ops::CLAIMS | Ops::RESOLVE)
        {
            return;
        }
        let (claims, block, work) = (s.claims, s.block, s.work as usize);
        let context = self.context(block);
        if s.rule_set != context.rule_set {
            // An activation passed: what was proven under the old rules is proven again.
            self.slots[slot as usize].rule_set = context.rule_set;
            if let Err((verdict, reject)) = self.judge_without_coins(slot, &context) {
                return self.conclude(slot, verdict, reject as u8, 0, TxId::ZERO);
            }
            return self.fall_back(slot, false);
        }
        if block == 0 && s.pool_version != self.pool_version {
            // The tip went back: what was final may not be any more.
            self.slots[slot as usize].pool_version = self.pool_version;
            if !rules::is_final(self.view(slot), context.height, context.median_time_past) {
                let detail = TxReject::NonFinal as u8;
                return self.conclude(slot, TxVerdict::NonFinal, detail, 0, TxId::ZERO);
            }
        }
        let inputs = &mut self.works[work].inputs;
        let missing = inputs.iter().position(|i| i.proof == Proof::Missing);
        let mut inexact = 0;
        if !claims {
            for input in inputs.iter_mut().filter(|i| i.proof == Proof::Inexact) {
                input.proof = Proof::Unknown;
                inexact += 1;
            }
        } else if inputs.iter().any(|i| i.proof == Proof::Inexact) {
            return self.fall_back(slot, true);
        }
        if inexact > 0 {
            let s = &mut self.slots[slot as usize];
            s.exact = true;
            s.waiting = inexact;
            s.ops.add(Ops::RESOLVE);
            s.cursor = 0;
            return self.pump(slot);
        }
        let s = &self.slots[slot as usize];
        let failed = s.failed_vin != NONE || s.too_costly || s.lane_full;
        if failed && claims {
            return self.fall_back(slot, false);
        }
        if !claims && missing.is_none() && !self.drop_liars(slot) {
            return;
        }
        let s = &self.slots[slot as usize];
        if s.failed_vin != NONE {
            let (vin, error) = (s.failed_vin, s.failed_error);
            return self.conclude(slot, TxVerdict::ScriptFailed, error, vin, TxId::ZERO);
        }
        if s.too_costly || s.lane_full {
            let verdict = if s.too_costly { TxVerdict::TooCostly } else { TxVerdict::Overloaded };
            return self.conclude(slot, verdict, 0, 0, TxId::ZERO);
        }
        if let Some(vin) = missing {
            return self.miss(slot, vin as u32);
        }
        match self.judge_values(slot, context.height) {
            Err(_) if claims => self.fall_back(slot, false),
            Err((TxReject::CoinbaseImmature, _)) => {
                self.conclude(slot, TxVerdict::Immature, 0, 0, TxId::ZERO);
            }
            Err((reject, verdict)) => self.conclude(slot, verdict, reject as u8, 0, TxId::ZERO),
            Ok(fee_sat) => {
                self.slots[slot as usize].fee_sat = fee_sat;
                if self.slots[slot as usize].inputs_only {
                    return self.conclude(slot, TxVerdict::Accepted, 0, 0, TxId::ZERO);
                }
                self.begin_reserve(slot);
            }
        }
    }

    /// Values, fee, relative locks.
    fn judge_values(&self, slot: u32, height: u32) -> Result<u64, (TxReject, TxVerdict)> {
        let s = &self.slots[slot as usize];
        let view = self.view(slot);
        let inputs = &self.works[s.work as usize].inputs;
        let invalid = |reject| (reject, TxVerdict::Invalid);
        let mut tally = InputTally::new(height);
        for input in inputs {
            let coin = CoinFacts {
                value_sat: input.value_sat,
                height: input.height,
                is_coinbase: input.coinbase && !s.inputs_only,
                is_confiscation: false,
            };
            tally.add(&coin).map_err(invalid)?;
        }
        let outputs_sat = rules::output_total(view).map_err(invalid)?;
        let fee_sat = tally.fee_sat(outputs_sat).map_err(invalid)?;
        if s.inputs_only {
            return Ok(fee_sat);
        }
        if s.height_matters {
            // Median times of coins' blocks are not known here: a lock by time counts as not over.
            let age = |i: usize| CoinAge { height: inputs[i].height, prev_median_time_s: u32::MAX };
            if !RelativeLock::of(view, age).is_over(height, self.context(s.block).median_time_past)
            {
                return Err(if s.block == 0 {
                    (TxReject::RelativeLockPool, TxVerdict::NonFinal)
                } else {
                    (TxReject::RelativeLock, TxVerdict::NonFinal)
                });
            }
        }
        let fee_min_sat = self.cfg.policy.fee_min.fee_sat(view.raw_size());
        if s.block == 0
            && fee_sat < fee_min_sat
            && (s.claims || !self.is_consolidation(slot, height))
        {
            return Err((TxReject::FeeTooLow, TxVerdict::Policy));
        }
        Ok(fee_sat)
    }

    /// Ends copies that claimed other coins than the proven ones. False if none is left, and the slot is gone.
    pub fn drop_liars(&mut self, slot: u32) -> bool {
        let mut at = self.slots[slot as usize].offers;
        let mut any_claims = false;
        while at != NONE {
            let offer = &self.offers[at as usize];
            any_claims |= offer.claims != 0;
            at = offer.next;
        }
        if !any_claims {
            return true;
        }
        let truth = self.proven_digest(slot);
        let txid = self.slots[slot as usize].txid;
        let mut kept = 0;
        let mut left = 0;
        let mut at = self.slots[slot as usize].offers;
        while at != NONE {
            left += 1;
            at = self.offers[at as usize].next;
        }
        for _ in 0..left {
            let offer = self.pop_offer(slot).expect("as many as were counted");
            if offer.claims != 0 && offer.claims != truth {
                self.emit(&offer, TxVerdict::CoinMismatch, 0, 0, 0, txid, TxId::ZERO);
            } else {
                let added = self.add_offer(slot, offer);
                assert!(added, "the place of a copy was just given back");
                kept += 1;
            }
        }
        let phase = self.slots[slot as usize].phase;
        if kept == 0 && !matches!(phase, Phase::Settling | Phase::Spending) {
            self.conclude(slot, TxVerdict::CoinMismatch, 0, 0, TxId::ZERO);
            return false;
        }
        true
    }
}
