//! Numbers modulo n, the order of the group, in four 64-bit words; and how a factor is taken apart for the main loop.
//!
//! In: r, s and the digest. Out: u1 and u2 as regular odd digits: every window holds an odd digit of either sign, so the loop has
//! no zero digits and no branches. u2 is split in two halves of 129 bits (GLV: lambda * (x, y) = (beta * x, y)), each made odd by
//! adding a vector of the lattice. One inversion serves a whole batch (Montgomery's trick, done by the caller).

/// Four words, the lowest first.
pub type Words = [u64; 4];
/// A signed number of up to 130 bits, two's complement.
pub type Half = [u64; 3];

/// n.
pub const N: Words =
    [0xBFD25E8CD0364141, 0xBAAEDCE6AF48A03B, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFFFFFFFFFF];
/// p.
pub const P: Words = [0xFFFFFFFEFFFFFC2F, u64::MAX, u64::MAX, u64::MAX];
/// p - n: for an r below it, r + n is a second x to compare with.
pub const P_MINUS_N: Words = [0x402DA1722FC9BAEE, 0x4551231950B75FC4, 1, 0];
/// -1/n modulo 2^64.
const N_INVERSE: u64 = 0x4B0DFF665588B13F;
/// 2^256 modulo n: 1 in Montgomery form.
pub const ONE: Words = [0x402DA1732FC9BEBF, 0x4551231950B75FC4, 1, 0];
/// 2^512 modulo n: multiplying by it brings a number into Montgomery form.
pub const INTO: Words =
    [0x896CF21467D7D140, 0x741496C20E7CF878, 0xE697F5E45BCD07C6, 0x9D671CD581C69BC5];

/// The lattice of GLV: (A1, -B1) and (A2, A1), and the factors that round a number to it.
const A1: Half = [0xE86C90E49284EB15, 0x3086D221A7D46BCD, 0];
const MINUS_B1: Half = [0x6F547FA90ABFE4C3, 0xE4437ED6010E8828, 0];
const A2: Half = [0x57C1108D9D44CFD8, 0x14CA50F7A8E2F3F6, 1];
const ROUND_1: Words =
    [0xE893209A45DBB031, 0x3DAA8A1471E8CA7F, 0xE86C90E49284EB15, 0x3086D221A7D46BCD];
const ROUND_2: Words =
    [0x1571B4AE8AC47F71, 0x221208AC9DF506C6, 0x6F547FA90ABFE4C4, 0xE4437ED6010E8828];

fn add_carry(a: u64, b: u64, carry: u64) -> (u64, u64) {
    let t = a as u128 + b as u128 + carry as u128;
    (t as u64, (t >> 64) as u64)
}

fn sub_borrow(a: u64, b: u64, borrow: u64) -> (u64, u64) {
    let t = (a as u128).wrapping_sub(b as u128).wrapping_sub(borrow as u128);
    (t as u64, (t >> 127) as u64)
}

/// a * b + c + carry: at most 2^128 - 1.
#[inline(always)]
fn mul_add(a: u64, b: u64, c: u64, carry: u64) -> (u64, u64) {
    let t = (a as u128 * b as u128).wrapping_add(c as u128).wrapping_add(carry as u128);
    (t as u64, (t >> 64) as u64)
}

/// a - b, and 1 when b is larger.
#[inline(always)]
pub fn sub(a: &Words, b: &Words) -> (Words, u64) {
    let (w0, c) = sub_borrow(a[0], b[0], 0);
    let (w1, c) = sub_borrow(a[1], b[1], c);
    let (w2, c) = sub_borrow(a[2], b[2], c);
    let (w3, c) = sub_borrow(a[3], b[3], c);
    ([w0, w1, w2, w3], c)
}

/// a < b.
#[inline(always)]
pub fn less(a: &Words, b: &Words) -> bool {
    sub(a, b).1 != 0
}

/// a == 0.
#[inline(always)]
pub fn is_zero(a: &Words) -> bool {
    a[0] | a[1] | a[2] | a[3] == 0
}

/// 1 <= a < n.
#[inline(always)]
pub fn in_range(a: &Words) -> bool {
    !is_zero(a) && less(a, &N)
}

/// From 32 bytes, big endian.
#[inline(always)]
pub fn from_bytes(bytes: &[u8; 32]) -> Words {
    let (words, _) = bytes.as_chunks::<8>();
    let word = |i: usize| u64::from_be_bytes(words[i]);
    [word(3), word(2), word(1), word(0)]
}

/// a * b / 2^256 modulo n, for any a and b < n.
#[inline]
pub fn mul(a: &Words, b: &Words) -> Words {
    let mut t = [0u64; 6];
    for i in 0..4 {
        let mut carry = 0;
        for j in 0..4 {
            (t[j], carry) = mul_add(a[i], b[j], t[j], carry);
        }
        (t[4], t[5]) = add_carry(t[4], carry, 0);
        let m = t[0].wrapping_mul(N_INVERSE);
        let (_, mut carry) = mul_add(m, N[0], t[0], 0);
        for j in 1..4 {
            (t[j - 1], carry) = mul_add(m, N[j], t[j], carry);
        }
        (t[3], carry) = add_carry(t[4], carry, 0);
        t[4] = t[5].wrapping_add(carry);
    }
    let r = [t[0], t[1], t[2], t[3]];
    let (less_n, borrow) = sub(&r, &N);
    if t[4] != 0 || borrow == 0 { less_n } else { r }
}

/// 1/a, both in Montgomery form: a^(n-2), four bits at a time.
pub fn invert(a: &Words) -> Words {
    let mut exponent = N;
    exponent[0] -= 2;
    let mut powers = [ONE; 16];
    for i in 1..16 {
        powers[i] = mul(&powers[i - 1], a);
    }
    let mut r = ONE;
    for i in (0..64).rev() {
        for _ in 0..4 {
            r = mul(&r, &r);
        }
        let digit = exponent[i / 16] >> (4 * (i % 16)) & 15;
        if digit != 0 {
            r = mul(&r, &powers[digit as usize]);
        }
    }
    r
}

/// k * g / 2^384, rounded.
#[inline(always)]
fn rounded(k: &Words, g: &Words) -> [u64; 2] {
    let mut t = [0u64; 8];
    for i in 0..4 {
        let mut carry = 0;
        for j in 0..4 {
            (t[i + j], carry) = mul_add(k[i], g[j], t[i + j], carry);
        }
        t[i + 4] = carry;
    }
    let (low, carry) = add_carry(t[6], t[5] >> 63, 0);
    [low, t[7].wrapping_add(carry)]
}

/// a * b modulo 2^192.
#[inline(always)]
fn mul_half(a: &[u64; 2], b: &Half) -> Half {
    let (t0, carry) = mul_add(a[0], b[0], 0, 0);
    let (t1, carry) = mul_add(a[0], b[1], 0, carry);
    let t2 = a[0].wrapping_mul(b[2]).wrapping_add(carry);
    let (t1, carry) = mul_add(a[1], b[0], t1, 0);
    [t0, t1, t2.wrapping_add(a[1].wrapping_mul(b[1])).wrapping_add(carry)]
}

#[inline(always)]
fn add_half(a: &Half, b: &Half) -> Half {
    let (t0, c) = add_carry(a[0], b[0], 0);
    let (t1, c) = add_carry(a[1], b[1], c);
    [t0, t1, a[2].wrapping_add(b[2]).wrapping_add(c)]
}

#[inline(always)]
fn sub_half(a: &Half, b: &Half) -> Half {
    let (t0, c) = sub_borrow(a[0], b[0], 0);
    let (t1, c) = sub_borrow(a[1], b[1], c);
    [t0, t1, a[2].wrapping_sub(b[2]).wrapping_sub(c)]
}

/// -a.
#[inline(always)]
pub fn negate_half(a: &Half) -> Half {
    sub_half(&[0; 3], a)
}

/// k = k1 + k2 * lambda modulo n with k1 and k2 odd, each below 2^129.4 in size.
#[inline]
pub fn split_odd(k: &Words) -> (Half, Half) {
    let c1 = rounded(k, &ROUND_1);
    let c2 = rounded(k, &ROUND_2);
    let low = [k[0], k[1], k[2]];
    let mut k1 = sub_half(&sub_half(&low, &mul_half(&c1, &A1)), &mul_half(&c2, &A2));
    let mut k2 = sub_half(&mul_half(&c1, &MINUS_B1), &mul_half(&c2, &A1));
    // The lattice vectors have the parities (1, 1) and (0, 1): together they repair any pair.
    if k1[0] & 1 == 0 {
        k1 = add_half(&k1, &A1);
        k2 = sub_half(&k2, &MINUS_B1);
    }
    if k2[0] & 1 == 0 {
        if k1[2] >> 63 != 0 {
            k1 = add_half(&k1, &A2);
            k2 = add_half(&k2, &A1);
        } else {
            k1 = sub_half(&k1, &A2);
            k2 = sub_half(&k2, &A1);
        }
    }
    (k1, k2)
}

/// (k + 2^130 - 1) / 2 of an odd k: its 26 windows of 5 bits are the digits (d + 31) / 2.
#[inline(always)]
pub fn half_digits(k: &Half) -> Half {
    let t = add_half(k, &[u64::MAX, u64::MAX, 3]);
    [t[0] >> 1 | t[1] << 63, t[1] >> 1 | t[2] << 63, t[2] >> 1]
}

/// (k + 2^256 - 1) / 2 of an odd k: its 16 windows of 16 bits are the digits (d + 65535) / 2.
#[inline(always)]
pub fn whole_digits(k: &Words) -> Words {
    [k[0] >> 1 | k[1] << 63, k[1] >> 1 | k[2] << 63, k[2] >> 1 | k[3] << 63, k[3] >> 1 | 1 << 63]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::draw::Draw;

    fn plain(a: &Words) -> Words {
        mul(a, &[1, 0, 0, 0])
    }

    /// Scalars at which something carries, wraps or rounds.
    fn edges() -> Vec<Words> {
        let mut out = vec![[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0], P_MINUS_N, ONE, INTO];
        for k in 1..4 {
            out.push(sub(&N, &[k, 0, 0, 0]).0);
        }
        for i in 0..4 {
            for bit in [0, 1, 31, 32, 62, 63] {
                let mut word = [0; 4];
                word[i] = 1 << bit;
                out.push(word);
                let mut ones = [0; 4];
                ones[..i].fill(u64::MAX);
                ones[i] = (1 << bit) - 1;
                out.push(ones);
            }
        }
        out.extend(CARRYING);
        out.retain(in_range);
        out
    }

    /// Products with ROUND_1 and ROUND_2 whose rounding carries from the low word of the quotient into the high one.
    const CARRYING: [Words; 4] = [
        [0xad031e7998f2f8eb, 0x108b0741c1a2ccf6, 0x1e4ca79455e7c1d8, 0x600963dfc7aad7b],
        [0x2d66035146fac803, 0x4bfe468cc6b80b5, 0xe38f1701b8b628aa, 0xfd38c257977e2a8b],
        [0x93ac60161e5cf389, 0x1f9cfdb501d60710, 0x9de5c292df67abe9, 0x146a9db35e342b5],
        [0xce398885c2951350, 0xc6e97a24b6d6cd98, 0xb9b7b5f024dbe8b1, 0x35d51dd00f2837c8],
    ];

    #[test]
    fn a_rounding_that_carries_carries() {
        for (k, g) in CARRYING.iter().zip([ROUND_1, ROUND_1, ROUND_2, ROUND_2]) {
            let [low, high] = rounded(k, &g);
            assert_eq!(low, 0, "one more than all ones");
            assert!([0x1234567890abcde, 0x2fffffffffffffff].contains(&high), "{high:#x}");
        }
    }

    /// a * b / 2^256 modulo n by doubling and halving: slow and plain.
    fn plain_mul(a: &Words, b: &Words) -> Words {
        let n_plus = |x: Words| if less(&x, &N) { x } else { sub(&x, &N).0 };
        let add = |x: Words, y: Words| {
            let (d, borrow) = sub(&x, &sub(&N, &y).0);
            if borrow == 0 { d } else { sub(&d, &sub(&[0; 4], &N).0).0 }
        };
        let b = n_plus(*b);
        let a = n_plus(*a);
        // Halving modulo n is multiplying by (n + 1) / 2: here by adding n to odd numbers in 257 bits.
        let halved = |x: Words| {
            let mut t = [x[0], x[1], x[2], x[3], 0];
            if x[0] & 1 == 1 {
                let mut carry = 0;
                for i in 0..4 {
                    (t[i], carry) = add_carry(x[i], N[i], carry);
                }
                t[4] = carry;
            }
            core::array::from_fn(|i| t[i] >> 1 | t[i + 1] << 63)
        };
        // Horner from the lowest bit: every bit is halved 256 times less its place.
        let mut sum = [0; 4];
        for i in 0..256 {
            if b[i / 64] >> (i % 64) & 1 == 1 {
                sum = add(sum, a);
            }
            sum = halved(sum);
        }
        sum
    }

    #[test]
    fn products_are_the_plain_ones_at_every_edge() {
        let mut draw = Draw::new(10);
        let mut numbers = edges();
        numbers.extend([[0; 4], [u64::MAX; 4], N, P, [u64::MAX, 0, u64::MAX, 0]]);
        for i in 0..600 {
            let a = numbers[draw.below(numbers.len() as u64) as usize];
            let b = if i % 2 == 0 { draw.words() } else { numbers[i / 2 % numbers.len()] };
            if less(&b, &N) {
                assert_eq!(mul(&a, &b), plain_mul(&a, &b), "{a:x?} {b:x?}");
            }
        }
    }

    #[test]
    fn constants_are_what_they_are_called() {
        let mut power = [1, 0, 0, 0];
        for bit in 1..=512 {
            let (top, mut carry) = (power[3] >> 63, 0);
            for word in &mut power {
                (*word, carry) = (*word << 1 | carry, *word >> 63);
            }
            if top == 1 || !less(&power, &N) {
                power = sub(&power, &N).0;
            }
            if bit == 256 {
                assert_eq!(power, ONE);
            }
        }
        assert_eq!(power, INTO);
        assert_eq!(N[0].wrapping_mul(N_INVERSE), u64::MAX, "N_INVERSE is -1/n");
        assert_eq!(sub(&P, &N).0, P_MINUS_N);
        assert_eq!(
            N.map(u64::to_be_bytes).iter().rev().flatten().copied().collect::<Vec<_>>(),
            secp256k1::constants::CURVE_ORDER
        );
        assert_eq!(
            P.map(u64::to_be_bytes).iter().rev().flatten().copied().collect::<Vec<_>>(),
            secp256k1::constants::FIELD_SIZE
        );
    }

    #[test]
    fn an_inverse_times_its_number_is_one() {
        let mut draw = Draw::new(1);
        for k in edges().into_iter().chain((0..200).map(|_| draw.words())).filter(in_range) {
            let k = mul(&k, &INTO);
            assert_eq!(mul(&k, &invert(&k)), ONE);
        }
    }

    #[test]
    fn the_range_ends_below_n_and_begins_above_zero() {
        assert!(!in_range(&[0; 4]) && !in_range(&N) && !in_range(&[u64::MAX; 4]));
        assert!(in_range(&[1, 0, 0, 0]) && in_range(&sub(&N, &[1, 0, 0, 0]).0));
        for i in 0..4 {
            let mut above = N;
            above[i] = above[i].saturating_add(1);
            assert_eq!(in_range(&above), above == N && i == 9, "word {i}");
            let mut word = [0; 4];
            word[i] = 1;
            assert!(in_range(&word), "word {i}");
        }
    }

    #[test]
    fn halves_are_odd_small_and_add_up() {
        const LAMBDA: Words =
            [0xDF02967C1B23BD72, 0x122E22EA20816678, 0xA5261C028812645A, 0x5363AD4CC05C30E0];
        // Into Montgomery form, a signed number as it stands modulo n.
        let signed = |k: &Half| {
            let negative = k[2] >> 63 != 0;
            let size = if negative { negate_half(k) } else { *k };
            assert!(size[2] < 4, "130 bits hold a half");
            assert_eq!(size[0] & 1, 1, "a half is odd");
            let m = mul(&[size[0], size[1], size[2], 0], &INTO);
            if negative { sub(&N, &m).0 } else { m }
        };
        let mut draw = Draw::new(2);
        for k in edges().into_iter().chain((0..5_000).map(|_| draw.words())).filter(in_range) {
            let (k1, k2) = split_odd(&k);
            let right = plain(&mul(&signed(&k2), &mul(&LAMBDA, &INTO)));
            let left = plain(&signed(&k1));
            let (mut sum, mut carry) = ([0; 4], 0);
            for i in 0..4 {
                (sum[i], carry) = add_carry(left[i], right[i], carry);
            }
            let sum = if carry != 0 || !less(&sum, &N) { sub(&sum, &N).0 } else { sum };
            assert_eq!(sum, k);
        }
    }

    #[test]
    fn digits_of_halves_give_them_back() {
        let mut draw = Draw::new(9);
        for k in edges().into_iter().chain((0..500).map(|_| draw.words())).filter(in_range) {
            let (k1, k2) = split_odd(&k);
            for half in [k1, k2, negate_half(&k1), negate_half(&k2)] {
                let digits = half_digits(&half);
                assert!(digits[2] < 4, "26 windows of 5 bits hold all");
                let mut sum = [0u64; 3];
                for i in (0..26).rev() {
                    for _ in 0..5 {
                        sum = add_half(&sum, &sum);
                    }
                    let (word, shift) = (5 * i / 64, 5 * i % 64);
                    let mut window = digits[word] >> shift;
                    if shift > 59 {
                        window |= digits[word + 1] << (64 - shift);
                    }
                    let digit = 2 * (window & 31) as i64 - 31;
                    let size = [digit.unsigned_abs(), 0, 0];
                    let d = if digit < 0 { negate_half(&size) } else { size };
                    sum = add_half(&sum, &d);
                }
                assert_eq!(sum, half);
            }
        }
    }

    #[test]
    fn digits_give_the_number_back() {
        let mut draw = Draw::new(3);
        for i in 0..1_000 {
            let mut k = if i < 40 { edges()[i] } else { draw.words() };
            k[0] |= 1;
            let digits = whole_digits(&k);
            // Sum of odd digits d * 2^(16 i), as a number modulo 2^256.
            let mut sum = [0u64; 4];
            for i in (0..16).rev() {
                for _ in 0..16 {
                    sum = [
                        sum[0] << 1,
                        sum[1] << 1 | sum[0] >> 63,
                        sum[2] << 1 | sum[1] >> 63,
                        sum[3] << 1 | sum[2] >> 63,
                    ];
                }
                let window = digits[i / 4] >> (16 * (i % 4)) & 0xffff;
                let digit = (2 * window as i64 - 65_535) as u64;
                let sign = if digit >> 63 != 0 { u64::MAX } else { 0 };
                let mut carry;
                (sum[0], carry) = add_carry(sum[0], digit, 0);
                for word in &mut sum[1..] {
                    (*word, carry) = add_carry(*word, sign, carry);
                }
            }
            assert_eq!(sum, k);
        }
    }
}
