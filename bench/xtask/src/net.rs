//! `cargo xtask net`: every way to move packets, held to the same promises between network namespaces.
//!
//! In: `--backend NAME --json`. Out: what `bench net` prints, and its exit code.

use crate::through;
use std::process::ExitCode;

/// Runs it.
pub fn main(args: &[String]) -> ExitCode {
    through::bench("net", args, false)
}
