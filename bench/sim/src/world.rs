//! The world: one machine, one clock, one schedule. A step is one turn of one tile, one move of one wire, or one act of those
//! outside (the gate, the readers of verdicts, the chain); which one is drawn.
//!
//! Nothing here depends on anything but the seed. The schedule, the faults, the workload and the time have random streams of
//! their own, so that one more draw in one of them leaves the others as they were.

use crate::auditor::{Auditor, Truth};
use crate::chain::Chain;
use crate::check;
use crate::fault::{Checked, FailureKind, ensure_live};
use crate::gate::Gate;
use crate::machine::{Machine, Turned};
use crate::options::Options;
use crate::plant::{Plant, Planted};
use crate::run;
use crate::trace::Trace;
use crate::wire::{Held, WireKind};
use crate::workload::{Targets, Workload};
use consensus::hash::TxId;
use dataplane::msg::pack_control::Want;
use dataplane::msg::{Accepted, Reply, Request, SeenState, VerdictFrag};
use dataplane::partition::Partition;
use dataplane::rng::Rng;
use dataplane::stem::Turn;
use dataplane::time::{MS, SEC, US};
use utxo_shard::ShardTile;

/// Coins there are from the start.
const BASE_COINS: usize = 1_200;
/// Coinbase outputs there are from the start, just too young.
const YOUNG_COINS: u32 = 12;
/// Copies that may wait to be sent before no more are made.
const WAITING_MAX: usize = 250;
/// Steps between two walks through the shards.
const WALK_STEPS: u64 = 256;
/// Rounds of everybody in which nothing moved, after which the machine counts as at rest.
const REST_ROUNDS: u32 = 40;
/// Rounds in which a machine without faults has to come to rest.
const DRAIN_ROUNDS_MAX: u32 = 60_000;
/// Times that those who were turned away are sent again without anybody being accepted.
const WAVES_MAX: u32 = 8;

const SCHEDULE: u64 = 0x73_63_68;
const FAULTS: u64 = 0x66_61_75;
const TIME: u64 = 0x74_69_6d;

/// Who can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Validate(usize),
    Shard(usize),
    Pack,
    Long,
    Wire(usize),
    Gate,
    Verdicts(usize),
    Chain,
    Store,
}

/// What the shards say, for the auditor.
pub struct Shards<'a> {
    pub stems: &'a [Turned<ShardTile>],
    pub partition: &'a Partition,
}

impl Truth for Shards<'_> {
    fn seen(&self, txid: &TxId) -> SeenState {
        self.stems[usize::from(self.home(txid))].tile().shard().seen(txid)
    }

    fn home(&self, txid: &TxId) -> u16 {
        self.partition.shard(txid)
    }
}

/// See the module.
#[derive(Debug)]
pub struct World {
    pub options: Options,
    pub seed: u64,
    pub step: u64,
    pub machine: Machine,
    pub auditor: Auditor,
    pub workload: Workload,
    pub gate: Gate,
    pub chain: Chain,
    pub trace: Trace,
    pub planted: Planted,
    schedule: Rng,
    faults: Rng,
    time: Rng,
    actors: Vec<Actor>,
    stalled_until: Vec<u64>,
    next_block: u64,
    /// Wires move as they like and nobody stalls.
    healed: bool,
    /// Nothing is sent but what a story sends.
    pub told: bool,
    pub stalls: u64,
    pub jumps: u64,
    pub freezes: u64,
    /// Things done, to see whether anything still moves.
    moved: u64,
}

impl World {
    /// Builds the machine, gives it its coins, and waits until it has them.
    pub fn new(options: Options, seed: u64, plant: Option<Plant>, lines: bool) -> Checked<Self> {
        let machine = Machine::new(&options, seed);
        let mut auditor = Auditor::new(options.shards, options.height);
        auditor.roomy = options.roomy;
        auditor.costly_fails = !options.long && options.hot_operations < 3_000;
        let mut actors = vec![Actor::Pack, Actor::Gate, Actor::Chain, Actor::Store];
        actors.extend((0..machine.validates.len()).map(Actor::Validate));
        actors.extend((0..machine.shards.len()).map(Actor::Shard));
        actors.extend((0..machine.wires.len()).map(Actor::Wire));
        actors.extend((0..machine.validates.len()).map(Actor::Verdicts));
        actors.extend(machine.long.is_some().then_some(Actor::Long));
        let mut chain =
            Chain::new(machine.params.clone(), machine.partition.clone(), options.height);
        chain.full = options.full;
        let mut world = Self {
            seed,
            step: 0,
            workload: Workload::new(&options, seed),
            gate: Gate::new(options.validators),
            chain,
            trace: Trace::new(lines),
            planted: Planted::new(None, seed),
            schedule: Rng::salted(seed, SCHEDULE),
            faults: Rng::salted(seed, FAULTS),
            time: Rng::salted(seed, TIME),
            stalled_until: vec![0; actors.len()],
            actors,
            next_block: options.block_steps,
            healed: true,
            told: false,
            stalls: 0,
            jumps: 0,
            freezes: 0,
            moved: 0,
            machine,
            auditor,
            options,
        };
        world.boot()?;
        world.healed = false;
        world.planted = Planted::new(plant, seed);
        Ok(world)
    }

    fn boot(&mut self) -> Checked {
        let height = self.options.height;
        let mut coins = Vec::new();
        for _ in 0..BASE_COINS {
            coins.push(self.workload.base_coin(height - 150, false));
        }
        for i in 0..YOUNG_COINS {
            coins.push(self.workload.base_coin(height - 101 + i % 6, true));
        }
        for (coin, height, coinbase) in &coins {
            self.auditor.add_base(coin.at, coin.value_sat, coin.lock, *height, *coinbase);
        }
        self.chain.import(&self.machine, &coins);
        self.chain.set_pool();
        self.drain()
    }

    /// One step.
    pub fn step(&mut self) -> Checked {
        self.step += 1;
        run::note(self.seed, self.step);
        self.machine.clock.advance(self.time.below(2 * US));
        if self.options.jumps && self.time.chance(1, 2_000) {
            self.jumps += 1;
            let ahead = [MS, 100 * MS, SEC, 4 * SEC][self.time.index(4)];
            self.machine.clock.advance(ahead);
        }
        if self.faults.chance(self.options.epoch_per_mille, 1_000) && !self.chain.has_mail() {
            self.chain.next_epoch();
        }
        if self.faults.chance(self.options.freeze, 100_000) {
            self.freeze();
        }
        if self.options.block_steps > 0 && self.step >= self.next_block {
            let wants =
                [Want::Everything, Want::Everything, Want::WholeSubtrees, Want::CoinbaseOnly];
            let want = wants[self.faults.index(wants.len())];
            self.chain.begin_block(want);
            self.next_block = self.step + 1 + self.faults.below(2 * self.options.block_steps);
        }
        if !self.told && self.gate.waiting() < WAITING_MAX && self.schedule.chance(1, 8) {
            let Self { workload, auditor, gate, .. } = self;
            workload.family(self.step, &mut Targets { auditor, gate });
        }
        let n = self.actors.len();
        for _ in 0..4 {
            let who = self.schedule.index(n);
            if self.stalled_until[who] > self.step {
                continue;
            }
            if self.faults.chance(self.options.stall_per_mille, 1_000) {
                self.stalls += 1;
                let stall = 1 + self.faults.below(self.options.stall_steps_max);
                self.stalled_until[who] = self.step + stall;
                continue;
            }
            if self.act(who)? {
                break;
            }
        }
        check::cheap(self)?;
        if self.step.is_multiple_of(WALK_STEPS) {
            check::walk(self);
        }
        Ok(())
    }

    /// Freezes a coin that is there, or lets one go.
    fn freeze(&mut self) {
        let frozen = self.auditor.frozen.iter().find(|(_, frozen)| **frozen).map(|(at, _)| *at);
        if let Some(at) = frozen.filter(|_| self.faults.chance(1, 2)) {
            self.auditor.frozen.insert(at, false);
            self.chain.freeze(at, false);
        } else if let Some(at) = self.workload.any_coin() {
            self.freezes += 1;
            self.auditor.frozen.insert(at, true);
            self.chain.freeze(at, true);
        }
    }

    /// Stops the wires that `which` names for the next `steps` steps.
    #[cfg(test)]
    pub fn stall(&mut self, which: impl Fn(WireKind) -> bool, steps: u64) {
        for (actor, until) in self.actors.iter().zip(&mut self.stalled_until) {
            let Actor::Wire(i) = *actor else { continue };
            if which(self.machine.wires[i].kind()) {
                *until = self.step + steps;
            }
        }
    }

    /// Lets one actor act; whether it did anything.
    fn act(&mut self, who: usize) -> Checked<bool> {
        let step = self.step;
        let did = match self.actors[who] {
            Actor::Validate(i) => self.machine.validates[i].turn() == Turn::Busy,
            Actor::Shard(i) => self.machine.shards[i].turn() == Turn::Busy,
            Actor::Pack => self.machine.pack.turn() == Turn::Busy,
            Actor::Long => self.machine.long.as_mut().is_some_and(|l| l.turn() == Turn::Busy),
            Actor::Wire(i) => self.wire(i)?,
            Actor::Gate => {
                let most =
                    if self.healed { 64 } else { 1 + self.schedule.below(self.options.gate_burst) };
                let Self { machine, gate, trace, planted, .. } = self;
                let outs = &mut machine.submit_validate;
                let sent =
                    gate.send(step, most, &machine.partition, outs, planted, |to, token, bytes| {
                        trace.event(step, "submit_validate", "send", (to, token), bytes);
                    });
                sent > 0
            }
            Actor::Verdicts(i) => self.verdicts(i)?,
            Actor::Chain => {
                let before = self.chain.progress();
                if let Some(block) = self.chain.step(&mut self.machine, &mut self.auditor)? {
                    self.trace.event(step, "chain", "block", (block.height.into(), 0), &[]);
                    self.workload.give_young(block.height + 100, block.coin);
                }
                before != self.chain.progress()
            }
            Actor::Store => {
                let mut any = false;
                while self.machine.pack_store.poll().is_some() {
                    any = true;
                }
                self.machine.pack_store.return_credit();
                any
            }
        };
        self.moved += u64::from(did);
        Ok(did)
    }

    fn wire(&mut self, i: usize) -> Checked<bool> {
        if !self.machine.wires[i].has_work() {
            return Ok(false);
        }
        let (frags, burst) = if self.healed {
            (64, 64)
        } else {
            (self.options.wire_frags, 1 + self.schedule.below(self.options.wire_burst))
        };
        let mut did = false;
        for _ in 0..burst {
            let wire = &mut self.machine.wires[i];
            let kind = wire.kind();
            let taken = wire.take_in(frags, &mut self.planted);
            let handed = wire.hand_on();
            if let Some(held) = &taken {
                self.trace.event(self.step, kind.row(), "frag", kind.ends(), &held.bytes);
                match kind {
                    WireKind::Request { .. } => {
                        self.trace.items::<Request<'_>>(
                            self.step,
                            kind.row(),
                            kind.ends(),
                            &held.bytes,
                        );
                    }
                    WireKind::Reply { .. } => {
                        self.trace.items::<Reply<'_>>(
                            self.step,
                            kind.row(),
                            kind.ends(),
                            &held.bytes,
                        );
                    }
                    WireKind::Publish { .. }
                    | WireKind::ToLong { .. }
                    | WireKind::FromLong { .. } => {}
                }
                self.observe(kind, held)?;
            }
            if taken.is_none() && !handed {
                break;
            }
            did = true;
        }
        Ok(did)
    }

    /// A frag as its producer wrote it.
    fn observe(&mut self, kind: WireKind, held: &Held) -> Checked {
        let WireKind::Publish { shard } = kind else { return Ok(()) };
        let accepted = Accepted::decode(&held.bytes);
        let accepted = accepted
            .ok_or((FailureKind::Incorrect, format!("shard {shard} published no frag of ours")))?;
        let truth = Shards { stems: &self.machine.shards, partition: &self.machine.partition };
        self.auditor.on_accepted(shard, &accepted, &truth)
    }

    fn verdicts(&mut self, i: usize) -> Checked<bool> {
        let most = if self.healed { 64 } else { 1 + self.schedule.below(16) };
        let Self { machine, auditor, trace, planted, workload, step, .. } = self;
        let mut any = false;
        for _ in 0..most {
            let Some(frag) = machine.validate_verdict[i].poll() else { break };
            let frag = VerdictFrag::decode(frag.bytes);
            let frag = frag.ok_or((FailureKind::Incorrect, "a verdict that is none".to_owned()))?;
            any = true;
            let truth = Shards { stems: &machine.shards, partition: &machine.partition };
            for frag in planted.verdict(frag) {
                trace.event(
                    *step,
                    "validate_verdict",
                    frag.verdict.name(),
                    (i as u64, frag.token),
                    &frag.txid.0,
                );
                auditor.on_verdict(&frag, &truth)?;
                if frag.verdict == dataplane::msg::TxVerdict::Accepted {
                    workload.on_accepted(&frag.txid, auditor);
                }
            }
        }
        machine.validate_verdict[i].return_credit();
        Ok(any)
    }

    /// Everybody in turn, without faults, until nothing moves any more.
    pub fn drain(&mut self) -> Checked {
        self.healed = true;
        let (mut at_rest, mut last) = (0, None);
        for _ in 0..DRAIN_ROUNDS_MAX {
            self.step += 1;
            run::note(self.seed, self.step);
            self.machine.clock.advance(20 * US);
            let before = self.moved;
            for who in 0..self.actors.len() {
                if self.act(who)? {
                    last = Some(self.actors[who]);
                }
            }
            check::cheap(self)?;
            if self.moved == before {
                at_rest += 1;
                if at_rest >= REST_ROUNDS {
                    return check::at_rest(self);
                }
            } else {
                at_rest = 0;
            }
        }
        // Whatever is left says more than that somebody is busy.
        check::at_rest(self)?;
        ensure_live(false, || format!("after {DRAIN_ROUNDS_MAX} rounds {last:?} still moves"))
    }

    /// The end: faults stop, everything comes to rest, who was turned away is sent again, and all accounts are compared.
    pub fn finish(&mut self) -> Checked {
        self.gate.hurry();
        let frozen: Vec<_> =
            self.auditor.frozen.iter().filter(|f| *f.1).map(|(at, _)| *at).collect();
        for at in frozen {
            self.auditor.frozen.insert(at, false);
            self.chain.freeze(at, false);
        }
        self.drain()?;
        check::walk(self);
        check::orphans_wait_for_something(self)?;
        // Who could be accepted is sent until all are.
        // Where the shards are full nobody can be.
        let (mut wave, mut accepted) = (0, self.auditor.accepted);
        while !self.options.full {
            let again: Vec<TxId> = self
                .auditor
                .txs
                .keys()
                .filter(|t| self.auditor.could_be_accepted(t))
                .copied()
                .collect();
            if again.is_empty() {
                break;
            }
            wave = if self.auditor.accepted == accepted { wave + 1 } else { 0 };
            accepted = self.auditor.accepted;
            ensure_live(wave < WAVES_MAX, || {
                format!(
                    "{} was sent {WAVES_MAX} times in vain, nothing speaks against it, and it is not accepted",
                    again[0]
                )
            })?;
            let Self { workload, auditor, gate, .. } = self;
            for txid in &again {
                workload.send_again(&mut Targets { auditor, gate }, txid);
            }
            self.gate.hurry();
            self.drain()?;
        }
        check::orphans_wait_for_something(self)?;
        self.auditor.aging = true;
        for _ in 0..4 {
            self.machine.clock.advance(self.options.bounds.orphan_age_max_ns);
            self.drain()?;
        }
        // Who was not accepted has a reason: a flaw, a coin another has, a parent that is not there.
        let none = self.auditor.txs.keys().find(|txid| self.auditor.could_be_accepted(txid));
        ensure_live(none.is_none() || self.options.full, || {
            format!("{none:?} was refused without a reason")
        })?;
        self.chain.begin_block(Want::Everything);
        self.drain()?;
        self.chain.begin_block(Want::Everything);
        self.drain()?;
        check::walk(self);
        check::everything(self)
    }
}
