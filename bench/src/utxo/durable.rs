//! The table with its journal and checkpoints: what `--durability epoch` and `async` measure.
//!
//! One thread does what a node's shard tile and its thread `epoch` do, by the same calls and the same rules: a piece of work, one turn
//! of every keeper, and the end of an epoch once it is [`Args::epoch_ms`] old, unless as many are on their way to the disk as a node
//! allows. Nobody waits for the disk but where the log is full. With `async` the end of an epoch is only that of its last piece:
//! nobody asks when it is on the disk, so its times are not kept. Checkpoints are taken when the keepers ask for one.

use super::work::{POOL, Work};
use super::{Args, Durability, Engine, Spread, Traces, own_config};
use dataplane::epochs::BEHIND_MAX;
use rustix::time::ClockId;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use utxo_shard::journal::Health;
use utxo_shard::state_hash::StateHash;
use utxo_shard::store::{Coin, UtxoStore};
use utxo_shard::verdict::Verdict;
use utxo_shard::{DurableShards, Folder, FolderConfig, KeeperStats, Limits, ShardConfig};

/// Transactions between two turns of the keepers.
const TURN_TXS: usize = 64;
/// The partition's secret: the same coins lie in the same shards in every run.
const SECRET: [u8; 16] = [7; 16];

/// See the module.
pub struct Durable {
    dir: PathBuf,
    config: ShardConfig,
    durability: Durability,
    period: Duration,
    store: Option<DurableShards>,
    /// When the epoch under way began.
    opened: Instant,
    /// Epochs that have ended and are not on the disk, and when they ended.
    ended: VecDeque<(u64, Instant)>,
    /// Transactions applied, and how many of them were when each of those epochs ended.
    applied: u64,
    acked: VecDeque<(u64, u64)>,
    measures: bool,
    epochs_us: Vec<f64>,
    pauses_us: Vec<f64>,
    since: Counts,
    verdicts: Vec<Verdict>,
}

/// What the keepers have counted, all shards together.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    journal_bytes: u64,
    syncs: u64,
    checkpoint_bytes: u64,
    checkpoints: u64,
    copied_forward: u64,
    crowded: u64,
}

impl Counts {
    fn of(store: &mut DurableShards) -> Self {
        let mut all = Self::default();
        for KeeperStats { writer, checkpoint_bytes, checkpoints, copied_forward, .. } in
            store.stats()
        {
            all.journal_bytes += writer.bytes;
            all.syncs += writer.syncs;
            all.checkpoint_bytes += checkpoint_bytes;
            all.checkpoints += checkpoints;
            all.copied_forward += copied_forward;
        }
        all.crowded = store.store().shards().iter().map(|s| s.log_counts().crowded).sum();
        all
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            journal_bytes: self.journal_bytes - before.journal_bytes,
            syncs: self.syncs - before.syncs,
            checkpoint_bytes: self.checkpoint_bytes - before.checkpoint_bytes,
            checkpoints: self.checkpoints - before.checkpoints,
            copied_forward: self.copied_forward - before.copied_forward,
            crowded: self.crowded - before.crowded,
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn good(health: &Health) -> Result<(), String> {
    match health {
        Health::Good => Ok(()),
        bad => Err(format!("the journal: {bad:?}")),
    }
}

/// Recovers what a data directory has, or makes one.
pub fn open(dir: &Path, config: &ShardConfig) -> Result<DurableShards, String> {
    let shards = config.partition.shards();
    let folder = Folder::open(dir, &FolderConfig { shards, secret: SECRET }).map_err(text)?;
    DurableShards::open(folder, config, &Limits::default(), false).map_err(text)
}

impl Durable {
    /// Makes its data directory in `dir`, with so many shards.
    pub fn new(dir: &Path, shards: u16, args: &Args) -> Result<Self, String> {
        let (dir, config) = (dir.join("utxo"), own_config(args, shards));
        let store = Some(open(&dir, &config)?);
        Ok(Self {
            dir,
            config,
            durability: args.durability,
            period: Duration::from_millis(args.epoch_ms),
            store,
            opened: Instant::now(),
            ended: VecDeque::new(),
            applied: 0,
            acked: VecDeque::new(),
            measures: false,
            epochs_us: Vec::new(),
            pauses_us: Vec::new(),
            since: Counts::default(),
            verdicts: Vec::new(),
        })
    }

    fn store(&mut self) -> &mut DurableShards {
        self.store.as_mut().expect("open between calls")
    }

    /// How its files are written.
    fn backend(&mut self) -> String {
        let (kind, why) = self.store().folder().backend();
        why.map_or_else(|| kind.to_owned(), |why| format!("{kind}: {why}"))
    }

    /// Transactions that are on the disk for good.
    pub fn acknowledged(&mut self) -> u64 {
        let complete = self.store().complete();
        let mut acked = 0;
        while let Some(&(epoch, applied)) = self.acked.front()
            && epoch <= complete
        {
            acked = applied;
            self.acked.pop_front();
        }
        acked
    }

    /// What a node does between two pieces of work.
    fn turn(&mut self) -> Result<(), String> {
        let store = self.store.as_mut().expect("open between calls");
        store.turn().map_err(text)?;
        if store.wants_checkpoint() {
            store.checkpoint();
        }
        let now = Instant::now();
        let complete = store.complete();
        while let Some(&(epoch, at)) = self.ended.front()
            && epoch <= complete
        {
            if self.measures {
                self.epochs_us.push((now - at).as_secs_f64() * 1e6);
            }
            self.ended.pop_front();
        }
        if now - self.opened >= self.period && store.epoch() - complete <= BEHIND_MAX {
            let closed = store.close_epoch();
            if self.durability == Durability::Epoch {
                self.ended.push_back((closed, now));
            }
            self.acked.push_back((closed, self.applied));
            self.opened = now;
        }
        Ok(())
    }

    /// One piece of work and the turn behind it, timed.
    fn piece(
        &mut self,
        work: impl FnOnce(&mut DurableShards, &mut Vec<Verdict>),
    ) -> Result<(), String> {
        let began = super::clock_s(ClockId::ThreadCPUTime);
        let mut verdicts = std::mem::take(&mut self.verdicts);
        work(self.store(), &mut verdicts);
        let bad = verdicts.drain(..).find(|verdict| !verdict.is_good());
        self.verdicts = verdicts;
        self.turn()?;
        if self.measures {
            self.pauses_us.push((super::clock_s(ClockId::ThreadCPUTime) - began) * 1e6);
        }
        match bad {
            Some(verdict) => Err(format!("an item was answered {verdict:?}")),
            None => Ok(()),
        }
    }
}

impl Engine for Durable {
    fn populate(&mut self) -> std::io::Result<()> {
        self.store().store().populate()
    }

    fn load(&mut self, batch: &[Work]) -> Result<(), String> {
        for piece in batch.chunks(TURN_TXS) {
            let coins: Vec<[(u32, u64, &[u8]); 2]> = piece.iter().map(Work::coins).collect();
            let txs: Vec<_> = piece.iter().zip(&coins).map(|(w, coins)| w.mined(coins)).collect();
            self.piece(|store, verdicts| store.store().create_many(&txs, verdicts))?;
        }
        Ok(())
    }

    fn loaded(&mut self) -> Result<(), String> {
        let store = self.store();
        good(&store.settle().map_err(text)?)?;
        self.since = Counts::of(store);
        self.measures = true;
        self.opened = Instant::now();
        self.ended.clear();
        self.acked.clear();
        Ok(())
    }

    fn apply(&mut self, batch: &[Work]) -> Result<(), String> {
        for piece in batch.chunks(TURN_TXS) {
            let txs: Vec<_> = piece.iter().map(Work::spending).collect();
            self.applied += txs.len() as u64;
            self.piece(|store, verdicts| store.store().commit_many(&POOL, &txs, verdicts))?;
        }
        Ok(())
    }

    fn finished(&mut self) -> Result<(), String> {
        let store = self.store();
        let closed = store.close_epoch();
        good(&store.wait_for(closed).map_err(text)?)
    }

    fn traces(&mut self) -> Option<Traces> {
        let counts = Counts::of(self.store()).since(&self.since);
        Some(Traces {
            backend: self.backend(),
            epochs_us: Spread::of(&mut self.epochs_us),
            pauses_us: Spread::of(&mut self.pauses_us),
            journal_bytes: counts.journal_bytes,
            syncs: counts.syncs,
            checkpoints: counts.checkpoints,
            checkpoint_bytes: counts.checkpoint_bytes,
            copied_forward: counts.copied_forward,
            crowded: counts.crowded,
        })
    }

    fn coins(&mut self, hash: &mut StateHash) -> Result<(), String> {
        let each = &mut |outpoint: &_, coin: &Coin<'_>| hash.add(outpoint, coin);
        self.store().store().for_each_coin(each);
        Ok(())
    }

    fn resident_bytes(&mut self) -> Option<u64> {
        Some(self.store().store().totals().resident_bytes)
    }

    fn growth_lines(&mut self) -> Option<(u64, u64)> {
        let totals = self.store().store().shards()[0].totals();
        Some((totals.longest_lines, totals.longest_lines_max))
    }

    fn reopen(&mut self) -> Result<Option<()>, String> {
        self.store = None;
        self.store = Some(open(&self.dir, &self.config)?);
        Ok(Some(()))
    }
}
