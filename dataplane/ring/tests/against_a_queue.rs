//! A link against the simplest thing it could be: a queue. Any order of calls, one thread, every frag compared.
//!
//! `PROPTEST_CASES` sets the number of runs; a failure prints the shortest list of steps that shows it.

use proptest::prelude::*;
use ring::{Consumer, Kind, LargeFrag, Link, LinkSpec, Producer, Refused, TapPoll};

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Build(usize),
    Admit(u64, u64),
    WriteLarge(u64, usize),
    PublishLarge(u64),
    AbortLarge(u64),
    Poll(usize),
    /// Poll, and look at the bytes only after the producer has published these.
    Hold(usize, Vec<usize>),
    Drain(usize),
    Return(usize),
    Leave(usize),
    Refresh,
}

const MTU_BYTES: usize = 200;
const ARENA_BYTES: u64 = 2000;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = 0..=MTU_BYTES;
    let step = prop_oneof![
        8 => size.clone().prop_map(Step::Publish),
        3 => size.prop_map(Step::Build),
        2 => (1..=ARENA_BYTES + 100, 0..4u64).prop_map(|(b, s)| Step::Admit(b, s)),
        3 => (0..4u64, 0..900usize).prop_map(|(s, n)| Step::WriteLarge(s, n)),
        2 => (0..4u64).prop_map(Step::PublishLarge),
        1 => (0..4u64).prop_map(Step::AbortLarge),
        9 => (0..3usize).prop_map(Step::Poll),
        3 => (0..3usize, prop::collection::vec(0..=MTU_BYTES, 0..20))
            .prop_map(|(i, sizes)| Step::Hold(i, sizes)),
        1 => (0..3usize).prop_map(Step::Drain),
        2 => (0..3usize).prop_map(Step::Return),
        1 => (0..60usize).prop_map(Step::Leave),
        2 => Just(Step::Refresh),
    ];
    prop::collection::vec(step, 1..400)
}

/// Bytes that depend on everything, so that a mixed-up frag shows.
fn payload(salt: u64, size: usize) -> Vec<u8> {
    (0..size as u64).map(|i| (i * 31 + salt * 17 + (i >> 8) * 5) as u8).collect()
}

struct Scene {
    link: Link,
    producer: Producer,
    consumers: Vec<Option<Consumer>>,
    /// Every frag ever accepted, by number from `first`.
    sent: Vec<(u64, Vec<u8>)>,
    read: Vec<usize>,
    large: Vec<(u64, LargeFrag, Vec<u8>)>,
    first: u64,
    depth: u64,
    salt: u64,
    refused: u64,
    tried: u64,
}

impl Scene {
    fn new(depth: u64, consumers: usize, kind: Kind, first: u64, eager: bool) -> Self {
        let spec = LinkSpec::new("from_to", depth, MTU_BYTES, kind)
            .consumers(consumers)
            .arena_bytes(ARENA_BYTES)
            .first_seq(first);
        let link = Link::anonymous(&spec).unwrap();
        let consumers = (0..consumers).map(|i| {
            let mut consumer = link.consumer(i).unwrap();
            if eager {
                consumer.set_return_every(1);
            }
            Some(consumer)
        });
        let consumers: Vec<_> = consumers.collect();
        Self {
            producer: link.producer().unwrap(),
            read: vec![0; consumers.len()],
            consumers,
            link,
            sent: Vec::new(),
            large: Vec::new(),
            first,
            depth,
            salt: 0,
            refused: 0,
            tried: 0,
        }
    }

    /// What the consumers' words allow, from first principles.
    fn room(&self) -> u64 {
        let next = self.first + self.sent.len() as u64;
        let positions = self.link.observer().counts().consumers;
        let lag = positions.iter().filter_map(|c| c.position).map(|p| next - p).max();
        self.depth - lag.unwrap_or(0)
    }

    fn accepted(&mut self, seq: u64, sig: u64, bytes: Vec<u8>) {
        assert_eq!(seq, self.first + self.sent.len() as u64);
        self.sent.push((sig, bytes));
    }

    fn run(&mut self, step: &Step) {
        self.salt += 1;
        let salt = self.salt;
        match *step {
            Step::Publish(size) => {
                self.tried += 1;
                let (room, bytes) = (self.room(), payload(salt, size));
                if let Ok(seq) = self.producer.publish(salt, 0, &bytes) {
                    assert!(room > 0, "published without credit");
                    self.accepted(seq, salt, bytes);
                } else {
                    assert_eq!(room, 0, "refused with credit");
                    self.refused += 1;
                }
            }
            Step::Build(size) => {
                let (room, bytes) = (self.room(), payload(salt, size));
                let slot = self.producer.prepare();
                assert_eq!(slot.is_some(), room > 0);
                if let Some(slot) = slot {
                    slot[..size].copy_from_slice(&bytes);
                    let seq = self.producer.commit(salt, size, 0);
                    self.accepted(seq, salt, bytes);
                }
            }
            Step::Admit(claimed, source) => match self.producer.admit(claimed, source) {
                Ok(frag) => {
                    assert!(self.large.iter().all(|l| l.0 != source), "two from one source");
                    self.large.push((source, frag, Vec::new()));
                }
                Err(Refused::TooLarge) => assert!(claimed > ARENA_BYTES.next_multiple_of(64)),
                Err(_) => {}
            },
            Step::WriteLarge(source, size) => {
                let Some((_, frag, bytes)) = self.large.iter_mut().find(|l| l.0 == source) else {
                    return;
                };
                let piece = payload(salt, size);
                let fits = bytes.len() + size <= frag.claimed_bytes() as usize;
                assert_eq!(self.producer.write(frag, &piece).is_ok(), fits);
                if fits {
                    bytes.extend_from_slice(&piece);
                }
            }
            Step::PublishLarge(source) => {
                let Some(at) = self.large.iter().position(|l| l.0 == source) else { return };
                let (source, frag, bytes) = self.large.swap_remove(at);
                let room = self.room();
                match self.producer.publish_large(frag, salt, 0) {
                    Ok(seq) => {
                        assert!(room > 0);
                        self.accepted(seq, salt, bytes);
                    }
                    Err(frag) => {
                        assert_eq!(room, 0);
                        self.large.push((source, frag, bytes));
                    }
                }
            }
            Step::AbortLarge(source) => self.large.retain(|l| l.0 != source),
            Step::Poll(i) => {
                self.poll(i);
            }
            Step::Hold(i, ref sizes) => self.hold(i, sizes),
            Step::Drain(i) => while self.poll(i) {},
            Step::Return(i) => {
                if let Some(Some(consumer)) = self.consumers.get_mut(i) {
                    consumer.return_credit();
                }
            }
            Step::Leave(i) => {
                if let Some(consumer) = self.consumers.get_mut(i) {
                    *consumer = None;
                }
            }
            Step::Refresh => {
                let room = self.room();
                assert_eq!(self.producer.refresh(), room);
            }
        }
        assert!(self.producer.credit() <= self.room(), "the local count promises too much");
    }

    fn hold(&mut self, i: usize, sizes: &[usize]) {
        let Some(Some(consumer)) = self.consumers.get_mut(i) else { return };
        let Some(frag) = consumer.poll() else { return };
        for (n, size) in sizes.iter().enumerate() {
            let sig = (self.salt << 32) | n as u64;
            let bytes = payload(sig, *size);
            self.tried += 1;
            match self.producer.publish(sig, 0, &bytes) {
                Ok(_) => self.sent.push((sig, bytes)),
                Err(_) => self.refused += 1,
            }
        }
        assert!(frag.bytes == self.sent[self.read[i]].1, "frag {} changed while held", frag.seq);
        self.read[i] += 1;
    }

    fn poll(&mut self, i: usize) -> bool {
        let Some(Some(consumer)) = self.consumers.get_mut(i) else { return false };
        let read = &mut self.read[i];
        assert_eq!(consumer.lag(), (self.sent.len() - *read) as u64);
        match consumer.poll() {
            None => assert_eq!(*read, self.sent.len(), "a published frag is not seen"),
            Some(frag) => {
                let (sig, bytes) = &self.sent[*read];
                assert_eq!((frag.seq, frag.sig), (self.first + *read as u64, *sig));
                assert!(frag.bytes == bytes, "frag {} has other bytes", frag.seq);
                *read += 1;
                return true;
            }
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_of_calls_gives_what_a_queue_gives(
        lg in 1u32..5,
        consumers in 1usize..4,
        shed: bool,
        first in prop_oneof![Just(0), 0..1u64 << 62],
        eager: bool,
        steps in steps(),
    ) {
        let kind = if shed { Kind::Shed } else { Kind::Lossless };
        let mut scene = Scene::new(1 << lg, consumers, kind, first, eager);
        for step in steps {
            scene.run(&step);
        }
        for i in 0..consumers {
            while scene.poll(i) {}
        }
        scene.large.clear();
        scene.producer.refresh();
        prop_assert_eq!(scene.producer.arena_used_bytes(), 0, "room was lost");
        let counts = scene.link.observer().counts();
        prop_assert_eq!(counts.published, scene.sent.len() as u64);
        if shed {
            prop_assert_eq!(counts.shed, scene.refused, "every refused frag is counted once");
        }
        prop_assert!(scene.tried >= scene.refused);
    }

    #[test]
    fn a_tap_reads_a_queue_with_holes_it_knows_of(
        lg in 1u32..5,
        script in prop::collection::vec((any::<bool>(), 0..=MTU_BYTES), 1..300),
    ) {
        let link = Link::anonymous(&LinkSpec::new("from_to", 1 << lg, MTU_BYTES, Kind::Tap)).unwrap();
        let (mut producer, mut tap) = (link.producer().unwrap(), link.tap().unwrap());
        let (mut sent, mut seen, mut lost) = (0, 0, 0);
        for (publish, size) in script {
            if publish {
                producer.publish(size as u64, 0, &payload(sent, size)).unwrap();
                sent += 1;
                continue;
            }
            match tap.poll() {
                TapPoll::Empty => prop_assert_eq!(seen + lost, sent),
                TapPoll::Overrun { lost: now } => lost += now,
                TapPoll::Frag(frag) => {
                    prop_assert_eq!(frag.seq, seen + lost);
                    prop_assert!(frag.bytes == payload(frag.seq, frag.sig as usize));
                    seen += 1;
                }
            }
        }
        prop_assert_eq!(tap.lost(), lost);
    }
}
