//! What a seed draws before anything runs: the machine's shape and the faults it gets. One line says all of it.
//!
//! Options are drawn independently of each other and often at their extremes, because the bug that needs tiny links *and* long
//! stalls *and* one shard is met by nobody who only tries the usual machine.

use dataplane::rng::Rng;
use dataplane::validate::Bounds;
use std::fmt;

const SALT: u64 = 0x5_3a47;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Coordinators.
    pub validators: u16,
    /// Shards.
    pub shards: u16,
    /// Whether there is a slow lane.
    pub long: bool,
    /// Bounds of each coordinator.
    pub bounds: Bounds,
    /// Bounds are so wide that nothing may ever be turned away.
    pub roomy: bool,
    /// Frags in each link whose producer publishes one at a time.
    pub depth: u32,
    /// Frags in each link whose producer publishes bursts.
    pub burst_depth: u32,
    /// Bytes of a batch between coordinator and shard.
    pub batch_bytes: u32,
    /// Bytes of a transaction in line.
    pub tx_bytes: u32,
    /// Frags a wire may hold between its two halves.
    pub wire_frags: usize,
    /// Most frags a wire moves at once.
    pub wire_burst: u64,
    /// In how many of a thousand turns somebody begins to stall.
    pub stall_per_mille: u64,
    /// Most steps of a stall.
    pub stall_steps_max: u64,
    /// Most copies sent at once.
    pub gate_burst: u64,
    /// How far apart the transactions of a family are sent, steps.
    pub spread_steps: u64,
    /// In how many of a thousand offers the same bytes are sent again.
    pub duplicate_per_mille: u64,
    /// Weight of the families that are not honest, of a hundred.
    pub mischief_percent: u64,
    /// Transactions a shard holds.
    pub shard_transactions_max: usize,
    /// The shards have room for little more than what they begin with: decisions are refused.
    pub full: bool,
    /// Transactions announced and not decided, and ids orphans wait for, at each shard.
    pub announced_max: u32,
    /// Bytes of the arena beside each link.
    pub arena_bytes: u64,
    /// In how many of a hundred thousand steps a coin is frozen or let go.
    pub freeze: u64,
    /// Entries in a shard's wait lists.
    pub waiters_max: u32,
    /// Leaves of a subtree, as a power of two.
    pub subtree_lg_leaves: u8,
    /// Steps between two blocks of ours; 0 for none.
    pub block_steps: u64,
    /// Height of the first block.
    pub height: u32,
    /// Whether the clock jumps far ahead now and then, so that orphans grow old.
    pub jumps: bool,
    /// Operations a script may take on the hot tile.
    pub hot_operations: u64,
    /// In how many of a thousand steps a shard's epoch moves on.
    pub epoch_per_mille: u64,
}

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.index(choices.len())]
}

impl Options {
    /// The swarm's draw for `seed`.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::salted(seed, SALT);
        let r = &mut rng;
        let roomy = r.chance(2, 5);
        let small = Bounds::small();
        let bounds = if roomy {
            Bounds {
                transactions_max: one_of(r, &[8, 64, 512]),
                bytes_max: 16 << 20,
                medium_max: 64,
                orphans_max: 1_024,
                orphan_bytes_max: 8 << 20,
                orphans_per_source_max: 1_024,
                joined_max: 1_024,
                long_queue_max: 1_024,
                ..small
            }
        } else {
            Bounds {
                transactions_max: one_of(r, &[3, 4, 8, 64]),
                inputs_max: one_of(r, &[16, 256, 4_096]),
                bytes_max: one_of(r, &[1 << 16, 1 << 18, 1 << 20]),
                block_transactions_max: one_of(r, &[2, 32]),
                orphans_max: one_of(r, &[1, 2, 8, 64]),
                orphan_bytes_max: one_of(r, &[1 << 12, 1 << 18]),
                orphans_per_source_max: one_of(r, &[1, 4, 64]),
                joined_max: one_of(r, &[1, 8, 64]),
                medium_max: one_of(r, &[1, 4]),
                large_max: 1,
                signatures_max: one_of(r, &[2, 4, 32]),
                long_queue_max: one_of(r, &[8, 64]),
                ..small
            }
        };
        Self {
            validators: one_of(r, &[1, 2, 2, 3]),
            shards: one_of(r, &[1, 2, 2, 3, 4]),
            long: r.chance(1, 2),
            bounds,
            roomy,
            depth: one_of(r, &[2, 4, 16, 64]),
            burst_depth: one_of(r, &[16, 16, 32, 128]),
            batch_bytes: one_of(r, &[2_304, 4_096, 8_192]),
            tx_bytes: one_of(r, &[256, 512, 2_048]),
            wire_frags: one_of(r, &[1, 2, 8, 64]),
            wire_burst: one_of(r, &[1, 2, 8, 64]),
            stall_per_mille: one_of(r, &[0, 0, 2, 10, 40]),
            stall_steps_max: one_of(r, &[20, 200, 1_500]),
            gate_burst: one_of(r, &[1, 4, 16]),
            spread_steps: one_of(r, &[1, 50, 400, 2_000]),
            duplicate_per_mille: one_of(r, &[0, 30, 200]),
            mischief_percent: one_of(r, &[10, 40, 80]),
            shard_transactions_max: 1 << 14,
            full: !roomy && r.chance(1, 6),
            announced_max: if roomy { 1 << 11 } else { one_of(r, &[4, 1 << 11]) },
            arena_bytes: one_of(r, &[1 << 17, 4 << 20]),
            freeze: one_of(r, &[0, 50, 1_000]),
            waiters_max: if roomy { 1 << 13 } else { one_of(r, &[64, 1 << 10]) },
            subtree_lg_leaves: one_of(r, &[1, 3, 6]),
            block_steps: one_of(r, &[0, 300, 1_500, 6_000]),
            height: one_of(r, &[20_000, 20_000, 9_997]),
            jumps: !roomy && r.chance(1, 2),
            hot_operations: one_of(r, &[2_500, 20_000]),
            epoch_per_mille: one_of(r, &[0, 1, 10]),
        }
    }

    /// A plain machine without faults, for scripted stories.
    pub fn plain(validators: u16, shards: u16) -> Self {
        Self {
            validators,
            shards,
            long: false,
            bounds: Bounds { orphans_max: 256, joined_max: 256, ..Bounds::small() },
            roomy: true,
            depth: 64,
            burst_depth: 128,
            batch_bytes: 8_192,
            tx_bytes: 2_048,
            wire_frags: 64,
            wire_burst: 64,
            stall_per_mille: 0,
            stall_steps_max: 1,
            gate_burst: 1,
            spread_steps: 1,
            duplicate_per_mille: 0,
            mischief_percent: 0,
            shard_transactions_max: 1 << 12,
            full: false,
            announced_max: 1 << 11,
            arena_bytes: 4 << 20,
            freeze: 0,
            waiters_max: 1 << 10,
            subtree_lg_leaves: 3,
            block_steps: 0,
            height: 20_000,
            jumps: false,
            hot_operations: 20_000,
            epoch_per_mille: 0,
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = &self.bounds;
        write!(
            f,
            "v={} s={} long={} roomy={} txs={} inputs={} orphans={} joined={} sigs={} depth={}/{} batch={} line={} \
             wire={}x{} stall={}x{} gate={} spread={} dup={} mischief={} full={} announced={} arena={} freeze={} waiters={} subtree={} block={} \
             height={} jumps={} hot={} epoch={}",
            self.validators,
            self.shards,
            u8::from(self.long),
            u8::from(self.roomy),
            b.transactions_max,
            b.inputs_max,
            b.orphans_max,
            b.joined_max,
            b.signatures_max,
            self.depth,
            self.burst_depth,
            self.batch_bytes,
            self.tx_bytes,
            self.wire_frags,
            self.wire_burst,
            self.stall_per_mille,
            self.stall_steps_max,
            self.gate_burst,
            self.spread_steps,
            self.duplicate_per_mille,
            self.mischief_percent,
            u8::from(self.full),
            self.announced_max,
            self.arena_bytes,
            self.freeze,
            self.waiters_max,
            self.subtree_lg_leaves,
            self.block_steps,
            self.height,
            u8::from(self.jumps),
            self.hot_operations,
            self.epoch_per_mille,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_options_again_and_seeds_differ() {
        assert_eq!(Options::draw(7), Options::draw(7));
        let lines: std::collections::BTreeSet<String> =
            (0..50).map(|seed| Options::draw(seed).to_string()).collect();
        assert!(lines.len() > 45, "{} different draws of 50", lines.len());
    }
}
