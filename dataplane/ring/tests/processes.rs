//! Links between two processes: a mapped file, two address spaces, one protocol.
//!
//! The test starts its own binary a second time; the child finds the files by an environment variable.

use ring::{Consumer, Frag, Kind, Link, LinkError, LinkSpec};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DIR: &str = "RING_TEST_DIR";
const FRAGS: u64 = 20_000;
const LARGE_EVERY: u64 = 500;
const LARGE_BYTES: u64 = 300_000;

fn size_of_frag(i: u64) -> usize {
    if i.is_multiple_of(LARGE_EVERY) { LARGE_BYTES as usize } else { (i * 37 % 256) as usize }
}

fn payload(i: u64) -> Vec<u8> {
    (0..size_of_frag(i) as u64).map(|at| (at * 13 + i) as u8).collect()
}

/// Waits for the next frag, or for the end of the link; fails if neither comes.
fn wait(consumer: &mut Consumer) -> Option<Frag<'_>> {
    let start = Instant::now();
    while consumer.lag() == 0 {
        if consumer.is_finished() {
            return None;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "the other process is silent");
        consumer.return_credit();
        std::thread::yield_now();
    }
    consumer.poll()
}

fn send(producer: &mut ring::Producer, sig: u64, bytes: &[u8]) -> bool {
    if bytes.len() <= producer.mtu_bytes() {
        return producer.publish(sig, 0, bytes).is_ok();
    }
    let Ok(mut frag) = producer.admit(bytes.len() as u64, sig) else { return false };
    for piece in bytes.chunks(10_000) {
        producer.write(&mut frag, piece).unwrap();
    }
    producer.publish_large(frag, sig, 0).is_ok()
}

#[test]
fn frags_cross_to_another_process_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let spec =
        |name: &str| LinkSpec::new(name, 16, 256, Kind::Lossless).arena_bytes(2 * LARGE_BYTES);
    let there = Link::create_file(dir.path().join("there"), &spec("parent_child")).unwrap();
    let back = Link::create_file(dir.path().join("back"), &spec("child_parent")).unwrap();
    let mut producer = there.producer().unwrap();
    let mut consumer = back.consumer(0).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_other_process", "--nocapture"])
        .env(DIR, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (mut sent, mut got) = (0, 0);
    let start = Instant::now();
    while got < FRAGS {
        if sent < FRAGS && send(&mut producer, sent, &payload(sent)) {
            sent += 1;
        }
        if let Some(frag) = consumer.poll() {
            assert_eq!((frag.seq, frag.sig), (got, !got));
            assert!(frag.bytes.iter().map(|b| !b).eq(payload(got)), "frag {got} is damaged");
            got += 1;
        } else {
            assert!(start.elapsed() < Duration::from_mins(2), "stuck at {sent} sent, {got} back");
            std::thread::yield_now();
        }
    }
    drop(producer);
    assert!(wait(&mut consumer).is_none(), "more came back than was sent");
    assert!(child.wait().unwrap().success());
    let counts = there.observer().counts();
    assert_eq!((counts.published, counts.large_published), (FRAGS, FRAGS / LARGE_EVERY));
    assert_eq!(counts.consumers[0].position, None, "the child has left");
}

#[test]
#[ignore = "started by frags_cross_to_another_process_and_back"]
fn the_other_process() {
    let Some(dir) = std::env::var_os(DIR) else {
        panic!("{DIR} is not set: this is the child's half of another test");
    };
    let open = |name: &str| Link::open_file(Path::new(&dir).join(name)).unwrap();
    let (there, back) = (open("there"), open("back"));
    assert_eq!(there.spec().name, "parent_child");
    assert!(matches!(there.producer(), Err(LinkError::NoEnd { .. })), "the parent holds it");
    let mut consumer = there.consumer(0).unwrap();
    let mut producer = back.producer().unwrap();
    while let Some(frag) = wait(&mut consumer) {
        let (sig, bytes): (u64, Vec<u8>) = (!frag.sig, frag.bytes.iter().map(|b| !b).collect());
        let start = Instant::now();
        while !send(&mut producer, sig, &bytes) {
            assert!(start.elapsed() < Duration::from_mins(1), "the parent does not read");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_file_that_is_not_this_builds_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("link");
    let spec = LinkSpec::new("from_to", 16, 256, Kind::Shed).consumers(2);
    let make = || Link::create_file(&path, &spec).unwrap();
    let refused = || match Link::open_file(&path) {
        Err(LinkError::Mismatch { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    // Words of the header: magic, version, layout hash, kind, depth.
    for (word, field) in
        [(0, "magic number"), (1, "format version"), (3, "kind"), (4, "layout hash")]
    {
        make();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&32u64.to_le_bytes(), word * 8).unwrap();
        assert_eq!(refused(), field);
    }
    let file = {
        make();
        OpenOptions::new().write(true).open(&path).unwrap()
    };
    file.set_len(4096).unwrap();
    assert_eq!(refused(), "size in bytes");
    file.set_len(10).unwrap();
    assert_eq!(refused(), "size in bytes");
    file.set_len(0).unwrap();
    assert_eq!(refused(), "size in bytes");
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Link::open_file(&path), Err(LinkError::Os { .. })));
}

#[test]
fn a_new_link_in_the_same_place_leaves_the_old_one_to_its_users() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("link");
    let spec = LinkSpec::new("from_to", 16, 256, Kind::Lossless);
    let old = Link::create_file(&path, &spec).unwrap();
    let (mut producer, mut consumer) = (old.producer().unwrap(), old.consumer(0).unwrap());
    let new = Link::create_file(&path, &spec).unwrap();
    producer.publish(1, 0, b"old").unwrap();
    assert_eq!(consumer.poll().unwrap().bytes, b"old");
    assert!(new.consumer(0).unwrap().poll().is_none());
}

#[test]
fn a_place_outside_the_link_is_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("link");
    let spec = LinkSpec::new("from_to", 4, 256, Kind::Lossless).arena_bytes(4096);
    let link = Link::create_file(&path, &spec).unwrap();
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let first_line = 256 + 128 + 256; // header, the producer's cell, one consumer's cells
    let places = [
        0xffff_ffffu64 | 1 << 32, // a chunk far outside
        257 << 32,                // more than an mtu
        1 << 63 | 0xffff_ffff,    // a handle outside
        1 << 63,                  // a handle whose words are the payload below
    ];
    for (i, place) in places.into_iter().enumerate() {
        producer.publish(7, 0, &[0xff; 16]).unwrap();
        file.write_all_at(&place.to_le_bytes(), first_line + i as u64 * 32 + 16).unwrap();
        assert!(consumer.poll().is_none(), "place {place:#x} was followed");
    }
    assert_eq!((consumer.malformed(), link.observer().counts().consumers[0].malformed), (4, 4));
    producer.publish(8, 0, b"good").unwrap();
    assert_eq!(consumer.poll().unwrap().bytes, b"good");
}

const SPIED: &str = "spied";

#[test]
fn a_spy_of_another_process_sees_whole_frags_or_says_how_many_it_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_spied_process", "--nocapture"])
        .env(DIR, dir.path())
        .stdout(Stdio::null())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let link = loop {
        if let Ok(link) = Link::open_file(dir.path().join(SPIED)) {
            break link;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "the child makes no link");
        std::thread::yield_now();
    };
    let mut spy = link.spy().unwrap();
    let first = spy.next_seq();
    drop(child.stdin.take()); // it waits for us before it publishes
    let mut seen = 0;
    loop {
        let closed = spy.is_closed();
        let before = spy.next_seq();
        match spy.poll() {
            ring::TapPoll::Frag(frag) => {
                assert_eq!(frag.seq, frag.sig);
                assert_eq!(frag.bytes, payload(frag.seq), "frag {} is torn", frag.seq);
                seen += 1;
            }
            ring::TapPoll::Overrun { .. } | ring::TapPoll::Empty => {}
        }
        if spy.next_seq() == before {
            if closed {
                break;
            }
            assert!(start.elapsed() < Duration::from_mins(2), "silence");
            std::thread::yield_now();
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(first + seen + spy.lost() + spy.large(), FRAGS, "every frag is accounted for");
    assert!(seen > 0 && spy.malformed() == 0, "{seen} seen");
    let spec = LinkSpec::new("a_b", 16, 256, Kind::Lossless);
    assert!(Link::anonymous(&spec).unwrap().spy().is_err(), "nobody else can map it");
}

#[test]
#[ignore = "started by a_spy_of_another_process_sees_whole_frags_or_says_how_many_it_lost"]
fn the_spied_process() {
    let Some(dir) = std::env::var_os(DIR) else {
        panic!("{DIR} is not set: this is the child's half of another test");
    };
    let spec = LinkSpec::new("a_b", 16, 256, Kind::Lossless).arena_bytes(2 * LARGE_BYTES);
    let link = Link::create_file(Path::new(&dir).join(SPIED), &spec).unwrap();
    let (mut producer, mut consumer) = (link.producer().unwrap(), link.consumer(0).unwrap());
    std::io::read_to_string(std::io::stdin()).unwrap();
    for i in 0..FRAGS {
        while !send(&mut producer, i, &payload(i)) {
            while consumer.poll().is_some() {}
            consumer.return_credit();
        }
        // Now drained, now with a tail: the place a rewinding ring would go back to.
        if i % 7 < 4 {
            while consumer.poll().is_some() {}
            consumer.return_credit();
        }
        if i % 64 == 0 {
            std::thread::yield_now();
        }
    }
}
