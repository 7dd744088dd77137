//! Submitting transactions: one door for HTTP, RPC and everybody else outside who waits for a verdict.
//!
//! In: transactions as bytes, raw or extended, in calls of one or many. Out: one [`Outcome`] for each, in order.
//!
//! ```text
//!   callers ─► bounded inbox ─► the gate (one thread) ─► submit_validate[i] ─► validate[i] ...
//!                 Submit            │  tokens                                     │
//!   callers ◄─── oneshot ◄──────────┘ ◄──────────── validate_submit[i] ◄──────────┘
//! ```
//!
//! The gate is the only thread with ends of these links. Transactions of one call go out in order; those of one validator
//! stay in order, and a child that overtakes its parent through another validator waits there until the parent comes. What a
//! call holds of the bounds (transactions, bytes) it holds until it is answered, so a full gate says `Overloaded` at once and
//! nothing grows. A caller that goes away changes nothing: its transactions are judged all the same.

mod counts;
mod gate;
mod handle;
mod outcome;

pub use counts::{SubmitCount, SubmitCounters};
pub use gate::{Gate, start};
pub use handle::{SourceKind, Submit, SubmitError, SubmitLimits};
pub use outcome::Outcome;

#[cfg(test)]
pub(crate) mod tests;
