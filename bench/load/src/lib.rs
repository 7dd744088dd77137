//! Workloads: signed transactions by the million, and the faults a node must find among them.
//!
//! A [`Plan`] is drawn from a seed: which transactions, which coins they need, which faults are put in between. The caller
//! mines the coinbases the plan asks for, gets the fan-out transactions, mines those too, and has the workload signed on all
//! cores ([`Plan::sign`]). What comes out is an [`Offer`]: bytes in the order they are to be sent, and for each what it is, so
//! that whoever replays it can check every verdict. One seed gives the same bytes everywhere.
//!
//! Read in this order: `plan` (what is made), `fan_out` (how its coins come to be), `sign` (how it is signed), `offer` (what
//! is handed over), `lanes` (which of it may
//! travel side by side).

#![forbid(unsafe_code)]

pub mod evidence;
mod fan_out;
pub mod keys;
pub mod lanes;
pub mod offer;
pub mod plan;
pub mod replay;
pub mod scripts;
mod sign;
pub mod svnode;

pub use fan_out::{Coinbase, FanOut, OwnCoin};
pub use keys::Keys;
pub use lanes::Lanes;
pub use offer::{Kind, Offer, Offered};
pub use plan::{Inject, Options, Plan, Workload};
