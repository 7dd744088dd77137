//! Memory of hot threads: everything is taken before the first turn, nothing after it.
//!
//! [`seal`] closes the heap for a thread and counts (or, in tests, stops) whatever still reaches it.

#[allow(unsafe_code)] // a global allocator is an unsafe trait
pub mod seal;

pub use seal::{SealMode, SealedHeap, alloc_after_seal, seal, unsealed};
