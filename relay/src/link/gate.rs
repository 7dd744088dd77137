//! How many handshakes strangers may cost us.
//!
//! In: an address that a cookie has proved, and the time. Out: yes, or which limit it met. A handshake costs about 200 us of
//! elliptic curves, a thousand times a packet. Only proved addresses are counted: a count that a forged packet could raise
//! would be a way to lock somebody else out. The memory is one array, so no flood grows it.

use super::entropy::Entropy;
use crate::drops::DropReason;
use crate::time::NowUs;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::net::IpAddr;

/// Handshakes one source may start at once ...
pub const HELLO_BURST: u32 = 16;
/// ... and how often it gets another.
pub const HELLO_EVERY_US: u64 = 250_000;
/// Handshakes that all strangers together may start at once ...
pub const HELLO_BURST_ALL: u32 = 64;
/// ... and how often they get another: 200 a second, some 4 % of a core.
pub const HELLO_EVERY_ALL_US: u64 = 5_000;
/// Sources that are told apart; more share.
const SOURCES: usize = 1_024;

/// The limits and what is used of them.
#[derive(Debug)]
pub struct HelloGate {
    key: [u8; 16],
    sources: Box<[Allowance]>,
    all: Allowance,
}

/// A bucket of handshakes: the moment at which it is, or was, full again.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    full_at: NowUs,
}

impl Allowance {
    fn take(&mut self, burst: u32, every_us: u64, now: NowUs) -> bool {
        let full_at = self.full_at.max(now) + every_us;
        if full_at.since(now) > u64::from(burst) * every_us {
            return false;
        }
        self.full_at = full_at;
        true
    }
}

impl HelloGate {
    /// A gate that nobody has passed yet.
    pub fn new(mut entropy: Entropy) -> Self {
        let key = entropy.draw()[..16].try_into().expect("half of thirty-two");
        let none = Allowance { full_at: NowUs(0) };
        Self { key, sources: vec![none; SOURCES].into(), all: none }
    }

    /// Counts a handshake of a proved source. Addresses of configured peers do not wait for strangers.
    pub fn pass(&mut self, from: IpAddr, configured: bool, now: NowUs) -> Result<(), DropReason> {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        match from {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            // Who has one address of a /64 has them all.
            IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
        }
        let source = &mut self.sources[hasher.finish() as usize % SOURCES];
        if !source.take(HELLO_BURST, HELLO_EVERY_US, now) {
            return Err(DropReason::HelloRate);
        }
        if !configured && !self.all.take(HELLO_BURST_ALL, HELLO_EVERY_ALL_US, now) {
            return Err(DropReason::HelloFlood);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> HelloGate {
        HelloGate::new(Entropy::new(&[5; 32], b"gate"))
    }

    #[test]
    fn a_source_that_calls_too_often_waits_and_others_do_not() {
        let mut gate = gate();
        let loud = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..HELLO_BURST {
            assert_eq!(gate.pass(loud, true, NowUs(0)), Ok(()));
        }
        assert_eq!(gate.pass(loud, true, NowUs(0)), Err(DropReason::HelloRate));
        assert_eq!(gate.pass(IpAddr::from([10, 0, 0, 2]), true, NowUs(0)), Ok(()));
        assert_eq!(gate.pass(loud, true, NowUs(HELLO_EVERY_US)), Ok(()));
        assert_eq!(gate.pass(loud, true, NowUs(HELLO_EVERY_US)), Err(DropReason::HelloRate));
    }

    #[test]
    fn addresses_of_one_network_share_and_a_crowd_of_strangers_does_not_keep_a_peer_out() {
        let mut gate = gate();
        let of = |network: u16, host: u16| {
            IpAddr::from([0x2001, 0xdb8, network >> 8, network & 0xff, 1, 2, 3, host])
        };
        for host in 0..HELLO_BURST as u16 {
            assert_eq!(gate.pass(of(0, host), true, NowUs(0)), Ok(()));
        }
        assert_eq!(gate.pass(of(0, 99), true, NowUs(0)), Err(DropReason::HelloRate));

        let refused = (1..400).filter(|&n| gate.pass(of(n, 1), false, NowUs(0)).is_err()).count();
        assert!(refused >= 399 - HELLO_BURST_ALL as usize, "{refused} of 399 refused");
        let peer = IpAddr::from([192, 0, 2, 77]);
        assert_eq!(gate.pass(peer, false, NowUs(0)), Err(DropReason::HelloFlood));
        assert_eq!(gate.pass(peer, true, NowUs(0)), Ok(()), "a configured peer waits for nobody");
    }
}
