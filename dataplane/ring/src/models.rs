//! loom models: every ordering of this crate, explored, and every ordering removed once to see a model fail.
//!
//! The models call the functions the links are made of (`Line`, `Fseq`, `Flag`), on the smallest scene that shows the
//! property: two or three threads, two lines, one or two frags. `Site` names the orderings; [`every_ordering_is_needed`]
//! weakens each in turn and demands that its model breaks. loom explores the C11 model without load buffering, so a pass
//! is strong evidence and no proof.
//!
//! Run: `RUSTFLAGS="--cfg loom" cargo test -p ring --release --lib`

use crate::credit::{Fseq, Held};
use crate::line::{Found, Line, Loc, Meta};
use crate::park::Flag;
use crate::sync::{AtomicU64, Ordering::Relaxed, Site, weak};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Plain payload bytes. loom notes each access and fails on a race; the bytes themselves are not needed for that.
type Bytes = UnsafeCell<()>;

fn meta(word: u64) -> Meta {
    Meta { sig: word, loc: Loc::new(word * 64, word as usize), ts_orig: word as u32, ts_pub: 0 }
}

/// A line of a link of depth `depth` is used by frag 1 and then by frag `1 + depth`; a tap wants frag 1.
fn torn_meta(depth: u64) {
    loom::model(move || {
        let line = Arc::new(Line::new(1u64.wrapping_sub(depth)));
        let writer = {
            let line = Arc::clone(&line);
            thread::spawn(move || {
                line.publish(1, meta(1));
                line.publish(1 + depth, meta(1 + depth));
            })
        };
        if let Found::Whole(got) = line.poll_tap(1) {
            assert_eq!(got, meta(1), "accepted a torn line");
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_torn_line_is_never_accepted() {
    torn_meta(2);
}

#[test]
#[should_panic(expected = "accepted a torn line")]
fn depth_one_accepts_a_torn_line() {
    torn_meta(1);
}

/// A tap copies a payload whose bytes the producer reuses after evicting the line.
fn payload_reuse() {
    loom::model(|| {
        let link = Arc::new((Line::new(u64::MAX), AtomicU64::new(0)));
        let writer = {
            let link = Arc::clone(&link);
            thread::spawn(move || {
                let (line, payload) = &*link;
                payload.store(10, Relaxed);
                line.publish(1, meta(1));
                line.publish(3, meta(3)); // evicts frag 1: its payload may be reused
                payload.store(20, Relaxed);
            })
        };
        let (line, payload) = &*link;
        if let Found::Whole(_) = line.poll_tap(1) {
            let copy = payload.load(Relaxed);
            if line.still(1).is_ok() {
                assert_eq!(copy, 10, "accepted a torn payload");
            }
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_torn_payload_is_never_accepted() {
    payload_reuse();
}

/// A producer writes plain bytes, and writes them again once the consumer has given them back (or has left).
fn exclusive_payload(leave: bool) {
    loom::model(move || {
        let link = Arc::new((Line::new(u64::MAX), Bytes::new(()), Fseq::new(1)));
        let writer = {
            let link = Arc::clone(&link);
            thread::spawn(move || {
                let (line, payload, fseq) = &*link;
                payload.with_mut(|_| ());
                line.publish(1, meta(1));
                if fseq.read().is_none_or(|next| next > 1) {
                    payload.with_mut(|_| ());
                    line.publish(3, meta(3));
                }
            })
        };
        let (line, payload, fseq) = &*link;
        let mut held = Held::new(1);
        if let Some(got) = line.poll_held(1) {
            assert_eq!(got, meta(1), "a held line was not whole");
            held.advance();
            payload.with(|_| ());
            if leave { fseq.shut_down() } else { held.give_back(fseq) }
        }
        writer.join().unwrap();
    });
}

#[test]
fn credit_makes_a_payload_exclusive() {
    exclusive_payload(false);
}

#[test]
fn a_consumer_that_leaves_has_finished_reading() {
    exclusive_payload(true);
}

/// A large frag is two plain payloads, a handle in the ring and bytes in the arena; two consumers pass it before the
/// arena gives the bytes to the next claim.
fn arena_release() {
    loom::model(|| {
        struct Scene {
            line: Line,
            handle: Bytes,
            arena: Bytes,
            fseqs: [Fseq; 2],
        }
        let scene = Arc::new(Scene {
            line: Line::new(u64::MAX),
            handle: Bytes::new(()),
            arena: Bytes::new(()),
            fseqs: [Fseq::new(1), Fseq::new(1)],
        });
        let consume = |scene: &Scene, index: usize| {
            if let Some(got) = scene.line.poll_held(1) {
                assert_eq!(got, meta(1), "a held line was not whole");
                scene.handle.with(|_| ());
                scene.arena.with(|_| ());
                let mut held = Held::new(1);
                held.advance();
                held.give_back(&scene.fseqs[index]);
            }
        };
        let producer = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                scene.arena.with_mut(|_| ());
                scene.handle.with_mut(|_| ());
                scene.line.publish(1, meta(1));
                let slowest = crate::credit::slowest(scene.fseqs.iter(), 2, 2);
                if slowest.is_none_or(|s| s.fseq > 1) {
                    scene.arena.with_mut(|_| ());
                }
            })
        };
        let other = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || consume(&scene, 1))
        };
        consume(&scene, 0);
        producer.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn the_arena_is_reused_only_when_every_consumer_has_passed() {
    arena_release();
}

/// Two tiles forward one payload: the owner's credit must wait for the last reader, not for the first hop.
fn two_hops(gate_on_last: bool) {
    loom::model(move || {
        struct Scene {
            first: Line,
            second: Line,
            payload: Bytes,
            passed_first: Fseq,
            passed_second: Fseq,
        }
        let scene = Arc::new(Scene {
            first: Line::new(u64::MAX),
            second: Line::new(u64::MAX),
            payload: Bytes::new(()),
            passed_first: Fseq::new(1),
            passed_second: Fseq::new(1),
        });
        let owner = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                scene.payload.with_mut(|_| ());
                scene.first.publish(1, meta(1));
                let gate = if gate_on_last { &scene.passed_second } else { &scene.passed_first };
                if gate.read() == Some(2) {
                    scene.payload.with_mut(|_| ());
                }
            })
        };
        let middle = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                if let Some(meta) = scene.first.poll_held(1) {
                    scene.second.publish(1, meta);
                    scene.passed_first.give_back(2);
                }
            })
        };
        if scene.second.poll_held(1).is_some() {
            scene.payload.with(|_| ());
            scene.passed_second.give_back(2);
        }
        owner.join().unwrap();
        middle.join().unwrap();
    });
}

#[test]
fn a_forwarded_borrow_is_sound_if_credit_waits_for_the_last_reader() {
    two_hops(true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_forwarded_borrow_races_if_credit_waits_for_the_first_hop() {
    two_hops(false);
}

/// The producer publishes its last frag and closes; a consumer that sees the mark must see the frag.
fn close() {
    loom::model(|| {
        let link = Arc::new((Line::new(u64::MAX), AtomicU64::new(0)));
        let writer = {
            let link = Arc::clone(&link);
            thread::spawn(move || {
                link.0.publish(1, meta(1));
                link.1.store(1, Site::Close.order());
            })
        };
        if link.1.load(Site::CloseRead.order()) != 0 {
            assert!(link.0.has(1), "the last frag was lost");
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_closed_link_shows_its_last_frag() {
    close();
}

/// A region is initialised, then named; who reads the name reads an initialised region.
fn attach() {
    loom::model(|| {
        let region = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let creator = {
            let region = Arc::clone(&region);
            thread::spawn(move || {
                region.0.store(42, Relaxed);
                region.1.store(1, Site::Ready.order());
            })
        };
        if region.1.load(Site::Attach.order()) == 1 {
            assert_eq!(region.0.load(Relaxed), 42, "attached to a half-made region");
        }
        creator.join().unwrap();
    });
}

#[test]
fn an_attached_region_is_complete() {
    attach();
}

/// A parker raises its flag, polls once and sleeps; a producer publishes and looks at the flag. The parker sleeps with
/// work pending only if the producer has taken the flag down, that is, wakes it. It parks twice, so that the flag of the
/// first time is in play in the second.
fn parking(membarrier: bool, rounds: u64) {
    loom::model(move || {
        let scene = Arc::new((Line::new(u64::MAX), Flag::new(membarrier)));
        let producer = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                scene.0.publish(1, meta(1));
                scene.1.must_wake();
            })
        };
        let mut asleep = false;
        for round in 0..rounds {
            scene.1.raise();
            let work = scene.0.has(1);
            if work || round + 1 < rounds {
                scene.1.lower(); // work found, or a timeout ended an early sleep
            } else {
                asleep = true;
            }
            if work {
                break;
            }
        }
        producer.join().unwrap();
        if asleep {
            assert!(!scene.1.is_raised(), "sleeps with work pending and nobody wakes it");
        }
    });
}

#[test]
fn no_wake_up_is_lost_with_membarrier() {
    parking(true, 2);
}

#[test]
fn no_wake_up_is_lost_with_exchanges() {
    parking(false, 2);
}

/// The model that breaks without the ordering of `site`.
fn model_of(site: Site) -> fn() {
    match site {
        Site::LineMarker | Site::TapVerify => || torn_meta(2),
        Site::LinePublish | Site::LinePoll | Site::CreditReturn | Site::CreditRead => {
            || exclusive_payload(false)
        }
        Site::Shutdown => || exclusive_payload(true),
        Site::Close | Site::CloseRead => close,
        Site::Ready | Site::Attach => attach,
        Site::ParkBarrier | Site::WakeOrder => || parking(true, 1),
        Site::ParkExchange | Site::WakeExchange => || parking(false, 1),
    }
}

const SITES: [Site; 15] = [
    Site::LineMarker,
    Site::LinePublish,
    Site::LinePoll,
    Site::TapVerify,
    Site::CreditReturn,
    Site::CreditRead,
    Site::Shutdown,
    Site::Close,
    Site::CloseRead,
    Site::Ready,
    Site::Attach,
    Site::ParkBarrier,
    Site::WakeOrder,
    Site::ParkExchange,
    Site::WakeExchange,
];

#[test]
fn every_ordering_is_needed() {
    let mut needless = Vec::new();
    for site in SITES {
        weak::set(Some(site));
        let outcome = catch_unwind(AssertUnwindSafe(model_of(site)));
        weak::set(None);
        if outcome.is_ok() {
            needless.push(site);
        }
    }
    assert!(needless.is_empty(), "no model fails without {needless:?}");
}

#[test]
fn the_other_models_need_their_orderings_too() {
    let held = [Site::LinePublish, Site::LinePoll, Site::CreditReturn, Site::CreditRead];
    let tap = [Site::LineMarker, Site::TapVerify];
    let cases = held.map(|s| (s, arena_release as fn())).into_iter();
    for (site, model) in cases.chain(tap.map(|s| (s, payload_reuse as fn()))) {
        weak::set(Some(site));
        let outcome = catch_unwind(model);
        weak::set(None);
        assert!(outcome.is_err(), "a model passes without {site:?}");
    }
}
