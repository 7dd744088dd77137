//! One test, one story.

use super::*;
use consensus::rules::TxReject;
use consensus::script::ScriptError;

/// Two validators, three shards, and every placement the ids give.
fn world() -> World {
    World::new(2, 3)
}

#[test]
fn a_signed_transaction_is_accepted_and_leaves_nothing_behind() {
    for shards in [1, 3] {
        let mut w = World::new(1, shards);
        let a = w.coin(1, 1_000, &p2pkh(1), 100);
        let b = w.coin(2, 500, &p2pkh(2), 100);
        let mut t = tx(&[a, b], &[1_200, 200]);
        sign(&mut t, 0, 1, 1_000);
        sign(&mut t, 1, 2, 500);
        let token = w.offer(&t.to_bytes());
        w.settle();
        let verdict = w.expect(token, TxVerdict::Accepted);
        assert_eq!((verdict.fee_sat, verdict.txid), (100, t.txid()));
        assert_eq!(w.nodes[0].counts.signatures_batched, 2);
        assert_eq!(w.nodes[0].counts.commits, u64::from(shards == 1));
        w.expect_clean();
        let logged: u32 = w.shards.iter().map(|s| s.logged).sum();
        assert_eq!(logged, u32::from(shards != 1), "home hears when every spend is logged");
    }
}

#[test]
fn a_wrong_signature_is_told_with_its_input_and_its_error() {
    let mut w = world();
    let a = w.coin(1, 1_000, &p2pkh(1), 100);
    let b = w.coin(2, 500, &p2pkh(2), 100);
    let mut t = tx(&[a, b], &[1_000]);
    sign(&mut t, 0, 1, 1_000);
    sign(&mut t, 1, 2, 501);
    let token = w.offer(&t.to_bytes());
    let mut good = tx(&[a], &[1_000]);
    sign(&mut good, 0, 1, 1_000);
    let other = w.offer(&good.to_bytes());
    w.settle();
    let verdict = w.expect(token, TxVerdict::ScriptFailed);
    assert_eq!(verdict.vin, 1);
    assert_eq!(ScriptError::from_number(verdict.detail), Some(ScriptError::SigNullFail));
    w.expect(other, TxVerdict::Accepted);
    w.expect_clean();
}

#[test]
fn bytes_that_are_no_transaction_are_malformed() {
    let mut w = world();
    let t = tx(&[w.coin(1, 10, OP_TRUE, 1)], &[5]).to_bytes();
    let short = w.offer(&t[..t.len() - 1]);
    let long = w.offer(&[&t[..], &[0]].concat());
    let none = w.offer(&[]);
    w.settle();
    for token in [short, long, none] {
        w.expect(token, TxVerdict::Malformed);
    }
    w.expect_clean();
}

#[test]
fn rules_without_coins_come_first() {
    let mut w = world();
    let a = w.coin(1, 10, OP_TRUE, 1);
    let twice = w.offer(&tx(&[a, a], &[5]).to_bytes());
    let mut late = tx(&[a], &[5]);
    late.lock_time = HEIGHT;
    late.inputs[0].sequence = 0;
    let late = w.offer(&late.to_bytes());
    let coinbase = w.offer(&tx(&[OutPoint::NULL], &[5]).to_bytes());
    w.settle();
    w.expect(twice, TxVerdict::Invalid);
    w.expect(late, TxVerdict::NonFinal);
    w.expect(coinbase, TxVerdict::Invalid);
    w.expect_clean();
}

#[test]
fn nobody_spends_more_than_he_has() {
    let mut w = world();
    let a = w.coin(1, 10, OP_TRUE, 1);
    let raw = w.offer(&tx(&[a], &[11]).to_bytes());
    w.settle();
    w.expect(raw, TxVerdict::Invalid);
    // The claim would make it valid; the truth does not.
    let liar = w.offer(&extended(&tx(&[a], &[11]), &[(20, OP_TRUE)]));
    w.settle();
    w.expect(liar, TxVerdict::CoinMismatch);
    w.expect_clean();
}

#[test]
fn a_second_copy_joins_the_first_and_a_third_is_known() {
    let mut w = world();
    let t = tx(&[w.coin(1, 10, OP_TRUE, 1)], &[5]).to_bytes();
    let first = w.offer(&t);
    let second = w.offer(&t);
    w.settle();
    let third = w.offer(&t);
    w.settle();
    w.expect(first, TxVerdict::Accepted);
    w.expect(second, TxVerdict::Known);
    w.expect(third, TxVerdict::Known);
    assert_eq!(w.accepted(), 1);
    w.expect_clean();
}

#[test]
fn a_double_spend_names_the_winner() {
    let mut w = world();
    let a = w.coin(1, 10, OP_TRUE, 1);
    let (one, two) = (tx(&[a], &[5]), tx(&[a], &[6]));
    let first = w.offer(&one.to_bytes());
    w.settle();
    let second = w.offer(&two.to_bytes());
    w.settle();
    w.expect(first, TxVerdict::Accepted);
    assert_eq!(w.expect(second, TxVerdict::DoubleSpend).other, one.txid());
    w.expect_clean();
}

#[test]
fn of_two_at_once_one_is_accepted_and_the_other_is_told() {
    let mut w = world();
    for n in 0..20 {
        let coins = [w.coin(2 * n, 10, OP_TRUE, 1), w.coin(2 * n + 1, 10, OP_TRUE, 1)];
        let one = w.offer(&tx(&coins, &[i64::from(n)]).to_bytes());
        let two = w.offer(&tx(&[coins[1], coins[0]], &[i64::from(n) + 1]).to_bytes());
        w.settle();
        let verdicts = [one, two].map(|t| w.verdict(t).expect("decided").verdict);
        assert!(verdicts.contains(&TxVerdict::Accepted), "{verdicts:?}");
        assert!(verdicts.contains(&TxVerdict::DoubleSpend), "{verdicts:?}");
    }
    assert_eq!(w.accepted(), 20);
    w.expect_clean();
}

#[test]
fn a_chain_of_unconfirmed_transactions_is_accepted_in_one_go() {
    let mut w = world();
    let mut prev = w.coin(1, 1_000, OP_TRUE, 1);
    let mut tokens = Vec::new();
    let mut ids = Vec::new();
    for n in 0..25 {
        let t = tx(&[prev], &[999 - n]);
        prev = out(&t, 0);
        ids.push(t.txid());
        tokens.push(w.offer(&t.to_bytes()));
    }
    w.settle();
    for token in tokens {
        w.expect(token, TxVerdict::Accepted);
    }
    w.expect_clean();
}

#[test]
fn a_child_that_arrives_first_is_woken_by_its_parent() {
    let mut w = world();
    let parent = tx(&[w.coin(1, 10, OP_TRUE, 1)], &[9]);
    let child = tx(&[out(&parent, 0)], &[8]);
    let grandchild = tx(&[out(&child, 0)], &[7]);
    let last = w.offer(&grandchild.to_bytes());
    w.settle();
    let middle = w.offer(&child.to_bytes());
    w.settle();
    assert_eq!(w.verdict(middle), None);
    let orphans: usize = w.nodes.iter().map(|n| n.orphans.len()).sum();
    assert_eq!(orphans, 2);
    let first = w.offer(&parent.to_bytes());
    w.settle();
    for token in [first, middle, last] {
        w.expect(token, TxVerdict::Accepted);
    }
    w.expect_clean();
}

#[test]
fn a_child_of_a_rejected_parent_is_rejected() {
    let mut w = world();
    let a = w.coin(1, 10, &[0x00], 1);
    let parent = tx(&[a], &[9]);
    let child = tx(&[out(&parent, 0)], &[8]);
    let child_token = w.offer(&child.to_bytes());
    w.settle();
    let parent_token = w.offer(&parent.to_bytes());
    w.settle();
    w.expect(parent_token, TxVerdict::ScriptFailed);
    assert_eq!(w.expect(child_token, TxVerdict::ParentRejected).other, parent.txid());
    w.expect_clean();
}

#[test]
fn an_orphan_expires_by_age_and_its_copies_with_it() {
    let mut w = world();
    let nowhere = OutPoint { txid: TxId([9; 32]), vout: 0 };
    let t = tx(&[nowhere], &[1]);
    let first = w.offer(&t.to_bytes());
    w.settle();
    let again = w.offer(&t.to_bytes());
    w.settle();
    for node in &mut w.nodes {
        node.tick(9_000_000_000);
    }
    w.settle();
    assert_eq!(w.verdict(first), None);
    for node in &mut w.nodes {
        node.tick(11_000_000_000);
    }
    w.settle();
    w.expect(first, TxVerdict::OrphanExpired);
    w.expect(again, TxVerdict::OrphanExpired);
    w.expect_clean();
}

#[test]
fn a_full_orphan_pool_throws_one_out_and_never_stops_ingest() {
    let mut w = World::new(1, 2);
    let mut tokens = Vec::new();
    for n in 0..100_u8 {
        let t = tx(&[OutPoint { txid: TxId([n; 32]), vout: 7 }], &[1]);
        let source = u32::from(n % 10);
        tokens.push(w.offer_as(&t.to_bytes(), IngestHeader { source, ..IngestHeader::default() }));
        w.settle();
        assert!(w.nodes[0].orphans.len() <= 16);
    }
    assert_eq!(w.nodes[0].orphans.len(), 16);
    let expired = tokens.iter().filter(|t| w.verdict(**t).is_some()).count();
    assert_eq!(expired, 84);
}

#[test]
fn an_orphan_with_much_memory_makes_way_for_a_parent_that_needs_it() {
    let mut w = World::with(1, 1, Bounds { medium_max: 1, ..Bounds::small() });
    let a = w.coin(1, 100_000, OP_TRUE, 100);
    let parent = tx(&[a], &[100; 40]);
    let spends: Vec<OutPoint> = (0..40).map(|vout| out(&parent, vout)).collect();
    let child = tx(&spends, &[3_000]);
    let first = w.offer(&child.to_bytes());
    w.settle();
    let second = w.offer(&parent.to_bytes());
    w.settle();
    w.expect(second, TxVerdict::Accepted);
    w.expect(first, TxVerdict::OrphanExpired);
    let again = w.offer(&child.to_bytes());
    w.settle();
    w.expect(again, TxVerdict::Accepted);
    w.expect_clean();
}

#[test]
fn an_extended_copy_needs_no_answer_before_its_scripts_run() {
    let mut w = world();
    let a = w.coin(1, 1_000, &p2pkh(1), 15_000);
    let mut t = tx(&[a], &[900]);
    sign(&mut t, 0, 1, 1_000);
    let token = w.offer(&extended(&t, &[(1_000, &p2pkh(1))]));
    let runs: u64 = w.nodes.iter().map(|n| n.counts.inputs_run).sum();
    assert_eq!(runs, 1, "the claim was run in the turn it came");
    w.settle();
    w.expect(token, TxVerdict::Accepted);
    w.expect_clean();
}

#[test]
fn a_signature_waits_for_company_but_no_longer_than_200_us() {
    let mut w = World::new(1, 1);
    let a = w.coin(1, 1_000, &p2pkh(1), 15_000);
    let mut t = tx(&[a], &[900]);
    sign(&mut t, 0, 1, 1_000);
    let token = w.offer(&extended(&t, &[(1_000, &p2pkh(1))]));
    let began_ns = 7_000;
    for (after_ns, batches) in [(0, 0), (100_000, 0), (199_999, 0), (200_000, 1)] {
        w.nodes[0].begin_turn();
        w.nodes[0].end_turn(false, began_ns + after_ns);
        assert_eq!(w.nodes[0].counts.signature_batches, batches, "after {after_ns} ns");
    }
    w.settle();
    w.expect(token, TxVerdict::Accepted);
    assert_eq!(w.nodes[0].counts.signature_batches, 1);
}

#[test]
fn what_does_not_fill_a_round_waits_for_company() {
    let mut w = World::new(1, 1);
    w.nodes[0].begin_turn();
    for n in 0..21 {
        let coin = w.coin(n, 1_000, &p2pkh(1), 100);
        let mut t = tx(&[coin], &[900]);
        sign(&mut t, 0, 1, 1_000);
        w.offer(&extended(&t, &[(1_000, &p2pkh(1))]));
    }
    for (now_ns, verified) in [(0, 16), (150_000, 16), (200_000, 21)] {
        w.nodes[0].end_turn(false, now_ns);
        assert_eq!(w.nodes[0].counts.signatures_batched, verified, "at {now_ns} ns");
        w.nodes[0].begin_turn();
    }
    w.settle();
    w.expect_clean();
    assert_eq!(w.nodes[0].counts.of(TxVerdict::Accepted), 21);
}

#[test]
fn a_batch_that_fills_is_verified_in_its_turn() {
    let mut w = World::new(1, 1);
    let most = Bounds::small().signatures_max;
    let coins: Vec<OutPoint> =
        (0..most as u32 / 2).map(|n| w.coin(n, 1_000, &p2pkh(1), 100)).collect();
    for (i, coin) in coins.iter().enumerate() {
        let mut t = tx(&[*coin], &[900]);
        sign(&mut t, 0, 1, 1_000);
        w.offer(&extended(&t, &[(1_000, &p2pkh(1))]));
        w.nodes[0].begin_turn();
        w.nodes[0].end_turn(false, 0);
        let full = i + 1 == coins.len();
        assert_eq!(w.nodes[0].counts.signature_batches, u64::from(full), "signature {i}");
    }
    assert_eq!(w.nodes[0].counts.signatures_batched, coins.len() as u64);
}

#[test]
fn a_coin_from_another_era_is_run_again_under_its_own_rules() {
    let mut w = world();
    let a = w.coin(1, 1_000, &p2pkh(1), 500);
    let mut t = tx(&[a], &[900]);
    sign(&mut t, 0, 1, 1_000);
    let token = w.offer(&extended(&t, &[(1_000, &p2pkh(1))]));
    w.settle();
    w.expect(token, TxVerdict::Accepted);
    let differed: u64 = w.nodes.iter().map(|n| n.counts.differed).sum();
    assert_eq!(differed, 1);
    w.expect_clean();
}

#[test]
fn a_lying_copy_fails_alone_and_the_honest_ones_are_tried() {
    for liar_first in [true, false] {
        for lie in [(2_000, p2pkh(1)), (1_000, OP_TRUE.to_vec()), (1_000, vec![0x00])] {
            let mut w = world();
            let a = w.coin(1, 1_000, &p2pkh(1), 15_000);
            let mut t = tx(&[a], &[900]);
            sign(&mut t, 0, 1, 1_000);
            let truth = extended(&t, &[(1_000, &p2pkh(1))]);
            let lie = extended(&t, &[(lie.0, &lie.1)]);
            let (liar, honest) = if liar_first {
                (w.offer(&lie), w.offer(&truth))
            } else {
                let honest = w.offer(&truth);
                (w.offer(&lie), honest)
            };
            let raw = w.offer(&t.to_bytes());
            w.settle();
            w.expect(liar, TxVerdict::CoinMismatch);
            w.expect(honest, TxVerdict::Accepted);
            w.expect(raw, TxVerdict::Known);
            w.expect_clean();
        }
    }
}

#[test]
fn a_liar_alone_is_told_and_nothing_is_created() {
    let mut w = world();
    let a = w.coin(1, 1_000, &p2pkh(1), 15_000);
    let t = tx(&[a], &[900]);
    let token = w.offer(&extended(&t, &[(1_000, OP_TRUE)]));
    w.settle();
    w.expect(token, TxVerdict::CoinMismatch);
    assert_eq!(w.accepted(), 0);
    w.expect_clean();
}

#[test]
fn a_large_transaction_is_taken_in_pieces() {
    let mut w = world();
    let coins: Vec<OutPoint> = (0..3_000).map(|n| w.coin(n, 10, OP_TRUE, 1)).collect();
    let big = tx(&coins, &vec![1; 2_000]);
    let token = w.offer(&big.to_bytes());
    let child = tx(&[out(&big, 1_999)], &[1]);
    let child = w.offer(&child.to_bytes());
    w.settle();
    let verdict = w.expect(token, TxVerdict::Accepted);
    assert_eq!(verdict.fee_sat, 28_000);
    w.expect(child, TxVerdict::Accepted);
    w.expect_clean();
}

#[test]
fn a_block_judges_in_its_own_order_and_says_when_it_waits_for_a_parent() {
    let mut w = World::new(1, 2);
    w.open_block(7, 20_000, false);
    let a = w.coin(1, 1_000, OP_TRUE, 1);
    let mut coinbase = tx(&[OutPoint::NULL], &[5_000_000_000]);
    coinbase.inputs[0].unlocking_script = vec![2, 0x20, 0x4e];
    let parent = tx(&[a], &[900]);
    let child = tx(&[out(&parent, 0)], &[800]);
    let stray = tx(&[OutPoint { txid: TxId([9; 32]), vout: 0 }], &[1]);
    let tokens: Vec<u64> = [&coinbase, &parent, &child, &stray]
        .iter()
        .enumerate()
        .map(|(i, t)| {
            let header = IngestHeader { block: 7, index: i as u32, ..IngestHeader::default() };
            w.offer_as(&t.to_bytes(), header)
        })
        .collect();
    w.settle();
    w.expect(tokens[0], TxVerdict::Accepted);
    assert_eq!(w.expect(tokens[1], TxVerdict::Accepted).fee_sat, 100);
    assert_eq!(w.expect(tokens[2], TxVerdict::Accepted).fee_sat, 100);
    let [notice] = w.notices[..] else { panic!("{:?}", w.notices) };
    assert_eq!((notice.token, notice.block, notice.vin), (tokens[3], 7, 0));
    assert_eq!(notice.other, TxId([9; 32]), "who knows the block knows that this never comes");
    assert_eq!(w.verdict(tokens[3]), None);
    w.control(ValidateControl::CloseBlock { block: 7 });
    w.control(ValidateControl::CloseBlock { block: 7 });
    w.settle();
    let missing = w.expect(tokens[3], TxVerdict::MissingInput);
    assert_eq!((missing.block, missing.other, missing.detail), (7, TxId([9; 32]), 0));
    w.expect_clean();
}

#[test]
fn the_end_of_a_block_ends_what_waits_for_a_parent_with_another_coordinator() {
    let mut w = world();
    w.open_block(7, 20_000, false);
    let stray = tx(&[OutPoint { txid: TxId([9; 32]), vout: 0 }], &[1]);
    let header = IngestHeader { block: 7, index: 3, ..IngestHeader::default() };
    let token = w.offer_as(&stray.to_bytes(), header);
    w.settle();
    w.control(ValidateControl::CloseBlock { block: 7 });
    w.settle();
    assert_eq!(w.verdict(token), None, "others may be behind");
    w.control(ValidateControl::CloseBlock { block: 7 });
    w.settle();
    w.expect(token, TxVerdict::MissingInput);
    w.expect_clean();
}

#[test]
fn inputs_only_runs_scripts_and_values_and_spends_nothing() {
    let mut w = world();
    w.open_block(7, 20_000, true);
    let a = w.coin(1, 1_000, &p2pkh(1), 500);
    let mut t = tx(&[a], &[900]);
    t.lock_time = 499_999_999;
    t.inputs[0].sequence = 0;
    sign(&mut t, 0, 1, 1_000);
    let header = IngestHeader { block: 7, index: 1, ..IngestHeader::default() };
    let good = w.offer_as(&t.to_bytes(), header);
    let mut bad = t.clone();
    bad.inputs[0].unlocking_script[20] ^= 1;
    let bad = w.offer_as(&bad.to_bytes(), header);
    w.settle();
    assert_eq!(w.expect(good, TxVerdict::Accepted).fee_sat, 100);
    assert_eq!(w.expect(bad, TxVerdict::ScriptFailed).vin, 0);
    assert_eq!(w.accepted(), 0);
    w.expect_clean();
}

#[test]
fn an_activation_in_flight_runs_the_scripts_again() {
    let mut w = World::new(1, 2);
    let a = w.coin(1, 1_000, &p2pkh(1), 500);
    let mut t = tx(&[a], &[900]);
    sign(&mut t, 0, 1, 1_000);
    w.set_pool(9_999);
    let token = w.offer(&t.to_bytes());
    w.turn(0);
    for shard in 0..2 {
        while w.deliver_request(0, shard) {}
    }
    w.set_pool(10_000);
    w.settle();
    w.expect(token, TxVerdict::Accepted);
    assert_eq!(w.nodes[0].counts.inputs_run, 2);
    w.expect_clean();
}

#[test]
fn a_frozen_coin_is_told() {
    let mut w = World::new(1, 1);
    let a = w.coin(1, 10, OP_TRUE, 1);
    w.shards[0].frozen = true;
    let token = w.offer(&tx(&[a], &[5]).to_bytes());
    w.settle();
    w.expect(token, TxVerdict::Frozen);
    w.expect_clean();
}

#[test]
fn a_full_tile_pushes_back_and_drops_nothing() {
    let mut w = World::new(1, 2);
    let coins: Vec<OutPoint> = (0..200).map(|n| w.coin(n, 10, OP_TRUE, 1)).collect();
    let mut tokens = Vec::new();
    for coin in coins {
        let bytes = tx(&[coin], &[5]).to_bytes();
        if !w.nodes[0].can_admit(false, bytes.len()) {
            assert_eq!(w.nodes[0].in_flight, 64);
            w.settle();
        }
        tokens.push(w.offer(&bytes));
    }
    w.settle();
    for token in tokens {
        w.expect(token, TxVerdict::Accepted);
    }
    w.expect_clean();
}

#[test]
fn a_copy_that_wants_no_verdict_is_decided_and_nobody_is_told() {
    let mut w = world();
    let a = w.coin(1, 1_000, OP_TRUE, 100);
    let t = tx(&[a], &[900]).to_bytes();
    let header = |flags| IngestHeader { source: 1, flags, ..IngestHeader::default() };
    let quiet = w.offer_as(&t, header(IngestHeader::NO_VERDICT));
    let rubbish = w.offer_as(&t[1..], header(IngestHeader::NO_VERDICT));
    w.settle();
    let told = w.offer_as(&t, header(0));
    w.settle();
    w.expect(told, TxVerdict::Known);
    assert!(w.verdict(quiet).is_none() && w.verdict(rubbish).is_none());
    w.expect_clean();
}

#[test]
fn who_makes_one_coin_of_twenty_pays_nothing_unless_its_coins_are_young_or_odd() {
    let mut w = world();
    for node in &mut w.nodes {
        node.cfg.policy.fee_min = consensus::rules::FeeRate { sat_per_kb: 1 };
    }
    let mut next = 0;
    let mut coins = |w: &mut World, n: u8, script: &[u8], height: u32| -> Vec<OutPoint> {
        (0..n)
            .map(|_| {
                next += 1;
                w.coin(next, 1_000, script, height)
            })
            .collect()
    };
    let merge = |coins: &[OutPoint], paid: i64| {
        let mut t = tx(coins, &[1_000 * coins.len() as i64 - paid]);
        t.outputs[0].locking_script = p2pkh(1);
        (0..coins.len()).for_each(|i| sign(&mut t, i, 1, 1_000));
        t
    };
    let told = |w: &mut World, bytes: &[u8]| {
        let token = w.offer(bytes);
        w.settle();
        let got = w.verdict(token).expect("a verdict");
        (got.verdict, got.detail)
    };
    let low = (TxVerdict::Policy, TxReject::FeeTooLow as u8);
    let old = HEIGHT - 6;
    let few = coins(&mut w, 19, &p2pkh(1), old);
    assert_eq!(told(&mut w, &merge(&few, 0).to_bytes()), low, "nineteen are too few");
    let young = coins(&mut w, 20, &p2pkh(1), old + 1);
    assert_eq!(told(&mut w, &merge(&young, 0).to_bytes()), low, "five confirmations are too few");
    let mut odd = coins(&mut w, 19, &p2pkh(1), old);
    odd.extend(coins(&mut w, 1, OP_TRUE, old));
    let mut odd = tx(&odd, &[20_000]);
    (0..19).for_each(|i| sign(&mut odd, i, 1, 1_000));
    assert_eq!(told(&mut w, &odd.to_bytes()), low, "one is no template");
    for node in &mut w.nodes {
        node.cfg.policy.consolidation.non_standard_inputs = true;
    }
    assert_eq!(told(&mut w, &odd.to_bytes()).0, TxVerdict::Accepted, "where that is allowed");
    for node in &mut w.nodes {
        node.cfg.policy.consolidation.non_standard_inputs = false;
    }
    let good = coins(&mut w, 20, &p2pkh(1), old);
    assert_eq!(told(&mut w, &merge(&good, 0).to_bytes()).0, TxVerdict::Accepted);
    let again = coins(&mut w, 20, &p2pkh(1), old);
    let script = p2pkh(1);
    let claims: Vec<(u64, &[u8])> = again.iter().map(|_| (1_000, &script[..])).collect();
    let extended = extended(&merge(&again, 0), &claims);
    assert_eq!(told(&mut w, &extended).0, TxVerdict::Accepted, "heights come from the owners");
    let mut wide = tx(&again[..1], &[0]);
    wide.outputs[0].locking_script = vec![0x00, 0x6a, 4, b'd', b'u', b's', b't'];
    let dust = coins(&mut w, 1, &p2pkh(1), HEIGHT - 1);
    let mut gift = Tx { inputs: vec![spend(dust[0])], ..wide };
    sign(&mut gift, 0, 1, 1_000);
    assert_eq!(told(&mut w, &gift.to_bytes()).0, TxVerdict::Accepted, "it gives its dust away");
    for node in &mut w.nodes {
        node.cfg.policy.consolidation.factor = 0;
    }
    let off = coins(&mut w, 20, &p2pkh(1), old);
    assert_eq!(told(&mut w, &merge(&off, 0).to_bytes()), low, "it is switched off");
    assert_eq!(told(&mut w, &merge(&off, 5).to_bytes()).0, TxVerdict::Accepted, "who pays may");
    w.expect_clean();
}

#[test]
fn where_standard_forms_are_required_worthless_coins_are_refused_and_odd_scripts_taken() {
    let mut w = world();
    let standard = consensus::rules::StandardPolicy::default();
    for node in &mut w.nodes {
        node.cfg.policy.standard = Some(standard);
    }
    let a = w.coin(1, 1_000, OP_TRUE, 100);
    let worthless = w.offer(&tx(&[a], &[0]).to_bytes());
    let odd = w.offer(&tx(&[a], &[900]).to_bytes());
    w.settle();
    let told = w.expect(worthless, TxVerdict::Policy);
    assert_eq!(told.detail, TxReject::Dust as u8);
    w.expect(odd, TxVerdict::Accepted);
    w.expect_clean();
}

#[test]
fn what_is_in_flight_across_an_activation_is_judged_by_the_new_rules_until_it_is_decided() {
    let genesis = params().genesis_height;
    let mut told = Vec::new();
    for deliveries in 0..40 {
        let mut w = World::new(1, 3);
        w.set_pool(genesis - 1);
        let coins: Vec<OutPoint> = (1..5).map(|n| w.coin(n, 1_000, OP_TRUE, 1)).collect();
        let mut t = tx(&coins, &[900]);
        t.outputs[0].locking_script = [&[0xa9, 0x14][..], &[7; 20], &[0x87]].concat();
        let token = w.offer(&t.to_bytes());
        let mut left = deliveries;
        for _ in 0..40 {
            w.turn(0);
            for shard in 0..3 {
                for reply in [false, true] {
                    if left > 0 {
                        let moved = match reply {
                            false => w.deliver_request(0, shard),
                            true => w.deliver_reply(0, shard),
                        };
                        left -= u32::from(moved);
                    }
                }
            }
        }
        w.set_pool(genesis);
        w.settle();
        let verdict = w.verdict(token).expect("a verdict");
        if verdict.verdict != TxVerdict::Accepted {
            w.expect(token, TxVerdict::Invalid);
            assert_eq!(verdict.detail, TxReject::OutputP2sh as u8);
        }
        told.push(verdict.verdict);
        w.expect_clean();
    }
    assert!(told.starts_with(&[TxVerdict::Invalid; 10]), "{told:?}");
    assert_eq!(told.last(), Some(&TxVerdict::Accepted), "what was decided before stands");
    assert!(told.is_sorted_by_key(|verdict| *verdict == TxVerdict::Accepted), "{told:?}");
}
