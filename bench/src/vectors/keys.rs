//! Signatures by themselves (Wycheproof), and addresses in base58.

use super::File;
use super::tally::{Held, Tally, same, same_as, that, wanted};
use super::txs::unhex;
use consensus::address::{Destination, Wif, decode_base58, encode_base58};
use consensus::hash::sha256;
use consensus::params::{ChainParams, Network};
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

/// `base58_encode_decode.json`: `[hex, text]`.
pub fn base58(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    for (number, row) in value.as_array().into_iter().flatten().enumerate() {
        let text = row[1].as_str().unwrap_or_default();
        let held = unhex(row[0].as_str().unwrap_or_default()).and_then(|bytes| {
            same_as("text", &text, &encode_base58(&bytes).as_str())?;
            same(&bytes, &decode_base58(text).map_err(wanted("base58"))?)
        });
        tally.row(number, held);
    }
}

/// `base58_keys_valid.json`: `[text, hex, what it is]`, on mainnet or testnet.
pub fn base58_valid(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    for (number, row) in value.as_array().into_iter().flatten().enumerate() {
        tally.row(number, valid_key(row));
    }
}

fn valid_key(row: &Value) -> Held {
    let (text, what) = (row[0].as_str().unwrap_or_default(), &row[2]);
    let payload = unhex(row[1].as_str().unwrap_or_default())?;
    let (ours, other) = if what["isTestnet"] == true {
        (Network::Test, Network::Main)
    } else {
        (Network::Main, Network::Test)
    };
    let (ours, other) = (ChainParams::of(ours), ChainParams::of(other));
    if what["isPrivkey"] == true {
        let key = Wif::parse(text, &ours.prefixes).map_err(wanted("a private key"))?;
        same_as("secret", &payload, &key.secret.to_vec())?;
        same_as("compressed", &what["isCompressed"], &key.is_compressed.into())?;
        same_as("text", &text, &key.to_text(&ours.prefixes).as_str())?;
        that("no address", Destination::parse(text, &ours.prefixes).is_err())?;
        return that("no key of the other network", Wif::parse(text, &other.prefixes).is_err());
    }
    let got = Destination::parse(text, &ours.prefixes).map_err(wanted("an address"))?;
    let hash = payload.as_slice().try_into().map_err(wanted("twenty bytes"))?;
    let want = if what["addrType"] == "script" {
        Destination::ScriptHash(hash)
    } else {
        Destination::PubKeyHash(hash)
    };
    same(&want, &got)?;
    same_as("text", &text, &got.to_address(&ours).as_str())?;
    that("no private key", Wif::parse(text, &ours.prefixes).is_err())?;
    that("no address of the other network", Destination::parse(text, &other.prefixes).is_err())
}

/// `base58_keys_invalid.json`: texts that are nothing on any network.
pub fn base58_invalid(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    for (number, row) in value.as_array().into_iter().flatten().enumerate() {
        let text = row[0].as_str().unwrap_or_default();
        let is_nothing = [Network::Main, Network::Test, Network::Regtest].iter().all(|network| {
            let prefixes = ChainParams::of(*network).prefixes;
            Destination::parse(text, &prefixes).is_err() && Wif::parse(text, &prefixes).is_err()
        });
        tally.row(number, that("neither address nor key", is_nothing));
    }
}
