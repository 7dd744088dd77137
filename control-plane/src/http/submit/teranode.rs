//! `POST /tx` and `POST /txs` as Teranode's propagation server speaks them, with more to say for who asks for JSON.
//!
//! Bytes in the body are transactions, raw or extended; with `Content-Type: text/plain` they are hex, one a line. The answer is
//! `OK`, or the reason in plain text; with `Accept: application/json` it is an array of `{txid, verdict, reason}`, one a
//! transaction, in order. The status is 200 if every transaction is in the pool or in a block, else that of the first that is
//! not. Source: reference on Teranode, `services/propagation/Server.go`; statuses of its later versions.

use super::bodies::{self, BadBody};
use super::counts::SubmitHttpCount;
use super::{Api, Asked, Shared, json, media_type, retry_after};
use crate::epochs::NotKept;
use crate::submit::{Outcome, SubmitError};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dataplane::msg::TxVerdict;
use serde::Serialize;
use std::fmt::Write;

/// Refused transactions a plain answer names.
const NAMED_MAX: usize = 16;

#[derive(Serialize)]
struct Judged {
    txid: String,
    verdict: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct Refused<'a> {
    error: &'a str,
}

/// One transaction.
pub async fn tx(
    State(api): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let txs = if media_type(&headers) == "text/plain" {
        bodies::hex_lines(&body, api.txs_max).and_then(|txs| match txs.len() {
            1 => Ok(txs),
            n => Err(BadBody::NotHex { line: 2, what: format!("{n} lines, where /tx takes one") }),
        })
    } else {
        bodies::one(&body).map(|tx| vec![tx])
    };
    answer(&api, query.as_deref(), &headers, txs).await
}

/// Many.
pub async fn txs(
    State(api): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let txs = if media_type(&headers) == "text/plain" {
        bodies::hex_lines(&body, api.txs_max)
    } else {
        bodies::concatenated(&body, api.txs_max)
    };
    answer(&api, query.as_deref(), &headers, txs).await
}

/// Whether the gate takes transactions.
pub async fn health(State(api): State<Shared>) -> Response {
    let why = match (api.submit.is_open(), api.submit.trouble()) {
        (true, None) => return (StatusCode::OK, "OK").into_response(),
        (true, Some(trouble)) => trouble.to_string(),
        (false, _) => "the node is stopping".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

async fn answer(
    api: &Api,
    query: Option<&str>,
    headers: &HeaderMap,
    txs: Result<Vec<Bytes>, BadBody>,
) -> Response {
    let wants_json = wants_json(headers);
    let refuse = |status, text: &str| match wants_json {
        true => json(status, &Refused { error: text }),
        false => (status, text.to_owned()).into_response(),
    };
    let txs = match txs {
        Ok(txs) => txs,
        Err(bad) => {
            api.counters.bad(&bad);
            let status = match bad {
                BadBody::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            return refuse(status, &bad.to_string());
        }
    };
    let outcomes = match api.judge(txs, Asked::from(query, headers)).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            api.counters.add(SubmitHttpCount::TurnedAway, 1);
            let (status, wait_s) = refusal(&error);
            return retry_after(refuse(status, &error.to_string()), wait_s);
        }
    };
    let refused = outcomes.iter().filter(|o| !o.is_in()).count();
    api.counters.add(SubmitHttpCount::In, (outcomes.len() - refused) as u64);
    api.counters.add(SubmitHttpCount::Out, refused as u64);
    let status = outcomes.iter().map(status).find(|s| *s != StatusCode::OK);
    let status = status.unwrap_or(StatusCode::OK);
    let response = if wants_json {
        let judged: Vec<Judged> = outcomes.iter().map(Judged::from).collect();
        json(status, &judged)
    } else if status == StatusCode::OK {
        (StatusCode::OK, "OK").into_response()
    } else {
        (status, in_words(&outcomes, refused)).into_response()
    };
    match status {
        StatusCode::SERVICE_UNAVAILABLE => retry_after(response, api.submit.limits().retry_after_s),
        _ => response,
    }
}

/// Status and seconds to wait for a call that was not judged.
pub(super) fn refusal(error: &SubmitError) -> (StatusCode, u32) {
    match error {
        SubmitError::Overloaded { retry_after_s } => {
            (StatusCode::SERVICE_UNAVAILABLE, *retry_after_s)
        }
        SubmitError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, 0),
        SubmitError::NotKept(NotKept::NoPromise { .. }) => (StatusCode::BAD_REQUEST, 0),
        SubmitError::Stopping | SubmitError::NotKept(_) => (StatusCode::SERVICE_UNAVAILABLE, 5),
    }
}

/// The status of one transaction.
fn status(outcome: &Outcome) -> StatusCode {
    match outcome.verdict {
        TxVerdict::Accepted | TxVerdict::Known => StatusCode::OK,
        TxVerdict::DoubleSpend | TxVerdict::Locked | TxVerdict::Frozen => StatusCode::CONFLICT,
        TxVerdict::MissingInput | TxVerdict::OrphanExpired => StatusCode::UNPROCESSABLE_ENTITY,
        TxVerdict::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        TxVerdict::Malformed
        | TxVerdict::Invalid
        | TxVerdict::NonFinal
        | TxVerdict::Policy
        | TxVerdict::ScriptFailed
        | TxVerdict::Immature
        | TxVerdict::ParentRejected
        | TxVerdict::TooCostly
        | TxVerdict::CoinMismatch => StatusCode::BAD_REQUEST,
    }
}

impl From<&Outcome> for Judged {
    fn from(outcome: &Outcome) -> Self {
        Self {
            txid: outcome.txid.to_string(),
            verdict: outcome.verdict.name(),
            reason: outcome.reason().into_owned(),
        }
    }
}

fn in_words(outcomes: &[Outcome], refused: usize) -> String {
    if let [only] = outcomes {
        return format!("{} {}: {}", only.verdict.name(), only.txid, only.reason());
    }
    let mut text = format!("{refused} of {} transactions were refused", outcomes.len());
    for (index, o) in outcomes.iter().enumerate().filter(|(_, o)| !o.is_in()).take(NAMED_MAX) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{index}: {} {}: {}", o.verdict.name(), o.txid, o.reason());
    }
    text
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    accept.is_some_and(|a| a.to_ascii_lowercase().contains("application/json"))
}
