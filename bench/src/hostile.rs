//! `hostile`: a running node under everything that is no request, beside honest load.
//!
//! In: our binary, and how long. Out: for each kind of attack how often it was tried and how the node answered, whether its
//! counter grew, how honest traffic fared, and the node's resident memory at one fifth of the time and at the end. The node is
//! started as its users start it; everything goes through its sockets. Kinds are a table (`kinds`); what goes over the wire is
//! written by hand (`wire`), since no client library sends what is sent here.

mod crowd;
mod kinds;
mod memory;
mod metrics;
mod wire;

use crate::nodes::metanode::{self, MetaNode};
use crate::nodes::{NodeError, failed};
use crate::rng::Rng;
use kinds::{KINDS, Port};
use load::evidence::Evidence;
use memory::Memory;
use metrics::Metrics;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wire::Outcome;

/// How much resident memory may grow between one fifth of the time and the end, percent.
const GROWTH_PCT_MAX: f64 = 2.0;
/// A block is mined so often, so that honest transactions do not pile up in the pool.
const BLOCK_EVERY: Duration = Duration::from_secs(2);
/// Between two tries of one kind.
const PAUSE: Duration = Duration::from_millis(40);
/// Honest transactions sent after the attack.
const AFTER_TXS: usize = 200;

#[derive(clap::Args)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Honest transactions a second
    #[arg(long, default_value_t = 50)]
    honest_rate: u32,
    /// Connections opened at once by the crowd
    #[arg(long, default_value_t = 10_000)]
    crowd: usize,
    /// Our binary (default: beside this one)
    #[arg(long)]
    metanode: Option<PathBuf>,
    /// Everything is drawn from it
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// How often a kind was tried and what came back.
#[derive(Default)]
struct Tried {
    times: u64,
    outcomes: BTreeMap<String, u64>,
    unexpected: Vec<String>,
}

/// Odd answers of one kind that are shown.
const UNEXPECTED_SHOWN: usize = 3;

pub fn main(args: &Args) -> ExitCode {
    let mut evidence = Evidence::new("bench-hostile/1", args.seed);
    match run(args, &mut evidence) {
        Ok(ok) => evidence.finish(ok, args.json),
        Err(error) => {
            eprintln!("hostile: {error}");
            evidence.set("error", error.to_string());
            evidence.finish(false, args.json)
        }
    }
}

fn run(args: &Args, evidence: &mut Evidence) -> Result<bool, NodeError> {
    let program = metanode::program(args.metanode.as_deref())?;
    let mut node = MetaNode::start(&program, &[])?;
    let total = Duration::from_secs_f64(args.minutes * 60.0);
    let before = Metrics::read(node.ops_port)?;
    let mut honest = honest(&program, &node, args.honest_rate, total)?;
    let began = Instant::now();
    let stop = AtomicBool::new(false);
    let (mut tried, mut crowd, mut memory) = (Vec::new(), crowd::Crowd::default(), Memory::new());
    let (mut blocks, mut mining) = (0u64, None);
    std::thread::scope(|scope| {
        let (node, stop) = (&node, &stop);
        let attacks: Vec<_> = KINDS
            .iter()
            .enumerate()
            .map(|(i, _)| scope.spawn(move || attack(i, node, args.seed, stop)))
            .collect();
        let crowding = scope.spawn(move || crowd::gather(node.submit_port, args.crowd, stop));
        let miner = scope.spawn(move || mine(node, stop));
        while began.elapsed() < total {
            std::thread::sleep(Duration::from_secs(1));
            memory.sample(node.running.pid(), began.elapsed());
            if memory.len() % 30 == 0 {
                eprintln!("hostile: {:>4.0} s, {}", began.elapsed().as_secs_f64(), memory.last());
            }
        }
        stop.store(true, Ordering::Relaxed);
        tried = attacks.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
        crowd = crowding.join().unwrap_or_default();
        match miner.join() {
            Ok(Ok(count)) => blocks = count,
            Ok(Err(error)) => mining = Some(error.to_string()),
            Err(_) => mining = Some("the miner's thread failed".to_owned()),
        }
    });
    let honest = finish(&mut honest)?;
    let after = Metrics::read(node.ops_port)?;
    let mut wrong = Vec::new();
    let ended = node.running.ended();
    if let Some(status) = ended {
        wrong.push(format!("the node ended: {status}"));
    }
    wrong.extend(mining.map(|error| format!("mining failed: {error}")));
    kinds_report(evidence, &tried, &before, &after, &mut wrong);
    let refused = after.sum("connections_refused_total", Some("submit"))
        - before.sum("connections_refused_total", Some("submit"));
    evidence.set(
        "crowd",
        json!({
            "size": args.crowd, "times": crowd.times, "opened_most": crowd.opened_most,
            "failed": crowd.failed, "refused_by_node": refused,
        }),
    );
    if crowd.times > 0 && refused <= 0.0 {
        wrong.push("the crowd was never refused at the door".to_owned());
    }
    judge_honest(&honest, &mut wrong);
    evidence.set("honest", honest);
    evidence.set("blocks_mined", blocks);
    let window = total / 10;
    let (early_mb, early_least_mb) = memory.around(total / 5, window);
    let (end_mb, end_least_mb) = memory.around(total, window);
    // Bodies of the attack, up to 32 MB each, come and go by the second: what stays shows in the median and in the least.
    let growth = |early: f64, end: f64| (end - early) * 100.0 / early.max(1.0);
    let growth_pct_least = growth(early_least_mb, end_least_mb);
    let growth_pct_median = growth(early_mb, end_mb);
    let growth_pct = growth_pct_least.min(growth_pct_median);
    evidence.set("minutes", args.minutes);
    evidence.set("rss_mb_at_2min", round1(early_least_mb));
    evidence.set("rss_mb_at_s", (total / 5).as_secs_f64());
    evidence.set("rss_mb_end", round1(end_least_mb));
    evidence.set("rss_mb_median", json!([round1(early_mb), round1(end_mb)]));
    evidence.set("growth_pct_median", round1(growth_pct_median));
    evidence.set("growth_pct_least", round1(growth_pct_least));
    evidence.set("growth_pct", (growth_pct * 100.0).round() / 100.0);
    evidence.set("rss_mb_series", memory.series(60));
    if growth_pct > GROWTH_PCT_MAX {
        wrong.push(format!(
            "resident memory grew by {growth_pct:.2} percent (least {early_least_mb:.1} to \
             {end_least_mb:.1} MB, median {early_mb:.1} to {end_mb:.1} MB), at most {GROWTH_PCT_MAX} are allowed"
        ));
    }
    let healthy = health(&program, &node, &mut wrong);
    evidence.set("healthy", healthy);
    evidence.set("wrong", json!(wrong));
    for wrong in &wrong {
        eprintln!("hostile: WRONG {wrong}");
    }
    Ok(wrong.is_empty())
}

/// One kind, again and again until told to stop.
fn attack(index: usize, node: &MetaNode, seed: u64, stop: &AtomicBool) -> Tried {
    let kind = &KINDS[index];
    let port = match kind.port {
        Port::Submit => node.submit_port,
        Port::Rpc => node.running.rpc_port,
        Port::Ops => node.ops_port,
    };
    let mut rng = Rng::new(seed ^ (index as u64) << 32);
    let mut tried = Tried::default();
    while !stop.load(Ordering::Relaxed) {
        let outcome = (kind.attack)(port, &node.running.credentials, &mut rng);
        tried.times += 1;
        let text = outcome.to_string();
        if !kind.expects(&outcome) && tried.unexpected.len() < UNEXPECTED_SHOWN {
            tried.unexpected.push(text.clone());
        }
        *tried.outcomes.entry(text).or_default() += 1;
        if outcome == Outcome::NotConnected {
            std::thread::sleep(Duration::from_millis(200));
        }
        std::thread::sleep(PAUSE);
    }
    tried
}

fn mine(node: &MetaNode, stop: &AtomicBool) -> Result<u64, NodeError> {
    // Pays to nobody: an address of regtest whose hash is all zeros.
    const NOBODY: &str = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8";
    let mut blocks = 0;
    let mut failures = 0;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(BLOCK_EVERY);
        match node.running.call("generatetoaddress", &json!([1, NOBODY])) {
            Ok(_) => blocks += 1,
            // Its connection may be one too many.
            Err(_) if failures < 10 => failures += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(blocks)
}

/// Starts honest load: p2pkh at a rate, for as long as the attack lasts.
fn honest(program: &Path, node: &MetaNode, rate: u32, total: Duration) -> Result<Child, NodeError> {
    let mut child = load_command(program, node)
        .args(["--rate", &rate.to_string(), "--duration", &total.as_secs_f64().to_string()])
        .args(["--connections", "4", "--no-ceiling"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed("starting metanode load", &error))?;
    // Its coins are prepared before the attack begins: it says "sending" when they are.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        child.stderr.take().expect("stderr was asked for"),
    ));
    for line in lines.by_ref().map_while(Result::ok) {
        if line.contains("sending") {
            // Somebody must read the rest, else a full pipe stops it.
            std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
            return Ok(child);
        }
        eprintln!("hostile: {line}");
    }
    let _ = child.wait();
    Err(NodeError("metanode load ended before it sent anything".to_owned()))
}

fn load_command(program: &Path, node: &MetaNode) -> Command {
    let mut command = Command::new(program);
    command
        .args(["load", "--json", "--target", &format!("http://127.0.0.1:{}", node.submit_port)])
        .args(["--rpc", &format!("rpc://127.0.0.1:{}", node.running.rpc_port), "--cookie"])
        .arg(node.running.folder().join("regtest/.cookie"))
        .stdin(Stdio::null());
    command
}

fn finish(child: &mut Child) -> Result<Value, NodeError> {
    let mut text = String::new();
    let mut out = child.stdout.take().expect("stdout was asked for");
    std::io::Read::read_to_string(&mut out, &mut text)
        .map_err(|error| failed("reading what metanode load printed", &error))?;
    let _ = child.wait();
    last_object(&text)
}

fn last_object(text: &str) -> Result<Value, NodeError> {
    let seen: Value = serde_json::from_str(text.lines().last().unwrap_or_default())
        .map_err(|error| failed("reading what metanode load printed", &error))?;
    let keys = ["ok", "sent", "unsent", "accepted", "rejected", "errors", "reasons", "latency_us"];
    Ok(Value::Object(keys.iter().map(|key| ((*key).to_owned(), seen[*key].clone())).collect()))
}

fn judge_honest(honest: &Value, wrong: &mut Vec<String>) {
    let count = |key: &str| honest[key].as_u64().unwrap_or(0);
    if honest["ok"] != true {
        wrong.push(format!("honest load does not reconcile: {honest}"));
    }
    if count("sent") == 0 || count("accepted") * 100 < count("sent") * 99 {
        wrong.push(format!("honest load was not served: {honest}"));
    }
}

fn kinds_report(
    evidence: &mut Evidence,
    tried: &[Tried],
    before: &Metrics,
    after: &Metrics,
    wrong: &mut Vec<String>,
) {
    let mut rows = Vec::new();
    for (kind, tried) in KINDS.iter().zip(tried) {
        let grew = after.sum(kind.counter, Some(kind.port.listener()))
            - before.sum(kind.counter, Some(kind.port.listener()));
        if tried.times == 0 {
            wrong.push(format!("{} was never tried", kind.name));
        }
        if grew <= 0.0 {
            wrong.push(format!("{}: the counter {} did not grow", kind.name, kind.counter));
        }
        for unexpected in &tried.unexpected {
            wrong.push(format!("{} was answered {unexpected}", kind.name));
        }
        let outcomes: Map<String, Value> =
            tried.outcomes.iter().map(|(text, count)| (text.clone(), (*count).into())).collect();
        rows.push(json!({
            "name": kind.name, "times": tried.times, "outcomes": outcomes,
            "counter": kind.counter, "counter_grew": grew,
        }));
    }
    evidence.set("kinds", rows);
}

/// After the attack: the node says it is well, and takes honest transactions as on the first day.
fn health(program: &Path, node: &MetaNode, wrong: &mut Vec<String>) -> bool {
    let before = wrong.len();
    for path in ["/health", "/readiness"] {
        match wire::get(node.ops_port, path) {
            Outcome::Answered(200) => {}
            other => wrong.push(format!("{path} after the attack: {other}")),
        }
    }
    let out = load_command(program, node)
        .args(["--rate", "max", "--txs", &AFTER_TXS.to_string(), "--connections", "2"])
        .args(["--no-ceiling", "--seed", "99"])
        .stderr(Stdio::null())
        .output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    match last_object(&text) {
        Ok(seen) if seen["accepted"] == AFTER_TXS => {}
        Ok(seen) => wrong.push(format!("honest load after the attack: {seen}")),
        Err(error) => wrong.push(format!("honest load after the attack: {error}")),
    }
    wrong.len() == before
}

fn round1(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}
