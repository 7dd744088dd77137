//! The state machine: what is done with a header, a block, an operator's word, until the connected chain is the best one.
//!
//! In: commands, one at a time. Out: the tree, the files and the coins of the [`Engine`], always in that order: a header and a
//! block are on disk before they are connected, and connected before anybody hears of them. The tip moves in one place,
//! [`State::activate`]: back to the fork, forward over the better branch; a block that fails is marked, and the loop looks again,
//! which connects the old blocks where nothing better is left.
//!
//! Checks come in the order of SV Node, so that the reason a block is refused for is the one it would give. Source: SV Node
//! `validation.cpp` `ProcessNewBlock`, `AcceptBlockHeader`, `AcceptBlock`, `ActivateBestChain`, `InvalidateBlock`,
//! `ReconsiderBlock`.

use super::answers::{BlockOutcome, CoinInfo, HeaderOutcome, TipInfo};
use super::candidates::Candidates;
use super::files::{ChainFiles, FilesError, HeaderRecord};
use super::handle::ChainError;
use super::tree::{Id, SIDE_HEADERS_MAX};
use super::tx_index::Row;
use super::view::View;
use crate::engine::{BlockToConnect, ChainEnd, ConnectError, Engine, Leaves};
use crate::node::NodeError;
use crate::service::{NodeClock, Stop};
use crate::store::Pool;
use consensus::block::BlockView;
use consensus::hash::{BlockHash, TxId};
use consensus::header::{
    Header, HeaderContext, HeaderReject, check_checkpoints, check_header_in_context,
    check_header_work,
};
use consensus::params::ChainParams;
use consensus::rules::{BlockChecker, BlockReject, TxReject, late_parent, lock_time_limit_s};
use consensus::tx::{Limits, OutPoint, TxLayout, parse_prefix};
use dataplane::blocks::Trouble;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often a long way forward says where it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// So far below the tip a block is looked at for the order of its transactions when it is stored. Source: SV Node `validation.cpp`
/// `AcceptBlock`; 1.0.13 was asked: 99 below the tip it says `inconclusive`, 100 below `bad-blk-ttor`.
const ORDER_DEPTH_MIN: u32 = 100;

/// How often a block is tried that meets full queues.
const OVERLOADED_TRIES_MAX: u32 = 10;
/// Rest before the second try; before each further one it grows by as much.
const OVERLOADED_REST: Duration = Duration::from_millis(20);

/// The state. See the module.
#[derive(Debug)]
pub(crate) struct State<E> {
    pub(crate) params: Arc<ChainParams>,
    pub(crate) clock: NodeClock,
    pub(crate) engine: E,
    pub(crate) view: Arc<View>,
    pub(crate) files: ChainFiles,
    pub(crate) pool: Pool,
    pub(crate) announce: watch::Sender<TipInfo>,
    pub(crate) candidates: Candidates,
    /// Largest block that is taken; 0 for no limit.
    pub(crate) block_bytes_max: u64,
    /// Ends a long way early; what is not connected then is when the directory is opened again.
    pub(crate) stop: Stop,
}

/// A block that is about to be activated and whose bytes are at hand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtHand<'a> {
    pub(crate) id: Id,
    pub(crate) raw: &'a [u8],
    /// Ids of its transactions, the coinbase first.
    pub(crate) txids: &'a [TxId],
    /// What it holds, if it is a candidate of ours.
    pub(crate) leaves: Option<&'a Leaves>,
}

/// What is wrong with a block, for the caller that handed it in.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    id: Id,
    reason: String,
    detail: String,
}

fn reason_of(reject: HeaderReject, header: &Header) -> String {
    let mut text = String::new();
    reject.write_reason(header.version, &mut text).expect("a string takes what is written");
    text
}

/// The rules of `ContextualCheckBlock` and the order of transactions, which SV Node looks at once the header is known.
fn is_late(reject: BlockReject) -> bool {
    matches!(
        reject,
        BlockReject::Order
            | BlockReject::CoinbaseHeight
            | BlockReject::Transaction { reject: TxReject::NonFinal, .. }
    )
}

/// The first transaction that spends one which stands later in the block, or itself.
fn out_of_order(block: &BlockView<'_>, txids: &[TxId]) -> Option<usize> {
    let mut places: HashMap<TxId, u32> = HashMap::with_capacity(txids.len());
    for (at, txid) in txids.iter().enumerate() {
        places.entry(*txid).or_insert(at as u32);
    }
    let (mut layout, mut txs) = (TxLayout::new(), block.txs());
    (0..txids.len()).find(|&index| {
        let view = txs.next_tx(&mut layout).ok().flatten();
        let place = |txid: &TxId| places.get(txid).copied();
        index > 0 && view.is_some_and(|view| late_parent(view, index, place).is_some())
    })
}

impl<E: Engine> State<E> {
    pub(crate) fn end_of(&self, id: Id) -> ChainEnd {
        let tree = self.view.tree();
        let entry = tree.entry(id);
        let median_time_past = entry.median_time_past;
        ChainEnd { height: entry.height, hash: entry.hash, median_time_past }
    }

    /// Hands in a header.
    pub(crate) fn submit_header(&mut self, header: &Header) -> Result<HeaderOutcome, ChainError> {
        let known = self.view.tree().len();
        Ok(match self.accept_header(header)? {
            Ok(_) if self.view.tree().len() > known => {
                self.files.headers.sync()?;
                HeaderOutcome::Accepted
            }
            Ok(_) => HeaderOutcome::Known,
            Err(reason) => HeaderOutcome::Rejected { reason },
        })
    }

    /// Finds a header in the tree, or checks it and adds it.
    fn accept_header(&mut self, header: &Header) -> Result<Result<Id, String>, ChainError> {
        let refused = |reject| Ok(Err(reason_of(reject, header)));
        let hash = header.hash();
        {
            let tree = self.view.tree();
            if let Some(id) = tree.find(&hash) {
                return match tree.entry(id).is_bad() {
                    true => refused(HeaderReject::Duplicate),
                    false => Ok(Ok(id)),
                };
            }
            if let Err(reject) = check_header_work(header, &self.params) {
                return refused(reject);
            }
            let Some(parent) = tree.find(&header.prev) else {
                return refused(HeaderReject::PrevNotFound);
            };
            let above = tree.entry(parent);
            if above.is_bad() {
                return refused(HeaderReject::BadPrev);
            }
            let height = above.height + 1;
            let checkpoint = tree.last_checkpoint(&self.params);
            if let Err(reject) = check_checkpoints(&hash, height, checkpoint, &self.params) {
                return refused(reject);
            }
            let context = HeaderContext {
                height,
                prev_median_time_s: above.median_time_past,
                required_bits: tree.required_bits(&self.params, parent, header.time_s),
                adjusted_time_s: self.clock.now_s() as u32,
            };
            if let Err(reject) = check_header_in_context(header, &context, &self.params) {
                return refused(reject);
            }
            if parent != tree.best_header() && tree.side_headers() >= SIDE_HEADERS_MAX {
                return Ok(Err("too-many-side-headers".to_owned()));
            }
        }
        self.files.headers.append(HeaderRecord::Header(*header)).map_err(not_begun)?;
        Ok(Ok(self.view.tree_mut().insert(*header)))
    }

    /// Hands in a block.
    pub(crate) fn submit_block(&mut self, raw: &[u8]) -> Result<BlockOutcome, ChainError> {
        self.take_block(raw, None)
    }

    /// Takes a block in; `leaves` if it was made of a candidate of ours.
    pub(crate) fn take_block(
        &mut self,
        raw: &[u8],
        leaves: Option<&Leaves>,
    ) -> Result<BlockOutcome, ChainError> {
        let rejected =
            |reason: String, detail: String| Ok(BlockOutcome::Rejected { reason, detail });
        let block = BlockView::parse(raw)
            .map_err(|error| ChainError::Malformed { what: error.to_string() })?;
        let header = *block.header();
        let hash = header.hash();
        let parent = {
            let tree = self.view.tree();
            if let Some(id) = tree.find(&hash) {
                let entry = tree.entry(id);
                if entry.is_bad() {
                    return Ok(BlockOutcome::Duplicate { valid: false });
                }
                // A crash may have taken the block and left what is known of it.
                match (entry.place, entry.was_connected) {
                    (Some(_), true) => return Ok(BlockOutcome::Duplicate { valid: true }),
                    (Some(_), false) => return Ok(BlockOutcome::DuplicateInconclusive),
                    (None, _) => {}
                }
            }
            tree.find(&header.prev).map(|id| {
                let above = tree.entry(id);
                (above.height, above.median_time_past)
            })
        };
        if let Err(reject) = check_header_work(&header, &self.params) {
            return rejected(reason_of(reject, &header), String::new());
        }
        let Some((parent_height, parent_mtp)) = parent else {
            return rejected(reason_of(HeaderReject::PrevNotFound, &header), String::new());
        };
        let (checked, txids) = match leaves {
            // Its root was made of these ids, and the engine judges the rest before it connects.
            Some(leaves) => (Ok(()), ours(&block, leaves)),
            None => self.check_block(&block, parent_height + 1, parent_mtp),
        };
        if let Err((reject, detail)) = &checked
            && !is_late(*reject)
        {
            return rejected(reject.reason().to_owned(), detail.clone());
        }
        let id = match self.accept_header(&header)? {
            Ok(id) => id,
            Err(reason) => return rejected(reason, String::new()),
        };
        if let Err((reject, detail)) = checked {
            self.mark_failed(id)?;
            return rejected(reject.reason().to_owned(), detail);
        }
        let place = self.files.append_block(raw, block.tx_count()).map_err(not_begun)?;
        self.view.tree_mut().stored(id, place, block.tx_count());
        let refusals = self.activate(Some(AtHand { id, raw, txids: &txids, leaves }))?;
        if let Some(refusal) = refusals.into_iter().find(|r| r.id == id) {
            return rejected(refusal.reason, refusal.detail);
        }
        Ok(match self.view.tree().is_active(id) {
            true => BlockOutcome::Connected,
            false => BlockOutcome::Stored,
        })
    }

    /// Everything about a block that needs no coins, and the ids of its transactions.
    fn check_block(
        &self,
        block: &BlockView<'_>,
        height: u32,
        parent_mtp: u32,
    ) -> (Result<(), (BlockReject, String)>, Vec<TxId>) {
        let header = block.header();
        let limit = lock_time_limit_s(&self.params, height, parent_mtp, header.time_s);
        let mut checker = BlockChecker::new(&self.params, height, limit, self.block_bytes_max);
        let mut layout = TxLayout::new();
        let mut txs = block.txs();
        let mut right_height = false;
        let mut index = 0u64;
        let mut txids = Vec::new();
        while let Ok(Some(view)) = txs.next_tx(&mut layout) {
            if index == 0 && view.is_coinbase() {
                right_height = checker.has_right_height(view);
            }
            let txid = view.txid();
            checker.add(view, &txid);
            txids.push(txid);
            index += 1;
        }
        let checked = checker.finish(&header.merkle_root, right_height).map(drop);
        if checked.err().is_none_or(is_late)
            && height + ORDER_DEPTH_MIN <= self.view.tip().height
            && let Some(at) = out_of_order(block, &txids)
        {
            let detail = format!("transaction {at} {}", txids[at]);
            return (Err((BlockReject::Order, detail)), txids);
        }
        let checked = checked.map_err(|reject| {
            let detail = match reject {
                BlockReject::Transaction { index, .. } => {
                    format!("transaction {index} {}", txids[index as usize])
                }
                _ => String::new(),
            };
            (reject, detail)
        });
        (checked, txids)
    }

    fn mark_failed(&mut self, id: Id) -> Result<(), ChainError> {
        let hash = self.view.tree().entry(id).hash;
        if self.view.tree_mut().fail(id) {
            self.note(HeaderRecord::Failed(hash))?;
            self.files.headers.sync()?;
        }
        Ok(())
    }

    /// A mark that would be found again: a disk without room may go without it.
    fn note(&mut self, record: HeaderRecord) -> Result<(), ChainError> {
        match self.files.headers.append(record) {
            Err(error) if error.is_full() => {
                tracing::warn!("{error}; a restart has to find out about a block again");
                Ok(())
            }
            done => Ok(done?),
        }
    }

    /// The coins are those of a chain that journals remember: the tree follows, and the index is filled from the blocks. Blocks after
    /// it are connected as any others then.
    pub(crate) fn stand_on_recovered(&mut self) -> Result<(), ChainError> {
        let Some((hash, height)) = self.engine.recovered_tip() else { return Ok(()) };
        let tip = self.view.tree().find(&hash);
        let tip = tip.ok_or_else(|| {
            let directory = self.view.blocks().directory();
            let folder = directory.with_file_name("utxo");
            ChainError::UnknownTip { folder, tip: hash, height }
        })?;
        let mut coinbases = Vec::with_capacity(height as usize);
        let mut progress = Progress::new();
        for at in 1..=height {
            let (id, place) = {
                let tree = self.view.tree();
                let id = tree.ancestor(tip, at).expect("a header has all its ancestors");
                (id, tree.entry(id).place.expect("a block is stored before it is connected"))
            };
            let raw = self.view.read(&place).map_err(|e| self.read_error(e))?;
            let txids = txids_of(&raw);
            coinbases.push(txids[0]);
            self.view.index_mut().add(rows(id, &raw, &txids)).map_err(index_error)?;
            self.view.tree_mut().connect(id);
            progress.say(at, height);
        }
        let end = self.end_of(tip);
        self.engine.stand_on(&coinbases, end)?;
        self.pool.set_tip_height(end.height);
        // A word against the tip is on disk before anything moves: a crash may have come in between.
        let mut is_taken_back = false;
        while self.is_tip_bad() {
            self.disconnect_tip()?;
            is_taken_back = true;
        }
        if is_taken_back {
            self.view.tree_mut().reconsider_all();
        }
        self.announce.send_replace(self.view.tip());
        Ok(())
    }

    fn is_tip_bad(&self) -> bool {
        let tree = self.view.tree();
        tree.entry(tree.tip()).is_bad()
    }

    /// Whether a block that is stored waits to be connected.
    pub(crate) fn is_behind(&self) -> bool {
        let tree = self.view.tree();
        tree.tip() != tree.best()
    }

    /// Moves the coins to the best chain there is. What failed on the way is marked and named in the answer.
    pub(crate) fn activate(
        &mut self,
        at_hand: Option<AtHand<'_>>,
    ) -> Result<Vec<Refusal>, ChainError> {
        let mut refusals = Vec::new();
        let before = self.view.tree().tip();
        let mut progress = Progress::new();
        loop {
            let (tip, best, fork) = {
                let tree = self.view.tree();
                let best = tree.best();
                (tree.tip(), best, tree.fork(best))
            };
            if tip == best || self.stop.is_requested() {
                break;
            }
            if tip != fork {
                self.disconnect_tip()?;
                continue;
            }
            let (next, best_height) = {
                let tree = self.view.tree();
                let height = tree.entry(tip).height + 1;
                let next = tree.ancestor(best, height).expect("the best block is above the fork");
                (next, tree.entry(best).height)
            };
            if let Some(refusal) = self.connect(next, at_hand.filter(|b| b.id == next))? {
                tracing::warn!(
                    reason = refusal.reason,
                    detail = refusal.detail,
                    "a block is invalid; it and everything on it are marked"
                );
                refusals.push(refusal);
            }
            // While the coins are rebuilt, whoever waits for that says how far it is.
            if self.view.is_ready() {
                progress.say(self.view.tree().entry(next).height, best_height);
            }
        }
        let tip = self.view.tree().tip();
        if tip != before {
            self.announce.send_replace(self.view.tip());
        }
        Ok(refusals)
    }

    /// Connects a block on the tip. `Some`: it is invalid and marked, the tip stands.
    fn connect(
        &mut self,
        id: Id,
        at_hand: Option<AtHand<'_>>,
    ) -> Result<Option<Refusal>, ChainError> {
        let (place, is_first) = {
            let tree = self.view.tree();
            let entry = tree.entry(id);
            (entry.place.expect("a candidate for the tip is stored"), !entry.was_connected)
        };
        let read;
        let raw = if let Some(block) = at_hand {
            block.raw
        } else {
            read = self.view.read(&place).map_err(|e| self.read_error(e))?;
            &read
        };
        let end = self.end_of(id);
        let block = BlockToConnect { raw, end };
        let mut connected = match at_hand.and_then(|b| b.leaves) {
            Some(leaves) => self.engine.connect_ours(&block, leaves),
            None => self.engine.connect(&block),
        };
        let mut tries = 1;
        while let Err(ConnectError::Failed(NodeError::Block(Trouble::Overloaded { .. }))) =
            connected
            && tries < OVERLOADED_TRIES_MAX
        {
            // The pool fills what the block needs, and has not changed for it; it drains in a moment.
            std::thread::sleep(OVERLOADED_REST * tries);
            tries += 1;
            connected = self.engine.connect(&block);
        }
        match connected {
            Ok(_) => {}
            Err(ConnectError::Rejected(rejection)) => {
                let mut detail = format!("block {} at height {}", end.hash, end.height);
                if let Some(txid) = rejection.txid {
                    detail += &format!(", transaction {txid}");
                }
                if let Some(vin) = rejection.vin {
                    detail += &format!(", input {vin}");
                }
                // Its merkle root was compared before it was stored: no other transactions fit its header.
                self.mark_failed(id)?;
                return Ok(Some(Refusal { id, reason: rejection.reason, detail }));
            }
            Err(ConnectError::Failed(error)) => return Err(error.into()),
        }
        let hashed;
        let txids = if let Some(block) = at_hand {
            block.txids
        } else {
            hashed = txids_of(raw);
            &hashed
        };
        self.view.index_mut().add(rows(id, raw, txids)).map_err(index_error)?;
        self.view.tree_mut().connect(id);
        self.pool.mined(&txids[1..]);
        self.pool.set_tip_height(end.height);
        if is_first {
            self.note(HeaderRecord::Connected(end.hash))?;
        }
        Ok(None)
    }

    /// Takes the tip off the chain and gives its transactions back to the pool.
    fn disconnect_tip(&mut self) -> Result<(), ChainError> {
        let (place, parent) = {
            let tree = self.view.tree();
            let entry = tree.entry(tree.tip());
            (entry.place.expect("a connected block is stored"), entry.parent)
        };
        let raw = self.view.read(&place).map_err(|e| self.read_error(e))?;
        let end = self.end_of(parent);
        let disconnected = self.engine.disconnect(&raw, end)?;
        self.view.tree_mut().disconnect();
        self.pool.unmined(&txids_of(&raw));
        self.pool.set_tip_height(end.height);
        self.restore(&raw, &disconnected.restored)
    }

    /// Puts transactions of a disconnected block into the pool's view again.
    fn restore(&mut self, raw: &[u8], restored: &[TxId]) -> Result<(), ChainError> {
        let wanted: std::collections::HashSet<&TxId> = restored.iter().collect();
        let block = BlockView::new(raw).expect("a connected block was parsed before");
        let mut layout = TxLayout::new();
        let mut txs = block.txs();
        // What the block itself paid to: its transactions spend each other.
        let mut paid: HashMap<OutPoint, u64> = HashMap::new();
        while let Ok(Some(view)) = txs.next_tx(&mut layout) {
            let txid = view.txid();
            if wanted.contains(&txid) {
                let mut in_sat = 0;
                for input in view.inputs() {
                    in_sat += match paid.get(&input.prev) {
                        Some(value_sat) => *value_sat,
                        None => self.value_of(input.prev)?,
                    };
                }
                let out_sat: u64 = view.outputs().map(|o| o.value_sat as u64).sum();
                self.pool.restore(txid, view.bytes(), in_sat.saturating_sub(out_sat));
            }
            for (vout, output) in view.outputs().enumerate() {
                let outpoint = OutPoint { txid, vout: vout as u32 };
                paid.insert(outpoint, output.value_sat as u64);
            }
        }
        Ok(())
    }

    /// Value of a coin that the pool may have spent, made by a block or by the pool.
    fn value_of(&mut self, outpoint: OutPoint) -> Result<u64, ChainError> {
        match self.engine.mined_coin(outpoint) {
            Ok(Some(coin)) => return Ok(coin.value_sat),
            Err(NodeError::ScriptTooLong { value_sat, .. }) => return Ok(value_sat),
            Ok(None) => {}
            Err(error) => return Err(error.into()),
        }
        let parent = self.pool.get(&outpoint.txid).map_err(|e| self.read_error(e))?;
        let mut layout = TxLayout::new();
        let value = parent.and_then(|tx| {
            let view = parse_prefix(&tx.raw, &mut layout, Limits::CONSENSUS).ok()?;
            let value = view.outputs().nth(outpoint.vout as usize)?.value_sat as u64;
            Some(value)
        });
        Ok(value.unwrap_or(0))
    }

    pub(crate) fn read_error(&self, source: std::io::Error) -> ChainError {
        let path = self.view.blocks().directory().to_owned();
        ChainError::Files(FilesError::Io { doing: "reading a block in", path, source })
    }

    /// Treats a block as invalid.
    pub(crate) fn invalidate(&mut self, hash: &BlockHash) -> Result<(), ChainError> {
        let id = self.find(hash)?;
        if self.view.tree().entry(id).height == 0 {
            return Err(ChainError::Genesis);
        }
        // The word is on disk before anything moves: a crash on the way ends in the same chain.
        self.files.headers.append(HeaderRecord::Failed(*hash)).map_err(not_begun)?;
        self.files.headers.sync()?;
        while self.view.tree().is_active(id) {
            self.disconnect_tip()?;
        }
        {
            let mut tree = self.view.tree_mut();
            tree.fail(id);
            tree.reconsider_all();
        }
        self.activate(None)?;
        self.announce.send_replace(self.view.tip());
        Ok(())
    }

    /// Takes the word back, for the block, its ancestors and its descendants.
    pub(crate) fn reconsider(&mut self, hash: &BlockHash) -> Result<(), ChainError> {
        let id = self.find(hash)?;
        let cleared = self.view.tree_mut().clear(id);
        for id in cleared {
            let hash = self.view.tree().entry(id).hash;
            self.files.headers.append(HeaderRecord::Cleared(hash)).map_err(not_begun)?;
        }
        self.files.headers.sync()?;
        self.activate(None).map(drop)
    }

    fn find(&self, hash: &BlockHash) -> Result<Id, ChainError> {
        self.view.tree().find(hash).ok_or(ChainError::UnknownBlock { hash: *hash })
    }

    /// An unspent coin.
    pub(crate) fn coin(
        &mut self,
        outpoint: OutPoint,
        include_pool: bool,
    ) -> Result<Option<CoinInfo>, ChainError> {
        let coin = match include_pool {
            true => self.engine.coin(outpoint),
            false => self.engine.mined_coin(outpoint),
        };
        Ok(coin?.map(|coin| CoinInfo {
            value_sat: coin.value_sat,
            height: coin.height,
            coinbase: coin.coinbase,
            locking_script: coin.locking_script,
            in_pool: coin.in_pool,
        }))
    }
}

/// A file that found no room was left as it was: the caller is told, and the node goes on.
fn not_begun(error: FilesError) -> ChainError {
    match error.is_full() {
        true => ChainError::NotKept { what: error.to_string() },
        false => error.into(),
    }
}

fn index_error(source: std::io::Error) -> ChainError {
    let path = PathBuf::from("chain/index");
    ChainError::Files(FilesError::Io { doing: "writing a run in", path, source })
}

/// Ids of a block's transactions, the coinbase first.
fn txids_of(raw: &[u8]) -> Vec<TxId> {
    let block = BlockView::new(raw).expect("a stored block was parsed before");
    block.txids().expect("a stored block was parsed before")
}

/// Ids of the transactions of a block that was made of a candidate.
fn ours(block: &BlockView<'_>, leaves: &Leaves) -> Vec<TxId> {
    let mut layout = TxLayout::new();
    let coinbase = block.txs().next_tx(&mut layout).ok().flatten().map(|view| view.txid());
    coinbase.into_iter().chain(leaves.txids.iter().copied()).collect()
}

/// Where each transaction of a block lies.
fn rows(block_id: Id, raw: &[u8], txids: &[TxId]) -> Vec<Row> {
    let block = BlockView::new(raw).expect("a stored block was parsed before");
    let mut rows = Vec::with_capacity(txids.len());
    let (mut layout, mut txs) = (TxLayout::new(), block.txs());
    for (index, txid) in txids.iter().enumerate() {
        let Ok(Some(view)) = txs.next_tx(&mut layout) else { break };
        let at = view.bytes().as_ptr().addr() - raw.as_ptr().addr();
        rows.push(Row::new(txid, block_id, index as u32, at as u64, view.bytes().len() as u64));
    }
    rows
}

/// Says once a second how far a long way is.
#[derive(Debug)]
struct Progress {
    began: Instant,
    said: Instant,
    blocks: u64,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self { began: now, said: now, blocks: 0 }
    }

    fn say(&mut self, height: u32, best_height: u32) {
        self.blocks += 1;
        if self.said.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.said = Instant::now();
        let per_s = self.blocks as f64 / self.began.elapsed().as_secs_f64();
        let percent = f64::from(height) * 100.0 / f64::from(best_height.max(1));
        tracing::info!(
            "connecting blocks: {height} of {best_height} ({percent:.0} %), {per_s:.0} a second"
        );
    }
}
