//! Our relay in the race: the engine and the `udp` backend in one loop, as `metanode relay run` turns them.
//!
//! In: peers on either side, with Noise sessions and authenticated packets like anywhere; orders. Out: objects, and when they were
//! here whole, verified by the engine; what arrived is compared with what was sent after the clock was read. A source and its relays
//! keep their links from run to run, so parity is sized by what those links lost before.

use super::cell::RATE_MBIT;
use super::node::{Desk, Order, PORT, Place};
use super::object::{Kind, N_BITS, Object, PARENT};
use crate::rng::Rng;
use consensus::hash::{sha256, sha256d};
use emulator::link::now_ns;
use relay::compact::TxStore;
use relay::engine::{Engine, EngineConfig, Event};
use relay::io::{Backend, IoOptions};
use relay::link::Keys;
use relay::node::Relay;
use relay::object::ObjectEvent;
use relay::{Class, Found, HeaderView, Lookups, PeerConfig, TxLookup};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What peers may send: the link, less what Ethernet adds to a packet and the pacer does not count (1,266 bytes for 1,248).
const PEER_MBIT: u32 = RATE_MBIT * 98 / 100;

/// Objects of a stream that are under way at once, and their size.
const UNDER_WAY: usize = 2;
const STREAM_BYTES: usize = 1_000_000;

/// What a node of the race keeps of transactions it has seen.
const STORE_BYTES: usize = 64 << 20;

/// The transactions that a node of the race knows: a standalone relay's own store, filled before each run.
#[derive(Clone)]
struct Pool(Arc<Mutex<TxStore>>);

impl Pool {
    fn fill(&self, object: &Object, known: &[bool]) {
        let mut store = self.store();
        for i in (0..object.txs.len()).filter(|i| known[*i]) {
            store.offer(sha256d(object.tx(i)), object.tx(i));
        }
    }

    fn store(&self) -> MutexGuard<'_, TxStore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TxLookup for Pool {
    fn resolve(&mut self, salt: [u8; 16], ids: &[u64], found: &mut Found<'_>) {
        self.store().resolve(salt, ids, found);
    }

    fn offer(&mut self, txid: [u8; 32], bytes: &[u8]) {
        self.store().offer(txid, bytes);
    }
}

/// A chain of one block, on which every raced block builds.
struct Headers;

impl HeaderView for Headers {
    fn parent_known(&self, hash: &[u8; 32]) -> bool {
        *hash == PARENT
    }

    fn required_bits(&self, parent: &[u8; 32], _time_s: u32) -> Option<u32> {
        self.parent_known(parent).then_some(N_BITS)
    }

    fn accepted(&mut self, _header: &[u8; 80]) {}
}

/// Keys of the node at `hop`: known to all who know the seed, and good for nothing else.
fn keys(place: &Place, hop: usize) -> Keys {
    Keys::from_secret(sha256(format!("race {} {hop}", place.seed).as_bytes()))
}

fn peers(place: &Place) -> Vec<PeerConfig> {
    let peer = |hop: usize, ip: Ipv4Addr| PeerConfig {
        name: format!("node {hop}"),
        addr: Some(SocketAddr::from((ip, PORT))),
        public_key: *keys(place, hop).public(),
        trusted: true,
        rate_mbit: place.shared_mbit.unwrap_or(PEER_MBIT),
        dedicated_line: place.shared_mbit.is_none(),
    };
    let before =
        (!place.is_source()).then(|| peer(place.hop - 1, emulator::Chain::addresses(place.hop).0));
    let next = (!place.is_last())
        .then(|| peer(place.hop + 1, emulator::Chain::addresses(place.hop + 1).1));
    before.into_iter().chain(next).collect()
}

/// How an object is named to the relay: whole where nobody knows any of it.
fn class_of(place: &Place) -> Class {
    match (place.kind, place.overlap_pct) {
        (Kind::Roots, _) | (Kind::Block, Some(_)) => Class::Block,
        _ => Class::Opaque,
    }
}

/// Takes part in every run of the cell.
pub fn live(place: &Place, desk: &mut Desk) -> io::Result<()> {
    let pool = Pool(Arc::new(Mutex::new(TxStore::new(STORE_BYTES))));
    let lookups = Lookups { txs: Box::new(pool.clone()), headers: Box::new(Headers) };
    let seed = sha256(format!("luck {} {}", place.seed, place.hop).as_bytes());
    let mut engine = Engine::new(
        EngineConfig::default(),
        keys(place, place.hop),
        lookups,
        &seed,
        relay::node::now(),
    );
    let wanted = peers(place);
    let (peers, mut up) = (wanted.len(), 0);
    engine.set_peers(wanted, relay::node::now());
    let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let opened = relay::io::open(Backend::Udp, &IoOptions::at(listen))?;
    let mut relay = Relay::new(engine, opened.io);
    let waker = relay.waker();
    desk.ring(move || waker.wake());
    let mut arming = false;
    let mut making: Option<Receiver<Arc<[u8]>>> = None;
    let mut bytes: Arc<[u8]> = Arc::default();
    let mut class = class_of(place);
    let (mut received, mut stream, mut under_way) = (0, None, 0);
    loop {
        match desk.look() {
            Ok(Some(Order::Warm(run))) => {
                (bytes, class) =
                    (Object::new(Kind::Block, !place.seed, run).bytes.into(), Class::Opaque);
                arming = true;
            }
            Ok(Some(Order::Arm(run))) => {
                class = class_of(place);
                // Beside the relay, as a node would: packets of the last run are still coming in.
                let (place, pool, waker) = (place.clone(), pool.clone(), relay.waker());
                let (made, when_made) = mpsc::channel();
                making = Some(when_made);
                thread::spawn(move || {
                    let object = Object::new(place.kind, place.seed, run);
                    let overlap = place.overlap_pct.unwrap_or(0);
                    pool.fill(&object, &object.known(overlap, place.hop, place.seed, run));
                    // Nobody takes it where the race has ended.
                    let _ = made.send(object.bytes.into());
                    waker.wake();
                });
            }
            Ok(Some(Order::Go(_))) => {
                desk.t0()?;
                relay.send(class, bytes.clone(), None).map_err(io::Error::other)?;
            }
            Ok(Some(Order::Stream)) => stream = Some(Rng::new(place.seed)),
            Ok(Some(Order::Count)) => desk.bytes(received)?,
            Ok(Some(Order::End)) => {
                if place.status {
                    report(place, &relay);
                }
                desk.account()?;
            }
            Ok(None) => {}
            Err(()) => return Ok(()),
        }
        match making.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => {}
            Some(Ok(made)) => (bytes, making, arming) = (made, None, true),
            Some(Err(TryRecvError::Disconnected)) => {
                return Err(io::Error::other("no object could be made"));
            }
        }
        if let Some(rng) = stream.as_mut().filter(|_| under_way < UNDER_WAY) {
            let bytes: Arc<[u8]> = rng.bytes(STREAM_BYTES).into();
            relay.send(Class::Opaque, bytes, None).map_err(io::Error::other)?;
            under_way += 1;
        }
        let busy = relay.turn()?;
        while let Some(event) = relay.event() {
            match event {
                Event::PeerUp { .. } => up += 1,
                Event::PeerDown { .. } => up -= 1,
                // A block's header comes first, as an object of its own.
                Event::Object(ObjectEvent::Received { class: Class::Header, .. }) => {}
                Event::Object(ObjectEvent::Received { bytes: got, .. }) => {
                    let at_ns = now_ns();
                    received += got.len() as u64;
                    if place.shared_mbit.is_none() {
                        desk.done(at_ns, got == bytes)?;
                    }
                }
                Event::Object(ObjectEvent::Delivered { .. }) => {
                    under_way -= usize::from(stream.is_some());
                }
                Event::Object(ObjectEvent::Failed { why, .. }) => {
                    eprintln!("relay-node bfr {}: an object failed: {why:?}", place.hop);
                    under_way -= usize::from(stream.is_some());
                }
            }
        }
        if arming && up == peers {
            arming = false;
            desk.armed()?;
        }
        if !busy {
            relay.wait()?;
        }
    }
}

/// What the engine says about itself.
fn report(place: &Place, relay: &Relay) {
    let status = serde_json::to_string(&relay.status()).unwrap_or_default();
    let io = serde_json::to_string(&relay.io_stats()).unwrap_or_default();
    eprintln!("node {}: {status} {io}", place.hop);
}
