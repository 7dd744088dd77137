#![no_main]
//! Scripts run in slices end as in one go, having spent the same budget.
//!
//! `cargo +nightly fuzz run script_slices` in `dataplane/consensus`; the property itself is `bodies::script_slices`.

#[path = "../bodies.rs"]
#[allow(dead_code)]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::script_slices(data));
