//! The gate against a real data plane: order, orphans, bounds, the end, and how fast it is.

use super::*;
use crate::node::{Node, NodeOptions};
use crate::topology::Ingest;
use bytes::Bytes;
use consensus::params::{ChainParams, Network};
use dataplane::msg::TxVerdict;
use load::{Inject, Kind, Offer, Options, Plan, Workload};
use std::time::{Duration, Instant};

/// A node with a gate in front, and a plan's coins mined.
pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) gate: Gate,
    pub(crate) submit: Submit,
    pub(crate) offer: Offer,
    /// What made the offer's coins.
    fan_out: Vec<Vec<u8>>,
}

const COINBASE_MATURITY: usize = 100;

fn submit_all(submit: &Submit, txs: Vec<Bytes>) -> Vec<Outcome> {
    block_on(submit.submit(txs, SourceKind::Http)).expect("the gate takes it")
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

/// A transaction whose parent nobody has.
pub(crate) fn spend_of_nothing(n: u8) -> Vec<u8> {
    let mut tx = vec![1, 0, 0, 0, 1];
    tx.extend_from_slice(&[n; 32]);
    tx.extend_from_slice(&[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    tx.extend_from_slice(&1_000_u64.to_le_bytes());
    tx.extend_from_slice(&[1, 0x51, 0, 0, 0, 0]);
    tx
}

pub(crate) fn rig(workload: Workload, txs: usize, inject: Inject, limits: SubmitLimits) -> Rig {
    let params = ChainParams::of(Network::Regtest);
    let plan = Plan::new(Options { keys: 50, inject, ..Options::new(workload, txs, 7) });
    let mut options = NodeOptions::new(params.clone(), Ingest::Control);
    options.cores = Some(2);
    options.shard_transactions_max = 1 << 20;
    options.shard_slab_bytes = 1 << 30;
    options.bounds.orphan_told_ns = 150_000_000;
    let mut node = Node::boot(options).unwrap();
    let ends = node.take_submit().expect("nobody took them");
    assert!(node.take_submit().is_none(), "they are handed out once");
    let (submit, gate) = start(ends, limits).unwrap();
    let reward_sat = params.subsidy_sat(1);
    let needed = plan.coinbases_needed(reward_sat);
    let mut coinbases = Vec::new();
    for i in 0..needed + COINBASE_MATURITY {
        let mined = node.mine(&plan.coinbase_script(i)).unwrap();
        if i < needed {
            let block = consensus::block::BlockView::parse(&mined.raw).expect("a block");
            let txid = block.txids().expect("its ids")[0];
            coinbases.push(load::Coinbase { txid, value_sat: reward_sat });
        }
    }
    let fan_out = plan.fan_out(&coinbases, reward_sat);
    let txs = fan_out.txs.iter().map(|tx| Bytes::from(tx.clone())).collect();
    for outcome in submit_all(&submit, txs) {
        assert_eq!(outcome.verdict, TxVerdict::Accepted, "{}", outcome.reason());
    }
    while node.pooled().unwrap() > 0 {
        node.mine(&plan.coinbase_script(0)).unwrap();
    }
    let offer = plan.sign(&fan_out.coins);
    Rig { node, gate, submit, offer, fan_out: fan_out.txs }
}

impl Rig {
    pub(crate) fn end(self) {
        self.gate.close();
        self.node.shutdown().unwrap();
        self.gate.join();
    }

    /// A transaction that spends coins of the fan-out, in the extended format.
    pub(crate) fn extended(&self, tx: &[u8]) -> Vec<u8> {
        let mut layout = consensus::tx::TxLayout::new();
        let view = consensus::tx::parse(tx, &mut layout).expect("a transaction");
        let parents: Vec<consensus::tx::Tx> = (0..view.input_count())
            .map(|i| {
                let parent = view.prev(i).txid;
                let made = self.fan_out.iter().find(|tx| consensus::hash::TxId::of(tx) == parent);
                let mut layout = consensus::tx::TxLayout::new();
                let made = made.expect("a coin of the fan-out");
                consensus::tx::parse(made, &mut layout).expect("a transaction").to_owned_tx()
            })
            .collect();
        let mut out = Vec::new();
        let coin = |i: usize| {
            let output = &parents[i].outputs[view.prev(i).vout as usize];
            let value_sat = output.value_sat.cast_unsigned();
            let locking_script = output.locking_script.as_slice();
            Some(consensus::tx::CoinRef { value_sat, locking_script })
        };
        view.write_extended(&mut out, coin).expect("every coin was found");
        out
    }

    pub(crate) fn of(&self, at: usize) -> Bytes {
        Bytes::copy_from_slice(self.offer.get(at).bytes)
    }
}

#[test]
fn every_transaction_of_a_call_gets_its_own_verdict_in_order() {
    let inject = Inject { lost_parents: 2, ..Inject::each(3) };
    let rig = rig(Workload::Mixed, 300, inject, SubmitLimits::default());
    let txs: Vec<Bytes> = (0..rig.offer.len()).map(|i| rig.of(i)).collect();
    let outcomes = submit_all(&rig.submit, txs);
    assert_eq!(outcomes.len(), rig.offer.len());
    for (offered, got) in rig.offer.iter().zip(&outcomes) {
        let verdict = got.verdict;
        match offered.kind {
            Kind::Honest | Kind::LateParent | Kind::Orphan | Kind::DoubleSpend { .. } => {
                let fits = matches!(verdict, TxVerdict::Accepted | TxVerdict::DoubleSpend);
                assert!(fits, "{:?}: {verdict:?}", offered.kind);
            }
            Kind::LostParent => {
                assert_eq!(verdict, TxVerdict::MissingInput);
                assert_eq!(got.reason(), "missing-inputs");
                assert_ne!(got.other, consensus::hash::TxId::ZERO, "the parent is named");
            }
            Kind::BadSignature => {
                assert_eq!(verdict, TxVerdict::ScriptFailed);
                assert!(got.reason().starts_with("mandatory-script-verify-flag-failed ("));
            }
            Kind::Malformed => assert_eq!(verdict, TxVerdict::Malformed),
            Kind::Duplicate { .. } => {
                assert!(got.is_in() || verdict == TxVerdict::DoubleSpend, "{verdict:?}");
            }
            Kind::Unknown => unreachable!("a signed plan knows its kinds"),
        }
        if verdict != TxVerdict::Malformed {
            assert_eq!(got.txid, offered.txid);
        }
    }
    let honest = rig.offer.iter().zip(&outcomes).filter(|(o, _)| o.kind == Kind::Orphan);
    assert_eq!(honest.filter(|(_, got)| got.is_in()).count(), 3, "children first are accepted");
    let count = |c| rig.submit.counters().get(c);
    assert_eq!(count(SubmitCount::Verdicts), count(SubmitCount::Transactions));
    assert_eq!(count(SubmitCount::HeldTransactions), 0);
    assert_eq!(count(SubmitCount::HeldBytes), 0);
    rig.end();
}

#[test]
fn an_orphan_is_told_in_time_and_accepted_when_its_parent_comes() {
    let rig = rig(Workload::Chain, 3, Inject::none(), SubmitLimits::default());
    let started = Instant::now();
    let child = submit_all(&rig.submit, vec![rig.of(1)]);
    assert_eq!(child[0].verdict, TxVerdict::MissingInput);
    assert_eq!(child[0].other, rig.offer.get(0).txid, "it says which parent");
    let waited = started.elapsed();
    assert!(waited > Duration::from_millis(140), "the parent gets a moment, got {waited:?}");
    assert!(waited < Duration::from_secs(2), "but no more, got {waited:?}");
    assert_eq!(rig.node.counters().orphans(), 1, "it waits on in the orphan pool");
    assert!(submit_all(&rig.submit, vec![rig.of(0)])[0].is_in());
    let deadline = Instant::now() + Duration::from_secs(5);
    while submit_all(&rig.submit, vec![rig.of(1)])[0].verdict != TxVerdict::Known {
        assert!(Instant::now() < deadline, "the parent woke it");
    }
    // And with both in one call, whichever comes first.
    assert!(
        submit_all(&rig.submit, vec![rig.of(2), rig.of(1), rig.of(0)]).iter().all(Outcome::is_in)
    );
    rig.end();
}

#[test]
fn a_full_gate_says_so_and_what_can_never_fit_is_told_that() {
    let limits = SubmitLimits {
        transactions_max: 4,
        bytes_max: 4_000,
        tx_bytes_max: 1_500,
        ..SubmitLimits::default()
    };
    let params = ChainParams::of(Network::Regtest);
    let mut options = NodeOptions::new(params, Ingest::Control);
    options.cores = Some(1);
    options.bounds.orphan_told_ns = 400_000_000;
    let mut node = Node::boot(options).unwrap();
    let (submit, gate) = start(node.take_submit().unwrap(), limits).unwrap();
    let never = Bytes::from(vec![0; 1_501]);
    let answer = block_on(submit.submit(vec![never], SourceKind::Http));
    assert!(matches!(answer, Err(SubmitError::TooLarge { transactions: 1, .. })), "{answer:?}");
    let many = vec![Bytes::from_static(b"x"); 5];
    let answer = block_on(submit.submit(many, SourceKind::Rpc));
    assert!(matches!(answer, Err(SubmitError::TooLarge { transactions: 5, .. })), "{answer:?}");
    // Four orphans fill it for as long as their senders wait.
    let orphan = |n: u8| Bytes::from(spend_of_nothing(n));
    let full = block_on(async {
        let waiting = submit.submit((0..4).map(orphan).collect(), SourceKind::Http);
        let other = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            submit.submit(vec![orphan(9)], SourceKind::Http).await
        };
        tokio::join!(waiting, other)
    });
    assert!(full.0.unwrap().iter().all(|o| o.verdict == TxVerdict::MissingInput));
    assert_eq!(full.1, Err(SubmitError::Overloaded { retry_after_s: 1 }));
    assert_eq!(submit.counters().get(SubmitCount::Overloaded), 1);
    assert_eq!(submit.counters().get(SubmitCount::TooLarge), 2);
    assert_eq!(block_on(submit.submit(Vec::new(), SourceKind::Http)), Ok(Vec::new()));
    gate.close();
    node.shutdown().unwrap();
    gate.join();
}

#[test]
fn what_no_link_can_carry_is_refused_and_what_needs_the_arena_goes_through_it() {
    let mut options = NodeOptions::new(ChainParams::of(Network::Regtest), Ingest::Control);
    options.cores = Some(1);
    options.arenas.tx_bytes = 1 << 20;
    let mut node = Node::boot(options).unwrap();
    let (submit, gate) = start(node.take_submit().unwrap(), SubmitLimits::default()).unwrap();
    let txs = vec![
        Bytes::from(vec![7; 2 << 20]),
        Bytes::from(vec![7; 300_000]),
        Bytes::from(vec![7; 10]),
    ];
    let got = submit_all(&submit, txs);
    assert_eq!((got[0].verdict, got[0].reason().as_ref()), (TxVerdict::Policy, "tx-size"));
    assert_eq!((got[1].verdict, got[2].verdict), (TxVerdict::Malformed, TxVerdict::Malformed));
    gate.close();
    node.shutdown().unwrap();
    gate.join();
}

#[test]
fn a_closing_gate_answers_everybody() {
    let mut options = NodeOptions::new(ChainParams::of(Network::Regtest), Ingest::Control);
    options.cores = Some(1);
    options.bounds.orphan_told_ns = 60_000_000_000;
    let mut node = Node::boot(options).unwrap();
    let (submit, gate) = start(node.take_submit().unwrap(), SubmitLimits::default()).unwrap();
    let waiting = {
        let submit = submit.clone();
        std::thread::spawn(move || {
            let orphan = Bytes::from(spend_of_nothing(1));
            block_on(submit.submit(vec![orphan], SourceKind::Http))
        })
    };
    while submit.counters().get(SubmitCount::Transactions) == 0 {
        std::thread::yield_now();
    }
    let began = Instant::now();
    gate.close();
    assert_eq!(waiting.join().unwrap(), Err(SubmitError::Stopping));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(gate.is_empty());
    let late = block_on(submit.submit(vec![Bytes::from_static(b"x")], SourceKind::Http));
    assert_eq!(late, Err(SubmitError::Stopping));
    node.shutdown().unwrap();
    gate.join();
}

#[test]
fn an_idle_gate_sleeps_and_wakes_at_once() {
    let mut options = NodeOptions::new(ChainParams::of(Network::Regtest), Ingest::Control);
    options.cores = Some(1);
    let mut node = Node::boot(options).unwrap();
    let (submit, gate) = start(node.take_submit().unwrap(), SubmitLimits::default()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let before = submit.counters().get(SubmitCount::Parks);
    std::thread::sleep(Duration::from_millis(500));
    let parks = submit.counters().get(SubmitCount::Parks) - before;
    assert!((1..=20).contains(&parks), "{parks} sleeps in half a second");
    // Far more often than its sleep is long: every wake-up must arrive.
    let began = Instant::now();
    block_on(async {
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let got =
                submit.submit(vec![Bytes::from_static(b"no transaction")], SourceKind::Http).await;
            assert_eq!(got.unwrap()[0].verdict, TxVerdict::Malformed);
        }
    });
    assert!(began.elapsed() < Duration::from_secs(4), "{:?} for 50 calls", began.elapsed());
    gate.close();
    node.shutdown().unwrap();
    gate.join();
}

/// Prints how fast the gate is; run it alone, in release: `cargo test --release -p control-plane --lib submit -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement; it wants the machine for itself"]
fn the_rate_of_calls_of_a_thousand_and_of_single_ones() {
    const TXS: usize = 400_000;
    let limits = SubmitLimits::default();
    let rig = rig(Workload::OpTrue, TXS, Inject::none(), limits);
    let txs: Vec<Bytes> = (0..TXS).map(|i| rig.of(i)).collect();
    let (batched, single) = txs.split_at(TXS * 3 / 4);
    let began = Instant::now();
    block_on(async {
        let mut calls = tokio::task::JoinSet::new();
        let mut batches = batched.chunks(1_000);
        loop {
            while calls.len() < 16 {
                let Some(batch) = batches.next() else { break };
                let (submit, batch) = (rig.submit.clone(), batch.to_vec());
                calls.spawn(async move { submit.submit(batch, SourceKind::Http).await });
            }
            let Some(done) = calls.join_next().await else { break };
            assert!(done.unwrap().unwrap().iter().all(Outcome::is_in));
        }
    });
    let rate = batched.len() as f64 / began.elapsed().as_secs_f64();
    println!("calls of 1,000, 16 at once: {rate:.0} tx/s");
    let began = Instant::now();
    block_on(async {
        let mut callers = tokio::task::JoinSet::new();
        for part in single.chunks(single.len().div_ceil(64)) {
            let (submit, part) = (rig.submit.clone(), part.to_vec());
            callers.spawn(async move {
                for tx in part {
                    let got = submit.submit(vec![tx], SourceKind::Http).await;
                    assert!(got.unwrap()[0].is_in());
                }
            });
        }
        while let Some(done) = callers.join_next().await {
            done.unwrap();
        }
    });
    let rate = single.len() as f64 / began.elapsed().as_secs_f64();
    println!("single calls, 64 callers: {rate:.0} tx/s");
    rig.end();
}
