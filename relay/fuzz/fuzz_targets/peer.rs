#![no_main]
//! Any frames of a peer with a proved key: bounded memory, and all of it comes back.
//!
//! `cargo +nightly fuzz run peer` in `relay`; the property itself is `bodies::peer`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::peer(data));
