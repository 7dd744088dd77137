//! A request read as far as it can be read without a node: what fuzzing drives.
//!
//! In: the bytes of a body. Out: what was found. Every reader that meets bytes from outside is reached: envelope, parameters of
//! every method, inputs of `sendrawtransactions`, solutions, transactions, scripts, proofs; and whatever was read is written
//! again, since the writers index into it. Nothing here answers a call.

use super::args::Args;
use super::envelope::{self, Call, Request, write_answer};
use super::error::RpcError;
use super::json::{Json, read_hex};
use super::methods::{mining, send};
use super::partial_tree;
use super::script_text::{asm, guessed_era, write_locking};
use super::table::{Kind, method};
use super::tx_json::write_tx;
use bytes::Bytes;
use consensus::params::{ChainParams, Network};
use consensus::tx::{TxLayout, parse};
use serde_json::Value;

/// Calls of a batch that are read.
const BATCH_MAX: usize = 64;

/// What was found in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Calls.
    pub calls: usize,
    /// Calls whose method would have been run.
    pub runnable: usize,
    /// Transactions, blocks and proofs that could be read.
    pub objects: usize,
}

/// Reads a request; panics where the node would.
pub fn examine(body: &Bytes) -> Found {
    let mut found = Found::default();
    let params = ChainParams::of(Network::Regtest);
    match envelope::parse(body, BATCH_MAX) {
        Ok(Request::Single(call)) => look(&call, &params, &mut found),
        Ok(Request::Batch(calls)) => calls.iter().for_each(|call| look(call, &params, &mut found)),
        Err(error) => answered(b"null", &Err(error)),
    }
    found
}

/// The answer must be JSON, whatever stands in it.
fn answered(id: &[u8], answer: &Result<Json, RpcError>) {
    let mut out = Vec::new();
    write_answer(&mut out, id, answer);
    let read = serde_json::from_slice::<Value>(&out);
    assert!(read.is_ok(), "an answer is no JSON: {}", String::from_utf8_lossy(&out));
}

fn look(call: &Call, params: &ChainParams, found: &mut Found) {
    found.calls += 1;
    let row = match &call.method {
        Ok(name) => method(name),
        Err(error) => return answered(&call.id, &Err(error.clone())),
    };
    let Some(row) = row else { return };
    if row.name == "sendrawtransactions" {
        send::examine(&call.params);
    }
    match Args::parse(row, &call.params) {
        Err(error) => answered(&call.id, &Err(error)),
        Ok(args) => {
            found.runnable += 1;
            for (at, param) in row.params.iter().enumerate() {
                match param.kind {
                    Kind::Text => text(args.text(at), params, found),
                    Kind::Object => mining::examine(args.object(at)),
                    Kind::Int => drop(args.int(at)),
                    Kind::Bool | Kind::Array | Kind::Any => {}
                }
            }
        }
    }
}

/// What a string of hex digits may hold.
fn text(text: &str, params: &ChainParams, found: &mut Found) {
    let Some(bytes) = read_hex(text) else { return };
    let _ = asm(&bytes, true);
    let era = guessed_era(std::iter::once(&bytes[..]));
    answered(b"1", &Ok(Json::of(|w| w.object(|w| write_locking(w, &bytes, era, params)))));
    found.objects += usize::from(mining::measure(&bytes).is_some());
    found.objects += usize::from(matches!(partial_tree::read(&bytes), Ok(Some(_))));
    let mut layout = TxLayout::new();
    if let Ok(tx) = parse(&bytes, &mut layout) {
        found.objects += 1;
        let era = guessed_era(tx.outputs().map(|output| output.locking_script));
        answered(b"1", &Ok(Json::of(|w| write_tx(w, tx, &tx.txid(), era, params, None))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn found(body: &str) -> Found {
        examine(&Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn calls_are_read_down_to_the_transaction_in_them() {
        let tx = format!(
            "01000000{}{}{}",
            "01",
            "11".repeat(36),
            "00ffffffff01010000000000000001510000"
        ) + "0000";
        let row = |calls, runnable, objects| Found { calls, runnable, objects };
        let body = format!("{{\"method\":\"decoderawtransaction\",\"params\":[\"{tx}\"]}}");
        assert_eq!(found(&body), row(1, 1, 1));
        assert_eq!(found("[{\"method\":\"uptime\"},{\"method\":\"getblock\"},5]"), row(3, 1, 0));
        assert_eq!(found("{"), row(0, 0, 0));
    }

    #[test]
    fn the_corpus_of_the_fuzzer_is_read_without_harm() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/rpc");
        let files: Vec<_> = std::fs::read_dir(corpus).expect("the corpus").flatten().collect();
        assert!(files.len() >= 20, "{} files", files.len());
        let mut runnable = 0;
        for file in files {
            runnable += examine(&std::fs::read(file.path()).expect("a file").into()).runnable;
        }
        assert!(runnable >= 15, "{runnable} calls reached a method");
    }

    /// Numbers that look random and are the same in every run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % n.max(1)
        }
    }

    /// Bytes that mean something in JSON.
    const MARKS: &[u8] = b"[]{}\",:0-eE.\\ntf";

    /// One change: a bit, a byte, a piece that goes, comes twice or comes from another file.
    fn change(body: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
        let at = dice.below(body.len());
        let end = (at + 1 + dice.below(12)).min(body.len());
        match dice.below(6) {
            0 => body[at] ^= 1 << dice.below(8),
            1 => body[at] = MARKS[dice.below(MARKS.len())],
            2 => drop(body.drain(at..end)),
            3 => {
                let piece = body[at..end].to_vec();
                body.splice(at..at, piece);
            }
            4 => body.truncate(at),
            _ => {
                let other = &others[dice.below(others.len())];
                let from = dice.below(other.len());
                body.splice(at..end, other[from..(from + 24).min(other.len())].iter().copied());
            }
        }
        if body.is_empty() {
            body.push(b'{');
        }
    }

    #[test]
    fn changed_requests_are_read_without_harm() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/rpc");
        let mut files: Vec<_> = std::fs::read_dir(corpus).expect("the corpus").flatten().collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        let seeds: Vec<Vec<u8>> =
            files.iter().map(|file| std::fs::read(file.path()).expect("a file")).collect();
        let (mut dice, mut runnable) = (Dice(7), 0);
        for round in 0..300 {
            for seed in &seeds {
                let mut body = seed.clone();
                for _ in 0..=dice.below(3) {
                    change(&mut body, &seeds, &mut dice);
                }
                runnable += examine(&body.into()).runnable;
            }
            assert!(round < 10 || runnable > round, "nearly nothing is read any more");
        }
    }
}
