//! The slab: where a shard's records live, taken once and handed out in blocks.
//!
//! One anonymous region ([`Memory`]), committed by the operating system page by page as it is first touched. A block is named by a
//! 32-bit handle (its place in units of sixteen bytes, so up to 64 GiB) and takes as many units as its bytes need.
//!
//! Freed blocks of up to 512 bytes wait in a short list of their size, hot for the next of that size. What is over the bound of a
//! list, and what is larger, is joined with the free blocks beside it and goes into a bin (every unit up to 512 bytes, then
//! four bins a doubling); the first bin that has a block large enough is found in one word. Where there is none, the fullest hot list
//! is joined too, one list an allocation, so that no allocation takes long. Two bitmaps, one bit a unit each, say
//! where a free block begins and ends; nothing is stored beside a block in use. So a shard that was full of small records takes
//! large ones once their neighbours are free too. Nothing here allocates after [`Slab::new`].
//!
//! ```text
//! free block   0      4      8       12 ... last 4 bytes
//!              | next | prev | units |  ... | units
//! ```

use crate::config::{RESERVE_BYTES_MAX, RESERVE_SHARE};
use crate::journal::Bytes;
use crate::memory::{Memory, PAGE_BYTES};

/// Names a block: its offset in units of [`UNIT_BYTES`]. Zero names nothing.
pub(crate) type Handle = u32;

/// Names no block.
pub(crate) const NONE: Handle = 0;
/// Granularity of blocks.
pub(crate) const UNIT_BYTES: usize = 16;
/// Bins in steps of one unit, and sizes that have a hot list.
const FINE_BINS: usize = 32;
/// Bins a doubling above those.
const STEPS: usize = 4;
/// Fine bins, and four for each doubling from 512 bytes to 4 GiB.
const BINS: usize = FINE_BINS + 23 * STEPS;
/// Blocks a hot list keeps.
const HOT_MAX: u32 = 256;
/// Cache lines that joining one block touches at most: itself, two neighbours with those before and behind each in its bin, the head
/// of the bin it goes into, both bitmaps.
const JOIN_LINES: u64 = 16;
/// Units at the front that are never handed out, so that no block has the handle zero.
const FIRST_UNIT: usize = 4;

/// Units of the smallest block of a bin.
const fn bin_units(bin: usize) -> usize {
    if bin < FINE_BINS {
        bin + 1
    } else {
        let step = bin - FINE_BINS;
        let base = FINE_BINS << (step / STEPS);
        base + base / STEPS * (step % STEPS + 1)
    }
}

/// Smallest bin whose blocks all have `units`.
fn bin_above(units: usize) -> usize {
    if units <= FINE_BINS {
        return units - 1;
    }
    let doubling = (usize::BITS - 1 - (units - 1).leading_zeros()) as usize - 5;
    let base = FINE_BINS << doubling;
    FINE_BINS + doubling * STEPS + (units - base).div_ceil(base / STEPS) - 1
}

/// The bin a free block of `units` goes into.
fn bin_below(units: usize) -> usize {
    let bin = bin_above(units);
    if bin < BINS && bin_units(bin) == units { bin } else { bin.min(BINS) - 1 }
}

const fn units_of(bytes: usize) -> usize {
    if bytes == 0 { 1 } else { bytes.div_ceil(UNIT_BYTES) }
}

impl SlabRoots {
    /// Bytes that [`SlabRoots::write`] writes.
    pub const BYTES: usize = 2 * 8 + 2 * 4 * FINE_BINS + 4 * BINS + 16 + 8;

    /// As a checkpoint keeps it.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&(self.fresh as u64).to_le_bytes());
        to.extend_from_slice(&(self.fresh_max as u64).to_le_bytes());
        for word in self.hot.iter().chain(&self.hot_len).chain(&self.bins) {
            to.extend_from_slice(&word.to_le_bytes());
        }
        to.extend_from_slice(&self.filled.to_le_bytes());
        to.extend_from_slice(&(self.used_units as u64).to_le_bytes());
    }

    /// What was written; `None` for bytes that were not.
    pub fn read(from: &mut Bytes<'_>) -> Option<Self> {
        let mut roots = Self {
            fresh: from.u64()? as usize,
            fresh_max: from.u64()? as usize,
            hot: [NONE; FINE_BINS],
            hot_len: [0; FINE_BINS],
            bins: [NONE; BINS],
            filled: 0,
            used_units: 0,
        };
        for word in roots.hot.iter_mut().chain(&mut roots.hot_len).chain(&mut roots.bins) {
            *word = from.u32()?;
        }
        roots.filled = u128::from_le_bytes(from.array()?);
        roots.used_units = from.u64()? as usize;
        Some(roots)
    }

    /// Bytes of the region that were ever touched.
    pub fn touched_bytes(&self) -> usize {
        self.fresh_max.max(self.fresh) * UNIT_BYTES
    }
}

/// A bit a unit.
#[derive(Debug)]
struct Bits(Vec<u64>);

impl Bits {
    #[inline]
    fn get(&self, unit: usize) -> bool {
        self.0[unit / 64] >> (unit % 64) & 1 == 1
    }

    #[inline]
    fn set(&mut self, unit: usize) {
        self.0[unit / 64] |= 1 << (unit % 64);
    }

    #[inline]
    fn clear(&mut self, unit: usize) {
        self.0[unit / 64] &= !(1 << (unit % 64));
    }
}

/// What is not in the region; beside its pages all that a checkpoint needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlabRoots {
    fresh: usize,
    fresh_max: usize,
    hot: [Handle; FINE_BINS],
    hot_len: [u32; FINE_BINS],
    bins: [Handle; BINS],
    filled: u128,
    used_units: usize,
}

/// A region cut into blocks. See the module.
#[derive(Debug)]
pub(crate) struct Slab {
    /// Its pages: a snapshot that was begun is taken of them.
    pub memory: Memory,
    /// Units in the region.
    units: usize,
    /// Units that may be in use: all, or all but the reserve.
    units_max: usize,
    roots: SlabRoots,
    begins: Bits,
    ends: Bits,
    /// Cache lines the costliest cooling so far has moved.
    longest_lines: u64,
}

impl Slab {
    /// Reserves a region of `capacity_bytes` (at most 64 GiB).
    pub fn new(capacity_bytes: usize) -> Self {
        let units = capacity_bytes / UNIT_BYTES;
        assert!(
            units > FIRST_UNIT && u32::try_from(units).is_ok(),
            "a slab of {capacity_bytes} bytes cannot be addressed; take 128 bytes to 64 GiB"
        );
        let words = units / 64 + 1;
        Self {
            memory: Memory::new(units * UNIT_BYTES),
            units,
            units_max: units,
            roots: SlabRoots {
                fresh: FIRST_UNIT,
                fresh_max: FIRST_UNIT,
                hot: [NONE; FINE_BINS],
                hot_len: [0; FINE_BINS],
                bins: [NONE; BINS],
                filled: 0,
                used_units: 0,
            },
            begins: Bits(vec![0; words]),
            ends: Bits(vec![0; words]),
            longest_lines: 0,
        }
    }

    /// Cache lines the costliest cooling so far has moved; never more than [`Slab::alloc_lines_max`].
    pub fn longest_lines(&self) -> u64 {
        self.longest_lines
    }

    /// Cache lines finding a block moves at most: one hot list is joined with what lies beside its blocks.
    pub const fn alloc_lines_max() -> u64 {
        (HOT_MAX as u64 + 1) * JOIN_LINES
    }

    /// Has its memory committed now, the bitmaps too.
    pub fn populate(&mut self) -> std::io::Result<()> {
        for Bits(words) in [&mut self.begins, &mut self.ends] {
            for word in words.iter_mut().step_by(PAGE_BYTES / size_of::<u64>()) {
                *word = std::hint::black_box(*word);
            }
        }
        self.memory.populate()
    }

    /// Whether what is asked for from here on may come from the reserve.
    #[inline]
    pub fn draw_on_reserve(&mut self, may: bool) {
        self.units_max = if may { self.units } else { self.units - self.reserve_units() };
    }

    /// Whether it may.
    pub fn draws_on_reserve(&self) -> bool {
        self.units_max == self.units
    }

    fn reserve_units(&self) -> usize {
        (self.units / RESERVE_SHARE).min(RESERVE_BYTES_MAX / UNIT_BYTES)
    }

    /// Bytes of the reserve that are in use.
    pub fn reserve_used_bytes(&self) -> u64 {
        let common = self.units - self.reserve_units();
        (self.roots.used_units.saturating_sub(common) * UNIT_BYTES) as u64
    }

    /// A block of at least `bytes`, with whatever it held before; `None` when there is none.
    #[inline]
    pub fn alloc(&mut self, bytes: usize) -> Option<Handle> {
        let units = units_of(bytes);
        if self.roots.used_units + units > self.units_max {
            return None;
        }
        if units <= FINE_BINS && self.roots.hot[units - 1] != NONE {
            let handle = self.roots.hot[units - 1];
            self.roots.hot[units - 1] = self.u32(handle, 0);
            self.roots.hot_len[units - 1] -= 1;
            self.roots.used_units += units;
            return Some(handle);
        }
        self.alloc_cold(units)
    }

    fn alloc_cold(&mut self, units: usize) -> Option<Handle> {
        let handle =
            if let Some(handle) = self.take_binned(units).or_else(|| self.take_fresh(units)) {
                handle
            } else {
                self.cool();
                self.take_binned(units).or_else(|| self.take_fresh(units))?
            };
        self.roots.used_units += units;
        Some(handle)
    }

    fn take_fresh(&mut self, units: usize) -> Option<Handle> {
        if self.roots.fresh + units > self.units_max {
            return None;
        }
        let handle = self.roots.fresh as Handle;
        self.roots.fresh += units;
        self.roots.fresh_max = self.roots.fresh_max.max(self.roots.fresh);
        Some(handle)
    }

    /// Takes from the smallest bin that surely fits and gives the rest of the block back.
    fn take_binned(&mut self, units: usize) -> Option<Handle> {
        let above = bin_above(units);
        if above >= BINS {
            return None;
        }
        let fits = self.roots.filled >> above << above;
        if fits == 0 {
            return None;
        }
        let handle = self.roots.bins[fits.trailing_zeros() as usize];
        let whole = self.u32(handle, 8) as usize;
        self.unbin(handle, whole);
        if whole > units {
            self.bin(handle + units as Handle, whole - units);
        }
        Some(handle)
    }

    /// Gives back a block that was asked for with `bytes` (or as many units).
    #[inline]
    pub fn free(&mut self, handle: Handle, bytes: usize) {
        let units = units_of(bytes);
        self.roots.used_units -= units;
        if units <= FINE_BINS && self.roots.hot_len[units - 1] < HOT_MAX {
            let next = self.roots.hot[units - 1];
            self.put_u32(handle, 0, next);
            self.roots.hot[units - 1] = handle;
            self.roots.hot_len[units - 1] += 1;
        } else {
            self.join(handle, units);
        }
    }

    /// Empties the hot list that holds most into the bins: at most [`HOT_MAX`] blocks. False if all are empty.
    fn cool(&mut self) -> bool {
        let bytes = |units: usize, len: u32| units * len as usize;
        let lens =
            (1..=FINE_BINS).map(|units| (bytes(units, self.roots.hot_len[units - 1]), units));
        let Some((1.., units)) = lens.max() else { return false };
        let mut lines = 0;
        while self.roots.hot[units - 1] != NONE {
            let handle = self.roots.hot[units - 1];
            self.roots.hot[units - 1] = self.u32(handle, 0);
            self.join(handle, units);
            lines += JOIN_LINES;
        }
        self.roots.hot_len[units - 1] = 0;
        self.longest_lines = self.longest_lines.max(lines);
        true
    }

    /// Joins a block with its free neighbours and puts the whole into a bin, or back to what is fresh.
    fn join(&mut self, handle: Handle, units: usize) {
        let mut from = handle as usize;
        let mut len = units;
        if self.ends.get(from - 1) {
            let before = u32::from_le_bytes(*self.memory.array(from * UNIT_BYTES - 4)) as usize;
            from -= before;
            len += before;
            self.unbin(from as Handle, before);
        }
        let next = handle as usize + units;
        if next < self.roots.fresh && self.begins.get(next) {
            let behind = self.u32(next as Handle, 8) as usize;
            self.unbin(next as Handle, behind);
            len += behind;
        }
        if from + len == self.roots.fresh {
            self.roots.fresh = from;
        } else {
            self.bin(from as Handle, len);
        }
    }

    fn bin(&mut self, handle: Handle, units: usize) {
        let bin = bin_below(units);
        let next = self.roots.bins[bin];
        self.put_u32(handle, 0, next);
        self.put_u32(handle, 4, NONE);
        self.put_u32(handle, 8, units as u32);
        self.put_u32(handle, units * UNIT_BYTES - 4, units as u32);
        if next != NONE {
            self.put_u32(next, 4, handle);
        }
        self.roots.bins[bin] = handle;
        self.roots.filled |= 1 << bin;
        self.mark_free(handle as usize, units);
    }

    fn mark_free(&mut self, handle: usize, units: usize) {
        self.begins.set(handle);
        self.ends.set(handle + units - 1);
    }

    fn unbin(&mut self, handle: Handle, units: usize) {
        let bin = bin_below(units);
        let (next, prev) = (self.u32(handle, 0), self.u32(handle, 4));
        if next != NONE {
            self.put_u32(next, 4, prev);
        }
        if prev == NONE {
            self.roots.bins[bin] = next;
            if next == NONE {
                self.roots.filled &= !(1 << bin);
            }
        } else {
            self.put_u32(prev, 0, next);
        }
        self.begins.clear(handle as usize);
        self.ends.clear(handle as usize + units - 1);
    }

    /// Bytes in blocks that are handed out, rounding included.
    pub fn used_bytes(&self) -> u64 {
        (self.roots.used_units * UNIT_BYTES) as u64
    }

    /// Bytes of the region that were ever touched, and of the bitmaps beside them.
    pub fn resident_bytes(&self) -> u64 {
        (self.roots.fresh_max * UNIT_BYTES + self.roots.fresh_max / 4) as u64
    }

    /// Bytes of the region.
    pub fn capacity_bytes(&self) -> u64 {
        (self.units * UNIT_BYTES) as u64
    }

    /// Bytes a block asked for with `bytes` takes.
    pub fn block_bytes(bytes: usize) -> u64 {
        (units_of(bytes) * UNIT_BYTES) as u64
    }

    /// Begins a snapshot; see [`Memory::snapshot_begin`].
    pub fn snapshot_begin(&mut self, copies_max: usize) -> SlabRoots {
        self.memory.snapshot_begin(self.roots.fresh * UNIT_BYTES, copies_max);
        self.roots
    }

    /// The slab a snapshot was taken of; its pages come by [`Slab::put_page`], then [`Slab::restore_end`].
    pub fn restore(capacity_bytes: usize, roots: &SlabRoots) -> Self {
        let mut slab = Self::new(capacity_bytes);
        slab.roots = *roots;
        slab
    }

    /// One page of a snapshot.
    pub fn put_page(&mut self, number: u32, bytes: &[u8]) {
        let at = number as usize * PAGE_BYTES;
        let len = bytes.len().min(self.memory.len() - at);
        self.memory.slice_mut(at, len).copy_from_slice(&bytes[..len]);
    }

    /// All pages are there: the bitmaps are made from the bins.
    pub fn restore_end(&mut self) {
        for bin in 0..BINS {
            let mut handle = self.roots.bins[bin];
            while handle != NONE {
                let units = self.u32(handle, 8) as usize;
                self.mark_free(handle as usize, units);
                handle = self.u32(handle, 0);
            }
        }
    }

    #[inline]
    fn at(handle: Handle, offset: usize) -> usize {
        handle as usize * UNIT_BYTES + offset
    }

    /// `len` bytes of a block.
    #[inline]
    pub fn slice(&self, handle: Handle, offset: usize, len: usize) -> &[u8] {
        self.memory.slice(Self::at(handle, offset), len)
    }

    /// `len` bytes of a block, to write.
    #[inline]
    pub fn slice_mut(&mut self, handle: Handle, offset: usize, len: usize) -> &mut [u8] {
        self.memory.slice_mut(Self::at(handle, offset), len)
    }

    /// Copies within the region, from one block to another.
    pub fn copy(&mut self, from: (Handle, usize), to: (Handle, usize), len: usize) {
        self.memory.copy(Self::at(from.0, from.1), Self::at(to.0, to.1), len);
    }

    #[inline]
    pub fn array32(&self, handle: Handle, offset: usize) -> &[u8; 32] {
        self.memory.array(Self::at(handle, offset))
    }

    #[inline]
    pub fn put_array32(&mut self, handle: Handle, offset: usize, value: &[u8; 32]) {
        self.memory.put(Self::at(handle, offset), *value);
    }

    #[inline]
    pub fn u8(&self, handle: Handle, offset: usize) -> u8 {
        self.memory.array::<1>(Self::at(handle, offset))[0]
    }

    #[inline]
    pub fn put_u8(&mut self, handle: Handle, offset: usize, value: u8) {
        self.memory.put(Self::at(handle, offset), [value]);
    }

    #[inline]
    pub fn u16(&self, handle: Handle, offset: usize) -> u16 {
        u16::from_le_bytes(*self.memory.array(Self::at(handle, offset)))
    }

    #[inline]
    pub fn put_u16(&mut self, handle: Handle, offset: usize, value: u16) {
        self.memory.put(Self::at(handle, offset), value.to_le_bytes());
    }

    #[inline]
    pub fn u32(&self, handle: Handle, offset: usize) -> u32 {
        u32::from_le_bytes(*self.memory.array(Self::at(handle, offset)))
    }

    #[inline]
    pub fn put_u32(&mut self, handle: Handle, offset: usize, value: u32) {
        self.memory.put(Self::at(handle, offset), value.to_le_bytes());
    }

    #[inline]
    pub fn u64(&self, handle: Handle, offset: usize) -> u64 {
        u64::from_le_bytes(*self.memory.array(Self::at(handle, offset)))
    }

    #[inline]
    pub fn put_u64(&mut self, handle: Handle, offset: usize, value: u64) {
        self.memory.put(Self::at(handle, offset), value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_size_finds_the_smallest_bin_that_holds_it_and_goes_into_the_largest_that_it_fills() {
        for units in (1..70_000).chain([1 << 20, (1 << 20) + 1, 1 << 27]) {
            let above = bin_above(units);
            assert!(bin_units(above) >= units, "{units} units in bin {above}");
            assert!(above == 0 || bin_units(above - 1) < units, "{units} units fit a smaller");
            let below = bin_below(units);
            assert!(bin_units(below) <= units, "{units} units do not fill bin {below}");
            assert!(below + 1 == BINS || bin_units(below + 1) > units, "{units} units fill more");
        }
    }

    #[test]
    fn a_full_slab_says_so_and_serves_again_after_a_free() {
        let mut slab = Slab::new(4096);
        let mut blocks = Vec::new();
        while let Some(block) = slab.alloc(100) {
            blocks.push(block);
        }
        assert_eq!(blocks.len(), (4096 - 64) / 112);
        slab.free(blocks.pop().expect("one"), 100);
        assert!(slab.alloc(100).is_some());
        assert!(slab.alloc(100).is_none());
    }

    #[test]
    fn a_large_free_block_is_split_without_loss() {
        let mut slab = Slab::new(64 + 4096);
        let big = slab.alloc(4096).expect("fits");
        assert!(slab.alloc(1).is_none());
        slab.free(big, 4096);
        let mut units = 0;
        while slab.alloc(16).is_some() {
            units += 1;
        }
        assert_eq!(units, 256);
        assert_eq!(slab.used_bytes(), 4096);
    }

    #[test]
    fn a_slab_that_was_full_of_small_blocks_takes_one_large_one() {
        let mut slab = Slab::new(64 + (1 << 20));
        let mut blocks = Vec::new();
        while let Some(block) = slab.alloc(40) {
            blocks.push(block);
        }
        assert!(slab.alloc(500_000).is_none());
        // In an order that leaves holes to the end.
        let (odd, even): (Vec<_>, Vec<_>) = blocks.iter().partition(|&&b| b % 2 == 1);
        for block in odd.into_iter().chain(even) {
            slab.free(block, 40);
        }
        assert!(slab.alloc((1 << 20) - 64).is_some(), "neighbours are joined");
    }

    #[test]
    fn blocks_of_random_sizes_never_overlap_and_nothing_leaks() {
        let mut slab = Slab::new(1 << 18);
        let mut live: BTreeMap<Handle, (usize, u8)> = BTreeMap::new();
        let mut state = 5_u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        let mut refused = 0;
        for _ in 0..60_000 {
            if random() % 100 < 52 {
                let bytes = match random() % 10 {
                    0 => 1 + random() % 9000,
                    1..4 => 1 + random() % 800,
                    _ => 1 + random() % 200,
                };
                let Some(block) = slab.alloc(bytes) else {
                    refused += 1;
                    continue;
                };
                let mark = random() as u8;
                slab.slice_mut(block, 0, bytes).fill(mark);
                assert!(live.insert(block, (bytes, mark)).is_none());
            } else if !live.is_empty() {
                let from = (random() % (1 << 14)) as Handle;
                let near = live.range(from..).next().or_else(|| live.iter().next());
                let (&block, &(bytes, mark)) = near.expect("not empty");
                assert!(slab.slice(block, 0, bytes).iter().all(|&b| b == mark), "overwritten");
                slab.free(block, bytes);
                live.remove(&block);
            }
        }
        assert!(refused > 100, "it was full {refused} times");
        let used: u64 = live.values().map(|&(bytes, _)| Slab::block_bytes(bytes)).sum();
        assert_eq!(used, slab.used_bytes());
        for (block, (bytes, _)) in std::mem::take(&mut live) {
            slab.free(block, bytes);
        }
        while slab.cool() {}
        let longest = slab.longest_lines();
        assert!((1..=Slab::alloc_lines_max()).contains(&longest), "{longest} lines at once");
        assert_eq!(slab.roots.fresh, FIRST_UNIT, "all of it is one piece again");
        assert_eq!(slab.used_bytes(), 0);
    }
}
