//! The index: from a transaction id to its record, eight bytes an entry, growing a segment at a time.
//!
//! ```text
//! hash, 32 bits:  directory (depth bits, from the top) ...  slot in the segment (low 12 bits)
//! entry, 64 bits: hash | handle
//! ```
//!
//! Extendible hashing over small open-addressed segments of 4096 entries (32 KiB). A segment that is 80 percent full is split in two
//! and nothing else moves, so the longest pause of an insert is one split, whatever the index holds ([`Index::splits`]). Within a
//! segment: linear probing, wrapping; fingerprint (the whole hash) and handle share a cache line; removal moves entries back
//! instead of leaving marks, so probe lengths depend on what is in the index and not on its history. The hash only filters: the
//! caller compares the full id.
//!
//! Cost: one cache line a probe, plus the directory (four bytes a segment, in L1 or L2), plus the record's line.

use crate::config::{RESERVE_SHARE, RESERVE_TRANSACTIONS_MAX};
use crate::journal::Bytes;
use crate::memory::{LINE_BYTES, Memory};
use crate::slab::{Handle, NONE};

/// Bits of a slot's number within its segment.
const SLOT_BITS: u32 = 12;
/// Entries of a segment.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_MASK: usize = SLOTS - 1;
const ENTRY_BYTES: usize = 8;
const SEGMENT_BYTES: usize = SLOTS * ENTRY_BYTES;
/// Entries of a segment above which it is split.
const SPLIT_AT: u16 = (SLOTS * 4 / 5) as u16;
/// Entries of a segment that cannot be split above which the index says that it is full.
const TIGHT_AT: u16 = (SLOTS * 19 / 20) as u16;
/// Cache lines of a segment.
const SEGMENT_LINES: usize = SEGMENT_BYTES / LINE_BYTES;
/// Bits of the hash that the directory may use.
const DEPTH_MAX: u32 = 32 - SLOT_BITS;

#[derive(Clone, Copy, Debug)]
struct Segment {
    depth: u8,
    count: u16,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    /// Its pages: a snapshot that was begun is taken of them.
    pub memory: Memory,
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
    segments_max: usize,
    /// Segments that hold [`TIGHT_AT`] entries or more and cannot be split.
    tight: u32,
    len: usize,
    max: usize,
    /// Entries that may be held: all, or all but the reserve.
    len_max: usize,
    splits: u64,
    /// Cache lines the costliest insert so far has moved.
    longest_lines: u64,
    scratch: Vec<u64>,
}

/// What is not in the segments' memory; beside its pages all that a checkpoint needs.
#[derive(Clone, Debug)]
pub(crate) struct IndexRoots {
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment>,
    len: usize,
}

impl IndexRoots {
    /// What was written by [`Index::write_roots`]; `None` for bytes that were not.
    pub fn read(from: &mut Bytes<'_>) -> Option<Self> {
        let (depth, len) = (from.u32()?, from.u64()? as usize);
        let (places, segments) = (from.u32()? as usize, from.u32()? as usize);
        if depth > DEPTH_MAX || places != 1 << depth || segments == 0 {
            return None;
        }
        let mut words = Bytes(from.take(places * 4)?);
        let directory: Vec<u32> = (0..places).map_while(|_| words.u32()).collect();
        let mut each = Bytes(from.take(segments.checked_mul(3)?)?);
        let segments: Vec<Segment> = (0..segments)
            .map_while(|_| Some(Segment { depth: each.u8()?, count: each.u16()? }))
            .collect();
        let sound = directory.iter().all(|&s| (s as usize) < segments.len())
            && segments.iter().all(|s| u32::from(s.depth) <= depth && usize::from(s.count) < SLOTS);
        sound.then_some(Self { directory, depth, segments, len })
    }

    /// Whether an index for `max` entries has room for it.
    pub fn fits(&self, max: usize) -> bool {
        self.len <= max && self.segments.len() <= segments_max(max)
    }

    /// Bytes of the segments.
    pub fn bytes(&self) -> usize {
        self.segments.len() * SEGMENT_BYTES
    }
}

/// Segments of an index for `max` entries.
fn segments_max(max: usize) -> usize {
    // Keyed hashes fill segments evenly, so all of them split at about the same time: twice the share of 80 percent.
    (max.max(8) * 5 / 4).div_ceil(SLOTS).next_power_of_two() * 2
}

const fn entry(hash: u32, handle: Handle) -> u64 {
    (hash as u64) << 32 | handle as u64
}

impl Index {
    /// An index for `max` entries.
    pub fn new(max: usize) -> Self {
        let segments_max = segments_max(max);
        assert!(
            segments_max <= 1 << DEPTH_MAX,
            "an index of {max} entries needs more than 32 bits of hash; take more shards"
        );
        let mut segments = Vec::with_capacity(segments_max);
        segments.push(Segment { depth: 0, count: 0 });
        let mut directory = Vec::with_capacity(segments_max);
        directory.push(0);
        Self {
            memory: Memory::new(segments_max * SEGMENT_BYTES),
            directory,
            depth: 0,
            segments,
            segments_max,
            tight: 0,
            len: 0,
            max,
            len_max: max,
            splits: 0,
            longest_lines: 0,
            scratch: Vec::with_capacity(SLOTS),
        }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether what is inserted from here on may come from the reserve.
    #[inline]
    pub fn draw_on_reserve(&mut self, may: bool) {
        let reserve = (self.max / RESERVE_SHARE).min(RESERVE_TRANSACTIONS_MAX);
        self.len_max = if may { self.max } else { self.max - reserve };
    }

    /// True when nothing can be inserted.
    pub fn is_full(&self) -> bool {
        self.len >= self.len_max || self.tight > 0
    }

    /// Number of places, for a walk. It grows; entries that move at a split go to places behind the old end.
    pub fn places(&self) -> usize {
        self.segments.len() * SLOTS
    }

    /// Bytes of segments and directory in use.
    pub fn used_bytes(&self) -> u64 {
        (self.segments.len() * (SEGMENT_BYTES + size_of::<Segment>()) + self.directory.len() * 4)
            as u64
    }

    /// Segments split since the start.
    pub fn splits(&self) -> u64 {
        self.splits
    }

    #[inline]
    fn get(&self, place: usize) -> u64 {
        u64::from_le_bytes(*self.memory.array(place * ENTRY_BYTES))
    }

    #[inline]
    fn put(&mut self, place: usize, entry: u64) {
        self.memory.put(place * ENTRY_BYTES, entry.to_le_bytes());
    }

    /// The handle at a place, or [`NONE`].
    #[inline]
    pub fn at(&self, place: usize) -> Handle {
        self.get(place) as Handle
    }

    #[inline]
    fn segment_of(&self, hash: u32) -> usize {
        // A shift by 32 bits, at depth 0, gives place 0.
        self.directory[(u64::from(hash) >> (32 - self.depth)) as usize] as usize
    }

    #[inline]
    fn home(hash: u32) -> usize {
        hash as usize & SLOT_MASK
    }

    /// The bytes a probe of this hash begins with, to be requested ahead.
    #[inline]
    pub fn line(&self, hash: u32) -> &[u8] {
        let place = self.segment_of(hash) * SLOTS + Self::home(hash);
        self.memory.slice(place * ENTRY_BYTES, ENTRY_BYTES)
    }

    /// The handle that a probe of this hash will look at first, or [`NONE`].
    #[inline]
    pub fn first(&self, hash: u32) -> Handle {
        self.find(hash, |_| true).map_or(NONE, |place| self.at(place))
    }

    /// The place whose entry has this hash and whose record `is` the one.
    #[inline]
    pub fn find(&self, hash: u32, is: impl Fn(Handle) -> bool) -> Option<usize> {
        let base = self.segment_of(hash) * SLOTS;
        let mut slot = Self::home(hash);
        loop {
            let e = self.get(base + slot);
            if e == 0 {
                return None;
            }
            if (e >> 32) as u32 == hash && is(e as Handle) {
                return Some(base + slot);
            }
            slot = (slot + 1) & SLOT_MASK;
        }
    }

    /// Cache lines the costliest insert so far has moved; never more than [`Index::insert_lines_max`].
    pub fn longest_lines(&self) -> u64 {
        self.longest_lines
    }

    /// Cache lines an insert moves at most: a segment read, kept aside, cleared and written as two, and a directory of the size this
    /// index can reach.
    pub fn insert_lines_max(&self) -> u64 {
        (5 * SEGMENT_LINES + (self.segments_max * 4).div_ceil(LINE_BYTES)) as u64
    }

    /// Has its memory committed now.
    pub fn populate(&self) -> std::io::Result<()> {
        self.memory.populate()
    }

    /// Adds an entry that is not there yet. The caller has asked [`Index::is_full`].
    pub fn insert(&mut self, hash: u32, handle: Handle) {
        assert!(self.len < self.max, "an index of {} entries is full", self.max);
        assert!(handle != NONE, "an index holds records, not nothing");
        let mut segment = self.segment_of(hash);
        // One split an insert, whatever the hashes: a half that is still too full is split by the next.
        if self.segments[segment].count >= SPLIT_AT && self.split(segment) {
            segment = self.segment_of(hash);
        }
        self.place(segment, entry(hash, handle));
        self.segments[segment].count += 1;
        let count = self.segments[segment].count;
        self.tight += u32::from(count == TIGHT_AT);
        assert!(usize::from(count) < SLOTS, "a segment is full although the index was not");
        self.len += 1;
    }

    fn place(&mut self, segment: usize, entry: u64) {
        let base = segment * SLOTS;
        let mut slot = Self::home((entry >> 32) as u32);
        while self.get(base + slot) != 0 {
            slot = (slot + 1) & SLOT_MASK;
        }
        self.put(base + slot, entry);
    }

    /// Moves half of a segment's entries to a new one; false if there is none.
    // A function of its own, so that its instructions can be counted.
    #[inline(never)]
    fn split(&mut self, old: usize) -> bool {
        let depth = u32::from(self.segments[old].depth);
        if self.segments.len() == self.segments_max || depth == DEPTH_MAX {
            return false;
        }
        let mut lines = 3 * SEGMENT_LINES;
        if depth == self.depth {
            if self.directory.len() * 2 > self.segments_max {
                return false;
            }
            let before = self.directory.len();
            self.directory.resize(before * 2, 0);
            for i in (0..before).rev() {
                self.directory[2 * i + 1] = self.directory[i];
                self.directory[2 * i] = self.directory[i];
            }
            self.depth += 1;
            lines += (before * 8).div_ceil(LINE_BYTES);
        }
        let new = self.segments.len();
        self.segments[old].depth += 1;
        self.segments.push(Segment { depth: depth as u8 + 1, count: 0 });
        // The run of the directory that names the old segment: its upper half names the new one.
        let base = old * SLOTS;
        let mut entries = std::mem::take(&mut self.scratch);
        entries.clear();
        entries.extend((0..SLOTS).map(|slot| self.get(base + slot)).filter(|&e| e != 0));
        let hash = (entries[0] >> 32) as u32;
        let run = 1_usize << (self.depth - depth);
        let first = (u64::from(hash) >> (32 - self.depth)) as usize & !(run - 1);
        self.directory[first + run / 2..first + run].fill(new as u32);
        self.memory.slice_mut(base * ENTRY_BYTES, SEGMENT_BYTES).fill(0);
        let mut moved = 0;
        for &e in &entries {
            let upper = e >> (63 - depth) & 1 == 1;
            moved += u16::from(upper);
            self.place(if upper { new } else { old }, e);
        }
        self.segments[old].count -= moved;
        self.segments[new].count = moved;
        lines += (entries.len() * ENTRY_BYTES).div_ceil(LINE_BYTES) + 2;
        self.longest_lines = self.longest_lines.max(lines as u64);
        self.scratch = entries;
        self.splits += 1;
        true
    }

    /// Names another record at a place.
    pub fn set(&mut self, place: usize, handle: Handle) {
        let hash = (self.get(place) >> 32) as u32;
        self.put(place, entry(hash, handle));
    }

    /// Empties a place and moves back what was pushed behind it.
    pub fn remove(&mut self, place: usize) {
        let segment = place / SLOTS;
        let base = segment * SLOTS;
        let mut hole = place & SLOT_MASK;
        let mut next = hole;
        loop {
            next = (next + 1) & SLOT_MASK;
            let e = self.get(base + next);
            if e == 0 {
                break;
            }
            let home = Self::home((e >> 32) as u32);
            let from_home = next.wrapping_sub(home) & SLOT_MASK;
            let from_hole = next.wrapping_sub(hole) & SLOT_MASK;
            if from_home >= from_hole {
                self.put(base + hole, e);
                hole = next;
            }
        }
        self.put(base + hole, 0);
        self.tight -= u32::from(self.segments[segment].count == TIGHT_AT);
        self.segments[segment].count -= 1;
        self.len -= 1;
    }

    /// Begins a snapshot; see [`Memory::snapshot_begin`].
    pub fn snapshot_begin(&mut self, copies_max: usize) {
        self.memory.snapshot_begin(self.segments.len() * SEGMENT_BYTES, copies_max);
    }

    /// Most bytes that [`Index::write_roots`] writes.
    pub fn roots_bytes_max(&self) -> usize {
        20 + self.segments_max * (4 + 3)
    }

    /// What is not in pages, as a checkpoint keeps it.
    pub fn write_roots(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.depth.to_le_bytes());
        to.extend_from_slice(&(self.len as u64).to_le_bytes());
        to.extend_from_slice(&(self.directory.len() as u32).to_le_bytes());
        to.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for segment in &self.directory {
            to.extend_from_slice(&segment.to_le_bytes());
        }
        for segment in &self.segments {
            to.push(segment.depth);
            to.extend_from_slice(&segment.count.to_le_bytes());
        }
    }

    /// The index a snapshot was taken of; its pages come by [`Index::put_page`].
    pub fn restore(max: usize, roots: &IndexRoots) -> Self {
        let mut index = Self::new(max);
        index.directory.clone_from(&roots.directory);
        index.segments.clone_from(&roots.segments);
        index.depth = roots.depth;
        index.len = roots.len;
        index.tight = roots.segments.iter().filter(|s| s.count >= TIGHT_AT).count() as u32;
        index
    }

    /// One page of a snapshot.
    pub fn put_page(&mut self, number: u32, bytes: &[u8]) {
        self.memory
            .slice_mut(number as usize * crate::memory::PAGE_BYTES, bytes.len())
            .copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        *state >> 16
    }

    #[test]
    fn entries_are_found_until_they_are_removed_also_with_colliding_hashes() {
        let mut index = Index::new(600);
        let mut model = BTreeMap::new();
        let mut state = 7_u64;
        for step in 0..20_000_u32 {
            let handle = 1 + (random(&mut state) >> 24) as u32 % 700;
            let hash = (handle / 3).wrapping_mul(0x9e37_79b9) & 0xf8ff_ffff;
            let found = index.find(hash, |h| h == handle);
            assert_eq!(found.is_some(), model.contains_key(&handle), "step {step}");
            match found {
                Some(place) => {
                    index.remove(place);
                    model.remove(&handle);
                }
                None if !index.is_full() => {
                    index.insert(hash, handle);
                    model.insert(handle, hash);
                }
                None => {}
            }
            assert_eq!(index.len(), model.len());
        }
        for (&handle, &hash) in &model {
            assert!(index.find(hash, |h| h == handle).is_some());
        }
    }

    #[test]
    fn an_index_that_grows_by_splits_loses_nothing_and_stays_dense() {
        let mut index = Index::new(300_000);
        let mut state = 1_u64;
        let mut model = BTreeMap::new();
        for handle in 1..=300_000_u32 {
            let hash = random(&mut state) as u32;
            index.insert(hash, handle);
            model.insert(handle, hash);
            if handle % 3 == 0 {
                let gone = 1 + random(&mut state) as u32 % handle;
                if let Some(hash) = model.remove(&gone) {
                    let place = index.find(hash, |h| h == gone).expect("it was inserted");
                    index.remove(place);
                }
            }
        }
        assert_eq!(index.len(), model.len());
        for (&handle, &hash) in &model {
            let place = index.find(hash, |h| h == handle).expect("nothing is lost");
            assert_eq!(index.at(place), handle);
        }
        let walked = (0..index.places()).filter(|&place| index.at(place) != NONE).count();
        assert_eq!(walked, model.len());
        assert!(index.splits() > 50, "{} splits", index.splits());
        let longest = index.longest_lines();
        assert!((1_500..=index.insert_lines_max()).contains(&longest), "{longest} lines at once");
        let bytes = index.used_bytes() as f64 / model.len() as f64;
        assert!(bytes < 8.0 / 0.39, "{bytes} bytes an entry");
    }

    #[test]
    fn hashes_that_all_agree_fill_one_segment_and_the_index_says_full_before_it_breaks() {
        let mut index = Index::new(1 << 16);
        let mut inserted = 0;
        while !index.is_full() {
            inserted += 1;
            index.insert(0xdead_b000 | inserted & 0xfff, inserted);
        }
        assert!((u32::from(TIGHT_AT)..4096).contains(&inserted), "{inserted}");
        let place = index.find(0xdead_b001, |h| h == 1).expect("it is there");
        index.remove(place);
        assert!(!index.is_full(), "room again");
    }
}
