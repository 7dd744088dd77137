//! Adopting: a shard takes over what another one has, record by record, where the number of shards changes.
//!
//! In: a live record of a shard that only stands there (nothing is held, awaited or being built). Out: the same record here: coins with their
//! marks, scripts, spends and those under them. What depends on the number of shards is said anew: places among the publications, and
//! with them which block a transaction is in. A record that is mined bears its block's number from then on, as one that came with
//! somebody else's block does.

use crate::form::{SCRATCH, stored_bytes};
use crate::shard::Shard;
use crate::table::{
    Claim, ENTRY_BYTES, EXTENT_HEADER_BYTES, EXTENT_OUTPUTS, HEADER_BYTES, Rec, Table, flag, out,
};
use consensus::hash::TxId;
use dataplane::msg::{Context, Ticket};
use std::collections::HashMap;

/// Publish sequences of the transactions that are in no block.
pub(crate) type Places = HashMap<TxId, u64>;

impl Shard {
    /// Takes over a record of `from`; `publish_seq` is its place here, 0 for what was never published. False where there is no room.
    pub(crate) fn adopt(
        &mut self,
        from: &Self,
        rec: Rec,
        publish_seq: u64,
        places: &Places,
    ) -> bool {
        if self.table.index.is_full() {
            return false;
        }
        let Some(new) = self.table.adopt(&from.table, rec, &|claim| from.standing(claim, places))
        else {
            return false;
        };
        let (old, table) = (&from.table, &mut self.table);
        let (mut block, mut height) = (old.block(rec), old.height(rec));
        let is_pool = old.is(rec, flag::POOL) && !from.mined.is_connected(block);
        if let Some(mined) = is_pool.then(|| from.mined.block_of(from.shard, old.publish_seq(rec)))
        {
            (block, height) = mined.unwrap_or((block, height));
        }
        table.put_publish_seq(new, publish_seq);
        table.put_epoch_number(new, old.epoch_number(rec));
        table.put_block(new, block);
        table.put_height(new, height);
        table.put_unspent(new, old.unspent(rec));
        table.put_kept_until(new, old.kept_until(rec));
        table.put_imported(new, old.imported(rec));
        if publish_seq != 0 {
            // Recovery has redone what was missing.
            table.put_spends_done(new);
        }
        table.enter(new);
        let mut value_sat = 0;
        for vout in 0..self.table.outputs(new) {
            let bits = self.table.output(new, vout);
            if bits & (out::COIN | out::SPENT) == out::COIN {
                value_sat += Table::value_sat(bits);
            }
        }
        self.totals.transactions += 1;
        self.totals.utxos += u64::from(self.table.unspent(new));
        self.totals.value_sat += value_sat;
        let rule_set = from.rule_sets[usize::from(old.rule_set(rec))];
        let number = match old.rule_set(rec) {
            0 => 0,
            _ => self.rule_set_number(&Context { rule_set, ..Context::default() }),
        };
        self.table.put_rule_set(new, number);
        true
    }

    /// Block and publish sequence of a spend, as a shard says it that knows nothing of older publications.
    fn standing(&self, claim: Claim, places: &Places) -> (u32, u64) {
        let block = self.table.claim_block(claim);
        if self.mined.is_connected(block) {
            return (block, 0);
        }
        let by = self.table.claimant(claim);
        let home = self.partition.shard(&by);
        match self.mined.block_of(home, self.table.claim_publish_seq(claim)) {
            Some((block, _)) => (block, 0),
            None => (block, places.get(&by).copied().unwrap_or(0)),
        }
    }
}

impl Table {
    /// A copy of another table's record with its outputs and spends; not in the index yet. `None` where there is no room.
    fn adopt(
        &mut self,
        from: &Self,
        rec: Rec,
        standing: &dyn Fn(Claim) -> (u32, u64),
    ) -> Option<Rec> {
        let outputs = from.outputs(rec);
        let spread = outputs > EXTENT_OUTPUTS;
        let inline = if spread { 0 } else { from.inline_bytes(rec, 0, outputs) };
        let new = self.alloc(&from.txid(rec), from.flags(rec), outputs, inline)?;
        for first in (0..outputs).step_by(EXTENT_OUTPUTS as usize) {
            let end = outputs.min(first + EXTENT_OUTPUTS);
            if (first..end).all(|vout| from.output(rec, vout) == 0) {
                continue;
            }
            let mut at = HEADER_BYTES + outputs as usize * ENTRY_BYTES;
            if spread {
                let scripts = from.inline_bytes(rec, first, end);
                self.add_extent(new, first / EXTENT_OUTPUTS, scripts)?;
                at = EXTENT_HEADER_BYTES + EXTENT_OUTPUTS as usize * ENTRY_BYTES;
            }
            for vout in first..end {
                at += self.adopt_output(from, rec, new, vout, at)?;
                self.adopt_spends(from, rec, new, vout, standing)?;
            }
        }
        Some(new)
    }

    /// Bytes of scripts that lie in the record itself, or in the extent of these outputs.
    fn inline_bytes(&self, rec: Rec, first: u32, end: u32) -> usize {
        let mut scratch = SCRATCH;
        let mut bytes = 0;
        for vout in first..end {
            if self.output(rec, vout) & (out::COIN | out::APART) == out::COIN {
                bytes += stored_bytes(self.script(rec, vout, &mut scratch));
            }
        }
        bytes
    }

    /// One output, its script at `at` if it does not lie apart; gives the bytes that took.
    fn adopt_output(
        &mut self,
        from: &Self,
        rec: Rec,
        new: Rec,
        vout: u32,
        at: usize,
    ) -> Option<usize> {
        let bits = from.output(rec, vout);
        if bits & out::COIN == 0 {
            return Some(0);
        }
        assert!(bits & out::HELD == 0, "recovery has ended every hold");
        let mut scratch = SCRATCH;
        let script = from.script(rec, vout, &mut scratch);
        let value_sat = Self::value_sat(bits);
        let took = if bits & out::APART == 0 {
            self.write_coin(new, vout, value_sat, script, at)?
        } else {
            self.write_coin_apart(new, vout, value_sat, script).then_some(0)?
        };
        if bits & out::REASSIGNED != 0 {
            let from_height = from.reassigned_from(rec, vout);
            self.reassign(new, vout, script, from_height).then_some(())?;
        }
        self.put_output(new, vout, bits);
        Some(took)
    }

    /// The spends of one output, those under newer ones first.
    fn adopt_spends(
        &mut self,
        from: &Self,
        rec: Rec,
        new: Rec,
        vout: u32,
        standing: &dyn Fn(Claim) -> (u32, u64),
    ) -> Option<()> {
        let mut spends = Vec::new();
        let mut at = from.claim(rec, vout);
        while at.is_some() {
            spends.push(at);
            at = from.prior(at);
        }
        let mut below = Claim::NONE;
        for spend in spends.into_iter().rev() {
            let (block, publish_seq) = standing(spend);
            let (by, vin) = (from.claimant(spend), from.claim_vin(spend));
            let claim = self.alloc_claim(&by, 0, Ticket::default(), vin, block)?;
            self.put_claim_publish_seq(claim, publish_seq);
            self.put_prior(claim, below);
            below = claim;
        }
        if below.is_some() {
            self.put_claim(new, vout, below);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardConfig;
    use crate::conformance::params;
    use crate::shard::Outbox;
    use crate::store::{Coin, MinedTx, Reassigned};
    use crate::verdict::Verdict;
    use consensus::tx::OutPoint;
    use dataplane::msg::admin::Admin;
    use dataplane::msg::{Accepted, Reply};
    use dataplane::partition::Partition;
    use std::collections::BTreeMap;

    struct Nobody;

    impl Outbox for Nobody {
        fn reply(&mut self, _to: u16, _reply: &Reply<'_>) {}

        fn publish(&mut self, _accepted: &Accepted<'_>) {}
    }

    fn shard() -> Shard {
        let partition = Partition::new([9; 16], 1, 1);
        Shard::new(&ShardConfig {
            slab_bytes: 8 << 20,
            transactions_max: 4096,
            ..ShardConfig::small(0, partition, (3, 4), params())
        })
    }

    fn coins(shard: &Shard) -> BTreeMap<OutPoint, (u64, u32, bool, Vec<u8>)> {
        let mut all = BTreeMap::new();
        shard.for_each_unspent(&mut |outpoint, coin: &Coin<'_>| {
            let script = coin.locking_script.to_vec();
            all.insert(*outpoint, (coin.value_sat, coin.height, coin.coinbase, script));
        });
        all
    }

    #[test]
    fn records_of_many_outputs_marks_and_long_scripts_come_over_whole() {
        let mut old = shard();
        let (many, single) = (TxId([1; 32]), TxId([2; 32]));
        let scripts: Vec<Vec<u8>> = (0..700_usize).map(|n| vec![0x51; 1 + n * 7 % 900]).collect();
        let rows: Vec<(u32, u64, &[u8])> = scripts
            .iter()
            .enumerate()
            .filter(|(n, _)| n % 3 != 1)
            .map(|(n, script)| (n as u32, 1_000 + n as u64, &script[..]))
            .collect();
        let tx = MinedTx { txid: many, height: 7, coinbase: true, coins: &rows };
        assert_eq!(old.import_tx(&tx), Verdict::Done);
        // One whose outputs were brought in by themselves: most of its extents are not there.
        for vout in [3, 1_700] {
            assert!(old.import(&OutPoint { txid: single, vout }, 50, 8, false, &[0x52; 30]));
        }
        let marked = |vout| OutPoint { txid: many, vout };
        let order = Admin::Freeze { outpoint: marked(302), frozen: true };
        old.admin(&Context::default(), &order, &mut Nobody, &mut |_| {});
        let new_script = [0x53; 40];
        let order = Reassigned {
            outpoint: marked(302),
            old: &scripts[302],
            new: &new_script,
            from_height: 77,
        };
        assert_eq!(old.reassign(&order), Verdict::Done);
        assert!(old.lock(&marked(600), true) && old.preserve(&many, 4_000));

        let mut new = shard();
        old.for_each_live(|rec| assert!(new.adopt(&old, rec, 0, &Places::new()), "room for all"));
        new.check();
        assert_eq!(coins(&new), coins(&old));
        assert_eq!(coins(&new).len(), rows.len() + 2);
        assert_eq!(coins(&new)[&marked(302)].3, new_script);
        let (from, to) = (old.table.find(&many), new.table.find(&many));
        let (from, to) = (from.expect("it is there"), to.expect("it came over"));
        assert_eq!(new.table.kept_until(to), 4_000);
        assert_eq!(new.table.reassigned_from(to, 302), 77);
        for vout in 0..old.table.outputs(from) {
            let (got, expected) = (new.table.output(to, vout), old.table.output(from, vout));
            assert_eq!(got, expected, "output {vout}");
        }
        // It goes on as before: a further coin of the sparse one, and nothing twice.
        for shard in [&mut old, &mut new] {
            assert!(shard.import(&OutPoint { txid: single, vout: 900 }, 51, 8, false, &[0x54]));
            assert!(!shard.import(&OutPoint { txid: single, vout: 3 }, 50, 8, false, &[0x52]));
        }
        new.check();
        assert_eq!(coins(&new), coins(&old));
        let mut small = Shard::new(&ShardConfig {
            slab_bytes: 1 << 16,
            transactions_max: 8,
            ..ShardConfig::small(0, Partition::new([9; 16], 1, 1), (3, 4), params())
        });
        let mut all = true;
        old.for_each_live(|rec| all &= small.adopt(&old, rec, 0, &Places::new()));
        assert!(!all, "there is no room for it, and that is said");
    }
}
