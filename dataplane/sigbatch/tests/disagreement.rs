//! A kernel that is wrong is found, written down, counted, and not used again in this process.
//!
//! The state is the process's, so this is a test program of its own, with one test that tells the story from end to end.

use sigbatch::proof::cases::Case;
use sigbatch::proof::draw::Draw;
use sigbatch::{AUDIT_EVERY, Audit, SigVerdict, Verifier, disagreements, first_disagreement};

#[test]
fn a_kernel_that_accepts_a_wrong_signature_is_turned_off_by_the_audit_of_another_thread() {
    let mut draw = Draw::new(61);
    let right = Case::signed(&mut draw, true);
    let wrong = Case::signed(&mut draw, false);
    let mut planted = Verifier::with_planted_kernel(true).with_audits_kept(8);
    let mut verdicts = vec![SigVerdict::default(); AUDIT_EVERY as usize];
    // Right signatures: the audit agrees with even this kernel.
    planted.verify_each(|_| right.check(), &mut verdicts);
    let audit = planted.take_audit().expect("one in so many is kept");
    assert!(std::thread::spawn(move || audit.run()).join().expect("an audit does not panic"));
    assert_eq!((disagreements(), planted.all_counts().audited), (0, 1));
    // Wrong ones: accepted, until the audit has come back.
    planted.verify_each(|_| wrong.check(), &mut verdicts);
    assert!(verdicts.iter().all(|verdict| verdict.is_valid()), "that is what a wrong kernel does");
    let kept = planted.take_audit().expect("one in so many is kept");
    let mut bytes = [0; Audit::LEN_MAX];
    let len = kept.encode(&mut bytes);
    let there = std::thread::spawn(move || Audit::decode(&bytes[..len]).map(|audit| audit.run()));
    assert_eq!(there.join().expect("an audit does not panic"), Some(false));
    assert_eq!(disagreements(), 1);
    let first = first_disagreement().expect("it was written down");
    assert_eq!((first.kernel, first.verdict), ("accepted", SigVerdict::Wrong));
    assert_eq!((&first.public_key, first.digest), (&wrong.key, wrong.digest));
    // From here on nobody asks a kernel, and the verifiers say why.
    for mut verifier in [planted, Verifier::new()] {
        verifier.verify_each(|_| wrong.check(), &mut verdicts);
        assert!(verdicts.iter().all(|verdict| *verdict == SigVerdict::Wrong));
        assert_eq!(verifier.kernel().name, "libsecp256k1");
        assert!(verifier.kernel().why.contains("disagreed"), "{}", verifier.kernel().why);
    }
    // A kernel that refuses what is right is found at once, and no verdict was wrong.
    let mut refusing = Verifier::with_planted_kernel(false);
    refusing.verify_each(|_| right.check(), &mut verdicts);
    assert!(verdicts.iter().all(|verdict| verdict.is_valid()));
}
