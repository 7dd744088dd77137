//! The relay inside a node: two tiles on the spine's links.
//!
//! ```text
//!  socket ⇄ net ── net_bfr ──► bfr ── bfr_validate ──► validate    transactions of peers; Shed
//!            ▲                  │ │
//!            └──── bfr_net ─────┘ └─── bfr_chain ─────► chain        blocks, headers, subtrees of peers; Lossless, with an arena
//!                               ▲
//!   shard_pack, pack_store, pack_bfr, chain_bfr                      our transactions, subtrees, blocks
//! ```
//!
//! [`net`] owns the socket and nothing else: a datagram is a frag with an address in front ([`datagram`]). [`bfr`] owns the engine and
//! nothing else: it sees datagrams, and what the node says on its links. Between them packets may be lost, as on any network, so
//! `net_bfr` is `Shed`: a flood ends there, counted, and blocks of peers that are being taken in keep their memory. What is said about
//! peers, and their numbers, passes over the [`Desk`].

mod accepted_txs;
mod bfr;
pub mod datagram;
mod desk;
mod net;
mod note;
#[cfg(test)]
mod tests;

pub use accepted_txs::AcceptedTxs;
pub use bfr::{Bfr, BfrConfig, BfrCount};
pub use desk::{Desk, Shown};
pub use net::{Net, NetCount};
pub use note::Note;
