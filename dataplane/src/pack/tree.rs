//! One flat merkle tree over all leaves, grown from the left, hashed in batches.
//!
//! In: leaves at the end, a cut anywhere. Out: for any prefix of the leaves the branch of leaf 0 and the roots of its
//! subtrees. Leaf 0 is the coinbase's place. Because a subtree of 2^k leaves starts at a multiple of 2^k, its root is a node
//! of level k of the flat tree, and the block's root is the flat Bitcoin root whatever the number of leaves.
//!
//! A node is final once both its children are; final nodes are kept, 32 bytes each, so a tree of n leaves takes 64 n bytes.
//! What a short right edge needs (at most one node a level, the last one paired with itself) is computed when asked for.
//!
//! Cost: one double hash of 64 bytes a leaf, sixteen at a time where the machine can.

use sigbatch::Hasher;

/// What stands at leaf 0 until a coinbase is known (Teranode: `CoinbasePlaceholder`).
pub const COINBASE_PLACEHOLDER: [u8; 32] = [0xff; 32];
/// Levels above the leaves: more than any block can have transactions.
pub const LEVELS_MAX: usize = 32;
/// Nodes of a level that wait for company before they are hashed.
const BATCH: usize = 16;

type Hash = [u8; 32];

/// The tree; see the module.
#[derive(Debug)]
pub struct Tree {
    hasher: Hasher,
    /// `levels[0]` are the leaves; `levels[j + 1]` holds their parents, valid up to `done[j + 1]`.
    levels: Vec<Vec<Hash>>,
    done: [usize; LEVELS_MAX + 1],
}

/// The nodes at the right edge of a prefix that are not complete: one a level at most.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    leaves: usize,
    nodes: [Hash; LEVELS_MAX + 1],
}

impl Tree {
    /// Room for `capacity` leaves, the placeholder included; leaf 0 is there from the start.
    pub fn with_capacity(capacity: usize, hasher: Hasher) -> Self {
        assert!(capacity >= 1, "leaf 0 is the coinbase's place");
        let mut levels = Vec::new();
        let mut width = capacity;
        loop {
            levels.push(vec![[0; 32]; width]);
            if width == 1 {
                break;
            }
            width = width.div_ceil(2);
        }
        levels[0][0] = COINBASE_PLACEHOLDER;
        Self { hasher, levels, done: [0; LEVELS_MAX + 1] }
    }

    /// The kernel that hashes.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// Leaf `at`.
    #[inline]
    pub fn leaf(&self, at: usize) -> &Hash {
        &self.levels[0][at]
    }

    /// Leaves `range`.
    pub fn leaves(&self, range: std::ops::Range<usize>) -> &[Hash] {
        &self.levels[0][range]
    }

    /// Writes leaf `at`, which no final node covers.
    #[inline]
    pub fn set_leaf(&mut self, at: usize, leaf: Hash) {
        debug_assert!(at >= 2 * self.done[1], "leaf {at} lies under a node that was hashed");
        self.levels[0][at] = leaf;
    }

    /// Forgets every node that covers leaf `at` or one behind it.
    pub fn cut(&mut self, at: usize) {
        for (level, done) in self.done.iter_mut().enumerate().skip(1) {
            *done = (*done).min(at.checked_shr(level as u32).unwrap_or(0));
        }
    }

    /// Leaves whose parents are final.
    pub fn hashed_leaves(&self) -> usize {
        2 * self.done[1]
    }

    /// Hashes what has become final among the first `leaves`, at most `nodes` of the lowest level, in whole batches only.
    /// Gives the number of nodes hashed.
    pub fn advance(&mut self, leaves: usize, nodes: usize) -> usize {
        self.grow(leaves, nodes, BATCH)
    }

    /// Hashes everything that is final among the first `leaves`.
    fn finish(&mut self, leaves: usize) {
        self.grow(leaves, usize::MAX, 1);
    }

    fn grow(&mut self, leaves: usize, nodes: usize, batch: usize) -> usize {
        let mut hashed = 0;
        let mut below = leaves;
        for level in 1..self.levels.len() {
            let done = self.done[level];
            let ready = (below / 2).saturating_sub(done);
            let allowed = if level == 1 { ready.min(nodes) } else { ready };
            let take = allowed - allowed % batch;
            if take > 0 {
                let (lower, upper) = self.levels.split_at_mut(level);
                self.hasher.merkle_level(
                    &lower[level - 1][2 * done..2 * (done + take)],
                    &mut upper[0][done..done + take],
                );
                self.done[level] += take;
                hashed += take;
            }
            below = self.done[level];
            if below == 0 {
                break;
            }
        }
        hashed
    }

    /// The right edge of the first `leaves` leaves; hashes what is missing.
    pub fn edge(&mut self, leaves: usize) -> Edge {
        assert!(leaves >= 1 && leaves <= self.levels[0].len(), "{leaves} leaves");
        self.finish(leaves);
        let mut edge = Edge { leaves, nodes: [[0; 32]; LEVELS_MAX + 1] };
        let mut level = 0;
        while edge.width(level) > 1 {
            let full = leaves >> level;
            let partial = edge.is_partial(level);
            let pair = match (full % 2 == 1, partial) {
                (true, true) => Some((self.levels[level][full - 1], edge.nodes[level])),
                (true, false) => Some((self.levels[level][full - 1], self.levels[level][full - 1])),
                (false, true) => Some((edge.nodes[level], edge.nodes[level])),
                (false, false) => None,
            };
            level += 1;
            if let Some((left, right)) = pair {
                edge.nodes[level] = self.pair(&left, &right);
            }
        }
        edge
    }

    /// Node `at` of `level` of the prefix that `edge` closes.
    pub fn node(&self, edge: &Edge, level: usize, at: usize) -> Hash {
        let full = edge.leaves >> level;
        if at < full {
            self.levels[level][at]
        } else {
            assert!(at == full && edge.is_partial(level), "node {at} of level {level}");
            edge.nodes[level]
        }
    }

    /// Writes the siblings on the way from leaf 0 to the root, lowest first; gives their number.
    pub fn branch(&self, edge: &Edge, out: &mut [Hash; LEVELS_MAX]) -> usize {
        let mut level = 0;
        while edge.width(level) > 1 {
            out[level] = self.node(edge, level, 1);
            level += 1;
        }
        level
    }

    /// The root of the subtree of 2^`lg` leaves that starts at leaf `start` (Teranode: its own Bitcoin root, not lifted
    /// where it is short).
    pub fn subtree_root(&self, edge: &Edge, lg: usize, start: usize) -> Hash {
        let count = (edge.leaves - start).min(1 << lg);
        let height = count.next_power_of_two().ilog2() as usize;
        self.node(edge, height, start >> height)
    }

    /// The root of the whole prefix, the placeholder taken as a leaf.
    #[cfg(test)]
    pub fn root(&self, edge: &Edge) -> Hash {
        let mut level = 0;
        while edge.width(level) > 1 {
            level += 1;
        }
        self.node(edge, level, 0)
    }

    fn pair(&self, left: &Hash, right: &Hash) -> Hash {
        let mut node = [0; 64];
        node[..32].copy_from_slice(left);
        node[32..].copy_from_slice(right);
        let mut out = [[0; 32]];
        self.hasher.sha256d_nodes(&[node], &mut out);
        out[0]
    }
}

impl Edge {
    /// Nodes of `level`, the incomplete one included.
    fn width(&self, level: usize) -> usize {
        self.leaves.div_ceil(1 << level)
    }

    fn is_partial(&self, level: usize) -> bool {
        !self.leaves.is_multiple_of(1 << level)
    }
}

/// The root that a leaf-0 branch leads to from `leaf`.
pub fn root_from_branch(hasher: &Hasher, leaf: &Hash, branch: &[Hash]) -> Hash {
    branch.iter().fold(*leaf, |left, right| {
        let mut node = [0; 64];
        node[..32].copy_from_slice(&left);
        node[32..].copy_from_slice(right);
        let mut out = [[0; 32]];
        hasher.sha256d_nodes(&[node], &mut out);
        out[0]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf(n: usize) -> Hash {
        let mut leaf = [0; 32];
        leaf[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        leaf
    }

    fn flat_root(leaves: &[Hash]) -> Hash {
        consensus::merkle::merkle_root(leaves.iter()).root.0
    }

    fn grown(count: usize, steps: &[usize]) -> Tree {
        let mut tree = Tree::with_capacity(count, Hasher::new());
        let mut steps = steps.iter().cycle();
        let mut at = 1;
        while at < count {
            let step = steps.next().copied().unwrap_or(1).max(1);
            for _ in 0..step {
                if at < count {
                    tree.set_leaf(at, leaf(at));
                    at += 1;
                }
            }
            tree.advance(at, step);
        }
        tree
    }

    #[test]
    fn the_root_with_the_coinbase_in_its_place_is_the_flat_root_for_every_count() {
        for count in 1..300 {
            let mut tree = grown(count, &[7]);
            let edge = tree.edge(count);
            let mut branch = [[0; 32]; LEVELS_MAX];
            let n = tree.branch(&edge, &mut branch);
            let mut leaves: Vec<Hash> = (0..count).map(leaf).collect();
            let coinbase = [0x42; 32];
            leaves[0] = coinbase;
            assert_eq!(
                root_from_branch(tree.hasher(), &coinbase, &branch[..n]),
                flat_root(&leaves),
                "{count} leaves"
            );
        }
    }

    #[test]
    fn subtree_roots_combine_to_the_block_root_as_teranode_lifts_them() {
        for count in 1..200usize {
            for lg in 1..6 {
                let mut tree = grown(count, &[3, 20]);
                let edge = tree.edge(count);
                let mut top = consensus::merkle::SubtreeRoots::new(lg);
                for start in (0..count).step_by(1 << lg) {
                    let leaves = (count - start).min(1 << lg);
                    let root = tree.subtree_root(&edge, lg as usize, start);
                    let own: Vec<Hash> = (start..start + leaves).map(|i| *tree.leaf(i)).collect();
                    assert_eq!(root, flat_root(&own), "{count} leaves, 2^{lg}, from {start}");
                    if count > 1 << lg {
                        top.push(&root, leaves as u64).expect("only the last is short");
                    }
                }
                if count > 1 << lg {
                    assert_eq!(top.root().root.0, tree.root(&edge), "{count} leaves, 2^{lg}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_tree_cut_and_grown_again_has_the_root_of_its_leaves(
            count in 2usize..2_000,
            cut in 1usize..2_000,
            prefix in 1usize..2_000,
            steps in prop::collection::vec(1usize..100, 1..8),
        ) {
            let mut tree = grown(count, &steps);
            let cut = cut.min(count - 1);
            let prefix = prefix.min(count);
            let mut leaves: Vec<Hash> = (0..count).map(leaf).collect();
            leaves[0] = COINBASE_PLACEHOLDER;
            let edge = tree.edge(prefix);
            prop_assert_eq!(tree.root(&edge), flat_root(&leaves[..prefix]));
            tree.cut(cut);
            for (at, new) in leaves.iter_mut().enumerate().skip(cut) {
                *new = leaf(at + 77_777);
                tree.set_leaf(at, *new);
            }
            tree.advance(count, steps[0]);
            let edge = tree.edge(count);
            prop_assert_eq!(tree.root(&edge), flat_root(&leaves));
            let edge = tree.edge(prefix);
            prop_assert_eq!(tree.root(&edge), flat_root(&leaves[..prefix]));
        }
    }
}
