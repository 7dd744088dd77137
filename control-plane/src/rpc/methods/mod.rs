//! The methods, by subject: each function is a row's `run` and knows the node through [`super::state::Rpc`].

// Every method of the table has the same type, also where it cannot fail.
#![allow(clippy::unnecessary_wraps)]

pub mod blocks;
pub mod control;
pub mod mempool;
pub mod mining;
pub mod proofs;
pub mod raw;
pub mod scripts;
pub mod send;

use super::error::{RpcError, code};
use crate::chain::ChainError;

impl From<ChainError> for RpcError {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::UnknownBlock { .. } => Self::not_found("Block not found"),
            ChainError::UnknownCandidate => Self::decode("Block candidate ID not found"),
            ChainError::TooMany { .. } => Self::parameter(error.to_string()),
            ChainError::Stopping => Self::new(code::IN_WARMUP, "the node is stopping"),
            ChainError::NotRegtest { .. } | ChainError::Genesis | ChainError::StaleCandidate => {
                Self::misc(error.to_string())
            }
            other => Self::new(code::INTERNAL, other.to_string()),
        }
    }
}
