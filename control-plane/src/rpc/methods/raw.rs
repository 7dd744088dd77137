//! Transactions and scripts as bytes and as objects. Source of the shapes: SV Node `rpc/rawtransaction.cpp`, seen from 1.0.13.

use super::super::args::{Args, bytes_of_hex};
use super::super::error::{RpcError, code};
use super::super::json::{Json, read_hex};
use super::super::script_text::{guessed_era, write_locking};
use super::super::state::Rpc;
use super::super::table::Answer;
use super::super::tx_json::{MinedIn, write_tx};
use super::blocks::confirmations;
use consensus::address::Destination;
use consensus::hash::hash160;
use consensus::script::opcode::is_pay_to_script_hash;
use consensus::tx::{TxLayout, parse};
use serde_json::Value;

pub(super) fn undecodable() -> RpcError {
    RpcError::decode("TX decode failed")
}

pub(in super::super) fn decoderawtransaction(rpc: &Rpc, args: &Args) -> Answer {
    let bytes = read_hex(args.text(0)).ok_or_else(undecodable)?;
    let mut layout = TxLayout::new();
    let tx = parse(&bytes, &mut layout).map_err(|_| undecodable())?;
    let era = guessed_era(tx.outputs().map(|output| output.locking_script));
    let params = &rpc.service.params;
    Ok(Json::of(|w| write_tx(w, tx, &tx.txid(), era, params, None)))
}

pub(in super::super) fn decodescript(rpc: &Rpc, args: &Args) -> Answer {
    let script = bytes_of_hex(args.text(0), "argument")?;
    let (params, era) = (&rpc.service.params, guessed_era(std::iter::once(&script[..])));
    Ok(Json::of(|w| {
        w.object(|w| {
            write_locking(w, &script, era, params);
            if !is_pay_to_script_hash(&script) {
                let hash = Destination::ScriptHash(hash160(&script));
                w.key("p2sh").plain(hash.to_address(params));
            }
        });
    }))
}

/// `verbose` of `getrawtransaction`: a boolean, or a number as older clients send it.
fn verbose(value: Option<&Value>) -> Result<bool, RpcError> {
    match value {
        None => Ok(false),
        Some(Value::Bool(verbose)) => Ok(*verbose),
        Some(Value::Number(number)) => Ok(number.as_i64() != Some(0)),
        Some(_) => Err(RpcError::new(
            code::TYPE,
            "Invalid type provided. Verbose parameter must be a boolean.",
        )),
    }
}

pub(in super::super) fn getrawtransaction(rpc: &Rpc, args: &Args) -> Answer {
    let txid = args.txid(0, "parameter 1")?;
    let verbose = verbose(args.value(1))?;
    let service = &rpc.service;
    let (raw, mined) = if let Some(tx) = service.pool.get(&txid)? {
        (tx.raw, None)
    } else {
        let found = service.chain.find_tx(&txid)?.ok_or_else(|| {
            RpcError::not_found(
                "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.",
            )
        })?;
        (found.raw, service.chain.header(&found.block))
    };
    if !verbose {
        return Ok(Json::with_room(raw.len() * 2 + 2, |w| w.hex(&raw)));
    }
    let mut layout = TxLayout::new();
    let tx = parse(&raw, &mut layout)
        .map_err(|error| RpcError::misc(format!("a stored transaction is damaged: {error}")))?;
    let mined = mined.map(|info| MinedIn {
        hash: info.hash,
        height: info.height,
        time_s: info.header.time_s,
        confirmations: confirmations(rpc, &info),
    });
    let height = mined.map_or_else(|| service.chain.tip().height + 1, |mined| mined.height);
    let era = service.params.era(height);
    Ok(Json::of(|w| write_tx(w, tx, &txid, era, &service.params, mined.as_ref())))
}
