//! From bytes to numbers, for the items whose bytes leave no question.
//!
//! In: a [`Check`]. Out: its numbers, all in range, or nothing: then libsecp256k1 decides. So this reads less than the lax rules
//! allow (DER of one form only, no zero in front, r and s in 1..n, coordinates below p) and never more: what it reads, it reads
//! as the lax parser does.

use super::scalar::{self, Words};
use crate::{Check, Signature};

/// A key as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyY {
    /// Compressed: only whether it is odd.
    Odd(bool),
    /// Uncompressed or hybrid.
    Given(Words),
}

/// Numbers of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// x of the key, below p.
    pub x: Words,
    /// y of the key.
    pub y: KeyY,
    /// In 1..n.
    pub r: Words,
    /// In 1..n.
    pub s: Words,
    /// The digest, any.
    pub z: Words,
}

/// The numbers of a check, where nothing about it is unusual.
#[inline]
pub fn parse(check: &Check<'_>) -> Option<Numbers> {
    let (x, y) = key(check.public_key)?;
    let (r, s) = match check.signature {
        Signature::Compact(bytes) => {
            let (halves, _) = bytes.as_chunks::<32>();
            (scalar::from_bytes(&halves[0]), scalar::from_bytes(&halves[1]))
        }
        Signature::Der(bytes) => der(bytes)?,
    };
    if !scalar::in_range(&r) || !scalar::in_range(&s) {
        return None;
    }
    Some(Numbers { x, y, r, s, z: scalar::from_bytes(check.digest) })
}

/// Source: SEC 1, 2.3.4; hybrid keys as libsecp256k1 reads them: 06 and 07 with a y of that parity.
fn key(bytes: &[u8]) -> Option<(Words, KeyY)> {
    let (prefix, rest) = bytes.split_first()?;
    let (coordinates, tail) = rest.as_chunks::<32>();
    if !tail.is_empty() {
        return None;
    }
    let below_p = |bytes: &[u8; 32]| {
        let words = scalar::from_bytes(bytes);
        scalar::less(&words, &scalar::P).then_some(words)
    };
    match (prefix, coordinates) {
        (2 | 3, [x]) => Some((below_p(x)?, KeyY::Odd(*prefix == 3))),
        (4 | 6 | 7, [x, y]) => {
            let y = below_p(y)?;
            let hybrid_lies = *prefix != 4 && y[0] & 1 != u64::from(*prefix & 1);
            (!hybrid_lies).then_some((below_p(x)?, KeyY::Given(y)))
        }
        _ => None,
    }
}

/// `30 len 02 len r 02 len s`, nothing before, between or behind, one-byte lengths.
fn der(bytes: &[u8]) -> Option<(Words, Words)> {
    let [0x30, len, body @ ..] = bytes else { return None };
    if usize::from(*len) != body.len() {
        return None;
    }
    let (r, rest) = integer(body)?;
    let (s, rest) = integer(rest)?;
    rest.is_empty().then_some((r, s))
}

/// A positive number of at most 32 bytes in its shortest form, and what is behind it.
fn integer(bytes: &[u8]) -> Option<(Words, &[u8])> {
    let [0x02, len, rest @ ..] = bytes else { return None };
    let (number, rest) = rest.split_at_checked(usize::from(*len))?;
    let digits = match number {
        [0, second, ..] if *second >= 0x80 => &number[1..],
        [first, ..] if (1..0x80).contains(first) => number,
        _ => return None,
    };
    let mut padded = [0; 32];
    padded.get_mut(32usize.checked_sub(digits.len())?..)?.copy_from_slice(digits);
    Some((scalar::from_bytes(&padded), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::draw::Draw;
    use secp256k1::ecdsa;

    /// What libsecp256k1's lax parser reads, as r and s.
    fn lax(bytes: &[u8]) -> Option<(Words, Words)> {
        let compact = ecdsa::Signature::from_der_lax(bytes).ok()?.serialize_compact();
        let (halves, _) = compact.as_chunks::<32>();
        Some((scalar::from_bytes(&halves[0]), scalar::from_bytes(&halves[1])))
    }

    fn encode(r: &[u8], s: &[u8]) -> Vec<u8> {
        let mut out = vec![0x30, (4 + r.len() + s.len()) as u8, 2, r.len() as u8];
        out.extend_from_slice(r);
        out.extend_from_slice(&[2, s.len() as u8]);
        out.extend_from_slice(s);
        out
    }

    #[test]
    fn what_is_read_is_read_as_the_lax_parser_reads_it() {
        let mut draw = Draw::new(5);
        let mut read = 0;
        for _ in 0..20_000 {
            let mut number = || {
                let mut bytes = draw.bytes().to_vec();
                bytes.truncate(1 + draw.below(32) as usize);
                match draw.below(4) {
                    0 => bytes.insert(0, 0),
                    1 => bytes[0] &= 0x7f,
                    _ => {}
                }
                bytes
            };
            let mut bytes = encode(&number(), &number());
            match draw.below(4) {
                0 => {
                    let at = draw.below(bytes.len() as u64) as usize;
                    bytes[at] = draw.word() as u8;
                }
                1 => {
                    let at = draw.below(8) as usize;
                    bytes[at.min(3)] ^= 1 << draw.below(8);
                }
                2 => bytes.truncate(draw.below(80) as usize),
                _ => {}
            }
            if let Some((r, s)) = der(&bytes)
                && scalar::less(&r, &scalar::N)
                && scalar::less(&s, &scalar::N)
            {
                read += 1;
                assert_eq!(lax(&bytes), Some((r, s)), "{bytes:02x?}");
            }
        }
        assert!(read > 1_000, "only {read} were read");
    }

    #[test]
    fn only_the_shortest_form_of_a_positive_number_is_read() {
        let one = [1u8];
        assert!(der(&encode(&one, &one)).is_some());
        for odd in [&[][..], &[0], &[0x80], &[0, 1], &[0, 0, 0x80], &[1; 33], &[0; 34]] {
            assert_eq!(der(&encode(odd, &one)), None, "{odd:?}");
            assert_eq!(der(&encode(&one, odd)), None, "{odd:?}");
        }
        for short in [&[0x7f][..], &[0, 0x80], &[1, 0], &[0x7f, 0xff], &[0, 0xff]] {
            assert!(der(&encode(short, &one)).is_some(), "{short:02x?}");
            assert!(der(&encode(&one, short)).is_some(), "{short:02x?}");
        }
        for long in [&[0, 0x7f][..], &[0x80, 0], &[0x81], &[0xff]] {
            assert_eq!(der(&encode(long, &one)), None, "{long:02x?}");
        }
        let long = [[0].as_slice(), &[0xff; 32]].concat();
        assert!(der(&encode(&long, &one)).is_some());
        let mut behind = encode(&one, &one);
        behind.push(0);
        assert_eq!(der(&behind), None);
        behind[1] += 1;
        assert_eq!(der(&behind), None);
        assert_eq!(der(&[]), None);
        for at in 0..8 {
            let whole = encode(&one, &one);
            assert_eq!(der(&whole[..at]), None);
        }
        for (at, tag) in [(0, 0x31), (2, 3), (5, 3)] {
            let mut bytes = encode(&one, &one);
            bytes[at] = tag;
            assert_eq!(der(&bytes), None, "byte {at}");
        }
    }

    #[test]
    fn coordinates_of_p_and_more_are_not_read() {
        let bytes = |words: &Words| {
            let mut out = [0; 32];
            for (i, word) in words.iter().rev().enumerate() {
                out[8 * i..][..8].copy_from_slice(&word.to_be_bytes());
            }
            out
        };
        let below = scalar::sub(&scalar::P, &[1, 0, 0, 0]).0;
        for (words, good) in [(scalar::P, false), ([u64::MAX; 4], false), (below, true)] {
            for prefix in [2u8, 3] {
                let key_bytes = [&[prefix][..], &bytes(&words)].concat();
                assert_eq!(key(&key_bytes).is_some(), good);
            }
            let x_bad = [&[4][..], &bytes(&words), &[1; 32]].concat();
            let y_bad = [&[4][..], &[1; 32], &bytes(&words)].concat();
            assert_eq!((key(&x_bad).is_some(), key(&y_bad).is_some()), (good, good));
        }
        for prefix in 0..=255u8 {
            let short = [&[prefix][..], &[1; 32]].concat();
            let long = [&[prefix][..], &[1; 64]].concat();
            assert_eq!(key(&short).is_some(), [2, 3].contains(&prefix), "{prefix}");
            assert_eq!(key(&long).is_some(), [4, 7].contains(&prefix), "{prefix}");
        }
        for len in (0..100).filter(|len| ![33, 65].contains(len)) {
            for prefix in [2u8, 4, 6] {
                let mut bytes = vec![1; len];
                bytes.iter_mut().take(1).for_each(|b| *b = prefix);
                assert_eq!(key(&bytes), None, "{len}");
            }
        }
    }
}
