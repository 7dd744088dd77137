//! The backend `udp`: plain sockets, many packets a system call.
//!
//! In and out: see [`PacketIo`]. Sending, a run goes to the kernel as one message that it cuts apart behind the routing decision
//! (`UDP_SEGMENT`), and many messages go in one `sendmmsg`; receiving, `recvmmsg` fills many buffers, in each of which the kernel may
//! have joined packets of one sender (`UDP_GRO`). Where the kernel knows neither, packets go one by one in the same calls.
//!
//! What the kernel refuses is of two kinds. A path that cannot take a run (a device without checksums, an MTU below the packet) gets the
//! packets of that run alone. A packet that goes nowhere (no route, a firewall) is counted and dropped: it must not hold up the others.

use super::batch::{JOINED_BYTES, SINGLE_BYTES};
use super::departures::{self, Door, OnError, on_error};
use super::sys::{self, MESSAGES_MAX, Message};
use super::wake::Waker;
use super::{Caps, IoOptions, IoStats, PacketIo, RxBatch, TxBatch, Unsupported, socket};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

/// The backend; see the module.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    caps: Caps,
    stats: IoStats,
    waker: Waker,
    /// The last burst filled the socket.
    is_full: bool,
}

/// One `sendmmsg` for many messages.
struct ByCall<'a> {
    socket: &'a UdpSocket,
    ipv6: bool,
}

impl Door for ByCall<'_> {
    fn send(&mut self, messages: &[Message<'_>]) -> io::Result<usize> {
        sys::send(self.socket.as_fd(), self.ipv6, messages)
    }
}

impl Udp {
    /// Opens it. Says, too, what was asked for and is not to be had.
    pub fn open(options: &IoOptions) -> io::Result<(Self, Vec<String>)> {
        let socket::Opened { socket, caps, notes } = socket::open("udp", options)?;
        let waker = Waker::new()?;
        Ok((Self { socket, caps, stats: IoStats::default(), waker, is_full: false }, notes))
    }
}

impl PacketIo for Udp {
    fn caps(&self) -> Caps {
        self.caps.clone()
    }

    fn rx_burst(&mut self, batch: &mut RxBatch) -> io::Result<usize> {
        batch.clear();
        let each = if self.caps.gro { JOINED_BYTES } else { SINGLE_BYTES };
        let mut came = [None; MESSAGES_MAX];
        let result = sys::receive(
            self.socket.as_fd(),
            self.caps.gro,
            batch.memory(),
            each,
            |at, incoming| came[at] = Some(incoming),
        );
        let count = match result {
            Ok(count) => count,
            Err(error) => match on_error(&error, false) {
                // Nothing here; or an ICMP error about a packet that was sent, which says nothing about what came.
                OnError::Full | OnError::Refuse | OnError::Unroll => 0,
                OnError::Fail => return Err(error),
            },
        };
        for (at, incoming) in came[..count].iter().flatten().enumerate() {
            self.stats.take(batch, at * each, incoming);
        }
        Ok(batch.len())
    }

    fn tx_burst(&mut self, batch: &mut TxBatch) -> io::Result<usize> {
        let before = self.stats.tx_packets;
        let mut door = ByCall { socket: &self.socket, ipv6: self.caps.ipv6 };
        let (gso, ipv6) = (self.caps.gso, self.caps.ipv6);
        let socket = self.socket.as_fd();
        self.is_full = departures::send(batch, gso, &mut door, socket, ipv6, &mut self.stats)?;
        Ok((self.stats.tx_packets - before) as usize)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, until_us: u64) -> io::Result<()> {
        let socket = self.socket.as_fd();
        self.waker.sleep(socket, self.is_full.then_some(socket), until_us)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn stats(&self) -> IoStats {
        let rx_overflowed = sys::dropped(self.socket.as_fd()).unwrap_or_default();
        IoStats { rx_overflowed, ..self.stats }
    }

    fn join(&mut self, group: IpAddr) -> Result<(), Unsupported> {
        socket::join(&self.socket, group).map_err(|error| Unsupported {
            backend: "udp",
            what: "join that group",
            why: error.to_string(),
        })
    }
}

impl IoStats {
    /// Names what came in `batch`, unless it is no packet of ours.
    pub(super) fn take(&mut self, batch: &mut RxBatch, start: usize, incoming: &sys::Incoming) {
        let packet = if incoming.segment == 0 { incoming.len } else { incoming.segment };
        let packets = incoming.len.div_ceil(packet.max(1)).max(1);
        let Some(from) = incoming
            .from
            .filter(|_| !incoming.is_cut && packet.min(incoming.len) <= super::PAYLOAD_BYTES_MAX)
        else {
            self.rx_refused += packets as u64;
            return;
        };
        let named = batch.name(from, start, incoming.len, incoming.segment);
        self.rx_packets += named as u64;
        self.rx_refused += (packets - named) as u64;
        self.rx_bytes += incoming.len as u64;
        self.rx_runs += u64::from(packets > 1);
    }
}
