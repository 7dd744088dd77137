//! Tests of the state machine over a plain engine.

mod bed;
mod disk;
pub(crate) mod plain;
mod random;
mod stories;
