//! Signature checks: at once, or collected and decided later.
//!
//! The interpreter decides everything that needs no elliptic curve (encodings, empty signatures, keys of impossible
//! length, signatures that even the lax reader cannot read) and asks a [`SigCheck`] for the rest. [`Immediate`] answers
//! with libsecp256k1. [`Deferred`] writes the check down in a bounded [`SigBatch`] and answers `true`.
//!
//! **What an assumed answer is worth.** A run that ended well under assumptions is right if every collected check comes
//! out true: then each answer was the true one and the run is the run that would have been made at once. If any check
//! comes out false, nothing about the run is known (a script may even *want* a false signature: `CHECKSIG NOT`), and the
//! input must be run again with [`Immediate`]. For the same reason a run that **failed** after at least one assumption
//! says nothing yet and must be run again; [`super::verify_collecting`] does exactly that. A run without assumptions is
//! final either way. CHECKMULTISIG under assumptions takes the first key it tries, so an m-of-n with keys left out is
//! replayed often; that costs time, never a verdict.

use super::encoding::{LaxSignature, read_lax_der};
use secp256k1::{Message, PublicKey, ecdsa};

/// Answers whether a signature is good for a key and a digest.
pub trait SigCheck {
    /// Checks one signature: `sig_der` without its hash type, to be read laxly; S of either half is good.
    ///
    /// The interpreter has already tested encodings as the flags demand and never asks with an empty signature.
    fn check(&mut self, pubkey: &[u8], sig_der: &[u8], digest: &[u8; 32]) -> bool;

    /// How many answers so far were assumed rather than known.
    fn assumed(&self) -> usize {
        0
    }

    /// Whether there is no room to assume one more. The run then stops with `Outcome::BatchFull`.
    fn is_full(&self) -> bool {
        false
    }
}

impl<S: SigCheck + ?Sized> SigCheck for &mut S {
    fn check(&mut self, pubkey: &[u8], sig_der: &[u8], digest: &[u8; 32]) -> bool {
        (**self).check(pubkey, sig_der, digest)
    }

    fn assumed(&self) -> usize {
        (**self).assumed()
    }

    fn is_full(&self) -> bool {
        (**self).is_full()
    }
}

/// Checks at once with libsecp256k1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Immediate;

impl Immediate {
    /// Decides one collected check; the judge of what a batch verifier does not accept.
    pub fn decide(check: &PendingCheck) -> bool {
        verify_compact(check.pubkey(), &check.signature, &check.digest)
    }
}

impl SigCheck for Immediate {
    fn check(&mut self, pubkey: &[u8], sig_der: &[u8], digest: &[u8; 32]) -> bool {
        readable(sig_der).is_some_and(|sig| verify_compact(pubkey, &sig.to_compact_low_s(), digest))
    }
}

/// What the lax reader makes of a signature, unless it can never verify.
fn readable(sig_der: &[u8]) -> Option<LaxSignature> {
    read_lax_der(sig_der).filter(|sig| !sig.is_hopeless())
}

fn verify_compact(pubkey: &[u8], signature: &[u8; 64], digest: &[u8; 32]) -> bool {
    let Ok(key) = PublicKey::from_slice(pubkey) else {
        return false;
    };
    let Ok(signature) = ecdsa::Signature::from_compact(signature) else {
        return false;
    };
    ecdsa::verify(&signature, Message::from_digest(*digest), &key).is_ok()
}

/// A check written down for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingCheck {
    pubkey: [u8; 65],
    pubkey_len: u8,
    /// R and the low one of S and its negative, big-endian.
    pub signature: [u8; 64],
    /// The digest in wire order, which is the order ECDSA reads it in.
    pub digest: [u8; 32],
    /// The caller's word for the run this came from.
    pub tag: u32,
}

impl PendingCheck {
    /// The serialised key: 33 bytes compressed, 65 uncompressed or hybrid. It may still be no point of the curve.
    pub fn pubkey(&self) -> &[u8] {
        &self.pubkey[..usize::from(self.pubkey_len)]
    }
}

/// A bounded list of checks, filled by [`Deferred`], owned and emptied by the caller. Never grows.
#[derive(Debug)]
pub struct SigBatch {
    checks: Vec<PendingCheck>,
    capacity: usize,
}

impl SigBatch {
    /// A batch for at most `capacity` checks; all memory is taken here.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { checks: Vec::with_capacity(capacity), capacity }
    }

    /// The collected checks, oldest first.
    pub fn checks(&self) -> &[PendingCheck] {
        &self.checks
    }

    /// How many are collected.
    pub fn len(&self) -> usize {
        self.checks.len()
    }

    /// Whether none is collected.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// How many more fit.
    pub fn room(&self) -> usize {
        self.capacity - self.checks.len()
    }

    /// Forgets all checks.
    pub fn clear(&mut self) {
        self.checks.clear();
    }

    /// Forgets the oldest `count` checks.
    pub fn pop_front(&mut self, count: usize) {
        self.checks.drain(..count);
    }

    /// Forgets the checks from `len` on, for a run that is going to be made again.
    pub fn truncate(&mut self, len: usize) {
        self.checks.truncate(len);
    }
}

/// Collects checks and assumes that they are good.
#[derive(Debug)]
pub struct Deferred<'b> {
    batch: &'b mut SigBatch,
    tag: u32,
    start: usize,
}

impl<'b> Deferred<'b> {
    /// Collects into `batch`; every check carries `tag`.
    pub fn new(batch: &'b mut SigBatch, tag: u32) -> Self {
        let start = batch.len();
        Self { batch, tag, start }
    }

    /// Takes back what this run collected.
    pub fn abandon(self) {
        self.batch.truncate(self.start);
    }
}

impl SigCheck for Deferred<'_> {
    fn check(&mut self, pubkey: &[u8], sig_der: &[u8], digest: &[u8; 32]) -> bool {
        let Some(signature) = readable(sig_der) else {
            return false;
        };
        assert!(
            self.batch.room() > 0,
            "a check is deferred into a full batch; the run asks is_full() first"
        );
        let mut check = PendingCheck {
            pubkey: [0; 65],
            pubkey_len: pubkey.len() as u8,
            signature: signature.to_compact_low_s(),
            digest: *digest,
            tag: self.tag,
        };
        check.pubkey[..pubkey.len()].copy_from_slice(pubkey);
        self.batch.checks.push(check);
        true
    }

    fn assumed(&self) -> usize {
        self.batch.len() - self.start
    }

    fn is_full(&self) -> bool {
        self.batch.room() == 0
    }
}
