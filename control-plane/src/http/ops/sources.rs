//! Everybody who counts, as a page of metrics wants it.
//!
//! Tiles count in the metrics region: time, turns, links, and the catalogue of each tile, all read here without a lock. The
//! listeners, the gate and the handlers count in cells of their own.

use super::page::Page;
use crate::http::HttpCounters;
use crate::http::submit::SubmitHttpCounters;
use crate::rpc::Rpc;
use crate::service::{CountersReader, Service};
use crate::submit::Submit;
use dataplane::metrics::{Cell, LinkCells, Phase, Regime, TileView};
use std::sync::Arc;

/// A core that has not gone round for so long is stuck: its tiles' turns are bounded far below this.
const STALLED_NS: u64 = 10_000_000_000;

/// Somebody who counts.
pub trait Source: Send + Sync {
    /// Adds the present values.
    fn write(&self, page: &mut Page);
}

impl<T: Source + ?Sized> Source for Arc<T> {
    fn write(&self, page: &mut Page) {
        (**self).write(page);
    }
}

impl Source for HttpCounters {
    fn write(&self, page: &mut Page) {
        for (def, value) in self.each() {
            page.add_def("http", def, &[("listener", self.listener())], value);
        }
    }
}

impl Source for Submit {
    fn write(&self, page: &mut Page) {
        self.counters().each().for_each(|(def, value)| page.add_def("submit", def, &[], value));
    }
}

impl Source for Rpc {
    fn write(&self, page: &mut Page) {
        self.counters.each().for_each(|(def, value)| page.add_def("rpc", def, &[], value));
    }
}

impl Source for SubmitHttpCounters {
    fn write(&self, page: &mut Page) {
        self.each().for_each(|(def, value)| page.add_def("http_submit", def, &[], value));
    }
}

impl Source for Service {
    fn write(&self, page: &mut Page) {
        let tip = self.chain.tip();
        let best = self.chain.best_header();
        let pool = &self.pool;
        let mut gauge = |name: &str, help, value: u64| page.gauge(name, help, &[], value);
        gauge("metanode_chain_height", "Height of the connected chain.", tip.height.into());
        gauge(
            "metanode_chain_best_header_height",
            "Height of the header with the most work; its blocks may be missing.",
            best.height.into(),
        );
        gauge(
            "metanode_chain_tip_median_time_seconds",
            "Median time past of the tip, seconds since 1970.",
            tip.median_time_past.into(),
        );
        gauge(
            "metanode_chain_transactions",
            "Transactions of the connected chain, coinbases included.",
            tip.chain_tx_count,
        );
        gauge("metanode_pool_transactions", "Transactions of the pool.", pool.len() as u64);
        gauge("metanode_pool_bytes", "Their bytes.", pool.bytes());
        gauge("metanode_pool_fees_satoshis", "Their fees.", pool.fees_sat());
        gauge(
            "metanode_disk_free_bytes",
            "Free bytes of the data directory's file system at the last look.",
            self.room.free_bytes(),
        );
        page.counter(
            "metanode_disk_troubles_total",
            "How often the disk had too little room, or a file of the pool could not be written.",
            &[],
            self.room.times_low(),
        );
    }
}

/// Tiles on cores whose core has not gone round for long, in words.
pub fn stalled_tiles(tiles: &CountersReader) -> Vec<String> {
    let now = tiles.now_ns();
    let age = |tile: &TileView<'_>| now.saturating_sub(tile.cell(Cell::HeartbeatNs));
    let stalled = tiles.metrics().tiles().filter(|t| t.core().is_some() && age(t) > STALLED_NS);
    stalled
        .map(|t| {
            let s = age(&t) / 1_000_000_000;
            format!("{}:{}: its core has not gone round for {s} s", t.name(), t.index())
        })
        .collect()
}

const PHASES: [(Phase, &str); 3] = [
    (Phase::Housekeeping, "housekeeping"),
    (Phase::Prefrag, "prefrag"),
    (Phase::Postfrag, "postfrag"),
];
const REGIMES: [(Regime, &str); 3] = [
    (Regime::CaughtUp, "caught_up"),
    (Regime::Processing, "processing"),
    (Regime::Backpressure, "backpressure"),
];

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Source for CountersReader {
    fn write(&self, page: &mut Page) {
        let now_ns = self.now_ns();
        for tile in self.metrics().tiles() {
            let index = tile.index().to_string();
            let of = [("tile", tile.name()), ("index", index.as_str())];
            cells(page, &tile, of, now_ns);
            for (link, read) in tile.ins() {
                link_end(page, of, link, "in", &read);
            }
            for (link, read) in tile.outs() {
                link_end(page, of, link, "out", &read);
                page.gauge(
                    "metanode_link_slowest_consumer",
                    "Which consumer of the link was the slowest when there was no credit last.",
                    &[("link", link)],
                    read.slowest,
                );
            }
            for (def, value) in tile.counters() {
                page.add_def(tile.name(), def, &[("index", &index)], value);
            }
        }
    }
}

/// The cells every tile has.
fn cells(page: &mut Page, tile: &TileView<'_>, of: [(&str, &str); 2], now_ns: u64) {
    let [name, index] = of;
    let time = tile.time();
    for (phase, phase_name) in PHASES {
        for (regime, regime_name) in REGIMES {
            page.counter(
                "metanode_tile_seconds_total",
                "Time of the tile, by what it did (phase) and how it went (regime); the nine add up to what its core gave it.",
                &[name, index, ("phase", phase_name), ("regime", regime_name)],
                seconds(time.get(phase, regime)),
            );
        }
    }
    for (cell, outcome) in [
        (Cell::TurnsIdle, "idle"),
        (Cell::TurnsBusy, "busy"),
        (Cell::TurnsBackpressured, "backpressured"),
    ] {
        page.counter(
            "metanode_tile_turns_total",
            "Turns of the tile: found nothing, did something, could not for want of credit.",
            &[name, index, ("outcome", outcome)],
            tile.cell(cell),
        );
    }
    let all: [(&str, &'static str, Cell); 4] = [
        (
            "metanode_tile_housekeepings_total",
            "Times the tile's housekeeping ran.",
            Cell::Housekeepings,
        ),
        (
            "metanode_tile_allocations_after_seal_total",
            "Allocations of the tile's thread after its heap was sealed: 0, or a defect.",
            Cell::AllocAfterSeal,
        ),
        ("metanode_tile_core_parks_total", "Times the tile's core slept.", Cell::CoreParks),
        (
            "metanode_tile_core_yields_total",
            "Times the tile's core gave its processor away between rounds.",
            Cell::CoreYields,
        ),
    ];
    for (metric, help, cell) in all {
        page.counter(metric, help, &of, tile.cell(cell));
    }
    page.counter(
        "metanode_tile_core_parked_seconds_total",
        "How long the tile's core slept.",
        &of,
        seconds(tile.cell(Cell::CoreParkedNs)),
    );
    page.gauge(
        "metanode_tile_heartbeat_age_seconds",
        "Since the tile's housekeeping last ran.",
        &of,
        seconds(now_ns.saturating_sub(tile.cell(Cell::HeartbeatNs))),
    );
    page.gauge(
        "metanode_tile_state",
        "0 boot, 1 run, 2 drain, 3 halt, 4 fail.",
        &of,
        tile.cell(Cell::State),
    );
}

fn link_end(page: &mut Page, of: [(&str, &str); 2], link: &str, end: &str, read: &LinkCells) {
    let [name, index] = of;
    let labels = [("link", link), name, index, ("end", end)];
    let all: [(&str, &'static str, u64); 4] = [
        (
            "metanode_link_frags_total",
            "Frags taken (end in) or published (end out) by the tile.",
            read.frags,
        ),
        ("metanode_link_payload_bytes_total", "Payload bytes of these frags.", read.bytes),
        (
            "metanode_link_dropped_total",
            "Frags passed over by the tile's filter (end in) or shed at the door for want of credit (end out).",
            read.dropped,
        ),
        (
            "metanode_link_backpressured_turns_total",
            "Turns in which the tile could not go on with this link for want of credit.",
            read.backpressured_turns,
        ),
    ];
    for (metric, help, value) in all {
        page.counter(metric, help, &labels, value);
    }
}
