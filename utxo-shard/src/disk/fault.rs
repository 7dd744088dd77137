//! A disk in memory that fails in every way a disk can, from one seed.
//!
//! What is written is seen at once by whoever reads, and is on the disk only once it was synced: a file by [`Op::Sync`], a name by
//! [`Op::SyncDir`]. [`FaultDisk::crash`] is a power failure: of what was not synced any part may be there, writes in any
//! order, single sectors of a write, cuts undone, names old or new; every handle is dead from then on, and
//! [`FaultDisk::reopen`] gives one to what is left. [`Faults`] says what else goes wrong: full disks, short writes, errors, and at
//! a crash a flipped bit or a sync that was a lie. Operations are done when they are polled, in an order that the seed picks.

use super::{Disk, Done, FileId, OPS_MAX, Op};
use dataplane::rng::Rng;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

/// What is written to a disk whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// What goes wrong. Chances are one in so many; 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A write takes a part of its bytes.
    pub short_write: u32,
    /// A write fails, and nothing is written.
    pub write_error: u32,
    /// A sync fails, and what it was for may never reach the disk.
    pub sync_error: u32,
    /// A crash flips one bit of what is synced, in some file whose name contains [`Faults::rot_in`].
    pub rot: u32,
    /// Where bits flip.
    pub rot_in: &'static str,
    /// Syncs that do nothing: the power failure shows it. Breaks what no engine can keep; for planted bugs.
    pub lying_sync: u32,
    /// Cuts are never undone by a crash.
    pub cuts_hold: bool,
    /// Most bytes in all files; 0 is no bound.
    pub capacity_bytes: u64,
    /// The power fails after so many operations; 0 is never.
    pub crash_after: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    /// As it is read.
    seen: Vec<u8>,
    /// As it is on the disk for certain.
    synced: Vec<u8>,
    /// What came after.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(PathBuf, usize),
    Unset(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug)]
struct World {
    rng: Rng,
    faults: Faults,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    /// Grows with every crash; handles of an earlier life are dead.
    life: u32,
    dead: bool,
    ops: u64,
    syncs: u64,
    written_bytes: u64,
}

/// A handle. Clones share the disk, each with its own files and operations under way.
#[derive(Debug)]
pub struct FaultDisk {
    world: Arc<Mutex<World>>,
    life: u32,
    open: HashMap<FileId, usize>,
    under_way: Vec<Op>,
}

fn power() -> io::Error {
    io::Error::other("the power failed")
}

impl World {
    fn chance(&mut self, one_in: u32) -> bool {
        one_in > 0 && self.rng.below(u64::from(one_in)) == 0
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|&inode| self.inodes[inode].seen.len() as u64).sum()
    }

    fn has_room(&self, more: u64) -> bool {
        self.faults.capacity_bytes == 0 || self.used_bytes() + more <= self.faults.capacity_bytes
    }

    fn crash(&mut self) {
        self.life += 1;
        self.dead = false;
        let changes = std::mem::take(&mut self.name_changes);
        // Names reach the disk in the order they were made, up to some point.
        let kept = self.rng.index(changes.len() + 1);
        for change in changes.into_iter().take(kept) {
            apply_name(&mut self.synced_names, change);
        }
        self.names = self.synced_names.clone();
        for at in 0..self.inodes.len() {
            let mut inode = std::mem::take(&mut self.inodes[at]);
            let Self { rng, faults, .. } = self;
            let mut disk = std::mem::take(&mut inode.synced);
            for change in &inode.changes {
                lose(rng, faults, &mut disk, change);
            }
            inode = Inode { seen: disk.clone(), synced: disk, changes: Vec::new() };
            self.inodes[at] = inode;
        }
        if self.chance(self.faults.rot) {
            let names = &self.names;
            let rotting: Vec<usize> = names
                .iter()
                .filter(|(path, _)| path.to_string_lossy().contains(self.faults.rot_in))
                .map(|(_, &inode)| inode)
                .filter(|&inode| !self.inodes[inode].seen.is_empty())
                .collect();
            if !rotting.is_empty() {
                let inode = rotting[self.rng.index(rotting.len())];
                let bit = self.rng.index(self.inodes[inode].seen.len() * 8);
                let Inode { seen, synced, .. } = &mut self.inodes[inode];
                for bytes in [seen, synced] {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
        }
    }
}

/// What a power failure leaves of one change that was not synced.
fn lose(rng: &mut Rng, faults: &Faults, disk: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Len(len) => {
            let cut = (*len as usize) < disk.len();
            if rng.chance(1, 2) || (cut && faults.cuts_hold) {
                disk.resize(*len as usize, 0);
            }
        }
        Change::Write(at, bytes) => {
            let at = *at as usize;
            match rng.below(4) {
                0 => {}
                1 | 2 => write_to(disk, at, bytes),
                _ => {
                    // Some of its sectors.
                    let mut from = 0;
                    while from < bytes.len() {
                        let end = ((at + from) / SECTOR_BYTES + 1) * SECTOR_BYTES - at;
                        let end = end.min(bytes.len());
                        if rng.chance(1, 2) {
                            write_to(disk, at + from, &bytes[from..end]);
                        }
                        from = end;
                    }
                }
            }
        }
    }
}

fn write_to(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, change: NameChange) {
    match change {
        NameChange::Set(path, inode) => drop(names.insert(path, inode)),
        NameChange::Unset(path) => drop(names.remove(&path)),
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
    }
}

fn folder_of(change: &NameChange) -> &Path {
    let (NameChange::Set(path, _) | NameChange::Unset(path) | NameChange::Rename(_, path)) = change;
    path.parent().unwrap_or(Path::new(""))
}

impl FaultDisk {
    /// An empty disk on which nothing goes wrong but power failures.
    pub fn new(seed: u64) -> Self {
        let world = World {
            rng: Rng::new(seed),
            faults: Faults::default(),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            name_changes: Vec::new(),
            life: 0,
            dead: false,
            ops: 0,
            syncs: 0,
            written_bytes: 0,
        };
        Self::of(Arc::new(Mutex::new(world)), 0)
    }

    fn of(world: Arc<Mutex<World>>, life: u32) -> Self {
        Self { world, life, open: HashMap::new(), under_way: Vec::new() }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut world = self.world();
        let after = if faults.crash_after == 0 { 0 } else { world.ops + faults.crash_after };
        world.faults = Faults { crash_after: after, ..faults };
    }

    /// The power fails: see the module. Handles are dead.
    pub fn crash(&self) {
        self.world().crash();
    }

    /// A handle to what is left.
    pub fn reopen(&self) -> Self {
        let mut world = self.world();
        if world.dead {
            world.crash();
        }
        world.faults.crash_after = 0;
        let life = world.life;
        drop(world);
        Self::of(self.world.clone(), life)
    }

    /// Whether the power has failed since this handle was made, or is failing.
    pub fn is_dead(&self) -> bool {
        let world = self.world();
        world.dead || world.life != self.life
    }

    /// Operations done so far, syncs among them, bytes written.
    pub fn tally(&self) -> (u64, u64, u64) {
        let world = self.world();
        (world.ops, world.syncs, world.written_bytes)
    }

    /// A sum over the names and bytes of all files as they are read; for tests of who must not write.
    pub fn digest(&self) -> u64 {
        let world = self.world();
        let mut bytes = Vec::new();
        for (name, &inode) in &world.names {
            bytes.extend_from_slice(name.as_os_str().as_encoded_bytes());
            bytes.extend_from_slice(&xxh3_64(&world.inodes[inode].seen).to_le_bytes());
        }
        xxh3_64(&bytes)
    }

    /// Flips a bit of a file, on the disk and as it is read; for tests that break one thing.
    pub fn flip(&self, path: &Path, byte: usize, bit: u8) {
        let mut world = self.world();
        let inode = world.names[path];
        let inode = &mut world.inodes[inode];
        inode.seen[byte] ^= 1 << bit;
        if let Some(synced) = inode.synced.get_mut(byte) {
            *synced ^= 1 << bit;
        }
    }

    /// A whole file, and puts one in its place; for tests that bring back what was there before.
    pub fn swap(&self, path: &Path, new: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let mut world = self.world();
        let inode = *world.names.get(path)?;
        let inode = &mut world.inodes[inode];
        let old = inode.seen.clone();
        if let Some(new) = new {
            *inode = Inode { seen: new.clone(), synced: new, changes: Vec::new() };
        }
        Some(old)
    }

    fn act(&mut self, op: &mut Op) -> io::Result<usize> {
        let mut guard = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let world = &mut *guard;
        if world.dead || world.life != self.life {
            return Err(power());
        }
        world.ops += 1;
        if world.faults.crash_after > 0 && world.ops >= world.faults.crash_after {
            world.dead = true;
        }
        let closed = || io::Error::new(io::ErrorKind::NotFound, "no file of this number is open");
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let result = match op {
            Op::Create { file, path, room_bytes } => {
                if !world.has_room(*room_bytes) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let inode = world.inodes.len();
                let mut made = Inode::default();
                if *room_bytes > 0 {
                    made.seen.resize(*room_bytes as usize, 0);
                    made.changes.push(Change::Len(*room_bytes));
                }
                world.inodes.push(made);
                world.names.insert(path.clone(), inode);
                world.name_changes.push(NameChange::Set(path.clone(), inode));
                self.open.insert(*file, inode);
                Ok(0)
            }
            Op::Open { file, path } => {
                let inode = *world.names.get(path).ok_or_else(missing)?;
                self.open.insert(*file, inode);
                Ok(0)
            }
            Op::Close { file } => {
                self.open.remove(file);
                Ok(0)
            }
            Op::Write { file, at, bytes, from } => {
                let inode = *self.open.get(file).ok_or_else(closed)?;
                let mut new = &bytes[*from..];
                if world.chance(world.faults.write_error) {
                    return Err(io::Error::other("the disk failed to write"));
                }
                if world.chance(world.faults.short_write) && new.len() > 1 {
                    let most = 1 + world.rng.index(new.len() - 1);
                    new = &new[..most];
                }
                let end = *at + new.len() as u64;
                let more = end.saturating_sub(world.inodes[inode].seen.len() as u64);
                if !world.has_room(more) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                world.written_bytes += new.len() as u64;
                let inode = &mut world.inodes[inode];
                write_to(&mut inode.seen, *at as usize, new);
                inode.changes.push(Change::Write(*at, new.to_vec()));
                Ok(new.len())
            }
            Op::Read { file, at, bytes } => {
                let inode = *self.open.get(file).ok_or_else(closed)?;
                let seen = &world.inodes[inode].seen;
                let at = (*at as usize).min(seen.len());
                let n = bytes.len().min(seen.len() - at);
                bytes[..n].copy_from_slice(&seen[at..at + n]);
                Ok(n)
            }
            Op::Sync { file } => {
                let inode = *self.open.get(file).ok_or_else(closed)?;
                world.syncs += 1;
                let lies = world.chance(world.faults.lying_sync);
                let fails = world.chance(world.faults.sync_error);
                let inode = &mut world.inodes[inode];
                if fails {
                    // As Linux does: the pages count as clean, and what they held may never be written.
                    let kept = inode.changes.len() / 2;
                    inode.changes.truncate(kept);
                    return Err(io::Error::other("the disk failed to sync"));
                }
                if !lies {
                    inode.synced.clone_from(&inode.seen);
                    inode.changes.clear();
                }
                Ok(0)
            }
            Op::Truncate { path, len } => {
                let inode = *world.names.get(path).ok_or_else(missing)?;
                let inode = &mut world.inodes[inode];
                let before = inode.seen.len() as u64;
                inode.seen.resize(*len as usize, 0);
                if *len < before && !world.faults.cuts_hold && world.rng.chance(1, 8) {
                    // A cut that says it is done and is not: the stale tail is there after a power failure.
                    inode.changes.push(Change::Len(*len));
                } else {
                    inode.synced.clone_from(&inode.seen);
                    inode.changes.clear();
                }
                Ok(0)
            }
            Op::Rename { from, to } => {
                let inode = world.names.remove(from).ok_or_else(missing)?;
                world.names.insert(to.clone(), inode);
                world.name_changes.push(NameChange::Rename(from.clone(), to.clone()));
                Ok(0)
            }
            Op::Remove { path } => {
                world.names.remove(path).ok_or_else(missing)?;
                world.name_changes.push(NameChange::Unset(path.clone()));
                Ok(0)
            }
            Op::SyncDir { path } => {
                let changes = std::mem::take(&mut world.name_changes);
                for change in changes {
                    if folder_of(&change) == path {
                        apply_name(&mut world.synced_names, change);
                    } else {
                        world.name_changes.push(change);
                    }
                }
                Ok(0)
            }
        };
        if world.dead { Err(power()) } else { result }
    }
}

impl Clone for FaultDisk {
    fn clone(&self) -> Self {
        Self::of(self.world.clone(), self.life)
    }
}

impl Disk for FaultDisk {
    fn submit(&mut self, op: Op) -> Result<(), Op> {
        if self.under_way.len() == OPS_MAX {
            return Err(op);
        }
        self.under_way.push(op);
        Ok(())
    }

    fn poll(&mut self) -> Option<Done> {
        if self.under_way.is_empty() {
            return None;
        }
        let next = {
            let under_way = self.under_way.len();
            self.world().rng.index(under_way)
        };
        let mut op = self.under_way.remove(next);
        let result = self.act(&mut op);
        Some(Done { op, result })
    }

    fn wait(&mut self) {}

    fn list(&mut self, folder: &Path) -> io::Result<Vec<(String, u64)>> {
        let world = self.world();
        if world.dead || world.life != self.life {
            return Err(power());
        }
        let within = world.names.iter().filter(|(path, _)| path.parent() == Some(folder));
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(within.map(|(p, &i)| (name(p), world.inodes[i].seen.len() as u64)).collect())
    }

    fn another(&self) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(self.clone()))
    }

    fn kind(&self) -> &'static str {
        "simulated"
    }
}

#[cfg(test)]
mod tests {
    use super::super::{read_file, replace_file, run, write_all};
    use super::*;

    const FILE: FileId = FileId(1);

    fn write(disk: &mut FaultDisk, at: u64, bytes: &[u8]) {
        write_all(disk, FILE, at, bytes.to_vec()).expect("written");
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_may_be_torn() {
        let (mut whole, mut gone, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let mut disk = FaultDisk::new(seed);
            run(&mut disk, Op::Create { file: FILE, path: "a".into(), room_bytes: 0 })
                .expect("new");
            write(&mut disk, 0, &[1; 1000]);
            run(&mut disk, Op::Sync { file: FILE }).expect("synced");
            run(&mut disk, Op::SyncDir { path: PathBuf::new() }).expect("synced");
            write(&mut disk, 1000, &[2; 3000]);
            disk.crash();
            assert!(run(&mut disk, Op::Sync { file: FILE }).is_err(), "the handle is dead");
            let mut disk = disk.reopen();
            let got = read_file(&mut disk, Path::new("a"), 9000).expect("there").expect("named");
            assert!(got[..1000] == [1; 1000], "seed {seed}");
            match got[1000..].iter().map(|&b| usize::from(b == 2)).sum::<usize>() {
                3000 => whole += 1,
                0 => gone += 1,
                _ => torn += 1,
            }
        }
        assert!(whole > 20 && gone > 20 && torn > 20, "{whole} whole, {gone} gone, {torn} torn");
    }

    #[test]
    fn a_file_replaced_by_rename_is_the_old_or_the_new_one_after_a_crash_at_any_moment() {
        let mut olds = 0;
        for after in 1..20 {
            for seed in 0..30 {
                let mut disk = FaultDisk::new(seed);
                replace_file(&mut disk, Path::new("m"), vec![1; 2000]).expect("replaced");
                disk.set_faults(Faults { crash_after: after, ..Faults::default() });
                let replaced = replace_file(&mut disk, Path::new("m"), vec![2; 2000]).is_ok();
                disk.crash();
                let mut disk = disk.reopen();
                let got = read_file(&mut disk, Path::new("m"), 9000).expect("readable");
                let got = got.expect("it never goes away");
                assert!(
                    got == vec![2; 2000] || (!replaced && got == vec![1; 2000]),
                    "{after} {seed}"
                );
                olds += usize::from(got[0] == 1);
            }
        }
        assert!(olds > 30, "{olds}");
    }

    #[test]
    fn the_same_seed_fails_the_same_way() {
        let run_once = || {
            let mut disk = FaultDisk::new(9);
            disk.set_faults(Faults { short_write: 2, ..Faults::default() });
            run(&mut disk, Op::Create { file: FILE, path: "a".into(), room_bytes: 0 })
                .expect("new");
            run(&mut disk, Op::SyncDir { path: PathBuf::new() }).expect("synced");
            for i in 0..50 {
                write(&mut disk, i * 700, &[i as u8; 700]);
            }
            disk.crash();
            disk.reopen().swap(Path::new("a"), None)
        };
        assert_eq!(run_once(), run_once());
    }

    #[test]
    fn a_full_disk_says_so_and_takes_more_once_there_is_room() {
        let mut disk = FaultDisk::new(1);
        disk.set_faults(Faults { capacity_bytes: 1000, ..Faults::default() });
        run(&mut disk, Op::Create { file: FILE, path: "a".into(), room_bytes: 0 }).expect("new");
        write(&mut disk, 0, &[1; 900]);
        let full = write_all(&mut disk, FILE, 900, vec![1; 200]).expect_err("no room");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        disk.set_faults(Faults::default());
        write(&mut disk, 900, &[1; 200]);
    }
}
