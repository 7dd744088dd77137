//! What compact forms save, and what they cost when a peer knows less than was thought.

use super::pipe::{Net, Weather};
use crate::compact::block::tests::{some_block, some_txs};
use crate::compact::{short_id, subtree, write_tx};
use crate::drops::DropReason;
use crate::lookup::TxLookup;
use crate::object::{ObjectEvent, ObjectsConfig};
use crate::peer::PeerId;
use crate::wire::Class;
use consensus::hash::sha256d;
use sigbatch::Hasher;

fn offer(net: &mut Net, node: usize, txs: &[Vec<u8>], knows: impl Fn(usize) -> bool) {
    let mut store = net.nodes[node].txs.clone();
    for (_, tx) in txs.iter().enumerate().filter(|(i, _)| knows(*i)) {
        store.offer(sha256d(tx), tx);
    }
}

fn plain_subtree(txs: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<[u8; 32]> = txs.iter().map(|tx| sha256d(tx)).collect();
    let mut out = subtree::root_of(&ids, &Hasher::new()).root.0.to_vec();
    out.extend_from_slice(ids.as_flattened());
    out
}

/// Sends a block of 4,000 transactions over so many hops whose ends miss one of `miss` of them; when it arrived.
fn block_over(hops: usize, miss: usize, loss: f64, seed: u64) -> (Net, Option<u64>) {
    let mut net = Net::new(hops + 1, seed);
    let txs = some_txs(4_000, 1);
    for hop in 0..hops {
        net.join(hop, hop + 1, Weather::losing(loss), true);
        offer(&mut net, hop + 1, &txs, |i| miss == 0 || i % miss != hop % miss);
    }
    let block = some_block(&txs, [0; 32]);
    assert!((1_000_000..1_200_000).contains(&block.len()), "{} bytes", block.len());
    let start = net.now;
    net.send(0, Class::Block, &block);
    net.run(3_000_000);
    let took = net.got(hops, Class::Block).map(|(at, got)| {
        assert!(got[..] == block[..], "corrupt");
        at.since(start)
    });
    (net, took)
}

#[test]
fn a_block_of_known_transactions_costs_its_names() {
    let (net, took) = block_over(1, 0, 0.01, 1);
    let took = took.expect("it arrived");
    assert!(took < 27_000, "{took} us");
    assert!(net.nodes[1].objects.counts().symbols_prefilled > 800);
    let delivered = net.nodes[0].events.iter().filter(|(_, event)| {
        matches!(event, ObjectEvent::Delivered { class: Class::Block, peer: PeerId(1), .. })
    });
    assert_eq!(delivered.count(), 1);
}

#[test]
fn two_percent_missing_cost_no_round_trip() {
    for (loss, seed) in [(0.0, 1), (0.01, 2), (0.05, 3), (0.20, 4)] {
        let (net, took) = block_over(1, 50, loss, seed);
        let took = took.expect("it arrived");
        assert!(took < 32_000, "{took} us at {loss}");
        assert_eq!(net.nodes[1].objects.counts().wants_sent, 0);
    }
}

#[test]
fn three_hops_of_compact_blocks_cost_three_delays() {
    for (loss, seed) in [(0.0, 1), (0.01, 2), (0.05, 3)] {
        let took = block_over(3, 50, loss, seed).1.expect("it arrived");
        assert!(took < 92_000, "{took} us at {loss}");
    }
}

#[test]
fn a_peer_that_knows_nothing_gets_everything_all_the_same() {
    for loss in [0.0, 0.05, 0.20] {
        let (_, took) = block_over(1, 1, loss, 9);
        let took = took.expect("it arrived");
        assert!(took < 60_000, "{took} us at {loss}");
    }
}

#[test]
fn what_a_peer_missed_is_remembered_for_the_next_block() {
    let mut net = Net::new(2, 3);
    net.join(0, 1, Weather::FINE, true);
    let mut prev = [0; 32];
    let mut sent = Vec::new();
    for number in 0..6 {
        let txs = some_txs(4_000, number);
        offer(&mut net, 1, &txs, |_| true);
        let before = net.nodes[0].objects.counts().parity_sent;
        let block = some_block(&txs, prev);
        prev = sha256d(&block[..80]);
        net.send(0, Class::Block, &block);
        net.run(3_000_000);
        sent.push(net.nodes[0].objects.counts().parity_sent - before);
    }
    assert_eq!(net.nodes[1].objects.counts().received, 12, "six headers and blocks");
    assert!(sent[5] * 2 < sent[0], "parity sent for each block: {sent:?}");
}

#[test]
fn a_name_that_leads_to_another_transaction_costs_one_round_trip() {
    // The store answers one name with a transaction of the same length that is not the block's.
    struct Liar(u64, Vec<u8>);
    impl TxLookup for Liar {
        fn resolve(&mut self, salt: [u8; 16], ids: &[u64], found: &mut crate::lookup::Found<'_>) {
            let own = self.0;
            let _ = salt;
            for (which, _) in ids.iter().enumerate().filter(|(_, id)| **id == own) {
                found(which, &[0; 32], &self.1);
            }
        }
        fn offer(&mut self, _txid: [u8; 32], _bytes: &[u8]) {}
    }
    let mut net = Net::new(2, 3);
    let txs = some_txs(400, 1);
    let salt = crate::compact::salt_after(&[0; 32]);
    // The longest one fills a symbol's worth only together with its neighbours: lie about three in a row.
    let lie = 200;
    let lookups = crate::lookup::Lookups {
        txs: Box::new(Lies(
            (lie..lie + 8)
                .map(|at| {
                    let mut other = txs[at].clone();
                    *other.last_mut().unwrap() ^= 1;
                    Liar(short_id(&salt, &sha256d(&txs[at])), other)
                })
                .collect(),
        )),
        headers: Box::new(super::pipe::Regtest { known: Vec::new() }),
    };
    struct Lies(Vec<Liar>);
    impl TxLookup for Lies {
        fn resolve(&mut self, salt: [u8; 16], ids: &[u64], found: &mut crate::lookup::Found<'_>) {
            self.0.iter_mut().for_each(|liar| liar.resolve(salt, ids, found));
        }
        fn offer(&mut self, _txid: [u8; 32], _bytes: &[u8]) {}
    }
    net.nodes[1].objects = crate::object::Objects::new(ObjectsConfig::default(), lookups);
    net.join(0, 1, Weather::FINE, true);
    let block = some_block(&txs, [0; 32]);
    let start = net.now;
    let id = net.send(0, Class::Block, &block);
    net.run(3_000_000);
    let (at, got) = net.got(1, Class::Block).expect("it arrived as it is");
    assert!(got[..] == block[..]);
    assert!(at.since(start) < 90_000, "{} us", at.since(start));
    assert!(net.nodes[1].objects.counts().wants_sent > 0);
    assert_eq!(net.dropped(1, DropReason::HashWrong), 0, "the sender is not to blame");
    let delivered = ObjectEvent::Delivered { id, class: Class::Block, peer: PeerId(1) };
    assert!(net.nodes[0].events.iter().any(|(_, event)| *event == delivered));
}

#[test]
fn a_subtree_of_known_transactions_travels_by_names() {
    let mut net = Net::new(3, 3);
    net.join(0, 1, Weather::losing(0.05), true);
    net.join(1, 2, Weather::losing(0.05), true);
    let txs = some_txs(4_096, 1);
    (0..3).for_each(|node| offer(&mut net, node, &txs, |_| true));
    let plain = plain_subtree(&txs);
    net.send(0, Class::Subtree, &plain);
    net.run(1_000_000);
    for node in 1..3 {
        assert!(net.got(node, Class::Subtree).expect("it arrived").1[..] == plain[..]);
        assert_eq!(net.nodes[node].objects.counts().wants_sent, 0);
    }
    assert!(net.packets < 150, "{} packets for 32 kB of names, twice", net.packets);
}

#[test]
fn a_relay_that_does_not_know_the_names_asks_for_the_ids_and_the_others_do_not_wait_for_it() {
    let mut net = Net::new(3, 3);
    net.join(0, 1, Weather::losing(0.05), true);
    net.join(1, 2, Weather::losing(0.05), true);
    let txs = some_txs(4_096, 1);
    offer(&mut net, 0, &txs, |_| true);
    offer(&mut net, 1, &txs, |i| i != 77);
    offer(&mut net, 2, &txs, |_| true);
    let plain = plain_subtree(&txs);
    let id = net.send(0, Class::Subtree, &plain);
    net.run(2_000_000);
    let (first, _) = net.got(2, Class::Subtree).expect("the one behind it");
    let (then, got) = net.got(1, Class::Subtree).expect("the one that asked");
    assert!(got[..] == plain[..]);
    assert!(first < then);
    assert!(net.nodes[1].objects.counts().wants_sent > 0);
    let delivered = ObjectEvent::Delivered { id, class: Class::Subtree, peer: PeerId(1) };
    assert!(net.nodes[0].events.iter().any(|(_, event)| *event == delivered));
    for node in 0..3 {
        net.run(5_000_000);
        assert_eq!(net.nodes[node].objects.counts().in_flight, 0, "node {node}");
    }
}

#[test]
fn transactions_of_bundles_are_known_when_the_block_comes() {
    let mut net = Net::new(2, 3);
    net.join(0, 1, Weather::FINE, true);
    let txs = some_txs(400, 1);
    let mut bundle = Vec::new();
    txs.iter().for_each(|tx| write_tx(&mut bundle, tx));
    net.send(0, Class::Bundle, &bundle);
    net.run(1_000_000);
    let sent = net.nodes[0].objects.counts().symbols_sent;
    assert!(net.got(1, Class::Bundle).expect("it arrived").1[..] == bundle[..]);
    assert!(sent * 1_152 < bundle.len() as u64, "{sent} symbols: it was not packed");
    net.send(0, Class::Block, &some_block(&txs, [0; 32]));
    net.run(1_000_000);
    assert!(net.got(1, Class::Block).is_some());
    assert!(net.nodes[1].objects.counts().symbols_prefilled > 80);
}

#[test]
fn a_sketch_of_an_untrusted_peer_is_filled_in_all_the_same() {
    let mut net = Net::new(3, 3);
    net.join(0, 1, Weather::losing(0.05), false);
    net.join(1, 2, Weather::losing(0.05), true);
    let txs = some_txs(4_000, 1);
    (1..3).for_each(|node| offer(&mut net, node, &txs, |i| i % 50 != 0));
    let block = some_block(&txs, [0; 32]);
    let start = net.now;
    net.send(0, Class::Block, &block);
    net.run(2_000_000);
    let (at, got) = net.got(1, Class::Block).expect("it arrived");
    assert!(got[..] == block[..]);
    assert!(at.since(start) < 32_000, "{} us", at.since(start));
    assert!(net.got(2, Class::Block).expect("it was passed on").1[..] == block[..]);
}
