#![no_main]
//! No bytes on a disk make a reader of journals, checkpoints or manifests do anything but say what is wrong.
//!
//! `cargo +nightly fuzz run journal` in `utxo-shard`; the property itself is `bodies::journal`.

#[path = "../bodies.rs"]
#[allow(dead_code)] // each target calls one of them
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::journal(data));
