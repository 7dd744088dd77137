//! The control plane: what starts the data plane, tells it about the chain, and speaks with the outside.
//!
//! It never touches a transaction one by one on the hot path. Read `topology` (the machine as one table), `node` (how it is
//! booted and told), then the commands: `demo`, `verify_block`, `topo`.

#![forbid(unsafe_code)]

pub mod chain;
pub mod config;
pub mod counters;
pub mod datadir;
pub mod demo;
pub mod dump;
pub mod engine;
pub mod epochs;
pub mod http;
pub mod hw;
pub mod interfaces;
pub mod ledger;
pub mod load;
pub mod logs;
pub mod memory;
pub mod mine;
pub mod node;
pub mod relay;
pub mod room;
pub mod rpc;
pub mod run;
pub mod service;
pub mod signals;
pub mod store;
pub mod submit;
pub mod subtree_files;
pub mod top;
pub mod topo;
pub mod topology;
pub mod utxo;
pub mod verify_block;
pub mod verify_sigs;
pub mod version;
