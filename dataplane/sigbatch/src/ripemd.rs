//! RIPEMD-160 of sixteen 32-byte hashes at once: the second half of HASH160.
//!
//! In: sixteen SHA-256 hashes. Out: sixteen 20-byte hashes. A hash with its padding is one block, so there is no loop over blocks.
//! Source of the tables: Dobbertin, Bosselaers, Preneel, RIPEMD-160 (1996), appendix A.
//!
//! Cost: 160 steps of eight vector instructions for sixteen hashes.

use core::arch::x86_64::*;

type V = __m512i;

/// The state at the start; the same numbers as SHA-1's.
const INITIAL: [u32; 5] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];

/// One of the two lines: which word each step takes, how far it turns, what is added in each round.
struct Line {
    words: [[u8; 16]; 5],
    turns: [[u8; 16]; 5],
    added: [u32; 5],
}

#[rustfmt::skip]
const LEFT: Line = Line {
    words: [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        [7, 4, 13, 1, 10, 6, 15, 3, 12, 0, 9, 5, 2, 14, 11, 8],
        [3, 10, 14, 4, 9, 15, 8, 1, 2, 7, 0, 6, 13, 11, 5, 12],
        [1, 9, 11, 10, 0, 8, 12, 4, 13, 3, 7, 15, 14, 5, 6, 2],
        [4, 0, 5, 9, 7, 12, 2, 10, 14, 1, 3, 8, 11, 6, 15, 13],
    ],
    turns: [
        [11, 14, 15, 12, 5, 8, 7, 9, 11, 13, 14, 15, 6, 7, 9, 8],
        [7, 6, 8, 13, 11, 9, 7, 15, 7, 12, 15, 9, 11, 7, 13, 12],
        [11, 13, 6, 7, 14, 9, 13, 15, 14, 8, 13, 6, 5, 12, 7, 5],
        [11, 12, 14, 15, 14, 15, 9, 8, 9, 14, 5, 6, 8, 6, 5, 12],
        [9, 15, 5, 11, 6, 8, 13, 12, 5, 12, 13, 14, 11, 8, 5, 6],
    ],
    added: [0, 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xa953fd4e],
};

#[rustfmt::skip]
const RIGHT: Line = Line {
    words: [
        [5, 14, 7, 0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12],
        [6, 11, 3, 7, 0, 13, 5, 10, 14, 15, 8, 12, 4, 9, 1, 2],
        [15, 5, 1, 3, 7, 14, 6, 9, 11, 8, 12, 2, 10, 0, 4, 13],
        [8, 6, 4, 1, 3, 11, 15, 0, 5, 12, 2, 13, 9, 7, 10, 14],
        [12, 15, 10, 4, 1, 5, 8, 7, 6, 2, 13, 14, 0, 3, 9, 11],
    ],
    turns: [
        [8, 9, 9, 11, 13, 15, 15, 5, 7, 7, 8, 11, 14, 14, 12, 6],
        [9, 13, 15, 7, 12, 8, 9, 11, 7, 7, 12, 7, 6, 15, 13, 11],
        [9, 7, 15, 11, 8, 6, 6, 14, 12, 13, 5, 14, 13, 13, 7, 5],
        [15, 5, 8, 11, 14, 14, 6, 14, 6, 9, 12, 9, 12, 5, 15, 8],
        [8, 5, 12, 9, 12, 5, 14, 6, 8, 13, 6, 5, 15, 13, 11, 11],
    ],
    added: [0x50a28be6, 0x5c4dd124, 0x6d703ef3, 0x7a6d76e9, 0],
};

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn all(x: u32) -> V {
    _mm512_set1_epi32(x as i32)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add(a: V, b: V) -> V {
    _mm512_add_epi32(a, b)
}

/// Sixteen steps with the function of three words whose truth table is F.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn round<const F: i32>(state: &mut [V; 5], x: &[V; 16], line: &Line, round: usize) {
    let k = all(line.added[round]);
    for (word, turn) in line.words[round].iter().zip(line.turns[round]) {
        let [a, b, c, d, e] = *state;
        let f = _mm512_ternarylogic_epi32::<F>(b, c, d);
        let sum = add(add(a, f), add(x[usize::from(*word)], k));
        let t = add(_mm512_rolv_epi32(sum, all(u32::from(turn))), e);
        *state = [e, t, b, _mm512_rol_epi32::<10>(c), d];
    }
}

/// `words[i]` holds word i of sixteen hashes as a little-endian machine reads it; so does what comes out.
#[target_feature(enable = "avx512f,avx512bw")]
pub fn of_hashes(words: &[V; 8]) -> [V; 5] {
    /// Of (b, c, d): b ^ c ^ d, b ? c : d, (b | !c) ^ d, d ? b : c, b ^ (c | !d).
    const F: [i32; 5] = [0x96, 0xca, 0x59, 0xe4, 0x2d];
    let mut x = [all(0); 16];
    x[..8].copy_from_slice(words);
    x[8] = all(0x80);
    x[14] = all(256);
    let initial = INITIAL.map(|word| _mm512_set1_epi32(word as i32));
    let (mut left, mut right) = (initial, initial);
    round::<{ F[0] }>(&mut left, &x, &LEFT, 0);
    round::<{ F[4] }>(&mut right, &x, &RIGHT, 0);
    round::<{ F[1] }>(&mut left, &x, &LEFT, 1);
    round::<{ F[3] }>(&mut right, &x, &RIGHT, 1);
    round::<{ F[2] }>(&mut left, &x, &LEFT, 2);
    round::<{ F[2] }>(&mut right, &x, &RIGHT, 2);
    round::<{ F[3] }>(&mut left, &x, &LEFT, 3);
    round::<{ F[1] }>(&mut right, &x, &RIGHT, 3);
    round::<{ F[4] }>(&mut left, &x, &LEFT, 4);
    round::<{ F[0] }>(&mut right, &x, &RIGHT, 4);
    let mut out = [all(0); 5];
    for i in 0..5 {
        out[i] = add(initial[(i + 1) % 5], add(left[(i + 2) % 5], right[(i + 3) % 5]));
    }
    out
}
