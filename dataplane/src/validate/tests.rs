//! Stories of transactions, told against plain shards over links that the test holds in its hands.

mod random;
mod shard;
mod stories;
mod wired;

use super::config::{Bounds, Config, Policy};
use super::coordinator::Coordinator;
use super::outbox::Front;
use crate::msg::verdict::detail;
use crate::msg::{Context, IngestHeader, TxVerdict, ValidateControl, VerdictFrag};
use crate::partition::Partition;
use consensus::hash::{TxId, hash160};
use consensus::params::{ChainParams, Network};
use consensus::rules::FeeRate;
use consensus::script::Budget;
use consensus::sighash::SighashCache;
use consensus::tx::{Coin, OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxLayout, TxOut, parse};
use secp256k1::{Message, PublicKey, SecretKey, ecdsa};
use shard::FakeShard;
use std::collections::VecDeque;

pub const HEIGHT: u32 = 20_000;
pub const OP_TRUE: &[u8] = &[0x51];
const REQUEST_MTU: usize = 8_192;

/// Coordinators, shards, and the messages between them.
pub struct World {
    pub nodes: Vec<Coordinator>,
    pub shards: Vec<FakeShard>,
    /// `[coordinator][shard]`
    requests: Vec<Vec<VecDeque<Vec<u8>>>>,
    /// `[coordinator][shard]`
    replies: Vec<Vec<VecDeque<Vec<u8>>>>,
    pub verdicts: Vec<VerdictFrag>,
    pub notices: Vec<VerdictFrag>,
    pub partition: Partition,
    next_token: u64,
}

pub fn params() -> ChainParams {
    ChainParams::of(Network::Regtest)
}

impl World {
    pub fn new(validators: u16, shards: u16) -> Self {
        Self::with(validators, shards, Bounds::small())
    }

    pub fn with(validators: u16, shards: u16, bounds: Bounds) -> Self {
        let partition = Partition::new([7; 16], shards, validators);
        let config = Config {
            partition: partition.clone(),
            params: params(),
            bounds,
            policy: Policy { fee_min: FeeRate { sat_per_kb: 0 }, ..Policy::default() },
            seed: 3,
            verifier: None,
        };
        let n = usize::from(validators);
        let m = usize::from(shards);
        let mut world = Self {
            nodes: (0..n).map(|_| Coordinator::new(config.clone(), REQUEST_MTU, false)).collect(),
            shards: (0..shards).map(|i| FakeShard::new(i, partition.clone(), params())).collect(),
            requests: vec![vec![VecDeque::new(); m]; n],
            replies: vec![vec![VecDeque::new(); m]; n],
            verdicts: Vec::new(),
            notices: Vec::new(),
            partition,
            next_token: 0,
        };
        world.set_pool(HEIGHT);
        world
    }

    pub fn pool(height: u32) -> Context {
        let rule_set = params().flags_for_block(height);
        Context { block: 0, height, median_time_past: 1_600_000_000, rule_set }
    }

    pub fn set_pool(&mut self, height: u32) {
        self.control(ValidateControl::SetPool { context: Self::pool(height) });
    }

    pub fn control(&mut self, message: ValidateControl) {
        let message = ValidateControl::decode(&message.encode()).expect("comes back");
        for node in &mut self.nodes {
            node.on_control(message);
        }
    }

    pub fn open_block(&mut self, block: u32, height: u32, inputs_only: bool) {
        let context = Context { block, ..Self::pool(height) };
        self.control(ValidateControl::OpenBlock { context, inputs_only });
    }

    /// A coin that is there from the start; its outpoint.
    pub fn coin(&mut self, n: u32, value_sat: u64, script: &[u8], height: u32) -> OutPoint {
        let at = OutPoint { txid: TxId::of(&n.to_le_bytes()), vout: 0 };
        let shard = usize::from(self.partition.shard(&at.txid));
        self.shards[shard].import(at, value_sat, script, height);
        at
    }

    /// Offers bytes to the pool; the token of the copy.
    pub fn offer(&mut self, bytes: &[u8]) -> u64 {
        self.offer_as(bytes, IngestHeader { source: 1, ..IngestHeader::default() })
    }

    pub fn offer_as(&mut self, bytes: &[u8], header: IngestHeader) -> u64 {
        self.next_token += 1;
        let token = self.next_token;
        let node = usize::from(self.partition.validator_of_bytes(bytes));
        let node = &mut self.nodes[node];
        assert!(node.can_admit(header.block != 0, bytes.len()), "no room");
        node.on_ingest(&IngestHeader { token, ..header }, bytes, 0);
        token
    }

    /// One turn of a coordinator without frags: everything waiting goes out.
    pub fn turn(&mut self, node: usize) {
        let core = &mut self.nodes[node];
        core.begin_turn();
        core.pump_waiting();
        core.end_turn(true, 0);
        for shard in 0..self.shards.len() {
            loop {
                let frag = match core.outboxes[shard].front() {
                    Front::Empty => break,
                    Front::Items => {
                        let mut frag = vec![0; REQUEST_MTU];
                        let len = core.outboxes[shard].fill(&mut frag, core.epoch);
                        frag.truncate(len);
                        frag
                    }
                    Front::Large { slot, context } => {
                        let view = core.view(slot);
                        let mut raw = Vec::new();
                        view.write_raw(&mut raw);
                        let txid = core.slots[slot as usize].txid;
                        let head = crate::msg::request::large_announce_head(
                            core.epoch,
                            &context,
                            core.ticket(slot),
                            &txid,
                            raw.len() as u32,
                        );
                        core.outboxes[shard].pop_large();
                        core.large_sent(slot);
                        [&head[..], &raw].concat()
                    }
                };
                self.requests[node][shard].push_back(frag);
            }
        }
        self.verdicts.extend(core.verdicts.drain(..).map(|(v, _)| v));
        for (v, _) in core.block_verdicts.drain(..) {
            let waits = v.verdict == TxVerdict::MissingInput && v.detail == detail::WAITS;
            if waits { &mut self.notices } else { &mut self.verdicts }.push(v);
        }
        assert!(core.counts.reconcile(), "{:?}", core.counts);
    }

    /// Delivers one request frag.
    pub fn deliver_request(&mut self, node: usize, shard: usize) -> bool {
        let Some(frag) = self.requests[node][shard].pop_front() else { return false };
        self.shards[shard].take(node, &frag);
        for (who, reply) in self.shards[shard].replies.drain(..) {
            self.replies[who][shard].push_back(reply);
        }
        true
    }

    /// Delivers one reply frag.
    pub fn deliver_reply(&mut self, node: usize, shard: usize) -> bool {
        let Some(frag) = self.replies[node][shard].pop_front() else { return false };
        assert!(self.nodes[node].on_replies(&frag));
        true
    }

    /// Everything travels until nothing moves any more.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for node in 0..self.nodes.len() {
                self.turn(node);
                for shard in 0..self.shards.len() {
                    while self.deliver_request(node, shard) {
                        moved = true;
                    }
                    for other in 0..self.nodes.len() {
                        while self.deliver_reply(other, shard) {
                            moved = true;
                        }
                    }
                }
            }
            let idle = self.nodes.iter().all(|n| {
                n.arriving.is_empty()
                    && n.pumping.is_empty()
                    && n.ready.is_empty()
                    && n.batch.is_empty()
            });
            if !moved && idle {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// The verdict of a copy.
    pub fn verdict(&self, token: u64) -> Option<VerdictFrag> {
        let mut found = self.verdicts.iter().filter(|v| v.token == token);
        let first = found.next().copied();
        assert!(found.next().is_none(), "copy {token} has two verdicts");
        first
    }

    #[track_caller]
    pub fn expect(&self, token: u64, verdict: TxVerdict) -> VerdictFrag {
        let got = self.verdict(token).unwrap_or_else(|| panic!("copy {token} has no verdict yet"));
        assert_eq!(got.verdict, verdict, "{got:?}");
        got
    }

    /// Nothing is left anywhere: no slot, no hold, no wait, no announcement.
    #[track_caller]
    pub fn expect_clean(&self) {
        for node in &self.nodes {
            assert_eq!((node.in_flight, node.block_in_flight, node.orphans.len()), (0, 0, 0));
            assert_eq!(node.free_slots.len(), node.slots.len());
            assert_eq!(node.arena.used_bytes(), 0);
            assert_eq!((node.inputs_in_flight, node.bytes_in_flight), (0, 0));
            assert!(node.is_drained());
        }
        for shard in &self.shards {
            assert_eq!(shard.leftovers(), (0, 0), "shard {}: {}", shard.index, shard.waiting());
            assert_eq!(shard.announced(), 0, "shard {}", shard.index);
        }
    }

    pub fn accepted(&self) -> usize {
        self.shards.iter().map(|s| s.decided.len()).sum()
    }
}

pub fn spend(prev: OutPoint) -> TxIn {
    TxIn { prev, unlocking_script: vec![], sequence: SEQUENCE_FINAL, coin: None }
}

pub fn pay(value_sat: i64) -> TxOut {
    TxOut { value_sat, locking_script: OP_TRUE.to_vec() }
}

pub fn tx(inputs: &[OutPoint], outputs: &[i64]) -> Tx {
    Tx {
        version: 1,
        inputs: inputs.iter().map(|&o| spend(o)).collect(),
        outputs: outputs.iter().map(|&v| pay(v)).collect(),
        lock_time: 0,
    }
}

pub fn out(tx: &Tx, vout: u32) -> OutPoint {
    OutPoint { txid: tx.txid(), vout }
}

/// The extended form with these coins.
pub fn extended(tx: &Tx, coins: &[(u64, &[u8])]) -> Vec<u8> {
    let mut tx = tx.clone();
    for (input, (value_sat, script)) in tx.inputs.iter_mut().zip(coins) {
        input.coin = Some(Coin { value_sat: *value_sat, locking_script: script.to_vec() });
    }
    tx.to_extended_bytes().expect("every coin is there")
}

pub fn secret(n: u8) -> SecretKey {
    SecretKey::from_secret_bytes([n + 1; 32]).expect("in range")
}

pub fn p2pkh(n: u8) -> Vec<u8> {
    let key = PublicKey::from_secret_key(&secret(n)).serialize();
    let mut script = vec![0x76, 0xa9, 0x14];
    script.extend_from_slice(&hash160(&key));
    script.extend_from_slice(&[0x88, 0xac]);
    script
}

/// Signs input `i`, which spends a P2PKH coin of key `n`.
pub fn sign(tx: &mut Tx, i: usize, n: u8, value_sat: u64) {
    let bytes = tx.to_bytes();
    let mut layout = TxLayout::new();
    let view = parse(&bytes, &mut layout).expect("well formed");
    let mut budget = Budget::UNLIMITED;
    let digest = SighashCache::new()
        .digest(&view, i, 0x41, value_sat, &p2pkh(n), true, &mut budget)
        .expect("unlimited");
    let signature = ecdsa::sign(Message::from_digest(digest), &secret(n));
    let mut der = signature.serialize_der().to_vec();
    der.push(0x41);
    let key = PublicKey::from_secret_key(&secret(n)).serialize();
    let mut script = vec![der.len() as u8];
    script.extend_from_slice(&der);
    script.push(33);
    script.extend_from_slice(&key);
    tx.inputs[i].unlocking_script = script;
}
