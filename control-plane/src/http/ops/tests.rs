//! The ops listener of a running machine, the reference written from it, and what Prometheus' own checker says.

use super::*;
use crate::http::HttpCounters;
use crate::http::submit::SubmitHttpCounters;
use crate::node::{Node, NodeOptions};
use crate::submit::tests::block_on;
use crate::submit::{Gate, SubmitLimits, start};
use crate::topology::Ingest;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use consensus::params::{ChainParams, Network};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use tower::ServiceExt;

struct Desk {
    node: Node,
    gate: Gate,
    router: Router,
    readiness: Readiness,
    stop: Stop,
}

fn sources(node: &mut Node) -> (Vec<Box<dyn Source>>, Gate, CountersReader) {
    let (submit, gate) = start(node.take_submit().unwrap(), SubmitLimits::default()).unwrap();
    let tiles = node.counters_reader();
    let sources: Vec<Box<dyn Source>> = vec![
        Box::new(Process::default()),
        Box::new(tiles.clone()),
        Box::new(submit),
        Box::new(SubmitHttpCounters::default()),
        Box::new(HttpCounters::new("submit")),
        Box::new(HttpCounters::new("rpc")),
        Box::new(HttpCounters::new("ops")),
    ];
    (sources, gate, tiles)
}

fn desk() -> Desk {
    let mut options = NodeOptions::new(ChainParams::of(Network::Regtest), Ingest::Control);
    options.cores = Some(2);
    let mut node = Node::boot(options).unwrap();
    let (sources, gate, tiles) = sources(&mut node);
    let (readiness, stop) = (Readiness::new(), Stop::new());
    let ops = Ops { sources, tiles, readiness: readiness.clone(), stop: stop.clone() };
    Desk { node, gate, router: router(ops), readiness, stop }
}

impl Desk {
    async fn get(&self, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let Ok(response) = self.router.clone().oneshot(request).await;
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn end(self) {
        self.gate.close();
        self.node.shutdown().unwrap();
        self.gate.join();
    }
}

#[test]
fn a_running_machine_is_shown_healthy_ready_or_not_and_why() {
    let d = desk();
    block_on(async {
        assert_eq!(d.get("/health").await, (200, r#"{"status":"ok","reasons":[]}"#.to_owned()));
        assert_eq!(d.get("/readiness").await, (200, r#"{"ready":true,"reasons":[]}"#.to_owned()));
        d.readiness.block("chain", "rebuilding the coins, block 3 of 7");
        let (status, text) = d.get("/readiness").await;
        assert_eq!(status, 503);
        assert!(text.contains("chain: rebuilding the coins, block 3 of 7"), "{text}");
        d.readiness.clear("chain");
        assert_eq!(d.get("/readiness").await.0, 200);
        d.stop.request();
        let (status, text) = d.get("/readiness").await;
        assert_eq!(status, 503);
        assert!(text.contains("stopping"), "{text}");
        assert_eq!(d.get("/health").await.0, 200, "a stopping node lives");
    });
    d.end();
}

#[test]
fn the_page_has_every_tile_every_link_and_every_counter_once() {
    let d = desk();
    let (status, text) = block_on(d.get("/metrics"));
    assert_eq!(status, 200);
    for line in [
        "metanode_validate_offered_total{index=\"0\"} 0",
        "metanode_tile_turns_total{tile=\"pack\",index=\"0\",outcome=\"idle\"}",
        "metanode_link_frags_total{link=\"submit_validate:0.0\",tile=\"validate\"",
        "metanode_http_connections_refused_total{listener=\"rpc\"} 0",
        "metanode_submit_held_transactions 0",
        "process_resident_memory_bytes ",
    ] {
        let key = line.split("{link=\"submit").next().unwrap();
        assert!(text.contains(key), "{line} is not on the page");
    }
    let mut seen = std::collections::HashSet::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(sample.to_owned()), "{sample} stands there twice");
        assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
    }
    assert!(seen.len() > 300, "only {} samples", seen.len());
    d.end();
}

/// Debian's package `prometheus` has it; `cargo xtask setup` installs it.
#[test]
fn promtool_has_nothing_to_say_about_the_page() {
    let probe = Command::new("promtool").arg("--version").output();
    if !probe.is_ok_and(|out| out.status.success()) {
        eprintln!("SKIPPED: promtool does not run here; try `cargo xtask setup`");
        return;
    }
    let d = desk();
    let (_, text) = block_on(d.get("/metrics"));
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && words.is_empty(), "{words}");
    d.end();
}

/// With METANODE_BLESS=1 the page is written anew.
#[test]
fn the_metrics_reference_is_that_of_the_code() {
    let mut node = Node::boot(NodeOptions {
        cores: Some(1),
        ..NodeOptions::new(ChainParams::of(Network::Regtest), Ingest::Control)
    })
    .unwrap();
    let (sources, gate, _) = sources(&mut node);
    let mut metrics = Page::default();
    sources.iter().for_each(|source| source.write(&mut metrics));
    let mut page = String::from(
        "# Metrics\n\nWritten by a test from the counters themselves (`control-plane/src/http/ops`). `GET /metrics` on the ops \
         listener (127.0.0.1:9545) shows them as Prometheus text.\n\nCounters only grow, since the start of the process; gauges go \
         up and down. Times are seconds, sizes are bytes. A tile's own counters carry its name; `index` tells its instances \
         apart. `listener` is `submit`, `rpc` or `ops`.\n\n| metric | type | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    let mut rows: Vec<_> = metrics.described().collect();
    rows.sort_by_key(|row| row.name);
    for row in rows {
        let labels: Vec<_> = row.labels.iter().map(|l| format!("`{l}`")).collect();
        let labels = labels.join(", ");
        writeln!(page, "| `{}` | {} | {labels} | {} |", row.name, row.kind, row.help).unwrap();
    }
    gate.close();
    node.shutdown().unwrap();
    gate.join();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    if std::env::var_os("METANODE_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == page, "docs/metrics.md is out of date; write it with METANODE_BLESS=1");
}
