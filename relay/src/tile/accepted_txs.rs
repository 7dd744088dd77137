//! What names lead to in a node: the transactions that it accepted.
//!
//! In: accepted transactions, whoever sent them. Out: transactions by name, for sketches of blocks and for subtrees. What a peer merely
//! sends in a bundle does not come in, so nobody can push out what the pool holds with transactions that are none.
//!
//! The tile `bfr` fills it and asks it, on one thread; the lock is there because the engine owns its lookups.

use crate::compact::TxStore;
use crate::lookup::{Found, TxLookup};
use consensus::hash::TxId;
use std::sync::{Arc, Mutex, MutexGuard};

/// Handles to one store.
#[derive(Clone, Debug)]
pub struct AcceptedTxs {
    store: Arc<Mutex<TxStore>>,
}

impl AcceptedTxs {
    /// An empty store of at most so many bytes; the newest transactions stay.
    pub fn new(bytes_max: usize) -> Self {
        Self { store: Arc::new(Mutex::new(TxStore::new(bytes_max))) }
    }

    /// A transaction was accepted.
    pub fn accepted(&self, txid: &TxId, bytes: &[u8]) {
        self.locked().offer(txid.0, bytes);
    }

    /// Transactions in it.
    pub fn len(&self) -> usize {
        self.locked().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn locked(&self) -> MutexGuard<'_, TxStore> {
        self.store.lock().expect("no holder of this lock panics")
    }
}

impl TxLookup for AcceptedTxs {
    fn resolve(&mut self, salt: [u8; 16], ids: &[u64], found: &mut Found<'_>) {
        self.locked().resolve(salt, ids, found);
    }

    /// Passed over: whether it is good is known when it is accepted.
    fn offer(&mut self, _txid: [u8; 32], _bytes: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::short_id;

    #[test]
    fn what_was_accepted_is_found_and_what_a_peer_sent_is_not() {
        let mut txs = AcceptedTxs::new(1 << 20);
        let (good, other) = (TxId::of(b"good"), TxId::of(b"other"));
        txs.accepted(&good, b"good");
        txs.offer(other.0, b"other");
        let salt = [3; 16];
        let names = [short_id(&salt, &other.0), short_id(&salt, &good.0)];
        let mut found = Vec::new();
        txs.resolve(salt, &names, &mut |which, txid, bytes| {
            found.push((which, *txid, bytes.to_vec()));
        });
        assert_eq!(found, [(1, good.0, b"good".to_vec())]);
        assert_eq!((txs.len(), txs.is_empty()), (1, false));
    }
}
