//! `UtxoStore`: what any engine that keeps coins must do, batch-first, one verdict an item.
//!
//! The shards of one machine are the engine the node runs; a plain one in memory is what they are compared with; engines on other
//! machines come against the same trait and must pass the same suite ([`crate::conformance`]). A batch is a slice in, a vector of
//! verdicts out in the same order; items of one batch take effect in order. Every request is judged in a context: the pool at
//! tip + 1, or one block (see [`Context`]).
//!
//! A spend has three parts. *Resolve* says what a coin is. *Reserve* holds it for one transaction, if it is what the scripts were
//! run with. *Settle* decides: the transaction's outputs become coins, what it held is spent. *Commit* is reserve and settle
//! of whole transactions, each all or nothing.

use crate::verdict::Verdict;
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::Context;

/// A coin as its owner knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coin<'a> {
    /// Value.
    pub value_sat: u64,
    /// Height of the block that created it; the context's for an unmined one.
    pub height: u32,
    /// Whether a coinbase created it.
    pub coinbase: bool,
    /// Its locking script.
    pub locking_script: &'a [u8],
}

/// A coin to be held for a transaction.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// For which transaction.
    pub by: TxId,
    /// By which of its inputs.
    pub vin: u32,
    /// The coin.
    pub outpoint: OutPoint,
    /// Value and locking script the scripts were run with; `None` compares nothing.
    pub expect: Option<(u64, &'a [u8])>,
}

/// A transaction to be decided.
#[derive(Clone, Copy, Debug)]
pub struct Spending<'a> {
    /// Its id.
    pub txid: TxId,
    /// Its inputs, in order.
    pub inputs: &'a [OutPoint],
    /// Its bytes, not extended.
    pub raw: &'a [u8],
}

/// The coins that are left of a mined transaction.
#[derive(Clone, Copy, Debug)]
pub struct MinedTx<'a> {
    /// Its id.
    pub txid: TxId,
    /// Height of its block.
    pub height: u32,
    /// Whether it is a coinbase.
    pub coinbase: bool,
    /// Output number (ascending), value and locking script of each.
    pub coins: &'a [(u32, u64, &'a [u8])],
}

/// Decisions `from..=to` of one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which order.
    pub lane: u16,
    /// First.
    pub from: u64,
    /// Last.
    pub to: u64,
}

/// What is known of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Height of the block on this chain that holds it; `None` while it is unmined.
    pub mined_height: Option<u32>,
    /// Whether every parent asked about is on this chain, or earlier in the context's block.
    pub parents_here: bool,
    /// The rule set its scripts were verified under.
    pub rule_set: u32,
}

/// What a step of an eviction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicting {
    /// More steps are needed: call again with the same transaction.
    More,
    /// It and its descendants are gone, so many in this step; or the verdict why not.
    Ended(Verdict),
}

/// What a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreTotals {
    /// Unspent outputs.
    pub utxos: u64,
    /// Transactions with a record.
    pub transactions: u64,
    /// Sum of the unspent values.
    pub value_sat: u64,
    /// Coins held for a transaction.
    pub reserved: u64,
    /// Items refused for want of room since the start.
    pub full: u64,
    /// Bytes of memory the coins take: index and slabs, as touched.
    pub resident_bytes: u64,
}

/// An engine that keeps coins. See the module.
pub trait UtxoStore {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// What each coin is, in a context; `each` is told in order.
    fn resolve_many(
        &mut self,
        ctx: &Context,
        coins: &[OutPoint],
        each: &mut dyn FnMut(usize, Result<Coin<'_>, Verdict>),
    );

    /// Holds coins.
    fn reserve_many(&mut self, ctx: &Context, wanted: &[Wanted<'_>], out: &mut Vec<Verdict>);

    /// Ends holds: of these transactions on these coins. `Done` also where nothing was held.
    fn release_many(&mut self, held: &[(TxId, OutPoint)], out: &mut Vec<Verdict>);

    /// Decides transactions all of whose inputs are held by them; `NotReserved` changes nothing.
    fn settle_many(&mut self, ctx: &Context, txs: &[Spending<'_>], out: &mut Vec<Verdict>);

    /// Reserves and settles, each transaction by itself and all or nothing; the verdict of the first input that is not to be had.
    fn commit_many(&mut self, ctx: &Context, txs: &[Spending<'_>], out: &mut Vec<Verdict>);

    /// The outputs of mined transactions, for good: seed files, tests.
    fn create_many(&mut self, txs: &[MinedTx<'_>], out: &mut Vec<Verdict>);

    /// Gives coins back that the named transactions have spent.
    fn unspend_many(&mut self, spends: &[(OutPoint, TxId)], out: &mut Vec<Verdict>);

    /// Connects a block that holds these decisions. No record is touched.
    fn set_mined(&mut self, block: u32, height: u32, runs: &[Run]) -> Verdict;

    /// Disconnects the newest block.
    fn unset_mined(&mut self, block: u32) -> Verdict;

    /// What is known of transactions, and whether these parents of each are where a block needs them.
    fn known_many(
        &mut self,
        ctx: &Context,
        asked: &[(TxId, &[OutPoint])],
        out: &mut Vec<Option<Known>>,
    );

    /// Freezes (or unfreezes) coins.
    fn freeze_many(&mut self, coins: &[OutPoint], frozen: bool, out: &mut Vec<Verdict>);

    /// Locks (or unlocks) coins.
    fn lock_many(&mut self, coins: &[OutPoint], locked: bool, out: &mut Vec<Verdict>);

    /// Gives frozen coins another locking script, to be spent from a height on; the coin is unfrozen.
    fn reassign_many(&mut self, coins: &[Reassigned<'_>], out: &mut Vec<Verdict>);

    /// Keeps the records of transactions from every prune at a height below `until_height`, whatever is spent; 0 ends that.
    fn preserve_many(&mut self, txids: &[TxId], until_height: u32, out: &mut Vec<Verdict>);

    /// One bounded step of the eviction of an unmined transaction and all its descendants, children first.
    fn evict_step(&mut self, txid: &TxId) -> Evicting;

    /// One bounded step of dropping what is mined and spent out by mined transactions, all at `height` or below; false at the end.
    /// Parents of unmined transactions stay, whatever their height, and so does what [`UtxoStore::preserve_many`] keeps.
    fn prune_step(&mut self, height: u32) -> bool;

    /// Unmined transactions, parents before children.
    fn unmined(&mut self) -> Vec<TxId>;

    /// Every unspent coin, in any order; an unmined one at height [`UNMINED_HEIGHT`].
    fn for_each_coin(&mut self, each: &mut dyn FnMut(&OutPoint, &Coin<'_>));

    /// What it holds.
    fn totals(&mut self) -> StoreTotals;
}

/// A coin to be given another script.
#[derive(Clone, Copy, Debug)]
pub struct Reassigned<'a> {
    /// The coin.
    pub outpoint: OutPoint,
    /// The script it must have.
    pub old: &'a [u8],
    /// The script it gets.
    pub new: &'a [u8],
    /// First height at which it may be spent.
    pub from_height: u32,
}

/// Height of a coin that is in no block. Source: SV Node `MEMPOOL_HEIGHT`.
pub const UNMINED_HEIGHT: u32 = 0x7fff_ffff;
