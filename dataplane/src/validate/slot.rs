//! One transaction in flight (or waiting as an orphan): what its coordinator remembers of it.

use super::arena::Span;
use crate::msg::Epoch;
use consensus::hash::TxId;
use consensus::sighash::SighashCache;
use consensus::tx::{Limits, TxIdState, TxLayout, TxParser};

/// No slot, no offer, no work.
pub(super) const NONE: u32 = u32::MAX;

/// Where a transaction stands. Exhaustive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The slot is free.
    Free,
    /// Parsed and hashed in pieces; nobody has heard of it yet.
    Arriving,
    /// Its coins are asked for, its scripts run.
    Resolving,
    /// Its coins are being reserved; some may be waited for while others are held.
    Reserving,
    /// A coin is held by a smaller transaction: everything is released, the coin is waited for.
    Watching,
    /// A parent is in flight: everything is released, the parent's decision is waited for.
    ParentWait,
    /// A parent is missing: no slot in flight, the coin is watched.
    Orphan,
    /// Called, and in line for a new attempt.
    Woken,
    /// Every coin is held; home decides.
    Settling,
    /// Decided; the owners log their spends.
    Spending,
    /// Its verdict is given; what it still has to tell shards goes out, then the slot is free.
    Leaving,
}

/// What is still to be sent for a slot, in the order of the bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Ops(pub u16);

impl Ops {
    pub const UNWATCH: u16 = 1;
    pub const RELEASE: u16 = 1 << 1;
    pub const WITHDRAW: u16 = 1 << 2;
    pub const WATCH: u16 = 1 << 3;
    pub const ANNOUNCE: u16 = 1 << 4;
    pub const SEEN: u16 = 1 << 5;
    pub const CLAIMS: u16 = 1 << 6;
    pub const RESOLVE: u16 = 1 << 7;
    pub const RESERVE: u16 = 1 << 8;
    pub const COMMIT: u16 = 1 << 9;
    pub const SETTLE: u16 = 1 << 10;
    pub const SPEND: u16 = 1 << 11;
    pub const LOGGED: u16 = 1 << 12;

    /// The first of them, as its bit.
    #[inline]
    pub fn first(self) -> Option<u16> {
        (self.0 != 0).then(|| 1 << self.0.trailing_zeros())
    }

    #[inline]
    pub fn add(&mut self, bits: u16) {
        self.0 |= bits;
    }

    #[inline]
    pub fn remove(&mut self, bits: u16) {
        self.0 &= !bits;
    }

    #[inline]
    pub fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

/// What is known about an input's scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub(super) enum Proof {
    /// Nothing.
    #[default]
    Unknown,
    /// The owner was asked for the coin.
    Asked,
    /// The slow lane runs them.
    Long,
    /// They succeeded, signatures apart.
    Passed,
    /// A signature of it was wrong in the batch: to be run again, exactly.
    Inexact,
    /// The coin does not exist.
    Missing,
    /// They failed.
    Failed,
}

/// What the owner holds for an input in the current attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub(super) enum Hold {
    /// Nothing.
    #[default]
    Nothing,
    /// To be reserved again, alone, after its coin differed.
    Again,
    /// Asked, or in a wait list.
    Asked,
    /// The coin.
    Held,
}

/// One input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InputState {
    pub value_sat: u64,
    pub script_tag: u64,
    pub parent_seq: u64,
    pub height: u32,
    /// Of the locking script, noted where the transaction may be a consolidation.
    pub script_bytes: u32,
    pub shard: u16,
    pub era: u8,
    pub coinbase: bool,
    /// The same of whether it is a template.
    pub is_standard: bool,
    pub proof: Proof,
    pub hold: Hold,
}

/// Memory for one transaction's structure, of fixed capacity; small ones by the thousand, large ones by the handful.
#[derive(Debug)]
pub(super) struct Work {
    pub layout: TxLayout,
    pub inputs: Vec<InputState>,
    pub sighash: SighashCache,
    pub parser: TxParser,
    pub hasher: TxIdState,
    pub items_max: usize,
}

impl Work {
    pub fn new(items_max: usize) -> Self {
        Self {
            layout: TxLayout::fixed(items_max, items_max),
            inputs: Vec::with_capacity(items_max),
            sighash: SighashCache::new(),
            parser: TxParser::new(Limits::CONSENSUS),
            hasher: TxIdState::new(),
            items_max,
        }
    }
}

/// One copy somebody offered: its verdict goes back with these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub token: u64,
    pub source: u32,
    pub block: u32,
    /// When the frag it came in was born.
    pub born: u32,
    /// Keyed digest of the coins the copy claims; 0 for a raw copy.
    pub claims: u64,
    /// Its sender wants to hear of a missing parent.
    pub tell_orphan: bool,
    /// Its sender wants no verdict.
    pub is_quiet: bool,
    pub next: u32,
}

/// A transaction and its coordinator's memory of it.
#[derive(Debug)]
pub(super) struct Slot {
    pub txid: TxId,
    pub hash: u32,
    pub attempt: u32,
    pub phase: Phase,
    pub ops: Ops,
    /// Next input of the fan-out that stands first in `ops`.
    pub cursor: u32,
    /// In one of the queues of `ops`.
    pub queued: bool,
    /// In the queue of the woken.
    pub in_ready: bool,
    /// Its announcement waits to be sent out of its own memory.
    pub large_queued: bool,
    pub indexed: bool,
    /// Counts as an orphan, not as in flight.
    pub is_orphan: bool,
    pub announced: bool,
    pub withdraw_rejected: bool,
    /// Reserves of this attempt may be at owners.
    pub reserving: bool,
    pub committing: bool,
    /// Proofs rest on what the extended format claims.
    pub claims: bool,
    /// Signatures are checked at once.
    pub exact: bool,
    pub inputs_only: bool,
    /// The pool ran its scripts under the same flags: in a block they are not run again.
    pub trusted: bool,
    /// BIP68 was judged by the heights of coins.
    pub height_matters: bool,
    pub too_costly: bool,
    pub lane_full: bool,
    pub coinbase: bool,
    pub block: u32,
    pub rule_set: u32,
    /// Which context of the pool it was judged final under.
    pub pool_version: u32,
    /// Names the proofs being made; grows over all slots.
    pub run: u32,
    pub tx: Span,
    pub work: u32,
    pub offers: u32,
    pub offers_last: u32,
    /// Answers outstanding before it can be judged.
    pub waiting: u32,
    pub sigs_pending: u32,
    pub long_pending: u32,
    pub long_begun: bool,
    pub held: u32,
    pub wait_vin: u32,
    /// A watch is at (or on its way to) the owner of this input's coin.
    pub watching: bool,
    pub watch_vin: u32,
    pub was_orphan: bool,
    /// A missing parent was waited for in the slot once.
    pub was_graced: bool,
    pub spends_pending: u32,
    pub failed_vin: u32,
    pub failed_error: u8,
    pub fee_sat: u64,
    pub publish_seq: u64,
    pub decided: Epoch,
    pub logged: Epoch,
    pub source: u32,
    pub born_ns: u64,
    /// Place in the list of orphans.
    pub orphan_at: u32,
}

impl Slot {
    pub fn new() -> Self {
        Self {
            txid: TxId::ZERO,
            hash: 0,
            attempt: 0,
            phase: Phase::Free,
            ops: Ops(0),
            cursor: 0,
            queued: false,
            in_ready: false,
            large_queued: false,
            indexed: false,
            is_orphan: false,
            announced: false,
            withdraw_rejected: false,
            reserving: false,
            committing: false,
            claims: false,
            exact: false,
            inputs_only: false,
            trusted: false,
            pool_version: 0,
            height_matters: false,
            too_costly: false,
            lane_full: false,
            coinbase: false,
            block: 0,
            rule_set: 0,
            run: 0,
            tx: Span::default(),
            work: NONE,
            offers: NONE,
            offers_last: NONE,
            waiting: 0,
            sigs_pending: 0,
            long_pending: 0,
            long_begun: false,
            held: 0,
            wait_vin: NONE,
            watching: false,
            watch_vin: 0,
            was_orphan: false,
            was_graced: false,
            spends_pending: 0,
            failed_vin: NONE,
            failed_error: 0,
            fee_sat: 0,
            publish_seq: 0,
            decided: Epoch::default(),
            logged: Epoch::default(),
            source: 0,
            born_ns: 0,
            orphan_at: NONE,
        }
    }

    /// For the next transaction; the attempts go on.
    pub fn reset(&mut self) {
        *self = Self { attempt: self.attempt, ..Self::new() };
    }
}
