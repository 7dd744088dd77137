//! Reading a journal: its segments, frame by frame, record by record.
//!
//! A segment's name is its number. Frames are read in order of place; the first that is not what must come ends its segment, and
//! the next segment goes on if its first frame is what must come. Of an incarnation that has ended only the epochs count that were
//! complete when it did ([`Cuts`]): what a disk brings back behind a cut is counted and passed over.

use super::frame::{BLOCK_BYTES, FRAME_BYTES, FrameFault, FrameHead};
use super::record::{LENGTH_BYTES, Record};
use crate::disk::{Disk, FileId, Op, read_at, run};
use std::io;
use std::path::PathBuf;

/// What segment files are called, before their number.
const SEGMENT_NAME: &str = "journal-";
/// Bytes read at once.
const READ_BYTES: usize = 4 * BLOCK_BYTES;
const FILE: FileId = FileId(u32::MAX - 1);

/// A shard's folder.
pub(crate) fn shard_folder(shard: u16) -> PathBuf {
    PathBuf::from(format!("shard-{shard:03}"))
}

/// Where a segment lies.
pub(crate) fn segment_path(shard: u16, number: u64) -> PathBuf {
    shard_folder(shard).join(format!("{SEGMENT_NAME}{number:012}"))
}

/// The numbers of a shard's segments, ascending.
pub(crate) fn segments(disk: &mut dyn Disk, shard: u16) -> io::Result<Vec<(u64, u64)>> {
    let files = disk.list(&shard_folder(shard))?;
    let number = |name: &str| name.strip_prefix(SEGMENT_NAME)?.parse().ok();
    let mut found: Vec<(u64, u64)> =
        files.iter().filter_map(|(name, bytes)| Some((number(name)?, *bytes))).collect();
    found.sort_unstable();
    Ok(found)
}

/// The newest epoch that counts of each incarnation that has ended, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts(pub Vec<(u32, u64)>);

impl Cuts {
    /// Whether a frame of this incarnation and epoch counts while `current` is the newest incarnation.
    pub fn counts(&self, incarnation: u32, epoch: u64) -> bool {
        match self.0.iter().find(|&&(ended, _)| ended == incarnation) {
            Some(&(_, last)) => epoch <= last,
            None => self.0.last().is_none_or(|&(ended, last)| incarnation > ended && epoch > last),
        }
    }
}

/// What to expect of the frames of one shard.
#[derive(Clone, Debug)]
pub(crate) struct Expect<'a> {
    pub shard: u16,
    pub folder: u32,
    /// The newest incarnation there can be.
    pub incarnation: u32,
    pub cuts: &'a Cuts,
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameAt {
    pub segment: u64,
    pub at: u64,
    pub bytes: u64,
}

/// Why the reading of a segment ended before its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub segment: u64,
    pub at: u64,
    pub why: StopWhy,
}

/// See [`Stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopWhy {
    /// No frame.
    Fault(FrameFault),
    /// A frame, but not the one that must come: another shard, data directory or place.
    Stranger,
    /// A frame of an incarnation that ended before it.
    Stale,
}

/// Reads a journal's frames one after the other.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    expect: Expect<'a>,
    segments: Vec<(u64, u64)>,
    /// Index of the segment being read.
    segment: usize,
    opened: bool,
    at: u64,
    buffer: Vec<u8>,
    /// First byte of `buffer` in the segment, and the bytes of it that are there.
    buffer_at: u64,
    buffer_len: usize,
    place: Option<u64>,
    incarnation: u32,
    /// Where segments ended early.
    pub stops: Vec<Stop>,
    /// Stale frames passed over: at most one is seen a segment.
    pub stale: u64,
    /// The newest epoch that was complete, as frames say that stand behind one that is damaged: what was never synced says nothing
    /// that is not so.
    pub claimed: u64,
}

impl<'a> Frames<'a> {
    pub fn new(expect: Expect<'a>, segments: Vec<(u64, u64)>) -> Self {
        Self {
            expect,
            segments,
            segment: 0,
            opened: false,
            at: 0,
            buffer: Vec::new(),
            buffer_at: 0,
            buffer_len: 0,
            place: None,
            incarnation: 0,
            stops: Vec::new(),
            stale: 0,
            claimed: 0,
        }
    }

    /// The next frame that counts; its payload is [`Frames::payload`] until the next call.
    pub fn next(&mut self, disk: &mut dyn Disk) -> io::Result<Option<(FrameHead, FrameAt)>> {
        while let Some(&(number, len)) = self.segments.get(self.segment) {
            if !self.opened {
                let path = segment_path(self.expect.shard, number);
                run(disk, Op::Open { file: FILE, path })?;
                (self.opened, self.at, self.buffer_at, self.buffer_len) = (true, 0, 0, 0);
            }
            if self.at == len {
                self.close(disk)?;
                continue;
            }
            self.fill(disk)?;
            let here = &self.buffer[(self.at - self.buffer_at) as usize..self.buffer_len];
            let why = match FrameHead::read(here) {
                Ok((head, _)) => match self.judge(&head) {
                    Ok(()) => {
                        let bytes = FRAME_BYTES as u64 + u64::from(head.payload_bytes);
                        let at = FrameAt { segment: number, at: self.at, bytes };
                        self.place = Some(head.place + 1);
                        self.incarnation = head.incarnation;
                        self.at += bytes;
                        return Ok(Some((head, at)));
                    }
                    Err(why) => why,
                },
                Err(fault) => StopWhy::Fault(fault),
            };
            match why {
                StopWhy::Stale => self.stale += 1,
                StopWhy::Fault(_) | StopWhy::Stranger => self.look_behind(disk, len)?,
            }
            self.stops.push(Stop { segment: number, at: self.at, why });
            self.close(disk)?;
        }
        Ok(None)
    }

    /// Finds frames at and behind a place where another one should be: is it the end, or was something damaged?
    fn look_behind(&mut self, disk: &mut dyn Disk, len: u64) -> io::Result<()> {
        let mut at = self.at;
        while at < len {
            let wanted = (len - at).min(READ_BYTES as u64) as usize;
            let bytes = read_at(disk, FILE, at, vec![0; wanted])?;
            // What was set aside and never written.
            if bytes.iter().all(|&byte| byte == 0) {
                break;
            }
            let mut from = 0;
            while let Some(found) = FrameHead::find(&bytes[from..]) {
                from += found;
                if let Ok((head, _)) = FrameHead::read(&bytes[from..])
                    && head.shard == self.expect.shard
                    && head.folder == self.expect.folder
                {
                    self.claimed = self.claimed.max(head.complete);
                }
                from += 1;
            }
            // A frame that goes on behind what was read is met again.
            at += (READ_BYTES - BLOCK_BYTES) as u64;
        }
        Ok(())
    }

    /// The payload of the frame that was given last.
    pub fn payload(&self, head: &FrameHead) -> &[u8] {
        let end = (self.at - self.buffer_at) as usize;
        &self.buffer[end - head.payload_bytes as usize..end]
    }

    fn judge(&self, head: &FrameHead) -> Result<(), StopWhy> {
        let e = &self.expect;
        if head.shard != e.shard || head.folder != e.folder {
            return Err(StopWhy::Stranger);
        }
        if head.incarnation > e.incarnation || !e.cuts.counts(head.incarnation, head.epoch) {
            return Err(StopWhy::Stale);
        }
        let follows = self.place.is_none_or(|place| head.place == place);
        if !follows || head.incarnation < self.incarnation {
            return Err(StopWhy::Stranger);
        }
        Ok(())
    }

    fn close(&mut self, disk: &mut dyn Disk) -> io::Result<()> {
        run(disk, Op::Close { file: FILE })?;
        self.opened = false;
        self.segment += 1;
        Ok(())
    }

    /// Makes sure that a whole frame at `at` is in the buffer, if the segment has one.
    fn fill(&mut self, disk: &mut dyn Disk) -> io::Result<()> {
        let have = (self.buffer_at + self.buffer_len as u64).saturating_sub(self.at) as usize;
        let first = self.buffer_len == 0;
        if !first && (have >= BLOCK_BYTES || self.buffer_len < self.buffer.len()) {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(READ_BYTES, 0);
        let got = read_at(disk, FILE, self.at, buffer)?;
        self.buffer_len = got.len();
        self.buffer = got;
        self.buffer.resize(READ_BYTES, 0);
        self.buffer_at = self.at;
        Ok(())
    }
}

/// Records out of the payloads of frames, one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    carry: Vec<u8>,
}

/// Bytes where a record should be that are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRecord;

impl Records {
    /// Hands every record that ends in this payload to `each`; stops at its first error.
    pub fn feed<E: From<NoRecord>>(
        &mut self,
        begins: bool,
        mut payload: &[u8],
        mut each: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if begins {
            // What was cut off in its middle never was.
            self.carry.clear();
        } else if self.carry.is_empty() && !payload.is_empty() {
            return Err(NoRecord.into());
        }
        while !self.carry.is_empty() && !payload.is_empty() {
            let wanted = match self.carry.first_chunk::<LENGTH_BYTES>() {
                Some(len) => LENGTH_BYTES + u32::from_le_bytes(*len) as usize,
                None => LENGTH_BYTES,
            };
            let (now, later) = payload.split_at(payload.len().min(wanted - self.carry.len()));
            self.carry.extend_from_slice(now);
            payload = later;
            if self.carry.len() == wanted && wanted > LENGTH_BYTES {
                each(&Record::decode(&self.carry[LENGTH_BYTES..]).ok_or(NoRecord)?)?;
                self.carry.clear();
            } else if wanted == LENGTH_BYTES && self.carry[..] == [0; LENGTH_BYTES] {
                return Err(NoRecord.into());
            }
        }
        while let Some(len) = payload.first_chunk::<LENGTH_BYTES>() {
            let end = LENGTH_BYTES + u32::from_le_bytes(*len) as usize;
            let Some(body) = payload.get(LENGTH_BYTES..end) else { break };
            each(&Record::decode(body).ok_or(NoRecord)?)?;
            payload = &payload[end..];
        }
        self.carry.extend_from_slice(payload);
        Ok(())
    }

    /// Whether a record is not at its end yet.
    #[cfg(test)]
    pub fn is_midway(&self) -> bool {
        !self.carry.is_empty()
    }
}

/// Every record of any bytes that are laid out as frames, until something is wrong; for fuzzing.
#[doc(hidden)]
pub fn walk_bytes(mut bytes: &[u8], each: &mut dyn FnMut(&FrameHead, &Record<'_>)) -> usize {
    let mut records = Records::default();
    let mut frames = 0;
    while let Ok((head, payload)) = FrameHead::read(bytes) {
        frames += 1;
        let fed: Result<(), NoRecord> = records.feed(head.begins, payload, |record| {
            each(&head, record);
            Ok(())
        });
        if fed.is_err() {
            break;
        }
        bytes = &bytes[FRAME_BYTES + payload.len()..];
    }
    frames
}

/// Every record that counts in the journal of one shard, with the epoch it belongs to; for tests and tools. Gives the newest epoch
/// that is closed there.
pub(crate) fn read(
    disk: &mut dyn Disk,
    expect: Expect<'_>,
    each: &mut dyn FnMut(u64, &Record<'_>),
) -> io::Result<u64> {
    let segments = segments(disk, expect.shard)?;
    let mut frames = Frames::new(expect, segments);
    let mut records = Records::default();
    let mut closed = 0;
    while let Some((head, _)) = frames.next(disk)? {
        let fed: Result<(), NoRecord> =
            records.feed(head.begins, frames.payload(&head), |record| {
                each(head.epoch, record);
                Ok(())
            });
        if fed.is_err() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        closed = closed.max(head.closes);
    }
    Ok(closed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::hash::TxId;

    #[test]
    fn what_counts_is_what_was_complete_when_an_incarnation_ended() {
        let cuts = Cuts(vec![(1, 10), (2, 14)]);
        assert!(cuts.counts(1, 10) && !cuts.counts(1, 11));
        assert!(cuts.counts(2, 11) && !cuts.counts(2, 15));
        assert!(cuts.counts(3, 15) && !cuts.counts(3, 14), "a new life goes on behind the cut");
        assert!(Cuts::default().counts(1, 1));
    }

    #[test]
    fn records_come_out_of_frames_wherever_they_were_cut() {
        let mut stream = Vec::new();
        for n in 0..50_u8 {
            Record::Pruned { txid: TxId([n; 32]) }.encode(&mut stream);
            let script = vec![n; usize::from(n) * 3];
            let outpoint = consensus::tx::OutPoint::default();
            Record::Reassign { outpoint, from_height: 1, locking_script: &script }
                .encode(&mut stream);
        }
        for piece in [1, 2, 3, 5, 36, 37, 38, 100, 5000] {
            let mut records = Records::default();
            let mut seen = 0;
            for payload in stream.chunks(piece) {
                let begins = !records.is_midway();
                let fed: Result<(), NoRecord> = records.feed(begins, payload, |_| {
                    seen += 1;
                    Ok(())
                });
                assert_eq!(fed, Ok(()), "pieces of {piece}");
            }
            assert_eq!((seen, records.is_midway()), (100, false), "pieces of {piece}");
        }
    }
}
