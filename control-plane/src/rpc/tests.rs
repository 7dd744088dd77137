//! The whole of RPC without a process: requests go into the router, a chain without tiles answers, a real gate takes transactions.

use super::auth::Auth;
use super::state::{Bounds, Rpc};
use super::{Access, METHODS, router};
use crate::chain::tests::plain::Plain;
use crate::chain::{ChainOptions, Ended, open};
use crate::node::{Node, NodeOptions};
use crate::service::{NodeClock, Service, Stop};
use crate::submit::{self, Gate, SubmitLimits};
use crate::topology::Ingest;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine as _;
use consensus::params::{ChainParams, Network};
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread::JoinHandle;
use tower::ServiceExt;

const ADDRESS: &str = "mgwuYJgJx5L7M8g926E36WXqM8FUmRsens";
const USER: &str = "test:test";

/// RPC over a plain chain.
struct Bed {
    routes: Router,
    rpc: Arc<Rpc>,
    chain: JoinHandle<Ended<Plain>>,
    node: Node,
    gate: Gate,
    _folder: tempfile::TempDir,
}

impl Bed {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let params = Arc::new(ChainParams::of(Network::Regtest));
        let mut options = NodeOptions::new((*params).clone(), Ingest::Control);
        options.cores = Some(1);
        options.directory = Some(folder.path().to_owned());
        options.shard_transactions_max = 1 << 16;
        options.shard_slab_bytes = 64 << 20;
        options.bounds.orphan_told_ns = 50_000_000;
        let mut node = Node::boot(options).expect("a node");
        let ends = node.take_submit().expect("its ends");
        let (submit, gate) = submit::start(ends, SubmitLimits::default()).expect("a thread");
        let (clock, stop) = (NodeClock::new(), Stop::new());
        let pool = node.pool().expect("a pool");
        let engine = Plain::new((*params).clone(), 100, Some(pool.clone()));
        let options = ChainOptions {
            directory: folder.path().to_owned(),
            params: Arc::clone(&params),
            clock: clock.clone(),
            stop: stop.clone(),
            pool: pool.clone(),
            block_bytes_max: 0,
        };
        let (chain, thread) = open(options, engine).expect("a chain");
        let thread = thread.spawn().expect("a thread");
        while !chain.is_ready() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let (counters, room) = (node.counters_reader(), node.room());
        let service = Service {
            submit,
            chain,
            pool,
            params,
            clock,
            stop,
            counters,
            journals: None,
            relay: None,
            room,
        };
        let rpc = Arc::new(Rpc::new(service, Bounds { batch_max: 100, calls_max: 8 }));
        let auth = Arc::new(Auth::with_password("test", "test"));
        let routes = router(Arc::clone(&rpc), auth);
        Self { routes, rpc, chain: thread, node, gate, _folder: folder }
    }

    fn end(self) {
        self.rpc.service.stop.request();
        let ended = self.chain.join().expect("the chain thread ends");
        assert!(ended.failure.is_none(), "{:?}", ended.failure);
        self.gate.close();
        self.node.shutdown().expect("it stops");
        self.gate.join();
    }

    /// Posts a body: status and answer.
    async fn post(&self, user: Option<&str>, body: impl Into<Vec<u8>>) -> (u16, String) {
        let mut request = Request::post("/");
        if let Some(user) = user {
            let text = base64::engine::general_purpose::STANDARD.encode(user);
            request = request.header(header::AUTHORIZATION, format!("Basic {text}"));
        }
        let request = request.body(Body::from(body.into())).expect("a request");
        let Ok(response) = self.routes.clone().oneshot(request).await;
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let body = json!({"id": 1, "method": method, "params": params}).to_string();
        let (_, answer) = self.post(Some(USER), body).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        match &answer["error"] {
            Value::Null => Ok(answer["result"].clone()),
            error => Err((
                error["code"].as_i64().expect("a code"),
                error["message"].as_str().expect("a message").to_owned(),
            )),
        }
    }

    async fn get(&self, method: &str, params: Value) -> Value {
        self.call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error:?}"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_mined_read_proved_forked_and_joined_again() {
    let bed = Bed::start();
    let first = bed.get("generatetoaddress", json!([3, ADDRESS])).await;
    assert_eq!(bed.get("getblockcount", json!([])).await, 3);
    for verbosity in [json!(0), json!(1), json!(2), json!(3)] {
        bed.get("getblock", json!([first[0], verbosity])).await;
    }
    let block = bed.get("getblock", json!([first[0], 2])).await;
    let txid = &block["tx"][0]["txid"];
    assert_eq!(block["tx"][0]["vin"][0]["coinbase"].as_str().map(|s| &s[..2]), Some("51"));
    assert_eq!(block["status"]["validity"], "scripts");
    let shown = bed.get("getrawtransaction", json!([txid, true])).await;
    assert_eq!((&shown["blockhash"], &shown["confirmations"]), (&first[0], &json!(3)));
    let proof = bed.get("gettxoutproof", json!([[txid]])).await;
    assert_eq!(bed.get("verifytxoutproof", json!([proof])).await, json!([txid]));
    let proof = bed.get("getmerkleproof2", json!(["", txid])).await;
    assert_eq!((&proof["target"], &proof["nodes"]), (&first[0], &json!([])));
    let coin = bed.get("gettxout", json!([txid, 0])).await;
    assert_eq!((&coin["value"], &coin["confirmations"]), (&json!(50.0), &json!(3)));
    assert_eq!(coin["scriptPubKey"]["addresses"], json!([ADDRESS]));

    // A candidate solved by hand, then a branch that loses to a longer one.
    let candidate = bed.get("getminingcandidate", json!([true])).await;
    let mut said = json!("high-hash");
    for nonce in 0..1_000 {
        if said != "high-hash" {
            break;
        }
        let solution = json!({"id": candidate["id"], "nonce": nonce});
        said = bed.get("submitminingsolution", json!([solution])).await;
    }
    assert_eq!((said, bed.get("getblockcount", json!([])).await), (json!(true), json!(4)));
    let old = bed.get("getbestblockhash", json!([])).await;
    bed.get("invalidateblock", json!([old])).await;
    assert_eq!(bed.get("getblockcount", json!([])).await, 3);
    let new = bed.get("generate", json!([2])).await;
    assert_eq!(bed.get("getbestblockhash", json!([])).await, new[1]);
    let tips = bed.get("getchaintips", json!([])).await;
    assert_eq!((&tips[0]["status"], &tips[1]["status"]), (&json!("active"), &json!("invalid")));
    bed.get("reconsiderblock", json!([old])).await;
    let tips = bed.get("getchaintips", json!([])).await;
    assert_eq!((&tips[1]["status"], &tips[1]["branchlen"]), (&json!("valid-fork"), &json!(1)));
    let header = bed.get("getblockheader", json!([old])).await;
    assert_eq!(header["confirmations"], -1);
    let raw = bed.get("getblock", json!([old, 0])).await;
    assert_eq!(bed.get("submitblock", json!([raw])).await, "duplicate");
    bed.get("setmocktime", json!([2_000_000_000])).await;
    let later = bed.get("generate", json!([1])).await;
    let header = bed.get("getblockheader", json!([later[0]])).await;
    assert_eq!(header["time"], 2_000_000_000);
    bed.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_of_a_call_and_of_a_batch_are_judged_one_by_one() {
    let bed = Bed::start();
    let orphan = hex::encode(crate::submit::tests::spend_of_nothing(7));
    let missing = Err((-25, "Missing inputs".to_owned()));
    assert_eq!(bed.call("sendrawtransaction", json!([orphan])).await, missing);
    let answer =
        bed.get("sendrawtransactions", json!([[{"hex": orphan, "allowhighfees": true}]])).await;
    let invalid = &answer["invalid"][0];
    assert_eq!(
        (&invalid["reject_code"], &invalid["reject_reason"]),
        (&json!(16), &json!("missing-inputs"))
    );
    let coinbase = bed.get("getblock", json!([bed.get("generate", json!([1])).await[0], 2])).await;
    let coinbase = coinbase["tx"][0]["hex"].as_str().expect("hex").to_owned();
    let body: Vec<Value> = [&orphan, "zz", &coinbase, &orphan]
        .iter()
        .enumerate()
        .map(|(id, hex)| json!({"id": id, "method": "sendrawtransaction", "params": [hex, true]}))
        .chain([json!({"id": "count", "method": "getblockcount"})])
        .collect();
    let (status, answer) = bed.post(Some(USER), json!(body).to_string()).await;
    let answers: Vec<Value> = serde_json::from_str(&answer).expect("an array");
    let codes: Vec<_> = answers.iter().map(|a| a["error"]["code"].as_i64()).collect();
    assert_eq!((status, codes), (200, vec![Some(-25), Some(-22), Some(-26), Some(-25), None]));
    assert_eq!(answers[2]["error"]["message"], "16: bad-tx-coinbase");
    assert_eq!((&answers[3]["id"], &answers[4]["result"]), (&json!(3), &json!(1)));
    bed.end();
}

/// Values of every type, and texts that look like what a method wants.
fn hostile_values() -> Vec<Value> {
    let long = "f".repeat(10_000);
    let (zeros, ones) = ("00".repeat(32), "ff".repeat(32));
    let texts = ["", "0", "zz", "\u{0}", "-1", "é", ADDRESS, &zeros, &ones, &long];
    let mut values: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    values.extend([json!(null), json!(true), json!(0), json!(-1), json!(1.5), json!(i64::MIN)]);
    values.extend([
        json!(u64::MAX),
        json!(1e300),
        json!([]),
        json!([[]]),
        json!([null]),
        json!(["00"]),
    ]);
    values.extend([
        json!([{"hex": "00"}]),
        json!([{"tx": "00", "n": -1}]),
        json!({}),
        json!({"": {}}),
    ]);
    values.extend([json!({"mode": "proposal", "data": "00"}), json!({"longpollid": "x"})]);
    values.extend([
        json!({"id": "00000000-0000-0000-0000-000000000000", "nonce": 1, "coinbase": "00"}),
    ]);
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_in_any_parameter_of_any_method_is_answered_with_anything_but_json() {
    let bed = Bed::start();
    bed.get("generate", json!([2])).await;
    let (values, mut calls) = (hostile_values(), 0);
    for method in METHODS.iter().filter(|method| method.name != "stop") {
        for at in 0..=method.params.len() {
            for value in &values {
                // Mining for minutes and a clock that stands somewhere else are what was asked for.
                let number = value.as_f64().unwrap_or(0.0);
                if (method.name.starts_with("generate") && number > 5.0)
                    || (method.name == "setmocktime" && number > 0.0)
                {
                    continue;
                }
                let mut params: Vec<Value> =
                    method.params.iter().take(at).map(|_| json!("00")).collect();
                params.push(value.clone());
                let body =
                    json!({"id": calls, "method": method.name, "params": params}).to_string();
                let (status, text) = bed.post(Some(USER), body).await;
                let answer: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(answer["id"], calls);
                assert_eq!(answer["error"].is_null(), status == 200, "{} {text}", method.name);
                let error = &answer["error"];
                assert_ne!(error["code"], -32603, "{} {value}: {error}", method.name);
                assert!(error["message"].as_str().is_none_or(|m| !m.is_empty() && m.len() < 4_000));
                calls += 1;
            }
        }
    }
    assert!(calls > 2_000, "{calls} calls");
    bed.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_submitting_is_open() {
    let bed = Bed::start();
    for method in METHODS {
        let body = json!({"method": method.name, "params": {"no such parameter": 1}}).to_string();
        let (status, text) = bed.post(None, body.clone()).await;
        let open = method.access == Access::Open;
        assert_eq!(status, if open { 500 } else { 401 }, "{} {text}", method.name);
    }
    let stranger = bed.post(Some("test:wrong"), "{\"method\":\"sendrawtransaction\"}").await;
    assert_eq!(stranger.0, 401);
    for body in [
        "{",
        "[]",
        "{\"method\":\"nope\"}",
        "[{\"method\":\"sendrawtransaction\"},{\"method\":\"stop\"}]",
    ] {
        assert_eq!(bed.post(None, body).await.0, 401, "{body}");
    }
    let two = "[{\"method\":\"sendrawtransaction\",\"params\":[\"00\"]},{\"method\":\"sendrawtransactions\",\"params\":[[]]}]";
    assert_eq!(bed.post(None, two).await.0, 200);
    assert!(!bed.rpc.service.stop.is_requested());
    bed.end();
}
