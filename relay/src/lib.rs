//! BFR, the Blockchain Fast Relay: blocks, subtrees and transactions as erasure-coded packets between known peers.
//!
//! What comes in: datagrams and the time. What goes out: datagrams and events. In between nothing reads a clock, opens a
//! socket or starts a thread, so the whole protocol runs in a simulator from one seed (hosts and the simulator touch the same
//! few functions). A lost packet costs no round trip, because parity sized from measured loss is already on its way; a
//! packet from a stranger costs no memory, because a cookie and a Noise handshake come before state and a MAC before parsing.
//!
//! `docs/bfr.md` is the specification: every packet drawn as bytes, every constant with its reason.
//!
//! | room | what happens there |
//! | --- | --- |
//! | [`compact`] | forms by name, and back; what a relay without a node knows |
//! | [`fec`] | the erasure code, and how much of it a loss rate asks for |
//! | [`wire`] | packets as bytes: read them totally, write them once |
//! | [`io`] | datagrams in and out: sockets with runs of packets, io_uring, the promises every backend keeps |
//! | [`engine`] | all links and all objects together; what hosts and the simulator touch |
//! | [`object`] | objects: cut, coded, gathered, passed on, proved |
//! | [`tile`] | the relay inside a node: a socket and an engine on the links of the machine |
//! | [`node`] | a relay of its own: the engine, a way to move packets, the clock |
//! | [`origin`] | proofs of who made a symbol |
//! | [`link`] | one authenticated link to one peer: handshake, MAC, replay, loss, delay, pacing |

#![deny(unsafe_code)]

pub mod compact;
mod drops;
pub mod engine;
pub mod fec;
pub mod io;
pub mod link;
mod lookup;
pub mod node;
pub mod object;
pub mod origin;
mod peer;
mod plants;
pub mod testing;
pub mod tile;
pub mod time;
pub mod wire;

pub use drops::{DropReason, Drops};
pub use lookup::{Found, HeaderView, Lookups, TxLookup};
pub use peer::{LinkView, PeerConfig, PeerId, PeerInfo, PeerView};
pub use time::NowUs;
pub use wire::{Class, ObjectId, Priority};
