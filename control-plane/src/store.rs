//! The tile `store`: keeps the bytes of every accepted transaction until a block has them, and writes released subtrees.
//!
//! In: `shard_pack`, as its second consumer, and `pack_store`. Out: nothing; [`Store::get`] answers the control plane by
//! transaction id. Bytes go to one append-only file of the data directory, the index stays in memory (44 bytes a transaction)
//! and is emptied as blocks are written; every released subtree becomes a file `subtrees/ROOT.subtree` in Teranode's format. It
//! turns on an unpinned thread: it may allocate, and the disk may make it wait. Without a [`Store`] it reads and drops.

use consensus::hash::MerkleHash;
use consensus::hash::TxId;
use consensus::teranode::{Subtree, SubtreeNode};
use dataplane::msg::pack_store::SubtreeFrag;
use dataplane::msg::{Accepted, AcceptedKind};
use dataplane::tile::{Frag, In, Outs, Tile};
use dataplane::topo::Wiring;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Inner {
    file: File,
    buffer: Vec<u8>,
    written: u64,
    index: HashMap<TxId, (u64, u32)>,
    failure: Option<io::Error>,
    subtrees: PathBuf,
}

impl Inner {
    fn put(&mut self, txid: TxId, tx: &[u8]) {
        let at = self.written + self.buffer.len() as u64;
        self.buffer.extend_from_slice(tx);
        self.index.insert(txid, (at, tx.len() as u32));
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        match self.file.write_all(&self.buffer) {
            Ok(()) => {
                self.written += self.buffer.len() as u64;
                self.buffer.clear();
            }
            // Kept in memory and tried again; whoever asks next is told.
            Err(error) => self.failure = Some(error),
        }
    }
}

/// The store as the control plane sees it.
#[derive(Clone, Debug)]
pub struct Store(Arc<Mutex<Inner>>);

impl Store {
    /// Creates `accepted.tx` and `subtrees/` in `directory`.
    pub fn create(directory: &Path) -> io::Result<Self> {
        let path = directory.join("accepted.tx");
        let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
        let subtrees = directory.join("subtrees");
        std::fs::create_dir_all(&subtrees)?;
        let (buffer, index) = (Vec::with_capacity(BUFFER_BYTES * 2), HashMap::new());
        let inner = Inner { file, buffer, written: 0, index, failure: None, subtrees };
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// The transaction, raw format; `None` if it was not accepted or is forgotten.
    pub fn get(&self, txid: &TxId) -> io::Result<Option<Vec<u8>>> {
        let mut inner = self.lock();
        if let Some(failure) = inner.failure.take() {
            return Err(failure);
        }
        let Some(&(at, len)) = inner.index.get(txid) else { return Ok(None) };
        let mut tx = vec![0; len as usize];
        match at.checked_sub(inner.written) {
            Some(at) => tx.copy_from_slice(&inner.buffer[at as usize..][..len as usize]),
            None => inner.file.read_exact_at(&mut tx, at)?,
        }
        Ok(Some(tx))
    }

    /// Transactions held.
    pub fn len(&self) -> usize {
        self.lock().index.len()
    }

    /// True without transactions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the index entry of a transaction that a block file holds.
    pub fn forget(&self, txid: &TxId) {
        self.lock().index.remove(txid);
    }

    fn write_subtree(&self, subtree: &Subtree) {
        let mut bytes = Vec::new();
        subtree.write(&mut bytes);
        let mut inner = self.lock();
        let path = inner.subtrees.join(format!("{}.subtree", subtree.root));
        if let Err(error) = std::fs::write(path, bytes) {
            inner.failure = Some(error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock panics")
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
    store: Option<Store>,
    coming: Option<Coming>,
    rows: Vec<&'static str>,
}

impl StoreTile {
    /// Fills `store`, if there is one.
    pub fn new(store: Option<Store>, wiring: &Wiring) -> Self {
        Self { store, coming: None, rows: wiring.input_rows() }
    }

    fn accepted(&mut self, bytes: &[u8]) {
        let accepted = Accepted::decode(bytes).unwrap_or_else(|| {
            panic!("shard_pack carried {} bytes that are no accepted transaction", bytes.len())
        });
        let Some(store) = &self.store else { return };
        match accepted.kind {
            AcceptedKind::Pool | AcceptedKind::Block => {
                store.lock().put(accepted.txid, accepted.tx);
            }
            AcceptedKind::Evicted => store.forget(&accepted.txid),
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
                    if let (Some(store), Some(subtree)) = (&self.store, whole) {
                        store.write_subtree(&subtree);
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

    #[test]
    fn bytes_come_back_from_the_buffer_and_from_the_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Store::create(dir.path()).expect("a new store");
        let tx = |i: u32| i.to_le_bytes().repeat(1 + i as usize % 700);
        for i in 0..2_000u32 {
            store.lock().put(TxId::of(&i.to_le_bytes()), &tx(i));
        }
        assert!(store.lock().written > 0, "some are in the file, some are not");
        for i in 0..2_000u32 {
            let got = store.get(&TxId::of(&i.to_le_bytes())).expect("readable");
            assert_eq!(got, Some(tx(i)));
        }
        store.forget(&TxId::of(&7u32.to_le_bytes()));
        assert_eq!(store.get(&TxId::of(&7u32.to_le_bytes())).expect("readable"), None);
        assert_eq!(store.len(), 1_999);
    }
}
