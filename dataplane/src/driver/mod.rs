//! Who calls `turn()`: a pinned thread, a glommio executor, or whoever holds the stem.
//!
//! A stem does not know its driver. [`spin`] runs a machine for real; the feature `glommio` adds a driver on pinned glommio
//! executors; a simulator or a test needs none, it calls [`Turnable::turn`](crate::stem::Turnable::turn) in the order it
//! likes, with a [`ManualClock`](crate::time::ManualClock).

#[allow(unsafe_code)] // one instruction: the processor's tick counter
pub mod pin;
