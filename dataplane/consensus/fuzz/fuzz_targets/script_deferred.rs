#![no_main]
//! Scripts with signature checks collected and decided later end as with checks at once.
//!
//! `cargo +nightly fuzz run script_deferred` in `dataplane/consensus`; the property itself is `bodies::script_deferred`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::script_deferred(data));
