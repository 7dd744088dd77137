//! The kernel against libsecp256k1: twenty-six kinds of cases, every batch size, every lane, Wycheproof.
//!
//! Each test runs the kernel in registers where the machine has them, and its model everywhere (on fewer cases: it is slow).
//! A seed can be given: `SIGBATCH_SEED=7 SIGBATCH_CASES=20000 cargo test -p sigbatch --test kernel`.

use sigbatch::proof::cases::{CATEGORIES, Case, draw_case};
use sigbatch::proof::draw::Draw;
use sigbatch::{Backend, DecidedBy, SigVerdict, Verifier, disagreements};

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The kernels that run here, and the share of the cases each gets.
fn kernels() -> Vec<(Verifier, u64)> {
    [(Backend::Avx512Ifma, 1), (Backend::Model, 8)]
        .into_iter()
        .filter_map(|(backend, part)| Some((Verifier::with_backend(backend)?, part)))
        .collect()
}

fn judge() -> Verifier {
    Verifier::with_backend(Backend::Secp256k1).expect("always there")
}

#[test]
fn this_machine_uses_the_kernel_when_it_has_the_instructions() {
    let expected = if Backend::Avx512Ifma.is_available() { "avx512ifma" } else { "libsecp256k1" };
    assert_eq!(Verifier::new().kernel().name, expected);
}

#[test]
fn every_category_gets_the_verdict_of_libsecp256k1() {
    let (seed, cases) = (from_env("SIGBATCH_SEED", 1), from_env("SIGBATCH_CASES", 4_000));
    let mut judge = judge();
    for (mut kernel, part) in kernels() {
        let cases = cases / part;
        let mut draw = Draw::new(seed);
        let mut done = 0;
        let mut accepted = [0u64; CATEGORIES];
        while done < cases {
            let count = 1 + draw.below(300) as usize;
            let rows: Vec<Case> = (0..count).map(|_| draw_case(&mut draw)).collect();
            let mut verdicts = vec![SigVerdict::default(); count];
            kernel.verify_each_telling(
                |i| rows[i].check(),
                &mut verdicts,
                |i, by| accepted[rows[i].category] += u64::from(by == DecidedBy::Kernel),
            );
            for (row, verdict) in rows.iter().zip(verdicts) {
                let expected = judge.verify_one(&row.check());
                assert_eq!(verdict, expected, "seed {seed}: {row:02x?}");
            }
            done += count as u64;
        }
        assert_eq!(disagreements(), 0);
        // Right signatures of every kind that blocks hold are accepted by the kernel, not by the way round it.
        for category in [0, 6, 15, 16, 17, 18] {
            let name = kernel.kernel().name;
            assert!(accepted[category] > 0, "category {category} never reached {name}");
        }
    }
}

#[test]
fn every_batch_size_gives_every_item_its_own_verdict() {
    for (mut kernel, _) in kernels() {
        let mut draw = Draw::new(3);
        for count in (0..=33).chain([255, 256, 257, 300]) {
            let rows: Vec<Case> = (0..count).map(|i| Case::signed(&mut draw, i % 3 != 1)).collect();
            let mut verdicts = vec![SigVerdict::BadKey; count];
            kernel.verify_each(|i| rows[i].check(), &mut verdicts);
            for (i, verdict) in verdicts.iter().enumerate() {
                assert_eq!(verdict.is_valid(), i % 3 != 1, "item {i} of {count}");
            }
        }
    }
}

#[test]
fn one_wrong_signature_is_found_in_every_lane_and_one_right_one_too() {
    for (mut kernel, part) in kernels() {
        let mut draw = Draw::new(4);
        for count in [8, 16, 29] {
            for odd_one in (0..count).step_by(part as usize) {
                for odd_is_right in [false, true] {
                    let rows: Vec<Case> = (0..count)
                        .map(|i| Case::signed(&mut draw, (i == odd_one) == odd_is_right))
                        .collect();
                    let mut verdicts = vec![SigVerdict::default(); count];
                    kernel.verify_each(|i| rows[i].check(), &mut verdicts);
                    for (i, verdict) in verdicts.iter().enumerate() {
                        assert_eq!(verdict.is_valid(), (i == odd_one) == odd_is_right, "lane {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn shuffled_items_keep_their_verdicts() {
    for (mut kernel, part) in kernels() {
        let mut draw = Draw::new(5);
        let rows: Vec<Case> = (0..64).map(|_| draw_case(&mut draw)).collect();
        let mut straight = vec![SigVerdict::default(); 64];
        kernel.verify_each(|i| rows[i].check(), &mut straight);
        for _ in 0..24 / part {
            let mut order: Vec<usize> = (0..64).collect();
            for i in (1..64).rev() {
                order.swap(i, draw.below(i as u64 + 1) as usize);
            }
            let mut verdicts = vec![SigVerdict::default(); 64];
            kernel.verify_each(|i| rows[order[i]].check(), &mut verdicts);
            for (i, verdict) in verdicts.iter().enumerate() {
                assert_eq!(*verdict, straight[order[i]]);
            }
        }
    }
}

#[test]
fn one_accepted_signature_in_256_is_verified_again() {
    let mut draw = Draw::new(6);
    let row = Case::signed(&mut draw, true);
    for (mut kernel, _) in kernels() {
        let mut verdicts = vec![SigVerdict::default(); 1_024];
        kernel.verify_each(|_| row.check(), &mut verdicts);
        assert_eq!((kernel.all_counts().by_kernel, kernel.all_counts().audited), (1_024, 4));
        let mut keeping = kernel.with_audits_kept(3);
        keeping.verify_each(|_| row.check(), &mut verdicts);
        let waiting: Vec<_> = std::iter::from_fn(|| keeping.take_audit()).collect();
        assert_eq!(waiting.len(), 3, "what there is no room for is verified at once");
        assert!(waiting.iter().all(sigbatch::Audit::run));
        assert_eq!(disagreements(), 0);
    }
}
