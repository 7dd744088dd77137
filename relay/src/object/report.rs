//! What hosts are told: events, errors, numbers.

use crate::peer::PeerId;
use crate::wire::{Class, ObjectId};
use std::sync::Arc;

/// Why the host's object is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nothing to send.
    #[error("an object of 0 bytes: there is nothing to send")]
    Empty,
    /// More than the limit.
    #[error("an object of {got} bytes; this relay takes up to {expected} (object_bytes_max)")]
    TooLarge {
        /// Bytes.
        got: usize,
        /// The limit.
        expected: usize,
    },
    /// Nobody to send it to.
    #[error("no peer that the object is for has a link that is up; see `metanode relay status`")]
    NoPeer,
    /// A header or block that does not start with a header.
    #[error("a {class:?} of {got} bytes; it starts with the block's header of 80 bytes")]
    NoHeader {
        /// What was to be sent.
        class: Class,
        /// Bytes.
        got: usize,
    },
    /// A subtree, bundle or outline that does not read as one.
    #[error("a {class:?} of {got} bytes does not read as one; docs/bfr.md draws its bytes")]
    Malformed {
        /// What was to be sent.
        class: Class,
        /// Bytes.
        got: usize,
    },
    /// The table of objects is full of objects that are still under way.
    #[error("{objects} objects of {bytes} bytes are under way; try again when some are done")]
    Full {
        /// Objects in flight.
        objects: usize,
        /// Memory they take.
        bytes: usize,
    },
}

/// Why an object did not get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FailReason {
    /// No useful symbol for [`super::GATHER_TIMEOUT_US`].
    TimedOut = 0,
    /// The peer did not answer [`super::PROBES_MAX`] questions.
    Unanswered = 1,
    /// The peer will not take it.
    Refused = 2,
    /// Its bytes do not have its hash.
    HashWrong = 3,
    /// Its memory was needed for newer objects.
    Evicted = 4,
    /// The link went down.
    PeerDown = 5,
    /// It named transactions that are not known here, and nobody sent it in plain form.
    Unresolved = 6,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectEvent {
    /// An object is here, whole and with the right hash.
    Received {
        /// Its id.
        id: ObjectId,
        /// What it is.
        class: Class,
        /// Its payload.
        bytes: Arc<[u8]>,
        /// Who sent its first symbol.
        from: PeerId,
        /// Microseconds since then.
        took_us: u64,
    },
    /// A peer has what our host sent.
    Delivered {
        /// The object.
        id: ObjectId,
        /// What it is.
        class: Class,
        /// Who has it.
        peer: PeerId,
    },
    /// An object did not get through.
    Failed {
        /// The object.
        id: ObjectId,
        /// What it is.
        class: Class,
        /// To whom or from whom.
        peer: Option<PeerId>,
        /// Why.
        why: FailReason,
    },
}

/// Numbers for status and metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ObjectCounts {
    /// Objects in flight.
    pub in_flight: usize,
    /// Memory they take.
    pub bytes: usize,
    /// Objects received whole.
    pub received: u64,
    /// Objects sent by the host.
    pub sent: u64,
    /// Objects that failed.
    pub failed: u64,
    /// Objects whose memory was taken for newer ones.
    pub evicted: u64,
    /// Symbols received that were of use.
    pub symbols_useful: u64,
    /// Symbols received that were not.
    pub symbols_useless: u64,
    /// Symbols sent.
    pub symbols_sent: u64,
    /// Of those, parity.
    pub parity_sent: u64,
    /// Requests for repair sent.
    pub nacks_sent: u64,
    /// Requests for repair received.
    pub nacks_received: u64,
    /// Requests for a plain form sent.
    pub wants_sent: u64,
    /// Symbols of bodies that were known here before they came.
    pub symbols_prefilled: u64,
    /// Roots signed by origins that count.
    pub roots_taken: u64,
    /// Roots signed by nobody we know.
    pub roots_refused: u64,
    /// Control frames dropped because too many waited.
    pub control_dropped: u64,
    /// Events dropped because too many waited.
    pub events_dropped: u64,
}
