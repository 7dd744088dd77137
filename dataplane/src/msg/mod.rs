//! What tiles say to each other: every message of the money path, drawn as bytes.
//!
//! A frag on `validate_shard` or `shard_validate` is a *batch*: one 40-byte [`BatchHeader`] (epoch and context) and items
//! back to back, each a tag byte and its fields, little endian, unaligned. A batch never mixes contexts. A frag on
//! `*_validate` from an ingest producer is one [`IngestHeader`] and the bytes of one transaction; a frag on `shard_pack` is
//! one [`accepted::Accepted`]; a frag on `validate_verdict` is one [`verdict::VerdictFrag`]. Messages above a link's mtu
//! travel as a large frag with the same layout.
//!
//! Decoders borrow from the frag, are total, and answer `None` for bytes no writer of ours could have produced: between
//! tiles of one process that is a violation, and the tile says which link carried it.

pub mod accepted;
pub mod admin;
pub mod batch;
pub mod control;
pub mod long;
pub mod pack_control;
pub mod pack_store;
pub mod reply;
pub mod request;
pub mod verdict;
mod wire;

pub use accepted::{Accepted, AcceptedKind, ParentSeq};
pub use batch::{BatchHeader, BatchReader, BatchWriter};
pub use control::ValidateControl;
pub use long::{LongOutcome, LongReply, LongRequest};
pub use pack_control::{PackCommand, PackReply, Records};
pub use pack_store::{SubtreeFrag, SubtreeLeaf};
pub use reply::{InputVerdict, Reply, SeenState, WakeReason};
pub use request::{Expect, InputRef, Request, WithdrawReason};
pub use verdict::{TxVerdict, VerdictFrag};

/// A coordinator's name for one attempt at one transaction: which of its slots, and how often that slot has started anew.
///
/// Attempts of a slot only grow, also from one transaction to the next, so an answer to an older attempt is recognised and
/// dropped. A reservation belongs to (txid, coordinator, attempt); the coordinator is known from the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket {
    /// Index in the coordinator's slot table.
    pub slot: u32,
    /// Grows with every start of the slot.
    pub attempt: u32,
}

/// Number of one group commit: which start of the data directory, and which commit since.
///
/// Travels with every batch. A shard never logs in an older epoch than a message it acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bytemuck::Zeroable)]
pub struct Epoch {
    /// Drawn anew at each opening of the data directory.
    pub incarnation: u32,
    /// Counts commits within the incarnation.
    pub number: u64,
}

/// Against what a request is judged: the pool at tip + 1, or one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Context {
    /// 0 is the pool; otherwise the number control-plane gave the block when it opened it.
    pub block: u32,
    /// Height of the block, or tip + 1.
    pub height: u32,
    /// What lock times are compared with, seconds: median time past of the parent; below `csv_height` the block's own time.
    pub median_time_past: u32,
    /// Script flags of that height without per-input bits; two contexts with equal flags share verdicts about scripts.
    pub rule_set: u32,
}

impl Context {
    /// True for the pool at tip + 1.
    pub fn is_pool(&self) -> bool {
        self.block == 0
    }
}

/// First bytes of an ingest frag; the transaction (raw or extended) follows.
///
/// ```text
/// 0        8        12       16       20      24
/// | token  | source | block  | index  | flags | transaction ...
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct IngestHeader {
    /// Given back with the verdict; the sender's own number.
    pub token: u64,
    /// Which peer or client, for per-source limits.
    pub source: u32,
    /// 0 for the pool, else the block (opened before through `control_validate`).
    pub block: u32,
    /// Place in the block; 0 is the coinbase.
    pub index: u32,
    /// [`Self::TELL_ORPHAN`], [`Self::NO_VERDICT`], else zero.
    pub flags: u32,
}

impl IngestHeader {
    /// Bytes in front of the transaction.
    pub const LEN: usize = 24;
    /// The sender waits for the verdict and wants to hear of a missing parent: if the transaction is still an orphan after
    /// `Bounds::orphan_told_ns`, this copy ends with `MissingInput`. The transaction itself stays in the orphan pool.
    pub const TELL_ORPHAN: u32 = 1;
    /// Nobody waits for the verdict of this copy: it is counted and not sent. For producers that shed (`bfr_validate`); a block's
    /// copies always have verdicts.
    pub const NO_VERDICT: u32 = 2;

    /// Writes the header to the front of `out`.
    pub fn write(&self, out: &mut [u8]) {
        let mut w = wire::Out::new(out);
        w.u64(self.token);
        w.u32(self.source);
        w.u32(self.block);
        w.u32(self.index);
        w.u32(self.flags);
        assert!(w.fits(), "ingest frag shorter than its {} byte header", Self::LEN);
    }

    /// The header and the bytes behind it.
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut r = wire::In::new(bytes);
        let header = Self {
            token: r.u64()?,
            source: r.u32()?,
            block: r.u32()?,
            index: r.u32()?,
            flags: r.u32()?,
        };
        Some((header, r.rest()))
    }
}

#[cfg(test)]
mod tests;
