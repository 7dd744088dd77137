//! Every program that fuzzing ever found worth keeping, run again by the normal test.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

#[test]
fn the_corpus_of_programs_finds_nothing() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/store");
    let mut replayed = 0;
    for entry in std::fs::read_dir(&dir).expect("the corpus is part of the checkout") {
        let path = entry.expect("readable").path();
        let program = std::fs::read(&path).expect("readable");
        eprintln!("{}", path.display());
        bodies::store(&program);
        replayed += 1;
    }
    assert!(replayed >= 24, "{replayed} programs in {}", dir.display());
}

#[test]
fn the_corpus_of_bytes_on_a_disk_finds_nothing() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/journal");
    let mut replayed = 0;
    for entry in std::fs::read_dir(&dir).expect("the corpus is part of the checkout") {
        let path = entry.expect("readable").path();
        bodies::journal(&std::fs::read(&path).expect("readable"));
        replayed += 1;
    }
    assert!(replayed >= 6, "{replayed} files in {}", dir.display());
}
