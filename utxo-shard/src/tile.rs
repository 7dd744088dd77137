//! The tile `shard`: a thin adapter between links and a [`Shard`].
//!
//! In: `validate_shard` (one from each coordinator) and `control_shard`. Out: `shard_validate` (one to each), `shard_pack`,
//! `shard_control`. A frag of requests is taken only where its coordinator's reply link and `shard_pack` have credit; one
//! full reply link stops one coordinator. What a frag leaves over goes on in the next turn (`backlog`), answers are collected
//! (`outlet`), and wake-ups leave when there is credit to spare, a few a turn.
//!
//! A turn handles at most [`FRAGS_PER_TURN`](Tile::FRAGS_PER_TURN) frags a link, each of an mtu, one piece of a record under way,
//! and [`WAKES_PER_TURN`] wake-ups a coordinator. A long transaction is copied in the turn its frag comes (about 0.1 ms a MiB).
//! Cost, a frag: one poll, one copy of each answer (45 to 150 bytes) into the reply batch, one of each transaction into the
//! slab and one out of it to `shard_pack`.

use crate::admin::AdminOutcome;
use crate::backlog::Backlog;
use crate::config::ShardConfig;
use crate::journal::Health;
use crate::keeper::{CheckpointState, Keeper, KeeperStats};
use crate::outlet::Outlet;
use crate::shard::Shard;
use crate::slot::SlotEntry;
use dataplane::metrics::CounterDef;
use dataplane::msg::admin::{
    Admin, AdminReply, CheckpointAt, JournalHealth, ShardEpochs, SlotWords,
};
use dataplane::msg::batch::Item;
use dataplane::msg::reply::CoinReply;
use dataplane::msg::{BatchHeader, BatchReader, BatchWriter, Context};
use dataplane::tile::{Busy, Filter, Frag, House, In, Out, Outs, Seq, Sig, Tile};
use dataplane::topo::Wiring;
use ring::Refused;

/// Wake-ups sent to one coordinator in one turn.
pub const WAKES_PER_TURN: u32 = 32;
/// Credits a reply link must have before wake-ups use it: answers come first.
const WAKE_CREDIT_MIN: u32 = 8;
/// Steps of work that needs no request (pieces of a record, waiters handed on) in one turn.
const STEPS_PER_TURN: u32 = 1;
/// Longest batch of answers to the control plane.
const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// What a batch of answers keeps free behind a coin: its last answer, and one that a script is too long.
const ANSWER_BYTES: usize = 128;
/// In front of the script of a coin that is told by itself.
const LONG_HEAD_BYTES: usize = BatchHeader::LEN + AdminReply::COIN_HEAD_BYTES;

dataplane::counters! {
    /// What a shard counts.
    pub enum ShardCount {
        /// Requests handled.
        Requests = counter "requests_total",
        /// Transactions announced.
        Announced = counter "announced_total",
        /// Announcements refused for want of room.
        AnnounceRefused = counter "announce_refused_total",
        /// Coins looked up.
        Resolved = counter "resolved_total",
        /// Coins reserved.
        Reserved = counter "reserved_total",
        /// Coins found held by another attempt.
        FoundBusy = counter "found_busy_total",
        /// Coins found spent.
        FoundSpent = counter "found_spent_total",
        /// Coins found missing.
        FoundMissing = counter "found_missing_total",
        /// Coins that were not what the scripts were run with.
        Differed = counter "differed_total",
        /// Requests that met a full list.
        Overloaded = counter "overloaded_total",
        /// Coins spent.
        Spent = counter "spent_total",
        /// Coins released.
        Released = counter "released_total",
        /// Transactions decided.
        Decided = counter "decided_total",
        /// Decisions repeated.
        DecidedAgain = counter "decided_again_total",
        /// Decisions refused for want of room.
        Refused = counter "refused_total",
        /// Announcements withdrawn.
        Withdrawn = counter "withdrawn_total",
        /// Wake-ups and later grants sent.
        Woken = counter "woken_total",
        /// Spends undone.
        Unspent = counter "unspent_total",
        /// Transactions evicted.
        Evicted = counter "evicted_total",
        /// Records pruned.
        Pruned = counter "pruned_total",
        /// Decisions all of whose spends are logged.
        SpendsLogged = counter "spends_logged_total",
        /// Orders of the control plane refused.
        OrdersRefused = counter "orders_refused_total",
        /// Frags that could not be handled to their end in their turn.
        LeftOver = counter "frags_left_over_total",
        /// Unspent outputs.
        Utxos = gauge "utxos",
        /// Live records.
        Transactions = gauge "transactions",
        /// Coins held.
        Held = gauge "held",
        /// Announced and undecided transactions.
        InFlight = gauge "announced",
        /// Entries in wait lists and watches.
        Waiting = gauge "waiting",
        /// Newest publish sequence.
        PublishSeq = gauge "publish_seq",
        /// Number of the epoch.
        Epoch = gauge "epoch",
        /// Bytes of the slab in use.
        SlabUsedBytes = gauge "slab_used_bytes",
        /// Bytes of the slab.
        SlabBytes = gauge "slab_bytes",
        /// Bytes of the slab that are kept for blocks and in use.
        BlockReserveUsedBytes = gauge "block_reserve_used_bytes",
        /// Bytes of the journal.
        JournalBytes = gauge "journal_bytes",
        /// Segments of the journal.
        JournalSegments = gauge "journal_segments",
        /// Newest epoch that is on disk here.
        DurableEpoch = gauge "durable_epoch",
        /// Bytes written to the journal.
        JournalWrittenBytes = counter "journal_written_bytes_total",
        /// Times the journal was synced.
        JournalSyncs = counter "journal_syncs_total",
        /// Requests that waited for room in the log.
        JournalCrowded = counter "journal_crowded_total",
        /// Tries to write on a full disk.
        JournalFullTries = counter "journal_full_tries_total",
        /// Checkpoints written.
        Checkpoints = counter "checkpoints_total",
        /// Checkpoints given up.
        CheckpointsLost = counter "checkpoints_lost_total",
        /// Bytes written to checkpoints.
        CheckpointBytes = counter "checkpoint_bytes_total",
        /// Decisions copied forward before a segment was dropped.
        CopiedForward = counter "journal_copied_forward_total",
        /// Segments of the journal dropped.
        SegmentsDropped = counter "journal_segments_dropped_total",
    }
}

/// What an in-link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Validator(u16),
    Control,
    Epochs,
}

/// Progress of one batch of orders.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    done: u32,
    refused: u32,
}

/// The tile. See the module.
#[derive(Debug)]
pub struct ShardTile {
    shard: Shard,
    ins: Vec<Source>,
    validators: u16,
    pack: Out,
    control: Option<Out>,
    outlet: Outlet,
    backlogs: Vec<Backlog>,
    orders: Backlog,
    tally: Orders,
    answers: Vec<u8>,
    requests: u64,
    left_over: u64,
    kept: Option<Kept>,
}

/// An entry of the manifest out of [`ShardEpochs::entry`].
pub fn slot_entry([slot, epoch, bytes, checksum, _]: SlotWords) -> SlotEntry {
    SlotEntry { slot: slot as u32, epoch, bytes, checksum }
}

impl Kept {
    fn now(&self, shard: &Shard) -> ShardEpochs {
        let keeper = &self.keeper;
        let (checkpoint, checkpoint_epoch, entry) = match keeper.checkpoint_state() {
            CheckpointState::Idle => (CheckpointAt::Idle, 0, [0; 5]),
            CheckpointState::Ordered { at } => (CheckpointAt::Ordered, at, [0; 5]),
            CheckpointState::Writing { at } => (CheckpointAt::Writing, at, [0; 5]),
            CheckpointState::Written { at, entry } => {
                let SlotEntry { slot, epoch, bytes, checksum } = entry;
                (CheckpointAt::Written, at, [u64::from(slot), epoch, bytes, checksum, 0])
            }
            CheckpointState::Lost { at } => (CheckpointAt::Lost, at, [0; 5]),
        };
        ShardEpochs {
            entered: shard.epoch().number,
            has_logged: shard.has_logged(),
            durable: keeper.durable().number,
            health: match keeper.health() {
                Health::Good => JournalHealth::Good,
                Health::DiskFull { .. } => JournalHealth::DiskFull,
                Health::Failed { .. } => JournalHealth::Failed,
            },
            wants_checkpoint: keeper.wants_checkpoint(),
            checkpoint,
            checkpoint_epoch,
            entry,
        }
    }
}

/// What a shard with a journal has besides.
#[derive(Debug)]
struct Kept {
    keeper: Keeper,
    out: Out,
    /// What was said last.
    said: ShardEpochs,
    /// The newest checkpoint that was ordered, and the newest that the manifest names.
    ordered: u64,
    installed: u64,
}

impl ShardTile {
    /// Takes all memory the tile will ever use (committed as it is first used).
    ///
    /// # Panics
    /// If there is no `shard_pack`, or not one `validate_shard` and one `shard_validate` for each validator of the partition.
    #[expect(clippy::needless_pass_by_value, reason = "tiles are built from a config of their own")]
    pub fn new(config: ShardConfig, wiring: &Wiring) -> Self {
        Self::around(Shard::new(&config), wiring)
    }

    /// A tile around a shard that was recovered, and its journal.
    ///
    /// # Panics
    /// As [`ShardTile::new`], and if there is no `shard_epoch`.
    pub fn with_journal(shard: Shard, keeper: Keeper, wiring: &Wiring) -> Self {
        let out = wiring.output("shard_epoch").expect("a durable shard needs shard_epoch");
        let kept = Kept { keeper, out, said: ShardEpochs::default(), ordered: 0, installed: 0 };
        let kept = Some(kept);
        Self { kept, ..Self::around(shard, wiring) }
    }

    fn around(shard: Shard, wiring: &Wiring) -> Self {
        let validators = shard.partition.validators();
        let requests = wiring.inputs("validate_shard");
        let replies = wiring.outputs("shard_validate");
        assert!(
            requests.len() == usize::from(validators) && replies.len() == requests.len(),
            "shard {} has {} links in and {} out for {validators} validators",
            shard.number(),
            requests.len(),
            replies.len()
        );
        let rows = wiring.input_rows();
        let mut ins = vec![Source::Control; rows.len()];
        for (validator, input) in requests.iter().enumerate() {
            ins[input.index()] = Source::Validator(validator as u16);
        }
        for (source, row) in ins.iter_mut().zip(&rows) {
            if *row == "epoch_shard" {
                *source = Source::Epochs;
            }
        }
        let known = |row: &&str| matches!(*row, "validate_shard" | "control_shard" | "epoch_shard");
        assert!(
            rows.iter().all(known),
            "a shard reads validate_shard, control_shard and epoch_shard: {rows:?}"
        );
        let pack = wiring.output("shard_pack").expect("a shard needs an out-link shard_pack");
        Self {
            shard,
            ins,
            validators,
            pack,
            control: wiring.output("shard_control"),
            outlet: Outlet::new(&replies, pack),
            backlogs: (0..validators).map(|_| Backlog::new()).collect(),
            orders: Backlog::new(),
            tally: Orders::default(),
            answers: vec![0; CONTROL_BYTES_MAX],
            requests: 0,
            left_over: 0,
            kept: None,
        }
    }

    /// The shard, for the simulator and tests.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// What its journal counts, if it has one.
    pub fn journal(&self) -> Option<KeeperStats> {
        self.kept.as_ref().map(|kept| kept.keeper.stats())
    }

    /// The shard, for tools that turn no tile at the same time.
    pub fn shard_mut(&mut self) -> &mut Shard {
        &mut self.shard
    }

    fn takes(&self, input: In, outs: &Outs) -> bool {
        let source = self.ins[input.index()];
        if source == Source::Epochs {
            return true;
        }
        if self.shard.is_building() || self.shard.log_is_crowded() {
            return false;
        }
        match source {
            Source::Validator(v) => {
                self.backlogs[usize::from(v)].is_empty()
                    && self.outlet.has_room(outs, v)
                    && outs.credit(self.pack) > 0
            }
            Source::Control => {
                self.orders.is_empty() && self.control.is_none_or(|out| outs.credit(out) > 0)
            }
            Source::Epochs => true,
        }
    }

    fn requests(&mut self, from: u16, frag: &[u8], outs: &mut Outs) {
        let BatchHeader { context, epoch, .. } = read_header(frag);
        // Before anything is answered: a reply never names an older epoch than what it tells of.
        self.shard.meet_epoch(epoch);
        let mut to = self.outlet.with(outs, self.shard.epoch(), context);
        let backlog = &mut self.backlogs[usize::from(from)];
        self.requests += u64::from(backlog.take(&mut self.shard, from, frag, &mut to));
        self.left_over += u64::from(!backlog.is_empty());
    }

    /// Goes on with what earlier turns left over; true if anything was handled.
    fn resume(&mut self, outs: &mut Outs) -> bool {
        let mut worked = false;
        for from in 0..self.validators {
            let backlog = &mut self.backlogs[usize::from(from)];
            if backlog.is_empty() || self.shard.is_building() {
                continue;
            }
            let epoch = self.shard.epoch();
            let mut to = self.outlet.with(outs, epoch, backlog.header().context);
            let done = backlog.resume(&mut self.shard, from, &mut to);
            self.requests += u64::from(done);
            worked |= done > 0;
        }
        worked
    }

    /// Orders of whoever closes epochs. What was logged before belongs to the epochs before.
    fn epochs(&mut self, frag: &[u8]) {
        let Self { shard, kept, .. } = self;
        let mut batch = BatchReader::new(frag).expect("epoch_shard carries batches");
        while let Some(order) = batch.next_item::<Admin<'_>>() {
            match order {
                Admin::NextEpoch { epoch } => shard.meet_epoch(epoch),
                Admin::Together { complete, checkpoint, installed } => {
                    let Some(kept) = kept else { continue };
                    kept.keeper.complete(complete);
                    // The end of an epoch says so that ends with the next order.
                    shard.log.set_complete(complete);
                    if installed > kept.installed {
                        kept.installed = installed;
                        kept.keeper.installed(installed);
                    }
                    if checkpoint > kept.ordered {
                        kept.ordered = checkpoint;
                        kept.keeper.checkpoint(shard, checkpoint);
                    }
                }
                other => panic!("epoch_shard carries epochs, not {other:?}"),
            }
        }
        assert!(batch.is_done(), "epoch_shard: bytes that are no order");
    }

    /// Lets the journal get on, and says how far it is where that has changed.
    fn keep(&mut self, outs: &mut Outs) -> bool {
        let Self { shard, kept: Some(kept), .. } = self else { return false };
        let worked = kept.keeper.turn(shard);
        let now = kept.now(shard);
        if now == kept.said || outs.credit(kept.out) == 0 {
            return worked;
        }
        kept.said = now;
        let mut buffer = [0; BatchHeader::LEN + 128];
        let mut batch = BatchWriter::new(&mut buffer, shard.epoch(), Context::default());
        let fits = batch.push(&AdminReply::Epochs { at: now });
        assert!(fits, "what a shard says of its epochs has its exact size");
        let len = batch.finish();
        outs.publish(kept.out, 1, &buffer[..len]);
        true
    }

    fn wake(&mut self, outs: &mut Outs) -> bool {
        let mut sent = 0;
        for to in 0..self.validators {
            if self.shard.has_wakes(to) && self.outlet.credit(outs, to) >= WAKE_CREDIT_MIN {
                let mut open = self.outlet.with(outs, self.shard.epoch(), Context::default());
                sent += self.shard.wake(to, WAKES_PER_TURN, &mut open);
            }
        }
        sent > 0
    }

    /// Orders of one frag; what cannot be handled now is kept.
    fn orders(&mut self, frag: &[u8], outs: &mut Outs) {
        let header = read_header(frag);
        self.shard.meet_epoch(header.epoch);
        self.tally = Orders::default();
        let mut writer = Answers::new(&mut self.answers, self.control, outs, &self.shard, header);
        let mut rest = &frag[BatchHeader::LEN..];
        for left in (1..=header.items).rev() {
            let (order, len) = Admin::decode(rest).unwrap_or_else(|| {
                panic!("control_shard: item {left} from the end is none of ours")
            });
            rest = &rest[len..];
            let again = match order {
                Admin::Coinbase { txid, .. } => Admin::Coinbase { txid, tx: &[] },
                other => other,
            };
            match carry_out(&mut self.shard, &mut self.outlet, outs, &order, &mut writer) {
                AdminOutcome::Done => self.tally.done += 1,
                AdminOutcome::Refused => self.tally.refused += 1,
                AdminOutcome::Again => {
                    writer.finish(None, outs);
                    let kept = if self.shard.is_building() { again } else { order };
                    self.orders.keep(header, left, &kept, rest);
                    return;
                }
            }
        }
        writer.finish(Some(self.tally), outs);
    }

    /// Goes on with orders that were left over.
    fn resume_orders(&mut self, outs: &mut Outs) -> bool {
        let no_credit = self.control.is_some_and(|out| outs.credit(out) == 0);
        if self.orders.is_empty() || self.shard.is_building() || no_credit {
            return false;
        }
        let header = self.orders.header();
        let mut writer = Answers::new(&mut self.answers, self.control, outs, &self.shard, header);
        while let Some((order, len)) = self.orders.first::<Admin<'_>>() {
            match carry_out(&mut self.shard, &mut self.outlet, outs, &order, &mut writer) {
                AdminOutcome::Done => self.tally.done += 1,
                AdminOutcome::Refused => self.tally.refused += 1,
                AdminOutcome::Again => {
                    writer.finish(None, outs);
                    return true;
                }
            }
            self.orders.advance(len);
        }
        writer.finish(Some(self.tally), outs);
        true
    }
}

fn read_header(frag: &[u8]) -> BatchHeader {
    *BatchReader::new(frag).expect("a batch begins with its header").header()
}

/// One order. A question is asked only where its answer has room in the batch of answers.
fn carry_out(
    shard: &mut Shard,
    outlet: &mut Outlet,
    outs: &mut Outs,
    order: &Admin<'_>,
    answers: &mut Answers<'_>,
) -> AdminOutcome {
    let context = answers.context;
    let mut scratch = crate::form::SCRATCH;
    if let Some(coin) = shard.coin_answer(&context, order, &mut scratch) {
        return answers.coin(&coin, outs);
    }
    let is_answered = !matches!(
        order,
        Admin::Import { .. }
            | Admin::Coinbase { .. }
            | Admin::SetMined { .. }
            | Admin::UnsetMined { .. }
            | Admin::Freeze { .. }
            | Admin::Lock { .. }
            | Admin::Preserve { .. }
            | Admin::NextEpoch { .. }
            | Admin::Barrier { .. }
            | Admin::Tip { .. }
            | Admin::Together { .. }
    );
    if is_answered && !answers.has_room(0) {
        return AdminOutcome::Again;
    }
    let mut fits = true;
    let mut to = outlet.with(outs, shard.epoch(), context);
    let outcome = shard.admin(&context, order, &mut to, &mut |answer| fits &= answers.push(answer));
    assert!(fits, "a batch of answers keeps room for one that has no script");
    outcome
}

/// The batch of answers to one frag of orders.
struct Answers<'a> {
    buffer: &'a mut [u8],
    out: Option<Out>,
    epoch: dataplane::msg::Epoch,
    context: Context,
    items: u16,
    bytes: usize,
}

impl<'a> Answers<'a> {
    fn new(
        buffer: &'a mut [u8],
        out: Option<Out>,
        outs: &Outs,
        shard: &Shard,
        header: BatchHeader,
    ) -> Self {
        let mtu = out.map_or(buffer.len(), |out| outs.mtu(out).min(buffer.len()));
        let buffer = &mut buffer[..mtu];
        let epoch = shard.epoch();
        Self { buffer, out, epoch, context: header.context, items: 0, bytes: BatchHeader::LEN }
    }

    fn has_room(&self, script_bytes: usize) -> bool {
        self.bytes + script_bytes + ANSWER_BYTES <= self.buffer.len()
    }

    /// A coin: with the other answers, or by itself through the link's arena, whose room is taken only once what was answered before
    /// has left.
    fn coin(&mut self, answer: &AdminReply<'_>, outs: &mut Outs) -> AdminOutcome {
        let AdminReply::Coin { token, coin } = *answer else { panic!("{answer:?} is no coin") };
        let script = coin.map_or(&[][..], |coin| coin.locking_script);
        if self.has_room(AdminReply::COIN_HEAD_BYTES + script.len()) && self.push(answer) {
            return AdminOutcome::Done;
        }
        let (Some(out), Some(coin), 0) = (self.out, coin, self.items) else {
            return AdminOutcome::Again;
        };
        // One for it, and one for the batch behind it.
        if outs.credit(out) < 2 {
            return AdminOutcome::Again;
        }
        let source = outs.next_seq(out);
        let mut frag = match outs.admit(out, (LONG_HEAD_BYTES + script.len()) as u64, source) {
            Ok(frag) => frag,
            Err(Refused::TooLarge) => {
                let told = self.push(&AdminReply::CoinTooLong {
                    token,
                    value_sat: coin.value_sat,
                    script_bytes: script.len() as u64,
                    script_bytes_max: outs.frag_bytes_max(out) - LONG_HEAD_BYTES as u64,
                });
                assert!(told, "an empty batch has room for an answer");
                return AdminOutcome::Refused;
            }
            Err(_) => return AdminOutcome::Again,
        };
        let mut head = [0; LONG_HEAD_BYTES];
        let mut batch = BatchWriter::new(&mut head, self.epoch, self.context);
        let coin = CoinReply { locking_script: &[], ..coin };
        let fits = batch.push(&AdminReply::Coin { token, coin: Some(coin) });
        assert!(fits, "the head of a coin has its exact size");
        batch.finish();
        head[LONG_HEAD_BYTES - 4..].copy_from_slice(&(script.len() as u32).to_le_bytes());
        outs.append(out, &mut frag, &head);
        outs.append(out, &mut frag, script);
        let sent = outs.publish_large(out, 1, frag);
        assert!(sent.is_ok(), "credit for a long answer was looked at before");
        AdminOutcome::Done
    }

    fn push(&mut self, answer: &AdminReply<'_>) -> bool {
        let (items, bytes) = (self.items, self.bytes);
        let mut batch = BatchWriter::resume(self.buffer, self.epoch, self.context, items, bytes);
        if !batch.push(answer) {
            return false;
        }
        self.items = batch.items();
        self.bytes = batch.bytes();
        true
    }

    /// Sends the batch; with the tally if it is the last of its frag of orders.
    fn finish(mut self, tally: Option<Orders>, outs: &mut Outs) {
        if let Some(Orders { done, refused }) = tally {
            let fits = self.push(&AdminReply::Done { done, refused });
            assert!(fits, "a batch of answers keeps room for its last");
        }
        let Some(out) = self.out.filter(|_| self.items > 0) else { return };
        let (items, bytes) = (self.items, self.bytes);
        BatchWriter::resume(self.buffer, self.epoch, self.context, items, bytes).finish();
        outs.publish(out, u64::from(items), &self.buffer[..bytes]);
    }
}

impl Tile for ShardTile {
    const NAME: &'static str = "shard";
    /// One frag of requests can be answered by several of replies; the outlet looks at the credit before each.
    const BURST: u32 = 4;
    const FRAGS_PER_TURN: u32 = 16;
    const COUNTERS: &'static [CounterDef] = ShardCount::DEFS;

    fn housekeeping(&mut self, house: &mut House<'_>) {
        let c = self.shard.counts();
        let t = self.shard.totals();
        for (counter, value) in [
            (ShardCount::Requests, self.requests),
            (ShardCount::Announced, c.announced),
            (ShardCount::AnnounceRefused, c.announce_refused),
            (ShardCount::Resolved, c.resolved),
            (ShardCount::Reserved, c.reserved),
            (ShardCount::FoundBusy, c.busy),
            (ShardCount::FoundSpent, c.found_spent),
            (ShardCount::FoundMissing, c.missing),
            (ShardCount::Differed, c.differs),
            (ShardCount::Overloaded, c.overloaded),
            (ShardCount::Spent, c.spent),
            (ShardCount::Released, c.released),
            (ShardCount::Decided, c.decided),
            (ShardCount::DecidedAgain, c.decided_again),
            (ShardCount::Refused, c.refused),
            (ShardCount::Withdrawn, c.withdrawn),
            (ShardCount::Woken, c.woken),
            (ShardCount::Unspent, c.unspent),
            (ShardCount::Evicted, c.evicted),
            (ShardCount::Pruned, c.pruned),
            (ShardCount::SpendsLogged, c.spends_logged),
            (ShardCount::OrdersRefused, c.admin_refused),
            (ShardCount::LeftOver, self.left_over),
            (ShardCount::Utxos, t.utxos),
            (ShardCount::Transactions, t.transactions),
            (ShardCount::Held, t.reserved),
            (ShardCount::InFlight, t.announced),
            (ShardCount::Waiting, t.waiting),
            (ShardCount::PublishSeq, t.publish_seq),
            (ShardCount::Epoch, self.shard.epoch().number),
            (ShardCount::SlabUsedBytes, t.slab_used_bytes),
            (ShardCount::SlabBytes, t.slab_bytes),
            (ShardCount::BlockReserveUsedBytes, t.reserve_used_bytes),
        ] {
            house.set(counter, value);
        }
        let Some(kept) = &self.kept else { return };
        let s = kept.keeper.stats();
        for (counter, value) in [
            (ShardCount::JournalBytes, s.journal_bytes),
            (ShardCount::JournalSegments, s.segments),
            (ShardCount::DurableEpoch, kept.said.durable),
            (ShardCount::JournalWrittenBytes, s.writer.bytes),
            (ShardCount::JournalSyncs, s.writer.syncs),
            (ShardCount::JournalCrowded, self.shard.log_counts().crowded),
            (ShardCount::JournalFullTries, s.writer.full_tries),
            (ShardCount::Checkpoints, s.checkpoints),
            (ShardCount::CheckpointsLost, s.checkpoints_lost),
            (ShardCount::CheckpointBytes, s.checkpoint_bytes),
            (ShardCount::CopiedForward, s.copied_forward),
            (ShardCount::SegmentsDropped, s.segments_dropped),
        ] {
            house.set(counter, value);
        }
    }

    fn before(&mut self, outs: &mut Outs) -> Busy {
        let mut worked = false;
        for _ in 0..STEPS_PER_TURN {
            worked |= self.shard.step();
        }
        worked |= self.resume_orders(outs);
        worked |= self.resume(outs);
        Busy::if_so(worked)
    }

    fn wants(&mut self, input: In, outs: &Outs) -> u32 {
        if self.takes(input, outs) { Self::FRAGS_PER_TURN } else { 0 }
    }

    fn filter(&mut self, input: In, _seq: Seq, _sig: Sig, outs: &Outs) -> Filter {
        if self.takes(input, outs) { Filter::Take } else { Filter::Later }
    }

    fn frag(&mut self, input: In, frag: Frag<'_>, outs: &mut Outs) {
        match self.ins[input.index()] {
            Source::Validator(from) => self.requests(from, frag.bytes, outs),
            Source::Control => self.orders(frag.bytes, outs),
            Source::Epochs => self.epochs(frag.bytes),
        }
    }

    fn after(&mut self, outs: &mut Outs) -> Busy {
        let woke = self.wake(outs);
        let sent = self.outlet.flush(outs, self.shard.epoch());
        let kept = self.keep(outs);
        if woke || sent || kept {
            Busy::Yes
        } else if self.is_at_rest() {
            Busy::No
        } else {
            Busy::Waiting
        }
    }

    fn is_drained(&self) -> bool {
        // Nobody waits for a disk that takes nothing.
        let is_stuck = |kept: &Kept| kept.keeper.health() != Health::Good;
        self.is_at_rest() || self.kept.as_ref().is_some_and(is_stuck)
    }
}

impl ShardTile {
    fn is_at_rest(&self) -> bool {
        self.orders.is_empty()
            && self.backlogs.iter().all(Backlog::is_empty)
            && !self.shard.has_work()
            && !(0..self.validators).any(|v| self.shard.has_wakes(v))
            && self.outlet.is_empty()
            && self.kept.as_ref().is_none_or(|kept| kept.keeper.is_idle())
    }
}
