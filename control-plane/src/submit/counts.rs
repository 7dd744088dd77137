//! What the gate counts: every call and every transaction once at the door, once at its end.
//!
//! `transactions = verdicts + stopped + held`, and `verdicts` are those of the validators, one for one.

use dataplane::metrics::CounterDef;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

dataplane::counters! {
    /// The gate's counters.
    pub enum SubmitCount {
        /// Calls taken in.
        Calls = counter "calls_total",
        /// Transactions taken in.
        Transactions = counter "transactions_total",
        /// Bytes of transactions taken in.
        Bytes = counter "bytes_total",
        /// Calls refused because the gate was full.
        Overloaded = counter "overloaded_total",
        /// Calls refused because they could never fit.
        TooLarge = counter "too_large_total",
        /// Calls refused or ended because the node was stopping.
        Stopping = counter "stopping_total",
        /// Transactions of calls that are not answered.
        HeldTransactions = gauge "held_transactions",
        /// Bytes of calls that are not answered.
        HeldBytes = gauge "held_bytes",
        /// Verdicts received.
        Verdicts = counter "verdicts_total",
        /// Transactions without a verdict when the node stopped.
        Stopped = counter "stopped_total",
        /// Times a validator had no room for the next transaction.
        NoCredit = counter "no_credit_total",
        /// Calls refused because the journal cannot be written.
        NotKept = counter "not_kept_total",
        /// Calls that waited for their transactions to be on disk.
        WaitedForDisk = counter "waited_for_disk_total",
        /// Times the gate slept.
        Parks = counter "parks_total",
    }
}

/// The counters of the gate, shared with whoever shows them.
#[derive(Debug)]
pub struct SubmitCounters([AtomicU64; SubmitCount::DEFS.len()]);

impl Default for SubmitCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl SubmitCounters {
    /// One counter.
    pub fn get(&self, count: SubmitCount) -> u64 {
        self.0[count as usize].load(Relaxed) // a statistic
    }

    /// All, with their descriptions.
    pub fn each(&self) -> impl Iterator<Item = (&'static CounterDef, u64)> {
        SubmitCount::DEFS.iter().zip(self.0.iter().map(|c| c.load(Relaxed)))
    }

    pub(super) fn add(&self, count: SubmitCount, n: u64) -> u64 {
        self.0[count as usize].fetch_add(n, Relaxed) + n
    }

    pub(super) fn sub(&self, count: SubmitCount, n: u64) {
        self.0[count as usize].fetch_sub(n, Relaxed);
    }
}
