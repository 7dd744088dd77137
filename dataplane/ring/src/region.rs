//! The memory of a link: one mapping, anonymous or a file that several processes map, and typed views into it.
//!
//! Everything in a region is found by offset, so it may lie at a different address in every process. What other
//! processes may write is only ever read as atomics, or bounds-checked first. A region is initialised by its creator,
//! the magic number last; who attaches reads the magic number first and then compares version and layout hash.

use crate::credit::Fseq;
use crate::line::Line;
use crate::spec::{
    CONSUMER_BYTES, HEADER_BYTES, Kind, LINE_BYTES, Layout, LinkSpec, NAME_MAX_BYTES,
    PRODUCER_BYTES, SpecError, VERSION,
};
use crate::sync::{AtomicU64, Ordering::Relaxed, Site};
use memmap2::{Advice, MmapMut, MmapOptions};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

const MAGIC: u64 = u64::from_le_bytes(*b"MNLINK\0\x01");

/// Why a link could not be made or attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The row of the table is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The operating system said no.
    #[error("cannot {tried} for link {link}: {source}")]
    Os {
        /// What was tried.
        tried: &'static str,
        /// Name or path.
        link: String,
        /// What came back.
        source: io::Error,
    },
    /// The file is not a link.
    #[error(
        "{path}: {field} is {got:#x}, expected {expected:#x}; it is not a link of this build: let its creator make it again"
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What disagrees.
        field: &'static str,
        /// What the file says.
        got: u64,
        /// What this build computes.
        expected: u64,
    },
    /// An end was asked for a second time, or does not exist.
    #[error("link `{link}` has no free {end}: {why}")]
    NoEnd {
        /// The link.
        link: String,
        /// The end.
        end: String,
        /// Why not.
        why: &'static str,
    },
}

#[repr(C, align(128))]
struct Header {
    magic: AtomicU64,
    version: AtomicU64,
    layout_hash: AtomicU64,
    kind: AtomicU64,
    depth: AtomicU64,
    mtu_bytes: AtomicU64,
    consumers: AtomicU64,
    arena_bytes: AtomicU64,
    burst: AtomicU64,
    first_seq: AtomicU64,
    name: [AtomicU64; NAME_MAX_BYTES / 8],
}

/// What the producer says about itself. Written in housekeeping, read by monitors.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct ProducerCell {
    /// 1 once somebody has the producer's end.
    pub(crate) claimed: AtomicU64,
    /// 1 when the producer is gone and has published its last frag.
    pub(crate) closed: AtomicU64,
    /// Lower bound of the next number.
    pub(crate) next: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) backpressure: AtomicU64,
    pub(crate) large_published: AtomicU64,
    pub(crate) large_refused: AtomicU64,
    pub(crate) large_bytes: AtomicU64,
    /// Frags that taps of this link reported as lost.
    pub(crate) overrun: AtomicU64,
}

/// What a consumer says about itself.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct ConsumerCell {
    pub(crate) fseq: Fseq,
    pub(crate) claimed: AtomicU64,
    /// Frags whose place was outside the link: a broken or hostile producer.
    pub(crate) malformed: AtomicU64,
}

/// What the producer says about a consumer.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct BlameCell {
    /// Times this consumer was the slowest when credit ran out.
    pub(crate) slow: AtomicU64,
}

/// A consumer's part of the region.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ConsumerCells {
    pub(crate) own: ConsumerCell,
    pub(crate) blame: BlameCell,
}

const _: () = assert!(size_of::<Header>() as u64 <= HEADER_BYTES);
const _: () = assert!(size_of::<ProducerCell>() as u64 == PRODUCER_BYTES);
const _: () = assert!(size_of::<ConsumerCells>() as u64 == CONSUMER_BYTES);
const _: () = assert!(size_of::<Line>() as u64 == LINE_BYTES);

/// A mapped, initialised link.
#[derive(Debug)]
pub(crate) struct Region {
    /// Lies in a file, where other processes may be looking.
    shared: bool,
    base: NonNull<u8>,
    layout: Layout,
    spec: LinkSpec,
    map: MmapMut,
}

// SAFETY: the mapping stays where it is until `Region` drops, and everything reached through `&Region` is atomics; the
// payload bytes are reached only through `dcache`, which asks for the permissions of `credit` and `arena`.
unsafe impl Send for Region {}
// SAFETY: as for `Send`.
unsafe impl Sync for Region {}

impl Region {
    /// A region in memory of this process.
    pub(crate) fn anonymous(spec: &LinkSpec) -> Result<Arc<Self>, LinkError> {
        let layout = Layout::of(spec)?;
        let map = MmapOptions::new()
            .len(layout.total_bytes as usize)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| os("map memory", &spec.name, source))?;
        Ok(Self::create(map, spec, layout, false))
    }

    /// A region in a new file. A file of that name is unlinked first: who still maps it keeps the old one.
    pub(crate) fn create_file(path: &Path, spec: &LinkSpec) -> Result<Arc<Self>, LinkError> {
        let layout = Layout::of(spec)?;
        let link = path.display().to_string();
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(os("unlink the old file", &link, e));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| os("create the file", &link, source))?;
        file.set_len(layout.total_bytes).map_err(|source| os("size the file", &link, source))?;
        let map = map_file(&file, layout.total_bytes, &link)?;
        Ok(Self::create(map, spec, layout, true))
    }

    /// A region somebody else created in a file.
    pub(crate) fn open_file(path: &Path) -> Result<Arc<Self>, LinkError> {
        let link = path.display().to_string();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|source| os("open the file", &link, source))?;
        let bytes =
            file.metadata().map_err(|source| os("read the file's size", &link, source))?.len();
        let mismatch = |field, got, expected| LinkError::Mismatch {
            path: path.to_owned(),
            field,
            got,
            expected,
        };
        if bytes < HEADER_BYTES {
            return Err(mismatch("size in bytes", bytes, HEADER_BYTES));
        }
        let map = map_file(&file, bytes, &link)?;
        let (spec, hash) = read_header(header(&map)).map_err(|(f, g, e)| mismatch(f, g, e))?;
        let layout = Layout::of(&spec)?;
        if layout.hash != hash {
            return Err(mismatch("layout hash", hash, layout.hash));
        }
        if layout.total_bytes != bytes {
            return Err(mismatch("size in bytes", bytes, layout.total_bytes));
        }
        Ok(Self::adopt(map, spec, layout, true))
    }

    fn create(map: MmapMut, spec: &LinkSpec, layout: Layout, shared: bool) -> Arc<Self> {
        let region = Self::adopt(map, spec.clone(), layout, shared);
        for i in 0..layout.depth {
            let seq = spec.first_seq.wrapping_add(i);
            region.line_at(seq).reset(seq.wrapping_sub(layout.depth));
        }
        region.producer().next.store(spec.first_seq, Relaxed); // ordered by `Ready`, as all of this
        for cells in region.consumers() {
            cells.own.fseq.reset(spec.first_seq);
        }
        write_header(header(&region.map), &region.spec, layout.hash);
        region
    }

    fn adopt(mut map: MmapMut, spec: LinkSpec, layout: Layout, shared: bool) -> Arc<Self> {
        assert!(map.len() as u64 >= layout.total_bytes, "mapping is shorter than its layout");
        // Only advice: without huge pages the link is slower, not wrong.
        let _ = map.advise(Advice::HugePage);
        let base = NonNull::new(map.as_mut_ptr()).expect("a mapping is not at address zero");
        Arc::new(Self { shared, base, layout, spec, map })
    }

    /// Whether other processes may be looking.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    pub(crate) fn spec(&self) -> &LinkSpec {
        &self.spec
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Start of the mapping.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Touches every page a turn may touch, the arena excepted, so that none of them faults later.
    pub(crate) fn prefault(&self) -> Result<(), LinkError> {
        self.map
            .advise_range(Advice::PopulateWrite, 0, self.layout.arena as usize)
            .map_err(|source| os("prefault the region", &self.spec.name, source))
    }

    pub(crate) fn producer(&self) -> &ProducerCell {
        // SAFETY: `layout.producer` is inside the mapping and aligned to 128; the cell is atomics, for which any bytes
        // are valid, and lives as long as `self`.
        unsafe { self.base.add(self.layout.producer as usize).cast().as_ref() }
    }

    pub(crate) fn consumers(&self) -> &[ConsumerCells] {
        let count = self.layout.consumer_count as usize;
        // SAFETY: `count` cells from `layout.consumers` on are inside the mapping (the lines follow them), aligned to
        // 128, made of atomics only, and live as long as `self`.
        unsafe {
            let first = self.base.add(self.layout.consumers as usize).cast();
            NonNull::slice_from_raw_parts(first, count).as_ref()
        }
    }

    /// The line of frag `seq`.
    #[inline(always)]
    fn line_at(&self, seq: u64) -> &Line {
        let index = (seq & (self.layout.depth - 1)) as usize;
        // SAFETY: `index < depth`, and `depth` lines from `layout.lines` on are inside the mapping, 32-aligned, made of
        // atomics only, and live as long as `self`.
        unsafe { self.base.add(self.layout.lines as usize).cast::<Line>().add(index).as_ref() }
    }
}

/// The lines of a region, with what a hot loop needs to find one at hand.
#[derive(Debug)]
pub(crate) struct Lines {
    first: NonNull<Line>,
    mask: u64,
    region: Arc<Region>,
}

// SAFETY: `first` points into `region`, which is kept alive here and is itself `Send`; lines are atomics.
unsafe impl Send for Lines {}

impl Lines {
    pub(crate) fn of(region: &Arc<Region>) -> Self {
        Self {
            first: NonNull::from(region.line_at(0)),
            mask: region.layout.depth - 1,
            region: Arc::clone(region),
        }
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// The line of frag `seq`.
    #[inline(always)]
    pub(crate) fn at(&self, seq: u64) -> &Line {
        // SAFETY: the masked index is below `depth`; see `Region::line_at`. `region` keeps the mapping alive.
        unsafe { self.first.add((seq & self.mask) as usize).as_ref() }
    }
}

pub(crate) fn os(tried: &'static str, link: &str, source: io::Error) -> LinkError {
    LinkError::Os { tried, link: link.to_owned(), source }
}

pub(crate) fn map_file(file: &File, bytes: u64, link: &str) -> Result<MmapMut, LinkError> {
    // SAFETY: the bytes of this mapping are never borrowed through `MmapMut`: other processes write them. They are
    // reached as atomics, or through `dcache` under the credit protocol. Truncating the file under a running link kills
    // its users (SIGBUS), as any break of a shared file's protocol may.
    let map = unsafe { MmapOptions::new().len(bytes as usize).map_mut(file) };
    map.map_err(|source| os("map the file", link, source))
}

fn header(map: &MmapMut) -> &Header {
    assert!(map.len() as u64 >= HEADER_BYTES, "mapping is shorter than a header");
    let first = NonNull::new(map.as_ptr().cast_mut()).expect("a mapping is not at address zero");
    let first = first.cast::<Header>();
    assert!(first.is_aligned(), "a mapping starts on a page");
    // SAFETY: at least `HEADER_BYTES` are mapped, aligned, and a header is atomics only.
    unsafe { first.as_ref() }
}

fn write_header(header: &Header, spec: &LinkSpec, hash: u64) {
    let put = |cell: &AtomicU64, value: u64| cell.store(value, Relaxed); // ordered by `Ready`
    put(&header.version, VERSION);
    put(&header.layout_hash, hash);
    put(&header.kind, spec.kind as u64);
    put(&header.depth, spec.depth);
    put(&header.mtu_bytes, spec.mtu_bytes as u64);
    put(&header.consumers, spec.consumers as u64);
    put(&header.arena_bytes, spec.arena_bytes);
    put(&header.burst, spec.burst);
    put(&header.first_seq, spec.first_seq);
    let mut name = [0u8; NAME_MAX_BYTES];
    name[..spec.name.len()].copy_from_slice(spec.name.as_bytes());
    for (cell, bytes) in header.name.iter().zip(name.as_chunks::<8>().0) {
        put(cell, u64::from_le_bytes(*bytes));
    }
    header.magic.store(MAGIC, Site::Ready.order());
}

/// Field, got, expected.
type Disagreement = (&'static str, u64, u64);

fn read_header(header: &Header) -> Result<(LinkSpec, u64), Disagreement> {
    let magic = header.magic.load(Site::Attach.order());
    if magic != MAGIC {
        return Err(("magic number", magic, MAGIC));
    }
    let get = |cell: &AtomicU64| cell.load(Relaxed); // ordered by `Attach`
    let version = get(&header.version);
    if version != VERSION {
        return Err(("format version", version, VERSION));
    }
    let kind = get(&header.kind);
    let kind = Kind::from_code(kind).ok_or(("kind", kind, Kind::Lossless as u64))?;
    let name: Vec<u8> = header.name.iter().flat_map(|cell| get(cell).to_le_bytes()).collect();
    let end = name.iter().position(|b| *b == 0).unwrap_or(NAME_MAX_BYTES);
    let spec = LinkSpec {
        name: String::from_utf8_lossy(&name[..end]).into_owned(),
        depth: get(&header.depth),
        mtu_bytes: get(&header.mtu_bytes) as usize,
        kind,
        consumers: get(&header.consumers) as usize,
        arena_bytes: get(&header.arena_bytes),
        burst: get(&header.burst),
        first_seq: get(&header.first_seq),
    };
    Ok((spec, get(&header.layout_hash)))
}
