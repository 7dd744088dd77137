//! `metanode load`: signed transactions at a rate, against any node, and what became of each.
//!
//! In: a target, a workload, a rate. Coins are prepared by RPC (regtest) or come with a file of signed transactions. Out: a
//! line a second on stderr, then counts, rates and latencies. It is an open loop: latency counts from the time a transaction
//! was meant to be sent ([`pace`]), whatever the node did to the ones before it. What the generator itself can do is measured
//! against a server that does nothing ([`null`]) in the same run, so that no number is the generator's own.
//!
//! Read in this order: `target` (words and answers), `pace` (when), `drive` (sending), `tally` (counting), `coins`, `null`.

mod coins;
mod connection;
mod drive;
mod null;
mod pace;
pub mod rpc;
mod tally;
mod target;

use clap::Args;
use drive::{Driven, Job, drive};
use load::evidence::Evidence;
use load::{Inject, Kind, Lanes, Offer, Options, Plan, Workload};
use pace::{BATCH_MAX, Rate, Schedule};
use rpc::Rpc;
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tally::{KINDS, Second, Tally, kind_index};
use target::{Protocol, Speech, Target};

/// Transactions of one run: about 10 GB of them.
const TXS_MAX: usize = 20_000_000;
/// Transactions at `--rate max` without `--txs`.
const TXS_DEFAULT: usize = 100_000;
/// Connections of one run.
const CONNECTIONS_MAX: usize = 10_000;
/// How long the generator's own ceiling is measured.
const CEILING: Duration = Duration::from_secs(1);
/// A node that is given more than this share of the ceiling may be waiting for the generator.
const CEILING_SHARE: f64 = 0.5;
/// What is due at the very end of the duration still goes.
const GRACE: Duration = Duration::from_millis(100);

/// Sends signed transactions at a rate to any node and counts what becomes of them
#[derive(Args, Debug)]
pub struct LoadArgs {
    /// Where to: http://HOST:PORT (POST /tx, /txs) or rpc://HOST:PORT (sendrawtransaction, sendrawtransactions)
    #[arg(long, value_name = "URL")]
    target: Target,
    /// Transactions a second, or `max`
    #[arg(long, default_value = "max")]
    rate: Rate,
    /// Seconds
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    duration: f64,
    /// Keep-alive connections, one request at a time on each
    #[arg(long, value_name = "C", default_value_t = 16)]
    connections: usize,
    /// Transactions in one request
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// p2pkh, chain (one for each connection), optrue, data or mixed
    #[arg(long, value_name = "W", default_value = "p2pkh")]
    workload: Workload,
    /// Honest transactions to sign (default: rate times duration; 100,000 at `max`)
    #[arg(long, value_name = "N")]
    txs: Option<usize>,
    /// Faults of each of six kinds between the honest transactions
    #[arg(long, value_name = "N", default_value_t = 0)]
    faults: usize,
    /// Everything is drawn from it
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Distinct keys
    #[arg(long, default_value_t = load::plan::KEYS_DEFAULT)]
    keys: usize,
    /// Where coins are prepared (rpc://HOST:PORT; default: the target, when it is one)
    #[arg(long, value_name = "URL")]
    rpc: Option<Target>,
    /// Credentials: the node's cookie file
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    cookie: Option<PathBuf>,
    /// Credentials: a name
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Credentials: the file that holds the password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Sends these signed transactions instead of a workload: one in hex on each line, parents first
    #[arg(long, value_name = "FILE", conflicts_with_all = ["faults", "save"])]
    file: Option<PathBuf>,
    /// Writes what was signed to a file that --file reads
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Does not measure what the generator alone could send
    #[arg(long)]
    no_ceiling: bool,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Preparing coins failed.
    #[error("preparing coins: {0}")]
    Coins(#[from] coins::CoinsError),
    /// The node's RPC does not answer.
    #[error(transparent)]
    Rpc(#[from] rpc::RpcError),
    /// An argument is out of bounds.
    #[error("--{name} is {got}, expected {expected}")]
    Argument {
        /// Which.
        name: &'static str,
        /// What was given.
        got: String,
        /// What is possible.
        expected: String,
    },
    /// A file cannot be read or written.
    #[error("{path}: {text}")]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        text: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The command.
pub fn main(args: &LoadArgs) -> ExitCode {
    let mut evidence = Evidence::new("metanode-load/1", args.seed);
    let interrupted = crate::signals::interrupted();
    match run(args, &mut evidence, &interrupted) {
        Ok(ok) if args.json => evidence.finish(ok, true),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            evidence.set("error", error.to_string());
            if args.json { evidence.finish(false, true) } else { ExitCode::FAILURE }
        }
    }
}

fn between(name: &'static str, got: usize, max: usize) -> Result<(), LoadError> {
    if (1..=max).contains(&got) {
        return Ok(());
    }
    Err(LoadError::Argument { name, got: got.to_string(), expected: format!("1 to {max}") })
}

fn run(
    args: &LoadArgs,
    evidence: &mut Evidence,
    interrupted: &Arc<AtomicBool>,
) -> Result<bool, LoadError> {
    between("connections", args.connections, CONNECTIONS_MAX)?;
    between("batch", args.batch, BATCH_MAX)?;
    if !(args.duration.is_finite() && args.duration > 0.0) {
        let (got, expected) = (args.duration.to_string(), "a number of seconds".to_owned());
        return Err(LoadError::Argument { name: "duration", got, expected });
    }
    let txs = args.txs.unwrap_or(match args.rate {
        Rate::Max => TXS_DEFAULT,
        // Faults, and parents that come late, take their share of the rate.
        Rate::PerSecond(rate) => {
            ((rate * args.duration).ceil() as usize).saturating_sub(7 * args.faults).max(1)
        }
    });
    between("txs", txs, TXS_MAX)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| LoadError::System { what: "starting the runtime", source })?;
    runtime.block_on(run_on(args, txs, evidence, interrupted))
}

async fn run_on(
    args: &LoadArgs,
    txs: usize,
    evidence: &mut Evidence,
    interrupted: &Arc<AtomicBool>,
) -> Result<bool, LoadError> {
    let credentials = rpc::credentials(
        args.cookie.as_deref(),
        args.user.as_deref(),
        args.password_file.as_deref(),
    )?;
    let at = match (&args.rpc, args.target.protocol) {
        (Some(rpc), _) => Some(rpc),
        (None, Protocol::Rpc) => Some(&args.target),
        (None, Protocol::Http) => None,
    };
    let mut rpc = match at {
        Some(at) => Some(Rpc::new(&at.authority, credentials.as_deref())?),
        None => None,
    };
    let speech = match (args.target.protocol, args.batch) {
        (Protocol::Http, 1) => Speech::HttpOne,
        (Protocol::Http, _) => Speech::HttpMany,
        (Protocol::Rpc, 1) => Speech::RpcOne,
        (Protocol::Rpc, _) => {
            let of_many = match &args.rpc {
                None => rpc.as_mut().expect("an RPC target has a client"),
                Some(_) => &mut Rpc::new(&args.target.authority, credentials.as_deref())?,
            };
            if of_many.knows("sendrawtransactions").await? {
                Speech::RpcMany
            } else {
                Speech::RpcArray
            }
        }
    };
    let offer = Arc::new(match &args.file {
        Some(path) => read_file(path, args.txs)?,
        None => signed(args, txs, rpc.as_mut()).await?,
    });
    if let Some(path) = &args.save {
        save(path, &offer)?;
    }
    let chains = args.file.is_none() && args.workload == Workload::Chain;
    let lanes = Lanes::split(&offer, args.connections, if chains { 1 } else { args.batch });
    let job = Job {
        offer: offer.clone(),
        speech,
        authority: args.target.authority.clone(),
        // Teranode's submit port asks for no name, and would be told a secret.
        authorization: match args.target.protocol {
            Protocol::Http => None,
            Protocol::Rpc => rpc::authorization(credentials.as_deref()),
        },
        duration: Some(Duration::from_secs_f64(args.duration) + GRACE),
    };
    let schedule = Schedule::new(&offer, &lanes, args.batch, args.rate);
    let ceiling = if args.no_ceiling {
        None
    } else {
        ceiling(&job, &Schedule::new(&offer, &lanes, args.batch, Rate::Max), interrupted).await?
    };
    let pool_before = pool_size(rpc.as_mut()).await;
    eprintln!(
        "load: sending {} transactions to {} over {} connections, {} a request",
        offer.len(),
        args.target,
        args.connections,
        args.batch
    );
    let driven = drive(&job, schedule, interrupted, |second, tally| {
        eprintln!("{}", line(second, tally));
    })
    .await;
    let pool_after = pool_size(rpc.as_mut()).await;
    let wrong = wrong(&driven.tally);
    let ok = driven.tally.sums().reconciles() && wrong.is_empty();
    fill(evidence, args, &offer, &driven, ceiling, &wrong);
    evidence.set("speech", speech.path());
    evidence.set("pool", json!({ "before": pool_before, "after": pool_after }));
    let text = text(args, &offer, &driven, ceiling, &wrong);
    // A reader that went away has no use for the rest.
    let _ = if args.json {
        std::io::stderr().write_all(text.as_bytes())
    } else {
        std::io::stdout().write_all(text.as_bytes())
    };
    Ok(ok)
}

/// The coins of `plan` on the regtest node whose RPC is at `authority` (`HOST:PORT`), for callers without a runtime.
pub fn coins_by_rpc(
    authority: &str,
    credentials: &str,
    plan: &Plan,
) -> Result<load::FanOut, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| LoadError::System { what: "starting the runtime", source })?;
    runtime.block_on(async {
        let mut rpc = Rpc::new(authority, Some(credentials))?;
        Ok(coins::prepare(&mut rpc, plan).await?)
    })
}

/// Plans, prepares coins, signs.
async fn signed(args: &LoadArgs, txs: usize, rpc: Option<&mut Rpc>) -> Result<Offer, LoadError> {
    let Some(rpc) = rpc else {
        return Err(LoadError::Argument {
            name: "target",
            got: args.target.to_string(),
            expected: "beside it --rpc rpc://HOST:PORT (coins are prepared there) or --file".into(),
        });
    };
    let plan = Plan::new(Options {
        keys: args.keys.max(1),
        inject: Inject::each(args.faults),
        chains: args.connections,
        ..Options::new(args.workload, txs, args.seed)
    });
    let began = Instant::now();
    let fan_out = coins::prepare(rpc, &plan).await?;
    let coins_s = began.elapsed().as_secs_f64();
    let coins = fan_out.coins.len();
    eprintln!("load: {coins} coins in {} transactions, {coins_s:.1} s", fan_out.txs.len());
    let began = Instant::now();
    let offer = plan.sign(&fan_out.coins);
    eprintln!(
        "load: signed {} transactions ({:.1} MB) in {:.1} s",
        offer.len(),
        offer.size_bytes() as f64 / 1e6,
        began.elapsed().as_secs_f64()
    );
    Ok(offer)
}

fn read_file(path: &Path, txs: Option<usize>) -> Result<Offer, LoadError> {
    let wrong = |text: String| LoadError::File { path: path.to_owned(), text };
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut signed = Vec::new();
    for (number, line) in std::io::BufReader::new(file).lines().enumerate() {
        if signed.len() >= txs.unwrap_or(TXS_MAX) {
            break;
        }
        let line = line.map_err(|error| wrong(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let tx = hex::decode(line.trim())
            .map_err(|error| wrong(format!("line {}: {error}", number + 1)))?;
        signed.push(tx);
    }
    if signed.is_empty() {
        return Err(wrong("no transaction in it; expected one in hex on each line".to_owned()));
    }
    Ok(Offer::presigned(signed))
}

fn save(path: &Path, offer: &Offer) -> Result<(), LoadError> {
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for offered in offer.iter() {
            writeln!(file, "{}", hex::encode(offered.bytes))?;
        }
        file.flush()
    };
    write().map_err(|error| LoadError::File { path: path.to_owned(), text: error.to_string() })
}

/// What this process could send to a node that costs nothing, transactions a second.
async fn ceiling(
    job: &Job,
    schedule: &Schedule,
    interrupted: &AtomicBool,
) -> Result<Option<f64>, LoadError> {
    if job.speech == Speech::RpcArray {
        // The null server does not read how many answers are wanted.
        return Ok(None);
    }
    let server = null::NullServer::start(job.speech)
        .map_err(|source| LoadError::System { what: "starting the null server", source })?;
    let job = Job { authority: server.authority(), duration: Some(CEILING), ..job.clone() };
    let driven = drive(&job, schedule.clone(), interrupted, |_, _| {}).await;
    Ok(Some(driven.tx_per_s()))
}

async fn pool_size(rpc: Option<&mut Rpc>) -> Option<u64> {
    rpc?.pool_size().await.ok()
}

/// Kinds that no node may accept, and how many were.
fn wrong(tally: &Tally) -> Vec<String> {
    let kinds = tally.kinds();
    [Kind::BadSignature, Kind::Malformed]
        .into_iter()
        .map(|kind| (KINDS[kind_index(kind)], kinds[kind_index(kind)][0]))
        .filter(|(_, accepted)| *accepted > 0)
        .map(|(kind, accepted)| format!("{accepted} of kind {kind} were accepted"))
        .collect()
}

fn line(second: &Second, tally: &Tally) -> String {
    let (sums, now) = (second.sums, tally.sums());
    let mut line = format!(
        "load: {:>5.0} s  {:>7} sent, {:>7} accepted, {} rejected, {} errors; {} out; p50 {} us, p99 {} us",
        second.at_s,
        sums.sent,
        sums.accepted,
        sums.rejected,
        sums.errors,
        now.sent - now.accepted - now.rejected - now.errors,
        second.p50_us,
        second.p99_us
    );
    if sums.errors > 0
        && let Some((why, _)) = tally.reasons().iter().max_by_key(|(_, count)| **count)
    {
        line += &format!(" ({why})");
    }
    line
}

fn fill(
    evidence: &mut Evidence,
    args: &LoadArgs,
    offer: &Offer,
    driven: &Driven,
    ceiling: Option<f64>,
    wrong: &[String],
) {
    let sums = driven.tally.sums();
    evidence.set("target", args.target.to_string());
    let from = args.file.as_ref().map(|path| path.display().to_string());
    evidence.set("workload", from.unwrap_or_else(|| args.workload.name().to_owned()));
    evidence.set(
        "rate",
        match args.rate {
            Rate::Max => Value::from("max"),
            Rate::PerSecond(rate) => rate.into(),
        },
    );
    evidence.set("connections", args.connections);
    evidence.set("batch", args.batch);
    evidence.set("offered", offer.len());
    evidence.set("sent", sums.sent);
    evidence.set("unsent", offer.len() as u64 - sums.sent);
    evidence.set("accepted", sums.accepted);
    evidence.set("rejected", sums.rejected);
    evidence.set("errors", sums.errors);
    evidence.set("reconciled", sums.reconciles());
    evidence.set("wrong", json!(wrong));
    evidence.set("reasons", json!(driven.tally.reasons()));
    evidence.set("tx_per_s", driven.tx_per_s().round());
    evidence.set("latency_us", driven.tally.latency_us());
    evidence.set("behind_us", driven.tally.behind_us());
    evidence.set("run_s", (driven.elapsed_s * 1_000.0).round() / 1_000.0);
    evidence.set("interrupted", driven.interrupted);
    evidence.set("connections_opened", driven.opened);
    let kinds = driven.tally.kinds();
    let by_kind = KINDS.iter().zip(kinds).filter(|(_, counts)| counts.iter().sum::<u64>() > 0).map(
        |(kind, [accepted, rejected, errors])| {
            let counts = json!({ "accepted": accepted, "rejected": rejected, "errors": errors });
            ((*kind).to_owned(), counts)
        },
    );
    evidence.set("by_kind", Value::Object(by_kind.collect()));
    match ceiling {
        Some(ceiling) => {
            evidence.set("ceiling_tx_per_s", ceiling.round());
            evidence.set("limited_by_generator", is_limited(driven, ceiling));
        }
        None => {
            evidence.skip("ceiling_tx_per_s", "not measured: --no-ceiling, or a JSON-RPC batch");
        }
    }
    let series: Vec<Value> = driven.series.iter().map(Second::json).collect();
    evidence.set("series", series);
}

fn is_limited(driven: &Driven, ceiling: f64) -> bool {
    driven.tx_per_s() > CEILING_SHARE * ceiling
}

fn text(
    args: &LoadArgs,
    offer: &Offer,
    driven: &Driven,
    ceiling: Option<f64>,
    wrong: &[String],
) -> String {
    let sums = driven.tally.sums();
    let latency = driven.tally.latency_us();
    let behind = driven.tally.behind_us();
    let mut text = format!(
        "\n  target       {}, {} connections, {} a request\n  sent         {:>9}  of {} in {:.1} s{}\n",
        args.target,
        args.connections,
        args.batch,
        sums.sent,
        offer.len(),
        driven.elapsed_s,
        if driven.interrupted { ", interrupted" } else { "" }
    );
    text += &format!("  accepted     {:>9}\n  rejected     {:>9}\n", sums.accepted, sums.rejected);
    text += &format!("  errors       {:>9}\n", sums.errors);
    text += &format!("  rate         {:>9.0}  accepted/s\n", driven.tx_per_s());
    text += &format!(
        "  latency      {:>9}  us at the median, {} at 99 %, {} at 99.9 %, {} at most\n",
        latency["p50"], latency["p99"], latency["p999"], latency["max"]
    );
    text += &format!(
        "  sent late by {:>9}  us at the median, {} at 99 %, {} at most\n",
        behind["p50"], behind["p99"], behind["max"]
    );
    if let Some(ceiling) = ceiling {
        text +=
            &format!("  generator    {ceiling:>9.0}  tx/s against a server that does nothing\n");
        if is_limited(driven, ceiling) {
            text += "  NOTE         the generator may be what limits this rate\n";
        }
    }
    for (why, count) in driven.tally.reasons() {
        text += &format!("  not accepted {count:>9}  {why}\n");
    }
    if !sums.reconciles() {
        text += "  WRONG        sent is not accepted + rejected + errors\n";
    }
    for wrong in wrong {
        text += &format!("  WRONG        {wrong}\n");
    }
    text + "\n"
}
