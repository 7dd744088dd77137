//! Random bytes from a seed that the host drew: SHA-256 in a chain that cannot be run backwards.
//!
//! In: 32 bytes, once. Out: keys of handshakes, cookie secrets, names of sessions, jitter. The simulator hands in a seed and
//! replays every draw; a node hands in what its operating system gives. Used a few times a handshake, never a packet.

use sha2::{Digest, Sha256};
use std::fmt;

/// The generator. Every draw replaces the state, so a state that leaks later does not show earlier draws.
#[derive(Clone)]
pub struct Entropy {
    state: [u8; 32],
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(secret)")
    }
}

impl Entropy {
    /// A generator; `purpose` keeps generators of the same seed apart.
    pub fn new(seed: &[u8; 32], purpose: &[u8]) -> Self {
        Self { state: Sha256::new().chain_update(seed).chain_update(purpose).finalize().into() }
    }

    /// Thirty-two bytes that nobody saw before.
    pub fn draw(&mut self) -> [u8; 32] {
        let out = Sha256::new().chain_update(self.state).chain_update([0]).finalize().into();
        self.state = Sha256::new().chain_update(self.state).chain_update([1]).finalize().into();
        out
    }

    /// Sixty-four random bits.
    pub fn word(&mut self) -> u64 {
        let bytes = self.draw();
        crate::wire::u64_at(&bytes, 0)
    }

    /// `value` plus or minus a quarter of it.
    pub fn jitter(&mut self, value: u64) -> u64 {
        let span = value / 2;
        value - value / 4 + if span == 0 { 0 } else { self.word() % (span + 1) }
    }
}

impl snow::types::Random for Entropy {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        for chunk in dest.chunks_mut(32) {
            chunk.copy_from_slice(&self.draw()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_stream_and_another_purpose_another() {
        let stream = |purpose: &[u8]| {
            let mut entropy = Entropy::new(&[7; 32], purpose);
            [entropy.draw(), entropy.draw()]
        };
        assert_eq!(stream(b"a"), stream(b"a"));
        assert_ne!(stream(b"a"), stream(b"b"));
        assert_ne!(stream(b"a")[0], stream(b"a")[1]);
    }

    #[test]
    fn jitter_stays_within_a_quarter() {
        let mut entropy = Entropy::new(&[1; 32], b"jitter");
        let draws: Vec<u64> = (0..200).map(|_| entropy.jitter(1_000)).collect();
        assert!(draws.iter().all(|us| (750..=1_250).contains(us)), "{draws:?}");
        assert!(draws.iter().min() != draws.iter().max());
        assert_eq!(entropy.jitter(0), 0);
    }
}
