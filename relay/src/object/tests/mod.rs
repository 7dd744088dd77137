//! Stories of objects: sources, relays and receivers joined by pipes that lose, repeat and reorder, one seed each.

mod chaos;
mod compact;
mod gates;
mod origins;
mod pipe;
mod stories;
mod tails;
