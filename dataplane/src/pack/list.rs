//! The ordered list of unmined transactions: what the next block is made of.
//!
//! In: transactions at the end, marks on transactions that leave, transactions that go back in front. Out: a *clean prefix*,
//! in which everything is in order and every parent stands before its children, with prefix sums and its merkle tree.
//!
//! Position 0 is the coinbase's place. A transaction that leaves is marked at once (no prefix beyond it is offered any more) and
//! its place is closed by a walk from there to the end, a bounded number of leaves a turn, while new ones are appended
//! behind. Putting transactions in front moves the others up, from the end, and while that lasts nothing is offered or taken.
//!
//! Memory: 64 bytes a leaf here, 64 in the tree, 16 to 32 in the index; all of it taken at start and touched as it is used.

use super::index::Index;
use super::tree::{Edge, Tree};
use crate::msg::Epoch;
use crate::msg::pack_control::Restored;
use consensus::hash::TxId;
use sigbatch::Hasher;

/// What is known of a transaction in the list besides its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Zeroable)]
pub struct Leaf {
    /// Fee, satoshi.
    pub fee_sat: u64,
    /// Raw size.
    pub size_bytes: u64,
    /// Publish sequence at its shard; 0 if unknown.
    pub publish_seq: u64,
    /// Epoch of its decision.
    pub epoch: Epoch,
    /// The shard that published it.
    pub shard: u16,
}

#[derive(Clone, Copy, Debug, Default, bytemuck::Zeroable)]
struct Place {
    leaf: Leaf,
    /// Sums up to and including this place.
    fees_sat: u64,
    size_bytes: u64,
    gone: bool,
}

/// Unfinished work on the order of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    None,
    /// Closing gaps: `..write` is in order, `read..` is still to be walked.
    Closing {
        read: usize,
        write: usize,
    },
    /// Before that: dropping from what goes in front whatever is in the list already.
    Sifting {
        read: usize,
        write: usize,
    },
    /// Moving everything up to make room in front: `..=next` is still to be moved.
    Raising {
        next: usize,
    },
    /// Filling the room: `front[..at]` is placed.
    Filling {
        at: usize,
    },
}

/// The list; see the module.
#[derive(Debug)]
pub struct List {
    tree: Tree,
    index: Index,
    places: Vec<Place>,
    len: usize,
    work: Work,
    /// Lowest mark that the present walk has passed already.
    again_from: usize,
    /// Marked and not yet closed.
    gone: usize,
    generation: u64,
    front: Vec<(TxId, Leaf)>,
    /// Sums over `front`, once it is sifted.
    front_fees_sat: u64,
    front_size_bytes: u64,
    /// How many were put in front, and how many were here already, by the last finished raise.
    raised: Option<(u64, u64)>,
    /// Lowest position disturbed since it was asked for last.
    disturbed_from: usize,
}

impl List {
    /// Room for `capacity` transactions and the coinbase; `front` of them can be put in front at once.
    pub fn with_capacity(capacity: usize, front: usize, key: (u64, u64), hasher: Hasher) -> Self {
        Self {
            tree: Tree::with_capacity(capacity + 1, hasher),
            index: Index::with_capacity(capacity, key),
            places: bytemuck::zeroed_vec(capacity + 1),
            len: 1,
            work: Work::None,
            again_from: usize::MAX,
            gone: 0,
            generation: 0,
            front: Vec::with_capacity(front),
            front_fees_sat: 0,
            front_size_bytes: 0,
            raised: None,
            disturbed_from: usize::MAX,
        }
    }

    /// Positions in use, the coinbase's included, marked ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Positions there are.
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// Transactions in the list, those to be put in front not counted.
    pub fn transactions(&self) -> usize {
        self.index.len()
    }

    /// How often the order was disturbed.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether gaps are being closed or room is being made.
    pub fn is_settled(&self) -> bool {
        self.work == Work::None
    }

    /// Whether transactions are being put in front, so that nothing can be appended.
    pub fn is_raising(&self) -> bool {
        !matches!(self.work, Work::None | Work::Closing { .. })
    }

    /// Positions from 0 that are in order and free of marks.
    pub fn clean(&self) -> usize {
        match self.work {
            Work::None => self.len,
            Work::Closing { write, .. } => write.min(self.again_from),
            Work::Sifting { .. } | Work::Raising { .. } | Work::Filling { .. } => 1,
        }
    }

    /// The tree over the clean prefix.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The right edge of the first `leaves` of the clean prefix.
    pub fn edge(&mut self, leaves: usize) -> Edge {
        assert!(leaves <= self.clean(), "{leaves} leaves of {} clean ones", self.clean());
        self.tree.edge(leaves)
    }

    /// Hashes at most about `nodes` nodes of what the clean prefix has become.
    pub fn hash(&mut self, nodes: usize) -> usize {
        let clean = self.clean();
        self.tree.advance(clean, nodes)
    }

    /// The transaction at a clean position.
    #[inline]
    pub fn leaf(&self, at: usize) -> &Leaf {
        &self.places[at].leaf
    }

    /// Fees and sizes of the first `leaves` positions together.
    pub fn sums(&self, leaves: usize) -> (u64, u64) {
        let place = &self.places[leaves - 1];
        (place.fees_sat, place.size_bytes)
    }

    /// The position of `txid` (clean or not).
    pub fn find(&self, txid: &TxId) -> Option<usize> {
        self.index.get(&txid.0, |at| self.tree.leaf(at))
    }

    /// Where the order was disturbed since the last call, at the lowest.
    pub fn take_disturbed(&mut self) -> Option<usize> {
        let at = std::mem::replace(&mut self.disturbed_from, usize::MAX);
        (at != usize::MAX).then_some(at)
    }

    /// Appends a transaction; false if it is in the list already.
    #[inline]
    pub fn append(&mut self, txid: &TxId, leaf: Leaf) -> bool {
        assert!(!self.is_raising() && self.len < self.places.len(), "no place to append at");
        let at = self.len;
        let Self { tree, index, places, .. } = self;
        if !index.insert(&txid.0, at, |at| tree.leaf(at)) {
            return false;
        }
        tree.set_leaf(at, txid.0);
        let before = &places[at - 1];
        places[at] = Place {
            leaf,
            fees_sat: before.fees_sat + leaf.fee_sat,
            size_bytes: before.size_bytes + leaf.size_bytes,
            gone: false,
        };
        self.len += 1;
        true
    }

    /// Marks the transaction at `at` as gone.
    pub fn mark(&mut self, at: usize) {
        assert!(at >= 1 && !self.places[at].gone && !self.is_raising(), "no transaction at {at}");
        let txid = *self.tree.leaf(at);
        self.index.remove(&txid, at);
        self.places[at].gone = true;
        self.gone += 1;
        self.generation += 1;
        match self.work {
            Work::None => self.work = Work::Closing { read: at, write: at },
            Work::Closing { read, write } if read == write && at < write => {
                self.work = Work::Closing { read: at, write: at };
            }
            Work::Closing { write, .. } if at < write => {
                self.again_from = self.again_from.min(at);
            }
            _ => {}
        }
        self.disturb(self.clean());
    }

    fn disturb(&mut self, at: usize) {
        self.tree.cut(at);
        self.disturbed_from = self.disturbed_from.min(at);
    }

    /// Takes down a transaction to be put in front by the next [`List::raise`], behind those taken down before; false when
    /// there is no room.
    pub fn take_down(&mut self, item: &Restored) -> bool {
        if self.front.len() == self.front.capacity() {
            return false;
        }
        let leaf = Leaf {
            fee_sat: item.fee_sat,
            size_bytes: item.size_bytes,
            publish_seq: item.publish_seq,
            epoch: Epoch::default(),
            shard: item.shard,
        };
        self.front.push((item.txid, leaf));
        true
    }

    /// Forgets what was taken down.
    pub fn drop_taken_down(&mut self) {
        self.front.clear();
    }

    /// Begins to put what was taken down in front. What is in the list already stays where it is and is not put in front.
    /// False if there is no room: then what was taken down is forgotten.
    pub fn raise(&mut self) -> bool {
        assert!(self.is_settled(), "room is made in front of a settled list");
        if self.len + self.front.len() > self.places.len() {
            self.front.clear();
            return false;
        }
        self.generation += 1;
        self.disturb(1);
        self.front_fees_sat = 0;
        self.front_size_bytes = 0;
        self.work = Work::Sifting { read: 0, write: 0 };
        true
    }

    /// Once after a raise is finished: how many were put in front, and how many were in the list already.
    pub fn take_raised(&mut self) -> Option<(u64, u64)> {
        self.raised.take()
    }

    /// Goes on with unfinished work, at most `leaves` of them; gives how many were handled.
    pub fn settle(&mut self, leaves: usize) -> usize {
        match self.work {
            Work::None => 0,
            Work::Closing { read, write } => self.close(read, write, leaves),
            Work::Sifting { read, write } => self.sift(read, write, leaves),
            Work::Raising { next } => self.lift(next, leaves),
            Work::Filling { at } => self.fill(at, leaves),
        }
    }

    fn close(&mut self, mut read: usize, mut write: usize, leaves: usize) -> usize {
        let end = self.len.min(read + leaves);
        let handled = end - read;
        while read < end {
            let mut place = self.places[read];
            if place.gone {
                self.gone -= 1;
                read += 1;
                continue;
            }
            if read != write {
                let txid = *self.tree.leaf(read);
                self.index.moved(&txid, read, write);
                self.tree.set_leaf(write, txid);
                let before = &self.places[write - 1];
                place.fees_sat = before.fees_sat + place.leaf.fee_sat;
                place.size_bytes = before.size_bytes + place.leaf.size_bytes;
                self.places[write] = place;
            }
            read += 1;
            write += 1;
        }
        self.work = Work::Closing { read, write };
        if read == self.len {
            self.len = write;
            self.work = Work::None;
            if self.gone > 0 {
                let again = std::mem::replace(&mut self.again_from, usize::MAX);
                assert!(again < write, "{} marks, none of them in the list", self.gone);
                self.work = Work::Closing { read: again, write: again };
            }
        }
        handled
    }

    fn sift(&mut self, read: usize, mut write: usize, leaves: usize) -> usize {
        let end = self.front.len().min(read + leaves);
        for i in read..end {
            let (txid, leaf) = self.front[i];
            if self.find(&txid).is_none() {
                self.front[write] = (txid, leaf);
                self.front_fees_sat += leaf.fee_sat;
                self.front_size_bytes += leaf.size_bytes;
                write += 1;
            }
        }
        self.work = Work::Sifting { read: end, write };
        if end == self.front.len() {
            self.raised = Some((write as u64, (end - write) as u64));
            self.front.truncate(write);
            self.work = if write == 0 { Work::None } else { Work::Raising { next: self.len - 1 } };
        }
        end - read + 1
    }

    fn lift(&mut self, mut next: usize, leaves: usize) -> usize {
        let by = self.front.len();
        let mut handled = 0;
        while next >= 1 && handled < leaves {
            let txid = *self.tree.leaf(next);
            self.index.moved(&txid, next, next + by);
            self.tree.set_leaf(next + by, txid);
            let mut place = self.places[next];
            place.fees_sat += self.front_fees_sat;
            place.size_bytes += self.front_size_bytes;
            self.places[next + by] = place;
            next -= 1;
            handled += 1;
        }
        self.work = if next == 0 { Work::Filling { at: 0 } } else { Work::Raising { next } };
        handled + 1
    }

    fn fill(&mut self, from: usize, leaves: usize) -> usize {
        let Self { front, index, tree, places, .. } = self;
        let end = front.len().min(from + leaves);
        for (i, (txid, leaf)) in front[from..end].iter().enumerate() {
            let at = from + i + 1;
            let before = places[at - 1];
            tree.set_leaf(at, txid.0);
            let is_new = index.insert(&txid.0, at, |at| tree.leaf(at));
            assert!(is_new, "a disconnected block names {txid} twice");
            places[at] = Place {
                leaf: *leaf,
                fees_sat: before.fees_sat + leaf.fee_sat,
                size_bytes: before.size_bytes + leaf.size_bytes,
                gone: false,
            };
        }
        self.work = Work::Filling { at: end };
        if end == self.front.len() {
            self.len += end;
            self.front.clear();
            self.work = Work::None;
        }
        end - from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::tree::{COINBASE_PLACEHOLDER, LEVELS_MAX, root_from_branch};
    use proptest::prelude::*;

    fn txid(n: u32) -> TxId {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        TxId(bytes)
    }

    fn leaf(n: u32) -> Leaf {
        Leaf { fee_sat: u64::from(n) + 1, size_bytes: 200 + u64::from(n % 7), ..Leaf::default() }
    }

    /// The clean prefix is the beginning of `expected`, with its sums and its flat root.
    fn assert_clean_prefix(list: &mut List, expected: &[u32]) {
        let clean = list.clean();
        assert!(clean <= expected.len() + 1, "{clean} clean of {}", expected.len() + 1);
        let mut fees = 0;
        for (i, n) in expected[..clean - 1].iter().enumerate() {
            assert_eq!(*list.tree().leaf(i + 1), txid(*n).0, "position {}", i + 1);
            assert_eq!(list.find(&txid(*n)), Some(i + 1));
            fees += leaf(*n).fee_sat;
            assert_eq!(list.sums(i + 2).0, fees);
        }
        let edge = list.edge(clean);
        let mut branch = [[0; 32]; LEVELS_MAX];
        let levels = list.tree().branch(&edge, &mut branch);
        let mut leaves = vec![COINBASE_PLACEHOLDER];
        leaves.extend(expected[..clean - 1].iter().map(|n| txid(*n).0));
        assert_eq!(
            root_from_branch(list.tree().hasher(), &COINBASE_PLACEHOLDER, &branch[..levels]),
            consensus::merkle::merkle_root(leaves.iter()).root.0
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(u8),
        Mark(Vec<u16>),
        Settle(u8),
        Hash(u8),
        Raise(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u8..60).prop_map(Step::Append),
            2 => prop::collection::vec(any::<u16>(), 1..20).prop_map(Step::Mark),
            4 => (1u8..40).prop_map(Step::Settle),
            2 => (1u8..40).prop_map(Step::Hash),
            1 => (0u8..30).prop_map(Step::Raise),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn whatever_comes_and_goes_the_clean_prefix_is_the_list_in_order(
            steps in prop::collection::vec(step(), 1..60),
        ) {
            let mut list = List::with_capacity(6_000, 64, (3, 4), Hasher::new());
            let mut model: Vec<u32> = Vec::new();
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Append(count) => for _ in 0..count {
                        if list.is_raising() { break; }
                        prop_assert!(list.append(&txid(next), leaf(next)));
                        prop_assert!(!list.append(&txid(next), leaf(next)));
                        model.push(next);
                        next += 1;
                    },
                    Step::Mark(picks) => for pick in picks {
                        if model.is_empty() || list.is_raising() { break; }
                        let n = model.remove(usize::from(pick) % model.len());
                        let at = list.find(&txid(n)).expect("it is in the list");
                        list.mark(at);
                        prop_assert_eq!(list.find(&txid(n)), None);
                    },
                    Step::Settle(count) => { list.settle(usize::from(count)); }
                    Step::Hash(count) => { list.hash(usize::from(count)); }
                    Step::Raise(count) => if list.is_settled() {
                        let old = model.first().copied();
                        let mut new: Vec<u32> = (next..next + u32::from(count)).collect();
                        next += u32::from(count);
                        for n in new.iter().copied().chain(old) {
                            let l = leaf(n);
                            let item = Restored {
                                txid: txid(n),
                                fee_sat: l.fee_sat,
                                size_bytes: l.size_bytes,
                                shard: 0,
                                publish_seq: 0,
                            };
                            prop_assert!(list.take_down(&item));
                        }
                        prop_assert!(list.raise());
                        new.append(&mut model);
                        model = new;
                    },
                }
                assert_clean_prefix(&mut list, &model);
            }
            while list.settle(50) > 0 {}
            prop_assert!(list.is_settled());
            prop_assert_eq!(list.clean(), model.len() + 1);
            prop_assert_eq!(list.transactions(), model.len());
            assert_clean_prefix(&mut list, &model);
        }
    }
}
