//! The writer of a journal: sealed frames in, epochs on the disk out, never a wait.
//!
//! Frames go to the segment under way in order, several writes at a time; when the last frame of an epoch and all before it are
//! written the segment is synced, and what the sync covers is durable. Epochs that end meanwhile share the next sync. A segment
//! that is full is followed by the next one, made ahead; that happens between epochs and between records, so a segment can be read,
//! and dropped, by itself.
//!
//! A full disk is waited out: the write is tried again, nothing becomes durable meanwhile, and the log fills up, which slows the shard
//! down. A failed write or sync is final: what a disk has after a failed sync nobody knows, so no epoch completes any more.

use super::frame::BLOCK_BYTES;
use super::log::{Log, Sealed};
use super::scan::{segment_path, shard_folder};
use crate::disk::{Disk, Done, FileId, Op};
use std::collections::VecDeque;
use std::io;

/// Writes under way at once.
const WRITES_MAX: usize = 16;
/// Turns between two tries on a full disk.
const RETRY_TURNS: u32 = 256;

/// How a journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It writes.
    Good,
    /// The disk is full; it tries again and again, and nothing is lost.
    DiskFull {
        /// Tries so far.
        tries: u64,
    },
    /// The disk failed: nothing more will be durable.
    Failed {
        /// What happened, and what to do.
        text: String,
    },
}

/// A segment that is written to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub number: u64,
    pub bytes: u64,
    /// Newest epoch of its records.
    pub last_epoch: u64,
}

/// Where a writer begins: with a segment of its own, which is made already.
#[derive(Clone, Debug)]
pub(crate) struct WriterStart {
    pub shard: u16,
    pub segment: u64,
    pub segment_bytes: u64,
    /// Everything up to here is durable.
    pub durable: u64,
    pub older: Vec<Segment>,
}

/// What a writer counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounts {
    /// Frames written.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Writes that took a part only and went on.
    pub short_writes: u64,
    /// Tries on a full disk.
    pub full_tries: u64,
}

#[derive(Debug)]
struct Under {
    /// Where the frame begins, in which file.
    file: FileId,
    at: u64,
    closes: u64,
    written: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Writer {
    disk: Box<dyn Disk>,
    shard: u16,
    segment_bytes: u64,
    /// The segment under way: number, next byte.
    number: u64,
    at: u64,
    last_epoch: u64,
    /// The next segment is being made; it is there.
    asked_next: bool,
    has_next: bool,
    writes: VecDeque<Under>,
    /// Epochs that are written and not synced: the newest of each, and where.
    written: VecDeque<(u64, FileId)>,
    /// How many of them the sync under way covers.
    syncing: usize,
    durable: u64,
    older: VecDeque<Segment>,
    again: VecDeque<Op>,
    turns: u32,
    health: Health,
    counts: WriterCounts,
}

impl Writer {
    pub fn new(disk: Box<dyn Disk>, start: WriterStart) -> Self {
        Self {
            disk,
            shard: start.shard,
            segment_bytes: start.segment_bytes.max(1),
            number: start.segment,
            at: 0,
            last_epoch: start.durable,
            asked_next: false,
            has_next: false,
            writes: VecDeque::with_capacity(WRITES_MAX),
            written: VecDeque::with_capacity(64),
            syncing: 0,
            durable: start.durable,
            older: start.older.into(),
            again: VecDeque::with_capacity(WRITES_MAX + 4),
            turns: 0,
            health: Health::Good,
            counts: WriterCounts::default(),
        }
    }

    /// Newest epoch that is on the disk.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    pub fn counts(&self) -> WriterCounts {
        self.counts
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.at + self.older.iter().map(|segment| segment.bytes).sum::<u64>()
    }

    /// The oldest segment that is written to its end.
    pub fn oldest(&self) -> Option<Segment> {
        self.older.front().copied()
    }

    /// It was dropped.
    pub fn forget_oldest(&mut self) {
        self.older.pop_front();
    }

    /// Segments, the one under way among them.
    pub fn segments(&self) -> usize {
        self.older.len() + 1
    }

    pub fn is_idle(&self) -> bool {
        self.writes.is_empty() && self.written.is_empty() && self.again.is_empty()
    }

    /// Blocks until something under way is done, if anything is.
    pub fn wait(&mut self) {
        self.disk.wait();
    }

    pub fn has_failed(&self) -> bool {
        matches!(self.health, Health::Failed { .. })
    }

    fn file(number: u64) -> FileId {
        FileId(number as u32)
    }

    /// Moves frames and completions on; true if anything did.
    pub fn turn(&mut self, log: &mut Log) -> bool {
        let mut moved = false;
        while let Some(done) = self.disk.poll() {
            moved = true;
            self.take(done, log);
        }
        if self.has_failed() {
            return moved;
        }
        moved |= self.submit_sync();
        if !self.again.is_empty() {
            self.turns += 1;
            if self.turns < RETRY_TURNS {
                return moved;
            }
            self.turns = 0;
            while let Some(op) = self.again.pop_front() {
                self.counts.full_tries += 1;
                if let Err(op) = self.disk.submit(op) {
                    self.again.push_front(op);
                    break;
                }
            }
            return true;
        }
        moved |= self.submit_frames(log);
        moved |= self.make_next();
        moved
    }

    fn submit_frames(&mut self, log: &mut Log) -> bool {
        let mut moved = false;
        while self.writes.len() < WRITES_MAX {
            let Some(Sealed { bytes, closes, rests }) = log.next_sealed() else { break };
            let (file, at) = (Self::file(self.number), self.at);
            self.at += bytes.len() as u64;
            self.last_epoch = self.last_epoch.max(closes);
            self.writes.push_back(Under { file, at, closes, written: false });
            self.counts.frames += 1;
            self.counts.bytes += bytes.len() as u64;
            self.submit(Op::Write { file, at, bytes, from: 0 });
            moved = true;
            if closes > 0 && rests && self.at >= self.segment_bytes && self.has_next {
                self.rotate();
            }
        }
        moved
    }

    fn submit(&mut self, op: Op) {
        if let Err(op) = self.disk.submit(op) {
            // More at once than a disk takes: it goes with the next turn.
            self.turns = RETRY_TURNS;
            self.again.push_back(op);
        }
    }

    fn rotate(&mut self) {
        let (number, bytes, last_epoch) = (self.number, self.at, self.last_epoch);
        self.older.push_back(Segment { number, bytes, last_epoch });
        self.number += 1;
        self.at = 0;
        self.asked_next = false;
        self.has_next = false;
    }

    /// Makes the next segment ahead.
    fn make_next(&mut self) -> bool {
        if self.asked_next || self.at < self.segment_bytes / 2 {
            return false;
        }
        self.asked_next = true;
        let next = self.number + 1;
        let path = segment_path(self.shard, next);
        let room_bytes = self.segment_bytes + BLOCK_BYTES as u64;
        self.submit(Op::Create { file: Self::file(next), path, room_bytes });
        true
    }

    fn submit_sync(&mut self) -> bool {
        let Some(&(_, file)) = self.written.front() else { return false };
        if self.syncing > 0 {
            return false;
        }
        self.syncing = self.written.iter().take_while(|epoch| epoch.1 == file).count();
        self.counts.syncs += 1;
        self.submit(Op::Sync { file });
        true
    }

    fn take(&mut self, done: Done, log: &mut Log) {
        let Done { op, result } = done;
        match (op, result) {
            (Op::Write { file, at, bytes, from }, Ok(n)) if from + n < bytes.len() && n > 0 => {
                self.counts.short_writes += 1;
                self.note_good();
                self.submit(Op::Write { file, at: at + n as u64, bytes, from: from + n });
            }
            (Op::Write { file, at, bytes, from }, Ok(n)) if n > 0 => {
                let begin = at - from as u64;
                let under = self.writes.iter_mut().find(|w| w.file == file && w.at == begin);
                under.expect("a write that comes back was submitted").written = true;
                log.give_back(bytes);
                self.note_good();
                while self.writes.front().is_some_and(|first| first.written) {
                    let first = self.writes.pop_front().expect("looked at");
                    if first.closes > 0 {
                        self.written.push_back((first.closes, first.file));
                    }
                }
            }
            (op @ Op::Write { .. }, Ok(_)) => self.wait_for_room(op),
            (op @ (Op::Write { .. } | Op::Create { .. }), Err(error)) if is_full(&error) => {
                self.wait_for_room(op);
            }
            (Op::Sync { file }, Ok(_)) => {
                let covered = std::mem::take(&mut self.syncing);
                for _ in 0..covered {
                    let (closes, _) = self.written.pop_front().expect("what a sync covers");
                    self.durable = closes;
                }
                self.leave(file);
            }
            (Op::Create { .. }, Ok(_)) => {
                self.note_good();
                self.submit(Op::SyncDir { path: shard_folder(self.shard) });
            }
            (Op::SyncDir { .. }, Ok(_)) => self.has_next = true,
            (Op::Close { .. } | Op::Truncate { .. }, Ok(_)) => {}
            (op, Err(error)) => self.fail(&op, &error),
            (op, Ok(_)) => self.fail(&op, &io::Error::other("an answer to nothing that was asked")),
        }
    }

    /// A segment that is synced to its end is closed, and what was set aside behind its end is given back.
    fn leave(&mut self, file: FileId) {
        let unsynced = self.written.iter().any(|epoch| epoch.1 == file)
            || self.writes.iter().any(|write| write.file == file);
        if file == Self::file(self.number) || unsynced {
            return;
        }
        self.submit(Op::Close { file });
        if let Some(left) = self.older.iter().find(|segment| Self::file(segment.number) == file) {
            let path = segment_path(self.shard, left.number);
            let len = left.bytes;
            self.submit(Op::Truncate { path, len });
        }
    }

    fn wait_for_room(&mut self, op: Op) {
        let tries = match self.health {
            Health::DiskFull { tries } => tries + 1,
            _ => 1,
        };
        self.health = Health::DiskFull { tries };
        self.again.push_back(op);
    }

    fn note_good(&mut self) {
        if matches!(self.health, Health::DiskFull { .. }) {
            self.health = Health::Good;
        }
    }

    fn fail(&mut self, op: &Op, error: &io::Error) {
        let shard = self.shard;
        let what = op.what();
        self.health = Health::Failed {
            text: format!(
                "shard {shard}: {what} its journal (segment {}): {error}; nothing more will be \
                 durable: see to the disk, then start the node again, which keeps everything that \
                 was acknowledged",
                self.number
            ),
        };
    }
}

/// Whether there is no room on the disk, for now.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
    )
}

#[cfg(test)]
mod tests {
    use super::super::log::LogStart;
    use super::super::record::Record;
    use super::super::scan::{Cuts, Expect, read};
    use super::*;
    use crate::disk::{FaultDisk, Faults, run};
    use consensus::hash::TxId;

    fn begin(disk: &FaultDisk, segment_bytes: u64) -> (Writer, Log) {
        let mut own: Box<dyn Disk> = Box::new(disk.clone());
        run(&mut *own, Op::SyncDir { path: shard_folder(0) }).expect("a folder");
        let path = segment_path(0, 1);
        run(&mut *own, Op::Create { file: FileId(1), path, room_bytes: 0 }).expect("a segment");
        run(&mut *own, Op::SyncDir { path: shard_folder(0) }).expect("a folder");
        let mut log = Log::default();
        let start = LogStart { shard: 0, folder: 9, incarnation: 1, epoch: 1, place: 1, blocks: 8 };
        log.start(&start);
        let start =
            WriterStart { shard: 0, segment: 1, segment_bytes, durable: 0, older: Vec::new() };
        (Writer::new(own, start), log)
    }

    fn records_of(disk: &FaultDisk) -> (u64, Vec<u64>) {
        let cuts = Cuts::default();
        let expect = Expect { shard: 0, folder: 9, incarnation: 1, cuts: &cuts };
        let mut epochs = Vec::new();
        let mut disk = disk.reopen();
        let closed = read(&mut disk, expect, &mut |epoch, _| epochs.push(epoch));
        (closed.expect("readable"), epochs)
    }

    fn settle(writer: &mut Writer, log: &mut Log) {
        for _ in 0..3 * RETRY_TURNS {
            writer.turn(log);
        }
    }

    #[test]
    fn what_it_calls_durable_survives_a_crash_at_any_moment() {
        let mut cut_short = 0;
        for seed in 0..300 {
            let disk = FaultDisk::new(seed);
            let (mut writer, mut log) = begin(&disk, 700);
            let faults = Faults { short_write: 3, crash_after: 1 + seed % 90, ..Faults::default() };
            disk.set_faults(faults);
            for epoch in 1..40_u64 {
                for n in 0..epoch % 5 {
                    log.push(&Record::Pruned { txid: TxId([n as u8; 32]) });
                }
                log.enter(epoch + 1);
                for _ in 0..seed % 4 {
                    writer.turn(&mut log);
                }
            }
            let durable = writer.durable();
            disk.crash();
            let (closed, epochs) = records_of(&disk);
            assert!(
                closed >= durable,
                "seed {seed}: {closed} of {durable} durable epochs are there"
            );
            for epoch in 1..=durable {
                let got = epochs.iter().filter(|&&e| e == epoch).count() as u64;
                assert_eq!(got, epoch % 5, "seed {seed}: records of epoch {epoch}");
            }
            cut_short += u64::from(durable < 39);
        }
        assert!(cut_short > 100, "{cut_short}");
    }

    #[test]
    fn a_full_disk_is_waited_out_and_nothing_is_durable_meanwhile() {
        let disk = FaultDisk::new(4);
        let (mut writer, mut log) = begin(&disk, 1 << 20);
        disk.set_faults(Faults { capacity_bytes: 150, ..Faults::default() });
        log.push(&Record::Pruned { txid: TxId([1; 32]) });
        log.enter(2);
        log.push(&Record::Pruned { txid: TxId([2; 32]) });
        log.enter(3);
        settle(&mut writer, &mut log);
        assert!(matches!(writer.health(), Health::DiskFull { .. }), "{:?}", writer.health());
        assert_eq!(writer.durable(), 1);
        disk.set_faults(Faults::default());
        settle(&mut writer, &mut log);
        assert_eq!((writer.health(), writer.durable()), (&Health::Good, 2));
        assert_eq!(records_of(&disk).1, [1, 2]);
    }

    #[test]
    fn a_failed_sync_is_final_and_says_what_to_do() {
        let disk = FaultDisk::new(5);
        let (mut writer, mut log) = begin(&disk, 1 << 20);
        disk.set_faults(Faults { sync_error: 1, ..Faults::default() });
        log.push(&Record::Pruned { txid: TxId([1; 32]) });
        log.enter(2);
        settle(&mut writer, &mut log);
        disk.set_faults(Faults::default());
        log.enter(3);
        settle(&mut writer, &mut log);
        assert_eq!(writer.durable(), 0);
        let Health::Failed { text } = writer.health() else { panic!("{:?}", writer.health()) };
        assert!(text.contains("syncing") && text.contains("start the node again"), "{text}");
    }

    #[test]
    fn a_planted_sync_that_lies_is_found_by_the_same_check() {
        let mut lost = 0;
        for seed in 0..60 {
            let disk = FaultDisk::new(seed);
            let (mut writer, mut log) = begin(&disk, 1 << 20);
            disk.set_faults(Faults { lying_sync: 2, ..Faults::default() });
            for epoch in 1..6 {
                log.push(&Record::Pruned { txid: TxId([1; 32]) });
                log.enter(epoch + 1);
                settle(&mut writer, &mut log);
            }
            disk.crash();
            lost += u64::from(records_of(&disk).0 < writer.durable());
        }
        assert!(lost > 5, "{lost} of 60");
    }
}
