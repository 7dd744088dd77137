//! Replays every kept fuzz input through the property it was found for, without a fuzzer.
//!
//! A new finding is a file in `fuzz/corpus/<target>`; from then on this test holds it.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder that can be read").path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 8,
        "{}: {} inputs are too few to be the corpus",
        folder.display(),
        files.len()
    );
    for file in files {
        let data = std::fs::read(&file).expect("a file that can be read");
        eprintln!("{}", file.display());
        body(&data);
        // Cut and flipped inputs are tried too: they cost nothing and reach the error paths.
        for cut in [data.len() / 3, data.len().saturating_sub(1)] {
            body(&data[..cut]);
        }
        for at in [0, 5, data.len() / 2] {
            let mut flipped = data.clone();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 1 << (at % 8);
            }
            body(&flipped);
        }
    }
}

#[test]
fn kept_transactions_keep_their_properties() {
    replay("tx", bodies::tx);
}

#[test]
fn kept_blocks_keep_their_properties() {
    replay("block", bodies::block);
}

#[test]
fn kept_containers_keep_their_properties() {
    replay("containers", bodies::containers);
}

#[test]
fn kept_scripts_end_the_same_with_collected_checks() {
    replay("script_deferred", bodies::script_deferred);
}

#[test]
fn kept_scripts_end_the_same_in_slices() {
    replay("script_slices", bodies::script_slices);
}
