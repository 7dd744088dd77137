//! The properties that fuzzing tries to break, apart from the fuzzer.
//!
//! In come any bytes; a broken property is a panic. The fuzz target calls this, and so does the test `fuzz_corpora`, with every
//! input that was ever worth keeping.

use utxo_shard::conformance;

/// Any program of operations on shards gives the answers of the plain reference, and leaves shards that believe the truth.
pub fn store(data: &[u8]) {
    let (shards, program) = data.split_first().unwrap_or((&0, &[]));
    let mut engine = conformance::small_shards(u16::from(shards % 3) + 1);
    conformance::differential(program, &mut engine);
    for shard in engine.shards() {
        shard.check();
    }
}
