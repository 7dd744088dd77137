//! Plain files, on a thread of their own: what is used where io_uring is not permitted.
//!
//! Operations go to the thread through a bounded channel, are done one after the other, and come back through another one. The same
//! steps ([`Files`]) serve the disk over io_uring for everything that is rare.

use super::{Disk, Done, FileId, Finished, OPS_MAX, Op};
use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// A folder and the files of it that are open.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    open: HashMap<FileId, Arc<File>>,
}

impl Files {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: HashMap::with_capacity(OPS_MAX) }
    }

    pub fn file(&self, file: FileId) -> io::Result<&Arc<File>> {
        let closed = || io::Error::new(io::ErrorKind::NotFound, "no file of this number is open");
        self.open.get(&file).ok_or_else(closed)
    }

    /// Does one operation.
    pub fn act(&mut self, op: &mut Op) -> io::Result<usize> {
        match op {
            Op::Create { file, path, room_bytes } => {
                let path = self.folder.join(path);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let made = File::options()
                    .create_new(true)
                    .read(true)
                    .write(true)
                    .mode(0o600)
                    .open(path)?;
                if *room_bytes > 0 {
                    set_aside(&made, *room_bytes)?;
                }
                self.open.insert(*file, Arc::new(made));
            }
            Op::Open { file, path } => {
                let there = File::options().read(true).write(true).open(self.folder.join(path))?;
                self.open.insert(*file, Arc::new(there));
            }
            Op::Close { file } => {
                self.open.remove(file);
            }
            Op::Write { file, at, bytes, from } => {
                return self.file(*file)?.write_at(&bytes[*from..], *at);
            }
            Op::Read { file, at, bytes } => return self.file(*file)?.read_at(bytes, *at),
            Op::Sync { file } => self.file(*file)?.sync_data()?,
            Op::Truncate { path, len } => {
                let file = File::options().write(true).open(self.folder.join(path))?;
                file.set_len(*len)?;
                file.sync_all()?;
            }
            Op::Rename { from, to } => {
                std::fs::rename(self.folder.join(from), self.folder.join(to))?;
            }
            Op::Remove { path } => std::fs::remove_file(self.folder.join(path))?,
            Op::SyncDir { path } => {
                let folder = self.folder.join(path);
                if !folder.exists() {
                    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
                    File::open(&self.folder)?.sync_all()?;
                }
                File::open(folder)?.sync_all()?;
            }
        }
        Ok(0)
    }
}

/// Room on the disk for a file's first bytes, where the file system can do that; the file is that long from then on.
fn set_aside(file: &File, bytes: u64) -> io::Result<()> {
    let flags = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, flags, 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
        Err(error) => Err(error.into()),
    }
}

/// What is in a folder.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(String, u64)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file() {
            found.push((entry.file_name().to_string_lossy().into_owned(), meta.len()));
        }
    }
    found.sort();
    Ok(found)
}

/// See the module.
#[derive(Debug)]
pub struct Plain {
    folder: PathBuf,
    to: Option<SyncSender<Op>>,
    from: Receiver<Done>,
    finished: Finished,
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Plain {
    /// A handle to a folder; starts its thread.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (to, ops) = sync_channel::<Op>(OPS_MAX);
        let (back, from) = sync_channel::<Done>(OPS_MAX);
        let mut files = Files::new(folder);
        let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
            for mut op in ops {
                let result = files.act(&mut op);
                if back.send(Done { op, result }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            to: Some(to),
            from,
            finished: Finished::with_capacity(OPS_MAX),
            under_way: 0,
            thread: Some(thread),
        })
    }
}

impl Disk for Plain {
    fn submit(&mut self, op: Op) -> Result<(), Op> {
        if self.under_way == OPS_MAX {
            return Err(op);
        }
        let to = self.to.as_ref().expect("open until it is dropped");
        to.send(op).expect("the thread of a disk lives as long as its handle");
        self.under_way += 1;
        Ok(())
    }

    fn poll(&mut self) -> Option<Done> {
        let done = self.finished.pop_front().or_else(|| self.from.try_recv().ok())?;
        self.under_way -= 1;
        Some(done)
    }

    fn wait(&mut self) {
        if self.under_way > 0
            && self.finished.is_empty()
            && let Ok(done) = self.from.recv()
        {
            self.finished.push_back(done);
        }
    }

    fn list(&mut self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        list(&self.folder.join(folder))
    }

    fn another(&self) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(Self::open(&self.folder)?))
    }

    fn kind(&self) -> &'static str {
        "plain files"
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.to = None;
        if let Some(thread) = self.thread.take() {
            // What it was given is done first; a panic of it has been printed.
            while self.from.recv().is_ok() {}
            let _ = thread.join();
        }
    }
}
