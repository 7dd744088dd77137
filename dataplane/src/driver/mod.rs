//! Who calls `turn()`: a pinned thread, a glommio executor, or whoever holds the stem.
//!
//! A stem does not know its driver. [`Crew`] puts tiles on the links of a built machine and sorts them by core; [`spin`]
//! runs the crew on pinned threads, the feature `glommio` on pinned glommio executors, and a simulator or a test takes the
//! stems and turns them in the order it likes, with a [`ManualClock`](crate::time::ManualClock).
//!
//! [`Running`] is what the control plane holds of a machine that runs, whichever driver it has: it stops it cleanly (what
//! is in flight is finished first) and knows whether a core has died.

mod core;
mod crew;
#[cfg(feature = "glommio")]
pub mod glommio;
#[allow(unsafe_code)] // one instruction: the processor's tick counter
pub mod pin;
mod running;
pub mod spin;

pub use crew::{Crew, CrewError, Load};
pub use running::{OnPanic, Running, StartError, Stopped};
