#![no_main]
//! Any sequence of operations is answered as the reference answers.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run store` in `utxo-shard`; the property itself is `bodies::store`.

#[path = "../bodies.rs"]
#[allow(dead_code)] // each target calls one of them
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::store(data));
