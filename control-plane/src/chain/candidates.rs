//! The candidates that were handed out: a bounded table by random id.
//!
//! A candidate stays right while its tip stands: pack appends, and a candidate names the first leaves of the list. The table
//! forgets the oldest beyond [`CANDIDATES_MAX`]; a solution of a forgotten one is refused by name.

use consensus::hash::BlockHash;
use dataplane::msg::pack_control::CandidateId;
use std::collections::VecDeque;

use super::answers::Candidate;

/// Candidates that can still be solved.
pub const CANDIDATES_MAX: usize = 128;

/// A candidate and what it takes to make a block of it.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) candidate: Candidate,
    /// Pack's name of it.
    pub(crate) leaves: CandidateId,
}

/// The table, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    held: VecDeque<Held>,
    forgotten: u64,
}

impl Candidates {
    pub(crate) fn add(&mut self, held: Held) {
        if self.held.len() == CANDIDATES_MAX {
            self.held.pop_front();
            self.forgotten += 1;
        }
        self.held.push_back(held);
    }

    pub(crate) fn find(&self, id: &[u8; 16]) -> Option<&Held> {
        self.held.iter().rev().find(|h| h.candidate.id == *id)
    }

    /// Forgets what does not stand on this tip.
    pub(crate) fn keep_on(&mut self, tip: &BlockHash) {
        self.held.retain(|h| h.candidate.prev == *tip);
    }
}
