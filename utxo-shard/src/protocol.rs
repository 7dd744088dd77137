//! The rules of design section 4, steps 5 to 7, under random schedules: two coordinators, two shards, first-in-first-out links.
//!
//! The configurations are those of `protocol-models/m5_accept.rs`, which explores them exhaustively with a shard of five states;
//! here the shards are the real ones, the coordinators are the model's, and every schedule ends in the model's terminal check:
//! everything decided, accepted transactions serializable, spends backed by reservations, nothing left behind. What the model
//! leaves out is added: the single-message commit, and wake-ups that leave late. A run is one seed; the failure names it.

use crate::Shard;
use crate::testing::*;
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::request::{Decision, List};
use dataplane::msg::*;
use dataplane::rng::Rng;
use std::collections::VecDeque;

/// A story: which transaction spends which coins, which one makes a coin, how often each arrives, slots of a coordinator.
struct Story {
    name: &'static str,
    coins: usize,
    inputs: &'static [&'static [usize]],
    makes: &'static [Option<usize>],
    copies: &'static [u8],
    slots: usize,
}

const STORIES: &[Story] = &[
    Story {
        name: "two that want the same two coins",
        coins: 2,
        inputs: &[&[0, 1], &[0, 1]],
        makes: &[None, None],
        copies: &[1, 1],
        slots: 9,
    },
    Story {
        name: "each twice and crosswise",
        coins: 2,
        inputs: &[&[0, 1], &[1, 0]],
        makes: &[None, None],
        copies: &[2, 2],
        slots: 9,
    },
    Story {
        name: "three that want the same two coins",
        coins: 2,
        inputs: &[&[0, 1], &[0, 1], &[1, 0]],
        makes: &[None, None, None],
        copies: &[1, 1, 1],
        slots: 9,
    },
    Story {
        name: "a ring of three",
        coins: 3,
        inputs: &[&[0, 1], &[1, 2], &[2, 0]],
        makes: &[None, None, None],
        copies: &[1, 1, 1],
        slots: 9,
    },
    Story {
        name: "a child in conflict with a stranger",
        coins: 3,
        inputs: &[&[0], &[2, 1], &[1]],
        makes: &[Some(2), None, None],
        copies: &[1, 1, 1],
        slots: 9,
    },
    Story {
        name: "a child in conflict with its parent",
        coins: 2,
        inputs: &[&[0], &[1, 0]],
        makes: &[Some(1), None],
        copies: &[1, 2],
        slots: 9,
    },
    Story {
        name: "a rival of the parent holds the child's coin",
        coins: 3,
        inputs: &[&[0], &[2, 1], &[0, 1]],
        makes: &[Some(2), None, None],
        copies: &[1, 1, 1],
        slots: 9,
    },
    Story {
        name: "a parent that never comes",
        coins: 3,
        inputs: &[&[0], &[2, 1], &[1]],
        makes: &[Some(2), None, None],
        copies: &[0, 1, 1],
        slots: 9,
    },
    Story {
        name: "a chain",
        coins: 3,
        inputs: &[&[0], &[1], &[2]],
        makes: &[Some(1), Some(2), None],
        copies: &[1, 1, 1],
        slots: 9,
    },
    Story {
        name: "a chain through one slot",
        coins: 3,
        inputs: &[&[0], &[1], &[2]],
        makes: &[Some(1), Some(2), None],
        copies: &[1, 1, 1],
        slots: 1,
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    New,
    Reserving,
    Watching,
    ParentWait,
    Orphan,
    Settling,
    Accepted,
    Rejected,
    Woken,
}

#[derive(Clone, Debug)]
enum Msg {
    Reserve { coin: usize },
    Release { coin: usize },
    Settle,
    Commit,
    Spend { coin: usize, publish_seq: u64 },
    Announce,
    Withdraw { reason: WithdrawReason },
    Watch { coin: usize },
    Unwatch { coin: usize },
}

#[derive(Debug)]
struct Spender {
    phase: Phase,
    attempt: u32,
    held: u32,
    copies: u8,
    accepted: bool,
    watched: Option<usize>,
    /// What the parent's wait was for.
    waits_for: usize,
}

struct Run<'a> {
    story: &'a Story,
    txids: Vec<TxId>,
    owner: Vec<usize>,
    home: Vec<usize>,
    coordinator: Vec<u16>,
    commits: bool,
    txs: Vec<Spender>,
    shards: Vec<Shard>,
    /// Requests from coordinator v to shard h, with the transaction and attempt.
    to_shard: Vec<VecDeque<(usize, u32, Msg)>>,
    to_coordinator: Vec<VecDeque<Told>>,
    trace: Vec<String>,
}

impl<'a> Run<'a> {
    fn new(story: &'a Story, rng: &mut Rng) -> Self {
        let n = story.inputs.len();
        let mut ranks: Vec<u8> = (0..n as u8).collect();
        rng.shuffle(&mut ranks);
        let owner: Vec<usize> = (0..story.coins).map(|_| rng.index(2)).collect();
        let home = (0..n).map(|t| story.makes[t].map_or(rng.index(2), |c| owner[c])).collect();
        // The same first outpoint means the same coordinator.
        let by_first: Vec<u16> = (0..story.coins).map(|_| rng.index(2) as u16).collect();
        let shard = |_| {
            let mut cfg = config(0, 1);
            (cfg.transactions_max, cfg.slab_bytes, cfg.waiters_max) = (16, 16 << 10, 32);
            Shard::new(&cfg)
        };
        let mut run = Self {
            story,
            txids: ranks.iter().map(|&r| id(100 + r)).collect(),
            owner,
            home,
            coordinator: (0..n).map(|t| by_first[story.inputs[t][0]]).collect(),
            commits: rng.chance(1, 2),
            txs: story
                .copies
                .iter()
                .map(|&copies| Spender {
                    phase: Phase::New,
                    attempt: 0,
                    held: 0,
                    copies,
                    accepted: false,
                    watched: None,
                    waits_for: 0,
                })
                .collect(),
            shards: (0..2).map(shard).collect(),
            to_shard: vec![VecDeque::new(); 4],
            to_coordinator: vec![VecDeque::new(); 4],
            trace: Vec::new(),
        };
        for coin in 0..story.coins {
            if !story.makes.contains(&Some(coin)) {
                let outpoint = run.coin(coin);
                let owner = run.owner[coin];
                let imported = run.shards[owner].import(&outpoint, 10, 1, false, &[0x51]);
                assert!(imported);
            }
        }
        run
    }

    fn coin(&self, coin: usize) -> OutPoint {
        match self.story.makes.iter().position(|&m| m == Some(coin)) {
            Some(t) => OutPoint { txid: self.txids[t], vout: 0 },
            None => at(coin as u8 + 1, 0),
        }
    }

    fn link(&self, t: usize, shard: usize) -> usize {
        usize::from(self.coordinator[t]) * 2 + shard
    }

    fn send(&mut self, t: usize, shard: usize, msg: Msg) {
        let link = self.link(t, shard);
        self.to_shard[link].push_back((t, self.txs[t].attempt, msg));
    }

    fn start(&mut self, t: usize) {
        let tx = &mut self.txs[t];
        tx.attempt += 1;
        tx.phase = Phase::Reserving;
        tx.held = 0;
        tx.watched = None;
        let home = self.home[t];
        if self.story.makes[t].is_some() {
            self.send(t, home, Msg::Announce);
        }
        if self.commits && self.story.inputs[t].iter().all(|&c| self.owner[c] == home) {
            self.send(t, home, Msg::Commit);
            return;
        }
        for &coin in self.story.inputs[t] {
            self.send(t, self.owner[coin], Msg::Reserve { coin });
        }
    }

    fn release_all(&mut self, t: usize, except: Option<usize>) {
        for &coin in self.story.inputs[t] {
            if Some(coin) != except {
                self.send(t, self.owner[coin], Msg::Release { coin });
            }
        }
    }

    fn withdraw(&mut self, t: usize, reason: WithdrawReason) {
        if self.story.makes[t].is_some() && !self.txs[t].accepted {
            self.send(t, self.home[t], Msg::Withdraw { reason });
        }
    }

    fn reject(&mut self, t: usize) {
        self.release_all(t, None);
        if let Some(coin) = self.txs[t].watched.take() {
            self.send(t, self.owner[coin], Msg::Unwatch { coin });
        }
        self.withdraw(t, WithdrawReason::Rejected);
        self.txs[t].phase = Phase::Rejected;
    }

    fn orphan(&mut self, t: usize, coin: usize) {
        self.release_all(t, None);
        self.txs[t].phase = Phase::Orphan;
        self.txs[t].watched = Some(coin);
        self.withdraw(t, WithdrawReason::Orphaned);
        self.send(t, self.owner[coin], Msg::Watch { coin });
    }

    fn in_flight(&self, t: usize) -> bool {
        use Phase::*;
        matches!(self.txs[t].phase, Reserving | Watching | ParentWait | Settling)
    }

    fn has_slot(&self, t: usize) -> bool {
        let used = (0..self.txs.len())
            .filter(|&u| self.coordinator[u] == self.coordinator[t] && self.in_flight(u))
            .count();
        used < self.story.slots
    }

    /// A copy arrives, or a woken orphan finds a slot.
    fn arrive(&mut self, t: usize) {
        if self.txs[t].phase == Phase::Woken && self.txs[t].copies == 0 {
            return self.start(t);
        }
        self.txs[t].copies -= 1;
        match self.txs[t].phase {
            Phase::New => self.start(t),
            Phase::Orphan | Phase::Woken => {
                self.release_all(t, None);
                if let Some(coin) = self.txs[t].watched.take() {
                    self.send(t, self.owner[coin], Msg::Unwatch { coin });
                }
                self.start(t);
            }
            _ => {}
        }
    }

    fn shard_takes(&mut self, link: usize) {
        let (t, attempt, msg) = self.to_shard[link].pop_front().expect("a message");
        let shard = link % 2;
        let from = (link / 2) as u16;
        let ticket = ticket(t as u32, attempt);
        let txid = self.txids[t];
        let raw = tx(&[], &[10], 0).to_bytes();
        let mut out = Memory::default();
        let decision = Decision { fee_sat: 0, parents: List::Own(&[]), tx: &raw };
        let all: Vec<_> = self.story.inputs[t].iter().map(|&c| self.coin(c)).collect();
        let all_refs = refs(&all);
        let vin =
            |coin: usize| self.story.inputs[t].iter().position(|&c| c == coin).expect("its input");
        let one_ref = |coin| [all_refs[vin(coin)]];
        let spents = spents(&all);
        let one_spent = |coin| [spents[vin(coin)]];
        let (refs_1, spent_1);
        let request = match msg {
            Msg::Reserve { coin } => {
                refs_1 = one_ref(coin);
                Request::Reserve { ticket, txid, inputs: List::Own(&refs_1) }
            }
            Msg::Release { coin } => {
                spent_1 = one_spent(coin);
                Request::Release { ticket, txid, inputs: List::Own(&spent_1) }
            }
            Msg::Settle => Request::Settle { ticket, txid, decision },
            Msg::Commit => Request::Commit { ticket, txid, inputs: List::Own(&all_refs), decision },
            Msg::Spend { coin, publish_seq } => {
                spent_1 = one_spent(coin);
                let inputs = List::Own(&spent_1[..]);
                let decided = Epoch::default();
                Request::Spend { ticket, txid, decided, publish_seq, inputs }
            }
            Msg::Announce => Request::Announce { ticket, txid, tx: &raw },
            Msg::Withdraw { reason } => Request::Withdraw { ticket, txid, reason },
            Msg::Watch { coin } => Request::Watch { ticket, outpoint: self.coin(coin) },
            Msg::Unwatch { coin } => Request::Unwatch { ticket, outpoint: self.coin(coin) },
        };
        self.trace.push(format!("{shard} takes {request:?}"));
        let got = self.shards[shard].request(from, &POOL, &request, &mut out);
        assert_eq!(got, crate::Progress::Done);
        self.shards[shard].check();
        self.to_coordinator[link].extend(out.told);
    }

    fn coordinator_takes(&mut self, link: usize) {
        let told = self.to_coordinator[link].pop_front().expect("a message");
        self.trace.push(format!(
            "{} hears {:?} {} {:?}",
            link / 2,
            told.ticket,
            told.vin,
            told.said
        ));
        let t = told.ticket.slot as usize;
        if told.ticket.attempt != self.txs[t].attempt {
            return;
        }
        let phase = self.txs[t].phase;
        let coin = self.story.inputs[t].get(told.vin as usize).copied();
        let txid = self.txids[t];
        use InputVerdict as V;
        use Phase::*;
        match (told.said, phase) {
            (Said::Decided { publish_seq }, Settling | Reserving) => {
                // A commit has spent already; the spends are repeated all the same.
                self.txs[t].phase = Accepted;
                self.txs[t].accepted = true;
                for &coin in self.story.inputs[t] {
                    self.send(t, self.owner[coin], Msg::Spend { coin, publish_seq });
                }
            }
            (Said::Input(V::Reserved { .. }), Reserving) => {
                self.txs[t].held |= 1 << told.vin;
                if self.txs[t].held.count_ones() as usize == self.story.inputs[t].len() {
                    self.txs[t].phase = Settling;
                    self.send(t, self.home[t], Msg::Settle);
                }
            }
            (Said::Input(V::Reserved { .. }), Watching) => {
                let coin = coin.expect("an input");
                self.send(t, self.owner[coin], Msg::Release { coin });
            }
            (Said::Input(V::Spent { by }), Reserving | Watching) => {
                if by == txid {
                    self.txs[t].phase = Accepted;
                } else {
                    self.reject(t);
                }
            }
            (Said::Input(V::Busy { by }), Reserving) if txid > by => {
                self.release_all(t, coin);
                self.txs[t].phase = Watching;
            }
            (Said::Input(V::Missing), Reserving) => self.orphan(t, coin.expect("an input")),
            (Said::Input(V::ParentInFlight), Reserving) => {
                self.release_all(t, coin);
                self.txs[t].waits_for = coin.expect("an input");
                self.txs[t].phase = ParentWait;
            }
            (Said::Wake(WakeReason::Free), Reserving) => {
                self.release_all(t, None);
                self.start(t);
            }
            (Said::Wake(WakeReason::Free), Watching | ParentWait) => self.start(t),
            (Said::Wake(WakeReason::Free), Orphan) => {
                self.txs[t].watched = None;
                self.txs[t].phase = Woken;
            }
            (Said::Wake(WakeReason::ParentRejected), Reserving | ParentWait | Orphan) => {
                self.txs[t].watched = None;
                self.reject(t);
            }
            (Said::Wake(WakeReason::ParentOrphaned), Reserving | ParentWait) => {
                let coin = coin.expect("an input");
                self.orphan(t, coin);
            }
            (Said::Input(V::Overloaded) | Said::Refused, _) => panic!("no bound is reached here"),
            _ => {}
        }
    }

    /// One random step; false at the end of the run.
    fn step(&mut self, rng: &mut Rng) -> bool {
        let mut can: Vec<(u8, usize)> = Vec::new();
        for t in 0..self.txs.len() {
            let joins = self.in_flight(t);
            if self.txs[t].copies > 0 && (joins || self.has_slot(t)) {
                can.push((0, t));
            }
            if self.txs[t].phase == Phase::Woken && self.txs[t].copies == 0 && self.has_slot(t) {
                can.push((0, t));
            }
        }
        for link in 0..4 {
            if !self.to_shard[link].is_empty() {
                can.push((1, link));
            }
            if !self.to_coordinator[link].is_empty() {
                can.push((2, link));
            }
            if self.shards[link % 2].has_wakes((link / 2) as u16) {
                can.push((3, link));
            }
        }
        for shard in 0..2 {
            if self.shards[shard].has_work() {
                can.push((4, shard));
            }
        }
        if can.is_empty() {
            return false;
        }
        let (what, which) = can[rng.index(can.len())];
        match what {
            0 => {
                self.trace.push(format!("T{which} arrives"));
                self.arrive(which);
            }
            1 => self.shard_takes(which),
            2 => self.coordinator_takes(which),
            3 => {
                let mut out = Memory::default();
                self.shards[which % 2].wake((which / 2) as u16, 1, &mut out);
                self.shards[which % 2].check();
                self.to_coordinator[which].extend(out.told);
            }
            _ => {
                self.shards[which].step();
                self.shards[which].check();
            }
        }
        true
    }

    fn spent_by(&mut self, coin: usize) -> Option<TxId> {
        let mut out = Memory::default();
        let request =
            Request::Resolve { ticket: ticket(99, 99), vin: 0, outpoint: self.coin(coin) };
        self.shards[self.owner[coin]].request(0, &POOL, &request, &mut out);
        match out.one() {
            Said::Input(InputVerdict::Spent { by }) => Some(by),
            _ => None,
        }
    }

    fn exists(&mut self, coin: usize) -> bool {
        let txid = self.coin(coin).txid;
        self.shards[self.owner[coin]].is_visible(&txid, &POOL)
    }

    /// The model's terminal check; what is wrong, if anything is.
    fn end(&mut self) -> Result<(), String> {
        let n = self.txs.len();
        let mut orphans = 0;
        for t in 0..n {
            let coins = self.story.inputs[t];
            match self.txs[t].phase {
                Phase::Orphan => {
                    orphans += 1;
                    if coins.iter().all(|&c| self.exists(c)) {
                        return Err(format!("T{t} is an orphan without a missing parent"));
                    }
                }
                Phase::New if self.txs[t].copies == 0 => {}
                Phase::Accepted | Phase::Rejected => {}
                phase => return Err(format!("T{t} is stuck: {phase:?}")),
            }
            if self.txs[t].phase == Phase::Rejected {
                let conflict = |c: &usize| {
                    (0..n)
                        .any(|u| u != t && self.txs[u].accepted && self.story.inputs[u].contains(c))
                        || self
                            .story
                            .makes
                            .iter()
                            .position(|&m| m == Some(*c))
                            .is_some_and(|p| self.txs[p].phase == Phase::Rejected)
                };
                if !coins.iter().any(conflict) {
                    return Err(format!("T{t} was rejected without an accepted conflict"));
                }
            }
            if self.txs[t].accepted {
                for &coin in coins {
                    let by = self.spent_by(coin);
                    if by != Some(self.txids[t]) {
                        return Err(format!("T{t} was accepted, its coin {coin} is with {by:?}"));
                    }
                }
            }
        }
        let reserved: u64 = self.shards.iter().map(|s| s.totals().reserved).sum();
        let waiting: u64 = self.shards.iter().map(|s| s.totals().waiting).sum();
        let announced: u64 = self.shards.iter().map(|s| s.totals().announced).sum();
        if (reserved, waiting, announced) != (0, orphans, 0) {
            return Err(format!(
                "left behind: {reserved} holds, {waiting} waiters for {orphans} orphans, {announced} announced"
            ));
        }
        Ok(())
    }
}

fn run(story: &Story, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut run = Run::new(story, &mut rng);
    let mut steps = 0;
    let mut outcome = Ok(());
    while run.step(&mut rng) {
        steps += 1;
        if steps > 5_000 {
            outcome = Err("no end after 5,000 steps".to_owned());
            break;
        }
    }
    if outcome.is_ok() {
        outcome = run.end();
    }
    if let Err(what) = outcome {
        let from = run.trace.len().saturating_sub(80);
        panic!(
            "{}, seed {seed}: {what}\nids {:?} owners {:?} homes {:?} coordinators {:?}\n{}",
            story.name,
            run.txids,
            run.owner,
            run.home,
            run.coordinator,
            run.trace[from..].join("\n")
        );
    }
}

/// Seeds a story; `SHARD_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SHARD_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

#[test]
fn every_schedule_of_every_story_ends_decided_with_nothing_left_behind() {
    for story in STORIES {
        for seed in 0..seeds() {
            run(story, seed);
        }
    }
}
