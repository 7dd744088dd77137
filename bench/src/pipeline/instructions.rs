//! Instructions a transaction, counted by valgrind.
//!
//! The whole machine is turned by one thread (`NodeOptions::threads` off), once with some transactions and once with more; the
//! difference is what the additional ones cost, without boot, import and signing.

use super::rounds::{boot, prepare};
use crate::instructions::{Baseline, of_run, unavailable};
use control_plane::config::value::Durability;
use load::evidence::Evidence;
use load::replay::{Log, Pace};
use load::{Options, Workload};
use std::process::ExitCode;
use std::sync::Arc;

/// Transactions of the two runs.
const FEW: usize = 200;
const MANY: usize = 600;
/// The function below which instructions count.
const WITHIN: &str = "*turn_until_done*";

/// Turns `txs` transactions of `workload` on this thread.
pub fn turn_only(workload: Workload, txs: usize, seed: u64) -> ExitCode {
    let options = Options { keys: 50, ..Options::new(workload, txs, seed) };
    let (plan, fan_out, offer) = prepare(options);
    let mut node = match boot(&plan, &fan_out, 1, seed, false, None, Durability::None) {
        Ok(node) => node,
        Err(error) => {
            eprintln!("pipeline: {error}");
            return ExitCode::FAILURE;
        }
    };
    let expected = offer.len() as u64;
    let log = node.replay(Arc::new(offer), Pace::Max);
    turn_until_done(&mut node, &log);
    if log.accepted() == expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[inline(never)]
fn turn_until_done(node: &mut control_plane::node::Node, log: &Log) {
    node.wait(log);
}

/// Counts workloads beside the committed counts.
#[derive(Debug)]
pub struct Counting {
    /// `None` where nothing is counted.
    baseline: Option<Baseline>,
    seed: u64,
    failed: bool,
}

impl Counting {
    /// Says in `evidence` why nothing is counted, if so.
    pub fn new(left_out: bool, seed: u64, evidence: &mut Evidence) -> Self {
        let why = if left_out { Some("--no-instructions was given") } else { unavailable() };
        if let Some(why) = why {
            evidence.skip("instructions_per_tx", why);
        }
        let baseline = why.is_none().then(|| Baseline::read("pipeline.json"));
        Self { baseline, seed, failed: false }
    }

    /// Instructions of one more transaction of `workload`.
    pub fn count(&mut self, workload: Workload, evidence: &mut Evidence) -> Option<u64> {
        let baseline = self.baseline.as_mut()?;
        match per_tx(workload, self.seed) {
            Ok(count) => {
                let change = baseline.note(workload.name(), count);
                let change = change.map_or("no baseline".to_owned(), |c| format!("{c:+.2} %"));
                eprintln!("pipeline: {:<7} {count:>9} instructions ({change})", workload.name());
                Some(count)
            }
            Err(why) => {
                evidence.skip(format!("instructions_per_tx of {}", workload.name()), why);
                self.failed = true;
                None
            }
        }
    }

    /// Judges the counts, or makes them the committed ones; false if the gate is closed.
    pub fn end(self, write: bool, evidence: &mut Evidence) -> bool {
        let Some(baseline) = self.baseline else { return true };
        if !write {
            return baseline.judge(evidence) && !self.failed;
        }
        if let Err(error) = baseline.write() {
            eprintln!("pipeline: writing the baseline: {error}");
            return false;
        }
        !self.failed
    }
}

fn per_tx(workload: Workload, seed: u64) -> Result<u64, String> {
    let count = |txs: usize| {
        let (txs, seed) = (txs.to_string(), seed.to_string());
        let args = ["pipeline", "--turn-only", "--workloads", workload.name(), "--txs", &txs];
        of_run(&[&args[..], &["--seed", &seed]].concat(), Some(WITHIN))
    };
    Ok(count(MANY)?.saturating_sub(count(FEW)?) / (MANY - FEW) as u64)
}
