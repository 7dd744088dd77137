//! Links: how tiles talk.
//!
//! A link has one producer and one or more consumers. The producer writes a payload into its `dcache`, then publishes a
//! 32-byte line that names it; consumers poll that line. Nothing is copied, nothing is locked, nothing wraps mid-frag.
//! `Lossless` links stop the producer when a consumer is full, `Shed` links drop the new frag at the door and count it,
//! `Tap` links never look and let the reader find out that it was overrun.
//!
//! ```
//! use ring::{Kind, Link, LinkSpec};
//!
//! let link = Link::anonymous(&LinkSpec::new("hello_world", 4, 256, Kind::Lossless))?;
//! let (mut producer, mut consumer) = (link.producer()?, link.consumer(0)?);
//! producer.publish(7, 0, b"one frag").expect("an empty link has credit");
//! let frag = consumer.poll().expect("it is there");
//! assert_eq!((frag.seq, frag.sig, frag.bytes), (0, 7, &b"one frag"[..]));
//! # Ok::<(), ring::LinkError>(())
//! ```
//!
//! # The region
//!
//! One mapping, anonymous or a file that several processes map. Everything in it is found by offset.
//!
//! ```text
//! | header        | magic, version, layout hash, the row of the topology table    written once
//! | producer cell | claimed, closed, next seq, counters                           by the producer
//! | consumer cells| fseq, claimed, malformed | slow                               by the consumer | by the producer
//! | lines         | depth x 32 bytes: seq, sig, loc, ts                           by the producer
//! | dcache        | depth + burst + 1 slots of an mtu, in chunks of 64 bytes      by the producer, with credit
//! | arena         | frags larger than an mtu, each named by a handle in a slot    by the producer, with a claim
//! ```
//!
//! # A frag, start to end
//!
//! | who | does | and thereby |
//! | --- | --- | --- |
//! | producer | writes the payload into the next slot, for which it has credit | nobody else looks there |
//! | producer | publishes the line `seq mod depth` | announces `seq` and evicts `seq - depth` in one store |
//! | consumer | polls the line it expects, borrows the payload | holds credit as long as the borrow lives |
//! | consumer | stores its position (its *fseq*), in housekeeping or when idle | gives everything before it back |
//! | producer | rereads the positions when its local count is used up, and in housekeeping | may write there again |
//!
//! A frag larger than the mtu is admitted by its *claimed* size, whole or not at all, one a source; it is written in pieces
//! and published as a handle; its bytes are free when every consumer has passed it.
//!
//! Between processes the producer is trusted with the payload while a consumer borrows it, as every tile of one node is;
//! places and sizes are checked all the same, so that a broken peer cannot lead a consumer outside the link. What must
//! be checked once and used later is copied by the tile into its own memory first.
//!
//! # Memory order
//!
//! Relaxed, acquire and release only. Each row is a `Site` in `sync.rs`; the loom models in `models.rs` remove each in turn
//! and demand that something breaks. On x86-64 none of them costs an instruction except the two exchanges.
//!
//! | site | access | what it orders | what breaks without it |
//! | --- | --- | --- | --- |
//! | `LineMarker` | release fence after the marker `seq - 1` | marker before body, and before any reuse of the evicted payload | a tap accepts a torn line or payload |
//! | `LinePublish` | release store of `seq` | body and payload before the number | a half-written line or payload is read |
//! | `LinePoll` | acquire load of `seq` | the number before body and payload | the same |
//! | `TapVerify` | acquire fence before `seq` is read again | the copy before the check | a tap accepts a torn line or payload |
//! | `CreditReturn` | release store of an fseq | the consumer's reads before its position | a payload changes under its reader |
//! | `CreditRead` | acquire load of an fseq | the position before the producer's writes | the same, and in the arena |
//! | `Shutdown` | release store of the leaving mark | the last reads before the mark | the same |
//! | `Close` | release store of the end mark | the last frag before the mark | the last frag is lost |
//! | `CloseRead` | acquire load of the end mark | the mark before the last poll | the same |
//! | `Ready` | release store of the magic number | the whole region before it | a half-made region is attached |
//! | `Attach` | acquire load of the magic number | the number before everything else | the same |
//! | `ParkBarrier` | `membarrier` of the parker | its flag before its last poll | a wake-up is lost |
//! | `WakeOrder` | compiler fence of the waker | the publish before the look at the flag | the same |
//! | `ParkExchange` | acquire exchange (no `membarrier`) | a waker's publish before the last poll | the same |
//! | `WakeExchange` | release exchange (no `membarrier`) | the publish before the exchange | the same |
//!
//! Everything else is relaxed: counters for monitors, and claims of an end, where only the exchange itself matters. Two
//! results of the models are rules for users: a link has at least two lines (with one, the marker is the number of the
//! frag before), and a tile that passes a *borrowed* payload on must keep its credit until the last reader is done; the
//! tiles of this node copy instead.
#![deny(unsafe_code)]
#![cfg_attr(loom, allow(dead_code))] // models use the inner functions only

#[cfg(not(loom))]
mod arena;
#[cfg(not(loom))]
mod consumer;
mod credit;
#[cfg(not(loom))]
#[allow(unsafe_code)] // borrows of payload bytes, guarded by credit
mod dcache;
mod line;
#[cfg(not(loom))]
mod link;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(loom))]
mod observer;
pub mod park;
#[cfg(not(loom))]
mod producer;
#[cfg(not(loom))]
#[allow(unsafe_code)] // typed views of mapped memory
mod region;
#[cfg(not(loom))]
mod spec;
mod sync;
#[cfg(not(loom))]
mod tap;
#[cfg(not(loom))]
#[allow(unsafe_code)] // typed views of mapped memory
mod words;

#[cfg(not(loom))]
pub use {
    arena::{CLAIMS_MAX, Refused},
    consumer::{Consumer, Frag},
    link::Link,
    observer::{ConsumerCounts, LinkCounts, Observer},
    producer::{LargeFrag, NoCredit, NotSent, PastClaim, Producer, Seq},
    region::LinkError,
    spec::{
        CONSUMERS_MAX, DEPTH_MAX, Kind, LinkSpec, MTU_MAX_BYTES, NAME_MAX_BYTES, SpecError,
        footprint,
    },
    tap::{Tap, TapPoll},
    words::{Words, WordsView},
};
