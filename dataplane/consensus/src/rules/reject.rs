//! How bad news is told: verdicts on transactions, the codes of the `reject` message, the ban score.
//!
//! A [`TxReject`] names one rule of SV Node. Its text is what peers and functional tests see, so it is SV Node's to the letter.
//! Source: SV Node `consensus/validation.h`, `validation.cpp`, `policy/policy.cpp`, `net/net_processing.cpp`.

use crate::script::ScriptError;

/// Points added to the ban score of the peer that sent the object; at 100 it is banned.
pub type Dos = u8;

/// Codes of the P2P message `reject`; those above 0xff stay inside the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
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
    /// Internal: a fee above the wallet's limit.
    HighFee = 0x100,
    /// Internal: already known.
    AlreadyKnown = 0x101,
    /// Internal: conflicts with a known transaction.
    Conflict = 0x102,
    /// Internal: no room.
    MempoolFull = 0x103,
}

macro_rules! tx_rejects {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $reason:literal, $dos:literal, $code:ident;)*) => {
        /// Why a transaction is refused. Exhaustive, numbers are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum TxReject {
            $($(#[$doc])* $name = $number,)*
        }

        impl TxReject {
            /// Every verdict, by number.
            pub const ALL: &'static [TxReject] = &[$(TxReject::$name),*];

            /// The verdict of a number, as it travels on links.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// SV Node's reject reason.
            pub const fn reason(self) -> &'static str {
                match self {
                    $(Self::$name => $reason,)*
                }
            }

            /// Ban score for the peer that sent it.
            pub const fn dos(self) -> Dos {
                match self {
                    $(Self::$name => $dos,)*
                }
            }

            /// The code of the `reject` message.
            pub const fn code(self) -> RejectCode {
                match self {
                    $(Self::$name => RejectCode::$code,)*
                }
            }
        }
    };
}

tx_rejects! {
    /// A coinbase outside a block's first place.
    Coinbase = 1, "bad-tx-coinbase", 100, Invalid;
    /// A block's first transaction is no coinbase.
    CoinbaseMissing = 2, "bad-cb-missing", 100, Invalid;
    /// No inputs.
    InputsEmpty = 3, "bad-txns-vin-empty", 10, Invalid;
    /// No outputs.
    OutputsEmpty = 4, "bad-txns-vout-empty", 10, Invalid;
    /// Larger than the era allows.
    Oversize = 5, "bad-txns-oversize", 100, Invalid;
    /// An output below zero.
    OutputNegative = 6, "bad-txns-vout-negative", 100, Invalid;
    /// An output above all the money there is.
    OutputTooLarge = 7, "bad-txns-vout-toolarge", 100, Invalid;
    /// Outputs together above all the money there is.
    OutputTotalTooLarge = 8, "bad-txns-txouttotal-toolarge", 100, Invalid;
    /// Too many signature operations before Genesis.
    Sigops = 9, "bad-txn-sigops", 100, Invalid;
    /// The unlocking script of a coinbase is shorter than 2 or longer than 100 bytes.
    CoinbaseLength = 10, "bad-cb-length", 100, Invalid;
    /// A P2SH output after Genesis.
    OutputP2sh = 11, "bad-txns-vout-p2sh", 100, Invalid;
    /// An input that spends nothing, in a transaction that is no coinbase.
    PrevoutNull = 12, "bad-txns-prevout-null", 10, Invalid;
    /// Two inputs spend the same output.
    InputsDuplicate = 13, "bad-txns-inputs-duplicate", 100, Invalid;
    /// Not final at this height and time (in a block).
    NonFinal = 14, "bad-txns-nonfinal", 10, Invalid;
    /// A relative lock is not over (in a block).
    RelativeLock = 15, "bad-txns-nonfinal", 100, Invalid;
    /// A relative lock is not over (in the mempool).
    RelativeLockPool = 16, "non-BIP68-final", 0, NonStandard;
    /// An input's coin does not exist or is spent (in a block).
    InputsMissingOrSpent = 17, "bad-txns-inputs-missingorspent", 100, Invalid;
    /// A confiscation transaction with malformed contents.
    ConfiscationInvalid = 18, "bad-ctx-invalid", 0, Invalid;
    /// A confiscation transaction that no court order names.
    ConfiscationNotWhitelisted = 19, "bad-ctx-not-whitelisted", 0, Invalid;
    /// Spends a frozen coin (in the mempool).
    InputsFrozen = 20, "bad-txns-inputs-frozen", 0, Invalid;
    /// Spends a frozen coin (in a block).
    InputsFrozenInBlock = 21, "bad-txns-inputs-frozen", 0, SoftConsensusFreeze;
    /// Spends a coinbase of less than 100 blocks.
    CoinbaseImmature = 22, "bad-txns-premature-spend-of-coinbase", 0, Invalid;
    /// Spends a confiscated coin of less than 1000 blocks.
    ConfiscationImmature = 23, "bad-txns-premature-spend-of-confiscation", 0, Invalid;
    /// A coin, or all coins together, above all the money there is.
    InputValues = 24, "bad-txns-inputvalues-outofrange", 100, Invalid;
    /// Spends more than it has.
    InBelowOut = 25, "bad-txns-in-belowout", 100, Invalid;
    /// The fee is no amount of money.
    FeeOutOfRange = 26, "bad-txns-fee-outofrange", 100, Invalid;
    /// Too many signature operations for this node.
    SigopsPolicy = 27, "bad-txns-too-many-sigops", 0, NonStandard;
    /// A script fails (in a block).
    BlockScript = 28, "blk-bad-inputs", 100, Invalid;
    /// A script fails under consensus rules; the script error follows in parentheses.
    MandatoryScript = 29, "mandatory-script-verify-flag-failed", 100, Invalid;
    /// A script fails under this node's policy only; the script error follows in parentheses.
    NonMandatoryScript = 30, "non-mandatory-script-verify-flag", 0, NonStandard;
    /// A script fails under one of the eras around Genesis and passes under the other.
    GenesisScript = 31, "genesis-script-verify-flag-failed", 0, Invalid;
    /// A script fails under one of the eras around Chronicle and passes under the other.
    ChronicleScript = 32, "chronicle-script-verify-flag-failed", 0, Invalid;
    /// A script number above the node's policy.
    ScriptNumberPolicy = 33, "max-script-num-length-policy-limit-violated", 10, NonStandard;
    /// A script number above what consensus allows.
    ScriptNumberOverflow = 34, "max-script-num-overflow", 10, Invalid;
    /// A version that is not standard.
    Version = 40, "version", 0, NonStandard;
    /// Larger than this node relays.
    TxSize = 41, "tx-size", 0, NonStandard;
    /// An unlocking script larger than this node relays.
    UnlockingSize = 42, "scriptsig-size", 0, NonStandard;
    /// An unlocking script that does more than push.
    UnlockingNotPushOnly = 43, "scriptsig-not-pushonly", 0, NonStandard;
    /// A bare multisig output.
    BareMultisig = 44, "bare-multisig", 0, NonStandard;
    /// An output that costs more than it holds.
    Dust = 45, "dust", 0, NonStandard;
    /// More data than this node relays.
    DataCarrierSize = 46, "datacarrier-size-exceeded", 0, NonStandard;
    /// A locking script that is none of the templates.
    LockingScript = 47, "scriptpubkey", 0, NonStandard;
    /// Spends a coin whose script is none of the templates.
    NonStandardInputs = 48, "bad-txns-nonstandard-inputs", 0, NonStandard;
    /// Pays less than the mempool asks for.
    FeeTooLow = 50, "mempool min fee not met", 0, InsufficientFee;
    /// Pays more than the wallet's limit.
    FeeAbsurd = 51, "absurdly-high-fee", 0, HighFee;
    /// Already in the mempool.
    AlreadyInPool = 52, "txn-already-in-mempool", 0, AlreadyKnown;
    /// In conflict with a transaction of the mempool.
    PoolConflict = 53, "txn-mempool-conflict", 0, Conflict;
    /// Its outputs already exist.
    AlreadyKnown = 54, "txn-already-known", 0, AlreadyKnown;
    /// Too many unconfirmed ancestors.
    ChainTooLong = 55, "too-long-mempool-chain", 0, NonStandard;
    /// Spends a transaction that is not final.
    NonFinalChain = 56, "too-long-non-final-chain", 0, NonStandard;
    /// Its validation took too long.
    ValidationTime = 57, "too-long-validation-time", 0, NonStandard;
    /// The coins it spends do not fit the cache.
    InputsTooLarge = 58, "bad-txns-inputs-too-large", 0, Invalid;
    /// Another spender of the same coin was seen at the same time.
    DoubleSpend = 59, "txn-double-spend-detected", 0, Duplicate;
    /// The pool has no room.
    PoolFull = 60, "mempool full", 0, MempoolFull;
}

impl TxReject {
    /// The verdict on a transaction of the mempool one of whose scripts failed under policy flags and limits.
    ///
    /// SV Node runs the script again without the flags that are only policy and with consensus limits; `passes_consensus` is
    /// what that came to. Two errors about the size of numbers have reasons of their own. Source: SV Node `validation.cpp`
    /// `CheckInputs`.
    pub const fn of_script(error: ScriptError, passes_consensus: bool) -> Self {
        match (error, passes_consensus) {
            (ScriptError::ScriptNumOverflow, true) => Self::ScriptNumberPolicy,
            (ScriptError::BigInt, false) => Self::ScriptNumberOverflow,
            (_, true) => Self::NonMandatoryScript,
            (_, false) => Self::MandatoryScript,
        }
    }

    /// Writes the whole reason of a script failure: `mandatory-script-verify-flag-failed (Invalid OP_IF construction)`.
    pub fn write_script_reason(
        self,
        error: ScriptError,
        out: &mut impl std::fmt::Write,
    ) -> std::fmt::Result {
        match self {
            Self::MandatoryScript
            | Self::NonMandatoryScript
            | Self::GenesisScript
            | Self::ChronicleScript => write!(out, "{} ({})", self.reason(), error.text()),
            _ => out.write_str(self.reason()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_verdicts_are_ascending_and_reasons_fit_a_reject_message() {
        for pair in TxReject::ALL.windows(2) {
            assert!((pair[0] as u8) < pair[1] as u8);
        }
        for reject in TxReject::ALL {
            assert!(reject.reason().len() <= 111);
            assert!(reject.dos() <= 100);
            assert_eq!(TxReject::from_number(*reject as u8), Some(*reject));
        }
        assert_eq!(TxReject::from_number(0), None);
    }

    #[test]
    fn a_failing_script_is_named_as_peers_expect() {
        let text = |error, passes| {
            let mut out = String::new();
            TxReject::of_script(error, passes).write_script_reason(error, &mut out).unwrap();
            out
        };
        assert_eq!(
            text(ScriptError::UnbalancedConditional, false),
            "mandatory-script-verify-flag-failed (Invalid OP_IF construction)"
        );
        assert_eq!(
            text(ScriptError::CleanStack, true),
            "non-mandatory-script-verify-flag (Script did not clean its stack)"
        );
        assert_eq!(
            text(ScriptError::ScriptNumOverflow, true),
            "max-script-num-length-policy-limit-violated"
        );
        assert_eq!(text(ScriptError::BigInt, false), "max-script-num-overflow");
    }
}
