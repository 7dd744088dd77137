//! The data plane: tiles, the stem that turns them, the links between them, and the table that wires them.
//!
//! A newcomer reads [`tile`] (what a tile is), [`topo`] (the machine as one table), [`stem`] (what a turn is), then
//! [`driver`] (who turns). The tiles themselves are beside them, one folder each.
//!
//! Nothing here reads a clock, draws a random number or allocates on a hot thread except through what is handed in, so the
//! simulator can replay a whole machine from one seed.
#![deny(unsafe_code)]

pub mod blocks;
pub mod driver;
pub mod epochs;
pub mod long;
pub mod mem;
pub mod metrics;
pub mod msg;
mod outs;
pub mod pack;
pub mod partition;
pub mod rng;
pub mod stem;
pub mod tile;
pub mod time;
pub mod topo;
pub mod validate;
