//! What a peer cannot do: use memory before its work is shown, more than its share of it, or hand over other bytes.

use super::pipe::{Net, Weather, mined, payload};
use crate::compact::block::tests::{some_block, some_outline, some_txs};
use crate::drops::DropReason;
use crate::object::{FailReason, ObjectEvent, ObjectsConfig};
use crate::wire::{Class, HEADER_LEN};
use consensus::hash::sha256d;

#[test]
fn a_chain_of_blocks_that_comes_in_the_wrong_order_is_let_in_at_once() {
    let mut net = Net::new(2, 7);
    net.join(0, 1, Weather::FINE, true);
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    for seed in 0..30 {
        let parent = blocks.last().map_or([0; 32], |block| sha256d(&block[..80]));
        blocks.push(some_block(&some_txs(3, seed), parent));
    }
    for block in blocks.iter().rev() {
        net.send(0, Class::Block, block);
    }
    net.run(300_000);
    assert_eq!(net.nodes[1].objects.counts().received, 60, "every header and every block");
    assert!(net.dropped(1, DropReason::ParentUnknown) > 0, "they came too early");
}

#[test]
fn headers_whose_parent_never_comes_take_a_fixed_room() {
    let mut net = Net::new(2, 7);
    net.join(0, 1, Weather::FINE, true);
    for seed in 0..200 {
        net.send(0, Class::Block, &some_block(&some_txs(1, seed), [seed as u8 | 1; 32]));
    }
    net.run(200_000);
    assert_eq!(net.nodes[1].objects.counts().received, 0);
    assert!(net.dropped(1, DropReason::ParentUnknown) >= 200);
    let block = some_block(&some_txs(3, 7), [0; 32]);
    net.send(0, Class::Block, &block);
    net.run(100_000);
    assert!(net.got(1, Class::Block).is_some(), "others are not kept out");
}

#[test]
fn a_blocks_header_goes_ahead_of_it_and_both_arrive() {
    let mut net = Net::new(3, 7);
    net.join(0, 1, Weather::losing(0.05), true);
    net.join(1, 2, Weather::losing(0.05), true);
    let block = some_outline(200, 3).write();
    net.send(0, Class::Block, &block);
    net.run(1_000_000);
    for node in 1..3 {
        let (first, header) = net.got(node, Class::Header).expect("the header");
        let (then, body) = net.got(node, Class::Block).expect("the block");
        assert!(header[..] == block[..80] && body[..] == block[..]);
        assert!(first < then);
    }
}

#[test]
fn symbols_that_overtake_their_header_wait_for_it() {
    let mut net = Net::new(2, 7);
    net.join(0, 1, Weather { jitter_us: 400, ..Weather::FINE }, true);
    net.send(0, Class::Block, &some_outline(200, 4).write());
    net.run(1_000_000);
    assert!(net.got(1, Class::Block).is_some());
    assert_eq!(net.dropped(1, DropReason::HeaderNotYet), 0);
}

#[test]
fn a_block_whose_merkle_root_is_another_one_is_not_delivered_and_its_sender_is_struck() {
    let mut net = Net::new(2, 7);
    net.join(0, 1, Weather::FINE, true);
    let mut outline = some_outline(200, 4);
    outline.roots.swap(10, 11);
    net.send(0, Class::Block, &outline.write());
    let txs = some_txs(100, 1);
    let mut block = some_block(&txs, [0; 32]);
    let last = block.len() - 1;
    block[last] ^= 1;
    net.send(0, Class::Block, &block);
    net.run(100_000);
    assert!(net.got(1, Class::Block).is_none());
    assert!(
        net.dropped(1, DropReason::HashWrong) > 0 || net.dropped(1, DropReason::ObjectDone) > 0
    );
    assert_eq!(net.nodes[1].objects.counts().received, 2, "two headers, no block");
}

#[test]
fn a_header_without_work_costs_no_memory_and_is_struck() {
    let mut net = Net::new(2, 7);
    net.join(0, 1, Weather::FINE, true);
    let mut header = mined(1);
    while consensus::hash::sha256d(&header)[31] <= 0x7f {
        header[76] = header[76].wrapping_add(1);
    }
    let mut block = header.to_vec();
    block.push(1);
    block.extend(payload(10_000, 2));
    net.send(0, Class::Block, &block);
    net.run(100_000);
    assert!(net.dropped(1, DropReason::ProofOfWork) > 0);
    assert!(DropReason::ProofOfWork.strikes() > 0);
    assert!(net.got(1, Class::Header).is_none() && net.got(1, Class::Block).is_none());
    assert_eq!(net.nodes[1].objects.counts().bytes, 0);
    assert_eq!(net.nodes[1].objects.counts().in_flight, 0);
}

#[test]
fn a_header_on_an_unknown_parent_waits_outside() {
    let mut net = Net::new(2, 7);
    net.join(0, 1, Weather::FINE, true);
    let mut header = mined(1);
    header[4] = 9;
    net.send(0, Class::Header, &header);
    net.run(100_000);
    assert!(net.dropped(1, DropReason::ParentUnknown) > 0);
    assert_eq!(net.nodes[1].objects.counts().in_flight, 0);
}

#[test]
fn an_untrusted_peer_has_two_objects_in_the_making_and_no_more() {
    let mut net = Net::new(3, 7);
    // The source's own data gets lost for ever after a moment: nothing completes.
    net.join(0, 1, Weather { rate_mbit: 10, ..Weather::FINE }, false);
    net.join(1, 2, Weather::FINE, true);
    for object in 0..5 {
        net.send(0, Class::Opaque, &payload(200_000, object));
    }
    net.tamper = Some(Box::new(|from, _, packet| {
        // Each object is begun and never goes on.
        if from == 0 && packet[0] & 15 == 3 && packet[22] > 0 {
            packet[8] ^= 0x55;
        }
    }));
    net.run(900_000);
    assert!(net.nodes[1].objects.counts().in_flight <= 2);
    assert!(net.dropped(1, DropReason::ObjectsInFlight) > 0);
    let sent_on = net.nodes[1].objects.counts().symbols_sent;
    assert_eq!(sent_on, 0, "an untrusted peer's symbols are not passed on");
}

#[test]
fn what_an_untrusted_peer_sent_is_passed_on_when_it_is_proved() {
    let mut net = Net::new(3, 7);
    net.join(0, 1, Weather::losing(0.05), false);
    net.join(1, 2, Weather::losing(0.05), true);
    let bytes = payload(300_000, 3);
    net.send(0, Class::Opaque, &bytes);
    net.run(1_000_000);
    assert!(net.got(2, Class::Opaque).expect("it arrived").1[..] == bytes[..]);
}

#[test]
fn other_bytes_are_found_out_and_whoever_sent_them_alone_is_struck() {
    let mut net = Net::new(2, 7);
    net.join(0, 1, Weather::FINE, true);
    net.tamper = Some(Box::new(|from, _, packet| {
        if from == 0 && packet[0] & 15 == 3 && packet[20] == 1 {
            packet[HEADER_LEN + 7] ^= 1;
        }
    }));
    net.send(0, Class::Opaque, &payload(200_000, 3));
    net.run(200_000);
    assert!(net.got(1, Class::Opaque).is_none());
    assert!(net.dropped(1, DropReason::HashWrong) > 0);
    assert!(DropReason::HashWrong.strikes() > 0);
    assert!(
        net.nodes[1].events.iter().any(|(_, event)| matches!(
            event,
            ObjectEvent::Failed { why: FailReason::HashWrong, .. }
        ))
    );
}

#[test]
fn memory_has_a_limit_for_each_peer_and_for_all() {
    let config = ObjectsConfig { bytes_per_peer_max: 1 << 20, ..ObjectsConfig::default() };
    let mut net = Net::with(2, 7, &config);
    net.join(0, 1, Weather::FINE, true);
    net.send(0, Class::Opaque, &payload(3 << 20, 3));
    net.run(100_000);
    assert!(net.dropped(1, DropReason::MemoryFull) > 0);
    assert_eq!(net.nodes[1].objects.counts().bytes, 0);

    let config = ObjectsConfig { object_bytes_max: 100_000, ..ObjectsConfig::default() };
    let mut net = Net::with(2, 7, &config);
    net.join(0, 1, Weather::FINE, true);
    let node = &mut net.nodes[0];
    let big = payload(100_000, 1);
    assert!(node.objects.send(Class::Opaque, big.into(), None, &node.links, net.now).is_err());
}

#[test]
fn a_whole_object_makes_room_for_a_new_one_when_nobody_waits_for_it() {
    let config = ObjectsConfig { objects_max: 3, ..ObjectsConfig::default() };
    let mut net = Net::with(2, 7, &config);
    net.join(0, 1, Weather { delay_us: 100, ..Weather::FINE }, true);
    for object in 0..20 {
        net.send(0, Class::Opaque, &payload(5_000, object));
        net.run(20_000);
    }
    let received = net.nodes[1].objects.counts().received;
    assert_eq!(received, 20);
    assert!(net.nodes[0].objects.counts().in_flight <= 3);
}
