//! From a plan and its coins to signed bytes, on all cores.

use crate::fan_out::OwnCoin;
use crate::keys::Keys;
use crate::offer::{Kind, Offer};
use crate::plan::{Lock, Plan, Shape, Unit, Workload};
use crate::scripts;
use consensus::hash::TxId;
use consensus::script::Budget;
use consensus::sighash::SighashCache;
use consensus::tx::{Coin, OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxLayout, TxOut, parse};
use dataplane::rng::Rng;
use rayon::prelude::*;
use secp256k1::{Message, ecdsa};

/// `SIGHASH_ALL | SIGHASH_FORKID`.
const SIGHASH_ALL_FORKID: u8 = 0x41;
/// How far behind its counterpart a fault is sent, at most.
const FAULT_DISTANCE_MAX: u64 = 200;
const FAULT_SALT: u64 = 0x66_61_75_6c_74;
const DATA_SALT: u64 = 0x64_61_74_61;

/// One signed transaction on its way into the offer.
struct Signed {
    kind: Kind,
    txid: TxId,
    bytes: Vec<u8>,
}

/// Where an item of the offer comes from, before places are known.
#[derive(Clone, Copy)]
enum Origin {
    /// Item of the honest list.
    Honest(usize),
    /// Item of the faults, with the honest item it refers to.
    Fault(usize, Option<usize>),
}

pub(crate) fn locking_script(keys: &Keys, lock: Lock) -> Vec<u8> {
    match lock {
        Lock::Key(i) => scripts::pay_to_key_hash(&keys.at(i as usize).hash),
        Lock::Anyone => scripts::anyone(),
    }
}

/// Fills the unlocking scripts of `tx`, whose inputs carry their coins.
pub(crate) fn sign(keys: &Keys, tx: &mut Tx, locks: &[Lock]) {
    let bytes = tx.to_bytes();
    let mut layout = TxLayout::new();
    let view = parse(&bytes, &mut layout).expect("a transaction just written is one");
    let mut cache = SighashCache::new();
    let unlocking: Vec<Vec<u8>> = locks
        .iter()
        .enumerate()
        .map(|(i, lock)| match lock {
            Lock::Anyone => Vec::new(),
            Lock::Key(k) => {
                let key = keys.at(*k as usize);
                let coin = tx.inputs[i].coin.as_ref().expect("the coin of an input that is signed");
                let digest = cache
                    .digest(
                        &view,
                        i,
                        u32::from(SIGHASH_ALL_FORKID),
                        coin.value_sat,
                        &coin.locking_script,
                        true,
                        &mut Budget::UNLIMITED.clone(),
                    )
                    .expect("an unlimited budget");
                let mut signature =
                    ecdsa::sign(Message::from_digest(digest), &key.secret).serialize_der().to_vec();
                signature.push(SIGHASH_ALL_FORKID);
                let mut script = Vec::with_capacity(signature.len() + 35);
                script.push(signature.len() as u8);
                script.extend_from_slice(&signature);
                script.push(33);
                script.extend_from_slice(&key.public);
                script
            }
        })
        .collect();
    for (input, script) in tx.inputs.iter_mut().zip(unlocking) {
        input.unlocking_script = script;
    }
}

impl Plan {
    /// Signs the whole plan. `coins` are [`crate::FanOut::coins`].
    pub fn sign(&self, coins: &[OwnCoin]) -> Offer {
        assert!(
            coins.len() == self.coins.len(),
            "the plan has {} coins but got {}",
            self.coins.len(),
            coins.len()
        );
        let signed: Vec<Vec<Signed>> =
            self.units.par_iter().map(|unit| self.build(unit, coins, false)).collect();
        self.arrange(signed, coins)
    }

    /// Puts the faults between the honest transactions and gives every item its place.
    fn arrange(&self, signed: Vec<Vec<Signed>>, coins: &[OwnCoin]) -> Offer {
        let mut rng = Rng::salted(self.options.seed, FAULT_SALT);
        let mut honest = Vec::with_capacity(self.options.txs);
        // When each honest transaction is sent: chains side by side take turns, all else goes in the order of the units.
        let mut turn_of: Vec<u64> = Vec::with_capacity(self.options.txs);
        let side_by_side = self.options.workload == Workload::Chain && self.options.chains > 1;
        let (chains, mut chain) = (self.options.chains, 0);
        let mut faults: Vec<Signed> = Vec::new();
        let mut spendable: Vec<(usize, Unit)> = Vec::new();
        let mut order: Vec<(u64, Origin)> = Vec::new();
        for (unit, txs) in self.units.iter().zip(signed) {
            match unit.shape {
                Shape::Orphan | Shape::LostParent | Shape::BadSignature => {
                    let mut at = rng.below(self.options.txs as u64 + 1);
                    for tx in txs {
                        order.push((at * 2 + 1, Origin::Fault(faults.len(), None)));
                        faults.push(tx);
                        at += 1 + rng.below(FAULT_DISTANCE_MAX);
                    }
                }
                _ => {
                    if matches!(unit.shape, Shape::Pay | Shape::Data | Shape::TwoTwo) {
                        spendable.push((honest.len(), *unit));
                    }
                    for (step, tx) in txs.into_iter().enumerate() {
                        let turn = if side_by_side { step * chains + chain } else { honest.len() };
                        turn_of.push(turn as u64);
                        order.push((turn as u64 * 2, Origin::Honest(honest.len())));
                        honest.push(tx);
                    }
                    chain += 1;
                }
            }
        }
        let later =
            |rng: &mut Rng, of: usize| (turn_of[of] + rng.below(FAULT_DISTANCE_MAX)) * 2 + 1;
        let rivals = self.options.inject.double_spends.min(spendable.len());
        for i in 0..rivals {
            // One of each stretch, so that no coin is fought over by three.
            let (of, unit) = spendable[i * spendable.len() / rivals];
            let rival = self.build(&unit, coins, true).remove(0);
            order.push((later(&mut rng, of), Origin::Fault(faults.len(), Some(of))));
            faults.push(Signed { kind: Kind::DoubleSpend { of: 0 }, ..rival });
        }
        for _ in 0..self.options.inject.duplicates.min(honest.len()) {
            let of = rng.below(honest.len() as u64) as usize;
            let bytes = &honest[of].bytes;
            order.push((later(&mut rng, of), Origin::Fault(faults.len(), Some(of))));
            let kind = Kind::Duplicate { of: 0 };
            faults.push(Signed { kind, txid: honest[of].txid, bytes: bytes.clone() });
        }
        for _ in 0..self.options.inject.malformed.min(honest.len()) {
            let of = rng.below(honest.len() as u64) as usize;
            let bytes = &honest[of].bytes;
            let keep = 1 + rng.below(bytes.len() as u64 - 1) as usize;
            order.push((later(&mut rng, of), Origin::Fault(faults.len(), None)));
            faults.push(Signed {
                kind: Kind::Malformed,
                txid: honest[of].txid,
                bytes: bytes[..keep].to_vec(),
            });
        }
        order.sort_by_key(|(key, _)| *key);
        let mut place_of = vec![0u32; honest.len()];
        for (place, (_, origin)) in order.iter().enumerate() {
            if let Origin::Honest(i) = origin {
                place_of[*i] = place as u32;
            }
        }
        let mut offer = Offer::default();
        for (_, origin) in order {
            let (item, of) = match origin {
                Origin::Honest(i) => (&honest[i], 0),
                Origin::Fault(i, of) => (&faults[i], of.map_or(0, |of| place_of[of])),
            };
            let kind = match item.kind {
                Kind::DoubleSpend { .. } => Kind::DoubleSpend { of },
                Kind::Duplicate { .. } => Kind::Duplicate { of },
                kind => kind,
            };
            offer.push(kind, item.txid, &item.bytes);
        }
        offer
    }

    /// The transactions of one unit; `rival` makes others out of the same coins.
    fn build(&self, unit: &Unit, coins: &[OwnCoin], rival: bool) -> Vec<Signed> {
        let coin = coins[unit.coin];
        match unit.shape {
            Shape::Pay | Shape::BadSignature => {
                let mut tx = self.pay(&[coin], 2, rival);
                let kind = if unit.shape == Shape::BadSignature {
                    flip_a_signature_bit(&mut tx, unit.coin as u64 ^ self.options.seed);
                    Kind::BadSignature
                } else {
                    Kind::Honest
                };
                vec![finish(kind, &tx)]
            }
            Shape::TwoTwo => {
                vec![finish(Kind::Honest, &self.pay(&[coin, coins[unit.coin + 1]], 2, rival))]
            }
            Shape::Anyone => {
                let mut tx = unsigned(&self.keys, &[coin]);
                let value_sat = coin.value_sat - self.fee(70);
                tx.outputs.push(output(&self.keys, Lock::Anyone, value_sat));
                vec![finish(Kind::Honest, &tx)]
            }
            Shape::Data => vec![finish(Kind::Honest, &self.data(&coin, unit.coin, rival))],
            Shape::Chain(len) => self.chain(coin, len, Kind::Honest),
            Shape::Orphan => {
                let mut pair = self.chain(coin, 2, Kind::Orphan);
                pair[0].kind = Kind::LateParent;
                pair.reverse();
                pair
            }
            Shape::LostParent => self.chain(coin, 2, Kind::LostParent).split_off(1),
        }
    }

    fn fee(&self, bytes: u64) -> u64 {
        bytes * self.options.fee_sat_per_kb / 1_000 + 1
    }

    fn pay(&self, coins: &[OwnCoin], outputs: u64, rival: bool) -> Tx {
        let mut tx = unsigned(&self.keys, coins);
        let total: u64 = coins.iter().map(|c| c.value_sat).sum();
        let spread = total - self.fee(10 + 149 * coins.len() as u64 + 34 * outputs);
        let first = next_key(coins[0], 1 + u32::from(rival) * 7);
        for i in 0..outputs {
            let value =
                if i == 0 { spread - spread / outputs * (outputs - 1) } else { spread / outputs };
            tx.outputs.push(output(&self.keys, Lock::Key(first.wrapping_add(i as u32)), value));
        }
        let locks: Vec<Lock> = coins.iter().map(|c| c.lock).collect();
        sign(&self.keys, &mut tx, &locks);
        tx
    }

    fn data(&self, coin: &OwnCoin, salt: usize, rival: bool) -> Tx {
        let mut rng = Rng::salted(self.options.seed ^ salt as u64, DATA_SALT);
        let mut payload = vec![0; 200 + rng.below(801) as usize];
        for byte in &mut payload {
            *byte = rng.next_u64() as u8;
        }
        let mut tx = unsigned(&self.keys, &[*coin]);
        tx.outputs.push(TxOut { value_sat: 0, locking_script: scripts::data(&payload) });
        let value_sat = coin.value_sat - self.fee(220 + payload.len() as u64);
        let to = Lock::Key(next_key(*coin, 1 + u32::from(rival) * 7));
        tx.outputs.push(output(&self.keys, to, value_sat));
        sign(&self.keys, &mut tx, &[coin.lock]);
        tx
    }

    fn chain(&self, mut coin: OwnCoin, len: usize, kind: Kind) -> Vec<Signed> {
        let mut out = Vec::with_capacity(len);
        for _ in 0..len {
            let tx = self.pay(&[coin], 1, false);
            let signed = finish(kind, &tx);
            coin = OwnCoin {
                outpoint: OutPoint { txid: signed.txid, vout: 0 },
                value_sat: tx.outputs[0].value_sat as u64,
                lock: Lock::Key(next_key(coin, 1)),
            };
            out.push(signed);
        }
        out
    }
}

fn next_key(coin: OwnCoin, step: u32) -> u32 {
    match coin.lock {
        Lock::Key(i) => i.wrapping_add(step),
        Lock::Anyone => step,
    }
}

fn finish(kind: Kind, tx: &Tx) -> Signed {
    let bytes = tx.to_bytes();
    Signed { kind, txid: TxId::of(&bytes), bytes }
}

fn output(keys: &Keys, lock: Lock, value_sat: u64) -> TxOut {
    TxOut { value_sat: value_sat as i64, locking_script: locking_script(keys, lock) }
}

fn unsigned(keys: &Keys, coins: &[OwnCoin]) -> Tx {
    let input = |c: &OwnCoin| TxIn {
        prev: c.outpoint,
        unlocking_script: Vec::new(),
        sequence: SEQUENCE_FINAL,
        coin: Some(Coin { value_sat: c.value_sat, locking_script: locking_script(keys, c.lock) }),
    };
    Tx { version: 1, inputs: coins.iter().map(input).collect(), outputs: Vec::new(), lock_time: 0 }
}

/// Flips one bit of the signature's S, low enough that the encoding stays strict DER and S stays below half the order.
fn flip_a_signature_bit(tx: &mut Tx, salt: u64) {
    let script = &mut tx.inputs[0].unlocking_script;
    let signature_len = usize::from(script[0]);
    // The last byte of the push is the hash type; the sixteen before it are the low end of S.
    let at = signature_len - 1 - (salt % 16) as usize;
    script[at] ^= 1 << (salt / 16 % 8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Inject, Options};
    use std::collections::{HashMap, HashSet};

    fn offer(workload: Workload, txs: usize, seed: u64) -> (Plan, crate::FanOut, Offer) {
        let inject = Inject::each(5);
        let plan = Plan::new(Options { keys: 64, inject, ..Options::new(workload, txs, seed) });
        let reward_sat = 5_000_000_000;
        let needed = plan.coinbases_needed(reward_sat);
        let coinbases: Vec<crate::Coinbase> = (0..needed as u64)
            .map(|i| crate::Coinbase { txid: TxId::of(&i.to_le_bytes()), value_sat: reward_sat })
            .collect();
        let fan_out = plan.fan_out(&coinbases, reward_sat);
        let offer = plan.sign(&fan_out.coins);
        (plan, fan_out, offer)
    }

    #[test]
    fn a_seed_gives_the_same_bytes_again_and_another_seed_others() {
        let bytes = |seed| {
            let (_, _, offer) = offer(Workload::Mixed, 300, seed);
            offer.iter().map(|o| o.bytes.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn every_fault_stands_behind_what_it_refers_to_and_is_what_it_says() {
        let (_, _, offer) = offer(Workload::Mixed, 1_000, 9);
        let mut count: HashMap<&'static str, usize> = HashMap::new();
        for o in offer.iter() {
            let name = match o.kind {
                Kind::Honest => "honest",
                Kind::DoubleSpend { of } => {
                    let (a, b) = (Tx::parse(o.bytes).unwrap(), offer.get(of as usize));
                    let rival = Tx::parse(b.bytes).unwrap();
                    assert_eq!(a.inputs[0].prev, rival.inputs[0].prev);
                    assert_ne!(o.txid, b.txid);
                    assert!(of < o.place);
                    "double spend"
                }
                Kind::Duplicate { of } => {
                    assert_eq!(o.bytes, offer.get(of as usize).bytes);
                    assert!(of < o.place);
                    "duplicate"
                }
                Kind::Orphan => {
                    let parent = Tx::parse(o.bytes).unwrap().inputs[0].prev.txid;
                    let at = offer.iter().find(|p| p.txid == parent).unwrap();
                    assert_eq!(at.kind, Kind::LateParent);
                    assert!(at.place > o.place);
                    "orphan"
                }
                Kind::LateParent => "late parent",
                Kind::LostParent => {
                    let parent = Tx::parse(o.bytes).unwrap().inputs[0].prev.txid;
                    assert!(offer.iter().all(|p| p.txid != parent));
                    "lost parent"
                }
                Kind::BadSignature => "bad signature",
                Kind::Unknown => unreachable!("a signed plan knows its kinds"),
                Kind::Malformed => {
                    assert!(Tx::parse(o.bytes).is_err());
                    "malformed"
                }
            };
            *count.entry(name).or_default() += 1;
        }
        assert_eq!(count["honest"], 1_000);
        for fault in [
            "double spend",
            "duplicate",
            "orphan",
            "late parent",
            "lost parent",
            "bad signature",
            "malformed",
        ] {
            assert_eq!(count[fault], 5, "{fault}");
        }
    }

    #[test]
    fn chains_side_by_side_take_turns() {
        let options = Options { keys: 8, chains: 3, ..Options::new(Workload::Chain, 30, 2) };
        let plan = Plan::new(options);
        let coinbase = crate::Coinbase { txid: TxId::of(b"x"), value_sat: 5_000_000_000 };
        let fan_out = plan.fan_out(&[coinbase], 5_000_000_000);
        let offer = plan.sign(&fan_out.coins);
        let prev = |place: usize| Tx::parse(offer.get(place).bytes).unwrap().inputs[0].prev.txid;
        for place in 3..30 {
            assert_eq!(prev(place), offer.get(place - 3).txid, "place {place}");
        }
    }

    #[test]
    fn no_signature_is_used_twice_and_no_honest_coin_is_spent_twice() {
        for workload in Workload::ALL {
            let (_, fan_out, offer) = offer(workload, 200, 4);
            let mut signatures = HashSet::new();
            let mut spent = HashSet::new();
            let honest = offer
                .iter()
                .filter(|o| matches!(o.kind, Kind::Honest | Kind::Orphan | Kind::LateParent));
            let txs = fan_out.txs.iter().map(Vec::as_slice).chain(honest.map(|o| o.bytes));
            for bytes in txs {
                for input in Tx::parse(bytes).unwrap().inputs {
                    assert!(spent.insert(input.prev), "{} is spent twice", input.prev);
                    let script = input.unlocking_script;
                    assert!(script.is_empty() || signatures.insert(script));
                }
            }
        }
    }
}
