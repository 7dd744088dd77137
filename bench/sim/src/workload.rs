//! What is sent: families of transactions, honest and not, in any order.
//!
//! A family is drawn, its transactions are made from coins of the shadow, the auditor is told what each of them is, and each
//! copy gets a time to be sent. The conflict families are the configurations of the protocol models (`m1`, `m5`): pairs and
//! triples that want the same coins in straight, crossed and circular order, with parents that come late, twice, or never.

use crate::auditor::{Auditor, Flaw};
use crate::gate::{Copy, Gate};
use crate::options::Options;
use crate::script::{KEYS, Lock, unlock, wrong_unlocking_script};
use consensus::hash::TxId;
use consensus::tx::{Coin, OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};
use dataplane::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// Fee of an honest transaction: enough for 60 kB.
const FEE_SAT: u64 = 6_000;
/// Value of a coin that is there from the start.
const BASE_SAT: u64 = 10_000_000;
/// Sources copies come from.
const SOURCES: u64 = 5;
const SALT: u64 = 0x77_6f_72_6b;

/// A coin the workload may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purse {
    pub at: OutPoint,
    pub value_sat: u64,
    pub lock: Lock,
}

/// One configuration of the protocol models: what each transaction spends (base coins first), which coin it creates, how often
/// it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub name: &'static str,
    pub inputs: &'static [&'static [usize]],
    pub output: &'static [Option<usize>],
    pub copies: &'static [u8],
}

/// The configurations of `protocol-models/m1` and `m5_accept`, in their names.
pub const MODELS: &[Model] = &[
    Model { name: "a", inputs: &[&[0, 1], &[0, 1]], output: &[None, None], copies: &[1, 1] },
    Model { name: "a-copies", inputs: &[&[0, 1], &[1, 0]], output: &[None, None], copies: &[2, 2] },
    Model {
        name: "a3",
        inputs: &[&[0, 1], &[0, 1], &[1, 0]],
        output: &[None, None, None],
        copies: &[1, 1, 1],
    },
    Model {
        name: "b",
        inputs: &[&[0, 1], &[1, 2], &[2, 0]],
        output: &[None, None, None],
        copies: &[1, 1, 1],
    },
    Model {
        name: "c",
        inputs: &[&[0], &[2, 1], &[1]],
        output: &[Some(2), None, None],
        copies: &[1, 1, 1],
    },
    Model { name: "c-self", inputs: &[&[0], &[1, 0]], output: &[Some(1), None], copies: &[1, 2] },
    Model {
        name: "c-cycle",
        inputs: &[&[0], &[2, 1], &[0, 1]],
        output: &[Some(2), None, None],
        copies: &[1, 1, 1],
    },
    Model {
        name: "c-noparent",
        inputs: &[&[0], &[2, 1], &[1]],
        output: &[Some(2), None, None],
        copies: &[0, 1, 1],
    },
    Model {
        name: "d",
        inputs: &[&[0], &[1], &[2]],
        output: &[Some(1), Some(2), None],
        copies: &[1, 1, 1],
    },
    // m1: S1, S2 (sent twice while a conflict runs), S3.
    Model {
        name: "s1",
        inputs: &[&[0, 1], &[1, 2], &[2]],
        output: &[None, None, None],
        copies: &[1, 1, 1],
    },
    Model { name: "s2-twice", inputs: &[&[0, 1], &[0]], output: &[None, None], copies: &[2, 1] },
    Model {
        name: "s3-twice",
        inputs: &[&[0, 1], &[1, 2], &[2], &[0]],
        output: &[None, None, None, None],
        copies: &[2, 1, 1, 1],
    },
];

/// See the module.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    /// Coins nobody was asked to spend yet.
    purse: Vec<Purse>,
    /// Coinbase outputs and when they can be spent.
    young: Vec<(u32, Purse)>,
    number: u32,
    base: u32,
    step: u64,
    spread: u64,
    duplicates: u64,
    mischief: u64,
    costly: bool,
    /// Outputs that a transaction of a family spends.
    promised: BTreeSet<OutPoint>,
    /// Copies of faulty or doubled transactions, by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

/// Where a family's things go.
pub struct Targets<'a> {
    pub auditor: &'a mut Auditor,
    pub gate: &'a mut Gate,
}

impl Workload {
    /// For a machine of `o`.
    pub fn new(o: &Options, seed: u64) -> Self {
        Self {
            rng: Rng::salted(seed, SALT),
            purse: Vec::new(),
            young: Vec::new(),
            number: 0,
            base: 0,
            step: 0,
            spread: o.spread_steps,
            duplicates: o.duplicate_per_mille,
            mischief: o.mischief_percent,
            costly: o.height > 10_000,
            promised: BTreeSet::new(),
            faults: BTreeMap::new(),
        }
    }

    /// A lock of any kind; most are cheap.
    fn lock(&mut self) -> Lock {
        self.number += 1;
        let n = self.number;
        match self.rng.below(64) {
            0..=1 => Lock::Key(self.rng.below(KEYS.into()) as u8),
            2..=19 => Lock::Preimage(n),
            20..=27 => Lock::Sum(3 + self.rng.below(13) as u8),
            28 if self.costly => Lock::Costly(n),
            29 => Lock::Long(n),
            _ => Lock::Number(n),
        }
    }

    /// A coin to import, before anything runs.
    pub fn base_coin(&mut self, height: u32, coinbase: bool) -> (Purse, u32, bool) {
        self.base += 1;
        let txid = TxId::of(&self.base.to_le_bytes());
        let vout = self.rng.below(3) as u32;
        let purse = Purse { at: OutPoint { txid, vout }, value_sat: BASE_SAT, lock: self.lock() };
        if coinbase {
            self.young.push((height + 100, purse));
        } else {
            self.purse.push(purse);
        }
        (purse, height, coinbase)
    }

    /// A coin may be spent from now on.
    pub fn give(&mut self, coin: Purse) {
        self.purse.push(coin);
    }

    /// A coinbase output may be spent in blocks from `height` on; spent before, it is immature.
    pub fn give_young(&mut self, height: u32, coin: Purse) {
        self.young.push((height, coin));
    }

    /// Outputs of an accepted transaction that nobody spends yet may be spent by later families.
    pub fn on_accepted(&mut self, txid: &TxId, auditor: &Auditor) {
        let outputs = auditor.txs[txid].tx.outputs.len() as u32;
        for vout in 0..outputs.min(3) {
            let at = OutPoint { txid: *txid, vout };
            let Some(coin) = auditor.coins.get(&at) else { continue };
            if coin.value_sat > 8 * FEE_SAT && !self.promised.contains(&at) && self.rng.chance(2, 3)
            {
                self.give(Purse { at, value_sat: coin.value_sat, lock: coin.lock });
            }
        }
    }

    /// A coin that is still there for the taking, to be frozen.
    pub fn any_coin(&mut self) -> Option<OutPoint> {
        if self.purse.is_empty() {
            return None;
        }
        let at = self.rng.index(self.purse.len());
        Some(self.purse[at].at)
    }

    fn take(&mut self) -> Option<Purse> {
        if self.purse.is_empty() {
            return None;
        }
        let at = self.rng.index(self.purse.len());
        Some(self.purse.swap_remove(at))
    }

    /// A coin of which `which` says so, with a cheap lock.
    #[cfg(test)]
    pub fn take_where(&mut self, which: impl Fn(&OutPoint) -> bool) -> Purse {
        let fits = |c: &Purse| matches!(c.lock, Lock::Number(_)) && which(&c.at);
        let at = self.purse.iter().position(fits).expect("a thousand coins are enough");
        self.purse.swap_remove(at)
    }

    fn take_some(&mut self, n: usize) -> Option<Vec<Purse>> {
        if self.purse.len() < n {
            return None;
        }
        (0..n).map(|_| self.take()).collect()
    }

    /// A transaction over `coins` with `n` outputs, its change split evenly; unlocked and signed.
    fn pay(&mut self, coins: &[Purse], n: usize, fee_sat: u64) -> (Tx, Vec<Lock>) {
        let locks: Vec<Lock> = (0..n).map(|_| self.lock()).collect();
        (self.pay_to(coins, &locks, fee_sat), locks)
    }

    pub fn pay_to(&mut self, coins: &[Purse], locks: &[Lock], fee_sat: u64) -> Tx {
        self.promised.extend(coins.iter().map(|c| c.at));
        let given: u64 = coins.iter().map(|c| c.value_sat).sum();
        let each = given.saturating_sub(fee_sat) / locks.len() as u64;
        let mut rest = given.saturating_sub(fee_sat) - each * locks.len() as u64;
        let outputs = locks.iter().map(|lock| {
            let value_sat = (each + std::mem::take(&mut rest)) as i64;
            TxOut { value_sat, locking_script: lock.locking_script() }
        });
        let inputs = coins.iter().map(|coin| TxIn {
            prev: coin.at,
            unlocking_script: Vec::new(),
            sequence: SEQUENCE_FINAL,
            coin: Some(Coin {
                value_sat: coin.value_sat,
                locking_script: coin.lock.locking_script(),
            }),
        });
        let mut tx =
            Tx { version: 1, inputs: inputs.collect(), outputs: outputs.collect(), lock_time: 0 };
        let locks: Vec<Lock> = coins.iter().map(|c| c.lock).collect();
        unlock(&mut tx, &locks);
        tx
    }

    pub fn outputs(txid: TxId, tx: &Tx, locks: &[Lock]) -> Vec<Purse> {
        let purse = |(vout, lock): (usize, &Lock)| Purse {
            at: OutPoint { txid, vout: vout as u32 },
            value_sat: tx.outputs[vout].value_sat as u64,
            lock: *lock,
        };
        locks.iter().enumerate().map(purse).collect()
    }

    fn note(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    fn delay(&mut self) -> u64 {
        self.rng.below(self.spread + 1)
    }

    /// Sends bytes `delay` steps from now.
    fn send(
        &mut self,
        to: &mut Targets<'_>,
        txid: Option<TxId>,
        lies: bool,
        bytes: Vec<u8>,
        delay: u64,
    ) {
        let token = to.auditor.add_token(txid, lies);
        let source = self.rng.below(SOURCES) as u32;
        to.gate.add(self.step + delay, Copy { token, source, bytes });
    }

    /// Sends a copy of `tx`, raw or extended, and now and then another one later.
    fn send_tx(&mut self, to: &mut Targets<'_>, tx: &Tx, delay: u64) {
        let txid = tx.txid();
        let bytes = self.form(tx);
        self.send(to, Some(txid), false, bytes, delay);
        while self.rng.chance(self.duplicates, 1_000) {
            self.note("duplicate");
            let bytes = self.form(tx);
            let later = delay + self.delay() * self.rng.below(3);
            self.send(to, Some(txid), false, bytes, later);
        }
    }

    fn form(&mut self, tx: &Tx) -> Vec<u8> {
        if self.rng.chance(1, 3) {
            tx.to_extended_bytes().expect("every input carries its coin")
        } else {
            tx.to_bytes()
        }
    }

    /// Sends one transaction again, for who was turned away.
    pub fn send_again(&mut self, to: &mut Targets<'_>, txid: &TxId) {
        let tx = to.auditor.txs[txid].tx.clone();
        let bytes = self.form(&tx);
        self.send(to, Some(*txid), false, bytes, 0);
    }

    /// A family more. Returns false without coins.
    pub fn family(&mut self, step: u64, to: &mut Targets<'_>) -> bool {
        self.step = step;
        if self.rng.chance(self.mischief, 100) {
            match self.rng.below(16) {
                0..=5 => {
                    let model = MODELS[self.rng.index(MODELS.len())];
                    self.conflict(&model, to).is_some()
                }
                6 => self.bad_script(to).is_some(),
                7 => self.bad_value(to).is_some(),
                8 => self.low_fee(to).is_some(),
                9 => self.malformed(to).is_some(),
                10 => self.lost_parent(to).is_some(),
                11 => self.locked(to).is_some(),
                12 => self.immature(to).is_some(),
                13..=14 => self.liar(to).is_some(),
                _ => self.no_such_output(to).is_some(),
            }
        } else {
            match self.rng.below(12) {
                0..=4 => self.single(to).is_some(),
                5..=7 => self.chain(to).is_some(),
                8..=10 => self.dag(to).is_some(),
                _ => self.wide(to).is_some(),
            }
        }
    }

    fn single(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let n = 1 + self.rng.index(3);
        let coins = self.take_some(n)?;
        let outputs = 1 + self.rng.index(3);
        let (tx, locks) = self.pay(&coins, outputs, FEE_SAT);
        to.auditor.add_tx(tx.clone(), Flaw::None, &locks);
        let delay = self.delay();
        self.send_tx(to, &tx, delay);
        Some(())
    }

    /// A chain of unconfirmed transactions, sent in order, backwards, or shuffled.
    fn chain(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let mut coin = self.take()?;
        let length = 2 + self.rng.index(10);
        let mut txs = Vec::new();
        for _ in 0..length {
            if coin.value_sat < 3 * FEE_SAT {
                break;
            }
            let (tx, locks) = self.pay(&[coin], 1, FEE_SAT);
            let txid = to.auditor.add_tx(tx.clone(), Flaw::None, &locks);
            coin = Self::outputs(txid, &tx, &locks)[0];
            txs.push(tx);
        }
        self.send_in_some_order(to, txs);
        Some(())
    }

    fn send_in_some_order(&mut self, to: &mut Targets<'_>, mut txs: Vec<Tx>) {
        match self.rng.below(3) {
            0 => {}
            1 => {
                txs.reverse();
                self.note("children_first");
            }
            _ => {
                self.rng.shuffle(&mut txs);
                self.note("shuffled");
            }
        }
        let apart = self.delay() / txs.len().max(1) as u64;
        for (i, tx) in txs.iter().enumerate() {
            self.send_tx(to, tx, apart * i as u64);
        }
    }

    /// Transactions over each other's outputs and some coins.
    fn dag(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let base = 1 + self.rng.index(3);
        let mut open = self.take_some(base)?;
        let count = 3 + self.rng.index(8);
        let mut txs = Vec::new();
        for _ in 0..count {
            let n = (1 + self.rng.index(3)).min(open.len());
            let coins: Vec<Purse> =
                (0..n).map(|_| open.swap_remove(self.rng.index(open.len()))).collect();
            let outputs = 1 + self.rng.index(3);
            if coins.iter().map(|c| c.value_sat).sum::<u64>() < 8 * FEE_SAT {
                open.extend(coins);
                break;
            }
            let (tx, locks) = self.pay(&coins, outputs, FEE_SAT);
            let txid = to.auditor.add_tx(tx.clone(), Flaw::None, &locks);
            open.extend(Self::outputs(txid, &tx, &locks));
            txs.push(tx);
        }
        self.send_in_some_order(to, txs);
        Some(())
    }

    /// Many outputs, and then many inputs: larger than a slot's own room.
    fn wide(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let coins = self.take_some(1)?;
        let n = 20 + self.rng.index(60);
        let locks: Vec<Lock> = (0..n)
            .map(|_| {
                self.number += 1;
                Lock::Number(self.number)
            })
            .collect();
        let parent = self.pay_to(&coins, &locks, FEE_SAT);
        let txid = to.auditor.add_tx(parent.clone(), Flaw::None, &locks);
        let all = Self::outputs(txid, &parent, &locks);
        let (child, locks) = self.pay(&all, 1, FEE_SAT);
        to.auditor.add_tx(child.clone(), Flaw::None, &locks);
        self.send_in_some_order(to, vec![parent, child]);
        Some(())
    }

    /// A configuration of the models.
    pub fn conflict(&mut self, model: &Model, to: &mut Targets<'_>) -> Option<Vec<TxId>> {
        let made: Vec<usize> = model.output.iter().flatten().copied().collect();
        let most = model.inputs.iter().flat_map(|i| i.iter()).max()? + 1;
        if self.purse.len() < most {
            return None;
        }
        let mut coins: Vec<Option<Purse>> =
            (0..most).map(|c| if made.contains(&c) { None } else { self.take() }).collect();
        self.note(model.name);
        let mut ids = Vec::new();
        let mut sends: Vec<Tx> = Vec::new();
        for (t, inputs) in model.inputs.iter().enumerate() {
            let own: Vec<Purse> =
                inputs.iter().map(|&c| coins[c].expect("parents stand first in a model")).collect();
            let outputs = 1 + self.rng.index(2);
            let (tx, locks) = self.pay(&own, outputs, FEE_SAT);
            let txid = to.auditor.add_tx(tx.clone(), Flaw::None, &locks);
            if let Some(c) = model.output[t] {
                coins[c] = Some(Self::outputs(txid, &tx, &locks)[0]);
            }
            ids.push(txid);
            for _ in 0..model.copies[t] {
                sends.push(tx.clone());
            }
        }
        self.rng.shuffle(&mut sends);
        // Close together: it is the overlap that matters.
        for tx in &sends {
            let delay = self.rng.below(self.spread.min(60) + 1);
            self.send_tx(to, tx, delay);
        }
        Some(ids)
    }

    /// A transaction that cannot be unlocked, perhaps with a child.
    fn bad_script(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let n = 1 + self.rng.index(3);
        let coins = self.take_some(n)?;
        let (mut tx, locks) = self.pay(&coins, 2, FEE_SAT);
        let bad = self.rng.index(n);
        if matches!(coins[bad].lock, Lock::Key(_)) {
            // One bit of the signature, so that only the batch finds out.
            let script = &mut tx.inputs[bad].unlocking_script;
            script[12] ^= 1;
        } else {
            tx.inputs[bad].unlocking_script = wrong_unlocking_script();
        }
        self.note("bad_script");
        let txid = to.auditor.add_tx(tx.clone(), Flaw::Script, &locks);
        let mut txs = vec![tx.clone()];
        if self.rng.chance(1, 2) {
            let coin = Self::outputs(txid, &tx, &locks)[0];
            let (child, locks) = self.pay(&[coin], 1, FEE_SAT);
            to.auditor.add_tx(child.clone(), Flaw::None, &locks);
            self.note("child_of_refused");
            txs.push(child);
        }
        self.send_in_some_order(to, txs);
        // The coins are still good.
        for coin in coins {
            self.give(coin);
        }
        Some(())
    }

    /// Value out of nothing, or one coin twice.
    fn bad_value(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let coin = self.take()?;
        let twice = self.rng.chance(1, 2);
        let coins = if twice { vec![coin, coin] } else { vec![coin] };
        let (mut tx, locks) = self.pay(&coins, 1, FEE_SAT);
        if !twice {
            tx.outputs[0].value_sat = coin.value_sat as i64 + 1 + self.rng.below(1_000) as i64;
            unlock(&mut tx, &[coin.lock]);
        }
        self.note("bad_value");
        to.auditor.add_tx(tx.clone(), Flaw::Value, &locks);
        let delay = self.delay();
        self.send_tx(to, &tx, delay);
        self.give(coin);
        Some(())
    }

    fn low_fee(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let coin = self.take()?;
        let (tx, locks) = self.pay(&[coin], 1, 0);
        self.note("low_fee");
        to.auditor.add_tx(tx.clone(), Flaw::Fee, &locks);
        let delay = self.delay();
        self.send_tx(to, &tx, delay);
        self.give(coin);
        Some(())
    }

    /// Bytes that are no transaction: cut short, too long, or anything.
    fn malformed(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let coin = self.take()?;
        let (tx, _) = self.pay(&[coin], 1, FEE_SAT);
        let mut bytes = self.form(&tx);
        match self.rng.below(3) {
            0 => {
                let cut = 1 + self.rng.index(bytes.len() - 1);
                bytes.truncate(bytes.len() - cut);
            }
            1 => bytes.push(0),
            _ => {
                let n = 1 + self.rng.index(300);
                bytes = vec![0; n];
                self.rng.fill(&mut bytes);
                // A version, and a count that is far too large for what follows.
                if n > 9 {
                    bytes[4..9].copy_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0x7f]);
                }
            }
        }
        self.note("malformed");
        let delay = self.delay();
        self.send(to, None, false, bytes, delay);
        self.give(coin);
        Some(())
    }

    /// Children of a parent that never comes.
    fn lost_parent(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let coins = self.take_some(2)?;
        let (parent, locks) = self.pay(&coins[..1], 1, FEE_SAT);
        let txid = to.auditor.add_tx(parent.clone(), Flaw::None, &locks);
        let mut coin = Self::outputs(txid, &parent, &locks)[0];
        self.note("lost_parent");
        let mut txs = Vec::new();
        for i in 0..=self.rng.index(3) {
            let own = if i == 0 { vec![coin, coins[1]] } else { vec![coin] };
            let (tx, locks) = self.pay(&own, 1, FEE_SAT);
            let txid = to.auditor.add_tx(tx.clone(), Flaw::None, &locks);
            coin = Self::outputs(txid, &tx, &locks)[0];
            txs.push(tx);
        }
        self.send_in_some_order(to, txs);
        Some(())
    }

    /// Not final before a height to come.
    fn locked(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let coin = self.take()?;
        let (mut tx, locks) = self.pay(&[coin], 1, FEE_SAT);
        let until = to.auditor.height + self.rng.below(3) as u32;
        tx.lock_time = until;
        tx.inputs[0].sequence = 0;
        unlock(&mut tx, &[coin.lock]);
        self.note("locked");
        to.auditor.add_tx(tx.clone(), Flaw::LockedUntil(until), &locks);
        let delay = self.delay();
        self.send_tx(to, &tx, delay);
        Some(())
    }

    /// A coinbase output that is too young, or just old enough.
    fn immature(&mut self, to: &mut Targets<'_>) -> Option<()> {
        if self.young.is_empty() {
            return None;
        }
        let at = self.rng.index(self.young.len());
        let (_, coin) = self.young.swap_remove(at);
        let (tx, locks) = self.pay(&[coin], 1, FEE_SAT);
        self.note("coinbase_spend");
        to.auditor.add_tx(tx.clone(), Flaw::None, &locks);
        let delay = self.delay();
        self.send_tx(to, &tx, delay);
        Some(())
    }

    /// An extended copy that claims a coin which is not the real one, mostly beside an honest copy.
    fn liar(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let n = 1 + self.rng.index(2);
        let coins = self.take_some(n)?;
        let kind = self.rng.below(4);
        let (mut tx, locks) = self.pay(&coins, 1, FEE_SAT);
        let mut lying = coins.clone();
        let flaw = match kind {
            // The value is wrong, and the transaction sound.
            0 => {
                lying[0].value_sat += 1 + self.rng.below(5_000);
                Flaw::None
            }
            // The script is wrong, and the transaction sound.
            1 => {
                lying[0].lock = Lock::Number(u32::MAX - self.number);
                Flaw::None
            }
            // It would be sound if the claimed value were right.
            2 => {
                lying[0].value_sat *= 3;
                tx.outputs[0].value_sat *= 2;
                let own: Vec<Lock> = coins.iter().map(|c| c.lock).collect();
                unlock(&mut tx, &own);
                Flaw::Value
            }
            // It would be sound if the claimed script were right.
            _ => {
                if matches!(coins[0].lock, Lock::Number(_) | Lock::Long(_) | Lock::Costly(_)) {
                    lying[0].value_sat += 1;
                    Flaw::None
                } else {
                    lying[0].lock = Lock::Number(u32::MAX - self.number);
                    tx.inputs[0].unlocking_script = Vec::new();
                    Flaw::Script
                }
            }
        };
        self.note("liar");
        let txid = to.auditor.add_tx(tx.clone(), flaw, &locks);
        let mut claim = tx.clone();
        for (input, coin) in claim.inputs.iter_mut().zip(&lying) {
            input.coin = Some(Coin {
                value_sat: coin.value_sat,
                locking_script: coin.lock.locking_script(),
            });
        }
        let bytes = claim.to_extended_bytes().expect("every input carries a coin");
        let delay = self.delay();
        for _ in 0..=self.rng.below(2) {
            let delay = delay + self.rng.below(20);
            self.send(to, Some(txid), true, bytes.clone(), delay);
        }
        if self.rng.chance(4, 5) {
            let delay = delay + self.rng.below(20);
            self.send_tx(to, &tx, delay);
        }
        if flaw != Flaw::None {
            for coin in coins {
                self.give(coin);
            }
        }
        Some(())
    }

    /// An output that its parent does not have.
    fn no_such_output(&mut self, to: &mut Targets<'_>) -> Option<()> {
        let coins = self.take_some(2)?;
        let (parent, locks) = self.pay(&coins[..1], 1, FEE_SAT);
        let txid = to.auditor.add_tx(parent.clone(), Flaw::None, &locks);
        let nothing =
            Purse { at: OutPoint { txid, vout: 7 }, value_sat: 50_000, lock: Lock::Number(1) };
        let (tx, locks) = self.pay(&[nothing, coins[1]], 1, FEE_SAT);
        self.note("no_such_output");
        to.auditor.add_tx(tx.clone(), Flaw::NoSuchOutput, &locks);
        self.send_in_some_order(to, vec![parent, tx]);
        self.give(coins[1]);
        Some(())
    }
}
