//! What happens at three times capacity, and at rest.
//!
//! Overload: P2PKH transactions are offered in an open loop at three times the rate the machine just reached. It must go on
//! accepting nearly as much as before, shed the rest at the door, keep its latency within what its queues can hold, and not
//! grow. Rest: with nothing to do the machine must hardly use the processor, and the first transaction after a pause must not
//! wait for anybody to wake up.

use super::rounds::{boot, cpu_s, prepare, wait};
use control_plane::config::value::Durability;
use control_plane::node::NodeError;
use load::evidence::Evidence;
use load::replay::{Log, Pace};
use load::{Offer, Options, Workload};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Transactions of the round that finds the capacity.
const CAPACITY_TXS: usize = 30_000;
/// How much more than the capacity is offered.
const FACTOR: u64 = 3;
/// Seconds of overload.
const OVERLOAD_S: u64 = 3;
/// Seconds at rest.
const REST_S: u64 = 3;
/// First transactions after a pause.
const PAUSES: usize = 200;
/// Longest queueing the bounds allow: in flight and in links, over the rate; with room for a busy host.
const P99_MAX_US: u64 = 2_000_000;
/// Memory may move by this much: page tables, the allocator's own.
const GROWTH_MAX_BYTES: u64 = 64 << 20;
/// What an accepted transaction adds for good: its record, its coins, its place in pack and in the replay's notes.
const RECORD_BYTES: u64 = 512;

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// Correct: nothing lost, latency and memory within bounds.
    pub ok: bool,
    capacity_tx_per_s: f64,
    offered_tx_per_s: f64,
    accepted_tx_per_s: f64,
    shed: u64,
    lost: u64,
    latency_us: Value,
    p99_us: u64,
    growth_bytes: u64,
    idle_cpu_of_a_core: f64,
    first_after_idle_us: Value,
    first_p99_us: u64,
}

/// Runs both.
pub fn run(seed: u64, cores: usize) -> Result<Found, NodeError> {
    eprintln!("pipeline: overload");
    let capacity = one(CAPACITY_TXS, seed ^ 1, cores, Pace::Max)?;
    let rate = capacity.accepted as f64 * 1e9 / capacity.busy_ns.max(1) as f64;
    let offered = rate as u64 * FACTOR;
    let over = one((offered * OVERLOAD_S) as usize, seed ^ 2, cores, Pace::PerSecond(offered))?;
    // From the first transaction to the end of the offered load; what was in flight then still counts as accepted.
    let accepted_tx_per_s = over.accepted as f64 * 1e9 / over.busy_ns.max(1) as f64;
    let (idle_cpu_of_a_core, mut first_us) = at_rest(seed ^ 3, cores)?;
    first_us.sort_unstable();
    let at = |q: f64| first_us[((first_us.len() as f64 * q) as usize).min(first_us.len() - 1)];
    let p99_us = over.latency_us["p99"].as_u64().unwrap_or(u64::MAX);
    let lost = over.offered - over.accepted - over.shed - over.refused;
    let growth_max_bytes = GROWTH_MAX_BYTES + over.accepted * RECORD_BYTES;
    Ok(Found {
        ok: lost == 0
            && over.refused == 0
            && p99_us <= P99_MAX_US
            && over.growth_bytes <= growth_max_bytes,
        capacity_tx_per_s: rate,
        offered_tx_per_s: offered as f64,
        accepted_tx_per_s,
        shed: over.shed,
        lost,
        p99_us,
        latency_us: over.latency_us,
        growth_bytes: over.growth_bytes,
        idle_cpu_of_a_core,
        first_p99_us: at(0.99),
        first_after_idle_us: json!({ "p50": at(0.5), "p99": at(0.99), "p100": at(1.0) }),
    })
}

/// Adds what was found to the evidence.
pub fn fill(evidence: &mut Evidence, f: &Found) {
    let kept = f.accepted_tx_per_s / f.capacity_tx_per_s;
    evidence.set(
        "overload",
        json!({
            "capacity_tx_per_s": f.capacity_tx_per_s.round(),
            "offered_tx_per_s": f.offered_tx_per_s.round(),
            "accepted_tx_per_s": f.accepted_tx_per_s.round(),
            "of_capacity": super::round(kept),
            "shed": f.shed,
            "lost": f.lost,
            "latency_us": f.latency_us,
            "memory_growth_bytes": f.growth_bytes,
        }),
    );
    evidence.set(
        "idle",
        json!({
            "cpu_of_a_core": super::round(f.idle_cpu_of_a_core),
            "first_after_idle_us": f.first_after_idle_us,
        }),
    );
    eprintln!(
        "pipeline: at {FACTOR} times capacity {:.2} of it is accepted, p99 {} us; idle {:.1} % of a core, first after idle p99 {} us",
        kept,
        f.p99_us,
        f.idle_cpu_of_a_core * 100.0,
        f.first_p99_us
    );
    evidence.aim("overload accepted of capacity", 0.9, super::round(kept), kept >= 0.9);
    let idle = f.idle_cpu_of_a_core;
    evidence.aim("idle cpu of a core", 0.02, super::round(idle), idle <= 0.02);
    let first = f.first_p99_us;
    evidence.aim("first after idle p99 us", 1_000.0, first as f64, first <= 1_000);
}

struct Outcome {
    offered: u64,
    accepted: u64,
    refused: u64,
    shed: u64,
    busy_ns: u64,
    latency_us: Value,
    growth_bytes: u64,
}

fn one(txs: usize, seed: u64, cores: usize, pace: Pace) -> Result<Outcome, NodeError> {
    let (plan, fan_out, offer) = prepare(Options::new(Workload::P2pkh, txs, seed));
    let offer = Arc::new(offer);
    let node = boot(&plan, &fan_out, cores, seed, true, None, Durability::None)?;
    let log = node.replay(offer.clone(), pace);
    // Memory is compared from a quarter of the run on: tables commit their pages as they are first used.
    let mut first_bytes = None;
    let mut growth_bytes = 0;
    while !log.is_done() {
        std::thread::sleep(Duration::from_millis(20));
        if log.sent() + log.shed() > offer.len() as u64 / 4 {
            let now = resident_bytes();
            growth_bytes = growth_bytes.max(now.saturating_sub(*first_bytes.get_or_insert(now)));
        }
    }
    let outcome = outcome(&log, &offer, growth_bytes);
    node.shutdown()?;
    Ok(outcome)
}

fn outcome(log: &Log, offer: &Offer, growth_bytes: u64) -> Outcome {
    Outcome {
        offered: offer.len() as u64,
        accepted: log.accepted(),
        refused: log.settled() - log.accepted(),
        shed: log.shed(),
        busy_ns: log.busy_ns(),
        latency_us: super::latency_json(log, offer.len()),
        growth_bytes,
    }
}

/// Processor time at rest as a share of one core, and the latency of each first transaction after a pause, microseconds.
fn at_rest(seed: u64, cores: usize) -> Result<(f64, Vec<u64>), NodeError> {
    eprintln!("pipeline: rest");
    let (plan, fan_out, offer) = prepare(Options::new(Workload::P2pkh, PAUSES, seed));
    let node = boot(&plan, &fan_out, cores, seed, true, None, Durability::None)?;
    std::thread::sleep(Duration::from_millis(200));
    let (began, cpu) = (Instant::now(), cpu_s());
    std::thread::sleep(Duration::from_secs(REST_S));
    let share = (cpu_s() - cpu) / began.elapsed().as_secs_f64();
    let offer = Arc::new(offer);
    let log = node.replay(offer.clone(), Pace::PerSecond(20));
    wait(&log);
    let first =
        (0..offer.len()).filter_map(|p| log.outcome(p)).map(|o| o.latency_ns / 1_000).collect();
    node.shutdown()?;
    Ok((share, first))
}

/// Memory of this process that is in use.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}
