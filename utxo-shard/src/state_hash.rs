//! One hash of a whole set of coins, the same whatever order they come in and whichever engine keeps them.
//!
//! ```text
//! leaf       SHA-256(txid 32 | vout u32 | height << 1 | coinbase u32 | value u64 | locking script)
//! state_hash SHA-256 of all leaves in ascending order, then their number u64
//! ```
//!
//! Little endian; an unmined coin has height [`UNMINED_HEIGHT`](crate::store::UNMINED_HEIGHT). Two sets with the same hash give a
//! collision of SHA-256. Sums of hashes would need no sorting, but 256 bits of a sum fall to a generalised birthday search (about
//! 2^32 work with many coins to choose from), and what resists it costs a microsecond and more a coin (a product modulo a 3072-bit
//! prime, as `MuHash`). Sorting 32 bytes a coin costs 0.2 microseconds and 320 MB for ten million, in a tool that runs rarely; no
//! engine keeps anything for it.

use crate::store::Coin;
use consensus::hash::sha256;
use consensus::tx::OutPoint;

/// See the module.
#[derive(Debug, Default)]
pub struct StateHash {
    leaves: Vec<[u8; 32]>,
    scratch: Vec<u8>,
}

impl StateHash {
    /// Of an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one coin.
    pub fn add(&mut self, outpoint: &OutPoint, coin: &Coin<'_>) {
        let s = &mut self.scratch;
        s.clear();
        s.extend_from_slice(&outpoint.txid.0);
        s.extend_from_slice(&outpoint.vout.to_le_bytes());
        s.extend_from_slice(&(coin.height << 1 | u32::from(coin.coinbase)).to_le_bytes());
        s.extend_from_slice(&coin.value_sat.to_le_bytes());
        s.extend_from_slice(coin.locking_script);
        self.leaves.push(sha256(s));
    }

    /// Coins taken so far.
    pub fn coins(&self) -> usize {
        self.leaves.len()
    }

    /// The hash.
    pub fn finish(mut self) -> [u8; 32] {
        self.leaves.sort_unstable();
        let mut all = self.leaves.concat();
        all.extend_from_slice(&(self.leaves.len() as u64).to_le_bytes());
        sha256(&all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::hash::TxId;

    fn hash_of(coins: &[(u8, u32, u64)]) -> [u8; 32] {
        let mut hash = StateHash::new();
        for &(n, vout, value_sat) in coins {
            let coin = Coin { value_sat, height: 7, coinbase: false, locking_script: &[0x51] };
            hash.add(&OutPoint { txid: TxId([n; 32]), vout }, &coin);
        }
        hash.finish()
    }

    #[test]
    fn the_order_of_coins_does_not_matter_and_everything_else_does() {
        let hash = hash_of(&[(1, 0, 5), (2, 1, 6), (1, 1, 5)]);
        assert_eq!(hash, hash_of(&[(2, 1, 6), (1, 1, 5), (1, 0, 5)]));
        assert_ne!(hash, hash_of(&[(1, 0, 5), (2, 1, 6)]));
        assert_ne!(hash, hash_of(&[(1, 0, 5), (2, 1, 6), (1, 1, 6)]));
        assert_ne!(hash, hash_of(&[(1, 0, 5), (2, 1, 6), (1, 1, 5), (1, 1, 5)]));
        assert_ne!(hash_of(&[]), hash_of(&[(1, 0, 5)]));
    }
}
