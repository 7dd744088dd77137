//! Disks: how a shard's files are written without waiting for them.
//!
//! In go operations ([`Op`]), which own their bytes; out come the same operations with what became of them ([`Done`]), in any order.
//! Nothing here blocks but [`Disk::wait`], which those call that have nothing else to do (recovery, tools). Who needs an order
//! waits for one operation before submitting the next.
//!
//! Three disks: io_uring ([`Uring`]); plain files on a thread of their own ([`Plain`]) where io_uring is not permitted; and one in
//! memory that fails in every way a disk can ([`FaultDisk`]), for tests and the simulator. [`open`] takes the first that works, and
//! says why it is not io_uring. [`Look`] is for tools that change nothing.

mod fault;
mod look;
mod plain;
#[cfg(target_os = "linux")]
#[allow(unsafe_code)] // the kernel reads and writes the bytes of operations under way
mod uring;

pub use fault::{FaultDisk, Faults, SECTOR_BYTES};
pub use look::Look;
pub use plain::Plain;
#[cfg(target_os = "linux")]
pub use uring::Uring;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Operations that may be under way at one handle.
pub const OPS_MAX: usize = 64;

/// A file, by the number its opener chose; a handle's numbers are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// One operation. Paths are below the handle's folder.
#[derive(Debug)]
pub enum Op {
    /// Opens a file, made anew and empty, with room set aside; what is set aside reads as zeros. Whoever has the file open that had
    /// its name keeps that one.
    Create {
        /// Its number from now on.
        file: FileId,
        /// Where.
        path: PathBuf,
        /// Bytes set aside.
        room_bytes: u64,
    },
    /// Opens a file that is there.
    Open {
        /// Its number from now on.
        file: FileId,
        /// Where.
        path: PathBuf,
    },
    /// Gives up a number.
    Close {
        /// Which.
        file: FileId,
    },
    /// Writes `bytes[from..]`. May write less.
    Write {
        /// To which file.
        file: FileId,
        /// Where in the file `bytes[from]` goes.
        at: u64,
        /// Owned until it comes back.
        bytes: Vec<u8>,
        /// First byte to write.
        from: usize,
    },
    /// Fills `bytes`. May read less, and reads nothing behind the end.
    Read {
        /// From which file.
        file: FileId,
        /// Where.
        at: u64,
        /// As long as what is wanted.
        bytes: Vec<u8>,
    },
    /// What was written to a file before this was submitted is on the disk when it comes back.
    Sync {
        /// Which.
        file: FileId,
    },
    /// Cuts a file (open or not) and syncs it.
    Truncate {
        /// Which.
        path: PathBuf,
        /// Bytes that stay.
        len: u64,
    },
    /// Gives a file another name, in place of what had it.
    Rename {
        /// Which.
        from: PathBuf,
        /// The name.
        to: PathBuf,
    },
    /// Takes a file away.
    Remove {
        /// Which.
        path: PathBuf,
    },
    /// Names made, changed and taken away in a folder are on the disk when it comes back. The folder is made if it is not there.
    SyncDir {
        /// Which; empty for the handle's own.
        path: PathBuf,
    },
}

impl Op {
    /// What is tried, for messages.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Create { .. } => "creating",
            Self::Open { .. } => "opening",
            Self::Close { .. } => "closing",
            Self::Write { .. } => "writing",
            Self::Read { .. } => "reading",
            Self::Sync { .. } => "syncing",
            Self::Truncate { .. } => "cutting",
            Self::Rename { .. } => "renaming",
            Self::Remove { .. } => "removing",
            Self::SyncDir { .. } => "syncing the folder",
        }
    }
}

/// What became of an operation.
#[derive(Debug)]
pub struct Done {
    /// The operation, with its bytes.
    pub op: Op,
    /// Bytes read or written, else 0.
    pub result: io::Result<usize>,
}

/// One handle to a folder's files. See the module.
pub trait Disk: Send + std::fmt::Debug {
    /// Hands an operation over; gives it back where [`OPS_MAX`] are under way.
    fn submit(&mut self, op: Op) -> Result<(), Op>;

    /// An operation that is done.
    fn poll(&mut self) -> Option<Done>;

    /// Blocks until something is done, if anything is under way.
    fn wait(&mut self);

    /// Names and bytes of the files in a folder, sorted; none where there is no such folder. Blocks.
    fn list(&mut self, folder: &Path) -> io::Result<Vec<(String, u64)>>;

    /// Another handle to the same folder.
    fn another(&self) -> io::Result<Box<dyn Disk>>;

    /// Its kind, for reports.
    fn kind(&self) -> &'static str;
}

/// One operation to its end; for callers without anything else under way at this handle.
pub fn run(disk: &mut dyn Disk, op: Op) -> io::Result<Op> {
    run_for(disk, op).map(|(op, _)| op)
}

fn run_for(disk: &mut dyn Disk, op: Op) -> io::Result<(Op, usize)> {
    let given = disk.submit(op);
    assert!(given.is_ok(), "nothing else is under way at this handle");
    loop {
        if let Some(Done { op, result }) = disk.poll() {
            return result.map(|n| (op, n));
        }
        disk.wait();
    }
}

/// Writes all of `bytes` at `at`.
pub fn write_all(
    disk: &mut dyn Disk,
    file: FileId,
    at: u64,
    bytes: Vec<u8>,
) -> io::Result<Vec<u8>> {
    let mut op = Op::Write { file, at, bytes, from: 0 };
    loop {
        let (done, n) = run_for(disk, op)?;
        let Op::Write { file, at, bytes, from } = done else { unreachable!("a write comes back") };
        if from + n == bytes.len() {
            return Ok(bytes);
        }
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        op = Op::Write { file, at: at + n as u64, bytes, from: from + n };
    }
}

/// Reads up to `bytes.len()` bytes at `at`; fewer only at the end of the file.
pub fn read_at(
    disk: &mut dyn Disk,
    file: FileId,
    at: u64,
    mut bytes: Vec<u8>,
) -> io::Result<Vec<u8>> {
    let wanted = bytes.len();
    let (op, n) = run_for(disk, Op::Read { file, at, bytes })?;
    let Op::Read { bytes: got, .. } = op else { unreachable!("a read comes back") };
    bytes = got;
    bytes.truncate(n);
    while bytes.len() < wanted {
        let rest = vec![0; wanted - bytes.len()];
        let (op, n) = run_for(disk, Op::Read { file, at: at + bytes.len() as u64, bytes: rest })?;
        let Op::Read { bytes: more, .. } = op else { unreachable!("a read comes back") };
        if n == 0 {
            break;
        }
        bytes.extend_from_slice(&more[..n]);
    }
    Ok(bytes)
}

/// A whole small file; `None` if it is not there.
pub fn read_file(
    disk: &mut dyn Disk,
    path: &Path,
    bytes_max: usize,
) -> io::Result<Option<Vec<u8>>> {
    let file = FileId(u32::MAX);
    match run(disk, Op::Open { file, path: path.to_owned() }) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let read = read_at(disk, file, 0, vec![0; bytes_max]);
    run(disk, Op::Close { file })?;
    read.map(Some)
}

/// Puts a whole small file in place of what had its name: written beside it, synced, renamed, and the folder synced.
pub fn replace_file(disk: &mut dyn Disk, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
    let file = FileId(u32::MAX);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    run(disk, Op::Create { file, path: new.clone(), room_bytes: 0 })?;
    write_all(disk, file, 0, bytes)?;
    run(disk, Op::Sync { file })?;
    run(disk, Op::Close { file })?;
    run(disk, Op::Rename { from: new, to: path.to_owned() })?;
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    run(disk, Op::SyncDir { path: folder }).map(drop)
}

/// A handle to a folder on this machine, and why it is not io_uring if it is not.
pub fn open(folder: &Path) -> io::Result<(Box<dyn Disk>, Option<String>)> {
    #[cfg(target_os = "linux")]
    let why = match Uring::open(folder) {
        Ok(disk) => return Ok((Box::new(disk), None)),
        Err(error) => format!(
            "io_uring is not permitted here ({error}; likely the container's seccomp profile, or \
             kernel.io_uring_disabled); using plain files, at the cost of a thread and two more \
             system calls a commit"
        ),
    };
    #[cfg(not(target_os = "linux"))]
    let why = "this system has no io_uring; using plain files".to_owned();
    Ok((Box::new(Plain::open(folder)?), Some(why)))
}

/// Operations that are done, for disks that finish them by themselves.
type Finished = VecDeque<Done>;

#[cfg(test)]
mod tests {
    use super::*;

    fn story(disk: &mut dyn Disk) {
        let file = FileId(7);
        let path = PathBuf::from("shard-0/a");
        run(disk, Op::SyncDir { path: "shard-0".into() }).expect("the folder is made");
        run(disk, Op::Create { file, path: path.clone(), room_bytes: 8192 }).expect("room");
        let bytes: Vec<u8> = (0..5000_u32).map(|i| i as u8).collect();
        let back = write_all(disk, file, 3, bytes.clone()).expect("writable");
        assert_eq!(back, bytes, "the bytes come back");
        run(disk, Op::Sync { file }).expect("synced");
        let got = read_at(disk, file, 0, vec![9; 8192]).expect("readable");
        assert_eq!(got.len(), 8192, "what was set aside is there");
        assert!(got[..3] == [0; 3] && got[3..5003] == bytes && got[5003..].iter().all(|&b| b == 0));
        run(disk, Op::Truncate { path: path.clone(), len: 10 }).expect("cut");
        assert_eq!(read_at(disk, file, 0, vec![9; 100]).expect("readable").len(), 10);
        run(disk, Op::Close { file }).expect("closed");
        replace_file(disk, Path::new("shard-0/b"), b"one".to_vec()).expect("replaced");
        replace_file(disk, Path::new("shard-0/b"), b"two".to_vec()).expect("replaced");
        let two = read_file(disk, Path::new("shard-0/b"), 100).expect("readable");
        assert_eq!(two.as_deref(), Some(&b"two"[..]));
        assert!(read_file(disk, Path::new("shard-0/c"), 100).expect("no file").is_none());
        let names = disk.list(Path::new("shard-0")).expect("listable");
        assert_eq!(names, [("a".to_owned(), 10), ("b".to_owned(), 3)]);
        let mut other = disk.another().expect("another handle");
        run(&mut *other, Op::Remove { path }).expect("removed");
        assert_eq!(disk.list(Path::new("shard-0")).expect("listable").len(), 1);
        assert!(disk.list(Path::new("nowhere")).expect("no folder").is_empty());
        assert!(run(disk, Op::Sync { file: FileId(99) }).is_err(), "no such file is open");
    }

    #[test]
    fn the_disk_of_the_simulator_keeps_files() {
        story(&mut FaultDisk::new(1));
    }

    #[test]
    fn plain_files_keep_files() {
        let folder = tempfile::tempdir().expect("a folder");
        story(&mut Plain::open(folder.path()).expect("a thread"));
    }

    #[test]
    fn io_uring_keeps_files_or_says_why_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut disk, why) = open(folder.path()).expect("one of both works");
        assert_eq!(disk.kind() == "io_uring", why.is_none(), "{why:?}");
        story(&mut *disk);
    }

    #[test]
    fn many_operations_under_way_all_come_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut disk, _) = open(folder.path()).expect("one of both works");
        let file = FileId(0);
        run(&mut *disk, Op::Create { file, path: "a".into(), room_bytes: 0 }).expect("created");
        let (mut sent, mut back) = (0_u64, 0);
        while back < 500 {
            while sent < 500 {
                let op = Op::Write { file, at: sent * 100, bytes: vec![sent as u8; 100], from: 0 };
                match disk.submit(op) {
                    Ok(()) => sent += 1,
                    Err(_) => break,
                }
            }
            while let Some(done) = disk.poll() {
                assert_eq!(done.result.expect("written"), 100);
                back += 1;
            }
            disk.wait();
        }
        let all = read_at(&mut *disk, file, 0, vec![0; 50_000]).expect("readable");
        assert!(all.chunks(100).enumerate().all(|(i, c)| c.iter().all(|&b| b == i as u8)));
    }
}
