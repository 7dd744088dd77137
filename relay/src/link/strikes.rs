//! Strikes: what a peer with a proved key did that no honest peer does.
//!
//! In: drop reasons of authentic frames. Out: when it is enough. The score drains, so rare accidents are forgiven; every
//! quarantine doubles the next one, because only a broken or hostile peer comes back to it.

use crate::time::NowUs;

/// Strikes within a minute that put a peer into quarantine.
pub const STRIKES_MAX: u32 = 100;
/// The score drains from full to nothing in this time.
const DRAIN_US: u64 = 60_000_000;
/// First quarantine.
pub const QUARANTINE_US: u64 = 60_000_000;
/// Longest quarantine: an hour.
pub const QUARANTINE_US_MAX: u64 = 3_600_000_000;

/// The record of one peer.
#[derive(Clone, Debug, Default)]
pub struct Strikes {
    score: f64,
    at: NowUs,
    until: NowUs,
    times: u32,
}

impl Strikes {
    /// Adds to the score; `true` when this puts the peer into quarantine.
    pub fn add(&mut self, strikes: u32, now: NowUs) -> bool {
        if strikes == 0 || self.quarantined(now) {
            return false;
        }
        let drained = now.since(self.at) as f64 * f64::from(STRIKES_MAX) / DRAIN_US as f64;
        self.score = (self.score - drained).max(0.0) + f64::from(strikes);
        self.at = now;
        if self.score < f64::from(STRIKES_MAX) {
            return false;
        }
        self.until = now + (QUARANTINE_US << self.times.min(10)).min(QUARANTINE_US_MAX);
        self.times += 1;
        self.score = 0.0;
        true
    }

    /// Whether the peer is in quarantine.
    pub fn quarantined(&self, now: NowUs) -> bool {
        now < self.until
    }

    /// When the quarantine ends; in the past when there is none.
    pub fn until(&self) -> NowUs {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_accidents_are_forgiven_and_a_series_is_not() {
        let mut strikes = Strikes::default();
        for at in 0..100 {
            assert!(!strikes.add(25, NowUs(at * 30_000_000)), "accident {at}");
        }
        let start = NowUs(4_000_000_000);
        let enough = (0..10).position(|at| strikes.add(25, start + at)).expect("a series");
        assert_eq!(enough, 4, "a hundred within a minute, a few microseconds drained");
    }

    #[test]
    fn a_quarantine_ends_and_the_next_is_twice_as_long() {
        let mut strikes = Strikes::default();
        assert!(strikes.add(STRIKES_MAX, NowUs(0)));
        assert!(strikes.quarantined(NowUs(QUARANTINE_US - 1)));
        assert!(!strikes.quarantined(NowUs(QUARANTINE_US)));
        let mut now = NowUs(QUARANTINE_US);
        assert!(strikes.add(STRIKES_MAX, now));
        assert_eq!(strikes.until(), now + 2 * QUARANTINE_US);
        for _ in 0..20 {
            now = strikes.until();
            assert!(strikes.add(STRIKES_MAX, now));
        }
        assert_eq!(strikes.until(), now + QUARANTINE_US_MAX);
    }
}
