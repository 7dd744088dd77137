//! Calls: how a link gets a session, and how long it waits before it tries again.
//!
//! In: answers and the time. Out: `HELLO`s. A call asks for a cookie, sends it back with the handshake, and has a session when
//! the answer comes. Each of the two waits has the same deadline; a call that misses it starts again from nothing, with a new
//! id, so a late answer of an old call means nothing. The first tries come quickly, because packets get lost; then the
//! interval doubles, with jitter, so that relays that lost the same peer do not come back together.

use super::entropy::Entropy;
use super::handshake::Calling;
use crate::time::NowUs;
use std::net::SocketAddr;

/// A call waits so long for each answer at first: more than any round trip on Earth by a good route.
pub const CALL_US: u64 = 250_000;
/// So many calls are made at that interval; a peer that restarts within a second hears most of them.
pub const QUICK_CALLS: u32 = 6;
/// Longest interval between calls.
pub const CALL_US_MAX: u64 = 16_000_000;
/// Calls of a peer that are remembered so that they cannot be repeated: as many as it may make in their cookies' lifetime.
const CALLS_SEEN: usize = 32;

/// Where the current call stands.
#[derive(Debug)]
pub enum Stage {
    /// Nobody was called, or the last call ran out.
    Idle,
    /// Waits for a cookie.
    AskedCookie,
    /// Waits for the other half of the handshake, which will name the session with this key id.
    Sent {
        /// The handshake.
        calling: Calling,
        /// What we said: how packets to us name the session.
        key_in: u16,
    },
}

/// The calls of one link.
#[derive(Debug)]
pub struct Calls {
    /// Where the current call stands.
    pub stage: Stage,
    /// Its id.
    pub id: u32,
    /// Whom it called.
    pub to: Option<SocketAddr>,
    /// When it has missed its deadline, or the next one starts.
    pub due: NowUs,
    attempts: u32,
    seen: [(u32, NowUs); CALLS_SEEN],
    seen_next: usize,
}

impl Calls {
    /// A link that has not called yet and does so at once.
    pub fn new(now: NowUs) -> Self {
        Self {
            stage: Stage::Idle,
            id: 0,
            to: None,
            due: now,
            attempts: 0,
            seen: [(0, NowUs::NEVER); CALLS_SEEN],
            seen_next: 0,
        }
    }

    /// Starts a call with a new id; gives how long until the next when nobody answers.
    pub fn start(&mut self, to: SocketAddr, entropy: &mut Entropy, now: NowUs) {
        self.stage = Stage::AskedCookie;
        self.to = Some(to);
        self.id = entropy.word() as u32;
        let doublings = self.attempts.saturating_sub(QUICK_CALLS - 1).min(10);
        self.attempts = self.attempts.saturating_add(1);
        self.due = now + entropy.jitter((CALL_US << doublings).min(CALL_US_MAX));
    }

    /// The cookie came: the second wait begins, with the deadline that the first had.
    pub fn sent(&mut self, calling: Calling, key_in: u16, now: NowUs) {
        self.stage = Stage::Sent { calling, key_in };
        self.due = self.due.max(now + CALL_US);
    }

    /// There is a session: the next call is as quick as the first.
    pub fn succeeded(&mut self) {
        self.stage = Stage::Idle;
        self.attempts = 0;
    }

    /// Calls without an answer in a row.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether a call of the peer was heard before; remembers it. `None` when it makes too many to remember.
    pub fn heard(&mut self, id: u32, remember_us: u64, now: NowUs) -> Option<bool> {
        let fresh = |at: NowUs| at != NowUs::NEVER && now.since(at) < remember_us;
        if self.seen.iter().any(|&(seen, at)| seen == id && fresh(at)) {
            return Some(true);
        }
        let slot = &mut self.seen[self.seen_next];
        if fresh(slot.1) {
            return None;
        }
        *slot = (id, now);
        self.seen_next = (self.seen_next + 1) % CALLS_SEEN;
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_does_not_answer_is_called_less_and_less_often() {
        let mut entropy = Entropy::new(&[2; 32], b"calls");
        let mut calls = Calls::new(NowUs(0));
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut waits = Vec::new();
        for _ in 0..20 {
            let now = calls.due;
            calls.start(to, &mut entropy, now);
            waits.push(calls.due.since(now));
        }
        assert!(waits[..6].iter().sum::<u64>() < 2_000_000, "six tries in two seconds: {waits:?}");
        assert!(waits[19] >= CALL_US_MAX * 3 / 4 && waits[19] <= CALL_US_MAX * 5 / 4, "{waits:?}");
        calls.succeeded();
        let now = calls.due;
        calls.start(to, &mut entropy, now);
        assert!(calls.due.since(now) < 2 * CALL_US, "as quick as at first");
    }

    #[test]
    fn a_repeated_call_is_known_and_a_peer_that_calls_too_often_waits() {
        let mut calls = Calls::new(NowUs(0));
        assert_eq!(calls.heard(5, 1_000, NowUs(0)), Some(false));
        assert_eq!(calls.heard(5, 1_000, NowUs(999)), Some(true));
        let refused = (10..100).filter(|&id| calls.heard(id, 1_000, NowUs(500)).is_none()).count();
        assert_eq!(refused, 90 - (CALLS_SEEN - 1));
        assert_eq!(calls.heard(200, 1_000, NowUs(1_600)), Some(false), "later there is room");
    }
}
