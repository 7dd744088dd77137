//! A machine that runs: how to stop it, and how to learn that it died.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ring::park::Waker;

use super::core::Shared;
use super::pin::PinError;
use crate::stem::{State, Turnable};
use crate::topo::Machine;

/// What happens when a tile panics.
#[derive(Clone, Default)]
pub enum OnPanic {
    /// The process stops: a machine with a dead tile loses money quietly.
    #[default]
    Abort,
    /// For tests: this is called with the tile's label, and the other cores halt.
    Call(Arc<dyn Fn(&str) + Send + Sync>),
}

impl std::fmt::Debug for OnPanic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Abort) { "Abort" } else { "Call" })
    }
}

/// Why a machine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A thread could not be bound to its core.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The table has more cores than there are processors to bind them to.
    #[error(
        "the layout has {cores} cores but this process may use {cpus} processors; choose a smaller layout, or start without \
         binding threads"
    )]
    Cores {
        /// Cores of the layout.
        cores: usize,
        /// Processors.
        cpus: usize,
    },
    /// The operating system gave no thread (or executor).
    #[error(
        "starting the thread of {what} failed: {said}; check the limits on threads and locked memory"
    )]
    Thread {
        /// The core or floating tile.
        what: String,
        /// What it said.
        said: String,
    },
}

/// A machine that was stopped.
pub struct Stopped {
    /// Whether everything in flight was finished before the cores halted.
    pub drained: bool,
    /// All stems, for who wants to look at their tiles.
    pub stems: Vec<Box<dyn Turnable>>,
    /// The machine the stems were built from.
    pub machine: Machine,
}

impl std::fmt::Debug for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopped").field("drained", &self.drained).finish_non_exhaustive()
    }
}

impl Stopped {
    /// The stem of type `S` with that label.
    pub fn stem<S: 'static>(&self, label: &str) -> Option<&S> {
        self.stems.iter().find(|s| s.label() == label)?.as_any().downcast_ref()
    }
}

/// What one thread gives back when it ends: its stems.
pub(super) type Core = JoinHandle<Vec<Box<dyn Turnable>>>;

/// A machine that runs.
#[derive(Debug)]
pub struct Running {
    pub(super) machine: Machine,
    pub(super) shared: Arc<Shared>,
    pub(super) threads: Vec<Core>,
    pub(super) wakers: Vec<Waker>,
}

/// How often a stopping machine is looked at.
const LOOK_EVERY: Duration = Duration::from_micros(500);
/// Rounds a core must have gone, quiet, between two looks that call the machine drained.
const QUIET_ROUNDS: u64 = 3;

impl Running {
    /// The machine: its plan, its metrics.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Whether a core has stopped because a tile panicked (only with [`OnPanic::Call`]; otherwise the process is gone).
    pub fn has_failed(&self) -> bool {
        self.shared.cores.iter().any(|c| c.failed.load(Relaxed)) // only reported
    }

    /// Whether every core goes round.
    pub fn is_alive(&self) -> bool {
        self.threads.iter().all(|t| !t.is_finished())
    }

    /// Finishes what is in flight, for at most `timeout`, and halts.
    ///
    /// Nothing may be published from outside any more: whoever feeds the machine stops first, and goes on reading what the
    /// machine sends it until this returns.
    pub fn stop(self, timeout: Duration) -> Stopped {
        self.command(State::Drain);
        let deadline = Instant::now() + timeout;
        let mut drained = false;
        // Two looks: if no core did anything between them, and each went round with nothing in its tiles, then no frag was
        // on its way either: it would have been taken.
        let mut before = self.look();
        while Instant::now() < deadline && !self.has_failed() {
            std::thread::sleep(LOOK_EVERY);
            let now = self.look();
            let rounds_gone =
                now.iter().zip(&before).all(|(n, b)| n.rounds >= b.rounds + QUIET_ROUNDS);
            let still =
                now.iter().zip(&before).all(|(n, b)| n.quiet && b.quiet && n.active == b.active);
            if still && rounds_gone {
                drained = true;
                break;
            }
            if !still {
                before = now;
            }
        }
        self.command(State::Halt);
        let mut stems = Vec::new();
        for thread in self.threads {
            stems.extend(thread.join().unwrap_or_default());
        }
        Stopped { drained, stems, machine: self.machine }
    }

    fn command(&self, state: State) {
        self.shared.command(state);
        for waker in &self.wakers {
            waker.wake_if_parked();
        }
    }

    fn look(&self) -> Vec<Look> {
        let cells = self.shared.cores.iter();
        cells
            .map(|c| Look {
                rounds: c.rounds.load(Acquire), // first: orders the two after it
                quiet: c.quiet.load(Relaxed),
                active: c.active.load(Relaxed),
            })
            .collect()
    }
}

#[derive(Clone, Copy)]
struct Look {
    rounds: u64,
    quiet: bool,
    active: u64,
}
