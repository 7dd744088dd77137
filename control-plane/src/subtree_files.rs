//! Files of released subtrees, `ROOT.subtree` in Teranode's format, the newest of them.
//!
//! In: a subtree as pack released it. Out: its file. What all of them take together is bounded: the oldest go first, since the
//! transactions of a block can be read from the block itself. An earlier run's files are taken over, oldest first.

use consensus::teranode::Subtree;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// What all files may take together; one of a million leaves takes 48 MB.
pub const SUBTREES_BYTES_MAX: u64 = 4 << 30;
/// Files there may be: those of a quiet network are small.
const SUBTREES_MAX: usize = 1 << 16;

/// The folder; see the module.
#[derive(Debug)]
pub struct SubtreeFiles {
    directory: PathBuf,
    /// Files and their sizes, oldest first.
    kept: VecDeque<(PathBuf, u64)>,
    bytes: u64,
    bytes_max: u64,
}

impl SubtreeFiles {
    /// Opens the folder, or makes it.
    pub fn open(directory: &Path, bytes_max: u64) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if entry.path().extension().is_some_and(|ext| ext == "subtree") {
                found.push((meta.modified()?, entry.path(), meta.len()));
            }
        }
        found.sort();
        let kept: VecDeque<_> = found.into_iter().map(|(_, path, len)| (path, len)).collect();
        let bytes = kept.iter().map(|(_, len)| len).sum();
        let mut files = Self { directory: directory.to_owned(), kept, bytes, bytes_max };
        files.make_room(0)?;
        Ok(files)
    }

    /// Writes a subtree; the oldest files make room for it.
    pub fn write(&mut self, subtree: &Subtree) -> io::Result<()> {
        let mut bytes = Vec::new();
        subtree.write(&mut bytes);
        let path = self.directory.join(format!("{}.subtree", subtree.root));
        if path.exists() {
            return Ok(());
        }
        self.make_room(bytes.len() as u64)?;
        std::fs::write(&path, &bytes)?;
        self.bytes += bytes.len() as u64;
        self.kept.push_back((path, bytes.len() as u64));
        Ok(())
    }

    fn make_room(&mut self, wanted: u64) -> io::Result<()> {
        while (self.bytes + wanted > self.bytes_max || self.kept.len() >= SUBTREES_MAX)
            && let Some((path, len)) = self.kept.pop_front()
        {
            self.bytes -= len;
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consensus::hash::{MerkleHash, TxId};
    use consensus::teranode::SubtreeNode;

    fn subtree(n: u8) -> Subtree {
        let node = SubtreeNode { txid: TxId([n; 32]), fee_sat: 1, size_bytes: 100 };
        Subtree {
            root: MerkleHash([n; 32]),
            fees_sat: 1,
            size_bytes: 100,
            nodes: vec![node],
            conflicting: Vec::new(),
        }
    }

    fn names(directory: &Path) -> usize {
        std::fs::read_dir(directory).expect("it is there").count()
    }

    #[test]
    fn the_oldest_subtrees_make_room_for_new_ones_and_a_restart_goes_on_with_what_is_there() {
        let directory = tempfile::tempdir().expect("a folder");
        let mut one = Vec::new();
        subtree(1).write(&mut one);
        let room = one.len() as u64 * 3;
        let mut files = SubtreeFiles::open(directory.path(), room).expect("a new folder");
        for n in 1..=5 {
            files.write(&subtree(n)).expect("it is written");
            files.write(&subtree(n)).expect("once is enough");
            assert_eq!(names(directory.path()), usize::from(n).min(3));
        }
        let path = |n| directory.path().join(format!("{}.subtree", subtree(n).root));
        assert!(!path(2).exists() && path(3).exists());
        let mut files = SubtreeFiles::open(directory.path(), room).expect("its own files");
        files.write(&subtree(6)).expect("it is written");
        assert_eq!(names(directory.path()), 3);
        assert!(path(6).exists());
        SubtreeFiles::open(directory.path(), 0).expect("less room");
        assert_eq!(names(directory.path()), 0);
    }
}
