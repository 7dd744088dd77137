//! What a run says about itself: for machines in one object, for people on one screen.

use super::Run;
use super::check::Findings;
use super::dump::file_name;
use hdrhistogram::Histogram;
use load::evidence::Evidence;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

fn latencies_us(run: &Run) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("three digits are a valid precision");
    for place in 0..run.offer.len() {
        if let Some(outcome) = run.log.outcome(place)
            && outcome.verdict == dataplane::msg::TxVerdict::Accepted
        {
            let recorded = histogram.record(outcome.latency_ns / 1_000);
            recorded.expect("the histogram grows with what it is given");
        }
    }
    histogram
}

/// Median and best of the samples; the whole run's rate where it was too short to sample.
fn rates(run: &Run) -> (f64, f64) {
    let mut rates = run.watched.rates.clone();
    let whole = run.log.accepted() as f64 * 1e9 / run.log.busy_ns().max(1) as f64;
    if rates.len() < 3 {
        return (whole, whole);
    }
    rates.sort_by(f64::total_cmp);
    (rates[rates.len() / 2], rates[rates.len() - 1])
}

fn candidate_ms(run: &Run) -> f64 {
    run.blocks.iter().max_by_key(|b| b.applied.txids.len()).map_or(0.0, |b| b.candidate_ms)
}

pub(crate) fn fill(
    evidence: &mut Evidence,
    run: &Run,
    f: &Findings,
    dump: Option<&Path>,
    kernel: &str,
) {
    let latency = latencies_us(run);
    let (median, best) = rates(run);
    evidence.set("workload", run.plan.options().workload.name());
    evidence.set("offered", f.offered);
    evidence.set("accepted", f.accepted);
    evidence.set("rejected", json!(f.rejected));
    evidence.set("shed", f.shed);
    evidence.set("duplicates", f.duplicates);
    evidence.set("orphans_expired", f.orphans_expired);
    evidence.set("in_flight_end", f.in_flight_end);
    evidence.set("reconciled", f.is_ok());
    evidence.set("wrong", json!(f.wrong));
    evidence.set("interrupted", run.interrupted);
    let injected = f
        .injected
        .iter()
        .map(|(kind, (sent, found))| ((*kind).to_owned(), json!({ "sent": sent, "found": found })));
    evidence.set("injected", Value::Object(injected.collect()));
    evidence.set("fan_out_txs", run.fan_out_txs);
    evidence.set("tx_per_s", json!({ "median": median.round(), "best": best.round() }));
    evidence.set(
        "latency_us",
        json!({
            "p50": latency.value_at_quantile(0.5),
            "p99": latency.value_at_quantile(0.99),
            "p100": latency.max(),
        }),
    );
    evidence.set("candidate_ms", candidate_ms(run));
    evidence.set("kernel", kernel);
    evidence.set("keys_distinct", run.plan.keys().len());
    let tiles: Vec<Value> = run
        .watched
        .after
        .tiles_since(&run.watched.before)
        .map(|t| {
            json!({
                "name": t.name, "core": t.core, "busy": round3(t.busy), "wait": round3(t.wait),
                "backpressure": round3(t.backpressure),
            })
        })
        .collect();
    evidence.set("tiles", tiles);
    let blocks: Vec<Value> = run
        .blocks
        .iter()
        .map(|b| {
            json!({
                "height": b.height,
                "hash": b.applied.hash.to_string(),
                "txs": b.applied.txids.len(),
                "merkle_root": b.applied.merkle_root.to_string(),
                "file": dump.map(|_| file_name(b.height)),
            })
        })
        .collect();
    evidence.set("blocks", blocks);
}

fn round3(x: f64) -> f64 {
    (x * 1_000.0).round() / 1_000.0
}

/// The same on one screen.
pub(crate) fn text(run: &Run, f: &Findings, kernel: &str) -> String {
    let mut t = String::new();
    // Writing to a string cannot fail.
    let _ = write_text(&mut t, run, f, kernel);
    t
}

fn write_text(t: &mut String, run: &Run, f: &Findings, kernel: &str) -> std::fmt::Result {
    let latency = latencies_us(run);
    let (median, best) = rates(run);
    let share = |n: u64| n as f64 * 100.0 / f.offered.max(1) as f64;
    writeln!(t)?;
    writeln!(
        t,
        "  workload     {} x {}",
        run.plan.options().txs,
        run.plan.options().workload.name()
    )?;
    writeln!(t, "  signatures   {kernel}")?;
    writeln!(
        t,
        "  accepted     {:>9}  ({:.2} % of {} offered)",
        f.accepted,
        share(f.accepted),
        f.offered
    )?;
    for (verdict, n) in &f.rejected {
        writeln!(t, "  {verdict:<12} {n:>9}")?;
    }
    writeln!(t, "  duplicates   {:>9}", f.duplicates)?;
    writeln!(t, "  orphans left {:>9}  (their parents were never sent)", f.orphans_expired)?;
    writeln!(t, "  rate         {median:>9.0}  accepted/s (median of samples; best {best:.0})")?;
    writeln!(
        t,
        "  latency      {:>9}  us at the median, {} at 99 %, {} at most",
        latency.value_at_quantile(0.5),
        latency.value_at_quantile(0.99),
        latency.max()
    )?;
    let biggest = run.blocks.iter().map(|b| b.applied.txids.len()).max().unwrap_or(0);
    writeln!(
        t,
        "  blocks       {:>9}  (largest {biggest} transactions, its candidate took {:.1} ms)",
        run.blocks.len(),
        candidate_ms(run)
    )?;
    writeln!(t, "  core tile            busy  wait  backpressure")?;
    for tile in run.watched.after.tiles_since(&run.watched.before) {
        let core = tile.core.map_or_else(|| "-".to_owned(), |c| c.to_string());
        let bar = "#".repeat((tile.busy * 20.0).round() as usize);
        writeln!(
            t,
            "  {core:>4} {:<12} {:>8.1}% {:>4.0}% {:>12.1}%  {bar}",
            tile.name,
            tile.busy * 100.0,
            tile.wait * 100.0,
            tile.backpressure * 100.0
        )?;
    }
    for (kind, (sent, found)) in &f.injected {
        writeln!(t, "  injected     {kind:<14} {sent:>6} sent, {found:>6} found")?;
    }
    if f.is_ok() {
        writeln!(t, "  every count reconciles and every merkle root is right")?;
    }
    for wrong in &f.wrong {
        writeln!(t, "  WRONG        {wrong}")?;
    }
    writeln!(t)?;
    Ok(())
}
