//! `bench sim`: the deterministic simulator from the command line.
//!
//! One seed, a range of seeds, or the planted bugs. Exit code 0 when nothing was found (or every plant was), 1 when a tile
//! panicked, 2 when something was incorrect, 3 when something got stuck. Whatever is found is printed with the command that runs
//! it again. Release builds abort where a tile panics: a hook says which seed and step it was, and plants are run as processes of
//! their own.

use load::evidence::Evidence;
use serde_json::{Map, Value, json};
use sim::{Failure, FailureKind, Plant, Runs};
use std::ops::Range;
use std::process::{Command, ExitCode, Stdio};

/// What `bench sim` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The only seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Every seed from the first to before the last, as `A..B`
    #[arg(long, value_parser = parse_range)]
    seeds: Option<Range<u64>>,
    /// Steps of each run, before it is brought to rest
    #[arg(long, default_value_t = 20_000)]
    steps: u64,
    /// Put this bug in; the run is expected to find it
    #[arg(long, value_parser = parse_plant, conflicts_with = "plants")]
    plant: Option<Plant>,
    /// Put each known bug in until it is found; exit code 2 if one is not
    #[arg(long)]
    plants: bool,
    /// Print every event of a single seed to stderr, one line each
    #[arg(long)]
    trace: bool,
    /// Threads; 0 for one a core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// Seeds without any argument, and seeds a plant gets.
const SEEDS: Range<u64> = 0..200;
/// Steps of a run with a plant.
const PLANT_STEPS: u64 = 4_000;
const SCHEMA: &str = "sim/1";

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parts {
        Some((a, b)) if a < b => Ok(a..b),
        _ => Err(format!("{text} is no range of seeds; write A..B with A below B")),
    }
}

fn parse_plant(name: &str) -> Result<Plant, String> {
    let names = || Plant::ALL.map(Plant::name).join(", ");
    Plant::parse(name).ok_or_else(|| format!("there is no plant {name}; there are {}", names()))
}

/// Runs it.
pub fn main(args: &Args) -> ExitCode {
    let seeds = match (args.seed, &args.seeds) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => seeds.clone(),
        (None, None) => SEEDS,
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if args.threads == 0 { cores } else { args.threads };
    if args.plants {
        return plants(args, &seeds, threads);
    }
    speak_at_panics(args.steps, args.plant, args.json);
    let mut evidence = Evidence::new(SCHEMA, seeds.start);
    if seeds.end - seeds.start == 1 {
        say(&format!("seed {}: {}", seeds.start, sim::Options::draw(seeds.start)));
    }
    let runs = if args.trace && seeds.end - seeds.start == 1 {
        let mut runs = Runs::default();
        runs.add(sim::catch(seeds.start, args.steps, args.plant, true));
        runs
    } else {
        sim::run_seeds(seeds.clone(), args.steps, args.plant, threads, args.plant.is_some())
    };
    for failure in &runs.failures {
        say(&format!("{failure}\n  {}", rerun(failure.seed, args.steps, args.plant)));
    }
    let seconds = evidence.elapsed_s();
    put(&mut evidence, &runs, args.steps, args.plant);
    evidence.set("seeds", json!({ "from": seeds.start, "to": seeds.end }));
    let per_second = (runs.runs + runs.failures.len() as u64) as f64 / seconds.max(1e-9);
    evidence.set("seeds_per_s", (per_second * 10.0).round() / 10.0);
    let all = SEEDS.end - SEEDS.start;
    if args.plant.is_none() && seeds.end - seeds.start == all && args.steps == 20_000 {
        evidence.aim("200_seeds_of_20000_steps_s", 60.0, seconds, seconds <= 60.0);
    }
    let code = runs.exit_code();
    evidence.finish(code == 0, args.json);
    ExitCode::from(code)
}

fn put(evidence: &mut Evidence, runs: &Runs, steps: u64, plant: Option<Plant>) {
    let verdicts: Map<String, Value> = dataplane::msg::TxVerdict::ALL
        .into_iter()
        .zip(runs.verdicts)
        .map(|(verdict, n)| (verdict.name().to_owned(), n.into()))
        .collect();
    let faults: Map<String, Value> =
        runs.faults.iter().map(|(name, n)| ((*name).to_owned(), (*n).into())).collect();
    let failures: Vec<Value> = runs
        .failures
        .iter()
        .map(|f| {
            let rerun = rerun(f.seed, steps, plant);
            json!({ "kind": f.kind.name(), "seed": f.seed, "step": f.step, "what": f.what, "rerun": rerun })
        })
        .collect();
    evidence.set("steps", steps);
    evidence.set("runs", runs.runs);
    evidence.set("trace_hash", format!("{:016x}", runs.trace_hash));
    evidence.set("verdicts", verdicts);
    evidence.set("faults", faults);
    evidence.set("invariants_checked", runs.invariants_checked);
    evidence.set("accepted", runs.accepted);
    evidence.set("blocks", runs.blocks);
    evidence.set("plant", plant.map(Plant::name));
    evidence.set("failures", failures);
}

/// Every plant, each in a process of its own, until it is found.
fn plants(args: &Args, seeds: &Range<u64>, threads: usize) -> ExitCode {
    let mut evidence = Evidence::new(SCHEMA, seeds.start);
    let mut rows = Vec::new();
    let mut all = true;
    for plant in Plant::ALL {
        let found = find(plant, seeds, threads);
        all &= found.is_some();
        let kind = found.unwrap_or("not found");
        say(&format!("{:<20} {kind}", plant.name()));
        rows.push(json!({ "plant": plant.name(), "found": found.is_some(), "kind": found }));
    }
    evidence.set("plants", rows);
    evidence.set("seeds", json!({ "from": seeds.start, "to": seeds.end }));
    evidence.set("steps", PLANT_STEPS);
    evidence.finish(all, args.json);
    if all { ExitCode::SUCCESS } else { ExitCode::from(FailureKind::Incorrect as u8) }
}

fn find(plant: Plant, seeds: &Range<u64>, threads: usize) -> Option<&'static str> {
    let program = std::env::current_exe().ok()?;
    let status = Command::new(program)
        .args(["sim", "--plant", plant.name(), "--json"])
        .args(["--seeds", &format!("{}..{}", seeds.start, seeds.end)])
        .args(["--steps", &PLANT_STEPS.to_string(), "--threads", &threads.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .ok()?;
    let kinds = [FailureKind::Crash, FailureKind::Incorrect, FailureKind::Stuck];
    kinds.into_iter().find(|&kind| status.code() == Some(kind as i32)).map(FailureKind::name)
}

fn rerun(seed: u64, steps: u64, plant: Option<Plant>) -> String {
    let plant = plant.map_or(String::new(), |plant| format!(" --plant {}", plant.name()));
    format!("cargo run --release -p bench -- sim --seed {seed} --steps {steps}{plant} --trace")
}

/// Where panics unwind, the runner turns one into a failure. Where they abort, this is all that is heard of it.
fn speak_at_panics(steps: u64, plant: Option<Plant>, as_json: bool) {
    std::panic::set_hook(Box::new(move |info| {
        let (seed, step) = sim::current().unwrap_or_default();
        let failure = Failure { kind: FailureKind::Crash, seed, step, what: info.to_string() };
        if cfg!(panic = "unwind") {
            return;
        }
        say(&format!("{failure}\n  {}", rerun(seed, steps, plant)));
        let mut runs = Runs::default();
        runs.add(Err(failure));
        let mut evidence = Evidence::new(SCHEMA, seed);
        put(&mut evidence, &runs, steps, plant);
        evidence.finish(false, as_json);
        std::process::exit(FailureKind::Crash as i32);
    }));
}

fn say(text: &str) {
    eprintln!("{text}");
}
