//! The tile `bfr`: the engine between the node's links.
//!
//! In: `net_bfr`, datagrams; `shard_pack`, what the shards accepted; `pack_store` or `pack_bfr`, released subtrees; `chain_bfr`, objects the
//! chain wants sent. Out: `bfr_net`, datagrams; `bfr_validate`, transactions of peers; `bfr_chain`, every other object of peers.
//!
//! Every transaction that this node accepted may fill up sketches of blocks. One that did not come from a peer is put into a bundle, which leaves when it is full or
//! [`BUNDLE_WAIT_NS`] old. A bundle of a peer is taken apart: its transactions are shed by a validator that is behind, never waited
//! for. Blocks wait for the chain: `bfr_chain` is lossless, and while it is full no further event is taken from the engine. The chain is also
//! told which links came up. An object of the chain's that the engine has no room for waits, and those behind it on `chain_bfr` with it, up to
//! [`ROOM_WAIT_NS`]. A machine that ends says goodbye to the peers.
//!
//! It turns on an unpinned thread: objects come and go on its heap. The engine's own limits bound what that takes. Datagrams are always
//! taken, so one that is full of a peer's objects still answers the others.

use super::{AcceptedTxs, Desk, Note, datagram};
use crate::compact::{Bundle, write_tx};
use crate::engine::{Engine, Event};
use crate::object::{ObjectEvent, SendError};
use crate::{Class, NowUs, PeerId};
use consensus::hash::TxId;
use dataplane::counters;
use dataplane::metrics::CounterDef;
use dataplane::msg::pack_store::SubtreeFrag;
use dataplane::msg::{Accepted, AcceptedKind, IngestHeader};
use dataplane::partition::Partition;
use dataplane::tile::{Busy, Frag, House, In, Out, Outs, Tile};
use dataplane::time::Ns;
use dataplane::topo::Wiring;
use ring::{NotSent, Refused};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// A bundle leaves when it has so many bytes. Source: reference/relay.md C5, 16 to 64 KiB where round trips count.
pub const BUNDLE_BYTES: usize = 32 << 10;
/// Or when its first transaction is so old. Source: reference/relay.md C5.
pub const BUNDLE_WAIT_NS: Ns = 200_000;
/// Transactions of peers handed to validators in one turn.
const TXS_PER_TURN: usize = 256;
/// Ids of peers' transactions that are remembered, so that they are not sent back: what peers send in a few seconds.
const SEEN_MAX: usize = 1 << 17;
/// Events taken from the engine in one turn.
const EVENTS_PER_TURN: usize = 64;
/// How old the numbers of the engine may be: asking for them walks over all peers.
const STATUS_EVERY_NS: Ns = 100_000_000;
/// The core stays awake while the engine is due within this.
const AWAKE_US: u64 = 1_000;
/// How long an object of the chain's waits for room in the engine: whole objects that nobody waits for are forgotten after two seconds.
pub const ROOM_WAIT_NS: Ns = 5_000_000_000;

counters! {
    /// What the tile counts.
    pub enum BfrCount {
        /// Transactions of ours put into bundles.
        TxsSent = counter "txs_sent_total",
        /// Accepted transactions that came from a peer and are not sent back.
        TxsKnown = counter "txs_known_total",
        /// Bundles of ours that left.
        BundlesSent = counter "bundles_sent_total",
        /// Subtrees of ours that left.
        SubtreesSent = counter "subtrees_sent_total",
        /// Blocks and other objects of ours that left.
        ObjectsSent = counter "objects_sent_total",
        /// Objects of ours that nobody could be sent, or that there was no room for.
        Unsent = counter "objects_unsent_total",
        /// Transactions of peers given to a validator.
        TxsReceived = counter "txs_received_total",
        /// Transactions of peers that a validator had no room for.
        TxsShed = counter "txs_shed_total",
        /// Bundles of peers that were none.
        BundlesMalformed = counter "bundles_malformed_total",
        /// Objects of peers given to the chain.
        ObjectsReceived = counter "objects_received_total",
        /// Objects of peers that the chain's link has no room for at all.
        ObjectsDropped = counter "objects_dropped_total",
        /// Packets thrown away, whatever the reason.
        Drops = counter "packets_dropped_total",
        /// Peers whose link is up.
        PeersUp = gauge "peers_up",
    }
}

/// What an in-link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InKind {
    Datagrams,
    Accepted,
    Subtrees,
    Objects,
}

/// How the tile is set up.
#[derive(Clone, Debug)]
pub struct BfrConfig {
    /// Which validator takes a transaction.
    pub partition: Partition,
    /// Transactions of peer `p` carry the source `source + p`.
    pub source: u32,
    /// What the engine looks names up in.
    pub txs: AcceptedTxs,
    /// Where peers are asked for and numbers are shown.
    pub desk: Desk,
}

/// A subtree that is being released.
#[derive(Debug)]
struct Gathering {
    number: u64,
    leaves: u32,
    /// Root and ids so far: what travels.
    bytes: Vec<u8>,
}

/// A bundle that is being handed to the validators.
#[derive(Debug)]
struct Unpacking {
    from: PeerId,
    bytes: Arc<[u8]>,
    /// Transactions of it that are done.
    done: usize,
}

/// An object that is to be sent.
#[derive(Debug)]
struct Outgoing {
    class: Class,
    bytes: Arc<[u8]>,
    /// For this peer; for all where there is none.
    to: Option<PeerId>,
    /// When waiting for room ends.
    until: Ns,
}

/// The tile; see the module.
pub struct Bfr {
    engine: Engine,
    config: BfrConfig,
    ins: Vec<InKind>,
    net: Out,
    validate: Vec<Out>,
    chain: Out,
    bundle: Vec<u8>,
    bundle_since: Ns,
    seen: HashSet<TxId>,
    seen_order: VecDeque<TxId>,
    gathering: Option<Gathering>,
    unpacking: Option<Unpacking>,
    /// What waits for credit on `bfr_chain`.
    held: Option<(Note, Arc<[u8]>)>,
    /// An object of the chain's that waits for room in the engine.
    outgoing: Option<Outgoing>,
    is_closed: bool,
    counts: [u64; BfrCount::DEFS.len()],
    peers_up: u64,
    status_due: Ns,
}

impl std::fmt::Debug for Bfr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bfr").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Bfr {
    /// From a wiring: rows `net_bfr`, `shard_pack`, `pack_store` or `pack_bfr`, `chain_bfr` in; `bfr_net`, `bfr_validate`, `bfr_chain` out.
    /// The engine was made at time 0 of the machine's clock.
    ///
    /// # Panics
    /// If a row is missing or not known.
    pub fn new(engine: Engine, config: BfrConfig, wiring: &Wiring) -> Self {
        let kind = |row: &str| match row {
            "net_bfr" => InKind::Datagrams,
            "shard_pack" | "shard_bfr" => InKind::Accepted,
            "pack_store" | "pack_bfr" => InKind::Subtrees,
            "chain_bfr" => InKind::Objects,
            _ => panic!("bfr does not read {row}"),
        };
        let ins = wiring.input_rows().into_iter().map(kind).collect();
        let one = |row| wiring.output(row).unwrap_or_else(|| panic!("bfr has no out-link {row}"));
        let validate = wiring.outputs("bfr_validate");
        assert!(!validate.is_empty(), "bfr has no out-link bfr_validate");
        Self {
            engine,
            config,
            ins,
            net: one("bfr_net"),
            validate,
            chain: one("bfr_chain"),
            bundle: Vec::with_capacity(2 * BUNDLE_BYTES),
            bundle_since: 0,
            seen: HashSet::with_capacity(SEEN_MAX),
            seen_order: VecDeque::with_capacity(SEEN_MAX),
            gathering: None,
            unpacking: None,
            held: None,
            outgoing: None,
            is_closed: false,
            counts: [0; BfrCount::DEFS.len()],
            peers_up: 0,
            status_due: 0,
        }
    }

    /// The engine, to ask it between turns.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// A tally, for tests and simulators.
    pub fn count(&self, counter: BfrCount) -> u64 {
        self.counts[counter as usize]
    }

    fn add(&mut self, counter: BfrCount, n: u64) {
        self.counts[counter as usize] += n;
    }

    fn send(&mut self, class: Class, bytes: Arc<[u8]>, sent: BfrCount, at: NowUs) {
        // Without a peer nobody misses it; with all of them full the object is one of those they will ask another relay for.
        let counter =
            if self.engine.send(class, bytes, None, at).is_ok() { sent } else { BfrCount::Unsent };
        self.add(counter, 1);
    }

    /// Sends an object of the chain's, or keeps it until there is room.
    fn send_outgoing(&mut self, outgoing: Outgoing, now: Ns) {
        let to = outgoing.to.as_slice();
        let to = (!to.is_empty()).then_some(to);
        match self.engine.send(outgoing.class, outgoing.bytes.clone(), to, us(now)) {
            Ok(_) => self.add(BfrCount::ObjectsSent, 1),
            Err(SendError::Full { .. }) if now < outgoing.until => self.outgoing = Some(outgoing),
            Err(_) => self.add(BfrCount::Unsent, 1),
        }
    }

    fn send_bundle(&mut self, at: NowUs) {
        if !self.bundle.is_empty() {
            let bytes = Arc::from(self.bundle.as_slice());
            self.bundle.clear();
            self.send(Class::Bundle, bytes, BfrCount::BundlesSent, at);
        }
    }

    fn remember(&mut self, txid: TxId) {
        if !self.seen.insert(txid) {
            return;
        }
        if self.seen_order.len() == SEEN_MAX
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.seen_order.push_back(txid);
    }

    fn accepted(&mut self, frag: &[u8], now: Ns) {
        let accepted = Accepted::decode(frag).expect("shard_pack carries accepted transactions");
        if accepted.kind != AcceptedKind::Pool || accepted.tx.is_empty() {
            return;
        }
        self.config.txs.accepted(&accepted.txid, accepted.tx);
        if self.seen.contains(&accepted.txid) {
            return self.add(BfrCount::TxsKnown, 1);
        }
        if self.bundle.is_empty() {
            self.bundle_since = now;
        }
        write_tx(&mut self.bundle, accepted.tx);
        self.add(BfrCount::TxsSent, 1);
        if self.bundle.len() >= BUNDLE_BYTES {
            self.send_bundle(us(now));
        }
    }

    fn subtree(&mut self, frag: &[u8], now: Ns) {
        match SubtreeFrag::decode(frag).expect("pack releases subtrees") {
            SubtreeFrag::Head { number, leaves, root, .. } => {
                let mut bytes = Vec::with_capacity(32 + 32 * leaves as usize);
                bytes.extend_from_slice(&root.0);
                self.gathering = Some(Gathering { number, leaves, bytes });
            }
            SubtreeFrag::Leaves { number, leaves } => {
                let Some(gathering) = self.gathering.as_mut().filter(|g| g.number == number) else {
                    return;
                };
                for leaf in leaves.iter() {
                    gathering.bytes.extend_from_slice(&leaf.txid.0);
                }
                if gathering.bytes.len() >= 32 + 32 * gathering.leaves as usize {
                    let bytes = Arc::from(std::mem::take(&mut gathering.bytes));
                    self.gathering = None;
                    self.send(Class::Subtree, bytes, BfrCount::SubtreesSent, us(now));
                }
            }
            SubtreeFrag::Dropped { .. } => self.gathering = None,
        }
    }

    /// Hands on what peers sent; whether anything was done, or waits.
    fn deliver(&mut self, outs: &mut Outs) -> Busy {
        let mut did = false;
        for _ in 0..EVENTS_PER_TURN {
            if self.unpacking.is_some() {
                self.unpack(outs);
                did = true;
                // What is left of its turn belongs to the packets.
                break;
            }
            if let Some((note, bytes)) = self.held.take() {
                if outs.credit(self.chain) == 0 {
                    self.held = Some((note, bytes));
                    return Busy::Waiting;
                }
                let sent = outs.publish_any(self.chain, note.sig(), &bytes, 0);
                did = true;
                match sent {
                    Ok(_) if matches!(note, Note::PeerUp { .. }) => {}
                    Ok(_) => self.add(BfrCount::ObjectsReceived, 1),
                    Err(NotSent::Refused(Refused::TooLarge | Refused::Empty)) => {
                        self.add(BfrCount::ObjectsDropped, 1);
                    }
                    Err(_) => {
                        self.held = Some((note, bytes));
                        return Busy::Waiting;
                    }
                }
            }
            match self.engine.event() {
                None => break,
                Some(Event::PeerUp { peer }) => {
                    self.peers_up += 1;
                    self.held = Some((Note::PeerUp { peer }, Arc::from([])));
                }
                Some(Event::PeerDown { .. }) => self.peers_up -= 1,
                Some(Event::Object(ObjectEvent::Received {
                    class: Class::Bundle,
                    bytes,
                    from,
                    ..
                })) => {
                    if Bundle::parse(&bytes).is_ok() {
                        self.unpacking = Some(Unpacking { from, bytes, done: 0 });
                    } else {
                        self.add(BfrCount::BundlesMalformed, 1);
                    }
                }
                Some(Event::Object(ObjectEvent::Received { class, bytes, from, .. })) => {
                    self.held = Some((Note::Object { class, peer: Some(from) }, bytes));
                }
                Some(Event::Object(ObjectEvent::Delivered { .. } | ObjectEvent::Failed { .. })) => {
                }
            }
            did = true;
        }
        Busy::if_so(did)
    }

    fn unpack(&mut self, outs: &mut Outs) {
        let Some(mut unpacking) = self.unpacking.take() else { return };
        let bytes = unpacking.bytes.clone();
        let bundle = Bundle::parse(&bytes).expect("it was one when it came");
        let mut left = bundle.txs().skip(unpacking.done).peekable();
        let source = self.config.source + u32::from(unpacking.from.0);
        for tx in left.by_ref().take(TXS_PER_TURN) {
            self.remember(TxId::of(tx));
            let header =
                IngestHeader { source, flags: IngestHeader::NO_VERDICT, ..IngestHeader::default() };
            let to = self.validate[usize::from(self.config.partition.validator_of_bytes(tx))];
            let len = IngestHeader::LEN + tx.len();
            let sent = if len <= outs.mtu(to) {
                outs.publish_with(to, u64::from(source), |frag| {
                    header.write(frag);
                    frag[IngestHeader::LEN..len].copy_from_slice(tx);
                    len
                })
                .is_some()
            } else {
                let mut frag = vec![0; IngestHeader::LEN];
                header.write(&mut frag);
                frag.extend_from_slice(tx);
                outs.publish_any(to, u64::from(source), &frag, u64::from(source)).is_ok()
            };
            self.add(if sent { BfrCount::TxsReceived } else { BfrCount::TxsShed }, 1);
            unpacking.done += 1;
        }
        if left.peek().is_some() {
            self.unpacking = Some(unpacking);
        }
    }
}

/// The engine's time.
fn us(now: Ns) -> NowUs {
    NowUs(now / 1_000)
}

impl Tile for Bfr {
    const NAME: &'static str = "bfr";
    const BURST: u32 = 1;
    const FRAGS_PER_TURN: u32 = 512;
    const COUNTERS: &'static [CounterDef] = BfrCount::DEFS;

    fn housekeeping(&mut self, house: &mut House<'_>) {
        if let Some(peers) = self.config.desk.take_peers() {
            self.engine.set_peers(peers, us(house.now()));
        }
        if house.is_draining() && !self.is_closed {
            self.is_closed = true;
            // Nobody may be there any more to take these.
            (self.held, self.unpacking, self.outgoing) = (None, None, None);
            self.engine.close(us(house.now()));
        }
        if house.now() >= self.status_due {
            self.status_due = house.now() + STATUS_EVERY_NS;
            let status = self.engine.status(us(house.now()));
            self.counts[BfrCount::Drops as usize] = status.drops.values().sum();
            self.config.desk.show_engine(status);
        }
        self.counts[BfrCount::PeersUp as usize] = self.peers_up;
        for (counter, value) in self.counts.iter().enumerate() {
            house.set(counter, *value);
        }
    }

    fn before(&mut self, outs: &mut Outs) -> Busy {
        let now = outs.now();
        if !self.bundle.is_empty() && now - self.bundle_since >= BUNDLE_WAIT_NS {
            self.send_bundle(us(now));
        }
        if let Some(outgoing) = self.outgoing.take() {
            self.send_outgoing(outgoing, now);
        }
        self.engine.tick(us(now));
        if self.is_closed { Busy::No } else { self.deliver(outs) }
    }

    fn wants(&mut self, input: In, _outs: &Outs) -> u32 {
        match self.ins[input.index()] {
            // One after the other: the engine may have no room for it.
            InKind::Objects => u32::from(self.outgoing.is_none()),
            // Everything else has its place at once: in the engine, in the bundle, or among the counters.
            InKind::Datagrams | InKind::Accepted | InKind::Subtrees => u32::MAX,
        }
    }

    fn frag(&mut self, input: In, frag: Frag<'_>, outs: &mut Outs) {
        let now = outs.now();
        match self.ins[input.index()] {
            InKind::Datagrams => {
                let (from, bytes) = datagram::read(frag.bytes).expect("net_bfr carries datagrams");
                self.engine.receive(from, bytes, us(now));
            }
            InKind::Accepted => self.accepted(frag.bytes, now),
            InKind::Subtrees => self.subtree(frag.bytes, now),
            InKind::Objects => {
                let Some(Note::Object { class, peer: to }) = Note::of(frag.sig) else {
                    panic!("chain_bfr carried {:#x}, which is no object", frag.sig);
                };
                let (bytes, until) = (Arc::from(frag.bytes), now + ROOM_WAIT_NS);
                self.send_outgoing(Outgoing { class, bytes, to, until }, now);
            }
        }
    }

    fn after(&mut self, outs: &mut Outs) -> Busy {
        let at = us(outs.now());
        let net = self.net;
        let mut did = false;
        self.engine.transmit(at, &mut |to, bytes| {
            did = true;
            // Without credit the engine keeps the packet.
            outs.credit(net) > 0
                && outs.publish_with(net, 0, |frag| datagram::write(to, bytes, frag)).is_some()
        });
        // An engine that is due soon must not oversleep: its pace depends on it.
        let is_due = self.engine.next_due(at) <= at + AWAKE_US;
        Busy::if_so(did || is_due || !self.bundle.is_empty())
    }

    fn is_drained(&self) -> bool {
        self.unpacking.is_none() && self.held.is_none()
    }
}
