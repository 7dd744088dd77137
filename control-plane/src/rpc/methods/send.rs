//! Submitting transactions.
//!
//! In: transactions in hex, one or many. Out: what was not simply accepted, in the shapes of SV Node. Everything of one call
//! goes to the gate as one message and keeps its order, so parents may stand before their children; nothing here waits but
//! for the verdicts. A call of a thousand transactions is read in one pass over its text, with no tree of values in between.
//! Source of shapes and texts: SV Node `rpc/rawtransaction.cpp` `sendrawtransaction`, `sendrawtransactions`, seen from 1.0.13.

use super::super::args::{Args, wrong_value};
use super::super::error::{RpcError, code};
use super::super::json::{Json, read_hex};
use super::super::state::{Rpc, RpcCount};
use super::super::table::{Answer, Kind, Later, method};
use super::raw::undecodable;
use crate::submit::{Outcome, SourceKind, SubmitError};
use bytes::Bytes;
use consensus::hash::TxId;
use consensus::rules::TxReject;
use consensus::tx::{Tx, TxLayout, parse};
use dataplane::msg::TxVerdict;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// Highest fee of a transaction that does not ask for `allowhighfees`: a tenth of a coin. Source: SV Node `validation.h`
/// `DEFAULT_TRANSACTION_MAXFEE`.
const FEE_MAX_SAT: u64 = 10_000_000;
/// Transactions of one trip to the gate, well below what it holds.
const TXS_PER_TRIP: usize = 8_192;
/// Most ancestors that are listed for one transaction.
const ANCESTORS_MAX: usize = 10_000;

/// A transaction to be submitted.
#[derive(Debug)]
struct Item {
    raw: Bytes,
    /// Any fee is fine.
    any_fee: bool,
    list_ancestors: bool,
}

impl Item {
    /// `None` if the text is no transaction.
    fn read(hex: &str, any_fee: bool, list_ancestors: bool, layout: &mut TxLayout) -> Option<Self> {
        let raw = read_hex(hex)?;
        parse(&raw, layout).ok()?;
        Some(Self { raw: raw.into(), any_fee, list_ancestors })
    }
}

/// What became of an item.
enum Ended {
    Submitted(Outcome),
    /// Not submitted: its fee is absurdly high.
    HighFee(TxId),
}

/// The number and text of a refusal, as the P2P message `reject` would carry them.
fn refusal(rpc: &Rpc, outcome: &Outcome) -> (u16, Cow<'static, str>) {
    let reason = || Cow::Owned(outcome.reason().into_owned());
    match outcome.verdict {
        TxVerdict::OrphanExpired | TxVerdict::ParentRejected | TxVerdict::MissingInput => {
            (0x10, Cow::Borrowed("missing-inputs"))
        }
        // A coin that a block's transaction spent is gone: the reference does not know that it ever was.
        TxVerdict::DoubleSpend if !rpc.service.pool.contains(&outcome.other) => {
            (0x10, Cow::Borrowed("missing-inputs"))
        }
        TxVerdict::DoubleSpend => (0x102, Cow::Borrowed("txn-mempool-conflict")),
        TxVerdict::Accepted | TxVerdict::Known => (0x101, Cow::Borrowed("txn-already-known")),
        TxVerdict::Invalid | TxVerdict::Policy => {
            let code = TxReject::from_number(outcome.detail).map_or(0x10, |r| r.code() as u16);
            (code, reason())
        }
        TxVerdict::ScriptFailed => {
            let reason = reason();
            (if reason.starts_with("non-mandatory") { 0x40 } else { 0x10 }, reason)
        }
        TxVerdict::Malformed => (0x01, reason()),
        TxVerdict::Overloaded => (0x44, reason()),
        TxVerdict::Immature | TxVerdict::CoinMismatch => (0x10, reason()),
        TxVerdict::NonFinal | TxVerdict::Frozen | TxVerdict::Locked | TxVerdict::TooCostly => {
            (0x40, reason())
        }
    }
}

/// The answer to one `sendrawtransaction`.
fn single(rpc: &Rpc, ended: &Ended) -> Answer {
    let rejected = |code: u16, reason: &str| {
        Err(RpcError::new(code::VERIFY_REJECTED, format!("{code}: {reason}")))
    };
    let outcome = match ended {
        Ended::HighFee(_) => return rejected(0x100, "absurdly-high-fee"),
        Ended::Submitted(outcome) => outcome,
    };
    match outcome.verdict {
        TxVerdict::Accepted => Ok(Json::of(|w| w.plain(outcome.txid))),
        TxVerdict::Known if rpc.service.pool.contains(&outcome.txid) => {
            Err(RpcError::new(code::ALREADY_IN_CHAIN, "Transaction already in the mempool"))
        }
        TxVerdict::Overloaded => {
            Err(RpcError::new(code::OVERLOADED, outcome.reason().into_owned()))
        }
        _ => match refusal(rpc, outcome) {
            (_, reason) if reason == "missing-inputs" => {
                Err(RpcError::new(code::VERIFY, "Missing inputs"))
            }
            (number, reason) => rejected(number, &reason),
        },
    }
}

/// Submits items in order.
async fn submit(rpc: &Rpc, items: Vec<Item>) -> Result<Vec<Ended>, RpcError> {
    rpc.counters.add(RpcCount::Transactions, items.len() as u64);
    let high = high_fees(rpc, &items).await?;
    let txs: Vec<Bytes> = items
        .into_iter()
        .zip(&high)
        .filter(|(_, high)| high.is_none())
        .map(|(item, _)| item.raw)
        .collect();
    let mut outcomes = Vec::with_capacity(txs.len());
    // The gate takes so many at a time; the next ones follow in order.
    for some in txs.chunks(TXS_PER_TRIP) {
        let answer = rpc.service.submit.submit(some.to_vec(), SourceKind::Rpc).await;
        outcomes.extend(answer.map_err(|error| refused(&error))?);
    }
    let mut outcomes = outcomes.into_iter();
    high.into_iter()
        .map(|high| match high {
            Some(txid) => Ok(Ended::HighFee(txid)),
            None => outcomes
                .next()
                .map(Ended::Submitted)
                .ok_or_else(|| RpcError::new(code::INTERNAL, "fewer verdicts than transactions")),
        })
        .collect()
}

fn refused(error: &SubmitError) -> RpcError {
    match error {
        SubmitError::Stopping => RpcError::new(code::NOT_CONNECTED, "Shutting down"),
        SubmitError::TooLarge { .. } => RpcError::parameter(error.to_string()),
        SubmitError::NotKept(_) => RpcError::new(code::NOT_CONNECTED, error.to_string()),
        _ => RpcError::new(code::OVERLOADED, error.to_string()),
    }
}

/// For each item the txid if its fee is too high and it does not allow that.
///
/// Coins that are not known are somebody else's verdict. Nothing is looked up for items that take any fee.
async fn high_fees(rpc: &Rpc, items: &[Item]) -> Result<Vec<Option<TxId>>, RpcError> {
    if items.iter().all(|item| item.any_fee) {
        return Ok(items.iter().map(|_| None).collect());
    }
    // What the items before make, for their children in the same call.
    let mut made: HashMap<TxId, Vec<u64>> = HashMap::new();
    let mut high = Vec::with_capacity(items.len());
    for item in items {
        let tx = Tx::parse(&item.raw).map_err(|_| undecodable())?;
        let txid = tx.txid();
        let fee = if item.any_fee { None } else { fee_of(rpc, &tx, &made).await? };
        high.push(fee.filter(|fee| *fee > FEE_MAX_SAT).map(|_| txid));
        let values = tx.outputs.iter().map(|output| u64::try_from(output.value_sat).unwrap_or(0));
        made.insert(txid, values.collect());
    }
    Ok(high)
}

async fn fee_of(
    rpc: &Rpc,
    tx: &Tx,
    made: &HashMap<TxId, Vec<u64>>,
) -> Result<Option<u64>, RpcError> {
    let mut paid = 0u64;
    for input in &tx.inputs {
        let known = match &input.coin {
            Some(coin) => Some(coin.value_sat),
            None => match made.get(&input.prev.txid) {
                Some(values) => values.get(input.prev.vout as usize).copied(),
                None => rpc.service.chain.coin(input.prev, true).await?.map(|coin| coin.value_sat),
            },
        };
        let Some(value) = known else { return Ok(None) };
        paid = paid.saturating_add(value);
    }
    let spent = tx
        .outputs
        .iter()
        .fold(0u64, |sum, output| sum.saturating_add(u64::try_from(output.value_sat).unwrap_or(0)));
    Ok(Some(paid.saturating_sub(spent)))
}

fn read_single(params: &[u8], layout: &mut TxLayout) -> Result<Item, RpcError> {
    let row = method("sendrawtransaction").expect("a row of the table");
    let args = Args::parse(row, params)?;
    Item::read(args.text(0), args.bool(1).unwrap_or(false), false, layout).ok_or_else(undecodable)
}

pub(in super::super) fn sendrawtransaction(rpc: Arc<Rpc>, params: Bytes) -> Later {
    Box::pin(async move {
        let item = read_single(&params, &mut TxLayout::new())?;
        let ended = submit(&rpc, vec![item]).await?;
        single(&rpc, &ended[0])
    })
}

/// Many calls of `sendrawtransaction` that stand beside each other in a batch: one trip to the gate for all of them.
pub(in super::super) async fn send_calls(rpc: &Rpc, calls: &[Bytes]) -> Vec<Answer> {
    let mut layout = TxLayout::new();
    let (mut items, mut answers) = (Vec::new(), Vec::with_capacity(calls.len()));
    for params in calls {
        answers.push(match read_single(params, &mut layout) {
            Ok(item) => {
                items.push(item);
                None
            }
            Err(error) => Some(Err(error)),
        });
    }
    let mut ended = match submit(rpc, items).await {
        Ok(ended) => Ok(ended.into_iter()),
        Err(error) => Err(error),
    };
    let mut next = || match &mut ended {
        Ok(ended) => ended.next().map_or_else(|| Err(undecodable()), |ended| single(rpc, &ended)),
        Err(error) => Err(error.clone()),
    };
    answers.into_iter().map(|answer| answer.unwrap_or_else(&mut next)).collect()
}

/// An element of `inputs` as nearly every caller writes it.
#[derive(serde::Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    hex: Cow<'a, str>,
    #[serde(default)]
    allowhighfees: bool,
    #[serde(default, rename = "dontcheckfee")]
    _dontcheckfee: bool,
    #[serde(default)]
    listunconfirmedancestors: bool,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
}

/// An [`Input`] that is written as an object: the derived reader would take an array as well.
struct InputObject<'a>(Input<'a>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for InputObject<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> serde::de::Visitor<'de> for Reader {
            type Value = Input<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with a transaction")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<Self::Value, A::Error> {
                serde::Deserialize::deserialize(serde::de::value::MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Reader).map(Self)
    }
}

/// The items, read in one pass; `None` if the parameters are written in any other way, or wrong.
fn read_fast(params: &[u8]) -> Option<Vec<Item>> {
    let [inputs] = serde_json::from_slice::<[Vec<InputObject<'_>>; 1]>(params).ok()?;
    if inputs.is_empty() || inputs.iter().any(|input| input.0.config.is_some()) {
        return None;
    }
    let mut layout = TxLayout::new();
    let read = |InputObject(input): &InputObject<'_>| {
        Item::read(&input.hex, input.allowhighfees, input.listunconfirmedancestors, &mut layout)
    };
    inputs.iter().map(read).collect()
}

/// The items, or what is wrong with the parameters.
fn read_slowly(params: &[u8]) -> Result<Vec<Item>, RpcError> {
    let row = method("sendrawtransactions").expect("a row of the table");
    let args = Args::parse(row, params)?;
    let invalid = |message: &str| Err(RpcError::parameter(message));
    let inputs = args.array(0);
    if inputs.is_empty() {
        return invalid("Invalid parameter: An empty json array of objects");
    }
    if let Some(name) = args.object(1).and_then(|policy| policy.keys().next()) {
        return invalid(&setting(name));
    }
    let mut layout = TxLayout::new();
    let mut items = Vec::with_capacity(inputs.len());
    for input in inputs {
        let input = input.as_object().ok_or_else(|| wrong_value(Kind::Object))?;
        if input.is_empty() {
            return invalid("Invalid parameter: An empty json object");
        }
        let Some(hex) = input.get("hex").and_then(Value::as_str) else {
            return invalid("Invalid parameter: Missing the hex string of the raw transaction");
        };
        let mut item = Item::read(hex, false, false, &mut layout).ok_or_else(undecodable)?;
        let flag = |name: &str| match input.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(RpcError::parameter(format!("{name}: Invalid value"))),
        };
        item.any_fee = flag("allowhighfees")?;
        flag("dontcheckfee")?;
        item.list_ancestors = flag("listunconfirmedancestors")?;
        match input.get("config") {
            None => {}
            Some(Value::Object(config)) => {
                if let Some(name) = config.keys().next() {
                    return invalid(&setting(name));
                }
            }
            Some(_) => return Err(wrong_value(Kind::Object)),
        }
        items.push(item);
    }
    Ok(items)
}

/// Reads parameters both ways, for fuzzing: what the fast way takes, the slow one must read alike.
pub(in super::super) fn examine(params: &[u8]) {
    let (fast, slow) = (read_fast(params), read_slowly(params));
    if let Some(fast) = fast {
        let slow = slow.unwrap_or_else(|error| panic!("only the fast way reads this: {error}"));
        let key = |item: &Item| (item.raw.clone(), item.any_fee, item.list_ancestors);
        assert!(fast.iter().map(key).eq(slow.iter().map(key)), "the two ways read differently");
    }
}

fn setting(name: &str) -> String {
    let shown: String = name.chars().take(80).collect();
    format!(
        "{shown} is not a valid policy setting. (Policy is the node's, not a transaction's; leave it out.)"
    )
}

pub(in super::super) fn sendrawtransactions(rpc: Arc<Rpc>, params: Bytes) -> Later {
    Box::pin(async move {
        let items = match read_fast(&params) {
            Some(items) => items,
            None => read_slowly(&params)?,
        };
        let list: Vec<bool> = items.iter().map(|item| item.list_ancestors).collect();
        let ended = submit(&rpc, items).await?;
        if ended.iter().zip(&list).all(|(ended, list)| !list && is_accepted(ended)) {
            return Ok(Json::of(|w| w.object(|_| {})));
        }
        let _seat = rpc.seat().await?;
        let shared = Arc::clone(&rpc);
        tokio::task::spawn_blocking(move || report(&shared, &ended, &list))
            .await
            .unwrap_or_else(|error| Err(RpcError::new(code::INTERNAL, error.to_string())))
    })
}

fn is_accepted(ended: &Ended) -> bool {
    matches!(ended, Ended::Submitted(outcome) if outcome.verdict == TxVerdict::Accepted)
}

/// The answer where not everything was simply accepted. Reads the pool's file for transactions it names.
fn report(rpc: &Rpc, ended: &[Ended], list: &[bool]) -> Answer {
    let pool = &rpc.service.pool;
    let (mut known, mut invalid, mut unconfirmed) = (Vec::new(), Vec::new(), Vec::new());
    for (ended, list) in ended.iter().zip(list) {
        match ended {
            Ended::Submitted(outcome) if outcome.verdict == TxVerdict::Accepted => {
                if *list {
                    unconfirmed.push(outcome.txid);
                }
            }
            Ended::Submitted(outcome)
                if outcome.verdict == TxVerdict::Known && pool.contains(&outcome.txid) =>
            {
                known.push(outcome.txid);
            }
            Ended::Submitted(outcome) => {
                let (number, reason) = refusal(rpc, outcome);
                let other = (number == 0x102).then_some(outcome.other);
                invalid.push((outcome.txid, number, reason, other));
            }
            Ended::HighFee(txid) => {
                invalid.push((*txid, 0x100, Cow::Borrowed("absurdly-high-fee"), None));
            }
        }
    }
    let mut failed = Ok(());
    let json = Json::of(|w| {
        w.object(|w| {
            if !known.is_empty() {
                w.key("known").array(|w| known.iter().for_each(|txid| w.plain(txid)));
            }
            if !invalid.is_empty() {
                w.key("invalid").array(|w| {
                    for (txid, number, reason, other) in &invalid {
                        w.object(|w| {
                            w.key("txid").plain(txid);
                            w.key("reject_code").int(number);
                            w.key("reject_reason").text(reason);
                            if let Some(other) = other {
                                w.key("collidedWith").array(|w| write_other(w, rpc, other));
                            }
                        });
                    }
                });
            }
            if !unconfirmed.is_empty() {
                w.key("unconfirmed").array(|w| {
                    for txid in &unconfirmed {
                        let written = write_unconfirmed(w, rpc, txid);
                        failed = std::mem::replace(&mut failed, Ok(())).and(written);
                    }
                });
            }
        });
    });
    failed.map(|()| json)
}

/// The transaction another one collided with, if it is still there.
fn write_other(w: &mut Json, rpc: &Rpc, txid: &TxId) {
    if let Ok(Some(other)) = rpc.service.pool.get(txid) {
        w.object(|w| {
            w.key("txid").plain(txid);
            w.key("size").int(other.raw.len());
            w.key("hex").hex(&other.raw);
        });
    }
}

fn write_unconfirmed(w: &mut Json, rpc: &Rpc, txid: &TxId) -> Result<(), RpcError> {
    let pool = &rpc.service.pool;
    let mut ancestors = pool.ancestors(txid)?;
    ancestors.truncate(ANCESTORS_MAX);
    let mut failed = Ok(());
    w.object(|w| {
        w.key("txid").plain(txid);
        w.key("ancestors").array(|w| {
            let mut layout = TxLayout::new();
            for ancestor in &ancestors {
                match pool.get(ancestor) {
                    Ok(Some(tx)) => {
                        let Ok(view) = parse(&tx.raw, &mut layout) else { continue };
                        w.object(|w| {
                            w.key("txid").plain(ancestor);
                            w.key("vin").array(|w| {
                                for input in view.inputs() {
                                    w.object(|w| {
                                        w.key("txid").plain(input.prev.txid);
                                        w.key("vout").int(input.prev.vout);
                                    });
                                }
                            });
                        });
                    }
                    Ok(None) => {}
                    Err(error) => failed = Err(error),
                }
            }
        });
    });
    failed.map_err(RpcError::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1, one input, one output.
    fn tx() -> String {
        format!("01000000{}{}{}{}", "01", "11".repeat(36), "00ffffffff", "0101000000000000000151")
            + "00000000"
    }

    #[test]
    fn the_fast_and_the_slow_way_read_the_same() {
        let tx = tx();
        for (params, any_fee, list) in [
            (format!(r#"[[{{"hex":"{tx}"}}]]"#), false, false),
            (
                format!(r#"[[{{"hex":"{tx}","allowhighfees":true,"dontcheckfee":true}}]]"#),
                true,
                false,
            ),
            (format!(r#"[[{{"listunconfirmedancestors":true,"x":5,"hex":"{tx}"}}]]"#), false, true),
        ] {
            let fast = read_fast(params.as_bytes()).expect("the usual form");
            let slow = read_slowly(params.as_bytes()).expect("a good call");
            for items in [fast, slow] {
                assert_eq!(items.len(), 1);
                assert_eq!(hex::encode(&items[0].raw), tx);
                assert_eq!((items[0].any_fee, items[0].list_ancestors), (any_fee, list));
            }
        }
        let named = format!(r#"{{"inputs":[{{"hex":"{tx}"}}]}}"#);
        assert!(read_fast(named.as_bytes()).is_none());
        assert_eq!(read_slowly(named.as_bytes()).ok().map(|items| items.len()), Some(1));
    }

    #[test]
    fn wrong_inputs_fail_as_the_reference_fails() {
        // Seen from SV Node 1.0.13.
        let tx = tx();
        let rows = [
            ("[]".to_owned(), -8, "Invalid parameter: An empty json array of objects"),
            ("[{}]".to_owned(), -8, "Invalid parameter: An empty json object"),
            ("[5]".to_owned(), -1, "JSON value is not an object as expected"),
            ("5".to_owned(), -3, "Expected type array, got number"),
            (format!(r#"[["{tx}"]]"#), -1, "JSON value is not an object as expected"),
            (
                r#"[{"hex":5}]"#.to_owned(),
                -8,
                "Invalid parameter: Missing the hex string of the raw transaction",
            ),
            (r#"[{"hex":"zz"}]"#.to_owned(), -22, "TX decode failed"),
            (r#"[{"hex":"00"}]"#.to_owned(), -22, "TX decode failed"),
            (format!(r#"[{{"hex":"{tx}00"}}]"#), -22, "TX decode failed"),
            (
                format!(r#"[{{"hex":"{tx}","allowhighfees":5}}]"#),
                -8,
                "allowhighfees: Invalid value",
            ),
            (
                format!(r#"[{{"hex":"{tx}","dontcheckfee":"x"}}]"#),
                -8,
                "dontcheckfee: Invalid value",
            ),
            (
                format!(r#"[{{"hex":"{tx}","config":5}}]"#),
                -1,
                "JSON value is not an object as expected",
            ),
        ];
        for (inputs, code, message) in rows {
            let params = format!("[{inputs}]");
            assert!(read_fast(params.as_bytes()).is_none(), "{params}");
            let error = read_slowly(params.as_bytes()).expect_err(&params);
            assert_eq!((error.code, &error.message[..]), (code, message), "{params}");
        }
        let config = format!(r#"[[{{"hex":"{tx}","config":{{"x":5}}}}]]"#);
        let error = read_slowly(config.as_bytes()).expect_err("no such setting");
        assert!(error.message.starts_with("x is not a valid policy setting."));
    }
}
