//! The eight-lane ECDSA verifier: sixteen signatures side by side in AVX-512 registers, or in its plain model.
//!
//! Read in this order: `lane` (what a register must do), `zmm` and `model` (two kinds of register), `field`
//! (numbers modulo p), `point` (curve), `fixed` (tables of G), `ecmult` (the main loop and the comparison), `scalar` and `parse`
//! (what is done one by one), `batch` (many). It may say "valid"; everything else is decided by libsecp256k1.

#[cfg(test)]
mod algebra;
pub mod batch;
pub mod ecmult;
pub mod field;
pub mod fixed;
#[cfg(test)]
mod interval;
pub mod lane;
pub mod model;
pub mod parse;
pub mod point;
pub mod scalar;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)] // AVX-512 intrinsics
pub mod zmm;
