//! Blocks as the network carries them: a header, a count, raw transactions.
//!
//! Nothing is collected. A [`BlockCursor`] stands between two transactions, holds no borrow and allocates nothing, so a block of
//! many gigabytes is walked in as many turns as it takes, and while it still arrives. Source: SV Node `primitives/block.h`.

use crate::hash::{BlockHash, TxId};
use crate::header::Header;
use crate::tx::{Format, Limits, Progress, TxLayout, TxParser, TxView};
use crate::wire::{ParseError, ParseErrorKind, Reader, write_compact_size};
use std::ops::Range;

/// What a step of a [`BlockCursor`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockStep {
    /// The item budget is used up; call again.
    More,
    /// A transaction is complete: the layout belongs to these bytes of the block.
    Tx(Range<usize>),
    /// The next transaction does not fit a layout of fixed capacity; call again with a growing one.
    LayoutFull,
    /// That was the last transaction.
    End,
}

#[derive(Debug, Clone)]
enum Stage {
    Header,
    Between,
    Inside(TxParser),
}

/// A place in a block.
#[derive(Debug, Clone)]
pub struct BlockCursor {
    stage: Stage,
    at: usize,
    header: Header,
    tx_count: u64,
    left: u64,
    limits: Limits,
}

impl Default for BlockCursor {
    fn default() -> Self {
        Self::new(u32::MAX)
    }
}

impl BlockCursor {
    /// Before the first byte of a block whose transactions may have `tx_bytes_max` bytes each.
    pub fn new(tx_bytes_max: u32) -> Self {
        Self {
            stage: Stage::Header,
            at: 0,
            header: Header::default(),
            tx_count: 0,
            left: 0,
            limits: Limits { max_bytes: tx_bytes_max, format: Format::Raw },
        }
    }

    /// Reads header and count; nothing once they are read.
    pub fn read_head(&mut self, bytes: &[u8]) -> Result<(&Header, u64), ParseError> {
        if matches!(self.stage, Stage::Header) {
            let mut r = Reader::new(bytes);
            let header = Header::read(&mut r)?;
            let tx_count = r.compact_size()?;
            self.header = header;
            self.tx_count = tx_count;
            self.left = tx_count;
            self.at = r.offset();
            self.stage = Stage::Between;
        }
        Ok((&self.header, self.tx_count))
    }

    /// The header, once it has been read.
    pub fn header(&self) -> Option<&Header> {
        (!matches!(self.stage, Stage::Header)).then_some(&self.header)
    }

    /// Transactions that have not been complete yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Bytes of everything that was complete.
    pub fn used_bytes(&self) -> usize {
        self.at
    }

    /// Reads at most `max_items` inputs and outputs, and stops after each transaction.
    ///
    /// `bytes` is the block from its first byte; it may be longer at every call. A `Truncated` error loses nothing.
    pub fn advance(
        &mut self,
        bytes: &[u8],
        layout: &mut TxLayout,
        max_items: usize,
    ) -> Result<BlockStep, ParseError> {
        self.read_head(bytes)?;
        if self.left == 0 {
            return Ok(BlockStep::End);
        }
        if !matches!(self.stage, Stage::Inside(_)) {
            self.stage = Stage::Inside(TxParser::new(self.limits));
        }
        let Stage::Inside(parser) = &mut self.stage else {
            return Ok(BlockStep::End);
        };
        let at = self.at;
        let from = bytes.get(at..).unwrap_or_default();
        let progress = parser
            .advance(from, layout, max_items)
            .map_err(|e| ParseError { offset: e.offset + at as u64, ..e })?;
        match progress {
            Progress::More => Ok(BlockStep::More),
            Progress::LayoutFull => {
                // What was found stands in the full layout; the next one starts this transaction anew.
                self.stage = Stage::Between;
                Ok(BlockStep::LayoutFull)
            }
            Progress::Done => {
                let end = at + parser.used_bytes();
                self.at = end;
                self.left -= 1;
                self.stage = Stage::Between;
                Ok(BlockStep::Tx(at..end))
            }
        }
    }
}

/// A whole block over borrowed bytes.
#[derive(Debug, Clone, Copy)]
pub struct BlockView<'a> {
    bytes: &'a [u8],
    header: Header,
    tx_count: u64,
}

impl<'a> BlockView<'a> {
    /// Reads header and count. Transactions are read as they are asked for.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut cursor = BlockCursor::default();
        let (header, tx_count) = cursor.read_head(bytes)?;
        Ok(Self { bytes, header: *header, tx_count })
    }

    /// Reads every transaction once, so that walking it later cannot fail. The bytes are exactly one block.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let block = Self::new(bytes)?;
        let mut txs = block.txs();
        let mut layout = TxLayout::new();
        while txs.next_tx(&mut layout)?.is_some() {}
        let used = txs.cursor.used_bytes();
        match bytes.len() - used {
            0 => Ok(block),
            extra => Err(ParseError {
                offset: used as u64,
                kind: ParseErrorKind::TrailingBytes { extra: extra as u64 },
            }),
        }
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The block's name.
    pub fn hash(&self) -> BlockHash {
        self.header.hash()
    }

    /// How many transactions the block says it has.
    pub fn tx_count(&self) -> u64 {
        self.tx_count
    }

    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The transactions in order.
    pub fn txs(&self) -> BlockTxs<'a> {
        BlockTxs { bytes: self.bytes, cursor: BlockCursor::default() }
    }

    /// The ids of all transactions; for blocks that fit in memory.
    pub fn txids(&self) -> Result<Vec<TxId>, ParseError> {
        let mut ids = Vec::new();
        let mut txs = self.txs();
        let mut layout = TxLayout::new();
        while let Some(view) = txs.next_tx(&mut layout)? {
            ids.push(view.txid());
        }
        Ok(ids)
    }
}

/// Walks over the transactions of a block. Not an `Iterator`, since every view borrows the layout it was parsed into.
#[derive(Debug, Clone)]
pub struct BlockTxs<'a> {
    bytes: &'a [u8],
    cursor: BlockCursor,
}

impl<'a> BlockTxs<'a> {
    /// The next transaction; `None` after the last.
    pub fn next_tx<'l>(
        &mut self,
        layout: &'l mut TxLayout,
    ) -> Result<Option<TxView<'l>>, ParseError>
    where
        'a: 'l,
    {
        match self.cursor.advance(self.bytes, layout, usize::MAX)? {
            BlockStep::Tx(range) => Ok(Some(TxView::new(&self.bytes[range], layout))),
            BlockStep::End => Ok(None),
            BlockStep::LayoutFull | BlockStep::More => {
                let limit = (layout.input_count() + layout.output_count()) as u64;
                let offset = self.cursor.used_bytes() as u64;
                Err(ParseError { offset, kind: ParseErrorKind::TooMany { got: limit + 1, limit } })
            }
        }
    }
}

/// Appends a block to `out`; each item of `txs` is a raw transaction.
pub fn write_block<T: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    header: &Header,
    txs: impl ExactSizeIterator<Item = T>,
) {
    out.extend_from_slice(&header.to_bytes());
    write_compact_size(out, txs.len() as u64);
    for tx in txs {
        out.extend_from_slice(tx.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tx::{Tx, any_tx};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn bytes_of(txs: &[Tx]) -> Vec<u8> {
        let mut out = Vec::new();
        write_block(&mut out, &Header::default(), txs.iter().map(Tx::to_bytes));
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_walked(txs in vec(any_tx(), 0..5), items in 1usize..5) {
            let bytes = bytes_of(&txs);
            let block = BlockView::parse(&bytes).unwrap();
            prop_assert_eq!(block.tx_count(), txs.len() as u64);
            let ids: Vec<_> = txs.iter().map(Tx::txid).collect();
            prop_assert_eq!(block.txids().unwrap(), ids.clone());

            // The same in small steps, while the bytes still arrive.
            let mut cursor = BlockCursor::default();
            let mut layout = TxLayout::new();
            let mut seen = Vec::new();
            let mut have = 0;
            loop {
                match cursor.advance(&bytes[..have], &mut layout, items) {
                    Ok(BlockStep::End) => break,
                    Ok(BlockStep::Tx(range)) => seen.push(TxView::new(&bytes[range], &layout).txid()),
                    Ok(_) => {}
                    Err(e) => {
                        prop_assert!(e.is_truncated());
                        have = (have + 7).min(bytes.len());
                    }
                }
            }
            prop_assert_eq!(seen, ids);
            prop_assert_eq!(cursor.used_bytes(), bytes.len());
        }

        #[test]
        fn any_bytes_parse_or_fail(bytes in vec(any::<u8>(), 0..300)) {
            let _ = BlockView::parse(&bytes);
        }

        #[test]
        fn a_cut_block_is_truncated_at_every_byte(txs in vec(any_tx(), 1..3), cut: prop::sample::Index) {
            let bytes = bytes_of(&txs);
            let cut = cut.index(bytes.len());
            let error = BlockView::parse(&bytes[..cut]).unwrap_err();
            prop_assert!(error.is_truncated());
            prop_assert!(error.offset <= cut as u64);
        }
    }

    #[test]
    fn a_transaction_too_large_for_a_fixed_layout_is_read_into_a_growing_one() {
        let mut tx = Tx::default();
        tx.inputs.resize(5, crate::tx::TxIn::default());
        let bytes = bytes_of(&[Tx::default(), tx.clone()]);
        let mut cursor = BlockCursor::default();
        let mut small = TxLayout::fixed(2, 2);
        assert!(matches!(cursor.advance(&bytes, &mut small, 100), Ok(BlockStep::Tx(_))));
        assert_eq!(cursor.advance(&bytes, &mut small, 100), Ok(BlockStep::LayoutFull));
        let mut large = TxLayout::new();
        let Ok(BlockStep::Tx(range)) = cursor.advance(&bytes, &mut large, 100) else {
            panic!("the growing layout takes it");
        };
        assert_eq!(TxView::new(&bytes[range], &large).txid(), tx.txid());
    }

    #[test]
    fn bytes_after_a_block_are_an_error() {
        let mut bytes = bytes_of(&[Tx::default()]);
        bytes.push(0);
        let error = BlockView::parse(&bytes).unwrap_err();
        assert_eq!(error.kind, ParseErrorKind::TrailingBytes { extra: 1 });
        assert_eq!(error.offset, bytes.len() as u64 - 1);
    }
}
