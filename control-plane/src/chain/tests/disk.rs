//! What is on disk: whatever a crash leaves opens, what was damaged is named, and no directory is taken for another's.

use super::bed::{Bed, branch, genesis, params, plain_block};
use crate::chain::ChainError;
use crate::chain::files::{ChainFiles, FilesError};
use consensus::params::{ChainParams, Network};
use std::path::{Path, PathBuf};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("chain")).expect("a directory");
    for file in std::fs::read_dir(from.join("chain")).expect("a directory") {
        let file = file.expect("an entry");
        if file.file_type().expect("a type").is_file() {
            std::fs::copy(file.path(), to.join("chain").join(file.file_name())).expect("a copy");
        }
    }
}

fn truncate(path: &Path, len: u64) {
    let file = std::fs::File::options().write(true).open(path).expect("the file");
    file.set_len(len).expect("cut");
}

fn len(path: &Path) -> u64 {
    std::fs::metadata(path).expect("the file").len()
}

#[test]
fn a_directory_cut_at_any_byte_of_its_last_records_opens() {
    let whole = tempfile::tempdir().expect("a temporary directory");
    let mut bed = Bed::open(whole.path()).expect("a new chain");
    let blocks = branch(&genesis(), 3, 1);
    bed.submit_all(&blocks[..2]);
    let (headers, files) = ("chain/headers.dat", "chain/blocks-00000.dat");
    let before = (len(&whole.path().join(headers)), len(&whole.path().join(files)));
    bed.submit_all(&blocks[2..]);
    drop(bed);
    let after = (len(&whole.path().join(headers)), len(&whole.path().join(files)));
    assert!(after.0 > before.0 && after.1 > before.1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cuts = (before.0..=after.0)
        .step_by(11)
        .map(|at| (headers, at))
        .chain((before.1..=after.1).step_by(7).map(|at| (files, at)));
    for (cut, (file, at)) in cuts.enumerate() {
        let path = dir.path().join(cut.to_string());
        copy(whole.path(), &path);
        truncate(&path.join(file), at);
        let mut bed = Bed::open(&path).unwrap_or_else(|e| panic!("{file} cut to {at}: {e}"));
        let is_whole = file == headers || at == after.1;
        assert_eq!(bed.chain.tip().height, if is_whole { 3 } else { 2 }, "{file} cut to {at}");
        let next = match is_whole {
            true => plain_block(&blocks[2], 1),
            false => blocks[2].clone(),
        };
        bed.submit_all(std::slice::from_ref(&next));
        drop(bed);
        let bed = Bed::open(&path).expect("what was cut and written again opens");
        assert_eq!(bed.tip(), next.hash);
    }
}

#[test]
fn damage_behind_which_more_follows_is_named_and_at_the_end_it_is_cut() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    bed.thread.state.files.blocks.file_bytes_max = 1_000;
    let blocks = branch(&genesis(), 9, 1);
    bed.submit_all(&blocks);
    drop(bed);
    let file = |n: u32| dir.path().join(format!("chain/blocks-{n:05}.dat"));
    assert!(file(2).exists(), "nine blocks fill several files of 1,000 bytes");
    let bed = Bed::open(dir.path()).expect("several files open");
    assert_eq!(bed.tip(), blocks[8].hash);
    drop(bed);
    let flip = |path: &PathBuf, at: u64| {
        let mut bytes = std::fs::read(path).expect("readable");
        bytes[at as usize] ^= 1;
        std::fs::write(path, bytes).expect("writable");
    };
    flip(&file(0), 70);
    let error = Bed::open(dir.path()).expect_err("a record head in the middle");
    assert!(matches!(error, ChainError::Files(FilesError::Damaged { at: 64, .. })), "{error}");
    flip(&file(0), 70);
    flip(&file(0), 200);
    let error = Bed::open(dir.path()).expect_err("a block in the middle");
    assert!(error.to_string().contains("is damaged"), "{error}");
    flip(&file(0), 200);
    let mut number = 0;
    while file(number + 1).exists() {
        number += 1;
    }
    let last = file(number);
    flip(&last, len(&last) - 1);
    let bed = Bed::open(dir.path()).expect("the end may be torn");
    assert_eq!(bed.tip(), blocks[7].hash);
}

#[test]
fn a_directory_of_another_network_version_or_program_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open = |params: &ChainParams| {
        ChainFiles::open(dir.path(), params, &mut |line| panic!("nothing to mend: {line}"))
    };
    open(&params()).expect("a new directory");
    let other = open(&ChainParams::of(Network::Test)).expect_err("regtest's");
    assert!(matches!(other, FilesError::Network { .. }), "{other}");
    let path = dir.path().join("chain/headers.dat");
    let head = std::fs::read(&path).expect("readable");
    let mut newer = head.clone();
    newer[12] = 2;
    std::fs::write(&path, newer).expect("writable");
    let error = open(&params()).expect_err("a later version");
    assert!(matches!(error, FilesError::Version { got: 2, .. }), "{error}");
    std::fs::write(&path, vec![7; 64]).expect("writable");
    assert!(matches!(open(&params()), Err(FilesError::NotOurs { .. })));
    std::fs::write(&path, &head[..30]).expect("writable");
    open(&params()).expect("a crash while the file was made");
}
