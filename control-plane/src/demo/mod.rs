//! `metanode demo`: the main job, from nothing to mined blocks, in one command.
//!
//! It boots the data plane in a temporary directory, mines regtest coins, fans them out, signs a workload on all cores, sends
//! it through the ingest links with faults in between, mines what was accepted, and holds every number against an account
//! made from the raw blocks alone ([`crate::ledger`]). One seed gives the same transactions and the same blocks.

mod check;
mod dump;
mod report;
mod watch;

use crate::ledger::{Applied, Ledger};
use crate::node::{Mined, Node, NodeError, NodeOptions};
use crate::topology::Ingest;
use clap::Args;
use consensus::params::{ChainParams, Network};
use load::evidence::Evidence;
use load::replay::{Log, Pace};
use load::{Coinbase, FanOut, Inject, Kind, Offer, Options, Plan, Workload};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Confirmations before a coinbase can be spent. Source: SV Node `COINBASE_MATURITY`.
const COINBASE_MATURITY: u32 = 100;

/// Parents that are kept back never come: the run does not wait long for them.
const ORPHAN_AGE_MAX_NS: u64 = 3_000_000_000;

/// Runs the whole node on a workload and checks everything
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Honest transactions to sign and send
    #[arg(long, default_value_t = 100_000)]
    pub txs: usize,
    /// p2pkh, chain, optrue, data or mixed
    #[arg(long, default_value = "mixed")]
    pub workload: Workload,
    /// Everything is drawn from it
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Distinct keys
    #[arg(long, default_value_t = load::plan::KEYS_DEFAULT)]
    pub keys: usize,
    /// Faults of each kind between the honest transactions (default: one in a thousand, at least 4)
    #[arg(long)]
    pub faults: Option<usize>,
    /// Writes raw blocks, coins.jsonl and verdicts.jsonl there
    #[arg(long, value_name = "DIR")]
    pub dump: Option<PathBuf>,
    /// Cores for tiles (default: all this process may use)
    #[arg(long)]
    pub cores: Option<usize>,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    pub json: bool,
}

/// Why the demo could not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The node failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A block does not fit the account of the chain.
    #[error("the node mined a block that is wrong: {0}")]
    Ledger(#[from] crate::ledger::LedgerError),
    /// Writing the dump failed.
    #[error("writing {path}: {source}")]
    Dump {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A fan-out transaction was refused.
    #[error(
        "{refused} of {sent} fan-out transactions were not accepted; the first verdict is {first}"
    )]
    FanOut {
        /// How many.
        refused: usize,
        /// Of how many.
        sent: usize,
        /// The first verdict.
        first: String,
    },
}

/// A block of the run, as the report lists it.
#[derive(Debug)]
pub(crate) struct DemoBlock {
    pub(crate) height: u32,
    pub(crate) raw: Vec<u8>,
    pub(crate) applied: Applied,
    pub(crate) candidate_ms: f64,
}

/// Everything a finished run leaves behind.
pub(crate) struct Run {
    pub(crate) plan: Plan,
    pub(crate) offer: Arc<Offer>,
    pub(crate) log: Arc<Log>,
    pub(crate) fan_out_txs: usize,
    pub(crate) blocks: Vec<DemoBlock>,
    pub(crate) ledger: Ledger,
    pub(crate) watched: watch::Watched,
    pub(crate) interrupted: bool,
}

/// The command.
pub fn main(args: &DemoArgs) -> ExitCode {
    let mut evidence = Evidence::new("metanode-demo/1", args.seed);
    match run(args, &mut evidence) {
        // People have read the report by now.
        Ok(ok) if !args.json => {
            if ok {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Ok(ok) => evidence.finish(ok, true),
        Err(error) => {
            eprintln!("demo: {error}");
            evidence.set("error", error.to_string());
            evidence.finish(false, args.json)
        }
    }
}

fn run(args: &DemoArgs, evidence: &mut Evidence) -> Result<bool, DemoError> {
    let params = todays_rules();
    let faults = args.faults.unwrap_or_else(|| (args.txs / 1_000).max(4));
    let plan = Plan::new(Options {
        keys: args.keys,
        inject: Inject::each(faults),
        ..Options::new(args.workload, args.txs, args.seed)
    });
    eprintln!(
        "demo: {} {} transactions, {} keys, {} faults of each of 6 kinds, seed {}",
        args.txs,
        args.workload.name(),
        args.keys,
        faults,
        args.seed
    );
    let mut options = NodeOptions::new(params.clone(), Ingest::Replay);
    options.cores = args.cores;
    options.seed = args.seed;
    options.bounds.orphan_age_max_ns = ORPHAN_AGE_MAX_NS;
    let mut node = Node::boot(options)?;
    for line in node.describe() {
        eprintln!("demo: {line}");
    }
    let mut ledger = Ledger::new(params.clone());
    let mut blocks = Vec::new();

    let fan_out = coins(&mut node, &plan, &params, &mut ledger, &mut blocks)?;
    let interrupted = crate::signals::interrupted();
    let began = std::time::Instant::now();
    let offer = Arc::new(plan.sign(&fan_out.coins));
    let signed_s = began.elapsed().as_secs_f64();
    eprintln!(
        "demo: signed {} transactions ({:.1} MB) in {signed_s:.1} s; sending them",
        offer.len(),
        offer.size_bytes() as f64 / 1e6
    );
    let before = node.counters();
    let log = node.replay(offer.clone(), Pace::Max);
    let watched = watch::watch(&node, &log, &offer, &interrupted, before);
    while node.pooled()? > 0 {
        mine(&mut node, &plan, 0, &mut ledger, &mut blocks)?;
    }
    let interrupted = interrupted.load(Ordering::Relaxed);
    let run = Run {
        plan,
        offer,
        log,
        fan_out_txs: fan_out.txs.len(),
        blocks,
        ledger,
        watched,
        interrupted,
    };
    let totals = node.totals()?;
    let counters = node.counters();
    let findings = check::check(&run, &totals, &counters);
    if let Some(dir) = &args.dump {
        dump::dump(dir, &run)?;
    }
    report::fill(evidence, &run, &findings, args.dump.as_deref(), node.kernel());
    let text = report::text(&run, &findings, node.kernel());
    if args.json {
        eprint!("{text}");
    } else {
        print!("{text}");
    }
    node.shutdown()?;
    Ok(findings.is_ok())
}

/// Regtest under the rules the main network has today: their blocks have no limit a workload could meet.
fn todays_rules() -> ChainParams {
    let regtest = ChainParams::builder(Network::Regtest).genesis_height(1).chronicle_height(1);
    regtest.build().expect("regtest may move the heights of its rules")
}

/// Mines the coinbases the plan needs, lets them ripen, sends the fan-out and mines it.
fn coins(
    node: &mut Node,
    plan: &Plan,
    params: &ChainParams,
    ledger: &mut Ledger,
    blocks: &mut Vec<DemoBlock>,
) -> Result<FanOut, DemoError> {
    let reward_sat = params.subsidy_sat(1);
    let needed = plan.coinbases_needed(reward_sat);
    assert!(
        needed < params.halving_blocks as usize,
        "the workload needs {needed} coinbases, more than regtest pays in full: use fewer transactions"
    );
    for i in 0..needed + COINBASE_MATURITY as usize {
        mine(node, plan, i, ledger, blocks)?;
    }
    let coinbases: Vec<_> = blocks[..needed]
        .iter()
        .map(|b| Coinbase { txid: b.applied.txids[0], value_sat: reward_sat })
        .collect();
    let fan_out = plan.fan_out(&coinbases, reward_sat);
    let offer = Arc::new(Offer::honest(&fan_out.txs));
    let log = node.replay(offer.clone(), Pace::Max);
    node.wait(&log);
    let refused: Vec<_> = (0..offer.len())
        .filter_map(|i| log.outcome(i))
        .filter(|o| o.verdict != dataplane::msg::TxVerdict::Accepted)
        .collect();
    if let Some(first) = refused.first() {
        return Err(DemoError::FanOut {
            refused: refused.len(),
            sent: offer.len(),
            first: format!("{first:?}"),
        });
    }
    while node.pooled()? > 0 {
        mine(node, plan, 0, ledger, blocks)?;
    }
    eprintln!(
        "demo: height {}, {} coins in {} fan-out transactions",
        blocks.len(),
        fan_out.coins.len(),
        fan_out.txs.len()
    );
    Ok(fan_out)
}

/// One block on top, checked against the account.
fn mine(
    node: &mut Node,
    plan: &Plan,
    payee: usize,
    ledger: &mut Ledger,
    blocks: &mut Vec<DemoBlock>,
) -> Result<(), DemoError> {
    let Mined { height, raw, candidate_ms } = node.mine(&plan.coinbase_script(payee))?;
    let applied = ledger.apply(&raw)?;
    blocks.push(DemoBlock { height, raw, applied, candidate_ms });
    Ok(())
}

/// The name of a kind of fault in the report; `None` for honest transactions.
pub(crate) fn fault_name(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Honest | Kind::LateParent | Kind::Unknown => None,
        Kind::DoubleSpend { .. } => Some("double_spend"),
        Kind::Orphan => Some("orphan"),
        Kind::LostParent => Some("lost_parent"),
        Kind::BadSignature => Some("bad_signature"),
        Kind::Malformed => Some("malformed"),
        Kind::Duplicate { .. } => Some("duplicate"),
    }
}
