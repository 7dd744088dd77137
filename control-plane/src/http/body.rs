//! Reading a request's body: whole, in time, within its own bound and the listener's.
//!
//! In: the stream of a request. Out: its bytes with the room they take ([`Held`]), or the answer that refuses it. Room is
//! taken as bytes arrive, never for what a header claims, so a client pays for what it holds.

use super::counters::{HttpCount, HttpCounters};
use super::limits::Limits;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::sync::Arc;

/// Why a body was not read. `status` and `text` are the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    pub(super) status: StatusCode,
    pub(super) text: &'static str,
    pub(super) count: HttpCount,
}

const TOO_LARGE: Refused = Refused {
    status: StatusCode::PAYLOAD_TOO_LARGE,
    text: "the body is larger than this listener takes; send it in parts",
    count: HttpCount::BodiesTooLarge,
};
const NO_ROOM: Refused = Refused {
    status: StatusCode::SERVICE_UNAVAILABLE,
    text: "too many bytes of requests are being worked on; try again in a second",
    count: HttpCount::BodiesNoRoom,
};
const INCOMPLETE: Refused = Refused {
    status: StatusCode::BAD_REQUEST,
    text: "the body ended before its announced length, or its chunks are malformed",
    count: HttpCount::BodiesIncomplete,
};
const LATE: Refused = Refused {
    status: StatusCode::REQUEST_TIMEOUT,
    text: "the body did not arrive in time",
    count: HttpCount::BodyTimeouts,
};

/// Room that a body takes of the listener's bound, until this is dropped.
#[derive(Debug)]
pub struct Held {
    counters: Arc<HttpCounters>,
    bytes: u64,
}

impl Held {
    fn new(counters: &Arc<HttpCounters>) -> Self {
        Self { counters: Arc::clone(counters), bytes: 0 }
    }

    fn take(&mut self, bytes: u64, max: u64) -> bool {
        if self.counters.add(HttpCount::BodyBytes, bytes) > max {
            self.counters.sub(HttpCount::BodyBytes, bytes);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counters.sub(HttpCount::BodyBytes, self.bytes);
    }
}

/// Reads `body` whole.
pub(super) async fn read(
    body: Incoming,
    limits: &Limits,
    counters: &Arc<HttpCounters>,
) -> Result<(Bytes, Held), Refused> {
    let mut held = Held::new(counters);
    if body.is_end_stream() {
        return Ok((Bytes::new(), held));
    }
    let reading = collect(body, limits, &mut held);
    let bytes = tokio::time::timeout(limits.body_deadline, reading).await.map_err(|_| LATE)??;
    counters.add(HttpCount::BodyBytesReceived, bytes.len() as u64);
    Ok((bytes, held))
}

async fn collect(mut body: Incoming, limits: &Limits, held: &mut Held) -> Result<Bytes, Refused> {
    if body.size_hint().lower() > limits.body_bytes_max as u64 {
        return Err(TOO_LARGE);
    }
    // Most bodies are one frame, which is given on as it is; only the second one makes a buffer.
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| INCOMPLETE)?.into_data() else { continue };
        let len = data.len() + all.len() + first.as_ref().map_or(0, Bytes::len);
        if len > limits.body_bytes_max {
            return Err(TOO_LARGE);
        }
        if !held.take(data.len() as u64, limits.bodies_bytes_max as u64) {
            return Err(NO_ROOM);
        }
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(head) => {
                all.reserve(head.len() + data.len());
                all.extend_from_slice(&head);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}
