//! Script flags: the bits of SV Node's `script_flags.h`, as plain numbers.
//!
//! The interpreter gives them meaning; this crate's parameters say which are set at which height.

use super::Era;

/// Evaluate P2SH for coins from before Genesis.
pub const P2SH: u32 = 1 << 0;
/// Strict encodings of public keys and hash types.
pub const STRICTENC: u32 = 1 << 1;
/// Strict DER signatures.
pub const DERSIG: u32 = 1 << 2;
/// S at most half the order.
pub const LOW_S: u32 = 1 << 3;
/// The extra item of `OP_CHECKMULTISIG` is empty.
pub const NULLDUMMY: u32 = 1 << 4;
/// Unlocking scripts only push.
pub const SIGPUSHONLY: u32 = 1 << 5;
/// Minimal pushes and numbers.
pub const MINIMALDATA: u32 = 1 << 6;
/// Executed upgradable NOPs fail.
pub const DISCOURAGE_UPGRADABLE_NOPS: u32 = 1 << 7;
/// One item at the end.
pub const CLEANSTACK: u32 = 1 << 8;
/// BIP65.
pub const CHECKLOCKTIMEVERIFY: u32 = 1 << 9;
/// BIP112.
pub const CHECKSEQUENCEVERIFY: u32 = 1 << 10;
/// The operand of `OP_IF` is empty or one.
pub const MINIMALIF: u32 = 1 << 13;
/// Failing signature checks need empty signatures.
pub const NULLFAIL: u32 = 1 << 14;
/// Compressed keys only; never set by the node.
pub const COMPRESSED_PUBKEYTYPE: u32 = 1 << 15;
/// FORKID signatures are demanded.
pub const ENABLE_SIGHASH_FORKID: u32 = 1 << 16;
/// The spending block is at or after Genesis.
pub const GENESIS: u32 = 1 << 18;
/// The coin was made at or after Genesis.
pub const UTXO_AFTER_GENESIS: u32 = 1 << 19;
/// The spending block is at or after Chronicle.
pub const CHRONICLE: u32 = 1 << 20;
/// The coin was made at or after Chronicle.
pub const UTXO_AFTER_CHRONICLE: u32 = 1 << 21;

/// Flags of the mempool without those of an era. Source: SV Node `policy/policy.h`.
pub const STANDARD: u32 = P2SH
    | STRICTENC
    | ENABLE_SIGHASH_FORKID
    | LOW_S
    | NULLFAIL
    | DERSIG
    | NULLDUMMY
    | DISCOURAGE_UPGRADABLE_NOPS
    | CHECKLOCKTIMEVERIFY
    | CHECKSEQUENCEVERIFY
    | CLEANSTACK
    | MINIMALDATA;

/// What the era of the spending block sets.
pub fn era_bits(era: Era) -> u32 {
    match era {
        Era::PreGenesis => 0,
        Era::PostGenesis => GENESIS | SIGPUSHONLY,
        Era::PostChronicle => GENESIS | SIGPUSHONLY | CHRONICLE,
    }
}

/// What the era of the coin sets.
pub fn coin_bits(era: Era) -> u32 {
    match era {
        Era::PreGenesis => 0,
        Era::PostGenesis => UTXO_AFTER_GENESIS,
        Era::PostChronicle => UTXO_AFTER_GENESIS | UTXO_AFTER_CHRONICLE,
    }
}
