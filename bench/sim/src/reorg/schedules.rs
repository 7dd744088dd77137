//! Schedules of crashes: who is kept waiting, and when the power fails.
//!
//! `protocol-models/m2.py` broke earlier rules of epochs and truncation with a few schedules; a seed that draws everything meets them
//! now and then. Here each has a name. A schedule divides the steps of a run into phases of two halves: in the first half somebody
//! is held, in the second he catches up. Everything else is drawn by the seed as ever, and what must hold is the same.

use crate::options::Options;
use crate::wire::WireKind;
use utxo_shard::Limits;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Nobody is held but by the seed.
    Drawn,
    /// m2, home first: requests to a shard wait while its neighbours end epochs, so decisions are on the disk and their spends are not.
    HomeFirst,
    /// m2, truncation: the same, while checkpoints pass such decisions and journals are cut behind them.
    Straddle,
    /// m2, stale tail: a shard falls behind, and what the others had more on the disk is cut; later the disk brings it back.
    StaleTail,
    /// A shard hears of new epochs from messages only.
    Unheard,
}

impl Schedule {
    /// Those with a name.
    pub const NAMED: [Self; 4] = [Self::HomeFirst, Self::Straddle, Self::StaleTail, Self::Unheard];

    /// The machine of a seed.
    pub(super) fn options(self, seed: u64) -> Options {
        let mut options = Options::draw(seed);
        options.full = false;
        if self == Self::Drawn {
            return options;
        }
        // Enough of everything, so that what waits waits for the schedule.
        let long = options.long;
        Options { long, ..Options::plain(2, 2 + (seed % 2) as u16) }
    }

    /// Steps of half a phase: long enough for whoever is to be caught.
    fn half(self) -> u64 {
        // A parent is decided, and then its child.
        if self == Self::Unheard { 1_600 } else { 400 }
    }

    /// Bounds of the journals.
    pub(super) fn limits(self) -> Limits {
        let (segment_bytes, checkpoint_bytes) = match self {
            Self::Straddle => (2 << 10, 4 << 10),
            _ => (12 << 10, 20 << 10),
        };
        Limits {
            log_blocks: 3,
            segment_bytes,
            checkpoint_bytes,
            journal_bytes_max: 64 << 20,
            copies_max: 4_096,
            threads: false,
        }
    }

    /// Whether this is the half of a phase in which somebody is held.
    pub(super) fn holds(self, step: u64) -> bool {
        self != Self::Drawn && (step / self.half()).is_multiple_of(2)
    }

    /// Whether a wire moves nothing in the half that holds.
    pub(super) fn holds_wire(self, kind: WireKind, slow: usize) -> bool {
        matches!(self, Self::HomeFirst | Self::Straddle)
            && matches!(kind, WireKind::Request { shard, .. } if usize::from(shard) == slow)
    }

    /// Whether a shard has no turn in the half that holds.
    pub(super) fn holds_shard(self, shard: usize, slow: usize) -> bool {
        self == Self::StaleTail && shard == slow
    }

    /// Whether a shard hears nothing of whoever closes epochs in the half that holds.
    pub(super) fn holds_epochs(self, shard: usize, slow: usize) -> bool {
        self == Self::Unheard && shard == slow
    }

    /// The step at which the power fails, `within` the half of a phase where it hurts, some phases from now.
    pub(super) fn crash_step(self, step: u64, phases: u64, within: u64) -> u64 {
        let half = self.half();
        let phases = if self == Self::Unheard { 0 } else { phases };
        let phase = (step / (2 * half) + 1 + phases) * 2 * half;
        match self {
            // While somebody lags.
            Self::StaleTail => phase + half / 2 + within % (half / 2),
            // While he catches up: some epochs are complete then, and not those that were open last.
            Self::Unheard => phase + half + within % 400,
            _ => phase + half + within % (half / 2),
        }
    }
}
