//! `bench consensus`: what the rules cost, in nanoseconds and in instructions.
//!
//! Each kernel is a closure over data that is ready; time is the median of many batches, with the spread. Instructions are
//! counted by running this program again on one kernel (`instructions.rs`), and they are the gate: more than five percent
//! above `bench/baseline/consensus.json` fails.

use crate::instructions::{self, Baseline};
use crate::rng::Rng;
use consensus::hash::hash160;
use consensus::merkle::merkle_root;
use consensus::params::Era;
use consensus::rules::{TxLimits, check_transaction};
use consensus::script::{
    Budget, Flags, Immediate, Limits, Outcome, Scratch, SigCheck, TxContext, verify_script,
};
use consensus::sighash::SighashCache;
use consensus::tx::{OutPoint, Tx, TxIn, TxLayout, TxOut, parse};
use load::evidence::Evidence;
use secp256k1::{Message, PublicKey, SecretKey, ecdsa};
use serde_json::json;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long one batch of rounds runs, and how many batches there are.
const BATCH: Duration = Duration::from_millis(20);
const BATCHES: usize = 15;
/// The interpreter's aim without signature check: one microsecond a P2PKH input.
const SCRIPT_AIM_NS: f64 = 1_000.0;
const SCRIPT_AIM: &str = "script_p2pkh_no_signature";

/// What `bench consensus` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Only kernels whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Write the instruction counts as the new baseline
    #[arg(long)]
    write_baseline: bool,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    /// Run one kernel and print nothing; valgrind counts the instructions
    #[arg(long, hide = true)]
    kernel: Option<String>,
    /// Rounds of that kernel
    #[arg(long, hide = true, default_value_t = 1)]
    rounds: u64,
}

/// A closure that does one round.
type Round = Box<dyn FnMut()>;

/// A kernel, how many rounds are counted, and what makes it.
struct Kernel {
    name: &'static str,
    rounds: u64,
    make: fn() -> Round,
}

#[rustfmt::skip]
const KERNELS: &[Kernel] = &[
    Kernel { name: "parse_txid_p2pkh",          rounds: 200, make: || parse_txid(payment().0.to_bytes()) },
    Kernel { name: "parse_txid_1mb",            rounds: 1,   make: || parse_txid(data_carrier(1_000_000).to_bytes()) },
    Kernel { name: "check_transaction_p2pkh",   rounds: 200, make: check },
    Kernel { name: "sighash_forkid_first",      rounds: 200, make: || sighash(0x41, false) },
    Kernel { name: "sighash_forkid_cached",     rounds: 200, make: || sighash(0x41, true) },
    Kernel { name: "sighash_original",          rounds: 200, make: || sighash(0x01, false) },
    Kernel { name: SCRIPT_AIM,                  rounds: 200, make: || script(false) },
    Kernel { name: "script_p2pkh",              rounds: 5,   make: || script(true) },
    Kernel { name: "bignum_mul_1kb",            rounds: 20,  make: || bignum(0x95, 1_000, 1_000) },
    Kernel { name: "bignum_mul_32kb",           rounds: 1,   make: || bignum(0x95, 32_000, 32_000) },
    Kernel { name: "bignum_div_32kb_by_16kb",   rounds: 1,   make: || bignum(0x96, 32_000, 16_000) },
    Kernel { name: "merkle_root_1024",          rounds: 1,   make: merkle },
];

/// Measures every kernel; exit code 1 when one needs more instructions than the baseline allows.
pub fn main(args: &Args) -> ExitCode {
    if let Some(name) = &args.kernel {
        return count_me(name, args.rounds);
    }
    let mut evidence = Evidence::new("bench-consensus/1", 0);
    let unavailable = instructions::unavailable();
    if let Some(why) = unavailable {
        evidence.skip("instructions", why);
    }
    let mut baseline = Baseline::read("consensus.json");
    let mut rows = Vec::new();
    let mut ok = true;
    let chosen =
        |kernel: &&Kernel| args.only.as_ref().is_none_or(|only| kernel.name.contains(only));
    for kernel in KERNELS.iter().filter(chosen) {
        let (ns, spread) = time(&mut (kernel.make)());
        let counted = if unavailable.is_none() { Some(count(kernel)) } else { None };
        let mut row =
            json!({ "name": kernel.name, "ns": ns, "spread": spread, "instructions": null });
        match counted {
            Some(Ok(count)) => {
                let percent = baseline.note(kernel.name, count);
                row["instructions"] = count.into();
                row["change_percent"] = percent.into();
                // A kernel nobody has a number for is not gated: write one.
                ok &= percent.is_some() || args.write_baseline;
                let change =
                    percent.map_or("no baseline".to_owned(), |percent| format!("{percent:+.2} %"));
                eprintln!("{:<28} {ns:>14.1} ns {count:>12} instructions ({change})", kernel.name);
            }
            Some(Err(why)) => {
                ok = false;
                eprintln!("consensus: {}: {why}", kernel.name);
            }
            None => eprintln!("{:<28} {ns:>14.1} ns", kernel.name),
        }
        if kernel.name == SCRIPT_AIM {
            evidence.aim(
                "p2pkh interpreter without signature check, ns",
                SCRIPT_AIM_NS,
                ns,
                ns <= SCRIPT_AIM_NS,
            );
        }
        rows.push(row);
    }
    evidence.set("rows", rows);
    if args.write_baseline {
        if let Err(error) = baseline.write() {
            eprintln!("consensus: writing the baseline: {error}");
            ok = false;
        }
    } else {
        ok &= baseline.judge(&mut evidence);
    }
    evidence.finish(ok, args.json)
}

/// Median nanoseconds of a round, and the distance between the quartiles beside it.
fn time(round: &mut Round) -> (f64, f64) {
    let start = Instant::now();
    round();
    let first = start.elapsed().max(Duration::from_nanos(20));
    let rounds = (BATCH.as_nanos() / first.as_nanos()).clamp(1, 1_000_000) as u32;
    let mut batches: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            (0..rounds).for_each(|_| round());
            start.elapsed().as_nanos() as f64 / f64::from(rounds)
        })
        .collect();
    batches.sort_by(f64::total_cmp);
    let median = batches[BATCHES / 2];
    (median, (batches[BATCHES * 3 / 4] - batches[BATCHES / 4]) / median)
}

/// Instructions of one round: what twice the rounds need beyond the rounds.
fn count(kernel: &Kernel) -> Result<u64, String> {
    let of = |rounds: u64| {
        instructions::of_run(
            &["consensus", "--kernel", kernel.name, "--rounds", &rounds.to_string()],
            None,
        )
    };
    let (once, twice) = (of(kernel.rounds)?, of(2 * kernel.rounds)?);
    Ok(twice.saturating_sub(once) / kernel.rounds)
}

fn count_me(name: &str, rounds: u64) -> ExitCode {
    let Some(kernel) = KERNELS.iter().find(|kernel| kernel.name == name) else {
        eprintln!("consensus: no kernel is called `{name}`");
        return ExitCode::from(2);
    };
    let mut round = (kernel.make)();
    // One round before, so that what is set up on first use is in both counts.
    (0..=rounds).for_each(|_| round());
    ExitCode::SUCCESS
}

fn parse_txid(bytes: Vec<u8>) -> Round {
    let mut layout = TxLayout::default();
    Box::new(move || {
        let view = parse(black_box(&bytes), &mut layout).expect("the kernel's transaction parses");
        black_box(view.txid());
    })
}

fn check() -> Round {
    let bytes = payment().0.to_bytes();
    let mut layout = TxLayout::default();
    Box::new(move || {
        let view = parse(&bytes, &mut layout).expect("the kernel's transaction parses");
        let verdict = check_transaction(black_box(view), Era::PostGenesis, &TxLimits::CONSENSUS);
        assert!(black_box(verdict).is_ok(), "the kernel's transaction is good");
    })
}

fn sighash(hash_type: u32, keep_cache: bool) -> Round {
    let (tx, locking, value_sat) = payment();
    let bytes = tx.to_bytes();
    let mut layout = TxLayout::default();
    let mut cache = SighashCache::new();
    Box::new(move || {
        let view = parse(&bytes, &mut layout).expect("the kernel's transaction parses");
        if !keep_cache {
            cache.reset();
        }
        let mut budget = Budget::UNLIMITED;
        let digest =
            cache.digest(&view, 0, hash_type, value_sat, black_box(&locking), true, &mut budget);
        assert!(black_box(digest).is_ok(), "an unlimited budget does not end");
    })
}

/// Answers true at once, so that what is left is the interpreter.
struct Assume;

impl SigCheck for Assume {
    fn check(&mut self, _pubkey: &[u8], _sig_der: &[u8], _digest: &[u8; 32]) -> bool {
        true
    }
}

fn script(with_signature: bool) -> Round {
    let (tx, locking, value_sat) = payment();
    let flags = Flags::STRICTENC
        .with(Flags::ENABLE_SIGHASH_FORKID)
        .with(Flags::LOW_S)
        .with(Flags::NULLFAIL)
        .with(Flags::GENESIS)
        .with(Flags::UTXO_AFTER_GENESIS);
    if with_signature {
        run_script(&tx, locking, value_sat, flags, Immediate)
    } else {
        run_script(&tx, locking, value_sat, flags, Assume)
    }
}

fn run_script<S: SigCheck + 'static>(
    tx: &Tx,
    locking: Vec<u8>,
    value_sat: u64,
    flags: Flags,
    mut checker: S,
) -> Round {
    let bytes = tx.to_bytes();
    let mut layout = TxLayout::default();
    let mut cache = SighashCache::new();
    let mut scratch = Scratch::new();
    let limits = Limits::consensus(i64::MAX as u64);
    Box::new(move || {
        let view = parse(&bytes, &mut layout).expect("the kernel's transaction parses");
        cache.reset();
        let unlocking = view.input(0).unlocking_script;
        let outcome = verify_script(
            black_box(unlocking),
            black_box(&locking),
            flags,
            &TxContext::new(view, 0, value_sat),
            &mut cache,
            &mut checker,
            &limits,
            &mut Budget::UNLIMITED.clone(),
            &mut scratch,
        );
        assert_eq!(black_box(outcome), Outcome::Accepted, "the kernel's script is satisfied");
    })
}

/// A script that works on two numbers of so many bytes.
fn bignum(opcode: u8, left: usize, right: usize) -> Round {
    let mut rng = Rng::new(left as u64);
    let mut unlocking = Vec::new();
    for len in [left, right] {
        let mut number = rng.bytes(len);
        number[len - 1] = 0x7f;
        consensus::script::opcode::write_push(&mut unlocking, &number);
    }
    let (mut tx, _, value_sat) = payment();
    tx.inputs[0].unlocking_script = unlocking;
    // The result is the proof that it was worked out; it is not zero, so it is true.
    run_script(
        &tx,
        vec![opcode],
        value_sat,
        Flags::GENESIS.with(Flags::UTXO_AFTER_GENESIS),
        Immediate,
    )
}

fn merkle() -> Round {
    let mut rng = Rng::new(1);
    let leaves: Vec<[u8; 32]> = (0..1_024).map(|_| rng.bytes32()).collect();
    Box::new(move || {
        black_box(merkle_root(black_box(&leaves)));
    })
}

/// A signed payment, one input and two outputs; the locking script and value it spends.
fn payment() -> (Tx, Vec<u8>, u64) {
    let mut rng = Rng::new(7);
    let key = SecretKey::from_secret_bytes(rng.bytes32()).expect("a random number is a key");
    let public = PublicKey::from_secret_key(&key).serialize();
    let locking = pay_to(&hash160(&public));
    let value_sat = 100_000;
    let mut tx = Tx {
        version: 2,
        inputs: vec![TxIn {
            prev: OutPoint { txid: consensus::hash::TxId(rng.bytes32()), vout: 1 },
            unlocking_script: Vec::new(),
            sequence: u32::MAX,
            coin: None,
        }],
        outputs: (0..2)
            .map(|_| TxOut { value_sat: 40_000, locking_script: pay_to(&hash160(&rng.bytes32())) })
            .collect(),
        lock_time: 0,
    };
    let bytes = tx.to_bytes();
    let mut layout = TxLayout::default();
    let view = parse(&bytes, &mut layout).expect("a transaction we built parses");
    let digest = SighashCache::new()
        .digest(&view, 0, 0x41, value_sat, &locking, true, &mut Budget::UNLIMITED.clone())
        .expect("an unlimited budget does not end");
    let mut signature = ecdsa::sign(Message::from_digest(digest), &key).serialize_der().to_vec();
    signature.push(0x41);
    let unlocking = &mut tx.inputs[0].unlocking_script;
    consensus::script::opcode::write_push(unlocking, &signature);
    consensus::script::opcode::write_push(unlocking, &public);
    (tx, locking, value_sat)
}

/// The same payment with one output of so many bytes of data.
fn data_carrier(bytes: usize) -> Tx {
    let (mut tx, _, _) = payment();
    let mut script = vec![0x00, 0x6a];
    consensus::script::opcode::write_push(&mut script, &Rng::new(3).bytes(bytes));
    tx.outputs[0] = TxOut { value_sat: 0, locking_script: script };
    tx
}

fn pay_to(hash: &[u8; 20]) -> Vec<u8> {
    [&[0x76, 0xa9, 20][..], hash, &[0x88, 0xac]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_runs() {
        for kernel in KERNELS {
            (kernel.make)()();
        }
    }
}
