//! Status: what an operator asks a relay.
//!
//! In: links and counters. Out: a table that is printed as JSON (`relay status --json`).

use super::links::Links;
use crate::fec::budget;
use crate::link::LinkState;
use crate::object::{K_SMALL, ObjectCounts};
use crate::time::NowUs;
use crate::wire::SYMBOL_LEN;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// `parity_pct` is that of an object of a megabyte, which fails to need a repair once in a thousand times.
const PARITY_OF_BYTES: usize = 1_000_000;
const PARITY_TARGET: f64 = 1e-3;

/// One peer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PeerStatus {
    /// Its row; the same as long as it is configured.
    pub id: u16,
    /// As configured.
    pub name: String,
    /// Where it is, as far as anybody knows.
    pub addr: Option<SocketAddr>,
    /// What its link does.
    pub state: LinkState,
    /// Smoothed round trip.
    pub rtt_us: u32,
    /// Share of our packets that do not get there (mean + 2 sigma).
    pub loss: f32,
    /// What may be sent to it now.
    pub rate_mbit: f64,
    /// Parity that this loss asks for, in percent of the data, for an object of a megabyte.
    pub parity_pct: f64,
    /// How often the guard cut the rate.
    pub cuts: u64,
    /// Calls without an answer in a row.
    pub calls: u32,
}

/// A relay's numbers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Status {
    /// Every configured peer.
    pub peers: Vec<PeerStatus>,
    /// Objects.
    pub objects: ObjectCounts,
    /// What was thrown away, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Sessions and calls.
    pub sessions: usize,
    /// Peers put into quarantine so far.
    pub quarantines: u64,
    /// Events of links that the host never asked for.
    pub events_dropped: u64,
}

impl Status {
    pub(super) fn of(
        links: &Links,
        objects: ObjectCounts,
        events_dropped: u64,
        now: NowUs,
    ) -> Self {
        let peers = links.iter().map(|link| {
            let view = link.view();
            PeerStatus {
                id: link.id.0,
                name: link.config.name.clone(),
                addr: link.address(),
                state: link.state(now),
                rtt_us: view.rtt_us,
                loss: view.loss,
                rate_mbit: view.rate_bytes_s as f64 / 125_000.0,
                parity_pct: parity_pct(view.loss),
                cuts: link.cuts(),
                calls: link.calls.attempts(),
            }
        });
        Self {
            peers: peers.collect(),
            objects,
            drops: links.drops().named().collect(),
            sessions: links.sessions(),
            quarantines: links.quarantines(),
            events_dropped,
        }
    }
}

fn parity_pct(loss: f32) -> f64 {
    let k = u32::from(K_SMALL);
    let groups = PARITY_OF_BYTES.div_ceil(SYMBOL_LEN * usize::from(K_SMALL)) as u32;
    let loss = f64::from(loss.clamp(0.0, 0.5));
    f64::from(budget::parity(k, groups, loss, PARITY_TARGET, k)) * 100.0 / f64::from(k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_follows_loss() {
        assert!(parity_pct(0.0) < 10.0);
        // Source: reference/relay.md B5, 1 MB in groups of 64: 13 of 64 at 5 % loss.
        assert!((18.0..=24.0).contains(&parity_pct(0.05)), "{}", parity_pct(0.05));
        assert!(parity_pct(0.9) <= 100.0);
    }
}
