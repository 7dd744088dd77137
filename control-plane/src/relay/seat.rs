//! The relay inside a node: from its settings to what the tiles `net` and `bfr` are made of, and the handle that everybody else has.
//!
//! In: `[bfr]` of the settings, the share of the memory, the chain once it is open. Out: a port that is taken before memory is touched
//! ([`Port`]), the parts of the tiles ([`RelaySeat`]), and [`NodeRelay`]: status, metrics, other peers without a restart.

use super::headers::{ChainCell, ChainHeaders};
use super::herald::{self, HeraldCounts, HeraldParts};
use super::{keys, metrics, settings, status};
use crate::chain::Chain;
use crate::config::settings::BfrSettings;
use crate::http::ops::{Page, Source};
use crate::memory::RelayShare;
use crate::node::RelayEnds;
use crate::service::Stop;
use consensus::params::ChainParams;
use relay::engine::{Engine, EngineConfig, LinksConfig};
use relay::io::{Caps, PacketIo};
use relay::link::Keys;
use relay::tile::{AcceptedTxs, Desk};
use relay::{Lookups, NowUs, PeerConfig};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// The file of the secret key in the data directory, where no other is named.
const KEY_FILE: &str = "relay.key";

/// Why a node cannot relay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeatError {
    /// The key.
    #[error("{0}; bfr.key_file names another")]
    Key(String),
    /// The port.
    #[error("listening on {address} for bfr (UDP): {source}; choose another with --bfr-listen")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No random bytes.
    #[error("asking the system for random bytes: {0}")]
    Random(String),
}

/// A port for packets that is ours, and a key.
pub struct Port {
    io: Box<dyn PacketIo>,
    keys: Keys,
    listen: SocketAddr,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Port {
    /// Reads the key and takes the port; none where the node does not relay.
    pub fn take(settings: &BfrSettings, data_dir: &Path) -> Result<Option<Self>, SeatError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let key_file = settings.key_file.clone().unwrap_or_else(|| data_dir.join(KEY_FILE));
        let keys = keys::read(&key_file).map_err(SeatError::Key)?;
        let address = settings.listen;
        let bind = |source| SeatError::Bind { address, source };
        let options = settings::io_options(address, settings.runs);
        let opened = relay::io::open(settings.backend, &options).map_err(bind)?;
        for note in &opened.notes {
            tracing::warn!("{note}");
        }
        let listen = opened.io.local_addr().map_err(bind)?;
        Ok(Some(Self { io: opened.io, keys, listen }))
    }
}

/// What the tiles are made of.
pub struct RelaySeat {
    pub(crate) io: Box<dyn PacketIo>,
    pub(crate) engine: Engine,
    pub(crate) txs: AcceptedTxs,
    pub(crate) desk: Desk,
}

impl std::fmt::Debug for RelaySeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelaySeat").field("desk", &self.desk).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Inner {
    desk: Desk,
    counts: Arc<HeraldCounts>,
    chain: ChainCell,
    caps: Caps,
    listen: SocketAddr,
    public_key: String,
    began: Instant,
    object_bytes_max: u64,
}

/// The node's relay, for everybody who is not one of its tiles.
#[derive(Clone, Debug)]
pub struct NodeRelay {
    inner: Arc<Inner>,
}

/// From a port to the tiles' parts and the handle.
pub fn seat(
    port: Port,
    settings: &BfrSettings,
    share: &RelayShare,
    params: &Arc<ChainParams>,
) -> Result<(RelaySeat, NodeRelay), SeatError> {
    let Port { io, keys, listen } = port;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| SeatError::Random(error.to_string()))?;
    let (desk, chain) = (Desk::default(), ChainCell::default());
    let txs = AcceptedTxs::new(share.txs_bytes as usize);
    let lookups = Lookups {
        txs: Box::new(txs.clone()),
        headers: Box::new(ChainHeaders::new(chain.clone(), params.clone())),
    };
    let public_key = hex::encode(keys.public());
    let config = EngineConfig {
        links: LinksConfig { total_mbit: settings.rate_mbit, ..LinksConfig::default() },
        objects: settings::object_limits(&keys, share.object_bytes_max, share.objects_bytes),
    };
    // The tiles' clock starts with the machine.
    let engine = Engine::new(config, keys, lookups, &seed, NowUs(0));
    let inner = Inner {
        desk: desk.clone(),
        counts: Arc::default(),
        chain,
        caps: io.caps(),
        listen,
        public_key,
        began: Instant::now(),
        object_bytes_max: share.object_bytes_max,
    };
    let relay = NodeRelay { inner: Arc::new(inner) };
    Ok((RelaySeat { io, engine, txs, desk }, relay))
}

impl NodeRelay {
    /// Joins the tiles to the chain and calls these peers: a link that came up before would bring blocks whose parents nobody knows. Must be
    /// called inside a tokio runtime.
    ///
    /// # Panics
    /// The second time.
    pub fn join(
        &self,
        ends: RelayEnds,
        chain: Chain,
        stop: Stop,
        peers: Vec<PeerConfig>,
    ) -> std::io::Result<JoinHandle<()>> {
        let inner = &self.inner;
        let set = inner.chain.set(chain.clone());
        assert!(set.is_ok(), "a relay is joined to one chain");
        self.set_peers(peers);
        herald::start(HeraldParts {
            ends,
            chain,
            stop,
            desk: inner.desk.clone(),
            counts: inner.counts.clone(),
            object_bytes_max: inner.object_bytes_max,
        })
    }

    /// From now on these peers.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) {
        self.inner.desk.set_peers(peers);
    }

    /// Where packets arrive.
    pub fn listen(&self) -> SocketAddr {
        self.inner.listen
    }

    /// What peers need to know.
    pub fn public_key(&self) -> &str {
        &self.inner.public_key
    }

    /// How packets move, in words.
    pub fn mode(&self) -> (&'static str, &'static str) {
        (self.inner.caps.backend, self.inner.caps.mode())
    }

    /// What `relay status` shows; nothing before the tiles have turned.
    pub fn status(&self) -> Option<Value> {
        let inner = &self.inner;
        let now = inner.desk.shown();
        let of = status::Socket {
            caps: inner.caps.clone(),
            listen: Some(inner.listen),
            public_key: &inner.public_key,
            began: inner.began,
        };
        let mut shown = status::shown(&of, &now.engine?, &now.io);
        let count = |def: &'static str| def.trim_end_matches("_total").to_owned();
        let counts = inner.counts.each().map(|(def, value)| (count(def.name), json!(value)));
        shown["chain"] = Value::Object(counts.collect::<Map<_, _>>());
        Some(shown)
    }
}

impl Source for NodeRelay {
    fn write(&self, page: &mut Page) {
        for (def, value) in self.inner.counts.each() {
            page.add_def("relay", def, &[], value);
        }
        if let Some(status) = self.status() {
            metrics::numbers(page, &status);
        }
    }
}
