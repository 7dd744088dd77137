//! The caller's side of the gate: bounds at the door, a place in the inbox, a verdict for everything.

use super::counts::{SubmitCount, SubmitCounters};
use super::outcome::Outcome;
use crate::epochs::{Journals, NotKept};
use crate::room::Room;
use bytes::Bytes;
use ring::park::Waker;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::sync::oneshot;

/// Bounds of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubmitLimits {
    /// Transactions of calls that are not answered.
    pub transactions_max: u64,
    /// Their bytes.
    pub bytes_max: u64,
    /// Bytes of one transaction.
    pub tx_bytes_max: u64,
    /// What a refused caller is told to wait, seconds.
    pub retry_after_s: u32,
}

impl Default for SubmitLimits {
    fn default() -> Self {
        Self {
            transactions_max: 65_536,
            bytes_max: 256 << 20,
            tx_bytes_max: 64 << 20,
            retry_after_s: 1,
        }
    }
}

/// Who submits; orphans are bounded by source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SourceKind {
    /// HTTP.
    Http = 1,
    /// JSON-RPC.
    Rpc = 2,
}

/// Why a call was not judged. It may have been judged in part if it was taken in before the node stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The gate is full.
    #[error(
        "the node has as many transactions in hand as it takes; try again in {retry_after_s} s"
    )]
    Overloaded {
        /// Seconds.
        retry_after_s: u32,
    },
    /// The node stops.
    #[error("the node is stopping; submit to another one, or here after its start")]
    Stopping,
    /// It could not be kept, or is not known to be: nothing is lost that was acknowledged as durable.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// It would not even fit an empty gate.
    #[error(
        "the call has {transactions} transactions of {bytes} bytes, the largest of {largest_bytes}: more than the node takes at once; \
         split it"
    )]
    TooLarge {
        /// Transactions of the call.
        transactions: u64,
        /// Their bytes.
        bytes: u64,
        /// Bytes of the largest.
        largest_bytes: u64,
    },
}

pub(super) type Answer = oneshot::Sender<Result<Vec<Outcome>, SubmitError>>;

/// One call on its way to the gate.
#[derive(Debug)]
pub(super) struct Call {
    pub txs: Vec<Bytes>,
    pub bytes: u64,
    pub source: SourceKind,
    pub answer: Answer,
}

/// What the callers and the gate share.
#[derive(Debug)]
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    pub limits: SubmitLimits,
    pub counters: SubmitCounters,
    journals: OnceLock<Journals>,
    room: OnceLock<Room>,
    waker: Waker,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub calls: Vec<Call>,
    /// No more calls.
    pub closed: bool,
    /// The machine reads and writes no more: the gate may end.
    pub ended: bool,
}

impl Shared {
    pub fn new(limits: SubmitLimits, waker: Waker) -> Self {
        Self {
            inbox: Mutex::default(),
            limits,
            counters: SubmitCounters::default(),
            journals: OnceLock::new(),
            room: OnceLock::new(),
            waker,
        }
    }

    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("no holder of this lock panics")
    }

    pub fn wake(&self) {
        self.waker.wake_if_parked();
    }

    /// Gives back what a call held.
    pub fn release(&self, transactions: u64, bytes: u64) {
        self.counters.sub(SubmitCount::HeldTransactions, transactions);
        self.counters.sub(SubmitCount::HeldBytes, bytes);
    }

    fn take(&self, transactions: u64, bytes: u64) -> bool {
        // Two additions and a look: several callers at the bound may all be refused, none gets past it.
        let txs = self.counters.add(SubmitCount::HeldTransactions, transactions);
        let held = self.counters.add(SubmitCount::HeldBytes, bytes);
        let fits = txs <= self.limits.transactions_max && held <= self.limits.bytes_max;
        if !fits {
            self.release(transactions, bytes);
        }
        fits
    }
}

/// Submits transactions. Clones go through the same gate.
#[derive(Clone, Debug)]
pub struct Submit {
    pub(super) shared: Arc<Shared>,
}

impl Submit {
    /// Submits `txs`, in this order, and gives what became of each.
    ///
    /// A parent and its child may be in one call. A transaction whose parent nobody has shows as `MissingInput` after
    /// `Bounds::orphan_told_ns`; it stays in the orphan pool and is accepted when the parent comes.
    pub async fn submit(
        &self,
        txs: Vec<Bytes>,
        source: SourceKind,
    ) -> Result<Vec<Outcome>, SubmitError> {
        if txs.is_empty() {
            return Ok(Vec::new());
        }
        let answered = self.enter(txs, source)?;
        answered.await.unwrap_or(Err(SubmitError::Stopping))
    }

    /// Whoever asks can wait for these journals from now on, and while they cannot be written nothing is taken.
    pub fn keep_in(&self, journals: Journals) {
        assert!(self.shared.journals.set(journals).is_ok(), "a gate has one set of journals");
    }

    /// While there is no room on the disk nothing is taken from now on.
    pub fn heed(&self, room: Room) {
        assert!(self.shared.room.set(room).is_ok(), "a gate has one disk");
    }

    /// Returns once everything that was accepted before the call is on disk.
    pub async fn kept(&self) -> Result<(), SubmitError> {
        let Some(journals) = self.shared.journals.get() else {
            return Err(NotKept::NoPromise { setting: "none".to_owned() }.into());
        };
        let kept = journals.kept().await;
        self.shared.counters.add(SubmitCount::WaitedForDisk, 1);
        Ok(kept?)
    }

    /// Why nothing is taken now, if that is because it could not be kept.
    pub fn trouble(&self) -> Option<NotKept> {
        let journals = self.shared.journals.get().and_then(Journals::trouble);
        journals.or_else(|| self.shared.room.get().and_then(Room::trouble))
    }

    fn enter(
        &self,
        txs: Vec<Bytes>,
        source: SourceKind,
    ) -> Result<oneshot::Receiver<Result<Vec<Outcome>, SubmitError>>, SubmitError> {
        let shared = &self.shared;
        let (limits, counters) = (&shared.limits, &shared.counters);
        if let Some(trouble) = self.trouble() {
            counters.add(SubmitCount::NotKept, 1);
            return Err(trouble.into());
        }
        let transactions = txs.len() as u64;
        let bytes: u64 = txs.iter().map(|tx| tx.len() as u64).sum();
        let largest_bytes = txs.iter().map(|tx| tx.len() as u64).max().unwrap_or(0);
        if transactions > limits.transactions_max
            || bytes > limits.bytes_max
            || largest_bytes > limits.tx_bytes_max
        {
            counters.add(SubmitCount::TooLarge, 1);
            return Err(SubmitError::TooLarge { transactions, bytes, largest_bytes });
        }
        if !shared.take(transactions, bytes) {
            counters.add(SubmitCount::Overloaded, 1);
            return Err(SubmitError::Overloaded { retry_after_s: limits.retry_after_s });
        }
        let (answer, answered) = oneshot::channel();
        let mut inbox = shared.inbox();
        if inbox.closed {
            drop(inbox);
            shared.release(transactions, bytes);
            counters.add(SubmitCount::Stopping, 1);
            return Err(SubmitError::Stopping);
        }
        counters.add(SubmitCount::Calls, 1);
        counters.add(SubmitCount::Transactions, transactions);
        counters.add(SubmitCount::Bytes, bytes);
        inbox.calls.push(Call { txs, bytes, source, answer });
        drop(inbox);
        shared.wake();
        Ok(answered)
    }

    /// Whether the gate takes calls at all.
    pub fn is_open(&self) -> bool {
        !self.shared.inbox().closed
    }

    /// The bounds of the gate.
    pub fn limits(&self) -> &SubmitLimits {
        &self.shared.limits
    }

    /// What the gate counted.
    pub fn counters(&self) -> &SubmitCounters {
        &self.shared.counters
    }
}
