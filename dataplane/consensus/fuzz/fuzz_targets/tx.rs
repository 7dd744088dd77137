#![no_main]
//! Any bytes are a transaction or an error; in pieces as at once; writing is the inverse.
//!
//! `cargo +nightly fuzz run tx` in `dataplane/consensus`; the property itself is `bodies::tx`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::tx(data));
