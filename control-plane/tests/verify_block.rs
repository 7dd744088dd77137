//! `metanode verify-block` as a user runs it: the real block, the real binary, and bytes that were changed.

mod common;

use common::{Vectors, run};
use consensus::block::BlockView;
use consensus::tx::TxLayout;
use dataplane::rng::Rng;

/// Runs over changed blocks in the normal test; `METANODE_FLIPS=500` is the long one.
const FLIPS: usize = 12;

fn args<'a>(block: &'a str, coins: &'a str) -> Vec<&'a str> {
    let fixed = ["--height", "413567", "--network", "mainnet", "--json"];
    ["verify-block", "--block", block, "--coins", coins].into_iter().chain(fixed).collect()
}

#[test]
fn mainnet_block_413567_is_right_in_every_input_and_satoshi() {
    let Some(v) = Vectors::find() else { return };
    for more in [&[][..], &["--inputs-only"]] {
        let mut args = args(&v.block, &v.coins);
        args.extend(more);
        let (code, object) = run(&args);
        assert_eq!(code, 0, "{object}");
        assert_eq!(object["txs"], 1_557);
        assert_eq!(object["inputs"], 4_886);
        assert_eq!(object["fees_sat"], 31_310_238);
        assert!(object["signatures"].as_u64().is_some_and(|n| n >= 4_886), "{object}");
        assert_eq!(object["failures"].as_array().map(Vec::len), Some(0));
    }
}

#[test]
fn one_flipped_bit_in_a_signature_is_named_with_its_transaction_and_input() {
    let Some(v) = Vectors::find() else { return };
    let flips = std::env::var("METANODE_FLIPS").ok().and_then(|n| n.parse().ok()).unwrap_or(FLIPS);
    let whole = std::fs::read(&v.block).expect("the block was found");
    let pushes = signature_pushes(&whole);
    assert!(pushes.len() > 4_800, "only {} signature pushes were found", pushes.len());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("changed.raw");
    let mut rng = Rng::new(413_567);
    for flip in 0..flips {
        let push = &pushes[rng.index(pushes.len())];
        let bit = rng.index(push.len * 8);
        let mut changed = whole.clone();
        changed[push.at + bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &changed).expect("writable");
        let mut args = args(path.to_str().expect("a plain path"), &v.coins);
        args.push("--inputs-only");
        let (code, object) = run(&args);
        assert_eq!(code, 1, "flip {flip} of {push:?} bit {bit}: {object}");
        let failures = object["failures"].as_array().expect("a list");
        assert_eq!(failures.len(), 1, "flip {flip} of {push:?} bit {bit}: {object}");
        assert_eq!(failures[0]["tx"], push.tx);
        assert_eq!(failures[0]["vin"], push.vin);
        let txid = BlockView::parse(&changed).and_then(|b| b.txids()).expect("still a block");
        assert_eq!(failures[0]["txid"], txid[push.tx].to_string());
        let error = failures[0]["error"].as_str().unwrap_or_default();
        assert!(consensus::script::ScriptError::from_name(error).is_some(), "{error}");
    }
}

#[test]
fn a_block_with_one_byte_changed_fails_by_its_merkle_root() {
    let Some(v) = Vectors::find() else { return };
    let mut block = std::fs::read(&v.block).expect("the block was found");
    // One byte of the last transaction's lock time.
    *block.last_mut().expect("not empty") ^= 1;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("changed.raw");
    std::fs::write(&path, &block).expect("writable");
    let (code, object) = run(&args(path.to_str().expect("a plain path"), &v.coins));
    assert_eq!(code, 1);
    assert_eq!(object["failures"][0]["error"], "bad-txnmrklroot");
}

#[test]
fn rubbish_is_answered_and_never_a_panic() {
    let Some(v) = Vectors::find() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("rubbish");
    let whole = std::fs::read(&v.block).expect("the block was found");
    for bytes in [&b""[..], &b"rubbish"[..], &whole[..whole.len() - 1], &[0xff; 200]] {
        std::fs::write(&path, bytes).expect("writable");
        let (code, object) = run(&args(path.to_str().expect("a plain path"), &v.coins));
        assert_eq!(code, 1);
        let error = object["failures"][0]["error"].as_str().unwrap_or_default();
        assert!(error.starts_with("the bytes are no block"), "{object}");
    }
    std::fs::write(&path, "[1,0,oops]\n").expect("writable");
    let (code, object) = run(&args(&v.block, path.to_str().expect("a plain path")));
    assert_eq!(code, 1);
    assert!(object["error"].as_str().is_some_and(|e| e.contains("line 1")), "{object}");
    let (code, object) = run(&args("/nowhere/at/all", &v.coins));
    assert_eq!(code, 1);
    assert!(object["error"].as_str().is_some_and(|e| e.contains("/nowhere/at/all")), "{object}");
}

#[derive(Debug)]
struct Push {
    tx: usize,
    vin: usize,
    at: usize,
    len: usize,
}

/// Where the first data an unlocking script pushes is a signature: its place in the block.
fn signature_pushes(block: &[u8]) -> Vec<Push> {
    let view = BlockView::parse(block).expect("the real block");
    let mut layout = TxLayout::new();
    let mut txs = view.txs();
    let mut tx = 0;
    let mut out = Vec::new();
    while let Some(t) = txs.next_tx(&mut layout).expect("the real block") {
        for (vin, input) in t.inputs().enumerate() {
            let script = input.unlocking_script;
            // In front of the signatures of a multisig stands the empty dummy.
            let dummy = usize::from(script.first() == Some(&0));
            let len = script.get(dummy).map_or(0, |l| usize::from(*l));
            if (60..=73).contains(&len) && script.get(dummy + 1) == Some(&0x30) {
                let at = script.as_ptr() as usize - block.as_ptr() as usize + dummy + 1;
                out.push(Push { tx, vin, at, len });
            }
        }
        tx += 1;
    }
    out
}
