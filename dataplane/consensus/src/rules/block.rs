//! What a block must be, its scripts and coins apart.
//!
//! A block's transactions come one by one, as they are parsed, so a block of any size is judged in bounded pieces. SV Node
//! looks at the merkle root first and at transactions later; the checker walks once, remembers what it found, and answers in
//! SV Node's order at the end. Source: SV Node `validation.cpp` `CheckBlock`, `ContextualCheckBlock`, `ConnectBlock`.

use super::context_free::{TxLimits, check_coinbase, check_transaction};
use super::locks::is_final;
use super::reject::{Dos, RejectCode, TxReject};
use super::scan::{self, Ops};
use super::sigops::{block_sigops_max, count_tx_sigops};
use crate::hash::{MerkleHash, TxId};
use crate::merkle::MerkleAccumulator;
use crate::params::{ChainParams, Era};
use crate::tx::TxView;
use crate::wire::compact_size_len;

/// Smallest transaction SV Node can imagine when it bounds their number. Source: SV Node `MIN_TRANSACTION_SIZE`.
const TX_BYTES_MIN: u64 = 10;

/// Why a block is refused. Numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockReject {
    /// The transactions do not give the header's merkle root.
    MerkleRoot = 1,
    /// The merkle tree holds the same node twice: the list of transactions was tampered with.
    DuplicateTransactions = 2,
    /// No transactions, or the first is no coinbase.
    CoinbaseMissing = 3,
    /// Larger than the operator allows.
    Length = 4,
    /// Too many signature operations before Genesis.
    Sigops = 5,
    /// A transaction breaks a rule.
    Transaction {
        /// Its place in the block.
        index: u64,
        /// The rule.
        reject: TxReject,
    } = 6,
    /// The coinbase does not begin with the block's height.
    CoinbaseHeight = 7,
    /// The coinbase pays more than subsidy and fees.
    CoinbaseAmount = 8,
    /// A transaction repeats one whose outputs are unspent.
    Bip30 = 9,
    /// A transaction spends one that stands later in the block. The name is for blocks far below the tip, which are stored and not
    /// connected; on the tip the coin is not there yet: `bad-txns-inputs-missingorspent`.
    Order = 10,
}

impl BlockReject {
    /// SV Node's reject reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::MerkleRoot => "bad-txnmrklroot",
            Self::DuplicateTransactions => "bad-txns-duplicate",
            Self::CoinbaseMissing => "bad-cb-missing",
            Self::Length => "bad-blk-length",
            Self::Sigops => "bad-blk-sigops",
            Self::Transaction { reject, .. } => reject.reason(),
            Self::CoinbaseHeight => "bad-cb-height",
            Self::CoinbaseAmount => "bad-cb-amount",
            Self::Bip30 => "bad-txns-BIP30",
            Self::Order => "bad-blk-ttor",
        }
    }

    /// Ban score for the peer that sent it.
    pub const fn dos(self) -> Dos {
        match self {
            Self::Transaction { reject, .. } => reject.dos(),
            _ => 100,
        }
    }

    /// The code of the `reject` message.
    pub const fn code(self) -> RejectCode {
        match self {
            Self::Transaction { reject, .. } => reject.code(),
            _ => RejectCode::Invalid,
        }
    }

    /// True if other transactions may fit the same header: then the header must not be remembered as invalid.
    pub const fn is_corruption_possible(self) -> bool {
        matches!(self, Self::MerkleRoot | Self::DuplicateTransactions)
    }
}

/// What a walk over a block found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSummary {
    /// Bytes of the block on the wire.
    pub block_bytes: u64,
    /// Number of transactions.
    pub tx_count: u64,
    /// Root of its transaction ids.
    pub merkle_root: MerkleHash,
    /// Signature operations without P2SH; counted before Genesis only.
    pub sigops: u64,
}

/// Walks over the transactions of one block.
#[derive(Debug, Clone)]
pub struct BlockChecker {
    era: Era,
    height: u32,
    needs_height: bool,
    time_limit_s: u32,
    block_bytes_max: u64,
    limits: TxLimits,
    merkle: MerkleAccumulator,
    tx_bytes: u64,
    sigops: u64,
    /// The first failure of `CheckBlock`.
    failure: Option<Failure>,
    /// The first failure of `ContextualCheckBlock`.
    late_failure: Option<BlockReject>,
}

/// A failure during the walk; sigops are judged at the end, when the block's size is known.
#[derive(Debug, Clone, Copy)]
struct Failure {
    reject: BlockReject,
    sigops_before: u64,
}

impl BlockChecker {
    /// A block at `height`. `time_limit_s` is what lock times are compared with; `block_bytes_max` is the operator's
    /// (`excessiveblocksize`, zero for no limit).
    pub fn new(params: &ChainParams, height: u32, time_limit_s: u32, block_bytes_max: u64) -> Self {
        Self {
            era: params.era(height),
            height,
            needs_height: height >= params.bip34_height,
            time_limit_s,
            block_bytes_max: if block_bytes_max == 0 { u64::MAX } else { block_bytes_max },
            limits: TxLimits::CONSENSUS,
            merkle: MerkleAccumulator::new(),
            tx_bytes: 0,
            sigops: 0,
            failure: None,
            late_failure: None,
        }
    }

    /// Adds the next transaction. A failure is remembered, not returned: the merkle root decides first.
    pub fn add(&mut self, view: TxView<'_>, txid: &TxId) {
        let index = self.merkle.count();
        self.merkle.push(&txid.0);
        self.tx_bytes += view.raw_size();
        if self.failure.is_some() {
            return;
        }
        let checked = if index == 0 {
            check_coinbase(view, self.era, &self.limits)
        } else {
            check_transaction(view, self.era, &self.limits)
        };
        if let Err(reject) = checked {
            let reject = match reject {
                TxReject::CoinbaseMissing => BlockReject::CoinbaseMissing,
                reject => BlockReject::Transaction { index, reject },
            };
            self.failure = Some(Failure { reject, sigops_before: self.sigops });
            return;
        }
        if self.era == Era::PreGenesis {
            self.sigops += count_tx_sigops(view, self.era).unwrap_or(0);
        }
        if self.late_failure.is_none() {
            self.late_failure = self.check_late(view, index);
        }
    }

    /// The rules of `ContextualCheckBlock`, which come after every rule of `CheckBlock`.
    fn check_late(&self, view: TxView<'_>, index: u64) -> Option<BlockReject> {
        if !is_final(view, self.height, self.time_limit_s) {
            return Some(BlockReject::Transaction { index, reject: TxReject::NonFinal });
        }
        None
    }

    /// True if the coinbase's unlocking script may stand at this height (BIP34).
    pub fn has_right_height(&self, coinbase: TxView<'_>) -> bool {
        let (script, len) = coinbase_height_script(self.height);
        !self.needs_height || coinbase.input(0).unlocking_script.starts_with(&script[..len])
    }

    /// What the walk came to, in SV Node's order of rules. `coinbase_height_is_right` is [`Self::has_right_height`].
    pub fn finish(
        &self,
        merkle_root: &MerkleHash,
        coinbase_height_is_right: bool,
    ) -> Result<BlockSummary, BlockReject> {
        let tree = self.merkle.root();
        let tx_count = self.merkle.count();
        if tree.root != *merkle_root {
            return Err(BlockReject::MerkleRoot);
        }
        if tree.is_mutated {
            return Err(BlockReject::DuplicateTransactions);
        }
        if tx_count == 0 {
            return Err(BlockReject::CoinbaseMissing);
        }
        let block_bytes = 80 + compact_size_len(tx_count) as u64 + self.tx_bytes;
        if tx_count > self.block_bytes_max / TX_BYTES_MIN || block_bytes > self.block_bytes_max {
            return Err(BlockReject::Length);
        }
        let sigops = self.failure.map_or(self.sigops, |f| f.sigops_before);
        if self.era == Era::PreGenesis && sigops > block_sigops_max(block_bytes) {
            return Err(BlockReject::Sigops);
        }
        if let Some(failure) = self.failure {
            return Err(failure.reject);
        }
        if let Some(reject) = self.late_failure {
            return Err(reject);
        }
        if !coinbase_height_is_right {
            return Err(BlockReject::CoinbaseHeight);
        }
        Ok(BlockSummary { block_bytes, tx_count, merkle_root: tree.root, sigops: self.sigops })
    }
}

/// The first input that spends a transaction which stands at `index` of its block, where this one stands, or later; `place` tells where
/// the block has a transaction, if it has it.
pub fn late_parent(
    view: TxView<'_>,
    index: usize,
    place: impl Fn(&TxId) -> Option<u32>,
) -> Option<u32> {
    let is_late = |txid| place(&txid).is_some_and(|at| at as usize >= index);
    view.inputs().position(|input| is_late(input.prev.txid)).map(|vin| vin as u32)
}

/// Checks what the coinbase pays. `fees_sat` is the sum over the block's other transactions.
///
/// Source: SV Node `validation.cpp` `ConnectBlock`.
pub fn check_coinbase_amount(
    coinbase: TxView<'_>,
    fees_sat: u64,
    height: u32,
    params: &ChainParams,
) -> Result<(), BlockReject> {
    let paid_sat = super::output_total(coinbase)
        .map_err(|reject| BlockReject::Transaction { index: 0, reject })?;
    if paid_sat > fees_sat.saturating_add(params.subsidy_sat(height)) {
        return Err(BlockReject::CoinbaseAmount);
    }
    Ok(())
}

/// The script that pushes a height, as a coinbase must begin from BIP34 on, and its length.
///
/// `OP_0`, `OP_1` to `OP_16`, else the shortest little-endian number. Source: SV Node `CScript << int64_t`.
pub fn coinbase_height_script(height: u32) -> ([u8; 6], usize) {
    let mut script = [0u8; 6];
    match height {
        0 => (script, 1),
        1..=16 => {
            script[0] = scan::OP_1 + height as u8 - 1;
            (script, 1)
        }
        _ => {
            // One more bit than the number has, for the sign.
            let len = ((33 - height.leading_zeros()) as usize).div_ceil(8);
            script[0] = len as u8;
            script[1..5].copy_from_slice(&height.to_le_bytes());
            (script, len + 1)
        }
    }
}

/// The height a coinbase says it has, if it begins with one.
pub fn read_coinbase_height(unlocking_script: &[u8]) -> Option<u32> {
    let first = Ops::new(unlocking_script).next()?;
    let height = match first.code {
        scan::OP_0 => 0,
        scan::OP_1..=scan::OP_16 => u32::from(first.code - scan::OP_1) + 1,
        1..=4 => scan::small_number(first.data)?,
        5 => first.data.split_last_chunk().and_then(|(low, &[high])| {
            let low: [u8; 4] = low.try_into().ok()?;
            (high == 0 && low[3] & 0x80 != 0).then_some(u32::from_le_bytes(low))
        })?,
        _ => return None,
    };
    let (script, len) = coinbase_height_script(height);
    unlocking_script.starts_with(&script[..len]).then_some(height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Network;
    use crate::tx::{OutPoint, SEQUENCE_FINAL, Tx, TxIn, TxLayout, TxOut, parse};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_height_written_is_the_height_read(height: u32, shift in 0u32..32, tail: [u8; 3]) {
            let height = height >> shift;
            let (script, len) = coinbase_height_script(height);
            let mut unlocking = script[..len].to_vec();
            unlocking.extend_from_slice(&tail);
            prop_assert_eq!(read_coinbase_height(&unlocking), Some(height));
        }
    }

    #[test]
    fn heights_are_pushed_as_bip34_wrote_them() {
        let script = |h| {
            let (s, n) = coinbase_height_script(h);
            s[..n].to_vec()
        };
        assert_eq!(script(0), [0]);
        assert_eq!(script(16), [0x60]);
        assert_eq!(script(17), [1, 17]);
        assert_eq!(script(128), [2, 128, 0]);
        assert_eq!(script(227_931), [3, 0x5b, 0x7a, 0x03]);
        assert_eq!(script(u32::MAX), [5, 255, 255, 255, 255, 0]);
        assert_eq!(read_coinbase_height(&[2, 17, 0]), None);
    }

    fn coinbase(height: u32, value_sat: i64) -> Tx {
        let (script, len) = coinbase_height_script(height);
        let mut unlocking_script = script[..len].to_vec();
        unlocking_script.extend_from_slice(b"here");
        Tx {
            version: 1,
            inputs: vec![TxIn {
                prev: OutPoint::NULL,
                unlocking_script,
                sequence: SEQUENCE_FINAL,
                coin: None,
            }],
            outputs: vec![TxOut { value_sat, locking_script: vec![0x51] }],
            lock_time: 0,
        }
    }

    fn spend(n: u32) -> Tx {
        let mut tx = coinbase(1, 0);
        tx.inputs[0].prev = OutPoint { txid: TxId([3; 32]), vout: n };
        tx
    }

    fn check(txs: &[Tx], height: u32, max: u64) -> Result<BlockSummary, BlockReject> {
        let root =
            crate::merkle::merkle_root(txs.iter().map(|t| t.txid().0).collect::<Vec<_>>().iter())
                .root;
        let params = ChainParams::of(Network::TeraTestnet);
        let mut checker = BlockChecker::new(&params, height, 0, max);
        let mut right = true;
        for (i, tx) in txs.iter().enumerate() {
            let bytes = tx.to_bytes();
            let mut layout = TxLayout::new();
            let view = parse(&bytes, &mut layout).unwrap();
            if i == 0 {
                right = checker.has_right_height(view);
            }
            checker.add(view, &tx.txid());
        }
        checker.finish(&root, right)
    }

    #[test]
    fn a_block_is_judged_in_sv_nodes_order() {
        let summary = check(&[coinbase(7, 0), spend(1)], 7, 0).unwrap();
        assert_eq!(summary.tx_count, 2);
        assert_eq!(check(&[coinbase(8, 0)], 7, 0), Err(BlockReject::CoinbaseHeight));
        assert_eq!(check(&[], 7, 0), Err(BlockReject::CoinbaseMissing));
        assert_eq!(check(&[spend(1)], 7, 0), Err(BlockReject::CoinbaseMissing));
        assert_eq!(check(&[coinbase(7, 0), spend(1)], 7, 100), Err(BlockReject::Length));
        assert_eq!(
            check(&[coinbase(7, 0), spend(1), spend(2), spend(2)], 7, 0),
            Err(BlockReject::DuplicateTransactions),
            "the same root as without the last"
        );
        assert_eq!(
            check(&[coinbase(7, 0), coinbase(7, 0)], 7, 0),
            Err(BlockReject::DuplicateTransactions)
        );
        assert_eq!(
            check(&[coinbase(7, 0), coinbase(8, 0)], 7, 0),
            Err(BlockReject::Transaction { index: 1, reject: TxReject::Coinbase })
        );
        let mut late = spend(1);
        late.lock_time = 7;
        late.inputs[0].sequence = 0;
        assert_eq!(
            check(&[coinbase(7, 0), late], 7, 0),
            Err(BlockReject::Transaction { index: 1, reject: TxReject::NonFinal })
        );
    }

    #[test]
    fn the_merkle_root_is_judged_before_any_transaction() {
        let params = ChainParams::of(Network::Main);
        let checker = BlockChecker::new(&params, 1, 0, 0);
        let got = checker.finish(&MerkleHash([1; 32]), true);
        assert_eq!(got, Err(BlockReject::MerkleRoot));
        assert!(BlockReject::MerkleRoot.is_corruption_possible());
        assert!(!BlockReject::Length.is_corruption_possible());
    }

    #[test]
    fn a_coinbase_takes_at_most_subsidy_and_fees() {
        let params = ChainParams::of(Network::Main);
        for (value, fees, want) in [
            (5_000_000_000, 0, Ok(())),
            (5_000_000_001, 0, Err(BlockReject::CoinbaseAmount)),
            (5_000_000_001, 1, Ok(())),
            (0, 0, Ok(())),
        ] {
            let bytes = coinbase(1, value).to_bytes();
            let mut layout = TxLayout::new();
            let view = parse(&bytes, &mut layout).unwrap();
            assert_eq!(check_coinbase_amount(view, fees, 1, &params), want);
        }
    }
}
