//! Lanes as polynomials: one run of the field arithmetic proves what it computes, for every input.
//!
//! A lane is a sum of products of the unknown input limbs with whole coefficients. Whatever cuts bits off brings a new unknown
//! for what is above the cut: x >> s is q, and x & (2^s - 1) is x - 2^s q, with one q for each x and s. (That nothing overflows
//! is what `interval` proves; only then is this exact.) At the end the limbs are put together modulo p: if the unknowns that came
//! with the cuts have all gone and what is left is the wanted polynomial, the arithmetic is right for all limbs there are.

use super::lane::{Lane, Line, Step};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Up to two unknowns; 0 stands for none.
type Product = (u32, u32);
/// Coefficients of products; none is 0.
type Sum = BTreeMap<Product, i128>;

/// Where the polynomials of a thread live, and the unknowns of cuts, by what was cut and where.
#[derive(Default)]
struct Book {
    sums: Vec<Sum>,
    cuts: BTreeMap<(Vec<(Product, i128)>, u32), u32>,
    unknowns: u32,
}

thread_local! {
    static BOOK: RefCell<Book> = RefCell::default();
}

/// A polynomial, by its place in the book.
#[derive(Clone, Copy, Debug)]
pub struct Algebra(usize);

fn put(sum: Sum) -> Algebra {
    BOOK.with_borrow_mut(|book| {
        book.sums.push(sum);
        Algebra(book.sums.len() - 1)
    })
}

fn scaled(sum: &Sum, k: i128) -> Sum {
    let times = |c: &i128| c.checked_mul(k).expect("coefficients stay below 2^127");
    sum.iter().map(|(product, c)| (*product, times(c))).filter(|(_, c)| *c != 0).collect()
}

fn plus(a: &Sum, b: &Sum, k: i128) -> Sum {
    let mut out = a.clone();
    for (product, c) in scaled(b, k) {
        let place = out.entry(product).or_default();
        *place += c;
        if *place == 0 {
            out.remove(&product);
        }
    }
    out
}

fn product(a: &Sum, b: &Sum) -> Sum {
    let mut out = Sum::new();
    for ((a1, a2), ca) in a {
        for ((b1, b2), cb) in b {
            let mut unknowns = [*a1, *a2, *b1, *b2];
            unknowns.sort_unstable();
            assert_eq!(unknowns[1], 0, "at most two unknowns are multiplied");
            let one =
                Sum::from([((unknowns[2], unknowns[3]), ca.checked_mul(*cb).expect("small"))]);
            out = plus(&out, &one, 1);
        }
    }
    out
}

/// The unknown that is x >> s.
fn above(sum: &Sum, s: u32) -> Sum {
    if sum.is_empty() {
        return Sum::new();
    }
    let key = (sum.iter().map(|(product, c)| (*product, *c)).collect(), s);
    let unknown = BOOK.with_borrow_mut(|book| {
        let next = book.unknowns + 1;
        let unknown = *book.cuts.entry(key).or_insert(next);
        book.unknowns = book.unknowns.max(unknown);
        unknown
    });
    Sum::from([((0, unknown), 1)])
}

fn below(sum: &Sum, s: u32) -> Sum {
    plus(sum, &above(sum, s), -(1 << s))
}

impl Algebra {
    fn get(self) -> Sum {
        BOOK.with_borrow(|book| book.sums[self.0].clone())
    }

    /// A new unknown.
    fn unknown() -> Self {
        let unknown = BOOK.with_borrow_mut(|book| {
            book.unknowns += 1;
            book.unknowns
        });
        put(Sum::from([((0, unknown), 1)]))
    }
}

impl Lane for Algebra {
    fn splat(x: u64) -> Self {
        put(plus(&Sum::new(), &Sum::from([((0, 0), 1)]), i128::from(x)))
    }

    fn load(_line: &Line) -> Self {
        unreachable!("a polynomial does not lie in memory")
    }

    fn store(self) -> Line {
        unreachable!("a polynomial does not lie in memory")
    }

    fn add(self, b: Self) -> Self {
        put(plus(&self.get(), &b.get(), 1))
    }

    fn sub(self, b: Self) -> Self {
        put(plus(&self.get(), &b.get(), -1))
    }

    /// Only masks of low bits.
    fn and(self, b: Self) -> Self {
        let mask = b.get().get(&(0, 0)).copied().expect("a mask is a constant");
        let bits = (mask + 1).trailing_zeros();
        assert!(b.get().len() == 1 && mask + 1 == 1 << bits, "a mask of low bits, not {mask:#x}");
        put(below(&self.get(), bits))
    }

    fn or(self, _b: Self) -> Self {
        unreachable!("not arithmetic")
    }

    fn xor(self, _b: Self) -> Self {
        unreachable!("not arithmetic")
    }

    fn scale<const S: u32>(self) -> Self {
        put(scaled(&self.get(), 1 << S))
    }

    fn shl<const S: u32>(self) -> Self {
        unreachable!("bits may be lost: `scale` is the arithmetic one")
    }

    fn shr<const S: u32>(self) -> Self {
        put(above(&self.get(), S))
    }

    fn shl_by(self, _s: u32) -> Self {
        unreachable!("not arithmetic")
    }

    fn shr_by(self, _s: u32) -> Self {
        unreachable!("not arithmetic")
    }

    fn mul_low(self, a: Self, b: Self) -> Self {
        put(plus(&self.get(), &below(&product(&a.get(), &b.get()), 52), 1))
    }

    fn mul_high(self, a: Self, b: Self) -> Self {
        put(plus(&self.get(), &above(&product(&a.get(), &b.get()), 52), 1))
    }

    fn cut_low(self, a: Self, b: Self) -> Self {
        self.mul_low(put(below(&a.get(), 52)), b)
    }

    fn cut_high(self, a: Self, b: Self) -> Self {
        self.mul_high(put(below(&a.get(), 52)), b)
    }

    fn zeros(self) -> u8 {
        unreachable!("not arithmetic")
    }

    fn select(self, _mask: u8, _b: Self) -> Self {
        unreachable!("not arithmetic")
    }

    fn gather<const ROWS: usize>(_table: &[Line; ROWS], _row: Self, _word: usize) -> Self {
        unreachable!("not arithmetic")
    }

    fn gather_own<const ROWS: usize>(_table: &[[Line; 5]; ROWS], _row: Self, _limb: usize) -> Self {
        unreachable!("not arithmetic")
    }

    #[inline(never)]
    fn outlined<S: Step>(step: S) {
        step.run();
    }

    #[inline(never)]
    fn part<S: Step>(step: S) {
        step.run();
    }
}

mod tests {
    use super::*;
    use crate::ifma::field::*;
    use crate::ifma::scalar::{self, Words};

    type One = Fes<Algebra, 1>;

    fn any() -> One {
        [Fe(core::array::from_fn(|_| Algebra::unknown()))]
    }

    fn add_mod(a: Words, b: Words) -> Words {
        let (t, borrow) = scalar::sub(&a, &scalar::sub(&scalar::P, &b).0);
        if borrow == 0 { t } else { scalar::sub(&t, &[FOLD_256, 0, 0, 0]).0 }
    }

    /// k * 2^shift modulo p.
    fn coefficient(k: i128, shift: u32) -> Words {
        let size = k.unsigned_abs();
        let mut out = [size as u64, (size >> 64) as u64, 0, 0];
        for _ in 0..shift {
            out = add_mod(out, out);
        }
        if k < 0 && out != [0; 4] { scalar::sub(&scalar::P, &out).0 } else { out }
    }

    /// Columns or limbs put together: their sum times 2^(52 i), modulo p.
    fn whole(limbs: &[Algebra]) -> BTreeMap<Product, Words> {
        let mut out: BTreeMap<Product, Words> = BTreeMap::new();
        for (i, limb) in limbs.iter().enumerate() {
            for (product, k) in limb.get() {
                let place = out.entry(product).or_default();
                *place = add_mod(*place, coefficient(k, 52 * i as u32));
            }
        }
        out.retain(|_, k| *k != [0; 4] && *k != scalar::P);
        out
    }

    /// a * b * k as columns, each limb's product whole in one column.
    fn columns(a: &One, b: &One, k: i128) -> [Algebra; 9] {
        core::array::from_fn(|column| {
            let mut sum = Sum::new();
            for i in 0..5 {
                if (i..i + 5).contains(&column) {
                    let one = product(&a[0].0[i].get(), &b[0].0[column - i].get());
                    sum = plus(&sum, &one, k);
                }
            }
            put(sum)
        })
    }

    fn combined(parts: &[(&[Algebra], i128)]) -> BTreeMap<Product, Words> {
        let most = parts.iter().map(|(limbs, _)| limbs.len()).max().unwrap_or(0);
        let limbs: Vec<Algebra> = (0..most)
            .map(|i| {
                let here = parts.iter().filter_map(|(limbs, k)| Some((limbs.get(i)?, k)));
                put(here.fold(Sum::new(), |sum, (limb, k)| plus(&sum, &limb.get(), *k)))
            })
            .collect();
        whole(&limbs)
    }

    #[track_caller]
    fn assert_is(got: &One, wanted: &[(&[Algebra], i128)]) {
        assert_eq!(whole(&got[0].0), combined(wanted));
    }

    #[test]
    fn products_and_squares_with_every_factor_are_what_they_are_called() {
        let (a, b) = (any(), any());
        assert_is(&mul(&a, &b), &[(&columns(&a, &b, 1), 1)]);
        assert_is(&mul_by::<Algebra, 1, 2>(&a, &b), &[(&columns(&a, &b, 2), 1)]);
        assert_is(&mul_by::<Algebra, 1, 3>(&a, &b), &[(&columns(&a, &b, 3), 1)]);
        assert_is(&mul_by::<Algebra, 1, 4>(&a, &b), &[(&columns(&a, &b, 4), 1)]);
        assert_is(&mul_by::<Algebra, 1, 8>(&a, &b), &[(&columns(&a, &b, 8), 1)]);
        assert_is(&square(&a), &[(&columns(&a, &a, 1), 1)]);
        assert_is(&square_by::<Algebra, 1, 3>(&a), &[(&columns(&a, &a, 3), 1)]);
        assert_is(&square_by::<Algebra, 1, 8>(&a), &[(&columns(&a, &a, 8), 1)]);
    }

    #[test]
    fn what_is_added_to_columns_before_they_are_reduced_arrives() {
        let (a, b, c, d) = (any(), any(), any(), any());
        let mut w = wide_square(&a);
        wide_add(&mut w, P4);
        wide_sub(&mut w, &c);
        wide_sub_twice(&mut w, &d);
        let wanted: [(&[Algebra], i128); 3] =
            [(&columns(&a, &a, 1), 1), (&c[0].0, -1), (&d[0].0, -2)];
        assert_is(&reduce::<Algebra, 1, 1>(&w), &wanted);
        let mut w = wide_from(P2);
        wide_sub(&mut w, &c);
        wide_mul(&mut w, &a, &b);
        let wanted: [(&[Algebra], i128); 2] = [(&columns(&a, &b, 1), 1), (&c[0].0, -1)];
        assert_is(&reduce::<Algebra, 1, 1>(&w), &wanted);
        let mut w = wide_square(&a);
        wide_eight(&mut w);
        wide_mul(&mut w, &c, &d);
        let wanted: [(&[Algebra], i128); 2] = [(&columns(&a, &a, 8), 1), (&columns(&c, &d, 1), 1)];
        assert_is(&reduce::<Algebra, 1, 1>(&w), &wanted);
    }

    #[test]
    fn sums_differences_and_carries_keep_their_value() {
        let (a, b) = (any(), any());
        assert_is(&sub(&a, &b), &[(&a[0].0, 1), (&b[0].0, -1)]);
        assert_is(&negate(&b), &[(&b[0].0, -1)]);
        assert_is(&twice(&a), &[(&a[0].0, 2)]);
        assert_is(&carry(&a), &[(&a[0].0, 1)]);
        assert_is(&narrow(&a), &[(&a[0].0, 1)]);
    }

    #[test]
    fn a_carry_that_is_left_out_does_not_cancel() {
        let a = any();
        let mut limbs = a[0].0;
        limbs[0] = put(below(&limbs[0].get(), 52));
        assert_ne!(whole(&limbs), whole(&a[0].0));
        limbs[1] = put(plus(&limbs[1].get(), &above(&a[0].0[0].get(), 52), 1));
        assert_eq!(whole(&limbs), whole(&a[0].0));
    }
}
