//! `bitcoin-util-test.json`: cases of SV Node's command `bitcoin-tx`, with the transactions it printed.
//!
//! One row a case. Checks the transaction that the case's output file holds, as hex (it parses and is written back) or as
//! JSON (its hex parses, and txid, size, version, inputs and outputs are what the JSON says). Cases that end in an error of
//! that program's command line have no transaction and are skipped.

use super::File;
use super::tally::{Held, Tally, same_as, wanted};
use super::txs::{round_trip, unhex};
use consensus::tx::{TxLayout, parse};
use serde_json::Value;

/// Checks every case.
pub fn check(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    for (number, case) in value.as_array().into_iter().flatten().enumerate() {
        match case["output_cmp"].as_str() {
            Some(output) => tally.row(number, one(file, output)),
            None => tally.skip("an error of bitcoin-tx's command line, no transaction"),
        }
    }
}

/// One of the JSON transactions that the cases name, by itself.
pub fn transaction_json(file: &File<'_>, tally: &mut Tally) {
    tally.row("file", printed(file.name(), file.bytes));
}

fn one(file: &File<'_>, output: &str) -> Held {
    let bytes = file.beside(output).map_err(wanted(output))?;
    printed(output, &bytes)
}

/// Checks a transaction as the program prints it: hex, or JSON that describes it.
fn printed(output: &str, bytes: &[u8]) -> Held {
    let text = String::from_utf8_lossy(bytes);
    let (hex, says) = if std::path::Path::new(output).extension().is_some_and(|kind| kind == "json")
    {
        let says: Value = serde_json::from_str(&text).map_err(wanted("JSON"))?;
        (says["hex"].as_str().unwrap_or_default().to_owned(), says)
    } else {
        (text.into_owned(), Value::Null)
    };
    let raw = unhex(&hex)?;
    let mut layout = TxLayout::default();
    let view = parse(&raw, &mut layout).map_err(wanted("a transaction"))?;
    round_trip(&view)?;
    if says.is_null() {
        return Ok(());
    }
    same_as("txid", &says["txid"], &view.txid().to_string().into())?;
    same_as("version", &says["version"], &view.version().into())?;
    same_as("size", &says["size"], &view.raw_size().into())?;
    same_as("locktime", &says["locktime"], &view.lock_time().into())?;
    let list = |key: &str| says[key].as_array().cloned().unwrap_or_default();
    same_as("inputs", &list("vin").len(), &view.input_count())?;
    same_as("outputs", &list("vout").len(), &view.output_count())?;
    for (input, says) in view.inputs().zip(list("vin")) {
        same_as("vin txid", &says["txid"], &input.prev.txid.to_string().into())?;
        same_as("vin vout", &says["vout"], &input.prev.vout.into())?;
        same_as("sequence", &says["sequence"], &input.sequence.into())?;
        let script = &says["scriptSig"]["hex"];
        same_as("unlocking script", script, &hex::encode(input.unlocking_script).into())?;
    }
    for (output, says) in view.outputs().zip(list("vout")) {
        let value_sat = says["value"].as_f64().map(|coins| (coins * 1e8).round() as i64);
        same_as("value", &value_sat, &Some(output.value_sat))?;
        let script = &says["scriptPubKey"]["hex"];
        same_as("locking script", script, &hex::encode(output.locking_script).into())?;
    }
    Ok(())
}
