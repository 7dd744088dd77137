//! Tests of the state machine over a plain engine.

pub(crate) mod bed;
mod disk;
pub(crate) mod plain;
mod random;
mod stories;
