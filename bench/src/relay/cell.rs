//! Cells: the conditions of one row of the race, and which of them are run.
//!
//! In: how thorough the race is. Out: a list of cells. A cell is a system, an object and a path; everything else follows, also the
//! bound that no system can beat.

use super::object::{Kind, Object};
use emulator::Impairment;
use emulator::line::WIRE_OVERHEAD_BYTES;
use std::time::Duration;

/// One-way delay of a hop; twice this is its round trip.
pub const DELAY_US: u32 = 25_000;
/// What a link carries.
pub const RATE_MBIT: u32 = 1_000;
/// Longest wait in front of a link.
const QUEUE_MS: u32 = 200;
/// Bytes of an object in one packet (`docs/bfr.md`, the symbol).
const SYMBOL_BYTES: usize = 1_152;
/// What is around it: 32 and 16 of the protocol, 8 of UDP, 20 of IPv4, 14 of Ethernet.
const AROUND_BYTES: usize = 32 + 16 + 8 + 20 + 14;

/// Who runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum System {
    /// Our relay
    Bfr,
    /// The whole object over TCP, cubic
    TcpCubic,
    /// The whole object over TCP, BBR
    TcpBbr,
    /// Compact blocks, high-bandwidth mode, over TCP cubic
    Bip152Cubic,
    /// Compact blocks, high-bandwidth mode, over TCP BBR
    Bip152Bbr,
    /// A notice, then HTTP requests for ids and missing transactions
    HttpPull,
    /// Datagrams; losses are asked for by a sweep every 100 ms
    NackOnly,
}

impl System {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bfr => "bfr",
            Self::TcpCubic => "tcp-cubic",
            Self::TcpBbr => "tcp-bbr",
            Self::Bip152Cubic => "bip152-cubic",
            Self::Bip152Bbr => "bip152-bbr",
            Self::HttpPull => "http-pull",
            Self::NackOnly => "nack-only",
        }
    }

    /// Whether a receiver's own transactions save it anything.
    pub fn uses_overlap(self) -> bool {
        matches!(self, Self::Bfr | Self::Bip152Cubic | Self::Bip152Bbr | Self::HttpPull)
    }
}

/// Losses of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Share of frames lost, both ways.
    pub pct: f64,
    /// Mean length of a run of lost frames.
    pub burst: f64,
}

/// The losses of the race: none, 1, 5 and 20 % independent, 5 % in runs of eight.
pub const LOSSES: [Loss; 5] = [
    Loss { pct: 0.0, burst: 1.0 },
    Loss { pct: 1.0, burst: 1.0 },
    Loss { pct: 5.0, burst: 1.0 },
    Loss { pct: 20.0, burst: 1.0 },
    Loss { pct: 5.0, burst: 8.0 },
];

/// The conditions of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Who.
    pub system: System,
    /// What.
    pub kind: Kind,
    /// Over how many links.
    pub hops: usize,
    /// Which lose frames.
    pub loss: Loss,
    /// How much of it receivers know; `None`: nothing, and nobody asks.
    pub overlap_pct: Option<u32>,
    /// How often.
    pub runs: u32,
}

impl Cell {
    /// What its links do, either way.
    pub fn rules(&self) -> Impairment {
        Impairment {
            delay_us: DELAY_US,
            loss_pct: self.loss.pct,
            burst_frames: self.loss.burst,
            rate_mbit: RATE_MBIT,
            queue_ms: QUEUE_MS,
            ..Impairment::default()
        }
    }

    /// No system can deliver the whole object sooner: the delay of each hop, and its packets once through a link.
    pub fn bound_ms(&self) -> f64 {
        let packets = Object::len_of(self.kind).div_ceil(SYMBOL_BYTES);
        let bytes = match self.overlap_pct.filter(|_| self.system.uses_overlap()) {
            // With transactions known in advance nothing but a header must travel.
            Some(_) => 80 + AROUND_BYTES + WIRE_OVERHEAD_BYTES,
            None => Object::len_of(self.kind) + packets * (AROUND_BYTES + WIRE_OVERHEAD_BYTES),
        };
        let wire_ms = bytes as f64 * 8.0 / (f64::from(RATE_MBIT) * 1e3);
        self.hops as f64 * f64::from(DELAY_US) / 1e3 + wire_ms
    }
}

/// A rival's run that is expected to take longer than this shares the machine with others of its kind: it carries little.
const LONG_RUN_S: f64 = 3.0;
/// Chains for such runs. Even so their links together carry less than one run of a fast system.
const LANES: usize = 5;

impl Cell {
    /// Seconds that one run takes, with what is around it, on two cores. Only for telling how long a race takes, and for which
    /// cells several chains pay: the race corrects it as it goes.
    fn run_s(&self) -> f64 {
        use System::{Bfr, Bip152Bbr, Bip152Cubic, HttpPull, NackOnly, TcpBbr, TcpCubic};
        let bursts = self.loss.burst > 1.0;
        let cubic = matches!(self.system, TcpCubic | Bip152Cubic | HttpPull);
        let hops = self.hops as f64;
        match (self.system, self.kind) {
            (Bfr, Kind::Bulk) => 2.0,
            (Bfr, _) => 0.15 + 0.1 * hops,
            (_, Kind::Bulk) if cubic => 30.0,
            (_, Kind::Bulk) => 2.9,
            (TcpCubic | HttpPull, Kind::Block) if !bursts && self.loss.pct >= 20.0 => 30.0,
            (TcpCubic, Kind::Block) if !bursts && self.loss.pct >= 5.0 => 8.0,
            (HttpPull, Kind::Block) if !bursts && self.loss.pct >= 5.0 => 4.0,
            (TcpCubic, Kind::Block) => 1.5 * hops,
            (Bip152Cubic | Bip152Bbr | TcpBbr, _) if self.loss.pct >= 20.0 => 2.0,
            (HttpPull | Bip152Cubic | Bip152Bbr | TcpBbr, _) => 0.6 * hops,
            (TcpCubic | NackOnly, _) => 0.4 * hops,
        }
    }

    /// Chains that its runs are spread over.
    pub fn lanes(&self) -> usize {
        if self.run_s() > LONG_RUN_S { LANES.min(self.runs as usize) } else { 1 }
    }

    /// Seconds that all its runs take.
    pub fn expected_s(&self) -> f64 {
        f64::from(self.runs) * self.run_s() / self.lanes() as f64 + 0.5
    }

    /// Over all hops.
    pub fn round_trip(&self) -> Duration {
        Duration::from_micros(2 * u64::from(DELAY_US) * self.hops as u64)
    }
}

/// How thorough a race is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// A few runs of a few cells: does everything arrive intact? Under two minutes.
    Check,
    /// A few runs of all that aims name, and of every rival. Under five minutes.
    Quick,
    /// Everything. Under an hour.
    Full,
}

/// All cells of a race. Cells on the same path stand together, so that a chain of namespaces serves many.
pub fn plan(depth: Depth) -> Vec<Cell> {
    let mut cells = Vec::new();
    for hops in [1, 3] {
        bfr(depth, hops, &mut cells);
        rivals(depth, hops, &mut cells);
    }
    cells
}

fn bfr(depth: Depth, hops: usize, cells: &mut Vec<Cell>) {
    let runs = |full: u32, quick: u32| match depth {
        Depth::Check => 2,
        Depth::Quick => quick,
        Depth::Full => full,
    };
    let losses: Vec<Loss> = match depth {
        Depth::Check => vec![LOSSES[0], LOSSES[2]],
        _ => LOSSES.to_vec(),
    };
    for loss in losses {
        let base =
            Cell { system: System::Bfr, kind: Kind::Block, hops, loss, overlap_pct: None, runs: 0 };
        cells.push(Cell { runs: runs(30, 6), ..base });
        cells.push(Cell { kind: Kind::Roots, runs: runs(30, 6), ..base });
        let overlaps: &[u32] = if depth == Depth::Full { &[98, 100, 60] } else { &[98] };
        for overlap in overlaps {
            cells.push(Cell { overlap_pct: Some(*overlap), runs: runs(30, 6), ..base });
        }
        if hops == 1 && depth != Depth::Check {
            cells.push(Cell { kind: Kind::Bulk, runs: runs(10, 2), ..base });
        }
    }
}

/// One factor at a time around 1 MB, one hop, 1 % loss, 98 % known.
fn rivals(depth: Depth, hops: usize, cells: &mut Vec<Cell>) {
    let systems = [
        System::TcpCubic,
        System::TcpBbr,
        System::Bip152Cubic,
        System::Bip152Bbr,
        System::HttpPull,
        System::NackOnly,
    ];
    for system in systems {
        let runs = match depth {
            Depth::Check => 1,
            Depth::Quick => 2,
            Depth::Full => 10,
        };
        let overlap_pct = system.uses_overlap().then_some(98);
        let base = Cell { system, kind: Kind::Block, hops, loss: LOSSES[1], overlap_pct, runs };
        cells.push(base);
        if hops > 1 || depth == Depth::Check {
            continue;
        }
        for loss in LOSSES.iter().filter(|loss| **loss != LOSSES[1]) {
            // A rival at 20 % takes most of its 30 seconds; one look is enough for a quick race.
            if depth == Depth::Full || loss.pct < 20.0 {
                cells.push(Cell { loss: *loss, ..base });
            }
        }
        if system.uses_overlap() && depth == Depth::Full {
            for overlap in [100, 60] {
                cells.push(Cell { overlap_pct: Some(overlap), ..base });
            }
        }
        cells.push(Cell { kind: Kind::Roots, overlap_pct: None, ..base });
        if depth == Depth::Full {
            cells.push(Cell { kind: Kind::Bulk, overlap_pct: None, ..base });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_light_and_wire() {
        let cell = Cell {
            system: System::Bfr,
            kind: Kind::Block,
            hops: 1,
            loss: LOSSES[0],
            overlap_pct: None,
            runs: 1,
        };
        // 25 ms, and 1,000,083 bytes in 869 packets with 114 bytes around each at 1 Gbit/s.
        assert!((cell.bound_ms() - 33.793).abs() < 0.001, "{}", cell.bound_ms());
        assert!((Cell { hops: 3, ..cell }.bound_ms() - 83.793).abs() < 0.001);
        let compact = Cell { overlap_pct: Some(98), ..cell };
        assert!((25.0..25.01).contains(&compact.bound_ms()));
    }

    #[test]
    fn the_full_race_has_every_row_the_issue_names() {
        let cells = plan(Depth::Full);
        let of = |kind, hops, overlap| {
            cells
                .iter()
                .filter(|cell| cell.system == System::Bfr && cell.kind == kind)
                .filter(|cell| cell.hops == hops && cell.overlap_pct == overlap)
                .map(|cell| cell.runs)
                .collect::<Vec<_>>()
        };
        for hops in [1, 3] {
            assert_eq!(of(Kind::Block, hops, None), [30; 5]);
            assert_eq!(of(Kind::Roots, hops, None), [30; 5]);
            assert_eq!(of(Kind::Block, hops, Some(98)), [30; 5]);
        }
        assert_eq!(of(Kind::Bulk, 1, None), [10; 5]);
        let expected_s: f64 = cells.iter().map(Cell::expected_s).sum();
        assert!(expected_s < 25.0 * 60.0, "{expected_s} s");
        let quick_s: f64 = plan(Depth::Quick).iter().map(Cell::expected_s).sum();
        assert!(quick_s < 4.5 * 60.0, "{quick_s} s");
        let rivals = cells.iter().filter(|cell| cell.system != System::Bfr);
        assert!(rivals.clone().all(|cell| cell.runs == 10));
        assert!(rivals.clone().any(|cell| cell.hops == 3) && rivals.count() >= 6 * 7);
    }
}
