//! A line: what becomes of one frame in one direction of a link.
//!
//! In: the time and the size of a frame. Out: its [`Fate`]: when it leaves at the far end and how often, or what ate it. No
//! clock, no socket, so that tests can ask about a second of traffic in a microsecond. The order is that of a real line: first the
//! queue in front of it (which drops at the tail), then the wire, which takes its time for every frame, also for those that it
//! loses on the way.

use crate::impairment::Impairment;
use dataplane::rng::Rng;

/// What a frame costs on the wire beside its bytes: preamble 8, checksum 4, gap 12 (IEEE 802.3).
pub const WIRE_OVERHEAD_BYTES: usize = 24;

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Lost on the wire.
    Lost,
    /// Dropped at the tail of the queue.
    Tail,
    /// Comes out at the far end.
    Leaves {
        /// When.
        at_ns: u64,
        /// Whether it comes out twice.
        twice: bool,
        /// Whether it was held back for others to overtake.
        held: bool,
    },
}

/// One direction of a link.
#[derive(Debug)]
pub struct Line {
    rules: Impairment,
    rng: Rng,
    /// When the wire has sent what it was given so far.
    free_at_ns: u64,
    /// The latest time a frame in order leaves; no frame in order leaves before one sent earlier.
    last_leave_ns: u64,
    /// Gilbert's bad state: everything is lost.
    losing: bool,
}

impl Line {
    /// A line that follows `rules`; the same seed gives the n-th frame the same luck.
    pub fn new(rules: Impairment, seed: u64) -> Self {
        Self { rules, rng: Rng::new(seed), free_at_ns: 0, last_leave_ns: 0, losing: false }
    }

    /// What becomes of a frame of `bytes` that is given to the line at `now_ns`.
    pub fn admit(&mut self, now_ns: u64, bytes: usize) -> Fate {
        // Every frame draws the same numbers whatever becomes of it, so that its luck depends on its place alone.
        let [loss, jitter, held, twice] = [(); 4].map(|()| self.draw());
        let starts_ns = self.free_at_ns.max(now_ns);
        if starts_ns - now_ns > u64::from(self.rules.queue_ms) * 1_000_000 {
            return Fate::Tail;
        }
        let sent_ns = starts_ns + self.wire_ns(bytes);
        self.free_at_ns = sent_ns;
        if self.is_lost(loss) {
            return Fate::Lost;
        }
        let spread_ns = (2.0 * jitter - 1.0) * f64::from(self.rules.jitter_us) * 1e3;
        let delay_ns = (f64::from(self.rules.delay_us) * 1e3 + spread_ns) as u64;
        let mut at_ns = (sent_ns + delay_ns).max(self.last_leave_ns);
        let held = held * 100.0 < self.rules.reorder_pct;
        if held {
            at_ns += u64::from(self.rules.reorder_hold_us) * 1_000;
        } else {
            self.last_leave_ns = at_ns;
        }
        Fate::Leaves { at_ns, twice: twice * 100.0 < self.rules.duplicate_pct, held }
    }

    /// How long the wire is busy with a frame.
    pub fn wire_ns(&self, bytes: usize) -> u64 {
        let bits = (bytes + WIRE_OVERHEAD_BYTES) as u64 * 8;
        (bits * 1_000).checked_div(u64::from(self.rules.rate_mbit)).unwrap_or(0)
    }

    fn draw(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Gilbert: a bad run ends with probability 1/burst at every frame, and starts so often that `loss_pct` are lost.
    fn is_lost(&mut self, luck: f64) -> bool {
        let loss = self.rules.loss_pct / 100.0;
        let burst = self.rules.burst_frames;
        self.losing = if burst <= 1.0 {
            luck < loss
        } else if self.losing {
            luck >= 1.0 / burst
        } else {
            luck < loss / (1.0 - loss) / burst
        };
        self.losing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(rules: Impairment, frames: usize, every_ns: u64) -> Vec<Fate> {
        let mut line = Line::new(rules, 42);
        (0..frames as u64).map(|i| line.admit(i * every_ns, 1_226)).collect()
    }

    fn leaves(fates: &[Fate]) -> Vec<u64> {
        let at = |fate: &Fate| match fate {
            Fate::Leaves { at_ns, .. } => Some(*at_ns),
            _ => None,
        };
        fates.iter().filter_map(at).collect()
    }

    #[test]
    fn a_frame_takes_its_wire_time_and_then_the_delay() {
        let rules = Impairment { delay_us: 25_000, rate_mbit: 1_000, ..Impairment::default() };
        let mut line = Line::new(rules, 1);
        // 1,226 + 24 bytes at 1 Gbit/s are 10 us.
        let first = Fate::Leaves { at_ns: 25_010_000, twice: false, held: false };
        let second = Fate::Leaves { at_ns: 25_020_000, twice: false, held: false };
        assert_eq!(line.admit(0, 1_226), first);
        assert_eq!(line.admit(0, 1_226), second, "it waits for the first");
        let late = Fate::Leaves { at_ns: 26_010_000, twice: false, held: false };
        assert_eq!(line.admit(1_000_000, 1_226), late, "an idle line saves nothing up");
    }

    #[test]
    fn a_queue_that_is_full_drops_at_the_tail_and_carries_exactly_its_rate() {
        let rules = Impairment { rate_mbit: 100, queue_ms: 10, ..Impairment::default() };
        // 10 frames a millisecond are offered, each takes 100 us: the line is offered exactly its rate; then twice that.
        let fits = fates(rules.clone(), 10_000, 100_000);
        assert!(!fits.contains(&Fate::Tail));
        let double = fates(rules, 20_000, 50_000);
        let out = leaves(&double);
        let tail = double.iter().filter(|fate| **fate == Fate::Tail).count();
        assert_eq!(out.len() + tail, 20_000);
        // One second was offered; what left in it is what the rate allows, and what waits is at most the queue.
        assert!((10_000..=10_110).contains(&out.len()), "{}", out.len());
        assert!(*out.last().expect("some left") <= 1_000_000_000 + 10_100_000);
    }

    #[test]
    fn independent_loss_has_its_rate_and_no_memory() {
        let fates = fates(Impairment { loss_pct: 5.0, ..Impairment::default() }, 200_000, 10_000);
        let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count() as f64;
        // Binomial: 10,000 plus or minus five times 97.5.
        assert!((lost - 10_000.0).abs() < 488.0, "{lost}");
        assert!((mean_run(&fates) - 1.0 / 0.95).abs() < 0.03, "{}", mean_run(&fates));
    }

    #[test]
    fn bursts_have_their_mean_length_and_the_same_rate() {
        let rules = Impairment { loss_pct: 5.0, burst_frames: 8.0, ..Impairment::default() };
        let fates = fates(rules, 800_000, 10_000);
        let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count() as f64;
        assert!((lost / 800_000.0 - 0.05).abs() < 0.005, "{lost}");
        assert!((mean_run(&fates) - 8.0).abs() < 0.5, "{}", mean_run(&fates));
    }

    fn mean_run(fates: &[Fate]) -> f64 {
        let lost = |fate: &Fate| *fate == Fate::Lost;
        let runs: Vec<usize> = fates
            .chunk_by(|a, b| lost(a) == lost(b))
            .filter(|r| lost(&r[0]))
            .map(<[_]>::len)
            .collect();
        runs.iter().sum::<usize>() as f64 / runs.len() as f64
    }

    #[test]
    fn jitter_spreads_the_delay_and_keeps_the_order() {
        let rules = Impairment { delay_us: 20_000, jitter_us: 5_000, ..Impairment::default() };
        let fates = fates(rules, 2_000, 20_000_000);
        let delays: Vec<u64> =
            leaves(&fates).iter().enumerate().map(|(i, at)| at - i as u64 * 20_000_000).collect();
        let (least, most) = (delays.iter().min(), delays.iter().max());
        assert!(least.is_some_and(|least| (15_000_000..15_100_000).contains(least)), "{least:?}");
        assert!(most.is_some_and(|most| (24_900_000..=25_000_000).contains(most)), "{most:?}");
        assert!(leaves(&fates).is_sorted());
    }

    #[test]
    fn held_frames_are_overtaken_and_copies_are_counted() {
        let rules = Impairment {
            reorder_pct: 10.0,
            reorder_hold_us: 100,
            duplicate_pct: 2.0,
            ..Impairment::default()
        };
        let fates = fates(rules, 50_000, 10_000);
        let count = |wanted: fn(&Fate) -> bool| fates.iter().filter(|f| wanted(f)).count() as f64;
        let held = count(|fate| matches!(fate, Fate::Leaves { held: true, .. }));
        let twice = count(|fate| matches!(fate, Fate::Leaves { twice: true, .. }));
        assert!((held - 5_000.0).abs() < 5.0 * 67.0, "{held}");
        assert!((twice - 1_000.0).abs() < 5.0 * 31.3, "{twice}");
        assert!(!leaves(&fates).is_sorted());
    }

    #[test]
    fn one_seed_gives_the_same_frames_the_same_luck_whatever_the_traffic() {
        let rules = Impairment { loss_pct: 20.0, rate_mbit: 10, ..Impairment::default() };
        let (mut slow, mut fast) = (Line::new(rules.clone(), 9), Line::new(rules, 9));
        for i in 0..1_000u64 {
            let calm = slow.admit(i * 10_000_000, 100) == Fate::Lost;
            let rushed = fast.admit(i * 100_000, 1_400);
            assert!(rushed == Fate::Tail || calm == (rushed == Fate::Lost), "frame {i}");
        }
    }
}
