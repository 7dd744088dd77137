//! The properties that fuzzing tries to break, apart from the fuzzer.
//!
//! In come any bytes; a broken property is a panic. The fuzz targets call these, and so does the test `fuzz_corpora`, with
//! every input that was ever worth keeping.

use relay::compact::{Bundle, Hasher, TxStore, block, subtree, unpack};
use relay::engine::{Engine, EngineConfig, Links, LinksConfig};
use relay::link::Keys;
use relay::object::ObjectsConfig;
use relay::testing::{Scripted, address, open_lookups};
use relay::wire::{Frame, FrameBuf, HELLO_LEN, Inside, Packet, write_hello};
use relay::{NowUs, PeerConfig, Priority, TxLookup};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const START: NowUs = NowUs(1_000_000);
const OBJECTS_BYTES_MAX: usize = 4 << 20;

/// Any bytes are read without a panic, and what is read is written again as the same bytes.
pub fn packet(data: &[u8]) {
    match Packet::parse(data) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(Packet::Hello(hello)) => assert_eq!(&write_hello(hello.id, hello.proof)[..], data),
        Ok(Packet::Answer(_)) => assert!(data.len() <= HELLO_LEN),
        Ok(Packet::Sealed(sealed)) => {
            let Ok(Inside::Frame(frame)) = Inside::parse(sealed.authenticated) else { return };
            let mut again = FrameBuf::default();
            match &frame {
                Frame::Data(data) => {
                    again.data(&data.fields, data.payload.len()).copy_from_slice(data.payload);
                }
                Frame::Nack(nack) => {
                    again.nack(nack.object, nack.object_len, nack.entries());
                }
                Frame::Stop(stop) => {
                    again.stop(stop.flags, stop.object, stop.object_len, stop.groups.iter());
                }
                Frame::Want(want) => again.want(want.object, want.form, want.body),
                Frame::Root(root) => again.root(
                    root.object,
                    root.object_len,
                    root.group,
                    root.leaves,
                    root.root,
                    root.signature,
                ),
            }
            let (ours, theirs) = (again.written(), sealed.authenticated);
            assert_eq!((&ours[..2], &ours[8..28]), (&theirs[..2], &theirs[8..28]));
            assert_eq!(ours[32..], theirs[32..]);
        }
    }
}

fn keys(node: u8) -> Keys {
    Keys::from_secret([node + 1; 32])
}

fn peer_config(node: u8, addr: Option<SocketAddr>) -> PeerConfig {
    PeerConfig {
        name: format!("node {node}"),
        addr,
        public_key: *keys(node).public(),
        trusted: node.is_multiple_of(2),
        rate_mbit: 1_000,
        dedicated_line: true,
    }
}

/// An engine that is called by `caller` and calls nobody.
fn engine(caller: u8) -> Engine {
    let objects = ObjectsConfig {
        object_bytes_max: 1 << 20,
        bytes_max: OBJECTS_BYTES_MAX,
        bytes_per_peer_max: 2 << 20,
        objects_max: 16,
        ..ObjectsConfig::default()
    };
    let config = EngineConfig { objects, ..EngineConfig::default() };
    let mut engine = Engine::new(config, keys(0), open_lookups(), &[9; 32], START);
    engine.set_peers(vec![peer_config(caller, None)], START);
    engine
}

/// Cuts any bytes into pieces: two bytes of length, then that many; the last one may be short.
pub fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = data.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_le_bytes(*len) & 0x07ff).min(rest.len());
        let (piece, rest) = rest.split_at(len);
        data = rest;
        Some(piece)
    })
}

/// Datagrams from addresses that prove nothing leave no trace, and nobody gets more bytes than he sent.
pub fn stranger(data: &[u8]) {
    let mut engine = engine(1);
    let mut owed: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut now = START;
    for piece in pieces(data) {
        let Some((from, datagram)) = piece.split_first() else { continue };
        let from = address(usize::from(*from));
        now += 300;
        engine.receive(from, datagram, now);
        *owed.entry(from).or_default() += datagram.len();
        engine.tick(now);
        engine.transmit(now, &mut |to, answer| {
            let owed = owed.get_mut(&to).expect("an answer to somebody who asked");
            *owed = owed.checked_sub(answer.len()).expect("an answer longer than its question");
            true
        });
    }
    let status = engine.status(now);
    assert_eq!((status.sessions, status.objects.in_flight, status.objects.bytes), (0, 0, 0));
    assert!(engine.event().is_none(), "a stranger made something happen");
}

/// The engine, and the peer that calls it.
struct Two {
    engine: Engine,
    links: Links,
    upper: Scripted,
    now: NowUs,
    /// Datagrams handed over so far, in both directions.
    count: usize,
}

impl Two {
    fn new(caller: u8) -> Self {
        let mut links = Links::new(LinksConfig::default(), keys(caller), &[8; 32], START);
        let mut upper = Scripted::new(Priority::Control);
        links.set_peers(vec![peer_config(0, Some(address(0)))], &mut upper, START);
        Self { engine: engine(caller), links, upper, now: START, count: 0 }
    }

    /// Lets both work for a millisecond; `change` may touch each datagram, which has a number.
    fn turn(&mut self, change: &mut dyn FnMut(usize, &mut Vec<u8>)) {
        self.now += 1_000;
        let now = self.now;
        self.links.tick(&mut self.upper, now);
        self.engine.tick(now);
        let mut to_engine = Vec::new();
        self.links.transmit(&mut self.upper, now, &mut |_, bytes| {
            to_engine.push(bytes.to_vec());
            true
        });
        for mut bytes in to_engine {
            change(self.count, &mut bytes);
            self.count += 1;
            self.engine.receive(address(1), &bytes, now);
        }
        let mut to_peer = Vec::new();
        self.engine.transmit(now, &mut |_, bytes| {
            to_peer.push(bytes.to_vec());
            true
        });
        for mut bytes in to_peer {
            change(self.count, &mut bytes);
            self.count += 1;
            self.links.receive(address(0), &bytes, &mut self.upper, now);
        }
    }

    fn is_up(&self) -> bool {
        self.upper.up && self.engine.view().up().count() == 1
    }
}

/// One datagram of a handshake is changed: it makes no session, and does not keep the next call from making one.
pub fn handshake(data: &[u8]) {
    let Some((which, change)) = data.split_first() else { return };
    let which = usize::from(*which) % 5;
    let mut two = Two::new(1);
    let mut changed = false;
    for turn in 0..2_000 {
        two.turn(&mut |number, bytes| {
            if number == which && !changed {
                let before = bytes.clone();
                match change.split_first() {
                    Some((0, patch)) => {
                        bytes.iter_mut().zip(patch).for_each(|(byte, patch)| *byte ^= patch);
                    }
                    Some((1, other)) => *bytes = other.to_vec(),
                    Some((_, noise)) if bytes.len() == HELLO_LEN => {
                        // The cookie stays, so that the curve is reached.
                        bytes[24..].iter_mut().zip(noise).for_each(|(byte, noise)| *byte = *noise);
                    }
                    _ => {}
                }
                changed = *bytes != before;
            }
        });
        if two.is_up() {
            break;
        }
        assert!(turn < 1_999, "two seconds after a changed datagram there is no session");
    }
    assert!(two.engine.status(two.now).sessions <= 2);
}

/// Frames of a peer whose key is proved, any bytes in them: memory stays within its limits and comes back.
pub fn peer(data: &[u8]) {
    let (caller, data) = data.split_first().unwrap_or((&1, &[]));
    let mut two = Two::new(1 + caller % 2);
    (0..20).for_each(|_| two.turn(&mut |_, _| {}));
    assert!(two.is_up(), "a clean line");
    for piece in pieces(data) {
        let frame = piece.to_vec();
        two.upper.frames.push_back(Box::new(move |out| out.any(&frame)));
        two.turn(&mut |_, _| {});
        let status = two.engine.status(two.now);
        assert!(status.objects.bytes <= OBJECTS_BYTES_MAX, "{} bytes", status.objects.bytes);
        assert!(status.objects.in_flight <= 16, "{} objects", status.objects.in_flight);
        while two.engine.event().is_some() {}
    }
    // The peer falls silent: everything that waits for it ends.
    for _ in 0..1_000 {
        two.now = two.engine.next_due(two.now).max(two.now + 1_000);
        two.engine.tick(two.now);
        two.engine.transmit(two.now, &mut |_, _| true);
        while two.engine.event().is_some() {}
    }
    let objects = two.engine.status(two.now).objects;
    assert_eq!((objects.in_flight, objects.bytes), (0, 0), "after {} us", two.now.since(START));
}

/// Any bytes as what objects carry: read without a panic, in memory bounded by what arrived, and what has one encoding is
/// written again as the same bytes. The first byte says what the others are.
pub fn payload(data: &[u8]) {
    const BYTES_MAX: usize = 1 << 20;
    let Some((kind, bytes)) = data.split_first() else { return };
    let hasher = Hasher::new();
    let mut store = TxStore::new(1 << 20);
    store.offer([3; 32], b"a transaction");
    match kind % 6 {
        0 => {
            if let Some(outline) = block::Outline::read(bytes) {
                assert_eq!(outline.write(), bytes);
                let _ = outline.is_true();
            }
            if block::is_true(bytes, &hasher) {
                let cut = block::sketch(bytes, &hasher);
                if let Some((sketch, body)) = cut {
                    let sketch = block::Sketch::read(&sketch, BYTES_MAX).expect("we wrote it");
                    assert_eq!(sketch.block(&bytes[body]), bytes);
                }
            }
        }
        1 => {
            if let Some(sketch) = block::Sketch::read(bytes, BYTES_MAX) {
                let filled = sketch.fill(&mut store);
                assert_eq!(filled.body.len(), sketch.body_len);
                assert!(sketch.body_len == 0 || !filled.knows(0..sketch.body_len));
            }
        }
        2 => {
            let raw_len = bytes.get(48..52).map_or(0, |count| {
                let count = u32::from_le_bytes(count.try_into().expect("four bytes"));
                32 + count as usize * 32
            });
            if let Ok(plain) = subtree::unname(bytes, raw_len, &mut store, &hasher) {
                assert!(plain.len() == raw_len && raw_len <= 4 * bytes.len());
                assert!(subtree::is_true(&plain, &hasher));
            }
        }
        3 => {
            let _ = subtree::is_true(bytes, &hasher);
        }
        4 => {
            if let Ok(bundle) = Bundle::parse(bytes) {
                let sum: usize = bundle.txs().map(|tx| tx.len() + 2).sum();
                assert!(sum <= bytes.len());
            }
        }
        _ => {
            let Some((len, packed)) = bytes.split_first_chunk::<4>() else { return };
            let len = u32::from_le_bytes(*len) as usize;
            if let Some(raw) = unpack(packed, len, BYTES_MAX) {
                assert!(raw.len() == len && len <= BYTES_MAX);
            }
        }
    }
}
