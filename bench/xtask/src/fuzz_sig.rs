//! `cargo xtask fuzz-sig`: the signature kernel against libsecp256k1.
//!
//! In: `--cases N --seed S --json`. Out: what `bench fuzz-sig` prints, and its exit code.

use crate::through;
use std::process::ExitCode;

/// Runs it.
pub fn main(args: &[String]) -> ExitCode {
    through::bench("fuzz-sig", args, false)
}
