//! Checks of everything a shard believes about itself, for the simulator and tests. Slow: it walks the whole table.

use crate::config::{COIN_WAITERS_MAX, TX_WAITERS_MAX};
use crate::shard::{Shard, Totals};
use crate::slab::{NONE, Slab};
use crate::table::{CLAIM_BYTES, Claim, Rec, Table, flag, out};
use crate::waits::{Kind, WaiterId};

impl Shard {
    /// Asserts every invariant of the shard between two requests.
    ///
    /// Sums and counts equal what a walk finds; every block of the slab has exactly one owner; every waiter stands in one list;
    /// in a coin's queue are only ids smaller than the holder's, and only held coins have lists; only pending transactions, ids
    /// without a transaction, and those pending in a block are waited for.
    pub fn check(&self) {
        let mut found = Totals::default();
        let mut bytes = self.build_bytes() + self.table.grave_bytes();
        let mut listed: Vec<WaiterId> = Vec::new();
        let mut entries = 0;
        for place in 0..self.table.index.places() {
            let rec = Rec(self.table.index.at(place));
            if rec.0 == NONE {
                continue;
            }
            entries += 1;
            let txid = self.table.txid(rec);
            assert_eq!(self.table.find(&txid), Some(rec), "{txid} cannot be found");
            bytes += self.table.record_block_bytes(rec, 0);
            let flags = self.table.flags(rec);
            let kinds = flags & (flag::LIVE | flag::PENDING | flag::ANCHOR);
            assert_eq!(kinds.count_ones(), 1, "{txid} has flags {flags:#x}");
            let waiting: Vec<_> = self.waits.list(self.table.waiters(rec)).collect();
            assert_eq!(waiting.len(), usize::from(self.table.waiting(rec)), "waiters of {txid}");
            assert!(waiting.len() <= usize::from(TX_WAITERS_MAX));
            for &id in &waiting {
                let w = self.waits.get(id);
                assert!(w.listed && matches!(w.kind, Kind::Parent | Kind::Orphan), "{w:?}");
            }
            listed.extend(waiting.iter());
            match kinds {
                flag::LIVE => {
                    found.transactions += 1;
                    let awaited =
                        flags & (flag::BLOCK_PENDING | flag::SETTLED | flag::EVICTING) != 0;
                    let by_block = |&id: &WaiterId| self.waits.get(id).block != 0;
                    assert!(
                        awaited || waiting.iter().all(by_block),
                        "{txid} is decided and the pool waits for it"
                    );
                }
                flag::PENDING => {
                    found.announced += 1;
                    bytes += Slab::block_bytes(self.table.raw(rec).1);
                }
                _ => {
                    found.watched += 1;
                    assert!(!waiting.is_empty(), "nobody waits for {txid}");
                    continue;
                }
            }
            self.check_outputs(rec, &mut found, &mut bytes, &mut listed);
        }
        assert_eq!(entries, self.table.index.len(), "entries of the index");
        listed.extend(self.waits.unanchored());
        let total = listed.len();
        listed.sort_unstable();
        listed.dedup();
        assert_eq!(listed.len(), total, "a waiter stands in two lists");
        assert_eq!(total as u64, u64::from(self.waits.used()), "waiters in lists and in use");
        let believed = self.totals;
        assert_eq!(found.utxos, believed.utxos, "unspent outputs");
        assert_eq!(found.value_sat, believed.value_sat, "unspent value");
        assert_eq!(found.transactions, believed.transactions, "live records");
        assert_eq!(found.reserved, believed.reserved, "held coins");
        assert_eq!(found.announced, believed.announced, "pending records");
        assert_eq!(found.watched, believed.watched, "anchors");
        assert_eq!(bytes, self.table.slab.used_bytes(), "bytes of the slab in use");
    }

    fn check_outputs(
        &self,
        rec: Rec,
        found: &mut Totals,
        bytes: &mut u64,
        listed: &mut Vec<WaiterId>,
    ) {
        let txid = self.table.txid(rec);
        let live = self.table.is(rec, flag::LIVE);
        let mut unspent = 0;
        let mut value_sat = 0;
        for vout in 0..self.table.outputs(rec) {
            let bits = self.table.output(rec, vout);
            if bits & out::COIN == 0 {
                assert_eq!(bits, 0, "{txid}:{vout} is no coin and has state");
                continue;
            }
            if bits & out::APART != 0 {
                *bytes += Slab::block_bytes(self.table.apart_bytes(rec, vout));
            }
            if bits & out::SPENT == 0 {
                unspent += 1;
                value_sat += Table::value_sat(bits);
            } else {
                let spend = self.newest_spend(rec, vout, bits);
                assert!(spend.is_some_and(Claim::is_some), "{txid}:{vout} is spent by nobody");
            }
            let top = self.table.claim(rec, vout);
            let claimed = bits & (out::HELD | out::SPENT) != 0;
            assert_eq!(top.is_some(), claimed, "{txid}:{vout} {bits:#x}");
            assert!(live || !claimed, "{txid}:{vout} is undecided and claimed");
            let mut claim = top;
            while claim.is_some() {
                *bytes += Slab::block_bytes(CLAIM_BYTES);
                let waiting: Vec<_> = self.waits.list(self.table.claim_waiters(claim)).collect();
                assert_eq!(waiting.len(), usize::from(self.table.claim_waiting(claim)));
                assert!(waiting.len() <= usize::from(COIN_WAITERS_MAX));
                let held = claim == top && bits & out::HELD != 0;
                assert!(held || waiting.is_empty(), "{txid}:{vout} is not held and waited for");
                let holder = self.table.claimant(claim);
                for &id in &waiting {
                    let w = self.waits.get(id);
                    assert!(w.listed && matches!(w.kind, Kind::Queue | Kind::Yielded), "{w:?}");
                    assert!(
                        w.kind != Kind::Queue || w.txid < holder,
                        "{} queues for {txid}:{vout} behind the smaller {holder}",
                        w.txid
                    );
                }
                listed.extend(waiting);
                claim = self.table.prior(claim);
            }
            if bits & out::HELD != 0 {
                found.reserved += 1;
                assert_eq!(bits & out::FROZEN, 0, "{txid}:{vout} is frozen and held");
            }
        }
        assert_eq!(unspent, self.table.unspent(rec), "unspent outputs of {txid}");
        if live {
            found.utxos += u64::from(unspent);
            found.value_sat += value_sat;
        } else {
            assert_eq!(value_sat, self.table.pending_value_sat(rec), "value of {txid}");
        }
    }
}
