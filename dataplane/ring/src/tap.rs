//! A reader of a `Tap` link: it holds no credit, copies each frag out, and finds out when it was too slow.
//!
//! The copy is word by word, of atomics; then the line is read again. If the number has changed the copy may be torn and
//! is thrown away, and the reader resumes at the frag that overran it, knowing how many it lost.

use crate::consumer::Frag;
use crate::dcache::PayloadReader;
use crate::line::Found;
use crate::producer::Seq;
use crate::region::{Lines, Region};
use crate::sync::{Ordering::Relaxed, Site};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

/// What a tap found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapPoll<'a> {
    /// Nothing new.
    Empty,
    /// The next frag; its bytes are the tap's own copy.
    Frag(Frag<'a>),
    /// The producer came round: this many frags are lost, and the next poll goes on after them.
    Overrun {
        /// Frags lost.
        lost: u64,
    },
}

/// One reader of a tap. Movable between threads, not shared.
#[derive(Debug)]
pub struct Tap {
    lines: Lines,
    payload: PayloadReader,
    next: Seq,
    copy: Box<[u64]>,
    overruns: u64,
    lost: u64,
    malformed: u64,
    large: u64,
    _not_sync: PhantomData<Cell<()>>,
}

impl Tap {
    pub(crate) fn new(region: &Arc<Region>) -> Self {
        let mut tap = Self {
            lines: Lines::of(region),
            payload: PayloadReader::of(region),
            next: region.spec().first_seq,
            copy: vec![0; region.spec().mtu_bytes.div_ceil(8)].into_boxed_slice(),
            overruns: 0,
            lost: 0,
            malformed: 0,
            large: 0,
            _not_sync: PhantomData,
        };
        tap.skip_to_newest();
        tap
    }

    /// Number of the next frag.
    pub fn next_seq(&self) -> Seq {
        self.next
    }

    /// Times this tap was overrun.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Frags this tap lost to overruns.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Frags skipped because their place was outside the link.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Frags passed over because they lie in the arena.
    pub fn large(&self) -> u64 {
        self.large
    }

    /// Moves to where the producer is now: the next poll finds the next frag published after this call. Nothing is
    /// counted as lost.
    pub fn skip_to_newest(&mut self) {
        // Relaxed: a lower bound is enough, the lines say the rest.
        let bound = self.lines.region().producer().next.load(Relaxed);
        if (bound.wrapping_sub(self.next) as i64) > 0 {
            self.next = bound;
        }
        // Bounded: a producer that laps us forever ends the walk after two rings of lines.
        for _ in 0..self.lines.region().spec().depth * 2 {
            match self.lines.at(self.next).poll_tap(self.next) {
                Found::Nothing => return,
                Found::Whole(_) => self.next = self.next.wrapping_add(1),
                Found::Later(seq) => self.next = seq,
            }
        }
    }

    /// The next frag, copied out; or how many were lost.
    pub fn poll(&mut self) -> TapPoll<'_> {
        let seq = self.next;
        let meta = match self.lines.at(seq).poll_tap(seq) {
            Found::Nothing => return TapPoll::Empty,
            Found::Later(found) => return self.overrun(found),
            Found::Whole(meta) => meta,
        };
        let Some(size) = self.payload.copy_words(meta.loc, &mut self.copy) else {
            *(if meta.loc.is_large() { &mut self.large } else { &mut self.malformed }) += 1;
            self.next = seq.wrapping_add(1);
            return TapPoll::Empty;
        };
        if let Err(found) = self.lines.at(seq).still(seq) {
            return self.overrun(found);
        }
        self.next = seq.wrapping_add(1);
        let bytes = PayloadReader::bytes_of(&self.copy, size);
        let (ts_orig, ts_pub) = (meta.ts_orig, meta.ts_pub);
        TapPoll::Frag(Frag { seq, sig: meta.sig, ts_orig, ts_pub, bytes })
    }

    /// Whether the producer is gone; what it published last may still be there to poll.
    pub fn is_closed(&self) -> bool {
        self.lines.region().producer().closed.load(Site::CloseRead.order()) != 0
    }

    #[cold]
    fn overrun(&mut self, found: Seq) -> TapPoll<'static> {
        let lost = found.wrapping_sub(self.next);
        self.next = found;
        self.overruns += 1;
        self.lost += lost;
        // Relaxed: a sum over all taps, for monitors.
        self.lines.region().producer().overrun.fetch_add(lost, Relaxed);
        TapPoll::Overrun { lost }
    }
}
