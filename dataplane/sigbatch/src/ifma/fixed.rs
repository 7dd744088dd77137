//! The fixed tables: odd multiples of G and of 2^128 G up to 65,535, affine, one cache line each; 4 MiB in all.
//!
//! Made once a process, in milliseconds: each half doubles in length by adding one point to all of it, with one inversion for
//! every lane. Then their SHA-256 is compared with the one written here, so that no kernel runs over a table that is not the
//! one that was proved.

use super::field::*;
use super::lane::{Lane, Line, Step};
use super::point::{MulInto, inverse, step};
use super::scalar;
use secp256k1::{PublicKey, Scalar, SecretKey};
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// Rows of one half.
pub const ROWS: usize = 1 << 15;
/// Rows that libsecp256k1 gives one by one; the rest is made eight at a time.
const SEED_ROWS: usize = 8;

/// SHA-256 of all words, little endian, first half first.
const HASH: [u8; 32] = [
    0xdc, 0xb8, 0x7e, 0xaa, 0x9f, 0xe5, 0x48, 0x3b, 0x83, 0x04, 0x8f, 0x77, 0x6c, 0xef, 0x74, 0xfe,
    0x14, 0x47, 0xd3, 0x53, 0x17, 0x81, 0xad, 0x5d, 0x11, 0xa7, 0x3b, 0x60, 0xa3, 0x76, 0xff, 0xc0,
];

/// Both halves.
#[derive(Debug)]
pub struct FixedTables {
    lines: Vec<Line>,
}

/// What is wrong with tables that were just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongTables {
    /// Their hash.
    pub got: [u8; 32],
}

impl FixedTables {
    /// The tables of this process, made at the first call.
    pub fn shared<L: Lane>() -> Result<&'static Self, WrongTables> {
        static TABLES: OnceLock<Result<FixedTables, WrongTables>> = OnceLock::new();
        TABLES.get_or_init(Self::build::<L>).as_ref().map_err(|wrong| *wrong)
    }

    /// Makes and checks them.
    pub fn build<L: Lane>() -> Result<Self, WrongTables> {
        let mut lines = vec![Line([0; 8]); 2 * ROWS];
        let (low, high) = lines.split_at_mut(ROWS);
        let mut two_to_128 = [0; 32];
        two_to_128[15] = 1;
        let one = times_g(1);
        fill::<L>(low, &one);
        fill::<L>(high, &times(&one, &two_to_128));
        let tables = Self { lines };
        let got = tables.hash();
        if got == HASH { Ok(tables) } else { Err(WrongTables { got }) }
    }

    /// Multiples of G (0) or of 2^128 G (1).
    #[inline(always)]
    pub fn half(&self, half: usize) -> &[Line; ROWS] {
        &self.lines.as_chunks().0[half]
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for line in &self.lines {
            hash.update(line.0.map(u64::to_le_bytes).as_flattened());
        }
        hash.finalize().into()
    }
}

fn times_g(k: u8) -> PublicKey {
    let mut bytes = [0; 32];
    bytes[31] = k;
    PublicKey::from_secret_key(&SecretKey::from_secret_bytes(bytes).expect("1 <= k < n"))
}

fn times(point: &PublicKey, k: &[u8; 32]) -> PublicKey {
    point.mul_tweak(&Scalar::from_be_bytes(*k).expect("k < n")).expect("0 < k < n")
}

pub(super) fn line_of(point: &PublicKey) -> Line {
    let bytes = point.serialize_uncompressed();
    let (halves, _) = bytes[1..].as_chunks::<32>();
    let (x, y) = (scalar::from_bytes(&halves[0]), scalar::from_bytes(&halves[1]));
    Line([x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3]])
}

/// `rows[i]` = (2i + 1) * base.
fn fill<L: Lane>(rows: &mut [Line], base: &PublicKey) {
    let small = |k: usize| {
        let mut bytes = [0; 32];
        bytes[30..].copy_from_slice(&(k as u16).to_be_bytes());
        line_of(&times(base, &bytes))
    };
    for (i, row) in rows[..SEED_ROWS].iter_mut().enumerate() {
        *row = small(2 * i + 1);
    }
    #[expect(clippy::useless_vec, reason = "650 KB have no place on a stack")]
    let mut products = vec![Fe::<L>::splat([0; 5]); ROWS / 16];
    let mut done = SEED_ROWS;
    while done < ROWS {
        let (from, to) = rows.split_at_mut(done);
        let step = small(2 * done);
        L::outlined(AddAll::<L, 1> {
            from,
            to: &mut to[..done],
            step: &step,
            products: &mut products[..done / 8],
        });
        done *= 2;
    }
}

/// Eight rows as coordinates.
#[inline(always)]
pub(super) fn coordinates<L: Lane>(rows: &[Line]) -> (Fe<L>, Fe<L>) {
    let mut words = [Line([0; 8]); 8];
    for (lane, row) in rows.iter().enumerate() {
        for (word, value) in words.iter_mut().zip(row.0) {
            word.0[lane] = value;
        }
    }
    let w = |i: usize| L::load(&words[i]);
    (Fe::from_words(&[w(0), w(1), w(2), w(3)]), Fe::from_words(&[w(4), w(5), w(6), w(7)]))
}

step! {
    /// `to[i]` = `from[i]` + `step`, none of them equal or opposite; as many rows as eight times the products.
    AddAll { from: &'a [Line], to: &'a mut [Line], step: &'a Line, products: &'a mut [Fe<L>] } {
        let (step_x, step_y) = coordinates::<L>(&[*step; 8]);
        // Montgomery's trick: the product of all differences of x is inverted, then taken apart from the end.
        let mut product = [Fe::<L>::splat([1, 0, 0, 0, 0]); N];
        for (rows, place) in from.chunks_exact(8).zip(products.iter_mut()) {
            let (x, _) = coordinates::<L>(rows);
            *place = product[0];
            let apart = sub(&[step_x; N], &[x; N]);
            L::outlined(MulInto { a: &mut product, b: &apart });
        }
        let mut rest = inverse(&product);
        let pieces = from.chunks_exact(8).zip(to.chunks_exact_mut(8)).zip(products.iter());
        for ((rows, out), before) in pieces.rev() {
            let (x, y) = coordinates::<L>(rows);
            let (x, y) = ([x; N], [y; N]);
            let apart = sub(&[step_x; N], &x);
            let inverse = mul(&rest, &[*before; N]);
            L::outlined(MulInto { a: &mut rest, b: &apart });
            let slope = mul(&sub(&[step_y; N], &y), &inverse);
            let mut w = wide_square(&slope);
            wide_add(&mut w, P4);
            wide_sub(&mut w, &x);
            wide_sub(&mut w, &[step_x; N]);
            let sum_x = reduce::<L, N, 1>(&w);
            let mut w = wide_from(P2);
            wide_sub(&mut w, &y);
            wide_mul(&mut w, &slope, &sub(&x, &sum_x));
            let sum_y = reduce::<L, N, 1>(&w);
            let x = sum_x[0].canonical().to_words();
            let y = sum_y[0].canonical().to_words();
            for i in 0..4 {
                let (x, y) = (x[i].store(), y[i].store());
                for (lane, row) in out.iter_mut().enumerate() {
                    row.0[i] = x.0[lane];
                    row.0[4 + i] = y.0[lane];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ifma::model::Model;

    fn rows<L: Lane>(two_to_128: bool) -> (Vec<Line>, PublicKey) {
        let mut k = [0; 32];
        k[if two_to_128 { 15 } else { 31 }] = 1;
        let base = times(&times_g(1), &k);
        let mut rows = vec![Line([0; 8]); ROWS];
        fill::<L>(&mut rows, &base);
        (rows, base)
    }

    #[test]
    fn rows_are_the_odd_multiples_and_the_hash_is_theirs() {
        let mut hash = Sha256::new();
        for two_to_128 in [false, true] {
            let (rows, base) = rows::<Model>(two_to_128);
            for i in (0..ROWS).step_by(509).chain(0..33).chain(ROWS - 9..ROWS) {
                let mut k = [0; 32];
                k[30..].copy_from_slice(&(2 * i as u16 + 1).to_be_bytes());
                assert_eq!(rows[i], line_of(&times(&base, &k)), "row {i}");
            }
            for row in &rows {
                hash.update(row.0.map(u64::to_le_bytes).as_flattened());
            }
        }
        let got: [u8; 32] = hash.finalize().into();
        assert_eq!(got, HASH, "{got:#04x?}");
    }

    /// All 65,536 rows, by adding 2 * base to the row before: a few seconds.
    #[test]
    #[ignore = "seconds in release mode; the hash says the same"]
    fn every_row_is_the_one_before_plus_twice_the_base() {
        for two_to_128 in [false, true] {
            let (rows, base) = rows::<Model>(two_to_128);
            let two = base.combine(&base).expect("no opposite points");
            let mut sum = base;
            for row in &rows {
                assert_eq!(*row, line_of(&sum));
                sum = sum.combine(&two).expect("no opposite points");
            }
        }
    }
}
