//! The batch verifier: a backend chosen at run time, counters, and libsecp256k1 as the last word.
//!
//! Cost: about 25 to 45 us a signature with libsecp256k1, key parsing (a square root for compressed keys) included.

use crate::{Check, Kernel, SigVerdict, Signature};
use secp256k1::{Message, PublicKey, ecdsa};

/// A way to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// libsecp256k1, one signature after the other.
    Secp256k1,
}

impl Backend {
    /// All, fastest first.
    pub const ALL: [Self; 1] = [Self::Secp256k1];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Secp256k1 => true,
        }
    }
}

/// Verifies batches. One for each thread that does.
#[derive(Clone, Debug)]
pub struct Verifier {
    backend: Backend,
    checked: u64,
    valid: u64,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// With the fastest backend that is available here.
    pub fn new() -> Self {
        Self { backend: Backend::Secp256k1, checked: 0, valid: 0 }
    }

    /// With this backend; `None` where the machine cannot run it.
    pub fn with_backend(backend: Backend) -> Option<Self> {
        backend.is_available().then_some(Self { backend, checked: 0, valid: 0 })
    }

    /// The backend in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The backend in use, and why.
    pub fn kernel(&self) -> Kernel {
        match self.backend {
            Backend::Secp256k1 => {
                Kernel { name: "libsecp256k1", why: "the only verifier built into this binary" }
            }
        }
    }

    /// Checks so far, and how many of them were valid.
    pub fn counts(&self) -> (u64, u64) {
        (self.checked, self.valid)
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
        match self.backend {
            Backend::Secp256k1 => {
                for (i, verdict) in verdicts.iter_mut().enumerate() {
                    *verdict = libsecp256k1(&get(i));
                }
            }
        }
        self.checked += verdicts.len() as u64;
        self.valid += verdicts.iter().filter(|verdict| verdict.is_valid()).count() as u64;
    }

    /// Verifies one check at once.
    pub fn verify_one(&mut self, check: &Check<'_>) -> SigVerdict {
        let mut verdict = [SigVerdict::default()];
        self.verify_each(|_| *check, &mut verdict);
        verdict[0]
    }
}

/// Source: SV Node `pubkey.cpp CPubKey::Verify`: parse the key, parse laxly, take the low s, verify.
fn libsecp256k1(check: &Check<'_>) -> SigVerdict {
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
