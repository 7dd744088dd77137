//! What must hold of the machine: at every step, now and then, at rest, and at the end.

use crate::auditor::Truth;
use crate::fault::{Checked, ensure, ensure_live};
use crate::world::{Shards, World};
use consensus::tx::OutPoint;
use dataplane::msg::SeenState;
use dataplane::tile::{Out, Outs};
use std::collections::BTreeMap;

fn credits(name: &str, outs: &Outs) -> Checked {
    for i in 0..outs.len() {
        let out = Out(i as u16);
        let (credit, depth) = (outs.credit(out), outs.depth(out));
        ensure(credit <= depth, || format!("{name} has {credit} credits on a link of {depth}"))?;
    }
    Ok(())
}

/// Cheap enough for every step: credits are in range, every copy is counted once.
pub fn cheap(w: &mut World) -> Checked {
    let m = &w.machine;
    for stem in &m.validates {
        credits("validate", stem.outs())?;
        let counts = stem.tile().counts();
        ensure(counts.reconcile(), || format!("copies are lost or counted twice: {counts:?}"))?;
    }
    for stem in &m.shards {
        credits("shard", stem.outs())?;
    }
    credits("pack", m.pack.outs())?;
    w.auditor.checks += (2 * m.validates.len() + m.shards.len() + 1) as u64;
    Ok(())
}

/// Every invariant of every shard; panics if one does not hold.
pub fn walk(w: &mut World) {
    for stem in &w.machine.shards {
        stem.tile().shard().check();
        w.auditor.checks += 1;
    }
}

/// Nothing moves any more: then nothing but orphans may be left anywhere.
pub fn at_rest(w: &mut World) -> Checked {
    let m = &w.machine;
    ensure_live(w.gate.waiting() == 0, || format!("{} copies find no way in", w.gate.waiting()))?;
    ensure_live(w.chain.is_resting(), || format!("the chain waits for an answer: {:?}", w.chain))?;
    for wire in &m.wires {
        ensure_live(!wire.has_work(), || format!("frags are left on {:?}", wire.kind()))?;
    }
    let mut orphans = 0;
    for (i, stem) in m.validates.iter().enumerate() {
        let (in_flight, waiting) = stem.tile().load();
        orphans += waiting as u64;
        ensure_live(in_flight == 0, || {
            format!("validate:{i} keeps {in_flight} transactions in flight")
        })?;
        let counts = stem.tile().counts();
        ensure(counts.offered == w.gate.sent[i], || {
            format!("validate:{i} counted {} copies of {}", counts.offered, w.gate.sent[i])
        })?;
    }
    let (mut watches, mut outstanding) = (0, 0);
    for (i, stem) in m.shards.iter().enumerate() {
        let shard = stem.tile().shard();
        let t = shard.totals();
        ensure_live(t.reserved == 0, || format!("shard:{i} keeps {} reservations", t.reserved))?;
        ensure_live(t.announced == 0, || format!("shard:{i} keeps {} announcements", t.announced))?;
        ensure_live(!shard.has_work(), || format!("shard:{i} has work left"))?;
        watches += t.waiting;
        outstanding += t.spends_outstanding;
    }
    ensure_live(watches == orphans, || {
        format!("{watches} waiters are left for {orphans} orphans")
    })?;
    ensure_live(outstanding == 0, || {
        format!("{outstanding} decisions miss the report of their spends")
    })?;
    ensure_live(m.pack.tile().packer().is_idle(), || "pack has work left".to_owned())?;
    w.auditor.checks += 6;
    w.auditor.check_blamed()
}

/// Every copy without a verdict is an orphan with a parent that nobody knows.
pub fn orphans_wait_for_something(w: &mut World) -> Checked {
    let truth = Shards { stems: &w.machine.shards, partition: &w.machine.partition };
    for (i, token) in w.auditor.tokens.iter().enumerate() {
        if token.verdict.is_some() {
            continue;
        }
        let Some(txid) = token.txid else {
            return ensure_live(false, || format!("malformed copy {} has no verdict", i + 1));
        };
        let info = &w.auditor.txs[&txid];
        let waits = info.tx.inputs.iter().any(|input| {
            let base = w.auditor.coins.get(&input.prev).is_some_and(|c| c.base.is_some());
            !base && truth.seen(&input.prev.txid) == SeenState::Unknown
        });
        ensure_live(waits, || {
            format!("copy {} of {txid} has no verdict though all its parents are there", i + 1)
        })?;
    }
    w.auditor.checks += 1;
    Ok(())
}

/// The end: shadow and machine agree on everything.
pub fn everything(w: &mut World) -> Checked {
    for (i, token) in w.auditor.tokens.iter().enumerate() {
        ensure_live(token.verdict.is_some(), || format!("copy {} never got a verdict", i + 1))?;
    }
    let m = &w.machine;
    for (i, stem) in m.validates.iter().enumerate() {
        let load = stem.tile().load();
        ensure_live(load == (0, 0), || format!("validate:{i} keeps {load:?}"))?;
    }
    let mut union: BTreeMap<OutPoint, u64> = BTreeMap::new();
    let mut twice = None;
    let (mut utxos, mut value_sat) = (0, 0);
    for stem in &m.shards {
        let shard = stem.tile().shard();
        shard.for_each_coin(|at, value_sat, _| {
            if union.insert(at, value_sat).is_some() {
                twice = Some(at);
            }
        });
        utxos += shard.totals().utxos;
        value_sat += shard.totals().value_sat;
    }
    ensure(twice.is_none(), || format!("{twice:?} is in two shards"))?;
    let shadow = w.auditor.utxos();
    let extra = union.keys().find(|at| !shadow.contains_key(at));
    ensure(extra.is_none(), || format!("the shards have {extra:?}, the shadow does not"))?;
    let lost = shadow.keys().find(|at| !union.contains_key(at));
    ensure(lost.is_none(), || format!("the shadow has {lost:?}, the shards do not"))?;
    ensure(union == shadow, || "a coin has another value than in the shadow".to_owned())?;
    let expected_sat = w.auditor.made_sat - w.auditor.fees_sat;
    ensure(union.len() as u64 == utxos && value_sat == expected_sat, || {
        format!("{utxos} coins of {value_sat} sat, expected {} of {expected_sat}", union.len())
    })?;
    let unmined = w.auditor.txs.values().filter(|t| t.accepted.is_some() && !t.mined).count();
    ensure(unmined == 0 && w.chain.last_leaves == Some(1), || {
        format!(
            "{unmined} accepted transactions are in no block; {:?} leaves are left",
            w.chain.last_leaves
        )
    })?;
    let placed = m.pack.tile().packer().counts().placed;
    ensure(placed == w.auditor.accepted, || {
        format!("pack placed {placed} of {} accepted transactions", w.auditor.accepted)
    })?;
    let told: u64 = w.auditor.txs.values().map(|t| u64::from(t.told)).sum();
    let verdicts: u64 = w.auditor.verdicts.iter().sum();
    let sent: u64 = w.gate.sent.iter().sum();
    ensure(verdicts == sent && told <= w.auditor.accepted, || {
        format!(
            "{sent} copies, {verdicts} verdicts, {told} told of {} accepted",
            w.auditor.accepted
        )
    })?;
    w.auditor.checks += 8;
    Ok(())
}
