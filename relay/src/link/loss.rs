//! How much of what a peer sends gets here.
//!
//! In: the replay window of the session. Out: the share that is lost, as the mean of windows plus two of their standard
//! deviations, which is what parity is sized for; bursts make windows differ, so they raise it by themselves. Numbers are
//! judged only when packets well behind them have come, so reordering is not loss. A stretch of which most is missing is an outage: a
//! path that was gone, or a receiver that was not looking. No parity helps against it, so none is sized for it.

use super::peer_link::LOSS_UNKNOWN;
use super::replay::{REPLAY_WINDOW, ReplayWindow};

/// Packets a window of judgement has.
pub const LOSS_WINDOW: u64 = 256;
/// The first windows are shorter, so that a quiet link learns something from its first object.
pub const LOSS_WINDOW_EARLY: u64 = 64;
/// So many of them; and until there were so many, the estimate does not fall below what it was before the first.
pub const WINDOWS_EARLY: u32 = 4;
/// A window is judged when a number so far behind it was heard.
pub const REORDER_MAX: u64 = 64;
/// A window with a stretch of 64 packets of which fewer came is not judged.
pub const OUTAGE_HEARD: u64 = 32;
/// Weight of the newest window.
const WEIGHT: f32 = 1.0 / 8.0;

/// The estimate.
#[derive(Clone, Debug, Default)]
pub struct LossEstimate {
    mean: f32,
    variance: f32,
    windows: u32,
    last: f32,
}

impl LossEstimate {
    /// Judges the windows of a session that are ready. `judged_to` starts at 0 with the session; what was learnt of the path
    /// outlives it.
    pub fn look(&mut self, window: &ReplayWindow, judged_to: &mut u64) {
        // After a jump the bits of what was jumped over are gone, and nothing is known about it.
        let oldest = window.end().saturating_sub(u64::from(REPLAY_WINDOW)).next_multiple_of(64);
        *judged_to = oldest.max(*judged_to);
        loop {
            let is_early = self.windows < WINDOWS_EARLY;
            let packets = if is_early { LOSS_WINDOW_EARLY } else { LOSS_WINDOW };
            if window.end() < *judged_to + packets + REORDER_MAX {
                return;
            }
            let heard = window.heard(*judged_to, packets / 64);
            let mut stretches = (*judged_to..*judged_to + packets).step_by(64);
            let is_outage = stretches.any(|from| window.heard(from, 1) < OUTAGE_HEARD);
            *judged_to += packets;
            if !is_outage {
                self.add(1.0 - heard as f32 / packets as f32);
            }
        }
    }

    fn add(&mut self, lost: f32) {
        self.last = lost;
        // The first windows weigh as in a plain mean, so that the start is forgotten at once.
        self.windows = self.windows.saturating_add(1);
        let weight = WEIGHT.max(1.0 / self.windows as f32);
        let off = lost - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
    }

    /// Mean plus two sigma; `None` before the first window.
    pub fn estimate(&self) -> Option<f32> {
        let least = if self.windows < WINDOWS_EARLY { LOSS_UNKNOWN } else { 0.0 };
        (self.windows > 0).then(|| (self.mean + 2.0 * self.variance.sqrt()).clamp(least, 1.0))
    }

    /// Loss of the newest window.
    pub fn last_window(&self) -> f32 {
        self.last
    }

    /// Windows judged so far.
    pub fn windows(&self) -> u32 {
        self.windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds numbers and looks after each, as a link does.
    fn fed(numbers: impl Iterator<Item = u32>) -> LossEstimate {
        let mut window = ReplayWindow::default();
        let mut loss = LossEstimate::default();
        let mut judged_to = 0;
        for seq in numbers {
            window.accept(seq);
            loss.look(&window, &mut judged_to);
        }
        loss
    }

    fn hash(seq: u32) -> u32 {
        (seq ^ seq >> 7).wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b) >> 8
    }

    #[test]
    fn a_path_that_loses_nothing_is_estimated_at_nothing() {
        assert_eq!(fed(0..10_000).estimate(), Some(0.0));
        assert_eq!(fed(0..100).estimate(), None, "too few to say");
        assert_eq!(
            fed(0..200).estimate(),
            Some(LOSS_UNKNOWN),
            "too few to say that it loses nothing"
        );
        let some = fed((0..200).filter(|seq| seq % 16 != 0)).estimate();
        assert!(some.is_some_and(|loss| loss >= 0.06), "a loss is seen early: {some:?}");
    }

    #[test]
    fn five_percent_are_seen_as_five_plus_two_sigma() {
        let loss = fed((0..40_000).filter(|&seq| hash(seq) % 100 >= 5));
        let estimate = loss.estimate().expect("many windows");
        // Sigma of 256 draws at 5 % is 1.4 %.
        assert!((0.055..0.11).contains(&estimate), "{estimate}");
        assert!((0.035..0.07).contains(&loss.mean), "{}", loss.mean);
    }

    #[test]
    fn bursts_raise_the_estimate_above_the_same_loss_spread_out() {
        let spread = fed((0..80_000).filter(|seq| seq % 20 != 0));
        let bursts = fed((0..80_000).filter(|seq| !hash(seq / 16).is_multiple_of(20)));
        assert!(
            bursts.estimate() > spread.estimate().map(|loss| loss * 1.5),
            "{bursts:?} {spread:?}"
        );
    }

    #[test]
    fn reordering_is_not_loss() {
        let swapped = (0..10_000_u32).map(|seq| seq ^ 0x1f);
        assert_eq!(fed(swapped).estimate(), Some(0.0));
    }

    #[test]
    fn a_receiver_that_did_not_look_for_a_while_is_no_lossy_line() {
        let one_percent = |seq: &u32| !hash(*seq).is_multiple_of(100);
        let before = fed((0..10_000).filter(one_percent)).estimate().expect("many windows");
        for gap in [100, 400, 1_000, 5_000] {
            let after = fed((0..10_000).chain(10_000 + gap..10_700 + gap).filter(one_percent));
            let after = after.estimate().expect("many windows");
            assert!(after < before + 0.06, "{before} before {gap} were lost, {after} after");
        }
    }

    #[test]
    fn an_outage_is_not_judged() {
        let loss = fed((0..1_000).chain(500_000..501_000));
        assert!(loss.windows() < 12, "{}", loss.windows());
    }
}
