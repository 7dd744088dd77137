//! Peers: who they are, what a link knows about each, and how the object layer sees them.
//!
//! In: the operator's list. Out: a small table, one row a peer, that links write and objects read ([`LinkView`]).

use crate::time::NowUs;
use std::net::SocketAddr;

/// Index of a configured peer; stable while it is configured, used again after it is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId(pub u16);

impl PeerId {
    /// The row of this peer in tables that have one row a peer.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What the operator says about a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerConfig {
    /// Name in status and logs.
    pub name: String,
    /// Where it listens; `None` for a peer that only calls us.
    pub addr: Option<SocketAddr>,
    /// Its static X25519 key; also its identity.
    pub public_key: [u8; 32],
    /// Symbols of a trusted peer are passed on before the object is complete.
    pub trusted: bool,
    /// What may be sent to it.
    pub rate_mbit: u32,
    /// Nobody else uses this line: no guard slows it down when delay or loss rise.
    pub dedicated_line: bool,
}

/// What the object layer is told when a link comes up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerInfo {
    /// Drawn by the peer's process when it started: another value means that it has forgotten everything.
    pub incarnation: u64,
}

/// One row of [`LinkView`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PeerView {
    /// The link carries frames.
    pub up: bool,
    /// As configured.
    pub trusted: bool,
    /// Smoothed round trip.
    pub rtt_us: u32,
    /// Mean round-trip deviation.
    pub rtt_var_us: u32,
    /// Share of our packets that this peer does not get: the estimate that parity is sized for (mean + 2 sigma).
    pub loss: f32,
    /// What may be sent to it now, in bytes a second.
    pub rate_bytes_s: u64,
    /// When something was last heard from it.
    pub heard: NowUs,
}

impl PeerView {
    /// A peer that is not there.
    pub const ABSENT: Self = Self {
        up: false,
        trusted: false,
        rtt_us: 0,
        rtt_var_us: 0,
        loss: 0.0,
        rate_bytes_s: 0,
        heard: NowUs(0),
    };
}

/// All links as the object layer sees them: one row a [`PeerId`], absent rows included.
#[derive(Clone, Debug, Default)]
pub struct LinkView {
    pub(crate) rows: Vec<PeerView>,
}

impl LinkView {
    /// The row of `peer`; absent when there is none.
    pub fn get(&self, peer: PeerId) -> &PeerView {
        self.rows.get(peer.index()).unwrap_or(&PeerView::ABSENT)
    }

    /// Peers whose link carries frames.
    pub fn up(&self) -> impl Iterator<Item = (PeerId, &PeerView)> {
        self.rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.up)
            .map(|(at, row)| (PeerId(at as u16), row))
    }
}

impl FromIterator<PeerView> for LinkView {
    fn from_iter<I: IntoIterator<Item = PeerView>>(rows: I) -> Self {
        Self { rows: rows.into_iter().collect() }
    }
}
