//! The rules of the shard, told one by one.

use crate::testing::*;
use crate::{AdminOutcome, EvictStep};
use consensus::tx::OutPoint;
use dataplane::msg::InputVerdict::*;
use dataplane::msg::admin::Admin;
use dataplane::msg::admin::{SpendState, SpentBy};
use dataplane::msg::request::{List, SpentInput};
use dataplane::msg::*;
use dataplane::partition::Partition;

const FREE: Said = Said::Input(Reserved { parent_seq: 0 });

fn busy(n: u8) -> Said {
    Said::Input(Busy { by: id(n) })
}

#[test]
fn a_coin_is_resolved_reserved_and_spent_once() {
    let mut w = World::new();
    w.import(at(1, 2), 50);
    w.ask(0, Request::Resolve { ticket: ticket(1, 1), vin: 3, outpoint: at(1, 2) });
    let coin = Said::Coin {
        value_sat: 50,
        height: 10,
        coinbase: false,
        pending: false,
        script: p2pkh(50),
    };
    assert_eq!(w.out.one(), coin);
    w.reserve(0, ticket(1, 1), id(9), &[at(1, 2)]);
    assert_eq!(w.out.one(), FREE);
    w.spend(0, ticket(1, 1), id(9), 7, &[at(1, 2)]);
    assert_eq!(w.out.one(), Said::SpendLogged);
    w.spend(0, ticket(1, 1), id(9), 7, &[at(1, 2)]);
    assert_eq!(w.out.one(), Said::SpendLogged);
    assert_eq!(w.shard.counts().spent, 1, "the repetition changed nothing");
    for asker in [9, 4] {
        w.reserve(1, ticket(5, 1), id(asker), &[at(1, 2)]);
        assert_eq!(w.out.one(), Said::Input(Spent { by: id(9) }), "also when it was the asker");
    }
    assert_eq!(w.shard.totals().utxos, 0);
}

#[test]
#[should_panic(expected = "without its reservation")]
fn a_spend_without_its_reservation_is_a_violation() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.reserve(0, ticket(1, 1), id(9), &[at(1, 0)]);
    w.spend(0, ticket(1, 2), id(9), 1, &[at(1, 0)]);
}

#[test]
fn an_absent_coin_is_missing_and_an_output_that_never_was_too() {
    let mut w = World::new();
    w.import(at(1, 1), 50);
    w.reserve(0, ticket(1, 1), id(9), &[at(2, 0), at(1, 0), at(1, 7)]);
    assert!(w.out.all().iter().all(|t| t.said == Said::Input(Missing)));
}

#[test]
fn the_smaller_id_queues_and_gets_the_coin_when_it_is_released() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.reserve(0, ticket(1, 1), id(20), &[at(1, 0)]);
    assert_eq!(w.out.one(), FREE);
    w.reserve(1, ticket(1, 1), id(15), &[at(1, 0)]);
    assert_eq!(w.out.one(), busy(20));
    w.reserve(2, ticket(1, 1), id(10), &[at(1, 0)]);
    assert_eq!(w.out.one(), busy(20));
    w.reserve(3, ticket(1, 1), id(30), &[at(1, 0)]);
    assert_eq!(w.out.one(), busy(20));
    w.release(0, ticket(1, 1), id(20), &[at(1, 0)]);
    let told = w.wakes();
    assert_eq!(told.len(), 2, "the heir, and the one in the queue who is larger: {told:?}");
    assert!(told.iter().any(|t| t.to == 2 && t.said == FREE));
    assert!(told.iter().any(|t| t.to == 1 && t.said == busy(10)));
    w.release(2, ticket(1, 1), id(10), &[at(1, 0)]);
    let told = w.wakes();
    assert_eq!(told.len(), 2, "all who yielded are woken: {told:?}");
    assert!(told.iter().all(|t| t.said == Said::Wake(WakeReason::Free)));
    assert_eq!(w.shard.totals().waiting, 0);
    assert_eq!(w.shard.totals().reserved, 0);
}

#[test]
fn all_who_wait_for_a_coin_are_told_when_it_is_spent() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.reserve(0, ticket(1, 1), id(20), &[at(1, 0)]);
    w.reserve(1, ticket(1, 1), id(15), &[at(1, 0)]);
    w.reserve(2, ticket(1, 1), id(30), &[at(1, 0)]);
    w.out.all();
    w.spend(0, ticket(1, 1), id(20), 1, &[at(1, 0)]);
    w.out.all();
    let told = w.wakes();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|t| t.said == Said::Input(Spent { by: id(20) })));
}

#[test]
fn a_release_ends_older_attempts_of_its_slot_and_no_others() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.reserve(0, ticket(1, 5), id(20), &[at(1, 0)]);
    w.reserve(0, ticket(2, 5), id(10), &[at(1, 0)]);
    w.out.all();
    for other in [(1, ticket(1, 9)), (0, ticket(3, 9)), (0, ticket(1, 4))] {
        w.release(other.0, other.1, id(20), &[at(1, 0)]);
        assert!(w.wakes().is_empty(), "{other:?} ended what is not its own");
    }
    w.release(0, ticket(2, 6), id(10), &[at(1, 0)]);
    w.release(0, ticket(1, 6), id(20), &[at(1, 0)]);
    assert!(w.wakes().is_empty());
    assert_eq!(w.shard.totals().reserved, 0);
    assert_eq!(w.shard.totals().waiting, 0);
}

#[test]
fn a_wake_that_could_not_be_sent_yet_is_overtaken_by_later_news_and_never_lost() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.reserve(0, ticket(1, 1), id(30), &[at(1, 0)]);
    w.reserve(1, ticket(1, 1), id(20), &[at(1, 0)]);
    w.reserve(2, ticket(1, 1), id(10), &[at(1, 0)]);
    w.out.all();
    w.release(0, ticket(1, 1), id(30), &[at(1, 0)]);
    w.release(2, ticket(1, 1), id(10), &[at(1, 0)]);
    let told = w.wakes();
    let to_1: Vec<_> = told.iter().filter(|t| t.to == 1).collect();
    assert_eq!(to_1.len(), 1);
    assert_eq!(to_1[0].said, Said::Wake(WakeReason::Free));
}

#[test]
fn a_full_wait_list_is_overloaded() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.reserve(0, ticket(0, 1), id(20), &[at(1, 0)]);
    w.out.all();
    for slot in 1..=u32::from(crate::COIN_WAITERS_MAX) {
        w.reserve(0, ticket(slot, 1), id(10), &[at(1, 0)]);
        assert_eq!(w.out.one(), busy(20));
    }
    w.reserve(0, ticket(1000, 1), id(10), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(Overloaded));
    assert_eq!(w.shard.counts().overloaded, 1);
}

#[test]
fn a_coin_that_is_not_what_the_scripts_saw_differs_and_is_not_held() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    let tag = Partition::new([9; 16], 1, 4).script_tag(&p2pkh(50));
    let era = w.shard.params.era(10) as u8;
    let right =
        Expect { value_sat: 50, script_tag: tag, coin_era: era, proven: true, ..Expect::default() };
    let wrong = [
        Expect { value_sat: 51, ..right },
        Expect { script_tag: tag ^ 1, ..right },
        Expect { coin_era: era ^ 1, ..right },
        Expect { coinbase: true, ..right },
        Expect { height_matters: true, coin_height: 11, ..right },
    ];
    let fine =
        [right, Expect { height_matters: true, coin_height: 10, ..right }, Expect::default()];
    for (expect, differs) in
        wrong.iter().map(|&e| (e, true)).chain(fine.iter().map(|&e| (e, false)))
    {
        let inputs = [InputRef { vin: 0, outpoint: at(1, 0), expect }];
        let inputs = List::Own(&inputs[..]);
        w.ask(0, Request::Reserve { ticket: ticket(1, 1), txid: id(9), inputs });
        if differs {
            assert_eq!(w.out.one(), Said::Differs { value_sat: 50 }, "{expect:?}");
            assert_eq!(w.shard.totals().reserved, 0);
        } else {
            assert_eq!(w.out.one(), FREE, "{expect:?}");
            w.release(0, ticket(1, 1), id(9), &[at(1, 0)]);
        }
    }
}

#[test]
fn frozen_and_locked_coins_are_refused_until_they_are_let_go() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    let freeze = |frozen| Admin::Freeze { outpoint: at(1, 0), frozen };
    assert_eq!(w.admin(freeze(true)), AdminOutcome::Done);
    assert_eq!(w.admin(freeze(true)), AdminOutcome::Refused);
    w.reserve(0, ticket(1, 1), id(9), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(Frozen));
    assert_eq!(w.admin(freeze(false)), AdminOutcome::Done);
    assert!(w.shard.lock(&at(1, 0), true));
    w.reserve(0, ticket(1, 1), id(9), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(Locked));
    assert!(w.shard.lock(&at(1, 0), false));
    w.reserve(0, ticket(1, 1), id(9), &[at(1, 0)]);
    assert_eq!(w.out.one(), FREE);
    assert_eq!(w.admin(freeze(true)), AdminOutcome::Refused, "a held coin cannot be frozen");
}

#[test]
fn a_coinbase_can_be_spent_a_hundred_blocks_later() {
    let mut w = World::new();
    let coinbase = tx(&[OutPoint::NULL], &[50, 60], 1);
    w.ctx = block(3, 450);
    let order = Admin::Coinbase { txid: coinbase.txid(), tx: &coinbase.to_bytes() };
    assert_eq!(w.admin(order), AdminOutcome::Done);
    assert_eq!(w.admin(order), AdminOutcome::Refused, "it is there");
    let set = Admin::SetMined { shard: 0, block: 3, height: 450, from_seq: 1, to_seq: 0 };
    assert_eq!(w.admin(set), AdminOutcome::Done);
    let coin = OutPoint { txid: coinbase.txid(), vout: 1 };
    w.ctx = Context { height: 549, ..POOL };
    w.reserve(0, ticket(1, 1), id(9), &[coin]);
    assert_eq!(w.out.one(), Said::Input(Immature { until_height: 550 }));
    w.ctx = Context { height: 550, ..POOL };
    w.reserve(0, ticket(1, 1), id(9), &[coin]);
    assert_eq!(w.out.one(), FREE);
    assert_eq!(w.shard.seen(&coinbase.txid()), SeenState::Mined { height: 450, unspent: true });
}

#[test]
fn a_coinbase_has_room_however_many_transactions_are_announced() {
    let mut cfg = config(0, 1);
    cfg.announced_max = 3;
    let mut w = World { shard: crate::Shard::new(&cfg), out: Memory::default(), ctx: POOL };
    for n in 0..4 {
        w.announce(0, ticket(n, 1), &tx(&[at(1, n)], &[10], n));
    }
    assert_eq!((w.shard.totals().announced, w.shard.counts().announce_refused), (3, 1));
    let coinbase = tx(&[OutPoint::NULL], &[50], 1);
    w.ctx = block(3, 450);
    let order = Admin::Coinbase { txid: coinbase.txid(), tx: &coinbase.to_bytes() };
    assert_eq!(w.admin(order), AdminOutcome::Done);
    assert_eq!((w.shard.totals().announced, w.shard.totals().utxos), (3, 1));
}

#[test]
fn outputs_of_an_announced_transaction_are_pending_and_waited_for_until_home_decides() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    let parent = tx(&[at(1, 0)], &[20, 30], 1);
    let coin = OutPoint { txid: parent.txid(), vout: 1 };
    w.announce(0, ticket(1, 1), &parent);
    w.ask(1, Request::Resolve { ticket: ticket(2, 1), vin: 0, outpoint: coin });
    let pending = Said::Coin {
        value_sat: 30,
        height: 501,
        coinbase: false,
        pending: true,
        script: p2pkh(30),
    };
    assert_eq!(w.out.one(), pending);
    w.reserve(1, ticket(2, 1), id(9), &[coin]);
    assert_eq!(w.out.one(), Said::Input(ParentInFlight));
    w.reserve(0, ticket(1, 1), parent.txid(), &[at(1, 0)]);
    assert_eq!(w.out.one(), FREE);
    w.settle(0, ticket(1, 1), parent.txid(), &[]);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 1 });
    assert_eq!(w.out.published[0].tx, parent.to_bytes());
    assert!(w.shard.has_wakes(1), "the child is called in the turn that decides the parent");
    let told = w.wakes();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].to, told[0].ticket), (1, ticket(2, 1)));
    assert_eq!(told[0].said, Said::Wake(WakeReason::Free));
    w.reserve(1, ticket(2, 2), id(9), &[coin]);
    assert_eq!(w.out.one(), Said::Input(Reserved { parent_seq: 1 }));
    w.settle(0, ticket(1, 1), parent.txid(), &[]);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 1 }, "a repeated settle is idempotent");
    assert_eq!(w.out.published.len(), 1);
}

#[test]
fn a_child_that_waits_for_one_output_of_its_parent_may_give_up_another() {
    let mut w = World::new();
    let parent = tx(&[at(1, 0)], &[10, 20], 0);
    w.import(at(1, 0), 50);
    w.announce(0, ticket(1, 1), &parent);
    let out = |vout| OutPoint { txid: parent.txid(), vout };
    w.reserve(1, ticket(4, 1), id(9), &[out(0), out(1)]);
    assert!(w.out.all().iter().all(|t| t.said == Said::Input(ParentInFlight)));
    let second = [SpentInput { vin: 1, outpoint: out(1) }];
    let inputs = List::Own(&second[..]);
    w.ask(1, Request::Release { ticket: ticket(4, 1), txid: id(9), inputs });
    assert_eq!(w.shard.totals().waiting, 1, "the entry of the other input stands");
    let ask = Request::Withdraw {
        ticket: ticket(1, 1),
        txid: parent.txid(),
        reason: WithdrawReason::Rejected,
    };
    w.ask(0, ask);
    assert_eq!(w.wakes().len(), 1);
}

#[test]
fn children_of_a_rejected_parent_are_rejected_and_of_an_orphan_become_orphans() {
    for (reason, told_why) in [
        (WithdrawReason::Rejected, WakeReason::ParentRejected),
        (WithdrawReason::Orphaned, WakeReason::ParentOrphaned),
    ] {
        let mut w = World::new();
        let parent = tx(&[at(1, 0)], &[20], 1);
        let txid = parent.txid();
        let coin = OutPoint { txid, vout: 0 };
        w.announce(0, ticket(1, 1), &parent);
        w.reserve(1, ticket(2, 1), id(9), &[coin]);
        w.out.all();
        w.ask(0, Request::Withdraw { ticket: ticket(1, 1), txid, reason });
        let told = w.wakes();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].said, Said::Wake(told_why));
        assert_eq!(w.shard.totals().announced, 0);
    }
}

#[test]
fn an_orphan_is_called_when_its_parent_is_announced_so_that_both_are_proved_at_once() {
    let mut w = World::new();
    let parent = tx(&[at(1, 0)], &[20], 1);
    let coin = OutPoint { txid: parent.txid(), vout: 0 };
    w.ask(2, Request::Watch { ticket: ticket(3, 1), outpoint: coin });
    assert_eq!(w.wakes().len(), 0, "nobody knows the parent yet");
    assert_eq!(w.shard.totals().watched, 1);
    w.announce(0, ticket(1, 1), &parent);
    let told = w.wakes();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].to, told[0].said.clone()), (2, Said::Wake(WakeReason::Free)));
    w.ask(1, Request::Watch { ticket: ticket(4, 1), outpoint: coin });
    assert_eq!(w.wakes().len(), 1, "a parent that is announced already is news at once");
    assert_eq!((w.shard.totals().watched, w.shard.totals().waiting), (0, 0));
}

#[test]
fn a_withdrawal_of_an_older_announcement_does_not_touch_the_newer() {
    let mut w = World::new();
    let parent = tx(&[at(1, 0)], &[20], 1);
    w.announce(0, ticket(1, 1), &parent);
    w.announce(0, ticket(2, 1), &parent);
    let reason = WithdrawReason::Rejected;
    w.ask(0, Request::Withdraw { ticket: ticket(1, 1), txid: parent.txid(), reason });
    assert_eq!(w.shard.totals().announced, 1);
}

#[test]
fn a_child_that_arrives_first_is_woken_by_its_parent() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    let parent = tx(&[at(1, 0)], &[20], 1);
    let coin = |vout| OutPoint { txid: parent.txid(), vout };
    w.reserve(1, ticket(2, 1), id(9), &[coin(0)]);
    assert_eq!(w.out.one(), Said::Input(Missing));
    w.ask(1, Request::Watch { ticket: ticket(2, 1), outpoint: coin(0) });
    w.ask(1, Request::Watch { ticket: ticket(3, 1), outpoint: coin(7) });
    w.ask(1, Request::Watch { ticket: ticket(4, 1), outpoint: coin(0) });
    w.ask(1, Request::Unwatch { ticket: ticket(4, 1), outpoint: coin(0) });
    assert!(w.wakes().is_empty());
    w.commit(0, ticket(1, 1), &parent);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 1 });
    let told = w.wakes();
    assert_eq!(told.len(), 2);
    let said = |slot| &told.iter().find(|t| t.ticket.slot == slot).expect("told").said;
    assert_eq!(*said(2), Said::Wake(WakeReason::Free));
    assert_eq!(*said(3), Said::Wake(WakeReason::ParentRejected), "there is no output 7");
    assert!(told.iter().all(|t| t.vin == u32::MAX));
    w.ask(1, Request::Watch { ticket: ticket(5, 1), outpoint: coin(0) });
    assert_eq!(w.wakes().len(), 1, "what is there already wakes at once");
    assert_eq!(w.shard.totals().watched, 0);
}

#[test]
fn a_watch_that_ends_while_its_news_is_on_the_way_leaves_nothing_behind() {
    let mut w = World::new();
    let parent = tx(&[at(1, 0)], &[10, 20], 0);
    let (txid, raw) = (parent.txid(), parent.to_bytes());
    let outpoint = OutPoint { txid, vout: 1 };
    // The parent comes and goes before its waiters are handed on.
    let reason = WithdrawReason::Orphaned;
    for (from, request) in [
        (1, Request::Watch { ticket: ticket(4, 1), outpoint }),
        (0, Request::Announce { ticket: ticket(1, 1), txid, tx: &raw }),
        (0, Request::Withdraw { ticket: ticket(1, 1), txid, reason }),
        (1, Request::Unwatch { ticket: ticket(4, 1), outpoint }),
    ] {
        let progress = w.shard.request(from, &Context::default(), &request, &mut w.out);
        assert_eq!(progress, crate::Progress::Done);
    }
    while w.shard.step() {}
    w.wakes();
    w.shard.check();
    let left = w.shard.totals();
    assert_eq!((left.waiting, left.watched, left.announced), (0, 0, 0));
}

#[test]
fn too_many_watches_are_told_so() {
    let mut w = World::new();
    for n in 0..64 {
        w.ask(0, Request::Watch { ticket: ticket(n, 1), outpoint: at(n as u8, 0) });
    }
    w.ask(0, Request::Watch { ticket: ticket(99, 1), outpoint: at(99, 0) });
    let told = w.wakes();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].vin, &told[0].said), (u32::MAX, &Said::Input(Overloaded)));
}

#[test]
fn a_commit_takes_all_inputs_or_behaves_as_a_reserve() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.import(at(2, 0), 60);
    let both = tx(&[at(1, 0), at(2, 0)], &[100], 1);
    w.reserve(1, ticket(7, 1), id(0), &[at(2, 0)]);
    w.out.all();
    w.commit(0, ticket(1, 1), &both);
    let told = w.out.all();
    assert_eq!(told[0].said, FREE, "the free one is held");
    assert_eq!(told[1].said, busy(0));
    assert!(w.out.published.is_empty());
    w.release(1, ticket(7, 1), id(0), &[at(2, 0)]);
    w.wakes();
    w.commit(0, ticket(1, 1), &both);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 1 });
    let totals = w.shard.totals();
    assert_eq!((totals.utxos, totals.value_sat, totals.reserved), (1, 100, 0));
    w.commit(0, ticket(1, 2), &both);
    let told = w.out.all();
    assert!(told.iter().all(|t| t.said == Said::Input(Spent { by: both.txid() })), "{told:?}");
}

#[test]
fn a_refused_decision_holds_nothing_and_is_taken_when_there_is_room_again() {
    let mut cfg = config(0, 1);
    cfg.slab_bytes = 4096;
    let mut w = World { shard: crate::Shard::new(&cfg), out: Memory::default(), ctx: POOL };
    w.import(at(1, 0), 50);
    let big = tx(&[at(1, 0)], &[1; 120], 1);
    w.commit(0, ticket(1, 1), &big);
    assert_eq!(w.out.one(), Said::Refused);
    assert_eq!(w.shard.totals().reserved, 0);
    assert_eq!(w.shard.counts().refused, 1);
    w.settle(0, ticket(1, 2), big.txid(), &[]);
    assert_eq!(w.out.one(), Said::Refused, "nothing was announced and no bytes came");
    let small = tx(&[at(1, 0)], &[1], 1);
    w.commit(0, ticket(1, 3), &small);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 1 });
}

#[test]
fn a_transaction_with_very_many_outputs_is_created_in_pieces_and_seen_whole() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    let wide = tx(&[at(1, 0)], &vec![3; 5000], 1);
    let raw = wide.to_bytes();
    let request = Request::Announce { ticket: ticket(1, 1), txid: wide.txid(), tx: &raw };
    assert_eq!(w.shard.request(0, &POOL, &request, &mut w.out), crate::Progress::Done);
    assert!(w.shard.is_building());
    let seen = Request::Seen { ticket: ticket(2, 1), txid: wide.txid() };
    assert_eq!(w.shard.request(0, &POOL, &seen, &mut w.out), crate::Progress::Again);
    let mut steps = 0;
    while w.shard.is_building() {
        w.shard.check();
        assert_eq!(w.shard.totals().announced, 0, "invisible until the last piece");
        w.shard.step();
        steps += 1;
    }
    assert!(steps >= 2 * 5000 / crate::OUTPUTS_PER_STEP - 1, "{steps} steps");
    w.commit(0, ticket(1, 1), &wide);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 1 });
    assert_eq!(w.shard.totals().utxos, 5000);
    let last = OutPoint { txid: wide.txid(), vout: 4999 };
    w.reserve(0, ticket(1, 1), id(9), &[last]);
    assert_eq!(w.out.one(), Said::Input(Reserved { parent_seq: 1 }));
}

#[test]
fn a_reserve_stops_where_the_outbox_is_full() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.import(at(2, 0), 50);
    w.out.room = 1;
    let inputs = refs(&[at(1, 0), at(2, 0)]);
    let txid = id(9);
    let request = Request::Reserve { ticket: ticket(1, 1), txid, inputs: List::Own(&inputs) };
    let got = w.shard.request(0, &POOL, &request, &mut w.out);
    assert_eq!(got, crate::Progress::From(1));
    assert_eq!(w.shard.totals().reserved, 1);
}

#[test]
fn outputs_that_can_never_be_spent_are_no_coins() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.ctx.height = 20_000;
    let mut data = tx(&[at(1, 0)], &[0, 40], 1);
    data.outputs[0].locking_script = vec![0, 0x6a, 4, 1, 2, 3, 4];
    w.commit(0, ticket(1, 1), &data);
    w.out.all();
    assert_eq!(w.shard.totals().utxos, 1);
    w.reserve(0, ticket(1, 1), id(9), &[OutPoint { txid: data.txid(), vout: 0 }]);
    assert_eq!(w.out.one(), Said::Input(Missing));
}

#[test]
fn a_block_sees_only_what_is_mined_or_stands_earlier_in_it() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.import(at(2, 0), 60);
    let pooled = tx(&[at(1, 0)], &[40], 1);
    let coin = OutPoint { txid: pooled.txid(), vout: 0 };
    w.commit(0, ticket(1, 1), &pooled);
    w.out.all();
    // A rival of the pool's spender stands in block 7: the coin is not spent there.
    w.ctx = block(7, 501);
    w.reserve(0, ticket(2, 1), id(9), &[coin]);
    assert_eq!(w.out.one(), Said::Input(Missing), "an unmined parent outside the block");
    let rival = tx(&[at(1, 0)], &[39], 2);
    w.commit(0, ticket(2, 1), &rival);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 2 });
    assert_eq!(w.out.published[1].kind, AcceptedKind::Block);
    let rival_coin = OutPoint { txid: rival.txid(), vout: 0 };
    w.reserve(0, ticket(3, 1), id(9), &[rival_coin]);
    assert_eq!(w.out.one(), Said::Input(Reserved { parent_seq: 2 }), "earlier in the same block");
    w.release(0, ticket(3, 1), id(9), &[rival_coin]);
    w.reserve(0, ticket(3, 2), id(9), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(Spent { by: rival.txid() }));
    // The block fails: its spend is undone and the pool's counts again.
    assert_eq!(w.shard.unspend(&at(1, 0), &rival.txid()), SpendState::Done);
    w.shard.check();
    assert_eq!(w.shard.evict(&rival.txid(), 0, &mut w.out), EvictStep::Done);
    assert_eq!(w.out.published.len(), 2, "it never was in the pool");
    w.ctx = POOL;
    w.reserve(0, ticket(3, 3), id(9), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(Spent { by: pooled.txid() }));
}

#[test]
fn a_known_transaction_of_a_block_becomes_mined_there() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    let known = tx(&[at(1, 0)], &[40], 1);
    let coin = OutPoint { txid: known.txid(), vout: 0 };
    w.commit(0, ticket(1, 1), &known);
    w.out.all();
    w.ctx = block(7, 501);
    w.announce(0, ticket(2, 1), &known);
    w.reserve(1, ticket(3, 1), id(9), &[coin]);
    assert_eq!(w.out.one(), Said::Input(ParentInFlight), "announced in the block, not settled");
    w.reserve(0, ticket(2, 1), known.txid(), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(Spent { by: known.txid() }), "its own spend");
    w.settle(0, ticket(2, 1), known.txid(), &[]);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 1 });
    assert_eq!(w.out.published[1].kind, AcceptedKind::Block);
    assert_eq!(w.wakes().len(), 1);
    w.reserve(1, ticket(3, 2), id(9), &[coin]);
    assert_eq!(w.out.one(), Said::Input(Reserved { parent_seq: 1 }));
    w.release(1, ticket(3, 2), id(9), &[coin]);
    assert_eq!(w.shard.seen(&known.txid()), SeenState::Unmined { publish_seq: 1, rule_set: 0 });
    let set = Admin::SetMined { shard: 0, block: 7, height: 501, from_seq: 1, to_seq: 0 };
    assert_eq!(w.admin(set), AdminOutcome::Done);
    assert_eq!(w.shard.seen(&known.txid()), SeenState::Mined { height: 501, unspent: true });
    w.ctx = block(8, 502);
    w.reserve(0, ticket(4, 1), id(8), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(Spent { by: known.txid() }), "its spend is the chain's");
    assert_eq!(w.admin(Admin::UnsetMined { block: 7 }), AdminOutcome::Done);
    assert_eq!(w.shard.seen(&known.txid()), SeenState::Unmined { publish_seq: 1, rule_set: 0 });
}

#[test]
fn our_own_block_mines_by_interval_and_touches_no_record() {
    let mut w = World::new();
    let mut spenders = Vec::new();
    for n in 1..=4 {
        w.import(at(n, 0), 50);
        let t = tx(&[at(n, 0)], &[40], 1);
        w.commit(0, ticket(1, 1), &t);
        spenders.push(t.txid());
    }
    w.out.all();
    let set = Admin::SetMined { shard: 0, block: 5, height: 501, from_seq: 1, to_seq: 3 };
    assert_eq!(w.admin(set), AdminOutcome::Done);
    assert_eq!(w.shard.seen(&spenders[2]), SeenState::Mined { height: 501, unspent: true });
    assert_eq!(w.shard.seen(&spenders[3]), SeenState::Unmined { publish_seq: 4, rule_set: 0 });
    w.ctx = block(6, 502);
    w.reserve(0, ticket(2, 1), id(9), &[at(3, 0), at(4, 0)]);
    let told = w.out.all();
    assert_eq!(told[0].said, Said::Input(Spent { by: spenders[2] }), "mined");
    assert_eq!(told[1].said, FREE, "spent only in the pool");
    w.ctx = POOL;
    w.ctx.height = 502;
    let coin = |i: usize| OutPoint { txid: spenders[i], vout: 0 };
    w.reserve(0, ticket(3, 1), id(9), &[coin(0), coin(3)]);
    let told = w.out.all();
    assert_eq!(told[0].said, FREE, "a mined parent has no place to wait for");
    assert_eq!(told[1].said, Said::Input(Reserved { parent_seq: 4 }));
}

#[test]
fn a_block_that_waits_for_a_pool_spend_asks_again_and_gets_the_coin() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    w.reserve(0, ticket(1, 1), id(20), &[at(1, 0)]);
    w.ctx = block(7, 501);
    w.reserve(1, ticket(1, 1), id(30), &[at(1, 0)]);
    w.ctx = POOL;
    w.reserve(2, ticket(1, 1), id(40), &[at(1, 0)]);
    w.out.all();
    w.spend(0, ticket(1, 1), id(20), 1, &[at(1, 0)]);
    w.out.all();
    let told = w.wakes();
    let to = |v: u16| &told.iter().find(|t| t.to == v).expect("told").said;
    assert_eq!(*to(1), Said::Wake(WakeReason::Free));
    assert_eq!(*to(2), Said::Input(Spent { by: id(20) }));
    w.ctx = block(7, 501);
    w.reserve(1, ticket(1, 2), id(30), &[at(1, 0)]);
    assert_eq!(w.out.one(), FREE);
    w.release(1, ticket(1, 2), id(30), &[at(1, 0)]);
    w.ctx = POOL;
    w.reserve(1, ticket(1, 3), id(30), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(Spent { by: id(20) }));
}

#[test]
fn a_loser_is_evicted_with_its_descendants_and_its_coins_come_back() {
    let mut w = World::new();
    w.import(at(1, 0), 50);
    let loser = tx(&[at(1, 0)], &[40, 5], 1);
    let out = |t: &consensus::tx::Tx, vout| OutPoint { txid: t.txid(), vout };
    let child = tx(&[out(&loser, 0)], &[39], 1);
    w.commit(0, ticket(1, 1), &loser);
    w.commit(0, ticket(1, 2), &child);
    w.out.all();
    let step = w.shard.evict(&loser.txid(), 0, &mut w.out);
    assert_eq!(step, EvictStep::Spent { vout: 0, by: child.txid(), vin: 0 });
    w.reserve(0, ticket(3, 1), id(9), &[out(&loser, 1)]);
    assert_eq!(w.out.one(), Said::Input(Missing), "nobody gets a coin of what is leaving");
    assert_eq!(w.shard.evict(&child.txid(), 0, &mut w.out), EvictStep::Done);
    assert_eq!(w.shard.unspend(&out(&loser, 0), &child.txid()), SpendState::Done);
    assert_eq!(w.shard.unspend(&out(&loser, 0), &child.txid()), SpendState::NotSpent, "once");
    assert_eq!(w.shard.evict(&loser.txid(), 0, &mut w.out), EvictStep::Done);
    assert_eq!(w.shard.unspend(&at(1, 0), &loser.txid()), SpendState::Done);
    w.shard.check();
    let evicted: Vec<_> = w.out.published[2..].iter().map(|p| (p.kind, p.txid)).collect();
    let kind = AcceptedKind::Evicted;
    assert_eq!(evicted, [(kind, child.txid()), (kind, loser.txid())], "children first");
    assert_eq!((w.shard.totals().utxos, w.shard.totals().value_sat), (1, 50));
    assert_eq!(w.shard.evict(&loser.txid(), 0, &mut w.out), EvictStep::Unknown);
}

#[test]
fn a_full_shard_recovers_when_spent_records_are_pruned() {
    let mut cfg = config(0, 1);
    cfg.transactions_max = 16;
    let mut w = World { shard: crate::Shard::new(&cfg), out: Memory::default(), ctx: POOL };
    w.import(at(1, 0), 50);
    let mut coin = at(1, 0);
    let mut accepted = 0;
    for n in 0..100 {
        let next = tx(&[coin], &[50], n);
        w.commit(0, ticket(1, n + 1), &next);
        if w.out.one() == Said::Refused {
            break;
        }
        accepted += 1;
        coin = OutPoint { txid: next.txid(), vout: 0 };
    }
    assert_eq!(accepted, 15);
    let set = Admin::SetMined { shard: 0, block: 5, height: 501, from_seq: 1, to_seq: accepted };
    assert_eq!(w.admin(set), AdminOutcome::Done);
    assert_eq!(w.shard.prune(0, usize::MAX, 500).pruned, 0, "not deep enough");
    let step = w.shard.prune(0, usize::MAX, 501);
    assert_eq!((step.next, step.pruned), (None, 15), "all but the one with a coin");
    w.shard.check();
    let next = tx(&[coin], &[50], 1000);
    w.commit(0, ticket(1, 1000), &next);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 16 });
}

#[test]
fn a_shard_that_the_pool_has_filled_goes_on_with_blocks_from_its_reserve() {
    // Full of bytes, and full of transactions.
    for (slab_bytes, transactions_max) in [(1 << 18, 4096), (8 << 20, 256)] {
        let cfg = crate::ShardConfig { transactions_max, slab_bytes, ..config(0, 1) };
        let mut w = World { shard: crate::Shard::new(&cfg), out: Memory::default(), ctx: POOL };
        for n in [1, 2] {
            w.import(at(n, 0), 50);
        }
        let mut coin = at(1, 0);
        let mut n = 0;
        loop {
            n += 1;
            let next = tx(&[coin], &[50], n);
            w.commit(0, ticket(1, n), &next);
            if w.out.one() == Said::Refused {
                break;
            }
            coin = OutPoint { txid: next.txid(), vout: 0 };
        }
        assert!(n > 200, "{n}");
        let import = |w: &mut World, n| {
            w.admin(Admin::Import {
                outpoint: at(n, 0),
                value_sat: 1,
                height: 10,
                coinbase: false,
                locking_script: &p2pkh(1),
            })
        };
        // What has no room for a transaction may have some for a coin.
        assert!((10..200).any(|n| import(&mut w, n) == AdminOutcome::Refused));
        let refused = |w: &mut World| {
            w.ctx = POOL;
            assert_eq!(import(w, 200), AdminOutcome::Refused, "the reserve is not for this");
            w.commit(0, ticket(1, 9_000), &tx(&[coin], &[50], 9_000));
            let said = w.out.one();
            let is_full = matches!(said, Said::Refused | Said::Input(Overloaded));
            assert!(is_full, "nor for the pool: {said:?}");
        };
        refused(&mut w);
        assert_eq!(w.shard.totals().reserve_used_bytes, 0);
        w.ctx = block(3, 502);
        let theirs = tx(&[at(2, 0)], &[20, 30], 1);
        w.commit(0, ticket(2, 1), &theirs);
        assert_eq!(w.out.one(), Said::Decided { publish_seq: u64::from(n) });
        let mut coinbases = 0;
        loop {
            let coinbase = tx(&[OutPoint::NULL], &[50], coinbases);
            let order = Admin::Coinbase { txid: coinbase.txid(), tx: &coinbase.to_bytes() };
            if w.admin(order) == AdminOutcome::Refused {
                break;
            }
            coinbases += 1;
            refused(&mut w);
            w.ctx = block(3 + coinbases, 502 + coinbases);
        }
        assert!((3..100).contains(&coinbases), "{coinbases} coinbases of the reserve");
        w.shard.check();
    }
}

#[test]
fn imports_of_one_transaction_come_one_by_one_in_any_order() {
    let mut w = World::new();
    w.ask(0, Request::Watch { ticket: ticket(1, 1), outpoint: at(1, 0) });
    for vout in [5, 2, 300] {
        w.import(at(1, vout), u64::from(vout));
    }
    assert!(w.wakes().is_empty(), "output 0 is not there yet");
    w.import(at(1, 0), 7);
    assert_eq!(w.wakes().len(), 1);
    assert_eq!(w.shard.totals().utxos, 4);
    assert_eq!(w.shard.totals().value_sat, 314);
    let script = p2pkh(1);
    let again = Admin::Import {
        outpoint: at(1, 2),
        value_sat: 2,
        height: 10,
        coinbase: false,
        locking_script: &script,
    };
    assert_eq!(w.admin(again), AdminOutcome::Refused);
    w.reserve(0, ticket(1, 1), id(9), &[at(1, 300)]);
    assert_eq!(w.out.one(), FREE);
}

#[test]
fn a_shard_never_acts_in_an_older_epoch_than_a_message() {
    let mut w = World::new();
    let epoch = |number| Epoch { incarnation: 1, number };
    assert_eq!(w.admin(Admin::NextEpoch { epoch: epoch(4) }), AdminOutcome::Done);
    assert_eq!(w.admin(Admin::NextEpoch { epoch: epoch(3) }), AdminOutcome::Refused);
    w.shard.meet_epoch(epoch(9));
    w.shard.meet_epoch(epoch(5));
    assert_eq!(w.shard.epoch(), epoch(9));
}

#[test]
fn a_rival_in_the_same_block_that_holds_the_coin_keeps_its_pool_spender_waiting() {
    let mut w = World::new();
    w.import(at(1, 0), 10);
    let known = tx(&[at(1, 0)], &[9], 1);
    w.announce(0, ticket(0, 1), &known);
    w.commit(0, ticket(0, 1), &known);
    assert_eq!(w.out.one(), Said::Decided { publish_seq: 1 });
    // Both come in one block, the rival's hold first.
    w.ctx = block(7, 501);
    let rival = tx(&[at(1, 0)], &[8], 2);
    w.announce(1, ticket(5, 1), &rival);
    w.announce(0, ticket(6, 1), &known);
    w.reserve(1, ticket(5, 1), rival.txid(), &[at(1, 0)]);
    assert!(matches!(w.out.one(), Said::Input(InputVerdict::Reserved { .. })));
    w.reserve(0, ticket(6, 1), known.txid(), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(InputVerdict::Busy { by: rival.txid() }));
    // The rival gives up: the pool's spend stands, and nothing is held twice.
    w.release(1, ticket(5, 1), rival.txid(), &[at(1, 0)]);
    let told = w.wakes();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].said, Said::Wake(WakeReason::Free));
    w.reserve(0, ticket(6, 2), known.txid(), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(InputVerdict::Spent { by: known.txid() }));
    // Noted as the block's, it keeps the rival out.
    w.reserve(1, ticket(5, 2), rival.txid(), &[at(1, 0)]);
    assert_eq!(w.out.one(), Said::Input(InputVerdict::Spent { by: known.txid() }));
}

#[test]
fn a_block_taken_back_leaves_the_pool_s_spend_and_an_unmined_one_is_the_pool_s_again() {
    let mut w = World::new();
    w.import(at(1, 0), 10);
    let loser = tx(&[at(1, 0)], &[9], 1);
    w.announce(0, ticket(0, 1), &loser);
    w.commit(0, ticket(0, 1), &loser);
    w.out.all();
    let winner = tx(&[at(1, 0)], &[8], 2);
    w.ctx = block(7, 501);
    w.announce(1, ticket(5, 1), &winner);
    w.reserve(1, ticket(5, 1), winner.txid(), &[at(1, 0)]);
    w.settle(1, ticket(5, 1), winner.txid(), &[]);
    w.out.all();
    assert_eq!(w.shard.unspend(&at(1, 0), &winner.txid()), SpendState::Held, "on its way");
    assert_eq!(w.shard.loser(&at(1, 0), &winner.txid()), SpentBy::Tx(loser.txid()));
    w.spend(1, ticket(5, 1), winner.txid(), 2, &[at(1, 0)]);
    w.out.all();
    // The block stands, falls, and its transaction is the pool's under the sequence it has.
    let set = Admin::SetMined { shard: 0, block: 7, height: 501, from_seq: 1, to_seq: 0 };
    assert_eq!(w.admin(set), AdminOutcome::Done);
    assert_eq!(w.shard.unmine(&winner.txid()), 0, "it is mined");
    assert_eq!(w.admin(Admin::UnsetMined { block: 7 }), AdminOutcome::Done);
    assert_eq!(w.shard.unmine(&winner.txid()), 2);
    assert_eq!(w.shard.respend(&at(1, 0), &winner.txid(), 2), (SpendState::Done, 10));
    let ours = Admin::SetMined { shard: 0, block: 8, height: 501, from_seq: 2, to_seq: 2 };
    assert_eq!(w.admin(ours), AdminOutcome::Done);
    assert_eq!(w.shard.unmined_spender(&at(1, 0)), SpentBy::Nobody, "mined again by its place");
    assert_eq!(w.admin(Admin::UnsetMined { block: 8 }), AdminOutcome::Done);
    assert_eq!(w.shard.unmined_spender(&at(1, 0)), SpentBy::Tx(winner.txid()));
    // Taken back altogether: the pool's first spend counts again.
    assert_eq!(w.shard.unspend(&at(1, 0), &winner.txid()), SpendState::Done);
    assert_eq!(w.shard.unmined_spender(&at(1, 0)), SpentBy::Tx(loser.txid()));
    w.shard.check();
}
