//! How the coins of a plan come to be: coinbases, split in two steps.
//!
//! A coinbase pays one split transaction, each of whose outputs pays one transaction that makes up to [`OUTPUTS_MAX`] coins of
//! the plan. Both steps stay far below the size and signature-operation limits of the oldest era (1,000,000 bytes and 20,000
//! per transaction; SV Node: consensus.h).

use crate::plan::{CoinPlan, Lock, Plan};
use crate::{scripts, sign};
use consensus::hash::TxId;
use consensus::tx::{Coin, OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};
use rayon::prelude::*;

/// Outputs of one split.
pub const OUTPUTS_MAX: usize = 500;

/// A coin the workload can spend.
#[derive(Clone, Copy, Debug)]
pub struct OwnCoin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Its value.
    pub value_sat: u64,
    pub(crate) lock: Lock,
}

/// A coinbase the fan-out starts from: its output 0 pays the script the plan asked for.
#[derive(Clone, Copy, Debug)]
pub struct Coinbase {
    /// Its txid.
    pub txid: TxId,
    /// What output 0 pays.
    pub value_sat: u64,
}

/// The fan-out of a plan: transactions in an order that respects parents, and the coins they make in the plan's order.
#[derive(Debug)]
pub struct FanOut {
    /// First the splits of the coinbases, then the splits of those.
    pub txs: Vec<Vec<u8>>,
    /// One for each coin of the plan.
    pub coins: Vec<OwnCoin>,
}

/// Coins of the plan that hang on one coinbase: groups of up to [`OUTPUTS_MAX`].
type Bundle<'a> = Vec<&'a [CoinPlan]>;

impl Plan {
    /// How many coinbases of `reward_sat` the plan needs.
    pub fn coinbases_needed(&self, reward_sat: u64) -> usize {
        self.bundles(reward_sat).len()
    }

    /// The locking script coinbase `i` must pay to.
    pub fn coinbase_script(&self, i: usize) -> Vec<u8> {
        scripts::pay_to_key_hash(&self.keys.at(i).hash)
    }

    /// Whether a coinbase of `reward_sat` can pay for any group of the plan's coins at all.
    pub fn is_enough(&self, reward_sat: u64) -> bool {
        let usable_sat = reward_sat.saturating_sub(self.split_fee(OUTPUTS_MAX));
        self.coins.chunks(OUTPUTS_MAX).all(|group| self.group_cost(group) <= usable_sat)
    }

    /// Splits `coinbases` (each pays at least `reward_sat` to [`Plan::coinbase_script`] of its place).
    pub fn fan_out(&self, coinbases: &[Coinbase], reward_sat: u64) -> FanOut {
        let bundles = self.bundles(reward_sat);
        assert!(
            coinbases.len() >= bundles.len(),
            "the plan needs {} coinbases of {reward_sat} satoshi but got {}",
            bundles.len(),
            coinbases.len()
        );
        assert!(
            coinbases.iter().all(|c| c.value_sat >= reward_sat),
            "a coinbase pays less than the {reward_sat} satoshi the fan-out counts on"
        );
        let mut first = Vec::new();
        let mut second = Vec::new();
        let mut coins = Vec::with_capacity(self.coins.len());
        for (i, bundle) in bundles.iter().enumerate() {
            let source = OwnCoin {
                outpoint: OutPoint { txid: coinbases[i].txid, vout: 0 },
                value_sat: coinbases[i].value_sat,
                lock: Lock::Key((i % self.keys.len()) as u32),
            };
            let outputs: Vec<CoinPlan> = bundle
                .iter()
                .enumerate()
                .map(|(g, group)| CoinPlan {
                    lock: Lock::Key(((i + g) % self.keys.len()) as u32),
                    value_sat: self.group_cost(group),
                })
                .collect();
            let split = self.split(&source, &outputs);
            let txid = TxId::of(&split);
            first.push(split);
            let leaves: Vec<(Vec<u8>, Vec<OwnCoin>)> = bundle
                .par_iter()
                .zip(outputs.par_iter())
                .enumerate()
                .map(|(vout, (group, from))| {
                    let outpoint = OutPoint { txid, vout: vout as u32 };
                    let source = OwnCoin { outpoint, value_sat: from.value_sat, lock: from.lock };
                    let bytes = self.split(&source, group);
                    let txid = TxId::of(&bytes);
                    (bytes, own(txid, group))
                })
                .collect();
            for (bytes, made) in leaves {
                second.push(bytes);
                coins.extend(made);
            }
        }
        first.append(&mut second);
        FanOut { txs: first, coins }
    }

    fn bundles(&self, reward_sat: u64) -> Vec<Bundle<'_>> {
        let mut bundles: Vec<Bundle<'_>> = Vec::new();
        let mut room_sat = 0;
        for group in self.coins.chunks(OUTPUTS_MAX) {
            let cost = self.group_cost(group);
            let usable_sat = reward_sat.saturating_sub(self.split_fee(OUTPUTS_MAX));
            assert!(
                cost <= usable_sat,
                "a group of coins costs {cost}, a coinbase has {usable_sat}"
            );
            match bundles.last_mut() {
                Some(bundle) if bundle.len() < OUTPUTS_MAX && cost <= room_sat => {
                    bundle.push(group);
                    room_sat -= cost;
                }
                _ => {
                    bundles.push(vec![group]);
                    room_sat = usable_sat - cost;
                }
            }
        }
        bundles
    }

    fn group_cost(&self, group: &[CoinPlan]) -> u64 {
        group.iter().map(|c| c.value_sat).sum::<u64>() + self.split_fee(group.len())
    }

    /// Covers an output for change too: a node that mines by fee leaves out what pays a satoshi less than it asks for.
    fn split_fee(&self, outputs: usize) -> u64 {
        let bytes = 160 + 34 * (outputs as u64 + 1);
        bytes * self.options.fee_sat_per_kb / 1_000 + 1
    }

    /// One transaction from `source` to `outputs`; what remains is its fee, except a large rest, which goes back.
    fn split(&self, source: &OwnCoin, outputs: &[CoinPlan]) -> Vec<u8> {
        let mut tx = Tx {
            version: 1,
            inputs: vec![TxIn {
                prev: source.outpoint,
                unlocking_script: Vec::new(),
                sequence: SEQUENCE_FINAL,
                coin: Some(Coin {
                    value_sat: source.value_sat,
                    locking_script: sign::locking_script(&self.keys, source.lock),
                }),
            }],
            outputs: outputs
                .iter()
                .map(|c| TxOut {
                    value_sat: c.value_sat as i64,
                    locking_script: sign::locking_script(&self.keys, c.lock),
                })
                .collect(),
            lock_time: 0,
        };
        let paid: u64 = outputs.iter().map(|c| c.value_sat).sum();
        let change =
            source.value_sat - paid - self.split_fee(outputs.len()).min(source.value_sat - paid);
        if change > 100_000 {
            let locking_script = sign::locking_script(&self.keys, source.lock);
            tx.outputs.push(TxOut { value_sat: change as i64, locking_script });
        }
        sign::sign(&self.keys, &mut tx, &[source.lock]);
        tx.to_bytes()
    }
}

fn own(txid: TxId, group: &[CoinPlan]) -> Vec<OwnCoin> {
    group
        .iter()
        .enumerate()
        .map(|(vout, c)| OwnCoin {
            outpoint: OutPoint { txid, vout: vout as u32 },
            value_sat: c.value_sat,
            lock: c.lock,
        })
        .collect()
}

impl Plan {
    /// The locking script of one of the plan's coins.
    pub fn script_of(&self, coin: &OwnCoin) -> Vec<u8> {
        sign::locking_script(&self.keys, coin.lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Options, Workload};
    use std::collections::HashMap;

    #[test]
    fn every_transaction_of_the_fan_out_pays_at_least_the_rate() {
        let options = Options { keys: 16, ..Options::new(Workload::P2pkh, 1_300, 3) };
        let plan = Plan::new(options);
        let coinbase = Coinbase { txid: TxId::of(b"x"), value_sat: 5_000_000_000 };
        let fan_out = plan.fan_out(&[coinbase], 5_000_000_000);
        let mut value: HashMap<OutPoint, i64> = HashMap::new();
        value.insert(OutPoint { txid: coinbase.txid, vout: 0 }, coinbase.value_sat as i64);
        for bytes in &fan_out.txs {
            let tx = Tx::parse(bytes).unwrap();
            let paid: i64 = tx.inputs.iter().map(|input| value[&input.prev]).sum();
            let kept: i64 = tx.outputs.iter().map(|output| output.value_sat).sum();
            let least = bytes.len() as u64 * plan.options().fee_sat_per_kb / 1_000;
            assert!(paid - kept >= least as i64, "{} for {} bytes", paid - kept, bytes.len());
            for (vout, output) in tx.outputs.iter().enumerate() {
                let outpoint = OutPoint { txid: TxId::of(bytes), vout: vout as u32 };
                value.insert(outpoint, output.value_sat);
            }
        }
        assert_eq!(fan_out.txs.len(), 4, "one split of the coinbase, three of its outputs");
    }
}
