//! The gate: the thread between callers and validators.
//!
//! It takes calls from the inbox, gives every transaction a token and a place in the queue of its validator, publishes while
//! there is credit, and collects verdicts until a call has all of its own. With nothing to do it yields for a moment, because
//! under load the next verdict is microseconds away, then parks; validators and callers both wake it. Tokens carry a
//! generation, so a number that is used again is never taken for its predecessor.
//!
//! Cost of a transaction: one copy into the link, one entry, one verdict of 96 bytes; about a microsecond in all.

use super::counts::SubmitCount;
use super::handle::{Answer, Call, Shared, Submit, SubmitError, SubmitLimits};
use super::outcome::Outcome;
use crate::node::SubmitEnds;
use consensus::hash::TxId;
use consensus::rules::TxReject;
use dataplane::msg::{IngestHeader, TxVerdict, VerdictFrag};
use dataplane::tile::Stamp;
use dataplane::topo::{ExternalIn, ExternalOut};
use ring::Refused;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the gate yields before it parks.
const YIELD: Duration = Duration::from_micros(50);
/// How long it sleeps if nobody wakes it: wake-ups are not lost, so this only bounds what a defect would cost.
const PARK: Duration = Duration::from_millis(100);
/// How long it rests when a validator gives no credit (credit wakes nobody).
const REST: Duration = Duration::from_micros(50);
/// Verdicts handled before new calls are looked at.
const VERDICTS_PER_ROUND: usize = 4_096;
/// How long a closing gate waits for verdicts that are on their way.
const LAST_VERDICTS: Duration = Duration::from_millis(300);

/// A call the gate works on.
#[derive(Debug)]
struct Open {
    call: Call,
    outcomes: Vec<Option<Outcome>>,
    left: usize,
}

/// A transaction without a verdict.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    generation: u32,
    call: u32,
    index: u32,
}

struct Worker {
    ends: SubmitEnds,
    shared: Arc<Shared>,
    open: Vec<Option<Open>>,
    free_open: Vec<u32>,
    entries: Vec<Entry>,
    free_entries: Vec<u32>,
    /// Per validator, what waits to be sent: numbers of entries.
    waiting: Vec<VecDeque<u32>>,
}

/// The running gate. [`Gate::close`] before the machine is stopped, [`Gate::join`] after it.
#[derive(Debug)]
pub struct Gate {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the gate on the ends of a node.
pub fn start(ends: SubmitEnds, limits: SubmitLimits) -> std::io::Result<(Submit, Gate)> {
    let shared = Arc::new(Shared::new(limits, ends.parker.waker()));
    let validators = ends.submit_validate.len();
    let worker = Worker {
        ends,
        shared: Arc::clone(&shared),
        open: Vec::new(),
        free_open: Vec::new(),
        entries: Vec::new(),
        free_entries: Vec::new(),
        waiting: vec![VecDeque::new(); validators],
    };
    let thread =
        std::thread::Builder::new().name("submit".to_owned()).spawn(move || worker.run())?;
    let gate = Gate { shared: Arc::clone(&shared), thread: Some(thread) };
    Ok((Submit { shared }, gate))
}

impl Gate {
    /// Takes no more calls. Those in hand get their verdicts if these come at once, else `Stopping`. Verdict links are read on.
    pub fn close(&self) {
        self.shared.inbox().closed = true;
        self.shared.wake();
    }

    /// Whether every call is answered.
    pub fn is_empty(&self) -> bool {
        self.shared.counters.get(SubmitCount::HeldTransactions) == 0
    }

    /// Ends the thread. The machine must have stopped, or it may wait for somebody to read its verdicts.
    pub fn join(mut self) {
        self.end();
    }

    fn end(&mut self) {
        {
            let mut inbox = self.shared.inbox();
            inbox.closed = true;
            inbox.ended = true;
        }
        self.shared.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the gate for submitted transactions panicked");
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.end();
    }
}

impl Worker {
    fn run(mut self) {
        let mut idle_since: Option<Instant> = None;
        let mut closing: Option<Instant> = None;
        loop {
            let (calls, closed, ended) = {
                let mut inbox = self.shared.inbox();
                (std::mem::take(&mut inbox.calls), inbox.closed, inbox.ended)
            };
            let mut busy = !calls.is_empty();
            for call in calls {
                if closed {
                    self.turn_away(call.answer, call.txs.len() as u64, call.bytes);
                } else {
                    self.take_in(call);
                }
            }
            busy |= self.collect() > 0;
            if closed {
                let since = *closing.get_or_insert_with(|| {
                    self.waiting.iter_mut().for_each(VecDeque::clear);
                    Instant::now()
                });
                if ended || since.elapsed() > LAST_VERDICTS {
                    self.give_up();
                }
            }
            if ended {
                return;
            }
            let starved = !self.flush(&mut busy);
            if busy {
                idle_since = None;
                continue;
            }
            if starved {
                std::thread::sleep(REST);
                continue;
            }
            let now = Instant::now();
            if now - *idle_since.get_or_insert(now) < YIELD {
                std::thread::yield_now();
                continue;
            }
            let (shared, inputs) = (&self.shared, &self.ends.validate_submit);
            let closing_wait = closing.is_some() && self.open.iter().any(Option::is_some);
            let timeout = if closing_wait { Duration::from_millis(5) } else { PARK };
            self.ends.parker.park(timeout, || {
                let inbox = shared.inbox();
                !inbox.calls.is_empty()
                    || inbox.ended
                    || (inbox.closed && closing.is_none())
                    || inputs.iter().any(ExternalIn::has_next)
            });
            shared.counters.add(SubmitCount::Parks, 1);
        }
    }

    /// Gives each transaction of a call a token and a place in its validator's queue.
    fn take_in(&mut self, call: Call) {
        let at = self.free_open.pop().unwrap_or_else(|| {
            self.open.push(None);
            self.open.len() as u32 - 1
        });
        for (index, tx) in call.txs.iter().enumerate() {
            let entry = self.free_entries.pop().unwrap_or_else(|| {
                self.entries.push(Entry::default());
                self.entries.len() as u32 - 1
            });
            let e = &mut self.entries[entry as usize];
            (e.call, e.index) = (at, index as u32);
            let validator = self.ends.partition.validator_of_bytes(tx);
            self.waiting[usize::from(validator)].push_back(entry);
        }
        let left = call.txs.len();
        self.open[at as usize] = Some(Open { call, outcomes: vec![None; left], left });
    }

    /// Publishes what waits, while there is credit; false if something waits for credit.
    fn flush(&mut self, busy: &mut bool) -> bool {
        let (mut all, mut never) = (true, Vec::new());
        for (out, queue) in self.ends.submit_validate.iter_mut().zip(&mut self.waiting) {
            if queue.is_empty() {
                continue;
            }
            let mut sent = 0_usize;
            while let Some(&entry) = queue.front() {
                let e = self.entries[entry as usize];
                let open = self.open[e.call as usize].as_ref();
                let open = open.expect("a call is open while one of its transactions waits");
                let header = IngestHeader {
                    token: u64::from(e.generation) << 32 | u64::from(entry),
                    source: open.call.source as u32,
                    block: 0,
                    index: 0,
                    flags: IngestHeader::TELL_ORPHAN,
                };
                match publish(out, &header, &open.call.txs[e.index as usize]) {
                    Published::Yes => sent += 1,
                    Published::Never => never.push(header),
                    Published::NotNow => {
                        all = false;
                        self.shared.counters.add(SubmitCount::NoCredit, 1);
                        break;
                    }
                }
                queue.pop_front();
            }
            if sent > 0 {
                *busy = true;
                out.producer().refresh();
                out.wake();
            }
        }
        for header in never {
            *busy = true;
            self.verdict(&too_large(&header));
        }
        all
    }

    /// Takes verdicts from all links; gives how many.
    fn collect(&mut self) -> usize {
        let mut count = 0;
        for link in 0..self.ends.validate_submit.len() {
            for _ in 0..VERDICTS_PER_ROUND {
                let input = &mut self.ends.validate_submit[link];
                let Some(frag) = input.poll() else { break };
                let verdict =
                    VerdictFrag::decode(frag.bytes).expect("validate_submit carries verdicts");
                count += 1;
                self.verdict(&verdict);
            }
            self.ends.validate_submit[link].return_credit();
        }
        count
    }

    fn verdict(&mut self, verdict: &VerdictFrag) {
        self.shared.counters.add(SubmitCount::Verdicts, 1); // before its call can be answered
        let (entry, generation) = (verdict.token as u32, (verdict.token >> 32) as u32);
        let e = &mut self.entries[entry as usize];
        if e.generation != generation {
            return; // of a call that was given up when the gate closed
        }
        let (call, index) = (e.call, e.index as usize);
        e.generation = e.generation.wrapping_add(1);
        self.free_entries.push(entry);
        let place = &mut self.open[call as usize];
        let open = place.as_mut().expect("an entry's call is open");
        open.outcomes[index] = Some(Outcome::from(verdict));
        open.left -= 1;
        if open.left > 0 {
            return;
        }
        let done = place.take().expect("it was open just now");
        self.free_open.push(call);
        self.shared.release(done.call.txs.len() as u64, done.call.bytes);
        let outcomes: Option<Vec<Outcome>> = done.outcomes.into_iter().collect();
        let outcomes = outcomes.expect("none is left, so each has its outcome");
        let _ = done.call.answer.send(Ok(outcomes)); // the caller may have gone
    }

    /// Ends every call that still waits.
    fn give_up(&mut self) {
        for at in 0..self.open.len() {
            let Some(open) = self.open[at].take() else { continue };
            self.shared.counters.add(SubmitCount::Stopped, open.left as u64);
            self.turn_away(open.call.answer, open.call.txs.len() as u64, open.call.bytes);
        }
        // Verdicts that still come find a newer generation.
        self.entries.iter_mut().for_each(|e| e.generation = e.generation.wrapping_add(1));
    }

    fn turn_away(&self, answer: Answer, transactions: u64, bytes: u64) {
        self.shared.counters.add(SubmitCount::Stopping, 1);
        self.shared.release(transactions, bytes);
        let _ = answer.send(Err(SubmitError::Stopping)); // the caller may have gone
    }
}

/// What became of a try to publish.
enum Published {
    Yes,
    /// No credit, or no room in the arena.
    NotNow,
    /// It does not fit the link's arena, however empty.
    Never,
}

/// The gate's own verdict on a transaction that no link of this node can carry.
fn too_large(header: &IngestHeader) -> VerdictFrag {
    VerdictFrag {
        token: header.token,
        source: header.source,
        block: 0,
        verdict: TxVerdict::Policy,
        detail: TxReject::TxSize as u8,
        vin: 0,
        fee_sat: 0,
        txid: TxId::ZERO,
        other: TxId::ZERO,
    }
}

/// Publishes one transaction.
fn publish(out: &mut ExternalOut, header: &IngestHeader, tx: &[u8]) -> Published {
    let producer = out.producer();
    let bytes = IngestHeader::LEN + tx.len();
    let (sig, born) = (u64::from(header.source), Stamp::default().0);
    if bytes <= producer.mtu_bytes() {
        let Some(slot) = producer.prepare() else {
            producer.count_backpressure();
            return Published::NotNow;
        };
        header.write(slot);
        slot[IngestHeader::LEN..bytes].copy_from_slice(tx);
        producer.commit(sig, bytes, born);
        return Published::Yes;
    }
    if !producer.credit_at_least(1) {
        producer.count_backpressure();
        return Published::NotNow;
    }
    // Each is a source of its own: the gate bounds what it has out.
    let mut frag = match producer.admit(bytes as u64, header.token) {
        Ok(frag) => frag,
        Err(Refused::TooLarge | Refused::Empty) => return Published::Never,
        Err(Refused::Full | Refused::SourceBusy | Refused::TooMany) => return Published::NotNow,
    };
    let mut front = [0; IngestHeader::LEN];
    header.write(&mut front);
    let whole = producer.write(&mut frag, &front).and_then(|()| producer.write(&mut frag, tx));
    assert!(whole.is_ok(), "a claim of the frag's own length has room for it");
    match producer.publish_large(frag, sig, born) {
        Ok(_) => Published::Yes,
        Err(_) => Published::NotNow,
    }
}
