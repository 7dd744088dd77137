//! Any schedule: conflicting, chained and repeated transactions over two coordinators and three shards, every message
//! delivered at a random moment. Whatever happens, nothing is spent twice and everything comes to rest.

use super::*;
use crate::rng::Rng;

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut w = World::new(2, 3);
    let coins: Vec<OutPoint> = (0..6).map(|n| w.coin(n, 1_000, OP_TRUE, 15_000)).collect();
    let mut outs: Vec<(OutPoint, i64)> = coins.iter().map(|c| (*c, 1_000)).collect();
    let mut txs: Vec<(Tx, Vec<i64>)> = Vec::new();
    for n in 0..14_i64 {
        let mut spent = Vec::new();
        for _ in 0..=rng.index(2) {
            let pick = outs[rng.index(outs.len())];
            if !spent.contains(&pick) {
                spent.push(pick);
            }
        }
        let total: i64 = spent.iter().map(|s| s.1).sum();
        let from: Vec<OutPoint> = spent.iter().map(|s| s.0).collect();
        let t = tx(&from, &[total / 2, total / 2 - n % 3]);
        outs.push((out(&t, 0), total / 2));
        outs.push((out(&t, 1), total / 2 - n % 3));
        txs.push((t, spent.iter().map(|s| s.1).collect()));
    }
    let mut copies: Vec<usize> = (0..txs.len()).chain((0..6).map(|_| rng.index(14))).collect();
    rng.shuffle(&mut copies);
    let mut tokens = Vec::new();
    let mut steps = 0;
    while !copies.is_empty() || steps < 2_000 {
        steps += 1;
        let node = rng.index(2);
        let shard = rng.index(3);
        match rng.below(8) {
            0 if !copies.is_empty() && rng.chance(1, 4) => {
                let at = copies.pop().expect("not empty");
                let (t, values) = &txs[at];
                let bytes = if rng.chance(1, 3) {
                    let claims: Vec<(u64, &[u8])> =
                        values.iter().map(|v| (*v as u64, OP_TRUE)).collect();
                    extended(t, &claims)
                } else {
                    t.to_bytes()
                };
                tokens.push((w.offer(&bytes), at));
            }
            0..=2 => w.turn(node),
            3..=4 => {
                w.deliver_request(node, shard);
            }
            _ => {
                w.deliver_reply(node, shard);
            }
        }
    }
    w.settle();
    // Children of a parent that was refused before they came wait until they are too old.
    for node in &mut w.nodes {
        node.tick(100_000_000_000);
    }
    w.settle();
    let mut accepted = vec![0; txs.len()];
    for (token, at) in &tokens {
        match w.verdict(*token).map(|v| v.verdict) {
            Some(TxVerdict::Accepted) => accepted[*at] += 1,
            Some(
                TxVerdict::Known
                | TxVerdict::DoubleSpend
                | TxVerdict::ParentRejected
                | TxVerdict::OrphanExpired,
            ) => {}
            other => panic!("seed {seed}: copy of {at} ended as {other:?}"),
        }
    }
    let mut spent = Vec::new();
    for (at, (t, _)) in txs.iter().enumerate() {
        assert!(accepted[at] <= 1, "seed {seed}: {at} was accepted twice");
        if accepted[at] == 1 {
            for input in &t.inputs {
                assert!(!spent.contains(&input.prev), "seed {seed}: {} spent twice", input.prev);
                spent.push(input.prev);
                let shard = usize::from(w.partition.shard(&input.prev.txid));
                assert_eq!(w.shards[shard].spender(&input.prev), Some(t.txid()), "seed {seed}");
            }
        }
    }
    for (at, (t, _)) in txs.iter().enumerate() {
        if accepted[at] == 0 {
            let excuse = t.inputs.iter().any(|i| {
                spent.contains(&i.prev)
                    || txs
                        .iter()
                        .position(|(p, _)| p.txid() == i.prev.txid)
                        .is_some_and(|p| accepted[p] == 0)
            });
            assert!(excuse, "seed {seed}: {at} was refused without a reason");
        }
    }
    w.expect_clean();
}

#[test]
fn under_any_schedule_nothing_is_spent_twice_and_everything_comes_to_rest() {
    for seed in 0..400 {
        run(seed);
    }
}
