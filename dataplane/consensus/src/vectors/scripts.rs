//! Rows of pairs of scripts: script_tests.json, script_fuzz, opcode_cases, signature_cases.

use super::{RowFailure, RowResult, expect, judge, unhex};
use crate::script::opcode::{OP_1, from_name, write_push};
use crate::script::{Flags, TxContext};
use crate::tx::{self, OutPoint, Tx, TxIn, TxLayout, TxOut};
use serde_json::Value;

/// Turns the assembly of SV Node's test files into a script; `None` when a word is unknown.
///
/// Words: decimal numbers (pushed minimally), `0x` raw bytes, `'text'` pushed, and opcode names.
pub fn assemble(text: &str) -> Option<Vec<u8>> {
    let mut script = Vec::new();
    for word in text.split_whitespace() {
        let digits = word.strip_prefix('-').unwrap_or(word);
        if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
            push_number(&mut script, word.parse().ok()?);
        } else if let Some(raw) = word.strip_prefix("0x").filter(|raw| !raw.is_empty()) {
            script.extend(unhex(raw)?);
        } else if word.len() >= 2 && word.starts_with('\'') && word.ends_with('\'') {
            write_push(&mut script, &word.as_bytes()[1..word.len() - 1]);
        } else {
            script.push(from_name(word)?);
        }
    }
    Some(script)
}

fn push_number(script: &mut Vec<u8>, number: i64) {
    if number == -1 || (1..=16).contains(&number) {
        script.push((i64::from(OP_1) - 1 + number) as u8);
        return;
    }
    let mut bytes = Vec::new();
    let mut rest = number.unsigned_abs();
    while rest > 0 {
        bytes.push(rest as u8);
        rest >>= 8;
    }
    if let Some(last) = bytes.last_mut() {
        let negative = if number < 0 { 0x80 } else { 0 };
        if *last & 0x80 == 0 {
            *last |= negative;
        } else {
            bytes.push(negative);
        }
    }
    write_push(script, &bytes);
}

/// The transaction that script_tests.json spends from, and the one that spends it, as the file's header says.
fn spending(unlocking: &[u8], locking: &[u8], version: i32, value_sat: i64) -> Tx {
    let credit = Tx {
        version: 1,
        inputs: vec![TxIn {
            prev: OutPoint::from_bytes(
                &[[0u8; 32].as_slice(), &[0xff; 4]].concat().try_into().expect("36 bytes"),
            ),
            unlocking_script: vec![0, 0],
            sequence: u32::MAX,
            coin: None,
        }],
        outputs: vec![TxOut { value_sat, locking_script: locking.to_vec() }],
        lock_time: 0,
    };
    Tx {
        version,
        inputs: vec![TxIn {
            prev: OutPoint { txid: credit.txid(), vout: 0 },
            unlocking_script: unlocking.to_vec(),
            sequence: u32::MAX,
            coin: None,
        }],
        outputs: vec![TxOut { value_sat, locking_script: Vec::new() }],
        lock_time: 0,
    }
}

fn run_pair(
    unlocking: &[u8],
    locking: &[u8],
    flags: Flags,
    version: i32,
    value_sat: i64,
    want: &str,
) -> Result<(), RowFailure> {
    let bytes = spending(unlocking, locking, version, value_sat).to_bytes();
    let mut layout = TxLayout::new();
    let view = tx::parse(&bytes, &mut layout)
        .map_err(|error| RowFailure::unreadable(&error.to_string()))?;
    expect(want, judge(unlocking, locking, flags, TxContext::new(view, 0, value_sat as u64)))
}

/// `[[amount]?, version, scriptSig, scriptPubKey, flags, result, comment?]`; shorter rows are comments.
pub(super) fn script_tests_row(row: &Value) -> RowResult {
    let fields = row.as_array().filter(|fields| fields.len() >= 4)?;
    Some(
        script_tests_fields(fields)
            .unwrap_or_else(|| Err(RowFailure::unreadable(&row.to_string()))),
    )
}

fn script_tests_fields(fields: &[Value]) -> Option<Result<(), RowFailure>> {
    let (value_sat, fields) = match fields[0].as_array() {
        Some(amount) => ((amount.first()?.as_f64()? * 1e8).round() as i64, &fields[1..]),
        None => (0, fields),
    };
    let text = |index: usize| fields.get(index)?.as_str();
    let version = text(0)?.parse().ok()?;
    let (unlocking, locking) = (assemble(text(1)?)?, assemble(text(2)?)?);
    let mut flags = Flags::parse_list(text(3)?)?;
    // As the reference's test does: CLEANSTACK is only defined together with P2SH.
    if flags.has(Flags::CLEANSTACK) {
        flags |= Flags::P2SH;
    }
    Some(run_pair(&unlocking, &locking, flags, version, value_sat, text(4)?))
}

/// `[txVersion, scriptSig, scriptPubKey, flags, result]`
pub(super) fn script_fuzz_row(row: &Value) -> RowResult {
    let judged = (|| {
        let unlocking = unhex(row.get(1)?.as_str()?)?;
        let locking = unhex(row.get(2)?.as_str()?)?;
        let (version, flags) = (row.get(0)?.as_i64()?, row.get(3)?.as_u64()?);
        let want = row.get(4)?.as_str()?;
        Some(run_pair(&unlocking, &locking, Flags(flags as u32), version as i32, 0, want))
    })();
    Some(judged.unwrap_or_else(|| Err(RowFailure::unreadable(&row.to_string()))))
}

/// `[opcode, era name, txVersion, [operands], [result] or null, flags, scriptPubKey, result]`
pub(super) fn opcode_cases_row(row: &Value) -> RowResult {
    let judged = (|| {
        let locking = unhex(row.get(6)?.as_str()?)?;
        let (version, flags) = (row.get(2)?.as_i64()?, row.get(5)?.as_u64()?);
        let want = row.get(7)?.as_str()?;
        Some(run_pair(&[], &locking, Flags(flags as u32), version as i32, 0, want))
    })();
    Some(judged.unwrap_or_else(|| Err(RowFailure::unreadable(&row.to_string()))))
}

/// `{desc, flags, tx, n, amount, scriptPubKey, result}`
pub(super) fn signature_cases_row(row: &Value) -> RowResult {
    let judged = (|| {
        let bytes = unhex(row.get("tx")?.as_str()?)?;
        let locking = unhex(row.get("scriptPubKey")?.as_str()?)?;
        let flags = Flags(row.get("flags")?.as_u64()? as u32);
        let (index, amount) = (row.get("n")?.as_u64()? as usize, row.get("amount")?.as_i64()?);
        let want = row.get("result")?.as_str()?;
        let mut layout = TxLayout::new();
        let view = tx::parse(&bytes, &mut layout).ok()?;
        let context = TxContext::new(view, index, amount as u64);
        Some(expect(want, judge(view.input(index).unlocking_script, &locking, flags, context)))
    })();
    Some(judged.unwrap_or_else(|| Err(RowFailure::unreadable(&row.to_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembly_pushes_numbers_texts_and_raw_bytes() {
        assert_eq!(
            assemble("0 -1 1 16 17 -17 128 'Az' 0x0102 OP_DUP NOP2"),
            Some(vec![
                0, 0x4f, 0x51, 0x60, 1, 17, 1, 0x91, 2, 0x80, 0, 2, b'A', b'z', 1, 2, 0x76, 0xb1
            ])
        );
        assert_eq!(assemble("''"), Some(vec![0]));
        assert_eq!(assemble("FROB"), None);
    }
}
