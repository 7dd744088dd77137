//! The erasure code: any k symbols of a group give its data back.
//!
//! In: groups of equally long symbols. Out: parity symbols, or the data symbols that were lost. [`Rs8`] is a systematic
//! Cauchy Reed-Solomon code over GF(2^8): symbol numbers 0 to k-1 are the data, k to 255 parity, and the coefficient of
//! data symbol i in parity symbol s is `1 / (s + i)`. A coefficient follows from two numbers, so there are no matrices to
//! keep, every one of the 256 - k parity symbols can be made at any time by anybody who has the data (a relay mints fresh
//! parity after decoding), and what has to be inverted to decode is itself a Cauchy matrix, whose inverse has a closed
//! form. Nothing is allocated for a group but the scratch space the caller keeps.
//!
//! Every row of coefficients that is left when any rows and columns are struck out of a Cauchy matrix is invertible,
//! so any k symbols decode. Source: Blömer et al., "An XOR-Based Erasure-Resilient Coding Scheme", ICSI TR-95-048.
//!
//! Cost (docs/bfr.md, measured): one table lookup or `GF2P8MULB` per byte, data symbol and parity symbol.

pub mod budget;
pub mod field;
mod kernel;
mod portable;
mod rs8;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
// loads and stores of registers, and calls of what the processor was asked for
mod x86;

pub use kernel::{Backend, Kernel};
pub use rs8::{Rs8, SYMBOLS_MAX, Scratch};
