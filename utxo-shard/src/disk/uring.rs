//! Files over io_uring: writes, reads and syncs that the kernel does on its own threads, two system calls or fewer a commit.
//!
//! Operations on open files go to the ring, each marked to be done aside (`IOSQE_ASYNC`), because a buffered write or a sync would
//! otherwise be done on the core that submits it. What is rare (create, open, rename, remove, cut) goes to a thread with plain
//! files. An operation lies in its slot, bytes and file included, until the kernel has answered; dropping the handle waits for that.
//!
//! The `unsafe` here is the submission: the kernel is given the address of bytes that the slot owns.

use super::plain::list;
use super::{Disk, Done, FileId, Finished, OPS_MAX, Op, Plain};
use io_uring::{IoUring, opcode, squeue, types};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An operation under way, with the file it keeps open.
#[derive(Debug)]
struct Slot {
    op: Op,
    _file: Arc<File>,
}

/// See the module.
pub struct Uring {
    folder: PathBuf,
    ring: IoUring,
    open: HashMap<FileId, Arc<File>>,
    slots: Vec<Option<Slot>>,
    on_ring: usize,
    finished: Finished,
    rare: Plain,
    rare_under_way: usize,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("folder", &self.folder)
            .field("on_ring", &self.on_ring)
            .finish_non_exhaustive()
    }
}

impl Uring {
    /// A handle to a folder; an error where io_uring is not permitted or lacks what is needed.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let ring = IoUring::new(OPS_MAX as u32)?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Write::CODE, opcode::Read::CODE, opcode::Fsync::CODE];
        if !needed.iter().all(|&code| probe.is_supported(code)) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel's io_uring has no write, read or fsync",
            ));
        }
        Ok(Self {
            folder: folder.to_owned(),
            ring,
            open: HashMap::with_capacity(OPS_MAX),
            slots: (0..OPS_MAX).map(|_| None).collect(),
            on_ring: 0,
            finished: Finished::with_capacity(2 * OPS_MAX),
            rare: Plain::open(folder)?,
            rare_under_way: 0,
        })
    }

    fn under_way(&self) -> usize {
        self.on_ring + self.rare_under_way + self.finished.len()
    }

    /// An operation on an open file.
    fn submit_to_ring(&mut self, file: FileId, mut op: Op) {
        let Some(open) = self.open.get(&file).cloned() else {
            let closed = io::Error::new(io::ErrorKind::NotFound, "no file of this number is open");
            self.finished.push_back(Done { op, result: Err(closed) });
            return;
        };
        let slot = self.slots.iter().position(Option::is_none).expect("fewer than OPS_MAX");
        let fd = types::Fd(open.as_raw_fd());
        let entry = match &mut op {
            Op::Write { at, bytes, from, .. } => {
                let bytes = &bytes[*from..];
                opcode::Write::new(fd, bytes.as_ptr(), bytes.len() as u32).offset(*at).build()
            }
            Op::Read { at, bytes, .. } => {
                opcode::Read::new(fd, bytes.as_mut_ptr(), bytes.len() as u32).offset(*at).build()
            }
            _ => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        };
        let entry = entry.flags(squeue::Flags::ASYNC).user_data(slot as u64);
        self.slots[slot] = Some(Slot { op, _file: open });
        // SAFETY: the entry names bytes on the heap that belong to the operation in `slots[slot]`, and a file that the slot keeps
        // open; neither is touched, moved or freed until the completion with this slot's number was read (`reap`, `drop`).
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the ring has as many places as there are slots");
        self.on_ring += 1;
        // Where the kernel is short of memory the next call submits it.
        let _ = self.ring.submit();
    }

    fn reap(&mut self) {
        let mut completions = self.ring.completion();
        for entry in &mut completions {
            let slot = self.slots[entry.user_data() as usize].take().expect("a slot in use");
            self.on_ring -= 1;
            let result = match entry.result() {
                n if n >= 0 => Ok(n as usize),
                error => Err(io::Error::from_raw_os_error(-error)),
            };
            self.finished.push_back(Done { op: slot.op, result });
        }
    }

    fn reap_rare(&mut self) {
        while let Some(done) = self.rare.poll() {
            self.rare_under_way -= 1;
            self.finished.push_back(done);
        }
    }

    /// The file that the thread has created or opened, for the ring.
    fn adopt(&mut self, done: &mut Done) {
        let (Op::Create { file, path, .. } | Op::Open { file, path }) = &done.op else { return };
        if done.result.is_ok() {
            let there = File::options().read(true).write(true).open(self.folder.join(path));
            match there {
                Ok(open) => drop(self.open.insert(*file, Arc::new(open))),
                Err(error) => done.result = Err(error),
            }
        }
    }
}

impl Disk for Uring {
    fn submit(&mut self, op: Op) -> Result<(), Op> {
        if self.under_way() >= OPS_MAX {
            return Err(op);
        }
        match op {
            Op::Write { file, .. } | Op::Read { file, .. } | Op::Sync { file } => {
                self.submit_to_ring(file, op);
            }
            rare => {
                if let Op::Close { file } = &rare {
                    self.open.remove(file);
                }
                self.rare.submit(rare)?;
                self.rare_under_way += 1;
            }
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Done> {
        if self.finished.is_empty() {
            self.reap();
            if self.rare_under_way > 0 {
                self.reap_rare();
            }
        }
        let mut done = self.finished.pop_front()?;
        self.adopt(&mut done);
        Some(done)
    }

    fn wait(&mut self) {
        if !self.finished.is_empty() {
            return;
        }
        if self.rare_under_way > 0 {
            self.rare.wait();
        } else if self.on_ring > 0 {
            // Interrupted or not, what is done is found by the next poll.
            let _ = self.ring.submit_and_wait(1);
        }
    }

    fn list(&mut self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        list(&self.folder.join(folder))
    }

    fn another(&self) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(Self::open(&self.folder)?))
    }

    fn kind(&self) -> &'static str {
        "io_uring"
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        while self.on_ring > 0 {
            let waited = self.ring.submit_and_wait(1);
            self.reap();
            if waited.is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
                break;
            }
        }
        // Whatever the kernel may still write to is never given back.
        for slot in self.slots.iter_mut().filter_map(Option::take) {
            std::mem::forget(slot);
        }
    }
}
