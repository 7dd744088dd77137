//! What a run looks like while it goes: a line a second, and the samples the report is made of.

use crate::counters::Counters;
use crate::node::Node;
use dataplane::msg::TxVerdict;
use load::Offer;
use load::replay::Log;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the rate is sampled.
const SAMPLE: Duration = Duration::from_millis(100);

/// What was seen from the first transaction sent to the last verdict.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Accepted a second in each sample while there was something to do.
    pub(crate) rates: Vec<f64>,
    /// The counters at the beginning.
    pub(crate) before: Counters,
    /// The counters at the end.
    pub(crate) after: Counters,
}

/// Waits until the replay is done, telling how it goes.
pub(crate) fn watch(
    node: &Node,
    log: &Log,
    offer: &Offer,
    interrupted: &AtomicBool,
    before: Counters,
) -> Watched {
    let mut rates = Vec::new();
    let (mut last, mut last_accepted) = (Instant::now(), log.accepted());
    let (mut told, mut told_accepted) = (Instant::now(), log.accepted());
    let mut tiles = before.clone();
    // The end of the load is when everything is sent; orphans that never get a parent come to their end later.
    let mut after = None;
    while !log.is_done() {
        std::thread::sleep(SAMPLE);
        if interrupted.load(Ordering::Relaxed) {
            log.stop();
        }
        let accepted = log.accepted();
        let rate = (accepted - last_accepted) as f64 / last.elapsed().as_secs_f64();
        (last, last_accepted) = (Instant::now(), accepted);
        if log.sent() + log.shed() < offer.len() as u64 {
            rates.push(rate);
        } else if after.is_none() && rate == 0.0 {
            after = Some(node.counters());
        }
        if told.elapsed() >= Duration::from_secs(1) {
            let now = node.counters();
            let per_s = (accepted - told_accepted) as f64 / told.elapsed().as_secs_f64();
            eprintln!("{}", line(log, offer, per_s, &now, &tiles));
            (told, told_accepted, tiles) = (Instant::now(), accepted, now);
        }
    }
    let after = after.unwrap_or_else(|| node.counters());
    Watched { rates, before, after }
}

fn line(log: &Log, offer: &Offer, per_s: f64, now: &Counters, before: &Counters) -> String {
    let mut text = format!(
        "demo: {:>3}% sent, {per_s:>8.0} accepted/s, {:>6} in flight, {:>4} orphans",
        (log.sent() + log.shed()) * 100 / offer.len().max(1) as u64,
        now.in_flight(),
        now.orphans(),
    );
    text.push_str(", busy:");
    for tile in now.tiles_since(before) {
        if tile.core.is_some() {
            let _ = write!(text, " {} {:.0}%", tile.name, tile.busy * 100.0);
        }
    }
    let refused: Vec<String> = TxVerdict::ALL
        .into_iter()
        .skip(1)
        .filter(|v| now.verdict(*v) > 0)
        .map(|v| format!("{} {}", v.name(), now.verdict(v)))
        .collect();
    if !refused.is_empty() {
        let _ = write!(text, "; {}", refused.join(", "));
    }
    text
}
