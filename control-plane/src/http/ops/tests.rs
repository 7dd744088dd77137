//! The ops listener of a running machine. `control-plane/tests/http.rs` has the page of a whole node checked by promtool.

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
    let (readiness_of, stop_of) = (readiness.clone(), stop.clone());
    let ops = Ops { sources, tiles, readiness: readiness_of, stop: stop_of, relay: None };
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
