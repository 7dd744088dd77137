//! Verification flags: which rules are on for one input.
//!
//! The bits are SV Node's (`script_flags.h`). A block contributes most of them, the coin and the spending height the
//! rest: [`input_flags`] puts the word together. Two eras meet in one input, and neither stands for the other.

use core::fmt;
use core::ops::{BitOr, BitOrAssign};

/// A set of script verification flags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(pub u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)*

            /// The flag of a name as test vectors write it.
            pub fn from_name(text: &str) -> Option<Flags> {
                match text {
                    "" | "NONE" => Some(Flags::NONE),
                    "SIGHASH_FORKID" => Some(Flags::ENABLE_SIGHASH_FORKID),
                    $(stringify!($name) => Some(Flags::$name),)*
                    _ => None,
                }
            }

            /// Names of the set bits, lowest first.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$((Flags::$name, stringify!($name)),)*]
                    .into_iter()
                    .filter(move |(flag, _)| self.has(*flag))
                    .map(|(_, name)| name)
            }
        }
    };
}

flags! {
    /// Evaluate BIP16 scripts (coins from before Genesis only).
    P2SH = 0;
    /// Public keys and hash types must be defined.
    STRICTENC = 1;
    /// Signatures must be strict DER (BIP66).
    DERSIG = 2;
    /// S must be at most half the group order.
    LOW_S = 3;
    /// The extra item of CHECKMULTISIG must be empty. Policy only.
    NULLDUMMY = 4;
    /// The unlocking script must be push-only.
    SIGPUSHONLY = 5;
    /// Pushes and numbers must be minimal. Policy only.
    MINIMALDATA = 6;
    /// Unassigned NOPs fail when executed. Policy only.
    DISCOURAGE_UPGRADABLE_NOPS = 7;
    /// Exactly one item must be left. Policy only; needs P2SH.
    CLEANSTACK = 8;
    /// BIP65.
    CHECKLOCKTIMEVERIFY = 9;
    /// BIP112.
    CHECKSEQUENCEVERIFY = 10;
    /// IF and NOTIF take exactly empty or 01. Policy only.
    MINIMALIF = 13;
    /// Failing signature checks need empty signatures.
    NULLFAIL = 14;
    /// Only compressed public keys. Never set by a node.
    COMPRESSED_PUBKEYTYPE = 15;
    /// The FORKID digest exists; also forces STRICTENC.
    ENABLE_SIGHASH_FORKID = 16;
    /// The spending block is at or after Genesis.
    GENESIS = 18;
    /// The coin was created at or after Genesis.
    UTXO_AFTER_GENESIS = 19;
    /// The spending block is at or after Chronicle.
    CHRONICLE = 20;
    /// The coin was created at or after Chronicle; invalid without `UTXO_AFTER_GENESIS`.
    UTXO_AFTER_CHRONICLE = 21;
}

impl Flags {
    /// No rule beyond the oldest ones.
    pub const NONE: Flags = Flags(0);

    /// Whether every bit of `other` is set.
    #[inline]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn has_any(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }

    /// These flags without those of `other`.
    #[inline]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// Both sets together.
    #[inline]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Parses a comma-separated list of names as test vectors write it.
    pub fn parse_list(text: &str) -> Option<Flags> {
        text.split(',').try_fold(Flags::NONE, |all, name| Some(all | Flags::from_name(name)?))
    }
}

impl BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#x}", self.0)?;
        for name in self.names() {
            write!(f, " {name}")?;
        }
        f.write_str(")")
    }
}

/// The rule eras a script can meet, ordered. The chain parameters say which heights they start at.
///
/// Source: SV Node `protocol_era.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ScriptEra {
    /// Before the Genesis upgrade.
    PreGenesis = 1,
    /// From Genesis up to Chronicle.
    Genesis = 2,
    /// From Chronicle on.
    Chronicle = 3,
}

/// The flag word of one input: the block's flags, plus what the eras of the spending height and of the coin add.
///
/// Source: SV Node `policy.h` `InputScriptVerifyFlags`: SIGPUSHONLY when the spend era is at least Genesis, the two
/// UTXO bits from the coin's era.
pub const fn input_flags(block_flags: Flags, spend_era: ScriptEra, coin_era: ScriptEra) -> Flags {
    let mut flags = block_flags;
    if spend_era as u8 >= ScriptEra::Genesis as u8 {
        flags = flags.with(Flags::SIGPUSHONLY);
    }
    if coin_era as u8 >= ScriptEra::Genesis as u8 {
        flags = flags.with(Flags::UTXO_AFTER_GENESIS);
    }
    if coin_era as u8 >= ScriptEra::Chronicle as u8 {
        flags = flags.with(Flags::UTXO_AFTER_CHRONICLE);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coin_era_adds_the_documented_bits() {
        let block = Flags(0x15462f);
        assert_eq!(
            input_flags(block, ScriptEra::Chronicle, ScriptEra::Chronicle).0,
            0x15462f | 0x280000
        );
        assert_eq!(
            input_flags(block, ScriptEra::Chronicle, ScriptEra::Genesis).0,
            0x15462f | 0x80000
        );
        assert_eq!(input_flags(block, ScriptEra::Chronicle, ScriptEra::PreGenesis).0, 0x15462f);
        assert_eq!(
            input_flags(Flags(0x1460f), ScriptEra::PreGenesis, ScriptEra::PreGenesis).0,
            0x1460f
        );
        assert!(
            input_flags(Flags(0x5460f), ScriptEra::Genesis, ScriptEra::PreGenesis)
                .has(Flags::SIGPUSHONLY)
        );
    }

    #[test]
    fn lists_of_names_parse_and_unknown_names_do_not() {
        assert_eq!(Flags::parse_list("P2SH,STRICTENC"), Some(Flags(3)));
        assert_eq!(Flags::parse_list(""), Some(Flags::NONE));
        assert_eq!(Flags::parse_list("SIGHASH_FORKID"), Some(Flags(1 << 16)));
        assert_eq!(Flags::parse_list("P2SH,WITNESS"), None);
    }
}
