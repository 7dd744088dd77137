//! The machine as one table: every tile, every link, and on which core what turns.
//!
//! A tile polls its in-links in the order of the rows, so what must never wait stands first: control before blocks, blocks
//! before replies, replies before new work. `metanode topo` prints this table with sizes and cores.

use dataplane::long::Long;
use dataplane::msg::{IngestHeader, VerdictFrag};
use dataplane::pack::PackTile;
use dataplane::topo::{Consumers, Kind::*, Layout, Topology, each, one};
use dataplane::validate::Validate;
use load::replay::Replay;
use utxo_shard::ShardTile;

use crate::store::StoreTile;

/// Payload of a batch between a coordinator and a shard.
pub const BATCH_BYTES: u32 = 8_192;
/// An ingest frag, or an accepted transaction, up to this size travels in line.
pub const TX_BYTES: u32 = 2_048;
/// Batches in flight from one coordinator to one shard.
pub const REQUESTS: u32 = 256;
/// Answers to them: a batch of requests can be answered by several batches, because answers carry scripts.
pub const REPLIES: u32 = 1_024;
/// Transactions out at one coordinator, over all senders of one kind.
pub const VERDICTS: u32 = 16_384;
/// Transactions of one block out at one coordinator, verdicts not read yet included.
pub const BLOCK_VERDICTS: u32 = 1_024;
/// Frags of the control plane's own links.
const CONTROL: u32 = 64;
/// What is said about epochs at once.
const EPOCH_BYTES: u32 = 256;

const MIB: u64 = 1 << 20;

/// Bytes of the arenas for large frags. They are committed as used, and never larger than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arenas {
    /// For a transaction, or a script with its own.
    pub tx_bytes: u64,
    /// For batches about one.
    pub batch_bytes: u64,
}

impl Default for Arenas {
    fn default() -> Self {
        Self { tx_bytes: 128 * MIB, batch_bytes: 256 * MIB }
    }
}

const _: () = assert!(IngestHeader::LEN < TX_BYTES as usize);

/// Who sends transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingest {
    /// Threads of the control plane.
    Control,
    /// The tile `replay`, on the edge core.
    Replay,
}

impl Ingest {
    /// Its name, the row that carries its transactions, and the row that carries their verdicts.
    pub fn rows(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Control => ("submit", "submit_validate", "validate_submit"),
            Self::Replay => ("replay", "replay_validate", "validate_replay"),
        }
    }
}

/// The table of a node on `layout`. With `store` the bytes of accepted transactions are kept for blocks.
pub fn node(layout: &Layout, ingest: Ingest, store: bool) -> Topology {
    node_with(layout, ingest, store, Arenas::default(), true)
}

/// The same with arenas of that size; with `durable` somebody closes epochs.
#[rustfmt::skip]
pub fn node_with(layout: &Layout, ingest: Ingest, store: bool, arenas: Arenas, durable: bool) -> Topology {
    let mut t = Topology::new("node");
    let (sender, transactions, verdicts) = ingest.rows();
    t.external("control", 1);
    t.external("block", 1);
    if durable {
        t.external("epoch", 1);
    }
    match ingest {
        Ingest::Control => t.external("submit", 1),
        Ingest::Replay => t.tile::<Replay>(1),
    };
    t.tile::<Validate>(layout.validate.len());
    t.tile::<Long>(1);
    t.tile::<ShardTile>(layout.shard.len());
    t.tile::<PackTile>(1);
    t.tile::<StoreTile>(1);
    let pack_and_store: Consumers =
        if store { [one("pack"), one("store")].into() } else { one("pack").into() };

    //      link                depth     mtu                 kind      producer          consumers
    t.link("control_validate",  CONTROL,  64,                 Lossless, one("control"),   each("validate"));
    t.link("block_validate",    BLOCK_VERDICTS,    TX_BYTES,           Lossless, one("block"),     each("validate")).arena(arenas.tx_bytes);
    t.link("shard_validate",    REPLIES,  BATCH_BYTES,        Lossless, each("shard"),    each("validate")).window(REPLIES).arena(arenas.batch_bytes);
    t.link("long_validate",     1_024,    64,                 Lossless, one("long"),      each("validate")).window(1_024);
    t.link(transactions,         2_048,    TX_BYTES,           Lossless, one(sender),      each("validate")).arena(arenas.tx_bytes);
    t.link("control_shard",     CONTROL,  BATCH_BYTES,        Lossless, one("control"),   each("shard")).arena(arenas.batch_bytes);
    if durable {
        t.link("epoch_shard",   CONTROL,  EPOCH_BYTES,        Lossless, one("epoch"),     each("shard"));
    }
    t.link("validate_shard",    REQUESTS, BATCH_BYTES,        Lossless, each("validate"), each("shard")).arena(arenas.batch_bytes);
    t.link("validate_long",     256,      TX_BYTES,           Lossless, each("validate"), one("long")).arena(arenas.tx_bytes);
    t.link("control_pack",      CONTROL,  BATCH_BYTES,        Lossless, one("control"),   one("pack"));
    t.link("shard_pack",        4_096,    TX_BYTES,           Lossless, each("shard"),    pack_and_store).arena(arenas.batch_bytes);
    if durable {
        t.link("epoch_pack",    CONTROL,  EPOCH_BYTES,        Lossless, one("epoch"),     one("pack"));
    }
    t.link(verdicts,             VERDICTS, VerdictFrag::LEN as u32, Lossless, each("validate"), one(sender)).window(VERDICTS);
    t.link("validate_block",    BLOCK_VERDICTS, VerdictFrag::LEN as u32, Lossless, each("validate"), one("block")).window(BLOCK_VERDICTS);
    t.link("shard_control",     CONTROL,  BATCH_BYTES,        Lossless, each("shard"),    one("control")).window(CONTROL).arena(arenas.batch_bytes);
    if durable {
        t.link("shard_epoch",   CONTROL,  EPOCH_BYTES,        Lossless, each("shard"),    one("epoch")).window(CONTROL);
    }
    t.link("pack_control",      CONTROL,  BATCH_BYTES,        Lossless, one("pack"),      one("control")).window(CONTROL);
    t.link("pack_store",        256,      BATCH_BYTES,        Lossless, one("pack"),      one("store"));

    t.cores(layout.cores);
    if ingest == Ingest::Replay {
        t.place("replay", 0, layout.edge);
    }
    for (index, core) in layout.validate.iter().enumerate() {
        t.place("validate", index, *core);
    }
    for (index, core) in layout.shard.iter().enumerate() {
        t.place("shard", index, *core);
    }
    t.place("pack", 0, layout.pack);
    t.floating("long");
    t.floating("store");
    t
}
