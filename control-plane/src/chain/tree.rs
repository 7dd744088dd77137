//! The tree of headers: every header that passed its checks, which of them form the best chain, and what is known to be bad.
//!
//! In: headers that were checked, news of their blocks (stored, connected, failed). Out: what the rules of a next header need
//! (height, median time, required bits), the best tip, forks, tips. The chain thread writes it; interfaces read it under the
//! lock of [`super::view::View`]. Ancestors are found in a logarithmic number of steps over a skip list.
//!
//! The best tip is a pure function of what is here: the most work, and among equals the block whose whole chain was here first.
//! Source: SV Node `chain.cpp` `GetSkipHeight`, `validation.cpp` `FindMostWorkChain`, `ReceivedBlockTransactions`,
//! `CBlockIndexWorkComparator`.

use super::answers::ChainStatus;
use consensus::hash::BlockHash;
use consensus::header::{Header, MEDIAN_TIME_BLOCKS, median_time_past};
use consensus::params::ChainParams;
use consensus::pow::{self, ChainPoint, U256};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Most headers outside the best chain; each costs its sender proof of work, but on test networks that is cheap.
pub(crate) const SIDE_HEADERS_MAX: usize = 100_000;

/// A header's place in the tree.
pub(crate) type Id = u32;

/// The genesis block's.
pub(crate) const GENESIS: Id = 0;

/// Where a block's bytes lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the block file.
    pub(crate) file: u32,
    /// First byte of the block in it.
    pub(crate) at: u64,
    /// Bytes of the block.
    pub(crate) len: u64,
}

/// One header and what is known of its block.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    pub(crate) hash: BlockHash,
    pub(crate) parent: Id,
    skip: Id,
    pub(crate) height: u32,
    pub(crate) work: U256,
    pub(crate) median_time_past: u32,
    pub(crate) place: Option<Place>,
    /// Transactions of the block; 0 until it is stored.
    pub(crate) tx_count: u64,
    /// Transactions of the chain up to here; 0 while a block of it is missing.
    pub(crate) chain_tx_count: u64,
    /// Order in which whole chains came to be here; later is larger.
    sequence: u64,
    /// Connected once, so that everything about it was checked.
    pub(crate) was_connected: bool,
    /// Found invalid, or said to be by the operator.
    pub(crate) failed: bool,
    /// An ancestor failed.
    pub(crate) failed_parent: bool,
}

impl Entry {
    pub(crate) fn is_bad(&self) -> bool {
        self.failed || self.failed_parent
    }

    fn is_whole(&self) -> bool {
        self.chain_tx_count > 0
    }
}

/// Orders candidates for the tip: work, then first come.
type Rank = (U256, std::cmp::Reverse<u64>, Id);

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    entries: Vec<Entry>,
    by_hash: HashMap<BlockHash, Id>,
    /// The chain that is connected, by height.
    active: Vec<Id>,
    /// Headers without a child.
    leaves: HashSet<Id>,
    /// Whole, not bad, at least as much work as the tip had when they came.
    candidates: BTreeSet<Rank>,
    /// Blocks that are stored below a missing one, by the parent.
    unlinked: HashMap<Id, Vec<Id>>,
    next_sequence: u64,
    /// The header with the most work that is not bad.
    best_header: Id,
}

impl Tree {
    /// The genesis block of `params`, connected.
    pub(crate) fn new(params: &ChainParams) -> Self {
        let header = params.genesis_header;
        let hash = header.hash();
        let entry = Entry {
            header,
            hash,
            parent: GENESIS,
            skip: GENESIS,
            height: 0,
            work: pow::block_work(header.n_bits),
            median_time_past: header.time_s,
            place: None,
            tx_count: 1,
            chain_tx_count: 1,
            sequence: 0,
            was_connected: true,
            failed: false,
            failed_parent: false,
        };
        let mut tree = Self {
            entries: vec![entry],
            by_hash: HashMap::from([(hash, GENESIS)]),
            active: vec![GENESIS],
            leaves: HashSet::from([GENESIS]),
            candidates: BTreeSet::new(),
            unlinked: HashMap::new(),
            next_sequence: 1,
            best_header: GENESIS,
        };
        tree.candidates.insert(tree.rank(GENESIS));
        tree
    }

    pub(crate) fn find(&self, hash: &BlockHash) -> Option<Id> {
        self.by_hash.get(hash).copied()
    }

    pub(crate) fn entry(&self, id: Id) -> &Entry {
        &self.entries[id as usize]
    }

    fn entry_mut(&mut self, id: Id) -> &mut Entry {
        &mut self.entries[id as usize]
    }

    /// Headers known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Headers outside the chain of the best header.
    pub(crate) fn side_headers(&self) -> usize {
        self.entries.len() - 1 - self.entry(self.best_header).height as usize
    }

    /// The end of the connected chain.
    pub(crate) fn tip(&self) -> Id {
        self.active[self.active.len() - 1]
    }

    /// The connected block at a height.
    pub(crate) fn active_at(&self, height: u32) -> Option<Id> {
        self.active.get(height as usize).copied()
    }

    pub(crate) fn is_active(&self, id: Id) -> bool {
        self.active_at(self.entry(id).height) == Some(id)
    }

    /// The ancestor of `id` (itself included) at `height`.
    pub(crate) fn ancestor(&self, id: Id, height: u32) -> Option<Id> {
        let mut at = id;
        if height > self.entry(at).height {
            return None;
        }
        while self.entry(at).height > height {
            if self.is_active(at) {
                return self.active_at(height);
            }
            let entry = self.entry(at);
            at = match self.entry(entry.skip).height >= height {
                true => entry.skip,
                false => entry.parent,
            };
        }
        Some(at)
    }

    /// The last block of `id`'s chain that is connected.
    pub(crate) fn fork(&self, id: Id) -> Id {
        let mut at = id;
        while !self.is_active(at) {
            at = self.entry(at).parent;
        }
        at
    }

    /// Required bits of a header on `parent` with this time.
    pub(crate) fn required_bits(&self, params: &ChainParams, parent: Id, time_s: u32) -> u32 {
        let point = |height: u32| {
            let entry = self.entry(self.ancestor(parent, height)?);
            let Entry { header, work, .. } = entry;
            Some(ChainPoint { time_s: header.time_s, n_bits: header.n_bits, chain_work: *work })
        };
        pow::required_bits(params, self.entry(parent).height, time_s, &point)
            .expect("every ancestor of a header in the tree is in the tree")
    }

    /// Adds a header whose checks passed; it must follow a known one and be new.
    pub(crate) fn insert(&mut self, header: Header) -> Id {
        let hash = header.hash();
        let parent = self.find(&header.prev).expect("a header is added after its parent");
        assert!(self.find(&hash).is_none(), "header {hash} is added twice");
        let above = self.entry(parent);
        let height = above.height + 1;
        let work = above.work + pow::block_work(header.n_bits);
        let failed_parent = above.is_bad();
        let skip = self.ancestor(parent, skip_height(height)).unwrap_or(GENESIS);
        let mut times = vec![header.time_s];
        let mut at = parent;
        while times.len() < MEDIAN_TIME_BLOCKS {
            times.push(self.entry(at).header.time_s);
            if at == GENESIS {
                break;
            }
            at = self.entry(at).parent;
        }
        let id = self.entries.len() as Id;
        self.entries.push(Entry {
            header,
            hash,
            parent,
            skip,
            height,
            work,
            median_time_past: median_time_past(&times),
            place: None,
            tx_count: 0,
            chain_tx_count: 0,
            sequence: 0,
            was_connected: false,
            failed: false,
            failed_parent,
        });
        self.by_hash.insert(hash, id);
        self.leaves.remove(&parent);
        self.leaves.insert(id);
        if !failed_parent && work > self.entry(self.best_header).work {
            self.best_header = id;
        }
        id
    }

    /// The block of a header is stored. It and what waited for it may become candidates for the tip.
    pub(crate) fn stored(&mut self, id: Id, place: Place, tx_count: u64) {
        let entry = self.entry_mut(id);
        if entry.place.is_some() {
            return;
        }
        entry.place = Some(place);
        entry.tx_count = tx_count;
        let parent = entry.parent;
        if !self.entry(parent).is_whole() {
            self.unlinked.entry(parent).or_default().push(id);
            return;
        }
        let mut ready = std::collections::VecDeque::from([id]);
        while let Some(id) = ready.pop_front() {
            let before = self.entry(self.entry(id).parent).chain_tx_count;
            let sequence = self.next_sequence;
            self.next_sequence += 1;
            let entry = self.entry_mut(id);
            entry.chain_tx_count = before + entry.tx_count;
            entry.sequence = sequence;
            self.consider(id);
            ready.extend(self.unlinked.remove(&id).unwrap_or_default());
        }
    }

    fn rank(&self, id: Id) -> Rank {
        let entry = self.entry(id);
        (entry.work, std::cmp::Reverse(entry.sequence), id)
    }

    fn consider(&mut self, id: Id) {
        let entry = self.entry(id);
        if entry.is_whole() && !entry.is_bad() && entry.work >= self.entry(self.tip()).work {
            self.candidates.insert(self.rank(id));
        }
    }

    /// The tip there should be: the one there is where nothing else may be one.
    pub(crate) fn best(&self) -> Id {
        self.candidates.last().map_or(self.tip(), |&(_, _, id)| id)
    }

    /// The header with the most work that is not bad, whether or not its block is here.
    pub(crate) fn best_header(&self) -> Id {
        self.best_header
    }

    /// After marks changed.
    fn find_best_header(&self) -> Id {
        let leaves = self.leaves.iter().map(|&id| self.good_part(id));
        leaves.max_by_key(|&id| (self.entry(id).work, std::cmp::Reverse(id))).unwrap_or(GENESIS)
    }

    fn good_part(&self, id: Id) -> Id {
        let mut at = id;
        while self.entry(at).is_bad() {
            at = self.entry(at).parent;
        }
        at
    }

    /// One block further.
    pub(crate) fn connect(&mut self, id: Id) {
        assert!(self.entry(id).parent == self.tip(), "a block is connected on the tip");
        self.active.push(id);
        self.entry_mut(id).was_connected = true;
        let work = self.entry(id).work;
        // What has less work than the tip is no candidate any more.
        self.candidates = self.candidates.split_off(&(work, std::cmp::Reverse(u64::MAX), 0));
    }

    /// One block back. The blocks that are candidates again are looked for by [`Tree::reconsider_all`].
    pub(crate) fn disconnect(&mut self) -> Id {
        assert!(self.active.len() > 1, "the genesis block is never disconnected");
        self.active.pop().expect("there is a tip")
    }

    /// Looks at every block again: after the tip went back, or blocks became good.
    pub(crate) fn reconsider_all(&mut self) {
        for id in 0..self.entries.len() as Id {
            self.consider(id);
        }
    }

    /// Marks a block and everything on it as bad; true if it was not before.
    pub(crate) fn fail(&mut self, id: Id) -> bool {
        let entry = self.entry_mut(id);
        let news = !entry.failed;
        entry.failed = true;
        self.candidates.remove(&self.rank(id));
        // Children stand behind their parents, so one walk is enough.
        for child in id + 1..self.entries.len() as Id {
            let parent = self.entry(child).parent;
            if self.entry(parent).is_bad() && !self.entry(child).failed_parent {
                self.entry_mut(child).failed_parent = true;
                self.candidates.remove(&self.rank(child));
            }
        }
        self.best_header = self.find_best_header();
        news
    }

    /// Takes the mark off a block, its ancestors and its descendants; the ids that lost a mark of their own.
    ///
    /// Source: SV Node `validation.cpp` `ResetBlockFailureFlags`.
    pub(crate) fn clear(&mut self, id: Id) -> Vec<Id> {
        let height = self.entry(id).height;
        let mut cleared = Vec::new();
        for other in 0..self.entries.len() as Id {
            let related = match self.entry(other).height {
                h if h > height => self.ancestor(other, height) == Some(id),
                h => self.ancestor(id, h) == Some(other),
            };
            if related && std::mem::take(&mut self.entry_mut(other).failed) {
                cleared.push(other);
            }
        }
        // A side branch of the block's ancestors keeps its own mark, and so does what stands on it.
        self.marks_changed();
        cleared
    }

    /// Takes the mark off one block, as an earlier run did.
    pub(crate) fn unmark(&mut self, id: Id) {
        self.entry_mut(id).failed = false;
        self.marks_changed();
    }

    fn marks_changed(&mut self) {
        for child in 1..self.entries.len() as Id {
            let parent = self.entry(child).parent;
            self.entry_mut(child).failed_parent = self.entry(parent).is_bad();
        }
        self.best_header = self.find_best_header();
        self.reconsider_all();
    }

    /// Remembers from an earlier run that the block was connected.
    pub(crate) fn was_connected(&mut self, id: Id) {
        self.entry_mut(id).was_connected = true;
    }

    /// What `getchaintips` calls a block. Source: SV Node `rpc/blockchain.cpp` `getchaintips`.
    pub(crate) fn status(&self, id: Id) -> ChainStatus {
        let entry = self.entry(id);
        if self.is_active(id) {
            ChainStatus::Active
        } else if entry.is_bad() {
            ChainStatus::Invalid
        } else if !entry.is_whole() {
            ChainStatus::HeadersOnly
        } else if entry.was_connected {
            ChainStatus::ValidFork
        } else {
            ChainStatus::ValidHeaders
        }
    }

    /// Ends of all branches and the tip, highest first.
    pub(crate) fn ends(&self) -> Vec<Id> {
        let mut ends: Vec<Id> = self.leaves.iter().copied().collect();
        if !self.leaves.contains(&self.tip()) {
            ends.push(self.tip());
        }
        ends.sort_by_key(|&id| (std::cmp::Reverse(self.entry(id).height), id));
        ends
    }

    /// Height of the highest checkpoint whose block is here.
    pub(crate) fn last_checkpoint(&self, params: &ChainParams) -> Option<u32> {
        let known = params.checkpoints().filter(|c| self.find(&c.hash).is_some());
        known.map(|c| c.height).max()
    }
}

/// Height of the ancestor a header at `height` points to. Source: SV Node `chain.cpp` `GetSkipHeight`.
fn skip_height(height: u32) -> u32 {
    let without_lowest_one = |n: u32| n & n.wrapping_sub(1);
    match height {
        0 | 1 => 0,
        h if h & 1 == 1 => without_lowest_one(without_lowest_one(h - 1)) + 1,
        h => without_lowest_one(h),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::hash::MerkleHash;
    use consensus::params::Network;

    fn header(prev: BlockHash, nonce: u32) -> Header {
        let bits = ChainParams::of(Network::Regtest).pow_limit_bits;
        let merkle_root = MerkleHash([7; 32]);
        Header { version: 4, prev, merkle_root, time_s: 1_300_000_000 + nonce, n_bits: bits, nonce }
    }

    fn grow(tree: &mut Tree, from: Id, blocks: u32, salt: u32, with_blocks: bool) -> Vec<Id> {
        let mut ids = vec![from];
        for i in 0..blocks {
            let prev = tree.entry(ids[ids.len() - 1]).hash;
            let id = tree.insert(header(prev, salt + i));
            if with_blocks {
                tree.stored(id, Place { file: 0, at: 0, len: 80 }, 1);
            }
            ids.push(id);
        }
        ids.remove(0);
        ids
    }

    fn connect(tree: &mut Tree, ids: &[Id]) {
        ids.iter().for_each(|&id| tree.connect(id));
    }

    #[test]
    fn ancestors_are_those_that_a_walk_over_the_parents_finds() {
        let mut tree = Tree::new(&ChainParams::of(Network::Regtest));
        let trunk = grow(&mut tree, GENESIS, 70, 0, true);
        let branch = grow(&mut tree, trunk[20], 70, 1_000, true);
        connect(&mut tree, &trunk);
        for end in [trunk[69], branch[69], branch[3]] {
            let mut walk = end;
            for height in (0..=tree.entry(end).height).rev() {
                assert_eq!(tree.ancestor(end, height), Some(walk), "height {height}");
                walk = tree.entry(walk).parent;
            }
            assert_eq!(tree.ancestor(end, tree.entry(end).height + 1), None);
        }
        assert_eq!(tree.fork(branch[69]), trunk[20]);
    }

    #[test]
    fn of_two_chains_with_equal_work_the_first_stays_best() {
        let mut tree = Tree::new(&ChainParams::of(Network::Regtest));
        let a = grow(&mut tree, GENESIS, 3, 0, true);
        connect(&mut tree, &a);
        let b = grow(&mut tree, GENESIS, 3, 100, true);
        assert_eq!(tree.best(), a[2]);
        let more = grow(&mut tree, b[2], 1, 200, true);
        assert_eq!(tree.best(), more[0]);
    }

    #[test]
    fn a_chain_with_a_missing_block_is_no_candidate_until_the_block_comes() {
        let mut tree = Tree::new(&ChainParams::of(Network::Regtest));
        let a = grow(&mut tree, GENESIS, 1, 0, true);
        connect(&mut tree, &a);
        let b = grow(&mut tree, GENESIS, 3, 100, false);
        let place = Place { file: 0, at: 0, len: 80 };
        tree.stored(b[0], place, 1);
        tree.stored(b[2], place, 1);
        assert_eq!((tree.best(), tree.best_header()), (a[0], b[2]));
        assert_eq!(tree.status(b[2]), ChainStatus::HeadersOnly);
        tree.stored(b[1], place, 1);
        assert_eq!((tree.best(), tree.status(b[2])), (b[2], ChainStatus::ValidHeaders));
        assert_eq!(tree.entry(b[2]).chain_tx_count, 4);
    }

    #[test]
    fn a_bad_block_takes_its_descendants_with_it_and_they_come_back_with_it() {
        let mut tree = Tree::new(&ChainParams::of(Network::Regtest));
        let a = grow(&mut tree, GENESIS, 3, 0, true);
        let b = grow(&mut tree, a[0], 1, 100, true);
        connect(&mut tree, &a);
        tree.disconnect();
        tree.disconnect();
        tree.fail(a[1]);
        tree.reconsider_all();
        assert_eq!(tree.best(), b[0]);
        assert_eq!(tree.status(a[2]), ChainStatus::Invalid);
        let late = grow(&mut tree, a[2], 1, 300, true);
        assert_eq!((tree.best(), tree.status(late[0])), (b[0], ChainStatus::Invalid));
        assert_eq!(tree.clear(a[2]), vec![a[1]], "an ancestor's mark goes too");
        assert_eq!(tree.best(), late[0]);
    }
}
