//! Blocks in three forms: an outline of subtree roots, the whole block, and a sketch that names its transactions.
//!
//! In: what a host hands over: an outline, or a serialized block. Out: what travels, and back; nothing goes to a host whose
//! merkle root is not the header's. Both payloads start with the header; a block cannot have 0 transactions, so a 0 after the
//! header says that it is an outline.
//!
//! ```text
//!  outline  header 80 | u8 0 | u8 path_len | u16 0 | u32 leaves | u32 last_leaves | u32 count | u32 coinbase_len
//!           | coinbase | path_len x 32 | count x root 32
//!  block    header 80 | compact size of the number of transactions | the transactions
//!  sketch   header 80 | hash 32 of the body object | u32 count | u32 coinbase_len | coinbase
//!           | (count - 1) x u64 name | (count - 1) x length, seven bits a byte, low bits first
//! ```
//!
//! The path leads from the coinbase's place, the first leaf, to the first subtree's root: subtrees are announced with a
//! placeholder there (32 bytes of ff), and only with the path can the block's own root be computed from theirs. The body of
//! a sketch is every transaction but the coinbase, in order, as an object of its own.

use super::subtree::root_of;
use super::{Salt, salt_after, short_id, take, take_u32};
use crate::lookup::TxLookup;
use consensus::block::BlockView;
use consensus::hash::{merkle_parent, sha256d};
use consensus::header::Header;
use consensus::merkle::{SubtreeRoots, ceil_log2};
use consensus::teranode::COINBASE_PLACEHOLDER;
use consensus::tx::TxLayout;
use consensus::wire::write_compact_size;
use sigbatch::Hasher;
use std::ops::Range;

/// Blocks with fewer transactions are sent whole.
pub const SKETCH_TXS_MIN: usize = 16;

/// A block by its subtrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The header.
    pub header: [u8; 80],
    /// The coinbase transaction, raw.
    pub coinbase: Vec<u8>,
    /// What is beside the coinbase on the way to the root of the first subtree, leaves first.
    pub path: Vec<[u8; 32]>,
    /// Leaves of every subtree but the last.
    pub leaves: u32,
    /// Leaves of the last one.
    pub last_leaves: u32,
    /// Roots of the subtrees in order, the first with the placeholder.
    pub roots: Vec<[u8; 32]>,
}

impl Outline {
    /// The payload.
    pub fn write(&self) -> Vec<u8> {
        let mut out = self.header.to_vec();
        out.extend_from_slice(&[0, self.path.len() as u8, 0, 0]);
        let counts = [self.leaves, self.last_leaves, self.roots.len() as u32];
        counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
        out.extend_from_slice(&(self.coinbase.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.coinbase);
        out.extend_from_slice(self.path.as_flattened());
        out.extend_from_slice(self.roots.as_flattened());
        out
    }

    /// Reads a payload; `None` when it is no outline.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let mut rest = payload;
        let header = *take(&mut rest, 80)?.first_chunk()?;
        let &[0, path_len, 0, 0] = take(&mut rest, 4)? else { return None };
        let leaves = take_u32(&mut rest)?;
        let last_leaves = take_u32(&mut rest)?;
        let count = take_u32(&mut rest)? as usize;
        let coinbase_len = take_u32(&mut rest)? as usize;
        let coinbase = take(&mut rest, coinbase_len)?.to_vec();
        let path = take(&mut rest, usize::from(path_len) * 32)?.as_chunks().0.to_vec();
        let (roots, extra) = rest.as_chunks::<32>();
        let fits = extra.is_empty() && roots.len() == count;
        fits.then(|| Self { header, coinbase, path, leaves, last_leaves, roots: roots.to_vec() })
    }

    /// Whether coinbase, path and roots make the header's merkle root.
    pub fn is_true(&self) -> bool {
        let climb = |leaf: [u8; 32]| {
            self.path.iter().fold(leaf, |node, beside| merkle_parent(&node, beside))
        };
        let Some(first) = self.roots.first() else { return false };
        let single = self.roots.len() == 1;
        let first_leaves = if single { self.last_leaves } else { self.leaves };
        let height = ceil_log2(u64::from(first_leaves));
        if climb(COINBASE_PLACEHOLDER.0) != *first || self.path.len() != height as usize {
            return false;
        }
        let mut tree = SubtreeRoots::for_first(u64::from(first_leaves));
        let own = climb(sha256d(&self.coinbase));
        let last = self.roots.len() - 1;
        for (at, root) in self.roots.iter().enumerate() {
            let leaves = if at == last { self.last_leaves } else { self.leaves };
            let root = if at == 0 { &own } else { root };
            if tree.push(root, u64::from(leaves)).is_err() {
                return false;
            }
        }
        let got = tree.root();
        !got.is_mutated && got.root == Header::from_bytes(&self.header).merkle_root
    }
}

/// Whether a payload is an outline, by its first byte after the header.
pub fn is_outline(payload: &[u8]) -> bool {
    payload.get(Header::BYTES) == Some(&0)
}

/// Where each transaction of a serialized block stands; `None` when it is no block.
fn tx_ranges(block: &[u8]) -> Option<Vec<Range<usize>>> {
    let view = BlockView::new(block).ok()?;
    let mut txs = view.txs();
    let mut layout = TxLayout::new();
    let base = block.as_ptr() as usize;
    let mut ranges = Vec::new();
    let mut end = 0;
    while let Some(tx) = txs.next_tx(&mut layout).ok()? {
        let start = tx.bytes().as_ptr() as usize - base;
        end = start + tx.bytes().len();
        ranges.push(start..end);
    }
    (end == block.len()).then_some(ranges)
}

fn txids(block: &[u8], ranges: &[Range<usize>], hasher: &Hasher) -> Vec<[u8; 32]> {
    let mut ids = vec![[0; 32]; ranges.len()];
    hasher.sha256d_each(|i| &block[ranges[i].clone()], &mut ids);
    ids
}

/// Whether a serialized block's transactions make its header's merkle root.
pub fn is_true(block: &[u8], hasher: &Hasher) -> bool {
    let Some(ranges) = tx_ranges(block) else { return false };
    let root = root_of(&txids(block, &ranges, hasher), hasher);
    let header = block.first_chunk().expect("a block that was read has a header");
    !root.is_mutated && root.root == Header::from_bytes(header).merkle_root
}

/// What a serialized block is cut into: the sketch, which still lacks the hash of the body object, and the body's place.
pub fn sketch(block: &[u8], hasher: &Hasher) -> Option<(Vec<u8>, Range<usize>)> {
    let ranges = tx_ranges(block)?;
    if ranges.len() < SKETCH_TXS_MIN {
        return None;
    }
    let ids = txids(block, &ranges, hasher);
    let header: &[u8; 80] = block.first_chunk()?;
    let salt = salt_after(&Header::from_bytes(header).prev.0);
    let coinbase = &block[ranges[0].clone()];
    let mut out = Vec::with_capacity(120 + coinbase.len() + 10 * ranges.len());
    out.extend_from_slice(header);
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&(ranges.len() as u32).to_le_bytes());
    out.extend_from_slice(&(coinbase.len() as u32).to_le_bytes());
    out.extend_from_slice(coinbase);
    for txid in &ids[1..] {
        out.extend_from_slice(&short_id(&salt, txid).to_le_bytes());
    }
    for range in &ranges[1..] {
        let mut len = range.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
    }
    Some((out, ranges[0].end..block.len()))
}

/// Writes the hash of the body object into a sketch.
pub fn set_body_hash(sketch: &mut [u8], hash: &[u8; 32]) {
    sketch[80..112].copy_from_slice(hash);
}

/// A sketch that was read.
#[derive(Debug)]
pub struct Sketch<'a> {
    /// The header.
    pub header: &'a [u8; 80],
    /// Hash of the body object.
    pub body_hash: [u8; 32],
    /// Bytes of the body.
    pub body_len: usize,
    count: usize,
    coinbase: &'a [u8],
    names: &'a [[u8; 8]],
    /// Where each transaction starts in the body, and where the last one ends.
    starts: Vec<usize>,
}

impl<'a> Sketch<'a> {
    /// Reads a sketch whose body has at most so many bytes.
    ///
    /// Memory: eight bytes for each eight bytes of names that have arrived.
    pub fn read(payload: &'a [u8], body_len_max: usize) -> Option<Self> {
        let mut rest = payload;
        let header = take(&mut rest, 80)?.first_chunk()?;
        let body_hash = *take(&mut rest, 32)?.first_chunk()?;
        let count = take_u32(&mut rest)? as usize;
        let coinbase_len = take_u32(&mut rest)? as usize;
        let coinbase = take(&mut rest, coinbase_len)?;
        let named = count.checked_sub(1)?;
        let (names, _) = take(&mut rest, named.checked_mul(8)?)?.as_chunks::<8>();
        let mut starts = Vec::with_capacity(named + 1);
        let mut body_len = 0usize;
        for _ in 0..named {
            starts.push(body_len);
            let len = take_length(&mut rest).filter(|len| *len > 0)?;
            body_len += len as usize;
            if body_len > body_len_max {
                return None;
            }
        }
        starts.push(body_len);
        rest.is_empty().then_some(Self {
            header,
            body_hash,
            body_len,
            count,
            coinbase,
            names,
            starts,
        })
    }

    /// Fills in what is known here: the body with holes, and for each transaction whether it is there.
    pub fn fill(&self, txs: &mut dyn TxLookup) -> Filled<'_> {
        let salt: Salt = salt_after(&Header::from_bytes(self.header).prev.0);
        let mut body = vec![0; self.body_len];
        let mut found = vec![0u8; self.names.len()];
        let names: Vec<u64> = self.names.iter().map(|name| u64::from_le_bytes(*name)).collect();
        txs.resolve(salt, &names, &mut |which, _, bytes| {
            let place = self.starts[which]..self.starts[which + 1];
            found[which] = found[which].saturating_add(1);
            if bytes.len() == place.len() {
                body[place].copy_from_slice(bytes);
            } else {
                found[which] = u8::MAX;
            }
        });
        let known = found.iter().map(|found| *found == 1).collect();
        Filled { body, known, starts: &self.starts }
    }

    /// The serialized block with this body.
    pub fn block(&self, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(80 + 9 + self.coinbase.len() + body.len());
        out.extend_from_slice(self.header);
        write_compact_size(&mut out, self.count as u64);
        out.extend_from_slice(self.coinbase);
        out.extend_from_slice(body);
        out
    }
}

/// Seven bits a byte, low bits first, at most 32 in all; one encoding each.
fn take_length(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let is_shortest = shift == 0 || byte != 0;
            return u32::try_from(value).ok().filter(|_| is_shortest);
        }
    }
    None
}

/// A body with holes.
#[derive(Debug)]
pub struct Filled<'s> {
    /// The body; zeros where nothing is known.
    pub body: Vec<u8>,
    known: Vec<bool>,
    starts: &'s [usize],
}

impl Filled<'_> {
    /// Whether every byte of this range is known.
    pub fn knows(&self, range: Range<usize>) -> bool {
        let first = self.starts.partition_point(|start| *start <= range.start).saturating_sub(1);
        (first..self.known.len())
            .take_while(|tx| self.starts[*tx] < range.end)
            .all(|tx| self.known[tx])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compact::TxStore;
    use consensus::block::write_block;
    use consensus::hash::MerkleHash;
    use proptest::prelude::*;

    /// Transactions that parse, of lengths that differ.
    pub(crate) fn some_txs(count: usize, seed: u32) -> Vec<Vec<u8>> {
        (0..count)
            .map(|i| {
                // One input with a script of some length, one output without.
                let script = 20 + (i * 37 + seed as usize) % 380;
                let mut tx = vec![1, 0, 0, 0, 1];
                tx.extend_from_slice(&consensus::hash::sha256(&[
                    i as u8,
                    (i >> 8) as u8,
                    seed as u8,
                ]));
                tx.extend_from_slice(&(i as u32).to_le_bytes());
                write_compact_size(&mut tx, script as u64);
                tx.extend((0..script).map(|at| (at * 7 + i) as u8));
                tx.extend_from_slice(&[0xff; 4]);
                tx.push(1);
                tx.extend_from_slice(&(i as u64).to_le_bytes());
                tx.push(0);
                tx.extend_from_slice(&[0; 4]);
                tx
            })
            .collect()
    }

    /// A block of these transactions on `prev`, mined at the easiest target.
    pub(crate) fn some_block(txs: &[Vec<u8>], prev: [u8; 32]) -> Vec<u8> {
        let ids: Vec<[u8; 32]> = txs.iter().map(|tx| sha256d(tx)).collect();
        let mut header = Header { version: 1, n_bits: 0x207f_ffff, ..Header::default() };
        header.prev.0 = prev;
        header.merkle_root = root_of(&ids, &Hasher::new()).root;
        while header.hash().0[31] > 0x7f {
            header.nonce += 1;
        }
        let mut out = Vec::new();
        write_block(&mut out, &header, txs.iter());
        out
    }

    /// An outline of `subtrees` subtrees of four leaves, the last with `last` of them.
    pub(crate) fn some_outline(subtrees: usize, last: u32) -> Outline {
        outline_with(b"coinbase".to_vec(), subtrees, last)
    }

    /// The same with this coinbase.
    pub(crate) fn outline_with(coinbase: Vec<u8>, subtrees: usize, last: u32) -> Outline {
        let leaf = |subtree: usize, at: usize| consensus::hash::sha256(&[subtree as u8, at as u8]);
        let mut with = Vec::new();
        let mut roots = Vec::new();
        let mut path = Vec::new();
        for subtree in 0..subtrees {
            let count = if subtree + 1 == subtrees { last as usize } else { 4 };
            let mut leaves: Vec<[u8; 32]> = (0..count).map(|at| leaf(subtree, at)).collect();
            if subtree == 0 {
                leaves[0] = COINBASE_PLACEHOLDER.0;
                if count > 1 {
                    path.push(leaves[1]);
                }
                if count > 2 {
                    path.push(merkle_parent(&leaves[2], leaves.get(3).unwrap_or(&leaves[2])));
                }
            }
            roots.push(root_of(&leaves, &Hasher::new()).root.0);
            if subtree == 0 {
                leaves[0] = sha256d(&coinbase);
            }
            with.extend(leaves);
        }
        let mut header = Header { version: 1, n_bits: 0x207f_ffff, ..Header::default() };
        header.merkle_root = root_of(&with, &Hasher::new()).root;
        while header.hash().0[31] > 0x7f {
            header.nonce += 1;
        }
        let header = header.to_bytes();
        Outline { header, coinbase, path, leaves: 4, last_leaves: last, roots }
    }

    #[test]
    fn an_outline_is_true_when_its_flat_list_of_transactions_is() {
        for subtrees in 1..6 {
            for last in 1..=4 {
                let outline = some_outline(subtrees, last);
                assert!(outline.is_true(), "{subtrees} subtrees, the last with {last}");
                assert_eq!(Outline::read(&outline.write()), Some(outline.clone()));
                assert!(is_outline(&outline.write()));
            }
        }
    }

    #[test]
    fn an_outline_with_anything_changed_is_not_true() {
        let outline = some_outline(3, 4);
        let changes: [fn(&mut Outline); 6] = [
            |outline| outline.coinbase[0] ^= 1,
            |outline| outline.path[1][0] ^= 1,
            |outline| outline.roots[0][0] ^= 1,
            |outline| outline.roots.swap(1, 2),
            |outline| outline.last_leaves = 5,
            |outline| outline.roots.clear(),
        ];
        for change in changes {
            let mut other = outline.clone();
            change(&mut other);
            assert!(!other.is_true());
        }
    }

    #[test]
    fn six_hundred_subtrees_are_nineteen_kilobytes() {
        let outline = Outline {
            header: [0; 80],
            coinbase: vec![0; 200],
            path: vec![[0; 32]; 20],
            leaves: 1 << 20,
            last_leaves: 1,
            roots: vec![[0; 32]; 600],
        };
        assert!((19_000..20_500).contains(&outline.write().len()), "{}", outline.write().len());
    }

    #[test]
    fn a_sketch_and_the_transactions_it_names_are_the_block() {
        let txs = some_txs(300, 1);
        let block = some_block(&txs, [0; 32]);
        assert!(is_true(&block, &Hasher::new()));
        let (payload, body) = sketch(&block, &Hasher::new()).expect("it has transactions");
        assert!(payload.len() < block.len() / 15, "{} of {}", payload.len(), block.len());
        let sketch = Sketch::read(&payload, 1 << 20).expect("it was just made");
        let mut store = TxStore::new(1 << 22);
        // Two of a hundred are missing, and one is there with another length (another transaction of the same name).
        for (_, tx) in txs.iter().enumerate().skip(1).filter(|(i, _)| i % 50 != 0) {
            store.offer(sha256d(tx), tx);
        }
        let filled = sketch.fill(&mut store);
        for (i, _) in txs.iter().enumerate().skip(1) {
            let place = sketch.starts[i - 1]..sketch.starts[i];
            assert_eq!(filled.knows(place.clone()), i % 50 != 0);
            if i % 50 != 0 {
                assert_eq!(filled.body[place], txs[i]);
            }
        }
        assert_eq!(sketch.block(&block[body]), block);
        assert!(Sketch::read(&payload, 100).is_none(), "a body above the limit");
    }

    #[test]
    fn a_block_with_a_byte_changed_is_not_true() {
        let block = some_block(&some_txs(20, 1), [0; 32]);
        for at in [40, 100, block.len() - 1] {
            let mut other = block.clone();
            other[at] ^= 1;
            assert!(!is_true(&other, &Hasher::new()), "byte {at}");
        }
        assert!(!is_true(&block[..block.len() - 1], &Hasher::new()));
        let twice = [some_txs(3, 1), vec![some_txs(3, 1)[2].clone()]].concat();
        assert!(!is_true(&some_block(&twice, [0; 32]), &Hasher::new()), "CVE-2012-2459");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), small in 0u8..6) {
            for at in [80, 112, 116] {
                if let Some(four) = bytes.get_mut(at..at + 4) {
                    four.copy_from_slice(&[small, 0, 0, 0]);
                }
            }
            if let Some(outline) = Outline::read(&bytes) {
                prop_assert_eq!(outline.write(), bytes.clone());
                let _ = outline.is_true();
            }
            if let Some(sketch) = Sketch::read(&bytes, 1_000_000) {
                prop_assert!(sketch.body_len <= 1_000_000);
            }
            let _ = is_true(&bytes, &Hasher::new());
            let _ = MerkleHash(root_of(&[], &Hasher::new()).root.0);
        }
    }
}
