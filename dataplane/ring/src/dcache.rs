//! The payload ring and the arena of a link: the bytes behind the lines.
//!
//! Payloads are placed one after the other in chunks of 64 bytes. The ring is `depth + burst + 1` slots of one mtu, and
//! a payload never starts less than a slot from the end, so no frag wraps and no consumer has code for it. Nothing here
//! counts or waits: every access asks for a value that proves it is allowed, a [`Credit`] to write a slot, a [`Held`] to
//! read one, an [`Extent`] to write in the arena. Taps prove nothing: their links are written and read word by word as
//! atomics, and the reader checks afterwards.

use crate::arena::Extent;
use crate::credit::{Credit, Held};
use crate::line::{CHUNK_BYTES, Loc};
use crate::region::Region;
use crate::spec::HANDLE_BYTES;
use crate::sync::{AtomicU64, Ordering::Relaxed};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// The payload areas of one region.
#[derive(Debug)]
struct Area {
    ring: NonNull<u8>,
    ring_bytes: u64,
    slot_bytes: u64,
    mtu_bytes: usize,
    arena: NonNull<u8>,
    arena_bytes: u64,
    _region: Arc<Region>,
}

// SAFETY: the pointers are into `_region`, kept alive here; who may touch which bytes is decided by the permissions the
// methods ask for, which are themselves moved between threads under the credit protocol.
unsafe impl Send for Area {}

impl Area {
    fn of(region: &Arc<Region>) -> Self {
        let layout = region.layout();
        // SAFETY: both offsets are inside the mapping: `Region` asserts that it is as long as its layout.
        let (ring, arena) = unsafe {
            (region.base().add(layout.dcache as usize), region.base().add(layout.arena as usize))
        };
        Self {
            ring,
            ring_bytes: layout.dcache_bytes,
            slot_bytes: layout.slot_bytes,
            mtu_bytes: layout.mtu_bytes as usize,
            arena,
            arena_bytes: layout.arena_bytes,
            _region: Arc::clone(region),
        }
    }

    /// The words of `size` bytes at `offset`, for links whose payload is atomics.
    #[inline]
    fn words(&self, offset: u64, size: usize) -> &[AtomicU64] {
        let count = size.div_ceil(8);
        assert!(offset + count as u64 * 8 <= self.ring_bytes, "payload outside its ring");
        // SAFETY: in bounds by the assert; `offset` is a multiple of 64 and the ring starts on a page, so the words are
        // aligned. On a `Tap` link these bytes are accessed as atomics only; on another kind only a spy comes here, whose
        // producer is in another process, so that no access of this program to these bytes is anything but atomic.
        unsafe { slice::from_raw_parts(self.ring.add(offset as usize).cast().as_ptr(), count) }
    }
}

/// The producer's hold on the payload areas.
#[derive(Debug)]
pub(crate) struct PayloadWriter {
    area: Area,
    /// Byte offset of the next payload, a multiple of a chunk, at most `last_start`.
    cursor: u64,
    /// Where the last slot starts.
    last_start: u64,
}

impl PayloadWriter {
    pub(crate) fn of(region: &Arc<Region>) -> Self {
        let area = Area::of(region);
        let last_start = area.ring_bytes - area.slot_bytes;
        Self { area, cursor: 0, last_start }
    }

    /// The next slot, an mtu of bytes.
    #[inline(always)]
    pub(crate) fn slot(&mut self, _credit: &Credit<'_>) -> &mut [u8] {
        // SAFETY: `cursor <= last_start` (see `step`), so a whole slot lies before the end, and `mtu_bytes <= slot_bytes`. The credit says
        // that at most `depth - 1` frags are still readable; they lie before the cursor, and the ring has two slots more
        // than `depth`, so none of them overlaps this slot. There is one writer.
        unsafe {
            slice::from_raw_parts_mut(
                self.area.ring.add(self.cursor as usize).as_ptr(),
                self.area.mtu_bytes,
            )
        }
    }

    /// Copies `bytes` into the next slot. At most an mtu of them.
    #[inline(always)]
    pub(crate) fn fill(&mut self, bytes: &[u8], credit: &Credit<'_>) {
        let slot = self.slot(credit);
        assert!(bytes.len() <= slot.len(), "frag longer than its link's mtu");
        slot[..bytes.len()].copy_from_slice(bytes);
    }

    /// Copies `bytes` into the next slot of a tap's ring, where readers may be looking.
    pub(crate) fn fill_words(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.area.mtu_bytes, "frag longer than its link's mtu");
        let words = self.area.words(self.cursor, bytes.len());
        let (whole, rest) = bytes.as_chunks::<8>();
        for (word, value) in words.iter().zip(whole) {
            // Relaxed: the frag that had these bytes is evicted, and the `LineMarker` fence of that eviction is between
            // its marker and this store; `LinePublish` comes after.
            word.store(u64::from_le_bytes(*value), Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            words[whole.len()].store(u64::from_le_bytes(last), Relaxed); // as above
        }
    }

    /// Puts the handle of a large frag into the next slot: where it starts in the arena, and its bytes.
    pub(crate) fn fill_handle(&mut self, offset: u64, bytes: u64, _credit: &Credit<'_>) {
        let mut handle = [0; HANDLE_BYTES as usize];
        handle[..8].copy_from_slice(&offset.to_le_bytes());
        handle[8..].copy_from_slice(&bytes.to_le_bytes());
        // SAFETY: a slot has at least `HANDLE_BYTES`; otherwise as in `slot`.
        unsafe { self.area.ring.add(self.cursor as usize).cast().write(handle) };
    }

    /// The place of the slot just filled with `size` bytes; moves on to the next.
    #[inline(always)]
    pub(crate) fn step(&mut self, size: usize) -> Loc {
        let loc = Loc::new(self.cursor, size);
        // Wrapping only in name: the ring has at most 2^38 bytes and a size at most 2^26.
        let next = self
            .cursor
            .wrapping_add((size as u64).wrapping_add(CHUNK_BYTES - 1) & !(CHUNK_BYTES - 1));
        self.cursor = if next > self.last_start { 0 } else { next };
        loc
    }

    /// Goes back to the start of the ring, where the cache is warm. Only when no consumer holds anything.
    pub(crate) fn rewind(&mut self) {
        self.cursor = 0;
    }

    /// Copies `bytes` into a claim of the arena, `at` bytes from its start.
    pub(crate) fn fill_arena(&mut self, extent: &mut Extent, at: u64, bytes: &[u8]) {
        let len = bytes.len() as u64;
        assert!(
            len <= extent.bytes && at <= extent.bytes - len,
            "large frag longer than its claim"
        );
        assert!(extent.offset + extent.bytes <= self.area.arena_bytes, "claim outside its arena");
        // SAFETY: inside the arena by the asserts. The extent is the only permission for these bytes, and no consumer
        // reads them: they are not announced, and who read what lay there before has passed it (`Arena::release`).
        unsafe {
            self.area
                .arena
                .add((extent.offset + at) as usize)
                .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
    }
}

/// A consumer's view of the payload areas.
#[derive(Debug)]
pub(crate) struct PayloadReader {
    area: Area,
}

impl PayloadReader {
    pub(crate) fn of(region: &Arc<Region>) -> Self {
        Self { area: Area::of(region) }
    }

    /// The bytes of a frag taken and not given back; `None` if its place is not inside the link.
    #[inline(always)]
    pub(crate) fn frag<'a>(&'a self, loc: Loc, held: &'a Held) -> Option<&'a [u8]> {
        let (offset, size) = (loc.offset(), loc.size());
        if loc.is_large() {
            return self.large(offset, held);
        }
        // Wrapping only in name: an offset is below 2^38, a size below 2^31.
        let end = offset.wrapping_add(size as u64);
        if size > self.area.mtu_bytes || end > self.area.ring_bytes {
            return None;
        }
        // SAFETY: in bounds by the check. The producer does not write here before this consumer gives the frag back,
        // which takes `&mut Held` and so ends this borrow.
        Some(unsafe { slice::from_raw_parts(self.area.ring.add(offset as usize).as_ptr(), size) })
    }

    #[cold]
    fn large<'a>(&'a self, offset: u64, _held: &'a Held) -> Option<&'a [u8]> {
        if offset + HANDLE_BYTES > self.area.ring_bytes {
            return None;
        }
        // SAFETY: in bounds by the check; not overwritten while held, as in `frag`.
        let handle: [u8; 16] = unsafe { self.area.ring.add(offset as usize).cast().read() };
        let (start, bytes) = handle.split_at(8);
        let start = u64::from_le_bytes(start.try_into().ok()?);
        let bytes = u64::from_le_bytes(bytes.try_into().ok()?);
        if bytes > self.area.arena_bytes || start > self.area.arena_bytes - bytes {
            return None;
        }
        // SAFETY: inside the arena by the check; the claim is not freed before every consumer has passed this frag.
        Some(unsafe {
            slice::from_raw_parts(self.area.arena.add(start as usize).as_ptr(), bytes as usize)
        })
    }

    /// Copies a tap's payload out, word by word; `None` if its place is not inside the link. What was copied may be
    /// torn until the line has been checked again.
    pub(crate) fn copy_words(&self, loc: Loc, into: &mut [u64]) -> Option<usize> {
        let (offset, size) = (loc.offset(), loc.size());
        if loc.is_large()
            || size > self.area.mtu_bytes
            || offset + (size as u64).next_multiple_of(8) > self.area.ring_bytes
        {
            return None;
        }
        for (to, from) in into.iter_mut().zip(self.area.words(offset, size)) {
            *to = from.load(Relaxed).to_le(); // ordered by `LinePoll` before, `TapVerify` after
        }
        Some(size)
    }

    /// The bytes of words filled by [`copy_words`](Self::copy_words).
    pub(crate) fn bytes_of(words: &[u64], size: usize) -> &[u8] {
        assert!(size <= words.len() * 8, "more bytes than words");
        // SAFETY: in bounds by the assert, and any byte of a `u64` is a valid `u8`.
        unsafe { slice::from_raw_parts(words.as_ptr().cast(), size) }
    }
}
