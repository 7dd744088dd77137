//! Rules for transactions and blocks.

mod reject;

pub use reject::{Dos, RejectCode};
