//! Tiles: single-threaded actors that take frags from links and publish frags on links.
//!
//! A tile is a struct that implements [`Tile`]; the [`Stem`](crate::stem::Stem) around it polls its links, keeps its
//! credits and its time, and calls it. A tile never blocks, never asks for the time, never allocates after start, and
//! does not know whether a spinning core, a glommio executor or the simulator turns it.
//!
//! What a turn does, in this order:
//!
//! 1. `housekeeping`, when it is due (seldom, at jittered times);
//! 2. `before`, always, also without credit: flush what waits for credit, run timers;
//! 3. for every in-link, in the order of the topology's table: `wants` says how many frags of it the tile can take now,
//!    and so many are handed in, each through `filter` and then `frag`;
//! 4. `after`, always: send off what the frags of this turn have filled (batches).
//!
//! **Backpressure is a matter of each link, and of the tile.** By default a tile takes frags only while *every* out-link
//! has [`BURST`](Tile::BURST) credits. A tile that must go on draining replies while one request link is full answers
//! `wants` itself: it says "as many as you like" for the replies (which it can always absorb) and looks at
//! [`Outs::credit`] for requests; with `filter` it can also leave one frag where it is, by its `sig`, without reading it.

use crate::metrics::{CounterDef, TileCells};
use crate::time::Ns;

pub use crate::outs::Outs;

/// One of a tile's in-links: a position in the list that the topology gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct In(pub u16);

/// One of a tile's out-links: a position in the list that the topology gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Out(pub u16);

impl In {
    /// As an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Out {
    /// As an index.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The number of a frag on its link.
pub type Seq = u64;

/// What lets a consumer decide about a frag without touching its payload.
pub type Sig = u64;

/// A time in 32 bits, as it travels with a frag: units of 64 ns, so it wraps after 274 seconds.
///
/// The first hop stamps a frag's birth, every later hop passes it on, so any tile can tell how old its input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(pub u32);

impl Stamp {
    const LG_NS: u32 = 6;

    /// The stamp of `now`.
    #[inline]
    pub const fn of(now: Ns) -> Self {
        Self((now >> Self::LG_NS) as u32)
    }

    /// Nanoseconds from this stamp to `now`, if that is less than 274 seconds.
    #[inline]
    pub const fn age_ns(self, now: Ns) -> Ns {
        (Self::of(now).0.wrapping_sub(self.0) as u64) << Self::LG_NS
    }
}

/// A frag, borrowed from its link for the length of one call.
#[derive(Clone, Copy, Debug)]
pub struct Frag<'a> {
    /// Its number on its link.
    pub seq: Seq,
    /// What its producer said about it.
    pub sig: Sig,
    /// When the message it belongs to was born.
    pub born: Stamp,
    /// When its producer published it.
    pub sent: Stamp,
    /// Its payload, in one piece however large it is.
    pub bytes: &'a [u8],
}

/// What to do with a frag, decided by its `sig` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Hand it in.
    Take,
    /// Pass over it; it is counted.
    Skip,
    /// Leave it there, and everything behind it, until a later turn.
    Later,
}

/// Whether a hook did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Nothing to do.
    No,
    /// Something was done, so the core should not sleep.
    Yes,
    /// Something is to be done, but there is no credit for it (or no room at whoever it is for). The core must not sleep:
    /// credit that comes back wakes nobody. Counts as backpressure.
    Waiting,
}

impl Busy {
    /// `Yes` if so.
    #[inline]
    pub const fn if_so(so: bool) -> Self {
        if so { Self::Yes } else { Self::No }
    }
}

impl std::ops::BitOr for Busy {
    type Output = Self;
    #[inline]
    fn bitor(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::Waiting, _) | (_, Self::Waiting) => Self::Waiting,
            (Self::No, Self::No) => Self::No,
        }
    }
}

/// What housekeeping may see and do.
#[derive(Debug)]
pub struct House<'a> {
    pub(crate) now: Ns,
    pub(crate) cells: &'a TileCells,
    pub(crate) draining: bool,
}

impl House<'_> {
    /// Nanoseconds since the machine's clock started.
    pub fn now(&self) -> Ns {
        self.now
    }

    /// Whether the machine was asked to stop: finish what is in flight, start nothing.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Sets a gauge of the tile's catalogue.
    pub fn set(&self, counter: impl Into<usize>, value: u64) {
        self.cells.set(counter, value);
    }

    /// Adds to a counter of the tile's catalogue.
    pub fn count(&self, counter: impl Into<usize>, n: u64) {
        self.cells.add(counter, n);
    }
}

/// A single-threaded actor. Module docs say what a turn does with it.
pub trait Tile {
    /// The tile's name, as the topology writes it.
    const NAME: &'static str;

    /// Most frags that one call of [`frag`](Tile::frag) publishes on any one out-link.
    ///
    /// Not above the depth of any out-link. Hooks are not bound by it: they ask [`Outs::credit`].
    const BURST: u32;

    /// Most frags of one in-link that are handed in during one turn.
    const FRAGS_PER_TURN: u32 = 64;

    /// The counters of this kind of tile; [`crate::counters!`] writes the list.
    const COUNTERS: &'static [CounterDef] = &[];

    /// Once, on the tile's own core, before the heap is sealed: touch what was allocated, so that it lies near the core.
    fn boot(&mut self) {}

    /// Rare work: timers, gauges, giving back what is no longer needed. Called every few dozen microseconds while the core
    /// is awake, once a millisecond while it sleeps, every eight once it has slept for long.
    fn housekeeping(&mut self, _house: &mut House<'_>) {}

    /// Once a turn, before any frag, with or without credit: the place to send what an earlier turn could not.
    ///
    /// A tile that still holds something it has no credit for answers [`Busy::Waiting`], here or in `after`.
    fn before(&mut self, _outs: &mut Outs) -> Busy {
        Busy::No
    }

    /// How many frags of `input` the tile can take now; the stem hands in at most
    /// [`FRAGS_PER_TURN`](Tile::FRAGS_PER_TURN). Zero while frags wait there counts as backpressure.
    #[inline]
    fn wants(&mut self, _input: In, outs: &Outs) -> u32 {
        outs.least_credit().checked_div(Self::BURST).unwrap_or(u32::MAX)
    }

    /// What to do with the next frag of `input`, before any byte of its payload is read.
    #[inline]
    fn filter(&mut self, _input: In, _seq: Seq, _sig: Sig, _outs: &Outs) -> Filter {
        Filter::Take
    }

    /// One frag. What is published here carries the frag's time of birth.
    fn frag(&mut self, input: In, frag: Frag<'_>, outs: &mut Outs);

    /// Once a turn, after all frags.
    fn after(&mut self, _outs: &mut Outs) -> Busy {
        Busy::No
    }

    /// Whether nothing of the tile's is in flight, so that the machine may stop.
    fn is_drained(&self) -> bool {
        true
    }
}
