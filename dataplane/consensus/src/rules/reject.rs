//! How bad news is told: the codes of the `reject` message and the ban score.
//!
//! Source: SV Node `consensus/validation.h`, `net/net_processing.cpp`.

/// Points added to the ban score of the peer that sent the object; at 100 it is banned.
pub type Dos = u8;

/// Codes of the P2P message `reject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RejectCode {
    /// Could not be parsed.
    Malformed = 0x01,
    /// Breaks a rule.
    Invalid = 0x10,
    /// Of a version that is no longer accepted.
    Obsolete = 0x11,
    /// Known, or in conflict with something known.
    Duplicate = 0x12,
    /// Spends a frozen coin in a block.
    SoftConsensusFreeze = 0x13,
    /// Valid but not accepted by this node's policy.
    NonStandard = 0x40,
    /// An output too small to be spent.
    Dust = 0x41,
    /// Pays too little.
    InsufficientFee = 0x42,
    /// Contradicts a checkpoint.
    Checkpoint = 0x43,
    /// The node is too busy.
    TooBusy = 0x44,
    /// Sent too often.
    RateExceeded = 0x45,
}
