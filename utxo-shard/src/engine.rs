//! The shards of one machine as a [`UtxoStore`]: the same shards, the same requests, asked by one synchronous coordinator.
//!
//! In come batches; out go verdicts. It is for tools, tests and measurements; the node's own coordinators are the validators, who
//! speak to shards over links. Nothing waits here: a coin that somebody else holds is `Busy`, and the entry in its wait list is
//! ended at once.

use crate::admin::AdminOutcome;
use crate::config::ShardConfig;
use crate::journal::Health;
use crate::keeper::Keeper;
use crate::outputs::{OutputWalk, Step};
use crate::recovery::{Unmined, inputs_of};
use crate::shard::{Outbox, Progress, Shard};
use crate::store::*;
use crate::table::{WARM_MAX, out};
use crate::verdict::Verdict;
use consensus::hash::TxId;
use consensus::tx::OutPoint;
use dataplane::msg::admin::{Admin, EvictStep, SpendState};
use dataplane::msg::request::{Decision, List, SpentInput};
use dataplane::msg::{
    Accepted, Context, Epoch, Expect, InputRef, InputVerdict, Reply, Request, Ticket,
};
use dataplane::partition::Partition;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Places of the index looked at by one step of pruning.
const PRUNE_PLACES: usize = 1024;
/// Where a transaction's inputs are found again when it is evicted.
type Inputs = HashMap<TxId, Vec<OutPoint>>;

/// A transaction that holds coins.
#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    held: Vec<OutPoint>,
}

/// See the module.
#[derive(Debug)]
pub struct Shards {
    shards: Vec<Shard>,
    partition: Partition,
    flights: HashMap<TxId, Flight>,
    slot: u32,
    /// Inputs of transactions that were decided and not seen mined: the store of a node keeps their bytes.
    inputs: Option<Inputs>,
    /// An eviction under way: transactions, children last, and where each goes on.
    evicting: Vec<(TxId, u32)>,
    prune_at: (usize, usize),
    refs: Vec<InputRef>,
    answers: Answers,
    /// One a shard, where they are durable.
    pub(crate) keepers: Vec<Keeper>,
    /// The newest epoch met: it travels with every request.
    seen: Epoch,
}

/// What a shard answered to one request.
#[derive(Debug, Default)]
struct Answers {
    inputs: Vec<(u32, InputVerdict)>,
    differs: bool,
    decided: Option<(Epoch, u64)>,
    refused: bool,
}

impl Answers {
    fn clear(&mut self) {
        self.inputs.clear();
        self.differs = false;
        self.decided = None;
        self.refused = false;
    }
}

impl Outbox for Answers {
    #[inline]
    fn reply(&mut self, _to: u16, reply: &Reply<'_>) {
        match *reply {
            Reply::Input { vin, verdict, .. } => self.inputs.push((vin, verdict)),
            Reply::Differs { .. } => self.differs = true,
            Reply::Decided { epoch, publish_seq, .. } => self.decided = Some((epoch, publish_seq)),
            Reply::Refused { .. } => self.refused = true,
            _ => {}
        }
    }

    fn publish(&mut self, _accepted: &Accepted<'_>) {}
}

/// Takes the one answer to a resolve.
struct Looker<'a, 'b> {
    each: &'a mut dyn FnMut(usize, Result<Coin<'_>, Verdict>),
    place: usize,
    missed: &'b mut Option<InputVerdict>,
}

impl Outbox for Looker<'_, '_> {
    fn reply(&mut self, _to: u16, reply: &Reply<'_>) {
        match *reply {
            Reply::Coin { coin, .. } if !coin.pending => {
                let coin = Coin {
                    value_sat: coin.value_sat,
                    height: coin.height,
                    coinbase: coin.coinbase,
                    locking_script: coin.locking_script,
                };
                (self.each)(self.place, Ok(coin));
            }
            Reply::Coin { .. } => *self.missed = Some(InputVerdict::ParentInFlight),
            Reply::Input { verdict, .. } => *self.missed = Some(verdict),
            _ => {}
        }
    }

    fn publish(&mut self, _accepted: &Accepted<'_>) {}
}

impl Shards {
    /// One engine of as many shards as the partition says, each with the bounds of `config`; `keep_inputs` remembers the inputs of
    /// what it decides, which evictions need.
    pub fn new(config: &ShardConfig, keep_inputs: bool) -> Self {
        let partition = config.partition.clone();
        let shards = (0..partition.shards())
            .map(|shard| Shard::new(&ShardConfig { shard, ..config.clone() }))
            .collect();
        Self::of(shards, Vec::new(), partition, keep_inputs)
    }

    /// Over shards that are there, and their keepers if they are durable.
    pub(crate) fn of(
        shards: Vec<Shard>,
        keepers: Vec<Keeper>,
        partition: Partition,
        keep_inputs: bool,
    ) -> Self {
        let seen = shards.iter().map(Shard::epoch).max().unwrap_or_default();
        Self {
            shards,
            partition,
            flights: HashMap::new(),
            slot: 0,
            inputs: keep_inputs.then(HashMap::new),
            evicting: Vec::new(),
            prune_at: (0, 0),
            refs: Vec::new(),
            answers: Answers::default(),
            keepers,
            seen,
        }
    }

    /// Takes over the inputs of transactions that were decided before.
    pub(crate) fn remember_unmined(&mut self, unmined: &[Unmined]) {
        if let Some(inputs) = &mut self.inputs {
            let known = unmined.iter().filter_map(|tx| Some((tx.txid, inputs_of(&tx.raw)?)));
            inputs.extend(known);
        }
    }

    /// The newest epoch that travelled with a request.
    pub fn epoch(&self) -> Epoch {
        self.seen
    }

    /// Ends the epoch of a shard; the others follow with what reaches them next.
    pub(crate) fn leave_epoch(&mut self, shard: usize, next: u64) {
        let incarnation = self.seen.incarnation;
        self.shards[shard].meet_epoch(Epoch { incarnation, number: next });
    }

    /// One turn of a shard's keeper; true if it did anything.
    pub(crate) fn turn_keeper(&mut self, shard: usize) -> bool {
        self.keepers[shard].turn(&mut self.shards[shard])
    }

    /// Blocks until the disk of a shard that is behind this epoch has done something.
    pub(crate) fn wait_keeper(&mut self, epoch: u64) {
        let behind = self.keepers.iter_mut().find(|keeper| keeper.durable().number < epoch);
        match behind {
            Some(keeper) => keeper.wait(),
            None => {
                self.keepers.iter_mut().filter(|keeper| !keeper.is_idle()).for_each(Keeper::wait);
            }
        }
        std::thread::yield_now();
    }

    /// Ends every hold: what a crash does.
    #[cfg(test)]
    pub(crate) fn release_everything(&mut self) {
        let all: Vec<TxId> = self.flights.keys().copied().collect();
        for txid in all {
            self.release_all(&txid);
        }
    }

    /// A shard, for tests that tell it something themselves.
    #[cfg(test)]
    pub(crate) fn shard_mut(&mut self, shard: usize) -> &mut Shard {
        self.at(shard)
    }

    /// A shard and its keeper.
    pub(crate) fn kept(&mut self, shard: usize) -> (&mut Shard, &mut Keeper) {
        (&mut self.shards[shard], &mut self.keepers[shard])
    }

    /// A shard that is about to be told something: in no older epoch than anybody before.
    #[inline]
    fn at(&mut self, shard: usize) -> &mut Shard {
        let told = &mut self.shards[shard];
        if told.epoch() != self.seen {
            told.meet_epoch(self.seen);
            self.seen = told.epoch();
        }
        told
    }

    /// All shards in the newest epoch: before an order that goes to all of them.
    pub(crate) fn meet_all(&mut self) {
        for shard in (0..self.shards.len()).rev().chain(0..self.shards.len()) {
            self.at(shard);
        }
    }

    /// See [`Shard::populate`].
    pub fn populate(&mut self) -> std::io::Result<()> {
        self.shards.iter_mut().try_for_each(Shard::populate)
    }

    /// The shards themselves.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Spends whose spender has no record although its outputs are not all pruned: none in a sound set.
    pub fn dangling(&self) -> u64 {
        let mut dangling = 0;
        for shard in &self.shards {
            shard.for_each_unmined_spend(&mut |spender| {
                dangling += u64::from(!self.shards[self.owner(&spender)].has(&spender));
            });
        }
        dangling
    }

    #[inline]
    fn owner(&self, txid: &TxId) -> usize {
        usize::from(self.partition.shard(txid))
    }

    fn next_ticket(&mut self) -> Ticket {
        self.slot = self.slot.wrapping_add(1);
        Ticket { slot: self.slot, attempt: 1 }
    }

    /// One request to its end; the answers are in `self.answers`.
    #[inline]
    fn ask(&mut self, shard: usize, ctx: &Context, request: &Request<'_>) {
        self.answers.clear();
        self.at(shard);
        let mut owner = &mut self.shards[shard];
        while owner.request(0, ctx, request, &mut self.answers) == Progress::Again {
            self.make_room(shard);
            owner = &mut self.shards[shard];
        }
    }

    /// A shard asks for more room or time: one step of it, or one turn of its keeper.
    #[cold]
    fn make_room(&mut self, shard: usize) {
        let owner = &mut self.shards[shard];
        if owner.step() {
            return;
        }
        let Some(keeper) = self.keepers.get_mut(shard) else { return };
        if !keeper.turn(owner) {
            let health = keeper.health();
            let failed = matches!(health, Health::Failed { .. });
            assert!(!failed, "nothing more can be logged: {health:?}");
            keeper.wait();
            std::thread::yield_now();
        }
    }

    /// The verdict of the store for that of a shard.
    #[cold]
    fn verdict(&self, outpoint: &OutPoint, by: &TxId, verdict: InputVerdict) -> Verdict {
        let owner = &self.shards[self.owner(&outpoint.txid)];
        match verdict {
            InputVerdict::Reserved { .. } => Verdict::Reserved,
            InputVerdict::Missing if owner.is_evicting(&outpoint.txid) => Verdict::Conflicting,
            InputVerdict::Missing if owner.has(&outpoint.txid) => Verdict::CoinMissing,
            InputVerdict::Missing => Verdict::TxMissing,
            InputVerdict::Spent { by: spender } if spender == *by => Verdict::Exists,
            InputVerdict::Spent { by } => Verdict::Spent { by },
            InputVerdict::Frozen => Verdict::Frozen,
            InputVerdict::Immature { until_height } => match owner.reassigned_from(outpoint) {
                Some(until) if until == until_height => Verdict::FrozenUntil { until_height },
                _ => Verdict::Immature { until_height },
            },
            InputVerdict::Busy { by } => Verdict::Busy { by },
            InputVerdict::ParentInFlight => Verdict::ParentInFlight,
            InputVerdict::Overloaded => Verdict::Full,
            InputVerdict::Locked => Verdict::Locked,
        }
    }

    fn release(&mut self, ticket: Ticket, txid: TxId, vin: u32, outpoint: OutPoint) {
        let input = [SpentInput { vin, outpoint }];
        let request = Request::Release { ticket, txid, inputs: List::Own(&input) };
        let owner = self.owner(&outpoint.txid);
        self.ask(owner, &Context::default(), &request);
        // Nobody waits here, so what became free is told to nobody.
        self.forget_wakes(owner);
    }

    fn forget_wakes(&mut self, owner: usize) {
        while self.shards[owner].step() {}
        if self.shards[owner].has_wakes(0) {
            self.shards[owner].wake(0, u32::MAX, &mut self.answers);
        }
    }

    fn reserve(&mut self, ctx: &Context, wanted: &Wanted<'_>) -> Verdict {
        let by = wanted.by;
        if let Some(verdict) = self.differs(ctx, wanted) {
            return verdict;
        }
        let ticket = match self.flights.get(&by) {
            Some(flight) => flight.ticket,
            None => self.next_ticket(),
        };
        let outpoint = wanted.outpoint;
        let input = [InputRef { vin: wanted.vin, outpoint, expect: Expect::default() }];
        let request = Request::Reserve { ticket, txid: by, inputs: List::Own(&input) };
        let owner = self.owner(&outpoint.txid);
        self.ask(owner, ctx, &request);
        let verdict = self.answers.inputs[0].1;
        match verdict {
            InputVerdict::Reserved { .. } => {
                let flight =
                    self.flights.entry(by).or_insert_with(|| Flight { ticket, held: Vec::new() });
                if !flight.held.contains(&outpoint) {
                    flight.held.push(outpoint);
                }
            }
            InputVerdict::Busy { .. } | InputVerdict::ParentInFlight => {
                self.release(ticket, by, wanted.vin, outpoint);
            }
            _ => {}
        }
        self.verdict(&outpoint, &by, verdict)
    }

    fn differs(&mut self, ctx: &Context, wanted: &Wanted<'_>) -> Option<Verdict> {
        let (value_sat, script) = wanted.expect?;
        let mut differs = false;
        self.resolve_many(ctx, &[wanted.outpoint], &mut |_, found| {
            differs = found
                .is_ok_and(|coin| coin.value_sat != value_sat || coin.locking_script != script);
        });
        differs.then_some(Verdict::Differs)
    }

    fn settle(&mut self, ctx: &Context, tx: &Spending<'_>) -> Verdict {
        let home = self.owner(&tx.txid);
        if self.shards[home].has(&tx.txid) && ctx.is_pool() {
            return Verdict::Exists;
        }
        let ticket = match self.flights.get(&tx.txid) {
            Some(flight) if tx.inputs.iter().all(|i| flight.held.contains(i)) => flight.ticket,
            _ => return Verdict::NotReserved,
        };
        let decision = Decision { fee_sat: 0, parents: List::Own(&[]), tx: tx.raw };
        self.ask(home, ctx, &Request::Settle { ticket, txid: tx.txid, decision });
        let Some((decided, publish_seq)) = self.answers.decided else {
            return refusal(tx.raw);
        };
        self.forget_wakes(home);
        let mut logged = decided;
        for (vin, &outpoint) in tx.inputs.iter().enumerate() {
            let input = [SpentInput { vin: vin as u32, outpoint }];
            let owner = self.owner(&outpoint.txid);
            let inputs = List::Own(&input[..]);
            let txid = tx.txid;
            self.ask(owner, ctx, &Request::Spend { ticket, txid, decided, publish_seq, inputs });
            logged = logged.max(self.shards[owner].epoch());
            self.forget_wakes(owner);
        }
        self.ask(home, ctx, &Request::SpendsLogged { txid: tx.txid, epoch: logged });
        let flight = self.flights.remove(&tx.txid).expect("it was looked up above");
        for outpoint in flight.held {
            if !tx.inputs.contains(&outpoint) {
                self.release(ticket, tx.txid, 0, outpoint);
            }
        }
        self.remember(tx);
        Verdict::Decided { lane: home as u16, seq: publish_seq }
    }

    fn remember(&mut self, tx: &Spending<'_>) {
        if let Some(inputs) = &mut self.inputs {
            inputs.insert(tx.txid, tx.inputs.to_vec());
        }
    }

    /// All coins and home have one owner: one message.
    #[inline]
    fn commit_here(&mut self, home: usize, ctx: &Context, tx: &Spending<'_>) -> Verdict {
        let ticket = self.next_ticket();
        let refs = tx.inputs.iter().enumerate();
        let mut inputs = std::mem::take(&mut self.refs);
        inputs.clear();
        inputs.extend(refs.map(|(vin, &outpoint)| InputRef {
            vin: vin as u32,
            outpoint,
            expect: Expect::default(),
        }));
        let decision = Decision { fee_sat: 0, parents: List::Own(&[]), tx: tx.raw };
        let request =
            Request::Commit { ticket, txid: tx.txid, inputs: List::Own(&inputs), decision };
        self.ask(home, ctx, &request);
        self.refs = inputs;
        if let Some((_, seq)) = self.answers.decided {
            self.remember(tx);
            return Verdict::Decided { lane: home as u16, seq };
        }
        self.commit_failed(home, ctx, ticket, tx)
    }

    #[cold]
    fn commit_failed(
        &mut self,
        home: usize,
        ctx: &Context,
        ticket: Ticket,
        tx: &Spending<'_>,
    ) -> Verdict {
        if self.answers.refused {
            return refusal(tx.raw);
        }
        let answers = self.answers.inputs.clone();
        for (vin, &outpoint) in tx.inputs.iter().enumerate() {
            self.release(ticket, tx.txid, vin as u32, outpoint);
        }
        self.judge(home, ctx, ticket, tx, &answers)
    }

    /// The verdict on a transaction whose inputs were answered so, nothing of which is held any more.
    fn judge(
        &mut self,
        home: usize,
        ctx: &Context,
        ticket: Ticket,
        tx: &Spending<'_>,
        answers: &[(u32, InputVerdict)],
    ) -> Verdict {
        let own = |v: &InputVerdict| matches!(v, InputVerdict::Spent { by } if *by == tx.txid);
        let known = self.shards[home].has(&tx.txid);
        if known && !ctx.is_pool() && answers.iter().all(|(_, v)| own(v)) {
            // Known from the pool, and all its parents are where the block needs them: it stands in the block from now on.
            let mined = self.shards[home].known(&tx.txid).is_some_and(|k| k.0.is_some());
            if mined {
                return Verdict::Exists;
            }
            let decision = Decision { fee_sat: 0, parents: List::Own(&[]), tx: &[] };
            self.ask(home, ctx, &Request::Settle { ticket, txid: tx.txid, decision });
            let seq = self.answers.decided.map_or(0, |(_, seq)| seq);
            return Verdict::Decided { lane: home as u16, seq };
        }
        let refused = answers.iter().find(|(_, v)| !matches!(v, InputVerdict::Reserved { .. }));
        match refused {
            _ if known => Verdict::Exists,
            Some(&(vin, verdict)) => self.verdict(&tx.inputs[vin as usize], &tx.txid, verdict),
            None => Verdict::Full,
        }
    }

    fn commit(&mut self, ctx: &Context, tx: &Spending<'_>) -> Verdict {
        let home = self.owner(&tx.txid);
        let one_owner =
            self.partition.shards() == 1 || tx.inputs.iter().all(|i| self.owner(&i.txid) == home);
        if one_owner && (self.flights.is_empty() || !self.flights.contains_key(&tx.txid)) {
            return self.commit_here(home, ctx, tx);
        }
        let mut answers = Vec::with_capacity(tx.inputs.len());
        for (vin, &outpoint) in tx.inputs.iter().enumerate() {
            let wanted = Wanted { by: tx.txid, vin: vin as u32, outpoint, expect: None };
            let verdict = self.reserve(ctx, &wanted);
            let raw = match verdict {
                Verdict::Exists => InputVerdict::Spent { by: tx.txid },
                _ => self.answers.inputs.first().map_or(InputVerdict::Missing, |answer| answer.1),
            };
            answers.push((vin as u32, raw, verdict));
        }
        let refused = answers.iter().find(|(.., verdict)| *verdict != Verdict::Reserved);
        let Some(&(.., first)) = refused else {
            if self.shards[home].has(&tx.txid) {
                // Decided before, and its spends were undone since: nothing is decided twice.
                self.release_all(&tx.txid);
                return Verdict::Exists;
            }
            return match self.settle(ctx, tx) {
                verdict if verdict.is_good() => verdict,
                verdict => {
                    self.release_all(&tx.txid);
                    verdict
                }
            };
        };
        let ticket = match self.flights.get(&tx.txid) {
            Some(flight) => flight.ticket,
            None => self.next_ticket(),
        };
        self.release_all(&tx.txid);
        let own = answers.iter().all(|(.., verdict)| *verdict == Verdict::Exists);
        if own || self.shards[home].has(&tx.txid) {
            let inputs: Vec<_> = answers.iter().map(|&(vin, raw, _)| (vin, raw)).collect();
            return self.judge(home, ctx, ticket, tx, &inputs);
        }
        first
    }

    fn release_all(&mut self, txid: &TxId) {
        if let Some(flight) = self.flights.remove(txid) {
            for outpoint in flight.held {
                self.release(flight.ticket, *txid, 0, outpoint);
            }
        }
    }

    fn for_coins(
        &mut self,
        coins: &[OutPoint],
        out: &mut Vec<Verdict>,
        mut order: impl FnMut(&mut Shard, &OutPoint) -> Verdict,
    ) {
        for coin in coins {
            let owner = self.owner(&coin.txid);
            out.push(order(self.at(owner), coin));
        }
    }

    fn admin(&mut self, order: &Admin<'_>) -> bool {
        let ctx = Context::default();
        let mut done = true;
        self.meet_all();
        for shard in 0..self.shards.len() {
            loop {
                let told = &mut self.shards[shard];
                match told.admin(&ctx, order, &mut self.answers, &mut |_| {}) {
                    AdminOutcome::Done => break,
                    AdminOutcome::Refused => {
                        done = false;
                        break;
                    }
                    AdminOutcome::Again => self.make_room(shard),
                }
            }
        }
        done
    }
}

/// Why home did not take a transaction: bytes that no coins can be made of, or no room.
fn refusal(raw: &[u8]) -> Verdict {
    let Some(mut walk) = OutputWalk::new(raw) else { return Verdict::InvalidSize };
    loop {
        match walk.step(raw) {
            Step::Input => {}
            Step::Output(o) if o.value_sat >> out::VALUE_BITS == 0 => {}
            Step::End => return Verdict::Full,
            Step::Output(_) | Step::Bad => return Verdict::InvalidSize,
        }
    }
}

impl UtxoStore for Shards {
    fn name(&self) -> &'static str {
        "metanode"
    }

    fn resolve_many(
        &mut self,
        ctx: &Context,
        coins: &[OutPoint],
        each: &mut dyn FnMut(usize, Result<Coin<'_>, Verdict>),
    ) {
        for (chunk, batch) in coins.chunks(WARM_MAX).enumerate() {
            self.warm(batch.iter().map(|coin| &coin.txid));
            for (i, &outpoint) in batch.iter().enumerate() {
                let place = chunk * WARM_MAX + i;
                let owner = self.owner(&outpoint.txid);
                let request = Request::Resolve { ticket: Ticket::default(), vin: 0, outpoint };
                let mut missed = None;
                let mut looker = Looker { each, place, missed: &mut missed };
                let progress = self.shards[owner].request(0, ctx, &request, &mut looker);
                assert_eq!(progress, Progress::Done, "nothing is being created between requests");
                if let Some(verdict) = missed {
                    // Nobody asks here: a coin is spent by whoever has spent it.
                    let nobody = TxId([0xff; 32]);
                    each(place, Err(self.verdict(&outpoint, &nobody, verdict)));
                }
            }
        }
    }

    fn reserve_many(&mut self, ctx: &Context, wanted: &[Wanted<'_>], out: &mut Vec<Verdict>) {
        for batch in wanted.chunks(WARM_MAX) {
            self.warm(batch.iter().map(|w| &w.outpoint.txid));
            for one in batch {
                let verdict = self.reserve(ctx, one);
                out.push(verdict);
            }
        }
    }

    fn release_many(&mut self, held: &[(TxId, OutPoint)], out: &mut Vec<Verdict>) {
        for (by, outpoint) in held {
            if let Some(flight) = self.flights.get_mut(by) {
                flight.held.retain(|o| o != outpoint);
                let ticket = flight.ticket;
                if flight.held.is_empty() {
                    self.flights.remove(by);
                }
                self.release(ticket, *by, 0, *outpoint);
            }
            out.push(Verdict::Done);
        }
    }

    fn settle_many(&mut self, ctx: &Context, txs: &[Spending<'_>], out: &mut Vec<Verdict>) {
        for tx in txs {
            let verdict = self.settle(ctx, tx);
            out.push(verdict);
        }
    }

    fn commit_many(&mut self, ctx: &Context, txs: &[Spending<'_>], out: &mut Vec<Verdict>) {
        // Few enough that what is warm stays so until it is used: a transaction of two inputs has three ids.
        for batch in txs.chunks(WARM_MAX / 4) {
            self.warm(batch.iter().flat_map(|tx| {
                std::iter::once(&tx.txid).chain(tx.inputs.iter().map(|coin| &coin.txid))
            }));
            for tx in batch {
                let verdict = self.commit(ctx, tx);
                out.push(verdict);
            }
        }
    }

    fn create_many(&mut self, txs: &[MinedTx<'_>], out: &mut Vec<Verdict>) {
        for batch in txs.chunks(WARM_MAX) {
            self.warm(batch.iter().map(|tx| &tx.txid));
            for tx in batch {
                let owner = self.owner(&tx.txid);
                out.push(self.at(owner).import_tx(tx));
            }
        }
    }

    fn unspend_many(&mut self, spends: &[(OutPoint, TxId)], out: &mut Vec<Verdict>) {
        for (outpoint, by) in spends {
            let owner = self.owner(&outpoint.txid);
            let owner = self.at(owner);
            let done = owner.unspend(outpoint, by) == SpendState::Done;
            out.push(if done {
                Verdict::Done
            } else if owner.has(&outpoint.txid) {
                Verdict::InvalidSpend
            } else {
                Verdict::TxMissing
            });
        }
    }

    fn set_mined(&mut self, block: u32, height: u32, runs: &[Run]) -> Verdict {
        let nothing = [Run { lane: 0, from: 1, to: 0 }];
        let runs = if runs.is_empty() { &nothing[..] } else { runs };
        for (i, &Run { lane, from, to }) in runs.iter().enumerate() {
            let order = Admin::SetMined { shard: lane, block, height, from_seq: from, to_seq: to };
            if !self.admin(&order) {
                if i > 0 {
                    self.admin(&Admin::UnsetMined { block });
                }
                return Verdict::Contradicts;
            }
        }
        Verdict::Done
    }

    fn unset_mined(&mut self, block: u32) -> Verdict {
        let done = self.admin(&Admin::UnsetMined { block });
        if done { Verdict::Done } else { Verdict::Contradicts }
    }

    fn known_many(
        &mut self,
        ctx: &Context,
        asked: &[(TxId, &[OutPoint])],
        out: &mut Vec<Option<Known>>,
    ) {
        for (txid, parents) in asked {
            let known = self.shards[self.owner(txid)].known(txid);
            out.push(known.map(|(mined_height, rule_set)| {
                let here = |o: &OutPoint| self.shards[self.owner(&o.txid)].is_visible(&o.txid, ctx);
                Known { mined_height, parents_here: parents.iter().all(here), rule_set }
            }));
        }
    }

    fn freeze_many(&mut self, coins: &[OutPoint], frozen: bool, out: &mut Vec<Verdict>) {
        self.for_coins(
            coins,
            out,
            |shard, coin| {
                if frozen { shard.freeze(coin) } else { shard.unfreeze(coin) }
            },
        );
    }

    fn lock_many(&mut self, coins: &[OutPoint], locked: bool, out: &mut Vec<Verdict>) {
        self.for_coins(coins, out, |shard, coin| shard.set_locked(coin, locked));
    }

    fn reassign_many(&mut self, coins: &[Reassigned<'_>], out: &mut Vec<Verdict>) {
        for order in coins {
            let owner = self.owner(&order.outpoint.txid);
            out.push(self.at(owner).reassign(order));
        }
    }

    fn preserve_many(&mut self, txids: &[TxId], until_height: u32, out: &mut Vec<Verdict>) {
        for txid in txids {
            let owner = self.owner(txid);
            let owner = self.at(owner);
            out.push(if owner.preserve(txid, until_height) {
                Verdict::Done
            } else if owner.has(txid) {
                Verdict::Contradicts
            } else {
                Verdict::TxMissing
            });
        }
    }

    fn evict_step(&mut self, txid: &TxId) -> Evicting {
        if self.evicting.first().is_none_or(|first| first.0 != *txid) {
            assert!(self.evicting.is_empty(), "an eviction is finished before the next begins");
            self.evicting.push((*txid, 0));
        }
        let &(top, from_vout) = self.evicting.last().expect("pushed above");
        let home = self.owner(&top);
        self.answers.clear();
        self.at(home);
        let step = self.shards[home].evict(&top, from_vout, &mut self.answers);
        self.forget_wakes(home);
        let place = self.evicting.len() - 1;
        match step {
            EvictStep::More { vout } => self.evicting[place].1 = vout,
            EvictStep::Held { vout } => {
                self.evicting.clear();
                let by = self.shards[home].holder(&OutPoint { txid: top, vout });
                return Evicting::Ended(Verdict::Busy { by: by.unwrap_or(top) });
            }
            EvictStep::Spent { vout, by, .. } => {
                self.evicting[place].1 = vout;
                self.evicting.push((by, 0));
            }
            EvictStep::Done => {
                self.evicting.pop();
                let inputs = self.inputs.as_mut().and_then(|all| all.remove(&top));
                for outpoint in inputs.unwrap_or_default() {
                    let owner = self.owner(&outpoint.txid);
                    self.at(owner).unspend(&outpoint, &top);
                }
                if self.evicting.is_empty() {
                    return Evicting::Ended(Verdict::Done);
                }
            }
            EvictStep::Unknown | EvictStep::Mined => {
                self.evicting.clear();
                let mined = step == EvictStep::Mined;
                return Evicting::Ended(if mined { Verdict::Mined } else { Verdict::TxMissing });
            }
        }
        Evicting::More
    }

    fn prune_step(&mut self, height: u32) -> bool {
        let (shard, from) = self.prune_at;
        match self.at(shard).prune(from, PRUNE_PLACES, height).next {
            Some(next) => self.prune_at = (shard, next),
            None if shard + 1 < self.shards.len() => self.prune_at = (shard + 1, 0),
            None => {
                self.prune_at = (0, 0);
                return false;
            }
        }
        true
    }

    fn unmined(&mut self) -> Vec<TxId> {
        let mut places: HashMap<TxId, (u64, usize)> = HashMap::new();
        let mut parents: HashMap<TxId, usize> = HashMap::new();
        let mut children: HashMap<TxId, Vec<TxId>> = HashMap::new();
        for (lane, shard) in self.shards.iter().enumerate() {
            shard.for_each_unmined(&mut |txid, seq, spenders| {
                places.insert(txid, (seq, lane));
                children.insert(txid, spenders.to_vec());
                for &child in spenders {
                    *parents.entry(child).or_default() += 1;
                }
            });
        }
        // Of all whose parents have gone before, the one decided first.
        let key = |txid: &TxId| places.get(txid).map(|&(seq, lane)| Reverse((seq, lane, *txid)));
        let mut ready: BinaryHeap<_> =
            places.keys().filter(|txid| !parents.contains_key(txid)).filter_map(key).collect();
        let mut order = Vec::with_capacity(places.len());
        while let Some(Reverse((.., txid))) = ready.pop() {
            order.push(txid);
            for child in &children[&txid] {
                let left = parents.get_mut(child).expect("counted above");
                *left -= 1;
                if *left == 0 {
                    ready.extend(key(child));
                }
            }
        }
        order
    }

    fn for_each_coin(&mut self, each: &mut dyn FnMut(&OutPoint, &Coin<'_>)) {
        for shard in &self.shards {
            shard.for_each_unspent(each);
        }
    }

    fn totals(&mut self) -> StoreTotals {
        let mut sum = StoreTotals::default();
        for shard in &self.shards {
            let (t, c) = (shard.totals(), shard.counts());
            sum.utxos += t.utxos;
            sum.transactions += t.transactions;
            sum.value_sat += t.value_sat;
            sum.reserved += t.reserved;
            sum.full += c.full + c.refused + c.overloaded;
            sum.resident_bytes += t.resident_bytes;
        }
        sum
    }
}

impl Shards {
    #[inline]
    fn warm<'a>(&self, ids: impl Iterator<Item = &'a TxId>) {
        if let [shard] = &self.shards[..] {
            shard.warm_ids(ids);
        } else {
            for id in ids {
                self.shards[self.owner(id)].warm_ids(std::iter::once(id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;
    use crate::reference::Reference;
    use crate::testing::config;
    use proptest::prelude::*;

    fn engine(shards: u16) -> Shards {
        conformance::small_shards(shards)
    }

    #[test]
    fn the_reference_conforms() {
        let told = conformance::run(|| Box::new(Reference::new(conformance::params())));
        assert_eq!(told, 10);
    }

    #[test]
    fn one_shard_conforms() {
        assert_eq!(conformance::run(|| Box::new(engine(1))), 10);
    }

    #[test]
    fn four_shards_conform() {
        assert_eq!(conformance::run(|| Box::new(engine(4))), 10);
    }

    #[test]
    fn a_full_shard_says_full_counts_it_and_serves_again_after_pruning() {
        let mut store = Shards::new(&ShardConfig { slab_bytes: 1 << 17, ..config(0, 1) }, false);
        let first = TxId([7; 32]);
        let coins = [(0, 9, &[0x51][..])];
        let base = MinedTx { txid: first, height: 10, coinbase: false, coins: &coins };
        let mut out = Vec::new();
        store.create_many(&[base], &mut out);
        let ctx = Context { height: 501, ..Context::default() };
        let mut last = OutPoint { txid: first, vout: 0 };
        let mut decided = 0;
        // A chain that takes all memory; then its block is connected, and pruning gives nearly all of it back.
        for round in 1..4 {
            let began = decided;
            loop {
                let tx = crate::testing::tx(&[last], &[5], decided as u32);
                let (txid, raw) = (tx.txid(), tx.to_bytes());
                out.clear();
                store.commit_many(&ctx, &[Spending { txid, inputs: &[last], raw: &raw }], &mut out);
                if !out[0].is_good() {
                    break;
                }
                decided += 1;
                last = OutPoint { txid, vout: 0 };
            }
            assert_eq!(out, [Verdict::Full], "after {decided}");
            assert!(decided - began > 400, "{} in round {round}", decided - began);
            assert_eq!(store.totals().full, u64::from(round));
            store.shards[0].check();
            let run = Run { lane: 0, from: began + 1, to: decided };
            assert_eq!(store.set_mined(round, 500 + round, &[run]), Verdict::Done);
            while store.prune_step(500 + round) {}
            assert_eq!(store.totals().transactions, 1, "the end of the chain is left");
            store.shards[0].check();
        }
    }

    #[test]
    fn a_record_of_very_many_outputs_is_pruned_in_pieces_and_gives_its_memory_back() {
        let mut store = Shards::new(&ShardConfig { slab_bytes: 16 << 20, ..config(0, 1) }, false);
        let coins: Vec<_> = (0..20_000).map(|vout| (vout, 9, &[0x51][..])).collect();
        let txid = TxId([7; 32]);
        let large = MinedTx { txid, height: 10, coinbase: false, coins: &coins };
        let mut out = Vec::new();
        store.create_many(&[large], &mut out);
        let inputs: Vec<_> = (0..20_000).map(|vout| OutPoint { txid, vout }).collect();
        let tx = crate::testing::tx(&inputs, &[5], 1);
        let raw = tx.to_bytes();
        let ctx = Context { height: 501, ..Context::default() };
        store.commit_many(
            &ctx,
            &[Spending { txid: tx.txid(), inputs: &inputs, raw: &raw }],
            &mut out,
        );
        assert!(out.iter().all(Verdict::is_good), "{out:?}");
        let full = store.shards[0].totals().slab_used_bytes;
        let run = Run { lane: 0, from: 1, to: 1 };
        assert_eq!(store.set_mined(1, 501, &[run]), Verdict::Done);
        let mut steps = 0;
        while store.prune_step(501) {
            steps += 1;
            store.shards[0].check();
        }
        assert!(steps > 70, "{steps} steps of 512 outputs, looked at and then freed");
        assert!(store.shards[0].has_work(), "its extents are freed by steps too");
        while store.shards[0].step() {
            store.shards[0].check();
        }
        assert_eq!(store.totals().transactions, 1);
        let left = store.shards[0].totals().slab_used_bytes;
        assert!(left < 1000, "{left} of {full} bytes are left");
    }

    proptest! {
        #[test]
        fn any_program_gives_the_reference_s_answers(
            program in prop::collection::vec(any::<u8>(), 0..400),
            shards in 1_u16..4,
        ) {
            let mut engine = engine(shards);
            conformance::differential(&program, &mut engine);
            for shard in engine.shards() {
                shard.check();
            }
        }
    }
}
