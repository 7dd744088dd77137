//! Rival: numbered datagrams without parity; what is missing is asked for by a sweep.
//!
//! In: an object as fragments of 1,348 bytes behind 104 bytes of header (BRC-130), sent once at the link's pace. Out: the object. A
//! receiver looks for gaps every 100 ms, asks for each missing fragment, and asks again after 300 ms, then 600, ... (BRC-126). Relays
//! pass fragments on as they come, as routers of a multicast fabric do, and answer from what they have.

use super::cell::RATE_MBIT;
use super::node::{Desk, Order, Place};
use super::object::Object;
use consensus::hash::sha256;
use emulator::link::now_ns;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const FRAGMENT_BYTES: usize = 1_348;
const HEADER_BYTES: usize = 104;
/// Between two looks for gaps.
const SWEEP_NS: u64 = 100_000_000;
/// How long an answer is waited for at first.
const NACK_WAIT_NS: u64 = 300_000_000;
/// Fragments that one request names.
const NAMES_MAX: usize = 300;
/// The pace leaves this share of the link for headers and answers.
const PACE: f64 = 0.95;
/// Ethernet, IPv4, UDP, preamble and gap.
const AROUND_BYTES: usize = 14 + 20 + 8 + 24;
/// How long a node sleeps when nothing is due.
const IDLE: Duration = Duration::from_micros(200);

/// What a node has of the object.
struct Fragments {
    len: usize,
    bytes: Vec<u8>,
    have: Vec<bool>,
    missing: usize,
    /// When each may be asked for again, and how long that wait was.
    asked: Vec<(u64, u64)>,
}

impl Fragments {
    fn new(len: usize) -> Self {
        let count = len.div_ceil(FRAGMENT_BYTES);
        Self {
            len,
            bytes: vec![0; count * FRAGMENT_BYTES],
            have: vec![false; count],
            missing: count,
            asked: vec![(0, NACK_WAIT_NS / 2); count],
        }
    }

    fn datagram(&self, i: usize) -> Vec<u8> {
        let mut datagram = vec![0; HEADER_BYTES];
        datagram[..4].copy_from_slice(&(i as u32).to_le_bytes());
        datagram[4..12].copy_from_slice(&(self.len as u64).to_le_bytes());
        datagram.extend_from_slice(&self.bytes[i * FRAGMENT_BYTES..][..FRAGMENT_BYTES]);
        datagram
    }
}

/// One run; ends when the controller says so.
pub fn take_part(place: &Place, object: &Object, desk: &mut Desk) -> io::Result<()> {
    let digest = object.digest();
    let up = if place.is_source() { None } else { Some(socket(place.listens_at())?) };
    let down = if place.is_last() { None } else { Some(down_socket(place)?) };
    desk.armed()?;
    let (mut held, mut from) = (None, None);
    let mut queue: VecDeque<usize> = VecDeque::new();
    let mut free_ns = 0;
    let mut sweep_ns = now_ns() + SWEEP_NS;
    let mut buffer = [0; 2_048];
    loop {
        match desk.look() {
            Ok(Some(Order::Go(_))) => {
                desk.t0()?;
                let mut all = Fragments::new(object.bytes.len());
                all.bytes[..object.bytes.len()].copy_from_slice(&object.bytes);
                all.have.fill(true);
                all.missing = 0;
                queue.extend(0..all.have.len());
                held = Some(all);
            }
            Ok(Some(Order::End)) => return desk.account(),
            Ok(_) => {}
            Err(()) => return Ok(()),
        }
        let mut busy = false;
        while let Some((len, sender)) = arrived(up.as_ref(), &mut buffer)? {
            busy = true;
            if len != HEADER_BYTES + FRAGMENT_BYTES {
                continue;
            }
            from = Some(sender);
            let i = u32::from_le_bytes(buffer[..4].try_into().expect("4 bytes")) as usize;
            let held: &mut Fragments =
                held.get_or_insert_with(|| Fragments::new(object.bytes.len()));
            if i < held.have.len() && !held.have[i] {
                held.have[i] = true;
                held.missing -= 1;
                held.bytes[i * FRAGMENT_BYTES..][..FRAGMENT_BYTES]
                    .copy_from_slice(&buffer[HEADER_BYTES..len]);
                if down.is_some() {
                    queue.push_back(i);
                }
                if held.missing == 0 {
                    let intact = sha256(&held.bytes[..held.len]) == digest;
                    desk.done(now_ns(), intact)?;
                }
            }
        }
        while let Some((len, _)) = arrived(down.as_ref(), &mut buffer)? {
            busy = true;
            let Some(held) = &held else { continue };
            for name in buffer[..len].chunks_exact(4) {
                let i = u32::from_le_bytes(name.try_into().expect("4 bytes")) as usize;
                if held.have.get(i) == Some(&true) {
                    queue.push_back(i);
                }
            }
        }
        let now_ns = now_ns();
        if let (Some(held), Some(up), Some(from)) = (&mut held, &up, from)
            && now_ns >= sweep_ns
        {
            sweep_ns = now_ns + SWEEP_NS;
            ask(held, up, from, now_ns)?;
        }
        if let (Some(held), Some(down)) = (&held, &down) {
            busy |= pump(held, down, &mut queue, &mut free_ns)?;
        }
        if !busy {
            std::thread::sleep(IDLE);
        }
    }
}

fn socket(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
    // As large as the system allows: a burst must not be lost in front of a node.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20)?;
    Ok(socket)
}

fn down_socket(place: &Place) -> io::Result<UdpSocket> {
    let down = socket(SocketAddr::from((place.near_end(), 0)))?;
    down.connect(place.next_listens_at())?;
    Ok(down)
}

fn arrived(
    socket: Option<&UdpSocket>,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, SocketAddr)>> {
    let Some(socket) = socket else { return Ok(None) };
    match socket.recv_from(buffer) {
        Ok(got) => Ok(Some(got)),
        // Refused: the next node is not there any more, or not yet.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Asks for everything missing whose time has come.
fn ask(held: &mut Fragments, up: &UdpSocket, from: SocketAddr, now_ns: u64) -> io::Result<()> {
    let mut names = Vec::new();
    for i in (0..held.have.len()).filter(|i| !held.have[*i]) {
        let (again_ns, wait_ns) = &mut held.asked[i];
        if now_ns >= *again_ns {
            *wait_ns *= 2;
            *again_ns = now_ns + *wait_ns;
            names.push((i as u32).to_le_bytes());
        }
    }
    for names in names.chunks(NAMES_MAX) {
        up.send_to(&names.concat(), from)?;
    }
    Ok(())
}

/// Sends what the pace allows; says whether more waits.
fn pump(
    held: &Fragments,
    down: &UdpSocket,
    queue: &mut VecDeque<usize>,
    free_ns: &mut u64,
) -> io::Result<bool> {
    let bits = (FRAGMENT_BYTES + HEADER_BYTES + AROUND_BYTES) as f64 * 8.0;
    let each_ns = (bits * 1e3 / (f64::from(RATE_MBIT) * PACE)) as u64;
    let now_ns = now_ns();
    *free_ns = (*free_ns).max(now_ns.saturating_sub(500_000));
    while *free_ns <= now_ns {
        let Some(i) = queue.pop_front() else { break };
        match down.send(&held.datagram(i)) {
            Ok(_) => *free_ns += each_ns,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                queue.push_front(i);
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
    }
    Ok(!queue.is_empty())
}
