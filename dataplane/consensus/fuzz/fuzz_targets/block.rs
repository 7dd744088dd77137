#![no_main]
//! Any bytes are a block or an error; in pieces as at once.
//!
//! `cargo +nightly fuzz run block` in `dataplane/consensus`; the property itself is `bodies::block`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::block(data));
