//! Commands that `bench` carries out: it is built first, and where it starts nodes, the node too.
//!
//! In: a subcommand of `bench` and its arguments. Out: what it prints, and its exit code.

use crate::tree;
use std::process::{Command, ExitCode};

/// Builds `bench` and runs one of its subcommands; `with_node` builds the binary that it starts as well.
pub fn bench(subcommand: &str, args: &[String], with_node: bool) -> ExitCode {
    let build =
        ["build", "--release", "--quiet", "--package", "control-plane", "--bin", "metanode"];
    let run = ["run", "--release", "--quiet", "--package", "bench", "--", subcommand];
    if with_node && !cargo(&build, &[]) {
        return ExitCode::FAILURE;
    }
    if cargo(&run, args) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cargo(words: &[&str], args: &[String]) -> bool {
    let status = Command::new("cargo").args(words).args(args).current_dir(tree::root()).status();
    match status {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("xtask: starting cargo {}: {error}", words.join(" "));
            false
        }
    }
}
