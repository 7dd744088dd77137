//! The nine cells of a tile's time: three phases of a turn in three regimes.
//!
//! Every nanosecond of a tile goes to exactly one cell, so the cells add up to the time its core gave it, and an operator
//! finds the bottleneck by eye: a tile that is always `Processing` is the limit, one in `Backpressure` waits for the one
//! after it, one `CaughtUp` waits for the one before.

use crate::time::Ns;

/// A part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Heartbeat, timers, counters.
    Housekeeping = 0,
    /// The hook before frags, and looking for frags.
    Prefrag = 1,
    /// Handling frags, and the hook after them.
    Postfrag = 2,
}

/// What a turn turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Regime {
    /// Nothing to do.
    CaughtUp = 0,
    /// At least one frag handled, or a hook did something.
    Processing = 1,
    /// There was something to do, but no credit to do it with.
    Backpressure = 2,
}

/// A reading of the nine cells, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NineCells(pub [[Ns; 3]; 3]);

impl NineCells {
    /// The cell of `phase` in `regime`.
    pub const fn get(&self, phase: Phase, regime: Regime) -> Ns {
        self.0[phase as usize][regime as usize]
    }

    /// All time of the tile.
    pub fn total(&self) -> Ns {
        self.0.iter().flatten().sum()
    }

    /// Time spent in `regime`, over all phases.
    pub fn regime(&self, regime: Regime) -> Ns {
        self.0.iter().map(|phase| phase[regime as usize]).sum()
    }

    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut out = *self;
        for (row, before) in out.0.iter_mut().zip(&earlier.0) {
            for (cell, b) in row.iter_mut().zip(before) {
                *cell = cell.wrapping_sub(*b);
            }
        }
        out
    }

    /// Share of the tile's time in `regime`, from 0 to 1; 0 where no time passed.
    pub fn share(&self, regime: Regime) -> f64 {
        let total = self.total();
        if total == 0 { 0.0 } else { self.regime(regime) as f64 / total as f64 }
    }
}
