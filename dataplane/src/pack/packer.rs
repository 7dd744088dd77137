//! What pack does, without links: frags and commands in, replies and subtrees out through a [`Sink`].
//!
//! One [`Packer::step`] a turn does a bounded piece of whatever is unfinished: applying a block, closing gaps, hashing,
//! streaming a candidate's leaves, releasing a subtree. While a block is being applied or an eviction is unfinished only the
//! coinbase-only candidate is given; then what is clean again, from the front; then everything.

use super::list::{Leaf, List};
use super::order::{Order, Ordered};
use super::tree::{Edge, LEVELS_MAX};
use crate::msg::Epoch;
use crate::msg::accepted::{Accepted, AcceptedKind, ParentSeq};
use crate::msg::pack_control::{
    CandidateId, PackCommand, PackRefusal, PackReply, Record, Records, Restored, SeqRange, Want,
};
use crate::msg::pack_store::{SubtreeFrag, SubtreeLeaf};
use consensus::hash::TxId;
use sigbatch::Hasher;

/// Leaves walked a turn while gaps are closed, room is made, or a block is applied: about 100 us.
const LEAVES_PER_TURN: usize = 1_024;
/// Nodes of the lowest level hashed a turn, about 200 us with the sixteen-lane kernel: more than a turn's frags can need.
const NODES_PER_TURN: usize = 2_048;
/// Frags a turn to each out-link for a stream or a subtree.
const PIECES_PER_TURN: u32 = 16;
/// Most leaves in one piece.
const PIECE_LEAVES_MAX: usize = 1_024;
/// Leaves that a candidate may have to hash itself; when more are not hashed yet, they are left out.
const UNHASHED_MAX: usize = 64;
/// Most ids in one piece of a `Mined` command.
pub const MINED_PIECE_MAX: usize = 2_048;
/// Ids of a block that are kept until they are looked up.
const MINED_MAX: usize = 1 << 16;
/// Bytes in front of the list in a piece: tag, token, place, length.
const PIECE_HEAD: usize = 24;

/// How much a packer may say.
pub trait Credit {
    /// Replies that can be sent for certain.
    fn reply_credit(&self) -> u32;
}

/// Where a packer's messages go.
pub trait Sink: Credit {
    /// Bytes of the longest reply.
    fn reply_mtu(&self) -> usize;
    /// Sends a reply.
    fn reply(&mut self, reply: &PackReply<'_>);
    /// Subtree frags that can be sent for certain.
    fn store_credit(&self) -> u32;
    /// Bytes of the longest subtree frag.
    fn store_mtu(&self) -> usize;
    /// Sends a subtree frag.
    fn store(&mut self, frag: &SubtreeFrag<'_>);
}

/// What a packer is made with.
#[derive(Clone, Debug)]
pub struct PackConfig {
    /// Number of shards.
    pub shards: u16,
    /// Unmined transactions it holds before it takes no more.
    pub transactions_max: usize,
    /// Room beyond that, for transactions of disconnected blocks and for what must be drained to apply a block.
    pub restored_max: usize,
    /// Subtrees have two to this power leaves.
    pub subtree_lg_leaves: u8,
    /// Key of the index of txids, drawn once per process.
    pub index_key: (u64, u64),
    /// Whether subtrees wait for the epoch of their transactions; false where nothing is durable.
    pub durable: bool,
    /// How long new transactions wait in a short subtree before it is released as it is; 0 is for ever.
    pub release_short_after_ns: u64,
}

impl PackConfig {
    /// A million transactions, subtrees of 1,024 leaves, nothing durable, no timed releases.
    pub fn new(shards: u16, index_key: (u64, u64)) -> Self {
        Self {
            shards,
            transactions_max: 1 << 20,
            restored_max: 1 << 18,
            subtree_lg_leaves: 10,
            index_key,
            durable: false,
            release_short_after_ns: 0,
        }
    }
}

/// What a packer has counted. `pool_frags = placed + repeated`; `placed + restored = mined + evicted + in the list`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackCounts {
    /// Pool frags that came out of the order.
    pub pool_frags: u64,
    /// Block frags, which are not placed.
    pub block_frags: u64,
    /// Evicted frags.
    pub evicted_frags: u64,
    /// Frags that had to wait for another link.
    pub held: u64,
    /// Transactions placed.
    pub placed: u64,
    /// Pool frags of transactions that were in the list already.
    pub repeated: u64,
    /// Transactions taken out because they were mined.
    pub mined: u64,
    /// Transactions taken out because they were evicted.
    pub evicted: u64,
    /// Evictions of transactions that were not in the list.
    pub evicted_unknown: u64,
    /// Transactions put back in front.
    pub restored: u64,
    /// Nodes hashed ahead of candidates.
    pub nodes_hashed: u64,
    /// Leaves walked to close gaps or to make room.
    pub leaves_moved: u64,
    /// Candidates given.
    pub candidates: u64,
    /// Subtrees released, short ones included.
    pub subtrees: u64,
    /// Subtrees begun and dropped.
    pub subtrees_dropped: u64,
    /// Commands refused.
    pub refused: u64,
    /// Times a link rested because the list was full.
    pub full: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    None,
    /// Pieces of a block come in; once links are drained to where it says, its ids are looked up and marked.
    Gathering {
        block: u32,
        complete: bool,
        at: usize,
        changed: u64,
        passed_over: u64,
    },
    /// Pieces of a disconnected block come in, and links are drained to where it says.
    TakingDown {
        block: u32,
        complete: bool,
    },
    /// Our own block's leaves are marked.
    MarkingOurs {
        block: u32,
        at: usize,
        end: usize,
    },
    /// A disconnected block waits for gaps to be closed.
    Waiting {
        block: u32,
    },
    /// Its transactions are put in front.
    Raising {
        block: u32,
    },
    /// The reply waits for credit.
    Answering {
        block: u32,
        changed: u64,
        passed_over: u64,
    },
}

#[derive(Debug)]
struct Stream {
    token: u64,
    id: CandidateId,
    edge: Edge,
    next_root: usize,
    next_leaf: usize,
    ranges: u64,
    runs_closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Release {
    number: u64,
    index: usize,
    end: usize,
    next: usize,
    disturbed: bool,
}

/// The packer; see the module.
#[derive(Debug)]
pub struct Packer {
    config: PackConfig,
    order: Order,
    list: List,
    counts: PackCounts,
    job: Job,
    /// Ids of the block that is being applied.
    mined: Vec<TxId>,
    drain_to: Vec<ParentSeq>,
    /// The block that is being disconnected has more transactions than can be put in front.
    no_room_in_front: bool,
    /// The newest block that evictions came for and that is not applied yet.
    evicting: Option<u32>,
    evictions_end: Vec<ParentSeq>,
    evictions_ending: bool,
    /// A candidate that waits until everything that must be in it has come.
    asked: Option<(u64, Want)>,
    asked_after: Vec<ParentSeq>,
    tip_block: u32,
    stream: Option<Stream>,
    /// Per shard the run of publish sequences that the stream is in; `from_seq` 0 is none.
    runs: Vec<SeqRange>,
    ranges: Vec<SeqRange>,
    epoch_complete: Epoch,
    /// Leaves whose epochs are known to be complete.
    durable_leaves: usize,
    /// Whole subtrees released.
    released: usize,
    release: Option<Release>,
    short_wanted: bool,
    /// What the last short release held.
    short_released: (u64, usize),
    subtree_number: u64,
    piece: Vec<SubtreeLeaf>,
    roots: Vec<[u8; 32]>,
}

impl Packer {
    /// Takes all the memory it will ever use.
    pub fn new(config: PackConfig, hasher: Hasher) -> Self {
        assert!(config.subtree_lg_leaves < 31, "subtrees of 2^{}", config.subtree_lg_leaves);
        let shards = usize::from(config.shards);
        let capacity = config.transactions_max + config.restored_max + shards;
        let run = |shard: usize| SeqRange { shard: shard as u16, from_seq: 0, to_seq: 0 };
        Self {
            order: Order::new(config.shards),
            list: List::with_capacity(capacity, config.restored_max, config.index_key, hasher),
            counts: PackCounts::default(),
            job: Job::None,
            mined: Vec::with_capacity(MINED_MAX),
            drain_to: Vec::with_capacity(shards),
            no_room_in_front: false,
            evicting: None,
            evictions_end: Vec::with_capacity(shards),
            evictions_ending: false,
            asked: None,
            asked_after: Vec::with_capacity(shards),
            tip_block: 0,
            stream: None,
            runs: (0..shards).map(run).collect(),
            ranges: Vec::with_capacity(PIECE_LEAVES_MAX + shards),
            epoch_complete: Epoch::default(),
            durable_leaves: 1,
            released: 0,
            release: None,
            short_wanted: false,
            short_released: (0, 1),
            subtree_number: 0,
            piece: Vec::with_capacity(PIECE_LEAVES_MAX),
            roots: Vec::with_capacity(PIECE_LEAVES_MAX),
            config,
        }
    }

    /// See [`PackTile::begin_with`](super::PackTile::begin_with).
    pub fn begin_with(&mut self, drained: &[ParentSeq], leaves: impl Iterator<Item = Restored>) {
        assert!(self.list.len() == 1, "the list begins with what was recovered, or without it");
        self.order.begin_at(drained);
        for restored in leaves {
            let Restored { txid, fee_sat, size_bytes, shard, publish_seq } = restored;
            let epoch = Epoch::default();
            let leaf = Leaf { fee_sat, size_bytes, publish_seq, epoch, shard };
            assert!(
                self.list.len() < self.list.capacity(),
                "{} recovered transactions do not fit: give the node at least the memory it had",
                self.list.len()
            );
            self.counts.restored += u64::from(self.list.append(&txid, leaf));
        }
    }

    /// Number of shards.
    pub fn shards(&self) -> u16 {
        self.config.shards
    }

    /// What was counted.
    pub fn counts(&self) -> &PackCounts {
        &self.counts
    }

    /// Transactions in the list.
    pub fn transactions(&self) -> usize {
        self.list.transactions()
    }

    /// Frags held until their parents are placed.
    pub fn held(&self) -> usize {
        self.order.held()
    }

    /// Up to where this shard's frags are placed.
    pub fn drained(&self, shard: u16) -> u64 {
        self.order.drained(shard)
    }

    /// The kernel that hashes.
    pub fn hasher(&self) -> &Hasher {
        self.list.tree().hasher()
    }

    /// Whether nothing is unfinished.
    pub fn is_idle(&self) -> bool {
        self.job == Job::None
            && self.asked.is_none()
            && self.stream.is_none()
            && self.release.is_none()
            && self.order.held() == 0
            && self.list.is_settled()
    }

    /// Frags that can be taken now from this shard's link.
    pub fn room(&mut self, shard: u16) -> u32 {
        if self.list.is_raising() || self.order.is_held(shard) {
            return 0;
        }
        // A block can only be applied when links are drained so far: then the reserve is used as well.
        let waits_for_drain = self.evictions_ending
            || matches!(self.job, Job::Gathering { .. } | Job::TakingDown { .. });
        let places = if waits_for_drain {
            self.list.capacity() - self.order.shards()
        } else {
            self.config.transactions_max + 1
        };
        let room = places.saturating_sub(self.list.len());
        self.counts.full += u64::from(room == 0);
        room.min(u32::MAX as usize) as u32
    }

    /// Whether this shard's link rests because its last frag is held.
    #[inline]
    pub fn rests(&self, shard: u16) -> bool {
        self.order.is_held(shard)
    }

    /// The next frag of a shard's link, which does not rest and for which there was room.
    #[inline]
    pub fn frag(&mut self, frag: &Accepted<'_>) {
        let Self { order, list, counts, evicting, .. } = self;
        let came_out = order.take(frag, |ordered| place(list, counts, evicting, ordered));
        counts.held += u64::from(!came_out);
    }

    /// Whether a command can be taken now. Otherwise it waits on its link, and what is behind it too.
    pub fn accepts(&self, tag: u8, sink: &impl Credit) -> bool {
        let may = match (tag, self.job) {
            (1, _) => self.asked.is_none(),
            (2, _) => self.stream.is_none(),
            (3, job) => job == Job::None && self.stream.is_none(),
            (4, Job::Gathering { complete, .. }) => {
                !complete && self.mined.len() + MINED_PIECE_MAX <= self.mined.capacity()
            }
            (5, Job::TakingDown { complete, .. }) => !complete,
            (4 | 5, job) => job == Job::None,
            (6, _) => !self.evictions_ending,
            _ => true,
        };
        may && sink.reply_credit() > 0
    }

    /// A command that is accepted now.
    pub fn command(&mut self, command: &PackCommand<'_>, sink: &mut impl Sink) {
        match *command {
            PackCommand::GetCandidate { token, want, drained } => {
                set(&mut self.asked_after, &drained);
                self.asked = Some((token, want));
                self.answer_asked(sink);
            }
            PackCommand::GetLeaves { token, candidate } => {
                if self.is_fresh(candidate) {
                    let edge = self.list.edge(candidate.leaves as usize);
                    self.stream = Some(Stream {
                        token,
                        id: candidate,
                        edge,
                        next_root: 0,
                        next_leaf: 1,
                        ranges: 0,
                        runs_closed: false,
                    });
                } else {
                    self.refuse(token, PackRefusal::Stale, sink);
                }
            }
            PackCommand::MinedOurs { block, candidate } => {
                if self.is_fresh(candidate) {
                    self.job = Job::MarkingOurs { block, at: 1, end: candidate.leaves as usize };
                } else {
                    self.refuse(u64::from(block), PackRefusal::Stale, sink);
                }
            }
            PackCommand::Mined { block, last, drained, txids } => {
                let (mut at, mut changed, mut passed_over) = (0, 0, 0);
                if let Job::Gathering { block: before, at: a, changed: c, passed_over: p, .. } =
                    self.job
                {
                    assert_eq!(before, block, "a piece of one block among those of another");
                    (at, changed, passed_over) = (a, c, p);
                } else {
                    self.mined.clear();
                    set(&mut self.drain_to, &drained);
                }
                self.job = Job::Gathering { block, complete: last, at, changed, passed_over };
                assert!(
                    txids.len() <= MINED_PIECE_MAX,
                    "a piece of {} ids; {MINED_PIECE_MAX} are the most",
                    txids.len()
                );
                txids.iter().for_each(|txid| self.mined.push(txid));
            }
            PackCommand::Disconnected { block, last, drained, leaves } => {
                if let Job::TakingDown { block: before, .. } = self.job {
                    assert_eq!(before, block, "a piece of one block among those of another");
                } else {
                    set(&mut self.drain_to, &drained);
                }
                self.job = Job::TakingDown { block, complete: last };
                for item in leaves.iter() {
                    self.no_room_in_front |= !self.list.take_down(&item);
                }
            }
            PackCommand::EvictionsDone { drained } => {
                set(&mut self.evictions_end, &drained);
                self.evictions_ending = true;
            }
            PackCommand::EpochComplete { epoch } => {
                self.epoch_complete = self.epoch_complete.max(epoch);
            }
            PackCommand::ReleaseShort => self.release_short(),
        }
    }

    /// Releases the last subtree as it is, if anything is in it that was not released.
    pub fn release_short(&mut self) {
        self.short_wanted = true;
    }

    fn refuse(&mut self, token: u64, why: PackRefusal, sink: &mut impl Sink) {
        self.counts.refused += 1;
        sink.reply(&PackReply::Refused { token, why });
    }

    /// Whether the list may be looked at: no block half applied, no eviction unfinished.
    fn may_offer(&self) -> bool {
        self.job == Job::None && self.evicting.is_none()
    }

    fn is_fresh(&self, id: CandidateId) -> bool {
        id.leaves == 1
            || (self.may_offer()
                && id.generation == self.list.generation()
                && (2..=self.list.clean() as u64).contains(&id.leaves))
    }

    fn lg(&self) -> usize {
        usize::from(self.config.subtree_lg_leaves)
    }

    fn subtrees_of(&self, leaves: usize) -> usize {
        if leaves == 1 { 0 } else { leaves.div_ceil(1 << self.lg()) }
    }

    /// Gives the candidate that was asked for, if everything that must be in it has come and is hashed, or cannot come: in a
    /// full list, and while a block or an eviction is half done.
    fn answer_asked(&mut self, sink: &mut impl Sink) -> bool {
        let Some((token, want)) = self.asked else { return false };
        let is_full = self.list.len() > self.config.transactions_max;
        let has_come = self.order.has_reached(&Records::Own(&self.asked_after));
        let is_hashed = self.asked_after.is_empty() || self.ready() == self.list.clean();
        if !(has_come && is_hashed || is_full || !self.may_offer()) || sink.reply_credit() == 0 {
            return false;
        }
        self.asked = None;
        self.candidate(token, want, sink);
        true
    }

    /// Leaves of the longest candidate whose root can be had within a turn.
    fn ready(&self) -> usize {
        let clean = if self.may_offer() { self.list.clean() } else { 1 };
        let hashed = self.list.tree().hashed_leaves();
        if clean <= hashed + UNHASHED_MAX { clean } else { hashed.max(1) }
    }

    fn candidate(&mut self, token: u64, want: Want, sink: &mut impl Sink) {
        let ready = self.ready();
        let leaves = match want {
            Want::CoinbaseOnly => 1,
            Want::WholeSubtrees => (ready >> self.lg() << self.lg()).max(1),
            Want::Everything => ready,
        };
        let edge = self.list.edge(leaves);
        let mut branch = [[0; 32]; LEVELS_MAX];
        let levels = self.list.tree().branch(&edge, &mut branch);
        let (fees_sat, size_bytes) = self.list.sums(leaves);
        self.counts.candidates += 1;
        sink.reply(&PackReply::Candidate {
            token,
            id: CandidateId { generation: self.list.generation(), leaves: leaves as u64 },
            tip_block: self.tip_block,
            subtrees: self.subtrees_of(leaves) as u32,
            fees_sat,
            size_bytes,
            branch: Records::Wire(branch[..levels].as_flattened()),
        });
    }

    /// One turn's share of whatever is unfinished; true if anything was done.
    pub fn step(&mut self, sink: &mut impl Sink) -> bool {
        let mut busy = self.advance_job(sink);
        if self.evictions_ending && self.order.has_reached(&Records::Own(&self.evictions_end)) {
            self.evictions_ending = false;
            self.evicting = None;
        }
        // Our own block's leaves are marked by position, so nothing moves while that lasts.
        if !matches!(self.job, Job::MarkingOurs { .. }) {
            let moved = self.list.settle(LEAVES_PER_TURN);
            self.counts.leaves_moved += moved as u64;
            busy |= moved > 0;
        }
        let hashed = self.list.hash(NODES_PER_TURN);
        self.counts.nodes_hashed += hashed as u64;
        busy |= hashed > 0;
        if let Some(at) = self.list.take_disturbed() {
            self.released = self.released.min(at >> self.lg());
            self.durable_leaves = self.durable_leaves.min(at.max(1));
            if let Some(release) = &mut self.release {
                release.disturbed |= release.end > at;
            }
        }
        busy |= self.answer_asked(sink);
        busy |= self.advance_stream(sink);
        busy | self.advance_release(sink)
    }

    fn advance_job(&mut self, sink: &mut impl Sink) -> bool {
        match self.job {
            Job::None => return false,
            Job::Gathering { block, complete, at, mut changed, mut passed_over } => {
                if !self.order.has_reached(&Records::Own(&self.drain_to)) {
                    return false;
                }
                let end = self.mined.len().min(at + LEAVES_PER_TURN);
                for txid in &self.mined[at..end] {
                    match self.list.find(txid) {
                        Some(place) => {
                            self.list.mark(place);
                            changed += 1;
                        }
                        None => passed_over += 1,
                    }
                }
                self.job = Job::Gathering { block, complete, at: end, changed, passed_over };
                if end == self.mined.len() {
                    self.mined.clear();
                    self.job = Job::Gathering { block, complete, at: 0, changed, passed_over };
                    if !complete {
                        return end > at;
                    }
                    self.counts.mined += changed;
                    self.job = Job::Answering { block, changed, passed_over };
                }
            }
            Job::TakingDown { block, complete } => {
                if !complete || !self.order.has_reached(&Records::Own(&self.drain_to)) {
                    return false;
                }
                self.job = Job::Waiting { block };
            }
            Job::MarkingOurs { block, at, end } => {
                let stop = end.min(at + LEAVES_PER_TURN);
                for place in at..stop {
                    self.list.mark(place);
                }
                self.job = if stop == end {
                    let changed = end as u64 - 1;
                    self.counts.mined += changed;
                    Job::Answering { block, changed, passed_over: 0 }
                } else {
                    Job::MarkingOurs { block, at: stop, end }
                };
            }
            Job::Waiting { block } => {
                if !self.list.is_settled() {
                    return false;
                }
                if sink.reply_credit() == 0 {
                    return false;
                }
                if !self.no_room_in_front && self.list.raise() {
                    self.job = Job::Raising { block };
                } else {
                    self.no_room_in_front = false;
                    self.list.drop_taken_down();
                    self.refuse(u64::from(block), PackRefusal::NoRoom, sink);
                    self.block_is_done(block);
                }
            }
            Job::Raising { block } => {
                if !self.list.is_settled() {
                    return false;
                }
                let (changed, passed_over) =
                    self.list.take_raised().expect("a raise that is settled has been counted");
                self.counts.restored += changed;
                self.job = Job::Answering { block, changed, passed_over };
            }
            Job::Answering { block, changed, passed_over } => {
                if sink.reply_credit() == 0 {
                    return false;
                }
                self.block_is_done(block);
                sink.reply(&PackReply::BlockDone { block, changed, passed_over });
            }
        }
        true
    }

    fn block_is_done(&mut self, block: u32) {
        self.job = Job::None;
        self.tip_block = block;
        if self.evicting.is_some_and(|evicting| evicting <= block) {
            self.evicting = None;
        }
    }

    fn advance_stream(&mut self, sink: &mut impl Sink) -> bool {
        let mut sent = 0;
        while self.stream.is_some() && sent < PIECES_PER_TURN && sink.reply_credit() > 0 {
            self.stream_piece(sink);
            sent += 1;
        }
        sent > 0
    }

    fn stream_piece(&mut self, sink: &mut impl Sink) {
        let Some(mut stream) = self.stream.take() else { return };
        let Stream { token, id, .. } = stream;
        let leaves = id.leaves as usize;
        if leaves > 1 && id.generation != self.list.generation() {
            self.runs.iter_mut().for_each(|run| run.from_seq = 0);
            self.ranges.clear();
            self.refuse(token, PackRefusal::Stale, sink);
            return;
        }
        let fit = (sink.reply_mtu() - PIECE_HEAD).min(PIECE_LEAVES_MAX * 32);
        let (ids_fit, ranges_fit) = (fit / 32, fit / SeqRange::LEN);
        let subtrees = self.subtrees_of(leaves);
        if self.ranges.len() >= ranges_fit || (stream.runs_closed && !self.ranges.is_empty()) {
            let count = self.ranges.len().min(ranges_fit);
            sink.reply(&PackReply::Ranges { token, ranges: Records::Own(&self.ranges[..count]) });
            self.ranges.drain(..count);
            stream.ranges += count as u64;
        } else if stream.next_root < subtrees {
            let end = subtrees.min(stream.next_root + ids_fit);
            self.roots.clear();
            for i in stream.next_root..end {
                let root = self.list.tree().subtree_root(&stream.edge, self.lg(), i << self.lg());
                self.roots.push(root);
            }
            sink.reply(&PackReply::Roots {
                token,
                from: stream.next_root as u64,
                roots: Records::Wire(self.roots.as_flattened()),
            });
            stream.next_root = end;
        } else if stream.next_leaf < leaves {
            let end = leaves.min(stream.next_leaf + ids_fit);
            sink.reply(&PackReply::Leaves {
                token,
                from: stream.next_leaf as u64,
                txids: Records::Wire(self.list.tree().leaves(stream.next_leaf..end).as_flattened()),
            });
            for at in stream.next_leaf..end {
                let leaf = self.list.leaf(at);
                if leaf.publish_seq == 0 {
                    continue;
                }
                let run = &mut self.runs[usize::from(leaf.shard)];
                if run.from_seq != 0 && run.to_seq + 1 == leaf.publish_seq {
                    run.to_seq = leaf.publish_seq;
                    continue;
                }
                if run.from_seq != 0 {
                    self.ranges.push(*run);
                }
                run.from_seq = leaf.publish_seq;
                run.to_seq = leaf.publish_seq;
            }
            stream.next_leaf = end;
        } else if !stream.runs_closed {
            for run in &mut self.runs {
                if run.from_seq != 0 {
                    self.ranges.push(*run);
                    run.from_seq = 0;
                }
            }
            stream.runs_closed = true;
        } else {
            let (txids, ranges) = (id.leaves - 1, stream.ranges);
            sink.reply(&PackReply::Streamed { token, txids, ranges });
            return;
        }
        self.stream = Some(stream);
    }

    fn advance_release(&mut self, sink: &mut impl Sink) -> bool {
        let mut sent = 0;
        while sent < PIECES_PER_TURN && sink.store_credit() > 0 {
            let Some(mut release) = self.release else {
                if !self.begin_release(sink) {
                    break;
                }
                sent += 1;
                continue;
            };
            sent += 1;
            let number = release.number;
            if release.disturbed {
                self.counts.subtrees_dropped += 1;
                self.release = None;
                sink.store(&SubtreeFrag::Dropped { number });
                continue;
            }
            let fit = ((sink.store_mtu() - PIECE_HEAD) / SubtreeLeaf::LEN).min(PIECE_LEAVES_MAX);
            let end = release.end.min(release.next + fit);
            self.piece.clear();
            for at in release.next..end {
                let leaf = self.list.leaf(at);
                self.piece.push(SubtreeLeaf {
                    txid: TxId(*self.list.tree().leaf(at)),
                    fee_sat: leaf.fee_sat,
                    size_bytes: leaf.size_bytes,
                });
            }
            sink.store(&SubtreeFrag::Leaves { number, leaves: Records::Own(&self.piece) });
            release.next = end;
            self.release = Some(release);
            if end == release.end {
                self.release = None;
                self.counts.subtrees += 1;
                if end == (release.index + 1) << self.lg() {
                    self.released = release.index + 1;
                }
            }
        }
        sent > 0
    }

    /// Begins the next subtree that can be released; false if there is none.
    fn begin_release(&mut self, sink: &mut impl Sink) -> bool {
        if !self.may_offer() {
            return false;
        }
        let lg = self.lg();
        let start = self.released << lg;
        let whole = start + (1 << lg);
        let clean = self.list.clean();
        if clean < whole && !self.short_wanted {
            return false;
        }
        let wanted = whole.min(clean);
        if self.list.tree().hashed_leaves() + UNHASHED_MAX < wanted {
            return false;
        }
        if self.config.durable {
            self.durable_leaves = self.durable_leaves.max(1);
            let stop = wanted.min(self.durable_leaves + LEAVES_PER_TURN);
            while self.durable_leaves < stop
                && self.list.leaf(self.durable_leaves).epoch <= self.epoch_complete
            {
                self.durable_leaves += 1;
            }
        } else {
            self.durable_leaves = self.durable_leaves.max(wanted);
        }
        let end = wanted.min(self.durable_leaves);
        let is_whole = end == whole;
        if !is_whole {
            let now = (self.list.generation(), end);
            if !self.short_wanted || end < wanted {
                return false;
            }
            self.short_wanted = false;
            if end <= start.max(1) || self.short_released == now {
                return false;
            }
            self.short_released = now;
        }
        let edge = self.list.edge(end);
        let root = self.list.tree().subtree_root(&edge, lg, start);
        let (fees_sat, size_bytes) = self.list.sums(end);
        let (fees_before, size_before) = if start == 0 { (0, 0) } else { self.list.sums(start) };
        self.subtree_number += 1;
        sink.store(&SubtreeFrag::Head {
            number: self.subtree_number,
            index: self.released as u32,
            leaves: (end - start) as u32,
            root: TxId(root),
            fees_sat: fees_sat - fees_before,
            size_bytes: size_bytes - size_before,
        });
        self.release = Some(Release {
            number: self.subtree_number,
            index: self.released,
            end,
            next: start,
            disturbed: false,
        });
        true
    }
}

fn set(targets: &mut Vec<ParentSeq>, to: &Records<'_, ParentSeq>) {
    targets.clear();
    for target in to.iter() {
        assert!(targets.len() < targets.capacity(), "one sequence a shard");
        targets.push(target);
    }
}

#[inline]
fn place(list: &mut List, counts: &mut PackCounts, evicting: &mut Option<u32>, frag: &Ordered) {
    match frag.kind {
        AcceptedKind::Pool => {
            counts.pool_frags += 1;
            let leaf = Leaf {
                fee_sat: frag.fee_sat,
                size_bytes: frag.size_bytes,
                publish_seq: frag.publish_seq,
                epoch: frag.epoch,
                shard: frag.shard,
            };
            if list.append(&frag.txid, leaf) {
                counts.placed += 1;
            } else {
                counts.repeated += 1;
            }
        }
        AcceptedKind::Block => counts.block_frags += 1,
        AcceptedKind::Evicted => {
            counts.evicted_frags += 1;
            *evicting = Some(evicting.map_or(frag.block, |block| block.max(frag.block)));
            match list.find(&frag.txid) {
                Some(at) => {
                    list.mark(at);
                    counts.evicted += 1;
                }
                None => counts.evicted_unknown += 1,
            }
        }
    }
}
