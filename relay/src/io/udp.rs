//! The backend `udp`: plain sockets, many packets a system call.
//!
//! In and out: see [`PacketIo`](super::PacketIo). Sending, a run goes to the kernel as one message that it cuts apart behind the routing
//! decision (`UDP_SEGMENT`), and many messages go in one `sendmmsg`; receiving, `recvmmsg` fills many buffers, in each of which the kernel
//! may have joined packets of one sender (`UDP_GRO`). Where the kernel knows neither, packets go one by one in the same calls.
//!
//! What the kernel refuses is of two kinds. A path that cannot take a run (a device without checksums, an MTU below the packet) gets the
//! packets of that run alone. A packet that goes nowhere (no route, a firewall) is counted and dropped: it must not hold up the others.

use super::batch::{JOINED_BYTES, SINGLE_BYTES};
use super::departures::{Door, OnError, on_error};
use super::socket::{SocketIo, Way};
use super::sys::{self, MESSAGES_MAX, Message};
use super::{IoOptions, IoStats, RxBatch};
use std::io;
use std::os::fd::BorrowedFd;

/// The backend; see the module.
pub type Udp = SocketIo<ByCall>;

/// One system call for many messages.
#[derive(Debug)]
pub struct ByCall;

impl Udp {
    /// Opens it. Says, too, what was asked for and is not to be had.
    pub fn open(options: &IoOptions) -> io::Result<(Self, Vec<String>)> {
        Self::through("udp", options, ByCall)
    }
}

impl Door for ByCall {
    fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        ipv6: bool,
        messages: &[Message<'_>],
    ) -> io::Result<usize> {
        sys::send(socket, ipv6, messages)
    }
}

impl Way for ByCall {
    fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        gro: bool,
        batch: &mut RxBatch,
        stats: &mut IoStats,
    ) -> io::Result<()> {
        let each = if gro { JOINED_BYTES } else { SINGLE_BYTES };
        let mut came = [None; MESSAGES_MAX];
        let result = sys::receive(socket, gro, batch.memory(), each, |at, incoming| {
            came[at] = Some(incoming);
        });
        let count = match result {
            Ok(count) => count,
            Err(error) => match on_error(&error, false) {
                // Nothing here; or an ICMP error about a packet that was sent, which says nothing about what came.
                OnError::Full | OnError::Refuse | OnError::Unroll => 0,
                OnError::Fail => return Err(error),
            },
        };
        for (at, incoming) in came[..count].iter().flatten().enumerate() {
            stats.take(batch, at * each, incoming);
        }
        Ok(())
    }

    fn readable<'a>(
        &'a mut self,
        socket: BorrowedFd<'a>,
        _gro: bool,
    ) -> io::Result<Option<BorrowedFd<'a>>> {
        Ok(Some(socket))
    }
}
