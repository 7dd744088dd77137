//! Transactions that a relay without a node has seen: the newest ones, up to so many bytes.
//!
//! In: transactions of bundles. Out: transactions by name, under any salt. For each of the last salts there is an index, made
//! in one pass when the salt is first asked for and kept up to date from then on. What a pass costs a transaction is printed
//! by `cargo test --release -p relay -- --ignored --nocapture making_an_index`; a relay asks for a salt soon after the block
//! before it, which is minutes early.

use super::{Salt, short_id};
use crate::lookup::{Found, TxLookup};
use std::collections::{HashMap, HashSet, VecDeque};

/// Salts that have an index.
pub const INDEXES_MAX: usize = 4;
/// Bytes that an entry takes beside the transaction: its id, three words, and its place in the set and the indexes.
const ENTRY_BYTES: usize = 32 + 24 + 48 + INDEXES_MAX * 24;

/// The store.
#[derive(Debug)]
pub struct TxStore {
    bytes_max: usize,
    bytes: usize,
    /// Oldest first; the number of the first one is `first`.
    txs: VecDeque<([u8; 32], Box<[u8]>)>,
    first: u64,
    known: HashSet<[u8; 32]>,
    indexes: VecDeque<Index>,
}

/// Names under one salt.
#[derive(Debug)]
struct Index {
    salt: Salt,
    /// Number of the newest transaction with this name, and how many older ones share it.
    names: HashMap<u64, (u64, u32)>,
}

impl Index {
    fn add(&mut self, txid: &[u8; 32], number: u64) {
        let entry = self.names.entry(short_id(&self.salt, txid)).or_insert((number, 0));
        if entry.0 != number {
            *entry = (number, entry.1 + 1);
        }
    }

    fn remove(&mut self, txid: &[u8; 32]) {
        let name = short_id(&self.salt, txid);
        match self.names.get_mut(&name) {
            Some((_, 0)) => drop(self.names.remove(&name)),
            Some((_, older)) => *older -= 1,
            None => {}
        }
    }
}

impl TxStore {
    /// An empty store of at most so many bytes, its own tables included.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            txs: VecDeque::new(),
            first: 0,
            known: HashSet::new(),
            indexes: VecDeque::new(),
        }
    }

    /// Transactions in it.
    pub fn len(&self) -> usize {
        self.txs.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.txs.is_empty()
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The index of a salt, newest first; makes it when it is not there.
    fn index(&mut self, salt: Salt) -> &Index {
        if let Some(at) = self.indexes.iter().position(|index| index.salt == salt) {
            let index = self.indexes.remove(at).expect("it was just found");
            self.indexes.push_front(index);
        } else {
            let mut index = Index { salt, names: HashMap::with_capacity(self.txs.len()) };
            for (number, (txid, _)) in (self.first..).zip(&self.txs) {
                index.add(txid, number);
            }
            self.indexes.truncate(INDEXES_MAX - 1);
            self.indexes.push_front(index);
        }
        &self.indexes[0]
    }
}

impl TxLookup for TxStore {
    fn resolve(&mut self, salt: Salt, ids: &[u64], found: &mut Found<'_>) {
        let first = self.first;
        self.index(salt);
        let index = &self.indexes[0];
        for (which, id) in ids.iter().enumerate() {
            let Some((number, older)) = index.names.get(id) else { continue };
            let (txid, bytes) = &self.txs[(number - first) as usize];
            // An ambiguous name is found once for each candidate; that it is ambiguous is all anybody wants to know.
            for _ in 0..=(*older).min(1) {
                found(which, txid, bytes);
            }
        }
    }

    fn offer(&mut self, txid: [u8; 32], bytes: &[u8]) {
        let cost = bytes.len() + ENTRY_BYTES;
        if cost > self.bytes_max || !self.known.insert(txid) {
            return;
        }
        let number = self.first + self.txs.len() as u64;
        self.txs.push_back((txid, bytes.into()));
        self.bytes += cost;
        self.indexes.iter_mut().for_each(|index| index.add(&txid, number));
        while self.bytes > self.bytes_max {
            let (txid, bytes) = self.txs.pop_front().expect("bytes are taken by transactions");
            self.first += 1;
            self.bytes -= bytes.len() + ENTRY_BYTES;
            self.known.remove(&txid);
            self.indexes.iter_mut().for_each(|index| index.remove(&txid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn txid(number: u32) -> [u8; 32] {
        consensus::hash::sha256(&number.to_le_bytes())
    }

    fn finds(store: &mut TxStore, salt: Salt, number: u32) -> Option<Vec<u8>> {
        let mut got = None;
        store.resolve(salt, &[short_id(&salt, &txid(number))], &mut |which, id, bytes| {
            assert_eq!((which, *id), (0, txid(number)));
            assert!(got.replace(bytes.to_vec()).is_none(), "found twice");
        });
        got
    }

    #[test]
    fn the_oldest_transactions_go_first_and_memory_stays_below_its_limit() {
        let limit = 100 * (ENTRY_BYTES + 50);
        let mut store = TxStore::new(limit);
        for number in 0..250 {
            store.offer(txid(number), &[number as u8; 50]);
            assert!(store.bytes() <= limit);
        }
        assert_eq!(store.len(), 100);
        assert_eq!(finds(&mut store, [1; 16], 149), None);
        assert_eq!(finds(&mut store, [1; 16], 150), Some(vec![150; 50]));
        assert_eq!(finds(&mut store, [1; 16], 249), Some(vec![249; 50]));
    }

    #[test]
    fn an_index_stays_right_while_transactions_come_and_go_and_salts_change() {
        let mut store = TxStore::new(50 * (ENTRY_BYTES + 4));
        for number in 0..200u32 {
            let salt = [(number / 7 % 6) as u8; 16];
            store.offer(txid(number), &number.to_le_bytes());
            store.offer(txid(number), b"other bytes of a txid that is known");
            assert_eq!(finds(&mut store, salt, number), Some(number.to_le_bytes().to_vec()));
            assert_eq!(finds(&mut store, salt, number.wrapping_sub(50)), None);
        }
        assert!(store.indexes.len() <= INDEXES_MAX);
    }

    #[test]
    fn what_takes_more_than_everything_is_not_stored() {
        let mut store = TxStore::new(1_000);
        store.offer(txid(1), &[0; 2_000]);
        assert!(store.is_empty());
    }

    #[test]
    #[ignore = "prints a time"]
    fn making_an_index_takes_this_long() {
        let mut store = TxStore::new(1 << 30);
        (0..1_000_000).for_each(|number| store.offer(txid(number), b"tx"));
        let start = std::time::Instant::now();
        store.resolve([3; 16], &[], &mut |_, _, _| {});
        eprintln!("index: {} ns a transaction", start.elapsed().as_nanos() / 1_000_000);
    }

    proptest! {
        #[test]
        fn the_store_is_the_last_transactions_that_fit(
            offers in prop::collection::vec((0u32..60, 1usize..80), 1..200),
        ) {
            let limit = 20 * (ENTRY_BYTES + 40);
            let mut store = TxStore::new(limit);
            let mut model: Vec<(u32, usize)> = Vec::new();
            for (number, len) in offers {
                store.offer(txid(number), &vec![0; len]);
                if model.iter().all(|(known, _)| *known != number) {
                    model.push((number, len));
                }
                while model.iter().map(|(_, len)| len + ENTRY_BYTES).sum::<usize>() > limit {
                    model.remove(0);
                }
                let salt = [(number % 5) as u8; 16];
                for probe in 0..60 {
                    let expected = model.iter().find(|(known, _)| *known == probe);
                    prop_assert_eq!(
                        finds(&mut store, salt, probe).map(|bytes| bytes.len()),
                        expected.map(|(_, len)| *len)
                    );
                }
            }
        }
    }
}
