//! The submit and ops listeners of a node as its users run it: a transaction from `POST /v1/tx` into a block and its merkle path to
//! the header's root; the page of metrics as Prometheus' own checker reads it, and the reference written from it.

mod common;

use common::node::RunningNode;
use consensus::address::Destination;
use consensus::hash::TxId;
use consensus::params::{ChainParams, Network};
use consensus::proof::Bump;
use load::{Coinbase, Options, Plan, Workload};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One request on a connection of its own: status and body.
fn ask(address: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the node listens");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    stream.write_all(body).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, body.to_owned())
}

fn get(node: &RunningNode, listener: &str, path: &str) -> (u16, String) {
    ask(node.address(listener), "GET", path, "", b"")
}

fn rpc(node: &RunningNode, method: &str, params: &Value) -> Value {
    let login = base64_of(node.cookie().trim());
    let headers = format!("authorization: Basic {login}\r\ncontent-type: application/json\r\n");
    let body = json!({ "id": 1, "method": method, "params": params }).to_string();
    let (status, text) = ask(node.address("rpc"), "POST", "/", &headers, body.as_bytes());
    let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(answer["error"].is_null(), "{method}: {status} {}", answer["error"]);
    answer["result"].take()
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A plan and coins of its own on the node's chain, ripe.
fn offer(node: &RunningNode, txs: usize) -> load::Offer {
    let params = ChainParams::of(Network::Regtest);
    let plan = Plan::new(Options { keys: 10, ..Options::new(Workload::P2pkh, txs, 3) });
    let reward_sat = params.subsidy_sat(1);
    let mut coinbases = Vec::new();
    for i in 0..plan.coinbases_needed(reward_sat) {
        let script = plan.coinbase_script(i);
        let hash = script[3..23].try_into().expect("a P2PKH script");
        let address = Destination::PubKeyHash(hash).to_address(&params);
        let blocks = rpc(node, "generatetoaddress", &json!([1, address]));
        let block = rpc(node, "getblock", &json!([blocks[0], 1]));
        let txid: TxId = block["tx"][0].as_str().expect("a coinbase").parse().expect("an id");
        coinbases.push(Coinbase { txid, value_sat: reward_sat });
    }
    rpc(node, "generate", &json!([100]));
    let fan_out = plan.fan_out(&coinbases, reward_sat);
    let (status, text) = ask(node.address("submit"), "POST", "/txs", "", &fan_out.txs.concat());
    assert_eq!((status, text.as_str()), (200, "OK"));
    rpc(node, "generate", &json!([1]));
    plan.sign(&fan_out.coins)
}

#[test]
fn a_transaction_goes_from_arcs_door_into_a_block_with_a_proof() {
    let mut node = RunningNode::start(&["--cores", "1"]);
    let offer = offer(&node, 4);
    let tx = offer.get(0);
    let json = "content-type: application/json\r\n";
    let raw = json!({ "rawTx": hex::encode(tx.bytes) }).to_string();
    let (status, text) = ask(node.address("submit"), "POST", "/v1/tx", json, raw.as_bytes());
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &answer["txStatus"]), (200, &json!("SEEN_ON_NETWORK")), "{text}");
    let path = format!("/v1/tx/{}", tx.txid);
    // The pool's index is filled by a tile that reads the same link as pack.
    let deadline = Instant::now() + Duration::from_secs(10);
    let seen = loop {
        let (status, text) = get(&node, "submit", &path);
        if status == 200 || Instant::now() > deadline {
            break text;
        }
    };
    assert!(seen.contains("SEEN_ON_NETWORK"), "{seen}");
    let many: Vec<u8> = (1..4).flat_map(|i| offer.get(i).bytes.to_vec()).collect();
    assert_eq!(ask(node.address("submit"), "POST", "/txs", "", &many).0, 200);
    let block = rpc(&node, "generate", &json!([1]))[0].clone();
    let (status, text) = get(&node, "submit", &path);
    let mined: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &mined["txStatus"]), (200, &json!("MINED")), "{text}");
    assert_eq!(mined["blockHash"], block);
    let header = rpc(&node, "getblockheader", &json!([block]));
    assert_eq!(mined["blockHeight"], header["height"]);
    let bump = hex::decode(mined["merklePath"].as_str().expect("a path")).expect("hex");
    let root = Bump::parse(&bump).expect("a BUMP").root(&tx.txid).expect("a root");
    assert_eq!(root.to_string(), header["merkleroot"].as_str().expect("a root"));
    // A known one says where it is, and spending its coin again is a double spend of it.
    let (_, again) = ask(node.address("submit"), "POST", "/v1/tx", json, raw.as_bytes());
    assert!(again.contains("MINED"), "{again}");
    let took = node.stop();
    assert!(took < Duration::from_secs(2), "stopping took {took:?}");
}

#[test]
fn the_page_of_metrics_passes_promtool_and_is_what_the_reference_says() {
    let alone = RunningNode::start(&["--cores", "1"]);
    assert_eq!(get(&alone, "ops", "/bfr/status").0, 404, "it has no peers");
    drop(alone);
    // With a relay, so that the reference has its metrics, too.
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("relay.key").to_string_lossy().into_owned();
    let keygen = Command::new(env!("CARGO_BIN_EXE_metanode"))
        .args(["relay", "keygen", "--out", &key])
        .output();
    assert!(keygen.expect("the binary was built").status.success());
    let peers = format!("[{{name = \"nobody\", public_key = \"{}\"}}]", "11".repeat(32));
    let relaying = ["--bfr-listen", "127.0.0.1:0", "--bfr-key-file", &key, "--bfr-peers", &peers];
    let node = RunningNode::start(&[&["--cores", "1"], &relaying[..]].concat());
    let shown = until_shown(&node);
    assert_eq!(shown["peers"][0]["name"], "nobody");
    assert_eq!(get(&node, "ops", "/health").0, 200);
    let (status, ready) = get(&node, "ops", "/readiness");
    assert_eq!((status, ready.as_str()), (200, r#"{"ready":true,"reasons":[]}"#));
    assert_eq!(get(&node, "ops", "/nothing").0, 404);
    let (status, page) = get(&node, "ops", "/metrics");
    assert_eq!(status, 200);
    reference_is(&page);
    let probe = Command::new("promtool").arg("--version").output();
    if !probe.is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: promtool does not run here; try `cargo xtask setup`");
        return;
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it ran before");
    promtool.stdin.take().expect("piped").write_all(page.as_bytes()).expect("it reads");
    let said = promtool.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && words.is_empty(), "{words}");
}

/// The relay shows its numbers a moment after its first turn.
fn until_shown(node: &RunningNode) -> Value {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (status, text) = get(node, "ops", "/bfr/status");
        let shown: Value = serde_json::from_str(&text).expect("JSON");
        if status == 200 && shown["peers"].as_array().is_some_and(|peers| !peers.is_empty()) {
            return shown;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[derive(Default)]
struct Metric<'a> {
    kind: &'a str,
    help: &'a str,
    labels: BTreeSet<&'a str>,
}

/// With METANODE_BLESS=1 docs/metrics.md is written anew.
fn reference_is(page: &str) {
    let mut metrics: BTreeMap<&str, Metric<'_>> = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and its help");
            metrics.entry(name).or_default().help = help;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and its type");
            metrics.entry(name).or_default().kind = kind;
        } else {
            let (name, labels) = line.split_once(['{', ' ']).expect("a name");
            let metric = metrics.get_mut(name).expect("help stands before samples");
            let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels);
            metric.labels.extend(labels.split(',').filter_map(|l| Some(l.split_once('=')?.0)));
        }
    }
    let mut text = String::from(
        "# Metrics\n\nWritten by a test (`control-plane/tests/http.rs`) from the page of a running node. `GET /metrics` on the ops \
         listener (127.0.0.1:9545) shows it as Prometheus text.\n\nCounters only grow, since the start of the process; gauges go \
         up and down. Times are seconds, sizes are bytes. A tile's own counters carry its name; `index` tells its instances \
         apart. `listener` is `submit`, `rpc` or `ops`. A node that does not relay (`bfr.peers`) has no `metanode_net_`, `metanode_bfr_` \
         and `metanode_relay_`.\n\n| metric | type | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    for (name, Metric { kind, help, labels }) in &metrics {
        let labels: Vec<String> = labels.iter().map(|l| format!("`{l}`")).collect();
        writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).expect("a string");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    if std::env::var_os("METANODE_BLESS").is_some() {
        std::fs::write(path, &text).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == text, "docs/metrics.md is out of date; write it with METANODE_BLESS=1");
}
