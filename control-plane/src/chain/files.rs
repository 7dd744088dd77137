//! Files of the chain: headers with what is known of them, and blocks, both append-only.
//!
//! In: headers, marks and blocks in the order in which they were accepted. Out: the same after a restart, and a block's bytes at
//! any time. A record is synced before anybody hears of it; what a crash leaves of a record that was not is cut off when the
//! directory is opened, and the log says so. Blocks of side chains are kept like all others.
//!
//! ```text
//! DIR/chain/headers.dat, DIR/chain/blocks-00000.dat, blocks-00001.dat, ...          numbers are little endian
//!
//! every file begins with its head:
//! 0          8       12        16                 48       56          64
//! | metanode | kind  | version | genesis hash     | number | checksum  |   kind 1: headers, 2: blocks; number of a block file
//!
//! headers.dat, then records of 96 bytes:
//! 0      1        8                                   88          96
//! | what | zeros  | header, or the block hash, zeros  | checksum  |      what 1: header, 2: failed, 3: cleared, 4: connected
//!
//! blocks-N.dat, then records:
//! 0       4       8       16         24            32              40
//! | MNBK  | zeros | bytes | tx count | block's sum | checksum      | block as on the wire |
//! ```
//!
//! A checksum is SipHash-1-3 of all bytes before it (of the record, or of the file's head); the block's sum is that of its bytes.
//! The key is fixed: it finds damage, not forgery.

use super::tree::Place;
use consensus::block::BlockView;
use consensus::hash::{BlockHash, TxId};
use consensus::header::Header;
use consensus::params::ChainParams;
use consensus::tx::TxLayout;
use siphasher::sip::SipHasher13;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::Hasher;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use utxo_shard::journal::is_full;

/// A block file is not appended to beyond this; a larger block has one of its own. Source: SV Node `preferredblockfilesize`.
const BLOCK_FILE_BYTES: u64 = 128 << 20;
const FILE_HEAD: usize = 64;
const HEADER_RECORD: usize = 96;
const BLOCK_HEAD: usize = 40;
const NAME: &[u8; 8] = b"metanode";
const BLOCK_MAGIC: &[u8; 4] = b"MNBK";
/// Of the format drawn above.
const FORMAT_VERSION: u32 = 1;
const KIND_HEADERS: u32 = 1;
const KIND_BLOCKS: u32 = 2;

/// Why files of the chain could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The system refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not one of ours.
    #[error("{path} does not begin as a chain file of this program; is the data directory right?")]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The file is of another program version.
    #[error(
        "{path} has format version {got}, this program writes {FORMAT_VERSION}; \
         use the program that wrote it, or another data directory"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// What its head says.
        got: u32,
    },
    /// The directory belongs to another network.
    #[error(
        "{path} belongs to the network whose genesis block is {got}, but {expected} was asked for; \
         give every network a data directory of its own"
    )]
    Network {
        /// The file.
        path: PathBuf,
        /// Its genesis block.
        got: BlockHash,
        /// The one of the network asked for.
        expected: BlockHash,
    },
    /// Bytes in the middle of a file are not what was written.
    #[error(
        "{path}: the record at byte {at} is damaged (its checksum is wrong and more records follow); \
         move {path} and the files after it away, and let the node fetch those blocks again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
    },
}

impl FilesError {
    /// Whether there was no room on the disk: nothing was changed, and the same may be tried again.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Io { doing, path, source }
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6d65_7461_6e6f_6465, 0x6368_6169_6e66_696c);
    hasher.write(bytes);
    hasher.finish()
}

/// Appends the checksum of what is there.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// The bytes without their checksum, if it is right.
fn opened(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    (checksum(body).to_le_bytes() == *sum).then_some(body)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the caller gives a whole record"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the caller gives a whole record"))
}

fn file_head(kind: u32, genesis: &BlockHash, number: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(FILE_HEAD);
    head.extend_from_slice(NAME);
    head.extend_from_slice(&kind.to_le_bytes());
    head.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    head.extend_from_slice(&genesis.0);
    head.extend_from_slice(&number.to_le_bytes());
    seal(head)
}

/// Opens a file and checks its head; writes the head of a new one, or of one a crash left without.
fn open_file(
    path: &Path,
    kind: u32,
    genesis: &BlockHash,
    number: u64,
) -> Result<(File, u64), FilesError> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let file = options.open(path).map_err(io_error("opening", path))?;
    let len = file.metadata().map_err(io_error("reading the length of", path))?.len();
    if len < FILE_HEAD as u64 {
        // The head is synced before the first record: a file without a whole one holds nothing.
        file.set_len(0).map_err(io_error("cutting", path))?;
        file.write_all_at(&file_head(kind, genesis, number), 0)
            .and_then(|()| file.sync_all())
            .map_err(io_error("writing", path))?;
        return Ok((file, FILE_HEAD as u64));
    }
    let mut head = [0; FILE_HEAD];
    file.read_exact_at(&mut head, 0).map_err(io_error("reading", path))?;
    check_head(path, &head, kind, genesis, number)?;
    Ok((file, len))
}

/// A file's head is what it must be.
fn check_head(
    path: &Path,
    head: &[u8; FILE_HEAD],
    kind: u32,
    genesis: &BlockHash,
    number: u64,
) -> Result<(), FilesError> {
    if &head[..8] != NAME || u32_at(head, 8) != kind {
        return Err(FilesError::NotOurs { path: path.to_owned() });
    }
    let version = u32_at(head, 12);
    if version != FORMAT_VERSION {
        return Err(FilesError::Version { path: path.to_owned(), got: version });
    }
    let got = BlockHash(*head[16..].first_chunk().expect("the head is long enough"));
    if got != *genesis {
        return Err(FilesError::Network { path: path.to_owned(), got, expected: *genesis });
    }
    if opened(head).is_none() || u64_at(head, 48) != number {
        return Err(FilesError::NotOurs { path: path.to_owned() });
    }
    Ok(())
}

fn sync_directory(directory: &Path) -> Result<(), FilesError> {
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(io_error("syncing the directory", directory))
}

/// A record of `headers.dat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderRecord {
    /// A header that passed its checks.
    Header(Header),
    /// The block is invalid, or the operator says so.
    Failed(BlockHash),
    /// It is not any more.
    Cleared(BlockHash),
    /// The block was connected for the first time.
    Connected(BlockHash),
}

impl HeaderRecord {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_RECORD - 8];
        match self {
            Self::Header(header) => {
                bytes[0] = 1;
                bytes[8..].copy_from_slice(&header.to_bytes());
            }
            Self::Failed(hash) => bytes[..40].copy_from_slice(&mark(2, &hash)),
            Self::Cleared(hash) => bytes[..40].copy_from_slice(&mark(3, &hash)),
            Self::Connected(hash) => bytes[..40].copy_from_slice(&mark(4, &hash)),
        }
        seal(bytes)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let body = opened(bytes)?;
        let hash = || BlockHash(*body[8..].first_chunk().expect("a record is long enough"));
        Some(match body[0] {
            1 => Self::Header(Header::from_bytes(body[8..].first_chunk()?)),
            2 => Self::Failed(hash()),
            3 => Self::Cleared(hash()),
            4 => Self::Connected(hash()),
            _ => return None,
        })
    }
}

fn mark(what: u8, hash: &BlockHash) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[0] = what;
    bytes[8..].copy_from_slice(&hash.0);
    bytes
}

/// `headers.dat`, open for appending.
#[derive(Debug)]
pub(crate) struct HeaderFile {
    path: PathBuf,
    file: File,
    len: u64,
    is_synced: bool,
}

impl HeaderFile {
    fn open(
        directory: &Path,
        genesis: &BlockHash,
        log: &mut dyn FnMut(String),
    ) -> Result<(Self, Vec<HeaderRecord>), FilesError> {
        let path = directory.join("headers.dat");
        let (file, end) = open_file(&path, KIND_HEADERS, genesis, 0)?;
        let mut bytes = vec![0; (end - FILE_HEAD as u64) as usize];
        file.read_exact_at(&mut bytes, FILE_HEAD as u64).map_err(io_error("reading", &path))?;
        let mut records = Vec::with_capacity(bytes.len() / HEADER_RECORD);
        let mut len = FILE_HEAD as u64;
        for chunk in bytes.chunks(HEADER_RECORD) {
            let Some(record) = HeaderRecord::read(chunk) else { break };
            records.push(record);
            len += HEADER_RECORD as u64;
        }
        if len < end {
            // What was not synced may be torn in any of its records; it was never announced.
            let lost = end - len;
            file.set_len(len).and_then(|()| file.sync_all()).map_err(io_error("cutting", &path))?;
            log(format!(
                "{}: cut {lost} bytes at the end that a crash left unfinished",
                path.display()
            ));
        }
        Ok((Self { path, file, len, is_synced: true }, records))
    }

    /// Appends; call [`HeaderFile::sync`] before anybody is told.
    pub(crate) fn append(&mut self, record: HeaderRecord) -> Result<(), FilesError> {
        let bytes = record.to_bytes();
        self.file.write_all_at(&bytes, self.len).map_err(io_error("writing", &self.path))?;
        self.len += bytes.len() as u64;
        self.is_synced = false;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> Result<(), FilesError> {
        if !self.is_synced {
            self.file.sync_data().map_err(io_error("syncing", &self.path))?;
            self.is_synced = true;
        }
        Ok(())
    }
}

/// A block that was found in the files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) header: Header,
    pub(crate) place: Place,
    pub(crate) tx_count: u64,
}

/// Reads blocks; shared by everybody.
#[derive(Clone, Debug)]
pub(crate) struct BlockReader {
    directory: PathBuf,
    files: Arc<RwLock<Vec<Arc<File>>>>,
}

impl BlockReader {
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn file(&self, place: &Place) -> io::Result<Arc<File>> {
        let files = self.files.read().expect("no holder of this lock panics");
        let missing = || {
            let path = block_path(&self.directory, place.file);
            io::Error::new(io::ErrorKind::NotFound, format!("{} is not open", path.display()))
        };
        files.get(place.file as usize).cloned().ok_or_else(missing)
    }

    /// A whole block; an error if its bytes are not what was written.
    pub(crate) fn read(&self, place: &Place) -> io::Result<Vec<u8>> {
        let file = self.file(place)?;
        let mut head = [0; BLOCK_HEAD];
        file.read_exact_at(&mut head, place.at - BLOCK_HEAD as u64)?;
        let mut bytes = vec![0; place.len as usize];
        file.read_exact_at(&mut bytes, place.at)?;
        if checksum(&bytes) != u64_at(&head, 24) {
            let path = block_path(&self.directory, place.file);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: the block at byte {} is damaged", path.display(), place.at),
            ));
        }
        Ok(bytes)
    }

    /// Some bytes of a block, unchecked; for transactions, whose id the caller compares.
    pub(crate) fn read_part(&self, place: &Place, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len.min(place.len.saturating_sub(at) as usize)];
        self.file(place)?.read_exact_at(&mut bytes, place.at + at)?;
        Ok(bytes)
    }
}

fn block_path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("blocks-{number:05}.dat"))
}

/// The block files, the last one open for appending.
#[derive(Debug)]
pub(crate) struct BlockFiles {
    reader: BlockReader,
    genesis: BlockHash,
    /// Of the last file.
    len: u64,
    pub(crate) file_bytes_max: u64,
}

impl BlockFiles {
    fn open(
        directory: &Path,
        genesis: &BlockHash,
        log: &mut dyn FnMut(String),
    ) -> Result<(Self, Vec<Found>), FilesError> {
        let reader =
            BlockReader { directory: directory.to_owned(), files: Arc::new(RwLock::new(vec![])) };
        let mut files = Self {
            reader,
            genesis: *genesis,
            len: FILE_HEAD as u64,
            file_bytes_max: BLOCK_FILE_BYTES,
        };
        let mut found = Vec::new();
        let mut number = 0;
        while block_path(directory, number).exists() {
            let is_last = !block_path(directory, number + 1).exists();
            files.open_one(number, is_last, &mut found, log)?;
            number += 1;
        }
        if number == 0 {
            files.begin(0)?;
        }
        Ok((files, found))
    }

    /// Walks over one file.
    fn open_one(
        &mut self,
        number: u32,
        is_last: bool,
        found: &mut Vec<Found>,
        log: &mut dyn FnMut(String),
    ) -> Result<(), FilesError> {
        let path = block_path(&self.reader.directory, number);
        let (file, end) = open_file(&path, KIND_BLOCKS, &self.genesis, u64::from(number))?;
        let mut at = FILE_HEAD as u64;
        let mut whole = true;
        while at < end && whole {
            match read_block_head(&file, number, at, end, is_last)
                .map_err(io_error("reading", &path))?
            {
                Some(block) => {
                    at = block.place.at + block.place.len;
                    found.push(block);
                }
                None => whole = false,
            }
        }
        if !whole {
            if !is_last {
                return Err(FilesError::Damaged { path, at });
            }
            file.set_len(at).and_then(|()| file.sync_all()).map_err(io_error("cutting", &path))?;
            log(format!(
                "{}: cut {} bytes at the end that a crash left unfinished",
                path.display(),
                end - at
            ));
        }
        self.len = at;
        self.list().push(Arc::new(file));
        Ok(())
    }

    fn list(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Arc<File>>> {
        self.reader.files.write().expect("no holder of this lock panics")
    }

    fn begin(&mut self, number: u32) -> Result<(), FilesError> {
        let path = block_path(&self.reader.directory, number);
        let (file, len) = open_file(&path, KIND_BLOCKS, &self.genesis, u64::from(number))?;
        sync_directory(&self.reader.directory)?;
        self.list().push(Arc::new(file));
        self.len = len;
        Ok(())
    }

    pub(crate) fn reader(&self) -> BlockReader {
        self.reader.clone()
    }

    /// Appends a block and syncs it.
    pub(crate) fn append(&mut self, block: &[u8], tx_count: u64) -> Result<Place, FilesError> {
        let record = (BLOCK_HEAD + block.len()) as u64;
        let mut number = self.list().len() as u32 - 1;
        if self.len > FILE_HEAD as u64 && self.len + record > self.file_bytes_max {
            number += 1;
            self.begin(number)?;
        }
        let mut head = Vec::with_capacity(BLOCK_HEAD);
        head.extend_from_slice(BLOCK_MAGIC);
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&(block.len() as u64).to_le_bytes());
        head.extend_from_slice(&tx_count.to_le_bytes());
        head.extend_from_slice(&checksum(block).to_le_bytes());
        let head = seal(head);
        let file = self.list()[number as usize].clone();
        let at = self.len + BLOCK_HEAD as u64;
        let path = block_path(&self.reader.directory, number);
        file.write_all_at(&head, self.len)
            .and_then(|()| file.write_all_at(block, at))
            .and_then(|()| file.sync_data())
            .map_err(io_error("writing a block to", &path))?;
        self.len = at + block.len() as u64;
        Ok(Place { file: number, at, len: block.len() as u64 })
    }
}

/// The block at `at`; `None` if its record is not whole.
///
/// The bytes of the blocks of the last file are compared with their sums here, because a crash may have left them unfinished;
/// all others are compared when they are read.
fn read_block_head(
    file: &File,
    number: u32,
    at: u64,
    end: u64,
    is_last: bool,
) -> io::Result<Option<Found>> {
    let mut head = [0; BLOCK_HEAD + Header::BYTES];
    if end - at < head.len() as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut head, at)?;
    let (record, header) = head.split_at(BLOCK_HEAD);
    let Some(body) = opened(record) else { return Ok(None) };
    let (len, tx_count) = (u64_at(body, 8), u64_at(body, 16));
    let place = Place { file: number, at: at + BLOCK_HEAD as u64, len };
    let fits = len >= Header::BYTES as u64 && len <= end - place.at;
    if &body[..4] != BLOCK_MAGIC || !fits {
        return Ok(None);
    }
    if is_last {
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, place.at)?;
        if checksum(&bytes) != u64_at(body, 24) {
            return Ok(None);
        }
    }
    let header = header.first_chunk().expect("the array has a header's bytes behind the record");
    Ok(Some(Found { header: Header::from_bytes(header), place, tx_count }))
}

/// All files of the chain.
#[derive(Debug)]
pub(crate) struct ChainFiles {
    pub(crate) headers: HeaderFile,
    pub(crate) blocks: BlockFiles,
}

/// What was in the files.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) records: Vec<HeaderRecord>,
    pub(crate) blocks: Vec<Found>,
}

impl ChainFiles {
    /// Opens or creates `DIR/chain`. `log` gets a line for everything that was mended.
    pub(crate) fn open(
        directory: &Path,
        params: &ChainParams,
        log: &mut dyn FnMut(String),
    ) -> Result<(Self, Contents), FilesError> {
        let path = directory.join("chain");
        std::fs::create_dir_all(&path).map_err(io_error("creating", &path))?;
        let (headers, records) = HeaderFile::open(&path, &params.genesis_hash, log)?;
        let (blocks, found) = BlockFiles::open(&path, &params.genesis_hash, log)?;
        sync_directory(&path)?;
        Ok((Self { headers, blocks }, Contents { records, blocks: found }))
    }

    /// What is in `DIR/chain`, which may be in use: nothing is written, and what is not whole at the end is passed over.
    pub(crate) fn look(directory: &Path, params: &ChainParams) -> Result<Contents, FilesError> {
        let directory = directory.join("chain");
        let look = |path: &Path, kind, number| {
            let file = File::open(path).map_err(io_error("opening", path))?;
            let end = file.metadata().map_err(io_error("reading the length of", path))?.len();
            let mut head = [0; FILE_HEAD];
            file.read_exact_at(&mut head, 0).map_err(io_error("reading", path))?;
            check_head(path, &head, kind, &params.genesis_hash, number)?;
            Ok::<_, FilesError>((file, end))
        };
        let path = directory.join("headers.dat");
        let (file, end) = look(&path, KIND_HEADERS, 0)?;
        let mut bytes = vec![0; (end - FILE_HEAD as u64) as usize];
        file.read_exact_at(&mut bytes, FILE_HEAD as u64).map_err(io_error("reading", &path))?;
        let records = bytes.chunks(HEADER_RECORD).map_while(HeaderRecord::read).collect();
        let mut blocks = Vec::new();
        for number in 0.. {
            let path = block_path(&directory, number);
            if !path.exists() {
                break;
            }
            let (file, end) = look(&path, KIND_BLOCKS, u64::from(number))?;
            let mut at = FILE_HEAD as u64;
            while at < end {
                let block = read_block_head(&file, number, at, end, false)
                    .map_err(io_error("reading", &path))?;
                let Some(block) = block else { break };
                at = block.place.at + block.place.len;
                blocks.push(block);
            }
        }
        Ok(Contents { records, blocks })
    }

    /// The bytes of transactions out of stored blocks, the newest block first; what is in none is not in the answer.
    pub(crate) fn find_txs(
        &self,
        contents: &Contents,
        wanted: &HashSet<TxId>,
    ) -> Result<HashMap<TxId, Vec<u8>>, FilesError> {
        let mut found = HashMap::new();
        let reader = self.blocks.reader();
        for block in contents.blocks.iter().rev() {
            if found.len() == wanted.len() {
                break;
            }
            let raw = reader
                .read(&block.place)
                .map_err(io_error("reading a block in", reader.directory()))?;
            let Ok(view) = BlockView::parse(&raw) else { continue };
            let (mut txs, mut layout) = (view.txs(), TxLayout::new());
            while let Ok(Some(tx)) = txs.next_tx(&mut layout) {
                let txid = tx.txid();
                if wanted.contains(&txid) {
                    found.entry(txid).or_insert_with(|| tx.bytes().to_vec());
                }
            }
        }
        Ok(found)
    }

    /// Appends a block: its header first, so that no block stands there without one.
    pub(crate) fn append_block(
        &mut self,
        block: &[u8],
        tx_count: u64,
    ) -> Result<Place, FilesError> {
        self.headers.sync()?;
        self.blocks.append(block, tx_count)
    }
}
