//! A node of the race: one process in one namespace, told what to do by lines on its standard input.
//!
//! In: its place in the chain (arguments), then orders: `arm RUN` (get ready, say so), `go RUN` (the source: the object is yours
//! now), `end` (account for what you used). Out: `armed`, `t0 NS`, `done NS intact|corrupt`, `cpu US`. Times are of the machine's
//! monotonic clock, which all namespaces share. It dies with its parent.

use super::cell::System;
use super::object::{Kind, Object};
use super::{bfr, bip152, nack, pull, tcp};
use emulator::link::now_ns;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::time::{ClockId, clock_gettime};
use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Below the links (20), above everything else.
const PRIORITY: u8 = 10;
/// Where nodes listen; namespaces are their own, so it is free.
pub const PORT: u16 = 21_300;
/// A read that takes longer has failed; a run is given up after 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args)]
pub struct Args {
    /// The namespace to live in
    #[arg(long)]
    namespace: String,
    /// Its place: 0 is the source
    #[arg(long)]
    hop: usize,
    /// The last place
    #[arg(long)]
    hops: usize,
    #[arg(long)]
    system: System,
    #[arg(long)]
    kind: Kind,
    /// How much of a block is known here, percent
    #[arg(long)]
    overlap: Option<u32>,
    #[arg(long)]
    seed: u64,
    /// Say what the relay counted, after every run
    #[arg(long)]
    status: bool,
    /// The rate of a line that is shared with others
    #[arg(long)]
    shared_mbit: Option<u32>,
}

/// Where a node is and what it takes part in.
#[derive(Clone, Debug)]
pub struct Place {
    /// 0 is the source.
    pub hop: usize,
    /// The last node's.
    pub hops: usize,
    /// Who runs.
    pub system: System,
    /// What is sent.
    pub kind: Kind,
    /// How much of a block is known here, if receivers' own transactions matter.
    pub overlap_pct: Option<u32>,
    /// Draws objects and what is known.
    pub seed: u64,
    /// Say what the relay counted, after every run.
    pub status: bool,
    /// The rate of a line that is shared with others; `None`: the race's own line.
    pub shared_mbit: Option<u32>,
}

impl Place {
    /// Whether objects start here.
    pub fn is_source(&self) -> bool {
        self.hop == 0
    }

    /// Whether objects end here.
    pub fn is_last(&self) -> bool {
        self.hop == self.hops
    }

    /// Where this node listens for the one before it; the source listens for nobody.
    pub fn listens_at(&self) -> SocketAddr {
        let (_, far) = emulator::Chain::addresses(self.hop.max(1));
        SocketAddr::from((far, PORT))
    }

    /// Where the next node listens.
    pub fn next_listens_at(&self) -> SocketAddr {
        let (_, far) = emulator::Chain::addresses(self.hop + 1);
        SocketAddr::from((far, PORT))
    }

    /// The near end of the link to the next node.
    pub fn near_end(&self) -> Ipv4Addr {
        emulator::Chain::addresses(self.hop + 1).0
    }

    /// A listener whose connections use the congestion control `cc`.
    pub fn listen(&self, cc: &str) -> io::Result<TcpListener> {
        let listener = TcpListener::bind(self.listens_at())?;
        rustix::net::sockopt::set_tcp_congestion(&listener, cc)?;
        Ok(listener)
    }

    /// A connection to the next node, which listens already.
    pub fn connect(&self, cc: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.next_listens_at())?;
        rustix::net::sockopt::set_tcp_congestion(&stream, cc)?;
        ready(&stream)?;
        Ok(stream)
    }

    /// The connection from the node before.
    pub fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
        let (stream, _) = listener.accept()?;
        ready(&stream)?;
        Ok(stream)
    }
}

fn ready(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))
}

/// What the controller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Get ready for a run.
    Arm(u32),
    /// The same, for a run that only shows the links what they lose.
    Warm(u32),
    /// Send its object.
    Go(u32),
    /// Send objects without end.
    Stream,
    /// Say how much has come.
    Count,
    /// Account for it.
    End,
}

/// What tells a node that sleeps elsewhere that there is an order.
type Bell = Box<dyn Fn() + Send>;

/// The node's side of the conversation with the controller.
pub struct Desk {
    orders: Receiver<Order>,
    bell: Arc<Mutex<Option<Bell>>>,
    out: io::Stdout,
    cpu_us: u64,
}

impl Desk {
    fn open() -> Self {
        let (sender, orders) = channel();
        let bell: Arc<Mutex<Option<Bell>>> = Arc::default();
        let rings = bell.clone();
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                let Ok(line) = line else { return };
                let Some(order) = parse(&line) else { return };
                if sender.send(order).is_err() {
                    return;
                }
                if let Ok(Some(ring)) = rings.lock().as_deref() {
                    ring();
                }
            }
        });
        Self { orders, bell, out: io::stdout(), cpu_us: cpu_us() }
    }

    /// From now on `ring` is called for every order.
    pub fn ring(&self, ring: impl Fn() + Send + 'static) {
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(ring));
    }

    /// The next order; `None` when there are no more.
    pub fn next(&self) -> Option<Order> {
        self.orders.recv().ok()
    }

    /// The next order, if there is one now. `Err` when there will be no more.
    pub fn look(&self) -> Result<Option<Order>, ()> {
        match self.orders.try_recv() {
            Ok(order) => Ok(Some(order)),
            Err(std::sync::mpsc::TryRecvError::Empty) => Ok(None),
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Err(()),
        }
    }

    /// Ready for the run; what is used from here on counts.
    pub fn armed(&mut self) -> io::Result<()> {
        self.cpu_us = cpu_us();
        self.say("armed")
    }

    /// The object is the source's from now on.
    pub fn t0(&self) -> io::Result<()> {
        self.say(&format!("t0 {}", now_ns()))
    }

    /// All of it was here at `at_ns`.
    pub fn done(&self, at_ns: u64, intact: bool) -> io::Result<()> {
        self.say(&format!("done {at_ns} {}", if intact { "intact" } else { "corrupt" }))
    }

    /// So much has come.
    pub fn bytes(&self, bytes: u64) -> io::Result<()> {
        self.say(&format!("bytes {bytes}"))
    }

    /// Accounts for a run.
    pub fn account(&self) -> io::Result<()> {
        self.say(&format!("cpu {}", cpu_us() - self.cpu_us))
    }

    fn say(&self, line: &str) -> io::Result<()> {
        let mut out = self.out.lock();
        out.write_all(format!("{line}\n").as_bytes())?;
        out.flush()
    }
}

fn parse(line: &str) -> Option<Order> {
    let (word, run) = line.split_once(' ').unwrap_or((line, "0"));
    let run = run.parse().ok()?;
    match word {
        "arm" => Some(Order::Arm(run)),
        "warm" => Some(Order::Warm(run)),
        "stream" => Some(Order::Stream),
        "count" => Some(Order::Count),
        "go" => Some(Order::Go(run)),
        "end" => Some(Order::End),
        _ => None,
    }
}

/// What this process has used so far.
fn cpu_us() -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as u64 * 1_000_000 + used.tv_nsec as u64 / 1_000
}

/// Runs a node until its input ends.
pub fn main(args: &Args) -> ExitCode {
    let place = Place {
        hop: args.hop,
        hops: args.hops,
        system: args.system,
        kind: args.kind,
        overlap_pct: args.overlap,
        seed: args.seed,
        status: args.status,
        shared_mbit: args.shared_mbit,
    };
    let parent = set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from);
    let result = parent
        .and_then(|()| emulator::namespaces::enter(&args.namespace).map_err(io::Error::other))
        .and_then(|()| {
            // Where it is not permitted the controller has said so.
            let _ = emulator::sys::run_in_real_time(PRIORITY);
            live(&place)
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay-node {} {}: {error}", args.system.name(), args.hop);
            ExitCode::FAILURE
        }
    }
}

fn live(place: &Place) -> io::Result<()> {
    let mut desk = Desk::open();
    if place.system == System::Bfr {
        return bfr::live(place, &mut desk);
    }
    while let Some(order) = desk.next() {
        match order {
            Order::Arm(run) => {
                let object = Object::new(place.kind, place.seed, run);
                match place.system {
                    System::Bfr => unreachable!("it lives elsewhere"),
                    System::TcpCubic => tcp::take_part(place, "cubic", &object, &mut desk)?,
                    System::TcpBbr => tcp::take_part(place, "bbr", &object, &mut desk)?,
                    System::Bip152Cubic => {
                        bip152::take_part(place, "cubic", &object, run, &mut desk)?;
                    }
                    System::Bip152Bbr => bip152::take_part(place, "bbr", &object, run, &mut desk)?,
                    System::HttpPull => pull::take_part(place, &object, run, &mut desk)?,
                    System::NackOnly => nack::take_part(place, &object, &mut desk)?,
                }
            }
            Order::Go(_) | Order::Warm(_) | Order::Stream | Order::Count => {}
            Order::End => desk.account()?,
        }
    }
    Ok(())
}

/// Waits for the order to send, and notes when it came.
pub fn wait_for_go(desk: &Desk) -> io::Result<()> {
    match desk.next() {
        Some(Order::Go(_)) => desk.t0(),
        other => Err(io::Error::other(format!("expected go, got {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_words_and_anything_else_ends_the_node() {
        assert_eq!(parse("arm 3"), Some(Order::Arm(3)));
        assert_eq!(parse("go 3"), Some(Order::Go(3)));
        assert_eq!(parse("end"), Some(Order::End));
        assert_eq!(parse("stop"), None);
        assert_eq!(parse("arm x"), None);
    }
}
