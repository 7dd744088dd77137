//! The shadow: a chain of blocks and what the pool holds, and what must hold of the two.

use super::make::OPEN;
use crate::fault::{Checked, ensure};
use consensus::block::write_block;
use consensus::hash::{MerkleHash, TxId};
use consensus::header::Header;
use consensus::merkle::merkle_root;
use consensus::params::ChainParams;
use consensus::rules::coinbase_height_script;
use consensus::tx::{OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};
use dataplane::msg::Context;
use std::collections::{BTreeMap, BTreeSet};

/// Median time past at the base height; every block adds one.
const MEDIAN_TIME: u32 = 1_600_000_000;
const COINBASE_MATURITY_BLOCKS: u32 = 100;
/// Transactions of a disconnected block that the machine's pack puts back for certain.
const PUT_BACK_MAX: usize = 64;

/// A block of the chain, or one that was on it.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub height: u32,
    pub raw: Vec<u8>,
    /// The coinbase first.
    pub txs: Vec<Tx>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shadow {
    params: ChainParams,
    pub base_height: u32,
    base: BTreeMap<OutPoint, u64>,
    pub chain: Vec<Block>,
    pub pool: BTreeSet<TxId>,
    /// Every transaction that anybody made.
    pub made: BTreeMap<TxId, Tx>,
}

fn outputs(tx: &Tx) -> impl Iterator<Item = (OutPoint, u64)> + '_ {
    let txid = tx.txid();
    tx.outputs
        .iter()
        .enumerate()
        .map(move |(vout, o)| (OutPoint { txid, vout: vout as u32 }, o.value_sat as u64))
}

impl Shadow {
    pub fn new(params: ChainParams, base_height: u32) -> Self {
        Self {
            params,
            base_height,
            base: BTreeMap::new(),
            chain: Vec::new(),
            pool: BTreeSet::new(),
            made: BTreeMap::new(),
        }
    }

    pub fn add_base(&mut self, at: OutPoint, value_sat: u64) {
        self.base.insert(at, value_sat);
    }

    pub fn height(&self) -> u32 {
        self.base_height + self.chain.len() as u32
    }

    pub fn median_time_past(&self) -> u32 {
        MEDIAN_TIME + self.chain.len() as u32
    }

    /// What the pool is judged against.
    pub fn pool_context(&self) -> Context {
        let height = self.height() + 1;
        Context {
            block: 0,
            height,
            median_time_past: self.median_time_past(),
            rule_set: self.params.flags_for_block(height),
        }
    }

    /// Lock times here are heights.
    pub fn is_final_next(&self, tx: &Tx) -> bool {
        tx.lock_time < self.height() + 1
            || tx.inputs.iter().all(|input| input.sequence == SEQUENCE_FINAL)
    }

    /// Coins of the chain, the young coinbases' among them.
    fn all_chain_coins(&self) -> BTreeMap<OutPoint, u64> {
        let mut coins = self.base.clone();
        for tx in self.chain.iter().flat_map(|block| &block.txs) {
            for input in &tx.inputs {
                coins.remove(&input.prev);
            }
            coins.extend(outputs(tx));
        }
        coins
    }

    /// Coins that a next block can spend.
    pub fn chain_coins(&self) -> BTreeMap<OutPoint, u64> {
        let mut coins = self.all_chain_coins();
        let next = self.height() + 1;
        for block in &self.chain {
            if next < block.height + COINBASE_MATURITY_BLOCKS {
                for (at, _) in outputs(&block.txs[0]) {
                    coins.remove(&at);
                }
            }
        }
        coins
    }

    /// Coins of the chain and the pool that nobody has spent.
    pub fn coins(&self) -> BTreeMap<OutPoint, u64> {
        let mut coins = self.all_chain_coins();
        for txid in &self.pool {
            coins.extend(outputs(&self.made[txid]));
        }
        for txid in &self.pool {
            for input in &self.made[txid].inputs {
                coins.remove(&input.prev);
            }
        }
        coins
    }

    /// A block of these transactions on top of the chain.
    pub fn block(&self, txs: &[Tx], salt: u64, is_rich: bool) -> Block {
        let height = self.height() + 1;
        let mut coins = self.all_chain_coins();
        let (mut given, mut paid) = (0, 0);
        for tx in txs {
            given += tx.inputs.iter().filter_map(|i| coins.get(&i.prev)).sum::<u64>();
            paid += tx.outputs.iter().map(|o| o.value_sat as u64).sum::<u64>();
            coins.extend(outputs(tx));
        }
        let fees = u64::saturating_sub(given, paid) + u64::from(is_rich);
        let (script, len) = coinbase_height_script(height);
        let mut unlocking_script = script[..len].to_vec();
        unlocking_script.push(8);
        unlocking_script.extend_from_slice(&salt.to_le_bytes());
        let coinbase = Tx {
            version: 1,
            inputs: vec![TxIn {
                prev: OutPoint::NULL,
                unlocking_script,
                sequence: SEQUENCE_FINAL,
                coin: None,
            }],
            outputs: vec![TxOut {
                value_sat: (self.params.subsidy_sat(height) + fees) as i64,
                locking_script: OPEN.to_vec(),
            }],
            lock_time: 0,
        };
        let txs: Vec<Tx> = std::iter::once(coinbase).chain(txs.iter().cloned()).collect();
        let raws: Vec<Vec<u8>> = txs.iter().map(Tx::to_bytes).collect();
        let ids: Vec<[u8; 32]> = txs.iter().map(|tx| tx.txid().0).collect();
        let header = Header {
            version: 0x2000_0000,
            prev: self.params.genesis_header.prev,
            merkle_root: MerkleHash(merkle_root(ids.iter()).root.0),
            time_s: MEDIAN_TIME + 1_000,
            n_bits: self.params.genesis_header.n_bits,
            nonce: 0,
        };
        let mut raw = Vec::new();
        write_block(&mut raw, &header, raws.iter());
        Block { height, raw, txs }
    }

    /// Where a transaction is, in words.
    pub fn place(&self, txid: &TxId) -> String {
        let block = self.chain.iter().find(|b| b.txs.iter().any(|tx| tx.txid() == *txid));
        match (block, self.pool.contains(txid)) {
            (Some(block), in_pool) => format!("block {}, in the pool: {in_pool}", block.height),
            (None, true) => "the pool".to_owned(),
            (None, false) => "the start, or nowhere".to_owned(),
        }
    }

    pub fn connect(&mut self, block: Block) {
        for tx in &block.txs {
            self.pool.remove(&tx.txid());
        }
        self.chain.push(block);
    }

    pub fn disconnect(&mut self, restored: &[TxId]) {
        self.chain.pop();
        self.pool.extend(restored.iter().copied());
    }

    /// Whether the block after the one at `height` is of another era: then the pool goes.
    fn changes_rules(&self, height: u32) -> bool {
        self.params.era(height) != self.params.era(height + 1)
    }

    /// Each of `evicted` contradicts the block, or spends from another that is evicted, or all of the pool goes; and nobody who stays
    /// contradicts it.
    pub fn check_losers(&self, block: &Block, evicted: &BTreeSet<TxId>) -> Checked {
        let spent: BTreeMap<OutPoint, TxId> = block
            .txs
            .iter()
            .flat_map(|tx| tx.inputs.iter().map(|input| (input.prev, tx.txid())))
            .collect();
        let contradicts = |txid: &TxId| {
            self.made[txid]
                .inputs
                .iter()
                .any(|input| spent.get(&input.prev).is_some_and(|by| by != txid))
        };
        for txid in evicted {
            let follows = self.made[txid].inputs.iter().any(|i| evicted.contains(&i.prev.txid));
            let has_cause = contradicts(txid) || follows || self.changes_rules(block.height);
            ensure(has_cause, || format!("{txid} was evicted for nothing"))?;
        }
        for txid in &self.pool {
            ensure(!contradicts(txid), || format!("{txid} contradicts the block and stays"))?;
        }
        Ok(())
    }

    /// The transactions of a block that was taken off are in the pool or were evicted, and evictions have a reason.
    pub fn check_fallen(
        &self,
        block: &Block,
        restored: &[TxId],
        evicted: &BTreeSet<TxId>,
    ) -> Checked {
        for tx in &block.txs[1..] {
            let txid = tx.txid();
            let there = restored.contains(&txid) != evicted.contains(&txid);
            ensure(there, || format!("{txid} of a disconnected block is lost, or twice"))?;
        }
        if self.changes_rules(block.height) {
            return ensure(restored.is_empty(), || {
                format!("{restored:?} came back across a change of rules")
            });
        }
        if restored.is_empty() && block.txs.len() > PUT_BACK_MAX {
            // More than pack has room for in front: then nothing of the block stays.
            return Ok(());
        }
        let coins = self.chain_coins();
        let made = |txid: &TxId| self.pool.contains(txid);
        for txid in evicted {
            let tx = &self.made[txid];
            let stands = self.is_final_next(tx)
                && tx
                    .inputs
                    .iter()
                    .all(|input| coins.contains_key(&input.prev) || made(&input.prev.txid));
            ensure(!stands, || {
                let parents: Vec<String> =
                    tx.inputs.iter().map(|input| self.place(&input.prev.txid)).collect();
                format!(
                    "{txid} was evicted though it could stand (lock time {}, next height {}, parents {parents:?}, {} evicted)",
                    tx.lock_time,
                    self.height() + 1,
                    evicted.len()
                )
            })?;
        }
        Ok(())
    }

    /// Nothing of the pool contradicts the chain or another of the pool.
    pub fn check_pool(&self) -> Checked {
        let coins = self.chain_coins();
        let mut spent = BTreeMap::new();
        for txid in &self.pool {
            let tx = &self.made[txid];
            ensure(self.is_final_next(tx), || format!("{txid} of the pool is not final"))?;
            for input in &tx.inputs {
                let other = spent.insert(input.prev, *txid);
                ensure(other.is_none(), || format!("{txid} and {other:?} spend {}", input.prev))?;
                let in_pool = self.pool.contains(&input.prev.txid);
                let there = coins.contains_key(&input.prev) || in_pool;
                ensure(there, || {
                    format!("{txid} of the pool spends {}: no such coin", input.prev)
                })?;
            }
        }
        Ok(())
    }

    /// What pack offers is the pool, parents before children.
    pub fn check_leaves(&self, leaves: &[TxId]) -> Checked {
        let mut placed = BTreeSet::new();
        for txid in leaves {
            ensure(self.pool.contains(txid), || format!("pack offers {txid}, not in the pool"))?;
            ensure(placed.insert(*txid), || format!("pack offers {txid} twice"))?;
            for input in &self.made[txid].inputs {
                let parent = input.prev.txid;
                let first = !self.pool.contains(&parent) || placed.contains(&parent);
                ensure(first, || format!("pack offers {txid} before its parent {parent}"))?;
            }
        }
        let missing = self.pool.iter().find(|txid| !placed.contains(txid));
        ensure(missing.is_none(), || format!("pack does not offer {missing:?}"))
    }
}
