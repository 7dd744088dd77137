//! Time as tiles see it: nanoseconds since the machine started turning.
//!
//! A tile never asks for the time; the stem reads the clock a few times a turn and hands it in, so that a simulator can
//! hand in whatever it likes. `HostClock` is the processor's tick counter where that is steady, and the operating
//! system's clock elsewhere; `ManualClock` stands still until somebody moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::driver::pin;

/// Nanoseconds since the clock's own start.
pub type Ns = u64;

/// One microsecond in nanoseconds.
pub const US: Ns = 1_000;
/// One millisecond in nanoseconds.
pub const MS: Ns = 1_000_000;
/// One second in nanoseconds.
pub const SEC: Ns = 1_000_000_000;

/// Where a stem reads the time.
///
/// The reading never goes back. A stem reads it at most four times a turn, never once a frag.
pub trait Clock {
    /// Nanoseconds since this clock's start.
    fn now(&self) -> Ns;
}

/// The host's clock: the tick counter of the processor, scaled, or [`Instant`] where that is not steady.
///
/// Clones share their start, so that all cores of one machine speak of the same nanosecond.
#[derive(Clone, Debug)]
pub struct HostClock {
    start: Instant,
    ticks: Option<Ticks>,
}

/// How ticks become nanoseconds: `ns = (ticks - start) * multiplier >> SHIFT`.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    start: u64,
    multiplier: u64,
}

const SHIFT: u32 = 32;
/// How long the tick counter is compared with the operating system's clock at start: 20 ms give an error below 20 ppm.
const CALIBRATION: std::time::Duration = std::time::Duration::from_millis(20);

impl HostClock {
    /// Starts the clock; takes 20 ms where the tick counter has to be measured against the operating system's clock.
    pub fn start() -> Self {
        let start = Instant::now();
        let ticks = pin::steady_ticks().map(|first| {
            std::thread::sleep(CALIBRATION);
            let (last, elapsed) = (pin::steady_ticks().unwrap_or(first), start.elapsed());
            let ticks = last.wrapping_sub(first).max(1);
            let multiplier = (elapsed.as_nanos() << SHIFT) / u128::from(ticks);
            Ticks { start: first, multiplier: multiplier as u64 }
        });
        Self { start, ticks: ticks.filter(|t| t.multiplier > 0) }
    }

    /// A clock that uses the operating system only: no calibration, about 25 ns a reading.
    pub fn from_system() -> Self {
        Self { start: Instant::now(), ticks: None }
    }

    /// Whether it reads the processor's tick counter.
    pub fn uses_ticks(&self) -> bool {
        self.ticks.is_some()
    }
}

impl Clock for HostClock {
    #[inline]
    fn now(&self) -> Ns {
        match self.ticks {
            Some(t) => {
                let ticks = pin::ticks().saturating_sub(t.start);
                ((u128::from(ticks) * u128::from(t.multiplier)) >> SHIFT) as u64
            }
            None => self.start.elapsed().as_nanos() as u64,
        }
    }
}

/// A clock that its owner moves: for tests and the simulator. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Ns) {
        self.0.fetch_add(by, Relaxed);
    }
}

impl Clock for ManualClock {
    #[inline]
    fn now(&self) -> Ns {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_host_clock_agrees_with_the_operating_system() {
        let clock = HostClock::start();
        let (a, at) = (clock.now(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let (b, elapsed) = (clock.now(), at.elapsed().as_nanos() as u64);
        let off = (b - a).abs_diff(elapsed);
        assert!(off < elapsed / 50 + MS, "host clock says {} ns, system {elapsed} ns", b - a);
    }

    #[test]
    fn the_host_clock_never_goes_back_on_one_thread() {
        let clock = HostClock::start();
        let mut last = clock.now();
        for _ in 0..100_000 {
            let now = clock.now();
            assert!(now >= last, "{now} after {last}");
            last = now;
        }
    }

    #[test]
    fn a_manual_clock_moves_only_when_it_is_moved() {
        let clock = ManualClock::new();
        let same = clock.clone();
        assert_eq!(clock.now(), 0);
        same.advance(5 * US);
        assert_eq!(clock.now(), 5_000);
    }
}
