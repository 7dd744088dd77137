//! Merkle trees of transaction ids.
//!
//! Leaves (or the roots of whole subtrees) come in one by one, a root goes out; memory is one hash a level, whatever the
//! number of transactions. At an odd level the last node is paired with itself; two *different* positions that hold the
//! same hash make the block mutable (CVE-2012-2459), which the accumulator reports as `is_mutated`.
//!
//! Sources: SV Node `consensus/merkle.cpp` `ComputeMerkleRoot`; Teranode's subtrees are the aligned subtrees of the same tree.

use crate::hash::{MerkleHash, merkle_parent};

/// Levels a tree can have; 2^63 leaves are more than there will be.
pub const LEVELS_MAX: usize = 64;

/// A root, and whether the leaves can be changed without changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MerkleRoot {
    /// The root; zero for no leaves.
    pub root: MerkleHash,
    /// Two paired nodes are equal somewhere. SV Node: `bad-txns-duplicate`.
    pub is_mutated: bool,
}

/// Builds a root from leaves that arrive one after the other.
#[derive(Debug, Clone)]
pub struct MerkleAccumulator {
    /// `pending[l]` is the left node that waits for its sibling, where bit `l` of `count` is set.
    pending: [[u8; 32]; LEVELS_MAX],
    count: u64,
    is_mutated: bool,
}

impl Default for MerkleAccumulator {
    fn default() -> Self {
        Self::new()
    }
}

impl MerkleAccumulator {
    /// An empty tree.
    pub fn new() -> Self {
        Self { pending: [[0; 32]; LEVELS_MAX], count: 0, is_mutated: false }
    }

    /// Leaves so far; a whole subtree counts as all its leaves.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds a leaf.
    #[inline]
    pub fn push(&mut self, leaf: &[u8; 32]) {
        self.push_node(leaf, 0);
    }

    /// Adds the root of a full subtree of 2^`level` leaves.
    ///
    /// # Panics
    /// If the leaves before it do not fill whole subtrees of that size, or the tree passes 2^63 leaves.
    #[inline]
    pub fn push_node(&mut self, node: &[u8; 32], level: u32) {
        assert!(level < 63, "a subtree of 2^{level} leaves");
        let leaves = 1u64 << level;
        assert!(
            self.count.is_multiple_of(leaves),
            "a subtree of {leaves} leaves after {} leaves is not aligned",
            self.count
        );
        let mut node = *node;
        let mut at = level as usize;
        while self.count >> at & 1 == 1 {
            self.is_mutated |= self.pending[at] == node;
            node = merkle_parent(&self.pending[at], &node);
            at += 1;
        }
        self.pending[at] = node;
        self.count += leaves;
        assert!(self.count < 1 << 63, "a merkle tree of more than 2^63 leaves");
    }

    /// The root of what has been added; more may be added afterwards.
    pub fn root(&self) -> MerkleRoot {
        if self.count == 0 {
            return MerkleRoot::default();
        }
        let mut is_mutated = self.is_mutated;
        let mut level = self.count.trailing_zeros();
        let mut node = self.pending[level as usize];
        let height = ceil_log2(self.count);
        while level < height {
            // `node` is the last of its level: paired with its left neighbour if there is one, else with itself.
            let left = &self.pending[level as usize];
            let has_left = self.count >> level & 1 == 1 && level > self.count.trailing_zeros();
            if has_left {
                is_mutated |= *left == node;
                node = merkle_parent(left, &node);
            } else {
                node = merkle_parent(&node, &node);
            }
            level += 1;
        }
        MerkleRoot { root: MerkleHash(node), is_mutated }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.count = 0;
        self.is_mutated = false;
    }
}

/// Levels above the leaves in a tree of `n` leaves (at least one).
pub fn ceil_log2(n: u64) -> u32 {
    n.max(1).next_power_of_two().trailing_zeros()
}

/// The root of a list of leaves.
pub fn merkle_root<'a>(leaves: impl IntoIterator<Item = &'a [u8; 32]>) -> MerkleRoot {
    let mut tree = MerkleAccumulator::new();
    for leaf in leaves {
        tree.push(leaf);
    }
    tree.root()
}

/// Lifts the root of a short tree to a higher level by pairing it with itself.
///
/// The last subtree of a block may be shorter than the others; its root is lifted to their height before it takes its place
/// in the block's tree, which gives the same root as the flat list of transactions. (Teranode before go-subtree 1.3.2 does
/// not lift and gets another root when the last subtree is short by a level or more.)
pub fn lift(root: &[u8; 32], from_level: u32, to_level: u32) -> [u8; 32] {
    (from_level..to_level).fold(*root, |node, _| merkle_parent(&node, &node))
}

/// Builds a block's root from the roots of its subtrees.
///
/// Every subtree but the last has the same number of leaves, a power of two; the last may be shorter.
#[derive(Debug, Clone)]
pub struct SubtreeRoots {
    tree: MerkleAccumulator,
    level: u32,
    ended: bool,
}

/// A subtree that does not fit into the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubtreeMisfit {
    /// A subtree without leaves.
    #[error("a subtree of a block has no leaves")]
    Empty,
    /// More leaves than the first subtree, or not a power of two with others to follow.
    #[error("a subtree of {got} leaves in a block whose subtrees have {expected}")]
    Size {
        /// Leaves of this subtree.
        got: u64,
        /// Leaves of the others.
        expected: u64,
    },
    /// A subtree after a short one.
    #[error("a subtree follows one that is shorter than the first; only the last may be")]
    AfterLast,
}

impl SubtreeRoots {
    /// A block whose subtrees have 2^`level` leaves.
    pub fn new(level: u32) -> Self {
        Self { tree: MerkleAccumulator::new(), level, ended: false }
    }

    /// A block whose first subtree has this many leaves; a single subtree may have any number.
    pub fn for_first(leaves: u64) -> Self {
        Self::new(ceil_log2(leaves))
    }

    /// Adds a subtree by its root and its number of leaves.
    pub fn push(&mut self, root: &[u8; 32], leaves: u64) -> Result<(), SubtreeMisfit> {
        let expected = 1u64 << self.level;
        if leaves == 0 {
            return Err(SubtreeMisfit::Empty);
        }
        if self.ended {
            return Err(SubtreeMisfit::AfterLast);
        }
        if leaves > expected {
            return Err(SubtreeMisfit::Size { got: leaves, expected });
        }
        self.ended = leaves < expected;
        let node = lift(root, ceil_log2(leaves), self.level);
        self.tree.push_node(&node, self.level);
        Ok(())
    }

    /// The block's root so far.
    ///
    /// A single short subtree is its own root. `is_mutated` sees the roots only; each subtree reports its own inside.
    pub fn root(&self) -> MerkleRoot {
        self.tree.root()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;
    use proptest::prelude::*;

    fn leaves(n: u64) -> Vec<[u8; 32]> {
        (0..n).map(|i| sha256(&i.to_le_bytes())).collect()
    }

    /// The definition, level by level.
    fn by_levels(leaves: &[[u8; 32]]) -> MerkleRoot {
        let mut level = leaves.to_vec();
        let mut is_mutated = false;
        while level.len() > 1 {
            is_mutated |= level.chunks_exact(2).any(|p| p[0] == p[1]);
            level = level.chunks(2).map(|p| merkle_parent(&p[0], p.last().unwrap())).collect();
        }
        MerkleRoot { root: MerkleHash(level.first().copied().unwrap_or_default()), is_mutated }
    }

    #[test]
    fn the_accumulator_agrees_with_the_definition_after_every_leaf() {
        let leaves = leaves(130);
        let mut tree = MerkleAccumulator::new();
        assert_eq!(tree.root(), MerkleRoot::default());
        for (i, leaf) in leaves.iter().enumerate() {
            tree.push(leaf);
            assert_eq!(tree.root(), by_levels(&leaves[..=i]), "{} leaves", i + 1);
        }
    }

    proptest! {
        #[test]
        fn repeated_leaves_are_mutated_exactly_where_the_definition_says(picks in prop::collection::vec(0u64..3, 0..40)) {
            let leaves: Vec<_> = picks.iter().map(|i| sha256(&i.to_le_bytes())).collect();
            prop_assert_eq!(merkle_root(&leaves), by_levels(&leaves));
        }

        #[test]
        fn a_block_of_subtrees_has_the_root_of_its_flat_list(n in 1u64..300, level in 0u32..7) {
            let leaves = leaves(n);
            let size = 1usize << level;
            let mut roots = SubtreeRoots::new(level);
            for subtree in leaves.chunks(size) {
                roots.push(&merkle_root(subtree).root.0, subtree.len() as u64).unwrap();
            }
            if leaves.len() > size {
                prop_assert_eq!(roots.root(), merkle_root(&leaves));
            }
            let mut single = SubtreeRoots::for_first(n);
            single.push(&merkle_root(&leaves).root.0, n).unwrap();
            prop_assert_eq!(single.root(), merkle_root(&leaves));
        }
    }

    #[test]
    fn only_the_last_subtree_may_be_short() {
        let mut roots = SubtreeRoots::new(2);
        assert_eq!(roots.push(&[1; 32], 0), Err(SubtreeMisfit::Empty));
        assert_eq!(roots.push(&[1; 32], 5), Err(SubtreeMisfit::Size { got: 5, expected: 4 }));
        roots.push(&[1; 32], 4).unwrap();
        roots.push(&[2; 32], 3).unwrap();
        assert_eq!(roots.push(&[3; 32], 4), Err(SubtreeMisfit::AfterLast));
    }
}
