//! What attacks the kernel: cases drawn from a seed. For tests and for `bench`; no node runs this.

pub mod cases;
pub mod draw;
