//! The table: one record per transaction, found by id, all in the slab.
//!
//! ```text
//! record   0      32          40            48      52       56        60        64        68        70          72
//! live     | txid | publish   | epoch       | block | height | outputs | unspent | waiters | waiting | spare     | class.. |
//! pending  | txid | slot, att | raw, length | value (sat)    | outputs | unspent | waiters | waiting | validator | flags.. |
//!          80: one entry of 16 bytes an output, then the locking scripts
//! entry    value 51 bits, state and form 13 bits | script offset u32 | claim u32
//! claim    who holds or has spent a coin: txid, ticket, vin, block, publish sequence, what was there before, wait list
//! ```
//!
//! A record is *pending* (announced, undecided), *live* (decided, imported, or a coinbase), or an *anchor*: no transaction
//! yet, only those who wait for one. A claim is taken when a coin is reserved, becomes the spend where it lies, and keeps the
//! spend it overrules (a block's over the pool's), so that settling never needs memory and undoing never needs to look far.
//! P2PKH scripts take 20 bytes, others four more than their own; scripts of single imported coins have a block of their own.

use crate::index::Index;
use crate::slab::{Handle, NONE, Slab};
use consensus::hash::TxId;
use dataplane::msg::Ticket;
use siphasher::sip::SipHasher13;
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
    /// The script is a P2PKH script of which only the hash is stored.
    pub const P2PKH: u64 = 1 << 56;
    /// The script lies in a block of its own.
    pub const APART: u64 = 1 << 57;
}

/// Bytes of a record without outputs.
pub(crate) const HEADER_BYTES: usize = 80;
/// Bytes of an output's entry.
pub(crate) const ENTRY_BYTES: usize = 16;
/// Bytes of a claim.
pub(crate) const CLAIM_BYTES: usize = 72;
const P2PKH_BYTES: usize = 25;

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
const RECORD_BYTES: usize = 76;

const C_SLOT: usize = 32;
const C_ATTEMPT: usize = 36;
const C_VIN: usize = 40;
const C_BLOCK: usize = 44;
const C_PUBLISH_SEQ: usize = 48;
const C_PRIOR: usize = 56;
const C_WAITERS: usize = 60;
const C_WAITING: usize = 64;
const C_VALIDATOR: usize = 66;

/// Twenty bytes of hash if this is a P2PKH script.
pub(crate) fn p2pkh_hash(script: &[u8]) -> Option<&[u8; 20]> {
    match script {
        [0x76, 0xa9, 0x14, hash @ .., 0x88, 0xac] => hash.try_into().ok(),
        _ => None,
    }
}

/// Bytes a script takes in a record.
pub(crate) fn stored_script_bytes(script: &[u8]) -> usize {
    if p2pkh_hash(script).is_some() { 20 } else { 4 + script.len() }
}

/// Records, claims and the index over them. See the module.
#[derive(Debug)]
pub(crate) struct Table {
    pub slab: Slab,
    pub index: Index,
    key: (u64, u64),
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
        Self { slab: Slab::new(slab_bytes), index: Index::new(transactions_max), key }
    }

    #[inline]
    fn hash(&self, txid: &TxId) -> u32 {
        let mut h = SipHasher13::new_with_keys(self.key.0, self.key.1);
        h.write(&txid.0);
        (h.finish() >> 32) as u32
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

    /// An empty record with room for `outputs` entries and `script_bytes` of scripts, not in the index yet.
    pub fn alloc(
        &mut self,
        txid: &TxId,
        flags: u8,
        outputs: u32,
        script_bytes: usize,
    ) -> Option<Rec> {
        let bytes = HEADER_BYTES + outputs as usize * ENTRY_BYTES + script_bytes;
        if bytes > u32::MAX as usize {
            return None;
        }
        let rec = Rec(self.slab.alloc(bytes)?);
        self.slab.slice_mut(rec.0, 0, HEADER_BYTES).fill(0);
        self.slab.put_array32(rec.0, TXID, &txid.0);
        self.slab.put_u8(rec.0, FLAGS, flags);
        self.put_outputs(rec, outputs);
        self.slab.put_u32(rec.0, RECORD_BYTES, bytes as u32);
        Some(rec)
    }

    /// Frees the block of a record that is not in the index (any more), and scripts that lie apart.
    pub fn dealloc(&mut self, rec: Rec) {
        let bytes = self.slab.u32(rec.0, RECORD_BYTES) as usize;
        self.slab.free(rec.0, bytes);
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

    const fn entry(vout: u32) -> usize {
        HEADER_BYTES + vout as usize * ENTRY_BYTES
    }

    /// Value, state and form of an output, see [`out`].
    #[inline]
    pub fn output(&self, rec: Rec, vout: u32) -> u64 {
        self.slab.u64(rec.0, Self::entry(vout))
    }

    #[inline]
    pub fn put_output(&mut self, rec: Rec, vout: u32, bits: u64) {
        self.slab.put_u64(rec.0, Self::entry(vout), bits);
    }

    fn script_at(&self, rec: Rec, vout: u32) -> u32 {
        self.slab.u32(rec.0, Self::entry(vout) + 8)
    }

    /// The claim of an output.
    #[inline]
    pub fn claim(&self, rec: Rec, vout: u32) -> Claim {
        Claim(self.slab.u32(rec.0, Self::entry(vout) + 12))
    }

    #[inline]
    pub fn put_claim(&mut self, rec: Rec, vout: u32, claim: Claim) {
        self.slab.put_u32(rec.0, Self::entry(vout) + 12, claim.0);
    }

    /// Writes an output that is no coin.
    pub fn write_blank(&mut self, rec: Rec, vout: u32) {
        self.slab.slice_mut(rec.0, Self::entry(vout), ENTRY_BYTES).fill(0);
    }

    /// Writes a coin whose script is the `len` bytes at `from`, and goes to `script_at` in the record; gives the bytes it took.
    pub fn copy_coin(
        &mut self,
        rec: Rec,
        vout: u32,
        value_sat: u64,
        from: (Handle, usize),
        len: usize,
        script_at: usize,
    ) -> usize {
        let mut bits = value_sat | out::COIN;
        let took = if p2pkh_hash(self.slab.slice(from.0, from.1, len)).is_some() {
            bits |= out::P2PKH;
            self.slab.copy((from.0, from.1 + 3), (rec.0, script_at), 20);
            20
        } else {
            self.slab.put_u32(rec.0, script_at, len as u32);
            self.slab.copy(from, (rec.0, script_at + 4), len);
            4 + len
        };
        self.put_output(rec, vout, bits);
        self.slab.put_u32(rec.0, Self::entry(vout) + 8, script_at as u32);
        self.put_claim(rec, vout, Claim::NONE);
        took
    }

    /// Writes a coin whose script gets a block of its own; false when there is none.
    pub fn write_coin_apart(&mut self, rec: Rec, vout: u32, value_sat: u64, script: &[u8]) -> bool {
        let stored = stored_script_bytes(script);
        let Some(block) = self.slab.alloc(stored) else { return false };
        let mut bits = value_sat | out::COIN | out::APART;
        if let Some(hash) = p2pkh_hash(script) {
            bits |= out::P2PKH;
            self.slab.slice_mut(block, 0, 20).copy_from_slice(hash);
        } else {
            self.slab.put_u32(block, 0, script.len() as u32);
            self.slab.slice_mut(block, 4, script.len()).copy_from_slice(script);
        }
        self.put_output(rec, vout, bits);
        self.slab.put_u32(rec.0, Self::entry(vout) + 8, block);
        self.put_claim(rec, vout, Claim::NONE);
        true
    }

    /// Frees the script of an output if it lies apart.
    pub fn free_script(&mut self, rec: Rec, vout: u32) {
        let bits = self.output(rec, vout);
        if bits & out::APART != 0 {
            let block = self.script_at(rec, vout);
            let len =
                if bits & out::P2PKH != 0 { 20 } else { 4 + self.slab.u32(block, 0) as usize };
            self.slab.free(block, len);
        }
    }

    /// Bytes of the block a script that lies apart takes, else 0.
    pub fn apart_bytes(&self, rec: Rec, vout: u32) -> usize {
        let bits = self.output(rec, vout);
        if bits & out::APART == 0 {
            0
        } else if bits & out::P2PKH != 0 {
            20
        } else {
            4 + self.slab.u32(self.script_at(rec, vout), 0) as usize
        }
    }

    /// The locking script of a coin, put together in `scratch` where it is stored in short.
    pub fn script<'a>(
        &'a self,
        rec: Rec,
        vout: u32,
        scratch: &'a mut [u8; P2PKH_BYTES],
    ) -> &'a [u8] {
        let bits = self.output(rec, vout);
        let at = self.script_at(rec, vout);
        let (block, at) = if bits & out::APART != 0 { (at, 0) } else { (rec.0, at as usize) };
        if bits & out::P2PKH != 0 {
            scratch[..3].copy_from_slice(&[0x76, 0xa9, 0x14]);
            scratch[3..23].copy_from_slice(self.slab.slice(block, at, 20));
            scratch[23..].copy_from_slice(&[0x88, 0xac]);
            return scratch;
        }
        let len = self.slab.u32(block, at) as usize;
        self.slab.slice(block, at + 4, len)
    }

    /// Value of an output.
    pub fn value_sat(bits: u64) -> u64 {
        bits & ((1 << out::VALUE_BITS) - 1)
    }

    /// Makes room for more entries in a record that holds single imported coins; its block may change.
    pub fn grow(&mut self, rec: Rec, outputs: u32) -> Option<Rec> {
        let old = self.outputs(rec);
        let bytes = HEADER_BYTES + outputs as usize * ENTRY_BYTES;
        let target = if bytes <= self.record_bytes(rec) {
            rec
        } else {
            let room = outputs.next_power_of_two();
            let txid = self.txid(rec);
            let new = self.alloc(&txid, 0, room, 0)?;
            let bytes = self.record_bytes(new) as u32;
            self.slab.copy((rec.0, 0), (new.0, 0), Self::entry(old));
            self.slab.put_u32(new.0, RECORD_BYTES, bytes);
            let place = self.place(&txid).expect("a record that grows stands in the index");
            self.index.set(place, new.0);
            self.dealloc(rec);
            new
        };
        for vout in old..outputs {
            self.write_blank(target, vout);
        }
        self.put_outputs(target, outputs);
        Some(target)
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
        let claim = Claim(self.slab.alloc(CLAIM_BYTES)?);
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
