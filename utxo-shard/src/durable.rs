//! The shards of one machine as a store that survives: [`Shards`], their keepers, and the data directory, turned by one thread.
//!
//! It is for tools, tests and measurements, as [`Shards`] is; in a node the tiles turn the keepers and the control plane closes
//! epochs, by the same calls in the same order. An epoch ends when [`DurableShards::close_epoch`] is called; what was asked
//! before is on the disk in every shard once [`DurableShards::complete`] has reached it.

use crate::config::ShardConfig;
use crate::disk::Disk;
use crate::engine::Shards;
use crate::folder::{Folder, FolderError};
use crate::journal::Health;
use crate::keeper::{CheckpointState, KeeperStats, Limits};
use crate::recovery::{RecoverError, RecoveryReport, Unmined};

/// See the module.
#[derive(Debug)]
pub struct DurableShards {
    store: Shards,
    folder: Folder,
    complete: u64,
    /// The epoch that is under way.
    epoch: u64,
    report: RecoveryReport,
    unmined: Vec<Unmined>,
    checkpoint: Option<u64>,
}

impl DurableShards {
    /// Recovers what the data directory has. The configuration is that of each shard; its partition is made of the directory's
    /// secret.
    pub fn open(
        mut folder: Folder,
        config: &ShardConfig,
        limits: &Limits,
        keep_inputs: bool,
    ) -> Result<Self, RecoverError> {
        let partition = config.partition.clone();
        let configs: Vec<_> =
            (0..folder.shards()).map(|shard| ShardConfig { shard, ..config.clone() }).collect();
        let recovered = folder.recover(&configs, limits)?;
        let mut store = Shards::of(recovered.shards, recovered.keepers, partition, keep_inputs);
        store.remember_unmined(&recovered.unmined);
        Ok(Self {
            store,
            folder,
            complete: recovered.complete,
            epoch: recovered.epoch.number,
            report: recovered.report,
            unmined: recovered.unmined,
            checkpoint: None,
        })
    }

    /// The store.
    pub fn store(&mut self) -> &mut Shards {
        &mut self.store
    }

    /// What recovery did.
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// What recovery found in no block, parents first.
    pub fn unmined(&self) -> &[Unmined] {
        &self.unmined
    }

    /// The newest epoch that is on the disk in every shard.
    pub fn complete(&self) -> u64 {
        self.complete
    }

    /// The epoch that is under way.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The newest epoch that any shard is in.
    fn newest(&self) -> u64 {
        self.store.shards().iter().map(|shard| shard.epoch().number).max().unwrap_or(0)
    }

    /// Of all shards.
    pub fn stats(&self) -> Vec<KeeperStats> {
        self.store.keepers.iter().map(crate::Keeper::stats).collect()
    }

    /// Ends the epoch under way in every shard, and gives its number.
    pub fn close_epoch(&mut self) -> u64 {
        let closed = self.epoch;
        self.epoch = closed.max(self.newest()) + 1;
        for shard in 0..self.store.shards().len() {
            self.store.leave_epoch(shard, self.epoch);
        }
        closed
    }

    /// One turn of every keeper; true if any did anything. Names a checkpoint that every shard has written.
    pub fn turn(&mut self) -> Result<bool, FolderError> {
        let shards = self.store.shards().len();
        let mut moved = false;
        for shard in 0..shards {
            moved |= self.store.turn_keeper(shard);
        }
        let durable = self.store.keepers.iter().map(|keeper| keeper.durable().number);
        let complete = durable.min().unwrap_or(0);
        if complete > self.complete {
            self.complete = complete;
            for shard in 0..shards {
                let (shard, keeper) = self.store.kept(shard);
                keeper.complete(complete);
                shard.log.set_complete(complete);
            }
        }
        if let Some(at) = self.checkpoint.filter(|&at| at <= self.complete) {
            let states: Vec<_> =
                self.store.keepers.iter().map(crate::Keeper::checkpoint_state).collect();
            let entry = |state: &CheckpointState| match state {
                CheckpointState::Written { entry, .. } => Some(*entry),
                _ => None,
            };
            let entries: Vec<_> = states.iter().filter_map(entry).collect();
            if entries.len() == shards {
                self.folder.install(at, &entries)?;
                self.store.keepers.iter_mut().for_each(|keeper| keeper.installed(at));
                self.checkpoint = None;
                moved = true;
            } else if states.iter().all(|s| {
                matches!(s, CheckpointState::Written { .. } | CheckpointState::Lost { .. })
            }) {
                // One was lost: all begin again when they are asked.
                self.store.keepers.iter_mut().for_each(crate::Keeper::abandon);
                self.checkpoint = None;
            }
        }
        Ok(moved)
    }

    /// Orders a checkpoint as of the end of the epoch under way, unless one is.
    pub fn checkpoint(&mut self) -> bool {
        if self.checkpoint.is_some() {
            return false;
        }
        let at = self.epoch.max(self.newest());
        self.epoch = at;
        for shard in 0..self.store.shards().len() {
            let (shard, keeper) = self.store.kept(shard);
            keeper.checkpoint(shard, at);
        }
        self.checkpoint = Some(at);
        true
    }

    /// Whether a checkpoint is under way.
    pub fn is_checkpointing(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// Whether any shard's journal has grown past its share.
    pub fn wants_checkpoint(&self) -> bool {
        self.checkpoint.is_none() && self.store.keepers.iter().any(crate::Keeper::wants_checkpoint)
    }

    /// The worst of the shards.
    pub fn health(&self) -> Health {
        let mut worst = Health::Good;
        for health in self.store.keepers.iter().map(crate::Keeper::health) {
            match (&worst, &health) {
                (Health::Failed { .. }, _) | (_, Health::Good) => {}
                _ => worst = health,
            }
        }
        worst
    }

    /// Turns until an epoch is complete everywhere, or the disk has failed.
    pub fn wait_for(&mut self, epoch: u64) -> Result<Health, FolderError> {
        loop {
            if self.complete >= epoch {
                return Ok(Health::Good);
            }
            if !self.turn()? {
                let health = self.health();
                if let Health::Failed { .. } = health {
                    return Ok(health);
                }
                self.store.wait_keeper(epoch);
            }
        }
    }

    /// Takes a checkpoint and waits until the manifest names it and the journal is cut down.
    pub fn settle(&mut self) -> Result<Health, FolderError> {
        while !self.checkpoint() {
            self.turn()?;
        }
        let closed = self.close_epoch();
        self.wait_for(closed)?;
        while self.is_checkpointing() || !self.store.keepers.iter().all(crate::Keeper::is_idle) {
            if !self.turn()? {
                let health = self.health();
                if let Health::Failed { .. } = health {
                    return Ok(health);
                }
                // What was copied forward must be complete before its original goes.
                if self.store.shards().iter().any(crate::Shard::has_logged) {
                    self.close_epoch();
                }
                self.store.wait_keeper(self.epoch - 1);
            }
        }
        Ok(Health::Good)
    }

    /// Another handle to the directory's files.
    pub fn disk(&self) -> std::io::Result<Box<dyn Disk>> {
        self.folder.disk.another()
    }

    /// The directory.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }
}
