//! The thread `epoch`: closes epochs over all shards, and whoever waits for one.
//!
//! In: what each shard says of its journal (`shard_epoch`), who waits, and whether a block is under way. Out: the next epoch to every
//! shard (`epoch_shard`), complete epochs to pack (`epoch_pack`) and to everybody who holds a [`Journals`], checkpoints named in the
//! manifest. The rules are those of [`dataplane::epochs`]; here are the links, the clock and the files. An idle node closes no epochs,
//! and the thread sleeps.
//!
//! *What was acknowledged* needs no number: a decision is never in a later epoch than the one that is open when its verdict is read, so
//! whoever waits for that one waits long enough.

use crate::config::value::Durability;
use crate::node::EpochEnds;
use crate::node::publish_now;
use crate::room::FREE_BYTES_MIN;
use dataplane::epochs::{BEHIND_MAX, Epochs};
use dataplane::msg::admin::{Admin, AdminReply, JournalHealth};
use dataplane::msg::batch::BatchWriter;
use dataplane::msg::pack_control::PackCommand;
use dataplane::msg::{BatchReader, Context, Epoch};
use dataplane::topo::ExternalIn;
use ring::park::Waker;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use utxo_shard::{Folder, FolderError, LastWords, SlotEntry, slot_entry};

/// How long the thread sleeps if nobody wakes it.
const PARK: Duration = Duration::from_millis(100);
/// How soon it looks again at an epoch that is due and cannot be closed yet.
const BLOCKED: Duration = Duration::from_millis(1);
/// How long it yields before it sleeps: under load the next word of a shard is close.
const YIELD: Duration = Duration::from_micros(50);
/// Longest time a block waits for the one before it to be on disk, and a stopping node for its last epoch.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest time somebody waits for a checkpoint that he asked for: tens of gigabytes take minutes.
const CHECKPOINT_MAX: Duration = Duration::from_secs(600);
/// How soon a manifest is written again that found no room.
const NAME_AGAIN: Duration = Duration::from_millis(250);
/// How often somebody who blocks looks whether it is so.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Why something is not known to be on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotKept {
    /// There is no room on the disk; what is logged waits in memory.
    #[error(
        "the disk of the journal is full; make room in the data directory, and the node goes on by itself"
    )]
    DiskFull,
    /// A journal cannot be written.
    #[error("the journal cannot be written any more: {what}")]
    Failed {
        /// What happened, and what to do.
        what: String,
    },
    /// The file system is nearly full.
    #[error(
        "less than {} MiB are free in {}; make room, and the node goes on by itself",
        FREE_BYTES_MIN >> 20,
        directory.display()
    )]
    NoRoom {
        /// The data directory.
        directory: PathBuf,
    },
    /// Bytes of accepted transactions wait in memory.
    #[error("{what}; accepted transactions wait in memory, and no more are taken: see to the disk")]
    Pool {
        /// What was tried, and what the system said.
        what: String,
    },
    /// It takes too long.
    #[error("epoch {epoch} was not on disk within {} s; see to the disk", WAIT_MAX.as_secs())]
    Slow {
        /// Which.
        epoch: u64,
    },
    /// A checkpoint takes too long.
    #[error("no checkpoint as of epoch {epoch} within {} s; see to the disk", CHECKPOINT_MAX.as_secs())]
    NoCheckpoint {
        /// Which.
        epoch: u64,
    },
    /// The node promises nothing.
    #[error(
        "this node runs with --durability {setting}: it promises nothing; start it with --durability epoch"
    )]
    NoPromise {
        /// How it runs.
        setting: String,
    },
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

#[derive(Debug)]
struct Shared {
    setting: Durability,
    incarnation: u32,
    /// The epoch that is open; written under `held`.
    open: AtomicU64,
    /// Somebody waits for this epoch.
    wanted: AtomicU64,
    /// Somebody waits for a checkpoint as of this epoch or a later one.
    checkpoint_wanted: AtomicU64,
    /// The newest that the manifest names of this run.
    checkpointed: watch::Sender<u64>,
    /// A block is under way: no epoch is opened.
    held: Mutex<bool>,
    complete: watch::Sender<u64>,
    health: watch::Sender<Option<NotKept>>,
    ended: AtomicBool,
    waker: Waker,
}

/// What the journals have. Clones speak of the same.
#[derive(Clone, Debug)]
pub struct Journals {
    shared: Arc<Shared>,
}

/// An epoch that stays open as long as this is held: a block is under way.
#[derive(Debug)]
pub(crate) struct Held {
    journals: Journals,
    epoch: Epoch,
    is_abandoned: bool,
}

impl Held {
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What was begun is not whole and never will be: the epoch never ends, so no restart sees it.
    pub(crate) fn abandon(mut self) {
        self.is_abandoned = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_abandoned {
            *self.journals.held() = false;
            self.journals.want(self.epoch.number);
        }
    }
}

impl Journals {
    fn held(&self) -> MutexGuard<'_, bool> {
        self.shared.held.lock().expect("no holder of this lock panics")
    }

    fn want(&self, epoch: u64) {
        // Release: whoever closes it sees what was done before.
        self.shared.wanted.fetch_max(epoch, Ordering::Release);
        self.shared.waker.wake_if_parked();
    }

    /// How the node runs.
    pub fn setting(&self) -> Durability {
        self.shared.setting
    }

    /// The newest epoch that is on disk in every shard.
    pub fn complete(&self) -> u64 {
        *self.shared.complete.borrow()
    }

    /// The epoch that is open.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Acquire)
    }

    /// What is wrong with a journal, now and whenever that changes.
    pub fn health(&self) -> watch::Receiver<Option<NotKept>> {
        self.shared.health.subscribe()
    }

    /// What is wrong now.
    pub fn trouble(&self) -> Option<NotKept> {
        self.shared.health.borrow().clone()
    }

    /// Returns once everything that was acknowledged before the call is on disk in every shard.
    pub async fn kept(&self) -> Result<(), NotKept> {
        if self.shared.setting != Durability::Epoch {
            let setting = crate::config::value::Value::show(&self.shared.setting);
            return Err(NotKept::NoPromise { setting });
        }
        let epoch = self.open();
        let (mut complete, mut health) = (self.shared.complete.subscribe(), self.health());
        self.want(epoch);
        let waited = tokio::time::timeout(WAIT_MAX, async {
            tokio::select! {
                biased;
                done = complete.wait_for(|complete| *complete >= epoch) => {
                    done.map(drop).map_err(|_| NotKept::Stopping)
                }
                trouble = health.wait_for(Option::is_some) => {
                    Err(trouble.ok().and_then(|t| (*t).clone()).unwrap_or(NotKept::Stopping))
                }
            }
        });
        waited.await.unwrap_or(Err(NotKept::Slow { epoch }))
    }

    /// Has a checkpoint taken of all that was accepted before the call, beside the node's work, and returns its epoch once it is named.
    pub async fn checkpoint(&self) -> Result<u64, NotKept> {
        let epoch = self.open();
        let (mut named, mut health) = (self.shared.checkpointed.subscribe(), self.health());
        // Release: whoever orders it sees what was done before.
        self.shared.checkpoint_wanted.fetch_max(epoch, Ordering::Release);
        self.shared.waker.wake_if_parked();
        let waited = tokio::time::timeout(CHECKPOINT_MAX, async {
            tokio::select! {
                biased;
                done = named.wait_for(|named| *named >= epoch) => {
                    done.map(|named| *named).map_err(|_| NotKept::Stopping)
                }
                trouble = health.wait_for(Option::is_some) => {
                    Err(trouble.ok().and_then(|t| (*t).clone()).unwrap_or(NotKept::Stopping))
                }
            }
        });
        waited.await.unwrap_or(Err(NotKept::NoCheckpoint { epoch }))
    }

    /// Blocks until an epoch is on disk in every shard.
    pub(crate) fn wait_for(&self, epoch: u64) -> Result<(), NotKept> {
        let began = Instant::now();
        self.want(epoch);
        while self.complete() < epoch {
            if let Some(trouble) = self.trouble() {
                return Err(trouble);
            }
            if self.shared.ended.load(Ordering::Acquire) {
                return Err(NotKept::Stopping);
            }
            if began.elapsed() > WAIT_MAX {
                return Err(NotKept::Slow { epoch });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Keeps the open epoch open until the answer is dropped.
    pub(crate) fn hold(&self) -> Held {
        let mut held = self.held();
        assert!(!*held, "one block at a time");
        *held = true;
        let number = self.open();
        drop(held);
        let epoch = Epoch { incarnation: self.shared.incarnation, number };
        Held { journals: self.clone(), epoch, is_abandoned: false }
    }
}

/// The running thread; ends when dropped.
#[derive(Debug)]
pub(crate) struct EpochThread {
    journals: Journals,
    thread: Option<JoinHandle<()>>,
}

impl EpochThread {
    /// Everything that was acknowledged is on disk before this returns, if that can be, and the journals say that it is.
    pub(crate) fn flush(&self) {
        for _ in 0..2 {
            if let Err(error) = self.journals.wait_for(self.journals.open()) {
                tracing::error!("stopping: {error}");
                return;
            }
        }
    }
}

impl Drop for EpochThread {
    fn drop(&mut self) {
        self.journals.shared.ended.store(true, Ordering::Release);
        self.journals.shared.waker.wake_if_parked();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that closes epochs panicked");
        }
    }
}

fn failed_for(why: &dyn std::fmt::Display) -> String {
    format!("{why}; what was acknowledged as durable is safe: see to the disk, then restart")
}

/// The numbers of [`Admin::Together`].
type Together = (u64, u64, u64);

struct Worker {
    ends: EpochEnds,
    folder: Folder,
    epochs: Epochs,
    shared: Arc<Shared>,
    began: Instant,
    /// What each shard was told last: the open epoch, and how far all are.
    told: Vec<(u64, Option<Together>)>,
    pack_told: u64,
    /// Of each shard, why its files failed.
    last_words: Vec<LastWords>,
    /// The manifest could not be written, and when that was.
    unnamed: Option<(NotKept, Instant)>,
}

/// Starts it. Every shard is in `open`.
pub(crate) fn start(
    setting: Durability,
    period: Duration,
    ends: EpochEnds,
    folder: Folder,
    last_words: Vec<LastWords>,
    open: Epoch,
) -> std::io::Result<(Journals, EpochThread)> {
    let shards = ends.epoch_shard.len();
    let epochs = Epochs::new(period.as_nanos() as u64, shards, open);
    let shared = Arc::new(Shared {
        setting,
        incarnation: open.incarnation,
        open: AtomicU64::new(open.number),
        wanted: AtomicU64::new(0),
        checkpoint_wanted: AtomicU64::new(0),
        checkpointed: watch::Sender::new(0),
        held: Mutex::new(false),
        complete: watch::Sender::new(epochs.complete().number),
        health: watch::Sender::new(None),
        ended: AtomicBool::new(false),
        waker: ends.parker.waker(),
    });
    let told = vec![(open.number, None); shards];
    let worker = Worker {
        ends,
        folder,
        epochs,
        shared: Arc::clone(&shared),
        began: Instant::now(),
        told,
        pack_told: 0,
        last_words,
        unnamed: None,
    };
    let journals = Journals { shared };
    let thread =
        std::thread::Builder::new().name("epoch".to_owned()).spawn(move || worker.run())?;
    Ok((journals.clone(), EpochThread { journals, thread: Some(thread) }))
}

impl Worker {
    fn run(mut self) {
        let mut idle_since: Option<Instant> = None;
        while !self.shared.ended.load(Ordering::Acquire) {
            let mut busy = self.hear();
            let asked = self.shared.checkpoint_wanted.load(Ordering::Acquire);
            busy |= self.epochs.order_checkpoint(asked);
            busy |= self.install();
            busy |= self.open_next();
            let starved = self.tell();
            if busy {
                idle_since = None;
                continue;
            }
            let now = Instant::now();
            if now - *idle_since.get_or_insert(now) < YIELD {
                std::thread::yield_now();
                continue;
            }
            let due = self.epochs.due_ns().map(|due| {
                let now_ns = self.began.elapsed().as_nanos() as u64;
                Duration::from_nanos(due.saturating_sub(now_ns))
            });
            let timeout = match due {
                _ if starved => YIELD,
                // Held by a block, or the disk is behind: whoever ends that wakes this thread.
                Some(due) if due.is_zero() => BLOCKED,
                due => due.unwrap_or(PARK).min(PARK),
            };
            let (shared, inputs) = (&self.shared, &self.ends.shard_epoch);
            let open = self.epochs.open().number;
            let may_open = open - self.epochs.complete().number <= BEHIND_MAX
                && self.epochs.health() != JournalHealth::Failed;
            self.ends.parker.park(timeout, || {
                let wanted = shared.wanted.load(Ordering::Acquire) >= open;
                let is_held = || *shared.held.lock().expect("no holder of this lock panics");
                shared.ended.load(Ordering::Acquire)
                    || shared.checkpoint_wanted.load(Ordering::Acquire) > asked
                    || inputs.iter().any(ExternalIn::has_next)
                    || wanted && may_open && !is_held()
            });
        }
    }

    /// What the shards say.
    fn hear(&mut self) -> bool {
        let Self { ends, epochs, .. } = self;
        let (mut heard, mut more) = (false, false);
        for (shard, input) in ends.shard_epoch.iter_mut().enumerate() {
            while let Some(frag) = input.poll() {
                let mut batch = BatchReader::new(frag.bytes).expect("shard_epoch carries batches");
                while let Some(AdminReply::Epochs { at }) = batch.next_item() {
                    more |= epochs.hear(shard, at);
                }
                assert!(batch.is_done(), "shard_epoch carries what shards say of epochs");
                heard = true;
            }
            input.return_credit();
        }
        if more {
            self.shared.complete.send_replace(epochs.complete().number);
        }
        if heard {
            self.say();
        }
        heard
    }

    /// What is wrong with journals and manifest, for everybody who asks.
    fn say(&self) {
        let unnamed = self.unnamed.as_ref().map(|(why, _)| why.clone());
        let trouble = match self.epochs.health() {
            JournalHealth::Good => unnamed,
            JournalHealth::DiskFull => match unnamed {
                Some(NotKept::Failed { .. }) => unnamed,
                _ => Some(NotKept::DiskFull),
            },
            JournalHealth::Failed => {
                // A shard says that it failed after it has said why.
                let why = self.last_words.iter().find_map(|words| words.get());
                let what =
                    why.map_or_else(|| failed_for(&"a write or a sync failed"), Clone::clone);
                Some(NotKept::Failed { what })
            }
        };
        let changed = self.shared.health.send_if_modified(|now| {
            // A failure is for good.
            let changed = *now != trouble && !matches!(now, Some(NotKept::Failed { .. }));
            if changed {
                now.clone_from(&trouble);
            }
            changed
        });
        match trouble {
            Some(trouble) if changed => tracing::error!("{trouble}"),
            None if changed => tracing::info!("the journal can be written again"),
            _ => {}
        }
    }

    /// Names checkpoints that all have written.
    fn install(&mut self) -> bool {
        let Some((epoch, entries)) = self.epochs.to_install() else { return false };
        let tried = self.unnamed.as_ref().map(|(_, when)| when.elapsed());
        if tried.is_some_and(|ago| ago < NAME_AGAIN) {
            return false;
        }
        let slots: Vec<SlotEntry> = entries.into_iter().map(slot_entry).collect();
        let done = self.folder.install(epoch, &slots);
        let why = |error: FolderError| match error.is_full() {
            true => NotKept::DiskFull,
            false => NotKept::Failed { what: failed_for(&error) },
        };
        let is_named = done.is_ok();
        self.unnamed = done.err().map(|error| (why(error), Instant::now()));
        if is_named {
            self.epochs.set_installed(epoch);
            self.shared.checkpointed.send_replace(epoch);
        }
        self.say();
        is_named
    }

    fn open_next(&mut self) -> bool {
        let held = self.shared.held.lock().expect("no holder of this lock panics");
        let now_ns = self.began.elapsed().as_nanos() as u64;
        let wanted = self.shared.wanted.load(Ordering::Acquire);
        let Some(epoch) = self.epochs.next(now_ns, wanted, *held) else { return false };
        // Before any shard can act in it: who reads a verdict later reads this or more.
        self.shared.open.store(epoch.number, Ordering::Release);
        true
    }

    /// Tells everybody what has changed; true if somebody has no room.
    fn tell(&mut self) -> bool {
        let mut starved = false;
        let together = self.epochs.together();
        let Admin::Together { complete, checkpoint, installed } = together else {
            unreachable!("that is what it is");
        };
        let (open, numbers) = (self.epochs.open(), Some((complete, checkpoint, installed)));
        for (out, told) in self.ends.epoch_shard.iter_mut().zip(&mut self.told) {
            if *told == (open.number, numbers) {
                continue;
            }
            let mut buffer = [0; 128];
            let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), Context::default());
            let mut fits = told.1 == numbers || batch.push(&together);
            fits &= told.0 == open.number || batch.push(&Admin::NextEpoch { epoch: open });
            assert!(fits, "two orders fit");
            let len = batch.finish();
            if publish_now(out, 0, &buffer[..len]) {
                *told = (open.number, numbers);
            } else {
                starved = true;
            }
        }
        if self.pack_told < complete {
            let command = PackCommand::EpochComplete { epoch: self.epochs.complete() };
            let mut buffer = [0; 32];
            let len = command.encode(&mut buffer).expect("an epoch fits");
            let sig = u64::from(command.tag());
            let sent =
                self.ends.epoch_pack.iter_mut().all(|out| publish_now(out, sig, &buffer[..len]));
            if sent {
                self.pack_told = complete;
            } else {
                starved = true;
            }
        }
        starved
    }
}
