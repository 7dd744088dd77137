//! What a store of coins answers, one verdict an item, and which code of Teranode each verdict is.
//!
//! Verdicts are expected and counted, never errors. [`CODES`] is the whole list of Teranode's transaction and output codes
//! (`errors/error.proto`: `TX_*` 30 to 38, `UTXO_*` 70 to 75; and what its Lua functions return) with the verdict here, or of
//! validation where a store cannot know.

use consensus::hash::TxId;
use dataplane::msg::TxVerdict;

/// What became of one item. Exhaustive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Carried out.
    Done,
    /// The coin is held for the asker (or was already).
    Reserved,
    /// The transaction is decided; its place in the order of decisions.
    Decided {
        /// Which order: each home has one.
        lane: u16,
        /// Counts up from 1.
        seq: u64,
    },
    /// The transaction was there already.
    Exists,
    /// No such transaction.
    TxMissing,
    /// The transaction has no such coin, or it was pruned.
    CoinMissing,
    /// Spent by an accepted transaction.
    Spent {
        /// Its id.
        by: TxId,
    },
    /// Its transaction is being evicted: it lost to a block.
    Conflicting,
    /// Locked by order.
    Locked,
    /// A coinbase output too young to spend.
    Immature {
        /// First height at which it may be spent.
        until_height: u32,
    },
    /// Frozen by order.
    Frozen,
    /// Reassigned by order, and not to be spent before a height.
    FrozenUntil {
        /// First height at which it may be spent.
        until_height: u32,
    },
    /// To be frozen, and it is.
    AlreadyFrozen,
    /// To be unfrozen or reassigned, and it is not frozen.
    NotFrozen,
    /// Not the coin the asker says it is: value, script, height or era.
    Differs,
    /// A spend to be undone that the named transaction did not make.
    InvalidSpend,
    /// A value or bytes that no coin can have.
    InvalidSize,
    /// An order that contradicts what is known, such as a block out of order.
    Contradicts,
    /// Held by another transaction.
    Busy {
        /// The holder.
        by: TxId,
    },
    /// The parent is announced and not decided.
    ParentInFlight,
    /// To be settled, and an input is not held by it.
    NotReserved,
    /// Mined on the current chain: not to be evicted.
    Mined,
    /// No room. Counted; pruning makes room again.
    Full,
}

impl Verdict {
    /// Whether what was asked for was done.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Done | Self::Reserved | Self::Decided { .. })
    }

    /// Its name in documents and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Reserved => "reserved",
            Self::Decided { .. } => "decided",
            Self::Exists => "exists",
            Self::TxMissing => "tx_missing",
            Self::CoinMissing => "coin_missing",
            Self::Spent { .. } => "spent",
            Self::Conflicting => "conflicting",
            Self::Locked => "locked",
            Self::Immature { .. } => "immature",
            Self::Frozen => "frozen",
            Self::FrozenUntil { .. } => "frozen_until",
            Self::AlreadyFrozen => "already_frozen",
            Self::NotFrozen => "not_frozen",
            Self::Differs => "differs",
            Self::InvalidSpend => "invalid_spend",
            Self::InvalidSize => "invalid_size",
            Self::Contradicts => "contradicts",
            Self::Busy { .. } => "busy",
            Self::ParentInFlight => "parent_in_flight",
            Self::NotReserved => "not_reserved",
            Self::Mined => "mined",
            Self::Full => "full",
        }
    }
}

/// Who gives the verdict that stands for a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A store: the name of a [`Verdict`].
    Store(&'static str),
    /// Validation: it follows from the transaction and the chain, not from the coins.
    Validation(TxVerdict),
}

use Answer::{Store, Validation};

/// Every code of Teranode's for transactions and outputs: number (none for what the Lua functions return), name, verdict.
///
/// Source: Teranode fb3d000c, `errors/error.proto`, `stores/utxo/aerospike/teranode.lua`.
#[rustfmt::skip]
pub const CODES: [(Option<u8>, &str, Answer); 30] = [
    (Some(30), "TX_NOT_FOUND",            Store("tx_missing")),
    (Some(31), "TX_INVALID",              Validation(TxVerdict::Invalid)),
    (Some(32), "TX_INVALID_DOUBLE_SPEND", Validation(TxVerdict::DoubleSpend)),
    (Some(33), "TX_EXISTS",               Store("exists")),
    (Some(34), "TX_MISSING_PARENT",       Validation(TxVerdict::MissingInput)),
    (Some(35), "TX_LOCK_TIME",            Validation(TxVerdict::NonFinal)),
    (Some(36), "TX_CONFLICTING",          Store("conflicting")),
    (Some(37), "TX_LOCKED",               Store("locked")),
    (Some(38), "TX_COINBASE_IMMATURE",    Store("immature")),
    (Some(70), "UTXO_SPENT",              Store("spent")),
    (Some(71), "UTXO_NON_FINAL",          Validation(TxVerdict::NonFinal)),
    (Some(72), "UTXO_FROZEN",             Store("frozen")),
    (Some(73), "UTXO_NOT_FOUND",          Store("coin_missing")),
    (Some(74), "UTXO_MISMATCH",           Store("differs")),
    (Some(75), "UTXO_INVALID_SIZE",       Store("invalid_size")),
    (None,     "TX_NOT_FOUND",            Store("tx_missing")),
    (None,     "CONFLICTING",             Store("conflicting")),
    (None,     "LOCKED",                  Store("locked")),
    (None,     "FROZEN",                  Store("frozen")),
    (None,     "ALREADY_FROZEN",          Store("already_frozen")),
    (None,     "FROZEN_UNTIL",            Store("frozen_until")),
    (None,     "COINBASE_IMMATURE",       Store("immature")),
    (None,     "SPENT",                   Store("spent")),
    (None,     "INVALID_SPEND",           Store("invalid_spend")),
    (None,     "UTXOS_NOT_FOUND",         Store("tx_missing")),
    (None,     "UTXO_NOT_FOUND",          Store("coin_missing")),
    (None,     "UTXO_INVALID_SIZE",       Store("invalid_size")),
    (None,     "UTXO_HASH_MISMATCH",      Store("differs")),
    (None,     "UTXO_NOT_FROZEN",         Store("not_frozen")),
    (None,     "INVALID_PARAMETER",       Store("contradicts")),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Verdict> {
        let by = TxId([0; 32]);
        use Verdict::*;
        vec![
            Done,
            Reserved,
            Decided { lane: 0, seq: 1 },
            Exists,
            TxMissing,
            CoinMissing,
            Spent { by },
            Conflicting,
            Locked,
            Immature { until_height: 1 },
            Frozen,
            FrozenUntil { until_height: 1 },
            AlreadyFrozen,
            NotFrozen,
            Differs,
            InvalidSpend,
            InvalidSize,
            Contradicts,
            Busy { by },
            ParentInFlight,
            NotReserved,
            Mined,
            Full,
        ]
    }

    #[test]
    fn every_code_has_a_verdict_that_exists() {
        let numbers: Vec<u8> = CODES.iter().filter_map(|c| c.0).collect();
        assert_eq!(numbers, (30..=38).chain(70..=75).collect::<Vec<u8>>());
        assert_eq!(CODES.iter().filter(|c| c.0.is_none()).count(), 15);
        for (_, code, answer) in CODES {
            if let Store(name) = answer {
                assert!(all().iter().any(|v| v.name() == name), "{code} names `{name}`");
            }
        }
    }

    #[test]
    fn the_page_on_the_store_has_the_table_of_codes_as_it_is_here() {
        let page = include_str!("../../docs/utxo.md");
        for (number, code, answer) in CODES {
            let number = number.map_or("-".to_owned(), |n| n.to_string());
            let (name, who) = match answer {
                Store(name) => (name, "store"),
                Validation(verdict) => (verdict.name(), "validation"),
            };
            let row = format!("| {number} | `{code}` | `{name}` | {who} |");
            assert!(page.contains(&row), "docs/utxo.md lacks the row {row}");
        }
    }
}
