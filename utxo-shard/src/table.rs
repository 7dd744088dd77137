//! The table: one record per transaction, found by id, all in the slab.
//!
//! ```text
//! record   0      32          40            48      52       56        60        64        68        70          72
//! live     | txid | publish   | epoch       | block | height | outputs | unspent | waiters | waiting | kept until | flags.. |
//! pending  | txid | slot, att | raw, length | value (sat)    | outputs | unspent | waiters | waiting | validator | flags.. |
//!          80: one entry of 16 bytes an output, then the locking scripts; or, of more than 256 outputs, one handle an extent
//! extent   bytes u32, spare | 256 entries | their locking scripts
//! entry    value 51 bits, state and form 13 bits | script offset u32 | claim u32
//! claim    who holds or has spent a coin: txid, ticket (held) or publish sequence (spent), vin, block, what was there before,
//!          wait list; 64 bytes
//! ```
//!
//! A record is *pending* (announced, undecided), *live* (decided, imported, or a coinbase), or an *anchor*: no transaction
//! yet, only those who wait for one. A claim is taken when a coin is reserved, becomes the spend where it lies, and keeps the
//! spend it overrules (a block's over the pool's), so that settling never needs memory and undoing never needs to look far.
//! Scripts are stored as [`crate::form`] says; large ones, those of single imported coins and of reassigned coins have a block of
//! their own. Any output of any transaction is found in constant time. What a dropped record of very many outputs held is freed an
//! extent at a time ([`Table::dig`]).
//!
//! The one `unsafe` of this crate is the processor's prefetch instruction, which may be given any address.

use crate::form::{Form, INLINE_MAX_BYTES, Scratch, stored_bytes};
use crate::index::Index;
use crate::slab::{Handle, NONE, Slab};
use consensus::hash::TxId;
use dataplane::msg::Ticket;
use siphasher::sip::SipHasher13;
use std::cell::Cell;
use std::hash::Hasher;

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rec(pub Handle);

/// A claim on a coin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim(pub Handle);

impl Claim {
    /// No claim.
    pub const NONE: Self = Self(NONE);

    pub fn is_some(self) -> bool {
        self.0 != NONE
    }
}

/// What a record is. See the flags below for what may come on top.
pub(crate) mod flag {
    /// Decided, imported, or a coinbase: its outputs are coins.
    pub const LIVE: u8 = 1;
    /// Announced and not decided.
    pub const PENDING: u8 = 2;
    /// No transaction, only waiters.
    pub const ANCHOR: u8 = 4;
    /// A coinbase.
    pub const COINBASE: u8 = 8;
    /// Mined at its height whatever happens (imported).
    pub const SETTLED: u8 = 16;
    /// Its publish sequence is the pool's: block intervals speak of it.
    pub const POOL: u8 = 32;
    /// Announced in its block's context and not settled there.
    pub const BLOCK_PENDING: u8 = 64;
    /// Being evicted: none of its coins may be taken any more.
    pub const EVICTING: u8 = 128;
}

/// State and form of an output, above the 51 bits of its value.
pub(crate) mod out {
    /// Bits of a value: 21 million coins in satoshi are below 2^51.
    pub const VALUE_BITS: u32 = 51;
    /// There is a coin (or was, before it was spent); other outputs are unspendable or were never imported.
    pub const COIN: u64 = 1 << 51;
    /// Spent.
    pub const SPENT: u64 = 1 << 52;
    /// Held by an attempt.
    pub const HELD: u64 = 1 << 53;
    /// Frozen by order.
    pub const FROZEN: u64 = 1 << 54;
    /// Locked.
    pub const LOCKED: u64 = 1 << 55;
    /// Where the form of the script begins: three bits.
    pub const FORM_SHIFT: u32 = 56;
    /// The script lies in a block of its own.
    pub const APART: u64 = 1 << 59;
    /// Given another script by order; in front of it stands the height from which it may be spent.
    pub const REASSIGNED: u64 = 1 << 60;
}

/// Outputs of an extent, and most outputs of a record without extents.
pub(crate) const EXTENT_OUTPUTS: u32 = 1 << EXTENT_BITS;
const EXTENT_BITS: u32 = 8;
/// Bytes in front of an extent's entries.
pub(crate) const EXTENT_HEADER_BYTES: usize = 16;
/// Extents of dropped records freed by an allocation that found no room.
const DIG_EXTENTS: u32 = 8;
/// Ids whose hash is remembered.
const MEMO_IDS: usize = 128;
/// Ids that are prefetched together.
pub(crate) const WARM_MAX: usize = 64;
/// Bytes of a record without outputs.
pub(crate) const HEADER_BYTES: usize = 80;
/// Bytes of an output's entry.
pub(crate) const ENTRY_BYTES: usize = 16;
/// Bytes of a claim.
pub(crate) const CLAIM_BYTES: usize = 64;

const TXID: usize = 0;
const PUBLISH_SEQ: usize = 32;
const EPOCH: usize = 40;
const BLOCK: usize = 48;
const HEIGHT: usize = 52;
const OUTPUTS: usize = 56;
const UNSPENT: usize = 60;
const WAITERS: usize = 64;
const WAITING: usize = 68;
const VALIDATOR: usize = 70;
const FLAGS: usize = 72;
const IMPORTED: usize = 73;
const RULE_SET: usize = 74;
// Low and high part of the height below which a live record is not pruned.
const KEPT_LOW: usize = VALIDATOR;
const KEPT_HIGH: usize = 75;
const RECORD_BYTES: usize = 76;
/// In the byte at [`IMPORTED`]: no decision was ever imported.
const SPENDS_DONE: u8 = 2;

// While a coin is held its ticket is needed, once it is spent the publish sequence: they share their place.
const C_SLOT: usize = 32;
const C_ATTEMPT: usize = 36;
const C_PUBLISH_SEQ: usize = 32;
const C_VIN: usize = 40;
const C_BLOCK: usize = 44;
const C_PRIOR: usize = 48;
const C_WAITERS: usize = 52;
const C_WAITING: usize = 56;
const C_VALIDATOR: usize = 58;

/// Asks the processor for the cache line at `address + offset`.
#[inline]
fn prefetch(address: &[u8], offset: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing the program sees and faults on no address; the instruction is part of SSE, which every
    // x86-64 processor has.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.as_ptr().wrapping_add(offset).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, offset);
}

/// Records, claims and the index over them. See the module.
#[derive(Debug)]
pub(crate) struct Table {
    pub slab: Slab,
    pub index: Index,
    key: (u64, u64),
    /// Hashes of ids seen last: an operation asks for the same few many times, and [`Table::warm`] for all of a batch before.
    memo: Box<[Cell<(TxId, u32)>; MEMO_IDS]>,
    /// Dropped records with extents, whose parts are still to be freed.
    graves: Handle,
}

macro_rules! field {
    ($t:ty, $get:ident, $put:ident, $as:ident, $reader:ident, $writer:ident, $at:expr) => {
        #[inline]
        pub fn $get(&self, of: $t) -> $as {
            self.slab.$reader(of.0, $at)
        }
        #[inline]
        pub fn $put(&mut self, of: $t, value: $as) {
            self.slab.$writer(of.0, $at, value);
        }
    };
}

impl Table {
    pub fn new(transactions_max: usize, slab_bytes: usize, key: (u64, u64)) -> Self {
        Self::of(Slab::new(slab_bytes), Index::new(transactions_max), key, NONE)
    }

    /// A table made again from its two memories.
    pub fn of(slab: Slab, index: Index, key: (u64, u64), graves: Handle) -> Self {
        let zero = TxId([0; 32]);
        let memo = Box::new([const { Cell::new((TxId([0; 32]), 0)) }; MEMO_IDS]);
        let table = Self { slab, index, key, memo, graves };
        table.memo[0].set((zero, table.keyed_hash(&zero)));
        // Elsewhere an id that begins with zero never stands, so what is there before the first id is never taken for one.
        table
    }

    /// Whether what is asked for from here on may come from the reserve, which is kept for blocks.
    #[inline]
    pub fn draw_on_reserve(&mut self, may: bool) {
        self.slab.draw_on_reserve(may);
        self.index.draw_on_reserve(may);
    }

    /// Whether it may.
    pub fn draws_on_reserve(&self) -> bool {
        self.slab.draws_on_reserve()
    }

    #[inline]
    fn hash(&self, txid: &TxId) -> u32 {
        let memo = &self.memo[usize::from(txid.0[0]) % MEMO_IDS];
        let (id, hash) = memo.get();
        if id == *txid {
            return hash;
        }
        let hash = self.keyed_hash(txid);
        memo.set((*txid, hash));
        hash
    }

    fn keyed_hash(&self, txid: &TxId) -> u32 {
        let mut h = SipHasher13::new_with_keys(self.key.0, self.key.1);
        h.write(&txid.0);
        (h.finish() >> 32) as u32
    }

    /// Requests the cache lines that finding these ids will need, before any of them is looked at; at most [`WARM_MAX`].
    #[inline]
    pub fn warm<'a>(&self, ids: impl Iterator<Item = &'a TxId>) {
        let mut hashes = [0; WARM_MAX];
        let mut n = 0;
        for (id, hash) in ids.zip(&mut hashes) {
            *hash = self.hash(id);
            prefetch(self.index.line(*hash), 0);
            n += 1;
        }
        for &hash in &hashes[..n] {
            let handle = self.index.first(hash);
            if handle != NONE {
                let record = self.slab.slice(handle, 0, HEADER_BYTES);
                prefetch(record, 0);
                prefetch(record, 64);
                prefetch(record, 128);
            }
        }
    }

    /// Requests the lines of a record, before it is looked at.
    #[inline]
    pub fn warm_record(&self, handle: Handle) {
        if handle != NONE {
            let record = self.slab.slice(handle, 0, HEADER_BYTES);
            prefetch(record, 0);
            prefetch(record, 64);
        }
    }

    /// The record of an id.
    #[inline]
    pub fn find(&self, txid: &TxId) -> Option<Rec> {
        let place = self.place(txid)?;
        Some(Rec(self.index.at(place)))
    }

    fn place(&self, txid: &TxId) -> Option<usize> {
        self.index.find(self.hash(txid), |h| self.slab.array32(h, TXID) == &txid.0)
    }

    /// An empty record with room for `outputs` entries and, if it has no extents, `script_bytes` of scripts; not in the index yet.
    pub fn alloc(
        &mut self,
        txid: &TxId,
        flags: u8,
        outputs: u32,
        script_bytes: usize,
    ) -> Option<Rec> {
        let body = if outputs > EXTENT_OUTPUTS {
            outputs.div_ceil(EXTENT_OUTPUTS) as usize * 4
        } else {
            outputs as usize * ENTRY_BYTES
        };
        let scripts = if outputs > EXTENT_OUTPUTS { 0 } else { script_bytes };
        let bytes = HEADER_BYTES + body + scripts;
        let rec = Rec(self.take(bytes)?);
        self.slab.slice_mut(rec.0, 0, HEADER_BYTES + body).fill(0);
        self.slab.put_array32(rec.0, TXID, &txid.0);
        self.slab.put_u8(rec.0, FLAGS, flags);
        self.put_outputs(rec, outputs);
        self.slab.put_u32(rec.0, RECORD_BYTES, bytes as u32);
        Some(rec)
    }

    /// A block of the slab; what dropped records still hold is freed first if there is none.
    pub fn take(&mut self, bytes: usize) -> Option<Handle> {
        if bytes > u32::MAX as usize {
            return None;
        }
        match self.slab.alloc(bytes) {
            Some(block) => Some(block),
            None if self.dig(DIG_EXTENTS) => self.slab.alloc(bytes),
            None => None,
        }
    }

    /// Gives a record its extent `number`, with all outputs blank; gives the block.
    pub fn add_extent(&mut self, rec: Rec, number: u32, script_bytes: usize) -> Option<Handle> {
        let entries = EXTENT_HEADER_BYTES + EXTENT_OUTPUTS as usize * ENTRY_BYTES;
        let bytes = entries + script_bytes;
        let block = self.take(bytes)?;
        self.slab.slice_mut(block, 0, entries).fill(0);
        self.slab.put_u32(block, 0, bytes as u32);
        self.slab.put_u32(rec.0, HEADER_BYTES + number as usize * 4, block);
        Some(block)
    }

    /// Frees a record that is not in the index (any more), and scripts that lie apart; in steps if it has extents.
    pub fn dealloc(&mut self, rec: Rec) {
        let outputs = self.outputs(rec);
        if outputs > EXTENT_OUTPUTS {
            self.slab.put_u32(rec.0, TXID, self.graves);
            self.slab.put_u32(rec.0, TXID + 4, 0);
            self.graves = rec.0;
            return;
        }
        for vout in 0..outputs {
            self.free_script(rec, vout);
        }
        let bytes = self.record_bytes(rec);
        self.slab.free(rec.0, bytes);
    }

    /// First of the dropped records that still hold memory.
    pub fn graves(&self) -> Handle {
        self.graves
    }

    /// Whether dropped records still hold memory.
    pub fn has_graves(&self) -> bool {
        self.graves != NONE
    }

    /// Frees at most `extents` extents of dropped records; false if there are none.
    pub fn dig(&mut self, extents: u32) -> bool {
        for _ in 0..extents {
            if self.graves == NONE {
                return false;
            }
            let rec = Rec(self.graves);
            let number = self.slab.u32(rec.0, TXID + 4);
            let first = number << EXTENT_BITS;
            let outputs = self.outputs(rec);
            if first >= outputs {
                self.graves = self.slab.u32(rec.0, TXID);
                let bytes = self.record_bytes(rec);
                self.slab.free(rec.0, bytes);
                continue;
            }
            let (extent, _) = self.entry(rec, first);
            if extent != NONE {
                for vout in first..outputs.min(first + EXTENT_OUTPUTS) {
                    self.free_script(rec, vout);
                }
                let bytes = self.slab.u32(extent, 0) as usize;
                self.slab.free(extent, bytes);
            }
            self.slab.put_u32(rec.0, TXID + 4, number + 1);
        }
        true
    }

    /// Bytes of the slab that a record takes beside its scripts that lie apart, extents from `first_extent` on.
    pub fn record_block_bytes(&self, rec: Rec, first_extent: u32) -> u64 {
        let mut bytes = Slab::block_bytes(self.record_bytes(rec));
        let outputs = self.outputs(rec);
        if outputs > EXTENT_OUTPUTS {
            for number in first_extent..outputs.div_ceil(EXTENT_OUTPUTS) {
                let (extent, _) = self.entry(rec, number << EXTENT_BITS);
                if extent != NONE {
                    bytes += Slab::block_bytes(self.slab.u32(extent, 0) as usize);
                }
            }
        }
        bytes
    }

    /// Bytes of the slab that dropped records still hold.
    pub fn grave_bytes(&self) -> u64 {
        let mut bytes = 0;
        let mut at = self.graves;
        while at != NONE {
            let rec = Rec(at);
            let first = self.slab.u32(at, TXID + 4);
            bytes += self.record_block_bytes(rec, first);
            for vout in first << EXTENT_BITS..self.outputs(rec) {
                let apart = self.apart_bytes(rec, vout);
                bytes += if apart > 0 { Slab::block_bytes(apart) } else { 0 };
            }
            at = self.slab.u32(at, TXID);
        }
        bytes
    }

    /// Bytes a record was allocated with.
    pub fn record_bytes(&self, rec: Rec) -> usize {
        self.slab.u32(rec.0, RECORD_BYTES) as usize
    }

    /// Puts a record into the index in place of the anchor that may stand there, whose waiters it takes over.
    ///
    /// The caller has made sure that the index has room.
    pub fn enter(&mut self, rec: Rec) {
        let txid = self.txid(rec);
        if let Some(place) = self.place(&txid) {
            let old = Rec(self.index.at(place));
            let (head, count) = (self.waiters(old), self.waiting(old));
            self.put_waiters(rec, head);
            self.put_waiting(rec, count);
            self.index.set(place, rec.0);
            self.dealloc(old);
        } else {
            let hash = self.hash(&txid);
            self.index.insert(hash, rec.0);
        }
    }

    /// Takes a record out of the index and frees it.
    pub fn remove(&mut self, rec: Rec) {
        let txid = self.txid(rec);
        let place = self.place(&txid).expect("a record that is removed stands in the index");
        self.index.remove(place);
        self.dealloc(rec);
    }

    #[inline]
    pub fn txid(&self, rec: Rec) -> TxId {
        TxId(*self.slab.array32(rec.0, TXID))
    }

    field!(Rec, publish_seq, put_publish_seq, u64, u64, put_u64, PUBLISH_SEQ);
    field!(Rec, epoch_number, put_epoch_number, u64, u64, put_u64, EPOCH);
    field!(Rec, block, put_block, u32, u32, put_u32, BLOCK);
    field!(Rec, height, put_height, u32, u32, put_u32, HEIGHT);
    field!(Rec, pending_value_sat, put_pending_value_sat, u64, u64, put_u64, BLOCK);
    field!(Rec, outputs, put_outputs, u32, u32, put_u32, OUTPUTS);
    field!(Rec, unspent, put_unspent, u32, u32, put_u32, UNSPENT);
    field!(Rec, waiters, put_waiters, u32, u32, put_u32, WAITERS);
    field!(Rec, waiting, put_waiting, u16, u16, put_u16, WAITING);
    field!(Rec, validator, put_validator, u16, u16, put_u16, VALIDATOR);
    field!(Rec, flags, put_flags, u8, u8, put_u8, FLAGS);
    // One if the record was made by imports of single coins: then it may grow.
    field!(Rec, imported, put_imported, u8, u8, put_u8, IMPORTED);

    // Which of the shard's rule sets its scripts were verified under.
    field!(Rec, rule_set, put_rule_set, u8, u8, put_u8, RULE_SET);

    /// Whether all its spends are logged, the last of them in the record's epoch.
    pub fn is_spends_done(&self, rec: Rec) -> bool {
        self.imported(rec) & SPENDS_DONE != 0
    }

    pub fn put_spends_done(&mut self, rec: Rec) {
        let imported = self.imported(rec);
        self.put_imported(rec, imported | SPENDS_DONE);
    }

    /// Height below which a live record is not pruned, whatever becomes of its outputs.
    pub fn kept_until(&self, rec: Rec) -> u32 {
        u32::from(self.slab.u16(rec.0, KEPT_LOW)) | u32::from(self.slab.u8(rec.0, KEPT_HIGH)) << 16
    }

    /// At most [`crate::config::KEPT_UNTIL_MAX`].
    pub fn put_kept_until(&mut self, rec: Rec, height: u32) {
        self.slab.put_u16(rec.0, KEPT_LOW, height as u16);
        self.slab.put_u8(rec.0, KEPT_HIGH, (height >> 16) as u8);
    }

    #[inline]
    pub fn is(&self, rec: Rec, flag: u8) -> bool {
        self.flags(rec) & flag != 0
    }

    pub fn ticket(&self, rec: Rec) -> Ticket {
        Ticket {
            slot: self.slab.u32(rec.0, PUBLISH_SEQ),
            attempt: self.slab.u32(rec.0, PUBLISH_SEQ + 4),
        }
    }

    pub fn put_ticket(&mut self, rec: Rec, ticket: Ticket) {
        self.slab.put_u32(rec.0, PUBLISH_SEQ, ticket.slot);
        self.slab.put_u32(rec.0, PUBLISH_SEQ + 4, ticket.attempt);
    }

    /// Block and length of a pending transaction's bytes.
    pub fn raw(&self, rec: Rec) -> (Handle, usize) {
        (self.slab.u32(rec.0, EPOCH), self.slab.u32(rec.0, EPOCH + 4) as usize)
    }

    pub fn put_raw(&mut self, rec: Rec, raw: Handle, len: usize) {
        self.slab.put_u32(rec.0, EPOCH, raw);
        self.slab.put_u32(rec.0, EPOCH + 4, len as u32);
    }

    /// Block and offset of an output's entry; no block where an imported transaction has no extent yet.
    #[inline]
    fn entry(&self, rec: Rec, vout: u32) -> (Handle, usize) {
        if self.outputs(rec) <= EXTENT_OUTPUTS {
            return (rec.0, HEADER_BYTES + vout as usize * ENTRY_BYTES);
        }
        let number = (vout >> EXTENT_BITS) as usize;
        let extent = self.slab.u32(rec.0, HEADER_BYTES + number * 4);
        let slot = (vout & (EXTENT_OUTPUTS - 1)) as usize;
        (extent, EXTENT_HEADER_BYTES + slot * ENTRY_BYTES)
    }

    /// Value, state and form of an output, see [`out`].
    #[inline]
    pub fn output(&self, rec: Rec, vout: u32) -> u64 {
        let (block, at) = self.entry(rec, vout);
        if block == NONE { 0 } else { self.slab.u64(block, at) }
    }

    #[inline]
    pub fn put_output(&mut self, rec: Rec, vout: u32, bits: u64) {
        let (block, at) = self.entry(rec, vout);
        self.slab.put_u64(block, at, bits);
    }

    fn script_at(&self, rec: Rec, vout: u32) -> (Handle, u32) {
        let (block, at) = self.entry(rec, vout);
        (block, self.slab.u32(block, at + 8))
    }

    fn put_script_at(&mut self, rec: Rec, vout: u32, value: u32) {
        let (block, at) = self.entry(rec, vout);
        self.slab.put_u32(block, at + 8, value);
    }

    /// The claim of an output.
    #[inline]
    pub fn claim(&self, rec: Rec, vout: u32) -> Claim {
        let (block, at) = self.entry(rec, vout);
        if block == NONE { Claim::NONE } else { Claim(self.slab.u32(block, at + 12)) }
    }

    #[inline]
    pub fn put_claim(&mut self, rec: Rec, vout: u32, claim: Claim) {
        let (block, at) = self.entry(rec, vout);
        self.slab.put_u32(block, at + 12, claim.0);
    }

    /// Writes an output that is no coin.
    pub fn write_blank(&mut self, rec: Rec, vout: u32) {
        let (block, at) = self.entry(rec, vout);
        if block != NONE {
            self.slab.slice_mut(block, at, ENTRY_BYTES).fill(0);
        }
    }

    /// Writes a coin whose script is the `len` bytes at `from`, and goes to `script_at` in the block of its entry, or apart if it is
    /// large; gives the bytes it took in that block. `None` where there is no room apart.
    pub fn copy_coin(
        &mut self,
        rec: Rec,
        vout: u32,
        value_sat: u64,
        from: (Handle, usize),
        len: usize,
        script_at: usize,
    ) -> Option<usize> {
        let script = self.slab.slice(from.0, from.1, len);
        let stored = stored_bytes(script);
        let form = Form::of(script);
        let mut bits = value_sat | out::COIN | (form as u64) << out::FORM_SHIFT;
        let (to, took, place) = if stored > INLINE_MAX_BYTES {
            let block = self.take(stored)?;
            bits |= out::APART;
            ((block, 0), 0, block)
        } else {
            ((self.entry(rec, vout).0, script_at), stored, script_at as u32)
        };
        let (skip, bytes, prefix) = form.cut(len);
        self.write_prefix(to, prefix, len);
        self.slab.copy((from.0, from.1 + skip), (to.0, to.1 + prefix), bytes);
        self.put_output(rec, vout, bits);
        self.put_script_at(rec, vout, place);
        self.put_claim(rec, vout, Claim::NONE);
        Some(took)
    }

    /// As [`Table::copy_coin`], of a script that lies elsewhere.
    pub fn write_coin(
        &mut self,
        rec: Rec,
        vout: u32,
        value_sat: u64,
        script: &[u8],
        script_at: usize,
    ) -> Option<usize> {
        let stored = stored_bytes(script);
        if stored > INLINE_MAX_BYTES {
            return self.write_coin_apart(rec, vout, value_sat, script).then_some(0);
        }
        let form = Form::of(script);
        let (skip, bytes, prefix) = form.cut(script.len());
        let (block, _) = self.entry(rec, vout);
        self.write_prefix((block, script_at), prefix, script.len());
        self.slab
            .slice_mut(block, script_at + prefix, bytes)
            .copy_from_slice(&script[skip..][..bytes]);
        let form = (form as u64) << out::FORM_SHIFT;
        self.put_output(rec, vout, value_sat | out::COIN | form);
        self.put_script_at(rec, vout, script_at as u32);
        self.put_claim(rec, vout, Claim::NONE);
        Some(stored)
    }

    fn write_prefix(&mut self, to: (Handle, usize), prefix: usize, len: usize) {
        match prefix {
            1 => self.slab.put_u8(to.0, to.1, len as u8),
            4 => self.slab.put_u32(to.0, to.1, len as u32),
            _ => {}
        }
    }

    fn write_apart(&mut self, lead: usize, script: &[u8]) -> Option<(Handle, Form)> {
        let form = Form::of(script);
        let (skip, bytes, prefix) = form.cut(script.len());
        let block = self.take(lead + prefix + bytes)?;
        self.write_prefix((block, lead), prefix, script.len());
        self.slab.slice_mut(block, lead + prefix, bytes).copy_from_slice(&script[skip..][..bytes]);
        Some((block, form))
    }

    /// Writes a coin whose script gets a block of its own; false when there is none. Its extent is there.
    pub fn write_coin_apart(&mut self, rec: Rec, vout: u32, value_sat: u64, script: &[u8]) -> bool {
        let Some((block, form)) = self.write_apart(0, script) else { return false };
        let bits = value_sat | out::COIN | out::APART | (form as u64) << out::FORM_SHIFT;
        self.put_output(rec, vout, bits);
        self.put_script_at(rec, vout, block);
        self.put_claim(rec, vout, Claim::NONE);
        true
    }

    /// Gives a coin another script, to be spent from a height on; false when there is no room.
    pub fn reassign(&mut self, rec: Rec, vout: u32, script: &[u8], from_height: u32) -> bool {
        let Some((block, form)) = self.write_apart(4, script) else { return false };
        self.free_script(rec, vout);
        self.slab.put_u32(block, 0, from_height);
        let bits = self.output(rec, vout) & !(7 << out::FORM_SHIFT);
        let form = (form as u64) << out::FORM_SHIFT;
        self.put_output(rec, vout, bits | form | out::APART | out::REASSIGNED);
        self.put_script_at(rec, vout, block);
        true
    }

    /// Height from which a reassigned coin may be spent.
    pub fn reassigned_from(&self, rec: Rec, vout: u32) -> u32 {
        let (_, block) = self.script_at(rec, vout);
        self.slab.u32(block, 0)
    }

    /// Frees the script of an output if it lies apart; the output has none from then on.
    pub fn free_script(&mut self, rec: Rec, vout: u32) {
        let bytes = self.apart_bytes(rec, vout);
        if bytes > 0 {
            let (_, block) = self.script_at(rec, vout);
            self.slab.free(block, bytes);
            let bits = self.output(rec, vout);
            self.put_output(rec, vout, bits & !(out::APART | out::REASSIGNED));
            self.put_script_at(rec, vout, 0);
        }
    }

    /// Bytes of the block a script that lies apart takes, else 0.
    pub fn apart_bytes(&self, rec: Rec, vout: u32) -> usize {
        let bits = self.output(rec, vout);
        if bits & out::APART == 0 {
            return 0;
        }
        let (block, lead) = self.stored_at(rec, vout, bits);
        let (_, bytes, prefix) = Self::form(bits).cut(self.long_bytes(block, lead, bits));
        lead + prefix + bytes
    }

    #[inline]
    fn form(bits: u64) -> Form {
        Form::from_number((bits >> out::FORM_SHIFT) as u8 & 7)
    }

    /// Bytes of a script that is stored with its length.
    fn long_bytes(&self, block: Handle, at: usize, bits: u64) -> usize {
        match Self::form(bits) {
            Form::Short => self.slab.u8(block, at).into(),
            Form::Long => self.slab.u32(block, at) as usize,
            _ => 0,
        }
    }

    /// Where a script is stored.
    #[inline]
    fn stored_at(&self, rec: Rec, vout: u32, bits: u64) -> (Handle, usize) {
        let (block, at) = self.script_at(rec, vout);
        if bits & out::APART == 0 {
            (block, at as usize)
        } else {
            (at, if bits & out::REASSIGNED == 0 { 0 } else { 4 })
        }
    }

    /// The locking script of a coin, put together in `scratch` where it is stored in short.
    pub fn script<'a>(&'a self, rec: Rec, vout: u32, scratch: &'a mut Scratch) -> &'a [u8] {
        let bits = self.output(rec, vout);
        let (block, at) = self.stored_at(rec, vout, bits);
        let form = Self::form(bits);
        let (_, len, prefix) = form.cut(self.long_bytes(block, at, bits));
        let stored = self.slab.slice(block, at + prefix, len);
        let Some((front, back)) = form.frame() else { return stored };
        let end = front.len() + len + back.len();
        scratch[..front.len()].copy_from_slice(front);
        scratch[front.len()..][..len].copy_from_slice(stored);
        scratch[end - back.len()..end].copy_from_slice(back);
        &scratch[..end]
    }

    /// Value of an output.
    pub fn value_sat(bits: u64) -> u64 {
        bits & ((1 << out::VALUE_BITS) - 1)
    }

    /// Makes room for output `vout` in a record that holds single imported coins; its block may change. `None` when there is none.
    pub fn grow(&mut self, rec: Rec, vout: u32) -> Option<Rec> {
        let old = self.outputs(rec);
        let outputs = old.max(vout + 1);
        let body = if outputs > EXTENT_OUTPUTS {
            outputs.div_ceil(EXTENT_OUTPUTS) as usize * 4
        } else {
            outputs as usize * ENTRY_BYTES
        };
        let spread = old <= EXTENT_OUTPUTS && outputs > EXTENT_OUTPUTS;
        let target = if !spread && HEADER_BYTES + body <= self.record_bytes(rec) {
            rec
        } else {
            self.regrow(rec, old, outputs, spread)?
        };
        self.put_outputs(target, outputs);
        let number = vout >> EXTENT_BITS;
        if outputs > EXTENT_OUTPUTS && self.entry(target, vout).0 == NONE {
            self.add_extent(target, number, 0)?;
        }
        Some(target)
    }

    /// A larger block for a record; `spread` moves its entries into its first extent.
    fn regrow(&mut self, rec: Rec, old: u32, outputs: u32, spread: bool) -> Option<Rec> {
        let txid = self.txid(rec);
        let room = outputs.checked_next_power_of_two()?;
        let new = self.alloc(&txid, 0, room, 0)?;
        let bytes = self.record_bytes(new) as u32;
        let entries = old as usize * ENTRY_BYTES;
        self.slab.copy((rec.0, 0), (new.0, 0), HEADER_BYTES);
        self.slab.put_u32(new.0, RECORD_BYTES, bytes);
        if spread {
            self.put_outputs(new, outputs);
            let Some(extent) = self.add_extent(new, 0, 0) else {
                self.slab.free(new.0, bytes as usize);
                return None;
            };
            self.slab.copy((rec.0, HEADER_BYTES), (extent, EXTENT_HEADER_BYTES), entries);
        } else if old > EXTENT_OUTPUTS {
            let handles = old.div_ceil(EXTENT_OUTPUTS) as usize * 4;
            self.slab.copy((rec.0, HEADER_BYTES), (new.0, HEADER_BYTES), handles);
        } else {
            self.slab.copy((rec.0, HEADER_BYTES), (new.0, HEADER_BYTES), entries);
        }
        let place = self.place(&txid).expect("a record that grows stands in the index");
        self.index.set(place, new.0);
        let bytes = self.record_bytes(rec);
        self.slab.free(rec.0, bytes);
        Some(new)
    }

    /// A claim for `txid`, with no one waiting.
    pub fn alloc_claim(
        &mut self,
        txid: &TxId,
        validator: u16,
        ticket: Ticket,
        vin: u32,
        block: u32,
    ) -> Option<Claim> {
        let claim = Claim(self.take(CLAIM_BYTES)?);
        self.slab.slice_mut(claim.0, 0, CLAIM_BYTES).fill(0);
        self.put_holder(claim, txid, validator, ticket, vin, block);
        Some(claim)
    }

    /// Changes who holds a coin.
    pub fn put_holder(
        &mut self,
        claim: Claim,
        txid: &TxId,
        validator: u16,
        ticket: Ticket,
        vin: u32,
        block: u32,
    ) {
        self.slab.put_array32(claim.0, TXID, &txid.0);
        self.put_claim_validator(claim, validator);
        self.slab.put_u32(claim.0, C_SLOT, ticket.slot);
        self.slab.put_u32(claim.0, C_ATTEMPT, ticket.attempt);
        self.slab.put_u32(claim.0, C_VIN, vin);
        self.put_claim_block(claim, block);
    }

    pub fn free_claim(&mut self, claim: Claim) {
        self.slab.free(claim.0, CLAIM_BYTES);
    }

    #[inline]
    pub fn claimant(&self, claim: Claim) -> TxId {
        TxId(*self.slab.array32(claim.0, TXID))
    }

    pub fn claim_ticket(&self, claim: Claim) -> Ticket {
        Ticket { slot: self.slab.u32(claim.0, C_SLOT), attempt: self.slab.u32(claim.0, C_ATTEMPT) }
    }

    pub fn claim_vin(&self, claim: Claim) -> u32 {
        self.slab.u32(claim.0, C_VIN)
    }

    field!(Claim, claim_block, put_claim_block, u32, u32, put_u32, C_BLOCK);
    field!(Claim, claim_publish_seq, put_claim_publish_seq, u64, u64, put_u64, C_PUBLISH_SEQ);
    field!(Claim, claim_waiters, put_claim_waiters, u32, u32, put_u32, C_WAITERS);
    field!(Claim, claim_waiting, put_claim_waiting, u16, u16, put_u16, C_WAITING);
    field!(Claim, claim_validator, put_claim_validator, u16, u16, put_u16, C_VALIDATOR);

    pub fn prior(&self, claim: Claim) -> Claim {
        Claim(self.slab.u32(claim.0, C_PRIOR))
    }

    pub fn put_prior(&mut self, claim: Claim, prior: Claim) {
        self.slab.put_u32(claim.0, C_PRIOR, prior.0);
    }
}
