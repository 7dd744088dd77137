//! The inbox: received objects as files, written by a thread of its own.
//!
//! In: objects, handed over without waiting. Out: a file each, `ID.CLASS`, renamed into its place once it is whole, so that whoever lists
//! the folder sees whole objects only. The folder has a bound in bytes and in files, counted with what lies there at start; what comes
//! when it is full, or faster than the disk takes it, is counted and not written. Taking files away makes room again: the folder is
//! counted anew when it seems full.

use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Objects that wait for the disk.
const WAITING_MAX: usize = 256;
/// A full folder is counted anew no more often than this.
const RECOUNT_EVERY: Duration = Duration::from_secs(1);

/// One object on its way to the disk.
#[derive(Debug)]
pub struct Arrived {
    /// Its file's name.
    pub name: String,
    /// What it is.
    pub bytes: Arc<[u8]>,
}

impl InboxCounts {
    /// For `relay status`.
    pub fn shown(&self) -> Value {
        let get = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        json!({
            "written": get(&self.written), "full": get(&self.full), "behind": get(&self.behind),
            "failed": get(&self.failed),
        })
    }
}

/// What became of objects.
#[derive(Debug, Default)]
pub struct InboxCounts {
    /// Files written.
    pub written: AtomicU64,
    /// Not written: the folder is full.
    pub full: AtomicU64,
    /// Not written: the disk was behind.
    pub behind: AtomicU64,
    /// Not written: the system refused.
    pub failed: AtomicU64,
}

/// The bound of the folder.
#[derive(Clone, Copy, Debug)]
pub struct InboxLimits {
    /// Bytes of all files.
    pub bytes_max: u64,
    /// How many.
    pub files_max: u64,
}

/// The door to it.
#[derive(Debug)]
pub struct Inbox {
    sender: Option<SyncSender<Arrived>>,
    counts: Arc<InboxCounts>,
    writer: Option<JoinHandle<()>>,
}

impl Inbox {
    /// Opens the folder, making it if need be.
    pub fn open(folder: &Path, limits: InboxLimits) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let counts = Arc::new(InboxCounts::default());
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let mut writer = Writer {
            folder: folder.to_owned(),
            limits,
            used: Used::of(folder)?,
            recounted: None,
            counts: counts.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("inbox".into())
            .spawn(move || writer.run(&receiver))?;
        Ok(Self { sender: Some(sender), counts, writer: Some(writer) })
    }

    /// Hands an object over; never waits.
    pub fn put(&self, arrived: Arrived) {
        let sender = self.sender.as_ref().expect("it is taken by `drop` only");
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = sender.try_send(arrived)
        {
            self.counts.behind.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of objects so far.
    pub fn counts(&self) -> Arc<InboxCounts> {
        self.counts.clone()
    }
}

impl Drop for Inbox {
    /// Writes what was handed over.
    fn drop(&mut self) {
        self.sender = None;
        if let Some(writer) = self.writer.take() {
            // A writer that died has said so.
            let _ = writer.join();
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    bytes: u64,
    files: u64,
}

impl Used {
    fn of(folder: &Path) -> std::io::Result<Self> {
        let mut used = Self::default();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if is_unfinished(&entry.path()) {
                // Left by a process that was killed; nobody else writes such names here.
                let _ = std::fs::remove_file(entry.path());
                continue;
            }
            // A file that goes away while we count is none.
            let Ok(meta) = entry.metadata() else { continue };
            used.bytes += meta.len();
            used.files += 1;
        }
        Ok(used)
    }

    fn takes(self, bytes: u64, limits: InboxLimits) -> bool {
        self.bytes + bytes <= limits.bytes_max && self.files < limits.files_max
    }
}

fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part")
}

/// Writes a file that is there whole or not at all.
pub fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let part = folder.join(format!("{name}.part"));
    let written = std::fs::File::create(&part)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&part, folder.join(name)));
    written.inspect_err(|_| {
        // Half a file helps nobody.
        let _ = std::fs::remove_file(&part);
    })
}

struct Writer {
    folder: PathBuf,
    limits: InboxLimits,
    used: Used,
    recounted: Option<Instant>,
    counts: Arc<InboxCounts>,
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<Arrived>) {
        for arrived in receiver {
            let cell = match self.write(&arrived) {
                Ok(true) => &self.counts.written,
                Ok(false) => &self.counts.full,
                Err(error) => {
                    tracing::warn!(file = arrived.name, %error, "an object could not be written");
                    &self.counts.failed
                }
            };
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&mut self, arrived: &Arrived) -> std::io::Result<bool> {
        let bytes = arrived.bytes.len() as u64;
        if !self.used.takes(bytes, self.limits) {
            if self.recounted.is_none_or(|at| at.elapsed() > RECOUNT_EVERY) {
                self.used = Used::of(&self.folder)?;
                self.recounted = Some(Instant::now());
            }
            if !self.used.takes(bytes, self.limits) {
                return Ok(false);
            }
        }
        let is_new = !self.folder.join(&arrived.name).exists();
        write_whole(&self.folder, &arrived.name, &arrived.bytes)?;
        if is_new {
            self.used.bytes += bytes;
            self.used.files += 1;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(name: &str, len: usize) -> Arrived {
        Arrived { name: name.into(), bytes: vec![7; len].into() }
    }

    #[test]
    fn objects_become_whole_files_until_the_folder_is_full_and_again_once_it_is_emptied() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("old.block"), [1; 50]).expect("a file");
        std::fs::write(folder.path().join("torn.block.part"), [1; 50]).expect("a file");
        let limits = InboxLimits { bytes_max: 250, files_max: 3 };
        let inbox = Inbox::open(folder.path(), limits).expect("opens");
        assert!(!folder.path().join("torn.block.part").exists());
        for (name, len) in [("a", 150), ("b", 60), ("c", 10), ("d", 1)] {
            inbox.put(arrived(name, len));
        }
        let counts = inbox.counts();
        drop(inbox);
        assert_eq!(counts.written.load(Ordering::Relaxed), 2, "a and c fit beside the old one");
        assert_eq!(counts.full.load(Ordering::Relaxed), 2, "b was too large, d one too many");
        assert_eq!(std::fs::read(folder.path().join("a")).expect("written"), [7; 150]);
        let inbox = Inbox::open(folder.path(), limits).expect("opens");
        std::fs::remove_file(folder.path().join("a")).expect("there");
        inbox.put(arrived("e", 150));
        let counts = inbox.counts();
        drop(inbox);
        assert_eq!(counts.written.load(Ordering::Relaxed), 1);
    }
}
