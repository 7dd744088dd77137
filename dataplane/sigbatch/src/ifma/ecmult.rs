//! u1 * G + u2 * Q for N * 8 signatures, and whether its x is r.
//!
//! In: keys (x, and y or its parity), digits, r. Out: three masks a group. 26 windows of 5 bits walk the two halves of u2 over
//! the key's table; 16 windows of 16 bits walk u1 over the fixed tables of G and 2^128 G.
//!
//! Cost a signature: 125 doublings, 51 additions, 16 against the fixed tables (one cache line each, asked for four doublings
//! ahead), a square root, the table of the key.

use super::field::*;
use super::fixed::{FixedTables, ROWS};
use super::lane::{Lane, Line, Step};
use super::point::*;

/// Bits of a window of the key's halves, and how many there are.
const KEY_WINDOW: usize = 5;
const KEY_WINDOWS: usize = 26;
/// Bits of a window of u1.
const FIXED_WINDOW: usize = 16;

/// What goes in: words of eight lanes each.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupIn {
    /// x of the key, below p.
    pub x: [Line; 4],
    /// y of the key, below p, where `y_given`.
    pub y: [Line; 4],
    /// Lanes whose key came with its y.
    pub y_given: u8,
    /// Lanes whose y is the odd one, where it was not given.
    pub y_odd: u8,
    /// Digits of the halves of u2.
    pub k1: [Line; 3],
    /// As `k1`.
    pub k2: [Line; 3],
    /// Digits of u1.
    pub u1: [Line; 4],
    /// r.
    pub r: [Line; 4],
}

/// What comes out, one bit a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupOut {
    /// The key is a point of the curve.
    pub on_curve: u8,
    /// Z is not 0: the other two bits mean something.
    pub regular: u8,
    /// x of the sum is r.
    pub same_x: u8,
}

step! {
    /// Judges N groups.
    Judge {
        fixed: &'a FixedTables,
        scratch: &'a mut Scratch<L, N>,
        groups: &'a [GroupIn; N],
        out: &'a mut [GroupOut; N],
    } {
        let (x, y, on_curve) = keys::<L, N>(groups);
        let frame = build_tables(scratch, &x, &y);
        let (x, z) = sum_of_products(fixed, &scratch.tables, &frame, groups);
        // X == r Z^2?
        let z2 = square(&z);
        let mut r = [Fe::splat([0; 5]); N];
        for g in 0..N {
            r[g] = Fe::from_words(&words(&groups[g].r));
        }
        let mut w = wide_from(P2);
        wide_sub(&mut w, &x);
        wide_mul(&mut w, &r, &z2);
        let d = reduce::<L, N, 1>(&w);
        for g in 0..N {
            out[g] = GroupOut {
                on_curve: on_curve[g],
                regular: !z[g].zeros(),
                same_x: d[g].zeros(),
            };
        }
    }
}

#[inline(always)]
fn words<L: Lane, const W: usize>(lines: &[Line; W]) -> [L; W] {
    let mut out = [L::splat(0); W];
    for i in 0..W {
        out[i] = L::load(&lines[i]);
    }
    out
}

/// The keys' coordinates, of magnitude 1, and which are points of the curve: y^2 = x^3 + 7.
#[inline(always)]
fn keys<L: Lane, const N: usize>(groups: &[GroupIn; N]) -> (Fes<L, N>, Fes<L, N>, [u8; N]) {
    let mut x = [Fe::splat([0; 5]); N];
    let mut all_given = 0xff;
    for g in 0..N {
        x[g] = Fe::from_words(&words(&groups[g].x));
        all_given &= groups[g].y_given;
    }
    let x2 = square(&x);
    let mut w = wide_from([7, 0, 0, 0, 0]);
    wide_mul(&mut w, &x2, &x);
    let c = reduce::<L, N, 1>(&w);
    let mut y = c;
    if all_given != 0xff {
        y = root(&c);
        let minus = negate(&y);
        for g in 0..N {
            let odd = !y[g].canonical().0[0].and(L::splat(1)).zeros();
            y[g] = y[g].select(odd ^ groups[g].y_odd, &minus[g]);
        }
    }
    for g in 0..N {
        let given = Fe::from_words(&words(&groups[g].y));
        y[g] = y[g].select(groups[g].y_given, &given);
    }
    let y = narrow(&y);
    let mut w = wide_square(&y);
    wide_add(&mut w, P2);
    wide_sub(&mut w, &c);
    let d = reduce::<L, N, 1>(&w);
    let mut on_curve = [0; N];
    for g in 0..N {
        on_curve[g] = d[g].zeros();
    }
    (x, y, on_curve)
}

/// Bits `at` to `at + bits` of a number of W words.
#[inline(always)]
fn window<L: Lane, const W: usize>(k: &[Line; W], at: usize, bits: usize) -> L {
    let (word, shift) = (at / 64, at % 64);
    let mut v = L::load(&k[word]).shr_by(shift as u32);
    if shift + bits > 64 && word + 1 < W {
        v = v.or(L::load(&k[word + 1]).shl_by(64 - shift as u32));
    }
    v.and(L::splat((1 << bits) - 1))
}

/// The row of an odd digit d given as (d + 2^bits - 1) / 2: digits below 0 count down. TOP is bits - 1.
#[inline(always)]
fn row_of<L: Lane, const TOP: u32>(v: L) -> L {
    // All ones where d is negative.
    let flip = L::splat(u64::MAX).select(positive::<L, TOP>(v), L::splat(0));
    v.xor(flip).and(L::splat((1 << TOP) - 1))
}

/// Lanes whose digit is positive.
#[inline(always)]
fn positive<L: Lane, const TOP: u32>(v: L) -> u8 {
    !v.and(L::splat(1 << TOP)).zeros()
}

#[inline(always)]
fn look_up_key<L: Lane>(t: &KeyTable, v: L, negated: bool, lambda: bool) -> (Fe<L>, Fe<L>) {
    let row = row_of::<L, 4>(v);
    let row_y = if negated { v.xor(L::splat(31)) } else { v };
    let x_table = if lambda { &t.beta_x } else { &t.x };
    let (mut x, mut y) = (Fe::splat([0; 5]), Fe::splat([0; 5]));
    for i in 0..5 {
        x.0[i] = L::gather_own(x_table, row, i);
    }
    for i in 0..5 {
        y.0[i] = L::gather_own(&t.y, row_y, i);
    }
    (x, y)
}

#[inline(always)]
fn look_up_fixed<L: Lane>(t: &[Line; ROWS], v: L, negated: bool) -> (Fe<L>, Fe<L>) {
    let row = row_of::<L, 15>(v);
    let mut w = [L::splat(0); 8];
    for i in 0..8 {
        w[i] = L::gather(t, row, i);
    }
    let x = Fe::from_words(&[w[0], w[1], w[2], w[3]]);
    let y = Fe::from_words(&[w[4], w[5], w[6], w[7]]);
    let plus = positive::<L, 15>(v);
    let minus = if negated { plus } else { !plus };
    (x, y.select(minus, &negate(&[y])[0]))
}

/// Asks for the rows that are read four doublings from here, so that they are there then.
#[inline(always)]
fn ask_for_rows<L: Lane, const N: usize>(fixed: &FixedTables, groups: &[GroupIn; N], bit: usize) {
    if bit % FIXED_WINDOW == 4 {
        for group in groups {
            for half in 0..2 {
                let v = window::<L, 4>(&group.u1, bit - 4 + 128 * half, FIXED_WINDOW);
                L::prefetch(fixed.half(half), row_of::<L, 15>(v));
            }
        }
    }
}

/// (X, Z) of u1 * G + u2 * Q, or of its negative.
#[inline(always)]
fn sum_of_products<L: Lane, const N: usize>(
    fixed: &FixedTables,
    tables: &[KeyTable; N],
    frame: &Fes<L, N>,
    groups: &[GroupIn; N],
) -> (Fes<L, N>, Fes<L, N>) {
    const TOP: usize = KEY_WINDOW * (KEY_WINDOWS - 1);
    // The fixed windows are read on the way down: all of a half lies below.
    const { assert!(TOP < 128 && TOP + FIXED_WINDOW >= 128) };
    let zero = [Fe::splat([0; 5]); N];
    let mut p = Points { x: zero, y: zero, z: [Fe::splat([1, 0, 0, 0, 0]); N] };
    // Whether p is the negative of what it stands for.
    let mut negated = false;
    for bit in (0..=TOP).rev() {
        if bit % KEY_WINDOW == 0 {
            for half in 0..2 {
                let (mut x, mut y) = (zero, zero);
                for g in 0..N {
                    let k = if half == 0 { &groups[g].k1 } else { &groups[g].k2 };
                    let v = window::<L, 3>(k, bit, KEY_WINDOW);
                    (x[g], y[g]) = look_up_key(&tables[g], v, negated, half == 1);
                }
                if bit == TOP && half == 0 {
                    p.x = x;
                    p.y = narrow(&y);
                } else {
                    L::outlined(Add { p: &mut p, x: &x, y: &y });
                    negated = !negated;
                }
            }
        }
        if bit % FIXED_WINDOW == 0 {
            for half in 0..2 {
                let (mut x, mut y) = (zero, zero);
                for g in 0..N {
                    let v = window::<L, 4>(&groups[g].u1, bit + 128 * half, FIXED_WINDOW);
                    (x[g], y[g]) = look_up_fixed(fixed.half(half), v, negated);
                }
                L::outlined(AddFixed { p: &mut p, frame, x: &x, y: &y });
                negated = !negated;
            }
        }
        ask_for_rows::<L, N>(fixed, groups, bit);
        if bit > 0 {
            L::outlined(Double { p: &mut p });
            negated = !negated;
        }
    }
    (p.x, mul(&p.z, frame))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ifma::batch::{Batch, Outcome};
    use crate::ifma::model::Model;
    use crate::ifma::scalar::{self, Words};
    use crate::proof::cases::{Case, bytes_of, inverse, minus, times};
    use crate::proof::draw::Draw;
    use crate::verifier::libsecp256k1;
    use crate::{Check, SigVerdict, Signature};

    /// One group with the same numbers in every lane; u1 is odd.
    fn group(x: &Words, y: &Words, u1: &Words, u2: &Words, r: &Words) -> GroupIn {
        assert_eq!(u1[0] & 1, 1);
        let (k1, k2) = scalar::split_odd(u2);
        let (k1, k2) = (scalar::half_digits(&k1), scalar::half_digits(&k2));
        let all = |w: &Words| w.map(|word| Line([word; 8]));
        GroupIn {
            x: all(x),
            y: all(y),
            y_given: 0xff,
            y_odd: 0,
            k1: k1.map(|word| Line([word; 8])),
            k2: k2.map(|word| Line([word; 8])),
            u1: all(&scalar::whole_digits(u1)),
            r: all(r),
        }
    }

    fn judged(group: GroupIn) -> GroupOut {
        let fixed = FixedTables::shared::<Model>().expect("the tables have their hash");
        let mut scratch = Scratch::<Model, 1>::new();
        let mut out = [GroupOut::default()];
        let step = Judge { fixed, scratch: &mut scratch, groups: &[group], out: &mut out };
        Model::outlined(step);
        out[0]
    }

    /// x of what the kernel adds up, whatever the key is.
    fn sum_x(group: GroupIn) -> Words {
        let fixed = FixedTables::shared::<Model>().expect("the tables have their hash");
        let mut scratch = Scratch::<Model, 1>::new();
        let groups = [group];
        let (x, y, _) = keys::<Model, 1>(&groups);
        let frame = build_tables(&mut scratch, &x, &y);
        let (x, z) = sum_of_products(fixed, &scratch.tables, &frame, &groups);
        let x = mul(&x, &square(&inverse_of(&z)));
        x[0].canonical().to_words().map(|word| word.0[0])
    }

    fn inverse_of(z: &Fes<Model, 1>) -> Fes<Model, 1> {
        crate::ifma::point::inverse(z)
    }

    #[test]
    fn a_key_off_the_curve_is_refused_even_where_the_equation_holds() {
        let mut draw = Draw::new(71);
        let mut batch = Batch::<Model>::new().expect("the tables have their hash");
        let mut tried = 0;
        while tried < 4 {
            let (x, y, mut u1, u2) = (draw.words(), draw.words(), draw.words(), draw.words());
            u1[0] |= 1;
            if [u1, u2].iter().any(|k| !scalar::in_range(k)) {
                continue;
            }
            let r = sum_x(group(&x, &y, &u1, &u2, &[0; 4]));
            if !scalar::in_range(&r) || scalar::less(&r, &scalar::P_MINUS_N) {
                continue;
            }
            let out = judged(group(&x, &y, &u1, &u2, &r));
            assert_eq!((out.on_curve, out.regular, out.same_x), (0, 0xff, 0xff));
            let s = times(&bytes_of(&r), &inverse(&bytes_of(&u2)));
            let digest = times(&bytes_of(&u1), &s);
            let mut compact = [0; 64];
            compact[..32].copy_from_slice(&bytes_of(&r));
            compact[32..].copy_from_slice(&s);
            let key = [&[4][..], &bytes_of(&x), &bytes_of(&y)].concat();
            let signature = Signature::Compact(&compact);
            let check = Check { public_key: &key, digest: &digest, signature };
            assert_eq!(libsecp256k1(&check), SigVerdict::BadKey);
            let mut outcomes = [Outcome::Accept; 3];
            batch.judge(|_| check, &mut outcomes);
            assert_eq!(outcomes, [Outcome::Refuse; 3]);
            tried += 1;
        }
    }

    #[test]
    fn a_last_addition_of_a_point_to_itself_is_never_accepted() {
        let mut draw = Draw::new(72);
        let mut batch = Batch::<Model>::new().expect("the tables have their hash");
        for negative in [false, true] {
            let (mut u1, u2) = (draw.words(), draw.bytes());
            u1[0] |= 1;
            // The digit that is added last, and what must have been added up before it: u1 + u2 d - digit = digit.
            let window = scalar::whole_digits(&u1)[2] & 0xffff;
            let digit = 2 * window as i64 - 65_535;
            let size = [0, 0, 2 * digit.unsigned_abs(), 0];
            let twice = if digit < 0 { minus(&bytes_of(&size)) } else { bytes_of(&size) };
            let (left, borrow) = scalar::sub(&scalar::from_bytes(&twice), &u1);
            let left = if borrow == 0 {
                left
            } else {
                scalar::sub(&left, &scalar::sub(&[0; 4], &scalar::N).0).0
            };
            let d = times(&bytes_of(&left), &inverse(&u2));
            let right = Case::of_scalars(&bytes_of(&u1), &u2, &d).expect("random scalars");
            let r = if negative { draw.bytes() } else { [7; 32] };
            let wrong = Case::of_scalars_and_r(&bytes_of(&u1), &u2, &d, &r).expect("in range");
            let rows = [right, wrong];
            assert_eq!(libsecp256k1(&rows[0].check()), SigVerdict::Valid);
            assert_eq!(libsecp256k1(&rows[1].check()), SigVerdict::Wrong);
            let mut outcomes = [Outcome::Accept; 2];
            batch.judge(|i| rows[i].check(), &mut outcomes);
            assert_eq!(outcomes, [Outcome::Unsure; 2]);
        }
    }
}
