//! Orphans: transactions whose parent nobody has shown yet.
//!
//! An orphan keeps its slot's memory and what it has proved, but counts no longer as in flight. It is watched for on its first
//! missing parent only. The pool is bounded in number, in bytes and by source; a full pool throws out one at random, so
//! nobody can aim. Age is counted in the time housekeeping hands in.

use super::coordinator::{Coordinator, SOURCE_BUCKETS, work_class};
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

/// A transaction whose parent is given a moment: before it counts as missing, or before its sender is told that it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    slot: u32,
    attempt: u32,
    until_ns: u64,
}

impl Coordinator {
    /// The first time a parent is missing: it may just have gone through another coordinator that is behind this one. The
    /// transaction keeps its slot and its announcement for `Bounds::parent_grace_ns` and is called when the parent is announced, so that a
    /// chain that is spread over coordinators is still proved in parallel. False where there is no such chance, or no room.
    pub fn wait_a_moment(&mut self, slot: u32, vin: u32) -> bool {
        let s = &mut self.slots[slot as usize];
        let full = self.graces.len() >= self.cfg.bounds.transactions_max as usize / 2;
        let grace_ns = self.cfg.bounds.parent_grace_ns;
        if self.cfg.partition.validators() == 1
            || grace_ns == 0
            || s.was_graced
            || s.was_orphan
            || full
        {
            return false;
        }
        s.was_graced = true;
        let until_ns = self.now_ns + grace_ns;
        self.graces.push_back(Grace { slot, attempt: s.attempt, until_ns });
        self.watch_and_wait(slot, vin);
        true
    }

    /// Those whose parents did not come in time become orphans.
    fn end_graces(&mut self) {
        while let Some(grace) = self.graces.front().copied() {
            if grace.until_ns > self.now_ns {
                break;
            }
            self.graces.pop_front();
            let s = &self.slots[grace.slot as usize];
            if s.attempt == grace.attempt && s.phase == Phase::ParentWait && s.watching {
                let vin = s.watch_vin;
                self.become_orphan(grace.slot, vin);
            }
        }
    }

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
        let watches = s.watching && s.watch_vin == vin;
        s.watching = true;
        s.watch_vin = vin;
        s.withdraw_rejected = false;
        s.ops.remove(Ops::ANNOUNCE | Ops::SEEN);
        if s.announced {
            s.ops.add(Ops::WITHDRAW);
        }
        if !watches {
            s.ops.add(Ops::WATCH);
        }
        self.tell_later(slot);
        self.release(slot);
    }

    /// The copies of an orphan whose senders wait are answered after a moment; at once if too many are to be.
    fn tell_later(&mut self, slot: u32) {
        let s = &self.slots[slot as usize];
        let (attempt, mut at) = (s.attempt, s.offers);
        while at != NONE && !self.offers[at as usize].tell_orphan {
            at = self.offers[at as usize].next;
        }
        if at == NONE {
            return;
        }
        if self.tells.len() == self.tells.capacity() {
            return self.tell(slot);
        }
        let until_ns = self.now_ns + self.cfg.bounds.orphan_told_ns;
        self.tells.push_back(Grace { slot, attempt, until_ns });
    }

    /// Answers the copies whose senders wait; the orphan stays.
    fn tell(&mut self, slot: u32) {
        let vin = self.slots[slot as usize].wait_vin;
        let parent = self.view(slot).prev(vin as usize).txid;
        let txid = self.slots[slot as usize].txid;
        while let Some(offer) = self.pop_tell_orphan(slot) {
            self.emit(&offer, TxVerdict::MissingInput, 0, vin, 0, txid, parent);
        }
    }

    /// Those whose parents did not come while their senders waited are told of it.
    fn end_waits(&mut self) {
        while let Some(wait) = self.tells.front().copied() {
            if wait.until_ns > self.now_ns || self.verdicts.len() >= self.verdicts.capacity() / 2 {
                break;
            }
            self.tells.pop_front();
            let s = &self.slots[wait.slot as usize];
            if s.attempt == wait.attempt && s.phase == Phase::Orphan {
                self.tell(wait.slot);
            }
        }
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

    /// A transaction in flight needs a work of this class and none is free: an orphan that holds one goes. Orphans never hold
    /// up what came to be decided; among those who wait may be the very parent an orphan waits for.
    pub fn evict_for_work(&mut self, class: usize) {
        if self.orphans.is_empty() {
            return;
        }
        let holds = |core: &Self, slot: u32| {
            let items_max = core.works[core.slots[slot as usize].work as usize].items_max;
            work_class(items_max) == class
        };
        let from = self.rng.index(self.orphans.len());
        let (before, after) = self.orphans.split_at(from);
        let victim = after.iter().chain(before).copied().find(|&slot| holds(self, slot));
        if let Some(victim) = victim {
            self.counts.orphans_evicted += 1;
            self.expire(victim);
        }
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
        self.end_graces();
        self.end_waits();
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
