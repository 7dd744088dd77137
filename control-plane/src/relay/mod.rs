//! `metanode relay`: a relay of its own, and what speaks to it.
//!
//! In: [`settings`] (a TOML file, `METANODE_BFR_*`) and a key file. Out: a process that carries objects between configured peers, writes what
//! it receives into its inbox and answers on a control connection. `relay run` is the process, `relay keygen` draws its key, `relay send`,
//! `relay watch`, `relay status` and `relay reload` speak with it over [`control`].
//!
//! Inside a node the same engine is a tile: [`seat`] makes it from the node's settings, [`headers`] tells it about the chain, [`herald`]
//! carries blocks between them. `relay status --node` asks a node.
//!
//! Threads of a relay of its own: one turns the relay ([`host`]), one writes files ([`inbox`]), one serves connections. SIGHUP and `relay reload` read the peers
//! again; links of peers that stay are not touched. SIGINT and SIGTERM end it: peers are told, files are whole.

mod client;
mod control;
mod headers;
mod herald;
mod host;
mod inbox;
pub mod keys;
mod metrics;
mod seat;
pub mod settings;
mod status;
mod watch;

pub use headers::{ChainCell, ChainHeaders};
pub use herald::{CATCH_UP_BLOCKS, HeraldCount, HeraldCounts};
pub use seat::{NodeRelay, Port, RelaySeat, SeatError, seat};

use crate::datadir::{DataDir, DataDirError};
use crate::logs::Logs;
use crate::rpc::auth::{Auth, AuthError};
use crate::service::Stop;
use crate::{config, http, signals};
use clap::{Args, Subcommand};
use client::Client;
use control::Control;
use host::Host;
use inbox::{Inbox, InboxLimits};
use relay::Class;
use relay::link::Keys;
use relay::node::Relay;
use relay::origin::OriginKeys;
use serde_json::{Value, json};
use settings::RelaySettings;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Carries objects between peers: its own process, its keys, what speaks with it
#[derive(Args, Debug)]
pub struct RelayArgs {
    #[command(subcommand)]
    command: RelayCommand,
}

#[derive(Subcommand, Debug)]
enum RelayCommand {
    /// Runs a relay until it is told to stop
    Run {
        #[command(flatten)]
        file: File,
    },
    /// Draws a key, writes its secret to a file (rights 0600) and prints what peers need to know
    Keygen {
        #[command(flatten)]
        file: File,
        /// The file [default: key_file of the settings, or origin_key_file]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// The key that proves who made an object, instead of the relay's own
        #[arg(long)]
        origin: bool,
    },
    /// Hands an object to the running relay, which sends it to all its peers
    Send(SendArgs),
    /// Prints a line for every object that the running relay receives
    Watch(WatchArgs),
    /// What the running relay knows about its peers and objects
    Status {
        #[command(flatten)]
        file: File,
        /// Asks the relay inside the node that runs in this folder (the network's, in its data directory: ~/.metanode/regtest)
        #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
        node: Option<PathBuf>,
        /// One JSON object as the last line of stdout
        #[arg(long)]
        json: bool,
    },
    /// Lets the running relay read its peers again
    Reload {
        #[command(flatten)]
        file: File,
    },
    /// Prints the commented settings file
    Config,
}

/// Which settings.
#[derive(Args, Clone, Debug)]
struct File {
    /// The settings file [env: METANODE_BFR_CONFIG]; `metanode relay config` prints one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct SendArgs {
    #[command(flatten)]
    file: File,
    /// What to send
    object: PathBuf,
    /// header, block, subtree, bundle or opaque
    #[arg(long, default_value = "opaque")]
    class: String,
    /// Waits until every peer that is up has it, and prints after how many milliseconds
    #[arg(long)]
    wait: bool,
    /// Seconds to wait
    #[arg(long, value_name = "S", default_value_t = 30)]
    timeout: u64,
}

#[derive(Args, Debug)]
struct WatchArgs {
    #[command(flatten)]
    file: File,
    /// Only objects of this class
    #[arg(long)]
    class: Option<String>,
    /// Writes each object into this folder, as ID.CLASS, before its line is printed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Ends after so many objects
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Why a relay cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The cookie.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The key.
    #[error("{0}")]
    Key(String),
    /// A port.
    #[error(
        "listening on {address} ({what}): {source}; choose another with `{what}` in the settings"
    )]
    Bind {
        /// Which setting.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
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

fn system(doing: &'static str) -> impl Fn(std::io::Error) -> RelayError {
    move |source| RelayError::System { doing, source }
}

/// The class a word stands for.
fn parse_class(text: &str) -> Result<Class, String> {
    let all = [Class::Header, Class::Block, Class::Subtree, Class::Bundle, Class::Opaque];
    let known = all.into_iter().find(|class| host::class_name(*class) == text);
    known.ok_or_else(|| {
        format!("`{text}` is no class; header, block, subtree, bundle and opaque are")
    })
}

/// The command.
pub fn main(args: &RelayArgs) -> ExitCode {
    let (name, done) = match &args.command {
        RelayCommand::Run { file } => return run_main(file),
        RelayCommand::Keygen { file, out, origin } => {
            ("keygen", keygen(file, out.as_deref(), *origin))
        }
        RelayCommand::Send(args) => ("send", send(args)),
        RelayCommand::Watch(args) => ("watch", watch(args)),
        RelayCommand::Status { file, node, json } => {
            ("status", status(file, node.as_deref(), *json))
        }
        RelayCommand::Reload { file } => ("reload", reload(file)),
        RelayCommand::Config => {
            print(&settings::manual());
            return ExitCode::SUCCESS;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Settings(why)) => {
            eprintln!("relay {name}: {why}");
            ExitCode::from(config::EXIT_CONFIG)
        }
        Err(Failed::Other(why)) => {
            eprintln!("relay {name}: {why}");
            ExitCode::FAILURE
        }
    }
}

/// How a command fails.
enum Failed {
    /// Its settings are refused.
    Settings(String),
    /// Anything else.
    Other(String),
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl From<settings::SettingsErrors> for Failed {
    fn from(errors: settings::SettingsErrors) -> Self {
        Self::Settings(errors.to_string())
    }
}

fn print(text: &str) {
    // A reader that went away has no use for the rest.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn keygen(file: &File, out: Option<&Path>, origin: bool) -> Result<(), Failed> {
    let path = if let Some(path) = out {
        path.to_owned()
    } else {
        let settings = RelaySettings::load(file.config.as_deref())?;
        if origin { settings.new_origin_key_file() } else { settings.key_file() }
    };
    let secret = keys::write_new(&path)?;
    let public = match origin {
        true => OriginKeys::new(Some(&secret), &[])
            .ok()
            .and_then(|keys| keys.public())
            .ok_or_else(|| "the key that was drawn is none".to_owned())?,
        false => *Keys::from_secret(secret).public(),
    };
    eprintln!("relay keygen: the secret is in {}; peers need the line below", path.display());
    print(&format!("{}\n", hex::encode(public)));
    Ok(())
}

fn watch(args: &WatchArgs) -> Result<(), Failed> {
    let class = args.class.as_deref().map(parse_class).transpose()?;
    let settings = RelaySettings::load(args.file.config.as_deref())?;
    if let Some(folder) = &args.out {
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("making {}: {error}", folder.display()))?;
    }
    let mut client = Client::connect(&settings, Duration::from_secs(10))?;
    let request = json!({
        "do": "watch", "auth": client::cookie(&settings)?, "class": class.map(host::class_name),
        "bytes": args.out.is_some(),
    });
    client.say(&request, &[])?;
    client.be_patient()?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let line = client.hear()?;
        if let (Some(object), Some(folder)) = (line["object"].as_object(), &args.out) {
            let bytes = client.take(object["bytes"].as_u64().unwrap_or_default())?;
            let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
            inbox::write_whole(folder, &format!("{}.{}", text("id"), text("class")), &bytes)
                .map_err(|error| format!("writing into {}: {error}", folder.display()))?;
        }
        left -= u64::from(line["object"].is_object());
        print(&format!("{line}\n"));
    }
    Ok(())
}

fn send(args: &SendArgs) -> Result<(), Failed> {
    let class = parse_class(&args.class)?;
    let settings = RelaySettings::load(args.file.config.as_deref())?;
    let object = std::fs::read(&args.object)
        .map_err(|error| format!("reading {}: {error}", args.object.display()))?;
    let patience = Duration::from_secs(args.timeout);
    let mut client = Client::connect(&settings, patience + Duration::from_secs(10))?;
    let wait_ms = args.wait.then_some(args.timeout.saturating_mul(1_000));
    let request = json!({
        "do": "send", "auth": client::cookie(&settings)?, "class": host::class_name(class),
        "bytes": object.len(), "wait_ms": wait_ms,
    });
    client.say(&request, &object)?;
    loop {
        let line = client.hear()?;
        print(&format!("{line}\n"));
        if line["ok"] == true {
            return Ok(());
        }
    }
}

fn status(file: &File, node: Option<&Path>, as_json: bool) -> Result<(), Failed> {
    let status = &if let Some(folder) = node {
        client::status_of_node(folder)?
    } else {
        let settings = RelaySettings::load(file.config.as_deref())?;
        let mut client = Client::connect(&settings, Duration::from_secs(10))?;
        client.say(&json!({ "do": "status" }), &[])?;
        client.hear()?["status"].take()
    };
    if as_json {
        print(&format!("{status}\n"));
        return Ok(());
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    let mut lines = String::new();
    for (key, value) in status.as_object().into_iter().flatten() {
        match value.as_array() {
            None => lines += &format!("{key}: {}\n", text(value)),
            Some(rows) => {
                lines += &format!("{key}: {}\n", rows.len());
                for row in rows.iter().filter_map(Value::as_object) {
                    let cells: Vec<_> =
                        row.iter().map(|(k, v)| format!("{k} {}", text(v))).collect();
                    lines += &format!("  {}\n", cells.join("  "));
                }
            }
        }
    }
    print(&lines);
    Ok(())
}

fn reload(file: &File) -> Result<(), Failed> {
    let settings = RelaySettings::load(file.config.as_deref())?;
    let mut client = Client::connect(&settings, Duration::from_secs(10))?;
    client.say(&json!({ "do": "reload", "auth": client::cookie(&settings)? }), &[])?;
    let answer = client.hear()?;
    print(&format!("{answer}\n"));
    Ok(())
}

fn run_main(file: &File) -> ExitCode {
    let settings = match RelaySettings::load(file.config.as_deref()) {
        Ok(settings) => settings,
        Err(errors) => {
            eprintln!("relay run: {errors}");
            return ExitCode::from(config::EXIT_CONFIG);
        }
    };
    let logs = match Logs::start(&settings.log_level, settings.log_format) {
        Ok(logs) => logs,
        Err(why) => {
            eprintln!("relay run: the log cannot be started: {why}");
            return ExitCode::FAILURE;
        }
    };
    match run(file, &settings, logs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What a relay that runs takes over.
fn configured(settings: &RelaySettings) -> Result<host::Configured, String> {
    Ok(host::Configured {
        peers: settings.peers.clone(),
        origins: settings.origin_keys()?,
        origin_names: settings.origins.iter().map(|origin| origin.name.clone()).collect(),
    })
}

/// Reads the file again and gives the running relay its peers; says what else changed and waits for a restart.
fn reloads(
    file: File,
    before: RelaySettings,
    orders: host::Orders,
    logs: Logs,
) -> Box<control::Reload> {
    Box::new(move || {
        let now =
            RelaySettings::load(file.config.as_deref()).map_err(|errors| errors.to_string())?;
        logs.set(&now.log_level)?;
        let (peers, origins) = (now.peers.len(), now.origins.len());
        if !orders.give(host::Order::Configure(Box::new(configured(&now)?))) {
            return Err("the relay is behind with its orders; try again".into());
        }
        let rest = |settings: &RelaySettings| RelaySettings {
            peers: Vec::new(),
            origins: Vec::new(),
            origin_key_file: None,
            log_level: before.log_level.clone(),
            ..settings.clone()
        };
        let needs_restart = rest(&now) != rest(&before);
        tracing::info!(peers, origins, needs_restart, "the settings were read again");
        Ok(json!({ "peers": peers, "origins": origins, "needs_restart": needs_restart }))
    })
}

fn run(file: &File, settings: &RelaySettings, logs: Logs) -> Result<(), RelayError> {
    let interrupted = signals::interrupted();
    let keys = keys::read(&settings.key_file()).map_err(RelayError::Key)?;
    let public_key = hex::encode(keys.public());
    let configured = configured(settings).map_err(RelayError::Key)?;
    let data = DataDir::at(&settings.data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(system("starting the thread of the control connections"))?;
    let _inside = runtime.enter();
    let bind = |what, address| {
        http::bind(address).map_err(|source| RelayError::Bind { what, address, source })
    };
    let listener = bind("control_listen", settings.control_listen)?;
    let metrics_listener =
        settings.metrics_listen.map(|address| bind("metrics_listen", address)).transpose()?;

    let opened = relay::io::open(settings.backend, &settings.io())
        .map_err(|source| RelayError::Bind { what: "listen", address: settings.listen, source })?;
    for note in &opened.notes {
        tracing::warn!("{note}");
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| RelayError::Key(format!("drawing a seed: {error}")))?;
    let engine = settings.engine(keys, &seed);
    let relay = Relay::new(engine, opened.io);
    let listen = relay.local_addr().map_err(system("asking where packets arrive"))?;
    let caps = relay.caps();
    let limits = InboxLimits {
        bytes_max: settings.inbox_bytes_max.0,
        files_max: u64::from(settings.inbox_files_max),
    };
    let inbox = Inbox::open(&settings.inbox(), limits).map_err(system("opening the inbox"))?;
    let (host, orders) = Host::new(relay, inbox, public_key.clone());
    orders.give(host::Order::Configure(Box::new(configured)));

    let auth = Auth::with_cookie(&settings.cookie_file())?;
    let reload = reloads(file.clone(), settings.clone(), orders.clone(), logs);
    let control = Arc::new(Control::new(orders.clone(), auth, reload, settings.object_bytes_max.0));
    let stop = Stop::new();
    let ended = Arc::new(AtomicBool::new(false));
    let thread = {
        let (stop, ended) = (stop.clone(), ended.clone());
        std::thread::Builder::new().name("relay".into()).spawn(move || {
            let result = host.run(&ended);
            stop.request();
            result
        })
    };
    let thread = thread.map_err(system("starting the relay's thread"))?;
    let address =
        |listener: &tokio::net::TcpListener| listener.local_addr().map(|at| at.to_string()).ok();
    let told = json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "public_key": public_key,
        "listen": {
            "data": listen.to_string(), "control": address(&listener),
            "metrics": metrics_listener.as_ref().and_then(address),
        },
    });
    let server = runtime.spawn(control::serve(listener, control.clone(), stop.clone()));
    let metrics = metrics_listener
        .map(|listener| runtime.spawn(metrics::serve(listener, control.clone(), stop.clone())));
    data.announce(&told)?;
    tracing::info!(
        %listen, control = %told["listen"]["control"].as_str().unwrap_or_default(),
        backend = caps.backend, mode = caps.mode(), public_key, peers = settings.peers.len(),
        "relay is up"
    );
    let waited = runtime.block_on(until_the_end(&interrupted, &stop, &control));
    let began = Instant::now();
    tracing::info!("stopping");
    data.withdraw();
    ended.store(true, Ordering::Release);
    orders.wake();
    let result = thread.join().expect("the relay's thread does not panic: its violations end here");
    stop.request();
    for task in [Some(server), metrics].into_iter().flatten() {
        // It ends because it was asked to.
        let _ = runtime.block_on(task);
    }
    waited.map_err(system("listening for signals"))?;
    result.map_err(system("moving packets"))?;
    tracing::info!(stopped_ms = began.elapsed().as_millis() as u64, "stopped");
    Ok(())
}

/// How often the flag of the signals is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

async fn until_the_end(
    interrupted: &AtomicBool,
    stop: &Stop,
    control: &Control,
) -> std::io::Result<()> {
    let mut hang_ups = signal(SignalKind::hangup())?;
    while !interrupted.load(Ordering::Acquire) {
        tokio::select! {
            _ = hang_ups.recv() => {
                if let Err(why) = (control.reload)() {
                    tracing::error!("the settings stay as they were: {why}");
                }
            }
            () = stop.requested() => break,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    Ok(())
}
