//! The handle: how interfaces speak with the chain.
//!
//! Reads look at the shared view and return at once. Commands go through one bounded channel to the chain thread, which does them
//! one after the other, and are answered through a oneshot; a full channel makes the caller wait.

use super::answers::{
    BlockOutcome, Candidate, ChainTip, CoinInfo, HeaderInfo, HeaderOutcome, MinedTx, Solution,
    TemplateTx, TipInfo,
};
use super::view::View;
use crate::node::NodeError;
use consensus::hash::{BlockHash, TxId};
use consensus::header::Header;
use consensus::params::ChainParams;
use consensus::tx::OutPoint;
use dataplane::msg::pack_control::Want;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that wait for the chain thread. The next caller waits for room.
pub const COMMANDS_MAX: usize = 256;

/// Why the chain could not do what it was asked. What is wrong with a block is no error, see [`BlockOutcome`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The chain thread has ended.
    #[error("the node is stopping")]
    Stopping,
    /// No such block.
    #[error("block {hash} is not known")]
    UnknownBlock {
        /// Which.
        hash: BlockHash,
    },
    /// The genesis block cannot be invalidated.
    #[error("the genesis block cannot be invalidated")]
    Genesis,
    /// No such candidate.
    #[error("the candidate is not known, or so old that it was forgotten; ask for a new one")]
    UnknownCandidate,
    /// The order of the pool changed since the candidate was made.
    #[error("the candidate's transactions were reordered or mined since; ask for a new one")]
    StaleCandidate,
    /// `generate` away from regtest.
    #[error("blocks are generated on regtest only; this is {network}")]
    NotRegtest {
        /// The network.
        network: consensus::params::Network,
    },
    /// More is asked for than the node does in one command.
    #[error("{asked} {what} were asked for, the most is {most}")]
    TooMany {
        /// How many.
        asked: u64,
        /// Of what.
        what: &'static str,
        /// The bound.
        most: u64,
    },
    /// The bytes are no block, or no coinbase.
    #[error("the bytes cannot be read: {what}")]
    Malformed {
        /// What the parser said.
        what: String,
    },
    /// A file of the chain could not be used.
    #[error(transparent)]
    Files(#[from] super::files::FilesError),
    /// The data plane did not do its part; the node stops.
    #[error("the data plane failed: {what}")]
    Engine {
        /// What it said.
        what: String,
    },
    /// It could not be kept, so it was not begun.
    #[error("nothing new is taken: {what}")]
    NotKept {
        /// Why.
        what: String,
    },
    /// A coin cannot be told.
    #[error("{what}")]
    CoinTooLong {
        /// How long it is, and the most.
        what: String,
    },
    /// The chain of the journals is not in the files of the chain.
    #[error(
        "the coins in {folder} are those of block {tip} at height {height}, which is not in the files of the chain; \
         bring those files back, or move {folder} away and start again: coins are then rebuilt from the blocks"
    )]
    UnknownTip {
        /// The folder of journals.
        folder: std::path::PathBuf,
        /// The block.
        tip: BlockHash,
        /// Its height.
        height: u32,
    },
    /// A block this node made was refused by itself.
    #[error("a block of this node's own making was refused: {reason}")]
    OwnBlock {
        /// The reject reason.
        reason: String,
    },
}

impl From<NodeError> for ChainError {
    fn from(error: NodeError) -> Self {
        let what = error.to_string();
        match error {
            NodeError::NotKept(_) => Self::NotKept { what },
            NodeError::ScriptTooLong { .. } => Self::CoinTooLong { what },
            _ => Self::Engine { what },
        }
    }
}

type Answer<T> = oneshot::Sender<Result<T, ChainError>>;

/// What the chain thread is asked.
#[derive(Debug)]
pub(crate) enum Command {
    SubmitBlock(Vec<u8>, Answer<BlockOutcome>),
    SubmitHeader(Header, Answer<HeaderOutcome>),
    Generate { count: u32, locking_script: Vec<u8>, tries_max: u64, answer: Answer<Vec<BlockHash>> },
    Candidate(Want, Answer<Candidate>),
    CandidateTxs([u8; 16], Answer<Vec<TemplateTx>>),
    SubmitSolution(Solution, Answer<BlockOutcome>),
    Invalidate(BlockHash, Answer<()>),
    Reconsider(BlockHash, Answer<()>),
    Coin { outpoint: OutPoint, include_pool: bool, answer: Answer<Option<CoinInfo>> },
}

impl Command {
    /// Whether it is more than a question.
    pub(crate) fn changes(&self) -> bool {
        match self {
            Self::SubmitBlock(..)
            | Self::SubmitHeader(..)
            | Self::Generate { .. }
            | Self::SubmitSolution(..)
            | Self::Invalidate(..)
            | Self::Reconsider(..) => true,
            Self::Candidate(..) | Self::CandidateTxs(..) | Self::Coin { .. } => false,
        }
    }

    /// Answers that it was not begun, for this reason.
    pub(crate) fn refuse(self, what: &str) {
        fn no<T>(answer: Answer<T>, what: &str) {
            // Whoever asked may have gone away.
            let _ = answer.send(Err(ChainError::NotKept { what: what.to_owned() }));
        }
        match self {
            Self::SubmitBlock(_, answer) | Self::SubmitSolution(_, answer) => no(answer, what),
            Self::SubmitHeader(_, answer) => no(answer, what),
            Self::Generate { answer, .. } => no(answer, what),
            Self::Candidate(_, answer) => no(answer, what),
            Self::CandidateTxs(_, answer) => no(answer, what),
            Self::Invalidate(_, answer) | Self::Reconsider(_, answer) => no(answer, what),
            Self::Coin { answer, .. } => no(answer, what),
        }
    }
}

/// Speaks with the chain.
#[derive(Clone, Debug)]
pub struct Chain {
    view: Arc<View>,
    commands: mpsc::Sender<Command>,
    tip: watch::Receiver<TipInfo>,
}

impl Chain {
    /// The handle, what the chain thread takes commands from, and where it announces tips.
    pub(crate) fn new(view: Arc<View>) -> (Self, mpsc::Receiver<Command>, watch::Sender<TipInfo>) {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let (announce, tip) = watch::channel(view.tip());
        (Self { view, commands, tip }, inbox, announce)
    }

    /// The end of the connected chain.
    pub fn tip(&self) -> TipInfo {
        self.view.tip()
    }

    /// Whether the coins of the blocks on disk are rebuilt. Commands wait until then.
    pub fn is_ready(&self) -> bool {
        self.view.is_ready()
    }

    /// A header and what is known of its block.
    pub fn header(&self, hash: &BlockHash) -> Option<HeaderInfo> {
        self.view.header(hash)
    }

    /// The compact target that a child of `parent` with this time must have; `None` if the parent is unknown or invalid.
    pub fn required_bits(
        &self,
        params: &ChainParams,
        parent: &BlockHash,
        time_s: u32,
    ) -> Option<u32> {
        let tree = self.view.tree();
        let parent = tree.find(parent).filter(|id| !tree.entry(*id).is_bad())?;
        Some(tree.required_bits(params, parent, time_s))
    }

    /// The connected block at a height.
    pub fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.view.hash_at(height)
    }

    /// The ends of all branches, highest first.
    pub fn tips(&self) -> Vec<ChainTip> {
        self.view.tips()
    }

    /// The header with the most work that is not invalid; its blocks may be missing.
    pub fn best_header(&self) -> TipInfo {
        let tree = self.view.tree();
        super::view::tip_info(&tree, tree.best_header())
    }

    /// A block as on the wire; `None` if it is not here. Reads a file: call it where waiting for a disk is right.
    pub fn block(&self, hash: &BlockHash) -> std::io::Result<Option<Vec<u8>>> {
        self.view.block(hash)
    }

    /// Where a transaction is mined on the connected chain. Reads files.
    pub fn find_tx(&self, txid: &TxId) -> std::io::Result<Option<MinedTx>> {
        self.view.find_tx(txid)
    }

    /// Hears of every new tip; tips that follow fast may be seen as one.
    pub fn subscribe(&self) -> watch::Receiver<TipInfo> {
        self.tip.clone()
    }

    /// Hands in a block.
    pub async fn submit_block(&self, block: Vec<u8>) -> Result<BlockOutcome, ChainError> {
        self.ask(|answer| Command::SubmitBlock(block, answer)).await
    }

    /// Hands in a header.
    pub async fn submit_header(&self, header: Header) -> Result<HeaderOutcome, ChainError> {
        self.ask(|answer| Command::SubmitHeader(header, answer)).await
    }

    /// Mines `count` blocks that pay to `locking_script`, on regtest. Gives up at `tries_max` nonces in all; then the list is
    /// shorter.
    pub async fn generate(
        &self,
        count: u32,
        locking_script: Vec<u8>,
        tries_max: u64,
    ) -> Result<Vec<BlockHash>, ChainError> {
        let command = |answer| Command::Generate { count, locking_script, tries_max, answer };
        self.ask(command).await
    }

    /// A block to be solved.
    pub async fn candidate(&self, want: Want) -> Result<Candidate, ChainError> {
        self.ask(|answer| Command::Candidate(want, answer)).await
    }

    /// The transactions of a candidate, without the coinbase.
    pub async fn candidate_txs(&self, id: [u8; 16]) -> Result<Vec<TemplateTx>, ChainError> {
        self.ask(|answer| Command::CandidateTxs(id, answer)).await
    }

    /// Hands in a solved candidate.
    pub async fn submit_solution(&self, solution: Solution) -> Result<BlockOutcome, ChainError> {
        self.ask(|answer| Command::SubmitSolution(solution, answer)).await
    }

    /// Treats a block as invalid from now on, also after a restart.
    pub async fn invalidate(&self, hash: BlockHash) -> Result<(), ChainError> {
        self.ask(|answer| Command::Invalidate(hash, answer)).await
    }

    /// Takes that back, for the block, its ancestors and its descendants.
    pub async fn reconsider(&self, hash: BlockHash) -> Result<(), ChainError> {
        self.ask(|answer| Command::Reconsider(hash, answer)).await
    }

    /// An unspent coin. With `include_pool` a spend in the pool counts, and so does a coin the pool made.
    pub async fn coin(
        &self,
        outpoint: OutPoint,
        include_pool: bool,
    ) -> Result<Option<CoinInfo>, ChainError> {
        self.ask(|answer| Command::Coin { outpoint, include_pool, answer }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, ChainError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.commands.send(command(answer)).await;
        sent.map_err(|_| ChainError::Stopping)?;
        answered.await.map_err(|_| ChainError::Stopping)?
    }
}
