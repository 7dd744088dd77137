//! Files that are only looked at: every operation that would change something is refused.
//!
//! For tools that read a data directory and must leave it as it is. Operations are done at once, in the order they come. Files can
//! be *held*: opened before, and read from then on whatever becomes of their names, which is how a checkpoint of a running node is
//! read while the node goes on.

use super::plain::list;
use super::{Disk, Done, FileId, Finished, OPS_MAX, Op};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Look {
    folder: PathBuf,
    held: HashMap<PathBuf, Arc<File>>,
    open: HashMap<FileId, Arc<File>>,
    finished: Finished,
}

impl Look {
    /// A handle to a folder; nothing is opened yet.
    pub fn new(folder: &Path) -> Self {
        let (held, open) = (HashMap::new(), HashMap::new());
        Self { folder: folder.to_owned(), held, open, finished: Finished::new() }
    }

    /// Opens a file now, for whoever opens it by its name later.
    pub fn hold(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(self.folder.join(path))?;
        self.held.insert(path.to_owned(), Arc::new(file));
        Ok(())
    }

    fn act(&mut self, op: &mut Op) -> io::Result<usize> {
        match op {
            Op::Open { file, path } => {
                let there = match self.held.get(path) {
                    Some(held) => Arc::clone(held),
                    None => Arc::new(File::open(self.folder.join(path))?),
                };
                self.open.insert(*file, there);
                Ok(0)
            }
            Op::Close { file } => {
                self.open.remove(file);
                Ok(0)
            }
            Op::Read { file, at, bytes } => match self.open.get(file) {
                Some(file) => file.read_at(bytes, *at),
                None => Err(io::ErrorKind::NotFound.into()),
            },
            _ => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }
}

impl Disk for Look {
    fn submit(&mut self, mut op: Op) -> Result<(), Op> {
        if self.finished.len() == OPS_MAX {
            return Err(op);
        }
        let result = self.act(&mut op);
        self.finished.push_back(Done { op, result });
        Ok(())
    }

    fn poll(&mut self) -> Option<Done> {
        self.finished.pop_front()
    }

    fn wait(&mut self) {}

    fn list(&mut self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        list(&self.folder.join(folder))
    }

    fn another(&self) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(Self { held: self.held.clone(), ..Self::new(&self.folder) }))
    }

    fn kind(&self) -> &'static str {
        "plain files, only read"
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read_at, read_file, run};
    use super::*;

    #[test]
    fn what_is_held_is_read_whatever_becomes_of_its_name_and_nothing_is_ever_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), b"one").expect("writable");
        let mut look = Look::new(folder.path());
        look.hold(Path::new("a")).expect("it is there");
        std::fs::remove_file(at("a")).expect("removable");
        std::fs::write(at("a"), b"two").expect("writable");
        let mut other = look.another().expect("another handle");
        for disk in [&mut look as &mut dyn Disk, &mut *other] {
            let held = read_file(disk, Path::new("a"), 100).expect("readable");
            assert_eq!(held.as_deref(), Some(&b"one"[..]));
        }
        let fresh = read_file(&mut Look::new(folder.path()), Path::new("a"), 100);
        assert_eq!(fresh.expect("readable").as_deref(), Some(&b"two"[..]));
        let file = FileId(1);
        run(&mut look, Op::Open { file, path: "a".into() }).expect("opened");
        for op in [
            Op::Create { file: FileId(2), path: "b".into(), room_bytes: 0 },
            Op::Write { file, at: 0, bytes: vec![1], from: 0 },
            Op::Truncate { path: "a".into(), len: 0 },
            Op::Rename { from: "a".into(), to: "b".into() },
            Op::Remove { path: "a".into() },
            Op::SyncDir { path: "new".into() },
        ] {
            let what = op.what();
            let error = run(&mut look, op).expect_err(what);
            assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem, "{what}");
        }
        assert_eq!(read_at(&mut look, file, 1, vec![0; 9]).expect("readable"), b"ne");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listable").count(), 1);
    }
}
