//! Keys drawn from a seed: the wallets of a workload.
//!
//! Test keys only: anybody who knows the seed knows the secrets.

use consensus::hash::{hash160, sha256};
use rayon::prelude::*;
use secp256k1::{PublicKey, SecretKey};

/// One key pair as the workload needs it.
#[derive(Clone, Debug)]
pub struct Key {
    /// Signs.
    pub secret: SecretKey,
    /// Compressed.
    pub public: [u8; 33],
    /// HASH160 of the compressed public key.
    pub hash: [u8; 20],
}

/// A list of distinct keys.
#[derive(Clone, Debug)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// The first `count` keys of `seed`; about 15 us each on one core, made on all.
    pub fn derive(seed: u64, count: usize) -> Self {
        assert!(count > 0, "a workload needs at least one key");
        Self((0..count as u64).into_par_iter().map(|i| key(seed, i)).collect())
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a list holds at least one key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key for place `i`, round and round.
    pub fn at(&self, i: usize) -> &Key {
        &self.0[i % self.0.len()]
    }
}

fn key(seed: u64, index: u64) -> Key {
    let mut text = *b"metanode workload key ................";
    text[22..30].copy_from_slice(&seed.to_le_bytes());
    text[30..38].copy_from_slice(&index.to_le_bytes());
    let mut digest = sha256(&text);
    let secret = loop {
        match SecretKey::from_secret_bytes(digest) {
            Ok(secret) => break secret,
            Err(_) => digest = sha256(&digest),
        }
    };
    let public = PublicKey::from_secret_key(&secret).serialize();
    Key { secret, public, hash: hash160(&public) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_the_same_distinct_keys_again() {
        let a = Keys::derive(7, 200);
        let b = Keys::derive(7, 200);
        let mut hashes: Vec<_> = a.0.iter().map(|k| k.hash).collect();
        assert_eq!(hashes, b.0.iter().map(|k| k.hash).collect::<Vec<_>>());
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 200);
        assert_ne!(Keys::derive(8, 1).at(0).hash, a.at(0).hash);
    }
}
