//! RPC: any body is read down to the transactions in its parameters, and whatever is read is written again as JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    control_plane::rpc::examine(&bytes::Bytes::copy_from_slice(body));
});
