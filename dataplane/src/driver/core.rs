//! One core's round over its tiles, and what it tells the rest of the machine about itself.
//!
//! Both drivers of a real machine go round with this; they differ in what they do between rounds.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::stem::{State, Turn, Turnable};

/// What the machine tells its cores, and the cores tell the machine.
#[derive(Debug)]
pub(super) struct Shared {
    /// A [`State`]: `Run`, `Drain` or `Halt`.
    command: AtomicU8,
    pub(super) cores: Vec<CoreCell>,
}

/// A core about itself; written by it alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct CoreCell {
    /// Rounds gone.
    pub(super) rounds: AtomicU64,
    /// Rounds in which something was done, or could not be done for want of credit.
    pub(super) active: AtomicU64,
    /// The last round found nothing, and no tile had anything in flight.
    pub(super) quiet: AtomicBool,
    /// The core has stopped because a tile panicked.
    pub(super) failed: AtomicBool,
}

impl Shared {
    pub(super) fn new(cores: usize) -> Arc<Self> {
        let cells = (0..cores).map(|_| CoreCell::default()).collect();
        Arc::new(Self { command: AtomicU8::new(State::Run as u8), cores: cells })
    }

    pub(super) fn command(&self, state: State) {
        // Release/Acquire: what the commander did before (the last frags it published) is seen by who obeys.
        self.command.store(state as u8, Release);
    }

    #[inline]
    fn commanded(&self) -> State {
        match self.command.load(Acquire) {
            c if c == State::Run as u8 => State::Run,
            c if c == State::Drain as u8 => State::Drain,
            _ => State::Halt,
        }
    }
}

/// A core at work: its tiles and its place in the machine.
pub(super) struct Core {
    pub(super) stems: Vec<Box<dyn Turnable>>,
    shared: Arc<Shared>,
    index: usize,
    state: State,
    rounds: u64,
    active: u64,
    /// Which stem is being turned, to be named if it panics.
    pub(super) at: usize,
}

impl Core {
    pub(super) fn new(stems: Vec<Box<dyn Turnable>>, shared: Arc<Shared>, index: usize) -> Self {
        Self { stems, shared, index, state: State::Boot, rounds: 0, active: 0, at: 0 }
    }

    pub(super) fn boot(&mut self) {
        for (at, stem) in self.stems.iter_mut().enumerate() {
            self.at = at;
            stem.boot();
        }
    }

    /// Turns every tile once. `None`: the machine was told to halt.
    #[inline]
    pub(super) fn round(&mut self) -> Option<Turn> {
        let mut found = Turn::Idle;
        for (at, stem) in self.stems.iter_mut().enumerate() {
            self.at = at;
            match stem.turn() {
                Turn::Idle => {}
                Turn::Busy => found = Turn::Busy,
                Turn::Backpressured if found == Turn::Idle => found = Turn::Backpressured,
                Turn::Backpressured => {}
            }
        }
        self.rounds += 1;
        let commanded = self.shared.commanded();
        if commanded != self.state {
            self.obey(commanded);
        }
        if found != Turn::Idle {
            self.active += 1;
        }
        if self.state != State::Run {
            self.tell(found);
            if self.state == State::Halt {
                return None;
            }
        }
        Some(found)
    }

    /// Whether a frag waits for any tile of this core: the last look before it sleeps.
    pub(super) fn has_input(&self) -> bool {
        self.shared.commanded() != self.state || self.stems.iter().any(|s| s.has_input())
    }

    pub(super) fn count(&mut self, parks: u64, parked_ns: u64, yields: u64) {
        for stem in &mut self.stems {
            stem.count_core(parks, parked_ns, yields);
        }
    }

    /// A tile of this core has panicked: which one.
    pub(super) fn fail(&mut self) -> String {
        for stem in &mut self.stems {
            stem.set_state(State::Fail);
        }
        self.shared.cores[self.index].failed.store(true, Relaxed); // read by the machine's owner, which only reports it
        self.shared.command(State::Halt);
        self.stems.get(self.at).map_or_else(String::new, |s| s.label().to_owned())
    }

    #[cold]
    fn obey(&mut self, state: State) {
        self.state = state;
        for stem in &mut self.stems {
            stem.set_state(state);
        }
    }

    /// While draining: whether this core is quiet, for `Running::stop`.
    fn tell(&self, found: Turn) {
        let cell = &self.shared.cores[self.index];
        let quiet = found == Turn::Idle && self.stems.iter().all(|s| s.is_drained());
        cell.quiet.store(quiet, Relaxed); // the three are ordered by the release of `rounds`
        cell.active.store(self.active, Relaxed);
        cell.rounds.store(self.rounds, Release);
    }
}
