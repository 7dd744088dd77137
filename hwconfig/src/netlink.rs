//! Generic netlink: requests to a family of the kernel, and its answers.
//!
//! In: a family's name, a command, attributes. Out: the payloads of the answers, as bytes that [`attributes`] walks. Why not the
//! crate `ethtool`: its version 0.3 sets channels and nothing else (no command for rings and coalescing, a `todo!` for features), knows
//! neither RSS tables nor the family netdev, drops the feature whose number is 0, and answers futures only. It reads channels, rings,
//! coalescing and features, so a test of the control plane (`hw_second_reader`) holds what we read against what it
//! reads. The socket calls are rustix's, so nothing here is `unsafe`.

use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{bind, connect, recv, send, socket_with};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Longest answer that is read; the kernel sends at most 32 KiB at a time.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Answers to one request, at most.
const ANSWERS_MAX: usize = 4_096;
/// The kernel answers at once or not at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = (1 << 14) - 1;
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// A request that the kernel did not carry out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// A system call failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] rustix::io::Errno),
    /// The kernel said no.
    #[error("{}", std::io::Error::from_raw_os_error(*errno))]
    Refused {
        /// Its errno.
        errno: i32,
    },
    /// An answer that is shorter than it says, or none.
    #[error("the kernel's answer is not understood: {0}")]
    Answer(&'static str),
}

/// Attributes under construction.
#[derive(Debug, Default)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("attributes of ours are short");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    pub fn nested(&mut self, kind: u16, inner: &Self) -> &mut Self {
        self.bytes(kind | NLA_F_NESTED, &inner.0)
    }
}

/// Walks attributes: (kind, value). Stops at the first that does not fit.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & NLA_TYPE_MASK;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The 32 bits at `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Text up to its terminating zero.
pub fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A socket to one family.
#[derive(Debug)]
pub struct Family {
    socket: OwnedFd,
    id: u16,
    seq: u32,
}

impl Family {
    /// Opens a socket and asks for the family's number.
    pub fn open(name: &str) -> Result<Self, NetlinkError> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(GENERIC),
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        let mut family = Self { socket, id: GENL_ID_CTRL, seq: 0 };
        let mut ask = Attributes::default();
        ask.text(CTRL_ATTR_FAMILY_NAME, name);
        let answers = family.request(CTRL_CMD_GETFAMILY, &ask)?;
        family.id = answers
            .iter()
            .flat_map(|answer| attributes(answer))
            .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
            .and_then(|(_, value)| u16_at(value, 0))
            .ok_or(NetlinkError::Answer("no family number"))?;
        Ok(family)
    }

    /// Sends a command and collects the attributes of its answers until the kernel acknowledges it.
    pub fn request(&mut self, command: u8, ask: &Attributes) -> Result<Vec<Vec<u8>>, NetlinkError> {
        self.seq += 1;
        let length = (16 + 4 + ask.0.len()) as u32;
        let mut message = Vec::with_capacity(length as usize);
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&self.id.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        message.extend_from_slice(&self.seq.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(&[command, 1, 0, 0]);
        message.extend_from_slice(&ask.0);
        send(&self.socket, &message, SendFlags::empty())?;

        let mut answers = Vec::new();
        let mut buffer = vec![0u8; ANSWER_BYTES_MAX];
        for _ in 0..ANSWERS_MAX {
            let (_, received) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = &buffer[..received];
            while !rest.is_empty() {
                let length = u32_at(rest, 0).ok_or(NetlinkError::Answer("short header"))? as usize;
                let kind = u16_at(rest, 4).ok_or(NetlinkError::Answer("short header"))?;
                let seq = u32_at(rest, 8).ok_or(NetlinkError::Answer("short header"))?;
                let body = rest.get(16..length).ok_or(NetlinkError::Answer("short message"))?;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                match kind {
                    _ if seq != self.seq => {}
                    NLMSG_ERROR => {
                        let code = u32_at(body, 0).ok_or(NetlinkError::Answer("short error"))?;
                        return match code as i32 {
                            0 => Ok(answers),
                            code => Err(NetlinkError::Refused { errno: code.saturating_neg() }),
                        };
                    }
                    NLMSG_DONE => return Ok(answers),
                    _ => answers.push(body.get(4..).unwrap_or_default().to_vec()),
                }
            }
        }
        Err(NetlinkError::Answer("no end in sight"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_read_back_as_they_were_written() {
        let mut inner = Attributes::default();
        inner.text(2, "rx-gro").bytes(3, &[]);
        let mut all = Attributes::default();
        all.number(1, 7).nested(4, &inner);
        let read: Vec<(u16, &[u8])> = attributes(&all.0).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].0, u32_at(read[0].1, 0)), (1, Some(7)));
        let bits: Vec<(u16, String)> =
            attributes(read[1].1).map(|(kind, value)| (kind, text_of(value))).collect();
        assert_eq!(bits, [(2, "rx-gro".to_owned()), (3, String::new())]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_walk_panic_or_run_forever(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(attributes(&bytes).count() <= 50);
        }
    }
}
