//! What control-plane tells a shard (`control_shard`) and hears back (`shard_control`): chain, import, epochs, questions.
//!
//! One frag is one batch, as between coordinators and shards. Control messages are rare; none of them is on the hot path.

use super::Epoch;
use super::batch::Item;
use super::wire::{In, Out};
use consensus::hash::{BlockHash, TxId};
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
    /// To home: one bounded step of the eviction of an unmined transaction, from output `from_vout` on. Answered by `Evict`.
    Evict {
        /// Given back.
        token: u64,
        /// Which.
        txid: TxId,
        /// 0 at first, then as the answer said.
        from_vout: u32,
    },
    /// To an owner: `by` has not spent this coin after all (eviction, a block that failed). Answered by `Unspent`.
    Unspend {
        /// Given back.
        token: u64,
        /// The coin.
        outpoint: OutPoint,
        /// Who had spent it.
        by: TxId,
    },
    /// To home: where is this transaction? Answered by `Where`.
    Where {
        /// Given back.
        token: u64,
        /// Which.
        txid: TxId,
    },
    /// To home, once its block is disconnected: the transaction is the pool's from now on. Answered by `Unmined`.
    Unmine {
        /// Given back.
        token: u64,
        /// Which.
        txid: TxId,
    },
    /// To an owner, then: the spend of `by` is the pool's from now on. Answered by `Respent`.
    Respend {
        /// Given back.
        token: u64,
        /// The coin.
        outpoint: OutPoint,
        /// Who has spent it.
        by: TxId,
        /// Where home published `by`: by it the owner will know that it is mined again.
        publish_seq: u64,
    },
    /// How many coins were reserved in this block's context that a pool transaction had spent? Answered by `Overruled`.
    Overruled {
        /// Given back.
        token: u64,
        /// The newest block.
        block: u32,
    },
    /// To an owner: whose spend did the block's transaction `by` overrule? Answered by `Spender`.
    Loser {
        /// Given back.
        token: u64,
        /// The coin.
        outpoint: OutPoint,
        /// The block's transaction.
        by: TxId,
    },
    /// To an owner: which unmined transaction has spent this coin? Answered by `Spender`.
    Spender {
        /// Given back.
        token: u64,
        /// The coin.
        outpoint: OutPoint,
    },
    /// Ask for a coin that no block has spent, whatever the pool does with it; what only the pool has made is not seen.
    QueryMined {
        /// Given back.
        token: u64,
        /// The coin.
        outpoint: OutPoint,
    },
    /// Drop what is mined and spent out at `height` or below; looks at `most` places of the index. Answered by `Pruned`.
    Prune {
        /// Given back.
        token: u64,
        /// The first place.
        from: u64,
        /// Places looked at.
        most: u32,
        /// The newest height that counts.
        height: u32,
    },
    /// Lock or unlock an unspent coin.
    Lock {
        /// The coin.
        outpoint: OutPoint,
        /// True to lock.
        locked: bool,
    },
    /// Keep the record of a transaction from every `Prune` at a height below this one; 0 ends that.
    Preserve {
        /// Its id.
        txid: TxId,
        /// First height at which it may go.
        until_height: u32,
    },
    /// Has every coordinator's `Request::Barrier` of this number been read? Refused until it has.
    Barrier {
        /// The number.
        number: u32,
    },
    /// To the first shard, whose journal keeps the chain: a block begins to be connected or disconnected, or that is over.
    Tip {
        /// Which block, or the end of the chain.
        tip: Tip,
    },
    /// From whoever closes epochs (`epoch_shard`): how far all shards are together.
    Together {
        /// Every shard has synced everything up to this epoch.
        complete: u64,
        /// Make a checkpoint as of the end of this epoch, if that was not ordered before.
        checkpoint: u64,
        /// The manifest names checkpoints of this epoch.
        installed: u64,
    },
}

/// What a journal keeps of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tip {
    /// The block begins; otherwise it is over, and this is the end of the chain from now on.
    pub is_begun: bool,
    /// It is being connected, not disconnected.
    pub connects: bool,
    /// The block's number; 0 for the end of a chain on which nothing was connected.
    pub number: u32,
    /// Its height.
    pub height: u32,
    /// Its name; zero while nothing was connected.
    pub hash: BlockHash,
    /// Its coinbase.
    pub coinbase: TxId,
}

/// Where one shard's checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum CheckpointAt {
    /// None was ordered.
    #[default]
    Idle = 0,
    /// Ordered; its epoch is not over.
    Ordered = 1,
    /// Being written.
    Writing = 2,
    /// Whole and synced.
    Written = 3,
    /// More changed than there was room for copies: to be ordered again.
    Lost = 4,
}

/// Whether a journal can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum JournalHealth {
    /// Yes.
    #[default]
    Good = 0,
    /// There is no room on the disk; what is logged waits in memory, and is written once there is.
    DiskFull = 1,
    /// A write or a sync failed: nothing after the last durable epoch will ever be.
    Failed = 2,
}

/// What the manifest is to say of one shard's checkpoint, as words; nobody but the shard reads them.
pub type SlotWords = [u64; 5];

/// How far one shard is (`shard_epoch`). Epochs are numbers; they go on over incarnations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShardEpochs {
    /// The epoch it acts in.
    pub entered: u64,
    /// It has logged something in that epoch.
    pub has_logged: bool,
    /// Everything up to this epoch is synced.
    pub durable: u64,
    /// Whether its journal can be written.
    pub health: JournalHealth,
    /// Its journal has grown: a checkpoint would make it shorter.
    pub wants_checkpoint: bool,
    /// Where its newest checkpoint is.
    pub checkpoint: CheckpointAt,
    /// Of which epoch that is.
    pub checkpoint_epoch: u64,
    /// What the manifest is to say of it once it is written.
    pub entry: SlotWords,
}

/// How far an eviction is. Any answer but the first and the last two means: do that, then ask again from `vout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictStep {
    /// The record is gone, and pack has been told.
    Done,
    /// This output is spent: evict `by` at its home, unspend its coins, this one too.
    Spent {
        /// Where to go on.
        vout: u32,
        /// The child.
        by: TxId,
        /// The child's input.
        vin: u32,
    },
    /// This output is held by an attempt, which will end by a release or a spend.
    Held {
        /// Where to go on.
        vout: u32,
    },
    /// As many outputs as one step may look at.
    More {
        /// Where to go on.
        vout: u32,
    },
    /// Not here, or not decided.
    Unknown,
    /// Mined on the current chain: not to be evicted.
    Mined,
}

/// What became of an order about one spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SpendState {
    /// Done.
    Done = 0,
    /// The spender holds the coin, and its spend is on the way: ask again.
    Held = 1,
    /// It has not spent this coin.
    NotSpent = 2,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Not here.
    Unknown,
    /// Accepted and not mined.
    Unmined {
        /// Its publish sequence at home.
        publish_seq: u64,
    },
    /// Mined on the current chain.
    Mined {
        /// Height of its block.
        height: u32,
        /// Outputs nobody has spent.
        unspent: u32,
    },
}

/// Who has spent an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpentBy {
    /// There is no such output.
    NoOutput,
    /// Nobody of those asked about.
    Nobody,
    /// This one.
    Tx(TxId),
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
    /// To `Query` and `QueryMined`; `pending` says that no block of this chain holds its transaction.
    Coin {
        /// From the question.
        token: u64,
        /// `None` where there is no unspent coin.
        coin: Option<super::reply::CoinReply<'a>>,
    },
    /// To `Query` and `QueryMined`: there is such a coin, and its script is longer than any frag of the link.
    CoinTooLong {
        /// From the question.
        token: u64,
        /// Value of the coin.
        value_sat: u64,
        /// Bytes of its locking script.
        script_bytes: u64,
        /// The longest that can be told.
        script_bytes_max: u64,
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
    /// To `Evict`.
    Evict {
        /// From the order.
        token: u64,
        /// How far it is.
        step: EvictStep,
    },
    /// To `Unspend`.
    Unspent {
        /// From the order.
        token: u64,
        /// What became of it.
        state: SpendState,
    },
    /// To `Where`.
    Where {
        /// From the question.
        token: u64,
        /// Where it is.
        at: Whereabouts,
    },
    /// To `Unmine`.
    Unmined {
        /// From the order.
        token: u64,
        /// Where home published it; 0 where it is not known.
        publish_seq: u64,
    },
    /// To `Respend`.
    Respent {
        /// From the order.
        token: u64,
        /// What became of it.
        state: SpendState,
        /// Value of the coin.
        value_sat: u64,
    },
    /// To `Overruled`.
    Overruled {
        /// From the question.
        token: u64,
        /// How many.
        coins: u64,
    },
    /// To `Loser` and `Spender`.
    Spender {
        /// From the question.
        token: u64,
        /// Who.
        by: SpentBy,
    },
    /// To `Prune`.
    Pruned {
        /// From the order.
        token: u64,
        /// The place to go on from; `u64::MAX` at the end of the index.
        next: u64,
        /// Records dropped.
        pruned: u32,
    },
    /// Unasked, on `shard_epoch`: it is further than it last said.
    Epochs {
        /// How far.
        at: ShardEpochs,
    },
}

impl AdminReply<'_> {
    /// Bytes of a `Coin` in front of its script; its last four are the length of the script.
    pub const COIN_HEAD_BYTES: usize = 1 + 8 + 1 + 8 + 4 + 1 + 4;
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
            Self::Evict { token, txid, from_vout } => {
                w.u8(9);
                w.u64(*token);
                w.txid(txid);
                w.u32(*from_vout);
            }
            Self::Unspend { token, outpoint, by } | Self::Loser { token, outpoint, by } => {
                w.u8(if matches!(self, Self::Loser { .. }) { 15 } else { 10 });
                w.u64(*token);
                w.outpoint(outpoint);
                w.txid(by);
            }
            Self::Where { token, txid } | Self::Unmine { token, txid } => {
                w.u8(if matches!(self, Self::Unmine { .. }) { 12 } else { 11 });
                w.u64(*token);
                w.txid(txid);
            }
            Self::Respend { token, outpoint, by, publish_seq } => {
                w.u8(13);
                w.u64(*token);
                w.outpoint(outpoint);
                w.txid(by);
                w.u64(*publish_seq);
            }
            Self::Overruled { token, block } => {
                w.u8(14);
                w.u64(*token);
                w.u32(*block);
            }
            Self::Spender { token, outpoint } | Self::QueryMined { token, outpoint } => {
                w.u8(if matches!(self, Self::QueryMined { .. }) { 17 } else { 16 });
                w.u64(*token);
                w.outpoint(outpoint);
            }
            Self::Prune { token, from, most, height } => {
                w.u8(18);
                w.u64(*token);
                w.u64(*from);
                w.u32(*most);
                w.u32(*height);
            }
            Self::Lock { outpoint, locked } => {
                w.u8(19);
                w.outpoint(outpoint);
                w.u8(u8::from(*locked));
            }
            Self::Barrier { number } => {
                w.u8(20);
                w.u32(*number);
            }
            Self::Preserve { txid, until_height } => {
                w.u8(21);
                w.txid(txid);
                w.u32(*until_height);
            }
            Self::Tip { tip } => {
                w.u8(22);
                w.u8(u8::from(tip.is_begun));
                w.u8(u8::from(tip.connects));
                w.u32(tip.number);
                w.u32(tip.height);
                w.bytes(&tip.hash.0);
                w.txid(&tip.coinbase);
            }
            Self::Together { complete, checkpoint, installed } => {
                w.u8(23);
                for number in [complete, checkpoint, installed] {
                    w.u64(*number);
                }
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
            9 => Self::Evict { token: r.u64()?, txid: r.txid()?, from_vout: r.u32()? },
            10 => Self::Unspend { token: r.u64()?, outpoint: r.outpoint()?, by: r.txid()? },
            11 => Self::Where { token: r.u64()?, txid: r.txid()? },
            12 => Self::Unmine { token: r.u64()?, txid: r.txid()? },
            13 => Self::Respend {
                token: r.u64()?,
                outpoint: r.outpoint()?,
                by: r.txid()?,
                publish_seq: r.u64()?,
            },
            14 => Self::Overruled { token: r.u64()?, block: r.u32()? },
            15 => Self::Loser { token: r.u64()?, outpoint: r.outpoint()?, by: r.txid()? },
            16 => Self::Spender { token: r.u64()?, outpoint: r.outpoint()? },
            17 => Self::QueryMined { token: r.u64()?, outpoint: r.outpoint()? },
            18 => Self::Prune { token: r.u64()?, from: r.u64()?, most: r.u32()?, height: r.u32()? },
            19 => Self::Lock { outpoint: r.outpoint()?, locked: r.u8()? != 0 },
            20 => Self::Barrier { number: r.u32()? },
            21 => Self::Preserve { txid: r.txid()?, until_height: r.u32()? },
            22 => Self::Tip {
                tip: Tip {
                    is_begun: r.u8()? != 0,
                    connects: r.u8()? != 0,
                    number: r.u32()?,
                    height: r.u32()?,
                    hash: BlockHash(r.txid()?.0),
                    coinbase: r.txid()?,
                },
            },
            23 => Self::Together { complete: r.u64()?, checkpoint: r.u64()?, installed: r.u64()? },
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
            Self::CoinTooLong { token, value_sat, script_bytes, script_bytes_max } => {
                w.u8(13);
                for word in [token, value_sat, script_bytes, script_bytes_max] {
                    w.u64(*word);
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
            Self::Evict { token, step } => {
                w.u8(4);
                w.u64(*token);
                put_step(&mut w, step);
            }
            Self::Unspent { token, state } => {
                w.u8(5);
                w.u64(*token);
                w.u8(*state as u8);
            }
            Self::Where { token, at } => {
                w.u8(6);
                w.u64(*token);
                let (tag, a, b) = match *at {
                    Whereabouts::Unknown => (0, 0, 0),
                    Whereabouts::Unmined { publish_seq } => (1, publish_seq, 0),
                    Whereabouts::Mined { height, unspent } => (2, u64::from(height), unspent),
                };
                w.u8(tag);
                w.u64(a);
                w.u32(b);
            }
            Self::Unmined { token, publish_seq } => {
                w.u8(7);
                w.u64(*token);
                w.u64(*publish_seq);
            }
            Self::Respent { token, state, value_sat } => {
                w.u8(8);
                w.u64(*token);
                w.u8(*state as u8);
                w.u64(*value_sat);
            }
            Self::Overruled { token, coins } => {
                w.u8(9);
                w.u64(*token);
                w.u64(*coins);
            }
            Self::Spender { token, by } => {
                w.u8(10);
                w.u64(*token);
                let (tag, txid) = match by {
                    SpentBy::NoOutput => (0, TxId::ZERO),
                    SpentBy::Nobody => (1, TxId::ZERO),
                    SpentBy::Tx(txid) => (2, *txid),
                };
                w.u8(tag);
                w.txid(&txid);
            }
            Self::Pruned { token, next, pruned } => {
                w.u8(11);
                w.u64(*token);
                w.u64(*next);
                w.u32(*pruned);
            }
            Self::Epochs { at } => {
                w.u8(12);
                w.u8(u8::from(at.has_logged) | u8::from(at.wants_checkpoint) << 1);
                w.u8(at.health as u8);
                w.u8(at.checkpoint as u8);
                for number in [at.entered, at.durable, at.checkpoint_epoch] {
                    w.u64(number);
                }
                for word in at.entry {
                    w.u64(word);
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
            4 => Self::Evict { token: r.u64()?, step: get_step(&mut r)? },
            5 => Self::Unspent { token: r.u64()?, state: get_state(&mut r)? },
            6 => {
                let (token, tag, a, b) = (r.u64()?, r.u8()?, r.u64()?, r.u32()?);
                let at = match tag {
                    0 => Whereabouts::Unknown,
                    1 => Whereabouts::Unmined { publish_seq: a },
                    2 => Whereabouts::Mined { height: u32::try_from(a).ok()?, unspent: b },
                    _ => return None,
                };
                Self::Where { token, at }
            }
            7 => Self::Unmined { token: r.u64()?, publish_seq: r.u64()? },
            8 => Self::Respent { token: r.u64()?, state: get_state(&mut r)?, value_sat: r.u64()? },
            9 => Self::Overruled { token: r.u64()?, coins: r.u64()? },
            10 => {
                let (token, tag, txid) = (r.u64()?, r.u8()?, r.txid()?);
                let by = match tag {
                    0 => SpentBy::NoOutput,
                    1 => SpentBy::Nobody,
                    2 => SpentBy::Tx(txid),
                    _ => return None,
                };
                Self::Spender { token, by }
            }
            11 => Self::Pruned { token: r.u64()?, next: r.u64()?, pruned: r.u32()? },
            12 => Self::Epochs { at: get_epochs(&mut r)? },
            13 => Self::CoinTooLong {
                token: r.u64()?,
                value_sat: r.u64()?,
                script_bytes: r.u64()?,
                script_bytes_max: r.u64()?,
            },
            _ => return None,
        };
        Some((item, bytes.len() - r.rest().len()))
    }
}

fn put_step(w: &mut Out<'_>, step: &EvictStep) {
    let (tag, vout, by, vin) = match *step {
        EvictStep::Done => (0, 0, TxId::ZERO, 0),
        EvictStep::Spent { vout, by, vin } => (1, vout, by, vin),
        EvictStep::Held { vout } => (2, vout, TxId::ZERO, 0),
        EvictStep::More { vout } => (3, vout, TxId::ZERO, 0),
        EvictStep::Unknown => (4, 0, TxId::ZERO, 0),
        EvictStep::Mined => (5, 0, TxId::ZERO, 0),
    };
    w.u8(tag);
    w.u32(vout);
    w.txid(&by);
    w.u32(vin);
}

fn get_step(r: &mut In<'_>) -> Option<EvictStep> {
    let (tag, vout, by, vin) = (r.u8()?, r.u32()?, r.txid()?, r.u32()?);
    Some(match tag {
        0 => EvictStep::Done,
        1 => EvictStep::Spent { vout, by, vin },
        2 => EvictStep::Held { vout },
        3 => EvictStep::More { vout },
        4 => EvictStep::Unknown,
        5 => EvictStep::Mined,
        _ => return None,
    })
}

fn get_epochs(r: &mut In<'_>) -> Option<ShardEpochs> {
    let bits = r.u8()?;
    let health = match r.u8()? {
        0 => JournalHealth::Good,
        1 => JournalHealth::DiskFull,
        2 => JournalHealth::Failed,
        _ => return None,
    };
    let checkpoint = match r.u8()? {
        0 => CheckpointAt::Idle,
        1 => CheckpointAt::Ordered,
        2 => CheckpointAt::Writing,
        3 => CheckpointAt::Written,
        4 => CheckpointAt::Lost,
        _ => return None,
    };
    Some(ShardEpochs {
        has_logged: bits & 1 != 0,
        wants_checkpoint: bits & 2 != 0,
        health,
        checkpoint,
        entered: r.u64()?,
        durable: r.u64()?,
        checkpoint_epoch: r.u64()?,
        entry: [r.u64()?, r.u64()?, r.u64()?, r.u64()?, r.u64()?],
    })
}

fn get_state(r: &mut In<'_>) -> Option<SpendState> {
    Some(match r.u8()? {
        0 => SpendState::Done,
        1 => SpendState::Held,
        2 => SpendState::NotSpent,
        _ => return None,
    })
}
