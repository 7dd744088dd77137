//! `metanode run`: a node, from a locked data directory to listeners, and back down within two seconds.
//!
//! In: the configuration. Out: a running node. The order is that of what can go wrong: settings, directory, ports, memory, then the data
//! plane, the chain, the interfaces; `node.json` in the network's folder appears when all of them serve. SIGINT and SIGTERM end it in the
//! reverse order; a second one ends the process at once. SIGHUP reads `log.level` and `bfr.peers` again.

use crate::chain::{self, ChainError, ChainOptions, Ended};
use crate::config::{self, Config, Flags, Loaded};
use crate::datadir::{DataDir, DataDirError, LinkDir};
use crate::epochs::NotKept;
use crate::http::ops::Readiness;
use crate::http::submit::StatedPolicy;
use crate::interfaces::{Bound, InterfaceError};
use crate::logs::Logs;
use crate::memory::{self, Division, MemoryError};
use crate::node::{Node, NodeError, NodeOptions};
use crate::relay::{self, NodeRelay, Port, SeatError};
use crate::room::{self, Room};
use crate::service::{NodeClock, Service, Stop};
use crate::store::Pool;
use crate::submit::{self, Gate, SubmitLimits};
use crate::topology::Ingest;
use crate::{hw, signals, top};
use clap::Args;
use consensus::params::ChainParams;
use consensus::rules::{ConsolidationPolicy, FeeRate, StandardPolicy};
use dataplane::topo::{Layout, Monitor};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Threads of the interfaces. They sleep when nobody calls.
const API_THREADS: usize = 2;
/// How old the links' counters are that `metanode top` shows.
const MONITOR_EVERY: Duration = Duration::from_millis(200);

/// How soon a ready chain is noticed.
const READY_EVERY: Duration = Duration::from_millis(10);
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);
/// The part that readiness waits for.
const CHAIN: &str = "chain";
/// The parts that fail with the disk.
const JOURNAL: &str = "journal";
const DISK: &str = "disk";

/// Runs a node until it is told to stop
#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    flags: Flags,
}

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The data plane.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The layout.
    #[error("{0}")]
    Layout(String),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A listener.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// A defect.
    #[error("a thread of the chain panicked; its last words are above")]
    Panic,
    /// The memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The relay.
    #[error(transparent)]
    Relay(#[from] SeatError),
    /// Something of the system.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The command.
pub fn main(args: &RunArgs) -> ExitCode {
    let loaded = match config::load_or_exit("run", &args.flags) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let logs = match Logs::start(&loaded.config.log.level, loaded.config.log.format) {
        Ok(logs) => logs,
        Err(why) => {
            eprintln!("run: the log cannot be started: {why}");
            return ExitCode::FAILURE;
        }
    };
    match run(&args.flags, &loaded, &logs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags, loaded: &Loaded, logs: &Logs) -> Result<(), RunError> {
    let began = Instant::now();
    let stopped = signals::interrupted();
    let config = &loaded.config;
    for note in &loaded.notes {
        tracing::info!("{note}");
    }
    let data = DataDir::open(&config.node.data_dir, config.node.network)?;
    tracing::info!(
        network = config.node.network.name(),
        directory = %data.path().display(),
        pid = std::process::id(),
        "metanode {} starts",
        env!("CARGO_PKG_VERSION")
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(API_THREADS)
        .thread_name("api")
        .enable_all()
        .build()
        .map_err(system("starting the threads of the interfaces"))?;
    let _inside = runtime.enter();
    let ports = Bound::take(config)?;
    let port = Port::take(&config.bfr, &config.node.data_dir)?;
    let placed = placed(config)?;
    let cores = placed.as_ref().map_or_else(|| config::cores(config), |p| p.cores.len());
    let division = memory::division(config, &Layout::for_cores(cores))?;
    for line in division.to_string().lines() {
        tracing::info!("{line}");
    }
    let links = config.node.map_links.then(|| LinkDir::create(config, data.path())).transpose()?;
    let mut up = Up::boot(config, &data, &division, cores, placed.as_ref(), links.as_ref(), port)?;
    let readiness = Readiness::new();
    readiness.block(CHAIN, up.way.begins());
    let cookie = config.rpc.cookie_file.clone();
    let cookie = cookie.unwrap_or_else(|| data.path().join(crate::rpc::auth::COOKIE_FILE));
    let serving =
        ports.serve(config, &division, &cookie, up.policy, &up.service, readiness.clone());
    let serving = match serving {
        Ok(serving) => serving,
        Err(error) => {
            up.down()?;
            return Err(error.into());
        }
    };
    let mut told = json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "network": config.node.network.name(),
        "listen": serving.addresses,
        "cookie_file": serving.cookie_file,
        "bfr_public_key": up.service.relay.as_ref().map(NodeRelay::public_key),
        "link_dir": links.as_ref().map(LinkDir::path),
        "ready": false,
    });
    let layout = serde_json::to_value(up.monitor.layout()).unwrap_or_default();
    data.write(top::LAYOUT_FILE, &layout)?;
    data.announce(&told)?;
    runtime.spawn(publish(up.monitor.clone()));
    if let Some(journals) = &up.service.journals {
        runtime.spawn(tell_health(JOURNAL, journals.health(), readiness.clone()));
    }
    runtime.spawn(tell_health(DISK, up.service.room.changes(), readiness.clone()));
    runtime.spawn(look_after(up.service.room.clone(), up.service.pool.clone()));
    tracing::info!(
        submit = %told["listen"]["submit"].as_str().unwrap_or_default(),
        rpc = %told["listen"]["rpc"].as_str().unwrap_or_default(),
        ops = %told["listen"]["ops"].as_str().unwrap_or_default(),
        "listening"
    );
    if let Some(relay) = &up.service.relay {
        let ((backend, mode), peers) = (relay.mode(), config.bfr.peers.0.len());
        let (listen, public_key) = (relay.listen(), relay.public_key());
        tracing::info!(%listen, backend, mode, public_key, peers, "relaying");
    }
    runtime.spawn_blocking(move || {
        advise(&placed.map_or_else(|| hw::demand_here(cores), |placed| placed.demand));
    });
    runtime
        .block_on(async {
            tokio::select! {
                () = until_ready(&up.service, up.way, &readiness) => {
                    told["ready"] = true.into();
                    if let Err(error) = data.announce(&told) {
                        tracing::error!("{error}");
                    }
                    tracing::info!(started_ms = began.elapsed().as_millis() as u64, "ready");
                    wait_for_the_end(flags, logs, up.service.relay.as_ref(), &stopped, &up.service.stop).await
                }
                ended = wait_for_the_end(flags, logs, up.service.relay.as_ref(), &stopped, &up.service.stop) => ended,
            }
        })
        .map_err(system("listening for signals"))?;
    let began = Instant::now();
    tracing::info!("stopping");
    data.withdraw();
    up.service.stop.request();
    up.gate.close();
    let ended = up.down();
    runtime.block_on(serving.ended());
    ended?;
    tracing::info!(stopped_ms = began.elapsed().as_millis() as u64, "stopped");
    Ok(())
}

/// What was tried, for errors of the system.
fn system(doing: &'static str) -> impl Fn(std::io::Error) -> RunError {
    move |source| RunError::System { doing, source }
}

/// Where the coins come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Every block is connected again.
    Blocks,
    /// The journals had them, as of this height; only the index of transactions is made from the blocks.
    Journals {
        /// The height.
        height: u32,
    },
}

impl Way {
    fn begins(self) -> String {
        match self {
            Self::Blocks => "the coins are being rebuilt from the blocks".to_owned(),
            Self::Journals { height } => format!(
                "the coins were read from the journals, as of block {height}; the index of transactions is being filled"
            ),
        }
    }

    fn progress(self, at: u32, of: u32) -> String {
        match self {
            Self::Blocks => {
                format!("the coins are rebuilt from the blocks, up to block {at} of {of}")
            }
            Self::Journals { height } if at < height => format!(
                "the coins were read from the journals, as of block {height}; the index of transactions is filled up to block {at}"
            ),
            Self::Journals { height } => format!(
                "the coins were read from the journals, as of block {height}; the blocks behind it are connected up to block {at} of {of}"
            ),
        }
    }
}

/// The machine behind the listeners.
struct Up {
    service: Service,
    policy: StatedPolicy,
    monitor: Monitor,
    gate: Gate,
    way: Way,
    /// The chain's thread; it owns the data plane.
    chain: Option<std::thread::JoinHandle<Ended<Node>>>,
    /// The thread between relay and chain.
    herald: Option<std::thread::JoinHandle<()>>,
}

impl Up {
    /// Data plane, gate, chain, in this order.
    fn boot(
        config: &Config,
        data: &DataDir,
        division: &Division,
        cores: usize,
        placed: Option<&hwconfig::plan::Layout>,
        links: Option<&LinkDir>,
        port: Option<Port>,
    ) -> Result<Self, RunError> {
        let clock = NodeClock::new();
        let mut options = options(config, data, division, cores, placed, links)?;
        options.clock = clock.clone();
        let policy = StatedPolicy::from(&options.policy);
        let params = Arc::new(options.params.clone());
        let seated = port.zip(division.relay.as_ref());
        let seated = seated.map(|(port, share)| relay::seat(port, &config.bfr, share, &params));
        let (seat, relay) = seated.transpose()?.unzip();
        let mut node = Node::boot_with(options, seat)?;
        for line in node.describe() {
            tracing::info!("{line}");
        }
        let (monitor, counters) = (node.monitor(), node.counters_reader());
        let pool = node.pool().expect("a node that runs keeps its pool");
        let ends =
            node.take_submit().expect("a node that runs takes from outside, and we ask once");
        let limits = SubmitLimits {
            bytes_max: division.bodies_bytes,
            tx_bytes_max: policy.tx_bytes_max,
            ..SubmitLimits::default()
        };
        let (submit, gate) =
            submit::start(ends, limits).map_err(system("starting the gate's thread"))?;
        let (journals, room) = (node.journals(), node.room());
        let way = node.recovered_height().map_or(Way::Blocks, |height| Way::Journals { height });
        submit.heed(room.clone());
        if let Some(journals) = &journals {
            submit.keep_in(journals.clone());
        } else if pool.dropped_bytes() > 0 {
            tracing::info!(
                bytes = pool.dropped_bytes(),
                "the pool of the last run was dropped: transactions that no block has must be sent again"
            );
        }
        let stop = Stop::new();
        let options = ChainOptions {
            directory: data.path().to_owned(),
            params: Arc::clone(&params),
            clock: clock.clone(),
            stop: stop.clone(),
            pool: pool.clone(),
            block_bytes_max: config.chain.block_bytes_max.0,
        };
        let ends = node.take_relay();
        let (chain, thread) = chain::open(options, node)?;
        let thread = thread.spawn().map_err(system("starting the chain's thread"))?;
        let herald = relay.as_ref().zip(ends).map(|(relay, ends)| {
            relay.join(ends, chain.clone(), stop.clone(), config.bfr.peers.0.clone())
        });
        let herald = herald.transpose().map_err(system("starting the herald's thread"))?;
        let service =
            Service { submit, chain, pool, params, clock, stop, counters, journals, relay, room };
        Ok(Self { service, policy, monitor, gate, way, chain: Some(thread), herald })
    }

    /// Ends everything; what was being worked on is finished first.
    fn down(&mut self) -> Result<(), RunError> {
        self.service.stop.request();
        self.gate.close();
        let Some(thread) = self.chain.take() else { return Ok(()) };
        let Ok(Ended { engine, failure }) = thread.join() else { return Err(RunError::Panic) };
        // It waits for the chain's answers, and there are none to come.
        if self.herald.take().is_some_and(|herald| herald.join().is_err()) {
            return Err(RunError::Panic);
        }
        engine.shutdown()?;
        failure.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Until the coins are those of the best chain; says now and then how far it is.
async fn until_ready(service: &Service, way: Way, readiness: &Readiness) {
    let mut said = Instant::now();
    while !service.chain.is_ready() {
        tokio::time::sleep(READY_EVERY).await;
        if said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            let (at, of) = (service.chain.tip().height, service.chain.best_header().height);
            let progress = way.progress(at, of);
            tracing::info!("{progress}");
            readiness.block(CHAIN, progress);
        }
    }
    readiness.clear(CHAIN);
}

/// Copies the links' counters to where `metanode top` reads them, as long as the runtime lives.
async fn publish(monitor: Monitor) {
    let mut tick = tokio::time::interval(MONITOR_EVERY);
    loop {
        tick.tick().await;
        monitor.publish();
    }
}

/// Not ready as long as something cannot be kept.
async fn tell_health(
    part: &'static str,
    mut health: watch::Receiver<Option<NotKept>>,
    readiness: Readiness,
) {
    loop {
        let trouble = health.borrow_and_update().as_ref().map(ToString::to_string);
        match trouble {
            Some(why) => readiness.block(part, why),
            None => readiness.clear(part),
        }
        if health.changed().await.is_err() {
            return;
        }
    }
}

/// Looks at the disk, as long as the runtime lives.
async fn look_after(room: Room, pool: Pool) {
    let mut tick = tokio::time::interval(room::LOOK_EVERY);
    loop {
        tick.tick().await;
        let (room, pool) = (room.clone(), pool.clone());
        // It may write what the disk had no room for.
        if tokio::task::spawn_blocking(move || room.turn(&pool)).await.is_err() {
            return;
        }
    }
}

/// The layout the operator gave; its cores are then the node's.
fn placed(config: &Config) -> Result<Option<hwconfig::plan::Layout>, RunError> {
    let Some(path) = &config.node.layout else { return Ok(None) };
    let layout = hw::read_layout(path).map_err(RunError::Layout)?;
    let cores = config.node.cores.unwrap_or(layout.cores.len());
    if layout.cores.is_empty() || cores != layout.cores.len() {
        let (path, has) = (path.display(), layout.cores.len());
        return Err(RunError::Layout(format!(
            "{path} places {has} cores, --cores says {cores}; leave --cores out"
        )));
    }
    Ok(Some(layout))
}

/// Says what the host costs, once the node is up: the check reads a few hundred files.
fn advise(demand: &hwconfig::demand::Demand) {
    let advice = hw::advice(demand);
    for line in &advice {
        tracing::info!("host: {line}");
    }
    tracing::info!(
        stages = advice.len(),
        "host: checked; `metanode hw apply --dry-run` prints what would be changed"
    );
}

/// What the data plane is told.
fn options(
    config: &Config,
    data: &DataDir,
    division: &Division,
    cores: usize,
    placed: Option<&hwconfig::plan::Layout>,
    links: Option<&LinkDir>,
) -> Result<NodeOptions, RunError> {
    let mut options = NodeOptions::new(ChainParams::of(config.node.network), Ingest::Control);
    // Keys of tables and of the partition: nobody outside may guess them.
    options.seed = getrandom::u64().map_err(|error| RunError::System {
        doing: "asking the system for random bytes",
        source: std::io::Error::other(error.to_string()),
    })?;
    options.cores = Some(cores);
    if let Some(placed) = placed {
        options.cpus = hw::processors(placed).map_err(RunError::Layout)?;
    }
    options.directory = Some(data.path().to_owned());
    options.link_directory = links.map(|links| links.path().to_owned());
    options.metrics_file = Some(data.path().join(top::WORDS_FILE));
    options.arenas = division.arenas;
    options.bounds = division.bounds;
    options.pack_transactions_max = division.pooled_max;
    options.shard_transactions_max = division.shard_transactions_max;
    options.shard_slab_bytes = division.shard_slab_bytes;
    options.populate = config.node.populate;
    options.durability = config.node.durability;
    options.epoch_period = config.node.epoch_period;
    options.journal_bytes = config.node.journal_bytes.0;
    options.policy.fee_min = FeeRate { sat_per_kb: config.policy.fee_min_sat_per_kb };
    options.policy.consolidation = ConsolidationPolicy {
        factor: config.policy.consolidation_factor,
        confirmations_min: config.policy.consolidation_confirmations_min,
        unlocking_bytes_max: config.policy.consolidation_script_bytes_max.0,
        non_standard_inputs: config.policy.consolidation_non_standard,
    };
    options.policy.tx_bytes_max = config.policy.tx_bytes_max.0.min(division.arenas.tx_bytes);
    let tx_bytes_max = options.policy.tx_bytes_max;
    let standard = StandardPolicy { tx_bytes_max, ..StandardPolicy::default() };
    options.policy.standard = options.params.requires_standard.then_some(standard);
    options.bounds.orphan_age_max_ns = config.policy.orphan_age_max.as_nanos() as u64;
    Ok(options)
}

/// Until SIGINT, SIGTERM or somebody's request; SIGHUP on the way reads the log's levels and the relay's peers again.
async fn wait_for_the_end(
    flags: &Flags,
    logs: &Logs,
    relay: Option<&NodeRelay>,
    stopped: &Arc<AtomicBool>,
    stop: &Stop,
) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // One may have come while the node was starting.
    while !stopped.load(Ordering::Relaxed) {
        tokio::select! {
            () = stop.requested() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => reread(flags, logs, relay),
        }
    }
    Ok(())
}

/// Reads the layers again and takes the log's levels and the relay's peers from them. A mistake changes nothing.
fn reread(flags: &Flags, logs: &Logs, relay: Option<&NodeRelay>) {
    let loaded = match config::load(flags) {
        Ok(loaded) => loaded,
        Err(errors) => {
            return tracing::error!("the configuration is refused, nothing changes: {errors}");
        }
    };
    match logs.set(&loaded.config.log.level) {
        Ok(()) => tracing::info!(
            level = config::value::Value::show(&loaded.config.log.level),
            "log levels were read again; other settings need a restart"
        ),
        Err(why) => tracing::error!("the log's levels cannot be changed: {why}"),
    }
    let peers = loaded.config.bfr.peers.0;
    match relay {
        Some(relay) => {
            tracing::info!(peers = peers.len(), "the relay's peers were read again");
            relay.set_peers(peers);
        }
        None if peers.is_empty() => {}
        None => tracing::warn!(
            "bfr.peers names somebody now; the relay's tiles are seated at the next start"
        ),
    }
}
