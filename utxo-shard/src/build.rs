//! Creating records in pieces.
//!
//! An announced transaction's bytes are copied into the slab once; then two walks over them, the first to learn how many outputs
//! and script bytes there are, the second to write the record. Each walk stops after [`OUTPUTS_PER_STEP`] items or
//! [`BYTES_PER_STEP`] bytes and goes on in the next step, so a transaction with a million outputs stalls nobody; the record
//! enters the index, as *pending*, only when it is whole. Settling it later writes a few header fields.

use crate::config::{BYTES_PER_STEP, OUTPUTS_PER_STEP};
use crate::outputs::{OutputWalk, Step, is_unspendable};
use crate::shard::Shard;
use crate::slab::{Handle, Slab};
use crate::table::{ENTRY_BYTES, HEADER_BYTES, Rec, Table, flag, out, stored_script_bytes};
use consensus::hash::TxId;
use consensus::params::Era;
use dataplane::msg::{Context, Ticket, WakeReason};

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
    raw: Handle,
    raw_len: usize,
    walk: OutputWalk,
    outputs: u32,
    script_bytes: usize,
    writing: Option<Writing>,
}

#[derive(Clone, Copy, Debug)]
struct Writing {
    rec: Rec,
    script_at: usize,
    unspent: u32,
    value_sat: u64,
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
        // However many pool transactions are on their way, a block's coinbase is not one of them.
        let crowded = self.totals.announced >= self.announced_max;
        if (crowded && extra_flags & flag::COINBASE == 0)
            || (!anchored && self.table.index.is_full())
        {
            return Built::Refused;
        }
        let Some(walk) = OutputWalk::new(tx) else { return Built::Refused };
        let Some(raw) = self.table.slab.alloc(tx.len()) else { return Built::Refused };
        self.table.slab.slice_mut(raw, 0, tx.len()).copy_from_slice(tx);
        self.build = Some(Build {
            txid: *txid,
            validator: from,
            ticket,
            genesis: self.params.era(ctx.height) != Era::PreGenesis,
            extra_flags,
            raw,
            raw_len: tx.len(),
            walk,
            outputs: 0,
            script_bytes: 0,
            writing: None,
        });
        self.build_step()
    }

    /// One piece of the creation under way.
    pub(crate) fn build_step(&mut self) -> Built {
        let Some(mut build) = self.build.take() else { return Built::Ready };
        let mut items_left = OUTPUTS_PER_STEP;
        loop {
            let piece = match build.writing {
                None => build.count(&self.table, &mut items_left),
                Some(_) => build.write(&mut self.table, &mut items_left),
            };
            match piece {
                Piece::More => {
                    self.build = Some(build);
                    return Built::Later;
                }
                Piece::Fail => return self.build_fail(&build),
                Piece::Done => {}
            }
            if let Some(writing) = build.writing {
                self.build_finish(&build, writing);
                return Built::Ready;
            }
            let rec = self.table.alloc(
                &build.txid,
                flag::PENDING | build.extra_flags,
                build.outputs,
                build.script_bytes,
            );
            let Some(rec) = rec else { return self.build_fail(&build) };
            let script_at = HEADER_BYTES + build.outputs as usize * ENTRY_BYTES;
            build.writing = Some(Writing { rec, script_at, unspent: 0, value_sat: 0 });
            build.walk = OutputWalk::new(self.table.slab.slice(build.raw, 0, build.raw_len))
                .expect("bytes that were walked before");
        }
    }

    fn build_fail(&mut self, build: &Build) -> Built {
        if let Some(writing) = build.writing {
            self.table.dealloc(writing.rec);
        }
        self.table.slab.free(build.raw, build.raw_len);
        Built::Refused
    }

    fn build_finish(&mut self, build: &Build, writing: Writing) {
        let rec = writing.rec;
        let anchored = self.table.find(&build.txid).is_some();
        self.table.put_validator(rec, build.validator);
        self.table.put_ticket(rec, build.ticket);
        self.table.put_raw(rec, build.raw, build.raw_len);
        self.table.put_unspent(rec, writing.unspent);
        self.table.put_pending_value_sat(rec, writing.value_sat);
        self.table.enter(rec);
        self.totals.announced += 1;
        if anchored {
            self.totals.watched -= 1;
            if self.table.waiting(rec) > 0 {
                self.ripen(rec, WakeReason::Free);
            }
        }
    }
}

impl Build {
    fn count(&mut self, table: &Table, items_left: &mut u32) -> Piece {
        let raw = table.slab.slice(self.raw, 0, self.raw_len);
        let end = self.walk.offset() + BYTES_PER_STEP;
        loop {
            if *items_left == 0 || self.walk.offset() > end {
                return Piece::More;
            }
            *items_left -= 1;
            match self.walk.step(raw) {
                Step::Input => {}
                Step::Output(o) => {
                    if o.value_sat >> out::VALUE_BITS != 0 {
                        return Piece::Fail;
                    }
                    self.outputs += 1;
                    if !is_unspendable(o.locking_script, self.genesis) {
                        self.script_bytes += stored_script_bytes(o.locking_script);
                    }
                }
                Step::End => return Piece::Done,
                Step::Bad => return Piece::Fail,
            }
        }
    }

    fn write(&mut self, table: &mut Table, items_left: &mut u32) -> Piece {
        let Some(writing) = &mut self.writing else { return Piece::Fail };
        let end = self.walk.offset() + BYTES_PER_STEP;
        loop {
            if *items_left == 0 || self.walk.offset() > end {
                return Piece::More;
            }
            *items_left -= 1;
            let raw = table.slab.slice(self.raw, 0, self.raw_len);
            match self.walk.step(raw) {
                Step::Input => {}
                Step::Output(o) if is_unspendable(o.locking_script, self.genesis) => {
                    let vout = o.vout;
                    table.write_blank(writing.rec, vout);
                }
                Step::Output(o) => {
                    let (vout, value_sat) = (o.vout, o.value_sat);
                    let len = o.locking_script.len();
                    let from = self.walk.offset() - len;
                    let raw = (self.raw, from);
                    let took =
                        table.copy_coin(writing.rec, vout, value_sat, raw, len, writing.script_at);
                    writing.script_at += took;
                    writing.unspent += 1;
                    writing.value_sat += value_sat;
                }
                Step::End => return Piece::Done,
                Step::Bad => return Piece::Fail,
            }
        }
    }
}

impl Shard {
    /// Bytes of the slab that a creation under way holds, for [`Shard::check`].
    pub(crate) fn build_bytes(&self) -> u64 {
        let Some(build) = &self.build else { return 0 };
        let record = build.writing.map_or(0, |w| Slab::block_bytes(self.table.record_bytes(w.rec)));
        Slab::block_bytes(build.raw_len) + record
    }
}
