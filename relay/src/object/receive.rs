//! What each frame does: symbols are admitted, kept, passed on; requests are served within their quota; silence is kept.
//!
//! In: an authenticated frame and the peer that sent it. Out: state, or the reason why the frame was thrown away. Every check
//! that can refuse stands before the first allocation.

use super::assembly::{Assembly, Put};
use super::content::Content;
use super::flight::{Flight, Key, State};
use super::gate::{Gate, HEADER_OBJECT_LEN};
use super::head::{Form, HEAD_LEN};
use super::shape::Shape;
use super::{Control, FailReason, ObjectEvent, Objects, wake};
use crate::drops::DropReason;
use crate::peer::{LinkView, PeerId};
use crate::time::NowUs;
use crate::wire::{Class, Code, Data, Frame, Nack, ObjectId, Stop, flags};
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
            Frame::Want(_) | Frame::Root(_) => Err(DropReason::ObjectUnknown),
        }
    }

    fn on_data(
        &mut self,
        peer: PeerId,
        data: &Data<'_>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let trusted = self.peer(peer).is_some_and(|peer| peer.info.trusted);
        let key = Key { id: data.object, class: data.class, from: (!trusted).then_some(peer) };
        let shape = Shape::of_packet(data).ok_or(DropReason::ShapeWrong)?;
        if data.code != Code::Rs8 || data.payload.len() != shape.symbol_len() {
            return Err(DropReason::ShapeWrong);
        }
        if self.is_finished(peer, key, &shape, data, now) {
            self.counts.symbols_useless += 1;
            return Err(DropReason::ObjectDone);
        }
        match self.flights.get(&key) {
            Some(flight) if flight.shape != shape => return Err(DropReason::ShapeDiffers),
            Some(_) => {}
            None => self.begin(peer, key, &shape, data, links, now)?,
        }
        let Some(flight) = self.flights.get_mut(&key) else {
            // A block's symbol that waits for its header.
            return Ok(());
        };
        let State::Gathering(assembly) = &mut flight.state else {
            return Err(DropReason::ObjectDone);
        };
        let put = assembly.put(data.group, data.symbol, data.payload, self.code, &mut self.scratch);
        let whole = assembly.is_whole();
        if let Some(transfer) = flight.transfer(peer) {
            transfer.credit(data.group, data.symbol);
            if data.flags & flags::HAVE_ALL != 0 {
                transfer.stop();
            }
        }
        if put == Put::Known {
            self.counts.symbols_useless += 1;
            return Err(DropReason::SymbolKnown);
        }
        self.counts.symbols_useful += 1;
        flight.parity_hint = flight.parity_hint.max(data.parity.min(255));
        flight.note_source(peer, now);
        flight.hops = flight.hops.max(data.hops_left.checked_sub(1));
        if trusted && flight.hops.is_some() {
            for transfer in &mut flight.transfers {
                if put == Put::Decoded {
                    transfer.offer_group(data.group);
                }
                transfer.offer(data.group, data.symbol);
                if transfer.has_work() {
                    wake(&mut self.peers, key, transfer.peer());
                }
            }
        }
        if whole {
            return self.complete(key, links, now);
        }
        if let Some(due) = self.flights.get(&key).and_then(|flight| flight.nack_due(links)) {
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
                    transfer.credit(data.group, data.symbol);
                }
                flight.shape.object_len()
            }
            Some(_) => return false,
            None => match self.recent.finished(key.id, key.class) {
                Some(len) => len,
                None => return false,
            },
        };
        self.answer(peer, flags::HAVE_ALL, key.id, len, now);
        true
    }

    /// Says something about an object to a peer, unless it was said a moment ago.
    fn answer(&mut self, peer: PeerId, flags: u8, id: ObjectId, len: u32, now: NowUs) {
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
            let admitted = self.gate.admit(&header, &mut *self.lookups.headers)?;
            if admitted != id {
                return Err(DropReason::HashWrong);
            }
        } else if key.class == Class::Block && !self.gate.has(id) {
            let kept_all = self.gate.wait(peer, data);
            return if kept_all { Ok(()) } else { Err(DropReason::HeaderNotYet) };
        }
        let cost = Flight::gathering_bytes(shape);
        let config = self.config;
        let account = self.peer(peer).expect("frames come from known peers");
        let most = match account.info.trusted {
            true => config.incomplete_max,
            false => config.incomplete_untrusted_max,
        };
        if account.incomplete >= most {
            return Err(DropReason::ObjectsInFlight);
        }
        if account.bytes + cost > config.bytes_per_peer_max || !self.make_room(cost, now) {
            return Err(DropReason::MemoryFull);
        }
        let account = self.peer(peer).expect("frames come from known peers");
        account.incomplete += 1;
        account.bytes += cost;
        self.counts.bytes += cost;
        let assembly = Assembly::new(*shape, self.hasher);
        let state = State::Gathering(Box::new(assembly));
        let mut flight = Flight::new(*shape, state, data.hops_left.checked_sub(1), cost, now);
        flight.payer = Some(peer);
        flight.first_from = Some(peer);
        if key.from.is_none() && flight.hops.is_some() {
            let up: Vec<PeerId> = links.up().map(|(peer, _)| peer).collect();
            Self::join(&mut self.peers, &self.recent, key, &mut flight, &up, &config, links);
        }
        self.flights.insert(key, flight);
        self.due = self.due.min(now + super::GATHER_TIMEOUT_US);
        Ok(())
    }

    /// Every group is decoded: proves the object, tells everybody, hands it to the host, and becomes a source of it.
    fn complete(&mut self, key: Key, links: &LinkView, now: NowUs) -> Result<(), DropReason> {
        let flight = self.flights.remove(&key).expect("an object that is whole is in flight");
        self.counts.bytes -= flight.cost_bytes;
        self.release(&flight);
        let Flight { state, shape, first, first_from, sources, .. } = flight;
        let State::Gathering(assembly) = state else {
            unreachable!("only what is gathered is completed")
        };
        let from = first_from.expect("an object that is gathered came from a peer");
        let proved = assembly.finish(key.class).filter(|(head, bytes, hash)| {
            head.hash == *hash
                && head.form == Form::Plain
                && head.raw_len as usize == bytes.len() - HEAD_LEN
                && self.is_named_rightly(key, hash, &bytes[HEAD_LEN..])
        });
        let Some((head, bytes, _)) = proved else {
            let sources: Vec<PeerId> = sources.iter().map(|source| source.peer).collect();
            return self.condemn(key, &sources, &shape, now);
        };
        let payload: Arc<[u8]> = Arc::from(&bytes[HEAD_LEN..]);
        drop(bytes);
        let shared = Key { from: None, ..key };
        let known = self.flights.get(&shared).is_some_and(Flight::is_whole)
            || self.recent.finished(key.id, key.class).is_some();
        if known {
            return Ok(());
        }
        let content = Content::with_head(shape, head, payload.clone());
        let whole = State::Whole(Box::new(content));
        let cost = Flight::whole_bytes(&shape);
        let mut served = Flight::new(shape, whole, flight.hops, cost, now);
        if key.from.is_none() {
            served.transfers = flight.transfers;
        } else if let Some(replaced) = self.flights.remove(&shared) {
            // An untrusted peer was first: what trusted ones have sent so far is not needed any more.
            self.counts.bytes -= replaced.cost_bytes;
            self.release(&replaced);
            served.transfers = replaced.transfers;
        }
        self.recent.finish(key.id, key.class, shape.object_len());
        self.counts.bytes += cost;
        self.counts.received += 1;

        let up: Vec<PeerId> = links.up().map(|(peer, _)| peer).collect();
        if served.hops.is_some() {
            for transfer in &mut served.transfers {
                transfer.offer_all(&shape);
                if transfer.has_work() {
                    wake(&mut self.peers, shared, transfer.peer());
                }
            }
            let others: Vec<PeerId> =
                up.iter().copied().filter(|peer| Some(*peer) != key.from).collect();
            let config = self.config;
            Self::join(&mut self.peers, &self.recent, shared, &mut served, &others, &config, links);
        }
        for peer in up {
            self.answer(peer, flags::HAVE_ALL, key.id, shape.object_len(), now);
        }
        self.flights.insert(shared, served);
        self.due = self.due.min(now + super::LINGER_US);
        let took_us = now.since(first);
        self.push_event(ObjectEvent::Object {
            id: key.id,
            class: key.class,
            bytes: payload,
            from,
            took_us,
        });
        if key.class == Class::Header {
            self.let_in(key.id, links, now);
        }
        Ok(())
    }

    /// Whether the id in the packets is the one the object must have.
    fn is_named_rightly(&self, key: Key, hash: &[u8; 32], payload: &[u8]) -> bool {
        match key.class {
            Class::Header | Class::Block => payload.first_chunk::<80>().is_some_and(|header| {
                self.gate.hash(key.id) == Some(&consensus::hash::sha256d(header))
            }),
            Class::Subtree | Class::Bundle | Class::Opaque => key.id == ObjectId::of_hash(hash),
        }
    }

    /// An object whose bytes do not have its hash. Whoever sent all of it alone is to blame.
    fn condemn(
        &mut self,
        key: Key,
        sources: &[PeerId],
        shape: &Shape,
        now: NowUs,
    ) -> Result<(), DropReason> {
        for peer in sources {
            self.answer(*peer, flags::REFUSED, key.id, shape.object_len(), now);
        }
        self.counts.failed += 1;
        let peer = if let [only] = sources { Some(*only) } else { None };
        let (id, class, why) = (key.id, key.class, FailReason::HashWrong);
        self.push_event(ObjectEvent::Failed { id, class, peer, why });
        if peer.is_some() { Err(DropReason::HashWrong) } else { Ok(()) }
    }

    /// Takes the symbols of a block that waited for this header.
    fn let_in(&mut self, block: ObjectId, links: &LinkView, now: NowUs) {
        while let Some(waiting) = self.gate.next_waiting(block) {
            let Some(fields) = waiting.fields else { return };
            let data = Data {
                flags: fields.flags,
                object: fields.object,
                object_len: fields.object_len,
                group: fields.group,
                symbol: fields.symbol,
                k: fields.k,
                code: fields.code,
                class: fields.class,
                hops_left: fields.hops_left,
                parity: fields.parity,
                payload: waiting.payload(),
            };
            if self.peer(waiting.peer).is_some() {
                // Nobody is told about a symbol that turns out useless now: its sender may have changed since.
                let _ = self.on_data(waiting.peer, &data, links, now);
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
        let Some(transfer) = flight.transfer(peer) else { return Err(DropReason::ObjectUnknown) };
        if !transfer.open_nack(now, u64::from(row.rtt_us) / 2) {
            return Err(DropReason::NackQuota);
        }
        for (entry, can) in nack.entries().zip(can) {
            if usize::from(entry.group) >= shape.groups() {
                return Err(DropReason::ShapeWrong);
            }
            if can {
                transfer.repair(&shape, entry.group, entry.need, row.loss);
            }
        }
        transfer.probe = NowUs::NEVER;
        transfer.probes = 0;
        if transfer.has_work() {
            wake(&mut self.peers, key, peer);
        }
        Ok(())
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
            let (shape, own) = (flight.shape, flight.own);
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
            if own && stop.flags & flags::HAVE_ALL != 0 {
                self.push_event(ObjectEvent::Delivered { id: key.id, class: key.class, peer });
            } else if own {
                self.counts.failed += 1;
                let (id, class, why) = (key.id, key.class, FailReason::Refused);
                self.push_event(ObjectEvent::Failed { id, class, peer: Some(peer), why });
            }
        }
        Ok(())
    }

    /// The flights with this id.
    fn keys_of(&self, id: ObjectId) -> impl Iterator<Item = Key> + '_ {
        let first = Key { id, class: Class::Header, from: None };
        self.flights.range(first..).map(|(key, _)| *key).take_while(move |key| key.id == id)
    }
}
