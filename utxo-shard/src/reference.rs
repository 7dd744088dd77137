//! A store of coins as plainly as it can be said: maps, vectors, no slabs, no claims, no shards.
//!
//! It says what the rules say and is what every engine is compared with. Nothing here is fast or bounded.

use crate::config::{COINBASE_MATURITY_BLOCKS, KEPT_UNTIL_MAX};
use crate::outputs::is_unspendable;
use crate::store::*;
use crate::verdict::Verdict;
use consensus::hash::TxId;
use consensus::params::{ChainParams, Era};
use consensus::tx::{OutPoint, Tx};
use dataplane::msg::Context;
use std::collections::{BTreeMap, BTreeSet};

/// Values from here on are no values.
const VALUE_SAT_END: u64 = 1 << 51;

/// A transaction that has spent a coin.
#[derive(Clone, Copy, Debug)]
struct Spend {
    by: TxId,
    /// The block in whose context it was decided, or 0.
    block: u32,
    /// Its place among the pool's decisions, or 0.
    seq: u64,
}

#[derive(Clone, Debug, Default)]
struct Output {
    value_sat: u64,
    script: Vec<u8>,
    /// The newest last: a block's spend stands over the pool's.
    spends: Vec<Spend>,
    held_by: Option<TxId>,
    frozen: bool,
    locked: bool,
    /// Reassigned, and from which height it may be spent.
    from_height: Option<u32>,
}

#[derive(Clone, Debug, Default)]
struct Record {
    seq: u64,
    pool: bool,
    settled: bool,
    coinbase: bool,
    evicting: bool,
    block: u32,
    height: u32,
    rule_set: u32,
    kept_until: u32,
    coins: BTreeMap<u32, Output>,
    inputs: Vec<OutPoint>,
}

/// See the module.
#[derive(Debug)]
pub struct Reference {
    params: ChainParams,
    records: BTreeMap<TxId, Record>,
    /// Coins each undecided transaction holds.
    holds: BTreeMap<TxId, BTreeSet<OutPoint>>,
    seq: u64,
    /// Connected blocks: number, height, decisions.
    blocks: Vec<(u32, u32, Vec<Run>)>,
}

impl Reference {
    /// An empty store.
    pub fn new(params: ChainParams) -> Self {
        Self {
            params,
            records: BTreeMap::new(),
            holds: BTreeMap::new(),
            seq: 0,
            blocks: Vec::new(),
        }
    }

    fn is_connected(&self, block: u32) -> Option<u32> {
        self.blocks.iter().find(|b| b.0 == block && block != 0).map(|b| b.1)
    }

    fn height_of(&self, seq: u64) -> Option<u32> {
        let holds = |run: &Run| seq != 0 && run.from <= seq && seq <= run.to;
        self.blocks.iter().find(|b| b.2.iter().any(holds)).map(|b| b.1)
    }

    fn mined_height(&self, record: &Record) -> Option<u32> {
        if record.settled || self.is_connected(record.block).is_some() {
            return Some(record.height);
        }
        if record.pool { self.height_of(record.seq) } else { None }
    }

    fn exists(&self, record: &Record, ctx: &Context) -> bool {
        !record.evicting
            && (ctx.is_pool() || record.block == ctx.block || self.mined_height(record).is_some())
    }

    fn spend_height(&self, spend: &Spend) -> Option<u32> {
        self.is_connected(spend.block).or_else(|| self.height_of(spend.seq))
    }

    fn spender(&self, output: &Output, ctx: &Context) -> Option<TxId> {
        let counts =
            |s: &&Spend| ctx.is_pool() || s.block == ctx.block || self.spend_height(s).is_some();
        output.spends.iter().rev().find(counts).map(|s| s.by)
    }

    /// The coin, if it can be spent in a context by anybody.
    fn look_up(&self, ctx: &Context, coin: &OutPoint) -> Result<(&Record, &Output), Verdict> {
        let (record, output) = self.existing(ctx, coin)?;
        if let Some(by) = self.spender(output, ctx) {
            return Err(Verdict::Spent { by });
        }
        Self::may_spend(record, output, ctx)?;
        Ok((record, output))
    }

    fn existing(&self, ctx: &Context, coin: &OutPoint) -> Result<(&Record, &Output), Verdict> {
        let Some(record) = self.records.get(&coin.txid) else { return Err(Verdict::TxMissing) };
        let missing = if record.evicting { Verdict::Conflicting } else { Verdict::CoinMissing };
        let Some(output) = record.coins.get(&coin.vout) else { return Err(missing) };
        if self.exists(record, ctx) { Ok((record, output)) } else { Err(missing) }
    }

    fn may_spend(record: &Record, output: &Output, ctx: &Context) -> Result<(), Verdict> {
        if output.frozen {
            return Err(Verdict::Frozen);
        }
        if output.locked {
            return Err(Verdict::Locked);
        }
        if let Some(until_height) = output.from_height.filter(|&h| ctx.height < h) {
            return Err(Verdict::FrozenUntil { until_height });
        }
        let until_height = record.height + COINBASE_MATURITY_BLOCKS;
        if record.coinbase && ctx.height < until_height {
            return Err(Verdict::Immature { until_height });
        }
        Ok(())
    }

    fn coin<'a>(&self, record: &Record, output: &'a Output, unmined_height: u32) -> Coin<'a> {
        let height = match self.mined_height(record) {
            Some(height) => height,
            None if record.coinbase => record.height,
            None => unmined_height,
        };
        Coin {
            value_sat: output.value_sat,
            height,
            coinbase: record.coinbase,
            locking_script: &output.script,
        }
    }

    fn output_mut(&mut self, coin: &OutPoint) -> Option<&mut Output> {
        self.records.get_mut(&coin.txid)?.coins.get_mut(&coin.vout)
    }

    fn reserve(&mut self, ctx: &Context, wanted: &Wanted<'_>) -> Verdict {
        if let Some((value_sat, script)) = wanted.expect
            && let Ok((_, output)) = self.look_up(ctx, &wanted.outpoint)
            && (output.value_sat != value_sat || output.script != script)
        {
            return Verdict::Differs;
        }
        let (record, output) = match self.existing(ctx, &wanted.outpoint) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        match self.spender(output, ctx) {
            Some(by) if by == wanted.by => return Verdict::Exists,
            Some(by) => return Verdict::Spent { by },
            None => {}
        }
        let allowed = Self::may_spend(record, output, ctx);
        let output = self.output_mut(&wanted.outpoint).expect("looked up above");
        // Its own spend from the pool becomes the block's, unless a rival in the same block holds the coin over it.
        if let Some(newest) = output.spends.last_mut()
            && newest.by == wanted.by
            && output.held_by.is_none_or(|by| by == wanted.by)
        {
            newest.block = ctx.block;
            return Verdict::Exists;
        }
        if let Err(verdict) = allowed {
            return verdict;
        }
        match output.held_by {
            Some(by) if by != wanted.by => Verdict::Busy { by },
            _ => {
                output.held_by = Some(wanted.by);
                self.holds.entry(wanted.by).or_default().insert(wanted.outpoint);
                Verdict::Reserved
            }
        }
    }

    fn release(&mut self, by: &TxId, coin: &OutPoint) {
        if let Some(output) = self.output_mut(coin)
            && output.held_by == Some(*by)
        {
            output.held_by = None;
        }
        if let Some(held) = self.holds.get_mut(by) {
            held.remove(coin);
            if held.is_empty() {
                self.holds.remove(by);
            }
        }
    }

    fn release_all(&mut self, by: &TxId) {
        for coin in self.holds.get(by).cloned().unwrap_or_default() {
            self.release(by, &coin);
        }
    }

    fn outputs_of(&self, ctx: &Context, raw: &[u8]) -> Result<BTreeMap<u32, Output>, Verdict> {
        let tx = Tx::parse(raw).map_err(|_| Verdict::InvalidSize)?;
        let genesis = self.params.era(ctx.height) != Era::PreGenesis;
        let mut coins = BTreeMap::new();
        for (vout, output) in tx.outputs.into_iter().enumerate() {
            let value_sat = u64::try_from(output.value_sat).map_err(|_| Verdict::InvalidSize)?;
            if value_sat >= VALUE_SAT_END {
                return Err(Verdict::InvalidSize);
            }
            if !is_unspendable(&output.locking_script, genesis) {
                let script = output.locking_script;
                coins.insert(vout as u32, Output { value_sat, script, ..Output::default() });
            }
        }
        Ok(coins)
    }

    fn settle(&mut self, ctx: &Context, tx: &Spending<'_>) -> Verdict {
        let known = self.records.contains_key(&tx.txid);
        if known && ctx.is_pool() {
            return Verdict::Exists;
        }
        let held = self.holds.get(&tx.txid).cloned().unwrap_or_default();
        if held.is_empty() || !tx.inputs.iter().all(|i| held.contains(i)) {
            return Verdict::NotReserved;
        }
        self.decide(ctx, tx)
    }

    fn decide(&mut self, ctx: &Context, tx: &Spending<'_>) -> Verdict {
        let seq = if self.records.contains_key(&tx.txid) {
            self.stand_in(ctx, &tx.txid)
        } else {
            let coins = match self.outputs_of(ctx, tx.raw) {
                Ok(coins) => coins,
                Err(verdict) => return verdict,
            };
            self.seq += 1;
            let record = Record {
                seq: self.seq,
                pool: ctx.is_pool(),
                block: ctx.block,
                height: if ctx.is_pool() { 0 } else { ctx.height },
                rule_set: ctx.rule_set,
                coins,
                inputs: tx.inputs.to_vec(),
                ..Record::default()
            };
            self.records.insert(tx.txid, record);
            self.seq
        };
        let pool_seq = if ctx.is_pool() { seq } else { 0 };
        let by = tx.txid;
        for coin in tx.inputs {
            let output = self.output_mut(coin).expect("it is held, so it is there");
            output.held_by = None;
            if output.spends.last().is_none_or(|s| s.by != by) {
                output.spends.push(Spend { by, block: ctx.block, seq: pool_seq });
            }
        }
        self.release_all(&by);
        Verdict::Decided { lane: 0, seq }
    }

    /// A known transaction stands in the context's block from now on; its place in the order.
    fn stand_in(&mut self, ctx: &Context, txid: &TxId) -> u64 {
        let mined = self.mined_height(&self.records[txid]).is_some();
        let record = self.records.get_mut(txid).expect("it is known");
        if !mined && record.block != ctx.block {
            record.block = ctx.block;
            record.height = ctx.height;
        }
        record.seq
    }

    fn commit(&mut self, ctx: &Context, tx: &Spending<'_>) -> Verdict {
        let known = self.records.contains_key(&tx.txid);
        let mut verdicts = Vec::new();
        for (vin, &outpoint) in tx.inputs.iter().enumerate() {
            let wanted = Wanted { by: tx.txid, vin: vin as u32, outpoint, expect: None };
            verdicts.push(self.reserve(ctx, &wanted));
        }
        let refused = verdicts.iter().find(|v| **v != Verdict::Reserved).copied();
        if !known && refused.is_none() {
            let verdict = self.decide(ctx, tx);
            self.release_all(&tx.txid);
            return verdict;
        }
        self.release_all(&tx.txid);
        if !known {
            return refused.unwrap_or(Verdict::Full);
        }
        let own = verdicts.iter().all(|v| *v == Verdict::Exists);
        if ctx.is_pool() || !own || self.mined_height(&self.records[&tx.txid]).is_some() {
            return Verdict::Exists;
        }
        Verdict::Decided { lane: 0, seq: self.stand_in(ctx, &tx.txid) }
    }

    /// A coin that nobody has spent or holds.
    fn idle(&mut self, coin: &OutPoint) -> Result<&mut Output, Verdict> {
        let record = self.records.get_mut(&coin.txid).ok_or(Verdict::TxMissing)?;
        if record.evicting {
            return Err(Verdict::Conflicting);
        }
        let output = record.coins.get_mut(&coin.vout).ok_or(Verdict::CoinMissing)?;
        if let Some(spend) = output.spends.last() {
            return Err(Verdict::Spent { by: spend.by });
        }
        match output.held_by {
            Some(by) => Err(Verdict::Busy { by }),
            None => Ok(output),
        }
    }

    fn evict(&mut self, txid: &TxId) -> Verdict {
        let Some(record) = self.records.get(txid) else { return Verdict::TxMissing };
        if self.mined_height(record).is_some() {
            return Verdict::Mined;
        }
        self.records.get_mut(txid).expect("it is there").evicting = true;
        let vouts: Vec<u32> = self.records[txid].coins.keys().copied().collect();
        for vout in vouts {
            loop {
                let output = &self.records[txid].coins[&vout];
                if let Some(by) = output.held_by {
                    return Verdict::Busy { by };
                }
                let Some(spend) = output.spends.last().copied() else { break };
                let verdict = self.evict(&spend.by);
                if verdict != Verdict::Done {
                    return verdict;
                }
            }
            self.records.get_mut(txid).expect("it is there").coins.remove(&vout);
        }
        let record = self.records.remove(txid).expect("it is there");
        for coin in record.inputs {
            self.unspend(&coin, txid);
        }
        Verdict::Done
    }

    fn unspend(&mut self, coin: &OutPoint, by: &TxId) -> Verdict {
        let Some(record) = self.records.get_mut(&coin.txid) else { return Verdict::TxMissing };
        let Some(output) = record.coins.get_mut(&coin.vout) else { return Verdict::InvalidSpend };
        match output.spends.iter().rposition(|s| s.by == *by) {
            Some(place) => {
                output.spends.remove(place);
                Verdict::Done
            }
            None => Verdict::InvalidSpend,
        }
    }

    fn is_prunable(&self, record: &Record, height: u32) -> bool {
        let gone = |output: &Output| {
            let newest = output.spends.last();
            output.held_by.is_none()
                && newest.and_then(|s| self.spend_height(s)).is_some_and(|h| h <= height)
        };
        self.mined_height(record).is_some_and(|h| h <= height)
            && record.kept_until <= height
            && record.coins.values().all(gone)
    }
}

impl UtxoStore for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn resolve_many(
        &mut self,
        ctx: &Context,
        coins: &[OutPoint],
        each: &mut dyn FnMut(usize, Result<Coin<'_>, Verdict>),
    ) {
        for (i, coin) in coins.iter().enumerate() {
            let found = self.look_up(ctx, coin);
            each(i, found.map(|(record, output)| self.coin(record, output, ctx.height)));
        }
    }

    fn reserve_many(&mut self, ctx: &Context, wanted: &[Wanted<'_>], out: &mut Vec<Verdict>) {
        for one in wanted {
            let verdict = self.reserve(ctx, one);
            out.push(verdict);
        }
    }

    fn release_many(&mut self, held: &[(TxId, OutPoint)], out: &mut Vec<Verdict>) {
        for (by, coin) in held {
            self.release(by, coin);
            out.push(Verdict::Done);
        }
    }

    fn settle_many(&mut self, ctx: &Context, txs: &[Spending<'_>], out: &mut Vec<Verdict>) {
        for tx in txs {
            let verdict = self.settle(ctx, tx);
            out.push(verdict);
        }
    }

    fn commit_many(&mut self, ctx: &Context, txs: &[Spending<'_>], out: &mut Vec<Verdict>) {
        for tx in txs {
            let verdict = self.commit(ctx, tx);
            out.push(verdict);
        }
    }

    fn create_many(&mut self, txs: &[MinedTx<'_>], out: &mut Vec<Verdict>) {
        for tx in txs {
            let bad = tx.coins.iter().any(|c| c.1 >= VALUE_SAT_END)
                || tx.coins.windows(2).any(|pair| pair[0].0 >= pair[1].0);
            out.push(if bad {
                Verdict::InvalidSize
            } else if let std::collections::btree_map::Entry::Vacant(e) =
                self.records.entry(tx.txid)
            {
                let coin = |&(vout, value_sat, script): &(u32, u64, &[u8])| {
                    (vout, Output { value_sat, script: script.to_vec(), ..Output::default() })
                };
                let record = Record {
                    settled: true,
                    coinbase: tx.coinbase,
                    height: tx.height,
                    rule_set: u32::MAX,
                    coins: tx.coins.iter().map(coin).collect(),
                    ..Record::default()
                };
                e.insert(record);
                Verdict::Done
            } else {
                Verdict::Exists
            });
        }
    }

    fn unspend_many(&mut self, spends: &[(OutPoint, TxId)], out: &mut Vec<Verdict>) {
        for (coin, by) in spends {
            let verdict = self.unspend(coin, by);
            out.push(verdict);
        }
    }

    fn set_mined(&mut self, block: u32, height: u32, runs: &[Run]) -> Verdict {
        let newest = self.blocks.last().map_or(0, |b| b.1);
        let mut mined: Vec<Run> = self.blocks.iter().flat_map(|b| b.2.iter().copied()).collect();
        let mut overlap = false;
        for run in runs.iter().filter(|run| run.from <= run.to) {
            let meets =
                |old: &Run| run.lane == old.lane && run.from <= old.to && old.from <= run.to;
            overlap |= run.from == 0 || mined.iter().any(meets);
            mined.push(*run);
        }
        if block == 0 || height <= newest || self.is_connected(block).is_some() || overlap {
            return Verdict::Contradicts;
        }
        self.blocks.push((block, height, runs.to_vec()));
        Verdict::Done
    }

    fn unset_mined(&mut self, block: u32) -> Verdict {
        if self.blocks.last().is_none_or(|b| b.0 != block) {
            return Verdict::Contradicts;
        }
        self.blocks.pop();
        Verdict::Done
    }

    fn known_many(
        &mut self,
        ctx: &Context,
        asked: &[(TxId, &[OutPoint])],
        out: &mut Vec<Option<Known>>,
    ) {
        for (txid, parents) in asked {
            let here = |coin: &OutPoint| {
                self.records.get(&coin.txid).is_some_and(|record| self.exists(record, ctx))
            };
            out.push(self.records.get(txid).map(|record| Known {
                mined_height: self.mined_height(record),
                parents_here: parents.iter().all(here),
                rule_set: record.rule_set,
            }));
        }
    }

    fn freeze_many(&mut self, coins: &[OutPoint], frozen: bool, out: &mut Vec<Verdict>) {
        for coin in coins {
            out.push(match self.idle(coin) {
                Err(verdict) => verdict,
                Ok(output) if output.frozen != frozen => {
                    output.frozen = frozen;
                    Verdict::Done
                }
                Ok(_) if frozen => Verdict::AlreadyFrozen,
                Ok(_) => Verdict::NotFrozen,
            });
        }
    }

    fn lock_many(&mut self, coins: &[OutPoint], locked: bool, out: &mut Vec<Verdict>) {
        for coin in coins {
            out.push(match self.idle(coin) {
                Err(verdict) => verdict,
                Ok(output) => {
                    output.locked = locked;
                    Verdict::Done
                }
            });
        }
    }

    fn reassign_many(&mut self, coins: &[Reassigned<'_>], out: &mut Vec<Verdict>) {
        for order in coins {
            out.push(match self.idle(&order.outpoint) {
                Err(verdict) => verdict,
                Ok(output) if !output.frozen => Verdict::NotFrozen,
                Ok(output) if output.script != order.old => Verdict::Differs,
                Ok(output) => {
                    output.frozen = false;
                    output.script = order.new.to_vec();
                    output.from_height = Some(order.from_height);
                    Verdict::Done
                }
            });
        }
    }

    fn evict_step(&mut self, txid: &TxId) -> Evicting {
        Evicting::Ended(self.evict(txid))
    }

    fn preserve_many(&mut self, txids: &[TxId], until_height: u32, out: &mut Vec<Verdict>) {
        for txid in txids {
            out.push(match self.records.get_mut(txid) {
                None => Verdict::TxMissing,
                Some(_) if until_height > KEPT_UNTIL_MAX => Verdict::Contradicts,
                Some(record) => {
                    record.kept_until = until_height;
                    Verdict::Done
                }
            });
        }
    }

    fn prune_step(&mut self, height: u32) -> bool {
        let gone: Vec<TxId> = self
            .records
            .iter()
            .filter(|(_, record)| self.is_prunable(record, height))
            .map(|(txid, _)| *txid)
            .collect();
        for txid in gone {
            self.records.remove(&txid);
        }
        false
    }

    fn unmined(&mut self) -> Vec<TxId> {
        let mut all: Vec<(u64, TxId)> = self
            .records
            .iter()
            .filter(|(_, record)| !record.evicting && self.mined_height(record).is_none())
            .map(|(txid, record)| (record.seq, *txid))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, txid)| txid).collect()
    }

    fn for_each_coin(&mut self, each: &mut dyn FnMut(&OutPoint, &Coin<'_>)) {
        for (&txid, record) in &self.records {
            for (&vout, output) in record.coins.iter().filter(|(_, o)| o.spends.is_empty()) {
                let mut coin = self.coin(record, output, UNMINED_HEIGHT);
                if self.mined_height(record).is_none() {
                    coin.height = UNMINED_HEIGHT;
                }
                each(&OutPoint { txid, vout }, &coin);
            }
        }
    }

    fn totals(&mut self) -> StoreTotals {
        let mut totals = StoreTotals {
            transactions: self.records.len() as u64,
            reserved: self.holds.values().map(|held| held.len() as u64).sum(),
            ..StoreTotals::default()
        };
        let unspent = self.records.values().flat_map(|record| record.coins.values());
        for output in unspent.filter(|output| output.spends.is_empty()) {
            totals.utxos += 1;
            totals.value_sat += output.value_sat;
        }
        totals
    }
}
