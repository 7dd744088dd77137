//! `rate`: how many transactions a second two nodes accept, side by side, as a stranger's script sees it.
//!
//! In: SV Node, our own node, `../shared/tools/txrate.py` unchanged. Out: for each node the accepted rate of independent and of
//! chained transactions, medians over rounds, and the ratio. One node runs at a time and they take turns, so that both meet
//! the same machine. Beside the script, which is a Python client with one connection, `metanode load` sends the same kind of
//! transactions to both, so that a rate that is the script's own shows as such.

use crate::nodes::metanode::{self, MetaNode};
use crate::nodes::svnode::{self, SvNode};
use crate::nodes::{NodeError, Running, failed};
use load::evidence::Evidence;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Accepted transactions of ours for one of SV Node's.
const AIM: f64 = 10.0;
/// One run of the script.
const SCRIPT: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
pub struct Args {
    /// Transactions of one run; from 20,000 on the script's fan-out does not fit one block before Genesis
    #[arg(short, long, default_value_t = 15_000)]
    n: usize,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The script
    #[arg(long, default_value = "../shared/tools/txrate.py")]
    script: PathBuf,
    /// Our binary (default: beside this one)
    #[arg(long)]
    metanode: Option<PathBuf>,
    /// Seconds of `metanode load` against each node in the last round; 0 leaves it out
    #[arg(long, default_value_t = 5.0)]
    load_s: f64,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// What was measured on one node.
#[derive(Default)]
struct Rates {
    independent: Vec<f64>,
    chained: Vec<f64>,
    load: Vec<Value>,
}

pub fn main(args: &Args) -> ExitCode {
    let mut evidence = Evidence::new("bench-rate/1", 0);
    match run(args, &mut evidence) {
        Ok(ok) => evidence.finish(ok, args.json),
        Err(error) => {
            eprintln!("rate: {error}");
            evidence.set("error", error.to_string());
            evidence.finish(false, args.json)
        }
    }
}

fn run(args: &Args, evidence: &mut Evidence) -> Result<bool, NodeError> {
    let program = metanode::program(args.metanode.as_deref())?;
    let (mut theirs, mut ours) = (Rates::default(), Rates::default());
    let mut version = String::new();
    for round in 0..args.rounds {
        let load_s = if round + 1 == args.rounds { args.load_s } else { 0.0 };
        let mut turns = [true, false];
        // Whoever comes second meets a machine that has just worked; they take turns at that too.
        turns.rotate_left(round % 2);
        for is_theirs in turns {
            if is_theirs {
                let chain = format!("-limitancestorcount={}", args.n.max(10_000) + 1_000);
                let node = SvNode::start(&[&chain])?;
                version = node.version();
                measure(args, &mut theirs, "SV Node", &node.running)?;
                if load_s > 0.0 {
                    let target = format!("rpc://127.0.0.1:{}", node.running.rpc_port);
                    theirs.load.push(load(&program, &node.running, &target, 1_000, load_s)?);
                }
            } else {
                let node = MetaNode::start(&program, &[])?;
                measure(args, &mut ours, "MetaNode", &node.running)?;
                if load_s > 0.0 {
                    for (scheme, port) in
                        [("rpc", node.running.rpc_port), ("http", node.submit_port)]
                    {
                        let target = format!("{scheme}://127.0.0.1:{port}");
                        ours.load.push(load(&program, &node.running, &target, 1_000, load_s)?);
                    }
                }
            }
        }
    }
    let row = |name: &str, rates: &Rates| {
        json!({
            "name": name,
            "tx_per_s": median(&rates.independent), "chain_tx_per_s": median(&rates.chained),
            "rounds": rates.independent, "chain_rounds": rates.chained,
            "load": rates.load,
        })
    };
    evidence.set("n", args.n);
    evidence.set("nodes", json!([row("MetaNode", &ours), row(&version, &theirs)]));
    let ratio = median(&ours.independent) / median(&theirs.independent);
    let chain_ratio = median(&ours.chained) / median(&theirs.chained);
    evidence.set("ratio", round2(ratio));
    evidence.set("chain_ratio", round2(chain_ratio));
    evidence.aim("ratio", AIM, round2(ratio), ratio >= AIM);
    evidence.aim("chain_ratio", AIM, round2(chain_ratio), chain_ratio >= AIM);
    // Every run of the script saw all its transactions in the pool, else `measure` had failed.
    Ok(args.rounds > 0)
}

fn round2(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs the script twice: independent transactions, then a chain.
fn measure(args: &Args, rates: &mut Rates, name: &str, node: &Running) -> Result<(), NodeError> {
    for chain in [false, true] {
        let seen = script(args, node, chain)?;
        let rate = seen["tx_per_s"].as_f64().unwrap_or(0.0);
        eprintln!(
            "rate: {name:<9} {} {rate:>9.0} tx/s, {} of {} in the pool, {} refused",
            if chain { "chained    " } else { "independent" },
            seen["accepted"],
            seen["of"],
            seen["rejects"]
        );
        if seen["accepted"] != seen["of"] || seen["rejects"] != 0 {
            return Err(NodeError(format!("{name} did not accept everything: {seen}")));
        }
        if chain { rates.chained.push(rate) } else { rates.independent.push(rate) }
    }
    Ok(())
}

/// One run of the script; its first line.
fn script(args: &Args, node: &Running, chain: bool) -> Result<Value, NodeError> {
    let (user, password) =
        node.credentials.split_once(':').unwrap_or((node.credentials.as_str(), ""));
    let mut command = Command::new("timeout");
    command
        .arg(SCRIPT.as_secs().to_string())
        .arg("python3")
        .arg(&args.script)
        .args(["--rpc", &format!("127.0.0.1:{}", node.rpc_port), "--user", user])
        .args(["--password", password, "--p2p", "127.0.0.1:1", "--via", "rpc"])
        .args(["-n", &args.n.to_string()])
        // coincurve lies there; see `cargo xtask setup`.
        .env("PYTHONPATH", svnode::tools().join("python"));
    if chain {
        command.arg("--chain");
    }
    let out = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(&format!("running {}", args.script.display()), &error))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let first = text.lines().next().unwrap_or_default();
    serde_json::from_str(first).map_err(|_| {
        let errors = String::from_utf8_lossy(&out.stderr);
        let last = errors.lines().last().unwrap_or("no output at all");
        let hint = if last.contains("coincurve") { "; `cargo xtask setup` fetches it" } else { "" };
        NodeError(format!("{} ended with {}: {last}{hint}", args.script.display(), out.status))
    })
}

/// One run of `metanode load` against a node; what of its evidence matters here.
fn load(
    program: &Path,
    node: &Running,
    target: &str,
    batch: usize,
    seconds: f64,
) -> Result<Value, NodeError> {
    let cookie = node.folder().join("regtest/.cookie");
    let out = Command::new(program)
        .args(["load", "--target", target, "--rate", "max", "--json", "--txs", "200000"])
        .args(["--rpc", &format!("rpc://127.0.0.1:{}", node.rpc_port)])
        .args(["--connections", "4", "--batch", &batch.to_string()])
        .args(["--duration", &seconds.to_string()])
        .arg("--cookie")
        .arg(cookie)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| failed(&format!("running {} load", program.display()), &error))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let seen: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .map_err(|error| failed("reading what metanode load printed", &error))?;
    eprintln!(
        "rate: load to {target}: {} tx/s, {} accepted, {} rejected, {} errors",
        seen["tx_per_s"], seen["accepted"], seen["rejected"], seen["errors"]
    );
    if !out.status.success() {
        return Err(NodeError(format!("metanode load to {target} is not ok: {text}")));
    }
    let keys = [
        "target",
        "batch",
        "connections",
        "sent",
        "accepted",
        "rejected",
        "errors",
        "tx_per_s",
        "latency_us",
        "ceiling_tx_per_s",
        "limited_by_generator",
    ];
    Ok(Value::Object(keys.iter().map(|key| ((*key).to_owned(), seen[*key].clone())).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_of_nothing_it_is_not_a_number() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
