//! `bench net`: every way to move packets, held to the same promises between network namespaces.
//!
//! In: nothing but the right to make namespaces. Out: for every backend and mode, how many of `relay::io::conformance` hold, and what was
//! seen where one does not; and how many packets a second crossed the wire that way. Two namespaces joined by a veth pair are made for it
//! and taken away again. One mode takes the checksums of the near end away, so that a kernel which will then not cut runs apart is met too;
//! another moves the packets by two sockets on one port, each with a thread. Without the right (or `ip`), everything is skipped, and why.
//!
//! The speeds are evidence and no gate: a veth pair hands a run over as one, which no network card does, and both ends share the
//! processor with whatever else runs. Compare rows of one run.

use load::evidence::Evidence;
use relay::io::conformance::{Bed, CASES, End};
use relay::io::{Backend, IoOptions, PacketIo, RxBatch, TxBatch, clock, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

/// Holds every backend that moves packets to the same promises, in network namespaces
#[derive(clap::Args)]
pub struct Args {
    /// This backend only
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// One JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// How packets move in a row of the result.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    runs: bool,
    /// The near end computes checksums in its card.
    checksums: bool,
    threads: usize,
}

const MODES: [Mode; 4] = [
    Mode { name: "gso+gro", runs: true, checksums: true, threads: 1 },
    Mode { name: "plain", runs: false, checksums: true, threads: 1 },
    Mode { name: "gso+gro, no checksum offload", runs: true, checksums: false, threads: 1 },
    Mode { name: "gso+gro, 2 threads", runs: true, checksums: true, threads: 2 },
];

/// How long a speed is measured.
const MEASURED_US: u64 = 500_000;
/// Payload of its packets: what a full symbol makes.
const MEASURED_BYTES: usize = 1_200;

/// The command.
pub fn main(args: &Args) -> ExitCode {
    let mut evidence = Evidence::new("metanode-net/1", 0);
    let mut rows = Vec::new();
    let mut ok = true;
    for backend in Backend::ALL {
        if args.backend.as_deref().is_some_and(|only| only != backend.name()) {
            continue;
        }
        for mode in MODES {
            let (row, fine) = row(backend, mode);
            let mode = mode.name;
            if let Some(why) = row["why_skipped"].as_str() {
                evidence.skip(format!("{} {mode}", backend.name()), why);
            } else if row["slow_wire"] == false {
                let what = format!("{} {mode}: a socket that is full", backend.name());
                evidence
                    .skip(what, "the wire cannot be made slow: no `tc`, or a kernel without tbf");
            }
            ok &= fine;
            rows.push(row);
        }
    }
    if rows.is_empty() {
        eprintln!("net: no such backend; there are udp and uring");
        return ExitCode::from(2);
    }
    evidence.set("cases", CASES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    evidence.set("backends", rows);
    evidence.finish(ok, args.json)
}

fn row(backend: Backend, how: Mode) -> (Value, bool) {
    let mode = how.name;
    let skipped = |why: String| {
        let row = json!({ "name": backend.name(), "mode": mode, "passed": 0, "failed": 0, "why_skipped": why });
        (row, true)
    };
    let wire = match Wire::new(how.checksums) {
        Ok(wire) => wire,
        Err(why) => return skipped(why),
    };
    let bed = Namespaces { wire: &wire, backend, how };
    let at = SocketAddr::new(bed.address(End::Near, false), 0);
    let probe = wire.inside(End::Near, || open(backend, &bed.options(at)));
    let caps = match probe {
        Ok(opened) if opened.io.caps().backend == backend.name() => opened.io.caps(),
        Ok(opened) => return skipped(opened.notes.join("; ")),
        Err(error) => return skipped(error.to_string()),
    };
    if caps.gso != how.runs || caps.gro != how.runs {
        return skipped(format!("this kernel does {} only", caps.mode()));
    }
    let speed = speed(&bed);
    let slow_wire = bed.slow(true) && bed.slow(false);
    let mut failures = Vec::new();
    for (name, case) in CASES {
        if let Err(seen) = case(&bed) {
            eprintln!("net: {} {mode}: {name}: {seen}", backend.name());
            failures.push(json!({ "case": name, "seen": seen }));
        }
    }
    let (passed, failed) = (CASES.len() - failures.len(), failures.len());
    eprintln!("net: {} {mode}: {passed} passed, {failed} failed, {speed}", backend.name());
    let row = json!({
        "name": backend.name(), "mode": mode, "passed": passed, "failed": failed, "why_skipped": Value::Null,
        "failures": failures, "slow_wire": slow_wire, "threads": how.threads, "speed": speed,
    });
    (row, failed == 0)
}

/// Sends as many packets as the socket takes, for as long as is measured.
fn flood(near: &mut dyn PacketIo, to: SocketAddr) -> io::Result<()> {
    let mut batch = TxBatch::new();
    let until = clock::now_us() + MEASURED_US;
    while clock::now_us() < until {
        while batch.push(to, &[7; MEASURED_BYTES]).is_ok() {}
        near.tx_burst(&mut batch)?;
        if !batch.is_empty() {
            near.wait(clock::now_us() + 1_000)?;
        }
    }
    Ok(())
}

/// Packets a second from one end to the other, one peer with as many packets as the socket takes; null where it could not be measured.
fn speed(bed: &Namespaces<'_>) -> Value {
    let measured = || -> io::Result<Value> {
        let open = |end| {
            let at = SocketAddr::new(bed.address(end, false), 0);
            bed.open(end, &bed.options(at))
        };
        let (mut near, mut far) = (open(End::Near)?, open(End::Far)?);
        let to = far.local_addr()?;
        let is_over = AtomicBool::new(false);
        let received = std::thread::scope(|scope| {
            let receives = scope.spawn(|| -> io::Result<u64> {
                let mut batch = RxBatch::new();
                while !is_over.load(Ordering::Acquire) {
                    if far.rx_burst(&mut batch)? == 0 {
                        far.wait(clock::now_us() + 1_000)?;
                    }
                }
                Ok(far.stats().rx_packets)
            });
            let sent = flood(&mut *near, to);
            is_over.store(true, Ordering::Release);
            let received = receives.join().expect("receiving does not panic");
            sent.and(received)
        })?;
        let a_second = |packets: u64| packets * 1_000_000 / MEASURED_US;
        let sent = a_second(near.stats().tx_packets);
        Ok(
            json!({ "packets_s_sent": sent, "packets_s_received": a_second(received), "payload_bytes": MEASURED_BYTES }),
        )
    };
    measured().unwrap_or_else(|error| {
        eprintln!("net: {} {}: no speed: {error}", bed.backend.name(), bed.how.name);
        Value::Null
    })
}

/// Two namespaces and the wire between them; both go when this does.
struct Wire {
    names: [String; 2],
}

const DEVICES: [&str; 2] = ["near", "far"];

fn place(end: End) -> usize {
    usize::from(end == End::Far)
}

impl Wire {
    fn new(checksums: bool) -> Result<Self, String> {
        let id = std::process::id();
        let wire = Self { names: [format!("mn-net-{id}-a"), format!("mn-net-{id}-b")] };
        let [a, b] = &wire.names;
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&[
            "link", "add", "near", "netns", a, "type", "veth", "peer", "name", "far", "netns", b,
        ])?;
        for (i, (name, device)) in wire.names.iter().zip(DEVICES).enumerate() {
            let host = i + 1;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", device, "up"])?;
            ip(&["-n", name, "addr", "add", &format!("10.77.0.{host}/24"), "dev", device])?;
            ip(&["-n", name, "addr", "add", &format!("fd77::{host}/64"), "dev", device, "nodad"])?;
        }
        if !checksums {
            wire.run(End::Near, &["ethtool", "-K", "near", "tx", "off"])?;
        }
        Ok(wire)
    }

    /// Runs a command inside.
    fn run(&self, end: End, command: &[&str]) -> Result<(), String> {
        let inside = ["netns", "exec", self.names[place(end)].as_str()];
        ip(&[&inside, command].concat())
    }

    /// Runs `f` inside, on a thread that ends with it. What `f` opens stays inside.
    fn inside<T: Send>(&self, end: End, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let path = format!("/run/netns/{}", self.names[place(end)]);
        std::thread::scope(|scope| {
            let opens = scope.spawn(|| {
                let namespace = File::open(path)?;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                f()
            });
            opens.join().expect("opening a socket does not panic")
        })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for name in &self.names {
            // One that was never made is no loss.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let told = |why: String| format!("`ip {}`: {why}", args.join(" "));
    let out = Command::new("ip").args(args).output().map_err(|error| told(error.to_string()))?;
    if out.status.success() {
        return Ok(());
    }
    Err(told(String::from_utf8_lossy(&out.stderr).trim().to_owned()))
}

/// The wire with one backend in one mode on it.
struct Namespaces<'a> {
    wire: &'a Wire,
    backend: Backend,
    how: Mode,
}

impl Bed for Namespaces<'_> {
    fn open(&self, end: End, options: &IoOptions) -> io::Result<Box<dyn PacketIo>> {
        self.wire.inside(end, || Ok(open(self.backend, options)?.io))
    }

    fn address(&self, end: End, ipv6: bool) -> IpAddr {
        let host = place(end) as u16 + 1;
        if ipv6 { [0xfd77, 0, 0, 0, 0, 0, 0, host].into() } else { [10, 77, 0, host as u8].into() }
    }

    fn options(&self, listen: SocketAddr) -> IoOptions {
        let Mode { runs, threads, .. } = self.how;
        IoOptions { gso: runs, gro: runs, threads, ..IoOptions::at(listen) }
    }

    fn slow(&self, slow: bool) -> bool {
        let rate = ["tbf", "rate", "100mbit", "burst", "64kb", "limit", "8mb"];
        let root = ["tc", "qdisc", if slow { "replace" } else { "del" }, "dev", "near", "root"];
        let command = if slow { [&root[..], &rate].concat() } else { root.to_vec() };
        self.wire.run(End::Near, &command).is_ok()
    }

    fn nowhere(&self) -> Option<SocketAddr> {
        // Neither namespace has a default route. Source of the network: RFC 5737, for documentation.
        Some(([203, 0, 113, 1], 9).into())
    }

    fn multicast(&self) -> bool {
        true
    }
}
