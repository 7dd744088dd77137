//! A chain over a plain engine in a temporary directory, and a maker of blocks.

use super::plain::Plain;
use crate::chain::answers::BlockOutcome;
use crate::chain::thread::ChainThread;
use crate::chain::{Chain, ChainError, ChainOptions, open};
use crate::mine;
use crate::service::{NodeClock, Stop};
use crate::store::Pool;
use consensus::block::write_block;
use consensus::hash::{BlockHash, TxId};
use consensus::header::{Header, check_header_work};
use consensus::merkle::merkle_root;
use consensus::params::{ChainParams, Network};
use consensus::tx::{OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxOut};
use std::path::Path;
use std::sync::Arc;

/// Anyone may spend it.
const OP_TRUE: u8 = 0x51;
/// Blocks until a coinbase of the tests may be spent.
pub(crate) const MATURITY: u32 = 2;

/// A block of a test.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) raw: Vec<u8>,
    pub(crate) header: Header,
    pub(crate) hash: BlockHash,
    pub(crate) height: u32,
    pub(crate) coinbase: TxId,
}

/// What a block is to be like; the default is a right one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Like {
    pub(crate) txs: Vec<Tx>,
    pub(crate) fees_sat: u64,
    /// Makes blocks with equal contents differ.
    pub(crate) salt: u64,
    /// Paid to the coinbase above what there is.
    pub(crate) too_much_sat: u64,
    pub(crate) change: Option<fn(&mut Header)>,
}

pub(crate) fn params() -> ChainParams {
    ChainParams::of(Network::Regtest)
}

pub(crate) fn genesis() -> Made {
    let raw = params().genesis_block();
    let header = params().genesis_header;
    Made { hash: header.hash(), raw, header, height: 0, coinbase: TxId::ZERO }
}

/// A solved block on `parent`.
pub(crate) fn block(parent: &Made, like: &Like) -> Made {
    let height = parent.height + 1;
    let reward_sat = params().subsidy_sat(height) + like.fees_sat + like.too_much_sat;
    let tag = like.salt.to_le_bytes();
    let coinbase = mine::coinbase(height, reward_sat, vec![OP_TRUE], &tag);
    let txs: Vec<Tx> = std::iter::once(coinbase).chain(like.txs.iter().cloned()).collect();
    let txids: Vec<TxId> = txs.iter().map(Tx::txid).collect();
    let mut header = Header {
        version: 0x2000_0000,
        prev: parent.hash,
        merkle_root: merkle_root(txids.iter().map(|t| &t.0)).root,
        time_s: parent.header.time_s + 1,
        n_bits: params().pow_limit_bits,
        nonce: 0,
    };
    if let Some(change) = like.change {
        change(&mut header);
    }
    // Harder targets are left unmet.
    while check_header_work(&header, &params()).is_err() && header.n_bits >> 24 == 0x20 {
        header.nonce += 1;
    }
    let mut raw = Vec::new();
    write_block(&mut raw, &header, txs.iter().map(Tx::to_bytes).collect::<Vec<_>>().iter());
    Made { raw, header, hash: header.hash(), height, coinbase: txids[0] }
}

pub(crate) fn plain_block(parent: &Made, salt: u64) -> Made {
    block(parent, &Like { salt, ..Like::default() })
}

/// `n` blocks on `parent`.
pub(crate) fn branch(parent: &Made, n: usize, salt: u64) -> Vec<Made> {
    let mut blocks = vec![parent.clone()];
    for _ in 0..n {
        blocks.push(plain_block(&blocks[blocks.len() - 1], salt));
    }
    blocks.split_off(1)
}

/// Spends one output to one output, leaving a fee.
pub(crate) fn spend(prev: OutPoint, value_sat: u64, fee_sat: u64) -> Tx {
    Tx {
        version: 1,
        inputs: vec![TxIn { prev, unlocking_script: vec![], sequence: SEQUENCE_FINAL, coin: None }],
        outputs: vec![TxOut {
            value_sat: (value_sat - fee_sat) as i64,
            locking_script: vec![OP_TRUE],
        }],
        lock_time: 0,
    }
}

pub(crate) fn first_output(txid: TxId) -> OutPoint {
    OutPoint { txid, vout: 0 }
}

/// A chain in a directory.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) thread: ChainThread<Plain>,
    pub(crate) chain: Chain,
    pub(crate) pool: Pool,
    pub(crate) clock: NodeClock,
    pub(crate) stop: Stop,
}

impl Bed {
    /// Opens the directory and rebuilds the coins.
    pub(crate) fn open(directory: &Path) -> Result<Self, ChainError> {
        let (clock, stop) = (NodeClock::new(), Stop::new());
        let pool = Pool::create(directory, clock.clone()).expect("a new pool");
        let engine = Plain::new(params(), MATURITY, Some(pool.clone()));
        let options = ChainOptions {
            directory: directory.to_owned(),
            params: Arc::new(params()),
            clock: clock.clone(),
            stop: stop.clone(),
            pool: pool.clone(),
            block_bytes_max: 0,
        };
        let (chain, mut thread) = open(options, engine)?;
        thread.rebuild()?;
        Ok(Self { thread, chain, pool, clock, stop })
    }

    pub(crate) fn submit(&mut self, block: &Made) -> BlockOutcome {
        self.thread.state.submit_block(&block.raw).expect("the machine works")
    }

    /// What `submitblock` would say.
    pub(crate) fn text(&mut self, block: &Made) -> String {
        self.submit(block).submit_text().unwrap_or("null").to_owned()
    }

    pub(crate) fn submit_all(&mut self, blocks: &[Made]) {
        for block in blocks {
            let outcome = self.submit(block);
            let kept = matches!(outcome, BlockOutcome::Connected | BlockOutcome::Stored);
            assert!(kept, "block {} at {}: {outcome:?}", block.hash, block.height);
        }
    }

    pub(crate) fn tip(&self) -> BlockHash {
        self.chain.tip().hash
    }

    pub(crate) fn engine(&mut self) -> &mut Plain {
        &mut self.thread.state.engine
    }

    /// The pool in the engine's order.
    pub(crate) fn pooled(&mut self) -> Vec<TxId> {
        self.engine().pooled.iter().map(|(txid, _)| *txid).collect()
    }

    /// Engine and view of the pool hold the same.
    pub(crate) fn check_pool(&mut self) {
        let mut engine = self.pooled();
        let mut view = self.pool.txids();
        engine.sort();
        view.sort();
        assert_eq!(engine, view, "the pool's view holds what the engine's pool holds");
    }
}
