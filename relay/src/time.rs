//! Time: microseconds of a monotonic clock that the caller owns.
//!
//! Comes in with every call, is compared and subtracted, and is never read here: whoever replays the calls replays the run.

use std::ops::{Add, AddAssign};

/// Microseconds since a moment that the host chose when it started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct NowUs(pub u64);

impl NowUs {
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// Microseconds from `earlier` to this moment; 0 when it is not later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The low 32 bits, as packets carry them; they wrap after 71 minutes.
    pub fn low(self) -> u32 {
        self.0 as u32
    }
}

impl Add<u64> for NowUs {
    type Output = Self;

    fn add(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }
}

impl AddAssign<u64> for NowUs {
    fn add_assign(&mut self, us: u64) {
        *self = *self + us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_goes_backwards_is_no_time_at_all() {
        assert_eq!(NowUs(5).since(NowUs(7)), 0);
        assert_eq!(NowUs(7).since(NowUs(5)), 2);
        assert_eq!(NowUs::NEVER + 1, NowUs::NEVER);
    }
}
