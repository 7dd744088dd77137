//! `metanode utxo` on the directory of a node, as an operator meets it: stopped, running, killed, damaged, of another shape.

mod common;

use common::node::{RunningNode, command};
use common::rpc::{ADDRESS, Client};
use common::run;
use load::{Options, Plan, Workload};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

const MEMORY: &[&str] = &["--memory", "4G"];
/// Cores whose layout has one shard, two, and three.
const ONE: &str = "2";

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn rpc(node: &RunningNode) -> Client {
    Client::new(node.address("rpc"), &node.cookie())
}

fn pool(node: &RunningNode) -> BTreeSet<String> {
    let pool = rpc(node).get("getrawmempool", &json!([]));
    pool.as_array().expect("a list").iter().map(|id| id.as_str().expect("an id").into()).collect()
}

/// Transactions that a node can take, chains among them: hexadecimal lines, and their ids.
fn paying(node: &RunningNode, txs: usize, seed: u64) -> (Vec<String>, Vec<String>) {
    let plan = Plan::new(Options { keys: 20, ..Options::new(Workload::OpTrue, txs, seed) });
    let coins = control_plane::load::coins_by_rpc(node.address("rpc"), &node.cookie(), &plan);
    let offer = plan.sign(&coins.expect("regtest pays").coins);
    let lines = offer.iter().map(|tx| hex::encode(tx.bytes)).collect();
    (lines, offer.iter().map(|tx| tx.txid.to_string()).collect())
}

fn post(node: &RunningNode, path: &str, lines: &[String]) {
    let client = Client::new(node.address("submit"), "nobody:needed");
    let reply = client.send_text("POST", path, &lines.join("\n"));
    assert_eq!((reply.status, reply.body.as_str()), (200, "OK"));
}

/// Every file below a folder with its length and the time it was written.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("listable") {
            let entry = entry.expect("listable");
            let meta = entry.metadata().expect("readable");
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                files.insert(entry.path(), (meta.len(), meta.modified().expect("a time")));
            }
        }
    }
    files
}

fn error(object: &Value) -> &str {
    object["error"].as_str().unwrap_or_else(|| panic!("no error in {object}"))
}

/// Cores whose layout has this many shards.
fn cores(shards: usize) -> String {
    let with = |&cores: &usize| dataplane::topo::Layout::for_cores(cores).shard.len() == shards;
    (1..64).find(with).expect("some number of cores has them").to_string()
}

/// The same node with another number of shards, which follows from its cores.
fn start_with(directory: &Path, shards: usize) -> RunningNode {
    let cores = cores(shards);
    let args: Vec<&str> = ["--cores", &cores].into_iter().chain(MEMORY.iter().copied()).collect();
    RunningNode::start_in(directory, &args, None)
}

fn verify(directory: &Path) -> Value {
    let (code, object) = run(&["utxo", "verify", text(directory), "--json"]);
    assert_eq!(code, 0, "{object}");
    object
}

/// Sends one after the other, kills the node amid that, and gives how many were promised to be kept.
fn kill_under_load(node: &mut RunningNode, lines: &[String]) -> usize {
    let client = Client::new(node.address("submit"), "nobody:needed");
    let promised = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for line in lines {
                let reply = client.try_send_text("POST", "/txs?durable=1", line);
                if !reply.is_ok_and(|reply| reply.status == 200) {
                    return;
                }
                promised.fetch_add(1, Ordering::Relaxed);
            }
        });
        while promised.load(Ordering::Relaxed) < lines.len() / 3 && !sender.is_finished() {
            std::thread::yield_now();
        }
        node.kill();
    });
    promised.into_inner()
}

#[test]
fn a_killed_node_is_resharded_and_has_its_coins_its_chain_and_its_pool() {
    let temp = tempfile::tempdir().expect("a folder");
    let directory = temp.path();
    let mut node = start_with(directory, 2);
    let (lines, ids) = paying(&node, 90, 3);
    let (mined, waiting) = lines.split_at(40);
    post(&node, "/txs?durable=1", mined);
    let block = rpc(&node).get("generatetoaddress", &json!([1, ADDRESS]))[0].clone();
    let (waiting, late) = waiting.split_at(20);
    post(&node, "/txs?durable=1", waiting);
    assert_eq!(pool(&node), ids[40..60].iter().cloned().collect());
    let (code, object) = run(&["utxo", "reshard", text(directory), "--shards", "1", "--json"]);
    assert_eq!(code, 1, "{object}");
    let in_use = format!("is in use by process {}", node.pid());
    assert!(error(&object).contains(&in_use), "{object}");
    let acknowledged = kill_under_load(&mut node, late);

    let before = verify(directory);
    assert_eq!(before["shards"], 2, "{before}");
    let unmined = before["unmined"].as_u64().expect("a number") as usize;
    assert!((20 + acknowledged..=50).contains(&unmined), "{acknowledged} were promised: {before}");
    let mut expected: BTreeSet<String> = ids[40..60 + acknowledged].iter().cloned().collect();
    for shards in [1_usize, 3, 1] {
        let number = shards.to_string();
        let args = ["utxo", "reshard", text(directory), "--shards", &number, "--json"];
        let (code, done) = run(&args);
        assert_eq!(code, 0, "{done}");
        assert_eq!((&done["to"], &done["changed"]), (&json!(shards), &json!(true)), "{done}");
        let after = verify(directory);
        for key in ["state_hash", "pool_state_hash", "unmined", "block", "height", "value_sat"] {
            assert_eq!(after[key], before[key], "{key} with {shards} shards");
        }
        assert!(after["epoch"].as_u64() > before["epoch"].as_u64(), "{after}");
        assert!(!directory.join("regtest/utxo.reshard").exists(), "nothing is left over");
        let (code, again) = run(&args);
        assert_eq!((code, &again["changed"]), (0, &json!(false)), "{again}");

        let mut node = start_with(directory, shards);
        let found = pool(&node);
        assert!(found.is_superset(&expected) && found.len() == unmined, "{}", node.log());
        expected = found;
        assert_eq!(rpc(&node).get("getbestblockhash", &json!([])), block);
        node.kill();
    }

    // What came over is no picture: it is mined, taken off the chain, and mined again, blocks of before too.
    let mut node = start_with(directory, 1);
    let newest = rpc(&node).get("generatetoaddress", &json!([1, ADDRESS]))[0].clone();
    let txs = rpc(&node).get("getblock", &json!([newest, 1]))["tx"].clone();
    assert_eq!(txs.as_array().map(Vec::len), Some(unmined + 1), "all are in the block");
    assert!(pool(&node).is_empty());
    rpc(&node).get("invalidateblock", &json!([block]));
    expected.extend(ids[..40].iter().cloned());
    assert_eq!(pool(&node), expected, "{}", node.log());
    node.kill();
    node.restart();
    assert_eq!(pool(&node), expected, "{}", node.log());
    rpc(&node).get("generatetoaddress", &json!([1, ADDRESS]));
    assert!(pool(&node).is_empty());
    node.stop();
    assert_eq!(verify(directory)["unmined"], 0);
}

#[test]
fn a_reshard_that_is_killed_at_any_moment_leaves_a_directory_that_is_whole() {
    let temp = tempfile::tempdir().expect("a folder");
    let directory = temp.path();
    let mut node = start_with(directory, 1);
    let (lines, ids) = paying(&node, 60, 5);
    post(&node, "/txs?durable=1", &lines);
    node.kill();
    let before = verify(directory);
    let reshard = |shards: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metanode"));
        command.args(["utxo", "reshard", text(directory), "--shards", &shards.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let began = Instant::now();
    assert!(reshard(2).status().expect("it runs").success());
    let whole = began.elapsed();
    let mut seen = BTreeSet::new();
    for round in 0..12_u32 {
        let now = verify(directory)["shards"].as_u64().expect("a number");
        let to = if now == 1 { 3 } else { 1 };
        let mut child = reshard(to).spawn().expect("it runs");
        std::thread::sleep(whole * round / 11);
        // SIGINT every third time: that is no other end than a kill.
        if round % 3 == 0 {
            let pid = child.id().to_string();
            let _ = Command::new("kill").args(["-s", "INT", &pid]).status();
        } else {
            let _ = child.kill();
        }
        let _ = child.wait();
        let after = verify(directory);
        for key in ["state_hash", "pool_state_hash", "unmined", "block"] {
            assert_eq!(after[key], before[key], "{key} after round {round}");
        }
        let shards = after["shards"].as_u64().expect("a number");
        assert!(shards == now || shards == to as u64, "round {round}: {now} to {to}, got {shards}");
        seen.insert(shards == now);
    }
    assert!(seen.contains(&true), "no kill was early enough to matter");
    assert!(reshard(1).status().expect("it runs").success());
    assert!(!directory.join("regtest/utxo.reshard").exists(), "nothing is left over");
    let node = start_with(directory, 1);
    assert_eq!(pool(&node), ids.into_iter().collect());
}

#[test]
fn a_node_is_exported_while_it_works_and_the_file_is_its_coins_as_of_a_block() {
    let temp = tempfile::tempdir().expect("a folder");
    let mut node = RunningNode::start(&["--cores", ONE, "--memory", "2G"]);
    let (lines, ids) = paying(&node, 400, 7);
    post(&node, "/txs", &lines[..150]);
    let block = rpc(&node).get("generatetoaddress", &json!([1, ADDRESS]))[0].clone();
    let before = pool(&node).len();
    let directory = node.directory().to_owned();
    let (set, file) = (temp.path().join("set"), temp.path().join("coins.utxo-set"));
    let exporter = {
        let (directory, file) = (directory.clone(), file.clone());
        std::thread::spawn(move || {
            run(&["utxo", "export", text(&directory), text(&file), "--json"])
        })
    };
    // Transactions keep flowing meanwhile, one by one, and none of them waits long.
    let (mut slowest, mut sent) = (Duration::ZERO, 150);
    while !exporter.is_finished() || sent < 200 {
        let began = Instant::now();
        if sent < lines.len() {
            post(&node, "/txs", &lines[sent..=sent]);
            sent += 1;
            slowest = slowest.max(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let (code, exported) = exporter.join().expect("no panic");
    assert_eq!(code, 0, "{exported}");
    assert_eq!((&exported["running"], &exported["block"]), (&json!(true), &block), "{exported}");
    assert!(exported["epoch"].as_u64() > Some(0), "{exported}");
    eprintln!("{exported}; the slowest transaction meanwhile took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "a transaction took {slowest:?}");
    assert_eq!(pool(&node).len(), before + sent - 150, "all of them are in the pool");

    let (code, imported) = run(&["utxo", "import", text(&file), text(&set), "--json"]);
    assert_eq!(code, 0, "{imported}");
    assert_eq!(imported["headers"], exported["headers"]);
    let again = verify(&set);
    assert_eq!(again["block"], block);
    node.kill();
    let killed = verify(&directory);
    assert_eq!(killed["block"], block, "no block came after it");
    assert_eq!(killed["state_hash"], again["state_hash"]);
    assert_eq!(killed["utxos_as_of_tip"], again["utxos"]);
    assert!(killed["epoch"].as_u64() >= exported["epoch"].as_u64(), "{killed} {exported}");
    assert_ne!(killed["state_hash"], killed["pool_state_hash"], "the pool has spent of them");
    // And of the killed one itself.
    let other = temp.path().join("killed.utxo-set");
    let (code, exported) = run(&["utxo", "export", text(&directory), text(&other), "--json"]);
    assert_eq!((code, &exported["running"]), (0, &json!(false)), "{exported}");
    assert_eq!(verify(&other)["state_hash"], again["state_hash"]);
    let headers = |file: &Path| std::fs::read(file.with_extension("utxo-headers")).expect("there");
    assert_eq!(headers(&file), headers(&other));
    let (code, refused) = run(&["utxo", "export", text(&directory), text(&other), "--json"]);
    assert_eq!(code, 1, "{refused}");
    assert!(error(&refused).contains("is there already"), "{refused}");
    assert!(ids.len() > sent || sent == lines.len());
}

#[test]
fn a_directory_is_verified_without_a_write_and_damage_is_named_with_file_and_byte() {
    let mut node = RunningNode::start(&["--cores", ONE, "--memory", "2G"]);
    let (lines, _) = paying(&node, 50, 9);
    post(&node, "/txs?durable=1", &lines);
    node.kill();
    node.restart();
    node.kill();
    let journal = "shard-000/journal-000000000001";
    refused_if_flipped(&node, journal, 100, &format!("{journal} is damaged at byte 0 (Fault"));
    node.restart();
    let epoch = rpc(&node).get("takecheckpoint", &json!([])).as_u64().expect("an epoch");
    let (code, object) = run(&["utxo", "verify", text(node.directory()), "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(error(&object).contains("in use by process"), "{object}");
    node.kill();
    let directory = node.directory().to_owned();
    let utxo = node.folder().join("utxo");
    let before = listing(&directory);
    let said = verify(&directory);
    assert!(said["epoch"].as_u64() >= Some(epoch) && epoch > 0, "{said}");
    assert_eq!((&said["checkpoint"], &said["incarnation"]), (&json!(epoch), &json!(3)), "{said}");
    assert_eq!((&said["unmined"], &said["dangling"]), (&json!(50), &json!(0)), "{said}");
    for path in [&utxo, &node.folder()] {
        let again = verify(path);
        for key in ["epoch", "state_hash", "pool_state_hash", "directory"] {
            assert_eq!(again[key], said[key], "{key} by {}", path.display());
        }
    }
    let (code, inspected) = run(&["utxo", "inspect", text(&directory), "--json"]);
    assert_eq!((code, &inspected["shards"]), (0, &json!(1)), "{inspected}");
    assert_eq!(inspected["checkpoint"], json!(epoch));
    assert_eq!(listing(&directory), before, "nothing was written");

    let slot = if utxo.join("shard-000/checkpoint-1").exists() { 1 } else { 2 };
    let slot = format!("shard-000/checkpoint-{slot}");
    for (name, at, words) in [
        (slot.as_str(), 5_000, "is damaged at byte 0 of shard-000/checkpoint-"),
        ("MANIFEST", 30, "MANIFEST: its checksum is that of other bytes"),
        ("HEADER", 30, "HEADER: its checksum is that of other bytes"),
        ("HEADER", 8, "version 0 of the data directory, expected version 1; run the program that"),
    ] {
        refused_if_flipped(&node, name, at, words);
    }
    verify(&directory);
}

/// Flips a bit of a file, has the directory verified and sent out, and flips it back.
fn refused_if_flipped(node: &RunningNode, name: &str, at: usize, words: &str) {
    let (directory, utxo) = (node.directory(), node.folder().join("utxo"));
    let flip = || {
        let path = utxo.join(name);
        let mut bytes = std::fs::read(&path).expect("it is there");
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).expect("writable");
    };
    flip();
    let file = directory.join("never.utxo-set");
    for args in [
        &["utxo", "verify", text(directory), "--json"][..],
        &["utxo", "export", text(directory), text(&file), "--json"],
        &["utxo", "reshard", text(directory), "--shards", "2", "--json"],
    ] {
        let (code, object) = run(args);
        assert_eq!(code, 1, "{object}");
        assert!(error(&object).contains(words), "{object}");
        assert!(error(&object).contains(text(&utxo)), "{object}");
    }
    assert!(!file.exists(), "nothing is half written");
    flip();
}

#[test]
fn a_node_of_another_number_of_shards_names_the_command_that_changes_it_and_that_works() {
    let temp = tempfile::tempdir().expect("a folder");
    let directory = temp.path();
    start_with(directory, 1).stop();
    let cores = cores(2);
    let args: Vec<String> =
        ["--cores", &cores, "--memory", "4G"].iter().map(|arg| (*arg).to_owned()).collect();
    let refused = command(directory, &args).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let way_out = said.split('`').find(|words| words.starts_with("metanode utxo reshard"));
    let way_out = way_out.unwrap_or_else(|| panic!("no command in {said}"));
    let words: Vec<&str> = way_out.split(' ').skip(1).chain(["--json"]).collect();
    let (code, done) = run(&words);
    assert_eq!((code, &done["to"]), (0, &json!(2)), "{done}");
    start_with(directory, 2).stop();
}

#[test]
fn what_is_no_directory_of_a_node_is_told_what_would_be_one() {
    let temp = tempfile::tempdir().expect("a folder");
    let path = text(temp.path());
    let (code, object) = run(&["utxo", "reshard", path, "--shards", "2", "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(error(&object).contains("holds no UTXO set of a node"), "{object}");
    let (code, object) = run(&["utxo", "verify", path, "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(error(&object).contains("no node's coins (a file utxo/HEADER)"), "{object}");
    let (code, object) = run(&["utxo", "reshard", path, "--shards", "257", "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(error(&object).contains("--shards 257 cannot be, expected 1 to 256"), "{object}");
    for network in ["regtest", "stn"] {
        let utxo = temp.path().join(network).join("utxo");
        std::fs::create_dir_all(&utxo).expect("writable");
        std::fs::write(utxo.join("HEADER"), b"rubbish").expect("writable");
    }
    let (code, object) = run(&["utxo", "verify", path, "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(error(&object).contains("coins of several networks"), "{object}");
    let one = temp.path().join("stn");
    let (code, object) = run(&["utxo", "reshard", text(&one), "--shards", "2", "--json"]);
    assert_eq!(code, 1, "{object}");
    assert!(error(&object).contains("does not begin as the header of a UTXO set"), "{object}");
}
