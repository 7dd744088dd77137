//! A reading of every tile's counters, and what happened between two readings.

use dataplane::metrics::{Cell, Metrics, NineCells, Regime};
use dataplane::msg::TxVerdict;
use dataplane::validate::ValidateCount;

/// One tile's share of its time between two readings.
#[derive(Clone, Debug)]
pub struct TileShare {
    /// `name:index`.
    pub name: String,
    /// Its core; `None` for one that floats.
    pub core: Option<usize>,
    /// Handling frags and housekeeping, of the wall time.
    pub busy: f64,
    /// Nothing to do, of the wall time (its core may have been busy with another tile, or asleep).
    pub wait: f64,
    /// Something to do and no credit, of the wall time.
    pub backpressure: f64,
}

#[derive(Clone, Debug)]
struct TileReading {
    name: String,
    core: Option<usize>,
    time: NineCells,
    alloc_after_seal: u64,
    validate: Option<Vec<u64>>,
}

/// A reading of a machine.
#[derive(Clone, Debug)]
pub struct Counters {
    at_ns: u64,
    tiles: Vec<TileReading>,
}

impl Counters {
    /// Reads `metrics` at `at_ns`, nanoseconds on any clock.
    pub fn read(metrics: &Metrics, at_ns: u64) -> Self {
        let tiles = metrics.tiles().map(|tile| TileReading {
            name: format!("{}:{}", tile.name(), tile.index()),
            core: tile.core(),
            time: tile.time(),
            alloc_after_seal: tile.cell(Cell::AllocAfterSeal),
            validate: (tile.name() == "validate")
                .then(|| tile.counters().map(|(_, value)| value).collect()),
        });
        Self { at_ns, tiles: tiles.collect() }
    }

    fn sum(&self, counter: ValidateCount) -> u64 {
        let at: usize = counter.into();
        self.tiles.iter().filter_map(|t| t.validate.as_ref()).map(|c| c[at]).sum()
    }

    /// Copies the validators took in.
    pub fn ingested(&self) -> u64 {
        self.sum(ValidateCount::Offered)
    }

    /// Copies that ended so, over all validators.
    pub fn verdict(&self, verdict: TxVerdict) -> u64 {
        let first: usize = ValidateCount::Accepted.into();
        let at = first + verdict as usize;
        self.tiles.iter().filter_map(|t| t.validate.as_ref()).map(|c| c[at]).sum()
    }

    /// Transactions in flight.
    pub fn in_flight(&self) -> u64 {
        self.sum(ValidateCount::InFlight)
    }

    /// Orphans.
    pub fn orphans(&self) -> u64 {
        self.sum(ValidateCount::Orphans)
    }

    /// Signatures the validators verified in batches.
    pub fn signatures(&self) -> u64 {
        self.sum(ValidateCount::SignaturesBatched)
    }

    /// Allocations on sealed cores: always 0.
    pub fn alloc_after_seal(&self) -> u64 {
        // The seal counts per thread, and every tile of a core reports its thread's count.
        self.tiles
            .iter()
            .filter(|t| t.core.is_some())
            .map(|t| t.alloc_after_seal)
            .max()
            .unwrap_or(0)
    }

    /// What each tile did with its time since `before`.
    pub fn tiles_since(&self, before: &Self) -> impl Iterator<Item = TileShare> {
        let wall = (self.at_ns - before.at_ns).max(1) as f64;
        self.tiles.iter().zip(&before.tiles).filter(|(t, _)| t.time.total() > 0).map(
            move |(now, then)| {
                let time = now.time.since(&then.time);
                let backpressure = time.regime(Regime::Backpressure) as f64 / wall;
                let busy = time.regime(Regime::Processing) as f64 / wall;
                TileShare {
                    name: now.name.clone(),
                    core: now.core,
                    busy,
                    wait: (1.0 - busy - backpressure).max(0.0),
                    backpressure,
                }
            },
        )
    }
}
