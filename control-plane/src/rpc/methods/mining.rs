//! Mining: candidates, templates, solutions, blocks. Source of the shapes: SV Node `rpc/mining.cpp`, `mining/candidates.cpp`,
//! seen from 1.0.13; BIP22, BIP23.

use super::super::args::{Args, int32, int64};
use super::super::error::{RpcError, code};
use super::super::json::{Json, read_hex};
use super::super::state::{Rpc, RpcCount};
use super::super::table::{Answer, Later};
use super::blocks::difficulty;
use crate::chain::{BlockOutcome, Candidate, Solution};
use consensus::address::Destination;
use consensus::block::BlockView;
use consensus::header::Header;
use consensus::pow::{U256, expand_compact};
use consensus::tx::Tx;
use dataplane::msg::pack_control::Want;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Nonces `generate` tries in all unless told otherwise. Source: SV Node `rpc/mining.cpp`.
const TRIES_MAX: i32 = 1_000_000;
/// `generate` pays here: anybody may spend it (`OP_1`).
const ANYBODY: [u8; 1] = [0x51];
/// A long poll answers a changed pool after this long. Source: SV Node `rpc/mining.cpp` `getblocktemplate`.
const LONG_POLL_QUIET: Duration = Duration::from_secs(60);
/// How often it looks at the pool afterwards.
const LONG_POLL_STEP: Duration = Duration::from_secs(10);
/// It answers in any case after this long, so that a client that is gone does not keep its seat.
const LONG_POLL_MAX: Duration = Duration::from_secs(15 * 60);

fn hashes(hashes: &[consensus::hash::BlockHash]) -> Json {
    Json::of(|w| w.array(|w| hashes.iter().for_each(|hash| w.plain(hash))))
}

async fn mine(rpc: &Rpc, count: Option<i32>, script: Vec<u8>, tries: Option<i32>) -> Answer {
    let count = u32::try_from(count.unwrap_or(0)).unwrap_or(0);
    let tries = u64::try_from(tries.unwrap_or(TRIES_MAX)).unwrap_or(0);
    if count == 0 || tries == 0 {
        return Ok(hashes(&[]));
    }
    Ok(hashes(&rpc.service.chain.generate(count, script, tries).await?))
}

pub(in super::super) fn generate(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move { mine(&rpc, args.int(0)?, ANYBODY.to_vec(), args.int(1)?).await })
}

pub(in super::super) fn generatetoaddress(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move {
        let (count, tries) = (args.int(0)?, args.int(2)?);
        let script = Destination::parse(args.text(1), &rpc.service.params.prefixes)
            .map_err(|_| RpcError::not_found("Error: Invalid address"))?
            .locking_script();
        mine(&rpc, count, script, tries).await
    })
}

/// Sixteen bytes as a UUID is written.
fn id_text(id: &[u8; 16]) -> String {
    let digits = hex::encode(id);
    let cut = |from: usize, to: usize| &digits[from..to];
    format!("{}-{}-{}-{}-{}", cut(0, 8), cut(8, 12), cut(12, 16), cut(16, 20), cut(20, 32))
}

fn read_id(text: &str) -> Result<[u8; 16], RpcError> {
    let plain: String = text.chars().filter(|c| *c != '-').take(33).collect();
    read_hex(&plain)
        .and_then(|bytes| bytes.try_into().ok())
        .filter(|_| text.len() == 36)
        .ok_or_else(
            // The reference's words for an id that is no UUID.
            || {
                RpcError::misc(
                    "bad lexical cast: source type value could not be interpreted as target",
                )
            },
        )
}

fn remember(rpc: &Rpc, candidate: &Candidate) {
    let bytes = Header::BYTES as u64 + candidate.size_bytes;
    rpc.candidate_bytes.store(bytes, Ordering::Relaxed);
    rpc.candidate_txs.store(candidate.tx_count.saturating_sub(1), Ordering::Relaxed);
}

pub(in super::super) fn getminingcandidate(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move {
        let candidate = rpc.service.chain.candidate(Want::Everything).await?;
        remember(&rpc, &candidate);
        Ok(Json::of(|w| {
            w.object(|w| {
                w.key("id").plain(id_text(&candidate.id));
                w.key("prevhash").plain(candidate.prev);
                if args.bool(0) == Some(true) {
                    w.key("coinbase").hex(&candidate.coinbase);
                }
                w.key("coinbaseValue").int(candidate.coinbase_value_sat);
                w.key("version").int(candidate.version);
                w.key("nBits").plain(format_args!("{:08x}", candidate.n_bits));
                w.key("time").int(candidate.time_s);
                w.key("height").int(candidate.height);
                w.key("num_tx").int(candidate.tx_count);
                w.key("sizeWithoutCoinbase").int(Header::BYTES as u64 + candidate.size_bytes);
                w.key("merkleProof").array(|w| {
                    for node in &candidate.branch {
                        w.plain(consensus::hash::MerkleHash(*node));
                    }
                });
            });
        }))
    })
}

/// A member that is a number of 32 bits without a sign; a negative one wraps, as the reference's cast does.
fn wrapped(members: &Map<String, Value>, name: &str) -> Result<Option<u32>, RpcError> {
    members.get(name).filter(|value| !value.is_null()).map(int64).transpose()?.map_or(
        Ok(None),
        |n| {
            let fits = (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&n);
            if fits { Ok(Some(n as u32)) } else { Err(RpcError::misc("JSON integer out of range")) }
        },
    )
}

fn solution(members: &Map<String, Value>) -> Result<Solution, RpcError> {
    let text = |value: &Value| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| RpcError::misc("JSON value is not a string as expected"))
    };
    let id = read_id(&text(members.get("id").unwrap_or(&Value::Null))?)?;
    let nonce = wrapped(members, "nonce")?;
    let time_s = wrapped(members, "time")?;
    let version = members.get("version").filter(|v| !v.is_null()).map(int32).transpose()?;
    let undecodable = || RpcError::decode("coinbase decode failed");
    let coinbase = match members.get("coinbase").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => {
            let bytes = read_hex(&text(value)?).ok_or_else(undecodable)?;
            Tx::parse(&bytes).map_err(|_| undecodable())?;
            Some(bytes)
        }
    };
    let nonce = nonce.ok_or_else(|| RpcError::decode("nonce not found"))?;
    Ok(Solution { id, nonce, coinbase, time_s, version })
}

/// Reads an object as a solution, for fuzzing.
pub(in super::super) fn examine(members: Option<&Map<String, Value>>) {
    let _ = members.map(solution); // the error is as good as the solution
}

pub(in super::super) fn submitminingsolution(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move {
        let empty = Map::new();
        let solution = solution(args.object(0).unwrap_or(&empty))?;
        let outcome = rpc.service.chain.submit_solution(solution).await?;
        Ok(match outcome.submit_text() {
            None => Json::of(|w| w.bool(true)),
            Some(text) => Json::of(|w| w.text(text)),
        })
    })
}

pub(in super::super) fn submitblock(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move {
        let undecodable = || RpcError::decode("Block decode failed");
        let mut bytes = read_hex(args.text(0)).ok_or_else(undecodable)?;
        let used = measure(&bytes).ok_or_else(undecodable)?;
        if used == 0 {
            return Err(RpcError::decode("Block does not start with a coinbase"));
        }
        // The reference reads a block and ignores what follows it.
        bytes.truncate(used);
        let outcome: BlockOutcome = rpc.service.chain.submit_block(bytes).await?;
        Ok(match outcome.submit_text() {
            None => Json::of(Json::null),
            Some(text) => Json::of(|w| w.text(text)),
        })
    })
}

/// How many bytes the block takes; 0 if its first transaction is no coinbase; `None` if it cannot be read.
pub(in super::super) fn measure(bytes: &[u8]) -> Option<usize> {
    use consensus::block::{BlockCursor, BlockStep};
    use consensus::tx::{TxLayout, TxView};
    let _ = BlockView::new(bytes).ok()?;
    let mut cursor = BlockCursor::new(u32::MAX);
    cursor.read_head(bytes).ok()?;
    let (mut layout, mut first) = (TxLayout::new(), true);
    loop {
        match cursor.advance(bytes, &mut layout, usize::MAX).ok()? {
            BlockStep::Tx(range) => {
                if first && !TxView::new(&bytes[range], &layout).is_coinbase() {
                    return Some(0);
                }
                first = false;
            }
            BlockStep::End if first => return Some(0),
            BlockStep::End => return Some(cursor.used_bytes()),
            BlockStep::LayoutFull | BlockStep::More => return None,
        }
    }
}

/// Waits until the template named `id` (its parent, then how often the pool had changed) is out of date: at once with a new tip, after a minute with a changed pool.
async fn wait_for_news(rpc: &Rpc, id: &str) -> Result<(), RpcError> {
    let service = &rpc.service;
    // Other spellings are old already. Source: BIP22 says that the id is the server's own matter.
    let Some((tip, changes)) = id.split_at_checked(64) else { return Ok(()) };
    let changes: Option<u64> = changes.parse().ok();
    let Ok(_seat) = rpc.long_polls.try_acquire() else {
        rpc.counters.add(RpcCount::LongPollsRefused, 1);
        return Err(RpcError::new(code::OVERLOADED, "too many long polls wait; poll without one"));
    };
    rpc.counters.add(RpcCount::LongPolls, 1);
    let waited = async {
        let mut tips = service.chain.subscribe();
        let new_tip = async {
            loop {
                if tips.borrow_and_update().hash.to_string() != tip {
                    return;
                }
                if tips.changed().await.is_err() {
                    return;
                }
            }
        };
        let new_pool = async {
            tokio::time::sleep(LONG_POLL_QUIET).await;
            while changes == Some(service.pool.updated()) {
                tokio::time::sleep(LONG_POLL_STEP).await;
            }
        };
        tokio::select! {
            () = new_tip => Ok(()),
            () = new_pool => Ok(()),
            () = tokio::time::sleep(LONG_POLL_MAX) => Ok(()),
            () = service.stop.requested() => Err(RpcError::new(code::NOT_CONNECTED, "Shutting down")),
        }
    };
    let waited = waited.await;
    rpc.counters.sub(RpcCount::LongPolls, 1);
    waited
}

pub(in super::super) fn getblocktemplate(rpc: Arc<Rpc>, args: Args) -> Later {
    Box::pin(async move {
        let request = args.object(0);
        let member = |name: &str| request.and_then(|request| request.get(name));
        match member("mode") {
            None | Some(Value::Null) => {}
            Some(Value::String(mode)) if mode == "template" => {}
            Some(_) => return Err(RpcError::parameter("Invalid mode")),
        }
        if let Some(id) = member("longpollid").and_then(Value::as_str) {
            wait_for_news(&rpc, id).await?;
        }
        template(&rpc).await
    })
}

async fn template(rpc: &Rpc) -> Answer {
    let service = &rpc.service;
    // Read before the candidate: what changes in between makes the id old, never too new.
    let changes = service.pool.updated();
    let candidate = service.chain.candidate(Want::Everything).await?;
    let txs = service.chain.candidate_txs(candidate.id).await?;
    remember(rpc, &candidate);
    let target = expand_compact(candidate.n_bits).value;
    Ok(Json::with_room(candidate.size_bytes as usize * 2 + 4_096, |w| {
        w.object(|w| {
            w.key("capabilities").array(|_| {});
            w.key("version").int(candidate.version);
            w.key("previousblockhash").plain(candidate.prev);
            w.key("transactions").array(|w| {
                for tx in &txs {
                    w.object(|w| {
                        w.key("data").hex(&tx.raw);
                        w.key("txid").plain(tx.txid);
                        w.key("hash").plain(tx.txid);
                        w.key("depends").array(|w| tx.depends.iter().for_each(|at| w.int(at + 1)));
                        w.key("fee").int(tx.fee_sat);
                    });
                }
            });
            w.key("coinbaseaux").object(|w| w.key("flags").plain(""));
            w.key("coinbasevalue").int(candidate.coinbase_value_sat);
            w.key("longpollid").plain(format_args!("{}{changes}", candidate.prev));
            w.key("target").plain(format_args!("{target:064x}"));
            w.key("mintime").int(candidate.min_time_s);
            w.key("mutable").array(|w| {
                ["time", "transactions", "prevblock"].iter().for_each(|what| w.plain(what));
            });
            w.key("noncerange").plain("00000000ffffffff");
            w.key("sizelimit").int(u32::MAX);
            w.key("curtime").int(candidate.time_s);
            w.key("bits").plain(format_args!("{:08x}", candidate.n_bits));
            w.key("height").int(candidate.height);
        });
    }))
}

/// Hashes a second over the last blocks. Source: SV Node `rpc/mining.cpp` `GetNetworkHashPS`.
fn network_hashes_per_s(rpc: &Rpc, blocks: i32, height: i32) -> f64 {
    let chain = &rpc.service.chain;
    let tip = chain.tip().height;
    let top = u32::try_from(height).ok().filter(|height| *height < tip).unwrap_or(tip);
    if top == 0 {
        return 0.0;
    }
    let retarget = consensus::pow::RETARGET_BLOCKS;
    let blocks =
        u32::try_from(blocks).ok().filter(|n| *n > 0).unwrap_or(top % retarget + 1).min(top);
    let header = |height| chain.hash_at(height).and_then(|hash| chain.header(&hash));
    let (Some(first), Some(last)) = (header(top - blocks), header(top)) else { return 0.0 };
    let times = (top - blocks..=top).filter_map(header).map(|info| info.header.time_s);
    let (least, most) = times.fold((u32::MAX, 0), |(a, b), time| (a.min(time), b.max(time)));
    if least >= most {
        return 0.0;
    }
    to_double(last.chain_work - first.chain_work) / f64::from(most - least)
}

/// The double nearest to a work. Source: SV Node `arith_uint256.cpp` `getdouble`.
fn to_double(work: U256) -> f64 {
    work.as_limbs()
        .iter()
        .rev()
        .fold(0.0, |sum, limb| sum * 18_446_744_073_709_551_616.0 + *limb as f64)
}

pub(in super::super) fn getnetworkhashps(rpc: &Rpc, args: &Args) -> Answer {
    let (blocks, height) = (args.int(0)?.unwrap_or(120), args.int(1)?.unwrap_or(-1));
    Ok(Json::of(|w| w.double(network_hashes_per_s(rpc, blocks, height))))
}

pub(in super::super) fn getmininginfo(rpc: &Rpc, _: &Args) -> Answer {
    let service = &rpc.service;
    let tip = service.chain.tip();
    Ok(Json::of(|w| {
        w.object(|w| {
            w.key("blocks").int(tip.height);
            w.key("currentblocksize").int(rpc.candidate_bytes.load(Ordering::Relaxed));
            w.key("currentblocktx").int(rpc.candidate_txs.load(Ordering::Relaxed));
            w.key("difficulty").double(difficulty(tip.header.n_bits));
            w.key("errors").plain("");
            w.key("networkhashps").double(network_hashes_per_s(rpc, 120, -1));
            w.key("pooledtx").int(service.pool.len());
            w.key("chain").plain(service.params.network.chain_name());
        });
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_both_ways() {
        let id = *b"\xf1\xc8\x9e\x16\xc9\x87\x45\xa1\x82\xf1\x2e\xb4\x49\x65\xf4\x13";
        assert_eq!(id_text(&id), "f1c89e16-c987-45a1-82f1-2eb44965f413");
        assert_eq!(read_id(&id_text(&id)), Ok(id));
        for bad in ["", "x", "f1c89e16c98745a182f12eb44965f413", &"-".repeat(36), &"f".repeat(36)] {
            assert_eq!(read_id(bad).unwrap_err().code, -1, "{bad}");
        }
    }

    #[test]
    fn solutions_fail_as_the_reference_fails() {
        // Seen from SV Node 1.0.13.
        let id = r#""id":"f1c89e16-c987-45a1-82f1-2eb44965f413""#;
        let said = |json: &str| {
            let members: Map<String, Value> = serde_json::from_str(json).unwrap();
            solution(&members).map_err(|error| (error.code, error.message))
        };
        let error = |code, text: &str| Err((code, text.to_owned()));
        assert_eq!(said("{}"), error(-1, "JSON value is not a string as expected"));
        assert_eq!(said(&format!("{{{id}}}")), error(-22, "nonce not found"));
        let row = |more: &str| said(&format!("{{{id},{more}}}"));
        assert_eq!(row(r#""nonce":"x""#), error(-1, "JSON value is not an integer as expected"));
        assert_eq!(row(r#""nonce":1,"coinbase":"zz""#), error(-22, "coinbase decode failed"));
        assert_eq!(row(r#""nonce":1,"coinbase":"00""#), error(-22, "coinbase decode failed"));
        assert_eq!(
            row(r#""nonce":1,"version":"x""#),
            error(-1, "JSON value is not an integer as expected")
        );
        let good = row(r#""nonce":-1,"time":5,"version":-2"#).unwrap();
        assert_eq!((good.nonce, good.time_s, good.version), (u32::MAX, Some(5), Some(-2)));
        assert_eq!(row(r#""nonce":4294967296"#), error(-1, "JSON integer out of range"));
    }
}
