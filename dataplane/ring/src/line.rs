//! The metadata line: 32 bytes that announce one frag.
//!
//! | bytes | field | meaning |
//! | --- | --- | --- |
//! | 0..8 | `seq` | sequence number; `seq - 1` while the line is being written |
//! | 8..16 | `sig` | whatever lets a consumer filter without touching the payload |
//! | 16..24 | `loc` | bits 0..32 chunk (64 bytes), bits 32..63 size in bytes, bit 63: the payload is a handle into the arena |
//! | 24..28 | `ts_orig` | compressed time the message was born; survives every hop |
//! | 28..32 | `ts_pub` | compressed time this hop published it |
//!
//! Every word is an atomic of its own, so a torn read is something a reader *detects*, never undefined behaviour. There
//! is no `unsafe` here. The marker is why a link has at least two lines: with one, `seq - 1` is the number of the frag
//! before, and a half-written line passes for it (a loom model shows it).

use crate::sync::{AtomicU64, Ordering::Relaxed, Site};

/// Bytes of the unit in which payloads are placed.
pub(crate) const CHUNK_BYTES: u64 = 64;
const LARGE: u64 = 1 << 63;

/// Where a payload lies, as one word of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Loc(u64);

impl Loc {
    /// A payload of `size` bytes at byte `offset` of the payload ring.
    #[inline(always)]
    pub(crate) fn new(offset: u64, size: usize) -> Self {
        debug_assert!(offset.is_multiple_of(CHUNK_BYTES) && size < (1 << 31));
        Self((offset / CHUNK_BYTES) | ((size as u64) << 32)) // shifts cannot overflow: see `Layout`'s bounds
    }

    /// Says that the payload is a handle into the arena.
    pub(crate) fn large(self) -> Self {
        Self(self.0 | LARGE)
    }

    #[inline(always)]
    pub(crate) fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    /// Byte offset in the payload ring. Not checked: it may come from another process.
    #[inline(always)]
    pub(crate) fn offset(self) -> u64 {
        (self.0 & 0xffff_ffff).wrapping_mul(CHUNK_BYTES) // below 2^38
    }

    /// Bytes of the payload. Not checked.
    #[inline(always)]
    pub(crate) fn size(self) -> usize {
        ((self.0 >> 32) & 0x7fff_ffff) as usize
    }
}

/// The body of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Meta {
    pub(crate) sig: u64,
    pub(crate) loc: Loc,
    pub(crate) ts_orig: u32,
    pub(crate) ts_pub: u32,
}

/// What a reader that may be overrun finds in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Not published yet.
    Nothing,
    /// The line, whole.
    Whole(Meta),
    /// The line already belongs to this later frag.
    Later(u64),
}

/// One line. Shared by the producer and any number of readers.
#[derive(Debug)]
#[repr(C, align(32))]
pub(crate) struct Line {
    seq: AtomicU64,
    sig: AtomicU64,
    loc: AtomicU64,
    ts: AtomicU64,
}

impl Line {
    /// A line on the heap, holding `seq` and nothing else (models; regions are initialised in place).
    #[cfg(all(test, loom))]
    pub(crate) fn new(seq: u64) -> Self {
        Self {
            seq: AtomicU64::new(seq),
            sig: AtomicU64::new(0),
            loc: AtomicU64::new(0),
            ts: AtomicU64::new(0),
        }
    }

    /// First content of a line: a number of the lap before, so that every poll finds nothing.
    pub(crate) fn reset(&self, seq: u64) {
        self.seq.store(seq, Relaxed); // nobody reads before `Ready`
    }

    /// Publishes frag `seq`, and by the same store evicts the frag that had this line.
    #[inline(always)]
    pub(crate) fn publish(&self, seq: u64, meta: Meta) {
        self.seq.store(seq.wrapping_sub(1), Relaxed); // ordered before the body by the fence
        Site::LineMarker.fence();
        self.sig.store(meta.sig, Relaxed); // the body: ordered by the fence before and the release after
        self.loc.store(meta.loc.0, Relaxed);
        self.ts.store(u64::from(meta.ts_orig) | u64::from(meta.ts_pub) << 32, Relaxed);
        self.seq.store(seq, Site::LinePublish.order());
    }

    /// Frag `want` if it is there, for a reader whose credit keeps the producer from overwriting this line.
    ///
    /// # Panics
    /// If the line belongs to a later frag: the producer wrote without credit.
    #[inline(always)]
    pub(crate) fn poll_held(&self, want: u64) -> Option<Meta> {
        let seq = self.seq.load(Site::LinePoll.order());
        if seq != want {
            if (want.wrapping_sub(seq) as i64) < 0 {
                overwritten(want, seq);
            }
            return None;
        }
        Some(self.body())
    }

    /// Frag `want` if it is there, for a reader that may be overrun. The body is whole; a payload must be copied and
    /// then checked with [`still`](Self::still).
    #[inline]
    pub(crate) fn poll_tap(&self, want: u64) -> Found {
        let seq = self.seq.load(Site::LinePoll.order());
        match want.wrapping_sub(seq) as i64 {
            1.. => return Found::Nothing,
            ..0 => return Found::Later(seq),
            0 => {}
        }
        let meta = self.body();
        match self.still(want) {
            Ok(()) => Found::Whole(meta),
            Err(seq) => Found::Later(seq),
        }
    }

    /// Whether everything read so far under frag `seq` was of frag `seq`; otherwise the number found.
    #[inline]
    pub(crate) fn still(&self, seq: u64) -> Result<(), u64> {
        Site::TapVerify.fence();
        let now = self.seq.load(Relaxed); // ordered after the copy by the fence
        if now == seq { Ok(()) } else { Err(now) }
    }

    /// Whether frag `want` or a later one has been published here.
    #[inline]
    pub(crate) fn has(&self, want: u64) -> bool {
        let seq = self.seq.load(Relaxed); // a count for monitors; nothing is read on its strength
        (want.wrapping_sub(seq) as i64) <= 0
    }

    #[inline(always)]
    fn body(&self) -> Meta {
        let sig = self.sig.load(Relaxed); // ordered by `LinePoll` before, and for taps by `TapVerify` after
        let loc = Loc(self.loc.load(Relaxed));
        let ts = self.ts.load(Relaxed);
        Meta { sig, loc, ts_orig: ts as u32, ts_pub: (ts >> 32) as u32 }
    }
}

#[cold]
#[inline(never)]
fn overwritten(want: u64, seq: u64) -> ! {
    panic!("line of frag {want} holds {seq}: the producer published without credit");
}
