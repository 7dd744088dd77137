//! One shard owns one slice of the UTXO set.
//!
//! What comes in: the requests of coordinators (announce, resolve, reserve, commit, settle, spend, release, watch) and the orders
//! of the control plane (import, coinbase, mined, freeze, epochs). What goes out: an answer to each, a wake-up for each that had to
//! wait, and the stream of decided transactions that `pack` reads. Why it is shaped so: every output of a transaction lives in
//! one record of one owner, so a spend is a few writes into memory that no other thread ever touches.
//!
//! [`Shard`] is the owner itself: plain data, no links, no clock, no randomness; tests, the simulator and every later engine
//! talk to it through [`Outbox`]. [`ShardTile`] around it moves frags. Everything is taken at start and bounded
//! ([`ShardConfig`]); what is over a bound is refused, counted, and served again once there is room.
//!
//! Back of an envelope, per spent P2PKH input: one index line, one record line or two, one claim; about 200 ns without cache
//! hits, so five million a second a core; a transaction also costs one copy of its bytes and one frag to `pack`.

#![deny(unsafe_code)]

mod admin;
mod adopt;
mod backlog;
mod build;
mod check;
mod checkpoint;
mod config;
pub mod conformance;
#[cfg(test)]
mod cost;
mod decide;
pub mod disk;
mod durable;
mod engine;
mod folder;
mod form;
mod hold;
mod index;
pub mod journal;
mod keeper;
mod logging;
mod marks;
mod memory;
mod mined;
#[cfg(test)]
mod model_tests;
mod outlet;
mod outputs;
#[cfg(test)]
mod protocol;
mod recovery;
mod reference;
mod reshard;
pub mod seed;
pub mod seed_headers;
mod shard;
mod slab;
pub mod slot;
pub mod state_hash;
pub mod store;
#[cfg(test)]
mod stories;
#[allow(unsafe_code)] // one instruction: the processor fetches a cache line ahead
mod table;
#[cfg(test)]
mod testing;
mod tile;
#[cfg(test)]
mod tile_tests;
mod undo;
pub mod verdict;
mod waits;
mod walk;

pub use admin::AdminOutcome;
pub use checkpoint::{PAGE_BYTES, PageOf, Restore, Roots};
pub use config::*;
pub use dataplane::msg::admin::EvictStep;
pub use durable::DurableShards;
pub use engine::Shards;
pub use folder::*;
pub use form::script_form;
pub use keeper::{CheckpointState, Keeper, KeeperStats, LastWords, Limits};
pub use memory::SnapshotStep;
pub use recovery::{Examined, Mended, RecoverError, Recovered, RecoveryReport, Unmined};
pub use reference::Reference;
pub use reshard::{ReshardError, ReshardStep, Resharded, reshard};
pub use shard::{Counts, Outbox, Progress, Shard, Totals};
pub use slot::SlotEntry;
pub use tile::{ShardCount, ShardTile, slot_entry};
pub use undo::PruneStep;
