//! A checkpoint on the disk: one of a shard's two slots, and what the manifest says about it.
//!
//! ```text
//! slot     chunk ... : the roots, then pages in any order, then the end
//! chunk    checksum u64 | "MNC1" | version u16 | shard u16 | folder u32 | kind u32 | bytes u32 | pages u32 | epoch u64 | ordinal u64 | zero 16
//! roots    a piece of the roots                              kind 1
//! pages    n x (number u32, the top bit for the index) | n x page    kind 2
//! end      checksum u64 of the chunks before it           kind 3
//! ```
//!
//! Little endian; the checksum of a chunk (XXH3) is that of everything behind it. Chunks are written one behind the other from the
//! beginning of the file; what an older and longer checkpoint left behind the end does not matter. A slot counts only if the
//! manifest names it, with the same epoch and the same checksum of checksums.

use crate::checkpoint::{PAGE_BYTES, PageOf};
use crate::disk::{Disk, FileId, Op, read_at, run};
use crate::journal::{BLOCK_BYTES, Bytes, shard_folder};
use std::io;
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes in front of a chunk.
const HEAD_BYTES: usize = 64;
const MAGIC: u32 = u32::from_le_bytes(*b"MNC1");
const VERSION: u16 = 1;
const ROOTS: u32 = 1;
const PAGES: u32 = 2;
const END: u32 = 3;
const OF_INDEX: u32 = 1 << 31;
/// Pages of a chunk.
pub(crate) const CHUNK_PAGES: usize = (BLOCK_BYTES - HEAD_BYTES) / (PAGE_BYTES + 4);
const FILE: FileId = FileId(u32::MAX - 2);

/// What the manifest says of one shard's checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotEntry {
    /// Which slot: 1 or 2; 0 for none.
    pub slot: u32,
    /// As of the end of this epoch.
    pub epoch: u64,
    /// Bytes of the file that count.
    pub bytes: u64,
    /// Checksum of its chunks' checksums.
    pub checksum: u64,
}

impl SlotEntry {
    /// Bytes of an entry.
    pub const BYTES: usize = 28;

    /// As bytes, to be sent or kept.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.slot.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[20..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// From bytes; `None` if they are no entry.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut r = Bytes(bytes);
        let this = Self { slot: r.u32()?, epoch: r.u64()?, bytes: r.u64()?, checksum: r.u64()? };
        (r.0.is_empty() && this.slot <= 2).then_some(this)
    }

    /// As words, for messages.
    pub fn words(&self) -> [u64; 5] {
        [u64::from(self.slot), self.epoch, self.bytes, self.checksum, 0]
    }

    /// From words that [`SlotEntry::words`] gave.
    pub fn of_words(words: [u64; 5]) -> Self {
        let [slot, epoch, bytes, checksum, _] = words;
        Self { slot: slot as u32, epoch, bytes, checksum }
    }

    /// The slot the next checkpoint goes into.
    pub fn other(&self) -> u32 {
        if self.slot == 1 { 2 } else { 1 }
    }
}

/// The checksum of one more chunk: that of the sum so far and of the chunk's own.
fn chain(sum: u64, checksum: [u8; 8]) -> u64 {
    let mut both = [0; 16];
    both[..8].copy_from_slice(&sum.to_le_bytes());
    both[8..].copy_from_slice(&checksum);
    xxh3_64(&both)
}

/// Where a slot lies.
pub(crate) fn slot_path(shard: u16, slot: u32) -> PathBuf {
    shard_folder(shard).join(format!("checkpoint-{slot}"))
}

/// Whose checkpoint, and of when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotName {
    pub shard: u16,
    pub folder: u32,
    pub epoch: u64,
}

/// Puts a slot's chunks together, in blocks that the caller owns.
#[derive(Debug)]
pub(crate) struct Chunks {
    name: SlotName,
    ordinal: u64,
    sum: u64,
    /// Numbers of the pages of the chunk under way.
    numbers: Vec<u32>,
    pages: Vec<u8>,
    pub bytes: u64,
}

impl Chunks {
    /// Takes the memory of one chunk.
    pub fn new() -> Self {
        Self {
            name: SlotName { shard: 0, folder: 0, epoch: 0 },
            ordinal: 0,
            sum: 0,
            numbers: Vec::with_capacity(CHUNK_PAGES),
            pages: Vec::with_capacity(CHUNK_PAGES * PAGE_BYTES),
            bytes: 0,
        }
    }

    /// Begins a slot.
    pub fn begin(&mut self, name: SlotName) {
        self.name = name;
        self.ordinal = 0;
        self.sum = 0;
        self.numbers.clear();
        self.pages.clear();
        self.bytes = 0;
    }

    /// Pages the chunk under way still takes.
    pub fn room(&self) -> usize {
        CHUNK_PAGES - self.numbers.len()
    }

    pub fn has_pages(&self) -> bool {
        !self.numbers.is_empty()
    }

    /// Takes a page.
    pub fn page(&mut self, of: PageOf, number: u32, page: &[u8]) {
        assert!(number & OF_INDEX == 0 && self.room() > 0, "page {number} of a chunk that is full");
        self.numbers.push(if of == PageOf::Index { number | OF_INDEX } else { number });
        self.pages.extend_from_slice(page);
    }

    fn seal(&mut self, kind: u32, pages: usize, block: &mut [u8]) {
        let payload = block.len() - HEAD_BYTES;
        block[8..12].copy_from_slice(&MAGIC.to_le_bytes());
        block[12..14].copy_from_slice(&VERSION.to_le_bytes());
        block[14..16].copy_from_slice(&self.name.shard.to_le_bytes());
        block[16..20].copy_from_slice(&self.name.folder.to_le_bytes());
        block[20..24].copy_from_slice(&kind.to_le_bytes());
        block[24..28].copy_from_slice(&(payload as u32).to_le_bytes());
        block[28..32].copy_from_slice(&(pages as u32).to_le_bytes());
        block[32..40].copy_from_slice(&self.name.epoch.to_le_bytes());
        block[40..48].copy_from_slice(&self.ordinal.to_le_bytes());
        block[48..64].fill(0);
        let checksum = xxh3_64(&block[8..]).to_le_bytes();
        block[..8].copy_from_slice(&checksum);
        if kind != END {
            self.sum = chain(self.sum, checksum);
        }
        self.ordinal += 1;
        self.bytes += block.len() as u64;
    }

    /// A chunk with the next piece of the roots; gives what is left of them.
    pub fn roots<'r>(&mut self, roots: &'r [u8], block: &mut Vec<u8>) -> &'r [u8] {
        let (piece, rest) = roots.split_at(roots.len().min(BLOCK_BYTES - HEAD_BYTES));
        block.clear();
        block.resize(HEAD_BYTES, 0);
        block.extend_from_slice(piece);
        self.seal(ROOTS, 0, block);
        rest
    }

    /// A chunk with the pages that were taken.
    pub fn pages(&mut self, block: &mut Vec<u8>) {
        block.clear();
        block.resize(HEAD_BYTES, 0);
        for number in &self.numbers {
            block.extend_from_slice(&number.to_le_bytes());
        }
        block.extend_from_slice(&self.pages);
        let pages = self.numbers.len();
        self.numbers.clear();
        self.pages.clear();
        self.seal(PAGES, pages, block);
    }

    /// The last chunk; gives the checksum of all.
    pub fn end(&mut self, block: &mut Vec<u8>) -> u64 {
        let checksum = self.sum;
        block.clear();
        block.resize(HEAD_BYTES, 0);
        block.extend_from_slice(&checksum.to_le_bytes());
        self.seal(END, 0, block);
        checksum
    }
}

/// One chunk, read.
#[derive(Debug, PartialEq, Eq)]
enum Chunk<'a> {
    Roots(&'a [u8]),
    Pages(&'a [u8], &'a [u8]),
    End(u64),
}

/// The chunk at the front of `bytes` and its length; `None` if it is not the one that must come.
fn read_chunk(bytes: &[u8], name: SlotName, ordinal: u64) -> Option<(Chunk<'_>, usize, [u8; 8])> {
    let mut r = Bytes(bytes.get(..HEAD_BYTES)?);
    let checksum: [u8; 8] = r.array()?;
    let known = r.u32()? == MAGIC && r.u16()? == VERSION;
    let whose = SlotName { shard: r.u16()?, folder: r.u32()?, epoch: name.epoch };
    let (kind, payload, pages) = (r.u32()?, r.u32()? as usize, r.u32()? as usize);
    let (epoch, number) = (r.u64()?, r.u64()?);
    if !known || whose != name || epoch != name.epoch || number != ordinal {
        return None;
    }
    let end = HEAD_BYTES + payload;
    if end > BLOCK_BYTES || xxh3_64(bytes.get(8..end)?) != u64::from_le_bytes(checksum) {
        return None;
    }
    let payload = &bytes[HEAD_BYTES..end];
    let chunk = match kind {
        ROOTS => Chunk::Roots(payload),
        PAGES if payload.len() == pages * (4 + PAGE_BYTES) => {
            let (numbers, pages) = payload.split_at(pages * 4);
            Chunk::Pages(numbers, pages)
        }
        END => Chunk::End(u64::from_le_bytes(payload.try_into().ok()?)),
        _ => return None,
    };
    Some((chunk, end, checksum))
}

/// Why a slot cannot be read.
#[derive(Debug)]
pub(crate) enum SlotFault {
    Io(io::Error),
    /// At this byte is not what must be there.
    Rotten(u64),
}

impl From<io::Error> for SlotFault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Walks the chunks of any bytes; for fuzzing.
#[doc(hidden)]
pub fn walk_slot(bytes: &[u8], shard: u16, folder: u32, epoch: u64) -> usize {
    let mut at = 0;
    let mut chunks = 0;
    while let Some((_, len, _)) =
        read_chunk(&bytes[at..], SlotName { shard, folder, epoch }, chunks as u64)
    {
        at += len;
        chunks += 1;
    }
    chunks
}

/// Reads a slot: `roots` gets all of the roots before any page, `page` every page; either may refuse what it gets.
pub(crate) fn read_slot(
    disk: &mut dyn Disk,
    name: SlotName,
    entry: &SlotEntry,
    roots: &mut dyn FnMut(&[u8]) -> bool,
    page: &mut dyn FnMut(PageOf, u32, &[u8]) -> bool,
) -> Result<(), SlotFault> {
    run(disk, Op::Open { file: FILE, path: slot_path(name.shard, entry.slot) })?;
    let read = read_open_slot(disk, name, entry, roots, page);
    run(disk, Op::Close { file: FILE })?;
    read
}

fn read_open_slot(
    disk: &mut dyn Disk,
    name: SlotName,
    entry: &SlotEntry,
    roots: &mut dyn FnMut(&[u8]) -> bool,
    page: &mut dyn FnMut(PageOf, u32, &[u8]) -> bool,
) -> Result<(), SlotFault> {
    const READ_BYTES: usize = 8 * BLOCK_BYTES;
    let (mut at, mut ordinal, mut sum) = (0_u64, 0, 0);
    let mut root_bytes = Some(Vec::new());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let left = entry.bytes.saturating_sub(at).min(READ_BYTES as u64) as usize;
        buffer.resize(left, 0);
        buffer = read_at(disk, FILE, at, buffer)?;
        let mut from = 0;
        loop {
            // A chunk that may go on behind what was read is read again from its beginning.
            let whole = buffer.len() - from >= BLOCK_BYTES || buffer.len() < READ_BYTES;
            if from > 0 && !whole {
                break;
            }
            let rotten = SlotFault::Rotten(at + from as u64);
            let Some((chunk, len, checksum)) = read_chunk(&buffer[from..], name, ordinal) else {
                return Err(rotten);
            };
            match chunk {
                Chunk::Roots(piece) => match &mut root_bytes {
                    Some(all) => all.extend_from_slice(piece),
                    None => return Err(rotten),
                },
                Chunk::Pages(numbers, pages) => {
                    if root_bytes.take().is_some_and(|all| !roots(&all)) {
                        return Err(rotten);
                    }
                    for (number, bytes) in numbers.chunks(4).zip(pages.chunks(PAGE_BYTES)) {
                        let number = u32::from_le_bytes(number.try_into().expect("four bytes"));
                        let of = if number & OF_INDEX == 0 { PageOf::Slab } else { PageOf::Index };
                        if !page(of, number & !OF_INDEX, bytes) {
                            return Err(rotten);
                        }
                    }
                }
                Chunk::End(of_all) => {
                    if root_bytes.take().is_some_and(|all| !roots(&all)) {
                        return Err(rotten);
                    }
                    let end = at + (from + len) as u64;
                    let same = of_all == sum && of_all == entry.checksum;
                    return if same && end == entry.bytes { Ok(()) } else { Err(rotten) };
                }
            }
            sum = chain(sum, checksum);
            ordinal += 1;
            from += len;
        }
        at += from as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FaultDisk, write_all};

    const NAME: SlotName = SlotName { shard: 2, folder: 77, epoch: 9 };

    fn written(pages: u32) -> (FaultDisk, SlotEntry, Vec<u8>) {
        let roots: Vec<u8> = (0..600_000_u32).map(|i| i as u8).collect();
        let mut disk = FaultDisk::new(1);
        let mut chunks = Chunks::new();
        chunks.begin(NAME);
        let (mut all, mut block) = (Vec::new(), Vec::new());
        let mut rest = &roots[..];
        while !rest.is_empty() {
            rest = chunks.roots(rest, &mut block);
            all.extend_from_slice(&block);
        }
        for n in 0..pages {
            let of = if n % 3 == 0 { PageOf::Index } else { PageOf::Slab };
            chunks.page(of, n, &[n as u8; PAGE_BYTES]);
            if chunks.room() == 0 {
                chunks.pages(&mut block);
                all.extend_from_slice(&block);
            }
        }
        if chunks.has_pages() {
            chunks.pages(&mut block);
            all.extend_from_slice(&block);
        }
        let checksum = chunks.end(&mut block);
        all.extend_from_slice(&block);
        let entry = SlotEntry { slot: 2, epoch: NAME.epoch, bytes: all.len() as u64, checksum };
        assert_eq!(chunks.bytes, entry.bytes);
        all.extend_from_slice(&[7; 5000]);
        run(&mut disk, Op::Create { file: FileId(1), path: slot_path(2, 2), room_bytes: 0 })
            .expect("created");
        write_all(&mut disk, FileId(1), 0, all).expect("written");
        (disk, entry, roots)
    }

    fn read(disk: &mut FaultDisk, entry: &SlotEntry) -> Result<(Vec<u8>, u32), SlotFault> {
        let (mut got, mut pages) = (Vec::new(), 0);
        read_slot(
            disk,
            NAME,
            entry,
            &mut |roots| {
                got = roots.to_vec();
                true
            },
            &mut |of, n, bytes| {
                pages += 1;
                (of == PageOf::Index) == (n % 3 == 0) && bytes == [n as u8; PAGE_BYTES]
            },
        )?;
        Ok((got, pages))
    }

    #[test]
    fn a_slot_gives_roots_and_pages_back_and_ignores_what_an_older_one_left() {
        for pages in [0, 1, 62, 63, 64, 1000] {
            let (mut disk, entry, roots) = written(pages);
            let (got, n) = read(&mut disk, &entry).expect("sound");
            assert!(got == roots && n == pages, "{pages} pages");
        }
    }

    #[test]
    fn any_flipped_bit_of_a_slot_is_found() {
        let (mut disk, entry, _) = written(100);
        for byte in (0..entry.bytes as usize).step_by(9973) {
            disk.flip(&slot_path(2, 2), byte, 3);
            assert!(matches!(read(&mut disk, &entry), Err(SlotFault::Rotten(_))), "byte {byte}");
            disk.flip(&slot_path(2, 2), byte, 3);
        }
        assert!(read(&mut disk, &entry).is_ok());
        let other = SlotEntry { checksum: entry.checksum ^ 1, ..entry };
        assert!(read(&mut disk, &other).is_err(), "the manifest means another checkpoint");
    }

    #[test]
    fn an_entry_comes_back() {
        let entry = SlotEntry { slot: 2, epoch: 3, bytes: 4, checksum: 5 };
        assert_eq!(SlotEntry::decode(&entry.encode()), Some(entry));
        assert_eq!(SlotEntry::decode(&entry.encode()[1..]), None);
        assert_eq!((entry.other(), SlotEntry::default().other()), (1, 1));
    }
}
