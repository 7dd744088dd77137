//! What is sent and what blocks are made of: good transactions, conflicts, chains, and everything a bad block can have.

use super::shadow::Shadow;
use consensus::hash::TxId;
use consensus::rules::{BlockReject, TxReject};
use consensus::tx::{OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};
use dataplane::rng::Rng;
use std::collections::BTreeMap;

/// Anyone can spend it.
pub(super) const OPEN: &[u8] = &[0x51];
/// What every transaction pays.
pub(super) const FEE_SAT: u64 = 1_000;

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    Missing,
    SpentTwice,
    Script,
    Creates,
    RichCoinbase,
    NotFinal,
    OutOfOrder,
}

impl Bad {
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::SpentTwice,
        Self::Script,
        Self::Creates,
        Self::RichCoinbase,
        Self::NotFinal,
        Self::OutOfOrder,
    ];

    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing | Self::SpentTwice | Self::OutOfOrder => {
                TxReject::InputsMissingOrSpent.reason()
            }
            Self::Script => "blk-bad-inputs",
            Self::Creates => TxReject::InBelowOut.reason(),
            Self::RichCoinbase => BlockReject::CoinbaseAmount.reason(),
            Self::NotFinal => TxReject::NonFinal.reason(),
        }
    }
}

/// A transaction that spends these coins, the value less a fee in `outputs` parts.
pub(super) fn spend(coins: &[(OutPoint, u64)], outputs: u64, lock_time: u32) -> Tx {
    let total: u64 = coins.iter().map(|c| c.1).sum();
    let left = total.saturating_sub(FEE_SAT);
    let sequence = if lock_time == 0 { SEQUENCE_FINAL } else { 0 };
    Tx {
        version: 1,
        inputs: coins
            .iter()
            .map(|&(prev, _)| TxIn { prev, unlocking_script: Vec::new(), sequence, coin: None })
            .collect(),
        outputs: (0..outputs)
            .map(|i| TxOut {
                value_sat: (left / outputs + i) as i64 - (outputs - 1) as i64,
                locking_script: OPEN.to_vec(),
            })
            .collect(),
        lock_time,
    }
}

fn pick(rng: &mut Rng, coins: &[(OutPoint, u64)], most: usize) -> Vec<(OutPoint, u64)> {
    let count = (1 + rng.index(most)).min(coins.len());
    let mut picked: Vec<(OutPoint, u64)> = Vec::new();
    for _ in 0..count {
        let coin = coins[rng.index(coins.len())];
        if !picked.iter().any(|p| p.0 == coin.0) {
            picked.push(coin);
        }
    }
    picked
}

/// One for the pool: of coins that are free, that somebody else has taken, or that are on their way.
pub(super) fn pool_tx(rng: &mut Rng, shadow: &Shadow) -> Tx {
    let free: Vec<(OutPoint, u64)> = if rng.chance(3, 4) {
        shadow.coins().into_iter().filter(|c| c.1 > 4 * FEE_SAT).collect()
    } else {
        let made = shadow.made.iter().flat_map(|(txid, tx)| {
            tx.outputs.iter().enumerate().map(|(vout, output)| {
                (OutPoint { txid: *txid, vout: vout as u32 }, output.value_sat as u64)
            })
        });
        shadow.chain_coins().into_iter().chain(made).filter(|c| c.1 > 4 * FEE_SAT).collect()
    };
    let lock_time = if rng.chance(1, 5) { shadow.height() - rng.below(3) as u32 } else { 0 };
    let outputs = 1 + rng.below(3);
    let coins = pick(rng, &free, 3);
    spend(&coins, outputs, lock_time)
}

/// What the pool holds, parents first.
pub(super) fn of_pool(shadow: &Shadow) -> Vec<Tx> {
    let mut left: Vec<&TxId> = shadow.pool.iter().collect();
    let mut placed: Vec<Tx> = Vec::new();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|txid| {
            let tx = &shadow.made[*txid];
            let waits = tx.inputs.iter().any(|input| {
                let parent = input.prev.txid;
                shadow.pool.contains(&parent) && !placed.iter().any(|p| p.txid() == parent)
            });
            if !waits {
                placed.push(tx.clone());
            }
            waits
        });
        if left.len() == before {
            break;
        }
    }
    placed
}

/// Transactions of a valid block: some of the pool's, rivals of others, and what nobody has seen.
pub(super) fn block_txs(rng: &mut Rng, shadow: &Shadow) -> Vec<Tx> {
    let mut coins: BTreeMap<OutPoint, u64> = shadow.chain_coins();
    let mut txs = Vec::new();
    let take = |tx: Tx, coins: &mut BTreeMap<OutPoint, u64>, txs: &mut Vec<Tx>| {
        if !tx.inputs.iter().all(|input| coins.contains_key(&input.prev))
            || !shadow.is_final_next(&tx)
            || txs.contains(&tx)
        {
            return;
        }
        for input in &tx.inputs {
            coins.remove(&input.prev);
        }
        let txid = tx.txid();
        for (vout, output) in tx.outputs.iter().enumerate() {
            coins.insert(OutPoint { txid, vout: vout as u32 }, output.value_sat as u64);
        }
        txs.push(tx);
    };
    let share = rng.below(4);
    for tx in of_pool(shadow) {
        if rng.below(3) < share {
            take(tx, &mut coins, &mut txs);
        }
    }
    for _ in 0..rng.below(8) {
        let free: Vec<(OutPoint, u64)> =
            coins.iter().filter(|c| *c.1 > 4 * FEE_SAT).map(|(at, v)| (*at, *v)).collect();
        if free.is_empty() {
            break;
        }
        // The newest coins are likely to be this block's own.
        let picked = pick(rng, &free, 3);
        let outputs = 1 + rng.below(3);
        take(spend(&picked, outputs, 0), &mut coins, &mut txs);
    }
    txs
}

/// Transactions of a block with one thing wrong, and what.
pub(super) fn bad_block_txs(rng: &mut Rng, shadow: &Shadow, bad: Bad) -> (Vec<Tx>, Bad) {
    let mut txs = block_txs(rng, shadow);
    let in_block: Vec<OutPoint> =
        txs.iter().flat_map(|tx| tx.inputs.iter().map(|input| input.prev)).collect();
    let free: Vec<(OutPoint, u64)> = shadow
        .chain_coins()
        .into_iter()
        .filter(|(at, v)| *v > 4 * FEE_SAT && !in_block.contains(at))
        .collect();
    let Some(&coin) = free.first() else { return (txs, Bad::RichCoinbase) };
    let at = rng.index(txs.len() + 1);
    let mut tx = spend(&[coin], 1, 0);
    match bad {
        Bad::RichCoinbase => return (txs, bad),
        Bad::Missing => tx.inputs[0].prev.txid = TxId::of(b"nobody made it"),
        Bad::SpentTwice => {
            let Some(&prev) = in_block.first() else { return (txs, Bad::RichCoinbase) };
            // The rival stands behind the one it contradicts.
            tx.inputs[0].prev = prev;
            tx.outputs[0].value_sat = 7;
            txs.push(tx);
            return (txs, bad);
        }
        Bad::Script => tx.inputs[0].unlocking_script = vec![0x00, 0x69],
        Bad::Creates => tx.outputs[0].value_sat = coin.1 as i64 + 1,
        Bad::NotFinal => {
            tx.lock_time = shadow.height() + 1;
            tx.inputs[0].sequence = 0;
        }
        Bad::OutOfOrder => {
            let child = spend(&[(OutPoint { txid: tx.txid(), vout: 0 }, coin.1 - FEE_SAT)], 1, 0);
            txs.insert(at, tx);
            txs.insert(at, child);
            return (txs, bad);
        }
    }
    txs.insert(at, tx);
    (txs, bad)
}
