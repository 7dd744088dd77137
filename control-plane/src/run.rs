//! `metanode run`: a node, from a locked data directory to listeners, and back down within two seconds.
//!
//! In: the configuration. Out: a running node. The order is that of what can go wrong: settings, directory, ports, memory, then the data
//! plane, the chain, the interfaces; `node.json` in the network's folder appears when all of them serve. SIGINT and SIGTERM end it in the
//! reverse order; a second one ends the process at once. SIGHUP reads `log.level` again.

use crate::config::{self, Config, Flags, Loaded};
use crate::datadir::{DataDir, DataDirError};
use crate::logs::Logs;
use crate::node::{Node, NodeError, NodeOptions};
use crate::signals;
use crate::topology::Ingest;
use clap::Args;
use consensus::params::ChainParams;
use consensus::rules::FeeRate;
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

/// Threads of the interfaces. They sleep when nobody calls.
const API_THREADS: usize = 2;

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
    let node = Node::boot(options(config, &data))?;
    for line in node.describe() {
        tracing::info!("{line}");
    }
    data.announce(&json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "network": config.node.network.name(),
    }))?;
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

/// What the data plane is told.
fn options(config: &Config, data: &DataDir) -> NodeOptions {
    let mut options = NodeOptions::new(ChainParams::of(config.node.network), Ingest::Control);
    options.cores = config.node.cores;
    options.directory = Some(data.path().to_owned());
    options.policy.fee_min = FeeRate { sat_per_kb: config.policy.fee_min_sat_per_kb };
    options.policy.tx_bytes_max = config.policy.tx_bytes_max.0;
    options.bounds.orphan_age_max_ns = config.policy.orphan_age_max.as_nanos() as u64;
    options
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
