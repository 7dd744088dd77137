//! Test vectors of scripts and signature digests: one runner a row format.
//!
//! Only with the feature `vectors` (and in this crate's own tests): rows are JSON, and nothing on a hot path may know
//! JSON. In comes one row of a file, out comes whether our verdict is the file's. `script_row` runners judge every row
//! three times, at once, with collected signature checks, and one opcode at a time, and call it a failure if the three
//! disagree. [`runner_of`] finds the runner by the name of a file; rows are read at run time, never compiled in.
//!
//! Formats: `vectors/SOURCES.md`, "derived-svnode-1.2.2: formats", and the comments at the top of SV Node's files.

#![allow(
    clippy::unnecessary_wraps,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "runners share one signature; names of vector files are fixed"
)]

mod digests;
mod scripts;
mod transactions;

#[cfg(test)]
mod tests;

use crate::script::{
    Budget, Collected, Flags, Immediate, Limits, Machine, Outcome, Progress, Scratch, SigBatch,
    TxContext, verify_collecting, verify_script,
};
use crate::sighash::SighashCache;
use serde_json::Value;

pub use scripts::assemble;

/// A row whose verdict is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFailure {
    /// What the file says.
    pub want: String,
    /// What we say.
    pub got: String,
}

impl RowFailure {
    fn unreadable(what: &str) -> Self {
        Self { want: "a row of the known format".into(), got: format!("unreadable: {what}") }
    }
}

/// `None` for rows that are comments; otherwise whether the row passed.
pub type RowResult = Option<Result<(), RowFailure>>;

/// A function that judges one row of a file.
pub type RowRunner = fn(&Value) -> RowResult;

/// The runner of a file, by its name without folders.
pub fn runner_of(file_name: &str) -> Option<RowRunner> {
    Some(match file_name {
        "script_tests.json" => scripts::script_tests_row,
        "script_fuzz.jsonl" => scripts::script_fuzz_row,
        "opcode_cases.jsonl" => scripts::opcode_cases_row,
        "signature_cases.jsonl" => scripts::signature_cases_row,
        "sighash.json" => digests::sighash_json_row,
        "sighash_cases.jsonl" => digests::sighash_cases_row,
        "tx_valid.json" => transactions::tx_valid_row,
        "tx_invalid.json" => transactions::tx_invalid_row,
        _ => return None,
    })
}

/// The rows of a file of either form: one JSON array, or one JSON value a line.
pub fn rows_of(file_name: &str, text: &str) -> Result<Vec<Value>, serde_json::Error> {
    if file_name.ends_with(".jsonl") {
        text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str).collect()
    } else {
        serde_json::from_str(text)
    }
}

/// Judges one input in every way this crate can, and says so if they differ.
///
/// Ways: at once; collected, then decided, then repeated if a check was bad; one opcode at a time with a fresh
/// [`Machine`] for each.
pub fn judge(
    unlocking: &[u8],
    locking: &[u8],
    flags: Flags,
    tx: TxContext<'_>,
) -> Result<Outcome, RowFailure> {
    let limits = Limits::consensus(0);
    let mut scratch = Scratch::new();
    let mut budget = Budget::UNLIMITED;
    let mut sighash = SighashCache::new();
    let at_once = verify_script(
        unlocking,
        locking,
        flags,
        &tx,
        &mut sighash,
        &mut Immediate,
        &limits,
        &mut budget,
        &mut scratch,
    );

    let mut batch = SigBatch::with_capacity(256);
    let collected = match verify_collecting(
        unlocking,
        locking,
        flags,
        &tx,
        &mut sighash,
        &mut batch,
        7,
        &limits,
        &mut budget,
        &mut scratch,
    ) {
        Collected::Final(outcome) => outcome,
        Collected::Assuming { .. } if batch.checks().iter().all(Immediate::decide) => {
            Outcome::Accepted
        }
        Collected::Assuming { .. } => verify_script(
            unlocking,
            locking,
            flags,
            &tx,
            &mut sighash,
            &mut Immediate,
            &limits,
            &mut budget,
            &mut scratch,
        ),
    };
    if collected != at_once {
        return Err(RowFailure {
            want: format!("{at_once:?} (checked at once)"),
            got: format!("{collected:?} (collected)"),
        });
    }

    let mut fresh = SighashCache::new();
    let mut machine = Machine::new(&mut scratch, unlocking, locking, flags, tx, &limits);
    let mut progress = machine.step(0, &mut fresh, &mut Immediate, &mut budget);
    while progress == Progress::More {
        let mut machine = Machine::resume(&mut scratch, unlocking, locking, flags, tx, &limits);
        progress = machine.step(1, &mut fresh, &mut Immediate, &mut budget);
    }
    if progress != Progress::Done(at_once) {
        return Err(RowFailure {
            want: format!("{at_once:?} (in one go)"),
            got: format!("{progress:?} (in slices)"),
        });
    }
    Ok(at_once)
}

/// The name test vectors give an outcome.
pub fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "OK",
        Outcome::Rejected(error) => error.vector_name(),
        Outcome::BudgetExceeded(_) => "(budget exceeded)",
        Outcome::BatchFull => "(batch full)",
    }
}

fn expect(want: &str, got: Result<Outcome, RowFailure>) -> Result<(), RowFailure> {
    let got = outcome_name(got?);
    if got == want { Ok(()) } else { Err(RowFailure { want: want.into(), got: got.into() }) }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// A 32-byte hash as people write it, reversed.
fn reversed_hex(bytes: &[u8; 32]) -> String {
    crate::hash::TxId(*bytes).to_string()
}
