//! Signatures by themselves (Wycheproof), and addresses in base58.

use super::File;
use super::tally::{Held, Tally, same_as};
use super::txs::unhex;
use consensus::hash::sha256;
use consensus::script::{Immediate, SigCheck, is_strict_der, read_lax_der};
use serde_json::Value;

/// Wycheproof's `EcdsaBitcoinVerify`: a row is good when the signature is strict DER with a low S and verifies, as blocks
/// demand it today.
pub fn wycheproof(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    for group in value["testGroups"].as_array().into_iter().flatten() {
        let key = unhex(group["publicKey"]["uncompressed"].as_str().unwrap_or_default());
        for test in group["tests"].as_array().into_iter().flatten() {
            let row = format!("tcId {}", test["tcId"]);
            tally.row(row, key.clone().and_then(|key| signature(&key, test)));
        }
    }
}

fn signature(key: &[u8], test: &Value) -> Held {
    let message = unhex(test["msg"].as_str().unwrap_or_default())?;
    let der = unhex(test["sig"].as_str().unwrap_or_default())?;
    let is_strict = is_strict_der(&[&der[..], &[1]].concat());
    let is_low = read_lax_der(&der).is_some_and(|signature| signature.is_low_s());
    let good = is_strict && is_low && Immediate.check(key, &der, &sha256(&message));
    same_as("valid", &(test["result"] == "valid"), &good)
}
