//! The shard against a plain model: any sequence of operations, the same answers, the same totals.
//!
//! The model is a `BTreeMap` of coins with sorted waiters and says what the rules say, without records, claims or slabs. Operations
//! are drawn small, so that they meet: few coins, few spenders, few tickets.

use crate::testing::*;
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::admin::{Admin, SpendState};
use dataplane::msg::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const COINS: u8 = 4;
const SPENDERS: u8 = 5;

#[derive(Clone, Copy, Debug)]
enum Op {
    Reserve { spender: u8, coin: u8 },
    Release { spender: u8, coin: u8 },
    Attempt { spender: u8 },
    Spend { spender: u8, coin: u8 },
    Unspend { coin: u8 },
    Freeze { coin: u8, on: bool },
    Announce { spender: u8 },
    Settle { spender: u8 },
    Withdraw { spender: u8, rejected: bool },
    ReserveChild { spender: u8, parent: u8 },
    Wakes,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let (s, c) = (0..SPENDERS, 0..COINS);
    let one = prop_oneof![
        6 => (s.clone(), c.clone()).prop_map(|(spender, coin)| Op::Reserve { spender, coin }),
        4 => (s.clone(), c.clone()).prop_map(|(spender, coin)| Op::Release { spender, coin }),
        1 => s.clone().prop_map(|spender| Op::Attempt { spender }),
        3 => (s.clone(), c.clone()).prop_map(|(spender, coin)| Op::Spend { spender, coin }),
        2 => c.clone().prop_map(|coin| Op::Unspend { coin }),
        1 => (c, any::<bool>()).prop_map(|(coin, on)| Op::Freeze { coin, on }),
        2 => s.clone().prop_map(|spender| Op::Announce { spender }),
        2 => s.clone().prop_map(|spender| Op::Settle { spender }),
        1 => (s.clone(), any::<bool>())
            .prop_map(|(spender, rejected)| Op::Withdraw { spender, rejected }),
        2 => (s.clone(), s).prop_map(|(spender, parent)| Op::ReserveChild { spender, parent }),
        2 => Just(Op::Wakes),
    ];
    prop::collection::vec(one, 1..120)
}

#[derive(Clone, Debug, Default)]
struct Coin {
    holder: Option<(u8, u32)>,
    spent: Option<u8>,
    frozen: bool,
    /// Spender, attempt, and whether it queues (or has yielded).
    waiters: Vec<(u8, u32, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Nothing,
    Pending,
    Live,
}

/// What a waiter will hear: by spender, attempt and input.
type Heard = (u8, u32, Said);

struct Model {
    coins: BTreeMap<u8, Coin>,
    made: BTreeMap<u8, (Made, u32)>,
    attempts: BTreeMap<u8, u32>,
    publish_seq: u64,
    seqs: BTreeMap<u8, u64>,
    /// Parent, spender, attempt.
    children: Vec<(u8, u8, u32)>,
    heard: Vec<Heard>,
}

fn spender_id(spender: u8) -> TxId {
    id(100 + spender)
}

impl Model {
    fn new() -> Self {
        Self {
            coins: (0..COINS).map(|c| (c, Coin::default())).collect(),
            made: (0..SPENDERS).map(|s| (s, (Made::Nothing, 0))).collect(),
            attempts: (0..SPENDERS).map(|s| (s, 1)).collect(),
            publish_seq: 0,
            seqs: BTreeMap::new(),
            children: Vec::new(),
            heard: Vec::new(),
        }
    }

    fn hear(&mut self, spender: u8, attempt: u32, said: Said) {
        // Later news of a wait takes the place of an unsent `Busy`.
        let busy = |s: &Said| matches!(s, Said::Input(InputVerdict::Busy { .. }));
        self.heard.retain(|(s, a, old)| !(*s == spender && *a == attempt && busy(old)));
        self.heard.push((spender, attempt, said));
    }

    fn reserve(&mut self, spender: u8, coin: u8) -> Said {
        let attempt = self.attempts[&spender];
        let c = self.coins.get_mut(&coin).expect("a coin");
        if let Some(by) = c.spent {
            return Said::Input(InputVerdict::Spent { by: spender_id(by) });
        }
        if c.frozen {
            return Said::Input(InputVerdict::Frozen);
        }
        match c.holder {
            Some((by, _)) if by != spender => {
                c.waiters.push((spender, attempt, spender < by));
                Said::Input(InputVerdict::Busy { by: spender_id(by) })
            }
            _ => {
                c.holder = Some((spender, attempt));
                Said::Input(InputVerdict::Reserved { parent_seq: 0 })
            }
        }
    }

    fn release(&mut self, spender: u8, coin: u8) {
        let attempt = self.attempts[&spender];
        let c = self.coins.get_mut(&coin).expect("a coin");
        if c.holder.is_none() {
            return;
        }
        let before = c.waiters.len();
        c.waiters.retain(|w| !(w.0 == spender && w.1 <= attempt));
        if c.waiters.len() < before {
            // An entry that ends takes its unsent news with it.
            let busy = |s: &Said| matches!(s, Said::Input(InputVerdict::Busy { .. }));
            self.heard.retain(|(s, a, said)| !(*s == spender && *a <= attempt && busy(said)));
        }
        if c.holder.is_some_and(|(by, _)| by == spender) {
            let heir = c.waiters.iter().filter(|w| w.2).min_by_key(|w| w.0).copied();
            let Some(heir) = heir else {
                c.holder = None;
                for (s, a, _) in std::mem::take(&mut c.waiters) {
                    self.hear(s, a, Said::Wake(WakeReason::Free));
                }
                return;
            };
            c.holder = Some((heir.0, heir.1));
            let place = c.waiters.iter().position(|w| *w == heir).expect("listed");
            c.waiters.remove(place);
            let mut told = Vec::new();
            for w in c.waiters.iter_mut().filter(|w| w.2 && w.0 > heir.0) {
                w.2 = false;
                told.push((w.0, w.1));
            }
            self.hear(heir.0, heir.1, Said::Input(InputVerdict::Reserved { parent_seq: 0 }));
            for (s, a) in told {
                let by = spender_id(heir.0);
                self.hear(s, a, Said::Input(InputVerdict::Busy { by }));
            }
        }
    }

    fn spend(&mut self, spender: u8, coin: u8) {
        let c = self.coins.get_mut(&coin).expect("a coin");
        c.holder = None;
        c.spent = Some(spender);
        for (s, a, _) in std::mem::take(&mut c.waiters) {
            self.hear(s, a, Said::Input(InputVerdict::Spent { by: spender_id(spender) }));
        }
    }

    fn decide_children(&mut self, parent: u8, reason: WakeReason) {
        for (p, s, a) in std::mem::take(&mut self.children) {
            if p == parent {
                self.heard.push((s, a, Said::Wake(reason)));
            } else {
                self.children.push((p, s, a));
            }
        }
    }
}

/// Each spender waits for at most one coin at a time here, so that news can be told apart.
fn waits(model: &Model, spender: u8) -> bool {
    model.coins.values().any(|c| c.waiters.iter().any(|w| w.0 == spender))
        || model.children.iter().any(|c| c.1 == spender)
        || model.heard.iter().any(|h| h.0 == spender)
}

fn apply(op: Op, model: &mut Model, world: &mut World) {
    let coin_at = |coin: u8| at(coin + 1, 0);
    let t = |m: &Model, s: u8| ticket(u32::from(s), m.attempts[&s]);
    let raw = |s: u8| tx(&[], &[u64::from(s) + 1], 0);
    let v = |s: u8| u16::from(s % 4);
    match op {
        Op::Reserve { spender, coin } => {
            if waits(model, spender) {
                return;
            }
            let ticket = t(model, spender);
            world.reserve(v(spender), ticket, spender_id(spender), &[coin_at(coin)]);
            assert_eq!(world.out.one(), model.reserve(spender, coin));
        }
        Op::Release { spender, coin } => {
            let ticket = t(model, spender);
            world.release(v(spender), ticket, spender_id(spender), &[coin_at(coin)]);
            model.release(spender, coin);
        }
        Op::Attempt { spender } => {
            *model.attempts.get_mut(&spender).expect("a spender") += 1;
        }
        Op::Spend { spender, coin } => {
            let Some((by, attempt)) = model.coins[&coin].holder else { return };
            let granted = model.heard.iter().any(|h| h.0 == by);
            if by != spender || attempt != model.attempts[&spender] || granted {
                return;
            }
            let ticket = t(model, spender);
            world.spend(v(spender), ticket, spender_id(spender), 1, &[coin_at(coin)]);
            assert_eq!(world.out.one(), Said::SpendLogged);
            model.spend(spender, coin);
        }
        Op::Unspend { coin } => {
            let c = model.coins.get_mut(&coin).expect("a coin");
            let by = c.spent.take();
            let wrong = spender_id(99);
            assert_ne!(world.shard.unspend(&coin_at(coin), &wrong), SpendState::Done);
            if let Some(by) = by {
                assert_eq!(world.shard.unspend(&coin_at(coin), &spender_id(by)), SpendState::Done);
            }
        }
        Op::Freeze { coin, on } => {
            let c = model.coins.get_mut(&coin).expect("a coin");
            let can = c.spent.is_none() && c.holder.is_none() && c.frozen != on;
            let order = Admin::Freeze { outpoint: coin_at(coin), frozen: on };
            assert_eq!(world.admin(order) == crate::AdminOutcome::Done, can);
            if can {
                c.frozen = on;
            }
        }
        Op::Announce { spender } => {
            let raw = raw(spender).to_bytes();
            let (ticket, txid) = (t(model, spender), spender_id(spender));
            world.ask(v(spender), Request::Announce { ticket, txid, tx: &raw });
            let made = model.made.get_mut(&spender).expect("a spender");
            if made.0 != Made::Live {
                *made = (Made::Pending, model.attempts[&spender]);
            }
        }
        Op::Settle { spender } => {
            world.settle(v(spender), t(model, spender), spender_id(spender), &[]);
            let said = world.out.one();
            match model.made[&spender].0 {
                Made::Nothing => assert_eq!(said, Said::Refused),
                Made::Live => {
                    assert_eq!(said, Said::Decided { publish_seq: model.seqs[&spender] });
                }
                Made::Pending => {
                    model.publish_seq += 1;
                    model.seqs.insert(spender, model.publish_seq);
                    model.made.insert(spender, (Made::Live, 0));
                    assert_eq!(said, Said::Decided { publish_seq: model.publish_seq });
                    assert_eq!(world.out.published.last().expect("one").seq, model.publish_seq);
                    model.decide_children(spender, WakeReason::Free);
                }
            }
        }
        Op::Withdraw { spender, rejected } => {
            let (kind, reason) = if rejected {
                (WithdrawReason::Rejected, WakeReason::ParentRejected)
            } else {
                (WithdrawReason::Orphaned, WakeReason::ParentOrphaned)
            };
            let (ticket, txid) = (t(model, spender), spender_id(spender));
            world.ask(v(spender), Request::Withdraw { ticket, txid, reason: kind });
            if model.made[&spender].0 == Made::Pending {
                model.made.insert(spender, (Made::Nothing, 0));
                model.decide_children(spender, reason);
            }
        }
        Op::ReserveChild { spender, parent } => {
            if waits(model, spender) {
                return;
            }
            let coin = OutPoint { txid: spender_id(parent), vout: 0 };
            world.reserve(v(spender), t(model, spender), spender_id(spender), &[coin]);
            let said = world.out.one();
            match model.made[&parent].0 {
                Made::Nothing => assert_eq!(said, Said::Input(InputVerdict::Missing)),
                Made::Pending => {
                    assert_eq!(said, Said::Input(InputVerdict::ParentInFlight));
                    model.children.push((parent, spender, model.attempts[&spender]));
                }
                Made::Live => {
                    // Held for a moment only: the coins of the model are the imported ones.
                    let parent_seq = model.seqs[&parent];
                    assert_eq!(said, Said::Input(InputVerdict::Reserved { parent_seq }));
                    world.release(v(spender), t(model, spender), spender_id(spender), &[coin]);
                }
            }
        }
        Op::Wakes => {
            let mut told: Vec<_> = world
                .wakes()
                .into_iter()
                .map(|t| (t.ticket.slot as u8, t.ticket.attempt, format!("{:?}", t.said)))
                .collect();
            let mut expected: Vec<_> = std::mem::take(&mut model.heard)
                .into_iter()
                .map(|(s, a, said)| (s, a, format!("{said:?}")))
                .collect();
            told.sort();
            expected.sort();
            assert_eq!(told, expected);
        }
    }
}

fn compare(model: &Model, world: &World) {
    let totals = world.shard.totals();
    let unspent = model.coins.values().filter(|c| c.spent.is_none()).count();
    let live = model.made.values().filter(|m| m.0 == Made::Live).count();
    assert_eq!(totals.utxos as usize, unspent + live);
    let held = model.coins.values().filter(|c| c.holder.is_some()).count();
    assert_eq!(totals.reserved as usize, held);
    let pending = model.made.values().filter(|m| m.0 == Made::Pending).count();
    assert_eq!(totals.announced as usize, pending);
    assert_eq!(totals.publish_seq, model.publish_seq);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_is_answered_as_the_model_answers(ops in ops()) {
        let mut world = World::new();
        let mut model = Model::new();
        for coin in 0..COINS {
            world.import(at(coin + 1, 0), u64::from(coin) + 10);
        }
        for op in ops {
            apply(op, &mut model, &mut world);
            world.out.told.clear();
            compare(&model, &world);
        }
        apply(Op::Wakes, &mut model, &mut world);
    }
}
