//! The submit listener (8833): transactions in, verdicts out, in the words of Teranode and of ARC.
//!
//! ```text
//!   POST /tx  /txs        Teranode's propagation server: bytes (or hex text) in, `OK` or why not out      `teranode`
//!   POST /v1/tx /v1/txs   ARC: JSON, hex text or bytes in, its states and error objects out               `arc`
//!   GET  /v1/tx/{txid}    where a transaction is, with its merkle path once it is in a block
//!   GET  /v1/policy  /v1/health  /health
//! ```
//!
//! With `?durable=1`, or the header `X-Durable: 1`, the four that take transactions answer once what they accepted is on disk
//! (`metanode run --durability epoch`); if it cannot be, 503, though the transactions may be in the pool.
//!
//! Bodies are whole and bounded before they come here (`http::server`); `bodies` cuts them into transactions, `finder` says
//! where one is, `recent` remembers the last refusals, because ARC's clients ask for them later.

mod arc;
pub mod bodies;
mod counts;
mod finder;
mod recent;
mod teranode;

pub use counts::{SubmitHttpCount, SubmitHttpCounters};
pub use finder::{Find, Whereabouts};

use crate::submit::{Outcome, SourceKind, Submit, SubmitError};
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use recent::Recent;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What `/v1/policy` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatedPolicy {
    /// Least fee, satoshi for 1,000 bytes.
    pub fee_min_sat_per_kb: u64,
    /// Bytes of the largest transaction for the pool.
    pub tx_bytes_max: u64,
    /// Bytes of the largest script.
    pub script_bytes_max: u64,
}

impl From<&dataplane::validate::Policy> for StatedPolicy {
    fn from(policy: &dataplane::validate::Policy) -> Self {
        Self {
            fee_min_sat_per_kb: policy.fee_min.sat_per_kb,
            tx_bytes_max: policy.tx_bytes_max,
            script_bytes_max: policy.script_limits.script_bytes,
        }
    }
}

/// What every handler works with.
struct Api {
    submit: Submit,
    find: Box<dyn Find>,
    policy: StatedPolicy,
    /// Most transactions of one request.
    txs_max: usize,
    counters: Arc<SubmitHttpCounters>,
    recent: Recent,
    lookups: Semaphore,
}

/// Lookups of transactions at once, since each may hold a whole block; the next one waits.
const LOOKUPS_MAX: usize = 4;

type Shared = Arc<Api>;

/// The routes. `find` answers where a transaction is; a request has at most `txs_max` transactions.
pub fn router(
    submit: Submit,
    find: impl Find + 'static,
    policy: StatedPolicy,
    txs_max: usize,
    counters: Arc<SubmitHttpCounters>,
) -> Router {
    let (find, recent) = (Box::new(find), Recent::default());
    let lookups = Semaphore::new(LOOKUPS_MAX);
    let api = Api { submit, find, policy, txs_max, counters, recent, lookups };
    Router::new()
        .route("/tx", post(teranode::tx))
        .route("/txs", post(teranode::txs))
        .route("/health", get(teranode::health))
        .route("/v1/tx", post(arc::tx))
        .route("/v1/txs", post(arc::txs))
        .route("/v1/tx/{txid}", get(arc::status))
        .route("/v1/policy", get(arc::policy))
        .route("/v1/health", get(arc::health))
        .with_state(Arc::new(api))
}

/// What the sender of transactions asked for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    /// The answer waits until what was accepted is on disk.
    durable: bool,
}

impl Asked {
    /// `?durable=1` (or `true`), or the header `X-Durable` with the same.
    fn from(query: Option<&str>, headers: &HeaderMap) -> Self {
        let yes = |value: &str| matches!(value.trim(), "1" | "true");
        let in_query = query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
        let in_query = in_query.clone().any(|(name, value)| name == "durable" && yes(value));
        let header = headers.get("x-durable").and_then(|value| value.to_str().ok());
        Self { durable: in_query || header.is_some_and(yes) }
    }
}

impl Api {
    async fn judge(&self, txs: Vec<Bytes>, asked: Asked) -> Result<Vec<Outcome>, SubmitError> {
        let outcomes = self.submit.submit(txs, SourceKind::Http).await?;
        self.recent.note(&outcomes);
        if asked.durable && outcomes.iter().any(Outcome::is_in) {
            self.submit.kept().await?;
        }
        Ok(outcomes)
    }
}

/// Runs what may read files where waiting for a disk is right; `None` if it panicked.
async fn look<T: Send + 'static>(
    api: &Shared,
    what: impl FnOnce(&Api) -> T + Send + 'static,
) -> Option<T> {
    let _turn = api.lookups.acquire().await.ok()?;
    let api = Arc::clone(api);
    tokio::task::spawn_blocking(move || what(&api)).await.ok()
}

/// The media type of a request, without parameters, in lower case.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("plain structs of text and numbers become JSON");
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response()
}

/// Says when to come back.
fn retry_after(mut response: Response, seconds: u32) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

#[cfg(test)]
mod tests;
