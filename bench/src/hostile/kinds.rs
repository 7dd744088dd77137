//! The kinds of hostility: what is sent, how the node may answer, and which counter must have grown.
//!
//! In: a port, credentials, randomness. Out: how the node took it. An attack is one try; somebody repeats it. A kind may always
//! find the door crowded or closed: other kinds are at work. What no kind may get is "fine" (2xx) or "I broke" (500).

use super::wire::{Outcome, Wire, post, send};
use crate::rng::Rng;
use base64::Engine;
use std::time::Duration;

/// Which listener is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Submit,
    Rpc,
    Ops,
}

impl Port {
    /// Its name in the metrics.
    pub fn listener(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Rpc => "rpc",
            Self::Ops => "ops",
        }
    }
}

/// One try: port, `NAME:PASSWORD`, randomness.
type Attack = fn(u16, &str, &mut Rng) -> Outcome;

/// A row of the table.
pub struct Kind {
    pub name: &'static str,
    pub port: Port,
    /// Statuses that are right for it.
    pub statuses: &'static [u16],
    /// Whether closing without an answer is right, too.
    pub may_close: bool,
    /// The end of a metric's name, and labels.
    pub counter: &'static str,
    pub attack: Attack,
}

impl Kind {
    /// Whether the node may take it like that.
    pub fn expects(&self, outcome: &Outcome) -> bool {
        match outcome {
            // Overload may hit anybody.
            Outcome::Answered(status) => {
                self.statuses.contains(status) || matches!(status, 429 | 503)
            }
            // Closed at the door when the crowd is there.
            Outcome::Closed => self.may_close || self.port == Port::Submit,
            Outcome::NotConnected => true,
            Outcome::Silent | Outcome::Odd(_) => false,
        }
    }
}

const VERDICT: &str = "validate_verdict_malformed_total";
const BODIES: &str = "http_submit_bodies_malformed_total";
const FAILED: &str = "rpc_calls_failed_total";
const UNREADABLE: &str = "rpc_unreadable_total";

#[rustfmt::skip]
pub const KINDS: &[Kind] = &[
    Kind { name: "truncated transaction",   port: Port::Submit, statuses: &[400],           may_close: false, counter: VERDICT,                            attack: truncated },
    Kind { name: "truncated among many",    port: Port::Submit, statuses: &[400],           may_close: false, counter: BODIES,                             attack: truncated_among },
    Kind { name: "trailing bytes",          port: Port::Submit, statuses: &[400],           may_close: false, counter: VERDICT,                            attack: trailing },
    Kind { name: "non-canonical count",     port: Port::Submit, statuses: &[400],           may_close: false, counter: VERDICT,                            attack: non_canonical },
    Kind { name: "huge count",              port: Port::Submit, statuses: &[400],           may_close: false, counter: VERDICT,                            attack: huge_count },
    Kind { name: "wrong extended prefix",   port: Port::Submit, statuses: &[400],           may_close: false, counter: VERDICT,                            attack: wrong_prefix },
    Kind { name: "random bytes",            port: Port::Submit, statuses: &[400],           may_close: false, counter: BODIES,                             attack: random_bytes },
    Kind { name: "empty body",              port: Port::Submit, statuses: &[400],           may_close: false, counter: "http_submit_bodies_empty_total",   attack: empty },
    Kind { name: "orphan without a parent", port: Port::Submit, statuses: &[422],           may_close: false, counter: "validate_orphaned_total",          attack: orphan },
    Kind { name: "too many transactions",   port: Port::Submit, statuses: &[413],           may_close: false, counter: "http_submit_bodies_too_many_transactions_total", attack: too_many },
    Kind { name: "oversized body",          port: Port::Submit, statuses: &[413, 431],      may_close: true,  counter: "bodies_too_large_total",           attack: oversized },
    Kind { name: "cut body",                port: Port::Submit, statuses: &[400],           may_close: true,  counter: "bodies_incomplete_total",          attack: cut },
    Kind { name: "bad chunks",              port: Port::Submit, statuses: &[400],           may_close: true,  counter: "bodies_incomplete_total",          attack: bad_chunks },
    Kind { name: "slow body",               port: Port::Submit, statuses: &[408],           may_close: true,  counter: "body_timeouts_total",              attack: slow_body },
    Kind { name: "slow head",               port: Port::Submit, statuses: &[408],           may_close: true,  counter: "head_timeouts_total",              attack: slow_head },
    Kind { name: "silent socket",           port: Port::Rpc,    statuses: &[408],           may_close: true,  counter: "head_timeouts_total",              attack: silent },
    Kind { name: "half a line",             port: Port::Rpc,    statuses: &[408],           may_close: true,  counter: "head_timeouts_total",              attack: half_line },
    Kind { name: "no HTTP at all",          port: Port::Rpc,    statuses: &[400],           may_close: true,  counter: "heads_invalid_total",              attack: garbage },
    Kind { name: "endless head",            port: Port::Rpc,    statuses: &[431],           may_close: true,  counter: "heads_too_large_total",            attack: endless_head },
    Kind { name: "wrong credentials",       port: Port::Rpc,    statuses: &[401],           may_close: false, counter: "rpc_wrong_credentials_total",      attack: wrong_credentials },
    Kind { name: "no credentials",          port: Port::Rpc,    statuses: &[401],           may_close: false, counter: "rpc_missing_credentials_total",    attack: no_credentials },
    Kind { name: "deep JSON",               port: Port::Rpc,    statuses: &[400, 500],      may_close: false, counter: UNREADABLE,                         attack: deep_json },
    Kind { name: "no JSON",                 port: Port::Rpc,    statuses: &[400, 500],      may_close: false, counter: UNREADABLE,                         attack: no_json },
    Kind { name: "wrong parameters",        port: Port::Rpc,    statuses: &[400, 404, 500], may_close: false, counter: FAILED,                             attack: wrong_parameters },
    Kind { name: "batch without end",       port: Port::Rpc,    statuses: &[400, 413, 500], may_close: false, counter: UNREADABLE,                         attack: long_batch },
    Kind { name: "unknown path",            port: Port::Ops,    statuses: &[404],           may_close: false, counter: "answers_client_error_total",       attack: unknown_path },
    Kind { name: "body where none belongs", port: Port::Ops,    statuses: &[404, 405, 413], may_close: true,  counter: "answers_client_error_total",       attack: ops_body },
];

/// A transaction that parses: one input, one output. Its parent does not exist.
fn plain(rng: &mut Rng) -> Vec<u8> {
    let mut tx = vec![1, 0, 0, 0, 1];
    (0..4).for_each(|_| tx.extend_from_slice(&rng.next().to_le_bytes()));
    tx.extend_from_slice(&[0; 4]);
    tx.push(107);
    tx.extend((0..107).map(|_| rng.next() as u8));
    tx.extend_from_slice(&[0xff; 4]);
    tx.push(1);
    tx.extend_from_slice(&5_000u64.to_le_bytes());
    tx.extend_from_slice(&[25, 0x76, 0xa9, 20]);
    tx.extend((0..20).map(|_| rng.next() as u8));
    tx.extend_from_slice(&[0x88, 0xac, 0, 0, 0, 0]);
    tx
}

fn submit(port: u16, path: &str, body: &[u8]) -> Outcome {
    send(port, &post(path, "Content-Type: application/octet-stream\r\n", body))
}

fn truncated(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let tx = plain(rng);
    let keep = 1 + rng.below(tx.len() as u64 - 1) as usize;
    submit(port, "/tx", &tx[..keep])
}

fn truncated_among(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let mut txs: Vec<u8> = (0..=rng.below(30)).flat_map(|_| plain(rng)).collect();
    txs.truncate(txs.len() - 1 - rng.below(100) as usize);
    submit(port, "/txs", &txs)
}

fn trailing(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let mut tx = plain(rng);
    let more = 1 + rng.below(40);
    tx.extend((0..more).map(|_| rng.next() as u8));
    submit(port, "/tx", &tx)
}

fn non_canonical(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let mut tx = plain(rng);
    // The count of inputs, 1, in three, five or nine bytes.
    let (mark, zeros) = *rng.pick(&[(0xfd, 1), (0xfe, 3), (0xff, 7)]);
    let long: Vec<u8> = [mark, 1].into_iter().chain(std::iter::repeat_n(0, zeros)).collect();
    tx.splice(4..5, long);
    submit(port, "/tx", &tx)
}

fn huge_count(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let mut tx = plain(rng);
    let count = *rng.pick(&[u64::MAX, 1 << 62, 1 << 40, u64::from(u32::MAX), 1 << 28]);
    let at = if rng.one_in(2) { 4 } else { 4 + 1 + 36 };
    let mut long = vec![0xff];
    long.extend_from_slice(&count.to_le_bytes());
    tx.splice(at..=at, long);
    submit(port, "/tx", &tx)
}

fn wrong_prefix(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let mut tx = plain(rng);
    // The marker of the extended format, with one byte that is wrong, or right with nothing of it after.
    let mut marker = [0, 0, 0, 0, 0, 0xef];
    marker[rng.below(6) as usize] ^= 1 + rng.below(255) as u8;
    if rng.one_in(3) {
        marker = [0, 0, 0, 0, 0, 0xef];
    }
    tx.splice(4..4, marker);
    submit(port, "/tx", &tx)
}

fn random_bytes(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let len = 1 + rng.below(3_000);
    let body: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
    submit(port, "/txs", &body)
}

fn empty(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    submit(port, if rng.one_in(2) { "/tx" } else { "/txs" }, &[])
}

fn orphan(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    submit(port, "/tx", &plain(rng))
}

fn too_many(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let body: Vec<u8> = (0..1_025 + rng.below(500)).flat_map(|_| plain(rng)).collect();
    submit(port, "/txs", &body)
}

fn oversized(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    // Announced, or without an announcement simply too long.
    if rng.one_in(2) {
        let length = *rng.pick(&[33 << 20, 1 << 40, u64::MAX]);
        let head = format!("POST /tx HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        let outcome = send(port, head.as_bytes());
        // A length that no counter holds is a head that is too large (431), or one that cannot be read.
        if outcome == Outcome::Answered(400) { Outcome::Closed } else { outcome }
    } else {
        let Some(mut wire) = Wire::open(port) else { return Outcome::NotConnected };
        let head = b"POST /tx HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut piece = b"100000\r\n".to_vec();
        piece.extend(std::iter::repeat_n(0xab, 1 << 20));
        piece.extend_from_slice(b"\r\n");
        let mut is_open = wire.write(head);
        for _ in 0..40 {
            is_open = is_open && wire.write(&piece);
        }
        wire.status()
    }
}

fn cut(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let Some(mut wire) = Wire::open(port) else { return Outcome::NotConnected };
    let tx = plain(rng);
    let length = tx.len() + 1 + rng.below(1_000) as usize;
    let head = format!("POST /tx HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    wire.write(head.as_bytes());
    wire.write(&tx);
    wire.end();
    wire.status()
}

fn bad_chunks(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let Some(mut wire) = Wire::open(port) else { return Outcome::NotConnected };
    wire.write(b"POST /txs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let bad: &[&[u8]] =
        &[b"zz\r\nab\r\n", b"5\r\nabcdeXX5\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n\r\n"];
    let piece: &&[u8] = rng.pick(bad);
    wire.write(piece);
    wire.end();
    wire.status()
}

fn slow_body(port: u16, _: &str, _: &mut Rng) -> Outcome {
    let Some(mut wire) = Wire::open(port) else { return Outcome::NotConnected };
    wire.write(b"POST /tx HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    drip(&mut wire, b"\0");
    wire.status()
}

fn slow_head(port: u16, _: &str, _: &mut Rng) -> Outcome {
    let Some(mut wire) = Wire::open(port) else { return Outcome::NotConnected };
    wire.write(b"POST /tx HTTP/1.1\r\nHost: x\r\n");
    drip(&mut wire, b"x: y\r\n");
    wire.status()
}

/// A piece each half second, for longer than the node's deadline.
fn drip(wire: &mut Wire, piece: &[u8]) {
    for _ in 0..30 {
        if !wire.write(piece) {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn silent(port: u16, _: &str, _: &mut Rng) -> Outcome {
    let Some(mut wire) = Wire::open(port) else { return Outcome::NotConnected };
    wire.status()
}

fn half_line(port: u16, _: &str, _: &mut Rng) -> Outcome {
    send(port, b"PO")
}

fn garbage(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    let noise: Vec<u8> = (0..200).map(|_| rng.next() as u8).chain(*b"\r\n\r\n").collect();
    let other = b"HELO node\r\n\r\n".to_vec();
    let bodies = [tls, noise, other];
    let body: &Vec<u8> = rng.pick(&bodies);
    send(port, body)
}

fn endless_head(port: u16, _: &str, _: &mut Rng) -> Outcome {
    let mut head = b"POST / HTTP/1.1\r\nHost: x\r\n".to_vec();
    (0..4_000)
        .for_each(|i| head.extend_from_slice(format!("x-{i}: {}\r\n", "y".repeat(250)).as_bytes()));
    head.extend_from_slice(b"\r\n");
    send(port, &head)
}

fn rpc(port: u16, credentials: Option<&str>, body: &[u8]) -> Outcome {
    let basic = |text| base64::engine::general_purpose::STANDARD.encode(text);
    let header = credentials.map(|text| format!("Authorization: Basic {}\r\n", basic(text)));
    send(port, &post("/", &header.unwrap_or_default(), body))
}

const STOP: &[u8] = br#"{"id":1,"method":"stop","params":[]}"#;

fn wrong_credentials(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let wrong = format!("__cookie__:{:016x}", rng.next());
    rpc(port, Some(*rng.pick(&[wrong.as_str(), "", ":", "root", "a:b:c"])), STOP)
}

fn no_credentials(port: u16, _: &str, _: &mut Rng) -> Outcome {
    rpc(port, None, STOP)
}

fn deep_json(port: u16, credentials: &str, rng: &mut Rng) -> Outcome {
    let depth = 1_000 + rng.below(200_000) as usize;
    let mut body = br#"{"id":1,"method":"getblockcount","params":"#.to_vec();
    let piece: &[u8] = if rng.one_in(2) { b"[" } else { br#"{"a":"# };
    (0..depth).for_each(|_| body.extend_from_slice(piece));
    rpc(port, Some(credentials), &body)
}

fn no_json(port: u16, credentials: &str, rng: &mut Rng) -> Outcome {
    let bodies: [&[u8]; 6] =
        [b"", b"{", b"\xff\xfe\x00", b"{\"method\":}", b"null", b"{\"id\":1,\"method\":7}"];
    let body: &&[u8] = rng.pick(&bodies);
    rpc(port, Some(credentials), body)
}

fn wrong_parameters(port: u16, credentials: &str, rng: &mut Rng) -> Outcome {
    let bodies: [&[u8]; 8] = [
        br#"{"id":1,"method":"nosuchmethod","params":[]}"#,
        br#"{"id":1,"method":"getblockhash","params":["x"]}"#,
        br#"{"id":1,"method":"getblockhash","params":[-1]}"#,
        br#"{"id":1,"method":"getblockhash","params":[1e300]}"#,
        br#"{"id":1,"method":"sendrawtransaction","params":["zz"]}"#,
        br#"{"id":1,"method":"sendrawtransactions","params":[[{"hex":"00"}]]}"#,
        br#"{"id":1,"method":"getblock","params":["00",9,9,9]}"#,
        br#"{"id":1,"method":"submitblock","params":["00"]}"#,
    ];
    let body: &&[u8] = rng.pick(&bodies);
    rpc(port, Some(credentials), body)
}

fn long_batch(port: u16, credentials: &str, rng: &mut Rng) -> Outcome {
    let call = r#"{"id":1,"method":"getblockcount"},"#;
    let mut body = format!("[{}", call.repeat(1_100 + rng.below(5_000) as usize)).into_bytes();
    body.pop();
    body.push(b']');
    rpc(port, Some(credentials), &body)
}

fn unknown_path(port: u16, _: &str, rng: &mut Rng) -> Outcome {
    let path: &&str = rng.pick(&["/../../etc/passwd", "/metrics/x", "/%00", "//"]);
    super::wire::get(port, path)
}

fn ops_body(port: u16, _: &str, _: &mut Rng) -> Outcome {
    send(port, &post("/metrics", "", &vec![0x61; 100_000]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_of_their_own_and_none_may_be_told_that_all_is_well() {
        for (at, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..at].iter().all(|other| other.name != kind.name), "{}", kind.name);
            assert!(!kind.expects(&Outcome::Answered(200)), "{}", kind.name);
            assert!(!kind.expects(&Outcome::Silent), "{}", kind.name);
        }
    }

    #[test]
    fn the_plain_transaction_is_one_until_it_is_spoiled() {
        let mut rng = Rng::new(1);
        let mut layout = ::consensus::tx::TxLayout::new();
        assert!(::consensus::tx::parse(&plain(&mut rng), &mut layout).is_ok());
    }
}
