//! What every interface is given: one handle to each part of the running node.
//!
//! RPC, HTTP and the ops listener hold a clone of [`Service`] and nothing else. The handles are cheap to clone, safe to share,
//! and bounded: a command waits in a queue of named length, a read takes a short lock and never waits for a tile. The clock
//! stands here because a test may set it (`setmocktime`), and the stop because everybody may ask for it (`stop`, a signal).

use crate::chain::Chain;
use crate::counters::Counters;
use crate::epochs::Journals;
use crate::relay::NodeRelay;
use crate::room::Room;
use crate::store::Pool;
use crate::submit::Submit;
use consensus::params::ChainParams;
use dataplane::metrics::Metrics;
use dataplane::time::{Clock, HostClock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Handles to the parts of a running node.
#[derive(Clone, Debug)]
pub struct Service {
    /// Takes transactions.
    pub submit: Submit,
    /// Headers, blocks, mining.
    pub chain: Chain,
    /// Accepted transactions that no block has.
    pub pool: Pool,
    /// The network.
    pub params: Arc<ChainParams>,
    /// What time it is for the node.
    pub clock: NodeClock,
    /// Ends the process.
    pub stop: Stop,
    /// Counters of the tiles.
    pub counters: CountersReader,
    /// What the journals have; `None` where there are none.
    pub journals: Option<Journals>,
    /// The relay inside, if there is one.
    pub relay: Option<NodeRelay>,
    /// Room on the disk.
    pub room: Room,
}

/// The node's clock: the host's, or a time that somebody set.
///
/// Source: SV Node `utiltime.cpp` `GetTime`, `SetMockTime`.
#[derive(Clone, Debug, Default)]
pub struct NodeClock {
    /// Seconds since 1970; 0 while the host's clock counts.
    mock_s: Arc<AtomicU64>,
}

impl NodeClock {
    /// The host's clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Seconds since 1970.
    pub fn now_s(&self) -> u64 {
        match self.mock_s.load(Ordering::Relaxed) {
            0 => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            mock => mock,
        }
    }

    /// Stops the clock at a time, or lets the host's count again (`None`, and 0 as in SV Node).
    pub fn set_mock_s(&self, mock_s: Option<u64>) {
        self.mock_s.store(mock_s.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether somebody set the time.
    pub fn is_mocked(&self) -> bool {
        self.mock_s.load(Ordering::Relaxed) != 0
    }
}

/// The wish that the process ends. Asked for once, seen by all.
#[derive(Clone, Debug)]
pub struct Stop {
    sender: watch::Sender<bool>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { sender: watch::Sender::new(false) }
    }
}

impl Stop {
    /// Nobody has asked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns once somebody asked.
    pub async fn requested(&self) {
        let mut asked = self.sender.subscribe();
        // The sender lives in `self`: the wait cannot end for want of it.
        let _ = asked.wait_for(|asked| *asked).await;
    }
}

/// Reads the counters of the tiles.
#[derive(Clone, Debug)]
pub struct CountersReader {
    metrics: Metrics,
    clock: HostClock,
}

impl CountersReader {
    /// A reader of `metrics`, timed by `clock`.
    pub fn new(metrics: Metrics, clock: HostClock) -> Self {
        Self { metrics, clock }
    }

    /// A reading of what the node's own reports show.
    pub fn read(&self) -> Counters {
        Counters::read(&self.metrics, self.clock.now())
    }

    /// Every cell and counter of every tile.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Nanoseconds since the node booted.
    pub fn now_ns(&self) -> u64 {
        self.clock.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_clock_stands_until_it_is_let_go() {
        let clock = NodeClock::new();
        let other = clock.clone();
        assert!(clock.now_s() > 1_700_000_000);
        other.set_mock_s(Some(5));
        assert_eq!((clock.now_s(), clock.is_mocked()), (5, true));
        other.set_mock_s(None);
        assert!(clock.now_s() > 1_700_000_000 && !clock.is_mocked());
    }

    #[tokio::test]
    async fn a_stop_that_was_asked_for_before_is_seen_by_who_waits_after() {
        let stop = Stop::new();
        assert!(!stop.is_requested());
        let waits = tokio::spawn({
            let stop = stop.clone();
            async move { stop.requested().await }
        });
        stop.clone().request();
        waits.await.expect("the waiter ends");
        stop.requested().await;
        assert!(stop.is_requested());
    }
}
