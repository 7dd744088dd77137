//! Orders about single coins: freeze, unfreeze, lock, reassign; and the outputs of a mined transaction at once.
//!
//! Source: Teranode 3.1 and 3.3 (`FreezeUTXOs`, `UnFreezeUTXOs`, `ReAssignUTXO`, `SetLocked`).

use crate::config::IMPORT_VOUT_MAX;
use crate::form::inline_bytes;
use crate::journal::{Coins, ImportsRecord, Record};
use crate::shard::Shard;
use crate::store::{MinedTx, Reassigned};
use crate::table::{
    ENTRY_BYTES, EXTENT_HEADER_BYTES, EXTENT_OUTPUTS, HEADER_BYTES, Rec, flag, out,
};
use crate::verdict::Verdict;
use consensus::tx::OutPoint;
use dataplane::msg::WakeReason;

impl Shard {
    /// An unspent coin that nobody holds, or why there is none.
    fn idle_coin(&self, outpoint: &OutPoint) -> Result<(Rec, u64), Verdict> {
        let found = self.table.find(&outpoint.txid).filter(|&rec| self.table.is(rec, flag::LIVE));
        let Some(rec) = found else { return Err(Verdict::TxMissing) };
        if self.table.is(rec, flag::EVICTING) {
            return Err(Verdict::Conflicting);
        }
        let Some(bits) = self.coin_bits(rec, outpoint.vout) else {
            return Err(Verdict::CoinMissing);
        };
        if let Some(claim) = self.newest_spend(rec, outpoint.vout, bits) {
            return Err(Verdict::Spent { by: self.table.claimant(claim) });
        }
        if bits & out::HELD != 0 {
            let by = self.table.claimant(self.table.claim(rec, outpoint.vout));
            return Err(Verdict::Busy { by });
        }
        Ok((rec, bits))
    }

    /// Freezes an unspent coin.
    pub fn freeze(&mut self, outpoint: &OutPoint) -> Verdict {
        match self.idle_coin(outpoint) {
            Ok((_, bits)) if bits & out::FROZEN != 0 => Verdict::AlreadyFrozen,
            Ok((rec, bits)) => {
                self.table.put_output(rec, outpoint.vout, bits | out::FROZEN);
                self.log_marks(outpoint, bits | out::FROZEN);
                Verdict::Done
            }
            Err(verdict) => verdict,
        }
    }

    /// Ends a freeze.
    pub fn unfreeze(&mut self, outpoint: &OutPoint) -> Verdict {
        match self.idle_coin(outpoint) {
            Ok((_, bits)) if bits & out::FROZEN == 0 => Verdict::NotFrozen,
            Ok((rec, bits)) => {
                self.table.put_output(rec, outpoint.vout, bits & !out::FROZEN);
                self.log_marks(outpoint, bits & !out::FROZEN);
                Verdict::Done
            }
            Err(verdict) => verdict,
        }
    }

    /// Lets nobody take a coin until it is unlocked; done also where it is as it should be.
    pub fn set_locked(&mut self, outpoint: &OutPoint, locked: bool) -> Verdict {
        match self.idle_coin(outpoint) {
            Ok((rec, bits)) => {
                let bits = if locked { bits | out::LOCKED } else { bits & !out::LOCKED };
                self.table.put_output(rec, outpoint.vout, bits);
                self.log_marks(outpoint, bits);
                Verdict::Done
            }
            Err(verdict) => verdict,
        }
    }

    /// Gives a frozen coin another script; it is unfrozen, and cannot be spent before a height.
    pub fn reassign(&mut self, order: &Reassigned<'_>) -> Verdict {
        let vout = order.outpoint.vout;
        let (rec, bits) = match self.idle_coin(&order.outpoint) {
            Ok(found) => found,
            Err(verdict) => return verdict,
        };
        if bits & out::FROZEN == 0 {
            return Verdict::NotFrozen;
        }
        let mut scratch = crate::form::SCRATCH;
        if self.table.script(rec, vout, &mut scratch) != order.old {
            return Verdict::Differs;
        }
        if !self.table.reassign(rec, vout, order.new, order.from_height) {
            self.counts.full += 1;
            return Verdict::Full;
        }
        let bits = self.table.output(rec, vout);
        self.table.put_output(rec, vout, bits & !out::FROZEN);
        let (outpoint, from_height) = (order.outpoint, order.from_height);
        self.log.push(&Record::Reassign { outpoint, from_height, locking_script: order.new });
        Verdict::Done
    }

    /// First height at which a reassigned coin may be spent; `None` for any other.
    pub fn reassigned_from(&self, outpoint: &OutPoint) -> Option<u32> {
        let rec = self.table.find(&outpoint.txid)?;
        let bits = self.coin_bits(rec, outpoint.vout)?;
        (bits & out::REASSIGNED != 0).then(|| self.table.reassigned_from(rec, outpoint.vout))
    }

    /// The coins that are left of a mined transaction, as one compact record. Other outputs of it never come to be.
    pub fn import_tx(&mut self, tx: &MinedTx<'_>) -> Verdict {
        let Some(&(last, ..)) = tx.coins.last() else { return Verdict::Done };
        let rising = tx.coins.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let small = tx.coins.iter().all(|coin| coin.1 >> out::VALUE_BITS == 0);
        if last > IMPORT_VOUT_MAX || !rising || !small {
            return Verdict::InvalidSize;
        }
        let anchor = match self.table.find(&tx.txid) {
            Some(rec) if !self.table.is(rec, flag::ANCHOR) => return Verdict::Exists,
            found => found,
        };
        let full = anchor.is_none() && self.table.index.is_full();
        let rec = if full { None } else { self.write_mined(tx, last + 1) };
        let Some(rec) = rec else {
            self.counts.full += 1;
            return Verdict::Full;
        };
        self.table.put_height(rec, tx.height);
        self.table.put_unspent(rec, tx.coins.len() as u32);
        self.table.enter(rec);
        if anchor.is_some() {
            self.totals.watched -= 1;
        }
        self.totals.transactions += 1;
        self.totals.utxos += tx.coins.len() as u64;
        self.totals.value_sat += tx.coins.iter().map(|coin| coin.1).sum::<u64>();
        if self.table.waiting(rec) > 0 {
            self.ripen(rec, WakeReason::Free);
        }
        let (txid, height, coinbase) = (tx.txid, tx.height, tx.coinbase);
        let coins = Coins::Own(tx.coins);
        self.log.push(&Record::Imports(ImportsRecord { txid, height, coinbase, coins }));
        Verdict::Done
    }

    fn write_mined(&mut self, tx: &MinedTx<'_>, outputs: u32) -> Option<Rec> {
        let flags = flag::LIVE | flag::SETTLED | if tx.coinbase { flag::COINBASE } else { 0 };
        let scripts = |coins: &[(u32, u64, &[u8])]| -> usize {
            coins.iter().map(|coin| inline_bytes(coin.2)).sum()
        };
        let rec = self.table.alloc(&tx.txid, flags, outputs, scripts(tx.coins))?;
        let with_extents = outputs > EXTENT_OUTPUTS;
        let same = |a: &(u32, u64, &[u8]), b: &(u32, u64, &[u8])| {
            !with_extents || a.0 / EXTENT_OUTPUTS == b.0 / EXTENT_OUTPUTS
        };
        for chunk in tx.coins.chunk_by(same) {
            let mut at = HEADER_BYTES + outputs as usize * ENTRY_BYTES;
            if with_extents {
                let number = chunk[0].0 / EXTENT_OUTPUTS;
                if self.table.add_extent(rec, number, scripts(chunk)).is_none() {
                    self.table.dealloc(rec);
                    return None;
                }
                at = EXTENT_HEADER_BYTES + EXTENT_OUTPUTS as usize * ENTRY_BYTES;
            }
            for &(vout, value_sat, script) in chunk {
                let Some(took) = self.table.write_coin(rec, vout, value_sat, script, at) else {
                    self.table.dealloc(rec);
                    return None;
                };
                at += took;
            }
        }
        Some(rec)
    }
}
