//! The tile `replay`: sends an offer through the same ingest links as everybody else and notes every verdict.
//!
//! In: an [`Offer`] by [`Remote::start`], then verdicts on `validate_verdict`. Out: one ingest frag a transaction on
//! `submit_validate`, to the validator that coordinates it. At most a window of transactions is out at any time, so the verdict
//! links can never be full. With [`Pace::Max`] a full link makes the tile wait; with [`Pace::PerSecond`] the load is an open
//! loop: what finds no room when its time has come is shed at the door and counted.
//!
//! Cost a transaction: one keyed hash of an outpoint, one copy into the link, three words of notes: below 100 ns.

use crate::offer::Offer;
use consensus::hash::TxId;
use dataplane::msg::{IngestHeader, TxVerdict, VerdictFrag};
use dataplane::partition::Partition;
use dataplane::tile::{Busy, Frag, House, In, Out, Outs, Stamp, Tile};
use dataplane::time::Ns;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};

/// Transactions sent in one turn, at most.
const SENT_PER_TURN: usize = 64;
/// Verdicts whose other transaction (winner, parent) is kept, at most.
const OTHERS_MAX: usize = 1 << 20;

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as the links take it.
    Max,
    /// This many a second, whether or not the node keeps up.
    PerSecond(u64),
}

/// What became of one offered transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its verdict.
    pub verdict: TxVerdict,
    /// See [`TxVerdict`].
    pub detail: u8,
    /// The input the verdict speaks of (the low 16 bits).
    pub vin: u16,
    /// From its publication to its verdict, in steps of 64 ns.
    pub latency_ns: u64,
}

/// Notes about a running or finished replay; read by whoever started it.
#[derive(Debug)]
pub struct Log {
    sent_at: Vec<AtomicU32>,
    outcomes: Vec<AtomicU64>,
    others: Mutex<Vec<(u32, TxId)>>,
    sent: AtomicU64,
    shed: AtomicU64,
    accepted: AtomicU64,
    settled: AtomicU64,
    repeated: AtomicU64,
    started_ns: AtomicU64,
    last_accepted_ns: AtomicU64,
    stop: AtomicBool,
    done: AtomicBool,
}

impl Log {
    fn new(places: usize) -> Self {
        Self {
            sent_at: (0..places).map(|_| AtomicU32::new(0)).collect(),
            outcomes: (0..places).map(|_| AtomicU64::new(0)).collect(),
            others: Mutex::new(Vec::with_capacity(places.min(OTHERS_MAX))),
            sent: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            started_ns: AtomicU64::new(0),
            last_accepted_ns: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            done: AtomicBool::new(false),
        }
    }

    /// Transactions that went into a link.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Transactions that found no room when their time had come.
    pub fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }

    /// Transactions accepted so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Transactions with a verdict.
    pub fn settled(&self) -> u64 {
        self.settled.load(Relaxed)
    }

    /// Verdicts for a place that had one, or for no place at all: always 0.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Relaxed)
    }

    /// Ends the replay early: nothing more is sent, what is out still gets its verdict.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// True once everything is sent and everything sent has its verdict.
    pub fn is_done(&self) -> bool {
        self.done.load(Acquire)
    }

    /// From the first transaction sent to the last one accepted.
    pub fn busy_ns(&self) -> Ns {
        self.last_accepted_ns.load(Relaxed).saturating_sub(self.started_ns.load(Relaxed))
    }

    /// What became of the transaction at `place`; `None` if it was shed or is still out.
    pub fn outcome(&self, place: usize) -> Option<Outcome> {
        let word = self.outcomes[place].load(Relaxed);
        let verdict = *TxVerdict::ALL.get((word & 0xff).checked_sub(1)? as usize)?;
        Some(Outcome {
            verdict,
            detail: (word >> 8) as u8,
            vin: (word >> 16) as u16,
            latency_ns: (word >> 32) << 6,
        })
    }

    /// The other transaction of each verdict that names one: (place, winner or parent).
    pub fn others(&self) -> Vec<(u32, TxId)> {
        self.others.lock().expect("no holder of this lock panics").clone()
    }

    fn settle(&self, now: Ns, frag: &VerdictFrag) {
        let Some(place) = self.outcomes.get(frag.token as usize) else {
            self.repeated.fetch_add(1, Relaxed);
            return;
        };
        if place.load(Relaxed) != 0 {
            self.repeated.fetch_add(1, Relaxed);
            return;
        }
        let age = Stamp::of(now).0.wrapping_sub(self.sent_at[frag.token as usize].load(Relaxed));
        let word = (frag.verdict as u64 + 1)
            | u64::from(frag.detail) << 8
            | u64::from(frag.vin as u16) << 16
            | u64::from(age) << 32;
        place.store(word, Relaxed);
        if frag.verdict == TxVerdict::Accepted {
            self.accepted.fetch_add(1, Relaxed);
            self.last_accepted_ns.store(now, Relaxed);
        }
        if frag.other != TxId::ZERO {
            let mut others = self.others.lock().expect("no holder of this lock panics");
            if others.len() < others.capacity() {
                others.push((frag.token as u32, frag.other));
            }
        }
        self.settled.fetch_add(1, Relaxed);
    }
}

#[derive(Debug)]
struct Job {
    offer: Arc<Offer>,
    log: Arc<Log>,
    pace: Pace,
    next: usize,
    started: bool,
}

/// Starts replays on a tile that runs elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Remote(Arc<Mutex<Option<Job>>>);

impl Remote {
    /// Hands `offer` to the tile, which begins within a housekeeping interval. One replay at a time.
    pub fn start(&self, offer: Arc<Offer>, pace: Pace) -> Arc<Log> {
        let log = Arc::new(Log::new(offer.len()));
        let job = Job { offer, log: log.clone(), pace, next: 0, started: false };
        let before = self.0.lock().expect("no holder of this lock panics").replace(job);
        assert!(before.is_none(), "a replay was started before the one before it had begun");
        log
    }
}

/// The tile.
#[derive(Debug)]
pub struct Replay {
    remote: Remote,
    partition: Partition,
    job: Option<Job>,
    /// Transactions out, by validator.
    out: Vec<u64>,
    window: u64,
}

impl Replay {
    /// A tile that sends what `remote` hands it; never more than `window` transactions out at one validator.
    pub fn new(remote: Remote, partition: Partition, window: u64) -> Self {
        let out = vec![0; usize::from(partition.validators())];
        Self { remote, partition, job: None, out, window }
    }

    /// Sends the next transaction; false when it has to wait.
    fn send_next(&mut self, outs: &mut Outs) -> bool {
        let Some(job) = &mut self.job else { return false };
        let offered = job.offer.get(job.next);
        let validator = self.partition.validator_of_bytes(offered.bytes);
        let out = Out(validator);
        let open_loop = job.pace != Pace::Max;
        let room = self.out[usize::from(validator)] < self.window && outs.credit(out) > 0;
        let header = IngestHeader { token: job.next as u64, source: 1, ..IngestHeader::default() };
        let len = IngestHeader::LEN + offered.bytes.len();
        let published = if !room {
            false
        } else if len <= outs.mtu(out) {
            outs.publish_with(out, 0, |slot| {
                header.write(slot);
                slot[IngestHeader::LEN..len].copy_from_slice(offered.bytes);
                len
            })
            .is_some()
        } else {
            match outs.admit(out, len as u64, u64::from(header.source)) {
                Err(_) => false,
                Ok(mut frag) => {
                    let mut head = [0; IngestHeader::LEN];
                    header.write(&mut head);
                    outs.append(out, &mut frag, &head);
                    outs.append(out, &mut frag, offered.bytes);
                    // There is credit, so the frag does not come back; if it did, dropping it gives its claim back.
                    outs.publish_large(out, 0, frag).is_ok()
                }
            }
        };
        if published {
            job.log.sent_at[job.next].store(Stamp::of(outs.now()).0, Relaxed);
            job.log.sent.fetch_add(1, Relaxed);
            self.out[usize::from(validator)] += 1;
        } else if open_loop {
            job.log.shed.fetch_add(1, Relaxed);
        } else {
            return false;
        }
        job.next += 1;
        true
    }
}

impl Tile for Replay {
    const NAME: &'static str = "replay";
    const BURST: u32 = 0;

    fn housekeeping(&mut self, _house: &mut House<'_>) {
        if self.job.is_none() {
            self.job = self.remote.0.lock().expect("no holder of this lock panics").take();
        }
    }

    fn before(&mut self, outs: &mut Outs) -> Busy {
        let Some(job) = &mut self.job else { return Busy::No };
        if !job.started {
            job.started = true;
            job.log.started_ns.store(outs.now(), Relaxed);
        }
        let stopped = job.log.stop.load(Relaxed);
        let left = if stopped { 0 } else { job.offer.len() - job.next };
        let due = match job.pace {
            Pace::Max => left,
            Pace::PerSecond(rate) => {
                let elapsed = outs.now() - job.log.started_ns.load(Relaxed);
                let due = u128::from(elapsed) * u128::from(rate) / 1_000_000_000;
                (due as usize).saturating_sub(job.next).min(left)
            }
        };
        let mut sent = 0;
        while sent < due.min(SENT_PER_TURN) && self.send_next(outs) {
            sent += 1;
        }
        let all_sent = stopped || self.job.as_ref().is_some_and(|job| job.next == job.offer.len());
        if all_sent
            && self.out.iter().all(|out| *out == 0)
            && let Some(job) = self.job.take()
        {
            job.log.done.store(true, Release);
        }
        Busy::if_so(sent > 0)
    }

    fn wants(&mut self, _input: In, _outs: &Outs) -> u32 {
        u32::MAX
    }

    fn frag(&mut self, input: In, frag: Frag<'_>, outs: &mut Outs) {
        let verdict = VerdictFrag::decode(frag.bytes).unwrap_or_else(|| {
            panic!("validate_verdict carried {} bytes that are no verdict", frag.bytes.len())
        });
        let out = &mut self.out[input.index()];
        *out = out.checked_sub(1).expect("a verdict for a transaction that was not out");
        if let Some(job) = &self.job {
            job.log.settle(outs.now(), &verdict);
        }
    }

    fn is_drained(&self) -> bool {
        self.job.is_none()
    }
}
