//! Epochs: the group commit of all journals, as whoever closes them sees it. Design section 4, step 8.
//!
//! In: what each shard says of itself ([`ShardEpochs`]), the time, and who waits. Out: when the next epoch is opened, up to where all
//! is on disk everywhere, when checkpoints are to be made and of which epoch, and when the manifest may name them. There is no I/O, no clock and no thread
//! here: the node's thread `epoch` and the simulator run the same rules.
//!
//! ```text
//!        open n+1 ──► every shard enters n+1, closes n and syncs it ──► n is complete ──► pack, the chain, who waits
//!  idle: nothing is logged, nothing is opened     held: a block is under way, nothing is opened until it is over
//! ```
//!
//! An epoch travels with every message, so a shard may be in the open epoch before it hears of it from here. No shard is ever in a
//! later one than the open one. The end of an epoch says how far all were complete; so one more is closed after the last in which something
//! was logged, and whoever reads the journals can tell damage from a tail that was never whole. That is why a block that begins once every shard has entered the open epoch, and during which none
//! is opened, lies in one epoch as a whole: recovery finds it connected or not at all.

use crate::msg::Epoch;
use crate::msg::admin::{Admin, CheckpointAt, JournalHealth, ShardEpochs, SlotWords};
use crate::time::Ns;

/// Epochs that may be open or on their way to disk; while there are as many, no further one is opened.
pub const BEHIND_MAX: u64 = 3;

/// How far a round of checkpoints is: all shards make one of the same epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// None is under way.
    Rest,
    /// Ordered as of the end of the open epoch, which stays open until every shard has read the order.
    Ordered,
    /// Every shard writes.
    Written,
}

/// How far the shards are together. See the module.
#[derive(Clone, Debug)]
pub struct Epochs {
    /// Least time between two epochs that nobody waits for.
    period_ns: Ns,
    incarnation: u32,
    open: u64,
    opened_ns: Ns,
    complete: u64,
    /// The newest epoch in which something may be logged, and up to where the end of an epoch says that all is complete.
    logged: u64,
    witnessed: u64,
    round: Round,
    /// The epoch of the newest order of a checkpoint, and the one that the manifest names.
    checkpoint: u64,
    installed: u64,
    shards: Vec<ShardEpochs>,
}

impl Epochs {
    /// Every shard is in `open`, and everything before it is complete.
    pub fn new(period_ns: Ns, shards: usize, open: Epoch) -> Self {
        let complete = open.number.saturating_sub(1);
        let at = ShardEpochs { entered: open.number, durable: complete, ..ShardEpochs::default() };
        Self {
            period_ns,
            incarnation: open.incarnation,
            open: open.number,
            opened_ns: 0,
            complete,
            logged: 0,
            witnessed: complete,
            round: Round::Rest,
            checkpoint: 0,
            installed: 0,
            shards: vec![at; shards],
        }
    }

    fn of(&self, number: u64) -> Epoch {
        Epoch { incarnation: self.incarnation, number }
    }

    /// The epoch that is open: no shard acts in a later one.
    pub fn open(&self) -> Epoch {
        self.of(self.open)
    }

    /// The newest epoch that is on disk in every shard.
    pub fn complete(&self) -> Epoch {
        self.of(self.complete)
    }

    /// What every shard is to be told: whenever it has changed.
    pub fn together(&self) -> Admin<'static> {
        let Self { complete, checkpoint, installed, .. } = *self;
        Admin::Together { complete, checkpoint, installed }
    }

    /// A shard says how far it is; whether more is complete than before.
    pub fn hear(&mut self, shard: usize, at: ShardEpochs) -> bool {
        assert!(
            at.entered <= self.open && at.durable < at.entered,
            "shard {shard} is in epoch {} and has synced {}, while {} is open",
            at.entered,
            at.durable,
            self.open
        );
        let before = &mut self.shards[shard];
        assert!(
            at.durable >= before.durable && at.entered >= before.entered,
            "shard {shard} was in epoch {} and says {}",
            before.entered,
            at.entered
        );
        *before = at;
        if at.has_logged {
            self.logged = self.logged.max(at.entered);
        }
        let all = self.shards.iter().map(|s| s.durable).min().unwrap_or(0);
        let more = all > self.complete;
        self.complete = self.complete.max(all);
        more
    }

    /// The worst that is known of any journal.
    pub fn health(&self) -> JournalHealth {
        let worst = self.shards.iter().map(|s| s.health).max_by_key(|health| *health as u8);
        worst.unwrap_or_default()
    }

    /// Whether somebody has logged something in the open epoch.
    fn has_logged(&self) -> bool {
        self.shards.iter().any(|s| s.has_logged && s.entered == self.open)
    }

    /// Whether everything that was logged is complete, and no end of an epoch says so yet.
    fn is_unwitnessed(&self) -> bool {
        self.complete >= self.logged && self.logged > self.witnessed
    }

    /// Opens the next epoch if it is time: something is logged in the open one and its time is over, or somebody waits for `wanted`,
    /// or a checkpoint is due. Never while the epoch is `held`, nor before every shard knows that its end is to be kept.
    pub fn next(&mut self, now_ns: Ns, wanted: u64, held: bool) -> Option<Epoch> {
        let all_know = self.round == Round::Ordered && self.shards.iter().all(|s| self.knows(s));
        let is_old = now_ns.saturating_sub(self.opened_ns) >= self.period_ns;
        let is_due = all_know
            || wanted >= self.open
            || ((self.has_logged() || self.is_unwitnessed()) && is_old);
        if held
            || !is_due
            || (self.round == Round::Ordered && !all_know)
            || self.open - self.complete > BEHIND_MAX
            || self.health() == JournalHealth::Failed
        {
            return None;
        }
        if all_know {
            self.round = Round::Written;
        }
        if wanted >= self.open {
            // A shard may have left the epoch before it could say that it had logged.
            self.logged = self.open;
        }
        self.witnessed = self.complete;
        self.open += 1;
        self.opened_ns = now_ns;
        Some(self.open())
    }

    fn knows(&self, shard: &ShardEpochs) -> bool {
        shard.checkpoint_epoch == self.checkpoint && shard.checkpoint != CheckpointAt::Idle
    }

    /// When [`Epochs::next`] is to be asked again though nothing was heard, if something is logged already.
    pub fn due_ns(&self) -> Option<Ns> {
        (self.has_logged() || self.is_unwitnessed()).then_some(self.opened_ns + self.period_ns)
    }

    /// Orders a checkpoint as of the end of the open epoch, if a shard wants one or somebody one of epoch `at_least`, and none is
    /// under way; whether it did.
    pub fn order_checkpoint(&mut self, at_least: u64) -> bool {
        let asked = at_least > self.installed;
        let wanted = asked || self.shards.iter().any(|s| s.wants_checkpoint);
        let due = wanted && self.round == Round::Rest && self.health() == JournalHealth::Good;
        if due {
            self.round = Round::Ordered;
            self.checkpoint = self.open;
        }
        due
    }

    /// The checkpoints that the manifest is to name, one entry a shard: every shard has written one of the same epoch, and that is
    /// complete everywhere. A round in which one was lost is over without them.
    pub fn to_install(&mut self) -> Option<(u64, Vec<SlotWords>)> {
        if self.round != Round::Written {
            return None;
        }
        let is = |state| move |s: &ShardEpochs| s.checkpoint == state;
        let ended =
            |s: &ShardEpochs| matches!(s.checkpoint, CheckpointAt::Written | CheckpointAt::Lost);
        let same = self.shards.iter().all(|s| self.knows(s) && ended(s));
        if same && self.shards.iter().any(is(CheckpointAt::Lost)) {
            self.round = Round::Rest;
            return None;
        }
        (same && self.complete >= self.checkpoint)
            .then(|| (self.checkpoint, self.shards.iter().map(|s| s.entry).collect()))
    }

    /// The manifest names them.
    pub fn set_installed(&mut self, epoch: u64) {
        assert!(self.round == Round::Written && epoch == self.checkpoint, "no round of {epoch}");
        self.round = Round::Rest;
        self.installed = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Epochs {
        Epochs::new(5_000_000, 2, Epoch { incarnation: 3, number: 8 })
    }

    fn at(entered: u64, has_logged: bool, durable: u64) -> ShardEpochs {
        ShardEpochs { entered, has_logged, durable, ..ShardEpochs::default() }
    }

    #[test]
    fn nothing_is_opened_while_nothing_happens() {
        let mut epochs = started();
        assert_eq!(epochs.next(1_000_000_000, 0, false), None);
        assert_eq!((epochs.complete().number, epochs.due_ns()), (7, None));
    }

    #[test]
    fn what_is_logged_is_closed_after_the_period_and_complete_once_all_have_synced() {
        let mut epochs = started();
        epochs.hear(0, at(8, true, 7));
        assert_eq!(epochs.next(4_999_999, 0, false), None, "its time is not over");
        assert_eq!(epochs.next(5_000_000, 0, false).map(|e| e.number), Some(9));
        assert_eq!(epochs.next(9_000_000, 0, false), None, "nothing is logged in it");
        assert!(!epochs.hear(0, at(9, false, 8)));
        assert_eq!(epochs.complete().number, 7, "the other shard has not synced");
        assert!(epochs.hear(1, at(9, false, 8)));
        assert_eq!(epochs.complete().number, 8);
        // One more, whose end says that the last one was complete; after it there is nothing to say.
        assert_eq!(epochs.due_ns(), Some(10_000_000));
        assert_eq!(epochs.next(9_999_999, 0, false), None);
        assert_eq!(epochs.next(10_000_000, 0, false).map(|e| e.number), Some(10));
        assert!(!epochs.hear(0, at(10, false, 9)) && epochs.hear(1, at(10, false, 9)));
        assert_eq!((epochs.due_ns(), epochs.next(u64::MAX, 0, false)), (None, None));
    }

    #[test]
    fn whoever_waits_is_served_at_once_and_a_block_holds_everything() {
        let mut epochs = started();
        assert_eq!(epochs.next(0, 8, true), None, "a block is under way");
        assert_eq!(epochs.next(0, 8, false).map(|e| e.number), Some(9));
        assert_eq!(epochs.next(0, 8, false), None, "what was waited for is closed");
    }

    #[test]
    fn a_slow_disk_stops_new_epochs_and_a_failed_one_ends_them() {
        let mut epochs = started();
        let mut opened = 0;
        while epochs.next(0, u64::MAX, false).is_some() {
            opened += 1;
        }
        assert_eq!(opened, BEHIND_MAX);
        for shard in 0..2 {
            epochs.hear(shard, at(11, false, 9));
        }
        assert!(epochs.next(0, u64::MAX, false).is_some());
        epochs.hear(1, ShardEpochs { health: JournalHealth::Failed, ..at(12, true, 9) });
        epochs.hear(0, at(12, true, 11));
        assert_eq!(epochs.next(u64::MAX, u64::MAX, false), None);
        assert_eq!(epochs.complete().number, 9);
    }

    #[test]
    fn who_asks_for_a_checkpoint_gets_one_of_now_or_later_and_then_no_more() {
        let mut epochs = started();
        assert!(epochs.order_checkpoint(8), "nobody else wants one");
        assert!(!epochs.order_checkpoint(9), "one is under way");
        let state = |at: u64, entered, checkpoint| ShardEpochs {
            checkpoint,
            checkpoint_epoch: at,
            durable: entered - 1,
            entered,
            ..ShardEpochs::default()
        };
        for (number, order) in [(8, 9), (9, 0)] {
            for shard in 0..2 {
                epochs.hear(shard, state(number, number, CheckpointAt::Ordered));
            }
            assert_eq!(epochs.next(0, 0, false).map(|e| e.number), Some(number + 1), "idle or not");
            for shard in 0..2 {
                epochs.hear(shard, state(number, number + 1, CheckpointAt::Written));
            }
            assert_eq!(epochs.to_install().map(|(epoch, _)| epoch), Some(number));
            epochs.set_installed(number);
            // What was asked for after the first had been ordered needs a second.
            assert_eq!(epochs.order_checkpoint(9), order == 9);
        }
        assert!(!epochs.order_checkpoint(9), "that is on disk");
    }

    #[test]
    fn all_checkpoints_are_of_the_end_of_one_epoch_which_stays_open_until_all_know() {
        use CheckpointAt::{Lost, Ordered, Writing, Written};
        let mut epochs = started();
        assert!(!epochs.order_checkpoint(0), "nobody wants one");
        epochs.hear(0, ShardEpochs { wants_checkpoint: true, ..at(8, true, 7) });
        assert!(epochs.order_checkpoint(0) && !epochs.order_checkpoint(0));
        let state = |entered, durable, checkpoint| ShardEpochs {
            checkpoint,
            checkpoint_epoch: 8,
            wants_checkpoint: true,
            ..at(entered, false, durable)
        };
        epochs.hear(0, state(8, 7, Ordered));
        assert_eq!(epochs.next(u64::MAX, 9, false), None, "the other shard does not know");
        epochs.hear(1, state(8, 7, Ordered));
        assert_eq!(epochs.next(0, 0, false).map(|e| e.number), Some(9));
        epochs.hear(0, state(9, 8, Written));
        epochs.hear(1, state(9, 7, Written));
        assert_eq!(epochs.to_install(), None, "the epoch is not complete");
        epochs.hear(1, state(9, 8, Written));
        assert_eq!(
            epochs.to_install().map(|(epoch, entries)| (epoch, entries.len())),
            Some((8, 2))
        );
        epochs.set_installed(8);
        assert!(matches!(epochs.together(), Admin::Together { complete: 8, installed: 8, .. }));

        assert!(epochs.order_checkpoint(0), "still wanted");
        let next = |entered, checkpoint| ShardEpochs {
            checkpoint_epoch: 9,
            ..state(entered, 8, checkpoint)
        };
        epochs.hear(0, next(9, Ordered));
        epochs.hear(1, next(9, Ordered));
        assert!(epochs.next(0, 0, false).is_some());
        epochs.hear(0, next(10, Lost));
        epochs.hear(1, next(10, Writing));
        assert_eq!((epochs.to_install(), epochs.order_checkpoint(0)), (None, false));
        epochs.hear(1, next(10, Written));
        assert_eq!((epochs.to_install(), epochs.order_checkpoint(0)), (None, true), "again");
    }

    #[test]
    #[should_panic(expected = "while 8 is open")]
    fn a_shard_ahead_of_the_open_epoch_is_a_violation() {
        started().hear(0, at(9, false, 8));
    }
}
