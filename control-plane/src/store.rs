//! The pool as interfaces see it, and the tile `store` that fills it with the bytes of every accepted transaction.
//!
//! In: `shard_pack`, as its second consumer, `pack_store`, and the chain thread's word on what is mined and what came back. Out:
//! [`Pool`], which answers by transaction id. Bytes go to segment files of the data directory, each removed with its last
//! transaction; the index stays in memory (about 100 bytes a transaction). The shards bound how many there can be, since every
//! transaction of the pool has a record there. Every released subtree becomes a file ([`SubtreeFiles`]).
//! The tile turns on an unpinned thread: it may allocate, and the disk may make it wait. Without a [`Pool`] it reads and drops.
//!
//! The tile reads its link on its own time, so the chain thread may know that a transaction is mined before its frag is read
//! here. Such ids are remembered until the frag comes, and it is passed over.

use crate::service::NodeClock;
use crate::subtree_files::{SUBTREES_BYTES_MAX, SubtreeFiles};
use consensus::hash::MerkleHash;
use consensus::hash::TxId;
use consensus::teranode::{Subtree, SubtreeNode};
use consensus::tx::{Limits, TxLayout, parse_prefix};
use dataplane::msg::pack_store::SubtreeFrag;
use dataplane::msg::{Accepted, AcceptedKind, ParentSeq};
use dataplane::tile::{Frag, In, Outs, Tile};
use dataplane::topo::Wiring;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// A segment file takes no more transactions beyond this.
const SEGMENT_BYTES: u64 = 256 << 20;
/// Bytes of neighbours that are read at once, about.
const READ_BYTES_MAX: u64 = 4 << 20;
/// Mined ids whose frags have not been read; more than the links of sixty-four shards hold.
const AHEAD_MAX: usize = 1 << 18;
/// Subtrees that wait in memory for room on the disk; older ones are given up.
const UNWRITTEN_MAX: usize = 8;
/// Most ancestors [`Pool::ancestors`] walks to.
pub const ANCESTORS_MAX: usize = 10_000;

/// Where the bytes of a transaction are, and what is known of it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    segment: u32,
    len: u32,
    at: u64,
    fee_sat: u64,
    time_s: u32,
    height: u32,
    has_lock_time: bool,
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    /// Transactions of the pool in it.
    live: u64,
    written: u64,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    segments: BTreeMap<u32, Segment>,
    /// Number of the segment that is written.
    current: u32,
    /// What follows the written bytes of the current segment.
    buffer: Vec<u8>,
    index: HashMap<TxId, Entry>,
    bytes: u64,
    fees_sat: u64,
    /// Mined, and the frag not read yet; the queue holds them in order.
    ahead: HashSet<TxId>,
    ahead_order: VecDeque<TxId>,
    tip_height: u32,
    /// Per shard the newest publication read.
    read: Vec<u64>,
    clock: NodeClock,
    /// What could not be written, and why; it waits in memory.
    trouble: Option<String>,
    /// Bytes of the buffer at which writing is tried again.
    flush_at: usize,
    subtrees: SubtreeFiles,
    /// Subtrees whose files could not be written, oldest first.
    unwritten: VecDeque<Subtree>,
}

impl Inner {
    fn put(&mut self, txid: TxId, tx: &[u8], fee_sat: u64) {
        if self.ahead.remove(&txid) || self.index.contains_key(&txid) {
            return;
        }
        let segment = self.current;
        let written = match self.segments.get_mut(&segment) {
            Some(current) => {
                current.live += 1;
                current.written
            }
            None => 0,
        };
        let at = written + self.buffer.len() as u64;
        self.buffer.extend_from_slice(tx);
        let time_s = self.clock.now_s() as u32;
        let height = self.tip_height;
        let has_lock_time = !tx.ends_with(&[0; 4]);
        let len = tx.len() as u32;
        let entry = Entry { segment, len, at, fee_sat, time_s, height, has_lock_time };
        self.index.insert(txid, entry);
        self.bytes += tx.len() as u64;
        self.fees_sat += fee_sat;
        if self.buffer.len() >= self.flush_at {
            self.flush();
        }
    }

    fn has_come_to(&mut self, published: ParentSeq) {
        let shard = usize::from(published.shard);
        if self.read.len() <= shard {
            self.read.resize(shard + 1, 0);
        }
        self.read[shard] = published.seq;
    }

    fn flush(&mut self) {
        let Some(current) = self.segments.get_mut(&self.current) else { return };
        let mut written = current.file.write_all_at(&self.buffer, current.written);
        let path = current.path.clone();
        if written.is_ok() {
            current.written += self.buffer.len() as u64;
            self.buffer.clear();
            if current.written >= SEGMENT_BYTES {
                written = self.begin();
            }
        }
        // What could not be written stays in memory, where it is read from; `retry` tries again.
        self.flush_at = self.buffer.len() + BUFFER_BYTES;
        self.trouble = written.err().map(|error| format!("writing {}: {error}", path.display()));
    }

    fn write_subtrees(&mut self) -> io::Result<()> {
        while let Some(subtree) = self.unwritten.front() {
            self.subtrees.write(subtree)?;
            self.unwritten.pop_front();
        }
        Ok(())
    }

    /// Begins the next segment.
    fn begin(&mut self) -> io::Result<()> {
        let number = self.segments.last_key_value().map_or(0, |(n, _)| n + 1);
        let path = self.directory.join(format!("accepted-{number:05}.tx"));
        let mut options = File::options();
        let file = options.create(true).truncate(true).read(true).write(true).open(&path)?;
        self.segments.insert(number, Segment { file, path, live: 0, written: 0 });
        let before = std::mem::replace(&mut self.current, number);
        self.drop_if_empty(before);
        Ok(())
    }

    fn drop_if_empty(&mut self, number: u32) {
        let is_empty = self.segments.get(&number).is_some_and(|s| s.live == 0);
        if !is_empty {
            return;
        }
        if number != self.current {
            if let Some(segment) = self.segments.remove(&number)
                && let Err(error) = std::fs::remove_file(&segment.path)
            {
                tracing::warn!(
                    "removing {}: {error}; it takes room for nothing",
                    segment.path.display()
                );
            }
        } else if let Some(current) = self.segments.get_mut(&number) {
            // Nothing in it is needed: begin it anew.
            current.written = 0;
            self.buffer.clear();
        }
    }

    fn remove(&mut self, txid: &TxId) -> bool {
        let Some(entry) = self.index.remove(txid) else { return false };
        self.bytes -= u64::from(entry.len);
        self.fees_sat -= entry.fee_sat;
        if let Some(segment) = self.segments.get_mut(&entry.segment) {
            segment.live -= 1;
        }
        self.drop_if_empty(entry.segment);
        true
    }

    fn read(&mut self, entry: &Entry) -> io::Result<Vec<u8>> {
        let mut tx = Vec::new();
        self.read_into(entry, entry.len as usize, &mut tx)?;
        Ok(tx)
    }

    /// Appends `len` bytes from where `first` lies; some may be written, the rest in the buffer.
    fn read_into(&mut self, first: &Entry, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let segment = self.segments.get(&first.segment).ok_or(io::ErrorKind::NotFound)?;
        let written = (segment.written.saturating_sub(first.at) as usize).min(len);
        let from = out.len();
        out.resize(from + written, 0);
        segment.file.read_exact_at(&mut out[from..], first.at)?;
        if written < len {
            let at = (first.at + written as u64 - segment.written) as usize;
            out.extend_from_slice(&self.buffer[at..at + len - written]);
        }
        Ok(())
    }

    /// Remembers a mined transaction whose frag is still to be read.
    fn remember_ahead(&mut self, txid: TxId) {
        if !self.ahead.insert(txid) {
            return;
        }
        self.ahead_order.push_back(txid);
        if self.ahead_order.len() > AHEAD_MAX
            && let Some(oldest) = self.ahead_order.pop_front()
        {
            self.ahead.remove(&oldest);
        }
    }
}

/// A transaction of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolTx {
    /// Raw format.
    pub raw: Vec<u8>,
    /// Its fee.
    pub fee_sat: u64,
    /// Bytes of the raw format.
    pub size_bytes: u32,
    /// When it was accepted, seconds since 1970.
    pub time_s: u32,
    /// Height of the tip at that time.
    pub height: u32,
}

/// Accepted transactions that no block has. Clones see the same pool.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Mutex<Inner>>,
    /// Grows with every change.
    updated: Arc<AtomicU64>,
    dropped_bytes: u64,
}

impl Pool {
    /// An empty pool with its files in `directory`; what an earlier run left there is removed.
    pub fn create(directory: &Path, clock: NodeClock) -> io::Result<Self> {
        let subtrees = SubtreeFiles::open(&directory.join("subtrees"), SUBTREES_BYTES_MAX)?;
        let directory = directory.join("pool");
        std::fs::create_dir_all(&directory)?;
        let mut dropped_bytes = 0;
        for old in std::fs::read_dir(&directory)? {
            let old = old?;
            dropped_bytes += old.metadata()?.len();
            std::fs::remove_file(old.path())?;
        }
        let mut inner = Inner {
            directory,
            segments: BTreeMap::new(),
            current: 0,
            buffer: Vec::with_capacity(BUFFER_BYTES * 2),
            index: HashMap::new(),
            bytes: 0,
            fees_sat: 0,
            ahead: HashSet::new(),
            ahead_order: VecDeque::new(),
            tip_height: 0,
            read: Vec::new(),
            clock,
            trouble: None,
            flush_at: BUFFER_BYTES,
            subtrees,
            unwritten: VecDeque::new(),
        };
        inner.begin()?;
        let updated = Arc::new(AtomicU64::new(0));
        Ok(Self { inner: Arc::new(Mutex::new(inner)), updated, dropped_bytes })
    }

    /// Bytes of an earlier run's pool that were removed at the start.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// The transaction; `None` if it is not in the pool. May read a file.
    pub fn get(&self, txid: &TxId) -> io::Result<Option<PoolTx>> {
        let mut inner = self.lock();
        let Some(entry) = inner.index.get(txid).copied() else { return Ok(None) };
        let raw = inner.read(&entry)?;
        let Entry { len: size_bytes, fee_sat, time_s, height, .. } = entry;
        Ok(Some(PoolTx { raw, fee_sat, size_bytes, time_s, height }))
    }

    /// Appends the raw bytes of the first of `txids` that are in the pool, up to one that is not; how many that is.
    ///
    /// Transactions that were accepted one after the other lie so in a file, and are read at once.
    pub fn append(&self, txids: &[TxId], out: &mut Vec<u8>) -> io::Result<usize> {
        let mut inner = self.lock();
        let mut done = 0;
        while let Some(first) = txids.get(done).and_then(|txid| inner.index.get(txid)).copied() {
            let (mut run, mut bytes) = (1, u64::from(first.len));
            while let Some(next) = txids.get(done + run).and_then(|txid| inner.index.get(txid))
                && next.segment == first.segment
                && next.at == first.at + bytes
                && bytes < READ_BYTES_MAX
            {
                bytes += u64::from(next.len);
                run += 1;
            }
            inner.read_into(&first, bytes as usize, out)?;
            done += run;
        }
        Ok(done)
    }

    /// Whether the transaction is in the pool.
    pub fn contains(&self, txid: &TxId) -> bool {
        self.lock().index.contains_key(txid)
    }

    /// Ids of all transactions, in no order.
    pub fn txids(&self) -> Vec<TxId> {
        self.lock().index.keys().copied().collect()
    }

    /// Transactions held.
    pub fn len(&self) -> usize {
        self.lock().index.len()
    }

    /// True without transactions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all transactions.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Fees of all transactions.
    pub fn fees_sat(&self) -> u64 {
        self.lock().fees_sat
    }

    /// A number that grows with every change.
    pub fn updated(&self) -> u64 {
        self.updated.load(Ordering::Relaxed)
    }

    /// Transactions of the pool that this one spends from; empty if it is not in the pool.
    pub fn parents(&self, txid: &TxId) -> io::Result<Vec<TxId>> {
        let Some(tx) = self.get(txid)? else { return Ok(Vec::new()) };
        let mut parents = Vec::new();
        let mut layout = TxLayout::new();
        if let Ok(view) = parse_prefix(&tx.raw, &mut layout, Limits::CONSENSUS) {
            let inner = self.lock();
            for input in view.inputs() {
                let parent = input.prev.txid;
                if inner.index.contains_key(&parent) && !parents.contains(&parent) {
                    parents.push(parent);
                }
            }
        }
        Ok(parents)
    }

    /// Everything in the pool this transaction depends on, at most [`ANCESTORS_MAX`].
    pub fn ancestors(&self, txid: &TxId) -> io::Result<Vec<TxId>> {
        let mut found = Vec::new();
        let mut seen = HashSet::from([*txid]);
        let mut open = vec![*txid];
        while let Some(next) = open.pop() {
            for parent in self.parents(&next)? {
                if found.len() < ANCESTORS_MAX && seen.insert(parent) {
                    found.push(parent);
                    open.push(parent);
                }
            }
        }
        Ok(found)
    }

    /// These are in a connected block.
    pub(crate) fn mined(&self, txids: &[TxId]) {
        let mut inner = self.lock();
        for txid in txids {
            if !inner.remove(txid) {
                inner.remember_ahead(*txid);
            }
        }
        self.changed();
    }

    /// A block is disconnected: its transactions are mined no more. Those that came back are given to [`Pool::restore`].
    pub(crate) fn unmined(&self, txids: &[TxId]) {
        let mut inner = self.lock();
        for txid in txids {
            inner.ahead.remove(txid);
        }
    }

    /// A transaction of a disconnected block is in the pool again.
    pub(crate) fn restore(&self, txid: TxId, tx: &[u8], fee_sat: u64) {
        self.lock().put(txid, tx, fee_sat);
        self.changed();
    }

    /// The tip, as transactions that come from now on shall say.
    pub(crate) fn set_tip_height(&self, height: u32) {
        self.lock().tip_height = height;
        self.changed();
    }

    /// Whether everything that a shard published up to `seq` has been read.
    pub(crate) fn has_read(&self, shard: u16, seq: u64) -> bool {
        seq == 0 || self.lock().read.get(usize::from(shard)).is_some_and(|&read| read >= seq)
    }

    /// Transactions whose lock time is not zero, in no order.
    pub(crate) fn time_locked(&self) -> Vec<TxId> {
        let inner = self.lock();
        inner.index.iter().filter(|(_, e)| e.has_lock_time).map(|(txid, _)| *txid).collect()
    }

    /// What a shard published up to here is known without being read: an earlier run of the node read it.
    pub(crate) fn begin_at(&self, published: ParentSeq) {
        self.lock().has_come_to(published);
    }

    fn accepted(&self, accepted: &Accepted<'_>) {
        let mut inner = self.lock();
        inner.has_come_to(ParentSeq { shard: accepted.shard, seq: accepted.publish_seq });
        match accepted.kind {
            AcceptedKind::Pool => inner.put(accepted.txid, accepted.tx, accepted.fee_sat),
            AcceptedKind::Block => return,
            AcceptedKind::Evicted => {
                inner.remove(&accepted.txid);
            }
        }
        drop(inner);
        self.changed();
    }

    fn changed(&self) {
        self.updated.fetch_add(1, Ordering::Relaxed);
    }

    fn write_subtree(&self, subtree: &Subtree) {
        let mut inner = self.lock();
        inner.unwritten.push_back(subtree.clone());
        if let Err(error) = inner.write_subtrees() {
            // The transactions of a block can be read from the block itself.
            let over = inner.unwritten.len().saturating_sub(UNWRITTEN_MAX);
            inner.unwritten.drain(..over);
            inner.trouble = Some(format!("writing a subtree: {error}"));
        }
    }

    /// Writes what could not be written, if anything; what is wrong if that fails again.
    pub fn retry(&self) -> Result<(), String> {
        let mut inner = self.lock();
        if inner.trouble.is_some() {
            inner.flush();
            if let Err(error) = inner.write_subtrees() {
                inner.trouble = Some(format!("writing a subtree: {error}"));
            }
        }
        inner.trouble.clone().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of this lock panics")
    }
}

/// A subtree whose leaves are still coming.
#[derive(Debug)]
struct Coming {
    number: u64,
    leaves: usize,
    subtree: Subtree,
}

/// The tile.
#[derive(Debug)]
pub struct StoreTile {
    pool: Option<Pool>,
    coming: Option<Coming>,
    rows: Vec<&'static str>,
}

impl StoreTile {
    /// Fills `pool`, if there is one.
    pub fn new(pool: Option<Pool>, wiring: &Wiring) -> Self {
        Self { pool, coming: None, rows: wiring.input_rows() }
    }

    fn accepted(&mut self, bytes: &[u8]) {
        let accepted = Accepted::decode(bytes).unwrap_or_else(|| {
            panic!("shard_pack carried {} bytes that are no accepted transaction", bytes.len())
        });
        if let Some(pool) = &self.pool {
            pool.accepted(&accepted);
        }
    }

    fn subtree(&mut self, bytes: &[u8]) {
        let frag = SubtreeFrag::decode(bytes).unwrap_or_else(|| {
            panic!("pack_store carried {} bytes that are no subtree", bytes.len())
        });
        match frag {
            SubtreeFrag::Head { number, leaves, root, fees_sat, size_bytes, .. } => {
                let nodes = Vec::with_capacity(leaves as usize);
                let root = MerkleHash(root.0);
                let subtree =
                    Subtree { root, fees_sat, size_bytes, nodes, conflicting: Vec::new() };
                self.coming = Some(Coming { number, leaves: leaves as usize, subtree });
            }
            SubtreeFrag::Leaves { number, leaves } => {
                let Some(coming) = self.coming.as_mut().filter(|c| c.number == number) else {
                    return;
                };
                coming.subtree.nodes.extend(leaves.iter().map(|l| SubtreeNode {
                    txid: l.txid,
                    fee_sat: l.fee_sat,
                    size_bytes: l.size_bytes,
                }));
                if coming.subtree.nodes.len() == coming.leaves {
                    let whole = self.coming.take().map(|c| c.subtree);
                    if let (Some(pool), Some(subtree)) = (&self.pool, whole) {
                        pool.write_subtree(&subtree);
                    }
                }
            }
            SubtreeFrag::Dropped { number } => {
                self.coming.take_if(|c| c.number == number);
            }
        }
    }
}

impl Tile for StoreTile {
    const NAME: &'static str = "store";
    const BURST: u32 = 0;
    const FRAGS_PER_TURN: u32 = 256;

    fn frag(&mut self, input: In, frag: Frag<'_>, _outs: &mut Outs) {
        match self.rows[input.index()] {
            "pack_store" => self.subtree(frag.bytes),
            _ => self.accepted(frag.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(i: u32) -> TxId {
        TxId::of(&i.to_le_bytes())
    }

    fn bytes(i: u32) -> Vec<u8> {
        i.to_le_bytes().repeat(1 + i as usize % 700)
    }

    fn put(pool: &Pool, i: u32) {
        pool.lock().put(id(i), &bytes(i), u64::from(i));
    }

    #[test]
    fn bytes_come_back_from_the_buffer_and_from_the_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clock = NodeClock::new();
        clock.set_mock_s(Some(1_000));
        let pool = Pool::create(dir.path(), clock).expect("a new pool");
        pool.set_tip_height(9);
        (0..2_000).for_each(|i| put(&pool, i));
        assert!(pool.lock().segments[&0].written > 0, "some are in the file, some are not");
        for i in 0..2_000u32 {
            let got = pool.get(&id(i)).expect("readable").expect("there");
            assert_eq!((got.raw, got.fee_sat), (bytes(i), u64::from(i)));
            assert_eq!((got.time_s, got.height), (1_000, 9));
        }
        let mut together = Vec::new();
        let wanted: Vec<TxId> = (3..2_500).map(id).collect();
        assert_eq!(pool.append(&wanted, &mut together).expect("readable"), 1_997);
        assert_eq!(together, (3..2_000).flat_map(bytes).collect::<Vec<_>>());
        let (all, fees) = (pool.bytes(), pool.fees_sat());
        pool.mined(&[id(7)]);
        assert_eq!(pool.get(&id(7)).expect("readable"), None);
        assert_eq!((pool.len(), pool.fees_sat()), (1_999, fees - 7));
        assert_eq!(pool.bytes(), all - bytes(7).len() as u64);
    }

    #[test]
    fn a_transaction_mined_before_its_frag_was_read_does_not_appear() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pool = Pool::create(dir.path(), NodeClock::new()).expect("a new pool");
        pool.mined(&[id(1), id(2)]);
        put(&pool, 1);
        assert_eq!(pool.len(), 0);
        pool.unmined(&[id(2)]);
        put(&pool, 2);
        put(&pool, 1);
        assert_eq!(pool.len(), 2, "a later acceptance counts");
    }

    #[test]
    fn segments_go_with_their_last_transaction_and_a_new_pool_is_empty() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let pool = Pool::create(dir.path(), NodeClock::new()).expect("a new pool");
        let files = || std::fs::read_dir(dir.path().join("pool")).expect("a directory").count();
        (0..500).for_each(|i| put(&pool, i));
        pool.lock().flush();
        pool.lock().begin().expect("a second segment");
        (500..1_000).for_each(|i| put(&pool, i));
        assert_eq!(files(), 2);
        pool.mined(&(0..500).map(id).collect::<Vec<_>>());
        assert_eq!(files(), 1);
        assert_eq!(pool.get(&id(700)).expect("readable").expect("there").raw, bytes(700));
        pool.mined(&(500..1_000).map(id).collect::<Vec<_>>());
        put(&pool, 3_000);
        assert_eq!(pool.get(&id(3_000)).expect("readable").expect("there").raw, bytes(3_000));
        pool.lock().flush();
        let again = Pool::create(dir.path(), NodeClock::new()).expect("a new pool");
        assert!(again.is_empty() && again.dropped_bytes() > 0);
    }
}
