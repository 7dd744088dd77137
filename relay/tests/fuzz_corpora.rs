//! Every input that fuzzing ever found worth keeping, run again by the normal test.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

fn replay(target: &str, at_least: usize, body: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut replayed = 0;
    for entry in std::fs::read_dir(&dir).expect("the corpus is part of the checkout") {
        let path = entry.expect("readable").path();
        eprintln!("{}", path.display());
        body(&std::fs::read(&path).expect("readable"));
        replayed += 1;
    }
    assert!(replayed >= at_least, "{replayed} inputs in {}", dir.display());
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
