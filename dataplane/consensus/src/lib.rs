//! Consensus: bytes in, verdict out, exactly as SV Node 1.2.2 decides.
//!
//! This crate is pure: no I/O, no threads, no clock, no global state, no `unsafe`. It knows the formats (transactions,
//! headers, blocks, Teranode's containers, merkle proofs, addresses), the rules (transactions, headers, blocks, proof of
//! work) and the parameters of six networks. Parsers are total: any bytes give an object or an error with an offset.
//! Verdicts carry SV Node's reject reason and ban score. What needs state (which coin exists, what time it is) is handed in.

#![forbid(unsafe_code)]

pub mod address;
pub mod block;
pub mod hash;
pub mod header;
pub mod merkle;
pub mod params;
pub mod pow;
pub mod proof;
pub mod rules;
pub mod script;
pub mod sighash;
pub mod teranode;
pub mod tx;
#[cfg(any(test, feature = "vectors"))]
pub mod vectors;
pub mod wire;
