//! From options to running cores: memory, tiles, threads, and the ends that stay here.

use super::engine::Blocks;
use super::links::{Drive, take_ends};
use super::recovered::{KeptShards, open_journals};
use super::{Node, NodeError};
use crate::config::value::Durability;
use crate::engine::ChainEnd;
use crate::mine::Tip;
use crate::relay::RelaySeat;
use crate::room::Room;
use crate::service::NodeClock;
use crate::store::{Pool, StoreTile};
use crate::topology::{self, Ingest, Shape};
use consensus::params::ChainParams;
use dataplane::blocks::Conductor;
use dataplane::driver::{Crew, spin};
use dataplane::long::Long;
use dataplane::pack::{PackConfig, PackTile};
use dataplane::partition::Partition;
use dataplane::rng::Rng;
use dataplane::time::HostClock;
use dataplane::topo::{BuildOptions, Layout};
use dataplane::validate::{Links, Validate};
use load::replay::{Remote, Replay};
use relay::tile::{Bfr, BfrConfig, Net};
use std::path::PathBuf;
use std::time::Duration;
use utxo_shard::{Limits, ShardTile};

/// Transactions a replay has out at one validator: enough to keep it busy, and no more than the orphan pool holds of one source
/// if another validator falls behind with all the parents.
const REPLAY_WINDOW: u64 = 1_024;
/// How long new transactions wait in a short subtree before it is released as it is.
const RELEASE_SHORT_AFTER_NS: u64 = 1_000_000_000;
const BOOT_SALT: u64 = 0x62_6f_6f_74;
/// Transactions of peer `p` have the source `RELAY_SOURCE + p`; who submits has smaller numbers.
const RELAY_SOURCE: u32 = 1 << 16;

/// How a node is booted.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The chain.
    pub params: ChainParams,
    /// Who sends transactions.
    pub ingest: Ingest,
    /// Cores for tiles; `None`: what this process may use.
    pub cores: Option<usize>,
    /// Where random choices of tiles come from.
    pub seed: u64,
    /// Where the node keeps its files; `None`: a temporary directory that goes with it.
    pub directory: Option<PathBuf>,
    /// Bounds of each validator.
    pub bounds: dataplane::validate::Bounds,
    /// What the operator accepts.
    pub policy: dataplane::validate::Policy,
    /// Who verifies signatures; `None`: the fastest kernel of this machine.
    pub verifier: Option<sigbatch::Backend>,
    /// What time it is.
    pub clock: NodeClock,
    /// Whether accepted transactions are kept for blocks (a pipeline benchmark does without).
    pub store: bool,
    /// Processors of the cores of the layout, in its order; empty: chosen among those this process may use.
    pub cpus: Vec<usize>,
    /// Bytes of the links' arenas.
    pub arenas: topology::Arenas,
    /// A directory for one file a link, which other processes may look at, best on a tmpfs; `None`: memory of this process.
    pub link_directory: Option<PathBuf>,
    /// A file for the counters, which other processes may look at.
    pub metrics_file: Option<PathBuf>,
    /// Most transactions a shard holds.
    pub shard_transactions_max: usize,
    /// Bytes of a shard's slabs (committed as used).
    pub shard_slab_bytes: usize,
    /// Whether the shards' memory is committed before the first request.
    pub populate: bool,
    /// Most transactions pack holds.
    pub pack_transactions_max: usize,
    /// What outlives a crash. Needs threads.
    pub durability: Durability,
    /// Least time between two epochs that nobody waits for.
    pub epoch_period: Duration,
    /// Bytes of a shard's journal after which it takes a checkpoint.
    pub journal_bytes: u64,
    /// Whether cores are threads. Otherwise the thread that waits turns every tile: one after the other, the same every time.
    pub threads: bool,
}

impl NodeOptions {
    /// A node for `params` on all cores, in a temporary directory.
    pub fn new(params: ChainParams, ingest: Ingest) -> Self {
        Self {
            params,
            ingest,
            cores: None,
            seed: 0,
            directory: None,
            bounds: dataplane::validate::Bounds::default(),
            policy: dataplane::validate::Policy::default(),
            verifier: None,
            clock: NodeClock::new(),
            store: true,
            cpus: Vec::new(),
            arenas: topology::Arenas::default(),
            link_directory: None,
            metrics_file: None,
            shard_transactions_max: 1 << 22,
            shard_slab_bytes: 4 << 30,
            populate: false,
            pack_transactions_max: 1 << 21,
            durability: Durability::None,
            epoch_period: Duration::from_millis(5),
            journal_bytes: Limits::default().checkpoint_bytes,
            threads: true,
        }
    }
}

impl Node {
    /// Boots everything; when this returns, every core goes round and the validators know the tip.
    pub fn boot(options: NodeOptions) -> Result<Self, NodeError> {
        Self::boot_with(options, None)
    }

    /// The same with a relay.
    pub fn boot_with(options: NodeOptions, relay: Option<RelaySeat>) -> Result<Self, NodeError> {
        let cores = options.cores.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });
        let layout = Layout::for_cores(cores);
        let durable = options.durability != Durability::None;
        assert!(options.threads || !durable, "whoever waits for a disk does not turn the tiles");
        let (ingest, store) = (options.ingest, options.store);
        let shape = Shape { ingest, store, durable, relay: relay.is_some() };
        let plan = topology::node_with(&layout, shape, options.arenas).plan()?;
        let (temporary, directory) = directory(&options)?;
        let mut rng = Rng::salted(options.seed, BOOT_SALT);
        let mut kept = durable.then(|| open_journals(&options, &directory, &layout)).transpose()?;
        let partition = kept.as_ref().map_or_else(
            || {
                let mut secret = [0; 16];
                rng.fill(&mut secret);
                Partition::new(secret, layout.shard.len() as u16, layout.validate.len() as u16)
            },
            |kept| kept.partition.clone(),
        );
        let build = BuildOptions {
            seed: options.seed,
            directory: options.link_directory.clone(),
            metrics_file: options.metrics_file.clone(),
            ..BuildOptions::default()
        };
        let room = Room::new(&directory);
        let clock = HostClock::start();
        let mut crew = Crew::new(plan.build(&build)?, clock.clone());
        let remote = Remote::default();
        let pool = if options.store {
            let path = directory.clone();
            let fail = |source| NodeError::File { doing: "creating the pool in", path, source };
            let pool = Pool::create(&directory, options.clock.clone()).map_err(fail)?;
            if let Some(kept) = &kept {
                kept.fill(&pool);
            }
            if let Some(relay) = &relay {
                offer(&pool, relay).map_err(|source| NodeError::File {
                    doing: "reading the pool in",
                    path: directory.clone(),
                    source,
                })?;
            }
            Some(pool)
        } else {
            None
        };
        let last_words = kept.as_ref().map(KeptShards::last_words).unwrap_or_default();
        let (signatures, hashes) =
            (verifier(options.verifier).kernel(), sigbatch::Hasher::new().kernel());
        seat(&mut crew, &options, &partition, &mut rng, &remote, pool.as_ref(), kept.as_mut())?;
        if let Some(relay) = relay {
            seat_relay(&mut crew, relay, &partition)?;
        }
        let mut ends = take_ends(&mut crew, shape, &partition)?;
        let (loads, machine) = crew.loads()?;
        let mut spin = spin::SpinOptions::for_machine(loads.len());
        if !options.cpus.is_empty() {
            spin.cpus.clone_from(&options.cpus);
        }
        let monitor = machine.monitor();
        let mut notes = vec![format!(
            "{} cores: {} validators, {} shards; links take {:.0} MB",
            layout.cores,
            layout.validate.len(),
            layout.shard.len(),
            plan.link_bytes() as f64 / 1e6
        )];
        for (what, kernel) in [("signatures", &signatures), ("hashes", &hashes)] {
            notes.push(format!("{what}: {} ({})", kernel.name, kernel.why));
        }
        let drive = if options.threads {
            Drive::Threads(spin::start(loads, machine, &clock, &spin)?)
        } else {
            let mut stems: Vec<_> = loads.into_iter().flat_map(|load| load.stems).collect();
            stems.iter_mut().for_each(|stem| stem.boot());
            Drive::Waiter { stems, metrics: machine.metrics().clone() }
        };
        let tip = Tip::genesis(&options.params);
        let end = ChainEnd {
            height: tip.height,
            hash: tip.hash,
            median_time_past: tip.median_time_past(),
        };
        let recovered = kept.as_mut().and_then(KeptShards::take_chain);
        let (mut journals, mut epochs) = (None, None);
        if let (Some(kept), Some(ends)) = (kept, ends.epoch.take()) {
            notes.push(kept.note);
            let (period, epoch) = (options.epoch_period, kept.epoch);
            let (setting, folder) = (options.durability, kept.folder);
            let started = crate::epochs::start(setting, period, ends, folder, last_words, epoch);
            let fail = |source| NodeError::File {
                doing: "starting the thread that closes epochs for",
                path: directory.clone(),
                source,
            };
            let (handle, thread) = started.map_err(fail)?;
            (journals, epochs) = (Some(handle), Some(thread));
        }
        let conductor = Conductor::new(options.params.clone(), partition.clone());
        let blocks = Blocks::new(conductor, end);
        let mut node = Self {
            drive,
            clock,
            layout,
            partition,
            params: options.params,
            ends,
            tip,
            pool,
            remote,
            kernel: format!("{}, {}", signatures.name, hashes.name),
            notes,
            monitor,
            token: 0,
            blocks,
            journals,
            epochs,
            recovered,
            room,
            _directory: temporary,
        };
        node.set_pool()?;
        Ok(node)
    }
}

fn verifier(backend: Option<sigbatch::Backend>) -> sigbatch::Verifier {
    backend.and_then(sigbatch::Verifier::with_backend).unwrap_or_default()
}

fn directory(options: &NodeOptions) -> Result<(Option<tempfile::TempDir>, PathBuf), NodeError> {
    if let Some(path) = &options.directory {
        let fail = |source| NodeError::File { doing: "creating", path: path.clone(), source };
        std::fs::create_dir_all(path).map_err(fail)?;
        return Ok((None, path.clone()));
    }
    let fail = |source| NodeError::File {
        doing: "creating a directory in",
        path: std::env::temp_dir(),
        source,
    };
    let temporary = tempfile::Builder::new().prefix("metanode-").tempdir().map_err(fail)?;
    let path = temporary.path().to_owned();
    Ok((Some(temporary), path))
}

/// What a shard is built with.
pub(super) fn shard_config(
    options: &NodeOptions,
    partition: &Partition,
    shard: u16,
    index_key: (u64, u64),
) -> utxo_shard::ShardConfig {
    let params = options.params.clone();
    utxo_shard::ShardConfig {
        transactions_max: options.shard_transactions_max,
        slab_bytes: options.shard_slab_bytes,
        ..utxo_shard::ShardConfig::small(shard, partition.clone(), index_key, params)
    }
}

/// What the pool holds at the start may fill up blocks of peers.
fn offer(pool: &Pool, relay: &RelaySeat) -> std::io::Result<()> {
    for txid in pool.txids() {
        if let Some(tx) = pool.get(&txid)? {
            relay.txs.accepted(&txid, &tx.raw);
        }
    }
    Ok(())
}

fn seat_relay(
    crew: &mut Crew<HostClock>,
    relay: RelaySeat,
    partition: &Partition,
) -> Result<(), NodeError> {
    let RelaySeat { io, engine, txs, desk } = relay;
    let (mut io, mut engine) = (Some(io), Some(engine));
    let once = "there is one of each tile";
    crew.seat(|wiring| {
        let out = wiring.output("net_bfr").expect("the table of a relay has it");
        Net::new(io.take().expect(once), out, desk.clone())
    })?;
    crew.seat(|wiring| {
        let config = BfrConfig {
            partition: partition.clone(),
            source: RELAY_SOURCE,
            txs: txs.clone(),
            desk: desk.clone(),
        };
        Bfr::new(engine.take().expect(once), config, wiring)
    })?;
    Ok(())
}

fn seat(
    crew: &mut Crew<HostClock>,
    options: &NodeOptions,
    partition: &Partition,
    rng: &mut Rng,
    remote: &Remote,
    pool: Option<&Pool>,
    mut kept: Option<&mut KeptShards>,
) -> Result<(), NodeError> {
    let validate = dataplane::validate::Config {
        partition: partition.clone(),
        params: options.params.clone(),
        bounds: options.bounds,
        policy: options.policy.clone(),
        seed: options.seed,
        verifier: options.verifier,
    };
    crew.seat(|wiring| {
        let links = Links::of(wiring, topology::BATCH_BYTES as usize, topology::TX_BYTES as usize);
        Validate::new(validate.clone(), links)
    })?;
    crew.seat(|wiring| {
        let index = wiring.index();
        let mut tile = if let Some(kept) = kept.as_mut() {
            let (shard, keeper) = kept.take_shard(index);
            ShardTile::with_journal(shard, keeper, wiring)
        } else {
            let index_key = (rng.next_u64(), rng.next_u64());
            ShardTile::new(shard_config(options, partition, index as u16, index_key), wiring)
        };
        if options.populate
            && let Err(error) = tile.shard_mut().populate()
        {
            tracing::warn!(shard = index, %error, "the shard's memory cannot be committed at start; it is as it is used");
        }
        tile
    })?;
    let pack = PackConfig {
        transactions_max: options.pack_transactions_max,
        restored_max: options.pack_transactions_max / 4,
        index_key: (rng.next_u64(), rng.next_u64()),
        release_short_after_ns: RELEASE_SHORT_AFTER_NS,
        durable: options.durability == Durability::Epoch,
        ..PackConfig::new(partition.shards(), (0, 0))
    };
    crew.seat(|_| {
        let mut tile = PackTile::new(pack.clone());
        if let Some(kept) = &kept {
            tile.begin_with(&kept.published, kept.leaves());
        }
        tile
    })?;
    crew.seat(|wiring| Long::new(&validate, wiring))?;
    if options.ingest == Ingest::Replay {
        crew.seat(|_| Replay::new(remote.clone(), partition.clone(), REPLAY_WINDOW))?;
    }
    crew.seat(|wiring| StoreTile::new(pool.cloned(), wiring))?;
    Ok(())
}
