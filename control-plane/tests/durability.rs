//! What outlives a kill, as a user of the node meets it: promises, what they are not, and a directory that does not fit.

mod common;

use common::node::{RunningNode, command};
use common::rpc::{ADDRESS, Client};
use load::{Options, Plan, Workload};
use serde_json::json;
use siphasher::sip::SipHasher13;
use std::collections::BTreeSet;
use std::hash::Hasher;
use std::io::Write;

/// A node that can pay, and what it pays with: hexadecimal lines, and the ids.
fn paying(node: &RunningNode, txs: usize) -> (Vec<String>, BTreeSet<String>) {
    let plan = Plan::new(Options { keys: 20, ..Options::new(Workload::OpTrue, txs, 3) });
    let coins = control_plane::load::coins_by_rpc(node.address("rpc"), &node.cookie(), &plan);
    let offer = plan.sign(&coins.expect("regtest pays").coins);
    let lines = offer.iter().map(|tx| hex::encode(tx.bytes)).collect();
    (lines, offer.iter().map(|tx| tx.txid.to_string()).collect())
}

fn post(node: &RunningNode, path: &str, lines: &[String]) -> common::rpc::Reply {
    let client = Client::new(node.address("submit"), "nobody:needed");
    client.send_text("POST", path, &lines.join("\n"))
}

fn pool(node: &RunningNode) -> BTreeSet<String> {
    let client = Client::new(node.address("rpc"), &node.cookie());
    let pool = client.get("getrawmempool", &json!([]));
    pool.as_array().expect("a list").iter().map(|id| id.as_str().expect("an id").into()).collect()
}

#[test]
fn what_was_acknowledged_as_durable_is_in_the_pool_after_a_kill_and_can_be_mined() {
    let mut node = RunningNode::start(&["--memory", "2G"]);
    let (lines, ids) = paying(&node, 60);
    let reply = post(&node, "/txs?durable=1", &lines);
    assert_eq!((reply.status, reply.body.as_str()), (200, "OK"));
    assert_eq!(pool(&node), ids);
    let client = Client::new(node.address("rpc"), &node.cookie());
    let tip = client.get("getbestblockhash", &json!([]));
    node.kill();
    node.restart();
    assert_eq!(pool(&node), ids, "{}", node.log());
    let client = Client::new(node.address("rpc"), &node.cookie());
    assert_eq!(client.get("getbestblockhash", &json!([])), tip);
    let blocks = client.get("generatetoaddress", &json!([1, ADDRESS]));
    let block = client.get("getblock", &json!([blocks[0], 1]));
    assert_eq!(block["tx"].as_array().map(Vec::len), Some(ids.len() + 1), "all are in the block");
    assert!(pool(&node).is_empty());
    // And once more: what was mined stays mined.
    node.kill();
    node.restart();
    assert!(pool(&node).is_empty());
    let client = Client::new(node.address("rpc"), &node.cookie());
    assert_eq!(client.get("getbestblockhash", &json!([])), blocks[0]);
    client.get("invalidateblock", &json!([blocks[0]]));
    assert_eq!(pool(&node), ids, "a recovered block can be taken off the chain");
    let again = post(&node, "/txs", &lines);
    assert_eq!(again.status, 200, "they are known: {}", again.body);
    node.stop();
    node.restart();
    assert_eq!(pool(&node), ids, "and a stop keeps them as well");
}

// Found by `bench crash`: the whole chain was taken back, and the pool with it.
#[test]
fn a_kill_between_the_word_against_a_block_and_its_removal_takes_back_that_block_and_nothing_else()
{
    let mut node = RunningNode::start(&["--memory", "2G"]);
    let (lines, ids) = paying(&node, 20);
    assert_eq!(post(&node, "/txs?durable=1", &lines).status, 200);
    let client = Client::new(node.address("rpc"), &node.cookie());
    let below = client.get("getbestblockhash", &json!([]));
    let tip = client.get("generatetoaddress", &json!([1, ADDRESS]))[0].clone();
    assert!(pool(&node).is_empty(), "all are in the block");
    node.kill();
    // What `invalidateblock` writes first, as chain/files.rs draws it.
    let mut record = vec![0; 88];
    record[0] = 2;
    let mut hash = hex::decode(tip.as_str().expect("a hash")).expect("hex");
    hash.reverse();
    record[8..40].copy_from_slice(&hash);
    let mut sum = SipHasher13::new_with_keys(0x6d65_7461_6e6f_6465, 0x6368_6169_6e66_696c);
    sum.write(&record);
    record.extend_from_slice(&sum.finish().to_le_bytes());
    let headers = node.folder().join("chain/headers.dat");
    let mut headers = std::fs::File::options().append(true).open(headers).expect("its headers");
    headers.write_all(&record).expect("writable");
    node.restart();
    let client = Client::new(node.address("rpc"), &node.cookie());
    assert_eq!(client.get("getbestblockhash", &json!([])), below, "{}", node.log());
    assert_eq!(pool(&node), ids, "what was in the block is the pool's again");
    node.kill();
    node.restart();
    assert_eq!(pool(&node), ids);
}

#[test]
fn a_node_without_a_promise_says_so_and_drops_its_pool() {
    let mut node = RunningNode::start(&["--memory", "2G", "--durability", "none"]);
    let (lines, ids) = paying(&node, 5);
    let reply = post(&node, "/txs?durable=1", &lines);
    assert_eq!(reply.status, 400, "{}", reply.body);
    assert!(reply.body.contains("--durability none"), "{}", reply.body);
    assert_eq!(pool(&node), ids, "they are accepted all the same");
    node.kill();
    node.restart();
    assert!(pool(&node).is_empty());
    assert!(!node.folder().join("utxo").exists(), "no journal is kept");
}

#[test]
fn journals_of_another_number_of_shards_are_refused_and_the_way_out_is_named() {
    let mut node = RunningNode::start(&["--cores", "2", "--memory", "2G"]);
    node.stop();
    let args = ["--cores", "5", "--memory", "4G"].map(str::to_owned);
    let refused = command(node.directory(), &args).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let folder = node.folder().join("utxo");
    let has = format!("opening {}: it has 1 shards, expected 2", folder.display());
    let way_out = format!("run `metanode utxo reshard {} --shards 2`", folder.display());
    assert!(said.contains(&has) && said.contains(&way_out), "{said}");
}
