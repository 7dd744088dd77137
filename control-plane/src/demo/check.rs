//! What must be true at the end of a run, and what was found.
//!
//! Every offered transaction has exactly one end; every fault was found as what it is; what the node accepted is what the blocks
//! hold; what the shards hold is what the raw blocks leave over.

use super::{Run, fault_name};
use crate::counters::Counters;
use crate::node::Totals;
use consensus::hash::TxId;
use dataplane::msg::TxVerdict;
use load::Kind;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The counts of a run, and what does not add up.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) offered: u64,
    pub(crate) accepted: u64,
    pub(crate) duplicates: u64,
    pub(crate) shed: u64,
    pub(crate) orphans_expired: u64,
    pub(crate) in_flight_end: u64,
    pub(crate) rejected: BTreeMap<&'static str, u64>,
    /// By kind: sent, found.
    pub(crate) injected: BTreeMap<&'static str, (u64, u64)>,
    /// One sentence for everything that is not as it must be.
    pub(crate) wrong: Vec<String>,
}

impl Findings {
    pub(crate) fn is_ok(&self) -> bool {
        self.wrong.is_empty()
    }

    fn hold(&mut self, what: &str, got: u64, expected: u64) {
        if got != expected {
            self.wrong.push(format!("{what}: got {got}, expected {expected}"));
        }
    }
}

pub(crate) fn check(run: &Run, totals: &Totals, counters: &Counters) -> Findings {
    let mut f = Findings::default();
    count(run, &mut f);
    faults(run, &mut f);
    blocks(run, &mut f);
    let sum = f.accepted
        + f.rejected.values().sum::<u64>()
        + f.shed
        + f.duplicates
        + f.orphans_expired
        + f.in_flight_end;
    f.hold("offered against the sum of all ends", sum, f.offered);
    f.hold("verdicts for a place that had one", run.log.repeated(), 0);
    f.hold("unspent coins in the shards", totals.utxos, run.ledger.len() as u64);
    f.hold("unspent satoshi in the shards", totals.value_sat, run.ledger.value_sat());
    f.hold("coins still reserved", totals.reserved, 0);
    f.hold("transactions still announced", totals.announced, 0);
    let fan_out = run.fan_out_txs as u64;
    f.hold(
        "validators' count of accepted",
        counters.verdict(TxVerdict::Accepted),
        f.accepted + fan_out,
    );
    f.hold("validators' count of what came in", counters.ingested(), run.log.sent() + fan_out);
    for (name, expected) in &f.rejected.clone() {
        let verdict = TxVerdict::ALL.into_iter().find(|v| v.name() == *name);
        let got = verdict.map_or(0, |v| counters.verdict(v));
        f.hold(&format!("validators' count of {name}"), got, *expected);
    }
    if counters.alloc_after_seal() > 0 {
        f.wrong.push(format!("{} allocations on sealed cores", counters.alloc_after_seal()));
    }
    f
}

fn count(run: &Run, f: &mut Findings) {
    // What an interrupt kept from being sent was not offered.
    f.offered = run.log.sent() + run.log.shed();
    f.shed = run.log.shed();
    for place in 0..f.offered as usize {
        match run.log.outcome(place).map(|o| o.verdict) {
            None => f.in_flight_end += 1,
            Some(TxVerdict::Accepted) => f.accepted += 1,
            Some(TxVerdict::Known) => f.duplicates += 1,
            Some(TxVerdict::OrphanExpired) => f.orphans_expired += 1,
            Some(verdict) => *f.rejected.entry(verdict.name()).or_default() += 1,
        }
    }
    f.in_flight_end -= f.shed;
}

/// Whether the fault at `place` was found as what it is.
fn found(run: &Run, place: usize, others: &HashMap<u32, TxId>) -> bool {
    let verdict = |place: usize| run.log.outcome(place).map(|o| o.verdict);
    let offered = run.offer.get(place);
    let got = verdict(place);
    match offered.kind {
        Kind::Honest | Kind::LateParent => got == Some(TxVerdict::Accepted),
        Kind::DoubleSpend { of } => {
            // Either may have won; the loser must name the winner.
            let (winner, loser) = match (got, verdict(of as usize)) {
                (Some(TxVerdict::Accepted), Some(TxVerdict::DoubleSpend)) => (place as u32, of),
                (Some(TxVerdict::DoubleSpend), Some(TxVerdict::Accepted)) => (of, place as u32),
                _ => return false,
            };
            others.get(&loser) == Some(&run.offer.get(winner as usize).txid)
        }
        Kind::Orphan => got == Some(TxVerdict::Accepted),
        Kind::LostParent => got == Some(TxVerdict::OrphanExpired),
        Kind::BadSignature => got == Some(TxVerdict::ScriptFailed),
        Kind::Malformed => got == Some(TxVerdict::Malformed),
        Kind::Duplicate { of } => {
            let pair = (got, verdict(of as usize));
            matches!(
                pair,
                (Some(TxVerdict::Known), Some(TxVerdict::Accepted))
                    | (Some(TxVerdict::Accepted), Some(TxVerdict::Known))
            ) || both_lost(run, pair, of)
        }
        // The demo signs what it sends.
        Kind::Unknown => false,
    }
}

/// A duplicate of a transaction that lost to its double spend has lost as well.
fn both_lost(run: &Run, pair: (Option<TxVerdict>, Option<TxVerdict>), of: u32) -> bool {
    pair == (Some(TxVerdict::DoubleSpend), Some(TxVerdict::DoubleSpend))
        && run.offer.iter().any(|o| o.kind == Kind::DoubleSpend { of })
}

fn faults(run: &Run, f: &mut Findings) {
    let others: HashMap<u32, TxId> = run.log.others().into_iter().collect();
    let fought: HashSet<u32> = run
        .offer
        .iter()
        .filter_map(|o| match o.kind {
            Kind::DoubleSpend { of } | Kind::Duplicate { of } => Some(of),
            _ => None,
        })
        .collect();
    let mut honest_lost = 0;
    for place in 0..f.offered as usize {
        let found = found(run, place, &others);
        match fault_name(run.offer.get(place).kind) {
            Some(name) => {
                let (sent, hits) = f.injected.entry(name).or_default();
                *sent += 1;
                *hits += u64::from(found);
            }
            // The counterpart of a double spend or a copy is judged with it.
            None => honest_lost += u64::from(!found && !fought.contains(&(place as u32))),
        }
    }
    // Transactions that were cut off by an interrupt leave children without parents.
    if !run.interrupted {
        f.hold("honest transactions not accepted", honest_lost, 0);
        for (name, (sent, hits)) in f.injected.clone() {
            f.hold(&format!("faults found of kind {name}"), hits, sent);
        }
    }
}

/// Everything accepted is in exactly one block, and nothing else is.
fn blocks(run: &Run, f: &mut Findings) {
    let mut mined: HashSet<TxId> = HashSet::new();
    let mut count = 0u64;
    for block in &run.blocks {
        for txid in &block.applied.txids[1..] {
            count += 1;
            mined.insert(*txid);
        }
    }
    f.hold("transactions mined twice", count - mined.len() as u64, 0);
    f.hold("transactions mined", count, f.accepted + run.fan_out_txs as u64);
    let missing = (0..f.offered as usize)
        .filter(|place| {
            run.log.outcome(*place).is_some_and(|o| o.verdict == TxVerdict::Accepted)
                && !mined.contains(&run.offer.get(*place).txid)
        })
        .count();
    f.hold("accepted transactions in no block", missing as u64, 0);
}
