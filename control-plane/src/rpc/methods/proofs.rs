//! Merkle proofs of mined transactions. Source: SV Node `rpc/rawtransaction.cpp` `gettxoutproof`, `rpc/merkle.cpp`.

use super::super::args::{Args, bytes_of_hex, read_txid};
use super::super::error::{RpcError, code};
use super::super::json::Json;
use super::super::partial_tree;
use super::super::state::Rpc;
use super::super::table::Answer;
use super::blocks::{bytes_of, each_tx, header_of, node_text, view};
use consensus::hash::{BlockHash, TxId};
use consensus::proof::MerkleBranch;
use std::collections::HashSet;

/// Most transactions one proof is asked for.
const TXIDS_MAX: usize = 100_000;

fn not_mined() -> RpcError {
    RpcError::not_found("Transaction not yet in block or -txindex is not enabled")
}

fn not_in_block() -> RpcError {
    RpcError::not_found("Transaction(s) not found in provided block")
}

/// The block a transaction of the active chain is in.
fn block_of(rpc: &Rpc, txid: &TxId) -> Result<BlockHash, RpcError> {
    rpc.service.chain.find_tx(txid)?.map(|mined| mined.block).ok_or_else(not_mined)
}

/// The block the parameter names; the all-zero hash and none at all stand for the one of `txid`.
fn block_or(rpc: &Rpc, text: &str, txid: Option<&TxId>) -> Result<BlockHash, RpcError> {
    match text.parse() {
        Ok(hash) if hash != BlockHash::ZERO => Ok(header_of(rpc, Some(hash))?.hash),
        Err(_) if !text.is_empty() => Err(super::blocks::not_found()),
        _ => block_of(rpc, txid.ok_or_else(not_mined)?),
    }
}

fn txids_of(bytes: &[u8]) -> Result<Vec<TxId>, RpcError> {
    let mut txids = Vec::new();
    each_tx(&view(bytes)?, |tx| {
        txids.push(tx.txid());
        true
    })?;
    Ok(txids)
}

pub(in super::super) fn gettxoutproof(rpc: &Rpc, args: &Args) -> Answer {
    let given = args.array(0);
    if given.len() > TXIDS_MAX {
        return Err(RpcError::parameter(format!("{} txids; at most {TXIDS_MAX}", given.len())));
    }
    let mut wanted = HashSet::new();
    let mut first = None;
    for value in given {
        let text = value
            .as_str()
            .ok_or_else(|| RpcError::misc("JSON value is not a string as expected"))?;
        let txid: TxId = text.parse().map_err(|_| {
            let shown: String = text.chars().take(80).collect();
            RpcError::parameter(format!("Invalid txid {shown}"))
        })?;
        first.get_or_insert(txid);
        if !wanted.insert(txid) {
            let message = format!("Invalid parameter, duplicated txid: {txid}");
            return Err(RpcError::parameter(message));
        }
    }
    let hash = block_or(rpc, args.text(1), first.as_ref())?;
    let bytes = bytes_of(rpc, &hash)?;
    let txids = txids_of(&bytes)?;
    if txids.iter().filter(|txid| wanted.contains(txid)).count() != wanted.len() {
        return Err(not_in_block());
    }
    let header = *view(&bytes)?.header();
    let proof = partial_tree::build(&header, &txids, |txid| wanted.contains(txid));
    Ok(Json::of(|w| w.hex(&proof)))
}

pub(in super::super) fn verifytxoutproof(rpc: &Rpc, args: &Args) -> Answer {
    let bytes = bytes_of_hex(args.text(0), "proof")?;
    let proved = partial_tree::read(&bytes)
        .map_err(|error| RpcError::misc(format!("the proof cannot be read: {error}")))?;
    let Some(proved) = proved else { return Ok(Json::of(|w| w.array(|_| {}))) };
    let known = rpc.service.chain.header(&proved.header.hash());
    if !known.is_some_and(|info| info.on_active_chain) {
        return Err(RpcError::not_found("Block not found in chain"));
    }
    Ok(Json::of(|w| w.array(|w| proved.txids.iter().for_each(|txid| w.plain(txid)))))
}

pub(in super::super) fn getmerkleproof2(rpc: &Rpc, args: &Args) -> Answer {
    let txid = read_txid(args.text(1), "txid")?;
    let one_of = |at: usize, name: &str, allowed: &[&str], list: &str| match args.value(at) {
        None => Ok(()),
        Some(_) if allowed.contains(&args.text(at)) => Ok(()),
        Some(_) => {
            let shown: String = args.text(at).chars().take(80).collect();
            Err(RpcError::new(
                code::INVALID_PARAMS,
                format!("{name} is '{shown}',  must be {list}"),
            ))
        }
    };
    let targets = ["hash", "header", "merkleroot"];
    one_of(3, "targetType", &targets, "'hash', 'header' or 'merkleroot'")?;
    one_of(4, "format", &["json"], "'json'")?;
    let hash = block_or(rpc, args.text(0), Some(&txid)).map_err(|error| {
        // A block that is not known cannot hold the transaction.
        if args.text(0).is_empty() { error } else { not_in_block() }
    })?;
    let bytes = bytes_of(rpc, &hash)?;
    let (mut leaves, mut raw, mut index) = (Vec::new(), Vec::new(), None);
    each_tx(&view(&bytes)?, |tx| {
        let this = tx.txid();
        if this == txid {
            index = Some(leaves.len());
            tx.write_raw(&mut raw);
        }
        leaves.push(this.0);
        true
    })?;
    let index = index.ok_or_else(not_in_block)?;
    let branch = MerkleBranch::of(&leaves, index).ok_or_else(not_in_block)?;
    let header = *view(&bytes)?.header();
    Ok(Json::of(|w| {
        w.object(|w| {
            w.key("index").int(index);
            match args.bool(2) {
                Some(true) => w.key("txOrId").hex(&raw),
                _ => w.key("txOrId").plain(txid),
            }
            match args.text(3) {
                "header" => {
                    w.key("targetType").plain("header");
                    w.key("target").hex(&header.to_bytes());
                }
                "merkleroot" => {
                    w.key("targetType").plain("merkleroot");
                    w.key("target").plain(header.merkle_root);
                }
                _ => w.key("target").plain(hash),
            }
            w.key("nodes").array(|w| {
                branch.nodes.iter().for_each(|node| w.plain(node_text(node)));
            });
        });
    }))
}
