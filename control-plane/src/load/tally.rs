//! The tally: what was sent, what became of it, and how long it took.
//!
//! In: counts and latencies from every connection. Out: sums at any time, a line for each second, percentiles at the end. A
//! transaction is counted as sent before its request is written, and as accepted, rejected or error when that is known; so
//! the sums agree exactly when nothing is out. Connections share histograms by their number, so that they seldom meet.

use super::target::Judgement;
use hdrhistogram::Histogram;
use load::Kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Different reasons that are kept; the rest is counted together.
const REASONS_MAX: usize = 64;
/// Histograms that connections share.
const SHARES: usize = 8;
/// The longest latency told apart, microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Names of [`Kind`]s, in the order of [`kind_index`].
pub const KINDS: [&str; 9] = [
    "honest",
    "double_spend",
    "late_parent",
    "orphan",
    "lost_parent",
    "bad_signature",
    "malformed",
    "duplicate",
    "unknown",
];

/// The place of a kind in [`KINDS`].
pub fn kind_index(kind: Kind) -> usize {
    match kind {
        Kind::Honest => 0,
        Kind::DoubleSpend { .. } => 1,
        Kind::LateParent => 2,
        Kind::Orphan => 3,
        Kind::LostParent => 4,
        Kind::BadSignature => 5,
        Kind::Malformed => 6,
        Kind::Duplicate { .. } => 7,
        Kind::Unknown => 8,
    }
}

/// Sums so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Handed to a connection.
    pub sent: u64,
    /// The node took them.
    pub accepted: u64,
    /// The node refused them.
    pub rejected: u64,
    /// The node said nothing about them.
    pub errors: u64,
}

impl Sums {
    /// Whether every transaction sent came to exactly one end.
    pub fn reconciles(&self) -> bool {
        self.sent == self.accepted + self.rejected + self.errors
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            accepted: self.accepted - before.accepted,
            rejected: self.rejected - before.rejected,
            errors: self.errors - before.errors,
        }
    }
}

/// One line of the series.
#[derive(Clone, Copy, Debug)]
pub struct Second {
    /// Seconds since the beginning, at its end.
    pub at_s: f64,
    /// What happened in it.
    pub sums: Sums,
    /// Latencies of what was decided in it.
    pub p50_us: u64,
    /// At 99 percent.
    pub p99_us: u64,
    /// The largest.
    pub max_us: u64,
}

impl Second {
    /// For the series of the report.
    pub fn json(&self) -> Value {
        json!({
            "at_s": (self.at_s * 100.0).round() / 100.0,
            "sent": self.sums.sent, "accepted": self.sums.accepted,
            "rejected": self.sums.rejected, "errors": self.sums.errors,
            "p50_us": self.p50_us, "p99_us": self.p99_us, "max_us": self.max_us,
        })
    }
}

struct Share {
    second: Histogram<u64>,
    total: Histogram<u64>,
    /// How late requests were handed over, against their intended time.
    behind: Histogram<u64>,
    reasons: BTreeMap<String, u64>,
    /// Accepted, rejected, errors of each kind.
    kinds: [[u64; 3]; KINDS.len()],
}

/// The tally of one run.
pub struct Tally {
    sent: AtomicU64,
    accepted: AtomicU64,
    rejected: AtomicU64,
    errors: AtomicU64,
    last_accepted_ns: AtomicU64,
    shares: Vec<Mutex<Share>>,
    before: Mutex<Sums>,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("sums", &self.sums()).finish_non_exhaustive()
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("three digits are a valid precision")
}

impl Default for Tally {
    fn default() -> Self {
        let share = || Share {
            second: histogram(),
            total: histogram(),
            behind: histogram(),
            reasons: BTreeMap::new(),
            kinds: [[0; 3]; KINDS.len()],
        };
        Self {
            sent: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            last_accepted_ns: AtomicU64::new(0),
            shares: (0..SHARES).map(|_| Mutex::new(share())).collect(),
            before: Mutex::new(Sums::default()),
        }
    }
}

impl Tally {
    /// `count` transactions are on their way, `behind_us` after the last of them was due.
    pub fn sent(&self, lane: usize, count: u64, behind_us: u64) {
        self.sent.fetch_add(count, Relaxed);
        self.share(lane).behind.saturating_record(behind_us.max(1));
    }

    /// What became of some of them: for each its kind, its judgement and its latency.
    pub fn judged(
        &self,
        lane: usize,
        now_ns: u64,
        items: impl Iterator<Item = (Kind, Judgement, u64)>,
    ) {
        let mut counts = [0; 3];
        let mut share = self.share(lane);
        for (kind, judgement, latency_us) in items {
            let (end, why) = match judgement {
                Judgement::Accepted => (0, None),
                Judgement::Rejected(why) => (1, Some(why)),
                Judgement::Error(why) => (2, Some(why)),
            };
            counts[end] += 1;
            share.kinds[kind_index(kind)][end] += 1;
            // An error is no answer; its time says nothing about the node's answers.
            if end != 2 {
                share.second.saturating_record(latency_us.max(1));
            }
            if let Some(why) = why {
                share.note(why);
            }
        }
        drop(share);
        if counts[0] > 0 {
            self.last_accepted_ns.fetch_max(now_ns, Relaxed);
        }
        for (sum, count) in [&self.accepted, &self.rejected, &self.errors].into_iter().zip(counts) {
            sum.fetch_add(count, Relaxed);
        }
    }

    /// Sums so far.
    pub fn sums(&self) -> Sums {
        Sums {
            accepted: self.accepted.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            errors: self.errors.load(Relaxed),
            sent: self.sent.load(Relaxed),
        }
    }

    /// When the last acceptance came, nanoseconds since the beginning.
    pub fn last_accepted_ns(&self) -> u64 {
        self.last_accepted_ns.load(Relaxed)
    }

    /// Ends a second: what happened since the last call.
    pub fn second(&self, at_s: f64) -> Second {
        let now = self.sums();
        let sums = {
            let mut before = self.before.lock().expect("no holder of this lock panics");
            let sums = now.since(&before);
            *before = now;
            sums
        };
        let mut all = histogram();
        for share in &self.shares {
            let mut share = share.lock().expect("no holder of this lock panics");
            let Share { second, total, .. } = &mut *share;
            total.add(&*second).expect("histograms of one shape");
            all.add(&*second).expect("histograms of one shape");
            second.reset();
        }
        let (p50_us, p99_us) = (all.value_at_quantile(0.5), all.value_at_quantile(0.99));
        Second { at_s, sums, p50_us, p99_us, max_us: all.max() }
    }

    /// Percentiles of all seconds that were ended.
    pub fn latency_us(&self) -> Value {
        let all = self.merged(|share| &share.total);
        json!({
            "p50": all.value_at_quantile(0.5),
            "p90": all.value_at_quantile(0.9),
            "p99": all.value_at_quantile(0.99),
            "p999": all.value_at_quantile(0.999),
            "max": all.max(),
        })
    }

    /// How late the generator itself was.
    pub fn behind_us(&self) -> Value {
        let all = self.merged(|share| &share.behind);
        json!({
            "p50": all.value_at_quantile(0.5),
            "p99": all.value_at_quantile(0.99),
            "max": all.max(),
        })
    }

    /// Why transactions were not accepted, and how often.
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        let mut reasons = BTreeMap::new();
        for share in &self.shares {
            let share = share.lock().expect("no holder of this lock panics");
            for (why, count) in &share.reasons {
                *reasons.entry(why.clone()).or_default() += count;
            }
        }
        reasons
    }

    /// Accepted, rejected and errors of each kind in [`KINDS`].
    pub fn kinds(&self) -> [[u64; 3]; KINDS.len()] {
        let mut kinds = [[0; 3]; KINDS.len()];
        for share in &self.shares {
            let share = share.lock().expect("no holder of this lock panics");
            for (sum, of) in kinds.iter_mut().flatten().zip(share.kinds.iter().flatten()) {
                *sum += of;
            }
        }
        kinds
    }

    fn merged(&self, of: impl Fn(&Share) -> &Histogram<u64>) -> Histogram<u64> {
        let mut all = histogram();
        for share in &self.shares {
            let share = share.lock().expect("no holder of this lock panics");
            all.add(of(&share)).expect("histograms of one shape");
        }
        all
    }

    fn share(&self, lane: usize) -> std::sync::MutexGuard<'_, Share> {
        self.shares[lane % SHARES].lock().expect("no holder of this lock panics")
    }
}

impl Share {
    fn note(&mut self, why: String) {
        let known = self.reasons.len() < REASONS_MAX || self.reasons.contains_key(&why);
        let why = if known { why } else { "other reasons".to_owned() };
        *self.reasons.entry(why).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_when_nothing_is_out_and_seconds_add_up_to_the_whole() {
        let tally = Tally::default();
        tally.sent(0, 3, 10);
        assert!(!tally.sums().reconciles(), "three are out");
        let judged = [
            (Kind::Honest, Judgement::Accepted, 100),
            (Kind::Malformed, Judgement::Rejected("bad".into()), 200),
            (Kind::Honest, Judgement::Error("gone".into()), 9_000_000),
        ];
        tally.judged(0, 5_000, judged.into_iter());
        assert!(tally.sums().reconciles());
        let first = tally.second(1.0);
        assert_eq!((first.sums.accepted, first.sums.rejected, first.sums.errors), (1, 1, 1));
        assert!(first.max_us < 300, "an error has no latency, got {}", first.max_us);
        tally.sent(9, 1, 10);
        tally.judged(9, 9_000, [(Kind::Honest, Judgement::Accepted, 1_000)].into_iter());
        let second = tally.second(2.0);
        assert_eq!((second.sums.sent, second.sums.accepted), (1, 1));
        let max = tally.latency_us()["max"].as_u64().unwrap();
        assert!((990..=1_010).contains(&max), "the largest is 1000 us, got {max}");
        assert_eq!(tally.kinds()[kind_index(Kind::Honest)], [2, 0, 1]);
        assert_eq!(tally.last_accepted_ns(), 9_000);
        assert_eq!(tally.reasons()["bad"], 1);
    }

    #[test]
    fn reasons_without_end_are_counted_together() {
        let tally = Tally::default();
        for i in 0..200 {
            let judged = (Kind::Unknown, Judgement::Rejected(format!("reason {i}")), 1);
            tally.judged(0, 1, std::iter::once(judged));
        }
        let reasons = tally.reasons();
        assert!(reasons.len() <= REASONS_MAX + 1, "{} reasons", reasons.len());
        assert_eq!(reasons.values().sum::<u64>(), 200);
    }
}
