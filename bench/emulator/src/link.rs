//! A link: the thread that moves frames between two devices, late and not all of them.
//!
//! In: frames from either device, the [`Line`] of each direction. Out: the same frames at the other device when their time has
//! come, and counts of everything. It sleeps in `ppoll` until a frame arrives or the next one is due (a timer of the kernel's
//! high resolution), so an idle link costs nothing and a busy one is late by what the scheduler makes it: [`Counts::late_max_us`]
//! says how much, and a measurement that leans on this link should look at it.

use crate::departures::Departures;
use crate::impairment::Impairment;
use crate::line::{Fate, Line};
use crate::namespaces::{EmulatorError, enter};
use crate::sys::{BATCH, PacketSocket, run_in_real_time};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Above the nodes under test (10 in the race), so that a busy node does not slow the wire down.
const PRIORITY: u8 = 20;
/// How long it may sleep: orders are looked at this often.
const SLEEP_NS_MAX: u64 = 5_000_000;
/// How long an order may take to be followed.
const ANSWER: Duration = Duration::from_secs(10);

/// What happened to frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given to the link.
    pub frames: u64,
    /// Their bytes, without preamble, gap and checksum.
    pub bytes: u64,
    /// Lost on the wire.
    pub lost: u64,
    /// Dropped at the tail of the queue.
    pub tail: u64,
    /// Held back for others to overtake.
    pub held: u64,
    /// Delivered twice.
    pub twice: u64,
    /// Delivered, copies included.
    pub delivered: u64,
    /// Not delivered because the kernel or the frame limit said no: a fault of the emulator, never of the line.
    pub failed: u64,
    /// Latest that a frame left after its time.
    pub late_max_us: u64,
}

#[derive(Debug, Default)]
struct Meters {
    frames: AtomicU64,
    bytes: AtomicU64,
    lost: AtomicU64,
    tail: AtomicU64,
    held: AtomicU64,
    twice: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    late_max_us: AtomicU64,
}

/// Counters have one writer, the link's thread, so a load and a store are enough.
fn add(meter: &AtomicU64, more: u64) {
    meter.store(meter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

impl Meters {
    fn counts(&self) -> Counts {
        let read = |meter: &AtomicU64| meter.load(Ordering::Relaxed);
        Counts {
            frames: read(&self.frames),
            bytes: read(&self.bytes),
            lost: read(&self.lost),
            tail: read(&self.tail),
            held: read(&self.held),
            twice: read(&self.twice),
            delivered: read(&self.delivered),
            failed: read(&self.failed),
            late_max_us: read(&self.late_max_us),
        }
    }
}

enum Order {
    /// New rules for both directions; frames on their way are forgotten, late marks too. Answered when done.
    Follow(Box<[Impairment; 2]>, u64, Sender<()>),
    Stop,
}

/// A running link. Dropping it stops its thread.
#[derive(Debug)]
pub struct Link {
    meters: Arc<[Meters; 2]>,
    orders: Mutex<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    real_time: bool,
}

impl Link {
    /// Joins two devices of the network namespace `namespace`: `rules[0]` holds from the first to the second.
    pub fn start(
        namespace: &str,
        devices: [&str; 2],
        rules: [Impairment; 2],
        seed: u64,
    ) -> Result<Self, EmulatorError> {
        for rule in &rules {
            rule.check().map_err(EmulatorError::Impairment)?;
        }
        let meters: Arc<[Meters; 2]> = Arc::default();
        let (orders, inbox) = channel();
        let (started, start) = channel();
        let names = (namespace.to_owned(), devices.map(str::to_owned));
        let theirs = meters.clone();
        let run = move || {
            let sockets = open(&names.0, &names.1);
            let real_time = run_in_real_time(PRIORITY).is_ok();
            match sockets {
                Ok(sockets) => {
                    let _ = started.send(Ok(real_time));
                    // The rest of the frame's way is timed to the microsecond; the kernel's habit is 50.
                    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
                    Carrier::new(sockets, rules, seed, theirs).run(&inbox);
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("link".into())
            .spawn(run)
            .map_err(|error| EmulatorError::io("starting a link's thread", error))?;
        let ended = || EmulatorError::io("starting a link", "its thread ended");
        let real_time = start.recv().map_err(|_| ended())??;
        Ok(Self { meters, orders: Mutex::new(orders), thread: Some(thread), real_time })
    }

    /// From now on other rules hold. Frames on their way are dropped and the latest delay is forgotten.
    pub fn set(&self, rules: [Impairment; 2], seed: u64) -> Result<(), EmulatorError> {
        for rule in &rules {
            rule.check().map_err(EmulatorError::Impairment)?;
        }
        let (done, wait) = channel();
        self.order(Order::Follow(Box::new(rules), seed, done));
        wait.recv_timeout(ANSWER)
            .map_err(|error| EmulatorError::io("giving a link other rules", error.to_string()))
    }

    /// What happened so far, there and back.
    pub fn counts(&self) -> [Counts; 2] {
        [self.meters[0].counts(), self.meters[1].counts()]
    }

    /// Whether the kernel let it run before ordinary threads.
    pub fn is_real_time(&self) -> bool {
        self.real_time
    }

    fn order(&self, order: Order) {
        // A thread that has ended follows no orders; `set` finds out by its answer.
        if let Ok(orders) = self.orders.lock() {
            let _ = orders.send(order);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(namespace: &str, devices: &[String; 2]) -> Result<[PacketSocket; 2], EmulatorError> {
    enter(namespace)?;
    let socket = |device: &String| {
        PacketSocket::open(device)
            .map_err(|error| EmulatorError::io(&format!("a packet socket on {device}"), error))
    };
    Ok([socket(&devices[0])?, socket(&devices[1])?])
}

/// Nanoseconds of the machine's monotonic clock.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The thread's own state. Direction 0 receives from socket 0 and sends to socket 1.
struct Carrier {
    sockets: [PacketSocket; 2],
    lines: [Line; 2],
    departures: [Departures; 2],
    meters: Arc<[Meters; 2]>,
}

fn lines(rules: [Impairment; 2], seed: u64) -> [Line; 2] {
    let [there, back] = rules;
    // Streams of one seed that must not be the same luck twice.
    [Line::new(there, seed.wrapping_mul(2)), Line::new(back, seed.wrapping_mul(2) + 1)]
}

impl Carrier {
    fn new(
        sockets: [PacketSocket; 2],
        rules: [Impairment; 2],
        seed: u64,
        meters: Arc<[Meters; 2]>,
    ) -> Self {
        Self { sockets, lines: lines(rules, seed), departures: Default::default(), meters }
    }

    fn run(&mut self, inbox: &Receiver<Order>) {
        loop {
            match inbox.try_recv() {
                Ok(Order::Follow(rules, seed, done)) => {
                    self.lines = lines(*rules, seed);
                    self.departures.iter_mut().for_each(Departures::clear);
                    for meters in self.meters.iter() {
                        meters.late_max_us.store(0, Ordering::Relaxed);
                    }
                    let _ = done.send(());
                }
                Ok(Order::Stop) | Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
            }
            let taken = self.take(0) + self.take(1);
            let given = self.give(0) + self.give(1);
            if taken + given == 0 {
                self.sleep();
            }
        }
    }

    /// Takes one batch of a direction's frames; says how many there were.
    fn take(&mut self, direction: usize) -> usize {
        let meters = &self.meters[direction];
        // An error here is a device that went down: nothing arrives.
        let got = self.sockets[direction].receive().unwrap_or(0);
        let now_ns = now_ns();
        for i in 0..got {
            let frame = self.sockets[direction].frame(i);
            add(&meters.frames, 1);
            add(&meters.bytes, frame.len() as u64);
            match self.lines[direction].admit(now_ns, frame.len()) {
                Fate::Lost => add(&meters.lost, 1),
                Fate::Tail => add(&meters.tail, 1),
                Fate::Leaves { at_ns, twice, held } => {
                    add(&meters.held, u64::from(held));
                    add(&meters.twice, u64::from(twice));
                    for _ in 0..=usize::from(twice) {
                        let waits = self.departures[direction].push(at_ns, frame);
                        add(&meters.failed, u64::from(!waits));
                    }
                }
            }
        }
        got
    }

    /// Sends one batch of what is due; says how many frames that were.
    fn give(&mut self, direction: usize) -> usize {
        let meters = &self.meters[direction];
        let departures = &mut self.departures[direction];
        let now_ns = now_ns();
        let Some(first_ns) = departures.next_ns().filter(|first_ns| *first_ns <= now_ns) else {
            return 0;
        };
        let late_us = (now_ns - first_ns) / 1_000;
        if late_us > meters.late_max_us.load(Ordering::Relaxed) {
            meters.late_max_us.store(late_us, Ordering::Relaxed);
        }
        let sent = self.sockets[1 - direction].send(departures.due(now_ns, BATCH)).unwrap_or(0);
        add(&meters.delivered, sent as u64);
        if sent == 0 {
            // The kernel wants none: a frame that cannot be sent must not hold up the rest.
            add(&meters.failed, 1);
        }
        departures.pop(sent.max(1));
        sent.max(1)
    }

    fn sleep(&self) {
        let now_ns = now_ns();
        let due = |departures: &Departures| departures.next_ns();
        let next_ns = self.departures.iter().filter_map(due).min().unwrap_or(u64::MAX);
        let sleep_ns = next_ns.saturating_sub(now_ns).min(SLEEP_NS_MAX);
        let timeout = Timespec { tv_sec: 0, tv_nsec: sleep_ns as i64 };
        let [a, b] = &self.sockets;
        let mut fds = [
            PollFd::from_borrowed_fd(a.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(b.as_fd(), PollFlags::IN),
        ];
        // Interrupted or not, the loop looks again.
        let _ = poll(&mut fds, Some(&timeout));
    }
}
