//! What a script can fail with, numbered and worded as SV Node does.
//!
//! The numbers are those of `script_error.h` and are stable: they travel in frags and metrics. The texts end up in
//! reject reasons (`mandatory-script-verify-flag-failed (<text>)`), so they are copied facts, not prose of ours.

use core::fmt;

macro_rules! script_errors {
    ($($variant:ident = $number:literal, $name:literal, $vector:literal, $text:literal;)*) => {
        /// Why a script was refused. Exhaustive; numbering of SV Node `script_error.h`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ScriptError {
            $(#[doc = $text] $variant = $number,)*
        }

        impl ScriptError {
            /// Every error, in the order of its number (1 upwards; 0 is success).
            pub const ALL: &[ScriptError] = &[$(ScriptError::$variant,)*];

            /// The name in `script_error.h` without its `SCRIPT_ERR_`.
            pub const fn name(self) -> &'static str {
                match self { $(ScriptError::$variant => $name,)* }
            }

            /// The name that `script_tests.json` uses; differs from [`Self::name`] in a few places.
            pub const fn vector_name(self) -> &'static str {
                match self { $(ScriptError::$variant => $vector,)* }
            }

            /// The sentence SV Node's `ScriptErrorString` gives, as seen in reject reasons.
            pub const fn text(self) -> &'static str {
                match self { $(ScriptError::$variant => $text,)* }
            }
        }
    };
}

script_errors! {
    UnknownError = 1, "UNKNOWN_ERROR", "UNKNOWN_ERROR", "unknown error";
    EvalFalse = 2, "EVAL_FALSE", "EVAL_FALSE", "Script evaluated without error but finished with a false/empty top stack element";
    OpReturn = 3, "OP_RETURN", "OP_RETURN", "OP_RETURN was encountered";
    ScriptSize = 4, "SCRIPT_SIZE", "SCRIPT_SIZE", "Script is too big";
    PushSize = 5, "PUSH_SIZE", "PUSH_SIZE", "Push value size limit exceeded";
    OpCount = 6, "OP_COUNT", "OP_COUNT", "Operation limit exceeded";
    StackSize = 7, "STACK_SIZE", "STACK_SIZE", "Stack size limit exceeded";
    SigCount = 8, "SIG_COUNT", "SIG_COUNT", "Signature count negative or greater than pubkey count";
    PubkeyCount = 9, "PUBKEY_COUNT", "PUBKEY_COUNT", "Pubkey count negative or limit exceeded";
    InvalidOperandSize = 10, "INVALID_OPERAND_SIZE", "OPERAND_SIZE", "Invalid operand size";
    InvalidNumberRange = 11, "INVALID_NUMBER_RANGE", "INVALID_NUMBER_RANGE", "Given operand is not a number within the valid range [-2^31...2^31]";
    ImpossibleEncoding = 12, "IMPOSSIBLE_ENCODING", "IMPOSSIBLE_ENCODING", "The requested encoding is impossible to satisfy";
    InvalidSplitRange = 13, "INVALID_SPLIT_RANGE", "SPLIT_RANGE", "Invalid OP_SPLIT range";
    ScriptNumOverflow = 14, "SCRIPTNUM_OVERFLOW", "SCRIPTNUM_OVERFLOW", "Script number overflow";
    ScriptNumMinEncode = 15, "SCRIPTNUM_MINENCODE", "SCRIPTNUM_MINENCODE", "Non-minimally encoded script number";
    Verify = 16, "VERIFY", "VERIFY", "Script failed an OP_VERIFY operation";
    EqualVerify = 17, "EQUALVERIFY", "EQUALVERIFY", "Script failed an OP_EQUALVERIFY operation";
    CheckMultisigVerify = 18, "CHECKMULTISIGVERIFY", "CHECKMULTISIGVERIFY", "Script failed an OP_CHECKMULTISIGVERIFY operation";
    CheckSigVerify = 19, "CHECKSIGVERIFY", "CHECKSIGVERIFY", "Script failed an OP_CHECKSIGVERIFY operation";
    NumEqualVerify = 20, "NUMEQUALVERIFY", "NUMEQUALVERIFY", "Script failed an OP_NUMEQUALVERIFY operation";
    BadOpcode = 21, "BAD_OPCODE", "BAD_OPCODE", "Opcode missing or not understood";
    DisabledOpcode = 22, "DISABLED_OPCODE", "DISABLED_OPCODE", "Attempted to use a disabled opcode";
    InvalidStackOperation = 23, "INVALID_STACK_OPERATION", "INVALID_STACK_OPERATION", "Operation not valid with the current stack size";
    InvalidAltstackOperation = 24, "INVALID_ALTSTACK_OPERATION", "INVALID_ALTSTACK_OPERATION", "Operation not valid with the current altstack size";
    UnbalancedConditional = 25, "UNBALANCED_CONDITIONAL", "UNBALANCED_CONDITIONAL", "Invalid OP_IF construction";
    DivByZero = 26, "DIV_BY_ZERO", "DIV_BY_ZERO", "Division by zero error";
    ModByZero = 27, "MOD_BY_ZERO", "MOD_BY_ZERO", "Modulo by zero error";
    NegativeLocktime = 28, "NEGATIVE_LOCKTIME", "NEGATIVE_LOCKTIME", "Negative locktime";
    UnsatisfiedLocktime = 29, "UNSATISFIED_LOCKTIME", "UNSATISFIED_LOCKTIME", "Locktime requirement not satisfied";
    SigHashType = 30, "SIG_HASHTYPE", "SIG_HASHTYPE", "Signature hash type missing or not understood";
    SigDer = 31, "SIG_DER", "SIG_DER", "Non-canonical DER signature";
    MinimalData = 32, "MINIMALDATA", "MINIMALDATA", "Data push larger than necessary";
    SigPushOnly = 33, "SIG_PUSHONLY", "SIG_PUSHONLY", "Only non-push operators allowed in signatures";
    SigHighS = 34, "SIG_HIGH_S", "SIG_HIGH_S", "Non-canonical signature: S value is unnecessarily high";
    SigNullDummy = 35, "SIG_NULLDUMMY", "SIG_NULLDUMMY", "Dummy CHECKMULTISIG argument must be zero";
    PubkeyType = 36, "PUBKEYTYPE", "PUBKEYTYPE", "Public key is neither compressed or uncompressed";
    CleanStack = 37, "CLEANSTACK", "CLEANSTACK", "Script did not clean its stack";
    MinimalIf = 38, "MINIMALIF", "MINIMALIF", "OP_IF/NOTIF argument must be minimal";
    SigNullFail = 39, "SIG_NULLFAIL", "NULLFAIL", "Signature must be zero for failed CHECK(MULTI)SIG operation";
    DiscourageUpgradableNops = 40, "DISCOURAGE_UPGRADABLE_NOPS", "DISCOURAGE_UPGRADABLE_NOPS", "NOPx reserved for soft-fork upgrades";
    NonCompressedPubkey = 41, "NONCOMPRESSED_PUBKEY", "NONCOMPRESSED_PUBKEY", "Using non-compressed public key";
    IllegalForkId = 42, "ILLEGAL_FORKID", "ILLEGAL_FORKID", "Illegal use of SIGHASH_FORKID";
    MustUseForkId = 43, "MUST_USE_FORKID", "MISSING_FORKID", "Signature must use SIGHASH_FORKID";
    IllegalChronicle = 44, "ILLEGAL_CHRONICLE", "ILLEGAL_CHRONICLE", "Illegal use of SIGHASH_CHRONICLE";
    BigInt = 45, "BIG_INT", "BIG_INT", "Big integer OpenSSL error";
    InvalidFlags = 46, "INVALID_FLAGS", "INVALID_FLAGS", "Invalid script verification flag combination";
}

impl ScriptError {
    /// The error of a number, for verdicts that travel as bytes.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The error that either spelling names.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|e| e.name() == text || e.vector_name() == text)
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for ScriptError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_from_one_to_forty_six_without_a_gap() {
        assert_eq!(ScriptError::ALL.len(), 46);
        for (index, error) in ScriptError::ALL.iter().enumerate() {
            assert_eq!(*error as usize, index + 1);
            assert_eq!(ScriptError::from_number(index as u8 + 1), Some(*error));
            assert_eq!(ScriptError::from_name(error.name()), Some(*error));
            assert_eq!(ScriptError::from_name(error.vector_name()), Some(*error));
        }
        assert_eq!(ScriptError::from_number(0), None);
        assert_eq!(ScriptError::from_number(47), None);
    }
}
