//! A block's bytes, walked once: names, places, and every rule that needs nothing but the bytes.

use super::{NewBlock, Rejection};
use consensus::block::BlockView;
use consensus::hash::TxId;
use consensus::params::ChainParams;
use consensus::rules::{self, BlockChecker, BlockReject};
use consensus::tx::{OutPoint, TxLayout, TxView, parse};
use std::collections::HashMap;

/// A block that keeps every rule which lies in its bytes.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    pub txs: Vec<&'a [u8]>,
    pub txids: Vec<TxId>,
    /// Place of each id; of two alike the first.
    pub places: HashMap<TxId, u32>,
    /// What lock times of this block are compared with.
    pub time_limit_s: u32,
}

impl<'a> Walk<'a> {
    /// Walks over `block`, or says what is wrong with it.
    pub fn over(block: &NewBlock<'a>, params: &ChainParams) -> Result<Self, Rejection> {
        let undecodable = || Rejection {
            reason: "bad-blk-decode".to_owned(),
            txid: None,
            vin: None,
            is_corruption_possible: true,
        };
        let view = BlockView::parse(block.raw).map_err(|_| undecodable())?;
        let header = *view.header();
        let mtp = block.parent_median_time_past;
        let time_limit_s = rules::lock_time_limit_s(params, block.height, mtp, header.time_s);
        let mut checker = BlockChecker::new(params, block.height, time_limit_s, 0);
        let mut layout = TxLayout::new();
        let mut stream = view.txs();
        let mut walk = Self {
            txs: Vec::with_capacity(view.tx_count() as usize),
            txids: Vec::with_capacity(view.tx_count() as usize),
            places: HashMap::with_capacity(view.tx_count() as usize),
            time_limit_s,
        };
        let mut right_height = false;
        while let Some(tx) = stream.next_tx(&mut layout).map_err(|_| undecodable())? {
            let txid = tx.txid();
            if walk.txs.is_empty() && tx.is_coinbase() {
                right_height = checker.has_right_height(tx);
            }
            checker.add(tx, &txid);
            walk.places.entry(txid).or_insert(walk.txids.len() as u32);
            walk.txs.push(part_of(block.raw, tx.bytes()));
            walk.txids.push(txid);
        }
        match checker.finish(&header.merkle_root, right_height) {
            Ok(_) => Ok(walk),
            Err(reject) => {
                let txid = match reject {
                    BlockReject::Transaction { index, .. } => {
                        walk.txids.get(index as usize).copied()
                    }
                    _ => None,
                };
                Err(Rejection::of(reject, txid))
            }
        }
    }

    /// A block that was connected before: its names and places only.
    pub fn known(raw: &'a [u8]) -> Option<Self> {
        let view = BlockView::parse(raw).ok()?;
        let mut walk = Self {
            txs: Vec::with_capacity(view.tx_count() as usize),
            txids: Vec::with_capacity(view.tx_count() as usize),
            places: HashMap::new(),
            time_limit_s: 0,
        };
        let mut layout = TxLayout::new();
        let mut stream = view.txs();
        while let Some(tx) = stream.next_tx(&mut layout).ok()? {
            walk.txs.push(part_of(raw, tx.bytes()));
            walk.txids.push(tx.txid());
        }
        (!walk.txs.is_empty()).then_some(walk)
    }

    pub fn len(&self) -> usize {
        self.txs.len()
    }

    /// Looks at transaction `i`.
    pub fn tx<T>(&self, i: usize, look: impl FnOnce(TxView<'_>) -> T) -> T {
        let mut layout = TxLayout::new();
        look(parse(self.txs[i], &mut layout).expect("it was parsed before"))
    }

    /// The coins transaction `i` spends.
    pub fn coins(&self, i: usize) -> Vec<OutPoint> {
        self.tx(i, |tx| tx.inputs().map(|input| input.prev).collect())
    }

    /// Whether input `vin` of transaction `i` spends a transaction that stands before it in the block.
    pub fn has_parent_before(&self, i: usize, vin: u32) -> bool {
        let prev = self
            .tx(i, |tx| ((vin as usize) < tx.input_count()).then(|| tx.prev(vin as usize).txid));
        prev.and_then(|txid| self.places.get(&txid)).is_some_and(|&at| (at as usize) < i)
    }

    /// The first input that spends a transaction which stands later in the block, or itself.
    pub fn out_of_order(&self) -> Option<(usize, u32)> {
        let mut layout = TxLayout::new();
        self.txs.iter().enumerate().skip(1).find_map(|(i, bytes)| {
            let tx = parse(bytes, &mut layout).expect("it was parsed before");
            rules::late_parent(tx, i, |txid| self.places.get(txid).copied()).map(|vin| (i, vin))
        })
    }
}

/// The same bytes, borrowed from the whole they are part of.
fn part_of<'a>(whole: &'a [u8], part: &[u8]) -> &'a [u8] {
    let at = part.as_ptr() as usize - whole.as_ptr() as usize;
    &whole[at..at + part.len()]
}
