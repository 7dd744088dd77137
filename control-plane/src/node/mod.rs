//! A booted data plane and the thread that tells it about the chain.
//!
//! [`Node::boot`] takes the topology from memory to running cores (`boot`). After that this thread is the chain state: it asks
//! pack for a candidate, tells the shards what is mined, pack what is taken and the validators what the pool is judged against
//! (`admin`, `blocks`), over links that nobody else has an end of (`links`). Every answer is waited for with a deadline, so
//! that a tile that does not answer is an error with its name, not silence.

mod admin;
mod blocks;
mod boot;
mod engine;
mod links;
mod recovered;
#[cfg(test)]
mod tests;

pub use boot::NodeOptions;
pub(crate) use links::{EpochEnds, publish_now};
pub use links::{RelayEnds, SubmitEnds};
pub(crate) use recovered::JOURNALS;

use crate::counters::Counters;
use crate::epochs::{EpochThread, Journals, NotKept};
use crate::mine::Tip;
use crate::room::Room;
use crate::service::CountersReader;
use crate::store::Pool;
use consensus::hash::TxId;
use consensus::params::ChainParams;
use consensus::tx::OutPoint;
use dataplane::driver::{CrewError, StartError};
use dataplane::msg::IngestHeader;
use dataplane::msg::pack_control::PackRefusal;
use dataplane::partition::Partition;
use dataplane::time::{Clock, HostClock};
use dataplane::topo::{BuildError, Layout, Monitor, TopologyError};
use links::{Drive, Ends, publish};
use load::Offer;
use load::replay::{Log, Pace, Remote};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longest time a tile may take to answer the control plane.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time a stopping node may take to finish what is in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the node could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The table is not sound.
    #[error("the topology is refused: {0}")]
    Topology(#[from] TopologyError),
    /// A link could not be taken.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A tile was not seated.
    #[error(transparent)]
    Crew(#[from] CrewError),
    /// A thread could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A file could not be used.
    #[error("{doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A tile did not answer.
    #[error("{asked} did not answer within {} s; `metanode topo` shows its links", ANSWER_TIMEOUT.as_secs())]
    NoAnswer {
        /// Who, about what.
        asked: String,
    },
    /// A shard refused an item.
    #[error(
        "shard {shard} refused {refused} of {items} items ({what}); it is full, or does not know them"
    )]
    Refused {
        /// Which.
        shard: usize,
        /// How many.
        refused: u32,
        /// Of how many.
        items: u32,
        /// Of what.
        what: &'static str,
    },
    /// A coin's script is longer than what a shard can tell.
    #[error(
        "the locking script of the coin is {script_bytes} bytes, {script_bytes_max} are the most that a shard can tell of; \
         start the node with more --memory"
    )]
    ScriptTooLong {
        /// Value of the coin.
        value_sat: u64,
        /// Bytes of the script.
        script_bytes: u64,
        /// The most.
        script_bytes_max: u64,
    },
    /// An accepted transaction is not in the store.
    #[error("transaction {txid} is in the candidate but the store does not have its bytes")]
    NotStored {
        /// Which.
        txid: TxId,
    },
    /// Pack refused a command.
    #[error("pack refused {what}: {why:?}")]
    PackRefused {
        /// Which command.
        what: &'static str,
        /// Its reason.
        why: PackRefusal,
    },
    /// A block this node made is not valid.
    #[error("the node's own block is refused: {}", rejection.reason)]
    OwnBlock {
        /// Why.
        rejection: dataplane::blocks::Rejection,
    },
    /// The folder of journals.
    #[error(transparent)]
    Folder(#[from] utxo_shard::FolderError),
    /// The journals cannot be replayed.
    #[error("{source}{}", way_out(path, source.is_of_its_bytes()))]
    Recover {
        /// Where they are.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: utxo_shard::RecoverError,
    },
    /// Nothing was begun, because it could not be kept.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// A block could be neither connected nor refused.
    #[error(transparent)]
    Block(dataplane::blocks::Trouble),
}

/// What there is to do about journals that cannot be used as they are: never about such on a full disk.
fn way_out(path: &Path, is_of_its_bytes: bool) -> String {
    match is_of_its_bytes {
        true => format!(
            "; or move {} away: coins are then rebuilt from the blocks, the pool is lost",
            path.display()
        ),
        false => String::new(),
    }
}

/// A block this node made.
#[derive(Debug)]
pub struct Mined {
    /// Its height.
    pub height: u32,
    /// Raw bytes.
    pub raw: Vec<u8>,
    /// From asking for the candidate to having its merkle branch, milliseconds.
    pub candidate_ms: f64,
}

/// Sums over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Unspent outputs.
    pub utxos: u64,
    /// Records.
    pub transactions: u64,
    /// Sum of the unspent values.
    pub value_sat: u64,
    /// Coins held by an attempt.
    pub reserved: u64,
    /// Announced and undecided transactions.
    pub announced: u64,
    /// Entries in wait lists and watches.
    pub waiting: u64,
}

/// A coin to import.
#[derive(Clone, Copy, Debug)]
pub struct ImportCoin<'a> {
    /// Where.
    pub outpoint: OutPoint,
    /// Value.
    pub value_sat: u64,
    /// Height of its block.
    pub height: u32,
    /// Whether a coinbase made it.
    pub coinbase: bool,
    /// Its locking script.
    pub locking_script: &'a [u8],
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    drive: Drive,
    clock: HostClock,
    layout: Layout,
    pub(crate) partition: Partition,
    pub(crate) params: ChainParams,
    pub(crate) ends: Ends,
    tip: Tip,
    pool: Option<Pool>,
    remote: Remote,
    kernel: String,
    notes: Vec<String>,
    monitor: Monitor,
    token: u64,
    blocks: engine::Blocks,
    journals: Option<Journals>,
    epochs: Option<EpochThread>,
    room: Room,
    /// What the journals said at the start, until the chain stands on it.
    recovered: Option<recovered::RecoveredChain>,
    _directory: Option<tempfile::TempDir>,
}

impl Node {
    /// What runs, in sentences.
    pub fn describe(&self) -> &[String] {
        &self.notes
    }

    /// The signature kernel in use.
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// Where what turns.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The end of the chain.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// A reading of all counters.
    pub fn counters(&self) -> Counters {
        Counters::read(self.drive.metrics(), self.clock.now())
    }

    /// Reads the counters from any thread.
    pub fn counters_reader(&self) -> CountersReader {
        CountersReader::new(self.drive.metrics().clone(), self.clock.clone())
    }

    /// Shows this node to other processes.
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Accepted transactions that no block has; `None` where they are not kept.
    pub fn pool(&self) -> Option<Pool> {
        self.pool.clone()
    }

    /// Room on the disk.
    pub fn room(&self) -> Room {
        self.room.clone()
    }

    /// What the journals have; `None` where there are none.
    pub fn journals(&self) -> Option<Journals> {
        self.journals.clone()
    }

    /// Starts a replay on the tile of that name (needs [`Ingest::Replay`]).
    pub fn replay(&self, offer: Arc<Offer>, pace: Pace) -> Arc<Log> {
        self.remote.start(offer, pace)
    }

    /// Waits for a replay to be done.
    pub fn wait(&mut self, log: &Log) {
        while !log.is_done() {
            self.drive.rest();
        }
    }

    /// The ends of links to whoever submits transactions; `None` the second time, and without [`crate::topology::Ingest::Control`].
    pub fn take_submit(&mut self) -> Option<SubmitEnds> {
        self.ends.submit.take()
    }

    /// The ends of links to the relay; `None` the second time, and without a relay.
    pub fn take_relay(&mut self) -> Option<RelayEnds> {
        self.ends.relay.take()
    }

    /// Sends one transaction of an open block to its coordinator.
    pub(crate) fn send_block_tx(
        &mut self,
        header: IngestHeader,
        tx: &[u8],
    ) -> Result<(), NodeError> {
        let mut frag = vec![0; IngestHeader::LEN];
        header.write(&mut frag);
        frag.extend_from_slice(tx);
        let validator = usize::from(self.partition.validator_of_bytes(tx));
        let sig = u64::from(header.block);
        publish(&mut self.drive, &mut self.ends.block_validate[validator], sig, &frag)
    }

    pub(crate) fn tell_validators(
        &mut self,
        message: &dataplane::msg::control::ValidateControl,
    ) -> Result<(), NodeError> {
        let bytes = message.encode();
        for out in &mut self.ends.control_validate {
            publish(&mut self.drive, out, 0, &bytes)?;
        }
        Ok(())
    }

    /// Finishes what is in flight and halts.
    pub fn shutdown(mut self) -> Result<(), NodeError> {
        if let Some(epochs) = self.epochs.take() {
            epochs.flush();
        }
        let trouble = self.journals.as_ref().and_then(Journals::trouble);
        match std::mem::replace(&mut self.drive, Drive::Stopped) {
            Drive::Threads(running) => match running.stop(STOP_TIMEOUT).drained {
                true => Ok(()),
                // What waits for the disk waits for good.
                false if trouble.is_some() => Ok(()),
                false => Err(NodeError::NoAnswer { asked: "the machine, asked to stop,".into() }),
            },
            Drive::Waiter { .. } | Drive::Stopped => Ok(()),
        }
    }
}
