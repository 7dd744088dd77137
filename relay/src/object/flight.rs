//! One object while anything is still to be done about it: gathered, passed on, served.
//!
//! In: symbols from some peers. Out: symbols for others. The state is either an assembly or the whole content; transfers
//! are the same in both.

use super::assembly::Assembly;
use super::content::Content;
use super::head::{Form, Part};
use super::proofs::Proofs;
use super::rows::Rows;
use super::shape::Shape;
use super::transfer::{Pick, Transfer};
use crate::fec::{Rs8, budget};
use crate::peer::{LinkView, PeerId, PeerView};
use crate::time::NowUs;
use crate::wire::{Class, ObjectId, Priority};
use std::sync::Arc;

/// Probability that an object needs a request for repair, which parity is sized for. Source: reference/relay.md C4.
pub const FAIL_TARGET: f64 = 1e-3;
/// Least parity of a group: what a loss that was never measured is worth.
pub const PARITY_MIN: u32 = 2;
/// Parity that even the smallest group may have, where all of its data would be less.
pub const PARITY_SMALL: u32 = 8;
/// What a block's first objects get on a line that loses anything: they are small, everything waits for them, and losses come in runs
/// (one in twenty of those of eight packets is longer than this).
pub const PARITY_BURST: u32 = 24;
/// A line that loses less than this loses nothing.
const LOSSY: f32 = 0.005;
/// Symbols beside those that a peer asks for again of a block's first objects.
const REPAIR_SPARE: usize = 8;
/// An object of which only a few symbols came should have come within this: 24 packets at 25 Mbit/s.
const PACE_US_MAX: u64 = 10_000;
/// A request for repair waits at least this long after the last symbol: reordering.
pub const QUIET_US_MIN: u64 = 2_000;

/// Which object; those of an untrusted peer are its own until they are proved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Id in packets.
    pub id: ObjectId,
    /// Class in packets.
    pub class: Class,
    /// The untrusted peer it comes from.
    pub from: Option<PeerId>,
}

/// What is there of an object.
#[derive(Debug)]
pub enum State {
    /// Some of it.
    Gathering(Box<Assembly>),
    /// All of it.
    Whole(Box<Content>),
}

/// Somebody who sends it.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Who.
    pub peer: PeerId,
    /// When its last useful symbol came.
    pub last: NowUs,
}

/// One object in flight.
#[derive(Debug)]
pub struct Flight {
    /// How it is cut.
    pub shape: Shape,
    /// What is there.
    pub state: State,
    /// How often our packets of it may still be passed on; `None` when we may not pass it on ourselves.
    pub hops: Option<u8>,
    /// The id under which our own host wants to know what becomes of it.
    pub reports: Option<ObjectId>,
    /// Meant for every peer, those that come later too.
    pub to_all: bool,
    /// Who sent its first symbol.
    pub first_from: Option<PeerId>,
    /// Whose account its memory is on, while it is gathered.
    pub payer: Option<PeerId>,
    /// Memory it takes.
    pub cost_bytes: usize,
    /// When the first symbol came, or the host sent it.
    pub first: NowUs,
    /// When the last useful symbol came, or something was sent.
    pub last: NowUs,
    /// Who sends it.
    pub sources: Vec<Source>,
    /// Who gets it.
    pub transfers: Vec<Transfer>,
    /// Requests for repair made.
    pub nacks: u32,
    /// When the last one was made.
    pub nacked: NowUs,
    /// Parity that senders say they mean to send.
    pub parity_hint: u16,
    /// Which queue its symbols wait in.
    pub urgency: Priority,
    /// How its payload stands in it, once that is known.
    pub form: Option<Form>,
    /// A body that peers most likely know.
    pub is_body: bool,
    /// Symbols of it that were known here before they came.
    pub prefilled: usize,
    /// The plain form of what it names.
    pub plain: Option<Arc<[u8]>>,
    /// The plain form is wanted.
    pub want: Option<Want>,
    /// The origin's proofs, where it has them.
    pub proofs: Option<Proofs>,
    rows: Rows,
}

/// A plain form that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// How often.
    pub tries: u8,
    /// When to ask again.
    pub next: NowUs,
}

impl Flight {
    /// A flight without sources and transfers.
    pub fn new(
        shape: Shape,
        state: State,
        hops: Option<u8>,
        cost_bytes: usize,
        now: NowUs,
    ) -> Self {
        Self {
            shape,
            state,
            hops,
            reports: None,
            to_all: true,
            first_from: None,
            payer: None,
            cost_bytes,
            first: now,
            last: now,
            sources: Vec::new(),
            transfers: Vec::new(),
            nacks: 0,
            nacked: NowUs(0),
            parity_hint: 0,
            urgency: Priority::Useful,
            form: None,
            is_body: false,
            prefilled: 0,
            plain: None,
            want: None,
            proofs: None,
            rows: Rows::default(),
        }
    }

    /// Memory that an object of this shape takes while it is gathered and passed on.
    pub fn gathering_bytes(shape: &Shape) -> usize {
        Assembly::cost_bytes(shape) + Rows::cost_bytes(shape) + Self::proofs_bytes(shape)
    }

    /// Memory that a whole object of this shape takes while it is served.
    pub fn whole_bytes(shape: &Shape) -> usize {
        shape.padded_len() + Rows::cost_bytes(shape) + Self::proofs_bytes(shape)
    }

    fn proofs_bytes(shape: &Shape) -> usize {
        if shape.is_proved() { Proofs::cost_bytes(shape) } else { 0 }
    }

    /// Whether all of it is here.
    pub fn is_whole(&self) -> bool {
        matches!(self.state, State::Whole(_))
    }

    /// Symbols that go beside those that are asked for, or ask: everything waits for a block's first objects, and a burst that took
    /// some of them may go on.
    pub fn spare(&self) -> usize {
        if self.urgency == Priority::Header { REPAIR_SPARE } else { 0 }
    }

    /// Whether this peer was sent, or has, a symbol of it.
    pub fn has_begun(&self, peer: PeerId) -> bool {
        self.transfers.iter().any(|transfer| transfer.peer() == peer && transfer.has_begun())
    }

    /// The transfer to this peer.
    pub fn transfer(&mut self, peer: PeerId) -> Option<&mut Transfer> {
        self.transfers.iter_mut().find(|transfer| transfer.peer() == peer)
    }

    /// Whether this group can be served with fresh parity.
    pub fn can_mint(&self, group: u16) -> bool {
        match &self.state {
            State::Gathering(assembly) => assembly.is_done(group),
            State::Whole(_) => true,
        }
    }

    /// Notes a useful symbol of a peer.
    pub fn note_source(&mut self, peer: PeerId, now: NowUs) {
        self.last = now;
        match self.sources.iter_mut().find(|source| source.peer == peer) {
            Some(source) => source.last = now,
            None => self.sources.push(Source { peer, last: now }),
        }
    }

    /// Parity a group of this object gets on the way to a peer with this loss.
    pub fn parity_for(&self, loss: f32) -> u16 {
        let (k, groups) = (u32::from(self.shape.k_max()), self.shape.groups() as u32);
        let is_first = self.urgency == Priority::Header && loss >= LOSSY;
        // A burst is shared by all groups; and nothing gets many times its own size.
        let burst = if is_first { (PARITY_BURST / groups).min(2 * k + 6) } else { 0 };
        let most = k.max(PARITY_SMALL).max(burst).min(self.shape.parity_max(0) as u32);
        let loss = f64::from(loss.clamp(0.0, 0.5));
        let r = budget::parity(k, groups, loss, FAIL_TARGET, most);
        r.clamp(PARITY_MIN.max(burst).min(most), most) as u16
    }

    /// Parity symbols a group gets before the data, for a peer that misses this share of the symbols on a link with this
    /// loss: the mean and 3.3 standard deviations (one in a thousand is above) of what it misses, and the same for the loss.
    pub fn parity_first_for(shape: &Shape, miss: f32, loss: f32) -> u16 {
        let k = f32::from(shape.k_max());
        let miss = (miss * 1.25 + 0.01).min(1.0);
        let loss = loss.clamp(0.0, 0.5);
        let need = k * miss + 3.3 * (k * miss * (1.0 - miss)).sqrt();
        let sent = (need + 3.3 * (need * loss).sqrt()) / (1.0 - loss);
        sent.ceil().min(k) as u16
    }

    /// Writes a symbol; false when it is not here.
    pub fn write(&mut self, pick: Pick, code: Rs8, out: &mut [u8]) -> bool {
        let k = self.shape.k(pick.group);
        let Pick { group, number } = pick;
        let (out, proof) = out.split_at_mut(self.shape.symbol_len());
        let symbol = if usize::from(number) < k {
            let index = self.shape.index(group, number);
            match &self.state {
                State::Gathering(assembly) => assembly.symbol(index),
                State::Whole(content) => Some(content.symbol(index)),
            }
        } else if self.can_mint(group) {
            let (shape, state) = (&self.shape, &self.state);
            let data = |i: usize| {
                let index = shape.index(group, i as u8);
                match state {
                    State::Gathering(assembly) => {
                        assembly.symbol(index).expect("a decoded group has its data in place")
                    }
                    State::Whole(content) => content.symbol(index),
                }
            };
            let len = shape.symbol_len();
            Some(self.rows.get(shape.groups(), group, number, len, code, k, data))
        } else {
            match &self.state {
                State::Gathering(assembly) => assembly.parity(group, number),
                State::Whole(_) => None,
            }
        };
        let Some(symbol) = symbol else { return false };
        out.copy_from_slice(symbol);
        let Some(proofs) = &self.proofs else { return true };
        proofs.write(group, number, proof)
            // A decoded group: what was not received can be proved with the whole tree.
            || self.can_mint(group)
                && self.prove_group(group, code, |_| None)
                && self.proofs.as_ref().is_some_and(|proofs| proofs.write(group, number, proof))
    }

    /// Builds the tree of a group that is here; `sign` signs a root that is not known yet.
    pub fn prove_group(
        &mut self,
        group: u16,
        code: Rs8,
        sign: impl FnOnce(&[u8; 32]) -> Option<[u8; 64]>,
    ) -> bool {
        let (shape, state) = (&self.shape, &self.state);
        let Some(proofs) = &mut self.proofs else { return false };
        let data = |i: usize| {
            let index = shape.index(group, i as u8);
            match state {
                State::Gathering(assembly) => {
                    assembly.symbol(index).expect("a decoded group has its data in place")
                }
                State::Whole(content) => content.symbol(index),
            }
        };
        proofs.build(shape, group, code, data, sign)
    }

    /// When to ask for repair: after 1.2 times the time the object should have taken, and a while of silence; once a round
    /// trip. Source: reference/relay.md C4.
    pub fn nack_due(&self, links: &LinkView) -> Option<NowUs> {
        let State::Gathering(assembly) = &self.state else { return None };
        let source = self.nack_target()?;
        let row = links.get(source);
        let elapsed = self.last.since(self.first);
        let got = assembly.symbols_held().max(1) as u64;
        let expected =
            self.shape.symbols() as u64 + self.shape.groups() as u64 * u64::from(self.parity_hint);
        // With few symbols the pace says little.
        let few = u64::from(row.rtt_us).min(PACE_US_MAX);
        let pace = if got < 4 { few } else { elapsed * expected / got };
        // An answer takes a round trip; each one in vain doubles the wait, up to 64 times.
        let trip = (u64::from(row.rtt_us) + 4 * u64::from(row.rtt_var_us)).max(5_000);
        // After an outage the pace is wrong, and every late symbol makes it worse: silence is silence.
        let silence = (4 * trip).max(8 * elapsed / got);
        let arrival = (self.first + pace + pace / 5).min(self.last + silence);
        let apart = (elapsed / 5).min(silence).max(2 * u64::from(row.rtt_var_us));
        let due = arrival.max(self.last + QUIET_US_MIN.max(apart));
        if self.nacks == 0 {
            return Some(due);
        }
        let doublings = self.nacks.saturating_sub(2).min(6);
        Some(due.max(self.nacked + (trip << doublings)))
    }

    /// Whom to ask for repair: the peer that was useful last; another one each time.
    pub fn nack_target(&self) -> Option<PeerId> {
        let mut sources: Vec<&Source> = self.sources.iter().collect();
        sources.sort_by_key(|source| std::cmp::Reverse((source.last, source.peer)));
        let at = self.nacks as usize % sources.len().max(1);
        sources.get(at).map(|source| source.peer)
    }

    /// How long after the last symbol a peer that said nothing is asked again.
    pub fn probe_after_us(row: &PeerView, probes: u8) -> u64 {
        let trip = u64::from(row.rtt_us) + 4 * u64::from(row.rtt_var_us);
        (trip * 5 / 4).max(20_000) << probes.min(6)
    }
}

/// Which queue an object's symbols wait in.
pub fn urgency(class: Class, part: Part) -> Priority {
    match (class, part) {
        (Class::Header, _) | (Class::Block, Part::Main) => Priority::Header,
        _ => Priority::Useful,
    }
}
