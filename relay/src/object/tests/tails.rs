//! Tails: how late the unlucky objects are, on lines that lose packets in bursts.
//!
//! Each case plays one block many times over a line of 25 ms that loses a share of its packets in runs of a mean length, and asks for the
//! time that all but a few stay below. A round trip is 50 ms, so a block that needs one is above 75 ms.

use super::pipe::{Net, Weather};
use crate::compact::block::tests::{outline_with, some_block, some_txs};
use crate::lookup::TxLookup;
use crate::wire::Class;
use consensus::hash::sha256d;

/// Milliseconds in which the block arrives, by seed, sorted; every one arrives whole.
fn times(block: &[u8], known: &[Vec<u8>], loss: f64, burst: f64, runs: u64) -> Vec<f64> {
    let mut all: Vec<f64> = (0..runs)
        .map(|seed| {
            let mut net = Net::new(2, seed * 7 + 1);
            net.join(0, 1, Weather { burst, ..Weather::losing(loss) }, true);
            let mut store = net.nodes[1].txs.clone();
            known.iter().for_each(|tx| store.offer(sha256d(tx), tx));
            let start = net.now;
            net.send(0, Class::Block, block);
            net.run(5_000_000);
            let (at, got) = net.got(1, Class::Block).unwrap_or_else(|| panic!("seed {seed}: lost"));
            assert!(got[..] == *block, "seed {seed}: corrupt");
            at.since(start) as f64 / 1e3
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The time that this share of runs stays below.
fn below(times: &[f64], share: f64) -> f64 {
    times[((times.len() - 1) as f64 * share) as usize]
}

fn shown(name: &str, times: &[f64]) {
    let [p50, p90, p99, most] = [0.5, 0.9, 0.99, 1.0].map(|share| below(times, share));
    println!("{name}: p50 {p50:.1} p90 {p90:.1} p99 {p99:.1} max {most:.1} ms");
}

#[test]
fn a_block_of_roots_seldom_needs_a_round_trip_in_bursts_and_never_many() {
    // As long as one of 600 subtrees, with fewer roots and a longer coinbase.
    let block = outline_with(vec![7; 19_000], 6, 4).write();
    let times = times(&block, &[], 0.05, 8.0, 300);
    shown("roots, 5 % in runs of 8", &times);
    assert!(below(&times, 0.98) < 27.0);
    assert!(below(&times, 1.0) < 200.0);
}

#[test]
fn a_block_by_names_seldom_needs_a_round_trip_in_bursts_and_never_many() {
    let txs = some_txs(4_000, 1);
    let known: Vec<Vec<u8>> =
        txs.iter().enumerate().filter(|(i, _)| i % 50 != 0).map(|(_, tx)| tx.clone()).collect();
    let block = some_block(&txs, [0; 32]);
    let times = times(&block, &known, 0.05, 8.0, 120);
    shown("98 % known, 5 % in runs of 8", &times);
    assert!(below(&times, 0.98) < 32.0);
    assert!(below(&times, 1.0) < 150.0);
}
