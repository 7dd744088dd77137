//! The script engine as checks use it: one input in, verdict out, run twice.
//!
//! Every input is verified at once and again with its signature checks collected and decided afterwards, as the node does
//! it; both verdicts must be the same, or the input counts as undecided.

use consensus::script::{
    Budget, Collected, Flags, Immediate, Limits, Outcome, Scratch, ScriptError, SigBatch,
    TxContext, verify_collecting, verify_script,
};
use consensus::sighash::SighashCache;
use consensus::tx::TxView;

/// Signature checks of one input that are collected; an input with more runs at once.
const BATCH: usize = 4_096;

/// Scripts decide: accepted, or SV Node's error.
pub type Verdict = Result<(), ScriptError>;

/// Reusable memory of the interpreter.
#[derive(Debug)]
pub struct Engine {
    scratch: Scratch,
    sighash: SighashCache,
    batch: SigBatch,
    limits: Limits,
}

impl Engine {
    /// Consensus limits, no bound on stack memory.
    pub fn new() -> Self {
        Self {
            scratch: Scratch::new(),
            sighash: SighashCache::new(),
            batch: SigBatch::with_capacity(BATCH),
            limits: Limits::consensus(i64::MAX as u64),
        }
    }

    /// Forgets the transaction whose digests are kept; call it when the transaction changes.
    pub fn next_transaction(&mut self) {
        self.sighash.reset();
    }

    /// Verifies one input of the transaction at once, then collected. `Err` says why there is no verdict.
    pub fn verify(
        &mut self,
        view: TxView<'_>,
        input_index: usize,
        value_sat: u64,
        locking: &[u8],
        flags: Flags,
    ) -> Result<Verdict, String> {
        let at_once = self.at_once(view, input_index, value_sat, locking, flags)?;
        let collected = self.collected(view, input_index, value_sat, locking, flags)?;
        if at_once == collected {
            return Ok(at_once);
        }
        Err(format!("at once {}, collected {}", name(at_once), name(collected)))
    }

    /// Verifies one input with exact checks in order.
    pub fn at_once(
        &mut self,
        view: TxView<'_>,
        input_index: usize,
        value_sat: u64,
        locking: &[u8],
        flags: Flags,
    ) -> Result<Verdict, String> {
        let unlocking = view.input(input_index).unlocking_script;
        let context = TxContext::new(view, input_index, value_sat);
        let outcome = verify_script(
            unlocking,
            locking,
            flags,
            &context,
            &mut self.sighash,
            &mut Immediate,
            &self.limits,
            &mut Budget::UNLIMITED.clone(),
            &mut self.scratch,
        );
        verdict(outcome)
    }

    fn collected(
        &mut self,
        view: TxView<'_>,
        input_index: usize,
        value_sat: u64,
        locking: &[u8],
        flags: Flags,
    ) -> Result<Verdict, String> {
        let unlocking = view.input(input_index).unlocking_script;
        let context = TxContext::new(view, input_index, value_sat);
        self.batch.clear();
        let collected = verify_collecting(
            unlocking,
            locking,
            flags,
            &context,
            &mut self.sighash,
            &mut self.batch,
            0,
            &self.limits,
            &mut Budget::UNLIMITED.clone(),
            &mut self.scratch,
        );
        match collected {
            Collected::Assuming { .. } if self.batch.checks().iter().all(Immediate::decide) => {
                Ok(Ok(()))
            }
            Collected::Assuming { .. } | Collected::Final(Outcome::BatchFull) => {
                self.at_once(view, input_index, value_sat, locking, flags)
            }
            Collected::Final(outcome) => verdict(outcome),
        }
    }
}

fn verdict(outcome: Outcome) -> Result<Verdict, String> {
    outcome.verdict().ok_or_else(|| format!("no verdict: {outcome:?}"))
}

/// The name of a verdict in the vectors: `OK` or the error's.
pub fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Ok(()) => "OK",
        Err(error) => error.vector_name(),
    }
}
