//! The packets before there is a session: `HELLO` and its two answers.
//!
//! ```text
//!  HELLO, 136 bytes                                            answer COOKIE, 24 bytes          answer NOISE, 72 bytes
//!  0  ver|0   1 flags (COOKIE: asks for one)                   0  ver|1  1 COOKIE  2 zero       0  ver|1  1 0  2 zero
//!  2  zero    4 u32 hello_id                                   4  u32 hello_id                  4  u32 hello_id
//!  8  cookie 16                                                8  cookie 16                     8  Noise message 2, 64
//!  24 Noise message 1, 112 (zeros while asking for a cookie)
//! ```
//!
//! An answer is never longer than what asked for it, so nobody can use a relay to multiply traffic.

use super::{Kind, WireError, exact, flags, only_flags, u32_at, zero};

/// Bytes of Noise message 1: ephemeral key 32, sealed static key 48, sealed greeting 16 + 16.
pub const NOISE_1_LEN: usize = 112;
/// Bytes of Noise message 2: ephemeral key 32, sealed greeting 16 + 16.
pub const NOISE_2_LEN: usize = 64;
/// Bytes of a cookie.
pub const COOKIE_LEN: usize = 16;
/// Bytes of a `HELLO`.
pub const HELLO_LEN: usize = 24 + NOISE_1_LEN;
pub const COOKIE_ANSWER_LEN: usize = 8 + COOKIE_LEN;
pub const NOISE_ANSWER_LEN: usize = 8 + NOISE_2_LEN;

const _: () = assert!(COOKIE_ANSWER_LEN <= HELLO_LEN && NOISE_ANSWER_LEN <= HELLO_LEN);

/// A call for a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hello<'a> {
    /// Drawn by the caller; answers repeat it.
    pub id: u32,
    /// The cookie and the first message; `None` when it asks for a cookie.
    pub proof: Option<(&'a [u8; COOKIE_LEN], &'a [u8; NOISE_1_LEN])>,
}

impl<'a> Hello<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        exact(datagram, HELLO_LEN)?;
        zero(datagram, 2, 4)?;
        let asks = only_flags(datagram, flags::COOKIE)? != 0;
        let id = u32_at(datagram, 4);
        if asks {
            zero(datagram, 8, HELLO_LEN)?;
            return Ok(Self { id, proof: None });
        }
        let (cookie, noise) = datagram[8..].split_at(COOKIE_LEN);
        let cookie = cookie.try_into().expect("split at the cookie's length");
        let noise = noise.try_into().expect("the length was checked");
        Ok(Self { id, proof: Some((cookie, noise)) })
    }
}

/// An answer to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// Call again with this cookie.
    Cookie {
        /// Of the call.
        id: u32,
        /// To be sent back.
        cookie: &'a [u8; COOKIE_LEN],
    },
    /// The other half of the handshake.
    Noise {
        /// Of the call.
        id: u32,
        /// Noise message 2.
        message: &'a [u8; NOISE_2_LEN],
    },
}

impl<'a> Answer<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        if datagram.len() < 8 {
            return exact(datagram, COOKIE_ANSWER_LEN).map(|()| unreachable!("shorter than 8"));
        }
        zero(datagram, 2, 4)?;
        let id = u32_at(datagram, 4);
        if only_flags(datagram, flags::COOKIE)? == 0 {
            exact(datagram, NOISE_ANSWER_LEN)?;
            let message = datagram[8..].try_into().expect("the length was checked");
            return Ok(Self::Noise { id, message });
        }
        exact(datagram, COOKIE_ANSWER_LEN)?;
        Ok(Self::Cookie { id, cookie: datagram[8..].try_into().expect("the length was checked") })
    }
}

/// A call; without proof it asks for a cookie.
pub fn write_hello(
    id: u32,
    proof: Option<(&[u8; COOKIE_LEN], &[u8; NOISE_1_LEN])>,
) -> [u8; HELLO_LEN] {
    let mut out = [0; HELLO_LEN];
    out[0] = Kind::Hello.byte();
    out[4..8].copy_from_slice(&id.to_le_bytes());
    match proof {
        None => out[1] = flags::COOKIE,
        Some((cookie, noise)) => {
            out[8..24].copy_from_slice(cookie);
            out[24..].copy_from_slice(noise);
        }
    }
    out
}

/// The answer that makes a caller prove its address.
pub fn write_cookie(id: u32, cookie: &[u8; COOKIE_LEN]) -> [u8; COOKIE_ANSWER_LEN] {
    let mut out = [0; COOKIE_ANSWER_LEN];
    out[0] = Kind::Answer.byte();
    out[1] = flags::COOKIE;
    out[4..8].copy_from_slice(&id.to_le_bytes());
    out[8..].copy_from_slice(cookie);
    out
}

/// The answer that ends a handshake.
pub fn write_noise_answer(id: u32, message: &[u8; NOISE_2_LEN]) -> [u8; NOISE_ANSWER_LEN] {
    let mut out = [0; NOISE_ANSWER_LEN];
    out[0] = Kind::Answer.byte();
    out[4..8].copy_from_slice(&id.to_le_bytes());
    out[8..].copy_from_slice(message);
    out
}
