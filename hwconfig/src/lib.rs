//! Host tuning: check, apply and undo everything about a machine that costs microseconds.
//!
//! In: a [`demand::Demand`] (plain data: which processors the tiles want, how much memory, which network cards) and a
//! [`host::Host`] (this machine, or a directory tree that stands for one). Out: what is off and why, the shell line that
//! would change it, the change itself, and the way back to exactly what was there before.
//!
//! Read in this order: `stage` (what a stage says), `stages` (all of them, one table), `machine` (check, apply, undo),
//! `journal` (the way back), `write` (the only module that changes anything), `plan` (tiles onto processors).

#![deny(unsafe_code)]

pub mod cpus;
pub mod demand;
mod ethtool;
mod fixture;
#[allow(unsafe_code)] // one ioctl: flow rules have no other door
mod flows;
pub mod guide;
pub mod host;
pub mod inventory;
mod irqbalance;
pub mod journal;
pub mod machine;
mod netlink;
pub mod persist;
pub mod plan;
pub mod stage;
pub mod stages;
pub mod state;
pub mod write;
