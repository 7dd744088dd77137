//! A relay of its own: the engine, a way to move packets, and the machine's clock, in one loop that a thread turns.
//!
//! In: datagrams, and what the host asks for between turns. Out: datagrams, and [`Event`]s. A turn takes the packets that are here, lets
//! the engine look at the time, and sends what may leave now; all of it is bounded by the batches. Between turns the thread sleeps until a
//! packet comes, the engine is due or somebody wakes it, so an idle relay costs nothing.
//!
//! Back of the envelope at 1 Gbit/s: a packet of 1,232 bytes every 10 us, so the engine is due about every 100 us while it sends. A sleep
//! of less than [`SPIN_US`] would oversleep (the kernel's timers have a slack of 50 us), so the loop goes round instead.

use crate::compact::{HeaderStore, TxStore};
use crate::engine::{Engine, Event, Status};
use crate::io::{Caps, IoStats, PacketIo, RxBatch, TxBatch, TxRefused, Waker, clock};
use crate::object::SendError;
use crate::origin::OriginKeys;
use crate::{Class, Lookups, NowUs, ObjectId, PeerConfig, PeerId};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Below this the loop goes round instead of sleeping. Source: prctl(2), `PR_SET_TIMERSLACK`, 50 us.
pub const SPIN_US: u64 = 60;
/// The longest sleep.
const SLEEP_US_MAX: u64 = 1_000_000;
/// The longest sleep while packets wait for the socket.
const FULL_US_MAX: u64 = 10_000;

/// The relay; see the module.
pub struct Relay {
    engine: Engine,
    io: Box<dyn PacketIo>,
    rx: RxBatch,
    tx: TxBatch,
    names: BTreeMap<PeerId, String>,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("caps", &self.io.caps()).finish_non_exhaustive()
    }
}

/// The clock an engine in a [`Relay`] lives by.
pub fn now() -> NowUs {
    NowUs(clock::now_us())
}

/// What a relay without a node behind it knows: the newest transactions of bundles, up to so many bytes, and headers that meet the target
/// of `floor_bits`.
pub fn standalone(txs_bytes_max: usize, floor_bits: u32) -> Lookups {
    Lookups {
        txs: Box::new(TxStore::new(txs_bytes_max)),
        headers: Box::new(HeaderStore::new(floor_bits)),
    }
}

impl Relay {
    /// Puts them together. The engine was made at [`now`].
    pub fn new(engine: Engine, io: Box<dyn PacketIo>) -> Self {
        Self { engine, io, rx: RxBatch::new(), tx: TxBatch::new(), names: BTreeMap::new() }
    }

    /// Takes what came, sends what may leave; says whether there was anything to do.
    pub fn turn(&mut self) -> io::Result<bool> {
        let came = self.io.rx_burst(&mut self.rx)?;
        let at = now();
        for (from, datagram) in self.rx.iter() {
            self.engine.receive(from, datagram, at);
        }
        let at = now();
        self.engine.tick(at);
        let tx = &mut self.tx;
        self.engine.transmit(at, &mut |to, datagram| match tx.push(to, datagram) {
            Ok(()) => true,
            Err(TxRefused::Full) => false,
            Err(refused) => panic!("the engine made {refused}"),
        });
        let left = if self.tx.is_empty() { 0 } else { self.io.tx_burst(&mut self.tx)? };
        Ok(came > 0 || left > 0)
    }

    /// Sleeps until there is something to do.
    pub fn wait(&mut self) -> io::Result<()> {
        let at = now();
        let due = self.engine.next_due(at).0;
        let until = if self.tx.is_empty() { due } else { due.max(at.0 + FULL_US_MAX) };
        if self.tx.is_empty() && until <= at.0 + SPIN_US {
            return Ok(());
        }
        self.io.wait(until.min(at.0 + SLEEP_US_MAX))
    }

    /// Ends a [`wait`](Self::wait) from another thread.
    pub fn waker(&self) -> Waker {
        self.io.waker()
    }

    /// Sends an object to these peers, or to all.
    pub fn send(
        &mut self,
        class: Class,
        bytes: Arc<[u8]>,
        to: Option<&[PeerId]>,
    ) -> Result<ObjectId, SendError> {
        self.engine.send(class, bytes, to, now())
    }

    /// What happened since the last call.
    pub fn event(&mut self) -> Option<Event> {
        self.engine.event()
    }

    /// From now on these peers; links of peers that stay are not touched.
    pub fn set_peers(&mut self, peers: Vec<PeerConfig>) {
        let names: Vec<String> = peers.iter().map(|peer| peer.name.clone()).collect();
        self.engine.set_peers(peers, now());
        // Events of peers that are gone are told after this; a number that is used again has its new name.
        let id = |name: String| Some((self.engine.peer_named(&name)?, name));
        self.names.extend(names.into_iter().filter_map(id));
    }

    /// Whose proofs of origin count from now on, and the key that proves what is sent here.
    pub fn set_origins(&mut self, origins: OriginKeys) {
        self.engine.set_origins(origins);
    }

    /// What the operator calls a peer.
    pub fn peer_name(&self, peer: PeerId) -> Option<&str> {
        self.names.get(&peer).map(String::as_str)
    }

    /// Peers that an object sent now goes to.
    pub fn peers_up(&self) -> impl Iterator<Item = PeerId> {
        self.engine.view().up().map(|(peer, _)| peer)
    }

    /// What the engine knows about its peers and objects.
    pub fn status(&self) -> Status {
        self.engine.status(now())
    }

    /// Tells every peer that we go.
    pub fn close(&mut self) -> io::Result<()> {
        self.engine.close(now());
        // What the socket does not take at once is not waited for: a peer notices silence, too.
        self.turn().map(|_| ())
    }

    /// How packets move.
    pub fn caps(&self) -> Caps {
        self.io.caps()
    }

    /// What has moved.
    pub fn io_stats(&self) -> IoStats {
        self.io.stats()
    }

    /// Where packets arrive.
    pub fn local_addr(&self) -> io::Result<std::net::SocketAddr> {
        self.io.local_addr()
    }
}
