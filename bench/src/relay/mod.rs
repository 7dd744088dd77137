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
mod pull;
mod row;
mod tcp;

use crate::rng::Rng;
use cell::{Cell, Depth, System};
use crew::{Crew, Setup, WARM_RUNS};
use emulator::{Chain, ChainSpec, EmulatorError, Link};
use load::evidence::Evidence;
use row::Row;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

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
    let prefix = args.prefix.clone().unwrap_or_else(|| format!("mnrace{}", std::process::id()));
    let mut rows: Vec<Row> = Vec::new();
    let mut links = Links::default();
    eprintln!("{}", row::HEAD);
    for cells in cells.chunk_by(|a, b| a.hops == b.hops) {
        let spec = ChainSpec {
            sysctls: row::sysctls(),
            ..ChainSpec::even(&prefix, cells[0].hops, &cells[0].rules(), args.seed)
        };
        let chain = Chain::up(&spec)?;
        for (i, cell) in cells.iter().enumerate() {
            let rules = cell.rules();
            chain.set(&rules, &rules, args.seed.wrapping_add(i as u64))?;
            let row = race(cell, &chain, args)?;
            eprintln!("{row}");
            rows.push(row);
            links.saw(chain.links());
        }
    }
    let (mut fairness, mut fec) = (Vec::new(), Vec::new());
    if let Some(measured) = measured(depth(args)) {
        if wanted("fairness") {
            fairness = fairness::rows(&prefix, args.seed, measured, evidence)?;
        }
        if wanted("fec") {
            fec = fec::rows();
        }
    }
    let ran = !(rows.is_empty() && fairness.is_empty() && fec.is_empty());
    evidence.set("fairness", fairness);
    evidence.set("fec", fec);
    for (path, text) in [(&args.plot, plot::svg(&rows)), (&args.table, row::markdown(&rows))] {
        if let Some(path) = path {
            std::fs::write(path, text).map_err(|error| EmulatorError::System {
                tried: format!("writing {}", path.display()),
                why: error.to_string(),
            })?;
        }
    }
    row::aims(&rows, evidence);
    evidence.set("depth", format!("{:?}", depth(args)).to_lowercase());
    evidence.set("links", links.json());
    let failures: Vec<String> = rows.iter().flat_map(|row| row.failures.clone()).collect();
    let corrupt = rows.iter().any(|row| row.corrupt > 0);
    // A rival that does not arrive in time is a result; ours must always arrive.
    let stalled = rows.iter().any(|row| row.cell.system == System::Bfr && row.timeouts > 0);
    let ok = ran && failures.is_empty() && !corrupt && !stalled;
    evidence.set("failures", failures);
    evidence.set("rows", rows.iter().map(Row::json).collect::<Vec<Value>>());
    Ok(ok)
}

/// All runs of a cell.
fn race(cell: &Cell, chain: &Chain, args: &Args) -> Result<Row, EmulatorError> {
    let started = |error: std::io::Error| EmulatorError::System {
        tried: "starting the nodes of a race".into(),
        why: error.to_string(),
    };
    let setup = Setup { seed: args.seed, status: args.status, shared_mbit: None };
    let mut row = Row::new(*cell);
    let mut rng = Rng::new(args.seed);
    let mut crew: Option<Crew> = None;
    let warm = if crew::stays(cell.system) { WARM_RUNS } else { 0 };
    for run in 0..cell.runs + warm {
        let mut nodes = match crew.take() {
            Some(nodes) => nodes,
            None => Crew::start(cell, chain, setup).map_err(started)?,
        };
        // Timers of nodes (a sweep every 100 ms) must not be in step with the race.
        let pause = Duration::from_micros(rng.below(100_000));
        let outcome = nodes.run(run, pause, chain.links());
        if crew::stays(cell.system) && outcome.ms.is_some() {
            crew = Some(nodes);
        }
        if run >= warm {
            row.add(&outcome);
        }
    }
    row.finish();
    Ok(row)
}

/// What the links themselves say about the race: late frames are the emulator's fault, not a system's.
#[derive(Default)]
struct Links {
    late_max_us: u64,
    failed: u64,
    real_time: bool,
}

impl Links {
    fn saw(&mut self, links: &[Link]) {
        self.real_time = links.iter().all(Link::is_real_time);
        for counts in links.iter().flat_map(Link::counts) {
            self.late_max_us = self.late_max_us.max(counts.late_max_us);
            self.failed = self.failed.max(counts.failed);
        }
    }

    fn json(&self) -> Value {
        json!({
            "late_max_us": self.late_max_us, "failed": self.failed, "real_time": self.real_time,
        })
    }
}
