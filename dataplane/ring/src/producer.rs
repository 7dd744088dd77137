//! The producer's end of a link: credit, publishing in line, and large frags through the arena.
//!
//! Cost of a frag in line: the bytes, one line (half a cache line), and no shared word read: credit is a local count that
//! is recomputed from the consumers' positions only when it is used up, and in housekeeping ([`Producer::refresh`]).

use crate::arena::{Arena, Extent, Refused};
use crate::credit::{Credit, Credits, Slowest, slowest};
use crate::dcache::PayloadWriter;
use crate::line::Meta;
use crate::region::{Lines, Region};
use crate::spec::{HANDLE_BYTES, Kind};
use crate::sync::{Ordering::Relaxed, Site};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

/// Number of a frag on its link.
pub type Seq = u64;

/// The link is full: nothing was published. On a `Shed` link the frag is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no credit: the slowest consumer of the link holds all of it")]
pub struct NoCredit;

/// Why [`Producer::publish_any`] published nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The link is full.
    #[error(transparent)]
    NoCredit(#[from] NoCredit),
    /// The frag is larger than the mtu, and the arena did not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// More bytes were written to a large frag than were claimed for it. Nothing of the piece was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "large frag: piece of {piece} bytes after {written} of {claimed} claimed; drop the frag, its source lied"
)]
pub struct PastClaim {
    /// Bytes of the piece.
    pub piece: u64,
    /// Bytes written before.
    pub written: u64,
    /// Bytes claimed.
    pub claimed: u64,
}

/// A frag larger than the mtu, being written in pieces. Dropping it unpublished frees its room.
#[derive(Debug)]
pub struct LargeFrag {
    extent: Extent,
    written: u64,
}

impl LargeFrag {
    /// Bytes claimed.
    pub fn claimed_bytes(&self) -> u64 {
        self.extent.bytes
    }

    /// Bytes written so far.
    pub fn written_bytes(&self) -> u64 {
        self.written
    }
}

/// The one writer of a link. Movable between threads, not shared.
#[derive(Debug)]
pub struct Producer {
    lines: Lines,
    payload: PayloadWriter,
    credits: Credits,
    /// Compressed time of this turn, stamped on every frag.
    now: u32,
    /// `prepare` gave out the next slot.
    prepared: bool,
    kind: Kind,
    mtu_bytes: usize,
    /// A tap's batches are built here: its ring holds atomics, which cannot be lent as bytes.
    scratch: Box<[u8]>,
    arena: Arena,
    shed: u64,
    backpressure: u64,
    large_published: u64,
    large_refused: u64,
    large_bytes: u64,
    _not_sync: PhantomData<Cell<()>>,
}

impl Producer {
    pub(crate) fn new(region: &Arc<Region>) -> Self {
        let spec = region.spec();
        let scratch = if spec.kind == Kind::Tap { spec.mtu_bytes } else { 0 };
        let mut producer = Self {
            lines: Lines::of(region),
            payload: PayloadWriter::of(region),
            credits: Credits::new(spec.depth, spec.first_seq),
            now: 0,
            prepared: false,
            kind: spec.kind,
            mtu_bytes: spec.mtu_bytes,
            scratch: vec![0; scratch].into_boxed_slice(),
            arena: Arena::new(region.layout().arena_bytes),
            shed: 0,
            backpressure: 0,
            large_published: 0,
            large_refused: 0,
            large_bytes: 0,
            _not_sync: PhantomData,
        };
        producer.refresh();
        producer
    }

    /// Name of the link.
    pub fn name(&self) -> &str {
        &self.lines.region().spec().name
    }

    /// Most bytes of a frag in line.
    #[inline]
    pub fn mtu_bytes(&self) -> usize {
        self.mtu_bytes
    }

    /// Number of the next frag.
    #[inline]
    pub fn next_seq(&self) -> Seq {
        self.credits.next()
    }

    /// Sets the time stamped on frags from here on (`ts_pub`). The caller owns the clock; once a turn is enough.
    #[inline]
    pub fn set_now(&mut self, now: u32) {
        self.now = now;
    }

    /// Frags that may be published for certain: a local count, not a shared word. It may be more by now; see
    /// [`credit_at_least`](Self::credit_at_least).
    #[inline]
    pub fn credit(&self) -> u64 {
        self.credits.cached()
    }

    /// Whether `burst` frags may be published; looks at the consumers only if the local count does not say so.
    #[inline]
    pub fn credit_at_least(&mut self, burst: u64) -> bool {
        self.credits.cached() >= burst || self.reread() >= burst
    }

    /// Housekeeping: rereads the consumers' positions, frees what they passed of the arena, writes the counters where
    /// monitors see them. Returns the credit.
    pub fn refresh(&mut self) -> u64 {
        let credit = self.reread();
        let cell = self.lines.region().producer();
        // Relaxed: these are read by monitors, and nothing else is read on their strength.
        cell.next.store(self.credits.next(), Relaxed);
        cell.shed.store(self.shed, Relaxed);
        cell.backpressure.store(self.backpressure, Relaxed);
        cell.large_published.store(self.large_published, Relaxed);
        cell.large_refused.store(self.large_refused, Relaxed);
        cell.large_bytes.store(self.large_bytes, Relaxed);
        credit
    }

    /// Index of the consumer that is furthest behind; `None` if all have left, or on a tap.
    pub fn slowest(&self) -> Option<usize> {
        self.read_slowest().map(|s| s.consumer)
    }

    /// Whether a link with consumers has none left.
    pub fn is_abandoned(&self) -> bool {
        self.kind != Kind::Tap && self.read_slowest().is_none()
    }

    /// Frags dropped for want of credit (`Shed`).
    pub fn shed(&self) -> u64 {
        self.shed
    }

    /// Times the producer found no credit (`Lossless`, and large frags).
    pub fn backpressure(&self) -> u64 {
        self.backpressure
    }

    /// Publishes one frag of at most an mtu.
    ///
    /// Without credit nothing is published: a `Shed` link counts the frag as shed, a `Lossless` one counts the
    /// backpressure and the caller keeps the frag. A `Tap` always publishes.
    ///
    /// # Panics
    /// If `bytes` is longer than the mtu.
    #[inline]
    pub fn publish(&mut self, sig: u64, ts_orig: u32, bytes: &[u8]) -> Result<Seq, NoCredit> {
        if self.credits.cached() == 0 && self.reread() == 0 {
            return self.refuse();
        }
        self.prepared = false;
        let credit = self.credits.take().ok_or(NoCredit)?;
        if self.kind == Kind::Tap {
            self.payload.fill_words(bytes);
        } else {
            self.payload.fill(bytes, &credit);
        }
        let loc = self.payload.step(bytes.len());
        let meta = Meta { sig, loc, ts_orig, ts_pub: self.now };
        Ok(announce(&self.lines, credit, meta))
    }

    /// The next slot, an mtu of bytes with old content, to build a frag in place; `None` without credit (nothing is
    /// counted). [`commit`](Self::commit) publishes it; until then it may be asked for again, with its content.
    #[inline]
    pub fn prepare(&mut self) -> Option<&mut [u8]> {
        if self.credits.cached() == 0 && self.reread() == 0 {
            return None;
        }
        self.prepared = true;
        if self.kind == Kind::Tap {
            return Some(&mut self.scratch);
        }
        let credit = self.credits.take()?;
        Some(self.payload.slot(&credit))
    }

    /// Publishes the first `len` bytes of the prepared slot.
    ///
    /// # Panics
    /// If nothing is prepared (a `publish` in between takes the slot), or `len` is more than the mtu.
    #[inline]
    pub fn commit(&mut self, sig: u64, len: usize, ts_orig: u32) -> Seq {
        assert!(self.prepared, "commit without prepare");
        assert!(len <= self.mtu_bytes, "frag longer than its link's mtu");
        self.prepared = false;
        if self.kind == Kind::Tap {
            self.payload.fill_words(&self.scratch[..len]);
        }
        let credit =
            self.credits.take().expect("`prepare` found credit, and only a frag spends it");
        let loc = self.payload.step(len);
        announce(&self.lines, credit, Meta { sig, loc, ts_orig, ts_pub: self.now })
    }

    /// Counts a frag the caller dropped because [`prepare`](Self::prepare) gave nothing.
    pub fn count_shed(&mut self) {
        self.shed += 1;
    }

    /// Counts a turn the caller gave up because credit was short.
    pub fn count_backpressure(&mut self) {
        self.backpressure += 1;
        self.blame();
    }

    /// Reserves room for a frag of `claimed` bytes from `source`, before its first byte is there.
    ///
    /// One source has at most one large frag in the arena, from here until every consumer has passed it. A producer that
    /// speaks for itself may use as many source numbers as it wants frags in flight.
    pub fn admit(&mut self, claimed: u64, source: u64) -> Result<LargeFrag, Refused> {
        let mut admitted = self.arena.admit(claimed, source);
        if matches!(admitted, Err(Refused::Full | Refused::SourceBusy | Refused::TooMany)) {
            self.reread();
            admitted = self.arena.admit(claimed, source);
        }
        match admitted {
            Ok(extent) => Ok(LargeFrag { extent, written: 0 }),
            Err(refused) => {
                self.large_refused += 1;
                Err(refused)
            }
        }
    }

    /// Appends a piece to a large frag.
    pub fn write(&mut self, frag: &mut LargeFrag, piece: &[u8]) -> Result<(), PastClaim> {
        self.arena.claim_check(&frag.extent);
        let (written, claimed) = (frag.written, frag.extent.bytes);
        if piece.len() as u64 > claimed - written {
            return Err(PastClaim { piece: piece.len() as u64, written, claimed });
        }
        self.payload.fill_arena(&mut frag.extent, written, piece);
        frag.written += piece.len() as u64;
        Ok(())
    }

    /// Publishes what was written to a large frag. Without credit the frag comes back, to be published later.
    pub fn publish_large(
        &mut self,
        frag: LargeFrag,
        sig: u64,
        ts_orig: u32,
    ) -> Result<Seq, LargeFrag> {
        self.arena.claim_check(&frag.extent);
        if self.credits.cached() == 0 && self.reread() == 0 {
            self.count_backpressure();
            return Err(frag);
        }
        self.prepared = false;
        let Some(credit) = self.credits.take() else { return Err(frag) };
        self.payload.fill_handle(frag.extent.offset, frag.written, &credit);
        self.arena.publish(&frag.extent, credit.seq());
        self.large_published += 1;
        self.large_bytes += frag.written;
        let loc = self.payload.step(HANDLE_BYTES as usize).large();
        Ok(announce(&self.lines, credit, Meta { sig, loc, ts_orig, ts_pub: self.now }))
    }

    /// Publishes a frag that is already whole, of any size: in line up to the mtu, through the arena above it.
    pub fn publish_any(
        &mut self,
        sig: u64,
        ts_orig: u32,
        bytes: &[u8],
        source: u64,
    ) -> Result<Seq, NotSent> {
        if bytes.len() <= self.mtu_bytes {
            return Ok(self.publish(sig, ts_orig, bytes)?);
        }
        if !self.credit_at_least(1) {
            return Ok(self.refuse()?);
        }
        let mut frag = self.admit(bytes.len() as u64, source)?;
        // Both hold by construction: the claim is the length, and credit was there.
        let whole = self.write(&mut frag, bytes);
        assert!(whole.is_ok(), "a claim of the frag's own length has room for it");
        self.publish_large(frag, sig, ts_orig).map_err(|_| NotSent::NoCredit(NoCredit))
    }

    /// Bytes of the arena: no frag is larger.
    pub fn arena_bytes(&self) -> u64 {
        self.arena.bytes()
    }

    /// Bytes of the arena that are reserved.
    pub fn arena_used_bytes(&self) -> u64 {
        self.arena.used_bytes()
    }

    #[cold]
    #[inline(never)]
    fn refuse(&mut self) -> Result<Seq, NoCredit> {
        if self.kind == Kind::Shed {
            self.shed += 1;
            self.blame();
        } else {
            self.count_backpressure();
        }
        Err(NoCredit)
    }

    fn blame(&self) {
        if let Some(slowest) = self.read_slowest() {
            let slow = &self.lines.region().consumers()[slowest.consumer].blame.slow;
            // Relaxed, and no exchange: this producer is the only writer of the word.
            slow.store(slow.load(Relaxed) + 1, Relaxed);
        }
    }

    fn read_slowest(&self) -> Option<Slowest> {
        let region = self.lines.region();
        let fseqs = region.consumers().iter().map(|c| &c.own.fseq);
        slowest(fseqs, region.spec().depth, self.credits.next())
    }

    #[cold]
    #[inline(never)]
    fn reread(&mut self) -> u64 {
        let slowest = self.read_slowest();
        self.credits.refresh(slowest);
        if self.arena.len() != 0 {
            self.arena.release(slowest.map(|s| s.fseq));
        }
        // In a file the payload ring is walked round, so that a spy can tell from a line what still lies there.
        let private = self.kind != Kind::Tap && !self.lines.region().is_shared();
        if private && !self.prepared && self.credits.is_drained() {
            self.payload.rewind();
        }
        self.credits.cached()
    }
}

/// Writes the line of a filled slot and spends its credit.
#[inline(always)]
fn announce(lines: &Lines, credit: Credit<'_>, meta: Meta) -> Seq {
    let seq = credit.seq();
    lines.at(seq).publish(seq, meta);
    credit.spend();
    seq
}

impl Drop for Producer {
    /// Says to the consumers that nothing more will come.
    fn drop(&mut self) {
        self.refresh();
        self.lines.region().producer().closed.store(1, Site::Close.order());
    }
}
