//! The pool. Source of the shapes: SV Node `rpc/blockchain.cpp` `mempoolToJSON`, `mempoolInfoToJSON`, seen from 1.0.13.

use super::super::args::Args;
use super::super::error::RpcError;
use super::super::json::Json;
use super::super::state::Rpc;
use super::super::table::Answer;
use crate::store::PoolTx;
use consensus::hash::TxId;

fn not_there() -> RpcError {
    RpcError::not_found("Transaction not in mempool")
}

fn write_entry(w: &mut Json, tx: &PoolTx, parents: &[TxId]) {
    w.object(|w| {
        w.key("size").int(tx.size_bytes);
        w.key("fee").amount(tx.fee_sat as i64);
        w.key("modifiedfee").amount(tx.fee_sat as i64);
        w.key("time").int(tx.time_s);
        w.key("height").int(tx.height);
        w.key("depends").array(|w| parents.iter().for_each(|parent| w.plain(parent)));
    });
}

/// Writes ids, or objects by id; a transaction that left the pool meanwhile is left out.
fn write_txs(rpc: &Rpc, txids: &[TxId], verbose: bool) -> Answer {
    if !verbose {
        return Ok(Json::with_room(txids.len() * 67 + 2, |w| {
            w.array(|w| txids.iter().for_each(|txid| w.plain(txid)));
        }));
    }
    let pool = &rpc.service.pool;
    let mut failed = Ok(());
    let json = Json::of(|w| {
        w.object(|w| {
            for txid in txids {
                match pool.get(txid).and_then(|tx| Ok(tx.zip(Some(pool.parents(txid)?)))) {
                    Ok(Some((tx, parents))) => {
                        w.key(&txid.to_string());
                        write_entry(w, &tx, &parents);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        failed = Err(error);
                        return;
                    }
                }
            }
        });
    });
    failed?;
    Ok(json)
}

pub(in super::super) fn getrawmempool(rpc: &Rpc, args: &Args) -> Answer {
    write_txs(rpc, &rpc.service.pool.txids(), args.bool(0).unwrap_or(false))
}

pub(in super::super) fn getmempoolentry(rpc: &Rpc, args: &Args) -> Answer {
    let txid = args.txid(0, "parameter 1")?;
    let pool = &rpc.service.pool;
    let tx = pool.get(&txid)?.ok_or_else(not_there)?;
    let parents = pool.parents(&txid)?;
    Ok(Json::of(|w| write_entry(w, &tx, &parents)))
}

pub(in super::super) fn getmempoolancestors(rpc: &Rpc, args: &Args) -> Answer {
    let txid = args.txid(0, "parameter 1")?;
    let pool = &rpc.service.pool;
    if !pool.contains(&txid) {
        return Err(not_there());
    }
    write_txs(rpc, &pool.ancestors(&txid)?, args.bool(1).unwrap_or(false))
}

pub(in super::super) fn getmempoolinfo(rpc: &Rpc, _: &Args) -> Answer {
    let pool = &rpc.service.pool;
    let (size, bytes) = (pool.len(), pool.bytes());
    Ok(Json::of(|w| {
        w.object(|w| {
            w.key("size").int(size);
            // Everything accepted is in the next candidate: the journal is the pool.
            w.key("journalsize").int(size);
            w.key("nonfinalsize").int(0);
            w.key("bytes").int(bytes);
            w.key("usage").int(bytes);
            w.key("usagedisk").int(bytes);
            w.key("usagecpfp").int(0);
            w.key("nonfinalusage").int(0);
            // The pool has no bound of its own: the memory of the shards and the disk bound it.
            w.key("maxmempool").int(i64::MAX);
            w.key("maxmempoolsizedisk").int(i64::MAX);
            w.key("maxmempoolsizecpfp").int(0);
            w.key("mempoolminfee").amount(0);
        });
    }))
}
