//! Encodings of signatures and public keys, and the lax reader behind them.
//!
//! Two readers of DER stand side by side because the rules need both: the strict form (BIP66) decides whether a
//! signature may be looked at, and the lax one, which accepts what OpenSSL once accepted, says what it means. Everything
//! here is decided at once, also when the elliptic-curve part of a check is deferred.
//!
//! Source: SV Node `script/interpreter.cpp` `IsValidSignatureEncoding`, `CheckSignatureEncoding`,
//! `CheckPubKeyEncoding`; `pubkey.cpp` `ecdsa_signature_parse_der_lax`.

use super::error::ScriptError;
use super::flags::Flags;

/// Order of the secp256k1 group, big-endian.
const GROUP_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];

/// Half of the group order, rounded down: the largest low S.
const GROUP_ORDER_HALF: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x5d, 0x57, 0x6e, 0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// Bits of the hash type byte.
pub mod hash_type {
    /// Sign all outputs.
    pub const ALL: u8 = 1;
    /// Sign no outputs.
    pub const NONE: u8 = 2;
    /// Sign the output of the input's index.
    pub const SINGLE: u8 = 3;
    /// Chronicle: use the original digest although FORKID is set.
    pub const CHRONICLE: u8 = 0x20;
    /// The digest with the value of the coin (BIP143 layout).
    pub const FORKID: u8 = 0x40;
    /// Sign only this input.
    pub const ANYONECANPAY: u8 = 0x80;
}

/// R and S of a signature, big-endian, as the lax reader understood them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaxSignature {
    /// R.
    pub r: [u8; 32],
    /// S.
    pub s: [u8; 32],
}

impl LaxSignature {
    /// Whether the reader found numbers out of range, or zeros: such a signature verifies for no key.
    pub fn is_hopeless(&self) -> bool {
        self.r == [0; 32] || self.s == [0; 32]
    }

    /// Whether S is at most half the group order.
    pub fn is_low_s(&self) -> bool {
        self.s <= GROUP_ORDER_HALF
    }

    /// R followed by the lower of S and its negative, the form that verifiers take.
    pub fn to_compact_low_s(self) -> [u8; 64] {
        let mut out = [0; 64];
        out[..32].copy_from_slice(&self.r);
        let s = if self.is_low_s() { self.s } else { negated(&self.s) };
        out[32..].copy_from_slice(&s);
        out
    }
}

/// Group order minus `s`, for `s` below the order.
fn negated(s: &[u8; 32]) -> [u8; 32] {
    let mut out = [0; 32];
    let mut borrow = 0i16;
    for index in (0..32).rev() {
        let mut digit = i16::from(GROUP_ORDER[index]) - i16::from(s[index]) - borrow;
        borrow = i16::from(digit < 0);
        if digit < 0 {
            digit += 256;
        }
        out[index] = digit as u8;
    }
    out
}

/// Reads a signature (without its hash type) as laxly as consensus does; `None` when even that finds no two integers.
///
/// R or S above 32 bytes or not below the group order makes both zero, as the reference does.
pub fn read_lax_der(der: &[u8]) -> Option<LaxSignature> {
    let mut rest = der.strip_prefix(&[0x30])?;
    // The length of the sequence is skipped, not believed.
    let (&length, after) = rest.split_first()?;
    rest = after;
    if length & 0x80 != 0 {
        rest = rest.get(usize::from(length - 0x80)..)?;
    }
    let (r, rest) = read_lax_integer(rest)?;
    let (s, _) = read_lax_integer(rest)?;
    let (Some(r), Some(s)) = (fit(r), fit(s)) else {
        return Some(LaxSignature { r: [0; 32], s: [0; 32] });
    };
    if r >= GROUP_ORDER || s >= GROUP_ORDER {
        return Some(LaxSignature { r: [0; 32], s: [0; 32] });
    }
    Some(LaxSignature { r, s })
}

/// One integer: its bytes and what follows.
fn read_lax_integer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[0x02])?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let mut width = usize::from(first - 0x80);
        if width > rest.len() {
            return None;
        }
        while width > 0 && rest[0] == 0 {
            rest = &rest[1..];
            width -= 1;
        }
        // Eight or more significant bytes of length are refused by the reference on 64-bit machines.
        if width >= 8 {
            return None;
        }
        length = rest[..width].iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        rest = &rest[width..];
    }
    if length > rest.len() { None } else { Some(rest.split_at(length)) }
}

/// The integer's bytes in 32, or `None` when it is too long.
fn fit(integer: &[u8]) -> Option<[u8; 32]> {
    let zeros = integer.iter().take_while(|&&byte| byte == 0).count();
    let digits = &integer[zeros..];
    let mut out = [0; 32];
    out.get_mut(32usize.checked_sub(digits.len())?..)?.copy_from_slice(digits);
    Some(out)
}

/// Strict DER with a hash type byte at the end (BIP66).
pub fn is_strict_der(signature: &[u8]) -> bool {
    let len = signature.len();
    if !(9..=73).contains(&len) || signature[0] != 0x30 || usize::from(signature[1]) != len - 3 {
        return false;
    }
    let r_len = usize::from(signature[3]);
    if 5 + r_len >= len {
        return false;
    }
    let s_len = usize::from(signature[5 + r_len]);
    if r_len + s_len + 7 != len {
        return false;
    }
    let integer = |tag: u8, bytes: &[u8]| {
        tag == 0x02
            && !bytes.is_empty()
            && bytes[0] & 0x80 == 0
            && !(bytes.len() > 1 && bytes[0] == 0 && bytes[1] & 0x80 == 0)
    };
    integer(signature[2], &signature[4..4 + r_len])
        && integer(signature[4 + r_len], &signature[6 + r_len..6 + r_len + s_len])
}

/// Tests a signature with its hash type against the flags; `relaxed` is Chronicle's malleability relaxation.
///
/// The order of the tests is the reference's, so the error is too. An empty signature passes everything.
pub(super) fn check_signature_encoding(
    signature: &[u8],
    flags: Flags,
    relaxed: bool,
) -> Result<(), ScriptError> {
    let Some((&hash_type, der)) = signature.split_last() else {
        return Ok(());
    };
    if flags.has_any(Flags::DERSIG | Flags::LOW_S | Flags::STRICTENC) && !is_strict_der(signature) {
        return Err(ScriptError::SigDer);
    }
    if flags.has(Flags::LOW_S) && !relaxed && !read_lax_der(der).is_some_and(|sig| sig.is_low_s()) {
        return Err(ScriptError::SigHighS);
    }
    if flags.has(Flags::STRICTENC) {
        if !matches!(hash_type & 0x1f, hash_type::ALL..=hash_type::SINGLE) {
            return Err(ScriptError::SigHashType);
        }
        let fork_id = flags.has(Flags::ENABLE_SIGHASH_FORKID);
        if !fork_id && hash_type & hash_type::FORKID != 0 {
            return Err(ScriptError::IllegalForkId);
        }
        if !flags.has(Flags::CHRONICLE) && hash_type & hash_type::CHRONICLE != 0 {
            return Err(ScriptError::IllegalChronicle);
        }
        if fork_id && hash_type & hash_type::FORKID == 0 {
            return Err(ScriptError::MustUseForkId);
        }
    }
    Ok(())
}

/// Tests the form of a public key against the flags.
#[inline]
pub(super) fn check_pubkey_encoding(pubkey: &[u8], flags: Flags) -> Result<(), ScriptError> {
    let compressed = pubkey.len() == 33 && matches!(pubkey[0], 2 | 3);
    if flags.has(Flags::STRICTENC) && !compressed && !(pubkey.len() == 65 && pubkey[0] == 4) {
        return Err(ScriptError::PubkeyType);
    }
    if flags.has(Flags::COMPRESSED_PUBKEYTYPE) && !compressed {
        return Err(ScriptError::NonCompressedPubkey);
    }
    Ok(())
}

/// Whether the first byte of a key announces its length; hybrid keys (06, 07) do.
///
/// Source: SV Node `CPubKey::ValidSize`.
#[inline]
pub fn has_valid_pubkey_size(pubkey: &[u8]) -> bool {
    match pubkey.first() {
        Some(2 | 3) => pubkey.len() == 33,
        Some(4 | 6 | 7) => pubkey.len() == 65,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that look like DER often enough to reach every branch.
    fn der_like() -> impl Strategy<Value = Vec<u8>> {
        let integer =
            (proptest::collection::vec(any::<u8>(), 0..40), 0u8..6).prop_map(|(bytes, form)| {
                let mut out = vec![0x02];
                match form {
                    0 => out.push(bytes.len() as u8 | 0x80),
                    1 => out.extend_from_slice(&[0x81, bytes.len() as u8]),
                    2 => out.extend_from_slice(&[0x83, 0, 0, bytes.len() as u8]),
                    _ => out.push(bytes.len() as u8),
                }
                out.extend_from_slice(&bytes);
                out
            });
        (integer.clone(), integer, any::<u8>(), 0usize..90, 0u8..4).prop_map(
            |(r, s, noise, cut, form)| {
                let mut out = vec![0x30];
                match form {
                    0 => out.push(noise),
                    1 => out.extend_from_slice(&[0x81, noise]),
                    _ => out.push((r.len() + s.len()) as u8),
                }
                out.extend(r);
                out.extend(s);
                if form == 3 {
                    out.truncate(cut);
                }
                out
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]
        #[test]
        fn the_lax_reader_agrees_with_libsecp256k1(der in der_like()) {
            let ours = read_lax_der(&der);
            let theirs = secp256k1::ecdsa::Signature::from_der_lax(&der).ok();
            prop_assert_eq!(ours.is_some(), theirs.is_some());
            if let (Some(ours), Some(mut theirs)) = (ours, theirs) {
                let compact = theirs.serialize_compact();
                prop_assert_eq!(&ours.r[..], &compact[..32]);
                prop_assert_eq!(&ours.s[..], &compact[32..]);
                theirs.normalize_s();
                prop_assert_eq!(ours.to_compact_low_s(), theirs.serialize_compact());
            }
        }
    }

    #[test]
    fn half_of_the_order_is_low_and_one_more_is_not() {
        let mut sig = LaxSignature { r: [1; 32], s: GROUP_ORDER_HALF };
        assert!(sig.is_low_s());
        sig.s[31] += 1;
        assert!(!sig.is_low_s());
        assert_eq!(sig.to_compact_low_s()[32..], GROUP_ORDER_HALF);
    }
}
