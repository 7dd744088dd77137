//! The tile `pack` on real links: two shards, a control plane and a store at the other ends, a sealed heap under it.

use consensus::hash::TxId;
use dataplane::mem::seal::{self, SealMode, SealedHeap};
use dataplane::msg::Epoch;
use dataplane::msg::accepted::{Accepted, AcceptedKind, ParentSeq};
use dataplane::msg::pack_control::{CandidateId, PackCommand, PackReply, Records, SeqRange, Want};
use dataplane::msg::pack_store::SubtreeFrag;
use dataplane::msg::request::List;
use dataplane::pack::{PackConfig, PackCount, PackTile, root_from_branch};
use dataplane::stem::{Stem, Turn};
use dataplane::tile::Stamp;
use dataplane::time::{ManualClock, US};
use dataplane::topo::{BuildOptions, ExternalEnds, Kind::*, Topology, each, one};

#[global_allocator]
static HEAP: SealedHeap = SealedHeap;

const SHARDS: u16 = 2;
const PAIRS: u64 = 3_000;

fn topology() -> Topology {
    let mut t = Topology::new("pack alone");
    t.external("control", 1);
    t.external("shard", usize::from(SHARDS));
    t.external("store", 1);
    t.tile::<PackTile>(1);
    t.link("control_pack", 64, 4_096, Lossless, one("control"), one("pack"));
    t.link("shard_pack", 128, 1_024, Lossless, each("shard"), one("pack"));
    t.link("pack_control", 64, 4_096, Lossless, one("pack"), one("control")).window(64);
    t.link("pack_store", 32, 4_096, Lossless, one("pack"), one("store"));
    t.cores(1);
    t.place("pack", 0, 0);
    t
}

#[test]
fn a_subtree_leaves_when_the_link_of_epochs_says_that_its_last_transaction_is_on_disk() {
    let mut t = Topology::new("pack and epochs");
    t.external("control", 1);
    t.external("epoch", 1);
    t.external("shard", 1);
    t.external("store", 1);
    t.tile::<PackTile>(1);
    t.link("control_pack", 64, 4_096, Lossless, one("control"), one("pack"));
    t.link("shard_pack", 128, 1_024, Lossless, each("shard"), one("pack"));
    t.link("epoch_pack", 64, 64, Lossless, one("epoch"), one("pack"));
    t.link("pack_control", 64, 4_096, Lossless, one("pack"), one("control")).window(64);
    t.link("pack_store", 32, 4_096, Lossless, one("pack"), one("store"));
    t.cores(1).place("pack", 0, 0);
    let mut machine =
        t.plan().expect("the table is sound").build(&BuildOptions::default()).expect("built");
    let wiring = machine.wiring("pack", 0).expect("pack");
    let config = PackConfig { subtree_lg_leaves: 2, durable: true, ..PackConfig::new(1, (1, 2)) };
    let mut pack = wiring.stem(PackTile::new(config), ManualClock::new());
    let mut ends = |name| machine.external(name, 0).expect("an end");
    let (mut shard, mut epochs, mut store) = (ends("shard"), ends("epoch"), ends("store"));
    let mut frag = [0; 512];
    for seq in 1..=7 {
        let accepted = Accepted {
            kind: AcceptedKind::Pool,
            shard: 0,
            block: 0,
            publish_seq: seq,
            epoch: Epoch { incarnation: 1, number: seq },
            fee_sat: 2,
            txid: txid(seq),
            parents: List::Own(&[]),
            tx: &[1; 200],
        };
        let len = accepted.encode(&mut frag).expect("fits");
        shard.outs[0].publish(0, Stamp(0), &frag[..len]).expect("there is credit");
    }
    let mut heads = |pack: &mut Stem<PackTile, ManualClock>| {
        while pack.turn() != Turn::Idle {}
        let mut heads = 0;
        while let Some(frag) = store.ins[0].poll() {
            let frag = SubtreeFrag::decode(frag.bytes).expect("ours");
            heads += u32::from(matches!(frag, SubtreeFrag::Head { .. }));
        }
        store.ins[0].return_credit();
        heads
    };
    assert_eq!(heads(&mut pack), 0, "nothing is on disk");
    for (number, released) in [(2, 0), (3, 1), (6, 0), (7, 1)] {
        let epoch = Epoch { incarnation: 1, number };
        let command = PackCommand::EpochComplete { epoch };
        let len = command.encode(&mut frag).expect("fits");
        epochs.outs[0].publish(u64::from(command.tag()), Stamp(0), &frag[..len]).expect("credit");
        assert_eq!(heads(&mut pack), released, "epoch {number}");
    }
}

fn txid(n: u64) -> TxId {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    TxId(bytes)
}

/// Publishes `count` more transactions of `shard`: each of shard 1 is the child of the one of shard 0 with its number.
fn publish(ends: &mut ExternalEnds, shard: u16, next: &mut u64, count: u64) {
    let mut frag = [0; 512];
    for _ in 0..count {
        if *next == PAIRS {
            return;
        }
        let seq = *next + 1;
        let parents = [ParentSeq { shard: 0, seq }];
        let accepted = Accepted {
            kind: AcceptedKind::Pool,
            shard,
            block: 0,
            publish_seq: seq,
            epoch: Epoch::default(),
            fee_sat: 2,
            txid: txid(2 * *next + u64::from(shard)),
            parents: List::Own(if shard == 0 { &[] } else { &parents }),
            tx: &[1; 200],
        };
        let len = accepted.encode(&mut frag).expect("fits");
        if ends.outs[0].publish(0, Stamp(0), &frag[..len]).is_err() {
            return;
        }
        *next += 1;
    }
}

#[test]
fn children_that_arrive_first_wait_and_the_block_is_streamed_without_an_allocation() {
    let plan = topology().plan().expect("the table is sound");
    let mut machine = plan.build(&BuildOptions::default()).expect("built");
    let clock = ManualClock::new();
    let wiring = machine.wiring("pack", 0).expect("pack");
    let config = PackConfig { subtree_lg_leaves: 6, ..PackConfig::new(SHARDS, (1, 2)) };
    let mut pack = wiring.stem(PackTile::new(config), clock.clone());
    let mut control = machine.external("control", 0).expect("control");
    let mut store = machine.external("store", 0).expect("store");
    let mut shards: Vec<ExternalEnds> =
        (0..2).map(|i| machine.external("shard", i).expect("shard")).collect();

    let (mut turn, mut allocations) = (0_u64, 0);
    let mut subtrees = 0;
    let mut one_turn = |store: &mut ExternalEnds, subtrees: &mut u32| {
        clock.advance(US);
        let before = seal::alloc_after_seal();
        seal::seal_as(SealMode::Count);
        let found = pack.turn();
        seal::seal_as(SealMode::Open);
        allocations += seal::alloc_after_seal() - before;
        while let Some(frag) = store.ins[0].poll() {
            let frag = SubtreeFrag::decode(frag.bytes).expect("ours");
            *subtrees += u32::from(matches!(frag, SubtreeFrag::Head { .. }));
        }
        store.ins[0].return_credit();
        found
    };

    // The children's link is always ahead.
    let mut next = [0, 0];
    while next[0] < PAIRS || next[1] < PAIRS {
        publish(&mut shards[1], 1, &mut next[1], 128);
        if turn % 5 == 4 {
            publish(&mut shards[0], 0, &mut next[0], 100);
        }
        one_turn(&mut store, &mut subtrees);
        turn += 1;
        assert!(turn < 100_000, "stuck at {next:?}");
    }
    while one_turn(&mut store, &mut subtrees) != Turn::Idle {}
    assert_eq!(subtrees, (2 * PAIRS as u32 + 1) / 64);

    let mut frag = [0; 4_096];
    let mut send = |control: &mut ExternalEnds, command: PackCommand<'_>| {
        let len = command.encode(&mut frag).expect("fits");
        let sent = control.outs[0].publish(u64::from(command.tag()), Stamp(0), &frag[..len]);
        sent.expect("there is credit");
    };
    send(
        &mut control,
        PackCommand::GetCandidate { token: 1, want: Want::Everything, drained: Records::Own(&[]) },
    );
    let mut id = CandidateId::default();
    let mut branch: Vec<[u8; 32]> = Vec::new();
    let mut order: Vec<u64> = Vec::new();
    let mut ranges = Vec::new();
    let mut next_command = None;
    let mut done = false;
    while !done {
        if let Some(command) = next_command.take() {
            send(&mut control, command);
        }
        one_turn(&mut store, &mut subtrees);
        while let Some(frag) = control.ins[0].poll() {
            match PackReply::decode(frag.bytes).expect("ours") {
                PackReply::Candidate { id: name, fees_sat, branch: hashes, .. } => {
                    assert_eq!(fees_sat, 2 * 2 * PAIRS);
                    branch.extend(hashes.iter().map(|hash| hash.0));
                    id = name;
                    next_command = Some(PackCommand::GetLeaves { token: 2, candidate: id });
                }
                PackReply::Leaves { txids, .. } => order.extend(
                    txids.iter().map(|id| u64::from_le_bytes(id.0[..8].try_into().expect("8"))),
                ),
                PackReply::Ranges { ranges: some, .. } => ranges.extend(some.iter()),
                PackReply::Streamed { .. } => {
                    next_command = Some(PackCommand::MinedOurs { block: 1, candidate: id });
                }
                PackReply::BlockDone { block, changed, .. } => {
                    assert_eq!((block, changed), (1, 2 * PAIRS));
                    done = true;
                }
                PackReply::Roots { .. } => {}
                PackReply::Refused { why, .. } => panic!("refused: {why:?}"),
            }
        }
        control.ins[0].return_credit();
    }

    let mut place = vec![usize::MAX; order.len()];
    order.iter().enumerate().for_each(|(at, n)| place[*n as usize] = at);
    for pair in place.chunks_exact(2) {
        assert!(pair[0] < pair[1], "a child stands before its parent");
    }
    let mut leaves = vec![[0xcb; 32]];
    leaves.extend(order.iter().map(|n| txid(*n).0));
    let root = consensus::merkle::merkle_root(leaves.iter()).root.0;
    let hasher = sigbatch::Hasher::new();
    assert_eq!(root_from_branch(&hasher, &leaves[0], &branch), root);
    ranges.sort_unstable();
    let range = |shard| SeqRange { shard, from_seq: 1, to_seq: PAIRS };
    assert_eq!(ranges, [range(0), range(1)]);
    // Housekeeping has shown the counts by the time the tile has idled for a while.
    for _ in 0..1_000 {
        one_turn(&mut store, &mut subtrees);
    }
    let pack = machine.metrics().tile("pack", 0).expect("pack");
    assert_eq!(pack.counter(PackCount::Placed), 2 * PAIRS);
    assert_eq!(pack.counter(PackCount::Mined), 2 * PAIRS);
    assert_eq!(pack.counter(PackCount::Transactions), 0);
    assert!(pack.counter(PackCount::FragsHeld) > 0);
    assert!(seal::is_installed());
    assert_eq!(allocations, 0, "a turn allocated");
}
