//! Links with delay, loss and a rate between network namespaces, in user space.
//!
//! In: a [`ChainSpec`] (how many hops, and the [`Impairment`] of each direction). Out: named network namespaces in a row,
//! joined by links that behave as told, counters of every frame, and nothing left behind: whatever happens to this process, a
//! [`janitor`](namespaces) takes the namespaces away. Kernels without `sch_netem` can be tested this way too, and a frame's
//! fate depends on nothing but the seed and its place in the stream.
//!
//! ```text
//!   node 0            link 1                node 1            link 2                node 2
//!  ┌──────┐   ┌────────────────────┐      ┌──────┐   ┌────────────────────┐      ┌──────┐
//!  │    d1├───┤L  line, departures R├─────┤u1  d2├───┤L                  R├──────┤u2    │
//!  └──────┘   └────────────────────┘      └──────┘   └────────────────────┘      └──────┘
//!  10.80.1.1      own namespace           10.80.1.2
//! ```
//!
//! Read in this order: [`impairment`] (what a direction does), [`line`] (what becomes of one frame, over a simulated clock),
//! [`departures`] (frames that wait), [`link`] (the thread that moves them), [`namespaces`], [`chain`].
//!
//! Cost: about four microseconds of kernel work a frame and link; a core carries 1 Gbit/s of full frames.

#![deny(unsafe_code)]

pub mod chain;
pub mod departures;
pub mod impairment;
pub mod line;
pub mod link;
pub mod namespaces;
#[allow(unsafe_code)]
pub mod sys;

pub use chain::{Chain, ChainSpec};
pub use impairment::Impairment;
pub use link::{Counts, Link};
pub use namespaces::{EmulatorError, available, within};
