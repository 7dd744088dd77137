//! The crowd: thousands of connections at once that say nothing.
//!
//! In: a port and how many. Out: how often it gathered and how far it got. The other side refuses most of them at the door; who
//! got in sits there, half open, until the crowd leaves. It stays away longer than it stays, so that others are served too.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long one connection may take to open.
const OPEN: Duration = Duration::from_millis(250);
/// How long the crowd stays.
const STAY: Duration = Duration::from_secs(2);
/// How long it is away.
const AWAY: Duration = Duration::from_secs(10);
/// Failures in a row after which it gives up for this time: descriptors are short.
const FAILURES_MAX: u64 = 200;

/// What the crowd did.
#[derive(Debug, Default)]
pub struct Crowd {
    /// How often it gathered.
    pub times: u64,
    /// The most connections that were open at once on this side.
    pub opened_most: u64,
    /// Connections that could not be opened.
    pub failed: u64,
}

/// Gathers again and again until told to stop.
pub fn gather(port: u16, size: usize, stop: &AtomicBool) -> Crowd {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut crowd = Crowd::default();
    while !stop.load(Ordering::Relaxed) {
        let mut open = Vec::with_capacity(size);
        let mut failures = 0;
        while open.len() < size && failures < FAILURES_MAX && !stop.load(Ordering::Relaxed) {
            if let Ok(stream) = TcpStream::connect_timeout(&address, OPEN) {
                open.push(stream);
                failures = 0;
            } else {
                failures += 1;
                crowd.failed += 1;
            }
        }
        crowd.times += 1;
        crowd.opened_most = crowd.opened_most.max(open.len() as u64);
        nap(STAY, stop);
        drop(open);
        nap(AWAY, stop);
    }
    crowd
}

fn nap(how_long: Duration, stop: &AtomicBool) {
    let until = std::time::Instant::now() + how_long;
    while std::time::Instant::now() < until && !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
}
