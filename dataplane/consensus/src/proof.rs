//! Merkle proofs: that a transaction is in a block, in the three forms in use.
//!
//! A [`MerkleBranch`] is the bare idea: a place, and one sibling a level. The TSC standard wraps a branch with what it proves
//! and against what; a BUMP (BRC-74) holds the nodes of many branches of one block. Parsers are total; what a proof claims is
//! only true if its root is the root of a header on the best chain.

use crate::hash::{MerkleHash, TxId, merkle_parent};
use crate::wire::{ParseError, ParseErrorKind, Reader, write_compact_size, write_var_bytes};

/// Most levels of a proof. 2^63 transactions are more than there will be.
pub const LEVELS_MAX: usize = 63;

/// A sibling in a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchNode {
    /// A hash.
    Hash([u8; 32]),
    /// The node itself: it is the last of an odd level.
    Duplicate,
}

/// The way from a leaf to the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MerkleBranch {
    /// The leaf's place in the block.
    pub index: u64,
    /// One sibling a level, from the leaf up.
    pub nodes: Vec<BranchNode>,
}

impl MerkleBranch {
    /// The branch of leaf `index`; `None` if there is no such leaf.
    pub fn of(leaves: &[[u8; 32]], index: usize) -> Option<Self> {
        if index >= leaves.len() {
            return None;
        }
        let mut level = leaves.to_vec();
        let mut at = index;
        let mut nodes = Vec::new();
        while level.len() > 1 {
            nodes.push(level.get(at ^ 1).map_or(BranchNode::Duplicate, |h| BranchNode::Hash(*h)));
            level = level
                .chunks(2)
                .map(|pair| merkle_parent(&pair[0], pair.last().unwrap_or(&pair[0])))
                .collect();
            at >>= 1;
        }
        Some(Self { index: index as u64, nodes })
    }

    /// The root that this branch and leaf give.
    ///
    /// `None` if the place lies outside a tree of this height, or a node is its own sibling on the wrong side: such a branch
    /// proves nothing (CVE-2012-2459, CVE-2017-12842).
    pub fn root(&self, leaf: &[u8; 32]) -> Option<MerkleHash> {
        if self.nodes.len() > LEVELS_MAX || self.index >> self.nodes.len() != 0 {
            return None;
        }
        let mut node = *leaf;
        for (level, sibling) in self.nodes.iter().enumerate() {
            let is_right = self.index >> level & 1 == 1;
            node = match sibling {
                BranchNode::Duplicate if is_right => return None,
                BranchNode::Duplicate => merkle_parent(&node, &node),
                BranchNode::Hash(left) if is_right && *left == node => return None,
                BranchNode::Hash(left) if is_right => merkle_parent(left, &node),
                BranchNode::Hash(right) => merkle_parent(&node, right),
            };
        }
        Some(MerkleHash(node))
    }
}

/// What a TSC proof is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TscSubject {
    /// A transaction's id.
    TxId(TxId),
    /// A whole transaction, raw.
    Tx(Vec<u8>),
}

/// What a TSC proof is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TscTarget {
    /// The hash of a block.
    BlockHash([u8; 32]),
    /// A block's header.
    Header(Box<[u8; 80]>),
    /// A merkle root.
    MerkleRoot([u8; 32]),
}

/// A merkle proof by the TSC standard, binary form (`getmerkleproof2`, `dsdetected`, `datareftx`).
///
/// ```text
/// flags u8 | cs(index) | txid 32 or cs(len) tx | target 32, 80 or 32 | cs(n) | n x ( type u8, 0: hash 32, 1: nothing )
/// flags: 1 whole transaction; 2 target is a header, 4 a merkle root; trees (8) and composites (16) are not read
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TscProof {
    /// What is proved.
    pub subject: TscSubject,
    /// Against what.
    pub target: TscTarget,
    /// How.
    pub branch: MerkleBranch,
}

impl TscProof {
    /// Reads a proof from the front of a reader.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        let start = *r;
        let flags = r.u8()?;
        if flags & !7 != 0 || flags & 6 == 6 {
            return Err(start.error(ParseErrorKind::UnknownMarker { got: u64::from(flags) }));
        }
        let index = r.compact_size_any()?;
        let subject = if flags & 1 == 1 {
            TscSubject::Tx(r.var_bytes()?.to_vec())
        } else {
            TscSubject::TxId(TxId(r.array()?))
        };
        let target = match flags & 6 {
            0 => TscTarget::BlockHash(r.array()?),
            2 => TscTarget::Header(Box::new(r.array()?)),
            _ => TscTarget::MerkleRoot(r.array()?),
        };
        let at = *r;
        let count = r.count(1)?;
        if count > LEVELS_MAX {
            return Err(at.error(too_many(count as u64)));
        }
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            let at = *r;
            nodes.push(match r.u8()? {
                0 => BranchNode::Hash(r.array()?),
                1 => BranchNode::Duplicate,
                got => return Err(at.error(ParseErrorKind::UnknownMarker { got: got.into() })),
            });
        }
        Ok(Self { subject, target, branch: MerkleBranch { index, nodes } })
    }

    /// Reads bytes that are exactly one proof.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let proof = Self::read(&mut r)?;
        r.finish()?;
        Ok(proof)
    }

    /// Appends the binary form.
    pub fn write(&self, out: &mut Vec<u8>) {
        let subject = u8::from(matches!(self.subject, TscSubject::Tx(_)));
        let target = match self.target {
            TscTarget::BlockHash(_) => 0,
            TscTarget::Header(_) => 2,
            TscTarget::MerkleRoot(_) => 4,
        };
        out.push(subject | target);
        write_compact_size(out, self.branch.index);
        match &self.subject {
            TscSubject::TxId(txid) => out.extend_from_slice(&txid.0),
            TscSubject::Tx(tx) => write_var_bytes(out, tx),
        }
        match &self.target {
            TscTarget::BlockHash(hash) | TscTarget::MerkleRoot(hash) => out.extend_from_slice(hash),
            TscTarget::Header(header) => out.extend_from_slice(header.as_ref()),
        }
        write_compact_size(out, self.branch.nodes.len() as u64);
        for node in &self.branch.nodes {
            match node {
                BranchNode::Hash(hash) => {
                    out.push(0);
                    out.extend_from_slice(hash);
                }
                BranchNode::Duplicate => out.push(1),
            }
        }
    }

    /// The id of the transaction it is about.
    pub fn txid(&self) -> TxId {
        match &self.subject {
            TscSubject::TxId(txid) => *txid,
            TscSubject::Tx(tx) => TxId::of(tx),
        }
    }

    /// The root that the proof gives.
    pub fn root(&self) -> Option<MerkleHash> {
        self.branch.root(&self.txid().0)
    }
}

fn too_many(got: u64) -> ParseErrorKind {
    ParseErrorKind::TooMany { got, limit: LEVELS_MAX as u64 }
}

/// One node of a BUMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BumpNode {
    /// Its place in its level.
    pub offset: u64,
    /// Its hash; `None` where it repeats its left sibling.
    pub hash: Option<[u8; 32]>,
    /// It is a transaction the proof is about.
    pub is_txid: bool,
}

/// Merkle paths of one block (BRC-74).
///
/// ```text
/// cs(block height) | levels u8 | levels x ( cs(n) | n x ( cs(offset) | flags u8 | hash 32 unless flag 1 ) )
/// flags: 1 repeats its sibling, 2 is a transaction of the client
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bump {
    /// Height of the block.
    pub block_height: u32,
    /// The known nodes of each level, from the leaves up, by ascending offset.
    pub levels: Vec<Vec<BumpNode>>,
}

impl Bump {
    /// Reads a BUMP from the front of a reader. Nodes must ascend and lie inside the tree.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        let at = *r;
        let height = r.compact_size_any()?;
        let block_height = u32::try_from(height)
            .map_err(|_| at.error(ParseErrorKind::SizeTooLarge { got: height }))?;
        let at = *r;
        let count = usize::from(r.u8()?);
        if count > LEVELS_MAX {
            return Err(at.error(too_many(count as u64)));
        }
        let mut levels = Vec::with_capacity(count);
        for level in 0..count {
            let nodes = r.count(2)?;
            let mut row: Vec<BumpNode> = Vec::new();
            for _ in 0..nodes {
                let at = *r;
                let node = Self::read_node(r)?;
                let ascends = row.last().is_none_or(|last| last.offset < node.offset);
                if !ascends || node.offset >> (count - level) != 0 {
                    let what = "offsets of a level ascend and lie inside the tree";
                    return Err(at.error(ParseErrorKind::Inconsistent { what }));
                }
                row.push(node);
            }
            levels.push(row);
        }
        Ok(Self { block_height, levels })
    }

    fn read_node(r: &mut Reader<'_>) -> Result<BumpNode, ParseError> {
        let offset = r.compact_size_any()?;
        let at = *r;
        let flags = r.u8()?;
        let hash = match flags {
            0 | 2 => Some(r.array()?),
            1 => None,
            got => return Err(at.error(ParseErrorKind::UnknownMarker { got: got.into() })),
        };
        Ok(BumpNode { offset, hash, is_txid: flags == 2 })
    }

    /// Reads bytes that are exactly one BUMP.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let bump = Self::read(&mut r)?;
        r.finish()?;
        Ok(bump)
    }

    /// Appends the binary form.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_compact_size(out, u64::from(self.block_height));
        out.push(self.levels.len() as u8);
        for level in &self.levels {
            write_compact_size(out, level.len() as u64);
            for node in level {
                write_compact_size(out, node.offset);
                match node.hash {
                    Some(hash) => {
                        out.push(if node.is_txid { 2 } else { 0 });
                        out.extend_from_slice(&hash);
                    }
                    None => out.push(1),
                }
            }
        }
    }

    /// The BUMP of one transaction.
    pub fn from_branch(block_height: u32, txid: &TxId, branch: &MerkleBranch) -> Self {
        let mut levels = Vec::with_capacity(branch.nodes.len());
        for (level, sibling) in branch.nodes.iter().enumerate() {
            let at = branch.index >> level;
            let hash = match sibling {
                BranchNode::Hash(hash) => Some(*hash),
                BranchNode::Duplicate => None,
            };
            let mut row = vec![BumpNode { offset: at ^ 1, hash, is_txid: false }];
            if level == 0 {
                row.push(BumpNode { offset: at, hash: Some(txid.0), is_txid: true });
                row.sort_by_key(|node| node.offset);
            }
            levels.push(row);
        }
        Self { block_height, levels }
    }

    /// The root that the path of `txid` gives; `None` if the transaction or a node on its way is missing.
    pub fn root(&self, txid: &TxId) -> Option<MerkleHash> {
        if self.levels.is_empty() {
            // A block of one transaction has no path; its root is the transaction.
            return Some(MerkleHash(txid.0));
        }
        let leaf = self.levels[0].iter().find(|node| node.hash == Some(txid.0))?;
        let mut at = leaf.offset;
        let mut node = txid.0;
        for level in 0..self.levels.len() {
            let is_right = at & 1 == 1;
            node = match self.node(level, at ^ 1)? {
                BranchNode::Duplicate if is_right => return None,
                BranchNode::Duplicate => merkle_parent(&node, &node),
                BranchNode::Hash(left) if is_right && left == node => return None,
                BranchNode::Hash(left) if is_right => merkle_parent(&left, &node),
                BranchNode::Hash(right) => merkle_parent(&node, &right),
            };
            at >>= 1;
        }
        (at == 0).then_some(MerkleHash(node))
    }

    /// A node that is given, or follows from the two below it.
    fn node(&self, level: usize, offset: u64) -> Option<BranchNode> {
        let row = &self.levels[level];
        if let Ok(i) = row.binary_search_by_key(&offset, |node| node.offset) {
            return Some(row[i].hash.map_or(BranchNode::Duplicate, BranchNode::Hash));
        }
        let below = level.checked_sub(1)?;
        let BranchNode::Hash(left) = self.node(below, offset.checked_mul(2)?)? else {
            return None;
        };
        Some(BranchNode::Hash(match self.node(below, offset * 2 + 1)? {
            BranchNode::Hash(right) => merkle_parent(&left, &right),
            BranchNode::Duplicate => merkle_parent(&left, &left),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;
    use crate::merkle::merkle_root;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn leaves(n: u64) -> Vec<[u8; 32]> {
        (0..n).map(|i| sha256(&i.to_le_bytes())).collect()
    }

    proptest! {
        #[test]
        fn every_branch_leads_to_the_root_in_all_three_forms(n in 1u64..70, pick: prop::sample::Index, height: u32) {
            let leaves = leaves(n);
            let i = pick.index(leaves.len());
            let root = merkle_root(&leaves).root;
            let branch = MerkleBranch::of(&leaves, i).unwrap();
            prop_assert_eq!(branch.root(&leaves[i]), Some(root));

            let txid = TxId(leaves[i]);
            let bump = Bump::from_branch(height, &txid, &branch);
            prop_assert_eq!(bump.root(&txid), Some(root));
            let mut bytes = Vec::new();
            bump.write(&mut bytes);
            prop_assert_eq!(Bump::parse(&bytes).unwrap(), bump);

            let proof = TscProof {
                subject: TscSubject::TxId(txid),
                target: TscTarget::MerkleRoot(root.0),
                branch,
            };
            prop_assert_eq!(proof.root(), Some(root));
            let mut bytes = Vec::new();
            proof.write(&mut bytes);
            prop_assert_eq!(TscProof::parse(&bytes).unwrap(), proof);
        }

        #[test]
        fn any_bytes_are_a_proof_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(bump) = Bump::parse(&bytes) {
                let mut again = Vec::new();
                bump.write(&mut again);
                prop_assert_eq!(&again, &bytes);
                for node in bump.levels.first().into_iter().flatten() {
                    let _ = bump.root(&TxId(node.hash.unwrap_or_default()));
                }
            }
            if let Ok(proof) = TscProof::parse(&bytes) {
                let mut again = Vec::new();
                proof.write(&mut again);
                prop_assert_eq!(&again, &bytes);
                let _ = proof.root();
            }
        }
    }

    #[test]
    fn a_place_outside_the_tree_proves_nothing() {
        let leaves = leaves(4);
        let mut branch = MerkleBranch::of(&leaves, 1).unwrap();
        branch.index += 4;
        assert_eq!(branch.root(&leaves[1]), None);
        assert_eq!(MerkleBranch::of(&leaves, 4), None);
        let right_duplicate = MerkleBranch { index: 1, nodes: vec![BranchNode::Duplicate] };
        assert_eq!(right_duplicate.root(&leaves[0]), None);
    }

    #[test]
    fn the_example_of_brc_74_leads_to_its_root() {
        const EXAMPLE: &str = "fe8a6a0c000c04fde80b0011774f01d26412f0d16ea3f0447be0b5ebec67b0782e321a7a01cbdf7f734e30fde90b02004e53753e3fe4667073063a17987292cfdea278824e9888e52180581d7188d8fdea0b025e441996fc53f0191d649e68a200e752fb5f39e0d5617083408fa179ddc5c998fdeb0b0102fdf405000671394f72237d08a4277f4435e5b6edf7adc272f25effef27cdfe805ce71a81fdf50500262bccabec6c4af3ed00cc7a7414edea9c5efa92fb8623dd6160a001450a528201fdfb020101fd7c010093b3efca9b77ddec914f8effac691ecb54e2c81d0ab81cbc4c4b93befe418e8501bf01015e005881826eb6973c54003a02118fe270f03d46d02681c8bc71cd44c613e86302f8012e00e07a2bb8bb75e5accff266022e1e5e6e7b4d6d943a04faadcf2ab4a22f796ff30116008120cafa17309c0bb0e0ffce835286b3a2dcae48e4497ae2d2b7ced4f051507d010a00502e59ac92f46543c23006bff855d96f5e648043f0fb87a7a5949e6a9bebae430104001ccd9f8f64f4d0489b30cc815351cf425e0e78ad79a589350e4341ac165dbe45010301010000af8764ce7e1cc132ab5ed2229a005c87201c9a5ee15c0f91dd53eff31ab30cd4";
        let bytes = hex::decode(EXAMPLE).unwrap();
        let bump = Bump::parse(&bytes).unwrap();
        assert_eq!(bump.block_height, 813_706);
        let root = "57aab6e6fb1b697174ffb64e062c4728f2ffd33ddcfa02a43b64d8cd29b483b4";
        let txids = bump.levels[0].iter().filter(|node| node.is_txid);
        let roots: Vec<_> = txids
            .map(|node| bump.root(&TxId(node.hash.unwrap())).map(|root| root.to_string()))
            .collect();
        assert_eq!(roots, [Some(root.to_owned()), Some(root.to_owned())]);
        let mut again = Vec::new();
        bump.write(&mut again);
        assert_eq!(again, bytes);
    }

    #[test]
    fn a_compound_path_computes_what_it_does_not_carry() {
        let leaves = leaves(4);
        let root = merkle_root(&leaves).root;
        let all = leaves.iter().zip(0..).map(|(hash, offset)| BumpNode {
            offset,
            hash: Some(*hash),
            is_txid: true,
        });
        let bump = Bump { block_height: 1, levels: vec![all.collect(), vec![]] };
        for leaf in leaves {
            assert_eq!(bump.root(&TxId(leaf)), Some(root));
        }
        assert_eq!(bump.root(&TxId([9; 32])), None);
    }
}
