//! The table of a shard as it was at one moment, while it goes on changing.
//!
//! [`Shard::checkpoint_begin`] writes down the few words that are not in pages (the *roots*) and marks all pages in use; from then on
//! the first write to a page copies it. [`Shard::checkpoint_step`] hands pages out, a bounded number a call, in any order, each
//! once and as of the beginning. A checkpoint as of an epoch begins in the turn that leaves the epoch
//! ([`Shard::checkpoint_after`]), so nothing of a later one is in it.
//!
//! Reservations, announcements and waits are in the pages and are no part of what is kept: a [`Restore`] sweeps them out, whatever
//! was under way when the checkpoint began.

use crate::build::BuildRoots;
use crate::config::{RULE_SETS_MAX, ShardConfig};
use crate::index::{Index, IndexRoots};
use crate::journal::{BlockNote, Bytes};
use crate::logging::CHAIN_KEPT_MAX;
use crate::memory::SnapshotStep;
use crate::mined::Mined;
use crate::shard::{Shard, Totals};
use crate::slab::{Handle, NONE, Slab, SlabRoots};
use crate::table::{Claim, Rec, Table, flag, out};
use crate::waits::NOBODY;
use crate::walk::WALK_AHEAD;

/// Bytes of a page.
pub use crate::memory::PAGE_BYTES;

/// Which memory a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageOf {
    /// Records, claims, scripts.
    Slab,
    /// The index.
    Index,
}

/// A checkpoint that is to be taken or is being taken.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// It begins where this epoch ends.
    after: Option<u64>,
    copies_max: usize,
    /// The roots of the one that has begun.
    roots: Vec<u8>,
    begun: Option<u64>,
}

/// What of a table is not in pages.
#[derive(Debug)]
pub struct Roots {
    slab: SlabRoots,
    index: IndexRoots,
    graves: Handle,
    totals: Totals,
    publish_seq: u64,
    mined: Mined,
    rule_sets: [u32; RULE_SETS_MAX],
    rule_sets_used: u8,
    chain: Vec<BlockNote>,
    block_max: u32,
    begun: Option<BlockNote>,
    evicted_any: bool,
    build: Option<BuildRoots>,
}

impl Roots {
    /// What [`Shard::checkpoint_roots`] gave, of a shard among so many; `None` for bytes it did not.
    pub fn decode(bytes: &[u8], shards: u16) -> Option<Self> {
        let mut from = Bytes(bytes);
        let r = &mut from;
        let slab = SlabRoots::read(r)?;
        let index = IndexRoots::read(r)?;
        let graves = r.u32()?;
        let totals = Totals {
            utxos: r.u64()?,
            transactions: r.u64()?,
            value_sat: r.u64()?,
            reserved: r.u64()?,
            announced: r.u64()?,
            watched: r.u64()?,
            ..Totals::default()
        };
        let publish_seq = r.u64()?;
        let mined = Mined::read(r, shards)?;
        let rule_sets_used = r.u8()?;
        let mut rule_sets = [u32::MAX; RULE_SETS_MAX];
        for set in &mut rule_sets {
            *set = r.u32()?;
        }
        let mut chain = Vec::new();
        for _ in 0..r.u32()? {
            chain.push(r.note_of(true)?);
        }
        let begun = match r.u8()? {
            0 => None,
            connect @ (1 | 2) => Some(r.note_of(connect == 1)?),
            _ => return None,
        };
        let (block_max, evicted_any) = (r.u32()?, r.bool()?);
        let build = match r.bool()? {
            true => Some(BuildRoots { raw: r.u32()?, raw_len: r.u64()?, rec: r.u32()? }),
            false => None,
        };
        let sound = r.0.is_empty()
            && usize::from(rule_sets_used) < RULE_SETS_MAX
            && chain.len() <= CHAIN_KEPT_MAX;
        sound.then_some(Self {
            slab,
            index,
            graves,
            totals,
            publish_seq,
            mined,
            rule_sets,
            rule_sets_used,
            chain,
            block_max,
            begun,
            evicted_any,
            build,
        })
    }

    /// Whether a shard of this configuration has room for it.
    pub fn fits(&self, config: &ShardConfig) -> bool {
        self.slab.touched_bytes() <= config.slab_bytes && self.index.fits(config.transactions_max)
    }

    /// Bytes of the slab and of the index that it has pages for.
    pub fn bytes(&self) -> (usize, usize) {
        (self.slab.touched_bytes(), self.index.bytes())
    }
}

impl Shard {
    /// Takes the memory that checkpoints will need.
    pub fn checkpoint_prepare(&mut self, copies_max: usize) {
        self.snapshot.copies_max = copies_max;
        let roots = SlabRoots::BYTES
            + self.table.index.roots_bytes_max()
            + CHAIN_KEPT_MAX * BlockNote::BYTES
            + (1 << 20);
        self.snapshot.roots.reserve(roots);
        self.table.slab.memory.snapshot_prepare(copies_max);
        self.table.index.memory.snapshot_prepare(copies_max);
    }

    /// Orders a checkpoint as of the end of an epoch, with as many copies as were prepared.
    pub fn checkpoint_after(&mut self, epoch: u64) {
        self.snapshot.after = Some(epoch);
    }

    /// Epoch of the checkpoint that has begun since it was last asked.
    pub fn checkpoint_begun(&mut self) -> Option<u64> {
        self.snapshot.begun.take()
    }

    /// The next epoch begins.
    pub(crate) fn checkpoint_if_due(&mut self, next: u64) {
        if let Some(after) = self.snapshot.after.filter(|&after| after < next) {
            self.snapshot.after = None;
            self.checkpoint_begin(self.snapshot.copies_max);
            self.snapshot.begun = Some(after);
        }
    }

    /// Begins a checkpoint of the table as it is now. At most `copies_max` pages may change in each of the two memories before they
    /// are handed out; beyond that the checkpoint is lost, and the shard goes on.
    pub fn checkpoint_begin(&mut self, copies_max: usize) {
        let slab = self.table.slab.snapshot_begin(copies_max);
        self.table.index.snapshot_begin(copies_max);
        let mut to = std::mem::take(&mut self.snapshot.roots);
        to.clear();
        slab.write(&mut to);
        self.table.index.write_roots(&mut to);
        to.extend_from_slice(&self.table.graves().to_le_bytes());
        let t = &self.totals;
        for word in [
            t.utxos,
            t.transactions,
            t.value_sat,
            t.reserved,
            t.announced,
            t.watched,
            self.publish_seq,
        ] {
            to.extend_from_slice(&word.to_le_bytes());
        }
        self.mined.write(&mut to);
        to.push(self.rule_sets_used);
        for set in self.rule_sets {
            to.extend_from_slice(&set.to_le_bytes());
        }
        to.extend_from_slice(&(self.chain.len() as u32).to_le_bytes());
        for note in &self.chain {
            note.write(&mut to);
        }
        match &self.begun {
            Some(note) => {
                to.push(if note.connect { 1 } else { 2 });
                note.write(&mut to);
            }
            None => to.push(0),
        }
        to.extend_from_slice(&self.block_max.to_le_bytes());
        to.push(u8::from(self.evicted_any));
        match self.build_roots() {
            Some(build) => {
                to.push(1);
                to.extend_from_slice(&build.raw.to_le_bytes());
                to.extend_from_slice(&build.raw_len.to_le_bytes());
                to.extend_from_slice(&build.rec.to_le_bytes());
            }
            None => to.push(0),
        }
        self.snapshot.roots = to;
    }

    /// What of the table is not in pages, of the checkpoint that was begun last.
    pub fn checkpoint_roots(&self) -> &[u8] {
        &self.snapshot.roots
    }

    /// Hands out at most `most` pages.
    pub fn checkpoint_step(
        &mut self,
        most: usize,
        page: &mut impl FnMut(PageOf, u32, &[u8]),
    ) -> SnapshotStep {
        let mut given = 0;
        let slab = self.table.slab.memory.snapshot_step(most, &mut |n, bytes| {
            given += 1;
            page(PageOf::Slab, n, bytes);
        });
        match slab {
            // The last pages of the slab may have been all that this step may give.
            SnapshotStep::Done | SnapshotStep::Idle if given < most => self
                .table
                .index
                .memory
                .snapshot_step(most - given, &mut |n, bytes| page(PageOf::Index, n, bytes)),
            SnapshotStep::Done | SnapshotStep::Idle => SnapshotStep::More,
            step => step,
        }
    }

    /// Gives a checkpoint up.
    pub fn checkpoint_end(&mut self) {
        self.table.slab.memory.snapshot_end();
        self.table.index.memory.snapshot_end();
    }

    /// Whether copies run short: whoever can wait should.
    pub fn is_checkpoint_pressed(&self) -> bool {
        self.table.slab.memory.is_snapshot_pressed()
            || self.table.index.memory.is_snapshot_pressed()
    }

    /// Checkpoints lost because more pages changed than there was room for copies.
    pub fn checkpoints_lost(&self) -> u64 {
        self.table.slab.memory.snapshots_lost() + self.table.index.memory.snapshots_lost()
    }
}

/// A shard that is being made again from a checkpoint.
#[derive(Debug)]
pub struct Restore {
    shard: Shard,
    roots: Roots,
    slab: Slab,
    index: Index,
    key: (u64, u64),
}

impl Restore {
    /// From the roots; the caller has asked [`Roots::fits`].
    pub fn new(config: &ShardConfig, roots: Roots) -> Self {
        assert!(roots.fits(config), "a checkpoint larger than the shard it is for");
        let slab = Slab::restore(config.slab_bytes, &roots.slab);
        let index = Index::restore(config.transactions_max, &roots.index);
        // The tables that the shard begins with are replaced at the end: they take no memory before they are used.
        let small = ShardConfig { slab_bytes: 4096, transactions_max: 8, ..config.clone() };
        Self { shard: Shard::new(&small), roots, slab, index, key: config.index_key }
    }

    /// One page; false if there is no such page.
    pub fn page(&mut self, of: PageOf, number: u32, bytes: &[u8]) -> bool {
        let (slab, index) = self.roots.bytes();
        let end = if of == PageOf::Slab { slab } else { index };
        if bytes.len() != PAGE_BYTES || number as usize >= end.div_ceil(PAGE_BYTES) {
            return false;
        }
        match of {
            PageOf::Slab => self.slab.put_page(number, bytes),
            PageOf::Index => self.index.put_page(number, bytes),
        }
        true
    }

    /// All pages were given: the shard, without anything that was only under way.
    pub fn finish(mut self) -> Shard {
        self.slab.restore_end();
        let r = self.roots;
        let mut shard = self.shard;
        shard.table = Table::of(self.slab, self.index, self.key, r.graves);
        shard.totals = r.totals;
        shard.publish_seq = r.publish_seq;
        shard.mined = r.mined;
        shard.rule_sets = r.rule_sets;
        shard.rule_sets_used = r.rule_sets_used;
        shard.chain = r.chain.into();
        shard.block_max = r.block_max;
        shard.begun = r.begun;
        shard.evicted_any = r.evicted_any;
        shard.sweep(r.build);
        shard
    }
}

impl Shard {
    /// Takes out what was under way: announcements, anchors, holds, waits, marks of a block that is not settled.
    fn sweep(&mut self, build: Option<BuildRoots>) {
        if let Some(build) = build {
            if build.rec != NONE {
                self.table.dealloc(Rec(build.rec));
            }
            self.table.slab.free(build.raw, build.raw_len as usize);
        }
        let mut gone = Vec::new();
        let places = self.table.index.places();
        for place in 0..places {
            if place + WALK_AHEAD < places {
                self.table.warm_record(self.table.index.at(place + WALK_AHEAD));
            }
            let rec = Rec(self.table.index.at(place));
            if rec.0 == NONE {
                continue;
            }
            let flags = self.table.flags(rec);
            if flags & flag::LIVE == 0 {
                gone.push(rec);
                continue;
            }
            if self.table.waiting(rec) != 0 || self.table.waiters(rec) != NOBODY {
                self.table.put_waiters(rec, NOBODY);
                self.table.put_waiting(rec, 0);
            }
            if flags & flag::BLOCK_PENDING != 0 {
                self.table.put_flags(rec, flags & !flag::BLOCK_PENDING);
                self.table.put_block(rec, 0);
                self.table.put_height(rec, 0);
            }
            if self.totals.reserved > 0 {
                self.end_holds(rec);
            }
        }
        for rec in gone {
            if self.table.is(rec, flag::PENDING) {
                let (raw, len) = self.table.raw(rec);
                self.table.slab.free(raw, len);
            }
            self.table.remove(rec);
        }
        assert!(self.totals.reserved == 0, "{} holds were not found", self.totals.reserved);
        self.totals.announced = 0;
        self.totals.watched = 0;
    }

    fn end_holds(&mut self, rec: Rec) {
        for vout in 0..self.table.outputs(rec) {
            let bits = self.table.output(rec, vout);
            if bits & out::HELD != 0 {
                let claim: Claim = self.table.claim(rec, vout);
                let prior = self.table.prior(claim);
                self.table.put_claim(rec, vout, prior);
                self.table.put_output(rec, vout, bits & !out::HELD);
                self.table.free_claim(claim);
                self.totals.reserved -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use consensus::tx::OutPoint;
    use dataplane::msg::request::List;
    use dataplane::msg::{Request, WithdrawReason};
    use dataplane::rng::Rng;
    use std::collections::BTreeMap;

    fn everything(shard: &Shard) -> BTreeMap<OutPoint, (u64, Vec<u8>)> {
        let mut all = BTreeMap::new();
        shard.for_each_coin(|outpoint, value_sat, script| {
            assert!(all.insert(outpoint, (value_sat, script.to_vec())).is_none());
        });
        all
    }

    fn restore(config: &ShardConfig, roots: &[u8], pages: &[(PageOf, u32, Vec<u8>)]) -> Shard {
        let roots = Roots::decode(roots, config.partition.shards()).expect("its own bytes");
        let mut restore = Restore::new(config, roots);
        for (of, number, bytes) in pages {
            assert!(restore.page(*of, *number, bytes));
        }
        let shard = restore.finish();
        shard.check();
        shard
    }

    fn rest(shard: &mut Shard, pages: &mut Vec<(PageOf, u32, Vec<u8>)>) {
        let mut keep = |of, n, bytes: &[u8]| pages.push((of, n, bytes.to_vec()));
        while shard.checkpoint_step(8, &mut keep) != SnapshotStep::Idle {}
    }

    #[test]
    fn a_table_restored_from_its_pages_is_the_table_as_of_the_beginning() {
        let mut world = World::new();
        let mut rng = Rng::new(11);
        for n in 1..=200_u32 {
            let mut txid = id(0);
            rng.fill(&mut txid.0);
            world.import(OutPoint { txid, vout: n % 4 }, u64::from(n));
        }
        let before = everything(&world.shard);
        world.shard.checkpoint_begin(4096);
        let roots = world.shard.checkpoint_roots().to_vec();
        let mut pages = Vec::new();
        let coins: Vec<_> = before.keys().copied().collect();
        for (i, &coin) in coins.iter().enumerate() {
            world.commit(0, ticket(1, i as u32 + 1), &tx(&[coin], &[3, 4], i as u32));
            world.out.all();
            let mut keep = |of, n, bytes: &[u8]| pages.push((of, n, bytes.to_vec()));
            world.shard.checkpoint_step(1, &mut keep);
        }
        rest(&mut world.shard, &mut pages);
        assert_ne!(everything(&world.shard), before, "the table has changed");
        let mut restored = restore(&config(0, 1), &roots, &pages);
        assert_eq!(everything(&restored), before);
        // It goes on from there.
        let spend = tx(&[coins[0]], &[1], 9);
        let mut again = World { shard: restored, out: Memory::default(), ctx: POOL };
        again.commit(0, ticket(1, 1), &spend);
        assert!(matches!(again.out.one(), Said::Decided { .. }));
        restored = again.shard;
        assert_eq!(everything(&restored).len(), before.len());
    }

    #[test]
    fn what_was_only_under_way_is_swept_out_and_gives_its_memory_back() {
        let mut world = World::new();
        for n in 1..=20 {
            world.import(at(n, 0), 5);
        }
        let clean = world.shard.totals().slab_used_bytes;
        let before = everything(&world.shard);
        let (one, two) = (tx(&[at(1, 0)], &[5], 1), tx(&[at(1, 0)], &[4], 2));
        for (slot, spender) in [(1, &one), (2, &two)] {
            let (txid, raw) = (spender.txid(), spender.to_bytes());
            let t = ticket(slot, 1);
            let inputs = refs(&[at(1, 0)]);
            let announce = Request::Announce { ticket: t, txid, tx: &raw };
            let reserve = Request::Reserve { ticket: t, txid, inputs: List::Own(&inputs) };
            for request in [announce, reserve] {
                world.shard.request(0, &POOL, &request, &mut world.out);
            }
        }
        let watch = Request::Watch { ticket: ticket(3, 1), outpoint: at(99, 0) };
        world.shard.request(0, &POOL, &watch, &mut world.out);
        // A transaction of very many outputs, of which a part is written.
        let large = tx(&[at(2, 0)], &vec![1; 3000], 1);
        let (txid, raw) = (large.txid(), large.to_bytes());
        let t = ticket(4, 1);
        world.shard.request(
            0,
            &POOL,
            &Request::Announce { ticket: t, txid, tx: &raw },
            &mut world.out,
        );
        assert!(world.shard.is_building() && world.shard.totals().reserved == 1);
        world.shard.checkpoint_begin(4096);
        let roots = world.shard.checkpoint_roots().to_vec();
        let mut pages = Vec::new();
        rest(&mut world.shard, &mut pages);
        let mut restored = restore(&config(0, 1), &roots, &pages);
        assert_eq!(everything(&restored), before);
        // A record of very many outputs is freed an extent at a time.
        while restored.step() {}
        let t = restored.totals();
        assert_eq!((t.reserved, t.announced, t.watched, t.waiting), (0, 0, 0, 0));
        assert_eq!(t.slab_used_bytes, clean);
        // The shard itself goes on as if nothing had been looked at.
        while world.shard.step() {}
        let reason = WithdrawReason::Rejected;
        world.shard.request(
            0,
            &POOL,
            &Request::Withdraw { ticket: t4(), txid, reason },
            &mut world.out,
        );
        world.shard.check();
    }

    fn t4() -> dataplane::msg::Ticket {
        ticket(4, 1)
    }

    #[test]
    fn a_checkpoint_as_of_an_epoch_begins_in_the_turn_that_leaves_it() {
        let mut world = World::new();
        world.import(at(1, 0), 5);
        world.shard.checkpoint_prepare(64);
        let epoch = world.shard.epoch();
        world.shard.checkpoint_after(epoch.number);
        assert_eq!(world.shard.checkpoint_begun(), None);
        let next = dataplane::msg::Epoch { number: epoch.number + 1, ..epoch };
        world.shard.meet_epoch(next);
        world.import(at(2, 0), 6);
        assert_eq!(world.shard.checkpoint_begun(), Some(epoch.number));
        let roots = world.shard.checkpoint_roots().to_vec();
        let mut pages = Vec::new();
        rest(&mut world.shard, &mut pages);
        assert_eq!(everything(&restore(&config(0, 1), &roots, &pages)).len(), 1);
    }

    #[test]
    fn a_step_gives_no_more_pages_than_it_may_also_where_the_slab_ends_and_the_index_begins() {
        let mut world = World::new();
        for n in 1..200 {
            world.import(at(n, 0), 5);
        }
        for most in 1..20 {
            world.shard.checkpoint_begin(8);
            let mut all = std::collections::BTreeSet::new();
            loop {
                let mut given = 0;
                let step = world.shard.checkpoint_step(most, &mut |of, n, _| {
                    given += 1;
                    assert!(all.insert((of, n)), "page {n} of {of:?} twice");
                });
                assert!(given <= most, "{given} pages where {most} were asked for");
                if step == SnapshotStep::Idle {
                    break;
                }
            }
            assert!(all.iter().any(|page| page.0 == PageOf::Slab));
            assert!(all.iter().any(|page| page.0 == PageOf::Index));
        }
    }

    #[test]
    fn a_checkpoint_that_cannot_keep_up_is_lost_and_the_shard_goes_on() {
        let mut world = World::new();
        for n in 1..200 {
            world.import(at(n, 0), 5);
        }
        world.shard.checkpoint_begin(0);
        for n in 1..200 {
            world.commit(0, ticket(1, u32::from(n)), &tx(&[at(n, 0)], &[5], 1));
            assert!(matches!(world.out.one(), Said::Decided { .. }));
        }
        let lost = world.shard.checkpoint_step(1, &mut |_, _, _| {});
        assert_eq!(lost, SnapshotStep::Lost);
        assert!(world.shard.checkpoints_lost() > 0);
    }

    #[test]
    fn roots_that_were_cut_or_changed_in_length_are_none() {
        let mut world = World::new();
        world.import(at(1, 0), 5);
        world.shard.checkpoint_begin(8);
        let roots = world.shard.checkpoint_roots().to_vec();
        assert!(Roots::decode(&roots, 1).is_some());
        for cut in 0..roots.len() {
            assert!(Roots::decode(&roots[..cut], 1).is_none(), "cut at {cut}");
        }
        assert!(Roots::decode(&[&roots[..], &[0]].concat(), 1).is_none());
    }
}
