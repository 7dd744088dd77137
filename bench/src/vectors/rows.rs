//! Rows that `consensus` judges itself: scripts, signature digests, whole transactions; and counts of signature operations.
//!
//! The runners live beside the rules (`consensus::vectors`) and judge each row at once, collected and one opcode at a time.

use super::File;
use super::tally::{Differs, Held, Tally, same_as};
use super::txs::unhex;
use consensus::params::Era;
use consensus::rules::count_sigops;
use consensus::vectors::{rows_of, runner_of};
use serde_json::Value;

/// Checks every row with the runner of the file's name.
pub fn check(file: &File<'_>, tally: &mut Tally) {
    let text = String::from_utf8_lossy(file.bytes);
    let (Some(runner), rows) = (runner_of(file.name()), rows_of(file.name(), &text)) else {
        return;
    };
    match rows {
        Ok(rows) => {
            for (number, row) in rows.iter().enumerate() {
                if let Some(result) = runner(row) {
                    let held =
                        result.map_err(|failure| Differs { want: failure.want, got: failure.got });
                    tally.row(number, held);
                }
            }
        }
        Err(error) => tally.fail("file", "rows of JSON", &error.to_string()),
    }
}

/// `sigop_count_cases.jsonl`: `[script, era 1 to 3, accurate, count, error]`.
pub fn sigops(file: &File<'_>, tally: &mut Tally) {
    for (number, row) in file.json_lines(tally) {
        tally.row(number, sigop_row(&row));
    }
}

fn sigop_row(row: &Value) -> Held {
    let script = unhex(row[0].as_str().unwrap_or_default())?;
    let era = match row[1].as_u64() {
        Some(1) => Era::PreGenesis,
        Some(2) => Era::PostGenesis,
        Some(3) => Era::PostChronicle,
        _ => return Err(Differs { want: "an era".to_owned(), got: row[1].to_string() }),
    };
    let is_error = row[4].as_u64() == Some(1);
    match count_sigops(&script, era, row[2].as_u64() == Some(1)) {
        Ok(count) => {
            same_as("an error", &is_error, &false)?;
            same_as("count", &row[3].as_u64(), &Some(count))
        }
        Err(_) => same_as("an error", &is_error, &true),
    }
}
