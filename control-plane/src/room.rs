//! Room on the disk: whether the data directory has enough of it to go on.
//!
//! In: free bytes of its file system, looked at four times a second and before every block, and files of the pool that could not be
//! written. Out: a reason to take nothing new ([`NotKept`]), taken back as soon as there is room again; counts for the metrics.
//! So a disk that fills up is met before a write has to fail: block files, the index and the pool find the bytes that are kept free
//! for what is under way. The journals look after themselves ([`crate::epochs`]): they have their room set aside, and wait.

use crate::epochs::NotKept;
use crate::store::Pool;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Bytes of the file system that nothing new is taken for. Source: SV Node `validation.h`, `nMinDiskSpace`, 50 MiB.
pub const FREE_BYTES_MIN: u64 = 50 << 20;
/// How often somebody looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    trouble: watch::Sender<Option<NotKept>>,
    free_bytes: AtomicU64,
    low: AtomicU64,
}

/// See the module. Clones speak of the same directory.
#[derive(Clone, Debug)]
pub struct Room {
    shared: Arc<Shared>,
}

impl Room {
    /// Of the file system that `directory` is on.
    pub fn new(directory: &Path) -> Self {
        let room = Self {
            shared: Arc::new(Shared {
                directory: directory.to_owned(),
                trouble: watch::Sender::new(None),
                free_bytes: AtomicU64::new(0),
                low: AtomicU64::new(0),
            }),
        };
        room.look();
        room
    }

    /// Looks now; why nothing new is to be taken.
    pub fn look(&self) -> Option<NotKept> {
        // A system that does not say counts as one with room: a write will tell.
        let free = rustix::fs::statvfs(&self.shared.directory)
            .map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        self.shared.free_bytes.store(free, Ordering::Relaxed);
        if free < FREE_BYTES_MIN {
            let directory = self.shared.directory.clone();
            self.say(Some(NotKept::NoRoom { directory }));
        } else if !self.is_of_the_pool() {
            self.say(None);
        }
        self.trouble()
    }

    /// Looks, and lets the pool write what it could not write before.
    pub fn turn(&self, pool: &Pool) {
        if let Err(what) = pool.retry() {
            self.say(Some(NotKept::Pool { what }));
            return;
        }
        if self.is_of_the_pool() {
            self.say(None);
        }
        self.look();
    }

    fn is_of_the_pool(&self) -> bool {
        matches!(*self.shared.trouble.borrow(), Some(NotKept::Pool { .. }))
    }

    fn say(&self, trouble: Option<NotKept>) {
        let changed = self.shared.trouble.send_if_modified(|now| {
            let changed = *now != trouble;
            if changed {
                now.clone_from(&trouble);
            }
            changed
        });
        match trouble {
            Some(trouble) if changed => {
                self.shared.low.fetch_add(1, Ordering::Relaxed);
                tracing::error!("{trouble}");
            }
            None if changed => tracing::info!("there is room on the disk again"),
            _ => {}
        }
    }

    /// Why nothing new is taken, as of the last look.
    pub fn trouble(&self) -> Option<NotKept> {
        self.shared.trouble.borrow().clone()
    }

    /// The same, now and whenever it changes.
    pub fn changes(&self) -> watch::Receiver<Option<NotKept>> {
        self.shared.trouble.subscribe()
    }

    /// Free bytes at the last look.
    pub fn free_bytes(&self) -> u64 {
        self.shared.free_bytes.load(Ordering::Relaxed)
    }

    /// How often it ran out.
    pub fn times_low(&self) -> u64 {
        self.shared.low.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_room_is_no_trouble_and_one_that_is_gone_counts_as_one() {
        let directory = tempfile::tempdir().expect("a folder");
        let room = Room::new(directory.path());
        assert_eq!((room.look(), room.times_low()), (None, 0));
        assert!(room.free_bytes() > FREE_BYTES_MIN, "the tests need some room");
        let gone = Room::new(&directory.path().join("gone"));
        assert_eq!((gone.trouble(), gone.free_bytes()), (None, u64::MAX));
    }
}
