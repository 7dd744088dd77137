//! `cargo xtask rate`: the accepted rates of SV Node and of our node, side by side.
//!
//! In: `-n N --rounds N --load-s S --json`. Out: what `bench rate` prints, and its exit code.

use crate::through;
use std::process::ExitCode;

/// Runs it.
pub fn main(args: &[String]) -> ExitCode {
    through::bench("rate", args, true)
}
