//! Compact forms: what a peer most likely has is named, not sent.
//!
//! In: blocks, subtrees and bundles as hosts hand them over. Out: forms that are smaller, and the way back, which always ends
//! with a merkle root. A transaction is named by eight bytes: SipHash-1-3 of its txid under a salt, so that nobody can prepare
//! two transactions with one name for everybody. The salt follows from the block that is built upon, which all relays know
//! before they need it: two relays that send the same block send the same bytes, and a receiver can prepare its index.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `bundle` | transactions one after the other; lz4 where it pays |
//! | `subtree` | a subtree's ids by name, and back |
//! | `block` | outlines (subtree roots), whole blocks, sketches (names and lengths), and their roots |
//! | `tx_store`, `header_store` | what a relay without a node answers from |

pub mod block;
mod bundle;
mod header_store;
pub mod subtree;
mod tx_store;

pub use bundle::{Bundle, BundleError, pack, unpack, write_tx};
pub use header_store::{HEADERS_MAX, HeaderStore};
pub use sigbatch::Hasher;
pub use tx_store::{INDEXES_MAX, TxStore};

use siphasher::sip::SipHasher13;

/// The key that names are made with.
pub type Salt = [u8; 16];

/// The salt of what is built upon this block.
pub fn salt_after(block: &[u8; 32]) -> Salt {
    let mut text = [0; 36];
    text[..4].copy_from_slice(b"BFRs");
    text[4..].copy_from_slice(block);
    let hash = consensus::hash::sha256(&text);
    *hash.first_chunk().expect("a hash has 32 bytes")
}

/// The name of a transaction. Source of the function and its cost (22 ns): reference/relay.md B6.
pub fn short_id(salt: &Salt, txid: &[u8; 32]) -> u64 {
    SipHasher13::new_with_key(salt).hash(txid)
}

/// A little-endian number at the front of `bytes`, which moves on.
pub(crate) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

/// `count` bytes at the front of `bytes`, which moves on.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_depends_on_the_salt_and_on_every_byte_of_the_txid() {
        let salt = salt_after(&[1; 32]);
        let name = short_id(&salt, &[7; 32]);
        assert_ne!(name, short_id(&salt_after(&[2; 32]), &[7; 32]));
        for at in 0..32 {
            let mut other = [7; 32];
            other[at] ^= 0x80;
            assert_ne!(name, short_id(&salt, &other), "byte {at}");
        }
    }
}
