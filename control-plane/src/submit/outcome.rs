//! What a submitter is told about one transaction.

use consensus::hash::TxId;
use consensus::rules::TxReject;
use consensus::script::ScriptError;
use dataplane::msg::{TxVerdict, VerdictFrag};
use std::borrow::Cow;

/// The verdict on one submitted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What became of it.
    pub verdict: TxVerdict,
    /// See [`TxVerdict`].
    pub detail: u8,
    /// The input the verdict speaks of, else 0.
    pub vin: u32,
    /// Its fee, once the inputs are known.
    pub fee_sat: u64,
    /// Its id; zero if the bytes are no transaction.
    pub txid: TxId,
    /// The winner of a double spend, the missing or rejected parent; else zero.
    pub other: TxId,
}

impl From<&VerdictFrag> for Outcome {
    fn from(frag: &VerdictFrag) -> Self {
        Self {
            verdict: frag.verdict,
            detail: frag.detail,
            vin: frag.vin,
            fee_sat: frag.fee_sat,
            txid: frag.txid,
            other: frag.other,
        }
    }
}

impl Outcome {
    /// Whether the transaction is in the pool or in a block.
    pub fn is_in(&self) -> bool {
        matches!(self.verdict, TxVerdict::Accepted | TxVerdict::Known)
    }

    /// Why it was not accepted, in SV Node's words where it has some; empty for an accepted one.
    ///
    /// Source: SV Node `validation.cpp`, `rpc/rawtransaction.cpp`; for what SV Node has no word for, ours.
    pub fn reason(&self) -> Cow<'static, str> {
        let rule = |otherwise: TxReject| {
            TxReject::from_number(self.detail).unwrap_or(otherwise).reason().into()
        };
        match self.verdict {
            TxVerdict::Accepted => Cow::Borrowed(""),
            TxVerdict::Known => TxReject::AlreadyKnown.reason().into(),
            TxVerdict::Malformed => malformed(self.detail).into(),
            TxVerdict::Invalid => rule(TxReject::InputsEmpty),
            TxVerdict::NonFinal => rule(TxReject::NonFinal),
            TxVerdict::Policy => rule(TxReject::FeeTooLow),
            TxVerdict::ScriptFailed => script(self.detail),
            TxVerdict::DoubleSpend => TxReject::PoolConflict.reason().into(),
            TxVerdict::Frozen => TxReject::InputsFrozen.reason().into(),
            TxVerdict::Immature => TxReject::CoinbaseImmature.reason().into(),
            TxVerdict::OrphanExpired | TxVerdict::MissingInput => "missing-inputs".into(),
            TxVerdict::ParentRejected => "parent-rejected".into(),
            TxVerdict::Overloaded => "too-busy".into(),
            TxVerdict::TooCostly => "script-too-costly".into(),
            TxVerdict::CoinMismatch => "extended-format-mismatch".into(),
            TxVerdict::Locked => "bad-txns-inputs-locked".into(),
        }
    }
}

fn script(detail: u8) -> Cow<'static, str> {
    let reject = TxReject::MandatoryScript;
    let Some(error) = ScriptError::from_number(detail) else { return reject.reason().into() };
    let mut text = String::new();
    match reject.write_script_reason(error, &mut text) {
        Ok(()) => text.into(),
        Err(_) => reject.reason().into(),
    }
}

/// The number of a parse error (`dataplane::validate` gives it), in words.
fn malformed(detail: u8) -> &'static str {
    match detail {
        0 => "malformed: ends in the middle of a field",
        1 => "malformed: a size is not written in its shortest form",
        2 => "malformed: a size is larger than any transaction",
        3 => "malformed: bytes after the end of the transaction",
        4 => "malformed: larger than this node takes",
        5 => "malformed: too many inputs or outputs",
        6 => "malformed: an unknown format marker",
        7 => "malformed: inconsistent",
        _ => "malformed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_but_acceptance_has_a_reason() {
        for verdict in TxVerdict::ALL {
            for detail in [0, 1, 20, 255] {
                let outcome = Outcome {
                    verdict,
                    detail,
                    vin: 0,
                    fee_sat: 0,
                    txid: TxId::ZERO,
                    other: TxId::ZERO,
                };
                let reason = outcome.reason();
                assert_eq!(reason.is_empty(), verdict == TxVerdict::Accepted, "{verdict:?}");
                assert!(reason.len() <= 111, "fits a reject message: {reason}");
            }
        }
    }
}
