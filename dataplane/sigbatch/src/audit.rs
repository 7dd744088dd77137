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
    key: ([u8; 65], usize),
    digest: [u8; 32],
    signature: ([u8; SIGNATURE_BYTES_MAX], usize),
    is_der: bool,
}

impl Audit {
    fn of(check: &Check<'_>) -> Option<Self> {
        let (bytes, is_der) = match check.signature {
            Signature::Compact(bytes) => (&bytes[..], false),
            Signature::Der(bytes) => (bytes, true),
        };
        let mut key = ([0; 65], check.public_key.len());
        key.0.get_mut(..key.1)?.copy_from_slice(check.public_key);
        let mut signature = ([0; SIGNATURE_BYTES_MAX], bytes.len());
        signature.0.get_mut(..signature.1)?.copy_from_slice(bytes);
        Some(Self { key, digest: *check.digest, signature, is_der })
    }

    /// Verifies it, on any thread: true when libsecp256k1 agrees. When not, all is done that [`crate::audit`] says.
    pub fn run(&self) -> bool {
        let bytes = &self.signature.0[..self.signature.1];
        let signature = match bytes.first_chunk::<64>() {
            Some(compact) if !self.is_der => Signature::Compact(compact),
            _ => Signature::Der(bytes),
        };
        let public_key = &self.key.0[..self.key.1];
        run(&Check { public_key, digest: &self.digest, signature }).is_valid()
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
