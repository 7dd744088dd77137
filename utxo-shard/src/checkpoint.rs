//! The seam for checkpoints: every page of a table as it was at one moment, while the table goes on changing.
//!
//! [`Shard::checkpoint_begin`] notes the few words that are not in pages and marks all pages in use; from then on the first write
//! to a page copies it. [`Shard::checkpoint_step`] hands pages out, a bounded number a call, in any order, each once and as of the
//! beginning. Who writes them to a disk, under which epoch and checksum, and when a slot may take the place of an older one, is
//! not decided here. A table is made again from the words and the pages by [`Shard::restore`].

use crate::config::ShardConfig;
use crate::index::{Index, IndexRoots};
use crate::memory::SnapshotStep;
use crate::shard::{Shard, Totals};
use crate::slab::{Handle, Slab, SlabRoots};
use crate::table::Table;

/// Which memory a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PageOf {
    /// Records, claims, scripts.
    Slab,
    /// The index.
    Index,
}

/// What of a table is not in pages.
#[derive(Clone, Debug)]
pub struct Roots {
    slab: SlabRoots,
    index: IndexRoots,
    graves: Handle,
    totals: Totals,
    publish_seq: u64,
}

impl Shard {
    /// Begins a checkpoint of the table as it is now. At most `copies_max` pages may change in each of the two memories before they
    /// are handed out; beyond that the checkpoint is lost, and the shard goes on.
    pub fn checkpoint_begin(&mut self, copies_max: usize) -> Roots {
        Roots {
            slab: self.table.slab.snapshot_begin(copies_max),
            index: self.table.index.snapshot_begin(copies_max),
            graves: self.table.graves(),
            totals: self.totals,
            publish_seq: self.publish_seq,
        }
    }

    /// Hands out at most `most` pages.
    pub fn checkpoint_step(
        &mut self,
        most: usize,
        page: &mut impl FnMut(PageOf, u32, &[u8]),
    ) -> SnapshotStep {
        let slab =
            self.table.slab.snapshot_step(most, &mut |n, bytes| page(PageOf::Slab, n, bytes));
        match slab {
            SnapshotStep::Done | SnapshotStep::Idle => {
                self.table.index.snapshot_step(most, &mut |n, bytes| page(PageOf::Index, n, bytes))
            }
            step => step,
        }
    }

    /// Checkpoints lost because more pages changed than there was room for copies.
    pub fn checkpoints_lost(&self) -> u64 {
        self.table.slab.snapshots_lost() + self.table.index.snapshots_lost()
    }

    /// A shard whose table is that of a checkpoint. Who waited for what is not part of one, nor what was under way: the checkpoint
    /// was begun while nothing was announced, held or awaited.
    ///
    /// # Panics
    /// If the checkpoint was begun at another moment.
    pub fn restore<'a>(
        config: &ShardConfig,
        roots: &Roots,
        pages: impl IntoIterator<Item = (PageOf, u32, &'a [u8])>,
    ) -> Self {
        let t = &roots.totals;
        assert!(
            t.announced == 0 && t.reserved == 0 && t.watched == 0,
            "a checkpoint of a shard with {} announced, {} held, {} watched",
            t.announced,
            t.reserved,
            t.watched
        );
        let mut slab = Slab::restore(config.slab_bytes, &roots.slab);
        let mut index = Index::restore(config.transactions_max, &roots.index);
        for (of, number, bytes) in pages {
            match of {
                PageOf::Slab => slab.put_page(number, bytes),
                PageOf::Index => index.put_page(number, bytes),
            }
        }
        slab.restore_end();
        let mut shard = Self::new(config);
        shard.table = Table::of(slab, index, config.index_key, roots.graves);
        shard.totals = roots.totals;
        shard.publish_seq = roots.publish_seq;
        shard
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use consensus::tx::OutPoint;
    use dataplane::rng::Rng;
    use std::collections::BTreeMap;

    fn everything(shard: &Shard) -> BTreeMap<OutPoint, (u64, Vec<u8>)> {
        let mut all = BTreeMap::new();
        shard.for_each_coin(|outpoint, value_sat, script| {
            assert!(all.insert(outpoint, (value_sat, script.to_vec())).is_none());
        });
        all
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
        let roots = world.shard.checkpoint_begin(4096);
        let mut pages = Vec::new();
        let coins: Vec<_> = before.keys().copied().collect();
        for (i, &coin) in coins.iter().enumerate() {
            world.commit(0, ticket(1, i as u32 + 1), &tx(&[coin], &[3, 4], i as u32));
            world.out.all();
            let mut keep = |of, n, bytes: &[u8]| pages.push((of, n, bytes.to_vec()));
            world.shard.checkpoint_step(1, &mut keep);
        }
        let mut keep = |of, n, bytes: &[u8]| pages.push((of, n, bytes.to_vec()));
        while world.shard.checkpoint_step(8, &mut keep) != SnapshotStep::Idle {}
        assert_ne!(everything(&world.shard), before, "the table has changed");
        let pages = pages.iter().map(|(of, n, bytes)| (*of, *n, &bytes[..]));
        let mut restored = Shard::restore(&config(0, 1), &roots, pages);
        restored.check();
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
}
