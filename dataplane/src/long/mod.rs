//! `long`: the slow lane. Scripts that cost more than a turn of a hot tile may cost are run here, a slice a turn.
//!
//! In: `validate_long`, a transaction and then those of its inputs that turned out costly. Out: `long_validate`, one answer an
//! input; and signatures that a kernel accepted, to be verified again by libsecp256k1. The tile turns on an unpinned thread whose heap is not sealed, so it may allocate what a script needs. Inputs of
//! blocks go first and cost what they cost; those of pool transactions have a budget of their own (then `TooCostly`) and a
//! bounded queue (then `Overloaded`). A coordinator that loses interest ends the transaction, also in the middle of a script.

use crate::metrics::CounterDef;
use crate::msg::{Context, LongOutcome, LongReply, LongRequest, Ticket};
use crate::tile::{Busy, Frag, In, Out, Outs, Tile};
use crate::topo::Wiring;
use crate::validate::Config;
use consensus::script::{Budget, Flags, Immediate, Machine, Outcome, Progress, Scratch, TxContext};
use consensus::sighash::SighashCache;
use consensus::tx::{TxLayout, TxView, parse};
use sigbatch::Audit;
use std::collections::{BTreeMap, VecDeque};

/// Opcodes run in one turn, about a millisecond of cheap ones.
const OPCODES_PER_TURN: u64 = 20_000;
/// Inputs of pool transactions that may wait.
pub const POOL_JOBS_MAX: usize = 1_024;
/// Inputs of blocks that may wait before requests are left on their link.
pub const BLOCK_JOBS_MAX: usize = 65_536;
/// Answers that may wait for credit before requests are left on their link.
const REPLIES_MAX: usize = 4_096;
/// What one input of a pool transaction may cost: some seconds of the slowest opcodes.
pub const POOL_BUDGET: Budget =
    Budget { operations: 100_000_000, hashed_bytes: 1 << 30, bignum_cost: 1 << 32 };

/// Validator and slot.
type Key = (u16, u32);

#[derive(Debug)]
struct Held {
    run: u32,
    context: Context,
    bytes: Vec<u8>,
    layout: TxLayout,
    sighash: SighashCache,
}

#[derive(Debug)]
struct Job {
    key: Key,
    run: u32,
    vin: u32,
    value_sat: u64,
    flags: Flags,
    script: Vec<u8>,
    for_block: bool,
    /// What is left; `None` before its first slice.
    budget: Option<Budget>,
}

crate::counters! {
    /// What the slow lane counts.
    pub enum LongCount {
        /// Inputs run to an end.
        Inputs = counter "inputs_total",
        /// Inputs that cost more than the pool allows.
        TooCostly = counter "too_costly_total",
        /// Inputs turned away because the queue was full.
        Overloaded = counter "overloaded_total",
        /// Inputs whose coordinator lost interest.
        Abandoned = counter "abandoned_total",
        /// Signatures verified again.
        Audits = counter "audits_total",
        /// Of them, those that libsecp256k1 found wrong: the kernel is off then.
        Disagreements = counter "audits_disagreed_total",
        /// Inputs that wait.
        Waiting = gauge "waiting",
    }
}

/// The tile.
#[derive(Debug)]
pub struct Long {
    config: Config,
    /// The validator at the other end of each in-link, and its out-link.
    peers: Vec<u16>,
    replies_out: Vec<Out>,
    held: BTreeMap<Key, Held>,
    block_jobs: VecDeque<Job>,
    pool_jobs: VecDeque<Job>,
    running: Option<Job>,
    replies: VecDeque<(u16, LongReply)>,
    scratch: Scratch,
}

impl Long {
    /// From a wiring: rows `validate_long` in, `long_validate` out.
    pub fn new(config: &Config, wiring: &Wiring) -> Self {
        let ins = wiring.input_rows().len();
        let peers = (0..ins).map(|i| wiring.producer_of(In(i as u16)) as u16).collect();
        Self::with_links(config, peers, wiring.outputs("long_validate"))
    }

    /// `peers[i]` is the validator behind in-link `i`; `replies[v]` leads to validator `v`.
    pub fn with_links(config: &Config, peers: Vec<u16>, replies: Vec<Out>) -> Self {
        Self {
            config: config.clone(),
            peers,
            replies_out: replies,
            held: BTreeMap::new(),
            block_jobs: VecDeque::new(),
            pool_jobs: VecDeque::new(),
            running: None,
            replies: VecDeque::new(),
            scratch: Scratch::new(),
        }
    }

    fn waiting(&self) -> usize {
        self.block_jobs.len() + self.pool_jobs.len() + usize::from(self.running.is_some())
    }

    /// One message of validator `from`.
    fn take(&mut self, from: u16, request: &LongRequest<'_>) -> (LongCount, u64) {
        match *request {
            LongRequest::Begin { ticket, context, tx, .. } => {
                let bytes = tx.to_vec();
                let mut layout = TxLayout::new();
                let sound = parse(&bytes, &mut layout).is_ok();
                assert!(sound, "a coordinator hands over only what it has parsed");
                let sighash = SighashCache::new();
                let held = Held { run: ticket.attempt, context, bytes, layout, sighash };
                self.held.insert((from, ticket.slot), held);
            }
            LongRequest::Input { ticket, vin, value_sat, coin_height, locking_script } => {
                let key = (from, ticket.slot);
                let Some(held) = self.held.get(&key).filter(|h| h.run == ticket.attempt) else {
                    return (LongCount::Abandoned, 1);
                };
                let params = &self.config.params;
                let flags = held.context.rule_set
                    | params.flags_for_input(held.context.height, coin_height);
                let for_block = !held.context.is_pool();
                if !for_block && self.pool_jobs.len() >= POOL_JOBS_MAX {
                    let outcome = LongOutcome::Overloaded;
                    self.replies.push_back((from, LongReply { ticket, vin, outcome }));
                    return (LongCount::Overloaded, 1);
                }
                let job = Job {
                    key,
                    run: ticket.attempt,
                    vin,
                    value_sat,
                    flags: Flags(flags),
                    script: locking_script.to_vec(),
                    for_block,
                    budget: None,
                };
                if for_block {
                    self.block_jobs.push_back(job);
                } else {
                    self.pool_jobs.push_back(job);
                }
            }
            LongRequest::End { ticket } => {
                let key = (from, ticket.slot);
                if self.held.get(&key).is_some_and(|h| h.run == ticket.attempt) {
                    self.held.remove(&key);
                }
                let before = self.waiting();
                let gone = |job: &Job| job.key == key && job.run == ticket.attempt;
                self.block_jobs.retain(|job| !gone(job));
                self.pool_jobs.retain(|job| !gone(job));
                self.running.take_if(|job| gone(job));
                return (LongCount::Abandoned, (before - self.waiting()) as u64);
            }
            LongRequest::Audit { audit } => {
                let audit = Audit::decode(audit).expect("a coordinator sends what it encoded");
                let agreed = audit.run();
                return (if agreed { LongCount::Audits } else { LongCount::Disagreements }, 1);
            }
        }
        (LongCount::Inputs, 0)
    }

    /// One slice of one script; what was counted, or `None` if there is nothing to run.
    fn slice(&mut self) -> Option<(LongCount, u64)> {
        let mut job = match self.running.take() {
            // A block's input does not wait for the end of a pool transaction's: that one begins anew later.
            Some(mut job) if !job.for_block && !self.block_jobs.is_empty() => {
                job.budget = None;
                self.pool_jobs.push_front(job);
                self.block_jobs.pop_front()?
            }
            Some(job) => job,
            None => self.block_jobs.pop_front().or_else(|| self.pool_jobs.pop_front())?,
        };
        let Some(held) = self.held.get_mut(&job.key).filter(|h| h.run == job.run) else {
            return Some((LongCount::Abandoned, 1));
        };
        let policy = &self.config.policy;
        let (limits, whole) = if job.for_block {
            (&policy.block_script_limits, Budget::UNLIMITED)
        } else {
            (&policy.script_limits, POOL_BUDGET)
        };
        let view = TxView::new(&held.bytes, &held.layout);
        let unlocking = view.input(job.vin as usize).unlocking_script;
        let tx = TxContext::new(view, job.vin as usize, job.value_sat);
        let first = job.budget.is_none();
        let mut budget = job.budget.unwrap_or(whole);
        let scratch = &mut self.scratch;
        let mut machine = if first {
            Machine::new(scratch, unlocking, &job.script, job.flags, tx, limits)
        } else {
            Machine::resume(scratch, unlocking, &job.script, job.flags, tx, limits)
        };
        let progress =
            machine.step(OPCODES_PER_TURN, &mut held.sighash, &mut Immediate, &mut budget);
        let Progress::Done(outcome) = progress else {
            job.budget = Some(budget);
            self.running = Some(job);
            return Some((LongCount::Inputs, 0));
        };
        let outcome = match outcome {
            Outcome::Accepted => LongOutcome::Passed,
            Outcome::Rejected(error) => LongOutcome::Failed { error: error as u8 },
            Outcome::BudgetExceeded(_) | Outcome::BatchFull => LongOutcome::TooCostly,
        };
        let ticket = Ticket { slot: job.key.1, attempt: job.run };
        self.replies.push_back((job.key.0, LongReply { ticket, vin: job.vin, outcome }));
        let costly = outcome == LongOutcome::TooCostly;
        Some((if costly { LongCount::TooCostly } else { LongCount::Inputs }, 1))
    }

    fn flush(&mut self, outs: &mut Outs) -> Busy {
        let mut sent = false;
        while let Some((to, reply)) = self.replies.front() {
            let out = self.replies_out[usize::from(*to)];
            if outs.credit(out) == 0 {
                return if sent { Busy::Yes } else { Busy::Waiting };
            }
            outs.publish(out, 0, &reply.encode());
            self.replies.pop_front();
            sent = true;
        }
        Busy::if_so(sent)
    }
}

impl Tile for Long {
    const NAME: &'static str = "long";
    const BURST: u32 = 8;
    const COUNTERS: &'static [CounterDef] = LongCount::DEFS;

    fn before(&mut self, outs: &mut Outs) -> Busy {
        self.flush(outs)
    }

    fn wants(&mut self, _input: In, _outs: &Outs) -> u32 {
        let full = self.replies.len() >= REPLIES_MAX || self.block_jobs.len() >= BLOCK_JOBS_MAX;
        if full { 0 } else { u32::MAX }
    }

    fn frag(&mut self, input: In, frag: Frag<'_>, outs: &mut Outs) {
        let request = LongRequest::decode(frag.bytes).expect("validate_long carries LongRequest");
        let (counter, n) = self.take(self.peers[input.index()], &request);
        if n > 0 {
            outs.count(counter, n);
        }
    }

    fn after(&mut self, outs: &mut Outs) -> Busy {
        let mut busy = Busy::No;
        if self.replies.len() < REPLIES_MAX
            && let Some((counter, n)) = self.slice()
        {
            busy = Busy::Yes;
            outs.count(counter, n);
        }
        outs.set(LongCount::Waiting, self.waiting() as u64);
        busy | self.flush(outs)
    }

    fn is_drained(&self) -> bool {
        self.waiting() == 0 && self.replies.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Partition;
    use crate::validate::{Bounds, Policy};
    use consensus::hash::TxId;
    use consensus::params::{ChainParams, Network};
    use consensus::tx::{OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};

    fn lane() -> Long {
        let config = Config {
            partition: Partition::new([1; 16], 1, 1),
            params: ChainParams::of(Network::Regtest),
            bounds: Bounds::small(),
            policy: Policy::default(),
            seed: 1,
            verifier: None,
        };
        Long::with_links(&config, vec![0], vec![])
    }

    fn transaction(inputs: usize) -> Vec<u8> {
        let input = |vout| TxIn {
            prev: OutPoint { txid: TxId([3; 32]), vout },
            unlocking_script: vec![0x51],
            sequence: SEQUENCE_FINAL,
            coin: None,
        };
        let inputs = (0..inputs as u32).map(input).collect();
        let outputs = vec![TxOut { value_sat: 1, locking_script: vec![0x51] }];
        Tx { version: 1, inputs, outputs, lock_time: 0 }.to_bytes()
    }

    fn begin(lane: &mut Long, block: u32, slot: u32, tx: &[u8]) -> Ticket {
        let ticket = Ticket { slot, attempt: 5 };
        let context = Context { block, height: 20_000, median_time_past: 0, rule_set: 0x15462f };
        lane.take(0, &LongRequest::Begin { ticket, txid: TxId::ZERO, context, tx });
        ticket
    }

    fn input(lane: &mut Long, ticket: Ticket, vin: u32, script: &[u8]) {
        let (value_sat, coin_height) = (1, 15_000);
        lane.take(
            0,
            &LongRequest::Input { ticket, vin, value_sat, coin_height, locking_script: script },
        );
    }

    #[test]
    fn a_signature_is_verified_again_and_what_is_found_is_counted() {
        let mut lane = lane();
        let case =
            sigbatch::proof::cases::Case::signed(&mut sigbatch::proof::draw::Draw::new(1), true);
        let audit = Audit::of(&case.check()).expect("short enough");
        let mut bytes = [0; Audit::LEN_MAX];
        let len = audit.encode(&mut bytes);
        let got = lane.take(0, &LongRequest::Audit { audit: &bytes[..len] });
        assert!(matches!(got, (LongCount::Audits, 1)));
        assert!(lane.is_drained() && lane.slice().is_none(), "nothing is owed for it");
    }

    fn run(lane: &mut Long) -> Vec<(u32, u32, LongOutcome)> {
        while lane.slice().is_some() {}
        lane.replies.drain(..).map(|(_, r)| (r.ticket.slot, r.vin, r.outcome)).collect()
    }

    /// Some tens of thousands of cheap opcodes that leave the stack as it was.
    fn slow(pairs: usize) -> Vec<u8> {
        [0x76, 0x75].repeat(pairs)
    }

    #[test]
    fn every_input_is_answered_once_and_failures_carry_their_error() {
        let mut lane = lane();
        let ticket = begin(&mut lane, 0, 1, &transaction(3));
        input(&mut lane, ticket, 0, &slow(50_000));
        input(&mut lane, ticket, 1, &[0x6a]);
        input(&mut lane, ticket, 2, &[0x75, 0x00]);
        let error = consensus::script::ScriptError::EvalFalse as u8;
        assert_eq!(
            run(&mut lane),
            [
                (1, 0, LongOutcome::Passed),
                (1, 1, LongOutcome::Passed),
                (1, 2, LongOutcome::Failed { error })
            ]
        );
    }

    #[test]
    fn a_block_goes_first_even_in_the_middle_of_a_script() {
        let mut lane = lane();
        let pool = begin(&mut lane, 0, 1, &transaction(1));
        input(&mut lane, pool, 0, &slow(50_000));
        assert!(lane.slice().is_some());
        let block = begin(&mut lane, 9, 2, &transaction(1));
        input(&mut lane, block, 0, &slow(100));
        assert_eq!(run(&mut lane), [(2, 0, LongOutcome::Passed), (1, 0, LongOutcome::Passed)]);
    }

    #[test]
    fn an_ended_transaction_stops_in_the_middle_of_a_script() {
        let mut lane = lane();
        let ticket = begin(&mut lane, 0, 1, &transaction(1));
        input(&mut lane, ticket, 0, &slow(100_000));
        assert!(lane.slice().is_some());
        lane.take(0, &LongRequest::End { ticket });
        assert_eq!(lane.waiting(), 0);
        assert_eq!(run(&mut lane), []);
        assert!(lane.held.is_empty());
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut lane = lane();
        let ticket = begin(&mut lane, 0, 1, &transaction(2_000));
        for vin in 0..=(POOL_JOBS_MAX as u32) {
            input(&mut lane, ticket, vin, &[0x51]);
        }
        let got = run(&mut lane);
        let refused = got.iter().filter(|g| g.2 == LongOutcome::Overloaded).count();
        assert_eq!((got.len(), refused), (POOL_JOBS_MAX + 1, 1));
    }
}
