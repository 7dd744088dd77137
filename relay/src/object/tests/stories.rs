//! What the host of a relay notices: objects arrive whole, soon, once, whatever the weather.

use super::pipe::{Net, Weather, payload};
use crate::object::{FailReason, ObjectEvent};
use crate::peer::PeerId;
use crate::wire::Class;

const MEGABYTE: usize = 1_000_000;

/// One way and the time that 1 MB takes at 1 Gbit/s in packets of 1,318 bytes.
const BOUND_US: u64 = 25_000 + 869 * 1_318 * 8 / 1_000;

fn send_over(hops: usize, len: usize, weather: Weather, seed: u64) -> (Net, Option<u64>) {
    let mut net = Net::new(hops + 1, seed);
    for hop in 0..hops {
        net.join(hop, hop + 1, weather, true);
    }
    let bytes = payload(len, seed);
    let start = net.now;
    net.send(0, Class::Opaque, &bytes);
    net.run(3_000_000);
    let took = net.got(hops, Class::Opaque).map(|(at, got)| {
        assert!(got[..] == bytes[..], "corrupt, seed {seed}");
        at.since(start)
    });
    (net, took)
}

#[test]
fn a_megabyte_without_loss_arrives_when_light_and_wire_allow() {
    let (net, took) = send_over(1, MEGABYTE, Weather::FINE, 1);
    let took = took.expect("it arrived");
    assert!(took <= BOUND_US + 1_000, "{took} us; the bound is {BOUND_US}");
    assert_eq!(net.nodes[1].objects.counts().nacks_sent, 0);
    assert!(net.nodes[0].events.iter().any(|(_, event)| matches!(
        event,
        ObjectEvent::Delivered { peer: PeerId(1), class: Class::Opaque, .. }
    )));
    assert_eq!(net.nodes[0].objects.counts().in_flight, 0, "nothing lingers");
    assert_eq!(net.nodes[1].objects.counts().bytes, 0, "nothing lingers");
}

#[test]
fn a_lost_packet_costs_no_round_trip() {
    for (loss, slack_us) in [(0.01, 2_000), (0.05, 3_000), (0.20, 7_000)] {
        for seed in 0..8 {
            let (net, took) = send_over(1, MEGABYTE, Weather::losing(loss), seed);
            let took = took.expect("it arrived");
            let nacks = net.nodes[1].objects.counts().nacks_sent;
            assert_eq!(nacks, 0, "asked for repair at {loss}, seed {seed}");
            assert!(took <= BOUND_US + slack_us, "{took} us at {loss}, seed {seed}");
        }
    }
}

#[test]
fn bursts_are_shared_by_all_groups() {
    for seed in 0..8 {
        let weather = Weather { burst: 8.0, ..Weather::losing(0.05) };
        let took = send_over(1, MEGABYTE, weather, seed).1.expect("it arrived");
        assert!(took <= BOUND_US + 4_000, "{took} us, seed {seed}");
    }
}

#[test]
fn three_hops_cost_three_delays_and_one_transmission() {
    for (loss, seed) in [(0.0, 1), (0.01, 2), (0.05, 3), (0.20, 4), (0.20, 5)] {
        let took = send_over(3, MEGABYTE, Weather::losing(loss), seed).1.expect("it arrived");
        assert!(took <= BOUND_US + 50_000 + 12_000, "{took} us at {loss}");
    }
}

#[test]
fn repeated_and_reordered_packets_change_nothing() {
    for seed in 0..4 {
        let weather = Weather { repeat: 0.3, jitter_us: 3_000, ..Weather::losing(0.05) };
        let (net, took) = send_over(2, 300_000, weather, seed);
        assert!(took.is_some());
        let count = net.nodes[2]
            .events
            .iter()
            .filter(|(_, event)| matches!(event, ObjectEvent::Received { .. }))
            .count();
        assert_eq!(count, 1, "delivered {count} times, seed {seed}");
    }
}

#[test]
fn every_size_arrives_under_heavy_loss_even_when_the_estimate_is_wrong() {
    for (seed, len) in
        [1, 40, 1_111, 1_112, 1_113, 20_000, 74_000, 5_000_000].into_iter().enumerate()
    {
        let mut net = Net::new(2, seed as u64);
        // The link believes in 1 % while it loses 30 %.
        net.join(0, 1, Weather::losing(0.30), true);
        for node in &mut net.nodes {
            node.links = (0..2)
                .map(|peer| {
                    let row = *node.links.get(PeerId(peer));
                    crate::peer::PeerView { loss: 0.01, ..row }
                })
                .collect();
        }
        let bytes = payload(len, 9);
        net.send(0, Class::Opaque, &bytes);
        net.run(10_000_000);
        let (_, got) = net.got(1, Class::Opaque).unwrap_or_else(|| panic!("{len} bytes stalled"));
        assert!(got[..] == bytes[..]);
        assert_eq!(net.nodes[0].objects.counts().in_flight, 0, "{len} bytes linger");
    }
}

#[test]
fn two_sources_of_one_object_are_one_transfer_in_half_the_time() {
    let mut net = Net::new(3, 5);
    let weather = Weather { rate_mbit: 100, ..Weather::losing(0.02) };
    net.join(0, 2, weather, true);
    net.join(1, 2, weather, true);
    let bytes = payload(MEGABYTE, 4);
    let start = net.now;
    assert_eq!(net.send(0, Class::Opaque, &bytes), net.send(1, Class::Opaque, &bytes));
    net.run(3_000_000);
    let (at, got) = net.got(2, Class::Opaque).expect("it arrived");
    assert!(got[..] == bytes[..]);
    // Data is the same from both, parity is not: better than one alone (25 + 92 ms).
    assert!(at.since(start) < 25_000 + 92_000, "{} us", at.since(start));
}

#[test]
fn peers_that_know_each_other_help_each_other() {
    // A slow source with three receivers on a fast mesh: striping lets each get a third and the rest from the others.
    let mut net = Net::new(4, 11);
    let slow = Weather { rate_mbit: 50, delay_us: 5_000, ..Weather::FINE };
    let fast = Weather { delay_us: 1_000, ..Weather::FINE };
    for receiver in 1..4 {
        net.join(0, receiver, slow, true);
        for other in receiver + 1..4 {
            net.join(receiver, other, fast, true);
        }
    }
    let bytes = payload(MEGABYTE, 4);
    let start = net.now;
    net.send(0, Class::Opaque, &bytes);
    net.run(3_000_000);
    let alone_us = 5_000 + 869 * 1_318 * 8 / 50;
    for receiver in 1..4 {
        let (at, got) = net.got(receiver, Class::Opaque).expect("it arrived");
        assert!(got[..] == bytes[..]);
        assert!(at.since(start) < alone_us / 2, "{} us; alone {alone_us}", at.since(start));
    }
}

#[test]
fn a_peer_that_comes_later_gets_what_is_under_way() {
    let mut net = Net::new(3, 5);
    net.join(0, 1, Weather { rate_mbit: 100, ..Weather::FINE }, true);
    let bytes = payload(MEGABYTE, 4);
    net.send(0, Class::Opaque, &bytes);
    net.run(30_000);
    net.join(1, 2, Weather::FINE, true);
    net.run(1_000_000);
    assert!(net.got(2, Class::Opaque).expect("it arrived").1[..] == bytes[..]);
}

#[test]
fn a_silent_peer_is_asked_a_few_times_and_then_reported() {
    let mut net = Net::new(2, 5);
    net.join(0, 1, Weather::losing(1.0), true);
    let id = net.send(0, Class::Opaque, &payload(3_000, 1));
    net.run(60_000_000);
    let failed = ObjectEvent::Failed {
        id,
        class: Class::Opaque,
        peer: Some(PeerId(1)),
        why: FailReason::Unanswered,
    };
    assert!(net.nodes[0].events.iter().any(|(_, event)| *event == failed));
    assert!(net.packets < 40, "{} packets to somebody who is not there", net.packets);
    assert_eq!(net.nodes[0].objects.counts().bytes, 0);
}
