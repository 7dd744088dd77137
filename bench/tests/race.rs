//! The race as its users run it: it ends in order when it is told to, and TCP keeps its share of a line beside our relay.
//!
//! In: the program, a signal. Out: what is left of it, which must be nothing, and what it says, which must agree with itself. Without root
//! every test says why it is skipped.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn is_skipped() -> bool {
    let why = emulator::available().err();
    if let Some(why) = &why {
        eprintln!("skipped: {why}");
    }
    why.is_some()
}

fn left_over(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Whether a node of the race with this prefix runs.
fn runs_a_node(prefix: &str) -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok()).any(|line| {
        let line = String::from_utf8_lossy(&line);
        line.contains("relay-node") && line.contains(prefix)
    })
}

#[test]
fn a_race_that_is_interrupted_says_what_it_has_and_leaves_nothing_behind() {
    if is_skipped() {
        return;
    }
    let prefix = format!("mnti{}", std::process::id());
    let mut race = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["relay", "--only", "1 hop 20%", "--json", "--prefix", &prefix])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut err = BufReader::new(race.stderr.take().expect("piped"));
    let mut said = String::new();
    // A whole row is there, and the next one is under way.
    while !said.contains("relay: 1 of ") {
        assert!(err.read_line(&mut said).is_ok_and(|got| got > 0), "it ended early: {said}");
    }
    assert!(!left_over(&prefix).is_empty() && runs_a_node(&prefix), "{said}");
    let began = Instant::now();
    let told = Command::new("kill").args(["-INT", &race.id().to_string()]).status();
    assert!(told.is_ok_and(|status| status.success()));
    err.read_to_string(&mut said).expect("text");
    let mut out = String::new();
    race.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    let code = race.wait().expect("it ended").code();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(code, Some(1), "{said}");
    assert!(left_over(&prefix).is_empty() && !runs_a_node(&prefix), "{:?}", left_over(&prefix));
    let evidence: Value =
        serde_json::from_str(out.lines().last().unwrap_or_default()).expect("one object");
    assert_eq!((&evidence["ok"], &evidence["error"]), (&false.into(), &"interrupted".into()));
    let rows = evidence["rows"].as_array().expect("rows");
    assert!(!rows.is_empty() && rows.len() <= 2, "{rows:?}");
    assert_eq!(rows[0]["runs"], 30);
    let table = said.rsplit("what there is:").next().unwrap_or_default();
    assert!(said.contains("interrupted when 1 of "), "{said}");
    assert_eq!(table.trim().lines().count(), 1 + rows.len(), "a head and the rows: {table}");
}

#[test]
fn tcp_keeps_at_least_three_tenths_of_a_line_that_it_shares_with_our_relay() {
    if is_skipped() {
        return;
    }
    let prefix = format!("mntf{}", std::process::id());
    let out = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["relay", "--quick", "--only", "fairness", "--json", "--prefix", &prefix])
        .output()
        .expect("it runs");
    let (said, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}\n{err}");
    let evidence: Value =
        serde_json::from_str(said.lines().last().unwrap_or_default()).expect("one object");
    let rows = evidence["fairness"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "cubic and BBR: {rows:?}");
    for row in rows {
        let share_pct = row["tcp_share_pct"].as_f64().expect("a number");
        let ours = row["bfr_mbit"].as_f64().expect("a number");
        assert!(share_pct >= 30.0 && ours > 1.0, "{row}");
    }
    assert!(left_over(&prefix).is_empty());
}
