//! `crash`: a node killed under load at moments a seed draws, again and again, and what comes back each time.
//!
//! In: our binary, started as its users start it, with `--durability epoch`. A round sends transactions over several connections,
//! half of them with `?durable=1`, mines now and then, kills the process with SIGKILL, and starts it again in the same directory;
//! sometimes it is killed once more while it starts. Out: what was lost of what was acknowledged as durable (transactions and
//! blocks), what is there that nobody sent, and where the node's coins differ from an account of our own, kept from the raw bytes of
//! blocks and transactions ([`Ledger`]). All three must be nothing. Kills fall into blocks, reorganisations, checkpoints and recoveries.

use crate::nodes::client::{Client, mine, signed};
use crate::nodes::metanode::{self, MetaNode};
use crate::nodes::{NodeError, exchange, failed};
use crate::rng::Rng;
use consensus::hash::TxId;
use consensus::params::{ChainParams, Network};
use consensus::tx::{OutPoint, Tx};
use control_plane::ledger::Ledger;
use load::evidence::Evidence;
use load::{Offer, Options, Workload};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Transactions sent in a round, at most.
const ROUND_TXS: usize = 1_200;
/// Connections; every other one asks for durable answers.
const CONNECTIONS: usize = 4;
/// Transactions of one request, at most.
const BATCH_MAX: u64 = 24;
/// Longest time from the first transaction of a round to the kill.
const KILL_MS_MAX: u64 = 900;
/// Calls in one request.
const CALLS: usize = 1_000;
/// Rounds in which everything happens at least once.
const ROUNDS_OF_ALL: u64 = 10;
/// What every node of this run is told: checkpoints come every few rounds.
const FLAGS: [&str; 4] = ["--durability", "epoch", "--journal-bytes", "256K"];
/// Blocks of a round that are taken back and made anew, at most.
const REORGS_MAX: u64 = 3;

#[derive(clap::Args)]
pub struct Args {
    /// Rounds
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Our binary (default: beside this one)
    #[arg(long)]
    metanode: Option<PathBuf>,
    /// Everything is drawn from it but the moments the processor gives
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    rounds: u64,
    kills: u64,
    /// Killed while they started.
    kills_at_start: u64,
    /// Transactions acknowledged as durable, blocks acknowledged.
    acked: u64,
    acked_blocks: u64,
    /// Times in which blocks were taken off the chain, and checkpoints that were there after a restart.
    reorgs: u64,
    checkpoints: u64,
    lost_acked: u64,
    phantom: u64,
    mismatch: u64,
    reopen_ms: Vec<f64>,
    /// Transactions that were in the pool after a restart, all rounds together.
    recovered: u64,
    wrong: Vec<String>,
}

pub fn main(args: &Args) -> ExitCode {
    let mut evidence = Evidence::new("bench-crash/1", args.seed);
    let mut found = Found::default();
    if let Err(error) = run(args, &mut found) {
        found.wrong.push(error.to_string());
    }
    for wrong in found.wrong.iter().take(20) {
        eprintln!("crash: WRONG {wrong}");
    }
    found.reopen_ms.sort_by(f64::total_cmp);
    let ms = |at: usize| found.reopen_ms.get(at).map_or(Value::Null, |ms| json!(ms.round()));
    evidence.set("rounds", found.rounds);
    evidence.set("kills", found.kills);
    evidence.set("kills_at_start", found.kills_at_start);
    evidence.set("acked", found.acked);
    evidence.set("acked_blocks", found.acked_blocks);
    evidence.set("reorgs", found.reorgs);
    evidence.set("checkpoints", found.checkpoints);
    evidence.set("lost_acked", found.lost_acked);
    evidence.set("phantom", found.phantom);
    evidence.set("mismatch", found.mismatch);
    evidence.set("recovered", found.recovered);
    let last = found.reopen_ms.len().saturating_sub(1);
    evidence.set("reopen_ms", json!({ "p50": ms(found.reopen_ms.len() / 2), "max": ms(last) }));
    evidence.set("wrong", json!(found.wrong));
    let is_nothing = found.lost_acked + found.phantom + found.mismatch == 0;
    evidence.aim("lost_acked", 0.0, found.lost_acked as f64, found.lost_acked == 0);
    evidence.aim("phantom", 0.0, found.phantom as f64, found.phantom == 0);
    evidence.aim("mismatch", 0.0, found.mismatch as f64, found.mismatch == 0);
    // A run in which nothing was promised proves nothing.
    let promised = found.acked > 0 && found.recovered > 0;
    // Few rounds may come by without a checkpoint or a reorganisation.
    let seen = found.rounds < ROUNDS_OF_ALL || (found.checkpoints > 0 && found.reorgs > 0);
    let ok = found.wrong.is_empty() && is_nothing && promised && seen;
    evidence.finish(ok, args.json)
}

/// What is known about everything that was ever sent.
struct World {
    node: MetaNode,
    offer: Offer,
    /// By name, the place in the offer.
    places: HashMap<String, usize>,
    /// The account of the chain, up to its height.
    ledger: Ledger,
    height: u64,
    mined: HashSet<String>,
    acked: HashSet<usize>,
    acked_blocks: Vec<String>,
    /// What was mined since it was compared last.
    fresh: Vec<String>,
    /// Epoch of the newest checkpoint.
    checkpoint: u64,
}

fn run(args: &Args, found: &mut Found) -> Result<(), NodeError> {
    let program = metanode::program(args.metanode.as_deref())?;
    let node = MetaNode::start(&program, &FLAGS)?;
    let options = Options::new(Workload::Mixed, args.rounds.max(1) * ROUND_TXS, args.seed);
    let offer = signed(&node, options)?;
    let places = offer.iter().map(|o| (o.txid.to_string(), o.place as usize)).collect();
    let mut world = World {
        node,
        places,
        offer,
        ledger: Ledger::new(ChainParams::of(Network::Regtest)),
        height: 0,
        mined: HashSet::new(),
        acked: HashSet::new(),
        acked_blocks: Vec::new(),
        fresh: Vec::new(),
        checkpoint: 0,
    };
    world.follow(&mut Found::default())?;
    // What the load is made of, not the load.
    world.mined.clear();
    world.fresh.clear();
    let mut rng = Rng::new(args.seed);
    for round in 0..args.rounds {
        let done = world.round(round, &program, &mut rng, found);
        if let Err(error) = done {
            return Err(NodeError(format!("round {round}: {error}\n{}", world.node.last_words())));
        }
        found.rounds += 1;
    }
    Ok(())
}

impl World {
    fn round(
        &mut self,
        round: usize,
        program: &Path,
        rng: &mut Rng,
        found: &mut Found,
    ) -> Result<(), NodeError> {
        let (from, to) = (round * ROUND_TXS, ((round + 1) * ROUND_TXS).min(self.offer.len()));
        let next = AtomicUsize::new(from);
        let stop = AtomicBool::new(false);
        let acked = Mutex::new(Vec::new());
        let batch = 1 + rng.below(BATCH_MAX) as usize;
        let until = Duration::from_micros(rng.below(KILL_MS_MAX * 1_000));
        let (blocks, reorgs) = (rng.below(3), rng.below(REORGS_MAX + 1));
        let taken_back = AtomicUsize::new(0);
        let began = Instant::now();
        let mined = std::thread::scope(|scope| -> Result<Vec<String>, NodeError> {
            for connection in 0..CONNECTIONS {
                let (next, stop, acked, this) = (&next, &stop, &acked, &*self);
                scope.spawn(move || this.send(connection % 2 == 0, batch, to, next, stop, acked));
            }
            let (node, taken_back) = (&self.node, &taken_back);
            let miner = scope.spawn(move || {
                let mut mined = Vec::new();
                for _ in 0..blocks {
                    std::thread::sleep(Duration::from_millis(120));
                    let Ok(hashes) = mine(node, 1) else { return mined };
                    mined.extend(hashes);
                }
                for _ in 0..reorgs {
                    // Blocks of this round: those before are in the account.
                    let Some(first) = mined.first().map(|hash| json!([hash])) else { break };
                    let more = mined.len() as u32 + 1;
                    // Nobody is promised any longer that they stand.
                    mined.clear();
                    if node.running.call("invalidateblock", &first).is_err() {
                        break;
                    }
                    taken_back.fetch_add(1, Ordering::Relaxed);
                    mined = mine(node, more).unwrap_or_default();
                }
                mined
            });
            std::thread::sleep(until.saturating_sub(began.elapsed()));
            // By its number: the threads hold the node meanwhile.
            signal_kill(self.node.running.pid())?;
            stop.store(true, Ordering::Relaxed);
            Ok(miner.join().unwrap_or_default())
        })?;
        self.acked_blocks.extend(mined);
        found.reorgs += taken_back.into_inner() as u64;
        self.node.running.kill()?;
        found.kills += 1;
        let acked = acked.into_inner().expect("no sender panics with the list");
        found.acked += acked.len() as u64;
        self.acked.extend(acked);
        if rng.one_in(3) {
            // Once more, while it comes up.
            self.node.restart_with(program, &FLAGS)?;
            std::thread::sleep(Duration::from_millis(rng.below(150)));
            self.node.running.kill()?;
            found.kills += 1;
            found.kills_at_start += 1;
        }
        let began = Instant::now();
        self.node.restart_with(program, &FLAGS)?;
        self.node.until_ready()?;
        found.reopen_ms.push(began.elapsed().as_secs_f64() * 1e3);
        let checkpoint = checkpoint_of(self.node.running.folder());
        found.checkpoints += u64::from(checkpoint > self.checkpoint);
        self.checkpoint = checkpoint;
        self.judge(round, next.load(Ordering::Relaxed).min(to), found)
    }

    /// Sends what nobody else has sent yet until all is sent or the node is gone.
    fn send(
        &self,
        durable: bool,
        batch: usize,
        to: usize,
        next: &AtomicUsize,
        stop: &AtomicBool,
        acked: &Mutex<Vec<usize>>,
    ) {
        let Ok(mut client) = Client::open(self.node.submit_port) else { return };
        let path = if durable { "/txs?durable=1" } else { "/txs" };
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(batch, Ordering::Relaxed);
            let end = (at + batch).min(to);
            if at >= end {
                return;
            }
            let body: Vec<u8> = (at..end).flat_map(|i| self.offer.get(i).bytes.to_vec()).collect();
            let Ok((status, answer)) = client.post(path, &body) else { return };
            if !durable || status == 503 {
                continue;
            }
            let rows: Vec<Value> = serde_json::from_slice(&answer).unwrap_or_default();
            let is_in = |row: &Value| row["verdict"] == "accepted" || row["verdict"] == "known";
            let kept = (at..end).zip(&rows).filter(|(_, row)| is_in(row)).map(|(place, _)| place);
            acked.lock().expect("no sender panics with the list").extend(kept);
        }
    }

    /// Brings the account up to the tip.
    fn follow(&mut self, found: &mut Found) -> Result<(), NodeError> {
        let call = |method: &str, params: Value| self.node.running.call(method, &params);
        let tip = call("getblockcount", json!([]))?.as_u64().unwrap_or(0);
        if tip < self.height {
            found.lost_acked += 1;
            found.wrong.push(format!("the tip was {} and is {tip}", self.height));
        }
        for height in self.height + 1..=tip {
            let hash = call("getblockhash", json!([height]))?;
            let raw = call("getblock", json!([hash, 0]))?;
            let raw = hex::decode(raw.as_str().unwrap_or_default())
                .map_err(|error| failed("reading a block", &error))?;
            match self.ledger.apply(&raw) {
                Ok(applied) => {
                    self.fresh.extend(applied.txids[1..].iter().map(TxId::to_string));
                }
                Err(error) => {
                    found.mismatch += 1;
                    found.wrong.push(error.to_string());
                    break;
                }
            }
            self.height = height;
        }
        self.mined.extend(self.fresh.iter().cloned());
        Ok(())
    }

    /// What came back against what was promised, what was sent, and the account.
    fn judge(&mut self, round: usize, sent: usize, found: &mut Found) -> Result<(), NodeError> {
        for hash in &self.acked_blocks {
            let header = self.node.running.call("getblockheader", &json!([hash]));
            let stands = header.is_ok_and(|h| h["confirmations"].as_i64().unwrap_or(-1) > 0);
            if !stands {
                found.lost_acked += 1;
                found
                    .wrong
                    .push(format!("round {round}: block {hash} was acknowledged and is gone"));
            }
        }
        found.acked_blocks += self.acked_blocks.len() as u64;
        self.acked_blocks.clear();
        self.follow(found)?;
        let pool = self.node.running.call("getrawmempool", &json!([]))?;
        let pool: Vec<String> = pool
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        found.recovered += pool.len() as u64;
        let in_pool: HashSet<&str> = pool.iter().map(String::as_str).collect();
        for &place in &self.acked {
            let name = self.offer.get(place).txid.to_string();
            if !in_pool.contains(name.as_str()) && !self.mined.contains(&name) {
                found.lost_acked += 1;
                found.wrong.push(format!("round {round}: {name} was acknowledged and is gone"));
            }
        }
        let was_sent = |name: &str| self.places.get(name).is_some_and(|&place| place < sent);
        for name in pool.iter().chain(&self.mined) {
            if !was_sent(name) {
                found.phantom += 1;
                found.wrong.push(format!("round {round}: {name} is there and nobody sent it"));
            }
        }
        let wrong = self.compare(&pool)?;
        self.fresh.clear();
        found.mismatch += wrong.len() as u64;
        found.wrong.extend(wrong.into_iter().map(|what| format!("round {round}: {what}")));
        eprintln!(
            "crash: round {round}: {sent} sent so far, {} acknowledged, {} in blocks, {} came back in the pool, \
             up again in {:.0} ms",
            self.acked.len(),
            self.mined.len(),
            pool.len(),
            found.reopen_ms.last().copied().unwrap_or(0.0)
        );
        // What is in blocks is in the account now, and is looked at once.
        self.acked.retain(|&place| !self.mined.contains(&self.offer.get(place).txid.to_string()));
        Ok(())
    }

    /// Where the node's coins differ from the account's: how many there are, and each coin that the pool or this round has touched.
    fn compare(&self, pool: &[String]) -> Result<Vec<String>, NodeError> {
        let mut expected: BTreeMap<OutPoint, Option<u64>> = BTreeMap::new();
        let parse = |name: &str| {
            let place = self.places.get(name)?;
            Tx::parse(self.offer.get(*place).bytes).ok()
        };
        let txs: Vec<Tx> = pool.iter().filter_map(|name| parse(name)).collect();
        let mut coins = self.ledger.len();
        for tx in &txs {
            let txid = tx.txid();
            for (vout, output) in tx.outputs.iter().enumerate() {
                if !output.locking_script.starts_with(&[0x00, 0x6a])
                    && !output.locking_script.starts_with(&[0x6a])
                {
                    coins += 1;
                }
                let at = OutPoint { txid, vout: vout as u32 };
                expected.insert(at, Some(output.value_sat as u64));
            }
        }
        for tx in &txs {
            for input in &tx.inputs {
                coins -= 1;
                expected.insert(input.prev, None);
            }
        }
        for name in &self.fresh {
            let Some(tx) = parse(name) else { continue };
            for vout in 0..tx.outputs.len() as u32 {
                let at = OutPoint { txid: tx.txid(), vout };
                let value = self.ledger.coin(&at).map(|coin| coin.value_sat);
                expected.entry(at).or_insert(value);
            }
        }
        let mut wrong = Vec::new();
        let asked: Vec<(&OutPoint, &Option<u64>)> = expected.iter().collect();
        for piece in asked.chunks(CALLS) {
            let params: Vec<Value> =
                piece.iter().map(|(at, _)| json!([at.txid.to_string(), at.vout, true])).collect();
            let answers = self.node.running.call_many("gettxout", &params)?;
            for ((at, expected), answer) in piece.iter().zip(answers) {
                let got = answer["value"].as_f64().map(|bsv| (bsv * 1e8).round() as u64);
                // Data outputs are no coins.
                if got != **expected && **expected != Some(0) {
                    wrong.push(format!("coin {at} is {got:?}, expected {expected:?}"));
                }
            }
        }
        let got = utxos(self.node.ops_port)?;
        if got != coins as u64 {
            wrong.push(format!("the node counts {got} coins, the account {coins}"));
        }
        Ok(wrong)
    }
}

/// Epoch of the checkpoint that the manifest names; 0 for none. Source: docs/journal.md.
fn checkpoint_of(folder: &Path) -> u64 {
    let manifest = std::fs::read(folder.join("regtest/utxo/MANIFEST")).unwrap_or_default();
    let epoch = manifest.get(24..32).and_then(|bytes| bytes.try_into().ok());
    epoch.map_or(0, u64::from_le_bytes)
}

/// Coins of all shards together, as the node counts them.
fn utxos(ops_port: u16) -> Result<u64, NodeError> {
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // Tiles bring their counters up to date now and then.
    std::thread::sleep(Duration::from_millis(60));
    let answer = exchange(ops_port, request).map_err(|error| failed("reading /metrics", &error))?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let values = text
        .lines()
        .filter(|line| line.starts_with("metanode_shard_utxos{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(values.sum::<f64>() as u64)
}

fn signal_kill(pid: u32) -> Result<(), NodeError> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| NodeError("a process without a number".to_owned()))?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        .map_err(|error| failed("killing the node", &error))
}
