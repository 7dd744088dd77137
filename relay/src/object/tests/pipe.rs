//! A network of object layers: pipes with a rate, a delay, losses, repeats and reordering, played from one seed.
//!
//! In: which nodes are joined and how. Out: what every host saw, and when. Links are always up; the pacer is the pipe's rate.

use crate::compact::TxStore;
use crate::drops::{DropReason, Drops};
use crate::lookup::{Found, HeaderView, Lookups, TxLookup};
use crate::object::{ObjectEvent, Objects, ObjectsConfig};
use crate::peer::{LinkView, PeerId, PeerView};
use crate::time::NowUs;
use crate::wire::{Class, FrameBuf, Inside, ObjectId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// How bad a pipe is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay_us: u64,
    pub rate_mbit: u64,
    pub loss: f64,
    /// Mean losses in a row; 1 for independent ones.
    pub burst: f64,
    pub repeat: f64,
    /// Extra delay of some packets.
    pub jitter_us: u64,
}

impl Weather {
    pub const FINE: Self = Self {
        delay_us: 25_000,
        rate_mbit: 1_000,
        loss: 0.0,
        burst: 1.0,
        repeat: 0.0,
        jitter_us: 0,
    };

    pub fn losing(loss: f64) -> Self {
        Self { loss, ..Self::FINE }
    }
}

struct Pipe {
    weather: Weather,
    free: NowUs,
    losing: bool,
}

pub struct Node {
    pub objects: Objects,
    pub txs: SharedTxs,
    pub links: LinkView,
    pub events: Vec<(NowUs, ObjectEvent)>,
    pub drops: Drops,
}

type Tamper = Box<dyn FnMut(usize, usize, &mut Vec<u8>)>;

/// Nodes, pipes, and what is under way.
pub struct Net {
    pub nodes: Vec<Node>,
    /// (from, to) by node.
    pipes: BTreeMap<(usize, usize), Pipe>,
    queue: BTreeMap<(NowUs, u64), (usize, usize, Vec<u8>)>,
    order: u64,
    pub now: NowUs,
    random: u64,
    pub packets: u64,
    /// Changes a symbol before it arrives: (from, to, packet).
    pub tamper: Option<Tamper>,
}

/// A store that the test can look into and fill.
#[derive(Clone)]
pub struct SharedTxs(pub Arc<Mutex<TxStore>>);

impl TxLookup for SharedTxs {
    fn resolve(&mut self, salt: [u8; 16], ids: &[u64], found: &mut Found<'_>) {
        self.0.lock().unwrap().resolve(salt, ids, found);
    }

    fn offer(&mut self, txid: [u8; 32], bytes: &[u8]) {
        self.0.lock().unwrap().offer(txid, bytes);
    }
}

/// Knows the block of zeros, on which anything may be built that meets the easiest target.
pub struct Regtest {
    pub known: Vec<[u8; 32]>,
}

impl HeaderView for Regtest {
    fn parent_known(&self, hash: &[u8; 32]) -> bool {
        *hash == [0; 32] || self.known.contains(hash)
    }

    fn required_bits(&self, parent: &[u8; 32], _time_s: u32) -> Option<u32> {
        self.parent_known(parent).then_some(0x207f_ffff)
    }

    fn accepted(&mut self, header: &[u8; 80]) {
        self.known.push(consensus::hash::sha256d(header));
    }
}

impl Net {
    pub fn new(nodes: usize, seed: u64) -> Self {
        Self::with(nodes, seed, &ObjectsConfig::default())
    }

    pub fn with(nodes: usize, seed: u64, config: &ObjectsConfig) -> Self {
        let node = |i| {
            let txs = SharedTxs(Arc::new(Mutex::new(TxStore::new(1 << 26))));
            let headers = Box::new(Regtest { known: Vec::new() });
            let lookups = Lookups { txs: Box::new(txs.clone()), headers };
            let config = ObjectsConfig { seed: i as u64, ..*config };
            Node {
                objects: Objects::new(config, lookups),
                txs,
                links: (0..nodes).map(|_| PeerView::ABSENT).collect(),
                events: Vec::new(),
                drops: Drops::default(),
            }
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            pipes: BTreeMap::new(),
            queue: BTreeMap::new(),
            order: 0,
            now: NowUs(1_000_000),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            packets: 0,
            tamper: None,
        }
    }

    fn chance(&mut self, p: f64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// Joins two nodes both ways. A link's estimate of loss is what the weather says.
    pub fn join(&mut self, a: usize, b: usize, weather: Weather, trusted: bool) {
        for (from, to) in [(a, b), (b, a)] {
            self.pipes.insert((from, to), Pipe { weather, free: self.now, losing: false });
            let row = PeerView {
                up: true,
                trusted,
                rtt_us: 2 * weather.delay_us as u32,
                rtt_var_us: 100 + weather.jitter_us as u32,
                loss: weather.loss as f32,
                rate_bytes_s: weather.rate_mbit * 125_000,
                heard: self.now,
            };
            let node = &mut self.nodes[from];
            let mut rows: Vec<PeerView> =
                (0..64).map(|peer| *node.links.get(PeerId(peer))).collect();
            rows[to] = row;
            node.links = rows.into_iter().collect();
            node.objects.peer_up(PeerId(to as u16), &node.links, self.now);
        }
    }

    pub fn send(&mut self, from: usize, class: Class, bytes: &[u8]) -> ObjectId {
        let node = &mut self.nodes[from];
        node.objects
            .send(class, Arc::from(bytes), None, &node.links, self.now)
            .expect("there is a peer and room")
    }

    /// Plays until nothing is left to do or `for_us` have passed.
    pub fn run(&mut self, for_us: u64) {
        let end = self.now + for_us;
        let mut frame = FrameBuf::default();
        loop {
            // Everything that may leave now leaves, everything that is due is done.
            let pairs: Vec<(usize, usize)> = self.pipes.keys().copied().collect();
            for node in &mut self.nodes {
                node.objects.tick(&node.links, self.now);
            }
            let mut next = NowUs::NEVER;
            for (from, to) in pairs {
                next = next.min(self.pump(from, to, &mut frame));
            }
            for node in &mut self.nodes {
                while let Some(event) = node.objects.event() {
                    node.events.push((self.now, event));
                }
                next = next.min(node.objects.next_due().unwrap_or(NowUs::NEVER));
            }
            if let Some((&(at, _), _)) = self.queue.first_key_value() {
                next = next.min(at);
            }
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.queue.first_entry().filter(|at| at.key().0 <= self.now) {
                let (from, to, packet) = entry.remove();
                self.deliver(from, to, packet);
            }
        }
    }

    /// Sends what the pipe can take now; when it can take more, if there is more.
    fn pump(&mut self, from: usize, to: usize, frame: &mut FrameBuf) -> NowUs {
        let peer = PeerId(to as u16);
        loop {
            let node = &mut self.nodes[from];
            if node.objects.pending(peer).is_none() {
                return NowUs::NEVER;
            }
            let free = self.pipes[&(from, to)].free;
            if free > self.now {
                return free;
            }
            if node.objects.next_frame(peer, &node.links, self.now, frame).is_none() {
                return NowUs::NEVER;
            }
            let packet = frame.written().to_vec();
            self.packets += 1;
            let weather = self.pipes[&(from, to)].weather;
            // 118 bytes of tag, UDP, IPv6 and Ethernet around each.
            let wire_us = (packet.len() as u64 + 118) * 8 / weather.rate_mbit;
            let pipe = self.pipes.get_mut(&(from, to)).expect("it was just looked up");
            pipe.free = self.now.max(pipe.free) + wire_us.max(1);
            let at = pipe.free + weather.delay_us;
            let was_losing = pipe.losing;
            let lost = if weather.burst > 1.0 {
                // Two states: mean length of a burst, and the share of time that gives the loss.
                let leave = 1.0 / weather.burst;
                let enter = leave * weather.loss / (1.0 - weather.loss);
                if was_losing { !self.chance(leave) } else { self.chance(enter) }
            } else {
                self.chance(weather.loss)
            };
            self.pipes.get_mut(&(from, to)).expect("it was just looked up").losing = lost;
            if lost {
                continue;
            }
            let copies = 1 + u32::from(self.chance(weather.repeat));
            for _ in 0..copies {
                let late = if self.chance(0.5) { weather.jitter_us } else { 0 };
                self.order += 1;
                self.queue.insert((at + late, self.order), (from, to, packet.clone()));
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize, mut packet: Vec<u8>) {
        if let Some(tamper) = &mut self.tamper {
            tamper(from, to, &mut packet);
        }
        let node = &mut self.nodes[to];
        let Ok(Inside::Frame(frame)) = Inside::parse(&packet) else { panic!("no frame") };
        let peer = PeerId(from as u16);
        if let Err(reason) = node.objects.on_frame(peer, &frame, &node.links, self.now) {
            node.drops.count(reason);
        }
    }

    /// When this node got the object, and its bytes.
    pub fn got(&self, node: usize, class: Class) -> Option<(NowUs, Arc<[u8]>)> {
        self.nodes[node].events.iter().find_map(|(at, event)| match event {
            ObjectEvent::Received { class: got, bytes, .. } if *got == class => {
                Some((*at, bytes.clone()))
            }
            _ => None,
        })
    }

    pub fn dropped(&self, node: usize, reason: DropReason) -> u64 {
        self.nodes[node].drops.of(reason)
    }
}

/// Bytes that no other symbol resembles.
pub fn payload(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

/// A header on the block of zeros that meets the easiest target.
pub fn mined(seed: u32) -> [u8; 80] {
    use consensus::header::Header;
    let mut header = Header { version: 1, time_s: seed, n_bits: 0x207f_ffff, ..Header::default() };
    while header.hash().0[31] > 0x7f {
        header.nonce += 1;
    }
    header.to_bytes()
}
