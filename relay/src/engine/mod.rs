//! The engine: all links and all objects composed, with no clock and no socket.

mod links;

pub use links::{Links, LinksConfig, OUTBOX_MAX, PEERS_MAX, RUN_PACKETS, TRANSMIT_PACKETS, Upper};
