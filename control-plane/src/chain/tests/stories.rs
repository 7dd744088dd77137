//! Stories of one chain: what somebody who hands in blocks would notice.

use super::bed::{Bed, Like, block, branch, first_output, genesis, params, plain_block, spend};
use crate::chain::answers::{BlockOutcome, ChainStatus, HeaderOutcome, Solution};
use crate::chain::handle::ChainError;
use consensus::block::BlockView;
use consensus::hash::TxId;
use dataplane::msg::pack_control::Want;
use std::time::{Duration, Instant};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn blocks_connect_in_any_order_and_duplicates_are_told_apart() {
    let dir = directory();
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let blocks = branch(&genesis(), 4, 1);
    assert_eq!(bed.text(&blocks[1]), "prev-blk-not-found");
    assert_eq!(bed.text(&blocks[0]), "null");
    assert_eq!(bed.text(&blocks[0]), "duplicate");
    let header = |i: usize| blocks[i].header;
    let state = &mut bed.thread.state;
    assert_eq!(state.submit_header(&header(1)).expect("works"), HeaderOutcome::Accepted);
    assert_eq!(state.submit_header(&header(2)).expect("works"), HeaderOutcome::Accepted);
    assert_eq!(state.submit_header(&header(2)).expect("works"), HeaderOutcome::Known);
    assert_eq!(bed.chain.best_header().height, 3);
    assert_eq!(bed.text(&blocks[2]), "inconclusive", "the block before it is missing");
    assert_eq!(bed.text(&blocks[2]), "duplicate-inconclusive");
    assert_eq!(bed.chain.tips()[0].status, ChainStatus::HeadersOnly);
    assert_eq!(bed.text(&blocks[1]), "null");
    assert_eq!(bed.tip(), blocks[2].hash, "what waited for it came with it");
    let tip = bed.chain.tip();
    assert_eq!((tip.height, tip.chain_tx_count), (3, 4));
    assert_eq!(bed.chain.block(&blocks[1].hash).expect("readable").as_ref(), Some(&blocks[1].raw));
    let genesis_block = bed.chain.block(&genesis().hash).expect("readable");
    assert_eq!(genesis_block, Some(params().genesis_block()));
    let info = bed.chain.header(&blocks[1].hash).expect("known");
    assert_eq!((info.height, info.next, info.tx_count), (2, Some(blocks[2].hash), 1));
}

#[test]
fn what_is_wrong_with_a_block_is_named_as_sv_node_names_it() {
    let dir = directory();
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let trunk = branch(&genesis(), 12, 1);
    bed.submit_all(&trunk);
    let tip = &trunk[11];
    let changed = |change| block(tip, &Like { salt: 9, change: Some(change), ..Like::default() });
    assert_eq!(bed.text(&changed(|h| h.time_s -= 7)), "time-too-old");
    assert_eq!(bed.text(&changed(|h| h.time_s = u32::MAX)), "time-too-new");
    assert_eq!(bed.text(&changed(|h| h.merkle_root.0[0] ^= 1)), "bad-txnmrklroot");
    assert_eq!(bed.text(&changed(|h| h.n_bits = 0x1d00_ffff)), "high-hash");
    assert_eq!(bed.text(&changed(|h| h.n_bits = 0x207f_fffe)), "bad-diffbits");
    assert_eq!(bed.text(&changed(|h| h.prev.0[0] ^= 1)), "prev-blk-not-found");
    let rich = block(tip, &Like { too_much_sat: 1, ..Like::default() });
    assert_eq!(bed.text(&rich), "bad-cb-amount");
    assert_eq!(bed.text(&rich), "duplicate-invalid");
    assert_eq!(bed.text(&plain_block(&rich, 1)), "bad-prevblk");
    let young = spend(first_output(tip.coinbase), 5_000_000_000, 0);
    let early = block(tip, &Like { txs: vec![young.clone()], ..Like::default() });
    assert_eq!(bed.text(&early), "bad-txns-premature-spend-of-coinbase");
    let nothing = spend(first_output(TxId([7; 32])), 1_000, 0);
    let missing = block(tip, &Like { txs: vec![nothing], ..Like::default() });
    let BlockOutcome::Rejected { reason, detail } = bed.submit(&missing) else {
        panic!("a block that spends nothing is refused")
    };
    assert_eq!(reason, "bad-txns-inputs-missingorspent");
    assert!(detail.contains("transaction"), "{detail}");
    let mut twice = spend(first_output(trunk[0].coinbase), 5_000_000_000, 0);
    twice.outputs[0].value_sat = -1;
    let negative = block(tip, &Like { txs: vec![twice], ..Like::default() });
    assert_eq!(bed.text(&negative), "bad-txns-vout-negative");
    let mut late = spend(first_output(trunk[0].coinbase), 5_000_000_000, 0);
    (late.lock_time, late.inputs[0].sequence) = (1_000, 0);
    let nonfinal = block(tip, &Like { txs: vec![late], ..Like::default() });
    assert_eq!(bed.text(&nonfinal), "bad-txns-nonfinal");
    assert_eq!(bed.text(&nonfinal), "duplicate-invalid", "its header was right");
    let error = bed.thread.state.submit_block(&tip.raw[..100]);
    assert!(matches!(error, Err(ChainError::Malformed { .. })), "{error:?}");
    assert_eq!(bed.tip(), tip.hash);
}

/// The answers of SV Node 1.0.13 to the same blocks.
#[test]
fn a_child_before_its_parent_is_a_missing_coin_on_the_tip_and_an_order_far_below_it() {
    let dir = directory();
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let mut trunk = vec![genesis()];
    trunk.extend(branch(&genesis(), 110, 1));
    bed.submit_all(&trunk[1..]);
    let reward = 5_000_000_000;
    let parent = spend(first_output(trunk[1].coinbase), reward, 100);
    let child = spend(first_output(parent.txid()), reward - 100, 50);
    let wrong = |salt| Like {
        txs: vec![child.clone(), parent.clone()],
        fees_sat: 150,
        salt,
        ..Like::default()
    };
    let right = Like { txs: vec![parent.clone(), child.clone()], ..wrong(7) };
    let at = |depth: usize| &trunk[109 - depth];
    assert_eq!(bed.text(&block(&trunk[110], &wrong(2))), "bad-txns-inputs-missingorspent");
    assert_eq!(bed.text(&block(at(99), &wrong(3))), "inconclusive");
    let deep = block(at(100), &wrong(4));
    let BlockOutcome::Rejected { reason, detail } = bed.submit(&deep) else {
        panic!("a block in the wrong order is refused")
    };
    assert_eq!(reason, "bad-blk-ttor");
    assert_eq!(detail, format!("transaction 1 {}", child.txid()));
    assert_eq!(bed.text(&deep), "duplicate-invalid", "its header was right");
    let mut late = spend(first_output(trunk[2].coinbase), reward, 0);
    (late.lock_time, late.inputs[0].sequence) = (1_000, 0);
    let mut both = wrong(5);
    both.txs.insert(0, late);
    assert_eq!(bed.text(&block(at(105), &both)), "bad-blk-ttor", "before what is not final");
    both.txs[0].outputs[0].value_sat = -1;
    assert_eq!(bed.text(&block(at(105), &both)), "bad-txns-vout-negative", "but after this");
    assert_eq!(bed.text(&block(at(100), &right)), "inconclusive");
    assert_eq!(bed.tip(), trunk[110].hash);
}

#[test]
fn a_branch_of_twelve_takes_the_tip_and_gives_transactions_back_in_front() {
    let dir = directory();
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let trunk = branch(&genesis(), 5, 1);
    bed.submit_all(&trunk);
    let coin = |i: usize| first_output(trunk[i].coinbase);
    let reward = 5_000_000_000;
    let parent = spend(coin(0), reward, 100);
    let child = spend(first_output(parent.txid()), reward - 100, 50);
    let loser = spend(coin(1), reward, 10);
    let heir = spend(first_output(loser.txid()), reward - 10, 20);
    let winner = spend(coin(1), reward, 30);
    let own = Like {
        txs: vec![parent.clone(), child.clone(), loser.clone()],
        fees_sat: 160,
        ..Like::default()
    };
    let ours = block(&trunk[4], &own);
    bed.submit_all(std::slice::from_ref(&ours));
    bed.submit_all(&branch(&ours, 10, 1));
    assert_eq!(bed.chain.tip().height, 16);
    let late = spend(coin(2), reward, 5);
    assert!(bed.engine().accept(&late) && bed.engine().accept(&heir));

    let first = Like { txs: vec![winner.clone()], fees_sat: 30, salt: 2, ..Like::default() };
    let theirs = block(&trunk[4], &first);
    let mut side = vec![theirs.clone()];
    side.extend(branch(&theirs, 11, 2));
    for block in &side[..11] {
        assert_eq!(bed.text(block), "inconclusive", "the first seen stays");
    }
    assert_eq!(bed.text(&side[11]), "null");
    assert_eq!((bed.chain.tip().height, bed.tip()), (17, side[11].hash));
    let back = [parent.txid(), child.txid(), late.txid()];
    assert_eq!(bed.pooled(), back, "block order, in front; what lost its coin is gone");
    bed.check_pool();
    let fee = |txid: &TxId| bed.pool.get(txid).expect("readable").expect("there").fee_sat;
    assert_eq!((fee(&back[0]), fee(&back[1])), (100, 50));
    assert_eq!(bed.pool.fees_sat(), 155);
    let tips = bed.chain.tips();
    assert_eq!((tips.len(), tips[1].branch_len, tips[1].status), (2, 11, ChainStatus::ValidFork));

    let found = bed.chain.find_tx(&winner.txid()).expect("readable").expect("mined");
    assert_eq!((found.block, found.index, found.raw), (theirs.hash, 1, winner.to_bytes()));
    assert_eq!(bed.chain.find_tx(&loser.txid()).expect("readable"), None, "not on this chain");

    let mined = bed.thread.state.generate(1, &[0x51], 100, &bed.stop.clone()).expect("works");
    let raw = bed.chain.block(&mined[0]).expect("readable").expect("there");
    let txids = BlockView::parse(&raw).expect("a block").txids().expect("a block");
    assert_eq!(txids[1..], back);
    assert!(bed.pool.is_empty());
}

#[test]
fn a_better_branch_that_is_invalid_leaves_the_old_chain_connected() {
    let dir = directory();
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let trunk = branch(&genesis(), 6, 1);
    bed.submit_all(&trunk);
    let pays = spend(first_output(trunk[0].coinbase), 5_000_000_000, 7);
    bed.submit_all(&[block(&trunk[5], &Like { txs: vec![pays.clone()], ..Like::default() })]);
    let (tip, coins) = (bed.tip(), bed.engine().coins.clone());
    let good = branch(&trunk[2], 2, 5);
    let bad = block(&good[1], &Like { too_much_sat: 1, ..Like::default() });
    let mut side = good.clone();
    side.push(bad.clone());
    side.extend(branch(&bad, 3, 5));
    bed.submit_all(&side[..4]);
    assert_eq!(bed.text(&side[4]), "inconclusive", "it is a block before it that is invalid");
    assert_eq!(bed.text(&side[5]), "bad-prevblk");
    assert_eq!(bed.tip(), tip);
    assert_eq!(bed.engine().coins, coins, "every coin is as it was");
    bed.check_pool();
    assert!(bed.pool.is_empty(), "what went back to the pool is mined again");
    let status = |hash| bed.chain.header(hash).expect("known").status;
    assert_eq!(status(&bad.hash), ChainStatus::Invalid);
    assert_eq!(status(&side[4].hash), ChainStatus::Invalid);
    assert_eq!(status(&good[1].hash), ChainStatus::ValidFork);
    drop(bed);
    let bed = Bed::open(dir.path()).expect("the same chain");
    assert_eq!(bed.tip(), tip);
    assert_eq!(bed.chain.header(&bad.hash).expect("known").status, ChainStatus::Invalid);
}

#[test]
fn the_operators_word_on_a_block_holds_over_a_restart() {
    let dir = directory();
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let trunk = branch(&genesis(), 6, 1);
    let side = branch(&trunk[2], 1, 2);
    bed.submit_all(&trunk);
    bed.submit_all(&side);
    let mut told = bed.chain.subscribe();
    told.mark_unchanged();
    bed.thread.state.invalidate(&trunk[3].hash).expect("known");
    assert_eq!(bed.tip(), side[0].hash);
    assert!(told.has_changed().expect("the sender lives"));
    let unknown = bed.thread.state.invalidate(&consensus::hash::BlockHash([1; 32]));
    assert!(matches!(unknown, Err(ChainError::UnknownBlock { .. })));
    let first = bed.thread.state.invalidate(&genesis().hash);
    assert!(matches!(first, Err(ChainError::Genesis)));
    drop(bed);
    let mut bed = Bed::open(dir.path()).expect("the same chain");
    assert_eq!(bed.tip(), side[0].hash);
    bed.thread.state.reconsider(&trunk[5].hash).expect("known");
    assert_eq!(bed.tip(), trunk[5].hash);
    drop(bed);
    let mut bed = Bed::open(dir.path()).expect("the same chain");
    assert_eq!(bed.tip(), trunk[5].hash);
    assert_eq!(bed.engine().tip_height(), 6);
}

#[test]
fn a_candidate_is_solved_with_or_without_a_coinbase_of_ones_own() {
    let dir = directory();
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let trunk = branch(&genesis(), 5, 1);
    bed.submit_all(&trunk);
    let reward = 5_000_000_000;
    let parent = spend(first_output(trunk[0].coinbase), reward, 100);
    let other = spend(first_output(trunk[1].coinbase), reward, 70);
    let child = spend(first_output(parent.txid()), reward - 100, 50);
    for tx in [&parent, &other, &child] {
        assert!(bed.engine().accept(tx));
    }
    bed.clock.set_mock_s(Some(1_400_000_000));
    let state = &mut bed.thread.state;
    let candidate = state.candidate(Want::Everything).expect("works");
    assert_eq!((candidate.height, candidate.tx_count, candidate.fees_sat), (6, 4, 220));
    assert_eq!((candidate.time_s, candidate.prev), (1_400_000_000, trunk[4].hash));
    let txs = state.candidate_txs(&candidate.id).expect("fresh");
    let depends: Vec<_> = txs.iter().map(|t| (t.fee_sat, t.depends.clone())).collect();
    assert_eq!(depends, [(100, vec![]), (70, vec![]), (50, vec![0])]);
    // Two tries are enough on average: one of a hundred nonces is right.
    let solve = |state: &mut crate::chain::state::State<super::plain::Plain>,
                 id,
                 coinbase: Option<Vec<u8>>| {
        (0..100).find_map(|nonce| {
            let coinbase = coinbase.clone();
            let solution = Solution { id, nonce, coinbase, time_s: None, version: None };
            match state.submit_solution(&solution) {
                Ok(BlockOutcome::Rejected { reason, .. }) if reason == "high-hash" => None,
                other => Some(other),
            }
        })
    };
    let empty = state.candidate(Want::CoinbaseOnly).expect("works");
    assert_eq!((empty.tx_count, empty.fees_sat), (1, 0));
    let solved = solve(state, candidate.id, None).expect("a nonce").expect("works");
    assert_eq!(solved, BlockOutcome::Connected);
    assert!(bed.pool.is_empty());
    let state = &mut bed.thread.state;
    let stale = solve(state, empty.id, None).expect("a nonce");
    assert!(matches!(stale, Err(ChainError::StaleCandidate)), "{stale:?}");
    let unknown = solve(state, [0; 16], None).expect("an answer");
    assert!(matches!(unknown, Err(ChainError::UnknownCandidate)));
    let next = state.candidate(Want::WholeSubtrees).expect("works");
    let mine = crate::mine::coinbase(7, next.coinbase_value_sat, vec![0x52], b"mine").to_bytes();
    let solved = solve(state, next.id, Some(mine.clone())).expect("a nonce").expect("works");
    assert_eq!(solved, BlockOutcome::Connected);
    let greedy = state.candidate(Want::WholeSubtrees).expect("works");
    let more = crate::mine::coinbase(8, greedy.coinbase_value_sat + 1, vec![0x52], b"").to_bytes();
    let solved = solve(state, greedy.id, Some(more)).expect("a nonce").expect("works");
    assert_eq!(solved.submit_text(), Some("bad-cb-amount"));
    let found = bed.chain.find_tx(&TxId::of(&mine)).expect("readable").expect("mined");
    assert_eq!((found.index, found.raw), (0, mine));
}

#[test]
fn generated_blocks_follow_the_nodes_clock_and_differ() {
    let dir = directory();
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let stop = bed.stop.clone();
    bed.clock.set_mock_s(Some(1_500_000_000));
    let state = &mut bed.thread.state;
    let hashes = state.generate(20, &[0x51], 1_000_000, &stop).expect("works");
    assert_eq!(hashes.len(), 20);
    let times: Vec<u32> =
        hashes.iter().map(|h| bed.chain.header(h).expect("known").header.time_s).collect();
    assert_eq!(times[0], 1_500_000_000);
    assert!(times.iter().all(|t| *t < 1_500_000_010), "{times:?}");
    let state = &mut bed.thread.state;
    state.invalidate(&hashes[19]).expect("known");
    let again = state.generate(1, &[0x51], 1_000_000, &stop).expect("works");
    assert_ne!(again[0], hashes[19]);
    assert!(state.generate(3, &[0x51], 0, &stop).expect("works").is_empty(), "no tries, no blocks");
    assert!(matches!(state.generate(u32::MAX, &[], 1, &stop), Err(ChainError::TooMany { .. })));
    bed.clock.set_mock_s(None);
}

#[test]
fn a_block_before_genesis_holds_no_more_signature_operations_than_it_may() {
    let dir = directory();
    let mut bed = Bed::open(dir.path()).expect("a new chain");
    let trunk = branch(&genesis(), 5, 1);
    bed.submit_all(&trunk);
    let mut txs = Vec::new();
    for block in &trunk[..3] {
        let mut tx = spend(first_output(block.coinbase), 5_000_000_000, 10);
        tx.outputs[0].locking_script = vec![0xac; 9_000];
        assert!(bed.engine().accept(&tx));
        txs.push(tx.txid());
    }
    let candidate = bed.thread.state.candidate(Want::Everything).expect("works");
    assert_eq!((candidate.tx_count, candidate.fees_sat), (3, 20));
    let stop = bed.stop.clone();
    let hashes = bed.thread.state.generate(2, &[0x51], 1_000, &stop).expect("works");
    let found = |txid| bed.chain.find_tx(txid).expect("readable").expect("mined").block;
    let blocks: Vec<_> = txs.iter().map(found).collect();
    assert_eq!(blocks, [hashes[0], hashes[0], hashes[1]], "the third waits for the next block");
}

#[tokio::test]
async fn handles_read_and_command_a_running_chain_and_hear_of_tips() {
    let dir = directory();
    let bed = Bed::open(dir.path()).expect("a new chain");
    let Bed { thread, chain, stop, .. } = bed;
    let running = thread.spawn().expect("a thread");
    let mut tips = chain.subscribe();
    let hashes = chain.generate(3, vec![0x51], 1_000_000).await.expect("works");
    tips.changed().await.expect("the chain runs");
    let blocks = branch(&genesis(), 4, 3);
    for block in &blocks {
        chain.submit_block(block.raw.clone()).await.expect("works");
    }
    assert_eq!(chain.tip().hash, blocks[3].hash);
    assert_eq!(tips.borrow_and_update().hash, blocks[3].hash);
    let first = first_output(blocks[0].coinbase);
    let coin = chain.coin(first, true).await.expect("works").expect("unspent");
    assert_eq!((coin.height, coin.coinbase, coin.value_sat), (1, true, 5_000_000_000));
    chain.invalidate(blocks[0].hash).await.expect("known");
    assert_eq!(chain.hash_at(3), Some(hashes[2]));
    assert_eq!(chain.coin(first, false).await.expect("works"), None);
    chain.reconsider(blocks[0].hash).await.expect("known");
    assert_eq!(chain.tip().height, 4);
    let asked = Instant::now();
    stop.request();
    let ended = running.join().expect("the thread ends");
    assert!(ended.failure.is_none() && asked.elapsed() < Duration::from_secs(2));
    let after = chain.candidate(Want::Everything).await;
    assert!(matches!(after, Err(ChainError::Stopping)));
}
