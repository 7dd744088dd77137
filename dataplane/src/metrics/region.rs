//! The cells of a machine, tile by tile, and the handles to them.
//!
//! In: the list of tile instances with their links and catalogues, before boot. Out: one writer handle per tile
//! ([`TileCells`]) and any number of readers ([`Metrics`]). Blocks start at a multiple of 128 bytes, so that two tiles never
//! share a cache line (nor a pair that the adjacent-line prefetcher joins).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ring::{LinkError, Words};

use super::{CounterDef, NineCells, Phase, Regime};
use crate::time::Ns;

/// Words of 128 bytes; a mapping starts on a page.
const LINE_WORDS: usize = 16;

/// Fixed cells at the start of each tile's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Cell {
    /// Turns that found nothing.
    TurnsIdle = 9,
    /// Turns that did something.
    TurnsBusy,
    /// Turns that could do nothing for want of credit.
    TurnsBackpressured,
    /// Times the tile's housekeeping ran.
    Housekeepings,
    /// When it last ran, on the machine's clock.
    HeartbeatNs,
    /// Allocations of the tile's thread after its heap was sealed.
    AllocAfterSeal,
    /// A `stem::State`.
    State,
    /// Times the tile's core slept.
    CoreParks,
    /// How long it slept in all.
    CoreParkedNs,
    /// Times it gave its processor away between rounds.
    CoreYields,
}

/// Number of fixed cells, the nine of time included.
const FIXED: usize = Cell::CoreYields as usize + 1;

/// Cells of one in-link.
const IN_CELLS: usize = 4;
/// Cells of one out-link.
const OUT_CELLS: usize = 5;

/// A reading of the cells of one link end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCells {
    /// Frags taken or published.
    pub frags: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// In-link: frags passed over by `filter`. Out-link: frags shed at the door for want of credit.
    pub dropped: u64,
    /// Turns in which this link had (or would have had) a frag and the tile could not go on for want of credit.
    pub backpressured_turns: u64,
    /// Out-link: which consumer of the link was the slowest in the last such turn.
    pub slowest: u64,
}

/// What is in one tile's block, by index.
#[derive(Clone, Debug)]
struct Block {
    name: &'static str,
    index: usize,
    core: Option<usize>,
    ins: Vec<String>,
    outs: Vec<String>,
    defs: &'static [CounterDef],
    /// Where its words start.
    first: usize,
}

impl Block {
    fn words(&self) -> usize {
        self.counters() + self.defs.len()
    }
    fn input(i: usize) -> usize {
        FIXED + i * IN_CELLS
    }
    fn output(&self, i: usize) -> usize {
        FIXED + self.ins.len() * IN_CELLS + i * OUT_CELLS
    }
    fn counters(&self) -> usize {
        self.output(self.outs.len())
    }
}

/// Where the words of a machine's counters stand; the other half of a file of them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MetricsLayout {
    /// Words in all.
    pub words: usize,
    /// The tiles.
    pub tiles: Vec<TileLayout>,
}

/// Where one tile's words stand: the nine cells of its time first (phase by regime), then the fixed ones ([`Cell`]).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TileLayout {
    /// The tile's name.
    pub name: String,
    /// Its number among those of that name.
    pub index: usize,
    /// The core it is placed on, if any.
    pub core: Option<usize>,
    /// Its first word.
    pub first: usize,
    /// Its in-links, each with its first word: frags, bytes, filtered, turns without credit.
    pub ins: Vec<(String, usize)>,
    /// Its out-links, each with its first word: frags, bytes, shed, turns without credit, slowest consumer.
    pub outs: Vec<(String, usize)>,
    /// Names of its own counters.
    pub counters: Vec<String>,
    /// Where the first of those stands; the others follow.
    pub first_counter: usize,
}

/// Collects the tiles of a machine and lays out their cells.
#[derive(Debug, Default)]
pub struct MetricsBuilder {
    blocks: Vec<Block>,
    words: usize,
}

impl MetricsBuilder {
    /// No tiles yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tile instance with its links and catalogue; gives its number.
    pub fn tile(
        &mut self,
        name: &'static str,
        index: usize,
        core: Option<usize>,
        ins: Vec<String>,
        outs: Vec<String>,
        defs: &'static [CounterDef],
    ) -> usize {
        let block = Block { name, index, core, ins, outs, defs, first: self.words };
        self.words += block.words().next_multiple_of(LINE_WORDS);
        self.blocks.push(block);
        self.blocks.len() - 1
    }

    /// Room for `count` words behind the tiles', on lines of their own; gives the number of the first. For what is not a tile.
    pub fn extra(&mut self, count: usize) -> usize {
        let first = self.words;
        self.words += count.next_multiple_of(LINE_WORDS);
        first
    }

    /// Takes the memory: in a file that other processes can look at, or in this process only.
    pub fn build(self, file: Option<&Path>) -> Result<Metrics, LinkError> {
        let words = match file {
            Some(path) => Words::create_file(path, self.words)?,
            None => Words::anonymous(self.words)?,
        };
        Ok(Metrics { words: words.into(), blocks: self.blocks.into() })
    }
}

/// All cells of a machine. Clones read the same cells.
#[derive(Clone, Debug)]
pub struct Metrics {
    words: Arc<Words>,
    blocks: Arc<[Block]>,
}

impl Metrics {
    /// The tiles, in the order they were added.
    pub fn tiles(&self) -> impl Iterator<Item = TileView<'_>> {
        self.blocks.iter().map(|block| TileView { cells: Cells::at(&self.words, block), block })
    }

    /// Tile instance `name`:`index`.
    pub fn tile(&self, name: &str, index: usize) -> Option<TileView<'_>> {
        self.tiles().find(|t| t.name() == name && t.index() == index)
    }

    /// The words themselves: for what was laid out with [`MetricsBuilder::extra`].
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// Where everything stands, for whoever maps the file.
    pub fn layout(&self) -> MetricsLayout {
        let named = |names: &[String], at: &dyn Fn(usize) -> usize| {
            names.iter().enumerate().map(|(i, name)| (name.clone(), at(i))).collect()
        };
        let tile = |b: &Block| TileLayout {
            name: b.name.to_owned(),
            index: b.index,
            core: b.core,
            first: b.first,
            ins: named(&b.ins, &|i| b.first + Block::input(i)),
            outs: named(&b.outs, &|i| b.first + b.output(i)),
            counters: b.defs.iter().map(|d| d.name.to_owned()).collect(),
            first_counter: b.first + b.counters(),
        };
        MetricsLayout {
            words: self.words.all().len(),
            tiles: self.blocks.iter().map(tile).collect(),
        }
    }

    /// The writer's handle of tile number `tile`. One thread writes; the caller hands it to that one.
    pub(crate) fn writer(&self, tile: usize) -> TileCells {
        let block = &self.blocks[tile];
        TileCells {
            cells: Cells::at(&self.words, block),
            outputs: block.output(0),
            counters: block.counters(),
            counter_count: block.defs.len(),
        }
    }
}

/// The words of one block.
#[derive(Clone, Debug)]
struct Cells {
    words: Arc<Words>,
    first: usize,
}

impl Cells {
    fn at(words: &Arc<Words>, block: &Block) -> Self {
        Self { words: Arc::clone(words), first: block.first }
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.words.all()[self.first + at]
    }

    #[inline]
    fn get(&self, at: usize) -> u64 {
        self.word(at).load(Relaxed)
    }

    #[inline]
    fn set(&self, at: usize, value: u64) {
        self.word(at).store(value, Relaxed);
    }

    #[inline]
    fn add(&self, at: usize, n: u64) {
        // One writer: a load and a store, no locked instruction.
        let word = self.word(at);
        word.store(word.load(Relaxed).wrapping_add(n), Relaxed);
    }
}

/// One tile, as an observer sees it.
#[derive(Clone, Debug)]
pub struct TileView<'a> {
    cells: Cells,
    block: &'a Block,
}

impl TileView<'_> {
    /// The tile's name.
    pub fn name(&self) -> &'static str {
        self.block.name
    }
    /// Its number among those of that name.
    pub fn index(&self) -> usize {
        self.block.index
    }
    /// The core it is placed on, if any.
    pub fn core(&self) -> Option<usize> {
        self.block.core
    }
    /// Its time, in nanoseconds.
    pub fn time(&self) -> NineCells {
        let mut out = NineCells::default();
        for (i, cell) in out.0.iter_mut().flatten().enumerate() {
            *cell = self.cells.get(i);
        }
        out
    }
    /// A fixed cell.
    pub fn cell(&self, cell: Cell) -> u64 {
        self.cells.get(cell as usize)
    }
    /// Its in-links by name.
    pub fn ins(&self) -> impl Iterator<Item = (&str, LinkCells)> {
        self.block.ins.iter().enumerate().map(|(i, name)| {
            let at = Block::input(i);
            let get = |k| self.cells.get(at + k);
            let link = LinkCells {
                frags: get(0),
                bytes: get(1),
                dropped: get(2),
                backpressured_turns: get(3),
                slowest: 0,
            };
            (name.as_str(), link)
        })
    }
    /// Its out-links by name.
    pub fn outs(&self) -> impl Iterator<Item = (&str, LinkCells)> {
        self.block.outs.iter().enumerate().map(|(i, name)| {
            let at = self.block.output(i);
            let get = |k| self.cells.get(at + k);
            let link = LinkCells {
                frags: get(0),
                bytes: get(1),
                dropped: get(2),
                backpressured_turns: get(3),
                slowest: get(4),
            };
            (name.as_str(), link)
        })
    }
    /// The counters of its catalogue.
    pub fn counters(&self) -> impl Iterator<Item = (&'static CounterDef, u64)> {
        let first = self.block.counters();
        self.block.defs.iter().enumerate().map(move |(i, def)| (def, self.cells.get(first + i)))
    }
    /// One counter of its catalogue.
    ///
    /// # Panics
    /// If the catalogue has no such counter.
    pub fn counter(&self, counter: impl Into<usize>) -> u64 {
        let i = counter.into();
        assert!(i < self.block.defs.len(), "{} has no counter {i}", self.block.name);
        self.cells.get(self.block.counters() + i)
    }
}

/// The writer's handle of one tile's block.
#[derive(Debug)]
pub struct TileCells {
    cells: Cells,
    outputs: usize,
    counters: usize,
    counter_count: usize,
}

impl TileCells {
    /// Adds `n` to a counter of the tile's catalogue.
    ///
    /// # Panics
    /// If the catalogue has no such counter.
    #[inline]
    pub fn add(&self, counter: impl Into<usize>, n: u64) {
        let i = counter.into();
        assert!(
            i < self.counter_count,
            "counter {i} of {}: not in the catalogue",
            self.counter_count
        );
        self.cells.add(self.counters + i, n);
    }

    /// Sets a gauge of the tile's catalogue.
    ///
    /// # Panics
    /// If the catalogue has no such counter.
    #[inline]
    pub fn set(&self, counter: impl Into<usize>, value: u64) {
        let i = counter.into();
        assert!(
            i < self.counter_count,
            "counter {i} of {}: not in the catalogue",
            self.counter_count
        );
        self.cells.set(self.counters + i, value);
    }

    #[inline]
    pub(crate) fn time(&self, phase: Phase, regime: Regime, ns: Ns) {
        self.cells.add(phase as usize * 3 + regime as usize, ns);
    }
    #[inline]
    pub(crate) fn fixed(&self, cell: Cell, value: u64) {
        self.cells.set(cell as usize, value);
    }
    #[inline]
    pub(crate) fn bump(&self, cell: Cell, n: u64) {
        self.cells.add(cell as usize, n);
    }
    #[inline]
    pub(crate) fn input(&self, link: usize, delta: &LinkCells) {
        self.link(FIXED + link * IN_CELLS, delta);
    }
    #[inline]
    pub(crate) fn output(&self, link: usize, delta: &LinkCells) {
        self.link(self.outputs + link * OUT_CELLS, delta);
    }
    /// Out-link `link` had no credit because of consumer `slowest`.
    #[inline]
    pub(crate) fn blame(&self, link: usize, slowest: u64) {
        let at = self.outputs + link * OUT_CELLS;
        self.cells.add(at + 3, 1);
        self.cells.set(at + 4, slowest);
    }
    #[inline]
    fn link(&self, at: usize, delta: &LinkCells) {
        let deltas = [delta.frags, delta.bytes, delta.dropped, delta.backpressured_turns];
        for (k, n) in deltas.into_iter().enumerate() {
            if n != 0 {
                self.cells.add(at + k, n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::counters! {
        /// Counters of the test.
        enum Count {
            /// First.
            A = counter "a_total",
            /// Second.
            B = gauge "b",
        }
    }

    fn machine() -> Metrics {
        let mut builder = MetricsBuilder::new();
        for index in 0..3 {
            let (ins, outs) = (vec!["x_t".into()], vec!["t_y".into(), "t_z".into()]);
            builder.tile("t", index, Some(index), ins, outs, Count::DEFS);
        }
        builder.build(None).expect("memory")
    }

    #[test]
    fn every_cell_of_every_tile_is_its_own() {
        let metrics = machine();
        for tile in 0..3 {
            let w = metrics.writer(tile);
            let n = tile as u64 * 100;
            w.time(Phase::Postfrag, Regime::Backpressure, n + 1);
            w.bump(Cell::TurnsIdle, n + 2);
            w.fixed(Cell::CoreYields, n + 3);
            w.input(0, &LinkCells { frags: n + 4, bytes: n + 5, ..LinkCells::default() });
            w.output(1, &LinkCells { frags: n + 6, ..LinkCells::default() });
            w.blame(1, n + 7);
            w.add(Count::A, n + 8);
            w.set(Count::B, n + 9);
        }
        for tile in 0..3 {
            let n = tile as u64 * 100;
            let t = metrics.tile("t", tile).expect("it is there");
            assert_eq!(t.core(), Some(tile));
            assert_eq!(t.time().get(Phase::Postfrag, Regime::Backpressure), n + 1);
            assert_eq!(t.time().total(), n + 1);
            assert_eq!((t.cell(Cell::TurnsIdle), t.cell(Cell::CoreYields)), (n + 2, n + 3));
            let ins: Vec<_> = t.ins().collect();
            assert_eq!((ins[0].1.frags, ins[0].1.bytes), (n + 4, n + 5));
            let outs: Vec<_> = t.outs().collect();
            assert_eq!((outs[0].0, outs[0].1), ("t_y", LinkCells::default()));
            assert_eq!((outs[1].0, outs[1].1.frags, outs[1].1.slowest), ("t_z", n + 6, n + 7));
            assert_eq!((t.counter(Count::A), t.counter(Count::B)), (n + 8, n + 9));
        }
    }

    #[test]
    fn another_process_finds_every_counter_by_the_layout() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("metrics");
        let mut builder = MetricsBuilder::new();
        builder.tile("t", 4, None, vec!["x_t".into()], vec!["t_y".into()], Count::DEFS);
        let extra = builder.extra(3);
        let metrics = builder.build(Some(&path)).expect("a file");
        let w = metrics.writer(0);
        w.time(Phase::Prefrag, Regime::Processing, 1);
        w.fixed(Cell::State, 2);
        w.input(0, &LinkCells { bytes: 3, ..LinkCells::default() });
        w.blame(0, 4);
        w.add(Count::B, 5);
        metrics.words().all()[extra + 2].store(6, Relaxed);
        let layout = metrics.layout();
        let view = ring::WordsView::open_file(&path).expect("a reader");
        assert_eq!(view.len(), layout.words);
        let tile = &layout.tiles[0];
        let got = [
            tile.first + Phase::Prefrag as usize * 3 + Regime::Processing as usize,
            tile.first + Cell::State as usize,
            tile.ins[0].1 + 1,
            tile.outs[0].1 + 4,
            tile.first_counter + 1,
            extra + 2,
        ];
        assert_eq!(got.map(|at| view.get(at)), [1, 2, 3, 4, 5, 6].map(Some));
        assert!(extra.is_multiple_of(LINE_WORDS), "on lines of its own");
    }

    #[test]
    fn a_catalogue_carries_its_own_help() {
        let defs: Vec<_> = Count::DEFS.iter().map(|d| (d.name, d.help)).collect();
        assert_eq!(defs, [("a_total", "First."), ("b", "Second.")]);
    }
}
