//! A datagram as a frag: whom it is from or for, then its bytes.
//!
//! ```text
//! 0            16      18
//! | IPv6 address | port | payload ...
//! ```
//!
//! IPv4 addresses are mapped into IPv6, so the head has one length. All numbers are as on the wire: big-endian.

use crate::io::PAYLOAD_BYTES_MAX;
use std::net::{Ipv6Addr, SocketAddr};

/// Bytes in front of the payload.
pub const HEAD_LEN: usize = 18;
/// The mtu of links that carry datagrams.
pub const MTU: usize = HEAD_LEN + PAYLOAD_BYTES_MAX;

/// Writes it to the front of `out`; gives its length.
///
/// # Panics
/// If `out` is shorter than [`MTU`] and the payload does not fit.
pub fn write(address: SocketAddr, payload: &[u8], out: &mut [u8]) -> usize {
    let ip = match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
        SocketAddr::V6(v6) => *v6.ip(),
    };
    let len = HEAD_LEN + payload.len();
    out[..16].copy_from_slice(&ip.octets());
    out[16..HEAD_LEN].copy_from_slice(&address.port().to_be_bytes());
    out[HEAD_LEN..len].copy_from_slice(payload);
    len
}

/// The address and the payload; `None` if it is too short for the first.
pub fn read(frag: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (head, payload) = frag.split_first_chunk::<HEAD_LEN>()?;
    let (ip, port) = head.split_first_chunk::<16>()?;
    let ip = Ipv6Addr::from(*ip).to_canonical();
    Some((SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]])), payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_come_back_with_their_payload() {
        let mut frag = [0; MTU];
        for (text, payload) in [("10.1.2.3:9333", &b"abc"[..]), ("[fd77::2]:1", b"")] {
            let address: SocketAddr = text.parse().expect("an address");
            let len = write(address, payload, &mut frag);
            assert_eq!(read(&frag[..len]), Some((address, payload)));
        }
        assert_eq!(read(&frag[..HEAD_LEN - 1]), None);
    }
}
