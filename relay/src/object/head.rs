//! The first bytes of every object: its full hash, its form, its length.
//!
//! ```text
//!  0                          32     33        36        40
//!  +--------------------------+------+---------+---------+-- .. --+
//!  | hash                     | form | zero    | raw_len | payload|
//!  +--------------------------+------+---------+---------+-- .. --+
//! ```
//!
//! The hash is over the symbols, in two levels: SHA-256 of the shape and of the SHA-256 of each data symbol, where the
//! hash field itself counts as zeros. Leaves can be hashed in any order while symbols arrive, sixteen side by side, so
//! that almost nothing is left to do when the last one is there.

use super::shape::Shape;
use crate::wire::{Class, ObjectId};
use sha2::{Digest, Sha256};
use sigbatch::Hasher;

/// Bytes before the payload.
pub const HEAD_LEN: usize = 40;
/// Bytes of the hash field.
pub const HASH_LEN: usize = 32;

/// How the payload stands in the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Form {
    /// As it is.
    Plain = 0,
    /// As one lz4 block.
    Lz4 = 1,
    /// A subtree by names (`compact::subtree`).
    Names = 2,
    /// A block by names (`compact::block`).
    Sketch = 3,
    /// The transactions of a block that a sketch names.
    Body = 4,
}

impl Form {
    /// The form with this number.
    pub fn of(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Plain),
            1 => Some(Self::Lz4),
            2 => Some(Self::Names),
            3 => Some(Self::Sketch),
            4 => Some(Self::Body),
            _ => None,
        }
    }
}

/// The first bytes of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// What the object's symbols hash to.
    pub hash: [u8; HASH_LEN],
    /// How the payload stands in the object.
    pub form: Form,
    /// Bytes of the payload after it was unpacked.
    pub raw_len: u32,
}

impl Head {
    /// Reads a head; `None` for a form that does not exist or a reserved byte that is not zero.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEAD_LEN] = bytes.first_chunk()?;
        if bytes[33..36] != [0; 3] {
            return None;
        }
        Some(Self {
            hash: *bytes.first_chunk()?,
            form: Form::of(bytes[32])?,
            raw_len: u32::from_le_bytes(*bytes[36..].first_chunk()?),
        })
    }

    /// The bytes.
    pub fn write(&self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..HASH_LEN].copy_from_slice(&self.hash);
        bytes[HASH_LEN] = self.form as u8;
        bytes[36..].copy_from_slice(&self.raw_len.to_le_bytes());
        bytes
    }
}

/// SHA-256 of each of these symbols; the first symbol of an object without its hash field.
pub fn hash_leaves<'a>(
    hasher: &Hasher,
    symbols: impl Fn(usize) -> (usize, &'a [u8]),
    leaves: &mut [[u8; 32]],
) {
    hasher.sha256_each(|i| symbols(i).1, leaves);
    for (i, leaf) in leaves.iter_mut().enumerate() {
        let (index, symbol) = symbols(i);
        if index == 0 {
            let mut digest = Sha256::new();
            digest.update([0; HASH_LEN]);
            digest.update(&symbol[HASH_LEN.min(symbol.len())..]);
            *leaf = digest.finalize().into();
        }
    }
}

/// The object's hash from those of its symbols.
pub fn hash_object(class: Class, shape: &Shape, leaves: &[[u8; 32]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(b"BFR1");
    digest.update([class as u8, 0]);
    digest.update((shape.symbol_len() as u16).to_le_bytes());
    digest.update(shape.object_len().to_le_bytes());
    digest.update(leaves.as_flattened());
    digest.finalize().into()
}

/// What packets call a block and its header: the low bytes of the block's hash, known before any of its symbols.
pub fn block_id(header: &[u8; 80]) -> ObjectId {
    ObjectId::of_hash(&consensus::hash::sha256d(header))
}

/// What is added to a block's id for its body, and for the whole block when a sketch was of no use: other objects, behind
/// the same header.
const BODY_ID: u64 = 0x424f_4459_424f_4459;
const WHOLE_ID: u64 = 0x5748_4f4c_5748_4f4c;

/// Which part of a block an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The outline, the sketch, or the whole block.
    Main,
    /// The body of a sketch.
    Body,
    /// The whole block, after a sketch.
    Whole,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 3] = [Self::Main, Self::Body, Self::Whole];

    /// The id of this part of a block; twice, and it is the block's again.
    pub fn id(self, block: ObjectId) -> ObjectId {
        ObjectId(match self {
            Self::Main => block.0,
            Self::Body => block.0 ^ BODY_ID,
            Self::Whole => block.0 ^ WHOLE_ID,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back_and_a_reserved_byte_must_be_zero() {
        let head = Head { hash: [7; 32], form: Form::Lz4, raw_len: 77 };
        let mut bytes = head.write();
        assert_eq!(Head::read(&bytes), Some(head));
        for at in 33..36 {
            bytes[at] = 1;
            assert_eq!(Head::read(&bytes), None, "byte {at}");
            bytes[at] = 0;
        }
        bytes[32] = 9;
        assert_eq!(Head::read(&bytes), None);
        assert_eq!(Head::read(&bytes[..39]), None);
    }

    #[test]
    fn the_hash_says_class_length_and_every_byte_but_its_own() {
        let shape = Shape::of(3_000, false);
        let bytes: Vec<u8> = (0..3 * 1_152).map(|i| (i % 251) as u8).collect();
        let hash = |class, bytes: &[u8]| {
            let mut leaves = [[0; 32]; 3];
            let symbols: Vec<&[u8]> = bytes.chunks(1_152).collect();
            hash_leaves(&Hasher::new(), |i| (i, symbols[i]), &mut leaves);
            hash_object(class, &shape, &leaves)
        };
        let first = hash(Class::Opaque, &bytes);
        assert_ne!(first, hash(Class::Bundle, &bytes));
        for at in [0, 31, 32, 1_151, 1_152, 2_999] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(hash(Class::Opaque, &other) == first, at < 32, "byte {at}");
        }
    }
}
