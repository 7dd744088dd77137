//! From a directory to a chain: the files are read, the tree is grown, and the coins are brought to its best end.
//!
//! In: the data directory and an engine at genesis, or at the end that its journals remember. Out: the handle and the thread's state. Reading the files is quick and happens
//! before anybody holds a handle; connecting is not, and is the first thing the thread does, so that interfaces can say how far it
//! is. Marks of invalid blocks come back from the files, so an operator's word holds over restarts.

use super::candidates::Candidates;
use super::files::{ChainFiles, Contents, FilesError, HeaderRecord};
use super::handle::{Chain, ChainError};
use super::state::State;
use super::thread::ChainThread;
use super::tree::Tree;
use super::tx_index::TxIndex;
use super::view::View;
use crate::engine::Engine;
use crate::service::{NodeClock, Stop};
use crate::store::Pool;
use consensus::params::ChainParams;
use std::path::PathBuf;
use std::sync::Arc;

/// What a chain is opened with.
#[derive(Clone, Debug)]
pub struct ChainOptions {
    /// The network's data directory; the chain lives in `chain/` there.
    pub directory: PathBuf,
    /// The network.
    pub params: Arc<ChainParams>,
    /// What time it is.
    pub clock: NodeClock,
    /// Ends the thread.
    pub stop: Stop,
    /// Told what is mined and what came back.
    pub pool: Pool,
    /// Largest block that is taken; 0 for no limit.
    pub block_bytes_max: u64,
}

/// Opens the chain in a directory. The coins are rebuilt once [`ChainThread::spawn`] is called.
pub fn open<E: Engine>(
    options: ChainOptions,
    engine: E,
) -> Result<(Chain, ChainThread<E>), ChainError> {
    let ChainOptions { directory, params, clock, stop, pool, block_bytes_max } = options;
    let mut log = |line: String| tracing::warn!("{line}");
    let (mut files, contents) = ChainFiles::open(&directory, &params, &mut log)?;
    let index = TxIndex::create(&directory).map_err(|source| {
        let path = directory.join("chain").join("index");
        FilesError::Io { doing: "creating", path, source }
    })?;
    let mut tree = Tree::new(&params);
    grow(&mut tree, &mut files, &contents)?;
    tracing::info!(
        headers = tree.len() as u64,
        blocks = contents.blocks.len() as u64,
        "chain files are open"
    );
    let view = View::new(tree, files.blocks.reader(), index, params.genesis_block());
    let view = Arc::new(view);
    let (chain, inbox, announce) = Chain::new(view.clone());
    let candidates = Candidates::default();
    let state = State {
        params,
        clock,
        engine,
        view,
        files,
        pool,
        announce,
        candidates,
        block_bytes_max,
        stop,
    };
    Ok((chain, ChainThread::new(state, inbox)))
}

/// Puts everything the files hold into the tree, in the order it came.
fn grow(tree: &mut Tree, files: &mut ChainFiles, contents: &Contents) -> Result<(), ChainError> {
    for record in &contents.records {
        match record {
            HeaderRecord::Header(header) => {
                if tree.find(&header.hash()).is_none() && tree.find(&header.prev).is_some() {
                    tree.insert(*header);
                }
            }
            HeaderRecord::Failed(hash) => {
                if let Some(id) = tree.find(hash) {
                    tree.fail(id);
                }
            }
            HeaderRecord::Cleared(hash) => {
                if let Some(id) = tree.find(hash) {
                    tree.unmark(id);
                }
            }
            HeaderRecord::Connected(hash) => {
                if let Some(id) = tree.find(hash) {
                    tree.was_connected(id);
                }
            }
        }
    }
    for block in &contents.blocks {
        let hash = block.header.hash();
        let id = match tree.find(&hash) {
            Some(id) => id,
            None if tree.find(&block.header.prev).is_some() => {
                // A crash took the header's record and left the block's.
                files.headers.append(HeaderRecord::Header(block.header))?;
                tree.insert(block.header)
            }
            None => {
                tracing::warn!(
                    "block {hash} is in the files, but no header before it; passed over"
                );
                continue;
            }
        };
        tree.stored(id, block.place, block.tx_count);
    }
    files.headers.sync()?;
    Ok(())
}
