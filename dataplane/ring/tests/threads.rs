//! Links under real threads: slow consumers, sheds and overruns while everything moves, and the litmus of parking.

use ring::park::{Parked, Parker};
use ring::{Consumer, Kind, Link, LinkSpec, TapPoll};
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that name their frag all over.
fn payload(seq: u64) -> Vec<u8> {
    let size = (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % 500;
    (0..size as u64).map(|i| (seq.wrapping_mul(7) + i) as u8).collect()
}

/// Reads to the end of the link, stalling now and then; gives the signatures it saw.
fn consume(mut consumer: Consumer, stall_every: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    loop {
        if let Some(frag) = consumer.poll() {
            assert_eq!(frag.seq, seen.len() as u64, "a gap in seq");
            assert!(frag.bytes == payload(frag.sig), "frag {} is damaged", frag.seq);
            seen.push(frag.sig);
            if (seen.len() as u64).is_multiple_of(stall_every) {
                thread::sleep(Duration::from_micros(50));
            }
        } else if consumer.is_finished() {
            return seen;
        } else {
            thread::yield_now();
        }
    }
}

#[test]
fn slow_consumers_lose_nothing_on_a_lossless_link() {
    for depth in [2, 64] {
        let frags = if depth == 2 { 5_000 } else { 50_000 };
        let spec = LinkSpec::new("from_to", depth, 512, Kind::Lossless).consumers(3);
        let link = Link::anonymous(&spec).unwrap();
        let mut producer = link.producer().unwrap();
        thread::scope(|scope| {
            let readers = [0, 1, 2].map(|i| {
                let consumer = link.consumer(i).unwrap();
                scope.spawn(move || consume(consumer, [u64::MAX, 400, 1_500][i]))
            });
            for i in 0..frags {
                let bytes = payload(i);
                while producer.publish(i, 0, &bytes).is_err() {
                    thread::yield_now();
                }
            }
            drop(producer);
            for reader in readers {
                let seen = reader.join().unwrap();
                assert!(seen.iter().copied().eq(0..frags));
            }
        });
    }
}

#[test]
fn a_shed_link_counts_exactly_what_it_did_not_carry() {
    const OFFERED: u64 = 100_000;
    let link = Link::anonymous(&LinkSpec::new("from_to", 32, 512, Kind::Shed)).unwrap();
    let (mut producer, consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    let reader = thread::spawn(move || consume(consumer, 100));
    let accepted: Vec<u64> =
        (0..OFFERED).filter(|i| producer.publish(*i, 0, &payload(*i)).is_ok()).collect();
    drop(producer);
    assert_eq!(reader.join().unwrap(), accepted);
    let counts = link.observer().counts();
    assert_eq!(counts.shed + counts.published, OFFERED);
    assert!(counts.closed);
}

#[test]
fn an_overrun_tap_never_shows_a_damaged_frag() {
    // Two lines, long payloads, and more readers than cores: a reader is sure to be stopped in the middle of a copy.
    const BYTES: usize = 16_384;
    let link = Link::anonymous(&LinkSpec::new("from_to", 2, BYTES, Kind::Tap)).unwrap();
    let mut producer = link.producer().unwrap();
    let readers = thread::available_parallelism().map_or(4, |n| n.get().min(16));
    thread::scope(|scope| {
        for mut tap in (0..readers).map(|_| link.tap().unwrap()) {
            scope.spawn(move || {
                let mut next = 0;
                loop {
                    let closed = tap.is_closed();
                    match tap.poll() {
                        TapPoll::Empty if closed => break,
                        TapPoll::Empty => std::hint::spin_loop(), // yielding would choose where to stop
                        TapPoll::Overrun { lost } => next += lost,
                        TapPoll::Frag(frag) => {
                            assert_eq!((frag.seq, frag.sig, frag.bytes.len()), (next, next, BYTES));
                            let whole = frag.bytes == [next as u8; BYTES];
                            assert!(whole, "frag {next} is torn");
                            next += 1;
                        }
                    }
                }
                assert!(tap.overruns() > 0, "never overrun, so nothing is shown");
            });
        }
        let start = Instant::now();
        let mut sent = 0u64;
        while start.elapsed() < Duration::from_millis(500) {
            for _ in 0..16 {
                producer.publish(sent, 0, &[sent as u8; BYTES]).unwrap();
                sent += 1;
            }
        }
        drop(producer);
    });
}

#[test]
fn a_producer_and_a_consumer_may_move_between_threads() {
    let link = Link::anonymous(&LinkSpec::new("from_to", 4, 8, Kind::Lossless)).unwrap();
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    for i in 0..20u64 {
        (producer, consumer) = thread::spawn(move || {
            producer.publish(i, 0, &i.to_le_bytes()).unwrap();
            (producer, consumer)
        })
        .join()
        .unwrap();
        assert_eq!(consumer.poll().unwrap().bytes, i.to_le_bytes());
        consumer.return_credit();
    }
}

/// The producer sends one frag at a time, each only after the one before was read, so a consumer that sleeps through a
/// frag sleeps for good. The timeout is so long that it never ends a sleep by right: one that does is a lost wake-up.
fn no_wake_up_is_lost(mut parker: Parker, for_time: Duration) {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let link = Link::anonymous(&LinkSpec::new("from_to", 2, 8, Kind::Lossless)).unwrap();
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    let waker = parker.waker();
    let read = AtomicU64::new(0);
    let (mut slept, mut found) = (0u64, 0u64);
    thread::scope(|scope| {
        let read = &read;
        scope.spawn(move || {
            let start = Instant::now();
            let mut sent = 0u64;
            while start.elapsed() < for_time {
                producer.publish(sent, 0, &[]).expect("the consumer has read everything");
                waker.wake_if_parked();
                sent += 1;
                let mut spins = 0u64;
                while read.load(Acquire) != sent {
                    spins += 1;
                    if spins.is_multiple_of(64) {
                        thread::yield_now();
                    }
                }
                // Move the publish around in the window between the consumer's polls and its sleep.
                for _ in 0..sent.wrapping_mul(0x9e37_79b9) % 200 {
                    std::hint::spin_loop();
                }
            }
            drop(producer);
            waker.wake_if_parked();
        });
        loop {
            if consumer.poll().is_some() {
                consumer.return_credit();
                read.store(consumer.next_seq(), Release);
                continue;
            }
            if consumer.is_finished() {
                break;
            }
            match parker.park(TIMEOUT, || consumer.lag() != 0 || consumer.is_finished()) {
                Parked::Work => found += 1,
                Parked::Woken => slept += 1,
                Parked::TimedOut => panic!("a wake-up was lost after {slept} sleeps"),
            }
        }
    });
    assert!(slept > 0, "the litmus never slept, so it shows nothing ({found} polls found work)");
    eprintln!("{slept} sleeps ended by a waker, {found} avoided by the last poll");
}

#[test]
fn parking_with_membarrier_loses_no_wake_up() {
    let parker = Parker::new();
    if !parker.uses_membarrier() {
        eprintln!("skipped: membarrier is not permitted here (likely a seccomp profile)");
        return;
    }
    no_wake_up_is_lost(parker, Duration::from_secs(2));
}

#[test]
fn parking_without_membarrier_loses_no_wake_up() {
    no_wake_up_is_lost(Parker::without_membarrier(), Duration::from_secs(1));
}

#[test]
fn an_idle_parker_wakes_by_its_timeout() {
    let mut parker = Parker::new();
    let start = Instant::now();
    assert_eq!(parker.park(Duration::from_millis(1), || false), Parked::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(1));
    assert_eq!(parker.park(Duration::from_mins(1), || true), Parked::Work);
}

#[test]
fn of_several_wakers_any_ends_the_sleep() {
    let mut parker = Parker::new();
    let wakers = [parker.waker(), parker.waker(), parker.waker()];
    let stop = AtomicU64::new(0);
    thread::scope(|scope| {
        for waker in &wakers {
            let stop = &stop;
            scope.spawn(move || {
                while stop.load(Acquire) == 0 {
                    waker.wake_if_parked();
                    thread::sleep(Duration::from_micros(100));
                }
            });
        }
        for _ in 0..20 {
            assert_eq!(parker.park(Duration::from_secs(10), || false), Parked::Woken);
        }
        stop.store(1, Release);
    });
}
