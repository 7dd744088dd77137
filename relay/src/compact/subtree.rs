//! Subtrees by name: eight bytes for each transaction that everybody can tell apart, thirty-two for the others.
//!
//! A host hands over the root and the txids in order; that is also the plain form (mode 0). The compact form (mode 1):
//!
//! ```text
//!  root 32 | salt 16 | u32 count | u32 escapes | escapes x { u32 position, txid 32 } | (count - escapes) x u64 name
//! ```
//!
//! Positions rise. A transaction is escaped when the sender does not know it, so that it cannot see collisions, or when its
//! name is not unique among what the sender knows.

use super::{Salt, short_id, take, take_u32};
use crate::lookup::TxLookup;
use consensus::hash::MerkleHash;
use consensus::merkle::MerkleRoot;
use sigbatch::Hasher;
use std::collections::BTreeMap;

/// Bytes of the root before the txids.
pub const ROOT_LEN: usize = 32;
/// Fewer transactions are sent by their ids: there is nothing to gain.
pub const NAMED_MIN: usize = 16;
/// Names that are asked for together.
const BATCH: usize = 4_096;

/// Splits the plain form into root and txids; `None` when it is not one.
pub fn split(payload: &[u8]) -> Option<(&[u8; 32], &[[u8; 32]])> {
    let (root, txids) = payload.split_first_chunk::<ROOT_LEN>()?;
    let (txids, rest) = txids.as_chunks::<32>();
    (rest.is_empty() && !txids.is_empty()).then_some((root, txids))
}

/// Whether the plain form's root is that of its txids, none of which can be changed without changing it.
pub fn is_true(payload: &[u8], hasher: &Hasher) -> bool {
    split(payload).is_some_and(|(root, txids)| {
        let expected = MerkleRoot { root: MerkleHash(*root), is_mutated: false };
        root_of(txids, hasher) == expected
    })
}

/// The merkle root of txids, level by level, sixteen nodes at a time.
pub fn root_of(txids: &[[u8; 32]], hasher: &Hasher) -> MerkleRoot {
    let mut level = txids.to_vec();
    let mut is_mutated = false;
    while level.len() > 1 {
        is_mutated |= level.as_chunks::<2>().0.iter().any(|[a, b]| a == b);
        if level.len() % 2 == 1 {
            level.push(level[level.len() - 1]);
        }
        let mut parents = vec![[0; 32]; level.len() / 2];
        hasher.merkle_level(&level, &mut parents);
        level = parents;
    }
    MerkleRoot { root: MerkleHash(level.first().copied().unwrap_or_default()), is_mutated }
}

/// The compact form of a plain payload; `None` when it would not be smaller.
pub fn name(payload: &[u8], salt: Salt, txs: &mut dyn TxLookup) -> Option<Vec<u8>> {
    let (root, txids) = split(payload)?;
    if txids.len() < NAMED_MIN {
        return None;
    }
    let names: Vec<u64> = txids.iter().map(|txid| short_id(&salt, txid)).collect();
    let mut unique = vec![0u8; txids.len()];
    for (batch, names) in names.chunks(BATCH).enumerate() {
        txs.resolve(salt, names, &mut |which, txid, _| {
            let at = batch * BATCH + which;
            // One candidate that is the right one: 1. Anything else ends at 2 or more.
            let is_right = txids[at] == *txid;
            unique[at] = unique[at].saturating_add(if is_right { 1 } else { 2 });
        });
    }
    // Two of the subtree's own transactions with one name: neither may be sent by it.
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        if let Some(first) = seen.insert(*name, at) {
            (unique[first], unique[at]) = (2, 2);
        }
    }
    let escapes = unique.iter().filter(|unique| **unique != 1).count();
    let mut out = Vec::with_capacity(56 + escapes * 36 + (txids.len() - escapes) * 8);
    out.extend_from_slice(root);
    out.extend_from_slice(&salt);
    out.extend_from_slice(&(txids.len() as u32).to_le_bytes());
    out.extend_from_slice(&(escapes as u32).to_le_bytes());
    for (at, txid) in txids.iter().enumerate().filter(|(at, _)| unique[*at] != 1) {
        out.extend_from_slice(&(at as u32).to_le_bytes());
        out.extend_from_slice(txid);
    }
    for (name, _) in names.iter().zip(&unique).filter(|(_, unique)| **unique == 1) {
        out.extend_from_slice(&name.to_le_bytes());
    }
    (out.len() < payload.len()).then_some(out)
}

/// Why a compact form does not give the plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unnamed {
    /// It is no compact form: no honest sender made it.
    Malformed,
    /// So many names are unknown or ambiguous here, or the root is another one: the plain form is needed.
    Missing {
        /// How many; 0 when all were found and the root differs.
        names: usize,
    },
}

/// The plain form of a compact one, whose root has been checked.
pub fn unname(
    compact: &[u8],
    raw_len: usize,
    txs: &mut dyn TxLookup,
    hasher: &Hasher,
) -> Result<Vec<u8>, Unnamed> {
    let mut rest = compact;
    let parts = (|| {
        let root = take(&mut rest, 32)?;
        let salt: Salt = take(&mut rest, 16)?.try_into().ok()?;
        let count = take_u32(&mut rest)? as usize;
        let escapes = take_u32(&mut rest)? as usize;
        let named = count.checked_sub(escapes)?;
        let fits = rest.len() == escapes.checked_mul(36)?.checked_add(named.checked_mul(8)?)?;
        let escapes = take(&mut rest, escapes * 36)?;
        // Each name stands for 32 bytes: the plain form is at most four times as long as what has arrived.
        (fits && raw_len == ROOT_LEN + count * 32 && count > 0).then_some((root, salt, escapes))
    })();
    let (root, salt, escapes) = parts.ok_or(Unnamed::Malformed)?;
    let (names, _) = rest.as_chunks::<8>();
    let mut plain = vec![0; raw_len];
    plain[..ROOT_LEN].copy_from_slice(root);
    let (txids, _) = plain[ROOT_LEN..].as_chunks_mut::<32>();

    let mut is_escaped = vec![false; txids.len()];
    let mut before = None;
    for escape in escapes.as_chunks::<36>().0 {
        let (at, txid) = escape.split_first_chunk::<4>().expect("an escape has 36 bytes");
        let at = u32::from_le_bytes(*at) as usize;
        if at >= txids.len() || before.is_some_and(|before| before >= at) {
            return Err(Unnamed::Malformed);
        }
        before = Some(at);
        is_escaped[at] = true;
        txids[at].copy_from_slice(txid);
    }
    let places: Vec<usize> = (0..txids.len()).filter(|at| !is_escaped[*at]).collect();
    let mut found = vec![0u8; places.len()];
    for (batch, names) in names.chunks(BATCH).enumerate() {
        let names: Vec<u64> = names.iter().map(|name| u64::from_le_bytes(*name)).collect();
        txs.resolve(salt, &names, &mut |which, txid, _| {
            let at = batch * BATCH + which;
            found[at] = found[at].saturating_add(1);
            txids[places[at]] = *txid;
        });
    }
    let missing = found.iter().filter(|found| **found != 1).count();
    if missing > 0 || !is_true(&plain, hasher) {
        return Err(Unnamed::Missing { names: missing });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::TxStore;
    use consensus::hash::{sha256, sha256d};
    use proptest::prelude::*;

    const SALT: Salt = [9; 16];

    /// A store with transactions 0 to `count`, and the plain form of their subtree.
    fn subtree(count: u32) -> (TxStore, Vec<u8>) {
        let mut store = TxStore::new(1 << 24);
        let txs: Vec<[u8; 4]> = (0..count).map(u32::to_le_bytes).collect();
        txs.iter().for_each(|tx| store.offer(sha256d(tx), tx));
        (store, plain(&txs.iter().map(|tx| sha256d(tx)).collect::<Vec<_>>()))
    }

    fn plain(txids: &[[u8; 32]]) -> Vec<u8> {
        let mut out = root_of(txids, &Hasher::new()).root.0.to_vec();
        out.extend_from_slice(txids.as_flattened());
        out
    }

    #[test]
    fn a_subtree_of_known_transactions_takes_a_quarter_and_comes_back() {
        let (mut store, plain) = subtree(1_000);
        let compact = name(&plain, SALT, &mut store).expect("it pays");
        assert_eq!(compact.len(), 56 + 8 * 1_000);
        let back = unname(&compact, plain.len(), &mut store, &Hasher::new());
        assert_eq!(back, Ok(plain));
    }

    #[test]
    fn what_the_sender_does_not_know_is_escaped_and_need_not_be_known_by_the_receiver() {
        let (mut store, plain) = subtree(100);
        let (mut half, _) = subtree(50);
        let compact = name(&plain, SALT, &mut half).expect("it pays");
        assert_eq!(compact.len(), 56 + 50 * 36 + 50 * 8);
        assert_eq!(unname(&compact, plain.len(), &mut half, &Hasher::new()), Ok(plain.clone()));
        let compact = name(&plain, SALT, &mut store).expect("it pays");
        let got = unname(&compact, plain.len(), &mut half, &Hasher::new());
        assert_eq!(got, Err(Unnamed::Missing { names: 50 }));
    }

    #[test]
    fn a_name_that_leads_to_another_transaction_is_found_out_by_the_root() {
        let (mut store, plain) = subtree(64);
        let mut compact = name(&plain, SALT, &mut store).expect("it pays");
        let stranger = sha256d(b"stranger");
        store.offer(stranger, b"stranger");
        compact[56..64].copy_from_slice(&short_id(&SALT, &stranger).to_le_bytes());
        let got = unname(&compact, plain.len(), &mut store, &Hasher::new());
        assert_eq!(got, Err(Unnamed::Missing { names: 0 }));
    }

    #[test]
    fn the_same_transaction_twice_is_no_subtree() {
        let txid = sha256d(b"twice");
        assert!(!is_true(&plain(&[txid, txid]), &Hasher::new()));
        assert!(is_true(&plain(&[txid, sha256d(b"once")]), &Hasher::new()));
    }

    proptest! {
        #[test]
        fn the_root_is_the_one_of_the_accumulator(count in 1u32..200) {
            let txids: Vec<[u8; 32]> = (0..count).map(|i| sha256(&i.to_le_bytes())).collect();
            let expected = consensus::merkle::merkle_root(&txids);
            prop_assert_eq!(root_of(&txids, &Hasher::new()), expected);
        }

        #[test]
        fn no_bytes_panic_and_no_length_is_believed(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300),
            count in 0u32..20, escapes in 0u32..8, raw_len in 0usize..1_000,
        ) {
            if bytes.len() >= 56 {
                bytes[48..52].copy_from_slice(&count.to_le_bytes());
                bytes[52..56].copy_from_slice(&escapes.to_le_bytes());
            }
            let (mut store, _) = subtree(4);
            prop_assert!(unname(&bytes, raw_len, &mut store, &Hasher::new()).is_err());
        }
    }
}
