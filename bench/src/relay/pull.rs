//! Rival: a notice and HTTP requests, the pattern of Teranode, as a model with its sizes and round trips.
//!
//! In: a block, and the transactions this node knows. Out: a gossiped notice (hash and URL) over a connection of its own; then `GET`
//! for the ids of the subtree (32 bytes each), then `POST` with the missing ids for their bytes: two and a half round trips on a
//! connection that is kept open and has carried nothing lately. Objects without transactions are fetched whole by one `GET`.
//!
//! Source: Teranode fb3d000c, `services/subtreevalidation`: notice, `/subtree/HASH`, `/subtree/HASH/txs`.

use super::node::{Desk, Place, wait_for_go};
use super::object::Object;
use consensus::hash::{sha256, sha256d};
use emulator::link::now_ns;
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// Bytes of a notice: peer, topic, hash, URL and signature as gossip carries them.
const NOTICE_BYTES: usize = 300;
/// Bytes of transactions in the model's blocks.
const TX_BYTES: usize = 250;
/// Longest body that is read.
const BODY_BYTES_MAX: usize = 40_000_000;
/// Linux's own choice where nobody asks.
const CC: &str = "cubic";

/// One run.
pub fn take_part(place: &Place, object: &Object, run: u32, desk: &mut Desk) -> io::Result<()> {
    let digest = object.digest();
    let known = object.known(place.overlap_pct.unwrap_or(0), place.hop, place.seed, run);
    let ids: Vec<[u8; 32]> = (0..object.txs.len()).map(|i| sha256d(object.tx(i))).collect();
    let pool: HashMap<[u8; 32], &[u8]> =
        (0..ids.len()).filter(|i| known[*i]).map(|i| (ids[i], object.tx(i))).collect();
    // Two connections to the next node: gossip, and the one over which it asks.
    let next = match place.is_last() {
        true => None,
        false => Some((place.connect(CC)?, place.connect(CC)?)),
    };
    if let Some((gossip, asks)) = next.as_ref().filter(|_| place.is_source()) {
        desk.armed()?;
        wait_for_go(desk)?;
        return serve(gossip, asks, object, &ids);
    }
    let listener: TcpListener = place.listen(CC)?;
    desk.armed()?;
    let (gossip, answers) = (Place::accept(&listener)?, Place::accept(&listener)?);
    let bytes = fetch(&gossip, &answers, object, &pool)?;
    let intact = sha256(&bytes) == digest;
    desk.done(now_ns(), intact)?;
    drop((gossip, answers));
    match &next {
        Some((gossip, asks)) if intact => serve(gossip, asks, object, &ids),
        _ => Ok(()),
    }
}

/// Sends the notice, then answers requests until the other side hangs up.
fn serve(
    mut gossip: &TcpStream,
    asks: &TcpStream,
    object: &Object,
    ids: &[[u8; 32]],
) -> io::Result<()> {
    gossip.write_all(&[0x6e; NOTICE_BYTES])?;
    let places: HashMap<&[u8; 32], usize> = ids.iter().enumerate().map(|(i, id)| (id, i)).collect();
    let mut reader = BufReader::new(asks.try_clone()?);
    let mut asks = asks;
    while let Some((first, body)) = message(&mut reader)? {
        let answer = if first.starts_with("GET /block") {
            object.bytes.clone()
        } else if first.starts_with("GET /subtree") {
            [&object.bytes[..83], object.tx(0), ids.concat().as_slice()].concat()
        } else {
            let wanted = body.chunks_exact(32).map(|id| {
                let id: &[u8; 32] = id.try_into().expect("32 bytes");
                places.get(id).map_or(&[][..], |i| object.tx(*i))
            });
            wanted.collect::<Vec<_>>().concat()
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        asks.write_all(&[head.as_bytes(), &answer].concat())?;
    }
    Ok(())
}

/// Waits for a notice, then asks for what is not known.
fn fetch(
    mut gossip: &TcpStream,
    answers: &TcpStream,
    object: &Object,
    pool: &HashMap<[u8; 32], &[u8]>,
) -> io::Result<Vec<u8>> {
    gossip.read_exact(&mut [0; NOTICE_BYTES])?;
    let mut reader = BufReader::new(answers.try_clone()?);
    let mut ask = |request: &str, body: &[u8]| {
        let head = format!(
            "{request} HTTP/1.1\r\nHost: asset.peer.example\r\nUser-Agent: race\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        (&mut &*answers).write_all(&[head.as_bytes(), body].concat())?;
        let answer = message(&mut reader)?;
        answer.map(|(_, body)| body).ok_or_else(|| io::Error::other("hung up before the answer"))
    };
    let hash = hex::encode([0x5a; 32]);
    if object.txs.is_empty() {
        return ask(&format!("GET /block/{hash}"), &[]);
    }
    let subtree = ask(&format!("GET /subtree/{hash}"), &[])?;
    let (head, ids) = subtree.split_at((83 + TX_BYTES).min(subtree.len()));
    let ids: Vec<&[u8]> = ids.chunks_exact(32).collect();
    let found: Vec<Option<&[u8]>> = ids
        .iter()
        .enumerate()
        .map(|(i, id)| match i {
            0 => head.get(83..),
            _ => pool.get(*id).copied(),
        })
        .collect();
    let missing: Vec<&[u8]> =
        ids.iter().zip(&found).filter(|(_, tx)| tx.is_none()).map(|(id, _)| *id).collect();
    let rest = match missing.is_empty() {
        true => Vec::new(),
        false => ask(&format!("POST /subtree/{hash}/txs"), &missing.concat())?,
    };
    let mut rest = rest.chunks_exact(TX_BYTES);
    let mut block = head[..83].to_vec();
    for tx in found {
        block.extend_from_slice(tx.or_else(|| rest.next()).unwrap_or_default());
    }
    Ok(block)
}

/// One HTTP message: its first line and its body. `None` when the other side has hung up.
fn message(reader: &mut BufReader<TcpStream>) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut first = String::new();
    // A connection that ends between two messages ends the conversation.
    if !matches!(reader.read_line(&mut first), Ok(1..)) {
        return Ok(None);
    }
    let mut len = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            len = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    if len > BODY_BYTES_MAX {
        return Err(io::Error::other(format!("a body of {len} bytes")));
    }
    let mut body = vec![0; len];
    reader.read_exact(&mut body)?;
    Ok(Some((first, body)))
}
