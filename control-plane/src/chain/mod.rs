//! The chain: headers, block files, and the state machine that decides which blocks the coins are of.
//!
//! One thread owns the data plane's control links (through [`crate::engine::Engine`]), the files and the right to change the tree
//! of headers. Interfaces hold a [`Chain`]: they read the shared view at once and send commands through a bounded channel. Read
//! `tree` (headers and the best chain), `files` (what is on disk), `state` (connect, disconnect, reorganise), `thread` (the loop),
//! `handle` (what callers see).

pub mod answers;
pub mod candidates;
pub mod files;
pub mod handle;
pub mod mining;
mod open;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod thread;
mod tree;
mod tx_index;
mod view;

pub use answers::{
    BlockOutcome, Candidate, ChainStatus, ChainTip, CoinInfo, HeaderInfo, HeaderOutcome, MinedTx,
    Solution, TemplateTx, TipInfo,
};
pub use handle::{Chain, ChainError};
pub use open::{ChainOptions, open};
pub use thread::{ChainThread, Ended};
