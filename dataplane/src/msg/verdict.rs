//! What became of a transaction: link `validate_verdict`, and the names the counters carry.

use super::wire::{In, Out};
use consensus::hash::TxId;

/// The end of one offered copy. Exhaustive: every copy that passed the door ends in exactly one of these. Numbers are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TxVerdict {
    /// Decided by home; this copy was the one.
    Accepted = 0,
    /// Accepted before (or another copy of it just now).
    Known = 1,
    /// The bytes are not one transaction; `detail` is the parse error's number.
    Malformed = 2,
    /// A context-free or value rule; `detail` is `consensus::rules::TxReject`.
    Invalid = 3,
    /// Not final at tip + 1.
    NonFinal = 4,
    /// Fee or standardness; `detail` is `consensus::rules::TxReject`.
    Policy = 5,
    /// A script failed; `detail` is `consensus::script::ScriptError`, `vin` the input.
    ScriptFailed = 6,
    /// An input is spent by an accepted transaction, `other`.
    DoubleSpend = 7,
    /// An input is frozen.
    Frozen = 8,
    /// An input is a coinbase output too young to spend.
    Immature = 9,
    /// A parent never came before the orphan was dropped (limit or age).
    OrphanExpired = 10,
    /// A parent was rejected while this one waited for it.
    ParentRejected = 11,
    /// A bound was reached (wait list, shard full); may be sent again.
    Overloaded = 12,
    /// The scripts cost more than the pool allows.
    TooCostly = 13,
    /// The extended format claimed a coin that is not the real one.
    CoinMismatch = 14,
    /// An input does not exist: in a block, on that chain; in the pool, the parent did not come while the sender waited (only with
    /// `IngestHeader::TELL_ORPHAN`; the transaction may still be accepted when it comes).
    MissingInput = 15,
    /// An input is locked.
    Locked = 16,
}

/// What `detail` says beside a verdict, where it is no number of an error.
pub mod detail {
    /// With `Accepted`, in a block: the transaction was in the pool.
    pub const FROM_POOL: u8 = 1;
    /// With `Known`, in a block: mined before on this chain, and outputs of it are unspent (BIP30).
    pub const UNSPENT: u8 = 1;
    /// With `MissingInput`, in a block: no verdict but a notice that the transaction waits for the coin of input `vin`. If no
    /// transaction before it in the block makes that coin, it waits in vain. Its verdict comes later.
    pub const WAITS: u8 = 1;
}

impl TxVerdict {
    /// All, in order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Accepted,
        Self::Known,
        Self::Malformed,
        Self::Invalid,
        Self::NonFinal,
        Self::Policy,
        Self::ScriptFailed,
        Self::DoubleSpend,
        Self::Frozen,
        Self::Immature,
        Self::OrphanExpired,
        Self::ParentRejected,
        Self::Overloaded,
        Self::TooCostly,
        Self::CoinMismatch,
        Self::MissingInput,
        Self::Locked,
    ];

    /// As counters, reports and JSON spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Known => "known",
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::NonFinal => "non_final",
            Self::Policy => "policy",
            Self::ScriptFailed => "script_failed",
            Self::DoubleSpend => "double_spend",
            Self::Frozen => "frozen",
            Self::Immature => "immature",
            Self::OrphanExpired => "orphan_expired",
            Self::ParentRejected => "parent_rejected",
            Self::Overloaded => "overloaded",
            Self::TooCostly => "too_costly",
            Self::CoinMismatch => "coin_mismatch",
            Self::MissingInput => "missing_input",
            Self::Locked => "locked",
        }
    }
}

/// One frag on `validate_verdict`.
///
/// ```text
/// 0       8        12      16        17       18      20    24     32     64      96
/// | token | source | block | verdict | detail | spare | vin | fee  | txid | other |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictFrag {
    /// From the ingest header.
    pub token: u64,
    /// From the ingest header.
    pub source: u32,
    /// From the ingest header.
    pub block: u32,
    /// What became of it.
    pub verdict: TxVerdict,
    /// See [`TxVerdict`].
    pub detail: u8,
    /// The input a verdict speaks of, else 0.
    pub vin: u32,
    /// Fee, satoshi, once the inputs are known.
    pub fee_sat: u64,
    /// The transaction; zero if the bytes were none.
    pub txid: TxId,
    /// The winner of a double spend, the missing or rejected parent; else zero.
    pub other: TxId,
}

impl VerdictFrag {
    /// Bytes of a frag.
    pub const LEN: usize = 96;

    /// Writes the frag.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut w = Out::new(&mut bytes);
        w.u64(self.token);
        w.u32(self.source);
        w.u32(self.block);
        w.u8(self.verdict as u8);
        w.u8(self.detail);
        w.u16(0);
        w.u32(self.vin);
        w.u64(self.fee_sat);
        w.txid(&self.txid);
        w.txid(&self.other);
        bytes
    }

    /// Reads a frag.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        let token = r.u64()?;
        let source = r.u32()?;
        let block = r.u32()?;
        let verdict = *TxVerdict::ALL.get(usize::from(r.u8()?))?;
        let detail = r.u8()?;
        r.u16()?;
        let frag = Self {
            token,
            source,
            block,
            verdict,
            detail,
            vin: r.u32()?,
            fee_sat: r.u64()?,
            txid: r.txid()?,
            other: r.txid()?,
        };
        r.is_empty().then_some(frag)
    }
}
