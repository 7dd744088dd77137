//! Frames: the pieces a journal is written in.
//!
//! ```text
//! 0          8        12        14      16        20            24      32       40      48         56       60      64
//! | checksum | "MNJ1" | version | shard | payload | incarnation | epoch | closes | place | complete | folder | flags | payload ...
//! ```
//!
//! Little endian. The checksum (XXH3, 64 bits) is that of everything behind it. A frame holds bytes of records of one epoch;
//! records go on from one frame into the next. `closes` is not 0 where epochs end: every epoch up to it is whole here.
//! `place` counts the shard's frames, from the first ever, without a gap; `folder` names the data directory. Flag 1: the payload
//! begins with the beginning of a record. `complete` is the newest epoch that was known to be on the disk in every shard: a journal
//! that ends before it has lost something, and recovery says so instead of cutting it.
//!
//! A frame that is not what is expected ends the journal: its tail was never synced, or the disk has lost something.

use super::record::JOURNAL_VERSION;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes in front of the payload.
pub const FRAME_BYTES: usize = 64;
/// Bytes of a block: the largest frame.
pub const BLOCK_BYTES: usize = 256 * 1024;

const MAGIC: u32 = u32::from_le_bytes(*b"MNJ1");
const BEGINS: u32 = 1;

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Whose journal.
    pub shard: u16,
    /// Bytes behind the head.
    pub payload_bytes: u32,
    /// In which life of the data directory it was written.
    pub incarnation: u32,
    /// Number of the epoch of its records.
    pub epoch: u64,
    /// Epochs up to this one end with it; 0 if none does.
    pub closes: u64,
    /// Counts frames.
    pub place: u64,
    /// Newest epoch known to be complete in every shard.
    pub complete: u64,
    /// Which data directory.
    pub folder: u32,
    /// Its payload begins with the beginning of a record.
    pub begins: bool,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameFault {
    /// Fewer bytes than a head, or than its payload.
    Short,
    /// Zeros: nothing was written here yet.
    Empty,
    /// Not the mark of a frame.
    Magic,
    /// Written by another version.
    Version {
        /// Which.
        got: u16,
    },
    /// More bytes than a frame may have.
    TooLong,
    /// The checksum is that of other bytes.
    Checksum,
}

impl FrameHead {
    /// Writes the head in front of the payload that lies behind it in `block`, and the checksum of both.
    pub fn seal(&self, block: &mut [u8]) {
        assert!(
            block.len() == FRAME_BYTES + self.payload_bytes as usize,
            "a block holds its frame"
        );
        block[8..12].copy_from_slice(&MAGIC.to_le_bytes());
        block[12..14].copy_from_slice(&JOURNAL_VERSION.to_le_bytes());
        block[14..16].copy_from_slice(&self.shard.to_le_bytes());
        block[16..20].copy_from_slice(&self.payload_bytes.to_le_bytes());
        block[20..24].copy_from_slice(&self.incarnation.to_le_bytes());
        block[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        block[32..40].copy_from_slice(&self.closes.to_le_bytes());
        block[40..48].copy_from_slice(&self.place.to_le_bytes());
        block[48..56].copy_from_slice(&self.complete.to_le_bytes());
        block[56..60].copy_from_slice(&self.folder.to_le_bytes());
        block[60..64].copy_from_slice(&if self.begins { BEGINS } else { 0 }.to_le_bytes());
        let checksum = xxh3_64(&block[8..]);
        block[..8].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Where something begins that looks like a frame.
    pub fn find(bytes: &[u8]) -> Option<usize> {
        const BEFORE_BYTES: usize = 8;
        let magic = MAGIC.to_le_bytes();
        bytes.get(BEFORE_BYTES..)?.windows(magic.len()).position(|word| word == magic)
    }

    /// The frame at the beginning of `bytes`, and its payload.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), FrameFault> {
        let Some(head) = bytes.first_chunk::<FRAME_BYTES>() else { return Err(FrameFault::Short) };
        if *head == [0; FRAME_BYTES] {
            return Err(FrameFault::Empty);
        }
        let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight"));
        if u32_at(8) != MAGIC {
            return Err(FrameFault::Magic);
        }
        if u16_at(12) != JOURNAL_VERSION {
            return Err(FrameFault::Version { got: u16_at(12) });
        }
        let payload_bytes = u32_at(16);
        let end = FRAME_BYTES + payload_bytes as usize;
        if end > BLOCK_BYTES {
            return Err(FrameFault::TooLong);
        }
        let Some(frame) = bytes.get(..end) else { return Err(FrameFault::Short) };
        if xxh3_64(&frame[8..]) != u64_at(0) || u32_at(60) & !BEGINS != 0 {
            return Err(FrameFault::Checksum);
        }
        let this = Self {
            shard: u16_at(14),
            payload_bytes,
            incarnation: u32_at(20),
            epoch: u64_at(24),
            closes: u64_at(32),
            place: u64_at(40),
            complete: u64_at(48),
            folder: u32_at(56),
            begins: u32_at(60) & BEGINS != 0,
        };
        Ok((this, &frame[FRAME_BYTES..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (FrameHead, Vec<u8>) {
        let head = FrameHead {
            shard: 3,
            payload_bytes: 5,
            incarnation: 2,
            epoch: 9,
            closes: 10,
            place: 77,
            complete: 8,
            folder: 0x1234,
            begins: true,
        };
        let mut block = vec![0; FRAME_BYTES];
        block.extend_from_slice(b"hello");
        head.seal(&mut block);
        (head, block)
    }

    #[test]
    fn a_frame_comes_back_and_what_stands_behind_it_does_not_matter() {
        let (head, mut block) = sample();
        block.extend_from_slice(&[9; 100]);
        assert_eq!(FrameHead::read(&block), Ok((head, &b"hello"[..])));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let (_, block) = sample();
        for bit in 0..block.len() * 8 {
            let mut rotten = block.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHead::read(&rotten).is_err(), "bit {bit} passed");
        }
    }

    #[test]
    fn any_cut_is_found_and_zeros_are_no_frame() {
        let (_, block) = sample();
        for cut in 0..block.len() {
            assert_eq!(FrameHead::read(&block[..cut]), Err(FrameFault::Short), "cut at {cut}");
        }
        assert_eq!(FrameHead::read(&[0; 4096]), Err(FrameFault::Empty));
    }

    #[test]
    fn another_version_is_named() {
        let (_, mut block) = sample();
        block[12] = 7;
        assert_eq!(FrameHead::read(&block), Err(FrameFault::Version { got: 7 }));
    }
}
