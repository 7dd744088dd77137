#![no_main]
//! Datagrams from nobody: no memory, no session, no answer longer than its question.
//!
//! `cargo +nightly fuzz run stranger` in `relay`; the property itself is `bodies::stranger`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::stranger(data));
