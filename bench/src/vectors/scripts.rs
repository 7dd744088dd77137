//! Rows that run scripts: SV Node's own and the derived ones.
//!
//! A row names scripts, flags and what the interpreter says: `OK` or the exact error. Every row runs at once and collected
//! (`engine.rs`).

use super::File;
use super::asm::assemble;
use super::tally::{Differs, Held, Tally, same, wanted};
use super::txs::unhex;
use crate::engine::{Engine, name};
use consensus::script::Flags;
use consensus::tx::{OutPoint, Tx, TxIn, TxLayout, TxOut, parse};
use serde_json::Value;

/// `script_tests.json`: scripts as text, flags by name.
pub fn script_tests(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    let mut engine = Engine::new();
    for (number, row) in value.as_array().into_iter().flatten().enumerate() {
        let cells = row.as_array().map_or(&[][..], Vec::as_slice);
        // Shorter rows are comments.
        if cells.len() < 4 {
            continue;
        }
        tally.row(number, script_test(&mut engine, cells));
    }
}

fn script_test(engine: &mut Engine, cells: &[Value]) -> Held {
    let (value_sat, cells) = match cells[0].as_array() {
        Some(amount) => ((amount[0].as_f64().unwrap_or(0.0) * 1e8).round() as u64, &cells[1..]),
        None => (0, cells),
    };
    let [version, unlocking, locking, flags, result, ..] = cells else {
        return Err(Differs {
            want: "version, two scripts, flags, result".to_owned(),
            got: format!("{cells:?}"),
        });
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = match version.as_i64() {
        Some(version) => version as i32,
        None => text(version).parse().map_err(wanted("a version"))?,
    };
    let flags = flags_by_name(&text(flags))?;
    let shape = Shape {
        version,
        unlocking: assemble(&text(unlocking))?,
        locking: assemble(&text(locking))?,
        value_sat,
    };
    same(&text(result), &shape.run(engine, flags)?)
}

/// Flags from `A,B`. Checking a clean stack asks for P2SH too, as SV Node's test does.
fn flags_by_name(text: &str) -> Result<Flags, Differs> {
    let flags = Flags::parse_list(text)
        .ok_or_else(|| Differs { want: "names of flags".to_owned(), got: text.to_owned() })?;
    Ok(if flags.has(Flags::CLEANSTACK) { flags.with(Flags::P2SH) } else { flags })
}

/// The pair of transactions that SV Node's script tests use: one pays to the locking script, one spends it.
pub struct Shape {
    pub version: i32,
    pub unlocking: Vec<u8>,
    pub locking: Vec<u8>,
    pub value_sat: u64,
}

impl Shape {
    /// The spending transaction.
    pub fn spending(&self) -> Tx {
        let paying = Tx {
            version: 1,
            inputs: vec![TxIn {
                prev: OutPoint::NULL,
                unlocking_script: vec![0, 0],
                sequence: u32::MAX,
                coin: None,
            }],
            outputs: vec![TxOut {
                value_sat: self.value_sat as i64,
                locking_script: self.locking.clone(),
            }],
            lock_time: 0,
        };
        Tx {
            version: self.version,
            inputs: vec![TxIn {
                prev: OutPoint { txid: consensus::hash::TxId::of(&paying.to_bytes()), vout: 0 },
                unlocking_script: self.unlocking.clone(),
                sequence: u32::MAX,
                coin: None,
            }],
            outputs: vec![TxOut { value_sat: self.value_sat as i64, locking_script: Vec::new() }],
            lock_time: 0,
        }
    }

    /// The verdict's name.
    fn run(&self, engine: &mut Engine, flags: Flags) -> Result<String, Differs> {
        verdict_of(engine, &self.spending().to_bytes(), 0, self.value_sat, &self.locking, flags)
    }
}

/// Verifies one input of a transaction in bytes; gives the verdict's name.
pub fn verdict_of(
    engine: &mut Engine,
    tx: &[u8],
    input: usize,
    value_sat: u64,
    locking: &[u8],
    flags: Flags,
) -> Result<String, Differs> {
    let mut layout = TxLayout::default();
    let view = parse(tx, &mut layout).map_err(wanted("a transaction"))?;
    engine.next_transaction();
    let verdict =
        engine.verify(view, input, value_sat, locking, flags).map_err(wanted("a verdict"))?;
    Ok(name(verdict).to_owned())
}

fn hex_at(row: &Value, at: usize) -> Result<Vec<u8>, Differs> {
    unhex(row[at].as_str().unwrap_or_default())
}

fn flags_at(row: &Value, at: usize) -> Flags {
    Flags(row[at].as_u64().unwrap_or(0) as u32)
}

/// `script_fuzz.jsonl`: `[version, unlocking, locking, flags, result]`.
pub fn fuzz_rows(file: &File<'_>, tally: &mut Tally) {
    let mut engine = Engine::new();
    for (number, row) in file.json_lines(tally) {
        let held = (|| {
            let version = row[0].as_i64().unwrap_or(0) as i32;
            let shape = Shape {
                version,
                unlocking: hex_at(&row, 1)?,
                locking: hex_at(&row, 2)?,
                value_sat: 0,
            };
            same(&row[4], &shape.run(&mut engine, flags_at(&row, 3))?.into())
        })();
        tally.row(number, held);
    }
}

/// `opcode_cases.jsonl`: `[opcode, era, version, operands, stack, flags, locking, result]`; the script compares the stack.
pub fn opcode_rows(file: &File<'_>, tally: &mut Tally) {
    let mut engine = Engine::new();
    for (number, row) in file.json_lines(tally) {
        let held = (|| {
            let version = row[2].as_i64().unwrap_or(0) as i32;
            let shape =
                Shape { version, unlocking: Vec::new(), locking: hex_at(&row, 6)?, value_sat: 0 };
            same(&row[7], &shape.run(&mut engine, flags_at(&row, 5))?.into())
        })();
        tally.row(number, held);
    }
}

/// `signature_cases.jsonl`: whole spending transactions.
pub fn signature_rows(file: &File<'_>, tally: &mut Tally) {
    let mut engine = Engine::new();
    for (number, row) in file.json_lines(tally) {
        let held = (|| {
            let text = |key: &str| row[key].as_str().unwrap_or_default();
            let tx = unhex(text("tx"))?;
            let locking = unhex(text("scriptPubKey"))?;
            let flags = Flags(row["flags"].as_u64().unwrap_or(0) as u32);
            let input = row["n"].as_u64().unwrap_or(0) as usize;
            let value_sat = row["amount"].as_u64().unwrap_or(0);
            let got = verdict_of(&mut engine, &tx, input, value_sat, &locking, flags)?;
            same(&text("result").to_owned(), &got)
        })();
        tally.row(format!("{number} {}", row["desc"].as_str().unwrap_or_default()), held);
    }
}
