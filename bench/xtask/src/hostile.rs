//! `cargo xtask hostile`: a running node under everything that is no request, beside honest load.
//!
//! In: `--minutes N --json`. Out: what `bench hostile` prints, and its exit code.

use crate::through;
use std::process::ExitCode;

/// Runs it.
pub fn main(args: &[String]) -> ExitCode {
    through::bench("hostile", args, true)
}
