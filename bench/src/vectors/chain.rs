//! Cases about chains: network parameters, difficulty, and merkle roots.

use super::File;
use super::tally::{Differs, Held, Tally, same_as, wanted};
use consensus::hash::sha256;
use consensus::merkle::merkle_root;
use consensus::params::{ChainParams, Network, Retarget};
use consensus::pow::{
    ChainPoint, U256, block_work, compact_from_target, expand_compact, required_bits, retarget_2016,
};
use serde_json::Value;

/// `chainparams.json`: one row a network; genesis blocks are recomputed.
pub fn params(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    for (name, says) in value.as_object().into_iter().flatten() {
        tally.row(name, network(name, says));
    }
}

fn network(name: &str, says: &Value) -> Held {
    let network: Network = name.parse().map_err(wanted("a network"))?;
    let params = ChainParams::of(network);
    let genesis = &says["genesis"];
    let header = &params.genesis_header;
    same_as("genesis version", &genesis["version"], &header.version.into())?;
    same_as("genesis time", &genesis["time"], &header.time_s.into())?;
    same_as("genesis nonce", &genesis["nonce"], &header.nonce.into())?;
    same_as("genesis bits", &genesis["bits"], &format!("{:08x}", header.n_bits).into())?;
    same_as("genesis merkle root", &genesis["merkleRoot"], &header.merkle_root.to_string().into())?;
    same_as("genesis header", &genesis["headerHex"], &hex::encode(header.to_bytes()).into())?;
    same_as("genesis hash", &genesis["hash"], &header.hash().to_string().into())?;
    same_as("genesis hash", &genesis["hash"], &params.genesis_hash.to_string().into())?;
    let block = params.genesis_block();
    same_as("genesis block", &genesis["rawBlockHex"], &hex::encode(block).into())?;

    let magic =
        |magic: Option<[u8; 4]>| magic.map_or(Value::Null, |magic| hex::encode(magic).into());
    same_as("P2P magic", &says["netMagic"], &magic(Some(params.p2p_magic)))?;
    same_as("disk magic", &says["diskMagic"], &magic(params.disk_magic))?;
    same_as("port", &says["port"], &params.p2p_port.into())?;
    same_as("RPC port", &says["rpcPort"], &params.rpc_port.into())?;
    same_as("halving", &says["halving"], &params.halving_blocks.into())?;
    same_as(
        "proof of work limit",
        &says["powLimit"],
        &format!("{:064x}", params.pow_limit()).into(),
    )?;
    same_as(
        "easy late blocks",
        &says["minDifficultyBlocks"],
        &params.allows_min_difficulty.into(),
    )?;
    same_as("no retarget", &says["noRetarget"], &(params.retarget == Retarget::None).into())?;
    for (key, height) in [
        ("bip34Height", params.bip34_height),
        ("bip65Height", params.bip65_height),
        ("bip66Height", params.bip66_height),
        ("csvHeight", params.csv_height),
        ("p2shHeight", params.p2sh_height),
        ("uahfHeight", params.uahf_height),
        ("daaHeight", params.daa_height),
        ("genesisHeight", params.genesis_height),
        ("chronicleHeight", params.chronicle_height),
    ] {
        // A height that the reference does not set is not in the file.
        if !says[key].is_null() {
            same_as(key, &says[key], &height.into())?;
        }
    }
    for (key, hash) in [("bip34Hash", params.bip34_hash), ("assumeValid", params.assume_valid)] {
        if let Some(says) = says[key].as_str() {
            same_as(key, &says.to_owned(), &hash.map_or("0".repeat(64), |hash| hash.to_string()))?;
        }
    }
    if !says["minimumChainWork"].is_null() {
        let work = hex::encode(params.minimum_chain_work);
        same_as("minimum chain work", &says["minimumChainWork"], &work.into())?;
    }
    let prefixes = &says["prefixes"];
    same_as("address prefix", &prefixes["pubkeyAddr"], &params.prefixes.p2pkh.into())?;
    same_as("script prefix", &prefixes["scriptAddr"], &params.prefixes.p2sh.into())?;
    same_as("key prefix", &prefixes["wif"], &params.prefixes.wif.into())?;
    same_as("xpub", &prefixes["xpub"], &hex::encode_upper(params.prefixes.xpub).into())?;
    same_as("xprv", &prefixes["xprv"], &hex::encode_upper(params.prefixes.xprv).into())?;
    for key in ["checkpoints", "extraCheckpointsGoChaincfg"] {
        for says in says[key].as_array().into_iter().flatten() {
            let height = says[0].as_u64().unwrap_or(u64::MAX) as u32;
            let ours = params.checkpoint_at(height).map(|hash| hash.to_string());
            same_as(&format!("checkpoint {height}"), &says[1], &ours.into())?;
        }
    }
    Ok(())
}

/// `merkle_cases.json`: leaves by number, root, and whether the list is a mutation.
pub fn merkle(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    for case in value["cases"].as_array().into_iter().flatten() {
        let numbers = case[1].as_array().cloned().unwrap_or_default();
        let leaf = |number: &Value| sha256(format!("leaf{number}").as_bytes());
        let leaves: Vec<[u8; 32]> = numbers.iter().map(leaf).collect();
        let got = merkle_root(&leaves);
        let held = same_as("root", &case[2], &hex::encode(got.root.0).into())
            .and_then(|()| same_as("mutated", &case[3], &got.is_mutated.into()));
        tally.row(case[0].as_str().unwrap_or("?"), held);
    }
}

/// `daa_testnet_real.jsonl`: six times and works of the blocks the DAA looks at, and the bits it demands.
pub fn daa_rows(file: &File<'_>, tally: &mut Tally) {
    let params = ChainParams::of(Network::Test);
    for (number, row) in file.json_lines(tally) {
        if row.is_array() {
            tally.row(number, daa_row(&params, &row));
        }
    }
}

fn daa_row(params: &ChainParams, row: &Value) -> Held {
    let height = row[0].as_u64().ok_or("none").map_err(wanted("a height"))? as u32;
    let mut points = Vec::new();
    for (point, back) in row[1].as_array().into_iter().flatten().zip([147, 146, 145, 3, 2, 1]) {
        let time_s = point[0].as_u64().ok_or("none").map_err(wanted("a time"))? as u32;
        let work = point[1].as_str().unwrap_or_default();
        let chain_work = U256::from_str_radix(work, 16).map_err(wanted("chain work"))?;
        points.push((height - back, ChainPoint { time_s, n_bits: 0, chain_work }));
    }
    let chain = |height: u32| points.iter().find(|(at, _)| *at == height).map(|(_, point)| *point);
    let new_time_s = points.last().map_or(0, |(_, point)| point.time_s);
    let bits =
        required_bits(params, height - 1, new_time_s, &chain).map_err(wanted("required bits"))?;
    same_as("bits", &row[2], &format!("{bits:08x}").into())
}

/// `difficulty_cases.json`: retargets, two synthetic chains, compact numbers.
pub fn difficulty(file: &File<'_>, tally: &mut Tally) {
    let value = file.json(tally);
    let main = ChainParams::of(Network::Main);
    for (at, case) in value["retarget_2016"]["cases"].as_array().into_iter().flatten().enumerate() {
        let held = bits_of(&case[0]).and_then(|bits| {
            let span_s = case[2].as_i64().unwrap_or(0) - case[1].as_i64().unwrap_or(0);
            same_as("bits", &case[3], &format!("{:08x}", retarget_2016(bits, span_s, &main)).into())
        });
        tally.row(format!("retarget_2016 {at}"), held);
    }
    for key in ["daa_synthetic", "eda_synthetic"] {
        synthetic(key, &value[key], &main, tally);
    }
    for (at, case) in value["compact"]["cases"].as_array().into_iter().flatten().enumerate() {
        tally.row(format!("compact {at}"), bits_of(&case[0]).and_then(|bits| compact(case, bits)));
    }
}

fn bits_of(text: &Value) -> Result<u32, Differs> {
    u32::from_str_radix(text.as_str().unwrap_or_default(), 16).map_err(wanted("bits"))
}

fn compact(case: &Value, bits: u32) -> Held {
    let got = expand_compact(bits);
    same_as("value", &case[1], &format!("{:064x}", got.value).into())?;
    same_as("negative", &case[2], &got.is_negative.into())?;
    same_as("overflow", &case[3], &got.is_overflow.into())?;
    if !got.is_negative && !got.is_overflow {
        let again = expand_compact(compact_from_target(got.value));
        same_as("closed and opened again", &got.value, &again.value)?;
    }
    Ok(())
}

/// A chain of blocks made by the rule itself: `[seconds added per block, blocks, bits demanded after the last]`. The DAA
/// chain stands above the DAA's height, the other below it.
fn synthetic(key: &str, says: &Value, main: &ChainParams, tally: &mut Tally) {
    let start = &says["start"];
    let genesis_time = start["genesis_time"].as_u64().unwrap_or(0) as u32;
    let bits = bits_of(&start["bits"]).unwrap_or(0);
    let blocks = start["blocks_at_600s_after_genesis"].as_u64().unwrap_or(0) as u32;
    let mut params = main.clone();
    if key == "daa_synthetic" {
        params.daa_height = 0;
    }
    let mut points: Vec<ChainPoint> = Vec::new();
    let push = |time_s: u32, n_bits: u32, points: &mut Vec<ChainPoint>| {
        let before = points.last().map_or(U256::ZERO, |point| point.chain_work);
        points.push(ChainPoint { time_s, n_bits, chain_work: before + block_work(n_bits) });
    };
    for number in 0..=blocks {
        push(genesis_time + number * 600, bits, &mut points);
    }
    // The first entry of the DAA's list is a legend.
    let steps = says["steps"].as_array().cloned().unwrap_or_default();
    for (at, step) in steps.iter().filter(|step| step[0].is_number()).enumerate() {
        let held = (|| {
            for _ in 0..step[1].as_u64().unwrap_or(0) {
                let bits = demanded(&params, &points)?;
                let before = points.last().map_or(0, |point| i64::from(point.time_s));
                push((before + step[0].as_i64().unwrap_or(0)) as u32, bits, &mut points);
            }
            same_as("bits", &step[2], &format!("{:08x}", demanded(&params, &points)?).into())
        })();
        tally.row(format!("{key} {at}"), held);
    }
}

fn demanded(params: &ChainParams, points: &[ChainPoint]) -> Result<u32, Differs> {
    let chain = |height: u32| points.get(height as usize).copied();
    let prev = points.len() as u32 - 1;
    required_bits(params, prev, points[prev as usize].time_s, &chain)
        .map_err(wanted("required bits"))
}
