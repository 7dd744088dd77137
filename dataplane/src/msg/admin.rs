//! What control-plane tells a shard (`control_shard`) and hears back (`shard_control`): chain, import, epochs, questions.
//!
//! One frag is one batch, as between coordinators and shards. Control messages are rare; none of them is on the hot path.

use super::Epoch;
use super::batch::Item;
use super::wire::{In, Out};
use consensus::hash::TxId;
use consensus::tx::OutPoint;

/// One item of a batch on `control_shard`.
#[derive(Clone, Copy, Debug)]
pub enum Admin<'a> {
    /// Create a mined coin (seed file, recorded previous outputs).
    Import {
        /// The coin.
        outpoint: OutPoint,
        /// Value.
        value_sat: u64,
        /// Height of its block.
        height: u32,
        /// Whether a coinbase created it.
        coinbase: bool,
        /// Its locking script.
        locking_script: &'a [u8],
    },
    /// Create the outputs of a coinbase mined at the batch's context.
    Coinbase {
        /// Its id.
        txid: TxId,
        /// Raw format.
        tx: &'a [u8],
    },
    /// A block is on the chain: the pool transactions that shard `shard` published as `from_seq..=to_seq` are mined in it,
    /// nothing per record. For our own block, one item for each range of each shard goes to *every* shard (an owner must
    /// know whether a spender whose home is elsewhere is mined), and at least one item, if need be with an empty range, so
    /// that every shard knows the block. For somebody else's block, one item with an empty range: its transactions were
    /// marked one by one as they were settled in its context.
    SetMined {
        /// Whose publish sequence the range counts.
        shard: u16,
        /// The block's number.
        block: u32,
        /// Its height.
        height: u32,
        /// First publish sequence.
        from_seq: u64,
        /// Last publish sequence; below `from_seq` for none.
        to_seq: u64,
    },
    /// Undo every `SetMined` of the newest block.
    UnsetMined {
        /// The block's number.
        block: u32,
    },
    /// Freeze or unfreeze an unspent coin.
    Freeze {
        /// The coin.
        outpoint: OutPoint,
        /// True to freeze.
        frozen: bool,
    },
    /// Begin a new epoch (group commit).
    NextEpoch {
        /// Its number.
        epoch: Epoch,
    },
    /// Ask for a coin.
    Query {
        /// Given back.
        token: u64,
        /// The coin.
        outpoint: OutPoint,
    },
    /// Ask for the totals.
    Totals {
        /// Given back.
        token: u64,
    },
}

/// One item of a batch on `shard_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminReply<'a> {
    /// Everything of one request batch was done; `refused` of its items were not (full, not found, wrong state).
    Done {
        /// Items carried out.
        done: u32,
        /// Items refused.
        refused: u32,
    },
    /// To `Query`.
    Coin {
        /// From the question.
        token: u64,
        /// `None` where there is no unspent coin.
        coin: Option<super::reply::CoinReply<'a>>,
    },
    /// To `Totals`.
    Totals {
        /// From the question.
        token: u64,
        /// Unspent outputs.
        utxos: u64,
        /// Records.
        transactions: u64,
        /// Sum of the unspent values.
        value_sat: u64,
        /// Coins held by an attempt.
        reserved: u64,
        /// Announced and undecided transactions.
        announced: u64,
        /// Entries in wait lists and watches.
        waiting: u64,
        /// The newest publish sequence.
        publish_seq: u64,
    },
}

impl<'a> Item<'a> for Admin<'a> {
    fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = Out::new(buf);
        match self {
            Self::Import { outpoint, value_sat, height, coinbase, locking_script } => {
                w.u8(1);
                w.outpoint(outpoint);
                w.u64(*value_sat);
                w.u32(*height);
                w.u8(u8::from(*coinbase));
                w.u32(locking_script.len() as u32);
                w.bytes(locking_script);
            }
            Self::Coinbase { txid, tx } => {
                w.u8(2);
                w.txid(txid);
                w.u32(tx.len() as u32);
                w.bytes(tx);
            }
            Self::SetMined { shard, block, height, from_seq, to_seq } => {
                w.u8(3);
                w.u16(*shard);
                w.u32(*block);
                w.u32(*height);
                w.u64(*from_seq);
                w.u64(*to_seq);
            }
            Self::UnsetMined { block } => {
                w.u8(4);
                w.u32(*block);
            }
            Self::Freeze { outpoint, frozen } => {
                w.u8(5);
                w.outpoint(outpoint);
                w.u8(u8::from(*frozen));
            }
            Self::NextEpoch { epoch } => {
                w.u8(6);
                w.u32(epoch.incarnation);
                w.u64(epoch.number);
            }
            Self::Query { token, outpoint } => {
                w.u8(7);
                w.u64(*token);
                w.outpoint(outpoint);
            }
            Self::Totals { token } => {
                w.u8(8);
                w.u64(*token);
            }
        }
        w.fits().then_some(w.len())
    }

    fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut r = In::new(bytes);
        let item = match r.u8()? {
            1 => {
                let outpoint = r.outpoint()?;
                let value_sat = r.u64()?;
                let height = r.u32()?;
                let coinbase = r.u8()? != 0;
                let len = r.u32()? as usize;
                let locking_script = r.bytes(len)?;
                Self::Import { outpoint, value_sat, height, coinbase, locking_script }
            }
            2 => {
                let txid = r.txid()?;
                let len = r.u32()? as usize;
                Self::Coinbase { txid, tx: r.bytes(len)? }
            }
            3 => Self::SetMined {
                shard: r.u16()?,
                block: r.u32()?,
                height: r.u32()?,
                from_seq: r.u64()?,
                to_seq: r.u64()?,
            },
            4 => Self::UnsetMined { block: r.u32()? },
            5 => Self::Freeze { outpoint: r.outpoint()?, frozen: r.u8()? != 0 },
            6 => Self::NextEpoch { epoch: Epoch { incarnation: r.u32()?, number: r.u64()? } },
            7 => Self::Query { token: r.u64()?, outpoint: r.outpoint()? },
            8 => Self::Totals { token: r.u64()? },
            _ => return None,
        };
        Some((item, bytes.len() - r.rest().len()))
    }
}

impl<'a> Item<'a> for AdminReply<'a> {
    fn encode(&self, buf: &mut [u8]) -> Option<usize> {
        let mut w = Out::new(buf);
        match self {
            Self::Done { done, refused } => {
                w.u8(1);
                w.u32(*done);
                w.u32(*refused);
            }
            Self::Coin { token, coin } => {
                w.u8(2);
                w.u64(*token);
                w.u8(u8::from(coin.is_some()));
                if let Some(c) = coin {
                    w.u64(c.value_sat);
                    w.u32(c.height);
                    w.u8(u8::from(c.coinbase) | u8::from(c.pending) << 1);
                    w.u32(c.locking_script.len() as u32);
                    w.bytes(c.locking_script);
                }
            }
            Self::Totals {
                token,
                utxos,
                transactions,
                value_sat,
                reserved,
                announced,
                waiting,
                publish_seq,
            } => {
                w.u8(3);
                for v in [
                    token,
                    utxos,
                    transactions,
                    value_sat,
                    reserved,
                    announced,
                    waiting,
                    publish_seq,
                ] {
                    w.u64(*v);
                }
            }
        }
        w.fits().then_some(w.len())
    }

    fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut r = In::new(bytes);
        let item = match r.u8()? {
            1 => Self::Done { done: r.u32()?, refused: r.u32()? },
            2 => {
                let token = r.u64()?;
                let coin = if r.u8()? == 0 {
                    None
                } else {
                    let value_sat = r.u64()?;
                    let height = r.u32()?;
                    let bits = r.u8()?;
                    let len = r.u32()? as usize;
                    let locking_script = r.bytes(len)?;
                    Some(super::reply::CoinReply {
                        value_sat,
                        height,
                        coinbase: bits & 1 != 0,
                        pending: bits & 2 != 0,
                        locking_script,
                    })
                };
                Self::Coin { token, coin }
            }
            3 => Self::Totals {
                token: r.u64()?,
                utxos: r.u64()?,
                transactions: r.u64()?,
                value_sat: r.u64()?,
                reserved: r.u64()?,
                announced: r.u64()?,
                waiting: r.u64()?,
                publish_seq: r.u64()?,
            },
            _ => return None,
        };
        Some((item, bytes.len() - r.rest().len()))
    }
}
