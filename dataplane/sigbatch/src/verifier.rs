//! The batch verifier: a backend chosen at run time, counters, and libsecp256k1 as the last word.
//!
//! The kernel ([`crate::ifma`]) may only say "valid". What it does not accept is decided by libsecp256k1; one in
//! [`AUDIT_EVERY`] of what it accepts is verified again ([`crate::audit`]); a single disagreement turns it off for the process.
//!
//! Cost: 25 to 45 us a signature with libsecp256k1, key parsing (a square root for compressed keys) included; about a seventh
//! of that in a batch of sixteen or more with the kernel.

use crate::audit::{self, Audit, Audits};
use crate::ifma::batch::{Batch, Outcome, WINDOW};
use crate::ifma::model::Model;
#[cfg(target_arch = "x86_64")]
use crate::ifma::zmm::{self, Zmm};
use crate::{Check, Kernel, SigVerdict, Signature};
use secp256k1::{Message, PublicKey, ecdsa};

/// One in so many signatures that the kernel accepts is verified again by libsecp256k1.
pub const AUDIT_EVERY: u64 = 256;

/// A way to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// Sixteen signatures side by side in AVX-512 registers.
    Avx512Ifma,
    /// libsecp256k1, one signature after the other.
    Secp256k1,
    /// The kernel over eight plain integers, every bound asserted: runs on any machine and under sanitizers, is hundreds of
    /// times slower, and is used only when asked for by name.
    Model,
}

impl Backend {
    /// All, fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512Ifma, Self::Secp256k1, Self::Model];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Ifma => zmm::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512Ifma => false,
            Self::Secp256k1 | Self::Model => true,
        }
    }

    /// Short and stable, as reports and `--backend` spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Ifma => "avx512ifma",
            Self::Secp256k1 => "libsecp256k1",
            Self::Model => "model",
        }
    }
}

/// Who said what became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum DecidedBy {
    /// libsecp256k1.
    #[default]
    Secp256k1 = 0,
    /// The kernel, and its answer was "valid".
    Kernel = 1,
}

impl DecidedBy {
    /// As `metanode verify-sigs` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secp256k1 => "libsecp256k1",
            Self::Kernel => "kernel",
        }
    }
}

/// Numbers of one verifier, since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SigCounts {
    /// Checks.
    pub checked: u64,
    /// Of them, valid.
    pub valid: u64,
    /// Accepted by the kernel.
    pub by_kernel: u64,
    /// Shown to the kernel and decided by libsecp256k1, because the kernel refused or was not sure.
    pub fallbacks: u64,
    /// Accepted by the kernel and verified again, here or by the owner.
    pub audited: u64,
}

/// The kernel of a verifier.
#[derive(Clone, Debug)]
enum Engine {
    #[cfg(target_arch = "x86_64")]
    Zmm(Batch<Zmm>),
    Model(Batch<Model>),
    Planted(Outcome),
    None,
}

impl Engine {
    /// Makes it and asks it questions whose answers are known.
    fn start(backend: Backend) -> Result<Self, &'static str> {
        const TABLES: &str = "the fixed tables of the kernel have a wrong hash; it is not used";
        const ANSWERS: &str = "the kernel failed its known-answer test; it is not used";
        let mut engine = match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512Ifma => Self::Zmm(Batch::new().map_err(|_| TABLES)?),
            #[cfg(not(target_arch = "x86_64"))]
            Backend::Avx512Ifma => return Err("this is not an x86-64 processor"),
            Backend::Model => Self::Model(Batch::new().map_err(|_| TABLES)?),
            Backend::Secp256k1 => Self::None,
        };
        if backend == Backend::Secp256k1
            || crate::known::answers_right(|get, out| engine.judge(get, out))
        {
            Ok(engine)
        } else {
            Err(ANSWERS)
        }
    }

    fn judge(&mut self, get: &dyn Fn(usize) -> Check<'static>, outcomes: &mut [Outcome]) {
        self.window(get, outcomes);
    }

    fn window<'a>(&mut self, get: impl Fn(usize) -> Check<'a>, outcomes: &mut [Outcome]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Zmm(batch) => batch.judge(get, outcomes),
            Self::Model(batch) => batch.judge(get, outcomes),
            Self::Planted(outcome) => outcomes.fill(*outcome),
            Self::None => outcomes.fill(Outcome::Unsure),
        }
    }
}

/// Verifies batches. One for each thread that does.
#[derive(Clone, Debug)]
pub struct Verifier {
    backend: Backend,
    why: &'static str,
    engine: Engine,
    counts: SigCounts,
    /// Until the next accepted signature is verified again.
    until_audit: u64,
    audits: Audits,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// With the fastest backend that this machine has and that passes its known-answer test. The first of a process makes the
    /// kernel's tables: milliseconds and 4 MiB.
    pub fn new() -> Self {
        let backend = Backend::Avx512Ifma;
        if !backend.is_available() {
            return Self::over(Backend::Secp256k1, "AVX-512 IFMA is not here", Engine::None);
        }
        if audit::is_off() {
            return Self::over(Backend::Secp256k1, audit::OFF, Engine::None);
        }
        match Engine::start(backend) {
            Ok(engine) => Self::over(backend, "AVX-512 IFMA is here", engine),
            Err(why) => Self::over(Backend::Secp256k1, why, Engine::None),
        }
    }

    /// With this backend; `None` where the machine cannot run it or it fails its known-answer test.
    pub fn with_backend(backend: Backend) -> Option<Self> {
        if !backend.is_available() {
            return None;
        }
        Some(Self::over(backend, "asked for by name", Engine::start(backend).ok()?))
    }

    /// With a kernel that accepts everything, or refuses everything: shows that a wrong kernel is found and turned off. Never
    /// for a node; the first disagreement holds for the whole process.
    pub fn with_planted_kernel(accepts: bool) -> Self {
        let outcome = if accepts { Outcome::Accept } else { Outcome::Refuse };
        Self::over(Backend::Model, "planted to be wrong", Engine::Planted(outcome))
    }

    fn over(backend: Backend, why: &'static str, engine: Engine) -> Self {
        let (counts, audits) = (SigCounts::default(), Audits::inline());
        Self { backend, why, engine, counts, until_audit: AUDIT_EVERY, audits }
    }

    /// Keeps signatures to be verified again for [`Verifier::take_audit`] in place of doing it in `verify`: for a tile that hands
    /// them to another. Room for `capacity`; when it is full they are done in `verify` all the same.
    #[must_use]
    pub fn with_audits_kept(mut self, capacity: usize) -> Self {
        self.audits = Audits::kept(capacity);
        self
    }

    /// A signature to be verified again, on any thread: [`Audit::run`].
    pub fn take_audit(&mut self) -> Option<Audit> {
        self.audits.take()
    }

    /// The backend in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The backend in use, and why.
    pub fn kernel(&self) -> Kernel {
        if self.uses_kernel() || self.backend == Backend::Secp256k1 {
            Kernel { name: self.backend.name(), why: self.why }
        } else {
            Kernel { name: Backend::Secp256k1.name(), why: audit::OFF }
        }
    }

    /// Checks so far, and how many of them were valid.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.checked, self.counts.valid)
    }

    /// Everything counted so far.
    pub fn all_counts(&self) -> SigCounts {
        self.counts
    }

    /// Verifies `checks`; the verdict of `checks[i]` is written to `verdicts[i]`.
    pub fn verify(&mut self, checks: &[Check<'_>], verdicts: &mut [SigVerdict]) {
        assert_eq!(checks.len(), verdicts.len(), "one verdict a check");
        self.verify_each(|i| checks[i], verdicts);
    }

    /// Verifies one check for each place of `verdicts`, taking check `i` from `get(i)`: for batches that lie in the
    /// caller's own layout. `get` may be called more than once for an item.
    pub fn verify_each<'a>(
        &mut self,
        get: impl Fn(usize) -> Check<'a>,
        verdicts: &mut [SigVerdict],
    ) {
        self.verify_each_telling(get, verdicts, |_, _| {});
    }

    /// As [`Verifier::verify_each`], and tells who decided each.
    pub fn verify_each_telling<'a>(
        &mut self,
        get: impl Fn(usize) -> Check<'a>,
        verdicts: &mut [SigVerdict],
        mut tell: impl FnMut(usize, DecidedBy),
    ) {
        for (w, verdicts) in verdicts.chunks_mut(WINDOW).enumerate() {
            let first = w * WINDOW;
            let mut outcomes = [Outcome::Unsure; WINDOW];
            let outcomes = &mut outcomes[..verdicts.len()];
            let asked = self.uses_kernel() && verdicts.len() >= crate::ifma::batch::WORTH;
            if asked {
                self.engine.window(|i| get(first + i), outcomes);
            }
            for (i, (verdict, outcome)) in verdicts.iter_mut().zip(outcomes).enumerate() {
                if *outcome == Outcome::Accept {
                    *verdict = SigVerdict::Valid;
                    self.counts.by_kernel += 1;
                    tell(first + i, DecidedBy::Kernel);
                    self.audit_one_in_many(&get(first + i), verdict);
                } else {
                    let check = get(first + i);
                    *verdict = libsecp256k1(&check);
                    self.counts.fallbacks += u64::from(asked);
                    tell(first + i, DecidedBy::Secp256k1);
                    if *outcome == Outcome::Refuse && verdict.is_valid() {
                        audit::disagree("refused", &check, *verdict);
                    }
                }
            }
            self.counts.checked += verdicts.len() as u64;
            self.counts.valid +=
                verdicts.iter().filter(|verdict| verdict.is_valid()).count() as u64;
        }
    }

    /// Verifies one check at once.
    pub fn verify_one(&mut self, check: &Check<'_>) -> SigVerdict {
        let mut verdict = [SigVerdict::default()];
        self.verify_each(|_| *check, &mut verdict);
        verdict[0]
    }

    /// Whether a kernel is asked at all.
    fn uses_kernel(&self) -> bool {
        !matches!(self.engine, Engine::None) && !audit::is_off()
    }

    /// Verifies what the kernel accepted again, when its turn has come.
    fn audit_one_in_many(&mut self, check: &Check<'_>, verdict: &mut SigVerdict) {
        self.until_audit -= 1;
        if self.until_audit > 0 {
            return;
        }
        self.until_audit = AUDIT_EVERY;
        self.counts.audited += 1;
        if self.audits.keep(check) {
            return;
        }
        *verdict = audit::run(check);
    }
}

/// Source: SV Node `pubkey.cpp CPubKey::Verify`: parse the key, parse laxly, take the low s, verify.
pub(crate) fn libsecp256k1(check: &Check<'_>) -> SigVerdict {
    let Ok(key) = PublicKey::from_slice(check.public_key) else {
        return SigVerdict::BadKey;
    };
    let parsed = match check.signature {
        Signature::Compact(bytes) => ecdsa::Signature::from_compact(bytes),
        Signature::Der(bytes) => ecdsa::Signature::from_der_lax(bytes),
    };
    let Ok(mut signature) = parsed else {
        return SigVerdict::BadSignature;
    };
    signature.normalize_s();
    match ecdsa::verify(&signature, Message::from_digest(*check.digest), &key) {
        Ok(()) => SigVerdict::Valid,
        Err(_) => SigVerdict::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secp256k1::SecretKey;

    struct Signed {
        key: [u8; 33],
        key_long: [u8; 65],
        digest: [u8; 32],
        compact: [u8; 64],
        der: Vec<u8>,
    }

    fn signed(n: u8) -> Signed {
        let secret = SecretKey::from_secret_bytes([n + 1; 32]).expect("in range");
        let public = PublicKey::from_secret_key(&secret);
        let digest = [n ^ 0x5a; 32];
        let signature = ecdsa::sign(Message::from_digest(digest), &secret);
        Signed {
            key: public.serialize(),
            key_long: public.serialize_uncompressed(),
            digest,
            compact: signature.serialize_compact(),
            der: signature.serialize_der().to_vec(),
        }
    }

    /// n - s: the other signature of the same pair.
    fn high_s(compact: &[u8; 64]) -> [u8; 64] {
        const N: [u8; 32] = secp256k1::constants::CURVE_ORDER;
        let mut out = *compact;
        let mut borrow = 0i16;
        for i in (0..32).rev() {
            let d = i16::from(N[i]) - i16::from(compact[32 + i]) - borrow;
            borrow = i16::from(d < 0);
            out[32 + i] = (d & 0xff) as u8;
        }
        out
    }

    #[test]
    fn an_empty_batch_is_a_batch() {
        let mut verifier = Verifier::new();
        verifier.verify(&[], &mut []);
        assert_eq!(verifier.counts(), (0, 0));
    }

    #[test]
    fn every_item_of_a_mixed_batch_gets_its_own_verdict() {
        let rows: Vec<Signed> = (0..20).map(signed).collect();
        let wrong_digest = [9; 32];
        let checks: Vec<Check<'_>> = rows
            .iter()
            .enumerate()
            .map(|(i, row)| Check {
                public_key: match i % 4 {
                    2 => &row.key_long,
                    3 if i % 8 == 3 => &[5; 33],
                    _ => &row.key,
                },
                digest: if i % 5 == 4 { &wrong_digest } else { &row.digest },
                signature: match i % 3 {
                    0 => Signature::Compact(&row.compact),
                    1 => Signature::Der(&row.der),
                    _ if i == 8 => Signature::Der(&[]),
                    _ => Signature::Der(&row.der),
                },
            })
            .collect();
        let mut verdicts = vec![SigVerdict::default(); checks.len()];
        let mut verifier = Verifier::new();
        verifier.verify(&checks, &mut verdicts);
        for (i, verdict) in verdicts.iter().enumerate() {
            let expected = match i {
                _ if i % 8 == 3 => SigVerdict::BadKey,
                8 => SigVerdict::BadSignature,
                _ if i % 5 == 4 => SigVerdict::Wrong,
                _ => SigVerdict::Valid,
            };
            assert_eq!(*verdict, expected, "item {i}");
        }
        assert_eq!(verifier.counts().0, 20);
    }

    #[test]
    fn hybrid_keys_are_read_and_their_parity_is_believed_only_when_right() {
        let row = signed(3);
        let mut verifier = Verifier::new();
        let mut hybrid = row.key_long;
        for (prefix, right) in [(6u8, row.key[0] == 2), (7, row.key[0] == 3)] {
            hybrid[0] = prefix;
            let check = Check {
                public_key: &hybrid,
                digest: &row.digest,
                signature: Signature::Der(&row.der),
            };
            let expected = if right { SigVerdict::Valid } else { SigVerdict::BadKey };
            assert_eq!(verifier.verify_one(&check), expected);
        }
    }

    #[test]
    fn a_high_s_is_taken_as_its_low_twin() {
        let row = signed(7);
        let high = high_s(&row.compact);
        let check = Check {
            public_key: &row.key,
            digest: &row.digest,
            signature: Signature::Compact(&high),
        };
        assert_ne!(high, row.compact);
        assert_eq!(Verifier::new().verify_one(&check), SigVerdict::Valid);
    }

    #[test]
    fn der_with_long_length_forms_and_trailing_bytes_is_read_as_old_blocks_need() {
        let row = signed(11);
        let mut lax = vec![0x30, 0x81, row.der[1]];
        lax.extend_from_slice(&row.der[2..]);
        lax.extend_from_slice(&[0, 0, 0]);
        let check =
            Check { public_key: &row.key, digest: &row.digest, signature: Signature::Der(&lax) };
        assert_eq!(Verifier::new().verify_one(&check), SigVerdict::Valid);
    }

    /// Prints microseconds a signature, key parsing included; run it with `--release`.
    #[test]
    #[ignore = "a measurement, not a test"]
    fn microseconds_a_signature() {
        let rows: Vec<Signed> = (0..64).map(signed).collect();
        let mut verifier = Verifier::new();
        let mut verdicts = [SigVerdict::default(); 64];
        let mut slices: Vec<f64> = (0..60)
            .map(|_| {
                let start = std::time::Instant::now();
                verifier.verify_each(
                    |i| Check {
                        public_key: &rows[i].key,
                        digest: &rows[i].digest,
                        signature: Signature::Der(&rows[i].der),
                    },
                    &mut verdicts,
                );
                start.elapsed().as_nanos() as f64 / 64e3
            })
            .collect();
        assert!(verdicts.iter().all(|verdict| verdict.is_valid()));
        slices.sort_by(f64::total_cmp);
        println!(
            "{}: best {:.1} us, median {:.1} us",
            verifier.kernel().name,
            slices[0],
            slices[30]
        );
    }
}
