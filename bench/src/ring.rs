//! `bench ring`: one link beside the queues others use, in time and in instructions a message.
//!
//! Every row moves messages of one size from a producer to a consumer. Time: two threads, as many messages as fill a few tens
//! of milliseconds, median over rounds. Instructions: one thread that fills and drains in batches, counted by valgrind as a
//! difference, so that waiting is not in it. All of them carry the payload by value: a link's dcache is written in place
//! and read in place, `rtrb` writes and reads slots in place, crossbeam and std move an array in and out. Nothing allocates.

use crate::instructions::{Baseline, of_run, unavailable};
use ::ring::{Kind, Link, LinkSpec};
use crossbeam_queue::ArrayQueue;
use load::evidence::Evidence;
use serde_json::json;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

/// Messages a queue holds.
const DEPTH: usize = 1_024;
/// Messages moved at once where one thread does both.
const BATCH: usize = 64;
/// Rows: a request's worth, a transaction's, a frag's.
const PAYLOADS: [usize; 3] = [24, 250, 2_048];
const IMPLS: [&str; 4] = ["ring", "rtrb", "crossbeam_array_queue", "std_sync_channel"];
/// Batches of the counted runs.
const FEW: usize = 20;
const MANY: usize = 60;

/// A link beside rtrb, crossbeam and std: nanoseconds and instructions a message
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Messages a round
    #[arg(long, default_value_t = 400_000)]
    messages: usize,
    /// Rounds a row; the median counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Count instructions only, and fail where they are five percent above the baseline
    #[arg(long)]
    gate: bool,
    /// Write the instruction counts as the new baseline
    #[arg(long)]
    write_baseline: bool,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
    /// Move this many batches of IMPL:BYTES on one thread and print nothing: what valgrind counts
    #[arg(long, hide = true)]
    count: Option<String>,
    /// Batches of that
    #[arg(long, hide = true, default_value_t = FEW)]
    batches: usize,
}

/// The command.
pub fn main(args: &Args) -> ExitCode {
    if let Some(row) = &args.count {
        return count_me(row, args.batches);
    }
    let mut evidence = Evidence::new("bench-ring/1", 0);
    let counted = unavailable();
    if let Some(why) = counted {
        evidence.skip("instructions", why);
    }
    let mut baseline = Baseline::read("ring.json");
    let mut rows = Vec::new();
    let mut ok = true;
    for bytes in PAYLOADS {
        for name in IMPLS {
            let instructions = match counted {
                Some(_) => None,
                None => match instructions(name, bytes) {
                    Ok(count) => Some(count),
                    Err(why) => {
                        eprintln!("ring: {why}");
                        ok = false;
                        None
                    }
                },
            };
            // Rivals are measured, not gated.
            let ours = instructions.filter(|_| name == "ring");
            let change = ours.and_then(|count| baseline.note(&format!("ring_{bytes}"), count));
            let times = if args.gate { None } else { Some(time(name, bytes, args)) };
            let (ns, spread) = times.unzip();
            eprintln!(
                "ring: {name:<22} {bytes:>5} bytes  {:>8} instructions {:>8} ns",
                instructions.map_or("-".to_owned(), |n| n.to_string()),
                ns.map_or("-".to_owned(), |n| format!("{n:.1}"))
            );
            rows.push(json!({
                "impl": name, "payload_bytes": bytes, "instructions": instructions,
                "ns": ns.map(round), "spread": spread.map(round), "change_percent": change.map(round),
            }));
        }
    }
    evidence.set("rows", rows);
    if args.write_baseline {
        if let Err(error) = baseline.write() {
            eprintln!("ring: writing the baseline: {error}");
            ok = false;
        }
    } else {
        ok &= baseline.judge(&mut evidence);
    }
    evidence.finish(ok, args.json)
}

fn round(x: f64) -> f64 {
    (x * 1_000.0).round() / 1_000.0
}

/// Instructions of one message.
fn instructions(name: &str, bytes: usize) -> Result<u64, String> {
    let row = format!("{name}:{bytes}");
    let run = |batches: usize| {
        let batches = batches.to_string();
        of_run(&["ring", "--count", &row, "--batches", &batches], None)
    };
    Ok(run(MANY)?.saturating_sub(run(FEW)?) / ((MANY - FEW) * BATCH) as u64)
}

fn count_me(row: &str, batches: usize) -> ExitCode {
    let parsed = row.split_once(':').and_then(|(name, bytes)| Some((name, bytes.parse().ok()?)));
    let Some((name, bytes)) = parsed else { return ExitCode::from(2) };
    let Some((mut send, mut receive)) = pair(name, bytes) else { return ExitCode::from(2) };
    for _ in 0..batches {
        assert_eq!(send(BATCH), BATCH, "an empty queue takes a batch");
        assert_eq!(receive(BATCH), BATCH, "what was sent is there");
    }
    ExitCode::SUCCESS
}

/// Median nanoseconds of a message from thread to thread, and the distance of the quartiles beside it.
fn time(name: &str, bytes: usize, args: &Args) -> (f64, f64) {
    let mut all: Vec<f64> = (0..args.rounds.max(1))
        .map(|_| {
            let (mut send, mut receive) = pair(name, bytes).expect("rows name what there is");
            let messages = args.messages;
            std::thread::scope(|scope| {
                let began = Instant::now();
                scope.spawn(move || {
                    let mut sent = 0;
                    while sent < messages {
                        let more = send((messages - sent).min(BATCH));
                        sent += more;
                        if more == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
                let mut got = 0;
                while got < messages {
                    let more = receive((messages - got).min(BATCH));
                    got += more;
                    if more == 0 {
                        std::thread::yield_now();
                    }
                }
                began.elapsed().as_nanos() as f64 / messages as f64
            })
        })
        .collect();
    all.sort_by(f64::total_cmp);
    let median = all[all.len() / 2];
    (median, (all[all.len() * 3 / 4] - all[all.len() / 4]) / median)
}

/// Sends or receives up to so many messages, and says how many.
type End = Box<dyn FnMut(usize) -> usize + Send>;

/// Both ends of a queue for messages of `bytes` bytes.
fn pair(name: &str, bytes: usize) -> Option<(End, End)> {
    match bytes {
        24 => pair_of::<24>(name),
        250 => pair_of::<250>(name),
        2_048 => pair_of::<2_048>(name),
        _ => None,
    }
}

fn pair_of<const N: usize>(name: &str) -> Option<(End, End)> {
    match name {
        "ring" => Some(link::<N>()),
        "rtrb" => Some(slots::<N>()),
        "crossbeam_array_queue" => Some(array_queue::<N>()),
        "std_sync_channel" => Some(channel::<N>()),
        _ => None,
    }
}

/// Calls `one` until it has no more, at most `n` times.
fn repeat(n: usize, mut one: impl FnMut() -> bool) -> usize {
    (0..n).take_while(|_| one()).count()
}

fn link<const N: usize>() -> (End, End) {
    let spec = LinkSpec::new("bench_bench", DEPTH as u64, N, Kind::Lossless);
    let link = Link::anonymous(&spec).expect("a small link can be mapped");
    let mut producer = link.producer().expect("its first producer");
    let mut consumer = link.consumer(0).expect("its first consumer");
    let payload = black_box([7_u8; N]);
    let send = move |n| repeat(n, || producer.publish(1, 0, &payload).is_ok());
    let receive = move |n| {
        let got = repeat(n, || consumer.poll().map(|frag| black_box(frag.bytes[0])).is_some());
        consumer.return_credit();
        got
    };
    (Box::new(send), Box::new(receive))
}

fn slots<const N: usize>() -> (End, End) {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<[u8; N]>::new(DEPTH);
    let payload = black_box([7_u8; N]);
    let send = move |n| repeat(n, || producer.push(payload).is_ok());
    let receive = move |n| {
        repeat(n, || {
            let there = consumer.peek().map(|message| black_box(message[0])).is_ok();
            if there {
                // In place, as a link is read: the slot is let go without moving its bytes out.
                consumer.read_chunk(1).expect("it was just there").commit_all();
            }
            there
        })
    };
    (Box::new(send), Box::new(receive))
}

fn array_queue<const N: usize>() -> (End, End) {
    let queue = Arc::new(ArrayQueue::<[u8; N]>::new(DEPTH));
    let payload = black_box([7_u8; N]);
    let from = queue.clone();
    let send = move |n| repeat(n, || queue.push(payload).is_ok());
    let receive = move |n| repeat(n, || from.pop().map(black_box).is_some());
    (Box::new(send), Box::new(receive))
}

fn channel<const N: usize>() -> (End, End) {
    let (sender, receiver) = sync_channel::<[u8; N]>(DEPTH);
    let payload = black_box([7_u8; N]);
    let send = move |n| repeat(n, || sender.try_send(payload).is_ok());
    let receive = move |n| repeat(n, || receiver.try_recv().map(black_box).is_ok());
    (Box::new(send), Box::new(receive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_moves_every_message() {
        for bytes in PAYLOADS {
            for name in IMPLS {
                let (mut send, mut receive) = pair(name, bytes).expect("a row");
                for _ in 0..3 {
                    assert_eq!(send(DEPTH), DEPTH, "{name}");
                    assert_eq!(send(1), 0, "{name} takes more than it holds");
                    assert_eq!(receive(DEPTH + 1), DEPTH, "{name}");
                }
            }
        }
    }
}
