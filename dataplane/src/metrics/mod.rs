//! What a running machine shows: plain counters that anybody may read and only their tile writes.
//!
//! Before boot every tile instance gets a block of cells: the nine cells of its time, its turns, its links, and the
//! counters of its own catalogue. A cell is one atomic word written with plain stores by one thread, so counting costs a
//! load and a store and never a lock. Observers (`/metrics`, `metanode top`, tests) read cells whenever they like and see
//! each counter whole, though not all of them at one instant.

mod regime;
mod region;

pub use regime::{NineCells, Phase, Regime};
pub use region::{
    Cell, LinkCells, Metrics, MetricsBuilder, MetricsLayout, TileCells, TileLayout, TileView,
};

/// One counter of a tile's catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterDef {
    /// Its name: subject, action, unit; `_total` for counts that only grow. The tile's name is put before it.
    pub name: &'static str,
    /// One sentence for the reference.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: CounterKind,
}

/// How a counter behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Declares a tile's catalogue: an enum of counters and the table that describes them.
///
/// ```
/// dataplane::counters! {
///     /// What the echo tile counts.
///     pub enum EchoCount {
///         /// Frags sent back.
///         FragsEchoed = counter "frags_echoed_total",
///         /// Frags that wait for credit.
///         FragsWaiting = gauge "frags_waiting",
///     }
/// }
/// assert_eq!(EchoCount::DEFS[0].name, "frags_echoed_total");
/// assert_eq!(EchoCount::DEFS[0].help, "Frags sent back.");
/// ```
#[macro_export]
macro_rules! counters {
    (
        $(#[$outer:meta])*
        $vis:vis enum $name:ident {
            $( #[doc = $help:literal] $variant:ident = $kind:ident $text:literal ),+ $(,)?
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        $vis enum $name { $( #[doc = $help] $variant ),+ }

        impl $name {
            /// The catalogue, in the order of the variants.
            pub const DEFS: &'static [$crate::metrics::CounterDef] = &[
                $( $crate::metrics::CounterDef {
                    name: $text,
                    help: $crate::metrics::trim($help),
                    kind: $crate::counters!(@kind $kind),
                } ),+
            ];
        }

        impl From<$name> for usize {
            #[inline]
            fn from(counter: $name) -> usize { counter as usize }
        }
    };
    (@kind counter) => { $crate::metrics::CounterKind::Counter };
    (@kind gauge) => { $crate::metrics::CounterKind::Gauge };
}

/// A doc comment's text without the blank that follows its slashes.
#[doc(hidden)]
pub const fn trim(text: &'static str) -> &'static str {
    text.trim_ascii()
}
