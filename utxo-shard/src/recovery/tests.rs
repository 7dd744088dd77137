//! Random histories with power failures, and the schedules that broke earlier versions of the rules.
//!
//! A run is one seed: a program of operations on durable shards over a disk that fails, epochs that end when the dice say, in
//! one shard before the other, checkpoints, crashes, also inside recovery. What recovers must be the state after a prefix of the
//! operations that contains everything acknowledged. The schedules of `protocol-models/m2.py` and `m5_epoch.py` follow by name.

use crate::conformance::{Led, params};
use crate::disk::{Disk, FaultDisk, Faults};
use crate::folder::{Folder, FolderConfig};
use crate::journal::{BlockNote, Health, Record};
use crate::keeper::{Limits, Plant};
use crate::recovery::{RecoverError, inputs_of};
use crate::store::{MinedTx, Run, Spending, UtxoStore};
use crate::testing::tx;
use crate::verdict::Verdict;
use crate::{DurableShards, ShardConfig, Shards};
use consensus::hash::{BlockHash, TxId};
use consensus::tx::OutPoint;
use dataplane::msg::Context;
use dataplane::partition::Partition;
use dataplane::rng::Rng;
use std::collections::BTreeSet;
use std::path::Path;

pub(super) fn shard_config(shards: u16) -> ShardConfig {
    ShardConfig {
        transactions_max: 4096,
        slab_bytes: 1 << 20,
        announced_max: 64,
        watched_max: 64,
        waiters_max: 256,
        ..ShardConfig::small(0, Partition::new([9; 16], shards, 1), (3, 4), params())
    }
}

pub(super) fn limits(plant: Option<Plant>) -> Limits {
    Limits {
        log_blocks: 8,
        segment_bytes: 4_000,
        checkpoint_bytes: 10_000,
        copies_max: 1024,
        threads: false,
        plant,
        ..Limits::default()
    }
}

pub(super) fn open(
    disk: &FaultDisk,
    shards: u16,
    plant: Option<Plant>,
) -> Result<DurableShards, RecoverError> {
    let own: Box<dyn Disk> = Box::new(disk.clone());
    let config = FolderConfig { shards, secret: [9; 16] };
    let folder = Folder::on(Path::new("simulated"), own, &config)?;
    DurableShards::open(folder, &shard_config(shards), &limits(plant), true)
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Did {
    Op([u8; 3]),
    Crash,
}

/// The same history on shards in memory.
pub(super) struct Model {
    pub store: Shards,
    pub led: Led,
}

impl Model {
    /// After these steps.
    pub fn after(family: u8, shards: u16, history: &[Did]) -> Self {
        let store = Shards::new(&shard_config(shards), true);
        let mut model = Self { store, led: Led::new(family) };
        history.iter().for_each(|&did| model.follow(did));
        model
    }

    pub fn follow(&mut self, did: Did) {
        match did {
            Did::Op(op) => drop(self.led.step(&mut self.store, op)),
            Did::Crash => self.store.release_everything(),
        }
    }

    /// Whether another store is as this one.
    fn is_like(&mut self, store: &mut Shards) -> bool {
        digest(&self.led, store) == digest(&self.led, &mut self.store)
    }
}

/// Everything that can be asked, and the blocks that each shard stands on.
fn digest(led: &Led, store: &mut Shards) -> String {
    let asked = led.digest(store);
    let blocks = store.shards().iter().map(|shard| format!("{:?}", shard.mined.blocks()));
    format!("{asked}\n{:?}", blocks.collect::<Vec<_>>())
}

#[derive(Debug, Default)]
struct Tally {
    crashes: u64,
    crashes_in_recovery: u64,
    ops: u64,
    acked: u64,
    redone: u64,
    checkpoints: u64,
    dropped: u64,
    copied: u64,
    stale: u64,
}

/// One seed; what is wrong, if anything is.
fn run_seed(
    seed: u64,
    plant: Option<Plant>,
    faults: Faults,
    tally: &mut Tally,
) -> Result<(), String> {
    let mut rng = Rng::salted(seed, 71);
    let shards = 1 + rng.below(3) as u16;
    let family = rng.below(250) as u8;
    let mut disk = FaultDisk::new(seed);
    let mut history: Vec<Did> = Vec::new();
    let mut pruned = false;
    let mut model = Model::after(family, shards, &[]);
    // Who opens a directory on a disk that fails is told so; that is no run.
    let calm = Faults { write_error: 0, sync_error: 0, crash_after: 0, ..faults };
    for round in 0..4 {
        disk.set_faults(calm);
        let opened = loop {
            if rng.chance(1, 3) && round > 0 {
                let crash_after = 1 + rng.below(60);
                disk.set_faults(Faults { crash_after, ..calm });
            }
            match open(&disk, shards, plant) {
                Ok(opened) => break opened,
                Err(_) if disk.is_dead() => {
                    tally.crashes_in_recovery += 1;
                    disk = disk.reopen();
                }
                Err(error) => return Err(format!("round {round}: {error}")),
            }
        };
        let mut durable = opened;
        disk.set_faults(Faults { crash_after: 1 + rng.below(900), ..faults });
        tally.redone += durable.report().mended.redone_spends;
        tally.stale += durable.report().stale_frames;
        let base = history.len();
        // What had been seen before and after each operation.
        let mut spans = Vec::new();
        for _ in 0..rng.below(120) {
            let op = [rng.below(17) as u8, rng.below(256) as u8, rng.below(256) as u8];
            // No spend is undone but with its transaction, and no block is in the making. Where blocks are taken off nothing is evicted:
            // an eviction that met a mined child is given up, and finished by whoever finds it when the child is mined no more.
            pruned |= op[0] == 16;
            let kind = match op[0] {
                8 => 1,
                // What was pruned is never brought in again.
                0 if pruned => 7,
                10 if !seed.is_multiple_of(4) => 9,
                15 if seed.is_multiple_of(4) => 1,
                kind => kind,
            };
            let op = [kind, op[1], op[2] + 2 * u8::from(op[2].is_multiple_of(4))];
            if matches!(op[0], 6 | 16) {
                durable.store().meet_all();
            }
            let before = durable.store().epoch().number;
            let mut led = model.led.clone();
            let answer = led.step(durable.store(), op);
            let after = durable.store().epoch().number;
            model.follow(Did::Op(op));
            if led.answers_differ(&model.led) {
                return Err(format!(
                    "round {round}: {op:?} was answered {answer}, not as in memory"
                ));
            }
            history.push(Did::Op(op));
            spans.push((before, after));
            if rng.chance(1, 3) {
                let shard = rng.index(usize::from(shards));
                let next = durable.store().shards()[shard].epoch().number + 1 + rng.below(2);
                durable.store().leave_epoch(shard, next);
            }
            if rng.chance(1, 12) {
                durable.close_epoch();
            }
            if rng.chance(1, 15) {
                durable.checkpoint();
            }
            for _ in 0..rng.below(6) {
                // A disk that is dead says so in the health, and nothing becomes durable.
                let _ = durable.turn();
            }
            // A disk that has failed takes nothing more; what was acknowledged is there.
            if disk.is_dead() || matches!(durable.health(), Health::Failed { .. }) {
                break;
            }
        }
        for _ in 0..rng.below(40) {
            let _ = durable.turn();
            if rng.chance(1, 5) {
                durable.close_epoch();
            }
        }
        let complete = durable.complete();
        for stats in durable.stats() {
            tally.checkpoints += stats.checkpoints;
            tally.dropped += stats.segments_dropped;
            tally.copied += stats.copied_forward;
        }
        drop(durable);
        disk.crash();
        disk = disk.reopen();
        disk.set_faults(calm);
        tally.crashes += 1;
        tally.ops += spans.len() as u64;
        tally.acked += spans.iter().filter(|span| span.1 <= complete).count() as u64;
        let mut durable = match open(&disk, shards, plant) {
            Ok(durable) => durable,
            Err(error) => return Err(format!("round {round}: {error}")),
        };
        let end = durable.report().complete;
        if end < complete {
            return Err(format!("round {round}: epoch {end} of {complete} acknowledged"));
        }
        let sure = base + spans.iter().filter(|span| span.1 <= end).count();
        let most = base + spans.iter().filter(|span| span.0 <= end).count();
        model = Model::after(family, shards, &history[..sure]);
        let mut prefix = sure;
        while !model.is_like(durable.store()) {
            if prefix == most {
                let got = digest(&model.led, durable.store());
                let expected = digest(&model.led, &mut model.store);
                return Err(format!(
                    "round {round}: the state is that after none of {sure} to {most} operations of \
                     {}\nfound    {got}\nexpected {expected}\nthen {:?}\n{}",
                    history.len(),
                    &history[sure..],
                    durable.report(),
                ));
            }
            model.follow(history[prefix]);
            prefix += 1;
        }
        let unset = history[..prefix].iter().any(|did| matches!(did, Did::Op([10, ..])));
        sound(&mut durable, unset)?;
        drop(durable);
        disk.crash();
        disk = disk.reopen();
        history.truncate(prefix);
        history.push(Did::Crash);
        model.follow(Did::Crash);
    }
    Ok(())
}

/// Everything a recovered store believes is so.
///
/// Only the file of a block that was taken off the chain may be alone in having a transaction's bytes.
pub(super) fn sound(durable: &mut DurableShards, unset: bool) -> Result<(), String> {
    let unmined: Vec<_> = durable.unmined().to_vec();
    let store = durable.store();
    store.shards().iter().for_each(crate::Shard::check);
    // A spender that was pruned, and whose block was taken off later, is none of recovery's.
    if store.dangling() > 0 && !unset {
        return Err(format!("{} spends without a spender", store.dangling()));
    }
    let expected: BTreeSet<TxId> = store.unmined().into_iter().collect();
    let got: BTreeSet<TxId> = unmined.iter().map(|tx| tx.txid).collect();
    if got != expected || got.len() != unmined.len() {
        return Err(format!("unmined: {got:?}, expected {expected:?}"));
    }
    let mut seen = BTreeSet::new();
    for tx in &unmined {
        if tx.raw.is_empty() && unset {
            continue;
        }
        if TxId::of(&tx.raw) != tx.txid {
            return Err(format!("{} came back with other bytes", tx.txid));
        }
        let parents = inputs_of(&tx.raw).ok_or("no transaction")?;
        if !unset && parents.iter().any(|p| got.contains(&p.txid) && !seen.contains(&p.txid)) {
            return Err(format!("{} stands before its parent", tx.txid));
        }
        seen.insert(tx.txid);
    }
    Ok(())
}

fn faults_of(seed: u64) -> Faults {
    Faults {
        short_write: if seed.is_multiple_of(3) { 4 } else { 0 },
        write_error: if seed % 11 == 5 { 90 } else { 0 },
        sync_error: if seed % 11 == 7 { 60 } else { 0 },
        ..Faults::default()
    }
}

#[test]
fn whatever_happens_a_prefix_recovers_that_has_all_that_was_acknowledged() {
    let mut tally = Tally::default();
    let seeds = std::env::var("METANODE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let first = std::env::var("METANODE_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        if let Err(what) = run_seed(seed, None, faults_of(seed), &mut tally) {
            panic!("METANODE_SEED={seed} METANODE_SEEDS=1 shows it again: {what}");
        }
    }
    eprintln!("{tally:?}");
    if seeds >= 200 {
        assert!(tally.acked > 2_000 && tally.ops > tally.acked, "{tally:?}");
        assert!(tally.crashes_in_recovery > 20 && tally.stale > 0, "{tally:?}");
        assert!(tally.checkpoints > 100 && tally.dropped > 100 && tally.copied > 0, "{tally:?}");
    }
}

fn found(plant: Option<Plant>, faults: Faults) -> Option<u64> {
    (0..400).find(|&seed| {
        let run = std::panic::AssertUnwindSafe(|| {
            run_seed(seed, plant, faults, &mut Tally::default()).is_err()
        });
        std::panic::catch_unwind(run).unwrap_or(true)
    })
}

#[test]
fn planted_bugs_are_found() {
    for plant in [Plant::NoRedo, Plant::OwnEpoch] {
        let seed = found(Some(plant), Faults::default());
        assert!(seed.is_some(), "{plant:?} was not found");
    }
    let lies = Faults { lying_sync: 4, ..Faults::default() };
    assert!(found(None, lies).is_some(), "syncs that lie were not found");
}

#[test]
fn logging_changes_no_answer() {
    for seed in 0..20_u64 {
        let disk = FaultDisk::new(seed);
        let mut durable = open(&disk, 1 + (seed % 3) as u16, None).expect("an empty disk");
        let mut rng = Rng::new(seed);
        let mut program = vec![0; 900];
        rng.fill(&mut program);
        crate::conformance::differential(&program, durable.store());
    }
}

/// Two shards, and transactions whose home and owners are where a story wants them.
struct Pair {
    disk: FaultDisk,
    durable: DurableShards,
    salt: u32,
}

const POOL: Context = Context { block: 0, height: 501, median_time_past: 0, rule_set: 0 };

impl Pair {
    fn new(seed: u64) -> Self {
        Self::with(seed, None)
    }

    fn with(seed: u64, plant: Option<Plant>) -> Self {
        let disk = FaultDisk::new(seed);
        disk.set_faults(Faults { cuts_hold: true, ..Faults::default() });
        let durable = open(&disk, 2, plant).expect("an empty disk");
        Self { disk, durable, salt: 0 }
    }

    /// A coin at a shard.
    fn coin(&mut self, shard: u16) -> OutPoint {
        let partition = Partition::new([9; 16], 2, 1);
        loop {
            self.salt += 1;
            let mut txid = TxId([7; 32]);
            txid.0[..4].copy_from_slice(&self.salt.to_le_bytes());
            if partition.shard(&txid) == shard {
                let coins = [(0, 50, &[0x51][..])];
                let mined = MinedTx { txid, height: 10, coinbase: false, coins: &coins };
                let mut out = Vec::new();
                self.durable.store().create_many(&[mined], &mut out);
                assert_eq!(out, [Verdict::Done]);
                return OutPoint { txid, vout: 0 };
            }
        }
    }

    /// Bytes of a transaction whose home is a shard.
    fn tx(&mut self, inputs: &[OutPoint], home: u16) -> (TxId, Vec<u8>) {
        let partition = Partition::new([9; 16], 2, 1);
        loop {
            self.salt += 1;
            let made = tx(inputs, &[20, 20], self.salt);
            if partition.shard(&made.txid()) == home {
                return (made.txid(), made.to_bytes());
            }
        }
    }

    /// A transaction that may be in blocks behind `lock_time` only.
    fn locked(&mut self, inputs: &[OutPoint], lock_time: u32) -> (TxId, Vec<u8>) {
        self.salt += 1;
        let mut made = tx(inputs, &[20, u64::from(self.salt)], lock_time);
        made.inputs.iter_mut().for_each(|input| input.sequence = 0);
        (made.txid(), made.to_bytes())
    }

    fn commit_in(&mut self, ctx: &Context, txid: TxId, inputs: &[OutPoint], raw: &[u8]) -> Run {
        let mut out = Vec::new();
        self.durable.store().commit_many(ctx, &[Spending { txid, inputs, raw }], &mut out);
        let Verdict::Decided { lane, seq } = out[0] else { panic!("{:?}", out[0]) };
        Run { lane, from: seq, to: seq }
    }

    /// Home decides in its epoch; the owner logs the spend in the same one or later.
    fn commit(&mut self, txid: TxId, inputs: &[OutPoint], raw: &[u8]) -> Run {
        self.commit_in(&POOL, txid, inputs, raw)
    }

    fn leave(&mut self, shard: usize) {
        let next = self.durable.store().shards()[shard].epoch().number + 1;
        self.durable.store().leave_epoch(shard, next);
    }

    fn turn(&mut self, shard: usize) {
        for _ in 0..60 {
            self.durable.store().turn_keeper(shard);
        }
    }

    fn sync(&mut self) -> u64 {
        let closed = self.durable.close_epoch();
        assert_eq!(self.durable.wait_for(closed).expect("a sound disk"), Health::Good);
        closed
    }

    fn crash(&mut self) {
        self.disk.crash();
        self.disk = self.disk.reopen();
        self.durable = open(&self.disk, 2, None).expect("it recovers");
        self.durable.store().shards().iter().for_each(crate::Shard::check);
        assert_eq!(self.durable.store().dangling(), 0);
    }

    fn has(&mut self, txid: &TxId) -> bool {
        self.durable.store().shards().iter().any(|shard| shard.has(txid))
    }

    fn spender(&mut self, coin: OutPoint) -> Option<TxId> {
        let mut found = None;
        self.durable.store().resolve_many(&POOL, &[coin], &mut |_, got| {
            if let Err(Verdict::Spent { by }) = got {
                found = Some(by);
            }
        });
        found
    }
}

// m2.py, "home first": the decision is on the disk, the spend is not.
#[test]
fn m2_a_decision_whose_spend_was_cut_off_is_finished() {
    for seed in 0..20 {
        let mut p = Pair::new(seed);
        let coin = p.coin(0);
        p.sync();
        // The owner is an epoch ahead: the spend is logged in a later epoch than the decision.
        let (txid, raw) = p.tx(&[coin], 1);
        let mut reserved = Vec::new();
        let wanted = crate::store::Wanted { by: txid, vin: 0, outpoint: coin, expect: None };
        p.durable.store().reserve_many(&POOL, &[wanted], &mut reserved);
        p.leave(0);
        let inputs = [coin];
        let spending = Spending { txid, inputs: &inputs, raw: &raw };
        p.durable.store().settle_many(&POOL, &[spending], &mut reserved);
        assert!(matches!(reserved[..], [Verdict::Reserved, Verdict::Decided { .. }]));
        // Home ends the epoch of the decision; both sync what has ended.
        p.leave(1);
        p.turn(0);
        p.turn(1);
        p.crash();
        assert!(p.has(&txid), "seed {seed}: the decision was on the disk in both");
        assert_eq!(p.spender(coin), Some(txid), "seed {seed}");
        assert_eq!(p.durable.report().mended.redone_spends, 1, "seed {seed}");
        // And once more, without anything synced since.
        p.crash();
        assert_eq!((p.has(&txid), p.spender(coin)), (true, Some(txid)));
    }
}

/// m2.py, "design truncation": both checkpoints have passed the decision, its spend is in a later epoch. How many were copied.
fn straddle(seed: u64, plant: Option<Plant>) -> u64 {
    let mut p = Pair::with(seed, plant);
    let (coin, other) = (p.coin(0), p.coin(1));
    p.sync();
    let (txid, raw) = p.tx(&[coin], 1);
    p.commit(txid, &[coin], &raw);
    // So many more that segments follow each other.
    let mut last = other;
    for _ in 0..40 {
        let (txid, raw) = p.tx(&[last], 1);
        p.commit(txid, &[last], &raw);
        last = OutPoint { txid, vout: 0 };
        p.sync();
    }
    assert_eq!(p.durable.settle().expect("a sound disk"), Health::Good);
    let stats = p.durable.stats();
    assert!(stats.iter().all(|s| s.checkpoints == 1) && stats[1].segments_dropped > 0, "{stats:?}");
    let copied = stats[1].copied_forward;
    p.crash();
    assert_eq!(p.durable.unmined().len(), 41, "seed {seed}: every one with its bytes");
    assert!(p.durable.unmined().iter().all(|tx| !tx.raw.is_empty()));
    assert_eq!(p.spender(coin), Some(txid));
    copied
}

#[test]
fn m2_a_decision_that_straddles_a_checkpoint_is_copied_forward_and_its_original_waits_for_the_copy()
{
    let copied: u64 = (0..20).map(|seed| straddle(seed, None)).sum();
    assert!(copied > 100, "{copied}");
}

#[test]
fn m2_segments_that_go_without_a_copy_of_what_straddles_are_noticed() {
    let lost = std::panic::catch_unwind(|| {
        (0..20).map(|seed| straddle(seed, Some(Plant::NoCopies))).sum::<u64>()
    });
    assert!(lost.is_err(), "the bytes of undecided spends went with their segment");
}

// m2.py, `stale`: a life that ended behind the cut must not come back in the next.
#[test]
fn m2_a_stale_tail_is_refused_whatever_the_disk_brings_back() {
    for seed in 0..20 {
        let mut p = Pair::new(seed);
        let (a, b) = (p.coin(0), p.coin(1));
        let complete = p.sync();
        // Life 1: shard 0 has an epoch on the disk that shard 1 has not.
        let (t, raw) = p.tx(&[a], 0);
        p.commit(t, &[a], &raw);
        p.leave(0);
        p.turn(0);
        let path = crate::journal::segment_path(0, 1);
        let tail = p.disk.swap(&path, None).expect("its first segment");
        p.crash();
        assert_eq!(p.durable.report().complete, complete);
        assert_eq!((p.has(&t), p.spender(a)), (false, None), "seed {seed}: it was never complete");
        // Life 2 reuses the number of the epoch: another transaction takes the coin.
        let (u, raw) = p.tx(&[a, b], 1);
        p.commit(u, &[a, b], &raw);
        p.sync();
        // The disk brings the tail of life 1 back.
        p.disk.swap(&path, Some(tail)).expect("its first segment");
        p.crash();
        assert!(p.durable.report().stale_frames > 0, "seed {seed}");
        assert_eq!((p.has(&t), p.spender(a)), (false, Some(u)), "seed {seed}");
        assert_eq!(p.spender(b), Some(u));
    }
}

fn note(connect: bool, block: u32, height: u32) -> BlockNote {
    let hash = BlockHash([block as u8; 32]);
    BlockNote { connect, block, height, hash, coinbase: TxId([block as u8; 32]) }
}

#[test]
fn a_block_that_was_only_half_connected_is_undone() {
    let mut p = Pair::new(1);
    let (a, b) = (p.coin(0), p.coin(1));
    p.durable.store().shard_mut(0).note_tip(&note(true, 1, 500));
    let run = Run { lane: 0, from: 1, to: 0 };
    assert_eq!(p.durable.store().set_mined(1, 500, &[run]), Verdict::Done);
    // In the pool: a spend of `a`. In the block: another spend of `a`, its child, and the pool's spend of `b`.
    let (loser, raw) = p.tx(&[a], 1);
    p.commit(loser, &[a], &raw);
    let (known, known_raw) = p.tx(&[b], 0);
    p.commit(known, &[b], &known_raw);
    p.sync();
    let ctx = Context { block: 2, ..POOL };
    p.durable.store().shard_mut(0).note_block_begin(&note(true, 2, 501));
    let (winner, raw) = p.tx(&[a], 0);
    p.commit_in(&ctx, winner, &[a], &raw);
    let (child, raw) = p.tx(&[OutPoint { txid: winner, vout: 0 }], 1);
    p.commit_in(&ctx, child, &[OutPoint { txid: winner, vout: 0 }], &raw);
    p.commit_in(&ctx, known, &[b], &known_raw);
    assert_eq!(p.durable.store().set_mined(2, 501, &[run]), Verdict::Done);
    p.sync();
    p.crash();
    let report = p.durable.report().clone();
    assert_eq!((report.mended.block, report.mended.evicted), (2, 2), "{report}");
    assert!(!p.has(&winner) && !p.has(&child) && p.has(&loser) && p.has(&known));
    assert_eq!((p.spender(a), p.spender(b)), (Some(loser), Some(known)));
    let unmined: BTreeSet<_> = p.durable.unmined().iter().map(|tx| tx.txid).collect();
    assert_eq!(unmined, BTreeSet::from([loser, known]));
    // With its tip, the same block stands.
    p.durable.store().shard_mut(0).note_block_begin(&note(true, 3, 501));
    let ctx = Context { block: 3, ..POOL };
    p.commit_in(&ctx, known, &[b], &known_raw);
    assert_eq!(p.durable.store().set_mined(3, 501, &[run]), Verdict::Done);
    p.durable.store().shard_mut(0).note_tip(&note(true, 3, 501));
    p.sync();
    p.crash();
    let unmined: BTreeSet<_> = p.durable.unmined().iter().map(|tx| tx.txid).collect();
    assert_eq!(unmined, BTreeSet::from([loser]));
}

#[test]
fn a_disconnection_that_had_begun_is_finished() {
    let mut p = Pair::new(1);
    let a = p.coin(0);
    let run = Run { lane: 0, from: 1, to: 0 };
    p.durable.store().shard_mut(0).note_tip(&note(true, 1, 500));
    assert_eq!(p.durable.store().set_mined(1, 500, &[run]), Verdict::Done);
    let ctx = Context { block: 2, ..POOL };
    let (txid, raw) = p.tx(&[a], 1);
    p.commit_in(&ctx, txid, &[a], &raw);
    assert_eq!(p.durable.store().set_mined(2, 501, &[run]), Verdict::Done);
    p.durable.store().shard_mut(0).note_tip(&note(true, 2, 501));
    p.sync();
    p.durable.store().shard_mut(0).note_block_begin(&note(false, 2, 501));
    p.durable.store().shard_mut(1).unset_mined(2);
    p.sync();
    p.crash();
    let report = p.durable.report().clone();
    assert_eq!((report.mended.block, report.mended.unmined), (2, 1), "{report}");
    assert_eq!(p.spender(a), Some(txid));
    let unmined: Vec<_> = p.durable.unmined().iter().map(|tx| tx.txid).collect();
    assert_eq!(unmined, [txid]);
    // It can be mined again, by its place among its home's publications.
    let seq = p.durable.unmined()[0].publish_seq;
    let run = Run { lane: 1, from: seq, to: seq };
    assert_eq!(p.durable.store().set_mined(3, 501, &[run]), Verdict::Done);
    let mut known = Vec::new();
    p.durable.store().known_many(&POOL, &[(txid, &[][..])], &mut known);
    assert_eq!(known[0].and_then(|k| k.mined_height), Some(501));
}

// As the conductor does where nothing crashes: `dataplane::blocks`, `disconnect`.
#[test]
fn a_disconnection_that_is_finished_takes_what_is_immature_or_not_final_on_the_shorter_chain() {
    let mut p = Pair::new(1);
    let coins = [0, 1, 0, 1, 0, 1].map(|shard| p.coin(shard));
    let run = Run { lane: 0, from: 1, to: 0 };
    p.durable.store().shard_mut(0).note_tip(&note(true, 1, 500));
    assert_eq!(p.durable.store().set_mined(1, 500, &[run]), Verdict::Done);
    // Spendable from height 502 on, and from 501 on.
    let [young, old] = [402, 401].map(|height| {
        let txid = TxId([height as u8; 32]);
        let coins = [(0, 50, &[0x51][..])];
        let mined = MinedTx { txid, height, coinbase: true, coins: &coins };
        let mut out = Vec::new();
        p.durable.store().create_many(&[mined], &mut out);
        assert_eq!(out, [Verdict::Done]);
        OutPoint { txid, vout: 0 }
    });
    let block = Context { block: 2, median_time_past: 1_600_000_000, ..POOL };
    let (mined, raw) = p.locked(&coins[..1], 500);
    p.commit_in(&block, mined, &coins[..1], &raw);
    assert_eq!(p.durable.store().set_mined(2, 501, &[run]), Verdict::Done);
    p.durable.store().shard_mut(0).note_tip(&note(true, 2, 501));
    // On top of it: the pool at height 502, some minutes later.
    let pool = Context { height: 502, median_time_past: 1_600_000_600, ..POOL };
    let accept = |p: &mut Pair, input: OutPoint, lock_time: u32| {
        let (txid, raw) = p.locked(&[input], lock_time);
        p.commit_in(&pool, txid, &[input], &raw);
        txid
    };
    let stays = [
        accept(&mut p, old, 0),
        accept(&mut p, coins[1], 500),
        accept(&mut p, coins[2], 1_599_999_999),
    ];
    let goes = [
        accept(&mut p, young, 0),
        accept(&mut p, coins[3], 501),
        accept(&mut p, coins[4], 1_600_000_300),
    ];
    let child = accept(&mut p, OutPoint { txid: goes[1], vout: 0 }, 0);
    p.sync();
    p.durable.store().shard_mut(0).note_block_begin(&note(false, 2, 501));
    p.durable.store().shard_mut(1).unset_mined(2);
    p.sync();
    p.crash();
    let report = p.durable.report().clone();
    assert_eq!((report.mended.block, report.mended.evicted), (2, 4), "{report}");
    let unmined: BTreeSet<_> = p.durable.unmined().iter().map(|tx| tx.txid).collect();
    assert_eq!(unmined, stays.into_iter().chain([mined]).collect());
    assert!(goes.iter().chain([&child]).all(|txid| !p.has(txid)));
    assert_eq!([young, coins[3], coins[4]].map(|coin| p.spender(coin)), [None; 3]);
    assert_eq!(p.spender(coins[1]), Some(stays[1]));
    // What was mended is on the disk like everything else.
    p.sync();
    p.crash();
    let again: BTreeSet<_> = p.durable.unmined().iter().map(|tx| tx.txid).collect();
    assert_eq!((again, p.durable.report().mended.evicted), (unmined, 0));
}

#[test]
fn what_was_evicted_while_its_coins_owner_had_not_heard_is_given_back() {
    for seed in 0..20 {
        let mut p = Pair::new(seed);
        let a = p.coin(0);
        let (txid, raw) = p.tx(&[a], 1);
        p.commit(txid, &[a], &raw);
        p.sync();
        let home = p.durable.store().shard_mut(1);
        let step = home.evict(&txid, 0, &mut super::replay::Nobody);
        assert_eq!(step, dataplane::msg::admin::EvictStep::Done);
        p.sync();
        p.crash();
        assert_eq!((p.has(&txid), p.spender(a)), (false, None), "seed {seed}");
        assert_eq!(p.durable.report().mended.undone_spends, 1);
    }
}

#[test]
fn rot_in_what_was_complete_is_an_error_that_names_the_place_and_changes_nothing() {
    let mut p = Pair::new(1);
    let a = p.coin(0);
    p.sync();
    let (txid, raw) = p.tx(&[a], 0);
    p.commit(txid, &[a], &raw);
    p.sync();
    p.sync();
    drop(p.durable);
    p.disk.crash();
    let disk = p.disk.reopen();
    let path = crate::journal::segment_path(0, 1);
    disk.flip(&path, 100, 3);
    let before = disk.swap(&path, None);
    let error = open(&disk, 2, None).expect_err("a flipped bit").to_string();
    assert!(error.contains("journal-000000000001 is damaged at byte 0"), "{error}");
    assert_eq!(disk.swap(&path, None), before);
    disk.flip(&path, 100, 3);
    open(&disk, 2, None).expect("whole again");
}

#[test]
fn rot_amid_the_only_journal_is_told_from_a_torn_end_by_what_stands_behind_it() {
    let disk = FaultDisk::new(1);
    let mut durable = open(&disk, 1, None).expect("a new one");
    let mut out = Vec::new();
    for n in 1..=6 {
        let coins: &[(u32, u64, &[u8])] = &[(0, 5_000, &[0x51])];
        let txid = TxId([n; 32]);
        durable
            .store()
            .create_many(&[MinedTx { txid, height: 1, coinbase: false, coins }], &mut out);
        let last = durable.close_epoch();
        assert_eq!(durable.wait_for(last).expect("a sound disk"), Health::Good);
    }
    drop(durable);
    disk.crash();
    let disk = disk.reopen();
    let path = crate::journal::segment_path(0, 1);
    let bytes = disk.swap(&path, None).expect("the only segment");
    let (mut looked, mut newest, mut at) = (Vec::new(), 0, 0);
    while let Ok((head, payload)) = crate::journal::FrameHead::read(&bytes[at..]) {
        looked.push((at, head.epoch));
        newest = newest.max(head.complete);
        at += crate::journal::FRAME_BYTES + payload.len();
    }
    assert!(looked.len() > 5, "one frame an epoch: {looked:?}");
    for &(at, epoch) in looked.iter().filter(|frame| frame.1 <= newest) {
        disk.flip(&path, at + 24, 2);
        let opened = open(&disk, 1, None).map(|durable| durable.report().clone());
        let error = match opened {
            Err(error) => error.to_string(),
            Ok(report) => panic!("byte {at} of {looked:?} was cut: {report}"),
        };
        let place =
            format!("epoch {newest} was complete: {} is damaged at byte {at} ", path.display());
        assert!(error.contains(&place), "epoch {epoch}: {error}");
        assert!(
            disk.swap(&path, None).is_some_and(|now| now.len() == bytes.len()),
            "nothing is cut"
        );
        disk.flip(&path, at + 24, 2);
    }
    // The end may be torn: nobody was told that it is complete.
    disk.flip(&path, looked[looked.len() - 1].0 + 24, 2);
    let durable = open(&disk, 1, None).expect("a torn end");
    assert!(durable.report().complete >= newest, "{:?}", durable.report());
}

#[test]
fn rot_in_a_checkpoint_and_a_shard_that_is_too_small_are_errors() {
    let mut p = Pair::new(1);
    for _ in 0..50 {
        p.coin(0);
    }
    assert_eq!(p.durable.settle().expect("a sound disk"), Health::Good);
    p.disk.crash();
    let disk = p.disk.reopen();
    disk.flip(&crate::slot::slot_path(0, 1), 5000, 3);
    let error = open(&disk, 2, None).expect_err("a flipped bit").to_string();
    assert!(error.contains("checkpoint of shard 0") && error.contains("damaged"), "{error}");
    disk.flip(&crate::slot::slot_path(0, 1), 5000, 3);
    let own: Box<dyn Disk> = Box::new(disk.clone());
    let folder = FolderConfig { shards: 2, secret: [9; 16] };
    let folder = Folder::on(Path::new("simulated"), own, &folder).expect("it is there");
    let config = ShardConfig { slab_bytes: 4096, ..shard_config(2) };
    let error = DurableShards::open(folder, &config, &limits(None), true).expect_err("too small");
    assert!(error.to_string().contains("4096 bytes"), "{error}");
    let mut durable = open(&disk, 2, None).expect("whole again");
    assert_eq!(durable.store().totals().utxos, 50);
}

#[test]
fn a_full_disk_slows_down_and_loses_nothing() {
    let mut p = Pair::new(3);
    let a = p.coin(0);
    p.sync();
    let (_, _, written) = p.disk.tally();
    p.disk.set_faults(Faults { capacity_bytes: 1 + written / 2, ..Faults::default() });
    let (txid, raw) = p.tx(&[a], 1);
    p.commit(txid, &[a], &raw);
    let closed = p.durable.close_epoch();
    for _ in 0..2_000 {
        p.durable.turn().expect("nothing is to be named");
    }
    if p.durable.complete() < closed {
        assert!(matches!(p.durable.health(), Health::DiskFull { .. }), "{:?}", p.durable.health());
    }
    p.disk.set_faults(Faults::default());
    assert_eq!(p.durable.wait_for(closed).expect("room again"), Health::Good);
    p.crash();
    assert_eq!(p.spender(a), Some(txid));
}

#[test]
fn a_checkpoint_that_finds_no_room_is_given_up_gives_its_room_back_and_is_taken_later() {
    let mut p = Pair::new(3);
    let coins: Vec<OutPoint> = (0..60).map(|n| p.coin(n % 2)).collect();
    p.sync();
    p.disk.set_faults(Faults { capacity_bytes: 1, ..Faults::default() });
    assert!(p.durable.checkpoint());
    p.durable.close_epoch();
    for _ in 0..4_000 {
        p.durable.turn().expect("nothing is to be named");
    }
    let lost: u64 = p.durable.stats().iter().map(|s| s.checkpoints_lost).sum();
    assert!(lost > 0, "{:?}", p.durable.stats());
    p.disk.set_faults(Faults::default());
    assert_eq!(p.durable.settle().expect("room again"), Health::Good);
    let stats = p.durable.stats();
    assert!(stats.iter().all(|s| s.checkpoints == 1), "{stats:?}");
    p.crash();
    assert!(p.durable.report().checkpoint > 0);
    assert_eq!(p.durable.store().totals().utxos, coins.len() as u64);
}

#[test]
fn a_journal_says_what_was_done_in_which_epoch() {
    let mut p = Pair::new(1);
    let a = p.coin(0);
    let first = p.sync();
    let (txid, raw) = p.tx(&[a], 0);
    p.commit(txid, &[a], &raw);
    let second = p.sync();
    p.disk.crash();
    let own: Box<dyn Disk> = Box::new(p.disk.reopen());
    let folder = FolderConfig { shards: 2, secret: [9; 16] };
    let mut folder = Folder::on(Path::new("simulated"), own, &folder).expect("it is there");
    let mut said = Vec::new();
    let closed = folder.read_journal(0, &mut |epoch, record| {
        said.push((epoch, matches!(record, Record::Decision(d) if d.txid == txid && d.tx == raw)));
    });
    assert_eq!(closed.expect("readable"), second);
    assert_eq!(said, [(first, false), (second, true)]);
}
