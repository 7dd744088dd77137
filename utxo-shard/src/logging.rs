//! What a shard says to its log: one record for each change that must survive, in the turn that makes the change.
//!
//! With the log off (`--durability none`) every call here is one branch. With it on, a request that will be logged is taken only while
//! the log has room; otherwise it is answered `Again`, which is how a slow disk slows the node down and nothing else. Orders
//! whose few bytes are known to fit are written without asking.

use crate::journal::{
    BlockNote, DECISION_BYTES, DecisionRecord, LogCounts, LogStart, Record, SPEND_BYTES,
    SpendRecord,
};
use crate::shard::Shard;
use crate::table::{Rec, flag, out};
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::admin::{Admin, Tip};
use dataplane::msg::request::{Decision, SpentInput};
use dataplane::msg::{Context, Epoch, ParentSeq, Request};

/// Room an order needs, transactions and scripts apart.
const ORDER_BYTES: usize = 256;
/// Blocks of the chain that shard 0 remembers: a disconnected block's parent must be among them.
pub const CHAIN_KEPT_MAX: usize = 4_096;
/// Room for the record of a dropped record.
const PRUNED_BYTES: usize = 37;

impl Shard {
    /// Begins to log, in the epoch of `start`, which is the shard's from now on.
    pub(crate) fn start_log(&mut self, start: &LogStart) {
        self.log.start(start);
        self.epoch = Epoch { incarnation: start.incarnation, number: start.epoch };
    }

    /// Whether changes are logged.
    pub fn log_is_on(&self) -> bool {
        self.log.is_on()
    }

    /// What the log has taken, and how often it had no room.
    pub fn log_counts(&self) -> LogCounts {
        self.log.counts()
    }

    /// Whether the log has no room for a transaction of usual size now.
    pub fn log_is_crowded(&self) -> bool {
        self.log.is_on()
            && (self.log.midway().is_some() || !self.log.has_room(DECISION_BYTES + 512))
    }

    /// Whether anything was logged in the epoch under way.
    pub fn has_logged(&self) -> bool {
        self.log.has_logged()
    }

    /// What the control plane says of the chain, to shard 0: a block begins, or that is over.
    pub(crate) fn take_tip(&mut self, tip: &Tip) {
        let Tip { is_begun, connects: connect, number: block, height, hash, coinbase } = *tip;
        let note = BlockNote { connect, block, height, hash, coinbase };
        if is_begun {
            self.note_block_begin(&note);
        } else {
            self.note_tip(&note);
        }
    }

    /// On shard 0, before the first order about a block: it begins to be connected or disconnected.
    pub fn note_block_begin(&mut self, note: &BlockNote) {
        self.begun = Some(*note);
        self.log.push(&Record::Begin(*note));
    }

    /// On shard 0, once every shard has carried out the orders about a block: this is the tip now.
    pub fn note_tip(&mut self, tip: &BlockNote) {
        self.stand_on(tip);
        self.log.push(&Record::Tip(*tip));
    }

    /// Remembers a tip: what stood as high or higher is off the chain.
    pub(crate) fn stand_on(&mut self, tip: &BlockNote) {
        self.begun = None;
        while self.chain.back().is_some_and(|last| last.height >= tip.height) {
            self.chain.pop_back();
        }
        if self.chain.len() == CHAIN_KEPT_MAX {
            self.chain.pop_front();
        }
        self.chain.push_back(*tip);
        self.block_max = self.block_max.max(tip.block);
        self.tip = Tip {
            is_begun: false,
            connects: tip.connect,
            number: self.block_max,
            height: tip.height,
            hash: tip.hash,
            coinbase: tip.coinbase,
        };
    }

    /// Whether there is room for what a request will log.
    pub(crate) fn log_admits(&mut self, ctx: &Context, request: &Request<'_>) -> bool {
        let midway = self.log.midway();
        let bytes = match request {
            Request::Settle { txid, .. } | Request::Commit { txid, .. } if midway.is_some() => {
                return midway == Some(*txid);
            }
            Request::Settle { .. } if ctx.is_pool() && self.log.is_limited() => usize::MAX,
            Request::Commit { .. } if ctx.is_pool() && self.log.is_limited() => usize::MAX,
            // A decision asks for its own room; a commit may turn out to be a reserve.
            Request::Commit { inputs, .. } | Request::Reserve { inputs, .. } if !ctx.is_pool() => {
                inputs.len() * SPEND_BYTES
            }
            Request::Spend { inputs, .. } => inputs.len() * SPEND_BYTES,
            _ => return true,
        };
        let fits = bytes != usize::MAX && midway.is_none() && self.log.has_room(bytes);
        if !fits {
            self.log.note_crowded();
        }
        fits
    }

    /// Whether there is room for what an order will log.
    pub(crate) fn log_admits_order(&mut self, order: &Admin<'_>) -> bool {
        let bytes = match order {
            Admin::Import { locking_script, .. } => locking_script.len(),
            Admin::Coinbase { tx, .. } => tx.len(),
            Admin::Prune { most, .. } => *most as usize * PRUNED_BYTES,
            Admin::SetMined { .. }
            | Admin::UnsetMined { .. }
            | Admin::Freeze { .. }
            | Admin::Lock { .. }
            | Admin::Evict { .. }
            | Admin::Unspend { .. }
            | Admin::Unmine { .. }
            | Admin::Preserve { .. }
            | Admin::Tip { .. }
            | Admin::Respend { .. } => 0,
            _ => return true,
        };
        let fits = self.log.midway().is_none() && self.log.has_room(ORDER_BYTES + bytes);
        if !fits {
            self.log.note_crowded();
        }
        fits
    }

    /// The whole of a transaction that is about to be decided; false while it is not all in.
    pub(crate) fn log_decision(
        &mut self,
        ctx: &Context,
        rec: Rec,
        decision: &Decision<'_>,
        commit: bool,
    ) -> bool {
        if !self.log.is_on() {
            return true;
        }
        let (raw, raw_len) = self.table.raw(rec);
        let txid = self.table.txid(rec);
        let record = Record::Decision(DecisionRecord {
            copy: false,
            commit,
            context: *ctx,
            fee_sat: decision.fee_sat,
            publish_seq: self.publish_seq + 1,
            decided: self.epoch.number,
            txid,
            parents: decision.parents,
            tx: self.table.slab.slice(raw, 0, raw_len),
        });
        self.log.push_whole(&txid, &record)
    }

    /// A decision that is to be kept although its place in the journal goes; false while there is no room.
    pub(crate) fn log_copy(&mut self, decision: &DecisionRecord<'_>) -> bool {
        if self.log.midway().is_some_and(|midway| midway != decision.txid) {
            return false;
        }
        let copy = DecisionRecord { copy: true, ..*decision };
        self.log.push_whole(&decision.txid, &Record::Decision(copy))
    }

    /// Whether a decision is still needed once a checkpoint as of `named` is: a cut could lose its spends, or it is in no block.
    pub(crate) fn needs_decision(&self, decision: &DecisionRecord<'_>, named: u64) -> bool {
        let Some(rec) = self.decided_as(decision) else { return false };
        let logged = self.table.is_spends_done(rec) && self.table.epoch_number(rec) <= named;
        !logged || self.mined_height(rec).is_none()
    }

    /// The record that a decision made, if it is still there.
    pub(crate) fn decided_as(&self, decision: &DecisionRecord<'_>) -> Option<Rec> {
        let rec = self.table.find(&decision.txid)?;
        let same =
            self.table.is(rec, flag::LIVE) && self.table.publish_seq(rec) == decision.publish_seq;
        same.then_some(rec)
    }

    #[inline]
    pub(crate) fn log_spend(
        &mut self,
        ctx: &Context,
        by: &TxId,
        input: &SpentInput,
        publish_seq: u64,
        decided: u64,
    ) {
        if self.log.is_on() {
            self.log.push(&Record::Spend(SpendRecord {
                outpoint: input.outpoint,
                by: *by,
                vin: input.vin,
                block: ctx.block,
                publish_seq: if ctx.is_pool() { publish_seq } else { 0 },
                decided,
            }));
        }
    }

    pub(crate) fn log_marks(&mut self, outpoint: &OutPoint, bits: u64) {
        let (frozen, locked) = (bits & out::FROZEN != 0, bits & out::LOCKED != 0);
        self.log.push(&Record::Marks { outpoint: *outpoint, frozen, locked });
    }

    /// Room a decision of so many bytes needs at once where it is of usual size.
    pub fn decision_bytes(raw_bytes: usize, parents: usize) -> usize {
        DECISION_BYTES + parents * ParentSeq::LEN + raw_bytes
    }
}
