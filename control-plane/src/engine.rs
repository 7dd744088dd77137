//! The data plane as the chain's state machine needs it: one trait, so that the state machine is tested without tiles.
//!
//! In: blocks in the order of the chain, one at a time, each on top of [`Engine::tip`]. Out: what became of them. Whoever calls
//! keeps headers, work, files and the choice of a branch; the engine keeps coins, spends and the pool, and nothing of a block once it
//! is connected but a few numbers. [`crate::node::Node`] is the engine that runs; a map of coins is enough for tests.
//!
//! The index of the pool's bytes ([`crate::store::Pool`]) is the caller's: it says there what is mined and what came back, before
//! the next call. A call that is answered with [`ConnectError::Rejected`] has changed nothing. After [`ConnectError::Failed`], or any
//! [`NodeError`], the coins are in doubt: stop, and rebuild.

use crate::node::{NodeError, Totals};
use consensus::hash::{BlockHash, TxId};
use consensus::tx::OutPoint;
use dataplane::msg::pack_control::{CandidateId, SeqRange, Want};

pub use dataplane::blocks::{Connected, Disconnected, Rejection};

/// The end of the chain: what the pool is judged on top of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    /// Height of its last block.
    pub height: u32,
    /// Name of its last block.
    pub hash: BlockHash,
    /// Median time past of its last block, seconds (the times of it and of the ten before it).
    pub median_time_past: u32,
}

/// A block that stands on top of [`Engine::tip`].
///
/// The caller has judged the header (work, bits, time, version, checkpoints). The engine judges everything that lies in `raw`.
#[derive(Clone, Copy, Debug)]
pub struct BlockToConnect<'a> {
    /// The whole block as on the wire.
    pub raw: &'a [u8],
    /// The end of the chain once it is connected.
    pub end: ChainEnd,
}

/// Why a block was not connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// It is not valid, and nothing has changed.
    #[error("the block is refused: {}", .0.reason)]
    Rejected(Rejection),
    /// It could not be judged, and the coins are in doubt.
    #[error(transparent)]
    Failed(#[from] NodeError),
}

/// What a block could be made of now.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name; its leaves are the block's transaction count, the coinbase included.
    pub id: CandidateId,
    /// Number of subtrees.
    pub subtrees: u32,
    /// Fees of its transactions, satoshi.
    pub fees_sat: u64,
    /// Their raw sizes together, without header and coinbase.
    pub size_bytes: u64,
    /// Merkle branch of the coinbase, lowest sibling first.
    pub branch: Vec<TxId>,
}

/// What a candidate holds.
#[derive(Clone, Debug)]
pub struct Leaves {
    /// Of which candidate.
    pub id: CandidateId,
    /// Its transactions in order, without the coinbase.
    pub txids: Vec<TxId>,
    /// The same as positions in the publications of each shard.
    pub ranges: Vec<SeqRange>,
}

/// An unspent coin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// Value.
    pub value_sat: u64,
    /// Height of the block that made it; tip + 1 while it is not mined.
    pub height: u32,
    /// Whether a coinbase made it.
    pub coinbase: bool,
    /// Whether its transaction is in the pool.
    pub in_pool: bool,
    /// Its locking script.
    pub locking_script: Vec<u8>,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Not known (or mined so long ago that nothing of it is left).
    Unknown,
    /// In the pool.
    Pool,
    /// In the block of this height of the chain.
    Mined {
        /// The height.
        height: u32,
    },
}

/// Coins, spends and the pool. See the module.
pub trait Engine {
    /// The end of the chain the coins are of.
    fn tip(&self) -> ChainEnd;

    /// Name and height of the end of the chain whose coins were there at the start, until [`Engine::stand_on`].
    fn recovered_tip(&self) -> Option<(BlockHash, u32)> {
        None
    }

    /// The chain up to [`Engine::recovered_tip`] was found; `coinbases` are those of its blocks from height 1 on.
    fn stand_on(&mut self, _coinbases: &[TxId], _end: ChainEnd) -> Result<(), NodeError> {
        Ok(())
    }

    /// Why nothing new should be begun, if that is so.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// What a block on top of the tip could be made of now.
    fn candidate(&mut self, want: Want) -> Result<Candidate, NodeError>;

    /// What a candidate holds; `None` if the order of the pool has changed since (a block, an eviction): ask for a new one.
    fn leaves(&mut self, candidate: CandidateId) -> Result<Option<Leaves>, NodeError>;

    /// Connects somebody's block: every rule that lies in its bytes, every input of every transaction.
    fn connect(&mut self, block: &BlockToConnect<'_>) -> Result<Connected, ConnectError>;

    /// Connects a block whose transactions behind the coinbase are exactly a candidate of ours. The coinbase is judged; the rest
    /// was, when it was accepted. Where the candidate is out of date this is [`Engine::connect`].
    fn connect_ours(
        &mut self,
        block: &BlockToConnect<'_>,
        leaves: &Leaves,
    ) -> Result<Connected, ConnectError>;

    /// Takes the tip, whose bytes are `raw`, off the chain; `end` is what is left. Its transactions go back to the pool, as far
    /// as they can stand there.
    fn disconnect(&mut self, raw: &[u8], end: ChainEnd) -> Result<Disconnected, NodeError>;

    /// A coin that nobody has spent: no block, and no transaction of the pool.
    fn coin(&mut self, outpoint: OutPoint) -> Result<Option<Coin>, NodeError>;

    /// A coin that no block has spent, whatever the pool does with it; coins that only the pool has made are not seen.
    fn mined_coin(&mut self, outpoint: OutPoint) -> Result<Option<Coin>, NodeError>;

    /// Where a transaction is.
    fn where_mined(&mut self, txid: &TxId) -> Result<Place, NodeError>;

    /// Sums over all coins.
    fn totals(&mut self) -> Result<Totals, NodeError>;
}
