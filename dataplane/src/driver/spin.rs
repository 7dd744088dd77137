//! The spinning driver: one pinned thread a core, which turns its tiles in a loop.
//!
//! Spinning is adaptive. A core that finds nothing goes round for a while, because the next frag usually comes within
//! microseconds; then it yields its processor between rounds; then it parks until somebody publishes to one of its tiles,
//! or a millisecond has passed. A core that is woken by the millisecond and finds nothing parks again at once, and after
//! some empty sleeps sleeps longer, up to eight: every frag wakes it, so only timers wait for the timeout, and a machine on
//! which nothing happens costs one round every few milliseconds and core. A core without credit never parks (credit wakes
//! nobody), it yields.
//!
//! Where there are more threads than processors, spinning only takes the processor away from whoever the core waits for:
//! there [`SpinOptions::for_machine`] leaves it out. What a core did is in its tiles' metrics (`CoreParks`, `CoreYields`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use ring::park::{Parked, Parker};

use super::core::{Core, Shared};
use super::{Load, OnPanic, Running, StartError, pin};
use crate::mem::seal;
use crate::stem::{Turn, Turnable};
use crate::time::{Clock, HostClock, Ns, US};
use crate::topo::Machine;

/// How cores spin, sleep and die.
#[derive(Clone, Debug)]
pub struct SpinOptions {
    /// The processor of each core of the layout; empty: threads are not bound.
    pub cpus: Vec<usize>,
    /// How long an idle core goes round before it yields.
    pub spin_ns: Ns,
    /// How long it yields between rounds before it parks.
    pub yield_ns: Ns,
    /// How long it sleeps if nobody wakes it; `None`: it never parks.
    pub park: Option<Duration>,
    /// To what that grows while sleep after sleep is empty.
    pub park_max: Duration,
    /// Whether the heap is closed to a core once its tiles are booted. Floating tiles are never sealed.
    pub seal: bool,
    /// What happens when a tile panics.
    pub on_panic: OnPanic,
}

/// The design's sleep: a timer is late by no more than this on a machine that does anything at all.
const PARK: Duration = Duration::from_millis(1);
/// The longest sleep of a machine that does nothing. A timed sleep costs about 20 us of processor on a virtual machine (two
/// timer exits and a barrier), so at one a millisecond two idle cores would use 4 % of one.
const PARK_MAX: Duration = Duration::from_millis(8);
/// Empty sleeps before the sleep is doubled.
const EMPTY_SLEEPS: u32 = 16;

impl SpinOptions {
    /// What suits `threads` threads on the processors of this process: bound where there are enough, spinning where one is
    /// to spare for everything else.
    pub fn for_machine(threads: usize) -> Self {
        let cpus = pin::allowed_cores();
        let (enough, spare) = (threads <= cpus.len(), threads < cpus.len());
        Self {
            cpus: if enough { cpus } else { Vec::new() },
            spin_ns: if spare { 50 * US } else { 0 },
            yield_ns: 50 * US,
            park: Some(PARK),
            park_max: PARK_MAX,
            seal: true,
            on_panic: OnPanic::Abort,
        }
    }

    /// Cores that belong to the tiles alone: they spin and nothing else.
    pub fn dedicated(cpus: Vec<usize>) -> Self {
        Self {
            cpus,
            spin_ns: Ns::MAX,
            yield_ns: 0,
            park: None,
            park_max: PARK_MAX,
            seal: true,
            on_panic: OnPanic::Abort,
        }
    }
}

/// Starts one thread for each load. When this returns every tile is booted and every core goes round.
pub fn start(
    loads: Vec<Load>,
    machine: Machine,
    clock: &HostClock,
    options: &SpinOptions,
) -> Result<Running, StartError> {
    let cores = loads.iter().filter_map(|l| l.core).max().map_or(0, |c| c + 1);
    if !options.cpus.is_empty() && cores > options.cpus.len() {
        return Err(StartError::Cores { cores, cpus: options.cpus.len() });
    }
    let shared = Shared::new(loads.len());
    let wakers = loads.iter().map(|l| l.parker.waker()).collect();
    let (ready, booted) = channel();
    let mut running = Running { machine, shared: shared.clone(), threads: Vec::new(), wakers };
    let count = loads.len();
    for (index, load) in loads.into_iter().enumerate() {
        let name = match load.core {
            Some(core) => format!("core {core}"),
            None => load.stems.first().map_or("floating", |s| s.label()).to_owned(),
        };
        let thread = Thread {
            core: Core::new(load.stems, shared.clone(), index),
            parker: load.parker,
            cpu: load.core.and_then(|core| options.cpus.get(core).copied()),
            seal: options.seal && load.core.is_some(),
            clock: clock.clone(),
            options: options.clone(),
        };
        let ready = ready.clone();
        let spawned =
            std::thread::Builder::new().name(name.clone()).spawn(move || thread.run(ready));
        match spawned {
            Ok(handle) => running.threads.push(handle),
            Err(e) => {
                running.stop(Duration::ZERO);
                return Err(StartError::Thread { what: name, said: e.to_string() });
            }
        }
    }
    drop(ready);
    for _ in 0..count {
        // A closed channel: a tile panicked in `boot`, which its own thread has reported.
        if let Ok(Err(error)) = booted.recv() {
            running.stop(Duration::ZERO);
            return Err(error.into());
        }
    }
    Ok(running)
}

/// A core's thread, before it is one.
struct Thread {
    core: Core,
    parker: Parker,
    cpu: Option<usize>,
    seal: bool,
    clock: HostClock,
    options: SpinOptions,
}

impl Thread {
    fn run(mut self, ready: Sender<Result<(), pin::PinError>>) -> Vec<Box<dyn Turnable>> {
        let mut ready = Some(ready);
        if let Some(cpu) = self.cpu
            && let Err(error) = pin::pin_to(cpu)
        {
            // The starter may have given up already.
            let _ = ready.take().map(|r| r.send(Err(error)));
            return self.core.stems;
        }
        let ended = catch_unwind(AssertUnwindSafe(|| {
            self.core.boot();
            let _ = ready.take().map(|r| r.send(Ok(()))); // as above
            if self.seal {
                seal::seal();
            }
            self.go_round();
        }));
        seal::seal_as(seal::SealMode::Open);
        drop(ready); // if it is still here, `boot` panicked, and the starter must not wait for it
        if ended.is_err() {
            let label = self.core.fail();
            match &self.options.on_panic {
                OnPanic::Abort => {
                    eprintln!(
                        "tile {label} panicked; a machine does not run without one of its tiles"
                    );
                    std::process::abort();
                }
                OnPanic::Call(hook) => hook(&label),
            }
        }
        self.core.stems
    }

    fn go_round(&mut self) {
        let (spin, sleepy) =
            (self.options.spin_ns, self.options.spin_ns.saturating_add(self.options.yield_ns));
        let mut idle_since: Option<Ns> = None;
        let (mut doublings, mut empty) = (0, 0);
        let (mut parks, mut parked_ns, mut yields) = (0_u64, 0, 0_u64);
        while let Some(turn) = self.core.round() {
            if turn == Turn::Busy {
                idle_since = None;
                continue;
            }
            let now = self.clock.now();
            let idle = now.saturating_sub(*idle_since.get_or_insert(now));
            match self.options.park {
                _ if idle < spin => std::hint::spin_loop(),
                Some(timeout) if idle >= sleepy && turn == Turn::Idle => {
                    self.core.count(parks, parked_ns, yields);
                    let core = &self.core;
                    let longest = self.options.park_max.max(timeout);
                    let sleep = (timeout * (1 << doublings)).min(longest);
                    let how = self.parker.park(sleep, || core.has_input());
                    if how != Parked::Work {
                        parks += 1;
                        parked_ns += self.clock.now().saturating_sub(now);
                    }
                    // Whoever was woken by its timeout and finds nothing parks again after one round.
                    empty = if how == Parked::TimedOut { empty + 1 } else { 0 };
                    if empty == 0 {
                        doublings = 0;
                    } else if empty % EMPTY_SLEEPS == 0 && sleep < longest {
                        doublings += 1;
                    }
                }
                _ => {
                    yields += 1;
                    std::thread::yield_now();
                }
            }
        }
        self.core.count(parks, parked_ns, yields);
    }
}
