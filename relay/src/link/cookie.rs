//! Cookies: whoever asks for a session first proves that it hears us at the address it claims.
//!
//! In: an address, the id of a call, the time. Out: sixteen bytes that only we can make and that only this address sees. No
//! state is kept for a caller: the same bytes are computed again when they come back. So a flood from forged addresses costs
//! one keyed hash a packet, and its answers are shorter than its questions.

use super::entropy::Entropy;
use crate::time::NowUs;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

/// A secret makes cookies for so long, and judges them for twice that.
pub const COOKIE_TURN_US: u64 = 10_000_000;

/// Makes and judges cookies.
#[derive(Debug)]
pub struct CookieJar {
    entropy: Entropy,
    secrets: [[u8; 16]; 2],
    turned: NowUs,
}

impl CookieJar {
    /// A jar with secrets of its own.
    pub fn new(mut entropy: Entropy, now: NowUs) -> Self {
        let secrets = [half(&mut entropy), half(&mut entropy)];
        Self { entropy, secrets, turned: now }
    }

    /// The cookie for a call.
    pub fn cookie(&mut self, from: SocketAddr, call: u32, now: NowUs) -> [u8; 16] {
        self.turn(now);
        bake(&self.secrets[0], from, call)
    }

    /// Whether we made it, for this address and call, not long ago.
    pub fn is_ours(&mut self, cookie: &[u8; 16], from: SocketAddr, call: u32, now: NowUs) -> bool {
        self.turn(now);
        // The comparison may end early: the secret is replaced long before 2^64 tries could use what that tells.
        self.secrets.iter().any(|secret| bake(secret, from, call) == *cookie)
    }

    fn turn(&mut self, now: NowUs) {
        let age = now.since(self.turned);
        if age < COOKIE_TURN_US {
            return;
        }
        let newest = half(&mut self.entropy);
        // After two turns of silence nothing made before is good any more.
        let older =
            if age < 2 * COOKIE_TURN_US { self.secrets[0] } else { half(&mut self.entropy) };
        self.secrets = [newest, older];
        self.turned = now;
    }
}

fn half(entropy: &mut Entropy) -> [u8; 16] {
    let bytes = entropy.draw();
    bytes[..16].try_into().expect("half of thirty-two")
}

fn bake(secret: &[u8; 16], from: SocketAddr, call: u32) -> [u8; 16] {
    let mut hasher = SipHasher24::new_with_key(secret);
    match from.ip() {
        IpAddr::V4(ip) => hasher.write(&ip.to_ipv6_mapped().octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()),
    }
    hasher.write(&from.port().to_le_bytes());
    hasher.write(&call.to_le_bytes());
    hasher.finish128().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar() -> CookieJar {
        CookieJar::new(Entropy::new(&[3; 32], b"cookie"), NowUs(0))
    }

    fn at(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], port))
    }

    #[test]
    fn a_cookie_is_good_for_its_address_its_port_and_its_call_only() {
        let mut jar = jar();
        let cookie = jar.cookie(at(1, 9333), 5, NowUs(0));
        assert!(jar.is_ours(&cookie, at(1, 9333), 5, NowUs(1)));
        assert!(!jar.is_ours(&cookie, at(2, 9333), 5, NowUs(1)));
        assert!(!jar.is_ours(&cookie, at(1, 9334), 5, NowUs(1)));
        assert!(!jar.is_ours(&cookie, at(1, 9333), 6, NowUs(1)));
        assert!(!jar.is_ours(&[0; 16], at(1, 9333), 5, NowUs(1)));
    }

    #[test]
    fn a_cookie_survives_one_turn_and_not_two() {
        let mut jar = jar();
        let cookie = jar.cookie(at(1, 1), 5, NowUs(0));
        assert!(jar.is_ours(&cookie, at(1, 1), 5, NowUs(COOKIE_TURN_US)));
        assert!(!jar.is_ours(&cookie, at(1, 1), 5, NowUs(2 * COOKIE_TURN_US)));

        let mut jar = self::jar();
        let cookie = jar.cookie(at(1, 1), 5, NowUs(0));
        assert!(!jar.is_ours(&cookie, at(1, 1), 5, NowUs(2 * COOKIE_TURN_US)), "after silence");
    }
}
