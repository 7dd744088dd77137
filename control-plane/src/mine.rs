//! From a candidate to a block: the coinbase, the nonce, the bytes.
//!
//! Everything here is slow and plain on purpose: it runs once a block.

use consensus::hash::{BlockHash, MerkleHash};
use consensus::header::{Header, MEDIAN_TIME_BLOCKS, median_time_past};
use consensus::params::ChainParams;
use consensus::pow::hash_meets_bits;
use consensus::tx::{OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};
use dataplane::msg::Context;

/// The end of the chain, as far as building the next block needs it.
#[derive(Clone, Debug)]
pub struct Tip {
    /// Its height.
    pub height: u32,
    /// Its name.
    pub hash: BlockHash,
    /// Times of the last blocks, oldest first.
    times_s: Vec<u32>,
}

impl Tip {
    /// The genesis block of `params`.
    pub fn genesis(params: &ChainParams) -> Self {
        let block = params.genesis_block();
        let header =
            Header::from_bytes(block.first_chunk().expect("a block starts with its header"));
        Self { height: 0, hash: header.hash(), times_s: vec![header.time_s] }
    }

    /// Median time past of the tip, seconds: what the next block's time must exceed.
    pub fn median_time_past(&self) -> u32 {
        median_time_past(&self.times_s)
    }

    /// One block further.
    pub fn advance(&mut self, header: &Header) {
        assert!(
            header.prev == self.hash,
            "block {} does not follow the tip {}",
            header.hash(),
            self.hash
        );
        self.height += 1;
        self.hash = header.hash();
        if self.times_s.len() == MEDIAN_TIME_BLOCKS {
            self.times_s.remove(0);
        }
        self.times_s.push(header.time_s);
    }

    /// What the pool is judged against while this is the tip.
    pub fn pool_context(&self, params: &ChainParams) -> Context {
        Context {
            block: 0,
            height: self.height + 1,
            median_time_past: self.median_time_past(),
            rule_set: params.flags_for_block(self.height + 1),
        }
    }
}

/// A coinbase for `height` that pays `value_sat` to `locking_script`.
///
/// Its script starts with the push of the height (BIP34), also where no rule asks for it, so that no two coinbases are alike.
/// `tag` follows it, so that two coinbases of one height differ where somebody wants that.
pub fn coinbase(height: u32, value_sat: u64, locking_script: Vec<u8>, tag: &[u8]) -> Tx {
    let (push, len) = consensus::rules::coinbase_height_script(height);
    let mut script = push[..len].to_vec();
    script.extend_from_slice(b"\x08metanode");
    if !tag.is_empty() {
        script.push(tag.len() as u8);
        script.extend_from_slice(tag);
    }
    Tx {
        version: 1,
        inputs: vec![TxIn {
            prev: OutPoint::NULL,
            unlocking_script: script,
            sequence: SEQUENCE_FINAL,
            coin: None,
        }],
        outputs: vec![TxOut { value_sat: value_sat as i64, locking_script }],
        lock_time: 0,
    }
}

/// A solved header on top of `tip`. On regtest two tries are enough on average.
///
/// The time is one second past the median, so that a seed gives the same blocks whenever it is run.
pub fn solve(params: &ChainParams, tip: &Tip, merkle_root: MerkleHash) -> Header {
    // Regtest never changes its bits; no other network is mined here.
    let n_bits = params.genesis_header.n_bits;
    let mut header = Header {
        version: 0x2000_0000,
        prev: tip.hash,
        merkle_root,
        time_s: tip.times_s.last().copied().unwrap_or_default().max(tip.median_time_past() + 1) + 1,
        n_bits,
        nonce: 0,
    };
    while !hash_meets_bits(&header.hash(), n_bits, params.pow_limit()) {
        header.nonce = header.nonce.wrapping_add(1);
        if header.nonce == 0 {
            header.time_s += 1;
        }
    }
    header
}
