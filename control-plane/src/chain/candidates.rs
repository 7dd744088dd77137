//! The candidates that were handed out: a bounded table by random id.
//!
//! A candidate stays right while its tip stands: pack appends, and a candidate names the first leaves of the list. The table
//! forgets the oldest beyond [`CANDIDATES_MAX`]; a solution of a forgotten one is refused by name.

use consensus::hash::BlockHash;
use consensus::rules::block_sigops_max;
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
    pub(crate) sums: Sums,
}

/// Running sums over pack's list, as far as it was looked at; bounded by the pool.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    generation: u64,
    /// Signature operations, bytes and fees of the first transactions.
    upto: Vec<(u64, u64, u64)>,
}

/// Bytes of a block that are not its pool transactions: header, count, coinbase; few enough that no block gets more signature
/// operations for them than it has room for.
const HEAD_BYTES_MIN: u64 = 81;
/// Signature operations left to the coinbase.
const COINBASE_SIGOPS: u64 = 100;

impl Sums {
    /// Keeps the sums if the list's order stands.
    pub(crate) fn begin(&mut self, generation: u64) {
        if self.generation != generation {
            self.upto.clear();
            self.generation = generation;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.upto.len()
    }

    pub(crate) fn add(&mut self, sigops: u64, bytes: u64, fee_sat: u64) {
        let (s, b, f) = self.upto.last().copied().unwrap_or_default();
        self.upto.push((s + sigops, b + bytes, f + fee_sat));
    }

    /// The most of the first `most` transactions that a block may hold.
    pub(crate) fn fitting(&self, most: usize) -> usize {
        let fits = |&(sigops, bytes, _): &(u64, u64, u64)| {
            sigops + COINBASE_SIGOPS <= block_sigops_max(bytes + HEAD_BYTES_MIN)
        };
        self.upto[..most].iter().rposition(fits).map_or(0, |at| at + 1)
    }

    pub(crate) fn bytes_and_fees(&self, first: usize) -> (u64, u64) {
        let sum = first.checked_sub(1).map(|at| self.upto[at]);
        sum.map_or((0, 0), |(_, bytes, fees)| (bytes, fees))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_before_genesis_takes_as_much_as_its_size_may_hold() {
        let mut sums = Sums::default();
        sums.begin(1);
        assert_eq!((sums.fitting(0), sums.bytes_and_fees(0)), (0, (0, 0)));
        // 500 a transaction of 17,000 bytes: 20,000 for the first million bytes, 20,000 more for each begun one.
        (0..100).for_each(|_| sums.add(500, 17_000, 3));
        assert_eq!(sums.fitting(39), 39);
        assert_eq!(sums.fitting(50), 39, "the coinbase has its share");
        assert_eq!(sums.fitting(62), 62, "the second million bytes have begun");
        assert_eq!(sums.fitting(100), 79);
        assert_eq!(sums.bytes_and_fees(2), (34_000, 6));
        sums.begin(2);
        assert_eq!(sums.len(), 0);
    }
}
