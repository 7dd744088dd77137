//! The machine as one table: which tiles there are, which links join them, on which cores they turn.
//!
//! In: the table, written as a wiring list (`Topology`). It is checked as a whole before anything runs
//! ([`Topology::plan`]); what comes out is a [`Plan`] that prints itself as a table, a graph and JSON, and builds the
//! [`Machine`]: all links taken from memory at once, and for every tile instance its ends of them by name.
//!
//! ```
//! use dataplane::topo::{Kind::*, Topology, each, one};
//!
//! let mut t = Topology::new("example");
//! t.external("submit", 1);
//! t.toy("validate", 2);
//! t.toy("shard", 1);
//! //      link               depth  mtu  kind      producer          consumers
//! t.link("submit_validate",   1_024, 512, Shed,     one("submit"),    each("validate"));
//! t.link("validate_shard",    1_024, 128, Lossless, each("validate"), each("shard"));
//! t.link("shard_validate",    1_024, 128, Lossless, each("shard"),    each("validate")).window(512);
//! t.cores(2).place("shard", 0, 0).place("validate", 0, 0).place("validate", 1, 1);
//! let plan = t.plan().expect("a sound table");
//! assert_eq!(plan.links.len(), 6);
//! ```

mod build;
mod check;
mod layout;
mod monitor;
mod plan;
mod show;

pub use build::{
    BuildError, BuildOptions, ExternalEnds, ExternalIn, ExternalOut, Machine, Wiring,
    link_file_name,
};
pub use check::TopologyError;
pub use layout::Layout;
pub use monitor::{LinkLayout, Monitor, MonitorLayout};
pub use plan::{LinkPlan, Peer, Plan, TilePlan};
pub use ring::Kind;

use crate::metrics::CounterDef;
use crate::tile::Tile;

/// One end of a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every instance, each with a link of its own.
    Each(&'static str),
    /// The only instance.
    One(&'static str),
    /// Every instance, all on the same link (as consumers: each sees every frag).
    All(&'static str),
}

impl End {
    /// The tile that is meant.
    pub const fn tile(self) -> &'static str {
        match self {
            Self::Each(tile) | Self::One(tile) | Self::All(tile) => tile,
        }
    }
}

/// Every instance of `tile`, each with a link of its own.
pub const fn each(tile: &'static str) -> End {
    End::Each(tile)
}

/// The only instance of `tile`.
pub const fn one(tile: &'static str) -> End {
    End::One(tile)
}

/// Every instance of `tile` as consumers of the same link.
pub const fn all(tile: &'static str) -> End {
    End::All(tile)
}

/// Consumers of a row: one end, or several that share the link.
#[derive(Clone, Debug)]
pub struct Consumers(pub(crate) Vec<End>);

impl From<End> for Consumers {
    fn from(end: End) -> Self {
        Self(vec![end])
    }
}

impl<const N: usize> From<[End; N]> for Consumers {
    fn from(ends: [End; N]) -> Self {
        Self(ends.to_vec())
    }
}

/// What a topology needs to know of a kind of tile.
#[derive(Clone, Copy, Debug)]
pub struct TileDef {
    /// The tile's name.
    pub name: &'static str,
    /// Most frags one call publishes on any one link.
    pub burst: u32,
    /// Its catalogue.
    pub counters: &'static [CounterDef],
    /// Whether it is turned by somebody else's thread (the control plane), without a stem.
    pub external: bool,
}

impl TileDef {
    /// The definition of tile type `T`.
    pub const fn of<T: Tile>() -> Self {
        Self { name: T::NAME, burst: T::BURST, counters: T::COUNTERS, external: false }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct TileRow {
    def: TileDef,
    places: Vec<Place>,
}

/// Where a tile instance turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Place {
    /// Nobody has said yet: `plan` refuses.
    Nowhere,
    /// On this core of the machine, with whatever else is placed there.
    Core(usize),
    /// On an unpinned, unsealed thread of its own.
    Floating,
    /// On a thread of the control plane, without a stem.
    External,
}

/// One row of the link table; what `Topology::link` gives back, to say more about the row.
#[derive(Clone, Debug)]
pub struct LinkRow {
    pub(crate) name: &'static str,
    pub(crate) depth: u32,
    pub(crate) mtu: u32,
    pub(crate) kind: Kind,
    pub(crate) producer: End,
    pub(crate) consumers: Vec<End>,
    pub(crate) window: Option<u32>,
    pub(crate) arena_bytes: u64,
}

impl LinkRow {
    /// At most `frags` are ever in flight on one such link, because they answer that many requests: it cannot block.
    pub fn window(&mut self, frags: u32) -> &mut Self {
        self.window = Some(frags);
        self
    }

    /// Frags above the mtu go through an arena of `bytes` beside each such link.
    pub fn arena(&mut self, bytes: u64) -> &mut Self {
        self.arena_bytes = bytes;
        self
    }
}

/// The table.
#[derive(Clone, Debug)]
pub struct Topology {
    pub(crate) name: &'static str,
    pub(crate) tiles: Vec<TileRow>,
    pub(crate) links: Vec<LinkRow>,
    pub(crate) cores: usize,
    pub(crate) memory_limit_bytes: Option<u64>,
    pub(crate) misplaced: Vec<(&'static str, usize)>,
}

impl Topology {
    /// An empty table of that name.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            tiles: Vec::new(),
            links: Vec::new(),
            cores: 0,
            memory_limit_bytes: None,
            misplaced: Vec::new(),
        }
    }

    /// `count` instances of tile type `T`.
    pub fn tile<T: Tile>(&mut self, count: usize) -> &mut Self {
        self.tile_def(TileDef::of::<T>(), count)
    }

    /// `count` instances of a tile known by its definition.
    pub fn tile_def(&mut self, def: TileDef, count: usize) -> &mut Self {
        let place = if def.external { Place::External } else { Place::Nowhere };
        self.tiles.push(TileRow { def, places: vec![place; count] });
        self
    }

    /// `count` ends that are not tiles: threads of the control plane that publish or consume on their own account.
    pub fn external(&mut self, name: &'static str, count: usize) -> &mut Self {
        self.tile_def(TileDef { name, burst: 1, counters: &[], external: true }, count)
    }

    /// `count` instances of a tile of which only the name is known: for drawings and tests.
    pub fn toy(&mut self, name: &'static str, count: usize) -> &mut Self {
        self.tile_def(TileDef { name, burst: 1, counters: &[], external: false }, count)
    }

    /// One row: `producer` to `consumers`, `depth` frags of at most `mtu` bytes in line.
    ///
    /// A tile polls its in-links in the order of the table, so the row that must never wait stands first.
    pub fn link(
        &mut self,
        name: &'static str,
        depth: u32,
        mtu: u32,
        kind: Kind,
        producer: End,
        consumers: impl Into<Consumers>,
    ) -> &mut LinkRow {
        let consumers = consumers.into().0;
        self.links.push(LinkRow {
            name,
            depth,
            mtu,
            kind,
            producer,
            consumers,
            window: None,
            arena_bytes: 0,
        });
        let last = self.links.len() - 1;
        &mut self.links[last]
    }

    /// The machine has `cores` cores for tiles, numbered from 0.
    pub fn cores(&mut self, cores: usize) -> &mut Self {
        self.cores = cores;
        self
    }

    /// Instance `index` of `tile` turns on `core`.
    pub fn place(&mut self, tile: &'static str, index: usize, core: usize) -> &mut Self {
        self.put(tile, index, Place::Core(core))
    }

    /// Every instance of `tile` turns on an unpinned, unsealed thread of its own.
    pub fn floating(&mut self, tile: &'static str) -> &mut Self {
        let count = self.tiles.iter().find(|t| t.def.name == tile).map_or(1, |t| t.places.len());
        for index in 0..count {
            self.put(tile, index, Place::Floating);
        }
        self
    }

    /// The links may take at most `bytes`.
    pub fn memory_limit(&mut self, bytes: u64) -> &mut Self {
        self.memory_limit_bytes = Some(bytes);
        self
    }

    fn put(&mut self, tile: &'static str, index: usize, place: Place) -> &mut Self {
        let row = self.tiles.iter_mut().find(|t| t.def.name == tile);
        match row.and_then(|t| t.places.get_mut(index)) {
            Some(slot) => *slot = place,
            None => self.misplaced.push((tile, index)),
        }
        self
    }

    /// Checks the whole table and writes out every instance of every tile and link.
    pub fn plan(&self) -> Result<Plan, TopologyError> {
        check::check(self)?;
        let plan = plan::expand(self)?;
        check::check_plan(self, &plan)?;
        Ok(plan)
    }
}
