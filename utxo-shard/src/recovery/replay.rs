//! Replay: the records of a journal, done again to a table.
//!
//! In: one record and the epoch it belongs to; the table is as it was when the record was written. Out: the table after it, or why that
//! cannot be: then journal and checkpoint do not belong together. The log is off meanwhile, and nobody is told anything.

use crate::build::Built;
use crate::journal::{DecisionRecord, ImportRecord, ImportsRecord, Record, SpendRecord};
use crate::outputs::{OutputWalk, Step};
use crate::shard::{Outbox, Shard};
use crate::store::{MinedTx, Reassigned};
use crate::table::{Claim, flag, out};
use crate::verdict::Verdict;
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::admin::SpendState;
use dataplane::msg::request::Decision;
use dataplane::msg::{Accepted, Context, Epoch, Reply, Ticket};

/// Tells nobody anything.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Outbox for Nobody {
    fn reply(&mut self, _to: u16, _reply: &Reply<'_>) {}

    fn publish(&mut self, _accepted: &Accepted<'_>) {}
}

/// What a record found that cannot be.
pub(crate) type Cannot = &'static str;

/// The coins that raw bytes spend, in order; `None` if they are no transaction.
pub(crate) fn inputs_of(raw: &[u8]) -> Option<Vec<OutPoint>> {
    let mut walk = OutputWalk::new(raw)?;
    let mut inputs = Vec::new();
    while walk.inputs_left() > 0 {
        let at = raw.get(walk.offset()..)?.first_chunk::<36>()?;
        let (txid, vout) = at.split_first_chunk::<32>()?;
        let vout = u32::from_le_bytes(vout.try_into().ok()?);
        inputs.push(OutPoint { txid: TxId(*txid), vout });
        if let Step::Bad = walk.step(raw) {
            return None;
        }
    }
    Some(inputs)
}

/// The transactions whose records doing a record again will look for.
pub(super) fn ids_of(record: &Record<'_>, ids: &mut Vec<TxId>) {
    match record {
        Record::Decision(decision) if !decision.copy => {
            ids.push(decision.txid);
            if decision.commit {
                ids.extend(inputs_of(decision.tx).into_iter().flatten().map(|input| input.txid));
            }
        }
        Record::Spend(spend) => ids.push(spend.outpoint.txid),
        Record::BlockSpend { outpoint, .. } | Record::Import(ImportRecord { outpoint, .. }) => {
            ids.push(outpoint.txid);
        }
        Record::Known { txid, .. } | Record::Pruned { txid } => ids.push(*txid),
        Record::Imports(ImportsRecord { txid, .. }) => ids.push(*txid),
        _ => {}
    }
}

impl Shard {
    /// One record, done again.
    pub(crate) fn replay(&mut self, epoch: u64, record: &Record<'_>) -> Result<(), Cannot> {
        self.epoch = Epoch { number: epoch, ..self.epoch };
        match *record {
            Record::Decision(decision) if decision.copy => Ok(()),
            Record::Decision(decision) => self.replay_decision(&decision),
            Record::Known { txid, block, height } => self.replay_known(&txid, block, height),
            Record::Spend(spend) => self.replay_spend(&spend),
            Record::BlockSpend { outpoint, by, block } => {
                let (_, claim) =
                    self.spend_at(&outpoint, &by).ok_or("a block's spend of nothing")?;
                self.table.put_claim_block(claim, block);
                self.block_max = self.block_max.max(block);
                Ok(())
            }
            Record::Unspend { outpoint, by } => match self.unspend(&outpoint, &by) {
                SpendState::Done => Ok(()),
                _ => Err("a spend to be undone that is not there"),
            },
            Record::Evicting { txid, from, to } => self.replay_evicting(&txid, from, to),
            Record::Evicted { txid } => self.replay_evicted(&txid),
            Record::Unmine { txid } => match self.unmine(&txid) {
                0 => Err("a transaction to be unmined that is not there, or mined"),
                _ => Ok(()),
            },
            Record::Respend { outpoint, by, publish_seq } => {
                match self.respend(&outpoint, &by, publish_seq).0 {
                    SpendState::Done => Ok(()),
                    _ => Err("a spend to be the pool's that is not there"),
                }
            }
            Record::Mined { shard, block, height, from_seq, to_seq } => {
                let set = self.set_mined(shard, block, height, from_seq, to_seq);
                set.then_some(()).ok_or("a block that does not follow")
            }
            Record::NotMined { block } => self
                .unset_mined(block)
                .then_some(())
                .ok_or("a block off the chain that is not its tip"),
            Record::Import(i) => {
                let script = i.locking_script;
                let done = self.import(&i.outpoint, i.value_sat, i.height, i.coinbase, script);
                done.then_some(()).ok_or("an imported coin that is there, or finds no room")
            }
            Record::Imports(i) => {
                let coins = i.coins.to_vec();
                let (txid, height, coinbase) = (i.txid, i.height, i.coinbase);
                match self.import_tx(&MinedTx { txid, height, coinbase, coins: &coins }) {
                    Verdict::Done => Ok(()),
                    _ => Err("an imported transaction that is there, or finds no room"),
                }
            }
            Record::Coinbase { context, txid, tx } => loop {
                match self.coinbase(&context, &txid, tx) {
                    crate::AdminOutcome::Done => return Ok(()),
                    crate::AdminOutcome::Again => while self.step() {},
                    crate::AdminOutcome::Refused => {
                        return Err("a coinbase that is there, or finds no room");
                    }
                }
            },
            Record::Marks { outpoint, frozen, locked } => {
                let rec = self.table.find(&outpoint.txid).ok_or("marks of no coin")?;
                let bits = self.coin_bits(rec, outpoint.vout).ok_or("marks of no coin")?;
                let mut marked = bits & !(out::FROZEN | out::LOCKED);
                marked |= if frozen { out::FROZEN } else { 0 };
                marked |= if locked { out::LOCKED } else { 0 };
                self.table.put_output(rec, outpoint.vout, marked);
                Ok(())
            }
            Record::Reassign { outpoint, from_height, locking_script } => {
                let rec = self.table.find(&outpoint.txid).ok_or("a new script of no coin")?;
                let bits = self.coin_bits(rec, outpoint.vout).ok_or("a new script of no coin")?;
                if bits & out::FROZEN == 0 {
                    return Err("a new script of a coin that is not frozen");
                }
                let mut scratch = crate::form::SCRATCH;
                let old = self.table.script(rec, outpoint.vout, &mut scratch).to_vec();
                let order = Reassigned { outpoint, old: &old, new: locking_script, from_height };
                match self.reassign(&order) {
                    Verdict::Done => Ok(()),
                    _ => Err("a new script of a coin that is spent, or finds no room"),
                }
            }
            Record::Pruned { txid } => self.replay_pruned(&txid),
            Record::Kept { txid, until_height } => {
                let kept = self.preserve(&txid, until_height);
                kept.then_some(()).ok_or("a transaction to be kept that is not there")
            }
            Record::Begin(note) => {
                self.begun = Some(note);
                Ok(())
            }
            Record::Tip(note) => {
                self.stand_on(&note);
                Ok(())
            }
        }
    }

    fn replay_decision(&mut self, d: &DecisionRecord<'_>) -> Result<(), Cannot> {
        if d.publish_seq != self.publish_seq + 1 {
            return Err("a decision whose place among the publications is taken, or leaves a gap");
        }
        let ticket = Ticket::default();
        let mut built = self.build_begin(0, &d.context, ticket, &d.txid, d.tx, 0);
        while built == Built::Later {
            built = self.build_step();
        }
        let found = self.table.find(&d.txid).filter(|&rec| self.table.is(rec, flag::PENDING));
        let Some(rec) = found else {
            return Err("a decision that is there, is no transaction, or finds no room");
        };
        if d.commit {
            for (vin, outpoint) in inputs_of(d.tx).unwrap_or_default().into_iter().enumerate() {
                self.replay_spend(&SpendRecord {
                    outpoint,
                    by: d.txid,
                    vin: vin as u32,
                    block: d.context.block,
                    publish_seq: if d.context.is_pool() { d.publish_seq } else { 0 },
                    decided: d.decided,
                })?;
            }
        }
        let decision = Decision { fee_sat: d.fee_sat, parents: d.parents, tx: d.tx };
        let expected_seq = if d.commit { d.publish_seq } else { 0 };
        self.decide(0, &d.context, ticket, rec, &decision, expected_seq, &mut Nobody);
        Ok(())
    }

    fn replay_known(&mut self, txid: &TxId, block: u32, height: u32) -> Result<(), Cannot> {
        let rec = self.table.find(txid).filter(|&rec| self.table.is(rec, flag::LIVE));
        let rec = rec.ok_or("a block's transaction that is not there")?;
        self.table.put_block(rec, block);
        self.table.put_height(rec, height);
        self.block_max = self.block_max.max(block);
        self.publish_seq += 1;
        Ok(())
    }

    /// The spend of `by` on a coin, and its record.
    pub(crate) fn spend_at(&self, outpoint: &OutPoint, by: &TxId) -> Option<(u64, Claim)> {
        let rec = self.table.find(&outpoint.txid)?;
        let bits = self.coin_bits(rec, outpoint.vout)?;
        self.spend_of(rec, outpoint.vout, bits, by).map(|claim| (bits, claim))
    }

    /// A spend without the reservation that was there before it: of a replay, or of a decision whose spends were cut off.
    pub(crate) fn replay_spend(&mut self, spend: &SpendRecord) -> Result<(), Cannot> {
        let SpendRecord { outpoint, by, vin, block, publish_seq, .. } = *spend;
        let rec = self.table.find(&outpoint.txid).ok_or("a spend of no coin")?;
        let vout = outpoint.vout;
        let bits = self.coin_bits(rec, vout).ok_or("a spend of no coin")?;
        let newest = self.newest_spend(rec, vout, bits);
        if newest.is_some_and(|claim| self.table.claimant(claim) == by) {
            return Ok(());
        }
        if newest.is_some() && block == 0 {
            return Err("a spend of a coin that another transaction has spent");
        }
        let top = self.table.claim(rec, vout);
        let claim = self.table.alloc_claim(&by, 0, Ticket::default(), vin, block);
        let claim = claim.ok_or("a spend that finds no room")?;
        self.table.put_prior(claim, top);
        self.table.put_claim(rec, vout, claim);
        self.table.put_output(rec, vout, bits | out::HELD);
        self.totals.reserved += 1;
        self.block_max = self.block_max.max(block);
        let ctx = Context { block, ..Context::default() };
        self.spend_claim(rec, vout, claim, &ctx, publish_seq);
        Ok(())
    }

    fn replay_evicting(&mut self, txid: &TxId, from: u32, to: u32) -> Result<(), Cannot> {
        let rec = self.table.find(txid).filter(|&rec| self.table.is(rec, flag::LIVE));
        let rec = rec.ok_or("an eviction of what is not there")?;
        let flags = self.table.flags(rec);
        self.table.put_flags(rec, flags | flag::EVICTING);
        self.evicted_any = true;
        for vout in from..to.min(self.table.outputs(rec)) {
            let bits = self.table.output(rec, vout);
            if bits & out::COIN != 0 && bits & out::SPENT == 0 {
                self.blank_unspent(rec, vout, bits);
            }
        }
        Ok(())
    }

    fn replay_evicted(&mut self, txid: &TxId) -> Result<(), Cannot> {
        let rec = self.table.find(txid).filter(|&rec| self.table.is(rec, flag::EVICTING));
        let rec = rec.ok_or("the end of an eviction that has not begun")?;
        if self.table.unspent(rec) > 0 {
            return Err("the end of an eviction whose outputs are there");
        }
        self.publish_seq += u64::from(self.table.is(rec, flag::POOL));
        self.totals.transactions -= 1;
        self.table.remove(rec);
        Ok(())
    }

    fn replay_pruned(&mut self, txid: &TxId) -> Result<(), Cannot> {
        let rec = self.table.find(txid).filter(|&rec| self.table.is(rec, flag::LIVE));
        let rec = rec.ok_or("a pruned transaction that is not there")?;
        if self.table.unspent(rec) > 0 {
            return Err("a pruned transaction with coins");
        }
        for vout in 0..self.table.outputs(rec) {
            self.drop_output(rec, vout);
        }
        self.totals.transactions -= 1;
        self.table.remove(rec);
        Ok(())
    }
}
