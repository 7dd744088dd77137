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
use relay::tile::{Bfr, Net, datagram};
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
/// Packets between the relay's two tiles, each way. At 1 Gbit/s 20 ms of them.
const PACKETS: u32 = 2_048;
/// Objects between relay and chain, each way.
const OBJECTS: u32 = 16;
/// A packet with its address.
const PACKET_BYTES: u32 = datagram::MTU as u32;

const MIB: u64 = 1 << 20;

/// Bytes of the arenas for large frags. They are committed as used, and never larger than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arenas {
    /// For a transaction, or a script with its own.
    pub tx_bytes: u64,
    /// For batches about one.
    pub batch_bytes: u64,
    /// For objects between relay and chain, one of the largest at least.
    pub object_bytes: u64,
}

impl Default for Arenas {
    fn default() -> Self {
        Self { tx_bytes: 128 * MIB, batch_bytes: 256 * MIB, object_bytes: 64 * MIB }
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

/// What a node has besides validators, shards and pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Who sends transactions.
    pub ingest: Ingest,
    /// The bytes of accepted transactions are kept for blocks.
    pub store: bool,
    /// Somebody closes epochs.
    pub durable: bool,
    /// It speaks with other nodes over BFR.
    pub relay: bool,
}

/// The table of a node on `layout` that promises what it accepts, and does not relay. With `store` the bytes of accepted transactions are
/// kept for blocks.
pub fn node(layout: &Layout, ingest: Ingest, store: bool) -> Topology {
    let shape = Shape { ingest, store, durable: true, relay: false };
    node_with(layout, shape, Arenas::default())
}

/// The table of a node of that shape, with arenas of that size.
#[rustfmt::skip]
pub fn node_with(layout: &Layout, shape: Shape, arenas: Arenas) -> Topology {
    let Shape { ingest, store, durable, relay } = shape;
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
    if relay {
        t.external("chain", 1);
        t.tile::<Net>(1);
        t.tile::<Bfr>(1);
    }
    let accepted: Consumers = match (store, relay) {
        (true, true) => [one("pack"), one("store"), one("bfr")].into(),
        (true, false) => [one("pack"), one("store")].into(),
        (false, true) => [one("pack"), one("bfr")].into(),
        (false, false) => one("pack").into(),
    };
    let released: Consumers =
        if relay { [one("store"), one("bfr")].into() } else { one("store").into() };

    //      link                depth     mtu                 kind      producer          consumers
    t.link("control_validate",  CONTROL,  64,                 Lossless, one("control"),   each("validate"));
    t.link("block_validate",    BLOCK_VERDICTS,    TX_BYTES,           Lossless, one("block"),     each("validate")).arena(arenas.tx_bytes);
    t.link("shard_validate",    REPLIES,  BATCH_BYTES,        Lossless, each("shard"),    each("validate")).window(REPLIES).arena(arenas.batch_bytes);
    t.link("long_validate",     1_024,    64,                 Lossless, one("long"),      each("validate")).window(1_024);
    t.link(transactions,         2_048,    TX_BYTES,           Lossless, one(sender),      each("validate")).arena(arenas.tx_bytes);
    if relay {
        t.link("chain_bfr",     OBJECTS,  TX_BYTES,           Lossless, one("chain"),     one("bfr")).arena(arenas.object_bytes);
        t.link("net_bfr",       PACKETS,  PACKET_BYTES,       Shed,     one("net"),       one("bfr"));
        t.link("bfr_net",       PACKETS,  PACKET_BYTES,       Lossless, one("bfr"),       one("net")).window(PACKETS);
        t.link("bfr_chain",     OBJECTS,  TX_BYTES,           Lossless, one("bfr"),       one("chain")).window(OBJECTS).arena(arenas.object_bytes);
        t.link("bfr_validate",  2_048,    TX_BYTES,           Shed,     one("bfr"),       each("validate")).arena(arenas.tx_bytes);
    }
    t.link("control_shard",     CONTROL,  BATCH_BYTES,        Lossless, one("control"),   each("shard")).arena(arenas.batch_bytes);
    if durable {
        t.link("epoch_shard",   CONTROL,  EPOCH_BYTES,        Lossless, one("epoch"),     each("shard"));
    }
    t.link("validate_shard",    REQUESTS, BATCH_BYTES,        Lossless, each("validate"), each("shard")).arena(arenas.batch_bytes);
    t.link("validate_long",     256,      TX_BYTES,           Lossless, each("validate"), one("long")).arena(arenas.tx_bytes);
    t.link("control_pack",      CONTROL,  BATCH_BYTES,        Lossless, one("control"),   one("pack"));
    t.link("shard_pack",        4_096,    TX_BYTES,           Lossless, each("shard"),    accepted).arena(arenas.batch_bytes);
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
    t.link("pack_store",        256,      BATCH_BYTES,        Lossless, one("pack"),      released);

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
    if relay {
        t.floating("net");
        t.floating("bfr");
    }
    t
}
