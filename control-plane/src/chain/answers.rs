//! What the chain answers: tips, headers, blocks, coins, candidates, and what became of a block that was handed in.
//!
//! Plain data, made by the chain thread or from the read view, printed by RPC. Texts are SV Node's where it has one.

use consensus::hash::{BlockHash, TxId};
use consensus::header::Header;
use consensus::pow::U256;

/// The end of the connected chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TipInfo {
    /// Its height.
    pub height: u32,
    /// Its name.
    pub hash: BlockHash,
    /// Its header.
    pub header: Header,
    /// Work of the chain.
    pub chain_work: U256,
    /// Median time of it and ten blocks before it, seconds.
    pub median_time_past: u32,
    /// Transactions of the chain, all coinbases included.
    pub chain_tx_count: u64,
}

/// What `getchaintips` calls the end of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChainStatus {
    /// Connected.
    Active = 0,
    /// Not connected now, but was once: everything about it was checked.
    ValidFork = 1,
    /// All its blocks are here, none of them was connected.
    ValidHeaders = 2,
    /// Blocks are missing.
    HeadersOnly = 3,
    /// It, or an ancestor, is invalid.
    Invalid = 4,
}

impl ChainStatus {
    /// SV Node's word. Source: SV Node `rpc/blockchain.cpp` `getchaintips`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::ValidFork => "valid-fork",
            Self::ValidHeaders => "valid-headers",
            Self::HeadersOnly => "headers-only",
            Self::Invalid => "invalid",
        }
    }
}

/// A header and what is known of its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderInfo {
    /// The header.
    pub header: Header,
    /// The block's name.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Work of the chain up to it.
    pub chain_work: U256,
    /// What `getchaintips` would call it.
    pub status: ChainStatus,
    /// Transactions of the block; 0 if it is not here.
    pub tx_count: u64,
    /// Bytes of the block; 0 if it is not here.
    pub size_bytes: u64,
    /// Median time of it and ten blocks before it, seconds.
    pub median_time_past: u32,
    /// Whether it is connected.
    pub on_active_chain: bool,
    /// The connected block after it.
    pub next: Option<BlockHash>,
}

/// The end of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainTip {
    /// Its height.
    pub height: u32,
    /// Its name.
    pub hash: BlockHash,
    /// Blocks back to the connected chain.
    pub branch_len: u32,
    /// What it is.
    pub status: ChainStatus,
}

/// What became of a block that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// It is on the connected chain.
    Connected,
    /// It is kept, but another chain has as much work. `submitblock` says `inconclusive`.
    Stored,
    /// It was here before.
    Duplicate {
        /// False if it, or an ancestor, is invalid: `duplicate-invalid`.
        valid: bool,
    },
    /// It was here before and nobody knows yet whether it is valid: `duplicate-inconclusive`.
    DuplicateInconclusive,
    /// It breaks a rule.
    Rejected {
        /// SV Node's reject reason, as `bad-txnmrklroot`.
        reason: String,
        /// More for the log: the transaction, the input.
        detail: String,
    },
}

impl BlockOutcome {
    /// What `submitblock` answers; `None` is its null. Source: SV Node `rpc/mining.cpp` `submitblock`, `BIP22ValidationResult`.
    pub fn submit_text(&self) -> Option<&str> {
        match self {
            Self::Connected => None,
            Self::Stored => Some("inconclusive"),
            Self::Duplicate { valid: true } => Some("duplicate"),
            Self::Duplicate { valid: false } => Some("duplicate-invalid"),
            Self::DuplicateInconclusive => Some("duplicate-inconclusive"),
            Self::Rejected { reason, .. } => Some(reason),
        }
    }
}

/// What became of a header that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderOutcome {
    /// It is in the tree.
    Accepted,
    /// It was there before.
    Known,
    /// It breaks a rule.
    Rejected {
        /// SV Node's reject reason.
        reason: String,
    },
}

/// An unspent coin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoinInfo {
    /// Value.
    pub value_sat: u64,
    /// Height of its block; of the next block if it is in the pool.
    pub height: u32,
    /// Whether a coinbase made it.
    pub coinbase: bool,
    /// Its locking script.
    pub locking_script: Vec<u8>,
    /// Made by a transaction of the pool.
    pub in_pool: bool,
}

/// A block to be solved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Names it in [`Solution`].
    pub id: [u8; 16],
    /// The block before.
    pub prev: BlockHash,
    /// Its height.
    pub height: u32,
    /// Subsidy and fees: what the coinbase may pay.
    pub coinbase_value_sat: u64,
    /// The compact target.
    pub n_bits: u32,
    /// A time that is right now.
    pub time_s: u32,
    /// The earliest time.
    pub min_time_s: u32,
    /// The version a solution has unless it says otherwise.
    pub version: i32,
    /// The coinbase that is used where the miner brings none: raw, whole, paying `coinbase_value_sat`.
    pub coinbase: Vec<u8>,
    /// Siblings from the coinbase up, lowest first.
    pub branch: Vec<[u8; 32]>,
    /// Transactions, the coinbase included.
    pub tx_count: u64,
    /// Bytes of the transactions without the coinbase.
    pub size_bytes: u64,
    /// Their fees.
    pub fees_sat: u64,
}

/// A transaction of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateTx {
    /// Its id.
    pub txid: TxId,
    /// Raw format.
    pub raw: Vec<u8>,
    /// Its fee.
    pub fee_sat: u64,
    /// Places in this list (from 0) of the transactions it spends from. `getblocktemplate` counts from 1.
    pub depends: Vec<usize>,
}

/// A solved candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    /// Which.
    pub id: [u8; 16],
    /// What the miner turned.
    pub nonce: u32,
    /// The coinbase it was solved with; `None`: the one the node offered.
    pub coinbase: Option<Vec<u8>>,
    /// The time; `None`: the candidate's.
    pub time_s: Option<u32>,
    /// The version; `None`: the candidate's.
    pub version: Option<i32>,
}

/// A mined transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinedTx {
    /// Its block.
    pub block: BlockHash,
    /// Its place in the block.
    pub index: u64,
    /// Raw format.
    pub raw: Vec<u8>,
}
