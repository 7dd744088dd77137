//! One object on its way to one peer: what that peer has, and what to send it next.
//!
//! In: symbols that arrive here, groups that are decoded, requests for repair. Out: the number of the next symbol. Nothing
//! is queued as bytes: the link asks, and the symbol is taken from the object then.
//!
//! The order is: repair that was asked for; symbols that just arrived (cut-through); the data, once, striped over the
//! peers; and then for each group whatever lacks to its k symbols and the parity that this peer's loss asks for. A symbol
//! counts whoever sent it, so a relay that passed on k symbols of a group adds only the parity.
//!
//! To a peer that most likely knows most of the data, parity goes first, as much as it is expected to miss; the data follows
//! while the line is idle, until the peer says stop.

use super::shape::Shape;
use crate::peer::PeerId;
use crate::time::NowUs;
use std::collections::VecDeque;

/// A symbol to send, by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pick {
    /// Its group.
    pub group: u16,
    /// Its number in the group.
    pub number: u8,
}

/// What this peer has of one group, or is about to have.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bits: [u64; 4],
    count: u16,
    /// Parity rows minted for it.
    minted: u8,
}

/// Ranges that the rows of a group are divided into, so that two relays seldom mint the same ones.
const ROW_RANGES: usize = 8;
/// Repair of one object in units of its size: requests double their distance, so an outage of one direction for as long as
/// a link survives it ([`crate::link::DEAD_US`]) swallows six answers.
const REPAIR_ROUNDS: usize = 8;
/// Symbols of repair that one object may cause beside those.
const REPAIR_EXTRA: usize = 64;
/// Requests for repair that one object may cause.
pub const NACKS_MAX: u8 = 32;

/// One object on its way to one peer.
#[derive(Debug)]
pub struct Transfer {
    peer: PeerId,
    groups: Vec<Held>,
    /// Parity symbols a group gets.
    parity: u16,
    /// Which of the ranges of rows is ours.
    range: usize,
    repair: VecDeque<(u16, u16)>,
    forward: VecDeque<Pick>,
    stripe: Option<Stripe>,
    fill: VecDeque<u16>,
    /// Symbols a group gets before the data, where the peer is expected to know most of it.
    first: Option<u16>,
    /// Groups that have got those.
    later: VecDeque<u16>,
    /// Signed roots sent of each group, and how many each gets; empty where there are no proofs.
    roots: Vec<u8>,
    roots_each: u8,
    /// A symbol whose root goes first.
    held_back: Option<Pick>,
    stopped: bool,
    nacks: u8,
    repaired: usize,
    nacked: NowUs,
    /// When to ask with one more symbol whether the peer is still there.
    pub probe: NowUs,
    /// How often that was done.
    pub probes: u8,
}

/// The pass over the data: in round i this peer gets every symbol c with c = rank - i modulo the number of peers.
#[derive(Clone, Copy, Debug)]
struct Stripe {
    rank: usize,
    peers: usize,
    round: usize,
    next: usize,
}

impl Stripe {
    fn start(rank: usize, peers: usize, round: usize) -> Self {
        Self { rank, peers, round, next: (rank + peers - round) % peers }
    }

    fn advance(self, symbols: usize) -> Option<Self> {
        let next = self.next + self.peers;
        if next < symbols {
            return Some(Self { next, ..self });
        }
        let rounds = self.round + 1..self.peers;
        rounds.map(|round| Self::start(self.rank, self.peers, round)).find(|at| at.next < symbols)
    }
}

impl Transfer {
    /// A transfer that waits for symbols to pass on. `seed` decides which rows are minted here.
    pub fn new(peer: PeerId, shape: &Shape, parity: u16, seed: u64) -> Self {
        Self {
            peer,
            groups: vec![Held::default(); shape.groups()],
            parity,
            range: (seed % ROW_RANGES as u64) as usize,
            repair: VecDeque::new(),
            forward: VecDeque::new(),
            stripe: None,
            fill: VecDeque::new(),
            first: None,
            later: VecDeque::new(),
            roots: if shape.is_proved() { vec![0; shape.groups()] } else { Vec::new() },
            roots_each: 2,
            held_back: None,
            stopped: false,
            nacks: 0,
            repaired: 0,
            nacked: NowUs(0),
            probe: NowUs::NEVER,
            probes: 0,
        }
    }

    /// Who gets it.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Parity symbols a group gets.
    pub fn parity(&self) -> u16 {
        self.parity
    }

    /// Sends each root so often that one arrives, but for one object in a thousand.
    pub fn roots_for(&mut self, loss: f32) {
        let all_lost = 1e-3 / self.groups.len() as f32;
        let copies = all_lost.ln() / loss.clamp(0.001, 0.5).ln();
        self.roots_each = (copies.ceil() as u8).clamp(2, 8);
    }

    /// Whether the root of this group goes before its next symbol; it counts as sent then.
    pub fn root_due(&mut self, group: u16) -> bool {
        match self.roots.get_mut(usize::from(group)) {
            Some(sent) if *sent < self.roots_each => {
                *sent += 1;
                true
            }
            _ => false,
        }
    }

    /// Gives a symbol back; it is the next one.
    pub fn hold_back(&mut self, pick: Pick) {
        self.held_back = Some(pick);
    }

    /// Sends so many symbols of each group first: the peer is expected to lack no more. Again with more: it lacks more.
    pub fn parity_first(&mut self, symbols: u16) {
        if self.first.is_some_and(|first| first < symbols) {
            self.fill.extend(self.later.drain(..));
        }
        self.first = Some(self.first.unwrap_or(0).max(symbols));
    }

    /// Sends all of it: the data striped over `peers` of which this is number `rank`, then parity.
    pub fn send_all(&mut self, shape: &Shape, rank: usize, peers: usize) {
        let mut stripe = Some(Stripe::start(rank, peers, 0));
        if stripe.is_some_and(|at| at.next >= shape.symbols()) {
            stripe = stripe.and_then(|at| at.advance(shape.symbols()));
        }
        self.stripe = stripe;
        self.fill.extend(0..shape.groups() as u16);
    }

    /// The peer has this symbol: it sent it to us, or it has been sent one. False when that was known.
    pub fn credit(&mut self, group: u16, number: u8) -> bool {
        let held = &mut self.groups[usize::from(group)];
        let (word, bit) = (usize::from(number / 64), 1u64 << (number % 64));
        let is_new = held.bits[word] & bit == 0;
        held.bits[word] |= bit;
        held.count += u16::from(is_new);
        is_new
    }

    /// Whether the peer has a symbol, or was sent one.
    pub fn has_begun(&self) -> bool {
        self.groups.iter().any(|held| held.count > 0)
    }

    fn holds(&self, group: u16, number: u8) -> bool {
        self.groups[usize::from(group)].bits[usize::from(number / 64)] & 1 << (number % 64) != 0
    }

    /// A symbol arrived that this peer may lack.
    pub fn offer(&mut self, group: u16, number: u8) {
        if !self.stopped && !self.holds(group, number) {
            self.forward.push_back(Pick { group, number });
        }
    }

    /// A group was decoded here: whatever the peer lacks of it can be made.
    pub fn offer_group(&mut self, group: u16) {
        if !self.stopped {
            self.fill.push_back(group);
        }
    }

    /// Every group is decoded here.
    pub fn offer_all(&mut self, shape: &Shape) {
        self.fill.clear();
        self.later.clear();
        (0..shape.groups() as u16).for_each(|group| self.offer_group(group));
    }

    /// The peer needs no more.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.repair.clear();
        self.forward.clear();
        self.stripe = None;
        self.fill.clear();
        self.later.clear();
        self.held_back = None;
        self.probe = NowUs::NEVER;
    }

    /// Whether the peer needs no more.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The peer needs no more of this group.
    pub fn stop_group(&mut self, shape: &Shape, group: u16) {
        let full = shape.k(group) as u16 + self.parity;
        let held = &mut self.groups[usize::from(group)];
        held.count = held.count.max(full);
        held.bits = [u64::MAX; 4];
    }

    /// Opens a request for repair; false when the peer has asked too often or too soon. Whoever asks is not done.
    pub fn open_nack(&mut self, now: NowUs, apart_us: u64) -> bool {
        let allowed =
            self.nacks < NACKS_MAX && (self.nacks == 0 || now.since(self.nacked) >= apart_us);
        if allowed {
            self.stopped = false;
            self.nacks += 1;
            self.nacked = now;
        }
        allowed
    }

    /// The peer lacks `need` symbols of a group. `loss` is the share of what we send that it does not get; `spare` symbols go beside.
    pub fn repair(&mut self, shape: &Shape, group: u16, need: u8, loss: f32, spare: usize) {
        let quota = REPAIR_ROUNDS * shape.symbols() + REPAIR_EXTRA;
        let loss = loss.clamp(0.0, 0.5);
        let symbols = (f32::from(need) / (1.0 - loss)).ceil() as usize + 1;
        let symbols =
            (symbols + spare).min(shape.k(group) * 2 + 1).min(quota.saturating_sub(self.repaired));
        if self.stopped || symbols == 0 {
            return;
        }
        self.repaired += symbols;
        if let Some(sent) = self.roots.get_mut(usize::from(group)) {
            // Perhaps it is the root that it lacks.
            *sent = (*sent).min(self.roots_each - 1);
        }
        match self.repair.iter_mut().find(|(at, _)| *at == group) {
            Some((_, count)) => *count = (*count).max(symbols as u16),
            None => self.repair.push_back((group, symbols as u16)),
        }
    }

    /// One more symbol, and some to spare, to find out whether the peer is still there.
    pub fn ask(&mut self, shape: &Shape, spare: usize) {
        let group = (usize::from(self.probes) % shape.groups()) as u16;
        let symbols = (1 + spare).min(2 * shape.k(group) + 1);
        self.repair.push_back((group, symbols as u16));
        self.probes += 1;
    }

    /// Whether there is something to send.
    pub fn has_work(&self) -> bool {
        self.is_urgent() || self.stripe.is_some() || !self.later.is_empty()
    }

    /// Whether there is something to send that the peer waits for.
    pub fn is_urgent(&self) -> bool {
        self.held_back.is_some()
            || !self.repair.is_empty()
            || !self.forward.is_empty()
            || !self.fill.is_empty()
            || self.first.is_none() && self.stripe.is_some()
    }

    /// The next symbol to send; it counts as held from now on.
    pub fn next(&mut self, shape: &Shape) -> Option<Pick> {
        if let Some(pick) = self.held_back.take() {
            return Some(pick);
        }
        let pick = self.pick(shape)?;
        self.credit(pick.group, pick.number);
        Some(pick)
    }

    fn pick(&mut self, shape: &Shape) -> Option<Pick> {
        if let Some((group, count)) = self.repair.pop_front() {
            if count > 1 {
                self.repair.push_back((group, count - 1));
            }
            return Some(self.mint(shape, group));
        }
        while let Some(pick) = self.forward.pop_front() {
            if !self.holds(pick.group, pick.number) {
                return Some(pick);
            }
        }
        if let Some(first) = self.first {
            while let Some(group) = self.fill.pop_front() {
                if self.groups[usize::from(group)].count >= first {
                    self.later.push_back(group);
                    continue;
                }
                self.fill.push_back(group);
                return Some(self.mint(shape, group));
            }
        }
        while let Some(at) = self.stripe {
            self.stripe = at.advance(shape.symbols());
            let (group, number) = shape.place(at.next);
            if !self.holds(group, number) {
                return Some(Pick { group, number });
            }
        }
        loop {
            let queue = if self.first.is_some() { &mut self.later } else { &mut self.fill };
            let group = queue.pop_front()?;
            let held = self.groups[usize::from(group)];
            let wanted = shape.k(group) as u16 + self.parity;
            if held.count >= wanted {
                continue;
            }
            if held.count + 1 < wanted {
                queue.push_back(group);
            }
            let k = shape.k(group);
            let missing = (0..k).find(|i| held.bits[i / 64] & 1 << (i % 64) == 0);
            return Some(match missing {
                Some(number) => Pick { group, number: number as u8 },
                None => self.mint(shape, group),
            });
        }
    }

    /// A parity symbol the peer does not have; after all there are, the first one again.
    fn mint(&mut self, shape: &Shape, group: u16) -> Pick {
        let k = shape.k(group);
        let rows = shape.parity_max(group);
        let start = self.range * rows / ROW_RANGES;
        for _ in 0..rows {
            let held = &mut self.groups[usize::from(group)];
            let number = (k + (start + usize::from(held.minted)) % rows) as u8;
            held.minted = held.minted.wrapping_add(1);
            if !self.holds(group, number) {
                return Pick { group, number };
            }
        }
        let held = &mut self.groups[usize::from(group)];
        held.minted = held.minted.wrapping_add(1);
        Pick { group, number: (k + (start + usize::from(held.minted)) % rows) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn drain(transfer: &mut Transfer, shape: &Shape) -> Vec<(u16, u8)> {
        std::iter::from_fn(|| transfer.next(shape)).map(|pick| (pick.group, pick.number)).collect()
    }

    #[test]
    fn all_of_it_is_every_data_symbol_once_and_then_parity_for_every_group() {
        let shape = Shape::of(200_000, false);
        let mut transfer = Transfer::new(PeerId(0), &shape, 5, 3);
        transfer.send_all(&shape, 0, 1);
        let sent = drain(&mut transfer, &shape);
        assert!(!transfer.has_work());
        assert_eq!(sent.len(), shape.symbols() + 5 * shape.groups());
        let (data, parity) = sent.split_at(shape.symbols());
        assert!(data.iter().enumerate().all(|(i, at)| *at == shape.place(i)), "data in order");
        assert!(parity.iter().all(|(group, number)| usize::from(*number) >= shape.k(*group)));
        assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), sent.len(), "nothing twice");
        let neighbours = parity.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
        assert_eq!(neighbours, 0, "parity is interleaved over the groups");
    }

    #[test]
    fn three_peers_get_three_thirds_first_and_everything_in_the_end() {
        let shape = Shape::of(100_000, false);
        let thirds: Vec<Vec<(u16, u8)>> = (0..3)
            .map(|rank| {
                let mut transfer = Transfer::new(PeerId(rank as u16), &shape, 0, 0);
                transfer.send_all(&shape, rank, 3);
                drain(&mut transfer, &shape)
            })
            .collect();
        let first: BTreeSet<_> =
            thirds.iter().flat_map(|sent| &sent[..shape.symbols() / 3]).collect();
        assert_eq!(first.len(), shape.symbols() / 3 * 3, "the first thirds do not overlap");
        for sent in thirds {
            assert_eq!(sent.iter().collect::<BTreeSet<_>>().len(), shape.symbols());
        }
    }

    #[test]
    fn a_relay_that_passed_on_k_symbols_adds_only_the_parity() {
        let shape = Shape::of(30_000, false);
        let mut transfer = Transfer::new(PeerId(1), &shape, 4, 9);
        for index in 0..shape.symbols() {
            let (group, number) = shape.place(index);
            transfer.offer(group, number);
        }
        assert_eq!(drain(&mut transfer, &shape).len(), shape.symbols());
        transfer.offer_group(0);
        assert_eq!(drain(&mut transfer, &shape).len(), 4);
    }

    #[test]
    fn what_a_peer_sent_us_is_not_sent_back() {
        let shape = Shape::of(30_000, false);
        let mut transfer = Transfer::new(PeerId(1), &shape, 0, 9);
        transfer.credit(0, 3);
        transfer.offer(0, 3);
        transfer.offer(0, 4);
        assert_eq!(drain(&mut transfer, &shape), [(0, 4)]);
    }

    #[test]
    fn repair_is_fresh_parity_and_has_a_quota() {
        let shape = Shape::of(30_000, false);
        let mut transfer = Transfer::new(PeerId(1), &shape, 3, 0);
        transfer.send_all(&shape, 0, 1);
        let sent: BTreeSet<_> = drain(&mut transfer, &shape).into_iter().collect();
        transfer.repair(&shape, 0, 6, 0.25, 0);
        let repair = drain(&mut transfer, &shape);
        assert_eq!(repair.len(), 9, "six of eight arrive, and one more for luck");
        assert!(repair.iter().all(|at| !sent.contains(at)));
        let mut all = 0;
        for _ in 0..1_000 {
            transfer.repair(&shape, 0, 20, 0.0, 0);
            all += drain(&mut transfer, &shape).len();
        }
        assert!(all <= REPAIR_ROUNDS * shape.symbols() + REPAIR_EXTRA, "{all} symbols of repair");
    }

    #[test]
    fn requests_for_repair_come_at_most_once_a_round_trip_and_not_forever() {
        let shape = Shape::of(30_000, false);
        let mut transfer = Transfer::new(PeerId(1), &shape, 3, 0);
        assert!(transfer.open_nack(NowUs(100), 50));
        assert!(!transfer.open_nack(NowUs(149), 50));
        let opened = (1..100).filter(|i| transfer.open_nack(NowUs(100 + i * 50), 50)).count();
        assert_eq!(opened, usize::from(NACKS_MAX) - 1);
    }

    #[test]
    fn a_peer_that_knows_most_of_it_gets_parity_first_and_the_data_when_nothing_else_is_to_do() {
        let shape = Shape::of(200_000, false);
        let mut transfer = Transfer::new(PeerId(0), &shape, 2, 3);
        transfer.send_all(&shape, 0, 1);
        transfer.parity_first(6);
        let mut first = Vec::new();
        while transfer.is_urgent() {
            first.extend(transfer.next(&shape));
        }
        let parity = |sent: &[Pick]| {
            sent.iter().filter(|at| usize::from(at.number) >= shape.k(at.group)).count()
        };
        assert_eq!(parity(&first), 6 * shape.groups());
        assert!(first.len() <= 6 * shape.groups() + 1, "one symbol of data at most");
        transfer.parity_first(8);
        assert!(transfer.is_urgent(), "the peer lacks more than was thought");
        let rest = drain(&mut transfer, &shape);
        let all = 8 * shape.groups() + shape.symbols();
        assert!((all - 1..=all).contains(&(first.len() + rest.len())));
    }

    #[test]
    fn two_relays_with_other_seeds_mint_other_rows() {
        let shape = Shape::of(60_000, false);
        let rows = |seed| {
            let mut transfer = Transfer::new(PeerId(1), &shape, 20, seed);
            (0..20).map(|_| transfer.mint(&shape, 0).number).collect::<BTreeSet<_>>()
        };
        assert!(rows(1).is_disjoint(&rows(2)));
    }

    #[test]
    fn a_peer_that_has_it_gets_nothing_more() {
        let shape = Shape::of(60_000, false);
        let mut transfer = Transfer::new(PeerId(1), &shape, 20, 1);
        transfer.send_all(&shape, 0, 1);
        transfer.stop();
        transfer.offer(0, 1);
        transfer.offer_group(0);
        transfer.repair(&shape, 0, 1, 0.0, 0);
        assert!(!transfer.has_work());
        assert_eq!(transfer.next(&shape), None);
    }
}
