//! A subtree: the ids, fees and sizes of up to 2^k transactions that follow each other in a block.
//!
//! ```text
//! root 32 | fees u64 | size u64 | n u64 | n x ( txid 32 | fee u64 | size u64 ) | m u64 | m x conflicting txid 32
//! ```

use crate::hash::{MerkleHash, TxId};
use crate::merkle::{MerkleRoot, merkle_root};
use crate::wire::{ParseError, ParseErrorKind, Reader};

/// Stands for the coinbase at the first leaf of a block's first subtree.
pub const COINBASE_PLACEHOLDER: TxId = TxId([0xff; 32]);

const NODE_BYTES: usize = 48;

/// One leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubtreeNode {
    /// The transaction.
    pub txid: TxId,
    /// Its fee in satoshi.
    pub fee_sat: u64,
    /// Its raw size.
    pub size_bytes: u64,
}

impl SubtreeNode {
    fn from_bytes(b: &[u8; NODE_BYTES]) -> Self {
        let field = |at: usize| {
            u64::from_le_bytes(*b[at..].first_chunk().expect("8 bytes inside a node of 48"))
        };
        Self {
            txid: TxId(*b.first_chunk().expect("32 bytes inside a node of 48")),
            fee_sat: field(32),
            size_bytes: field(40),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.txid.0);
        out.extend_from_slice(&self.fee_sat.to_le_bytes());
        out.extend_from_slice(&self.size_bytes.to_le_bytes());
    }
}

/// A subtree over borrowed bytes.
#[derive(Debug, Clone, Copy)]
pub struct SubtreeView<'a> {
    root: MerkleHash,
    fees_sat: u64,
    size_bytes: u64,
    nodes: &'a [[u8; NODE_BYTES]],
    conflicting: &'a [[u8; 32]],
}

impl<'a> SubtreeView<'a> {
    /// Reads bytes that are exactly one subtree (without a file's magic).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let view = Self::read(&mut r)?;
        r.finish()?;
        Ok(view)
    }

    /// Reads a subtree from the front of a reader.
    pub fn read(r: &mut Reader<'a>) -> Result<Self, ParseError> {
        let root = MerkleHash(r.array()?);
        let fees_sat = r.u64()?;
        let size_bytes = r.u64()?;
        let nodes = take_rows(r)?;
        let conflicting = take_rows(r)?;
        Ok(Self { root, fees_sat, size_bytes, nodes, conflicting })
    }

    /// The root as the subtree states it; [`Self::computed_root`] is the truth.
    pub fn root(&self) -> MerkleHash {
        self.root
    }

    /// The stated sum of fees in satoshi.
    pub fn fees_sat(&self) -> u64 {
        self.fees_sat
    }

    /// The stated sum of sizes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Number of leaves.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True if there are no leaves.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Leaf `i`.
    pub fn node(&self, i: usize) -> SubtreeNode {
        SubtreeNode::from_bytes(&self.nodes[i])
    }

    /// All leaves.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = SubtreeNode> + use<'a> {
        self.nodes.iter().map(SubtreeNode::from_bytes)
    }

    /// Transactions that were in conflict with others when the subtree was made.
    pub fn conflicting(&self) -> impl ExactSizeIterator<Item = TxId> + use<'a> {
        self.conflicting.iter().map(|id| TxId(*id))
    }

    /// True if the first leaf stands for the coinbase.
    pub fn has_placeholder(&self) -> bool {
        !self.is_empty() && self.node(0).txid == COINBASE_PLACEHOLDER
    }

    /// The root of its leaves.
    pub fn computed_root(&self) -> MerkleRoot {
        root_of(self.nodes(), None)
    }

    /// The root with the coinbase in the place of the first leaf.
    pub fn root_with_coinbase(&self, coinbase: &TxId) -> MerkleRoot {
        root_of(self.nodes(), Some(coinbase))
    }

    /// An owned copy.
    pub fn to_owned_subtree(&self) -> Subtree {
        Subtree {
            root: self.root,
            fees_sat: self.fees_sat,
            size_bytes: self.size_bytes,
            nodes: self.nodes().collect(),
            conflicting: self.conflicting().collect(),
        }
    }
}

fn root_of(nodes: impl Iterator<Item = SubtreeNode>, first: Option<&TxId>) -> MerkleRoot {
    let leaves: Vec<[u8; 32]> = nodes
        .enumerate()
        .map(|(i, node)| match first {
            Some(coinbase) if i == 0 => coinbase.0,
            _ => node.txid.0,
        })
        .collect();
    merkle_root(&leaves)
}

/// A count of eight bytes and as many rows of `N` bytes.
fn take_rows<'a, const N: usize>(r: &mut Reader<'a>) -> Result<&'a [[u8; N]], ParseError> {
    let at = *r;
    let count = r.u64()?;
    let possible = (r.remaining() / N) as u64;
    if count > possible {
        return Err(at.error(ParseErrorKind::TooMany { got: count, limit: possible }));
    }
    let (rows, _) = r.take(count as usize * N)?.as_chunks();
    Ok(rows)
}

/// A subtree that owns its parts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subtree {
    /// Stated root.
    pub root: MerkleHash,
    /// Stated sum of fees in satoshi.
    pub fees_sat: u64,
    /// Stated sum of sizes.
    pub size_bytes: u64,
    /// The leaves.
    pub nodes: Vec<SubtreeNode>,
    /// Transactions in conflict.
    pub conflicting: Vec<TxId>,
}

impl Subtree {
    /// A subtree of these leaves, its sums and root computed.
    pub fn of(nodes: Vec<SubtreeNode>) -> Self {
        Self {
            root: root_of(nodes.iter().copied(), None).root,
            fees_sat: nodes.iter().map(|n| n.fee_sat).fold(0, u64::wrapping_add),
            size_bytes: nodes.iter().map(|n| n.size_bytes).fold(0, u64::wrapping_add),
            nodes,
            conflicting: Vec::new(),
        }
    }

    /// Appends the wire form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.root.0);
        out.extend_from_slice(&self.fees_sat.to_le_bytes());
        out.extend_from_slice(&self.size_bytes.to_le_bytes());
        out.extend_from_slice(&(self.nodes.len() as u64).to_le_bytes());
        for node in &self.nodes {
            node.write(out);
        }
        out.extend_from_slice(&(self.conflicting.len() as u64).to_le_bytes());
        for txid in &self.conflicting {
            out.extend_from_slice(&txid.0);
        }
    }
}
