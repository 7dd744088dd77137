//! Every way to be thrown away is counted under its name: one cause after the other, and the counter it must move.
//!
//! In: an engine, a peer whose frames are scripted, strangers. Out: after each cause exactly that reason has grown. Reasons that need a
//! whole story stand beside what they guard: memory and objects in flight, headers and their work, origins
//! (`object/tests/gates.rs`, `object/tests/origins.rs`).

use relay::engine::{Engine, EngineConfig, Links, LinksConfig, OUTBOX_MAX};
use relay::link::Keys;
use relay::testing::{Scripted, Write, address, open_lookups};
use relay::wire::{Class, Code, DataFields, FrameBuf, ObjectId, SYMBOL_LEN, flags, write_hello};
use relay::{DropReason, NowUs, PeerConfig, Priority};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

const START: NowUs = NowUs(1_000_000);

fn keys(node: u8) -> Keys {
    Keys::from_secret([node + 1; 32])
}

fn config(node: u8, addr: Option<SocketAddr>) -> PeerConfig {
    PeerConfig {
        name: format!("node {node}"),
        addr,
        public_key: *keys(node).public(),
        trusted: true,
        rate_mbit: 1_000,
        dedicated_line: true,
    }
}

struct Stage {
    engine: Engine,
    links: Links,
    peer: Scripted,
    now: NowUs,
    /// The newest packets to the engine.
    recorded: VecDeque<Vec<u8>>,
    before: BTreeMap<String, u64>,
}

impl Stage {
    fn new() -> Self {
        let mut engine =
            Engine::new(EngineConfig::default(), keys(0), open_lookups(), &[9; 32], START);
        engine.set_peers(vec![config(1, None)], START);
        let mut links = Links::new(LinksConfig::default(), keys(1), &[8; 32], START);
        let mut peer = Scripted::new(Priority::Control);
        links.set_peers(vec![config(0, Some(address(0)))], &mut peer, START);
        let (recorded, before) = (VecDeque::new(), BTreeMap::new());
        let mut stage = Self { engine, links, peer, now: START, recorded, before };
        (0..50).for_each(|_| stage.turn());
        assert_eq!(stage.engine.view().up().count(), 1, "a clean line");
        stage.before = stage.drops();
        stage
    }

    fn turn(&mut self) {
        self.now += 1_000;
        let now = self.now;
        self.links.tick(&mut self.peer, now);
        self.engine.tick(now);
        let (engine, recorded) = (&mut self.engine, &mut self.recorded);
        self.links.transmit(&mut self.peer, now, &mut |_, bytes| {
            recorded.push_back(bytes.to_vec());
            recorded.drain(..recorded.len().saturating_sub(8));
            engine.receive(address(1), bytes, now);
            true
        });
        let mut answers = Vec::new();
        self.engine.transmit(now, &mut |to, bytes| {
            answers.push((to, bytes.to_vec()));
            true
        });
        for (_, bytes) in answers.iter().filter(|(to, _)| *to == address(1)) {
            self.links.receive(address(0), bytes, &mut self.peer, now);
        }
    }

    /// The peer says this.
    fn says(&mut self, write: impl Fn(&mut FrameBuf) + 'static) {
        self.peer.frames.push_back(Box::new(write));
        while !self.peer.frames.is_empty() {
            self.turn();
        }
    }

    /// A stranger says this; what he is answered.
    fn stranger(&mut self, datagram: &[u8]) -> Vec<u8> {
        self.engine.receive(address(7), datagram, self.now);
        let mut answer = Vec::new();
        self.engine.transmit(self.now, &mut |to, bytes| {
            if to == address(7) {
                answer = bytes.to_vec();
            }
            true
        });
        answer
    }

    fn drops(&self) -> BTreeMap<String, u64> {
        let drops = self.engine.status(self.now).drops;
        drops.iter().map(|(name, count)| ((*name).to_string(), *count)).collect()
    }

    /// Since the last call this reason has grown, and no other.
    fn counted(&mut self, reason: DropReason) {
        let now = self.drops();
        let more = |name: &String| now[name] - self.before.get(name).copied().unwrap_or(0);
        let grown: Vec<_> = now.keys().filter(|name| more(name) > 0).collect();
        assert_eq!(grown, [reason.name()], "{now:?}, before {:?}", self.before);
        self.before = now;
    }
}

/// A symbol of an object of two groups.
fn symbol(object: u64, symbol: u8) -> DataFields {
    DataFields {
        flags: 0,
        object: ObjectId(object),
        object_len: 100_000,
        group: 1,
        symbol,
        k: 44,
        code: Code::Rs8,
        class: Class::Opaque,
        hops_left: 8,
        parity: 5,
    }
}

#[test]
fn what_strangers_send_is_counted_by_what_is_wrong_with_it() {
    let mut stage = Stage::new();
    stage.stranger(&[0x1f; 100]);
    stage.counted(DropReason::Malformed);
    stage.stranger(&[&[0x11, flags::COOKIE, 0, 0][..], &[5; 20]].concat());
    stage.counted(DropReason::AnswerUnasked);
    stage.stranger(&[&[0x12, 0, 0xee, 0xee][..], &[0; 60]].concat());
    stage.counted(DropReason::KeyUnknown);
    stage.stranger(&write_hello(1, Some((&[1; 16], &[2; 112]))));
    stage.counted(DropReason::CookieWrong);

    // Behind a cookie of its own: noise for a handshake, sixteen at once, then no more.
    for call in 0..16 {
        let cookie = stage.stranger(&write_hello(call, None))[8..].try_into().expect("a cookie");
        stage.stranger(&write_hello(call, Some((&cookie, &[7; 112]))));
        stage.counted(DropReason::HandshakeWrong);
    }
    let cookie = stage.stranger(&write_hello(99, None))[8..].try_into().expect("a cookie");
    stage.stranger(&write_hello(99, Some((&cookie, &[7; 112]))));
    stage.counted(DropReason::HelloRate);

    for from in 0..OUTBOX_MAX {
        stage.engine.receive(address(100 + from), &write_hello(1, None), stage.now);
    }
    stage.counted(DropReason::HelloFlood);
}

#[test]
fn packets_of_a_session_are_counted_by_what_is_wrong_with_their_number_and_tag() {
    let mut stage = Stage::new();
    let old = stage.recorded.back().expect("something was said").clone();
    stage.engine.receive(address(1), &old, stage.now);
    stage.counted(DropReason::Replay);
    let mut forged = old.clone();
    forged[4..8].copy_from_slice(&10_000_u32.to_le_bytes());
    stage.engine.receive(address(1), &forged, stage.now);
    stage.counted(DropReason::MacWrong);
    // A window later the old number is older than what is remembered.
    for _ in 0..(1 << 16) / 60 + 60 {
        stage.peer.frames.extend((0..60).map(|_| -> Write {
            Box::new(|frame| {
                frame.stop(flags::HAVE_ALL, ObjectId(1), 5, []);
            })
        }));
        stage.turn();
    }
    stage.before = stage.drops();
    stage.engine.receive(address(1), &old, stage.now);
    stage.counted(DropReason::TooOld);
}

#[test]
fn frames_are_counted_by_what_is_wrong_with_them() {
    let mut stage = Stage::new();
    stage.says(|frame| frame.any(&[0x14; 40]));
    stage.counted(DropReason::FrameMalformed);
    let data = |fields: DataFields| {
        move |frame: &mut FrameBuf| frame.data(&fields, SYMBOL_LEN).fill(fields.symbol)
    };
    stage.says(data(DataFields { code: Code::None, ..symbol(1, 0) }));
    stage.counted(DropReason::ShapeWrong);
    stage.says(data(symbol(2, 0)));
    stage.says(data(symbol(2, 0)));
    stage.counted(DropReason::SymbolKnown);
    stage.says(data(DataFields { object_len: 100_001, ..symbol(2, 1) }));
    stage.counted(DropReason::ShapeDiffers);
    stage.says(data(DataFields { object_len: u32::MAX, k: 128, ..symbol(3, 0) }));
    stage.counted(DropReason::ObjectTooLarge);
    stage.says(|frame| {
        frame.nack(ObjectId(4), 100_000, []);
    });
    stage.counted(DropReason::ObjectUnknown);
}

#[test]
fn a_peer_that_asks_for_repair_again_and_again_is_counted() {
    let mut stage = Stage::new();
    let bytes: Arc<[u8]> = vec![3; 300_000].into();
    stage.engine.send(Class::Opaque, bytes, None, stage.now).expect("it is sent");
    (0..20).for_each(|_| stage.turn());
    let (object, len) = *stage.peer.got.first().expect("symbols came");
    stage.before = stage.drops();
    for _ in 0..40 {
        stage.says(move |frame| {
            let entry = relay::wire::NackEntry { group: 0, need: 60 };
            frame.nack(object, len, [entry]);
        });
    }
    stage.counted(DropReason::NackQuota);
}
