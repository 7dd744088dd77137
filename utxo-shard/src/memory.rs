//! Memory of the table: one anonymous mapping, written through one door, so that a checkpoint can see each page as it was.
//!
//! A mapping is reserved at start and committed page by page as it is first touched, or all at once ([`Memory::populate`]): a first
//! touch of a huge page clears 2 MB, 0.1 ms on bare metal and 5 ms in a virtual machine whose host has not given it yet. Huge pages
//! are asked for and never needed. While a snapshot is under way, the first write to a page that it has not taken yet copies the page into a bounded
//! pool ([`Memory::snapshot_begin`]); [`Memory::snapshot_step`] hands out pages as they were when it began, copies first. When
//! the pool is full the snapshot is lost, which is counted and told, and the writer goes on: a checkpoint never stops a turn.

use memmap2::{Advice, MmapMut, MmapOptions};

/// What the processor moves at once.
pub(crate) const LINE_BYTES: usize = 64;
/// Granularity of snapshots.
pub const PAGE_BYTES: usize = 4096;

/// What a step of a snapshot came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotStep {
    /// There are more pages.
    More,
    /// Every page was handed out.
    Done,
    /// More pages changed than the pool of copies holds: begin again.
    Lost,
    /// None is under way.
    Idle,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Memory {
    map: MmapMut,
    /// True while writes must look at `snapshot`.
    watched: bool,
    snapshot: Snapshot,
}

#[derive(Debug, Default)]
struct Snapshot {
    /// One bit a page: to be handed out, and unchanged since the beginning.
    pending: Vec<u64>,
    pages: usize,
    /// First page that may be pending.
    next: usize,
    /// Pages copied at their first change, and their numbers.
    copies: Vec<u8>,
    copied: Vec<u32>,
    copies_max: usize,
    lost: bool,
    /// Snapshots lost since the start.
    losses: u64,
}

impl Memory {
    /// Reserves `bytes`, zeroed.
    ///
    /// # Panics
    /// If the operating system does not give the address space.
    pub fn new(bytes: usize) -> Self {
        let map = MmapOptions::new()
            .len(bytes.max(PAGE_BYTES).next_multiple_of(PAGE_BYTES))
            .no_reserve_swap()
            .map_anon()
            .unwrap_or_else(|e| {
                panic!("reserving {bytes} bytes for a shard: {e}; configure a smaller slab")
            });
        // Without huge pages everything works, only slower.
        let _ = map.advise(Advice::HugePage);
        Self { map, watched: false, snapshot: Snapshot::default() }
    }

    /// Has every page committed now instead of at its first write; what is in the pages stays. A kernel that cannot is told by
    /// its error, and everything works as before.
    pub fn populate(&self) -> std::io::Result<()> {
        self.map.advise(Advice::PopulateWrite)
    }

    /// Bytes of the mapping.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    #[inline]
    pub fn slice(&self, at: usize, len: usize) -> &[u8] {
        &self.map[at..][..len]
    }

    #[inline]
    pub fn slice_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        if self.watched {
            self.before_write(at, len);
        }
        &mut self.map[at..][..len]
    }

    #[inline]
    pub fn array<const N: usize>(&self, at: usize) -> &[u8; N] {
        self.map[at..].first_chunk().expect("a field lies in its memory")
    }

    #[inline]
    pub fn put<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        if self.watched {
            self.before_write(at, N);
        }
        *self.map[at..].first_chunk_mut().expect("a field lies in its memory") = value;
    }

    /// Copies within the mapping.
    pub fn copy(&mut self, from: usize, to: usize, len: usize) {
        if self.watched {
            self.before_write(to, len);
        }
        self.map.copy_within(from..from + len, to);
    }

    /// Begins a snapshot of the first `bytes` bytes; at most `copies_max` pages may change before they are handed out.
    pub fn snapshot_begin(&mut self, bytes: usize, copies_max: usize) {
        let s = &mut self.snapshot;
        s.pages = bytes.div_ceil(PAGE_BYTES);
        s.next = 0;
        s.pending.clear();
        s.pending.resize(s.pages.div_ceil(64), u64::MAX);
        if !s.pages.is_multiple_of(64) {
            let last = s.pending.last_mut().expect("a page has a word");
            *last = (1 << (s.pages % 64)) - 1;
        }
        s.copies_max = copies_max;
        s.copies.clear();
        s.copies.reserve(copies_max * PAGE_BYTES);
        s.copied.clear();
        s.copied.reserve(copies_max);
        s.lost = false;
        self.watched = true;
    }

    /// Hands out at most `most` pages (number, bytes as of the beginning) in any order, each once.
    pub fn snapshot_step(
        &mut self,
        most: usize,
        page: &mut impl FnMut(u32, &[u8]),
    ) -> SnapshotStep {
        let s = &mut self.snapshot;
        if s.lost {
            s.lost = false;
            return SnapshotStep::Lost;
        }
        if !self.watched {
            return SnapshotStep::Idle;
        }
        for _ in 0..most {
            if let Some(number) = s.copied.pop() {
                let at = s.copied.len() * PAGE_BYTES;
                page(number, &s.copies[at..]);
                s.copies.truncate(at);
                continue;
            }
            let found = (s.next / 64..s.pending.len()).find(|&word| s.pending[word] != 0);
            let Some(word) = found else {
                self.watched = false;
                return SnapshotStep::Done;
            };
            let number = word * 64 + s.pending[word].trailing_zeros() as usize;
            s.pending[word] &= s.pending[word] - 1;
            s.next = number;
            page(number as u32, &self.map[number * PAGE_BYTES..][..PAGE_BYTES]);
        }
        SnapshotStep::More
    }

    /// Takes the room for copies and marks now, so that no snapshot has to.
    pub fn snapshot_prepare(&mut self, copies_max: usize) {
        let s = &mut self.snapshot;
        s.pending.reserve(self.map.len().div_ceil(PAGE_BYTES * 64));
        s.copies.reserve(copies_max * PAGE_BYTES);
        s.copied.reserve(copies_max);
    }

    /// Whether more than three quarters of the copies are in use.
    pub fn is_snapshot_pressed(&self) -> bool {
        self.watched && self.snapshot.copied.len() > self.snapshot.copies_max / 4 * 3
    }

    /// Gives the snapshot up.
    pub fn snapshot_end(&mut self) {
        self.watched = false;
        self.snapshot.lost = false;
    }

    /// Snapshots lost because more pages changed than the pool holds.
    pub fn snapshots_lost(&self) -> u64 {
        self.snapshot.losses
    }

    #[cold]
    fn before_write(&mut self, at: usize, len: usize) {
        let s = &mut self.snapshot;
        for number in at / PAGE_BYTES..(at + len).div_ceil(PAGE_BYTES).min(s.pages) {
            let bit = 1 << (number % 64);
            if s.pending[number / 64] & bit == 0 {
                continue;
            }
            if s.copied.len() == s.copies_max {
                s.lost = true;
                s.losses += 1;
                self.watched = false;
                return;
            }
            s.pending[number / 64] &= !bit;
            s.copied.push(number as u32);
            s.copies.extend_from_slice(&self.map[number * PAGE_BYTES..][..PAGE_BYTES]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_snapshot_gives_every_page_as_it_was_whatever_is_written_meanwhile() {
        let mut memory = Memory::new(40 * PAGE_BYTES);
        let mut state = 3_u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 33
        };
        for at in 0..40 * PAGE_BYTES / 8 {
            memory.put(at * 8, random().to_le_bytes());
        }
        let as_of_k = memory.slice(0, 40 * PAGE_BYTES).to_vec();
        memory.snapshot_begin(40 * PAGE_BYTES, 40);
        let mut seen = BTreeMap::new();
        loop {
            for _ in 0..20 {
                let at = random() as usize % (40 * PAGE_BYTES - 100);
                memory.slice_mut(at, 100).fill(random() as u8);
            }
            let mut keep = |number: u32, bytes: &[u8]| {
                assert!(seen.insert(number, bytes.to_vec()).is_none(), "page {number} twice");
            };
            if memory.snapshot_step(3, &mut keep) == SnapshotStep::Done {
                break;
            }
        }
        let image: Vec<u8> = seen.into_values().flatten().collect();
        assert!(image == as_of_k, "a page was not as of k");
        assert_ne!(memory.slice(0, 40 * PAGE_BYTES), as_of_k);
        assert_eq!(memory.snapshot_step(1, &mut |_, _| {}), SnapshotStep::Idle);
    }

    #[test]
    fn a_snapshot_whose_pool_is_full_is_lost_and_says_so() {
        let mut memory = Memory::new(8 * PAGE_BYTES);
        memory.snapshot_begin(8 * PAGE_BYTES, 2);
        for page in 0..3 {
            memory.put(page * PAGE_BYTES, [1_u8]);
        }
        assert_eq!(memory.snapshot_step(9, &mut |_, _| {}), SnapshotStep::Lost);
        assert_eq!(memory.snapshots_lost(), 1);
        memory.snapshot_begin(8 * PAGE_BYTES, 2);
        let mut pages = 0;
        while memory.snapshot_step(1, &mut |_, _| pages += 1) == SnapshotStep::More {}
        assert_eq!(pages, 8);
    }
}
