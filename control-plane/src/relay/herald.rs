//! The herald: the thread between the relay's tiles and the chain.
//!
//! In: headers and blocks of peers (`bfr_chain`), new tips of the chain. Out: commands to the chain, blocks for peers (`chain_bfr`). It works
//! on one thing at a time, so of a flood of blocks one is in memory here, and the rest waits on the link.
//!
//! * A header of a peer is handed to the chain at once, so that the block after it has a known parent before its own block is here.
//! * A block of a peer is handed to the chain; the relay has passed it on already.
//! * Every block that became part of the connected chain in another way (mined here, handed in by RPC, or part of a branch that won) goes
//!   to all peers, oldest first.
//! * A peer whose link comes up is sent the last blocks of the chain, up to [`CATCH_UP_BLOCKS`]: what it missed in an outage. Those it has it
//!   refuses with one packet. This is no sync: who missed more takes it from elsewhere.

use crate::chain::{BlockOutcome, Chain, ChainError, HeaderOutcome, TipInfo};
use crate::node::RelayEnds;
use crate::service::Stop;
use consensus::hash::BlockHash;
use consensus::header::Header;
use dataplane::metrics::CounterDef;
use dataplane::tile::Stamp;
use relay::compact::block::is_outline;
use relay::object::HEAD_LEN;
use relay::tile::{Desk, Note};
use relay::{Class, PeerId};
use ring::{NotSent, Refused};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Blocks that are sent to a peer whose link came up.
pub const CATCH_UP_BLOCKS: usize = 32;
/// Blocks that wait to be sent. More are left out.
pub const OUTBOX_MAX: usize = 1_024;
/// Blocks whose announcement is remembered.
const TOLD_MAX: usize = 8_192;
/// Frags taken before the chain's tip is looked at again.
const FRAGS_PER_ROUND: usize = 16;
/// How long it sleeps if nobody wakes it.
const PARK: Duration = Duration::from_millis(100);
/// How long it rests when a link gives no credit (credit wakes nobody).
const REST: Duration = Duration::from_micros(200);
/// How often a chain that is being rebuilt is looked at.
const READY_EVERY: Duration = Duration::from_millis(1);

dataplane::counters! {
    /// What the herald counts: every object of a peer once, every block of ours once.
    pub enum HeraldCount {
        /// Headers of peers that were new to the chain.
        HeadersNew = counter "headers_new_total",
        /// Headers of peers that the chain knew.
        HeadersKnown = counter "headers_known_total",
        /// Headers of peers that break a rule.
        HeadersRejected = counter "headers_rejected_total",
        /// Blocks of peers that are on the connected chain now.
        BlocksConnected = counter "blocks_connected_total",
        /// Blocks of peers that are kept on a branch without the most work, or wait for one before them.
        BlocksStored = counter "blocks_stored_total",
        /// Blocks of peers that were here.
        BlocksKnown = counter "blocks_known_total",
        /// Blocks of peers that break a rule.
        BlocksRejected = counter "blocks_rejected_total",
        /// Blocks of peers that only list subtrees, which a node does not put together.
        BlocksOutlined = counter "blocks_outlined_total",
        /// Headers and blocks of peers that the chain could not take.
        Failed = counter "chain_failed_total",
        /// Subtrees of peers; a node fills up blocks from its own pool.
        Subtrees = counter "subtrees_received_total",
        /// Other objects of peers, which a node has no use for.
        Unclaimed = counter "objects_unclaimed_total",
        /// Blocks of this node handed to the relay for all peers.
        BlocksAnnounced = counter "blocks_announced_total",
        /// Blocks handed to the relay for one peer whose link came up.
        BlocksRepeated = counter "blocks_repeated_total",
        /// Blocks not sent because too many waited.
        BlocksLeftOut = counter "blocks_left_out_total",
        /// Blocks not sent because the relay takes none of their size.
        BlocksTooLarge = counter "blocks_too_large_total",
    }
}

/// The counters of the herald, shared with whoever shows them.
#[derive(Debug)]
pub struct HeraldCounts([AtomicU64; HeraldCount::DEFS.len()]);

impl Default for HeraldCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl HeraldCounts {
    /// All, with their descriptions.
    pub fn each(&self) -> impl Iterator<Item = (&'static CounterDef, u64)> {
        HeraldCount::DEFS.iter().zip(self.0.iter().map(|count| count.load(Relaxed)))
    }

    fn add(&self, count: HeraldCount) {
        self.0[count as usize].fetch_add(1, Relaxed); // a statistic
    }
}

/// A block to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    hash: BlockHash,
    /// For this peer; for all where there is none.
    to: Option<PeerId>,
}

/// What the herald is given.
#[derive(Debug)]
pub struct HeraldParts {
    /// Its ends of the links.
    pub ends: RelayEnds,
    /// The chain.
    pub chain: Chain,
    /// Ends it.
    pub stop: Stop,
    /// Where names of peers stand.
    pub desk: Desk,
    /// Counted here.
    pub counts: Arc<HeraldCounts>,
    /// The largest object that the relay sends.
    pub object_bytes_max: u64,
}

/// The thread's state.
struct Herald {
    parts: HeraldParts,
    tip: watch::Receiver<TipInfo>,
    runtime: Handle,
    told: HashSet<BlockHash>,
    told_order: VecDeque<BlockHash>,
    outbox: VecDeque<Due>,
    /// The bytes of the first block of the outbox, once they were read.
    ready: Option<Vec<u8>>,
}

/// Starts the herald. Must be called inside a tokio runtime, which it waits with.
pub fn start(parts: HeraldParts) -> std::io::Result<JoinHandle<()>> {
    let runtime = Handle::current();
    let tip = parts.chain.subscribe();
    let waker = parts.ends.parker.waker();
    let (mut tips, stop) = (tip.clone(), parts.stop.clone());
    runtime.spawn(async move {
        loop {
            let is_over = tokio::select! {
                changed = tips.changed() => changed.is_err(),
                () = stop.requested() => true,
            };
            waker.wake_if_parked();
            if is_over {
                return;
            }
        }
    });
    let herald = Herald {
        parts,
        tip,
        runtime,
        told: HashSet::new(),
        told_order: VecDeque::new(),
        outbox: VecDeque::new(),
        ready: None,
    };
    std::thread::Builder::new().name("herald".to_owned()).spawn(move || herald.run())
}

impl Herald {
    fn run(mut self) {
        // What is on disk is nobody's news, and peers' blocks wait on the link.
        while !self.parts.chain.is_ready() {
            if self.parts.stop.is_requested() {
                return;
            }
            std::thread::sleep(READY_EVERY);
        }
        let tip = self.tip.borrow_and_update().hash;
        self.tell_no_more(tip);
        while !self.parts.stop.is_requested() {
            let mut is_busy = self.take_in();
            if self.tip.has_changed().unwrap_or(false) {
                let tip = self.tip.borrow_and_update().hash;
                self.announce(tip);
            }
            match self.send_next() {
                Sent::Yes => is_busy = true,
                Sent::Nothing => {}
                Sent::NoRoom => {
                    if !is_busy {
                        std::thread::sleep(REST);
                    }
                    continue;
                }
            }
            if !is_busy {
                let (input, tip, stop) = (&self.parts.ends.bfr_chain, &self.tip, &self.parts.stop);
                self.parts.ends.parker.park(PARK, || {
                    input.has_next() || tip.has_changed().unwrap_or(true) || stop.is_requested()
                });
            }
        }
    }

    fn count(&self, count: HeraldCount) {
        self.parts.counts.add(count);
    }

    /// What the operator calls a peer.
    fn name(&self, peer: Option<PeerId>) -> String {
        let Some(PeerId(id)) = peer else { return String::new() };
        let engine = self.parts.desk.shown().engine;
        let row = engine.and_then(|status| status.peers.into_iter().find(|row| row.id == id));
        row.map_or_else(|| format!("#{id}"), |row| row.name)
    }

    /// Takes what peers sent; whether there was any.
    fn take_in(&mut self) -> bool {
        for round in 0..FRAGS_PER_ROUND {
            let input = &mut self.parts.ends.bfr_chain;
            let Some(frag) = input.poll() else { return round > 0 };
            let note = Note::of(frag.sig).expect("bfr_chain carries notes");
            let bytes = frag.bytes.to_vec();
            // The next block may have its place on the link while the chain works on this one.
            input.return_credit();
            match note {
                Note::PeerUp { peer } => self.greet(peer),
                Note::Object { class: Class::Header, peer } => self.header(&bytes, peer),
                Note::Object { class: Class::Block, peer } => self.block(bytes, peer),
                Note::Object { class: Class::Subtree, .. } => self.count(HeraldCount::Subtrees),
                Note::Object { class: Class::Bundle | Class::Opaque, .. } => {
                    self.count(HeraldCount::Unclaimed);
                }
            }
        }
        true
    }

    fn header(&mut self, bytes: &[u8], peer: Option<PeerId>) {
        let header = bytes.first_chunk().expect("an object of class header has 80 bytes");
        let header = Header::from_bytes(header);
        let outcome = self.runtime.block_on(self.parts.chain.submit_header(header));
        match outcome {
            Ok(HeaderOutcome::Accepted) => self.count(HeraldCount::HeadersNew),
            Ok(HeaderOutcome::Known) => self.count(HeraldCount::HeadersKnown),
            Ok(HeaderOutcome::Rejected { reason }) => {
                self.count(HeraldCount::HeadersRejected);
                let (hash, from) = (header.hash(), self.name(peer));
                tracing::warn!(%hash, from, reason, "a header of a peer was refused");
            }
            Err(error) => self.failed(&error),
        }
    }

    fn block(&mut self, bytes: Vec<u8>, peer: Option<PeerId>) {
        if is_outline(&bytes) {
            return self.count(HeraldCount::BlocksOutlined);
        }
        let header = bytes.first_chunk().expect("a block starts with its header");
        let hash = Header::from_bytes(header).hash();
        let len = bytes.len();
        // Whatever becomes of it, peers have it from the relay.
        self.tell_no_more(hash);
        let outcome = self.runtime.block_on(self.parts.chain.submit_block(bytes));
        let (count, word) = match outcome {
            Ok(BlockOutcome::Connected) => (HeraldCount::BlocksConnected, "connected"),
            Ok(BlockOutcome::Stored) => (HeraldCount::BlocksStored, "stored"),
            Ok(BlockOutcome::Duplicate { .. } | BlockOutcome::DuplicateInconclusive) => {
                (HeraldCount::BlocksKnown, "known")
            }
            Ok(BlockOutcome::Rejected { reason, detail }) => {
                self.count(HeraldCount::BlocksRejected);
                let from = self.name(peer);
                tracing::warn!(%hash, from, reason, detail, "a block of a peer was refused");
                return;
            }
            Err(error) => return self.failed(&error),
        };
        self.count(count);
        let (from, height) = (self.name(peer), self.parts.chain.tip().height);
        tracing::info!(%hash, from, bytes = len, outcome = word, tip = height, "block of a peer");
    }

    fn failed(&self, error: &ChainError) {
        self.count(HeraldCount::Failed);
        if !matches!(error, ChainError::Stopping) {
            tracing::warn!(%error, "what a peer sent was not taken");
        }
    }

    fn tell_no_more(&mut self, hash: BlockHash) {
        if !self.told.insert(hash) {
            return;
        }
        self.told_order.push_back(hash);
        if self.told_order.len() > TOLD_MAX
            && let Some(oldest) = self.told_order.pop_front()
        {
            self.told.remove(&oldest);
        }
    }

    /// The blocks from `tip` down for which `more` holds, oldest first.
    fn chain_to(
        &self,
        tip: BlockHash,
        mut more: impl FnMut(&BlockHash, u64) -> bool,
    ) -> Vec<BlockHash> {
        let (mut found, mut at) = (Vec::new(), tip);
        while let Some(block) = self.parts.chain.header(&at).filter(|block| block.height > 0) {
            if !more(&at, block.size_bytes) {
                break;
            }
            found.push(at);
            at = block.header.prev;
        }
        found.reverse();
        found
    }

    /// Puts the blocks that are new with this tip into the outbox.
    fn announce(&mut self, tip: BlockHash) {
        let mut left = OUTBOX_MAX;
        let fresh = self.chain_to(tip, |hash, _| {
            left = left.saturating_sub(1);
            left > 0 && !self.told.contains(hash)
        });
        for hash in fresh {
            self.tell_no_more(hash);
            self.put(Due { hash, to: None });
        }
    }

    /// Puts the last blocks of the chain into the outbox, for a peer whose link came up.
    fn greet(&mut self, peer: PeerId) {
        let tip = self.parts.chain.tip().hash;
        // What waits for other peers is to have room as well.
        let bytes_max = self.parts.object_bytes_max;
        let (mut blocks, mut bytes) = (0, 0);
        let last = self.chain_to(tip, |_, size_bytes| {
            blocks += 1;
            bytes += size_bytes;
            blocks <= CATCH_UP_BLOCKS && bytes <= bytes_max
        });
        for hash in last {
            self.put(Due { hash, to: Some(peer) });
        }
    }

    fn put(&mut self, due: Due) {
        if self.outbox.len() == OUTBOX_MAX {
            self.count(HeraldCount::BlocksLeftOut);
        } else if !self.outbox.contains(&due) {
            self.outbox.push_back(due);
        }
    }

    /// Hands the first block of the outbox to the relay.
    fn send_next(&mut self) -> Sent {
        let Some(Due { hash, to }) = self.outbox.front().copied() else { return Sent::Nothing };
        if self.ready.is_none() {
            match self.parts.chain.block(&hash) {
                Ok(Some(bytes)) => self.ready = Some(bytes),
                // Only its header is here.
                Ok(None) => return self.done(HeraldCount::BlocksLeftOut),
                Err(error) => {
                    tracing::error!(%hash, %error, "a block to be sent cannot be read");
                    return self.done(HeraldCount::BlocksLeftOut);
                }
            }
        }
        let bytes = self.ready.as_deref().expect("it was just put there");
        if bytes.len() as u64 > self.parts.object_bytes_max - HEAD_LEN as u64 {
            let (bytes, most) = (bytes.len(), self.parts.object_bytes_max);
            tracing::warn!(%hash, bytes, most, "a block is too large for the relay; see bfr.object_bytes_max");
            return self.done(HeraldCount::BlocksTooLarge);
        }
        let out = &mut self.parts.ends.chain_bfr;
        let note = Note::Object { class: Class::Block, peer: to };
        let producer = out.producer();
        producer.refresh();
        match producer.publish_any(note.sig(), Stamp::default().0, bytes, 0) {
            Ok(_) => {
                out.wake();
                self.done(match to {
                    None => HeraldCount::BlocksAnnounced,
                    Some(_) => HeraldCount::BlocksRepeated,
                })
            }
            Err(NotSent::Refused(Refused::TooLarge)) => self.done(HeraldCount::BlocksTooLarge),
            Err(_) => Sent::NoRoom,
        }
    }

    fn done(&mut self, count: HeraldCount) -> Sent {
        self.count(count);
        self.outbox.pop_front();
        self.ready = None;
        Sent::Yes
    }
}

/// What became of the first block of the outbox.
enum Sent {
    /// It is out of the way.
    Yes,
    /// There was none.
    Nothing,
    /// It waits for the link.
    NoRoom,
}
