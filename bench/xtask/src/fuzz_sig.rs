//! `cargo xtask fuzz-sig`: builds `bench` and lets it compare the signature kernel with libsecp256k1.
//!
//! In: `--cases N --seed S --json`. Out: what `bench fuzz-sig` prints, and its exit code.

use std::process::{Command, ExitCode};

/// Runs it.
pub fn main(args: &[String]) -> ExitCode {
    let status = Command::new("cargo")
        .args(["run", "--release", "--quiet", "--package", "bench", "--", "fuzz-sig"])
        .args(args)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: starting cargo for fuzz-sig: {error}");
            ExitCode::FAILURE
        }
    }
}
