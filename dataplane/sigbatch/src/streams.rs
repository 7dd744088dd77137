//! SHA-256 of N messages side by side with the SHA instructions, so that the latency of one hides behind the other.
//!
//! In: N messages of the same number of blocks, already padded. Out: N hashes. The gain over one stream depends on the
//! processor: the instruction `sha256rnds2` is bound by latency on some and by throughput on others.

/// The round constants (FIPS 180-4, 4.2.2).
#[rustfmt::skip]
pub const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The initial hash value (FIPS 180-4, 5.3.3).
#[rustfmt::skip]
pub const INITIAL: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

#[cfg(target_arch = "x86_64")]
pub use x86::*;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{INITIAL, K};
    use core::arch::x86_64::*;

    /// One stream's state, in the order the instructions want: ABEF and CDGH.
    #[derive(Clone, Copy)]
    struct State {
        abef: __m128i,
        cdgh: __m128i,
    }

    /// Whether this processor has what the functions below are compiled for.
    pub fn is_available() -> bool {
        is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1")
    }

    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn initial() -> State {
        let h = INITIAL.map(|x| x as i32);
        State {
            abef: _mm_set_epi32(h[0], h[1], h[4], h[5]),
            cdgh: _mm_set_epi32(h[2], h[3], h[6], h[7]),
        }
    }

    /// The state as words A to D and E to H.
    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn words(s: State) -> (__m128i, __m128i) {
        let t = _mm_shuffle_epi32::<0x1B>(s.abef);
        let u = _mm_shuffle_epi32::<0x1B>(s.cdgh);
        (_mm_unpacklo_epi64(t, u), _mm_unpackhi_epi64(t, u))
    }

    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn swap_words(v: __m128i) -> __m128i {
        _mm_shuffle_epi8(v, _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
    }

    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn compress<const N: usize>(states: &mut [State; N], blocks: &[[__m128i; 4]; N]) {
        let mut w = *blocks;
        let before = *states;
        for i in 0..16 {
            let k = _mm_set_epi32(
                K[4 * i + 3] as i32,
                K[4 * i + 2] as i32,
                K[4 * i + 1] as i32,
                K[4 * i] as i32,
            );
            for n in 0..N {
                let word = if i < 4 {
                    w[n][i]
                } else {
                    let t = _mm_add_epi32(
                        _mm_sha256msg1_epu32(w[n][i % 4], w[n][(i + 1) % 4]),
                        _mm_alignr_epi8::<4>(w[n][(i + 3) % 4], w[n][(i + 2) % 4]),
                    );
                    _mm_sha256msg2_epu32(t, w[n][(i + 3) % 4])
                };
                w[n][i % 4] = word;
                let wk = _mm_add_epi32(word, k);
                let s = &mut states[n];
                s.cdgh = _mm_sha256rnds2_epu32(s.cdgh, s.abef, wk);
                s.abef = _mm_sha256rnds2_epu32(s.abef, s.cdgh, _mm_shuffle_epi32::<0x0E>(wk));
            }
        }
        for (s, b) in states.iter_mut().zip(before) {
            s.abef = _mm_add_epi32(s.abef, b.abef);
            s.cdgh = _mm_add_epi32(s.cdgh, b.cdgh);
        }
    }

    #[inline]
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn load(block: &[u8; 64]) -> [__m128i; 4] {
        let mut w = [_mm_setzero_si128(); 4];
        for (v, bytes) in w.iter_mut().zip(block.as_chunks::<16>().0) {
            // SAFETY: the pointer is to 16 readable bytes; the load needs no alignment.
            *v = swap_words(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) });
        }
        w
    }

    /// SHA-256, or SHA-256 twice, of N padded messages; `block(stream, i)` gives their blocks, `blocks` in each.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub fn hash<'a, const N: usize>(
        blocks: usize,
        block: impl Fn(usize, usize) -> &'a [u8; 64],
        twice: bool,
        out: &mut [[u8; 32]; N],
    ) {
        let mut states = [initial(); N];
        let mut w = [[_mm_setzero_si128(); 4]; N];
        for i in 0..blocks {
            for (n, w) in w.iter_mut().enumerate() {
                *w = load(block(n, i));
            }
            compress(&mut states, &w);
        }
        if twice {
            for (w, state) in w.iter_mut().zip(states) {
                let (low, high) = words(state);
                let padding = _mm_set_epi32(0, 0, 0, 0x8000_0000_u32 as i32);
                *w = [low, high, padding, _mm_set_epi32(256, 0, 0, 0)];
            }
            states = [initial(); N];
            compress(&mut states, &w);
        }
        for (place, state) in out.iter_mut().zip(states) {
            let (low, high) = words(state);
            let (front, back) = place.split_at_mut(16);
            // SAFETY: the pointer is to 16 writable bytes; the store needs no alignment.
            unsafe { _mm_storeu_si128(front.as_mut_ptr().cast(), swap_words(low)) };
            // SAFETY: as above.
            unsafe { _mm_storeu_si128(back.as_mut_ptr().cast(), swap_words(high)) };
        }
    }
}
