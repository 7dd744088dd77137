//! The system calls that no safe crate has: many datagrams at once, with the size of a run beside them.
//!
//! In: slices. Out: lengths, senders, run sizes. Addresses and control messages are written and read as bytes here, so that the only
//! `unsafe` is the calls themselves and the zeroed headers they take.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Messages of one call.
pub(super) const MESSAGES_MAX: usize = 64;
/// Source: Linux `include/uapi/linux/udp.h`.
const UDP_SEGMENT: i32 = 103;
const UDP_GRO: i32 = 104;
/// Source: Linux `include/uapi/asm-generic/socket.h`, `include/uapi/linux/sock_diag.h`.
const SO_MEMINFO: i32 = 55;
const SK_MEMINFO_DROPS: usize = 8;
const SK_MEMINFO_VARS: usize = 9;

/// `sockaddr_in6`, the larger of the two.
const NAME_BYTES: usize = 28;
const NAME_V4_BYTES: usize = 16;
/// A `cmsghdr` and up to eight bytes of data.
const CONTROL_BYTES: usize = 24;
const CONTROL_HEAD: usize = 16;

/// An address as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Name([u8; NAME_BYTES]);

/// One control message as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control([u8; CONTROL_BYTES]);

impl Name {
    const EMPTY: Self = Self([0; NAME_BYTES]);

    /// The name of `to` for a socket of IPv6 (then an IPv4 address is mapped) or of IPv4; and its length.
    pub(super) fn of(to: SocketAddr, ipv6: bool) -> (Self, usize) {
        let mut bytes = [0; NAME_BYTES];
        let to = match to {
            SocketAddr::V4(v4) if ipv6 => {
                SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
            }
            other => other,
        };
        bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
        match to {
            SocketAddr::V4(v4) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (Self(bytes), NAME_V4_BYTES)
            }
            SocketAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (Self(bytes), NAME_BYTES)
            }
        }
    }

    /// The address in the first bytes of a name; a mapped IPv4 address as what it is.
    pub(super) fn read(bytes: &[u8]) -> Option<SocketAddr> {
        let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
        if family == libc::AF_INET {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            return Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(ip), port)));
        }
        let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
        let scope = u32::from_ne_bytes(bytes.get(24..28)?.try_into().ok()?);
        let ip = Ipv6Addr::from(ip);
        (family == libc::AF_INET6).then(|| match ip.to_ipv4_mapped() {
            Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
            None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
        })
    }
}

impl Control {
    const EMPTY: Self = Self([0; CONTROL_BYTES]);

    /// `UDP_SEGMENT`: the kernel cuts the message every `segment` bytes.
    pub(super) fn segment(segment: u16) -> Self {
        let mut bytes = [0; CONTROL_BYTES];
        bytes[..8].copy_from_slice(&(CONTROL_HEAD + 2).to_ne_bytes());
        bytes[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        bytes[12..16].copy_from_slice(&UDP_SEGMENT.to_ne_bytes());
        bytes[16..18].copy_from_slice(&segment.to_ne_bytes());
        Self(bytes)
    }

    /// The size the kernel joined packets at, if it joined any.
    pub(super) fn joined(bytes: &[u8]) -> Option<usize> {
        let level = i32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
        let kind = i32::from_ne_bytes(bytes.get(12..16)?.try_into().ok()?);
        let size = i32::from_ne_bytes(bytes.get(16..20)?.try_into().ok()?);
        (level == libc::SOL_UDP && kind == UDP_GRO).then_some(size.max(0) as usize)
    }
}

/// A message header that points at what it is given; `control_len` and `name_len` are what the kernel may write, or reads.
fn header(
    name: &mut Name,
    name_len: usize,
    control: &mut Control,
    control_len: usize,
    vector: &mut libc::iovec,
) -> libc::msghdr {
    // SAFETY: `msghdr` is plain C data, for which all bits zero is a value; padding of musl included.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_name = (&raw mut name.0).cast();
    header.msg_namelen = name_len as u32;
    header.msg_iov = vector;
    header.msg_iovlen = 1;
    if control_len > 0 {
        header.msg_control = (&raw mut control.0).cast();
        header.msg_controllen = control_len as _;
    }
    header
}

/// A header that says only how much room a name and a control message get; it points nowhere.
pub(super) fn lengths_header(gro: bool) -> libc::msghdr {
    let (name_len, control_len) = receive_lengths(gro);
    // SAFETY: as in `header`.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_namelen = name_len as u32;
    header.msg_controllen = control_len as _;
    header
}

/// Bytes of a name and of a control message that a receiver must have room for.
const fn receive_lengths(gro: bool) -> (usize, usize) {
    (NAME_BYTES, if gro { CONTROL_BYTES } else { 0 })
}

/// One message to send.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// To whom.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Where the kernel cuts it.
    pub segment: Option<u16>,
}

/// A message in the kernel's words. It must not move while a header points at it.
pub(super) struct Outgoing {
    name: Name,
    name_len: usize,
    control: Control,
    control_len: usize,
    vector: libc::iovec,
}

impl Outgoing {
    /// The words of `message`, whose bytes must live as long as a header of this is used.
    pub(super) fn new(message: &Message<'_>, ipv6: bool) -> Self {
        let (name, name_len) = Name::of(message.to, ipv6);
        let control = message.segment.map_or(Control::EMPTY, Control::segment);
        let control_len = if message.segment.is_some() { CONTROL_BYTES } else { 0 };
        // The kernel only reads what a message to send points at.
        let iov_base = message.bytes.as_ptr().cast_mut().cast();
        let vector = libc::iovec { iov_base, iov_len: message.bytes.len() };
        Self { name, name_len, control, control_len, vector }
    }

    /// A header that points into this.
    pub(super) fn header(&mut self) -> libc::msghdr {
        header(&mut self.name, self.name_len, &mut self.control, self.control_len, &mut self.vector)
    }
}

/// Sends messages in order; gives how many the kernel took. An error is about the first one.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    ipv6: bool,
    messages: &[Message<'_>],
) -> io::Result<usize> {
    let count = messages.len().min(MESSAGES_MAX);
    let mut outgoing: [MaybeUninit<Outgoing>; MESSAGES_MAX] = [const { MaybeUninit::uninit() }; _];
    let mut headers: [MaybeUninit<libc::mmsghdr>; MESSAGES_MAX] =
        [const { MaybeUninit::uninit() }; _];
    for at in 0..count {
        let message = outgoing[at].write(Outgoing::new(&messages[at], ipv6));
        headers[at].write(libc::mmsghdr { msg_hdr: message.header(), msg_len: 0 });
    }
    // SAFETY: the first `count` headers were written just now; they point into `outgoing` and `messages`, which outlive the call, and
    // nothing moved them since.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as u32,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// One message that came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming {
    /// From whom; none if the kernel does not say.
    pub from: Option<SocketAddr>,
    /// Its bytes in its buffer.
    pub len: usize,
    /// The size of the packets in it; 0 for a single one.
    pub segment: usize,
    /// It was longer than its buffer.
    pub is_cut: bool,
}

impl Incoming {
    /// From what the kernel wrote.
    pub(super) fn new(name: &[u8], control: &[u8], len: usize, is_cut: bool) -> Self {
        let segment = Control::joined(control).unwrap_or(0);
        Self { from: Name::read(name), len, segment, is_cut }
    }
}

/// Receives messages, each into `each` bytes of `buffers`; gives how many, and says of each what came.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    gro: bool,
    buffers: &mut [u8],
    each: usize,
    mut take: impl FnMut(usize, Incoming),
) -> io::Result<usize> {
    let (name_len, control_len) = receive_lengths(gro);
    let count = (buffers.len() / each).min(MESSAGES_MAX);
    let mut names = [Name::EMPTY; MESSAGES_MAX];
    let mut controls = [Control::EMPTY; MESSAGES_MAX];
    let mut vectors: [MaybeUninit<libc::iovec>; MESSAGES_MAX] =
        [const { MaybeUninit::uninit() }; _];
    let mut headers: [MaybeUninit<libc::mmsghdr>; MESSAGES_MAX] =
        [const { MaybeUninit::uninit() }; _];
    for (at, buffer) in buffers.chunks_exact_mut(each).take(count).enumerate() {
        let iov_base = buffer.as_mut_ptr().cast();
        let vector = vectors[at].write(libc::iovec { iov_base, iov_len: each });
        let msg_hdr = header(&mut names[at], name_len, &mut controls[at], control_len, vector);
        headers[at].write(libc::mmsghdr { msg_hdr, msg_len: 0 });
    }
    // SAFETY: the first `count` headers were written just now; they point at `names`, `controls`, `vectors` and disjoint parts of
    // `buffers`, which this function borrows for itself and does not touch until the call returns. No timeout is given.
    let came = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as u32,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    };
    let came = usize::try_from(came).map_err(|_| io::Error::last_os_error())?;
    for at in 0..came {
        // SAFETY: `came <= count`, and the first `count` headers were written above.
        let header = unsafe { headers[at].assume_init_ref() };
        let name = &names[at].0[..(header.msg_hdr.msg_namelen as usize).min(NAME_BYTES)];
        let control = header.msg_hdr.msg_controllen.min(CONTROL_BYTES);
        let is_cut = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        let len = header.msg_len as usize;
        take(at, Incoming::new(name, &controls[at].0[..control], len, is_cut));
    }
    Ok(came)
}

fn set(socket: BorrowedFd<'_>, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads four bytes at a pointer to an `i32` that lives here.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as u32,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel knows runs: sets their size on the socket and takes it back.
pub(super) fn probe_gso(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_UDP, UDP_SEGMENT, 1_200)?;
    set(socket, libc::SOL_UDP, UDP_SEGMENT, 0)
}

/// From now on the kernel may hand over joined packets.
pub(super) fn enable_gro(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_UDP, UDP_GRO, 1)
}

/// Packets this socket has dropped since it was made.
pub(super) fn dropped(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut values = [0u32; SK_MEMINFO_VARS];
    let mut len = size_of_val(&values) as u32;
    // SAFETY: the kernel writes at most `len` bytes at the start of an array of that size, and the length into `len`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if done == 0 {
        Ok(u64::from(values[SK_MEMINFO_DROPS]))
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_into_the_kernels_words_and_back() {
        for text in ["10.1.2.3:9333", "[fd77::2]:1", "[fe80::1%7]:65535", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().expect("an address");
            for ipv6 in [true, address.is_ipv6()] {
                let (name, len) = Name::of(address, ipv6);
                assert_eq!(Name::read(&name.0[..len]), Some(address), "{text} ipv6 {ipv6}");
            }
        }
        assert_eq!(Name::read(&[]), None);
        assert_eq!(Name::read(&[0; 28]), None);
    }
}
