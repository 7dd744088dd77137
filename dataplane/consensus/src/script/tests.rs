//! What a caller of the interpreter would notice: bounds, budgets, caches, deferred checks, slices, odd rules.

use super::opcode::*;
use super::*;
use crate::tx::{self, OutPoint, Tx, TxIn, TxLayout, TxOut};
use secp256k1::{Message, PublicKey, SecretKey};

const GENESIS: Flags = Flags(0x5462f | 0x80000);
const CHRONICLE: Flags = Flags(0x15462f | 0x280000);
const PRE_GENESIS: Flags = Flags(0x1460f);
const CONSENSUS: Limits = Limits::consensus(0);

/// A transaction of `version` with one input holding `unlocking`.
fn spend(version: i32, unlocking: &[u8]) -> Vec<u8> {
    Tx {
        version,
        inputs: vec![TxIn {
            prev: OutPoint { txid: crate::hash::TxId([3; 32]), vout: 1 },
            unlocking_script: unlocking.to_vec(),
            sequence: 0xffff_fffe,
            coin: None,
        }],
        outputs: vec![TxOut { value_sat: 1_000, locking_script: vec![OP_1] }],
        lock_time: 0,
    }
    .to_bytes()
}

/// One run; everything but the scripts and flags has a default that a test can change.
struct Run<'a> {
    unlocking: &'a [u8],
    locking: &'a [u8],
    flags: Flags,
    version: i32,
    limits: Limits,
    budget: Budget,
}

impl<'a> Run<'a> {
    fn new(unlocking: &'a [u8], locking: &'a [u8], flags: Flags) -> Self {
        Self { unlocking, locking, flags, version: 1, limits: CONSENSUS, budget: Budget::UNLIMITED }
    }

    fn with<T>(
        &mut self,
        body: impl FnOnce(&mut Self, &TxContext<'_>, &mut SighashCache, &mut Scratch) -> T,
    ) -> T {
        let bytes = spend(self.version, self.unlocking);
        let mut layout = TxLayout::new();
        let view = tx::parse(&bytes, &mut layout).expect("a transaction");
        body(self, &TxContext::new(view, 0, 5_000), &mut SighashCache::new(), &mut Scratch::new())
    }

    fn check(&mut self, checker: &mut impl SigCheck) -> Outcome {
        self.with(|run, tx, sighash, scratch| {
            verify_script(
                run.unlocking,
                run.locking,
                run.flags,
                tx,
                sighash,
                checker,
                &run.limits,
                &mut run.budget,
                scratch,
            )
        })
    }

    fn collect(&mut self, batch: &mut SigBatch) -> Collected {
        self.with(|run, tx, sighash, scratch| {
            verify_collecting(
                run.unlocking,
                run.locking,
                run.flags,
                tx,
                sighash,
                batch,
                9,
                &run.limits,
                &mut run.budget,
                scratch,
            )
        })
    }

    fn outcome(&mut self) -> Outcome {
        self.check(&mut Immediate)
    }
}

/// Runs words of assembly as a locking script behind an empty unlocking script.
fn words(text: &str, flags: Flags) -> Outcome {
    let locking = crate::vectors::assemble(text).expect("assembly");
    Run::new(&[], &locking, flags).outcome()
}

fn rejected(error: ScriptError) -> Outcome {
    Outcome::Rejected(error)
}

fn key_pair() -> (SecretKey, [u8; 33]) {
    let secret = SecretKey::from_secret_bytes([7; 32]).expect("a key");
    (secret, PublicKey::from_secret_key(&secret).serialize())
}

/// A signature with hash type ALL|FORKID for the transaction of [`spend`] (its digest covers no unlocking script).
fn sign(locking: &[u8], version: i32) -> Vec<u8> {
    let bytes = spend(version, &[]);
    let mut layout = TxLayout::new();
    let view = tx::parse(&bytes, &mut layout).expect("a transaction");
    let digest = SighashCache::new()
        .digest(&view, 0, 0x41, 5_000, locking, true, &mut Budget::UNLIMITED.clone())
        .expect("no bound");
    let mut signature = secp256k1::ecdsa::sign(Message::from_digest(digest), &key_pair().0)
        .serialize_der()
        .to_vec();
    signature.push(0x41);
    signature
}

fn p2pkh() -> (Vec<u8>, Vec<u8>) {
    let key = key_pair().1;
    let mut locking = vec![OP_DUP, OP_HASH160];
    write_push(&mut locking, &crate::hash::hash160(&key));
    locking.extend([OP_EQUALVERIFY, OP_CHECKSIG]);
    let mut unlocking = Vec::new();
    write_push(&mut unlocking, &sign(&locking, 1));
    write_push(&mut unlocking, &key);
    (unlocking, locking)
}

/// Counts the checks that are really made.
struct Counting(usize);

impl SigCheck for Counting {
    fn check(&mut self, pubkey: &[u8], sig_der: &[u8], digest: &[u8; 32]) -> bool {
        self.0 += 1;
        Immediate.check(pubkey, sig_der, digest)
    }
}

#[test]
fn a_payment_to_a_key_hash_is_spent_by_its_key_and_by_no_other_signature() {
    let (unlocking, locking) = p2pkh();
    assert_eq!(Run::new(&unlocking, &locking, GENESIS).outcome(), Outcome::Accepted);
    let mut bad = unlocking.clone();
    bad[20] ^= 1;
    assert_eq!(Run::new(&bad, &locking, GENESIS).outcome(), rejected(ScriptError::SigNullFail));
    let mut wrong_key = unlocking.clone();
    *wrong_key.last_mut().expect("bytes") ^= 1;
    assert_eq!(
        Run::new(&wrong_key, &locking, GENESIS).outcome(),
        rejected(ScriptError::EqualVerify)
    );
}

#[test]
fn a_quarter_million_equal_checks_are_made_once() {
    // 245,001 CHECKSIGVERIFYs over a script code of 490 kB: checked one by one this hashes 120 GB.
    let mut locking = [OP_2DUP, OP_CHECKSIGVERIFY].repeat(245_000);
    locking.extend([OP_CHECKSIGVERIFY, OP_1]);
    let mut unlocking = Vec::new();
    write_push(&mut unlocking, &sign(&locking, 1));
    write_push(&mut unlocking, &key_pair().1);

    let mut run = Run::new(&unlocking, &locking, GENESIS);
    run.budget.hashed_bytes = 1_000_000;
    run.budget.operations = 3_000_000;
    let mut counting = Counting(0);
    let start = std::time::Instant::now();
    assert_eq!(run.check(&mut counting), Outcome::Accepted);
    assert_eq!(counting.0, 1);
    if cfg!(not(debug_assertions)) {
        assert!(start.elapsed().as_millis() < 1_500, "took {:?}", start.elapsed());
    }

    let mut batch = SigBatch::with_capacity(1);
    assert_eq!(
        Run::new(&unlocking, &locking, GENESIS).collect(&mut batch),
        Collected::Assuming { checks: 1 }
    );
    assert!(Immediate::decide(&batch.checks()[0]));
    assert_eq!(batch.checks()[0].tag, 9);
}

#[test]
fn the_same_signature_behind_a_code_separator_is_another_check() {
    let locking = [OP_2DUP, OP_CHECKSIGVERIFY, OP_CODESEPARATOR, OP_CHECKSIG, OP_NOT];
    let mut unlocking = Vec::new();
    write_push(&mut unlocking, &sign(&locking, 1));
    write_push(&mut unlocking, &key_pair().1);
    let mut counting = Counting(0);
    let mut run = Run::new(&unlocking, &locking, GENESIS.without(Flags::NULLFAIL));
    assert_eq!(run.check(&mut counting), Outcome::Accepted);
    assert_eq!(counting.0, 2);
}

#[test]
fn signatures_inside_the_unlocking_script_sign_it_and_the_locking_script() {
    // Chronicle, version 2: CHECKSIG runs in the unlocking script; its code starts behind the separator.
    let locking = [OP_1, OP_EQUAL];
    let tail = [OP_CHECKSIG];
    let code = [&tail[..], &locking[..]].concat();
    let mut unlocking = Vec::new();
    write_push(&mut unlocking, &sign(&code, 2));
    write_push(&mut unlocking, &key_pair().1);
    unlocking.push(OP_CODESEPARATOR);
    unlocking.extend(tail);
    let mut run = Run::new(&unlocking, &locking, CHRONICLE);
    run.version = 2;
    assert_eq!(run.outcome(), Outcome::Accepted);
    run.version = 1;
    assert_eq!(run.outcome(), rejected(ScriptError::SigPushOnly));
}

#[test]
fn a_script_that_wants_a_false_signature_is_accepted_also_when_checks_are_collected() {
    // CHECKSIG NOT without NULLFAIL: assumed true it fails, so the failure must not be believed.
    let (unlocking, _) = p2pkh();
    let locking = [OP_CHECKSIG, OP_NOT];
    let flags = GENESIS.without(Flags::NULLFAIL);
    assert_eq!(Run::new(&unlocking, &locking, flags).outcome(), Outcome::Accepted);
    let mut batch = SigBatch::with_capacity(4);
    assert_eq!(
        Run::new(&unlocking, &locking, flags).collect(&mut batch),
        Collected::Final(Outcome::Accepted)
    );
    assert!(batch.is_empty(), "a repeated run leaves nothing behind");
}

#[test]
fn what_needs_no_curve_is_decided_at_once_also_when_collecting() {
    let (unlocking, locking) = p2pkh();
    let mut batch = SigBatch::with_capacity(4);
    // An empty signature is false.
    let key = key_pair().1;
    let mut empty = vec![OP_0];
    write_push(&mut empty, &key);
    let got = Run::new(&empty, &locking, GENESIS).collect(&mut batch);
    assert_eq!(got, Collected::Final(rejected(ScriptError::EvalFalse)));
    // A signature that says nothing to the lax reader is false, where its encoding is not asked for.
    let mut garbage = vec![];
    write_push(&mut garbage, &[1, 2, 3, 0x01]);
    write_push(&mut garbage, &key);
    let got = Run::new(&garbage, &locking, Flags::P2SH).collect(&mut batch);
    assert_eq!(got, Collected::Final(rejected(ScriptError::EvalFalse)));
    // An encoding error is an error.
    let got = Run::new(&garbage, &locking, GENESIS).collect(&mut batch);
    assert_eq!(got, Collected::Final(rejected(ScriptError::SigDer)));
    assert!(batch.is_empty());
    // And a good one waits for its verdict.
    let got = Run::new(&unlocking, &locking, GENESIS).collect(&mut batch);
    assert_eq!(got, Collected::Assuming { checks: 1 });
    assert_eq!(batch.checks()[0].pubkey(), key);
}

#[test]
fn a_full_batch_ends_the_run_and_says_nothing_about_the_script() {
    let (unlocking, locking) = p2pkh();
    let mut batch = SigBatch::with_capacity(1);
    assert_eq!(
        Run::new(&unlocking, &locking, GENESIS).collect(&mut batch),
        Collected::Assuming { checks: 1 }
    );
    assert_eq!(
        Run::new(&unlocking, &locking, GENESIS).collect(&mut batch),
        Collected::Final(Outcome::BatchFull)
    );
    assert_eq!(batch.len(), 1, "the checks of the run before stay");
    batch.clear();
    assert_eq!(
        Run::new(&unlocking, &locking, GENESIS).collect(&mut batch),
        Collected::Assuming { checks: 1 }
    );
}

#[test]
fn each_part_of_the_budget_ends_a_run_before_the_work() {
    let (unlocking, locking) = p2pkh();
    let mut run = Run::new(&unlocking, &locking, GENESIS);
    run.budget = Budget { operations: 6, ..Budget::UNLIMITED };
    assert_eq!(run.outcome(), Outcome::BudgetExceeded(BudgetPart::Operations));
    let mut run = Run::new(&unlocking, &locking, GENESIS);
    run.budget = Budget { hashed_bytes: 200, ..Budget::UNLIMITED };
    assert_eq!(run.outcome(), Outcome::BudgetExceeded(BudgetPart::HashedBytes));
    // A product of two numbers of a million bytes is refused at once.
    let locking = crate::vectors::assemble("1 1000000 NUM2BIN 0x01 0x81 CAT DUP MUL DROP 1")
        .expect("assembly");
    let mut run = Run::new(&[], &locking, CHRONICLE);
    run.budget = Budget { bignum_cost: 1_000_000, ..Budget::UNLIMITED };
    assert_eq!(run.outcome(), Outcome::BudgetExceeded(BudgetPart::BignumCost));
    assert_eq!(run.budget.bignum_cost, 1_000_000, "nothing was charged for what was not done");
}

#[test]
fn what_a_payment_to_a_key_hash_costs_is_known() {
    let (unlocking, locking) = p2pkh();
    let mut run = Run::new(&unlocking, &locking, GENESIS);
    run.budget = Budget { operations: 10_000, hashed_bytes: 10_000, bignum_cost: 0 };
    assert_eq!(run.outcome(), Outcome::Accepted);
    assert_eq!(10_000 - run.budget.operations, 7 + 1 + SIGNATURE_CHECK_OPERATIONS);
    assert!(10_000 - run.budget.hashed_bytes < 512);
}

#[test]
fn a_scratch_made_for_a_budget_does_not_grow() {
    let budget = Budget { operations: 4_000, hashed_bytes: 4_000, bignum_cost: 0 };
    let mut scratch = Scratch::for_budget(&budget);
    let reserved = scratch.reserved_bytes();
    let (unlocking, locking) = p2pkh();
    let hungry = crate::vectors::assemble(
        "'0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'",
    )
    .expect("assembly");
    let scripts = [
        (unlocking, locking),
        (vec![], [hungry.clone(), [OP_DUP, OP_CAT].repeat(2_000)].concat()),
        (vec![], [hungry.clone(), [OP_3DUP].repeat(4_000)].concat()),
        (vec![], [hungry.clone(), [OP_DUP, OP_INVERT].repeat(4_000)].concat()),
        (vec![], [vec![OP_1], [OP_DUP, OP_IF].repeat(4_000)].concat()),
        (vec![], [vec![OP_1], [OP_DUP, OP_SHA256].repeat(4_000)].concat()),
        (vec![], [vec![OP_1], [OP_DUP, OP_TOALTSTACK].repeat(4_000)].concat()),
    ];
    for (unlocking, locking) in &scripts {
        Run::new(unlocking, locking, GENESIS).with(|run, tx, sighash, _| {
            let mut budget = budget;
            let limits = run.limits;
            verify_script(
                unlocking,
                locking,
                GENESIS,
                tx,
                sighash,
                &mut Immediate,
                &limits,
                &mut budget,
                &mut scratch,
            )
        });
        assert_eq!(scratch.reserved_bytes(), reserved);
    }
}

#[test]
fn stack_memory_counts_length_plus_32_over_both_stacks() {
    // Three items of 10 bytes, one of them on the alternative stack: 3 * 42 = 126.
    let text = "'0123456789' DUP DUP TOALTSTACK 2DROP 1";
    let locking = crate::vectors::assemble(text).expect("assembly");
    let mut run = Run::new(&[], &locking, GENESIS);
    run.limits = Limits::consensus(126);
    assert_eq!(run.outcome(), Outcome::Accepted);
    run.limits = Limits::consensus(125);
    assert_eq!(run.outcome(), rejected(ScriptError::StackSize));
    // CAT pops before it appends, so it never needs more than it leaves.
    let locking = crate::vectors::assemble("'0123456789' DUP CAT").expect("assembly");
    let mut run = Run::new(&[], &locking, GENESIS);
    run.limits = Limits::consensus(84);
    assert_eq!(run.outcome(), Outcome::Accepted);
    // NUM2BIN is refused before its bytes are made.
    let locking = crate::vectors::assemble("1 2147483647 NUM2BIN").expect("assembly");
    let mut run = Run::new(&[], &locking, GENESIS);
    run.limits = Limits::policy();
    assert_eq!(run.outcome(), rejected(ScriptError::StackSize));
    // Coins from before Genesis count items instead.
    let locking = [vec![OP_1; 1_000], vec![OP_DROP; 0]].concat();
    assert_eq!(Run::new(&[], &locking, PRE_GENESIS).outcome(), Outcome::Accepted);
    assert_eq!(
        Run::new(&[], &[OP_1; 1_001], PRE_GENESIS).outcome(),
        rejected(ScriptError::StackSize)
    );
}

#[test]
fn numbers_of_the_full_size_work_and_one_byte_more_does_not() {
    for (flags, size) in [(GENESIS, 750_000), (CHRONICLE, 32_000_000)] {
        // 1 padded to `size` bytes is no shortest encoding, but a number of exactly that size.
        let at = format!("1 {size} NUM2BIN 1ADD 2 NUMEQUAL");
        assert_eq!(words(&at, flags), Outcome::Accepted);
        let above = format!("1 {} NUM2BIN 1ADD 2 NUMEQUAL", size + 1);
        assert_eq!(words(&above, flags), rejected(ScriptError::ScriptNumOverflow));
        // BIN2NUM takes any length whose shortest form fits.
        let shrinks = format!("1 {} NUM2BIN BIN2NUM 1 EQUAL", size + 1);
        assert_eq!(words(&shrinks, flags), Outcome::Accepted);
        // 2^(8 * size - 1) - 1 plus itself needs one byte more.
        let full =
            format!("0x01 0x80 {size} NUM2BIN 0x01 0x00 CAT BIN2NUM DROP 1", size = size - 1);
        assert_eq!(words(&full, flags), Outcome::Accepted);
        let ones = format!("0 {size} NUM2BIN INVERT 1 {size} NUM2BIN 7 RSHIFT DROP ABS DUP ADD");
        assert_eq!(words(&ones, flags), rejected(ScriptError::ScriptNumOverflow));
    }
    assert_eq!(
        words("0x05 0x0100000000 1ADD", PRE_GENESIS),
        rejected(ScriptError::ScriptNumOverflow)
    );
}

#[test]
fn shifts_of_numbers_test_their_count_first_and_truncate_toward_zero() {
    assert_eq!(words("-3 1 RSHIFTNUM -1 NUMEQUAL", CHRONICLE), Outcome::Accepted);
    assert_eq!(words("-1 1 RSHIFTNUM 0 NUMEQUAL", CHRONICLE), Outcome::Accepted);
    assert_eq!(words("5 2147483647 RSHIFTNUM 0 NUMEQUAL", CHRONICLE), Outcome::Accepted);
    assert_eq!(words("5 2147483648 RSHIFTNUM", CHRONICLE), rejected(ScriptError::BigInt));
    assert_eq!(words("5 -1 LSHIFTNUM", CHRONICLE), rejected(ScriptError::InvalidNumberRange));
    assert_eq!(words("0 256000000 LSHIFTNUM 0 NUMEQUAL", CHRONICLE), Outcome::Accepted);
    assert_eq!(words("0 256000008 LSHIFTNUM", CHRONICLE), rejected(ScriptError::ScriptNumOverflow));
    assert_eq!(words("1 200 LSHIFTNUM 199 RSHIFTNUM 2 NUMEQUAL", CHRONICLE), Outcome::Accepted);
    // For older coins these opcodes are NOPs.
    assert_eq!(words("5 -1 LSHIFTNUM", GENESIS), Outcome::Accepted);
}

#[test]
fn verif_tests_equality_with_the_version_and_nests_only_for_chronicle_coins() {
    let locking =
        crate::vectors::assemble("0x04 0x02000000 VERIF 1 ELSE 0 ENDIF").expect("assembly");
    let mut run = Run::new(&[], &locking, CHRONICLE);
    run.version = 2;
    assert_eq!(run.outcome(), Outcome::Accepted);
    // The published text says "at least"; the code says equal.
    run.version = 3;
    assert_eq!(run.outcome(), rejected(ScriptError::EvalFalse));
    assert_eq!(words("0 IF VERIF ENDIF 1", GENESIS), Outcome::Accepted);
    assert_eq!(
        words("0 IF VERIF ENDIF 1", CHRONICLE),
        rejected(ScriptError::UnbalancedConditional)
    );
    assert_eq!(words("0 IF VERIF ENDIF ENDIF 1", CHRONICLE), Outcome::Accepted);
    assert_eq!(words("0 IF VERIF ENDIF 1", PRE_GENESIS), rejected(ScriptError::BadOpcode));
}

#[test]
fn a_return_inside_an_if_stops_running_but_not_parsing() {
    assert_eq!(words("1 RETURN 0x4c", GENESIS), Outcome::Accepted);
    assert_eq!(words("1 1 IF RETURN ENDIF 0x4c", GENESIS), rejected(ScriptError::BadOpcode));
    assert_eq!(words("1 1 IF RETURN ENDIF 0 VERIFY", GENESIS), Outcome::Accepted);
    assert_eq!(words("1 1 IF RETURN ENDIF RETURN 0x4c", GENESIS), Outcome::Accepted);
    assert_eq!(words("1 1 IF RETURN", GENESIS), rejected(ScriptError::UnbalancedConditional));
    assert_eq!(words("1 RETURN", PRE_GENESIS), rejected(ScriptError::OpReturn));
}

#[test]
fn operands_above_eight_bytes_of_substr_left_and_right_fold_as_in_sv_node() {
    // Ten bytes: byte 8 folds onto byte 0 and the last byte, with its sign, is ignored: 1 | 2 = 3.
    let nine = "0x0a 0x01000000000000000280";
    assert_eq!(words(&format!("'abcdef' {nine} LEFT 'abc' EQUAL"), CHRONICLE), Outcome::Accepted);
    assert_eq!(words(&format!("'abcdef' {nine} RIGHT 'def' EQUAL"), CHRONICLE), Outcome::Accepted);
    assert_eq!(
        words(&format!("'abcdef' {nine} 2 SUBSTR 'de' EQUAL"), CHRONICLE),
        Outcome::Accepted
    );
    // SPLIT reads the same bytes as the negative number they are.
    assert_eq!(
        words(&format!("'abcdef' {nine} SPLIT"), CHRONICLE),
        rejected(ScriptError::InvalidSplitRange)
    );
}

#[test]
fn slices_of_any_size_come_to_the_same_verdict() {
    let text = "1 IF 0x14 0x0102030405060708090a0b0c0d0e0f1011121314 DUP SHA256 CAT 40 SPLIT SWAP DROP SIZE 12 EQUALVERIFY DROP 1 ENDIF";
    let locking = crate::vectors::assemble(text).expect("assembly");
    let unlocking = [OP_1, OP_DROP - OP_DROP, 1, 7];
    for slice in 1..20 {
        let got = Run::new(&unlocking, &locking, GENESIS).with(|run, tx, sighash, scratch| {
            let mut machine =
                Machine::new(scratch, &unlocking, &locking, GENESIS, *tx, &run.limits);
            let mut steps = 0;
            loop {
                steps += 1;
                match machine.step(slice, sighash, &mut Immediate, &mut run.budget) {
                    Progress::More => assert!(steps < 40),
                    Progress::Done(outcome) => return (outcome, steps),
                }
            }
        });
        assert_eq!(got.0, Outcome::Accepted);
        assert_eq!(slice == 19, got.1 == 1, "slices of {slice}: {} steps", got.1);
    }
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    assert_eq!(words("1", Flags::UTXO_AFTER_CHRONICLE), rejected(ScriptError::InvalidFlags));
    assert_eq!(words("1", Flags::CLEANSTACK), rejected(ScriptError::InvalidFlags));
    assert_eq!(words("1 1", Flags::CLEANSTACK | Flags::P2SH), rejected(ScriptError::CleanStack));
}

#[test]
fn a_truth_is_judged_without_the_sign() {
    assert_eq!(words("0x01 0x80", GENESIS), rejected(ScriptError::EvalFalse));
    assert_eq!(words("0x02 0x0080", GENESIS), rejected(ScriptError::EvalFalse));
    assert_eq!(words("0x02 0x8000", GENESIS), Outcome::Accepted);
}
