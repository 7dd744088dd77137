//! Calls over HTTP, as bitcoind serves them.
//!
//! In: complete requests from [`crate::http`]. Out: answers. `POST /` takes one call or a batch; a call that needs the node's
//! user and comes without gets 401, wrong credentials get it after a rest, whatever they ask for. A batch is done in order;
//! calls of `sendrawtransaction` that stand beside each other make one trip to the gate. Source: SV Node `httprpc.cpp`.

use super::args::Args;
use super::auth::{Auth, Who};
use super::envelope::{self, Call, Request, write_answer};
use super::error::{RpcError, code};
use super::json::Json;
use super::methods::send::send_calls;
use super::state::{Rpc, RpcCount};
use super::table::{Access, Answer, Method, Run, method};
use axum::body::Body;
use axum::http::{HeaderValue, Method as Verb, Response, StatusCode, header};
use axum::{Router, extract};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What wrong credentials wait for their answer. Source: SV Node `httprpc.cpp`.
const STRANGER_REST: Duration = Duration::from_millis(250);
/// Bytes of all answers of a batch; what comes later is refused, so that a short request cannot fill the memory.
const BATCH_ANSWER_BYTES_MAX: usize = 256 << 20;

/// The routes of the RPC listener.
pub fn router(rpc: Arc<Rpc>, auth: Arc<Auth>) -> Router {
    let answer = move |request: extract::Request| {
        let (rpc, auth) = (Arc::clone(&rpc), Arc::clone(&auth));
        async move { handle(rpc, &auth, request).await }
    };
    Router::new().fallback(answer)
}

async fn handle(rpc: Arc<Rpc>, auth: &Auth, request: extract::Request) -> Response<Body> {
    let path = request.uri().path();
    // Wallets have paths of their own in the reference; here all of them are the node.
    if path != "/" && !path.starts_with("/wallet/") {
        return plain(StatusCode::NOT_FOUND, "");
    }
    if request.method() != Verb::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "JSONRPC server handles only POST requests");
    }
    let header = request.headers().get(header::AUTHORIZATION);
    let who = auth.who(header.map(HeaderValue::as_bytes));
    if who == Who::Stranger {
        rpc.counters.add(RpcCount::Strangers, 1);
        tracing::warn!("RPC refused wrong credentials");
        tokio::time::sleep(STRANGER_REST).await;
        return unauthorized();
    }
    // The listener has read the body already, within its bounds.
    let Ok(body) = axum::body::to_bytes(request.into_body(), usize::MAX).await else {
        return plain(StatusCode::BAD_REQUEST, "");
    };
    answer(rpc, who, &body).await
}

async fn answer(rpc: Arc<Rpc>, who: Who, body: &Bytes) -> Response<Body> {
    let request = match envelope::parse(body, rpc.bounds.batch_max) {
        Ok(request) => request,
        Err(error) => {
            rpc.counters.add(RpcCount::Unreadable, 1);
            if who == Who::Nobody {
                // Who cannot write a call learns nothing more without credentials.
                return unauthorized();
            }
            return one_answer(b"null", &Err(error));
        }
    };
    let calls = match &request {
        Request::Single(call) => std::slice::from_ref(call),
        Request::Batch(calls) => calls,
    };
    let is_open = |call: &Call| row(call).is_ok_and(|row| row.access == Access::Open);
    if who == Who::Nobody && (calls.is_empty() || !calls.iter().all(is_open)) {
        rpc.counters.add(RpcCount::Nobodies, 1);
        return unauthorized();
    }
    rpc.counters.add(RpcCount::Calls, calls.len() as u64);
    // A long poll works on nothing while it waits; it has a seat of its own kind.
    let waits = calls.iter().any(|call| call.method.as_deref() == Ok("getblocktemplate"));
    let _seat = if waits { None } else { rpc.requests.acquire().await.ok() };
    match request {
        Request::Single(call) => {
            let id = call.id.clone();
            let answer = dispatch(&rpc, call).await;
            rpc.counters.add(RpcCount::Failed, u64::from(answer.is_err()));
            one_answer(&id, &answer)
        }
        Request::Batch(calls) => {
            let mut out = batch(&rpc, calls).await;
            out.push(b'\n');
            json(StatusCode::OK, out)
        }
    }
}

/// The method a call names.
fn row(call: &Call) -> Result<&'static Method, RpcError> {
    let name = call.method.as_ref().map_err(Clone::clone)?;
    method(name).ok_or_else(|| RpcError::new(code::METHOD_NOT_FOUND, "Method not found"))
}

/// Calls that need no chain.
const EARLY: [&str; 3] = ["help", "stop", "uptime"];

/// Does one call.
async fn dispatch(rpc: &Arc<Rpc>, call: Call) -> Answer {
    let row = row(&call)?;
    if !rpc.service.chain.is_ready() && !EARLY.contains(&row.name) {
        return Err(RpcError::new(code::IN_WARMUP, "Verifying blocks..."));
    }
    match row.run {
        Run::Now(run) => run(rpc, &Args::parse(row, &call.params)?),
        Run::Later(run) => run(Arc::clone(rpc), Args::parse(row, &call.params)?).await,
        Run::Raw(run) => run(Arc::clone(rpc), call.params).await,
        Run::Blocking(run) => {
            let args = Args::parse(row, &call.params)?;
            let _seat = rpc.seat().await?;
            let rpc = Arc::clone(rpc);
            tokio::task::spawn_blocking(move || run(&rpc, &args))
                .await
                .unwrap_or_else(|error| Err(RpcError::new(code::INTERNAL, error.to_string())))
        }
    }
}

async fn batch(rpc: &Arc<Rpc>, calls: Vec<Call>) -> Vec<u8> {
    let mut out = vec![b'['];
    let mut calls = calls.into_iter().peekable();
    let ready = rpc.service.chain.is_ready();
    let sends = |call: &Call| ready && call.method.as_deref() == Ok("sendrawtransaction");
    let put = |out: &mut Vec<u8>, id: &[u8], answer: &Answer| {
        if out.len() > 1 {
            out.push(b',');
        }
        rpc.counters.add(RpcCount::Failed, u64::from(answer.is_err()));
        write_answer(out, id, answer);
    };
    while let Some(call) = calls.next() {
        if out.len() > BATCH_ANSWER_BYTES_MAX {
            let message = format!(
                "the answers of this batch are above {BATCH_ANSWER_BYTES_MAX} bytes; send fewer calls"
            );
            put(&mut out, &call.id, &Err(RpcError::new(code::OVERLOADED, message)));
        } else if sends(&call) {
            let (mut ids, mut params) = (vec![call.id], vec![call.params]);
            while let Some(call) = calls.next_if(sends) {
                ids.push(call.id);
                params.push(call.params);
            }
            let answers = send_calls(rpc, &params).await;
            ids.iter().zip(&answers).for_each(|(id, answer)| put(&mut out, id, answer));
        } else {
            let id = call.id.clone();
            let answer = dispatch(rpc, call).await;
            put(&mut out, &id, &answer);
        }
    }
    out.push(b']');
    out
}

fn one_answer(id: &[u8], answer: &Answer) -> Response<Body> {
    let status = match answer {
        Ok(_) => StatusCode::OK,
        Err(error) => StatusCode::from_u16(error.http_status()).expect("a status of the table"),
    };
    let room = answer.as_ref().map_or(256, |json: &Json| json.as_bytes().len()) + id.len() + 64;
    let mut out = Vec::with_capacity(room);
    write_answer(&mut out, id, answer);
    out.push(b'\n');
    json(status, out)
}

fn json(status: StatusCode, out: Vec<u8>) -> Response<Body> {
    respond(status, "application/json", Body::from(out))
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    respond(status, "text/html; charset=ISO-8859-1", Body::from(text))
}

fn unauthorized() -> Response<Body> {
    let mut response = plain(StatusCode::UNAUTHORIZED, "");
    let realm = HeaderValue::from_static("Basic realm=\"jsonrpc\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    response
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
