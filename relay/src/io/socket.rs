//! The socket under the backends: bound, with buffers, and with what the kernel offers found out by asking it.
//!
//! In: [`IoOptions`] and a [`Way`], which is all that differs between backends: how bytes get from the kernel into a batch, and messages to
//! it. Out: [`SocketIo`], the [`PacketIo`] that owns socket, counters and waker, and a sentence for everything that was asked for and
//! refused. An IPv6 wildcard also takes IPv4, so one socket serves both.

use super::departures::{self, Door};
use super::sys;
use super::wake::Waker;
use super::{Caps, IoOptions, IoStats, PAYLOAD_BYTES_MAX, PacketIo, RxBatch, TxBatch, Unsupported};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

/// How a backend moves packets through a socket.
pub trait Way: Door + Send {
    /// Fills an empty `batch` with packets that are here now, and counts them.
    fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        gro: bool,
        batch: &mut RxBatch,
        stats: &mut IoStats,
    ) -> io::Result<()>;

    /// What becomes readable when a packet comes; `None` when one is here.
    fn readable<'a>(
        &'a mut self,
        socket: BorrowedFd<'a>,
        gro: bool,
    ) -> io::Result<Option<BorrowedFd<'a>>>;
}

/// A socket and the way packets take through it.
#[derive(Debug)]
pub struct SocketIo<W> {
    /// Goes first: what it has asked of the kernel ends before the socket does.
    way: W,
    socket: UdpSocket,
    caps: Caps,
    stats: IoStats,
    waker: Waker,
    /// The last burst filled the socket.
    is_full: bool,
}

impl<W: Way> SocketIo<W> {
    /// Opens the socket for the backend of that name. Says, too, what was asked for and is not to be had.
    pub(super) fn through(
        backend: &'static str,
        options: &IoOptions,
        way: W,
    ) -> io::Result<(Self, Vec<String>)> {
        let (socket, caps, notes) = bound(backend, options)?;
        let (stats, waker) = (IoStats::default(), Waker::new()?);
        Ok((Self { way, socket, caps, stats, waker, is_full: false }, notes))
    }
}

impl<W: Way> PacketIo for SocketIo<W> {
    fn caps(&self) -> Caps {
        self.caps.clone()
    }

    fn rx_burst(&mut self, batch: &mut RxBatch) -> io::Result<usize> {
        batch.clear();
        self.way.receive(self.socket.as_fd(), self.caps.gro, batch, &mut self.stats)?;
        Ok(batch.len())
    }

    fn tx_burst(&mut self, batch: &mut TxBatch) -> io::Result<usize> {
        let before = self.stats.tx_packets;
        let (socket, caps) = (self.socket.as_fd(), &self.caps);
        self.is_full =
            departures::send(batch, caps.gso, &mut self.way, socket, caps.ipv6, &mut self.stats)?;
        Ok((self.stats.tx_packets - before) as usize)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, until_us: u64) -> io::Result<()> {
        let socket = self.socket.as_fd();
        let Some(readable) = self.way.readable(socket, self.caps.gro)? else { return Ok(()) };
        self.waker.sleep(Some(readable), self.is_full.then_some(socket), until_us)
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
        // On the interface that the routing table names.
        let socket = SockRef::from(&self.socket);
        let joined = match group {
            IpAddr::V4(group) => socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(group) => socket.join_multicast_v6(&group, 0),
        };
        joined.map_err(|error| Unsupported {
            backend: self.caps.backend,
            what: "join that group",
            why: error.to_string(),
        })
    }
}

/// A bound socket, what it can, and what it cannot.
fn bound(backend: &'static str, options: &IoOptions) -> io::Result<(UdpSocket, Caps, Vec<String>)> {
    let listen = options.listen;
    let ipv6 = listen.is_ipv6();
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    let mut notes = Vec::new();
    if ipv6 && listen.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    // Else a wildcard socket receives the groups that others on this machine have joined, too.
    if ipv6 {
        socket.set_multicast_all_v6(false)?;
    }
    socket.set_multicast_all_v4(false)?;
    socket.set_nonblocking(true)?;
    let (mut gso, mut gro) = (options.gso, options.gro);
    for (wanted, what, result) in [
        (&mut gso, "UDP_SEGMENT", options.gso.then(|| sys::probe_gso(socket.as_fd()))),
        (&mut gro, "UDP_GRO", options.gro.then(|| sys::enable_gro(socket.as_fd()))),
    ] {
        if let Some(Err(error)) = result {
            *wanted = false;
            notes.push(format!("{what} is not to be had here ({error}): packets go one by one"));
        }
    }
    let (receive_buffer_bytes, send_buffer_bytes) = buffers(&socket, options)?;
    // The kernel doubles what it is asked for, for its own overhead. Source: socket(7), SO_RCVBUF.
    if receive_buffer_bytes / 2 < options.receive_buffer_bytes {
        notes.push(format!(
            "the receive buffer is {} bytes, {} were asked for; raise net.core.rmem_max, or give the process CAP_NET_ADMIN",
            receive_buffer_bytes / 2,
            options.receive_buffer_bytes
        ));
    }
    socket.bind(&listen.into())?;
    let caps = Caps {
        backend,
        gso,
        gro,
        ipv6,
        threads: 1,
        receive_buffer_bytes,
        send_buffer_bytes,
        payload_bytes_max: PAYLOAD_BYTES_MAX,
    };
    Ok((socket.into(), caps, notes))
}

/// Asks for the buffers, past the system's limit if we may; gives what there is.
fn buffers(socket: &Socket, options: &IoOptions) -> io::Result<(usize, usize)> {
    let (receive, send) = (options.receive_buffer_bytes, options.send_buffer_bytes);
    if sockopt::set_socket_recv_buffer_size_force(socket, receive).is_err() {
        socket.set_recv_buffer_size(receive)?;
    }
    socket.set_send_buffer_size(send)?;
    Ok((socket.recv_buffer_size()?, socket.send_buffer_size()?))
}

impl IoStats {
    /// Names what came in `batch`, unless it is no packet of ours.
    pub(super) fn take(&mut self, batch: &mut RxBatch, start: usize, incoming: &sys::Incoming) {
        let packet = if incoming.segment == 0 { incoming.len } else { incoming.segment };
        let packets = incoming.len.div_ceil(packet.max(1)).max(1);
        let Some(from) = incoming
            .from
            .filter(|_| !incoming.is_cut && packet.min(incoming.len) <= PAYLOAD_BYTES_MAX)
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
