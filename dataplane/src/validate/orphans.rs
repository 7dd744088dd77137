//! Orphans: transactions whose parent nobody has shown yet.
//!
//! An orphan keeps its slot's memory and what it has proved, but counts no longer as in flight. It is watched for on its first
//! missing parent only. The pool is bounded in number, in bytes and by source; a full pool throws out one at random, so
//! nobody can aim. Age is counted in the time housekeeping hands in.

use super::coordinator::{Coordinator, SOURCE_BUCKETS};
use super::slot::{NONE, Ops, Phase};
use crate::msg::TxVerdict;
use consensus::hash::TxId;

/// Orphans looked at for age in one housekeeping.
const AGED_PER_TICK_MAX: usize = 64;
/// Orphans thrown out to make room for one.
const EVICTED_FOR_ONE_MAX: usize = 16;

fn bucket(source: u32) -> usize {
    (source.wrapping_mul(0x9e37_79b1) >> 20) as usize % SOURCE_BUCKETS
}

impl Coordinator {
    /// The transaction waits for the coin of input `vin` to appear, without a slot in flight.
    pub fn become_orphan(&mut self, slot: u32, vin: u32) {
        let s = &self.slots[slot as usize];
        let bytes = s.tx.len() as u64;
        let bounds = self.cfg.bounds;
        let of_source = self.source_orphans[bucket(s.source)];
        let parent = self.view(slot).prev(vin as usize).txid;
        let mut fits =
            of_source < bounds.orphans_per_source_max && bytes <= bounds.orphan_bytes_max;
        let mut evicted = 0;
        while fits
            && (self.orphans.len() >= bounds.orphans_max as usize
                || self.orphan_bytes + bytes > bounds.orphan_bytes_max)
        {
            evicted += 1;
            fits = evicted <= EVICTED_FOR_ONE_MAX;
            if fits {
                let victim = self.orphans[self.rng.index(self.orphans.len())];
                self.counts.orphans_evicted += 1;
                self.expire(victim);
            }
        }
        if !fits {
            return self.conclude(slot, TxVerdict::OrphanExpired, 0, vin, parent);
        }
        self.counts.orphaned += 1;
        self.set_orphan(slot, true);
        let source = self.slots[slot as usize].source;
        self.source_orphans[bucket(source)] += 1;
        self.orphan_bytes += bytes;
        let at = self.orphans.len() as u32;
        self.orphans.push(slot);
        let now_ns = self.now_ns;
        let s = &mut self.slots[slot as usize];
        s.orphan_at = at;
        if !s.was_orphan {
            s.born_ns = now_ns;
        }
        s.phase = Phase::Orphan;
        s.was_orphan = true;
        s.wait_vin = vin;
        s.watching = true;
        s.watch_vin = vin;
        s.withdraw_rejected = false;
        s.ops.remove(Ops::ANNOUNCE | Ops::SEEN);
        if s.announced {
            s.ops.add(Ops::WITHDRAW);
        }
        s.ops.add(Ops::WATCH);
        self.release(slot);
    }

    /// Takes a slot out of the list of orphans.
    pub fn remove_orphan(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        let at = std::mem::replace(&mut s.orphan_at, NONE) as usize;
        self.orphan_bytes -= s.tx.len() as u64;
        self.source_orphans[bucket(s.source)] -= 1;
        self.orphans.swap_remove(at);
        if let Some(&moved) = self.orphans.get(at) {
            self.slots[moved as usize].orphan_at = at as u32;
        }
    }

    /// The coin may be there: a new attempt as soon as there is room in flight.
    pub fn wake_orphan(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        if s.watching {
            s.watching = false;
            if s.ops.has(Ops::WATCH) {
                s.ops.remove(Ops::WATCH);
            } else {
                s.ops.add(Ops::UNWATCH);
            }
        }
        self.restart_later(slot, false);
    }

    fn expire(&mut self, slot: u32) {
        let vin = self.slots[slot as usize].wait_vin;
        let parent = if vin == NONE { TxId::ZERO } else { self.view(slot).prev(vin as usize).txid };
        let vin = if vin == NONE { 0 } else { vin };
        self.conclude(slot, TxVerdict::OrphanExpired, 0, vin, parent);
    }

    /// Time passes: some orphans are looked at, and those that are too old go.
    pub fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        let age_max = self.cfg.bounds.orphan_age_max_ns;
        for _ in 0..AGED_PER_TICK_MAX.min(self.orphans.len()) {
            if self.orphans.is_empty() {
                break;
            }
            self.orphan_scan = (self.orphan_scan + 1) % self.orphans.len();
            let slot = self.orphans[self.orphan_scan];
            if now_ns.saturating_sub(self.slots[slot as usize].born_ns) > age_max {
                self.expire(slot);
            }
        }
    }
}
