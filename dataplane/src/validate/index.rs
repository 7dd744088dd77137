//! Finds the slot of a transaction in flight: open addressing over keyed hashes of (txid, block).
//!
//! Never more than half full, so a probe touches one or two cache lines. The key is secret, so nobody can aim at a bucket;
//! the stored hash only filters, the caller compares the whole txid.

use consensus::hash::TxId;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    /// Slot + 1; 0 is an empty place.
    slot: u32,
}

/// The table.
#[derive(Debug)]
pub(super) struct TxIndex {
    key: (u64, u64),
    entries: Vec<Entry>,
    mask: usize,
    len: usize,
}

impl TxIndex {
    /// For at most `slots` entries.
    pub fn new(slots: usize, key: (u64, u64)) -> Self {
        let places = (slots.max(4) * 2).next_power_of_two();
        Self { key, entries: vec![Entry { hash: 0, slot: 0 }; places], mask: places - 1, len: 0 }
    }

    /// The hash to call the others with.
    #[inline]
    pub fn hash(&self, txid: &TxId, block: u32) -> u32 {
        let mut h = SipHasher13::new_with_keys(self.key.0, self.key.1);
        h.write(&txid.0);
        h.write_u32(block);
        h.finish() as u32
    }

    /// The slot for which `is_it` holds.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let entry = self.entries[at];
            if entry.slot == 0 {
                return None;
            }
            if entry.hash == hash && is_it(entry.slot - 1) {
                return Some(entry.slot - 1);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Adds a slot that is not there.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        assert!(self.len * 2 < self.entries.len(), "the index holds more than its bound");
        let mut at = hash as usize & self.mask;
        while self.entries[at].slot != 0 {
            at = (at + 1) & self.mask;
        }
        self.entries[at] = Entry { hash, slot: slot + 1 };
        self.len += 1;
    }

    /// Takes a slot out; those behind it move up, so that no grave is left.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let mut at = hash as usize & self.mask;
        while self.entries[at].slot != slot + 1 {
            assert!(self.entries[at].slot != 0, "slot {slot} is taken out but was never put in");
            at = (at + 1) & self.mask;
        }
        self.len -= 1;
        let mut hole = at;
        loop {
            at = (at + 1) & self.mask;
            let entry = self.entries[at];
            if entry.slot == 0 {
                break;
            }
            let home = entry.hash as usize & self.mask;
            if (at.wrapping_sub(home) & self.mask) >= (at.wrapping_sub(hole) & self.mask) {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = Entry { hash: 0, slot: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn it_agrees_with_a_plain_list_under_any_order_of_changes() {
        let mut index = TxIndex::new(64, (1, 2));
        let mut ids = [TxId::ZERO; 64];
        let mut present = [false; 64];
        let mut rng = Rng::new(11);
        for n in 0..50_000_u64 {
            let slot = rng.index(64);
            if present[slot] {
                let hash = index.hash(&ids[slot], 0);
                assert_eq!(index.find(hash, |s| ids[s as usize] == ids[slot]), Some(slot as u32));
                index.remove(hash, slot as u32);
                assert_eq!(index.find(hash, |s| s == slot as u32), None);
            } else {
                ids[slot].0[..8].copy_from_slice(&n.to_le_bytes());
                index.insert(index.hash(&ids[slot], 0), slot as u32);
            }
            present[slot] = !present[slot];
        }
        assert_eq!(index.len, present.iter().filter(|p| **p).count());
    }
}
