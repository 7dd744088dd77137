//! Who owns which bytes of a link's arena: the place of frags larger than the mtu.
//!
//! A claim comes in with its full size, before its first byte; it is admitted only if the whole of it fits, and only if
//! its source has none in the arena already. It goes out when every consumer has passed its frag, or when it is dropped
//! unpublished. First fit over a short sorted list: at most [`CLAIMS_MAX`] claims at once, so a search is a few dozen
//! compares, and one slow claim does not block the room behind it. Only arithmetic here; the bytes are in `dcache`.

use crate::line::CHUNK_BYTES;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Claims one link holds at once.
pub const CLAIMS_MAX: usize = 64;

/// Why a large frag was not admitted. Expected under load; nothing was reserved.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The claim can never fit this link's arena.
    #[error("claim is larger than the arena of this link")]
    TooLarge = 1,
    /// The claim does not fit now.
    #[error(
        "arena is full for a claim of this size; retry when consumers have passed earlier ones"
    )]
    Full = 2,
    /// The source already has a frag in the arena.
    #[error("source already has a large frag in flight")]
    SourceBusy = 3,
    /// The link holds `CLAIMS_MAX` large frags already.
    #[error("link holds its maximum of large frags")]
    TooMany = 4,
    /// The claim is of no bytes.
    #[error("claim is empty")]
    Empty = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Being written by the holder of its [`Extent`].
    Open,
    /// Announced by this frag; free when every consumer has passed it.
    Published(u64),
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    start: u64,
    end: u64,
    source: u64,
    id: u64,
    state: State,
    flag: usize,
}

/// The right to write the bytes of one claim. Not `Clone`; dropping it gives the bytes up.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    id: u64,
    flag: usize,
    dropped: Arc<[AtomicU64; CLAIMS_MAX]>,
}

impl Drop for Extent {
    fn drop(&mut self) {
        // Relaxed: the bytes were written by the producer's own thread, so there is nothing to order; the producer may
        // see it late.
        self.dropped[self.flag].store(self.id, Relaxed);
    }
}

/// The claims of one link, in order of place.
#[derive(Debug)]
pub(crate) struct Arena {
    bytes: u64,
    claims: Vec<Claim>,
    next_id: u64,
    flags_free: u64,
    dropped: Arc<[AtomicU64; CLAIMS_MAX]>,
}

impl Arena {
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            bytes,
            claims: Vec::with_capacity(CLAIMS_MAX),
            next_id: 1,
            flags_free: u64::MAX,
            dropped: Arc::new([const { AtomicU64::new(0) }; CLAIMS_MAX]),
        }
    }

    /// Bytes of the whole arena.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Claims in the arena.
    pub(crate) fn len(&self) -> usize {
        self.claims.len()
    }

    /// Bytes reserved by claims.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.claims.iter().map(|c| c.end - c.start).sum()
    }

    pub(crate) fn admit(&mut self, claimed: u64, source: u64) -> Result<Extent, Refused> {
        if claimed == 0 {
            return Err(Refused::Empty);
        }
        if claimed > self.bytes {
            return Err(Refused::TooLarge);
        }
        if self.claims.iter().any(|c| c.source == source) {
            return Err(Refused::SourceBusy);
        }
        if self.claims.len() == CLAIMS_MAX {
            return Err(Refused::TooMany);
        }
        let size = claimed.next_multiple_of(CHUNK_BYTES);
        let mut start = 0;
        let mut index = 0;
        for claim in &self.claims {
            if claim.start - start >= size {
                break;
            }
            start = claim.end;
            index += 1;
        }
        if self.bytes - start < size {
            return Err(Refused::Full);
        }
        let flag = self.flags_free.trailing_zeros() as usize;
        self.flags_free &= !(1 << flag);
        let id = self.next_id;
        self.next_id += 1;
        let claim = Claim { start, end: start + size, source, id, state: State::Open, flag };
        self.claims.insert(index, claim);
        Ok(Extent { offset: start, bytes: claimed, id, flag, dropped: Arc::clone(&self.dropped) })
    }

    /// The extent is announced by frag `seq`.
    pub(crate) fn publish(&mut self, extent: &Extent, seq: u64) {
        let claim = self.claim_of(extent);
        claim.state = State::Published(seq);
    }

    /// Frees what was given up, and what every consumer has passed: frags before `passed` (`None`: nobody is left).
    pub(crate) fn release(&mut self, passed: Option<u64>) {
        let (dropped, flags_free) = (&self.dropped, &mut self.flags_free);
        self.claims.retain(|claim| {
            let gone = match claim.state {
                State::Open => dropped[claim.flag].load(Relaxed) == claim.id, // see `Extent::drop`
                State::Published(seq) => {
                    passed.is_none_or(|passed| (passed.wrapping_sub(seq) as i64) > 0)
                }
            };
            if gone {
                *flags_free |= 1 << claim.flag;
            }
            !gone
        });
    }

    /// Asserts that `extent` is of this arena.
    pub(crate) fn claim_check(&self, extent: &Extent) {
        assert!(Arc::ptr_eq(&self.dropped, &extent.dropped), "large frag used on another link");
    }

    fn claim_of(&mut self, extent: &Extent) -> &mut Claim {
        self.claim_check(extent);
        let found = self.claims.iter_mut().find(|c| c.id == extent.id);
        found.expect("an extent lives exactly as long as its claim is open")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_refused_unless_all_of_it_fits() {
        let mut arena = Arena::new(1024);
        assert_eq!(arena.admit(1025, 1).unwrap_err(), Refused::TooLarge);
        assert_eq!(arena.admit(0, 1).unwrap_err(), Refused::Empty);
        let a = arena.admit(700, 1).unwrap();
        assert_eq!(arena.admit(400, 2).unwrap_err(), Refused::Full);
        let b = arena.admit(300, 2).unwrap();
        assert_eq!((a.offset, b.offset), (0, 704));
    }

    #[test]
    fn a_source_has_at_most_one_claim_until_it_is_passed() {
        let mut arena = Arena::new(4096);
        let a = arena.admit(64, 7).unwrap();
        assert_eq!(arena.admit(64, 7).unwrap_err(), Refused::SourceBusy);
        arena.publish(&a, 5);
        drop(a);
        arena.release(Some(5));
        assert_eq!(arena.admit(64, 7).unwrap_err(), Refused::SourceBusy);
        arena.release(Some(6));
        assert_eq!(arena.admit(64, 7).unwrap().offset, 0);
    }

    #[test]
    fn a_dropped_claim_gives_its_room_back_and_a_slow_one_does_not_block_others() {
        let mut arena = Arena::new(256);
        let slow = arena.admit(64, 1).unwrap();
        let gone = arena.admit(192, 2).unwrap();
        assert_eq!(arena.admit(64, 3).unwrap_err(), Refused::Full);
        drop(gone);
        arena.release(Some(0));
        let a = arena.admit(128, 3).unwrap();
        let b = arena.admit(64, 4).unwrap();
        assert_eq!((slow.offset, a.offset, b.offset), (0, 64, 192));
        assert_eq!((arena.len(), arena.used_bytes()), (3, 256));
    }

    #[test]
    fn the_number_of_claims_is_bounded() {
        let mut arena = Arena::new(1 << 20);
        let held: Vec<_> = (0..CLAIMS_MAX as u64).map(|s| arena.admit(1, s).unwrap()).collect();
        assert_eq!(arena.admit(1, 999).unwrap_err(), Refused::TooMany);
        drop(held);
        arena.release(None);
        assert_eq!(arena.len(), 0);
    }
}
