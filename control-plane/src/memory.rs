//! What the process may use, and who gets how much of it.
//!
//! In: `--memory` (or the cgroup's limit, or the machine's memory) and a layout. Out: a [`Division`]: arenas, validators, pool, bodies of
//! requests, the relay where there is one, and shards, so that all of them full at once stay below the sum. Nothing is taken at start that is not used: regions are
//! reserved as address space and committed page by page. Shards get what the others leave, because coins are what grows.
//!
//! Each part has a least size; a sum that does not hold them all is refused with the smallest that does.

use crate::config::Config;
use crate::config::settings::BfrSettings;
use crate::config::value::{Size, Value};
use crate::topology::{self, Arenas, Ingest, Shape};
use dataplane::topo::{Layout, Plan, TopologyError};
use dataplane::validate::{Bounds, MEDIUM_ITEMS_MAX, SMALL_ITEMS_MAX};
use hwconfig::host::Host;
use hwconfig::inventory::Inventory;
use serde_json::{Value as Json, json};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Code, stacks, the runtime of the interfaces, the log.
const PROCESS_BYTES: u64 = 64 * MIB;
/// Headers and places of blocks and mined transactions, kept outside of the shards.
const CHAIN_BYTES: u64 = 64 * MIB;
/// What one input and one output of a transaction in flight take in a validator: layout, state, digests.
const ITEM_BYTES: u64 = 160;
/// What a slot takes besides its items.
const SLOT_BYTES: u64 = 1_024;
/// A transaction in the pool: two merkle nodes, its place, its entries in two indexes.
const POOLED_BYTES: u64 = 320;
/// An entry of a shard's index, at the load the index keeps.
const INDEX_ENTRY_BYTES: u64 = 12;
/// A record with two outputs, one of them spent: the unit in which a shard's room is said in transactions.
const RECORD_BYTES: u64 = 212;

/// Least arena for transactions.
const ARENA_BYTES_MIN: u64 = 4 * MIB;
/// Least memory for transactions in flight in a validator.
const IN_FLIGHT_BYTES_MIN: u64 = 16 * MIB;
const POOLED_MIN: u64 = 1 << 16;
const POOLED_MAX: u64 = 1 << 23;
const BODIES_BYTES_MIN: u64 = 64 * MIB;
const BODIES_BYTES_MAX: u64 = 2 << 30;
const SHARD_BYTES_MIN: u64 = 32 * MIB;
const RELAY_BYTES_MIN: u64 = 32 * MIB;
/// A shard names places in its slab with 32 bits, in units of 16 bytes.
const SLAB_BYTES_MAX: u64 = 60 << 30;
/// Granularity in which the smallest sum that works is told.
const STEP: u64 = 16 * MIB;

/// Hundredths of what is not fixed. Shards get the rest.
const ARENAS_PERCENT: u64 = 20;
const VALIDATORS_PERCENT: u64 = 15;
const POOL_PERCENT: u64 = 6;
const BODIES_PERCENT: u64 = 10;
const RELAY_PERCENT: u64 = 10;

/// The sum is too small, or the table is not sound.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryError {
    /// Not enough.
    #[error(
        "{} of memory ({from}) are not enough for {cores} cores: {} is the least; \
         give --memory {1}, or fewer --cores",
        Size(*got_bytes).show(),
        Size(*least_bytes).show()
    )]
    TooSmall {
        /// What was given.
        got_bytes: u64,
        /// What works.
        least_bytes: u64,
        /// Where the number came from.
        from: String,
        /// Cores of the layout.
        cores: usize,
    },
    /// The table is refused.
    #[error("the topology is refused: {0}")]
    Topology(#[from] TopologyError),
}

/// One part of the sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Who.
    pub what: &'static str,
    /// How many of them.
    pub count: u64,
    /// What each may take.
    pub each_bytes: u64,
    /// What that holds.
    pub holds: String,
}

/// Who gets how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    /// The sum.
    pub total_bytes: u64,
    /// Where the sum came from.
    pub from: String,
    /// Its parts.
    pub parts: Vec<Part>,
    /// Of the links.
    pub arenas: Arenas,
    /// Of each validator.
    pub bounds: Bounds,
    /// Transactions in the pool.
    pub pooled_max: usize,
    /// Of each shard.
    pub shard_transactions_max: usize,
    /// Of each shard.
    pub shard_slab_bytes: usize,
    /// Bodies of requests being read, all listeners together.
    pub bodies_bytes: u64,
    /// Of the relay, where there is one.
    pub relay: Option<RelayShare>,
}

/// What the relay may take, as the settings say or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayShare {
    /// Objects under way.
    pub objects_bytes: u64,
    /// Transactions that fill up sketches.
    pub txs_bytes: u64,
    /// The largest object. Each way between relay and chain has room for one.
    pub object_bytes_max: u64,
}

impl RelayShare {
    fn of(settings: &BfrSettings) -> Self {
        let objects_bytes = settings.memory.0;
        let most = settings.object_bytes_max.0.min(objects_bytes / 4).min(u64::from(u32::MAX));
        Self { objects_bytes, txs_bytes: settings.txs_memory.0, object_bytes_max: most / KIB * KIB }
    }

    fn sum_bytes(&self) -> u64 {
        self.objects_bytes + self.txs_bytes + 2 * self.object_bytes_max
    }

    /// As much of it as `bytes` hold.
    fn within(self, bytes: u64) -> Self {
        if self.sum_bytes() <= bytes {
            return self;
        }
        let objects_bytes = self.objects_bytes.min(bytes / 2);
        let object_bytes_max = self.object_bytes_max.min(objects_bytes / 4) / KIB * KIB;
        Self { objects_bytes, txs_bytes: self.txs_bytes.min(bytes / 4), object_bytes_max }
    }
}

/// What this process may use when nobody says, and why.
pub fn default_total(host: &Inventory) -> (u64, String) {
    if let Some(limit) = host.cgroup.memory_bytes {
        return (limit / 5 * 4, "four fifths of the cgroup's limit".to_owned());
    }
    (host.memory_kb * KIB / 2, "half of the machine's memory".to_owned())
}

/// The division that `config` asks for on this host.
pub fn division(config: &Config, layout: &Layout) -> Result<Division, MemoryError> {
    let (total, from) = match config.node.memory {
        Some(size) => (size.0, "--memory".to_owned()),
        None => default_total(&Inventory::read(&Host::real())),
    };
    let relay = config.bfr.is_on().then(|| RelayShare::of(&config.bfr));
    divide(total, from, layout, relay)
}

/// Sums over the links of a plan.
struct Links {
    /// Lines and payload in line.
    fixed_bytes: u64,
    tx_arenas: u64,
    batch_arenas: u64,
}

impl Links {
    fn of(plan: &Plan, arenas: Arenas) -> Self {
        let count = |bytes| plan.links.iter().filter(|l| l.arena_bytes == bytes).count() as u64;
        let in_arenas: u64 = plan.links.iter().map(|l| l.arena_bytes).sum();
        Self {
            fixed_bytes: plan.link_bytes() - in_arenas,
            tx_arenas: count(arenas.tx_bytes),
            batch_arenas: count(arenas.batch_bytes),
        }
    }
}

/// Divides `total` bytes; `relay` is the most that a relay wants, where there is one.
pub fn divide(
    total: u64,
    from: String,
    layout: &Layout,
    relay: Option<RelayShare>,
) -> Result<Division, MemoryError> {
    let arenas = Arenas::default();
    let shape =
        Shape { ingest: Ingest::Control, store: true, durable: true, relay: relay.is_some() };
    let plan = topology::node_with(layout, shape, arenas).plan()?;
    let links = Links::of(&plan, arenas);
    if let Some(division) = try_divide(total, &from, layout, &links, relay) {
        return Ok(division);
    }
    let mut least = total.next_multiple_of(STEP);
    while try_divide(least, &from, layout, &links, relay).is_none() {
        least += STEP;
    }
    Err(MemoryError::TooSmall { got_bytes: total, least_bytes: least, from, cores: layout.cores })
}

fn bounds_bytes(b: &Bounds) -> u64 {
    let slots = u64::from(b.transactions_max + b.block_transactions_max + b.orphans_max);
    let items = slots * SMALL_ITEMS_MAX as u64
        + u64::from(b.medium_max) * MEDIUM_ITEMS_MAX as u64
        + u64::from(b.large_max) * b.large_items_max as u64;
    let in_flight = b.bytes_max + b.block_bytes_max + b.orphan_bytes_max;
    // The arena's own books take an entry of nine bytes for 256.
    in_flight + in_flight / 256 * 9 + slots * SLOT_BYTES + items * ITEM_BYTES
}

/// The default bounds, halved until they fit.
fn bounds_within(bytes: u64) -> Bounds {
    let mut bounds = Bounds::default();
    while bounds_bytes(&bounds) > bytes
        && bounds.bytes_max + bounds.block_bytes_max + bounds.orphan_bytes_max > IN_FLIGHT_BYTES_MIN
    {
        bounds.bytes_max /= 2;
        bounds.block_bytes_max /= 2;
        bounds.orphan_bytes_max /= 2;
        bounds.medium_max = (bounds.medium_max / 2).max(16);
        bounds.large_max = (bounds.large_max / 2).max(1);
    }
    bounds
}

fn try_divide(
    total: u64,
    from: &str,
    layout: &Layout,
    links: &Links,
    relay: Option<RelayShare>,
) -> Option<Division> {
    let (validators, shards) = (layout.validate.len() as u64, layout.shard.len() as u64);
    let fixed = PROCESS_BYTES + CHAIN_BYTES + links.fixed_bytes;
    let free = total.checked_sub(fixed)?;
    let share = |percent: u64| free / 100 * percent;

    let units = links.tx_arenas + 2 * links.batch_arenas;
    let unit = (share(ARENAS_PERCENT) / units.max(1) / MIB * MIB)
        .clamp(ARENA_BYTES_MIN, Arenas::default().tx_bytes);
    let relay = relay.map(|wanted| wanted.within(share(RELAY_PERCENT).max(RELAY_BYTES_MIN)));
    let object_bytes = relay.map_or(Arenas::default().object_bytes, |r| r.object_bytes_max);
    let arenas = Arenas { tx_bytes: unit, batch_bytes: 2 * unit, object_bytes };
    let bounds = bounds_within(share(VALIDATORS_PERCENT) / validators.max(1));
    let validator_bytes = bounds_bytes(&bounds);
    let pooled = (share(POOL_PERCENT) / POOLED_BYTES).clamp(POOLED_MIN, POOLED_MAX);
    let bodies = share(BODIES_PERCENT).clamp(BODIES_BYTES_MIN, BODIES_BYTES_MAX);
    let relay_bytes = relay.map_or(0, |relay| relay.sum_bytes());
    let taken =
        units * unit + validators * validator_bytes + pooled * POOLED_BYTES + bodies + relay_bytes;
    let shard_bytes = (free.checked_sub(taken)? / shards.max(1))
        .min(SLAB_BYTES_MAX / RECORD_BYTES * (RECORD_BYTES + INDEX_ENTRY_BYTES));
    if shard_bytes < SHARD_BYTES_MIN {
        return None;
    }
    let records = shard_bytes / (RECORD_BYTES + INDEX_ENTRY_BYTES);
    let slab_bytes = shard_bytes - records * INDEX_ENTRY_BYTES;
    let part = |what, count, each_bytes, holds| Part { what, count, each_bytes, holds };
    let size = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    let mut parts = vec![
        part("process", 1, PROCESS_BYTES, "code, stacks, interfaces".into()),
        part("chain index", 1, CHAIN_BYTES, "headers, places of blocks".into()),
        part("links, in line", 1, links.fixed_bytes, "lines and small frags".into()),
        part(
            "arenas of links",
            units,
            unit,
            format!("a transaction of up to {} at a time each", size(unit)),
        ),
        part(
            "validate",
            validators,
            validator_bytes,
            format!(
                "{} in flight, {} of blocks, {} of orphans",
                size(bounds.bytes_max),
                size(bounds.block_bytes_max),
                size(bounds.orphan_bytes_max)
            ),
        ),
        part("pack and pool index", 1, pooled * POOLED_BYTES, format!("{pooled} transactions")),
        part("bodies of requests", 1, bodies, "all listeners together".into()),
        part(
            "shard",
            shards,
            shard_bytes,
            format!("about {records} transactions with unspent outputs"),
        ),
    ];
    parts.extend(relay.map(|relay| {
        let (one, txs) = (size(relay.object_bytes_max), size(relay.txs_bytes));
        let holds = format!("objects of up to {one} under way, {txs} of transactions");
        part("relay", 1, relay.sum_bytes(), holds)
    }));
    Some(Division {
        total_bytes: total,
        from: from.to_owned(),
        parts,
        arenas,
        bounds,
        pooled_max: pooled as usize,
        shard_transactions_max: records as usize,
        shard_slab_bytes: slab_bytes as usize,
        bodies_bytes: bodies,
        relay,
    })
}

impl Division {
    /// Sum of the parts: at most the total.
    pub fn sum_bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.count * p.each_bytes).sum()
    }

    /// As an object.
    pub fn json(&self) -> Json {
        let part = |p: &Part| {
            json!({
                "what": p.what, "count": p.count, "each_bytes": p.each_bytes,
                "bytes": p.count * p.each_bytes, "holds": p.holds,
            })
        };
        json!({
            "total_bytes": self.total_bytes, "from": self.from, "sum_bytes": self.sum_bytes(),
            "parts": self.parts.iter().map(part).collect::<Json>(),
        })
    }
}

impl std::fmt::Display for Division {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        writeln!(
            f,
            "memory, at most (committed as used): {:.0} MB, {}",
            mb(self.total_bytes),
            self.from
        )?;
        for p in &self.parts {
            let all = mb(p.count * p.each_bytes);
            writeln!(
                f,
                "  {:<20} {:>4} x {:>9.1} MB = {all:>9.1} MB  {}",
                p.what,
                p.count,
                mb(p.each_bytes),
                p.holds
            )?;
        }
        writeln!(f, "  {:<20} {:>31.1} MB", "sum", mb(self.sum_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_never_add_up_to_more_than_the_sum_and_shards_get_what_is_left() {
        for cores in [1, 2, 4, 8, 16, 64] {
            let layout = Layout::for_cores(cores);
            let mut before = 0;
            for gib in [8, 16, 32, 64, 512] {
                let Ok(division) = divide(gib << 30, "test".into(), &layout, None) else {
                    assert!(cores > 8, "{cores} cores in {gib} GiB");
                    continue;
                };
                assert!(division.sum_bytes() <= division.total_bytes, "{cores} {gib}\n{division}");
                assert!(division.shard_slab_bytes >= before, "more memory, more coins");
                before = division.shard_slab_bytes;
            }
        }
    }

    #[test]
    fn what_is_too_small_is_refused_with_the_smallest_that_works() {
        for cores in [1, 2, 8, 64] {
            let layout = Layout::for_cores(cores);
            let refused = divide(100 * MIB, "--memory".into(), &layout, None);
            let Err(MemoryError::TooSmall { least_bytes, .. }) = refused else {
                panic!("{cores} cores in 100 MiB: {refused:?}")
            };
            divide(least_bytes, "test".into(), &layout, None).expect("the least works");
            assert!(
                divide(least_bytes - STEP, "test".into(), &layout, None).is_err(),
                "it is the least"
            );
        }
        let text =
            divide(100 * MIB, "--memory".into(), &Layout::for_cores(2), None).expect_err("small");
        let text = text.to_string();
        assert!(
            text.starts_with("100M of memory (--memory) are not enough for 2 cores: "),
            "{text}"
        );
    }

    #[test]
    fn a_relay_takes_its_share_from_the_shards_and_never_more_than_it_wants() {
        let wanted = RelayShare {
            objects_bytes: 512 * MIB,
            txs_bytes: 128 * MIB,
            object_bytes_max: 64 * MIB,
        };
        for cores in [1, 2, 4, 16] {
            let layout = Layout::for_cores(cores);
            for gib in [4, 8, 16, 64] {
                let Ok(with) = divide(gib << 30, "test".into(), &layout, Some(wanted)) else {
                    assert!(cores > 4, "{cores} cores in {gib} GiB");
                    continue;
                };
                let without = divide(gib << 30, "test".into(), &layout, None).expect("less");
                let relay = with.relay.expect("its share");
                assert!(with.sum_bytes() <= with.total_bytes, "{cores} {gib}\n{with}");
                assert!(relay.sum_bytes() <= wanted.sum_bytes());
                assert!(relay.object_bytes_max * 4 <= relay.objects_bytes, "{relay:?}");
                assert_eq!(with.arenas.object_bytes, relay.object_bytes_max);
                assert!(with.shard_slab_bytes <= without.shard_slab_bytes);
                assert!(with.to_string().contains("relay"), "{with}");
            }
            assert_eq!(
                divide(512 << 30, "test".into(), &layout, Some(wanted)).expect("plenty").relay,
                Some(wanted)
            );
        }
    }

    #[test]
    fn a_cgroup_limit_comes_before_the_machines_memory() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut host = Inventory::read(&Host::fixture(folder.path().to_owned()));
        host.cgroup.memory_bytes = Some(10 << 30);
        assert_eq!(default_total(&host).0, 8 << 30);
        host.cgroup.memory_bytes = None;
        assert!(default_total(&host).1.contains("machine"));
    }
}
