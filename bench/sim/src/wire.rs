//! Wires: what joins the two halves of a link, and where its faults are.
//!
//! A wire reads frags from the half its producer writes and publishes them on the half its consumer reads, in order, when the
//! schedule says so. In between it holds a bounded number, so a stalled wire pushes back on its producer as a slow consumer
//! would. A plant sits here too: it may drop, double or change one frag.

use crate::plant::Planted;
use dataplane::tile::Stamp;
use dataplane::topo::{ExternalIn, ExternalOut};
use std::collections::VecDeque;

/// What a wire joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WireKind {
    /// `validate_shard`.
    Request {
        /// From.
        validator: u16,
        /// To.
        shard: u16,
    },
    /// `shard_validate`.
    Reply {
        /// From.
        shard: u16,
        /// To.
        validator: u16,
    },
    /// `shard_pack`.
    Publish {
        /// From.
        shard: u16,
    },
    /// `validate_long`.
    ToLong {
        /// From.
        validator: u16,
    },
    /// `long_validate`.
    FromLong {
        /// To.
        validator: u16,
    },
}

impl WireKind {
    /// The row of the topology.
    pub fn row(self) -> &'static str {
        match self {
            Self::Request { .. } => "validate_shard",
            Self::Reply { .. } => "shard_validate",
            Self::Publish { .. } => "shard_pack",
            Self::ToLong { .. } => "validate_long",
            Self::FromLong { .. } => "long_validate",
        }
    }

    /// The two ends, as numbers.
    pub fn ends(self) -> (u64, u64) {
        match self {
            Self::Request { validator, shard } => (validator.into(), shard.into()),
            Self::Reply { shard, validator } => (shard.into(), validator.into()),
            Self::Publish { shard } => (shard.into(), 0),
            Self::ToLong { validator } | Self::FromLong { validator } => (validator.into(), 0),
        }
    }
}

/// A frag on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub sig: u64,
    pub born: u32,
    pub bytes: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct Wire {
    kind: WireKind,
    from: ExternalIn,
    to: ExternalOut,
    held: VecDeque<Held>,
    /// Places that a plant has taken for good.
    pub leaked: usize,
    /// Frags handed on, which also names large ones to the arena.
    pub moved: u64,
}

impl Wire {
    pub fn new(kind: WireKind, from: ExternalIn, to: ExternalOut) -> Self {
        Self { kind, from, to, held: VecDeque::new(), leaked: 0, moved: 0 }
    }

    pub fn kind(&self) -> WireKind {
        self.kind
    }

    /// Whether there is a frag to take in or to hand on.
    pub fn has_work(&self) -> bool {
        !self.held.is_empty() || self.from.has_next()
    }

    /// Takes in the next frag if fewer than `frags` are held. Gives what was taken in, as its producer wrote it.
    pub fn take_in(&mut self, frags: usize, plant: &mut Planted) -> Option<Held> {
        if self.held.len() + self.leaked >= frags {
            return None;
        }
        let frag = self.from.poll()?;
        let held = Held { sig: frag.sig, born: frag.ts_orig, bytes: frag.bytes.to_vec() };
        self.from.return_credit();
        if plant.is_active() {
            plant.pass(self.kind, held.clone(), &mut self.held, &mut self.leaked);
        } else {
            self.held.push_back(held.clone());
        }
        Some(held)
    }

    /// Changes the frag that was taken in last.
    pub fn edit_newest(&mut self, edit: impl FnOnce(&mut [u8])) {
        if let Some(held) = self.held.back_mut() {
            edit(&mut held.bytes);
        }
    }

    /// Hands on the frag that was taken in first; false if there is none or its reader has no room.
    pub fn hand_on(&mut self) -> bool {
        let Some(held) = self.held.front() else { return false };
        if !publish(&mut self.to, held.sig, Stamp(held.born), &held.bytes, self.moved) {
            return false;
        }
        self.held.pop_front();
        self.moved += 1;
        true
    }
}

/// Publishes in line or through the arena; false without room.
pub fn publish(out: &mut ExternalOut, sig: u64, born: Stamp, bytes: &[u8], source: u64) -> bool {
    let producer = out.producer();
    if producer.credit() == 0 {
        producer.refresh();
    }
    let sent = producer.publish_any(sig, born.0, bytes, source);
    if sent.is_err() {
        producer.refresh();
    }
    sent.is_ok()
}
