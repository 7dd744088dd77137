//! Where a transaction stands: txid to position, a fixed open-addressing table.
//!
//! In: positions and the leaves they name. Out: the position of a txid. An entry is eight bytes: 32 bits of the hash, which
//! also name its home slot, and a position. The full txid is compared in the leaves, the hash only filters. The hash is keyed (SipHash-1-3), because a txid is chosen by
//! whoever made the transaction.
//!
//! Cost: one cache line a lookup at a load of at most one half; removal shifts back what follows, so nothing decays.

use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u32,
    at: u32,
}

/// The table; see the module.
#[derive(Debug)]
pub struct Index {
    key: (u64, u64),
    mask: usize,
    entries: Vec<Entry>,
    len: usize,
}

impl Index {
    /// Room for `capacity` transactions; `key` is drawn once per process and never shown.
    pub fn with_capacity(capacity: usize, key: (u64, u64)) -> Self {
        assert!(capacity < NONE as usize / 2, "positions are 32 bits");
        let slots = (capacity.max(8) * 2).next_power_of_two();
        // Written here, because it is read all over from the first transaction on, and a first touch may take milliseconds.
        Self { key, mask: slots - 1, entries: vec![Entry { tag: 0, at: NONE }; slots], len: 0 }
    }

    /// Transactions in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn hash(&self, txid: &[u8; 32]) -> u32 {
        let mut h = SipHasher13::new_with_keys(self.key.0, self.key.1);
        h.write(txid);
        h.finish() as u32
    }

    /// The slot of `txid`, or the empty slot where it belongs.
    #[inline]
    fn probe<'a>(&self, txid: &[u8; 32], leaf: impl Fn(usize) -> &'a [u8; 32]) -> (usize, u32) {
        let tag = self.hash(txid);
        let mut slot = tag as usize & self.mask;
        loop {
            let entry = self.entries[slot];
            if entry.at == NONE || (entry.tag == tag && leaf(entry.at as usize) == txid) {
                return (slot, tag);
            }
            slot = (slot + 1) & self.mask;
        }
    }

    /// The position of `txid`.
    pub fn get<'a>(&self, txid: &[u8; 32], leaf: impl Fn(usize) -> &'a [u8; 32]) -> Option<usize> {
        let (slot, _) = self.probe(txid, leaf);
        let at = self.entries[slot].at;
        (at != NONE).then_some(at as usize)
    }

    /// Enters `txid` at position `at`; false (and nothing changes) if it is there already.
    pub fn insert<'a>(
        &mut self,
        txid: &[u8; 32],
        at: usize,
        leaf: impl Fn(usize) -> &'a [u8; 32],
    ) -> bool {
        let (slot, tag) = self.probe(txid, leaf);
        if self.entries[slot].at != NONE {
            return false;
        }
        assert!(self.len * 2 <= self.mask, "the index holds {} transactions and is full", self.len);
        self.entries[slot] = Entry { tag, at: at as u32 };
        self.len += 1;
        true
    }

    /// Tells that `txid`, now at position `from`, will be at `to`. The leaf at `from` is still there.
    pub fn moved(&mut self, txid: &[u8; 32], from: usize, to: usize) {
        let slot = self.slot_of(txid, from);
        self.entries[slot].at = to as u32;
    }

    /// Takes `txid`, which stands at position `at`, out.
    pub fn remove(&mut self, txid: &[u8; 32], at: usize) {
        let mut hole = self.slot_of(txid, at);
        let mut next = hole;
        loop {
            next = (next + 1) & self.mask;
            let entry = self.entries[next];
            if entry.at == NONE {
                break;
            }
            let home = entry.tag as usize & self.mask;
            if (next.wrapping_sub(home) & self.mask) >= (next.wrapping_sub(hole) & self.mask) {
                self.entries[hole] = entry;
                hole = next;
            }
        }
        self.entries[hole].at = NONE;
        self.len -= 1;
    }

    /// The slot that names position `at`, on the way that `txid` probes.
    fn slot_of(&self, txid: &[u8; 32], at: usize) -> usize {
        let mut slot = self.hash(txid) as usize & self.mask;
        loop {
            let entry = self.entries[slot];
            assert!(entry.at != NONE, "position {at} is not in the index");
            if entry.at == at as u32 {
                return slot;
            }
            slot = (slot + 1) & self.mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn txid(n: u16) -> [u8; 32] {
        let mut txid = [0; 32];
        txid[..2].copy_from_slice(&n.to_le_bytes());
        txid
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_index_finds_what_a_map_finds(
            steps in prop::collection::vec((0u16..120, 0u8..4), 0..2_000),
        ) {
            let mut index = Index::with_capacity(128, (1, 2));
            let mut leaves = vec![[0xee; 32]; 4_096];
            let mut map = BTreeMap::new();
            let mut next = 0;
            for (n, what) in steps {
                let id = txid(n);
                match (what, map.get(&id).copied()) {
                    (0 | 1, None) => {
                        leaves[next] = id;
                        prop_assert!(index.insert(&id, next, |at| &leaves[at]));
                        map.insert(id, next);
                        next += 1;
                    }
                    (0 | 1, Some(_)) => prop_assert!(!index.insert(&id, next, |at| &leaves[at])),
                    (2, Some(at)) => {
                        index.remove(&id, at);
                        map.remove(&id);
                    }
                    (3, Some(at)) => {
                        leaves[next] = id;
                        index.moved(&id, at, next);
                        map.insert(id, next);
                        next += 1;
                    }
                    _ => {}
                }
                prop_assert_eq!(index.len(), map.len());
                for n in 0..120 {
                    let id = txid(n);
                    prop_assert_eq!(index.get(&id, |at| &leaves[at]), map.get(&id).copied());
                }
            }
        }
    }
}
