//! Real blocks with the coins they spend: every input of the block is verified.
//!
//! `block<height>_prevouts.jsonl` names its block in its first line; the block lies elsewhere below the same root. One row
//! an input. The fees that follow must be those of the first line.

use super::File;
use super::blocks::{block, unpack};
use super::tally::{Differs, Held, Tally, same_as, that, wanted};
use super::txs::unhex;
use consensus::block::BlockView;
use consensus::params::{ChainParams, Network};
use consensus::rules::MONEY_MAX_SAT;
use consensus::script::{Flags, TxContext};
use consensus::tx::{OutPoint, TxLayout, TxView};
use consensus::vectors::{judge, outcome_name};
use consensus::wire::Reader;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
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
    find_file(root, path).and_then(unframed)
}

/// The bytes of the file whose path ends like this, wherever it lies below the root.
fn find_file(root: &Path, path: &str) -> Result<Vec<u8>, Differs> {
    let mut folders: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(wanted("a folder"))?.flatten() {
            let found = entry.path();
            if found.is_dir() {
                folders.push(found);
            } else if !path.is_empty() && found.ends_with(path) {
                return std::fs::read(found).map_err(wanted("a block"));
            }
        }
    }
    Err(Differs { want: format!("{path} below the root"), got: "no such file".to_owned() })
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

/// `coins_spent_<height>.raw.bz2`: the coins a block spends in the compressed form of a UTXO database: a count, then
/// outpoint, height and coinbase, amount, script. One row a coin; it must be spent by the block of that height, which lies
/// elsewhere below the root, and together they must be all that it spends.
pub fn coins_spent(file: &File<'_>, tally: &mut Tally) {
    let held = unpack(file.bytes).and_then(|bytes| {
        let height: u32 = file
            .name()
            .split(|c: char| !c.is_ascii_digit())
            .find_map(|digits| digits.parse().ok())
            .ok_or("none")
            .map_err(wanted("a height in the file's name"))?;
        let block = find_file(file.root, &format!("block{height}.raw"))?;
        let mut spent = spent_by(&block)?;
        let mut reader = Reader::new(&bytes);
        let count = reader.compact_size().map_err(wanted("a count"))?;
        for row in 0..count {
            let outpoint = OutPoint::from_bytes(&reader.array().map_err(wanted("an outpoint"))?);
            let coin = compressed_coin(&mut reader)?;
            let held = that("a coin that the block spends", spent.remove(&outpoint))
                .and_then(|()| that("a coin from before the block", coin.height <= height))
                .and_then(|()| that("an amount there can be", coin.value_sat <= MONEY_MAX_SAT));
            tally.row(row, held);
        }
        same_as("bytes left", &0, &reader.remaining())?;
        same_as("coins of the block that are missing", &0, &spent.len())
    });
    if let Err(differs) = held {
        tally.fail("file", &differs.want, &differs.got);
    }
}

fn spent_by(block: &[u8]) -> Result<HashSet<OutPoint>, Differs> {
    let block = BlockView::parse(block).map_err(wanted("a block"))?;
    let mut layout = TxLayout::default();
    let mut txs = block.txs();
    let mut spent = HashSet::new();
    while let Some(view) = txs.next_tx(&mut layout).map_err(wanted("a transaction"))? {
        spent.extend(
            (0..view.input_count()).map(|input| view.prev(input)).filter(|prev| !prev.is_null()),
        );
    }
    Ok(spent)
}

/// Source: SV Node `coins.h` `Coin`, `compressor.h` `CTxOutCompressor`.
fn compressed_coin(reader: &mut Reader<'_>) -> Result<Coin, Differs> {
    let height = (var_int(reader)? >> 1) as u32;
    let value_sat = decompressed_amount(var_int(reader)?);
    let form = var_int(reader)?;
    let len = match form {
        0 | 1 => 20,
        2..=5 => 32,
        _ => form - 6,
    };
    let bytes = reader.take(len as usize).map_err(wanted("a script"))?;
    Ok(Coin { height, value_sat, locking: bytes.to_vec() })
}

/// Seven bits a byte, most significant first; each but the last stands for one more. Source: SV Node `serialize.h`
/// `ReadVarInt`.
fn var_int(reader: &mut Reader<'_>) -> Result<u64, Differs> {
    let mut number = 0_u64;
    loop {
        let byte = reader.u8().map_err(wanted("a number"))?;
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
        number += 1;
    }
}

/// Source: SV Node `compressor.cpp` `DecompressAmount`.
fn decompressed_amount(compressed: u64) -> u64 {
    let Some(rest) = compressed.checked_sub(1) else { return 0 };
    let (mut exponent, rest) = (rest % 10, rest / 10);
    let mut number = if exponent < 9 { rest / 9 * 10 + rest % 9 + 1 } else { rest + 1 };
    while exponent > 0 {
        number *= 10;
        exponent -= 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_come_back_from_their_compressed_form() {
        // Source: SV Node src/test/compress_tests.cpp.
        for (compressed, value_sat) in
            [(0, 0), (1, 1), (7, 1_000_000), (9, 100_000_000), (0x32, 5_000_000_000)]
        {
            assert_eq!(decompressed_amount(compressed), value_sat, "{compressed:#x}");
        }
    }
}
