//! What a journal says: one record for each change of a shard's durable state, and how it lies in bytes.
//!
//! ```text
//! record     length u32 of what follows | kind u8 | fields
//! outpoint   txid 32 | vout u32
//! context    block u32 | height u32 | median time past u32 | rule set u32
//! note       connect u8 | block u32 | height u32 | block hash 32 | coinbase txid 32
//! parents    n u16 | n x (shard u16 | publish sequence u64)
//!
//!  1 decision    flags u8 (1 copy, 2 commit) | context | fee u64 | publish sequence u64 | decided u64 | txid 32 | parents | transaction
//!  2 known       txid 32 | block u32 | height u32
//!  3 spend       outpoint | by 32 | vin u32 | block u32 | publish sequence u64 | decided u64
//!  4 block spend outpoint | by 32 | block u32
//!  5 unspend     outpoint | by 32
//!  6 evicting    txid 32 | from u32 | to u32
//!  7 evicted     txid 32
//!  8 unmine      txid 32
//!  9 respend     outpoint | by 32 | publish sequence u64
//! 10 mined       shard u16 | block u32 | height u32 | from u64 | to u64
//! 11 not mined   block u32
//! 12 import      outpoint | value u64 | height u32 | coinbase u8 | script
//! 13 imports     txid 32 | height u32 | coinbase u8 | n u32 | n x (vout u32 | value u64 | length u32 | script)
//! 14 coinbase    context | txid 32 | transaction
//! 15 marks       outpoint | frozen u8 | locked u8
//! 16 reassign    outpoint | from height u32 | script
//! 17 pruned      txid 32
//! 18 begin       note
//! 19 tip         note
//! 20 kept        txid 32 | until height u32
//! ```
//!
//! Little endian. A field without a length goes to the end of its record. Decoding is total: bytes that no shard wrote are `None`.
//! A commit's spends are said by its decision; those of a settle are records of their own, each with the decision's epoch.

use consensus::hash::{BlockHash, TxId};
use consensus::tx::OutPoint;
use dataplane::msg::request::List;
use dataplane::msg::{Context, ParentSeq};

/// Version of records and frames.
pub const JOURNAL_VERSION: u16 = 1;
/// Bytes of the length in front of a record.
pub const LENGTH_BYTES: usize = 4;
/// Longest record, its length not counted.
pub const RECORD_BYTES_MAX: usize = u32::MAX as usize;
/// Bytes of a decision without parents and transaction, its length counted.
pub const DECISION_BYTES: usize = LENGTH_BYTES + 1 + 1 + 16 + 8 + 8 + 8 + 32 + 2;
/// Bytes of a spend, its length counted.
pub const SPEND_BYTES: usize = LENGTH_BYTES + 1 + 36 + 32 + 4 + 4 + 8 + 8;

/// A decided transaction: the whole of it.
#[derive(Clone, Copy, Debug)]
pub struct DecisionRecord<'a> {
    /// Copied forward from an older part of the journal: says nothing new about the table.
    pub copy: bool,
    /// Its coins and home have one owner: they were spent by this very record.
    pub commit: bool,
    /// In whose context it was decided.
    pub context: Context,
    /// Fee, satoshi.
    pub fee_sat: u64,
    /// Its place among its home's publications.
    pub publish_seq: u64,
    /// Number of the epoch of the decision; of a copy, that of the original.
    pub decided: u64,
    /// Its id.
    pub txid: TxId,
    /// What its unmined parents' homes had published.
    pub parents: List<'a, ParentSeq>,
    /// Raw format.
    pub tx: &'a [u8],
}

/// One spent coin, at its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendRecord {
    /// The coin.
    pub outpoint: OutPoint,
    /// The spender.
    pub by: TxId,
    /// Its input.
    pub vin: u32,
    /// The block in whose context it was spent; 0 is the pool.
    pub block: u32,
    /// The spender's place among its home's publications; 0 of a block's.
    pub publish_seq: u64,
    /// Number of the epoch of the decision.
    pub decided: u64,
}

/// One coin that was imported by itself.
#[derive(Clone, Copy, Debug)]
pub struct ImportRecord<'a> {
    /// The coin.
    pub outpoint: OutPoint,
    /// Value.
    pub value_sat: u64,
    /// Height of its block.
    pub height: u32,
    /// Whether a coinbase created it.
    pub coinbase: bool,
    /// Its locking script.
    pub locking_script: &'a [u8],
}

/// The coins that were imported of one mined transaction.
#[derive(Clone, Copy, Debug)]
pub struct ImportsRecord<'a> {
    /// Its id.
    pub txid: TxId,
    /// Height of its block.
    pub height: u32,
    /// Whether it is a coinbase.
    pub coinbase: bool,
    /// Output number, value and script of each.
    pub coins: Coins<'a>,
}

/// Output number, value and script of each coin.
#[derive(Clone, Copy, Debug)]
pub enum Coins<'a> {
    /// As they lie in a record: so many, in these bytes.
    Wire(u32, &'a [u8]),
    /// As a caller holds them.
    Own(&'a [(u32, u64, &'a [u8])]),
}

impl<'a> Coins<'a> {
    /// All of them.
    pub fn to_vec(self) -> Vec<(u32, u64, &'a [u8])> {
        match self {
            Self::Own(coins) => coins.to_vec(),
            Self::Wire(n, bytes) => {
                let mut from = Bytes(bytes);
                let coins = (0..n).map_while(|_| from.coin()).collect::<Vec<_>>();
                assert!(coins.len() == n as usize, "coins were looked at when they were decoded");
                coins
            }
        }
    }
}

/// A block as the chain's records name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockNote {
    /// Whether it is being connected, or disconnected.
    pub connect: bool,
    /// Its number.
    pub block: u32,
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// Its first transaction.
    pub coinbase: TxId,
}

/// One change of durable state. See the module for the bytes.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// A transaction is decided, at its home.
    Decision(DecisionRecord<'a>),
    /// A transaction of the pool is settled in a block.
    Known {
        /// Which.
        txid: TxId,
        /// The block.
        block: u32,
        /// Its height.
        height: u32,
    },
    /// A coin is spent, at its owner.
    Spend(SpendRecord),
    /// A coin's spend is that of a block from now on.
    BlockSpend {
        /// The coin.
        outpoint: OutPoint,
        /// The spender.
        by: TxId,
        /// The block.
        block: u32,
    },
    /// A spend is undone.
    Unspend {
        /// The coin.
        outpoint: OutPoint,
        /// Who had spent it.
        by: TxId,
    },
    /// A transaction is being evicted; of these outputs the unspent ones are gone.
    Evicting {
        /// Which.
        txid: TxId,
        /// First output.
        from: u32,
        /// The one behind the last.
        to: u32,
    },
    /// A transaction is gone.
    Evicted {
        /// Which.
        txid: TxId,
    },
    /// A transaction of a disconnected block is the pool's.
    Unmine {
        /// Which.
        txid: TxId,
    },
    /// A spend of a disconnected block is the pool's.
    Respend {
        /// The coin.
        outpoint: OutPoint,
        /// The spender.
        by: TxId,
        /// Its place among its home's publications.
        publish_seq: u64,
    },
    /// A block is connected, and these publications of a shard are in it.
    Mined {
        /// Whose publications.
        shard: u16,
        /// The block.
        block: u32,
        /// Its height.
        height: u32,
        /// First.
        from_seq: u64,
        /// Last; below the first for none.
        to_seq: u64,
    },
    /// A block is disconnected.
    NotMined {
        /// The block.
        block: u32,
    },
    /// One coin by itself.
    Import(ImportRecord<'a>),
    /// The coins of a mined transaction.
    Imports(ImportsRecord<'a>),
    /// The outputs of a coinbase.
    Coinbase {
        /// Its block.
        context: Context,
        /// Its id.
        txid: TxId,
        /// Raw format.
        tx: &'a [u8],
    },
    /// What may be done with a coin from now on.
    Marks {
        /// The coin.
        outpoint: OutPoint,
        /// Frozen by order.
        frozen: bool,
        /// Locked by order.
        locked: bool,
    },
    /// A coin has another script.
    Reassign {
        /// The coin.
        outpoint: OutPoint,
        /// First height at which it may be spent.
        from_height: u32,
        /// The script.
        locking_script: &'a [u8],
    },
    /// A record that nobody needs any more is gone.
    Pruned {
        /// Which.
        txid: TxId,
    },
    /// A block begins to be connected or disconnected.
    Begin(BlockNote),
    /// It is done, and this block is the tip.
    Tip(BlockNote),
    /// A record stays below a height, whatever is spent.
    Kept {
        /// Which.
        txid: TxId,
        /// First height at which it may go.
        until_height: u32,
    },
}

const DECISION: u8 = 1;
const KNOWN: u8 = 2;
const SPEND: u8 = 3;
const BLOCK_SPEND: u8 = 4;
const UNSPEND: u8 = 5;
const EVICTING: u8 = 6;
const EVICTED: u8 = 7;
const UNMINE: u8 = 8;
const RESPEND: u8 = 9;
const MINED: u8 = 10;
const NOT_MINED: u8 = 11;
const IMPORT: u8 = 12;
const IMPORTS: u8 = 13;
const COINBASE: u8 = 14;
const MARKS: u8 = 15;
const REASSIGN: u8 = 16;
const PRUNED: u8 = 17;
const BEGIN: u8 = 18;
const TIP: u8 = 19;
const KEPT: u8 = 20;

const COPY: u8 = 1;
const COMMIT: u8 = 2;

impl<'a> Record<'a> {
    /// Writes everything but the tail to the end of `to`, with the length of both in front; the tail is to follow.
    pub(crate) fn encode_head(&self, to: &mut Vec<u8>) -> &'a [u8] {
        let start = to.len();
        to.extend_from_slice(&[0; LENGTH_BYTES]);
        self.fields(to);
        let tail = self.tail();
        let len = to.len() - start - LENGTH_BYTES + tail.len();
        assert!(len <= RECORD_BYTES_MAX, "a record of {len} bytes");
        to[start..start + LENGTH_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
        tail
    }

    /// The bytes that go to the end of the record, behind its head.
    pub(crate) fn tail(&self) -> &'a [u8] {
        match *self {
            Self::Decision(d) => d.tx,
            Self::Import(i) => i.locking_script,
            Self::Imports(ImportsRecord { coins: Coins::Wire(_, bytes), .. }) => bytes,
            Self::Coinbase { tx, .. } => tx,
            Self::Reassign { locking_script, .. } => locking_script,
            _ => &[],
        }
    }

    /// The whole record, at the end of `to`.
    pub fn encode(&self, to: &mut Vec<u8>) {
        let tail = self.encode_head(to);
        to.extend_from_slice(tail);
    }

    fn fields(&self, to: &mut Vec<u8>) {
        match *self {
            Self::Decision(d) => {
                let flags = if d.copy { COPY } else { 0 } | if d.commit { COMMIT } else { 0 };
                to.extend_from_slice(&[DECISION, flags]);
                put_context(to, &d.context);
                put_u64(to, d.fee_sat);
                put_u64(to, d.publish_seq);
                put_u64(to, d.decided);
                to.extend_from_slice(&d.txid.0);
                to.extend_from_slice(&(d.parents.len() as u16).to_le_bytes());
                for parent in d.parents.iter() {
                    to.extend_from_slice(&parent.shard.to_le_bytes());
                    put_u64(to, parent.seq);
                }
            }
            Self::Known { txid, block, height } => {
                to.push(KNOWN);
                to.extend_from_slice(&txid.0);
                put_u32(to, block);
                put_u32(to, height);
            }
            Self::Spend(s) => {
                to.push(SPEND);
                put_outpoint(to, &s.outpoint);
                to.extend_from_slice(&s.by.0);
                put_u32(to, s.vin);
                put_u32(to, s.block);
                put_u64(to, s.publish_seq);
                put_u64(to, s.decided);
            }
            Self::BlockSpend { outpoint, by, block } => {
                to.push(BLOCK_SPEND);
                put_outpoint(to, &outpoint);
                to.extend_from_slice(&by.0);
                put_u32(to, block);
            }
            Self::Unspend { outpoint, by } => {
                to.push(UNSPEND);
                put_outpoint(to, &outpoint);
                to.extend_from_slice(&by.0);
            }
            Self::Evicting { txid, from, to: end } => {
                to.push(EVICTING);
                to.extend_from_slice(&txid.0);
                put_u32(to, from);
                put_u32(to, end);
            }
            Self::Evicted { txid } => put_id(to, EVICTED, &txid),
            Self::Unmine { txid } => put_id(to, UNMINE, &txid),
            Self::Pruned { txid } => put_id(to, PRUNED, &txid),
            Self::Respend { outpoint, by, publish_seq } => {
                to.push(RESPEND);
                put_outpoint(to, &outpoint);
                to.extend_from_slice(&by.0);
                put_u64(to, publish_seq);
            }
            Self::Mined { shard, block, height, from_seq, to_seq } => {
                to.push(MINED);
                to.extend_from_slice(&shard.to_le_bytes());
                put_u32(to, block);
                put_u32(to, height);
                put_u64(to, from_seq);
                put_u64(to, to_seq);
            }
            Self::NotMined { block } => {
                to.push(NOT_MINED);
                put_u32(to, block);
            }
            Self::Import(i) => {
                to.push(IMPORT);
                put_outpoint(to, &i.outpoint);
                put_u64(to, i.value_sat);
                put_u32(to, i.height);
                to.push(u8::from(i.coinbase));
            }
            Self::Imports(i) => {
                to.push(IMPORTS);
                to.extend_from_slice(&i.txid.0);
                put_u32(to, i.height);
                to.push(u8::from(i.coinbase));
                match i.coins {
                    Coins::Own(coins) => {
                        put_u32(to, coins.len() as u32);
                        for &(vout, value_sat, script) in coins {
                            put_u32(to, vout);
                            put_u64(to, value_sat);
                            put_u32(to, script.len() as u32);
                            to.extend_from_slice(script);
                        }
                    }
                    Coins::Wire(n, _) => put_u32(to, n),
                }
            }
            Self::Coinbase { context, txid, .. } => {
                to.push(COINBASE);
                put_context(to, &context);
                to.extend_from_slice(&txid.0);
            }
            Self::Marks { outpoint, frozen, locked } => {
                to.push(MARKS);
                put_outpoint(to, &outpoint);
                to.extend_from_slice(&[u8::from(frozen), u8::from(locked)]);
            }
            Self::Reassign { outpoint, from_height, .. } => {
                to.push(REASSIGN);
                put_outpoint(to, &outpoint);
                put_u32(to, from_height);
            }
            Self::Begin(note) => put_note(to, BEGIN, &note),
            Self::Tip(note) => put_note(to, TIP, &note),
            Self::Kept { txid, until_height } => {
                put_id(to, KEPT, &txid);
                put_u32(to, until_height);
            }
        }
    }

    /// A record from the bytes behind its length.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut r = Bytes(bytes);
        let record = match r.u8()? {
            DECISION => {
                let flags = r.u8()?;
                if flags & !(COPY | COMMIT) != 0 {
                    return None;
                }
                let (context, fee_sat) = (r.context()?, r.u64()?);
                let (publish_seq, decided, txid) = (r.u64()?, r.u64()?, r.txid()?);
                let parents = usize::from(r.u16()?);
                let parents = List::Wire(r.take(parents * ParentSeq::LEN)?);
                Self::Decision(DecisionRecord {
                    copy: flags & COPY != 0,
                    commit: flags & COMMIT != 0,
                    context,
                    fee_sat,
                    publish_seq,
                    decided,
                    txid,
                    parents,
                    tx: r.rest(),
                })
            }
            KNOWN => Self::Known { txid: r.txid()?, block: r.u32()?, height: r.u32()? },
            SPEND => Self::Spend(SpendRecord {
                outpoint: r.outpoint()?,
                by: r.txid()?,
                vin: r.u32()?,
                block: r.u32()?,
                publish_seq: r.u64()?,
                decided: r.u64()?,
            }),
            BLOCK_SPEND => {
                Self::BlockSpend { outpoint: r.outpoint()?, by: r.txid()?, block: r.u32()? }
            }
            UNSPEND => Self::Unspend { outpoint: r.outpoint()?, by: r.txid()? },
            EVICTING => Self::Evicting { txid: r.txid()?, from: r.u32()?, to: r.u32()? },
            EVICTED => Self::Evicted { txid: r.txid()? },
            UNMINE => Self::Unmine { txid: r.txid()? },
            RESPEND => {
                Self::Respend { outpoint: r.outpoint()?, by: r.txid()?, publish_seq: r.u64()? }
            }
            MINED => Self::Mined {
                shard: r.u16()?,
                block: r.u32()?,
                height: r.u32()?,
                from_seq: r.u64()?,
                to_seq: r.u64()?,
            },
            NOT_MINED => Self::NotMined { block: r.u32()? },
            IMPORT => Self::Import(ImportRecord {
                outpoint: r.outpoint()?,
                value_sat: r.u64()?,
                height: r.u32()?,
                coinbase: r.bool()?,
                locking_script: r.rest(),
            }),
            IMPORTS => {
                let (txid, height, coinbase, n) = (r.txid()?, r.u32()?, r.bool()?, r.u32()?);
                let bytes = r.rest();
                let mut coins = Bytes(bytes);
                for _ in 0..n {
                    coins.coin()?;
                }
                if !coins.0.is_empty() {
                    return None;
                }
                let coins = Coins::Wire(n, bytes);
                Self::Imports(ImportsRecord { txid, height, coinbase, coins })
            }
            COINBASE => Self::Coinbase { context: r.context()?, txid: r.txid()?, tx: r.rest() },
            MARKS => Self::Marks { outpoint: r.outpoint()?, frozen: r.bool()?, locked: r.bool()? },
            REASSIGN => Self::Reassign {
                outpoint: r.outpoint()?,
                from_height: r.u32()?,
                locking_script: r.rest(),
            },
            PRUNED => Self::Pruned { txid: r.txid()? },
            BEGIN => Self::Begin(r.note()?),
            TIP => Self::Tip(r.note()?),
            KEPT => Self::Kept { txid: r.txid()?, until_height: r.u32()? },
            _ => return None,
        };
        r.0.is_empty().then_some(record)
    }
}

fn put_u32(to: &mut Vec<u8>, value: u32) {
    to.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(to: &mut Vec<u8>, value: u64) {
    to.extend_from_slice(&value.to_le_bytes());
}

fn put_id(to: &mut Vec<u8>, kind: u8, txid: &TxId) {
    to.push(kind);
    to.extend_from_slice(&txid.0);
}

fn put_outpoint(to: &mut Vec<u8>, outpoint: &OutPoint) {
    to.extend_from_slice(&outpoint.txid.0);
    put_u32(to, outpoint.vout);
}

fn put_context(to: &mut Vec<u8>, context: &Context) {
    put_u32(to, context.block);
    put_u32(to, context.height);
    put_u32(to, context.median_time_past);
    put_u32(to, context.rule_set);
}

fn put_note(to: &mut Vec<u8>, kind: u8, note: &BlockNote) {
    to.extend_from_slice(&[kind, u8::from(note.connect)]);
    note.write(to);
}

impl BlockNote {
    /// Bytes of a note as [`BlockNote::write`] writes it.
    pub(crate) const BYTES: usize = 4 + 4 + 32 + 32;

    /// All but `connect`.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        put_u32(to, self.block);
        put_u32(to, self.height);
        to.extend_from_slice(&self.hash.0);
        to.extend_from_slice(&self.coinbase.0);
    }
}

/// Reads what the functions above write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn txid(&mut self) -> Option<TxId> {
        self.array().map(TxId)
    }

    fn outpoint(&mut self) -> Option<OutPoint> {
        Some(OutPoint { txid: self.txid()?, vout: self.u32()? })
    }

    fn context(&mut self) -> Option<Context> {
        Some(Context {
            block: self.u32()?,
            height: self.u32()?,
            median_time_past: self.u32()?,
            rule_set: self.u32()?,
        })
    }

    fn note(&mut self) -> Option<BlockNote> {
        let connect = self.bool()?;
        self.note_of(connect)
    }

    pub fn note_of(&mut self, connect: bool) -> Option<BlockNote> {
        Some(BlockNote {
            connect,
            block: self.u32()?,
            height: self.u32()?,
            hash: BlockHash(self.array()?),
            coinbase: self.txid()?,
        })
    }

    fn coin(&mut self) -> Option<(u32, u64, &'a [u8])> {
        let (vout, value_sat, len) = (self.u32()?, self.u64()?, self.u32()?);
        Some((vout, value_sat, self.take(len as usize)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> TxId {
        TxId([n; 32])
    }

    fn samples() -> Vec<Record<'static>> {
        let outpoint = OutPoint { txid: id(1), vout: 7 };
        let context = Context { block: 3, height: 4, median_time_past: 5, rule_set: 6 };
        let by = id(2);
        let note = BlockNote {
            connect: true,
            block: 9,
            height: 10,
            hash: BlockHash([3; 32]),
            coinbase: id(4),
        };
        let spend = SpendRecord { outpoint, by, vin: 1, block: 2, publish_seq: 3, decided: 4 };
        vec![
            Record::Decision(DecisionRecord {
                copy: true,
                commit: false,
                context,
                fee_sat: 8,
                publish_seq: 9,
                decided: 10,
                txid: id(5),
                parents: List::Own(&[
                    ParentSeq { shard: 1, seq: 2 },
                    ParentSeq { shard: 3, seq: 4 },
                ]),
                tx: &[1, 2, 3],
            }),
            Record::Known { txid: id(1), block: 2, height: 3 },
            Record::Spend(spend),
            Record::BlockSpend { outpoint, by, block: 2 },
            Record::Unspend { outpoint, by },
            Record::Evicting { txid: id(1), from: 2, to: 3 },
            Record::Evicted { txid: id(1) },
            Record::Unmine { txid: id(1) },
            Record::Respend { outpoint, by, publish_seq: 3 },
            Record::Mined { shard: 1, block: 2, height: 3, from_seq: 4, to_seq: 5 },
            Record::NotMined { block: 2 },
            Record::Import(ImportRecord {
                outpoint,
                value_sat: 1,
                height: 2,
                coinbase: true,
                locking_script: &[1, 2],
            }),
            Record::Imports(ImportsRecord {
                txid: id(1),
                height: 2,
                coinbase: false,
                coins: Coins::Own(&[(0, 5, &[1]), (3, 6, &[])]),
            }),
            Record::Coinbase { context, txid: id(1), tx: &[1] },
            Record::Marks { outpoint, frozen: true, locked: false },
            Record::Reassign { outpoint, from_height: 1, locking_script: &[9] },
            Record::Pruned { txid: id(1) },
            Record::Begin(note),
            Record::Tip(BlockNote { connect: false, ..note }),
            Record::Kept { txid: id(1), until_height: 9 },
        ]
    }

    #[test]
    fn every_record_comes_back_byte_for_byte() {
        let mut kinds = std::collections::BTreeSet::new();
        for record in samples() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            let len = u32::from_le_bytes(bytes[..4].try_into().expect("four")) as usize;
            assert_eq!(len + LENGTH_BYTES, bytes.len(), "{record:?}");
            let back = Record::decode(&bytes[LENGTH_BYTES..]).expect("its own bytes");
            let mut again = Vec::new();
            back.encode(&mut again);
            assert_eq!(bytes, again, "{record:?} came back as {back:?}");
            kinds.insert(bytes[LENGTH_BYTES]);
        }
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), (DECISION..=KEPT).collect::<Vec<_>>());
    }

    #[test]
    fn a_record_of_fixed_length_that_is_cut_or_has_more_is_none() {
        for record in samples() {
            let mut bytes = Vec::new();
            let tail = record.encode_head(&mut bytes);
            let fixed = tail.is_empty();
            let body = &bytes[LENGTH_BYTES..];
            for cut in 0..body.len() {
                assert!(Record::decode(&body[..cut]).is_none(), "{record:?} cut at {cut}");
            }
            let more = [body, &[0]].concat();
            assert_eq!(Record::decode(&more).is_none(), fixed, "{record:?} with one more byte");
        }
    }

    #[test]
    fn the_sizes_that_room_is_asked_for_are_those_that_are_written() {
        let mut bytes = Vec::new();
        let parents = 2 * ParentSeq::LEN;
        assert_eq!(samples()[0].encode_head(&mut bytes).len(), 3);
        assert_eq!(bytes.len(), DECISION_BYTES + parents);
        bytes.clear();
        samples()[2].encode(&mut bytes);
        assert_eq!(bytes.len(), SPEND_BYTES);
    }

    proptest! {
        #[test]
        fn bytes_that_decode_are_those_that_are_written(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            kind in 0_u8..24,
        ) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Some(record) = Record::decode(&bytes) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(&again[LENGTH_BYTES..], &bytes[..]);
            }
        }
    }
}
