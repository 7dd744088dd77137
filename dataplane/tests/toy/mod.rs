//! Toy tiles that ask and answer like a validator and its shards, small enough to check every count.
#![allow(dead_code)] // each test binary uses a part

use dataplane::counters;
use dataplane::metrics::CounterDef;
use dataplane::tile::{Busy, Filter, Frag, House, In, Out, Outs, Seq, Sig, Stamp, Tile};
use dataplane::topo::{Kind::*, Topology, Wiring, each, one};

counters! {
    /// What an asker counts.
    pub enum AskCount {
        /// Jobs taken from the source.
        JobsTaken = counter "jobs_taken_total",
        /// Answers received.
        AnswersReceived = counter "answers_received_total",
        /// Jobs whose answer has not come yet.
        InFlight = gauge "in_flight",
    }
}

/// Jobs an asker has in flight at one owner.
pub const WINDOW: u32 = 32;

/// Takes jobs, asks the owner each names in its `sig`, passes the answer on.
///
/// It keeps draining the answers of all owners while one of them does not take questions.
pub struct Ask {
    jobs: In,
    answers: Vec<In>,
    questions: Vec<Out>,
    done: Out,
    in_flight: Vec<u32>,
    /// Answers that were received, per owner.
    pub received: Vec<u64>,
}

impl Ask {
    pub fn new(wiring: &Wiring) -> Self {
        let questions = wiring.outputs("ask_owner");
        Self {
            jobs: wiring.input("source_ask").expect("the topology feeds askers"),
            answers: wiring.inputs("owner_ask"),
            done: wiring.output("ask_sink").expect("the topology hears askers"),
            in_flight: vec![0; questions.len()],
            received: vec![0; questions.len()],
            questions,
        }
    }
}

impl Tile for Ask {
    const NAME: &'static str = "ask";
    const BURST: u32 = 1;
    const FRAGS_PER_TURN: u32 = 16;
    const COUNTERS: &'static [CounterDef] = AskCount::DEFS;

    fn housekeeping(&mut self, house: &mut House<'_>) {
        house.set(AskCount::InFlight, self.in_flight.iter().map(|&n| u64::from(n)).sum());
    }

    fn wants(&mut self, input: In, outs: &Outs) -> u32 {
        // An answer needs room at the sink only; a job is looked at one by one, in `filter`.
        if input == self.jobs { u32::MAX } else { outs.credit(self.done) }
    }

    fn filter(&mut self, input: In, _seq: Seq, sig: Sig, outs: &Outs) -> Filter {
        let owner = sig as usize;
        let may_ask = || self.in_flight[owner] < WINDOW && outs.credit(self.questions[owner]) > 0;
        if input != self.jobs || may_ask() { Filter::Take } else { Filter::Later }
    }

    fn frag(&mut self, input: In, frag: Frag<'_>, outs: &mut Outs) {
        if input == self.jobs {
            let owner = frag.sig as usize;
            self.in_flight[owner] += 1;
            outs.publish(self.questions[owner], frag.sig, frag.bytes);
            outs.count(AskCount::JobsTaken, 1);
        } else {
            let owner = self.answers.iter().position(|&a| a == input).expect("an answer");
            self.in_flight[owner] -= 1;
            self.received[owner] += 1;
            outs.publish(self.done, frag.sig, frag.bytes);
            outs.count(AskCount::AnswersReceived, 1);
        }
    }

    fn is_drained(&self) -> bool {
        self.in_flight.iter().all(|&n| n == 0)
    }
}

/// Answers each question with its bytes reversed; can be told to stop reading.
pub struct Owner {
    answers: Vec<Out>,
    pub deaf: bool,
    pub panics_at: Option<u64>,
    answered: u64,
}

impl Owner {
    pub fn new(wiring: &Wiring) -> Self {
        Self { answers: wiring.outputs("owner_ask"), deaf: false, panics_at: None, answered: 0 }
    }
}

impl Tile for Owner {
    const NAME: &'static str = "owner";
    const BURST: u32 = 1;

    fn wants(&mut self, _input: In, outs: &Outs) -> u32 {
        if self.deaf { 0 } else { outs.least_credit() }
    }

    fn frag(&mut self, input: In, frag: Frag<'_>, outs: &mut Outs) {
        self.answered += 1;
        assert!(self.panics_at != Some(self.answered), "the toy owner was told to die");
        // Asker i's questions are the i-th in-link here, and its answers the i-th out-link.
        outs.publish_with(self.answers[input.index()], frag.sig, |slot| {
            let len = frag.bytes.len();
            slot[..len].copy_from_slice(frag.bytes);
            slot[..len].reverse();
            len
        });
    }
}

/// Counts what it is sent.
pub struct Sink {
    pub frags: u64,
    pub sum: u64,
    pub oldest_ns: u64,
}

impl Tile for Sink {
    const NAME: &'static str = "sink";
    const BURST: u32 = 0;

    fn frag(&mut self, _input: In, frag: Frag<'_>, outs: &mut Outs) {
        self.frags += 1;
        self.sum += u64::from_be_bytes(frag.bytes.try_into().expect("eight bytes"));
        self.oldest_ns = self.oldest_ns.max(frag.born.age_ns(outs.now()));
    }

    fn after(&mut self, _outs: &mut Outs) -> Busy {
        Busy::No
    }
}

/// One source, `asks` askers, `owners` owners and a sink, spread over `cores`.
pub fn topology(asks: usize, owners: usize, cores: usize) -> Topology {
    let mut t = Topology::new("toy");
    t.external("source", 1);
    t.tile::<Ask>(asks);
    t.tile::<Owner>(owners);
    t.tile::<Sink>(1);
    //      link          depth  mtu  kind      producer       consumers
    t.link("owner_ask", 32, 64, Lossless, each("owner"), each("ask")).window(WINDOW);
    t.link("source_ask", 64, 64, Lossless, one("source"), each("ask"));
    t.link("ask_owner", 16, 64, Lossless, each("ask"), each("owner"));
    t.link("ask_sink", 128, 64, Lossless, each("ask"), one("sink"));
    t.cores(cores);
    for i in 0..asks {
        t.place("ask", i, i % cores);
    }
    for i in 0..owners {
        t.place("owner", i, (i + 1) % cores);
    }
    t.place("sink", 0, cores - 1);
    t
}

/// The frag of job `n`.
pub fn job(n: u64) -> [u8; 8] {
    n.to_le_bytes()
}

/// No time of birth.
pub const UNBORN: Stamp = Stamp(0);
