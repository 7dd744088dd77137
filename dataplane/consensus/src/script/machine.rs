//! The machine: both scripts of an input, from the first opcode to the verdict, in as many slices as the caller wants.
//!
//! All state lives in [`Scratch`], which is owned and reusable: after the first runs nothing is allocated any more. A
//! [`Machine`] binds a scratch to the scripts and the transaction it works on. It can be dropped between two slices and
//! bound again with [`Machine::resume`], as long as scripts and transaction are the same bytes.
//!
//! Source: SV Node `script/interpreter.cpp` `VerifyScript`; consensus rules 2.4.

use super::budget::{BYTES_PER_OPERATION, Budget};
use super::check_cache::CheckCache;
use super::conditional::ConditionalTracker;
use super::error::ScriptError;
use super::exec::{Exec, Frame, Slice, Stop};
use super::flags::Flags;
use super::limits::{CoinLimits, Limits};
use super::number;
use super::opcode::{is_pay_to_script_hash, is_push_only};
use super::sigcheck::SigCheck;
use super::stack::{Source, Sources, Span, Stack};
use super::{Outcome, TxContext};
use crate::sighash::SighashCache;

/// Which script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Start,
    Unlocking,
    Locking,
    Redeem,
    Done(Outcome),
}

/// What a slice came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The slice is used up and the scripts are not done.
    More,
    /// The run is over.
    Done(Outcome),
}

/// Reusable memory of one run at a time: stacks, byte arena, counters, the run's check cache.
#[derive(Debug)]
pub struct Scratch {
    stack: Stack,
    open: ConditionalTracker,
    frame: Frame,
    phase: Phase,
    checks: CheckCache,
    code: Vec<u8>,
    needle: Vec<u8>,
    redeem: Vec<u8>,
    /// Lengths of the bound scripts, to notice a resume with other ones.
    bound: (usize, usize),
}

impl Scratch {
    /// Memory for small scripts; grows when a script needs more.
    pub fn new() -> Self {
        Self::with_capacity(64, 4096, 1024)
    }

    /// Memory so that no run within `budget` allocates (big numbers excepted: keep `bignum_cost` at 0).
    ///
    /// Takes about `100 * operations + hashed_bytes` bytes.
    pub fn for_budget(budget: &Budget) -> Self {
        let operations = budget.operations as usize;
        Self::with_capacity(
            3 * operations + 3,
            (BYTES_PER_OPERATION as usize) * (operations + 1),
            budget.hashed_bytes as usize,
        )
    }

    /// Bytes of memory held, used or not.
    pub fn reserved_bytes(&self) -> usize {
        self.stack.reserved_bytes()
            + self.open.reserved_bytes()
            + self.code.capacity()
            + self.needle.capacity()
            + self.redeem.capacity()
    }

    fn with_capacity(items: usize, arena_bytes: usize, code_bytes: usize) -> Self {
        Self {
            stack: Stack::with_capacity(items, arena_bytes),
            open: ConditionalTracker::with_capacity(items),
            frame: Frame::default(),
            phase: Phase::Start,
            checks: CheckCache::new(),
            code: Vec::with_capacity(code_bytes),
            needle: Vec::with_capacity(code_bytes.min(1024)),
            redeem: Vec::with_capacity(code_bytes.min(1024)),
            bound: (0, 0),
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// The scripts of one input on their way to a verdict.
#[derive(Debug)]
pub struct Machine<'a> {
    scratch: &'a mut Scratch,
    unlocking: &'a [u8],
    locking: &'a [u8],
    flags: Flags,
    limits: CoinLimits,
    tx: TxContext<'a>,
}

impl<'a> Machine<'a> {
    /// Begins a run; whatever the scratch held is forgotten.
    pub fn new(
        scratch: &'a mut Scratch,
        unlocking: &'a [u8],
        locking: &'a [u8],
        flags: Flags,
        tx: TxContext<'a>,
        limits: &Limits,
    ) -> Self {
        scratch.phase = Phase::Start;
        scratch.bound = (unlocking.len(), locking.len());
        scratch.checks.start_run();
        Self::bind(scratch, unlocking, locking, flags, tx, limits)
    }

    /// Goes on with a run that was begun with the same scripts, flags, transaction and limits.
    ///
    /// # Panics
    /// If the scripts have other lengths than those of the run.
    pub fn resume(
        scratch: &'a mut Scratch,
        unlocking: &'a [u8],
        locking: &'a [u8],
        flags: Flags,
        tx: TxContext<'a>,
        limits: &Limits,
    ) -> Self {
        let lengths = (unlocking.len(), locking.len());
        assert!(
            scratch.bound == lengths,
            "a run over scripts of {:?} bytes is resumed with {lengths:?}",
            scratch.bound
        );
        Self::bind(scratch, unlocking, locking, flags, tx, limits)
    }

    fn bind(
        scratch: &'a mut Scratch,
        unlocking: &'a [u8],
        locking: &'a [u8],
        flags: Flags,
        tx: TxContext<'a>,
        limits: &Limits,
    ) -> Self {
        let strict =
            if flags.has(Flags::ENABLE_SIGHASH_FORKID) { Flags::STRICTENC } else { Flags::NONE };
        let flags = flags | strict;
        Self { scratch, unlocking, locking, flags, limits: limits.of_coin(flags), tx }
    }

    /// Runs at most `opcodes` opcodes. An exceeded budget or a full batch ends the run; it cannot go on afterwards.
    pub fn step<S: SigCheck>(
        &mut self,
        mut opcodes: u64,
        sighash: &mut SighashCache,
        checker: &mut S,
        budget: &mut Budget,
    ) -> Progress {
        loop {
            if let Phase::Done(outcome) = self.scratch.phase {
                return Progress::Done(outcome);
            }
            match self.advance(&mut opcodes, sighash, checker, budget) {
                Ok(Slice::More) => return Progress::More,
                Ok(Slice::Ended) => {}
                Err(stop) => {
                    self.scratch.phase = Phase::Done(match stop {
                        Stop::Error(error) => Outcome::Rejected(error),
                        Stop::Budget(part) => Outcome::BudgetExceeded(part),
                        Stop::BatchFull => Outcome::BatchFull,
                    });
                }
            }
        }
    }

    /// Chronicle's relaxation: signed version above 1.
    fn relaxed(&self) -> bool {
        self.flags.has(Flags::CHRONICLE) && self.tx.view.version() > 1
    }

    fn evaluates_p2sh(&self) -> bool {
        self.flags.has(Flags::P2SH)
            && !self.flags.has(Flags::UTXO_AFTER_GENESIS)
            && is_pay_to_script_hash(self.locking)
    }

    /// One phase, or the rest of it.
    fn advance<S: SigCheck>(
        &mut self,
        opcodes: &mut u64,
        sighash: &mut SighashCache,
        checker: &mut S,
        budget: &mut Budget,
    ) -> Result<Slice, Stop> {
        match self.scratch.phase {
            Phase::Start => {
                self.start(budget)?;
                self.enter(Phase::Unlocking, self.unlocking.len())?;
            }
            Phase::Unlocking => {
                if self.run_script(opcodes, sighash, checker, budget)? == Slice::More {
                    return Ok(Slice::More);
                }
                if self.evaluates_p2sh() {
                    self.scratch.stack.keep();
                }
                self.enter(Phase::Locking, self.locking.len())?;
            }
            Phase::Locking => {
                if self.run_script(opcodes, sighash, checker, budget)? == Slice::More {
                    return Ok(Slice::More);
                }
                self.expect_true(budget)?;
                if self.evaluates_p2sh() {
                    budget.charge_touched(self.unlocking.len())?;
                    if !is_push_only(self.unlocking) {
                        return Err(ScriptError::SigPushOnly.into());
                    }
                    let Scratch { stack, redeem, .. } = &mut *self.scratch;
                    stack.restore();
                    // The hash matched, so the unlocking script left at least the redeem script.
                    let script = stack.pop();
                    redeem.clear();
                    let sources =
                        Sources { unlocking: self.unlocking, locking: self.locking, redeem: &[] };
                    redeem.extend_from_slice(stack.bytes(&sources, script));
                    let len = redeem.len();
                    self.enter(Phase::Redeem, len)?;
                } else {
                    self.finish()?;
                }
            }
            Phase::Redeem => {
                if self.run_script(opcodes, sighash, checker, budget)? == Slice::More {
                    return Ok(Slice::More);
                }
                self.expect_true(budget)?;
                self.finish()?;
            }
            Phase::Done(_) => {}
        }
        Ok(Slice::Ended)
    }

    fn start(&mut self, budget: &mut Budget) -> Result<(), Stop> {
        let flags = self.flags;
        if flags.has(Flags::UTXO_AFTER_CHRONICLE) && !flags.has(Flags::UTXO_AFTER_GENESIS) {
            return Err(ScriptError::InvalidFlags.into());
        }
        // Push-only binds from Genesis; from Chronicle on only transactions of version 1 and below.
        let push_only = flags.has(Flags::SIGPUSHONLY)
            && flags.has_any(Flags::GENESIS | Flags::CHRONICLE)
            && !self.relaxed();
        if push_only {
            budget.charge_touched(self.unlocking.len())?;
            if !is_push_only(self.unlocking) {
                return Err(ScriptError::SigPushOnly.into());
            }
        }
        self.scratch.stack.reset(self.limits.stack_memory_bytes);
        Ok(())
    }

    /// Begins a script: its own IFs, counters, code start and alternative stack.
    fn enter(&mut self, phase: Phase, len: usize) -> Result<(), ScriptError> {
        if len as u64 > self.limits.script_bytes {
            return Err(ScriptError::ScriptSize);
        }
        self.scratch.phase = phase;
        self.scratch.frame = Frame::default();
        self.scratch.open.clear();
        self.scratch.stack.clear_alt();
        Ok(())
    }

    fn run_script<S: SigCheck>(
        &mut self,
        opcodes: &mut u64,
        sighash: &mut SighashCache,
        checker: &mut S,
        budget: &mut Budget,
    ) -> Result<Slice, Stop> {
        let relaxed = self.relaxed();
        let Scratch { stack, open, frame, phase, checks, code, needle, redeem, .. } =
            &mut *self.scratch;
        let redeem = redeem.as_slice();
        let (script, script_source) = match phase {
            Phase::Unlocking => (self.unlocking, Source::Unlocking),
            Phase::Redeem => (redeem, Source::Redeem),
            _ => (self.locking, Source::Locking),
        };
        let joins = matches!(phase, Phase::Unlocking) && self.flags.has(Flags::CHRONICLE);
        Exec {
            script,
            script_source,
            code_tail: if joins { self.locking } else { &[] },
            sources: Sources { unlocking: self.unlocking, locking: self.locking, redeem },
            stack,
            open,
            frame,
            checks,
            code,
            needle,
            flags: self.flags,
            limits: self.limits,
            relaxed,
            minimal: self.flags.has(Flags::MINIMALDATA) && !relaxed,
            after_genesis: self.flags.has(Flags::UTXO_AFTER_GENESIS),
            after_chronicle: self.flags.has(Flags::UTXO_AFTER_CHRONICLE),
            tx: &self.tx,
            sighash,
            checker,
            budget,
        }
        .run(opcodes)
    }

    fn expect_true(&mut self, budget: &mut Budget) -> Result<(), Stop> {
        let sources = Sources {
            unlocking: self.unlocking,
            locking: self.locking,
            redeem: &self.scratch.redeem,
        };
        let stack = &self.scratch.stack;
        let top = if stack.len() == 0 { Span::EMPTY } else { stack.top(1) };
        budget.charge_touched(top.len())?;
        if number::is_true(stack.bytes(&sources, top)) {
            Ok(())
        } else {
            Err(ScriptError::EvalFalse.into())
        }
    }

    fn finish(&mut self) -> Result<(), ScriptError> {
        if self.flags.has(Flags::CLEANSTACK) {
            if !self.flags.has(Flags::P2SH) {
                return Err(ScriptError::InvalidFlags);
            }
            if !self.relaxed() && self.scratch.stack.len() != 1 {
                return Err(ScriptError::CleanStack);
            }
        }
        self.scratch.phase = Phase::Done(Outcome::Accepted);
        Ok(())
    }
}
