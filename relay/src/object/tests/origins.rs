//! What an origin's proof buys: an untrusted neighbour may pass symbols on at once, and cannot change one.

use super::pipe::{Net, Weather, payload};
use crate::compact::block::tests::some_outline;
use crate::drops::DropReason;
use crate::origin::OriginKeys;
use crate::wire::{Class, HEADER_LEN};

/// A line of nodes that do not trust each other; the first signs, and the others know it.
fn line(nodes: usize, weather: Weather, seed: u64) -> Net {
    let mut net = Net::new(nodes, seed);
    let origin = OriginKeys::new(Some(&[9; 32]), &[]).expect("no keys of others");
    let public = origin.public().expect("it signs");
    net.nodes[0].objects.set_origins(origin);
    for node in 1..nodes {
        let keys = OriginKeys::new(None, &[public]).expect("a key that was just made");
        net.nodes[node].objects.set_origins(keys);
        net.join(node - 1, node, weather, false);
    }
    net
}

#[test]
fn three_untrusted_hops_take_three_delays_and_one_transmission() {
    for (loss, seed) in [(0.0, 1), (0.05, 2), (0.20, 3)] {
        let mut net = line(4, Weather::losing(loss), seed);
        let bytes = payload(1_000_000, seed);
        let start = net.now;
        net.send(0, Class::Opaque, &bytes);
        net.run(3_000_000);
        let (at, got) = net.got(3, Class::Opaque).expect("it arrived");
        assert!(got[..] == bytes[..]);
        // 976 symbols of 1,310 bytes on the wire and more parity than without proofs.
        assert!(at.since(start) < 75_000 + 10_500 + 14_000, "{} us at {loss}", at.since(start));
    }
}

#[test]
fn without_the_proof_each_untrusted_hop_takes_a_transmission() {
    let mut net = line(4, Weather::FINE, 1);
    net.nodes[0].objects.set_origins(OriginKeys::default());
    let bytes = payload(1_000_000, 1);
    let start = net.now;
    net.send(0, Class::Opaque, &bytes);
    net.run(3_000_000);
    let (at, _) = net.got(3, Class::Opaque).expect("it arrived");
    assert!(at.since(start) > 75_000 + 3 * 8_500, "{} us", at.since(start));
}

#[test]
fn a_symbol_that_was_changed_on_the_way_is_dropped_alone_and_its_sender_struck() {
    let mut net = line(3, Weather::FINE, 4);
    let mut seen = 0;
    net.tamper = Some(Box::new(move |from, to, packet| {
        if (from, to) == (1, 2) && packet[0] & 15 == 3 {
            seen += 1;
            if seen % 50 == 7 {
                packet[HEADER_LEN + 3] ^= 1;
            }
        }
    }));
    let bytes = payload(500_000, 4);
    net.send(0, Class::Opaque, &bytes);
    net.run(3_000_000);
    assert!(net.got(2, Class::Opaque).expect("it arrived").1[..] == bytes[..]);
    assert!(net.dropped(2, DropReason::OriginWrong) > 0);
    assert_eq!(net.dropped(2, DropReason::HashWrong), 0, "nothing wrong was kept");
    assert!(DropReason::OriginWrong.strikes() > 0);
}

#[test]
fn an_origin_that_does_not_count_gets_no_memory() {
    let mut net = line(2, Weather::FINE, 4);
    net.nodes[1].objects.set_origins(OriginKeys::default());
    net.send(0, Class::Opaque, &payload(500_000, 4));
    net.run(400_000);
    assert!(net.got(1, Class::Opaque).is_none());
    assert_eq!(net.nodes[1].objects.counts().bytes, 0);
    assert_eq!(net.dropped(1, DropReason::OriginWrong), 0, "the neighbour is not to blame");
}

#[test]
fn outlines_are_proved_and_relayed_parity_too() {
    let mut net = line(4, Weather::losing(0.20), 6);
    let outline = some_outline(300, 3).write();
    net.send(0, Class::Block, &outline);
    net.run(3_000_000);
    assert!(net.got(3, Class::Block).expect("it arrived").1[..] == outline[..]);
}
