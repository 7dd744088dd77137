//! Rounds of one workload through a machine booted for each.

use super::latency_json;
use consensus::hash::TxId;
use consensus::params::{ChainParams, Network};
use control_plane::node::{ImportCoin, Node, NodeError, NodeOptions};
use control_plane::topology::Ingest;
use dataplane::msg::TxVerdict;
use load::replay::Pace;
use load::{FanOut, Offer, Options, Plan, Workload};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a plan's fake coinbases pay.
const REWARD_SAT: u64 = 5_000_000_000;

/// What the rounds of one workload came to.
#[derive(Debug)]
pub struct Rounds {
    /// Accepted over all rounds.
    pub accepted: u64,
    /// Offered over all rounds: all of it is honest.
    pub expected: u64,
    /// Median over the rounds.
    pub tx_per_s: f64,
    /// (Best - worst) / median.
    pub spread: f64,
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
    let coinbases: Vec<TxId> = (0..needed as u64).map(|i| TxId::of(&i.to_le_bytes())).collect();
    let fan_out = plan.fan_out(&coinbases, REWARD_SAT);
    let offer = plan.sign(&fan_out.coins);
    (plan, fan_out, offer)
}

/// A booted regtest machine without a store that holds the plan's coins.
pub fn boot(plan: &Plan, fan_out: &FanOut, cores: usize, seed: u64) -> Result<Node, NodeError> {
    let mut options = NodeOptions::new(ChainParams::of(Network::Regtest), Ingest::Replay);
    options.cores = Some(cores);
    options.seed = seed;
    options.store = false;
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

/// Replays `rounds` different workloads of this kind.
pub fn run(
    workload: Workload,
    txs: usize,
    rounds: usize,
    seed: u64,
    cores: usize,
) -> Result<Rounds, NodeError> {
    let mut out = Rounds {
        accepted: 0,
        expected: 0,
        tx_per_s: 0.0,
        spread: 0.0,
        allocs_after_seal: 0,
        tiles: Vec::new(),
        latency_us: Value::Null,
    };
    let mut rates = Vec::new();
    for round in 0..rounds as u64 {
        let seed = seed.wrapping_mul(1_000).wrapping_add(round);
        let (plan, fan_out, offer) = prepare(Options::new(workload, txs, seed));
        let offer = Arc::new(offer);
        let node = boot(&plan, &fan_out, cores, seed)?;
        let before = node.counters();
        let log = node.replay(offer.clone(), Pace::Max);
        node.wait(&log);
        let after = node.counters();
        out.accepted += log.accepted();
        out.expected += offer.len() as u64;
        if log.accepted() != offer.len() as u64 {
            let odd = (0..offer.len()).find_map(|p| {
                log.outcome(p).filter(|o| o.verdict != TxVerdict::Accepted).map(|o| (p, o))
            });
            eprintln!("pipeline: {} of {} accepted; first other: {odd:?}", log.accepted(), offer.len());
        }
        rates.push(log.accepted() as f64 * 1e9 / log.busy_ns().max(1) as f64);
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
        node.shutdown()?;
    }
    rates.sort_by(f64::total_cmp);
    out.tx_per_s = rates[rates.len() / 2];
    out.spread = (rates[rates.len() - 1] - rates[0]) / out.tx_per_s;
    Ok(out)
}
