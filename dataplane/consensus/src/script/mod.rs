//! Scripts: does this unlocking script satisfy that locking script, under these rules?
//!
//! In come two scripts, a flag word, the spending transaction and a [`SigCheck`]; out comes an [`Outcome`]: accepted,
//! rejected with SV Node's error, or not decided because a bound of the caller was reached. The rules depend on two eras
//! at once, of the coin and of the spending height; both are in the [`Flags`] ([`input_flags`] puts them together).
//!
//! * [`verify_script`] runs an input from start to end; [`Machine`] does it in slices.
//! * [`verify_collecting`] runs it with signature checks collected for a batch, and repeats at once what cannot be assumed.
//! * [`Budget`] bounds the work before it is done, [`Limits`] are the rules' own bounds, [`Scratch`] is the memory.
//!
//! ```text
//!   flags ok? ─ push-only? ─► unlocking script ─► locking script ─► top true? ─► [P2SH redeem script] ─► clean stack?
//! ```
//!
//! Source: SV Node 1.2.2 `script/interpreter.cpp`; consensus rules section 2.

mod budget;
mod check_cache;
mod conditional;
mod encoding;
mod error;
mod exec;
mod exec_bytes;
mod exec_numbers;
mod exec_signatures;
mod flags;
mod limits;
mod machine;
mod number;
pub mod opcode;
mod script_code;
mod sigcheck;
mod stack;

#[cfg(test)]
mod tests;

use crate::sighash::SighashCache;
use crate::tx::TxView;

pub use budget::{BYTES_PER_OPERATION, Budget, BudgetPart, SIGNATURE_CHECK_OPERATIONS};
pub use encoding::{LaxSignature, has_valid_pubkey_size, hash_type, is_strict_der, read_lax_der};
pub use error::ScriptError;
pub use flags::{Flags, ScriptEra, input_flags};
pub use limits::{
    COUNT_BYTES_MAX, ELEMENT_BYTES_MAX_BEFORE_GENESIS, ITEM_OVERHEAD_BYTES, LOCKTIME_BYTES_MAX,
    Limits, NUMBER_BYTES_MAX_CHRONICLE, NUMBER_BYTES_MAX_GENESIS, STACK_ITEMS_MAX_BEFORE_GENESIS,
};
pub use machine::{Machine, Progress, Scratch};
pub use sigcheck::{Deferred, Immediate, PendingCheck, SigBatch, SigCheck};

/// The spending transaction as one of its inputs sees it.
#[derive(Clone, Copy, Debug)]
pub struct TxContext<'a> {
    /// The spending transaction.
    pub view: TxView<'a>,
    /// Which input is verified.
    pub input_index: usize,
    /// Value of the coin it spends.
    pub value_sat: u64,
}

impl<'a> TxContext<'a> {
    /// Binds an input.
    ///
    /// # Panics
    /// If the transaction has no such input.
    pub fn new(view: TxView<'a>, input_index: usize, value_sat: u64) -> Self {
        let inputs = view.input_count();
        assert!(
            input_index < inputs,
            "input {input_index} of a transaction with {inputs} inputs is verified"
        );
        Self { view, input_index, value_sat }
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The scripts are satisfied (under the assumptions of a [`Deferred`] checker, if one was used).
    Accepted,
    /// The scripts are not satisfied. Final only if nothing was assumed.
    Rejected(ScriptError),
    /// The caller's budget ended before the scripts did; says nothing about them.
    BudgetExceeded(BudgetPart),
    /// The batch of deferred checks had no room for one more; says nothing about the scripts.
    BatchFull,
}

impl Outcome {
    /// Whether the scripts decided, and not a bound of the caller.
    pub const fn is_verdict(self) -> bool {
        matches!(self, Outcome::Accepted | Outcome::Rejected(_))
    }

    /// The verdict as a result; `None` when a bound of the caller ended the run.
    pub const fn verdict(self) -> Option<Result<(), ScriptError>> {
        match self {
            Outcome::Accepted => Some(Ok(())),
            Outcome::Rejected(error) => Some(Err(error)),
            Outcome::BudgetExceeded(_) | Outcome::BatchFull => None,
        }
    }
}

/// Verifies one input from start to end.
///
/// `sighash` belongs to the transaction of `tx` and may be shared by its inputs one after the other. With a
/// [`Deferred`] checker prefer [`verify_collecting`], which knows what an assumed answer is worth.
pub fn verify_script<S: SigCheck>(
    unlocking: &[u8],
    locking: &[u8],
    flags: Flags,
    tx: &TxContext<'_>,
    sighash: &mut SighashCache,
    checker: &mut S,
    limits: &Limits,
    budget: &mut Budget,
    scratch: &mut Scratch,
) -> Outcome {
    let mut machine = Machine::new(scratch, unlocking, locking, flags, *tx, limits);
    loop {
        if let Progress::Done(outcome) = machine.step(u64::MAX, sighash, checker, budget) {
            return outcome;
        }
    }
}

/// What [`verify_collecting`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collected {
    /// Decided: nothing is assumed and nothing was left in the batch.
    Final(Outcome),
    /// Accepted if every one of the last `checks` checks of the batch is good. If one is not, run the input again with
    /// [`Immediate`].
    Assuming {
        /// How many checks this input left in the batch; at least one.
        checks: usize,
    },
}

/// Verifies one input with its signature checks collected in `batch` under `tag`.
///
/// A run that fails after an assumption is repeated at once with exact checks, because the assumption may be what made
/// it fail; its checks are taken back from the batch. Both runs draw on the same budget.
pub fn verify_collecting(
    unlocking: &[u8],
    locking: &[u8],
    flags: Flags,
    tx: &TxContext<'_>,
    sighash: &mut SighashCache,
    batch: &mut SigBatch,
    tag: u32,
    limits: &Limits,
    budget: &mut Budget,
    scratch: &mut Scratch,
) -> Collected {
    let mut deferred = Deferred::new(batch, tag);
    let outcome = verify_script(
        unlocking,
        locking,
        flags,
        tx,
        sighash,
        &mut deferred,
        limits,
        budget,
        scratch,
    );
    let assumed = deferred.assumed();
    match outcome {
        Outcome::Accepted if assumed > 0 => Collected::Assuming { checks: assumed },
        Outcome::Rejected(_) if assumed > 0 => {
            deferred.abandon();
            Collected::Final(verify_script(
                unlocking,
                locking,
                flags,
                tx,
                sighash,
                &mut Immediate,
                limits,
                budget,
                scratch,
            ))
        }
        other => {
            deferred.abandon();
            Collected::Final(other)
        }
    }
}
