//! Rival: compact blocks in high-bandwidth mode, a model with BIP152's sizes and round trips.
//!
//! In: a block, and the transactions this node knows. Out: `cmpctblock` (header, nonce, six bytes a transaction, the coinbase),
//! sent unasked; where transactions are missing `getblocktxn` and `blocktxn`, a round trip more. A node passes the block on once it
//! has all of it, as Bitcoin Core does. Message headers are the 24 bytes of the wire. Objects without transactions travel whole.
//!
//! Source: BIP152. Short ids here are SipHash of the txid under the block's own keys, cut to six bytes, as there.

use super::node::{Desk, Place, wait_for_go};
use super::object::Object;
use super::tcp;
use consensus::hash::{sha256, sha256d};
use emulator::link::now_ns;
use siphasher::sip::SipHasher24;
use std::collections::HashMap;
use std::hash::Hasher;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Magic, command, length, checksum.
const MESSAGE_HEADER_BYTES: usize = 24;
/// Header, count and nonce of a `cmpctblock`.
const COMPACT_HEAD_BYTES: usize = 80 + 3 + 8;

/// One run.
pub fn take_part(
    place: &Place,
    cc: &str,
    object: &Object,
    run: u32,
    desk: &mut Desk,
) -> io::Result<()> {
    if object.txs.is_empty() {
        return tcp::take_part(place, cc, object, desk);
    }
    let digest = object.digest();
    let overlap = place.overlap_pct.unwrap_or(0);
    let known = object.known(overlap, place.hop, place.seed, run);
    let keys = keys(&object.bytes[..80]);
    let mut pool = HashMap::new();
    for i in (0..object.txs.len()).filter(|i| known[*i]) {
        pool.insert(short_id(keys, &sha256d(object.tx(i))), object.tx(i));
    }
    let next = if place.is_last() { None } else { Some(place.connect(cc)?) };
    if let Some(next) = next.as_ref().filter(|_| place.is_source()) {
        desk.armed()?;
        let message = compact(object, keys);
        wait_for_go(desk)?;
        return serve(next, &message, object);
    }
    let listener = place.listen(cc)?;
    desk.armed()?;
    let from = Place::accept(&listener)?;
    let (message, bytes) = fetch(&from, object.txs.len(), &pool)?;
    let intact = sha256(&bytes) == digest;
    desk.done(now_ns(), intact)?;
    match &next {
        // It has all of it now, so it can serve what is asked; the layout is the object's own.
        Some(next) if intact => serve(next, &message, object),
        _ => Ok(()),
    }
}

fn keys(header: &[u8]) -> (u64, u64) {
    let digest = sha256(header);
    let word = |at: usize| u64::from_le_bytes(digest[at..at + 8].try_into().expect("8 bytes"));
    (word(0), word(8))
}

fn short_id(keys: (u64, u64), txid: &[u8; 32]) -> u64 {
    let mut hasher = SipHasher24::new_with_keys(keys.0, keys.1);
    hasher.write(txid);
    hasher.finish() & 0xffff_ffff_ffff
}

/// A whole `cmpctblock`.
fn compact(object: &Object, keys: (u64, u64)) -> Vec<u8> {
    let mut message = vec![0; MESSAGE_HEADER_BYTES];
    message.extend_from_slice(&object.bytes[..83]);
    message.extend_from_slice(&[0; 8]);
    for i in 1..object.txs.len() {
        let id = short_id(keys, &sha256d(object.tx(i)));
        message.extend_from_slice(&id.to_le_bytes()[..6]);
    }
    message.extend_from_slice(object.tx(0));
    message
}

/// Sends the compact block, then answers at most one request.
fn serve(mut to: &TcpStream, message: &[u8], object: &Object) -> io::Result<()> {
    tcp::send(&mut to, message)?;
    let mut to_owned = to.try_clone()?;
    // A receiver that misses nothing hangs up.
    let Ok(request) = tcp::receive(&mut to_owned) else { return Ok(()) };
    let mut answer = vec![0; MESSAGE_HEADER_BYTES + 32];
    for index in request[MESSAGE_HEADER_BYTES + 32..].chunks_exact(2) {
        let index = usize::from(u16::from_le_bytes([index[0], index[1]]));
        if index >= object.txs.len() {
            return Err(io::Error::other(format!("asked for transaction {index}")));
        }
        answer.extend_from_slice(object.tx(index));
    }
    tcp::send(&mut to, &answer)?;
    let _ = to_owned.read(&mut [0]);
    Ok(())
}

/// Receives a compact block and what it needs to fill it; gives the message and the block.
fn fetch(
    from: &TcpStream,
    count: usize,
    pool: &HashMap<u64, &[u8]>,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut stream = from.try_clone()?;
    let message = tcp::receive(&mut stream)?;
    let ids_at = MESSAGE_HEADER_BYTES + COMPACT_HEAD_BYTES;
    let coinbase_at = ids_at + 6 * (count - 1);
    if message.len() < coinbase_at {
        return Err(io::Error::other("a compact block that is too short"));
    }
    let found: Vec<Option<&[u8]>> = message[ids_at..coinbase_at]
        .chunks_exact(6)
        .map(|id| {
            let mut word = [0; 8];
            word[..6].copy_from_slice(id);
            pool.get(&u64::from_le_bytes(word)).copied()
        })
        .collect();
    let mut request = vec![0; MESSAGE_HEADER_BYTES + 32];
    for (i, _) in found.iter().enumerate().filter(|(_, tx)| tx.is_none()) {
        request.extend_from_slice(&(i as u16 + 1).to_le_bytes());
    }
    let mut rest = Vec::new();
    if request.len() > MESSAGE_HEADER_BYTES + 32 {
        tcp::send(&mut &*from, &request)?;
        rest = tcp::receive(&mut stream)?;
    }
    let mut missing = rest.get(MESSAGE_HEADER_BYTES + 32..).unwrap_or_default().chunks_exact(250);
    let mut block = message[MESSAGE_HEADER_BYTES..MESSAGE_HEADER_BYTES + 83].to_vec();
    block.extend_from_slice(&message[coinbase_at..]);
    for tx in found {
        block.extend_from_slice(tx.or_else(|| missing.next()).unwrap_or_default());
    }
    (&mut &*from).flush()?;
    Ok((message, block))
}
