//! A consumer's end of a `Lossless` or `Shed` link: frags in order, borrowed, and credit given back.
//!
//! A frag is valid until the next call that needs `&mut`; that is when its credit may go back. Credit is returned by
//! [`Consumer::return_credit`] in housekeeping, and by `poll` itself whenever it finds nothing (an idle consumer owes
//! nothing) or owes [`return_every`](Consumer::set_return_every) frags, so that a shallow link never stalls. A consumer
//! that drops leaves the link: the producer no longer waits for it.

use crate::credit::Held;
use crate::dcache::PayloadReader;
use crate::producer::Seq;
use crate::region::{Lines, Region};
use crate::sync::{Ordering::Relaxed, Site};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

/// One message, as a consumer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frag<'a> {
    /// Its number on the link.
    pub seq: Seq,
    /// The producer's word about it.
    pub sig: u64,
    /// Compressed time the message was born.
    pub ts_orig: u32,
    /// Compressed time it was published on this link.
    pub ts_pub: u32,
    /// The payload. It stays in the link: copy what must outlive this borrow.
    pub bytes: &'a [u8],
}

/// One reader of a link that holds credit. Movable between threads, not shared.
#[derive(Debug)]
pub struct Consumer {
    lines: Lines,
    held: Held,
    return_every: u64,
    /// Frags owed at which the next `poll` gives them back.
    return_at: u64,
    payload: PayloadReader,
    index: usize,
    malformed: u64,
    _not_sync: PhantomData<Cell<()>>,
}

impl Consumer {
    pub(crate) fn new(region: &Arc<Region>, index: usize) -> Self {
        let return_every = (region.spec().depth / 4).max(1);
        Self {
            lines: Lines::of(region),
            held: Held::new(region.spec().first_seq),
            return_every,
            return_at: return_every,
            payload: PayloadReader::of(region),
            index,
            malformed: 0,
            _not_sync: PhantomData,
        }
    }

    /// Name of the link.
    pub fn name(&self) -> &str {
        &self.lines.region().spec().name
    }

    /// Index of this consumer on its link.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Number of the next frag.
    #[inline]
    pub fn next_seq(&self) -> Seq {
        self.held.next()
    }

    /// Sets how many frags `poll` keeps before it returns their credit: 1 for at once. At first a quarter of the depth.
    pub fn set_return_every(&mut self, frags: u64) {
        self.return_every = frags.max(1);
        self.return_at = self.return_every;
    }

    /// The next frag, if it is there. The one before is thereby consumed.
    #[inline]
    pub fn poll(&mut self) -> Option<Frag<'_>> {
        if self.held.count() >= self.return_at {
            self.return_credit();
        }
        let seq = self.held.next();
        let Some(meta) = self.lines.at(seq).poll_held(seq) else {
            if self.held.count() != 0 {
                self.return_credit();
            }
            return None;
        };
        self.held.advance();
        if meta.loc.is_large() {
            self.return_at = 1; // its source waits for the room: give it back at the next call
        }
        let Some(bytes) = self.payload.frag(meta.loc, &self.held) else {
            self.malformed += 1;
            let cell = &self.lines.region().consumers()[self.index].own.malformed;
            cell.store(self.malformed, Relaxed); // read by monitors only
            return None;
        };
        Some(Frag { seq, sig: meta.sig, ts_orig: meta.ts_orig, ts_pub: meta.ts_pub, bytes })
    }

    /// Number and `sig` of the next frag, if it is there. Consumes nothing: not this frag, nor the one before.
    #[inline]
    pub fn peek(&self) -> Option<(Seq, u64)> {
        let seq = self.held.next();
        self.lines.at(seq).poll_held(seq).map(|meta| (seq, meta.sig))
    }

    /// Gives back the credit of every frag consumed so far. Housekeeping; one store.
    #[inline]
    pub fn return_credit(&mut self) {
        let fseq = &self.lines.region().consumers()[self.index].own.fseq;
        self.held.give_back(fseq);
        self.return_at = self.return_every;
    }

    /// Frags published and not yet polled. Looks at a few lines; for housekeeping.
    pub fn lag(&self) -> u64 {
        let next = self.held.next();
        let (mut low, mut high) = (0, self.lines.region().spec().depth);
        // Frags are published in order: find how many of the next `depth` are there.
        while low < high {
            let middle = low.midpoint(high);
            let seq = next.wrapping_add(middle);
            if self.lines.at(seq).has(seq) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Whether the producer is gone and every frag of it was polled.
    pub fn is_finished(&self) -> bool {
        let closed = self.lines.region().producer().closed.load(Site::CloseRead.order());
        closed != 0 && self.lag() == 0
    }

    /// Frags skipped because their place was outside the link.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.lines.region().consumers()[self.index].own.fseq.shut_down();
    }
}
