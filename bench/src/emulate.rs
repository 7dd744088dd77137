//! `emulate`: namespaces in a row, joined by links with delay, loss and a rate, until Ctrl-C.
//!
//! In: how many hops and what each direction does. Out: names and addresses to run anything in (`ip netns exec NAME ...`), and at
//! the end what the links counted. The race (`relay`) uses the same links; here they serve a person with a program to try.

use emulator::{Chain, ChainSpec, Counts, EmulatorError, Impairment};
use load::evidence::Evidence;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the signal flag is looked at.
const POLL: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub struct Args {
    /// Links in a row
    #[arg(long, default_value_t = 1)]
    hops: usize,
    /// One-way delay of a link
    #[arg(long, default_value_t = 25.0)]
    delay_ms: f64,
    /// Each frame's delay varies by so much
    #[arg(long, default_value_t = 0.0)]
    jitter_ms: f64,
    /// Frames lost, percent
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Mean length of a run of lost frames
    #[arg(long, default_value_t = 1.0)]
    burst: f64,
    /// Mbit/s on the wire; 0 is no limit
    #[arg(long, default_value_t = 1_000)]
    rate_mbit: u32,
    /// Longest wait in front of a link
    #[arg(long, default_value_t = 200)]
    queue_ms: u32,
    /// Frames that others overtake, percent
    #[arg(long, default_value_t = 0.0)]
    reorder: f64,
    /// How long such frames are held back
    #[arg(long, default_value_t = 1.0)]
    reorder_hold_ms: f64,
    /// Frames that arrive twice, percent
    #[arg(long, default_value_t = 0.0)]
    duplicate: f64,
    /// Names of namespaces begin with it
    #[arg(long, default_value = "mn")]
    prefix: String,
    /// Ends after so many seconds; 0 waits for Ctrl-C
    #[arg(long, default_value_t = 0.0)]
    for_s: f64,
    /// Every frame's luck is drawn from it
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> ExitCode {
    let mut evidence = Evidence::new("bench-emulate/1", args.seed);
    match run(args, &mut evidence) {
        Ok(ok) => evidence.finish(ok, args.json),
        Err(error) => {
            eprintln!("emulate: {error}");
            evidence.set("error", error.to_string());
            evidence.finish(false, args.json)
        }
    }
}

fn run(args: &Args, evidence: &mut Evidence) -> Result<bool, EmulatorError> {
    let rules = Impairment {
        delay_us: (args.delay_ms * 1e3) as u32,
        jitter_us: (args.jitter_ms * 1e3) as u32,
        loss_pct: args.loss,
        burst_frames: args.burst,
        rate_mbit: args.rate_mbit,
        queue_ms: args.queue_ms,
        reorder_pct: args.reorder,
        reorder_hold_us: (args.reorder_hold_ms * 1e3) as u32,
        duplicate_pct: args.duplicate,
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, stop.clone()) {
            eprintln!("emulate: signal {signal} ends this at once, the janitor cleans up: {error}");
        }
    }
    let chain = Chain::up(&ChainSpec::even(&args.prefix, args.hops, &rules, args.seed))?;
    for (i, node) in chain.nodes().iter().enumerate() {
        let near = (i < args.hops).then(|| format!(" {} (d{})", Chain::addresses(i + 1).0, i + 1));
        let far = (i > 0).then(|| format!(" {} (u{i})", Chain::addresses(i).1));
        eprintln!(
            "ip netns exec {node} ...  {}{}",
            far.unwrap_or_default(),
            near.unwrap_or_default()
        );
    }
    let began = Instant::now();
    let over = || args.for_s > 0.0 && began.elapsed().as_secs_f64() >= args.for_s;
    while !stop.load(Ordering::Relaxed) && !over() {
        std::thread::sleep(POLL);
    }
    let links: Vec<[Counts; 2]> = chain.links().iter().map(emulator::Link::counts).collect();
    evidence.set("real_time", chain.links().iter().all(emulator::Link::is_real_time));
    evidence.set("nodes", chain.nodes().to_vec());
    let rows =
        links.iter().map(|[there, back]| json!({ "there": counts(there), "back": counts(back) }));
    evidence.set("links", rows.collect::<Vec<Value>>());
    // What the emulator itself could not carry was no link's doing.
    Ok(links.iter().flatten().all(|counts| counts.failed == 0))
}

/// A direction's counts as JSON.
fn counts(counts: &Counts) -> Value {
    json!({
        "frames": counts.frames, "bytes": counts.bytes, "lost": counts.lost, "tail": counts.tail,
        "held": counts.held, "twice": counts.twice, "delivered": counts.delivered,
        "failed": counts.failed, "late_max_us": counts.late_max_us,
    })
}
