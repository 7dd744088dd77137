//! What a listener counts: every connection and request once, every refusal by its reason.
//!
//! Many tasks count at once, so cells are atomic additions; a request costs a handful of them.

use dataplane::metrics::CounterDef;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

dataplane::counters! {
    /// What one HTTP listener counts.
    pub enum HttpCount {
        /// Connections taken in.
        Accepted = counter "connections_accepted_total",
        /// Connections open now.
        Open = gauge "connections",
        /// Connections refused at the door because too many were open.
        Refused = counter "connections_refused_total",
        /// Connections the system could not hand over (out of file descriptors, aborted by the peer).
        AcceptErrors = counter "accept_errors_total",
        /// Connections closed because a request's header did not come in time.
        HeadTimeouts = counter "head_timeouts_total",
        /// Headers that are not HTTP/1.
        HeadsInvalid = counter "heads_invalid_total",
        /// Headers above the limit.
        HeadsTooLarge = counter "heads_too_large_total",
        /// Bodies that did not come in time.
        BodyTimeouts = counter "body_timeouts_total",
        /// Bodies above the limit.
        BodiesTooLarge = counter "bodies_too_large_total",
        /// Bodies that ended before their announced length, or were badly chunked.
        BodiesIncomplete = counter "bodies_incomplete_total",
        /// Requests refused because too many bytes of bodies were held.
        BodiesNoRoom = counter "bodies_no_room_total",
        /// Bytes of bodies held now.
        BodyBytes = gauge "body_bytes",
        /// Bytes of bodies received.
        BodyBytesReceived = counter "body_received_bytes_total",
        /// Connections closed because no request came for too long.
        IdleClosed = counter "idle_closed_total",
        /// Connections cut because the client did not read its answer.
        WriteTimeouts = counter "write_timeouts_total",
        /// Connections that broke: reset, or closed inside a request.
        Broken = counter "connections_broken_total",
        /// Requests that reached a handler.
        Requests = counter "requests_total",
        /// Requests a handler works on now.
        InFlight = gauge "requests_in_flight",
        /// Answers with a status below 400.
        AnswersOk = counter "answers_ok_total",
        /// Answers with a status of 4xx.
        AnswersClientError = counter "answers_client_error_total",
        /// Answers with a status of 5xx.
        AnswersServerError = counter "answers_server_error_total",
    }
}

/// The counters of one listener, shared by its tasks and by whoever shows them.
#[derive(Debug)]
pub struct HttpCounters {
    listener: &'static str,
    cells: [AtomicU64; HttpCount::DEFS.len()],
}

impl HttpCounters {
    /// For the listener of that name (`submit`, `rpc`, `ops`).
    pub fn new(listener: &'static str) -> Self {
        Self { listener, cells: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// Whose they are.
    pub fn listener(&self) -> &'static str {
        self.listener
    }

    /// One counter.
    pub fn get(&self, count: HttpCount) -> u64 {
        self.cells[count as usize].load(Relaxed) // a statistic: nothing is read on its strength
    }

    /// All, with their descriptions.
    pub fn each(&self) -> impl Iterator<Item = (&'static CounterDef, u64)> {
        HttpCount::DEFS.iter().zip(self.cells.iter().map(|c| c.load(Relaxed)))
    }

    pub(super) fn add(&self, count: HttpCount, n: u64) -> u64 {
        self.cells[count as usize].fetch_add(n, Relaxed) + n
    }

    pub(super) fn sub(&self, count: HttpCount, n: u64) {
        self.cells[count as usize].fetch_sub(n, Relaxed);
    }

    pub(super) fn bump(&self, count: HttpCount) {
        self.add(count, 1);
    }
}
