//! Stories of single transactions, told against a scripted shard.
