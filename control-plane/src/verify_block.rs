//! `metanode verify-block`: one block through the same tiles as everything else, against recorded previous outputs.
//!
//! In: a raw block, and its previous outputs in the row form `[tx index, input index, coin height, coinbase 0/1, amount sat,
//! locking script hex]`. The coins are imported into the shards, the block's transactions go over `block_validate`, and what
//! comes back are verdicts. Before that the header and the block's own rules are judged; `--inputs-only` leaves those out, and
//! linkage too: every input is judged with the coin its row names, whatever its outpoint says.

use crate::node::{ImportCoin, Node, NodeError, NodeOptions};
use crate::topology::{BLOCK_VERDICTS, Ingest};
use clap::Args;
use consensus::block::BlockView;
use consensus::hash::TxId;
use consensus::header::check_header_work;
use consensus::params::{ChainParams, Network};
use consensus::rules::{self, BlockChecker, TxReject};
use consensus::script::ScriptError;
use consensus::tx::{OutPoint, TxLayout};
use dataplane::msg::control::ValidateControl;
use dataplane::msg::verdict::detail;
use dataplane::msg::{Context, IngestHeader, TxVerdict, VerdictFrag};
use load::evidence::Evidence;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Longest wait between two verdicts.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(60);
/// So long without a verdict, what is left waits for a parent.
const QUIET: Duration = Duration::from_millis(200);
/// The block's number inside the node.
const BLOCK: u32 = 1;

/// Judges a block against its recorded previous outputs
#[derive(Args, Debug)]
pub struct VerifyBlockArgs {
    /// The raw block
    #[arg(long, value_name = "FILE")]
    pub block: PathBuf,
    /// Its previous outputs, one row a line
    #[arg(long, value_name = "FILE")]
    pub coins: PathBuf,
    /// Its height
    #[arg(long)]
    pub height: u32,
    /// mainnet, testnet, stn, regtest, teratestnet or tstn
    #[arg(long, default_value = "mainnet")]
    pub network: Network,
    /// Median time past of its parent, seconds (default: the block's own time)
    #[arg(long, value_name = "SECONDS")]
    pub median_time_past: Option<u32>,
    /// Scripts and values only: no header, merkle or linkage rules
    #[arg(long)]
    pub inputs_only: bool,
    /// Cores for tiles (default: all this process may use)
    #[arg(long)]
    pub cores: Option<usize>,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    pub json: bool,
}

/// Why a block could not be judged at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyBlockError {
    /// A file could not be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A line of the coins file is no row.
    #[error(
        "{path} line {line}: {got} is neither an object nor [tx, input, height, coinbase, amount, script hex]"
    )]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What it says, cut.
        got: String,
    },
    /// The node failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Verdicts stopped coming.
    #[error("{got} of {expected} verdicts came, then none for {} s", VERDICT_TIMEOUT.as_secs())]
    Verdicts {
        /// How many came.
        got: usize,
        /// How many were expected.
        expected: usize,
    },
}

/// A recorded previous output.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    height: u32,
    coinbase: bool,
    value_sat: u64,
    locking_script: Vec<u8>,
}

/// One thing that is wrong with the block.
#[derive(Clone, Debug)]
struct Failure {
    tx: Option<u64>,
    txid: Option<TxId>,
    vin: Option<u32>,
    error: String,
}

#[derive(Debug, Default)]
struct Judged {
    txs: u64,
    inputs: u64,
    signatures: u64,
    fees_sat: u64,
    merkle_root: Option<String>,
    failures: Vec<Failure>,
}

/// The command.
pub fn main(args: &VerifyBlockArgs) -> ExitCode {
    let mut evidence = Evidence::new("metanode-verify-block/1", 0);
    match verify(args) {
        Ok(judged) => {
            evidence.set("height", args.height);
            evidence.set("network", args.network.name());
            evidence.set("txs", judged.txs);
            evidence.set("inputs", judged.inputs);
            evidence.set("signatures", judged.signatures);
            evidence.set("fees_sat", judged.fees_sat);
            evidence.set("merkle_root", judged.merkle_root);
            let failures: Vec<Value> = judged.failures.iter().map(Failure::to_json).collect();
            for failure in judged.failures.iter().take(10) {
                eprintln!("verify-block: {failure}");
            }
            evidence.set("failures", failures);
            if args.inputs_only {
                evidence.skip("header, merkle and linkage rules", "--inputs-only");
            }
            evidence.finish(judged.failures.is_empty(), args.json)
        }
        Err(error) => {
            eprintln!("verify-block: {error}");
            evidence.set("error", error.to_string());
            evidence.set("failures", Vec::<Value>::new());
            evidence.finish(false, args.json)
        }
    }
}

impl Failure {
    fn block(error: impl Into<String>) -> Self {
        Self { tx: None, txid: None, vin: None, error: error.into() }
    }

    fn to_json(&self) -> Value {
        json!({
            "tx": self.tx,
            "txid": self.txid.map(|t| t.to_string()),
            "vin": self.vin,
            "error": self.error,
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let (Some(tx), Some(txid)) = (self.tx, self.txid) {
            write!(f, "transaction {tx} {txid}: ")?;
        }
        if let Some(vin) = self.vin {
            write!(f, "input {vin}: ")?;
        }
        f.write_str(&self.error)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, VerifyBlockError> {
    std::fs::read(path).map_err(|source| VerifyBlockError::Read { path: path.to_owned(), source })
}

fn verify(args: &VerifyBlockArgs) -> Result<Judged, VerifyBlockError> {
    let bytes = read(&args.block)?;
    let rows = read_rows(&args.coins, args.height)?;
    let params = ChainParams::of(args.network);
    let mut judged = Judged::default();
    let block = match BlockView::parse(&bytes) {
        Ok(block) => block,
        Err(error) => {
            judged.failures.push(Failure::block(format!("the bytes are no block: {error}")));
            return Ok(judged);
        }
    };
    let time_s = block.header().time_s;
    let context = Context {
        block: BLOCK,
        height: args.height,
        median_time_past: args.median_time_past.unwrap_or(time_s),
        rule_set: params.flags_for_block(args.height),
    };
    if !args.inputs_only {
        check_block(&block, &params, &context, &mut judged);
    }
    if judged.failures.is_empty() {
        check_inputs(args, &block, &rows, &params, context, &mut judged)?;
    }
    Ok(judged)
}

/// `[tx index, input index, coin height, coinbase 0/1, amount sat, locking script hex]` a line; an object begins a section, and
/// only sections of this height count.
fn read_rows(path: &Path, height: u32) -> Result<HashMap<(u64, u32), Row>, VerifyBlockError> {
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    let mut rows = HashMap::new();
    let mut counts = true;
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fail = || {
            let got = line.chars().take(80).collect();
            VerifyBlockError::Row { path: path.to_owned(), line: i + 1, got }
        };
        let value: Value = serde_json::from_str(line).map_err(|_| fail())?;
        if let Some(section) = value.as_object() {
            counts = section
                .get("height")
                .and_then(Value::as_u64)
                .is_none_or(|h| h == u64::from(height));
            continue;
        }
        if !counts {
            continue;
        }
        let (key, row) = read_row(&value).ok_or_else(fail)?;
        rows.insert(key, row);
    }
    Ok(rows)
}

fn read_row(value: &Value) -> Option<((u64, u32), Row)> {
    let [tx, input, height, coinbase, amount, script] = value.as_array()?.as_slice() else {
        return None;
    };
    let row = Row {
        height: u32::try_from(height.as_u64()?).ok()?,
        coinbase: coinbase.as_u64()? != 0,
        value_sat: amount.as_u64()?,
        locking_script: hex::decode(script.as_str()?).ok()?,
    };
    Some(((tx.as_u64()?, u32::try_from(input.as_u64()?).ok()?), row))
}

/// Header and block rules that need no coin.
fn check_block(
    block: &BlockView<'_>,
    params: &ChainParams,
    context: &Context,
    judged: &mut Judged,
) {
    let header = block.header();
    if let Err(reject) = check_header_work(header, params) {
        judged.failures.push(Failure::block(reject.reason()));
        return;
    }
    if header.version < params.version_floor(context.height) {
        judged.failures.push(Failure::block(format!("bad-version(0x{:08x})", header.version)));
        return;
    }
    let limit =
        rules::lock_time_limit_s(params, context.height, context.median_time_past, header.time_s);
    let mut checker = BlockChecker::new(params, context.height, limit, 0);
    let mut layout = TxLayout::new();
    let mut txs = block.txs();
    let mut right_height = false;
    let mut txids = Vec::new();
    while let Ok(Some(view)) = txs.next_tx(&mut layout) {
        if txids.is_empty() && view.is_coinbase() {
            right_height = checker.has_right_height(view);
        }
        let txid = view.txid();
        checker.add(view, &txid);
        txids.push(txid);
    }
    match checker.finish(&header.merkle_root, right_height) {
        Ok(summary) => judged.merkle_root = Some(summary.merkle_root.to_string()),
        Err(reject) => {
            let index = match reject {
                rules::BlockReject::Transaction { index, .. } => Some(index),
                _ => None,
            };
            let txid = index.and_then(|i| txids.get(i as usize).copied());
            judged.failures.push(Failure {
                tx: index,
                txid,
                vin: None,
                error: reject.reason().into(),
            });
        }
    }
}

/// Everything that needs coins, through the tiles.
fn check_inputs(
    args: &VerifyBlockArgs,
    block: &BlockView<'_>,
    rows: &HashMap<(u64, u32), Row>,
    params: &ChainParams,
    context: Context,
    judged: &mut Judged,
) -> Result<(), VerifyBlockError> {
    let mut options = NodeOptions::new(params.clone(), Ingest::Control);
    options.cores = args.cores;
    options.store = false;
    let mut node = Node::boot(options)?;
    let coins = import_list(block, rows, args.inputs_only, judged);
    if judged.failures.is_empty() {
        node.import(coins.iter().map(|(outpoint, row)| ImportCoin {
            outpoint: *outpoint,
            value_sat: row.value_sat,
            height: row.height,
            coinbase: row.coinbase,
            locking_script: &row.locking_script,
        }))?;
        let inputs_only = args.inputs_only;
        node.tell_validators(&ValidateControl::OpenBlock { context, inputs_only })?;
        send_and_judge(&mut node, block, judged)?;
        judged.signatures = node.counters().signatures();
    }
    node.shutdown()?;
    if judged.failures.is_empty() && !args.inputs_only {
        let mut layout = TxLayout::new();
        if let Ok(Some(coinbase)) = block.txs().next_tx(&mut layout) {
            let paid = rules::check_coinbase_amount(coinbase, judged.fees_sat, args.height, params);
            if let Err(reject) = paid {
                let txid = Some(coinbase.txid());
                judged.failures.push(Failure {
                    tx: Some(0),
                    txid,
                    vin: None,
                    error: reject.reason().into(),
                });
            }
        }
    }
    Ok(())
}

/// The coins to import: every row, but not those that the block itself makes (they must come from the block).
fn import_list<'r>(
    block: &BlockView<'_>,
    rows: &'r HashMap<(u64, u32), Row>,
    inputs_only: bool,
    judged: &mut Judged,
) -> Vec<(OutPoint, &'r Row)> {
    let own: HashSet<TxId> = match inputs_only {
        true => HashSet::new(),
        false => block.txids().unwrap_or_default().into_iter().collect(),
    };
    let mut coins = Vec::with_capacity(rows.len());
    let mut layout = TxLayout::new();
    let mut txs = block.txs();
    let mut tx = 0;
    while let Ok(Some(view)) = txs.next_tx(&mut layout) {
        for (vin, input) in view.inputs().enumerate().filter(|_| tx > 0) {
            judged.inputs += 1;
            match rows.get(&(tx, vin as u32)) {
                Some(row) if !own.contains(&input.prev.txid) => coins.push((input.prev, row)),
                Some(_) => {}
                None if own.contains(&input.prev.txid) => {}
                None => judged.failures.push(Failure {
                    tx: Some(tx),
                    txid: Some(view.txid()),
                    vin: Some(vin as u32),
                    error: format!("no row [{tx},{vin},...] in the coins file"),
                }),
            }
        }
        tx += 1;
    }
    judged.txs = tx;
    coins
}

/// Sends the block's transactions and collects their verdicts.
fn send_and_judge(
    node: &mut Node,
    block: &BlockView<'_>,
    judged: &mut Judged,
) -> Result<(), VerifyBlockError> {
    let expected = block.tx_count() as usize;
    let mut layout = TxLayout::new();
    let mut txs = block.txs();
    let mut index = 0u32;
    let mut verdicts = Vec::with_capacity(expected);
    while let Ok(Some(view)) = txs.next_tx(&mut layout) {
        let header =
            IngestHeader { token: u64::from(index), source: 0, block: BLOCK, index, flags: 0 };
        node.send_block_tx(header, view.bytes())?;
        index += 1;
        while (index as usize - verdicts.len()) * 2 > BLOCK_VERDICTS as usize {
            collect(node, &mut verdicts, expected)?;
        }
        drain(node, &mut verdicts);
    }
    // The first close says that nothing more comes; a second one, once all is quiet, ends what waits for a parent in vain.
    let close = ValidateControl::CloseBlock { block: BLOCK };
    node.tell_validators(&close)?;
    let (mut seen, mut since) = (verdicts.len(), Instant::now());
    while verdicts.len() < expected {
        drain(node, &mut verdicts);
        if verdicts.len() > seen {
            (seen, since) = (verdicts.len(), Instant::now());
        } else if since.elapsed() > VERDICT_TIMEOUT {
            return Err(VerifyBlockError::Verdicts { got: seen, expected });
        } else if since.elapsed() > QUIET {
            node.tell_validators(&close)?;
            std::thread::sleep(QUIET);
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    verdicts.sort_by_key(|v| v.token);
    for verdict in verdicts {
        judged.fees_sat += verdict.fee_sat;
        if verdict.verdict != TxVerdict::Accepted {
            judged.failures.push(Failure {
                tx: Some(verdict.token),
                txid: Some(verdict.txid),
                vin: Some(verdict.vin),
                error: error_name(&verdict),
            });
        }
    }
    Ok(())
}

fn drain(node: &mut Node, verdicts: &mut Vec<VerdictFrag>) {
    for input in &mut node.ends.validate_block {
        while let Some(frag) = input.poll() {
            let verdict = VerdictFrag::decode(frag.bytes);
            // That it waits for a parent is no verdict yet.
            verdicts.extend(
                verdict
                    .filter(|v| v.verdict != TxVerdict::MissingInput || v.detail != detail::WAITS),
            );
        }
        input.return_credit();
    }
}

/// Waits for at least one more verdict.
fn collect(
    node: &mut Node,
    verdicts: &mut Vec<VerdictFrag>,
    expected: usize,
) -> Result<(), VerifyBlockError> {
    let (before, deadline) = (verdicts.len(), Instant::now() + VERDICT_TIMEOUT);
    loop {
        drain(node, verdicts);
        if verdicts.len() > before {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(VerifyBlockError::Verdicts { got: before, expected });
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// SV Node's name of what is wrong.
fn error_name(verdict: &VerdictFrag) -> String {
    let by_rule = || {
        let found = TxReject::ALL.iter().find(|r| **r as u8 == verdict.detail);
        found.map(|r| r.reason().to_owned())
    };
    let name = match verdict.verdict {
        TxVerdict::ScriptFailed => {
            ScriptError::from_number(verdict.detail).map(|e| e.name().to_owned())
        }
        TxVerdict::Invalid | TxVerdict::Policy => by_rule(),
        TxVerdict::NonFinal => Some(TxReject::NonFinal.reason().to_owned()),
        TxVerdict::Immature => Some("bad-txns-premature-spend-of-coinbase".to_owned()),
        TxVerdict::MissingInput | TxVerdict::DoubleSpend | TxVerdict::OrphanExpired => {
            Some("bad-txns-inputs-missingorspent".to_owned())
        }
        TxVerdict::Frozen => Some("bad-txns-inputs-frozen".to_owned()),
        _ => None,
    };
    name.unwrap_or_else(|| verdict.verdict.name().to_owned())
}
