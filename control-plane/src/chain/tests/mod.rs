//! Tests of the state machine over a plain engine.

mod bed;
mod disk;
mod plain;
mod random;
mod stories;
