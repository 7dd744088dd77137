//! Packets in and out: one trait, and the backends behind it.
//!
//! In: a [`TxBatch`] of packets for any peers. Out: an [`RxBatch`] of packets from anybody, each with its sender. The engine above
//! knows no socket, a backend knows no protocol, and [`conformance`] holds every backend to the same promises. A backend that this
//! machine forbids is replaced by `udp`, and [`Opened::notes`] says why; nothing is replaced silently.
//!
//! Back of the envelope, 1,232 bytes a packet: one system call a packet costs about 4 us here, so 250,000 packets a second is what a
//! core sends one by one. A run of equal packets to one peer handed over as one (`UDP_SEGMENT`) pays that once for up to
//! [`SEGMENTS_MAX`]; that is the one large lever a socket has, and why packets travel as runs ([`TxBatch`]).
//!
//! Raw backends and multicast fit behind the same trait: they fill the same batches, and [`PacketIo::join`] is their door.

mod batch;
pub mod clock;
pub mod conformance;
mod departures;
mod fan;
mod socket;
#[allow(unsafe_code)] // recvmmsg, sendmmsg and the options of runs are in no safe crate
mod sys;
mod udp;
#[allow(unsafe_code)] // requests point at memory that must outlive them
mod uring;
#[allow(unsafe_code)] // memory the kernel writes
mod uring_buffers;
mod wake;

pub use batch::{Run, RxBatch, SEGMENTS_MAX, Settled, TX_BYTES, TxBatch, TxRefused};
pub use fan::THREADS_MAX;
pub use udp::Udp;
pub use uring::Uring;
pub use wake::Waker;

use serde::Serialize;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Largest UDP payload of the protocol: 1,280 bytes of the least IPv6 MTU, without 40 of IPv6 and 8 of UDP.
pub const PAYLOAD_BYTES_MAX: usize = 1_232;

/// What a backend is and can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Caps {
    /// Its name: `udp`, `uring`.
    pub backend: &'static str,
    /// Whether a run of equal packets leaves as one.
    pub gso: bool,
    /// Whether the kernel hands over runs of equal packets as one.
    pub gro: bool,
    /// Whether the socket takes IPv6 (and, on a wildcard address, IPv4 too).
    pub ipv6: bool,
    /// Sockets on this port, each with a thread of its own if there are several.
    pub threads: usize,
    /// Bytes the kernel keeps for packets that nobody has read.
    pub receive_buffer_bytes: usize,
    /// Bytes the kernel keeps for packets that have not left.
    pub send_buffer_bytes: usize,
    /// Largest payload that [`TxBatch`] takes.
    pub payload_bytes_max: usize,
}

impl Caps {
    /// How it moves packets, in one word: what `relay status` shows as `mode`.
    pub const fn mode(&self) -> &'static str {
        match (self.gso, self.gro) {
            (true, true) => "gso+gro",
            (true, false) => "gso",
            (false, true) => "gro",
            (false, false) => "plain",
        }
    }
}

/// What a backend has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IoStats {
    /// Packets handed to the host.
    pub rx_packets: u64,
    /// Their payload.
    pub rx_bytes: u64,
    /// Runs of several packets among them that came as one.
    pub rx_runs: u64,
    /// Packets longer than any of the protocol, or without a sender: thrown away.
    pub rx_refused: u64,
    /// Packets the kernel dropped because nobody read them in time.
    pub rx_overflowed: u64,
    /// Packets the kernel took, or a thread of ours that hands them to it.
    pub tx_packets: u64,
    /// Their payload.
    pub tx_bytes: u64,
    /// Runs of several packets among them that left as one.
    pub tx_runs: u64,
    /// Packets the kernel refused for good (no route, forbidden): thrown away.
    pub tx_refused: u64,
    /// Times the socket was full; what did not fit stayed in the batch.
    pub tx_full: u64,
    /// Runs the kernel would not take as one; their packets went alone.
    pub tx_unrolled: u64,
}

impl IoStats {
    /// Both together.
    #[must_use]
    fn and(self, other: &Self) -> Self {
        Self {
            rx_packets: self.rx_packets + other.rx_packets,
            rx_bytes: self.rx_bytes + other.rx_bytes,
            rx_runs: self.rx_runs + other.rx_runs,
            rx_refused: self.rx_refused + other.rx_refused,
            rx_overflowed: self.rx_overflowed + other.rx_overflowed,
            tx_packets: self.tx_packets + other.tx_packets,
            tx_bytes: self.tx_bytes + other.tx_bytes,
            tx_runs: self.tx_runs + other.tx_runs,
            tx_refused: self.tx_refused + other.tx_refused,
            tx_full: self.tx_full + other.tx_full,
            tx_unrolled: self.tx_unrolled + other.tx_unrolled,
        }
    }
}

/// What this backend does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{backend} does not {what}: {why}")]
pub struct Unsupported {
    /// Who.
    pub backend: &'static str,
    /// What was asked.
    pub what: &'static str,
    /// What the system said.
    pub why: String,
}

/// A way to move packets. One thread uses it; it may be built on another.
pub trait PacketIo: Send {
    /// What it is and can; may change once, when the kernel refuses what it promised.
    fn caps(&self) -> Caps;
    /// Empties `batch` and fills it with packets that are here now; 0 when there are none. Never waits.
    fn rx_burst(&mut self, batch: &mut RxBatch) -> io::Result<usize>;
    /// Hands packets of `batch` over, oldest first; gives how many left. What the socket has no room for stays in the batch.
    fn tx_burst(&mut self, batch: &mut TxBatch) -> io::Result<usize>;
    /// Waits for nothing: makes sure that what was handed over is on its way.
    fn flush(&mut self) -> io::Result<()>;
    /// Sleeps until a packet is here, the socket has room again (if the last burst filled it), somebody calls the [`Waker`], or
    /// [`clock::now_us`] reaches `until_us`.
    fn wait(&mut self, until_us: u64) -> io::Result<()>;
    /// What ends a [`wait`](Self::wait) from another thread.
    fn waker(&self) -> Waker;
    /// Where it listens.
    fn local_addr(&self) -> io::Result<SocketAddr>;
    /// What it has done.
    fn stats(&self) -> IoStats;
    /// From now on packets to that multicast group arrive too.
    fn join(&mut self, group: IpAddr) -> Result<(), Unsupported>;
}

/// Which backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// Plain sockets with runs.
    #[default]
    Udp,
    /// The same socket through a ring of the kernel.
    Uring,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Udp, Self::Uring];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Uring => "uring",
        }
    }
}

/// How to open a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoOptions {
    /// Where.
    pub listen: SocketAddr,
    /// Sockets on that port, each with a thread of its own; with 1 the host's thread moves the packets.
    pub threads: usize,
    /// Others may listen there too; the kernel gives each peer to one of them.
    pub reuse_port: bool,
    /// Offer runs to the kernel.
    pub gso: bool,
    /// Take runs from the kernel.
    pub gro: bool,
    /// Asked for; the kernel may give less ([`Caps`] says how much).
    pub receive_buffer_bytes: usize,
    /// Asked for; the kernel may give less.
    pub send_buffer_bytes: usize,
}

/// A burst of 100 ms at 1 Gbit/s; the kernel counts its own overhead too.
const RECEIVE_BUFFER_BYTES: usize = 32 << 20;
/// The pacer is above; here are a few runs only.
const SEND_BUFFER_BYTES: usize = 4 << 20;

impl IoOptions {
    /// The usual, at that address.
    pub const fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            threads: 1,
            reuse_port: false,
            gso: true,
            gro: true,
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
            send_buffer_bytes: SEND_BUFFER_BYTES,
        }
    }
}

/// An open backend and what an operator should know about it.
pub struct Opened {
    /// It.
    pub io: Box<dyn PacketIo>,
    /// What was asked for and is not to be had, with the reason, a sentence each.
    pub notes: Vec<String>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("caps", &self.io.caps()).field("notes", &self.notes).finish()
    }
}

/// Opens `backend`, or `udp` where this machine forbids it.
pub fn open(backend: Backend, options: &IoOptions) -> io::Result<Opened> {
    if options.threads > 1 { fan::open(backend, options) } else { open_one(backend, options) }
}

/// Opens one socket.
fn open_one(backend: Backend, options: &IoOptions) -> io::Result<Opened> {
    open_by(backend, options, Uring::open)
}

fn open_by(
    backend: Backend,
    options: &IoOptions,
    uring: impl FnOnce(&IoOptions) -> io::Result<(Uring, Vec<String>)>,
) -> io::Result<Opened> {
    let mut reasons = Vec::new();
    if backend == Backend::Uring {
        match uring(options) {
            Ok((ring, notes)) => return Ok(Opened { io: Box::new(ring), notes }),
            // The address is no matter of the backend: `udp` would fail in the same way.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => reasons.push(format!(
                "io_uring is not to be had here ({error}; in a container likely its seccomp profile): using udp, which moves the \
                 same packets with a system call a burst more"
            )),
        }
    }
    let (udp, notes) = Udp::open(options)?;
    reasons.extend(notes);
    Ok(Opened { io: Box::new(udp), notes: reasons })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_io_uring_is_forbidden_udp_serves_and_the_reason_is_told() {
        let options = IoOptions::at("127.0.0.1:0".parse().expect("an address"));
        let forbidden = |_: &IoOptions| Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let opened = open_by(Backend::Uring, &options, forbidden).expect("udp");
        assert_eq!(opened.io.caps().backend, "udp");
        assert!(opened.notes[0].contains("permission denied"), "{:?}", opened.notes);
    }

    #[test]
    fn a_taken_port_is_an_error_and_no_reason_for_another_backend() {
        let mut options = IoOptions::at("127.0.0.1:0".parse().expect("an address"));
        let first = open(Backend::Udp, &options).expect("a port");
        options.listen = first.io.local_addr().expect("bound");
        for backend in Backend::ALL {
            let error = open(backend, &options).expect_err("taken");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{backend:?}");
        }
    }
}
