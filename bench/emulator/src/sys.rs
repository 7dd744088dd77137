//! The system calls that have no safe name: packet sockets in batches, offloads of a device, real-time scheduling.
//!
//! In: names and bytes. Out: results as `std::io` gives them. The only module of this crate with `unsafe`; each call hands the
//! kernel memory that is borrowed for the length of the call.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Frames that one system call moves.
pub const BATCH: usize = 64;
/// Longest frame that is carried; an Ethernet frame of the usual 1,500 bytes fits.
pub const FRAME_BYTES_MAX: usize = 2_048;
/// What a packet socket may hold, so that 50 ms without a core (how long a real-time thread may be stopped) lose nothing.
const SOCKET_BYTES: libc::c_int = 64 << 20;

// Linux include/uapi/linux/if_packet.h.
const PACKET_QDISC_BYPASS: libc::c_int = 20;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// A socket that receives and sends whole frames of one device.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    buffers: Vec<u8>,
    lengths: [usize; BATCH],
}

impl PacketSocket {
    /// Opens it on a device of the calling thread's network namespace.
    pub fn open(device: &str) -> io::Result<Self> {
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, libc::c_int::from(protocol)) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave this descriptor to us and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let index = rustix::net::netdevice::name_to_index(&fd, device)?;
        // SAFETY: all zeroes is a value of this plain struct.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        let (pointer, len) = (&raw const address, size_of::<libc::sockaddr_ll>());
        // SAFETY: the address lives across the call, and the length is its own.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), pointer.cast(), len as libc::socklen_t) };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        set_option(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        set_option(&fd, libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1)?;
        set_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BYTES)?;
        set_option(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_BYTES)?;
        Ok(Self { fd, buffers: vec![0; BATCH * FRAME_BYTES_MAX], lengths: [0; BATCH] })
    }

    /// Receives what is there, at most [`BATCH`] frames; 0 when nothing is. [`Self::frame`] gives them.
    pub fn receive(&mut self) -> io::Result<usize> {
        let mut pieces: [libc::iovec; BATCH] = std::array::from_fn(|i| {
            let buffer = &mut self.buffers[i * FRAME_BYTES_MAX..][..FRAME_BYTES_MAX];
            libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: FRAME_BYTES_MAX }
        });
        let mut messages = headers(&mut pieces);
        let fd = self.fd.as_raw_fd();
        // SAFETY: `messages` points to `pieces`, these to distinct parts of `self.buffers`; all outlive the call, and no time
        // limit is passed.
        let got = unsafe {
            libc::recvmmsg(
                fd,
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if got < 0 {
            return nothing_yet(io::Error::last_os_error());
        }
        for (length, message) in self.lengths.iter_mut().zip(&messages).take(got as usize) {
            *length = (message.msg_len as usize).min(FRAME_BYTES_MAX);
        }
        Ok(got as usize)
    }

    /// The `i`-th frame of the last [`Self::receive`].
    pub fn frame(&self, i: usize) -> &[u8] {
        &self.buffers[i * FRAME_BYTES_MAX..][..self.lengths[i]]
    }

    /// Sends the first [`BATCH`] frames; says how many the kernel took.
    pub fn send<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut pieces = [empty; BATCH];
        let mut count = 0;
        for (piece, frame) in pieces.iter_mut().zip(frames) {
            *piece =
                libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
            count += 1;
        }
        let mut messages = headers(&mut pieces);
        let fd = self.fd.as_raw_fd();
        // SAFETY: the first `count` messages point to `pieces`, these to frames borrowed until this function returns; the
        // kernel only reads them.
        let sent =
            unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT) };
        if sent < 0 { nothing_yet(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One message a piece.
fn headers(pieces: &mut [libc::iovec; BATCH]) -> [libc::mmsghdr; BATCH] {
    // SAFETY: all zeroes is a value of this plain struct: no name, no pieces, no control data.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    for (message, piece) in messages.iter_mut().zip(pieces) {
        message.msg_hdr.msg_iov = piece;
        message.msg_hdr.msg_iovlen = 1;
    }
    messages
}

fn nothing_yet(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}

fn set_option(
    fd: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let (pointer, len) = (&raw const value, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the value lives across the call, and the length is its own.
    let set = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, pointer.cast(), len) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Work that a device may do for the kernel, by the number of its `ETHTOOL_S...` command (include/uapi/linux/ethtool.h).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum Offload {
    /// Checksums of what it sends.
    TxChecksum = 0x17,
    /// Cutting large TCP sends into frames.
    Tso = 0x1f,
    /// Handing large sends down whole.
    Gso = 0x24,
    /// Gluing received frames together.
    Gro = 0x2c,
}

/// Switches an offload of a device of the calling thread's network namespace.
pub fn set_offload(device: &str, offload: Offload, on: bool) -> io::Result<()> {
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    let mut value = Value { command: offload as u32, data: u32::from(on) };
    // SAFETY: all zeroes is a value of this plain struct.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a device's name is too long"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request and the value it points to live across the call; the command reads and writes these two words.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if done >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the calling thread before all ordinary ones (`SCHED_FIFO`), if that is permitted here.
pub fn run_in_real_time(priority: u8) -> io::Result<()> {
    // SAFETY: all zeroes is a value of this plain struct.
    let mut param: libc::sched_param = unsafe { zeroed() };
    param.sched_priority = i32::from(priority);
    // SAFETY: the parameters live across the call; 0 names the calling thread.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
