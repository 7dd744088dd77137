//! `relay`: the race. Our relay and five ways others move a block, over the same emulated links, one after the other.
//!
//! In: how thorough it shall be. Out: for each system, object and path the time from "the source has it" to "the last node has
//! verified all of it", what crossed the links and what it cost, as rows, a table and a plot; speeds of the erasure codes; what
//! TCP keeps of a link that it shares with us. Nodes are processes in network namespaces of their own ([`node`]); links are the
//! crate `emulator`'s; rivals are our own models of a behaviour, each described in its file.
//!
//! Read in this order: `cell` (what is run), `object` (what is sent), `crew` (one cell), `node` (one process), then the systems.

mod bfr;
mod bip152;
mod cell;
mod crew;
mod fairness;
mod fec;
mod nack;
pub mod node;
mod object;
mod plot;
mod progress;
mod pull;
mod row;
mod tcp;

use crate::rng::Rng;
use cell::{Cell, Depth, System};
use crew::{Crew, Setup, WARM_RUNS};
use emulator::{Chain, ChainSpec, EmulatorError, Impairment, Link};
use load::evidence::Evidence;
use progress::Progress;
use row::Row;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How names of our namespaces begin; the process follows.
const PREFIX: &str = "mnrace";
/// Every run of a rival has luck of its own.
const SEEDS_PER_CELL: usize = 1_000;
/// What a shared line takes beside the time that is measured.
const FAIRNESS_MORE_S: f64 = 5.0;
/// What the erasure codes take.
const FEC_S: f64 = 4.0;

#[derive(clap::Args)]
pub struct Args {
    /// Fewer runs: under five minutes
    #[arg(long)]
    quick: bool,
    /// Two runs of a few cells: does everything arrive intact?
    #[arg(long, conflicts_with = "quick")]
    check: bool,
    /// Only what contains it in its name, such as `bfr block 98% known`, `1 hop 5%`, `fairness`, `fec`
    #[arg(long)]
    only: Option<String>,
    /// Draws objects and every frame's luck
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Names of namespaces begin with it
    #[arg(long)]
    prefix: Option<String>,
    /// Where to write a plot (SVG)
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Where to write the table (markdown)
    #[arg(long)]
    table: Option<PathBuf>,
    /// Our relays say on stderr what they counted, after every run
    #[arg(long)]
    status: bool,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> ExitCode {
    let mut evidence = Evidence::new("bench-relay/1", args.seed);
    if let Err(why) = emulator::available() {
        // Without links there is no race, and that is nothing wrong.
        eprintln!("relay: {why}");
        evidence.skip("the race", why.to_string());
        return evidence.finish(true, args.json);
    }
    match run(args, &mut evidence) {
        Ok(ok) => evidence.finish(ok, args.json),
        Err(error) => {
            eprintln!("relay: {error}");
            evidence.set("error", error.to_string());
            evidence.finish(false, args.json)
        }
    }
}

fn depth(args: &Args) -> Depth {
    match (args.check, args.quick) {
        (true, _) => Depth::Check,
        (_, true) => Depth::Quick,
        _ => Depth::Full,
    }
}

/// How long a shared line is measured.
fn measured(depth: Depth) -> Option<Duration> {
    match depth {
        Depth::Check => None,
        Depth::Quick => Some(Duration::from_secs(8)),
        Depth::Full => Some(Duration::from_secs(15)),
    }
}

fn run(args: &Args, evidence: &mut Evidence) -> Result<bool, EmulatorError> {
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let cells: Vec<Cell> =
        cell::plan(depth(args)).into_iter().filter(|cell| wanted(&row::name(cell))).collect();
    let prefix = args.prefix.clone().unwrap_or_else(|| format!("{PREFIX}{}", std::process::id()));
    for name in emulator::namespaces::remove_stale(PREFIX)? {
        eprintln!("relay: {name} was left behind by a race that is no more; removed");
    }
    let with = |name: &str| measured(depth(args)).filter(|_| wanted(name));
    let more = [("fairness", 2.0 * FAIRNESS_MORE_S), ("fec", FEC_S)];
    let more_s = |name: &str, s: f64| {
        with(name).map_or(0.0, |measured| match name {
            "fairness" => s + 2.0 * measured.as_secs_f64(),
            _ => s,
        })
    };
    let all_s = cells.iter().map(Cell::expected_s).sum::<f64>()
        + more.iter().map(|(name, s)| more_s(name, *s)).sum::<f64>();
    eprintln!("relay: {} rows, about {:.0} minutes", cells.len(), (all_s / 60.0).ceil());
    let race = Race {
        args,
        prefix: &prefix,
        stop: stop_on_signals(),
        progress: Progress::start(cells.len(), all_s),
        links: Mutex::default(),
    };
    race.progress.say(row::HEAD);
    let rows = race.rows(&cells)?;
    let (mut fairness, mut fec) = (Vec::new(), Vec::new());
    if let Some(measured) = with("fairness").filter(|_| !race.is_stopped()) {
        race.progress.row("fairness".into(), 1, more_s("fairness", more[0].1));
        let say = |line: &str| race.progress.say(line);
        fairness = fairness::rows(&prefix, args.seed, measured, evidence, &race.stop, &say)?;
    }
    if with("fec").is_some() && !race.is_stopped() {
        race.progress.row("fec".into(), 1, FEC_S);
        fec = fec::rows();
    }
    let interrupted = race.is_stopped();
    let ran = !(rows.is_empty() && fairness.is_empty() && fec.is_empty());
    evidence.set("fairness", fairness);
    evidence.set("fec", fec);
    if interrupted {
        let (done, all) = race.progress.rows();
        let why = format!("interrupted when {done} of {all} rows were done; what there is:");
        race.progress.say(&format!("relay: {why}\n{}", row::table(&rows)));
        evidence.set("error", "interrupted");
    } else {
        write_out(args, &rows)?;
    }
    row::aims(&rows, evidence);
    evidence.set("depth", format!("{:?}", depth(args)).to_lowercase());
    evidence.set("expected_s", all_s.round());
    evidence.set("links", locked(&race.links).json());
    let failures: Vec<String> = rows.iter().flat_map(|row| row.failures.clone()).collect();
    let corrupt = rows.iter().any(|row| row.corrupt > 0);
    // A rival that does not arrive in time is a result; ours must always arrive.
    let stalled = rows.iter().any(|row| row.cell.system == System::Bfr && row.timeouts > 0);
    let ok = ran && !interrupted && failures.is_empty() && !corrupt && !stalled;
    evidence.set("failures", failures);
    evidence.set("rows", rows.iter().map(Row::json).collect::<Vec<Value>>());
    Ok(ok)
}

/// The plot and the table, where they are wanted.
fn write_out(args: &Args, rows: &[Row]) -> Result<(), EmulatorError> {
    for (path, text) in [(&args.plot, plot::svg(rows)), (&args.table, row::markdown(rows))] {
        if let Some(path) = path {
            std::fs::write(path, text).map_err(|error| EmulatorError::System {
                tried: format!("writing {}", path.display()),
                why: error.to_string(),
            })?;
        }
    }
    Ok(())
}

/// Set by the first SIGINT or SIGTERM: the race ends, and says what it has. A second one ends the process at once; the emulator's
/// janitor takes the namespaces away.
fn stop_on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let at_once =
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone());
        if let Err(error) = at_once.and_then(|_| signal_hook::flag::register(signal, stop.clone()))
        {
            eprintln!("relay: signal {signal} ends this at once: {error}");
        }
    }
    stop
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A race under way.
struct Race<'a> {
    args: &'a Args,
    prefix: &'a str,
    stop: Arc<AtomicBool>,
    progress: Progress,
    links: Mutex<Links>,
}

impl Race<'_> {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// All rows, or those until somebody stopped it.
    fn rows(&self, cells: &[Cell]) -> Result<Vec<Row>, EmulatorError> {
        let mut rows: Vec<Row> = Vec::new();
        for cells in cells.chunk_by(|a, b| a.hops == b.hops) {
            let mut chains: Vec<Chain> = Vec::new();
            for (i, cell) in cells.iter().enumerate() {
                while chains.len() < cell.lanes() {
                    chains.push(self.chain(cell, chains.len())?);
                }
                let seed = self.args.seed.wrapping_add((i * SEEDS_PER_CELL) as u64);
                self.progress.row(row::name(cell), cell.runs, cell.expected_s());
                let row = self.row(cell, &chains[..cell.lanes()], seed)?;
                if row.runs() > 0 {
                    self.progress.say(&row.to_string());
                    rows.push(row);
                }
                if self.is_stopped() {
                    return Ok(rows);
                }
                self.progress.row_done();
            }
        }
        Ok(rows)
    }

    fn chain(&self, cell: &Cell, lane: usize) -> Result<Chain, EmulatorError> {
        let prefix = match lane {
            0 => self.prefix.to_owned(),
            _ => format!("{}l{lane}", self.prefix),
        };
        Chain::up(&ChainSpec {
            sysctls: row::sysctls(),
            ..ChainSpec::even(&prefix, cell.hops, &cell.rules(), self.args.seed)
        })
    }

    /// All runs of a cell, each on the next chain that is free.
    fn row(&self, cell: &Cell, chains: &[Chain], seed: u64) -> Result<Row, EmulatorError> {
        let row = Mutex::new(Row::new(*cell));
        let next = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let (next, row) = (&next, &row);
            let lane = |chain| scope.spawn(move || self.lane(cell, chain, seed, next, row));
            let lanes: Vec<_> = chains.iter().map(lane).collect();
            lanes.into_iter().try_for_each(|lane| match lane.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        let mut row = row.into_inner().unwrap_or_else(PoisonError::into_inner);
        row.finish();
        Ok(row)
    }

    /// Runs of a cell on one chain, until none is left.
    fn lane(
        &self,
        cell: &Cell,
        chain: &Chain,
        seed: u64,
        next: &AtomicU32,
        row: &Mutex<Row>,
    ) -> Result<(), EmulatorError> {
        let started = |error: std::io::Error| EmulatorError::System {
            tried: "starting the nodes of a race".into(),
            why: error.to_string(),
        };
        let args = self.args;
        let setup = Setup { seed: args.seed, status: args.status, shared_mbit: None };
        let (rules, stays) = (cell.rules(), crew::stays(cell.system));
        let clean = Impairment { loss_pct: 0.0, ..rules.clone() };
        let mut crew: Option<Crew> = None;
        let warm = if stays { WARM_RUNS } else { 0 };
        if stays {
            chain.set(&rules, &rules, seed)?;
        }
        loop {
            let run = next.fetch_add(1, Ordering::Relaxed);
            if run >= cell.runs + warm || self.is_stopped() {
                return Ok(());
            }
            let mut nodes = if let Some(nodes) = crew.take() {
                nodes
            } else {
                if !stays {
                    // How long a lost SYN is waited for is not what is measured.
                    chain.set(&clean, &clean, seed)?;
                }
                Crew::start(cell, chain, setup, self.stop.clone()).map_err(started)?
            };
            // Timers of nodes (a sweep every 100 ms) must not be in step with the race.
            let pause = Duration::from_micros(Rng::new(seed ^ u64::from(run)).below(100_000));
            let outcome = nodes.run(run, chain.links(), || {
                if stays {
                    std::thread::sleep(pause);
                    return Ok(());
                }
                // The last word of connections being made is still on its way.
                std::thread::sleep(pause + cell.round_trip());
                chain.set(&rules, &rules, seed.wrapping_add(1 + u64::from(run)))
            });
            locked(&self.links).saw(chain.links());
            if self.is_stopped() && outcome.ms.is_none() {
                return Ok(());
            }
            if stays && outcome.ms.is_some() {
                crew = Some(nodes);
            }
            if run >= warm {
                locked(row).add(&outcome);
                self.progress.run_done();
            }
        }
    }
}

/// What the links themselves say about the race: late frames are the emulator's fault, not a system's.
#[derive(Default)]
struct Links {
    late_max_us: u64,
    failed: u64,
    not_real_time: bool,
}

impl Links {
    fn saw(&mut self, links: &[Link]) {
        self.not_real_time |= !links.iter().all(Link::is_real_time);
        for counts in links.iter().flat_map(Link::counts) {
            self.late_max_us = self.late_max_us.max(counts.late_max_us);
            self.failed = self.failed.max(counts.failed);
        }
    }

    fn json(&self) -> Value {
        json!({
            "late_max_us": self.late_max_us, "failed": self.failed,
            "real_time": !self.not_real_time,
        })
    }
}
