//! Kernels for x86: `GF2P8MULB` on 64 and 32 bytes, `PSHUFB` on 32 and 16.
//!
//! In and out: as [`super::Kernel::multiply`]; whole registers only, the number of bytes done is given back. One loop for
//! all four: sums of up to sixteen outputs stay in registers while every input is read once. Loading an input costs one
//! port, a multiplication one (GFNI) or three (`PSHUFB`), so eight or more outputs a pass are bound by arithmetic.

use super::field::NIBBLES;
use super::kernel::{Backend, Kernel};
use std::arch::x86_64::*;

/// Multiplies whole registers and says how many bytes of each output it has done.
pub fn multiply(
    kernel: Kernel,
    matrix: &[u8],
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]],
    accumulate: bool,
) -> usize {
    // SAFETY: a `Kernel` exists only for a backend whose instructions the processor reported (`Kernel::of`).
    unsafe {
        match kernel.backend() {
            Backend::GfniAvx512 => gfni_avx512::multiply(matrix, inputs, outputs, accumulate),
            Backend::GfniAvx2 => gfni_avx2::multiply(matrix, inputs, outputs, accumulate),
            Backend::Avx2 => avx2::multiply(matrix, inputs, outputs, accumulate),
            Backend::Ssse3 => ssse3::multiply(matrix, inputs, outputs, accumulate),
            Backend::Portable => 0,
        }
    }
}

/// The loop: `$features` name the instructions, `$load` to `$product` the register's operations, `$widths` the numbers
/// of outputs per pass, widest first.
macro_rules! kernel {
    (
        $features:literal, $register:ty, $coefficient:ty, widths [$($width:literal)+],
        zero $zero:expr, load $load:expr, store $store:expr, xor $xor:expr,
        coefficient $make:expr, product $product:expr $(,)?
    ) => {
        const BYTES: usize = size_of::<$register>();

        #[target_feature(enable = $features)]
        pub fn multiply(
            matrix: &[u8],
            inputs: &[&[u8]],
            outputs: &mut [&mut [u8]],
            accumulate: bool,
        ) -> usize {
            let len = outputs[0].len() / BYTES * BYTES;
            let (mut matrix, mut outputs) = (matrix, outputs);
            $(
                while outputs.len() >= $width {
                    let (now, later) = outputs.split_at_mut($width);
                    let (rows, rest) = matrix.split_at($width * inputs.len());
                    pass::<$width>(rows, inputs, now, accumulate, len);
                    (matrix, outputs) = (rest, later);
                }
            )+
            len
        }

        #[target_feature(enable = $features)]
        fn pass<const WIDTH: usize>(
            rows: &[u8],
            inputs: &[&[u8]],
            outputs: &mut [&mut [u8]],
            accumulate: bool,
            len: usize,
        ) {
            let mut columns = [[0u8; WIDTH]; 256];
            for (i, column) in columns[..inputs.len()].iter_mut().enumerate() {
                for (j, c) in column.iter_mut().enumerate() {
                    *c = rows[j * inputs.len() + i];
                }
            }
            for at in (0..len).step_by(BYTES) {
                let mut sums = [$zero; WIDTH];
                if accumulate {
                    for (sum, output) in sums.iter_mut().zip(&*outputs) {
                        // SAFETY: `at + BYTES <= len`, and every output has at least `len` bytes.
                        *sum = unsafe { $load(output.as_ptr().add(at).cast()) };
                    }
                }
                for (input, column) in inputs.iter().zip(&columns) {
                    // SAFETY: `at + BYTES <= len`, and every input has at least `len` bytes (`Kernel::multiply`).
                    let x: $register = unsafe { $load(input.as_ptr().add(at).cast()) };
                    for (sum, c) in sums.iter_mut().zip(column) {
                        let c: $coefficient = $make(*c);
                        *sum = $xor(*sum, $product(x, c));
                    }
                }
                for (sum, output) in sums.iter().zip(&mut *outputs) {
                    // SAFETY: `at + BYTES <= len`, and every output has at least `len` bytes.
                    unsafe { $store(output.as_mut_ptr().add(at).cast(), *sum) };
                }
            }
        }
    };
}

mod gfni_avx512 {
    use super::*;
    kernel!(
        "gfni,avx512f,avx512bw", __m512i, __m512i, widths [16 8 4 2 1],
        zero _mm512_setzero_si512(), load _mm512_loadu_si512, store _mm512_storeu_si512,
        xor _mm512_xor_si512, coefficient broadcast, product _mm512_gf2p8mul_epi8,
    );

    #[target_feature(enable = "avx512f")]
    fn broadcast(c: u8) -> __m512i {
        _mm512_set1_epi8(c as i8)
    }
}

mod gfni_avx2 {
    use super::*;
    kernel!(
        "gfni,avx2", __m256i, __m256i, widths [8 4 2 1],
        zero _mm256_setzero_si256(), load _mm256_loadu_si256, store _mm256_storeu_si256,
        xor _mm256_xor_si256, coefficient broadcast, product _mm256_gf2p8mul_epi8,
    );

    #[target_feature(enable = "avx2")]
    fn broadcast(c: u8) -> __m256i {
        _mm256_set1_epi8(c as i8)
    }
}

mod avx2 {
    use super::*;
    kernel!(
        "avx2", __m256i, (__m256i, __m256i), widths [4 2 1],
        zero _mm256_setzero_si256(), load _mm256_loadu_si256, store _mm256_storeu_si256,
        xor _mm256_xor_si256, coefficient tables, product look_up,
    );

    #[target_feature(enable = "avx2")]
    fn tables(c: u8) -> (__m256i, __m256i) {
        let nibbles = NIBBLES[usize::from(c)].as_ptr();
        // SAFETY: a row of `NIBBLES` is 32 bytes: 16 from its start, 16 from its middle.
        let (low, high) =
            unsafe { (_mm_loadu_si128(nibbles.cast()), _mm_loadu_si128(nibbles.add(16).cast())) };
        (_mm256_broadcastsi128_si256(low), _mm256_broadcastsi128_si256(high))
    }

    #[target_feature(enable = "avx2")]
    fn look_up(x: __m256i, (low, high): (__m256i, __m256i)) -> __m256i {
        let nibble = _mm256_set1_epi8(15);
        let low = _mm256_shuffle_epi8(low, _mm256_and_si256(x, nibble));
        let high = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16::<4>(x), nibble));
        _mm256_xor_si256(low, high)
    }
}

mod ssse3 {
    use super::*;
    kernel!(
        "ssse3", __m128i, (__m128i, __m128i), widths [4 2 1],
        zero _mm_setzero_si128(), load _mm_loadu_si128, store _mm_storeu_si128,
        xor _mm_xor_si128, coefficient tables, product look_up,
    );

    #[target_feature(enable = "ssse3")]
    fn tables(c: u8) -> (__m128i, __m128i) {
        let nibbles = NIBBLES[usize::from(c)].as_ptr();
        // SAFETY: a row of `NIBBLES` is 32 bytes: 16 from its start, 16 from its middle.
        unsafe { (_mm_loadu_si128(nibbles.cast()), _mm_loadu_si128(nibbles.add(16).cast())) }
    }

    #[target_feature(enable = "ssse3")]
    fn look_up(x: __m128i, (low, high): (__m128i, __m128i)) -> __m128i {
        let nibble = _mm_set1_epi8(15);
        let low = _mm_shuffle_epi8(low, _mm_and_si128(x, nibble));
        let high = _mm_shuffle_epi8(high, _mm_and_si128(_mm_srli_epi16::<4>(x), nibble));
        _mm_xor_si128(low, high)
    }
}
