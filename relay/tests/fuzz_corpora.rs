//! Every input that fuzzing ever found worth keeping, run again by the normal test.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use relay::testing::Dice;
use std::path::{Path, PathBuf};

/// Changed inputs a target, beside those of the corpus; `BFR_CHANGES` asks for more.
const CHANGES: u64 = 300;

/// Runs every input of the corpus, then inputs changed at random, all the same for the same corpus.
fn replay(target: &str, at_least: usize, body: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&dir).expect("the corpus is part of the checkout");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort_unstable();
    assert!(paths.len() >= at_least, "{} inputs in {}", paths.len(), dir.display());
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
