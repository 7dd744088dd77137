//! What operations cost: `cargo test --release -p utxo-shard -- --ignored --nocapture cost`.
//!
//! One shard, P2PKH, two inputs and two outputs a transaction, random coins of a table of `COINS`; the whole part of the owner of a
//! transaction whose coins are all its own: announce, seen, two resolves, commit. Bytes a coin are measured beside it.

use crate::testing::*;
use crate::{Outbox, Shard, ShardConfig};
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::request::{Decision, List};
use dataplane::msg::*;
use dataplane::rng::Rng;
use std::time::Instant;

const COINS: usize = 1_000_000;
const TXS: usize = 200_000;

/// Counts and forgets.
#[derive(Default)]
struct Sink {
    decided: usize,
    replies: usize,
}

impl Outbox for Sink {
    fn reply(&mut self, _to: u16, reply: &Reply<'_>) {
        self.replies += 1;
        self.decided += usize::from(matches!(reply, Reply::Decided { .. }));
    }

    fn publish(&mut self, accepted: &Accepted<'_>) {
        std::hint::black_box(accepted.tx.len());
    }
}

#[test]
#[ignore = "a measurement: takes seconds and prints"]
fn cost_of_a_transaction_and_bytes_of_a_coin() {
    let small = config(0, 1);
    let config = ShardConfig {
        transactions_max: 2 * COINS,
        slab_bytes: 1 << 30,
        announced_max: 1024,
        ..small
    };
    let mut shard = Shard::new(&config);
    let mut rng = Rng::new(1);
    let mut sink = Sink::default();
    let header = BatchHeader { context: POOL, ..BatchHeader::default() };
    let mut coins = Vec::with_capacity(COINS);
    let t = ticket(1, 1);
    let settle = |shard: &mut Shard, sink: &mut Sink, txid: TxId, raw: &[u8]| {
        let decision = Decision { fee_sat: 1, parents: List::Own(&[]), tx: raw };
        shard.request_all(0, &header, [Request::Settle { ticket: t, txid, decision }], sink);
    };
    let template = tx(&[at(1, 0), at(2, 0)], &[50, 60], 1).to_bytes();
    let started = Instant::now();
    for _ in 0..COINS / 2 {
        let mut txid = TxId([0; 32]);
        rng.fill(&mut txid.0);
        settle(&mut shard, &mut sink, txid, &template);
        coins.extend([OutPoint { txid, vout: 0 }, OutPoint { txid, vout: 1 }]);
    }
    let create_ns = started.elapsed().as_nanos() as f64 / COINS as f64;
    let totals = shard.totals();
    let index_bytes = 8.0 * (2.0 * COINS as f64 * 1.25).log2().ceil().exp2();
    let slab_bytes = totals.slab_used_bytes as f64 / totals.utxos as f64;
    rng.shuffle(&mut coins);
    let mut laps = [0_u128; 4];
    let names = ["announce", "seen", "resolve x2", "commit"];
    for (i, pair) in coins.chunks_exact(2).take(TXS).enumerate() {
        let mut txid = TxId([0; 32]);
        rng.fill(&mut txid.0);
        let t = ticket(1, i as u32 + 2);
        let inputs = refs(pair);
        let mut lap = |which: usize, requests: &[Request<'_>], sink: &mut Sink| {
            let started = Instant::now();
            shard.request_all(0, &header, requests.iter().copied(), sink);
            laps[which] += started.elapsed().as_nanos();
        };
        lap(0, &[Request::Announce { ticket: t, txid, tx: &template }], &mut sink);
        lap(1, &[Request::Seen { ticket: t, txid }], &mut sink);
        let resolve = |n: usize| Request::Resolve { ticket: t, vin: n as u32, outpoint: pair[n] };
        lap(2, &[resolve(0), resolve(1)], &mut sink);
        let decision = Decision { fee_sat: 1, parents: List::Own(&[]), tx: &[] };
        let inputs = List::Own(&inputs[..]);
        lap(3, &[Request::Commit { ticket: t, txid, inputs, decision }], &mut sink);
    }
    assert_eq!(sink.decided, COINS / 2 + TXS);
    println!("create (settle with bytes): {create_ns:.0} ns a coin");
    for (name, ns) in names.iter().zip(laps) {
        println!("{name}: {} ns a transaction", ns / TXS as u128);
    }
    let total = laps.iter().sum::<u128>() / TXS as u128;
    println!(
        "whole: {total} ns a transaction of two inputs and two outputs, {} ns an operation",
        total / 4
    );
    println!(
        "slab: {slab_bytes:.0} bytes a coin; index: {:.0} bytes a coin at this size",
        index_bytes / COINS as f64
    );
}
