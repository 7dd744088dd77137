//! Blocks, headers, coins and tips. Source of the shapes: SV Node `rpc/blockchain.cpp`, seen from 1.0.13.

use super::super::args::{Args, int32};
use super::super::error::RpcError;
use super::super::json::Json;
use super::super::script_text::write_locking;
use super::super::state::Rpc;
use super::super::table::{Answer, Later};
use super::super::tx_json::write_tx;
use crate::chain::{ChainStatus, HeaderInfo};
use consensus::block::BlockView;
use consensus::hash::BlockHash;
use consensus::params::ChainParams;
use consensus::pow::U256;
use consensus::proof::{BranchNode, MerkleBranch};
use consensus::tx::{OutPoint, TxLayout, TxView};
use serde_json::Value;
use std::sync::Arc;

/// How hard a block was to find, relative to the easiest target of the main network.
///
/// Source: SV Node `rpc/blockchain.cpp` `GetDifficulty`; the same order of operations, so the same double.
pub fn difficulty(n_bits: u32) -> f64 {
    let mut shift = n_bits >> 24;
    let mut difficulty = f64::from(0xffff_u32) / f64::from(n_bits & 0x00ff_ffff);
    while shift < 29 {
        difficulty *= 256.0;
        shift += 1;
    }
    while shift > 29 {
        difficulty /= 256.0;
        shift -= 1;
    }
    difficulty
}

pub(super) fn work_text(work: U256) -> String {
    format!("{work:064x}")
}

pub(super) fn not_found() -> RpcError {
    RpcError::not_found("Block not found")
}

/// The block a parameter names.
pub(super) fn header_of(rpc: &Rpc, hash: Option<BlockHash>) -> Result<HeaderInfo, RpcError> {
    hash.and_then(|hash| rpc.service.chain.header(&hash)).ok_or_else(not_found)
}

/// Its bytes.
pub(super) fn bytes_of(rpc: &Rpc, hash: &BlockHash) -> Result<Vec<u8>, RpcError> {
    rpc.service.chain.block(hash)?.ok_or_else(|| RpcError::misc("Block not available (no data)"))
}

/// Blocks from it to the tip, itself included; `None` off the active chain.
pub(super) fn confirmations(rpc: &Rpc, info: &HeaderInfo) -> Option<u32> {
    let tip = rpc.service.chain.tip().height;
    info.on_active_chain.then(|| tip.saturating_sub(info.height) + 1)
}

/// A parsed block that this node has stored.
pub(super) fn view(bytes: &[u8]) -> Result<BlockView<'_>, RpcError> {
    BlockView::new(bytes)
        .map_err(|error| RpcError::misc(format!("a stored block is damaged: {error}")))
}

/// Calls `each` with every transaction of a block, until it says no.
pub(super) fn each_tx(
    block: &BlockView<'_>,
    mut each: impl FnMut(TxView<'_>) -> bool,
) -> Result<(), RpcError> {
    let damaged = |error| RpcError::misc(format!("a stored block is damaged: {error}"));
    let mut layout = TxLayout::new();
    let mut txs = block.txs();
    while let Some(tx) = txs.next_tx(&mut layout).map_err(damaged)? {
        if !each(tx) {
            break;
        }
    }
    Ok(())
}

/// Writes the members a header's object has. Source: SV Node `blockheaderToJSON`, `blockToJSON`.
pub(super) fn write_header(w: &mut Json, rpc: &Rpc, info: &HeaderInfo) {
    let header = &info.header;
    w.key("hash").plain(info.hash);
    match confirmations(rpc, info) {
        Some(confirmations) => w.key("confirmations").int(confirmations),
        None => w.key("confirmations").int(-1),
    }
    if info.size_bytes > 0 {
        w.key("size").int(info.size_bytes);
    }
    w.key("height").int(info.height);
    w.key("version").int(header.version);
    w.key("versionHex").plain(format_args!("{:08x}", header.version));
    w.key("merkleroot").plain(header.merkle_root);
    w.key("num_tx").int(info.tx_count);
    w.key("time").int(header.time_s);
    w.key("mediantime").int(info.median_time_past);
    w.key("nonce").int(header.nonce);
    w.key("bits").plain(format_args!("{:08x}", header.n_bits));
    w.key("difficulty").double(difficulty(header.n_bits));
    w.key("chainwork").plain(work_text(info.chain_work));
    if info.height > 0 {
        w.key("previousblockhash").plain(header.prev);
    }
    if let Some(next) = info.next {
        w.key("nextblockhash").plain(next);
    }
    w.key("status").object(|w| write_status(w, info));
}

fn write_status(w: &mut Json, info: &HeaderInfo) {
    let has_data = info.size_bytes > 0;
    let validity = match info.status {
        ChainStatus::Active | ChainStatus::ValidFork if info.height > 0 => "scripts",
        _ if has_data => "transactions",
        _ => "tree",
    };
    let failed = info.status == ChainStatus::Invalid;
    w.key("validity").plain(validity);
    w.key("data").bool(has_data);
    w.key("undo").bool(validity == "scripts");
    w.key("failed").bool(failed);
    w.key("parent failed").bool(failed);
    w.key("disk meta").bool(has_data);
    // None of the three exists here: no block waits for a vote, and a frozen coin is refused at once.
    w.key("soft reject").bool(false);
    w.key("double spend").bool(false);
    w.key("soft consensus frozen").bool(false);
}

/// How much of a block is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verbosity {
    Raw,
    Txids,
    Transactions,
    Coinbase,
}

fn verbosity(value: Option<&Value>) -> Result<Verbosity, RpcError> {
    let unknown = || RpcError::parameter("Verbosity value not recognized");
    Ok(match value {
        None | Some(Value::Bool(true)) => Verbosity::Txids,
        Some(Value::Bool(false)) => Verbosity::Raw,
        Some(Value::String(name)) => match name.as_str() {
            "RAW_BLOCK" => Verbosity::Raw,
            "DECODE_HEADER" => Verbosity::Txids,
            "DECODE_TRANSACTIONS" => Verbosity::Transactions,
            "DECODE_HEADER_AND_COINBASE" => Verbosity::Coinbase,
            // `bitcoin-cli -named` and some libraries quote numbers.
            digits => number(digits.parse().map_err(|_| unknown())?)?,
        },
        Some(value @ Value::Number(_)) => number(int32(value)?)?,
        Some(_) => return Err(unknown()),
    })
}

fn number(value: i32) -> Result<Verbosity, RpcError> {
    Ok(match value {
        0 => Verbosity::Raw,
        1 => Verbosity::Txids,
        2 => Verbosity::Transactions,
        3 => Verbosity::Coinbase,
        _ => return Err(RpcError::parameter("Verbosity value out of range")),
    })
}

pub(in super::super) fn getblock(rpc: &Rpc, args: &Args) -> Answer {
    let info = header_of(rpc, args.block_hash(0))?;
    block(rpc, &info, verbosity(args.value(1))?)
}

pub(in super::super) fn getblockbyheight(rpc: &Rpc, args: &Args) -> Answer {
    let hash = hash_at(rpc, args.int(0)?.unwrap_or(0))?;
    block(rpc, &header_of(rpc, Some(hash))?, verbosity(args.value(1))?)
}

fn block(rpc: &Rpc, info: &HeaderInfo, verbosity: Verbosity) -> Answer {
    let bytes = bytes_of(rpc, &info.hash)?;
    if verbosity == Verbosity::Raw {
        return Ok(Json::with_room(bytes.len() * 2 + 2, |w| w.hex(&bytes)));
    }
    let block = view(&bytes)?;
    let params = &rpc.service.params;
    let mut walked = Ok(());
    let json = Json::of(|w| {
        w.object(|w| {
            w.key("tx").array(|w| {
                walked = each_tx(&block, |tx| {
                    match verbosity {
                        Verbosity::Txids => w.plain(tx.txid()),
                        _ => write_tx(w, tx, &tx.txid(), params.era(info.height), params, None),
                    }
                    verbosity != Verbosity::Coinbase
                });
            });
            write_header(w, rpc, info);
        });
    });
    walked.map(|()| json)
}

pub(in super::super) fn getblockheader(rpc: &Rpc, args: &Args) -> Answer {
    let info = header_of(rpc, args.block_hash(0))?;
    let unknown = || RpcError::parameter("Verbosity value not recognized");
    let level = match args.value(1) {
        None | Some(Value::Bool(true)) => 1,
        Some(Value::Bool(false)) => 0,
        Some(value @ Value::Number(_)) => int32(value)?,
        Some(Value::String(name)) => match name.as_str() {
            "RAW_HEADER" => 0,
            "DECODE_HEADER" => 1,
            "DECODE_HEADER_EXTENDED" => 2,
            digits => digits.parse().map_err(|_| unknown())?,
        },
        Some(_) => return Err(unknown()),
    };
    match level {
        0 => Ok(Json::of(|w| w.hex(&info.header.to_bytes()))),
        1 => Ok(Json::of(|w| w.object(|w| write_header(w, rpc, &info)))),
        2 => extended_header(rpc, &info),
        _ => Err(RpcError::parameter("Verbosity value out of range")),
    }
}

fn extended_header(rpc: &Rpc, info: &HeaderInfo) -> Answer {
    let bytes = bytes_of(rpc, &info.hash)?;
    let block = view(&bytes)?;
    let (params, mut txids) = (&rpc.service.params, Vec::new());
    each_tx(&block, |tx| {
        txids.push(tx.txid().0);
        true
    })?;
    let branch = MerkleBranch::of(&txids, 0).unwrap_or_default();
    let mut walked = Ok(());
    let json = Json::of(|w| {
        w.object(|w| {
            w.key("tx").array(|w| {
                walked = each_tx(&block, |tx| {
                    write_tx(w, tx, &tx.txid(), params.era(info.height), params, None);
                    false
                });
            });
            write_header(w, rpc, info);
            w.key("merkleproof").array(|w| {
                branch.nodes.iter().for_each(|node| w.plain(node_text(node)));
            });
        });
    });
    walked.map(|()| json)
}

/// A node of a branch: a hash as people read it, or `*` for the copy of the node beside it.
pub(super) fn node_text(node: &BranchNode) -> String {
    match node {
        BranchNode::Hash(hash) => consensus::hash::MerkleHash(*hash).to_string(),
        BranchNode::Duplicate => "*".to_owned(),
    }
}

pub(in super::super) fn getbestblockhash(rpc: &Rpc, _: &Args) -> Answer {
    Ok(Json::of(|w| w.plain(rpc.service.chain.tip().hash)))
}

pub(in super::super) fn getblockcount(rpc: &Rpc, _: &Args) -> Answer {
    Ok(Json::of(|w| w.int(rpc.service.chain.tip().height)))
}

pub(in super::super) fn getblockhash(rpc: &Rpc, args: &Args) -> Answer {
    let hash = hash_at(rpc, args.int(0)?.unwrap_or(0))?;
    Ok(Json::of(|w| w.plain(hash)))
}

fn hash_at(rpc: &Rpc, height: i32) -> Result<BlockHash, RpcError> {
    u32::try_from(height)
        .ok()
        .and_then(|height| rpc.service.chain.hash_at(height))
        .ok_or_else(|| RpcError::parameter("Block height out of range"))
}

pub(in super::super) fn getdifficulty(rpc: &Rpc, _: &Args) -> Answer {
    Ok(Json::of(|w| w.double(difficulty(rpc.service.chain.tip().header.n_bits))))
}

pub(in super::super) fn getchaintips(rpc: &Rpc, _: &Args) -> Answer {
    let tips = rpc.service.chain.tips();
    Ok(Json::of(|w| {
        w.array(|w| {
            for tip in &tips {
                w.object(|w| {
                    w.key("height").int(tip.height);
                    w.key("hash").plain(tip.hash);
                    w.key("branchlen").int(tip.branch_len);
                    w.key("status").plain(tip.status.name());
                });
            }
        });
    }))
}

pub(in super::super) fn getblockchaininfo(rpc: &Rpc, _: &Args) -> Answer {
    let (chain, params) = (&rpc.service.chain, &rpc.service.params);
    let (tip, best) = (chain.tip(), chain.best_header());
    Ok(Json::of(|w| {
        w.object(|w| {
            w.key("chain").plain(params.network.chain_name());
            w.key("blocks").int(tip.height);
            w.key("headers").int(best.height);
            w.key("bestblockhash").plain(tip.hash);
            w.key("difficulty").double(difficulty(tip.header.n_bits));
            w.key("mediantime").int(tip.median_time_past);
            // How much of the known chain is connected.
            let all = f64::from(best.height.max(tip.height).max(1));
            let progress =
                if best.height <= tip.height { 1.0 } else { f64::from(tip.height) / all };
            w.key("verificationprogress").double(progress);
            w.key("chainwork").plain(work_text(tip.chain_work));
            w.key("pruned").bool(false);
            w.key("softforks").array(|w| {
                for (id, version, height) in softforks(params) {
                    w.object(|w| {
                        w.key("id").plain(id);
                        w.key("version").int(version);
                        w.key("reject").object(|w| w.key("status").bool(tip.height >= height));
                    });
                }
            });
        });
    }))
}

/// Source: SV Node `rpc/blockchain.cpp` `SoftForkMajorityDesc`.
fn softforks(params: &ChainParams) -> [(&'static str, u32, u32); 4] {
    [
        ("bip34", 2, params.bip34_height),
        ("bip66", 3, params.bip66_height),
        ("bip65", 4, params.bip65_height),
        ("csv", 5, params.csv_height),
    ]
}

pub(in super::super) fn gettxout(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move {
        let (vout, include_pool) = (args.int(1)?.unwrap_or(0), args.bool(2).unwrap_or(true));
        // Whatever names no coin is answered null, as the reference does.
        let outpoint = args.text(0).parse().ok().zip(u32::try_from(vout).ok());
        let Some((txid, vout)) = outpoint else { return Ok(Json::of(Json::null)) };
        let chain = &rpc.service.chain;
        let tip = chain.tip();
        let Some(coin) = chain.coin(OutPoint { txid, vout }, include_pool).await? else {
            return Ok(Json::of(Json::null));
        };
        let params = &rpc.service.params;
        Ok(Json::of(|w| {
            w.object(|w| {
                w.key("bestblock").plain(tip.hash);
                let depth = tip.height.saturating_sub(coin.height) + 1;
                w.key("confirmations").int(if coin.in_pool { 0 } else { depth });
                w.key("value").amount(coin.value_sat as i64);
                let era = params.era(coin.height);
                w.key("scriptPubKey")
                    .object(|w| write_locking(w, &coin.locking_script, era, params));
                w.key("coinbase").bool(coin.coinbase);
                w.key("confiscation").bool(false);
            });
        }))
    })
}

pub(in super::super) fn invalidateblock(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move {
        let hash = args.block_hash(0).ok_or_else(not_found)?;
        rpc.service.chain.invalidate(hash).await?;
        Ok(Json::of(Json::null))
    })
}

pub(in super::super) fn reconsiderblock(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move {
        let hash = args.block_hash(0).ok_or_else(not_found)?;
        rpc.service.chain.reconsider(hash).await?;
        Ok(Json::of(Json::null))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::json::double_text;

    #[test]
    fn difficulty_is_the_references_double() {
        assert_eq!(double_text(difficulty(0x207f_ffff)), "4.656542373906925e-10");
        assert_eq!(double_text(difficulty(0x1d00_ffff)), "1");
        // Block 100,000 of the main network, as every explorer shows it.
        assert_eq!(double_text(difficulty(0x1b04_864c)), "14484.1623612254");
    }

    #[test]
    fn verbosity_is_read_in_every_spelling() {
        let of = |json: &str| {
            verbosity(Some(&serde_json::from_str(json).unwrap()))
                .map(|v| v as u8)
                .map_err(|e| e.message)
        };
        assert_eq!(of("true"), Ok(1));
        assert_eq!(of("\"DECODE_TRANSACTIONS\""), Ok(2));
        assert_eq!(of("3"), Ok(3));
        assert_eq!(of("7"), Err("Verbosity value out of range".to_owned()));
        assert_eq!(of("\"GARBAGE\""), Err("Verbosity value not recognized".to_owned()));
        assert_eq!(of("[]"), Err("Verbosity value not recognized".to_owned()));
    }
}
