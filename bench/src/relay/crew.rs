//! A crew: the processes of one cell, and the conversation with them.
//!
//! In: a cell and a chain that stands. Out: for each run when the last node had the object, whether it was intact, what crossed the
//! links and what the nodes computed. Rivals get a fresh process a run, so that no congestion window or cache outlives one; BFR's
//! nodes stay, since a relay's links live for weeks and what they learned about loss is the point.

use super::cell::{Cell, System};
use emulator::{Chain, Counts, EmulatorError, Link};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A run that takes longer is a timeout.
pub const RUN_LIMIT: Duration = Duration::from_secs(30);
/// How long nodes may take to get ready.
const ARM_LIMIT: Duration = Duration::from_secs(20);
/// How long they may take to account for a run.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Unmeasured runs of nodes that stay: whole megabytes, from which their links learn what they lose.
pub const WARM_RUNS: u32 = 2;
/// How long nodes may talk about a run that timed out.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Links that carried nothing for so long have carried everything: longer than a round trip.
const QUIET: Duration = Duration::from_millis(60);
/// How long that is waited for.
const QUIET_LIMIT: Duration = Duration::from_secs(3);
/// How often a wait looks whether the race was stopped.
const LOOK: Duration = Duration::from_millis(200);

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// From the source's having the object to the last node's having all of it.
    pub ms: Option<f64>,
    /// What arrived somewhere was not what was sent.
    pub corrupt: bool,
    /// Bytes of frames given to links, both ways.
    pub bytes_sent: u64,
    /// Processor time of all nodes.
    pub cpu_us: u64,
    /// A node ended or misbehaved; the run counts as a timeout too.
    pub failure: Option<String>,
}

/// What nodes are told beside their cell.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Draws objects and what is known.
    pub seed: u64,
    /// Say what the relay counted, after every run.
    pub status: bool,
    /// The rate of a line that is shared with others; `None`: the race's own line.
    pub shared_mbit: Option<u32>,
}

struct Node {
    child: Child,
    orders: ChildStdin,
}

/// The nodes of a cell.
pub struct Crew {
    nodes: Vec<Node>,
    lines: Receiver<(usize, String)>,
    stays: bool,
    stop: Arc<AtomicBool>,
}

impl Crew {
    /// Starts a process in every namespace of the chain. Once `stop` is set, runs end early and have failed.
    pub fn start(
        cell: &Cell,
        chain: &Chain,
        setup: Setup,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let program = std::env::current_exe()?;
        let (sender, lines) = channel();
        let mut nodes = Vec::new();
        for (hop, namespace) in chain.nodes().iter().enumerate() {
            let mut command = Command::new(&program);
            command
                .args(["relay-node", "--namespace", namespace])
                .args(["--hop", &hop.to_string(), "--hops", &cell.hops.to_string()])
                .args(["--system", cell.system.name(), "--seed", &setup.seed.to_string()])
                .args(["--kind", cell.kind.name()]);
            if setup.status {
                command.arg("--status");
            }
            if let Some(mbit) = setup.shared_mbit {
                command.args(["--shared-mbit", &mbit.to_string()]);
            }
            if let Some(overlap) = cell.overlap_pct {
                command.args(["--overlap", &overlap.to_string()]);
            }
            // A Ctrl-C is for the race, which ends them in order.
            command.process_group(0);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let orders = child.stdin.take().expect("stdin was piped");
            let out = child.stdout.take().expect("stdout was piped");
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if sender.send((hop, line)).is_err() {
                        return;
                    }
                }
            });
            nodes.push(Node { child, orders });
        }
        Ok(Self { nodes, lines, stays: stays(cell.system), stop })
    }

    /// One run; `ready` is called between "ready" and "go".
    pub fn run(
        &mut self,
        run: u32,
        links: &[Link],
        ready: impl FnOnce() -> Result<(), EmulatorError>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(why) = self.try_run(run, links, ready, &mut outcome) {
            outcome.failure = Some(why);
            outcome.ms = None;
        }
        outcome
    }

    fn try_run(
        &mut self,
        run: u32,
        links: &[Link],
        ready: impl FnOnce() -> Result<(), EmulatorError>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        self.arm(run)?;
        ready().map_err(|error| error.to_string())?;
        let before = carried(links);
        self.order(0, &format!("go {run}"))?;
        let last = self.nodes.len() - 1;
        let until = Instant::now() + RUN_LIMIT;
        // Nodes run before us and in parallel: the last one's line may be read before the source's.
        let (mut t0_ns, mut done_ns) = (None, None);
        while t0_ns.is_none() || done_ns.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.next(left.min(LOOK))?;
            if line.is_none() && left > LOOK {
                continue;
            }
            let Some((from, line)) = line else {
                // What the nodes know about it is worth more than their time.
                for hop in 0..self.nodes.len() {
                    self.order(hop, "end")?;
                }
                std::thread::sleep(LAST_WORDS);
                return Ok(());
            };
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["t0", _] if from == 0 => t0_ns = Some(number(&line, 1)?),
                ["done", _, "intact"] if from == last => done_ns = Some(number(&line, 1)?),
                ["done", _, "intact"] => {}
                ["done", _, "corrupt"] => {
                    outcome.corrupt = true;
                    return Ok(());
                }
                _ => return Err(format!("node {from} said `{line}`")),
            }
        }
        outcome.ms = t0_ns.zip(done_ns).map(|(t0, done)| (done as f64 - t0 as f64) / 1e6);
        outcome.bytes_sent = quiet(links) - before;
        for hop in 0..self.nodes.len() {
            self.order(hop, "end")?;
            let cpu =
                self.wait("cpu", END_LIMIT, |from, line| from == hop && line.starts_with("cpu "))?;
            let cpu = cpu.ok_or_else(|| format!("node {hop} did not account for its run"))?;
            outcome.cpu_us += number(&cpu, 1)?;
        }
        Ok(())
    }

    /// Makes every node ready, from the last to the first: who connects finds somebody who listens.
    pub fn arm(&mut self, run: u32) -> Result<(), String> {
        let word = if self.stays && run < WARM_RUNS { "warm" } else { "arm" };
        let late = || format!("a node was not ready after {ARM_LIMIT:?}");
        let mut waits = 0;
        for hop in (0..self.nodes.len()).rev() {
            self.order(hop, &format!("{word} {run}"))?;
            waits += 1;
            // Links of nodes that stay come up only when both ends have been told.
            if !self.stays || hop == 0 {
                for _ in 0..waits {
                    self.wait("armed", ARM_LIMIT, |_, line| line == "armed")?.ok_or_else(late)?;
                }
                waits = 0;
            }
        }
        Ok(())
    }

    /// Bytes of objects that a node got so far.
    pub fn count(&mut self, hop: usize) -> Result<u64, String> {
        self.order(hop, "count")?;
        let line =
            self.wait("bytes", END_LIMIT, |from, line| from == hop && line.starts_with("bytes "))?;
        number(&line.ok_or("a node did not count")?, 1)
    }

    /// Tells a node something.
    pub fn order(&mut self, hop: usize, line: &str) -> Result<(), String> {
        let orders = &mut self.nodes[hop].orders;
        orders
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|error| format!("telling node {hop} `{line}`: {error}"))
    }

    fn next(&self, limit: Duration) -> Result<Option<(usize, String)>, String> {
        if self.stop.load(Ordering::Relaxed) {
            return Err("the race was stopped".into());
        }
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("every node has ended".into()),
        }
    }

    /// Waits for a line; lines of earlier business (a relay that is done late) are passed over.
    fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(usize, &str) -> bool,
    ) -> Result<Option<String>, String> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some((from, line)) = self.next(left.min(LOOK))?
                && wanted(from, &line)
            {
                return Ok(Some(line));
            }
            for (hop, node) in self.nodes.iter_mut().enumerate() {
                if let Ok(Some(status)) = node.child.try_wait() {
                    return Err(format!("node {hop} ended ({status}) before it said `{what}`"));
                }
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.child.kill();
        }
        for node in &mut self.nodes {
            let _ = node.child.wait();
        }
    }
}

/// The `at`-th word of a line as a number.
fn number(line: &str, at: usize) -> Result<u64, String> {
    let word = line.split(' ').nth(at).and_then(|word| word.parse().ok());
    word.ok_or_else(|| format!("no number in `{line}`"))
}

/// Bytes that links were given so far.
pub fn carried(links: &[Link]) -> u64 {
    links.iter().flat_map(Link::counts).map(|counts: Counts| counts.bytes).sum()
}

/// The same, once nothing moves any more.
fn quiet(links: &[Link]) -> u64 {
    let until = Instant::now() + QUIET_LIMIT;
    let (mut seen, mut since) = (carried(links), Instant::now());
    while since.elapsed() < QUIET && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
        let now = carried(links);
        // Keepalives never end; an object's packets are larger than those of a minute.
        if now > seen + 400 {
            since = Instant::now();
        }
        seen = now;
    }
    seen
}

/// Whether a system's nodes serve all runs of a cell.
pub fn stays(system: System) -> bool {
    system == System::Bfr
}
