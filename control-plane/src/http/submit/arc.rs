//! ARC's API, so that its clients work unchanged: `/v1/tx`, `/v1/txs`, `/v1/tx/{txid}`, `/v1/policy`, `/v1/health`.
//!
//! A transaction that is refused by a rule of its own gets ARC's error object (RFC 7807 fields, ARC's statuses 46x, served as
//! `application/json` as ARC does). What depends on others is a *state* with status 200, as in ARC: `DOUBLE_SPEND_ATTEMPTED` with
//! the winner, `SEEN_IN_ORPHAN_MEMPOOL`, `REJECTED`. Callbacks are not made: `X-CallbackUrl` and the other headers of ARC are
//! accepted and change nothing; every transaction is validated.
//!
//! Source: ARC's OpenAPI document (`pkg/api/arc.yaml`), `pkg/api/status.go`, `pkg/api/handler/default.go`; `@bsv/sdk` 2.1.0 `ARC.ts`.

use super::bodies::{self, BadBody};
use super::counts::SubmitHttpCount;
use super::finder::Whereabouts;
use super::teranode::refusal;
use super::{Api, Asked, Shared, json, look, media_type, retry_after};
use crate::submit::{Outcome, SubmitError};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use consensus::hash::TxId;
use consensus::rules::TxReject;
use dataplane::msg::TxVerdict;
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// ARC's states that this node can be sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TxState {
    SeenOnNetwork,
    SeenInOrphanMempool,
    DoubleSpendAttempted,
    Rejected,
    Mined,
}

impl TxState {
    fn name(self) -> &'static str {
        match self {
            Self::SeenOnNetwork => "SEEN_ON_NETWORK",
            Self::SeenInOrphanMempool => "SEEN_IN_ORPHAN_MEMPOOL",
            Self::DoubleSpendAttempted => "DOUBLE_SPEND_ATTEMPTED",
            Self::Rejected => "REJECTED",
            Self::Mined => "MINED",
        }
    }
}

/// `TransactionStatus`, and with `status` and `title` `TransactionResponse`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    block_hash: String,
    block_height: u32,
    competing_txs: Option<Vec<String>>,
    extra_info: String,
    merkle_path: String,
    timestamp: String,
    tx_status: &'static str,
    txid: String,
}

/// `ErrorFields`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Problem {
    detail: &'static str,
    extra_info: String,
    instance: Option<String>,
    status: u16,
    title: &'static str,
    txid: Option<String>,
    r#type: String,
}

/// What one transaction is answered with.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Status(Status),
    Problem(Problem),
}

impl Answer {
    fn status(&self) -> StatusCode {
        match self {
            Self::Status(_) => StatusCode::OK,
            // Every status of ours is one of the table below.
            Self::Problem(p) => StatusCode::from_u16(p.status).unwrap_or(StatusCode::CONFLICT),
        }
    }
}

#[derive(Serialize)]
struct Policy {
    timestamp: String,
    policy: PolicyFields,
}

#[derive(Serialize)]
#[allow(non_snake_case)] // ARC mixes its spellings
struct PolicyFields {
    maxscriptsizepolicy: u64,
    maxtxsigopscountspolicy: u64,
    maxtxsizepolicy: u64,
    miningFee: FeeAmount,
    standardFormatSupported: bool,
}

#[derive(Serialize)]
struct FeeAmount {
    satoshis: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Health {
    healthy: bool,
    version: &'static str,
    reason: Option<String>,
}

/// `POST /v1/tx`.
pub async fn tx(
    State(api): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked::from(query.as_deref(), &headers);
    let tx = match media_type(&headers).as_str() {
        "application/json" => bodies::json_one(&body),
        "text/plain" => bodies::hex_lines(&body, api.txs_max).and_then(|mut txs| match txs.len() {
            1 => Ok(txs.remove(0)),
            n => Err(BadBody::NotHex { line: 2, what: format!("{n} lines, expected one") }),
        }),
        _ => bodies::one(&body),
    };
    match judge(&api, tx.map(|tx| vec![tx]), asked).await {
        Ok(mut answers) => {
            let answer = answers.pop().expect("one transaction has one answer");
            let response = json(answer.status(), &answer);
            match answer.status() {
                StatusCode::SERVICE_UNAVAILABLE => {
                    retry_after(response, api.submit.limits().retry_after_s)
                }
                _ => response,
            }
        }
        Err(response) => response,
    }
}

/// `POST /v1/txs`: status 200 and an answer for each, whatever it is.
pub async fn txs(
    State(api): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let asked = Asked::from(query.as_deref(), &headers);
    let txs = match media_type(&headers).as_str() {
        "application/json" => bodies::json_many(&body, api.txs_max),
        "text/plain" => bodies::hex_lines(&body, api.txs_max),
        _ => bodies::concatenated(&body, api.txs_max),
    };
    match judge(&api, txs, asked).await {
        Ok(answers) => json(StatusCode::OK, &answers),
        Err(response) => response,
    }
}

/// `GET /v1/tx/{txid}`.
pub async fn status(State(api): State<Shared>, Path(txid): Path<String>) -> Response {
    let Ok(txid) = txid.parse::<TxId>() else {
        api.counters.add(SubmitHttpCount::BadTxid, 1);
        let what = "a transaction id is 64 hex digits".to_owned();
        return problem_response(&problem(400, None, what));
    };
    let found = match look(&api, move |api| api.find.find(&txid)).await {
        Some(Ok(found)) => found,
        Some(Err(error)) => {
            tracing::error!(%txid, %error, "a transaction could not be looked up");
            let what = format!("looking it up failed: {error}");
            return problem_response(&problem(409, Some(&txid), what));
        }
        None => {
            return problem_response(&problem(409, Some(&txid), "looking it up failed".into()));
        }
    };
    let status = match found {
        Whereabouts::Nowhere => {
            let Some(outcome) = api.recent.get(&txid) else {
                let what = "this node has not seen the transaction".to_owned();
                return problem_response(&problem(404, Some(&txid), what));
            };
            refused_state(&outcome)
        }
        found => place(&txid, found),
    };
    json(StatusCode::OK, &Status { status: None, title: None, ..status })
}

/// `GET /v1/policy`.
pub async fn policy(State(api): State<Shared>) -> Response {
    let stated = &api.policy;
    let policy = PolicyFields {
        maxscriptsizepolicy: stated.script_bytes_max,
        maxtxsigopscountspolicy: u64::from(u32::MAX),
        maxtxsizepolicy: stated.tx_bytes_max,
        miningFee: FeeAmount { satoshis: stated.fee_min_sat_per_kb, bytes: 1_000 },
        standardFormatSupported: true,
    };
    json(StatusCode::OK, &Policy { timestamp: now(), policy })
}

/// `GET /v1/health`.
pub async fn health(State(api): State<Shared>) -> Response {
    let trouble = api.submit.trouble().map(|trouble| trouble.to_string());
    let stopping = (!api.submit.is_open()).then(|| "the node is stopping".to_owned());
    let reason = stopping.or(trouble);
    let healthy = reason.is_none();
    json(StatusCode::OK, &Health { healthy, version: env!("CARGO_PKG_VERSION"), reason })
}

/// Submits, and finds the places of what was known before; an answer for each, or one for the whole request.
async fn judge(
    api: &Shared,
    txs: Result<Vec<Bytes>, BadBody>,
    asked: Asked,
) -> Result<Vec<Answer>, Response> {
    let txs = txs.map_err(|bad| {
        api.counters.bad(&bad);
        let status = if matches!(bad, BadBody::Beef { .. }) { 463 } else { 400 };
        problem_response(&problem(status, None, bad.to_string()))
    })?;
    let outcomes = api.judge(txs, asked).await.map_err(|error| turned_away(api, &error))?;
    let refused = outcomes.iter().filter(|o| !o.is_in()).count();
    api.counters.add(SubmitHttpCount::In, (outcomes.len() - refused) as u64);
    api.counters.add(SubmitHttpCount::Out, refused as u64);
    if outcomes.iter().all(|o| o.verdict != TxVerdict::Known) {
        return Ok(outcomes.iter().map(|o| answer(o, None)).collect());
    }
    // A known one may be in a block, and finding it may read a file.
    let found = look(api, move |api| {
        let known = |o: &Outcome| o.verdict == TxVerdict::Known;
        let place = |o: &Outcome| if known(o) { api.find.find(&o.txid).ok() } else { None };
        outcomes.iter().map(|o| answer(o, place(o))).collect()
    });
    found.await.ok_or_else(|| problem_response(&problem(409, None, "looking up failed".into())))
}

fn turned_away(api: &Api, error: &SubmitError) -> Response {
    api.counters.add(SubmitHttpCount::TurnedAway, 1);
    let (status, wait_s) = refusal(error);
    let problem = problem(status.as_u16(), None, error.to_string());
    retry_after(problem_response(&problem), wait_s)
}

/// The answer to one submitted transaction; `found` for a known one, if it was looked up.
fn answer(outcome: &Outcome, found: Option<Whereabouts>) -> Answer {
    let status = match outcome.verdict {
        TxVerdict::Accepted => place(&outcome.txid, Whereabouts::Pool),
        // Between the verdict and the look it may have left the pool's index for a block's: it is on the network all the same.
        TxVerdict::Known => match found {
            Some(found @ Whereabouts::Mined { .. }) => place(&outcome.txid, found),
            _ => place(&outcome.txid, Whereabouts::Pool),
        },
        _ => match problem_status(outcome) {
            Some(status) => {
                let txid = (outcome.txid != TxId::ZERO).then_some(&outcome.txid);
                return Answer::Problem(problem(status, txid, outcome.reason().into_owned()));
            }
            None => refused_state(outcome),
        },
    };
    Answer::Status(status)
}

/// The status of the error object for a verdict; `None` where ARC has a state instead.
fn problem_status(outcome: &Outcome) -> Option<u16> {
    Some(match outcome.verdict {
        TxVerdict::Accepted
        | TxVerdict::Known
        | TxVerdict::DoubleSpend
        | TxVerdict::MissingInput
        | TxVerdict::OrphanExpired
        | TxVerdict::ParentRejected
        | TxVerdict::NonFinal => return None,
        TxVerdict::Malformed => 400,
        TxVerdict::ScriptFailed | TxVerdict::TooCostly => 461,
        TxVerdict::Immature | TxVerdict::CoinMismatch => 462,
        TxVerdict::Locked => 466,
        TxVerdict::Frozen => 471,
        TxVerdict::Overloaded => 503,
        TxVerdict::Invalid | TxVerdict::Policy => match TxReject::from_number(outcome.detail) {
            Some(
                TxReject::InputsEmpty
                | TxReject::PrevoutNull
                | TxReject::InputsDuplicate
                | TxReject::InputValues
                | TxReject::InBelowOut
                | TxReject::NonStandardInputs,
            ) => 462,
            Some(
                TxReject::OutputsEmpty
                | TxReject::OutputNegative
                | TxReject::OutputTooLarge
                | TxReject::OutputTotalTooLarge
                | TxReject::OutputP2sh
                | TxReject::Dust
                | TxReject::BareMultisig
                | TxReject::DataCarrierSize
                | TxReject::LockingScript,
            ) => 464,
            Some(TxReject::FeeTooLow | TxReject::FeeOutOfRange | TxReject::FeeAbsurd) => 465,
            Some(TxReject::UnlockingSize | TxReject::UnlockingNotPushOnly) => 461,
            _ => 463,
        },
    })
}

/// The state of a transaction that is not in, for what is no fault of its own.
fn refused_state(outcome: &Outcome) -> Status {
    let state = match outcome.verdict {
        TxVerdict::DoubleSpend => TxState::DoubleSpendAttempted,
        TxVerdict::MissingInput => TxState::SeenInOrphanMempool,
        _ => TxState::Rejected,
    };
    let competing =
        (state == TxState::DoubleSpendAttempted).then(|| vec![outcome.other.to_string()]);
    let extra_info = match outcome.verdict {
        TxVerdict::MissingInput | TxVerdict::OrphanExpired | TxVerdict::ParentRejected => {
            format!("{}: {}", outcome.reason(), outcome.other)
        }
        _ => outcome.reason().into_owned(),
    };
    Status { competing_txs: competing, extra_info, ..blank(&outcome.txid, state) }
}

/// The state of a transaction that is somewhere.
fn place(txid: &TxId, found: Whereabouts) -> Status {
    match found {
        Whereabouts::Mined { block, height, merkle_path } => Status {
            block_hash: block.to_string(),
            block_height: height,
            merkle_path: hex::encode(merkle_path),
            ..blank(txid, TxState::Mined)
        },
        Whereabouts::Pool | Whereabouts::Nowhere => blank(txid, TxState::SeenOnNetwork),
    }
}

fn blank(txid: &TxId, state: TxState) -> Status {
    Status {
        status: Some(200),
        title: Some("OK"),
        block_hash: String::new(),
        block_height: 0,
        competing_txs: None,
        extra_info: String::new(),
        merkle_path: String::new(),
        timestamp: now(),
        tx_status: state.name(),
        txid: txid.to_string(),
    }
}

fn problem(status: u16, txid: Option<&TxId>, extra_info: String) -> Problem {
    let (title, detail) = match status {
        400 => ("Bad request", "The request cannot be read as what it should be"),
        404 => ("Not found", "There is no such thing here"),
        413 => ("Too large", "The request is larger than this node takes at once"),
        461 => ("Malformed transaction", "An unlocking script does not satisfy its locking script"),
        462 => ("Invalid inputs", "An input does not exist, or may not be spent like this"),
        463 => ("Malformed transaction", "The transaction breaks a rule"),
        464 => ("Invalid outputs", "An output is not allowed"),
        465 => ("Fee too low", "The transaction pays less than this node asks for"),
        466 => ("Conflicting tx found", "Another transaction holds what this one spends"),
        471 => ("Input Frozen", "An input is frozen"),
        503 => ("Unavailable", "The node cannot take the transaction now; try again"),
        _ => ("Generic error", "The transaction could not be processed"),
    };
    Problem {
        detail,
        extra_info,
        instance: None,
        status,
        title,
        txid: txid.map(ToString::to_string),
        r#type: format!("https://bitcoin-sv.github.io/arc/#/errors?id=_{status}"),
    }
}

fn problem_response(problem: &Problem) -> Response {
    json(StatusCode::from_u16(problem.status).unwrap_or(StatusCode::CONFLICT), problem)
}

/// The time as RFC 3339 with milliseconds, UTC.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs(), since.subsec_millis())
}

/// Source of the calendar: days counted from 1 March of year 0, in eras of 400 years.
fn rfc3339(unix_s: u64, ms: u32) -> String {
    let days = unix_s / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (h, m, s) = (unix_s / 3_600 % 24, unix_s / 60 % 60, unix_s % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_399, 5), "2000-02-28T23:59:59.005Z");
        assert_eq!(rfc3339(951_782_400, 0), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_231_006_505, 999), "2009-01-03T18:15:05.999Z");
        assert_eq!(rfc3339(4_102_444_800, 0), "2100-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_verdict_is_a_state_or_an_error_of_the_table() {
        for verdict in TxVerdict::ALL {
            for detail in 0..=255 {
                let txid = TxId::of(b"x");
                let outcome = Outcome { verdict, detail, vin: 0, fee_sat: 0, txid, other: txid };
                match answer(&outcome, None) {
                    Answer::Status(status) => {
                        assert_eq!(problem_status(&outcome), None);
                        let is_in = status.tx_status == TxState::SeenOnNetwork.name();
                        assert_eq!(is_in, outcome.is_in(), "{verdict:?}");
                    }
                    Answer::Problem(problem) => {
                        assert_ne!(problem.title, "Generic error", "{verdict:?} {detail}");
                        assert!(StatusCode::from_u16(problem.status).is_ok());
                    }
                }
            }
        }
    }
}
