//! Other people's blocks and reorganisations: what is to be said to whom, and in which order. Design section 4, "Blocks".
//!
//! In: one block on top of the tip, or the tip to be taken off. Out: orders to coordinators, shards and pack through [`Lines`], and
//! what became of the block. There is no I/O, no clock and no thread here, so the node and the simulator run the same code; it is
//! written as one thread that asks and waits ([`Lines::rest`]) while everybody else goes on with the pool.
//!
//! ```text
//! connect     walk: bytes, merkle, order ─► open ─► every transaction to its coordinator, verdicts counted ─► close
//!               one failed: undo in reverse, the pool is as before
//!               all accepted: coinbase ─► losers evicted with all descendants ─► mined ─► pack drained ─► pool at tip + 1
//! disconnect  pool at the lower tip ─► unmined ─► spends are the pool's ─► coinbase and its descendants out ─► what is now
//!               immature or not final out ─► the rest in front of pack's list, in block order
//! ```
//!
//! Where the next block has other rules than the tip, the pool is emptied (`activate`).
//!
//! A spend of the pool that a block overrules stays below the block's spend until the block has passed every check. So undoing a
//! block needs no memory of the pool, and evicting is needed only once nothing can fail any more.

mod activate;
mod connect;
mod disconnect;
mod evict;
mod orders;
mod walk;

use crate::msg::admin::{Admin, AdminReply, Tip};
use crate::msg::pack_control::{PackCommand, PackRefusal, PackReply, SeqRange};
use crate::msg::{Context, Epoch, ParentSeq, ValidateControl, VerdictFrag};
use crate::partition::Partition;
use consensus::hash::{BlockHash, TxId};
use consensus::params::ChainParams;
use orders::Orders;

/// Longest batch of orders, and longest command, in line.
pub const BATCH_BYTES: usize = 8_192;
/// Blocks the conductor remembers; the oldest is forgotten then, and cannot be disconnected any more.
pub const BLOCKS_KEPT_MAX: usize = 1 << 20;

/// How the conductor reaches the tiles. A send says false when there is no room now; only [`Lines::rest`] waits.
pub trait Lines {
    /// Why it is out of reach.
    type Error: From<Trouble>;

    /// A message to a coordinator (`control_validate`).
    fn tell_validator(&mut self, validator: usize, message: &[u8]) -> bool;
    /// A transaction of a block to a coordinator (`block_validate`), with the block's number as the frag's sig.
    fn send_block_tx(&mut self, validator: usize, block: u32, frag: &[u8]) -> bool;
    /// The next verdict on a block's transaction (`validate_block`).
    fn verdict(&mut self, validator: usize) -> Option<VerdictFrag>;
    /// A batch of orders to a shard (`control_shard`).
    fn order_shard(&mut self, shard: usize, batch: &[u8]) -> bool;
    /// Hands the next batch of answers of a shard to `take`; false if there is none (`shard_control`).
    fn shard_answer(&mut self, shard: usize, take: &mut dyn FnMut(&[u8])) -> bool;
    /// A command to pack (`control_pack`).
    fn command_pack(&mut self, tag: u8, command: &[u8]) -> bool;
    /// Hands the next answer of pack to `take`; false if there is none (`pack_control`).
    fn pack_answer(&mut self, take: &mut dyn FnMut(&[u8])) -> bool;
    /// Lets the others get on with it. `idle`: how many rests in a row brought nothing; an error once that is too many.
    fn rest(&mut self, what: &'static str, idle: u64) -> Result<(), Self::Error>;
    /// The bytes of a pool transaction (raw format), waiting for them if they are on their way.
    fn pool_tx(&mut self, txid: &TxId) -> Result<Vec<u8>, Self::Error>;
    /// All pool transactions, among all that shards published up to `drained`.
    fn pooled(&mut self, drained: &[ParentSeq]) -> Result<Vec<TxId>, Self::Error>;
    /// Pool transactions with a lock time that is not zero, among all that shards published up to `drained`.
    fn time_locked(&mut self, drained: &[ParentSeq]) -> Result<Vec<TxId>, Self::Error>;
}

/// Why a block could be neither connected nor refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// A shard did not do what it must.
    #[error(
        "shard {shard} refused {refused} orders ({what}); it is full, or its state is not what it should be"
    )]
    Refused {
        /// Which.
        shard: usize,
        /// How many.
        refused: u32,
        /// About what.
        what: &'static str,
    },
    /// Pack did not do what it must.
    #[error("pack refused {what}: {why:?}")]
    PackRefused {
        /// What it was asked.
        what: &'static str,
        /// Its reason.
        why: PackRefusal,
    },
    /// A bound of a coordinator or a shard was reached; the block was taken back.
    #[error(
        "transaction {txid} of the block met a bound ({verdict}); give the node more memory, or try again"
    )]
    Overloaded {
        /// Which.
        txid: TxId,
        /// How its coordinator called it.
        verdict: &'static str,
    },
    /// A transaction that should be there is not.
    #[error("transaction {txid} is gone: {what}")]
    Gone {
        /// Which.
        txid: TxId,
        /// What it was needed for.
        what: &'static str,
    },
    /// The caller's block is not the one that is on top.
    #[error("block {got} is to be disconnected, but the tip is {expected}")]
    NotTheTip {
        /// Coinbase of the block that was given.
        got: TxId,
        /// Coinbase of the tip.
        expected: TxId,
    },
    /// The bytes of a block that was connected do not parse.
    #[error("the bytes of the block to be disconnected are no block")]
    NoBlock,
}

/// A block that stands on top of the tip. Its header has been judged.
#[derive(Clone, Copy, Debug)]
pub struct NewBlock<'a> {
    /// The whole block as on the wire.
    pub raw: &'a [u8],
    /// Its height.
    pub height: u32,
    /// Median time past of the block before it.
    pub parent_median_time_past: u32,
    /// Its own median time past.
    pub median_time_past: u32,
}

/// What connecting a block did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Transactions in the block, the coinbase included.
    pub txs: u64,
    /// Fees of the block, satoshi.
    pub fees_sat: u64,
    /// Transactions of the block that were in the pool.
    pub from_pool: u64,
    /// Pool transactions that lost their coins to the block, and their descendants; all of the pool where the next block has other rules.
    pub evicted: Vec<TxId>,
}

/// What disconnecting the tip did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnected {
    /// Transactions of the block that are in the pool again, in block order, in front of it.
    pub restored: Vec<TxId>,
    /// Pool transactions that cannot stand on the shorter chain, and their descendants; all of the pool where the next block has other
    /// rules.
    pub evicted: Vec<TxId>,
}

/// Why a block is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// SV Node's text, such as `bad-txns-inputs-missingorspent`.
    pub reason: String,
    /// The transaction that is wrong, if one is.
    pub txid: Option<TxId>,
    /// Its input that is wrong, if one is.
    pub vin: Option<u32>,
    /// Whether the same header may belong to a valid block: then the header is not to be marked invalid.
    pub is_corruption_possible: bool,
}

impl Rejection {
    fn of(reject: consensus::rules::BlockReject, txid: Option<TxId>) -> Self {
        let is_corruption_possible = reject.is_corruption_possible();
        Self { reason: reject.reason().to_owned(), txid, vin: None, is_corruption_possible }
    }
}

/// A block on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub number: u32,
    /// Its height.
    pub height: u32,
    /// Its coinbase.
    pub coinbase: TxId,
}

/// The one who tells everybody about blocks. See the module.
#[derive(Debug)]
pub struct Conductor {
    params: ChainParams,
    partition: Partition,
    /// Grows with every block that was opened, connected or not.
    number: u32,
    /// Barriers so far.
    barriers: u32,
    /// Blocks on the chain, the tip last.
    chain: Vec<Standing>,
    /// The epoch in which everybody acts on what is told here; the default where nothing is durable.
    epoch: Epoch,
}

impl Conductor {
    /// Nothing is connected yet.
    pub fn new(params: ChainParams, partition: Partition) -> Self {
        let epoch = Epoch::default();
        Self { params, partition, number: 0, barriers: 0, chain: Vec::new(), epoch }
    }

    /// The chain is that of recovered shards: its blocks, the tip last, and the newest number that was ever given.
    pub fn stand_on(&mut self, chain: Vec<Standing>, newest_number: u32) {
        assert!(self.number == 0, "a chain is recovered before anything is connected");
        self.number = chain.last().map_or(0, |block| block.number).max(newest_number);
        self.chain = chain;
    }

    /// Every shard enters `epoch` before this returns, if it is not there yet. While nobody opens a later one, whatever a block does
    /// from now on lies in this epoch.
    pub fn enter<L: Lines>(&mut self, lines: &mut L, epoch: Epoch) -> Result<(), L::Error> {
        self.epoch = epoch;
        self.drained(lines).map(drop)
    }

    /// A block is about to be connected on the tip, or the tip to be disconnected: the journal says so before anything else is done.
    pub fn begin_at<L: Lines>(
        &mut self,
        lines: &mut L,
        connects: bool,
        height: u32,
        hash: BlockHash,
        coinbase: TxId,
    ) -> Result<(), L::Error> {
        let number = if connects { self.number + 1 } else { self.tip_number() };
        let tip = Tip { is_begun: true, connects, number, height, hash, coinbase };
        let mut orders = self.orders(Context::default());
        orders.put(0, &Admin::Tip { tip });
        orders.send_all(lines, "a block that begins")
    }

    /// What is to be done with a block is over: the journal says what the coins are of. Sent once every shard has answered everything
    /// about the block, so no part of it is in a later epoch.
    pub fn end_at<L: Lines>(
        &mut self,
        lines: &mut L,
        height: u32,
        hash: BlockHash,
    ) -> Result<(), L::Error> {
        let coinbase = self.chain.last().map_or(TxId::ZERO, |block| block.coinbase);
        let number = self.tip_number();
        let tip = Tip { is_begun: false, connects: false, number, height, hash, coinbase };
        let mut orders = self.orders(Context::default());
        orders.put(0, &Admin::Tip { tip });
        orders.send_all(lines, "the tip")
    }

    /// Number of the newest connected block, 0 before the first.
    pub fn tip_number(&self) -> u32 {
        self.chain.last().map_or(0, |block| block.number)
    }

    fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    fn home(&self, txid: &TxId) -> usize {
        usize::from(self.partition.shard(txid))
    }

    fn orders(&self, context: Context) -> Orders {
        Orders::new(usize::from(self.partition.shards()), context, self.epoch)
    }

    /// What the pool is judged against on top of a block.
    pub fn pool_context(&self, height: u32, median_time_past: u32) -> Context {
        Context {
            block: 0,
            height: height + 1,
            median_time_past,
            rule_set: self.params.flags_for_block(height + 1),
        }
    }

    /// One message to every coordinator.
    pub fn tell_all<L: Lines>(
        &mut self,
        lines: &mut L,
        message: &ValidateControl,
    ) -> Result<(), L::Error> {
        let bytes = message.encode();
        for validator in 0..usize::from(self.partition.validators()) {
            let mut idle = 0;
            while !lines.tell_validator(validator, &bytes) {
                lines.rest("a coordinator that reads its orders", idle)?;
                idle += 1;
            }
        }
        Ok(())
    }

    /// One command to pack.
    fn command<L: Lines>(lines: &mut L, command: &PackCommand<'_>) -> Result<(), L::Error> {
        let mut buffer = vec![0; BATCH_BYTES];
        let len = command.encode(&mut buffer).expect("pieces are made to fit a frag");
        let mut idle = 0;
        while !lines.command_pack(command.tag(), &buffer[..len]) {
            lines.rest("pack, which reads no commands", idle)?;
            idle += 1;
        }
        Ok(())
    }

    /// Waits until pack is done with `block`; how many transactions it took out or put back, or why it did not.
    fn pack_done<L: Lines>(
        lines: &mut L,
        block: u32,
    ) -> Result<Result<u64, PackRefusal>, L::Error> {
        let mut idle = 0;
        loop {
            let mut done = None;
            while done.is_none()
                && lines.pack_answer(&mut |bytes| match PackReply::decode(bytes) {
                    Some(PackReply::BlockDone { block: b, changed, .. }) if b == block => {
                        done = Some(Ok(changed));
                    }
                    Some(PackReply::Refused { token, why }) if token == u64::from(block) => {
                        done = Some(Err(why));
                    }
                    _ => {}
                })
            {
                idle = 0;
            }
            if let Some(done) = done {
                return Ok(done);
            }
            lines.rest("pack, which applies a block", idle)?;
            idle += 1;
        }
    }

    /// Where every shard's publications are.
    fn drained<L: Lines>(&mut self, lines: &mut L) -> Result<Vec<ParentSeq>, L::Error> {
        let mut orders = self.orders(Context::default());
        let shards = self.partition.shards();
        for shard in 0..shards {
            orders.put(usize::from(shard), &Admin::Totals { token: 0 });
        }
        let mut drained: Vec<ParentSeq> =
            (0..shards).map(|shard| ParentSeq { shard, seq: 0 }).collect();
        orders.send(lines, "its totals", &mut |shard, reply| {
            if let AdminReply::Totals { publish_seq, .. } = reply {
                drained[shard].seq = *publish_seq;
            }
        })?;
        Ok(drained)
    }

    /// Tells every shard that a block is on the chain; `ranges`: what of the pool is mined in it.
    fn set_mined<L: Lines>(
        &mut self,
        lines: &mut L,
        context: Context,
        ranges: &[SeqRange],
    ) -> Result<(), L::Error> {
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable();
        if ranges.is_empty() {
            ranges.push(SeqRange { shard: 0, from_seq: 1, to_seq: 0 });
        }
        let mut orders = self.orders(context);
        let (block, height) = (context.block, context.height);
        for shard in 0..usize::from(self.partition.shards()) {
            // Every shard hears all ranges: it must know of spenders elsewhere whether they are mined.
            for &SeqRange { shard: of, from_seq, to_seq } in &ranges {
                orders.put(shard, &Admin::SetMined { shard: of, block, height, from_seq, to_seq });
            }
        }
        orders.send_all(lines, "a mined block")
    }

    fn stand(&mut self, block: Standing) {
        if self.chain.len() == BLOCKS_KEPT_MAX {
            self.chain.remove(0);
        }
        self.chain.push(block);
    }
}

/// Says a list to pack in pieces of at most `most`, an empty list as one piece. Where pack has to drain to goes with the first, and the
/// last says that it is the last.
fn in_pieces<T, E>(
    list: &[T],
    most: usize,
    drained: &[ParentSeq],
    mut say: impl FnMut(&[T], &[ParentSeq], bool) -> Result<(), E>,
) -> Result<(), E> {
    let mut drained = drained;
    let mut rest = list;
    loop {
        let (piece, behind) = rest.split_at(most.min(rest.len()));
        say(piece, drained, behind.is_empty())?;
        if behind.is_empty() {
            return Ok(());
        }
        (rest, drained) = (behind, &[]);
    }
}
