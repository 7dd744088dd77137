//! Disconnecting the tip: its transactions are the pool's again, and what cannot stand on the shorter chain goes.

use super::evict::Source;
use super::walk::Walk;
use super::{BATCH_BYTES, Conductor, Disconnected, Lines, Trouble};
use crate::msg::admin::{Admin, AdminReply, SpendState, SpentBy};
use crate::msg::pack_control::{PackCommand, PackRefusal, Record, Restored};
use crate::msg::{Context, ParentSeq, Records, ValidateControl};
use consensus::hash::TxId;
use consensus::rules::is_final;
use consensus::tx::{OutPoint, TxLayout, parse};
use std::collections::HashSet;

/// Blocks after which a coinbase can be spent. Source: SV Node `COINBASE_MATURITY`.
const COINBASE_MATURITY_BLOCKS: u32 = 100;
/// Transactions in one piece of pack's list of a block.
const RESTORED_PIECE: usize = (BATCH_BYTES - 32) / Restored::LEN / 2;
/// Outputs of a coinbase asked about at once.
const OUTPUTS_PIECE: u32 = 64;

impl Conductor {
    /// Takes the tip, whose bytes are `raw`, off the chain. `height` and `median_time_past` are those of the block below.
    pub fn disconnect<L: Lines>(
        &mut self,
        lines: &mut L,
        raw: &[u8],
        height: u32,
        median_time_past: u32,
    ) -> Result<Disconnected, L::Error> {
        let walk = Walk::known(raw).ok_or(Trouble::NoBlock)?;
        let tip = self.chain.last().copied();
        let tip = tip.filter(|tip| tip.coinbase == walk.txids[0]).ok_or_else(|| {
            let expected = tip.map_or(TxId::ZERO, |tip| tip.coinbase);
            Trouble::NotTheTip { got: walk.txids[0], expected }
        })?;
        // First the pool: nothing more is accepted that only the longer chain allows.
        let context = self.pool_context(height, median_time_past);
        self.tell_all(lines, &ValidateControl::SetPool { context })?;
        self.barrier(lines)?;
        let mut orders = self.orders(context);
        for shard in 0..usize::from(self.partition.shards()) {
            orders.put(shard, &Admin::UnsetMined { block: tip.number });
        }
        orders.send_all(lines, "a block that is disconnected")?;
        self.chain.pop();
        let mut leaves = self.unmine(lines, context, &walk)?;

        let mut evicted = Vec::new();
        let source = Source::Block(&walk);
        self.evict(lines, tip.coinbase, &source, &mut evicted)?;
        evicted.retain(|txid| *txid != tip.coinbase);
        if self.changes_rules(context.height) {
            for leaf in leaves.drain(..).rev() {
                self.evict(lines, leaf.txid, &source, &mut evicted)?;
            }
            self.empty_pool(lines, &source, &mut evicted)?;
        } else {
            self.evict_immature(lines, context.height, &source, &mut evicted)?;
            self.evict_unfinal(lines, &context, &source, &mut evicted)?;
        }
        let gone: HashSet<TxId> = evicted.iter().copied().collect();
        leaves.retain(|leaf| !gone.contains(&leaf.txid));

        let drained = self.drained(lines)?;
        match Self::put_back(lines, tip.number, &drained, &leaves)? {
            Ok(()) => {}
            Err(PackRefusal::NoRoom) => {
                // Where nothing can be put back, nothing of the block stays.
                for leaf in leaves.drain(..).rev() {
                    self.evict(lines, leaf.txid, &source, &mut evicted)?;
                }
                self.end_evictions(lines)?;
            }
            Err(why) => return Err(Trouble::PackRefused { what: "a block put back", why }.into()),
        }
        let restored = leaves.iter().map(|leaf| leaf.txid).collect();
        Ok(Disconnected { restored, evicted })
    }

    /// Waits until whatever coordinators sent under the pool's former context has reached the shards.
    pub(super) fn barrier<L: Lines>(&mut self, lines: &mut L) -> Result<(), L::Error> {
        self.barriers += 1;
        let number = self.barriers;
        self.tell_all(lines, &ValidateControl::Barrier { number })?;
        let mut idle = 0;
        loop {
            let mut orders = self.orders(Context::default());
            for shard in 0..usize::from(self.partition.shards()) {
                orders.put(shard, &Admin::Barrier { number });
            }
            let refused = orders.send(lines, "a barrier", &mut |_, _| {})?;
            if refused.iter().all(|&r| r == 0) {
                return Ok(());
            }
            lines.rest("what is on its way from coordinators to shards", idle)?;
            idle += 1;
        }
    }

    /// The block's transactions and their spends are the pool's; gives what pack is to put in front.
    fn unmine<L: Lines>(
        &mut self,
        lines: &mut L,
        context: Context,
        walk: &Walk<'_>,
    ) -> Result<Vec<Restored>, L::Error> {
        let n = walk.len();
        let mut orders = self.orders(context);
        for i in 1..n {
            let (token, txid) = (i as u64, walk.txids[i]);
            orders.put(self.home(&txid), &Admin::Unmine { token, txid });
        }
        let mut seqs = vec![0; n];
        orders.send(lines, "transactions of a disconnected block", &mut |_, reply| {
            if let AdminReply::Unmined { token, publish_seq } = reply {
                seqs[*token as usize] = *publish_seq;
            }
        })?;
        if let Some(i) = (1..n).find(|&i| seqs[i] == 0) {
            let what = "its block is disconnected";
            return Err(Trouble::Gone { txid: walk.txids[i], what }.into());
        }
        let mut left: Vec<(usize, OutPoint)> =
            (1..n).flat_map(|i| walk.coins(i).into_iter().map(move |c| (i, c))).collect();
        let mut spent_sat = vec![0u64; n];
        let mut idle = 0;
        while !left.is_empty() {
            let mut orders = self.orders(context);
            for (at, &(i, outpoint)) in left.iter().enumerate() {
                let (token, by, publish_seq) = (at as u64, walk.txids[i], seqs[i]);
                let order = Admin::Respend { token, outpoint, by, publish_seq };
                orders.put(self.home(&outpoint.txid), &order);
            }
            let mut held = Vec::new();
            let mut lost = None;
            orders.send(lines, "spends of a disconnected block", &mut |_, reply| {
                let AdminReply::Respent { token, state, value_sat } = *reply else { return };
                let at = token as usize;
                match state {
                    SpendState::Done => spent_sat[left[at].0] += value_sat,
                    SpendState::Held => held.push(at),
                    SpendState::NotSpent => lost = Some(left[at].0),
                }
            })?;
            if let Some(i) = lost {
                let what = "a coin it spends, of a block that is disconnected";
                return Err(Trouble::Gone { txid: walk.txids[i], what }.into());
            }
            held.sort_unstable();
            left = held.into_iter().map(|at| left[at]).collect();
            if !left.is_empty() {
                lines.rest("spends that are on their way", idle)?;
                idle += 1;
            }
        }
        let leaf = |i: usize| {
            let paid_sat =
                walk.tx(i, |tx| tx.outputs().map(|o| o.value_sat.max(0) as u64).sum::<u64>());
            Restored {
                txid: walk.txids[i],
                fee_sat: spent_sat[i].saturating_sub(paid_sat),
                size_bytes: walk.txs[i].len() as u64,
                shard: self.partition.shard(&walk.txids[i]),
                publish_seq: seqs[i],
            }
        };
        Ok((1..n).map(leaf).collect())
    }

    /// The one coinbase that could be spent at the former pool's height and cannot at `height`.
    fn evict_immature<L: Lines>(
        &mut self,
        lines: &mut L,
        height: u32,
        source: &Source<'_, '_>,
        evicted: &mut Vec<TxId>,
    ) -> Result<(), L::Error> {
        let Some(young) = (height + 1).checked_sub(COINBASE_MATURITY_BLOCKS) else { return Ok(()) };
        let Some(block) = self.chain.iter().rev().find(|block| block.height == young) else {
            return Ok(());
        };
        let txid = block.coinbase;
        let mut from = 0;
        loop {
            let mut orders = self.orders(Context::default());
            for vout in from..from + OUTPUTS_PIECE {
                let outpoint = OutPoint { txid, vout };
                orders.put(self.home(&txid), &Admin::Spender { token: 0, outpoint });
            }
            let (mut spenders, mut at_end) = (Vec::new(), false);
            orders.send(lines, "spenders of a young coinbase", &mut |_, reply| match reply {
                AdminReply::Spender { by: SpentBy::Tx(txid), .. } => spenders.push(*txid),
                AdminReply::Spender { by: SpentBy::NoOutput, .. } => at_end = true,
                _ => {}
            })?;
            for spender in spenders {
                self.evict(lines, spender, source, evicted)?;
            }
            if at_end {
                return Ok(());
            }
            from += OUTPUTS_PIECE;
        }
    }

    /// Whatever of the pool is not final any more.
    fn evict_unfinal<L: Lines>(
        &mut self,
        lines: &mut L,
        context: &Context,
        source: &Source<'_, '_>,
        evicted: &mut Vec<TxId>,
    ) -> Result<(), L::Error> {
        let mut layout = TxLayout::new();
        let drained = self.drained(lines)?;
        for txid in lines.time_locked(&drained)? {
            if evicted.contains(&txid) {
                continue;
            }
            let tx = lines.pool_tx(&txid)?;
            let stays = parse(&tx, &mut layout)
                .is_ok_and(|tx| is_final(tx, context.height, context.median_time_past));
            if !stays {
                self.evict(lines, txid, source, evicted)?;
            }
        }
        Ok(())
    }

    /// Pack's list with the block's transactions in front.
    fn put_back<L: Lines>(
        lines: &mut L,
        block: u32,
        drained: &[ParentSeq],
        leaves: &[Restored],
    ) -> Result<Result<(), PackRefusal>, L::Error> {
        super::in_pieces(leaves, RESTORED_PIECE, drained, |piece, drained, last| {
            let (drained, leaves) = (Records::Own(drained), Records::Own(piece));
            Self::command(lines, &PackCommand::Disconnected { block, last, drained, leaves })
        })?;
        Ok(Self::pack_done(lines, block)?.map(|_| ()))
    }
}
