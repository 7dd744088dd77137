//! Rows: what the runs of a cell came to, for people, for programs and for the aims.
//!
//! In: outcomes. Out: percentiles of those that arrived, counts of those that did not, means of what was spent.

use super::cell::{Cell, LOSSES, System};
use super::crew::Outcome;
use super::object::{Kind, Object};
use load::evidence::Evidence;
use serde_json::{Value, json};
use std::fmt;

/// Runs that failed and are told about, a row.
const FAILURES_SHOWN: usize = 3;

/// One row of the race.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its conditions.
    pub cell: Cell,
    /// Sorted, of the runs that arrived.
    pub ms: Vec<f64>,
    /// Runs that did not.
    pub timeouts: u32,
    /// Runs in which something else arrived.
    pub corrupt: u32,
    /// What went wrong with nodes.
    pub failures: Vec<String>,
    bytes_sent: u64,
    cpu_us: u64,
}

impl Row {
    /// A row without runs.
    pub fn new(cell: Cell) -> Self {
        Self {
            cell,
            ms: Vec::new(),
            timeouts: 0,
            corrupt: 0,
            failures: Vec::new(),
            bytes_sent: 0,
            cpu_us: 0,
        }
    }

    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome.ms {
            Some(ms) => self.ms.push(ms),
            None if outcome.corrupt => self.corrupt += 1,
            None => self.timeouts += 1,
        }
        if let Some(why) = outcome.failure.as_ref().filter(|_| self.failures.len() < FAILURES_SHOWN)
        {
            self.failures.push(format!("{}: {why}", name(&self.cell)));
        }
        self.bytes_sent += outcome.bytes_sent;
        self.cpu_us += outcome.cpu_us;
    }

    /// Runs so far, whatever became of them.
    pub fn runs(&self) -> u32 {
        self.ms.len() as u32 + self.timeouts + self.corrupt
    }

    /// After the last run; if the race was stopped there are fewer than were planned.
    pub fn finish(&mut self) {
        self.cell.runs = self.runs();
        self.ms.sort_by(f64::total_cmp);
    }

    /// The value that `percent` of the runs that arrived are not above.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let at = (self.ms.len() * percent).div_ceil(100).max(1) - 1;
        self.ms.get(at).copied()
    }

    /// Means are over runs that arrived.
    fn mean(&self, sum: u64) -> f64 {
        sum as f64 / self.ms.len().max(1) as f64
    }

    /// As the evidence holds it.
    pub fn json(&self) -> Value {
        let ms = |percent: usize| self.percentile(percent).map(round2);
        let useful = Object::len_of(self.cell.kind) * self.cell.hops;
        json!({
            "system": self.cell.system.name(),
            "object": self.cell.kind.name(),
            "object_bytes": Object::len_of(self.cell.kind),
            "hops": self.cell.hops,
            "loss_pct": self.cell.loss.pct,
            "burst": self.cell.loss.burst,
            "overlap_pct": self.cell.overlap_pct,
            "runs": self.cell.runs,
            "bound_ms": round2(self.cell.bound_ms()),
            "ms": { "p50": ms(50), "p90": ms(90), "max": ms(100) },
            "timeouts": self.timeouts,
            "corrupt": self.corrupt,
            "bytes_sent": self.mean(self.bytes_sent).round(),
            "bytes_useful": useful,
            "cpu_s": (self.mean(self.cpu_us) / 1e2).round() / 1e4,
        })
    }
}

fn round2(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

/// The table's first line.
pub const HEAD: &str = "system       object  known  hops  loss        runs    bound      p50      p90      max  lost  sent/useful   cpu";

/// How a row is called: its conditions in words.
pub fn name(cell: &Cell) -> String {
    let known = cell.overlap_pct.map_or(String::new(), |known| format!(" {known}% known"));
    let hops = if cell.hops == 1 { "hop" } else { "hops" };
    let (system, kind) = (cell.system.name(), cell.kind.name());
    format!("{system} {kind}{known} {} {hops} {}", cell.hops, loss(cell))
}

fn loss(cell: &Cell) -> String {
    if cell.loss.burst > 1.0 {
        format!("{}% x{}", cell.loss.pct, cell.loss.burst)
    } else {
        format!("{}%", cell.loss.pct)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = &self.cell;
        let ms =
            |percent: usize| self.percentile(percent).map_or("-".into(), |ms| format!("{ms:.1}"));
        let known = cell.overlap_pct.map_or(String::new(), |known| format!("{known}%"));
        let useful = (Object::len_of(cell.kind) * cell.hops) as f64;
        write!(
            f,
            "{:<12} {:<7} {known:>5} {:>5}  {:<9} {:>6} {:>8.1} {:>8} {:>8} {:>8} {:>5} {:>12.3} {:>5.3}",
            cell.system.name(),
            cell.kind.name(),
            cell.hops,
            loss(cell),
            cell.runs,
            cell.bound_ms(),
            ms(50),
            ms(90),
            ms(100),
            self.timeouts + self.corrupt,
            self.mean(self.bytes_sent) / useful,
            self.mean(self.cpu_us) / 1e6,
        )
    }
}

/// The rows as a terminal shows them.
pub fn table(rows: &[Row]) -> String {
    rows.iter().fold(HEAD.to_owned(), |table, row| format!("{table}\n{row}"))
}

/// The table as documentation holds it: medians and worst runs, a column a loss, a line a system and object.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from("| system, object | bound ms |");
    for loss in LOSSES {
        let burst =
            if loss.burst > 1.0 { format!(", runs of {}", loss.burst) } else { String::new() };
        text += &format!(" {} %{burst} |", loss.pct);
    }
    text += &format!("\n| --- | ---: |{}\n", " ---: |".repeat(LOSSES.len()));
    let mut done: Vec<Cell> = Vec::new();
    for row in rows {
        let like = Cell { loss: LOSSES[0], ..row.cell };
        if done.iter().any(|cell| same(cell, &like)) {
            continue;
        }
        done.push(like);
        let whole = name(&like);
        let title = whole.rsplit_once(' ').map_or(whole.as_str(), |(title, _)| title);
        text += &format!("| {title} | {:.1} |", like.bound_ms());
        for loss in LOSSES {
            let wanted = Cell { loss, ..like };
            let cell =
                rows.iter().find(|row| same(&row.cell, &wanted)).map_or(String::new(), |row| {
                    let ms = |percent: usize| row.percentile(percent);
                    let late = if row.timeouts > 0 {
                        format!(", {} late", row.timeouts)
                    } else {
                        String::new()
                    };
                    match (ms(50), ms(100)) {
                        (Some(median), Some(worst)) => format!("{median:.1} ({worst:.0}{late})"),
                        _ => format!("none of {}", row.cell.runs),
                    }
                });
            text += &format!(" {cell} |");
        }
        text += "\n";
    }
    text
}

/// Whether two cells differ in nothing but how often they are run.
fn same(a: &Cell, b: &Cell) -> bool {
    Cell { runs: 0, ..*a } == Cell { runs: 0, ..*b }
}

/// Settings of the nodes' kernels: buffers for a whole object in flight, no memory of earlier connections.
pub fn sysctls() -> Vec<(String, String)> {
    let pairs = [
        ("ipv4/tcp_wmem", "4096 65536 67108864"),
        ("ipv4/tcp_rmem", "4096 131072 67108864"),
        ("ipv4/tcp_no_metrics_save", "1"),
    ];
    pairs.map(|(path, value)| (path.to_owned(), value.to_owned())).to_vec()
}

/// Holds the rows against what was hoped for (issue 7), with authentication on, by medians.
pub fn aims(rows: &[Row], evidence: &mut Evidence) {
    let ours: Vec<&Row> = rows.iter().filter(|row| row.cell.system == System::Bfr).collect();
    if ours.is_empty() {
        return;
    }
    let find = |hops: usize, loss: usize, overlap: Option<u32>| {
        let is = |row: &&&Row| {
            row.cell.kind == Kind::Block
                && row.cell.hops == hops
                && row.cell.loss == LOSSES[loss]
                && row.cell.overlap_pct == overlap
        };
        ours.iter().find(is).copied()
    };
    let mut aim = |name: &str, want: f64, row: Option<&Row>| {
        if let Some(got) = row.and_then(|row| row.percentile(50)) {
            evidence.aim(name, round2(want), round2(got), got <= want);
        }
    };
    for (loss, more_ms) in [(0, 1.0), (2, 3.0)] {
        let row = find(1, loss, None);
        let want = row.map_or(0.0, |row| row.cell.bound_ms() + more_ms);
        aim(&format!("ms of 1 MB, 1 hop, {}% lost", LOSSES[loss].pct), want, row);
        let row = find(3, loss, None);
        aim(&format!("ms of 1 MB, 3 hops, {}% lost", LOSSES[loss].pct), 100.0, row);
        let row = find(1, loss, Some(98));
        aim(&format!("ms of 1 MB, 98% known, 1 hop, {}% lost", LOSSES[loss].pct), 32.0, row);
    }
    let bad = |count: fn(&Row) -> u32| ours.iter().map(|row| count(row)).sum::<u32>();
    let (corrupt, stalled) = (bad(|row| row.corrupt), bad(|row| row.timeouts));
    evidence.aim("corrupt", 0.0, f64::from(corrupt), corrupt == 0);
    evidence.aim("stalled", 0.0, f64::from(stalled), stalled == 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ms: &[f64]) -> Row {
        let cell = Cell {
            system: System::Bfr,
            kind: Kind::Block,
            hops: 1,
            loss: LOSSES[0],
            overlap_pct: None,
            runs: ms.len() as u32,
        };
        let mut row = Row::new(cell);
        for ms in ms {
            row.add(&Outcome { ms: Some(*ms), bytes_sent: 2_000, ..Outcome::default() });
        }
        row.finish();
        row
    }

    #[test]
    fn percentiles_are_of_the_runs_that_arrived() {
        let mut row = row(&[5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!(row.percentile(50), Some(3.0));
        assert_eq!((row.percentile(90), row.percentile(100)), (Some(5.0), Some(5.0)));
        row.add(&Outcome::default());
        row.add(&Outcome { corrupt: true, ..Outcome::default() });
        assert_eq!((row.timeouts, row.corrupt), (1, 1));
        assert_eq!(row.json()["ms"]["p50"], 3.0);
        assert_eq!(row.json()["bytes_sent"], 2_000.0);
        assert_eq!(Row::new(row.cell).percentile(50), None);
    }

    #[test]
    fn the_table_has_a_line_a_system_and_a_column_a_loss() {
        let clean = row(&[34.0, 35.0, 90.0]);
        let mut lossy = row(&[40.0]);
        lossy.cell.loss = LOSSES[2];
        lossy.add(&Outcome::default());
        let text = markdown(&[clean, lossy]);
        assert_eq!(text.lines().count(), 3, "{text}");
        let line = text.lines().last().unwrap_or_default();
        assert!(line.starts_with("| bfr block 1 hop | 33.8 | 35.0 (90) |"), "{text}");
        assert!(text.contains("40.0 (40, 1 late)"), "{text}");
    }

    #[test]
    fn aims_compare_medians_with_the_bound() {
        let mut evidence = Evidence::new("test/1", 0);
        aims(&[row(&[34.0, 34.5, 90.0])], &mut evidence);
        let object = evidence.object(true);
        assert_eq!(object["aims"][0]["met"], true, "{object}");
        let mut evidence = Evidence::new("test/1", 0);
        aims(&[row(&[35.0])], &mut evidence);
        assert_eq!(evidence.object(true)["aims"][0]["met"], false);
    }
}
