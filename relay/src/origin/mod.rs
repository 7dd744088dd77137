//! Origin proofs: a symbol shows who made it, however many hands it went through.
//!
//! In: the symbols of a group, an Ed25519 key. Out: a signed root for each group, and beside each symbol the way from it to
//! that root. Tags prove the neighbour only; with these proofs a relay can pass on at once what an untrusted neighbour sends,
//! since one signature for each group says that the origin made all its symbols. Source of the idea: Solana's Turbine
//! (reference/relay.md B2, C3).
//!
//! Cost: a signature and a check (27 and 52 us, B6) for each group, and 8 short SHA-256 for each symbol at most.

mod tree;

pub use tree::{NODE_LEN, Tree, levels};

use crate::wire::ObjectId;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::collections::{BTreeMap, VecDeque};

/// Bytes of the root that each symbol carries.
pub const ROOT_ID_LEN: usize = 4;
/// Signed roots that are remembered, for all objects together.
pub const ROOTS_MAX: usize = 16_384;

/// Parity symbols of a group of `k` that are below its root. Nobody can make others.
pub fn parity_below(k: usize) -> usize {
    k.max(8).min(255 - k)
}

/// Bytes beside each symbol of a group of `k`.
pub fn proof_len(k: usize) -> usize {
    ROOT_ID_LEN + usize::from(levels(k + parity_below(k))) * NODE_LEN
}

/// Bytes that are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "key {index} of the known origins is no point of the curve; give the 32 bytes that the origin's relay prints"
)]
pub struct OriginKeyError {
    /// Which of the keys, from 0.
    pub index: usize,
}

/// Whose proofs count, and the key to make our own.
#[derive(Debug, Default)]
pub struct OriginKeys {
    own: Option<SigningKey>,
    known: Vec<VerifyingKey>,
}

impl OriginKeys {
    /// A secret to sign with, or none, and the public keys of others that count; our own counts, too.
    pub fn new(own: Option<&[u8; 32]>, known: &[[u8; 32]]) -> Result<Self, OriginKeyError> {
        let own = own.map(SigningKey::from_bytes);
        let mut keys: Vec<VerifyingKey> = own.iter().map(SigningKey::verifying_key).collect();
        for (index, key) in known.iter().enumerate() {
            let key = VerifyingKey::from_bytes(key).ok().filter(|key| !key.is_weak());
            keys.push(key.ok_or(OriginKeyError { index })?);
        }
        Ok(Self { own, known: keys })
    }

    /// Our public key, for others to know.
    pub fn public(&self) -> Option<[u8; 32]> {
        self.own.as_ref().map(|own| own.verifying_key().to_bytes())
    }

    /// Whether what we send is proved.
    pub fn signs(&self) -> bool {
        self.own.is_some()
    }

    /// Signs a root.
    pub fn sign(&self, what: &RootOf, root: &[u8; 32]) -> Option<[u8; 64]> {
        Some(self.own.as_ref()?.sign(&what.statement(root)).to_bytes())
    }

    /// Whether an origin that counts has signed this root.
    pub fn is_signed(&self, what: &RootOf, root: &[u8; 32], signature: &[u8; 64]) -> bool {
        let statement = what.statement(root);
        let signature = Signature::from_bytes(signature);
        self.known.iter().any(|key| key.verify_strict(&statement, &signature).is_ok())
    }
}

/// Which group of which object a root belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RootOf {
    /// The object.
    pub object: ObjectId,
    /// Its length.
    pub object_len: u32,
    /// The group.
    pub group: u16,
    /// Symbols below the root.
    pub leaves: u8,
}

impl RootOf {
    /// What is signed.
    fn statement(&self, root: &[u8; 32]) -> [u8; 52] {
        let mut out = [0; 52];
        out[..4].copy_from_slice(b"BFRo");
        out[4..12].copy_from_slice(&self.object.0.to_le_bytes());
        out[12..16].copy_from_slice(&self.object_len.to_le_bytes());
        out[16..18].copy_from_slice(&self.group.to_le_bytes());
        out[18] = self.leaves;
        out[20..].copy_from_slice(root);
        out
    }
}

/// A root and its signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedRoot {
    /// The root.
    pub root: [u8; 32],
    /// The origin's signature.
    pub signature: [u8; 64],
}

/// Signed roots whose symbols have not come yet, oldest forgotten first.
#[derive(Debug, Default)]
pub struct Roots {
    roots: BTreeMap<RootOf, SignedRoot>,
    order: VecDeque<RootOf>,
}

impl Roots {
    /// The root of a group.
    pub fn get(&self, what: &RootOf) -> Option<&SignedRoot> {
        self.roots.get(what)
    }

    /// Takes a root that an origin has signed; the first one counts.
    pub fn add(&mut self, what: RootOf, root: SignedRoot) {
        if self.roots.contains_key(&what) {
            return;
        }
        if self.order.len() == ROOTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.roots.remove(&oldest);
        }
        self.roots.insert(what, root);
        self.order.push_back(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: RootOf = RootOf { object: ObjectId(7), object_len: 9, group: 3, leaves: 12 };

    #[test]
    fn a_root_counts_when_a_known_origin_signed_it_for_this_group() {
        let origin = OriginKeys::new(Some(&[5; 32]), &[]).unwrap();
        let public = origin.public().expect("it has a key");
        let relay = OriginKeys::new(None, &[public]).unwrap();
        let stranger = OriginKeys::new(Some(&[6; 32]), &[]).unwrap();
        let signature = origin.sign(&WHAT, &[1; 32]).expect("it has a key");
        assert!(relay.is_signed(&WHAT, &[1; 32], &signature));
        assert!(!stranger.is_signed(&WHAT, &[1; 32], &signature));
        assert!(!relay.is_signed(&WHAT, &[2; 32], &signature));
        for other in [
            RootOf { object: ObjectId(8), ..WHAT },
            RootOf { object_len: 8, ..WHAT },
            RootOf { group: 2, ..WHAT },
            RootOf { leaves: 13, ..WHAT },
        ] {
            assert!(!relay.is_signed(&other, &[1; 32], &signature), "{other:?}");
        }
        assert_eq!(relay.sign(&WHAT, &[1; 32]), None);
    }

    #[test]
    fn a_key_that_is_none_is_an_error_that_says_which() {
        // The point of order one, and bytes that are no point.
        let mut one = [0; 32];
        one[0] = 1;
        let good = OriginKeys::new(Some(&[5; 32]), &[]).unwrap().public().unwrap();
        for bad in [one, [2; 32]] {
            let got = OriginKeys::new(None, &[good, bad]).map(drop);
            assert_eq!(got, Err(OriginKeyError { index: 1 }));
        }
    }

    #[test]
    fn a_proof_fits_beside_its_symbol() {
        for k in 1..=128 {
            let len = crate::object::PROVED_SYMBOL_LEN + proof_len(k);
            assert!(len <= crate::wire::BODY_MAX, "{len} bytes for groups of {k}");
            assert!(k + parity_below(k) <= 255);
        }
    }

    #[test]
    fn the_oldest_root_is_forgotten_first() {
        let mut roots = Roots::default();
        let signed = SignedRoot { root: [0; 32], signature: [0; 64] };
        let of = |object| RootOf { object: ObjectId(object), ..WHAT };
        (0..=ROOTS_MAX as u64).for_each(|object| roots.add(of(object), signed));
        assert_eq!(roots.get(&of(0)), None);
        assert!(roots.get(&of(1)).is_some());
    }
}
