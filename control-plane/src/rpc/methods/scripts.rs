//! `verifyscript`: runs unlocking scripts against the coins they spend, in SV Node's batch form.
//!
//! In: transactions, inputs, and where the caller wants to say so the coins and the flags. Out: one verdict each. Coins come
//! from the chain, then from the pool; then everything runs on a blocking thread, in slices between which the clock is
//! read: time is bounded by the caller's `totalTimeout` and by ours. Source: SV Node `rpc/misc.cpp` `verifyscript`, seen from
//! 1.0.13 (which, unlike its help, goes on after a script that fails).

use super::super::args::{Args, bytes_of_hex, int64, type_name};
use super::super::error::{RpcError, code};
use super::super::json::{Json, read_hex};
use super::super::state::Rpc;
use super::super::table::Later;
use consensus::hash::BlockHash;
use consensus::script::{
    Budget, Flags, Immediate, Limits, Machine, Outcome, Progress, Scratch, ScriptError, TxContext,
};
use consensus::sighash::SighashCache;
use consensus::tx::{OutPoint, TxLayout, parse};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Milliseconds for all scripts, unless told otherwise. Source: SV Node `rpc/misc.cpp`.
const TOTAL_TIMEOUT_MS: i32 = 100;
/// The most a caller can ask for.
const TOTAL_TIMEOUT_MS_MAX: u64 = 60_000;
/// Scripts of one call.
const SCRIPTS_MAX: usize = 100_000;
/// Opcodes between two looks at the clock.
const SLICE_OPCODES: u64 = 256;

/// One script to run.
struct Job {
    tx: Vec<u8>,
    input: usize,
    prev: OutPoint,
    flags: Option<u32>,
    report: bool,
    /// Height of the block the transaction would be in.
    height: u32,
    coin: Option<(Vec<u8>, u64)>,
    /// `None`: the caller gave flags and no height.
    coin_height: Option<u32>,
}

fn missing(at: usize, what: &str) -> RpcError {
    RpcError::parameter(format!("Missing scripts[{at}].{what}!"))
}

fn invalid(what: &str) -> RpcError {
    RpcError::parameter(format!("Invalid value for {what}!"))
}

/// The members of an object, all of them known and of their type. Source: SV Node `RPCTypeCheckObj`, strict.
fn checked(members: &Map<String, Value>, known: &[(&str, &str)]) -> Result<(), RpcError> {
    for (name, expected) in known {
        if let Some(value) = members.get(*name)
            && type_name(value) != *expected
        {
            let got = type_name(value);
            let message = format!("Expected type {expected} for {name}, got {got}");
            return Err(RpcError::new(code::TYPE, message));
        }
    }
    let unknown = members.keys().find(|name| !known.iter().any(|(known, _)| known == name));
    match unknown {
        Some(name) => {
            let shown: String = name.chars().take(80).collect();
            Err(RpcError::new(code::TYPE, format!("Unexpected key {shown}")))
        }
        None => Ok(()),
    }
}

impl Job {
    fn read(rpc: &Rpc, at: usize, value: &Value) -> Result<Self, RpcError> {
        let members = value
            .as_object()
            .ok_or_else(|| RpcError::misc("JSON value is not an object as expected"))?;
        checked(
            members,
            &[
                ("tx", "string"),
                ("n", "number"),
                ("flags", "number"),
                ("reportflags", "bool"),
                ("prevblockhash", "string"),
                ("txo", "object"),
            ],
        )?;
        let text = members.get("tx").and_then(Value::as_str).ok_or_else(|| missing(at, "tx"))?;
        let undecodable = || RpcError::decode(format!("TX decode failed for scripts[{at}].tx!"));
        let bytes = read_hex(text).ok_or_else(undecodable)?;
        let mut layout = TxLayout::new();
        let tx = parse(&bytes, &mut layout).map_err(|_| undecodable())?;
        let n = int64(members.get("n").ok_or_else(|| missing(at, "n"))?)?;
        let input = usize::try_from(n)
            .ok()
            .filter(|input| *input < tx.input_count())
            .ok_or_else(|| invalid(&format!("n in scripts[{at}]")))?;
        let prev = tx.prev(input);
        let flags = members.get("flags").map(int64).transpose()?.map(|flags| flags as u32);
        let chain = &rpc.service.chain;
        let height = match members.get("prevblockhash").and_then(Value::as_str) {
            None => chain.tip().height + 1,
            Some(_) if flags.is_some() => {
                let message = format!(
                    "Only one of scripts[{at}].flags and scripts[{at}].prevblockhash can be given!"
                );
                return Err(RpcError::parameter(message));
            }
            Some(text) => {
                let known = text.parse::<BlockHash>().ok().and_then(|hash| chain.header(&hash));
                let info = known.ok_or_else(|| {
                    let shown: String = text.chars().take(80).collect();
                    RpcError::parameter(format!(
                        "Unknown block ({shown}) specified by scripts[{at}].prevblockhash!"
                    ))
                })?;
                info.height + 1
            }
        };
        let mut job = Self {
            input,
            prev,
            flags,
            report: members.get("reportflags").and_then(Value::as_bool).unwrap_or(false),
            height,
            coin: None,
            coin_height: None,
            tx: Vec::new(),
        };
        if let Some(txo) = members.get("txo").and_then(Value::as_object) {
            job.read_coin(at, txo, chain.tip().height + 1)?;
        }
        job.tx = bytes;
        Ok(job)
    }

    fn read_coin(
        &mut self,
        at: usize,
        txo: &Map<String, Value>,
        pool_height: u32,
    ) -> Result<(), RpcError> {
        checked(txo, &[("lock", "string"), ("value", "number"), ("height", "number")])?;
        let lock = txo.get("lock").and_then(Value::as_str);
        let lock = lock.ok_or_else(|| missing(at, "txo.lock"))?;
        let lock = bytes_of_hex(lock, &format!("scripts[{at}].txo.lock"))?;
        let value = int64(txo.get("value").ok_or_else(|| missing(at, "txo.value"))?)?;
        let value = u64::try_from(value)
            .ok()
            .filter(|value| *value <= consensus::rules::MONEY_MAX_SAT)
            .ok_or_else(|| invalid(&format!("scripts[{at}].txo.value")))?;
        self.coin_height = match txo.get("height").map(int64).transpose()? {
            None if self.flags.is_none() => return Err(missing(at, "txo.height")),
            None => None,
            // Minus one stands for the pool.
            Some(-1) => Some(pool_height),
            Some(height) => Some(
                u32::try_from(height)
                    .ok()
                    .filter(|height| i32::try_from(*height).is_ok())
                    .ok_or_else(|| invalid(&format!("scripts[{at}].txo.height")))?,
            ),
        };
        self.coin = Some((lock, value));
        Ok(())
    }

    /// The flags it runs under.
    fn flags(&self, rpc: &Rpc) -> Flags {
        let params = &rpc.service.params;
        let of_coin = |height| params.flags_for_input(self.height, height);
        let eras = Flags::UTXO_AFTER_GENESIS.with(Flags::UTXO_AFTER_CHRONICLE);
        match (self.flags, self.coin_height) {
            (Some(flags), None) => Flags(flags),
            (Some(flags), Some(height)) => {
                Flags(flags).without(eras).with(Flags(of_coin(height) & eras.0))
            }
            (None, height) => {
                let height = height.unwrap_or(self.height);
                Flags(params.flags_for_block(self.height) | of_coin(height))
            }
        }
    }
}

/// What became of one script.
enum Said {
    Ok,
    Failed(ScriptError),
    TimedOut,
    SkippedForTime(u128),
    SkippedForFailure,
}

fn run(job: &Job, flags: Flags, until: Instant) -> Said {
    let (lock, value_sat) = job.coin.as_ref().expect("every coin was found before");
    let mut layout = TxLayout::new();
    let tx = parse(&job.tx, &mut layout).expect("it was parsed before");
    let context = TxContext::new(tx, job.input, *value_sat);
    let unlocking = tx.input(job.input).unlocking_script;
    let (limits, mut budget) = (Limits::policy(), Budget::UNLIMITED);
    let (mut scratch, mut sighash) = (Scratch::new(), SighashCache::new());
    let mut machine = Machine::new(&mut scratch, unlocking, lock, flags, context, &limits);
    loop {
        match machine.step(SLICE_OPCODES, &mut sighash, &mut Immediate, &mut budget) {
            Progress::Done(Outcome::Accepted) => return Said::Ok,
            Progress::Done(Outcome::Rejected(error)) => return Said::Failed(error),
            Progress::Done(Outcome::BudgetExceeded(_) | Outcome::BatchFull) => {
                return Said::TimedOut;
            }
            Progress::More if Instant::now() >= until => return Said::TimedOut,
            Progress::More => {}
        }
    }
}

fn run_all(rpc: &Rpc, jobs: &[Job], stop_on_failure: bool, timeout: Duration) -> Json {
    let started = Instant::now();
    let mut skip = None;
    Json::of(|w| {
        w.array(|w| {
            for job in jobs {
                let flags = job.flags(rpc);
                if skip.is_none() && started.elapsed() >= timeout {
                    skip = Some(Some(timeout.as_millis()));
                }
                let said = match skip {
                    None => run(job, flags, started + timeout),
                    Some(Some(ms)) => Said::SkippedForTime(ms),
                    Some(None) => Said::SkippedForFailure,
                };
                if stop_on_failure && skip.is_none() && matches!(said, Said::Failed(_)) {
                    skip = Some(None);
                }
                w.object(|w| write_said(w, &said, job.report.then_some(flags)));
            }
        });
    })
}

fn write_said(w: &mut Json, said: &Said, flags: Option<Flags>) {
    let (result, description) = match said {
        Said::Ok => ("ok", None),
        Said::Failed(error) => ("error", Some(error.text().to_owned())),
        Said::TimedOut => ("timeout", None),
        Said::SkippedForTime(ms) => {
            ("skipped", Some(format!("Total script verification time ({ms}ms) exceeded.")))
        }
        Said::SkippedForFailure => {
            ("skipped", Some("Verification of previous script failed.".to_owned()))
        }
    };
    w.key("result").plain(result);
    if let Some(description) = description {
        w.key("description").text(&description);
    }
    if let Some(flags) = flags {
        w.key("flags").int(flags.0);
    }
}

pub(in super::super) fn verifyscript(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move {
        let scripts = args.array(0);
        if scripts.len() > SCRIPTS_MAX {
            let message = format!("{} scripts; at most {SCRIPTS_MAX}", scripts.len());
            return Err(RpcError::parameter(message));
        }
        let stop_on_failure = args.bool(1).unwrap_or(false);
        let timeout = args.int(2)?.unwrap_or(TOTAL_TIMEOUT_MS);
        let timeout = u64::try_from(timeout).map_err(|_| invalid("totalTimeout argument"))?;
        let timeout = Duration::from_millis(timeout.min(TOTAL_TIMEOUT_MS_MAX));
        let mut jobs = Vec::with_capacity(scripts.len());
        for (at, value) in scripts.iter().enumerate() {
            let mut job = Job::read(&rpc, at, value)?;
            if job.coin.is_none() {
                find_coin(&rpc, at, &mut job).await?;
            }
            jobs.push(job);
        }
        let _seat = rpc.seat().await?;
        let shared = Arc::clone(&rpc);
        let work = move || run_all(&shared, &jobs, stop_on_failure, timeout);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| RpcError::new(code::INTERNAL, format!("verifyscript failed: {error}")))
    })
}

/// Takes the coin from the chain, or from the pool, where it may be spent: by this transaction, most likely.
async fn find_coin(rpc: &Rpc, at: usize, job: &mut Job) -> Result<(), RpcError> {
    let chain = &rpc.service.chain;
    if let Some(coin) = chain.coin(job.prev, false).await? {
        job.coin_height = Some(coin.height);
        job.coin = Some((coin.locking_script, coin.value_sat));
        return Ok(());
    }
    let output = pool_output(rpc, job.prev)?.ok_or_else(|| {
        RpcError::parameter(format!("Unable to find TXO spent by transaction scripts[{at}].tx!"))
    })?;
    job.coin_height = Some(chain.tip().height + 1);
    job.coin = Some(output);
    Ok(())
}

/// An output of a transaction of the pool: script and value.
fn pool_output(rpc: &Rpc, outpoint: OutPoint) -> Result<Option<(Vec<u8>, u64)>, RpcError> {
    let Some(tx) = rpc.service.pool.get(&outpoint.txid)? else { return Ok(None) };
    let mut layout = TxLayout::new();
    let view = parse(&tx.raw, &mut layout)
        .map_err(|error| RpcError::misc(format!("a stored transaction is damaged: {error}")))?;
    let vout = outpoint.vout as usize;
    Ok((vout < view.output_count()).then(|| {
        let output = view.output(vout);
        (output.locking_script.to_vec(), output.value_sat as u64)
    }))
}
