//! A machine as another process sees it: the counters of its tiles where they are, and those of its links beside them.
//!
//! Tiles count in the words of [`Metrics`], which may lie in a mapped file. A link counts in its own memory, which is nobody else's
//! business; so somebody of the machine's process calls [`Monitor::publish`] now and then, and it copies what the links say into
//! words behind the tiles'. [`MonitorLayout`] says where everything stands and is written beside the file, as JSON.

use super::Plan;
use crate::metrics::{Metrics, MetricsLayout};
use ring::Observer;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;

/// Words of one link: published, in flight, shed, times without credit, lost by taps, through the arena, bytes of those, slowest consumer.
pub(super) const LINK_WORDS: usize = 8;

/// Where everything of a machine stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorLayout {
    /// The tiles.
    pub metrics: MetricsLayout,
    /// The links.
    pub links: Vec<LinkLayout>,
}

/// Where one link's words stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLayout {
    /// `row:producer` or `row:producer.consumer`.
    pub name: String,
    /// Frags it holds.
    pub depth: u32,
    /// Largest payload in line, in bytes.
    pub mtu: u32,
    /// What its producer does without credit.
    pub kind: String,
    /// Who publishes.
    pub producer: String,
    /// Who reads, in the order of consumer numbers.
    pub consumers: Vec<String>,
    /// Its first word.
    pub first: usize,
}

/// What copies the links' counters.
#[derive(Clone, Debug)]
pub struct Monitor {
    metrics: Metrics,
    observers: Vec<Observer>,
    layout: MonitorLayout,
}

impl Monitor {
    pub(super) fn new(
        plan: &Plan,
        metrics: &Metrics,
        observers: &[Observer],
        first: usize,
    ) -> Self {
        let links = plan.links.iter().enumerate().map(|(i, link)| LinkLayout {
            name: link.name.clone(),
            depth: link.depth,
            mtu: link.mtu,
            kind: link.kind.name().to_owned(),
            producer: plan.tiles[link.producer.tile].label(),
            consumers: link.consumers.iter().map(|c| plan.tiles[c.tile].label()).collect(),
            first: first + i * LINK_WORDS,
        });
        let layout = MonitorLayout { metrics: metrics.layout(), links: links.collect() };
        Self { metrics: metrics.clone(), observers: observers.to_vec(), layout }
    }

    /// Where everything stands.
    pub fn layout(&self) -> &MonitorLayout {
        &self.layout
    }

    /// Copies what the links say now. One thread at a time.
    pub fn publish(&self) {
        let words = self.metrics.words().all();
        for (link, observer) in self.layout.links.iter().zip(&self.observers) {
            let counts = observer.counts();
            let slowest = counts.consumers.iter().enumerate().max_by_key(|(_, c)| (c.lag, c.slow));
            let values: [u64; LINK_WORDS] = [
                counts.published,
                slowest.map_or(0, |(_, c)| c.lag),
                counts.shed,
                counts.backpressure,
                counts.overrun,
                counts.large_published,
                counts.large_bytes,
                slowest.map_or(0, |(i, _)| i as u64),
            ];
            for (word, value) in words[link.first..].iter().zip(values) {
                word.store(value, Relaxed);
            }
        }
    }
}
