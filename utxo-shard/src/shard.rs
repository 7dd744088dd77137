//! The shard: its state, the door every request comes in by, and what needs no claim: announce, seen, resolve, withdraw, wake.
//!
//! Requests are answered at once, in the order of their link. Three things can take longer, and none of them blocks a turn:
//! creating a record with very many outputs goes on in [`Shard::step`] (invisible until its last piece), a reserve of many
//! inputs stops when the outbox has no more room ([`Progress::From`]), and wake-ups leave through [`Shard::wake`] when there is
//! credit to spare.

use crate::build::{Build, Built};
use crate::config::{PARENTS_MAX, RULE_SETS_MAX, ShardConfig, TX_WAITERS_MAX};
use crate::journal::{BlockNote, Log};
use crate::mined::Mined;
use crate::slab::Slab;
use crate::table::{Claim, Rec, Table, flag, out};
use crate::waits::{Kind, News, Waiter, Waits};
use consensus::hash::TxId;
use consensus::params::ChainParams;
use consensus::tx::OutPoint;
use dataplane::msg::admin::Tip;
use dataplane::msg::reply::CoinReply;
use dataplane::msg::{
    Accepted, BatchHeader, Context, Epoch, InputVerdict, Reply, Request, SeenState, Ticket,
    WakeReason, WithdrawReason,
};
use dataplane::partition::Partition;
use std::collections::VecDeque;

/// Where a shard's answers go. The tile writes them to links, tests keep them.
pub trait Outbox {
    /// Whether one more reply of any size can be taken for validator `to`. Where it says no, the shard stops and goes on later.
    fn has_room(&self, _to: u16) -> bool {
        true
    }

    /// Whether an answer of this many bytes can be taken; asked besides [`Outbox::has_room`] where a script makes it long.
    fn has_room_for(&mut self, _to: u16, _bytes: usize) -> bool {
        true
    }

    /// Whether a publication of this many bytes can be taken; asked before each decision.
    fn can_publish(&mut self, _bytes: usize) -> bool {
        true
    }

    /// An answer for validator `to`.
    fn reply(&mut self, to: u16, reply: &Reply<'_>);

    /// A decided (or evicted) transaction, for `pack` and the store.
    fn publish(&mut self, accepted: &Accepted<'_>);
}

/// Bytes of a reply with a coin, its script apart.
pub(crate) const COIN_REPLY_BYTES: usize = 9 + 4 + 8 + 4 + 1 + 4;
/// Replies up to this fit wherever [`Outbox::has_room`] said so.
pub(crate) const SHORT_REPLY_BYTES: usize = 512;

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of it.
    Done,
    /// Not yet: a record is being created in pieces ([`Shard::step`]), or the outbox cannot take what would come of it. Hand the
    /// request in again; a `Settle` or `Commit` may then leave out the transaction's bytes, which are held.
    Again,
    /// The outbox is full: hand it in again later as a `Reserve` of the inputs from this one on.
    From(usize),
}

/// What happened so far. One counter for each way a bound was reached, and for each kind of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions announced.
    pub announced: u64,
    /// Announcements that were not taken: bound reached, or no memory.
    pub announce_refused: u64,
    /// Coins looked up.
    pub resolved: u64,
    /// Coins reserved.
    pub reserved: u64,
    /// Coins found held by somebody else.
    pub busy: u64,
    /// Coins found spent.
    pub found_spent: u64,
    /// Coins found missing.
    pub missing: u64,
    /// Coins that were not what the scripts were run with.
    pub differs: u64,
    /// Requests that met a full wait list, a full pool of waiters, or no memory for a claim.
    pub overloaded: u64,
    /// Coins spent.
    pub spent: u64,
    /// Transactions decided.
    pub decided: u64,
    /// Decisions refused for want of memory.
    pub refused: u64,
    /// Decisions that were repeated.
    pub decided_again: u64,
    /// Announcements withdrawn.
    pub withdrawn: u64,
    /// Wake-ups and later grants sent.
    pub woken: u64,
    /// Coins released.
    pub released: u64,
    /// Outputs given back to unspent.
    pub unspent: u64,
    /// Transactions evicted.
    pub evicted: u64,
    /// Records pruned.
    pub pruned: u64,
    /// Decisions all of whose spends are logged.
    pub spends_logged: u64,
    /// Orders of the control plane that were refused.
    pub admin_refused: u64,
    /// Coins and scripts that could not be stored for want of memory.
    pub full: u64,
}

/// What a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Unspent outputs.
    pub utxos: u64,
    /// Live records.
    pub transactions: u64,
    /// Sum of the unspent values.
    pub value_sat: u64,
    /// Coins held by an attempt.
    pub reserved: u64,
    /// Announced and undecided transactions.
    pub announced: u64,
    /// Ids without a transaction that somebody waits for.
    pub watched: u64,
    /// Entries in wait lists and watches.
    pub waiting: u64,
    /// The newest publish sequence.
    pub publish_seq: u64,
    /// Decisions whose spends at other owners are not all reported logged yet.
    pub spends_outstanding: u64,
    /// Bytes of the slab in use.
    pub slab_used_bytes: u64,
    /// Bytes of the slab.
    pub slab_bytes: u64,
    /// Bytes of the slab's reserve in use: what blocks took that the pool may not.
    pub reserve_used_bytes: u64,
    /// Bytes of slab and index that were ever touched.
    pub resident_bytes: u64,
    /// Segments of the index split since the start.
    pub index_splits: u64,
    /// Cache lines the costliest growth so far has moved at once, and the bound for it.
    pub longest_lines: u64,
    /// Cache lines growth moves at once at most: one split of the index, or one list of free blocks joined.
    pub longest_lines_max: u64,
}

/// The owner of one slice of the UTXO set. See the module and the crate.
#[derive(Debug)]
pub struct Shard {
    pub(crate) shard: u16,
    pub(crate) partition: Partition,
    pub(crate) params: ChainParams,
    pub(crate) table: Table,
    pub(crate) waits: Waits,
    pub(crate) mined: Mined,
    pub(crate) build: Option<Build>,
    pub(crate) epoch: Epoch,
    /// Newest epoch in which another owner reported a spend of a decision made here.
    pub(crate) spends_epoch: Epoch,
    pub(crate) publish_seq: u64,
    /// The end of the chain, as it was told last.
    pub(crate) tip: Tip,
    pub(crate) totals: Totals,
    pub(crate) counts: Counts,
    /// The newest barrier read of each coordinator.
    pub(crate) barriers: Vec<u32>,
    /// The newest block in whose context a coin was reserved that the pool has spent, and how often that was.
    pub(crate) overruled: (u32, u64),
    pub(crate) announced_max: u64,
    pub(crate) watched_max: u64,
    /// A record of many outputs that is being pruned: where to go on, and whether its outputs are being freed already.
    pub(crate) pruning: Option<(TxId, u32, bool)>,
    /// Rule sets that records were verified under; records hold a number of one. Zero stands for none, and for all
    /// that found no place.
    pub(crate) rule_sets: [u32; RULE_SETS_MAX],
    pub(crate) rule_sets_used: u8,
    pub(crate) log: Log,
    /// Of shard 0: the tips it was told, the newest last.
    pub(crate) chain: VecDeque<BlockNote>,
    /// Of shard 0: the block that has begun to be connected or disconnected.
    pub(crate) begun: Option<BlockNote>,
    /// The largest number of a block that anything here bears.
    pub(crate) block_max: u32,
    /// Whether anything was ever evicted: then recovery looks for spends without a spender.
    pub(crate) evicted_any: bool,
    pub(crate) snapshot: crate::checkpoint::Snapshot,
}

impl Shard {
    /// An empty shard; takes all its memory (committed as it is first used).
    pub fn new(config: &ShardConfig) -> Self {
        assert!(
            config.shard < config.partition.shards(),
            "shard {} of {}",
            config.shard,
            config.partition.shards()
        );
        assert!(
            usize::from(config.partition.shards()) <= PARENTS_MAX,
            "more than {PARENTS_MAX} shards"
        );
        Self {
            shard: config.shard,
            partition: config.partition.clone(),
            params: config.params.clone(),
            table: Table::new(config.transactions_max, config.slab_bytes, config.index_key),
            waits: Waits::new(config.waiters_max, config.partition.validators()),
            mined: Mined::new(config.partition.shards()),
            build: None,
            epoch: config.epoch,
            spends_epoch: Epoch::default(),
            publish_seq: 0,
            tip: Tip::default(),
            totals: Totals::default(),
            counts: Counts::default(),
            barriers: vec![0; usize::from(config.partition.validators())],
            overruled: (0, 0),
            announced_max: u64::from(config.announced_max),
            watched_max: u64::from(config.watched_max),
            pruning: None,
            rule_sets: [u32::MAX; RULE_SETS_MAX],
            rule_sets_used: 0,
            log: Log::default(),
            chain: VecDeque::new(),
            begun: None,
            block_max: 0,
            evicted_any: false,
            snapshot: crate::checkpoint::Snapshot::default(),
        }
    }

    /// Has all its memory committed now, so that no request meets a page that the operating system has yet to clear.
    pub fn populate(&mut self) -> std::io::Result<()> {
        self.table.slab.populate()?;
        self.table.index.populate()
    }

    /// This shard's number.
    pub fn number(&self) -> u16 {
        self.shard
    }

    /// The epoch it acts in.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The end of the chain the coins are of, as it was told last.
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// Of shard 0: the newest blocks of the chain, the tip last.
    pub fn chain_notes(&self) -> Vec<BlockNote> {
        self.chain.iter().copied().collect()
    }

    /// Number and height of every connected block, in the order they were connected.
    pub fn connected_blocks(&self) -> &[(u32, u32)] {
        self.mined.blocks()
    }

    /// A message came from an epoch: never act in an older one.
    pub fn meet_epoch(&mut self, epoch: Epoch) {
        assert!(
            epoch.incarnation <= self.epoch.incarnation || epoch.number == 0,
            "a message of incarnation {} reached shard {} of incarnation {}",
            epoch.incarnation,
            self.shard,
            self.epoch.incarnation
        );
        if epoch > self.epoch {
            self.checkpoint_if_due(epoch.number);
            self.epoch = epoch;
            self.log.enter(epoch.number);
        }
    }

    /// What it holds.
    pub fn totals(&self) -> Totals {
        Totals {
            publish_seq: self.publish_seq,
            waiting: u64::from(self.waits.used()),
            slab_used_bytes: self.table.slab.used_bytes(),
            slab_bytes: self.table.slab.capacity_bytes(),
            reserve_used_bytes: self.table.slab.reserve_used_bytes(),
            index_splits: self.table.index.splits(),
            longest_lines: self.table.index.longest_lines().max(self.table.slab.longest_lines()),
            longest_lines_max: self.table.index.insert_lines_max().max(Slab::alloc_lines_max()),
            resident_bytes: self.table.slab.resident_bytes() + self.table.index.used_bytes(),
            ..self.totals
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Requests the cache lines that these ids will need; to be called for a batch before its first request is handed in.
    #[inline]
    pub fn warm(&self, ids: &[TxId]) {
        self.table.warm(ids.iter());
    }

    /// As [`Shard::warm`], of ids from anywhere.
    #[inline]
    pub fn warm_ids<'a>(&self, ids: impl Iterator<Item = &'a TxId>) {
        self.table.warm(ids);
    }

    /// As [`Shard::warm_ids`], of any number.
    pub(crate) fn warm_all(&self, ids: &[TxId]) {
        for ids in ids.chunks(crate::table::WARM_MAX) {
            self.table.warm(ids.iter());
        }
    }

    /// Whether something is left to do without any request: call [`Shard::step`].
    pub fn has_work(&self) -> bool {
        self.build.is_some() || self.waits.has_ripe() || self.table.has_graves()
    }

    /// Whether a record is being created in pieces; requests are answered `Again` until it is there.
    pub fn is_building(&self) -> bool {
        self.build.is_some()
    }

    /// One bounded piece of what is left to do; true if there was any.
    pub fn step(&mut self) -> bool {
        if !self.has_work() {
            return false;
        }
        if self.build.is_some() {
            self.build_step();
        } else {
            self.table.draw_on_reserve(false);
            self.hand_on_ripe();
            self.table.dig(1);
        }
        true
    }

    /// One request of validator `from`.
    pub fn request(
        &mut self,
        from: u16,
        ctx: &Context,
        request: &Request<'_>,
        to: &mut impl Outbox,
    ) -> Progress {
        if self.build.is_some() || (self.log.is_on() && !self.log_admits(ctx, request)) {
            return Progress::Again;
        }
        self.table.draw_on_reserve(!ctx.is_pool());
        match *request {
            Request::Announce { ticket, txid, tx } => self.announce(from, ctx, ticket, &txid, tx),
            Request::Seen { ticket, txid } => {
                let state = self.seen(&txid);
                to.reply(from, &Reply::Seen { ticket, state });
            }
            Request::Resolve { ticket, vin, outpoint } => {
                return self.resolve(from, ctx, ticket, vin, &outpoint, to);
            }
            Request::Reserve { ticket, txid, inputs } => {
                return self.reserve(from, ctx, ticket, &txid, &inputs, to);
            }
            Request::Commit { ticket, txid, inputs, decision } => {
                return self.commit(from, ctx, ticket, &txid, &inputs, &decision, to);
            }
            Request::Release { ticket, inputs, .. } => {
                for input in inputs.iter() {
                    self.release(from, ticket, input.vin, &input.outpoint);
                }
            }
            Request::Watch { ticket, outpoint } => self.watch(from, ctx, ticket, &outpoint, to),
            Request::Unwatch { ticket, outpoint } => self.unwatch(from, ticket, &outpoint),
            Request::Withdraw { ticket, txid, reason } => {
                self.withdraw(from, ctx, ticket, &txid, reason);
            }
            Request::Settle { ticket, txid, decision } => {
                return self.settle(from, ctx, ticket, &txid, &decision, to);
            }
            Request::Spend { ticket, txid, decided, publish_seq, inputs } => {
                self.meet_epoch(decided);
                for input in inputs.iter() {
                    if self.spend(from, ctx, ticket, &txid, publish_seq, &input) {
                        self.log_spend(ctx, &txid, &input, publish_seq, decided.number);
                    }
                }
                to.reply(from, &Reply::SpendLogged { ticket, epoch: self.epoch });
            }
            Request::SpendsLogged { txid, epoch } => self.spends_logged(&txid, epoch),
            Request::Barrier { number } => {
                let read = &mut self.barriers[usize::from(from)];
                *read = number.max(*read);
            }
        }
        Progress::Done
    }

    /// Many requests of one validator, each to its end: for callers without bounds of their own (tests, tools).
    pub fn request_all<'a>(
        &mut self,
        from: u16,
        header: &BatchHeader,
        requests: impl IntoIterator<Item = Request<'a>>,
        to: &mut impl Outbox,
    ) {
        self.meet_epoch(header.epoch);
        for request in requests {
            while self.request(from, &header.context, &request, to) == Progress::Again {
                self.step();
            }
            while self.step() {}
        }
    }

    /// Sends up to `most` wake-ups and later grants to validator `to`; gives how many went.
    pub fn wake(&mut self, to: u16, most: u32, outbox: &mut impl Outbox) -> u32 {
        let mut sent = 0;
        while sent < most && outbox.has_room(to) {
            let Some(waiter) = self.waits.next_wake(to) else { break };
            let orphan = waiter.kind == Kind::Orphan;
            let vin = if orphan { u32::MAX } else { waiter.vin };
            let ticket = waiter.ticket;
            let input = |verdict| Reply::Input { ticket, vin, verdict };
            let reply = match waiter.news {
                News::None => continue,
                News::Granted { parent_seq } => input(InputVerdict::Reserved { parent_seq }),
                News::Busy { by } => input(InputVerdict::Busy { by }),
                News::Spent { by } => input(InputVerdict::Spent { by }),
                News::Overloaded => input(InputVerdict::Overloaded),
                News::Wake(reason) => Reply::Wake { ticket, vin, reason },
            };
            outbox.reply(to, &reply);
            sent += 1;
        }
        self.counts.woken += u64::from(sent);
        sent
    }

    /// Whether somebody behind this validator is to be told something.
    pub fn has_wakes(&self, validator: u16) -> bool {
        self.waits.has_wakes(validator)
    }

    fn announce(&mut self, from: u16, ctx: &Context, ticket: Ticket, txid: &TxId, tx: &[u8]) {
        match self.table.find(txid) {
            Some(rec) if self.table.is(rec, flag::PENDING) => {
                self.table.put_validator(rec, from);
                self.table.put_ticket(rec, ticket);
            }
            Some(rec) if self.table.is(rec, flag::LIVE) => {
                // Known, and now it comes in a block: its children wait until it is settled there.
                if !ctx.is_pool()
                    && self.mined_height(rec).is_none()
                    && self.table.block(rec) != ctx.block
                    && !self.table.is(rec, flag::EVICTING)
                {
                    let flags = self.table.flags(rec);
                    self.table.put_flags(rec, flags | flag::BLOCK_PENDING);
                    self.table.put_block(rec, ctx.block);
                    self.table.put_height(rec, ctx.height);
                }
            }
            _ => {
                self.counts.announced += 1;
                if self.build_begin(from, ctx, ticket, txid, tx, 0) == Built::Refused {
                    self.counts.announce_refused += 1;
                }
            }
        }
    }

    /// Whether every coordinator's barrier of this number was read.
    pub(crate) fn has_passed(&self, barrier: u32) -> bool {
        self.barriers.iter().all(|&read| read >= barrier)
    }

    /// What this shard, as home, knows of a transaction.
    pub fn seen(&self, txid: &TxId) -> SeenState {
        match self.table.find(txid) {
            Some(rec) if self.table.is(rec, flag::LIVE) => {
                if let Some(height) = self.mined_height(rec) {
                    SeenState::Mined { height, unspent: self.table.unspent(rec) > 0 }
                } else {
                    let publish_seq = self.table.publish_seq(rec);
                    SeenState::Unmined {
                        publish_seq,
                        rule_set: self.rule_sets[usize::from(self.table.rule_set(rec))],
                    }
                }
            }
            _ => SeenState::Unknown,
        }
    }

    fn resolve(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        vin: u32,
        outpoint: &OutPoint,
        to: &mut impl Outbox,
    ) -> Progress {
        let verdict = match self.look_up(ctx, outpoint) {
            Ok(coin) => {
                let mut scratch = crate::form::SCRATCH;
                let coin = self.coin_reply(coin, ctx, &mut scratch);
                let bytes = coin.locking_script.len() + COIN_REPLY_BYTES;
                if bytes > SHORT_REPLY_BYTES && !to.has_room_for(from, bytes) {
                    return Progress::Again;
                }
                to.reply(from, &Reply::Coin { ticket, vin, coin });
                self.counts.resolved += 1;
                return Progress::Done;
            }
            Err(verdict) => verdict,
        };
        self.counts.resolved += 1;
        match verdict {
            InputVerdict::Missing => self.counts.missing += 1,
            InputVerdict::Spent { .. } => self.counts.found_spent += 1,
            _ => {}
        }
        to.reply(from, &Reply::Input { ticket, vin, verdict });
        Progress::Done
    }

    /// The coin of an outpoint in a context, pending or not, or why there is none.
    fn look_up(&self, ctx: &Context, outpoint: &OutPoint) -> Result<Found, InputVerdict> {
        let Some(rec) = self.table.find(&outpoint.txid) else { return Err(InputVerdict::Missing) };
        let vout = outpoint.vout;
        let Some(bits) = self.coin_bits(rec, vout) else { return Err(InputVerdict::Missing) };
        let found = |pending| Ok(Found { rec, vout, pending });
        if self.table.is(rec, flag::PENDING) || self.is_pending_in(rec, ctx) {
            return found(true);
        }
        if !self.exists_in(rec, ctx) {
            return Err(InputVerdict::Missing);
        }
        if let Some(claim) = self.spender(rec, vout, bits, ctx) {
            return Err(InputVerdict::Spent { by: self.table.claimant(claim) });
        }
        self.may_spend(rec, vout, bits, ctx)?;
        found(false)
    }

    /// What forbids spending a coin that is there and unspent.
    pub(crate) fn may_spend(
        &self,
        rec: Rec,
        vout: u32,
        bits: u64,
        ctx: &Context,
    ) -> Result<(), InputVerdict> {
        if bits & out::FROZEN != 0 {
            return Err(InputVerdict::Frozen);
        }
        if bits & out::LOCKED != 0 {
            return Err(InputVerdict::Locked);
        }
        if bits & out::REASSIGNED != 0 {
            let until_height = self.table.reassigned_from(rec, vout);
            if ctx.height < until_height {
                return Err(InputVerdict::Immature { until_height });
            }
        }
        if self.table.is(rec, flag::COINBASE) {
            let until_height = self.table.height(rec) + crate::config::COINBASE_MATURITY_BLOCKS;
            if ctx.height < until_height {
                return Err(InputVerdict::Immature { until_height });
            }
        }
        Ok(())
    }

    /// A coin as it is told to a coordinator.
    pub(crate) fn coin_reply<'a>(
        &'a self,
        found: Found,
        ctx: &Context,
        scratch: &'a mut crate::form::Scratch,
    ) -> CoinReply<'a> {
        let Found { rec, vout, pending } = found;
        CoinReply {
            value_sat: Table::value_sat(self.table.output(rec, vout)),
            height: if pending { ctx.height } else { self.coin_height(rec, ctx) },
            coinbase: self.table.is(rec, flag::COINBASE),
            pending,
            locking_script: self.table.script(rec, vout, scratch),
        }
    }

    /// State of an output that is (or was) a coin; `None` if there never is one.
    pub(crate) fn coin_bits(&self, rec: Rec, vout: u32) -> Option<u64> {
        if self.table.is(rec, flag::ANCHOR) || vout >= self.table.outputs(rec) {
            return None;
        }
        let bits = self.table.output(rec, vout);
        (bits & out::COIN != 0).then_some(bits)
    }

    /// Height of the block on this chain that holds a live record.
    pub(crate) fn mined_height(&self, rec: Rec) -> Option<u32> {
        let flags = self.table.flags(rec);
        if flags & flag::SETTLED != 0 {
            return Some(self.table.height(rec));
        }
        let block = self.table.block(rec);
        if block != 0 && flags & flag::BLOCK_PENDING == 0 && self.mined.is_connected(block) {
            return Some(self.table.height(rec));
        }
        if flags & flag::POOL != 0 {
            return self.mined.height_of(self.shard, self.table.publish_seq(rec));
        }
        None
    }

    /// Height of a live record as scripts see it: of its block, or that of the context while it is unmined.
    pub(crate) fn coin_height(&self, rec: Rec, ctx: &Context) -> u32 {
        match self.mined_height(rec) {
            Some(height) => height,
            None if self.table.is(rec, flag::COINBASE) => self.table.height(rec),
            None => ctx.height,
        }
    }

    /// Whether a record's outputs exist in a context: for the pool whenever it is live; for a block only if it is mined on this
    /// chain or stands earlier in the same block.
    pub(crate) fn exists_in(&self, rec: Rec, ctx: &Context) -> bool {
        let flags = self.table.flags(rec);
        if flags & flag::LIVE == 0 || flags & flag::EVICTING != 0 {
            return false;
        }
        ctx.is_pool()
            || (self.table.block(rec) == ctx.block && flags & flag::BLOCK_PENDING == 0)
            || self.mined_height(rec).is_some()
    }

    /// Whether a live record was announced in this block and is not settled there yet.
    pub(crate) fn is_pending_in(&self, rec: Rec, ctx: &Context) -> bool {
        !ctx.is_pool()
            && self.table.is(rec, flag::BLOCK_PENDING)
            && self.table.block(rec) == ctx.block
    }

    /// Who has spent a coin, as seen from a context: for a block only a spender that is mined on this chain or in this block.
    pub(crate) fn spender(&self, rec: Rec, vout: u32, bits: u64, ctx: &Context) -> Option<Claim> {
        let mut claim = self.newest_spend(rec, vout, bits)?;
        if ctx.is_pool() {
            return Some(claim);
        }
        while claim.is_some() {
            if self.is_claim_mined(claim, ctx) {
                return Some(claim);
            }
            claim = self.table.prior(claim);
        }
        None
    }

    /// The spend of a coin that counts for the pool.
    pub(crate) fn newest_spend(&self, rec: Rec, vout: u32, bits: u64) -> Option<Claim> {
        if bits & out::SPENT == 0 {
            return None;
        }
        let top = self.table.claim(rec, vout);
        Some(if bits & out::HELD != 0 { self.table.prior(top) } else { top })
    }

    /// Whether the spender behind a claim is mined on this chain, or stands in the context's block.
    pub(crate) fn is_claim_mined(&self, claim: Claim, ctx: &Context) -> bool {
        let block = self.table.claim_block(claim);
        if block != 0 && (block == ctx.block || self.mined.is_connected(block)) {
            return true;
        }
        self.claim_pool_height(claim).is_some()
    }

    /// Height at which a spender that came from the pool is mined.
    pub(crate) fn claim_pool_height(&self, claim: Claim) -> Option<u32> {
        let seq = self.table.claim_publish_seq(claim);
        if seq == 0 {
            return None;
        }
        let home = self.partition.shard(&self.table.claimant(claim));
        self.mined.height_of(home, seq)
    }

    fn withdraw(
        &mut self,
        from: u16,
        ctx: &Context,
        ticket: Ticket,
        txid: &TxId,
        reason: WithdrawReason,
    ) {
        let Some(rec) = self.table.find(txid) else { return };
        let reason = match reason {
            WithdrawReason::Rejected => WakeReason::ParentRejected,
            WithdrawReason::Orphaned => WakeReason::ParentOrphaned,
        };
        if self.is_pending_in(rec, ctx) {
            let flags = self.table.flags(rec);
            self.table.put_flags(rec, flags & !flag::BLOCK_PENDING);
            self.table.put_block(rec, 0);
            self.ripen(rec, reason);
            return;
        }
        let mine = self.table.is(rec, flag::PENDING)
            && self.table.validator(rec) == from
            && self.table.ticket(rec).slot == ticket.slot
            && self.table.ticket(rec).attempt <= ticket.attempt;
        if mine {
            self.counts.withdrawn += 1;
            self.ripen(rec, reason);
            self.drop_pending(rec);
        }
    }

    /// Takes a pending record, whose waiters are gone, out of the table.
    fn drop_pending(&mut self, rec: Rec) {
        let (raw, len) = self.table.raw(rec);
        self.table.slab.free(raw, len);
        self.totals.announced -= 1;
        self.table.remove(rec);
    }

    /// All who wait for a record are to be told `reason`.
    pub(crate) fn ripen(&mut self, rec: Rec, reason: WakeReason) {
        let head = self.table.waiters(rec);
        let txid = self.table.txid(rec);
        self.table.put_waiters(rec, crate::waits::NOBODY);
        self.table.put_waiting(rec, 0);
        self.waits.ripen(head, txid, reason);
    }

    /// Hands the waiters of decided transactions on, a few at a time.
    fn hand_on_ripe(&mut self) {
        for _ in 0..crate::config::RIPE_PER_STEP {
            let Some((id, ripe)) = self.waits.next_ripe() else { return };
            let Waiter { kind, vin, block, height, .. } = *self.waits.get(id);
            if kind != Kind::Orphan || ripe.reason == WakeReason::ParentRejected {
                self.waits.tell(id, News::Wake(ripe.reason));
                continue;
            }
            // An orphan waits on while its parent is an orphan too; otherwise its parent was accepted.
            let ctx = Context { block, height, ..Context::default() };
            if let Some(news) = self.orphan_news(&ctx, &ripe.txid, vin) {
                self.waits.tell(id, news);
            } else {
                self.rewatch(id, &ripe.txid);
            }
        }
    }

    /// What there is to tell about an awaited output; `None` while its transaction is neither announced nor there (for a block:
    /// not in it).
    pub(crate) fn orphan_news(&self, ctx: &Context, txid: &TxId, vout: u32) -> Option<News> {
        let rec = self.table.find(txid)?;
        // An announced parent is news too: its children can be proved while it is being decided.
        let announced = self.table.is(rec, flag::PENDING) || self.is_pending_in(rec, ctx);
        if !announced && !self.exists_in(rec, ctx) {
            return None;
        }
        // An output that its transaction does not have, or that can never be spent, will never come to exist.
        match self.coin_bits(rec, vout) {
            Some(_) => Some(News::Wake(WakeReason::Free)),
            // Of an imported transaction more outputs may be imported yet.
            None if self.table.imported(rec) == 1 => None,
            None => Some(News::Wake(WakeReason::ParentRejected)),
        }
    }

    fn rewatch(&mut self, id: crate::waits::WaiterId, txid: &TxId) {
        let Some(rec) = self.anchor(txid) else {
            self.counts.overloaded += 1;
            self.waits.tell(id, News::Overloaded);
            return;
        };
        if self.table.waiting(rec) >= TX_WAITERS_MAX {
            self.counts.overloaded += 1;
            self.waits.tell(id, News::Overloaded);
            return;
        }
        let head = self.table.waiters(rec);
        self.waits.relist(id, head);
        self.table.put_waiters(rec, id);
        let count = self.table.waiting(rec);
        self.table.put_waiting(rec, count + 1);
    }

    /// The record of an id, or an anchor made for it; `None` where a bound is reached.
    pub(crate) fn anchor(&mut self, txid: &TxId) -> Option<Rec> {
        if let Some(rec) = self.table.find(txid) {
            return Some(rec);
        }
        if self.totals.watched == self.watched_max || self.table.index.is_full() {
            return None;
        }
        let rec = self.table.alloc(txid, flag::ANCHOR, 0, 0)?;
        self.table.enter(rec);
        self.totals.watched += 1;
        Some(rec)
    }

    /// Removes an anchor nobody waits at any more.
    pub(crate) fn drop_idle_anchor(&mut self, rec: Rec) {
        if self.table.is(rec, flag::ANCHOR) && self.table.waiting(rec) == 0 {
            self.totals.watched -= 1;
            self.table.remove(rec);
        }
    }
}

/// A coin that was looked up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub rec: Rec,
    pub vout: u32,
    pub pending: bool,
}
