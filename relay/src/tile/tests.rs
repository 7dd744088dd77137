//! Both tiles on real links and real sockets: two nodes that relay what their links say.

use super::*;
use crate::compact::{Bundle, write_tx};
use crate::engine::{Engine, EngineConfig};
use crate::io::{IoOptions, PacketIo, Udp};
use crate::link::Keys;
use crate::testing::open_lookups;
use crate::{Class, NowUs, PeerConfig, PeerId};
use consensus::hash::{MerkleHash, TxId};
use dataplane::metrics::Metrics;
use dataplane::msg::pack_control::Record;
use dataplane::msg::pack_store::{SubtreeFrag, SubtreeLeaf};
use dataplane::msg::{Accepted, AcceptedKind, Epoch, IngestHeader};
use dataplane::partition::Partition;
use dataplane::stem::{Stem, Turn};
use dataplane::tile::Stamp;
use dataplane::time::HostClock;
use dataplane::topo::{BuildOptions, ExternalEnds, Kind::*, Topology, each, one};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// Where sources of peers begin.
const SOURCE: u32 = 1_000;

struct Node {
    net: Stem<Net, HostClock>,
    bfr: Stem<Bfr, HostClock>,
    shard: ExternalEnds,
    pack: ExternalEnds,
    chain: ExternalEnds,
    validate: ExternalEnds,
    /// Transactions that reached the validators, with their sources.
    txs: Vec<(u32, Vec<u8>)>,
    /// Objects that reached the chain.
    objects: Vec<(Class, Vec<u8>)>,
    /// Links that the chain was told of.
    ups: usize,
    desk: Desk,
    metrics: Metrics,
    reads: bool,
    published: u64,
}

fn keys(node: u8) -> Keys {
    Keys::from_secret([node + 1; 32])
}

fn socket() -> Box<dyn PacketIo> {
    let options = IoOptions::at(SocketAddr::from(([127, 0, 0, 1], 0)));
    Box::new(Udp::open(&options).expect("a port").0)
}

impl Node {
    /// Node `own`, whose peer is the other one, at `peer` if it listens already.
    fn new(own: u8, io: Box<dyn PacketIo>, peer: Option<SocketAddr>) -> Self {
        let mut t = Topology::new("relay alone");
        for name in ["shard", "pack", "chain", "validate"] {
            t.external(name, 1);
        }
        t.tile::<Net>(1);
        t.tile::<Bfr>(1);
        let mtu = datagram::MTU as u32;
        t.link("net_bfr", 2_048, mtu, Shed, one("net"), one("bfr"));
        t.link("shard_bfr", 256, 2_048, Lossless, one("shard"), one("bfr")).arena(4 * MIB);
        t.link("pack_bfr", 64, 2_048, Lossless, one("pack"), one("bfr"));
        t.link("chain_bfr", 16, 2_048, Lossless, one("chain"), one("bfr")).arena(4 * MIB);
        t.link("bfr_net", 1_024, mtu, Lossless, one("bfr"), one("net")).window(1_024);
        t.link("bfr_validate", 64, 2_048, Shed, one("bfr"), each("validate")).arena(4 * MIB);
        t.link("bfr_chain", 16, 2_048, Lossless, one("bfr"), one("chain"))
            .window(16)
            .arena(4 * MIB);
        t.floating("net");
        t.floating("bfr");
        let plan = t.plan().expect("a sound table");
        let mut machine = plan.build(&BuildOptions::default()).expect("links are taken");
        let clock = HostClock::start();
        let seed = [own + 50; 32];
        let mut engine =
            Engine::new(EngineConfig::default(), keys(own), open_lookups(), &seed, NowUs(0));
        let peer = PeerConfig {
            name: "other".into(),
            addr: peer,
            public_key: *keys(1 - own).public(),
            trusted: true,
            rate_mbit: 1_000,
            dedicated_line: false,
        };
        engine.set_peers(vec![peer], NowUs(0));
        let wiring = machine.wiring("net", 0).expect("there");
        let desk = Desk::default();
        let net = Net::new(io, wiring.output("net_bfr").expect("there"), desk.clone());
        let net = wiring.stem(net, clock.clone());
        let wiring = machine.wiring("bfr", 0).expect("there");
        let config = BfrConfig {
            partition: Partition::new([7; 16], 1, 1),
            source: SOURCE,
            txs: AcceptedTxs::new(MIB as usize),
            desk: desk.clone(),
        };
        let tile = Bfr::new(engine, config, &wiring);
        let bfr = wiring.stem(tile, clock);
        let metrics = machine.metrics().clone();
        let mut end = |name| machine.external(name, 0).expect("there");
        Self {
            net,
            bfr,
            shard: end("shard"),
            pack: end("pack"),
            chain: end("chain"),
            validate: end("validate"),
            txs: Vec::new(),
            objects: Vec::new(),
            ups: 0,
            desk,
            metrics,
            reads: true,
            published: 0,
        }
    }

    fn turn(&mut self) {
        self.net.turn();
        self.bfr.turn();
        while self.reads
            && let Some(frag) = self.validate.ins[0].poll()
        {
            let (header, tx) = IngestHeader::read(frag.bytes).expect("an ingest frag");
            assert_eq!(header.flags, IngestHeader::NO_VERDICT);
            self.txs.push((header.source, tx.to_vec()));
        }
        self.validate.ins[0].return_credit();
        while let Some(frag) = self.chain.ins[0].poll() {
            match Note::of(frag.sig).expect("a note") {
                Note::Object { class, peer } => {
                    assert_eq!(peer, Some(PeerId(0)));
                    self.objects.push((class, frag.bytes.to_vec()));
                }
                Note::PeerUp { peer } => {
                    assert_eq!((peer, frag.bytes.len()), (PeerId(0), 0));
                    self.ups += 1;
                }
            }
        }
        self.chain.ins[0].return_credit();
    }

    fn accept(&mut self, kind: AcceptedKind, tx: &[u8]) {
        self.published += 1;
        let empty = [0; Accepted::FIXED_LEN];
        let accepted = Accepted {
            kind,
            shard: 0,
            block: 0,
            publish_seq: self.published,
            epoch: Epoch::default(),
            fee_sat: 1,
            txid: TxId::of(tx),
            parents: Accepted::decode(&empty).expect("no parents").parents,
            tx,
        };
        let mut frag = vec![0; accepted.encoded_len()];
        accepted.encode(&mut frag).expect("it fits");
        let out = self.shard.outs[0].producer();
        out.publish_any(0, 0, &frag, 0).expect("room");
    }

    fn count(&self, counter: BfrCount) -> u64 {
        self.bfr.tile().count(counter)
    }
}

fn until(what: &str, nodes: &mut [Node; 2], mut done: impl FnMut(&[Node; 2]) -> bool) {
    let began = Instant::now();
    while !done(nodes) {
        nodes.iter_mut().for_each(Node::turn);
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
    }
}

fn turns(nodes: &mut [Node; 2], count: usize) {
    for _ in 0..count {
        nodes.iter_mut().for_each(Node::turn);
    }
}

fn is_up(node: &Node) -> bool {
    node.bfr.tile().engine().view().up().count() == 1
}

/// Two nodes whose links are up.
fn two() -> [Node; 2] {
    let (a, b) = (socket(), socket());
    let (at_a, at_b) = (a.local_addr().expect("bound"), b.local_addr().expect("bound"));
    let mut nodes = [Node::new(0, a, Some(at_b)), Node::new(1, b, Some(at_a))];
    until("the links come up", &mut nodes, |nodes| nodes.iter().all(is_up));
    nodes
}

fn tx(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

#[test]
fn what_one_node_accepts_reaches_the_validators_of_the_other_and_does_not_come_back() {
    let mut nodes = two();
    let mut sent: Vec<Vec<u8>> = (0..60).map(|n| tx(n, 300)).collect();
    // One above the mtu.
    sent.push(tx(60, 50_000));
    for tx in &sent {
        nodes[0].accept(AcceptedKind::Pool, tx);
        turns(&mut nodes, 3);
    }
    until("all of them arrive", &mut nodes, |nodes| nodes[1].txs.len() == sent.len());
    let mut got: Vec<_> = nodes[1].txs.iter().map(|(_, tx)| tx.clone()).collect();
    assert!(nodes[1].txs.iter().all(|(source, _)| *source == SOURCE));
    got.sort();
    sent.sort();
    assert_eq!(got, sent);
    assert!(nodes[0].count(BfrCount::BundlesSent) < 61, "transactions travel together");
    until("the counters show it", &mut nodes, |nodes| {
        let tile = |name| nodes[1].metrics.tile(name, 0).expect("there");
        let (net, bfr) = (tile("net"), tile("bfr"));
        net.counter(NetCount::Received) > 0
            && bfr.counter(BfrCount::TxsReceived) == 61
            && bfr.counter(BfrCount::PeersUp) == 1
    });

    // The other node accepts them too; evicted ones and those of blocks are nobody's news.
    for tx in &sent {
        nodes[1].accept(AcceptedKind::Pool, tx);
        turns(&mut nodes, 3);
    }
    nodes[1].accept(AcceptedKind::Block, &tx(900, 100));
    nodes[1].accept(AcceptedKind::Evicted, &[]);
    turns(&mut nodes, 200);
    assert_eq!(nodes[1].count(BfrCount::TxsKnown), 61);
    assert_eq!((nodes[1].count(BfrCount::TxsSent), nodes[0].txs.len()), (0, 0));
}

#[test]
fn validators_that_are_behind_lose_transactions_and_nothing_else() {
    let mut nodes = two();
    nodes[1].reads = false;
    let mut bundle = Vec::new();
    (0..500).for_each(|n| write_tx(&mut bundle, &tx(n, 200)));
    assert_eq!(Bundle::parse(&bundle).expect("sound").txs().count(), 500);
    let sig = Class::Bundle as u64;
    let out = nodes[0].chain.outs[0].producer();
    out.publish_any(sig, 0, &bundle, 0).expect("room");
    until("the bundle is taken apart", &mut nodes, |nodes| {
        nodes[1].count(BfrCount::TxsReceived) + nodes[1].count(BfrCount::TxsShed) == 500
    });
    assert!(nodes[1].count(BfrCount::TxsShed) >= 400, "the link holds 64");
    // Objects pass all the same.
    let object = vec![9; 100_000];
    let out = nodes[0].chain.outs[0].producer();
    out.publish_any(Class::Opaque as u64, 0, &object, 0).expect("room");
    until("an object passes", &mut nodes, |nodes| !nodes[1].objects.is_empty());
    assert_eq!(nodes[1].objects, [(Class::Opaque, object)]);
    nodes[1].reads = true;
    turns(&mut nodes, 3);
    assert_eq!(nodes[1].txs.len() as u64, nodes[1].count(BfrCount::TxsReceived));
}

#[test]
fn a_released_subtree_arrives_as_its_root_and_its_ids_and_a_dropped_one_does_not() {
    let mut nodes = two();
    let leaves: Vec<SubtreeLeaf> = (0..64)
        .map(|n| SubtreeLeaf { txid: TxId([n as u8; 32]), fee_sat: 1, size_bytes: 200 })
        .collect();
    let ids: Vec<[u8; 32]> = leaves.iter().map(|leaf| leaf.txid.0).collect();
    let hasher = sigbatch::Hasher::new();
    let MerkleHash(root) = crate::compact::subtree::root_of(&ids, &hasher).root;
    let mut release = |number: u64, end: bool| {
        let root = TxId(root);
        let head =
            SubtreeFrag::Head { number, index: 0, leaves: 64, root, fees_sat: 64, size_bytes: 1 };
        let mut frag = [0; 2_048];
        let out = nodes[0].pack.outs[0].producer();
        let len = head.encode(&mut frag).expect("it fits");
        out.publish(0, Stamp(0).0, &frag[..len]).expect("room");
        for piece in leaves.chunks(32).take(if end { 2 } else { 1 }) {
            // As pack writes it: tag, number, count, records.
            let mut bytes = vec![2];
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            for leaf in piece {
                let mut record = [0; SubtreeLeaf::LEN];
                leaf.write(&mut record);
                bytes.extend_from_slice(&record);
            }
            assert!(SubtreeFrag::decode(&bytes).is_some(), "as pack writes it");
            out.publish(0, 0, &bytes).expect("room");
        }
        if !end {
            let len = SubtreeFrag::Dropped { number }.encode(&mut frag).expect("it fits");
            out.publish(0, 0, &frag[..len]).expect("room");
        }
    };
    release(1, false);
    release(2, true);
    until("the subtree arrives", &mut nodes, |nodes| !nodes[1].objects.is_empty());
    let mut want = root.to_vec();
    ids.iter().for_each(|id| want.extend_from_slice(id));
    assert_eq!(nodes[1].objects, [(Class::Subtree, want)]);
    assert_eq!(nodes[0].count(BfrCount::SubtreesSent), 1);
}

#[test]
fn rubbish_ends_at_the_engine_and_a_flood_at_the_door() {
    let mut nodes = two();
    let to = nodes[0].net.tile().local_addr();
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for n in 0..500u32 {
        stranger.send_to(&tx(n, 900), to).expect("sent");
    }
    turns(&mut nodes, 300);
    let dropped: u64 = nodes[0].bfr.tile().engine().status(NowUs(0)).drops.values().sum();
    assert!(dropped >= 400, "{dropped}");
    assert_eq!((nodes[0].txs.len(), nodes[0].objects.len()), (0, 0));
    let object = vec![3; 10_000];
    let out = nodes[1].chain.outs[0].producer();
    out.publish_any(Class::Opaque as u64, 0, &object, 0).expect("room");
    until("an object passes", &mut nodes, |nodes| !nodes[0].objects.is_empty());
    assert_ne!(nodes[0].net.turn(), Turn::Backpressured);
}

#[test]
fn an_object_for_one_peer_is_sent_again_although_it_was_sent_before() {
    let mut nodes = two();
    turns(&mut nodes, 3);
    assert_eq!((nodes[0].ups, nodes[1].ups), (1, 1), "the chains know of the link");
    let object = vec![5; 30_000];
    let send = |node: &mut Node, peer| {
        let note = Note::Object { class: Class::Opaque, peer };
        let out = node.chain.outs[0].producer();
        out.publish_any(note.sig(), 0, &object, 0).expect("room");
    };
    let sent = |node: &Node| node.desk.shown().engine.expect("shown").objects.sent;
    send(&mut nodes[0], None);
    until("the object passes", &mut nodes, |nodes| nodes[1].objects.len() == 1);
    // Long after the engine has let it go.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_500) {
        turns(&mut nodes, 10);
    }
    let before = nodes[0].count(BfrCount::ObjectsSent);
    let was = sent(&nodes[0]);
    send(&mut nodes[0], None);
    until("it is taken", &mut nodes, |nodes| nodes[0].count(BfrCount::ObjectsSent) > before);
    send(&mut nodes[0], Some(PeerId(0)));
    until("and once more", &mut nodes, |nodes| sent(&nodes[0]) > was);
    turns(&mut nodes, 200);
    assert_eq!(nodes[1].objects.len(), 1, "who has it says so and does not hand it over twice");
}

#[test]
fn peers_are_dropped_and_added_over_the_desk() {
    let mut nodes = two();
    let shown = nodes[0].desk.shown().engine.expect("it was shown");
    assert_eq!(shown.peers.len(), 1);
    nodes[0].desk.set_peers(Vec::new());
    until("the peer is gone", &mut nodes, |nodes| !is_up(&nodes[0]));
    until("and the desk says so", &mut nodes, |nodes| {
        nodes[0].desk.shown().engine.is_some_and(|status| status.peers.is_empty())
    });
}
