//! Creating records in pieces.
//!
//! An announced transaction's bytes are copied into the slab once; then its inputs are passed, and its outputs written a chunk at a
//! time: all of them, or an extent's worth. A chunk is walked twice, first to learn how many bytes of scripts it has, then to write
//! it. Every walk stops after [`OUTPUTS_PER_STEP`] items or [`BYTES_PER_STEP`] bytes and goes on in the next step, so a
//! transaction with a million outputs stalls nobody; the record enters the index, as *pending*, only when it is whole. Settling
//! it later writes a few header fields.

use crate::config::{BYTES_PER_STEP, OUTPUTS_PER_STEP};
use crate::form::inline_bytes;
use crate::outputs::{OutputWalk, Step, is_unspendable};
use crate::shard::Shard;
use crate::slab::{Handle, Slab};
use crate::table::{
    ENTRY_BYTES, EXTENT_HEADER_BYTES, EXTENT_OUTPUTS, HEADER_BYTES, Rec, Table, flag, out,
};
use consensus::hash::TxId;
use consensus::params::Era;
use dataplane::msg::{Context, Ticket, WakeReason};

/// Bytes of the smallest output: a value and the length of an empty script.
const OUTPUT_BYTES_MIN: usize = 9;

/// What became of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    /// The record is there, pending.
    Ready,
    /// More steps are needed.
    Later,
    /// A bound was reached, or there is no memory.
    Refused,
}

/// A record under way.
#[derive(Debug)]
pub(crate) struct Build {
    txid: TxId,
    validator: u16,
    ticket: Ticket,
    genesis: bool,
    extra_flags: u8,
    /// Its memory may come from the reserve.
    for_block: bool,
    raw: Handle,
    raw_len: usize,
    walk: OutputWalk,
    begun: bool,
    outputs: u32,
    rec: Option<Rec>,
    chunk: Option<Chunk>,
    unspent: u32,
    value_sat: u64,
}

/// What a creation under way holds, as a checkpoint keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuildRoots {
    pub raw: Handle,
    pub raw_len: u64,
    pub rec: Handle,
}

/// Outputs that are counted, then written.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    start: OutputWalk,
    end: u32,
    script_bytes: usize,
    /// Where the next script goes in the block of the chunk's entries; `None` while counting.
    script_at: Option<usize>,
}

enum Piece {
    Done,
    More,
    Fail,
}

impl Shard {
    /// Starts to create the record of `tx`, and finishes it at once if it is small.
    pub(crate) fn build_begin(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        txid: &TxId,
        tx: &[u8],
        extra_flags: u8,
    ) -> Built {
        let anchored = self.table.find(txid).is_some();
        if extra_flags & flag::COINBASE != 0 {
            self.table.draw_on_reserve(true);
        }
        // However many pool transactions are on their way, a block's coinbase is not one of them.
        let crowded = self.totals.announced >= self.announced_max;
        if (crowded && extra_flags & flag::COINBASE == 0)
            || (!anchored && self.table.index.is_full())
        {
            return Built::Refused;
        }
        let Some(walk) = OutputWalk::new(tx) else { return Built::Refused };
        let Some(raw) = self.table.take(tx.len()) else { return Built::Refused };
        self.table.slab.slice_mut(raw, 0, tx.len()).copy_from_slice(tx);
        self.build = Some(Build {
            txid: *txid,
            validator: from,
            ticket,
            genesis: self.params.era(ctx.height) != Era::PreGenesis,
            extra_flags,
            for_block: self.table.draws_on_reserve(),
            raw,
            raw_len: tx.len(),
            walk,
            begun: false,
            outputs: 0,
            rec: None,
            chunk: None,
            unspent: 0,
            value_sat: 0,
        });
        self.build_step()
    }

    /// One piece of the creation under way.
    pub(crate) fn build_step(&mut self) -> Built {
        let Some(mut build) = self.build.take() else { return Built::Ready };
        self.table.draw_on_reserve(build.for_block);
        let mut items_left = OUTPUTS_PER_STEP;
        match build.advance(&mut self.table, &mut items_left) {
            Piece::More => {
                self.build = Some(build);
                Built::Later
            }
            Piece::Fail => self.build_fail(&build),
            Piece::Done => {
                self.build_finish(&build);
                Built::Ready
            }
        }
    }

    fn build_fail(&mut self, build: &Build) -> Built {
        if let Some(rec) = build.rec {
            self.table.dealloc(rec);
        }
        self.table.slab.free(build.raw, build.raw_len);
        Built::Refused
    }

    fn build_finish(&mut self, build: &Build) {
        let rec = build.rec.expect("a record that is whole");
        let anchored = self.table.find(&build.txid).is_some();
        self.table.put_validator(rec, build.validator);
        self.table.put_ticket(rec, build.ticket);
        self.table.put_raw(rec, build.raw, build.raw_len);
        self.table.put_unspent(rec, build.unspent);
        self.table.put_pending_value_sat(rec, build.value_sat);
        self.table.enter(rec);
        self.totals.announced += 1;
        if anchored {
            self.totals.watched -= 1;
            if self.table.waiting(rec) > 0 {
                self.ripen(rec, WakeReason::Free);
            }
        }
    }

    /// What a creation under way holds.
    pub(crate) fn build_roots(&self) -> Option<BuildRoots> {
        let build = self.build.as_ref()?;
        let rec = build.rec.map_or(crate::slab::NONE, |rec| rec.0);
        Some(BuildRoots { raw: build.raw, raw_len: build.raw_len as u64, rec })
    }

    /// Bytes of the slab that a creation under way holds, for [`Shard::check`].
    pub(crate) fn build_bytes(&self) -> u64 {
        let Some(build) = &self.build else { return 0 };
        let apart = |rec: Rec| -> u64 {
            (0..build.outputs)
                .map(|vout| self.table.apart_bytes(rec, vout))
                .filter(|&bytes| bytes > 0)
                .map(Slab::block_bytes)
                .sum()
        };
        let record = build.rec.map_or(0, |rec| self.table.record_block_bytes(rec, 0) + apart(rec));
        Slab::block_bytes(build.raw_len) + record
    }
}

impl Build {
    fn advance(&mut self, table: &mut Table, items_left: &mut u32) -> Piece {
        if !self.begun {
            match self.begin(table, items_left) {
                Piece::Done => self.begun = true,
                piece => return piece,
            }
        }
        loop {
            let first = self.walk.next_output();
            let chunk = match self.chunk {
                Some(chunk) => chunk,
                None if first == self.outputs && first > 0 => return self.end(table),
                None => {
                    let end = if self.outputs > EXTENT_OUTPUTS {
                        self.outputs.min(first + EXTENT_OUTPUTS)
                    } else {
                        self.outputs
                    };
                    Chunk { start: self.walk, end, script_bytes: 0, script_at: None }
                }
            };
            let chunk = self.chunk.insert(chunk);
            if chunk.script_at.is_none() {
                match self.count(table, items_left) {
                    Piece::Done => {}
                    piece => return piece,
                }
                if !self.make_room(table) {
                    return Piece::Fail;
                }
            }
            match self.write(table, items_left) {
                Piece::Done if self.outputs == 0 => return self.end(table),
                Piece::Done => self.chunk = None,
                piece => return piece,
            }
        }
    }

    /// Passes the inputs; then a record with extents is there, with none of them, or none where all outputs are one chunk.
    fn begin(&mut self, table: &mut Table, items_left: &mut u32) -> Piece {
        let end = self.walk.offset() + BYTES_PER_STEP;
        let raw = table.slab.slice(self.raw, 0, self.raw_len);
        while self.walk.inputs_left() > 0 {
            if *items_left == 0 || self.walk.offset() > end {
                return Piece::More;
            }
            *items_left -= 1;
            if let Step::Bad = self.walk.step(raw) {
                return Piece::Fail;
            }
        }
        let Some(outputs) = self.walk.outputs(raw) else { return Piece::Fail };
        // Nothing is allocated for outputs that the bytes cannot hold.
        if outputs as usize > self.raw_len.saturating_sub(self.walk.offset()) / OUTPUT_BYTES_MIN {
            return Piece::Fail;
        }
        self.outputs = outputs;
        if outputs > EXTENT_OUTPUTS {
            self.rec = table.alloc(&self.txid, flag::PENDING | self.extra_flags, outputs, 0);
            if self.rec.is_none() {
                return Piece::Fail;
            }
        }
        Piece::Done
    }

    /// The chunk is counted: its block is taken, and the walk goes back to its start.
    fn make_room(&mut self, table: &mut Table) -> bool {
        let Some(chunk) = &mut self.chunk else { return false };
        let script_at = if let Some(rec) = self.rec {
            let number = chunk.start.next_output() / EXTENT_OUTPUTS;
            if table.add_extent(rec, number, chunk.script_bytes).is_none() {
                return false;
            }
            EXTENT_HEADER_BYTES + EXTENT_OUTPUTS as usize * ENTRY_BYTES
        } else {
            let flags = flag::PENDING | self.extra_flags;
            self.rec = table.alloc(&self.txid, flags, self.outputs, chunk.script_bytes);
            if self.rec.is_none() {
                return false;
            }
            HEADER_BYTES + self.outputs as usize * ENTRY_BYTES
        };
        chunk.script_at = Some(script_at);
        self.walk = chunk.start;
        true
    }

    /// Behind the last output stands the lock time and nothing else.
    fn end(&mut self, table: &Table) -> Piece {
        match self.walk.step(table.slab.slice(self.raw, 0, self.raw_len)) {
            Step::End => Piece::Done,
            _ => Piece::Fail,
        }
    }

    fn count(&mut self, table: &Table, items_left: &mut u32) -> Piece {
        let Some(chunk) = &mut self.chunk else { return Piece::Fail };
        let raw = table.slab.slice(self.raw, 0, self.raw_len);
        let end = self.walk.offset() + BYTES_PER_STEP;
        while self.walk.next_output() < chunk.end {
            if *items_left == 0 || self.walk.offset() > end {
                return Piece::More;
            }
            *items_left -= 1;
            let Step::Output(o) = self.walk.step(raw) else { return Piece::Fail };
            if o.value_sat >> out::VALUE_BITS != 0 {
                return Piece::Fail;
            }
            if !is_unspendable(o.locking_script, self.genesis) {
                chunk.script_bytes += inline_bytes(o.locking_script);
            }
        }
        Piece::Done
    }

    fn write(&mut self, table: &mut Table, items_left: &mut u32) -> Piece {
        let Some(Chunk { end, script_at: Some(script_at), .. }) = &mut self.chunk else {
            return Piece::Fail;
        };
        let Some(rec) = self.rec else { return Piece::Fail };
        let stop = self.walk.offset() + BYTES_PER_STEP;
        while self.walk.next_output() < *end {
            if *items_left == 0 || self.walk.offset() > stop {
                return Piece::More;
            }
            *items_left -= 1;
            let raw = table.slab.slice(self.raw, 0, self.raw_len);
            let Step::Output(o) = self.walk.step(raw) else { return Piece::Fail };
            if is_unspendable(o.locking_script, self.genesis) {
                continue;
            }
            let (vout, value_sat) = (o.vout, o.value_sat);
            let len = o.locking_script.len();
            let from = (self.raw, self.walk.offset() - len);
            let Some(took) = table.copy_coin(rec, vout, value_sat, from, len, *script_at) else {
                return Piece::Fail;
            };
            *script_at += took;
            self.unspent += 1;
            self.value_sat += value_sat;
        }
        Piece::Done
    }
}
