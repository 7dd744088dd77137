//! Links from the outside: what a tile may rely on, one kind after the other.

use ring::{Kind, Link, LinkError, LinkSpec, NoCredit, NotSent, Refused, TapPoll};

fn link(depth: u64, mtu_bytes: usize, kind: Kind) -> Link {
    Link::anonymous(&LinkSpec::new("from_to", depth, mtu_bytes, kind)).unwrap()
}

#[test]
fn a_frag_arrives_whole_with_both_time_stamps() {
    let link = link(8, 100, Kind::Lossless);
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    assert_eq!(consumer.poll(), None);
    producer.set_now(22);
    for size in [0, 1, 63, 64, 65, 100] {
        let bytes: Vec<u8> = (0..size).collect();
        let seq = producer.publish(u64::from(size) << 32, 11, &bytes).unwrap();
        let frag = consumer.poll().unwrap();
        assert_eq!((frag.seq, frag.sig), (seq, u64::from(size) << 32));
        assert_eq!((frag.ts_orig, frag.ts_pub, frag.bytes), (11, 22, &bytes[..]));
    }
    assert_eq!(consumer.poll(), None);
}

#[test]
fn a_lossless_link_stops_its_producer_until_every_consumer_has_passed() {
    let spec = LinkSpec::new("from_to", 2, 8, Kind::Lossless).consumers(2);
    let link = Link::anonymous(&spec).unwrap();
    let mut producer = link.producer().unwrap();
    let (mut fast, mut slow) = (link.consumer(0).unwrap(), link.consumer(1).unwrap());
    assert_eq!(producer.credit(), 2);
    producer.publish(1, 0, b"one").unwrap();
    producer.publish(2, 0, b"two").unwrap();
    assert_eq!(producer.publish(3, 0, b"three"), Err(NoCredit));
    while fast.poll().is_some() {}
    assert_eq!(producer.publish(3, 0, b"three"), Err(NoCredit));
    assert_eq!(producer.slowest(), Some(1));
    assert_eq!(producer.backpressure(), 2);
    assert_eq!(slow.poll().unwrap().bytes, b"one");
    slow.return_credit();
    assert_eq!(producer.publish(3, 0, b"three"), Ok(2));
    assert_eq!(slow.poll().unwrap().bytes, b"two");
    assert_eq!(slow.poll().unwrap().bytes, b"three");
    producer.refresh();
    let counts = link.observer().counts();
    assert_eq!((counts.published, counts.backpressure), (3, 2));
    // Of two that are equally far behind the first is named; then the slow one alone.
    assert_eq!([counts.consumers[0].slow, counts.consumers[1].slow], [1, 1]);
}

#[test]
fn a_shed_link_drops_at_the_door_counts_it_and_leaves_no_gap() {
    let link = link(4, 8, Kind::Shed);
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    let taken: Vec<u64> = (0..10).filter(|i| producer.publish(*i, 0, b"x").is_ok()).collect();
    assert_eq!(taken, [0, 1, 2, 3]);
    assert_eq!(producer.shed(), 6);
    for seq in 0..4 {
        assert_eq!(consumer.poll().unwrap().seq, seq);
    }
    assert_eq!(consumer.poll(), None);
    assert_eq!(producer.publish(99, 0, b"x"), Ok(4));
    assert_eq!(consumer.poll().unwrap().sig, 99);
    producer.refresh();
    assert_eq!(link.observer().counts().shed, 6);
}

#[test]
fn a_tap_never_stops_its_producer_and_says_how_much_it_lost() {
    let link = link(4, 20, Kind::Tap);
    let (mut producer, mut tap) = (link.producer().unwrap(), link.tap().unwrap());
    for i in 0..11u64 {
        producer.publish(i, 0, format!("frag number {i}").as_bytes()).unwrap();
    }
    assert_eq!(tap.poll(), TapPoll::Overrun { lost: 8 });
    for i in 8..11u64 {
        let TapPoll::Frag(frag) = tap.poll() else { panic!("frag {i} is not there") };
        assert_eq!((frag.seq, frag.sig), (i, i));
        assert_eq!(frag.bytes, format!("frag number {i}").as_bytes());
    }
    assert_eq!(tap.poll(), TapPoll::Empty);
    assert_eq!((tap.overruns(), tap.lost(), link.observer().counts().overrun), (1, 8, 8));
}

#[test]
fn a_tap_joins_at_the_newest_frag() {
    for published in [0, 1, 3, 4, 5, 100] {
        let link = link(4, 8, Kind::Tap);
        let mut producer = link.producer().unwrap();
        for _ in 0..published {
            producer.publish(1, 0, b"old").unwrap();
        }
        let mut tap = link.tap().unwrap();
        assert_eq!(tap.poll(), TapPoll::Empty, "after {published}");
        producer.publish(2, 0, b"new").unwrap();
        let TapPoll::Frag(frag) = tap.poll() else { panic!("the new frag is not there") };
        assert_eq!((frag.seq, frag.bytes), (published, &b"new"[..]));
        assert_eq!(tap.lost(), 0);
    }
}

#[test]
fn a_frag_may_be_built_in_place() {
    for kind in [Kind::Lossless, Kind::Shed, Kind::Tap] {
        let link = link(2, 300, kind);
        let mut producer = link.producer().unwrap();
        let slot = producer.prepare().unwrap();
        assert_eq!(slot.len(), 300);
        slot[..5].copy_from_slice(b"built");
        producer.refresh();
        assert_eq!(&producer.prepare().unwrap()[..5], b"built", "asked again, it is the same slot");
        assert_eq!(producer.commit(1, 5, 0), 0);
        if kind != Kind::Tap {
            assert_eq!(link.consumer(0).unwrap().poll().unwrap().bytes, b"built");
        }
    }
}

#[test]
fn housekeeping_leaves_a_prepared_slot_where_it_is() {
    let link = link(4, 300, Kind::Lossless);
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    producer.publish(0, 0, &[9; 300]).unwrap();
    producer.prepare().unwrap()[..5].copy_from_slice(b"built");
    while consumer.poll().is_some() {}
    assert_eq!(producer.refresh(), 4, "all is passed, so the ring may be rewound after this frag");
    assert_eq!(&producer.prepare().unwrap()[..5], b"built");
    producer.commit(1, 5, 0);
    assert_eq!(consumer.poll().unwrap().bytes, b"built");
}

#[test]
fn a_caller_that_looks_before_it_publishes_counts_for_itself() {
    let link = link(2, 8, Kind::Shed);
    let mut producer = link.producer().unwrap();
    assert!(producer.credit_at_least(2) && !producer.credit_at_least(3));
    producer.publish(0, 0, &[]).unwrap();
    producer.publish(0, 0, &[]).unwrap();
    assert!(producer.prepare().is_none());
    producer.count_shed();
    producer.count_backpressure();
    producer.refresh();
    let counts = link.observer().counts();
    assert_eq!((counts.shed, counts.backpressure, counts.consumers[0].slow), (1, 1, 1));
    assert_eq!(counts.consumers[0].lag, 2);
}

#[test]
fn a_large_frag_is_given_back_by_the_very_next_poll() {
    let spec = LinkSpec::new("from_to", 64, 8, Kind::Lossless).arena_bytes(4096);
    let link = Link::anonymous(&spec).unwrap();
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    producer.publish_any(0, 0, &[1; 4096], 1).unwrap();
    producer.publish(0, 0, &[]).unwrap();
    producer.publish(0, 0, &[]).unwrap();
    assert_eq!(consumer.poll().unwrap().bytes.len(), 4096);
    assert!(producer.admit(1, 2).is_err());
    assert!(consumer.poll().is_some(), "more work follows, and still");
    assert!(producer.admit(1, 2).is_ok());
}

#[test]
#[should_panic(expected = "commit without prepare")]
fn publishing_takes_the_prepared_slot() {
    let link = link(4, 8, Kind::Lossless);
    let mut producer = link.producer().unwrap();
    producer.prepare().unwrap();
    producer.publish(1, 0, b"x").unwrap();
    producer.commit(2, 1, 0);
}

#[test]
fn an_idle_consumer_owes_nothing() {
    let link = link(1024, 8, Kind::Lossless);
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    producer.publish(1, 0, b"x").unwrap();
    consumer.poll().unwrap();
    assert_eq!(producer.refresh(), 1023);
    assert_eq!(consumer.poll(), None);
    assert_eq!(producer.refresh(), 1024);
}

#[test]
fn lag_counts_what_is_published_and_not_polled() {
    let link = link(8, 8, Kind::Lossless);
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    for i in 0..20 {
        assert_eq!(consumer.lag(), i % 3);
        producer.publish(1, 0, b"x").unwrap();
        if i % 3 == 2 {
            while consumer.poll().is_some() {}
        }
    }
    assert_eq!(consumer.lag(), 2);
}

#[test]
fn a_consumer_that_leaves_is_not_waited_for() {
    let spec = LinkSpec::new("from_to", 2, 8, Kind::Lossless).consumers(2);
    let link = Link::anonymous(&spec).unwrap();
    let mut producer = link.producer().unwrap();
    let (leaver, mut stayer) = (link.consumer(0).unwrap(), link.consumer(1).unwrap());
    producer.publish(1, 0, b"x").unwrap();
    producer.publish(2, 0, b"x").unwrap();
    while stayer.poll().is_some() {}
    assert_eq!(producer.publish(3, 0, b"x"), Err(NoCredit));
    drop(leaver);
    assert_eq!(producer.publish(3, 0, b"x"), Ok(2));
    assert!(!producer.is_abandoned());
    drop(stayer);
    assert!(producer.is_abandoned());
    assert_eq!(link.observer().counts().consumers[0].position, None);
}

#[test]
fn a_consumer_drains_what_a_gone_producer_left() {
    let link = link(4, 8, Kind::Lossless);
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    producer.publish(1, 0, b"last").unwrap();
    assert!(!consumer.is_finished());
    drop(producer);
    assert!(!consumer.is_finished());
    assert_eq!(consumer.poll().unwrap().bytes, b"last");
    assert!(consumer.is_finished());
}

#[test]
fn every_end_is_given_out_once_and_only_where_it_makes_sense() {
    let lossless = link(4, 8, Kind::Lossless);
    let _held = (lossless.producer().unwrap(), lossless.consumer(0).unwrap());
    assert!(matches!(lossless.producer(), Err(LinkError::NoEnd { .. })));
    assert!(matches!(lossless.consumer(0), Err(LinkError::NoEnd { .. })));
    assert!(matches!(lossless.consumer(1), Err(LinkError::NoEnd { .. })));
    assert!(matches!(lossless.tap(), Err(LinkError::NoEnd { .. })));
    let tap = link(4, 8, Kind::Tap);
    assert!(matches!(tap.consumer(0), Err(LinkError::NoEnd { .. })));
    let _many = (tap.tap().unwrap(), tap.tap().unwrap());
}

#[test]
fn a_large_frag_is_written_in_pieces_and_read_as_one() {
    let spec = LinkSpec::new("from_to", 4, 64, Kind::Lossless).arena_bytes(10_000);
    let link = Link::anonymous(&spec).unwrap();
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    let bytes: Vec<u8> = (0..9_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let mut frag = producer.admit(9_000, 1).unwrap();
    for piece in bytes.chunks(1_000) {
        assert_eq!(consumer.poll(), None);
        producer.write(&mut frag, piece).unwrap();
    }
    assert!(producer.write(&mut frag, b"x").is_err(), "one byte more than was claimed");
    assert_eq!(producer.admit(100, 1).unwrap_err(), Refused::SourceBusy);
    assert_eq!(producer.admit(2_000, 2).unwrap_err(), Refused::Full);
    let seq = producer.publish_large(frag, 5, 6).unwrap();
    let got = consumer.poll().unwrap();
    assert_eq!((got.seq, got.sig, got.ts_orig), (seq, 5, 6));
    assert!(got.bytes == bytes);
    assert_eq!(producer.admit(100, 1).unwrap_err(), Refused::SourceBusy, "still held");
    assert_eq!(consumer.poll(), None);
    assert!(producer.admit(9_000, 1).is_ok(), "passed, so its room is free");
    producer.refresh();
    let counts = link.observer().counts();
    assert_eq!((counts.large_published, counts.large_bytes, counts.large_refused), (1, 9_000, 3));
}

#[test]
fn a_large_frag_that_is_dropped_gives_its_room_back() {
    let spec = LinkSpec::new("from_to", 4, 64, Kind::Lossless).arena_bytes(4096);
    let link = Link::anonymous(&spec).unwrap();
    let mut producer = link.producer().unwrap();
    let frag = producer.admit(4096, 1).unwrap();
    assert_eq!(producer.admit(1, 2).unwrap_err(), Refused::Full);
    drop(frag);
    assert!(producer.admit(4096, 2).is_ok());
}

#[test]
fn a_large_frag_without_credit_comes_back_unharmed() {
    let spec = LinkSpec::new("from_to", 2, 64, Kind::Lossless).arena_bytes(4096);
    let link = Link::anonymous(&spec).unwrap();
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    producer.publish(1, 0, b"x").unwrap();
    producer.publish(1, 0, b"x").unwrap();
    let mut frag = producer.admit(1000, 1).unwrap();
    producer.write(&mut frag, &[7; 1000]).unwrap();
    let frag = producer.publish_large(frag, 1, 0).unwrap_err();
    while consumer.poll().is_some() {}
    producer.publish_large(frag, 1, 0).unwrap();
    assert_eq!(consumer.poll().unwrap().bytes, [7; 1000]);
}

#[test]
fn a_whole_frag_of_any_size_finds_its_way() {
    let spec = LinkSpec::new("from_to", 4, 64, Kind::Shed).arena_bytes(1024);
    let link = Link::anonymous(&spec).unwrap();
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    for size in [0, 64, 65, 1024] {
        let bytes = vec![size as u8 ^ 0x5a; size];
        producer.publish_any(1, 0, &bytes, 1).unwrap();
        assert_eq!(consumer.poll().unwrap().bytes, bytes);
        assert!(consumer.poll().is_none());
    }
    let refused = producer.publish_any(1, 0, &[0; 1025], 1);
    assert_eq!(refused, Err(NotSent::Refused(Refused::TooLarge)));
    for source in 0..4 {
        producer.publish_any(1, 0, &[0; 65], source).unwrap();
    }
    assert_eq!(producer.publish_any(1, 0, &[0; 65], 9), Err(NotSent::NoCredit(NoCredit)));
    assert_eq!(producer.shed(), 1);
    assert_eq!(producer.arena_used_bytes(), 4 * 128);
}

#[test]
fn a_link_without_payload_carries_signatures() {
    let link = link(4, 0, Kind::Lossless);
    link.prefault().unwrap();
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    for i in 0..100 {
        producer.publish(i, 0, &[]).unwrap();
        let frag = consumer.poll().unwrap();
        assert_eq!((frag.sig, frag.bytes.len()), (i, 0));
    }
}

#[test]
#[should_panic(expected = "longer than its link's mtu")]
fn a_frag_longer_than_the_mtu_is_a_violation() {
    let _ = link(4, 8, Kind::Lossless).producer().unwrap().publish(1, 0, &[0; 9]);
}

#[test]
fn sixty_four_mebibytes_cross_two_links() {
    large_across_two_links(64 << 20);
}

#[test]
#[ignore = "a gigabyte of memory three times over; run by hand"]
fn a_gigabyte_crosses_two_links() {
    large_across_two_links(1_000_000_000);
}

/// A source writes a large frag on `a` in pieces, a tile in the middle forwards it to `b`, a sink checks every byte.
fn large_across_two_links(bytes: u64) {
    let spec = |name: &str| LinkSpec::new(name, 2, 2048, Kind::Lossless).arena_bytes(bytes);
    let a = Link::anonymous(&spec("source_middle")).unwrap();
    let b = Link::anonymous(&spec("middle_sink")).unwrap();
    let piece_of = |at: u64| -> Vec<u8> {
        let len = (bytes - at).min(1 << 20);
        (at..at + len).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8).collect()
    };
    std::thread::scope(|scope| {
        let (mut source, mut sink) = (a.producer().unwrap(), b.consumer(0).unwrap());
        let (mut from, mut to) = (a.consumer(0).unwrap(), b.producer().unwrap());
        scope.spawn(move || {
            let mut frag = source.admit(bytes, 1).unwrap();
            while frag.written_bytes() < bytes {
                let piece = piece_of(frag.written_bytes());
                source.write(&mut frag, &piece).unwrap();
            }
            source.publish_large(frag, 1, 0).unwrap();
        });
        scope.spawn(move || {
            loop {
                let Some(frag) = from.poll() else {
                    std::thread::yield_now();
                    continue;
                };
                let mut copy = to.admit(frag.bytes.len() as u64, 1).unwrap();
                for piece in frag.bytes.chunks(65_536) {
                    to.write(&mut copy, piece).unwrap();
                }
                to.publish_large(copy, frag.sig, frag.ts_orig).unwrap();
                return;
            }
        });
        loop {
            let Some(frag) = sink.poll() else {
                std::thread::yield_now();
                continue;
            };
            assert_eq!(frag.bytes.len() as u64, bytes);
            for (i, got) in frag.bytes.chunks(1 << 20).enumerate() {
                assert!(got == piece_of((i as u64) << 20), "mebibyte {i} differs");
            }
            return;
        }
    });
}
