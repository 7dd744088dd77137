//! A network in memory for tests: as bad as they ask for, the same for the same seed.
//!
//! In: datagrams of nodes, and paths between them that delay, lose, reorder, repeat, damage and queue. Out: the datagrams
//! that arrive, each at its time. Nodes are anything that takes datagrams and makes some ([`Node`]): links alone, or whole
//! engines. Time jumps from event to event, so an hour of silence costs nothing.

mod scripted;

use crate::engine::Engine;
use crate::link::HEADERS_LEN;
use crate::lookup::{Found, HeaderView, Lookups, TxLookup};
use crate::time::NowUs;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

pub use scripted::{Scripted, Write};

/// What a path does to packets. Shares are between 0 and 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Path {
    /// One way.
    pub delay_us: u64,
    /// Added to the delay, between 0 and this: more than the gap between packets reorders them.
    pub jitter_us: u64,
    /// Lost, each on its own.
    pub loss: f64,
    /// Lost in bursts: the share of packets that begin one, and their mean length.
    pub bursts: (f64, f64),
    /// Arrive twice.
    pub duplicate: f64,
    /// Arrive with a bit changed.
    pub corrupt: f64,
    /// Bytes a second that the path carries; 0: any number.
    pub rate_bytes_s: u64,
    /// What the queue before it holds, in microseconds of its rate.
    pub queue_us: u64,
}

impl Path {
    /// A path that only takes time.
    pub fn clean(delay_us: u64) -> Self {
        Self {
            delay_us,
            jitter_us: 0,
            loss: 0.0,
            bursts: (0.0, 1.0),
            duplicate: 0.0,
            corrupt: 0.0,
            rate_bytes_s: 0,
            queue_us: 0,
        }
    }

    /// The same, with loss.
    pub fn lossy(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    /// A path drawn from a seed: anything from a clean line to one that loses a fifth in bursts, reorders and damages.
    pub fn any(dice: &mut Dice) -> Self {
        let mut some = |share: f64, most: f64| {
            if dice.unit() < share { dice.unit() * most } else { 0.0 }
        };
        Self {
            loss: some(0.6, 0.2),
            bursts: (some(0.3, 0.02), 2.0 + some(0.5, 10.0)),
            duplicate: some(0.3, 0.05),
            corrupt: some(0.3, 0.05),
            jitter_us: some(0.5, 20_000.0) as u64,
            delay_us: 100 + some(0.8, 60_000.0) as u64,
            rate_bytes_s: 0,
            queue_us: 0,
        }
    }
}

/// A small generator for tests (SplitMix64); never for keys.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Sixty-four bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// Between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// That many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.word().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

/// What becomes of packets, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Given to the network.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Lost on a path, or sent to nobody.
    pub lost: u64,
    /// Refused by a full queue.
    pub overrun: u64,
    /// Repeated.
    pub repeated: u64,
    /// Damaged.
    pub damaged: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct PathState {
    busy_until: u64,
    burst_since: Option<NowUs>,
    /// Bytes of this span of [`PEAK_SPAN_US`], and of the fullest so far.
    span: u64,
    span_bytes: u64,
    peak_bytes: u64,
}

impl PathState {
    fn in_burst(&self) -> bool {
        self.burst_since.is_some()
    }
}

/// A burst is over after this, however few packets it has met: bursts are queues that overflow, not lines that are cut.
pub const BURST_US_MAX: u64 = 50_000;

/// Spans in which the network looks for a sender that sends too much at once.
pub const PEAK_SPAN_US: u64 = 10_000;

/// A datagram on its way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flying {
    /// Who sent it.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// The network between nodes.
#[derive(Debug)]
pub struct Network {
    dice: Dice,
    default_path: Path,
    paths: HashMap<(SocketAddr, SocketAddr), Path>,
    states: HashMap<(SocketAddr, SocketAddr), PathState>,
    flying: BTreeMap<(u64, u64), Flying>,
    number: u64,
    counts: Counts,
    /// What an attacker on the line has seen, when one watches: the first [`WATCHED_MAX`].
    watched: Option<Vec<Flying>>,
}

/// Most datagrams that an attacker remembers.
pub const WATCHED_MAX: usize = 4_096;

impl Network {
    /// A network where every pair has this path until told otherwise.
    pub fn new(seed: u64, default_path: Path) -> Self {
        Self {
            dice: Dice::new(seed),
            default_path,
            paths: HashMap::new(),
            states: HashMap::new(),
            flying: BTreeMap::new(),
            number: 0,
            counts: Counts::default(),
            watched: None,
        }
    }

    /// From now on somebody sees every datagram.
    pub fn watch(&mut self) {
        self.watched = Some(Vec::new());
    }

    /// What was seen.
    pub fn watched(&self) -> &[Flying] {
        self.watched.as_deref().unwrap_or_default()
    }

    /// The path in one direction.
    pub fn set_path(&mut self, from: SocketAddr, to: SocketAddr, path: Path) {
        self.paths.insert((from, to), path);
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a datagram.
    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8], now: NowUs) {
        let path = *self.paths.get(&(from, to)).unwrap_or(&self.default_path);
        self.counts.sent += 1;
        self.counts.sent_bytes += bytes.len() as u64;
        if let Some(watched) = self.watched.as_mut().filter(|seen| seen.len() < WATCHED_MAX) {
            watched.push(Flying { from, to, bytes: bytes.to_vec() });
        }
        let state = self.states.entry((from, to)).or_default();
        if state.span != now.0 / PEAK_SPAN_US {
            (state.span, state.span_bytes) = (now.0 / PEAK_SPAN_US, 0);
        }
        state.span_bytes += (bytes.len() + HEADERS_LEN) as u64;
        state.peak_bytes = state.peak_bytes.max(state.span_bytes);
        let (begins, length) = path.bursts;
        let turns = if state.in_burst() { 1.0 / length } else { begins };
        let over = state.burst_since.is_some_and(|since| now.since(since) >= BURST_US_MAX);
        if over || self.dice.unit() < turns {
            state.burst_since = if state.in_burst() { None } else { Some(now) };
        }
        let mut leaves = now.0;
        let wire_bytes = bytes.len() as u64 + HEADERS_LEN as u64;
        if let Some(takes) = (wire_bytes * 1_000_000).checked_div(path.rate_bytes_s) {
            let start = state.busy_until.max(now.0);
            if start - now.0 > path.queue_us {
                self.counts.overrun += 1;
                return;
            }
            leaves = start + takes;
            state.busy_until = leaves;
        }
        if state.in_burst() || self.dice.unit() < path.loss {
            self.counts.lost += 1;
            return;
        }
        let mut bytes = bytes.to_vec();
        if self.dice.unit() < path.corrupt {
            let bit = self.dice.below(bytes.len() as u64 * 8);
            bytes[bit as usize / 8] ^= 1 << (bit % 8);
            self.counts.damaged += 1;
        }
        let copies = if self.dice.unit() < path.duplicate { 2 } else { 1 };
        self.counts.repeated += copies - 1;
        for _ in 0..copies {
            let at = leaves + path.delay_us + self.dice.below(path.jitter_us + 1);
            self.number += 1;
            self.flying.insert((at, self.number), Flying { from, to, bytes: bytes.clone() });
        }
    }

    /// The most bytes that any sender gave to one receiver within [`PEAK_SPAN_US`], headers included.
    pub fn peak_bytes(&self) -> u64 {
        self.states.values().map(|state| state.peak_bytes).max().unwrap_or(0)
    }

    /// When the next datagram arrives.
    pub fn next_at(&self) -> NowUs {
        self.flying.first_key_value().map_or(NowUs::NEVER, |(&(at, _), _)| NowUs(at))
    }

    /// A datagram that has arrived by `now`.
    pub fn arrived(&mut self, now: NowUs) -> Option<Flying> {
        if self.next_at() > now {
            return None;
        }
        self.flying.pop_first().map(|(_, flying)| flying)
    }
}

/// Anything on the network.
pub trait Node {
    /// A datagram came.
    fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: NowUs);
    /// Timers.
    fn tick(&mut self, now: NowUs);
    /// When it has something to do.
    fn next_due(&self, now: NowUs) -> NowUs;
    /// What it sends.
    fn transmit(&mut self, now: NowUs, out: &mut dyn FnMut(SocketAddr, &[u8]) -> bool);
}

impl Node for Engine {
    fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: NowUs) {
        Engine::receive(self, from, datagram, now);
    }

    fn tick(&mut self, now: NowUs) {
        Engine::tick(self, now);
    }

    fn next_due(&self, now: NowUs) -> NowUs {
        Engine::next_due(self, now)
    }

    fn transmit(&mut self, now: NowUs, out: &mut dyn FnMut(SocketAddr, &[u8]) -> bool) {
        Engine::transmit(self, now, &mut |to, bytes| out(to, bytes));
    }
}

/// Lookups that know nothing and take every header: for relays that only move bytes.
pub fn open_lookups() -> Lookups {
    Lookups { txs: Box::new(Open), headers: Box::new(Open) }
}

struct Open;

impl TxLookup for Open {
    fn resolve(&mut self, _: [u8; 16], _: &[u64], _: &mut Found<'_>) {}

    fn offer(&mut self, _: [u8; 32], _: &[u8]) {}
}

impl HeaderView for Open {
    fn parent_known(&self, _: &[u8; 32]) -> bool {
        true
    }

    fn required_bits(&self, _: &[u8; 32], _: u32) -> Option<u32> {
        // The easiest target there is: regtest's.
        Some(0x207f_ffff)
    }

    fn accepted(&mut self, _: &[u8; 80]) {}
}

/// Nodes on a network, and the time.
#[derive(Debug)]
pub struct World<N> {
    /// The network.
    pub net: Network,
    /// Nodes by number; `None` while one is down.
    pub nodes: Vec<Option<N>>,
    /// The time.
    pub now: NowUs,
    /// Turns of the loop so far; bounded by [`STEPS_MAX`].
    pub steps: u64,
}

/// A run that needs more turns than this does not come to an end.
pub const STEPS_MAX: u64 = 20_000_000;

/// The address of a node.
pub fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, (node >> 8) as u8, node as u8], 9_333))
}

fn number(addr: SocketAddr) -> Option<usize> {
    let std::net::IpAddr::V4(ip) = addr.ip() else { return None };
    let [ten, one, high, low] = ip.octets();
    ((ten, one, addr.port()) == (10, 1, 9_333)).then(|| usize::from(high) << 8 | usize::from(low))
}

impl<N: Node> World<N> {
    /// These nodes on this network, at second one.
    pub fn new(net: Network, nodes: Vec<N>) -> Self {
        Self { net, nodes: nodes.into_iter().map(Some).collect(), now: NowUs(1_000_000), steps: 0 }
    }

    /// The node with this number.
    pub fn node(&mut self, at: usize) -> &mut N {
        self.nodes[at].as_mut().expect("a node that is up")
    }

    /// Goes on until `done` says so; `false` when `us` were over first.
    pub fn run_until(&mut self, us: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + us;
        loop {
            self.turn();
            if done(self) {
                return true;
            }
            let due = self.nodes.iter().flatten().map(|node| node.next_due(self.now)).min();
            // A node that says "now" has been asked already; it gets another microsecond.
            let due = due.unwrap_or(NowUs::NEVER).max(self.now + 1);
            self.now = due.min(self.net.next_at().max(self.now));
            if self.now > end {
                self.now = end;
                return false;
            }
            self.steps += 1;
            assert!(self.steps < STEPS_MAX, "{} turns: time does not pass", self.steps);
        }
    }

    /// Goes on for so long.
    pub fn run(&mut self, us: u64) {
        self.run_until(us, |_| false);
    }

    fn turn(&mut self) {
        while let Some(flying) = self.net.arrived(self.now) {
            let node = number(flying.to).and_then(|at| self.nodes.get_mut(at));
            match node.and_then(Option::as_mut) {
                Some(node) => node.receive(flying.from, &flying.bytes, self.now),
                None => self.net.counts.lost += 1,
            }
        }
        for at in 0..self.nodes.len() {
            let Some(node) = self.nodes[at].as_mut() else { continue };
            if node.next_due(self.now) <= self.now {
                node.tick(self.now);
            }
            let (net, now) = (&mut self.net, self.now);
            node.transmit(now, &mut |to, bytes| {
                net.send(address(at), to, bytes, now);
                true
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_run() {
        let run = |seed| {
            let mut net = Network::new(seed, Path::any(&mut Dice::new(seed)).lossy(0.1));
            (0..500_u64).for_each(|at| net.send(address(0), address(1), &[1; 50], NowUs(at)));
            let mut arrived = Vec::new();
            while let Some(flying) = net.arrived(NowUs::NEVER) {
                arrived.push(flying.bytes);
            }
            (arrived, net.counts())
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn a_queue_takes_time_and_then_refuses() {
        let path = Path { rate_bytes_s: 1_000_000, queue_us: 10_000, ..Path::clean(5) };
        let mut net = Network::new(1, path);
        (0..20).for_each(|_| net.send(address(0), address(1), &[0; 952], NowUs(0)));
        // A packet takes a millisecond; the queue holds ten of them and the one that is being sent.
        assert_eq!(net.counts().overrun, 9);
        assert_eq!(net.next_at(), NowUs(1_005));
    }

    #[test]
    fn bursts_have_the_share_and_the_length_they_were_given() {
        let path = Path { bursts: (0.01, 8.0), ..Path::clean(0) };
        let mut net = Network::new(3, path);
        (0..100_000).for_each(|_| net.send(address(0), address(1), &[0; 9], NowUs(0)));
        let share = net.counts().lost as f64 / 100_000.0;
        assert!((0.06..0.09).contains(&share), "{share}: 0.01 x 8 / (1 + 0.01 x 8) is 7.4 %");
    }
}
