//! What a relay counts, as Prometheus reads it: `/metrics` on a listener of its own, or on the page of the node it is in.
//!
//! In: the object that `relay status` shows. Out: a gauge or a counter for every number in it; one row a peer, one a drop reason.

use super::control::Control;
use crate::http::ops::Page;
use crate::http::{self, HttpCounters, Limits};
use crate::service::Stop;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use dataplane::metrics::CounterKind::{self, Counter, Gauge};
use relay::DropReason;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::TcpListener;

/// Serves until the end is asked for.
pub async fn serve(listener: TcpListener, control: Arc<Control>, stop: Stop) {
    let router = Router::new().route("/metrics", get(metrics)).with_state(control);
    let counters = Arc::new(HttpCounters::new("relay"));
    let stop = async move { stop.requested().await };
    http::serve(listener, Limits::default(), counters, router, stop).await;
}

async fn metrics(State(control): State<Arc<Control>>) -> Response {
    match control.status().await {
        Ok(status) => {
            let media = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, media)], page(&status, &control)).into_response()
        }
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why).into_response(),
    }
}

/// Times are seconds there.
const RTT_SECONDS: &str = "metanode_relay_peer_rtt_seconds";

/// Numbers of a peer: key in the status, name, help.
const PEER: [(&str, &str, &str); 4] = [
    ("rtt_us", RTT_SECONDS, "Smoothed round trip to the peer."),
    ("loss", "metanode_relay_peer_loss", "Share of our packets that the peer does not get."),
    ("rate_mbit", "metanode_relay_peer_rate_mbit", "What may be sent to the peer now."),
    ("parity_pct", "metanode_relay_peer_parity_pct", "Parity beside the data sent to the peer."),
];

/// Numbers of the socket: key in the status, name, help.
const IO: [(&str, &str, &str); 9] = [
    ("rx_packets", "metanode_relay_rx_packets_total", "Packets received."),
    ("rx_bytes", "metanode_relay_rx_bytes_total", "Their payload."),
    ("rx_refused", "metanode_relay_rx_refused_total", "Packets longer than any of the protocol."),
    ("rx_overflowed", "metanode_relay_rx_overflowed_total", "Packets the kernel dropped unread."),
    ("tx_packets", "metanode_relay_tx_packets_total", "Packets sent."),
    ("tx_bytes", "metanode_relay_tx_bytes_total", "Their payload."),
    ("tx_refused", "metanode_relay_tx_refused_total", "Packets the kernel refused for good."),
    ("tx_full", "metanode_relay_tx_full_total", "Times the socket was full."),
    ("tx_unrolled", "metanode_relay_tx_unrolled_total", "Runs that had to go as single packets."),
];

/// Adds what the status of any relay has.
pub fn numbers(page: &mut Page, status: &Value) {
    let mut add = |name: &str, help, kind: CounterKind, labels: &[(&str, &str)], value: &Value| {
        if let Some(number) = value.as_f64() {
            page.add(name, help, kind, labels, number);
        }
    };
    for peer in status["peers"].as_array().into_iter().flatten() {
        let labels = [("peer", peer["name"].as_str().unwrap_or_default())];
        for (key, name, help) in PEER {
            let scaled =
                (name == RTT_SECONDS).then(|| peer[key].as_f64().map(|us| us / 1e6).into());
            add(name, help, Gauge, &labels, scaled.as_ref().unwrap_or(&peer[key]));
        }
    }
    for (key, name, help) in IO {
        add(name, help, Counter, &[], &status["io"][key]);
    }
    for reason in DropReason::ALL.map(DropReason::name) {
        let help = "Packets and frames thrown away.";
        // The status leaves out what never happened.
        let count = status["drops"][reason].as_u64().unwrap_or_default();
        let labels = [("reason", reason)];
        add("metanode_relay_drops_total", help, Counter, &labels, &count.into());
    }
}

fn page(status: &Value, control: &Control) -> String {
    let mut page = Page::default();
    numbers(&mut page, status);
    for (what, count) in status["inbox"].as_object().into_iter().flatten() {
        let help = "What became of received objects.";
        let count = count.as_u64().unwrap_or_default();
        page.counter("metanode_relay_inbox_total", help, &[("what", what)], count);
    }
    let counts = &control.counts;
    for (what, cell) in [
        ("connections", &counts.connections),
        ("refused", &counts.refused),
        ("malformed", &counts.malformed),
        ("strangers", &counts.strangers),
    ] {
        let help = "Control connections and requests.";
        let count = cell.load(Ordering::Relaxed);
        page.counter("metanode_relay_control_total", help, &[("what", what)], count);
    }
    page.text()
}
