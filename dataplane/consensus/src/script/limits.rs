//! Limits of scripts: what a coin's era and the operator's policy allow.
//!
//! [`Limits`] is what the operator chooses (consensus or policy numbers); [`CoinLimits`] is what applies to one input
//! after the coin's era was looked at. Coins from before Genesis always have the old fixed limits.
//!
//! Source: SV Node `consensus/consensus.h`, `policy/policy.h`, `configscriptpolicy.h`; consensus rules section 2.2.

use super::Flags;

/// The largest item a coin from before Genesis may push or build, in bytes.
pub const ELEMENT_BYTES_MAX_BEFORE_GENESIS: usize = 520;
/// The most items on both stacks for a coin from before Genesis.
pub const STACK_ITEMS_MAX_BEFORE_GENESIS: usize = 1_000;
/// What an item costs beside its bytes in the stack memory account.
pub const ITEM_OVERHEAD_BYTES: u64 = 32;
/// Largest number of a Genesis coin under consensus rules, in bytes.
pub const NUMBER_BYTES_MAX_GENESIS: u64 = 750_000;
/// Largest number of a Chronicle coin under consensus rules, in bytes.
pub const NUMBER_BYTES_MAX_CHRONICLE: u64 = 32_000_000;
/// Counts of CHECKMULTISIG are numbers of at most this many bytes in every era.
pub const COUNT_BYTES_MAX: u64 = 4;
/// Operands of CHECKLOCKTIMEVERIFY and CHECKSEQUENCEVERIFY are at most this many bytes.
pub const LOCKTIME_BYTES_MAX: u64 = 5;

/// What the operator allows for coins from Genesis on. Coins from before Genesis have fixed limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest script, in bytes.
    pub script_bytes: u64,
    /// Most counted operations a script.
    pub operations: u64,
    /// Most public keys of one CHECKMULTISIG.
    pub multisig_keys: u64,
    /// Largest number for coins of the Genesis era, in bytes.
    pub number_bytes_genesis: u64,
    /// Largest number for coins of the Chronicle era, in bytes.
    pub number_bytes_chronicle: u64,
    /// Stack memory: over both stacks, the sum of item length plus [`ITEM_OVERHEAD_BYTES`].
    pub stack_memory_bytes: u64,
}

impl Limits {
    /// Consensus limits; `stack_memory_bytes` is the operator's mandatory `maxstackmemoryusageconsensus` (0: none).
    pub const fn consensus(stack_memory_bytes: u64) -> Self {
        Self {
            script_bytes: u32::MAX as u64,
            operations: u32::MAX as u64,
            multisig_keys: u32::MAX as u64,
            number_bytes_genesis: NUMBER_BYTES_MAX_GENESIS,
            number_bytes_chronicle: NUMBER_BYTES_MAX_CHRONICLE,
            stack_memory_bytes: if stack_memory_bytes == 0 {
                i64::MAX as u64
            } else {
                stack_memory_bytes
            },
        }
    }

    /// SV Node's default policy limits.
    pub const fn policy() -> Self {
        Self {
            script_bytes: 500_000,
            operations: u32::MAX as u64,
            multisig_keys: u32::MAX as u64,
            number_bytes_genesis: 10_000,
            number_bytes_chronicle: 10_000,
            stack_memory_bytes: 100_000_000,
        }
    }

    /// The limits of one input.
    pub(super) const fn of_coin(&self, flags: Flags) -> CoinLimits {
        if !flags.has(Flags::UTXO_AFTER_GENESIS) {
            return CoinLimits {
                script_bytes: 10_000,
                operations: 500,
                multisig_keys: 20,
                number_bytes: 4,
                stack_memory_bytes: i64::MAX as u64,
            };
        }
        CoinLimits {
            script_bytes: self.script_bytes,
            operations: self.operations,
            multisig_keys: self.multisig_keys,
            number_bytes: if flags.has(Flags::UTXO_AFTER_CHRONICLE) {
                self.number_bytes_chronicle
            } else {
                self.number_bytes_genesis
            },
            stack_memory_bytes: self.stack_memory_bytes,
        }
    }
}

/// The limits that apply to both scripts of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CoinLimits {
    pub script_bytes: u64,
    pub operations: u64,
    pub multisig_keys: u64,
    pub number_bytes: u64,
    pub stack_memory_bytes: u64,
}
