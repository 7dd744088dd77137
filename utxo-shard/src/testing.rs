//! What the tests of this crate share: a small world with one or more shards, and an outbox that remembers.

use crate::{Outbox, Shard, ShardConfig};
use consensus::hash::TxId;
use consensus::params::{ChainParams, Network};
use consensus::tx::{OutPoint, Tx, TxIn, TxOut};
use dataplane::msg::admin::{Admin, AdminReply};
use dataplane::msg::reply::CoinReply;
use dataplane::msg::request::{Decision, List, SpentInput};
use dataplane::msg::*;
use dataplane::partition::Partition;
use std::collections::VecDeque;

/// A reply that owns its script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Seen(SeenState),
    Coin { value_sat: u64, height: u32, coinbase: bool, pending: bool, script: Vec<u8> },
    Input(InputVerdict),
    Differs { value_sat: u64 },
    Decided { publish_seq: u64 },
    Refused,
    SpendLogged,
    Wake(WakeReason),
}

/// Who was told what about which input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub to: u16,
    pub ticket: Ticket,
    pub vin: u32,
    pub said: Said,
}

/// A published transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub kind: AcceptedKind,
    pub seq: u64,
    pub txid: TxId,
    pub parents: Vec<ParentSeq>,
    pub tx: Vec<u8>,
}

/// Remembers everything; has room until `room` is used up.
#[derive(Debug)]
pub(crate) struct Memory {
    pub told: VecDeque<Told>,
    pub published: Vec<Published>,
    pub room: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { told: VecDeque::new(), published: Vec::new(), room: usize::MAX }
    }
}

impl Memory {
    /// The one thing that was told.
    pub fn one(&mut self) -> Said {
        assert_eq!(self.told.len(), 1, "{:?}", self.told);
        self.told.pop_front().expect("one").said
    }

    /// Everything that was told, forgotten here.
    pub fn all(&mut self) -> Vec<Told> {
        self.told.drain(..).collect()
    }
}

impl Outbox for Memory {
    fn has_room(&self, _to: u16) -> bool {
        self.room > 0
    }

    fn reply(&mut self, to: u16, reply: &Reply<'_>) {
        assert!(self.room > 0, "a reply without room");
        self.room -= 1;
        let coin = |c: &CoinReply<'_>| Said::Coin {
            value_sat: c.value_sat,
            height: c.height,
            coinbase: c.coinbase,
            pending: c.pending,
            script: c.locking_script.to_vec(),
        };
        let (ticket, vin, said) = match *reply {
            Reply::Seen { ticket, state } => (ticket, 0, Said::Seen(state)),
            Reply::Coin { ticket, vin, coin: c } => (ticket, vin, coin(&c)),
            Reply::Input { ticket, vin, verdict } => (ticket, vin, Said::Input(verdict)),
            Reply::Differs { ticket, vin, coin } => {
                (ticket, vin, Said::Differs { value_sat: coin.value_sat })
            }
            Reply::Decided { ticket, publish_seq, .. } => {
                (ticket, 0, Said::Decided { publish_seq })
            }
            Reply::Refused { ticket } => (ticket, 0, Said::Refused),
            Reply::SpendLogged { ticket, .. } => (ticket, 0, Said::SpendLogged),
            Reply::Wake { ticket, vin, reason } => (ticket, vin, Said::Wake(reason)),
        };
        self.told.push_back(Told { to, ticket, vin, said });
    }

    fn publish(&mut self, a: &Accepted<'_>) {
        self.published.push(Published {
            kind: a.kind,
            seq: a.publish_seq,
            txid: a.txid,
            parents: a.parents.iter().collect(),
            tx: a.tx.to_vec(),
        });
    }
}

/// A context of the pool on top of height 500.
pub(crate) const POOL: Context =
    Context { block: 0, height: 501, median_time_past: 1_600_000_000, rule_set: 0 };

/// The context of block `n` at a height.
pub(crate) fn block(n: u32, height: u32) -> Context {
    Context { block: n, height, ..POOL }
}

/// Attempt `attempt` of slot `slot`.
pub(crate) fn ticket(slot: u32, attempt: u32) -> Ticket {
    Ticket { slot, attempt }
}

pub(crate) fn config(shard: u16, shards: u16) -> ShardConfig {
    let partition = Partition::new([9; 16], shards, 4);
    ShardConfig {
        transactions_max: 4096,
        slab_bytes: 8 << 20,
        announced_max: 64,
        watched_max: 64,
        waiters_max: 256,
        ..ShardConfig::small(shard, partition, (3, 4), ChainParams::of(Network::Regtest))
    }
}

/// P2PKH script of a number.
pub(crate) fn p2pkh(n: u8) -> Vec<u8> {
    let mut script = vec![0x76, 0xa9, 0x14];
    script.extend([n; 20]);
    script.extend([0x88, 0xac]);
    script
}

/// A transaction with these inputs and output values; `salt` makes it another one.
pub(crate) fn tx(inputs: &[OutPoint], values: &[u64], salt: u32) -> Tx {
    Tx {
        version: 1,
        inputs: inputs
            .iter()
            .map(|&prev| TxIn { prev, unlocking_script: vec![], sequence: u32::MAX, coin: None })
            .collect(),
        outputs: values
            .iter()
            .map(|&v| TxOut { value_sat: v as i64, locking_script: p2pkh(v as u8) })
            .collect(),
        lock_time: salt,
    }
}

/// An id made of one byte: small bytes make small ids.
pub(crate) fn id(n: u8) -> TxId {
    TxId([n; 32])
}

/// Output `vout` of [`id`].
pub(crate) fn at(n: u8, vout: u32) -> OutPoint {
    OutPoint { txid: id(n), vout }
}

/// One shard, asked through messages as a coordinator would.
#[derive(Debug)]
pub(crate) struct World {
    pub shard: Shard,
    pub out: Memory,
    pub ctx: Context,
}

impl World {
    pub fn new() -> Self {
        Self { shard: Shard::new(&config(0, 1)), out: Memory::default(), ctx: POOL }
    }

    /// A request of a validator, to its end; the shard is checked after it.
    pub fn ask(&mut self, from: u16, request: Request<'_>) {
        let header = BatchHeader { context: self.ctx, ..BatchHeader::default() };
        self.shard.request_all(from, &header, [request], &mut self.out);
        self.shard.check();
    }

    /// Lets all wake-ups out.
    pub fn wakes(&mut self) -> Vec<Told> {
        assert!(self.out.told.is_empty(), "unread: {:?}", self.out.told);
        while self.shard.step() {}
        for v in 0..4 {
            self.shard.wake(v, u32::MAX, &mut self.out);
        }
        self.shard.check();
        self.out.all()
    }

    pub fn admin(&mut self, order: Admin<'_>) -> crate::AdminOutcome {
        let mut none = |_: &AdminReply<'_>| {};
        let outcome = loop {
            match self.shard.admin(&self.ctx, &order, &mut self.out, &mut none) {
                crate::AdminOutcome::Again => self.shard.step(),
                done => break done,
            };
        };
        self.shard.check();
        outcome
    }

    /// A mined coin of value `value_sat`.
    pub fn import(&mut self, outpoint: OutPoint, value_sat: u64) {
        let script = p2pkh(value_sat as u8);
        let order = Admin::Import {
            outpoint,
            value_sat,
            height: 10,
            coinbase: false,
            locking_script: &script,
        };
        assert_eq!(self.admin(order), crate::AdminOutcome::Done);
    }

    pub fn reserve(&mut self, from: u16, t: Ticket, txid: TxId, coins: &[OutPoint]) {
        let inputs: Vec<_> = refs(coins);
        self.ask(from, Request::Reserve { ticket: t, txid, inputs: List::Own(&inputs) });
    }

    pub fn release(&mut self, from: u16, t: Ticket, txid: TxId, coins: &[OutPoint]) {
        let inputs: Vec<_> = spents(coins);
        self.ask(from, Request::Release { ticket: t, txid, inputs: List::Own(&inputs) });
    }

    pub fn announce(&mut self, from: u16, t: Ticket, tx: &Tx) {
        self.ask(from, Request::Announce { ticket: t, txid: tx.txid(), tx: &tx.to_bytes() });
    }

    pub fn settle(&mut self, from: u16, t: Ticket, txid: TxId, raw: &[u8]) {
        let decision = Decision { fee_sat: 1, parents: List::Own(&[]), tx: raw };
        self.ask(from, Request::Settle { ticket: t, txid, decision });
    }

    pub fn spend(
        &mut self,
        from: u16,
        t: Ticket,
        txid: TxId,
        publish_seq: u64,
        coins: &[OutPoint],
    ) {
        let inputs: Vec<_> = spents(coins);
        let decided = Epoch { incarnation: 1, number: 1 };
        let inputs = List::Own(&inputs[..]);
        self.ask(from, Request::Spend { ticket: t, txid, decided, publish_seq, inputs });
    }

    pub fn commit(&mut self, from: u16, t: Ticket, tx: &Tx) {
        let coins: Vec<_> = tx.inputs.iter().map(|i| i.prev).collect();
        let inputs = refs(&coins);
        let raw = tx.to_bytes();
        let decision = Decision { fee_sat: 1, parents: List::Own(&[]), tx: &raw };
        let txid = tx.txid();
        self.ask(from, Request::Commit { ticket: t, txid, inputs: List::Own(&inputs), decision });
    }
}

pub(crate) fn refs(coins: &[OutPoint]) -> Vec<InputRef> {
    let one = |(i, &outpoint)| InputRef { vin: i as u32, outpoint, expect: Expect::default() };
    coins.iter().enumerate().map(one).collect()
}

pub(crate) fn spents(coins: &[OutPoint]) -> Vec<SpentInput> {
    let one = |(i, &outpoint)| SpentInput { vin: i as u32, outpoint };
    coins.iter().enumerate().map(one).collect()
}
