//! Runs about blocks of others: branches that compete, reorganisations with conflicts, blocks that are not valid.
//!
//! In: a seed and a number of rounds. A round sends transactions, then has the node's own [`Conductor`] connect, refuse or
//! disconnect blocks while they are on their way, over wires that hold frags back as the seed says; then everything comes to
//! rest and the machine is compared with a shadow. Out: a hash over every event, or a [`Failure`] that its seed replays.
//!
//! The shadow is the chain of blocks and the list of what the pool holds, read from the shards' streams. What must hold at rest:
//! the shards' coins are exactly those of chain and pool; nothing in the pool contradicts the chain or itself; pack offers
//! exactly the pool, parents first; an eviction has a reason, and nobody else is missing; a refused block changed nothing. A
//! [`BlockPlant`] is a bug between the conductor and the tiles.

mod crashes;
mod lines;
mod make;
mod schedules;
mod shadow;
#[cfg(test)]
mod tests;

use crate::fault::{Checked, Failure, FailureKind, ensure, ensure_live};
use crate::machine::Machine;
use crate::options::Options;
use crate::plant::Planted;
use crate::run;
use crate::wire::{WireKind, publish};
use consensus::hash::TxId;
use consensus::tx::{OutPoint, Tx};
pub use crashes::{CrashPlant, CrashRun, run_crashes};
use crashes::{Happened, Keeping, Published};
use dataplane::blocks::{Conductor, Connected, Disconnected, NewBlock, Rejection, Trouble};
use dataplane::msg::admin::Admin;
use dataplane::msg::{
    Accepted, AcceptedKind, BatchWriter, Epoch, IngestHeader, TxVerdict, ValidateControl,
    VerdictFrag,
};
use dataplane::rng::Rng;
use dataplane::stem::Turn;
use dataplane::tile::Stamp;
use dataplane::time::US;
use lines::GroundLines;
pub use lines::{BlockPlant, Strikes};
use make::Bad;
pub use schedules::Schedule;
use shadow::{Block, Shadow};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const SALT: u64 = 0x72_65_6f_72_67;
/// Coins there are from the start.
const BASE_COINS: u8 = 60;
const BASE_SAT: u64 = 1_000_000;
/// Rests of the conductor in a row that bring nothing before it counts as stuck.
const IDLE_MAX: u64 = 200_000;
/// Rounds of everybody without movement after which the machine is at rest, and most rounds until then.
const REST_ROUNDS: u32 = 30;
const DRAIN_ROUNDS_MAX: u32 = 60_000;
/// Empty blocks in front of a run that wants old coinbases.
const OLD_BLOCKS: u32 = 102;

/// A run that ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReorgRun {
    /// Stands for every event.
    pub trace_hash: u64,
    /// Blocks connected.
    pub connected: u64,
    /// Blocks disconnected.
    pub disconnected: u64,
    /// Blocks refused.
    pub refused: u64,
    /// Blocks that met a bound of the machine and were taken back.
    pub overloaded: u64,
    /// Transactions evicted.
    pub evicted: u64,
    /// Transactions put back in front.
    pub restored: u64,
    /// Transactions of blocks that came from the pool.
    pub from_pool: u64,
    /// Pool transactions accepted.
    pub accepted: u64,
    /// How often the plant struck.
    pub strikes: u32,
}

/// One run of `rounds` rounds.
pub fn run_reorgs(seed: u64, rounds: u32, plant: Option<BlockPlant>) -> Result<ReorgRun, Failure> {
    let failed = |step, (kind, what)| Failure { kind, seed, step, what };
    let mut ground = Ground::new(seed, plant);
    ground.begin().map_err(|e| failed(ground.step, e))?;
    for _ in 0..rounds {
        ground.round().map_err(|e| failed(ground.step, e))?;
    }
    ground.tally.trace_hash = ground.hash;
    ground.tally.strikes = ground.strikes.count;
    Ok(ground.tally)
}

/// One machine, its shadow, and what is on its way. See the module.
#[derive(Debug)]
pub(super) struct Ground {
    seed: u64,
    step: u64,
    options: Options,
    machine: Machine,
    rng: Rng,
    /// Numbers of actors whose wire moves nothing until a step.
    stalled: BTreeMap<usize, u64>,
    healed: bool,
    copies: VecDeque<(u64, Vec<u8>)>,
    token: u64,
    shadow: Shadow,
    /// Taken while it works.
    conductor: Option<Conductor>,
    /// Newest publication of each shard that was seen.
    published: Vec<u64>,
    /// Who was evicted since it was asked last.
    gone: BTreeSet<TxId>,
    strikes: Strikes,
    hash: u64,
    tally: ReorgRun,
    no_plant: Planted,
    /// Journals, and what must come back; nothing where nobody crashes.
    keeping: Option<Keeping>,
}

impl Ground {
    fn new(seed: u64, plant: Option<BlockPlant>) -> Self {
        let mut options = Options::draw(seed);
        options.full = false;
        let machine = Machine::new(&options, seed);
        Self::around(seed, options, machine, plant)
    }

    fn around(seed: u64, options: Options, machine: Machine, plant: Option<BlockPlant>) -> Self {
        let shadow = Shadow::new(machine.params.clone(), options.height - 1);
        let conductor = Conductor::new(machine.params.clone(), machine.partition.clone());
        Self {
            seed,
            step: 0,
            rng: Rng::salted(seed, SALT),
            stalled: BTreeMap::new(),
            healed: false,
            copies: VecDeque::new(),
            token: 0,
            published: vec![0; usize::from(options.shards)],
            gone: BTreeSet::new(),
            strikes: Strikes::new(plant),
            hash: 0xcbf2_9ce4_8422_2325,
            tally: ReorgRun::default(),
            no_plant: Planted::new(None, seed),
            conductor: Some(conductor),
            keeping: None,
            shadow,
            machine,
            options,
        }
    }

    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// The coins there are from the start, and the height.
    fn begin(&mut self) -> Checked {
        let context = self.shadow.pool_context();
        for n in 0..BASE_COINS {
            let outpoint = OutPoint { txid: TxId::of(&[n]), vout: 0 };
            let shard = usize::from(self.machine.partition.shard(&outpoint.txid));
            let height = self.shadow.base_height;
            let order = Admin::Import {
                outpoint,
                value_sat: BASE_SAT,
                height,
                coinbase: false,
                locking_script: make::OPEN,
            };
            let mut buffer = [0; 512];
            let mut batch = BatchWriter::new(&mut buffer, Epoch::default(), context);
            assert!(batch.push(&order), "an import fits");
            let len = batch.finish();
            while !publish(&mut self.machine.control_shard[shard], 0, Stamp(0), &buffer[..len], 0) {
                self.act_often(8)?;
                self.drop_shard_answers();
            }
            self.shadow.add_base(outpoint, BASE_SAT);
        }
        let message = ValidateControl::SetPool { context }.encode();
        for out in &mut self.machine.control_validate {
            let sent = publish(out, 0, Stamp(0), &message, 0);
            assert!(sent, "nothing else is on that link yet");
        }
        // A shard reads no more orders than there is room for answers to.
        while {
            self.settle()?;
            self.drop_shard_answers()
        } {}
        // With journals every block is a commit of its own: fewer seeds get an old chain.
        let old_every = if self.keeping.is_some() { 25 } else { 3 };
        if self.seed.is_multiple_of(old_every) {
            for _ in 0..OLD_BLOCKS {
                self.connect_new(&[], None)?;
            }
        }
        self.verify()
    }

    fn drop_shard_answers(&mut self) -> bool {
        let mut any = false;
        for input in &mut self.machine.shard_control {
            while input.poll().is_some() {
                any = true;
            }
            input.return_credit();
        }
        any
    }

    /// Sends transactions, does something about blocks while they are on their way, comes to rest, compares.
    fn round(&mut self) -> Checked {
        for _ in 0..self.rng.below(14) {
            let tx = make::pool_tx(&mut self.rng, &self.shadow);
            self.send(&tx);
        }
        let mut acts = self.rng.below(400);
        if self.keeping.as_ref().is_some_and(Keeping::is_scheduled) {
            // Schedules are about transactions that are on their way for long.
            for _ in 0..24 {
                self.act_often(acts)?;
                for _ in 0..4 {
                    let tx = make::pool_tx(&mut self.rng, &self.shadow);
                    self.send(&tx);
                }
                acts = self.rng.below(600);
            }
        }
        self.act_often(acts)?;
        match self.rng.below(10) {
            0..=2 => {
                let txs = make::block_txs(&mut self.rng, &self.shadow);
                self.connect_new(&txs, None)?;
            }
            3 | 4 => {
                let bad = Bad::ALL[self.rng.index(Bad::ALL.len())];
                let (txs, bad) = make::bad_block_txs(&mut self.rng, &self.shadow, bad);
                self.connect_new(&txs, Some(bad))?;
            }
            5 => self.connect_pool()?,
            _ => self.reorganise()?,
        }
        self.settle()?;
        self.verify()
    }

    /// A copy for the pool; a transaction may be sent many times.
    fn send(&mut self, tx: &Tx) {
        self.shadow.made.insert(tx.txid(), tx.clone());
        self.token += 1;
        self.copies.push_back((self.token, tx.to_bytes()));
    }

    /// A block of what the pool holds, in its order, as a miner elsewhere might make it.
    fn connect_pool(&mut self) -> Checked {
        let txs = make::of_pool(&self.shadow);
        self.connect_new(&txs, None).map(|_| ())
    }

    /// Some blocks off, others on, one more than were; if one of them is bad, the old ones again.
    fn reorganise(&mut self) -> Checked {
        let depth = (1 + self.rng.index(4)).min(self.shadow.chain.len());
        if depth == 0 {
            return Ok(());
        }
        let mut old = Vec::new();
        for _ in 0..depth {
            old.push(self.disconnect_tip()?);
            self.act_often(20)?;
        }
        let bad_at = self.rng.chance(1, 4).then(|| self.rng.index(depth + 1));
        for at in 0..=depth {
            let connected = if bad_at == Some(at) {
                let bad = Bad::ALL[self.rng.index(Bad::ALL.len())];
                let (txs, bad) = make::bad_block_txs(&mut self.rng, &self.shadow, bad);
                self.connect_new(&txs, Some(bad))?
            } else {
                let txs = make::block_txs(&mut self.rng, &self.shadow);
                self.connect_new(&txs, None)?
            };
            if connected {
                continue;
            }
            for _ in 0..at {
                self.disconnect_tip()?;
            }
            while let Some(block) = old.pop() {
                if !self.connect_block(block, None)? {
                    break;
                }
            }
            break;
        }
        Ok(())
    }

    fn connect_new(&mut self, txs: &[Tx], bad: Option<Bad>) -> Checked<bool> {
        let salt = self.rng.next_u64();
        let block = self.shadow.block(txs, salt, bad == Some(Bad::RichCoinbase));
        self.connect_block(block, bad)
    }

    /// Connects a block, which must be refused if and only if it is bad; whether it was connected.
    fn connect_block(&mut self, block: Block, bad: Option<Bad>) -> Checked<bool> {
        for tx in &block.txs {
            self.shadow.made.insert(tx.txid(), tx.clone());
        }
        self.gone.clear();
        let new = NewBlock {
            raw: &block.raw,
            height: block.height,
            parent_median_time_past: self.shadow.median_time_past(),
            median_time_past: self.shadow.median_time_past() + 1,
        };
        let mut conductor = self.conductor.take().expect("one thing at a time");
        self.begin_block(&mut conductor, true, &block)?;
        let outcome = conductor.connect(&mut GroundLines(self), &new);
        let happened = matches!(outcome, Ok(Ok(_))).then_some(Happened::Connected(&block));
        if !matches!(outcome, Err(LinesError::Machine(..))) {
            self.end_block(&mut conductor, happened)?;
        }
        self.conductor = Some(conductor);
        match outcome {
            Ok(Ok(connected)) => {
                ensure(bad.is_none(), || format!("a block with {bad:?} was connected"))?;
                self.was_connected(block, &connected)?;
                Ok(true)
            }
            Ok(Err(Rejection { reason, txid, vin, .. })) => {
                let expected = bad.map_or("nothing", Bad::reason);
                ensure(reason == expected, || {
                    let place = txid.map(|txid| self.shadow.place(&txid));
                    format!(
                        "a block was refused for {reason} (input {vin:?} of {txid:?}, which is in {place:?}), expected {expected}"
                    )
                })?;
                self.tally.refused += 1;
                self.settle()?;
                self.verify()?;
                Ok(false)
            }
            Err(LinesError::Trouble(Trouble::Overloaded { .. })) if !self.options.roomy => {
                self.tally.overloaded += 1;
                self.settle()?;
                self.verify()?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn was_connected(&mut self, block: Block, connected: &Connected) -> Checked {
        self.settle()?;
        let evicted: BTreeSet<TxId> = connected.evicted.iter().copied().collect();
        let gone = std::mem::take(&mut self.gone);
        ensure(gone == evicted, || format!("{evicted:?} were told, {gone:?} went"))?;
        self.shadow.check_losers(&block, &evicted)?;
        self.tally.connected += 1;
        self.tally.evicted += evicted.len() as u64;
        self.tally.from_pool += connected.from_pool;
        let in_pool = block.txs[1..].iter().filter(|tx| self.shadow.pool.contains(&tx.txid()));
        let (in_pool, told) = (in_pool.count() as u64, connected.from_pool);
        ensure(in_pool == told, || format!("{told} came from the pool, expected {in_pool}"))?;
        self.shadow.connect(block);
        self.note(b"connected");
        self.verify()
    }

    fn disconnect_tip(&mut self) -> Checked<Block> {
        // What is on its way is judged by a lower tip from now on; so is what the shadow allows.
        self.settle()?;
        self.gone.clear();
        let block = self.shadow.chain.last().expect("there is one").clone();
        let (height, mtp) = (block.height - 1, self.shadow.median_time_past() - 1);
        for _ in 0..self.rng.below(6) {
            let tx = make::pool_tx(&mut self.rng, &self.shadow);
            self.send(&tx);
        }
        let acts = self.rng.below(200);
        self.act_often(acts)?;
        let mut conductor = self.conductor.take().expect("one thing at a time");
        self.begin_block(&mut conductor, false, &block)?;
        let outcome = conductor.disconnect(&mut GroundLines(self), &block.raw, height, mtp);
        let Disconnected { restored, evicted } = outcome.map_err(<(FailureKind, String)>::from)?;
        self.end_block(&mut conductor, Some(Happened::Disconnected(&restored)))?;
        self.conductor = Some(conductor);
        self.tally.disconnected += 1;
        self.tally.restored += restored.len() as u64;
        self.tally.evicted += evicted.len() as u64;
        self.shadow.disconnect(&restored);
        self.settle()?;
        let evicted: BTreeSet<TxId> = evicted.into_iter().collect();
        let gone = std::mem::take(&mut self.gone);
        ensure(gone == evicted, || format!("{evicted:?} were told, {gone:?} went"))?;
        self.shadow.check_fallen(&block, &restored, &evicted)?;
        self.note(b"disconnected");
        self.verify()?;
        Ok(block)
    }

    fn act_often(&mut self, times: u64) -> Checked {
        for _ in 0..times {
            self.act()?;
        }
        Ok(())
    }

    fn actors(&self) -> usize {
        self.machine.validates.len() * 2
            + self.machine.shards.len()
            + self.machine.wires.len()
            + 3
            + usize::from(self.machine.long.is_some())
            + usize::from(self.keeping.is_some())
    }

    /// Somebody drawn does something, unless it stalls.
    fn act(&mut self) -> Checked<bool> {
        let who = self.rng.index(self.actors());
        if self.stalled.get(&who).is_some_and(|&until| until > self.step) || self.is_held(who) {
            self.step += 1;
            return Ok(false);
        }
        if self.rng.chance(self.options.stall_per_mille.min(20), 1_000) {
            let until = self.step + 1 + self.rng.below(self.options.stall_steps_max.min(2_000));
            self.stalled.insert(who, until);
        }
        self.turn(who)
    }

    fn turn(&mut self, who: usize) -> Checked<bool> {
        self.step += 1;
        run::note(self.seed, self.step);
        self.may_crash()?;
        if self.keeping.is_some() && who + 1 == self.actors() {
            return Ok(self.turn_epochs());
        }
        self.machine.clock.advance(US);
        let m = &mut self.machine;
        let (v, s, w) = (m.validates.len(), m.shards.len(), m.wires.len());
        let mut at = who;
        if at < v {
            return Ok(m.validates[at].turn() == Turn::Busy);
        }
        at -= v;
        if at < s {
            return Ok(m.shards[at].turn() == Turn::Busy);
        }
        at -= s;
        if at < w {
            return self.wire(at);
        }
        at -= w;
        if at < v {
            return self.verdicts(at);
        }
        at -= v;
        match at {
            0 => Ok(m.pack.turn() == Turn::Busy),
            1 => Ok(self.gate()),
            2 => {
                let any = m.pack_store.poll().is_some();
                m.pack_store.return_credit();
                Ok(any)
            }
            _ => Ok(m.long.as_mut().is_some_and(|long| long.turn() == Turn::Busy)),
        }
    }

    fn wire(&mut self, at: usize) -> Checked<bool> {
        let frags = if self.healed { 64 } else { self.options.wire_frags };
        let burst = if self.healed { 16 } else { 1 + self.rng.below(self.options.wire_burst) };
        let mut any = false;
        for _ in 0..burst {
            let Self { machine, no_plant, keeping, .. } = self;
            let wire = &mut machine.wires[at];
            let kind = wire.kind();
            let taken = wire.take_in(frags, no_plant);
            if taken.is_some() && keeping.as_ref().is_some_and(|k| k.forgets_epochs(kind)) {
                wire.edit_newest(crashes::forget_epoch);
            }
            let handed = wire.hand_on();
            any |= taken.is_some() || handed;
            if let (WireKind::Publish { shard }, Some(held)) = (kind, &taken) {
                self.published(usize::from(shard), &held.bytes)?;
            }
            if taken.is_none() && !handed {
                break;
            }
        }
        Ok(any)
    }

    /// What the shards' streams say about the pool.
    fn published(&mut self, shard: usize, bytes: &[u8]) -> Checked {
        let accepted = Accepted::decode(bytes);
        let Some(accepted) = accepted else {
            return ensure(false, || format!("shard {shard} published no frag of ours"));
        };
        let (txid, seq) = (accepted.txid, accepted.publish_seq);
        ensure(seq == self.published[shard] + 1, || format!("shard {shard} published {seq} late"))?;
        self.published[shard] = seq;
        let (kind, epoch) = (accepted.kind, accepted.epoch);
        self.note(&txid.0);
        let what = match kind {
            AcceptedKind::Pool => Published::Accepted(txid),
            AcceptedKind::Evicted => Published::Evicted(txid),
            AcceptedKind::Block => Published::Other,
        };
        self.note_published(shard, seq, epoch, what);
        match kind {
            AcceptedKind::Pool => {
                self.tally.accepted += 1;
                let new = self.shadow.pool.insert(txid);
                ensure(new, || format!("{txid} was accepted into the pool twice"))
            }
            AcceptedKind::Evicted => {
                self.gone.insert(txid);
                self.shadow.pool.remove(&txid);
                Ok(())
            }
            AcceptedKind::Block => Ok(()),
        }
    }

    fn verdicts(&mut self, at: usize) -> Checked<bool> {
        let (mut any, mut told) = (false, Vec::new());
        while let Some(frag) = self.machine.validate_verdict[at].poll() {
            let verdict = VerdictFrag::decode(frag.bytes);
            any = true;
            let known = verdict.is_some_and(|v| v.verdict != TxVerdict::MissingInput);
            ensure(known, || format!("a verdict on a copy for the pool: {verdict:?}"))?;
            let accepted = verdict.filter(|v| v.verdict == TxVerdict::Accepted);
            told.extend(accepted.map(|v| v.txid));
        }
        self.machine.validate_verdict[at].return_credit();
        told.into_iter().for_each(|txid| self.note_accepted(txid));
        Ok(any)
    }

    fn gate(&mut self) -> bool {
        let Some((token, tx)) = self.copies.front() else { return false };
        let header = IngestHeader { token: *token, source: 1, ..IngestHeader::default() };
        let mut frag = vec![0; IngestHeader::LEN];
        header.write(&mut frag);
        frag.extend_from_slice(tx);
        let to = usize::from(self.machine.partition.validator_of_bytes(tx));
        let out = &mut self.machine.submit_validate[to];
        let sent = publish(out, 0, Stamp(0), &frag, *token);
        if sent {
            self.copies.pop_front();
        }
        sent
    }

    /// Everybody in turn until nothing moves.
    fn settle(&mut self) -> Checked {
        self.healed = true;
        let mut still = 0;
        for _ in 0..DRAIN_ROUNDS_MAX {
            let mut moved = false;
            self.machine.clock.advance(20 * US);
            for who in 0..self.actors() {
                moved |= self.turn(who)?;
            }
            still = if moved { 0 } else { still + 1 };
            if still == REST_ROUNDS {
                self.healed = false;
                return Ok(());
            }
        }
        ensure_live(false, || format!("still moving after {DRAIN_ROUNDS_MAX} rounds"))
    }

    /// The machine at rest against the shadow.
    fn verify(&mut self) -> Checked {
        self.shadow.check_pool()?;
        let mut coins: BTreeMap<OutPoint, u64> = BTreeMap::new();
        let (mut held, mut announced, mut utxos) = (0, 0, 0);
        for stem in &self.machine.shards {
            let shard = stem.tile().shard();
            shard.check();
            shard.for_each_coin(|at, value_sat, _| {
                coins.insert(at, value_sat);
            });
            let totals = shard.totals();
            held += totals.reserved;
            announced += totals.announced;
            utxos += totals.utxos;
        }
        ensure_live((held, announced) == (0, 0), || {
            format!("at rest there are {held} reservations and {announced} announcements")
        })?;
        let expected = self.shadow.coins();
        let extra = coins.keys().find(|at| !expected.contains_key(at));
        ensure(extra.is_none(), || format!("the shards have {extra:?}, the shadow does not"))?;
        let lost = expected.keys().find(|at| !coins.contains_key(at));
        ensure(lost.is_none(), || {
            let place = lost.map(|at| self.shadow.place(&at.txid));
            format!("the shadow has {lost:?} ({place:?}), the shards do not")
        })?;
        ensure(coins == expected && utxos == coins.len() as u64, || {
            format!("{utxos} coins are counted, {} are there", coins.len())
        })?;
        let leaves = self.leaves()?;
        self.shadow.check_leaves(&leaves)
    }

    /// What pack offers.
    fn leaves(&mut self) -> Checked<Vec<TxId>> {
        let mut conductor = self.conductor.take().expect("one thing at a time");
        let leaves = lines::leaves(&mut conductor, self);
        self.conductor = Some(conductor);
        let leaves = leaves?;
        self.settle()?;
        Ok(leaves)
    }
}

/// Why the conductor could not go on.
#[derive(Debug)]
pub(super) enum LinesError {
    /// It says so.
    Trouble(Trouble),
    /// The machine broke a rule meanwhile, or stands still.
    Machine(FailureKind, String),
}

impl From<Trouble> for LinesError {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<LinesError> for (FailureKind, String) {
    fn from(error: LinesError) -> Self {
        match error {
            LinesError::Trouble(trouble) => (FailureKind::Incorrect, trouble.to_string()),
            LinesError::Machine(kind, what) => (kind, what),
        }
    }
}
