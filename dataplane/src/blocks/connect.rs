//! Connecting: somebody's block through the coordinators, or one of our own by its place in pack's list.

use super::evict::Source;
use super::walk::Walk;
use super::{BATCH_BYTES, Conductor, Connected, Lines, NewBlock, Rejection, Standing, Trouble};
use crate::msg::admin::{Admin, AdminReply, SpentBy, Whereabouts};
use crate::msg::pack_control::{CandidateId, PackCommand, SeqRange};
use crate::msg::verdict::detail;
use crate::msg::{
    Context, IngestHeader, ParentSeq, Records, TxVerdict, ValidateControl, VerdictFrag,
};
use consensus::hash::TxId;
use consensus::rules::{BlockReject, TxReject, check_coinbase_amount};
use std::collections::BTreeMap;

/// Transactions sent before verdicts are looked at.
const SEND_BURST: usize = 64;
/// Rests that bring nothing before a block that has failed is closed once more.
const CLOSE_AGAIN_RESTS: u64 = 8;
/// Ids in one piece of pack's list of a block; the first piece carries the positions of all shards too.
const MINED_PIECE: usize = (BATCH_BYTES - 32) / 32 / 2;

/// What became of one transaction of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// No verdict yet.
    Open,
    /// Accepted; never seen before.
    New,
    /// Accepted; it was in the pool.
    FromPool,
    /// Not accepted.
    Failed,
}

/// What became of all of them.
#[derive(Debug)]
struct Fates {
    of: Vec<Fate>,
    /// The first verdict (or notice) against each that failed.
    failures: BTreeMap<usize, VerdictFrag>,
    fees_sat: u64,
    answered: usize,
}

impl Fates {
    fn take(&mut self, verdict: &VerdictFrag, walk: &Walk<'_>) {
        let i = verdict.token as usize;
        if verdict.verdict == TxVerdict::MissingInput && verdict.detail == detail::WAITS {
            // Only a notice. It waits in vain unless what it waits for stands before it.
            if !walk.has_parent_before(i, verdict.vin) {
                self.failures.entry(i).or_insert(*verdict);
            }
            return;
        }
        self.answered += 1;
        self.of[i] = match (verdict.verdict, verdict.detail) {
            (TxVerdict::Accepted, detail::FROM_POOL) => Fate::FromPool,
            (TxVerdict::Accepted, _) => Fate::New,
            _ => {
                self.failures.entry(i).or_insert(*verdict);
                Fate::Failed
            }
        };
        self.fees_sat = self.fees_sat.saturating_add(verdict.fee_sat);
    }

    /// The failure that is told: the first that does not merely follow from another.
    fn cause(&self, walk: &Walk<'_>) -> Option<(usize, VerdictFrag)> {
        let follows = |i: usize, v: &VerdictFrag| {
            matches!(v.verdict, TxVerdict::MissingInput | TxVerdict::ParentRejected)
                && walk.has_parent_before(i, v.vin)
        };
        let script = |v: &VerdictFrag| v.verdict == TxVerdict::ScriptFailed;
        let causes = || self.failures.iter().filter(|&(&i, v)| !follows(i, v));
        // SV Node queues scripts and looks at their results last. Source: SV Node `validation.cpp` `ConnectBlock`.
        causes()
            .find(|(_, v)| !script(v))
            .or_else(|| causes().next())
            .or_else(|| self.failures.iter().next())
            .map(|(&i, v)| (i, *v))
    }
}

impl Conductor {
    /// Connects somebody's block on top of the tip. The inner error: it is not valid, and nothing has changed.
    pub fn connect<L: Lines>(
        &mut self,
        lines: &mut L,
        block: &NewBlock<'_>,
    ) -> Result<Result<Connected, Rejection>, L::Error> {
        let walk = match Walk::over(block, &self.params) {
            Ok(walk) => walk,
            Err(rejection) => return Ok(Err(rejection)),
        };
        self.connect_walk(lines, block, &walk)
    }

    fn connect_walk<L: Lines>(
        &mut self,
        lines: &mut L,
        block: &NewBlock<'_>,
        walk: &Walk<'_>,
    ) -> Result<Result<Connected, Rejection>, L::Error> {
        if let Some((i, vin)) = walk.out_of_order() {
            // SV Node meets this as a coin that is not there yet; its name `bad-blk-ttor` is for stored blocks.
            let reason = TxReject::InputsMissingOrSpent.reason().to_owned();
            let txid = Some(walk.txids[i]);
            let (vin, is_corruption_possible) = (Some(vin), false);
            return Ok(Err(Rejection { reason, txid, vin, is_corruption_possible }));
        }
        let context = self.open(block, walk);
        self.tell_all(lines, &ValidateControl::OpenBlock { context, inputs_only: false })?;
        let fates = self.feed(lines, walk, context)?;
        if let Some((i, verdict)) = fates.cause(walk) {
            self.undo(lines, context, walk, &fates)?;
            let Some(rejection) = rejection_of(&verdict, walk.txids[i]) else {
                let (txid, verdict) = (walk.txids[i], verdict.verdict.name());
                return Err(Trouble::Overloaded { txid, verdict }.into());
            };
            return Ok(Err(rejection));
        }
        if let Err(rejection) = self.judge_coinbase(lines, block, walk, fates.fees_sat)? {
            self.undo(lines, context, walk, &fates)?;
            return Ok(Err(rejection));
        }
        if let Err(error) = self.make_coinbase(lines, context, walk) {
            self.undo(lines, context, walk, &fates)?;
            return Err(error);
        }
        let mut evicted = self.evict_losers(lines, context, walk, &fates)?;
        self.set_mined(lines, context, &[])?;
        let drained = self.drained(lines)?;
        let from_pool: Vec<TxId> = walk
            .txids
            .iter()
            .zip(&fates.of)
            .filter(|(_, fate)| **fate == Fate::FromPool)
            .map(|(txid, _)| *txid)
            .collect();
        Self::take_out(lines, context.block, &drained, &from_pool)?;
        self.rest_on(lines, block, context, walk.txids[0], &mut evicted)?;
        Ok(Ok(Connected {
            txs: walk.len() as u64,
            fees_sat: fates.fees_sat,
            from_pool: from_pool.len() as u64,
            evicted,
        }))
    }

    /// Connects a block of ours, whose transactions behind the coinbase should be those of a candidate that is not out of date:
    /// `txids` and `ranges`. If they are not, it is judged as anybody's.
    pub fn connect_ours<L: Lines>(
        &mut self,
        lines: &mut L,
        block: &NewBlock<'_>,
        candidate: CandidateId,
        txids: &[TxId],
        ranges: &[SeqRange],
        fees_sat: u64,
    ) -> Result<Result<Connected, Rejection>, L::Error> {
        let walk = match Walk::over(block, &self.params) {
            Ok(walk) => walk,
            Err(rejection) => return Ok(Err(rejection)),
        };
        if walk.txids[1..] != *txids {
            return self.connect_walk(lines, block, &walk);
        }
        if let Err(rejection) = self.judge_coinbase(lines, block, &walk, fees_sat)? {
            return Ok(Err(rejection));
        }
        let context = self.open(block, &walk);
        self.make_coinbase(lines, context, &walk)?;
        self.set_mined(lines, context, ranges)?;
        let number = context.block;
        Self::command(lines, &PackCommand::MinedOurs { block: number, candidate })?;
        if let Err(why) = Self::pack_done(lines, number)? {
            return Err(Trouble::PackRefused { what: "a block of ours", why }.into());
        }
        let mut evicted = Vec::new();
        self.rest_on(lines, block, context, walk.txids[0], &mut evicted)?;
        let txs = walk.len() as u64;
        Ok(Ok(Connected { txs, fees_sat, from_pool: txs - 1, evicted }))
    }

    /// A number and a context for the next block.
    fn open(&mut self, block: &NewBlock<'_>, walk: &Walk<'_>) -> Context {
        Context {
            block: self.next_number(),
            height: block.height,
            median_time_past: walk.time_limit_s,
            rule_set: self.params.flags_for_block(block.height),
        }
    }

    /// The block is the tip: the pool is judged on top of it, and goes where it would be judged by other rules.
    fn rest_on<L: Lines>(
        &mut self,
        lines: &mut L,
        block: &NewBlock<'_>,
        context: Context,
        coinbase: TxId,
        evicted: &mut Vec<TxId>,
    ) -> Result<(), L::Error> {
        self.stand(Standing { number: context.block, height: block.height, coinbase });
        let context = self.pool_context(block.height, block.median_time_past);
        self.tell_all(lines, &ValidateControl::SetPool { context })?;
        if self.changes_rules(block.height) {
            let before = evicted.len();
            self.empty_pool(lines, &Source::Pool, evicted)?;
            if evicted.len() > before {
                self.end_evictions(lines)?;
            }
        }
        Ok(())
    }

    /// Every transaction to its coordinator; all verdicts, and the block closed.
    fn feed<L: Lines>(
        &mut self,
        lines: &mut L,
        walk: &Walk<'_>,
        context: Context,
    ) -> Result<Fates, L::Error> {
        let n = walk.len();
        let mut fates =
            Fates { of: vec![Fate::Open; n], failures: BTreeMap::new(), fees_sat: 0, answered: 0 };
        let close = ValidateControl::CloseBlock { block: context.block };
        let mut frag = Vec::new();
        let (mut sent, mut idle, mut closed) = (0, 0, false);
        loop {
            let mut moved = false;
            let stop = if fates.failures.is_empty() { n.min(sent + SEND_BURST) } else { sent };
            while sent < stop {
                let (tx, index) = (walk.txs[sent], sent as u32);
                let header = IngestHeader {
                    token: sent as u64,
                    source: 0,
                    block: context.block,
                    index,
                    flags: 0,
                };
                frag.clear();
                frag.resize(IngestHeader::LEN, 0);
                header.write(&mut frag);
                frag.extend_from_slice(tx);
                let validator = usize::from(self.partition.validator_of_bytes(tx));
                if !lines.send_block_tx(validator, context.block, &frag) {
                    break;
                }
                sent += 1;
                moved = true;
            }
            for validator in 0..usize::from(self.partition.validators()) {
                while let Some(verdict) = lines.verdict(validator) {
                    if verdict.block == context.block {
                        fates.take(&verdict, walk);
                        moved = true;
                    }
                }
            }
            let failed = !fates.failures.is_empty();
            if fates.answered == sent && (sent == n || failed) {
                break;
            }
            // What waits for a parent that will not come is told so; nothing is lost, the block has failed.
            if failed && (!closed || idle > 0 && idle % CLOSE_AGAIN_RESTS == 0) {
                self.tell_all(lines, &close)?;
                closed = true;
            }
            if moved {
                idle = 0;
            } else {
                lines.rest("coordinators, which judge a block", idle)?;
                idle += 1;
            }
        }
        if !closed {
            self.tell_all(lines, &close)?;
        }
        Ok(fates)
    }

    /// What needs the fees, and the coins that are there: the coinbase's amount, and that nothing of its name is unspent.
    fn judge_coinbase<L: Lines>(
        &mut self,
        lines: &mut L,
        block: &NewBlock<'_>,
        walk: &Walk<'_>,
        fees_sat: u64,
    ) -> Result<Result<(), Rejection>, L::Error> {
        let coinbase = walk.txids[0];
        let paid = walk.tx(0, |tx| check_coinbase_amount(tx, fees_sat, block.height, &self.params));
        if let Err(reject) = paid {
            return Ok(Err(Rejection::of(reject, Some(coinbase))));
        }
        // BIP30. Source: SV Node `validation.cpp` `ConnectBlock`.
        match self.whereabouts(lines, &coinbase)? {
            Whereabouts::Mined { unspent, .. } if unspent > 0 => {
                Ok(Err(Rejection::of(BlockReject::Bip30, Some(coinbase))))
            }
            _ => Ok(Ok(())),
        }
    }

    /// Where a transaction is.
    pub fn whereabouts<L: Lines>(
        &mut self,
        lines: &mut L,
        txid: &TxId,
    ) -> Result<Whereabouts, L::Error> {
        let mut orders = self.orders(Context::default());
        orders.put(self.home(txid), &Admin::Where { token: 0, txid: *txid });
        let mut found = Whereabouts::Unknown;
        orders.send(lines, "where a transaction is", &mut |_, reply| {
            if let AdminReply::Where { at, .. } = reply {
                found = *at;
            }
        })?;
        Ok(found)
    }

    fn make_coinbase<L: Lines>(
        &mut self,
        lines: &mut L,
        context: Context,
        walk: &Walk<'_>,
    ) -> Result<(), L::Error> {
        let txid = walk.txids[0];
        let mut orders = self.orders(context);
        orders.put(self.home(&txid), &Admin::Coinbase { txid, tx: walk.txs[0] });
        orders.send_all(lines, "a coinbase")
    }

    /// Pool transactions whose coins the block has spent go, with all their descendants.
    fn evict_losers<L: Lines>(
        &mut self,
        lines: &mut L,
        context: Context,
        walk: &Walk<'_>,
        fates: &Fates,
    ) -> Result<Vec<TxId>, L::Error> {
        let mut orders = self.orders(Context::default());
        for shard in 0..usize::from(self.partition.shards()) {
            orders.put(shard, &Admin::Overruled { token: 0, block: context.block });
        }
        let mut overruled = 0;
        orders.send(lines, "what a block overruled", &mut |_, reply| {
            if let AdminReply::Overruled { coins, .. } = reply {
                overruled += coins;
            }
        })?;
        let mut evicted = Vec::new();
        if overruled == 0 {
            return Ok(evicted);
        }
        let mut orders = self.orders(Context::default());
        for i in (1..walk.len()).filter(|&i| fates.of[i] == Fate::New) {
            let by = walk.txids[i];
            for outpoint in walk.coins(i) {
                orders.put(self.home(&outpoint.txid), &Admin::Loser { token: 0, outpoint, by });
            }
        }
        let mut losers = Vec::new();
        orders.send(lines, "who lost to a block", &mut |_, reply| {
            if let AdminReply::Spender { by: SpentBy::Tx(txid), .. } = reply {
                losers.push(*txid);
            }
        })?;
        // The order of answers is not the same every time; that of evictions is.
        losers.sort_unstable();
        losers.dedup();
        for loser in losers {
            self.evict(lines, loser, &Source::Pool, &mut evicted)?;
        }
        Ok(evicted)
    }

    /// Pack's list without what the block has.
    fn take_out<L: Lines>(
        lines: &mut L,
        block: u32,
        drained: &[ParentSeq],
        txids: &[TxId],
    ) -> Result<(), L::Error> {
        super::in_pieces(txids, MINED_PIECE, drained, |piece, drained, last| {
            let (drained, txids) = (Records::Own(drained), Records::Own(piece));
            Self::command(lines, &PackCommand::Mined { block, last, drained, txids })
        })?;
        match Self::pack_done(lines, block)? {
            Ok(_) => Ok(()),
            Err(why) => Err(Trouble::PackRefused { what: "a block", why }.into()),
        }
    }

    /// A block that failed: what it brought goes again, the last first. What it found in the pool was never touched but for marks
    /// with the block's number, which is never used again.
    fn undo<L: Lines>(
        &mut self,
        lines: &mut L,
        context: Context,
        walk: &Walk<'_>,
        fates: &Fates,
    ) -> Result<(), L::Error> {
        let new: Vec<usize> = (1..walk.len()).rev().filter(|&i| fates.of[i] == Fate::New).collect();
        let mut evicted = Vec::new();
        self.take_back(lines, context, walk, &new, &mut evicted)?;
        if evicted.len() > new.len() {
            // Some of the pool had spent what the block brought; pack offers nothing until it knows that this is over.
            self.end_evictions(lines)?;
        }
        Ok(())
    }
}

/// The block's failure by SV Node's name; `None` where it is ours, not the block's.
fn rejection_of(verdict: &VerdictFrag, txid: TxId) -> Option<Rejection> {
    let by_rule = TxReject::from_number(verdict.detail).map(TxReject::reason);
    let missing = TxReject::InputsMissingOrSpent.reason();
    let reason = match verdict.verdict {
        TxVerdict::ScriptFailed => "blk-bad-inputs",
        TxVerdict::Invalid | TxVerdict::Policy => by_rule?,
        TxVerdict::NonFinal => by_rule.unwrap_or(TxReject::NonFinal.reason()),
        TxVerdict::Immature => TxReject::CoinbaseImmature.reason(),
        TxVerdict::Known if verdict.detail == detail::UNSPENT => BlockReject::Bip30.reason(),
        TxVerdict::MissingInput
        | TxVerdict::DoubleSpend
        | TxVerdict::ParentRejected
        | TxVerdict::Known => missing,
        TxVerdict::Frozen => "bad-txns-inputs-frozen",
        _ => return None,
    };
    Some(Rejection {
        reason: reason.to_owned(),
        txid: Some(txid),
        vin: Some(verdict.vin),
        is_corruption_possible: false,
    })
}
