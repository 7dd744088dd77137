//! `metanode load` as its users run it, against a server that plays a node by a rule everybody can check.

mod common;

use common::run;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Status line and body for the request of a number; `None` closes the connection.
type Rule = dyn Fn(u64, &[u8]) -> Option<(&'static str, String)>;

/// What a scripted node has seen.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Answers every request with what `rule` makes of its body: status line and body. `None` closes the connection.
fn scripted(
    rule: impl Fn(u64, &[u8]) -> Option<(&'static str, String)> + Send + Sync + 'static,
) -> (u16, Arc<Seen>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Arc::new(Seen::default());
    let (rule, noted) = (Arc::new(rule), seen.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (rule, noted) = (rule.clone(), noted.clone());
            std::thread::spawn(move || serve(stream, &*rule, &noted));
        }
    });
    (port, seen)
}

fn serve(stream: TcpStream, rule: &Rule, seen: &Seen) {
    let mut out = stream.try_clone().expect("a second handle");
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let number = seen.requests.fetch_add(1, Ordering::Relaxed);
        seen.bytes.fetch_add(length as u64, Ordering::Relaxed);
        let Some((status, text)) = rule(number, &body) else { return };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", text.len());
        if out.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

/// A file of `count` lines, each `NNNNNN` in hex: the number can be read from the body.
fn numbered(folder: &tempfile::TempDir, count: u32) -> String {
    let lines: Vec<String> = (0..count).map(|i| format!("{i:08x}")).collect();
    let path = folder.path().join("txs.hex");
    std::fs::write(&path, lines.join("\n")).expect("written");
    path.to_str().expect("text").to_owned()
}

fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(body.try_into().expect("four bytes"))
}

#[test]
fn every_transaction_sent_is_accepted_rejected_or_an_error_and_the_report_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = numbered(&folder, 1_000);
    // Every tenth is refused, one in a hundred meets overload, one closes the connection.
    let (port, seen) = scripted(|_, body| match number(body) {
        555 => None,
        n if n % 100 == 7 => Some(("429 Too Many Requests", "slow down".into())),
        n if n % 10 == 3 => Some(("422 Unprocessable Entity", "missing-inputs".into())),
        _ => Some(("200 OK", "OK".into())),
    });
    let target = format!("http://127.0.0.1:{port}");
    let args = ["load", "--target", &target, "--file", &file, "--json", "--connections", "3"];
    let (exit, seen_json) = run(&args);
    assert_eq!(exit, 0, "{seen_json}");
    assert_eq!(seen_json["sent"], 1_000);
    assert_eq!(seen_json["rejected"], 100);
    assert_eq!(seen_json["errors"], 11);
    assert_eq!(seen_json["accepted"], 889);
    assert_eq!(seen_json["reasons"]["422 missing-inputs"], 100);
    assert_eq!(seen_json["connections_opened"], 4, "one was closed and opened again");
    assert_eq!(seen.requests.load(Ordering::Relaxed), 1_000);
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 4_000);
    assert!(seen_json["ceiling_tx_per_s"].as_f64().is_some_and(|rate| rate > 100.0));
    let series = seen_json["series"].as_array().expect("a series");
    let sum: u64 = series.iter().map(|second| second["accepted"].as_u64().unwrap_or(0)).sum();
    assert_eq!(sum, 889, "the seconds add up to the whole");
}

#[test]
fn latency_counts_from_the_intended_time_so_one_stall_is_felt_by_all_that_were_due_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = numbered(&folder, 400);
    let (port, _) = scripted(|_, body| {
        if number(body) == 100 {
            std::thread::sleep(Duration::from_millis(500));
        }
        Some(("200 OK", "OK".into()))
    });
    let target = format!("http://127.0.0.1:{port}");
    let args = ["load", "--target", &target, "--file", &file, "--json", "--connections", "1"];
    let rate = ["--rate", "200", "--duration", "10", "--no-ceiling"];
    let (_, seen) = run(&[&args[..], &rate[..]].concat());
    assert_eq!(seen["accepted"], 400, "{seen}");
    // 200 a second: a hundred were due in the half second. A generator that waits with its clock would show one.
    let slow = seen["latency_us"]["p90"].as_u64().expect("a number");
    assert!(slow > 100_000, "a quarter of all waited, yet 90 percent took {slow} us: {seen}");
    let elapsed_s = seen["run_s"].as_f64().expect("seconds");
    assert!(elapsed_s >= 1.99, "400 at 200 a second take two seconds, took {elapsed_s}");
}

#[test]
fn batches_are_judged_one_by_one_where_the_node_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = numbered(&folder, 500);
    let (port, seen) = scripted(|_, body| {
        let rows: Vec<String> = body
            .chunks(4)
            .map(|tx| match number(tx) % 5 {
                0 => r#"{"verdict":"malformed","reason":"bad-txns"}"#.to_owned(),
                _ => r#"{"verdict":"accepted","reason":""}"#.to_owned(),
            })
            .collect();
        Some(("200 OK", format!("[{}]", rows.join(","))))
    });
    let target = format!("http://127.0.0.1:{port}");
    let args = ["load", "--target", &target, "--file", &file, "--json", "--batch", "32"];
    let (_, seen_json) = run(&[&args[..], &["--connections", "2"]].concat());
    assert_eq!((&seen_json["accepted"], &seen_json["rejected"]), (&400.into(), &100.into()));
    assert!(seen.requests.load(Ordering::Relaxed) <= 18, "500 in batches of 32");
}

#[test]
fn an_interrupt_ends_the_run_early_with_a_summary() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = numbered(&folder, 5_000);
    let (port, seen) = scripted(|_, _| Some(("200 OK", "OK".into())));
    let mut child = Command::new(env!("CARGO_BIN_EXE_metanode"))
        .args(["load", "--target", &format!("http://127.0.0.1:{port}"), "--file", &file])
        .args(["--rate", "100", "--duration", "60", "--json", "--no-ceiling"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    while seen.requests.load(Ordering::Relaxed) < 20 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.expect("kill runs").success());
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
    assert!(child.wait().expect("it ends").success());
    let report: serde_json::Value =
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(report["interrupted"], true);
    let sent = report["sent"].as_u64().expect("a number");
    assert!((20..5_000).contains(&sent), "{sent} sent");
    assert_eq!(report["accepted"], sent);
    assert_eq!(report["unsent"], 5_000 - sent);
}

#[test]
fn a_target_nobody_listens_on_gives_errors_and_no_invented_verdicts() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = numbered(&folder, 4);
    let args = ["load", "--target", "http://127.0.0.1:1", "--file", &file, "--json"];
    let (_, seen) = run(&[&args[..], &["--connections", "1", "--no-ceiling"]].concat());
    assert_eq!((&seen["sent"], &seen["errors"]), (&4.into(), &4.into()), "{seen}");
    assert_eq!(seen["accepted"], 0);
}

#[test]
fn without_coins_or_a_file_it_says_what_to_give() {
    let (exit, seen) = run(&["load", "--target", "http://127.0.0.1:1", "--json"]);
    let text = seen["error"].as_str().expect("an error");
    assert_eq!(exit, 1);
    assert!(text.contains("--rpc") && text.contains("--file"), "{text}");
}
