//! Headers: rows of 80 bytes, JSON of an asset service, and tables of height, time, chain work and bits.
//!
//! One row a header. Holds when it links to the one before, its hash meets its bits, the chain's work adds up, and its bits
//! are what the difficulty rules demand, wherever the file holds the blocks that rule looks at.

use super::File;
use super::tally::{Differs, Held, Tally, same_as, that, wanted};
use consensus::hash::{BlockHash, MerkleHash};
use consensus::header::Header;
use consensus::params::{ChainParams, Network};
use consensus::pow::{ChainPoint, U256, block_work, hash_meets_bits, required_bits};
use serde_json::Value;

/// Blocks before a header that the difficulty rules look at, at most: the DAA's window and the two beside each end.
const DAA_LOOKS_BACK: usize = 147;

/// Which network a file's name means: names that say so, else mainnet.
fn network(name: &str) -> Network {
    match name {
        _ if name.contains("teratestnet") => Network::TeraTestnet,
        _ if name.contains("testnet") => Network::Test,
        _ => Network::Main,
    }
}

/// Raw headers, eighty bytes each, in the order of the chain.
pub fn raw(file: &File<'_>, tally: &mut Tally) {
    let params = ChainParams::of(network(file.name()));
    let numbers = file.name().split(|c: char| !c.is_ascii_digit()).find_map(|n| n.parse().ok());
    let (rows, rest) = file.bytes.as_chunks::<80>();
    if !rest.is_empty() {
        tally.fail("file", "whole headers", &format!("{} bytes more", rest.len()));
    }
    let headers: Vec<Header> = rows.iter().map(Header::from_bytes).collect();
    let mut points = Vec::new();
    let mut work = U256::ZERO;
    for header in &headers {
        work += block_work(header.n_bits);
        points.push(ChainPoint { time_s: header.time_s, n_bits: header.n_bits, chain_work: work });
    }
    let first: u32 = numbers.unwrap_or(params.daa_height + 1);
    for (at, header) in headers.iter().enumerate() {
        let held = (|| {
            same_as("bytes written back", &&rows[at], &&header.to_bytes())?;
            that(
                "a hash that meets its bits",
                hash_meets_bits(&header.hash(), header.n_bits, params.pow_limit()),
            )?;
            if at > 0 {
                same_as("previous hash", &headers[at - 1].hash(), &header.prev)?;
            }
            demanded(&params, first, &points, at, tally)
        })();
        tally.row(at, held);
    }
}

/// Compares the bits at `at` with what the rules demand, if the points before it are there.
fn demanded(
    params: &ChainParams,
    first: u32,
    points: &[ChainPoint],
    at: usize,
    tally: &mut Tally,
) -> Held {
    let from_start = first <= 1 && at > 0;
    if at < DAA_LOOKS_BACK && !from_start {
        return Ok(());
    }
    let chain = |height: u32| points.get(height.checked_sub(first)? as usize).copied();
    let prev = first + at as u32 - 1;
    let bits =
        required_bits(params, prev, points[at].time_s, &chain).map_err(wanted("required bits"))?;
    tally.note("difficulty_checks", 1);
    same_as("bits", &format!("{bits:08x}"), &format!("{:08x}", points[at].n_bits))
}

/// A JSON list of headers, newest first.
pub fn json(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    let rows: Vec<&Value> = value.as_array().into_iter().flatten().collect();
    for (at, row) in rows.iter().enumerate() {
        let held = (|| {
            let header = from_json(row)?;
            same_as("hash", &row["hash"], &header.hash().to_string().into())?;
            let params = ChainParams::of(Network::Regtest);
            that(
                "a hash that meets its bits",
                hash_meets_bits(&header.hash(), header.n_bits, params.pow_limit()),
            )?;
            match rows.get(at + 1) {
                Some(before) => {
                    same_as("previous hash", &before["hash"], &header.prev.to_string().into())
                }
                None => Ok(()),
            }
        })();
        tally.row(at, held);
    }
}

fn from_json(row: &Value) -> Result<Header, Differs> {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let number = |key: &str| row[key].as_u64().ok_or(key).map_err(wanted("a number"));
    Ok(Header {
        version: row["version"].as_i64().ok_or("version").map_err(wanted("a number"))? as i32,
        prev: text("previousblockhash").parse::<BlockHash>().map_err(wanted("a hash"))?,
        merkle_root: text("merkleroot").parse::<MerkleHash>().map_err(wanted("a hash"))?,
        time_s: number("time")? as u32,
        n_bits: u32::from_str_radix(text("bits"), 16).map_err(wanted("bits"))?,
        nonce: number("nonce")? as u32,
    })
}

/// A table `height,time,chain work,bits` with one line of titles.
pub fn csv(file: &File<'_>, tally: &mut Tally) {
    let params = ChainParams::of(network(file.name()));
    let text = String::from_utf8_lossy(file.bytes);
    let mut first = None;
    let mut points: Vec<ChainPoint> = Vec::new();
    for (number, line) in
        text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty())
    {
        let held = (|| {
            let (height, point) = csv_row(line)?;
            let first = *first.get_or_insert(height);
            points.push(point);
            let at = points.len() - 1;
            same_as("height", &(first + at as u32), &height)?;
            if at > 0 {
                let before = points[at - 1].chain_work;
                same_as("chain work", &(before + block_work(point.n_bits)), &point.chain_work)?;
            }
            demanded(&params, first, &points, at, tally)
        })();
        tally.row(number + 1, held);
    }
}

fn csv_row(line: &str) -> Result<(u32, ChainPoint), Differs> {
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    let [height, time, work, bits] = cells[..] else {
        return Err(Differs { want: "four cells".to_owned(), got: line.to_owned() });
    };
    let point = ChainPoint {
        time_s: time.parse().map_err(wanted("a time"))?,
        n_bits: u32::from_str_radix(bits, 16).map_err(wanted("bits"))?,
        chain_work: U256::from_str_radix(work, 16).map_err(wanted("chain work"))?,
    };
    Ok((height.parse().map_err(wanted("a height"))?, point))
}
