//! The guard: a sender that fills somebody else's queue slows down.
//!
//! In: what the peer reports (rise of the one-way delay, loss, rate that came through) and what was sent. Out: the rate. Parity
//! makes us deaf to loss, so without a guard TCP on the same line would yield until nothing is left of it. The operator can
//! say that the line is his alone; then the rate is the configured one, always.
//!
//! The rate falls to 0.7 of itself at most once a round trip, and rises by a sixty-fourth of the configured rate. It does not
//! fall below three tenths of what the line was lately seen to carry: somebody who never yields must not silence us, and
//! what is left over is more than the three tenths that TCP is to keep.

use crate::time::NowUs;
use crate::wire::Keep;

/// Rise of the one-way delay that means a queue.
pub const DELAY_RISE_US: u32 = 10_000;
/// Loss of one window, in units of what parity is sized for, that means congestion.
pub const LOSS_OVER_BUDGET: f32 = 2.0;
/// Both together at less: a queue that is short and full.
const SHORT_QUEUE_RISE_US: u32 = 2_000;
const SHORT_QUEUE_LOSS: f32 = 0.01;
/// What the rate is multiplied with.
pub const CUT: f64 = 0.7;
/// The rate rises by this part of the configured one.
const RISE_PART: f64 = 1.0 / 64.0;
/// The rate does not fall below this part of what came through lately.
pub const FLOOR_OF_CAPACITY: f64 = 0.3;
const FLOOR_OF_CONFIGURED: f64 = 0.01;
/// Shortest time between two changes; reports come every 10 ms.
const CHANGE_US_MIN: u64 = 20_000;
/// What came through is remembered for this long, twice.
const CAPACITY_SPAN_US: u64 = 5_000_000;
/// Who sent less than this part of his rate did not make the queue.
const BUSY_PART: f64 = 1.0 / 8.0;
/// Parity is never sized for less loss than this.
const BUDGET_MIN: f32 = 0.03;

/// The guard of one link.
#[derive(Clone, Debug)]
pub struct Guard {
    configured: f64,
    rate: f64,
    dedicated: bool,
    changed: NowUs,
    sent_bytes: u64,
    capacity: [f64; 2],
    capacity_since: NowUs,
    windows: u32,
    cuts: u64,
}

impl Guard {
    /// A guard that starts at the configured rate.
    pub fn new(configured_bytes_s: u64, dedicated: bool, now: NowUs) -> Self {
        Self {
            configured: configured_bytes_s as f64,
            rate: configured_bytes_s as f64,
            dedicated,
            changed: now,
            sent_bytes: 0,
            capacity: [0.0; 2],
            capacity_since: now,
            windows: 0,
            cuts: 0,
        }
    }

    /// Takes over what the operator changed; the rate goes on from where it is.
    pub fn configure(&mut self, configured_bytes_s: u64, dedicated: bool) {
        let share = self.rate / self.configured;
        self.configured = configured_bytes_s as f64;
        self.dedicated = dedicated;
        self.rate = if dedicated { self.configured } else { self.configured * share };
    }

    /// The rate in bytes a second.
    pub fn rate_bytes_s(&self) -> u64 {
        self.rate as u64
    }

    /// Below the configured rate: what is sent only because a line is idle waits.
    pub fn is_reduced(&self) -> bool {
        self.rate < self.configured * 0.99
    }

    /// How often the rate was cut.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Counts what went out.
    pub fn sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
    }

    /// Judges a report. `budget` is the loss that parity is sized for. Gives whether the rate changed.
    pub fn report(&mut self, keep: &Keep, budget: f32, rtt_us: u32, now: NowUs) -> bool {
        if self.dedicated {
            return false;
        }
        if now.since(self.capacity_since) >= CAPACITY_SPAN_US {
            self.capacity = [0.0, self.capacity[0]];
            self.capacity_since = now;
        }
        self.capacity[0] = self.capacity[0].max(f64::from(keep.delivered_kbit) * 125.0);
        // One bad window is one piece of news, however often it is reported.
        let fresh = keep.windows != self.windows;
        let lost = if fresh { keep.burst_ppm as f32 / 1e6 } else { 0.0 };
        let over = LOSS_OVER_BUDGET * budget.max(BUDGET_MIN);
        let congested = keep.delay_rise_us > DELAY_RISE_US
            || lost > over
            || (lost > SHORT_QUEUE_LOSS && keep.delay_rise_us > SHORT_QUEUE_RISE_US);
        let since = now.since(self.changed);
        if since < u64::from(rtt_us).max(CHANGE_US_MIN) {
            return false;
        }
        self.windows = keep.windows;
        let busy = self.sent_bytes as f64 >= self.rate * since as f64 / 1e6 * BUSY_PART;
        let before = self.rate;
        if congested && busy {
            self.rate = (self.rate * CUT).max(self.floor());
            self.cuts += u64::from(self.rate < before);
        } else if !congested {
            self.rate = (self.rate + self.configured * RISE_PART).min(self.configured);
        }
        self.changed = now;
        self.sent_bytes = 0;
        self.rate.to_bits() != before.to_bits()
    }

    fn floor(&self) -> f64 {
        let seen = self.capacity[0].max(self.capacity[1]) * FLOOR_OF_CAPACITY;
        seen.max(self.configured * FLOOR_OF_CONFIGURED).min(self.configured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 100_000_000;

    fn quiet() -> Keep {
        Keep { delivered_kbit: 800_000, ..Keep::default() }
    }

    /// Reports every 50 ms for `rounds` round trips while sending at the rate.
    fn rounds(guard: &mut Guard, from_us: u64, rounds: u64, keep: impl Fn(u64) -> Keep) -> u64 {
        for round in 1..=rounds {
            guard.sent((guard.rate_bytes_s() / 20) as usize);
            guard.report(&keep(round), 0.01, 50_000, NowUs(from_us + round * 50_000));
        }
        from_us + rounds * 50_000
    }

    #[test]
    fn a_queue_slows_us_to_seven_tenths_a_round_trip_and_its_end_brings_the_rate_back() {
        let mut guard = Guard::new(RATE, false, NowUs(0));
        let now = rounds(&mut guard, 0, 2, |_| Keep { delay_rise_us: 11_000, ..quiet() });
        assert_eq!(guard.rate_bytes_s(), 49_000_000);
        assert!(guard.is_reduced());
        rounds(&mut guard, now, 40, |_| quiet());
        assert_eq!(guard.rate_bytes_s(), RATE);
    }

    #[test]
    fn a_queue_that_never_ends_leaves_us_three_tenths_of_the_line() {
        let mut guard = Guard::new(RATE, false, NowUs(0));
        rounds(&mut guard, 0, 50, |_| Keep { delay_rise_us: 200_000, ..quiet() });
        assert_eq!(guard.rate_bytes_s(), 30_000_000);
    }

    #[test]
    fn loss_within_twice_the_budget_costs_nothing_and_more_does() {
        let mut guard = Guard::new(RATE, false, NowUs(0));
        let lost =
            |ppm: u32| move |round| Keep { burst_ppm: ppm, windows: round as u32, ..quiet() };
        let now = rounds(&mut guard, 0, 10, lost(59_000));
        assert_eq!((guard.rate_bytes_s(), guard.cuts()), (RATE, 0));
        rounds(&mut guard, now, 1, |_| Keep { burst_ppm: 70_000, windows: 77, ..quiet() });
        assert_eq!((guard.rate_bytes_s(), guard.cuts()), (70_000_000, 1));
    }

    #[test]
    fn the_same_bad_window_reported_again_is_no_news() {
        let mut guard = Guard::new(RATE, false, NowUs(0));
        rounds(&mut guard, 0, 10, |_| Keep { burst_ppm: 500_000, windows: 3, ..quiet() });
        assert_eq!(guard.cuts(), 1);
    }

    #[test]
    fn somebody_elses_queue_does_not_slow_who_sends_nothing() {
        let mut guard = Guard::new(RATE, false, NowUs(0));
        for round in 1..20 {
            let keep = Keep { delay_rise_us: 90_000, ..Keep::default() };
            guard.report(&keep, 0.01, 50_000, NowUs(round * 50_000));
        }
        assert_eq!(guard.rate_bytes_s(), RATE);
    }

    #[test]
    fn a_dedicated_line_is_never_slowed() {
        let mut guard = Guard::new(RATE, true, NowUs(0));
        rounds(&mut guard, 0, 20, |round| Keep {
            delay_rise_us: 900_000,
            burst_ppm: 900_000,
            windows: round as u32,
            ..quiet()
        });
        assert_eq!(guard.rate_bytes_s(), RATE);
    }
}
