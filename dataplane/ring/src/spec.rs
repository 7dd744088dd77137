//! What a link is asked to be, and how its region is laid out for that.
//!
//! A [`LinkSpec`] is one row of the topology table. [`Layout`] turns it into byte offsets, the same in every process
//! that attaches; its hash is written into the region, so that two builds that disagree find out before they read a
//! line.

use crate::credit::FIRST_SEQ_MAX;
use crate::line::CHUNK_BYTES;

/// Longest link name, in bytes.
pub const NAME_MAX_BYTES: usize = 48;
/// Most consumers a link can have.
pub const CONSUMERS_MAX: usize = 64;
/// Most lines a link can have.
pub const DEPTH_MAX: u64 = 1 << 24;
/// Largest mtu. Larger frags go through the arena.
pub const MTU_MAX_BYTES: usize = 1 << 26;

/// What a producer does when a consumer is full. The numbers are part of the region format.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The producer stops and counts `backpressure`. Consumers see every frag, in order, and borrow its bytes.
    Lossless = 1,
    /// The new frag is dropped at the door and counted as `shed`. Consumers see no gaps, and borrow the bytes.
    Shed = 2,
    /// The producer never looks. Readers copy, then verify, and are told by how much they were overrun.
    Tap = 3,
}

impl Kind {
    /// The name printed in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lossless => "lossless",
            Kind::Shed => "shed",
            Kind::Tap => "tap",
        }
    }

    pub(crate) fn from_code(code: u64) -> Option<Self> {
        [Kind::Lossless, Kind::Shed, Kind::Tap].into_iter().find(|k| *k as u64 == code)
    }
}

/// One row of the link table.
///
/// ```
/// use ring::{Kind, LinkSpec};
/// let spec = LinkSpec::new("validate_shard", 1024, 2048, Kind::Lossless).arena_bytes(1 << 20);
/// assert!(ring::footprint(&spec).unwrap() > 1024 * 2048);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSpec {
    /// `producer_consumer`, at most [`NAME_MAX_BYTES`].
    pub name: String,
    /// Lines: how many frags may be published and not yet passed by every consumer. A power of two, at least 2.
    pub depth: u64,
    /// Most bytes of a frag in line. 0: metadata only.
    pub mtu_bytes: usize,
    /// What happens without credit.
    pub kind: Kind,
    /// Consumers that hold credit, 1 to [`CONSUMERS_MAX`]. Not used by a `Tap`, which any number may read.
    pub consumers: usize,
    /// Room for frags larger than the mtu. 0: none are admitted. Not for a `Tap`.
    pub arena_bytes: u64,
    /// Most frags the producer publishes in one turn; at most `depth`.
    pub burst: u64,
    /// Number of the first frag.
    pub first_seq: u64,
}

impl LinkSpec {
    /// A link with one consumer, no arena and a burst of one.
    pub fn new(name: impl Into<String>, depth: u64, mtu_bytes: usize, kind: Kind) -> Self {
        Self {
            name: name.into(),
            depth,
            mtu_bytes,
            kind,
            consumers: 1,
            arena_bytes: 0,
            burst: 1,
            first_seq: 0,
        }
    }

    /// Sets the number of consumers.
    pub fn consumers(mut self, consumers: usize) -> Self {
        self.consumers = consumers;
        self
    }

    /// Sets the room for large frags.
    pub fn arena_bytes(mut self, bytes: u64) -> Self {
        self.arena_bytes = bytes;
        self
    }

    /// Sets the frags published in one turn.
    pub fn burst(mut self, burst: u64) -> Self {
        self.burst = burst;
        self
    }

    /// Sets the number of the first frag.
    pub fn first_seq(mut self, seq: u64) -> Self {
        self.first_seq = seq;
        self
    }

    /// Checks every bound a link must keep.
    pub fn validate(&self) -> Result<(), SpecError> {
        let name = &self.name;
        let err = |field, got, expected| {
            Err(SpecError::OutOfRange { link: name.clone(), field, got, expected })
        };
        if name.is_empty() || name.len() > NAME_MAX_BYTES {
            return err("name length", name.len() as u64, "1 to 48 bytes");
        }
        if !self.depth.is_power_of_two() || self.depth < 2 || self.depth > DEPTH_MAX {
            return err("depth", self.depth, "a power of two from 2 to 2^24");
        }
        if self.mtu_bytes > MTU_MAX_BYTES {
            return err(
                "mtu",
                self.mtu_bytes as u64,
                "at most 2^26 bytes; use the arena above that",
            );
        }
        if self.kind != Kind::Tap && !(1..=CONSUMERS_MAX).contains(&self.consumers) {
            return err("consumers", self.consumers as u64, "1 to 64");
        }
        if self.burst == 0 || self.burst > self.depth {
            return err("burst", self.burst, "1 to depth");
        }
        if self.kind == Kind::Tap && self.arena_bytes != 0 {
            return err("arena", self.arena_bytes, "0 on a tap: its readers may be overrun");
        }
        if self.arena_bytes > 1 << 44 {
            return err("arena", self.arena_bytes, "at most 2^44 bytes");
        }
        if self.first_seq >= FIRST_SEQ_MAX {
            return err("first_seq", self.first_seq, "below 2^62");
        }
        let dcache_bytes = slot_bytes(self.mtu_bytes) * (self.depth + self.burst + 1);
        if dcache_bytes / CHUNK_BYTES > u64::from(u32::MAX) {
            return err("depth * mtu", dcache_bytes, "at most 256 GiB of payload");
        }
        Ok(())
    }
}

/// A row of the link table that cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A field is outside its bounds.
    #[error(
        "link `{link}`: {field} is {got}, expected {expected}; correct its row in the topology table"
    )]
    OutOfRange {
        /// The link.
        link: String,
        /// The field.
        field: &'static str,
        /// Its value.
        got: u64,
        /// What is allowed.
        expected: &'static str,
    },
}

/// Bytes of the region a link needs.
pub fn footprint(spec: &LinkSpec) -> Result<u64, SpecError> {
    Ok(Layout::of(spec)?.total_bytes)
}

/// A slot holds a frag of mtu bytes, or the handle of a large one, in whole chunks.
fn slot_bytes(mtu_bytes: usize) -> u64 {
    (mtu_bytes as u64).max(HANDLE_BYTES).next_multiple_of(CHUNK_BYTES)
}

/// Bytes of a handle into the arena: offset and length.
pub(crate) const HANDLE_BYTES: u64 = 16;
/// The payload ring and the arena start on pages of their own, so that they can be advised huge.
const PAGE_BYTES: u64 = 4096;
/// Of the region format. Change it with any change of the offsets or of the meaning of a word.
pub(crate) const VERSION: u64 = 1;

/// Byte offsets of the parts of a region, all from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) producer: u64,
    pub(crate) consumers: u64,
    pub(crate) consumer_count: u64,
    pub(crate) lines: u64,
    pub(crate) depth: u64,
    pub(crate) dcache: u64,
    pub(crate) dcache_bytes: u64,
    pub(crate) slot_bytes: u64,
    pub(crate) mtu_bytes: u64,
    pub(crate) arena: u64,
    pub(crate) arena_bytes: u64,
    pub(crate) total_bytes: u64,
    /// Over all of the above and the version.
    pub(crate) hash: u64,
}

/// Bytes of the header, the producer's cell and a consumer's two cells. `region` asserts that its structs fit. What
/// different threads write is 128 bytes apart: the prefetcher fetches cache lines in pairs.
pub(crate) const HEADER_BYTES: u64 = 256;
pub(crate) const PRODUCER_BYTES: u64 = 128;
pub(crate) const CONSUMER_BYTES: u64 = 256;
pub(crate) const LINE_BYTES: u64 = 32;

impl Layout {
    pub(crate) fn of(spec: &LinkSpec) -> Result<Self, SpecError> {
        spec.validate()?;
        let consumer_count = if spec.kind == Kind::Tap { 0 } else { spec.consumers as u64 };
        let producer = HEADER_BYTES;
        let consumers = producer + PRODUCER_BYTES;
        let lines = consumers + consumer_count * CONSUMER_BYTES;
        let slot_bytes = slot_bytes(spec.mtu_bytes);
        // `depth` frags visible, `burst` being prepared, one lost at the ragged end: nothing ever wraps mid-frag.
        let dcache_bytes = slot_bytes * (spec.depth + spec.burst + 1);
        let dcache = (lines + spec.depth * LINE_BYTES).next_multiple_of(PAGE_BYTES);
        let arena = (dcache + dcache_bytes).next_multiple_of(PAGE_BYTES);
        let arena_bytes = spec.arena_bytes.next_multiple_of(CHUNK_BYTES);
        let total_bytes = (arena + arena_bytes).next_multiple_of(PAGE_BYTES);
        let mut layout = Self {
            producer,
            consumers,
            consumer_count,
            lines,
            depth: spec.depth,
            dcache,
            dcache_bytes,
            slot_bytes,
            mtu_bytes: spec.mtu_bytes as u64,
            arena,
            arena_bytes,
            total_bytes,
            hash: 0,
        };
        layout.hash = layout.compute_hash();
        Ok(layout)
    }

    /// FNV-1a over the numbers: it detects disagreement, it does not authenticate.
    fn compute_hash(&self) -> u64 {
        let words = [
            VERSION,
            self.producer,
            self.consumers,
            self.consumer_count,
            self.lines,
            self.depth,
            self.dcache,
            self.dcache_bytes,
            self.slot_bytes,
            self.mtu_bytes,
            self.arena,
            self.arena_bytes,
            self.total_bytes,
        ];
        words.iter().flat_map(|w| w.to_le_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_row_outside_its_bounds_is_refused_by_name() {
        let ok = LinkSpec::new("a_b", 8, 100, Kind::Lossless);
        assert!(ok.validate().is_ok());
        for (bad, field) in [
            (LinkSpec { depth: 1, ..ok.clone() }, "depth"),
            (LinkSpec { depth: 6, ..ok.clone() }, "depth"),
            (ok.clone().consumers(0), "consumers"),
            (ok.clone().burst(9), "burst"),
            (LinkSpec { kind: Kind::Tap, ..ok.clone() }.arena_bytes(64), "arena"),
            (ok.clone().first_seq(1 << 62), "first_seq"),
            (LinkSpec { name: String::new(), ..ok.clone() }, "name"),
            (LinkSpec { mtu_bytes: MTU_MAX_BYTES, depth: DEPTH_MAX, ..ok.clone() }, "depth * mtu"),
        ] {
            let text = bad.validate().unwrap_err().to_string();
            assert!(text.contains(field), "{text}");
        }
    }

    #[test]
    fn the_hash_changes_with_every_number_of_the_layout() {
        let base = LinkSpec::new("a_b", 8, 100, Kind::Lossless);
        let hash = |s: &LinkSpec| Layout::of(s).unwrap().hash;
        for other in [
            LinkSpec { depth: 16, ..base.clone() },
            LinkSpec { mtu_bytes: 101, ..base.clone() },
            base.clone().consumers(2),
            base.clone().burst(2),
            base.clone().arena_bytes(64),
        ] {
            assert_ne!(hash(&base), hash(&other), "{other:?}");
        }
    }
}
