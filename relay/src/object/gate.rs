//! The gate for blocks: no memory before the header has shown its work and its parent is known.
//!
//! A block's header travels as an object of its own, one symbol long. Blocks and headers have the low bytes of the block's
//! hash as their id, so that every symbol of a block, in any order, names the header that must have passed. Symbols that
//! overtake their header wait in a fixed number of slots that were there before anybody sent anything. So do headers that come before that of
//! their parent: who sends the last blocks of a chain sends many at once, and they need not arrive in its order.

use super::head::{HEAD_LEN, Part, block_id};
use crate::drops::DropReason;
use crate::fec::field;
use crate::lookup::HeaderView;
use crate::peer::PeerId;
use crate::time::NowUs;
use crate::wire::{BODY_MAX, Data, DataFields, ObjectId};
use consensus::header::Header;
use consensus::pow::{U256, hash_meets_bits};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bytes of an object of class header.
pub const HEADER_OBJECT_LEN: u32 = (HEAD_LEN + Header::BYTES) as u32;
/// Headers that are remembered.
pub const ADMITTED_MAX: usize = 4_096;
/// Symbols of blocks that may wait for their header, for all peers together.
pub const WAITING_MAX: usize = 64;
/// Headers that may wait for that of their parent, for all peers together.
pub const EARLY_HEADERS_MAX: usize = 64;

/// How often a header is asked for that symbols wait for.
pub const HEADER_ASKS_MAX: u8 = 3;

/// A symbol that overtook its header.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Who sent it.
    pub peer: PeerId,
    /// Its fields; `None` for an empty slot.
    pub fields: Option<DataFields>,
    /// When it came, or when its header was last asked for.
    since: NowUs,
    /// How often its header was asked for.
    asks: u8,
    /// Bytes of it.
    len: usize,
    bytes: [u8; BODY_MAX],
}

impl Waiting {
    fn of(peer: PeerId, data: &Data<'_>, now: NowUs) -> Self {
        let len = data.payload.len();
        let mut bytes = [0; BODY_MAX];
        bytes[..len].copy_from_slice(data.payload);
        Self { peer, fields: Some(data.fields), since: now, asks: 0, len, bytes }
    }

    /// The symbol.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    admitted: BTreeMap<ObjectId, [u8; 32]>,
    order: VecDeque<ObjectId>,
    tip: [u8; 32],
    waiting: Vec<Waiting>,
    next: usize,
    /// Symbols of headers whose parent was unknown, the oldest first, and the parents.
    early: VecDeque<([u8; 32], Waiting)>,
}

impl Default for Gate {
    fn default() -> Self {
        let empty = Waiting {
            peer: PeerId(0),
            fields: None,
            since: NowUs(0),
            asks: 0,
            len: 0,
            bytes: [0; BODY_MAX],
        };
        Self {
            admitted: BTreeMap::new(),
            order: VecDeque::with_capacity(ADMITTED_MAX),
            tip: [0; 32],
            waiting: vec![empty; WAITING_MAX],
            next: 0,
            early: VecDeque::with_capacity(EARLY_HEADERS_MAX),
        }
    }
}

impl Gate {
    /// The header in a symbol of a header object; parity of a group of one is its data times `1 / number`.
    pub fn header_of(data: &Data<'_>) -> Option<[u8; 80]> {
        let header = data.payload.get(HEAD_LEN..)?;
        let mut header: [u8; 80] = header.try_into().ok()?;
        if data.fields.symbol > 0 {
            for byte in &mut header {
                *byte = field::multiply(*byte, data.fields.symbol);
            }
        }
        Some(header)
    }

    /// Asks both questions about a header that came from a peer. Where the host can tell the target without the parent, a
    /// trusted peer may start anywhere.
    pub fn admit(
        &mut self,
        header: &[u8; 80],
        trusted: bool,
        headers: &mut dyn HeaderView,
    ) -> Result<ObjectId, DropReason> {
        let parsed = Header::from_bytes(header);
        let hash = parsed.hash();
        let id = block_id(header);
        if self.admitted.get(&id) == Some(&hash.0) {
            return Ok(id);
        }
        if !trusted && !headers.parent_known(&parsed.prev.0) {
            return Err(DropReason::ParentUnknown);
        }
        let bits = headers
            .required_bits(&parsed.prev.0, parsed.time_s)
            .ok_or(DropReason::ParentUnknown)?;
        if !hash_meets_bits(&hash, bits, U256::MAX) {
            return Err(DropReason::ProofOfWork);
        }
        self.remember(id, hash.0, header, headers);
        Ok(id)
    }

    /// Lets a header in that our own host sends.
    pub fn admit_own(&mut self, header: &[u8; 80], headers: &mut dyn HeaderView) -> ObjectId {
        let hash = Header::from_bytes(header).hash();
        let id = block_id(header);
        if self.admitted.get(&id) != Some(&hash.0) {
            self.remember(id, hash.0, header, headers);
        }
        id
    }

    fn remember(
        &mut self,
        id: ObjectId,
        hash: [u8; 32],
        header: &[u8; 80],
        headers: &mut dyn HeaderView,
    ) {
        if self.order.len() == ADMITTED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.admitted.remove(&oldest);
        }
        if self.admitted.insert(id, hash).is_none() {
            self.order.push_back(id);
        }
        self.tip = hash;
        headers.accepted(header);
    }

    /// Hash of the newest header that passed; zeros before the first.
    pub fn tip(&self) -> &[u8; 32] {
        &self.tip
    }

    /// The block, and which part of it, that an object of class block is; `None` while its header has not passed.
    pub fn part(&self, id: ObjectId) -> Option<(ObjectId, Part)> {
        Part::ALL
            .into_iter()
            .map(|part| (part.id(id), part))
            .find(|(block, _)| self.admitted.contains_key(block))
    }

    /// The hash of a block whose header has passed.
    pub fn hash(&self, block: ObjectId) -> Option<&[u8; 32]> {
        self.admitted.get(&block)
    }

    /// Keeps the symbol of a header until that of its parent comes; the oldest goes for it.
    pub fn wait_for_parent(&mut self, peer: PeerId, data: &Data<'_>, now: NowUs) {
        let Some(header) = Self::header_of(data) else { return };
        let parent = Header::from_bytes(&header).prev.0;
        let is_same = |other: &Waiting| {
            other.peer == peer
                && other.fields.is_some_and(|fields| fields.object == data.fields.object)
        };
        if self.early.iter().any(|(_, other)| is_same(other)) {
            return;
        }
        if self.early.len() == EARLY_HEADERS_MAX {
            self.early.pop_front();
        }
        self.early.push_back((parent, Waiting::of(peer, data, now)));
    }

    /// Takes out one header that waits for this one.
    pub fn next_child(&mut self, block: ObjectId) -> Option<Waiting> {
        let hash = self.admitted.get(&block)?;
        let at = self.early.iter().position(|(parent, _)| parent == hash)?;
        self.early.remove(at).map(|(_, waiting)| waiting)
    }

    /// Keeps a symbol until its header comes. False when an older one had to go for it.
    pub fn wait(&mut self, peer: PeerId, data: &Data<'_>, now: NowUs) -> bool {
        let slot = &mut self.waiting[self.next];
        self.next = (self.next + 1) % WAITING_MAX;
        let was_empty = slot.fields.is_none();
        *slot = Waiting::of(peer, data, now);
        was_empty
    }

    /// Headers that symbols have waited for as long as `patience` says: whom to ask for which, and when to look again. The first question is
    /// due after `quiet_us`, each further one after another round trip.
    pub fn overdue(
        &mut self,
        now: NowUs,
        quiet_us: u64,
        trip_us: impl Fn(PeerId) -> u64,
    ) -> (BTreeSet<(PeerId, ObjectId)>, NowUs) {
        let (mut asks, mut next) = (BTreeSet::new(), NowUs::NEVER);
        for slot in self.waiting.iter_mut().filter(|slot| slot.asks < HEADER_ASKS_MAX) {
            let Some(fields) = slot.fields else { continue };
            let wait_us = if slot.asks == 0 { quiet_us } else { trip_us(slot.peer).max(quiet_us) };
            if now >= slot.since + wait_us {
                slot.asks += 1;
                slot.since = now;
                asks.insert((slot.peer, fields.object));
            }
            if slot.asks < HEADER_ASKS_MAX {
                let wait_us =
                    if slot.asks == 0 { quiet_us } else { trip_us(slot.peer).max(quiet_us) };
                next = next.min(slot.since + wait_us);
            }
        }
        (asks, next)
    }

    /// Takes out one symbol that waits for this header.
    pub fn next_waiting(&mut self, block: ObjectId) -> Option<Waiting> {
        let slot = self.waiting.iter_mut().find(|slot| {
            slot.fields
                .is_some_and(|fields| Part::ALL.iter().any(|part| part.id(fields.object) == block))
        })?;
        let taken = slot.clone();
        slot.fields = None;
        Some(taken)
    }
}
