//! What a monitor may know of a link without touching its frags.
//!
//! Producers and consumers write their counters into the region in housekeeping; an observer, in this process or another,
//! reads them. It slows nobody down more than the cache line it looks at.

use crate::region::Region;
use crate::spec::LinkSpec;
use crate::sync::Ordering::Relaxed;
use std::sync::Arc;

/// A consumer's counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerCounts {
    /// Number of the next frag it has not given back; `None`: it has left.
    pub position: Option<u64>,
    /// Frags published and not given back.
    pub lag: u64,
    /// Times it was the slowest when credit ran out.
    pub slow: u64,
    /// Frags it skipped because their place was outside the link.
    pub malformed: u64,
}

/// A link's counters at one moment. `next_seq - first_seq` frags were published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkCounts {
    /// Frags published.
    pub published: u64,
    /// Frags dropped at the door.
    pub shed: u64,
    /// Times the producer had to stop.
    pub backpressure: u64,
    /// Frags lost by taps.
    pub overrun: u64,
    /// Frags published through the arena.
    pub large_published: u64,
    /// Large frags not admitted.
    pub large_refused: u64,
    /// Bytes published through the arena.
    pub large_bytes: u64,
    /// The producer is gone.
    pub closed: bool,
    /// One a consumer.
    pub consumers: Vec<ConsumerCounts>,
}

/// A reader of a link's counters.
#[derive(Clone, Debug)]
pub struct Observer {
    region: Arc<Region>,
}

impl Observer {
    pub(crate) fn new(region: &Arc<Region>) -> Self {
        Self { region: Arc::clone(region) }
    }

    /// The row of the table.
    pub fn spec(&self) -> &LinkSpec {
        self.region.spec()
    }

    /// The counters as their writers last stored them. Relaxed loads throughout: each is right, the set is not a
    /// snapshot of one instant.
    pub fn counts(&self) -> LinkCounts {
        let cell = self.region.producer();
        let next = cell.next.load(Relaxed);
        let consumers = self.region.consumers().iter().map(|cells| {
            let position = cells.own.fseq.look();
            ConsumerCounts {
                position,
                lag: position.map_or(0, |p| (next.wrapping_sub(p) as i64).max(0) as u64),
                slow: cells.blame.slow.load(Relaxed),
                malformed: cells.own.malformed.load(Relaxed),
            }
        });
        LinkCounts {
            published: next.wrapping_sub(self.spec().first_seq),
            shed: cell.shed.load(Relaxed),
            backpressure: cell.backpressure.load(Relaxed),
            overrun: cell.overrun.load(Relaxed),
            large_published: cell.large_published.load(Relaxed),
            large_refused: cell.large_refused.load(Relaxed),
            large_bytes: cell.large_bytes.load(Relaxed),
            closed: cell.closed.load(Relaxed) != 0,
            consumers: consumers.collect(),
        }
    }
}
