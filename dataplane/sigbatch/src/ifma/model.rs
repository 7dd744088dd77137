//! Lanes as eight plain integers: the same verifier on any machine, with every bound asserted.
//!
//! A sum that does not fit, a difference below zero, a factor of more than 52 bits where all of it is meant: each is a
//! violation. This is what runs where there is no AVX-512, under sanitizers, and against the intrinsics in tests. It is far
//! slower than libsecp256k1 and never chosen by itself.

use super::lane::{Lane, Line, M52, Step};

/// Eight lanes of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model(pub [u64; 8]);

#[inline]
fn product(a: u64, b: u64) -> u128 {
    assert!(a <= M52 && b <= M52, "a factor has more than 52 bits: {a:#x} * {b:#x}");
    u128::from(a) * u128::from(b)
}

#[inline(never)]
fn sum(a: u64, b: u64) -> u64 {
    a.checked_add(b).expect("a lane never carries into the next")
}

impl Model {
    #[inline(never)]
    fn each(mut self, b: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        for (a, b) in self.0.iter_mut().zip(b.0) {
            *a = f(*a, b);
        }
        self
    }

    #[inline(never)]
    fn fused(mut self, a: Self, b: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        for i in 0..8 {
            self.0[i] = sum(self.0[i], f(a.0[i], b.0[i]));
        }
        self
    }
}

impl Lane for Model {
    #[inline(never)]
    fn splat(x: u64) -> Self {
        Self([x; 8])
    }

    #[inline(never)]
    fn load(line: &Line) -> Self {
        Self(line.0)
    }

    #[inline(never)]
    fn store(self) -> Line {
        Line(self.0)
    }

    #[inline(never)]
    fn add(self, b: Self) -> Self {
        self.each(b, sum)
    }

    #[inline(never)]
    fn sub(self, b: Self) -> Self {
        self.each(b, |a, b| a.checked_sub(b).expect("a lane never goes below zero"))
    }

    #[inline(never)]
    fn and(self, b: Self) -> Self {
        self.each(b, |a, b| a & b)
    }

    #[inline(never)]
    fn or(self, b: Self) -> Self {
        self.each(b, |a, b| a | b)
    }

    #[inline(never)]
    fn xor(self, b: Self) -> Self {
        self.each(b, |a, b| a ^ b)
    }

    #[inline(never)]
    fn scale<const S: u32>(self) -> Self {
        Self(self.0.map(|a| {
            assert!(a.leading_zeros() >= S, "a lane never carries into the next: {a:#x} << {S}");
            a << S
        }))
    }

    #[inline(never)]
    fn shl<const S: u32>(self) -> Self {
        Self(self.0.map(|a| a << S))
    }

    #[inline(never)]
    fn shr<const S: u32>(self) -> Self {
        Self(self.0.map(|a| a >> S))
    }

    #[inline(never)]
    fn shl_by(self, s: u32) -> Self {
        Self(self.0.map(|a| a.checked_shl(s).unwrap_or(0)))
    }

    #[inline(never)]
    fn shr_by(self, s: u32) -> Self {
        Self(self.0.map(|a| a.checked_shr(s).unwrap_or(0)))
    }

    #[inline(never)]
    fn mul_low(self, a: Self, b: Self) -> Self {
        self.fused(a, b, |a, b| product(a, b) as u64 & M52)
    }

    #[inline(never)]
    fn mul_high(self, a: Self, b: Self) -> Self {
        self.fused(a, b, |a, b| (product(a, b) >> 52) as u64)
    }

    #[inline(never)]
    fn cut_low(self, a: Self, b: Self) -> Self {
        self.mul_low(a.and(Self([M52; 8])), b)
    }

    #[inline(never)]
    fn cut_high(self, a: Self, b: Self) -> Self {
        self.mul_high(a.and(Self([M52; 8])), b)
    }

    #[inline(never)]
    fn zeros(self) -> u8 {
        (0..8).fold(0, |mask, i| mask | (u8::from(self.0[i] == 0) << i))
    }

    #[inline(never)]
    fn select(mut self, mask: u8, b: Self) -> Self {
        for i in 0..8 {
            if mask >> i & 1 == 1 {
                self.0[i] = b.0[i];
            }
        }
        self
    }

    fn gather<const ROWS: usize>(table: &[Line; ROWS], row: Self, word: usize) -> Self {
        Self(row.0.map(|row| table[row as usize % ROWS].0[word]))
    }

    fn gather_own<const ROWS: usize>(table: &[[Line; 5]; ROWS], row: Self, limb: usize) -> Self {
        let mut out = [0; 8];
        for (lane, out) in out.iter_mut().enumerate() {
            *out = table[row.0[lane] as usize % ROWS][limb].0[lane];
        }
        Self(out)
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
