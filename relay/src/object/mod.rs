//! Objects: everything between "here are some bytes" and "here is the next symbol for this peer".
//!
//! In: authenticated frames with the peer they came from, payloads of the host, the time. Out: frames, one at a time and
//! only when a link asks ([`Objects::next_frame`]), and events. No socket, no clock, no thread. Links pull, so nothing is
//! queued as bytes and encoding is spread over sending.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `shape`, `head` | how an object is cut; its first bytes, its hash |
//! | `content`, `assembly`, `rows` | a whole object; one in the making; parity on demand |
//! | `proofs` | the origin's proofs of one object |
//! | `transfer`, `flight` | one object on its way to one peer; one object with all its peers |
//! | `gate`, `recent` | proof of work before memory; what was finished lately |
//! | `send` | what a host's object becomes: plain, packed, or named |
//! | `receive`, `deliver` | what each frame does; what a whole object becomes |
//! | `timers` | repair, silence, memory |
//!
//! Cost a useful symbol: one copy, one SHA-256 (sixteen side by side), a few table lookups; a group decodes once.

mod assembly;
mod content;
mod deliver;
mod flight;
mod gate;
mod head;
mod proofs;
mod receive;
mod recent;
mod report;
mod rows;
mod send;
mod shape;
#[cfg(test)]
mod tests;
mod timers;
mod transfer;

pub use gate::{ADMITTED_MAX, HEADER_OBJECT_LEN, WAITING_MAX};
pub use head::{Form, HEAD_LEN, Head, Part};
pub use report::{FailReason, ObjectCounts, ObjectEvent, SendError};
pub use shape::{K_LARGE, K_SMALL, PROVED_SYMBOL_LEN, SMALL_BYTES_MAX, Shape};

use crate::compact::Salt;
use crate::fec::{Rs8, Scratch};
use crate::lookup::Lookups;
use crate::origin::{OriginKeys, RootOf, Roots, parity_below};
use crate::peer::{LinkView, PeerId};
use crate::time::NowUs;
use crate::wire::{Class, Code, DataFields, FrameBuf, NackEntry, ObjectId, Priority, flags};
use flight::{Flight, Key, State};
use gate::Gate;
use recent::Recent;
use sigbatch::Hasher;
use std::collections::{BTreeMap, VecDeque};
use transfer::Transfer;

/// Limits of the object layer, and who we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObjectsConfig {
    /// Largest object, its head included.
    pub object_bytes_max: u32,
    /// Memory of all objects together.
    pub bytes_max: usize,
    /// Memory of what one peer has begun to send and not finished.
    pub bytes_per_peer_max: usize,
    /// Objects in flight.
    pub objects_max: usize,
    /// Objects a trusted peer may have begun and not finished.
    pub incomplete_max: usize,
    /// The same of an untrusted peer. Source: reference/relay.md C6.
    pub incomplete_untrusted_max: usize,
    /// How often an object sent here may be passed on.
    pub hops: u8,
    /// Which rows of parity we mint: a hash of our public key.
    pub seed: u64,
    /// Subtrees and blocks are sent by names where that is smaller.
    pub compact: bool,
    /// Bundles are packed for peers that are at least [`WAN_RTT_US`] away.
    pub lz4: bool,
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self {
            object_bytes_max: 64 << 20,
            bytes_max: 1 << 30,
            bytes_per_peer_max: 256 << 20,
            objects_max: 512,
            incomplete_max: 64,
            incomplete_untrusted_max: 2,
            hops: 8,
            seed: 0,
            compact: true,
            lz4: true,
        }
    }
}

/// Peers nearer than this get bundles as they are: packing costs more than the wire.
pub const WAN_RTT_US: u32 = 1_000;
/// A peer whose share of unknown symbols is above this gets data first.
pub const MISS_COMPACT_MAX: f32 = 0.5;
/// The share of a block's symbols that a peer is thought to miss until it has said so.
pub const MISS_AT_FIRST: f32 = 0.2;
/// So long after a header, the index for the next block's names is made.
pub const WARM_AFTER_US: u64 = 500_000;
/// A peer that was asked for a plain form is asked again, so often.
pub const WANTS_MAX: u8 = 8;

/// Signatures by nobody we know that are checked for one peer in [`STRANGE_ROOTS_US`]: 5 ms of work.
pub const STRANGE_ROOTS_MAX: u32 = 100;
/// See [`STRANGE_ROOTS_MAX`].
pub const STRANGE_ROOTS_US: u64 = 1_000_000;

/// What a `WANT` asks for, or says.
pub mod want {
    /// The plain form of a subtree or block, please.
    pub const PLAIN: u8 = 0;
    /// So many of a thousand symbols of a body are not known here: a u16.
    pub const MISSES: u8 = 1;
}

/// Frames about objects that wait for one peer, at most; the oldest goes first.
pub const CONTROL_MAX: usize = 1_024;
/// Events that wait for the host, at most; reports of delivery are dropped first, by not being made.
pub const EVENTS_MAX: usize = 65_536;
/// An object without a useful symbol for so long is given up.
pub const GATHER_TIMEOUT_US: u64 = 30_000_000;
/// A whole object that nobody needs any more stays so long for late requests.
pub const LINGER_US: u64 = 2_000_000;
/// Symbols between two copies of a header, where there are others to send: as many as a burst of losses takes.
pub const HEADER_EVERY: u32 = 8;
/// A peer that does not say that it has the object is asked so often.
pub const PROBES_MAX: u8 = 7;

/// A frame that waits for its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Stop {
        flags: u8,
        id: ObjectId,
        len: u32,
    },
    Nack {
        key: Key,
    },
    /// A header that symbols of its block wait for.
    Header {
        id: ObjectId,
    },
    Plain {
        id: ObjectId,
    },
    Misses {
        id: ObjectId,
        permille: u16,
    },
}

/// One peer as the object layer sees it.
#[derive(Debug)]
struct Peer {
    control: VecDeque<Control>,
    /// Objects with something to send, by priority; the first one goes on until it has nothing more.
    ready: [VecDeque<Key>; Priority::ALL.len()],
    /// Symbols since the last one of a header.
    since_header: u32,
    bytes: usize,
    incomplete: usize,
    /// Share of the symbols of blocks that it did not know lately.
    miss: f32,
    /// Roots by nobody we know, counted since then.
    strange_roots: (NowUs, u32),
}

impl Peer {
    /// The queue and the place in it of the object whose turn it is: the most urgent one, but between the copies of a header
    /// [`HEADER_EVERY`] symbols of something else, so that no burst of losses takes all of them.
    fn next_ready(
        &self,
        flights: &BTreeMap<Key, Flight>,
        peer: PeerId,
    ) -> Option<(Priority, usize)> {
        let mut queues =
            Priority::ALL.into_iter().filter(|at| !self.ready[*at as usize].is_empty());
        let first = queues.next()?;
        let queue = &self.ready[first as usize];
        let is_copy = self.since_header < HEADER_EVERY
            && queue[0].class == Class::Header
            && flights.get(&queue[0]).is_some_and(|flight| flight.has_begun(peer));
        Some(match queues.next().filter(|next| *next < Priority::Low) {
            _ if !is_copy => (first, 0),
            _ if queue.len() > 1 => (first, 1),
            Some(next) => (next, 0),
            None => (first, 0),
        })
    }
}

/// All objects in flight, and all peers they come from and go to.
#[expect(missing_debug_implementations, reason = "holds the host's lookups")]
pub struct Objects {
    config: ObjectsConfig,
    lookups: Lookups,
    code: Rs8,
    hasher: Hasher,
    scratch: Scratch,
    peers: Vec<Option<Peer>>,
    flights: BTreeMap<Key, Flight>,
    gate: Gate,
    recent: Recent,
    events: VecDeque<ObjectEvent>,
    counts: ObjectCounts,
    due: NowUs,
    /// When to make an index, and for which salt.
    warm: Option<(NowUs, Salt)>,
    origins: OriginKeys,
    roots: Roots,
}

impl Objects {
    /// No objects, no peers.
    pub fn new(config: ObjectsConfig, lookups: Lookups) -> Self {
        Self {
            config,
            lookups,
            code: Rs8::default(),
            hasher: Hasher::new(),
            scratch: Scratch::default(),
            peers: Vec::new(),
            flights: BTreeMap::new(),
            gate: Gate::default(),
            recent: Recent::default(),
            events: VecDeque::new(),
            counts: ObjectCounts::default(),
            due: NowUs::NEVER,
            warm: None,
            origins: OriginKeys::default(),
            roots: Roots::default(),
        }
    }

    /// Sets whose proofs count, and the key that proves what our host sends.
    pub fn set_origins(&mut self, origins: OriginKeys) {
        self.origins = origins;
    }

    /// Numbers for status and metrics.
    pub fn counts(&self) -> ObjectCounts {
        ObjectCounts { in_flight: self.flights.len(), ..self.counts }
    }

    /// The next event.
    pub fn event(&mut self) -> Option<ObjectEvent> {
        self.events.pop_front()
    }

    /// A link is up. What is under way goes to the new peer, too.
    pub fn peer_up(&mut self, peer: PeerId, links: &LinkView, now: NowUs) {
        if self.peer(peer).is_some() {
            self.peer_down(peer, now);
        }
        if self.peers.len() <= peer.index() {
            self.peers.resize_with(peer.index() + 1, || None);
        }
        self.peers[peer.index()] = Some(Peer {
            control: VecDeque::new(),
            ready: Default::default(),
            since_header: 0,
            bytes: 0,
            incomplete: 0,
            miss: MISS_AT_FIRST,
            strange_roots: (now, 0),
        });
        let keys: Vec<Key> =
            self.flights.keys().copied().filter(|key| key.from.is_none()).collect();
        for key in keys {
            let flight = self.flights.get_mut(&key).expect("its key was just listed");
            if flight.hops.is_some() && (flight.reports.is_none() || flight.to_all) {
                let peers = [peer];
                Self::join(&mut self.peers, &self.recent, key, flight, &peers, &self.config, links);
            }
        }
    }

    /// A link is down: its transfers end, its unfinished objects are forgotten if it was not trusted.
    pub fn peer_down(&mut self, peer: PeerId, now: NowUs) {
        let Some(place) = self.peers.get_mut(peer.index()) else { return };
        if place.take().is_none() {
            return;
        }
        self.recent.forget(peer);
        let own: Vec<Key> =
            self.flights.keys().copied().filter(|key| key.from == Some(peer)).collect();
        for key in own {
            self.remove(key);
        }
        for (key, flight) in &mut self.flights {
            flight.sources.retain(|source| source.peer != peer);
            if flight.payer == Some(peer) {
                flight.payer = None;
            }
            let waited = flight.transfer(peer).is_some_and(|transfer| !transfer.is_stopped());
            flight.transfers.retain(|transfer| transfer.peer() != peer);
            if let Some(id) = flight.reports.filter(|_| waited) {
                let why = FailReason::PeerDown;
                let (class, peer) = (key.class, Some(peer));
                self.counts.failed += 1;
                self.events.push_back(ObjectEvent::Failed { id, class, peer, why });
            }
        }
        self.due = self.due.min(now);
    }

    fn peer(&mut self, peer: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(peer.index()).and_then(Option::as_mut)
    }

    fn push_event(&mut self, event: ObjectEvent) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        } else {
            self.counts.events_dropped += 1;
        }
    }

    fn push_control(&mut self, peer: PeerId, control: Control) {
        let Some(at) = self.peers.get_mut(peer.index()).and_then(Option::as_mut) else { return };
        if at.control.contains(&control) {
            return;
        }
        if at.control.len() == CONTROL_MAX {
            at.control.pop_front();
            self.counts.control_dropped += 1;
        }
        at.control.push_back(control);
    }

    /// The most urgent thing there is to send to a peer; a little optimistic.
    pub fn pending(&self, peer: PeerId) -> Option<Priority> {
        let peer = self.peers.get(peer.index())?.as_ref()?;
        if !peer.control.is_empty() {
            return Some(Priority::Control);
        }
        Priority::ALL.into_iter().find(|at| !peer.ready[*at as usize].is_empty())
    }

    /// Writes the next frame for a peer; `None` when there is nothing to send.
    pub fn next_frame(
        &mut self,
        peer: PeerId,
        links: &LinkView,
        now: NowUs,
        frame: &mut FrameBuf,
    ) -> Option<Priority> {
        while let Some(control) = self.peer(peer)?.control.pop_front() {
            if self.write_control(control, frame) {
                return Some(Priority::Control);
            }
        }
        loop {
            let at = self.peers.get_mut(peer.index())?.as_mut()?;
            let (urgency, place) = at.next_ready(&self.flights, peer)?;
            let queue = &mut at.ready[urgency as usize];
            let key = queue[place];
            let Some(flight) = self.flights.get_mut(&key) else {
                queue.remove(place);
                continue;
            };
            let (shape, whole, hops) = (flight.shape, flight.is_whole(), flight.hops);
            let Some(transfer) = flight.transfer(peer) else {
                queue.remove(place);
                continue;
            };
            if urgency < Priority::Low && !transfer.is_urgent() && transfer.has_work() {
                // What is left is for an idle line.
                queue.remove(place);
                let low = &mut at.ready[Priority::Low as usize];
                if !low.contains(&key) {
                    low.push_back(key);
                }
                continue;
            }
            let pick = transfer.next(&shape);
            let root = pick.filter(|pick| transfer.root_due(pick.group));
            if let Some(symbol) = root {
                transfer.hold_back(symbol);
            }
            let (more, parity) = (transfer.has_work(), transfer.parity());
            if !more || pick.is_none() {
                queue.remove(place);
                if whole && !transfer.is_stopped() {
                    transfer.probe = now + Flight::probe_after_us(links.get(peer), transfer.probes);
                    self.due = self.due.min(transfer.probe);
                }
            }
            if let Some(symbol) = root {
                let k = shape.k(symbol.group);
                let what = RootOf {
                    object: key.id,
                    object_len: shape.object_len(),
                    group: symbol.group,
                    leaves: (k + parity_below(k)) as u8,
                };
                let known = flight.proofs.as_ref().is_some_and(|proofs| proofs.has(what.group));
                if !known {
                    flight
                        .prove_group(what.group, self.code, |root| self.origins.sign(&what, root));
                }
                let signed = flight.proofs.as_ref().and_then(|proofs| proofs.root(what.group));
                let Some(signed) = signed else { continue };
                let RootOf { object, object_len, group, leaves } = what;
                frame.root(object, object_len, group, leaves, &signed.root, &signed.signature);
                return Some(urgency);
            }
            let (Some(pick), Some(hops_left)) = (pick, hops) else { continue };
            let fields = DataFields {
                flags: if shape.is_proved() { flags::ORIGIN_PROOF } else { 0 }
                    | if more { 0 } else { flags::LAST }
                    | if whole { flags::HAVE_ALL } else { 0 }
                    | if urgency == Priority::Low { flags::LOWPRIO } else { 0 },
                object: key.id,
                object_len: shape.object_len(),
                group: pick.group,
                symbol: pick.number,
                k: shape.k_max(),
                code: Code::Rs8,
                class: key.class,
                hops_left,
                parity,
            };
            if whole {
                flight.last = now;
            }
            let len = shape.symbol_len() + shape.proof_len(pick.group);
            if !flight.write(pick, self.code, frame.data(&fields, len)) {
                continue;
            }
            at.since_header = if key.class == Class::Header { 0 } else { at.since_header + 1 };
            self.counts.symbols_sent += 1;
            self.counts.parity_sent += u64::from(usize::from(pick.number) >= shape.k(pick.group));
            return Some(urgency);
        }
    }

    fn write_control(&mut self, control: Control, frame: &mut FrameBuf) -> bool {
        match control {
            Control::Stop { flags, id, len } => {
                frame.stop(flags, id, len, []);
                true
            }
            Control::Nack { key } => {
                let Some(flight) = self.flights.get(&key) else { return false };
                let State::Gathering(assembly) = &flight.state else { return false };
                let entries = (0..flight.shape.groups() as u16)
                    .map(|group| NackEntry { group, need: assembly.need(group) as u8 })
                    .filter(|entry| entry.need > 0);
                let written = frame.nack(key.id, flight.shape.object_len(), entries);
                self.counts.nacks_sent += u64::from(written > 0);
                written > 0
            }
            Control::Header { id } => {
                if self.gate.part(id).is_some() {
                    return false;
                }
                self.counts.nacks_sent += 1;
                frame.nack(id, HEADER_OBJECT_LEN, [NackEntry { group: 0, need: 1 }]) > 0
            }
            Control::Plain { id } => {
                self.counts.wants_sent += 1;
                frame.want(id, want::PLAIN, &[]);
                true
            }
            Control::Misses { id, permille } => {
                frame.want(id, want::MISSES, &permille.to_le_bytes());
                true
            }
        }
    }
}

/// Puts an object into the queue of the peer that a transfer has something for.
fn wake(peers: &mut [Option<Peer>], key: Key, urgency: Priority, transfer: &Transfer) {
    let at = transfer.peer().index();
    let Some(peer) = peers.get_mut(at).and_then(Option::as_mut) else { return };
    if !transfer.has_work() {
        return;
    }
    let urgency = if transfer.is_urgent() { urgency } else { Priority::Low };
    let queue = &mut peer.ready[urgency as usize];
    if !queue.contains(&key) {
        queue.push_back(key);
    }
}
