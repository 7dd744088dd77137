//! JSON-RPC of a running node, as clients meet it: who may call, batches, what goes wrong, and everything a hostile client
//! can write into a parameter.

mod common;

use common::node::RunningNode;
use common::rpc::{ADDRESS, Client};
use control_plane::rpc::{Access, METHODS};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn client(node: &RunningNode) -> Client {
    Client::new(node.address("rpc"), &node.cookie())
}

#[test]
fn a_miner_and_a_reader_agree_and_stop_ends_the_node() {
    let mut node = RunningNode::start(&[]);
    let rpc = client(&node);
    assert_eq!(rpc.get("getblockcount", &json!([])), 0);
    let hashes = rpc.get("generatetoaddress", &json!([3, ADDRESS]));
    assert_eq!(hashes.as_array().map(Vec::len), Some(3));
    assert_eq!(rpc.get("getbestblockhash", &json!([])), hashes[2]);
    assert_eq!(rpc.get("getblockhash", &json!({"height": 2})), hashes[1]);
    let block = rpc.get("getblock", &json!([hashes[0], 2]));
    assert_eq!(block["confirmations"], 3);
    assert_eq!(block["tx"][0]["vout"][0]["value"], 50.0);
    let txid = &block["tx"][0]["txid"];
    let again = rpc.get("getrawtransaction", &json!([txid, true]));
    assert_eq!((&again["blockhash"], &again["hex"]), (&hashes[0], &block["tx"][0]["hex"]));
    let coin = rpc.get("gettxout", &json!([txid, 0]));
    assert_eq!((&coin["confirmations"], &coin["coinbase"]), (&json!(3), &json!(true)));
    let text = rpc.post(&json!({"method": "gettxout", "params": [txid, 0]}).to_string()).body;
    assert!(text.contains("\"value\":50.00000000,"), "{text}");
    assert_eq!(rpc.get("gettxout", &json!([txid, 1])), Value::Null);
    assert_eq!(rpc.get("stop", &json!([])), "MetaNode stopping");
    let (status, _) = node.wait();
    assert!(status.success(), "{status}\n{}", node.log());
    assert!(!node.folder().join(".cookie").exists());
}

#[test]
fn only_submitting_is_open_and_wrong_credentials_wait() {
    let node = RunningNode::start(&[]);
    let rpc = client(&node);
    let (nobody, stranger) = (rpc.nobody(), rpc.with("__cookie__:guess"));
    for method in METHODS {
        let body =
            json!({"id": 1, "method": method.name, "params": {"no such parameter": 1}}).to_string();
        let reply = nobody.post(&body);
        if method.access == Access::Open {
            assert_eq!(reply.json()["error"]["code"], -8, "{}", method.name);
        } else {
            assert_eq!((reply.status, reply.body.as_str()), (401, ""), "{}", method.name);
            assert!(
                reply.head.to_lowercase().contains("www-authenticate: basic realm=\"jsonrpc\"")
            );
        }
    }
    let began = Instant::now();
    assert_eq!(
        stranger.post("{\"method\":\"sendrawtransaction\",\"params\":[\"00\"]}").status,
        401
    );
    assert!(began.elapsed() >= Duration::from_millis(250));
    // One call that needs the user makes the whole batch need it, and so does what is no call.
    for body in [
        "[{\"method\":\"sendrawtransaction\",\"params\":[\"00\"]},{\"method\":\"stop\"}]",
        "{",
        "[]",
        "{\"method\":\"nope\"}",
    ] {
        assert_eq!(nobody.post(body).status, 401, "{body}");
    }
    let body = "[{\"method\":\"sendrawtransaction\",\"params\":[\"00\"]},{\"method\":\"sendrawtransaction\",\"params\":[\"zz\"]}]";
    let answers = nobody.post(body).json();
    assert_eq!(
        (&answers[0]["error"]["code"], &answers[1]["error"]["code"]),
        (&json!(-22), &json!(-22))
    );
    assert_eq!(rpc.get("getblockcount", &json!([])), 0);
}

#[test]
fn http_and_envelopes_are_answered_as_bitcoind_answers_them() {
    let node = RunningNode::start(&["--rpc-batch-max=10"]);
    let rpc = client(&node);
    // Status and body, seen from SV Node 1.0.13.
    let rows: [(&str, u16, &str); 12] = [
        (
            r#"{"method":"getblockcount","params":[]}"#,
            200,
            r#"{"result":0,"error":null,"id":null}"#,
        ),
        (
            r#"{"id":"abc","method":"getblockcount"}"#,
            200,
            r#"{"result":0,"error":null,"id":"abc"}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":{"a":1.50},"method":"getblockcount","params":{}}"#,
            200,
            r#"{"result":0,"error":null,"id":{"a":1.50}}"#,
        ),
        ("{", 500, r#"{"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null}"#),
        ("", 500, r#"{"result":null,"error":{"code":-32700,"message":"Parse error"},"id":null}"#),
        ("[]", 200, "[]"),
        (
            "5",
            500,
            r#"{"result":null,"error":{"code":-32700,"message":"Top-level object parse error"},"id":null}"#,
        ),
        (
            r#"{"id":1}"#,
            400,
            r#"{"result":null,"error":{"code":-32600,"message":"Missing method"},"id":1}"#,
        ),
        (
            r#"{"id":1,"method":5}"#,
            400,
            r#"{"result":null,"error":{"code":-32600,"message":"Method must be a string"},"id":1}"#,
        ),
        (
            r#"{"id":1,"method":"nope","params":[]}"#,
            404,
            r#"{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":1}"#,
        ),
        (
            r#"{"id":1,"method":"getblockhash","params":[99]}"#,
            500,
            r#"{"result":null,"error":{"code":-8,"message":"Block height out of range"},"id":1}"#,
        ),
        (
            r#"[{"id":1,"method":"nope"},{"id":2,"method":"getblockcount"},5]"#,
            200,
            r#"[{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":1},{"result":0,"error":null,"id":2},{"result":null,"error":{"code":-32600,"message":"Invalid Request object"},"id":null}]"#,
        ),
    ];
    for (body, status, answer) in rows {
        let reply = rpc.post(body);
        assert_eq!(
            (reply.status, reply.body.as_str()),
            (status, format!("{answer}\n").as_str()),
            "{body}"
        );
        assert!(
            reply.head.to_lowercase().contains("content-type: application/json"),
            "{}",
            reply.head
        );
    }
    let get = rpc.send("GET", "/", "");
    assert_eq!((get.status, get.body.as_str()), (405, "JSONRPC server handles only POST requests"));
    assert_eq!(rpc.send("POST", "/x", rows[0].0).status, 404);
    assert_eq!(rpc.send("POST", "/wallet/", rows[0].0).status, 200);
    let many = format!("[{}]", [r#"{"method":"uptime"}"#; 11].join(","));
    assert_eq!(rpc.post(&many).status, 400);
}

/// Values of every type, and texts that look like what a method wants.
fn hostile_values() -> Vec<Value> {
    let long = "f".repeat(100_000);
    let texts = [
        "",
        "0",
        "zz",
        "\u{0}",
        "-1",
        "é",
        ADDRESS,
        &"00".repeat(32),
        &"ff".repeat(32),
        &"0".repeat(63),
        &long,
    ];
    let mut values: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    values.extend([
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e300),
        json!([]),
        json!([[]]),
        json!([null]),
        json!(["00"]),
        json!([{"hex": "00"}]),
        json!([{"tx": "00", "n": -1}]),
        json!({}),
        json!({"": {}}),
        json!({"id": "00000000-0000-0000-0000-000000000000", "nonce": 1, "coinbase": "00"}),
        json!({"mode": "proposal", "data": "00"}),
        json!({"longpollid": "x"}),
    ]);
    values
}

#[test]
fn no_value_in_any_parameter_of_any_method_hurts_the_node() {
    let mut node = RunningNode::start(&[]);
    let rpc = client(&node);
    rpc.get("generatetoaddress", &json!([2, ADDRESS]));
    let values = hostile_values();
    let mut calls = 0;
    for method in METHODS.iter().filter(|method| method.name != "stop") {
        for at in 0..=method.params.len() {
            for value in &values {
                // Mining for minutes and a clock that stands somewhere else are what was asked for.
                let mines =
                    method.name.starts_with("generate") && value.as_f64().is_some_and(|n| n > 5.0);
                if mines
                    || (method.name == "setmocktime" && value.as_f64().is_some_and(|n| n > 0.0))
                {
                    continue;
                }
                let mut params: Vec<Value> =
                    method.params.iter().take(at).map(|_| json!("00")).collect();
                params.push(value.clone());
                let reply = rpc.post(
                    &json!({"id": calls, "method": method.name, "params": params}).to_string(),
                );
                let answer = reply.json();
                assert_eq!(answer["id"], calls, "{} {value}", method.name);
                assert_eq!(answer["error"].is_null(), reply.status == 200, "{}", reply.body);
                assert!(reply.body.len() < 1_000_000);
                if let Some(message) = answer["error"]["message"].as_str() {
                    assert!(
                        message.len() < 4_000 && !message.is_empty(),
                        "{} {message}",
                        method.name
                    );
                    assert_ne!(
                        answer["error"]["code"], -32603,
                        "{} {value}: {message}",
                        method.name
                    );
                }
                calls += 1;
            }
        }
    }
    assert!(calls > 2_000, "{calls} calls");
    assert!(rpc.get("getblockcount", &json!([])).as_u64() >= Some(2));
    node.stop();
}

#[test]
fn deep_wide_and_broken_requests_are_refused_at_once() {
    let mut node = RunningNode::start(&[]);
    let rpc = client(&node);
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let bodies = [
        deep(1_000_000),
        "[".repeat(1_000_000),
        "{\"a\":".repeat(500_000),
        format!("{{\"id\":{},\"method\":\"uptime\"}}", deep(100)),
        format!("{{\"method\":\"uptime\",\"params\":{}}}", deep(100)),
        format!("{{\"method\":\"uptime\",\"id\":\"{}\"}}", "x".repeat(100_000)),
        format!("[{}{{}}]", "{},".repeat(500_000)),
        format!("{{\"method\":\"{}\"}}", "x".repeat(1_000_000)),
        "\u{0}".repeat(1_000_000),
        "\"".repeat(1_000_001),
    ];
    for body in &bodies {
        let began = Instant::now();
        let reply = rpc.post(body);
        assert!(
            reply.status >= 400 && reply.body.len() < 1_000,
            "{} {}",
            reply.status,
            &body[..40]
        );
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    assert!(rpc.get("uptime", &json!([])).is_u64());
    node.stop();
}

#[test]
fn a_long_poll_answers_with_the_next_block() {
    let mut node = RunningNode::start(&[]);
    let rpc = client(&node);
    let first = rpc.get("getblocktemplate", &json!([]));
    assert_eq!(first["height"], 1);
    let id = first["longpollid"].clone();
    let waits = std::thread::spawn({
        let rpc = rpc.clone();
        move || rpc.get("getblocktemplate", &json!([{"longpollid": id}]))
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(!waits.is_finished(), "it answered although nothing had changed");
    rpc.get("generatetoaddress", &json!([1, ADDRESS]));
    let second = waits.join().expect("an answer");
    assert_eq!(second["height"], 2);
    // A node that stops lets its long polls go.
    let third = std::thread::spawn({
        let rpc = rpc.clone();
        move || rpc.call("getblocktemplate", &json!([{"longpollid": second["longpollid"]}]))
    });
    std::thread::sleep(Duration::from_millis(300));
    node.stop();
    assert_eq!(third.join().expect("an answer").expect_err("no template").0, -9);
}

#[test]
fn a_candidate_is_solved_with_its_own_coinbase_and_with_another() {
    let mut node = RunningNode::start(&[]);
    let rpc = client(&node);
    let candidate = rpc.get("getminingcandidate", &json!([true]));
    assert_eq!((&candidate["height"], &candidate["num_tx"]), (&json!(1), &json!(1)));
    assert_eq!(candidate["coinbaseValue"], 5_000_000_000u64);
    assert!(candidate["coinbase"].is_string());
    let id = &candidate["id"];
    let solve = |more: Value| {
        for nonce in 0..1_000 {
            let mut solution = json!({"id": id, "nonce": nonce});
            more.as_object()
                .into_iter()
                .flatten()
                .for_each(|(key, value)| solution[key] = value.clone());
            let said = rpc.get("submitminingsolution", &json!([solution]));
            if said != "high-hash" {
                return said;
            }
        }
        panic!("no nonce of a thousand solves regtest");
    };
    assert_eq!(solve(json!({"time": 5})), "time-too-old");
    assert_eq!(solve(json!({})), true);
    assert_eq!(rpc.get("getblockcount", &json!([])), 1);
    // A candidate that was mined is gone.
    let solution = |nonce: u32| json!([{"id": id, "nonce": nonce}]);
    let again = (0..1_000).map(|nonce| rpc.call("submitminingsolution", &solution(nonce)));
    let said = again.into_iter().find(|said| *said != Ok(json!("high-hash")));
    assert_eq!(said.expect("a nonce that solves it").expect_err("it is gone").0, -1);
    assert_eq!(rpc.get("getblockcount", &json!([])), 1);
    node.stop();
}
