//! Lanes in an AVX-512 register, multiplied by IFMA.
//!
//! A `Zmm` must only be made on a processor for which [`is_available`] says yes: everything here rests on that, and
//! [`super::batch::Batch`] asks before its first use. The functions are inlined into steps that are compiled for these
//! instructions ([`Lane::outlined`]), so that nothing else in the binary is.

use super::lane::{Lane, Line, Step};
use core::arch::x86_64::*;

/// Eight lanes of 64 bits.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Zmm(__m512i);

/// Whether this processor has what the steps are compiled for.
pub fn is_available() -> bool {
    [
        is_x86_feature_detected!("avx512f"),
        is_x86_feature_detected!("avx512dq"),
        is_x86_feature_detected!("avx512bw"),
        is_x86_feature_detected!("avx512vl"),
        is_x86_feature_detected!("avx512ifma"),
        is_x86_feature_detected!("bmi2"),
    ]
    .into_iter()
    .all(|is_here| is_here)
}

/// Where the steps live.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,bmi2")]
fn here<S: Step>(step: S) {
    step.run();
}

/// An instruction that is not one: what it names stays where it stands in the order of the program.
#[inline]
#[target_feature(enable = "avx512f")]
fn hold(v: &mut __m512i) {
    // SAFETY: the text is a comment; nothing is read, written or clobbered.
    unsafe {
        core::arch::asm!("/* {0} */", inout(zmm_reg) * v, options(nomem, nostack, preserves_flags));
    }
}

/// Calls an intrinsic.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: a `Zmm` exists only where `is_available()` said yes; these instructions touch registers only.
        unsafe { $call }
    };
}

impl Lane for Zmm {
    #[inline(always)]
    fn splat(x: u64) -> Self {
        Self(op!(_mm512_set1_epi64(x as i64)))
    }

    #[inline(always)]
    fn load(line: &Line) -> Self {
        // SAFETY: as above, and a `Line` is 64 readable bytes at a multiple of 64.
        Self(unsafe { _mm512_load_si512(line.0.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self) -> Line {
        let mut line = Line([0; 8]);
        // SAFETY: as above, and a `Line` is 64 writable bytes at a multiple of 64.
        unsafe { _mm512_store_si512(line.0.as_mut_ptr().cast(), self.0) };
        line
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self(op!(_mm512_add_epi64(self.0, b.0)))
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self(op!(_mm512_sub_epi64(self.0, b.0)))
    }

    #[inline(always)]
    fn and(self, b: Self) -> Self {
        Self(op!(_mm512_and_si512(self.0, b.0)))
    }

    #[inline(always)]
    fn or(self, b: Self) -> Self {
        Self(op!(_mm512_or_si512(self.0, b.0)))
    }

    #[inline(always)]
    fn xor(self, b: Self) -> Self {
        Self(op!(_mm512_xor_si512(self.0, b.0)))
    }

    #[inline(always)]
    fn scale<const S: u32>(self) -> Self {
        self.shl::<S>()
    }

    #[inline(always)]
    fn shl<const S: u32>(self) -> Self {
        Self(op!(_mm512_slli_epi64::<S>(self.0)))
    }

    #[inline(always)]
    fn shr<const S: u32>(self) -> Self {
        Self(op!(_mm512_srli_epi64::<S>(self.0)))
    }

    #[inline(always)]
    fn shl_by(self, s: u32) -> Self {
        Self(op!(_mm512_sll_epi64(self.0, _mm_cvtsi64_si128(i64::from(s)))))
    }

    #[inline(always)]
    fn shr_by(self, s: u32) -> Self {
        Self(op!(_mm512_srl_epi64(self.0, _mm_cvtsi64_si128(i64::from(s)))))
    }

    #[inline(always)]
    fn mul_low(self, a: Self, b: Self) -> Self {
        Self(op!(_mm512_madd52lo_epu64(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn mul_high(self, a: Self, b: Self) -> Self {
        Self(op!(_mm512_madd52hi_epu64(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn cut_low(self, a: Self, b: Self) -> Self {
        self.mul_low(a, b)
    }

    #[inline(always)]
    fn cut_high(self, a: Self, b: Self) -> Self {
        self.mul_high(a, b)
    }

    #[inline(always)]
    fn zeros(self) -> u8 {
        op!(_mm512_testn_epi64_mask(self.0, self.0))
    }

    #[inline(always)]
    fn select(self, mask: u8, b: Self) -> Self {
        Self(op!(_mm512_mask_mov_epi64(self.0, mask, b.0)))
    }

    #[inline(always)]
    fn pin(&mut self) {
        op!(hold(&mut self.0));
    }

    #[inline(always)]
    fn gather<const ROWS: usize>(table: &[Line; ROWS], row: Self, word: usize) -> Self {
        const { assert!(ROWS.is_power_of_two()) };
        assert!(word < 8, "a row has eight words");
        let index = row.and(Self::splat(ROWS as u64 - 1)).shl::<3>();
        // SAFETY: as above; each index is (less than ROWS) * 8 and `word` is less than 8, so all reads are inside `table`.
        Self(unsafe {
            let base = table.as_ptr().cast::<i64>().add(word);
            _mm512_i64gather_epi64::<8>(index.0, base)
        })
    }

    #[inline(always)]
    fn gather_own<const ROWS: usize>(table: &[[Line; 5]; ROWS], row: Self, limb: usize) -> Self {
        const { assert!(ROWS.is_power_of_two()) };
        assert!(limb < 5, "a number has five limbs");
        let row = row.and(Self::splat(ROWS as u64 - 1));
        let lane = Self(op!(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7)));
        let index = row.shl::<5>().add(row.shl::<3>()).add(lane);
        // SAFETY: as above; each index is (less than ROWS) * 40 + lane and `limb` * 8 is at most 32, so all reads are inside.
        Self(unsafe {
            let base = table.as_ptr().cast::<i64>().add(8 * limb);
            _mm512_i64gather_epi64::<8>(index.0, base)
        })
    }

    #[inline(always)]
    fn prefetch<const ROWS: usize>(table: &[Line; ROWS], row: Self) {
        let rows = row.and(Self::splat(ROWS as u64 - 1)).store();
        for i in 0..8 {
            op!(_mm_prefetch::<_MM_HINT_T0>((&raw const table[rows.0[i] as usize]).cast()));
        }
    }

    #[inline(always)]
    fn outlined<S: Step>(step: S) {
        // SAFETY: a step over `Zmm` is made only where `is_available()` said yes.
        unsafe { here(step) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ifma::lane::M52;
    use crate::ifma::model::Model;
    use crate::proof::draw::Draw;

    /// Three lines of lanes: any, of 52 bits, of 52 bits; with zeros, ones and full lanes among them.
    fn lines(draw: &mut Draw) -> [Line; 3] {
        [1 << 62, M52 + 1, M52 + 1].map(|end| {
            Line(core::array::from_fn(|_| match draw.below(5) {
                0 => 0,
                1 => end - 1,
                2 => 1,
                _ => draw.word() % end,
            }))
        })
    }

    /// What every operation gives.
    fn all<L: Lane>(lines: &[Line; 3], table: &[Line; 16], own: &[[Line; 5]; 16]) -> Vec<[u64; 8]> {
        let [c, a, b] = [0, 1, 2].map(|i| L::load(&lines[i]));
        let mut pinned = c;
        pinned.pin();
        let mut out = vec![L::splat(lines[1].0[0]), pinned, c.add(a), a.or(c).sub(a.and(c))];
        out.extend([a.and(c), a.or(c), a.xor(c), a.scale::<7>(), c.shl::<12>(), c.shr::<48>()]);
        out.extend([c.shl_by(3), c.shr_by(61), c.shl_by(64), c.shr_by(64)]);
        out.extend([c.mul_low(a, b), c.mul_high(a, b), a.cut_low(c, b), a.cut_high(c, b)]);
        out.extend([a.select(0b1010_0110, b), b.select(a.zeros(), c)]);
        out.extend((0..8).map(|word| L::gather(table, c, word)));
        out.extend((0..5).map(|limb| L::gather_own(own, c, limb)));
        L::prefetch(table, c);
        let mut out: Vec<[u64; 8]> = out.into_iter().map(|lane| lane.store().0).collect();
        out.push([u64::from(a.zeros()), u64::from(b.zeros()), 0, 0, 0, 0, 0, 0]);
        out
    }

    #[test]
    fn a_step_is_run_in_its_place() {
        if !is_available() {
            return;
        }
        struct Write<'a>(&'a mut u64);
        impl Step for Write<'_> {
            #[inline(always)]
            fn run(self) {
                *self.0 = Zmm::splat(5).add(Zmm::splat(6)).store().0[7];
            }
        }
        let mut out = 0;
        Zmm::outlined(Write(&mut out));
        assert_eq!(out, 11);
    }

    #[test]
    fn every_operation_does_in_registers_what_it_does_in_the_model() {
        if !is_available() {
            return;
        }
        let mut draw = Draw::new(51);
        let mut any = || Line(core::array::from_fn(|_| draw.word() >> 2));
        let table = core::array::from_fn(|_| any());
        let own = core::array::from_fn(|_| core::array::from_fn(|_| any()));
        for _ in 0..300 {
            let lines = lines(&mut draw);
            assert_eq!(all::<Zmm>(&lines, &table, &own), all::<Model>(&lines, &table, &own));
        }
    }
}
