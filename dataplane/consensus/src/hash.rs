//! Hashes: what names a transaction or a block, and the functions that make the names.
//!
//! Identifiers are held in wire order, the order of the digest's bytes. People see them reversed, so `Display` and
//! `FromStr` reverse. Ordering compares wire bytes from the first; it is a total order without meaning on the chain.

use ripemd::Ripemd160;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Why text is not a 32-byte hash in reversed hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HashTextError {
    /// Not 64 characters.
    #[error("a hash is 64 hex digits but the text has {got} characters")]
    Length {
        /// Characters (bytes) in the text.
        got: usize,
    },
    /// A character that is not a hex digit.
    #[error("the character at position {at} is not a hex digit")]
    Digit {
        /// Position of the character.
        at: usize,
    },
}

fn hex_digit(c: u8) -> Option<u8> {
    (c as char).to_digit(16).map(|d| d as u8)
}

/// Parses 64 hex digits, most significant byte last in the result.
fn parse_reversed(text: &str) -> Result<[u8; 32], HashTextError> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return Err(HashTextError::Length { got: digits.len() });
    }
    let mut out = [0u8; 32];
    for (i, pair) in digits.chunks_exact(2).enumerate() {
        let high = hex_digit(pair[0]).ok_or(HashTextError::Digit { at: 2 * i })?;
        let low = hex_digit(pair[1]).ok_or(HashTextError::Digit { at: 2 * i + 1 })?;
        out[31 - i] = high << 4 | low;
    }
    Ok(out)
}

fn fmt_reversed(bytes: &[u8; 32], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0u8; 64];
    for (i, byte) in bytes.iter().rev().enumerate() {
        text[2 * i] = DIGITS[usize::from(byte >> 4)];
        text[2 * i + 1] = DIGITS[usize::from(byte & 15)];
    }
    f.pad(std::str::from_utf8(&text).expect("hex digits are ASCII"))
}

macro_rules! hash_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Thirty-two zero bytes: the name of nothing.
            pub const ZERO: Self = Self([0; 32]);

            /// The bytes in wire order.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The double SHA-256 of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(sha256d(bytes))
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(wire: [u8; 32]) -> Self {
                Self(wire)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt_reversed(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt_reversed(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = HashTextError;

            fn from_str(text: &str) -> Result<Self, HashTextError> {
                parse_reversed(text).map(Self)
            }
        }
    };
}

hash_newtype! {
    /// Names a transaction: the double SHA-256 of its raw serialisation.
    TxId
}
hash_newtype! {
    /// Names a block: the double SHA-256 of its 80-byte header.
    BlockHash
}
hash_newtype! {
    /// A node of a merkle tree: a block's merkle root, a subtree's root, or anything below.
    MerkleHash
}

impl From<TxId> for MerkleHash {
    fn from(txid: TxId) -> Self {
        Self(txid.0)
    }
}

/// Thirty-two wire-order bytes of a hash written as people read it, for constants.
///
/// # Panics
/// If the text is not 64 hex digits; in a constant that is a compile error.
pub const fn hash_from_text(text: &str) -> [u8; 32] {
    let digits = text.as_bytes();
    assert!(digits.len() == 64, "a hash is 64 hex digits");
    let mut out = [0u8; 32];
    let mut i = 0;
    while i < 64 {
        let value = match digits[i] {
            c @ b'0'..=b'9' => c - b'0',
            c @ b'a'..=b'f' => c - b'a' + 10,
            _ => panic!("a hash in the source is written in lower-case hex digits"),
        };
        out[31 - i / 2] = out[31 - i / 2] << 4 | value;
        i += 1;
    }
    out
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// SHA-256 of SHA-256.
#[inline]
pub fn sha256d(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// SHA-1 (only `OP_SHA1` wants it).
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    Sha1::digest(bytes).into()
}

/// RIPEMD-160.
pub fn ripemd160(bytes: &[u8]) -> [u8; 20] {
    Ripemd160::digest(bytes).into()
}

/// RIPEMD-160 of SHA-256: what P2PKH and P2SH scripts commit to.
pub fn hash160(bytes: &[u8]) -> [u8; 20] {
    ripemd160(&sha256(bytes))
}

/// The hash of two children of a merkle node.
#[inline]
pub fn merkle_parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut both = [0u8; 64];
    both[..32].copy_from_slice(left);
    both[32..].copy_from_slice(right);
    sha256d(&both)
}

/// Double SHA-256 over bytes that arrive in pieces.
#[derive(Clone, Debug, Default)]
pub struct Sha256d(Sha256);

impl Sha256d {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything added.
    pub fn finish(self) -> [u8; 32] {
        Sha256::digest(self.0.finalize()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_hashes_backwards() {
        let text = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b";
        let id: TxId = text.parse().unwrap();
        assert_eq!(id.0[0], 0x3b);
        assert_eq!(id.to_string(), text);
        assert_eq!(format!("{id:?}"), text);
        assert_eq!("00".parse::<TxId>(), Err(HashTextError::Length { got: 2 }));
        let bad = text.replace("b8", "bx");
        assert_eq!(bad.parse::<TxId>(), Err(HashTextError::Digit { at: 11 }));
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        let bytes: Vec<u8> = (0..=255).collect();
        for cut in [0, 1, 63, 64, 65, 255, 256] {
            let mut h = Sha256d::new();
            h.update(&bytes[..cut]);
            h.update(&bytes[cut..]);
            assert_eq!(h.finish(), sha256d(&bytes));
        }
    }
}
