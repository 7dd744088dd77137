//! Batches of SHA-256, double SHA-256 and HASH160: transaction ids (mixed lengths), merkle nodes (64 bytes), keys and scripts.
//!
//! In: borrowed messages. Out: one hash a message, in the same order. Messages of mixed lengths are grouped by their number
//! of blocks, [`WINDOW`] at a time, so that equal ones can share a kernel call; nothing is allocated.
//!
//! Cost a 64-byte node (measured by `cargo test --release -p sigbatch -- --ignored --nocapture`): the padding block and the
//! second hash make it three blocks; sixteen lanes share each instruction.

use crate::Kernel;
#[cfg(target_arch = "x86_64")]
use crate::{lanes, streams};
use ripemd::Ripemd160;
use sha2::{Digest, Sha256};

/// How many messages of mixed lengths are sorted together.
const WINDOW: usize = 128;
/// Fewer lanes than this in use, and the sixteen-lane kernel is slower than the streams.
const LANES_WORTH: usize = 6;
/// Lanes of the widest kernel.
const LANES: usize = 16;

/// A way to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashBackend {
    /// Sixteen messages at once in AVX-512 registers; what is left over in two streams or by the crate sha2.
    Avx512,
    /// Two messages side by side with the SHA instructions.
    ShaNi,
    /// The crate sha2, one message after the other (it uses the SHA instructions itself where there are any).
    Sha2,
}

impl HashBackend {
    /// All, fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::ShaNi, Self::Sha2];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => lanes::is_available() && streams::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::ShaNi => streams::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::ShaNi => false,
            Self::Sha2 => true,
        }
    }

    /// Short and stable, as reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512-x16",
            Self::ShaNi => "sha-ni-x2",
            Self::Sha2 => "sha2",
        }
    }
}

/// Hashes batches. Plain data, no state between calls; each tile has its own.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    backend: HashBackend,
    why: &'static str,
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher {
    /// With the fastest kernel that this machine has and that passes the known-answer test.
    pub fn new() -> Self {
        let mut failed = false;
        for backend in HashBackend::ALL {
            if !backend.is_available() {
                continue;
            }
            let hasher = Self { backend, why: reason(backend, failed) };
            if hasher.agrees_with_sha2() {
                return hasher;
            }
            failed = true;
        }
        Self { backend: HashBackend::Sha2, why: reason(HashBackend::Sha2, failed) }
    }

    /// With this kernel; `None` where the machine cannot run it.
    pub fn with_backend(backend: HashBackend) -> Option<Self> {
        backend.is_available().then_some(Self { backend, why: "asked for by name" })
    }

    /// The kernel in use.
    pub fn backend(&self) -> HashBackend {
        self.backend
    }

    /// The kernel in use, and why.
    pub fn kernel(&self) -> Kernel {
        Kernel { name: self.backend.name(), why: self.why }
    }

    /// SHA-256 twice of each 64-byte node: `out[i]` from `nodes[i]`.
    pub fn sha256d_nodes(&self, nodes: &[[u8; 64]], out: &mut [[u8; 32]]) {
        assert_eq!(nodes.len(), out.len(), "one hash a node");
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if self.backend == HashBackend::Avx512 {
            let (full, _) = nodes.as_chunks::<LANES>();
            for (nodes, out) in full.iter().zip(out.as_chunks_mut::<LANES>().0) {
                // SAFETY: `Avx512` is constructed only where `lanes::is_available()`.
                unsafe { lanes::hash_nodes(nodes, out) };
            }
            done = full.len() * LANES;
            let rest = nodes.len() - done;
            if rest >= LANES_WORTH {
                let mut padded = [[0; 64]; LANES];
                padded[..rest].copy_from_slice(&nodes[done..]);
                let mut hashes = [[0; 32]; LANES];
                // SAFETY: as above.
                unsafe { lanes::hash_nodes(&padded, &mut hashes) };
                out[done..].copy_from_slice(&hashes[..rest]);
                return;
            }
        }
        let rest = &nodes[done..];
        self.groups(true, rest.len(), |i| &rest[i][..], &mut out[done..]);
    }

    /// One level of a merkle tree: `parents[i]` from `children[2 * i]` and `children[2 * i + 1]`.
    pub fn merkle_level(&self, children: &[[u8; 32]], parents: &mut [[u8; 32]]) {
        assert_eq!(children.len(), 2 * parents.len(), "two children a parent");
        let (nodes, _) = children.as_flattened().as_chunks::<64>();
        self.sha256d_nodes(nodes, parents);
    }

    /// SHA-256 twice of `out.len()` messages of any lengths: `out[i]` from `get(i)`.
    pub fn sha256d_each<'a>(&self, get: impl Fn(usize) -> &'a [u8], out: &mut [[u8; 32]]) {
        self.each(true, get, out);
    }

    /// SHA-256 of `out.len()` messages of any lengths: `out[i]` from `get(i)`.
    pub fn sha256_each<'a>(&self, get: impl Fn(usize) -> &'a [u8], out: &mut [[u8; 32]]) {
        self.each(false, get, out);
    }

    /// RIPEMD-160 of SHA-256 of `out.len()` messages of any lengths: `out[i]` from `get(i)`.
    pub fn hash160_each<'a>(&self, get: impl Fn(usize) -> &'a [u8], out: &mut [[u8; 20]]) {
        for (w, out) in out.chunks_mut(WINDOW).enumerate() {
            let mut hashes = [[0; 32]; WINDOW];
            let hashes = &mut hashes[..out.len()];
            self.sha256_each(|i| get(w * WINDOW + i), hashes);
            self.ripemd(hashes, out);
        }
    }

    /// RIPEMD-160 of hashes.
    fn ripemd(&self, hashes: &[[u8; 32]], out: &mut [[u8; 20]]) {
        let mut at = 0;
        #[cfg(target_arch = "x86_64")]
        while self.backend == HashBackend::Avx512 && hashes.len() - at >= LANES_WORTH {
            let n = (hashes.len() - at).min(LANES);
            let (mut sixteen, mut done) = ([[0; 32]; LANES], [[0; 20]; LANES]);
            sixteen[..n].copy_from_slice(&hashes[at..at + n]);
            // SAFETY: `Avx512` is constructed only where `lanes::is_available()`.
            unsafe { lanes::ripemd_hashes(&sixteen, &mut done) };
            out[at..at + n].copy_from_slice(&done[..n]);
            at += n;
        }
        for (hash, place) in hashes[at..].iter().zip(&mut out[at..]) {
            *place = Ripemd160::digest(hash).into();
        }
    }

    fn each<'a>(&self, twice: bool, get: impl Fn(usize) -> &'a [u8], out: &mut [[u8; 32]]) {
        if self.backend == HashBackend::Sha2 {
            for (i, place) in out.iter_mut().enumerate() {
                *place = one(twice, get(i));
            }
            return;
        }
        for (w, out) in out.chunks_mut(WINDOW).enumerate() {
            let first = w * WINDOW;
            let mut order = [(0usize, 0u8); WINDOW];
            let order = &mut order[..out.len()];
            for (i, entry) in order.iter_mut().enumerate() {
                *entry = (blocks_of(get(first + i).len()), i as u8);
            }
            order.sort_unstable();
            let mut hashes = [[0; 32]; WINDOW];
            for run in order.chunk_by(|a, b| a.0 == b.0) {
                let hashes = &mut hashes[..run.len()];
                self.groups(twice, run.len(), |i| get(first + usize::from(run[i].1)), hashes);
                for ((_, i), hash) in run.iter().zip(hashes) {
                    out[usize::from(*i)] = *hash;
                }
            }
        }
    }

    /// `count` messages of one number of blocks.
    fn groups<'a>(
        &self,
        twice: bool,
        count: usize,
        get: impl Fn(usize) -> &'a [u8],
        out: &mut [[u8; 32]],
    ) {
        let mut at = 0;
        #[cfg(target_arch = "x86_64")]
        {
            while self.backend == HashBackend::Avx512 && count - at >= LANES_WORTH {
                let n = (count - at).min(LANES);
                let padded: [Padded<'a>; LANES] =
                    core::array::from_fn(|lane| Padded::new(get(at + lane.min(n - 1))));
                let mut hashes = [[0; 32]; LANES];
                // SAFETY: `Avx512` is constructed only where `lanes::is_available()`.
                unsafe {
                    lanes::hash(
                        padded[0].blocks(),
                        |lane, i| block_of(&padded, lane, i),
                        twice,
                        &mut hashes,
                    );
                }
                out[at..at + n].copy_from_slice(&hashes[..n]);
                at += n;
            }
            while self.backend != HashBackend::Sha2 && count - at >= 2 {
                let padded = [Padded::new(get(at)), Padded::new(get(at + 1))];
                let mut hashes = [[0; 32]; 2];
                // SAFETY: these backends are constructed only where `streams::is_available()`.
                unsafe {
                    streams::hash(
                        padded[0].blocks(),
                        |lane, i| block_of(&padded, lane, i),
                        twice,
                        &mut hashes,
                    );
                }
                out[at..at + 2].copy_from_slice(&hashes);
                at += 2;
            }
        }
        for (i, place) in out.iter_mut().enumerate().skip(at) {
            *place = one(twice, get(i));
        }
    }

    /// Hashes a few messages of awkward lengths and compares with the crate sha2.
    fn agrees_with_sha2(&self) -> bool {
        const LENGTHS: [usize; 8] = [0, 55, 56, 63, 64, 119, 120, 250];
        let mut bytes = [0u8; 512];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = (i as u8).wrapping_mul(167) ^ (i >> 5) as u8;
        }
        let message = |i: usize| &bytes[i..i + LENGTHS[(i / 20) % LENGTHS.len()]];
        let mut hashes = [[0; 32]; 160];
        self.each(true, message, &mut hashes);
        let mixed = hashes.iter().enumerate().all(|(i, hash)| *hash == one(true, message(i)));
        let nodes: [[u8; 64]; 23] =
            core::array::from_fn(|i| bytes[i..i + 64].try_into().expect("64 bytes"));
        self.sha256d_nodes(&nodes, &mut hashes[..23]);
        let mut short = [[0; 20]; 23];
        self.hash160_each(message, &mut short);
        let hash160 = |i: usize| <[u8; 20]>::from(Ripemd160::digest(one(false, message(i))));
        let mixed = mixed && short.iter().enumerate().all(|(i, hash)| *hash == hash160(i));
        mixed && nodes.iter().zip(&hashes).all(|(node, hash)| *hash == one(true, node))
    }
}

fn reason(backend: HashBackend, failed: bool) -> &'static str {
    match (backend, failed) {
        (HashBackend::Avx512, _) => "AVX-512 F and BW and the SHA instructions are here",
        (HashBackend::ShaNi, false) => "the SHA instructions are here, AVX-512 F and BW are not",
        (HashBackend::Sha2, false) => "neither AVX-512 nor the SHA instructions are here",
        (_, true) => "a faster kernel is here but failed its known-answer test; it is not used",
    }
}

fn one(twice: bool, message: &[u8]) -> [u8; 32] {
    let hash = Sha256::digest(message);
    if twice { Sha256::digest(hash).into() } else { hash.into() }
}

/// Blocks of a message with its padding: a byte 0x80 and eight bytes of length.
fn blocks_of(len: usize) -> usize {
    (len + 9).div_ceil(64)
}

/// A message with its padding beside it.
#[cfg(target_arch = "x86_64")]
struct Padded<'a> {
    whole: &'a [[u8; 64]],
    tail: [[u8; 64]; 2],
    tail_blocks: usize,
}

#[cfg(target_arch = "x86_64")]
impl<'a> Padded<'a> {
    fn new(message: &'a [u8]) -> Self {
        let (whole, rest) = message.as_chunks::<64>();
        let tail_blocks = blocks_of(message.len()) - whole.len();
        let mut tail = [[0; 64]; 2];
        tail[0][..rest.len()].copy_from_slice(rest);
        tail[0][rest.len()] = 0x80;
        tail[tail_blocks - 1][56..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
        Self { whole, tail, tail_blocks }
    }

    fn blocks(&self) -> usize {
        self.whole.len() + self.tail_blocks
    }
}

#[cfg(target_arch = "x86_64")]
fn block_of<'p>(padded: &'p [Padded<'_>], lane: usize, i: usize) -> &'p [u8; 64] {
    let p = &padded[lane];
    p.whole.get(i).unwrap_or_else(|| &p.tail[i - p.whole.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hashers() -> Vec<Hasher> {
        HashBackend::ALL.into_iter().filter_map(Hasher::with_backend).collect()
    }

    #[test]
    fn an_empty_batch_is_a_batch() {
        for hasher in hashers() {
            hasher.sha256d_nodes(&[], &mut []);
            hasher.sha256d_each(|_| &[], &mut []);
        }
    }

    #[test]
    fn the_chosen_kernel_passes_its_own_known_answer_test() {
        let hasher = Hasher::new();
        assert!(hasher.agrees_with_sha2());
        assert!(!hasher.kernel().name.is_empty() && !hasher.kernel().why.is_empty());
    }

    #[test]
    fn the_published_answers_come_out_of_every_kernel() {
        const ABC: [u8; 32] = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae,
            0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61,
            0xf2, 0x00, 0x15, 0xad,
        ];
        for hasher in hashers() {
            for count in [1, 2, 5, 16, 17, 40] {
                let mut out = vec![[0; 32]; count];
                hasher.sha256_each(|_| b"abc", &mut out);
                assert!(out.iter().all(|hash| *hash == ABC), "{:?} x {count}", hasher.backend());
            }
        }
    }

    #[test]
    fn every_length_up_to_five_blocks_hashes_as_sha2_does_in_every_lane() {
        let bytes: Vec<u8> = (0..700u32).map(|i| (i * 31 + i / 7) as u8).collect();
        for hasher in hashers() {
            for len in 0..=320 {
                let mut out = [[0; 32]; 17];
                hasher.sha256d_each(|i| &bytes[i..i + len], &mut out);
                for (i, hash) in out.iter().enumerate() {
                    assert_eq!(*hash, one(true, &bytes[i..i + len]), "{:?}", hasher.backend());
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn mixed_messages_hash_as_one_by_one(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..300),
            twice: bool,
        ) {
            let expected: Vec<_> = messages.iter().map(|m| one(twice, m)).collect();
            for hasher in hashers() {
                let mut out = vec![[0; 32]; messages.len()];
                hasher.each(twice, |i| &messages[i], &mut out);
                prop_assert_eq!(&out, &expected, "{:?}", hasher.backend());
            }
        }

        #[test]
        fn keys_and_scripts_get_the_hash160_of_the_crates(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 0..200),
        ) {
            let hash160 = |m: &Vec<u8>| <[u8; 20]>::from(Ripemd160::digest(one(false, m)));
            let expected: Vec<_> = messages.iter().map(hash160).collect();
            for hasher in hashers() {
                let mut out = vec![[0; 20]; messages.len()];
                hasher.hash160_each(|i| &messages[i], &mut out);
                prop_assert_eq!(&out, &expected, "{:?}", hasher.backend());
            }
        }

        #[test]
        fn nodes_hash_as_one_by_one(
            nodes in prop::collection::vec(prop::array::uniform32(any::<u16>()), 0..80),
        ) {
            let nodes: Vec<[u8; 64]> = nodes
                .iter()
                .map(|words| core::array::from_fn(|i| words[i / 2].to_le_bytes()[i % 2]))
                .collect();
            let expected: Vec<_> = nodes.iter().map(|n| one(true, n)).collect();
            for hasher in hashers() {
                let mut out = vec![[0; 32]; nodes.len()];
                hasher.sha256d_nodes(&nodes, &mut out);
                prop_assert_eq!(&out, &expected, "{:?}", hasher.backend());
            }
        }
    }

    /// Prints nanoseconds an item for every kernel, in slices that take turns; run it with `--release`.
    #[test]
    #[ignore = "a measurement, not a test"]
    fn nanoseconds_an_item_of_every_kernel() {
        const ITEMS: usize = 1024;
        let nodes: Vec<[u8; 64]> = (0..ITEMS).map(|i| [i as u8; 64]).collect();
        let bytes = vec![7u8; 250];
        let mut out = vec![[0; 32]; ITEMS];
        let hashers = hashers();
        let mut best = vec![[f64::MAX; 3]; hashers.len()];
        for _ in 0..200 {
            for (hasher, best) in hashers.iter().zip(&mut best) {
                let mut time = |slot: usize, run: &mut dyn FnMut()| {
                    let start = std::time::Instant::now();
                    run();
                    best[slot] = best[slot].min(start.elapsed().as_nanos() as f64 / ITEMS as f64);
                };
                time(0, &mut || hasher.sha256d_nodes(&nodes, &mut out));
                time(1, &mut || hasher.sha256d_each(|_| &bytes, &mut out));
                time(2, &mut || hasher.sha256d_each(|i| &bytes[..190 + i % 61], &mut out));
            }
        }
        for (hasher, [node, equal, mixed]) in hashers.iter().zip(best) {
            println!(
                "{:12} node {node:.0} ns, 250 bytes {equal:.0} ns, 190..250 bytes {mixed:.0} ns",
                hasher.kernel().name
            );
        }
    }
}
