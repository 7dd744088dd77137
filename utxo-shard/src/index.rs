//! The index: from a transaction id to its record, eight bytes an entry.
//!
//! Open addressing with linear probing; an entry is 32 bits of a keyed hash and the record's handle. The upper bits of the
//! hash choose the bucket, so the whole hash only filters: the caller compares the full id. Removal moves entries back instead
//! of leaving marks, so probe lengths depend on what is in the index and not on its history.
//!
//! Cost: one cache line a probe at a load of at most 0.8, plus the record's line for the comparison.

use crate::slab::{Handle, NONE};

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    entries: Vec<u64>,
    shift: u32,
    mask: usize,
    len: usize,
    max: usize,
}

const fn entry(hash: u32, handle: Handle) -> u64 {
    (hash as u64) << 32 | handle as u64
}

impl Index {
    /// An index for `max` entries (at most 3 x 2^30).
    pub fn new(max: usize) -> Self {
        let lg = (max.max(8) * 5 / 4).next_power_of_two().trailing_zeros();
        assert!(lg <= 32, "an index of {max} entries needs more than 32 bits of hash");
        let len = 1_usize << lg;
        Self { entries: vec![0; len], shift: 32 - lg, mask: len - 1, len: 0, max }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nothing can be inserted.
    pub fn is_full(&self) -> bool {
        self.len == self.max
    }

    /// Number of places, for a walk.
    pub fn places(&self) -> usize {
        self.entries.len()
    }

    /// The handle at a place, or [`NONE`].
    #[inline]
    pub fn at(&self, place: usize) -> Handle {
        self.entries[place] as Handle
    }

    #[inline]
    fn bucket(&self, hash: u32) -> usize {
        (hash >> self.shift) as usize & self.mask
    }

    /// The place whose entry has this hash and whose record `is` the one.
    #[inline]
    pub fn find(&self, hash: u32, is: impl Fn(Handle) -> bool) -> Option<usize> {
        let mut place = self.bucket(hash);
        loop {
            let e = self.entries[place];
            if e == 0 {
                return None;
            }
            if (e >> 32) as u32 == hash && is(e as Handle) {
                return Some(place);
            }
            place = (place + 1) & self.mask;
        }
    }

    /// Adds an entry that is not there yet. The caller has asked [`Index::is_full`].
    pub fn insert(&mut self, hash: u32, handle: Handle) {
        assert!(self.len < self.max, "an index of {} entries is full", self.max);
        assert!(handle != NONE, "an index holds records, not nothing");
        let mut place = self.bucket(hash);
        while self.entries[place] != 0 {
            place = (place + 1) & self.mask;
        }
        self.entries[place] = entry(hash, handle);
        self.len += 1;
    }

    /// Names another record at a place.
    pub fn set(&mut self, place: usize, handle: Handle) {
        let e = &mut self.entries[place];
        *e = entry((*e >> 32) as u32, handle);
    }

    /// Empties a place and moves back what was pushed behind it.
    pub fn remove(&mut self, place: usize) {
        let mut hole = place;
        let mut next = place;
        loop {
            next = (next + 1) & self.mask;
            let e = self.entries[next];
            if e == 0 {
                break;
            }
            let home = self.bucket((e >> 32) as u32);
            let from_home = next.wrapping_sub(home) & self.mask;
            let from_hole = next.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.entries[hole] = e;
                hole = next;
            }
        }
        self.entries[hole] = 0;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn entries_are_found_until_they_are_removed_also_with_colliding_hashes() {
        let mut index = Index::new(600);
        let mut model = BTreeMap::new();
        let mut state = 7_u64;
        for step in 0..20_000_u32 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let handle = 1 + (state >> 40) as u32 % 700;
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
}
