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
//! | `transfer`, `flight` | one object on its way to one peer; one object with all its peers |
//! | `gate`, `recent` | proof of work before memory; what was finished lately |
//! | `receive` | what each frame does |
//!
//! Cost a useful symbol: one copy, one SHA-256 (sixteen side by side), a few table lookups; a group decodes once.

mod assembly;
mod content;
mod flight;
mod gate;
mod head;
mod receive;
mod recent;
mod rows;
mod shape;
#[cfg(test)]
mod tests;
mod transfer;

pub use gate::{ADMITTED_MAX, HEADER_OBJECT_LEN, WAITING_MAX};
pub use head::{Form, HEAD_LEN, Head};
pub use shape::{K_LARGE, K_SMALL, PROVED_SYMBOL_LEN, SMALL_BYTES_MAX, Shape};

use crate::fec::{Rs8, Scratch};
use crate::lookup::Lookups;
use crate::peer::{LinkView, PeerId, PeerInfo};
use crate::time::NowUs;
use crate::wire::{Class, Code, DataFields, FrameBuf, NackEntry, ObjectId, Priority, flags};
use consensus::header::Header;
use content::Content;
use flight::{Flight, Key, State, priority};
use gate::Gate;
use recent::Recent;
use sigbatch::Hasher;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
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
        }
    }
}

/// Frames about objects that wait for one peer, at most; the oldest goes first.
pub const CONTROL_MAX: usize = 1_024;
/// Events that wait for the host, at most; reports of delivery are dropped first, by not being made.
pub const EVENTS_MAX: usize = 65_536;
/// An object without a useful symbol for so long is given up.
pub const GATHER_TIMEOUT_US: u64 = 30_000_000;
/// A whole object that nobody needs any more stays so long for late requests.
pub const LINGER_US: u64 = 2_000_000;
/// A peer that does not say that it has the object is asked so often.
pub const PROBES_MAX: u8 = 7;

/// Why the host's object is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nothing to send.
    #[error("an object of 0 bytes: there is nothing to send")]
    Empty,
    /// More than the limit.
    #[error("an object of {got} bytes; this relay takes up to {expected} (object_bytes_max)")]
    TooLarge {
        /// Bytes.
        got: usize,
        /// The limit.
        expected: usize,
    },
    /// Nobody to send it to.
    #[error("no peer that the object is for has a link that is up; see `metanode relay status`")]
    NoPeer,
    /// A header or block that does not start with a header.
    #[error("a {class:?} of {got} bytes; it starts with the block's header of 80 bytes")]
    NoHeader {
        /// What was to be sent.
        class: Class,
        /// Bytes.
        got: usize,
    },
    /// The table of objects is full of objects that are still under way.
    #[error("{objects} objects of {bytes} bytes are under way; try again when some are done")]
    Full {
        /// Objects in flight.
        objects: usize,
        /// Memory they take.
        bytes: usize,
    },
}

/// Why an object did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FailReason {
    /// No useful symbol for [`GATHER_TIMEOUT_US`].
    TimedOut = 0,
    /// The peer did not answer [`PROBES_MAX`] questions.
    Unanswered = 1,
    /// The peer will not take it.
    Refused = 2,
    /// Its bytes do not have its hash.
    HashWrong = 3,
    /// Its memory was needed for newer objects.
    Evicted = 4,
    /// The link went down.
    PeerDown = 5,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectEvent {
    /// An object is here, whole and with the right hash.
    Object {
        /// Its id.
        id: ObjectId,
        /// What it is.
        class: Class,
        /// Its payload.
        bytes: Arc<[u8]>,
        /// Who sent its first symbol.
        from: PeerId,
        /// Microseconds since then.
        took_us: u64,
    },
    /// A peer has what our host sent.
    Delivered {
        /// The object.
        id: ObjectId,
        /// What it is.
        class: Class,
        /// Who has it.
        peer: PeerId,
    },
    /// An object did not get through.
    Failed {
        /// The object.
        id: ObjectId,
        /// What it is.
        class: Class,
        /// To whom or from whom.
        peer: Option<PeerId>,
        /// Why.
        why: FailReason,
    },
}

/// Numbers for status and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ObjectCounts {
    /// Objects in flight.
    pub in_flight: usize,
    /// Memory they take.
    pub bytes: usize,
    /// Objects received whole.
    pub received: u64,
    /// Objects sent by the host.
    pub sent: u64,
    /// Objects that failed.
    pub failed: u64,
    /// Objects whose memory was taken for newer ones.
    pub evicted: u64,
    /// Symbols received that were of use.
    pub symbols_useful: u64,
    /// Symbols received that were not.
    pub symbols_useless: u64,
    /// Symbols sent.
    pub symbols_sent: u64,
    /// Of those, parity.
    pub parity_sent: u64,
    /// Requests for repair sent.
    pub nacks_sent: u64,
    /// Requests for repair received.
    pub nacks_received: u64,
    /// Control frames dropped because too many waited.
    pub control_dropped: u64,
    /// Events dropped because too many waited.
    pub events_dropped: u64,
}

/// A frame that waits for its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    Stop { flags: u8, id: ObjectId, len: u32 },
    Nack { key: Key },
}

/// One peer as the object layer sees it.
#[derive(Debug)]
struct Peer {
    info: PeerInfo,
    control: VecDeque<Control>,
    /// Objects with something to send, by priority; the first one goes on until it has nothing more.
    ready: [VecDeque<Key>; Priority::ALL.len()],
    bytes: usize,
    incomplete: usize,
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
        }
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
    pub fn peer_up(&mut self, peer: PeerId, info: PeerInfo, links: &LinkView, now: NowUs) {
        if self.peer(peer).is_some() {
            self.peer_down(peer, now);
        }
        if self.peers.len() <= peer.index() {
            self.peers.resize_with(peer.index() + 1, || None);
        }
        self.peers[peer.index()] = Some(Peer {
            info,
            control: VecDeque::new(),
            ready: Default::default(),
            bytes: 0,
            incomplete: 0,
        });
        let keys: Vec<Key> =
            self.flights.keys().copied().filter(|key| key.from.is_none()).collect();
        for key in keys {
            let flight = self.flights.get_mut(&key).expect("its key was just listed");
            if flight.hops.is_some() && (!flight.own || flight.to_all) {
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
            if waited && flight.own {
                let why = FailReason::PeerDown;
                let (id, class, peer) = (key.id, key.class, Some(peer));
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

    /// Sends the host's bytes to these peers, or to all. A block's header goes ahead of it as an object of its own.
    ///
    /// What was sent or received before keeps its id and is not sent again.
    pub fn send(
        &mut self,
        class: Class,
        bytes: Arc<[u8]>,
        to: Option<&[PeerId]>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<ObjectId, SendError> {
        if bytes.is_empty() {
            return Err(SendError::Empty);
        }
        let expected = self.config.object_bytes_max as usize - HEAD_LEN;
        if bytes.len() > expected {
            return Err(SendError::TooLarge { got: bytes.len(), expected });
        }
        let got = bytes.len();
        let header = bytes.first_chunk::<{ Header::BYTES }>().copied();
        let id = match (class, header) {
            (Class::Header, Some(header)) if got == Header::BYTES => {
                Some(self.gate.admit_own(&header, &mut *self.lookups.headers))
            }
            (Class::Block, Some(header)) => {
                self.send(Class::Header, Arc::from(header), to, links, now)?;
                Some(self.gate.admit_own(&header, &mut *self.lookups.headers))
            }
            (Class::Header | Class::Block, _) => return Err(SendError::NoHeader { class, got }),
            (Class::Subtree | Class::Bundle | Class::Opaque, _) => None,
        };
        let (content, hash) =
            Content::cut(class, Form::Plain, bytes.len() as u32, bytes, &self.hasher);
        let id = id.unwrap_or(ObjectId::of_hash(&hash));
        let key = Key { id, class, from: None };
        if self.flights.contains_key(&key) || self.recent.finished(id, class).is_some() {
            return Ok(id);
        }
        let up: Vec<PeerId> = links.up().map(|(peer, _)| peer).collect();
        let peers: Vec<PeerId> = match to {
            Some(some) => some.iter().copied().filter(|peer| up.contains(peer)).collect(),
            None => up,
        };
        if peers.is_empty() {
            return Err(SendError::NoPeer);
        }
        let shape = *content.shape();
        let cost = Flight::whole_bytes(&shape);
        if !self.make_room(cost, now) {
            let (objects, bytes) = (self.flights.len(), self.counts.bytes);
            return Err(SendError::Full { objects, bytes });
        }
        let whole = State::Whole(Box::new(content));
        let mut flight = Flight::new(shape, whole, Some(self.config.hops), cost, now);
        flight.own = true;
        flight.to_all = to.is_none();
        self.recent.finish(id, class, shape.object_len());
        Self::join(&mut self.peers, &self.recent, key, &mut flight, &peers, &self.config, links);
        self.counts.bytes += flight.cost_bytes;
        self.counts.sent += 1;
        for transfer in flight.transfers.iter().filter(|transfer| transfer.is_stopped()) {
            // The peer had it from somebody else before we did.
            let event = ObjectEvent::Delivered { id, class, peer: transfer.peer() };
            self.events.push_back(event);
        }
        self.flights.insert(key, flight);
        self.due = self.due.min(now + LINGER_US);
        Ok(id)
    }

    /// Adds transfers of an object to these peers, striped over them.
    fn join(
        peers: &mut [Option<Peer>],
        recent: &Recent,
        key: Key,
        flight: &mut Flight,
        to: &[PeerId],
        config: &ObjectsConfig,
        links: &LinkView,
    ) {
        let to: Vec<PeerId> = to
            .iter()
            .copied()
            .filter(|peer| flight.transfers.iter().all(|transfer| transfer.peer() != *peer))
            .filter(|peer| peers.get(peer.index()).is_some_and(Option::is_some))
            .collect();
        for (rank, peer) in to.iter().enumerate() {
            let parity = Flight::parity_for(&flight.shape, links.get(*peer).loss);
            let seed = config.seed ^ key.id.0;
            let mut transfer = Transfer::new(*peer, &flight.shape, parity, seed);
            if recent.was_early(*peer, key.id, flight.shape.object_len()) {
                transfer.stop();
            } else if flight.is_whole() {
                transfer.send_all(&flight.shape, rank, to.len());
            } else {
                for group in 0..flight.shape.groups() as u16 {
                    if flight.can_mint(group) {
                        transfer.offer_group(group);
                    }
                }
            }
            if transfer.has_work() {
                wake(peers, key, *peer);
            }
            flight.transfers.push(transfer);
        }
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
            let urgency =
                Priority::ALL.into_iter().find(|at_| !at.ready[*at_ as usize].is_empty())?;
            let queue = &mut at.ready[urgency as usize];
            let key = *queue.front().expect("the queue was just found not empty");
            let Some(flight) = self.flights.get_mut(&key) else {
                queue.pop_front();
                continue;
            };
            let (shape, whole, hops) = (flight.shape, flight.is_whole(), flight.hops);
            let Some(transfer) = flight.transfer(peer) else {
                queue.pop_front();
                continue;
            };
            let pick = transfer.next(&shape);
            let (more, parity) = (transfer.has_work(), transfer.parity());
            if !more || pick.is_none() {
                queue.pop_front();
                if whole && !transfer.is_stopped() {
                    transfer.probe = now + Flight::probe_after_us(links.get(peer), transfer.probes);
                    self.due = self.due.min(transfer.probe);
                }
            }
            let (Some(pick), Some(hops_left)) = (pick, hops) else { continue };
            let fields = DataFields {
                flags: if more { 0 } else { flags::LAST } | if whole { flags::HAVE_ALL } else { 0 },
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
            if !flight.write(pick, self.code, frame.data(&fields, shape.symbol_len())) {
                continue;
            }
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
        }
    }

    /// When [`Self::tick`] has something to do.
    pub fn next_due(&self) -> Option<NowUs> {
        (self.due < NowUs::NEVER).then_some(self.due)
    }

    /// Timers: requests for repair, questions to silent peers, objects that are over. Bounded by the objects in flight.
    pub fn tick(&mut self, links: &LinkView, now: NowUs) {
        if now < self.due {
            return;
        }
        self.due = NowUs::NEVER;
        let keys: Vec<Key> = self.flights.keys().copied().collect();
        for key in keys {
            let due = self.tick_one(key, links, now);
            self.due = self.due.min(due);
        }
    }

    /// Timers of one object; when it needs the next look.
    fn tick_one(&mut self, key: Key, links: &LinkView, now: NowUs) -> NowUs {
        let Some(flight) = self.flights.get_mut(&key) else { return NowUs::NEVER };
        let (id, class) = (key.id, key.class);
        if !flight.is_whole() {
            let end = flight.last + GATHER_TIMEOUT_US;
            if now >= end {
                let peer = flight.first_from;
                self.remove(key);
                self.counts.failed += 1;
                let why = FailReason::TimedOut;
                self.push_event(ObjectEvent::Failed { id, class, peer, why });
                return NowUs::NEVER;
            }
            let mut due = flight.nack_due(links);
            if due.is_some_and(|due| now >= due) {
                let target = flight.nack_target().expect("a request that is due has a target");
                flight.nacks += 1;
                flight.nacked = now;
                due = flight.nack_due(links);
                self.push_control(target, Control::Nack { key });
            }
            return due.unwrap_or(NowUs::NEVER).min(end);
        }
        let mut next = NowUs::NEVER;
        let mut failed = Vec::new();
        for transfer in flight.transfers.iter_mut().filter(|transfer| !transfer.is_stopped()) {
            if transfer.probe <= now && !transfer.has_work() {
                if transfer.probes == PROBES_MAX {
                    transfer.stop();
                    failed.push(transfer.peer());
                    continue;
                }
                transfer.ask(&flight.shape);
                transfer.probe = NowUs::NEVER;
                wake(&mut self.peers, key, transfer.peer());
            }
            next = next.min(transfer.probe);
        }
        let idle = flight.transfers.iter().all(Transfer::is_stopped);
        let end = flight.last + LINGER_US;
        let over = idle && now >= end;
        let own = flight.own;
        for peer in failed.into_iter().filter(|_| own) {
            let why = FailReason::Unanswered;
            self.counts.failed += 1;
            self.push_event(ObjectEvent::Failed { id, class, peer: Some(peer), why });
        }
        if over {
            self.remove(key);
            return NowUs::NEVER;
        }
        if idle { next.min(end) } else { next }
    }

    /// Forgets an object and gives its memory back.
    fn remove(&mut self, key: Key) {
        let Some(flight) = self.flights.remove(&key) else { return };
        self.counts.bytes -= flight.cost_bytes;
        self.release(&flight);
    }

    /// Takes an object that is gathered off the account of the peer that began it.
    fn release(&mut self, flight: &Flight) {
        if let Some(payer) = flight.payer
            && let Some(peer) = self.peer(payer)
        {
            peer.bytes -= flight.cost_bytes;
            peer.incomplete -= 1;
        }
    }

    /// Makes room for one more object of this size, at the cost of whole ones that nobody waits for, then of whole ones,
    /// then of ones that have been silent; oldest first. False when that is not enough.
    fn make_room(&mut self, bytes: usize, now: NowUs) -> bool {
        /// An object in the making is safe for this long after its last symbol.
        const SAFE_US: u64 = 5_000_000;
        while self.counts.bytes + bytes > self.config.bytes_max
            || self.flights.len() >= self.config.objects_max
        {
            let rank = |flight: &Flight| match flight.is_whole() {
                true => u8::from(!flight.transfers.iter().all(Transfer::is_stopped)),
                false => 2,
            };
            let victim = self
                .flights
                .iter()
                .filter(|(_, flight)| flight.is_whole() || now.since(flight.last) >= SAFE_US)
                .min_by_key(|(key, flight)| (rank(flight), flight.last, **key))
                .map(|(key, flight)| (*key, rank(flight)));
            let Some((key, rank)) = victim else { return false };
            self.remove(key);
            if rank > 0 {
                self.counts.evicted += 1;
                let (id, class, why) = (key.id, key.class, FailReason::Evicted);
                self.push_event(ObjectEvent::Failed { id, class, peer: None, why });
            }
        }
        true
    }
}

/// Puts an object into the queue of a peer it has something for.
fn wake(peers: &mut [Option<Peer>], key: Key, peer: PeerId) {
    let Some(peer) = peers.get_mut(peer.index()).and_then(Option::as_mut) else { return };
    let queue = &mut peer.ready[priority(key.class) as usize];
    if !queue.contains(&key) {
        queue.push_back(key);
    }
}
