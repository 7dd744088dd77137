//! What the submit listener's handlers count: bodies that are not what they should be, each by what is wrong.

use super::bodies::BadBody;
use dataplane::metrics::CounterDef;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

dataplane::counters! {
    /// The counters of the handlers.
    pub enum SubmitHttpCount {
        /// Bodies without a byte.
        Empty = counter "bodies_empty_total",
        /// Bodies whose bytes are no transactions back to back (truncated, non-canonical, trailing bytes).
        Malformed = counter "bodies_malformed_total",
        /// Bodies with more transactions than one request may have.
        TooMany = counter "bodies_too_many_transactions_total",
        /// Bodies that should be hex and are not.
        NotHex = counter "bodies_not_hex_total",
        /// Bodies that should be JSON of a certain shape and are not.
        NotJson = counter "bodies_not_json_total",
        /// Bodies in BEEF, which this node does not read.
        Beef = counter "bodies_beef_total",
        /// Transaction ids in a path that are none.
        BadTxid = counter "txids_malformed_total",
        /// Requests turned away because the gate was full or closing.
        TurnedAway = counter "requests_turned_away_total",
        /// Transactions submitted over HTTP that are in the pool or in a block.
        In = counter "transactions_in_total",
        /// Transactions submitted over HTTP that are not.
        Out = counter "transactions_refused_total",
    }
}

/// The counters, shared with whoever shows them.
#[derive(Debug)]
pub struct SubmitHttpCounters([AtomicU64; SubmitHttpCount::DEFS.len()]);

impl Default for SubmitHttpCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl SubmitHttpCounters {
    /// One counter.
    pub fn get(&self, count: SubmitHttpCount) -> u64 {
        self.0[count as usize].load(Relaxed) // a statistic
    }

    /// All, with their descriptions.
    pub fn each(&self) -> impl Iterator<Item = (&'static CounterDef, u64)> {
        SubmitHttpCount::DEFS.iter().zip(self.0.iter().map(|c| c.load(Relaxed)))
    }

    pub(super) fn add(&self, count: SubmitHttpCount, n: u64) {
        self.0[count as usize].fetch_add(n, Relaxed);
    }

    pub(super) fn bad(&self, bad: &BadBody) {
        self.add(bad.count(), 1);
    }
}
