#![no_main]
//! Any bytes as what objects carry: blocks, sketches, names, bundles, packed ones.
//!
//! `cargo +nightly fuzz run payload` in `relay`; the property itself is `bodies::payload`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::payload(data));
