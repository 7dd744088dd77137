//! Script numbers: little-endian, sign in the top bit of the last byte, of any length the coin's era allows.
//!
//! Numbers that fit eight bytes never leave the registers: [`decode`] gives an `i64`, arithmetic is done in `i128`, and
//! [`Encoded`] holds the result. Longer numbers are compared bytewise without a conversion; only real arithmetic goes
//! through the big-number library, after its predicted cost ([`multiply_cost`], [`divide_cost`], [`linear_cost`]) was charged.
//!
//! Source: SV Node `script_num.{h,cpp}`, `int_serialization.h`; consensus rules section 2.3.

use core::cmp::Ordering;
use dashu_int::{IBig, Sign, UBig};

use super::error::ScriptError;

/// A decoded number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number<'a> {
    /// Magnitude below 2^63.
    Small(i64),
    /// Anything else: the encoding, whose magnitude is at least 2^63.
    Big(&'a [u8]),
}

/// Tests the length and, where asked, that the encoding is the shortest.
#[inline]
pub(super) fn check(bytes: &[u8], bytes_max: u64, minimal: bool) -> Result<(), ScriptError> {
    if bytes.len() as u64 > bytes_max {
        return Err(ScriptError::ScriptNumOverflow);
    }
    if minimal && !is_minimal(bytes) {
        return Err(ScriptError::ScriptNumMinEncode);
    }
    Ok(())
}

#[inline]
fn is_minimal(bytes: &[u8]) -> bool {
    match bytes {
        [] => true,
        [.., last] if last & 0x7f != 0 => true,
        [.., before, _] => before & 0x80 != 0,
        [_] => false,
    }
}

/// Decodes an encoding that [`check`] has passed.
#[inline]
pub(super) fn decode(bytes: &[u8]) -> Number<'_> {
    if let Some(value) = decode_small(bytes) {
        return Number::Small(value);
    }
    // Longer than eight bytes: padding may still hide a small number.
    let used = magnitude_len(bytes);
    if used > 8 || used == 8 && magnitude_byte(bytes, 7) & 0x80 != 0 {
        return Number::Big(bytes);
    }
    let mut value = 0i64;
    for index in 0..used {
        value |= i64::from(magnitude_byte(bytes, index)) << (8 * index);
    }
    Number::Small(if is_negative(bytes) { -value } else { value })
}

#[inline]
fn decode_small(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 8 {
        return None;
    }
    let mut raw = [0u8; 8];
    raw[..bytes.len()].copy_from_slice(bytes);
    let mut magnitude = u64::from_le_bytes(raw);
    let Some(&last) = bytes.last() else {
        return Some(0);
    };
    if last & 0x80 == 0 {
        return Some(magnitude as i64);
    }
    magnitude &= !(0x80 << (8 * (bytes.len() - 1)));
    Some(-(magnitude as i64))
}

fn is_negative(bytes: &[u8]) -> bool {
    bytes.last().is_some_and(|last| last & 0x80 != 0)
}

/// The magnitude's byte at `index`: the encoding without the sign bit.
#[inline]
fn magnitude_byte(bytes: &[u8], index: usize) -> u8 {
    if index + 1 == bytes.len() { bytes[index] & 0x7f } else { bytes[index] }
}

/// How many bytes the magnitude really needs.
fn magnitude_len(bytes: &[u8]) -> usize {
    let Some((&last, body)) = bytes.split_last() else {
        return 0;
    };
    if last & 0x7f != 0 {
        return bytes.len();
    }
    body.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1)
}

impl Number<'_> {
    /// The value, or the nearest `i64` for numbers beyond it. Good for everything that tests a range first.
    pub fn clamped(self) -> i64 {
        match self {
            Number::Small(value) => value,
            Number::Big(bytes) if is_negative(bytes) => i64::MIN,
            Number::Big(_) => i64::MAX,
        }
    }

    pub fn is_zero(self) -> bool {
        matches!(self, Number::Small(0))
    }

    pub fn is_negative(self) -> bool {
        match self {
            Number::Small(value) => value < 0,
            Number::Big(bytes) => is_negative(bytes),
        }
    }

    /// Bytes of the shortest encoding.
    pub fn encoded_len(self) -> usize {
        match self {
            Number::Small(value) => Encoded::new(i128::from(value)).bytes().len(),
            Number::Big(bytes) => {
                let used = magnitude_len(bytes);
                used + usize::from(magnitude_byte(bytes, used - 1) & 0x80 != 0)
            }
        }
    }

    /// Compares two numbers without converting either.
    pub fn compare(self, other: Number<'_>) -> Ordering {
        match (self, other) {
            (Number::Small(a), Number::Small(b)) => a.cmp(&b),
            (Number::Small(_), Number::Big(b)) => {
                if is_negative(b) {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (Number::Big(a), Number::Small(_)) => {
                if is_negative(a) {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (Number::Big(a), Number::Big(b)) => match (is_negative(a), is_negative(b)) {
                (false, true) => Ordering::Greater,
                (true, false) => Ordering::Less,
                (negative, _) => {
                    let (a_len, b_len) = (magnitude_len(a), magnitude_len(b));
                    let order = a_len.cmp(&b_len).then_with(|| {
                        (0..a_len)
                            .rev()
                            .map(|i| magnitude_byte(a, i).cmp(&magnitude_byte(b, i)))
                            .find(|order| order.is_ne())
                            .unwrap_or(Ordering::Equal)
                    });
                    if negative { order.reverse() } else { order }
                }
            },
        }
    }

    /// The number in the big-number library's form.
    pub fn to_big(self) -> IBig {
        match self {
            Number::Small(value) => IBig::from(value),
            Number::Big(bytes) => {
                let (&last, body) = bytes.split_last().expect("a big number has bytes");
                let magnitude = if matches!(last, 0 | 0x80) {
                    UBig::from_le_bytes(body)
                } else if last & 0x80 == 0 {
                    UBig::from_le_bytes(bytes)
                } else {
                    let mut copy = bytes.to_vec();
                    copy[bytes.len() - 1] &= 0x7f;
                    UBig::from_le_bytes(&copy)
                };
                let sign = if last & 0x80 == 0 { Sign::Positive } else { Sign::Negative };
                IBig::from_parts(sign, magnitude)
            }
        }
    }
}

/// Operands of SUBSTR, LEFT and RIGHT, which SV Node reads through a 64-bit path and clamps to 32 bits.
///
/// Up to eight bytes this is the number. Beyond, C++ leaves it undefined; the x86-64 build of SV Node 1.2.2 takes all
/// bytes but the last, ORs byte i into bit position 8*(i mod 8) and ignores the last byte and with it the sign. We do the
/// same, so that no script splits us from it. Pinned by `script_fuzz` vectors and by a test below.
pub(super) fn int32_operand(bytes: &[u8]) -> i64 {
    let value = decode_small(bytes).unwrap_or_else(|| {
        let mut folded = [0u8; 8];
        for (index, byte) in bytes[..bytes.len() - 1].iter().enumerate() {
            folded[index % 8] |= byte;
        }
        i64::from_le_bytes(folded)
    });
    value.clamp(i64::from(i32::MIN), i64::from(i32::MAX))
}

/// The shortest encoding of a number of at most 127 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded {
    bytes: [u8; 17],
    len: u8,
}

impl Encoded {
    #[inline]
    pub fn new(value: i128) -> Self {
        let magnitude = value.unsigned_abs();
        let mut bytes = [0u8; 17];
        bytes[..16].copy_from_slice(&magnitude.to_le_bytes());
        let mut len = (128 - magnitude.leading_zeros() as usize).div_ceil(8);
        if len > 0 {
            if bytes[len - 1] & 0x80 != 0 {
                len += 1;
            }
            if value < 0 {
                bytes[len - 1] |= 0x80;
            }
        }
        Self { bytes, len: len as u8 }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The shortest encoding of a big number.
pub(super) fn encode_big(value: IBig) -> Vec<u8> {
    let (sign, magnitude) = value.into_parts();
    let mut bytes = Vec::from(magnitude.to_le_bytes());
    if let Some(last) = bytes.last().copied() {
        if last & 0x80 != 0 {
            bytes.push(0);
        }
        if sign == Sign::Negative
            && let Some(last) = bytes.last_mut()
        {
            *last |= 0x80;
        }
    }
    bytes
}

/// A shortest encoding as a part of the given bytes: keep `len` bytes and replace the last kept one by `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Minimal {
    pub len: usize,
    pub last: u8,
}

/// Finds the shortest encoding of any byte string read as a number. Negative zero becomes empty.
///
/// Source: SV Node `bsv::MinimallyEncode`.
pub(super) fn minimal(bytes: &[u8]) -> Minimal {
    let Some(&last) = bytes.last() else {
        return Minimal { len: 0, last: 0 };
    };
    let used = magnitude_len(bytes);
    if used == 0 {
        return Minimal { len: 0, last: 0 };
    }
    let sign = last & 0x80;
    let top = magnitude_byte(bytes, used - 1);
    if top & 0x80 == 0 {
        Minimal { len: used, last: top | sign }
    } else {
        Minimal { len: used + 1, last: sign }
    }
}

/// False for zero, negative zero and the empty item.
#[inline]
pub(super) fn is_true(bytes: &[u8]) -> bool {
    match bytes.split_last() {
        None => false,
        Some((&last, body)) => last & 0x7f != 0 || body.iter().any(|&byte| byte != 0),
    }
}

fn words(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(8)
}

/// Predicted cost of passing over `bytes` bytes of numbers a few times (addition, shifts, conversions).
pub(super) fn linear_cost(bytes: usize) -> u64 {
    4 + 4 * words(bytes)
}

/// Predicted cost of multiplying two numbers of `n` words: schoolbook, then Karatsuba, then Toom-3, as the library does.
fn square_cost(n: u64) -> u64 {
    let mut n = n;
    let mut factor = 1u64;
    let mut extra = 0u64;
    while n > 192 {
        extra = extra.saturating_add(factor.saturating_mul(24 * n));
        factor = factor.saturating_mul(5);
        n = n.div_ceil(3);
    }
    while n > 24 {
        extra = extra.saturating_add(factor.saturating_mul(8 * n));
        factor = factor.saturating_mul(3);
        n = n.div_ceil(2);
    }
    extra.saturating_add(factor.saturating_mul(n * n))
}

/// Predicted cost of a product of numbers of `a` and `b` bytes.
pub(super) fn multiply_cost(a: usize, b: usize) -> u64 {
    let (short, long) = (words(a.min(b)).max(1), words(a.max(b)).max(1));
    long.div_ceil(short).saturating_mul(square_cost(short)).saturating_add(linear_cost(a + b))
}

/// Predicted cost of a quotient or remainder of numbers of `a` and `b` bytes.
pub(super) fn divide_cost(a: usize, b: usize) -> u64 {
    let quotient = a.saturating_sub(b) + 8;
    // Divide and conquer: about two products on each of the levels, few levels above the schoolbook threshold.
    multiply_cost(b.min(a), quotient).saturating_mul(3).saturating_add(linear_cost(a + b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn big_of(bytes: &[u8]) -> IBig {
        let mut value = IBig::ZERO;
        for index in (0..bytes.len()).rev() {
            value = (value << 8) + IBig::from(magnitude_byte(bytes, index));
        }
        if is_negative(bytes) { -value } else { value }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        (
            proptest::collection::vec(any::<u8>(), 0..20),
            0usize..12,
            prop_oneof![Just(0u8), Just(0x80), Just(1), Just(0x7f), Just(0xff)],
        )
            .prop_map(|(mut bytes, zeros, last)| {
                bytes.extend(std::iter::repeat_n(0, zeros));
                bytes.push(last);
                bytes
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn every_encoding_decodes_to_its_value(a in bytes(), b in bytes()) {
            let (x, y) = (decode(&a), decode(&b));
            prop_assert_eq!(x.to_big(), big_of(&a));
            prop_assert_eq!(x.compare(y), big_of(&a).cmp(&big_of(&b)));
            prop_assert_eq!(x.encoded_len(), encode_big(x.to_big()).len());
            prop_assert_eq!(is_true(&a), big_of(&a) != IBig::ZERO);
            let shortest = minimal(&a);
            let mut made = a[..shortest.len.saturating_sub(1)].to_vec();
            if shortest.len > 0 { made.push(shortest.last); }
            prop_assert_eq!(&made, &encode_big(big_of(&a)));
            prop_assert!(is_minimal(&made));
            prop_assert_eq!(is_minimal(&a), made == a);
            if let Number::Small(value) = x {
                prop_assert_eq!(Encoded::new(value.into()).bytes().to_vec(), made.clone());
            }
        }

        #[test]
        fn numbers_of_127_bits_encode_as_the_library_does(value in any::<i128>()) {
            let value = value >> 1;
            prop_assert_eq!(Encoded::new(value).bytes().to_vec(), encode_big(IBig::from(value)));
        }
    }

    #[test]
    fn operands_of_nine_bytes_fold_as_the_x86_64_build_of_sv_node_does() {
        // Ten: [2, 0 x 7, 0]: the ninth byte (last) is ignored.
        assert_eq!(int32_operand(&[2, 0, 0, 0, 0, 0, 0, 0, 0]), 2);
        // Byte 8 folds onto byte 0; the sign in the last byte is ignored.
        assert_eq!(int32_operand(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0x80]), 3);
        // A value above 32 bits is clamped, and bit 63 makes it negative.
        assert_eq!(int32_operand(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]), i64::from(i32::MIN));
        assert_eq!(int32_operand(&[0, 0, 0, 0, 1, 0, 0, 0, 0]), i64::from(i32::MAX));
        assert_eq!(int32_operand(&[5, 0x80]), -5);
    }

    #[test]
    fn predicted_costs_grow_with_the_operands() {
        assert!(multiply_cost(32_000_000, 32_000_000) > 1_000_000_000);
        assert!(multiply_cost(9, 9) < 40);
        assert!(divide_cost(64, 32) < 500);
        let mut before = 0;
        for bytes in (8..200_000).step_by(997) {
            let cost = multiply_cost(bytes, bytes);
            assert!(cost * 10 >= before * 9, "{bytes}");
            before = cost;
        }
    }
}
