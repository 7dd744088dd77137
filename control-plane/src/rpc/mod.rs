//! JSON-RPC as bitcoind and SV Node speak it: the tools people have drive this node unchanged.
//!
//! In: HTTP requests that [`crate::http`] has read whole. Out: answers in the shapes of SV Node. Read `table` (every method, one
//! row each), `server` (HTTP and batches), `envelope` and `args` (what a call says), `methods` (what it does), `auth` (who
//! may). Shapes, texts and codes are facts read from SV Node 1.0.13 and stand beside the code that gives them; where this
//! node differs, `docs/interfaces/rpc.md` says so.

mod args;
pub mod auth;
mod docs;
mod envelope;
mod error;
mod examine;
mod json;
mod listener;
mod methods;
mod partial_tree;

mod script_text;
mod server;
mod state;
mod table;
mod tx_json;

pub use auth::{Auth, AuthError};
pub use docs::page;
pub use error::RpcError;
pub use examine::{Found, examine};
pub use json::double_text;
pub use listener::{ListenError, RpcListener};
pub use server::router;
pub use state::{Bounds, Rpc, RpcCount, RpcCounters};
pub use table::{Access, METHODS, Method};

#[cfg(test)]
mod tests;
