//! Every packet as bytes: read totally, written once, copied never.
//!
//! In: a datagram. Out: what it claims to be ([`Packet`]), without looking at anything that only a key can vouch for. A
//! session's packet is read further only after its tag was checked ([`Frame::parse`]). Nothing here allocates, and no
//! byte is left unexplained: reserved fields are zero and lengths are exact, so a packet has one encoding.
//!
//! ```text
//!  0      1      2             4                           8                                  28           32
//!  +------+------+-------------+---------------------------+----------------------------------+------------+------ .. ----+
//!  |ver|ty| flags| key_id  u16 | link_seq             u32  | 20 bytes by type                 | tx_time_us | body   | tag |
//!  +------+------+-------------+---------------------------+----------------------------------+------------+------ .. ----+
//! ```
//!
//! Little-endian. `docs/bfr.md` draws every type.

mod frame;
mod frame_buf;
mod hello;
mod keep;

pub use frame::{Data, Frame, Groups, Nack, NackEntry, Root, Stop, Want};
pub use frame_buf::{DataFields, FrameBuf};
pub use hello::{Answer, HELLO_LEN, Hello, NOISE_1_LEN, NOISE_2_LEN};
pub use hello::{write_cookie, write_hello, write_noise_answer};
pub use keep::Keep;

/// Version of the protocol: the high half of a packet's first byte.
pub const VERSION: u8 = 1;
/// Longest datagram: what IPv6 carries everywhere (1,280) less the headers of IPv6 (40) and UDP (8).
pub const PACKET_MAX: usize = 1_232;
/// Fields before the body of a session's packet.
pub const HEADER_LEN: usize = 32;
/// Tag after the body.
pub const TAG_LEN: usize = 16;
/// Longest body.
pub const BODY_MAX: usize = PACKET_MAX - HEADER_LEN - TAG_LEN;
/// Payload of a symbol: 18 x 64 bytes, so that a full packet has 1,200.
pub const SYMBOL_LEN: usize = 1_152;

/// Type of a packet: the low half of its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Asks for a session.
    Hello = 0,
    /// Answers that: a cookie, or the other half of the handshake.
    Answer = 1,
    /// Keeps a session alive and reports what was measured.
    Keep = 2,
    /// A symbol.
    Data = 3,
    /// Asks for symbols that are missing.
    Nack = 4,
    /// Asks for no more symbols.
    Stop = 5,
    /// Ends a session.
    Close = 6,
    /// Asks for another form of an object.
    Want = 7,
    /// The signed root of a group's symbols.
    Root = 8,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte & 0x0f {
            0 => Self::Hello,
            1 => Self::Answer,
            2 => Self::Keep,
            3 => Self::Data,
            4 => Self::Nack,
            5 => Self::Stop,
            6 => Self::Close,
            7 => Self::Want,
            8 => Self::Root,
            _ => return None,
        })
    }

    pub(crate) fn byte(self) -> u8 {
        VERSION << 4 | self as u8
    }
}

/// Bits of the second byte. Each type allows its own; another bit is malformed.
pub mod flags {
    /// `Stop` and `Data`: the sender has the whole object.
    pub const HAVE_ALL: u8 = 0x01;
    /// `Data`: the payload ends with the origin's proof.
    pub const ORIGIN_PROOF: u8 = 0x02;
    /// `Data`: sent because the line was idle.
    pub const LOWPRIO: u8 = 0x08;
    /// `Data`: the last symbol of this pass.
    pub const LAST: u8 = 0x10;
    /// `Stop`: the sender will not take the object.
    pub const REFUSED: u8 = 0x20;
    /// `Hello` and `Answer`: a cookie, and not yet the handshake.
    pub const COOKIE: u8 = 0x40;
}

/// What an object is; decides its gates, its limits and its place in the queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Class {
    /// A block's header in compact form.
    Header = 0,
    /// A block's body.
    Block = 1,
    /// A subtree's transaction ids.
    Subtree = 2,
    /// Transactions.
    Bundle = 3,
    /// Bytes that mean nothing to a relay.
    Opaque = 4,
}

impl Class {
    /// The class with this number.
    pub fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Header,
            1 => Self::Block,
            2 => Self::Subtree,
            3 => Self::Bundle,
            4 => Self::Opaque,
            _ => return None,
        })
    }
}

/// How a group's symbols belong together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Code {
    /// No parity.
    None = 0,
    /// Cauchy Reed-Solomon over GF(2^8).
    Rs8 = 1,
}

impl Code {
    /// The code with this number.
    pub fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::None,
            1 => Self::Rs8,
            _ => return None,
        })
    }
}

/// Low eight bytes of an object's hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId(pub u64);

impl ObjectId {
    /// The id of the object with this hash.
    pub fn of_hash(hash: &[u8; 32]) -> Self {
        Self(u64_at(hash, 0))
    }
}

/// Which packet goes first; the smaller one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Priority {
    /// What keeps links and objects going: `Keep`, `Nack`, `Stop`.
    Control = 0,
    /// Headers of blocks.
    Header = 1,
    /// Symbols that somebody waits for.
    Useful = 2,
    /// What is sent only because the line is idle.
    Low = 3,
}

impl Priority {
    /// All, first to last.
    pub const ALL: [Self; 4] = [Self::Control, Self::Header, Self::Useful, Self::Low];
}

/// Why bytes are no packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer bytes than the type has, or more than any packet has.
    #[error("a packet of type {kind} with {got} bytes; expected {expected}")]
    Length {
        /// The first byte.
        kind: u8,
        /// Bytes there are.
        got: usize,
        /// Bytes there should be (at least, where the length varies).
        expected: usize,
    },
    /// The first byte names another version, or a type that does not exist.
    #[error("first byte {got:#04x}: version {} and type {}; expected version {VERSION} and type 0 to 8", got >> 4, got & 15)]
    Kind {
        /// The first byte.
        got: u8,
    },
    /// A field with a value that its type does not have.
    #[error("field at byte {at} has a value that is not defined")]
    Field {
        /// Offset in the packet.
        at: usize,
    },
}

/// What a datagram claims to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// Somebody asks for a session.
    Hello(Hello<'a>),
    /// Somebody answers.
    Answer(Answer<'a>),
    /// A packet of a session; nothing of it is to be believed before its tag was checked.
    Sealed(Sealed<'a>),
}

/// A packet of a session, tag unchecked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed<'a> {
    /// The session, as the receiver named it.
    pub key_id: u16,
    /// Number of the packet in its session and direction.
    pub link_seq: u32,
    /// Everything the tag vouches for.
    pub authenticated: &'a [u8],
    /// The tag.
    pub tag: &'a [u8; TAG_LEN],
}

impl<'a> Packet<'a> {
    /// Reads the outside of a datagram.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let first = *datagram.first().ok_or(WireError::Length { kind: 0, got: 0, expected: 8 })?;
        let kind = Kind::of(first)
            .filter(|_| first >> 4 == VERSION)
            .ok_or(WireError::Kind { got: first })?;
        match kind {
            Kind::Hello => Hello::parse(datagram).map(Self::Hello),
            Kind::Answer => Answer::parse(datagram).map(Self::Answer),
            _ => {
                let got = datagram.len();
                let expected = HEADER_LEN + TAG_LEN;
                if !(expected..=PACKET_MAX).contains(&got) {
                    return Err(WireError::Length { kind: first, got, expected });
                }
                let (authenticated, tag) = datagram.split_at(got - TAG_LEN);
                Ok(Self::Sealed(Sealed {
                    key_id: u16_at(datagram, 2),
                    link_seq: u32_at(datagram, 4),
                    authenticated,
                    tag: tag.try_into().expect("split at the tag's length"),
                }))
            }
        }
    }
}

/// What an authentic packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inside<'a> {
    /// For the link.
    Keep(Keep),
    /// For the link: the session is over.
    Close,
    /// For the objects.
    Frame(Frame<'a>),
}

impl<'a> Inside<'a> {
    /// Reads what the tag vouched for. `authenticated` is [`Sealed::authenticated`].
    pub fn parse(authenticated: &'a [u8]) -> Result<Self, WireError> {
        assert!(authenticated.len() >= HEADER_LEN, "{} bytes: not from parse", authenticated.len());
        let first = authenticated[0];
        let kind = Kind::of(first).ok_or(WireError::Kind { got: first })?;
        match kind {
            Kind::Hello | Kind::Answer => Err(WireError::Kind { got: first }),
            Kind::Keep => Keep::parse(authenticated).map(Self::Keep),
            Kind::Close => {
                exact(authenticated, HEADER_LEN)?;
                zero(authenticated, 1, 2)?;
                zero(authenticated, 8, 28)?;
                Ok(Self::Close)
            }
            Kind::Data | Kind::Nack | Kind::Stop | Kind::Want | Kind::Root => {
                Frame::parse(kind, authenticated).map(Self::Frame)
            }
        }
    }
}

/// The sender's clock in an authentic packet.
pub fn tx_time_us(authenticated: &[u8]) -> u32 {
    u32_at(authenticated, 28)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn exact(bytes: &[u8], expected: usize) -> Result<(), WireError> {
    if bytes.len() == expected {
        return Ok(());
    }
    Err(WireError::Length { kind: bytes[0], got: bytes.len(), expected })
}

fn zero(bytes: &[u8], from: usize, to: usize) -> Result<(), WireError> {
    match bytes[from..to].iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => Err(WireError::Field { at: from + at }),
    }
}

fn only_flags(bytes: &[u8], allowed: u8) -> Result<u8, WireError> {
    if bytes[1] & !allowed == 0 { Ok(bytes[1]) } else { Err(WireError::Field { at: 1 }) }
}

#[cfg(test)]
mod tests;
