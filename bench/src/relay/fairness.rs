//! Fairness: what a TCP connection keeps of a link that it shares with our relay.
//!
//! In: a link of 100 Mbit/s with a queue of a few round trips; a relay that has always two objects under way and may use all of the
//! link; one TCP connection that always has something to send. Out: what each got, once both have found their rate. The relay's peer
//! is not marked as a dedicated line, so the guard on loss and delay is at work.

use super::cell::{Cell, LOSSES, System};
use super::crew::{Crew, Setup};
use super::node::PORT;
use super::object::Kind;
use emulator::{Chain, ChainSpec, EmulatorError, Impairment, within};
use load::evidence::Evidence;
use rustix::net::sockopt::set_tcp_congestion;
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LINK_MBIT: u32 = 100;
const DELAY_US: u32 = 10_000;
const QUEUE_MS: u32 = 60;
/// TCP starts alone, as the traffic that was there before.
const ALONE: Duration = Duration::from_secs(1);
/// Both run so long before anything counts.
const SETTLE: Duration = Duration::from_secs(3);
/// What TCP keeps at least, percent of what both get.
const AIM_PCT: f64 = 30.0;

/// Races both kinds of TCP against the relay for `measured` each.
pub fn rows(
    prefix: &str,
    seed: u64,
    measured: Duration,
    evidence: &mut Evidence,
    stop: &Arc<AtomicBool>,
    say: &dyn Fn(&str),
) -> Result<Vec<Value>, EmulatorError> {
    let rules = Impairment {
        delay_us: DELAY_US,
        rate_mbit: LINK_MBIT,
        queue_ms: QUEUE_MS,
        ..Impairment::default()
    };
    let spec = ChainSpec {
        sysctls: super::row::sysctls(),
        ..ChainSpec::even(&format!("{prefix}f"), 1, &rules, seed)
    };
    let chain = Chain::up(&spec)?;
    let mut rows = Vec::new();
    for cc in ["cubic", "bbr"] {
        let shared = share(&chain, cc, seed, measured, stop);
        if stop.load(Ordering::Relaxed) {
            return Ok(rows);
        }
        let [tcp, bfr] = shared
            .map_err(|why| EmulatorError::System { tried: format!("sharing with {cc}"), why })?;
        let mbit = |bytes: u64| bytes as f64 * 8.0 / measured.as_secs_f64() / 1e6;
        let share_pct = tcp as f64 * 100.0 / (tcp + bfr).max(1) as f64;
        say(&format!(
            "fairness: TCP {cc:<5} {:>6.1} Mbit/s, BFR {:>6.1} Mbit/s of {LINK_MBIT}: TCP keeps {share_pct:.0} %",
            mbit(tcp),
            mbit(bfr)
        ));
        let share_pct = (share_pct * 10.0).round() / 10.0;
        evidence.aim(&format!("percent TCP {cc} keeps"), AIM_PCT, share_pct, share_pct >= AIM_PCT);
        rows.push(json!({
            "rival": format!("tcp-{cc}"), "link_mbit": LINK_MBIT,
            "rtt_ms": 2 * DELAY_US / 1_000, "queue_ms": QUEUE_MS,
            "seconds": measured.as_secs_f64(),
            "tcp_mbit": (mbit(tcp) * 10.0).round() / 10.0,
            "bfr_mbit": (mbit(bfr) * 10.0).round() / 10.0,
            "tcp_share_pct": share_pct,
        }));
    }
    Ok(rows)
}

/// Bytes that TCP and the relay delivered in the measured time.
fn share(
    chain: &Chain,
    cc: &str,
    seed: u64,
    measured: Duration,
    stop: &Arc<AtomicBool>,
) -> Result<[u64; 2], String> {
    let cell = Cell {
        system: System::Bfr,
        kind: Kind::Block,
        hops: 1,
        loss: LOSSES[0],
        overlap_pct: None,
        runs: 1,
    };
    let setup = Setup { seed, status: false, shared_mbit: Some(LINK_MBIT) };
    let mut crew =
        Crew::start(&cell, chain, setup, stop.clone()).map_err(|error| error.to_string())?;
    crew.arm(0)?;
    let flow = Flow::default();
    std::thread::scope(|scope| {
        // Whatever happens, the flow's threads end.
        let _end = EndFlow(&flow);
        let address = SocketAddr::from((Chain::addresses(1).1, PORT + 1));
        let listener = within(&chain.nodes()[1], || TcpListener::bind(address));
        let listener = open(listener)?;
        let stream = open(within(&chain.nodes()[0], || TcpStream::connect(address)))?;
        let accepted = listener.accept().map_err(|error| error.to_string())?.0;
        for socket in [&stream, &accepted] {
            socket.set_read_timeout(Some(Duration::from_millis(100))).map_err(|e| e.to_string())?;
            socket
                .set_write_timeout(Some(Duration::from_millis(100)))
                .map_err(|e| e.to_string())?;
        }
        set_tcp_congestion(&stream, cc).map_err(|error| error.to_string())?;
        scope.spawn(|| flow.send(stream));
        scope.spawn(|| flow.receive(accepted));
        sleep_unless(stop, ALONE);
        crew.order(0, "stream")?;
        sleep_unless(stop, SETTLE);
        let (tcp, bfr) = (flow.received.load(Ordering::Relaxed), crew.count(1)?);
        let began = Instant::now();
        sleep_unless(stop, measured);
        let late = began.elapsed().as_secs_f64() / measured.as_secs_f64();
        let per_time = |bytes: u64| (bytes as f64 / late) as u64;
        let tcp = flow.received.load(Ordering::Relaxed) - tcp;
        Ok([per_time(tcp), per_time(crew.count(1)? - bfr)])
    })
}

/// Sleeps, until the race is stopped at most.
fn sleep_unless(stop: &AtomicBool, time: Duration) {
    let until = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(Duration::from_millis(100)));
    }
}

fn open<T>(opened: Result<io::Result<T>, EmulatorError>) -> Result<T, String> {
    match opened {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// One TCP connection that always has something to send.
#[derive(Default)]
struct Flow {
    end: AtomicBool,
    received: AtomicU64,
}

struct EndFlow<'a>(&'a Flow);

impl Drop for EndFlow<'_> {
    fn drop(&mut self) {
        self.0.end.store(true, Ordering::Relaxed);
    }
}

impl Flow {
    fn send(&self, mut stream: TcpStream) {
        let bytes = vec![0x5a; 1 << 16];
        while !self.end.load(Ordering::Relaxed) {
            // A write that times out wrote nothing or a part: it does not matter which.
            let _ = stream.write(&bytes);
        }
    }

    fn receive(&self, mut stream: TcpStream) {
        let mut bytes = vec![0; 1 << 16];
        while !self.end.load(Ordering::Relaxed) {
            if let Ok(got) = stream.read(&mut bytes) {
                self.received.fetch_add(got as u64, Ordering::Relaxed);
            }
        }
    }
}
