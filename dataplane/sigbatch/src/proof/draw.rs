//! Numbers from a seed: the same seed, the same attack.

/// A stream of numbers (splitmix64).
#[derive(Clone, Copy, Debug)]
pub struct Draw(u64);

impl Draw {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    /// 256 bits.
    pub fn words(&mut self) -> [u64; 4] {
        [self.word(), self.word(), self.word(), self.word()]
    }

    /// 32 bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.as_chunks_mut::<8>().0 {
            *chunk = self.word().to_le_bytes();
        }
        out
    }
}
