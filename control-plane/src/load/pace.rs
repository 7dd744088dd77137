//! Pace: when each request is due, and the thread that says so.
//!
//! In: the lanes of an offer, a batch size, a rate. Out: for each lane its requests with the time each is due, and a gate that
//! opens them one by one. The load is an open loop: a transaction's intended time follows from its place and the rate alone,
//! never from how the node is doing; what is sent late was still meant for then, and its latency counts from then. A request
//! of many is due with its last transaction. An operating-system thread keeps the time, because the runtime's timers
//! count whole milliseconds.

use load::{Lanes, Offer};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Transactions a request may carry. Source: Teranode, `POST /txs`.
pub const BATCH_MAX: usize = 1_024;
/// Transaction bytes a request may carry, below every node's cap on bodies when they are written as hex.
const REQUEST_BYTES_MAX: usize = 8 << 20;
/// The shortest sleep of the pacing thread: requests due within it go together.
const NAP_MIN: Duration = Duration::from_micros(50);

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as the connections take it.
    Max,
    /// So many transactions a second, whether or not the node keeps up.
    PerSecond(f64),
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Self::PerSecond(rate)),
            _ => Err(format!("{text} is neither `max` nor a number of transactions a second")),
        }
    }
}

impl Rate {
    /// When the transaction at `place` is meant to be sent, nanoseconds from the beginning.
    pub fn intended_ns(self, place: u32) -> u64 {
        match self {
            Self::Max => 0,
            Self::PerSecond(rate) => (f64::from(place) * 1e9 / rate) as u64,
        }
    }
}

/// The requests of one lane: each a range of the lane's places.
#[derive(Clone, Debug)]
pub struct LanePlan {
    /// Places in sending order.
    pub places: Vec<u32>,
    /// Ranges of `places`, one a request.
    pub requests: Vec<Range<u32>>,
}

/// All requests of a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// How fast.
    pub rate: Rate,
    /// One for each connection.
    pub lanes: Vec<LanePlan>,
}

impl Schedule {
    /// Cuts the lanes of `offer` into requests of at most `batch` transactions.
    pub fn new(offer: &Offer, lanes: &Lanes, batch: usize, rate: Rate) -> Self {
        let cut = |places: &[u32]| {
            let (mut requests, mut start, mut bytes) = (Vec::new(), 0, 0);
            for (i, place) in places.iter().enumerate() {
                let len = offer.get(*place as usize).bytes.len();
                if i > start && (i - start == batch || bytes + len > REQUEST_BYTES_MAX) {
                    requests.push(start as u32..i as u32);
                    (start, bytes) = (i, 0);
                }
                bytes += len;
            }
            if start < places.len() {
                requests.push(start as u32..places.len() as u32);
            }
            LanePlan { places: places.to_vec(), requests }
        };
        Self { rate, lanes: lanes.iter().map(cut).collect() }
    }

    /// (due, lane) of every request, in order.
    fn times(&self) -> Vec<(u64, u32)> {
        let mut times: Vec<(u64, u32)> = Vec::new();
        for (lane, plan) in self.lanes.iter().enumerate() {
            for request in &plan.requests {
                let last = plan.places[request.end as usize - 1];
                times.push((self.rate.intended_ns(last), lane as u32));
            }
        }
        times.sort_unstable();
        times
    }
}

#[derive(Debug, Default)]
struct Lane {
    due: AtomicUsize,
    wake: Notify,
}

/// Says which requests may go.
#[derive(Debug)]
pub struct Gate {
    began: Instant,
    stop: AtomicBool,
    lanes: Vec<Lane>,
}

impl Gate {
    /// For `lanes` lanes; the clock starts now.
    pub fn new(lanes: usize) -> Self {
        let lanes = (0..lanes).map(|_| Lane::default()).collect();
        Self { began: Instant::now(), stop: AtomicBool::new(false), lanes }
    }

    /// Nanoseconds since the beginning.
    pub fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Nothing more goes.
    pub fn stop(&self) {
        self.stop.store(true, Release);
        self.lanes.iter().for_each(|lane| lane.wake.notify_one());
    }

    /// Whether nothing more goes.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Acquire)
    }

    /// Waits until request `index` of `lane` is due; false when it will not go any more.
    pub async fn due(&self, lane: usize, index: usize) -> bool {
        let own = &self.lanes[lane];
        loop {
            if self.is_stopped() {
                return false;
            }
            if own.due.load(Acquire) > index {
                return true;
            }
            // A wake-up that comes before this line is kept by the `Notify`.
            own.wake.notified().await;
        }
    }

    /// Opens every request when it is due; returns after the last, or when stopped. Runs on a thread of its own.
    pub fn keep_time(&self, schedule: &Schedule) {
        if schedule.rate == Rate::Max {
            for (lane, plan) in self.lanes.iter().zip(&schedule.lanes) {
                lane.due.store(plan.requests.len(), Release);
                lane.wake.notify_one();
            }
            return;
        }
        for (due_ns, lane) in schedule.times() {
            loop {
                let now_ns = self.now_ns();
                if self.is_stopped() {
                    return;
                }
                if now_ns >= due_ns {
                    break;
                }
                // Never so long that an interrupt waits for it.
                let left = Duration::from_nanos(due_ns - now_ns);
                std::thread::sleep(left.clamp(NAP_MIN, Duration::from_millis(50)));
            }
            let lane = &self.lanes[lane as usize];
            lane.due.fetch_add(1, Release);
            lane.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(txs: usize, lanes: usize, batch: usize, rate: Rate) -> Schedule {
        let offer = Offer::presigned((0..txs).map(|i| (i as u32).to_le_bytes().to_vec()));
        let lanes = Lanes::split(&offer, lanes, batch);
        Schedule::new(&offer, &lanes, batch, rate)
    }

    #[test]
    fn every_place_is_in_one_request_and_is_due_with_the_last_of_it() {
        let schedule = schedule(1_000, 3, 16, Rate::PerSecond(1_000.0));
        let mut seen = vec![false; 1_000];
        for lane in &schedule.lanes {
            for request in &lane.requests {
                let places = &lane.places[request.start as usize..request.end as usize];
                assert!(!places.is_empty() && places.len() <= 16);
                places
                    .iter()
                    .for_each(|p| assert!(!std::mem::replace(&mut seen[*p as usize], true)));
            }
        }
        assert!(seen.iter().all(|seen| *seen));
        let times = schedule.times();
        assert!(times.is_sorted());
        assert_eq!(times[0].0, 15_000_000, "the first batch is complete with place 15");
        assert_eq!(times.last().unwrap().0, 999_000_000);
    }

    #[test]
    fn a_rate_is_a_number_or_max() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("2500.5".parse(), Ok(Rate::PerSecond(2_500.5)));
        for bad in ["0", "-1", "fast", "inf", "NaN", ""] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert_eq!(Rate::PerSecond(1e6).intended_ns(3), 3_000);
    }

    #[test]
    fn a_request_goes_when_it_is_due_and_not_before_and_never_after_a_stop() {
        let schedule = schedule(2, 1, 1, Rate::PerSecond(20.0));
        let gate = Gate::new(1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| gate.keep_time(&schedule));
            let at_ns = runtime.block_on(async {
                assert!(gate.due(0, 0).await);
                assert!(gate.due(0, 1).await);
                let at_ns = gate.now_ns();
                gate.stop();
                assert!(!gate.due(0, 2).await);
                at_ns
            });
            assert!(at_ns >= 50_000_000, "the second is due after 50 ms, went after {at_ns} ns");
        });
    }
}
