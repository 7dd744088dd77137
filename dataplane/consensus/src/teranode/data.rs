//! The transactions of a subtree, and their parents.
//!
//! Subtree data is transactions one after the other in leaf order, extended where the writer had the coins; the placeholder has
//! none (a real coinbase may stand first). Subtree meta lists the inputs of each leaf by parent:
//!
//! ```text
//! root 32 | n u32 | n x ( parents u32 | parents x txid 32 | for each parent: outputs u32 | outputs x index u32 )
//! ```

use crate::block::BlockStep;
use crate::hash::{MerkleHash, TxId};
use crate::tx::{Format, Limits, Progress, TxLayout, TxParser, TxView};
use crate::wire::{ParseError, ParseErrorKind, Reader};

/// A place between two transactions of subtree data; holds no borrow.
#[derive(Debug, Clone)]
pub struct SubtreeDataCursor {
    at: usize,
    parser: Option<TxParser>,
    limits: Limits,
}

impl SubtreeDataCursor {
    /// Before the first transaction, each of at most so many bytes, extension included.
    pub fn new(tx_bytes_max: u32) -> Self {
        let limits = Limits { max_bytes: tx_bytes_max, format: Format::Either };
        Self { at: 0, parser: None, limits }
    }

    /// Bytes of everything that was complete.
    pub fn used_bytes(&self) -> usize {
        self.at
    }

    /// Reads at most `max_items` inputs and outputs, and stops after each transaction.
    ///
    /// `End` means that the bytes end here; where they still arrive, a later call with more goes on.
    pub fn advance(
        &mut self,
        bytes: &[u8],
        layout: &mut TxLayout,
        max_items: usize,
    ) -> Result<BlockStep, ParseError> {
        let at = self.at;
        let from = bytes.get(at..).unwrap_or_default();
        if from.is_empty() {
            return Ok(BlockStep::End);
        }
        let limits = self.limits;
        let parser = self.parser.get_or_insert_with(|| TxParser::new(limits));
        let progress = parser
            .advance(from, layout, max_items)
            .map_err(|e| ParseError { offset: e.offset + at as u64, ..e })?;
        match progress {
            Progress::More => Ok(BlockStep::More),
            Progress::LayoutFull => {
                self.parser = None;
                Ok(BlockStep::LayoutFull)
            }
            Progress::Done => {
                let end = at + parser.used_bytes();
                self.at = end;
                self.parser = None;
                Ok(BlockStep::Tx(at..end))
            }
        }
    }
}

/// The inputs of a transaction, gathered by parent in the order in which parents first appear.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxInpoints {
    /// Each parent with the outputs that are spent.
    pub parents: Vec<(TxId, Vec<u32>)>,
}

impl TxInpoints {
    /// Gathers the inputs of a transaction; a coinbase has none.
    pub fn of(view: TxView<'_>) -> Self {
        let mut all = Self::default();
        if view.is_coinbase() {
            return all;
        }
        let mut places = std::collections::BTreeMap::new();
        for i in 0..view.input_count() {
            let prev = view.prev(i);
            let place = *places.entry(prev.txid).or_insert_with(|| {
                all.parents.push((prev.txid, Vec::new()));
                all.parents.len() - 1
            });
            all.parents[place].1.push(prev.vout);
        }
        all
    }

    /// Reads from the front of a reader.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        let count = fixed_count(r, 36)?;
        let mut parents = Vec::with_capacity(count);
        for _ in 0..count {
            parents.push((TxId(r.array()?), Vec::new()));
        }
        for (_, vouts) in &mut parents {
            let count = fixed_count(r, 4)?;
            vouts.reserve_exact(count);
            for _ in 0..count {
                vouts.push(r.u32()?);
            }
        }
        Ok(Self { parents })
    }

    /// Appends the wire form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.parents.len() as u32).to_le_bytes());
        for (txid, _) in &self.parents {
            out.extend_from_slice(&txid.0);
        }
        for (_, vouts) in &self.parents {
            out.extend_from_slice(&(vouts.len() as u32).to_le_bytes());
            for vout in vouts {
                out.extend_from_slice(&vout.to_le_bytes());
            }
        }
    }
}

/// A count of four bytes whose items take at least so many bytes each.
fn fixed_count(r: &mut Reader<'_>, item_bytes_min: usize) -> Result<usize, ParseError> {
    let at = *r;
    let count = r.u32()?;
    let possible = r.remaining() / item_bytes_min;
    if count as usize > possible {
        let kind = ParseErrorKind::TooMany { got: count.into(), limit: possible as u64 };
        return Err(at.error(kind));
    }
    Ok(count as usize)
}

/// The parents of every leaf of a subtree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubtreeMeta {
    /// Root of the subtree.
    pub root: MerkleHash,
    /// One entry a leaf; the placeholder's is empty.
    pub leaves: Vec<TxInpoints>,
}

impl SubtreeMeta {
    /// Reads bytes that are exactly one subtree meta (without a file's magic).
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let root = MerkleHash(r.array()?);
        let count = fixed_count(&mut r, 4)?;
        let mut leaves = Vec::with_capacity(count);
        for _ in 0..count {
            leaves.push(TxInpoints::read(&mut r)?);
        }
        r.finish()?;
        Ok(Self { root, leaves })
    }

    /// Appends the wire form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.root.0);
        out.extend_from_slice(&(self.leaves.len() as u32).to_le_bytes());
        for leaf in &self.leaves {
            leaf.write(out);
        }
    }
}
