//! What is raced: objects made from a seed, so that every node of a race knows what must arrive without being told.
//!
//! In: a kind, a seed, a run. Out: the bytes, where the transactions lie in them, and which of these a node knows already. A
//! block of transactions is a real one: its transactions parse, its header carries their Merkle root and enough work.

use crate::rng::Rng;
use consensus::hash::{merkle_parent, sha256, sha256d};
use consensus::header::Header;
use consensus::merkle::{SubtreeRoots, merkle_root};
use consensus::teranode::COINBASE_PLACEHOLDER;
use relay::compact::block::Outline;
use std::ops::Range;

/// Transactions of [`Kind::Block`].
const TXS: usize = 4_000;
/// Bytes of each.
const TX_BYTES: usize = 250;
/// Subtrees of [`Kind::Roots`].
const ROOTS: usize = 600;
/// A subtree has two to this many leaves.
const HEIGHT: usize = 20;
/// Bytes of [`Kind::Bulk`].
const BULK_BYTES: usize = 32_000_000;
/// Target of regtest: every second nonce meets it.
pub const N_BITS: u32 = 0x207f_ffff;

/// What is raced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// A block of 4,000 transactions of 250 bytes: 1 MB
    Block,
    /// A block that names 600 subtrees by their roots
    Roots,
    /// 32 MB of anything
    Bulk,
}

impl Kind {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Roots => "roots",
            Self::Bulk => "bulk",
        }
    }
}

/// An object of one run.
#[derive(Clone, Debug)]
pub struct Object {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Where its transactions lie, the coinbase first; empty where there are none to speak of.
    pub txs: Vec<Range<usize>>,
}

impl Object {
    /// The object of a run.
    pub fn new(kind: Kind, seed: u64, run: u32) -> Self {
        let mut rng = Rng::new(seed ^ (u64::from(run) << 32) ^ 0x000b_7ec7);
        match kind {
            Kind::Block => block(&mut rng),
            Kind::Roots => Self { bytes: outline(&mut rng).write(), txs: Vec::new() },
            Kind::Bulk => {
                let mut bytes = vec![0; BULK_BYTES];
                for chunk in bytes.chunks_exact_mut(8) {
                    chunk.copy_from_slice(&rng.next().to_le_bytes());
                }
                Self { bytes, txs: Vec::new() }
            }
        }
    }

    /// How large objects of a kind are.
    pub fn len_of(kind: Kind) -> usize {
        match kind {
            Kind::Block => 80 + 3 + TXS * TX_BYTES,
            Kind::Roots => 80 + 20 + TX_BYTES + 32 * (HEIGHT + ROOTS),
            Kind::Bulk => BULK_BYTES,
        }
    }

    /// Digest that stands for "all of it arrived".
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.bytes)
    }

    /// Bytes of the `i`-th transaction.
    pub fn tx(&self, i: usize) -> &[u8] {
        &self.bytes[self.txs[i].clone()]
    }

    /// Which transactions the node at `hop` knows before: `overlap_pct` of them, others at every hop and in every run, never the
    /// coinbase. The source knows all.
    pub fn known(&self, overlap_pct: u32, hop: usize, seed: u64, run: u32) -> Vec<bool> {
        let mut known = vec![true; self.txs.len()];
        if hop == 0 || known.is_empty() {
            return known;
        }
        known[0] = false;
        let mut rng = Rng::new(seed ^ (u64::from(run) << 24) ^ (hop as u64 + 1));
        let mut unknown = (self.txs.len() - 1) * (100 - overlap_pct.min(100)) as usize / 100;
        while unknown > 0 {
            let i = 1 + rng.below(self.txs.len() as u64 - 1) as usize;
            unknown -= usize::from(known[i]);
            known[i] = false;
        }
        known
    }
}

fn block(rng: &mut Rng) -> Object {
    let txs: Vec<Vec<u8>> = (0..TXS).map(|i| transaction(rng, i == 0)).collect();
    let ids: Vec<[u8; 32]> = txs.iter().map(|tx| sha256d(tx)).collect();
    let mut bytes = header(rng, merkle_root(&ids).root.0);
    bytes.push(0xfd);
    bytes.extend_from_slice(&(TXS as u16).to_le_bytes());
    let mut ranges = Vec::with_capacity(TXS);
    for tx in &txs {
        ranges.push(bytes.len()..bytes.len() + tx.len());
        bytes.extend_from_slice(tx);
    }
    Object { bytes, txs: ranges }
}

/// A block of 600 full subtrees: what a relay of blocks sends when their transactions are known (`docs/bfr.md`, outlines).
fn outline(rng: &mut Rng) -> Outline {
    let coinbase = transaction(rng, true);
    let path: Vec<[u8; 32]> = (0..HEIGHT).map(|_| rng.bytes32()).collect();
    let climb =
        |leaf: [u8; 32]| path.iter().fold(leaf, |node, beside| merkle_parent(&node, beside));
    let mut roots: Vec<[u8; 32]> = (0..ROOTS).map(|_| rng.bytes32()).collect();
    roots[0] = climb(COINBASE_PLACEHOLDER.0);
    let leaves = 1u32 << HEIGHT;
    let mut tree = SubtreeRoots::for_first(u64::from(leaves));
    for (at, root) in roots.iter().enumerate() {
        let own = if at == 0 { climb(sha256d(&coinbase)) } else { *root };
        tree.push(&own, u64::from(leaves)).expect("full subtrees fit one behind the other");
    }
    let header = header(rng, tree.root().root.0);
    let header = header.try_into().expect("a header is 80 bytes");
    Outline { header, coinbase, path, leaves, last_leaves: leaves, roots }
}

/// 250 bytes that parse: one input, two P2PKH outputs, random where it does not matter.
fn transaction(rng: &mut Rng, coinbase: bool) -> Vec<u8> {
    // 4 version, 1 count, 36 outpoint, 1 length, script, 4 sequence, 1 count, 2 x 34 outputs, 4 locktime.
    let script_len = TX_BYTES - (4 + 1 + 36 + 1 + 4 + 1 + 68 + 4) - if coinbase { 31 } else { 0 };
    let mut tx = Vec::with_capacity(TX_BYTES);
    tx.extend_from_slice(&1u32.to_le_bytes());
    tx.push(1);
    if coinbase {
        tx.extend_from_slice(&[0; 32]);
        tx.extend_from_slice(&[0xff; 4]);
    } else {
        tx.extend_from_slice(&rng.bytes32());
        tx.extend_from_slice(&(rng.below(4) as u32).to_le_bytes());
    }
    tx.push(script_len as u8);
    tx.extend_from_slice(&rng.bytes(script_len));
    tx.extend_from_slice(&[0xff; 4]);
    tx.push(2);
    for output in 0..2 {
        // A coinbase's script is at most 100 bytes, so its outputs hold the rest.
        let more = if coinbase && output == 0 { 31 } else { 0 };
        tx.extend_from_slice(&rng.below(100_000_000).to_le_bytes());
        tx.push(25 + more);
        tx.extend_from_slice(&[0x76, 0xa9, 0x14]);
        tx.extend_from_slice(&rng.bytes(20));
        tx.extend_from_slice(&[0x88, 0xac]);
        tx.extend_from_slice(&vec![0x61; usize::from(more)]);
    }
    tx.extend_from_slice(&[0; 4]);
    tx
}

/// A header with work on a parent that is the same for all.
fn header(rng: &mut Rng, merkle_root: [u8; 32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(80);
    bytes.extend_from_slice(&0x2000_0000u32.to_le_bytes());
    bytes.extend_from_slice(&PARENT);
    bytes.extend_from_slice(&merkle_root);
    bytes.extend_from_slice(&(1_700_000_000 + rng.below(1 << 20) as u32).to_le_bytes());
    bytes.extend_from_slice(&N_BITS.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for nonce in 0u32.. {
        bytes[76..80].copy_from_slice(&nonce.to_le_bytes());
        let whole: &[u8; 80] = bytes.as_slice().try_into().expect("a header is 80 bytes");
        // The target's top bit alone is clear, and it is the last byte of the hash in memory.
        if Header::from_bytes(whole).hash().0[31] < 0x7f {
            break;
        }
    }
    bytes
}

/// The block that every raced block is built on.
pub const PARENT: [u8; 32] = [0x5a; 32];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_their_sizes_and_every_run_has_its_own() {
        for kind in [Kind::Block, Kind::Roots] {
            let object = Object::new(kind, 1, 0);
            assert_eq!(object.bytes.len(), Object::len_of(kind), "{kind:?}");
            assert_eq!(object.bytes, Object::new(kind, 1, 0).bytes);
            assert_ne!(object.bytes, Object::new(kind, 1, 1).bytes);
        }
    }

    #[test]
    fn a_block_parses_its_root_is_right_and_its_header_has_the_work() {
        let object = Object::new(Kind::Block, 3, 1);
        let mut ids = Vec::new();
        for i in 0..object.txs.len() {
            let tx = consensus::tx::Tx::parse(object.tx(i)).expect("every transaction parses");
            assert_eq!((tx.inputs.len(), tx.outputs.len()), (1, 2));
            ids.push(sha256d(object.tx(i)));
        }
        let header: &[u8; 80] = object.bytes[..80].try_into().expect("80 bytes");
        let header = Header::from_bytes(header);
        assert_eq!(header.merkle_root.0, merkle_root(&ids).root.0);
        assert!(header.hash().0[31] < 0x80);
    }

    #[test]
    fn an_outline_is_one_that_a_relay_passes_on() {
        let object = Object::new(Kind::Roots, 5, 2);
        let outline = Outline::read(&object.bytes).expect("it reads");
        assert!(outline.is_true() && outline.roots.len() == ROOTS);
    }

    #[test]
    fn what_a_node_knows_is_the_share_that_was_asked_for() {
        let object = Object::new(Kind::Block, 3, 1);
        let count = |overlap: u32, hop: usize| {
            object.known(overlap, hop, 3, 1).iter().filter(|known| **known).count()
        };
        assert_eq!((count(98, 0), count(100, 1)), (4_000, 3_999));
        assert_eq!((count(98, 1), count(60, 2), count(0, 1)), (3_999 - 79, 3_999 - 1_599, 0));
        assert_ne!(object.known(98, 1, 3, 1), object.known(98, 2, 3, 1));
    }
}
