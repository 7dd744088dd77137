//! The properties that fuzzing tries to break, apart from the fuzzer.
//!
//! In come any bytes; a broken property is a panic. The fuzz target calls this, and so does the test `fuzz_corpora`, with every
//! input that was ever worth keeping.

use utxo_shard::journal::{BLOCK_BYTES, FRAME_BYTES, FrameHead, walk_bytes};
use utxo_shard::{Manifest, Roots, conformance, slot};

/// Any program of operations on shards gives the answers of the plain reference, and leaves shards that believe the truth.
pub fn store(data: &[u8]) {
    let (shards, program) = data.split_first().unwrap_or((&0, &[]));
    let mut engine = conformance::small_shards(u16::from(shards % 3) + 1);
    conformance::differential(program, &mut engine);
    for shard in engine.shards() {
        shard.check();
    }
}

/// Any bytes, as a journal, as the payload of a sound frame, as a slot, as roots and as a manifest: nothing but answers, and a record
/// that is read is written as the same bytes.
pub fn journal(data: &[u8]) {
    walk_bytes(data, &mut |_, _| {});
    let payload = &data[..data.len().min(BLOCK_BYTES - FRAME_BYTES)];
    let mut block = vec![0; FRAME_BYTES];
    block.extend_from_slice(payload);
    let head = FrameHead {
        shard: 1,
        payload_bytes: payload.len() as u32,
        incarnation: 2,
        epoch: 3,
        closes: 3,
        place: 4,
        complete: 2,
        folder: 5,
        begins: true,
    };
    head.seal(&mut block);
    let mut written = Vec::new();
    let frames = walk_bytes(&block, &mut |got, record| {
        assert_eq!(*got, head);
        record.encode(&mut written);
    });
    assert_eq!(frames, 1, "a sealed frame is one");
    assert!(payload.starts_with(&written), "records came back as other bytes");
    slot::walk_slot(data, 1, 2, 3);
    let (shards, rest) = data.split_first().unwrap_or((&0, &[]));
    let _ = Roots::decode(rest, u16::from(shards % 4) + 1);
    let _ = Manifest::decode(data, 1, 2);
}
