//! The difference between two readings of a node's words, as rates and shares of time.

use dataplane::metrics::Cell;
use dataplane::topo::MonitorLayout;
use load::evidence::Evidence;
use serde_json::{Value, json};
use std::fmt;
use std::time::Instant;

/// Phases of a turn and regimes, in the order of the nine cells.
pub const PHASES: [&str; 3] = ["housekeeping", "prefrag", "postfrag"];
/// What a turn turned out to be.
pub const REGIMES: [&str; 3] = ["caught_up", "processing", "backpressure"];
const STATES: [&str; 5] = ["boot", "run", "drain", "halt", "fail"];

/// Words of a node at one moment.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) at: Instant,
    pub(super) words: Vec<u64>,
}

/// One tile between two readings.
#[derive(Clone, Debug, PartialEq)]
pub struct TileRate {
    /// `name:index`.
    pub name: String,
    /// Its core; none for one that floats.
    pub core: Option<usize>,
    /// What it is up to.
    pub state: &'static str,
    /// Percent of the wall time in each cell: phase by regime.
    pub percent: [[f64; 3]; 3],
    /// Percent of the wall time its core slept.
    pub parked_percent: f64,
    /// Frags taken, a second.
    pub frags_per_s: f64,
    /// Its own counters now, as they are.
    pub counters: Vec<(String, u64)>,
}

impl TileRate {
    /// Percent of the wall time in one regime.
    pub fn regime_percent(&self, regime: usize) -> f64 {
        self.percent.iter().map(|phase| phase[regime]).sum()
    }
}

/// One link between two readings.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkRate {
    /// `row:producer` or `row:producer.consumer`.
    pub name: String,
    /// Frags it holds.
    pub depth: u32,
    /// Frags in it at the second reading, as the slowest reader sees it.
    pub used: u64,
    /// Frags published, a second.
    pub frags_per_s: f64,
    /// Times the producer found no credit, a second.
    pub backpressure_per_s: f64,
    /// Frags dropped at the door since the start.
    pub shed: u64,
    /// Frags lost by taps since the start.
    pub overrun: u64,
    /// Frags through the arena since the start.
    pub large: u64,
    /// The reader that is furthest behind, where anything is in the link.
    pub slowest: Option<String>,
}

/// A node between two readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Its process.
    pub pid: u64,
    /// Seconds between them.
    pub seconds: f64,
    /// Its tiles.
    pub tiles: Vec<TileRate>,
    /// Its links.
    pub links: Vec<LinkRate>,
}

impl Reading {
    pub(super) fn between(pid: u64, layout: &MonitorLayout, before: &Raw, now: &Raw) -> Self {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-9);
        let get = |raw: &Raw, at: usize| raw.words.get(at).copied().unwrap_or_default();
        let grown = |at: usize| get(now, at).wrapping_sub(get(before, at)) as f64;
        let percent_of_time = |at: usize| grown(at) / (seconds * 1e9) * 100.0;
        let tiles = layout.metrics.tiles.iter().map(|tile| {
            let mut percent = [[0.0; 3]; 3];
            for (i, cell) in percent.iter_mut().flatten().enumerate() {
                *cell = percent_of_time(tile.first + i);
            }
            let state = get(now, tile.first + Cell::State as usize) as usize;
            let counters = tile.counters.iter().enumerate();
            TileRate {
                name: format!("{}:{}", tile.name, tile.index),
                core: tile.core,
                state: STATES.get(state).copied().unwrap_or("unknown"),
                percent,
                parked_percent: percent_of_time(tile.first + Cell::CoreParkedNs as usize),
                frags_per_s: tile.ins.iter().map(|(_, at)| grown(*at)).sum::<f64>() / seconds,
                counters: counters
                    .map(|(i, name)| (name.clone(), get(now, tile.first_counter + i)))
                    .collect(),
            }
        });
        let links = layout.links.iter().map(|link| {
            let used = get(now, link.first + 1);
            let slowest = link.consumers.get(get(now, link.first + 7) as usize);
            LinkRate {
                name: link.name.clone(),
                depth: link.depth,
                used,
                frags_per_s: grown(link.first) / seconds,
                backpressure_per_s: grown(link.first + 3) / seconds,
                shed: get(now, link.first + 2),
                overrun: get(now, link.first + 4),
                large: get(now, link.first + 5),
                slowest: slowest.filter(|_| used > 0).cloned(),
            }
        });
        Self { pid, seconds, tiles: tiles.collect(), links: links.collect() }
    }

    /// The keys of `--json`.
    pub(super) fn fill(&self, evidence: &mut Evidence) {
        let round = |x: f64| (x * 1_000.0).round() / 1_000.0;
        let tile = |t: &TileRate| {
            let mut cells = serde_json::Map::new();
            for (phase, row) in PHASES.iter().zip(&t.percent) {
                let row: Value = REGIMES
                    .iter()
                    .zip(row)
                    .map(|(regime, percent)| ((*regime).to_owned(), json!(round(*percent))))
                    .collect::<serde_json::Map<_, _>>()
                    .into();
                cells.insert((*phase).to_owned(), row);
            }
            let counters: serde_json::Map<String, Value> =
                t.counters.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({
                "name": t.name, "core": t.core, "state": t.state, "percent": cells,
                "parked_percent": round(t.parked_percent), "frags_per_s": round(t.frags_per_s),
                "counters": counters,
            })
        };
        let link = |l: &LinkRate| {
            json!({
                "name": l.name, "depth": l.depth, "used": l.used, "frags_per_s": round(l.frags_per_s),
                "backpressure_per_s": round(l.backpressure_per_s), "shed": l.shed, "overrun": l.overrun,
                "large": l.large, "slowest": l.slowest,
            })
        };
        evidence.set("pid", self.pid);
        evidence.set("seconds", round(self.seconds));
        evidence.set("tiles", self.tiles.iter().map(tile).collect::<Value>());
        evidence.set("links", self.links.iter().map(link).collect::<Value>());
    }

    /// Titles of the table of tiles.
    pub(super) const TILE_TITLES: [&'static str; 12] = [
        "tile",
        "core",
        "hk idle",
        "hk work",
        "hk bp",
        "pre idle",
        "pre work",
        "pre bp",
        "post idle",
        "post work",
        "post bp",
        "frags/s",
    ];
    /// Titles of the table of links.
    pub(super) const LINK_TITLES: [&'static str; 7] =
        ["link", "used", "depth", "frags/s", "no credit/s", "shed", "slowest"];

    /// Rows of the table of tiles.
    pub(super) fn tile_rows(&self) -> impl Iterator<Item = [String; 12]> {
        self.tiles.iter().map(|t| {
            let mut row: [String; 12] = Default::default();
            row[0].clone_from(&t.name);
            row[1] = t.core.map_or("-".to_owned(), |core| core.to_string());
            for (cell, percent) in row[2..11].iter_mut().zip(t.percent.iter().flatten()) {
                *cell = format!("{percent:.1}");
            }
            row[11] = format!("{:.0}", t.frags_per_s);
            row
        })
    }

    /// Rows of the table of links.
    pub(super) fn link_rows(&self) -> impl Iterator<Item = [String; 7]> {
        self.links.iter().map(|l| {
            [
                l.name.clone(),
                l.used.to_string(),
                l.depth.to_string(),
                format!("{:.0}", l.frags_per_s),
                format!("{:.1}", l.backpressure_per_s),
                l.shed.to_string(),
                l.slowest.clone().unwrap_or_default(),
            ]
        })
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "process {}, {:.1} s; time in percent of the wall time: housekeeping, before frags, frags; each idle, working, without credit",
            self.pid, self.seconds
        )?;
        fn line<const N: usize>(
            f: &mut fmt::Formatter<'_>,
            row: [&str; N],
            wide: usize,
        ) -> fmt::Result {
            write!(f, "{:<wide$}", row[0])?;
            row[1..].iter().try_for_each(|cell| write!(f, " {cell:>9}"))?;
            writeln!(f)
        }
        line(f, Self::TILE_TITLES, 14)?;
        for row in self.tile_rows() {
            line(f, row.each_ref().map(String::as_str), 14)?;
        }
        writeln!(f)?;
        line(f, Self::LINK_TITLES, 30)?;
        self.link_rows().try_for_each(|row| line(f, row.each_ref().map(String::as_str), 30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::metrics::{MetricsLayout, TileLayout};
    use dataplane::topo::LinkLayout;
    use std::time::Duration;

    #[test]
    fn a_reading_is_the_difference_of_two_in_percent_of_the_wall_time() {
        let tile = TileLayout {
            name: "validate".into(),
            index: 1,
            core: Some(1),
            first: 0,
            ins: vec![("a_validate".into(), 20)],
            outs: Vec::new(),
            counters: vec!["accepted_total".into()],
            first_counter: 25,
        };
        let link = LinkLayout {
            name: "a_validate:0.1".into(),
            depth: 64,
            mtu: 8,
            kind: "lossless".into(),
            producer: "a:0".into(),
            consumers: vec!["validate:0".into(), "validate:1".into()],
            first: 32,
        };
        let layout = MonitorLayout {
            metrics: MetricsLayout { words: 40, tiles: vec![tile] },
            links: vec![link],
        };
        let at = Instant::now();
        let before = Raw { at, words: vec![1_000; 40] };
        let mut now = Raw { at: at + Duration::from_secs(2), words: vec![1_000; 40] };
        now.words[7] += 500_000_000; // frags, processing
        now.words[Cell::State as usize] = 1;
        now.words[20] += 600;
        now.words[32] += 400;
        now.words[33] = 63;
        now.words[39] = 1;
        let reading = Reading::between(7, &layout, &before, &now);
        let tile = &reading.tiles[0];
        assert!((tile.percent[2][1] - 25.0).abs() < 1e-6, "{tile:?}");
        assert!((tile.regime_percent(1) - 25.0).abs() < 1e-6);
        assert_eq!((tile.state, tile.name.as_str()), ("run", "validate:1"));
        assert!((tile.frags_per_s - 300.0).abs() < 1e-6);
        let link = &reading.links[0];
        assert!((link.frags_per_s - 200.0).abs() < 1e-6);
        assert_eq!((link.used, link.slowest.as_deref()), (63, Some("validate:1")));
        let text = reading.to_string();
        assert!(text.contains("validate:1") && text.contains("25.0"), "{text}");
    }
}
