//! The routes against a real data plane: every way in, every answer, every counter.

use super::*;
use crate::submit::SubmitLimits;
use crate::submit::tests::{Rig, block_on, rig, spend_of_nothing};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use consensus::hash::{BlockHash, TxId};
use load::{Inject, Kind, Workload};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Mutex;
use tower::ServiceExt;

/// Says what it is told to say.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<HashMap<TxId, Whereabouts>>>);

impl Find for Told {
    fn find(&self, txid: &TxId) -> std::io::Result<Whereabouts> {
        Ok(self.0.lock().unwrap().get(txid).cloned().unwrap_or(Whereabouts::Nowhere))
    }
}

struct Desk {
    rig: Rig,
    router: Router,
    counters: Arc<SubmitHttpCounters>,
    told: Told,
}

fn desk(workload: Workload, txs: usize, inject: Inject) -> Desk {
    let rig = rig(workload, txs, inject, SubmitLimits::default());
    let counters = Arc::new(SubmitHttpCounters::default());
    let told = Told::default();
    let policy = StatedPolicy::from(&dataplane::validate::Policy::default());
    let router =
        router(rig.submit.clone(), told.clone(), policy, bodies::TXS_MAX, Arc::clone(&counters));
    Desk { rig, router, counters, told }
}

struct Got {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

impl Desk {
    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let Ok(response) = self.router.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Got { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    async fn post(&self, path: &str, media: &str, body: impl Into<Body>) -> Got {
        self.ask("POST", path, &[("content-type", media)], body).await
    }

    fn first(&self, kind: impl Fn(Kind) -> bool) -> Bytes {
        let at = self.rig.offer.iter().position(|o| kind(o.kind)).expect("the plan has one");
        self.rig.of(at)
    }
}

const BINARY: &str = "application/octet-stream";
const JSON: &str = "application/json";

#[test]
fn teranodes_routes_say_ok_or_why_not() {
    let d = desk(Workload::P2pkh, 40, Inject::each(1));
    block_on(teranode_routes(&d));
    d.rig.end();
}

async fn teranode_routes(d: &Desk) {
    let honest: Vec<Bytes> = (0..d.rig.offer.len())
        .filter(|i| d.rig.offer.get(*i).kind == Kind::Honest)
        .map(|i| d.rig.of(i))
        .collect();
    let one = d.post("/tx", BINARY, honest[0].clone()).await;
    assert_eq!((one.status, one.text.as_str()), (200, "OK"));
    let again = d.post("/tx", "text/plain; charset=utf-8", hex::encode(&honest[0])).await;
    assert_eq!((again.status, again.text.as_str()), (200, "OK"), "known is as good");
    let many = d.post("/txs", BINARY, honest[1..11].concat()).await;
    assert_eq!((many.status, many.text.as_str()), (200, "OK"));
    let lines: Vec<String> = honest[11..14].iter().map(hex::encode).collect();
    let many = d.post("/txs", "text/plain", lines.join("\n")).await;
    assert_eq!((many.status, many.text.as_str()), (200, "OK"));
    let orphan = d.post("/tx", BINARY, spend_of_nothing(1)).await;
    assert_eq!(orphan.status, 422, "{}", orphan.text);
    assert!(orphan.text.starts_with("missing_input "), "{}", orphan.text);
    let bad = d.first(|k| k == Kind::BadSignature);
    let bad = d.post("/tx", BINARY, bad).await;
    assert_eq!(bad.status, 400);
    assert!(bad.text.contains("mandatory-script-verify-flag-failed"), "{}", bad.text);
    let double = d.rig.offer.iter().find_map(|o| match o.kind {
        Kind::DoubleSpend { of } => Some((d.rig.of(of as usize), d.rig.of(o.place as usize))),
        _ => None,
    });
    let (winner, loser) = double.expect("the plan has one");
    assert_eq!(d.post("/tx", BINARY, winner.clone()).await.status, 200);
    assert_eq!(d.post("/tx", BINARY, loser.clone()).await.status, 409);

    let asked = [("accept", "application/json"), ("content-type", BINARY)];
    let body = [honest[14].to_vec(), loser.to_vec(), spend_of_nothing(2)].concat();
    let mixed = d.ask("POST", "/txs", &asked, body).await;
    assert_eq!(mixed.status, 409, "that of the first that is not in");
    let rows = mixed.json();
    let verdicts: Vec<_> =
        rows.as_array().unwrap().iter().map(|r| r["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["accepted", "double_spend", "missing_input"]);
    assert_eq!(rows[0]["txid"], TxId::of(&honest[14]).to_string());
    assert_eq!(rows[0]["reason"], "");
    assert_eq!(rows[1]["reason"], "txn-mempool-conflict");
    let words = d.post("/txs", BINARY, [loser.to_vec(), spend_of_nothing(2)].concat()).await;
    assert!(
        words.text.starts_with("2 of 2 transactions were refused\n0: double_spend "),
        "{}",
        words.text
    );
    assert_eq!(d.ask("GET", "/health", &[], "").await.status, 200);
    assert_eq!(d.ask("GET", "/tx", &[], "").await.status, 405);
    let count = |c| d.counters.get(c);
    assert_eq!(count(SubmitHttpCount::In), 1 + 1 + 10 + 3 + 1 + 1);
    assert_eq!(count(SubmitHttpCount::Out), 1 + 1 + 1 + 2 + 2);
}

#[test]
fn bad_bodies_are_told_what_is_wrong_with_them_and_counted() {
    let d = desk(Workload::OpTrue, 2, Inject::none());
    block_on(bad_bodies(&d));
    d.rig.end();
}

async fn bad_bodies(d: &Desk) {
    let good = d.rig.of(0).to_vec();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut tx = good.clone();
        change(&mut tx);
        tx
    };
    let truncated = with(&|tx| tx.truncate(50));
    let trailing = with(&|tx| tx.push(0));
    let loose = with(&|tx| tx.splice(4..5, [0xfd, 1, 0]).for_each(drop));
    let huge = with(&|tx| tx.splice(4..5, [0xff; 9]).for_each(drop));
    // A whole body for /tx goes to a validator, which says what is wrong with it.
    for (body, reason) in [
        (&truncated, "malformed: ends in the middle of a field"),
        (&trailing, "malformed: bytes after the end of the transaction"),
        (&loose, "malformed: a size is not written in its shortest form"),
        (&huge, "malformed: a size is larger than any transaction"),
    ] {
        let got = d.post("/tx", BINARY, body.clone()).await;
        assert_eq!(got.status, 400);
        assert!(got.text.ends_with(reason), "{}", got.text);
    }
    let cases: [(&str, &str, Vec<u8>, u16, SubmitHttpCount); 16] = [
        ("/tx", BINARY, vec![], 400, SubmitHttpCount::Empty),
        ("/txs", BINARY, vec![], 400, SubmitHttpCount::Empty),
        ("/txs", BINARY, truncated.clone(), 400, SubmitHttpCount::Malformed),
        ("/txs", BINARY, trailing.clone(), 400, SubmitHttpCount::Malformed),
        ("/txs", BINARY, loose, 400, SubmitHttpCount::Malformed),
        ("/txs", BINARY, huge, 400, SubmitHttpCount::Malformed),
        ("/txs", BINARY, good.repeat(1_025), 413, SubmitHttpCount::TooMany),
        ("/tx", "text/plain", b"0x0100".to_vec(), 400, SubmitHttpCount::NotHex),
        ("/txs", "text/plain", b"zz".to_vec(), 400, SubmitHttpCount::NotHex),
        ("/v1/tx", JSON, b"".to_vec(), 400, SubmitHttpCount::Empty),
        ("/v1/tx", JSON, b"{\"rawtx\":\"00\"}".to_vec(), 400, SubmitHttpCount::NotJson),
        ("/v1/tx", JSON, "[".repeat(50_000).into_bytes(), 400, SubmitHttpCount::NotJson),
        ("/v1/txs", JSON, b"[{\"rawTx\":\"0q\"}]".to_vec(), 400, SubmitHttpCount::NotHex),
        ("/v1/txs", BINARY, truncated, 400, SubmitHttpCount::Malformed),
        (
            "/v1/tx",
            BINARY,
            b"\x01\x00\xbe\xef\xfe\x63\x6d\x0c".to_vec(),
            463,
            SubmitHttpCount::Beef,
        ),
        ("/v1/txs", "text/plain", b"\n\n".to_vec(), 400, SubmitHttpCount::Empty),
    ];
    for (path, media, body, status, count) in cases {
        let before = d.counters.get(count);
        let got = d.post(path, media, body).await;
        assert_eq!(got.status, status, "{path}: {}", got.text);
        assert_eq!(d.counters.get(count), before + 1, "{path}: {count:?}");
        assert!(!got.text.is_empty());
        if path.starts_with("/v1") {
            let problem = got.json();
            assert_eq!(problem["status"], status);
            assert!(problem["type"].as_str().unwrap().ends_with(&format!("?id=_{status}")));
            assert!(!problem["extraInfo"].as_str().unwrap().is_empty());
        }
    }
    assert_eq!(d.ask("GET", "/v1/tx/xyz", &[], "").await.status, 400);
    assert_eq!(d.counters.get(SubmitHttpCount::BadTxid), 1);
    assert_eq!(d.counters.get(SubmitHttpCount::In), 0);
}

#[test]
fn arcs_routes_answer_in_its_shapes() {
    let d = desk(Workload::P2pkh, 20, Inject::each(1));
    block_on(arc_routes(&d));
    d.rig.end();
}

async fn arc_routes(d: &Desk) {
    let honest: Vec<Bytes> = (0..d.rig.offer.len())
        .filter(|i| d.rig.offer.get(*i).kind == Kind::Honest)
        .map(|i| d.rig.of(i))
        .collect();
    let raw = |tx: &[u8]| serde_json::json!({ "rawTx": hex::encode(tx) });
    let got = d.post("/v1/tx", JSON, raw(&honest[0]).to_string()).await;
    let txid = TxId::of(&honest[0]);
    assert_eq!(got.status, 200, "{}", got.text);
    assert!(got.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with(JSON));
    let answer = got.json();
    assert_eq!(answer["txStatus"], "SEEN_ON_NETWORK");
    assert_eq!(answer["txid"], txid.to_string());
    assert_eq!((&answer["status"], &answer["title"]), (&200.into(), &"OK".into()));
    for (media, body) in [
        ("text/plain", hex::encode(&honest[1]).into_bytes()),
        (BINARY, honest[2].to_vec()),
        ("", honest[3].to_vec()),
    ] {
        let got = d.post("/v1/tx", media, body).await;
        assert_eq!(got.json()["txStatus"], "SEEN_ON_NETWORK", "{media}");
    }
    let (winner, loser) = d
        .rig
        .offer
        .iter()
        .find_map(|o| match o.kind {
            Kind::DoubleSpend { of } => Some((d.rig.of(of as usize), d.rig.of(o.place as usize))),
            _ => None,
        })
        .expect("the plan has one");
    d.post("/v1/tx", BINARY, winner.clone()).await;
    let orphan = spend_of_nothing(3);
    let bad = d.first(|k| k == Kind::BadSignature);
    let many = serde_json::json!([raw(&loser), raw(&orphan), raw(&bad), raw(&honest[4])]);
    let got = d.post("/v1/txs", JSON, many.to_string()).await;
    assert_eq!(got.status, 200);
    let answers = got.json();
    assert_eq!(answers[0]["txStatus"], "DOUBLE_SPEND_ATTEMPTED");
    assert_eq!(answers[0]["competingTxs"][0], TxId::of(&winner).to_string());
    assert_eq!(answers[1]["txStatus"], "SEEN_IN_ORPHAN_MEMPOOL");
    assert_eq!(answers[2]["status"], 461);
    assert_eq!(answers[2]["txid"], TxId::of(&bad).to_string());
    assert_eq!(answers[3]["txStatus"], "SEEN_ON_NETWORK");

    // Asked later: refusals are remembered, the pool and blocks are looked up.
    let path = |txid: TxId| format!("/v1/tx/{txid}");
    let ask = async |txid| d.ask("GET", &path(txid), &[], "").await;
    assert_eq!(ask(TxId::of(&loser)).await.json()["txStatus"], "DOUBLE_SPEND_ATTEMPTED");
    assert_eq!(ask(TxId::of(&orphan)).await.json()["txStatus"], "SEEN_IN_ORPHAN_MEMPOOL");
    assert_eq!(ask(TxId::of(b"nobody's")).await.status, 404);
    d.told.0.lock().unwrap().insert(txid, Whereabouts::Pool);
    let status = ask(txid).await.json();
    assert_eq!(status["txStatus"], "SEEN_ON_NETWORK");
    assert_eq!(status.get("status"), None, "that is of submits only");
    let mined =
        Whereabouts::Mined { block: BlockHash([9; 32]), height: 77, merkle_path: vec![0xfe, 1] };
    d.told.0.lock().unwrap().insert(txid, mined);
    let status = ask(txid).await.json();
    assert_eq!((&status["txStatus"], &status["blockHeight"]), (&"MINED".into(), &77.into()));
    assert_eq!(
        (&status["merklePath"], &status["blockHash"]),
        (&"fe01".into(), &"09".repeat(32).into())
    );
    let again = d.post("/v1/tx", BINARY, honest[0].clone()).await.json();
    assert_eq!(again["txStatus"], "MINED", "a known one that is mined says so");

    let policy = d.ask("GET", "/v1/policy", &[], "").await.json();
    assert_eq!(policy["policy"]["miningFee"], serde_json::json!({ "satoshis": 1, "bytes": 1_000 }));
    assert_eq!(policy["policy"]["standardFormatSupported"], true);
    assert_eq!(d.ask("GET", "/v1/health", &[], "").await.json()["healthy"], true);
    d.rig.gate.close();
    let closed = d.post("/v1/tx", BINARY, honest[5].clone()).await;
    assert_eq!((closed.status, closed.json()["status"].clone()), (503, 503.into()));
    assert_eq!(closed.headers[header::RETRY_AFTER], "5");
    assert_eq!(d.post("/tx", BINARY, honest[5].clone()).await.status, 503);
    assert_eq!(d.ask("GET", "/health", &[], "").await.status, 503);
    assert_eq!(d.ask("GET", "/v1/health", &[], "").await.json()["healthy"], false);
    assert_eq!(d.counters.get(SubmitHttpCount::TurnedAway), 2);
}

/// npm's `@bsv/sdk`, unchanged, against the routes behind the real server. `cargo xtask setup` installs it.
#[test]
fn the_broadcasters_of_the_wallets_sdk_understand_every_answer() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        std::path::PathBuf::from,
    );
    let modules = target.join("tools/npm/node_modules");
    let node = std::process::Command::new("node").arg("--version").output();
    if !node.is_ok_and(|out| out.status.success()) || !modules.join("@bsv/sdk").is_dir() {
        eprintln!("SKIPPED: node or {} is not there; try `cargo xtask setup`", modules.display());
        return;
    }
    let d = desk(Workload::P2pkh, 20, Inject::each(1));
    let ef = |tx: &[u8]| hex::encode(d.rig.extended(tx));
    let honest: Vec<String> = (0..d.rig.offer.len())
        .filter(|i| d.rig.offer.get(*i).kind == Kind::Honest)
        .map(|i| ef(&d.rig.of(i)))
        .collect();
    let (winner, loser) = d
        .rig
        .offer
        .iter()
        .find_map(|o| match o.kind {
            Kind::DoubleSpend { of } => Some((d.rig.of(of as usize), d.rig.of(o.place as usize))),
            _ => None,
        })
        .expect("the plan has one");
    let bad = ef(&d.first(|k| k == Kind::BadSignature));
    // An extended transaction that claims a coin nobody has.
    let mut orphan = spend_of_nothing(8);
    orphan.splice(46..46, [9, 0, 0, 0, 0, 0, 0, 0, 1, 0x51]);
    orphan.splice(4..4, [0, 0, 0, 0, 0, 0xef]);
    let got = block_on(async {
        let listener = crate::http::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let input = serde_json::json!({
            "address": address, "good": ef(&winner), "again": ef(&winner),
            "double": ef(&loser), "orphan": hex::encode(&orphan), "bad": bad,
            "many": [honest[0], ef(&loser), honest[1], bad],
            "teranode": honest[2], "teranodeBad": ef(&loser),
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), input.to_string()).unwrap();
        let (limits, counters) =
            (crate::http::Limits::default(), Arc::new(crate::http::HttpCounters::new("submit")));
        let stop = crate::service::Stop::new();
        let stopped = {
            let stop = stop.clone();
            async move { stop.requested().await }
        };
        let router = d.router.clone();
        let server = tokio::spawn(crate::http::serve(listener, limits, counters, router, stopped));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/submit/broadcasters.mjs");
        let input = file.path().to_owned();
        let ran = tokio::task::spawn_blocking(move || {
            std::process::Command::new("node").arg(script).arg(modules).arg(input).output()
        });
        let ran = ran.await.unwrap().unwrap();
        stop.request();
        server.await.unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{errors}");
        serde_json::from_slice::<Value>(&ran.stdout).unwrap()
    });
    let of = |tx: &[u8]| {
        let mut layout = consensus::tx::TxLayout::new();
        consensus::tx::parse(tx, &mut layout).unwrap().txid().to_string()
    };
    assert_eq!(got["good"]["status"], "success", "{got}");
    assert_eq!(got["good"]["txid"], of(&winner));
    assert_eq!(got["good"]["message"], "SEEN_ON_NETWORK ");
    assert_eq!(got["again"]["status"], "success");
    assert_eq!(got["double"]["status"], "error");
    assert_eq!(got["double"]["code"], "DOUBLE_SPEND_ATTEMPTED");
    assert_eq!(got["double"]["more"]["competingTxs"][0], of(&winner));
    assert_eq!(got["orphan"]["code"], "SEEN_IN_ORPHAN_MEMPOOL");
    assert_eq!(got["bad"]["code"], "461");
    assert_eq!(got["bad"]["txid"], of(&hex::decode(&bad).unwrap()));
    assert_eq!(got["bad"]["more"]["title"], "Malformed transaction");
    let many = got["many"].as_array().unwrap();
    assert_eq!(many.len(), 4);
    assert_eq!(many[0]["txStatus"], "SEEN_ON_NETWORK");
    assert_eq!(many[1]["txStatus"], "DOUBLE_SPEND_ATTEMPTED");
    assert_eq!(many[3]["status"], 461);
    assert_eq!(got["teranode"]["status"], "success", "{got}");
    assert_eq!(got["teranodeBad"]["code"], "409");
    assert!(got["teranodeBad"]["description"].as_str().unwrap().contains("txn-mempool-conflict"));
    assert_eq!(got["unsent"]["status"], "error", "the script tells success from failure");
    d.rig.end();
}
