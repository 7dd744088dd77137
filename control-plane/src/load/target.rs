//! Targets: where transactions go, in which words, and what the answers mean.
//!
//! In: `http://HOST:PORT` (Teranode's `POST /tx` and `POST /txs`) or `rpc://HOST:PORT` (bitcoind's JSON-RPC), places of an
//! offer, later the answer's status and bytes. Out: a request body, later one [`Judgement`] for each place. A judgement is
//! *accepted*, *rejected* (the node says no to this transaction) or *error* (the node said nothing about it: no connection,
//! overload, an answer that cannot be read). Nothing is guessed: a batch that was refused as a whole is no verdict on its parts.

use hyper::StatusCode;
use load::Offer;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;

/// The longest piece of a reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 100;
/// A run of so many hex digits in a reason is an id, which would make every reason a new one.
const HEX_RUN_MIN: usize = 16;

/// How transactions are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// `POST /tx`: one transaction, binary.
    HttpOne,
    /// `POST /txs`: concatenated transactions, binary.
    HttpMany,
    /// `sendrawtransaction`.
    RpcOne,
    /// `sendrawtransactions`, as SV Node has it.
    RpcMany,
    /// A JSON-RPC batch of `sendrawtransaction`, for nodes without the above.
    RpcArray,
}

/// What kind of server listens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Teranode's submit interface.
    Http,
    /// bitcoind's JSON-RPC.
    Rpc,
}

/// A parsed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What listens there.
    pub protocol: Protocol,
    /// `HOST:PORT`.
    pub authority: String,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.protocol == Protocol::Http { "http" } else { "rpc" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("{text} is neither http://HOST:PORT nor rpc://HOST:PORT"));
        };
        let protocol = match scheme {
            "http" => Protocol::Http,
            "rpc" => Protocol::Rpc,
            _ => return Err(format!("{scheme}:// is neither http:// nor rpc://")),
        };
        let authority = rest.trim_end_matches('/').to_owned();
        let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            return Err(format!("{text} names no port: http://HOST:PORT or rpc://HOST:PORT"));
        }
        Ok(Self { protocol, authority })
    }
}

/// What became of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is in.
    Accepted,
    /// The node said no, and why.
    Rejected(String),
    /// The node said nothing about it, and why.
    Error(String),
}

/// What an answer says about its request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// One for each transaction, in the order of the request.
    Each(Vec<Judgement>),
    /// SV Node refuses a call of many when one of them cannot be read: they have to be sent one by one.
    OneByOne,
}

impl Speech {
    /// The path of its requests.
    pub fn path(self) -> &'static str {
        match self {
            Self::HttpOne => "/tx",
            Self::HttpMany => "/txs",
            Self::RpcOne | Self::RpcMany | Self::RpcArray => "/",
        }
    }

    /// The media type of its request bodies.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::HttpOne | Self::HttpMany => "application/octet-stream",
            Self::RpcOne | Self::RpcMany | Self::RpcArray => "application/json",
        }
    }

    /// The body that hands over `places` of `offer`. Over RPC any fee is fine: asking the node to guard against a typing error
    /// makes it look up every coin a second time.
    pub fn body(self, offer: &Offer, places: &[u32]) -> Vec<u8> {
        let txs = || places.iter().map(|place| offer.get(*place as usize).bytes);
        let bytes: usize = txs().map(<[u8]>::len).sum();
        match self {
            Self::HttpOne | Self::HttpMany => {
                let mut body = Vec::with_capacity(bytes);
                txs().for_each(|tx| body.extend_from_slice(tx));
                body
            }
            Self::RpcOne => {
                let mut body = Vec::with_capacity(2 * bytes + 96);
                body.extend_from_slice(
                    br#"{"jsonrpc":"1.0","id":0,"method":"sendrawtransaction","#,
                );
                body.extend_from_slice(br#""params":[""#);
                txs().for_each(|tx| push_hex(&mut body, tx));
                body.extend_from_slice(br#"",true]}"#);
                body
            }
            Self::RpcMany => {
                let mut body = Vec::with_capacity(2 * bytes + 96 + 11 * places.len());
                body.extend_from_slice(
                    br#"{"jsonrpc":"1.0","id":0,"method":"sendrawtransactions","#,
                );
                body.extend_from_slice(br#""params":[["#);
                for (i, tx) in txs().enumerate() {
                    body.extend_from_slice(if i == 0 { br#"{"hex":""# } else { br#",{"hex":""# });
                    push_hex(&mut body, tx);
                    body.extend_from_slice(br#"","allowhighfees":true}"#);
                }
                body.extend_from_slice(b"]]}");
                body
            }
            Self::RpcArray => {
                let mut body = Vec::with_capacity(2 * bytes + 96 * places.len() + 2);
                for (i, tx) in txs().enumerate() {
                    body.push(if i == 0 { b'[' } else { b',' });
                    let head = format!(
                        r#"{{"jsonrpc":"1.0","id":{i},"method":"sendrawtransaction","params":[""#
                    );
                    body.extend_from_slice(head.as_bytes());
                    push_hex(&mut body, tx);
                    body.extend_from_slice(br#"",true]}"#);
                }
                body.push(b']');
                body
            }
        }
    }

    /// What an answer with this status and body says about `places`.
    pub fn read(self, offer: &Offer, places: &[u32], status: StatusCode, body: &[u8]) -> Answer {
        let all = |judgement: Judgement| Answer::Each(vec![judgement; places.len()]);
        match self {
            Self::HttpOne | Self::HttpMany => Answer::Each(read_http(places.len(), status, body)),
            Self::RpcOne => all(read_rpc_one(status, body)),
            Self::RpcMany => read_rpc_many(offer, places, status, body),
            Self::RpcArray => Answer::Each(read_rpc_array(places.len(), status, body)),
        }
    }
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    hex::encode_to_slice(bytes, &mut out[start..]).expect("two digits for each byte");
}

/// A reason fit to be counted: short, printable, without ids.
pub fn reason(text: &str) -> String {
    let mut short = String::new();
    let mut run = String::new();
    let flush = |run: &mut String, short: &mut String| {
        if run.len() >= HEX_RUN_MIN {
            short.push('#');
        } else {
            short.push_str(run);
        }
        run.clear();
    };
    for c in text.trim().chars().take(4 * REASON_CHARS_MAX) {
        if c.is_ascii_hexdigit() {
            run.push(c);
            continue;
        }
        flush(&mut run, &mut short);
        short.push(if c.is_control() { ' ' } else { c });
    }
    flush(&mut run, &mut short);
    short.chars().take(REASON_CHARS_MAX).collect()
}

fn read_status(status: StatusCode, body: &[u8]) -> Judgement {
    let said = || format!("{} {}", status.as_u16(), reason(&String::from_utf8_lossy(body)));
    if status.is_success() {
        Judgement::Accepted
    } else if is_a_verdict(status) {
        Judgement::Rejected(said())
    } else {
        Judgement::Error(said())
    }
}

/// Statuses with which a submit interface says no to a transaction. Teranode's older servers say it with 500.
fn is_a_verdict(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 403 | 409 | 413 | 422 | 460..=479 | 500)
}

/// A row of the JSON answer to `POST /tx` and `POST /txs`.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    verdict: Cow<'a, str>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

fn read_http(count: usize, status: StatusCode, body: &[u8]) -> Vec<Judgement> {
    if let Ok(rows) = serde_json::from_slice::<Vec<Row<'_>>>(body)
        && rows.len() == count
    {
        let judge = |row: &Row<'_>| {
            if row.verdict == "accepted" {
                return Judgement::Accepted;
            }
            let why = row.reason.as_deref().filter(|text| !text.is_empty());
            let why = reason(why.unwrap_or(&row.verdict));
            if row.verdict == "overloaded" {
                Judgement::Error(why)
            } else {
                Judgement::Rejected(why)
            }
        };
        return rows.iter().map(judge).collect();
    }
    let one = match read_status(status, body) {
        // Which of them it speaks of is not said.
        Judgement::Rejected(why) if count > 1 => Judgement::Error(format!("whole batch: {why}")),
        other => other,
    };
    vec![one; count]
}

#[derive(Deserialize)]
struct RpcError<'a> {
    code: i64,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RpcAnswer<'a, T> {
    #[serde(borrow = "'a", default)]
    error: Option<RpcError<'a>>,
    #[serde(default = "none")]
    result: Option<T>,
    #[serde(default)]
    id: Option<u64>,
}

fn none<T>() -> Option<T> {
    None
}

/// Error codes that judge a transaction. Source: SV Node rpc/protocol.h: `RPC_TRANSACTION_ERROR` -25, `_REJECTED` -26,
/// `_ALREADY_IN_CHAIN` -27, `RPC_DESERIALIZATION_ERROR` -22, `RPC_VERIFY_ERROR`'s neighbours are others.
const JUDGING_CODES: [i64; 4] = [-22, -25, -26, -27];

fn judge_error(error: &RpcError<'_>) -> Judgement {
    // `16: bad-txns` and `bad-txns` are one reason: SV Node puts the code in front only where one was called for.
    let (code, rest) = error.message.split_once(": ").unwrap_or(("", &error.message));
    let is_code = !code.is_empty() && code.bytes().all(|b| b.is_ascii_digit());
    let why = reason(if is_code { rest } else { &error.message });
    if JUDGING_CODES.contains(&error.code) {
        Judgement::Rejected(why)
    } else {
        Judgement::Error(format!("{} {why}", error.code))
    }
}

fn unreadable(status: StatusCode, body: &[u8]) -> Judgement {
    let text = String::from_utf8_lossy(&body[..body.len().min(REASON_CHARS_MAX)]);
    Judgement::Error(format!("{} {}", status.as_u16(), reason(&text)))
}

fn read_rpc_one(status: StatusCode, body: &[u8]) -> Judgement {
    match serde_json::from_slice::<RpcAnswer<'_, serde::de::IgnoredAny>>(body) {
        Ok(RpcAnswer { error: Some(error), .. }) => judge_error(&error),
        Ok(RpcAnswer { result: Some(_), .. }) => Judgement::Accepted,
        _ => unreadable(status, body),
    }
}

fn read_rpc_array(count: usize, status: StatusCode, body: &[u8]) -> Vec<Judgement> {
    let mut judged = vec![Judgement::Error("no answer in the batch".to_owned()); count];
    type Rows<'a> = Vec<RpcAnswer<'a, serde::de::IgnoredAny>>;
    let Ok(rows) = serde_json::from_slice::<Rows<'_>>(body) else {
        return vec![unreadable(status, body); count];
    };
    for row in rows {
        let Some(place) = row.id.and_then(|id| judged.get_mut(id as usize)) else { continue };
        match row.error {
            Some(error) => *place = judge_error(&error),
            None if row.result.is_some() => *place = Judgement::Accepted,
            None => {}
        }
    }
    judged
}

/// What `sendrawtransactions` says: lists of what was *not* accepted. Source: SV Node rpc/rawtransaction.cpp.
#[derive(Deserialize, Default)]
struct Lists<'a> {
    #[serde(borrow, default)]
    known: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    evicted: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    invalid: Vec<Invalid<'a>>,
}

#[derive(Deserialize)]
struct Invalid<'a> {
    #[serde(borrow)]
    txid: Cow<'a, str>,
    #[serde(borrow, default)]
    reject_reason: Option<Cow<'a, str>>,
}

fn read_rpc_many(offer: &Offer, places: &[u32], status: StatusCode, body: &[u8]) -> Answer {
    let all = |judgement: Judgement| Answer::Each(vec![judgement; places.len()]);
    let lists = match serde_json::from_slice::<RpcAnswer<'_, Lists<'_>>>(body) {
        Ok(RpcAnswer { error: Some(error), .. }) if JUDGING_CODES.contains(&error.code) => {
            return Answer::OneByOne;
        }
        Ok(RpcAnswer { error: Some(error), .. }) => return all(judge_error(&error)),
        Ok(RpcAnswer { result: Some(lists), .. }) => lists,
        Ok(_) | Err(_) => return all(unreadable(status, body)),
    };
    let mut judged = vec![Judgement::Accepted; places.len()];
    let mut at: HashMap<String, usize> = HashMap::new();
    let needs_ids =
        !(lists.known.is_empty() && lists.evicted.is_empty() && lists.invalid.is_empty());
    let mut repeats = std::collections::HashSet::new();
    for (i, place) in places.iter().enumerate() {
        let offered = offer.get(*place as usize);
        // The same transaction twice in one call is judged once; the second is known by then.
        if !repeats.insert(offered.txid) {
            judged[i] = Judgement::Rejected("txn-already-known".to_owned());
        } else if needs_ids {
            at.insert(offered.txid.to_string(), i);
        }
    }
    let mut judge = |txid: &str, why: &str| {
        if let Some(i) = at.get(txid) {
            judged[*i] = Judgement::Rejected(reason(why));
        }
    };
    lists.known.iter().for_each(|txid| judge(txid, "txn-already-known"));
    lists.evicted.iter().for_each(|txid| judge(txid, "evicted"));
    for invalid in &lists.invalid {
        let why = invalid.reject_reason.as_deref().filter(|why| !why.is_empty());
        // SV Node names no reason when the inputs are missing.
        judge(&invalid.txid, why.unwrap_or("missing-inputs"));
    }
    Answer::Each(judged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(count: u8) -> Offer {
        Offer::presigned((0..count).map(|i| vec![i, 0xab]))
    }

    fn rejected(why: &str) -> Judgement {
        Judgement::Rejected(why.to_owned())
    }

    #[test]
    fn a_target_is_a_scheme_a_host_and_a_port() {
        let target: Target = "http://127.0.0.1:8833/".parse().unwrap();
        assert_eq!(target, Target { protocol: Protocol::Http, authority: "127.0.0.1:8833".into() });
        assert_eq!("rpc://[::1]:8545".parse::<Target>().unwrap().to_string(), "rpc://[::1]:8545");
        for bad in ["127.0.0.1:1", "ftp://h:1", "http://h", "http://h:x", "rpc://h:0"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bodies_are_what_the_interfaces_want() {
        let offer = offer(3);
        let text = |speech: Speech, places: &[u32]| {
            String::from_utf8(speech.body(&offer, places)).unwrap()
        };
        assert_eq!(Speech::HttpMany.body(&offer, &[1, 2]), [1, 0xab, 2, 0xab]);
        let one: serde_json::Value = serde_json::from_str(&text(Speech::RpcOne, &[2])).unwrap();
        assert_eq!(one["params"][0], "02ab");
        let many: serde_json::Value =
            serde_json::from_str(&text(Speech::RpcMany, &[0, 2])).unwrap();
        assert_eq!(many["params"][0][1]["hex"], "02ab");
        let array: serde_json::Value =
            serde_json::from_str(&text(Speech::RpcArray, &[0, 1])).unwrap();
        assert_eq!(array[1]["params"][0], "01ab");
        assert_eq!(array[1]["id"], 1);
    }

    #[test]
    fn overload_is_no_verdict_and_a_refusal_is_one() {
        let (offer, places) = (offer(1), [0]);
        let read = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            match Speech::HttpOne.read(&offer, &places, status, body.as_bytes()) {
                Answer::Each(mut judged) => judged.remove(0),
                Answer::OneByOne => panic!("one transaction is one by one"),
            }
        };
        assert_eq!(read(200, "OK"), Judgement::Accepted);
        assert_eq!(read(409, "txn-mempool-conflict"), rejected("409 txn-mempool-conflict"));
        assert_eq!(read(422, "missing\n"), rejected("422 missing"));
        for status in [429, 503, 404, 401, 408] {
            assert!(matches!(read(status, "no"), Judgement::Error(_)), "{status}");
        }
    }

    #[test]
    fn rows_of_a_json_answer_are_read_one_by_one_and_a_bare_refusal_of_many_is_no_verdict() {
        let (offer, places) = (offer(2), [0, 1]);
        let body = br#"[{"txid":"00","verdict":"accepted","reason":""},
            {"txid":"01","verdict":"double_spend","reason":"txn-mempool-conflict"}]"#;
        let answer = Speech::HttpMany.read(&offer, &places, StatusCode::CONFLICT, body);
        let want = vec![Judgement::Accepted, rejected("txn-mempool-conflict")];
        assert_eq!(answer, Answer::Each(want));
        let answer = Speech::HttpMany.read(&offer, &places, StatusCode::OK, b"OK");
        assert_eq!(answer, Answer::Each(vec![Judgement::Accepted; 2]));
        let answer =
            Speech::HttpMany.read(&offer, &places, StatusCode::INTERNAL_SERVER_ERROR, b"failed");
        let Answer::Each(judged) = answer else { panic!("one for each") };
        assert!(judged.iter().all(|j| matches!(j, Judgement::Error(_))), "{judged:?}");
    }

    #[test]
    fn what_sendrawtransactions_lists_was_not_accepted() {
        let offer = offer(4);
        let id = |place| offer.get(place).txid;
        let body = format!(
            r#"{{"result":{{"known":["{}"],"invalid":[{{"txid":"{}","reject_code":16,
                "reject_reason":"bad-txns"}},{{"txid":"{}","reject_reason":""}}]}},"error":null,"id":0}}"#,
            id(0),
            id(2),
            id(3)
        );
        let answer =
            Speech::RpcMany.read(&offer, &[0, 1, 2, 3, 1], StatusCode::OK, body.as_bytes());
        let want = vec![
            rejected("txn-already-known"),
            Judgement::Accepted,
            rejected("bad-txns"),
            rejected("missing-inputs"),
            rejected("txn-already-known"),
        ];
        assert_eq!(answer, Answer::Each(want));
        let refused =
            br#"{"result":null,"error":{"code":-22,"message":"TX decode failed"},"id":0}"#;
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(Speech::RpcMany.read(&offer, &[0, 1], status, refused), Answer::OneByOne);
    }

    #[test]
    fn an_array_is_read_by_id_and_what_it_leaves_out_is_an_error() {
        let offer = offer(3);
        let body = br#"[{"result":null,"error":{"code":-26,"message":"64: dust"},"id":1},
            {"result":"ff","error":null,"id":0}]"#;
        let answer = Speech::RpcArray.read(&offer, &[0, 1, 2], StatusCode::OK, body);
        let Answer::Each(judged) = answer else { panic!("one for each") };
        assert_eq!(judged[..2], [Judgement::Accepted, rejected("dust")]);
        assert!(matches!(judged[2], Judgement::Error(_)));
    }

    #[test]
    fn ids_in_reasons_do_not_make_new_reasons() {
        let a = reason("conflict with 00112233445566778899aabbccddeeff of pool");
        let b = reason("conflict with ff112233445566778899aabbccddee00 of pool");
        assert_eq!(a, b);
        assert_eq!(a, "conflict with # of pool");
        assert!(reason(&"x y".repeat(500)).chars().count() <= REASON_CHARS_MAX);
    }
}
