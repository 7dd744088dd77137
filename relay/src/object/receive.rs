//! What each frame does: symbols are admitted, kept, passed on; requests are served within their quota; silence is kept.
//!
//! In: an authenticated frame and the peer that sent it. Out: state, or the reason why the frame was thrown away. Every check
//! that can refuse stands before the first allocation.

use super::assembly::{Assembly, Put};
use super::flight::{Flight, Key, QUIET_US_MIN, State, urgency};
use super::gate::{Gate, HEADER_OBJECT_LEN};
use super::head::{Form, HEAD_LEN, Part, block_id};
use super::proofs::Proofs;
use super::send::Cargo;
use super::shape::Shape;
use super::transfer::Transfer;
use super::{
    Control, FailReason, ObjectEvent, Objects, STRANGE_ROOTS_MAX, STRANGE_ROOTS_US, wake, want,
};
use crate::drops::DropReason;
use crate::origin::{ROOT_ID_LEN, RootOf, SignedRoot, Tree, parity_below};
use crate::peer::{LinkView, PeerId};
use crate::time::NowUs;
use crate::wire::{Class, Code, Data, DataFields, Frame, Nack, ObjectId, Root, Stop, Want, flags};
use std::sync::Arc;

impl Objects {
    /// Takes an authenticated frame.
    pub fn on_frame(
        &mut self,
        peer: PeerId,
        frame: &Frame<'_>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        if self.peer(peer).is_none() {
            return Err(DropReason::PeerUnknown);
        }
        match frame {
            Frame::Data(data) => self.on_data(peer, data, links, now),
            Frame::Nack(nack) => self.on_nack(peer, nack, links, now),
            Frame::Stop(stop) => self.on_stop(peer, stop, now),
            Frame::Want(want) => self.on_want(peer, want, links, now),
            Frame::Root(root) => self.on_root(peer, root, now),
        }
    }

    fn on_data(
        &mut self,
        peer: PeerId,
        data: &Data<'_>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let trusted = links.get(peer).trusted;
        let shape = Shape::of_packet(data).ok_or(DropReason::ShapeWrong)?;
        let proof_len = shape.proof_len(data.fields.group);
        let last = shape.k(data.fields.group) + shape.parity_max(data.fields.group);
        if data.fields.code != Code::Rs8
            || data.payload.len() != shape.symbol_len() + proof_len
            || usize::from(data.fields.symbol) >= last
        {
            return Err(DropReason::ShapeWrong);
        }
        let (symbol, proof) = data.payload.split_at(shape.symbol_len());
        // What carries the origin's proof may come from anybody.
        let free = trusted || shape.is_proved();
        let key =
            Key { id: data.fields.object, class: data.fields.class, from: (!free).then_some(peer) };
        if self.is_finished(peer, key, &shape, data, now) {
            self.counts.symbols_useless += 1;
            return Err(DropReason::ObjectDone);
        }
        match self.flights.get(&key) {
            // Two forms of one block have one id; the first one goes on.
            Some(flight) if flight.shape != shape && key.class == Class::Block => {
                return Err(DropReason::SymbolKnown);
            }
            Some(flight) if flight.shape != shape => return Err(DropReason::ShapeDiffers),
            Some(_) => {}
            None => {
                if shape.is_proved() {
                    self.check_proof(&shape, data, symbol, proof)?;
                }
                self.begin(peer, key, &shape, data, links, now)?;
            }
        }
        let Some(flight) = self.flights.get_mut(&key) else {
            // A block's symbol that waits for its header.
            return Ok(());
        };
        if let Some(proofs) = &mut flight.proofs {
            if !proofs.has(data.fields.group) {
                let what = root_of(&shape, data);
                let root = self.roots.get(&what).ok_or(DropReason::ObjectUnknown)?;
                proofs.expect(data.fields.group, usize::from(what.leaves), root);
            }
            let way = proof.get(ROOT_ID_LEN..).unwrap_or_default();
            if !proofs.proves(data.fields.group, data.fields.symbol, symbol, way) {
                return Err(DropReason::OriginWrong);
            }
        }
        let State::Gathering(assembly) = &mut flight.state else {
            return Err(DropReason::ObjectDone);
        };
        let put = assembly.put(
            data.fields.group,
            data.fields.symbol,
            symbol,
            self.code,
            &mut self.scratch,
        );
        let whole = assembly.is_whole();
        if let Some(transfer) = flight.transfer(peer) {
            transfer.credit(data.fields.group, data.fields.symbol);
            if data.fields.flags & flags::HAVE_ALL != 0 {
                transfer.stop();
            }
        }
        if put == Put::Known {
            self.counts.symbols_useless += 1;
            return Err(DropReason::SymbolKnown);
        }
        self.counts.symbols_useful += 1;
        flight.parity_hint = flight.parity_hint.max(data.fields.parity.min(255));
        flight.note_source(peer, now);
        flight.hops = flight.hops.max(data.fields.hops_left.checked_sub(1));
        if free && flight.hops.is_some() {
            for transfer in &mut flight.transfers {
                if put == Put::Decoded {
                    transfer.offer_group(data.fields.group);
                }
                transfer.offer(data.fields.group, data.fields.symbol);
                wake(&mut self.peers, key, flight.urgency, transfer);
            }
        }
        if whole {
            return self.complete(key, links, now);
        }
        // Nothing is due sooner than this, so what is due by then finds this object, too.
        if self.due > now + QUIET_US_MIN
            && let Some(due) = self.flights.get(&key).and_then(|flight| flight.nack_due(links))
        {
            self.due = self.due.min(due);
        }
        Ok(())
    }

    /// Whether an object needs no more symbols; tells the peer so.
    fn is_finished(
        &mut self,
        peer: PeerId,
        key: Key,
        shape: &Shape,
        data: &Data<'_>,
        now: NowUs,
    ) -> bool {
        let shared = Key { from: None, ..key };
        let len = match self.flights.get_mut(&shared) {
            Some(flight) if flight.is_whole() => {
                if flight.shape == *shape
                    && let Some(transfer) = flight.transfer(peer)
                {
                    transfer.credit(data.fields.group, data.fields.symbol);
                }
                flight.shape.object_len()
            }
            Some(_) => return false,
            None => match self.recent.finished(key.id, key.class) {
                Some(len) => len,
                None => return false,
            },
        };
        if self.flights.get(&shared).is_some_and(|flight| flight.want.is_some()) {
            return true;
        }
        self.answer(peer, flags::HAVE_ALL, key.id, len, now);
        true
    }

    /// Checks the proof of the first symbol of an object, before there is an object.
    fn check_proof(
        &self,
        shape: &Shape,
        data: &Data<'_>,
        symbol: &[u8],
        proof: &[u8],
    ) -> Result<(), DropReason> {
        let what = root_of(shape, data);
        let signed = self.roots.get(&what).ok_or(DropReason::ObjectUnknown)?;
        let mut tree = Tree::of_root(signed.root, usize::from(what.leaves));
        match tree.proves(data.fields.symbol, symbol, &proof[ROOT_ID_LEN..]) {
            true => Ok(()),
            false => Err(DropReason::OriginWrong),
        }
    }

    /// Takes the signed root of a group, if an origin that counts has signed it.
    fn on_root(&mut self, peer: PeerId, root: &Root<'_>, now: NowUs) -> Result<(), DropReason> {
        let what = RootOf {
            object: root.object,
            object_len: root.object_len,
            group: root.group,
            leaves: root.leaves,
        };
        if root.leaves < 2 {
            return Err(DropReason::FrameMalformed);
        }
        if self.roots.get(&what).is_some_and(|known| known.root == *root.root) {
            return Err(DropReason::SymbolKnown);
        }
        let account = self.peer(peer).expect("frames come from known peers");
        if now.since(account.strange_roots.0) >= STRANGE_ROOTS_US {
            account.strange_roots = (now, 0);
        }
        if account.strange_roots.1 >= STRANGE_ROOTS_MAX {
            return Err(DropReason::ObjectUnknown);
        }
        if !self.origins.is_signed(&what, root.root, root.signature) {
            // An honest peer passes on what origins made that do not count here.
            self.counts.roots_refused += 1;
            let account = self.peer(peer).expect("frames come from known peers");
            account.strange_roots.1 += 1;
            self.answer(peer, flags::REFUSED, root.object, root.object_len, now);
            return Err(DropReason::ObjectUnknown);
        }
        self.counts.roots_taken += 1;
        self.roots.add(what, SignedRoot { root: *root.root, signature: *root.signature });
        Ok(())
    }

    /// Says something about an object to a peer, unless it was said a moment ago.
    pub(super) fn answer(&mut self, peer: PeerId, flags: u8, id: ObjectId, len: u32, now: NowUs) {
        if self.recent.may_answer(peer, id, flags, now) {
            self.push_control(peer, Control::Stop { flags, id, len });
        }
    }

    /// Decides whether an object may begin, and begins it.
    fn begin(
        &mut self,
        peer: PeerId,
        key: Key,
        shape: &Shape,
        data: &Data<'_>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let (id, len) = (key.id, shape.object_len());
        if len > self.config.object_bytes_max || (len as usize) <= HEAD_LEN {
            self.answer(peer, flags::REFUSED, id, len, now);
            return Err(DropReason::ObjectTooLarge);
        }
        if key.class == Class::Header {
            if len != HEADER_OBJECT_LEN {
                return Err(DropReason::ShapeWrong);
            }
            let header = Gate::header_of(data).ok_or(DropReason::ShapeWrong)?;
            let admitted = self.gate.admit(&header, key.from.is_none(), &mut *self.lookups.headers);
            if admitted == Err(DropReason::ParentUnknown) {
                self.gate.wait_for_parent(peer, data, now);
            }
            if admitted? != id {
                return Err(DropReason::HashWrong);
            }
        } else if key.class == Class::Block
            && self.gate.part(id).is_none()
            && !self.admit_by_first(peer, key, data, links, now)
        {
            let kept_all = self.gate.wait(peer, data, now);
            self.due = self.due.min(now + QUIET_US_MIN);
            return if kept_all { Ok(()) } else { Err(DropReason::HeaderNotYet) };
        }
        self.begin_flight(peer, key, shape, data.fields.hops_left.checked_sub(1), links, now)?;
        if let Some((block, Part::Body)) = self.gate.part(id).filter(|_| key.class == Class::Block)
        {
            self.prefill(block, key.from, links, now)?;
        }
        if key.class == Class::Block {
            self.let_in(id, links, now);
        }
        Ok(())
    }

    /// A block starts with its header: where the header's own packets were lost, the block's first symbol lets it in, and the header
    /// goes on to others from here.
    fn admit_by_first(
        &mut self,
        peer: PeerId,
        key: Key,
        data: &Data<'_>,
        links: &LinkView,
        now: NowUs,
    ) -> bool {
        let DataFields { object, group, symbol, hops_left, .. } = data.fields;
        let header = data.payload.get(HEAD_LEN..).and_then(|rest| rest.first_chunk::<80>());
        let Some(header) = header.filter(|header| block_id(header) == object) else { return false };
        let trusted = key.from.is_none();
        if group > 0
            || symbol > 0
            || self.gate.admit(header, trusted, &mut *self.lookups.headers).is_err()
        {
            return false;
        }
        self.warm_after(header, now);
        let bytes: Arc<[u8]> = Arc::from(&header[..]);
        if let Some(hops) = hops_left.checked_sub(1) {
            let others: Vec<PeerId> =
                links.up().map(|(other, _)| other).filter(|other| *other != peer).collect();
            let cargo = Cargo {
                id: Some(object),
                ..Cargo::plain(Class::Header, bytes.clone(), hops, true)
            };
            // Without room the block itself will not get far either.
            let _ = self.launch(cargo, &others, links, now);
        }
        self.recent.finish(object, Class::Header, HEADER_OBJECT_LEN);
        self.counts.received += 1;
        self.push_event(ObjectEvent::Received {
            id: object,
            class: Class::Header,
            bytes,
            from: peer,
            took_us: 0,
        });
        true
    }

    /// Begins an object on the account of a peer, within its limits.
    pub(super) fn begin_flight(
        &mut self,
        peer: PeerId,
        key: Key,
        shape: &Shape,
        hops: Option<u8>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let cost = Flight::gathering_bytes(shape);
        let config = self.config;
        let account = self.peer(peer).expect("objects begin with known peers");
        let most = match links.get(peer).trusted {
            true => config.incomplete_max,
            false => config.incomplete_untrusted_max,
        };
        if account.incomplete >= most {
            return Err(DropReason::ObjectsInFlight);
        }
        if account.bytes + cost > config.bytes_per_peer_max || !self.make_room(cost, now) {
            return Err(DropReason::MemoryFull);
        }
        let account = self.peer(peer).expect("objects begin with known peers");
        account.incomplete += 1;
        account.bytes += cost;
        self.counts.bytes += cost;
        let part = match key.class {
            Class::Block => self.gate.part(key.id).map_or(Part::Main, |(_, part)| part),
            _ => Part::Main,
        };
        let state = State::Gathering(Box::new(Assembly::new(*shape, self.hasher)));
        let mut flight = Flight::new(*shape, state, hops, cost, now);
        flight.payer = Some(peer);
        flight.first_from = Some(peer);
        flight.urgency = urgency(key.class, part);
        flight.is_body = part == Part::Body;
        flight.proofs = shape.is_proved().then(|| Proofs::new(shape.groups()));
        if key.from.is_none() && flight.hops.is_some() {
            let up: Vec<PeerId> = links.up().map(|(peer, _)| peer).collect();
            Self::join(&mut self.peers, &self.recent, key, &mut flight, &up, &config, links);
        }
        self.flights.insert(key, flight);
        self.due = self.due.min(now + super::GATHER_TIMEOUT_US);
        Ok(())
    }

    /// Takes the symbols of a block that waited for this header.
    pub(super) fn let_in(&mut self, block: ObjectId, links: &LinkView, now: NowUs) {
        while let Some(waiting) = self.gate.next_waiting(block) {
            let Some(fields) = waiting.fields else { return };
            let data = Data { fields, payload: waiting.payload() };
            if self.peer(waiting.peer).is_some() {
                // Nobody is told about a symbol that turns out useless now: its sender may have changed since.
                let _ = self.on_data(waiting.peer, &data, links, now);
            }
        }
        // As deep as headers wait, and no deeper: each is taken out before it is looked at.
        while let Some(child) = self.gate.next_child(block) {
            let Some(fields) = child.fields else { return };
            if self.peer(child.peer).is_some() {
                let data = Data { fields, payload: child.payload() };
                let _ = self.on_data(child.peer, &data, links, now);
            }
        }
    }

    fn on_nack(
        &mut self,
        peer: PeerId,
        nack: &Nack<'_>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        self.counts.nacks_received += 1;
        let row = links.get(peer);
        let key = self.keys_of(nack.object).find(|key| {
            key.from.is_none() && self.flights[key].shape.object_len() == nack.object_len
        });
        let Some(key) = key else { return Err(DropReason::ObjectUnknown) };
        let flight = self.flights.get_mut(&key).expect("its key was just found");
        let shape = flight.shape;
        let can: Vec<bool> = nack
            .entries()
            .map(|entry| usize::from(entry.group) < shape.groups() && flight.can_mint(entry.group))
            .collect();
        let spare = flight.spare();
        let Some(transfer) = flight.transfer(peer) else { return Err(DropReason::ObjectUnknown) };
        if !transfer.open_nack(now, u64::from(row.rtt_us) / 2) {
            return Err(DropReason::NackQuota);
        }
        for (entry, can) in nack.entries().zip(can) {
            if usize::from(entry.group) >= shape.groups() {
                return Err(DropReason::ShapeWrong);
            }
            if can {
                transfer.repair(&shape, entry.group, entry.need, row.loss, spare);
            }
        }
        transfer.probe = NowUs::NEVER;
        transfer.probes = 0;
        if let Some(transfer) = flight.transfers.iter().find(|transfer| transfer.peer() == peer) {
            wake(&mut self.peers, key, flight.urgency, transfer);
        }
        Ok(())
    }

    fn on_want(
        &mut self,
        peer: PeerId,
        asked: &Want<'_>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let key = self
            .keys_of(asked.object)
            .find(|key| key.from.is_none() && matches!(key.class, Class::Block | Class::Subtree));
        let key = key.ok_or(DropReason::ObjectUnknown)?;
        match (asked.form, asked.body) {
            (want::PLAIN, []) => self.send_plain(peer, key, links, now),
            (want::MISSES, &[low, high]) => {
                let miss = f32::from(u16::from_le_bytes([low, high]).min(1_000)) / 1_000.0;
                let loss = links.get(peer).loss;
                if let Some(at) = self.peer(peer) {
                    // A block in three counts: what a peer knows changes slowly, but it restarts at once.
                    at.miss += (miss - at.miss) / 3.0;
                }
                let flight = self.flights.get_mut(&key).expect("its key was just found");
                let (shape, is_body) = (flight.shape, flight.is_body);
                if let Some(transfer) = flight.transfer(peer).filter(|_| is_body) {
                    transfer.parity_first(Flight::parity_first_for(&shape, miss, loss));
                }
                if let Some(at) = flight.transfers.iter().find(|at| at.peer() == peer) {
                    wake(&mut self.peers, key, flight.urgency, at);
                }
                Ok(())
            }
            _ => Err(DropReason::FrameMalformed),
        }
    }

    /// Sends the plain form of an object to a peer that cannot do with another one.
    fn send_plain(
        &mut self,
        peer: PeerId,
        key: Key,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let body = Key { id: Part::Body.id(key.id), ..key };
        let is_block = key.class == Class::Block;
        let flight = self.flights.get_mut(&key).expect("its key was just found");
        let bytes = flight.plain.clone().ok_or(DropReason::ObjectUnknown)?;
        let mut reports = flight.reports;
        flight.transfer(peer).map(Transfer::stop);
        if let Some(flight) = self.flights.get_mut(&body).filter(|_| is_block) {
            reports = reports.or(flight.reports);
            flight.transfer(peer).map(Transfer::stop);
        }
        let cargo = Cargo {
            class: key.class,
            form: Form::Plain,
            raw_len: bytes.len(),
            bytes,
            start: 0,
            id: is_block.then_some(Part::Whole.id(key.id)),
            part: if is_block { Part::Whole } else { Part::Main },
            reports,
            plain: None,
            // Whoever else lacks it asks for itself.
            hops: 0,
            to_all: false,
            proved: false,
        };
        match self.launch(cargo, &[peer], links, now) {
            Ok(_) => Ok(()),
            Err(_) => Err(DropReason::MemoryFull),
        }
    }

    fn on_stop(&mut self, peer: PeerId, stop: &Stop<'_>, now: NowUs) -> Result<(), DropReason> {
        let all = stop.flags & (flags::HAVE_ALL | flags::REFUSED) != 0;
        let keys: Vec<Key> = self
            .keys_of(stop.object)
            .filter(|key| {
                stop.object_len == 0 || self.flights[key].shape.object_len() == stop.object_len
            })
            .collect();
        if keys.is_empty() {
            if stop.flags & flags::HAVE_ALL != 0 {
                self.recent.early(peer, stop.object, stop.object_len);
            }
            return Err(DropReason::ObjectUnknown);
        }
        for key in keys {
            let flight = self.flights.get_mut(&key).expect("its key was just listed");
            let (shape, reports) = (flight.shape, flight.reports);
            let Some(transfer) = flight.transfer(peer) else { continue };
            if !all {
                let groups = stop.groups.iter();
                for group in groups.filter(|group| usize::from(*group) < shape.groups()) {
                    transfer.stop_group(&shape, group);
                }
                continue;
            }
            if transfer.is_stopped() {
                continue;
            }
            transfer.stop();
            flight.last = flight.last.max(now);
            if flight.is_whole() {
                self.due = self.due.min(now + super::LINGER_US);
            }
            let Some(id) = reports else { continue };
            let class = key.class;
            if stop.flags & flags::HAVE_ALL != 0 {
                self.push_event(ObjectEvent::Delivered { id, class, peer });
            } else {
                self.counts.failed += 1;
                let why = FailReason::Refused;
                self.push_event(ObjectEvent::Failed { id, class, peer: Some(peer), why });
            }
        }
        Ok(())
    }

    /// The flights with this id.
    pub(super) fn keys_of(&self, id: ObjectId) -> impl Iterator<Item = Key> + '_ {
        let first = Key { id, class: Class::Header, from: None };
        self.flights.range(first..).map(|(key, _)| *key).take_while(move |key| key.id == id)
    }
}

/// Which root a symbol is below.
fn root_of(shape: &Shape, data: &Data<'_>) -> RootOf {
    let k = shape.k(data.fields.group);
    RootOf {
        object: data.fields.object,
        object_len: data.fields.object_len,
        group: data.fields.group,
        leaves: (k + parity_below(k)) as u8,
    }
}
