//! Questions whose answers are known, asked before a kernel is believed.
//!
//! Two groups and a rest: keys of every form, digests of zeros and ones, and beside each right signature a wrong one. The
//! signatures are libsecp256k1's (RFC 6979, so always the same), and their SHA-256 is written here: a library that signs
//! differently would be noticed too.

use crate::ifma::batch::Outcome;
use crate::{Check, Signature};
use secp256k1::{Message, PublicKey, SecretKey, ecdsa};
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// How many: two groups of eight, one of eight, and a rest that fills a group in part.
pub const QUESTIONS: usize = 29;

/// SHA-256 of all keys, digests and signatures.
const HASH: [u8; 32] = [
    0x6a, 0x7e, 0x3c, 0xf6, 0xfe, 0x5c, 0xd8, 0x85, 0x36, 0x6d, 0xfa, 0xa4, 0x1d, 0x8b, 0x18, 0xff,
    0x37, 0xaa, 0x74, 0x46, 0x00, 0x54, 0x18, 0x31, 0x18, 0x6e, 0xf3, 0xdf, 0xbd, 0x67, 0x17, 0xbc,
];

struct Question {
    key: [u8; 65],
    key_len: usize,
    digest: [u8; 32],
    compact: [u8; 64],
    right: bool,
}

/// The questions, made once a process.
fn questions() -> Option<&'static [Question]> {
    static QUESTIONS_MADE: OnceLock<Option<Vec<Question>>> = OnceLock::new();
    QUESTIONS_MADE.get_or_init(make).as_deref()
}

fn make() -> Option<Vec<Question>> {
    let mut all = Vec::with_capacity(QUESTIONS);
    let mut hash = Sha256::new();
    for i in 0..QUESTIONS as u8 {
        let mut seed = [i; 33];
        seed[32] = 1;
        let secret = SecretKey::from_secret_bytes(Sha256::digest(seed).into()).ok()?;
        let public = PublicKey::from_secret_key(&secret);
        let mut digest: [u8; 32] = match i {
            1 => [0; 32],
            2 => [0xff; 32],
            _ => Sha256::digest(seed[..32].as_ref()).into(),
        };
        let compact = ecdsa::sign(Message::from_digest(digest), &secret).serialize_compact();
        let mut key = [0; 65];
        let key_len = if i % 4 == 3 {
            key = public.serialize_uncompressed();
            65
        } else {
            key[..33].copy_from_slice(&public.serialize());
            33
        };
        let mut compact = compact;
        let right = i % 3 != 2;
        if !right {
            match i % 4 {
                0 => compact[i as usize] ^= 1 << (i % 8),
                1 => compact[32 + i as usize] ^= 1 << (i % 8),
                2 => digest[i as usize % 32] ^= 1 << (i % 8),
                _ => key[1 + i as usize] ^= 1 << (i % 8),
            }
        }
        hash.update(key);
        hash.update(digest);
        hash.update(compact);
        all.push(Question { key, key_len, digest, compact, right });
    }
    let hash: [u8; 32] = hash.finalize().into();
    (hash == HASH).then_some(all)
}

/// What answers a batch.
type Answers<'k> = dyn FnMut(&dyn Fn(usize) -> Check<'static>, &mut [Outcome]) + 'k;

/// Whether every right signature is accepted and no wrong one.
pub fn answers_right(
    mut judge: impl FnMut(&dyn Fn(usize) -> Check<'static>, &mut [Outcome]),
) -> bool {
    let judge: &mut Answers<'_> = &mut judge;
    let Some(questions) = questions() else { return false };
    let check = |i: usize| {
        let q: &'static Question = &questions[i];
        Check {
            public_key: &q.key[..q.key_len],
            digest: &q.digest,
            signature: Signature::Compact(&q.compact),
        }
    };
    let mut outcomes = [Outcome::Unsure; QUESTIONS];
    judge(&check, &mut outcomes);
    questions.iter().zip(outcomes).all(|(q, outcome)| (outcome == Outcome::Accept) == q.right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigVerdict;
    use crate::verifier::libsecp256k1;

    #[test]
    fn libsecp256k1_agrees_with_the_known_answers() {
        let questions = questions().expect("the questions hash to what is written");
        for q in questions {
            let signature = Signature::Compact(&q.compact);
            let public_key = &q.key[..q.key_len];
            let verdict = libsecp256k1(&Check { public_key, digest: &q.digest, signature });
            assert_eq!(verdict == SigVerdict::Valid, q.right);
        }
    }

    #[test]
    fn a_kernel_that_accepts_one_too_many_or_one_too_few_is_not_believed() {
        for wrong in 0..QUESTIONS {
            let lying = answers_right(|_, outcomes| {
                for (i, outcome) in outcomes.iter_mut().enumerate() {
                    let right = (i % 3 != 2) != (i == wrong);
                    *outcome = if right { Outcome::Accept } else { Outcome::Refuse };
                }
            });
            assert!(!lying, "{wrong}");
        }
    }
}
