//! What a shard publishes about each transaction it decides: link `shard_pack` (consumers `pack` and `store`).
//!
//! `publish_seq` counts, per shard, from 1 without gaps; `parents` names, per shard, the publish sequence pack must have drained
//! before it may place this transaction. That alone gives parents before children: no clocks, no sorting.
//!
//! ```text
//! 0      1       2       4       8             16       20        24      32      40     72      74
//! | kind | spare | shard | block | publish_seq | incarn | spare   | epoch | fee   | txid | n     | n x (shard u16, seq u64) | tx ...
//! ```

use super::Epoch;
use super::request::List;
use super::wire::{In, Out};
use consensus::hash::TxId;

/// How far one shard's link must be drained before a child is placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentSeq {
    /// Whose link.
    pub shard: u16,
    /// Up to and including this publish sequence.
    pub seq: u64,
}

impl ParentSeq {
    /// Bytes of one encoded record.
    pub const LEN: usize = 10;
}

/// Where a published transaction belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AcceptedKind {
    /// Accepted to the pool: pack places it.
    Pool = 0,
    /// Accepted as part of block `block`; not for our subtrees.
    Block = 1,
    /// Was in the pool and lost to a block: pack takes it out.
    Evicted = 2,
}

/// One frag on `shard_pack`.
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'a> {
    /// Pool, block or evicted.
    pub kind: AcceptedKind,
    /// The publishing shard.
    pub shard: u16,
    /// The block of kind `Block`, else 0.
    pub block: u32,
    /// Counts this shard's frags, from 1, without gaps.
    pub publish_seq: u64,
    /// Epoch of the decision record.
    pub epoch: Epoch,
    /// Fee, satoshi.
    pub fee_sat: u64,
    /// The transaction.
    pub txid: TxId,
    /// What must be drained first.
    pub parents: List<'a, ParentSeq>,
    /// The transaction, raw format; empty for `Evicted`, and for a `Block` transaction that was published to the pool before.
    pub tx: &'a [u8],
}

impl<'a> Accepted<'a> {
    /// Bytes of a frag without parents and transaction.
    pub const FIXED_LEN: usize = 74;

    /// Bytes the frag takes.
    pub fn encoded_len(&self) -> usize {
        Self::FIXED_LEN + self.parents.len() * ParentSeq::LEN + self.tx.len()
    }

    /// Writes the frag; `None` when `buf` is shorter than [`Accepted::encoded_len`].
    pub fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = Out::new(buf);
        w.u8(self.kind as u8);
        w.u8(0);
        w.u16(self.shard);
        w.u32(self.block);
        w.u64(self.publish_seq);
        w.u32(self.epoch.incarnation);
        w.u32(0);
        w.u64(self.epoch.number);
        w.u64(self.fee_sat);
        w.txid(&self.txid);
        w.u16(self.parents.len() as u16);
        for parent in self.parents.iter() {
            w.u16(parent.shard);
            w.u64(parent.seq);
        }
        w.bytes(self.tx);
        w.fits().then_some(w.len())
    }

    /// Reads a frag.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut r = In::new(bytes);
        let kind = match r.u8()? {
            0 => AcceptedKind::Pool,
            1 => AcceptedKind::Block,
            2 => AcceptedKind::Evicted,
            _ => return None,
        };
        r.u8()?;
        let shard = r.u16()?;
        let block = r.u32()?;
        let publish_seq = r.u64()?;
        let incarnation = r.u32()?;
        r.u32()?;
        let number = r.u64()?;
        let fee_sat = r.u64()?;
        let txid = r.txid()?;
        let count = usize::from(r.u16()?);
        let parents = List::Wire(r.bytes(count * ParentSeq::LEN)?);
        let epoch = Epoch { incarnation, number };
        Some(Self { kind, shard, block, publish_seq, epoch, fee_sat, txid, parents, tx: r.rest() })
    }
}
