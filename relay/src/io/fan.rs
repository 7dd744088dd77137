//! Several sockets on one port, each with a thread of its own: what a relay moves packets with when one core is not enough for the
//! kernel's share of the work.
//!
//! In and out: see [`PacketIo`]; behind it every thread turns a backend of its own. The kernel gives each peer to one of the sockets
//! (`SO_REUSEPORT`: a hash of both addresses), and packets to a peer always leave by the same thread (a hash of its address), so the
//! packets of a peer stay in order both ways; that they come and leave by different threads harms nobody, since all sockets have one
//! address. Batches change hands whole and come back empty ([`BATCHES`] a thread and direction), so nothing is copied on the way in and
//! once on the way out, and nothing grows: a host that is behind finds the packets in the kernel's buffer, where what does not fit is
//! counted.
//!
//! A port that somebody else has is an error as ever: it is tried without `SO_REUSEPORT` first, or another relay of the same user would
//! get half of our peers.

use super::batch::{RxBatch, Settled, TxBatch};
use super::wake::Waker;
use super::{
    Backend, Caps, IoOptions, IoStats, Opened, PacketIo, TxRefused, Unsupported, clock, open_one,
};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Threads at most.
pub const THREADS_MAX: usize = 64;
/// Batches of a thread and direction: one is filled while one is emptied, and one waits.
const BATCHES: usize = 3;
/// The longest sleep of a thread.
const SLEEP_US_MAX: u64 = 1_000_000;
/// How long a thread whose host is behind leaves its socket alone.
const BEHIND: Duration = Duration::from_micros(200);
/// How long a thread may take to join a group.
const JOIN: Duration = Duration::from_secs(2);

/// What a thread is told.
enum Order {
    Send(TxBatch),
    Join(IpAddr, SyncSender<Result<(), Unsupported>>),
}

/// What both sides of a lane look at.
#[derive(Debug, Default)]
struct Shared {
    stats: Mutex<IoStats>,
    is_over: AtomicBool,
    /// The host waits for an empty batch.
    is_missed: AtomicBool,
}

/// One thread as its host sees it.
#[derive(Debug)]
struct Lane {
    orders: SyncSender<Order>,
    came: Receiver<io::Result<RxBatch>>,
    empty_rx: SyncSender<RxBatch>,
    empty_tx: Receiver<TxBatch>,
    filling: Option<TxBatch>,
    handed: IoStats,
    waker: Waker,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The threads; see the module.
#[derive(Debug)]
pub struct Fan {
    lanes: Vec<Lane>,
    caps: Caps,
    at: SocketAddr,
    waker: Waker,
    /// Whose packets are taken next.
    next: usize,
    /// What [`PacketIo::wait`] has found; it is taken next.
    found: Option<(usize, io::Result<RxBatch>)>,
    is_full: bool,
}

/// Opens as many sockets as `options` ask for.
pub(super) fn open(backend: Backend, options: &IoOptions) -> io::Result<Opened> {
    if !options.reuse_port {
        UdpSocket::bind(options.listen)?;
    }
    let threads = options.threads.clamp(1, THREADS_MAX);
    let waker = Waker::new()?;
    let mut options = IoOptions { reuse_port: true, threads: 1, ..options.clone() };
    let (mut lanes, mut notes, mut caps) = (Vec::new(), Vec::new(), None);
    for number in 0..threads {
        let opened = open_one(backend, &options)?;
        options.listen = opened.io.local_addr()?;
        caps.get_or_insert_with(|| Caps { threads, ..opened.io.caps() });
        if number == 0 {
            notes = opened.notes;
        }
        lanes.push(Lane::start(number, opened.io, waker.clone())?);
    }
    let caps = caps.expect("there is at least one thread");
    let at = options.listen;
    let fan = Fan { lanes, caps, at, waker, next: 0, found: None, is_full: false };
    Ok(Opened { io: Box::new(fan), notes })
}

impl Lane {
    fn start(number: usize, io: Box<dyn PacketIo>, host: Waker) -> io::Result<Self> {
        let (orders, ordered) = sync_channel(BATCHES + 1);
        let (arrives, came) = sync_channel(BATCHES + 1);
        let (empty_rx, spare_rx) = sync_channel(BATCHES);
        let (spare_tx, empty_tx) = sync_channel(BATCHES);
        for _ in 0..BATCHES {
            empty_rx.send(RxBatch::new()).expect("the other end is here, and there is room");
            spare_tx.send(TxBatch::new()).expect("the other end is here, and there is room");
        }
        let (waker, shared) = (io.waker(), Arc::new(Shared::default()));
        let worker =
            Worker { io, ordered, arrives, spare_rx, spare_tx, host, shared: shared.clone() };
        let name = format!("io {number}");
        let thread = Some(thread::Builder::new().name(name).spawn(move || worker.run())?);
        let (filling, handed) = (None, IoStats::default());
        Ok(Self { orders, came, empty_rx, empty_tx, filling, handed, waker, shared, thread })
    }

    /// The batch that fills up; `None` while the thread has all of them.
    fn filling(&mut self) -> Option<&mut TxBatch> {
        if self.filling.is_none() {
            self.filling = self.empty_tx.try_recv().ok();
        }
        self.filling.as_mut()
    }

    fn order(&self, order: Order) {
        // There are fewer batches than places; a thread that ended has said why where packets come.
        let _ = self.orders.try_send(order);
        self.waker.wake();
    }

    fn stats(&self) -> IoStats {
        let seen = *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner);
        // What the thread has in hand has left the host; what it could not send is taken off again.
        let tx_packets = self.handed.tx_packets - seen.tx_refused;
        IoStats { tx_packets, tx_bytes: self.handed.tx_bytes, ..seen }
    }
}

impl Drop for Fan {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.shared.is_over.store(true, Ordering::Release);
            lane.waker.wake();
        }
        for lane in &mut self.lanes {
            if let Some(thread) = lane.thread.take() {
                // One that died has said so.
                let _ = thread.join();
            }
        }
    }
}

/// Which of so many threads sends to this peer.
fn lane_of(to: SocketAddr, lanes: usize) -> usize {
    let ip = match to.ip() {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    };
    let word = ip as u64 ^ (ip >> 64) as u64 ^ u64::from(to.port()) << 32;
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % lanes
}

impl Fan {
    /// Looks whether a thread has packets; each gets its turn.
    fn look(&mut self) {
        for _ in 0..self.lanes.len() {
            let at = self.next;
            self.next = (at + 1) % self.lanes.len();
            self.found = self.lanes[at].came.try_recv().ok().map(|came| (at, came));
            if self.found.is_some() {
                return;
            }
        }
    }
}

impl PacketIo for Fan {
    fn caps(&self) -> Caps {
        self.caps.clone()
    }

    fn rx_burst(&mut self, batch: &mut RxBatch) -> io::Result<usize> {
        batch.clear();
        if self.found.is_none() {
            self.look();
        }
        let Some((at, came)) = self.found.take() else { return Ok(0) };
        let empty = std::mem::replace(batch, came?);
        // A thread that ended needs none.
        let _ = self.lanes[at].empty_rx.try_send(empty);
        self.lanes[at].waker.wake();
        Ok(batch.len())
    }

    fn tx_burst(&mut self, batch: &mut TxBatch) -> io::Result<usize> {
        self.is_full = false;
        let mut settled = Vec::with_capacity(batch.runs().len());
        let mut left = 0;
        // Behind a packet that stays, later ones of its thread stay too, even if a batch comes back meanwhile: peers get theirs in order.
        let mut is_blocked = [false; THREADS_MAX];
        for run in batch.runs() {
            let at = lane_of(run.to, self.lanes.len());
            let lane = &mut self.lanes[at];
            if is_blocked[at] {
                settled.push(Settled::Stays);
                continue;
            }
            let mut gone = 0;
            for packet in batch.packets(run) {
                let Some(filling) = lane.filling() else { break };
                match filling.push(run.to, packet) {
                    Ok(()) => {}
                    Err(TxRefused::Full) => {
                        lane.filling
                            .take()
                            .into_iter()
                            .for_each(|full| lane.order(Order::Send(full)));
                        let Some(next) = lane.filling() else { break };
                        next.push(run.to, packet).expect("an empty batch takes what a batch held");
                    }
                    Err(refused) => panic!("another batch held {refused}"),
                }
                gone += 1;
                lane.handed.tx_packets += 1;
                lane.handed.tx_bytes += packet.len() as u64;
            }
            left += gone;
            is_blocked[at] = gone < run.packets();
            self.is_full |= is_blocked[at];
            settled.push(match gone {
                0 => Settled::Stays,
                all if all == run.packets() => Settled::Gone,
                some => Settled::Partly(some),
            });
        }
        batch.settle(|at, _| settled[at]);
        for lane in &mut self.lanes {
            if let Some(full) = lane.filling.take_if(|filling| !filling.is_empty()) {
                lane.order(Order::Send(full));
            }
        }
        Ok(left)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, until_us: u64) -> io::Result<()> {
        if self.is_full {
            for lane in &mut self.lanes {
                // First say that it is missed, then look: a batch that comes back in between wakes us.
                lane.shared.is_missed.store(true, Ordering::Release);
                if lane.filling().is_some() {
                    self.is_full = false;
                }
            }
            if !self.is_full {
                return Ok(());
            }
        }
        // A packet that comes after this look leaves its mark in the waker.
        if self.found.is_none() {
            self.look();
        }
        if self.found.is_some() {
            return Ok(());
        }
        self.waker.sleep(None, None, until_us)
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }

    fn stats(&self) -> IoStats {
        self.lanes.iter().fold(IoStats::default(), |sum, lane| sum.and(&lane.stats()))
    }

    fn join(&mut self, group: IpAddr) -> Result<(), Unsupported> {
        // One socket is enough: every packet to a group reaches all sockets that joined it.
        let (reply, told) = sync_channel(1);
        self.lanes[0].order(Order::Join(group, reply));
        told.recv_timeout(JOIN).unwrap_or_else(|error| {
            let why = match error {
                RecvTimeoutError::Timeout => "its thread did not answer",
                RecvTimeoutError::Disconnected => "its thread has ended",
            };
            let backend = self.caps.backend;
            Err(Unsupported { backend, what: "join that group", why: why.into() })
        })
    }
}

/// What a thread owns.
struct Worker {
    io: Box<dyn PacketIo>,
    ordered: Receiver<Order>,
    arrives: SyncSender<io::Result<RxBatch>>,
    spare_rx: Receiver<RxBatch>,
    spare_tx: SyncSender<TxBatch>,
    host: Waker,
    shared: Arc<Shared>,
}

impl Worker {
    fn run(mut self) {
        if let Err(error) = self.turns() {
            // There is one more place than batches.
            let _ = self.arrives.try_send(Err(error));
            self.host.wake();
        }
    }

    fn turns(&mut self) -> io::Result<()> {
        let mut sending: Option<TxBatch> = None;
        let mut spare: Option<RxBatch> = None;
        loop {
            // What was handed over before the end still leaves, as far as the socket takes it.
            let is_over = self.shared.is_over.load(Ordering::Acquire);
            let mut did = false;
            while sending.is_none() {
                match self.ordered.try_recv() {
                    Ok(Order::Send(batch)) => sending = Some(batch),
                    Ok(Order::Join(group, reply)) => {
                        // Who asked may have stopped waiting.
                        let _ = reply.try_send(self.io.join(group));
                    }
                    Err(_) => break,
                }
            }
            if let Some(batch) = &mut sending {
                did |= self.io.tx_burst(batch)? > 0 || batch.is_empty();
            }
            let sent = sending.take_if(|batch| batch.is_empty());
            spare = spare.or_else(|| self.spare_rx.try_recv().ok());
            let came = match &mut spare {
                Some(batch) => self.io.rx_burst(batch)? > 0,
                None => false,
            };
            // Numbers first: whoever has the packets finds them counted.
            *self.shared.stats.lock().unwrap_or_else(PoisonError::into_inner) = self.io.stats();
            if let Some(empty) = sent {
                // There are as many places as batches.
                let _ = self.spare_tx.try_send(empty);
                if self.shared.is_missed.swap(false, Ordering::AcqRel) {
                    self.host.wake();
                }
            }
            if let Some(full) = spare.take_if(|_| came) {
                let _ = self.arrives.try_send(Ok(full));
                self.host.wake();
            }
            if is_over && !did {
                return Ok(());
            }
            if did || came {
                continue;
            }
            if spare.is_some() {
                self.io.wait(clock::now_us() + SLEEP_US_MAX)?;
            } else {
                // The host has all batches: a socket with packets in it would end every wait at once.
                thread::sleep(BEHIND);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(listen: SocketAddr) -> IoOptions {
        IoOptions { threads: 3, ..IoOptions::at(listen) }
    }

    #[test]
    fn a_port_that_another_relay_has_is_refused_although_its_sockets_could_be_shared() {
        let first = open(Backend::Udp, &options("127.0.0.1:0".parse().expect("an address")));
        let first = first.expect("a port");
        assert_eq!(first.io.caps().threads, 3);
        let at = first.io.local_addr().expect("bound");
        let error = open(Backend::Udp, &options(at)).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn peers_are_spread_over_the_threads() {
        let mut used = [0; 4];
        for host in 0..=255 {
            used[lane_of(SocketAddr::from(([10, 0, 7, host], 9_333)), 4)] += 1;
        }
        assert!(used.iter().all(|peers| *peers > 30), "{used:?}");
    }
}
