//! An independent account of a chain: every block applied from its raw bytes to a plain map of coins.
//!
//! The demo and its tests hold the node against this: no tile, no ring and no shard takes part. It judges linkage, values,
//! maturity and merkle roots, not scripts.

use consensus::hash::{BlockHash, MerkleHash, TxId};
use consensus::header::Header;
use consensus::merkle::merkle_root;
use consensus::params::ChainParams;
use consensus::tx::{Limits, OutPoint, TxLayout, TxView, parse_prefix};
use consensus::wire::Reader;
use std::collections::HashMap;

/// A coin of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerCoin {
    /// Value.
    pub value_sat: u64,
    /// Height of its block.
    pub height: u32,
    /// Whether a coinbase made it.
    pub coinbase: bool,
    /// Its locking script.
    pub locking_script: Vec<u8>,
}

/// A previous output in the row form: transaction index, input index, and the coin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrevoutRow {
    /// Index of the transaction in the block.
    pub tx: usize,
    /// Index of the input.
    pub input: usize,
    /// What it spends.
    pub coin: LedgerCoin,
}

impl PrevoutRow {
    /// `[tx index, input index, coin height, coinbase 0/1, amount sat, locking script hex]`.
    pub fn to_json(&self) -> serde_json::Value {
        let c = &self.coin;
        serde_json::json!([
            self.tx,
            self.input,
            c.height,
            u8::from(c.coinbase),
            c.value_sat,
            hex::encode(&c.locking_script)
        ])
    }
}

/// What a block did to the account.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Its name.
    pub hash: BlockHash,
    /// The root in its header, which is that of its transactions.
    pub merkle_root: MerkleHash,
    /// Its transactions, coinbase first.
    pub txids: Vec<TxId>,
    /// Sum of the fees.
    pub fees_sat: u64,
    /// One a non-coinbase input.
    pub prevouts: Vec<PrevoutRow>,
}

/// Why a block does not fit the account.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The bytes are no block.
    #[error("block at height {height}: the bytes are no block: {what}")]
    Bytes {
        /// Its height.
        height: u32,
        /// What the parser said.
        what: String,
    },
    /// It does not follow the block before.
    #[error("block at height {height} follows {got}, the block before is {expected}")]
    Prev {
        /// Its height.
        height: u32,
        /// What its header says.
        got: BlockHash,
        /// What it should say.
        expected: BlockHash,
    },
    /// The root in the header is not that of the transactions.
    #[error(
        "block at height {height}: merkle root {got} in the header, {expected} from the transactions"
    )]
    MerkleRoot {
        /// Its height.
        height: u32,
        /// From the header.
        got: MerkleHash,
        /// From the transactions.
        expected: MerkleHash,
    },
    /// An input spends what is not there: never made, spent, or made later in the block.
    #[error(
        "block at height {height}: {txid} input {input} spends {outpoint}, which is not an unspent coin there"
    )]
    Missing {
        /// Its height.
        height: u32,
        /// The transaction.
        txid: TxId,
        /// The input.
        input: usize,
        /// What it spends.
        outpoint: OutPoint,
    },
    /// More goes out than comes in, or a coinbase takes more than it may, or a coin is too young.
    #[error("block at height {height}: {txid}: {what}")]
    Value {
        /// Its height.
        height: u32,
        /// The transaction.
        txid: TxId,
        /// What is wrong.
        what: String,
    },
}

/// The account.
#[derive(Clone, Debug)]
pub struct Ledger {
    params: ChainParams,
    height: u32,
    tip: BlockHash,
    coins: HashMap<OutPoint, LedgerCoin>,
}

impl Ledger {
    /// The account at genesis: no coins (the genesis coinbase is none).
    pub fn new(params: ChainParams) -> Self {
        let genesis = params.genesis_block();
        let header = genesis.first_chunk().expect("a block starts with its header");
        let tip = Header::from_bytes(header).hash();
        Self { params, height: 0, tip, coins: HashMap::new() }
    }

    /// Unspent coins.
    pub fn len(&self) -> usize {
        self.coins.len()
    }

    /// True without coins.
    pub fn is_empty(&self) -> bool {
        self.coins.is_empty()
    }

    /// Sum of the unspent values.
    pub fn value_sat(&self) -> u64 {
        self.coins.values().map(|c| c.value_sat).sum()
    }

    /// The unspent coin at `outpoint`.
    pub fn coin(&self, outpoint: &OutPoint) -> Option<&LedgerCoin> {
        self.coins.get(outpoint)
    }

    /// Applies the next block. On error the account is not to be used any more.
    pub fn apply(&mut self, block: &[u8]) -> Result<Applied, LedgerError> {
        let height = self.height + 1;
        let bytes_error =
            |what: &dyn std::fmt::Display| LedgerError::Bytes { height, what: what.to_string() };
        let mut reader = Reader::new(block);
        let header = Header::read(&mut reader).map_err(|e| bytes_error(&e))?;
        if header.prev != self.tip {
            return Err(LedgerError::Prev { height, got: header.prev, expected: self.tip });
        }
        let count = reader.compact_size().map_err(|e| bytes_error(&e))?;
        let mut rest = reader.rest();
        let mut txids = Vec::new();
        let mut prevouts = Vec::new();
        let mut fees_sat = 0;
        let mut reward_sat = 0;
        let mut layout = TxLayout::new();
        for index in 0..count {
            let view =
                parse_prefix(rest, &mut layout, Limits::CONSENSUS).map_err(|e| bytes_error(&e))?;
            let used = view.bytes().len();
            let txid = view.txid();
            let paid: u64 = view.outputs().map(|o| o.value_sat as u64).sum();
            if index == 0 {
                reward_sat = paid;
            } else {
                let spent = self.spend(height, index as usize, txid, view, &mut prevouts)?;
                fees_sat += spent.checked_sub(paid).ok_or_else(|| LedgerError::Value {
                    height,
                    txid,
                    what: format!("{paid} satoshi go out but only {spent} come in"),
                })?;
            }
            self.create(height, index == 0, txid, view);
            txids.push(txid);
            rest = &rest[used..];
        }
        if !rest.is_empty() || txids.is_empty() {
            return Err(bytes_error(&format!("{count} transactions, then {} bytes", rest.len())));
        }
        let allowed = self.params.subsidy_sat(height) + fees_sat;
        if reward_sat > allowed {
            let what = format!("the coinbase takes {reward_sat} satoshi, {allowed} are there");
            return Err(LedgerError::Value { height, txid: txids[0], what });
        }
        let expected = merkle_root(txids.iter().map(|t| &t.0)).root;
        if expected != header.merkle_root {
            return Err(LedgerError::MerkleRoot { height, got: header.merkle_root, expected });
        }
        self.height = height;
        self.tip = header.hash();
        Ok(Applied { hash: self.tip, merkle_root: expected, txids, fees_sat, prevouts })
    }

    fn spend(
        &mut self,
        height: u32,
        tx: usize,
        txid: TxId,
        view: TxView<'_>,
        prevouts: &mut Vec<PrevoutRow>,
    ) -> Result<u64, LedgerError> {
        let mut sum = 0;
        for (input, spent) in view.inputs().enumerate() {
            let outpoint = spent.prev;
            let coin = self.coins.remove(&outpoint).ok_or(LedgerError::Missing {
                height,
                txid,
                input,
                outpoint,
            })?;
            if coin.coinbase && height - coin.height < 100 {
                let what = format!("spends the coinbase of height {} at {height}", coin.height);
                return Err(LedgerError::Value { height, txid, what });
            }
            sum += coin.value_sat;
            prevouts.push(PrevoutRow { tx, input, coin });
        }
        Ok(sum)
    }

    fn create(&mut self, height: u32, coinbase: bool, txid: TxId, view: TxView<'_>) {
        let era = self.params.era(height);
        for (vout, output) in view.outputs().enumerate() {
            if consensus::rules::is_unspendable(output.locking_script, era) {
                continue;
            }
            let coin = LedgerCoin {
                value_sat: output.value_sat as u64,
                height,
                coinbase,
                locking_script: output.locking_script.to_vec(),
            };
            self.coins.insert(OutPoint { txid, vout: vout as u32 }, coin);
        }
    }
}
