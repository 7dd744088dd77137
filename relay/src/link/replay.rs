//! Which packet numbers were heard: no packet counts twice, and the ones that never came can be counted.
//!
//! In: numbers of authentic packets. Out: new, seen or too old; and how many of a stretch are missing. A window of 2^16
//! numbers: at 1 Gbit/s that is more than half a second of reordering.

use crate::drops::DropReason;

/// Numbers the window remembers.
pub const REPLAY_WINDOW: u32 = 1 << 16;
const WORDS: usize = REPLAY_WINDOW as usize / 64;

/// The window: a ring of bits, one a number.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    bits: Box<[u64; WORDS]>,
    /// One past the highest number heard.
    end: u64,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { bits: Box::new([0; WORDS]), end: 0 }
    }
}

impl ReplayWindow {
    /// Whether a packet with this number could be new. Changes nothing, so it may be asked before the tag is checked.
    pub fn check(&self, seq: u32) -> Result<(), DropReason> {
        let seq = u64::from(seq);
        if seq >= self.end {
            return Ok(());
        }
        if self.end - seq > u64::from(REPLAY_WINDOW) {
            return Err(DropReason::TooOld);
        }
        let (word, bit) = place(seq);
        if self.bits[word] & bit == 0 { Ok(()) } else { Err(DropReason::Replay) }
    }

    /// Remembers the number of an authentic packet that [`Self::check`] let through.
    pub fn accept(&mut self, seq: u32) {
        let seq = u64::from(seq);
        if seq >= self.end {
            let fresh = (seq + 1 - self.end).min(u64::from(REPLAY_WINDOW));
            self.forget(seq + 1 - fresh, seq + 1);
            self.end = seq + 1;
        }
        let (word, bit) = place(seq);
        self.bits[word] |= bit;
    }

    /// One past the highest number heard.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// How many of the numbers `from..from + 64 * words` were heard; `from` is a multiple of 64 and inside the window.
    pub fn heard(&self, from: u64, words: u64) -> u64 {
        assert!(from.is_multiple_of(64), "{from} is within a word");
        let first = from / 64;
        (first..first + words)
            .map(|word| u64::from(self.bits[word as usize % WORDS].count_ones()))
            .sum()
    }

    fn forget(&mut self, mut from: u64, to: u64) {
        while from < to {
            let (word, bit) = place(from);
            if from.is_multiple_of(64) && to - from >= 64 {
                self.bits[word] = 0;
                from += 64;
            } else {
                self.bits[word] &= !bit;
                from += 1;
            }
        }
    }
}

fn place(seq: u64) -> (usize, u64) {
    ((seq / 64) as usize % WORDS, 1 << (seq % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_packet_counts_once_in_whatever_order_it_comes() {
        let mut window = ReplayWindow::default();
        for seq in [0, 5, 3, 70_000] {
            assert_eq!(window.check(seq), Ok(()));
            window.accept(seq);
            assert_eq!(window.check(seq), Err(DropReason::Replay), "{seq}");
        }
        assert_eq!(window.check(70_000 - REPLAY_WINDOW), Err(DropReason::TooOld));
        assert_eq!(window.check(70_001 - REPLAY_WINDOW), Ok(()), "the oldest that still counts");
        assert_eq!(window.check(u32::MAX), Ok(()));
    }

    #[test]
    fn numbers_that_never_came_are_counted() {
        let mut window = ReplayWindow::default();
        (0..640).filter(|seq| seq % 10 != 3).for_each(|seq| window.accept(seq));
        assert_eq!(window.heard(0, 10), 576);
        window.accept(640 + 2 * REPLAY_WINDOW);
        assert_eq!(window.heard(1_280, 10), 0, "old bits are not read as new numbers");
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set_of_everything_heard(
            steps in proptest::collection::vec((any::<bool>(), 0_u32..200_000), 1..300),
        ) {
            let mut window = ReplayWindow::default();
            let mut heard = BTreeSet::new();
            let mut near = 0_u32;
            for (jump, by) in steps {
                near = if jump { near.wrapping_add(by) & 0x7fff_ffff } else { near.saturating_sub(by % 5_000) };
                let end = heard.last().map_or(0, |&last: &u32| u64::from(last) + 1);
                let expected = if heard.contains(&near) && end - u64::from(near) <= u64::from(REPLAY_WINDOW) {
                    Err(DropReason::Replay)
                } else if end.saturating_sub(u64::from(near)) > u64::from(REPLAY_WINDOW) {
                    Err(DropReason::TooOld)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.check(near), expected, "number {}", near);
                if expected.is_ok() {
                    window.accept(near);
                    heard.insert(near);
                }
            }
        }
    }
}
