//! Teranode's containers: what its services exchange and store.
//!
//! A block names subtrees, a subtree names transactions, subtree data holds them. The same bytes go over HTTP and into files;
//! files begin with eight bytes that say what they are. Everything is little endian; counts are fixed-width except in blocks.
//! Source: Teranode `model/Block.go`, go-subtree `subtree.go`, `inpoints.go`, `pkg/fileformat`; verified on its test data.

mod block;
mod data;
mod file;
mod subtree;

pub use block::{TeranodeBlock, TeranodeBlockView};
pub use data::{SubtreeDataCursor, SubtreeMeta, TxInpoints};
pub use file::FileKind;
pub use subtree::{COINBASE_PLACEHOLDER, Subtree, SubtreeNode, SubtreeView};

use crate::hash::{TxId, sha256};
use crate::wire::write_compact_size;

/// The name Teranode's UTXO store gives an output: SHA-256 of txid, index, locking script and value.
///
/// Source: Teranode `util/utxo_hash.go`. The script is not preceded by its length.
pub fn utxo_hash(txid: &TxId, vout: u32, locking_script: &[u8], value_sat: u64) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(50 + locking_script.len());
    bytes.extend_from_slice(&txid.0);
    write_compact_size(&mut bytes, u64::from(vout));
    bytes.extend_from_slice(locking_script);
    write_compact_size(&mut bytes, value_sat);
    sha256(&bytes)
}

#[cfg(test)]
mod tests;
