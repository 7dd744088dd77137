//! HTTP: one server for every listener of the node, and what is answered where.
//!
//! [`submit`] takes transactions, [`ops`] shows metrics and health, `crate::rpc` speaks JSON-RPC on the same server.
//!
//! [`server`] accepts, bounds and closes connections and reads whole request bodies; it is the only place where bytes from
//! outside meet a deadline or a size. Routers are plain `axum` and see complete requests.

pub mod body;
mod connection;
pub mod counters;
pub mod limits;
pub mod ops;
pub mod server;
pub mod submit;

pub use counters::{HttpCount, HttpCounters};
pub use limits::Limits;
pub use server::{bind, serve};
