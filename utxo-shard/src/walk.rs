//! Walks over everything a shard holds, and questions about single transactions: for tools, recovery, and the store's queries.

use crate::shard::Shard;
use crate::slab::NONE;
use crate::store::{Coin, UNMINED_HEIGHT};
use crate::table::{Rec, Table, flag, out};
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::Context;

/// Records whose lines are requested ahead of a walk.
pub(crate) const WALK_AHEAD: usize = 32;

impl Shard {
    /// Every unspent coin; an unmined one at height [`UNMINED_HEIGHT`].
    pub fn for_each_unspent(&self, each: &mut dyn FnMut(&OutPoint, &Coin<'_>)) {
        self.for_each_live(|rec| {
            let height = self.mined_height(rec).unwrap_or(UNMINED_HEIGHT);
            let coinbase = self.table.is(rec, flag::COINBASE);
            let txid = self.table.txid(rec);
            for vout in 0..self.table.outputs(rec) {
                let bits = self.table.output(rec, vout);
                if bits & out::COIN != 0 && bits & out::SPENT == 0 {
                    let mut scratch = crate::form::SCRATCH;
                    let locking_script = self.table.script(rec, vout, &mut scratch);
                    let value_sat = Table::value_sat(bits);
                    each(
                        &OutPoint { txid, vout },
                        &Coin { value_sat, height, coinbase, locking_script },
                    );
                }
            }
        });
    }

    /// Every coin of a block of this chain that no block has spent: the set as of the tip, whatever the pool has done since.
    pub fn for_each_mined_coin(&self, each: &mut dyn FnMut(&OutPoint, &Coin<'_>)) {
        // Of no block that there is: what is mined counts, and nothing else.
        let nowhere = Context { block: u32::MAX, ..Context::default() };
        self.for_each_live(|rec| {
            let Some(height) = self.mined_height(rec) else { return };
            let coinbase = self.table.is(rec, flag::COINBASE);
            let txid = self.table.txid(rec);
            for vout in 0..self.table.outputs(rec) {
                let bits = self.table.output(rec, vout);
                if bits & out::COIN != 0 && self.spender(rec, vout, bits, &nowhere).is_none() {
                    let mut scratch = crate::form::SCRATCH;
                    let locking_script = self.table.script(rec, vout, &mut scratch);
                    let value_sat = Table::value_sat(bits);
                    each(
                        &OutPoint { txid, vout },
                        &Coin { value_sat, height, coinbase, locking_script },
                    );
                }
            }
        });
    }

    /// Every unmined transaction: its id, its place in the order of decisions, and those that have spent its outputs.
    pub fn for_each_unmined(&self, each: &mut impl FnMut(TxId, u64, &[TxId])) {
        let mut children = Vec::new();
        self.for_each_live(|rec| {
            if self.mined_height(rec).is_some() || self.table.is(rec, flag::EVICTING) {
                return;
            }
            children.clear();
            for vout in 0..self.table.outputs(rec) {
                let bits = self.table.output(rec, vout);
                if let Some(claim) = self.newest_spend(rec, vout, bits) {
                    children.push(self.table.claimant(claim));
                }
            }
            each(self.table.txid(rec), self.table.publish_seq(rec), &children);
        });
    }

    /// The spender of every coin that is spent by a transaction that is in no block of this chain.
    pub fn for_each_unmined_spend(&self, each: &mut impl FnMut(TxId)) {
        self.for_each_live(|rec| {
            for vout in 0..self.table.outputs(rec) {
                let bits = self.table.output(rec, vout);
                let claim = self.newest_spend(rec, vout, bits);
                if let Some(claim) = claim.filter(|&c| !self.is_claim_mined(c, &Context::default()))
                {
                    each(self.table.claimant(claim));
                }
            }
        });
    }

    pub(crate) fn for_each_live(&self, mut each: impl FnMut(Rec)) {
        let places = self.table.index.places();
        for place in 0..places {
            if place + WALK_AHEAD < places {
                self.table.warm_record(self.table.index.at(place + WALK_AHEAD));
            }
            let rec = Rec(self.table.index.at(place));
            if rec.0 != NONE && self.table.is(rec, flag::LIVE) {
                each(rec);
            }
        }
    }

    /// Height of the block on this chain that holds a decided transaction (`Some(None)` while it is unmined), and the rule set it
    /// was verified under.
    pub fn known(&self, txid: &TxId) -> Option<(Option<u32>, u32)> {
        let rec = self.table.find(txid).filter(|&rec| self.table.is(rec, flag::LIVE))?;
        let rule_set = self.rule_sets[usize::from(self.table.rule_set(rec))];
        Some((self.mined_height(rec), rule_set))
    }

    /// Whether a decided transaction is being evicted.
    pub fn is_evicting(&self, txid: &TxId) -> bool {
        self.table.find(txid).is_some_and(|rec| self.table.is(rec, flag::EVICTING))
    }

    /// Who holds a coin.
    pub fn holder(&self, outpoint: &OutPoint) -> Option<TxId> {
        let rec = self.table.find(&outpoint.txid)?;
        let bits = self.coin_bits(rec, outpoint.vout)?;
        let held = bits & out::HELD != 0;
        held.then(|| self.table.claimant(self.table.claim(rec, outpoint.vout)))
    }

    /// Whether a transaction has a record here that is decided.
    pub fn has(&self, txid: &TxId) -> bool {
        self.table.find(txid).is_some_and(|rec| self.table.is(rec, flag::LIVE))
    }

    /// The number of a rule set in this shard's records; zero stands for those that have none.
    pub(crate) fn rule_set_number(&mut self, ctx: &Context) -> u8 {
        let used = usize::from(self.rule_sets_used);
        if let Some(at) = self.rule_sets[1..=used].iter().position(|&set| set == ctx.rule_set) {
            return at as u8 + 1;
        }
        if used + 1 == self.rule_sets.len() {
            return 0;
        }
        self.rule_sets_used += 1;
        self.rule_sets[used + 1] = ctx.rule_set;
        self.rule_sets_used
    }
}
