//! The log of a shard: where its records wait for the disk.
//!
//! In come records, in the order of the changes they tell; out go sealed blocks, each one frame. There is no I/O here: a record is a
//! copy into a block that was taken at start, and a checksum when the block is full or its epoch ends. Blocks come back once they
//! are on the disk. When none is left the shard answers `Again`: a slow disk slows the shard and never grows it. What must be
//! said and finds no block (the few bytes of an order) takes one more, which is counted.
//!
//! A decision that is longer than what is free goes in piece by piece, while the shard takes nothing else
//! ([`Log::push_whole`]); epochs end meanwhile as ever, and the record belongs to the one in which it ends.
//!
//! Back of an envelope: a transaction of two inputs and two outputs is 461 bytes, two copies and one pass of XXH3: about 60 ns,
//! 15 ns an operation.

use super::frame::{BLOCK_BYTES, FRAME_BYTES, FrameHead};
use super::record::Record;
use consensus::hash::TxId;
use std::collections::VecDeque;

/// Blocks kept back for the ends of epochs and for orders.
const BLOCKS_KEPT: usize = 2;
/// Fewest blocks a log may have.
pub const LOG_BLOCKS_MIN: usize = 8;
/// Blocks of a log unless something else is asked for: 16 MiB.
pub const LOG_BLOCKS: usize = 64;
const PAYLOAD_BYTES: usize = BLOCK_BYTES - FRAME_BYTES;

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogStart {
    /// Whose.
    pub shard: u16,
    /// Which data directory.
    pub folder: u32,
    /// Which life of it.
    pub incarnation: u32,
    /// Number of the first epoch.
    pub epoch: u64,
    /// Place of the first frame.
    pub place: u64,
    /// Blocks to take.
    pub blocks: usize,
}

/// A frame on its way to the disk.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Head and payload.
    pub bytes: Vec<u8>,
    /// Epochs up to this one end with it; 0 if none does.
    pub closes: u64,
    /// No record goes on in the next frame.
    pub rests: bool,
}

/// What a log counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Records taken.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Requests that were put off for want of room.
    pub crowded: u64,
    /// Blocks taken over the bound.
    pub blocks_over: u64,
}

/// A record that goes in piece by piece.
#[derive(Clone, Copy, Debug)]
struct Midway {
    txid: TxId,
    done: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Log {
    on: bool,
    /// The journal has reached its bound: the pool decides nothing more.
    limited: bool,
    shard: u16,
    folder: u32,
    complete: u64,
    incarnation: u32,
    epoch: u64,
    place: u64,
    /// The frame under way, head included; empty while there is none.
    current: Vec<u8>,
    begins: bool,
    within: bool,
    /// A record was taken in this epoch.
    has_logged: bool,
    free: Vec<Vec<u8>>,
    sealed: VecDeque<Sealed>,
    blocks: usize,
    /// An end that found no block yet.
    owed: u64,
    midway: Option<Midway>,
    scratch: Vec<u8>,
    counts: LogCounts,
}

impl Log {
    /// Takes its blocks and begins to listen.
    pub fn start(&mut self, start: &LogStart) {
        let blocks = start.blocks.max(LOG_BLOCKS_MIN);
        *self = Self {
            on: true,
            shard: start.shard,
            folder: start.folder,
            incarnation: start.incarnation,
            epoch: start.epoch,
            complete: start.epoch - 1,
            place: start.place,
            free: (0..blocks).map(|_| Vec::with_capacity(BLOCK_BYTES)).collect(),
            sealed: VecDeque::with_capacity(2 * blocks),
            blocks,
            scratch: Vec::with_capacity(4 * 1024),
            ..Self::default()
        };
    }

    #[inline]
    pub fn is_on(&self) -> bool {
        self.on
    }

    pub fn counts(&self) -> LogCounts {
        self.counts
    }

    /// Whether a record was taken in the epoch under way.
    pub fn has_logged(&self) -> bool {
        self.has_logged
    }

    /// Whether the pool is to decide nothing more.
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    pub fn set_limited(&mut self, limited: bool) {
        self.limited = limited;
    }

    /// The transaction whose record goes in piece by piece: until it is in, nothing else may be logged.
    pub fn midway(&self) -> Option<TxId> {
        self.midway.map(|midway| midway.txid)
    }

    /// Bytes there is room for, what is kept back apart.
    pub fn room(&self) -> usize {
        let here = if self.current.is_empty() { 0 } else { BLOCK_BYTES - self.current.len() };
        self.free.len().saturating_sub(BLOCKS_KEPT) * PAYLOAD_BYTES + here
    }

    /// Whether records of so many bytes can be taken now; more than half of all there ever is counts as that half.
    #[inline]
    pub fn has_room(&self, bytes: usize) -> bool {
        bytes.min(self.blocks * PAYLOAD_BYTES / 2) <= self.room()
    }

    /// Newest epoch that is complete in every shard: frames say it.
    pub fn set_complete(&mut self, complete: u64) {
        self.complete = complete.max(self.complete);
    }

    pub fn note_crowded(&mut self) {
        self.counts.crowded += 1;
    }

    /// Takes a record. Who may be put off has asked [`Log::has_room`].
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) {
        if !self.on {
            return;
        }
        assert!(self.midway.is_none(), "a record amid another one");
        let tail = self.head(record);
        let head = std::mem::take(&mut self.scratch);
        self.append(&head);
        self.scratch = head;
        self.append(tail);
        self.end_record();
    }

    /// Takes a decision, however long: true once it is in. After a false nothing else may be pushed but the same again.
    pub fn push_whole(&mut self, txid: &TxId, record: &Record<'_>) -> bool {
        let Some(Midway { txid: other, mut done }) = self.midway else {
            let tail = self.head(record);
            let fits = self.scratch.len() + tail.len() <= self.room();
            let small = self.scratch.len() + tail.len() <= BLOCK_BYTES;
            if fits {
                let head = std::mem::take(&mut self.scratch);
                self.append(&head);
                self.scratch = head;
                self.append(tail);
                self.end_record();
                return true;
            }
            if small || self.scratch.len() > self.room() {
                self.counts.crowded += 1;
                return false;
            }
            let head = std::mem::take(&mut self.scratch);
            self.append(&head);
            self.scratch = head;
            self.midway = Some(Midway { txid: *txid, done: 0 });
            return self.push_whole(txid, record);
        };
        assert!(other == *txid, "the record of {txid} amid that of {other}");
        let tail = record.tail();
        let piece = (tail.len() - done).min(self.room());
        self.append(&tail[done..done + piece]);
        done += piece;
        if done < tail.len() {
            self.midway = Some(Midway { txid: other, done });
            self.counts.crowded += 1;
            return false;
        }
        self.midway = None;
        self.end_record();
        true
    }

    fn head<'a>(&mut self, record: &Record<'a>) -> &'a [u8] {
        self.scratch.clear();
        record.encode_head(&mut self.scratch)
    }

    fn end_record(&mut self) {
        self.within = false;
        self.has_logged = true;
        self.counts.records += 1;
    }

    fn append(&mut self, mut bytes: &[u8]) {
        self.counts.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.current.len() == BLOCK_BYTES {
                self.seal(0);
            }
            if self.current.is_empty() {
                self.open();
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.current.len()));
            self.current.extend_from_slice(now);
            self.within = true;
            bytes = later;
        }
    }

    /// Takes a block for the frame under way.
    fn open(&mut self) {
        if self.owed > 0 {
            let closes = std::mem::take(&mut self.owed);
            self.take_block();
            self.seal_as(closes, closes);
        }
        self.take_block();
    }

    fn take_block(&mut self) {
        let block = self.free.pop().unwrap_or_else(|| {
            self.counts.blocks_over += 1;
            Vec::with_capacity(BLOCK_BYTES)
        });
        self.current = block;
        self.current.resize(FRAME_BYTES, 0);
        self.begins = !self.within;
    }

    fn seal(&mut self, closes: u64) {
        self.seal_as(self.epoch, closes);
    }

    fn seal_as(&mut self, epoch: u64, closes: u64) {
        let mut bytes = std::mem::take(&mut self.current);
        let head = FrameHead {
            shard: self.shard,
            payload_bytes: (bytes.len() - FRAME_BYTES) as u32,
            incarnation: self.incarnation,
            epoch,
            closes,
            place: self.place,
            complete: self.complete,
            folder: self.folder,
            begins: self.begins,
        };
        head.seal(&mut bytes);
        self.place += 1;
        self.sealed.push_back(Sealed { bytes, closes, rests: !self.within });
    }

    /// The shard is in epoch `epoch` from now on: all before it end. This needs no room.
    pub fn enter(&mut self, epoch: u64) {
        if !self.on || epoch <= self.epoch {
            return;
        }
        if self.current.is_empty() && self.free.is_empty() {
            self.owed = epoch - 1;
        } else {
            if self.current.is_empty() {
                self.owed = 0;
                self.take_block();
            }
            self.seal(epoch - 1);
        }
        self.epoch = epoch;
        self.has_logged = false;
    }

    /// The next frame for the disk. What is under way is handed out when it is full or its epoch ends.
    pub fn next_sealed(&mut self) -> Option<Sealed> {
        if self.sealed.is_empty() && self.owed > 0 && !self.free.is_empty() {
            let closes = std::mem::take(&mut self.owed);
            self.take_block();
            self.seal_as(closes, closes);
        }
        self.sealed.pop_front()
    }

    /// A block is on the disk.
    pub fn give_back(&mut self, mut block: Vec<u8>) {
        if self.free.len() + self.sealed.len() + usize::from(!self.current.is_empty()) < self.blocks
            && block.capacity() >= BLOCK_BYTES
        {
            block.clear();
            self.free.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(blocks: usize) -> Log {
        let mut log = Log::default();
        log.start(&LogStart { shard: 1, folder: 2, incarnation: 3, epoch: 4, place: 5, blocks });
        log
    }

    fn drain(log: &mut Log) -> Vec<(FrameHead, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some(sealed) = log.next_sealed() {
            let (head, payload) = FrameHead::read(&sealed.bytes).expect("a frame");
            frames.push((head, payload.to_vec()));
            log.give_back(sealed.bytes);
        }
        frames
    }

    fn pruned(n: u8) -> Record<'static> {
        Record::Pruned { txid: TxId([n; 32]) }
    }

    #[test]
    fn an_epoch_ends_with_its_records_and_one_without_records_ends_too() {
        let mut log = log(8);
        log.push(&pruned(1));
        log.enter(5);
        log.enter(6);
        log.push(&pruned(2));
        log.enter(9);
        let heads: Vec<_> =
            drain(&mut log).iter().map(|(h, p)| (h.epoch, h.closes, h.place, p.len())).collect();
        assert_eq!(heads, [(4, 4, 5, 37), (5, 5, 6, 0), (6, 8, 7, 37)]);
    }

    #[test]
    fn a_record_goes_on_in_the_next_frame() {
        let mut log = log(8);
        let script = vec![7; BLOCK_BYTES];
        let outpoint = consensus::tx::OutPoint::default();
        log.push(&Record::Reassign { outpoint, from_height: 1, locking_script: &script });
        log.push(&pruned(1));
        log.enter(5);
        let frames = drain(&mut log);
        assert_eq!(frames.iter().map(|f| f.0.begins).collect::<Vec<_>>(), [true, false]);
        let all: Vec<u8> = frames.into_iter().flat_map(|f| f.1).collect();
        let len = u32::from_le_bytes(all[..4].try_into().expect("four")) as usize;
        assert!(matches!(Record::decode(&all[4..4 + len]), Some(Record::Reassign { .. })));
        assert_eq!(all.len(), 4 + len + 37);
    }

    #[test]
    fn a_log_without_blocks_says_so_and_ends_its_epochs_all_the_same() {
        let mut log = log(8);
        while log.has_room(37) {
            log.push(&pruned(1));
        }
        let mut held = Vec::new();
        while let Some(sealed) = log.next_sealed() {
            held.push(sealed);
        }
        assert_eq!(held.len(), 5);
        // The blocks that are kept back.
        log.enter(5);
        log.enter(6);
        log.enter(7);
        assert_eq!(log.counts().blocks_over, 0);
        log.enter(8);
        log.enter(9);
        let ends: Vec<_> = std::iter::from_fn(|| log.next_sealed()).map(|s| s.closes).collect();
        assert_eq!(ends, [4, 5, 6], "the others are owed");
        log.give_back(held.pop().expect("five").bytes);
        assert_eq!(log.next_sealed().map(|s| s.closes), Some(8));
        assert_eq!(log.counts().blocks_over, 0);
        log.push(&pruned(1));
        assert_eq!(log.counts().blocks_over, 1, "what must be said takes one more");
    }

    #[test]
    fn a_decision_longer_than_the_log_goes_in_piece_by_piece_while_epochs_end() {
        let mut log = log(8);
        let tx: Vec<u8> = (0..20 * BLOCK_BYTES).map(|i| (i % 251) as u8).collect();
        let txid = TxId([1; 32]);
        let record = Record::Decision(super::super::DecisionRecord {
            copy: false,
            commit: false,
            context: dataplane::msg::Context::default(),
            fee_sat: 0,
            publish_seq: 1,
            decided: 4,
            txid,
            parents: dataplane::msg::request::List::Own(&[]),
            tx: &tx,
        });
        let (mut all, mut epoch, mut pieces) = (Vec::new(), 4, 0);
        while !log.push_whole(&txid, &record) {
            assert_eq!(log.midway(), Some(txid));
            pieces += 1;
            epoch += 1;
            log.enter(epoch);
            all.extend(drain(&mut log));
        }
        assert!(pieces > 2, "{pieces}");
        log.push(&pruned(1));
        log.enter(epoch + 1);
        all.extend(drain(&mut log));
        assert_eq!(log.counts().blocks_over, 0);
        let begins: Vec<_> = all.iter().map(|f| f.0.begins).collect();
        assert!(begins[0] && begins[1..].iter().all(|&b| !b));
        let bytes: Vec<u8> = all.into_iter().flat_map(|f| f.1).collect();
        let len = u32::from_le_bytes(bytes[..4].try_into().expect("four")) as usize;
        let Some(Record::Decision(got)) = Record::decode(&bytes[4..4 + len]) else {
            panic!("a decision")
        };
        assert!(got.tx == tx);
    }
}
