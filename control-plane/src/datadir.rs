//! The data directory: one process at a time, and a file that says where that process listens.
//!
//! In: where it is and the network. Out: the network's folder, locked for the life of the process. The lock is the kernel's (`flock`
//! on `LOCK`), so a process that was killed leaves none behind; the number inside only tells a second process whom it met. `node.json` is
//! written whole once everything listens, and goes away at the end: scripts wait for it.

use consensus::params::Network;
use serde_json::Value;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where scripts read what runs here.
pub const NODE_FILE: &str = "node.json";
const LOCK_FILE: &str = "LOCK";
/// How long a lock that somebody holds is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// The system refused.
    #[error("{doing} {path}: {source}; choose a directory this user may write with --data-dir")]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another process runs here.
    #[error("{path} is in use by process {pid}; stop it (kill {pid}) or choose another --data-dir")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds it.
        pid: String,
    },
}

/// A locked directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// The folder of a network, named as SV Node names it where it has a name for it, so that `bitcoin-cli -datadir` finds the cookie.
pub fn folder(base: &Path, network: Network) -> PathBuf {
    base.join(match network {
        Network::Test => "testnet3",
        other => other.name(),
    })
}

impl DataDir {
    /// Creates what is missing and takes the lock. A process that was just killed may still hold it while the system takes its memory
    /// back, so a lock that is held is tried again for a moment.
    pub fn open(base: &Path, network: Network) -> Result<Self, DataDirError> {
        Self::open_within(&folder(base, network), LOCK_PATIENCE)
    }

    /// The same with this folder itself.
    pub fn at(path: &Path) -> Result<Self, DataDirError> {
        Self::open_within(path, LOCK_PATIENCE)
    }

    fn open_within(path: &Path, patience: Duration) -> Result<Self, DataDirError> {
        let path = path.to_owned();
        let fail = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::File { doing, path, source }
        };
        let create = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        create(&path).map_err(fail("creating", &path))?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&lock_path)
            .map_err(fail("opening", &lock_path))?;
        let until = Instant::now() + patience;
        let mut said = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => {
                    return Err(fail("locking", &lock_path)(source));
                }
            }
            if Instant::now() < until {
                if !said {
                    said = true;
                    tracing::info!(
                        "{} is in use; waiting up to {} s for its process to end",
                        path.display(),
                        patience.as_secs()
                    );
                }
                std::thread::sleep(LOCK_RETRY);
                continue;
            }
            let mut pid = String::new();
            // Whoever holds it may be about to write its number.
            let _ = lock.read_to_string(&mut pid);
            let pid = pid.lines().next().unwrap_or("(unknown)").to_owned();
            return Err(DataDirError::InUse { path, pid });
        }
        let number = format!("{}\n", std::process::id());
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(number.as_bytes()))
            .map_err(fail("writing", &lock_path))?;
        let this = Self { path, _lock: lock };
        this.withdraw();
        Ok(this)
    }

    /// The network's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `node.json`.
    pub fn announce(&self, node: &Value) -> Result<(), DataDirError> {
        self.write(NODE_FILE, node)
    }

    /// Writes a file of JSON, whole or not at all.
    pub fn write(&self, name: &str, node: &Value) -> Result<(), DataDirError> {
        let (path, new) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let fail = |source| DataDirError::File { doing: "writing", path: path.clone(), source };
        std::fs::write(&new, format!("{node:#}\n")).map_err(fail)?;
        std::fs::rename(&new, &path).map_err(fail)
    }

    /// Takes `node.json` away: nothing listens any more.
    pub fn withdraw(&self) {
        // What is not there need not go.
        let _ = std::fs::remove_file(self.path.join(NODE_FILE));
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// The folder of a node's link files; it goes away with the node.
#[derive(Debug)]
pub struct LinkDir {
    path: PathBuf,
}

impl LinkDir {
    /// Creates it. Its name follows from the data directory, so a run after a kill takes it over.
    pub fn create(config: &crate::config::Config, data: &Path) -> Result<Self, DataDirError> {
        let shm = || PathBuf::from("/dev/shm");
        let base = config.node.link_dir.clone().unwrap_or_else(shm);
        let fail = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::File { doing, path, source }
        };
        let data = data.canonicalize().map_err(fail("resolving", data))?;
        let digest = consensus::hash::sha256(data.as_os_str().as_bytes());
        let path = base.join(format!("metanode-{}", hex::encode(&digest[..8])));
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(fail("emptying", &path)(error));
            }
            _ => {}
        }
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        created.map_err(fail("creating", &path))?;
        Ok(Self { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LinkDir {
    fn drop(&mut self) {
        // Who still maps a link keeps it.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_second_opener_is_told_who_holds_the_directory_and_the_end_frees_it() {
        let base = tempfile::tempdir().expect("a folder");
        let held = DataDir::open(base.path(), Network::Regtest).expect("nobody holds it");
        held.announce(&json!({ "pid": 1 })).expect("writable");
        let file = held.path().join(NODE_FILE);
        assert!(file.exists());
        let refused = DataDir::open_within(held.path(), Duration::ZERO);
        let refused = refused.expect_err("it is held");
        let pid = std::process::id().to_string();
        assert!(refused.to_string().contains(&format!("in use by process {pid}")), "{refused}");
        DataDir::open(base.path(), Network::Test).expect("another network has a folder of its own");
        drop(held);
        assert!(!file.exists(), "what does not run is not announced");
        DataDir::open(base.path(), Network::Regtest).expect("free again");
    }

    #[test]
    fn a_lock_that_is_let_go_in_time_is_taken() {
        let base = tempfile::tempdir().expect("a folder");
        let held = DataDir::open(base.path(), Network::Regtest).expect("nobody holds it");
        let dying = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(60));
            drop(held);
        });
        DataDir::open(base.path(), Network::Regtest).expect("free before the patience is over");
        dying.join().expect("it only sleeps");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_with_its_path_and_a_way_out() {
        let refused = DataDir::open(Path::new("/proc/metanode"), Network::Regtest);
        let text = refused.expect_err("nobody writes there").to_string();
        assert!(text.contains("/proc/metanode/regtest") && text.contains("--data-dir"), "{text}");
    }
}
