//! The backend `uring`: the same socket as `udp`, worked by two rings of the kernel.
//!
//! In and out: see [`PacketIo`](super::PacketIo). Receiving, one standing request (`recvmsg`, multishot) lets the kernel fill buffers as packets come;
//! they are copied out and given back, so taking packets that are here costs no system call. Sending, the messages of a burst are chained
//! requests of the second ring and one system call carries them out; a chain stops at the first that fails, so that the answers read as
//! those of `sendmmsg`.
//!
//! A burst returns only when every request of it is answered: the kernel never looks at a batch that its caller has back. The standing
//! request is cancelled, and its end awaited, before the buffers go; else they stay mapped for good.

use super::batch::{JOINED_BYTES, SINGLE_BYTES};
use super::departures::{Door, OnError, on_error};
use super::socket::{SocketIo, Way};
use super::sys::{self, Incoming, MESSAGES_MAX, Message, Outgoing};
use super::uring_buffers::{GROUP, ProvidedBuffers};
use super::{IoOptions, IoStats, RxBatch};
use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Buffers where the kernel joins packets (4 MiB), and where it does not (2 MiB).
const JOINED_COUNT: u16 = 64;
const SINGLE_COUNT: u16 = 1_024;
/// Completions of the standing request that wait to be looked at: one a buffer, and its end.
const COMPLETIONS: u32 = 2_048;
/// The standing request.
const RECEIVE: u64 = 1;
/// Its cancellation.
const CANCEL: u64 = 2;
/// How long its end may take.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);
/// What the kernel puts before the bytes in a buffer: its header, a name, a control message.
const HEAD_BYTES: usize = 128;

/// The backend; see the module.
pub type Uring = SocketIo<ByRing>;

/// Two rings, and the buffers of the one that receives.
pub struct ByRing {
    receive: IoUring,
    send: IoUring,
    buffers: ManuallyDrop<ProvidedBuffers>,
    is_armed: bool,
}

impl std::fmt::Debug for ByRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByRing").field("is_armed", &self.is_armed).finish_non_exhaustive()
    }
}

impl Uring {
    /// Opens it. Says, too, what was asked for and is not to be had; an error where this machine forbids rings.
    pub fn open(options: &IoOptions) -> io::Result<(Self, Vec<String>)> {
        // Task work is done when we enter the kernel, not by an interrupt; the flag says when there is some.
        let ring = |entries| {
            IoUring::builder()
                .setup_coop_taskrun()
                .setup_taskrun_flag()
                .setup_cqsize(COMPLETIONS)
                .build(entries)
        };
        let (receive, send) = (ring(8)?, ring(MESSAGES_MAX as u32)?);
        let (count, each) = if options.gro {
            (JOINED_COUNT, JOINED_BYTES + HEAD_BYTES)
        } else {
            (SINGLE_COUNT, SINGLE_BYTES)
        };
        let buffers = ProvidedBuffers::new(count, each)?;
        buffers.register(&receive.submitter())?;
        let way = ByRing { receive, send, buffers: ManuallyDrop::new(buffers), is_armed: false };
        Self::through("uring", options, way)
    }
}

impl ByRing {
    /// Makes sure that the standing request stands.
    fn arm(&mut self, socket: BorrowedFd<'_>, gro: bool) -> io::Result<()> {
        if self.is_armed {
            return Ok(());
        }
        let lengths = sys::lengths_header(gro);
        let request = opcode::RecvMsgMulti::new(Fd(socket.as_raw_fd()), &raw const lengths, GROUP)
            .build()
            .user_data(RECEIVE);
        // SAFETY: the kernel reads the two lengths of the header while it takes the request, which is before `submit` returns; the
        // buffers it writes into are those of `self.buffers`, which `drop` keeps until the request has ended.
        let pushed = unsafe { self.receive.submission().push(&request) };
        pushed.expect("the queue holds eight requests, and there is never more than this one");
        self.receive.submit()?;
        self.is_armed = true;
        Ok(())
    }

    /// Looks at completions until there are none, or no room for what they bring.
    fn collect(&mut self, gro: bool, batch: &mut RxBatch, stats: &mut IoStats) -> io::Result<()> {
        let lengths = sys::lengths_header(gro);
        let mut used = 0;
        while batch.has_room(used) {
            let Some(entry) = self.receive.completion().next() else { break };
            if entry.user_data() != RECEIVE {
                continue;
            }
            self.is_armed &= cqueue::more(entry.flags());
            let Ok(len) = usize::try_from(entry.result()) else {
                let error = io::Error::from_raw_os_error(-entry.result());
                match on_error(&error, false) {
                    OnError::Fail => return Err(error),
                    // Out of buffers for a moment, cancelled with the thread that asked, or about a packet that was sent.
                    OnError::Full | OnError::Refuse | OnError::Unroll => continue,
                }
            };
            let Some(buffer) = cqueue::buffer_select(entry.flags()) else { continue };
            match RecvMsgOut::parse(self.buffers.bytes(buffer, len), &lengths) {
                Ok(out) => {
                    let payload = out.payload_data();
                    batch.memory()[used..used + payload.len()].copy_from_slice(payload);
                    let incoming = Incoming::new(
                        out.name_data(),
                        out.control_data(),
                        payload.len(),
                        out.is_payload_truncated(),
                    );
                    stats.take(batch, used, &incoming);
                    used += payload.len();
                }
                Err(()) => stats.rx_refused += 1,
            }
            self.buffers.put(buffer);
        }
        self.buffers.publish();
        Ok(())
    }
}

impl Door for ByRing {
    /// One chain of requests for many messages.
    fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        ipv6: bool,
        messages: &[Message<'_>],
    ) -> io::Result<usize> {
        let count = messages.len().min(MESSAGES_MAX);
        let mut outgoing: [Option<Outgoing>; MESSAGES_MAX] = [const { None }; _];
        let mut headers: [Option<libc::msghdr>; MESSAGES_MAX] = [const { None }; _];
        for (at, message) in messages[..count].iter().enumerate() {
            let words = outgoing[at].insert(Outgoing::new(message, ipv6));
            let header: *const libc::msghdr = headers[at].insert(words.header());
            let mut request = opcode::SendMsg::new(Fd(socket.as_raw_fd()), header)
                .flags((libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32)
                .build()
                .user_data(at as u64);
            if at + 1 < count {
                request = request.flags(squeue::Flags::IO_LINK);
            }
            // SAFETY: the request points at `headers`, `outgoing` and the messages' bytes; none of them moves or goes before the loop
            // below has seen the answers to all `count` requests.
            let pushed = unsafe { self.send.submission().push(&request) };
            pushed.expect("the queue holds the messages of one call, and was empty");
        }
        let mut results = [0i32; MESSAGES_MAX];
        let mut answered = 0;
        while answered < count {
            if let Err(error) = self.send.submit_and_wait(1) {
                match error.raw_os_error() {
                    Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ENOMEM) => {}
                    // The kernel may still hold requests that point into this frame: it must not be left.
                    _ => std::process::abort(),
                }
            }
            for entry in self.send.completion() {
                results[entry.user_data() as usize] = entry.result();
                answered += 1;
            }
        }
        let taken = results[..count].iter().take_while(|result| **result >= 0).count();
        if taken == 0 { Err(io::Error::from_raw_os_error(-results[0])) } else { Ok(taken) }
    }
}

impl Way for ByRing {
    fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        gro: bool,
        batch: &mut RxBatch,
        stats: &mut IoStats,
    ) -> io::Result<()> {
        self.arm(socket, gro)?;
        if self.receive.submission().taskrun() {
            self.receive.submit()?;
        }
        self.collect(gro, batch, stats)
    }

    fn readable<'a>(
        &'a mut self,
        socket: BorrowedFd<'a>,
        gro: bool,
    ) -> io::Result<Option<BorrowedFd<'a>>> {
        self.arm(socket, gro)?;
        if !self.receive.completion().is_empty() {
            return Ok(None);
        }
        // SAFETY: the ring owns the descriptor and lives as long as the borrow of `self`.
        Ok(Some(unsafe { BorrowedFd::borrow_raw(self.receive.as_raw_fd()) }))
    }
}

impl ByRing {
    /// Ends the standing request; says whether it has ended.
    fn disarm(&mut self) -> bool {
        if !self.is_armed {
            return true;
        }
        let all = CancelBuilder::user_data(RECEIVE).all();
        let request = opcode::AsyncCancel2::new(all).build().user_data(CANCEL);
        // SAFETY: the request points at nothing.
        if unsafe { self.receive.submission().push(&request) }.is_err() {
            return false;
        }
        let patience = Timespec::from(CANCEL_PATIENCE);
        let until = std::time::Instant::now() + CANCEL_PATIENCE;
        while self.is_armed && std::time::Instant::now() < until {
            let waited = self
                .receive
                .submitter()
                .submit_with_args(1, &SubmitArgs::new().timespec(&patience));
            if waited.is_err_and(|error| error.raw_os_error() != Some(libc::EINTR)) {
                break;
            }
            for entry in self.receive.completion() {
                let is_end = entry.user_data() == RECEIVE && !cqueue::more(entry.flags());
                self.is_armed &= !is_end;
            }
        }
        !self.is_armed
    }
}

impl Drop for ByRing {
    fn drop(&mut self) {
        if self.disarm() {
            // SAFETY: the kernel writes into them for the standing request only, which has ended; nothing uses them after this.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
    }
}
