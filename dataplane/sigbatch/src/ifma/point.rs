//! Points in Jacobian coordinates, eight to a group: doubling, mixed addition, the table of odd multiples of a key.
//!
//! The formulas give the *negative* of a doubling and of an addition, which saves the negations; as the order of operations is
//! the same for every input, the sign is known without looking ([`super::ecmult`] keeps it), and the end compares x only.
//! They are incomplete, and that is safe: where the two points of an addition are equal or opposite Z becomes 0, both formulas
//! keep Z = 0, and the group has no point of order 2, so Z != 0 at the end proves that no exceptional case was met. A lane
//! with Z = 0 is not judged here.
//!
//! Cost: a doubling 3 products and 4 squares, an addition 8 and 3 (one more product against the fixed tables).

use super::field::*;
use super::lane::{Lane, Line, Step};

/// N * 8 points.
#[derive(Clone, Copy, Debug)]
pub struct Points<L, const N: usize> {
    /// X / Z^2 is x.
    pub x: Fes<L, N>,
    /// Y / Z^3 is y.
    pub y: Fes<L, N>,
    /// 0 for infinity.
    pub z: Fes<L, N>,
}

/// Makes a struct of borrowed arguments a [`Step`].
macro_rules! step {
    ($(#[$doc:meta])* $name:ident { $($arg:ident: $ty:ty),* $(,)? } $body:block) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<'a, L, const N: usize> {
            $(#[allow(missing_docs)] pub $arg: $ty,)*
        }
        impl<L: Lane, const N: usize> Step for $name<'_, L, N> {
            #[inline(always)]
            fn run(self) {
                let Self { $($arg),* } = self;
                $body
            }
        }
    };
}
pub(super) use step;

step! {
    /// p becomes -2p.
    Double { p: &'a mut Points<L, N> } {
        let (x, y, z) = (p.x, p.y, p.z);
        let s = square(&y);
        let m = square_by::<L, N, 3>(&x);
        let u = mul_by::<L, N, 4>(&x, &s);
        p.z = mul_by::<L, N, 2>(&y, &z);
        // X = M^2 - 2U
        let mut w = wide_square(&m);
        wide_add(&mut w, P4);
        wide_sub_twice(&mut w, &u);
        let x = reduce::<L, N, 1>(&w);
        // -Y = M (X - U) + 8 S^2
        let mut w = wide_square(&s);
        wide_eight(&mut w);
        let d = sub(&x, &u);
        wide_mul(&mut w, &m, &d);
        p.y = reduce::<L, N, 1>(&w);
        p.x = x;
    }
}

step! {
    /// p becomes -(p + (x, y)) for a point of the key's table.
    Add { p: &'a mut Points<L, N>, x: &'a Fes<L, N>, y: &'a Fes<L, N> } {
        let z = p.z;
        add_with(p, &z, x, y);
    }
}

step! {
    /// p becomes -(p + (x, y)) for a point of a fixed table: p stands in a frame in which its true Z is Z * `frame`.
    AddFixed { p: &'a mut Points<L, N>, frame: &'a Fes<L, N>, x: &'a Fes<L, N>, y: &'a Fes<L, N> } {
        let z = mul(&p.z, frame);
        add_with(p, &z, x, y);
    }
}

/// `z` is what x and y are brought to p's frame with.
#[inline(always)]
fn add_with<L: Lane, const N: usize>(
    p: &mut Points<L, N>,
    z: &Fes<L, N>,
    x2: &Fes<L, N>,
    y2: &Fes<L, N>,
) {
    let z2 = square(z);
    let z3 = mul(&z2, z);
    let mut w = wide_from(P2);
    wide_sub(&mut w, &p.x);
    wide_mul(&mut w, x2, &z2);
    let h = reduce::<L, N, 1>(&w);
    let mut w = wide_from(P2);
    wide_sub(&mut w, &p.y);
    wide_mul(&mut w, y2, &z3);
    let r = reduce::<L, N, 1>(&w);
    let h2 = square(&h);
    let h3 = mul(&h, &h2);
    let v = mul(&p.x, &h2);
    p.z = mul(&p.z, &h);
    // X = R^2 - H^3 - 2V
    let mut w = wide_square(&r);
    wide_add(&mut w, P4);
    wide_sub(&mut w, &h3);
    wide_sub_twice(&mut w, &v);
    let x = reduce::<L, N, 1>(&w);
    // -Y = R (X - V) + Y1 H^3
    let d = sub(&x, &v);
    let mut w = wide();
    wide_mul(&mut w, &p.y, &h3);
    wide_mul(&mut w, &r, &d);
    p.y = reduce::<L, N, 1>(&w);
    p.x = x;
}

step! {
    /// a becomes a^(2^times).
    SquareTimes { a: &'a mut Fes<L, N>, times: u32 } {
        for _ in 0..times {
            *a = square(a);
        }
    }
}

step! {
    /// a becomes a * b.
    MulInto { a: &'a mut Fes<L, N>, b: &'a Fes<L, N> } {
        *a = mul(a, b);
    }
}

/// a^(2^times) * b.
#[inline(always)]
fn power<L: Lane, const N: usize>(a: &Fes<L, N>, times: u32, b: &Fes<L, N>) -> Fes<L, N> {
    let mut t = *a;
    L::outlined(SquareTimes { a: &mut t, times });
    L::outlined(MulInto { a: &mut t, b });
    t
}

/// a^(2^2 - 1), a^(2^22 - 1), a^(2^223 - 1).
#[inline(always)]
fn runs_of_ones<L: Lane, const N: usize>(a: &Fes<L, N>) -> [Fes<L, N>; 3] {
    let x2 = power(a, 1, a);
    let x3 = power(&x2, 1, a);
    let x6 = power(&x3, 3, &x3);
    let x9 = power(&x6, 3, &x3);
    let x11 = power(&x9, 2, &x2);
    let x22 = power(&x11, 11, &x11);
    let x44 = power(&x22, 22, &x22);
    let x88 = power(&x44, 44, &x44);
    let x176 = power(&x88, 88, &x88);
    let x220 = power(&x176, 44, &x44);
    [x2, x22, power(&x220, 3, &x3)]
}

/// a^((p + 1) / 4): a square root of a, if there is one.
#[inline(always)]
pub fn root<L: Lane, const N: usize>(a: &Fes<L, N>) -> Fes<L, N> {
    let [x2, x22, x223] = runs_of_ones(a);
    let t = power(&x223, 23, &x22);
    let mut t = power(&t, 6, &x2);
    L::outlined(SquareTimes { a: &mut t, times: 2 });
    t
}

/// a^(p - 2): 1 / a.
#[inline(always)]
pub fn inverse<L: Lane, const N: usize>(a: &Fes<L, N>) -> Fes<L, N> {
    let [x2, x22, x223] = runs_of_ones(a);
    let t = power(&x223, 23, &x22);
    let t = power(&t, 5, a);
    let t = power(&t, 3, &x2);
    power(&t, 2, a)
}

/// A cube root of 1: x becomes the x of lambda times the point.
const BETA: [u64; 5] = {
    const M: u64 = super::lane::M52;
    let w = [0xc1396c28719501eeu64, 0x9cf0497512f58995, 0x6e64479eac3434e9, 0x7ae96a2b657c0710];
    [
        w[0] & M,
        (w[0] >> 52 | w[1] << 12) & M,
        (w[1] >> 40 | w[2] << 24) & M,
        (w[2] >> 28 | w[3] << 36) & M,
        w[3] >> 16,
    ]
};

/// Odd multiples a window of the key's halves can name: Q, 3Q, .. 31Q.
pub const MULTIPLES: usize = 16;

/// One group's multiples of its keys: x, beta * x, and y for the digits -31, -29, .. 31.
#[derive(Clone, Debug)]
pub struct KeyTable {
    /// x of the multiples.
    pub x: [[Line; 5]; MULTIPLES],
    /// x of lambda times the multiples.
    pub beta_x: [[Line; 5]; MULTIPLES],
    /// -y of 31Q .. Q, then y of Q .. 31Q.
    pub y: [[Line; 5]; 2 * MULTIPLES],
}

/// Room to build the tables of N groups in.
#[derive(Clone, Debug)]
pub struct Scratch<L, const N: usize> {
    /// What comes out.
    pub tables: [KeyTable; N],
    x: [Fes<L, N>; MULTIPLES],
    y: [Fes<L, N>; MULTIPLES],
    /// Z of multiple i over Z of multiple i - 1.
    ratio: [Fes<L, N>; MULTIPLES],
}

impl<L: Lane, const N: usize> Default for Scratch<L, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<L: Lane, const N: usize> Scratch<L, N> {
    /// Empty tables.
    pub fn new() -> Self {
        let row = [Line([0; 8]); 5];
        let table = KeyTable { x: [row; 16], beta_x: [row; 16], y: [row; 32] };
        let numbers = [[Fe::splat([0; 5]); N]; MULTIPLES];
        Self {
            tables: core::array::from_fn(|_| table.clone()),
            x: numbers,
            y: numbers,
            ratio: numbers,
        }
    }
}

step! {
    /// A becomes A + D, D is brought to the new Z (co-Z addition); `ratio` is new Z over old.
    AddSameZ {
        dx: &'a mut Fes<L, N>,
        dy: &'a mut Fes<L, N>,
        ax: &'a mut Fes<L, N>,
        ay: &'a mut Fes<L, N>,
        ratio: &'a mut Fes<L, N>,
    } {
        let x_apart = sub(dx, ax);
        *ratio = x_apart;
        let c = square(&x_apart);
        let w1 = mul(dx, &c);
        let w2 = mul(ax, &c);
        let y_apart = sub(dy, ay);
        let mut w = wide_square(&y_apart);
        wide_add(&mut w, P4);
        wide_sub(&mut w, &w1);
        wide_sub(&mut w, &w2);
        let x = reduce::<L, N, 1>(&w);
        let e = sub(&w1, &w2);
        let a1 = mul(dy, &e);
        let f = sub(&w1, &x);
        let mut w = wide_from(P2);
        wide_sub(&mut w, &a1);
        wide_mul(&mut w, &y_apart, &f);
        *ay = reduce::<L, N, 1>(&w);
        *ax = x;
        *dx = w1;
        *dy = a1;
    }
}

step! {
    /// (x, y) becomes (x r^2, y r^3).
    Rescale { r: &'a Fes<L, N>, x: &'a mut Fes<L, N>, y: &'a mut Fes<L, N> } {
        let r2 = square(r);
        let r3 = mul(&r2, r);
        *x = mul(x, &r2);
        *y = mul(y, &r3);
    }
}

step! {
    /// Writes multiple `i` into the tables.
    Put { tables: &'a mut [KeyTable; N], i: usize, x: &'a Fes<L, N>, y: &'a Fes<L, N> } {
        let beta = [Fe::splat(BETA); N];
        let beta_x = mul(x, &beta);
        let minus_y = negate(y);
        for g in 0..N {
            let t = &mut tables[g];
            t.x[i] = x[g].store();
            t.beta_x[i] = beta_x[g].store();
            t.y[MULTIPLES + i] = y[g].store();
            t.y[MULTIPLES - 1 - i] = minus_y[g].store();
        }
    }
}

/// The tables of the keys (x, y), all multiples with one Z, as if they were affine; gives that Z.
#[inline(always)]
pub fn build_tables<L: Lane, const N: usize>(
    s: &mut Scratch<L, N>,
    qx: &Fes<L, N>,
    qy: &Fes<L, N>,
) -> Fes<L, N> {
    // D = 2Q with Z = 2y, and Q brought to the same Z: (4xy^2, 8y^4).
    let b = square(qy);
    let m = square_by::<L, N, 3>(qx);
    let u = mul_by::<L, N, 4>(qx, &b);
    let l = square_by::<L, N, 8>(&b);
    let mut w = wide_square(&m);
    wide_add(&mut w, P4);
    wide_sub_twice(&mut w, &u);
    let mut dx = reduce::<L, N, 1>(&w);
    let d = sub(&u, &dx);
    let mut w = wide_from(P2);
    wide_sub(&mut w, &l);
    wide_mul(&mut w, &m, &d);
    let mut dy = reduce::<L, N, 1>(&w);
    let first_z = twice(qy);
    let (mut ax, mut ay) = (u, l);
    s.x[0] = ax;
    s.y[0] = ay;
    for i in 1..MULTIPLES {
        L::outlined(AddSameZ {
            dx: &mut dx,
            dy: &mut dy,
            ax: &mut ax,
            ay: &mut ay,
            ratio: &mut s.ratio[i],
        });
        s.x[i] = ax;
        s.y[i] = ay;
    }
    // From the last backwards, each is multiplied by the ratio of the last Z to its own.
    let mut r = s.ratio[MULTIPLES - 1];
    L::outlined(Put { tables: &mut s.tables, i: MULTIPLES - 1, x: &ax, y: &ay });
    for i in (0..MULTIPLES - 1).rev() {
        let (mut x, mut y) = (s.x[i], s.y[i]);
        L::outlined(Rescale { r: &r, x: &mut x, y: &mut y });
        L::outlined(Put { tables: &mut s.tables, i, x: &x, y: &y });
        if i > 0 {
            L::outlined(MulInto { a: &mut r, b: &s.ratio[i] });
        }
    }
    mul(&first_z, &r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ifma::fixed::{coordinates, line_of};
    use crate::ifma::model::Model;
    use crate::ifma::scalar;
    use crate::proof::draw::Draw;
    use secp256k1::{PublicKey, Scalar, SecretKey};

    type Group = Points<Model, 1>;

    fn one() -> Fes<Model, 1> {
        [Fe::splat([1, 0, 0, 0, 0])]
    }

    fn points(draw: &mut Draw) -> [PublicKey; 8] {
        core::array::from_fn(|_| {
            let secret = SecretKey::from_secret_bytes(draw.bytes()).expect("almost surely below n");
            PublicKey::from_secret_key(&secret)
        })
    }

    fn affine(points: &[PublicKey; 8]) -> (Fes<Model, 1>, Fes<Model, 1>) {
        let (x, y) = coordinates::<Model>(&points.map(|point| line_of(&point)));
        ([x], [y])
    }

    /// Coordinates of eight points whose Z is `z`, as rows of words.
    fn rows(x: &Fes<Model, 1>, y: &Fes<Model, 1>, z: &Fes<Model, 1>) -> [Line; 8] {
        let back = inverse(z);
        let (x, y) = (mul(x, &square(&back)), mul(y, &mul(&square(&back), &back)));
        let (x, y) = (x[0].canonical().to_words(), y[0].canonical().to_words());
        core::array::from_fn(|lane| {
            let word = |i: usize| if i < 4 { x[i].0[lane] } else { y[i - 4].0[lane] };
            Line(core::array::from_fn(word))
        })
    }

    fn assert_points(p: &Group, frame: &Fes<Model, 1>, expected: &[PublicKey; 8]) {
        assert_eq!(p.z[0].zeros(), 0);
        let got = rows(&p.x, &p.y, &mul(&p.z, frame));
        assert_eq!(got, expected.map(|point| line_of(&point)));
    }

    fn doubled(p: &[PublicKey; 8]) -> [PublicKey; 8] {
        p.map(|p| p.combine(&p).expect("no point has order 2").negate())
    }

    fn added(p: &[PublicKey; 8], q: &[PublicKey; 8]) -> [PublicKey; 8] {
        core::array::from_fn(|i| p[i].combine(&q[i]).expect("not opposite").negate())
    }

    #[test]
    fn doublings_and_additions_give_the_negatives_of_libsecp256k1s() {
        let mut draw = Draw::new(21);
        for _ in 0..4 {
            let (mut at, q) = (points(&mut draw), points(&mut draw));
            let (x, y) = affine(&at);
            let mut p = Group { x, y, z: one() };
            let (qx, qy) = affine(&q);
            for _ in 0..2 {
                Model::outlined(Double { p: &mut p });
                at = doubled(&at);
                assert_points(&p, &one(), &at);
                Model::outlined(Add { p: &mut p, x: &qx, y: &qy });
                at = added(&at, &q);
                assert_points(&p, &one(), &at);
            }
        }
    }

    #[test]
    fn an_addition_in_another_frame_is_one_in_this() {
        let mut draw = Draw::new(22);
        let (at, q) = (points(&mut draw), points(&mut draw));
        let (frame, _) = affine(&points(&mut draw));
        let (x, y) = affine(&at);
        let f2 = square(&frame);
        // (x, y) seen from the frame, then given a Z of its own by a doubling.
        let mut p = Group { x: mul(&x, &f2), y: mul(&y, &mul(&f2, &frame)), z: one() };
        let (qx, qy) = affine(&q);
        Model::outlined(AddFixed { p: &mut p, frame: &frame, x: &qx, y: &qy });
        let at = added(&at, &q);
        assert_points(&p, &frame, &at);
        Model::outlined(AddFixed { p: &mut p, frame: &frame, x: &qx, y: &qy });
        assert_points(&p, &frame, &added(&at, &q));
    }

    #[test]
    fn exceptional_lanes_get_z_0_keep_it_and_touch_no_other_lane() {
        let mut draw = Draw::new(23);
        let q = points(&mut draw);
        let (qx, qy) = affine(&q);
        // Lanes 0 to 2: the point itself, its opposite, infinity. The others are any.
        let mut at = points(&mut draw);
        (at[0], at[1]) = (q[0], q[1].negate());
        let (x, y) = affine(&at);
        let mut z = Line([1; 8]);
        z.0[2] = 0;
        let mut z_limbs = [Line([0; 8]); 5];
        z_limbs[0] = z;
        let mut p = Group { x, y, z: [Fe::load(&z_limbs)] };
        Model::outlined(Add { p: &mut p, x: &qx, y: &qy });
        assert_eq!(p.z[0].zeros(), 0b111);
        let mut expected = core::array::from_fn(|i| {
            if i < 3 { q[i] } else { at[i].combine(&q[i]).expect("not opposite").negate() }
        });
        let (rx, ry) = affine(&points(&mut draw));
        for step in 0..4 {
            if step % 2 == 0 {
                Model::outlined(Double { p: &mut p });
                expected = doubled(&expected);
            } else {
                Model::outlined(AddFixed { p: &mut p, frame: &one(), x: &rx, y: &ry });
                let r = rows(&rx, &ry, &one());
                for (lane, point) in expected.iter_mut().enumerate() {
                    let other = key_of(&r[lane]);
                    *point = point.combine(&other).expect("not opposite").negate();
                }
            }
            assert_eq!(p.z[0].zeros(), 0b111, "step {step}");
        }
        let got = rows(&p.x, &p.y, &p.z);
        for lane in 3..8 {
            assert_eq!(got[lane], line_of(&expected[lane]), "lane {lane}");
        }
    }

    fn key_of(row: &Line) -> PublicKey {
        let mut bytes = [4; 65];
        for i in 0..8 {
            let at = if i < 4 { 25 - 8 * i } else { 57 - 8 * (i - 4) };
            bytes[at..at + 8].copy_from_slice(&row.0[i].to_be_bytes());
        }
        PublicKey::from_slice(&bytes).expect("a row is a point")
    }

    #[test]
    fn the_table_of_a_key_holds_its_odd_multiples_and_lambdas_in_one_frame() {
        const LAMBDA: [u8; 32] = [
            0x53, 0x63, 0xad, 0x4c, 0xc0, 0x5c, 0x30, 0xe0, 0xa5, 0x26, 0x1c, 0x02, 0x88, 0x12,
            0x64, 0x5a, 0x12, 0x2e, 0x22, 0xea, 0x20, 0x81, 0x66, 0x78, 0xdf, 0x02, 0x96, 0x7c,
            0x1b, 0x23, 0xbd, 0x72,
        ];
        let times = |point: &PublicKey, k: [u8; 32]| {
            point.mul_tweak(&Scalar::from_be_bytes(k).expect("below n")).expect("not 0")
        };
        let q = points(&mut Draw::new(24));
        let (x, y) = affine(&q);
        let mut scratch = Scratch::<Model, 1>::new();
        let frame = build_tables(&mut scratch, &x, &y);
        let t = &scratch.tables[0];
        for i in 0..MULTIPLES {
            let mut k = [0; 32];
            k[31] = 2 * i as u8 + 1;
            let multiples = q.map(|q| times(&q, k));
            let (tx, ty) = ([Fe::load(&t.x[i])], [Fe::load(&t.y[MULTIPLES + i])]);
            assert_eq!(rows(&tx, &ty, &frame), multiples.map(|point| line_of(&point)));
            let minus = [Fe::load(&t.y[MULTIPLES - 1 - i])];
            assert_eq!(rows(&tx, &minus, &frame), multiples.map(|p| line_of(&p.negate())));
            let beta_x = [Fe::load(&t.beta_x[i])];
            let of_lambda = multiples.map(|point| line_of(&times(&point, LAMBDA)));
            assert_eq!(rows(&beta_x, &ty, &frame), of_lambda);
        }
    }

    #[test]
    fn roots_squared_and_inverses_multiplied_give_the_number_back() {
        let mut draw = Draw::new(25);
        let (a, _) = affine(&points(&mut draw));
        let words = |a: &Fes<Model, 1>| a[0].canonical().to_words();
        let residue = square(&a);
        assert_eq!(words(&square(&root(&residue))), words(&residue));
        assert_eq!(words(&mul(&a, &inverse(&a))), words(&one()));
        assert_eq!(scalar::P[1..], [u64::MAX; 3], "exponents are runs of ones because p is");
    }
}
