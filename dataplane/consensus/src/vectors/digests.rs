//! Rows of signature digests: sighash.json (both columns) and sighash_cases.

use super::{RowFailure, RowResult, reversed_hex, unhex};
use crate::script::Budget;
use crate::sighash::SighashCache;
use crate::tx::{self, TxLayout};
use serde_json::Value;

struct Case {
    tx: Vec<u8>,
    script_code: Vec<u8>,
    input_index: usize,
    hash_type: u32,
    value_sat: u64,
}

impl Case {
    fn compare(&self, fork_id: bool, want: &str) -> Result<(), RowFailure> {
        let mut layout = TxLayout::new();
        let view = tx::parse(&self.tx, &mut layout)
            .map_err(|error| RowFailure::unreadable(&error.to_string()))?;
        let mut cache = SighashCache::new();
        let digest = |input: usize, cache: &mut SighashCache| {
            let mut budget = Budget::UNLIMITED;
            cache
                .digest(
                    &view,
                    input,
                    self.hash_type,
                    self.value_sat,
                    &self.script_code,
                    fork_id,
                    &mut budget,
                )
                .expect("the budget has no end")
        };
        // Asked twice, and again behind every other input, so that the cache is judged with the digest.
        let cold = digest(self.input_index, &mut cache);
        for input in 0..view.input_count() {
            digest(input, &mut cache);
        }
        let warm = digest(self.input_index, &mut cache);
        let got = reversed_hex(&cold);
        if got != want || warm != cold {
            return Err(RowFailure {
                want: want.into(),
                got: format!("{got}, then {}", reversed_hex(&warm)),
            });
        }
        Ok(())
    }
}

/// `[raw transaction, script, input index, hash type, digest, digest without FORKID]`
pub(super) fn sighash_json_row(row: &Value) -> RowResult {
    row.as_array().filter(|fields| fields.len() > 1)?;
    let judged = (|| {
        let case = Case {
            tx: unhex(row.get(0)?.as_str()?)?,
            script_code: unhex(row.get(1)?.as_str()?)?,
            input_index: row.get(2)?.as_u64()? as usize,
            hash_type: row.get(3)?.as_i64()? as u32,
            value_sat: 0,
        };
        let (regular, original) = (row.get(4)?.as_str()?, row.get(5)?.as_str()?);
        Some(case.compare(true, regular).and_then(|()| case.compare(false, original)))
    })();
    Some(judged.unwrap_or_else(|| Err(RowFailure::unreadable(&row.to_string()))))
}

/// `[tx, scriptCode, input index, hash type, amount, digest]`, FORKID enabled.
pub(super) fn sighash_cases_row(row: &Value) -> RowResult {
    let judged = (|| {
        let case = Case {
            tx: unhex(row.get(0)?.as_str()?)?,
            script_code: unhex(row.get(1)?.as_str()?)?,
            input_index: row.get(2)?.as_u64()? as usize,
            hash_type: row.get(3)?.as_i64()? as u32,
            value_sat: row.get(4)?.as_i64()? as u64,
        };
        Some(case.compare(true, row.get(5)?.as_str()?))
    })();
    Some(judged.unwrap_or_else(|| Err(RowFailure::unreadable(&row.to_string()))))
}
