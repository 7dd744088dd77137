//! HTTP: any body is read in every way, and what is read is the same in each of them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    control_plane::http::submit::bodies::examine(&bytes::Bytes::copy_from_slice(body));
});
