//! Recovery: from what the disk has to shards that go on. Design section 4, step 8.
//!
//! ```text
//! survey    every journal is read: how far is each whole? c is the last epoch that is whole in all of them
//! load      the checkpoint's pages, then the records of epochs behind it up to c, in every shard
//! cut       what is behind c goes, and that is synced; then the manifest names the new incarnation and c
//! mend      decisions whose spends were cut off are finished, blocks and evictions finished or undone (`mend`)
//! go on     a new segment for every shard; what was mended is in epoch c + 1
//! ```
//!
//! Nothing is cut that was ever known to be complete: frames say how far the epochs were complete when they were written, and a
//! journal that ends before that is damaged, which is an error with the place of the damage. A crash inside recovery begins again
//! from the same journals: what is cut is cut for good, and everything else counts only with the new manifest.

mod mend;
mod pool;
mod redo;
mod replay;
#[cfg(test)]
mod reshard_tests;
#[cfg(test)]
mod tests;

pub use mend::Mended;
pub(crate) use replay::inputs_of;

use crate::checkpoint::{Restore, Roots};
use crate::config::ShardConfig;
use crate::disk::{Disk, FileId, Op, run};
use crate::folder::{CUTS_MAX, Folder, FolderError, Manifest};
use crate::journal::{
    BLOCK_BYTES, BlockNote, Cuts, Expect, FrameAt, Frames, JOURNAL_VERSION, LogStart, NoRecord,
    Record, Records, Segment, Stop, Writer, WriterStart, segment_path, segments, shard_folder,
};
use crate::keeper::{Keeper, KeeperStart, Limits, Plant};
use crate::shard::{Counts, Shard};
use crate::slot::{SlotEntry, SlotFault, SlotName, read_slot, slot_path};
use consensus::hash::TxId;
use dataplane::msg::{Epoch, ParentSeq};
use dataplane::partition::Partition;
use mend::Mender;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Why shards cannot be made again from a data directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The system refused.
    #[error("recovering shard {shard}: {doing}: {source}; look at the disk, then start again")]
    Io {
        /// Which shard.
        shard: u16,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The manifest.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A journal lacks what was acknowledged.
    #[error(
        "the journal of shard {shard} is whole up to epoch {got}, but epoch {expected} was complete: \
         {file} is damaged at byte {at} ({why}); nothing was changed: restore the data directory from \
         a copy, or remove it and synchronise again"
    )]
    Lost {
        /// Which shard.
        shard: u16,
        /// How far it is whole.
        got: u64,
        /// How far it must be.
        expected: u64,
        /// Which file.
        file: String,
        /// Where in it.
        at: u64,
        /// What is there.
        why: String,
    },
    /// A checkpoint is not what was written.
    #[error(
        "the checkpoint of shard {shard} as of epoch {epoch} is damaged at byte {at} of {file}; nothing \
         was changed: restore the data directory from a copy, or remove it and synchronise again"
    )]
    Checkpoint {
        /// Which shard.
        shard: u16,
        /// As of when.
        epoch: u64,
        /// Which file of the directory.
        file: String,
        /// Where in it.
        at: u64,
    },
    /// The shard is smaller than what it held.
    #[error(
        "the checkpoint of shard {shard} needs more room than it is given ({slab_bytes} bytes, \
         {transactions} transactions); give it at least what it had before"
    )]
    TooSmall {
        /// Which shard.
        shard: u16,
        /// Bytes of its slab.
        slab_bytes: usize,
        /// Transactions it may hold.
        transactions: usize,
    },
    /// Journal and table do not belong together.
    #[error(
        "the journal of shard {shard}, epoch {epoch}, contradicts the table: {what}; if the shard was \
         made smaller, give it back what it had; otherwise restore the data directory from a copy"
    )]
    Contradiction {
        /// Which shard.
        shard: u16,
        /// The record's epoch.
        epoch: u64,
        /// What cannot be.
        what: &'static str,
    },
    /// A shard does not know the tip.
    #[error(
        "shard {shard} stands on a block of height {got}, the chain's record says {expected}; restore the \
         data directory from a copy, or remove it and synchronise again"
    )]
    Chain {
        /// Which shard.
        shard: u16,
        /// Height of its newest block.
        got: u32,
        /// Height of the tip.
        expected: u32,
    },
}

impl RecoverError {
    /// Whether the directory itself is what cannot be used, not the machine it is on; what is wrong with the folder says what to do.
    pub fn is_of_its_bytes(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Folder(_))
    }
}

/// An accepted transaction that is in no block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmined {
    /// Its home.
    pub shard: u16,
    /// Its place among its home's publications.
    pub publish_seq: u64,
    /// Its id.
    pub txid: TxId,
    /// Fee, satoshi.
    pub fee_sat: u64,
    /// What its unmined parents' homes had published when it was decided.
    pub parents: Vec<ParentSeq>,
    /// Raw format; empty where only the file of a disconnected block has it.
    pub raw: Vec<u8>,
}

/// What recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The last epoch that is complete everywhere: the state is as of its end.
    pub complete: u64,
    /// The checkpoint it was made from; 0 for none.
    pub checkpoint: u64,
    /// Records replayed.
    pub records: u64,
    /// Bytes of journal behind the cut.
    pub cut_bytes: u64,
    /// Frames of an incarnation that had ended before them.
    pub stale_frames: u64,
    /// What was finished or undone.
    pub mended: Mended,
    /// Transactions in no block.
    pub unmined: u64,
    /// Of those, the ones without bytes.
    pub unmined_without_bytes: u64,
}

impl std::fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mended { redone_spends, evicted, unmined, undone_spends, block } = self.mended;
        write!(
            f,
            "recovered as of epoch {}: checkpoint {}, {} records replayed, {} bytes cut, {} stale \
             frames passed over, {redone_spends} spends redone, {undone_spends} undone, {evicted} \
             transactions evicted, {unmined} back in the pool, block {block} settled, {} unmined",
            self.complete,
            self.checkpoint,
            self.records,
            self.cut_bytes,
            self.stale_frames,
            self.unmined
        )
    }
}

/// Shards that go on, and what was found on the way.
#[derive(Debug)]
pub struct Recovered {
    /// The shards, logging.
    pub shards: Vec<Shard>,
    /// One a shard.
    pub keepers: Vec<Keeper>,
    /// The epoch they are in.
    pub epoch: Epoch,
    /// Everything up to here is on the disk in every shard.
    pub complete: u64,
    /// The block that is the tip: it wins over any index.
    pub tip: Option<BlockNote>,
    /// The newest blocks of the chain, the tip last.
    pub chain: Vec<BlockNote>,
    /// The largest number that was given to a block.
    pub block_max: u32,
    /// Unmined transactions, parents before children.
    pub unmined: Vec<Unmined>,
    /// What was done.
    pub report: RecoveryReport,
}

/// Tables as a recovery would make them, of a data directory that was only looked at.
#[derive(Debug)]
pub struct Examined {
    /// The shards; they log nothing. What was mended is as of epoch `complete` + 1.
    pub shards: Vec<Shard>,
    /// How often the directory was opened.
    pub incarnation: u32,
    /// Everything up to here is on the disk in every shard.
    pub complete: u64,
    /// The newest blocks of the chain, the tip last.
    pub chain: Vec<BlockNote>,
    /// Unmined transactions, parents before children.
    pub unmined: Vec<Unmined>,
    /// What a recovery would do.
    pub report: RecoveryReport,
}

/// What was found in one shard's journal.
#[derive(Debug, Default)]
struct Survey {
    segments: Vec<(u64, u64)>,
    /// Epochs up to here are whole.
    closed: u64,
    /// Epochs up to here were complete everywhere, as its frames say.
    known: u64,
    first_epoch: Option<u64>,
    frames: Vec<Found>,
    stops: Vec<Stop>,
    stale: u64,
}

/// A frame that counts.
#[derive(Clone, Copy, Debug)]
struct Found {
    epoch: u64,
    /// The newest epoch that ends with it, or its own.
    last_epoch: u64,
    place: u64,
    at: FrameAt,
    incarnation: u32,
}

/// What is left of one shard's journal.
#[derive(Debug, Default)]
struct Cut {
    /// Segments and the bytes of each that count.
    segments: Vec<(u64, u64)>,
    /// Segments of which something goes, and what stays of each: nothing where the segment goes.
    shortened: Vec<(u64, Option<u64>)>,
    older: Vec<Segment>,
    next_segment: u64,
    next_place: u64,
    bytes: u64,
}

/// Why a record could not be done again.
enum Stopped {
    Cannot(&'static str),
}

impl From<NoRecord> for Stopped {
    fn from(_: NoRecord) -> Self {
        Self::Cannot("a frame without records that this version knows")
    }
}

/// What all journals together have.
#[derive(Debug)]
struct Tables {
    ground: Ground,
    surveys: Vec<Survey>,
    complete: u64,
    cuts: Vec<Cut>,
    report: RecoveryReport,
}

/// What every shard's part of the work needs to know.
#[derive(Clone, Debug)]
struct Ground {
    folder: u32,
    shards: u16,
    manifest: Manifest,
}

impl Folder {
    fn ground(&self) -> Ground {
        let (folder, shards) = (self.folder, self.shards());
        Ground { folder, shards, manifest: self.manifest.clone() }
    }

    /// Makes the shards again. Their partition is made from [`Folder::secret`]; their index keys are replaced by the directory's.
    pub fn recover(
        &mut self,
        configs: &[ShardConfig],
        limits: &Limits,
    ) -> Result<Recovered, RecoverError> {
        assert!(configs.len() == usize::from(self.shards()), "a configuration for each shard");
        let found = self.survey(limits)?;
        let incarnation = self.manifest.incarnation + 1;
        let mut report = found.report.clone();
        let mut shards = self.tables(configs, limits, &found, incarnation, &mut report)?;
        // Everything could be read: from here on something is changed.
        self.each_shard(limits, |disk, shard| {
            found.cuts[usize::from(shard)].carry_out(disk, shard)
        })?;
        self.begin_incarnation(found.complete, &found.surveys)?;
        let complete = found.complete;
        for (shard, cut) in shards.iter_mut().zip(&found.cuts) {
            shard.checkpoint_prepare(limits.copies_max);
            shard.start_log(&LogStart {
                shard: shard.number(),
                folder: self.folder,
                incarnation,
                epoch: complete + 1,
                place: cut.next_place,
                blocks: limits.log_blocks,
            });
        }
        let unmined = self.mend(&mut shards, &configs[0].partition, &found, limits, &mut report)?;
        let keepers = self.keepers(found.cuts, complete, limits)?;
        for shard in &mut shards {
            shard.counts = Counts::default();
        }
        let block_max = shards.iter().map(|shard| shard.block_max).max().unwrap_or(0);
        let chain: Vec<BlockNote> = shards[0].chain.iter().copied().collect();
        Ok(Recovered {
            shards,
            keepers,
            epoch: Epoch { incarnation, number: complete + 1 },
            complete,
            tip: chain.last().copied(),
            chain,
            block_max,
            unmined,
            report,
        })
    }

    /// The same without changing anything: the tables that a recovery would go on with, and what it would do.
    pub fn examine(
        &self,
        configs: &[ShardConfig],
        limits: &Limits,
    ) -> Result<Examined, RecoverError> {
        assert!(configs.len() == usize::from(self.shards()), "a configuration for each shard");
        let found = self.survey(limits)?;
        let incarnation = self.manifest.incarnation;
        let mut report = found.report.clone();
        let mut shards = self.tables(configs, limits, &found, incarnation, &mut report)?;
        let complete = found.complete;
        for shard in &mut shards {
            shard.epoch = Epoch { incarnation, number: complete + 1 };
        }
        let unmined = self.mend(&mut shards, &configs[0].partition, &found, limits, &mut report)?;
        let chain = shards[0].chain.iter().copied().collect();
        Ok(Examined { shards, incarnation, complete, chain, unmined, report })
    }

    /// The table of one shard as the checkpoint has it that the directory names, and of which epoch that is. What was under way when it
    /// was taken is not in it; decisions may still lack spends at other shards.
    pub fn checkpointed(&self, config: &ShardConfig) -> Result<(Shard, u64), RecoverError> {
        let shard = config.shard;
        let entry = self.manifest.slots[usize::from(shard)];
        let config = ShardConfig { index_key: self.index_key(shard), ..config.clone() };
        if entry.slot == 0 {
            return Ok((Shard::new(&config), 0));
        }
        let mut disk = self.disk.another().map_err(failed(shard, "opening its files"))?;
        let loaded = self.ground().load_slot(&mut *disk, &config, &entry)?;
        Ok((loaded, entry.epoch))
    }

    /// Bytes that one shard's checkpoint and its journal take.
    pub fn bytes_of(&self, shard: u16) -> Result<(u64, u64), RecoverError> {
        let mut disk = self.disk.another().map_err(failed(shard, "opening its files"))?;
        let journal = segments(&mut *disk, shard).map_err(failed(shard, "listing its journal"))?;
        let journal_bytes = journal.iter().map(|(_, bytes)| bytes).sum();
        Ok((self.manifest.slots[usize::from(shard)].bytes, journal_bytes))
    }

    /// What every journal has, judged by what counted before a new incarnation, and how far all go together.
    fn survey(&self, limits: &Limits) -> Result<Tables, RecoverError> {
        let ground = self.ground();
        let surveys = self.each_shard(limits, |disk, shard| ground.survey(disk, shard))?;
        let complete = ground.judge(&surveys)?;
        let own = limits.is_planted(Plant::OwnEpoch);
        let up_to = |survey: &Survey| if own { survey.closed } else { complete };
        let cuts: Vec<Cut> = surveys.iter().map(|survey| cut(survey, up_to(survey))).collect();
        let report = RecoveryReport {
            complete,
            checkpoint: self.manifest.checkpoint,
            stale_frames: surveys.iter().map(|survey| survey.stale).sum(),
            cut_bytes: cuts.iter().map(|cut| cut.bytes).sum(),
            ..RecoveryReport::default()
        };
        Ok(Tables { ground, surveys, complete, cuts, report })
    }

    /// Every shard's table as of the last complete epoch.
    fn tables(
        &self,
        configs: &[ShardConfig],
        limits: &Limits,
        found: &Tables,
        incarnation: u32,
        report: &mut RecoveryReport,
    ) -> Result<Vec<Shard>, RecoverError> {
        let Tables { ground, surveys, complete, cuts, .. } = found;
        let keys: Vec<_> = (0..self.shards()).map(|shard| self.index_key(shard)).collect();
        let loaded = self.each_shard(limits, |disk, shard| {
            let at = usize::from(shard);
            let epoch = Epoch { incarnation, number: (*complete).max(1) };
            let config = ShardConfig { shard, index_key: keys[at], epoch, ..configs[at].clone() };
            let own = limits.is_planted(Plant::OwnEpoch);
            let up_to = if own { surveys[at].closed } else { *complete };
            ground.load(disk, &config, &cuts[at], up_to)
        })?;
        report.records = loaded.iter().map(|(_, records)| records).sum();
        Ok(loaded.into_iter().map(|(shard, _)| shard).collect())
    }

    /// Finishes or undoes what was under way; gives what is in no block.
    fn mend(
        &self,
        shards: &mut [Shard],
        partition: &Partition,
        found: &Tables,
        limits: &Limits,
        report: &mut RecoveryReport,
    ) -> Result<Vec<Unmined>, RecoverError> {
        let partition = partition.clone();
        let threads = limits.threads;
        let mut mender = Mender { shards, partition, mended: Mended::default(), threads };
        mender.align_blocks()?;
        let kept = match limits.is_planted(Plant::NoRedo) {
            true => Vec::new(),
            false => self.redo(&mut mender, found)?,
        };
        let pool = mender.settle_blocks(&kept)?;
        report.mended = mender.mended;
        let unmined = pool::list(&pool, kept, threads);
        report.unmined = unmined.len() as u64;
        report.unmined_without_bytes = unmined.iter().filter(|tx| tx.raw.is_empty()).count() as u64;
        Ok(unmined)
    }

    /// The same for every shard, each with a handle of its own, at the same time if that is wanted.
    fn each_shard<T: Send>(
        &self,
        limits: &Limits,
        work: impl Fn(&mut dyn Disk, u16) -> Result<T, RecoverError> + Sync,
    ) -> Result<Vec<T>, RecoverError> {
        let mut disks = Vec::new();
        for shard in 0..self.shards() {
            disks.push(self.disk.another().map_err(failed(shard, "opening its files"))?);
        }
        let disks = (0..).zip(disks).collect();
        let done = side_by_side(disks, limits.threads, |(shard, mut disk)| work(&mut *disk, shard));
        done.into_iter().collect()
    }

    /// The manifest of a new incarnation, in which of the last one everything up to `complete` counts.
    fn begin_incarnation(&mut self, complete: u64, surveys: &[Survey]) -> Result<(), RecoverError> {
        let frames = surveys.iter().flat_map(|survey| &survey.frames);
        let alive: BTreeSet<u32> = frames.map(|frame| frame.incarnation).collect();
        let mut cuts = self.manifest.cuts.0.clone();
        cuts.retain(|cut| alive.contains(&cut.0));
        if self.manifest.incarnation > 0 {
            cuts.push((self.manifest.incarnation, complete));
        }
        let over = cuts.len().saturating_sub(CUTS_MAX);
        cuts.drain(..over);
        let incarnation = self.manifest.incarnation + 1;
        let next = Manifest { incarnation, cuts: Cuts(cuts), ..self.manifest.clone() };
        Ok(self.write_manifest(next)?)
    }

    /// A new segment and a keeper for every shard.
    fn keepers(
        &mut self,
        cuts: Vec<Cut>,
        complete: u64,
        limits: &Limits,
    ) -> Result<Vec<Keeper>, RecoverError> {
        let mut keepers = Vec::new();
        for (shard, cut) in cuts.into_iter().enumerate() {
            let shard = shard as u16;
            let failed = |source| failed(shard, "beginning its journal")(source);
            let mut disk = self.disk.another().map_err(failed)?;
            let path = segment_path(shard, cut.next_segment);
            let room_bytes = limits.segment_bytes + BLOCK_BYTES as u64;
            let file = FileId(cut.next_segment as u32);
            run(&mut *disk, Op::Create { file, path, room_bytes }).map_err(failed)?;
            run(&mut *disk, Op::SyncDir { path: shard_folder(shard) }).map_err(failed)?;
            let writer = Writer::new(
                disk,
                WriterStart {
                    shard,
                    segment: cut.next_segment,
                    segment_bytes: limits.segment_bytes,
                    durable: complete,
                    older: cut.older,
                },
            );
            keepers.push(Keeper::new(KeeperStart {
                shard,
                folder: self.folder,
                incarnation: self.manifest.incarnation,
                limits: *limits,
                named: self.manifest.slots[usize::from(shard)],
                writer,
                disk: self.disk.another().map_err(failed)?,
            }));
        }
        Ok(keepers)
    }

    /// Every record that counts in the journal of one shard, with its epoch; for tests and tools.
    pub fn read_journal(
        &mut self,
        shard: u16,
        each: &mut dyn FnMut(u64, &Record<'_>),
    ) -> Result<u64, RecoverError> {
        let mut disk = self.disk.another().map_err(failed(shard, "opening its files"))?;
        let ground = self.ground();
        crate::journal::read(&mut *disk, ground.expect(shard), each)
            .map_err(failed(shard, "reading its journal"))
    }

    /// Version of journals and frames, for tools.
    pub fn journal_version() -> u16 {
        JOURNAL_VERSION
    }
}

impl Ground {
    fn expect(&self, shard: u16) -> Expect<'_> {
        let (incarnation, cuts) = (self.manifest.incarnation, &self.manifest.cuts);
        Expect { shard, folder: self.folder, incarnation, cuts }
    }

    fn survey(&self, disk: &mut dyn Disk, shard: u16) -> Result<Survey, RecoverError> {
        let failed = |source| failed(shard, "reading its journal")(source);
        let mut survey =
            Survey { segments: segments(disk, shard).map_err(failed)?, ..Survey::default() };
        let mut frames = Frames::new(self.expect(shard), survey.segments.clone());
        // What the checkpoint holds needs no journal.
        survey.closed = self.manifest.checkpoint;
        while let Some((head, at)) = frames.next(disk).map_err(failed)? {
            let ended = self.manifest.cuts.0.iter().find(|cut| cut.0 == head.incarnation);
            let closes = ended.map_or(head.closes, |cut| head.closes.min(cut.1));
            survey.closed = survey.closed.max(closes);
            survey.first_epoch.get_or_insert(head.epoch);
            survey.known = survey.known.max(head.complete);
            survey.frames.push(Found {
                epoch: head.epoch,
                last_epoch: closes.max(head.epoch),
                place: head.place,
                at,
                incarnation: head.incarnation,
            });
        }
        survey.known = survey.known.max(frames.claimed);
        survey.stops = std::mem::take(&mut frames.stops);
        survey.stale = frames.stale;
        Ok(survey)
    }

    /// The last epoch that is whole in every shard, if it is not older than what was known to be.
    fn judge(&self, surveys: &[Survey]) -> Result<u64, RecoverError> {
        let began = self.manifest.cuts.0.last().map_or(0, |cut| cut.1);
        let known = surveys.iter().map(|survey| survey.known).max().unwrap_or(0);
        let known = known.max(began).max(self.manifest.checkpoint);
        for (shard, survey) in surveys.iter().enumerate() {
            let first = survey.first_epoch.unwrap_or(self.manifest.checkpoint + 1);
            if survey.closed < known || first > self.manifest.checkpoint + 1 {
                let stop = survey.stops.first();
                let got = if first > self.manifest.checkpoint + 1 {
                    self.manifest.checkpoint
                } else {
                    survey.closed
                };
                return Err(RecoverError::Lost {
                    shard: shard as u16,
                    got,
                    expected: known,
                    file: stop.map_or_else(
                        || format!("{} (no segment)", shard_folder(shard as u16).display()),
                        |stop| segment_path(shard as u16, stop.segment).display().to_string(),
                    ),
                    at: stop.map_or(0, |stop| stop.at),
                    why: stop
                        .map_or_else(|| "missing".to_owned(), |stop| format!("{:?}", stop.why)),
                });
            }
        }
        Ok(surveys.iter().map(|survey| survey.closed).min().unwrap_or(0))
    }

    /// The table of a shard as of `complete`, and how many records that took.
    fn load(
        &self,
        disk: &mut dyn Disk,
        config: &ShardConfig,
        cut: &Cut,
        complete: u64,
    ) -> Result<(Shard, u64), RecoverError> {
        let number = config.shard;
        let entry = self.manifest.slots[usize::from(number)];
        let mut shard = if entry.slot == 0 {
            Shard::new(config)
        } else {
            self.load_slot(disk, config, &entry)?
        };
        let mut records = 0;
        let mut frames = Frames::new(self.expect(number), cut.segments.clone());
        let mut stream = Records::default();
        let mut ahead = Vec::new();
        while let Some((head, _)) =
            frames.next(disk).map_err(failed(number, "reading its journal"))?
        {
            let (epoch, payload) = (head.epoch, frames.payload(&head));
            if epoch > complete {
                break;
            }
            let counts = epoch > self.manifest.checkpoint;
            if counts {
                ahead.clear();
                // Whether these are records is seen below.
                let _ = stream.clone().feed(head.begins, payload, |record| {
                    replay::ids_of(record, &mut ahead);
                    Ok::<(), NoRecord>(())
                });
                shard.warm_all(&ahead);
            }
            let fed = stream.feed(head.begins, payload, |record| {
                if !counts {
                    return Ok(());
                }
                records += 1;
                shard.replay(epoch, record).map_err(Stopped::Cannot)
            });
            fed.map_err(|Stopped::Cannot(what)| RecoverError::Contradiction {
                shard: number,
                epoch,
                what,
            })?;
        }
        Ok((shard, records))
    }

    fn load_slot(
        &self,
        disk: &mut dyn Disk,
        config: &ShardConfig,
        entry: &SlotEntry,
    ) -> Result<Shard, RecoverError> {
        let shard = config.shard;
        let name = SlotName { shard, folder: self.folder, epoch: entry.epoch };
        let shards = self.shards;
        let restore = std::cell::RefCell::new(None);
        let mut too_small = false;
        let read = read_slot(
            disk,
            name,
            entry,
            &mut |roots| {
                let Some(roots) = Roots::decode(roots, shards) else { return false };
                too_small = !roots.fits(config);
                if !too_small {
                    *restore.borrow_mut() = Some(Restore::new(config, roots));
                }
                !too_small
            },
            &mut |of, number, bytes| {
                restore
                    .borrow_mut()
                    .as_mut()
                    .is_some_and(|r: &mut Restore| r.page(of, number, bytes))
            },
        );
        if too_small {
            let (slab_bytes, transactions) = (config.slab_bytes, config.transactions_max);
            return Err(RecoverError::TooSmall { shard, slab_bytes, transactions });
        }
        let rotten = |at| {
            let (epoch, file) = (entry.epoch, slot_path(shard, entry.slot).display().to_string());
            RecoverError::Checkpoint { shard, epoch, file, at }
        };
        match read {
            Ok(()) => {}
            Err(SlotFault::Io(source)) => {
                return Err(failed(shard, "reading its checkpoint")(source));
            }
            Err(SlotFault::Rotten(at)) => return Err(rotten(at)),
        }
        restore.into_inner().map(Restore::finish).ok_or(rotten(0))
    }
}

/// The same with every item, at the same time if that is wanted: a thread each.
fn side_by_side<A: Send, T: Send>(
    items: Vec<A>,
    threads: bool,
    work: impl Fn(A) -> T + Sync,
) -> Vec<T> {
    if !threads || items.len() < 2 {
        return items.into_iter().map(work).collect();
    }
    std::thread::scope(|scope| {
        let work = &work;
        let spawned: Vec<_> =
            items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, T>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        spawned.into_iter().map(join).collect()
    })
}

fn failed(shard: u16, doing: &'static str) -> impl FnOnce(io::Error) -> RecoverError {
    move |source| RecoverError::Io { shard, doing, source }
}

/// What stays of a journal up to `complete`.
fn cut(survey: &Survey, complete: u64) -> Cut {
    let mut cut = Cut { next_segment: 1, next_place: 1, ..Cut::default() };
    let kept = survey.frames.iter().take_while(|frame| frame.epoch <= complete);
    let mut ends: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for &Found { last_epoch, place, at, .. } in kept {
        ends.insert(at.segment, (at.at + at.bytes, last_epoch.min(complete)));
        cut.next_place = place + 1;
    }
    for &(number, bytes) in &survey.segments {
        cut.next_segment = number + 1;
        if let Some(&(end, last_epoch)) = ends.get(&number) {
            if end < bytes {
                cut.bytes += bytes - end;
                cut.shortened.push((number, Some(end)));
            }
            cut.segments.push((number, end));
            cut.older.push(Segment { number, bytes: end, last_epoch });
        } else {
            cut.bytes += bytes;
            cut.shortened.push((number, None));
        }
    }
    cut
}

impl Cut {
    /// Takes away what goes, and syncs that.
    fn carry_out(&self, disk: &mut dyn Disk, shard: u16) -> Result<(), RecoverError> {
        let failed = |source| failed(shard, "cutting its journal")(source);
        for &(number, stays) in &self.shortened {
            let path = segment_path(shard, number);
            let op = match stays {
                Some(len) => Op::Truncate { path, len },
                None => Op::Remove { path },
            };
            run(disk, op).map_err(failed)?;
        }
        run(disk, Op::SyncDir { path: shard_folder(shard) }).map(drop).map_err(failed)
    }
}
