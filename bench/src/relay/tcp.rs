//! Rival: the whole object over TCP, stored and forwarded at every hop.
//!
//! In: a connection that is up and has carried nothing, which is what a connection that idled between two blocks is worth (Linux
//! starts it over with ten segments). Out: the object, a length before it.

use super::node::{Desk, Place, wait_for_go};
use super::object::Object;
use consensus::hash::sha256;
use emulator::link::now_ns;
use std::io::{self, Read, Write};
use std::net::TcpStream;

/// One run.
pub fn take_part(place: &Place, cc: &str, object: &Object, desk: &mut Desk) -> io::Result<()> {
    let digest = object.digest();
    let next = if place.is_last() { None } else { Some(place.connect(cc)?) };
    if let Some(mut next) = next.as_ref().filter(|_| place.is_source()) {
        desk.armed()?;
        wait_for_go(desk)?;
        return send(&mut next, &object.bytes);
    }
    let listener = place.listen(cc)?;
    desk.armed()?;
    let mut from = Place::accept(&listener)?;
    let bytes = receive(&mut from)?;
    let intact = sha256(&bytes) == digest;
    desk.done(now_ns(), intact)?;
    match next {
        Some(mut next) => send(&mut &mut next, &bytes),
        None => Ok(()),
    }
}

/// Writes a message with its length before it.
pub fn send(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(8 + bytes.len());
    message.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    message.extend_from_slice(bytes);
    to.write_all(&message)
}

/// Longest message that is read: the largest object and some.
const MESSAGE_BYTES_MAX: u64 = 40_000_000;

/// Reads a message with its length before it.
pub fn receive(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 8];
    from.read_exact(&mut len)?;
    let len = u64::from_le_bytes(len);
    if len > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {len} bytes")));
    }
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
