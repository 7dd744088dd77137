//! Rounds of one workload through a machine booted for each.

use super::kernels::{self, Kernels};
use super::latency_json;
use consensus::hash::TxId;
use consensus::params::{ChainParams, Network};
use control_plane::config::value::Durability;
use control_plane::counters::Counters;
use control_plane::node::{ImportCoin, Node, NodeError, NodeOptions};
use control_plane::topology::Ingest;
use dataplane::msg::TxVerdict;
use load::replay::{Log, Pace};
use load::{Coinbase, FanOut, Offer, Options, Plan, Workload};
use serde_json::{Value, json};
use sigbatch::Backend;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a plan's fake coinbases pay.
const REWARD_SAT: u64 = 5_000_000_000;

/// A round in which nothing is decided for so long has failed.
const STALL: Duration = Duration::from_secs(10);

/// What the rounds of one workload came to.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Accepted over all rounds.
    pub accepted: u64,
    /// Offered over all rounds: all of it is honest.
    pub expected: u64,
    /// Median over the rounds.
    pub tx_per_s: f64,
    /// (Best - worst) / median.
    pub spread: f64,
    /// Processor time a transaction, in the last round, nanoseconds; idle spinning included.
    pub cpu_ns: f64,
    /// What the work alone costs.
    pub kernels: Kernels,
    /// Allocations on sealed cores.
    pub allocs_after_seal: u64,
    /// Share of the machine's time, by tile, in the last round.
    pub tiles: Vec<Value>,
    /// Of the last round.
    pub latency_us: Value,
}

/// A signed workload and the coins it starts from; the coins come out of nowhere, they are imported.
pub fn prepare(options: Options) -> (Plan, FanOut, Offer) {
    let plan = Plan::new(options);
    let needed = plan.coinbases_needed(REWARD_SAT);
    let coinbases: Vec<Coinbase> = (0..needed as u64)
        .map(|i| Coinbase { txid: TxId::of(&i.to_le_bytes()), value_sat: REWARD_SAT })
        .collect();
    let fan_out = plan.fan_out(&coinbases, REWARD_SAT);
    let offer = plan.sign(&fan_out.coins);
    (plan, fan_out, offer)
}

/// A booted regtest machine without a store that holds the plan's coins.
pub fn boot(
    plan: &Plan,
    fan_out: &FanOut,
    cores: usize,
    seed: u64,
    threads: bool,
    verifier: Option<Backend>,
    durability: Durability,
) -> Result<Node, NodeError> {
    let mut options = NodeOptions::new(ChainParams::of(Network::Regtest), Ingest::Replay);
    options.cores = Some(cores);
    options.seed = seed;
    options.store = false;
    options.threads = threads;
    options.verifier = verifier;
    options.durability = durability;
    let mut node = Node::boot(options)?;
    let scripts: Vec<Vec<u8>> = fan_out.coins.iter().map(|c| plan.script_of(c)).collect();
    node.import(fan_out.coins.iter().zip(&scripts).map(|(coin, script)| ImportCoin {
        outpoint: coin.outpoint,
        value_sat: coin.value_sat,
        height: 1,
        coinbase: false,
        locking_script: script,
    }))?;
    Ok(node)
}

/// Replays `rounds` different workloads of this kind, and times the kernels after each.
pub fn run(
    workload: Workload,
    txs: usize,
    rounds: usize,
    seed: u64,
    cores: usize,
    verifier: Option<Backend>,
    durability: Durability,
) -> Result<Rounds, NodeError> {
    let mut out = Rounds::default();
    let (mut rates, mut kernels) = (Vec::new(), Vec::new());
    let sample = kernels::sample(workload, seed);
    for round in 0..rounds.max(1) as u64 {
        let seed = seed.wrapping_mul(1_000).wrapping_add(round);
        let (plan, fan_out, offer) = prepare(Options::new(workload, txs, seed));
        let offer = Arc::new(offer);
        let node = boot(&plan, &fan_out, cores, seed, true, verifier, durability)?;
        let (before, cpu_before_s) = (node.counters(), cpu_s());
        let log = node.replay(offer.clone(), Pace::Max);
        let finished = wait(&log);
        let (after, cpu_after_s) = (node.counters(), cpu_s());
        out.accepted += log.accepted();
        out.expected += offer.len() as u64;
        if log.accepted() != offer.len() as u64 {
            say_odd(&log, &after);
        }
        rates.push(log.accepted() as f64 * 1e9 / log.busy_ns().max(1) as f64);
        out.cpu_ns = (cpu_after_s - cpu_before_s) * 1e9 / log.accepted().max(1) as f64;
        out.allocs_after_seal = out.allocs_after_seal.max(after.alloc_after_seal());
        let shares: Vec<_> = after.tiles_since(&before).collect();
        let total: f64 = shares.iter().map(|t| t.busy).sum();
        out.tiles = shares
            .iter()
            .map(|t| {
                json!({
                    "name": t.name, "core": t.core, "share": super::round(t.busy / total.max(1e-9)),
                    "busy": super::round(t.busy), "wait": super::round(t.wait),
                    "backpressure": super::round(t.backpressure),
                })
            })
            .collect();
        out.latency_us = latency_json(&log, offer.len());
        if !finished {
            // What does not end is not asked to drain either.
            break;
        }
        node.shutdown()?;
        kernels.push(kernels::measure(&sample, cores, verifier));
    }
    rates.sort_by(f64::total_cmp);
    out.tx_per_s = rates[rates.len() / 2];
    out.spread = (rates[rates.len() - 1] - rates[0]) / out.tx_per_s;
    out.kernels = Kernels::median(&kernels);
    Ok(out)
}

/// Waits for a replay; false once nothing has been decided for [`STALL`].
pub fn wait(log: &Log) -> bool {
    let (mut settled, mut since) = (0, Instant::now());
    while !log.is_done() {
        std::thread::sleep(Duration::from_millis(5));
        if log.settled() != settled {
            (settled, since) = (log.settled(), Instant::now());
        } else if since.elapsed() > STALL {
            return false;
        }
    }
    true
}

fn say_odd(log: &Log, counters: &Counters) {
    let verdicts: Vec<_> = TxVerdict::ALL
        .into_iter()
        .map(|verdict| (verdict, counters.verdict(verdict)))
        .filter(|(_, count)| *count > 0)
        .collect();
    eprintln!(
        "pipeline: sent {}, {verdicts:?}, in flight {}, orphans {}",
        log.sent(),
        counters.in_flight(),
        counters.orphans()
    );
}

/// Processor time of all threads of this process so far, seconds.
pub fn cpu_s() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    // The first number is nanoseconds on a processor.
    let ns = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e9
}
