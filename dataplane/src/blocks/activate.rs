//! Activations: the block after the tip is of another era than the tip, and the pool, judged by the rules of the one, is emptied before
//! anything is judged by those of the other.
//!
//! SV Node does the same, forwards and backwards (1.0.13 was asked: with Genesis at height 130 its pool is empty once block 129 is
//! connected, and again once it is disconnected, with what the block gave back). Whoever still wants a transaction sends it again.

use super::evict::Source;
use super::{Conductor, Lines};
use consensus::hash::TxId;

impl Conductor {
    /// Whether the block after the one at `height` is of another era.
    pub(super) fn changes_rules(&self, height: u32) -> bool {
        self.params.era(height) != self.params.era(height + 1)
    }

    /// Evicts everything that was accepted under the pool's former context; coordinators know the new one. Who went is added to
    /// `evicted`, descendants first.
    pub(super) fn empty_pool<L: Lines>(
        &mut self,
        lines: &mut L,
        source: &Source<'_, '_>,
        evicted: &mut Vec<TxId>,
    ) -> Result<(), L::Error> {
        self.barrier(lines)?;
        let drained = self.drained(lines)?;
        for txid in lines.pooled(&drained)? {
            self.evict(lines, txid, source, evicted)?;
        }
        Ok(())
    }
}
