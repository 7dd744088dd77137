//! Every input that fuzzing ever found worth keeping, run again by the normal test.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use relay::testing::Dice;
use relay::wire::{Frame, FrameBuf, Inside, Packet};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Changed inputs a target, beside those of the corpus; `BFR_CHANGES` asks for more.
const CHANGES: u64 = 300;

/// The inputs kept for a target.
fn corpus(target: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&dir).expect("the corpus is part of the checkout");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort_unstable();
    paths
}

/// Runs every input of the corpus, then inputs changed at random, all the same for the same corpus.
fn replay(target: &str, at_least: usize, body: fn(&[u8])) {
    let paths = corpus(target);
    assert!(paths.len() >= at_least, "{} inputs of {target}", paths.len());
    let inputs: Vec<Vec<u8>> =
        paths.iter().map(|path| std::fs::read(path).expect("readable")).collect();
    for (path, input) in paths.iter().zip(&inputs) {
        eprintln!("{}", path.display());
        body(input);
    }
    let asked = std::env::var("BFR_CHANGES").ok().and_then(|text| text.parse().ok());
    for seed in 0..asked.unwrap_or(CHANGES) {
        eprintln!("{target}: change {seed}");
        body(&changed(&inputs, &mut Dice::new(seed)));
    }
}

/// One input, or the halves of two, with a few bytes changed, taken out or repeated.
fn changed(inputs: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut pick = || inputs[dice.below(inputs.len() as u64) as usize].clone();
    let (mut bytes, other) = (pick(), pick());
    if dice.unit() < 0.3 {
        bytes.truncate(dice.below(bytes.len() as u64 + 1) as usize);
        let from = dice.below(other.len() as u64 + 1) as usize;
        bytes.extend_from_slice(&other[from..]);
    }
    for _ in 0..dice.below(8) {
        let at = dice.below(bytes.len() as u64 + 1) as usize;
        match dice.below(5) {
            0 => bytes.insert(at, dice.word() as u8),
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            2 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][dice.below(5) as usize],
            3 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            _ => {
                let end = (at + dice.below(200) as usize).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.extend_from_slice(&part);
            }
        }
    }
    bytes
}

#[test]
fn the_corpus_of_packets_finds_nothing() {
    replay("packet", 12, bodies::packet);
}

#[test]
fn the_corpus_of_strangers_finds_nothing() {
    replay("stranger", 6, bodies::stranger);
}

#[test]
fn the_corpus_of_handshakes_finds_nothing() {
    replay("handshake", 8, bodies::handshake);
}

#[test]
fn the_corpus_of_hostile_peers_finds_nothing() {
    replay("peer", 6, bodies::peer);
}

#[test]
fn the_corpus_of_payloads_finds_nothing() {
    replay("payload", 9, bodies::payload);
}

/// What a packet is called in `docs/bfr.md`, if these bytes are read to their end.
fn name_of(packet: Packet<'_>) -> Option<&'static str> {
    Some(match packet {
        Packet::Hello(hello) => {
            if hello.proof.is_some() {
                "HELLO"
            } else {
                "HELLO COOKIE"
            }
        }
        Packet::Answer(relay::wire::Answer::Cookie { .. }) => "ANSWER COOKIE",
        Packet::Answer(relay::wire::Answer::Noise { .. }) => "ANSWER",
        Packet::Sealed(sealed) => name_inside(Inside::parse(sealed.authenticated).ok()?),
    })
}

fn name_inside(inside: Inside<'_>) -> &'static str {
    match inside {
        Inside::Keep(_) => "KEEP",
        Inside::Close => "CLOSE",
        Inside::Frame(Frame::Data(_)) => "DATA",
        Inside::Frame(Frame::Nack(_)) => "NACK",
        Inside::Frame(Frame::Stop(_)) => "STOP",
        Inside::Frame(Frame::Want(_)) => "WANT",
        Inside::Frame(Frame::Root(_)) => "ROOT",
    }
}

const OF_SESSIONS: [&str; 7] = ["KEEP", "DATA", "NACK", "STOP", "CLOSE", "WANT", "ROOT"];
const BEFORE_SESSIONS: [&str; 4] = ["HELLO COOKIE", "ANSWER COOKIE", "HELLO", "ANSWER"];

/// A target that never gets behind the first byte of a type finds nothing in it.
#[test]
fn every_packet_type_of_the_specification_is_read_to_its_end_by_an_input_that_is_kept() {
    let read = |path: PathBuf| std::fs::read(path).expect("readable");
    let packets: Vec<Vec<u8>> = corpus("packet").into_iter().map(read).collect();
    let named: BTreeSet<&str> =
        packets.iter().filter_map(|bytes| name_of(Packet::parse(bytes).ok()?)).collect();
    let all: BTreeSet<&str> = OF_SESSIONS.into_iter().chain(BEFORE_SESSIONS).collect();
    assert_eq!(named, all, "target `packet`");

    // The same behind a session's tag, where the engine acts on it.
    let frames = corpus("peer").into_iter().map(read).flat_map(|bytes| {
        bodies::pieces(bytes.get(1..).unwrap_or_default()).map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    let mut frame = FrameBuf::default();
    let mut named = BTreeSet::new();
    for piece in frames {
        frame.any(&piece);
        named.extend(Inside::parse(frame.written()).ok().map(name_inside));
    }
    assert_eq!(named, BTreeSet::from(OF_SESSIONS), "target `peer`");

    // And each of a handshake's datagrams, changed on its way.
    let which: BTreeSet<u8> = corpus("handshake")
        .into_iter()
        .filter_map(|path| read(path).first().map(|n| n % 5))
        .collect();
    assert_eq!(which.len(), 5, "target `handshake`");
    let stranger: BTreeSet<u8> = corpus("stranger")
        .into_iter()
        .map(read)
        .flat_map(|bytes| {
            bodies::pieces(&bytes)
                .filter_map(|piece| piece.get(1).map(|b| b & 15))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!((0..=8).all(|kind| stranger.contains(&kind)), "target `stranger`: {stranger:?}");
}
