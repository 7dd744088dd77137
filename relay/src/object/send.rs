//! What a host's object becomes: plain, packed, or named; one object or three.
//!
//! In: a payload and whom it is for. Out: objects in flight. A block is announced by its header; a block with transactions is
//! a sketch that names them and a body of which peers know most; a subtree is a list of names where that is smaller.

use super::content::Content;
use super::flight::{Flight, Key, State, urgency};
use super::head::{Form, Part};
use super::proofs::Proofs;
use super::recent::Recent;
use super::transfer::Transfer;
use super::{
    HEAD_LEN, LINGER_US, MISS_COMPACT_MAX, ObjectEvent, Objects, ObjectsConfig, Peer, SendError,
    WAN_RTT_US, WARM_AFTER_US, wake,
};
use crate::compact::{Bundle, block, pack, salt_after, subtree};
use crate::peer::{LinkView, PeerId};
use crate::time::NowUs;
use crate::wire::{Class, ObjectId};
use consensus::header::Header;
use std::sync::Arc;

/// One object to be sent.
pub(super) struct Cargo {
    pub class: Class,
    pub form: Form,
    /// Bytes of the payload in plain form.
    pub raw_len: usize,
    /// The payload is what stands here from `start` on.
    pub bytes: Arc<[u8]>,
    pub start: usize,
    /// The id, where it is not the object's hash; and which part of a block it is.
    pub id: Option<ObjectId>,
    pub part: Part,
    /// The id under which the host wants to know what becomes of it.
    pub reports: Option<ObjectId>,
    /// The plain form, for peers that cannot do with this one.
    pub plain: Option<Arc<[u8]>>,
    /// How often it may be passed on.
    pub hops: u8,
    /// Meant for every peer, later ones too.
    pub to_all: bool,
    /// Its symbols carry our proof.
    pub proved: bool,
}

impl Cargo {
    pub(super) fn plain(class: Class, bytes: Arc<[u8]>, hops: u8, to_all: bool) -> Self {
        Self {
            class,
            form: Form::Plain,
            raw_len: bytes.len(),
            bytes,
            start: 0,
            id: None,
            part: Part::Main,
            reports: None,
            plain: None,
            hops,
            to_all,
            proved: false,
        }
    }
}

impl Objects {
    /// Sends the host's bytes to these peers, or to all. A block's header goes ahead of it as an object of its own.
    ///
    /// What was sent or received before keeps its id and is not sent again, unless peers are named: the host knows that they lack it.
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
        let got = bytes.len();
        if got > expected {
            return Err(SendError::TooLarge { got, expected });
        }
        let up = links.up().map(|(peer, _)| peer);
        let peers: Vec<PeerId> = match to {
            Some(some) => up.filter(|peer| some.contains(peer)).collect(),
            None => up.collect(),
        };
        if peers.is_empty() {
            return Err(SendError::NoPeer);
        }
        let mut cargo = Cargo::plain(class, bytes, self.config.hops, to.is_none());
        match class {
            Class::Header | Class::Block => {
                return self.send_block(cargo, &peers, links, now);
            }
            Class::Subtree => {
                let Some((root, _)) = subtree::split(&cargo.bytes) else {
                    return Err(SendError::Malformed { class, got });
                };
                self.recent.deliver(root);
                let salt = salt_after(self.gate.tip());
                let named = match self.config.compact {
                    true => subtree::name(&cargo.bytes, salt, &mut *self.lookups.txs),
                    false => None,
                };
                if let Some(named) = named {
                    cargo.form = Form::Names;
                    cargo.plain = Some(std::mem::replace(&mut cargo.bytes, named.into()));
                }
            }
            Class::Bundle => {
                if Bundle::parse(&cargo.bytes).is_err() {
                    return Err(SendError::Malformed { class, got });
                }
                let is_far = peers.iter().any(|peer| links.get(*peer).rtt_us >= WAN_RTT_US);
                if self.config.lz4
                    && is_far
                    && let Some(packed) = pack(&cargo.bytes)
                {
                    cargo.form = Form::Lz4;
                    cargo.bytes = packed.into();
                }
            }
            Class::Opaque => {}
        }
        cargo.proved = self.origins.signs();
        self.launch(cargo, &peers, links, now)
    }

    fn send_block(
        &mut self,
        mut cargo: Cargo,
        peers: &[PeerId],
        links: &LinkView,
        now: NowUs,
    ) -> Result<ObjectId, SendError> {
        let (class, got) = (cargo.class, cargo.bytes.len());
        let header = cargo.bytes.first_chunk::<{ Header::BYTES }>().copied();
        let Some(header) = header.filter(|_| class == Class::Block || got == Header::BYTES) else {
            return Err(SendError::NoHeader { class, got });
        };
        let id = self.gate.admit_own(&header, &mut *self.lookups.headers);
        self.warm_after(&header, now);
        cargo.id = Some(id);
        cargo.reports = Some(id);
        if class == Class::Header {
            return self.launch(cargo, peers, links, now);
        }
        if block::is_outline(&cargo.bytes) && block::Outline::read(&cargo.bytes).is_none() {
            return Err(SendError::Malformed { class, got });
        }
        let mut first =
            Cargo::plain(Class::Header, Arc::from(header), self.config.hops, cargo.to_all);
        first.id = Some(id);
        self.launch(first, peers, links, now)?;
        self.recent.deliver(&consensus::hash::sha256d(&header));
        let sketch = match self.config.compact && !block::is_outline(&cargo.bytes) {
            true => block::sketch(&cargo.bytes, &self.hasher),
            false => None,
        };
        let Some((mut sketch, body)) = sketch else {
            cargo.proved = self.origins.signs();
            return self.launch(cargo, peers, links, now);
        };
        let (body_content, hash) = Content::cut(
            Class::Block,
            Form::Body,
            body.len() as u32,
            cargo.bytes.clone(),
            body.start,
            false,
            &self.hasher,
        );
        block::set_body_hash(&mut sketch, &hash);
        let mut names = Cargo::plain(Class::Block, sketch.into(), self.config.hops, cargo.to_all);
        names.form = Form::Sketch;
        names.raw_len = got;
        names.id = Some(id);
        names.plain = Some(cargo.bytes.clone());
        self.launch(names, peers, links, now)?;
        cargo.id = Some(Part::Body.id(id));
        cargo.part = Part::Body;
        cargo.form = Form::Body;
        self.launch_content(cargo, body_content, hash, peers, links, now)?;
        Ok(id)
    }

    /// The names of the next block will be made with this header's salt: its index is made when there is time.
    pub(super) fn warm_after(&mut self, header: &[u8; 80], now: NowUs) {
        let hash = consensus::hash::sha256d(header);
        let at = now + WARM_AFTER_US;
        self.warm = Some((at, salt_after(&hash)));
        self.due = self.due.min(at);
    }

    /// Puts an object into flight to these peers.
    pub(super) fn launch(
        &mut self,
        cargo: Cargo,
        peers: &[PeerId],
        links: &LinkView,
        now: NowUs,
    ) -> Result<ObjectId, SendError> {
        let (content, hash) = Content::cut(
            cargo.class,
            cargo.form,
            cargo.raw_len as u32,
            cargo.bytes.clone(),
            cargo.start,
            cargo.proved,
            &self.hasher,
        );
        self.launch_content(cargo, content, hash, peers, links, now)
    }

    fn launch_content(
        &mut self,
        cargo: Cargo,
        content: Content,
        hash: [u8; 32],
        peers: &[PeerId],
        links: &LinkView,
        now: NowUs,
    ) -> Result<ObjectId, SendError> {
        let Cargo { class, form, part, plain, hops, to_all, .. } = cargo;
        let id = cargo.id.unwrap_or(ObjectId::of_hash(&hash));
        let reports = match class {
            Class::Header | Class::Block => cargo.reports,
            Class::Subtree | Class::Bundle | Class::Opaque => Some(cargo.reports.unwrap_or(id)),
        };
        let key = Key { id, class, from: None };
        if let Some(flight) = self.flights.get_mut(&key) {
            Self::join(&mut self.peers, &self.recent, key, flight, peers, &self.config, links);
            return Ok(id);
        }
        if to_all && self.recent.finished(id, class).is_some() && part != Part::Whole {
            return Ok(id);
        }
        let shape = *content.shape();
        debug_assert!(!shape.is_proved() || self.origins.signs(), "a proof without a key");
        let cost = Flight::whole_bytes(&shape);
        if !self.make_room(cost, now) {
            let (objects, bytes) = (self.flights.len(), self.counts.bytes);
            return Err(SendError::Full { objects, bytes });
        }
        let whole = State::Whole(Box::new(content));
        let mut flight = Flight::new(shape, whole, Some(hops), cost, now);
        flight.reports = reports;
        flight.to_all = to_all;
        flight.urgency = urgency(class, part);
        flight.form = Some(form);
        flight.is_body = part == Part::Body;
        flight.plain = plain;
        flight.proofs = shape.is_proved().then(|| Proofs::new(shape.groups()));
        self.recent.finish(id, class, shape.object_len());
        Self::join(&mut self.peers, &self.recent, key, &mut flight, peers, &self.config, links);
        self.counts.bytes += cost;
        self.counts.sent += u64::from(flight.reports.is_some());
        let had: Vec<PeerId> = flight
            .transfers
            .iter()
            .filter(|transfer| transfer.is_stopped())
            .map(Transfer::peer)
            .collect();
        self.flights.insert(key, flight);
        self.due = self.due.min(now + LINGER_US);
        for peer in had {
            // The peer had it from somebody else before we did.
            if let Some(id) = reports {
                self.push_event(ObjectEvent::Delivered { id, class, peer });
            }
        }
        Ok(id)
    }

    /// Adds transfers of an object to these peers, striped over them.
    pub(super) fn join(
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
            let loss = links.get(*peer).loss;
            let parity = flight.parity_for(loss);
            let seed = config.seed ^ key.id.0;
            let mut transfer = Transfer::new(*peer, &flight.shape, parity, seed);
            transfer.roots_for(loss);
            let miss = peers[peer.index()].as_ref().map_or(1.0, |peer| peer.miss);
            if flight.is_body && miss <= MISS_COMPACT_MAX {
                transfer.parity_first(Flight::parity_first_for(&flight.shape, miss, loss));
            }
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
            wake(peers, key, flight.urgency, &transfer);
            flight.transfers.push(transfer);
        }
    }
}
