//! `cargo xtask crash`: a node killed under load, again and again, and what comes back.
//!
//! In: `--rounds N --seed S --json`. Out: what `bench crash` prints, and its exit code.

use crate::through;
use std::process::ExitCode;

/// Runs it.
pub fn main(args: &[String]) -> ExitCode {
    through::bench("crash", args, true)
}
