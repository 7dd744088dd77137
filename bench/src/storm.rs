//! `storm`: what breaks nodes that are otherwise well: rivals at the same moment, a chain without end, a kill in the middle.
//!
//! In: our binary, started as its users start it. Out: for each storm what was counted, and whether it is what it must be:
//! of two rivals sent over two connections at the same moment exactly one is accepted and mined; a chain of unconfirmed
//! transactions is accepted whole and fits one block; after `kill -9` under load every block that was acknowledged is
//! there, what was mined cannot be spent again, what was not is in the pool or can be sent again.

use crate::nodes::client::{Client, mine, signed};
use crate::nodes::metanode::{self, MetaNode};
use crate::nodes::{NodeError, failed};
use load::evidence::Evidence;
use load::{Inject, Kind, Offer, Options, Workload};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Transactions of one request.
const BATCH: usize = 500;
#[derive(clap::Args)]
pub struct Args {
    /// Pairs of rivals
    #[arg(long, default_value_t = 3_000)]
    rivals: usize,
    /// Length of the unconfirmed chain
    #[arg(long, default_value_t = 25_000)]
    chain: usize,
    /// Kills
    #[arg(long, default_value_t = 3)]
    kills: usize,
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

pub fn main(args: &Args) -> ExitCode {
    let mut evidence = Evidence::new("bench-storm/1", args.seed);
    let mut wrong = Vec::new();
    let done = run(args, &mut evidence, &mut wrong);
    if let Err(error) = done {
        wrong.push(error.to_string());
    }
    for wrong in &wrong {
        eprintln!("storm: WRONG {wrong}");
    }
    let ok = wrong.is_empty();
    evidence.set("wrong", json!(wrong));
    evidence.finish(ok, args.json)
}

fn run(args: &Args, evidence: &mut Evidence, wrong: &mut Vec<String>) -> Result<(), NodeError> {
    let program = metanode::program(args.metanode.as_deref())?;
    evidence.set("rivals", rivals(args, &program, wrong)?);
    evidence.set("chain", chain(args, &program, wrong)?);
    evidence.set("kills", kills(args, &program, wrong)?);
    Ok(())
}

fn txids_of(node: &MetaNode, block: &str) -> Result<HashSet<String>, NodeError> {
    let block = node.running.call("getblock", &json!([block, 1]))?;
    let ids = block["tx"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(ids.map(str::to_owned).collect())
}

fn rivals(args: &Args, program: &Path, wrong: &mut Vec<String>) -> Result<Value, NodeError> {
    let node = MetaNode::start(program, &[])?;
    let inject = Inject { double_spends: args.rivals, ..Inject::none() };
    let options = Options::new(Workload::P2pkh, args.rivals, args.seed);
    let offer = signed(&node, Options { inject, ..options })?;
    let pairs: Vec<(usize, usize)> = offer
        .iter()
        .filter_map(|o| match o.kind {
            Kind::DoubleSpend { of } => Some((of as usize, o.place as usize)),
            _ => None,
        })
        .collect();
    let barrier = Barrier::new(2);
    let side = |which: usize| -> Result<Vec<bool>, NodeError> {
        let mut client = Client::open(node.submit_port)
            .map_err(|error| failed("connecting to the submit interface", &error))?;
        let mut accepted = Vec::with_capacity(pairs.len());
        for (at, pair) in pairs.iter().enumerate() {
            // Each side is first half of the time.
            let place = if (at % 2 == 0) == (which == 0) { pair.0 } else { pair.1 };
            barrier.wait();
            accepted.push(client.tx(offer.get(place).bytes).is_ok_and(|(is_in, _)| is_in));
        }
        Ok(accepted)
    };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| side(0));
        let second = scope.spawn(|| side(1));
        (first.join(), second.join())
    });
    let gone = |_| NodeError("a thread of the storm failed".to_owned());
    let (first, second) = (first.map_err(gone)??, second.map_err(gone)??);
    let (mut both, mut neither) = (0, 0);
    for (a, b) in first.iter().zip(&second) {
        both += u64::from(*a && *b);
        neither += u64::from(!*a && !*b);
    }
    let mined = mine(&node, 1)?;
    let ids = txids_of(&node, mined.first().map_or("", String::as_str))?;
    let is_in = |place: usize| ids.contains(&offer.get(place).txid.to_string());
    let mined_once = pairs.iter().filter(|(a, b)| is_in(*a) != is_in(*b)).count();
    if both + neither > 0 || mined_once != pairs.len() {
        wrong.push(format!(
            "of {} pairs of rivals {both} were both accepted, {neither} neither; {mined_once} have \
             exactly one in the block",
            pairs.len()
        ));
    }
    let firsts = first.iter().filter(|won| **won).count();
    eprintln!("storm: {} pairs of rivals, {firsts} won by the first connection", pairs.len());
    Ok(json!({
        "pairs": pairs.len(), "both": both, "neither": neither, "won_by_first": firsts,
        "mined_exactly_one": mined_once,
    }))
}

fn chain(args: &Args, program: &Path, wrong: &mut Vec<String>) -> Result<Value, NodeError> {
    let node = MetaNode::start(program, &[])?;
    let offer = signed(&node, Options::new(Workload::Chain, args.chain, args.seed))?;
    let mut client = Client::open(node.submit_port)
        .map_err(|error| failed("connecting to the submit interface", &error))?;
    let began = Instant::now();
    let mut accepted = 0;
    let mut first_refused = None;
    for start in (0..offer.len()).step_by(BATCH) {
        let end = (start + BATCH).min(offer.len());
        let body: Vec<u8> = (start..end).flat_map(|i| offer.get(i).bytes.to_vec()).collect();
        let (status, answer) =
            client.post("/txs", &body).map_err(|error| failed("posting a chain", &error))?;
        let rows: Vec<Value> = serde_json::from_slice(&answer).unwrap_or_default();
        let here = rows.iter().filter(|row| row["verdict"] == "accepted").count();
        accepted += here;
        if here != end - start && first_refused.is_none() {
            let row = rows.iter().find(|row| row["verdict"] != "accepted");
            first_refused = Some(format!("{status} {}", row.unwrap_or(&Value::Null)));
        }
    }
    let accept_s = began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mined = mine(&node, 1)?;
    let mine_s = began.elapsed().as_secs_f64();
    let in_block = txids_of(&node, mined.first().map_or("", String::as_str))?.len();
    if accepted != offer.len() || in_block != offer.len() + 1 {
        wrong.push(format!(
            "of a chain of {} {accepted} were accepted and {in_block} are in the block with its \
             coinbase; the first refusal is {}",
            offer.len(),
            first_refused.unwrap_or_else(|| "none".to_owned())
        ));
    }
    eprintln!("storm: a chain of {accepted} in {accept_s:.2} s, mined in {mine_s:.2} s");
    Ok(json!({
        "length": offer.len(), "accepted": accepted, "accept_s": accept_s,
        "tx_per_s": (accepted as f64 / accept_s).round(), "in_block": in_block, "mine_s": mine_s,
    }))
}

fn kills(args: &Args, program: &Path, wrong: &mut Vec<String>) -> Result<Value, NodeError> {
    let mut node = MetaNode::start(program, &[])?;
    let mut rows = Vec::new();
    for kill in 0..args.kills {
        // Other keys each time, so that no coin of an earlier life is wanted again.
        let options = Options::new(Workload::P2pkh, 20_000, args.seed + 1 + kill as u64);
        let offer = signed(&node, options)?;
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut acknowledged = Vec::new();
        let killed = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| send_all(node.submit_port, &offer, &next, &stop));
            }
            let until = Instant::now() + Duration::from_millis(1_500 + 400 * kill as u64);
            while Instant::now() < until {
                match mine(&node, 1) {
                    Ok(hashes) => acknowledged.extend(hashes),
                    Err(error) => return Err(error),
                }
                std::thread::sleep(Duration::from_millis(150));
            }
            // Not asked politely.
            let killed = node.running.kill();
            stop.store(true, Ordering::Relaxed);
            killed
        });
        killed?;
        let began = Instant::now();
        node.restart(program)?;
        let restart_s = began.elapsed().as_secs_f64();
        let mut lost = 0;
        let mut mined: HashSet<String> = HashSet::new();
        for hash in &acknowledged {
            match node.running.call("getblockheader", &json!([hash])) {
                Ok(header) if header["confirmations"].as_i64().unwrap_or(-1) > 0 => {}
                _ => lost += 1,
            }
        }
        let tip = node.running.call("getblockcount", &json!([]))?.as_u64().unwrap_or(0);
        for height in 0..=tip {
            let hash = node.running.call("getblockhash", &json!([height]))?;
            mined.extend(txids_of(&node, hash.as_str().unwrap_or_default())?);
        }
        let (again, wrong_verdicts) = resend(&node, &offer, &mined)?;
        let sent = next.load(Ordering::Relaxed).min(offer.len());
        if lost > 0 || wrong_verdicts > 0 {
            wrong.push(format!(
                "kill {kill}: {lost} of {} acknowledged blocks are gone, {wrong_verdicts} of {} \
                 transactions sent again got another verdict than the chain says",
                acknowledged.len(),
                offer.len()
            ));
        }
        let was_mined = offer.iter().filter(|o| mined.contains(&o.txid.to_string())).count();
        eprintln!(
            "storm: kill {kill} after {sent} sent and {} blocks: up again in {restart_s:.2} s, {lost} blocks \
             lost, {was_mined} mined, {again} accepted again",
            acknowledged.len()
        );
        rows.push(json!({
            "sent": sent, "blocks": acknowledged.len(), "blocks_lost": lost, "mined": was_mined,
            "accepted_again": again, "wrong_verdicts": wrong_verdicts, "restart_s": restart_s,
        }));
        mine(&node, 1)?;
    }
    Ok(rows.into())
}

/// Sends what nobody else has sent yet until all is sent or the node is gone.
fn send_all(port: u16, offer: &Offer, next: &AtomicUsize, stop: &AtomicBool) {
    let Ok(mut client) = Client::open(port) else { return };
    while !stop.load(Ordering::Relaxed) {
        let at = next.fetch_add(1, Ordering::Relaxed);
        if at >= offer.len() || client.tx(offer.get(at).bytes).is_err() {
            return;
        }
    }
}

/// Sends everything again to the restarted node: how many were accepted, and how many verdicts do not fit the chain.
fn resend(
    node: &MetaNode,
    offer: &Offer,
    mined: &HashSet<String>,
) -> Result<(usize, usize), NodeError> {
    let mut client = Client::open(node.submit_port)
        .map_err(|error| failed("connecting to the restarted node", &error))?;
    let (mut accepted, mut wrong) = (0, 0);
    for start in (0..offer.len()).step_by(BATCH) {
        let end = (start + BATCH).min(offer.len());
        let body: Vec<u8> = (start..end).flat_map(|i| offer.get(i).bytes.to_vec()).collect();
        let (_, answer) =
            client.post("/txs", &body).map_err(|error| failed("posting again", &error))?;
        let rows: Vec<Value> = serde_json::from_slice(&answer).unwrap_or_default();
        if rows.len() != end - start {
            wrong += end - start;
            continue;
        }
        for (row, place) in rows.iter().zip(start..end) {
            let is_new = row["verdict"] == "accepted";
            // What came back with the journal is known, in a block or in the pool.
            let is_in = is_new || row["verdict"] == "known";
            accepted += usize::from(is_new);
            let is_mined = mined.contains(&offer.get(place).txid.to_string());
            wrong += usize::from(!is_in || is_new && is_mined);
        }
    }
    Ok((accepted, wrong))
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::hash::TxId;
    use consensus::tx::Tx;
    use load::Plan;

    #[test]
    fn rivals_of_a_plan_spend_the_same_coin() {
        let inject = Inject { double_spends: 20, ..Inject::none() };
        let options = Options { inject, keys: 8, ..Options::new(Workload::P2pkh, 20, 1) };
        let plan = Plan::new(options);
        let coinbase = load::Coinbase { txid: TxId::of(b"x"), value_sat: 5_000_000_000 };
        let offer = plan.sign(&plan.fan_out(&[coinbase], 5_000_000_000).coins);
        let mut pairs = 0;
        for rival in offer.iter() {
            let Kind::DoubleSpend { of } = rival.kind else { continue };
            let prev = |bytes| Tx::parse(bytes).expect("a transaction").inputs[0].prev;
            assert_eq!(prev(rival.bytes), prev(offer.get(of as usize).bytes));
            pairs += 1;
        }
        assert_eq!(pairs, 20);
    }
}
