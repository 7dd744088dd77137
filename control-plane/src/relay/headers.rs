//! What the chain says about headers, for the gate of the relay: is the parent known, how much work must there be?
//!
//! In: questions of the tile `bfr`, a few for each block. Out: answers from the chain's tree, under a lock that is held for a look. The
//! relay starts before the chain is opened; until then no parent is known.
//!
//! A header that passed is in the tree a moment later, when the chain thread has judged it. Until then its children pass with its own
//! target: blocks that follow each other fast arrive that way, and targets of neighbours hardly differ. What a block really must
//! show is the chain's to say; this only keeps memory from those who have done no work.

use crate::chain::Chain;
use consensus::hash::BlockHash;
use consensus::header::Header;
use consensus::params::ChainParams;
use relay::HeaderView;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

/// Headers that passed and may not be in the tree yet.
const PASSED_MAX: usize = 1_024;

/// The chain, once there is one.
pub type ChainCell = Arc<OnceLock<Chain>>;

/// The view.
#[derive(Debug)]
pub struct ChainHeaders {
    chain: ChainCell,
    params: Arc<ChainParams>,
    passed: HashMap<BlockHash, u32>,
    order: VecDeque<BlockHash>,
}

impl ChainHeaders {
    /// A view of the chain that `chain` will hold.
    pub fn new(chain: ChainCell, params: Arc<ChainParams>) -> Self {
        Self { chain, params, passed: HashMap::new(), order: VecDeque::new() }
    }

    fn bits(&self, parent: &[u8; 32], time_s: u32) -> Option<u32> {
        let parent = BlockHash(*parent);
        let chain = self.chain.get()?;
        let of_tree = chain.required_bits(&self.params, &parent, time_s);
        of_tree.or_else(|| self.passed.get(&parent).copied())
    }
}

impl HeaderView for ChainHeaders {
    fn parent_known(&self, hash: &[u8; 32]) -> bool {
        self.bits(hash, 0).is_some()
    }

    fn required_bits(&self, parent: &[u8; 32], time_s: u32) -> Option<u32> {
        self.bits(parent, time_s)
    }

    fn accepted(&mut self, header: &[u8; 80]) {
        let header = Header::from_bytes(header);
        let hash = header.hash();
        if self.passed.insert(hash, header.n_bits).is_some() {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > PASSED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.passed.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::tests::bed::{Bed, params};

    #[test]
    fn without_a_chain_nothing_is_known_and_with_one_its_headers_and_their_new_children_are() {
        let cell = ChainCell::default();
        let params = Arc::new(params());
        let mut view = ChainHeaders::new(cell.clone(), params.clone());
        let genesis = params.genesis_header;
        assert!(!view.parent_known(&genesis.hash().0));
        let folder = tempfile::tempdir().expect("a folder");
        let bed = Bed::open(folder.path()).expect("a chain");
        cell.set(bed.chain.clone()).expect("the first");
        assert!(view.parent_known(&genesis.hash().0));
        let easiest = params.pow_limit_bits;
        assert_eq!(view.required_bits(&genesis.hash().0, 1), Some(easiest));

        let child = Header { prev: genesis.hash(), n_bits: easiest, ..genesis };
        let on_child = child.hash().0;
        assert_eq!((view.parent_known(&on_child), view.required_bits(&on_child, 1)), (false, None));
        view.accepted(&child.to_bytes());
        view.accepted(&child.to_bytes());
        assert_eq!(view.required_bits(&on_child, 1), Some(easiest));
        for nonce in 0..PASSED_MAX as u32 {
            view.accepted(&Header { nonce, prev: BlockHash([1; 32]), ..genesis }.to_bytes());
        }
        assert!(!view.parent_known(&on_child), "the oldest is forgotten");
    }
}
