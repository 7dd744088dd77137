#![no_main]
//! Teranode's containers and merkle proofs: any bytes are an object or an error, and writing is the inverse.
//!
//! `cargo +nightly fuzz run containers` in `dataplane/consensus`; the property itself is `bodies::containers`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::containers(data));
