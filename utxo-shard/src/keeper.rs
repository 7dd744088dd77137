//! The keeper of a shard: journal, checkpoints and truncation, turned by whoever turns the shard.
//!
//! In: what the shard's log holds, the epoch that is complete everywhere, orders to take checkpoints. Out: how far the journal is
//! durable, checkpoints ready to be named by the manifest. Nothing blocks; every turn does a bounded piece.
//!
//! *Checkpoint*: the shard begins it where its epoch ends; pages go to the slot that the manifest does not name, a few a turn,
//! more when copies run short. *Truncation*: once the manifest names a checkpoint, the oldest segment is read again, and every
//! decision in it that is still needed is copied forward: its spends were logged after the checkpoint (a cut could lose them), or it
//! is in no block yet (pack needs its bytes after a restart). The segment goes once the copies' epoch is complete everywhere.

use crate::checkpoint::PageOf;
use crate::disk::{Disk, Done, FileId, Op};
use crate::journal::{
    BLOCK_BYTES, FRAME_BYTES, FrameHead, Health, NoRecord, Record, Records, Segment, Writer,
    WriterCounts, is_full, segment_path, shard_folder,
};
use crate::memory::SnapshotStep;
use crate::shard::Shard;
use crate::slot::{Chunks, SlotEntry, SlotName, slot_path};
use dataplane::msg::Epoch;
use std::sync::{Arc, OnceLock};

/// Pages handed to the slot in one turn, and in a turn while copies run short.
const PAGES_PER_TURN: usize = 16;
const PAGES_PER_PRESSED_TURN: usize = 62;
/// Blocks of a slot under way at once.
const SLOT_WRITES_MAX: usize = 8;
/// Turns between two tries on a full disk.
const RETRY_TURNS: u32 = 256;
/// Turns before a checkpoint that found no room is asked for again.
const REST_TURNS: u32 = 1 << 16;
/// The slot, and the segment that is read again, at the second handle.
const SLOT: FileId = FileId(1);
const OLD: FileId = FileId(2);

/// Bugs that tests plant, to see that they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// Old segments go without a copy of what is needed.
    NoCopies,
    /// Decisions whose spends were cut off are left alone.
    NoRedo,
    /// Each shard recovers to the last epoch that is whole in itself.
    OwnEpoch,
}

/// Bounds of a shard's files. Defaults are those of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Blocks of 256 KiB that the log may hold while the disk is slow.
    pub log_blocks: usize,
    /// Bytes after which a segment is followed by the next.
    pub segment_bytes: u64,
    /// Bytes by which the journal grows before a checkpoint is asked for.
    pub checkpoint_bytes: u64,
    /// Bytes of journal above which the pool decides nothing more until it has been truncated.
    pub journal_bytes_max: u64,
    /// Pages of each of the two memories that may change while they wait to be written.
    pub copies_max: usize,
    /// Shards are loaded and replayed at the same time, a thread each.
    pub threads: bool,
    #[cfg(test)]
    pub(crate) plant: Option<Plant>,
}

impl Limits {
    /// Whether a bug is planted: never outside tests.
    #[cfg(test)]
    pub(crate) fn is_planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests look")]
    pub(crate) fn is_planted(&self, _plant: Plant) -> bool {
        false
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            log_blocks: crate::journal::LOG_BLOCKS,
            segment_bytes: 64 << 20,
            checkpoint_bytes: 512 << 20,
            journal_bytes_max: 16 << 30,
            copies_max: 64 << 10,
            threads: true,
            #[cfg(test)]
            plant: None,
        }
    }
}

/// Where a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointState {
    /// None is under way.
    Idle,
    /// It begins where this epoch ends.
    Ordered {
        /// The epoch.
        at: u64,
    },
    /// Pages are being written.
    Writing {
        /// As of the end of this epoch.
        at: u64,
    },
    /// It is on the disk, and the manifest may name it once `at` is complete everywhere.
    Written {
        /// As of the end of this epoch.
        at: u64,
        /// What the manifest is to say.
        entry: SlotEntry,
    },
    /// It was given up: copies ran out, or the disk is full. Order another one.
    Lost {
        /// Which.
        at: u64,
    },
}

/// What a keeper counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeeperStats {
    /// Of the journal's writer.
    pub writer: WriterCounts,
    /// Bytes of the journal's segments.
    pub journal_bytes: u64,
    /// Its segments.
    pub segments: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Checkpoints given up.
    pub checkpoints_lost: u64,
    /// Bytes written to slots.
    pub checkpoint_bytes: u64,
    /// Decisions copied forward.
    pub copied_forward: u64,
    /// Segments dropped.
    pub segments_dropped: u64,
}

/// What a keeper begins with.
#[derive(Debug)]
pub(crate) struct KeeperStart {
    pub shard: u16,
    pub folder: u32,
    pub incarnation: u32,
    pub limits: Limits,
    /// What the manifest names.
    pub named: SlotEntry,
    pub writer: Writer,
    pub disk: Box<dyn Disk>,
}

/// What a keeper had to say when its files failed, for whoever is on another thread.
pub type LastWords = Arc<OnceLock<String>>;

/// A checkpoint under way.
#[derive(Debug)]
struct Taking {
    at: u64,
    slot: u32,
    state: TakingState,
    /// Bytes of the roots that are written.
    roots_done: usize,
    under_way: usize,
    position: u64,
    checksum: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakingState {
    Waiting,
    Creating,
    Roots,
    Pages,
    /// Everything was handed to the disk.
    Draining,
    Syncing,
    Done,
    /// It is given up, and writes are still under way; then the slot's room is given back.
    Losing,
    Clearing,
    Lost,
}

/// A segment that is read again before it goes.
#[derive(Debug)]
struct Dropping {
    segment: Segment,
    state: DroppingState,
    at: u64,
    buffer: Vec<u8>,
    records: Records,
    /// Records of the frame in the buffer that were looked at.
    looked: usize,
    /// Epoch of the newest copy.
    copied_in: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DroppingState {
    Opening,
    Reading,
    /// A frame is in the buffer; its record at this place goes on.
    Looking,
    Waiting,
    Removing,
}

/// See the module.
#[derive(Debug)]
pub struct Keeper {
    shard: u16,
    folder: u32,
    incarnation: u32,
    limits: Limits,
    writer: Writer,
    /// Slots and old segments go through a handle of their own, so that they do not delay commits.
    disk: Box<dyn Disk>,
    complete: u64,
    named: SlotEntry,
    taking: Option<Taking>,
    chunks: Chunks,
    blocks: Vec<Vec<u8>>,
    dropping: Option<Dropping>,
    /// Bytes of the journal when all that could go had gone: what is needed whatever the manifest names.
    floor: u64,
    /// Buffer of the last segment that was dropped, for the next.
    spare: Vec<u8>,
    again: Vec<Op>,
    turns: u32,
    /// Turns in which no checkpoint is asked for, after one that found no room.
    rest: u32,
    failed: Option<String>,
    last_words: LastWords,
    stats: KeeperStats,
}

/// A decision that could not be copied yet.
enum Look {
    Bad,
    Crowded,
}

impl From<NoRecord> for Look {
    fn from(_: NoRecord) -> Self {
        Self::Bad
    }
}

impl Keeper {
    pub(crate) fn new(start: KeeperStart) -> Self {
        Self {
            shard: start.shard,
            folder: start.folder,
            incarnation: start.incarnation,
            limits: start.limits,
            complete: start.writer.durable(),
            writer: start.writer,
            disk: start.disk,
            named: start.named,
            taking: None,
            chunks: Chunks::new(),
            blocks: (0..SLOT_WRITES_MAX).map(|_| Vec::with_capacity(BLOCK_BYTES)).collect(),
            dropping: None,
            floor: 0,
            spare: vec![0; BLOCK_BYTES],
            again: Vec::with_capacity(SLOT_WRITES_MAX),
            turns: 0,
            rest: 0,
            failed: None,
            last_words: LastWords::default(),
            stats: KeeperStats::default(),
        }
    }

    /// Newest epoch that is on the disk in this shard, and all before it.
    pub fn durable(&self) -> Epoch {
        Epoch { incarnation: self.incarnation, number: self.writer.durable() }
    }

    /// The newest epoch that is durable in every shard.
    pub fn complete(&mut self, everywhere: u64) {
        self.complete = self.complete.max(everywhere);
    }

    /// How the files are.
    pub fn health(&self) -> Health {
        match &self.failed {
            Some(text) => Health::Failed { text: text.clone() },
            None => self.writer.health().clone(),
        }
    }

    /// Where it says why its files failed, if they do.
    pub fn last_words(&self) -> LastWords {
        Arc::clone(&self.last_words)
    }

    /// What it counts.
    pub fn stats(&self) -> KeeperStats {
        KeeperStats {
            writer: self.writer.counts(),
            journal_bytes: self.writer.bytes(),
            segments: self.writer.segments() as u64,
            ..self.stats
        }
    }

    /// Whether the journal has grown past its share since it was cut down: by [`Limits::checkpoint_bytes`], or twofold where the
    /// last cut left more than that (a large pool is copied forward, and must not be for every few bytes that come).
    pub fn wants_checkpoint(&self) -> bool {
        let grown = self.floor + self.limits.checkpoint_bytes.max(self.floor);
        self.taking.as_ref().is_none_or(|taking| taking.state == TakingState::Lost)
            && self.dropping.is_none()
            && self.rest == 0
            && self.writer.bytes() > grown.min(self.limits.journal_bytes_max / 4 * 3)
            && !self.has_segment_to_drop()
    }

    /// Blocks until the disk has done something, if it has anything to do: for callers that have nothing else to do.
    pub(crate) fn wait(&mut self) {
        if self.writer.is_idle() {
            self.disk.wait();
        } else {
            self.writer.wait();
        }
    }

    /// Orders a checkpoint as of the end of epoch `at`, which the shard has not left. A second order while one is under way is void;
    /// one that is written and was never named, because another shard's was lost, gives way.
    pub fn checkpoint(&mut self, shard: &mut Shard, at: u64) {
        let ended = |taking: &Taking| matches!(taking.state, TakingState::Done | TakingState::Lost);
        if !self.taking.as_ref().is_none_or(ended) {
            return;
        }
        assert!(shard.epoch().number <= at, "epoch {at} has ended in shard {}", self.shard);
        shard.checkpoint_after(at);
        self.taking = Some(Taking {
            at,
            slot: self.named.other(),
            state: TakingState::Waiting,
            roots_done: 0,
            under_way: 0,
            position: 0,
            checksum: 0,
        });
    }

    /// Where the checkpoint is.
    pub fn checkpoint_state(&self) -> CheckpointState {
        let Some(taking) = &self.taking else { return CheckpointState::Idle };
        let at = taking.at;
        match taking.state {
            TakingState::Waiting => CheckpointState::Ordered { at },
            TakingState::Done => CheckpointState::Written {
                at,
                entry: SlotEntry {
                    slot: taking.slot,
                    epoch: at,
                    bytes: taking.position,
                    checksum: taking.checksum,
                },
            },
            TakingState::Lost => CheckpointState::Lost { at },
            _ => CheckpointState::Writing { at },
        }
    }

    /// The manifest names the checkpoint of `at`: the journal may go up to there.
    pub fn installed(&mut self, at: u64) {
        if let CheckpointState::Written { at: written, entry } = self.checkpoint_state()
            && written == at
        {
            self.named = entry;
            self.taking = None;
            self.stats.checkpoints += 1;
            self.note_floor();
        }
    }

    /// Gives a checkpoint up that this or another shard has lost.
    pub fn abandon(&mut self) {
        if let Some(taking) = &mut self.taking
            && matches!(taking.state, TakingState::Done | TakingState::Lost)
        {
            self.taking = None;
        }
    }

    /// Whether nothing is under way: no write, no checkpoint, nothing to drop.
    pub fn is_idle(&self) -> bool {
        self.writer.is_idle() && self.taking.is_none() && !self.is_dropping()
    }

    fn note_floor(&mut self) {
        if !self.has_segment_to_drop() {
            self.floor = self.writer.bytes();
        }
    }

    fn is_dropping(&self) -> bool {
        self.dropping.is_some() || self.has_segment_to_drop()
    }

    fn has_segment_to_drop(&self) -> bool {
        self.writer.oldest().is_some_and(|oldest| oldest.last_epoch <= self.named.epoch)
    }

    /// Moves everything on; true if anything was done.
    pub fn turn(&mut self, shard: &mut Shard) -> bool {
        shard.log.set_complete(self.complete);
        let over = self.writer.bytes() > self.limits.journal_bytes_max;
        shard.log.set_limited(over || shard.is_checkpoint_pressed());
        self.rest = self.rest.saturating_sub(1);
        let mut moved = self.writer.turn(&mut shard.log);
        while let Some(done) = self.disk.poll() {
            moved = true;
            self.take(done);
        }
        if self.last_words.get().is_none()
            && let Health::Failed { text } = self.health()
        {
            self.last_words.get_or_init(|| text);
        }
        if self.failed.is_some() {
            return moved;
        }
        if !self.again.is_empty() {
            self.turns += 1;
            if self.turns < RETRY_TURNS {
                return moved;
            }
            self.turns = 0;
            for op in std::mem::take(&mut self.again) {
                self.submit(op);
            }
        }
        moved |= self.take_checkpoint(shard);
        moved |= self.drop_segments(shard);
        moved
    }

    fn submit(&mut self, op: Op) {
        if let Err(op) = self.disk.submit(op) {
            self.again.push(op);
        }
    }

    fn take(&mut self, done: Done) {
        let Done { op, result } = done;
        match (op, result) {
            (Op::Write { file, at, bytes, from }, Ok(n)) if from + n < bytes.len() && n > 0 => {
                self.submit(Op::Write { file, at: at + n as u64, bytes, from: from + n });
            }
            (Op::Write { bytes, .. }, Ok(n)) if n > 0 => {
                self.give_back(bytes);
                self.taking_mut().under_way -= 1;
            }
            (Op::Write { bytes, .. }, result) => {
                self.give_back(bytes);
                self.taking_mut().under_way -= 1;
                let error = result.err().unwrap_or_else(|| std::io::ErrorKind::WriteZero.into());
                self.lose(&error, "writing");
            }
            (Op::Create { .. }, Ok(_)) => self.taking_mut().state = TakingState::Roots,
            (op @ Op::Create { .. }, Err(error)) => self.lose(&error, op.what()),
            (Op::Sync { .. }, Ok(_)) => {
                self.submit(Op::Close { file: SLOT });
                self.submit(Op::SyncDir { path: shard_folder(self.shard) });
            }
            // What it takes on the disk is worth a try and no more.
            (Op::Truncate { .. }, _) => self.taking_mut().state = TakingState::Lost,
            (Op::SyncDir { .. }, Ok(_)) => {
                if let Some(taking) = &mut self.taking
                    && taking.state == TakingState::Syncing
                {
                    taking.state = TakingState::Done;
                }
            }
            (Op::Close { .. }, _) => {}
            (Op::Open { .. }, Ok(_)) => self.dropping_mut().state = DroppingState::Reading,
            (Op::Read { bytes, .. }, Ok(n)) => {
                let dropping = self.dropping_mut();
                dropping.buffer = bytes;
                dropping.buffer.truncate(n);
                dropping.looked = 0;
                dropping.state = DroppingState::Looking;
            }
            (Op::Remove { .. }, Ok(_)) => {
                let dropped = self.dropping.take().expect("a segment that goes");
                self.spare = dropped.buffer;
                self.writer.forget_oldest();
                self.stats.segments_dropped += 1;
                self.note_floor();
            }
            (op, Err(error)) => self.fail(op.what(), &error),
            (op, Ok(_)) => {
                self.fail(op.what(), &std::io::Error::other("an answer nobody asked for"));
            }
        }
    }

    fn taking_mut(&mut self) -> &mut Taking {
        self.taking.as_mut().expect("a slot is written for a checkpoint")
    }

    fn dropping_mut(&mut self) -> &mut Dropping {
        self.dropping.as_mut().expect("a segment is read because it goes")
    }

    fn give_back(&mut self, mut block: Vec<u8>) {
        block.clear();
        self.blocks.push(block);
    }

    /// A checkpoint that cannot be written is given up; only a full disk may be tried again.
    fn lose(&mut self, error: &std::io::Error, doing: &'static str) {
        if is_full(error) {
            self.give_up();
        } else {
            self.fail(doing, error);
        }
    }

    fn give_up(&mut self) {
        self.rest = REST_TURNS;
        let taking = self.taking_mut();
        if taking.state != TakingState::Losing {
            taking.state = TakingState::Losing;
            self.stats.checkpoints_lost += 1;
        }
    }

    fn fail(&mut self, doing: &'static str, error: &std::io::Error) {
        let shard = self.shard;
        self.failed = Some(format!(
            "shard {shard}: {doing} a checkpoint or an old part of the journal: {error}; no more \
             checkpoints are taken: look at the disk, then start the node again"
        ));
    }

    fn take_checkpoint(&mut self, shard: &mut Shard) -> bool {
        let Some(taking) = &mut self.taking else { return false };
        let at = taking.at;
        match taking.state {
            TakingState::Waiting => {
                if shard.checkpoint_begun() != Some(at) {
                    return false;
                }
                taking.state = TakingState::Creating;
                let path = slot_path(self.shard, taking.slot);
                let name = SlotName { shard: self.shard, folder: self.folder, epoch: at };
                self.chunks.begin(name);
                self.submit(Op::Create { file: SLOT, path, room_bytes: 0 });
            }
            TakingState::Roots => {
                let Some(mut block) = self.blocks.pop() else { return false };
                let roots = shard.checkpoint_roots();
                let rest = self.chunks.roots(&roots[taking.roots_done..], &mut block);
                taking.roots_done = roots.len() - rest.len();
                if rest.is_empty() {
                    taking.state = TakingState::Pages;
                }
                self.write_chunk(block);
            }
            TakingState::Pages => return self.take_pages(shard),
            TakingState::Draining if taking.under_way == 0 => {
                taking.state = TakingState::Syncing;
                self.submit(Op::Sync { file: SLOT });
            }
            TakingState::Losing => {
                shard.checkpoint_end();
                if taking.under_way > 0 {
                    return false;
                }
                taking.state = TakingState::Clearing;
                let path = slot_path(self.shard, taking.slot);
                self.submit(Op::Truncate { path, len: 0 });
            }
            _ => return false,
        }
        true
    }

    fn take_pages(&mut self, shard: &mut Shard) -> bool {
        let pressed = shard.is_checkpoint_pressed();
        let mut left = if pressed { PAGES_PER_PRESSED_TURN } else { PAGES_PER_TURN };
        let mut moved = false;
        while left > 0 {
            if self.chunks.room() == 0 {
                let Some(mut block) = self.blocks.pop() else { break };
                self.chunks.pages(&mut block);
                self.write_chunk(block);
            }
            let most = left.min(self.chunks.room());
            let before = self.chunks.room();
            let chunks = &mut self.chunks;
            let step = shard.checkpoint_step(most, &mut |of: PageOf, number, bytes: &[u8]| {
                chunks.page(of, number, bytes);
            });
            moved = true;
            left = left.saturating_sub((before - self.chunks.room()).max(1));
            match step {
                SnapshotStep::More | SnapshotStep::Done => {}
                SnapshotStep::Lost => {
                    self.give_up();
                    return true;
                }
                SnapshotStep::Idle => {
                    self.finish_pages();
                    return true;
                }
            }
        }
        moved
    }

    /// Every page was handed out.
    fn finish_pages(&mut self) {
        if self.chunks.has_pages() {
            let Some(mut block) = self.blocks.pop() else { return };
            self.chunks.pages(&mut block);
            self.write_chunk(block);
        }
        let Some(mut block) = self.blocks.pop() else { return };
        let checksum = self.chunks.end(&mut block);
        self.write_chunk(block);
        let taking = self.taking_mut();
        taking.checksum = checksum;
        taking.state = TakingState::Draining;
    }

    fn write_chunk(&mut self, block: Vec<u8>) {
        self.stats.checkpoint_bytes += block.len() as u64;
        let taking = self.taking_mut();
        let at = taking.position;
        taking.position += block.len() as u64;
        taking.under_way += 1;
        self.submit(Op::Write { file: SLOT, at, bytes: block, from: 0 });
    }

    fn drop_segments(&mut self, shard: &mut Shard) -> bool {
        let no_copies = self.limits.is_planted(Plant::NoCopies);
        let Some(dropping) = &mut self.dropping else {
            if !self.has_segment_to_drop() {
                return false;
            }
            let segment = self.writer.oldest().expect("looked at");
            self.dropping = Some(Dropping {
                segment,
                state: DroppingState::Opening,
                at: 0,
                buffer: std::mem::take(&mut self.spare),
                records: Records::default(),
                looked: 0,
                copied_in: 0,
            });
            let path = segment_path(self.shard, segment.number);
            self.submit(Op::Open { file: OLD, path });
            return true;
        };
        match dropping.state {
            DroppingState::Reading if dropping.at >= dropping.segment.bytes || no_copies => {
                dropping.state = DroppingState::Waiting;
                self.submit(Op::Close { file: OLD });
            }
            DroppingState::Reading => {
                let mut bytes = std::mem::take(&mut dropping.buffer);
                let left = dropping.segment.bytes - dropping.at;
                bytes.resize(left.min(BLOCK_BYTES as u64) as usize, 0);
                let at = dropping.at;
                dropping.state = DroppingState::Opening;
                self.submit(Op::Read { file: OLD, at, bytes });
            }
            DroppingState::Looking => return self.look_at_frame(shard),
            // The original goes only once its copy cannot be lost any more.
            DroppingState::Waiting if dropping.copied_in <= self.complete => {
                dropping.state = DroppingState::Removing;
                let path = segment_path(self.shard, dropping.segment.number);
                self.submit(Op::Remove { path });
            }
            _ => return false,
        }
        true
    }

    /// Copies what is still needed of the frame in the buffer; stays at it while the log has no room.
    fn look_at_frame(&mut self, shard: &mut Shard) -> bool {
        let named = self.named.epoch;
        let Some(dropping) = &mut self.dropping else { return false };
        let Ok((head, payload)) = FrameHead::read(&dropping.buffer) else {
            let number = dropping.segment.number;
            let at = dropping.at;
            self.failed = Some(format!(
                "shard {}: byte {at} of {} is not what was written there; nothing is dropped any \
                 more: look at the disk",
                self.shard,
                segment_path(self.shard, number).display()
            ));
            return true;
        };
        let (mut copies, mut copied_in, mut place) = (0, 0, 0);
        let looked = &mut dropping.looked;
        // After a full log the same frame is looked at again, from the record that found no room.
        let carry = dropping.records.clone();
        let len = FRAME_BYTES + payload.len();
        let fed: Result<(), Look> = dropping.records.feed(head.begins, payload, |record| {
            place += 1;
            if place <= *looked {
                return Ok(());
            }
            let needed = match record {
                Record::Decision(d) if shard.needs_decision(d, named) => Some(d),
                _ => None,
            };
            let Some(decision) = needed else {
                *looked = place;
                return Ok(());
            };
            let bytes = Shard::decision_bytes(decision.tx.len(), decision.parents.len());
            let midway = shard.log.midway() == Some(decision.txid);
            if !midway && !shard.log.has_room(bytes) || !shard.log_copy(decision) {
                return Err(Look::Crowded);
            }
            *looked = place;
            copies += 1;
            copied_in = shard.epoch().number;
            Ok(())
        });
        dropping.copied_in = dropping.copied_in.max(copied_in);
        self.stats.copied_forward += copies;
        match fed {
            Ok(()) => {
                dropping.at += len as u64;
                dropping.state = DroppingState::Reading;
            }
            Err(Look::Crowded) => dropping.records = carry,
            Err(Look::Bad) => {
                self.failed = Some(format!(
                    "shard {}: a frame at byte {} of an old segment has no records; nothing is \
                     dropped any more: look at the disk",
                    self.shard, dropping.at
                ));
            }
        }
        true
    }
}
