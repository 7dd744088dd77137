//! The glommio driver: the same cores, each on a pinned glommio executor.
//!
//! For machines on which shards shall share their executor with glommio tasks. A busy tile starves an executor's own I/O
//! unless the loop is written with care: the reactor is entered only between runs of the task queues, and a queue runs
//! until the preempt timer fires. So: 4,096 turns, then a timer sleep of one microsecond, which does enter the reactor;
//! longer sleeps, up to a millisecond, when every turn was idle. Measured with glommio 0.9.0 beside a task of back-to-back
//! writes: 6,000 to 8,500 of them in two seconds, against 4 with `yield_if_needed` and 0 with a sleep of zero. Nothing of
//! ours waits on an executor: journals have their own `io_uring` and are reaped in `turn()`. Glommio's channels are not used
//! (`spsc_queue` ends are `Clone` and `Send` in 0.9.0, which is unsound).
//!
//! Needs Linux 5.8 and 512 KiB of locked memory an executor. A stem cannot tell this driver from the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement, timer};

use super::core::{Core, Shared};
use super::{Load, OnPanic, Running, StartError};
use crate::stem::{Turn, Turnable};
use crate::topo::Machine;

/// Turns between two visits to the reactor.
const TURNS_PER_VISIT: usize = 4_096;
/// A visit: the shortest timer sleep there is.
const VISIT: Duration = Duration::from_micros(1);
/// The longest sleep of an idle core: nobody wakes it earlier.
const IDLE_SLEEP_MAX: Duration = Duration::from_millis(1);
/// Idle rounds in a row after which a core sleeps instead of going on.
const IDLE_ROUNDS: usize = 64;

/// How executors are placed and die.
#[derive(Clone, Debug, Default)]
pub struct GlommioOptions {
    /// The processor of each core of the layout; empty: executors are not bound.
    pub cpus: Vec<usize>,
    /// What happens when a tile panics.
    pub on_panic: OnPanic,
}

/// Starts one executor for each load. When this returns every tile is booted and every core goes round.
///
/// Heaps are not sealed: the executor itself allocates on its thread.
pub fn start(
    loads: Vec<Load>,
    machine: Machine,
    options: &GlommioOptions,
) -> Result<Running, StartError> {
    let cores = loads.iter().filter_map(|l| l.core).max().map_or(0, |c| c + 1);
    if !options.cpus.is_empty() && cores > options.cpus.len() {
        return Err(StartError::Cores { cores, cpus: options.cpus.len() });
    }
    let shared = Shared::new(loads.len());
    let wakers = loads.iter().map(|l| l.parker.waker()).collect();
    let mut running = Running { machine, shared: shared.clone(), threads: Vec::new(), wakers };
    let (ready, booted) = channel();
    let count = loads.len();
    for (index, load) in loads.into_iter().enumerate() {
        let name = match load.core {
            Some(core) => format!("core {core}"),
            None => load.stems.first().map_or("floating", |s| s.label()).to_owned(),
        };
        let cpu = load.core.and_then(|core| options.cpus.get(core).copied());
        let core = Core::new(load.stems, shared.clone(), index);
        let (ready, on_panic) = (ready.clone(), options.on_panic.clone());
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || run(core, cpu, ready, &on_panic));
        match thread {
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
        if let Ok(Err(said)) = booted.recv() {
            running.stop(Duration::ZERO);
            return Err(StartError::Thread { what: "a glommio executor".into(), said });
        }
    }
    Ok(running)
}

fn run(
    mut core: Core,
    cpu: Option<usize>,
    ready: Sender<Result<(), String>>,
    on_panic: &OnPanic,
) -> Vec<Box<dyn Turnable>> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = match LocalExecutorBuilder::new(placement).make() {
        Ok(executor) => executor,
        Err(e) => {
            // The starter may have given up already.
            let _ = ready.send(Err(e.to_string()));
            return core.stems;
        }
    };
    let mut ready = Some(ready);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        core.boot();
        let _ = ready.take().map(|r| r.send(Ok(()))); // as above
        executor.run(go_round(&mut core));
    }));
    drop(ready); // if it is still here, `boot` panicked, and the starter must not wait for it
    if ended.is_err() {
        let label = core.fail();
        match on_panic {
            OnPanic::Abort => {
                eprintln!("tile {label} panicked; a machine does not run without one of its tiles");
                std::process::abort();
            }
            OnPanic::Call(hook) => hook(&label),
        }
    }
    core.stems
}

async fn go_round(core: &mut Core) {
    let (mut idle_rounds, mut sleep) = (0, VISIT);
    loop {
        let mut busy = false;
        for _ in 0..TURNS_PER_VISIT {
            match core.round() {
                None => return,
                Some(Turn::Busy) => (busy, idle_rounds) = (true, 0),
                Some(Turn::Idle | Turn::Backpressured) => {
                    idle_rounds += 1;
                    if idle_rounds >= IDLE_ROUNDS {
                        break;
                    }
                }
            }
        }
        sleep = if busy { VISIT } else { (sleep * 2).min(IDLE_SLEEP_MAX) };
        timer::sleep(sleep).await;
    }
}
