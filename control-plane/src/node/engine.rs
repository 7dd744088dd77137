//! The node as the engine of the chain's state machine: other people's blocks, our own, reorganisations, coins.
//!
//! What is to be said to the tiles, and in which order, is [`dataplane::blocks::Conductor`]'s business; here are the links it is
//! said on, and the deadline after which a tile that does not answer is an error.

use super::links::{Drive, Ends, publish_now};
use super::{ANSWER_TIMEOUT, Node, NodeError, Totals};
use crate::engine::{
    BlockToConnect, Candidate, ChainEnd, Coin, ConnectError, Connected, Disconnected, Engine,
    Leaves, Place, Rejection,
};
use crate::epochs::{Held, Journals};
use crate::store::Pool;
use consensus::block::BlockView;
use consensus::hash::{BlockHash, TxId};
use consensus::tx::{OutPoint, TxLayout};
use dataplane::blocks::{Conductor, Lines, NewBlock, Trouble};
use dataplane::msg::admin::{Admin, AdminReply, Whereabouts};
use dataplane::msg::pack_control::{
    CandidateId, PackCommand, PackRefusal, PackReply, Records, Want,
};
use dataplane::msg::{Context, ParentSeq, ValidateControl, VerdictFrag};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Instant;

/// Candidates whose fees are remembered; a block made of an older one is judged as anybody's.
const CANDIDATES_MAX: usize = 256;
/// Rests that only let others run before one sleeps.
const YIELDS: u64 = 64;

/// The links a conductor speaks on.
#[derive(Debug)]
pub(super) struct NodeLines<'a> {
    drive: &'a mut Drive,
    ends: &'a mut Ends,
    pool: Option<&'a Pool>,
    since: Instant,
}

impl NodeLines<'_> {
    fn pool(&self, txid: TxId) -> Result<Pool, NodeError> {
        self.pool.cloned().ok_or(NodeError::NotStored { txid })
    }

    /// What `look` finds in the pool once the store has read all that shards published up to `drained`; nothing where there is no pool.
    fn read_up_to(
        &mut self,
        drained: &[ParentSeq],
        look: impl Fn(&Pool) -> Vec<TxId>,
    ) -> Result<Vec<TxId>, NodeError> {
        let Some(pool) = self.pool.cloned() else { return Ok(Vec::new()) };
        self.until("the store, which reads what was accepted", |_| {
            Ok(drained.iter().all(|at| pool.has_read(at.shard, at.seq)).then_some(()))
        })?;
        Ok(look(&pool))
    }

    /// Waits until `ready` has something.
    fn until<T>(
        &mut self,
        what: &'static str,
        mut ready: impl FnMut(&mut Self) -> Result<Option<T>, NodeError>,
    ) -> Result<T, NodeError> {
        let mut idle = 0;
        loop {
            if let Some(got) = ready(self)? {
                return Ok(got);
            }
            self.rest(what, idle)?;
            idle += 1;
        }
    }
}

impl Lines for NodeLines<'_> {
    type Error = NodeError;

    fn tell_validator(&mut self, validator: usize, message: &[u8]) -> bool {
        publish_now(&mut self.ends.control_validate[validator], 0, message)
    }

    fn send_block_tx(&mut self, validator: usize, block: u32, frag: &[u8]) -> bool {
        publish_now(&mut self.ends.block_validate[validator], u64::from(block), frag)
    }

    fn verdict(&mut self, validator: usize) -> Option<VerdictFrag> {
        let input = &mut self.ends.validate_block[validator];
        let verdict = input
            .poll()
            .map(|frag| VerdictFrag::decode(frag.bytes).expect("validate_block carries verdicts"));
        input.return_credit();
        verdict
    }

    fn order_shard(&mut self, shard: usize, batch: &[u8]) -> bool {
        publish_now(&mut self.ends.control_shard[shard], 0, batch)
    }

    fn shard_answer(&mut self, shard: usize, take: &mut dyn FnMut(&[u8])) -> bool {
        let input = &mut self.ends.shard_control[shard];
        let heard = input.poll().map(|frag| take(frag.bytes)).is_some();
        input.return_credit();
        heard
    }

    fn command_pack(&mut self, tag: u8, command: &[u8]) -> bool {
        publish_now(&mut self.ends.control_pack[0], u64::from(tag), command)
    }

    fn pack_answer(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        let input = &mut self.ends.pack_control[0];
        let heard = input.poll().map(|frag| take(frag.bytes)).is_some();
        input.return_credit();
        heard
    }

    fn rest(&mut self, what: &'static str, idle: u64) -> Result<(), NodeError> {
        if idle == 0 {
            self.since = Instant::now();
        } else if self.since.elapsed() > ANSWER_TIMEOUT {
            return Err(NodeError::NoAnswer { asked: what.to_owned() });
        }
        if idle < YIELDS && matches!(self.drive, Drive::Threads(_)) {
            std::thread::yield_now();
        } else {
            self.drive.rest();
        }
        Ok(())
    }

    fn pool_tx(&mut self, txid: &TxId) -> Result<Vec<u8>, NodeError> {
        let (pool, txid) = (self.pool(*txid)?, *txid);
        let got = self.until("the bytes of a pool transaction", |_| {
            pool.get(&txid).map(|tx| tx.map(|tx| tx.raw)).map_err(|source| NodeError::File {
                doing: "reading the bytes of accepted transactions in",
                path: PathBuf::from("the data directory"),
                source,
            })
        });
        got.map_err(|error| match error {
            NodeError::NoAnswer { .. } => NodeError::NotStored { txid },
            other => other,
        })
    }

    fn pooled(&mut self, drained: &[ParentSeq]) -> Result<Vec<TxId>, NodeError> {
        self.read_up_to(drained, Pool::txids)
    }

    fn time_locked(&mut self, drained: &[ParentSeq]) -> Result<Vec<TxId>, NodeError> {
        self.read_up_to(drained, Pool::time_locked)
    }
}

/// What the node remembers for the chain besides its links.
#[derive(Debug)]
pub(super) struct Blocks {
    pub conductor: Conductor,
    /// The end of the chain the coins are of.
    pub end: ChainEnd,
    /// The epoch in which the last block ended; 0 before the first.
    ended_in: u64,
    /// Fees of the last candidates.
    fees: VecDeque<(CandidateId, u64)>,
}

impl Blocks {
    pub fn new(conductor: Conductor, end: ChainEnd) -> Self {
        Self { conductor, end, ended_in: 0, fees: VecDeque::with_capacity(CANDIDATES_MAX) }
    }

    fn note_fees(&mut self, id: CandidateId, fees_sat: u64) {
        if self.fees.iter().any(|(known, _)| *known == id) {
            return;
        }
        if self.fees.len() == CANDIDATES_MAX {
            self.fees.pop_front();
        }
        self.fees.push_back((id, fees_sat));
    }

    fn fees_of(&self, id: CandidateId) -> Option<u64> {
        self.fees.iter().find(|(known, _)| *known == id).map(|(_, fees_sat)| *fees_sat)
    }
}

type ConnectResult = Result<Result<Connected, Rejection>, NodeError>;

/// A block with what the tip below it adds.
fn on_top<'b>(block: &BlockToConnect<'b>, tip: &ChainEnd) -> NewBlock<'b> {
    NewBlock {
        raw: block.raw,
        height: block.end.height,
        parent_median_time_past: tip.median_time_past,
        median_time_past: block.end.median_time_past,
    }
}

impl Node {
    pub(super) fn lines(&mut self) -> (&mut Blocks, NodeLines<'_>) {
        let lines = NodeLines {
            drive: &mut self.drive,
            ends: &mut self.ends,
            pool: self.pool.as_ref(),
            since: Instant::now(),
        };
        (&mut self.blocks, lines)
    }

    /// What the pool is judged against.
    pub(super) fn pool_context(&self) -> Context {
        let end = &self.blocks.end;
        self.blocks.conductor.pool_context(end.height, end.median_time_past)
    }

    fn check_order(&self, block: &BlockToConnect<'_>) {
        let (next, tip) = (&block.end, &self.blocks.end);
        assert!(
            next.height == tip.height + 1,
            "block {} at height {} is to be connected on top of height {}",
            next.hash,
            next.height,
            tip.height
        );
    }

    /// A block is to be connected or disconnected: once the one before is on disk, an epoch is held for it, and every shard is in it.
    fn begin(
        &mut self,
        connects: bool,
        raw: &[u8],
        height: u32,
        hash: BlockHash,
    ) -> Result<Option<Held>, NodeError> {
        let Some(journals) = self.journals.clone() else { return Ok(None) };
        journals.wait_for(self.blocks.ended_in)?;
        let mut layout = TxLayout::new();
        let block = BlockView::parse(raw).ok();
        let coinbase =
            block.and_then(|block| block.txs().next_tx(&mut layout).ok()?.map(|tx| tx.txid()));
        let coinbase = coinbase.unwrap_or(TxId::ZERO);
        let held = journals.hold();
        let (blocks, mut lines) = self.lines();
        let begun = blocks
            .conductor
            .enter(&mut lines, held.epoch())
            .and_then(|()| blocks.conductor.begin_at(&mut lines, connects, height, hash, coinbase));
        match begun {
            Ok(()) => Ok(Some(held)),
            Err(error) => {
                held.abandon();
                Err(error)
            }
        }
    }

    /// What was done with the block is whole, or was taken back: the epoch may end.
    fn finish(&mut self, held: Option<Held>) -> Result<(), NodeError> {
        let Some(held) = held else { return Ok(()) };
        let (blocks, mut lines) = self.lines();
        let end = blocks.end;
        match blocks.conductor.end_at(&mut lines, end.height, end.hash) {
            Ok(()) => {
                blocks.ended_in = held.epoch().number;
                Ok(())
            }
            Err(error) => {
                held.abandon();
                Err(error)
            }
        }
    }

    /// Connects a block by `work`, in an epoch of its own.
    fn connect_in_epoch(
        &mut self,
        block: &BlockToConnect<'_>,
        work: impl FnOnce(&mut Conductor, &mut NodeLines<'_>, &NewBlock<'_>) -> ConnectResult,
    ) -> Result<Connected, ConnectError> {
        self.check_order(block);
        let held = self.begin(true, block.raw, block.end.height, block.end.hash)?;
        let (blocks, mut lines) = self.lines();
        let new = on_top(block, &blocks.end);
        match work(&mut blocks.conductor, &mut lines, &new) {
            Ok(Ok(connected)) => {
                self.blocks.end = block.end;
                self.finish(held)?;
                Ok(connected)
            }
            Ok(Err(rejection)) => {
                self.finish(held)?;
                Err(ConnectError::Rejected(rejection))
            }
            // Taken back: the coins are what they were.
            Err(error @ NodeError::Block(Trouble::Overloaded { .. })) => {
                self.finish(held)?;
                Err(error.into())
            }
            Err(error) => {
                held.into_iter().for_each(Held::abandon);
                Err(error.into())
            }
        }
    }

    /// One order to one shard, and the answer to it.
    fn ask_shard<T>(
        &mut self,
        shard: usize,
        what: &'static str,
        order: &Admin<'_>,
        take: impl FnMut(AdminReply<'_>) -> Option<T>,
    ) -> Result<T, NodeError> {
        self.order(shard, order)?;
        self.shard_answer(shard, what, take)
    }

    fn ask_coin(
        &mut self,
        outpoint: OutPoint,
        order: impl Fn(u64) -> Admin<'static>,
    ) -> Result<Option<Coin>, NodeError> {
        self.token += 1;
        let asked = self.token;
        let shard = usize::from(self.partition.shard(&outpoint.txid));
        self.ask_shard(shard, "a coin", &order(asked), |reply| match reply {
            AdminReply::Coin { token, coin } if token == asked => Some(Ok(coin.map(|c| Coin {
                value_sat: c.value_sat,
                height: c.height,
                coinbase: c.coinbase,
                in_pool: c.pending,
                locking_script: c.locking_script.to_vec(),
            }))),
            AdminReply::CoinTooLong { token, value_sat, script_bytes, script_bytes_max }
                if token == asked =>
            {
                Some(Err(NodeError::ScriptTooLong { value_sat, script_bytes, script_bytes_max }))
            }
            _ => None,
        })?
    }
}

impl Engine for Node {
    fn tip(&self) -> ChainEnd {
        self.blocks.end
    }

    fn candidate(&mut self, want: Want) -> Result<Candidate, NodeError> {
        let published = match want {
            Want::CoinbaseOnly => Vec::new(),
            Want::WholeSubtrees | Want::Everything => self.published()?,
        };
        self.token += 1;
        let asked = self.token;
        let drained = Records::Own(&published);
        self.ask_pack(&PackCommand::GetCandidate { token: asked, want, drained })?;
        let candidate = self.pack_answer("a candidate", |reply| match reply {
            PackReply::Candidate { token, id, subtrees, fees_sat, size_bytes, branch, .. }
                if token == asked =>
            {
                let branch = branch.iter().collect();
                Some(Candidate { id, subtrees, fees_sat, size_bytes, branch })
            }
            _ => None,
        })?;
        self.blocks.note_fees(candidate.id, candidate.fees_sat);
        Ok(candidate)
    }

    fn leaves(&mut self, candidate: CandidateId) -> Result<Option<Leaves>, NodeError> {
        self.token += 1;
        let asked = self.token;
        self.ask_pack(&PackCommand::GetLeaves { token: asked, candidate })?;
        let mut leaves = Leaves { id: candidate, txids: Vec::new(), ranges: Vec::new() };
        let streamed = self.pack_answer("the candidate's transactions", |reply| match reply {
            PackReply::Leaves { token, txids, .. } if token == asked => {
                leaves.txids.extend(txids.iter());
                None
            }
            PackReply::Ranges { token, ranges } if token == asked => {
                leaves.ranges.extend(ranges.iter());
                None
            }
            PackReply::Streamed { token, .. } if token == asked => Some(()),
            _ => None,
        });
        match streamed {
            Ok(()) => Ok(Some(leaves)),
            Err(NodeError::PackRefused { why: PackRefusal::Stale, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn connect(&mut self, block: &BlockToConnect<'_>) -> Result<Connected, ConnectError> {
        self.connect_in_epoch(block, |conductor, lines, new| conductor.connect(lines, new))
    }

    fn connect_ours(
        &mut self,
        block: &BlockToConnect<'_>,
        leaves: &Leaves,
    ) -> Result<Connected, ConnectError> {
        // Only this thread disturbs pack's list, so what is fresh now stays so.
        let now = self.candidate(Want::CoinbaseOnly)?.id.generation;
        let is_fresh = now == leaves.id.generation || leaves.id.leaves == 1;
        let Some(fees_sat) = self.blocks.fees_of(leaves.id).filter(|_| is_fresh) else {
            return self.connect(block);
        };
        let (id, txids, ranges) = (leaves.id, &leaves.txids[..], &leaves.ranges[..]);
        self.connect_in_epoch(block, |conductor, lines, new| {
            conductor.connect_ours(lines, new, id, txids, ranges, fees_sat)
        })
    }

    fn disconnect(&mut self, raw: &[u8], end: ChainEnd) -> Result<Disconnected, NodeError> {
        let tip = self.blocks.end;
        let held = self.begin(false, raw, tip.height, tip.hash)?;
        let (blocks, mut lines) = self.lines();
        let (height, mtp) = (end.height, end.median_time_past);
        match blocks.conductor.disconnect(&mut lines, raw, height, mtp) {
            Ok(disconnected) => {
                self.blocks.end = end;
                self.finish(held)?;
                Ok(disconnected)
            }
            Err(error) => {
                held.into_iter().for_each(Held::abandon);
                Err(error)
            }
        }
    }

    fn recovered_tip(&self) -> Option<(BlockHash, u32)> {
        Node::recovered_tip(self)
    }

    fn stand_on(&mut self, coinbases: &[TxId], end: ChainEnd) -> Result<(), NodeError> {
        Node::stand_on(self, coinbases, end)
    }

    fn trouble(&self) -> Option<String> {
        let trouble = self.journals.as_ref().and_then(Journals::trouble);
        trouble.or_else(|| self.room.look()).map(|trouble| trouble.to_string())
    }

    fn coin(&mut self, outpoint: OutPoint) -> Result<Option<Coin>, NodeError> {
        self.ask_coin(outpoint, |token| Admin::Query { token, outpoint })
    }

    fn mined_coin(&mut self, outpoint: OutPoint) -> Result<Option<Coin>, NodeError> {
        self.ask_coin(outpoint, |token| Admin::QueryMined { token, outpoint })
    }

    fn where_mined(&mut self, txid: &TxId) -> Result<Place, NodeError> {
        let (blocks, mut lines) = self.lines();
        Ok(match blocks.conductor.whereabouts(&mut lines, txid)? {
            Whereabouts::Unknown => Place::Unknown,
            Whereabouts::Unmined { .. } => Place::Pool,
            Whereabouts::Mined { height, .. } => Place::Mined { height },
        })
    }

    fn totals(&mut self) -> Result<Totals, NodeError> {
        Node::totals(self)
    }
}

impl Node {
    /// Tells the coordinators what the pool is judged against.
    pub(super) fn set_pool(&mut self) -> Result<(), NodeError> {
        let context = self.pool_context();
        self.tell_validators(&ValidateControl::SetPool { context })
    }
}

impl From<Trouble> for NodeError {
    fn from(trouble: Trouble) -> Self {
        Self::Block(trouble)
    }
}
