//! Rows of whole transactions with the coins they spend: tx_valid.json and tx_invalid.json.

use super::{RowFailure, RowResult, assemble, judge, outcome_name, unhex};
use crate::hash::TxId;
use crate::params::Era;
use crate::rules::{TxLimits, TxReject, check_coinbase, check_transaction};
use crate::script::{Flags, Outcome, TxContext};
use crate::tx::{self, OutPoint, TxLayout, TxView};
use serde_json::Value;
use std::collections::BTreeMap;

type Coins = BTreeMap<OutPoint, (Vec<u8>, u64)>;

struct Case<'a> {
    coins: Coins,
    bytes: Vec<u8>,
    flag_sets: Vec<&'a str>,
}

/// `[[[prevout hash, prevout index, prevout scriptPubKey, amount?], ...], transaction, flags or [flags, ...]]`
fn read(row: &Value) -> Option<Case<'_>> {
    let mut coins = Coins::new();
    for coin in row.get(0)?.as_array()? {
        let txid: TxId = coin.get(0)?.as_str()?.parse().ok()?;
        let prev = OutPoint { txid, vout: coin.get(1)?.as_i64()? as u32 };
        let value = coin.get(3).and_then(Value::as_i64).unwrap_or(0);
        coins.insert(prev, (assemble(coin.get(2)?.as_str()?)?, value as u64));
    }
    let flag_sets = match row.get(2)? {
        Value::String(one) => vec![one.as_str()],
        many => many.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?,
    };
    Some(Case { coins, bytes: unhex(row.get(1)?.as_str()?)?, flag_sets })
}

/// The context-free rules, of the era before Genesis that these files are about.
fn context_free(view: TxView<'_>) -> Result<(), TxReject> {
    let check = if view.is_coinbase() { check_coinbase } else { check_transaction };
    check(view, Era::PreGenesis, &TxLimits::CONSENSUS)
}

/// The first thing that is wrong under one set of flags, or "OK".
fn verdict(view: &TxView<'_>, coins: &Coins, flags: Flags) -> Result<String, RowFailure> {
    if let Err(reject) = context_free(*view) {
        return Ok(reject.reason().into());
    }
    for (index, input) in view.inputs().enumerate() {
        let Some((locking, value_sat)) = coins.get(&input.prev) else {
            return Err(RowFailure::unreadable("an input spends a coin the row does not list"));
        };
        let context = TxContext::new(*view, index, *value_sat);
        let outcome = judge(input.unlocking_script, locking, flags, context)?;
        if outcome != Outcome::Accepted {
            return Ok(format!("input {index}: {}", outcome_name(outcome)));
        }
    }
    Ok("OK".into())
}

fn run(row: &Value, valid: bool) -> RowResult {
    row.get(0)?.as_array()?;
    let judged = (|| {
        let case = read(row)?;
        let mut layout = TxLayout::new();
        // One invalid vector has a byte too many behind its transaction; the file's own reader does not look there.
        let view = match tx::parse_prefix(&case.bytes, &mut layout, tx::Limits::RAW) {
            Ok(view) => view,
            Err(_) if !valid => return Some(Ok(())),
            Err(error) => return Some(Err(RowFailure::unreadable(&error.to_string()))),
        };
        for names in &case.flag_sets {
            let flags = Flags::parse_list(names)?;
            match verdict(&view, &case.coins, flags) {
                Ok(got) if (got == "OK") == valid => {}
                Ok(got) => {
                    let want = if valid { "OK" } else { "a failure" };
                    return Some(Err(RowFailure { want: format!("{want} under {names}"), got }));
                }
                Err(failure) => return Some(Err(failure)),
            }
        }
        Some(Ok(()))
    })();
    Some(judged.unwrap_or_else(|| Err(RowFailure::unreadable(&row.to_string()))))
}

pub(super) fn tx_valid_row(row: &Value) -> RowResult {
    run(row, true)
}

pub(super) fn tx_invalid_row(row: &Value) -> RowResult {
    run(row, false)
}
