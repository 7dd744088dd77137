//! Histories of one number of shards that go on with another one.

use super::tests::{Model, limits, open, shard_config, sound};
use crate::conformance::Led;
use crate::disk::{Disk, FaultDisk};
use crate::folder::{Folder, FolderConfig};
use crate::state_hash::StateHash;
use crate::store::UtxoStore;
use crate::{ShardConfig, Shards, reshard};
use consensus::hash::TxId;
use dataplane::partition::Partition;
use dataplane::rng::Rng;
use std::collections::BTreeMap;
use std::path::Path;

fn folder(disk: &FaultDisk, shards: u16, secret: [u8; 16]) -> Folder {
    let own: Box<dyn Disk> = Box::new(disk.clone());
    Folder::on(Path::new("simulated"), own, &FolderConfig { shards, secret }).expect("it opens")
}

fn configs(folder: &Folder) -> Vec<ShardConfig> {
    let shards = folder.shards();
    let partition = Partition::new(folder.secret(), shards, 1);
    let one = |shard| ShardConfig { shard, partition: partition.clone(), ..shard_config(shards) };
    (0..shards).map(one).collect()
}

fn hash(store: &mut Shards) -> [u8; 32] {
    let mut hash = StateHash::new();
    store.for_each_coin(&mut |outpoint, coin| hash.add(outpoint, coin));
    hash.finish()
}

/// The steps of [`super::tests`], without what two engines may do differently.
fn step(rng: &mut Rng) -> [u8; 3] {
    let op = [rng.below(17) as u8, rng.below(256) as u8, rng.below(256) as u8];
    let kind = match op[0] {
        8 => 1,
        15 => 9,
        16 => 7,
        kind => kind,
    };
    [kind, op[1], op[2] + 2 * u8::from(op[2].is_multiple_of(4))]
}

/// Its own steps on shards of one number, then of another, and the same steps in memory.
fn run_seed(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::salted(seed, 83);
    let family = rng.below(250) as u8;
    let mut shards = 1 + rng.below(3) as u16;
    let mut disk = FaultDisk::new(seed);
    let mut model = Model::after(family, shards, &[]);
    // What the durable shards are told: their publications are numbered another way than the model's.
    let mut led: Led = model.led.clone();
    let (mut unmined_in_all, mut blocks_before) = (0, 0);
    let secret = [9; 16];
    for round in 0..4 {
        let fail = |what: &str| Err(format!("round {round}, {shards} shards: {what}"));
        let mut durable = open(&disk, shards, None).map_err(|e| format!("round {round}: {e}"))?;
        for _ in 0..rng.below(90) {
            let mut op = step(&mut rng);
            if op[0] == 6 {
                durable.store().meet_all();
            }
            // Whoever takes a block of before off the chain says so of each of its transactions, which these programs do not.
            if op[0] == 10 && led.blocks() <= blocks_before {
                op[0] = 1;
            }
            let answer = led.step(durable.store(), op);
            let expected = model.led.step(&mut model.store, op);
            if answer != expected {
                return fail(&format!("{op:?} was answered {answer}, in memory {expected}"));
            }
            if rng.chance(1, 10) {
                durable.close_epoch();
            }
            if rng.chance(1, 20) {
                durable.checkpoint();
            }
            for _ in 0..rng.below(8) {
                durable.turn().map_err(|error| error.to_string())?;
            }
        }
        let last = durable.close_epoch();
        durable.wait_for(last).map_err(|error| error.to_string())?;
        drop(durable);
        model.follow(super::tests::Did::Crash);
        let next = 1 + rng.below(4) as u16;
        let made = FaultDisk::new(seed + 1_000 + round);
        let from = folder(&disk, shards, secret);
        let mut to = folder(&made, next, secret);
        let (old, new) = (configs(&from), configs(&to));
        let done = reshard(&from, &old, &mut to, &new, &limits(None), &mut |_| true);
        let done = done.map_err(|error| format!("round {round}: {error}"))?;
        drop((from, to));
        unmined_in_all += done.unmined;
        let before = hash(&mut model.store);
        let mut durable = open(&made, next, None).map_err(|e| format!("round {round}: {e}"))?;
        if durable.report().complete != done.epoch {
            return fail(&format!("epoch {} of {}", durable.report().complete, done.epoch));
        }
        if hash(durable.store()) != before {
            return fail("another state hash");
        }
        let (got, expected) =
            (model.led.digest(durable.store()), model.led.digest(&mut model.store));
        if got != expected {
            return fail(&format!("to {next}\nfound    {got}\nexpected {expected}"));
        }
        sound(&mut durable, true)?;
        let known: Vec<TxId> = durable.unmined().iter().map(|tx| tx.txid).collect();
        if known.len() as u64 != done.unmined {
            return fail(&format!("{} unmined, {} before", known.len(), done.unmined));
        }
        let mut decided = BTreeMap::new();
        for shard in durable.store().shards() {
            decided.insert(shard.number(), shard.totals().publish_seq);
        }
        let mut mined = decided.clone();
        for tx in durable.unmined() {
            *mined.get_mut(&tx.shard).expect("one of the shards") -= 1;
        }
        led.renumber(decided, mined);
        blocks_before = led.blocks();
        drop(durable);
        disk = made;
        shards = next;
    }
    Ok(unmined_in_all)
}

#[test]
fn what_shards_hold_is_the_same_for_any_number_of_them_and_goes_on_the_same() {
    let seeds = std::env::var("METANODE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let first = std::env::var("METANODE_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut unmined = 0;
    for seed in first..first + seeds {
        match run_seed(seed) {
            Ok(more) => unmined += more,
            Err(what) => panic!("METANODE_SEED={seed} METANODE_SEEDS=1 shows it again: {what}"),
        }
    }
    assert!(unmined > seeds, "{unmined} unmined transactions in {seeds} seeds");
}

#[test]
fn looking_changes_nothing_and_finds_what_a_recovery_finds() {
    for seed in 0..20 {
        let mut rng = Rng::salted(seed, 84);
        let disk = FaultDisk::new(seed);
        let mut model = Model::after(rng.below(250) as u8, 2, &[]);
        let mut durable = open(&disk, 2, None).expect("a new one");
        for _ in 0..60 {
            let op = step(&mut rng);
            if op[0] == 6 {
                durable.store().meet_all();
            }
            model.led.clone().step(durable.store(), op);
            model.follow(super::tests::Did::Op(op));
            if rng.chance(1, 4) {
                durable.close_epoch();
            }
            durable.turn().expect("a disk without faults");
        }
        drop(durable);
        disk.crash();
        let disk = disk.reopen();
        let looked = folder(&disk, 2, [9; 16]);
        let config = configs(&looked);
        let before = disk.digest();
        let first = looked.examine(&config, &limits(None)).expect("readable");
        let again = looked.examine(&config, &limits(None)).expect("readable");
        assert_eq!(disk.digest(), before, "seed {seed}: nothing is written");
        assert_eq!(first.report, again.report, "seed {seed}");
        drop(looked);
        let durable = open(&disk, 2, None).expect("it recovers");
        assert_eq!(durable.report(), &first.report, "seed {seed}");
        assert_eq!(durable.unmined(), &first.unmined[..], "seed {seed}");
        assert_ne!(disk.digest(), before, "seed {seed}: a recovery does write");
    }
}
