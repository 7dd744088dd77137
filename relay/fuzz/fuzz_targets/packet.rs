#![no_main]
//! Any bytes are read totally, and what is read has one encoding.
//!
//! `cargo +nightly fuzz run packet` in `relay`; the property itself is `bodies::packet`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::packet(data));
