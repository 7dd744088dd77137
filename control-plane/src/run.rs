//! `metanode run`: a node, from a locked data directory to listeners, and back down within two seconds.
//!
//! In: the configuration. Out: a running node. The order is that of what can go wrong: settings, directory, ports, memory, then the data
//! plane, the chain, the interfaces; `node.json` in the network's folder appears when all of them serve. SIGINT and SIGTERM end it in the
//! reverse order; a second one ends the process at once. SIGHUP reads `log.level` again.

use crate::config::{self, Config, Flags, Loaded};
use crate::datadir::{DataDir, DataDirError};
use crate::logs::Logs;
use crate::memory::{self, Division, MemoryError};
use crate::node::{Node, NodeError, NodeOptions};
use crate::topology::Ingest;
use crate::{hw, signals, top};
use clap::Args;
use consensus::params::ChainParams;
use consensus::rules::FeeRate;
use dataplane::topo::{Layout, Monitor};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Threads of the interfaces. They sleep when nobody calls.
const API_THREADS: usize = 2;
/// How old the links' counters are that `metanode top` shows.
const MONITOR_EVERY: Duration = Duration::from_millis(200);

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
    /// The memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
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
    let system = |doing| move |source| RunError::System { doing, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(API_THREADS)
        .thread_name("api")
        .enable_all()
        .build()
        .map_err(system("starting the threads of the interfaces"))?;
    let placed = placed(config)?;
    let cores = placed.as_ref().map_or_else(|| config::cores(config), |p| p.cores.len());
    let layout = Layout::for_cores(cores);
    let division = memory::division(config, &layout)?;
    for line in division.to_string().lines() {
        tracing::info!("{line}");
    }
    let node = Node::boot(options(config, &data, &division, cores, placed.as_ref())?)?;
    for line in node.describe() {
        tracing::info!("{line}");
    }
    let monitor = node.monitor();
    data.write(top::LAYOUT_FILE, &serde_json::to_value(monitor.layout()).unwrap_or_default())?;
    runtime.spawn(publish(monitor));
    data.announce(&json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "network": config.node.network.name(),
    }))?;
    runtime.spawn_blocking(move || {
        advise(&placed.map_or_else(|| hw::demand_here(cores), |placed| placed.demand));
    });
    tracing::info!(started_ms = began.elapsed().as_millis() as u64, "ready");
    let wait = wait_for_the_end(flags, logs, &stopped);
    runtime.block_on(wait).map_err(system("listening for signals"))?;
    let began = Instant::now();
    tracing::info!("stopping");
    data.withdraw();
    node.shutdown()?;
    tracing::info!(stopped_ms = began.elapsed().as_millis() as u64, "stopped");
    Ok(())
}

/// Copies the links' counters to where `metanode top` reads them, as long as the runtime lives.
async fn publish(monitor: Monitor) {
    let mut tick = tokio::time::interval(MONITOR_EVERY);
    loop {
        tick.tick().await;
        monitor.publish();
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
    options.metrics_file = Some(data.path().join(top::WORDS_FILE));
    options.arenas = division.arenas;
    options.bounds = division.bounds;
    options.pack_transactions_max = division.pooled_max;
    options.shard_transactions_max = division.shard_transactions_max;
    options.shard_slab_bytes = division.shard_slab_bytes;
    options.policy.fee_min = FeeRate { sat_per_kb: config.policy.fee_min_sat_per_kb };
    options.policy.tx_bytes_max = config.policy.tx_bytes_max.0.min(division.arenas.tx_bytes);
    options.bounds.orphan_age_max_ns = config.policy.orphan_age_max.as_nanos() as u64;
    Ok(options)
}

/// Until SIGINT or SIGTERM; SIGHUP on the way reads the log's levels again.
async fn wait_for_the_end(
    flags: &Flags,
    logs: &Logs,
    stopped: &Arc<AtomicBool>,
) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // One may have come while the node was starting.
    while !stopped.load(Ordering::Relaxed) {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => reread(flags, logs),
        }
    }
    Ok(())
}

/// Reads the layers again and takes the log's levels from them. A mistake changes nothing.
fn reread(flags: &Flags, logs: &Logs) {
    match config::load(flags) {
        Ok(loaded) => match logs.set(&loaded.config.log.level) {
            Ok(()) => tracing::info!(
                level = config::value::Value::show(&loaded.config.log.level),
                "log levels were read again; other settings need a restart"
            ),
            Err(why) => tracing::error!("the log's levels cannot be changed: {why}"),
        },
        Err(errors) => tracing::error!("the configuration is refused, nothing changes: {errors}"),
    }
}
