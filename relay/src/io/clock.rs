//! The clock of backends: microseconds of the machine's monotonic clock.
//!
//! It is the same in every process of a machine, so that times of two relays on one machine can be compared.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds since the machine started.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}
