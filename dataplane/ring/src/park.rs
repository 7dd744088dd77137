//! Going to sleep without losing a wake-up, at the price of one relaxed load for the producer.
//!
//! A core whose tiles are all idle may park. Between its last poll and its sleep a producer may publish, and must then
//! see that it has to wake somebody. The classic cure is a full barrier on both sides, which the producer would pay for
//! every frag. Here the parker pays for both: it raises its flag, calls `membarrier` (the kernel runs a full barrier on
//! every core this process is running on), polls again, and only then sleeps on the flag, for at most its timeout. The
//! producer publishes, looks at the flag with a relaxed load, and does nothing more if it is down.
//!
//! Where `membarrier` is refused (an old kernel, a seccomp profile) the flag word carries a second bit that sends wakers
//! to a slower path: they exchange the word instead of looking at it. Exchanges of one word are totally ordered, so one
//! of the two sides sees the other's: right by acquire and release alone, at the price of a locked instruction a frag.
//!
//! `membarrier` reaches the threads of this process. A consumer in another process is not woken; it wakes by its timeout.

use crate::sync::{AtomicU32, Ordering::Relaxed, Site};
use std::sync::Arc;

/// A parker sleeps, or is about to.
const PARKED: u32 = 1;
/// Wakers must exchange: there is no `membarrier` here.
const EXCHANGE: u32 = 2;

/// The flag, shared by one parker and its wakers.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Flag {
    word: AtomicU32,
    exchange: u32,
    /// Stands for the kernel's barrier in models, which have none: exchanged on both sides.
    #[cfg(loom)]
    barrier: AtomicU32,
}

impl Flag {
    pub(crate) fn new(membarrier: bool) -> Self {
        let exchange = if membarrier { 0 } else { EXCHANGE };
        Self {
            word: AtomicU32::new(exchange),
            exchange,
            #[cfg(loom)]
            barrier: AtomicU32::new(0),
        }
    }

    /// Raises the flag. After this either the caller's next poll sees what was published, or the publisher sees the flag.
    pub(crate) fn raise(&self) {
        if self.exchange == 0 {
            self.word.store(PARKED, Relaxed); // ordered before the poll by the barrier
            self.full_barrier();
        } else {
            self.word.fetch_or(PARKED, Site::ParkExchange.order());
        }
    }

    /// Takes the flag down: the parker is awake.
    pub(crate) fn lower(&self) {
        if self.exchange == 0 {
            self.word.store(0, Relaxed); // a waker that still sees the flag wakes nobody, which costs it a call
        } else {
            // Relaxed, but an exchange: a plain store would end the release sequence of a waker's exchange before it.
            self.word.fetch_and(!PARKED, Relaxed);
        }
    }

    /// After publishing: true if the parker must be woken, in which case the flag is down already.
    #[inline(always)]
    pub(crate) fn must_wake(&self) -> bool {
        self.waker_order();
        let word = self.word.load(Relaxed); // ordered after the publish by the parker's barrier
        word != 0 && self.take(word)
    }

    #[cold]
    #[inline(never)]
    fn take(&self, _seen: u32) -> bool {
        let before = if self.exchange == 0 {
            self.word.swap(0, Relaxed) // of several wakers one wakes; nothing is ordered by it
        } else {
            self.word.fetch_and(!PARKED, Site::WakeExchange.order())
        };
        before & PARKED != 0
    }

    #[cfg(not(loom))]
    #[inline(always)]
    #[allow(clippy::unused_self)] // as below
    fn waker_order(&self) {
        // Keeps the compiler from moving the load before the publish; the processor is held by the parker's `membarrier`.
        std::sync::atomic::compiler_fence(Site::WakeOrder.order());
    }

    #[cfg(not(loom))]
    #[allow(clippy::unused_self)] // the model's barrier is in the flag
    fn full_barrier(&self) {
        let done = kernel::membarrier();
        assert!(done, "membarrier was registered and is refused now: wake-ups would be lost");
    }

    #[cfg(loom)]
    fn waker_order(&self) {
        if self.exchange == 0 && !crate::sync::weak::is(Site::WakeOrder) {
            self.barrier.fetch_add(1, Site::WakeOrder.order());
        }
    }

    #[cfg(loom)]
    fn full_barrier(&self) {
        if !crate::sync::weak::is(Site::ParkBarrier) {
            self.barrier.fetch_add(1, Site::ParkBarrier.order());
        }
    }

    /// True while nobody has taken the raised flag down.
    #[cfg(loom)]
    pub(crate) fn is_raised(&self) -> bool {
        self.word.load(Relaxed) & PARKED != 0
    }
}

/// How a call of [`Parker::park`] ended.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// The poll after raising the flag found work: no sleep.
    Work = 1,
    /// A waker ended the sleep.
    Woken = 2,
    /// The timeout ended the sleep.
    TimedOut = 3,
}

/// The sleeping side. One a core.
#[derive(Debug)]
pub struct Parker {
    flag: Arc<Flag>,
}

/// The waking side: one a producer that feeds the core. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker {
    flag: Arc<Flag>,
}

#[cfg(not(loom))]
impl Parker {
    /// A parker that uses `membarrier` where the kernel allows it.
    pub fn new() -> Self {
        Self { flag: Arc::new(Flag::new(kernel::has_membarrier())) }
    }

    /// A parker for hosts without `membarrier`: its wakers pay an exchange a frag.
    pub fn without_membarrier() -> Self {
        Self { flag: Arc::new(Flag::new(false)) }
    }

    /// Whether wakers get by with a load.
    pub fn uses_membarrier(&self) -> bool {
        self.flag.exchange == 0
    }

    /// The other side of this parker.
    pub fn waker(&self) -> Waker {
        Waker { flag: Arc::clone(&self.flag) }
    }

    /// Sleeps until woken, at most for `timeout`, unless `has_work` says there is something to do.
    ///
    /// `has_work` polls every input once, after the flag is up. Everything published to this core by a producer that
    /// calls [`Waker::wake_if_parked`] afterwards is seen by that poll or ends the sleep.
    pub fn park(
        &mut self,
        timeout: std::time::Duration,
        has_work: impl FnOnce() -> bool,
    ) -> Parked {
        self.flag.raise();
        let how = if has_work() {
            Parked::Work
        } else {
            kernel::sleep(&self.flag.word, PARKED | self.flag.exchange, timeout)
        };
        self.flag.lower();
        how
    }
}

#[cfg(not(loom))]
impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(not(loom))]
impl Waker {
    /// After publishing: wakes the parker if it sleeps. Costs a relaxed load if it does not.
    #[inline(always)]
    pub fn wake_if_parked(&self) {
        if self.flag.must_wake() {
            kernel::wake(&self.flag.word);
        }
    }
}

/// The three calls to the kernel.
#[cfg(not(loom))]
mod kernel {
    use super::Parked;
    use rustix::io::Errno;
    use rustix::thread::futex::{self, Flags, Timespec};
    use rustix::thread::{
        MembarrierCommand, MembarrierQuery, membarrier as call, membarrier_query,
    };
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicU32;
    use std::time::{Duration, Instant};

    /// Whether this process may use private expedited barriers. Registers it, once.
    pub(super) fn has_membarrier() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| {
            let query = membarrier_query();
            query.contains(MembarrierQuery::PRIVATE_EXPEDITED)
                && query.contains(MembarrierQuery::REGISTER_PRIVATE_EXPEDITED)
                && call(MembarrierCommand::RegisterPrivateExpedited).is_ok()
        })
    }

    pub(super) fn membarrier() -> bool {
        call(MembarrierCommand::PrivateExpedited).is_ok()
    }

    /// Sleeps while `word` is `raised`.
    pub(super) fn sleep(word: &AtomicU32, raised: u32, timeout: Duration) -> Parked {
        let start = Instant::now();
        loop {
            let Some(left) = timeout.checked_sub(start.elapsed()).filter(|d| !d.is_zero()) else {
                return Parked::TimedOut;
            };
            let left =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            match futex::wait(word, Flags::PRIVATE, raised, Some(&left)) {
                Err(Errno::TIMEDOUT) => return Parked::TimedOut,
                // A signal, or a wake meant for an earlier sleep on this word: look again. `AGAIN`: the flag is down.
                Err(Errno::INTR) | Ok(()) if word.load(super::Relaxed) == raised => {}
                _ => return Parked::Woken,
            }
        }
    }

    pub(super) fn wake(word: &AtomicU32) {
        // Nothing to do about a failure: the word is down, and the sleeper's timeout is short.
        let _ = futex::wake(word, Flags::PRIVATE, 1);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Flag;
    use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
    use std::thread;
    use std::time::{Duration, Instant};

    /// Waits until `cell` reaches `value`.
    fn meet(cell: &AtomicU64, value: u64) {
        let mut spins = 0u32;
        while cell.load(Acquire) < value {
            spins += 1;
            if spins.is_multiple_of(8192) {
                thread::yield_now(); // the other side may need this very core
            }
        }
    }

    /// A delay of a few cycles a step, spent as in life: looking at what the other side will write. Its cache line is
    /// then at hand, so the look that counts is quick, and the store before it still waits for its own line.
    fn look(steps: u64, at: impl Fn()) {
        for _ in 0..steps {
            at();
        }
    }

    /// Both sides start at once, thousands of times: raise and poll against publish and look. A round in which the poll
    /// finds nothing and nobody is told to wake is a lost wake-up. Gives (rounds, lost). No sleep is involved, so the
    /// window is met in earnest: with the call of `membarrier` taken out, this test fails.
    fn litmus(flag: &Flag, for_time: Duration) -> (u64, u64) {
        #[repr(align(128))]
        struct Apart(AtomicU64);
        let [work, start, parker_done, waker_woke] =
            [const { AtomicU64::new(0) }; 4].map(|_| Apart(AtomicU64::new(0)));
        let stop = Apart(AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1.. {
                    meet(&start.0, round);
                    if stop.0.load(Relaxed) != 0 {
                        return;
                    }
                    look(1 + round % 61, || {
                        std::hint::black_box(flag.word.load(Relaxed));
                    });
                    work.0.store(round, Release);
                    let woke = flag.must_wake();
                    waker_woke.0.store((round << 1) | u64::from(woke), Release);
                    meet(&parker_done.0, round);
                }
            });
            let (begin, mut round, mut lost) = (Instant::now(), 0, 0);
            while begin.elapsed() < for_time {
                round += 1;
                start.0.store(round, Release);
                // Longer: the other side needs a while to see the start.
                look(1 + round.wrapping_mul(0x9e37_79b9) % 509, || {
                    std::hint::black_box(work.0.load(Relaxed));
                });
                flag.raise();
                let found = work.0.load(Acquire) == round;
                meet(&waker_woke.0, round << 1);
                let woken = waker_woke.0.load(Acquire) & 1 == 1;
                lost += u64::from(!found && !woken);
                flag.lower();
                parker_done.0.store(round, Release);
            }
            stop.0.store(1, Relaxed);
            start.0.store(round + 1, Release);
            (round, lost)
        })
    }

    #[test]
    fn the_membarrier_litmus_loses_no_wake_up() {
        if !super::kernel::has_membarrier() {
            eprintln!("skipped: membarrier is not permitted here (likely a seccomp profile)");
            return;
        }
        let (rounds, lost) = litmus(&Flag::new(true), Duration::from_secs(2));
        assert_eq!(lost, 0, "of {rounds} rounds");
        assert!(rounds > 100, "only {rounds} rounds: the litmus shows nothing");
    }

    #[test]
    fn the_exchange_litmus_loses_no_wake_up() {
        let (rounds, lost) = litmus(&Flag::new(false), Duration::from_secs(1));
        assert_eq!(lost, 0, "of {rounds} rounds");
        assert!(rounds > 100, "only {rounds} rounds: the litmus shows nothing");
    }
}
