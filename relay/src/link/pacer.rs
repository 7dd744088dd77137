//! When the next packet may go: a bucket of bytes that fills at the peer's rate.
//!
//! In: bytes sent and the time. Out: yes, or when. The bucket holds what a host that wakes up a millisecond late has to catch
//! up with, but never more than 64 packets (or 100 us of a line so fast that 64 packets are less): queues on the way see no
//! longer trains than that.

use crate::plants::{self, Plant};
use crate::time::NowUs;
use crate::wire::PACKET_MAX;

/// Headers of IPv6 and UDP count against the rate.
pub const HEADERS_LEN: usize = 48;
/// Longest train in packets ...
pub const BURST_PACKETS: u64 = 64;
/// ... unless the line is so fast that this time is more.
pub const BURST_US: u64 = 100;
/// What the bucket holds on a slow line: twice the time a host may wake up late.
const LATE_US: u64 = 2_000;
/// Shortest train: below this a slow line would pay a wake-up for every packet.
const BURST_PACKETS_MIN: u64 = 4;
const PER_BYTE: i64 = 1_000_000;

/// A bucket. Its level is in millionths of a byte, so that no rate is rounded.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate_bytes_s: u64,
    level: i64,
    filled: NowUs,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate_bytes_s: u64, now: NowUs) -> Self {
        let mut bucket = Self { rate_bytes_s: rate_bytes_s.max(1), level: 0, filled: now };
        bucket.level = bucket.burst();
        bucket
    }

    /// Changes the rate from now on.
    pub fn set_rate(&mut self, rate_bytes_s: u64, now: NowUs) {
        self.fill(now);
        self.rate_bytes_s = rate_bytes_s.max(1);
        self.level = self.level.min(self.burst());
    }

    /// Bytes a second.
    pub fn rate_bytes_s(&self) -> u64 {
        self.rate_bytes_s
    }

    /// Whether a longest packet may go now.
    pub fn ready(&mut self, now: NowUs) -> bool {
        self.fill(now);
        self.level >= need() || plants::is(Plant::PacerDeaf)
    }

    /// When a longest packet may go.
    pub fn due(&self, now: NowUs) -> NowUs {
        let lacks = need() - self.level;
        if lacks <= 0 {
            return now;
        }
        (self.filled + (lacks as u64).div_ceil(self.rate_bytes_s)).max(now)
    }

    /// Takes the bytes of a datagram. What may not wait (`KEEP`, `NACK`, `STOP`) goes without asking, at the cost of the rest.
    pub fn spend(&mut self, datagram_len: usize) {
        let bytes = (datagram_len + HEADERS_LEN) as i64 * PER_BYTE;
        self.level = (self.level - bytes).max(-self.burst());
    }

    fn burst(&self) -> i64 {
        let packet = (PACKET_MAX + HEADERS_LEN) as u64;
        let of = |us| self.rate_bytes_s * us / 1_000_000;
        let bytes = of(LATE_US).clamp(BURST_PACKETS_MIN * packet, BURST_PACKETS * packet);
        bytes.max(of(BURST_US)) as i64 * PER_BYTE
    }

    fn fill(&mut self, now: NowUs) {
        let us = now.since(self.filled).min(1_000_000);
        self.filled = self.filled.max(now);
        self.level = (self.level + (self.rate_bytes_s * us) as i64).min(self.burst());
    }
}

fn need() -> i64 {
    (PACKET_MAX + HEADERS_LEN) as i64 * PER_BYTE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as often as it may for `us`, waking every `every` us; gives packets sent.
    fn drive(rate: u64, us: u64, every: u64) -> u64 {
        let mut bucket = TokenBucket::new(rate, NowUs(0));
        let mut sent = 0;
        for now in (0..us).step_by(every as usize) {
            while bucket.ready(NowUs(now)) {
                bucket.spend(PACKET_MAX);
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_at_every_speed_and_whatever_the_host_does() {
        for (rate, late) in
            [(125_000, 1_000), (12_500_000, 1_000), (118_750_000, 500), (1_250_000_000, 50)]
        {
            for every in [10, late] {
                let sent = drive(rate, 2_000_000, every);
                let fair = 2 * rate / (PACKET_MAX + HEADERS_LEN) as u64;
                assert!(sent >= fair * 99 / 100, "{rate} B/s, every {every} us: {sent} of {fair}");
                assert!(sent <= fair * 101 / 100 + BURST_PACKETS, "{rate} B/s: {sent} of {fair}");
            }
        }
    }

    #[test]
    fn a_train_is_never_longer_than_its_bound() {
        for (rate, most) in [(125_000, 4), (118_750_000, 64), (12_500_000_000, 977)] {
            let mut bucket = TokenBucket::new(rate, NowUs(0));
            let mut train = 0;
            while bucket.ready(NowUs(5_000_000)) {
                bucket.spend(PACKET_MAX);
                train += 1;
            }
            assert!((1..=most).contains(&train), "{rate} B/s: a train of {train}");
        }
    }

    #[test]
    fn due_says_when_ready_will_be_true() {
        let mut bucket = TokenBucket::new(1_000_000, NowUs(0));
        while bucket.ready(NowUs(0)) {
            bucket.spend(PACKET_MAX);
        }
        let due = bucket.due(NowUs(0));
        assert!(due > NowUs(0));
        assert!(!bucket.clone().ready(NowUs(due.0 - 1)));
        assert!(bucket.ready(due));
    }
}
