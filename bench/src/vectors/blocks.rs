//! Whole blocks in Bitcoin's format: alone, framed by magic and length, as text, in JSON.
//!
//! One row a block. Holds when it parses, its hash meets its bits, its merkle root is that of its transactions and no
//! mutation, every transaction is written back the same, and it follows the block before it where the file is a chain.

use super::File;
use super::tally::{Differs, Held, Tally, same_as, that, wanted};
use super::txs::{round_trip, unhex};
use consensus::block::BlockView;
use consensus::hash::BlockHash;
use consensus::merkle::merkle_root;
use consensus::params::{ChainParams, Network};
use consensus::pow::hash_meets_bits;
use consensus::tx::TxLayout;
use std::io::Read;

/// Unpacked size of one file, at most.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// Whether a file holds one raw block: `block<height>.raw`, or a name that is a block hash under `legacy/testdata`.
pub fn is_raw(name: &str, path: &str) -> bool {
    let named = name.starts_with("block") && name.ends_with(".raw");
    named || (name.ends_with(".bin") && name.starts_with("00000000") && path.contains("testdata"))
}

/// Whether a file holds packed blocks, each behind magic and length.
pub fn is_framed(name: &str) -> bool {
    name.ends_with(".dat.bz2") || (name.starts_with("blocks") && name.ends_with(".bz2"))
}

/// One raw block.
pub fn raw(file: &File<'_>, tally: &mut Tally) {
    let held = block(file.bytes, Network::Main).and_then(|(block, transactions)| {
        tally.note("transactions", transactions);
        let stem = file.name().split('.').next().unwrap_or_default();
        let named = stem.len() == 64;
        if named { same_as("hash", &stem.to_owned(), &block.hash().to_string()) } else { Ok(()) }
    });
    tally.row("file", held);
}

/// Checks a block by itself; gives it back with the number of its transactions.
pub fn block(bytes: &[u8], network: Network) -> Result<(BlockView<'_>, u64), Differs> {
    let block = BlockView::parse(bytes).map_err(wanted("a block"))?;
    let limit = ChainParams::of(network).pow_limit();
    that(
        "a hash that meets its bits",
        hash_meets_bits(&block.hash(), block.header().n_bits, limit),
    )?;
    let mut layout = TxLayout::default();
    let mut txs = block.txs();
    let mut ids = Vec::new();
    while let Some(view) = txs.next_tx(&mut layout).map_err(wanted("a transaction"))? {
        round_trip(&view)?;
        same_as("coinbase first and only there", &ids.is_empty(), &view.is_coinbase())?;
        ids.push(view.txid().0);
    }
    let root = merkle_root(&ids);
    same_as("merkle root", &block.header().merkle_root, &root.root)?;
    same_as("mutated", &false, &root.is_mutated)?;
    same_as("transactions", &block.tx_count(), &(ids.len() as u64))?;
    Ok((block, ids.len() as u64))
}

/// Packed blocks of a chain: `magic | length | block`, again and again.
pub fn framed(file: &File<'_>, tally: &mut Tally) {
    match unpack(file.bytes) {
        Ok(bytes) => frames(&bytes, tally),
        Err(differs) => tally.fail("file", &differs.want, &differs.got),
    }
}

/// Bytes of a file packed with bzip2.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>, Differs> {
    let mut bytes = Vec::new();
    let mut reader = bzip2::read::BzDecoder::new(packed).take(UNPACKED_BYTES_MAX);
    reader.read_to_end(&mut bytes).map_err(wanted("bzip2"))?;
    Ok(bytes)
}

/// `reorgtest.hex`: the same frames as groups of hex digits with words between them.
pub fn text(file: &File<'_>, tally: &mut Tally) {
    let text = String::from_utf8_lossy(file.bytes);
    let mut digits = String::new();
    for line in text.lines() {
        let is_hex = |word: &str| {
            word.len().is_multiple_of(2) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        if line.split_whitespace().all(is_hex) {
            digits.push_str(line);
        }
    }
    match unhex(&digits) {
        Ok(bytes) => frames(&bytes, tally),
        Err(differs) => tally.fail("file", &differs.want, &differs.got),
    }
}

/// Walks frames; a block that does not follow the one before starts a chain of its own, whose parent came earlier.
fn frames(mut bytes: &[u8], tally: &mut Tally) {
    let magic = ChainParams::of(Network::Main).disk_magic.unwrap_or_default();
    let mut seen: Vec<BlockHash> = Vec::new();
    let mut row = 0;
    while !bytes.is_empty() {
        let framed = bytes.split_first_chunk::<8>().and_then(|(head, rest)| {
            let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            (head[..4] == magic).then_some(())?;
            rest.split_at_checked(len)
        });
        let Some((one, rest)) = framed else {
            tally.fail(
                row,
                "magic, length and a block",
                &hex::encode(&bytes[..bytes.len().min(16)]),
            );
            return;
        };
        let held = block(one, Network::Main).and_then(|(block, transactions)| {
            tally.note("transactions", transactions);
            let follows = seen.is_empty() || seen.contains(&block.header().prev);
            seen.push(block.hash());
            that("a parent earlier in the file", follows)
        });
        tally.row(row, held);
        row += 1;
        bytes = rest;
    }
}

/// `rpc_getblockstats.json`: blocks of a regtest chain, and what an RPC says about some of them.
pub fn json(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    let blocks = value["blocks"].as_array().cloned().unwrap_or_default();
    let mut before = None;
    for (row, hex) in blocks.iter().enumerate() {
        let held = (|| {
            let bytes = unhex(hex.as_str().unwrap_or_default())?;
            let (block, _) = block(&bytes, Network::Regtest)?;
            if let Some(before) = before.replace(block.hash()) {
                same_as("previous hash", &before, &block.header().prev)?;
            }
            let says =
                value["stats"].as_array().into_iter().flatten().find(|says| says["height"] == row);
            says.map_or(Ok(()), |says| stats(&block, says))
        })();
        tally.row(row, held);
    }
}

/// The statistics that follow from the block alone.
fn stats(block: &BlockView<'_>, says: &serde_json::Value) -> Held {
    same_as("hash", &says["blockhash"], &block.hash().to_string().into())?;
    same_as("time", &says["time"], &block.header().time_s.into())?;
    same_as("transactions", &says["txs"], &block.tx_count().into())?;
    let mut layout = TxLayout::default();
    let mut txs = block.txs();
    let (mut inputs, mut outputs, mut size, mut total) = (0_u64, 0_u64, 0_u64, 0_i64);
    while let Some(view) = txs.next_tx(&mut layout).map_err(wanted("a transaction"))? {
        outputs += view.output_count() as u64;
        if !view.is_coinbase() {
            inputs += view.input_count() as u64;
            size += view.raw_size();
            total += view.outputs().map(|output| output.value_sat).sum::<i64>();
        }
    }
    same_as("inputs", &says["ins"], &inputs.into())?;
    same_as("outputs", &says["outs"], &outputs.into())?;
    same_as("size", &says["total_size"], &size.into())?;
    let says_total = says["total_out"].as_f64().map(|coins| (coins * 1e8).round() as i64);
    same_as("value out", &says_total, &Some(total))
}
