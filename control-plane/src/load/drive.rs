//! Drive: connections that send what is due and note what comes back.
//!
//! In: an offer, its schedule, a target. Out: a [`Tally`]. One task a connection; a lane's requests go one after the other, so
//! that a child never overtakes its parent. Whoever waits for an answer does not hold back the clock: the next request of
//! the lane is then sent late, and its latency says by how much.

use super::connection::Connection;
use super::pace::{Gate, Schedule};
use super::tally::{Second, Tally};
use super::target::{Answer, Judgement, Speech};
use hyper::header::HeaderValue;
use load::Offer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often an interrupt and the end are looked for.
const WATCH: Duration = Duration::from_millis(20);
/// A connection that could not be opened is tried again after this.
const REOPEN: Duration = Duration::from_millis(100);

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Job {
    /// The transactions.
    pub offer: Arc<Offer>,
    /// In which words.
    pub speech: Speech,
    /// `HOST:PORT`.
    pub authority: String,
    /// Credentials, if the target wants any.
    pub authorization: Option<HeaderValue>,
    /// Sending ends then.
    pub duration: Option<Duration>,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Driven {
    /// The counts.
    pub tally: Arc<Tally>,
    /// One a second.
    pub series: Vec<Second>,
    /// From the beginning to the last answer.
    pub elapsed_s: f64,
    /// Whether it was ended by a signal.
    pub interrupted: bool,
    /// Connections opened; more than there are lanes when some broke.
    pub opened: u64,
}

impl Driven {
    /// Accepted transactions a second, from the beginning to the last acceptance.
    pub fn tx_per_s(&self) -> f64 {
        let ns = self.tally.last_accepted_ns();
        self.tally.sums().accepted as f64 * 1e9 / ns.max(1) as f64
    }
}

/// Runs `schedule` to its end; `tell` is called once a second.
pub async fn drive(
    job: &Job,
    schedule: Schedule,
    interrupted: &AtomicBool,
    mut tell: impl FnMut(&Second, &Tally),
) -> Driven {
    let schedule = Arc::new(schedule);
    let tally = Arc::new(Tally::default());
    let mut connections = Vec::new();
    for _ in 0..schedule.lanes.len() {
        // A host name that cannot be a header was refused when the target was read.
        let Ok(mut connection) =
            Connection::new(&job.authority, job.authorization.clone(), DEADLINE)
        else {
            continue;
        };
        // Opening is not part of what is measured; a failure shows at the first request.
        let _ = connection.open().await;
        connections.push(connection);
    }
    let gate = Arc::new(Gate::new(schedule.lanes.len()));
    let mut tasks = tokio::task::JoinSet::new();
    for (lane, connection) in connections.into_iter().enumerate() {
        let run = Lane {
            lane,
            job: job.clone(),
            schedule: schedule.clone(),
            gate: gate.clone(),
            tally: tally.clone(),
            connection,
        };
        tasks.spawn(run.run());
    }
    let pacer = {
        let (gate, schedule) = (gate.clone(), schedule.clone());
        std::thread::spawn(move || gate.keep_time(&schedule))
    };
    let mut series = Vec::new();
    let mut was_interrupted = false;
    let mut told_s = 0.0;
    let mut opened = 0;
    let mut watch = tokio::time::interval(WATCH);
    loop {
        tokio::select! {
            _ = watch.tick() => {}
            ended = tasks.join_next() => {
                match ended {
                    Some(Ok(times)) => opened += times,
                    // A lane that panicked has lost what it had out; the sums will not agree, and that is the truth.
                    Some(Err(error)) => eprintln!("load: a connection's task failed: {error}"),
                    None => break,
                }
            }
        }
        let now_s = gate.now_ns() as f64 / 1e9;
        if interrupted.load(Ordering::Relaxed) && !was_interrupted {
            was_interrupted = true;
            gate.stop();
        }
        if job.duration.is_some_and(|duration| now_s >= duration.as_secs_f64()) {
            gate.stop();
        }
        if now_s - told_s >= 1.0 {
            told_s = now_s;
            let second = tally.second(now_s);
            tell(&second, &tally);
            series.push(second);
        }
    }
    gate.stop();
    if pacer.join().is_err() {
        eprintln!("load: the pacing thread failed");
    }
    let elapsed_s = gate.now_ns() as f64 / 1e9;
    // The rest of the last second, so that the series adds up to the whole.
    series.push(tally.second(elapsed_s));
    Driven { tally, series, elapsed_s, interrupted: was_interrupted, opened }
}

struct Lane {
    lane: usize,
    job: Job,
    schedule: Arc<Schedule>,
    gate: Arc<Gate>,
    tally: Arc<Tally>,
    connection: Connection,
}

impl Lane {
    /// Sends all the lane's requests; gives back how often its connection was opened.
    async fn run(mut self) -> u64 {
        let schedule = self.schedule.clone();
        let plan = &schedule.lanes[self.lane];
        for (index, request) in plan.requests.iter().enumerate() {
            if !self.gate.due(self.lane, index).await {
                break;
            }
            let places = &plan.places[request.start as usize..request.end as usize];
            let started_ns = self.gate.now_ns();
            let intended = |place: u32| match schedule.rate {
                super::pace::Rate::Max => started_ns,
                rate @ super::pace::Rate::PerSecond(_) => rate.intended_ns(place),
            };
            let due_ns = intended(places[places.len() - 1]);
            let behind_us = started_ns.saturating_sub(due_ns) / 1_000;
            self.tally.sent(self.lane, places.len() as u64, behind_us);
            let speech = self.job.speech;
            match self.exchange(speech, places).await {
                Answer::Each(judged) => {
                    let now_ns = self.gate.now_ns();
                    let offer = &self.job.offer;
                    let items = places.iter().zip(judged).map(|(place, judgement)| {
                        let latency_us = now_ns.saturating_sub(intended(*place)) / 1_000;
                        (offer.get(*place as usize).kind, judgement, latency_us)
                    });
                    self.tally.judged(self.lane, now_ns, items);
                }
                Answer::OneByOne => {
                    for place in places {
                        let one = self.exchange(Speech::RpcOne, std::slice::from_ref(place)).await;
                        let judgement = match one {
                            Answer::Each(mut judged) => judged.remove(0),
                            Answer::OneByOne => Judgement::Error("no verdict on one".to_owned()),
                        };
                        let now_ns = self.gate.now_ns();
                        let latency_us = now_ns.saturating_sub(intended(*place)) / 1_000;
                        let kind = self.job.offer.get(*place as usize).kind;
                        let item = (kind, judgement, latency_us);
                        self.tally.judged(self.lane, now_ns, std::iter::once(item));
                    }
                }
            }
        }
        self.connection.opened()
    }

    async fn exchange(&mut self, speech: Speech, places: &[u32]) -> Answer {
        let body = speech.body(&self.job.offer, places);
        // Teranode answers text; ours answers a row for each when asked.
        let is_http = matches!(speech, Speech::HttpOne | Speech::HttpMany);
        let accept = is_http.then_some("application/json");
        let called = self.connection.call(speech.path(), speech.content_type(), accept, body).await;
        match called {
            Ok((status, body)) => speech.read(&self.job.offer, places, status, &body),
            Err(error) => {
                if matches!(error, super::connection::CallError::Connect { .. }) {
                    // Else a dead node would be "sent" the whole workload in a second.
                    tokio::time::sleep(REOPEN).await;
                }
                Answer::Each(vec![Judgement::Error(error.kind()); places.len()])
            }
        }
    }
}
