//! The data plane: tiles and the links between them, from the bytes of a transaction to a packed subtree.
//!
//! A newcomer reads [`tile`] (what a tile is), [`topo`] (the machine as one table), [`stem`] (what a turn is), then
//! [`driver`] (who turns). The tiles themselves are beside them, one folder each.
//!
//! Nothing here reads a clock, draws a random number or allocates on a hot thread except through what is handed in, so the
//! simulator can replay a whole machine from one seed.
#![deny(unsafe_code)]

pub mod driver;
pub mod mem;
pub mod metrics;
mod outs;
pub mod rng;
pub mod stem;
pub mod tile;
pub mod time;
pub mod topo;
