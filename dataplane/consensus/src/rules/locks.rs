//! Locks: when a transaction may be in a block.
//!
//! Absolute locks (`nLockTime`) hold in every era and need the height and a time; relative locks (BIP68) held between CSV and
//! Genesis. Sources: SV Node `validation.cpp` `IsFinalTx`, `CalculateSequenceLocks`, `EvaluateSequenceLocks`,
//! `ContextualCheckTransactionForCurrentBlock`.

use crate::params::{ChainParams, Era};
use crate::tx::{SEQUENCE_FINAL, TxView};

/// Lock times below this are heights, others are seconds since 1970. Source: SV Node `LOCKTIME_THRESHOLD`.
pub const LOCKTIME_THRESHOLD: u32 = 500_000_000;

const DISABLED: u32 = 1 << 31;
const IS_TIME: u32 = 1 << 22;
const VALUE: u32 = 0xffff;
/// Relative times count in units of 512 seconds.
const TIME_SHIFT: u32 = 9;

/// True if the transaction may be in a block at `height` whose time limit is `time_limit_s`. The comparisons are strict.
///
/// Source: SV Node `IsFinalTx`. For the time limit see [`lock_time_limit_s`].
pub fn is_final(view: TxView<'_>, height: u32, time_limit_s: u32) -> bool {
    let lock_time = view.lock_time();
    let limit = if lock_time < LOCKTIME_THRESHOLD { height } else { time_limit_s };
    lock_time == 0
        || lock_time < limit
        || view.inputs().all(|input| input.sequence == SEQUENCE_FINAL)
}

/// The time that lock times are compared with: from CSV on the median time past of the parent, before it the block's own.
pub fn lock_time_limit_s(
    params: &ChainParams,
    height: u32,
    prev_median_time_s: u32,
    block_time_s: u32,
) -> u32 {
    if height >= params.csv_height { prev_median_time_s } else { block_time_s }
}

/// True at heights where relative locks hold. Source: SV Node `validation.cpp` `StandardNonFinalVerifyFlags`, `ConnectBlock`.
pub fn has_relative_locks(params: &ChainParams, height: u32) -> bool {
    height >= params.csv_height && params.era(height) == Era::PreGenesis
}

/// Where the coin of an input stands in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoinAge {
    /// Height of the block that made it (mempool: after the tip).
    pub height: u32,
    /// Median time past of the block before that block.
    pub prev_median_time_s: u32,
}

/// The last height and the last median time at which the relative locks still hold; -1 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelativeLock {
    /// The block's height must be above this.
    pub min_height: i64,
    /// The parent's median time past must be above this.
    pub min_time_s: i64,
}

impl RelativeLock {
    /// No lock.
    pub const NONE: Self = Self { min_height: -1, min_time_s: -1 };

    /// The locks of a transaction; `coin(i)` is asked for inputs that carry one.
    pub fn of(view: TxView<'_>, mut coin: impl FnMut(usize) -> CoinAge) -> Self {
        let mut lock = Self::NONE;
        // The version is compared as an unsigned number: negative versions have locks.
        if (view.version() as u32) < 2 {
            return lock;
        }
        for (i, input) in view.inputs().enumerate() {
            if input.sequence & DISABLED != 0 {
                continue;
            }
            let age = coin(i);
            let value = i64::from(input.sequence & VALUE);
            if input.sequence & IS_TIME != 0 {
                let until = i64::from(age.prev_median_time_s) + (value << TIME_SHIFT) - 1;
                lock.min_time_s = lock.min_time_s.max(until);
            } else {
                lock.min_height = lock.min_height.max(i64::from(age.height) + value - 1);
            }
        }
        lock
    }

    /// True if the transaction may be in a block at `height` whose parent has this median time past.
    pub fn is_over(&self, height: u32, prev_median_time_s: u32) -> bool {
        self.min_height < i64::from(height) && self.min_time_s < i64::from(prev_median_time_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Network;
    use crate::tx::{Tx, TxIn, TxLayout, parse};

    fn with_view<T>(
        version: i32,
        lock_time: u32,
        sequences: &[u32],
        f: impl FnOnce(TxView<'_>) -> T,
    ) -> T {
        let inputs = sequences.iter().map(|&sequence| TxIn { sequence, ..TxIn::default() });
        let bytes = Tx { version, inputs: inputs.collect(), outputs: vec![], lock_time }.to_bytes();
        let mut layout = TxLayout::new();
        f(parse(&bytes, &mut layout).unwrap())
    }

    #[test]
    fn lock_times_are_compared_strictly() {
        for (lock_time, want) in [
            (0, true),
            (99, true),
            (100, false),
            (499_999_999, false),
            (500_000_000, true),
            (500_000_099, true),
            (500_000_100, false),
        ] {
            let got = with_view(1, lock_time, &[0], |v| is_final(v, 100, 500_000_100));
            assert_eq!(got, want, "{lock_time}");
            assert!(with_view(1, lock_time, &[SEQUENCE_FINAL; 2], |v| is_final(v, 0, 0)));
        }
        assert!(!with_view(1, 100, &[SEQUENCE_FINAL, 0], |v| is_final(v, 100, 0)));
    }

    #[test]
    fn relative_locks_hold_between_csv_and_genesis() {
        let p = ChainParams::of(Network::Main);
        let held = [419_327, 419_328, 620_537, 620_538].map(|h| has_relative_locks(&p, h));
        assert_eq!(held, [false, true, true, false]);
        assert_eq!(lock_time_limit_s(&p, 419_327, 1, 2), 2);
        assert_eq!(lock_time_limit_s(&p, 700_000, 1, 2), 1);
    }

    #[test]
    fn relative_locks_count_from_the_coin() {
        let age = |_| CoinAge { height: 50, prev_median_time_s: 1000 };
        let ten_blocks = with_view(2, 0, &[10], |v| RelativeLock::of(v, age));
        assert_eq!(ten_blocks, RelativeLock { min_height: 59, min_time_s: -1 });
        assert!(!ten_blocks.is_over(59, 0));
        assert!(ten_blocks.is_over(60, 0));
        let two_units = with_view(2, 0, &[IS_TIME | 2], |v| RelativeLock::of(v, age));
        assert_eq!(two_units, RelativeLock { min_height: -1, min_time_s: 2023 });
        assert!(two_units.is_over(0, 2024));
        for (version, sequence) in [(1, 10), (2, DISABLED | 0xa)] {
            let none = with_view(version, 0, &[sequence], |v| RelativeLock::of(v, age));
            assert_eq!(none, RelativeLock::NONE);
        }
        assert_ne!(with_view(-1, 0, &[10], |v| RelativeLock::of(v, age)), RelativeLock::NONE);
    }
}
