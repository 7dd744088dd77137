//! The machine: real tiles on real links, each link between two tiles cut in two.
//!
//! Every kind of tile gets a topology of its own in which all other kinds are *external*, under the names of the node's table.
//! So each tile is wired exactly as in production and cannot tell; what it publishes ends in the simulator, which hands it on
//! through a [`Wire`] to the other half.

use crate::options::Options;
use crate::wire::{Wire, WireKind};
use consensus::params::{ChainParams, Network};
use consensus::rules::FeeRate;
use consensus::script::Budget;
use dataplane::long::Long;
use dataplane::msg::pack_control::Restored;
use dataplane::msg::{Epoch, ParentSeq, VerdictFrag};
use dataplane::pack::{PackConfig, PackTile};
use dataplane::partition::Partition;
use dataplane::rng::Rng;
use dataplane::stem::Stem;
use dataplane::time::ManualClock;
use dataplane::topo::{
    BuildOptions, ExternalEnds, ExternalIn, ExternalOut, Kind::Lossless, Machine as Built,
    Topology, each, one,
};
use dataplane::validate::{Config, Links, Policy, Validate};
use utxo_shard::{Keeper, Shard, ShardConfig, ShardTile};

/// Verdicts that may wait at a validator's link.
const VERDICTS: u32 = 64;
/// Transactions of all shards together, where they are nearly full: what there is from the start, and few more.
const FULL: usize = 2_000;
const SALT: u64 = 0x6d_6163;

/// Least fee of the pool.
pub const FEE_MIN: FeeRate = FeeRate { sat_per_kb: 100 };

/// A stem that the simulator turns.
pub type Turned<T> = Stem<T, ManualClock>;

/// Tiles, wires, and the ends that the simulator itself holds.
#[derive(Debug)]
pub struct Machine {
    pub partition: Partition,
    pub params: ChainParams,
    pub clock: ManualClock,
    pub validates: Vec<Turned<Validate>>,
    pub shards: Vec<Turned<ShardTile>>,
    pub pack: Turned<PackTile>,
    pub long: Option<Turned<Long>>,
    pub wires: Vec<Wire>,
    pub control_validate: Vec<ExternalOut>,
    pub submit_validate: Vec<ExternalOut>,
    pub validate_verdict: Vec<ExternalIn>,
    pub block_validate: Vec<ExternalOut>,
    pub validate_block: Vec<ExternalIn>,
    pub control_shard: Vec<ExternalOut>,
    pub shard_control: Vec<ExternalIn>,
    pub control_pack: ExternalOut,
    pub pack_control: ExternalIn,
    pub pack_store: ExternalIn,
    /// Of whoever closes epochs; empty where there are no journals.
    pub epoch_shard: Vec<ExternalOut>,
    pub shard_epoch: Vec<ExternalIn>,
    pub epoch_pack: Vec<ExternalOut>,
    /// What the ends come from; lives as long as they do.
    _built: Vec<Built>,
}

fn build(topology: &Topology, seed: u64) -> Built {
    let plan = topology.plan().expect("the simulator's tables are sound");
    plan.build(&BuildOptions { seed, ..BuildOptions::default() }).expect("memory for links")
}

fn rows<T>(ends: &mut Vec<T>, name: impl Fn(&T) -> &str, row: &str) -> Vec<T> {
    ends.extract_if(.., |end| name(end).split(':').next() == Some(row)).collect()
}

fn outs(ends: &mut ExternalEnds, row: &str) -> Vec<ExternalOut> {
    rows(&mut ends.outs, |out| &out.name, row)
}

fn ins(ends: &mut ExternalEnds, row: &str) -> Vec<ExternalIn> {
    rows(&mut ends.ins, |input| &input.name, row)
}

fn only<T>(ends: Vec<T>) -> T {
    ends.into_iter().next().expect("the row has one end here")
}

fn externals(built: &mut Built, name: &str, count: u16) -> Vec<ExternalEnds> {
    let end = |i| built.external(name, i).expect("an end is taken once");
    (0..usize::from(count)).map(end).collect()
}

/// Shards that outlive the machine: with their journals, and what they have for pack.
#[derive(Debug)]
pub struct Kept {
    pub partition: Partition,
    pub shards: Vec<(Shard, Keeper)>,
    pub published: Vec<ParentSeq>,
    pub unmined: Vec<Restored>,
}

/// What a shard of this machine is built with.
pub fn shard_config(
    o: &Options,
    partition: &Partition,
    shard: u16,
    index_key: (u64, u64),
) -> ShardConfig {
    ShardConfig {
        shard,
        partition: partition.clone(),
        index_key,
        params: ChainParams::of(Network::Regtest),
        epoch: Epoch { incarnation: 1, number: 1 },
        transactions_max: if o.full {
            FULL / usize::from(o.shards)
        } else {
            o.shard_transactions_max
        },
        slab_bytes: 32 << 20,
        announced_max: o.announced_max,
        watched_max: o.announced_max,
        waiters_max: o.waiters_max,
    }
}

impl Machine {
    /// Builds what `o` says.
    pub fn new(o: &Options, seed: u64) -> Self {
        Self::with(o, seed, None)
    }

    /// The same around shards that were there before.
    pub fn with(o: &Options, seed: u64, kept: Option<Kept>) -> Self {
        let mut rng = Rng::salted(seed, SALT);
        let mut secret = [0; 16];
        rng.fill(&mut secret);
        let durable = kept.is_some();
        let (partition, mut kept_shards, begin) = match kept {
            Some(Kept { partition, shards, published, unmined }) => {
                (partition, shards, Some((published, unmined)))
            }
            None => (Partition::new(secret, o.shards, o.validators), Vec::new(), None),
        };
        let params = ChainParams::of(Network::Regtest);
        let clock = ManualClock::new();
        let config = Config {
            partition: partition.clone(),
            params: params.clone(),
            bounds: o.bounds,
            policy: Policy {
                fee_min: FEE_MIN,
                hot_budget: Budget {
                    operations: o.hot_operations,
                    hashed_bytes: 1 << 20,
                    bignum_cost: 0,
                },
                ..Policy::default()
            },
            seed: rng.next_u64(),
            verifier: None,
        };

        let mut v = build(&validate_table(o), seed);
        let validates = (0..usize::from(o.validators)).map(|i| {
            let wiring = v.wiring("validate", i).expect("a wiring is taken once");
            let links = Links::of(&wiring, o.batch_bytes as usize, o.tx_bytes as usize);
            let tile = Validate::new(config.clone(), links);
            wiring.stem(tile, clock.clone())
        });
        let validates = validates.collect();
        let mut s = build(&shard_table(o, durable), seed);
        let mut kept_shards = kept_shards.drain(..);
        let shards = (0..usize::from(o.shards)).map(|i| {
            let wiring = s.wiring("shard", i).expect("a wiring is taken once");
            let index_key = (rng.next_u64(), rng.next_u64());
            let tile = match kept_shards.next() {
                Some((shard, keeper)) => ShardTile::with_journal(shard, keeper, &wiring),
                None => ShardTile::new(shard_config(o, &partition, i as u16, index_key), &wiring),
            };
            wiring.stem(tile, clock.clone())
        });
        let shards = shards.collect();
        let mut p = build(&pack_table(o, durable), seed);
        let wiring = p.wiring("pack", 0).expect("a wiring is taken once");
        let mut pack = PackTile::new(PackConfig {
            transactions_max: 1 << 13,
            restored_max: 1 << 6,
            subtree_lg_leaves: o.subtree_lg_leaves,
            durable,
            ..PackConfig::new(o.shards, (rng.next_u64(), rng.next_u64()))
        });
        if let Some((published, unmined)) = begin {
            pack.begin_with(&published, unmined.into_iter());
        }
        let pack = wiring.stem(pack, clock.clone());

        let mut wires = Vec::new();
        // Ends of the validators' half by shard, of the shards' half by validator.
        let mut v_ends = externals(&mut v, "shard", o.shards);
        let mut s_ends = externals(&mut s, "validate", o.validators);
        let mut from_v: Vec<Vec<ExternalIn>> =
            v_ends.iter_mut().map(|e| ins(e, "validate_shard")).collect();
        let mut to_v: Vec<Vec<ExternalOut>> =
            v_ends.iter_mut().map(|e| outs(e, "shard_validate")).collect();
        for (validator, ends) in s_ends.iter_mut().enumerate() {
            let to_s = outs(ends, "validate_shard");
            let from_s = ins(ends, "shard_validate");
            for (shard, (to, from)) in to_s.into_iter().zip(from_s).enumerate() {
                let at = (validator as u16, shard as u16);
                // What is left of each list begins with this validator's.
                let request = from_v[shard].remove(0);
                let reply = to_v[shard].remove(0);
                assert!(request.peer == validator && from.peer == shard, "ends in table order");
                wires.push(Wire::new(
                    WireKind::Request { validator: at.0, shard: at.1 },
                    request,
                    to,
                ));
                wires.push(Wire::new(
                    WireKind::Reply { shard: at.1, validator: at.0 },
                    from,
                    reply,
                ));
            }
        }
        let mut s_pack = s.external("pack", 0).expect("an end is taken once");
        let mut p_ends = externals(&mut p, "shard", o.shards);
        for (shard, from) in ins(&mut s_pack, "shard_pack").into_iter().enumerate() {
            let to = only(outs(&mut p_ends[shard], "shard_pack"));
            wires.push(Wire::new(WireKind::Publish { shard: shard as u16 }, from, to));
        }
        let mut built = Vec::new();
        let long = o.long.then(|| {
            let mut l = build(&long_table(o), seed);
            let wiring = l.wiring("long", 0).expect("a wiring is taken once");
            let tile = Long::new(&config, &wiring);
            let stem = wiring.stem(tile, clock.clone());
            let mut l_ends = externals(&mut l, "validate", o.validators);
            let mut v_long = v.external("long", 0).expect("an end is taken once");
            let from_v = ins(&mut v_long, "validate_long");
            let to_v = outs(&mut v_long, "long_validate");
            for (i, (from, to)) in from_v.into_iter().zip(to_v).enumerate() {
                let validator = i as u16;
                let into = only(outs(&mut l_ends[i], "validate_long"));
                let back = only(ins(&mut l_ends[i], "long_validate"));
                wires.push(Wire::new(WireKind::ToLong { validator }, from, into));
                wires.push(Wire::new(WireKind::FromLong { validator }, back, to));
            }
            built.push(l);
            stem
        });

        let mut v_control = v.external("control", 0).expect("an end is taken once");
        let mut submit = v.external("submit", 0).expect("an end is taken once");
        let mut verdict = v.external("verdict", 0).expect("an end is taken once");
        let mut block = v.external("block", 0).expect("an end is taken once");
        let mut s_control = s.external("control", 0).expect("an end is taken once");
        let mut p_control = p.external("control", 0).expect("an end is taken once");
        let mut store = p.external("store", 0).expect("an end is taken once");
        let epoch = |built: &mut Built| {
            durable.then(|| built.external("epoch", 0).expect("an end is taken once"))
        };
        let (mut s_epoch, mut p_epoch) = (epoch(&mut s), epoch(&mut p));
        let epoch_shard = s_epoch.as_mut().map(|e| outs(e, "epoch_shard")).unwrap_or_default();
        let shard_epoch = s_epoch.as_mut().map(|e| ins(e, "shard_epoch")).unwrap_or_default();
        let epoch_pack = p_epoch.as_mut().map(|e| outs(e, "epoch_pack")).unwrap_or_default();
        built.extend([v, s, p]);
        Self {
            partition,
            params,
            clock,
            validates,
            shards,
            pack,
            long,
            wires,
            control_validate: outs(&mut v_control, "control_validate"),
            submit_validate: outs(&mut submit, "submit_validate"),
            validate_verdict: ins(&mut verdict, "validate_verdict"),
            block_validate: outs(&mut block, "block_validate"),
            validate_block: ins(&mut block, "validate_block"),
            control_shard: outs(&mut s_control, "control_shard"),
            shard_control: ins(&mut s_control, "shard_control"),
            control_pack: only(outs(&mut p_control, "control_pack")),
            pack_control: only(ins(&mut p_control, "pack_control")),
            pack_store: only(ins(&mut store, "pack_store")),
            epoch_shard,
            shard_epoch,
            epoch_pack,
            _built: built,
        }
    }
}

#[rustfmt::skip]
fn validate_table(o: &Options) -> Topology {
    let mut t = Topology::new("validators");
    t.external("control", 1);
    t.external("submit", 1);
    t.external("verdict", 1);
    t.external("block", 1);
    t.external("shard", o.shards.into());
    if o.long {
        t.external("long", 1);
    }
    t.tile::<Validate>(o.validators.into());
    //      link                depth          mtu           kind      producer          consumers
    t.link("control_validate",  o.depth,       64,           Lossless, one("control"),   each("validate"));
    t.link("block_validate",    o.depth,       o.tx_bytes,   Lossless, one("block"),     each("validate")).arena(o.arena_bytes);
    t.link("shard_validate",    o.depth,       o.batch_bytes, Lossless, each("shard"),   each("validate")).window(o.depth).arena(o.arena_bytes);
    if o.long {
        t.link("long_validate", o.depth,       64,           Lossless, one("long"),      each("validate")).window(o.depth);
    }
    t.link("submit_validate",   o.depth,       o.tx_bytes,   Lossless, one("submit"),    each("validate")).arena(o.arena_bytes);
    t.link("validate_shard",    o.burst_depth, o.batch_bytes, Lossless, each("validate"), each("shard")).arena(o.arena_bytes);
    if o.long {
        t.link("validate_long", o.burst_depth, o.tx_bytes,   Lossless, each("validate"), one("long")).arena(o.arena_bytes);
    }
    t.link("validate_block",    VERDICTS,      VerdictFrag::LEN as u32, Lossless, each("validate"), one("block")).window(VERDICTS);
    t.link("validate_verdict",  VERDICTS,      VerdictFrag::LEN as u32, Lossless, each("validate"), one("verdict")).window(VERDICTS);
    t.cores(1);
    for i in 0..usize::from(o.validators) {
        t.place("validate", i, 0);
    }
    t
}

#[rustfmt::skip]
fn shard_table(o: &Options, durable: bool) -> Topology {
    let mut t = Topology::new("shards");
    t.external("control", 1);
    t.external("validate", o.validators.into());
    t.tile::<ShardTile>(o.shards.into());
    t.external("pack", 1);
    if durable {
        t.external("epoch", 1);
    }
    //      link               depth          mtu            kind      producer          consumers
    t.link("control_shard",    o.depth,       8_192,         Lossless, one("control"),   each("shard")).arena(o.arena_bytes);
    t.link("validate_shard",   o.depth,       o.batch_bytes, Lossless, each("validate"), each("shard")).arena(o.arena_bytes);
    t.link("shard_pack",       o.burst_depth, o.tx_bytes,    Lossless, each("shard"),    one("pack")).arena(o.arena_bytes);
    t.link("shard_validate",   o.burst_depth, o.batch_bytes, Lossless, each("shard"),    each("validate")).window(o.burst_depth).arena(o.arena_bytes);
    if durable {
        t.link("epoch_shard",  o.depth,       256,           Lossless, one("epoch"),     each("shard"));
        t.link("shard_epoch",  4,             256,           Lossless, each("shard"),    one("epoch")).window(4);
    }
    t.link("shard_control",    4,             8_192,         Lossless, each("shard"),    one("control")).window(4).arena(o.arena_bytes);
    t.cores(1);
    for i in 0..usize::from(o.shards) {
        t.place("shard", i, 0);
    }
    t
}

#[rustfmt::skip]
fn pack_table(o: &Options, durable: bool) -> Topology {
    let mut t = Topology::new("packer");
    t.external("control", 1);
    t.external("shard", o.shards.into());
    t.tile::<PackTile>(1);
    t.external("store", 1);
    if durable {
        t.external("epoch", 1);
    }
    //      link             depth     mtu         kind      producer       consumers
    t.link("control_pack",   o.depth,  8_192,      Lossless, one("control"), one("pack"));
    t.link("shard_pack",     o.depth,  o.tx_bytes, Lossless, each("shard"),  one("pack")).arena(o.arena_bytes);
    if durable {
        t.link("epoch_pack", o.depth,  64,         Lossless, one("epoch"),   one("pack"));
    }
    t.link("pack_control",   o.depth,  2_048,      Lossless, one("pack"),    one("control")).window(o.depth);
    t.link("pack_store",     o.depth,  2_048,      Lossless, one("pack"),    one("store"));
    t.cores(1).place("pack", 0, 0);
    t
}

#[rustfmt::skip]
fn long_table(o: &Options) -> Topology {
    let mut t = Topology::new("slow lane");
    t.external("validate", o.validators.into());
    t.tile::<Long>(1);
    //      link             depth          mtu         kind      producer          consumers
    t.link("validate_long",  o.depth,       o.tx_bytes, Lossless, each("validate"), one("long")).arena(o.arena_bytes);
    t.link("long_validate",  o.burst_depth, 64,         Lossless, one("long"),      each("validate")).window(o.burst_depth);
    t.cores(1).place("long", 0, 0);
    t
}
