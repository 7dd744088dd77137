//! From bytes on an ingest link to a transaction in flight: copy, parse, name, join, and the rules that need no coins.
//!
//! A frag is copied once and its credit goes back at once. Small transactions pass in one go; large ones are parsed and
//! hashed a piece a turn, and nobody hears of them before the last piece. A copy of a transaction that is here already
//! joins it and gets its verdict; a copy of an orphan starts the orphan anew.

use super::config::{MEDIUM_ITEMS_MAX, SMALL_ITEMS_MAX};
use super::coordinator::Coordinator;
use super::slot::{InputState, NONE, Offer, Ops, Phase};
use crate::msg::{Context, IngestHeader, TxVerdict};
use consensus::hash::TxId;
use consensus::params::Era;
use consensus::rules::{self, TxLimits, TxReject};
use consensus::tx::{Limits, ParseErrorKind, Progress, TxIdState, TxParser};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Items parsed of one transaction before others have their turn.
const PARSE_ITEMS_MAX: usize = 4_096;
/// Bytes hashed of one transaction before others have their turn.
const HASH_BYTES_MAX: u64 = 256 << 10;
/// Bytes taken from ingest links in one turn, the frag that crosses it included.
pub(super) const BYTES_PER_TURN_MAX: u64 = 1 << 20;
/// Slots that may be parsed in pieces at once.
const ARRIVING_MAX: usize = 64;

impl Coordinator {
    /// Whether one more frag of at most `frag_bytes_max` in line can be taken, for the pool or for a block.
    pub fn can_admit(&self, for_block: bool, frag_bytes_max: usize) -> bool {
        let b = &self.cfg.bounds;
        let room = if for_block {
            self.block_in_flight < b.block_transactions_max
                && self.block_bytes_in_flight < b.block_bytes_max
        } else {
            self.in_flight < b.transactions_max
                && self.bytes_in_flight < b.bytes_max
                && self.inputs_in_flight < b.inputs_max
                && self.free_slots.len() > b.block_transactions_max as usize / 2
        };
        let unread = if for_block { &self.block_verdicts } else { &self.verdicts };
        room && self.pool.is_some()
            && !self.free_slots.is_empty()
            && !self.free_offers.is_empty()
            && self.arriving.len() < ARRIVING_MAX
            && self.turn_bytes < BYTES_PER_TURN_MAX
            && unread.len() < unread.capacity() / 4
            && self.arena.has_room(frag_bytes_max)
    }

    /// How many more frags can be taken in a row: one at a time near a bound.
    pub fn admits(&self, for_block: bool, frag_bytes_max: usize) -> u32 {
        // Room for sixteen in every account, or for one.
        if self.can_admit(for_block, frag_bytes_max) {
            1 + u32::from(self.has_plenty()) * 15
        } else {
            0
        }
    }

    fn has_plenty(&self) -> bool {
        let b = &self.cfg.bounds;
        self.in_flight + 16 < b.transactions_max
            && self.block_in_flight + 16 < b.block_transactions_max
            && self.free_slots.len() > 16 + b.block_transactions_max as usize
            && self.free_offers.len() > 16
            && self.arena.used_bytes() * 2 < self.arena.capacity_bytes()
            && self.turn_bytes < BYTES_PER_TURN_MAX / 2
    }

    /// One offered copy. The caller has asked [`Self::can_admit`].
    pub fn on_ingest(&mut self, header: &IngestHeader, bytes: &[u8], born: u32) {
        self.counts.offered += 1;
        self.turn_bytes += bytes.len() as u64 + 64;
        let offer = Offer {
            token: header.token,
            source: header.source,
            block: header.block,
            born,
            claims: 0,
            tell_orphan: header.flags & IngestHeader::TELL_ORPHAN != 0,
            is_quiet: header.block == 0 && header.flags & IngestHeader::NO_VERDICT != 0,
            next: NONE,
        };
        let closed = header.block != 0 && self.open_block(header.block).is_none();
        let span = if closed { None } else { self.arena.take(bytes.len()) };
        let (Some(tx), Some(slot)) = (span, self.free_slots.pop()) else {
            if let Some(tx) = span {
                self.arena.give(tx);
            }
            self.emit(&offer, TxVerdict::Overloaded, 0, 0, 0, TxId::ZERO, TxId::ZERO);
            return;
        };
        self.arena.get_mut(tx).copy_from_slice(bytes);
        let work = self.free_works[0].pop().expect("there are as many small works as slots");
        let inputs_only = self.open_block(header.block).is_some_and(|b| b.inputs_only);
        let now_ns = self.now_ns;
        let s = &mut self.slots[slot as usize];
        s.reset();
        s.phase = Phase::Arriving;
        s.tx = tx;
        s.work = work;
        s.block = header.block;
        s.source = header.source;
        s.coinbase = header.block != 0 && header.index == 0;
        s.inputs_only = inputs_only;
        s.born_ns = now_ns;
        let w = &mut self.works[work as usize];
        w.parser = TxParser::new(Limits::CONSENSUS);
        w.hasher = TxIdState::new();
        w.sighash.reset();
        self.enter_flight(slot);
        let added = self.add_offer(slot, offer);
        assert!(added, "a frag is taken only while there is a place for its copy");
        self.arrive(slot);
    }

    /// Goes on parsing and hashing.
    pub fn arrive(&mut self, slot: u32) {
        let s = &self.slots[slot as usize];
        let tx = s.tx;
        loop {
            let work = self.slots[slot as usize].work;
            let w = &mut self.works[work as usize];
            let bytes = self.arena.get(tx);
            if w.layout.is_done() {
                break;
            }
            match w.parser.advance(bytes, &mut w.layout, PARSE_ITEMS_MAX) {
                Err(error) => {
                    return self.leave_unknown(slot, TxVerdict::Malformed, number(error.kind));
                }
                Ok(Progress::More) => return self.arriving.push_back(slot),
                Ok(Progress::Done) => {
                    let used = w.parser.used_bytes();
                    if used != bytes.len() {
                        let extra = (bytes.len() - used) as u64;
                        let kind = ParseErrorKind::TrailingBytes { extra };
                        return self.leave_unknown(slot, TxVerdict::Malformed, number(kind));
                    }
                    let inputs = w.layout.input_count();
                    w.inputs.resize(inputs, InputState::default());
                    self.inputs_in_flight += inputs as u64;
                }
                Ok(Progress::LayoutFull) => {
                    let class = match w.items_max {
                        SMALL_ITEMS_MAX => 1,
                        MEDIUM_ITEMS_MAX => 2,
                        _ => return self.leave_unknown(slot, TxVerdict::TooCostly, 0),
                    };
                    let Some(larger) = self.free_works[class].pop() else {
                        self.evict_for_work(class);
                        self.works[work as usize].parser = TxParser::new(Limits::CONSENSUS);
                        return self.arriving.push_back(slot);
                    };
                    self.give_work(work);
                    let w = &mut self.works[larger as usize];
                    w.parser = TxParser::new(Limits::CONSENSUS);
                    w.hasher = TxIdState::new();
                    w.sighash.reset();
                    self.slots[slot as usize].work = larger;
                }
            }
        }
        let work = self.slots[slot as usize].work as usize;
        let mut hasher = std::mem::take(&mut self.works[work].hasher);
        match hasher.advance(self.view(slot), HASH_BYTES_MAX) {
            None => {
                self.works[work].hasher = hasher;
                self.arriving.push_back(slot);
            }
            Some(txid) => self.identified(slot, txid),
        }
    }

    fn identified(&mut self, slot: u32, txid: TxId) {
        let block = self.slots[slot as usize].block;
        let claims = self.claims_digest(slot);
        let lead = self.slots[slot as usize].offers;
        self.offers[lead as usize].claims = claims;
        let hash = self.index.hash(&txid, block);
        let slots = &self.slots;
        let found = self.index.find(hash, |at| {
            let other = &slots[at as usize];
            other.txid == txid && other.block == block
        });
        if let Some(first) = found {
            return self.join(first, slot);
        }
        let s = &mut self.slots[slot as usize];
        s.txid = txid;
        s.hash = hash;
        if block != 0 && self.open_block(block).is_none() {
            return self.leave_unknown(slot, TxVerdict::MissingInput, 0);
        }
        let context = self.context(block);
        if let Err((verdict, detail)) = self.judge_without_coins(slot, &context) {
            return self.leave_unknown(slot, verdict, detail as u8);
        }
        if self.slots[slot as usize].coinbase {
            return self.leave_unknown(slot, TxVerdict::Accepted, 0);
        }
        self.slots[slot as usize].indexed = true;
        self.index.insert(hash, slot);
        self.begin(slot, &context);
    }

    /// Ends a slot that nobody else has heard of.
    fn leave_unknown(&mut self, slot: u32, verdict: TxVerdict, detail: u8) {
        let txid = self.slots[slot as usize].txid;
        while let Some(offer) = self.pop_offer(slot) {
            self.emit(&offer, verdict, detail, 0, 0, txid, TxId::ZERO);
        }
        self.free(slot);
    }

    /// The copy in `slot` waits for the verdict of the transaction in `first`.
    fn join(&mut self, first: u32, slot: u32) {
        let offer = self.pop_offer(slot).expect("an arriving slot has its copy");
        self.free(slot);
        self.counts.joined += 1;
        let s = &self.slots[first as usize];
        let txid = s.txid;
        if matches!(s.phase, Phase::Spending | Phase::Leaving) {
            let verdict = if offer.claims != 0 && offer.claims != self.proven_digest(first) {
                TxVerdict::CoinMismatch
            } else {
                TxVerdict::Known
            };
            return self.emit(&offer, verdict, 0, 0, 0, txid, TxId::ZERO);
        }
        if !self.add_offer(first, offer) {
            return self.emit(&offer, TxVerdict::Overloaded, 0, 0, 0, txid, TxId::ZERO);
        }
        if self.slots[first as usize].phase == Phase::Orphan {
            self.wake_orphan(first);
        }
    }

    /// First start: everything about the transaction is asked for in one round trip.
    fn begin(&mut self, slot: u32, context: &Context) {
        self.new_run(slot);
        let view = self.view(slot);
        let inputs = view.input_count() as u32;
        let extended = view.is_extended();
        let relative = rules::has_relative_locks(&self.cfg.params, context.height)
            && view.version() as u32 >= 2
            && view.inputs().any(|i| i.sequence >> 31 == 0);
        let s = &mut self.slots[slot as usize];
        s.attempt = s.attempt.wrapping_add(1);
        s.phase = Phase::Resolving;
        s.rule_set = context.rule_set;
        s.pool_version = self.pool_version;
        s.height_matters = relative;
        s.claims = extended && s.block == 0 && !relative;
        s.waiting = inputs;
        if !s.inputs_only {
            s.ops.add(Ops::ANNOUNCE | Ops::SEEN);
            s.waiting += 1;
        }
        // A block's transaction asks for its coins once it is known whether the pool has proved it.
        if s.block == 0 || s.inputs_only {
            s.ops.add(if s.claims { Ops::CLAIMS } else { Ops::RESOLVE });
        }
        self.pump(slot);
    }

    /// The rules that need only the transaction and the context.
    pub fn judge_without_coins(
        &self,
        slot: u32,
        context: &Context,
    ) -> Result<(), (TxVerdict, TxReject)> {
        let s = &self.slots[slot as usize];
        let view = self.view(slot);
        let era = self.cfg.params.era(context.height);
        let invalid = |reject| (TxVerdict::Invalid, reject);
        if s.coinbase {
            rules::check_coinbase(view, era, &TxLimits::CONSENSUS).map_err(invalid)?;
        } else {
            rules::check_transaction(view, era, &TxLimits::CONSENSUS).map_err(invalid)?;
        }
        if s.inputs_only {
            return Ok(());
        }
        if s.block == 0 {
            let policy = &self.cfg.policy;
            if view.raw_size() > policy.tx_bytes_max {
                return Err((TxVerdict::Policy, TxReject::TxSize));
            }
            if let Some(standard) = &policy.standard {
                match rules::check_standard(view, era, standard) {
                    Err(TxReject::LockingScript) if era > Era::PreGenesis => {}
                    judged => judged.map_err(|reject| (TxVerdict::Policy, reject))?,
                }
            }
        }
        if !rules::is_final(view, context.height, context.median_time_past) {
            return Err((TxVerdict::NonFinal, TxReject::NonFinal));
        }
        Ok(())
    }

    /// Keyed digest of the coins a copy claims; 0 for a raw copy.
    fn claims_digest(&self, slot: u32) -> u64 {
        let view = self.view(slot);
        if !view.is_extended() {
            return 0;
        }
        let mut digest = SipHasher13::new();
        for input in view.inputs() {
            if let Some(coin) = input.extended {
                digest.write_u64(coin.value_sat);
                digest.write_u64(self.cfg.partition.script_tag(coin.locking_script));
            }
        }
        digest.finish() | 1
    }

    /// The same digest over the coins the transaction was proven with.
    pub fn proven_digest(&self, slot: u32) -> u64 {
        let mut digest = SipHasher13::new();
        for input in &self.works[self.slots[slot as usize].work as usize].inputs {
            digest.write_u64(input.value_sat);
            digest.write_u64(input.script_tag);
        }
        digest.finish() | 1
    }
}

/// The number a parse error travels as: that of `consensus::tx::ParseErrorKind`.
fn number(kind: ParseErrorKind) -> u8 {
    match kind {
        ParseErrorKind::Truncated { .. } => 0,
        ParseErrorKind::NonCanonicalSize => 1,
        ParseErrorKind::SizeTooLarge { .. } => 2,
        ParseErrorKind::TrailingBytes { .. } => 3,
        ParseErrorKind::TooLarge { .. } => 4,
        ParseErrorKind::TooMany { .. } => 5,
        ParseErrorKind::UnknownMarker { .. } => 6,
        ParseErrorKind::Inconsistent { .. } => 7,
        _ => u8::MAX,
    }
}
