//! A shard for tests: plain maps, every rule of design section 4 steps 5 to 7, nothing else. It answers at once; the harness
//! decides when a message travels.

use crate::msg::reply::CoinReply;
use crate::msg::request::{Decision, List};
use crate::msg::{
    Accepted, BatchReader, BatchWriter, Context, Epoch, Expect, InputRef, InputVerdict, Reply,
    Request, SeenState, Ticket, WakeReason, WithdrawReason,
};
use crate::partition::Partition;
use consensus::hash::TxId;
use consensus::params::ChainParams;
use consensus::tx::{OutPoint, Tx};
use std::collections::BTreeMap;

/// Who waits: coordinator, ticket, txid, input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    who: usize,
    ticket: Ticket,
    txid: TxId,
    vin: u32,
    kind: Kind,
    expect: Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Smaller than the holder: is granted the coin.
    Queue,
    /// Larger: is told when it is free.
    Coin,
    /// Waits for the parent's decision.
    Parent,
    /// An orphan.
    Watch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Held { who: usize, ticket: Ticket, txid: TxId },
    Spent { by: TxId },
}

#[derive(Clone, Debug)]
pub struct Coin {
    pub value_sat: u64,
    pub script: Vec<u8>,
    pub height: u32,
    pub coinbase: bool,
    parent_seq: u64,
    state: State,
}

#[derive(Clone, Debug)]
struct Announced {
    who: usize,
    ticket: Ticket,
    tx: Vec<u8>,
}

/// The shard.
#[derive(Debug)]
pub struct FakeShard {
    pub index: u16,
    partition: Partition,
    params: ChainParams,
    pub coins: BTreeMap<OutPoint, Coin>,
    waits: BTreeMap<OutPoint, Vec<Wait>>,
    announced: BTreeMap<TxId, Announced>,
    /// What it decided, in order.
    pub decided: Vec<TxId>,
    pub spends: u32,
    pub logged: u32,
    /// Replies, for each coordinator, one frag each.
    pub replies: Vec<(usize, Vec<u8>)>,
    context: Context,
    pub frozen: bool,
}

impl FakeShard {
    pub fn new(index: u16, partition: Partition, params: ChainParams) -> Self {
        Self {
            index,
            partition,
            params,
            coins: BTreeMap::new(),
            waits: BTreeMap::new(),
            announced: BTreeMap::new(),
            decided: Vec::new(),
            spends: 0,
            logged: 0,
            replies: Vec::new(),
            context: Context::default(),
            frozen: false,
        }
    }

    pub fn import(&mut self, at: OutPoint, value_sat: u64, script: &[u8], height: u32) {
        let coin = Coin {
            value_sat,
            script: script.to_vec(),
            height,
            coinbase: false,
            parent_seq: 0,
            state: State::Free,
        };
        self.coins.insert(at, coin);
    }

    pub fn spender(&self, at: &OutPoint) -> Option<TxId> {
        match self.coins.get(at)?.state {
            State::Spent { by } => Some(by),
            _ => None,
        }
    }

    /// Coins held and entries that wait.
    pub fn leftovers(&self) -> (usize, usize) {
        let held = self.coins.values().filter(|c| matches!(c.state, State::Held { .. })).count();
        (held, self.waits.values().map(Vec::len).sum())
    }

    /// What waits, for a message.
    pub fn waiting(&self) -> String {
        format!("{:?}", self.waits.values().flatten().collect::<Vec<_>>())
    }

    pub fn announced(&self) -> usize {
        self.announced.len()
    }

    fn say(&mut self, who: usize, reply: &Reply<'_>) {
        let mut frag = vec![0; 200_000];
        let epoch = Epoch { incarnation: 1, number: 1 };
        let mut batch = BatchWriter::new(&mut frag, epoch, self.context);
        assert!(batch.push(reply));
        let len = batch.finish();
        frag.truncate(len);
        self.replies.push((who, frag));
    }

    /// One frag of `validate_shard`.
    pub fn take(&mut self, who: usize, frag: &[u8]) {
        let mut batch = BatchReader::new(frag).expect("a batch");
        self.context = batch.header().context;
        while let Some(request) = batch.next_item::<Request<'_>>() {
            self.serve(who, &request);
        }
        assert!(batch.is_done());
    }

    fn own(&self, txid: &TxId) {
        assert_eq!(self.partition.shard(txid), self.index, "a message for another shard");
    }

    fn serve(&mut self, who: usize, request: &Request<'_>) {
        match *request {
            Request::Announce { ticket, txid, tx } => {
                self.own(&txid);
                let parsed = Tx::parse(tx).expect("an announcement is a transaction");
                assert_eq!(parsed.txid(), txid);
                assert_eq!(parsed.to_bytes(), tx, "announcements are raw");
                if !self.decided.contains(&txid) {
                    self.announced.insert(txid, Announced { who, ticket, tx: tx.to_vec() });
                }
            }
            Request::Seen { ticket, txid } => {
                self.own(&txid);
                let known = self.decided.iter().position(|t| *t == txid);
                let state = known.map_or(SeenState::Unknown, |at| SeenState::Unmined {
                    publish_seq: at as u64 + 1,
                    rule_set: 0,
                });
                self.say(who, &Reply::Seen { ticket, state });
            }
            Request::Resolve { ticket, vin, outpoint } => self.resolve(who, ticket, vin, outpoint),
            Request::Reserve { ticket, txid, inputs } => {
                for input in inputs.iter() {
                    self.reserve(who, ticket, txid, &input);
                }
            }
            Request::Commit { ticket, txid, inputs, decision } => {
                self.own(&txid);
                let all_free = !self.frozen
                    && inputs.iter().all(|i| {
                        self.coins.get(&i.outpoint).is_some_and(|c| {
                            c.state == State::Free && self.differs(c, &i.expect).is_none()
                        })
                    });
                if all_free {
                    for input in inputs.iter() {
                        self.spend(who, ticket, txid, input.outpoint, true);
                    }
                    self.decide(who, ticket, txid, &decision);
                } else {
                    for input in inputs.iter() {
                        self.reserve(who, ticket, txid, &input);
                    }
                }
            }
            Request::Release { ticket, inputs, .. } => {
                for input in inputs.iter() {
                    self.release(who, ticket, input.outpoint);
                }
            }
            Request::Watch { ticket, outpoint } => {
                self.own(&outpoint.txid);
                if self.coins.contains_key(&outpoint) {
                    let reason = WakeReason::Free;
                    self.say(who, &Reply::Wake { ticket, vin: u32::MAX, reason });
                } else {
                    self.wait(
                        outpoint,
                        Wait {
                            who,
                            ticket,
                            txid: TxId::ZERO,
                            vin: u32::MAX,
                            kind: Kind::Watch,
                            expect: Expect::default(),
                        },
                    );
                }
            }
            Request::Unwatch { ticket, outpoint } => {
                if let Some(list) = self.waits.get_mut(&outpoint) {
                    list.retain(|w| {
                        !(w.who == who && w.kind == Kind::Watch && w.ticket.slot == ticket.slot)
                    });
                }
            }
            Request::Withdraw { ticket, txid, reason } => self.withdraw(who, ticket, txid, reason),
            Request::Settle { ticket, txid, decision } => self.decide(who, ticket, txid, &decision),
            Request::Spend { ticket, txid, inputs, .. } => {
                for input in inputs.iter() {
                    self.spend(who, ticket, txid, input.outpoint, false);
                }
                self.spends += 1;
                let epoch = Epoch { incarnation: 1, number: 2 };
                self.say(who, &Reply::SpendLogged { ticket, epoch });
            }
            Request::Barrier { .. } => {}
            Request::SpendsLogged { txid, epoch } => {
                assert!(self.decided.contains(&txid));
                assert_eq!(epoch.number, 2);
                self.logged += 1;
            }
        }
    }

    fn resolve(&mut self, who: usize, ticket: Ticket, vin: u32, at: OutPoint) {
        self.own(&at.txid);
        if let Some(coin) = self.coins.get(&at).cloned() {
            let reply = match coin.state {
                State::Spent { by } => {
                    Reply::Input { ticket, vin, verdict: InputVerdict::Spent { by } }
                }
                _ => Reply::Coin { ticket, vin, coin: view(&coin) },
            };
            return self.say(who, &reply);
        }
        let parent = self.announced.get(&at.txid).map(|a| Tx::parse(&a.tx).expect("a transaction"));
        let output = parent.and_then(|p| p.outputs.get(at.vout as usize).cloned());
        let Some(output) = output else {
            let verdict = InputVerdict::Missing;
            return self.say(who, &Reply::Input { ticket, vin, verdict });
        };
        let coin = CoinReply {
            value_sat: output.value_sat as u64,
            height: self.context.height,
            coinbase: false,
            pending: true,
            locking_script: &output.locking_script,
        };
        self.say(who, &Reply::Coin { ticket, vin, coin });
    }

    fn differs(&self, coin: &Coin, expect: &Expect) -> Option<()> {
        let same = expect.value_sat == coin.value_sat
            && expect.script_tag == self.partition.script_tag(&coin.script)
            && expect.coin_era == self.params.era(coin.height) as u8
            && (!expect.height_matters || expect.coin_height == coin.height);
        (expect.proven && !same).then_some(())
    }

    fn reserve(&mut self, who: usize, ticket: Ticket, txid: TxId, input: &InputRef) {
        let (at, vin) = (input.outpoint, input.vin);
        self.own(&at.txid);
        let entry = |kind| Wait { who, ticket, txid, vin, kind, expect: input.expect };
        let Some(coin) = self.coins.get_mut(&at) else {
            let pending = self.announced.contains_key(&at.txid);
            let verdict =
                if pending { InputVerdict::ParentInFlight } else { InputVerdict::Missing };
            if pending {
                self.wait(at, entry(Kind::Parent));
            }
            return self.say(who, &Reply::Input { ticket, vin, verdict });
        };
        let verdict = match coin.state {
            State::Spent { by } => InputVerdict::Spent { by },
            _ if self.frozen => InputVerdict::Frozen,
            State::Free => {
                let coin = self.coins[&at].clone();
                if self.differs(&coin, &input.expect).is_some() {
                    return self.say(who, &Reply::Differs { ticket, vin, coin: view(&coin) });
                }
                let coin = self.coins.get_mut(&at).expect("just seen");
                coin.state = State::Held { who, ticket, txid };
                InputVerdict::Reserved { parent_seq: coin.parent_seq }
            }
            State::Held { txid: by, .. } => {
                let kind = if txid < by { Kind::Queue } else { Kind::Coin };
                self.wait(at, entry(kind));
                InputVerdict::Busy { by }
            }
        };
        self.say(who, &Reply::Input { ticket, vin, verdict });
    }

    fn wait(&mut self, at: OutPoint, entry: Wait) {
        let list = self.waits.entry(at).or_default();
        list.retain(|w| !(w.who == entry.who && w.ticket.slot == entry.ticket.slot));
        list.push(entry);
    }

    fn release(&mut self, who: usize, ticket: Ticket, at: OutPoint) {
        let ended =
            |w: usize, t: Ticket| w == who && t.slot == ticket.slot && t.attempt <= ticket.attempt;
        if let Some(list) = self.waits.get_mut(&at) {
            list.retain(|w| !ended(w.who, w.ticket));
        }
        if let Some(coin) = self.coins.get(&at)
            && let State::Held { who: w, ticket: t, .. } = coin.state
            && ended(w, t)
        {
            self.freed(at);
        }
    }

    /// The coin's holder is gone: the smallest in line gets it, those larger than it are told; or everybody is woken.
    fn freed(&mut self, at: OutPoint) {
        let mut list = self.waits.remove(&at).unwrap_or_default();
        let first = list.iter().filter(|w| w.kind == Kind::Queue).min_by_key(|w| w.txid).copied();
        let coin = self.coins.get_mut(&at).expect("freed coins exist");
        coin.state = State::Free;
        let Some(next) = first else {
            for w in list {
                let reason = WakeReason::Free;
                self.say(w.who, &Reply::Wake { ticket: w.ticket, vin: w.vin, reason });
            }
            return;
        };
        list.retain(|w| *w != next);
        coin.state = State::Held { who: next.who, ticket: next.ticket, txid: next.txid };
        let verdict = InputVerdict::Reserved { parent_seq: coin.parent_seq };
        self.say(next.who, &Reply::Input { ticket: next.ticket, vin: next.vin, verdict });
        for w in &mut list {
            if w.kind == Kind::Queue && w.txid > next.txid {
                w.kind = Kind::Coin;
                let verdict = InputVerdict::Busy { by: next.txid };
                self.say(w.who, &Reply::Input { ticket: w.ticket, vin: w.vin, verdict });
            }
        }
        self.waits.insert(at, list);
    }

    fn spend(&mut self, who: usize, ticket: Ticket, txid: TxId, at: OutPoint, commit: bool) {
        self.own(&at.txid);
        let coin = self.coins.get_mut(&at).expect("spends name coins that exist");
        match coin.state {
            State::Free if commit => {}
            State::Held { who: w, ticket: t, txid: holder } => {
                assert_eq!((w, t, holder), (who, ticket, txid), "a spend without its reservation");
            }
            other => panic!("a spend of {at} by {txid} finds {other:?}"),
        }
        coin.state = State::Spent { by: txid };
        for w in self.waits.remove(&at).unwrap_or_default() {
            let verdict = InputVerdict::Spent { by: txid };
            if w.kind == Kind::Watch {
                self.say(
                    w.who,
                    &Reply::Wake { ticket: w.ticket, vin: w.vin, reason: WakeReason::Free },
                );
            } else {
                self.say(w.who, &Reply::Input { ticket: w.ticket, vin: w.vin, verdict });
            }
        }
    }

    fn decide(&mut self, who: usize, ticket: Ticket, txid: TxId, decision: &Decision<'_>) {
        self.own(&txid);
        assert!(!self.decided.contains(&txid), "{txid} is decided twice");
        let announced = self.announced.remove(&txid).expect("decided transactions were announced");
        assert_eq!(
            (announced.who, announced.ticket),
            (who, ticket),
            "the announcement of the same ticket"
        );
        assert!(decision.tx.is_empty());
        self.decided.push(txid);
        let seq = self.decided.len() as u64;
        let accepted = Accepted {
            kind: crate::msg::AcceptedKind::Pool,
            shard: self.index,
            block: 0,
            publish_seq: seq,
            epoch: Epoch::default(),
            fee_sat: decision.fee_sat,
            txid,
            parents: List::Own(&[]),
            tx: &announced.tx,
        };
        assert!(accepted.encoded_len() > 0);
        let tx = Tx::parse(&announced.tx).expect("a transaction");
        for (vout, output) in tx.outputs.iter().enumerate() {
            let at = OutPoint { txid, vout: vout as u32 };
            let coin = Coin {
                value_sat: output.value_sat as u64,
                script: output.locking_script.clone(),
                height: self.context.height,
                coinbase: false,
                parent_seq: seq,
                state: State::Free,
            };
            self.coins.insert(at, coin);
            for w in self.waits.remove(&at).unwrap_or_default() {
                let reason = WakeReason::Free;
                self.say(w.who, &Reply::Wake { ticket: w.ticket, vin: w.vin, reason });
            }
        }
        let epoch = Epoch { incarnation: 1, number: 1 };
        self.say(who, &Reply::Decided { ticket, epoch, publish_seq: seq, from_pool: true });
    }

    fn withdraw(&mut self, who: usize, ticket: Ticket, txid: TxId, reason: WithdrawReason) {
        self.own(&txid);
        if self.decided.contains(&txid) {
            return;
        }
        if let Some(a) = self.announced.get(&txid) {
            if a.who != who || a.ticket.slot != ticket.slot {
                return;
            }
            self.announced.remove(&txid);
        }
        let of_it: Vec<OutPoint> =
            self.waits.keys().filter(|at| at.txid == txid).copied().collect();
        for at in of_it {
            let list = self.waits.remove(&at).unwrap_or_default();
            for w in list {
                let (ticket, vin) = (w.ticket, w.vin);
                match reason {
                    WithdrawReason::Rejected => {
                        let reason = WakeReason::ParentRejected;
                        self.say(w.who, &Reply::Wake { ticket, vin, reason });
                    }
                    WithdrawReason::Orphaned if w.kind == Kind::Watch => {
                        self.waits.entry(at).or_default().push(w);
                    }
                    WithdrawReason::Orphaned => {
                        let reason = WakeReason::ParentOrphaned;
                        self.say(w.who, &Reply::Wake { ticket, vin, reason });
                    }
                }
            }
        }
    }
}

fn view(coin: &Coin) -> CoinReply<'_> {
    CoinReply {
        value_sat: coin.value_sat,
        height: coin.height,
        coinbase: coin.coinbase,
        pending: false,
        locking_script: &coin.script,
    }
}
