//! `bench sig` and `bench fuzz-sig`: what a signature costs beside libsecp256k1, and whether every verdict is the same.
//!
//! All backends run in slices of a few milliseconds, one after the other in one process, so that a change of clock or a
//! neighbour meets them alike; ratios are of neighbouring slices. 10,000 distinct keys. What libsecp256k1 is measured at is
//! parsing key and signature and verifying, as a node must. Cold means that 64 MiB were walked before each batch.

use load::evidence::Evidence;
use serde_json::{Value, json};
use sigbatch::proof::cases::{CATEGORIES, Case, draw_case};
use sigbatch::proof::draw::Draw;
use sigbatch::{Backend, DecidedBy, HashBackend, Hasher, SigVerdict, Verifier, disagreements};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

/// Distinct keys.
const KEYS: usize = 10_000;
/// Signatures of a slice of the kernel, and of libsecp256k1.
const SLICE: usize = 512;
const SLICE_SLOW: usize = 64;
/// And of the model, which is there to be right.
const SLICE_MODEL: usize = 32;
const BATCHES: [usize; 11] = [1, 2, 3, 4, 8, 16, 32, 64, 128, 512, 1_024];
/// Walked to empty the caches.
const COLD_BYTES: usize = 64 << 20;
/// Bytes of the transactions whose ids are hashed.
const TX_BYTES: usize = 250;

/// Verifications a second by backend and batch size, and batches of SHA-256
#[derive(clap::Args, Debug)]
pub struct SigArgs {
    /// Pairs of slices
    #[arg(long, default_value_t = 60)]
    slices: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// Draws signatures of twenty-six kinds and compares every verdict with libsecp256k1
#[derive(clap::Args, Debug)]
pub struct FuzzArgs {
    #[arg(long, default_value_t = 20_000)]
    cases: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

fn quantile(values: &[f64], per_cent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) * per_cent / 100).copied().unwrap_or(0.0)
}

fn round(x: f64) -> f64 {
    (x * 1_000.0).round() / 1_000.0
}

/// Microseconds a signature; all of them must be right.
fn slice(verifier: &mut Verifier, rows: &[Case], wrong: &mut u64) -> f64 {
    let mut verdicts = [SigVerdict::default(); 1_024];
    let verdicts = &mut verdicts[..rows.len()];
    let began = Instant::now();
    verifier.verify_each(|i| rows[i].check(), verdicts);
    let elapsed_us = began.elapsed().as_nanos() as f64 / 1e3;
    *wrong += verdicts.iter().filter(|verdict| !verdict.is_valid()).count() as u64;
    elapsed_us / rows.len() as f64
}

/// `bench sig`.
pub fn sig(args: &SigArgs) -> ExitCode {
    let mut evidence = Evidence::new("sig/1", args.seed);
    let mut draw = Draw::new(args.seed);
    eprintln!("sig: signing with {KEYS} keys");
    let rows: Vec<Case> = (0..KEYS).map(|_| Case::compressed(&mut draw)).collect();
    let mut judge = Verifier::with_backend(Backend::Secp256k1).expect("always available");
    let mut wrong = 0;
    let mut backends = Vec::new();
    let mut by_batch = Vec::new();
    let mut crossover = Value::Null;
    if let Some(mut kernel) = Verifier::with_backend(Backend::Avx512Ifma) {
        let (mut fast, mut slow, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..args.slices {
            let part = |len: usize| &rows[i * len % (KEYS - len)..][..len];
            let judge_us = slice(&mut judge, part(SLICE_SLOW), &mut wrong);
            let kernel_us = slice(&mut kernel, part(SLICE), &mut wrong);
            slow.push(judge_us);
            fast.push(kernel_us);
            ratio.push(judge_us / kernel_us);
        }
        let median = quantile(&ratio, 50);
        let row = |name: &str, us: &[f64], ratio: &[f64]| {
            json!({ "name": name, "available": true,
                "verify_per_s_core": (1e6 / quantile(us, 50)).round(),
                "us_per_sig": { "median": round(quantile(us, 50)), "p5": round(quantile(us, 5)) },
                "ratio_to_libsecp": { "median": round(quantile(ratio, 50)),
                    "p5": round(quantile(ratio, 5)), "p95": round(quantile(ratio, 95)) } })
        };
        backends.push(row("avx512ifma", &fast, &ratio));
        backends.push(row("libsecp256k1", &slow, &[1.0]));
        if let Some(mut model) = Verifier::with_backend(Backend::Model) {
            let (mut us, mut ratio) = (Vec::new(), Vec::new());
            for i in 0..3 {
                let part = &rows[i * SLICE_MODEL..][..SLICE_MODEL];
                us.push(slice(&mut model, part, &mut wrong));
                ratio.push(slice(&mut judge, part, &mut wrong) / us[i]);
            }
            backends.push(row("model", &us, &ratio));
        }
        evidence.set("caches", crate::sig_caches::measure(&mut kernel, &rows));
        evidence.aim(
            "avx512ifma beside libsecp256k1 parse+verify",
            8.0,
            round(median),
            median >= 8.0,
        );
        let ballast = vec![1u8; COLD_BYTES];
        for n in BATCHES {
            let (mut warm, mut cold, mut judge_us) = (Vec::new(), Vec::new(), Vec::new());
            for i in 0..12 {
                let part = &rows[i * n % (KEYS - n)..][..n];
                slice(&mut kernel, part, &mut wrong);
                warm.push(slice(&mut kernel, part, &mut wrong));
                judge_us.push(slice(&mut judge, &part[..n.min(16)], &mut wrong));
                if i < 4 {
                    black_box(ballast.iter().step_by(64).map(|x| u64::from(*x)).sum::<u64>());
                    cold.push(slice(&mut kernel, part, &mut wrong));
                }
            }
            let (us, slow_us) = (quantile(&warm, 50), quantile(&judge_us, 50));
            if crossover.is_null() && n > 1 && us < slow_us {
                crossover = n.into();
            }
            by_batch.push(json!({ "n": n, "us_per_sig": round(us),
                "us_per_sig_cold": round(quantile(&cold, 50)),
                "us_per_sig_libsecp256k1": round(slow_us) }));
        }
        evidence.set("counts", format!("{:?}", kernel.all_counts()));
    } else {
        backends.push(json!({ "name": "avx512ifma", "available": false }));
        evidence.skip("avx512ifma", "this processor has no AVX-512 IFMA");
    }
    let [txid, merkle, hash160] = sha(&mut draw);
    if HashBackend::Avx512.is_available() {
        evidence.aim("txid beside sha2", 2.0, round(txid), txid >= 2.0);
        evidence.aim("merkle beside sha2", 2.5, round(merkle), merkle >= 2.5);
    }
    let mismatches = wrong + disagreements();
    evidence.set("keys", KEYS);
    evidence.set("backends", backends);
    evidence.set("by_batch", by_batch);
    evidence.set("crossover_n", crossover);
    let sha = json!({ "txid_ratio": round(txid), "merkle_ratio": round(merkle),
        "hash160_ratio": round(hash160) });
    evidence.set("sha", sha);
    evidence.set("mismatches", mismatches);
    evidence.finish(mismatches == 0, args.json)
}

/// How much faster than the crates: ids of transactions, merkle nodes, HASH160 of keys.
fn sha(draw: &mut Draw) -> [f64; 3] {
    let hasher = Hasher::new();
    let bytes: Vec<u8> = (0..512 * TX_BYTES / 32 + 8).flat_map(|_| draw.bytes()).collect();
    let nodes: Vec<[u8; 64]> = bytes.as_chunks::<64>().0[..512].to_vec();
    let mut out = vec![[0u8; 32]; 512];
    let timed = |work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        began.elapsed().as_nanos() as f64
    };
    let sha2 = Hasher::with_backend(HashBackend::Sha2).expect("always available");
    let mut short = vec![[0u8; 20]; 512];
    let (mut txid, mut merkle, mut hash160) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..40 {
        let tx = |i: usize| &bytes[i * TX_BYTES..][..TX_BYTES];
        let ours = timed(&mut || hasher.sha256d_each(tx, black_box(&mut out)));
        let theirs = timed(&mut || sha2.sha256d_each(tx, black_box(&mut out)));
        txid.push(theirs / ours);
        let ours = timed(&mut || hasher.sha256d_nodes(&nodes, black_box(&mut out)));
        let theirs = timed(&mut || sha2.sha256d_nodes(&nodes, black_box(&mut out)));
        merkle.push(theirs / ours);
        let key = |i: usize| &bytes[i * 33..][..33];
        let ours = timed(&mut || hasher.hash160_each(key, black_box(&mut short)));
        let theirs = timed(&mut || sha2.hash160_each(key, black_box(&mut short)));
        hash160.push(theirs / ours);
    }
    [quantile(&txid, 50), quantile(&merkle, 50), quantile(&hash160, 50)]
}

/// `bench fuzz-sig`.
pub fn fuzz(args: &FuzzArgs) -> ExitCode {
    let mut evidence = Evidence::new("fuzz-sig/1", args.seed);
    let mut draw = Draw::new(args.seed);
    let mut judge = Verifier::with_backend(Backend::Secp256k1).expect("always available");
    let mut verifier = Verifier::new();
    if verifier.backend() == Backend::Secp256k1 {
        evidence.skip("the kernel", verifier.kernel().why);
    }
    let mut per_category = [[0u64; 3]; CATEGORIES];
    let (mut done, mut mismatches, mut fallbacks) = (0, 0, 0);
    while done < args.cases {
        let count = (1 + draw.below(300)).min(args.cases - done) as usize;
        let rows: Vec<Case> = (0..count).map(|_| draw_case(&mut draw)).collect();
        let mut verdicts = vec![SigVerdict::default(); count];
        let mut deciders = vec![DecidedBy::default(); count];
        verifier.verify_each_telling(|i| rows[i].check(), &mut verdicts, |i, by| deciders[i] = by);
        for ((row, verdict), by) in rows.iter().zip(&verdicts).zip(deciders) {
            let expected = judge.verify_one(&row.check());
            if *verdict != expected {
                mismatches += 1;
                eprintln!("fuzz-sig: got {verdict:?}, expected {expected:?}: {row:02x?}");
            }
            let [cases, valid, kernel] = &mut per_category[row.category];
            *cases += 1;
            *valid += u64::from(expected.is_valid());
            *kernel += u64::from(by == DecidedBy::Kernel);
            fallbacks += u64::from(expected.is_valid() && by != DecidedBy::Kernel);
        }
        done += count as u64;
    }
    let rows: Vec<Value> = per_category
        .iter()
        .enumerate()
        .map(|(i, [cases, valid, kernel])| {
            json!({ "category": i, "cases": cases, "valid": valid, "by_kernel": kernel })
        })
        .collect();
    mismatches += disagreements();
    evidence.set("cases", done);
    evidence.set("categories", rows);
    evidence.set("mismatches", mismatches);
    evidence.set("fallbacks", fallbacks);
    evidence.set("kernel", verifier.kernel().name);
    evidence.finish(mismatches == 0 && done == args.cases, args.json)
}
