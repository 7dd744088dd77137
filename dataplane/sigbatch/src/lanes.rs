//! SHA-256 of sixteen messages at once: one 32-bit lane of an AVX-512 register for each.
//!
//! In: sixteen messages of the same number of blocks, already padded. Out: sixteen hashes. Lanes never influence each other;
//! the only instructions that cross lanes are the transposes at the ends.
//!
//! Cost: about 1,400 vector instructions a block; a 64-byte node is three blocks, of which the padding block has a constant
//! schedule. What bounds it is the two ports for 512-bit integers.

use crate::ripemd;
use crate::streams::{INITIAL, K};
use core::arch::x86_64::*;

type V = __m512i;

/// Schedule plus round constants of the block that pads a 64-byte message.
const NODE_PADDING: [u32; 64] = schedule_with_constants();

const fn schedule_with_constants() -> [u32; 64] {
    let mut w = [0u32; 64];
    w[0] = 0x8000_0000;
    w[15] = 512;
    let mut i = 16;
    while i < 64 {
        let a = w[i - 15];
        let b = w[i - 2];
        let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
        let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
        w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
        i += 1;
    }
    i = 0;
    while i < 64 {
        w[i] = w[i].wrapping_add(K[i]);
        i += 1;
    }
    w
}

/// Whether this processor has what the functions below are compiled for.
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add(a: V, b: V) -> V {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn all(x: u32) -> V {
    _mm512_set1_epi32(x as i32)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn xor3(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi32::<0x96>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn initial() -> [V; 8] {
    let mut s = [all(0); 8];
    for (v, x) in s.iter_mut().zip(INITIAL) {
        *v = all(x);
    }
    s
}

/// One round with the sum of schedule word and constant in `wk`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn round(s: [V; 8], wk: V) -> [V; 8] {
    let [a, b, c, d, e, f, g, h] = s;
    let sum1 = xor3(_mm512_ror_epi32::<6>(e), _mm512_ror_epi32::<11>(e), _mm512_ror_epi32::<25>(e));
    let choice = _mm512_ternarylogic_epi32::<0xCA>(e, f, g);
    let t1 = add(add(h, wk), add(sum1, choice));
    let sum0 = xor3(_mm512_ror_epi32::<2>(a), _mm512_ror_epi32::<13>(a), _mm512_ror_epi32::<22>(a));
    let majority = _mm512_ternarylogic_epi32::<0xE8>(a, b, c);
    [add(t1, add(sum0, majority)), a, b, c, add(d, t1), e, f, g]
}

/// Repeats a statement for 0..16 with the index as a constant, so that the schedule stays in registers.
macro_rules! sixteen {
    ($i:ident => $body:expr) => {{
        sixteen!(@ $i, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }};
    (@ $i:ident, $body:expr, $($n:literal)*) => {
        $( { const $i: usize = $n; $body } )*
    };
}

/// One block in each lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress(state: &mut [V; 8], block: &[V; 16]) {
    let mut w = *block;
    let mut s = *state;
    sixteen!(I => s = round(s, add(w[I], all(K[I]))));
    for base in [16, 32, 48] {
        sixteen!(I => {
            let a = w[(I + 1) % 16];
            let b = w[(I + 14) % 16];
            let s0 = xor3(
                _mm512_ror_epi32::<7>(a), _mm512_ror_epi32::<18>(a), _mm512_srli_epi32::<3>(a));
            let s1 = xor3(
                _mm512_ror_epi32::<17>(b), _mm512_ror_epi32::<19>(b), _mm512_srli_epi32::<10>(b));
            w[I] = add(add(w[I], s0), add(s1, w[(I + 9) % 16]));
            s = round(s, add(w[I], all(K[base + I])));
        });
    }
    for (v, x) in state.iter_mut().zip(s) {
        *v = add(*v, x);
    }
}

/// One block whose schedule is the same in every lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress_constant(state: &mut [V; 8], wk: &[u32; 64]) {
    let mut s = *state;
    for base in [0, 16, 32, 48] {
        sixteen!(I => s = round(s, all(wk[base + I])));
    }
    for (v, x) in state.iter_mut().zip(s) {
        *v = add(*v, x);
    }
}

/// Rows of sixteen words become columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(r: &mut [V; 16]) {
    let mut t = [all(0); 16];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for i in 0..4 {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for i in 0..4 {
        let a = _mm512_shuffle_i32x4::<0x88>(r[i], r[i + 4]);
        let b = _mm512_shuffle_i32x4::<0xdd>(r[i], r[i + 4]);
        let c = _mm512_shuffle_i32x4::<0x88>(r[i + 8], r[i + 12]);
        let d = _mm512_shuffle_i32x4::<0xdd>(r[i + 8], r[i + 12]);
        t[i] = _mm512_shuffle_i32x4::<0x88>(a, c);
        t[i + 8] = _mm512_shuffle_i32x4::<0xdd>(a, c);
        t[i + 4] = _mm512_shuffle_i32x4::<0x88>(b, d);
        t[i + 12] = _mm512_shuffle_i32x4::<0xdd>(b, d);
    }
    *r = t;
}

/// Each 32-bit word with its bytes turned around.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn swap_words(v: V) -> V {
    let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(order))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load<'a>(row: impl Fn(usize) -> &'a [u8; 64]) -> [V; 16] {
    let mut w = [all(0); 16];
    for (i, v) in w.iter_mut().enumerate() {
        // SAFETY: the pointer is to 64 readable bytes; the load needs no alignment.
        *v = swap_words(unsafe { _mm512_loadu_si512(row(i).as_ptr().cast()) });
    }
    transpose(&mut w);
    w
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(state: &[V; 8], out: &mut [[u8; 32]; 16]) {
    let mut o = [all(0); 16];
    o[..8].copy_from_slice(state);
    transpose(&mut o);
    for (v, place) in o.iter().zip(out) {
        let low = _mm512_castsi512_si256(swap_words(*v));
        // SAFETY: the pointer is to 32 writable bytes; the store needs no alignment.
        unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), low) };
    }
}

/// Hashes the hashes in `state`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn second(state: &[V; 8]) -> [V; 8] {
    let mut w = [all(0); 16];
    w[..8].copy_from_slice(state);
    w[8] = all(0x8000_0000);
    w[15] = all(256);
    let mut s = initial();
    compress(&mut s, &w);
    s
}

/// SHA-256, or SHA-256 twice, of sixteen padded messages; `block(lane, i)` gives their blocks, `blocks` in each lane.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn hash<'a>(
    blocks: usize,
    block: impl Fn(usize, usize) -> &'a [u8; 64],
    twice: bool,
    out: &mut [[u8; 32]; 16],
) {
    let mut s = initial();
    for i in 0..blocks {
        compress(&mut s, &load(|lane| block(lane, i)));
    }
    if twice {
        s = second(&s);
    }
    store(&s, out);
}

/// SHA-256 twice of sixteen merkle nodes.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn hash_nodes(nodes: &[[u8; 64]; 16], out: &mut [[u8; 32]; 16]) {
    let mut s = initial();
    compress(&mut s, &load(|lane| &nodes[lane]));
    compress_constant(&mut s, &NODE_PADDING);
    store(&second(&s), out);
}

/// RIPEMD-160 of sixteen SHA-256 hashes.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn ripemd_hashes(hashes: &[[u8; 32]; 16], out: &mut [[u8; 20]; 16]) {
    let mut rows = [[0; 64]; 16];
    for (row, hash) in rows.iter_mut().zip(hashes) {
        row[..32].copy_from_slice(hash);
    }
    // Loading and storing turn words around, as SHA-256 wants them; RIPEMD-160 wants them as they are.
    let columns = load(|lane| &rows[lane]);
    let mut words = [all(0); 8];
    for (word, column) in words.iter_mut().zip(columns) {
        *word = swap_words(column);
    }
    let mut state = [all(0); 8];
    for (word, result) in state.iter_mut().zip(ripemd::of_hashes(&words)) {
        *word = swap_words(result);
    }
    let mut stored = [[0; 32]; 16];
    store(&state, &mut stored);
    for (place, bytes) in out.iter_mut().zip(&stored) {
        place.copy_from_slice(&bytes[..20]);
    }
}
