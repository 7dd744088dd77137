#![no_main]
//! A handshake with one datagram changed: no session from it, and the next call works.
//!
//! `cargo +nightly fuzz run handshake` in `relay`; the property itself is `bodies::handshake`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::handshake(data));
