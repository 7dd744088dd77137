//! Lanes: which transactions of an offer may travel side by side.
//!
//! In: an [`Offer`] and how many connections there are. Out: for each connection the places it sends, in order. What hangs
//! together (a child and its parent, a double spend and its rival, a repeat and its first) stays in one lane, so that the
//! order a plan wants is the order a node sees, however many connections there are. Everything else goes round in runs, so
//! that a lane's batch holds neighbours and is complete soon after its first transaction is due.

use crate::offer::{Kind, Offer};
use consensus::hash::TxId;
use consensus::tx::{TxLayout, parse};
use std::collections::HashMap;

/// Places of an offer, split by lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lanes {
    lanes: Vec<Vec<u32>>,
}

impl Lanes {
    /// Splits `offer` over `lanes`; independent transactions change lanes every `run` of them.
    ///
    /// Cost: one parse and one lookup for each input, about a microsecond a transaction.
    pub fn split(offer: &Offer, lanes: usize, run: usize) -> Self {
        assert!(
            lanes > 0 && run > 0,
            "an offer needs a lane, and a lane takes at least one in a row"
        );
        let mut split = vec![Vec::with_capacity(offer.len() / lanes + run); lanes];
        let mut lane_of: Vec<u32> = Vec::with_capacity(offer.len());
        // The lane of every transaction of the offer, and of every parent that somebody waits for.
        let mut known: HashMap<TxId, u32> = HashMap::with_capacity(offer.len());
        let mut layout = TxLayout::new();
        let mut free = 0;
        for offered in offer.iter() {
            let prevs: Vec<TxId> = match parse(offered.bytes, &mut layout) {
                Ok(view) => view.inputs().map(|input| input.prev.txid).collect(),
                Err(_) => Vec::new(),
            };
            let bound = match offered.kind {
                Kind::DoubleSpend { of } | Kind::Duplicate { of } => {
                    lane_of.get(of as usize).copied()
                }
                _ => None,
            };
            let lane = bound
                .or_else(|| known.get(&offered.txid).copied())
                .or_else(|| prevs.iter().find_map(|txid| known.get(txid).copied()))
                .unwrap_or_else(|| {
                    free += 1;
                    ((free - 1) / run % lanes) as u32
                });
            if matches!(offered.kind, Kind::Orphan | Kind::LostParent) {
                // The parent comes later, if at all.
                prevs.iter().for_each(|txid| {
                    known.entry(*txid).or_insert(lane);
                });
            }
            known.insert(offered.txid, lane);
            lane_of.push(lane);
            split[lane as usize].push(offered.place);
        }
        Self { lanes: split }
    }

    /// Number of lanes.
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Never: there is at least one lane.
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The places of each lane, in sending order.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.lanes.iter().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Inject, Options, Plan, Workload};

    fn offer(workload: Workload, txs: usize, chains: usize, faults: usize) -> Offer {
        let inject = Inject::each(faults);
        let options = Options::new(workload, txs, 11);
        let plan = Plan::new(Options { keys: 64, inject, chains, ..options });
        let reward_sat = 5_000_000_000;
        let coinbases: Vec<_> = (0..plan.coinbases_needed(reward_sat) as u64)
            .map(|i| crate::Coinbase { txid: TxId::of(&i.to_le_bytes()), value_sat: reward_sat })
            .collect();
        plan.sign(&plan.fan_out(&coinbases, reward_sat).coins)
    }

    #[test]
    fn what_hangs_together_stays_in_one_lane_in_the_order_of_the_offer() {
        let offer = offer(Workload::Mixed, 2_000, 1, 8);
        let lanes = Lanes::split(&offer, 5, 10);
        let mut lane_of = vec![usize::MAX; offer.len()];
        for (lane, places) in lanes.iter().enumerate() {
            assert!(places.is_sorted(), "lane {lane} changes the order");
            for place in places {
                assert_eq!(lane_of[*place as usize], usize::MAX, "place {place} is sent twice");
                lane_of[*place as usize] = lane;
            }
        }
        assert!(lane_of.iter().all(|lane| *lane < 5), "every place has a lane");
        let place_of: HashMap<TxId, u32> = offer
            .iter()
            .filter(|o| !matches!(o.kind, Kind::Duplicate { .. } | Kind::Malformed))
            .map(|o| (o.txid, o.place))
            .collect();
        let mut layout = TxLayout::new();
        let mut bonds = 0;
        for o in offer.iter() {
            let lane = lane_of[o.place as usize];
            if let Kind::DoubleSpend { of } | Kind::Duplicate { of } = o.kind {
                assert_eq!(lane, lane_of[of as usize]);
                bonds += 1;
            }
            let Ok(view) = parse(o.bytes, &mut layout) else { continue };
            for input in view.inputs() {
                if let Some(parent) = place_of.get(&input.prev.txid) {
                    assert_eq!(lane, lane_of[*parent as usize], "{:?} left its parent", o.kind);
                    bonds += 1;
                }
            }
        }
        assert!(bonds > 100, "only {bonds} bonds: the workload proves little");
    }

    #[test]
    fn independent_transactions_fill_every_lane_evenly() {
        let offer = offer(Workload::P2pkh, 1_000, 1, 8);
        let lanes = Lanes::split(&offer, 4, 25);
        for places in lanes.iter() {
            assert!((225..=290).contains(&places.len()), "{} places in a lane", places.len());
        }
    }

    #[test]
    fn chains_side_by_side_have_a_lane_each() {
        let offer = offer(Workload::Chain, 300, 3, 0);
        assert!(Lanes::split(&offer, 3, 1).iter().all(|places| places.len() == 100));
    }
}
