//! The last refusals, by transaction id: ARC's clients submit, and ask later what became of it.
//!
//! A transaction that is in the pool or in a block is found there; only what is nowhere needs a memory. It is bounded, the
//! oldest go first, and it is gone with the process: a client that needs more keeps the answer it got.

use crate::submit::Outcome;
use consensus::hash::TxId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

/// Refusals remembered.
pub const RECENT_MAX: usize = 16_384;

#[derive(Debug, Default)]
struct Inner {
    by_txid: HashMap<TxId, Outcome>,
    order: VecDeque<TxId>,
}

/// The memory.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Inner>);

impl Recent {
    /// Remembers refusals; what is in is forgotten.
    pub fn note(&self, outcomes: &[Outcome]) {
        // Most calls are of transactions that are in, and of ids nobody ever asked for: one look without a lock for these.
        if outcomes.iter().all(Outcome::is_in) {
            let mut inner = self.lock();
            if !inner.by_txid.is_empty() {
                for outcome in outcomes {
                    inner.by_txid.remove(&outcome.txid);
                }
            }
            return;
        }
        let mut inner = self.lock();
        for outcome in outcomes {
            if outcome.is_in() {
                inner.by_txid.remove(&outcome.txid);
            } else if outcome.txid != TxId::ZERO
                && inner.by_txid.insert(outcome.txid, *outcome).is_none()
            {
                inner.order.push_back(outcome.txid);
            }
        }
        while inner.order.len() > RECENT_MAX {
            let oldest = inner.order.pop_front();
            oldest.map(|txid| inner.by_txid.remove(&txid));
        }
    }

    /// The last refusal of a transaction.
    pub fn get(&self, txid: &TxId) -> Option<Outcome> {
        self.lock().by_txid.get(txid).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::msg::TxVerdict;

    fn outcome(n: u32, verdict: TxVerdict) -> Outcome {
        let txid = TxId::of(&n.to_le_bytes());
        Outcome { verdict, detail: 0, vin: 0, fee_sat: 0, txid, other: TxId::ZERO }
    }

    #[test]
    fn refusals_are_remembered_until_there_are_too_many_or_it_is_in() {
        let recent = Recent::default();
        let refused = |n| outcome(n, TxVerdict::DoubleSpend);
        recent.note(&[refused(1), outcome(2, TxVerdict::Accepted)]);
        assert_eq!(recent.get(&TxId::of(&1u32.to_le_bytes())), Some(refused(1)));
        assert_eq!(recent.get(&TxId::of(&2u32.to_le_bytes())), None);
        recent.note(&[outcome(1, TxVerdict::Accepted)]);
        assert_eq!(recent.get(&TxId::of(&1u32.to_le_bytes())), None);
        for n in 0..RECENT_MAX as u32 + 100 {
            recent.note(&[refused(n)]);
        }
        let inner = recent.lock();
        assert!(inner.by_txid.len() <= RECENT_MAX && inner.order.len() <= RECENT_MAX);
        assert!(inner.by_txid.contains_key(&TxId::of(&(RECENT_MAX as u32 + 99).to_le_bytes())));
    }
}
