//! The properties that fuzzing tries to break, apart from the fuzzer.
//!
//! In come any bytes; a broken property is a panic. The fuzz target calls this, and so does the test `fuzz_corpora`, with every
//! input that was ever worth keeping.

use dataplane::partition::Partition;
use utxo_shard::{ShardConfig, Shards, conformance};

/// Any program of operations on shards gives the answers of the plain reference, and leaves shards that believe the truth.
pub fn store(data: &[u8]) {
    let (shards, program) = data.split_first().unwrap_or((&0, &[]));
    let partition = Partition::new([9; 16], u16::from(shards % 3) + 1, 1);
    let small = ShardConfig::small(0, partition, (3, 4), conformance::params());
    let config = ShardConfig {
        transactions_max: 4096,
        slab_bytes: 8 << 20,
        announced_max: 64,
        watched_max: 64,
        waiters_max: 256,
        ..small
    };
    let mut engine = Shards::new(&config, true);
    conformance::differential(program, &mut engine);
    for shard in engine.shards() {
        shard.check();
    }
}
