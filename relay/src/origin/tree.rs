//! The tree over a group's symbols: sixteen bytes a node, the top thirty-two.
//!
//! leaf = SHA-256(0 | number | symbol), node = SHA-256(1 | left | right), both cut to 16 bytes except the top. Missing leaves
//! up to the next power of two are zeros. A tree is built from all symbols, or grows from proofs: each proof that holds leaves
//! behind its nodes, so that whoever passes a symbol on can prove it, too.

use sha2::{Digest, Sha256};

/// Bytes of a node on the way.
pub const NODE_LEN: usize = 16;

type Node = [u8; NODE_LEN];

/// Levels between the leaves and the top.
pub fn levels(leaves: usize) -> u8 {
    leaves.next_power_of_two().trailing_zeros() as u8
}

/// A tree, or what is known of it.
#[derive(Debug)]
pub struct Tree {
    /// The top.
    root: [u8; 32],
    levels: u8,
    /// Node 1 would be the top; those of node i are 2 i and 2 i + 1.
    nodes: Vec<Node>,
    known: Vec<bool>,
}

fn leaf(number: u8, symbol: &[u8]) -> Node {
    let mut hash = Sha256::new();
    hash.update([0, number]);
    hash.update(symbol);
    *hash.finalize().first_chunk().expect("a hash has 32 bytes")
}

fn parent(left: &Node, right: &Node) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

impl Tree {
    /// Bytes a tree of this many leaves takes.
    pub fn cost_bytes(leaves: usize) -> usize {
        2 * leaves.next_power_of_two() * (NODE_LEN + 1) + 96
    }

    /// The tree over these symbols, by number from 0. At least two.
    pub fn build<'a>(symbols: impl ExactSizeIterator<Item = &'a [u8]>) -> Self {
        let levels = levels(symbols.len());
        assert!(levels > 0, "a tree of one symbol proves nothing");
        let width = 1usize << levels;
        let mut nodes = vec![[0; NODE_LEN]; 2 * width];
        for (number, symbol) in symbols.enumerate() {
            nodes[width + number] = leaf(number as u8, symbol);
        }
        for at in (2..width).rev() {
            let node = parent(&nodes[2 * at], &nodes[2 * at + 1]);
            nodes[at] = *node.first_chunk().expect("a hash has 32 bytes");
        }
        let root = parent(&nodes[2], &nodes[3]);
        Self { root, levels, nodes, known: vec![true; 2 * width] }
    }

    /// A tree of which only the top is known.
    pub fn of_root(root: [u8; 32], leaves: usize) -> Self {
        let levels = levels(leaves);
        assert!(levels > 0, "a tree of one symbol proves nothing");
        let width = 1usize << levels;
        let mut known = vec![false; 2 * width];
        let mut nodes = vec![[0; NODE_LEN]; 2 * width];
        // What is beyond the last leaf is zeros for everybody.
        for at in width + leaves..2 * width {
            known[at] = true;
            nodes[at] = [0; NODE_LEN];
        }
        Self { root, levels, nodes, known }
    }

    /// The top.
    pub fn root(&self) -> &[u8; 32] {
        &self.root
    }

    /// Whether this symbol is below the top, by this way; what the way says is remembered when it is.
    pub fn proves(&mut self, number: u8, symbol: &[u8], way: &[u8]) -> bool {
        let (way, rest) = way.as_chunks::<NODE_LEN>();
        let width = 1usize << self.levels;
        if way.len() != usize::from(self.levels) || !rest.is_empty() || usize::from(number) >= width
        {
            return false;
        }
        let mut at = width + usize::from(number);
        let mut own = [[0; NODE_LEN]; 9];
        own[0] = leaf(number, symbol);
        for (level, beside) in way.iter().enumerate() {
            if self.known[at] {
                // From here up the tree is known.
                if self.nodes[at] != own[level] {
                    return false;
                }
                self.learn(number, &own[..level], &way[..level]);
                return true;
            }
            let node = match at % 2 {
                0 => parent(&own[level], beside),
                _ => parent(beside, &own[level]),
            };
            at /= 2;
            if at == 1 {
                let holds = node == self.root;
                if holds {
                    self.learn(number, &own[..=level], way);
                }
                return holds;
            }
            own[level + 1] = *node.first_chunk().expect("a hash has 32 bytes");
        }
        false
    }

    fn learn(&mut self, number: u8, own: &[Node], beside: &[Node]) {
        let mut at = (1usize << self.levels) + usize::from(number);
        for (own, beside) in own.iter().zip(beside) {
            (self.nodes[at], self.known[at]) = (*own, true);
            (self.nodes[at ^ 1], self.known[at ^ 1]) = (*beside, true);
            at /= 2;
        }
    }

    /// Writes the way of a symbol behind the first bytes of the top; false when it is not known.
    pub fn write(&self, number: u8, out: &mut [u8]) -> bool {
        let (id, way) = out.split_at_mut(super::ROOT_ID_LEN);
        let mut at = (1usize << self.levels) + usize::from(number);
        if !self.known.get(at).is_some_and(|known| *known) {
            return false;
        }
        id.copy_from_slice(&self.root[..super::ROOT_ID_LEN]);
        for place in way.as_chunks_mut::<NODE_LEN>().0 {
            if !self.known[at ^ 1] {
                return false;
            }
            *place = self.nodes[at ^ 1];
            at /= 2;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn symbols(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|i| vec![i as u8; 64]).collect()
    }

    fn way(tree: &Tree, number: u8) -> Option<Vec<u8>> {
        let mut out = vec![0; 4 + usize::from(tree.levels) * NODE_LEN];
        tree.write(number, &mut out).then(|| out[4..].to_vec())
    }

    #[test]
    fn another_symbol_another_number_or_another_way_is_not_proved() {
        let symbols = symbols(20);
        let tree = Tree::build(symbols.iter().map(Vec::as_slice));
        let good = way(&tree, 7).expect("it is the whole tree");
        let fresh = || Tree::of_root(*tree.root(), 20);
        assert!(fresh().proves(7, &symbols[7], &good));
        assert!(!fresh().proves(7, &symbols[8], &good));
        assert!(!fresh().proves(6, &symbols[7], &good));
        assert!(!fresh().proves(40, &symbols[7], &good));
        assert!(!fresh().proves(7, &symbols[7], &good[..64]));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(!fresh().proves(7, &symbols[7], &bad), "byte {at}");
        }
    }

    #[test]
    fn a_wrong_proof_teaches_nothing() {
        let symbols = symbols(8);
        let tree = Tree::build(symbols.iter().map(Vec::as_slice));
        let mut other = Tree::of_root(*tree.root(), 8);
        let mut bad = way(&tree, 2).expect("it is the whole tree");
        bad[40] ^= 1;
        assert!(!other.proves(2, &symbols[2], &bad));
        assert!(way(&other, 2).is_none());
        assert!(other.proves(2, &symbols[2], &way(&tree, 2).unwrap()));
    }

    proptest! {
        #[test]
        fn symbols_proved_in_any_order_can_be_passed_on_with_their_proofs(
            count in 2usize..255, seed: u64,
        ) {
            let symbols = symbols(count);
            let tree = Tree::build(symbols.iter().map(Vec::as_slice));
            let mut next = Tree::of_root(*tree.root(), count);
            let mut after = Tree::of_root(*tree.root(), count);
            let mut state = seed | 1;
            for _ in 0..count {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let number = (state >> 33) as usize % count;
                let proof = way(&tree, number as u8).expect("it is the whole tree");
                prop_assert!(next.proves(number as u8, &symbols[number], &proof));
                let passed_on = way(&next, number as u8).expect("it was just proved");
                prop_assert!(after.proves(number as u8, &symbols[number], &passed_on));
            }
        }
    }
}
