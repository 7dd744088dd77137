//! Teranode's block headers as a file: the chain below a UTXO set, read and written a header at a time.
//!
//! ```text
//! magic "U-H-1.0 " 8 | tip hash 32 | tip height u32
//! block ...  : hash 32 | height u32 | transactions u64 | header 80
//! (older files: 32 zero bytes | headers u64 | u64)
//! ```
//!
//! Little endian. The last byte of the magic may be zero. Nothing in the file is believed: each hash must be its header's, each header
//! name the one before it, heights rise by one, and the last be the tip that stands at the front. Whether a header has the work of its
//! network is asked where it is connected, not here.
//!
//! Source: Teranode `cmd/seeder`, `pkg/fileformat`; checked on its seed files.

use crate::seed::{Bytes, SeedError};
use consensus::hash::BlockHash;
use consensus::header::Header;
use std::io::{self, Read, Write};

const MAGIC: [u8; 8] = *b"U-H-1.0 ";
const HEAD_BYTES: u64 = 8 + 32 + 4;
const BLOCK_BYTES: u64 = 32 + 4 + 8 + 80;
/// What older files end with.
const OLD_END_BYTES: u64 = 32 + 8 + 8;

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedHeader {
    /// Its height.
    pub height: u32,
    /// Transactions in it.
    pub transactions: u64,
    /// Its header.
    pub header: Header,
}

/// Reads the headers of a seed.
#[derive(Debug)]
pub struct HeaderReader<R> {
    bytes: Bytes<R>,
    tip: BlockHash,
    tip_height: u32,
    /// The block read last, and its hash.
    last: Option<(BlockHash, u32)>,
    count: u64,
    ended: bool,
}

impl<R: Read> HeaderReader<R> {
    /// Begins to read a file of `len` bytes.
    pub fn new(from: R, len: u64) -> Result<Self, SeedError> {
        let mut bytes = Bytes::new(from, len);
        bytes.needs(HEAD_BYTES, "bytes in the file")?;
        bytes.magic(MAGIC)?;
        let tip = BlockHash(bytes.array()?);
        let tip_height = bytes.u32()?;
        Ok(Self { bytes, tip, tip_height, last: None, count: 0, ended: false })
    }

    /// Hash and height of the last block.
    pub fn tip(&self) -> (BlockHash, u32) {
        (self.tip, self.tip_height)
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.bytes.into_inner()
    }

    /// Headers read.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The next block; `None` behind the tip.
    pub fn next_header(&mut self) -> Result<Option<SeedHeader>, SeedError> {
        if self.ended {
            return Ok(None);
        }
        if matches!(self.bytes.left(), 0 | OLD_END_BYTES) {
            return self.end();
        }
        self.bytes.needs(BLOCK_BYTES, "bytes for a header")?;
        let hash = BlockHash(self.bytes.array()?);
        let height = self.bytes.u32()?;
        let transactions = self.bytes.u64()?;
        let header = Header::from_bytes(&self.bytes.array()?);
        let wrong = |what| SeedError::Unlinked { height, what };
        if header.hash() != hash {
            return Err(wrong("does not have the hash that stands before it"));
        }
        match self.last {
            Some((before, _)) if header.prev != before => {
                return Err(wrong("does not name the block before it"));
            }
            Some((_, before)) if Some(height) != before.checked_add(1) => {
                return Err(wrong("is not one above the block before it"));
            }
            _ => {}
        }
        self.last = Some((hash, height));
        self.count += 1;
        Ok(Some(SeedHeader { height, transactions, header }))
    }

    fn end(&mut self) -> Result<Option<SeedHeader>, SeedError> {
        if self.bytes.left() == OLD_END_BYTES {
            let zeros: [u8; 32] = self.bytes.array()?;
            if zeros != [0; 32] {
                return Err(self.bytes.damaged("bytes behind the last header", OLD_END_BYTES, &0));
            }
            let headers = self.bytes.u64()?;
            if headers != self.count {
                let what = "number of headers at the end";
                return Err(self.bytes.damaged(what, headers, &self.count));
            }
            self.bytes.u64()?;
        }
        if self.last != Some((self.tip, self.tip_height)) {
            let height = self.last.map_or(0, |last| last.1);
            return Err(SeedError::Unlinked { height, what: "is the last, and not the tip" });
        }
        self.ended = true;
        Ok(None)
    }
}

/// Writes the headers of a seed.
#[derive(Debug)]
pub struct HeaderWriter<W> {
    to: W,
}

impl<W: Write> HeaderWriter<W> {
    /// Begins a file.
    pub fn new(mut to: W, (tip, tip_height): (BlockHash, u32)) -> io::Result<Self> {
        to.write_all(&MAGIC)?;
        to.write_all(&tip.0)?;
        to.write_all(&tip_height.to_le_bytes())?;
        Ok(Self { to })
    }

    /// One block.
    pub fn write(&mut self, block: &SeedHeader) -> io::Result<()> {
        self.to.write_all(&block.header.hash().0)?;
        self.to.write_all(&block.height.to_le_bytes())?;
        self.to.write_all(&block.transactions.to_le_bytes())?;
        self.to.write_all(&block.header.to_bytes())
    }

    /// Gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.to.flush()?;
        Ok(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(blocks: u32) -> Vec<SeedHeader> {
        let mut prev = BlockHash([7; 32]);
        (0..blocks)
            .map(|n| {
                let mut bytes = [n as u8; 80];
                bytes[4..36].copy_from_slice(&prev.0);
                let header = Header::from_bytes(&bytes);
                prev = header.hash();
                SeedHeader { height: 40 + n, transactions: u64::from(n) + 1, header }
            })
            .collect()
    }

    fn written(blocks: &[SeedHeader]) -> Vec<u8> {
        let last = blocks.last().expect("a chain");
        let tip = (last.header.hash(), last.height);
        let mut writer = HeaderWriter::new(Vec::new(), tip).expect("a vector takes all");
        for block in blocks {
            writer.write(block).expect("a vector takes all");
        }
        writer.finish().expect("a vector takes all")
    }

    fn read(bytes: &[u8]) -> Result<Vec<SeedHeader>, SeedError> {
        let mut reader = HeaderReader::new(bytes, bytes.len() as u64)?;
        let mut all = Vec::new();
        while let Some(block) = reader.next_header()? {
            all.push(block);
        }
        assert_eq!(reader.count(), all.len() as u64);
        Ok(all)
    }

    #[test]
    fn teranode_s_headers_are_read_and_written_in_the_newer_kind() {
        let Some(bytes) = crate::seed::tests::seed_file("utxo-headers") else { return };
        let all = read(&bytes).expect("its seed");
        assert_eq!(all.len(), 101);
        assert_eq!(
            all.iter().map(|block| block.height).collect::<Vec<_>>(),
            (1..=101).collect::<Vec<_>>()
        );
        let again = written(&all);
        assert_eq!(again[8..], bytes[8..bytes.len() - OLD_END_BYTES as usize]);
        assert_eq!(read(&again).expect("what we wrote"), all);
    }

    #[test]
    fn a_cut_or_any_changed_byte_of_a_chain_is_noticed() {
        let all = chain(5);
        let bytes = written(&all);
        assert_eq!(read(&bytes).expect("what we wrote"), all);
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "{cut} bytes pass");
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            let first = at == 7 || (HEAD_BYTES as usize..).contains(&at);
            // The number of transactions is said by nothing else.
            let told = first && at > 44 && (at - 44) % 124 >= 36 && (at - 44) % 124 < 44;
            assert_eq!(read(&other).is_ok(), told, "byte {at}");
        }
    }

    #[test]
    fn the_end_of_older_files_is_held_against_the_headers() {
        let mut bytes = written(&chain(3));
        bytes.extend([0; 32]);
        bytes.extend(3_u64.to_le_bytes());
        bytes.extend(9_u64.to_le_bytes());
        assert_eq!(read(&bytes).expect("the older kind").len(), 3);
        let at = bytes.len() - 16;
        bytes[at] = 4;
        assert!(matches!(read(&bytes), Err(SeedError::Damaged { .. })));
        bytes[at] = 3;
        bytes[at - 1] = 1;
        assert!(matches!(read(&bytes), Err(SeedError::Damaged { .. })));
    }
}
