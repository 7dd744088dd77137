//! Where transactions are mined: sorted runs on disk, newest rows in memory.
//!
//! In: the transactions of every block that is connected. Out: the places a transaction id may be at; the caller looks at the
//! block, because rows hold eight bytes of the id and blocks that were disconnected keep theirs. Rows gather in memory until there
//! are [`ROWS_IN_MEMORY_MAX`], then become a run; two runs of about the same size become one, so there are few. A lookup is one
//! binary search a run. Memory is bounded whatever the length of the chain.
//!
//! The index is made anew from the blocks at every start: no file of it can be wrong about them.
//!
//! ```text
//! DIR/chain/index/N.run: rows of 32 bytes, sorted, numbers big endian
//! | id, first 8 bytes | header's place in the tree (4) | index in block (4) | byte in block (8) | bytes (8) |
//! ```

use super::tree::Id;
use consensus::hash::TxId;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use utxo_shard::journal::is_full;

/// Rows that are not in a run yet: 8 MiB of them.
const ROWS_IN_MEMORY_MAX: usize = 1 << 18;
const ROW: usize = 32;
/// Rows read at once when runs become one.
const MERGE_BUFFER_BYTES: usize = 1 << 18;

/// A transaction in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    key: u64,
    /// The block's.
    pub(crate) block: Id,
    /// Its place among the block's transactions.
    pub(crate) index: u32,
    /// Its first byte in the block.
    pub(crate) at: u64,
    /// Its bytes.
    pub(crate) len: u64,
}

fn key(txid: &TxId) -> u64 {
    u64::from_be_bytes(*txid.0.first_chunk().expect("an id has 32 bytes"))
}

impl Row {
    pub(crate) fn new(txid: &TxId, block: Id, index: u32, at: u64, len: u64) -> Self {
        Self { key: key(txid), block, index, at, len }
    }

    fn to_bytes(self) -> [u8; ROW] {
        let mut bytes = [0; ROW];
        bytes[..8].copy_from_slice(&self.key.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.block.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.index.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.at.to_be_bytes());
        bytes[24..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    fn from_bytes(b: &[u8; ROW]) -> Self {
        let long = |at: usize| u64::from_be_bytes(*b[at..].first_chunk().expect("in the row"));
        let short = |at: usize| u32::from_be_bytes(*b[at..].first_chunk().expect("in the row"));
        Self { key: long(0), block: short(8), index: short(12), at: long(16), len: long(24) }
    }
}

#[derive(Debug)]
struct Run {
    path: PathBuf,
    file: File,
    rows: u64,
}

impl Run {
    fn row(&self, at: u64) -> io::Result<Row> {
        let mut bytes = [0; ROW];
        self.file.read_exact_at(&mut bytes, at * ROW as u64)?;
        Ok(Row::from_bytes(&bytes))
    }

    /// Appends the rows of `key`.
    fn find(&self, key: u64, found: &mut Vec<Row>) -> io::Result<()> {
        let (mut from, mut to) = (0, self.rows);
        while from < to {
            let middle = from + (to - from) / 2;
            if self.row(middle)?.key < key { from = middle + 1 } else { to = middle }
        }
        while from < self.rows {
            let row = self.row(from)?;
            if row.key != key {
                break;
            }
            found.push(row);
            from += 1;
        }
        Ok(())
    }

    fn rows(&self) -> io::Result<Rows> {
        let file = File::open(&self.path)?;
        Ok(Rows(BufReader::with_capacity(MERGE_BUFFER_BYTES, file)))
    }
}

/// The rows of a run in order.
struct Rows(BufReader<File>);

impl Rows {
    fn next_row(&mut self) -> io::Result<Option<Row>> {
        let mut bytes = [0; ROW];
        match self.0.read_exact(&mut bytes) {
            Ok(()) => Ok(Some(Row::from_bytes(&bytes))),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The index.
#[derive(Debug)]
pub(crate) struct TxIndex {
    directory: PathBuf,
    fresh: BTreeSet<Row>,
    /// Oldest and longest first.
    runs: Vec<Run>,
    next_run: u64,
    fresh_max: usize,
    /// Rows in memory at which a run is written.
    spill_at: usize,
}

impl TxIndex {
    /// An empty index in `DIR/chain/index`; what was there is removed.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        let directory = directory.join("chain").join("index");
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        std::fs::create_dir_all(&directory)?;
        let (fresh, runs) = (BTreeSet::new(), Vec::new());
        let fresh_max = ROWS_IN_MEMORY_MAX;
        Ok(Self { directory, fresh, runs, next_run: 0, fresh_max, spill_at: fresh_max })
    }

    /// Adds the rows of one block.
    pub(crate) fn add(&mut self, rows: impl IntoIterator<Item = Row>) -> io::Result<()> {
        for row in rows {
            self.fresh.insert(row);
            if self.fresh.len() >= self.spill_at {
                let spilled = self.spill();
                self.spill_at = self.fresh.len() + self.fresh_max;
                match spilled {
                    // They wait in memory.
                    Err(error) if is_full(&error) => {
                        tracing::warn!("the index of transactions finds no room: {error}");
                    }
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// All places `txid` may be at, in no order.
    pub(crate) fn find(&self, txid: &TxId) -> io::Result<Vec<Row>> {
        let key = key(txid);
        let first = Row { key, block: 0, index: 0, at: 0, len: 0 };
        let mut found: Vec<Row> =
            self.fresh.range(first..).take_while(|row| row.key == key).copied().collect();
        for run in &self.runs {
            run.find(key, &mut found)?;
        }
        Ok(found)
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut rows = self.fresh.iter();
        let run = write_run(&self.directory, self.next_run, || Ok(rows.next().copied()))?;
        self.next_run += 1;
        self.fresh.clear();
        self.runs.push(run);
        while let [.., before, last] = self.runs.as_slice()
            && before.rows < last.rows * 2
        {
            let merged = self.merge(before, last, self.next_run)?;
            self.next_run += 1;
            for old in self.runs.drain(self.runs.len() - 2..) {
                std::fs::remove_file(old.path)?;
            }
            self.runs.push(merged);
        }
        Ok(())
    }

    fn merge(&self, a: &Run, b: &Run, number: u64) -> io::Result<Run> {
        let (mut a, mut b) = (a.rows()?, b.rows()?);
        let (mut from_a, mut from_b) = (a.next_row()?, b.next_row()?);
        write_run(&self.directory, number, || match (from_a, from_b) {
            (Some(x), y) if y.is_none_or(|y| x <= y) => {
                from_a = a.next_row()?;
                Ok(Some(x))
            }
            (_, Some(y)) => {
                from_b = b.next_row()?;
                Ok(Some(y))
            }
            _ => Ok(None),
        })
    }
}

fn write_run(
    directory: &Path,
    number: u64,
    mut next: impl FnMut() -> io::Result<Option<Row>>,
) -> io::Result<Run> {
    let path = directory.join(format!("{number}.run"));
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
    let mut out = BufWriter::with_capacity(MERGE_BUFFER_BYTES, &file);
    let mut rows = 0;
    while let Some(row) = next()? {
        out.write_all(&row.to_bytes())?;
        rows += 1;
    }
    out.flush()?;
    drop(out);
    Ok(Run { path, file, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_again_in_memory_and_in_merged_runs() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut index = TxIndex::create(dir.path()).expect("a new index");
        (index.fresh_max, index.spill_at) = (16, 16);
        let id = |i: u32| TxId::of(&i.to_le_bytes());
        let row = |i: u32| Row::new(&id(i), i / 7, i % 7, u64::from(i) * 100, 60);
        index.add((0..1_000).map(row)).expect("writable");
        assert!(index.runs.len() > 1 && index.runs.len() < 8, "{} runs", index.runs.len());
        assert!(!index.fresh.is_empty());
        for i in 0..1_000 {
            assert_eq!(index.find(&id(i)).expect("readable"), [row(i)]);
        }
        assert_eq!(index.find(&id(1_000)).expect("readable"), []);
        index.add([Row::new(&id(5), 999, 0, 0, 60)]).expect("writable");
        assert_eq!(index.find(&id(5)).expect("readable").len(), 2, "one id in two blocks");
        let files = std::fs::read_dir(dir.path().join("chain/index")).expect("a directory");
        assert_eq!(files.count(), index.runs.len());
    }
}
