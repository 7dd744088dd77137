//! Real blocks with the coins they spend: every input of the block is verified.
//!
//! `block<height>_prevouts.jsonl` names its block in its first line; the block lies elsewhere below the same root. One row
//! an input. The fees that follow must be those of the first line.

use super::File;
use super::blocks::{block, unpack};
use super::tally::{Differs, Held, Tally, same_as, wanted};
use super::txs::unhex;
use consensus::params::{ChainParams, Network};
use consensus::script::{Flags, TxContext};
use consensus::tx::{TxLayout, TxView};
use consensus::vectors::{judge, outcome_name};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A coin of the file: height, coinbase, value and locking script.
struct Coin {
    height: u32,
    value_sat: u64,
    locking: Vec<u8>,
}

/// Verifies every input of the block.
pub fn rows(file: &File<'_>, tally: &mut Tally) {
    let mut lines = file.json_lines(tally).into_iter();
    let Some((_, meta)) = lines.next() else { return };
    let mut coins = HashMap::new();
    for (number, row) in lines {
        match coin(&row) {
            Ok((at, coin)) => drop(coins.insert(at, (number, coin))),
            Err(differs) => tally.fail(number, &differs.want, &differs.got),
        }
    }
    let held = find_block(file.root, &meta).and_then(|bytes| whole(&bytes, &meta, coins, tally));
    if let Err(differs) = held {
        tally.fail("file", &differs.want, &differs.got);
    }
}

fn coin(row: &Value) -> Result<((u64, u64), Coin), Differs> {
    let number = |at: usize| row[at].as_u64().ok_or("none").map_err(wanted("a number"));
    let locking = unhex(row[5].as_str().unwrap_or_default())?;
    Ok((
        (number(0)?, number(1)?),
        Coin { height: number(2)? as u32, value_sat: number(4)?, locking },
    ))
}

/// The block that the first line names, wherever it lies below the root.
fn find_block(root: &Path, meta: &Value) -> Result<Vec<u8>, Differs> {
    let says = meta["block"].as_str().unwrap_or_default();
    let path = says.split(' ').next().unwrap_or_default();
    let mut folders: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(wanted("a folder"))?.flatten() {
            let found = entry.path();
            if found.is_dir() {
                folders.push(found);
            } else if !path.is_empty() && found.ends_with(path) {
                return std::fs::read(found).map_err(wanted("a block")).and_then(unframed);
            }
        }
    }
    Err(Differs {
        want: format!("the block {path} below the root"),
        got: "no such file".to_owned(),
    })
}

/// The block in a file that may be packed, and may have magic and length before the block.
fn unframed(bytes: Vec<u8>) -> Result<Vec<u8>, Differs> {
    let bytes = if bytes.starts_with(b"BZh") { unpack(&bytes)? } else { bytes };
    let magic = ChainParams::of(Network::Main).disk_magic.unwrap_or_default();
    Ok(if bytes.starts_with(&magic) && bytes.len() > 8 { bytes[8..].to_vec() } else { bytes })
}

fn whole(
    bytes: &[u8],
    meta: &Value,
    mut coins: HashMap<(u64, u64), (usize, Coin)>,
    tally: &mut Tally,
) -> Held {
    let (block, _) = block(bytes, Network::Main)?;
    let params = ChainParams::of(Network::Main);
    let height = meta["height"].as_u64().unwrap_or(0) as u32;
    let flags = params.flags_for_block(height);
    same_as("flags", &meta["flag_bits"], &flags.into())?;
    let mut layout = TxLayout::default();
    let mut txs = block.txs();
    let (mut fees, mut at) = (0_i64, 0_u64);
    while let Some(view) = txs.next_tx(&mut layout).map_err(wanted("a transaction"))? {
        if at > 0 {
            fees -= view.outputs().map(|output| output.value_sat).sum::<i64>();
            for input in 0..view.input_count() {
                let Some((row, coin)) = coins.remove(&(at, input as u64)) else {
                    let got = format!("none for transaction {at}, input {input}");
                    return Err(Differs { want: "a coin".to_owned(), got });
                };
                fees += coin.value_sat as i64;
                let flags = Flags(flags | params.flags_for_input(height, coin.height));
                tally.row(row, verify(view, input, &coin, flags));
            }
        } else {
            let value: i64 = view.outputs().map(|output| output.value_sat).sum();
            same_as("coinbase value", &meta["coinbase_value"], &value.into())?;
        }
        at += 1;
    }
    same_as("coins that no input spends", &0, &coins.len())?;
    same_as("fees", &meta["total_fees"], &fees.into())?;
    tally.note("fees_sat", fees as u64);
    Ok(())
}

fn verify(view: TxView<'_>, input: usize, coin: &Coin, flags: Flags) -> Held {
    let context = TxContext::new(view, input, coin.value_sat);
    let judged = judge(view.input(input).unlocking_script, &coin.locking, flags, context)
        .map_err(|failure| Differs { want: failure.want, got: failure.got })?;
    same_as("verdict", &"OK", &outcome_name(judged))
}

/// `coins_spent_<height>.raw.bz2`: the coins a block spends as Bitcoin Cash Node writes them: a count, then for each
/// transaction hash, index and coin. One row, that it unpacks and starts with a count: the rows of the same block's
/// prevouts file were made from it.
pub fn coins_spent(file: &File<'_>, tally: &mut Tally) {
    let held = unpack(file.bytes).and_then(|bytes| {
        let mut reader = consensus::wire::Reader::new(&bytes);
        let count = reader.compact_size().map_err(wanted("a count"))?;
        tally.note("coins", count);
        same_as("coins", &true, &(count > 0))
    });
    tally.row("file", held);
}
