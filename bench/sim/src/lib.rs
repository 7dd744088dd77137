//! The simulator: the real tiles of the money path in one thread, turned in any order that a seed says.
//!
//! In: a seed and a number of steps. The seed draws everything, also how large the machine is and which faults it gets
//! ([`Options`], a swarm): tiny links, tiny windows, stalled tiles, slow links, children before parents, conflicting spends
//! across shards, copies that lie, blocks in the middle. Out: a [`Run`] with a hash over every event (the same seed gives the
//! same hash), or a [`Failure`]: incorrect, stuck, or (a panic of a tile) crashed.
//!
//! ```text
//!  workload ─► gate ─► validate[i] ◄─ wires ─► shard[j] ─ wires ─► pack ─► chain (mines our own blocks)
//!                          │ verdicts                                          │
//!                          └───────────► auditor + shadow UTXO set ◄───────────┘
//! ```
//!
//! Every link between two tiles is cut in two and joined by a [`wire`]: it holds frags back, hands them on late and in bursts,
//! and shows them to the auditor. A *plant* ([`plant`]) is a bug put into such a wire (a lost frag, a forged grant), so the
//! tiles need no switches; a simulator that does not find its plants proves nothing.
//!
//! Other people's blocks, competing branches and reorganisations have a run of their own ([`reorg`]): the same machine, with the
//! node's own conductor in the place of the chain.
//!
//! Read in this order: `options` (what is drawn), `machine` (what is built), `world` (what a step is), `workload` (what is
//! sent), `auditor` (what must hold), `run` (from seed to result).

#![forbid(unsafe_code)]

mod auditor;
mod chain;
mod check;
mod fault;
mod gate;
mod machine;
mod options;
pub mod plant;
pub mod reorg;
mod run;
mod script;
#[cfg(test)]
mod stories;

mod trace;
mod wire;
mod workload;
mod world;

pub use fault::{Failure, FailureKind};
pub use options::Options;
pub use plant::Plant;
pub use run::{Run, Runs, catch, current, run_seed, run_seeds};
pub use trace::Trace;
