//! From a seed to a result: one run, or many on several threads.

use crate::fault::{Failure, FailureKind};
use crate::options::Options;
use crate::plant::Plant;
use crate::world::World;
use dataplane::msg::TxVerdict;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

thread_local! {
    /// Seed and step of the run on this thread, for whoever handles a panic.
    static CURRENT: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

pub(crate) fn note(seed: u64, step: u64) {
    CURRENT.set(Some((seed, step)));
}

/// Seed and step of the run on this thread, if one is under way.
pub fn current() -> Option<(u64, u64)> {
    CURRENT.get()
}

/// A run that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// Steps asked for; those in which it came to rest not counted.
    pub steps: u64,
    /// Stands for every event.
    pub trace_hash: u64,
    /// Events.
    pub events: u64,
    /// Copies by verdict.
    pub verdicts: [u64; TxVerdict::ALL.len()],
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Checks that were made.
    pub invariants_checked: u64,
    /// Transactions accepted.
    pub accepted: u64,
    /// Blocks mined.
    pub blocks: u64,
    /// How often the plant struck.
    pub strikes: u32,
}

/// One run of `steps` steps and its end. A panic of a tile goes through; see [`catch`].
pub fn run_seed(seed: u64, steps: u64, plant: Option<Plant>, lines: bool) -> Result<Run, Failure> {
    let options = Options::draw(seed);
    note(seed, 0);
    let failed = |step, (kind, what)| Failure { kind, seed, step, what };
    let mut world = World::new(options, seed, plant, lines).map_err(|e| failed(0, e))?;
    for _ in 0..steps {
        world.step().map_err(|e| failed(world.step, e))?;
    }
    world.finish().map_err(|e| failed(world.step, e))?;
    let run = Run {
        seed,
        steps,
        trace_hash: world.trace.hash(),
        events: world.trace.events(),
        verdicts: world.auditor.verdicts,
        faults: faults(&world),
        invariants_checked: world.auditor.checks,
        accepted: world.auditor.accepted,
        blocks: world.chain.blocks,
        strikes: world.planted.strikes,
    };
    CURRENT.set(None);
    Ok(run)
}

fn faults(world: &World) -> BTreeMap<&'static str, u64> {
    let mut faults = world.workload.faults.clone();
    let pushed_back = world.gate.pushed_back;
    let shards = || world.machine.shards.iter().map(|s| *s.tile().shard().counts());
    let validates = || world.machine.validates.iter().map(|v| v.tile().counts());
    for (name, n) in [
        ("stall", world.stalls),
        ("freeze", world.freezes),
        ("decision_refused", shards().map(|c| c.refused).sum()),
        ("announcement_refused", shards().map(|c| c.announce_refused).sum()),
        ("clock_jump", world.jumps),
        ("pushed_back", pushed_back),
        ("stale_candidate", world.chain.stale),
        ("restart", validates().map(|c| c.restarts).sum()),
        ("orphan", validates().map(|c| c.orphaned).sum()),
        ("orphan_evicted", validates().map(|c| c.orphans_evicted).sum()),
        ("differed", validates().map(|c| c.differed).sum()),
        ("joined", validates().map(|c| c.joined).sum()),
        ("commit", validates().map(|c| c.commits).sum()),
        ("outbox_full", validates().map(|c| c.outbox_full).sum()),
        ("coin_busy", shards().map(|c| c.busy).sum()),
        ("coin_released", shards().map(|c| c.released).sum()),
        ("decided_again", shards().map(|c| c.decided_again).sum()),
        ("shard_overloaded", shards().map(|c| c.overloaded).sum()),
        ("woken", shards().map(|c| c.woken).sum()),
        ("slow_lane", validates().map(|c| c.inputs_long).sum()),
    ] {
        *faults.entry(name).or_default() += n;
    }
    faults
}

/// As [`run_seed`], with a panic as a [`FailureKind::Crash`] (where panics unwind; where they abort, a hook has to speak).
pub fn catch(seed: u64, steps: u64, plant: Option<Plant>, lines: bool) -> Result<Run, Failure> {
    let run = catch_unwind(AssertUnwindSafe(|| run_seed(seed, steps, plant, lines)));
    run.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without words");
        let step = current().map_or(0, |(_, step)| step);
        Err(Failure { kind: FailureKind::Crash, seed, step, what: text.to_owned() })
    })
}

/// Sums over many runs.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// Runs that ended well.
    pub runs: u64,
    /// All trace hashes, in the order of their seeds, as one.
    pub trace_hash: u64,
    /// Sums of [`Run::verdicts`].
    pub verdicts: [u64; TxVerdict::ALL.len()],
    /// Sums of [`Run::faults`].
    pub faults: BTreeMap<&'static str, u64>,
    /// Sum of [`Run::invariants_checked`].
    pub invariants_checked: u64,
    /// Sum of [`Run::accepted`].
    pub accepted: u64,
    /// Sum of [`Run::blocks`].
    pub blocks: u64,
    /// What was found, by seed.
    pub failures: Vec<Failure>,
}

/// Every seed of `seeds`, on `threads` threads. With `stop` nothing new is begun after the first failure.
pub fn run_seeds(
    seeds: Range<u64>,
    steps: u64,
    plant: Option<Plant>,
    threads: usize,
    stop: bool,
) -> Runs {
    let next = AtomicU64::new(seeds.start);
    let stopped = AtomicBool::new(false);
    let results: Mutex<Vec<Result<Run, Failure>>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    // Relaxed: which thread takes which seed changes nothing.
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end || stopped.load(Relaxed) {
                        return;
                    }
                    let result = catch(seed, steps, plant, false);
                    stopped.fetch_or(stop && result.is_err(), Relaxed);
                    results.lock().expect("no thread panics with the list").push(result);
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panics with the list");
    results.sort_by_key(|r| r.as_ref().map_or_else(|f| f.seed, |run| run.seed));
    let mut sum = Runs::default();
    for result in results {
        sum.add(result);
    }
    sum
}

impl Runs {
    /// One more, in the order of seeds.
    pub fn add(&mut self, result: Result<Run, Failure>) {
        let run = match result {
            Ok(run) => run,
            Err(failure) => return self.failures.push(failure),
        };
        self.runs += 1;
        // One run's hash is its own. FNV-like: order matters, nothing else does.
        self.trace_hash = match self.runs {
            1 => run.trace_hash,
            _ => (self.trace_hash ^ run.trace_hash).wrapping_mul(0x0100_0000_01b3),
        };
        for (sum, n) in self.verdicts.iter_mut().zip(run.verdicts) {
            *sum += n;
        }
        for (name, n) in &run.faults {
            *self.faults.entry(name).or_default() += n;
        }
        self.invariants_checked += run.invariants_checked;
        self.accepted += run.accepted;
        self.blocks += run.blocks;
    }

    /// The exit code: 0, or that of the worst failure (a crash before a wrong answer before a standstill).
    pub fn exit_code(&self) -> u8 {
        self.failures.iter().map(|f| f.kind as u8).min().unwrap_or(0)
    }
}
