//! Stories about the packer: what a miner, a peer and a shard would notice.

use super::*;
use crate::msg::Epoch;
use crate::msg::accepted::{AcceptedKind, ParentSeq};
use crate::msg::pack_control::{CandidateId, PackRefusal, Records, Restored, SeqRange, Want};
use crate::msg::request::List;
use consensus::hash::TxId;
use consensus::merkle::{SubtreeRoots, merkle_root};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const COINBASE: [u8; 32] = [0xcb; 32];

fn txid(n: u64) -> TxId {
    let mut bytes = [0x11; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    TxId(bytes)
}

fn fee(n: u64) -> u64 {
    n + 1
}

/// Keeps what a packer says.
struct Ear {
    replies: VecDeque<Vec<u8>>,
    subtrees: Vec<Subtree>,
    open: Option<(u64, Subtree)>,
    mtu: usize,
    credit: u32,
    /// Measurements only count bytes.
    deaf: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Subtree {
    index: u32,
    root: TxId,
    fees_sat: u64,
    count: u32,
    leaves: Vec<TxId>,
}

impl Credit for Ear {
    fn reply_credit(&self) -> u32 {
        self.credit
    }
}

impl Sink for Ear {
    fn reply_mtu(&self) -> usize {
        self.mtu
    }

    fn reply(&mut self, reply: &PackReply<'_>) {
        assert!(self.credit > 0, "a reply without credit");
        let mut bytes = vec![0; self.mtu];
        let len = reply.encode(&mut bytes).expect("within the mtu");
        bytes.truncate(len);
        self.replies.push_back(bytes);
    }

    fn store_credit(&self) -> u32 {
        self.credit
    }

    fn store_mtu(&self) -> usize {
        self.mtu
    }

    fn store(&mut self, frag: &SubtreeFrag<'_>) {
        let mut bytes = vec![0; self.mtu];
        let len = frag.encode(&mut bytes).expect("within the mtu");
        if self.deaf {
            return;
        }
        match SubtreeFrag::decode(&bytes[..len]).expect("ours") {
            SubtreeFrag::Head { number, index, leaves, root, fees_sat, .. } => {
                assert!(self.open.is_none(), "a subtree inside a subtree");
                let leaves_there = Vec::new();
                let subtree =
                    Subtree { index, root, fees_sat, count: leaves, leaves: leaves_there };
                self.open = Some((number, subtree));
            }
            SubtreeFrag::Leaves { number, leaves } => {
                let (open, subtree) = self.open.as_mut().expect("a head came before");
                assert_eq!(*open, number);
                subtree.leaves.extend(leaves.iter().map(|leaf| leaf.txid));
                if subtree.leaves.len() == subtree.count as usize {
                    let (_, subtree) = self.open.take().expect("it is open");
                    let root = merkle_root(subtree.leaves.iter().map(|leaf| &leaf.0)).root.0;
                    assert_eq!(subtree.root.0, root, "a subtree is named by its own root");
                    self.subtrees.push(subtree);
                }
            }
            SubtreeFrag::Dropped { number } => {
                assert_eq!(self.open.take().map(|(open, _)| open), Some(number));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    id: CandidateId,
    tip_block: u32,
    subtrees: u32,
    fees_sat: u64,
    size_bytes: u64,
    /// Where the branch leads from [`COINBASE`].
    root: [u8; 32],
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Streamed {
    roots: Vec<[u8; 32]>,
    txids: Vec<TxId>,
    ranges: Vec<SeqRange>,
}

struct World {
    packer: Packer,
    ear: Ear,
    seqs: Vec<u64>,
    numbers: BTreeMap<TxId, u64>,
}

impl World {
    fn new(change: impl FnOnce(&mut PackConfig)) -> Self {
        let mut config = PackConfig {
            transactions_max: 5_000,
            restored_max: 1_000,
            subtree_lg_leaves: 3,
            ..PackConfig::new(3, (5, 6))
        };
        change(&mut config);
        let seqs = vec![0; usize::from(config.shards)];
        let (replies, subtrees) = (VecDeque::new(), Vec::new());
        let ear = Ear { replies, subtrees, open: None, mtu: 1_400, credit: u32::MAX, deaf: false };
        let packer = Packer::new(config, sigbatch::Hasher::new());
        Self { packer, ear, seqs, numbers: BTreeMap::new() }
    }

    fn frag(&mut self, kind: AcceptedKind, shard: u16, n: u64, block: u32, epoch: u64) {
        let seq = &mut self.seqs[usize::from(shard)];
        *seq += 1;
        self.numbers.insert(txid(n), n);
        self.packer.frag(&Accepted {
            kind,
            shard,
            block,
            publish_seq: *seq,
            epoch: Epoch { incarnation: 1, number: epoch },
            fee_sat: fee(n),
            txid: txid(n),
            parents: List::Own(&[]),
            tx: &[0; 250],
        });
    }

    fn pool(&mut self, n: u64) {
        let shard = (n % self.seqs.len() as u64) as u16;
        assert!(self.packer.room(shard) > 0);
        self.frag(AcceptedKind::Pool, shard, n, 0, 1);
    }

    fn command(&mut self, command: &PackCommand<'_>) {
        assert!(self.packer.accepts(command.tag(), &self.ear), "{command:?} has to wait");
        self.packer.command(command, &mut self.ear);
    }

    fn turn(&mut self) -> bool {
        self.packer.step(&mut self.ear)
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the packer does not come to rest");
    }

    fn try_candidate(&mut self, want: Want) -> Candidate {
        self.command(&PackCommand::GetCandidate { token: 77, want, drained: Records::Own(&[]) });
        let bytes = self.ear.replies.pop_back().expect("answered at once");
        match PackReply::decode(&bytes).expect("ours") {
            PackReply::Candidate {
                token,
                id,
                tip_block,
                subtrees,
                fees_sat,
                size_bytes,
                branch,
            } => {
                assert_eq!(token, 77);
                let branch: Vec<[u8; 32]> = branch.iter().map(|hash| hash.0).collect();
                let root = root_from_branch(self.packer.hasher(), &COINBASE, &branch);
                Candidate { id, tip_block, subtrees, fees_sat, size_bytes, root }
            }
            other => panic!("{other:?}"),
        }
    }

    /// The leaves of a candidate, checked against its branch, its sums and its subtrees.
    fn leaves(&mut self, candidate: &Candidate) -> Streamed {
        self.command(&PackCommand::GetLeaves { token: 5, candidate: candidate.id });
        let mut all = Streamed::default();
        loop {
            assert!(self.turn(), "the stream stopped");
            while let Some(bytes) = self.ear.replies.pop_front() {
                match PackReply::decode(&bytes).expect("ours") {
                    PackReply::Roots { token: 5, from, roots } => {
                        assert_eq!(from, all.roots.len() as u64);
                        all.roots.extend(roots.iter().map(|root| root.0));
                    }
                    PackReply::Leaves { token: 5, from, txids } => {
                        assert_eq!(from, all.txids.len() as u64 + 1);
                        all.txids.extend(txids.iter());
                    }
                    PackReply::Ranges { token: 5, ranges } => all.ranges.extend(ranges.iter()),
                    PackReply::Streamed { token: 5, txids, ranges } => {
                        assert_eq!(txids, all.txids.len() as u64);
                        assert_eq!(ranges, all.ranges.len() as u64);
                        self.check(candidate, &all);
                        return all;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn check(&self, candidate: &Candidate, all: &Streamed) {
        assert_eq!(candidate.id.leaves, all.txids.len() as u64 + 1);
        let mut leaves = vec![COINBASE];
        leaves.extend(all.txids.iter().map(|txid| txid.0));
        assert_eq!(candidate.root, merkle_root(leaves.iter()).root.0, "the flat root");
        let fees: u64 = all.txids.iter().map(|txid| fee(self.numbers[txid])).sum();
        assert_eq!(candidate.fees_sat, fees);
        assert_eq!(all.roots.len(), candidate.subtrees as usize);
        if all.txids.is_empty() {
            return;
        }
        leaves[0] = COINBASE_PLACEHOLDER;
        let mut top = SubtreeRoots::for_first(leaves.len().min(8) as u64);
        for (root, leaves) in all.roots.iter().zip(leaves.chunks(8)) {
            assert_eq!(*root, merkle_root(leaves).root.0, "a subtree's own root");
            top.push(root, leaves.len() as u64).expect("only the last is short");
        }
        assert_eq!(top.root().root.0, merkle_root(leaves.iter()).root.0);
    }

    fn block_done(&mut self) -> (u32, u64, u64) {
        let bytes = self.ear.replies.pop_front().expect("a reply");
        match PackReply::decode(&bytes).expect("ours") {
            PackReply::BlockDone { block, changed, passed_over } => (block, changed, passed_over),
            other => panic!("{other:?}"),
        }
    }

    fn here(&mut self) -> Vec<u64> {
        self.settle();
        let candidate = self.try_candidate(Want::Everything);
        let leaves = self.leaves(&candidate);
        leaves.txids.iter().map(|txid| self.numbers[txid]).collect()
    }
}

#[test]
fn a_candidate_of_any_count_leads_from_the_coinbase_to_the_flat_root() {
    for lg in [1, 2, 3, 5] {
        let mut world = World::new(|config| config.subtree_lg_leaves = lg);
        for n in 0..140 {
            let candidate = world.try_candidate(Want::Everything);
            assert_eq!(candidate.id.leaves, n + 1);
            assert_eq!(candidate.size_bytes, n * 250);
            if lg == 3 {
                world.leaves(&candidate);
            } else {
                let mut leaves = vec![COINBASE];
                leaves.extend((0..n).map(|n| txid(n).0));
                assert_eq!(candidate.root, merkle_root(leaves.iter()).root.0);
            }
            world.pool(n);
            world.turn();
        }
    }
}

#[test]
fn whole_subtrees_can_be_asked_for_and_the_coinbase_alone_always() {
    let mut world = World::new(|_| ());
    (0..20).for_each(|n| world.pool(n));
    assert_eq!(world.try_candidate(Want::WholeSubtrees).id.leaves, 16);
    let alone = world.try_candidate(Want::CoinbaseOnly);
    assert_eq!((alone.id.leaves, alone.subtrees, alone.fees_sat), (1, 0, 0));
    assert_eq!(alone.root, COINBASE);
}

#[test]
fn a_candidate_waits_for_everything_that_was_accepted_before_it_was_asked_for() {
    let mut world = World::new(|_| ());
    (0..9).for_each(|n| world.pool(n));
    // Shard 2 has published four by now; the last one is still on its link.
    let drained = [ParentSeq { shard: 0, seq: 3 }, ParentSeq { shard: 2, seq: 4 }];
    let drained = Records::Own(&drained);
    world.command(&PackCommand::GetCandidate { token: 5, want: Want::Everything, drained });
    world.settle();
    assert!(world.ear.replies.is_empty(), "it is not complete");
    assert!(!world.packer.accepts(1, &world.ear), "one at a time");
    world.pool(11);
    world.settle();
    let bytes = world.ear.replies.pop_front().expect("now it is");
    match PackReply::decode(&bytes).expect("ours") {
        PackReply::Candidate { token: 5, id, .. } => assert_eq!(id.leaves, 11),
        other => panic!("{other:?}"),
    }
    assert!(world.packer.accepts(1, &world.ear));
}

#[test]
fn a_full_list_answers_for_a_candidate_that_can_never_be_complete() {
    let mut world = World::new(|config| config.transactions_max = 50);
    let mut n = 0;
    while world.packer.room((n % 3) as u16) > 0 {
        world.pool(n);
        n += 1;
    }
    let drained = [ParentSeq { shard: 0, seq: 1_000 }];
    let drained = Records::Own(&drained);
    world.command(&PackCommand::GetCandidate { token: 5, want: Want::Everything, drained });
    assert_eq!(world.ear.replies.len(), 1, "what is behind a full list cannot come");
}

#[test]
fn our_block_leaves_and_what_came_since_stays_in_order() {
    let mut world = World::new(|_| ());
    (0..100).for_each(|n| world.pool(n));
    world.settle();
    let candidate = world.try_candidate(Want::Everything);
    (100..130).for_each(|n| world.pool(n));
    let leaves = world.leaves(&candidate);
    assert_eq!(
        leaves.ranges,
        [(0, 34), (1, 33), (2, 33)].map(|(shard, to_seq)| SeqRange { shard, from_seq: 1, to_seq })
    );
    world.command(&PackCommand::MinedOurs { block: 9, candidate: candidate.id });
    assert_eq!(world.try_candidate(Want::Everything).id.leaves, 1, "half applied");
    (130..140).for_each(|n| world.pool(n));
    world.settle();
    assert_eq!(world.block_done(), (9, 100, 0));
    assert_eq!(world.try_candidate(Want::Everything).tip_block, 9);
    assert_eq!(world.here(), (100..140).collect::<Vec<_>>());
    let next = world.try_candidate(Want::Everything);
    let ranges = world.leaves(&next).ranges;
    assert_eq!(ranges[0], SeqRange { shard: 0, from_seq: 35, to_seq: 47 });
}

#[test]
fn a_candidate_is_stale_once_the_order_was_disturbed() {
    let mut world = World::new(|_| ());
    (0..50).for_each(|n| world.pool(n));
    let candidate = world.try_candidate(Want::Everything).id;
    world.frag(AcceptedKind::Evicted, 0, 7, 3, 1);
    world.command(&PackCommand::EvictionsDone { drained: Records::Own(&[]) });
    world.settle();
    for command in [
        PackCommand::GetLeaves { token: 3, candidate },
        PackCommand::MinedOurs { block: 3, candidate },
    ] {
        world.command(&command);
        let bytes = world.ear.replies.pop_front().expect("an answer");
        let reply = PackReply::decode(&bytes).expect("ours");
        assert!(matches!(reply, PackReply::Refused { token: 3, why: PackRefusal::Stale }));
    }
    assert_eq!(world.here().len(), 49);
}

#[test]
fn a_block_of_somebody_else_waits_until_the_links_are_drained_to_its_last_answers() {
    let mut world = World::new(|_| ());
    (0..30).for_each(|n| world.pool(n));
    let block: Vec<TxId> = [3, 4, 28, 33, 500].map(txid).to_vec();
    let drained = [ParentSeq { shard: 0, seq: 12 }];
    world.command(&PackCommand::Mined {
        block: 4,
        last: false,
        drained: Records::Own(&drained),
        txids: Records::Own(&block[..2]),
    });
    world.command(&PackCommand::Mined {
        block: 4,
        last: true,
        drained: Records::Own(&[]),
        txids: Records::Own(&block[2..]),
    });
    world.settle();
    assert_eq!(world.try_candidate(Want::Everything).id.leaves, 1, "not drained yet");
    world.pool(30);
    world.pool(33);
    world.settle();
    assert_eq!(world.block_done(), (4, 4, 1));
    let expected: Vec<u64> = (0..31).filter(|n| ![3, 4, 28].contains(n)).collect();
    assert_eq!(world.here(), expected);
}

#[test]
fn untouched_subtrees_are_offered_before_the_gaps_behind_them_are_closed() {
    let mut world = World::new(|_| ());
    (0..4_000).for_each(|n| world.pool(n));
    world.settle();
    let txids = [txid(1_300)];
    let txids = Records::Own(&txids);
    let drained = Records::Own(&[]);
    world.command(&PackCommand::Mined { block: 1, last: true, drained, txids });
    // Applied, answered; the gap is not closed to the end yet.
    world.turn();
    world.turn();
    assert_eq!(world.block_done(), (1, 1, 0));
    assert!(!world.packer.is_idle());
    let early = world.try_candidate(Want::WholeSubtrees);
    assert!(early.id.leaves >= 1_296 && early.id.leaves < 4_000, "{}", early.id.leaves);
    assert_eq!(world.here().len(), 3_999);
}

#[test]
fn no_candidate_holds_transactions_while_an_eviction_is_unfinished() {
    let mut world = World::new(|_| ());
    (0..40).for_each(|n| world.pool(n));
    world.frag(AcceptedKind::Evicted, 1, 10, 8, 1);
    world.settle();
    assert_eq!(world.try_candidate(Want::Everything).id.leaves, 1);
    // Its descendant follows on another link; the block says how far each link has to be drained.
    let drained = [ParentSeq { shard: 2, seq: 14 }];
    let (drained, txids) = (Records::Own(&drained), Records::Own(&[]));
    world.command(&PackCommand::Mined { block: 8, last: true, drained, txids });
    world.settle();
    assert_eq!(world.try_candidate(Want::Everything).id.leaves, 1);
    world.frag(AcceptedKind::Evicted, 2, 30, 8, 1);
    world.settle();
    assert_eq!(world.block_done().0, 8);
    assert_eq!(world.here(), (0..40).filter(|n| ![10, 30].contains(n)).collect::<Vec<_>>());
    assert_eq!(world.packer.counts().evicted, 2);
}

#[test]
fn a_blocks_transactions_are_not_placed_and_break_no_range_of_others() {
    let mut world = World::new(|config| config.shards = 1);
    world.pool(1);
    world.frag(AcceptedKind::Block, 0, 2, 5, 1);
    world.pool(3);
    let candidate = world.try_candidate(Want::Everything);
    let leaves = world.leaves(&candidate);
    assert_eq!(leaves.txids, [txid(1), txid(3)]);
    let range = |seq| SeqRange { shard: 0, from_seq: seq, to_seq: seq };
    assert_eq!(leaves.ranges, [range(1), range(3)]);
}

#[test]
fn a_disconnected_block_goes_back_in_front_in_its_own_order() {
    let mut world = World::new(|_| ());
    (0..60).for_each(|n| world.pool(n));
    let items: Vec<Restored> = [900, 5, 901, 902]
        .map(|n| {
            world.numbers.insert(txid(n), n);
            let (fee_sat, size_bytes) = (fee(n), 250);
            Restored { txid: txid(n), fee_sat, size_bytes, shard: 1, publish_seq: n }
        })
        .to_vec();
    let (drained, leaves) = (Records::Own(&[]), Records::Own(&items[..]));
    world.command(&PackCommand::Disconnected { block: 6, last: true, drained, leaves });
    world.turn();
    world.turn();
    assert_eq!(world.packer.room(0), 0, "nothing is appended meanwhile");
    world.settle();
    assert_eq!(world.block_done(), (6, 3, 1));
    let mut expected = vec![900, 901, 902];
    expected.extend(0..60);
    assert_eq!(world.here(), expected);
}

#[test]
fn subtrees_are_released_only_when_their_epochs_are_complete() {
    let mut world = World::new(|config| config.durable = true);
    for n in 0..40 {
        world.frag(AcceptedKind::Pool, 0, n, 0, 1 + n / 10);
    }
    world.settle();
    assert!(world.ear.subtrees.is_empty());
    for (number, released) in [(1, 1), (2, 2), (3, 3), (4, 5)] {
        let epoch = Epoch { incarnation: 1, number };
        world.command(&PackCommand::EpochComplete { epoch });
        world.settle();
        assert_eq!(world.ear.subtrees.len(), released, "epoch {number}");
    }
    assert_eq!(world.ear.subtrees[0].leaves[0].0, COINBASE_PLACEHOLDER);
    assert_eq!(world.ear.subtrees[0].fees_sat, (0..7).map(fee).sum::<u64>());
    assert_eq!(world.ear.subtrees[1].leaves[0], txid(7));
}

#[test]
fn a_list_begins_with_what_was_recovered_and_goes_on_behind_it() {
    let mut world = World::new(|_| ());
    let drained = [ParentSeq { shard: 0, seq: 40 }, ParentSeq { shard: 2, seq: 7 }];
    let leaves = (500..520).map(|n| Restored {
        txid: txid(n),
        fee_sat: fee(n),
        size_bytes: 100,
        shard: 0,
        publish_seq: n - 480,
    });
    world.packer.begin_with(&drained, leaves);
    world.seqs = vec![40, 0, 7];
    world.numbers.extend((500..520).map(|n| (txid(n), n)));
    (0..9).for_each(|n| world.pool(n));
    assert_eq!(world.here(), (500..520).chain(0..9).collect::<Vec<_>>());
    assert_eq!([0, 1, 2].map(|shard| world.packer.drained(shard)), [43, 3, 10]);
}

#[test]
fn a_short_subtree_is_released_when_asked_for_and_once() {
    let mut world = World::new(|_| ());
    (0..10).for_each(|n| world.pool(n));
    world.settle();
    assert_eq!(world.ear.subtrees.len(), 1);
    for _ in 0..2 {
        world.command(&PackCommand::ReleaseShort);
        world.settle();
        assert_eq!(world.ear.subtrees.len(), 2);
        assert_eq!(world.ear.subtrees[1].leaves, [7, 8, 9].map(txid));
    }
    (10..15).for_each(|n| world.pool(n));
    world.settle();
    assert_eq!(world.ear.subtrees[2].leaves, (7..15).map(txid).collect::<Vec<_>>());
}

#[test]
fn a_full_list_lets_its_links_rest_and_a_block_makes_room() {
    let mut world = World::new(|config| config.transactions_max = 20);
    (0..20).for_each(|n| world.pool(n));
    assert_eq!(world.packer.room(0), 0);
    assert_eq!(world.packer.counts().full, 1);
    let candidate = world.try_candidate(Want::Everything).id;
    world.command(&PackCommand::MinedOurs { block: 1, candidate });
    world.settle();
    assert_eq!(world.packer.room(0), 20);
}

#[test]
fn a_full_list_still_drains_what_a_block_needs() {
    let mut world = World::new(|config| config.transactions_max = 20);
    (0..20).for_each(|n| world.pool(n));
    let (drained, txids) = ([ParentSeq { shard: 2, seq: 7 }], [txid(20)]);
    let (drained, txids) = (Records::Own(&drained), Records::Own(&txids));
    world.command(&PackCommand::Mined { block: 1, last: true, drained, txids });
    world.pool(20);
    world.settle();
    assert_eq!(world.block_done(), (1, 1, 0));
    assert_eq!(world.packer.room(0), 0);
}

#[test]
fn a_transaction_published_twice_is_placed_once() {
    let mut world = World::new(|_| ());
    world.pool(1);
    world.frag(AcceptedKind::Pool, 0, 1, 0, 1);
    assert_eq!(world.here(), [1]);
    assert_eq!(world.packer.counts().repeated, 1);
}

#[test]
fn small_frags_carry_large_candidates_in_pieces() {
    let mut world = World::new(|_| ());
    world.ear.mtu = PACK_CONTROL_MTU_MIN;
    (0..3_000).for_each(|n| world.pool((n * 7_919) % 3_001));
    world.settle();
    let candidate = world.try_candidate(Want::Everything);
    assert_eq!(world.leaves(&candidate).txids.len(), 3_000);
}

#[derive(Clone, Debug)]
enum Step {
    Pool(u8),
    Turns(u8),
    Ours(bool),
    Theirs(Vec<u16>),
    Evict(u16),
    Disconnect(u8),
    Short,
    NoCredit(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u8..80).prop_map(Step::Pool),
        6 => (1u8..6).prop_map(Step::Turns),
        2 => any::<bool>().prop_map(Step::Ours),
        2 => prop::collection::vec(any::<u16>(), 0..30).prop_map(Step::Theirs),
        2 => any::<u16>().prop_map(Step::Evict),
        1 => (0u8..40).prop_map(Step::Disconnect),
        1 => Just(Step::Short),
        1 => any::<bool>().prop_map(Step::NoCredit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_blocks_come_every_candidate_is_the_front_of_what_is_unmined(
        steps in prop::collection::vec(step(), 1..80),
        lg in Just(3u8),
    ) {
        let mut world = World::new(|config| config.subtree_lg_leaves = lg);
        let mut model: Vec<u64> = Vec::new();
        let (mut next, mut block) = (0, 0);
        for step in steps {
            match step {
                Step::Pool(count) => for _ in 0..count {
                    if world.packer.room((next % 3) as u16) == 0 { break; }
                    world.pool(next);
                    model.push(next);
                    next += 1;
                },
                Step::Turns(count) => for _ in 0..count { world.turn(); },
                Step::Ours(all) => if world.packer.accepts(3, &world.ear) {
                    let want = if all { Want::Everything } else { Want::WholeSubtrees };
                    let candidate = world.try_candidate(want).id;
                    block += 1;
                    world.command(&PackCommand::MinedOurs { block, candidate });
                    model.drain(..candidate.leaves as usize - 1);
                },
                Step::Theirs(picks) => if world.packer.accepts(4, &world.ear) {
                    let mut ids = vec![txid(1 << 40)];
                    for pick in picks {
                        if !model.is_empty() {
                            ids.push(txid(model.remove(usize::from(pick) % model.len())));
                        }
                    }
                    block += 1;
                    let (drained, txids) = (Records::Own(&[]), Records::Own(&ids));
                    world.command(&PackCommand::Mined { block, last: true, drained, txids });
                },
                Step::Evict(pick) => {
                    if !model.is_empty() && world.packer.room(0) > 0 && world.packer.accepts(6, &world.ear) {
                        let n = model[usize::from(pick) % model.len()];
                        let known = world.packer.counts().evicted;
                        world.frag(AcceptedKind::Evicted, 0, n, block, 1);
                        if world.packer.counts().evicted > known {
                            model.retain(|m| *m != n);
                        }
                        let drained = Records::Own(&[]);
                        world.command(&PackCommand::EvictionsDone { drained });
                    }
                }
                Step::Disconnect(count) => if world.packer.accepts(5, &world.ear) {
                    let back: Vec<u64> = (next..next + u64::from(count)).collect();
                    next += u64::from(count);
                    let items: Vec<Restored> = back.iter().map(|n| {
                        world.numbers.insert(txid(*n), *n);
                        Restored {
                            txid: txid(*n), fee_sat: fee(*n), size_bytes: 250, shard: 0, publish_seq: 0,
                        }
                    }).collect();
                    block += 1;
                    let (drained, leaves) = (Records::Own(&[]), Records::Own(&items[..]));
                    world.command(&PackCommand::Disconnected { block, last: true, drained, leaves });
                    model.splice(0..0, back);
                },
                Step::Short => if world.packer.accepts(8, &world.ear) {
                    world.command(&PackCommand::ReleaseShort);
                },
                Step::NoCredit(none) => world.ear.credit = if none { 0 } else { 100 },
            }
            if world.packer.accepts(2, &world.ear) {
                // Whatever is unfinished, a candidate is the front of the model.
                let candidate = world.try_candidate(Want::Everything);
                let count = candidate.id.leaves as usize;
                prop_assert!(count <= model.len() + 1);
                let mut leaves = vec![COINBASE];
                leaves.extend(model[..count - 1].iter().map(|n| txid(*n).0));
                prop_assert_eq!(candidate.root, merkle_root(leaves.iter()).root.0);
                let fees: u64 = model[..count - 1].iter().map(|n| fee(*n)).sum();
                prop_assert_eq!(candidate.fees_sat, fees);
            }
        }
        world.ear.credit = u32::MAX;
        world.settle();
        world.ear.replies.clear();
        prop_assert_eq!(world.here(), model.clone());
        let c = *world.packer.counts();
        prop_assert_eq!(c.pool_frags, c.placed + c.repeated);
        prop_assert_eq!(c.placed + c.restored, c.mined + c.evicted + model.len() as u64);
        // The last release of each whole subtree is what stands there now.
        let mut leaves = vec![COINBASE_PLACEHOLDER];
        leaves.extend(model.iter().map(|n| txid(*n).0));
        for (index, leaves) in leaves.chunks_exact(8).enumerate() {
            let last = world.ear.subtrees.iter().rev().find(|s| s.index == index as u32);
            let last = last.expect("it was released");
            prop_assert!(last.leaves.iter().map(|leaf| leaf.0).eq(leaves.iter().copied()));
        }
    }
}

/// Prints nanoseconds a transaction for placing it with all its hashes, and for a candidate; run it with `--release`.
#[test]
#[ignore = "a measurement, not a test"]
fn nanoseconds_a_leaf() {
    const COUNT: u64 = 1_000_000;
    let mut world = World::new(|config| {
        config.transactions_max = COUNT as usize;
        config.subtree_lg_leaves = 16;
    });
    world.ear.mtu = 65_000;
    world.ear.deaf = true;
    let mut frag = vec![0; 400];
    let mut candidates_us = Vec::new();
    for round in 0..3u64 {
        let mut seqs = world.seqs.clone();
        let frags: Vec<Vec<u8>> = (0..COUNT)
            .map(|n| {
                let shard = (n % 3) as u16;
                seqs[usize::from(shard)] += 1;
                let parents = [ParentSeq { shard: (shard + 1) % 3, seq: (n / 3).max(1) }];
                let accepted = Accepted {
                    kind: AcceptedKind::Pool,
                    shard,
                    block: 0,
                    publish_seq: seqs[usize::from(shard)],
                    epoch: Epoch::default(),
                    fee_sat: 1,
                    txid: txid((round * COUNT + n).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                    parents: List::Own(if n < 3 || round > 0 { &[] } else { &parents }),
                    tx: &[0; 250],
                };
                let len = accepted.encode(&mut frag).expect("fits");
                frag[..len].to_vec()
            })
            .collect();
        let mut placed_ns: Vec<f64> = Vec::new();
        for slice in frags.chunks(1 << 14) {
            let start = std::time::Instant::now();
            for piece in slice.chunks(64) {
                for bytes in piece {
                    world.packer.frag(&Accepted::decode(bytes).expect("ours"));
                }
                world.turn();
            }
            placed_ns.push(start.elapsed().as_nanos() as f64 / slice.len() as f64);
        }
        placed_ns.sort_by(f64::total_cmp);
        let (best, median) = (placed_ns[0], placed_ns[placed_ns.len() / 2]);
        for _ in 0..20 {
            let start = std::time::Instant::now();
            world.try_candidate(Want::Everything);
            candidates_us.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
        let candidate = world.try_candidate(Want::Everything).id;
        let start = std::time::Instant::now();
        world.command(&PackCommand::GetLeaves { token: 1, candidate });
        world.settle();
        let streamed_ns = start.elapsed().as_nanos() as f64 / COUNT as f64;
        let start = std::time::Instant::now();
        world.command(&PackCommand::MinedOurs { block: round as u32 + 1, candidate });
        world.settle();
        let mined_ns = start.elapsed().as_nanos() as f64 / COUNT as f64;
        world.seqs = seqs;
        world.ear.replies.clear();
        world.ear.subtrees.clear();
        println!(
            "placed, hashed, released {best:.0} ns (median {median:.0}), streamed {streamed_ns:.0} ns, \
             mined {mined_ns:.0} ns a leaf"
        );
    }
    candidates_us.sort_by(f64::total_cmp);
    println!(
        "candidate: median {:.1} us, worst {:.1} us",
        candidates_us[candidates_us.len() / 2],
        candidates_us[candidates_us.len() - 1]
    );
}
