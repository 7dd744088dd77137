//! `metanode demo` as a user runs it, and its dump as a foreign script would read it.

mod common;

use common::run;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

fn demo(workload: &str, txs: &str, more: &[&str]) -> Value {
    let mut args = vec!["demo", "--json", "--txs", txs, "--workload", workload, "--seed", "7"];
    args.extend(["--keys", "500"]);
    args.extend(more);
    let (code, object) = run(&args);
    assert_eq!(code, 0, "{workload}: {object}");
    object
}

#[test]
fn every_workload_reconciles_and_every_fault_is_found() {
    for workload in ["p2pkh", "chain", "optrue", "data", "mixed"] {
        let object = demo(workload, "1500", &[]);
        let count =
            |key: &str| object[key].as_u64().unwrap_or_else(|| panic!("no {key}: {object}"));
        let rejected: u64 = object["rejected"]
            .as_object()
            .expect("by verdict")
            .values()
            .filter_map(Value::as_u64)
            .sum();
        let ends = ["accepted", "shed", "duplicates", "orphans_expired", "in_flight_end"];
        let sum: u64 = ends.iter().map(|key| count(key)).sum::<u64>() + rejected;
        assert_eq!(count("offered"), sum, "{workload}: {object}");
        assert_eq!(object["reconciled"], true);
        for (kind, n) in object["injected"].as_object().expect("by kind") {
            assert_eq!(n["sent"], n["found"], "{workload}: {kind}");
        }
        assert!(count("accepted") >= 1_500);
        assert!(object["blocks"].as_array().is_some_and(|b| b.len() > 101));
        let keys = [
            "tx_per_s",
            "latency_us",
            "candidate_ms",
            "kernel",
            "keys_distinct",
            "tiles",
            "schema",
            "ok",
            "commit",
            "machine",
            "seed",
            "elapsed_s",
            "aims",
            "skipped",
        ];
        for key in keys {
            assert!(!object[key].is_null(), "{workload}: no {key}");
        }
    }
}

#[test]
fn the_dump_holds_blocks_that_verify_and_verdicts_that_name_their_winners() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().to_str().expect("a plain path");
    let object = demo("mixed", "1000", &["--dump", path]);
    let blocks = object["blocks"].as_array().expect("a list");
    let mut mined = HashMap::new();
    for block in blocks {
        let file = dir.path().join(block["file"].as_str().expect("a file name"));
        let raw = std::fs::read(&file).expect("dumped");
        let view = consensus::block::BlockView::parse(&raw).expect("a block");
        assert_eq!(block["hash"], view.hash().to_string());
        for txid in view.txids().expect("a block") {
            mined.insert(txid.to_string(), block["height"].clone());
        }
        let coins = file.with_extension("coins.jsonl");
        if coins.exists() {
            verify(&file, &coins, &block["height"]);
            // The file with all sections serves as well: the height picks the section.
            verify(&file, &dir.path().join("coins.jsonl"), &block["height"]);
        }
    }
    let verdicts = std::fs::read_to_string(dir.path().join("verdicts.jsonl")).expect("dumped");
    let mut lines = 0;
    for line in verdicts.lines() {
        let row: Value = serde_json::from_str(line).expect("an object a line");
        lines += 1;
        let txid = row["txid"].as_str().expect("a txid");
        match row["verdict"].as_str().expect("a verdict") {
            "accepted" => assert!(mined.contains_key(txid), "{txid} is accepted and in no block"),
            "double_spend" => {
                let winner = row["winner"].as_str().expect("a winner");
                assert!(mined.contains_key(winner) && !mined.contains_key(txid));
            }
            _ => {}
        }
    }
    assert_eq!(object["offered"], lines);
}

fn verify(block: &Path, coins: &Path, height: &Value) {
    let (block, coins) = (block.to_str().expect("plain"), coins.to_str().expect("plain"));
    let height = height.to_string();
    let args = ["verify-block", "--block", block, "--coins", coins, "--height", &height];
    let mut args = args.to_vec();
    args.extend(["--network", "regtest", "--json"]);
    let (code, object) = run(&args);
    assert_eq!(code, 0, "{object}");
}

#[test]
fn the_same_seed_gives_the_same_blocks() {
    let blocks = |object: &Value| object["blocks"].as_array().map(|b| b[100]["hash"].clone());
    let (a, b) = (demo("p2pkh", "300", &[]), demo("p2pkh", "300", &[]));
    assert_eq!(blocks(&a), blocks(&b));
}

#[test]
fn the_table_is_sound_for_machines_of_every_size() {
    for cores in ["1", "2", "3", "4", "8", "16", "32", "64"] {
        let (code, object) = run(&["topo", "--cores", cores, "--json"]);
        assert_eq!(code, 0, "{cores} cores");
        assert_eq!(object["cores"].to_string(), cores);
    }
    for args in [&["topo"][..], &["topo", "--dot", "--cores", "8"]] {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_metanode")).args(args).output();
        let out = out.expect("the binary was built");
        assert!(out.status.success() && out.stdout.len() > 500, "{args:?}");
    }
}
