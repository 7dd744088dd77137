//! What was finished or said lately: bounded memories that make late and repeated packets cheap.
//!
//! Finished objects answer "have it" without being there; a peer's "have it" that came before the object is not forgotten;
//! and nobody gets the same answer for each of a thousand late symbols.

use crate::peer::PeerId;
use crate::time::NowUs;
use crate::wire::{Class, ObjectId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Finished objects that are remembered.
pub const FINISHED_MAX: usize = 8_192;
/// "Have it"s of objects that are not here yet.
pub const EARLY_MAX: usize = 1_024;
/// Answers that are not repeated at once.
pub const ANSWERS_MAX: usize = 256;
/// Microseconds before the same peer gets the same answer again.
pub const ANSWER_APART_US: u64 = 10_000;

/// The memories.
#[derive(Debug, Default)]
pub struct Recent {
    finished: BTreeMap<(ObjectId, Class), u32>,
    order: VecDeque<(ObjectId, Class)>,
    delivered: BTreeSet<[u8; 32]>,
    delivered_order: VecDeque<[u8; 32]>,
    early: VecDeque<(PeerId, ObjectId, u32)>,
    answers: VecDeque<(PeerId, ObjectId, u8, NowUs)>,
}

impl Recent {
    /// An object is finished: whole, or given up for good.
    pub fn finish(&mut self, id: ObjectId, class: Class, len: u32) {
        if self.finished.insert((id, class), len).is_none() {
            self.order.push_back((id, class));
        }
        if self.order.len() > FINISHED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.finished.remove(&oldest);
        }
    }

    /// Length of a finished object.
    pub fn finished(&self, id: ObjectId, class: Class) -> Option<u32> {
        self.finished.get(&(id, class)).copied()
    }

    /// Whether the host has not got this block (by hash) or subtree (by root) yet; it has from now on.
    pub fn deliver(&mut self, hash: &[u8; 32]) -> bool {
        if !self.delivered.insert(*hash) {
            return false;
        }
        self.delivered_order.push_back(*hash);
        if self.delivered_order.len() > FINISHED_MAX
            && let Some(oldest) = self.delivered_order.pop_front()
        {
            self.delivered.remove(&oldest);
        }
        true
    }

    /// A peer has an object that is not here.
    pub fn early(&mut self, peer: PeerId, id: ObjectId, len: u32) {
        if self.early.len() == EARLY_MAX {
            self.early.pop_front();
        }
        self.early.push_back((peer, id, len));
    }

    /// Whether a peer has said that it has this object.
    pub fn was_early(&self, peer: PeerId, id: ObjectId, len: u32) -> bool {
        self.early.contains(&(peer, id, len))
    }

    /// Whether an answer is due: false when the same one was given a moment ago.
    pub fn may_answer(&mut self, peer: PeerId, id: ObjectId, flags: u8, now: NowUs) -> bool {
        let same = self
            .answers
            .iter_mut()
            .rev()
            .find(|(to, about, said, _)| (*to, *about, *said) == (peer, id, flags));
        if let Some((_, _, _, at)) = same {
            if now.since(*at) < ANSWER_APART_US {
                return false;
            }
            *at = now;
            return true;
        }
        if self.answers.len() == ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back((peer, id, flags, now));
        true
    }

    /// Forgets what a peer said: it is gone.
    pub fn forget(&mut self, peer: PeerId) {
        self.early.retain(|(from, _, _)| *from != peer);
        self.answers.retain(|(to, _, _, _)| *to != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_finished_object_is_forgotten_first() {
        let mut recent = Recent::default();
        for id in 0..=FINISHED_MAX as u64 {
            recent.finish(ObjectId(id), Class::Opaque, 5);
        }
        assert_eq!(recent.finished(ObjectId(0), Class::Opaque), None);
        assert_eq!(recent.finished(ObjectId(1), Class::Opaque), Some(5));
        assert_eq!(recent.finished(ObjectId(1), Class::Bundle), None);
    }

    #[test]
    fn an_answer_is_not_repeated_at_once() {
        let mut recent = Recent::default();
        let mut ask = |peer, at| recent.may_answer(PeerId(peer), ObjectId(1), 1, NowUs(at));
        assert!(ask(0, 0) && ask(1, 1));
        assert!(!ask(0, ANSWER_APART_US - 1));
        assert!(ask(0, ANSWER_APART_US));
    }
}
