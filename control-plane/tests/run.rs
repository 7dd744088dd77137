//! `metanode run` as an operator meets it: start, second start, stop, kill, restart, and mistakes on the command line.

mod common;

use common::node::{RunningNode, command};
use std::time::Duration;

#[test]
fn a_second_process_is_refused_and_told_the_first_and_a_killed_one_leaves_no_lock() {
    let mut node = RunningNode::start(&[]);
    let second = command(node.directory(), &[]).output().expect("it runs");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("in use by process {}", node.pid())), "{said}");
    node.kill();
    node.restart();
    let took = node.stop();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(!node.folder().join("node.json").exists());
}

#[test]
fn an_interrupt_ends_it_within_two_seconds_and_it_starts_again() {
    let mut node = RunningNode::start(&[]);
    node.signal("INT");
    let (status, took) = node.wait();
    assert!(status.success() && took < Duration::from_secs(2), "{status} {took:?}\n{}", node.log());
    node.restart();
    node.stop();
}

#[test]
fn the_level_of_the_log_is_read_again_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("metanode.toml");
    std::fs::write(&file, "[log]\nlevel = \"info\"\nformat = \"json\"\n").expect("a file");
    let mut node = RunningNode::start(&["--config", file.to_str().expect("UTF-8")]);
    let lines: Vec<serde_json::Value> = node
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .collect();
    let ready = lines.iter().find(|line| line["message"] == "ready").expect("it says so");
    assert_eq!(ready["level"], "INFO");
    assert!(ready["started_ms"].is_u64(), "{ready}");

    std::fs::write(&file, "[log]\nlevel = \"error\"\nformat = \"json\"\n").expect("a file");
    let before = node.log().len();
    node.signal("HUP");
    std::thread::sleep(Duration::from_millis(500));
    node.stop();
    let after = &node.log()[before..];
    assert!(!after.contains("stopping"), "info is off: {after}");

    std::fs::write(&file, "[log]\nlevel = \"loud\"\n").expect("a file");
    let refused = command(folder.path(), &["--config".into(), file.display().to_string()]).output();
    let refused = refused.expect("it runs");
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("log.level: got `loud`, expected LEVELS"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_written_and_a_flag_that_does_not_exist_are_told() {
    let refused = command("/proc/nowhere".as_ref(), &[]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("creating /proc/nowhere/regtest") && said.contains("--data-dir"),
        "{said}"
    );

    let folder = tempfile::tempdir().expect("a folder");
    let refused = command(folder.path(), &["--rpc-listn=1".into()]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--rpc-listen"), "{said}");
}

#[test]
fn the_default_file_is_printed_and_what_is_in_effect_says_where_it_came_from() {
    let metanode = |args: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_metanode"))
            .arg("config")
            .args(args)
            .env("METANODE_RPC_PORT", "18332")
            .output()
            .expect("it runs")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("metanode.toml");
    std::fs::write(&file, metanode(&["--default"]).stdout).expect("a file");
    let out = metanode(&["--json", "--log-level=warn", "--config", file.to_str().expect("UTF-8")]);
    assert!(out.status.success());
    let object: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one object");
    let row = |key: &str| {
        let rows = object["settings"].as_array().expect("rows");
        rows.iter().find(|row| row["key"] == key).cloned().unwrap_or_else(|| panic!("no {key}"))
    };
    let said = |key: &str| (row(key)["value"].clone(), row(key)["from"].clone());
    assert_eq!(said("rpc.listen"), ("127.0.0.1:18332".into(), "METANODE_RPC_PORT".into()));
    assert_eq!(said("log.level"), ("warn".into(), "flag".into()));
    assert_eq!(said("network"), ("regtest".into(), "default".into()));
}
