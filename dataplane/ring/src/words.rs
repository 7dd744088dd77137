//! Words that one process counts in and others look at: counters of a machine, in memory or in a mapped file.
//!
//! In: how many words, and where. Out: [`Words`] for whoever writes, [`WordsView`] for whoever only looks: it maps the file
//! read-only, so a monitor cannot disturb what it watches. Every word stands for itself: stores and loads are relaxed, and a reader
//! that wants a consistent picture of two words does not get one.

use crate::region::{LinkError, map_file, os};
use crate::sync::{AtomicU64, Ordering::Relaxed};
use memmap2::{Mmap, MmapMut, MmapOptions};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;

/// Words of the process that made them.
#[derive(Debug)]
pub struct Words {
    first: NonNull<AtomicU64>,
    count: usize,
    _map: MmapMut,
}

// SAFETY: the mapping stays where it is until `Words` drops, and everything reached through it is atomics.
unsafe impl Send for Words {}
// SAFETY: as for `Send`.
unsafe impl Sync for Words {}

impl Words {
    /// `count` words in memory of this process, all zero.
    pub fn anonymous(count: usize) -> Result<Self, LinkError> {
        let map = MmapOptions::new().len(count.max(1) * 8).map_anon();
        Ok(Self::of(map.map_err(|source| os("map memory", "words", source))?, count))
    }

    /// `count` words in a new file at `path`, all zero. A file of that name is unlinked first: who maps it keeps the old one.
    pub fn create_file(path: &Path, count: usize) -> Result<Self, LinkError> {
        let name = path.display().to_string();
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(os("unlink the old file", &name, e));
            }
            _ => {}
        }
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|source| os("create the file", &name, source))?;
        let bytes = count.max(1) as u64 * 8;
        file.set_len(bytes).map_err(|source| os("size the file", &name, source))?;
        Ok(Self::of(map_file(&file, bytes, &name)?, count))
    }

    fn of(mut map: MmapMut, count: usize) -> Self {
        assert!(map.len() >= count * 8, "mapping is shorter than its words");
        let first = NonNull::new(map.as_mut_ptr()).expect("a mapping is not at address zero");
        Self { first: first.cast(), count, _map: map }
    }

    /// All of them.
    #[inline(always)]
    pub fn all(&self) -> &[AtomicU64] {
        // SAFETY: `count` words from `first` on are mapped (checked in `of`), page-aligned, valid whatever they hold, accessed as
        // atomics only, and live as long as `self`.
        unsafe { NonNull::slice_from_raw_parts(self.first, self.count).as_ref() }
    }
}

/// Somebody else's words, read-only.
#[derive(Debug)]
pub struct WordsView {
    first: NonNull<AtomicU64>,
    count: usize,
    _map: Mmap,
}

// SAFETY: as for `Words`.
unsafe impl Send for WordsView {}

impl WordsView {
    /// The words in the file at `path`.
    pub fn open_file(path: &Path) -> Result<Self, LinkError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|source| os("open the file", &name, source))?;
        // SAFETY: the bytes are never borrowed through `Mmap`: another process writes them. They are read as atomics only. A file
        // that is cut short under its readers kills them (SIGBUS); its writer never does that.
        let map = unsafe { MmapOptions::new().map(&file) };
        let map = map.map_err(|source| os("map the file", &name, source))?;
        let first =
            NonNull::new(map.as_ptr().cast_mut()).expect("a mapping is not at address zero");
        Ok(Self { first: first.cast(), count: map.len() / 8, _map: map })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True without words.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Word `at`; `None` beyond the end.
    pub fn get(&self, at: usize) -> Option<u64> {
        if at >= self.count {
            return None;
        }
        // SAFETY: in bounds by the check; mapped, page-aligned, and only ever loaded: the mapping is read-only.
        Some(unsafe { self.first.add(at).as_ref() }.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mapping_writes_the_other_sees_and_a_new_file_starts_at_zero() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("words");
        let words = Words::create_file(&path, 1_000).expect("a new file");
        words.all()[999].store(7, Relaxed);
        let view = WordsView::open_file(&path).expect("it is there");
        assert_eq!((view.get(999), view.get(0), view.get(1_000)), (Some(7), Some(0), None));
        words.all()[0].store(9, Relaxed);
        assert_eq!(view.get(0), Some(9));
        let again = Words::create_file(&path, 8).expect("the old file is unlinked");
        assert_eq!(again.all()[0].load(Relaxed), 0);
        assert_eq!(view.get(0), Some(9), "who mapped the old file keeps it");
        assert!(WordsView::open_file(&folder.path().join("none")).is_err());
        assert_eq!(Words::anonymous(3).expect("memory").all().len(), 3);
    }
}
