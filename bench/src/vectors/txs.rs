//! Single transactions in files: raw or extended, as bytes or as hex, named by their txid or not.
//!
//! One row a file. Holds when the bytes parse whole, are written back the same, give the same txid when hashed in pieces,
//! and that txid is the one the file's name says.

use super::File;
use super::tally::{Differs, Held, Tally, same, same_as, that, wanted};
use consensus::hash::sha256;
use consensus::tx::{TxIdHasher, TxLayout, TxView, parse};

/// Whether a file's name says that it holds one transaction.
pub fn is_transaction(name: &str, path: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let named_by_txid = is_hash(stem);
    let is_block = path.contains("legacy/testdata/") && name.ends_with(".bin");
    (name.ends_with(".hex") && !name.starts_with("reorg"))
        || (named_by_txid && !is_block && (name == stem || name.contains(".bin")))
}

/// Sixty-four hex digits.
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Checks the one transaction of a file.
pub fn check(file: &File<'_>, tally: &mut Tally) {
    tally.row("file", one(file));
}

fn one(file: &File<'_>) -> Held {
    let is_hex =
        file.bytes.iter().all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace());
    let decoded;
    let bytes = if is_hex {
        decoded = unhex(&String::from_utf8_lossy(file.bytes))?;
        &decoded
    } else {
        file.bytes
    };
    let mut layout = TxLayout::default();
    let view = parse(bytes, &mut layout).map_err(wanted("a transaction"))?;
    round_trip(&view)?;
    let stem = file.name().split('.').next().unwrap_or_default();
    if is_hash(stem) { same_as("txid", &stem.to_owned(), &view.txid().to_string()) } else { Ok(()) }
}

/// Bytes from hex, whitespace ignored.
pub fn unhex(text: &str) -> Result<Vec<u8>, Differs> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    hex::decode(digits).map_err(wanted("hex"))
}

/// Writing is the inverse of parsing, and hashing in pieces gives the txid.
pub fn round_trip(view: &TxView<'_>) -> Held {
    let owned = view.to_owned_tx();
    if view.is_extended() {
        that(
            "written back extended, the same bytes",
            owned.to_extended_bytes().as_deref() == Some(view.bytes()),
        )?;
    } else {
        that("written back, the same bytes", owned.to_bytes() == view.bytes())?;
    }
    let mut raw = Vec::new();
    view.write_raw(&mut raw);
    same_as("raw size", &view.raw_size(), &(raw.len() as u64))?;
    that("raw bytes hash to the txid", consensus::hash::TxId::of(&raw) == view.txid())?;
    let mut pieces = TxIdHasher::new(*view);
    loop {
        if let Some(txid) = pieces.advance(61) {
            return same(&view.txid(), &txid);
        }
    }
}

/// `<digest>  <file>`: the digest of a file that lies beside this one.
pub fn sha256_sum(file: &File<'_>, tally: &mut Tally) {
    let text = String::from_utf8_lossy(file.bytes);
    for (number, line) in text.lines().enumerate() {
        let held = (|| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [digest, name] = words[..] else {
                return Err(Differs {
                    want: "a digest and a name".to_owned(),
                    got: line.to_owned(),
                });
            };
            let bytes = file.beside(name).map_err(wanted(name))?;
            same_as("digest", &digest.to_owned(), &hex::encode(sha256(&bytes)))
        })();
        tally.row(number + 1, held);
    }
}
