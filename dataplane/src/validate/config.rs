//! What a coordinator is built with: its place in the partition, its chain, its bounds, the operator's policy.

use crate::partition::Partition;
use consensus::params::ChainParams;
use consensus::rules::{ConsolidationPolicy, FeeRate, StandardPolicy};
use consensus::script::{Budget, Limits};

/// Everything a validate tile is told at start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who owns what.
    pub partition: Partition,
    /// Eras and activation heights.
    pub params: ChainParams,
    /// What it may hold at once.
    pub bounds: Bounds,
    /// What the operator accepts into the pool.
    pub policy: Policy,
    /// Where random eviction and the keys of its tables come from.
    pub seed: u64,
    /// Who verifies batches of signatures; `None`: the fastest kernel of this machine.
    pub verifier: Option<sigbatch::Backend>,
}

/// Bounds of one coordinator. Reached bounds push back on ingest links, or send orphans away; nothing grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Pool transactions in flight.
    pub transactions_max: u32,
    /// Inputs of transactions in flight.
    pub inputs_max: u64,
    /// Bytes of pool transactions in flight.
    pub bytes_max: u64,
    /// Slots kept free for transactions of blocks.
    pub block_transactions_max: u32,
    /// Bytes kept free for transactions of blocks.
    pub block_bytes_max: u64,
    /// Orphans.
    pub orphans_max: u32,
    /// Bytes of orphans.
    pub orphan_bytes_max: u64,
    /// Orphans of one source (sources that share a hash bucket share the bound).
    pub orphans_per_source_max: u32,
    /// An orphan older than this is dropped.
    pub orphan_age_max_ns: u64,
    /// How long a sender that waits for its verdict waits for a missing parent.
    pub orphan_told_ns: u64,
    /// How long a missing parent may still be on its way through another coordinator before its child is an orphan; 0: not.
    pub parent_grace_ns: u64,
    /// Offered copies without a verdict, beyond one a transaction.
    pub joined_max: u32,
    /// Transactions above [`SMALL_ITEMS_MAX`] inputs or outputs that are in flight at once.
    pub medium_max: u32,
    /// Transactions above [`MEDIUM_ITEMS_MAX`] inputs or outputs that are in flight at once.
    pub large_max: u32,
    /// Most inputs, and most outputs, of any transaction.
    pub large_items_max: usize,
    /// Bytes that may wait for one shard.
    pub outbox_bytes: usize,
    /// Scripts that may wait for the slow lane.
    pub long_queue_max: usize,
    /// Signatures that can be collected; from half of them on they are verified.
    pub signatures_max: usize,
}

/// Inputs and outputs that every slot has room for.
pub const SMALL_ITEMS_MAX: usize = 16;
/// Inputs and outputs of the middle class.
pub const MEDIUM_ITEMS_MAX: usize = 1_024;

impl Default for Bounds {
    fn default() -> Self {
        Self {
            transactions_max: 2_048,
            inputs_max: 131_072,
            bytes_max: 64 << 20,
            block_transactions_max: 4_096,
            block_bytes_max: 32 << 20,
            orphans_max: 4_096,
            orphan_bytes_max: 32 << 20,
            orphans_per_source_max: 2_048,
            orphan_age_max_ns: 1_200_000_000_000,
            orphan_told_ns: 250_000_000,
            parent_grace_ns: 50_000_000,
            joined_max: 8_192,
            medium_max: 256,
            large_max: 4,
            large_items_max: 131_072,
            outbox_bytes: 1 << 20,
            long_queue_max: 1_024,
            signatures_max: 64,
        }
    }
}

impl Bounds {
    /// Small enough for tests and simulators.
    pub fn small() -> Self {
        Self {
            transactions_max: 64,
            inputs_max: 4_096,
            bytes_max: 1 << 20,
            block_transactions_max: 32,
            block_bytes_max: 1 << 20,
            orphans_max: 16,
            orphan_bytes_max: 1 << 18,
            orphans_per_source_max: 16,
            orphan_age_max_ns: 10_000_000_000,
            orphan_told_ns: 1_000_000_000,
            parent_grace_ns: 0,
            joined_max: 64,
            medium_max: 4,
            large_max: 2,
            large_items_max: 8_192,
            outbox_bytes: 1 << 16,
            long_queue_max: 64,
            signatures_max: 32,
        }
    }
}

/// What the operator accepts into the pool; blocks are judged by consensus alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Least fee.
    pub fee_min: FeeRate,
    /// What may pay less.
    pub consolidation: ConsolidationPolicy,
    /// Standardness; `None` takes every form. From Genesis on locking scripts of any form are taken (SV Node: `-acceptnonstdoutputs`).
    pub standard: Option<StandardPolicy>,
    /// Largest pool transaction, raw bytes.
    pub tx_bytes_max: u64,
    /// Limits of scripts for pool transactions.
    pub script_limits: Limits,
    /// Limits of scripts for blocks (`maxstackmemoryusageconsensus` inside).
    pub block_script_limits: Limits,
    /// What the scripts of one input may cost on the hot tile; what costs more goes to the slow lane.
    pub hot_budget: Budget,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            fee_min: FeeRate { sat_per_kb: 1 },
            consolidation: ConsolidationPolicy::default(),
            standard: None,
            tx_bytes_max: 100_000_000,
            script_limits: Limits::policy(),
            block_script_limits: Limits::consensus(0),
            hot_budget: Budget { operations: 20_000, hashed_bytes: 1 << 20, bignum_cost: 0 },
        }
    }
}
