//! The schedules of the protocol models, under their names, and other situations that are easier told than drawn.
//!
//! `m1` to `m4` broke earlier versions of the rules, `m5` explores the rules as they are. A model's configuration says who wants
//! which coins; here every placement over two shards and two coordinators and both orders of txids is played on the real
//! tiles, under several schedules each, and everything must come to rest with the shadow agreeing.

use crate::auditor::Flaw;
use crate::gate::Copy;
use crate::options::Options;
use crate::run::run_seed;
use crate::script::Lock;
use crate::wire::WireKind;
use crate::workload::{MODELS, Purse, Targets, Workload};
use crate::world::World;
use crate::{FailureKind, Plant, catch};
use consensus::hash::TxId;
use consensus::tx::{OutPoint, Tx};
use dataplane::msg::TxVerdict;

/// Fee of every transaction here.
const FEE_SAT: u64 = 6_000;

struct Story {
    w: World,
    number: u32,
}

impl Story {
    fn new(options: Options, seed: u64) -> Self {
        let mut w = World::new(options, seed, None, false).expect("a machine boots");
        w.told = true;
        Self { w, number: 1 << 20 }
    }

    /// Two coordinators, two shards.
    fn plain(seed: u64) -> Self {
        Self::new(Options::plain(2, 2), seed)
    }

    /// A coin of this shard; a transaction that spends it first is coordinated there.
    fn coin(&mut self, shard: u16, validator: u16) -> Purse {
        let partition = self.w.machine.partition.clone();
        self.w.workload.take_where(|at: &OutPoint| {
            partition.shard(&at.txid) == shard && partition.validator(at) == validator
        })
    }

    /// A transaction over these coins with `outputs` outputs; each call gives another one.
    fn tx(&mut self, coins: &[Purse], outputs: usize) -> (Tx, Vec<Purse>) {
        let locks: Vec<Lock> = (0..outputs)
            .map(|_| {
                self.number += 1;
                Lock::Number(self.number)
            })
            .collect();
        let tx = self.w.workload.pay_to(coins, &locks, FEE_SAT);
        let txid = self.w.auditor.add_tx(tx.clone(), Flaw::None, &locks);
        (tx.clone(), Workload::outputs(txid, &tx, &locks))
    }

    /// Two transactions, the first with the smaller (or the larger) id.
    fn two(&mut self, first: &[Purse], second: &[Purse], smaller: bool) -> (Tx, Tx) {
        let a = self.tx(first, 1).0;
        loop {
            let b = self.tx(second, 1).0;
            if (a.txid() < b.txid()) == smaller {
                return (a, b);
            }
        }
    }

    /// Sends a copy now; its number.
    fn send(&mut self, tx: &Tx) -> u64 {
        let token = self.w.auditor.add_token(Some(tx.txid()), false);
        self.w.gate.add(self.w.step, Copy { token, source: 0, bytes: tx.to_bytes() });
        token
    }

    fn steps(&mut self, n: u64) {
        for _ in 0..n {
            self.w.step().expect("every step holds");
        }
    }

    fn verdict(&self, token: u64) -> Option<TxVerdict> {
        self.w.auditor.tokens[token as usize - 1].verdict
    }

    fn accepted(&self, tx: &Tx) -> bool {
        self.w.auditor.txs[&tx.txid()].accepted.is_some()
    }

    /// Everything comes to rest; nobody was sent again.
    fn rest(&mut self) {
        self.w.drain().expect("it comes to rest");
    }

    /// Rest, and every account compared.
    fn end(&mut self) {
        // Transactions that were only made to get an id are never sent.
        let sent: std::collections::BTreeSet<TxId> =
            self.w.auditor.tokens.iter().filter_map(|t| t.txid).collect();
        self.w.auditor.txs.retain(|txid, _| sent.contains(txid));
        self.w.finish().expect("the shadow agrees");
    }

    fn restarts(&self) -> u64 {
        self.w.machine.validates.iter().map(|v| v.tile().counts().restarts).sum()
    }
}

fn requests_to(shard: u16) -> impl Fn(WireKind) -> bool {
    move |kind| matches!(kind, WireKind::Request { shard: s, .. } if s == shard)
}

#[test]
fn every_configuration_of_the_models_ends_well_under_many_schedules() {
    for (m, model) in MODELS.iter().enumerate() {
        for k in 0..12 {
            let seed = 1_000 * m as u64 + k;
            let mut options = Options::plain(2, 1 + (k % 3) as u16);
            options.wire_frags = 1 + (k % 2) as usize * 7;
            options.wire_burst = 1;
            options.stall_per_mille = 30;
            options.stall_steps_max = 60;
            options.spread_steps = 40;
            let mut story = Story::new(options, seed);
            for _ in 0..12 {
                let World { workload, auditor, gate, .. } = &mut story.w;
                let made = workload.conflict(model, &mut Targets { auditor, gate });
                assert!(made.is_some(), "{}: no coins left", model.name);
                story.steps(60);
            }
            story.w.finish().unwrap_or_else(|e| panic!("{} seed {seed}: {e:?}", model.name));
        }
    }
}

#[test]
fn m1_a_transaction_sent_twice_does_not_lose_its_reservations() {
    for seed in 0..20 {
        let mut s = Story::plain(seed);
        let (a, b) = (s.coin(0, 0), s.coin(1, 0));
        let (t, u) = s.two(&[a, b], &[a], seed % 2 == 0);
        // The first copy holds one coin and waits for the other; then the second copy and the conflict come.
        s.w.stall(requests_to(1), 400);
        let first = s.send(&t);
        s.steps(200);
        let second = s.send(&t);
        let other = s.send(&u);
        s.steps(400);
        s.rest();
        let verdicts = [first, second, other].map(|token| s.verdict(token).expect("a verdict"));
        assert!(s.accepted(&t) != s.accepted(&u), "exactly one: {verdicts:?}");
        if s.accepted(&t) {
            assert_eq!(verdicts, [TxVerdict::Accepted, TxVerdict::Known, TxVerdict::DoubleSpend]);
        } else {
            assert_eq!(verdicts[..2], [TxVerdict::DoubleSpend; 2]);
        }
        s.end();
    }
}

#[test]
fn m4_two_that_hold_what_the_other_wants_do_not_chase_each_other() {
    for seed in 0..20 {
        let mut s = Story::plain(seed);
        let (a, b) = (s.coin(0, 0), s.coin(1, 1));
        let (t, u) = s.two(&[a, b], &[b, a], seed % 2 == 0);
        // Each holds the coin it names first.
        s.w.stall(|k| matches!(k, WireKind::Request { validator: 0, shard: 1 }), 300);
        s.w.stall(|k| matches!(k, WireKind::Request { validator: 1, shard: 0 }), 300);
        let (first, second) = (s.send(&t), s.send(&u));
        s.steps(300);
        s.rest();
        let verdicts = [s.verdict(first), s.verdict(second)];
        assert!(
            verdicts.contains(&Some(TxVerdict::Accepted))
                && verdicts.contains(&Some(TxVerdict::DoubleSpend)),
            "{verdicts:?}"
        );
        assert!(s.restarts() <= 2, "{} restarts for one conflict", s.restarts());
        s.end();
    }
}

#[test]
fn m5_c_self_a_child_sent_twice_before_its_parent_is_accepted_once() {
    for seed in 0..20 {
        let mut s = Story::plain(seed);
        let (a, b) = (s.coin(0, 0), s.coin(1, 1));
        let (parent, outs) = s.tx(&[a], 1);
        let (child, _) = s.tx(&[outs[0], b], 1);
        let first = s.send(&child);
        s.steps(60);
        let second = s.send(&child);
        s.steps(10 * seed);
        let third = s.send(&parent);
        s.steps(200);
        s.rest();
        let verdicts = [first, second, third].map(|token| s.verdict(token));
        assert_eq!(
            verdicts,
            [Some(TxVerdict::Accepted), Some(TxVerdict::Known), Some(TxVerdict::Accepted)]
        );
        s.end();
    }
}

#[test]
fn m5_c_cycle_a_child_and_a_rival_of_its_parent_want_each_others_coins() {
    for seed in 0..20 {
        let mut s = Story::plain(seed);
        let (a, b) = (s.coin(0, 0), s.coin(1, 1));
        let (parent, outs) = s.tx(&[a], 1);
        let (child, _) = s.tx(&[outs[0], b], 1);
        let (rival, _) = s.tx(&[a, b], 1);
        let order = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]][seed as usize % 4];
        for which in order {
            s.send([&parent, &child, &rival][which]);
            s.steps(seed);
        }
        s.steps(200);
        s.rest();
        // The rival wins against both or loses against at least one of them.
        assert!(s.accepted(&rival) != (s.accepted(&parent) || s.accepted(&child)));
        assert!(!s.accepted(&child) || s.accepted(&parent));
        s.end();
    }
}

#[test]
fn m5_d_slot1_a_chain_that_arrives_backwards_fits_through_one_slot() {
    let mut options = Options::plain(1, 2);
    options.bounds.transactions_max = 1;
    options.bounds.block_transactions_max = 2;
    for seed in 0..10 {
        let mut s = Story::new(options.clone(), seed);
        let mut coin = s.coin(0, 0);
        let mut chain = Vec::new();
        for _ in 0..8 {
            let (tx, outs) = s.tx(&[coin], 1);
            coin = outs[0];
            chain.push(tx);
        }
        let tokens: Vec<u64> = chain.iter().rev().map(|tx| s.send(tx)).collect();
        s.steps(400);
        s.rest();
        for token in tokens {
            assert_eq!(s.verdict(token), Some(TxVerdict::Accepted));
        }
        s.end();
    }
}

#[test]
fn a_parent_that_is_refused_takes_its_children_with_it_and_frees_their_other_coins() {
    let mut s = Story::plain(3);
    let (a, b) = (s.coin(0, 0), s.coin(1, 1));
    let (winner, _) = s.tx(&[a], 1);
    let (parent, outs) = s.tx(&[a], 1);
    let (child, _) = s.tx(&[outs[0], b], 1);
    let (heir, _) = s.tx(&[b], 1);
    s.send(&winner);
    s.rest();
    s.w.stall(|k| matches!(k, WireKind::Reply { .. }), 200);
    let lost = s.send(&parent);
    let orphan = s.send(&child);
    s.steps(300);
    let last = s.send(&heir);
    s.rest();
    assert_eq!(s.verdict(lost), Some(TxVerdict::DoubleSpend));
    assert_ne!(s.verdict(orphan), Some(TxVerdict::Accepted));
    assert_eq!(s.verdict(last), Some(TxVerdict::Accepted));
    s.end();
}

#[test]
fn the_same_seed_twice_is_the_same_run_and_other_seeds_are_others() {
    let run = |seed| run_seed(seed, 600, None, false).expect("a sound machine");
    let (a, b, c) = (run(7), run(7), run(8));
    assert_eq!(a, b);
    assert_ne!(a.trace_hash, c.trace_hash);
    assert!(a.events > 100 && a.invariants_checked > 1_000, "{a:?}");
}

#[test]
fn some_seeds_end_well() {
    for seed in 0..24 {
        let run = catch(seed, 700, None, false).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(run.accepted > 0, "seed {seed} accepted nothing");
    }
}

#[test]
fn every_plant_is_found() {
    for plant in Plant::ALL {
        let found = (0..200).find_map(|seed| catch(seed, 1_000, Some(plant), false).err());
        let found = found.unwrap_or_else(|| panic!("{} was not found", plant.name()));
        let expected: &[FailureKind] = match plant {
            Plant::VerdictTwice | Plant::WrongWinner | Plant::DoubleCount => {
                &[FailureKind::Incorrect]
            }
            Plant::CreditLeak => &[FailureKind::Stuck],
            _ => &[FailureKind::Crash, FailureKind::Incorrect, FailureKind::Stuck],
        };
        assert!(expected.contains(&found.kind), "{}: {found}", plant.name());
    }
}
