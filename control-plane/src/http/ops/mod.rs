//! The ops listener (127.0.0.1:9545): what the node counts, whether it lives, whether it is ready.
//!
//! `/metrics` is Prometheus text, written anew from the cells at every scrape: whoever counts is a [`Source`], and nothing is
//! registered by name anywhere else. `/health` fails (503) when a tile's core no longer goes round: restart the process.
//! `/readiness` fails while the node cannot serve (starting, rebuilding, stopping, an error of a store) and says why: send no
//! traffic. `/bfr/status` is what `metanode relay status` shows of the relay inside (404 where there is none). docs/metrics.md is written by a test (`control-plane/tests/http.rs`) from the page of a running node.

mod page;
mod process;
mod readiness;
mod sources;

pub use page::Page;
pub use process::Process;
pub use readiness::Readiness;
pub use sources::{Source, stalled_tiles};

use crate::relay::NodeRelay;
use crate::service::{CountersReader, Stop};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// What the ops listener shows.
pub struct Ops {
    /// Everybody who counts, in the order of the page.
    pub sources: Vec<Box<dyn Source>>,
    /// The tiles, for `/health`.
    pub tiles: CountersReader,
    /// Why the node is not ready.
    pub readiness: Readiness,
    /// A node that is asked to stop is not ready.
    pub stop: Stop,
    /// The relay inside, if there is one.
    pub relay: Option<NodeRelay>,
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sources = self.sources.len();
        f.debug_struct("Ops").field("sources", &sources).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    reasons: Vec<String>,
}

/// The routes.
pub fn router(ops: Ops) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/readiness", get(readiness))
        .route("/bfr/status", get(bfr_status))
        .with_state(Arc::new(ops))
}

async fn metrics(State(ops): State<Arc<Ops>>) -> Response {
    let mut page = Page::default();
    ops.sources.iter().for_each(|source| source.write(&mut page));
    let media = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, media)], page.text()).into_response()
}

async fn health(State(ops): State<Arc<Ops>>) -> Response {
    let reasons = stalled_tiles(&ops.tiles);
    let status = if reasons.is_empty() { "ok" } else { "failing" };
    answer(reasons.is_empty(), &Health { status, reasons })
}

async fn readiness(State(ops): State<Arc<Ops>>) -> Response {
    let mut reasons = ops.readiness.reasons();
    if ops.stop.is_requested() {
        reasons.push("stopping: the node was asked to end".to_owned());
    }
    reasons.extend(stalled_tiles(&ops.tiles));
    answer(reasons.is_empty(), &Ready { ready: reasons.is_empty(), reasons })
}

async fn bfr_status(State(ops): State<Arc<Ops>>) -> Response {
    let Some(relay) = &ops.relay else {
        let why = json!({ "error": "this node does not relay: bfr.peers names nobody" });
        return json_response(StatusCode::NOT_FOUND, &why);
    };
    if let Some(status) = relay.status() {
        return json_response(StatusCode::OK, &status);
    }
    let why = json!({ "error": "the relay's tiles have not turned yet; try again" });
    json_response(StatusCode::SERVICE_UNAVAILABLE, &why)
}

fn answer(good: bool, body: &impl Serialize) -> Response {
    json_response(if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}

fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("what is shown becomes JSON");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests;
