//! What a whole object becomes: proved, opened, handed over, served to others.
//!
//! In: an object whose groups are all decoded. Out: an event for the host, a request for the plain form, or a peer to blame.
//! The hash of the bytes is checked first, then what the class promises: a header's work, a merkle root, lengths that add up.

use super::content::Content;
use super::flight::{Flight, Key, State, Want};
use super::head::{Form, HEAD_LEN, Head, Part};
use super::shape::Shape;
use super::{Control, FailReason, LINGER_US, ObjectEvent, Objects, wake};
use crate::compact::block::{self, Outline, Sketch};
use crate::compact::subtree::{self, Unnamed};
use crate::compact::{Bundle, unpack};
use crate::drops::DropReason;
use crate::peer::{LinkView, PeerId};
use crate::time::NowUs;
use crate::wire::{Class, ObjectId, flags};
use std::borrow::Cow;
use std::sync::Arc;

/// What opening an object gave.
enum Opened<'a> {
    /// What the host gets.
    Ready(Cow<'a, [u8]>),
    /// A part of a block; what to do depends on the other part.
    Part,
    /// It names what is not known here.
    Wanting,
    /// No honest sender made it.
    Lie,
}

impl Objects {
    /// Every group is decoded: proves the object, tells everybody, hands it to the host, and becomes a source of it.
    pub(super) fn complete(
        &mut self,
        key: Key,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let flight = self.flights.remove(&key).expect("an object that is whole is in flight");
        self.counts.bytes -= flight.cost_bytes;
        self.release(&flight);
        let Flight { state, shape, first, first_from, sources, is_body, prefilled, .. } = flight;
        let State::Gathering(assembly) = state else {
            unreachable!("only what is gathered is completed")
        };
        let from = first_from.expect("an object that is gathered came from a peer");
        let part = match key.class {
            Class::Block => self.gate.part(key.id),
            _ => None,
        };
        let named = |objects: &Self, hash: &[u8; 32], payload: &[u8]| match (key.class, part) {
            (Class::Header, _) | (Class::Block, Some((_, Part::Main | Part::Whole))) => {
                let block = part.map_or(key.id, |(block, _)| block);
                let header = payload.first_chunk::<80>();
                header.is_some_and(|header| {
                    objects.gate.hash(block) == Some(&consensus::hash::sha256d(header))
                })
            }
            (Class::Block, other) => other.is_some(),
            (Class::Subtree | Class::Bundle | Class::Opaque, _) => {
                key.id == ObjectId::of_hash(hash)
            }
        };
        let proved = assembly.finish(key.class).filter(|(head, bytes, hash)| {
            head.hash == *hash && named(self, hash, &bytes[HEAD_LEN..])
        });
        let who: Vec<PeerId> = sources.iter().map(|source| source.peer).collect();
        let Some((head, bytes, _)) = proved else {
            if prefilled > 0
                && let Some((block, _)) = part
            {
                // Most likely a name led to another transaction: the block as it is, then.
                self.want_plain(Key { id: block, class: Class::Block, from: key.from }, now);
                return Ok(());
            }
            return self.condemn(key, &who, shape.object_len(), now);
        };
        let payload: Arc<[u8]> = Arc::from(&bytes[HEAD_LEN..]);
        drop(bytes);
        let opened = self.open(key, part.map(|(_, part)| part), &head, &payload);
        if matches!(opened, Opened::Lie) {
            return self.condemn(key, &who, shape.object_len(), now);
        }
        let ready = match &opened {
            Opened::Ready(Cow::Owned(raw)) => Some(Arc::from(&raw[..])),
            Opened::Ready(Cow::Borrowed(_)) => Some(payload.clone()),
            _ => None,
        };
        let wanting = matches!(opened, Opened::Wanting);
        drop(opened);

        let shared = Key { from: None, ..key };
        let known = self.flights.get(&shared).is_some_and(Flight::is_whole)
            || self.recent.finished(key.id, key.class).is_some();
        if known {
            return Ok(());
        }
        let content = Content::with_head(shape, head, payload, 0);
        let whole = State::Whole(Box::new(content));
        let cost = Flight::whole_bytes(&shape);
        let mut served = Flight::new(shape, whole, flight.hops, cost, now);
        served.first = first;
        served.first_from = Some(from);
        served.sources = sources;
        served.urgency = flight.urgency;
        served.form = Some(head.form);
        served.is_body = is_body;
        served.prefilled = prefilled;
        served.proofs = flight.proofs;
        served.plain = ready.clone().filter(|_| head.form == Form::Names);
        if key.from.is_none() {
            served.transfers = flight.transfers;
        } else if let Some(replaced) = self.flights.remove(&shared) {
            // An untrusted peer was first: what trusted ones have sent so far is not needed any more.
            self.counts.bytes -= replaced.cost_bytes;
            self.release(&replaced);
            served.transfers = replaced.transfers;
        }
        self.recent.finish(key.id, key.class, shape.object_len());
        // What untrusted peers have sent of it so far is not needed any more.
        let begun = |other: &Key| other.class == key.class && other.from.is_some();
        let begun: Vec<Key> = self.keys_of(key.id).filter(begun).collect();
        begun.into_iter().for_each(|other| self.remove(other));
        self.counts.bytes += cost;

        let up: Vec<PeerId> = links.up().map(|(peer, _)| peer).collect();
        if served.hops.is_some() {
            for transfer in &mut served.transfers {
                transfer.offer_all(&shape);
                wake(&mut self.peers, shared, served.urgency, transfer);
            }
            let others: Vec<PeerId> =
                up.iter().copied().filter(|peer| Some(*peer) != key.from).collect();
            let config = self.config;
            Self::join(&mut self.peers, &self.recent, shared, &mut served, &others, &config, links);
        }
        for peer in up {
            // Whoever is asked for the plain form is not told that this one is enough.
            if !(wanting && who.contains(&peer)) {
                self.answer(peer, flags::HAVE_ALL, key.id, shape.object_len(), now);
            }
        }
        self.flights.insert(shared, served);
        self.due = self.due.min(now + LINGER_US);
        if wanting {
            self.want_plain(shared, now);
        } else if let Some(raw) = ready {
            self.hand_over(shared, part, &raw, from, now.since(first), now);
        } else if let Some((block, part)) = part {
            return match part {
                Part::Body => self.assemble(block, now),
                _ => self.begin_body(block, key.from, links, now),
            };
        }
        if key.class == Class::Header {
            self.let_in(key.id, links, now);
        }
        Ok(())
    }

    /// Opens an object whose hash is right.
    fn open<'a>(
        &mut self,
        key: Key,
        part: Option<Part>,
        head: &Head,
        payload: &'a [u8],
    ) -> Opened<'a> {
        let raw_len = head.raw_len as usize;
        let as_it_is = raw_len == payload.len();
        let only_if = |is_true: bool| match is_true && as_it_is {
            true => Opened::Ready(Cow::Borrowed(payload)),
            false => Opened::Lie,
        };
        match (key.class, head.form, part) {
            (Class::Header, Form::Plain, _) => only_if(payload.len() == 80),
            (Class::Block, Form::Plain, Some(Part::Main | Part::Whole)) => {
                only_if(match block::is_outline(payload) {
                    true => Outline::read(payload).is_some_and(|outline| outline.is_true()),
                    false => block::is_true(payload, &self.hasher),
                })
            }
            (Class::Block, Form::Sketch, Some(Part::Main)) => {
                match Sketch::read(payload, self.config.object_bytes_max as usize) {
                    Some(_) => Opened::Part,
                    None => Opened::Lie,
                }
            }
            (Class::Block, Form::Body, Some(Part::Body)) if as_it_is => Opened::Part,
            (Class::Subtree, Form::Plain, _) => only_if(subtree::is_true(payload, &self.hasher)),
            (Class::Subtree, Form::Names, _) => {
                let txs = &mut *self.lookups.txs;
                match subtree::unname(payload, raw_len, txs, &self.hasher) {
                    Ok(plain) => Opened::Ready(Cow::Owned(plain)),
                    Err(Unnamed::Missing { .. }) => Opened::Wanting,
                    Err(Unnamed::Malformed) => Opened::Lie,
                }
            }
            (Class::Bundle, Form::Plain, _) => only_if(self.offer_bundle(payload)),
            (Class::Bundle, Form::Lz4, _) => {
                let most = self.config.object_bytes_max as usize;
                match unpack(payload, raw_len, most).filter(|raw| self.offer_bundle(raw)) {
                    Some(raw) => Opened::Ready(Cow::Owned(raw)),
                    None => Opened::Lie,
                }
            }
            (Class::Opaque, Form::Plain, _) => only_if(true),
            _ => Opened::Lie,
        }
    }

    /// Offers the transactions of a bundle to the host's store; false when it is no bundle.
    fn offer_bundle(&mut self, bundle: &[u8]) -> bool {
        let Ok(bundle) = Bundle::parse(bundle) else { return false };
        let txs: Vec<&[u8]> = bundle.txs().collect();
        let mut ids = vec![[0; 32]; txs.len()];
        self.hasher.sha256d_each(|i| txs[i], &mut ids);
        for (txid, tx) in ids.iter().zip(txs) {
            self.lookups.txs.offer(*txid, tx);
        }
        true
    }

    /// Hands an object to the host, once, and forgets that its plain form was wanted.
    fn hand_over(
        &mut self,
        key: Key,
        part: Option<(ObjectId, Part)>,
        raw: &Arc<[u8]>,
        from: PeerId,
        took_us: u64,
        now: NowUs,
    ) {
        let id = part.map_or(key.id, |(block, _)| block);
        let class = key.class;
        match class {
            Class::Header => {
                let header = raw.first_chunk().expect("a header has 80 bytes");
                self.warm_after(header, now);
            }
            Class::Block => {
                let header = raw.first_chunk::<80>().expect("a block starts with its header");
                if !self.recent.deliver(&consensus::hash::sha256d(header)) {
                    return;
                }
                let main = Key { id, class, from: None };
                if let Some(flight) = self.flights.get_mut(&main) {
                    flight.want = None;
                    flight.plain = Some(raw.clone());
                }
            }
            Class::Subtree => {
                let root = raw.first_chunk::<32>().expect("a subtree starts with its root");
                if !self.recent.deliver(root) {
                    return;
                }
                for flight in self.flights.values_mut().filter(|flight| flight.want.is_some()) {
                    if let State::Whole(content) = &flight.state {
                        let (payload, start) = content.payload();
                        if payload[start..].starts_with(root) {
                            flight.want = None;
                            flight.plain = Some(raw.clone());
                        }
                    }
                }
            }
            Class::Bundle | Class::Opaque => {}
        }
        self.counts.received += 1;
        let bytes = raw.clone();
        self.push_event(ObjectEvent::Received { id, class, bytes, from, took_us });
    }

    /// Asks for the plain form of an object that is here in another one.
    fn want_plain(&mut self, key: Key, now: NowUs) {
        if let Some(flight) = self.flights.get_mut(&Key { from: None, ..key }) {
            flight.want.get_or_insert(Want { tries: 0, next: now });
            self.due = self.due.min(now);
        }
    }

    /// An object whose bytes are not what they should be. Whoever sent all of it alone is to blame.
    fn condemn(
        &mut self,
        key: Key,
        sources: &[PeerId],
        len: u32,
        now: NowUs,
    ) -> Result<(), DropReason> {
        for peer in sources {
            self.answer(*peer, flags::REFUSED, key.id, len, now);
        }
        self.counts.failed += 1;
        let peer = if let [only] = sources { Some(*only) } else { None };
        let (id, class, why) = (key.id, key.class, FailReason::HashWrong);
        self.push_event(ObjectEvent::Failed { id, class, peer, why });
        if peer.is_some() { Err(DropReason::HashWrong) } else { Ok(()) }
    }

    /// The payload of a sketch that is here.
    fn sketch_of(&self, block: ObjectId) -> Option<Arc<[u8]>> {
        let main = self.flights.get(&Key { id: block, class: Class::Block, from: None })?;
        match &main.state {
            State::Whole(content) if main.form == Some(Form::Sketch) => Some(content.payload().0),
            _ => None,
        }
    }

    /// A sketch is here: begins its body, or goes on with the one that began before it.
    fn begin_body(
        &mut self,
        block: ObjectId,
        from: Option<PeerId>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let payload = self.sketch_of(block).expect("the sketch was just put there");
        let Some(sketch) = Sketch::read(&payload, self.config.object_bytes_max as usize) else {
            return Ok(());
        };
        let shape = Shape::of((HEAD_LEN + sketch.body_len) as u32, false);
        let key = Key { id: Part::Body.id(block), class: Class::Block, from };
        match self.flights.get(&key) {
            Some(body) if body.shape != shape => self.remove(key),
            Some(body) if body.is_whole() => return self.assemble(block, now),
            _ => {}
        }
        if !self.flights.contains_key(&key) {
            if self.recent.finished(key.id, key.class).is_some() {
                // The body came and went before its sketch.
                self.want_plain(Key { id: block, class: Class::Block, from: None }, now);
                return Ok(());
            }
            let main = &self.flights[&Key { id: block, class: Class::Block, from: None }];
            let from = main.first_from.expect("it came from a peer");
            let hops = main.hops;
            if self.peer(from).is_some() {
                self.begin_flight(from, key, &shape, hops, links, now)?;
            }
        }
        self.prefill(block, from, links, now)
    }

    /// Puts what is known here into a body whose sketch is here, and says how much is missing. `from` is the untrusted peer
    /// whose body it is.
    pub(super) fn prefill(
        &mut self,
        block: ObjectId,
        from: Option<PeerId>,
        links: &LinkView,
        now: NowUs,
    ) -> Result<(), DropReason> {
        let key = Key { id: Part::Body.id(block), class: Class::Block, from };
        let Some(payload) = self.sketch_of(block) else { return Ok(()) };
        let Some(sketch) = Sketch::read(&payload, self.config.object_bytes_max as usize) else {
            return Ok(());
        };
        let Some(flight) = self.flights.get_mut(&key) else { return Ok(()) };
        let shape = flight.shape;
        let State::Gathering(assembly) = &mut flight.state else { return Ok(()) };
        if shape != Shape::of((HEAD_LEN + sketch.body_len) as u32, false) {
            return Ok(());
        }
        let filled = sketch.fill(&mut *self.lookups.txs);
        let raw_len = sketch.body_len as u32;
        let head = Head { hash: sketch.body_hash, form: Form::Body, raw_len }.write();
        let mut symbol = vec![0; shape.symbol_len()];
        let mut missing = 0usize;
        for index in 0..shape.symbols() {
            let start = (index * symbol.len()).saturating_sub(HEAD_LEN);
            let end = ((index + 1) * symbol.len() - HEAD_LEN).min(sketch.body_len);
            if !filled.knows(start..end) {
                missing += 1;
                continue;
            }
            symbol.fill(0);
            let own = if index == 0 { HEAD_LEN } else { 0 };
            symbol[..own].copy_from_slice(&head[..own]);
            symbol[own..own + end - start].copy_from_slice(&filled.body[start..end]);
            let (group, number) = shape.place(index);
            assembly.put(group, number, &symbol, self.code, &mut self.scratch);
            flight.prefilled += 1;
        }
        self.counts.symbols_prefilled += flight.prefilled as u64;
        let whole = assembly.is_whole();
        for transfer in &mut flight.transfers {
            for group in (0..shape.groups() as u16).filter(|group| assembly.is_done(*group)) {
                transfer.offer_group(group);
            }
            wake(&mut self.peers, key, flight.urgency, transfer);
        }
        let main = &self.flights[&Key { id: block, class: Class::Block, from: None }];
        let sources: Vec<PeerId> = main.sources.iter().map(|source| source.peer).collect();
        let permille = (missing * 1_000).div_ceil(shape.symbols()) as u16;
        for peer in sources {
            self.push_control(peer, Control::Misses { id: key.id, permille });
        }
        if whole { self.complete(key, links, now) } else { Ok(()) }
    }

    /// Sketch and body are both here: the block.
    fn assemble(&mut self, block: ObjectId, now: NowUs) -> Result<(), DropReason> {
        let main = Key { id: block, class: Class::Block, from: None };
        let body = Key { id: Part::Body.id(block), ..main };
        let Some(payload) = self.sketch_of(block) else { return Ok(()) };
        let Some(sketch) = Sketch::read(&payload, self.config.object_bytes_max as usize) else {
            return Ok(());
        };
        let Some(Flight { state: State::Whole(content), .. }) = self.flights.get(&body) else {
            return Ok(());
        };
        let (bytes, start) = content.payload();
        let raw: Arc<[u8]> = Arc::from(sketch.block(&bytes[start..]));
        let flight = &self.flights[&main];
        let who: Vec<PeerId> = flight.sources.iter().map(|source| source.peer).collect();
        let from = flight.first_from.expect("it came from a peer");
        let (took_us, len) = (now.since(flight.first), flight.shape.object_len());
        if !block::is_true(&raw, &self.hasher) {
            self.remove(main);
            self.remove(body);
            return self.condemn(main, &who, len, now);
        }
        self.hand_over(main, Some((block, Part::Main)), &raw, from, took_us, now);
        Ok(())
    }
}
