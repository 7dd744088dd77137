//! `bench pipeline`: how fast the whole machine accepts, beside what its kernels alone would allow.
//!
//! For every workload a machine is booted as `metanode demo` boots it, coins are imported, a signed workload is replayed, and
//! the accepted rate is taken over several rounds. In the same run the kernels (parse, txid, sighash, ecdsa, the shard's work,
//! merkle) are timed on as many threads as the machine has cores. `roofline = cores / sum of the kernels' seconds per
//! transaction`: what would be reached if moving messages, keeping order and counting cost nothing.

mod instructions;
mod kernels;
mod overload;
mod rounds;

use clap::Args as ClapArgs;
use control_plane::config::value::Durability;
use control_plane::node::NodeError;
use instructions::Counting;
use load::Workload;
use load::evidence::Evidence;
use serde_json::{Value, json};
use sigbatch::Backend;
use std::process::ExitCode;

/// Accepted transactions a second, beside the roofline of the kernels
#[derive(ClapArgs, Debug)]
pub struct Args {
    /// Workloads, separated by commas
    #[arg(long, default_value = "p2pkh,chain,optrue,data,mixed", value_delimiter = ',')]
    workloads: Vec<String>,
    /// Transactions a round (those without signatures send four times as many)
    #[arg(long, default_value_t = 40_000)]
    txs: usize,
    /// Rounds a workload; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Everything is drawn from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cores for tiles (default: all this process may use)
    #[arg(long)]
    cores: Option<usize>,
    /// Leave out what happens at three times capacity and at rest
    #[arg(long)]
    no_overload: bool,
    /// Leave out counting instructions
    #[arg(long)]
    no_instructions: bool,
    /// Count instructions only, and fail where they are five percent above the baseline
    #[arg(long)]
    gate: bool,
    /// Write the instruction counts as the new baseline
    #[arg(long)]
    write_baseline: bool,
    /// Only turn this many transactions of the first workload on one thread: what the instruction counter runs
    #[arg(long, hide = true)]
    turn_only: bool,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// The command.
pub fn main(args: &Args) -> ExitCode {
    let mut evidence = Evidence::new("bench-pipeline/1", args.seed);
    let mut workloads = Vec::new();
    for name in &args.workloads {
        let Some(workload) = Workload::parse(name) else {
            eprintln!("pipeline: {name} is none of p2pkh, chain, optrue, data, mixed");
            return ExitCode::from(2);
        };
        workloads.push(workload);
    }
    if args.turn_only {
        return instructions::turn_only(workloads[0], args.txs, args.seed);
    }
    let cores = args
        .cores
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let mut counting = Counting::new(args.no_instructions, args.seed, &mut evidence);
    if args.gate {
        let counts = workloads.iter().map(|w| {
            json!({ "name": w.name(), "instructions_per_tx": counting.count(*w, &mut evidence) })
        });
        let rows: Vec<Value> = counts.collect();
        evidence.set("workloads", rows);
        let ok = counting.end(args.write_baseline, &mut evidence);
        return evidence.finish(ok, args.json);
    }
    let mut rows = Vec::new();
    let mut rates = Vec::new();
    let mut ok = true;
    for workload in workloads {
        let txs = if workload == Workload::OpTrue { args.txs * 8 } else { args.txs };
        eprintln!("pipeline: {} ({txs} transactions, {} rounds)", workload.name(), args.rounds);
        let rounds =
            match rounds::run(workload, txs, args.rounds, args.seed, cores, None, Durability::None)
            {
                Ok(rounds) => rounds,
                Err(error) => {
                    eprintln!("pipeline: {}: {error}", workload.name());
                    evidence.set("error", error.to_string());
                    return evidence.finish(false, args.json);
                }
            };
        let roofline = cores as f64 * 1e9 / rounds.kernels.sum_ns();
        ok &= rounds.accepted == rounds.expected && rounds.allocs_after_seal == 0;
        eprintln!(
            "pipeline: {:<7} {:>9.0} tx/s (spread {:.0} %), roofline {:.0}, of it {:.2}; {:.0} ns of processor each, kernels {:.0}",
            workload.name(),
            rounds.tx_per_s,
            rounds.spread * 100.0,
            roofline,
            rounds.tx_per_s / roofline,
            rounds.cpu_ns,
            rounds.kernels.sum_ns(),
        );
        rates.push((workload, rounds.tx_per_s, roofline));
        rows.push(json!({
            "name": workload.name(),
            "accepted": rounds.accepted,
            "tx_per_s": rounds.tx_per_s.round(),
            "spread": round(rounds.spread),
            "roofline_tx_per_s": roofline.round(),
            "of_roofline": round(rounds.tx_per_s / roofline),
            "kernels_ns": rounds.kernels.to_json(),
            "cpu_ns_per_tx": rounds.cpu_ns.round(),
            "tiles": rounds.tiles,
            "instructions_per_tx": counting.count(workload, &mut evidence),
            "allocs_after_seal": rounds.allocs_after_seal,
            "latency_us": rounds.latency_us,
        }));
    }
    evidence.set("cores", cores);
    evidence.set("workloads", rows);
    ok &= counting.end(args.write_baseline, &mut evidence);
    match plain(&rates, args, cores) {
        Ok(plain) => aims(&mut evidence, &rates, &plain),
        Err(error) => {
            eprintln!("pipeline: {error}");
            evidence.set("error", error.to_string());
            ok = false;
        }
    }
    match durable(&rates, args, cores, &mut evidence) {
        Ok(all) => ok &= all,
        Err(error) => {
            eprintln!("pipeline: durable: {error}");
            evidence.set("error", error.to_string());
            ok = false;
        }
    }
    if !args.no_overload {
        match overload::run(args.seed, cores) {
            Ok(found) => {
                ok &= found.ok;
                overload::fill(&mut evidence, &found);
            }
            Err(error) => {
                eprintln!("pipeline: overload: {error}");
                evidence.set("error", error.to_string());
                ok = false;
            }
        }
    }
    evidence.finish(ok, args.json)
}

/// The signed workloads once more with libsecp256k1 alone: the aims speak of the plain verifier.
fn plain(rates: &[Rate], args: &Args, cores: usize) -> Result<Vec<Rate>, NodeError> {
    let mut out = Vec::new();
    for workload in [Workload::P2pkh, Workload::Chain] {
        if !rates.iter().any(|(w, ..)| *w == workload) {
            continue;
        }
        let verifier = Some(Backend::Secp256k1);
        let rounds = rounds::run(
            workload,
            args.txs,
            args.rounds,
            args.seed,
            cores,
            verifier,
            Durability::None,
        )?;
        let roofline = cores as f64 * 1e9 / rounds.kernels.sum_ns();
        eprintln!(
            "pipeline: {:<7} {:>9.0} tx/s with libsecp256k1 alone, roofline {roofline:.0}, of it {:.2}",
            workload.name(),
            rounds.tx_per_s,
            rounds.tx_per_s / roofline
        );
        out.push((workload, rounds.tx_per_s, roofline));
    }
    Ok(out)
}

/// Payments once more with journals (`--durability epoch`): what keeping them costs. Whether all were accepted.
fn durable(
    rates: &[Rate],
    args: &Args,
    cores: usize,
    evidence: &mut Evidence,
) -> Result<bool, NodeError> {
    let workload = Workload::P2pkh;
    let Some((_, in_memory, _)) = rates.iter().find(|(w, ..)| *w == workload) else {
        return Ok(true);
    };
    let (txs, rounds, seed) = (args.txs, args.rounds, args.seed);
    let kept = rounds::run(workload, txs, rounds, seed, cores, None, Durability::Epoch)?;
    let of_memory = kept.tx_per_s / in_memory;
    eprintln!(
        "pipeline: durable {:>9.0} tx/s (spread {:.0} %), of the rate in memory {of_memory:.2}",
        kept.tx_per_s,
        kept.spread * 100.0,
    );
    evidence.set(
        "durable",
        json!({
            "name": workload.name(), "durability": "epoch", "accepted": kept.accepted,
            "tx_per_s": kept.tx_per_s.round(), "spread": round(kept.spread),
            "of_memory": round(of_memory), "latency_us": kept.latency_us, "tiles": kept.tiles,
        }),
    );
    evidence.aim("durable p2pkh of the rate in memory", 0.9, round(of_memory), of_memory >= 0.9);
    Ok(kept.accepted == kept.expected)
}

/// A workload, its rate, its roofline.
type Rate = (Workload, f64, f64);

fn aims(evidence: &mut Evidence, rates: &[Rate], plain: &[Rate]) {
    let optrue = rates.iter().find(|(w, ..)| *w == Workload::OpTrue);
    let of = |wanted: Workload| plain.iter().find(|(w, ..)| *w == wanted);
    let rows: Vec<Value> = plain
        .iter()
        .map(|(w, rate, roofline)| {
            json!({
                "name": w.name(), "tx_per_s": rate.round(), "roofline_tx_per_s": roofline.round(),
                "of_roofline": round(rate / roofline),
            })
        })
        .collect();
    evidence.set("plain_verifier", rows);
    if let Some((_, rate, roofline)) = of(Workload::P2pkh) {
        let got = rate / roofline;
        evidence.aim("p2pkh of the roofline, plain verifier", 0.9, round(got), got >= 0.9);
        if let Some((_, chain, _)) = of(Workload::Chain) {
            let got = chain / rate;
            evidence.aim("chain of p2pkh, plain verifier", 0.7, round(got), got >= 0.7);
        }
    }
    if let Some((_, rate, _)) = optrue {
        evidence.aim("optrue tx_per_s", 600_000.0, rate.round(), *rate >= 600_000.0);
    }
}

pub(crate) fn round(x: f64) -> f64 {
    (x * 1_000.0).round() / 1_000.0
}

/// Percentiles of the latencies of accepted transactions, microseconds.
pub(crate) fn latency_json(log: &load::replay::Log, places: usize) -> Value {
    let mut all: Vec<u64> =
        (0..places).filter_map(|p| log.outcome(p)).map(|o| o.latency_ns / 1_000).collect();
    all.sort_unstable();
    let at = |q: f64| all.get(((all.len() as f64 * q) as usize).min(all.len().saturating_sub(1)));
    json!({ "p50": at(0.5), "p99": at(0.99), "p100": at(1.0) })
}
