//! Walks the vector files: all rows of `shared/vectors` beside the checkout, and always the rows committed here.

use super::{RowFailure, rows_of, runner_of};
use std::path::{Path, PathBuf};

/// Files with our formats under the vector folder, and how many rows each must have.
const FILES: &[(&str, usize)] = &[
    ("bitcoin-sv+bitcoin-sv/src/test/data/script_tests.json", 1483),
    ("bitcoin-sv+bitcoin-sv/src/test/data/sighash.json", 1000),
    ("bitcoin-sv+bitcoin-sv/src/test/data/tx_valid.json", 93),
    ("bitcoin-sv+bitcoin-sv/src/test/data/tx_invalid.json", 68),
    ("derived-svnode-1.2.2/opcode_cases.jsonl", 6885),
    ("derived-svnode-1.2.2/script_fuzz.jsonl", 8000),
    ("derived-svnode-1.2.2/signature_cases.jsonl", 1436),
    ("derived-svnode-1.2.2/sighash_cases.jsonl", 1500),
];

/// Where the vectors are: `METANODE_VECTORS`, or `shared/vectors` beside the checkout. `None` means skip, and says so.
fn folder() -> Option<PathBuf> {
    let root = std::env::var_os("METANODE_VECTORS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    if root.is_dir() {
        return Some(root);
    }
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "no test vectors at {}; set METANODE_VECTORS",
        root.display()
    );
    eprintln!("SKIPPED: no test vectors at {}; set METANODE_VECTORS to run them", root.display());
    None
}

fn walk(path: &Path, want_rows: usize) {
    let name = path.file_name().and_then(|name| name.to_str()).expect("a file name");
    let runner = runner_of(name).expect("a known format");
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = rows_of(name, &text).expect("JSON");
    let mut count = 0;
    let mut failures: Vec<(usize, RowFailure)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        if let Some(result) = runner(row) {
            count += 1;
            if let Err(failure) = result {
                failures.push((index, failure));
            }
        }
    }
    for (index, failure) in failures.iter().take(20) {
        eprintln!(
            "{name} row {index}: want {}, got {}: {}",
            failure.want, failure.got, rows[*index]
        );
    }
    assert!(failures.is_empty(), "{} of {count} rows of {name} fail", failures.len());
    assert_eq!(count, want_rows, "rows of {name}");
}

fn walk_shared(index: usize) {
    if let Some(root) = folder() {
        walk(&root.join(FILES[index].0), FILES[index].1);
    }
}

/// Sampled rows that every checkout has.
const COMMITTED: &[(&str, usize)] = &[
    ("opcode_cases.jsonl", 765),
    ("script_fuzz.jsonl", 1000),
    ("signature_cases.jsonl", 359),
    ("sighash_cases.jsonl", 250),
];

#[test]
fn the_rows_committed_here_pass_without_the_shared_vectors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/derived-svnode-1.2.2");
    for (name, rows) in COMMITTED {
        walk(&root.join(name), *rows);
    }
}

#[test]
fn a_runner_notices_a_wrong_result() {
    let row = serde_json::json!([97, "pre", 1, [], [], 0, "61740087", "EVAL_FALSE"]);
    let failure =
        runner_of("opcode_cases.jsonl").expect("known")(&row).expect("a row").expect_err("wrong");
    assert_eq!((failure.want.as_str(), failure.got.as_str()), ("EVAL_FALSE", "OK"));
}

#[test]
fn script_tests_end_with_the_exact_error() {
    walk_shared(0);
}

#[test]
fn sighash_json_agrees_in_both_columns() {
    walk_shared(1);
}

#[test]
fn valid_transactions_are_valid_under_each_flag_set() {
    walk_shared(2);
}

#[test]
fn invalid_transactions_are_invalid_under_each_flag_set() {
    walk_shared(3);
}

#[test]
fn opcodes_leave_the_stack_that_sv_node_leaves() {
    walk_shared(4);
}

#[test]
fn random_scripts_end_as_in_sv_node() {
    walk_shared(5);
}

#[test]
fn signed_transactions_of_every_era_end_as_in_sv_node() {
    walk_shared(6);
}

#[test]
fn digests_of_unparsable_script_codes_are_those_of_sv_node() {
    walk_shared(7);
}
