//! The stem: what turns a tile.
//!
//! It holds a tile with its links, its counters and a clock, and does one turn at a time: housekeeping if it is due, hooks,
//! frags in the order of the table, credits back. It never waits: what it found is told to its driver as a [`Turn`], and
//! the driver decides whether to go round, yield or sleep.
//!
//! Costs, a turn: two clock readings when there is nothing to do and four when there is; one poll (a load) an in-link. A
//! frag: one poll, two calls into the tile that the compiler can inline, no clock, no counter store (counts are written
//! once a turn). Credit goes back once a turn and link, and is looked up only where a link has fallen below its low mark.
//!
//! Housekeeping is one *event* of a shuffled ring at a time: the main event (heartbeat, the tile's own), or the credit of
//! one out-link. Each is re-armed at a random time in `[tempo, 2 tempo)`, and the ring is reshuffled one swap a round,
//! because tiles that do such things at regular times end up doing them all at once.

use std::any::Any;

use ring::Consumer;

use crate::mem::seal;
use crate::metrics::{Cell, LinkCells, Phase, Regime, TileCells};
use crate::outs::Outs;
use crate::rng::Rng;
use crate::tile::{Busy, Filter, Frag, House, In, Stamp, Tile};
use crate::time::{Clock, Ns, US};

/// What a turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to do.
    Idle,
    /// Something was done.
    Busy,
    /// There is something to do, but no credit (or no room in the tile) to do it with.
    Backpressured,
}

/// What a tile is up to, as observers see it. The numbers are what `Cell::State` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Built, not turned yet.
    Boot = 0,
    /// Turning.
    Run = 1,
    /// Asked to stop, finishing what is in flight.
    Drain = 2,
    /// Stopped.
    Halt = 3,
    /// It, or another tile of its core, panicked.
    Fail = 4,
}

/// A stem whose tile type is forgotten, so that a core can hold several kinds.
pub trait Turnable: Send {
    /// One turn.
    fn turn(&mut self) -> Turn;
    /// `name:index`.
    fn label(&self) -> &str;
    /// Once, on the tile's own core, before its first turn.
    fn boot(&mut self);
    /// Whether a frag waits on any in-link. For the last look before a core sleeps.
    fn has_input(&self) -> bool;
    /// Whether nothing is in flight inside the tile.
    fn is_drained(&self) -> bool;
    /// The state that observers see; from `Drain` on, `House::is_draining` says so.
    fn set_state(&mut self, state: State);
    /// Writes what the driver of this tile's core has counted.
    fn count_core(&mut self, parks: u64, parked_ns: Ns, yields: u64);
    /// The stem itself, for who knows its type.
    fn as_any(&self) -> &dyn Any;
    /// The stem itself, for who knows its type.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// Shortest housekeeping tempo: below this it would cost more than a percent of a core.
const TEMPO_NS_MIN: Ns = 20 * US;
/// Longest: so often the heartbeat moves.
const TEMPO_NS_MAX: Ns = 200 * US;

/// One in-link of a stem.
#[derive(Debug)]
pub(crate) struct InPort {
    pub(crate) consumer: Consumer,
}

/// A tile and everything it is turned with.
#[derive(Debug)]
pub struct Stem<T, C> {
    tile: T,
    label: String,
    ins: Vec<InPort>,
    outs: Outs,
    clock: C,
    rng: Rng,
    tempo: Tempo,
    draining: bool,
}

impl<T: Tile, C: Clock> Stem<T, C> {
    pub(crate) fn new(
        tile: T,
        label: String,
        mut ins: Vec<InPort>,
        outs: Outs,
        clock: C,
        seed: u64,
    ) -> Self {
        for port in &mut ins {
            // Credit goes back at the end of each turn, or when half the link is owed.
            port.consumer.set_return_every(u64::from(T::FRAGS_PER_TURN));
        }
        let mut rng = Rng::salted(seed, 0x7e_4d0);
        let tempo = Tempo::new(outs.len(), outs.shallowest(), &mut rng);
        Self { tile, label, ins, outs, clock, rng, tempo, draining: false }
    }

    /// The tile.
    pub fn tile(&self) -> &T {
        &self.tile
    }

    /// The tile, to change it between turns.
    pub fn tile_mut(&mut self) -> &mut T {
        &mut self.tile
    }

    /// Its out-links, to look at their credits between turns.
    pub fn outs(&self) -> &Outs {
        &self.outs
    }

    /// Its counters.
    pub fn cells(&self) -> &TileCells {
        self.outs.cells()
    }

    /// One turn; see [`crate::tile`] for what that is.
    pub fn turn(&mut self) -> Turn {
        let start = self.clock.now();
        self.outs.begin(start);
        let mut after_house = start;
        if start >= self.tempo.due {
            self.housekeeping(start);
            after_house = self.clock.now();
        }

        let mut busy = self.tile.before(&mut self.outs);
        let mut first_frag = None;
        let mut blocked = false;
        for i in 0..self.ins.len() {
            blocked |= self.input(i, &mut first_frag);
        }
        if first_frag.is_some() {
            busy = Busy::Yes;
            self.outs.set_born(Stamp::of(start));
        }
        // Without frags, what follows still belongs to looking for them.
        busy = busy | self.tile.after(&mut self.outs);
        self.outs.finish();

        let (turn, regime, cell) = match (busy, blocked) {
            (Busy::Yes, _) => (Turn::Busy, Regime::Processing, Cell::TurnsBusy),
            (Busy::Waiting, _) | (Busy::No, true) => {
                (Turn::Backpressured, Regime::Backpressure, Cell::TurnsBackpressured)
            }
            (Busy::No, false) => (Turn::Idle, Regime::CaughtUp, Cell::TurnsIdle),
        };
        if turn == Turn::Backpressured || blocked {
            self.outs.blame(u64::from(T::BURST));
        }
        let end = self.clock.now();
        let cells = self.outs.cells();
        cells.bump(cell, 1);
        let looked = first_frag.unwrap_or(end);
        if after_house != start {
            cells.time(Phase::Housekeeping, regime, after_house.saturating_sub(start));
        }
        cells.time(Phase::Prefrag, regime, looked.saturating_sub(after_house));
        if looked != end {
            cells.time(Phase::Postfrag, regime, end.saturating_sub(looked));
        }
        turn
    }

    /// Hands in frags of in-link `i`; whether one had to be left there.
    #[inline]
    fn input(&mut self, i: usize, first_frag: &mut Option<Ns>) -> bool {
        let input = In(i as u16);
        let Self { tile, ins, outs, clock, .. } = self;
        let consumer = &mut ins[i].consumer;
        let Some((mut seq, mut sig)) = consumer.peek() else { return false };
        let quota = u64::from(tile.wants(input, outs).min(T::FRAGS_PER_TURN));
        let mut seen = LinkCells::default();
        let mut blocked = quota == 0;
        while seen.frags + seen.dropped < quota {
            let filter = tile.filter(input, seq, sig, outs);
            if filter == Filter::Later {
                blocked = true;
                break;
            }
            // `None`: a frag whose place is outside its link; the ring has counted it and gone past it.
            if let Some(frag) = consumer.poll() {
                if filter == Filter::Skip {
                    seen.dropped += 1;
                } else {
                    if first_frag.is_none() {
                        *first_frag = Some(clock.now());
                    }
                    seen.frags += 1;
                    seen.bytes += frag.bytes.len() as u64;
                    let born = Stamp(frag.ts_orig);
                    outs.set_born(born);
                    let frag = Frag {
                        seq: frag.seq,
                        sig: frag.sig,
                        born,
                        sent: Stamp(frag.ts_pub),
                        bytes: frag.bytes,
                    };
                    tile.frag(input, frag, outs);
                }
            }
            let Some(next) = consumer.peek() else { break };
            (seq, sig) = next;
        }
        if blocked {
            seen.backpressured_turns = 1;
        }
        consumer.return_credit();
        outs.cells().input(i, &seen);
        blocked
    }

    #[cold]
    #[inline(never)]
    fn housekeeping(&mut self, now: Ns) {
        match self.tempo.next_event(now, &mut self.rng) {
            Event::Main => {
                self.outs.heartbeat(now, seal::alloc_after_seal());
                let cells = self.outs.cells();
                cells.bump(Cell::Housekeepings, 1);
                let draining = self.draining;
                self.tile.housekeeping(&mut House { now, cells, draining });
            }
            Event::Credit(out) => self.outs.refresh(out),
        }
    }
}

impl<T: Tile + Send + 'static, C: Clock + Send + 'static> Turnable for Stem<T, C> {
    fn turn(&mut self) -> Turn {
        Stem::turn(self)
    }
    fn label(&self) -> &str {
        &self.label
    }
    fn boot(&mut self) {
        self.tile.boot();
    }
    fn has_input(&self) -> bool {
        self.ins.iter().any(|port| port.consumer.peek().is_some())
    }
    fn is_drained(&self) -> bool {
        self.tile.is_drained()
    }
    fn set_state(&mut self, state: State) {
        self.draining = state != State::Boot && state != State::Run;
        self.outs.cells().fixed(Cell::State, state as u64);
    }
    fn count_core(&mut self, parks: u64, parked_ns: Ns, yields: u64) {
        self.outs.cells().fixed(Cell::CoreParks, parks);
        self.outs.cells().fixed(Cell::CoreParkedNs, parked_ns);
        self.outs.cells().fixed(Cell::CoreYields, yields);
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// What housekeeping does at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Heartbeat, and the tile's own housekeeping.
    Main,
    /// The credit of this out-link.
    Credit(usize),
}

/// When housekeeping is due, and what is next.
#[derive(Debug)]
struct Tempo {
    due: Ns,
    /// Least time between two events; a power of two, so that the jitter is a mask.
    async_min: Ns,
    events: Vec<Event>,
    at: usize,
}

impl Tempo {
    /// A ring of events for a tile with `outs` out-links, of which the shallowest holds `depth` frags.
    fn new(outs: usize, depth: u64, rng: &mut Rng) -> Self {
        let mut events: Vec<_> = (0..outs).map(Event::Credit).collect();
        events.push(Event::Main);
        rng.shuffle(&mut events);
        // As long as a quarter of the shallowest link takes to fill at a frag a few nanoseconds, within bounds.
        let round = (1 + 9 * depth / 4).clamp(TEMPO_NS_MIN, TEMPO_NS_MAX);
        let async_min = (round / events.len() as u64).max(1).next_power_of_two();
        Self { due: rng.below(2 * async_min), async_min, events, at: 0 }
    }

    fn next_event(&mut self, now: Ns, rng: &mut Rng) -> Event {
        let event = self.events[self.at];
        self.at += 1;
        if self.at == self.events.len() {
            self.at = 0;
            let (a, b) = (rng.index(self.events.len()), rng.index(self.events.len()));
            self.events.swap(a, b);
        }
        self.due = now + self.async_min + (rng.next_u64() & (self.async_min - 1));
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn housekeeping_is_rearmed_between_one_and_two_tempos(seed: u64, outs in 0_usize..40, lg in 1_u32..20) {
            let mut rng = Rng::new(seed);
            let mut tempo = Tempo::new(outs, 1 << lg, &mut rng);
            prop_assert!(tempo.async_min.is_power_of_two());
            let mut now = 0;
            for _ in 0..200 {
                now = tempo.due.max(now);
                tempo.next_event(now, &mut rng);
                let gap = tempo.due - now;
                prop_assert!((tempo.async_min..2 * tempo.async_min).contains(&gap));
            }
        }

        #[test]
        fn every_event_comes_once_a_round(seed: u64, outs in 0_usize..20) {
            let mut rng = Rng::new(seed);
            let mut tempo = Tempo::new(outs, 1024, &mut rng);
            for _ in 0..10 {
                let mut round: Vec<_> = (0..=outs).map(|_| tempo.next_event(0, &mut rng)).collect();
                round.sort_by_key(|e| if let Event::Credit(i) = e { *i } else { usize::MAX });
                let all = (0..outs).map(Event::Credit).chain([Event::Main]).collect::<Vec<_>>();
                prop_assert_eq!(round, all);
            }
        }
    }

    #[test]
    fn two_tiles_that_start_together_do_not_keep_house_together() {
        let times = |seed| {
            let mut rng = Rng::new(seed);
            let mut tempo = Tempo::new(3, 1024, &mut rng);
            let mut at = Vec::new();
            for _ in 0..100 {
                at.push(tempo.due);
                tempo.next_event(tempo.due, &mut rng);
            }
            at
        };
        let (a, b) = (times(1), times(2));
        let together = a.iter().filter(|t| b.contains(t)).count();
        assert!(together < 5, "{together} of 100 at the same nanosecond");
    }
}
