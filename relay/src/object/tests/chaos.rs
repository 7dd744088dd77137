//! Whatever a peer sends, in whatever order: no panic, no memory above the limits, and nothing left when everybody is gone.

use super::pipe::{Net, Weather, mined};
use crate::object::{ObjectsConfig, want};
use crate::peer::{PeerId, PeerView};
use crate::time::NowUs;
use crate::wire::{Class, Code, DataFields, FrameBuf, Inside, NackEntry, ObjectId, flags};
use proptest::prelude::*;
use std::sync::Arc;

#[derive(Clone, Debug)]
enum Step {
    Data { fields: DataFields, fill: u8, full: bool },
    Header { seed: u32, work: bool },
    Nack { object: u64, len: u32, groups: Vec<(u16, u8)> },
    Stop { flags: u8, object: u64, len: u32, groups: Vec<u16> },
    Want { object: u64, form: u8, body: Vec<u8> },
    Send { class: u8, len: usize },
    Wait { us: u64 },
    Pull { count: u8 },
    Down,
    Up { trusted: bool },
}

fn fields() -> impl Strategy<Value = DataFields> {
    let lens = prop_oneof![1u32..200, Just(120u32), Just(5_000u32), Just(90_000u32), any::<u32>()];
    (
        (any::<u8>(), 0u64..6, lens, 0u16..3),
        (any::<u8>(), prop_oneof![1u8..=6, any::<u8>()], 0u8..2, 0u8..5),
        (0u8..3, any::<u16>()),
    )
        .prop_map(
            |((bits, object, object_len, group), (symbol, k, code, class), (hops_left, parity))| {
                let allowed = flags::HAVE_ALL | flags::ORIGIN_PROOF | flags::LOWPRIO | flags::LAST;
                DataFields {
                    flags: bits & allowed,
                    object: ObjectId(object),
                    object_len: object_len.max(1),
                    group,
                    symbol,
                    k: k.max(1),
                    code: Code::of(code).expect("two codes"),
                    class: Class::of(class).expect("five classes"),
                    hops_left,
                    parity,
                }
            },
        )
}

fn steps() -> impl Strategy<Value = Vec<(u16, Step)>> {
    let data = (fields(), any::<u8>(), prop::bool::weighted(0.9))
        .prop_map(|(fields, fill, full)| Step::Data { fields, fill, full });
    let step = prop_oneof![
        12 => data,
        2 => (0u32..3, any::<bool>()).prop_map(|(seed, work)| Step::Header { seed, work }),
        2 => (0u64..6, 1u32..6_000, prop::collection::vec((0u16..4, 1u8..9), 0..4))
            .prop_map(|(object, len, groups)| Step::Nack { object, len, groups }),
        2 => (prop_oneof![Just(0u8), Just(flags::HAVE_ALL), Just(flags::REFUSED)], 0u64..6, 0u32..200,
              prop::collection::vec(0u16..4, 0..3))
            .prop_map(|(flags, object, len, groups)| Step::Stop { flags, object, len, groups }),
        1 => (0u64..6, 0u8..3, prop::collection::vec(any::<u8>(), 0..4))
            .prop_map(|(object, form, body)| Step::Want { object, form, body }),
        1 => (2u8..5, 1usize..4_000).prop_map(|(class, len)| Step::Send { class, len }),
        1 => (0u64..3_000_000).prop_map(|us| Step::Wait { us }),
        2 => (0u8..20).prop_map(|count| Step::Pull { count }),
        1 => Just(Step::Down),
        1 => any::<bool>().prop_map(|trusted| Step::Up { trusted }),
    ];
    prop::collection::vec((0u16..3, step), 0..120)
}

fn play(steps: Vec<(u16, Step)>) -> Result<(), TestCaseError> {
    let config = ObjectsConfig {
        bytes_max: 400_000,
        bytes_per_peer_max: 200_000,
        objects_max: 8,
        incomplete_max: 4,
        ..ObjectsConfig::default()
    };
    let mut net = Net::with(4, 1, &config);
    for other in 1..4 {
        net.join(0, other, Weather::FINE, other != 3);
    }
    let node = &mut net.nodes[0];
    let (objects, links) = (&mut node.objects, &mut node.links);
    let mut now = NowUs(2_000_000);
    let mut frame = FrameBuf::default();
    for (peer, step) in steps {
        let peer = PeerId(peer + 1);
        let mut pull = FrameBuf::default();
        match step {
            Step::Data { fields, fill, full } => {
                let len = if full {
                    fields.object_len.min(1_152) as usize
                } else {
                    usize::from(fill) + 1
                };
                frame.data(&fields, len).fill(fill);
            }
            Step::Header { seed, work } => {
                let mut header = mined(seed);
                header[0] ^= u8::from(!work);
                let fields = DataFields {
                    flags: 0,
                    object: ObjectId::of_hash(&consensus::hash::sha256d(&header)),
                    object_len: 120,
                    group: 0,
                    symbol: 0,
                    k: 1,
                    code: Code::Rs8,
                    class: Class::Header,
                    hops_left: 2,
                    parity: 1,
                };
                let out = frame.data(&fields, 120);
                out.fill(0);
                out[40..].copy_from_slice(&header);
            }
            Step::Nack { object, len, groups } => {
                let entries = groups.into_iter().map(|(group, need)| NackEntry { group, need });
                frame.nack(ObjectId(object), len, entries);
            }
            Step::Stop { flags, object, len, groups } => {
                frame.stop(flags, ObjectId(object), len, groups);
            }
            Step::Want { object, form, body } => {
                let form =
                    if form == 2 { 9 } else { [want::PLAIN, want::MISSES][usize::from(form)] };
                frame.want(ObjectId(object), form, &body);
            }
            Step::Send { class, len } => {
                let class = Class::of(class).expect("five classes");
                let _ = objects.send(class, Arc::from(vec![1; len]), None, links, now);
                continue;
            }
            Step::Wait { us } => {
                now += us;
                objects.tick(links, now);
                continue;
            }
            Step::Pull { count } => {
                for _ in 0..count {
                    objects.next_frame(peer, links, now, &mut pull);
                }
                continue;
            }
            Step::Down => {
                objects.peer_down(peer, now);
                continue;
            }
            Step::Up { trusted } => {
                let rows = (0..64).map(|other| {
                    let row = *links.get(PeerId(other));
                    let trusted = if PeerId(other) == peer { trusted } else { row.trusted };
                    PeerView { trusted, ..row }
                });
                *links = rows.collect();
                objects.peer_up(peer, links, now);
                continue;
            }
        }
        if let Ok(Inside::Frame(frame)) = Inside::parse(frame.written()) {
            let _ = objects.on_frame(peer, &frame, links, now);
        }
        let counts = objects.counts();
        prop_assert!(counts.bytes <= config.bytes_max, "{} bytes", counts.bytes);
        prop_assert!(counts.in_flight <= config.objects_max, "{} objects", counts.in_flight);
        while objects.event().is_some() {}
    }
    (1..4).for_each(|peer| objects.peer_down(PeerId(peer), now));
    for _ in 0..40 {
        now += 5_000_000;
        objects.tick(links, now);
    }
    prop_assert_eq!((objects.counts().in_flight, objects.counts().bytes), (0, 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_order_of_frames_breaks_anything_or_leaves_anything(steps in steps()) {
        play(steps)?;
    }
}
