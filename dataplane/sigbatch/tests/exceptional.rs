//! Points and numbers at which a verifier stumbles, one by one: infinity, P + P, P - P, keys that stand in the tables of G,
//! u1 or u2 of 0, r + n below p, and both ends of every range.
//!
//! What the verdict must be is known from how each case is made, and libsecp256k1 is asked as well. In registers where the
//! machine has them, and in the model everywhere.

use secp256k1::{PublicKey, SecretKey};
use sigbatch::proof::cases::{Case, LAMBDA, bytes_of, inverse, minus, special, times};
use sigbatch::proof::draw::Draw;
use sigbatch::{Backend, Check, DecidedBy, SigVerdict, Signature, Verifier, disagreements};

type Scalar32 = [u8; 32];

fn small(k: u64) -> Scalar32 {
    bytes_of(&[k, 0, 0, 0])
}

fn power_of_two(bit: usize) -> Scalar32 {
    let mut words = [0; 4];
    words[bit / 64] = 1 << (bit % 64);
    bytes_of(&words)
}

/// Keys that are known to tables: small multiples of G, of lambda G, of 2^i G, of either sign.
fn secrets() -> Vec<Scalar32> {
    let lambda = bytes_of(&LAMBDA);
    let mut out: Vec<Scalar32> = (1..=33).map(small).collect();
    out.extend([65_533, 65_535, 65_537].map(small));
    out.extend([lambda, times(&lambda, &lambda), inverse(&small(2)), inverse(&small(3))]);
    out.extend((1..255).step_by(11).map(power_of_two));
    out.extend([127, 128, 129, 130].map(power_of_two));
    out.extend((1..8).map(|k| times(&lambda, &small(k))));
    let opposite: Vec<Scalar32> = out.iter().map(minus).collect();
    out.extend(opposite);
    out
}

/// The verdicts of every kernel here, each compared with libsecp256k1's; and who decided.
fn verdicts(rows: &[Check<'_>], part: usize) -> Vec<(SigVerdict, DecidedBy)> {
    let mut judge = Verifier::with_backend(Backend::Secp256k1).expect("always there");
    let expected: Vec<SigVerdict> = rows.iter().map(|row| judge.verify_one(row)).collect();
    let mut out: Vec<_> = expected.iter().map(|v| (*v, DecidedBy::Secp256k1)).collect();
    for (backend, step) in [(Backend::Avx512Ifma, 1), (Backend::Model, part)] {
        let Some(mut kernel) = Verifier::with_backend(backend) else { continue };
        let rows: Vec<(usize, &Check<'_>)> = rows.iter().enumerate().step_by(step).collect();
        let mut verdicts = vec![SigVerdict::default(); rows.len()];
        kernel.verify_each_telling(|i| *rows[i].1, &mut verdicts, |i, by| out[rows[i].0].1 = by);
        for ((i, row), verdict) in rows.iter().zip(verdicts) {
            assert_eq!(verdict, expected[*i], "{backend:?}: {row:02x?}");
        }
    }
    assert_eq!(disagreements(), 0);
    out
}

fn all_of(cases: &[Case], part: usize) -> Vec<(SigVerdict, DecidedBy)> {
    let checks: Vec<Check<'_>> = cases.iter().map(Case::check).collect();
    verdicts(&checks, part)
}

#[test]
fn keys_that_stand_in_the_tables_are_verified() {
    let mut draw = Draw::new(31);
    let mut cases = Vec::new();
    for d in secrets() {
        for _ in 0..2 {
            let (u1, u2) = (draw.bytes(), draw.bytes());
            cases.extend(Case::of_scalars(&u1, &u2, &d));
        }
    }
    assert!(cases.len() > 250, "{} cases", cases.len());
    let got = all_of(&cases, 9);
    assert!(got.iter().all(|(verdict, _)| verdict.is_valid()));
    let by_kernel = got.iter().filter(|(_, by)| *by == DecidedBy::Kernel).count();
    assert!(by_kernel * 10 > got.len() * 9 || !Backend::Avx512Ifma.is_available(), "{by_kernel}");
}

#[test]
fn a_sum_at_infinity_is_never_right_and_its_double_is() {
    let mut draw = Draw::new(32);
    let (mut infinite, mut doubled) = (Vec::new(), Vec::new());
    for d in secrets() {
        for u2 in [draw.bytes(), special(&mut draw)] {
            let product = times(&u2, &d);
            // u1 G = -u2 Q: nothing is left. u1 G = u2 Q: the last addition doubles, or lambda meets itself.
            infinite.extend(Case::of_scalars(&minus(&product), &u2, &d));
            doubled.extend(Case::of_scalars(&product, &u2, &d));
        }
    }
    assert!(infinite.len() > 250 && doubled.len() > 250);
    assert!(all_of(&infinite, 11).iter().all(|(verdict, _)| *verdict == SigVerdict::Wrong));
    assert!(all_of(&doubled, 11).iter().all(|(verdict, _)| verdict.is_valid()));
}

#[test]
fn partial_sums_that_collide_are_decided_right() {
    let mut draw = Draw::new(33);
    let mut cases = Vec::new();
    let scalars = secrets();
    for (i, d) in scalars.iter().enumerate() {
        for (j, u2) in scalars.iter().enumerate().skip(i % 7).step_by(7) {
            let u1 =
                if j % 2 == 0 { scalars[(i * 31 + j) % scalars.len()] } else { special(&mut draw) };
            cases.extend(Case::of_scalars(&u1, u2, d));
        }
    }
    assert!(cases.len() > 2_000, "{} cases", cases.len());
    let got = all_of(&cases, 67);
    let right = got.iter().filter(|(verdict, _)| verdict.is_valid()).count();
    // Only a sum at infinity makes one of them wrong, and few are.
    assert!(right * 20 > got.len() * 19, "{right} of {}", got.len());
}

#[test]
fn a_digest_of_0_or_n_means_u1_is_0_and_the_kernel_says_so_itself() {
    let mut draw = Draw::new(34);
    let n = secp256k1::constants::CURVE_ORDER;
    let mut cases = Vec::new();
    for _ in 0..32 {
        let d = draw.bytes();
        let case = Case::of_scalars(&[0; 32], &draw.bytes(), &d).expect("random scalars");
        cases.push(Case { digest: n, ..case.clone() });
        cases.push(case);
    }
    let got = all_of(&cases, 8);
    assert!(got.iter().all(|(verdict, _)| verdict.is_valid()));
    if Backend::Avx512Ifma.is_available() {
        assert!(got.iter().all(|(_, by)| *by == DecidedBy::Kernel));
    }
}

#[test]
fn r_and_s_outside_their_range_are_never_right() {
    let n = secp256k1::constants::CURVE_ORDER;
    let above = |k: u8| {
        let mut out = n;
        out[31] += k;
        out
    };
    let mut draw = Draw::new(35);
    let row = Case::signed(&mut draw, true);
    let ends = [[0; 32], n, above(1), above(2), [0xff; 32]];
    let mut cases = Vec::new();
    for end in ends {
        for half in [0, 32] {
            let mut case = Case { der: None, ..row.clone() };
            case.compact[half..half + 32].copy_from_slice(&end);
            cases.push(case);
        }
    }
    for (verdict, by) in all_of(&cases, 1) {
        assert!(!verdict.is_valid());
        assert_eq!(by, DecidedBy::Secp256k1);
    }
    // r + n and s + n, where they fit into 32 bytes, are other numbers and not right either.
    let key = PublicKey::from_secret_key(&SecretKey::from_secret_bytes([1; 32]).expect("in range"));
    let mut past = Vec::new();
    for k in 1..20u8 {
        let mut compact = [0; 64];
        compact[..32].copy_from_slice(&above(k));
        compact[63] = 1;
        let key = key.serialize().to_vec();
        past.push(Case { category: 0, key, digest: [k; 32], compact, der: None });
    }
    assert!(all_of(&past, 1).iter().all(|(verdict, _)| !verdict.is_valid()));
}

#[test]
fn both_numbers_that_a_small_r_stands_for_are_right() {
    // Category 22 makes keys for an r whose point has x = r, or x = r + n, which is below p only for such an r.
    let mut draw = Draw::new(36);
    let mut rows = Vec::new();
    while rows.len() < 48 {
        let case = sigbatch::proof::cases::draw_case(&mut draw);
        if case.category == 22 {
            rows.push(case);
        }
    }
    assert!(all_of(&rows, 3).iter().all(|(verdict, _)| verdict.is_valid()));
    for row in &mut rows {
        row.compact[31] ^= 1;
    }
    assert!(all_of(&rows, 3).iter().all(|(verdict, _)| !verdict.is_valid()));
}

#[test]
fn lengths_and_prefixes_of_keys_that_do_not_exist_are_bad_keys() {
    let mut draw = Draw::new(37);
    let row = Case::compressed(&mut draw);
    let der = row.der.as_deref().expect("compressed rows are DER");
    let long = PublicKey::from_slice(&row.key).expect("a key").serialize_uncompressed();
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for len in 0..70 {
        let mut key = long.to_vec();
        key.resize(len, 0);
        keys.push(key);
    }
    for prefix in 0..=255 {
        for form in [&row.key[..], &long[..]] {
            let mut key = form.to_vec();
            key[0] = prefix;
            keys.push(key);
        }
    }
    let checks: Vec<Check<'_>> = keys
        .iter()
        .map(|key| Check { public_key: key, digest: &row.digest, signature: Signature::Der(der) })
        .collect();
    for (check, (verdict, _)) in checks.iter().zip(verdicts(&checks, 5)) {
        let key = check.public_key;
        let same_key = match (key.len(), key.first()) {
            (33, Some(prefix)) => *prefix == row.key[0],
            (65, Some(prefix)) => *prefix == 4 || *prefix == row.key[0] + 4,
            _ => false,
        };
        assert_eq!(verdict.is_valid(), same_key, "{key:02x?}");
    }
}
