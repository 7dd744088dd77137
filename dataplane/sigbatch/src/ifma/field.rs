//! Numbers modulo p = 2^256 - 0x1000003D1, five limbs of 52 bits, one number in each lane.
//!
//! A number of *magnitude* m has limbs below 2^52 and a value below m * 2^256 * (1 + 2^-38). A multiplication is kept wide
//! ([`Wide`], ten columns) until everything that is to be added has been added; one reduction follows ([`reduce`]) and gives
//! magnitude 1. N groups of eight lanes are worked on side by side, because one alone waits for its own results.
//!
//! Bounds: the sum of the products of magnitudes in a `Wide`, times the factor of its reduction, stays below 250, so that
//! column 9 has at most 52 bits.
//!
//! Cost: 50 multiplications for a product, 30 for a square, 12 for a reduction.

use super::lane::{Lane, Line, M52, Step, part};

/// One number in each lane.
#[derive(Clone, Copy, Debug)]
pub struct Fe<L>(pub [L; 5]);
/// N groups of eight numbers.
pub type Fes<L, const N: usize> = [Fe<L>; N];
/// The columns of products not yet reduced.
pub type Wide<L, const N: usize> = [[L; 10]; N];

/// The low 48 bits: what limb 4 has of 256.
pub const M48: u64 = (1 << 48) - 1;
/// 2^256 modulo p.
pub const FOLD_256: u64 = 0x1000003D1;
/// 2^260 modulo p.
const FOLD_260: u64 = 0x1000003D10;
/// p.
pub const P: [u64; 5] = [0xFFFFEFFFFFC2F, M52, M52, M52, M48];

/// k * p with limbs so large that b numbers of magnitude 1 can be taken away limb by limb.
const fn multiple_of_p(k: u64, b: u64) -> [u64; 5] {
    let middle = (b << 52) - b;
    [(b << 52) - k * FOLD_256, middle, middle, middle, (k << 48) - b]
}
/// 2p, to take one number of magnitude 1 from.
pub const P2: [u64; 5] = multiple_of_p(2, 2);
/// 4p, to take three numbers of magnitude 1 from.
pub const P4: [u64; 5] = multiple_of_p(4, 4);

#[inline(always)]
fn limbs<L: Lane>(k: [u64; 5]) -> [L; 5] {
    [L::splat(k[0]), L::splat(k[1]), L::splat(k[2]), L::splat(k[3]), L::splat(k[4])]
}

/// Nothing yet.
#[inline(always)]
pub fn wide<L: Lane, const N: usize>() -> Wide<L, N> {
    [[L::splat(0); 10]; N]
}

/// A constant, to subtract from.
#[inline(always)]
pub fn wide_from<L: Lane, const N: usize>(k: [u64; 5]) -> Wide<L, N> {
    let mut c = wide();
    wide_add(&mut c, k);
    c
}

part! {
    /// Limbs of a constant are added to the low columns.
    fn add_limbs [](c: &'a mut [L; 10], k: &'a [u64; 5]) {
        for i in 0..5 {
            c[i] = c[i].add(L::splat(k[i]));
        }
    }
}

/// Adds a constant.
#[inline(always)]
pub fn wide_add<L: Lane, const N: usize>(c: &mut Wide<L, N>, k: [u64; 5]) {
    for c in c {
        add_limbs(c, &k);
    }
}

part! {
    /// Takes limbs from the low columns.
    fn sub_limbs [](c: &'a mut [L; 10], a: &'a Fe<L>) {
        for i in 0..5 {
            c[i] = c[i].sub(a.0[i]);
        }
    }
}

/// Takes `a` away.
#[inline(always)]
pub fn wide_sub<L: Lane, const N: usize>(c: &mut Wide<L, N>, a: &Fes<L, N>) {
    for g in 0..N {
        sub_limbs(&mut c[g], &a[g]);
    }
}

part! {
    /// Takes limbs twice from the low columns.
    fn sub_limbs_twice [](c: &'a mut [L; 10], a: &'a Fe<L>) {
        for i in 0..5 {
            c[i] = c[i].sub(a.0[i].add(a.0[i]));
        }
    }
}

/// Takes 2 * `a` away.
#[inline(always)]
pub fn wide_sub_twice<L: Lane, const N: usize>(c: &mut Wide<L, N>, a: &Fes<L, N>) {
    for g in 0..N {
        sub_limbs_twice(&mut c[g], &a[g]);
    }
}

part! {
    /// Limb I of `a` times all limbs of `b`.
    fn row [I: usize](c: &'a mut [L; 10], a: &'a Fe<L>, b: &'a Fe<L>) {
        let ai = a.0[I];
        for j in 0..5 {
            c[I + j] = c[I + j].mul_low(ai, b.0[j]);
        }
        for j in 0..5 {
            c[I + j + 1] = c[I + j + 1].mul_high(ai, b.0[j]);
        }
        c[I + 2].pin();
        c[I + 4].pin();
    }
}

/// Adds a * b.
#[inline(always)]
pub fn wide_mul<L: Lane, const N: usize>(c: &mut Wide<L, N>, a: &Fes<L, N>, b: &Fes<L, N>) {
    for g in 0..N {
        row::<L, 0>(&mut c[g], &a[g], &b[g]);
    }
    for g in 0..N {
        row::<L, 1>(&mut c[g], &a[g], &b[g]);
    }
    for g in 0..N {
        row::<L, 2>(&mut c[g], &a[g], &b[g]);
    }
    for g in 0..N {
        row::<L, 3>(&mut c[g], &a[g], &b[g]);
    }
    for g in 0..N {
        row::<L, 4>(&mut c[g], &a[g], &b[g]);
    }
}

part! {
    /// Products of different limbs, first column each.
    fn cross_0 [](c: &'a mut [L; 10], a: &'a [L; 5]) {
        c[1] = c[1].mul_low(a[0], a[1]);
        c[2] = c[2].mul_low(a[0], a[2]);
        c[3] = c[3].mul_low(a[0], a[3]);
        c[4] = c[4].mul_low(a[0], a[4]);
        c[5] = c[5].mul_low(a[1], a[4]);
        c[6] = c[6].mul_low(a[2], a[4]);
        c[7] = c[7].mul_low(a[3], a[4]);
        c[8] = c[8].mul_high(a[3], a[4]);
        c[4].pin();
        c[7].pin();
    }
}

part! {
    /// Their high halves.
    fn cross_1 [](c: &'a mut [L; 10], a: &'a [L; 5]) {
        c[2] = c[2].mul_high(a[0], a[1]);
        c[3] = c[3].mul_high(a[0], a[2]);
        c[4] = c[4].mul_high(a[0], a[3]);
        c[5] = c[5].mul_high(a[0], a[4]);
        c[6] = c[6].mul_high(a[1], a[4]);
        c[7] = c[7].mul_high(a[2], a[4]);
        c[3].pin();
        c[6].pin();
    }
}

part! {
    /// The inner products.
    fn cross_2 [](c: &'a mut [L; 10], a: &'a [L; 5]) {
        c[3] = c[3].mul_low(a[1], a[2]);
        c[4] = c[4].mul_low(a[1], a[3]);
        c[5] = c[5].mul_low(a[2], a[3]);
        c[6] = c[6].mul_high(a[2], a[3]);
        c[5].pin();
    }
}

part! {
    /// Their high halves.
    fn cross_3 [](c: &'a mut [L; 10], a: &'a [L; 5]) {
        c[4] = c[4].mul_high(a[1], a[2]);
        c[5] = c[5].mul_high(a[1], a[3]);
    }
}

part! {
    /// Everything so far counts twice; then the squares of limbs.
    fn squares [](c: &'a mut [L; 10], a: &'a [L; 5]) {
        for i in 1..9 {
            c[i] = c[i].add(c[i]);
        }
        for i in 0..5 {
            c[2 * i] = c[2 * i].mul_low(a[i], a[i]);
        }
        for i in 0..5 {
            c[2 * i + 1] = c[2 * i + 1].mul_high(a[i], a[i]);
        }
        c[5].pin();
        c[9].pin();
    }
}

/// a * a: the products of different limbs once, doubled, then the squares of limbs.
#[inline(always)]
pub fn wide_square<L: Lane, const N: usize>(a: &Fes<L, N>) -> Wide<L, N> {
    let mut c = wide::<L, N>();
    for g in 0..N {
        cross_0(&mut c[g], &a[g].0);
    }
    for g in 0..N {
        cross_1(&mut c[g], &a[g].0);
    }
    for g in 0..N {
        cross_2(&mut c[g], &a[g].0);
    }
    for g in 0..N {
        cross_3(&mut c[g], &a[g].0);
    }
    for g in 0..N {
        squares(&mut c[g], &a[g].0);
    }
    c
}

part! {
    /// All columns times 8.
    fn times_eight [](c: &'a mut [L; 10]) {
        for i in 0..10 {
            c[i] = c[i].scale::<3>();
        }
    }
}

/// Times 8.
#[inline(always)]
pub fn wide_eight<L: Lane, const N: usize>(c: &mut Wide<L, N>) {
    for c in c {
        times_eight(c);
    }
}

part! {
    /// The high columns carry upwards; their own high bits are cut by the multiplications that follow. The low ones times K.
    fn ripple_high [K: u64](c: &'a mut [L; 10]) {
        c[6] = c[6].add(c[5].shr::<52>());
        c[7] = c[7].add(c[6].shr::<52>());
        c[8] = c[8].add(c[7].shr::<52>());
        c[9] = c[9].add(c[8].shr::<52>());
        for i in 0..5 {
            c[i] = match K {
                2 => c[i].add(c[i]),
                3 => c[i].add(c[i].add(c[i])),
                4 => c[i].scale::<2>(),
                8 => c[i].scale::<3>(),
                _ => c[i],
            };
        }
        c[9].pin();
    }
}

part! {
    /// The high columns times K * 2^260 go into the low ones; what then is above 2^256 is folded once more.
    fn fold [K: u64](c: &'a mut [L; 10]) {
        let fold_260 = L::splat(FOLD_260 * K);
        for i in 0..4 {
            c[i] = c[i].cut_low(c[5 + i], fold_260);
        }
        c[4] = c[4].mul_low(c[9], fold_260);
        let above = L::splat(0).mul_high(c[9], fold_260);
        for i in 1..5 {
            c[i] = c[i].cut_high(c[4 + i], fold_260);
        }
        let top = c[4].shr::<48>().add(above.scale::<4>());
        c[4] = c[4].and(L::splat(M48));
        let fold_256 = L::splat(FOLD_256);
        c[0] = c[0].mul_low(top, fold_256);
        c[1] = c[1].mul_high(top, fold_256);
        c[1].pin();
    }
}

part! {
    /// The low columns become limbs: each carries into the next before that one does.
    fn ripple_low [](c: &'a mut [L; 10], out: &'a mut [L; 5]) {
        let m52 = L::splat(M52);
        c[1] = c[1].add(c[0].shr::<52>());
        out[0] = c[0].and(m52);
        c[2] = c[2].add(c[1].shr::<52>());
        out[1] = c[1].and(m52);
        c[3] = c[3].add(c[2].shr::<52>());
        out[2] = c[2].and(m52);
        out[4] = c[4].add(c[3].shr::<52>());
        out[3] = c[3].and(m52);
        out[4].pin();
    }
}

/// K times the columns, modulo p, of magnitude 1. K is 1, 2, 3, 4 or 8.
#[inline(always)]
pub fn reduce<L: Lane, const N: usize, const K: u64>(c: &Wide<L, N>) -> Fes<L, N> {
    const { assert!(matches!(K, 1 | 2 | 3 | 4 | 8)) };
    let mut c = *c;
    for g in 0..N {
        ripple_high::<L, K>(&mut c[g]);
    }
    for g in 0..N {
        fold::<L, K>(&mut c[g]);
    }
    let mut out = [Fe([L::splat(0); 5]); N];
    for g in 0..N {
        ripple_low(&mut c[g], &mut out[g].0);
    }
    out
}

/// K * a * b.
#[inline(always)]
pub fn mul_by<L: Lane, const N: usize, const K: u64>(a: &Fes<L, N>, b: &Fes<L, N>) -> Fes<L, N> {
    let mut c = wide();
    wide_mul(&mut c, a, b);
    reduce::<L, N, K>(&c)
}

/// a * b.
#[inline(always)]
pub fn mul<L: Lane, const N: usize>(a: &Fes<L, N>, b: &Fes<L, N>) -> Fes<L, N> {
    mul_by::<L, N, 1>(a, b)
}

/// K * a * a.
#[inline(always)]
pub fn square_by<L: Lane, const N: usize, const K: u64>(a: &Fes<L, N>) -> Fes<L, N> {
    reduce::<L, N, K>(&wide_square(a))
}

/// a * a.
#[inline(always)]
pub fn square<L: Lane, const N: usize>(a: &Fes<L, N>) -> Fes<L, N> {
    square_by::<L, N, 1>(a)
}

part! {
    /// Each limb carries into the next before that one does.
    fn ripple [](a: &'a mut [L; 5]) {
        let m52 = L::splat(M52);
        for i in 0..4 {
            a[i + 1] = a[i + 1].add(a[i].shr::<52>());
            a[i] = a[i].and(m52);
        }
    }
}

part! {
    /// a + k - b, limb by limb.
    fn apart [](a: &'a mut [L; 5], k: &'a [u64; 5], b: &'a [L; 5]) {
        for i in 0..5 {
            a[i] = a[i].add(L::splat(k[i])).sub(b[i]);
        }
    }
}

/// Limbs carried, the value as it is (below 2^260).
#[inline(always)]
pub fn carry<L: Lane, const N: usize>(a: &Fes<L, N>) -> Fes<L, N> {
    let mut a = *a;
    for a in &mut a {
        ripple(&mut a.0);
    }
    a
}

/// a - b for b of magnitude 1; two more than the magnitude of a.
#[inline(always)]
pub fn sub<L: Lane, const N: usize>(a: &Fes<L, N>, b: &Fes<L, N>) -> Fes<L, N> {
    let mut out = *a;
    for g in 0..N {
        apart(&mut out[g].0, &P2, &b[g].0);
    }
    carry(&out)
}

/// -b for b of magnitude 1; magnitude 2.
#[inline(always)]
pub fn negate<L: Lane, const N: usize>(b: &Fes<L, N>) -> Fes<L, N> {
    sub(&[Fe([L::splat(0); 5]); N], b)
}

part! {
    /// a + a, limb by limb.
    fn doubled [](a: &'a mut [L; 5]) {
        for i in 0..5 {
            a[i] = a[i].add(a[i]);
        }
    }
}

/// 2a; twice the magnitude.
#[inline(always)]
pub fn twice<L: Lane, const N: usize>(a: &Fes<L, N>) -> Fes<L, N> {
    let mut out = *a;
    for out in &mut out {
        doubled(&mut out.0);
    }
    carry(&out)
}

/// The same number, of magnitude 1.
#[inline(always)]
pub fn narrow<L: Lane, const N: usize>(a: &Fes<L, N>) -> Fes<L, N> {
    let mut c = wide::<L, N>();
    for g in 0..N {
        for i in 0..5 {
            c[g][i] = a[g].0[i];
        }
    }
    reduce::<L, N, 1>(&c)
}

impl<L: Lane> Fe<L> {
    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(k: [u64; 5]) -> Self {
        Self(limbs(k))
    }

    /// From four words of 64 bits, the lowest first.
    #[inline(always)]
    pub fn from_words(w: &[L; 4]) -> Self {
        let m = L::splat(M52);
        Self([
            w[0].and(m),
            w[0].shr::<52>().or(w[1].shl::<12>()).and(m),
            w[1].shr::<40>().or(w[2].shl::<24>()).and(m),
            w[2].shr::<28>().or(w[3].shl::<36>()).and(m),
            w[3].shr::<16>(),
        ])
    }

    /// The four words of a canonical number.
    #[inline(always)]
    pub fn to_words(self) -> [L; 4] {
        let a = self.0;
        [
            a[0].or(a[1].shl::<52>()),
            a[1].shr::<12>().or(a[2].shl::<40>()),
            a[2].shr::<24>().or(a[3].shl::<28>()),
            a[3].shr::<36>().or(a[4].shl::<16>()),
        ]
    }

    /// Lanes that are 0 modulo p, for what came out of [`reduce`].
    #[inline(always)]
    pub fn zeros(&self) -> u8 {
        let a = &self.0;
        let zero = a[0].or(a[1]).or(a[2]).or(a[3]).or(a[4]);
        let p = limbs::<L>(P);
        let mut same = a[0].xor(p[0]);
        for i in 1..5 {
            same = same.or(a[i].xor(p[i]));
        }
        zero.zeros() | same.zeros()
    }

    /// The one number below p, for what came out of [`reduce`]: p goes where adding 2^256 - p reaches 2^256.
    #[inline(always)]
    pub fn canonical(&self) -> Self {
        let mut t = *self;
        t.0[0] = t.0[0].add(L::splat(FOLD_256));
        let mut t = carry(&[t])[0];
        let below = t.0[4].shr::<48>().zeros();
        t.0[4] = t.0[4].and(L::splat(M48));
        let mut out = t;
        for i in 0..5 {
            out.0[i] = t.0[i].select(below, self.0[i]);
        }
        out
    }

    /// Where the bit of `mask` is set `b`, else `self`.
    #[inline(always)]
    pub fn select(&self, mask: u8, b: &Self) -> Self {
        let mut out = *self;
        for i in 0..5 {
            out.0[i] = self.0[i].select(mask, b.0[i]);
        }
        out
    }

    /// From limbs in memory.
    #[inline(always)]
    pub fn load(lines: &[Line; 5]) -> Self {
        Self([
            L::load(&lines[0]),
            L::load(&lines[1]),
            L::load(&lines[2]),
            L::load(&lines[3]),
            L::load(&lines[4]),
        ])
    }

    /// The limbs in memory.
    #[inline(always)]
    pub fn store(&self) -> [Line; 5] {
        let a = &self.0;
        [a[0].store(), a[1].store(), a[2].store(), a[3].store(), a[4].store()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ifma::model::Model;
    use crate::ifma::scalar;
    use crate::proof::draw::Draw;

    /// Limbs at which something carries: all zeros, all ones, one, nearly p.
    fn structured(draw: &mut Draw, magnitude: u64) -> [Line; 5] {
        let mut lines = [Line([0; 8]); 5];
        for lane in 0..8 {
            for (i, line) in lines.iter_mut().enumerate() {
                let limit = if i < 4 { 1 << 52 } else { magnitude << 48 };
                line.0[lane] = match draw.below(6) {
                    0 => 0,
                    1 => limit - 1,
                    2 => 1,
                    3 => limit - 1 - draw.below(4),
                    _ => draw.word() % limit,
                };
            }
            if draw.below(8) == 0 {
                let near_p = [P[0] - 1 + draw.below(3), P[1], P[2], P[3], P[4]];
                for (line, limb) in lines.iter_mut().zip(near_p) {
                    line.0[lane] = limb;
                }
            }
        }
        lines
    }

    type Words = [u64; 4];

    fn less_p(a: Words) -> Words {
        if scalar::less(&a, &scalar::P) { a } else { scalar::sub(&a, &scalar::P).0 }
    }

    /// a + b modulo p, for both below p: a - (p - b).
    fn plain_add(a: Words, b: Words) -> Words {
        let (difference, borrow) = scalar::sub(&a, &scalar::sub(&scalar::P, &b).0);
        if borrow == 0 {
            return less_p(difference);
        }
        // What wrapped below zero is missing p: taking away 2^256 - p modulo 2^256 gives it back.
        scalar::sub(&difference, &[FOLD_256, 0, 0, 0]).0
    }

    /// a * b modulo p, bit by bit: slow and plain.
    fn plain_mul(a: Words, b: Words) -> Words {
        let mut sum = [0; 4];
        for i in (0..256).rev() {
            sum = plain_add(sum, sum);
            if b[i / 64] >> (i % 64) & 1 == 1 {
                sum = plain_add(sum, a);
            }
        }
        sum
    }

    /// The number in a lane modulo p.
    fn plain(lines: &[Line; 5], lane: usize) -> Words {
        let mut sum = [0; 4];
        for line in lines.iter().rev() {
            for _ in 0..52 {
                sum = plain_add(sum, sum);
            }
            sum = plain_add(sum, [line.0[lane], 0, 0, 0]);
        }
        sum
    }

    /// Expressions of the shapes that the steps use.
    const SHAPES: usize = 9;

    fn shapes<L: Lane>(inputs: &[[Line; 5]; 4]) -> [[Line; 5]; SHAPES] {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| [Fe::<L>::load(&inputs[i])]);
        let mut eight = wide_square(&c);
        wide_eight(&mut eight);
        wide_mul(&mut eight, &a, &b);
        let mut less = wide_square(&a);
        wide_add(&mut less, P4);
        wide_sub(&mut less, &c);
        wide_sub_twice(&mut less, &d);
        let mut product_less = wide_from(P2);
        wide_sub(&mut product_less, &c);
        wide_mul(&mut product_less, &a, &b);
        [
            mul(&a, &b),
            square(&a),
            square_by::<L, 1, 3>(&c),
            square_by::<L, 1, 8>(&c),
            mul_by::<L, 1, 4>(&c, &d),
            mul_by::<L, 1, 2>(&a, &d),
            reduce::<L, 1, 1>(&eight),
            reduce::<L, 1, 1>(&less),
            reduce::<L, 1, 1>(&product_less),
        ]
        .map(|out| out[0].store())
    }

    fn expected(inputs: &[[Line; 5]; 4], lane: usize) -> [Words; SHAPES] {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| plain(&inputs[i], lane));
        let times = |k: u64, x: Words| plain_mul(x, [k, 0, 0, 0]);
        let minus = |x: Words| less_p(scalar::sub(&scalar::P, &x).0);
        let (ab, aa, cc) = (plain_mul(a, b), plain_mul(a, a), plain_mul(c, c));
        [
            ab,
            aa,
            times(3, cc),
            times(8, cc),
            times(4, plain_mul(c, d)),
            times(2, plain_mul(a, d)),
            plain_add(times(8, cc), ab),
            plain_add(aa, minus(plain_add(c, times(2, d)))),
            plain_add(ab, minus(c)),
        ]
    }

    #[test]
    fn structured_limbs_give_the_plain_results_within_their_bounds_in_every_lane() {
        let mut draw = Draw::new(11);
        for _ in 0..150 {
            let inputs = [3, 3, 1, 1].map(|magnitude| structured(&mut draw, magnitude));
            let out = shapes::<Model>(&inputs);
            #[cfg(target_arch = "x86_64")]
            if crate::ifma::zmm::is_available() {
                assert_eq!(shapes::<crate::ifma::zmm::Zmm>(&inputs), out, "limb for limb");
            }
            for lane in 0..8 {
                let expected = expected(&inputs, lane);
                for (shape, (lines, expected)) in out.iter().zip(expected).enumerate() {
                    assert!(lines.iter().all(|line| line.0[lane] <= M52), "shape {shape}");
                    assert!(
                        lines[4].0[lane] <= M48 + (1 << 10),
                        "shape {shape}: above magnitude 1"
                    );
                    assert_eq!(plain(lines, lane), expected, "shape {shape}");
                    let fe = Fe::<Model>::load(lines);
                    let canonical = fe.canonical();
                    let words = canonical.to_words().map(|word| word.0[lane]);
                    assert_eq!(words, expected, "shape {shape}: canonical");
                    assert_eq!(fe.zeros() >> lane & 1 == 1, expected == [0; 4]);
                }
            }
        }
    }

    #[test]
    fn zero_is_recognised_as_zero_and_as_p_and_nothing_else_is() {
        assert_eq!(Fe::<Model>::splat([0; 5]).zeros(), 0xff);
        assert_eq!(Fe::<Model>::splat(P).zeros(), 0xff);
        for limb in 0..5 {
            for bit in [0, 1, 31, 47] {
                let (mut near_0, mut near_p) = ([0; 5], P);
                near_0[limb] = 1 << bit;
                near_p[limb] ^= 1 << bit;
                assert_eq!(Fe::<Model>::splat(near_0).zeros(), 0, "limb {limb}");
                assert_eq!(Fe::<Model>::splat(near_p).zeros(), 0, "limb {limb}");
            }
        }
    }

    #[test]
    fn the_canonical_limbs_of_p_and_more_are_those_of_what_is_left() {
        for more in [0, 1, 5, FOLD_256 - 1, FOLD_256, FOLD_256 + 9] {
            let mut limbs = P;
            limbs[0] += more;
            let carried = carry(&[Fe::<Model>::splat(limbs)])[0];
            let got = carried.canonical().0.map(|limb| limb.0[0]);
            assert_eq!(got, [more, 0, 0, 0, 0]);
        }
        let mut below = P;
        below[0] -= 1;
        assert_eq!(Fe::<Model>::splat(below).canonical().0.map(|limb| limb.0[0]), below);
    }
}
