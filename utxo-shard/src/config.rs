//! What a shard is built with, and every bound it keeps.

use consensus::params::ChainParams;
use dataplane::msg::Epoch;
use dataplane::partition::Partition;

/// Outputs written by one piece of a record's creation.
pub const OUTPUTS_PER_STEP: u32 = 512;
/// Bytes walked by one piece of a record's creation.
pub const BYTES_PER_STEP: usize = 64 * 1024;
/// Waiters moved to their validators' wake lists by one step.
pub const RIPE_PER_STEP: u32 = 256;
/// Attempts that may wait for one held coin; the next is answered `Overloaded`.
pub const COIN_WAITERS_MAX: u16 = 64;
/// Attempts and orphans that may wait for one transaction.
pub const TX_WAITERS_MAX: u16 = 16 * 1024;
/// Largest output index that can be imported by itself.
pub const IMPORT_VOUT_MAX: u32 = 1 << 24;
/// Largest height until which a record can be kept from pruning: three bytes of its header.
pub const KEPT_UNTIL_MAX: u32 = (1 << 24) - 1;
/// Blocks that are remembered as intervals; the next `SetMined` is refused until `prune` has dropped old ones.
pub const BLOCKS_MAX: usize = 1 << 16;
/// Blocks after which a coinbase output can be spent. Source: SV Node `COINBASE_MATURITY`.
pub const COINBASE_MATURITY_BLOCKS: u32 = 100;
/// Publish positions one decision names: one a shard.
pub const PARENTS_MAX: usize = 256;

/// The reserve: of what a shard has, one part in so many is kept for blocks (their coinbases, transactions and claims), so that a shard
/// which the pool has filled can go on with the chain, and a full node can mine itself empty.
pub const RESERVE_SHARE: usize = 64;
/// Most transactions of the reserve.
pub const RESERVE_TRANSACTIONS_MAX: usize = 1_000;
/// Most bytes of the reserve.
pub const RESERVE_BYTES_MAX: usize = 16 << 20;

/// Rule sets whose verification a shard remembers; what was verified under a further one is verified again for a block.
pub const RULE_SETS_MAX: usize = 64;

/// What a shard is built with. Everything is taken at start; memory is committed as it is first used.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// This shard's number.
    pub shard: u16,
    /// Owners and keys.
    pub partition: Partition,
    /// Key of the buckets of this shard's index; drawn once per data directory, another one for each shard.
    pub index_key: (u64, u64),
    /// Which eras coins are of.
    pub params: ChainParams,
    /// The epoch it starts in.
    pub epoch: Epoch,
    /// Most transactions held (records, announcements, and ids that orphans wait for).
    pub transactions_max: usize,
    /// Bytes for records, claims and announced transactions.
    pub slab_bytes: usize,
    /// Most transactions announced and not decided.
    pub announced_max: u32,
    /// Most ids without a transaction that orphans wait for.
    pub watched_max: u32,
    /// Most entries in all wait lists and watches together.
    pub waiters_max: u32,
}

impl ShardConfig {
    /// Bounds for a small node and for tests: a million transactions, a gigabyte (committed as used).
    pub fn small(
        shard: u16,
        partition: Partition,
        index_key: (u64, u64),
        params: ChainParams,
    ) -> Self {
        Self {
            shard,
            partition,
            index_key,
            params,
            epoch: Epoch { incarnation: 1, number: 1 },
            transactions_max: 1 << 20,
            slab_bytes: 1 << 30,
            announced_max: 1 << 16,
            watched_max: 1 << 16,
            waiters_max: 1 << 16,
        }
    }
}
