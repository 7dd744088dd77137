//! Teranode's block: a header, the roots of its subtrees, and its coinbase.
//!
//! ```text
//! header 80 | cs(transactions) | cs(bytes) | cs(n) | n x subtree root 32 | coinbase, raw | cs(height)
//! ```

use super::SubtreeView;
use crate::hash::{MerkleHash, TxId};
use crate::header::Header;
use crate::merkle::{MerkleRoot, SubtreeMisfit, SubtreeRoots};
use crate::tx::{Limits, TxLayout, TxView, parse_prefix};
use crate::wire::{ParseError, ParseErrorKind, Reader, write_compact_size};

/// A block over borrowed bytes.
#[derive(Debug, Clone, Copy)]
pub struct TeranodeBlockView<'a> {
    header: Header,
    tx_count: u64,
    size_bytes: u64,
    subtree_roots: &'a [[u8; 32]],
    coinbase: TxView<'a>,
    height: u32,
}

impl<'a> TeranodeBlockView<'a> {
    /// Reads bytes that are exactly one block (without a file's magic). The layout takes the coinbase.
    pub fn parse(bytes: &'a [u8], layout: &'a mut TxLayout) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let header = Header::read(&mut r)?;
        let tx_count = r.compact_size_any()?;
        let size_bytes = r.compact_size_any()?;
        let subtree_count = r.count(32)?;
        let at = r;
        let (subtree_roots, _) = r.take(subtree_count * 32)?.as_chunks();
        if subtree_roots.contains(&[0; 32]) {
            let what = "the root of a subtree is not zero";
            return Err(at.error(ParseErrorKind::Inconsistent { what }));
        }
        let coinbase_at = r.offset();
        let coinbase = parse_prefix(r.rest(), layout, Limits::RAW)
            .map_err(|e| ParseError { offset: e.offset + coinbase_at as u64, ..e })?;
        r.take(coinbase.bytes().len())?;
        let at = r;
        let height = r.compact_size_any()?;
        let height = u32::try_from(height)
            .map_err(|_| at.error(ParseErrorKind::SizeTooLarge { got: height }))?;
        r.finish()?;
        Ok(Self { header, tx_count, size_bytes, subtree_roots, coinbase, height })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Transactions, the coinbase included.
    pub fn tx_count(&self) -> u64 {
        self.tx_count
    }

    /// Bytes the block has on the P2P network.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Roots of the subtrees, the first with the placeholder at the coinbase's place.
    pub fn subtree_roots(&self) -> impl ExactSizeIterator<Item = MerkleHash> + use<'a> {
        self.subtree_roots.iter().map(|root| MerkleHash(*root))
    }

    /// The coinbase.
    pub fn coinbase(&self) -> TxView<'a> {
        self.coinbase
    }

    /// The block's height as the sender states it.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The merkle root of the block: the first subtree's root is computed anew with the coinbase in its place.
    ///
    /// `first` is the first subtree, `last_leaves` the number of leaves of the last one. Without subtrees the root is the
    /// coinbase's id.
    pub fn merkle_root(
        &self,
        coinbase: &TxId,
        first: Option<&SubtreeView<'_>>,
        last_leaves: u64,
    ) -> Result<MerkleRoot, SubtreeMisfit> {
        let Some(first) = first else {
            return Ok(MerkleRoot { root: (*coinbase).into(), is_mutated: false });
        };
        let leaves = first.len() as u64;
        let mut roots = SubtreeRoots::for_first(leaves);
        roots.push(&first.root_with_coinbase(coinbase).root.0, leaves)?;
        let last = self.subtree_roots.len().saturating_sub(1);
        for (i, root) in self.subtree_roots.iter().enumerate().skip(1) {
            roots.push(root, if i == last { last_leaves } else { leaves })?;
        }
        Ok(roots.root())
    }
}

/// A block that owns its parts, for writing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TeranodeBlock {
    /// The header.
    pub header: Header,
    /// Transactions, the coinbase included.
    pub tx_count: u64,
    /// Bytes the block has on the P2P network.
    pub size_bytes: u64,
    /// Roots of the subtrees.
    pub subtree_roots: Vec<MerkleHash>,
    /// The coinbase, raw.
    pub coinbase: Vec<u8>,
    /// The height.
    pub height: u32,
}

impl TeranodeBlock {
    /// Appends the wire form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header.to_bytes());
        write_compact_size(out, self.tx_count);
        write_compact_size(out, self.size_bytes);
        write_compact_size(out, self.subtree_roots.len() as u64);
        for root in &self.subtree_roots {
            out.extend_from_slice(&root.0);
        }
        out.extend_from_slice(&self.coinbase);
        write_compact_size(out, u64::from(self.height));
    }
}
