//! What is there after a kill: `reopen` of `bench utxo` with a journal.
//!
//! A process of its own fills a data directory with the records, takes the checkpoint a node would have taken, goes on with the
//! measured work, and says on its stdout how many transactions are on the disk for good. Somewhere in the middle it is killed (SIGKILL).
//! Another process opens the directory, shards side by side, and is timed until it could answer. Then the coins are counted and hashed:
//! they must be those that a table without a journal has after as many transactions, no fewer than were said to be on the disk.
//! The pages of the files are in the kernel's cache, as after any crash of a process.

use super::durable::{Durable, open};
use super::work::{BATCH_TXS, Workload};
use super::{Args, Engine, clock_s, own_config, round, row_of};
use rustix::time::ClockId;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use utxo_shard::state_hash::StateHash;
use utxo_shard::store::{Coin, UtxoStore};

/// The process that is killed, by its hidden name.
pub const PREY: &str = "prey";
/// The process that opens what is left.
pub const HEIR: &str = "heir";
/// Most shards that are opened side by side.
const SHARDS_MAX: usize = 16;
/// How long the prey may live once it has nothing left to do.
const PREY_WAITS: Duration = Duration::from_secs(600);

/// Transactions behind the checkpoint at the most: a tenth of the coins are spent again.
fn txs_of(args: &Args) -> u64 {
    args.txs.unwrap_or(args.records / 10).min(args.records / 4).max(1)
}

/// Shards of the directory that is killed.
fn shards_of(args: &Args) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    args.shards.unwrap_or(cores.min(SHARDS_MAX) as u16)
}

fn command(args: &Args, engine: &str, dir: &Path) -> Result<Command, String> {
    let own = std::env::current_exe().map_err(|e| format!("this binary cannot be found: {e}"))?;
    let mut command = Command::new(own);
    command.args(["utxo", "--engine", engine, "--durability", "epoch"]);
    command.args(["--records", &args.records.to_string(), "--txs", &txs_of(args).to_string()]);
    command.args(["--shards", &shards_of(args).to_string()]);
    command.args(["--epoch-ms", &args.epoch_ms.to_string()]);
    command.arg("--dir").arg(dir);
    command.stdin(Stdio::null()).stderr(Stdio::inherit());
    Ok(command)
}

/// Ends the prey whatever happens.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It is gone already where the run went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The row `reopen`, and whether everything that was promised is there.
pub fn reopen_row(args: &Args) -> Result<(Value, bool), String> {
    let temp = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let temp = temp.map_err(|e| format!("a folder for its files: {e}"))?;
    let acked = hunt(args, temp.path())?;
    let out = command(args, HEIR, temp.path())?
        .output()
        .map_err(|e| format!("the process that opens cannot be started: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let row = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let mut row = row
        .filter(|_| out.status.success())
        .ok_or_else(|| format!("the process that opens ended with {}", out.status))?;
    drop(temp);
    let applied = row["applied_txs"].as_u64().unwrap_or(0);
    let same = super::Durability::None;
    let in_memory = row_of("metanode", args.records, applied, same, args)?;
    let lost = acked.saturating_sub(applied);
    let equal = row["state_hash"] == in_memory["state_hash"];
    row["acked_txs"] = acked.into();
    row["lost_acked_txs"] = lost.into();
    row["equals_in_memory"] = equal.into();
    if lost > 0 || !equal {
        eprintln!("utxo: reopen: after the kill the coins are not what was promised: {row}");
    }
    Ok((row, lost == 0 && equal))
}

/// Starts the prey, kills it once half of its work is on the disk, and gives the last it said.
fn hunt(args: &Args, dir: &Path) -> Result<u64, String> {
    let mut prey = command(args, PREY, dir)?;
    let child = prey.stdout(Stdio::piped()).spawn();
    let mut child = Killed(child.map_err(|e| format!("the prey cannot be started: {e}"))?);
    let lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
    let (mut acked, mut shot) = (0, false);
    for line in lines {
        let line = line.map_err(|e| format!("reading what the prey says: {e}"))?;
        // A line that the kill has cut is none.
        let Some(number) = line.strip_prefix("acked ").and_then(|rest| rest.strip_suffix('.'))
        else {
            continue;
        };
        acked = number.parse().map_err(|e| format!("the prey said {line:?}: {e}"))?;
        if acked >= txs_of(args) / 2 && !shot {
            child.0.kill().map_err(|e| format!("killing the prey: {e}"))?;
            shot = true;
        }
    }
    if shot { Ok(acked) } else { Err("the prey died before it was killed".to_owned()) }
}

/// The process that is killed.
pub fn prey(dir: &Path, args: &Args) -> Result<(), String> {
    let mut engine = Durable::new(dir, shards_of(args), args)?;
    engine.populate().map_err(|e| format!("its memory cannot be committed: {e}"))?;
    let mut workload = Workload::new(args.records);
    let mut batch = Vec::with_capacity(BATCH_TXS);
    while workload.next_loads(&mut batch) {
        engine.load(&batch)?;
    }
    engine.loaded()?;
    let say = |acked: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "acked {acked}.").and_then(|()| out.flush()).map_err(|e| e.to_string())
    };
    let mut left = txs_of(args);
    while left > 0 {
        workload.next_batch(left.min(BATCH_TXS as u64) as usize, &mut batch);
        left -= batch.len() as u64;
        engine.apply(&batch)?;
        let acked = engine.acknowledged();
        if acked > 0 {
            say(acked)?;
        }
    }
    engine.finished()?;
    say(txs_of(args))?;
    std::thread::sleep(PREY_WAITS);
    Err("nobody came to kill it".to_owned())
}

/// The process that opens what the prey left.
pub fn heir(dir: &Path, args: &Args) -> Result<Value, String> {
    let config = own_config(args, shards_of(args));
    let dir = dir.join("utxo");
    let on_disk = super::disk_bytes(&dir);
    let (began, cpu) = (Instant::now(), clock_s(ClockId::ProcessCPUTime));
    let mut store = open(&dir, &config)?;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    let cpu_s = clock_s(ClockId::ProcessCPUTime) - cpu;
    eprintln!("utxo: reopen: {}", store.report());
    let report = store.report().clone();
    let totals = store.store().totals();
    let (kind, why) = store.folder().backend();
    let backend = why.map_or_else(|| kind.to_owned(), |why| format!("{kind}: {why}"));
    let mut hash = StateHash::new();
    let each = &mut |outpoint: &_, coin: &Coin<'_>| hash.add(outpoint, coin);
    store.store().for_each_coin(each);
    let coins = hash.coins() as u64;
    if coins != args.records {
        return Err(format!("{coins} coins are there after the kill, expected {}", args.records));
    }
    Ok(json!({
        "records": args.records, "shards": shards_of(args), "backend": backend,
        "ms": round(ms), "cpu_ms": round(cpu_s * 1e3), "disk_bytes": on_disk,
        "records_replayed": report.records, "unmined": report.unmined,
        "redone_spends": report.mended.redone_spends, "cut_bytes": report.cut_bytes,
        "checkpoint_epoch": report.checkpoint, "complete_epoch": report.complete,
        "applied_txs": totals.transactions - args.records / 2,
        "state_hash": hex::encode(hash.finish()),
    }))
}
