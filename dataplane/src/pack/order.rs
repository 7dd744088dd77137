//! Parents before children, without clocks and without sorting.
//!
//! In: the frags of each shard's link, in that link's order. Out: the same frags, each only once every parent it names is out.
//! A frag names, per shard, the publish sequence its parents have reached. If another shard's link is not drained so far, the
//! frag is held, its own link rests, and that other link goes on.
//!
//! Why it cannot get stuck: a shard assigns a publish sequence in the turn that commits, and a child commits after its
//! parents. So of all frags not yet out, the one that was committed first waits for nothing and stands at the head of its link
//! (or is the one held there); it comes out, and so on. At most one frag a shard is held, so memory is bounded.
//!
//! Cost: one comparison a parent; a held frag is looked at again only when the link it waits for moves.

use crate::msg::accepted::{Accepted, AcceptedKind, ParentSeq};
use crate::msg::{Epoch, Records};
use consensus::hash::TxId;

/// A frag in the right order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// Pool, block or evicted.
    pub kind: AcceptedKind,
    /// The publishing shard.
    pub shard: u16,
    /// Its publish sequence there.
    pub publish_seq: u64,
    /// The block of kinds `Block` and `Evicted`.
    pub block: u32,
    /// Epoch of the decision.
    pub epoch: Epoch,
    /// Fee, satoshi.
    pub fee_sat: u64,
    /// Raw size.
    pub size_bytes: u64,
    /// The transaction.
    pub txid: TxId,
}

#[derive(Debug)]
struct Held {
    frag: Ordered,
    /// The first parent that is not out yet; sequence 0 when nothing is held.
    waits_for: ParentSeq,
    /// The parents after it.
    parents: Vec<ParentSeq>,
}

/// The order; see the module.
#[derive(Debug)]
pub struct Order {
    drained: Vec<u64>,
    held: Vec<Held>,
    held_now: usize,
}

impl Order {
    /// For this many shards, nothing drained yet.
    pub fn new(shards: u16) -> Self {
        let nobody = ParentSeq { shard: 0, seq: 0 };
        let frag = Ordered {
            kind: AcceptedKind::Pool,
            shard: 0,
            publish_seq: 0,
            block: 0,
            epoch: Epoch::default(),
            fee_sat: 0,
            size_bytes: 0,
            txid: TxId([0; 32]),
        };
        let held =
            || Held { frag, waits_for: nobody, parents: Vec::with_capacity(usize::from(shards)) };
        Self {
            drained: vec![0; usize::from(shards)],
            held: (0..shards).map(|_| held()).collect(),
            held_now: 0,
        }
    }

    /// Publications go on from there.
    pub fn begin_at(&mut self, drained: &[ParentSeq]) {
        assert!(self.held_now == 0, "nothing is held at the beginning");
        for at in drained {
            self.drained[usize::from(at.shard)] = at.seq;
        }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.drained.len()
    }

    /// Up to where this shard's frags are out.
    pub fn drained(&self, shard: u16) -> u64 {
        self.drained[usize::from(shard)]
    }

    /// Whether this shard's link rests because its last frag is held.
    #[inline]
    pub fn is_held(&self, shard: u16) -> bool {
        self.held[usize::from(shard)].waits_for.seq != 0
    }

    /// Frags held now; at most one a shard.
    pub fn held(&self) -> usize {
        self.held_now
    }

    /// Whether every link is drained so far.
    pub fn has_reached(&self, targets: &Records<'_, ParentSeq>) -> bool {
        targets.iter().all(|t| self.drained(t.shard) >= t.seq)
    }

    /// Takes the next frag of a link that does not rest; calls `out` for it and for every held one it sets free, in order.
    /// False if it is held.
    pub fn take(&mut self, frag: &Accepted<'_>, mut out: impl FnMut(&Ordered)) -> bool {
        let shard = usize::from(frag.shard);
        assert!(!self.is_held(frag.shard), "the link of shard {shard} rests");
        assert_eq!(
            frag.publish_seq,
            self.drained[shard] + 1,
            "a frag of shard {shard} was lost or repeated"
        );
        let ordered = Ordered {
            kind: frag.kind,
            shard: frag.shard,
            publish_seq: frag.publish_seq,
            block: frag.block,
            epoch: frag.epoch,
            fee_sat: frag.fee_sat,
            size_bytes: frag.tx.len() as u64,
            txid: frag.txid,
        };
        let mut missing = frag.parents.iter().filter(|parent| {
            assert!(
                parent.shard != frag.shard || parent.seq < frag.publish_seq,
                "transaction {} of shard {shard} names itself or a later one as its parent",
                frag.txid
            );
            self.drained[usize::from(parent.shard)] < parent.seq
        });
        if let Some(first) = missing.next() {
            let held = &mut self.held[shard];
            held.frag = ordered;
            held.waits_for = first;
            held.parents.clear();
            for parent in missing {
                assert!(held.parents.len() < held.parents.capacity(), "one parent entry a shard");
                held.parents.push(parent);
            }
            self.held_now += 1;
            return false;
        }
        self.drained[shard] = frag.publish_seq;
        out(&ordered);
        if self.held_now > 0 {
            self.set_free(out);
        }
        true
    }

    /// Lets held frags out until none can go.
    fn set_free(&mut self, mut out: impl FnMut(&Ordered)) {
        let mut moved = true;
        while moved && self.held_now > 0 {
            moved = false;
            for shard in 0..self.held.len() {
                let Self { drained, held, .. } = self;
                let held = &mut held[shard];
                let reached = |p: &ParentSeq| drained[usize::from(p.shard)] >= p.seq;
                if held.waits_for.seq == 0 || !reached(&held.waits_for) {
                    continue;
                }
                while held.parents.last().is_some_and(reached) {
                    held.parents.pop();
                }
                if let Some(next) = held.parents.pop() {
                    held.waits_for = next;
                    continue;
                }
                held.waits_for.seq = 0;
                self.held_now -= 1;
                self.drained[shard] = held.frag.publish_seq;
                out(&self.held[shard].frag);
                moved = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::request::List;
    use proptest::prelude::*;

    fn txid(n: usize) -> TxId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
        TxId(bytes)
    }

    /// A transaction of a random graph: its shard, its number there, its parents' numbers.
    struct Tx {
        shard: u16,
        seq: u64,
        parents: Vec<usize>,
        names: Vec<ParentSeq>,
    }

    /// Commits transactions in one order of time; each names up to four earlier ones, near or far.
    fn graph(shards: u16, rows: &[(u16, Vec<u16>)]) -> Vec<Tx> {
        let mut seqs = vec![0; usize::from(shards)];
        let mut txs: Vec<Tx> = Vec::new();
        for (shard, picks) in rows {
            let shard = shard % shards;
            seqs[usize::from(shard)] += 1;
            let mut parents: Vec<usize> = picks
                .iter()
                .filter(|_| !txs.is_empty())
                .map(|p| txs.len() - 1 - usize::from(*p) % txs.len())
                .collect();
            parents.sort_unstable();
            let mut reached = vec![0; usize::from(shards)];
            for parent in &parents {
                let parent = &txs[*parent];
                let r = &mut reached[usize::from(parent.shard)];
                *r = parent.seq.max(*r);
            }
            let names = reached
                .iter()
                .enumerate()
                .filter(|(_, seq)| **seq > 0)
                .map(|(shard, seq)| ParentSeq { shard: shard as u16, seq: *seq })
                .collect();
            txs.push(Tx { shard, seq: seqs[usize::from(shard)], parents, names });
        }
        txs
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn every_transaction_comes_out_once_and_after_its_parents_whatever_arrives_first(
            shards in 1u16..9,
            rows in prop::collection::vec((any::<u16>(), prop::collection::vec(0u16..400, 0..5)), 1..400),
            arrivals in prop::collection::vec((any::<u16>(), 1usize..20), 1..200),
        ) {
            let txs = graph(shards, &rows);
            let mut links: Vec<Vec<usize>> = vec![Vec::new(); usize::from(shards)];
            for (n, tx) in txs.iter().enumerate() {
                links[usize::from(tx.shard)].push(n);
            }
            let mut next = vec![0; links.len()];
            let mut order = Order::new(shards);
            let mut place = vec![None; txs.len()];
            let mut count = 0;
            let mut turns = 0;
            let mut arrivals = arrivals.iter().cycle();
            while count < txs.len() {
                let (link, burst) = arrivals.next().expect("endless");
                // Every so often all links are visited, as a stem does each turn.
                let visit: Vec<usize> = if turns % 7 == 6 {
                    (0..links.len()).collect()
                } else {
                    vec![usize::from(*link) % links.len()]
                };
                turns += 1;
                prop_assert!(turns < 40_000, "stuck with {} of {} out", count, txs.len());
                for link in visit {
                    for _ in 0..*burst {
                        if order.is_held(link as u16) { break; }
                        let Some(n) = links[link].get(next[link]) else { break };
                        next[link] += 1;
                        let tx = &txs[*n];
                        let frag = Accepted {
                            kind: AcceptedKind::Pool,
                            shard: tx.shard,
                            block: 0,
                            publish_seq: tx.seq,
                            epoch: Epoch::default(),
                            fee_sat: 0,
                            txid: txid(*n),
                            parents: List::Own(&tx.names),
                            tx: &[],
                        };
                        order.take(&frag, |out| {
                            let n = u64::from_le_bytes(out.txid.0[..8].try_into().expect("8"));
                            assert!(place[n as usize].replace(count).is_none(), "twice");
                            count += 1;
                        });
                    }
                }
            }
            prop_assert_eq!(order.held(), 0);
            for (n, tx) in txs.iter().enumerate() {
                for parent in &tx.parents {
                    prop_assert!(place[*parent] < place[n], "{} before its parent {}", n, parent);
                }
            }
            for shard in 0..shards {
                prop_assert_eq!(order.drained(shard), links[usize::from(shard)].len() as u64);
            }
        }
    }

    #[test]
    #[should_panic(expected = "lost or repeated")]
    fn a_gap_in_a_link_is_a_violation() {
        let frag = Accepted {
            kind: AcceptedKind::Pool,
            shard: 0,
            block: 0,
            publish_seq: 2,
            epoch: Epoch::default(),
            fee_sat: 0,
            txid: txid(1),
            parents: List::Own(&[]),
            tx: &[],
        };
        Order::new(1).take(&frag, |_| {});
    }
}
