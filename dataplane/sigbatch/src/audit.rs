//! The second look: what the kernel accepted is verified again by libsecp256k1, and one disagreement ends its use.
//!
//! In: checks that the kernel accepted. Out: nothing, as long as libsecp256k1 agrees. If it does not, the disagreement is
//! written to stderr, counted, kept for whoever asks, and from then on every verifier of the process uses libsecp256k1 alone.
//! The same happens when the kernel refuses a signature that libsecp256k1 accepts: no verdict was wrong then, but a kernel
//! that errs in one direction is not believed in the other.

use crate::verifier::libsecp256k1;
use crate::{Check, SigVerdict, Signature};
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a kernel that is there is not used.
pub const OFF: &str =
    "the kernel disagreed with libsecp256k1 once in this process; it is not used any more";

/// Longest key there is.
const KEY_BYTES_MAX: usize = 65;
/// Longest signature that is copied: what the kernel accepts is shorter.
const SIGNATURE_BYTES_MAX: usize = 72;

static DISAGREEMENTS: AtomicU64 = AtomicU64::new(0);
static FIRST: OnceLock<Disagreement> = OnceLock::new();

/// A check on which the kernel and libsecp256k1 were of two minds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// What the kernel did: `accepted` or `refused`.
    pub kernel: &'static str,
    /// What libsecp256k1 said.
    pub verdict: SigVerdict,
    /// The key.
    pub public_key: Vec<u8>,
    /// The digest.
    pub digest: [u8; 32],
    /// The signature, in the form it had.
    pub signature: Vec<u8>,
}

/// How often the kernel and libsecp256k1 disagreed in this process: 0, or the kernel is off.
pub fn disagreements() -> u64 {
    DISAGREEMENTS.load(Ordering::Relaxed)
}

/// The first of them.
pub fn first_disagreement() -> Option<&'static Disagreement> {
    FIRST.get()
}

/// Whether the kernel is off.
#[inline]
pub(crate) fn is_off() -> bool {
    disagreements() != 0
}

/// Writes it down and turns the kernel off.
#[cold]
pub(crate) fn disagree(kernel: &'static str, check: &Check<'_>, verdict: SigVerdict) {
    DISAGREEMENTS.fetch_add(1, Ordering::Relaxed);
    let signature = match check.signature {
        Signature::Compact(bytes) => bytes.to_vec(),
        Signature::Der(bytes) => bytes.to_vec(),
    };
    let public_key = check.public_key.to_vec();
    let it = Disagreement { kernel, verdict, public_key, digest: *check.digest, signature };
    // Rare and grave: it is written where people look, whatever the logging of the process is.
    eprintln!("sigbatch: {OFF}; libsecp256k1 decides from here on; please report: {it:02x?}");
    let _ = FIRST.set(it);
}

/// Verifies again; the verdict is libsecp256k1's.
pub(crate) fn run(check: &Check<'_>) -> SigVerdict {
    let verdict = libsecp256k1(check);
    if !verdict.is_valid() {
        disagree("accepted", check, verdict);
    }
    verdict
}

/// A signature that the kernel accepted, copied to be verified again elsewhere.
#[derive(Clone, Debug)]
pub struct Audit {
    key: ([u8; KEY_BYTES_MAX], usize),
    digest: [u8; 32],
    signature: ([u8; SIGNATURE_BYTES_MAX], usize),
    is_der: bool,
}

impl Audit {
    /// Most bytes that [`Audit::encode`] writes.
    pub const LEN_MAX: usize = 3 + KEY_BYTES_MAX + 32 + SIGNATURE_BYTES_MAX;

    /// Copies a check; `None` for one that is longer than what a kernel accepts.
    pub fn of(check: &Check<'_>) -> Option<Self> {
        let (bytes, is_der) = match check.signature {
            Signature::Compact(bytes) => (&bytes[..], false),
            Signature::Der(bytes) => (bytes, true),
        };
        let mut key = ([0; KEY_BYTES_MAX], check.public_key.len());
        key.0.get_mut(..key.1)?.copy_from_slice(check.public_key);
        let mut signature = ([0; SIGNATURE_BYTES_MAX], bytes.len());
        signature.0.get_mut(..signature.1)?.copy_from_slice(bytes);
        Some(Self { key, digest: *check.digest, signature, is_der })
    }

    fn check(&self) -> Check<'_> {
        let bytes = &self.signature.0[..self.signature.1];
        let signature = match bytes.first_chunk::<64>() {
            Some(compact) if !self.is_der => Signature::Compact(compact),
            _ => Signature::Der(bytes),
        };
        Check { public_key: &self.key.0[..self.key.1], digest: &self.digest, signature }
    }

    /// Verifies it, on any thread: true when libsecp256k1 agrees. When not, all is done that [`crate::audit`] says.
    pub fn run(&self) -> bool {
        run(&self.check()).is_valid()
    }

    /// Writes it for another thread; how many bytes.
    ///
    /// ```text
    /// key length (1) | key | digest (32) | 1 if DER (1) | signature length (1) | signature
    /// ```
    pub fn encode(&self, out: &mut [u8; Self::LEN_MAX]) -> usize {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&[self.key.1 as u8]);
        put(&self.key.0[..self.key.1]);
        put(&self.digest);
        put(&[u8::from(self.is_der), self.signature.1 as u8]);
        put(&self.signature.0[..self.signature.1]);
        at
    }

    /// Reads what [`Audit::encode`] wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (key_len, rest) = bytes.split_first()?;
        let (public_key, rest) = rest.split_at_checked(usize::from(*key_len))?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let ([is_der, len], signature) = rest.split_first_chunk::<2>()?;
        let signature = match (is_der, <&[u8; 64]>::try_from(signature)) {
            (0, Ok(compact)) => Signature::Compact(compact),
            (1, _) => Signature::Der(signature),
            _ => return None,
        };
        let audit = Self::of(&Check { public_key, digest, signature })?;
        (audit.signature.1 == usize::from(*len)).then_some(audit)
    }
}

/// Where signatures wait for their second look.
#[derive(Clone, Debug)]
pub(crate) struct Audits {
    waiting: VecDeque<Audit>,
    capacity: usize,
}

impl Audits {
    /// Nothing waits: they are verified at once.
    pub fn inline() -> Self {
        Self { waiting: VecDeque::new(), capacity: 0 }
    }

    /// Up to `capacity` wait.
    pub fn kept(capacity: usize) -> Self {
        Self { waiting: VecDeque::with_capacity(capacity), capacity }
    }

    /// Copies it; false when there is no room.
    pub fn keep(&mut self, check: &Check<'_>) -> bool {
        if self.waiting.len() >= self.capacity {
            return false;
        }
        let Some(audit) = Audit::of(check) else { return false };
        self.waiting.push_back(audit);
        true
    }

    pub fn take(&mut self) -> Option<Audit> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_travels_as_bytes() {
        let (key, digest) = ([3; 65], [4; 32]);
        let compact = [5; 64];
        let signatures =
            [Signature::Compact(&compact), Signature::Der(&compact[..8]), Signature::Der(&compact)];
        for signature in signatures {
            for public_key in [&key[..], &key[..33]] {
                let check = Check { public_key, digest: &digest, signature };
                let audit = Audit::of(&check).expect("short enough");
                let mut bytes = [0; Audit::LEN_MAX];
                let len = audit.encode(&mut bytes);
                let back = Audit::decode(&bytes[..len]).expect("just written");
                let got = back.check();
                assert_eq!(
                    (got.public_key, got.digest, got.signature),
                    (public_key, &digest, signature)
                );
                for short in 0..len {
                    assert!(Audit::decode(&bytes[..short]).is_none(), "{short} of {len}");
                }
            }
        }
        let check = Check { public_key: &[0; 66], digest: &digest, signature: Signature::Der(&[]) };
        assert!(Audit::of(&check).is_none());
    }
}
