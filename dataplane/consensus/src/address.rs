//! Base58, addresses and private keys as text.
//!
//! Base58 costs the square of its length, so every reader has a named bound. Checksums are the first four bytes of the double
//! SHA-256. Source: SV Node `base58.cpp`.

use crate::hash::sha256d;
use crate::params::{Base58Prefixes, ChainParams};
use std::fmt;

/// Longest text that is decoded, in characters.
pub const TEXT_CHARS_MAX: usize = 1024;

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const NO_DIGIT: u8 = 0xff;
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut i = 0;
    while i < 58 {
        digits[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    digits
};

/// Why text is no base58, no address or no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Too long to be worth decoding.
    #[error("the text has {got} characters; at most {TEXT_CHARS_MAX} are decoded")]
    TooLong {
        /// Characters in the text.
        got: usize,
    },
    /// A character that is not in the alphabet.
    #[error("the character at position {at} is not one of base58")]
    Character {
        /// Its position in bytes.
        at: usize,
    },
    /// The checksum does not fit, or there is none.
    #[error("the checksum does not fit; a character may be mistyped")]
    Checksum,
    /// The payload is no address or key of this network.
    #[error("{got_bytes} bytes with the prefix {prefix:#04x} are nothing this network knows")]
    Unknown {
        /// First byte of the payload.
        prefix: u8,
        /// Bytes of the payload.
        got_bytes: usize,
    },
}

/// Bytes as base58. Leading zero bytes become leading ones.
pub fn encode_base58(bytes: &[u8]) -> String {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    // 138 digits of base 58 hold at least 100 bytes.
    let mut digits: Vec<u8> = Vec::with_capacity((bytes.len() - zeros) * 138 / 100 + 1);
    for &byte in &bytes[zeros..] {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let ones = std::iter::repeat_n('1', zeros);
    ones.chain(digits.iter().rev().map(|d| ALPHABET[usize::from(*d)] as char)).collect()
}

/// Base58 as bytes. Unlike SV Node, spaces around the text are not skipped.
pub fn decode_base58(text: &str) -> Result<Vec<u8>, AddressError> {
    if text.len() > TEXT_CHARS_MAX {
        return Err(AddressError::TooLong { got: text.len() });
    }
    let chars = text.as_bytes();
    let zeros = chars.iter().take_while(|c| **c == b'1').count();
    let mut low_first: Vec<u8> = Vec::with_capacity(chars.len());
    for (at, &c) in chars.iter().enumerate().skip(zeros) {
        let digit = DIGITS[usize::from(c)];
        if digit == NO_DIGIT {
            return Err(AddressError::Character { at });
        }
        let mut carry = u32::from(digit);
        for byte in &mut low_first {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        while carry > 0 {
            low_first.push(carry as u8);
            carry >>= 8;
        }
    }
    low_first.extend(std::iter::repeat_n(0, zeros));
    low_first.reverse();
    Ok(low_first)
}

/// Bytes and their checksum as base58.
pub fn encode_base58_check(payload: &[u8]) -> String {
    let mut bytes = payload.to_vec();
    bytes.extend_from_slice(&sha256d(payload)[..4]);
    encode_base58(&bytes)
}

/// Base58 with a checksum as bytes.
pub fn decode_base58_check(text: &str) -> Result<Vec<u8>, AddressError> {
    let mut bytes = decode_base58(text)?;
    let Some((payload, checksum)) = bytes.split_last_chunk::<4>() else {
        return Err(AddressError::Checksum);
    };
    if sha256d(payload)[..4] != *checksum {
        return Err(AddressError::Checksum);
    }
    bytes.truncate(bytes.len() - 4);
    Ok(bytes)
}

/// What an address pays to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Destination {
    /// The hash160 of a public key.
    PubKeyHash([u8; 20]),
    /// The hash160 of a script; of use for coins from before Genesis only.
    ScriptHash([u8; 20]),
}

impl Destination {
    /// The locking script.
    pub fn locking_script(&self) -> Vec<u8> {
        match self {
            Self::PubKeyHash(hash) => p2pkh_script(hash).to_vec(),
            Self::ScriptHash(hash) => {
                let mut script = vec![0xa9, 0x14];
                script.extend_from_slice(hash);
                script.push(0x87);
                script
            }
        }
    }

    /// The address on a network.
    pub fn to_address(&self, params: &ChainParams) -> String {
        let (prefix, hash) = match self {
            Self::PubKeyHash(hash) => (params.prefixes.p2pkh, hash),
            Self::ScriptHash(hash) => (params.prefixes.p2sh, hash),
        };
        let mut payload = [prefix; 21];
        payload[1..].copy_from_slice(hash);
        encode_base58_check(&payload)
    }

    /// Reads an address of a network.
    pub fn parse(text: &str, prefixes: &Base58Prefixes) -> Result<Self, AddressError> {
        let payload = decode_base58_check(text)?;
        let unknown = AddressError::Unknown {
            prefix: payload.first().copied().unwrap_or(0),
            got_bytes: payload.len(),
        };
        let Some((&prefix, hash)) = payload.split_first() else {
            return Err(unknown);
        };
        let hash = hash.try_into().map_err(|_| unknown)?;
        if prefix == prefixes.p2pkh {
            Ok(Self::PubKeyHash(hash))
        } else if prefix == prefixes.p2sh {
            Ok(Self::ScriptHash(hash))
        } else {
            Err(unknown)
        }
    }
}

/// `DUP HASH160 <hash> EQUALVERIFY CHECKSIG`.
pub fn p2pkh_script(hash: &[u8; 20]) -> [u8; 25] {
    let mut script = [0u8; 25];
    script[..3].copy_from_slice(&[0x76, 0xa9, 0x14]);
    script[3..23].copy_from_slice(hash);
    script[23..].copy_from_slice(&[0x88, 0xac]);
    script
}

/// A private key as wallets write it. Whether the number is a key of the curve is not judged here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Wif {
    /// The secret, most significant byte first.
    pub secret: [u8; 32],
    /// Its public key is used in compressed form.
    pub is_compressed: bool,
}

impl fmt::Debug for Wif {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wif").field("is_compressed", &self.is_compressed).finish_non_exhaustive()
    }
}

impl Wif {
    /// The text on a network.
    pub fn to_text(&self, prefixes: &Base58Prefixes) -> String {
        let mut payload = vec![prefixes.wif];
        payload.extend_from_slice(&self.secret);
        if self.is_compressed {
            payload.push(1);
        }
        encode_base58_check(&payload)
    }

    /// Reads the text of a network.
    pub fn parse(text: &str, prefixes: &Base58Prefixes) -> Result<Self, AddressError> {
        let payload = decode_base58_check(text)?;
        if let [prefix, rest @ ..] = payload.as_slice()
            && *prefix == prefixes.wif
            && let Some((secret, flag)) = rest.split_first_chunk()
            && matches!(flag, [] | [1])
        {
            return Ok(Self { secret: *secret, is_compressed: !flag.is_empty() });
        }
        Err(AddressError::Unknown {
            prefix: payload.first().copied().unwrap_or(0),
            got_bytes: payload.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Network;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn base58_written_is_base58_read(bytes in prop::collection::vec(any::<u8>(), 0..100), zeros in 0usize..4) {
            let mut all = vec![0; zeros];
            all.extend_from_slice(&bytes);
            prop_assert_eq!(decode_base58(&encode_base58(&all)).unwrap(), all.clone());
            prop_assert_eq!(decode_base58_check(&encode_base58_check(&all)).unwrap(), all);
        }

        #[test]
        fn any_text_decodes_or_fails(text in ".{0,80}") {
            let prefixes = ChainParams::of(Network::Main).prefixes;
            let _ = Destination::parse(&text, &prefixes);
            let _ = Wif::parse(&text, &prefixes);
        }
    }

    #[test]
    fn the_first_address_ever_paid_is_read_and_written() {
        let main = ChainParams::of(Network::Main);
        let text = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa";
        let destination = Destination::parse(text, &main.prefixes).unwrap();
        assert_eq!(destination.to_address(&main), text);
        assert_eq!(destination.locking_script().len(), 25);
        let test = ChainParams::of(Network::Test);
        assert_eq!(
            Destination::parse(text, &test.prefixes),
            Err(AddressError::Unknown { prefix: 0, got_bytes: 21 })
        );
        let typo = text.replace('z', "y");
        assert_eq!(Destination::parse(&typo, &main.prefixes), Err(AddressError::Checksum));
        assert_eq!(decode_base58("1O"), Err(AddressError::Character { at: 1 }));
    }
}
