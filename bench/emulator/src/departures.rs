//! Departures: frames that are on their way, ordered by when they come out.
//!
//! In: a frame and its time. Out: the frames whose time has come, in order; frames of the same time in the order they came.
//! Nearly every frame is later than all before it, so a sorted queue that is searched from its end beats a heap.

use std::collections::VecDeque;

/// Most frames on their way in one direction; 5 s of minimum-size frames at 100 Mbit/s and 1 s of full ones at 10 Gbit/s fit.
pub const FRAMES_MAX: usize = 1 << 20;
/// Buffers kept for reuse.
const SPARE_MAX: usize = 1 << 16;

/// Frames on their way.
#[derive(Debug, Default)]
pub struct Departures {
    waiting: VecDeque<(u64, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Departures {
    /// Puts a frame among those that wait; false when [`FRAMES_MAX`] do already.
    pub fn push(&mut self, at_ns: u64, frame: &[u8]) -> bool {
        if self.waiting.len() >= FRAMES_MAX {
            return false;
        }
        let mut held = self.spare.pop().unwrap_or_default();
        held.clear();
        held.extend_from_slice(frame);
        let later = self.waiting.iter().rev().take_while(|(at, _)| *at > at_ns).count();
        self.waiting.insert(self.waiting.len() - later, (at_ns, held));
        true
    }

    /// When the next frame leaves.
    pub fn next_ns(&self) -> Option<u64> {
        self.waiting.front().map(|(at_ns, _)| *at_ns)
    }

    /// The frames that are due at `now_ns`, at most `limit`, the next one first.
    pub fn due(&self, now_ns: u64, limit: usize) -> impl Iterator<Item = &[u8]> {
        let due = self.waiting.iter().take(limit).take_while(move |(at_ns, _)| *at_ns <= now_ns);
        due.map(|(_, frame)| frame.as_slice())
    }

    /// Forgets the first `count` frames: they have left.
    pub fn pop(&mut self, count: usize) {
        for (_, frame) in self.waiting.drain(..count) {
            if self.spare.len() < SPARE_MAX {
                self.spare.push(frame);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pop(self.waiting.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_by_their_time_and_equals_in_the_order_they_came() {
        let mut departures = Departures::default();
        for (at_ns, name) in [(10, b"a"), (30, b"b"), (20, b"c"), (20, b"d"), (5, b"e")] {
            assert!(departures.push(at_ns, name));
        }
        assert_eq!(departures.next_ns(), Some(5));
        let due: Vec<&[u8]> = departures.due(20, 64).collect();
        assert_eq!(due, [b"e", b"a", b"c", b"d"]);
        assert_eq!(departures.due(20, 2).count(), 2);
        departures.pop(4);
        assert_eq!(departures.due(20, 64).count(), 0);
        assert_eq!(departures.next_ns(), Some(30));
        departures.clear();
        assert_eq!(departures.next_ns(), None);
    }
}
