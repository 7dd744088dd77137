//! Crashes: the same ground on journals that lie on a disk that fails, and the power goes off at any step.
//!
//! In: a seed. Rounds as in [`super`], with shards that log, somebody who closes epochs, checkpoints and truncation, and a
//! [`FaultDisk`] under all of it. The power fails at a step the seed draws: in the middle of a block, of a commit, of a
//! checkpoint, and sometimes again while the machine recovers. Then a machine is built around what was recovered, and goes on.
//!
//! What must hold after each failure: the recovered epoch is not before any that was told to be complete; the coins, the pool and
//! the chain are those of *exactly* what was published in epochs up to it, nothing less, nothing more; so whatever was acknowledged as
//! durable is there; pack offers the recovered pool, parents first; and the machine goes on as if it had never been anything else.

use super::lines::GroundLines;
use super::{Block, Ground, LinesError, SALT, Schedule, Shadow};
use crate::fault::{Checked, Failure, FailureKind, ensure};
use crate::machine::{Kept, Machine, shard_config};
use crate::options::Options;
use crate::wire::{WireKind, publish};
use consensus::hash::{BlockHash, TxId};
use dataplane::blocks::{Conductor, Standing};
use dataplane::epochs::Epochs;
use dataplane::msg::admin::{Admin, AdminReply};
use dataplane::msg::pack_control::{PackCommand, Restored};
use dataplane::msg::{BatchReader, BatchWriter, Context, Epoch, ParentSeq, ValidateControl};
use dataplane::partition::Partition;
use dataplane::rng::Rng;
use dataplane::tile::Stamp;
use dataplane::time::{Clock, US};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use utxo_shard::disk::{Disk, FaultDisk, Faults};
use utxo_shard::{Folder, FolderConfig, Limits, Recovered, SlotEntry, slot_entry};

const CRASH_SALT: u64 = 0x63_72_61_73_68;
/// Power failures of one run.
const CRASHES: u32 = 3;
/// Steps between two of them, at most.
const STEPS_MAX: u64 = 9_000;
/// Failures in a row while it recovers.
const AGAIN_MAX: u32 = 2;
/// Steps in which the disk is full, at most.
const FULL_STEPS_MAX: u64 = 4_000;
/// Rests while something must become durable.
const WAIT_MAX: u64 = 200_000;

/// A bug in what keeps things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlant {
    /// Syncs do nothing.
    LyingSync,
    /// An epoch is told to be complete before the last shard has synced it.
    CompleteEarly,
    /// Messages between coordinators and shards say that they are of the first epoch there was.
    EpochForgotten,
    /// Journals are cut before the manifest names the checkpoint that replaces them.
    TruncatedEarly,
}

impl CrashPlant {
    /// Those that sixty seeds find. Epochs that are forgotten are not among them: spends carry that of their decision besides.
    pub const ALL: [Self; 3] = [Self::LyingSync, Self::CompleteEarly, Self::TruncatedEarly];

    /// Where it hurts: some need moments that no seed draws often.
    pub fn schedule(self) -> Schedule {
        match self {
            Self::LyingSync | Self::CompleteEarly => Schedule::Drawn,
            Self::EpochForgotten => Schedule::Unheard,
            Self::TruncatedEarly => Schedule::Straddle,
        }
    }
}

/// A run that ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashRun {
    /// Stands for every event.
    pub trace_hash: u64,
    /// Power failures, those during recovery among them.
    pub crashes: u64,
    /// Power failures during recovery.
    pub crashes_in_recovery: u64,
    /// In the middle of a block.
    pub crashes_in_blocks: u64,
    /// Transactions acknowledged as durable.
    pub acked: u64,
    /// Transactions that came back.
    pub recovered: u64,
    /// Decisions that were lost, none of them acknowledged.
    pub lost: u64,
    /// Blocks connected.
    pub connected: u64,
    /// Checkpoints that the manifest named.
    pub checkpoints: u64,
    /// Segments of journals that were dropped.
    pub truncated: u64,
    /// Spends that recovery did again.
    pub redone: u64,
    /// Decisions copied forward, so that a segment could be dropped.
    pub copied: u64,
    /// Frames of an earlier life that lay behind a cut.
    pub stale: u64,
    /// Times in which the disk was full for a while.
    pub full: u64,
    /// Checkpoints that were given up.
    pub given_up: u64,
}

/// Something that happened in an epoch.
#[derive(Clone, Debug)]
enum Event {
    Accepted {
        shard: usize,
        seq: u64,
        txid: TxId,
    },
    Evicted {
        shard: usize,
        seq: u64,
        txid: TxId,
    },
    /// A publication that changes nothing in the pool.
    Other {
        shard: usize,
        seq: u64,
    },
    Connected(Box<Block>),
    Disconnected(Vec<TxId>),
}

/// What is kept, and what must come back.
#[derive(Debug)]
pub(super) struct Keeping {
    disk: FaultDisk,
    folder: Folder,
    epochs: Epochs,
    rng: Rng,
    plant: Option<CrashPlant>,
    told: Vec<Option<(u64, Admin3)>>,
    pack_told: u64,
    /// Somebody waits for this epoch.
    wanted: u64,
    held: bool,
    /// The epoch in which the last block ended.
    ended_in: u64,
    /// The newest epoch that anybody was told is complete.
    promised: u64,
    events: Vec<(u64, Event)>,
    /// Accepted, and told to be durable once this epoch is complete.
    pending: Vec<(u64, TxId)>,
    acked: BTreeSet<TxId>,
    crash_at: u64,
    crashed: bool,
    in_block: bool,
    schedule: Schedule,
    /// The shard that the schedule holds.
    slow: usize,
    /// What journals had at the last power failure, for a disk that brings it back.
    tails: Vec<(PathBuf, Vec<u8>)>,
    faults: Faults,
    /// The disk is full from one step to another; it is now.
    full: (u64, u64),
    is_full: bool,
    tally: CrashRun,
}

/// What shards are told together.
type Admin3 = (u64, u64, u64);

fn fail(what: impl std::fmt::Display) -> (FailureKind, String) {
    (FailureKind::Incorrect, what.to_string())
}

/// One run of `rounds` rounds, with power failures.
pub fn run_crashes(
    seed: u64,
    rounds: u32,
    schedule: Schedule,
    plant: Option<CrashPlant>,
) -> Result<CrashRun, Failure> {
    let failed = |step, (kind, what)| Failure { kind, seed, step, what };
    let mut ground = Ground::with_journals(seed, schedule, plant).map_err(|e| failed(0, e))?;
    let mut left = rounds;
    let mut begun = false;
    loop {
        let done = if begun { ground.round() } else { ground.begin_kept() };
        let keeping = ground.keeping.as_mut().expect("it has journals");
        match done {
            Ok(()) => {
                begun = true;
                left = left.saturating_sub(1);
            }
            Err(_) if keeping.crashed => {
                ground.reopen().map_err(|e| failed(ground.step, e))?;
            }
            Err(error) => return Err(failed(ground.step, error)),
        }
        if left == 0 {
            break;
        }
    }
    let tally = ground.keeping.as_ref().expect("it has journals").tally;
    Ok(CrashRun { trace_hash: ground.hash, connected: ground.tally.connected, ..tally })
}

impl Ground {
    fn with_journals(seed: u64, schedule: Schedule, plant: Option<CrashPlant>) -> Checked<Self> {
        let options = schedule.options(seed);
        let mut rng = Rng::salted(seed, CRASH_SALT);
        let disk = FaultDisk::new(rng.next_u64());
        let mut secret = [0; 16];
        rng.fill(&mut secret);
        let config = FolderConfig { shards: options.shards, secret };
        let mut folder =
            Folder::on(Path::new("/sim/utxo"), Box::new(disk.clone()), &config).map_err(fail)?;
        let partition = Partition::new(folder.secret(), options.shards, options.validators);
        let limits = schedule.limits();
        let recovered = recover(&mut folder, &options, &partition, &limits).map_err(fail)?;
        let epochs = Epochs::new(epoch_period(&mut rng), options.shards.into(), recovered.epoch);
        let (kept, _) = parts(recovered, &partition);
        let machine = Machine::with(&options, seed, Some(kept));
        let faults = faults(plant, &mut rng);
        disk.set_faults(faults);
        let slow = rng.index(options.shards.into());
        let mut ground = Self::around(seed, options, machine, None);
        ground.rng = Rng::salted(seed, SALT ^ CRASH_SALT);
        let promised = epochs.complete().number;
        ground.keeping = Some(Keeping {
            told: vec![None; ground.machine.epoch_shard.len()],
            disk,
            folder,
            crash_at: u64::MAX,
            epochs,
            rng,
            plant,
            pack_told: 0,
            wanted: 0,
            held: false,
            ended_in: 0,
            promised,
            events: Vec::new(),
            pending: Vec::new(),
            acked: BTreeSet::new(),
            crashed: false,
            in_block: false,
            schedule,
            slow,
            tails: Vec::new(),
            faults,
            full: (u64::MAX, 0),
            is_full: false,
            tally: CrashRun::default(),
        });
        Ok(ground)
    }

    /// The coins there are from the start are on disk before anything fails.
    fn begin_kept(&mut self) -> Checked {
        self.begin()?;
        let keeping = self.keeping.as_ref().expect("it has journals");
        let open = keeping.epochs.open().number;
        self.wait_for(open)?;
        self.draw_crash();
        Ok(())
    }

    fn draw_crash(&mut self) {
        let step = self.step;
        let keeping = self.keeping.as_mut().expect("it has journals");
        let more = keeping.tally.crashes < u64::from(CRASHES);
        keeping.crash_at = match (more, keeping.schedule) {
            (false, _) => u64::MAX,
            (true, Schedule::Drawn) => step + 1 + keeping.rng.below(STEPS_MAX),
            (true, schedule) => {
                let (phases, within) = (keeping.rng.below(3), keeping.rng.next_u64());
                schedule.crash_step(step, phases, within)
            }
        };
        // Sometimes there is no room for a while, before it or over it.
        if keeping.schedule == Schedule::Drawn && keeping.rng.chance(1, 3) {
            let from = step + 1 + keeping.rng.below(STEPS_MAX);
            keeping.full = (from, from + keeping.rng.below(FULL_STEPS_MAX));
        }
    }

    /// Whether the schedule gives this actor no turn now.
    pub(super) fn is_held(&self, who: usize) -> bool {
        let Some(keeping) = &self.keeping else { return false };
        if !keeping.schedule.holds(self.step) {
            return false;
        }
        let m = &self.machine;
        let (v, s) = (m.validates.len(), m.shards.len());
        let Some(at) = who.checked_sub(v) else { return false };
        match at.checked_sub(s) {
            None => keeping.schedule.holds_shard(at, keeping.slow),
            Some(wire) => m
                .wires
                .get(wire)
                .is_some_and(|wire| keeping.schedule.holds_wire(wire.kind(), keeping.slow)),
        }
    }

    /// Room on the disk comes and goes.
    fn turn_room(&mut self) {
        let step = self.step;
        let keeping = self.keeping.as_mut().expect("it has journals");
        let is_full = (keeping.full.0..keeping.full.1).contains(&step);
        if is_full != keeping.is_full {
            keeping.is_full = is_full;
            keeping.tally.full += u64::from(is_full);
            let capacity_bytes = u64::from(is_full);
            keeping.disk.set_faults(Faults { capacity_bytes, ..keeping.faults });
        }
    }

    /// Rests until an epoch is complete.
    fn wait_for(&mut self, epoch: u64) -> Checked {
        for _ in 0..WAIT_MAX {
            let keeping = self.keeping.as_mut().expect("it has journals");
            keeping.wanted = keeping.wanted.max(epoch);
            if keeping.epochs.complete().number >= epoch {
                return Ok(());
            }
            self.act()?;
        }
        crate::fault::ensure_live(false, || format!("epoch {epoch} is never complete"))
    }

    /// Before each step: the power may fail.
    pub(super) fn may_crash(&mut self) -> Checked {
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        if self.step < keeping.crash_at && !keeping.disk.is_dead() {
            return Ok(());
        }
        keeping.crashed = true;
        Err((FailureKind::Stuck, "the power failed".to_owned()))
    }

    /// What a shard has published.
    pub(super) fn note_published(&mut self, shard: usize, seq: u64, epoch: Epoch, what: Published) {
        let Some(keeping) = &mut self.keeping else { return };
        let event = match what {
            Published::Accepted(txid) => Event::Accepted { shard, seq, txid },
            Published::Evicted(txid) => Event::Evicted { shard, seq, txid },
            Published::Other => Event::Other { shard, seq },
        };
        keeping.events.push((epoch.number, event));
    }

    /// A copy was accepted: somebody may wait until it is on disk.
    pub(super) fn note_accepted(&mut self, txid: TxId) {
        let Some(keeping) = &mut self.keeping else { return };
        let open = keeping.epochs.open().number;
        keeping.pending.push((open, txid));
        if keeping.rng.chance(1, 3) {
            keeping.wanted = keeping.wanted.max(open);
        }
    }

    /// Whoever closes epochs has its turn.
    pub(super) fn turn_epochs(&mut self) -> bool {
        self.turn_room();
        let (step, healed) = (self.step, self.healed);
        let Self { machine, keeping: Some(keeping), .. } = self else { return false };
        let Keeping { epochs, folder, plant, schedule, .. } = keeping;
        let (schedule, mut busy) = (*schedule, false);
        let held = !healed && schedule.holds(step);
        if held {
            // As many epochs as there can be: what is held is left behind.
            keeping.wanted = keeping.wanted.max(epochs.open().number);
        }
        for (shard, input) in machine.shard_epoch.iter_mut().enumerate() {
            while let Some(frag) = input.poll() {
                let mut batch = BatchReader::new(frag.bytes).expect("shard_epoch carries batches");
                while let Some(AdminReply::Epochs { mut at }) = batch.next_item() {
                    if *plant == Some(CrashPlant::CompleteEarly) {
                        at.durable = at.entered - 1;
                    }
                    epochs.hear(shard, at);
                }
                busy = true;
            }
            input.return_credit();
        }
        if epochs.order_checkpoint(0) {
            busy = true;
            // Slots want more room than anything.
            if schedule == Schedule::Drawn && keeping.rng.chance(1, 4) {
                keeping.full = (step, step + keeping.rng.below(FULL_STEPS_MAX));
            }
        }
        let install = epochs.to_install();
        if let Some((epoch, _)) = &install
            && *plant == Some(CrashPlant::TruncatedEarly)
        {
            epochs.set_installed(*epoch);
        } else if let Some((epoch, entries)) = install {
            let slots: Vec<SlotEntry> = entries.into_iter().map(slot_entry).collect();
            if folder.install(epoch, &slots).is_ok() {
                epochs.set_installed(epoch);
                keeping.tally.checkpoints += 1;
            }
            busy = true;
        }
        busy |= epochs.next(machine.clock.now(), keeping.wanted, keeping.held).is_some();
        let complete = epochs.complete().number;
        if complete > keeping.promised {
            keeping.promised = complete;
            let acked = &mut keeping.acked;
            let before = acked.len();
            keeping.pending.retain(|(epoch, txid)| {
                let is_kept = *epoch <= complete;
                if is_kept {
                    acked.insert(*txid);
                }
                !is_kept
            });
            keeping.tally.acked += (acked.len() - before) as u64;
        }
        let together = epochs.together();
        let Admin::Together { complete, checkpoint, installed } = together else {
            unreachable!("that is what it is");
        };
        let now = Some((epochs.open().number, (complete, checkpoint, installed)));
        let told = machine.epoch_shard.iter_mut().zip(&mut keeping.told).enumerate();
        for (shard, (out, told)) in told {
            if *told == now || held && schedule.holds_epochs(shard, keeping.slow) {
                continue;
            }
            let mut buffer = [0; 128];
            let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), Context::default());
            let fits =
                batch.push(&together) && batch.push(&Admin::NextEpoch { epoch: epochs.open() });
            assert!(fits, "two orders fit");
            let len = batch.finish();
            if publish(out, 0, Stamp(0), &buffer[..len], 0) {
                *told = now;
                busy = true;
            }
        }
        if keeping.pack_told < complete {
            let command = PackCommand::EpochComplete { epoch: epochs.complete() };
            let mut buffer = [0; 32];
            let len = command.encode(&mut buffer).expect("an epoch fits");
            let tag = u64::from(command.tag());
            if publish(&mut machine.epoch_pack[0], tag, Stamp(0), &buffer[..len], 0) {
                keeping.pack_told = complete;
                busy = true;
            }
        }
        busy
    }

    /// A block begins, as in a node: the one before is on disk, an epoch is held, every shard is in it.
    pub(super) fn begin_block(
        &mut self,
        conductor: &mut Conductor,
        connects: bool,
        block: &Block,
    ) -> Result<(), LinesError> {
        let Some(keeping) = &self.keeping else { return Ok(()) };
        let ended_in = keeping.ended_in;
        self.wait_for(ended_in).map_err(|(kind, what)| LinesError::Machine(kind, what))?;
        let keeping = self.keeping.as_mut().expect("it has journals");
        keeping.held = true;
        keeping.in_block = true;
        let epoch = keeping.epochs.open();
        conductor.enter(&mut GroundLines(self), epoch)?;
        let (hash, coinbase) = (hash_of(block.height), block.txs[0].txid());
        conductor.begin_at(&mut GroundLines(self), connects, block.height, hash, coinbase)
    }

    /// A block was connected, or taken back (`None`).
    pub(super) fn end_block(
        &mut self,
        conductor: &mut Conductor,
        happened: Option<Happened<'_>>,
    ) -> Result<(), LinesError> {
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        let epoch = keeping.epochs.open().number;
        let mut height = self.shadow.height();
        match happened {
            Some(Happened::Connected(block)) => {
                height += 1;
                keeping.events.push((epoch, Event::Connected(Box::new(block.clone()))));
            }
            Some(Happened::Disconnected(restored)) => {
                height -= 1;
                keeping.events.push((epoch, Event::Disconnected(restored.to_vec())));
            }
            None => {}
        }
        conductor.end_at(&mut GroundLines(self), height, hash_of(height))?;
        let keeping = self.keeping.as_mut().expect("it has journals");
        keeping.held = false;
        keeping.in_block = false;
        keeping.ended_in = epoch;
        keeping.wanted = keeping.wanted.max(epoch);
        Ok(())
    }

    /// The power is back: what is left is recovered, compared with what it must be, and a machine goes on with it.
    fn reopen(&mut self) -> Checked {
        // What shards have published and nobody has read yet happened all the same.
        for at in 0..self.machine.wires.len() {
            let WireKind::Publish { shard } = self.machine.wires[at].kind() else { continue };
            loop {
                let Self { machine, no_plant, .. } = self;
                let Some(held) = machine.wires[at].take_in(usize::MAX, no_plant) else { break };
                self.published(usize::from(shard), &held.bytes)?;
            }
        }
        let mut keeping = self.keeping.take().expect("it has journals");
        keeping.crashed = false;
        keeping.tally.crashes += 1;
        keeping.tally.crashes_in_blocks += u64::from(keeping.in_block);
        for stem in &self.machine.shards {
            let stats = stem.tile().journal().unwrap_or_default();
            keeping.tally.truncated += stats.segments_dropped;
            keeping.tally.copied += stats.copied_forward;
            keeping.tally.given_up += stats.checkpoints_lost;
        }
        keeping.disk.crash();
        keeping.is_full = false;
        keeping.full = (u64::MAX, 0);
        let partition = self.machine.partition.clone();
        let config = FolderConfig { shards: self.options.shards, secret: [0; 16] };
        let mut again = 0;
        let (folder, recovered) = loop {
            let disk = keeping.disk.reopen();
            let fails = again < AGAIN_MAX && keeping.rng.chance(1, 3);
            let crash_after = if fails { 1 + keeping.rng.below(120) } else { 0 };
            disk.set_faults(Faults { crash_after, ..faults(keeping.plant, &mut keeping.rng) });
            if keeping.schedule == Schedule::StaleTail {
                bring_back(&disk, &mut keeping.tails, self.options.shards);
            }
            let opened = Folder::on(Path::new("/sim/utxo"), Box::new(disk.clone()), &config);
            let got = opened.map_err(|e| e.to_string()).and_then(|mut folder| {
                let limits = keeping.schedule.limits();
                let recovered = recover(&mut folder, &self.options, &partition, &limits);
                recovered.map(|recovered| (folder, recovered)).map_err(|e| e.to_string())
            });
            let is_dead = disk.is_dead();
            keeping.disk = disk;
            match got {
                Ok(got) if !is_dead => break got,
                Err(error) if !is_dead => return Err(fail(format!("recovery: {error}"))),
                _ => {
                    again += 1;
                    keeping.tally.crashes += 1;
                    keeping.tally.crashes_in_recovery += 1;
                    keeping.disk.crash();
                }
            }
        };
        keeping.folder = folder;
        keeping.faults = faults(keeping.plant, &mut keeping.rng);
        keeping.disk.set_faults(keeping.faults);
        self.come_back(keeping, recovered, &partition)
    }

    fn come_back(
        &mut self,
        mut keeping: Keeping,
        recovered: Recovered,
        partition: &Partition,
    ) -> Checked {
        let complete = recovered.complete;
        ensure(complete >= keeping.promised, || {
            format!("epoch {} was told to be complete, {complete} is recovered", keeping.promised)
        })?;
        keeping.tally.stale += recovered.report.stale_frames;
        keeping.tally.redone += recovered.report.mended.redone_spends;
        let before = keeping.events.len();
        keeping.events.retain(|(epoch, _)| *epoch <= complete);
        keeping.tally.lost += (before - keeping.events.len()) as u64;
        let published = self.shadow.go_back(&keeping.events, self.published.len());
        let there: BTreeSet<TxId> =
            keeping.events.iter().filter_map(|(_, event)| event.accepted()).collect();
        let gone = keeping.acked.iter().find(|txid| !there.contains(*txid));
        ensure(gone.is_none(), || format!("{gone:?} was acknowledged as durable and is gone"))?;
        keeping.pending.clear();
        keeping.tally.recovered += recovered.unmined.len() as u64;

        let tip = recovered.tip.map(|tip| tip.height);
        let expected = self.shadow.height();
        let begun = self.shadow.chain.is_empty() && tip.is_none();
        ensure(begun || tip == Some(expected), || {
            format!(
                "the journals say that the tip is at {tip:?}, the shadow that it is at {expected}"
            )
        })?;
        let coinbases: BTreeMap<u32, TxId> =
            self.shadow.chain.iter().map(|b| (b.height, b.txs[0].txid())).collect();
        let standing = |&(number, height): &(u32, u32)| {
            let coinbase = coinbases.get(&height).copied();
            let coinbase =
                coinbase.ok_or_else(|| fail(format!("a block at {height} that is not there")))?;
            Ok(Standing { number, height, coinbase })
        };
        let blocks = recovered.shards[0].connected_blocks();
        let chain: Checked<Vec<Standing>> = blocks.iter().map(standing).collect();
        let mut conductor = Conductor::new(self.machine.params.clone(), partition.clone());
        conductor.stand_on(chain?, recovered.block_max);
        self.conductor = Some(conductor);

        let period_ns = epoch_period(&mut keeping.rng);
        keeping.epochs = Epochs::new(period_ns, self.options.shards.into(), recovered.epoch);
        let (kept, seqs) = parts(recovered, partition);
        ensure(seqs == published, || {
            format!(
                "shards go on behind publications {seqs:?}, the last of the epoch are {published:?}"
            )
        })?;
        self.machine = Machine::with(&self.options, self.seed, Some(kept));
        self.published = published;
        self.copies.clear();
        self.stalled.clear();
        self.gone.clear();
        keeping.told = vec![None; self.machine.epoch_shard.len()];
        (keeping.pack_told, keeping.wanted, keeping.held) = (0, 0, false);
        (keeping.ended_in, keeping.in_block, keeping.crash_at) = (0, false, u64::MAX);
        keeping.promised = keeping.epochs.complete().number;
        self.keeping = Some(keeping);
        let context = self.shadow.pool_context();
        let message = ValidateControl::SetPool { context }.encode();
        for out in &mut self.machine.control_validate {
            let sent = publish(out, 0, Stamp(0), &message, 0);
            assert!(sent, "nothing else is on that link yet");
        }
        self.note(b"recovered");
        self.settle()?;
        self.verify()?;
        self.draw_crash();
        Ok(())
    }
}

/// What a shard's publication is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Published {
    Accepted(TxId),
    Evicted(TxId),
    Other,
}

/// What became of a block.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happened<'a> {
    Connected(&'a Block),
    Disconnected(&'a [TxId]),
}

impl Keeping {
    /// Whether somebody is held who was not drawn.
    pub(super) fn is_scheduled(&self) -> bool {
        self.schedule != Schedule::Drawn
    }

    /// Whether a plant takes the epochs off this wire's messages.
    pub(super) fn forgets_epochs(&self, kind: WireKind) -> bool {
        self.plant == Some(CrashPlant::EpochForgotten)
            && matches!(kind, WireKind::Request { .. } | WireKind::Reply { .. })
    }
}

/// A batch that says it is of no epoch: the number stands behind the incarnation, the count and the kind.
pub(super) fn forget_epoch(batch: &mut [u8]) {
    batch[8..16].copy_from_slice(&0_u64.to_le_bytes());
}

impl Event {
    fn accepted(&self) -> Option<TxId> {
        match self {
            Self::Accepted { txid, .. } => Some(*txid),
            _ => None,
        }
    }
}

impl Shadow {
    /// Chain and pool are what these events made of nothing; the newest publication of each shard.
    fn go_back(&mut self, events: &[(u64, Event)], shards: usize) -> Vec<u64> {
        self.chain.clear();
        self.pool.clear();
        let mut published = vec![0; shards];
        for (_, event) in events {
            match event {
                Event::Accepted { shard, seq, txid } => {
                    published[*shard] = *seq;
                    // A publication that was read late may be in a block already.
                    if !self.is_mined(txid) {
                        self.pool.insert(*txid);
                    }
                }
                Event::Evicted { shard, seq, txid } => {
                    published[*shard] = *seq;
                    self.pool.remove(txid);
                }
                Event::Other { shard, seq } => published[*shard] = *seq,
                Event::Connected(block) => self.connect((**block).clone()),
                Event::Disconnected(restored) => self.disconnect(restored),
            }
        }
        published
    }

    fn is_mined(&self, txid: &TxId) -> bool {
        self.chain.iter().any(|block| block.txs.iter().any(|tx| tx.txid() == *txid))
    }
}

/// A name for the block at a height: headers play no part here.
fn hash_of(height: u32) -> BlockHash {
    let mut hash = [0xb1; 32];
    hash[..4].copy_from_slice(&height.to_le_bytes());
    BlockHash(hash)
}

fn epoch_period(rng: &mut Rng) -> u64 {
    [20 * US, 200 * US, 2_000 * US][rng.index(3)]
}

fn faults(plant: Option<CrashPlant>, rng: &mut Rng) -> Faults {
    Faults {
        short_write: [0, 5, 50][rng.index(3)],
        lying_sync: if plant == Some(CrashPlant::LyingSync) { 2 } else { 0 },
        ..Faults::default()
    }
}

fn recover(
    folder: &mut Folder,
    options: &Options,
    partition: &Partition,
    limits: &Limits,
) -> Result<Recovered, utxo_shard::RecoverError> {
    let config = |shard| shard_config(options, partition, shard, folder.index_key(shard));
    let configs: Vec<_> = (0..options.shards).map(config).collect();
    folder.recover(&configs, limits)
}

/// The disk takes cuts back: journals have again what they had at the failure before, and what they have now is remembered.
fn bring_back(disk: &FaultDisk, tails: &mut Vec<(PathBuf, Vec<u8>)>, shards: u16) {
    let mut own: Box<dyn Disk> = Box::new(disk.clone());
    let mut now = Vec::new();
    for shard in 0..shards {
        let folder = PathBuf::from(format!("shard-{shard:03}"));
        for (name, _) in own.list(&folder).expect("a disk in memory") {
            let path = folder.join(name);
            now.extend(disk.swap(&path, None).map(|bytes| (path, bytes)));
        }
    }
    for (path, bytes) in tails.drain(..) {
        let cut = now.iter().find(|(is, has)| *is == path && bytes.starts_with(has));
        if cut.is_some_and(|(_, has)| has.len() < bytes.len()) {
            disk.swap(&path, Some(bytes));
        }
    }
    now.retain(|(path, _)| path.to_string_lossy().contains("journal-"));
    *tails = now;
}

/// What a machine is built around, and how far each shard has published.
fn parts(recovered: Recovered, partition: &Partition) -> (Kept, Vec<u64>) {
    let seqs: Vec<u64> = recovered.shards.iter().map(|s| s.totals().publish_seq).collect();
    let published = seqs.iter().zip(0..).map(|(&seq, shard)| ParentSeq { shard, seq }).collect();
    let leaf = |tx: utxo_shard::Unmined| Restored {
        txid: tx.txid,
        fee_sat: tx.fee_sat,
        size_bytes: tx.raw.len() as u64,
        shard: tx.shard,
        publish_seq: tx.publish_seq,
    };
    let unmined = recovered.unmined.into_iter().map(leaf).collect();
    let shards = recovered.shards.into_iter().zip(recovered.keepers).collect();
    (Kept { partition: partition.clone(), shards, published, unmined }, seqs)
}
