//! An engine without tiles: a map of coins, a list of pool transactions, undo by remembering. Scripts are not run.

use crate::engine::{
    BlockToConnect, Candidate, ChainEnd, Coin, ConnectError, Connected, Disconnected, Engine,
    Leaves, Place, Rejection,
};
use crate::node::{NodeError, Totals};
use crate::store::Pool;
use consensus::block::BlockView;
use consensus::hash::{TxId, merkle_parent};
use consensus::params::ChainParams;
use consensus::rules::check_coinbase_amount;
use consensus::tx::{OutPoint, Tx, TxLayout, parse};
use dataplane::msg::pack_control::{CandidateId, Want};
use std::collections::HashMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlainCoin {
    pub(crate) value_sat: u64,
    pub(crate) height: u32,
    pub(crate) coinbase: bool,
    pub(crate) script: Vec<u8>,
}

#[derive(Debug, Default)]
struct Undo {
    spent: Vec<(OutPoint, PlainCoin)>,
    made: Vec<OutPoint>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plain {
    params: ChainParams,
    /// Blocks until a coinbase may be spent.
    pub(crate) maturity: u32,
    chain: Vec<ChainEnd>,
    undo: Vec<Undo>,
    pub(crate) coins: HashMap<OutPoint, PlainCoin>,
    /// In order, parents first.
    pub(crate) pooled: Vec<(TxId, Tx)>,
    generation: u64,
    view: Option<Pool>,
    pub(crate) connects: u64,
}

impl Plain {
    pub(crate) fn new(params: ChainParams, maturity: u32, view: Option<Pool>) -> Self {
        let end = ChainEnd {
            height: 0,
            hash: params.genesis_hash,
            median_time_past: params.genesis_header.time_s,
        };
        Self {
            params,
            maturity,
            chain: vec![end],
            undo: vec![],
            coins: HashMap::new(),
            pooled: vec![],
            generation: 0,
            view,
            connects: 0,
        }
    }

    /// Takes a transaction into the pool, as the data plane would; false if it cannot stand there.
    pub(crate) fn accept(&mut self, tx: &Tx) -> bool {
        let Some(fee_sat) = self.judge(tx, &self.pooled) else { return false };
        let txid = tx.txid();
        if let Some(view) = &self.view {
            view.restore(txid, &tx.to_bytes(), fee_sat);
        }
        self.pooled.push((txid, tx.clone()));
        true
    }

    /// The fee of a transaction behind `before`, if all its coins are there.
    fn judge(&self, tx: &Tx, before: &[(TxId, Tx)]) -> Option<u64> {
        let next = self.tip().height + 1;
        let mut in_sat = 0;
        for input in &tx.inputs {
            let prev = input.prev;
            let spends = |t: &Tx| t.inputs.iter().any(|i| i.prev == prev);
            if before.iter().any(|(_, t)| spends(t)) {
                return None;
            }
            let of_pool = before.iter().find(|(id, _)| *id == prev.txid);
            in_sat += match (of_pool, self.coins.get(&prev)) {
                (Some((_, parent)), _) => parent.outputs.get(prev.vout as usize)?.value_sat as u64,
                (None, Some(c)) if !c.coinbase || next - c.height >= self.maturity => c.value_sat,
                _ => return None,
            };
        }
        let out_sat: u64 = tx.outputs.iter().map(|o| o.value_sat as u64).sum();
        in_sat.checked_sub(out_sat)
    }

    /// Drops what cannot stand in the pool any more.
    fn settle_pool(&mut self) -> Vec<TxId> {
        let (mut kept, mut evicted) = (Vec::new(), Vec::new());
        for (txid, tx) in std::mem::take(&mut self.pooled) {
            match self.judge(&tx, &kept) {
                Some(_) => kept.push((txid, tx)),
                None => evicted.push(txid),
            }
        }
        self.pooled = kept;
        self.generation += 1;
        if let Some(view) = &self.view {
            // The frag of an eviction, in its plain form.
            let here: Vec<TxId> = evicted.iter().copied().filter(|t| view.contains(t)).collect();
            view.mined(&here);
        }
        evicted
    }
}

fn reject(reason: &str, txid: Option<TxId>) -> ConnectError {
    ConnectError::Rejected(Rejection {
        reason: reason.to_owned(),
        txid,
        vin: None,
        is_corruption_possible: false,
    })
}

impl Engine for Plain {
    fn tip(&self) -> ChainEnd {
        self.chain[self.chain.len() - 1]
    }

    fn candidate(&mut self, want: Want) -> Result<Candidate, NodeError> {
        let take = if want == Want::CoinbaseOnly { 0 } else { self.pooled.len() };
        let mut level: Vec<[u8; 32]> = vec![[0; 32]];
        level.extend(self.pooled[..take].iter().map(|(txid, _)| txid.0));
        let mut branch = Vec::new();
        while level.len() > 1 {
            branch.push(TxId(level[1]));
            level = level
                .chunks(2)
                .map(|p| merkle_parent(&p[0], p.last().expect("a chunk is not empty")))
                .collect();
        }
        let (mut fees_sat, mut size_bytes) = (0, 0);
        for (at, (_, tx)) in self.pooled[..take].iter().enumerate() {
            fees_sat += self.judge(tx, &self.pooled[..at]).expect("a pool transaction stands");
            size_bytes += tx.to_bytes().len() as u64;
        }
        let id = CandidateId { generation: self.generation, leaves: take as u64 + 1 };
        Ok(Candidate { id, subtrees: 1, fees_sat, size_bytes, branch })
    }

    fn leaves(&mut self, id: CandidateId) -> Result<Option<Leaves>, NodeError> {
        if id.generation != self.generation {
            return Ok(None);
        }
        let taken = self.pooled[..id.leaves as usize - 1].iter();
        let txids = taken.map(|(txid, _)| *txid).collect();
        Ok(Some(Leaves { id, txids, ranges: vec![] }))
    }

    fn connect(&mut self, block: &BlockToConnect<'_>) -> Result<Connected, ConnectError> {
        let view = BlockView::parse(block.raw).expect("the state machine parsed it");
        assert!(view.header().prev == self.tip().hash, "a block is connected on the tip");
        let height = block.end.height;
        let mut coins = self.coins.clone();
        let mut undo = Undo::default();
        let (mut fees_sat, mut ids) = (0, Vec::new());
        let mut layout = TxLayout::new();
        let mut txs = view.txs();
        let mut coinbase = Vec::new();
        while let Ok(Some(tx)) = txs.next_tx(&mut layout) {
            let txid = tx.txid();
            if ids.is_empty() {
                coinbase = tx.bytes().to_vec();
            } else {
                let mut in_sat = 0;
                for input in tx.inputs() {
                    let coin = coins
                        .remove(&input.prev)
                        .ok_or_else(|| reject("bad-txns-inputs-missingorspent", Some(txid)))?;
                    if coin.coinbase && height - coin.height < self.maturity {
                        let reason = "bad-txns-premature-spend-of-coinbase";
                        return Err(reject(reason, Some(txid)));
                    }
                    in_sat += coin.value_sat;
                    undo.spent.push((input.prev, coin));
                }
                let out_sat: u64 = tx.outputs().map(|o| o.value_sat as u64).sum();
                let fee = in_sat.checked_sub(out_sat);
                fees_sat += fee.ok_or_else(|| reject("bad-txns-in-belowout", Some(txid)))?;
            }
            for (vout, output) in tx.outputs().enumerate() {
                let outpoint = OutPoint { txid, vout: vout as u32 };
                let coin = PlainCoin {
                    value_sat: output.value_sat as u64,
                    height,
                    coinbase: ids.is_empty(),
                    script: output.locking_script.to_vec(),
                };
                coins.insert(outpoint, coin);
                undo.made.push(outpoint);
            }
            ids.push(txid);
        }
        let mut layout = TxLayout::new();
        let first = parse(&coinbase, &mut layout).expect("it was parsed before");
        check_coinbase_amount(first, fees_sat, height, &self.params)
            .map_err(|r| reject(r.reason(), Some(ids[0])))?;
        self.coins = coins;
        self.undo.push(undo);
        self.chain.push(block.end);
        self.connects += 1;
        let before = self.pooled.len();
        self.pooled.retain(|(txid, _)| !ids.contains(txid));
        let from_pool = (before - self.pooled.len()) as u64;
        let evicted = self.settle_pool();
        Ok(Connected { txs: ids.len() as u64, fees_sat, from_pool, evicted })
    }

    fn connect_ours(
        &mut self,
        block: &BlockToConnect<'_>,
        leaves: &Leaves,
    ) -> Result<Connected, ConnectError> {
        let txids = BlockView::parse(block.raw).expect("our own").txids().expect("our own");
        assert_eq!(txids[1..], leaves.txids, "the block is the candidate");
        self.connect(block)
    }

    fn disconnect(&mut self, raw: &[u8], end: ChainEnd) -> Result<Disconnected, NodeError> {
        let gone = self.chain.pop().expect("there is a tip");
        let view = BlockView::parse(raw).expect("a block");
        assert_eq!((view.hash(), end), (gone.hash, self.tip()));
        let undo = self.undo.pop().expect("one a block");
        for outpoint in &undo.made {
            self.coins.remove(outpoint);
        }
        let own: Vec<TxId> = view.txids().expect("a block");
        let from_before = undo.spent.into_iter().filter(|(o, _)| !own.contains(&o.txid));
        self.coins.extend(from_before);
        let (mut txs, mut layout) = (view.txs(), TxLayout::new());
        let mut back = Vec::new();
        while let Ok(Some(tx)) = txs.next_tx(&mut layout) {
            back.push((tx.txid(), Tx::from_view(tx)));
        }
        back.remove(0);
        let ids: Vec<TxId> = back.iter().map(|(txid, _)| *txid).collect();
        back.append(&mut self.pooled);
        self.pooled = back;
        let evicted = self.settle_pool();
        let stands = |id: &TxId| self.pooled.iter().any(|(txid, _)| txid == id);
        let restored = ids.into_iter().filter(stands).collect();
        Ok(Disconnected { restored, evicted })
    }

    fn coin(&mut self, outpoint: OutPoint) -> Result<Option<Coin>, NodeError> {
        let spends = |tx: &Tx| tx.inputs.iter().any(|i| i.prev == outpoint);
        if self.pooled.iter().any(|(_, tx)| spends(tx)) {
            return Ok(None);
        }
        let of_pool = self.pooled.iter().find(|(txid, _)| *txid == outpoint.txid);
        if let Some((_, tx)) = of_pool {
            let height = self.tip().height + 1;
            return Ok(tx.outputs.get(outpoint.vout as usize).map(|output| Coin {
                value_sat: output.value_sat as u64,
                height,
                coinbase: false,
                in_pool: true,
                locking_script: output.locking_script.clone(),
            }));
        }
        self.mined_coin(outpoint)
    }

    fn mined_coin(&mut self, outpoint: OutPoint) -> Result<Option<Coin>, NodeError> {
        Ok(self.coins.get(&outpoint).map(|coin| Coin {
            value_sat: coin.value_sat,
            height: coin.height,
            coinbase: coin.coinbase,
            in_pool: false,
            locking_script: coin.script.clone(),
        }))
    }

    fn where_mined(&mut self, _txid: &TxId) -> Result<Place, NodeError> {
        Ok(Place::Unknown)
    }

    fn totals(&mut self) -> Result<Totals, NodeError> {
        let value_sat = self.coins.values().map(|c| c.value_sat).sum();
        Ok(Totals { utxos: self.coins.len() as u64, value_sat, ..Totals::default() })
    }
}

impl Plain {
    pub(crate) fn tip_height(&self) -> u32 {
        self.tip().height
    }
}
