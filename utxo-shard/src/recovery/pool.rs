//! The pool after recovery: what is in no block, parents before children.
//!
//! In: the unmined transactions of every shard, and the decisions that the journals have of them. Out: one list in which no transaction
//! stands before its parent; of those whose parents have gone before, the one decided first comes first. Numbers of decisions nearly always
//! have that order already, so the list is walked by them, and only a transaction that would come too early waits in a heap.

use super::replay::inputs_of;
use super::{Unmined, side_by_side};
use consensus::hash::TxId;
use dataplane::msg::{Context, ParentSeq};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// A decision that was in no block when it was read.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// What it was judged against.
    pub context: Context,
    pub publish_seq: u64,
    pub txid: TxId,
    pub fee_sat: u64,
    pub parents: Vec<ParentSeq>,
    pub raw: Vec<u8>,
}

/// The unmined transactions of one shard: their places among its publications, ascending, and ids.
pub(super) type Places = Vec<(u64, TxId)>;

/// See the module. A transaction without a decision has no bytes in any journal.
pub(super) fn list(pool: &[Places], kept: Vec<Vec<Kept>>, threads: bool) -> Vec<Unmined> {
    let lanes = (0_u16..).zip(pool);
    let mut all: Vec<(u64, u16, TxId)> = lanes
        .flat_map(|(lane, places)| places.iter().map(move |&(seq, txid)| (seq, lane, txid)))
        .collect();
    // Every shard's are in order: the sort merges them.
    all.sort();
    let mut places = HashMap::with_capacity(all.len());
    places.extend((0_u32..).zip(&all).map(|(place, &(.., txid))| (txid, place)));
    let found = side_by_side(kept, threads, |kept| own_parents(kept, &places));
    let mut decisions: Vec<Option<Kept>> = Vec::new();
    decisions.resize_with(all.len(), || None);
    let mut family = Vec::new();
    for (own, pairs) in found {
        for (place, kept) in own {
            decisions[place as usize] = Some(kept);
        }
        family.extend(pairs);
    }
    let order = parents_first(all.len(), family);
    let unmined = order.into_iter().map(|place| {
        let (publish_seq, shard, txid) = all[place as usize];
        let (fee_sat, parents, raw) = decisions[place as usize]
            .take()
            .map_or_else(Default::default, |kept| (kept.fee_sat, kept.parents, kept.raw));
        Unmined { shard, publish_seq, txid, fee_sat, parents, raw }
    });
    unmined.collect()
}

/// The decisions that are in the pool, by their places in it, and pairs of parent and child.
type Own = (Vec<(u32, Kept)>, Vec<(u32, u32)>);

fn own_parents(mut kept: Vec<Kept>, places: &HashMap<TxId, u32>) -> Own {
    // A decision that was copied forward may stand in the journal twice.
    kept.sort_by_key(|kept| kept.publish_seq);
    kept.dedup_by_key(|kept| kept.publish_seq);
    let (mut own, mut family) = (Vec::with_capacity(kept.len()), Vec::new());
    let mut parents = Vec::new();
    for kept in kept {
        let Some(&child) = places.get(&kept.txid) else { continue };
        parents.clear();
        let inputs = inputs_of(&kept.raw).unwrap_or_default();
        parents.extend(inputs.iter().filter_map(|input| places.get(&input.txid).copied()));
        parents.sort_unstable();
        parents.dedup();
        family.extend(parents.iter().map(|&parent| (parent, child)));
        own.push((child, kept));
    }
    (own, family)
}

/// Numbers below `all`, parents before children, otherwise ascending.
fn parents_first(all: usize, mut family: Vec<(u32, u32)>) -> Vec<u32> {
    family.sort_unstable();
    let mut waits = vec![0_u32; all];
    for &(_, child) in &family {
        waits[child as usize] += 1;
    }
    let mut order = Vec::with_capacity(all);
    // What was passed while it waited, and waits no longer.
    let mut late = BinaryHeap::new();
    let mut next = 0_u32;
    loop {
        let place = match late.pop() {
            Some(Reverse(place)) => place,
            None if next as usize == all => return order,
            None => {
                next += 1;
                if waits[next as usize - 1] > 0 {
                    continue;
                }
                next - 1
            }
        };
        order.push(place);
        let from = family.partition_point(|pair| pair.0 < place);
        for &(_, child) in family[from..].iter().take_while(|pair| pair.0 == place) {
            waits[child as usize] -= 1;
            if waits[child as usize] == 0 && child < next {
                late.push(Reverse(child));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_otherwise_the_order_stays() {
        assert_eq!(parents_first(4, vec![]), [0, 1, 2, 3]);
        assert_eq!(parents_first(4, vec![(0, 3), (1, 2)]), [0, 1, 2, 3]);
        assert_eq!(parents_first(5, vec![(3, 0), (4, 1), (0, 1)]), [2, 3, 0, 4, 1]);
        assert_eq!(parents_first(4, vec![(3, 2), (2, 1), (1, 0)]), [3, 2, 1, 0]);
    }

    #[test]
    fn any_family_is_listed_whole_with_every_parent_before_its_children() {
        let mut rng = dataplane::rng::Rng::new(5);
        for _ in 0..200 {
            let all = 1 + rng.below(40) as u32;
            // Parents by age, ages in any order of places: no circles.
            let mut ages: Vec<u32> = (0..all).collect();
            rng.shuffle(&mut ages);
            let mut family = std::collections::BTreeSet::new();
            for _ in 0..rng.below(80) {
                let (a, b) = (rng.index(all as usize), rng.index(all as usize));
                if a < b {
                    family.insert((ages[a], ages[b]));
                }
            }
            let order = parents_first(all as usize, family.iter().copied().collect());
            let mut at = vec![None; all as usize];
            for (n, &place) in order.iter().enumerate() {
                assert_eq!(at[place as usize].replace(n), None, "{place} twice");
            }
            assert!(at.iter().all(Option::is_some));
            assert!(family.iter().all(|&(p, c)| at[p as usize] < at[c as usize]));
        }
    }
}
