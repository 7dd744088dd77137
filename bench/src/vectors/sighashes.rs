//! Rows of signature digests.

use super::File;
use super::tally::{Differs, Held, Tally, same_as, wanted};
use super::txs::unhex;
use consensus::hash::TxId;
use consensus::script::Budget;
use consensus::sighash::SighashCache;
use consensus::tx::{TxLayout, TxView, parse};
use serde_json::Value;

/// `sighash.json`: `[tx, script code, input, hash type, digest with FORKID, digest without]`, value 0.
pub fn sv_node(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    for (number, row) in value.as_array().into_iter().flatten().enumerate() {
        // A row of one cell is a comment.
        if row.as_array().is_some_and(|cells| cells.len() > 1) {
            let held = one(row, 0, &row[4], true).and_then(|()| one(row, 0, &row[5], false));
            tally.row(number, held);
        }
    }
}

/// `sighash_cases.jsonl`: `[tx, script code, input, hash type, value, digest]`, FORKID enabled.
pub fn derived(file: &File<'_>, tally: &mut Tally) {
    for (number, row) in file.json_lines(tally) {
        tally.row(number, one(&row, row[4].as_u64().unwrap_or(0), &row[5], true));
    }
}

fn one(row: &Value, value_sat: u64, want: &Value, fork_id: bool) -> Held {
    let bytes = unhex(row[0].as_str().unwrap_or_default())?;
    let code = unhex(row[1].as_str().unwrap_or_default())?;
    let input = row[2].as_u64().unwrap_or(0) as usize;
    let hash_type = row[3].as_i64().unwrap_or(0) as u32;
    let mut layout = TxLayout::default();
    let view = parse(&bytes, &mut layout).map_err(wanted("a transaction"))?;
    let mut cache = SighashCache::new();
    let mut digest = |view: TxView<'_>, input: usize| -> Result<String, Differs> {
        let budget = &mut Budget::UNLIMITED.clone();
        let digest = cache.digest(&view, input, hash_type, value_sat, &code, fork_id, budget);
        let digest = digest.map_err(|part| format!("{part:?}")).map_err(wanted("a digest"))?;
        Ok(TxId(digest).to_string())
    };
    let what = if fork_id { "digest" } else { "digest without FORKID" };
    same_as(what, want, &digest(view, input)?.into())?;
    // Again with everything in the cache, and after another input was asked.
    digest(view, (input + 1) % view.input_count())?;
    same_as("digest from the cache", want, &digest(view, input)?.into())
}
