//! The data directory of the shards: what it is, who owns it, and which checkpoint counts.
//!
//! ```text
//! HEADER            "MNUTXO\0\1" | version u32 | shards u32 | folder u32 | zero u32 | secret 16 | checksum u64        written once
//! MANIFEST          "MNMANI\0\1" | version u32 | shards u32 | folder u32 | incarnation u32 | checkpoint epoch u64 | cuts u32
//!                   | cut ... : incarnation u32, last epoch u64 | slot entry of each shard, 28 bytes | checksum u64   by rename
//! LOCK              held by one process
//! shard-000/        journal-000000000001 ... , checkpoint-1, checkpoint-2
//! ```
//!
//! Little endian; checksums are XXH3 of what stands before them. The header's secret is drawn once and never shown: which shard owns
//! a transaction, and which bucket of an index, follows from it. The manifest is replaced whole, by rename, after everything it
//! names was synced: at each opening (a new incarnation, and what of the last one counts) and for each checkpoint.

use crate::disk::{self, Disk, Look, Op, read_file, replace_file, run};
use crate::journal::{Bytes, Cuts, is_full, shard_folder};
use crate::slot::{SlotEntry, slot_path};
use siphasher::sip::SipHasher13;
use std::fs::{DirBuilder, File, TryLockError};
use std::hash::Hasher;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// Version of the data directory.
pub const FOLDER_VERSION: u32 = 1;
const HEADER: &str = "HEADER";
const MANIFEST: &str = "MANIFEST";
const LOCK: &str = "LOCK";
const HEADER_MAGIC: [u8; 8] = *b"MNUTXO\0\x01";
const MANIFEST_MAGIC: [u8; 8] = *b"MNMANI\0\x01";
const HEADER_BYTES: usize = 8 + 16 + 16 + 8;
/// Longest manifest.
const MANIFEST_BYTES_MAX: usize = 1 << 20;
/// Lives of a data directory whose ends the manifest remembers; of older ones nothing counts.
pub const CUTS_MAX: usize = 4_096;
/// Most shards of a data directory.
pub const SHARDS_MAX: u16 = 256;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The system refused.
    #[error("{doing} {path}: {source}; {}", hint(source))]
    File {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("{path} is in use by process {pid}; stop it (kill {pid}) or choose another --data-dir")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// Another version wrote it.
    #[error(
        "opening {path}: it was written by version {got} of the data directory, expected version \
         {expected}; run the program that wrote it, or `mv {path} {path}.old` and start the node: it \
         makes the coins again from its blocks, without the transactions that are in none"
    )]
    Version {
        /// The directory.
        path: PathBuf,
        /// Its version.
        got: u32,
        /// Ours.
        expected: u32,
    },
    /// It has another number of shards.
    #[error(
        "opening {path}: it has {got} shards, expected {expected}, which follow from --cores; run \
         `metanode utxo reshard {path} --shards {expected}`, or start with the --cores it was made with; \
         or move it away: coins are then made again from the blocks, the pool is lost"
    )]
    Shards {
        /// The directory.
        path: PathBuf,
        /// What it has.
        got: u16,
        /// What was asked for.
        expected: u16,
    },
    /// There is none.
    #[error(
        "{path} holds no UTXO set of a node (it has no file HEADER); give the folder `utxo` of a node, \
         the folder of its network, or its --data-dir"
    )]
    Nothing {
        /// The directory.
        path: PathBuf,
    },
    /// A file of it is not what was written.
    #[error(
        "reading {path}: {what}, expected what was written there: it is damaged; restore the directory \
         from a copy, or move the folder `utxo` away and start the node: it makes the coins again from \
         its blocks, without the transactions that are in none"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

fn hint(source: &io::Error) -> &'static str {
    match is_full(source) {
        true => "make room on the disk, then start again; nothing is lost",
        false => "choose a directory this user may write with --data-dir",
    }
}

impl FolderError {
    /// Whether there is no room on the disk, for now: the same may be tried again.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::File { source, .. } if is_full(source))
    }
}

/// What a data directory must be, or is made as.
#[derive(Clone, Copy, Debug)]
pub struct FolderConfig {
    /// Shards.
    pub shards: u16,
    /// Sixteen random bytes, used if it is made now.
    pub secret: [u8; 16],
}

/// What the manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// How often the directory was opened.
    pub incarnation: u32,
    /// The checkpoint that counts is as of the end of this epoch; 0 for none.
    pub checkpoint: u64,
    /// What counts of the incarnations before this one.
    pub cuts: Cuts,
    /// One entry a shard.
    pub slots: Vec<SlotEntry>,
}

impl Manifest {
    /// As it is kept, for a data directory.
    pub fn encode(&self, folder: u32) -> Vec<u8> {
        let mut to = MANIFEST_MAGIC.to_vec();
        to.extend_from_slice(&FOLDER_VERSION.to_le_bytes());
        to.extend_from_slice(&(self.slots.len() as u32).to_le_bytes());
        to.extend_from_slice(&folder.to_le_bytes());
        to.extend_from_slice(&self.incarnation.to_le_bytes());
        to.extend_from_slice(&self.checkpoint.to_le_bytes());
        to.extend_from_slice(&(self.cuts.0.len() as u32).to_le_bytes());
        for (incarnation, last) in &self.cuts.0 {
            to.extend_from_slice(&incarnation.to_le_bytes());
            to.extend_from_slice(&last.to_le_bytes());
        }
        for slot in &self.slots {
            to.extend_from_slice(&slot.encode());
        }
        to.extend_from_slice(&xxh3_64(&to).to_le_bytes());
        to
    }

    /// What was kept; what is wrong with bytes that were not.
    pub fn decode(bytes: &[u8], folder: u32, shards: u16) -> Result<Self, &'static str> {
        const SHORT: &str = "it ends too early";
        let Some((body, checksum)) = bytes.split_last_chunk::<8>() else { return Err(SHORT) };
        if xxh3_64(body) != u64::from_le_bytes(*checksum) {
            return Err("its checksum is that of other bytes");
        }
        let mut r = Bytes(body);
        if r.array::<8>() != Some(MANIFEST_MAGIC) || r.u32() != Some(FOLDER_VERSION) {
            return Err("it does not begin as a manifest");
        }
        if r.u32() != Some(u32::from(shards)) || r.u32() != Some(folder) {
            return Err("it belongs to another data directory");
        }
        let mut rest = || {
            let (incarnation, checkpoint, cuts) = (r.u32()?, r.u64()?, r.u32()?);
            if cuts as usize > CUTS_MAX {
                return None;
            }
            let mut this = Self { incarnation, checkpoint, ..Self::default() };
            for _ in 0..cuts {
                this.cuts.0.push((r.u32()?, r.u64()?));
            }
            for _ in 0..shards {
                this.slots.push(SlotEntry::decode(r.take(SlotEntry::BYTES)?)?);
            }
            let rising = this.cuts.0.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            (r.0.is_empty() && rising).then_some(this)
        };
        rest().ok_or(SHORT)
    }
}

/// An opened data directory. See the module.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    pub(crate) disk: Box<dyn Disk>,
    why_plain: Option<String>,
    /// Held as long as this lives.
    lock: Option<File>,
    secret: [u8; 16],
    pub(crate) folder: u32,
    shards: u16,
    pub(crate) manifest: Manifest,
}

impl Folder {
    /// Opens a data directory of this machine, or makes one; one process at a time.
    pub fn open(path: &Path, config: &FolderConfig) -> Result<Self, FolderError> {
        let file = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::File { doing, path, source }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(file("creating", path))?;
        let lock = lock(path)?;
        let (disk, why_plain) = disk::open(path).map_err(file("opening", path))?;
        let mut folder = Self::on(path, disk, config)?;
        folder.why_plain = why_plain;
        folder.lock = Some(lock);
        Ok(folder)
    }

    /// Opens a data directory to look at it: nothing is written, by nobody meanwhile. `alone`: nobody else may look either.
    pub fn look(path: &Path, alone: bool) -> Result<Self, FolderError> {
        let lock = lock_to_look(path, alone)?;
        let mut folder = Self::there(path, Box::new(Look::new(path)))?;
        folder.lock = lock;
        Ok(folder)
    }

    /// Opens the checkpoint that a data directory names, which may be in use: what was opened stays as it is.
    pub fn look_at_checkpoint(path: &Path) -> Result<Self, FolderError> {
        let mut folder = Self::there(path, Box::new(Look::new(path)))?;
        let mut look = Look::new(path);
        for (shard, entry) in folder.manifest.slots.iter().enumerate() {
            if entry.slot != 0 {
                let slot = slot_path(shard as u16, entry.slot);
                look.hold(&slot).map_err(|source| {
                    let path = path.join(&slot);
                    FolderError::File { doing: "opening", path, source }
                })?;
            }
        }
        folder.disk = Box::new(look);
        Ok(folder)
    }

    /// What is there, and nothing is made.
    fn there(path: &Path, disk: Box<dyn Disk>) -> Result<Self, FolderError> {
        let Some(shards) = Self::shards_of(path)? else {
            return Err(FolderError::Nothing { path: path.to_owned() });
        };
        Self::on(path, disk, &FolderConfig { shards, secret: [0; 16] })
    }

    /// The same on any disk, without a lock: for the simulator and tests. `path` is only for messages.
    pub fn on(
        path: &Path,
        mut disk: Box<dyn Disk>,
        config: &FolderConfig,
    ) -> Result<Self, FolderError> {
        let file = |doing, name: &str| {
            let path = path.join(name);
            move |source| FolderError::File { doing, path, source }
        };
        assert!((1..=SHARDS_MAX).contains(&config.shards), "{} shards", config.shards);
        let header =
            read_file(&mut *disk, Path::new(HEADER), 4096).map_err(file("reading", HEADER))?;
        let (shards, folder, secret) = if let Some(bytes) = header {
            read_header(path, &bytes)?
        } else {
            let folder = xxh3_64(&config.secret) as u32;
            for shard in 0..config.shards {
                let made = run(&mut *disk, Op::SyncDir { path: shard_folder(shard) });
                made.map_err(file("creating", "the shards' folders"))?;
            }
            let bytes = write_header(config, folder);
            let made = replace_file(&mut *disk, Path::new(HEADER), bytes);
            made.map_err(file("writing", HEADER))?;
            (config.shards, folder, config.secret)
        };
        if shards != config.shards {
            let path = path.to_owned();
            return Err(FolderError::Shards { path, got: shards, expected: config.shards });
        }
        let kept = read_file(&mut *disk, Path::new(MANIFEST), MANIFEST_BYTES_MAX);
        let manifest = match kept.map_err(file("reading", MANIFEST))? {
            Some(bytes) => Manifest::decode(&bytes, folder, shards)
                .map_err(|what| FolderError::Damaged { path: path.join(MANIFEST), what })?,
            None => {
                Manifest { slots: vec![SlotEntry::default(); shards.into()], ..Manifest::default() }
            }
        };
        let path = path.to_owned();
        Ok(Self { path, disk, why_plain: None, lock: None, secret, folder, shards, manifest })
    }

    /// Shards of a data directory, before it is opened; `None` where there is none yet.
    pub fn shards_of(path: &Path) -> Result<Option<u16>, FolderError> {
        match std::fs::read(path.join(HEADER)) {
            Ok(bytes) => read_header(path, &bytes).map(|header| Some(header.0)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => {
                Err(FolderError::File { doing: "reading", path: path.join(HEADER), source })
            }
        }
    }

    /// Whether this process holds the lock: not on a simulated disk.
    pub fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its shards.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The secret that `Partition` is made from.
    pub fn secret(&self) -> [u8; 16] {
        self.secret
    }

    /// The key of a shard's index.
    pub fn index_key(&self, shard: u16) -> (u64, u64) {
        let (low, high) = self.secret.split_at(8);
        let word = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("eight bytes"));
        let half = |n: u64| {
            let mut h = SipHasher13::new_with_keys(word(low), word(high));
            // The partition draws its keys from numbers below sixteen.
            h.write_u64(1 << 32 | u64::from(shard) << 1 | n);
            h.finish()
        };
        (half(0), half(1))
    }

    /// How its files are written, and why not over io_uring if they are not.
    pub fn backend(&self) -> (&'static str, Option<&str>) {
        (self.disk.kind(), self.why_plain.as_deref())
    }

    /// What the manifest says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Names a checkpoint: every shard's slot is synced, and epoch `at` is complete in every shard.
    pub fn install(&mut self, at: u64, slots: &[SlotEntry]) -> Result<(), FolderError> {
        assert!(
            slots.len() == usize::from(self.shards) && slots.iter().all(|slot| slot.epoch == at),
            "a checkpoint is that of all shards, as of one epoch: {at}, {slots:?}"
        );
        assert!(at > self.manifest.checkpoint, "epochs only grow");
        let next = Manifest { checkpoint: at, slots: slots.to_vec(), ..self.manifest.clone() };
        self.write_manifest(next)
    }

    pub(crate) fn write_manifest(&mut self, next: Manifest) -> Result<(), FolderError> {
        let bytes = next.encode(self.folder);
        replace_file(&mut *self.disk, Path::new(MANIFEST), bytes).map_err(|source| {
            FolderError::File { doing: "writing", path: self.path.join(MANIFEST), source }
        })?;
        self.manifest = next;
        Ok(())
    }
}

fn write_header(config: &FolderConfig, folder: u32) -> Vec<u8> {
    let mut to = HEADER_MAGIC.to_vec();
    to.extend_from_slice(&FOLDER_VERSION.to_le_bytes());
    to.extend_from_slice(&u32::from(config.shards).to_le_bytes());
    to.extend_from_slice(&folder.to_le_bytes());
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(&config.secret);
    to.extend_from_slice(&xxh3_64(&to).to_le_bytes());
    to
}

fn read_header(path: &Path, bytes: &[u8]) -> Result<(u16, u32, [u8; 16]), FolderError> {
    let damaged = |what| FolderError::Damaged { path: path.join(HEADER), what };
    let mut r = Bytes(bytes);
    if r.array::<8>() != Some(HEADER_MAGIC) {
        return Err(damaged("it does not begin as the header of a UTXO set"));
    }
    let version = r.u32().ok_or(damaged("it ends too early"))?;
    if version != FOLDER_VERSION {
        let path = path.to_owned();
        return Err(FolderError::Version { path, got: version, expected: FOLDER_VERSION });
    }
    let mut rest = || {
        let (shards, folder, _) = (r.u32()?, r.u32()?, r.u32()?);
        Some((shards, folder, r.array::<16>()?, r.u64()?))
    };
    let (shards, folder, secret, checksum) = rest().ok_or(damaged("it ends too early"))?;
    if bytes.len() != HEADER_BYTES || xxh3_64(&bytes[..HEADER_BYTES - 8]) != checksum {
        return Err(damaged("its checksum is that of other bytes"));
    }
    match u16::try_from(shards) {
        Ok(shards @ 1..=SHARDS_MAX) => Ok((shards, folder, secret)),
        _ => Err(damaged("its number of shards is none")),
    }
}

/// The lock of a directory that is not written: none where nobody ever had one.
fn lock_to_look(path: &Path, alone: bool) -> Result<Option<File>, FolderError> {
    let at = path.join(LOCK);
    let mut lock = match File::open(&at) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FolderError::File { doing: "opening", path: at, source }),
    };
    match if alone { lock.try_lock() } else { lock.try_lock_shared() } {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(in_use(path, &mut lock)),
        Err(TryLockError::Error(source)) => {
            Err(FolderError::File { doing: "locking", path: at, source })
        }
    }
}

/// Whoever holds the lock, as far as it says.
fn in_use(path: &Path, lock: &mut File) -> FolderError {
    let mut pid = String::new();
    // Whoever holds it may be about to write its number.
    let _ = lock.read_to_string(&mut pid);
    let pid = pid.lines().next().unwrap_or("(unknown)").to_owned();
    FolderError::InUse { path: path.to_owned(), pid }
}

fn lock(path: &Path) -> Result<File, FolderError> {
    let at = path.join(LOCK);
    let fail = |doing| {
        let path = at.clone();
        move |source| FolderError::File { doing, path, source }
    };
    let opened = File::options().create(true).truncate(false).read(true).write(true).open(&at);
    let mut lock = opened.map_err(fail("opening"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut lock)),
        Err(TryLockError::Error(source)) => return Err(fail("locking")(source)),
    }
    let number = format!("{}\n", std::process::id());
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| lock.write_all(number.as_bytes()))
        .map_err(fail("writing"))?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FaultDisk;

    const CONFIG: FolderConfig = FolderConfig { shards: 2, secret: [7; 16] };

    #[test]
    fn a_manifest_comes_back_and_any_flipped_bit_is_found() {
        let slot = SlotEntry { slot: 1, epoch: 9, bytes: 10, checksum: 11 };
        let manifest = Manifest {
            incarnation: 3,
            checkpoint: 9,
            cuts: Cuts(vec![(1, 4), (2, 8)]),
            slots: vec![slot; 2],
        };
        let bytes = manifest.encode(5);
        assert_eq!(Manifest::decode(&bytes, 5, 2), Ok(manifest));
        assert!(Manifest::decode(&bytes, 6, 2).is_err() && Manifest::decode(&bytes, 5, 3).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut rotten = bytes.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&rotten, 5, 2).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_directory_keeps_its_secret_and_says_what_to_do_about_another_number_of_shards() {
        let disk = FaultDisk::new(1);
        let on = |config: &FolderConfig| {
            Folder::on(Path::new("/x/utxo"), Box::new(disk.clone()), config)
        };
        let first = on(&CONFIG).expect("made");
        let again = on(&FolderConfig { secret: [9; 16], ..CONFIG }).expect("opened");
        assert_eq!(again.secret(), [7; 16], "the secret is drawn once");
        assert_eq!(first.index_key(1), again.index_key(1));
        assert_ne!(first.index_key(0), first.index_key(1));
        let error = on(&FolderConfig { shards: 3, ..CONFIG }).expect_err("two shards").to_string();
        let way_out = "run `metanode utxo reshard /x/utxo --shards 3`";
        assert!(
            error.contains("opening /x/utxo: it has 2 shards, expected 3")
                && error.contains(way_out),
            "{error}"
        );
    }

    #[test]
    fn another_version_and_a_damaged_header_are_named() {
        let disk = FaultDisk::new(1);
        let on = || Folder::on(Path::new("/x/utxo"), Box::new(disk.clone()), &CONFIG);
        on().expect("made");
        disk.flip(Path::new(HEADER), 8, 1);
        let error = on().expect_err("version 3").to_string();
        assert!(
            error.contains("opening /x/utxo")
                && error.contains("version 3 of the data directory, expected version 1")
                && error.contains("run the program that wrote it, or `mv /x/utxo /x/utxo.old`"),
            "{error}"
        );
        disk.flip(Path::new(HEADER), 8, 1);
        disk.flip(Path::new(HEADER), 30, 1);
        assert!(on().expect_err("damaged").to_string().contains("checksum"));
    }

    #[test]
    fn a_second_process_is_told_who_has_the_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Folder::open(folder.path(), &CONFIG).expect("made");
        let error = Folder::open(folder.path(), &CONFIG).expect_err("in use").to_string();
        assert!(error.contains(&format!("kill {}", std::process::id())), "{error}");
        assert_eq!(Folder::shards_of(folder.path()).expect("readable"), Some(2));
        drop(first);
        Folder::open(folder.path(), &CONFIG).expect("free again");
    }
}
