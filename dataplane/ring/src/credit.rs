//! Credits: what a producer may write, and what a consumer may still read, as values.
//!
//! Each consumer owns one word, its *fseq*: the number of the next frag it has not finished. The producer may publish
//! frag `s` when every fseq is above `s - depth`. It keeps the answer in a local count and rereads the words only in
//! housekeeping or when the count is used up, so the cache lines do not travel with every frag.
//!
//! [`Credit`] is the permission to write one slot, [`Held`] the permission to read what was not given back. The payload
//! ring asks for them as arguments: the borrow checker then keeps a consumer from returning credit while it still
//! looks at the bytes.

use crate::sync::{AtomicU64, Ordering::Relaxed, Site};

/// A consumer that has left writes this instead of a position; producers then ignore it. No position ever gets there:
/// at a thousand million frags a second it takes five hundred years.
pub(crate) const SHUTDOWN: u64 = u64::MAX - 1;

/// Positions start below this, so that they never reach [`SHUTDOWN`].
pub(crate) const FIRST_SEQ_MAX: u64 = 1 << 62;

/// One consumer's position.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Fseq(AtomicU64);

impl Fseq {
    /// A position on the heap (models and tests; regions are initialised in place).
    #[cfg(test)]
    pub(crate) fn new(next: u64) -> Self {
        Self(AtomicU64::new(next))
    }

    /// First position.
    pub(crate) fn reset(&self, next: u64) {
        self.0.store(next, Relaxed); // nobody reads before `Ready`
    }

    /// Says that everything before `next` has been read for the last time.
    #[inline(always)]
    pub(crate) fn give_back(&self, next: u64) {
        self.0.store(next, Site::CreditReturn.order());
    }

    /// Leaves the link for good.
    pub(crate) fn shut_down(&self) {
        self.0.store(SHUTDOWN, Site::Shutdown.order());
    }

    /// The position, or `None` if the consumer has left. What it no longer reads may be overwritten after this.
    #[inline(always)]
    pub(crate) fn read(&self) -> Option<u64> {
        let next = self.0.load(Site::CreditRead.order());
        (next != SHUTDOWN).then_some(next)
    }

    /// The position for a monitor: nothing may be overwritten on its strength.
    pub(crate) fn look(&self) -> Option<u64> {
        let next = self.0.load(Relaxed); // only printed
        (next != SHUTDOWN).then_some(next)
    }
}

/// How many frags a producer at `next` may publish for a consumer at `fseq`, on a link of `depth` lines.
///
/// A consumer that seems to be ahead (a broken peer process) counts as one that has returned everything, one that is
/// absurdly behind as one that has returned nothing: the result is in `0..=depth` whatever the word holds.
#[inline(always)]
pub(crate) fn credit_for(depth: u64, next: u64, fseq: u64) -> u64 {
    let lag = (next.wrapping_sub(fseq) as i64).max(0) as u64;
    depth.saturating_sub(lag)
}

/// The consumer that is furthest behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slowest {
    /// Its index.
    pub(crate) consumer: usize,
    /// Its position.
    pub(crate) fseq: u64,
}

/// Reads all positions; `None` if every consumer has left.
pub(crate) fn slowest<'a>(
    fseqs: impl Iterator<Item = &'a Fseq>,
    depth: u64,
    next: u64,
) -> Option<Slowest> {
    let mut worst: Option<(u64, Slowest)> = None;
    for (consumer, cell) in fseqs.enumerate() {
        let Some(fseq) = cell.read() else { continue };
        let credit = credit_for(depth, next, fseq);
        if worst.is_none_or(|(least, _)| credit < least) {
            worst = Some((credit, Slowest { consumer, fseq }));
        }
    }
    worst.map(|(_, slowest)| slowest)
}

/// The producer's count.
#[derive(Debug)]
pub(crate) struct Credits {
    next: u64,
    cached: u64,
    depth: u64,
}

impl Credits {
    pub(crate) fn new(depth: u64, next: u64) -> Self {
        Self { next, cached: 0, depth }
    }

    /// Number of the next frag to publish.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    #[inline(always)]
    pub(crate) fn cached(&self) -> u64 {
        self.cached
    }

    /// Takes over what the slowest consumer allows; `None`: nobody is left to wait for.
    pub(crate) fn refresh(&mut self, slowest: Option<Slowest>) {
        self.cached = slowest.map_or(self.depth, |s| credit_for(self.depth, self.next, s.fseq));
    }

    /// True if no consumer can still be reading anything.
    pub(crate) fn is_drained(&self) -> bool {
        self.cached == self.depth
    }

    /// Permission to write the next slot. Dropping it spends nothing.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<Credit<'_>> {
        if self.cached == 0 { None } else { Some(Credit(self)) }
    }
}

/// Permission to write the slot of frag [`seq`](Self::seq).
#[derive(Debug)]
pub(crate) struct Credit<'a>(&'a mut Credits);

impl Credit<'_> {
    #[inline(always)]
    pub(crate) fn seq(&self) -> u64 {
        self.0.next
    }

    /// The frag is published.
    #[inline(always)]
    pub(crate) fn spend(self) {
        self.0.next = self.0.next.wrapping_add(1);
        self.0.cached = self.0.cached.wrapping_sub(1); // at least 1: a credit exists
    }
}

/// Permission to read what was taken from a link and not given back: frags `returned..next`.
#[derive(Debug)]
pub(crate) struct Held {
    next: u64,
    returned: u64,
}

impl Held {
    pub(crate) fn new(next: u64) -> Self {
        Self { next, returned: next }
    }

    /// Number of the next frag to read.
    #[inline(always)]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Frags read and not given back.
    #[inline(always)]
    pub(crate) fn count(&self) -> u64 {
        self.next.wrapping_sub(self.returned)
    }

    /// Takes one frag.
    #[inline(always)]
    pub(crate) fn advance(&mut self) {
        self.next = self.next.wrapping_add(1);
    }

    /// Gives back everything taken so far. Needs `&mut`: no borrow of a payload is alive.
    #[inline(always)]
    pub(crate) fn give_back(&mut self, fseq: &Fseq) {
        fseq.give_back(self.next);
        self.returned = self.next;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn credit_is_in_range_whatever_a_consumer_writes(lg in 1u32..20, next: u64, fseq: u64) {
            let depth = 1u64 << lg;
            prop_assert!(credit_for(depth, next, fseq) <= depth);
        }

        #[test]
        fn credit_is_depth_minus_lag(lg in 1u32..20, next in 0..FIRST_SEQ_MAX, lag in 0u64..1 << 21) {
            let depth = 1u64 << lg;
            let fseq = next.wrapping_sub(lag);
            prop_assert_eq!(credit_for(depth, next, fseq), depth.saturating_sub(lag));
        }
    }

    #[test]
    fn the_slowest_consumer_is_the_one_that_allows_least_and_leavers_do_not_count() {
        let cells = [Fseq::new(90), Fseq::new(70), Fseq::new(80)];
        let found = slowest(cells.iter(), 64, 100);
        assert_eq!(found, Some(Slowest { consumer: 1, fseq: 70 }));
        cells[1].shut_down();
        assert_eq!(slowest(cells.iter(), 64, 100), Some(Slowest { consumer: 2, fseq: 80 }));
        cells[0].shut_down();
        cells[2].shut_down();
        assert_eq!(slowest(cells.iter(), 64, 100), None);
    }
}
