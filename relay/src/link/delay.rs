//! Round trips, and how much longer than at best packets are on their way now.
//!
//! In: clocks in packets. Out: a smoothed round trip with its deviation, and the rise of the one-way delay above its least:
//! the two clocks need not agree, only run at about the same speed. The rise is a queue somewhere between us.

use crate::time::NowUs;

/// The least delay is looked for in this time, twice.
pub const BASE_SPAN_US: u64 = 10_000_000;
/// The least delay now is the least of so many packets or more: jitter of single packets is no queue.
const PACKETS_MIN: u32 = 4;

/// Smoothed round trip. Source of the weights: RFC 6298.
#[derive(Clone, Debug, Default)]
pub struct RoundTrip {
    smooth_us: f32,
    deviation_us: f32,
    samples: u64,
}

impl RoundTrip {
    /// A measured round trip.
    pub fn add(&mut self, us: u32) {
        let us = us as f32;
        if self.samples == 0 {
            self.smooth_us = us;
            self.deviation_us = us / 2.0;
        } else {
            self.deviation_us += ((self.smooth_us - us).abs() - self.deviation_us) / 4.0;
            self.smooth_us += (us - self.smooth_us) / 8.0;
        }
        self.samples += 1;
    }

    /// Smoothed; 0 before the first.
    pub fn us(&self) -> u32 {
        self.smooth_us as u32
    }

    /// Mean deviation.
    pub fn deviation_us(&self) -> u32 {
        self.deviation_us as u32
    }
}

/// One-way delay against the least of the last ten to twenty seconds.
#[derive(Clone, Debug, Default)]
pub struct OneWay {
    /// Difference of the clocks in the first packet: all others are relative to it.
    zero: Option<u32>,
    base: [Option<i32>; 2],
    base_since: NowUs,
    now_least: Option<i32>,
    now_packets: u32,
    rise_us: u32,
}

impl OneWay {
    /// A packet sent at `tx_time_us` of its sender's clock came now.
    pub fn add(&mut self, tx_time_us: u32, now: NowUs) {
        let difference = now.low().wrapping_sub(tx_time_us);
        let zero = *self.zero.get_or_insert(difference);
        let delay = difference.wrapping_sub(zero) as i32;
        if now.since(self.base_since) >= BASE_SPAN_US {
            self.base = [None, self.base[0]];
            self.base_since = now;
        }
        self.base[0] = Some(self.base[0].map_or(delay, |base| base.min(delay)));
        self.now_least = Some(self.now_least.map_or(delay, |least| least.min(delay)));
        self.now_packets += 1;
    }

    /// The rise of the packets since the last call, when they were enough; else what it was.
    pub fn rise_us(&mut self) -> u32 {
        if self.now_packets >= PACKETS_MIN
            && let Some(least) = self.now_least.take()
        {
            self.now_packets = 0;
            let base = self.base.iter().flatten().min().map_or(least, |&base| base.min(least));
            self.rise_us = least.wrapping_sub(base) as u32;
        }
        self.rise_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_smoothed() {
        let mut rtt = RoundTrip::default();
        (0..50).for_each(|at| rtt.add(50_000 + at % 2 * 1_000));
        assert!((50_000..51_000).contains(&rtt.us()), "{}", rtt.us());
        assert!(rtt.deviation_us() < 2_000);
    }

    #[test]
    fn a_queue_that_builds_up_is_a_rise_and_clocks_that_disagree_are_not() {
        let mut way = OneWay::default();
        // The sender's clock is far ahead and wraps on the way.
        let sent = |now: u64, delay: u64| ((now - delay) as u32).wrapping_add(u32::MAX - 50_000);
        for now in (100_000..200_000).step_by(1_000) {
            way.add(sent(now, 25_000), NowUs(now));
        }
        assert_eq!(way.rise_us(), 0);
        for now in (200_000..210_000).step_by(1_000) {
            way.add(sent(now, 40_000), NowUs(now));
        }
        assert_eq!(way.rise_us(), 15_000);
        assert_eq!(way.rise_us(), 15_000, "no news, no change");
    }

    #[test]
    fn single_late_packets_are_jitter() {
        let mut way = OneWay::default();
        for at in 0..100_u64 {
            let delay = if at % 3 == 0 { 5_000 } else { 30_000 };
            way.add((at * 1_000) as u32, NowUs(at * 1_000 + delay));
        }
        assert_eq!(way.rise_us(), 0);
    }

    #[test]
    fn the_least_of_long_ago_is_forgotten() {
        let mut way = OneWay::default();
        let mut feed = |from_s: u64, to_s: u64, delay: u64| {
            for now in (from_s * 1_000_000..to_s * 1_000_000).step_by(10_000) {
                way.add((now - delay) as u32, NowUs(now));
            }
            way.rise_us()
        };
        assert_eq!(feed(1, 5, 1_000), 0);
        assert_eq!(feed(5, 10, 31_000), 30_000);
        assert_eq!(feed(10, 60, 31_000), 0, "a route that became longer is no queue");
    }
}
