//! The socket under the backends: bound, with buffers, and with what the kernel offers found out by asking it.
//!
//! In: [`IoOptions`]. Out: a socket, what it can, and a sentence for everything that was asked for and refused. An IPv6 wildcard also
//! takes IPv4, so one socket serves both.

use super::sys;
use super::{Caps, IoOptions, PAYLOAD_BYTES_MAX};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;

/// An open socket and what it can.
pub(super) struct Opened {
    pub(super) socket: UdpSocket,
    pub(super) caps: Caps,
    pub(super) notes: Vec<String>,
}

/// Opens it for the backend of that name.
pub(super) fn open(backend: &'static str, options: &IoOptions) -> io::Result<Opened> {
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
        receive_buffer_bytes,
        send_buffer_bytes,
        payload_bytes_max: PAYLOAD_BYTES_MAX,
    };
    Ok(Opened { socket: socket.into(), caps, notes })
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

/// Joins a multicast group on the interface the routing table names.
pub(super) fn join(socket: &UdpSocket, group: IpAddr) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    match group {
        IpAddr::V4(group) => {
            socket.join_multicast_v4(&group, &std::net::Ipv4Addr::UNSPECIFIED)?;
            socket.set_multicast_all_v4(false)
        }
        IpAddr::V6(group) => {
            socket.join_multicast_v6(&group, 0)?;
            // Else a wildcard socket receives the groups of others, too.
            socket.set_multicast_all_v6(false)
        }
    }
}
