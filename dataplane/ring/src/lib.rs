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
#[allow(unsafe_code)] // the cells of the models
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
pub use {
    arena::{CLAIMS_MAX, Refused},
    consumer::{Consumer, Frag},
    link::Link,
    observer::{ConsumerCounts, LinkCounts, Observer},
    producer::{LargeFrag, NoCredit, PastClaim, Producer, Seq},
    region::LinkError,
    spec::{
        CONSUMERS_MAX, DEPTH_MAX, Kind, LinkSpec, MTU_MAX_BYTES, NAME_MAX_BYTES, SpecError,
        footprint,
    },
    tap::{Tap, TapPoll},
};
