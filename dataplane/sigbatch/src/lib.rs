//! Many ECDSA verifications, SHA-256s, double SHA-256s and HASH160s at once, by the fastest kernel this machine has.
//!
//! In: batches of borrowed bytes, any size, none included. Out: one verdict or one hash an item, in the order of the items.
//! Nothing is allocated for a batch, nothing is shared between threads: a tile owns its [`Verifier`] and its [`Hasher`].
//! Both choose their kernel when they are made, from what the processor reports and a known-answer test, and say which and
//! why ([`Kernel`]), so that a log line and a report can.
//!
//! libsecp256k1 is the judge of every signature. A faster kernel may only ever say "valid"; what it does not accept goes to
//! libsecp256k1, whose answer counts.

#![deny(unsafe_code)]
// Lanes, limbs and groups are walked side by side by their index: one loop over several arrays.
#![allow(clippy::needless_range_loop)]

mod audit;
mod check;
#[allow(unsafe_code)] // calls of kernels that the processor was asked for
mod hasher;
pub mod ifma;
mod kernel;
mod known;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // AVX-512 intrinsics
mod lanes;
pub mod proof;
#[cfg(target_arch = "x86_64")]
mod ripemd;
#[allow(unsafe_code)] // SHA intrinsics
mod streams;
mod verifier;

pub use audit::{Audit, Disagreement, disagreements, first_disagreement};
pub use check::{Check, SigVerdict, Signature};
pub use hasher::{HashBackend, Hasher};
pub use kernel::Kernel;
pub use verifier::{AUDIT_EVERY, Backend, DecidedBy, SigCounts, Verifier};
