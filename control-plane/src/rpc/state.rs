//! What all calls share: the handles to the node, the bounds, the counters.
//!
//! One [`Rpc`] serves the listener. Calls that read files or compute take one of a few seats on the blocking threads; long
//! polls take one of their own. Everything else runs on the caller's task and waits for nothing but its answer.

use super::error::{RpcError, code};
use crate::service::Service;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Calls that read files or compute, at a time, whatever is configured: more would only wait for the same disk.
pub const BLOCKING_CALLS_MAX: usize = 4;
/// Long polls that wait, at a time.
pub const LONG_POLLS_MAX: usize = 64;

dataplane::counters! {
    /// What RPC counts, apart from what its listener counts.
    pub enum RpcCount {
        /// Calls, those of batches included.
        Calls = counter "calls_total",
        /// Calls that failed.
        Failed = counter "calls_failed_total",
        /// Requests that were no calls: unreadable, too deep, too long, too many.
        Unreadable = counter "unreadable_total",
        /// Requests with wrong credentials.
        Strangers = counter "wrong_credentials_total",
        /// Requests without credentials for calls that need them.
        Nobodies = counter "missing_credentials_total",
        /// Transactions submitted.
        Transactions = counter "transactions_total",
        /// Long polls that wait now.
        LongPolls = gauge "long_polls",
        /// Long polls refused because too many waited.
        LongPollsRefused = counter "long_polls_refused_total",
    }
}

/// The counters of RPC.
#[derive(Debug, Default)]
pub struct RpcCounters {
    cells: [AtomicU64; RpcCount::DEFS.len()],
}

impl RpcCounters {
    /// One counter.
    pub fn get(&self, count: RpcCount) -> u64 {
        self.cells[count as usize].load(Ordering::Relaxed)
    }

    /// All, with their descriptions.
    pub fn each(&self) -> impl Iterator<Item = (&'static dataplane::metrics::CounterDef, u64)> {
        RpcCount::DEFS.iter().zip(self.cells.iter().map(|cell| cell.load(Ordering::Relaxed)))
    }

    pub(super) fn add(&self, count: RpcCount, n: u64) {
        self.cells[count as usize].fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, count: RpcCount, n: u64) {
        self.cells[count as usize].fetch_sub(n, Ordering::Relaxed);
    }
}

/// What the operator bounds. The listener has bounds of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Calls of one batch.
    pub batch_max: usize,
    /// Requests that are worked on; more wait.
    pub calls_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { batch_max: 1_024, calls_max: 64 }
    }
}

/// What all calls share.
#[derive(Debug)]
pub struct Rpc {
    /// The node.
    pub service: Service,
    /// What is counted.
    pub counters: RpcCounters,
    /// The operator's bounds.
    pub(super) bounds: Bounds,
    /// Seats of requests; long polls leave theirs while they wait.
    pub(super) requests: Semaphore,
    /// When the node started.
    pub(super) started: Instant,
    /// Seats of blocking calls.
    pub(super) blocking: Semaphore,
    /// Seats of long polls.
    pub(super) long_polls: Semaphore,
    /// Size and transactions of the last candidate handed out.
    pub(super) candidate_bytes: AtomicU64,
    pub(super) candidate_txs: AtomicU64,
}

impl Rpc {
    /// For a running node.
    pub fn new(service: Service, bounds: Bounds) -> Self {
        Self {
            service,
            counters: RpcCounters::default(),
            bounds,
            requests: Semaphore::new(bounds.calls_max.max(1)),
            started: Instant::now(),
            blocking: Semaphore::new(BLOCKING_CALLS_MAX),
            long_polls: Semaphore::new(LONG_POLLS_MAX),
            candidate_bytes: AtomicU64::new(0),
            candidate_txs: AtomicU64::new(0),
        }
    }
}

impl Rpc {
    /// Waits for a seat among the blocking calls.
    pub(super) async fn seat(&self) -> Result<tokio::sync::SemaphorePermit<'_>, RpcError> {
        self.blocking
            .acquire()
            .await
            .map_err(|_| RpcError::new(code::NOT_CONNECTED, "Shutting down"))
    }
}
