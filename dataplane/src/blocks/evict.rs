//! Taking transactions back: one with all its descendants, or everything a failed block brought.
//!
//! Evicting walks down the spenders that homes name, takes the leaves first, gives their coins back at the owners, and comes
//! up again. A coin on its way to be spent is waited for: its attempt ends by itself.

use super::walk::Walk;
use super::{Conductor, Lines, Trouble};
use crate::msg::admin::{Admin, AdminReply, EvictStep, SpendState, Whereabouts};
use crate::msg::pack_control::PackCommand;
use crate::msg::{Context, Records};
use consensus::hash::TxId;
use consensus::tx::{OutPoint, TxLayout, parse};

/// Where the bytes of what is evicted are found.
#[derive(Debug)]
pub(super) enum Source<'w, 'b> {
    /// In the pool.
    Pool,
    /// In this block or in the pool.
    Block(&'w Walk<'b>),
}

/// The coins a transaction spends.
pub(super) fn coins_of(tx: &[u8]) -> Vec<OutPoint> {
    let mut layout = TxLayout::new();
    match parse(tx, &mut layout) {
        Ok(view) if !view.is_coinbase() => view.inputs().map(|input| input.prev).collect(),
        _ => Vec::new(),
    }
}

impl Conductor {
    /// Evicts a transaction with all its descendants; who went is added to `evicted`, descendants first.
    pub(super) fn evict<L: Lines>(
        &mut self,
        lines: &mut L,
        txid: TxId,
        source: &Source<'_, '_>,
        evicted: &mut Vec<TxId>,
    ) -> Result<(), L::Error> {
        if !matches!(self.whereabouts(lines, &txid)?, Whereabouts::Unmined { .. }) {
            // Gone already, as a descendant of another.
            return Ok(());
        }
        // Its bytes are asked for first: with its record the pool forgets them.
        let spent = coins(lines, &txid, source)?;
        let mut path = vec![(txid, 0, spent)];
        let mut idle = 0;
        while let Some((txid, from_vout, _)) = path.last() {
            let (txid, from_vout) = (*txid, *from_vout);
            match self.evict_step(lines, txid, from_vout)? {
                EvictStep::Done => {
                    let (_, _, spent) = path.pop().expect("it is being looked at");
                    self.unspend_all(lines, &txid, &spent)?;
                    evicted.push(txid);
                    idle = 0;
                }
                EvictStep::Spent { vout, by, .. } => {
                    path.last_mut().expect("it is being looked at").1 = vout;
                    let spent = coins(lines, &by, source)?;
                    path.push((by, 0, spent));
                    idle = 0;
                }
                EvictStep::Held { vout } => {
                    path.last_mut().expect("it is being looked at").1 = vout;
                    lines.rest("an attempt that holds a coin of an evicted transaction", idle)?;
                    idle += 1;
                }
                EvictStep::More { vout } => {
                    // Also where pack's link is full for a moment.
                    if vout == from_vout {
                        lines.rest("room to tell pack of an eviction", idle)?;
                        idle += 1;
                    }
                    path.last_mut().expect("it is being looked at").1 = vout;
                }
                EvictStep::Unknown | EvictStep::Mined => {
                    let what = "a descendant of what is evicted";
                    return Err(Trouble::Gone { txid, what }.into());
                }
            }
        }
        Ok(())
    }

    /// Tells pack that no more evictions come which belong to no block.
    pub(super) fn end_evictions<L: Lines>(&mut self, lines: &mut L) -> Result<(), L::Error> {
        let drained = self.drained(lines)?;
        let drained = Records::Own(&drained[..]);
        Self::command(lines, &PackCommand::EvictionsDone { drained })
    }

    fn evict_step<L: Lines>(
        &mut self,
        lines: &mut L,
        txid: TxId,
        from_vout: u32,
    ) -> Result<EvictStep, L::Error> {
        let mut orders = self.orders(Context::default());
        orders.put(self.home(&txid), &Admin::Evict { token: 0, txid, from_vout });
        let mut got = EvictStep::Unknown;
        orders.send(lines, "an eviction", &mut |_, reply| {
            if let AdminReply::Evict { step, .. } = reply {
                got = *step;
            }
        })?;
        Ok(got)
    }

    /// Gives the coins of an evicted transaction back.
    fn unspend_all<L: Lines>(
        &mut self,
        lines: &mut L,
        by: &TxId,
        coins: &[OutPoint],
    ) -> Result<(), L::Error> {
        let mut left: Vec<OutPoint> = coins.to_vec();
        let mut idle = 0;
        while !left.is_empty() {
            let mut orders = self.orders(Context::default());
            for (token, &outpoint) in left.iter().enumerate() {
                let token = token as u64;
                let order = Admin::Unspend { token, outpoint, by: *by };
                orders.put(self.home(&outpoint.txid), &order);
            }
            let mut held = Vec::new();
            orders.send(lines, "coins given back", &mut |_, reply| {
                if let AdminReply::Unspent { token, state: SpendState::Held } = reply {
                    held.push(*token as usize);
                }
            })?;
            left = held.into_iter().map(|i| left[i]).collect();
            if !left.is_empty() {
                lines.rest("spends that are on their way", idle)?;
                idle += 1;
            }
        }
        Ok(())
    }

    /// Takes transactions of a block that is not on the chain out of the shards, in the order given: children first.
    ///
    /// Each one's outputs are given back by its children's orders, which stand before its own on the way to its home, so one
    /// round is enough unless somebody else has a hand in it.
    pub(super) fn take_back<L: Lines>(
        &mut self,
        lines: &mut L,
        context: Context,
        walk: &Walk<'_>,
        which: &[usize],
        evicted: &mut Vec<TxId>,
    ) -> Result<(), L::Error> {
        let mut left: Vec<(usize, u32)> = which.iter().map(|&i| (i, 0)).collect();
        let mut idle = 0;
        while !left.is_empty() {
            let mut orders = self.orders(context);
            for (at, &(i, from_vout)) in left.iter().enumerate() {
                let (txid, token) = (walk.txids[i], at as u64);
                orders.put(self.home(&txid), &Admin::Evict { token, txid, from_vout });
                for outpoint in walk.coins(i) {
                    let order = Admin::Unspend { token, outpoint, by: txid };
                    orders.put(self.home(&outpoint.txid), &order);
                }
            }
            let mut steps = vec![EvictStep::Unknown; left.len()];
            let mut held = vec![false; left.len()];
            orders.send(lines, "a block that is taken back", &mut |_, reply| match *reply {
                AdminReply::Evict { token, step } => steps[token as usize] = step,
                AdminReply::Unspent { token, state } => {
                    held[token as usize] |= state == SpendState::Held;
                }
                _ => {}
            })?;
            let mut again = Vec::new();
            let mut moved = false;
            for (at, &(i, from_vout)) in left.iter().enumerate() {
                let next = match steps[at] {
                    EvictStep::Done => {
                        evicted.push(walk.txids[i]);
                        moved = true;
                        None
                    }
                    EvictStep::Unknown | EvictStep::Mined => None,
                    EvictStep::Held { vout } => Some(vout),
                    EvictStep::More { vout } => {
                        moved |= vout > from_vout;
                        Some(vout)
                    }
                    EvictStep::Spent { vout, by, .. } => {
                        // One of the pool, or of this block and in line already.
                        if !which.iter().any(|&w| walk.txids[w] == by) {
                            self.evict(lines, by, &Source::Block(walk), evicted)?;
                            moved = true;
                        }
                        Some(vout)
                    }
                };
                match next {
                    Some(vout) => again.push((i, vout)),
                    // Its record is gone, a spend of it is still on the way.
                    None if held[at] => again.push((i, 0)),
                    None => {}
                }
            }
            left = again;
            if moved {
                idle = 0;
            } else if !left.is_empty() {
                lines.rest("what a block left behind", idle)?;
                idle += 1;
            }
        }
        Ok(())
    }
}

/// The coins a transaction spends, from the block in hand or from the pool.
fn coins<L: Lines>(
    lines: &mut L,
    txid: &TxId,
    source: &Source<'_, '_>,
) -> Result<Vec<OutPoint>, L::Error> {
    if let Source::Block(walk) = source
        && let Some(i) = walk.txids.iter().position(|t| t == txid)
    {
        return Ok(coins_of(walk.txs[i]));
    }
    Ok(coins_of(&lines.pool_tx(txid)?))
}
