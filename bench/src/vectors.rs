//! `bench vectors --root DIR`: walks a folder of test vectors and checks every row of every file it knows.
//!
//! In: any folder in the formats of its SOURCES.md, with its own COUNTS.json; everything is read at run time. Out: for each
//! file its format, rows, passed, failed and skipped; the first failures with what was wanted and got; the files no format
//! knows. The rows walked must equal COUNTS.json, so an empty or cut file cannot pass.

#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "names of vector files are fixed"
)]

mod blocks;
mod chain;
mod cli;
mod frames;
mod headers;
mod keys;
mod prevouts;
mod rows;
mod tally;
mod teranode;
mod txs;

use load::evidence::Evidence;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tally::Tally;

/// Failures kept per file; the rest is counted.
const FAILURES_PER_FILE: usize = 20;

/// What `bench vectors` takes.
#[derive(clap::Args)]
pub struct Args {
    /// The folder
    #[arg(long)]
    root: PathBuf,
    /// Only files whose path contains this
    #[arg(long)]
    only: Option<String>,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

/// A file to check: where it lies and what it holds.
pub struct File<'a> {
    /// The folder that is walked.
    root: &'a Path,
    /// The path below it, with `/` between folders.
    path: &'a str,
    bytes: &'a [u8],
}

impl File<'_> {
    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// A file that lies beside this one.
    fn beside(&self, name: &str) -> std::io::Result<Vec<u8>> {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        std::fs::read(self.root.join(folder).join(name))
    }

    /// The file as JSON; a failed row when it is none.
    fn json(&self, tally: &mut Tally) -> Value {
        match serde_json::from_slice(self.bytes) {
            Ok(value) => value,
            Err(error) => {
                tally.fail("file", "JSON", &error.to_string());
                Value::Null
            }
        }
    }

    /// The rows of a JSON-lines file, with their line numbers from 1.
    fn json_lines(&self, tally: &mut Tally) -> Vec<(usize, Value)> {
        let text = String::from_utf8_lossy(self.bytes);
        let mut rows = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match serde_json::from_str(line) {
                Ok(value) => rows.push((number + 1, value)),
                Err(error) => tally.fail(number + 1, "a JSON row", &error.to_string()),
            }
        }
        rows
    }
}

/// A format: its name, which file names carry it, and what checks a file of it.
struct Format {
    name: &'static str,
    /// The file's name, and its whole path for the few that need it.
    carries: fn(&str, &str) -> bool,
    check: fn(&File<'_>, &mut Tally),
}

/// What is walked, in order: the first format that carries a file's name checks it.
#[rustfmt::skip]
const FORMATS: &[Format] = &[
    Format { name: "script-rows",         carries: |name, _| consensus::vectors::runner_of(name).is_some(), check: rows::check },
    Format { name: "sigop-counts",        carries: |name, _| name == "sigop_count_cases.jsonl", check: rows::sigops },
    Format { name: "wycheproof",          carries: |name, _| name.starts_with("ecdsa_secp256k1") && name.ends_with(".json"), check: keys::wycheproof },
    Format { name: "base58",              carries: |name, _| name == "base58_encode_decode.json", check: keys::base58 },
    Format { name: "base58-valid",        carries: |name, _| name == "base58_keys_valid.json", check: keys::base58_valid },
    Format { name: "base58-invalid",      carries: |name, _| name == "base58_keys_invalid.json", check: keys::base58_invalid },
    Format { name: "teranode-block",      carries: |name, _| name.ends_with(".block"),         check: teranode::teranode_block },
    Format { name: "teranode-msg-block",  carries: |name, _| name.ends_with(".msgBlock"),      check: teranode::wire_block },
    Format { name: "teranode-subtree",    carries: |name, _| name.ends_with(".subtree") || name == "testSubtreeHex.bin", check: teranode::subtree },
    Format { name: "teranode-subtree-data", carries: |name, _| name.ends_with(".subtree_data"), check: teranode::subtree_data },
    Format { name: "teranode-utxo-headers", carries: |name, _| name.ends_with(".utxo-headers"), check: teranode::utxo_headers },
    Format { name: "teranode-utxo-set",   carries: |name, _| name.ends_with(".utxo-set"),      check: teranode::utxo_set },
    Format { name: "teranode-outputs",    carries: |name, _| name.ends_with(".outputs"),       check: teranode::outputs },
    Format { name: "block-prevouts",      carries: |name, _| name.ends_with("_prevouts.jsonl"), check: prevouts::rows },
    Format { name: "block-raw",           carries: blocks::is_raw,                             check: blocks::raw },
    Format { name: "blocks-framed-bz2",   carries: |name, _| blocks::is_framed(name),          check: blocks::framed },
    Format { name: "blocks-in-text",      carries: |name, _| name == "reorgtest.hex",          check: blocks::text },
    Format { name: "blocks-in-json",      carries: |name, _| name == "rpc_getblockstats.json", check: blocks::json },
    Format { name: "coins-spent-bz2",     carries: |name, _| name.starts_with("coins_spent_"), check: prevouts::coins_spent },
    Format { name: "chain-parameters",    carries: |name, _| name == "chainparams.json",       check: chain::params },
    Format { name: "difficulty-cases",    carries: |name, _| name == "difficulty_cases.json",  check: chain::difficulty },
    Format { name: "daa-rows",            carries: |name, _| name.starts_with("daa_") && name.ends_with(".jsonl"), check: chain::daa_rows },
    Format { name: "merkle-cases",        carries: |name, _| name == "merkle_cases.json",      check: chain::merkle },
    Format { name: "headers-raw",         carries: |name, _| name.contains("headers") && name.ends_with(".bin"),   check: headers::raw },
    Format { name: "headers-json",        carries: |name, _| name == "headers.json",           check: headers::json },
    Format { name: "chain-work-table",    carries: |name, _| name.ends_with(".csv"),           check: headers::csv },
    Format { name: "p2p-frames",          carries: |name, _| name == "p2p_messages.json",      check: frames::check },
    Format { name: "bitcoin-tx-cases",    carries: |name, _| name == "bitcoin-util-test.json", check: cli::check },
    Format { name: "transaction-json",    carries: |name, path| path.contains("util/data/") && name.ends_with(".json"), check: cli::transaction_json },
    Format { name: "sha256-sum",          carries: |name, _| name.ends_with(".sha256"),        check: txs::sha256_sum },
    Format { name: "transaction",         carries: txs::is_transaction,                        check: txs::check },
];

/// Files that describe the others.
fn is_description(name: &str) -> bool {
    ["SOURCES.md", "COUNTS.json", "LICENSE", "README.md"].contains(&name)
}

/// Walks the folder; exit code 1 when a row failed or a count differs from COUNTS.json.
pub fn main(args: &Args) -> ExitCode {
    let mut evidence = Evidence::new("bench-vectors/1", 0);
    match walk(args, &mut evidence) {
        Ok(ok) => evidence.finish(ok, args.json),
        Err(error) => {
            eprintln!(
                "vectors: reading {}: {error}; try `--root ../shared/vectors`",
                args.root.display()
            );
            ExitCode::from(2)
        }
    }
}

/// Checks every file below the root and puts what it found into the evidence; true when every row held.
fn walk(args: &Args, evidence: &mut Evidence) -> std::io::Result<bool> {
    let mut paths = Vec::new();
    list(&args.root, "", &mut paths)?;
    paths.sort();
    let mut files = Vec::new();
    let mut failures = Vec::new();
    let mut unknown = Vec::new();
    let mut walked: Vec<(&str, u64)> = Vec::new();
    let mut sum = Tally::default();
    for path in &paths {
        let name = path.rsplit('/').next().unwrap_or_default();
        if is_description(name) || args.only.as_ref().is_some_and(|only| !path.contains(only)) {
            continue;
        }
        let Some(format) = FORMATS.iter().find(|format| (format.carries)(name, path)) else {
            unknown.push(path.clone());
            continue;
        };
        let start = std::time::Instant::now();
        let mut tally = Tally::default();
        match std::fs::read(args.root.join(path)) {
            Ok(bytes) => {
                (format.check)(&File { root: &args.root, path, bytes: &bytes }, &mut tally);
            }
            Err(error) => tally.fail("file", "readable", &error.to_string()),
        }
        eprintln!(
            "{:>7} rows {:>5} failed {:>4} skipped {:>7.2} s  {path}",
            tally.rows(),
            tally.failed,
            tally.skipped,
            start.elapsed().as_secs_f64()
        );
        walked.push((path, tally.rows()));
        let mut entry = json!({
            "path": path, "format": format.name, "rows": tally.rows(), "passed": tally.passed,
            "failed": tally.failed, "skipped": tally.skipped,
        });
        for (what, count) in &tally.notes {
            entry[*what] = (*count).into();
        }
        files.push(entry);
        for failure in tally.failures.iter().take(FAILURES_PER_FILE) {
            failures.push(json!({
                "path": path, "row": failure.row, "want": failure.want, "got": failure.got,
            }));
        }
        for (why, count) in &tally.skips {
            evidence.skip(format!("{count} rows of {path}"), why.as_str());
        }
        sum.add(&tally);
    }
    let miscounts =
        if args.only.is_some() { 0 } else { compare_counts(args, &walked, &mut failures) };
    let ok = sum.failed == 0 && miscounts == 0 && !files.is_empty();
    let files_failed = files.iter().filter(|file| file["failed"] != 0).count() as u64 + miscounts;
    let files_passed = (files.len() as u64).saturating_sub(files_failed);
    eprintln!(
        "rows: {} held, {} did not, {} were not checked",
        sum.passed, sum.failed, sum.skipped
    );
    // The closing line counts files.
    eprintln!("{files_passed} passed, {files_failed} failed, 0 skipped");
    evidence.set("rows", sum.rows());
    evidence.set("passed", sum.passed);
    evidence.set("failed", sum.failed + miscounts);
    evidence.set("files", files);
    evidence.set("failures", failures);
    evidence.set("unknown", unknown);
    Ok(ok)
}

/// Adds a failure for each file whose rows are not what COUNTS.json says. Without that file nothing is compared.
fn compare_counts(args: &Args, walked: &[(&str, u64)], failures: &mut Vec<Value>) -> u64 {
    let path = args.root.join("COUNTS.json");
    let Ok(bytes) = std::fs::read(&path) else { return 0 };
    let counts: serde_json::Map<String, Value> = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut miscounts = 0;
    for (path, want) in &counts {
        let got = walked.iter().find(|(walked, _)| walked == path).map_or(0, |(_, rows)| *rows);
        if Some(got) != want.as_u64() {
            miscounts += 1;
            let want = format!("{want} rows, as COUNTS.json says");
            failures.push(json!({ "path": path, "row": "file", "want": want, "got": got }));
        }
    }
    miscounts
}

fn list(root: &Path, below: &str, paths: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            list(root, &path, paths)?;
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUE_ROW: &str = "[1,\"51\",\"51\",0,\"OK\"]\n";
    const FALSE_ROW: &str = "[1,\"51\",\"00\",0,\"OK\"]\n";

    fn walk_of(files: &[(&str, &str)]) -> bool {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file in it");
        }
        let args = Args { root: folder.path().to_path_buf(), only: None, json: true };
        walk(&args, &mut Evidence::new("test", 0)).expect("a folder that can be read")
    }

    #[test]
    fn a_wrong_row_a_missing_row_and_an_empty_folder_do_not_pass() {
        let counts = "{\"script_fuzz.jsonl\": 2}";
        let twice = TRUE_ROW.repeat(2);
        assert!(walk_of(&[("script_fuzz.jsonl", &twice), ("COUNTS.json", counts)]));
        assert!(!walk_of(&[("script_fuzz.jsonl", TRUE_ROW), ("COUNTS.json", counts)]));
        assert!(!walk_of(&[("script_fuzz.jsonl", &[TRUE_ROW, FALSE_ROW].concat())]));
        assert!(!walk_of(&[("COUNTS.json", counts)]));
        assert!(!walk_of(&[]));
    }
}
