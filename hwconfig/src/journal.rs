//! The journal: what was there before, so that undo restores what was and not a default.
//!
//! One line of JSON for each change, written and synced *before* the change: a crash between the two leaves a line whose value
//! is still the old one, and undoing that is harmless. A second kind of line says that an entry is undone. A torn last line
//! was never followed by a change, so it is dropped. The file is locked while somebody applies or undoes, and goes away with
//! its last entry.
//!
//! ```text
//! {"seq":1,"stage":"sysctl","path":"/proc/sys/vm/max_map_count","before":"65530","after":"1000000","boot_id":"...","time":1795329000}
//! {"undone":1}
//! ```

use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Where the journal stands on a host.
pub const FOLDER: &str = "/var/lib/metanode/hw";
const NAME: &str = "journal";
/// A journal longer than this was not written by us: one apply writes a few hundred lines.
const BYTES_MAX: u64 = 64 << 20;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Number of the entry, ascending.
    pub seq: u64,
    /// The stage that made the change.
    pub stage: String,
    /// What was changed: a key of `host`.
    pub path: String,
    /// Its value before; absent when it did not exist.
    pub before: Option<String>,
    /// Its value after.
    pub after: Option<String>,
    /// The life of the kernel it was made in.
    pub boot_id: String,
    /// When, in seconds since 1970.
    pub time: u64,
}

#[derive(Serialize, Deserialize)]
struct Undone {
    undone: u64,
}

/// The journal cannot be used; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file system said no.
    #[error(
        "journal {path}: {source}; without it a change could not be undone, so nothing is changed"
    )]
    Io {
        /// The journal.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Another process holds it.
    #[error("journal {path} is in use by another `hw apply` or `hw undo`; wait for it to end")]
    Busy {
        /// The journal.
        path: PathBuf,
    },
    /// A line in the middle is not ours.
    #[error(
        "journal {path}: line {line} is not an entry; look at the file, and move it away to start anew"
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
    },
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
    next: u64,
}

impl Journal {
    /// Entries that are not undone, without locking or changing anything.
    pub fn peek(folder: &Path) -> Result<Vec<Entry>, JournalError> {
        let path = folder.join(NAME);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(read(&path, &bytes)?.0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(JournalError::Io { path, source }),
        }
    }

    /// Opens and locks the journal in `folder`, making both if need be.
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        let path = folder.join(NAME);
        let failed = |source| JournalError::Io { path: path.clone(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        file.try_lock().map_err(|_| JournalError::Busy { path: path.clone() })?;
        if file.metadata().map_err(failed)?.len() > BYTES_MAX {
            return Err(JournalError::Damaged { path: path.clone(), line: 0 });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let (entries, whole, highest) = read(&path, &bytes)?;
        file.set_len(whole).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        // The name of a new file is durable once its folder is.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(Self { path, file, entries, next: highest + 1 })
    }

    /// Entries that are not undone, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes down a change that is about to be made; it is on disk when this returns. Gives its number.
    pub fn intend(&mut self, mut entry: Entry) -> Result<u64, JournalError> {
        entry.seq = self.next;
        self.line(&serde_json::to_string(&entry).unwrap_or_default())?;
        self.next += 1;
        self.entries.push(entry);
        Ok(self.next - 1)
    }

    /// Writes down that entry `seq` is undone. With its last entry the journal becomes empty.
    pub fn undone(&mut self, seq: u64) -> Result<(), JournalError> {
        self.line(&serde_json::to_string(&Undone { undone: seq }).unwrap_or_default())?;
        self.entries.retain(|entry| entry.seq != seq);
        if self.entries.is_empty() {
            let path = &self.path;
            let failed = |source| JournalError::Io { path: path.clone(), source };
            self.file.set_len(0).map_err(failed)?;
            self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
            self.file.sync_all().map_err(failed)?;
        }
        Ok(())
    }

    fn line(&mut self, text: &str) -> Result<(), JournalError> {
        let failed = |source| JournalError::Io { path: self.path.clone(), source };
        self.file.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
        self.file.sync_data().map_err(failed)
    }
}

/// Live entries, the length of the whole lines, the highest number seen.
fn read(path: &Path, bytes: &[u8]) -> Result<(Vec<Entry>, u64, u64), JournalError> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut entries: Vec<Entry> = Vec::new();
    let mut highest = 0;
    for (index, line) in bytes[..whole].split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
            highest = highest.max(entry.seq);
            entries.push(entry);
        } else if let Ok(Undone { undone }) = serde_json::from_slice(line) {
            entries.retain(|entry| entry.seq != undone);
        } else {
            return Err(JournalError::Damaged { path: path.to_owned(), line: index + 1 });
        }
    }
    Ok((entries, whole as u64, highest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry {
            seq: 0,
            stage: "sysctl".to_owned(),
            path: path.to_owned(),
            before: Some("1".to_owned()),
            after: None,
            boot_id: "b".to_owned(),
            time: 0,
        }
    }

    #[test]
    fn what_was_written_down_is_there_after_a_crash_and_a_torn_line_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path()).expect("a new journal");
        journal.intend(entry("/a")).expect("room");
        let b = journal.intend(entry("/b")).expect("room");
        journal.undone(b).expect("room");
        drop(journal);
        let path = folder.path().join(NAME);
        let whole = std::fs::read(&path).expect("a file");
        let mut longer = whole.clone();
        longer.extend_from_slice(&whole[..whole.len() / 3]);
        // Every cut of the file is the journal up to its last whole line.
        for cut in 0..=longer.len() {
            std::fs::write(&path, &longer[..cut]).expect("a file");
            if longer[..cut].ends_with(b"\n") || cut < whole.len() {
                let open = Journal::open(folder.path()).expect("a torn tail is no damage");
                assert!(open.entries().len() <= 2);
            }
        }
        std::fs::write(&path, &whole).expect("a file");
        let journal = Journal::open(folder.path()).expect("whole");
        assert_eq!(journal.entries().len(), 1);
        assert_eq!(journal.entries()[0].path, "/a");
    }

    #[test]
    fn two_at_once_and_a_damaged_journal_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = Journal::open(folder.path()).expect("a new journal");
        assert!(matches!(Journal::open(folder.path()), Err(JournalError::Busy { .. })));
        drop(open);
        std::fs::write(folder.path().join(NAME), "rm -rf /\n").expect("a file");
        let refused = Journal::open(folder.path());
        assert!(matches!(refused, Err(JournalError::Damaged { line: 1, .. })), "{refused:?}");
    }
}
