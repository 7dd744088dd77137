//! What makes a table sound; all of it is checked before anything runs.
//!
//! Each rule that is broken gives one error, which names the row, what was found, what was expected and what to do. The
//! rule that matters most: **every cycle of lossless links contains a windowed one**. A tile that cannot send does not read
//! on, and a ring of tiles that all wait for each other waits forever; an edge that can never be full breaks the ring.

use std::collections::BTreeSet;

use super::{End, Kind, LinkRow, Place, Plan, Topology};

/// Smallest depth of a link: with one line the mark of a frag being written equals the one before it.
pub const DEPTH_MIN: u32 = 2;
/// Largest depth of a link.
pub const DEPTH_MAX: u32 = 1 << 24;
/// Most links one tile instance may have on either side.
pub const LINKS_PER_TILE_MAX: usize = 1024;

/// Why a table was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages say what the fields are
pub enum TopologyError {
    #[error("tile {tile} is declared twice; add the counts up in one row")]
    TileTwice { tile: &'static str },
    #[error("link {link} is declared twice; give the second a suffix ({link}_...)")]
    LinkTwice { link: &'static str },
    #[error(
        "link {link} names tile {tile}, which has no instance; declare it, or leave the row out"
    )]
    NoSuchTile { link: &'static str, tile: &'static str },
    #[error("link {link} wants the one {tile}, but there are {count}; write each(\"{tile}\")")]
    NotOne { link: &'static str, tile: &'static str, count: usize },
    #[error("link {link} has no consumer; a frag nobody reads fills it for good")]
    NoConsumer { link: &'static str },
    #[error(
        "link {link}: its producer cannot be all(\"{tile}\"), a link has one producer; write each(\"{tile}\")"
    )]
    ManyProducers { link: &'static str, tile: &'static str },
    #[error(
        "link {link} mixes each(\"{tile}\") with other consumers; a link of its own cannot be shared: write all(\"{tile}\")"
    )]
    EachAmongMany { link: &'static str, tile: &'static str },
    #[error("link {link} names consumer {tile} twice")]
    ConsumerTwice { link: &'static str, tile: &'static str },
    #[error("link {link} joins {tile} to itself; a tile that waits for itself waits forever")]
    SelfLoop { link: &'static str, tile: &'static str },
    #[error(
        "link {link} should be named {expected}, after its producer and consumer (a suffix may follow)"
    )]
    Misnamed { link: &'static str, expected: String },
    #[error(
        "link {link} has depth {depth}; a depth is a power of two from {DEPTH_MIN} to {DEPTH_MAX}, try {nearest}"
    )]
    Depth { link: &'static str, depth: u32, nearest: u32 },
    #[error(
        "link {link} is {depth} deep but {tile} may publish {burst} frags in one call; raise the depth to at least \
         {burst} or lower the tile's BURST"
    )]
    Burst { link: &'static str, tile: &'static str, depth: u32, burst: u32 },
    #[error(
        "link {link} has a window of {window} frags and a depth of {depth}; its producer could block on it: raise the \
         depth to at least the window"
    )]
    Window { link: &'static str, window: u32, depth: u32 },
    #[error(
        "the lossless links {} form a cycle in which every tile can wait for the next; bound the replies of one of them \
         with .window(n)", .links.join(" -> ")
    )]
    Cycle { links: Vec<&'static str> },
    #[error("{tile}:{index} was placed, but there is no such instance")]
    Misplaced { tile: &'static str, index: usize },
    #[error("{tile}:{index} has no place; put it on a core or let it float")]
    Unplaced { tile: &'static str, index: usize },
    #[error("{tile}:{index} is placed on core {core}, but the machine has {cores} (0 to {})", .cores.saturating_sub(1))]
    NoSuchCore { tile: &'static str, index: usize, core: usize, cores: usize },
    #[error("link {row} cannot be built: {said}")]
    Ring { row: &'static str, said: String },
    #[error("link {link} is a tap and feeds tile {tile}; only external readers may be overrun")]
    TapToTile { link: &'static str, tile: &'static str },
    #[error("tile {tile} has no link: nothing feeds it and nothing hears it")]
    Unlinked { tile: &'static str },
    #[error(
        "{tile}:{index} has {links} links on one side; at most {LINKS_PER_TILE_MAX} can be polled"
    )]
    TooManyLinks { tile: &'static str, index: usize, links: usize },
    #[error(
        "the links take {need} bytes but may take {limit}; the largest is {largest} with {largest_bytes} in all: lower \
         depths or arenas, or give more memory"
    )]
    Memory { need: u64, limit: u64, largest: String, largest_bytes: u64 },
}

use TopologyError as E;

/// The rules that can be read off the rows.
pub(super) fn check(t: &Topology) -> Result<(), E> {
    let mut names = BTreeSet::new();
    for row in &t.tiles {
        if !names.insert(row.def.name) {
            return Err(E::TileTwice { tile: row.def.name });
        }
    }
    let mut links = BTreeSet::new();
    for row in &t.links {
        if !links.insert(row.name) {
            return Err(E::LinkTwice { link: row.name });
        }
        check_row(t, row)?;
    }
    if let Some(links) = unwindowed_cycle(t) {
        return Err(E::Cycle { links });
    }
    check_places(t)
}

fn check_row(t: &Topology, row: &LinkRow) -> Result<(), E> {
    let link = row.name;
    let producer = row.producer.tile();
    if let End::All(tile) = row.producer {
        return Err(E::ManyProducers { link, tile });
    }
    let Some(first) = row.consumers.first() else { return Err(E::NoConsumer { link }) };
    for end in std::iter::once(&row.producer).chain(&row.consumers) {
        let tile = end.tile();
        let count = count_of(t, tile);
        if count == 0 {
            return Err(E::NoSuchTile { link, tile });
        }
        if matches!(end, End::One(_)) && count != 1 {
            return Err(E::NotOne { link, tile, count });
        }
    }
    let mut seen = BTreeSet::new();
    for end in &row.consumers {
        let tile = end.tile();
        if tile == producer {
            return Err(E::SelfLoop { link, tile });
        }
        if row.consumers.len() > 1 && matches!(end, End::Each(_)) {
            return Err(E::EachAmongMany { link, tile });
        }
        let external = t.tiles.iter().any(|r| r.def.name == tile && r.def.external);
        if row.kind == Kind::Tap && !external {
            return Err(E::TapToTile { link, tile });
        }
        if !seen.insert(tile) {
            return Err(E::ConsumerTwice { link, tile });
        }
    }
    let named = row.consumers.iter().any(|c| {
        let rest = link.strip_prefix(producer).and_then(|r| r.strip_prefix('_'));
        rest.and_then(|r| r.strip_prefix(c.tile()))
            .is_some_and(|r| r.is_empty() || r.starts_with('_'))
    });
    if !named {
        return Err(E::Misnamed { link, expected: format!("{producer}_{}", first.tile()) });
    }
    if !row.depth.is_power_of_two() || !(DEPTH_MIN..=DEPTH_MAX).contains(&row.depth) {
        let nearest = row.depth.clamp(DEPTH_MIN, DEPTH_MAX).next_power_of_two();
        return Err(E::Depth { link, depth: row.depth, nearest });
    }
    let burst = t.tiles.iter().find(|x| x.def.name == producer).map_or(1, |x| x.def.burst);
    if burst > row.depth {
        return Err(E::Burst { link, tile: producer, depth: row.depth, burst });
    }
    if let Some(window) = row.window.filter(|w| *w > row.depth) {
        return Err(E::Window { link, window, depth: row.depth });
    }
    Ok(())
}

fn check_places(t: &Topology) -> Result<(), E> {
    if let Some(&(tile, index)) = t.misplaced.first() {
        return Err(E::Misplaced { tile, index });
    }
    for row in &t.tiles {
        let tile = row.def.name;
        for (index, place) in row.places.iter().enumerate() {
            match *place {
                Place::Nowhere => return Err(E::Unplaced { tile, index }),
                Place::Core(core) if core >= t.cores => {
                    return Err(E::NoSuchCore { tile, index, core, cores: t.cores });
                }
                Place::Core(_) | Place::Floating | Place::External => {}
            }
        }
        let touches =
            |l: &LinkRow| l.producer.tile() == tile || l.consumers.iter().any(|c| c.tile() == tile);
        if !row.places.is_empty() && !t.links.iter().any(touches) {
            return Err(E::Unlinked { tile });
        }
    }
    Ok(())
}

fn count_of(t: &Topology, tile: &str) -> usize {
    t.tiles.iter().find(|r| r.def.name == tile).map_or(0, |r| r.places.len())
}

/// A cycle of links on which a producer can wait: lossless and without a window.
fn unwindowed_cycle(t: &Topology) -> Option<Vec<&'static str>> {
    fn visit<'a>(
        waits: &[&'a LinkRow],
        tile: &'static str,
        path: &mut Vec<&'a LinkRow>,
        done: &mut BTreeSet<&'static str>,
    ) -> Option<Vec<&'static str>> {
        if let Some(start) = path.iter().position(|l| l.producer.tile() == tile) {
            return Some(path[start..].iter().map(|l| l.name).collect());
        }
        if done.contains(tile) {
            return None;
        }
        for link in waits.iter().filter(|l| l.producer.tile() == tile) {
            path.push(link);
            for consumer in &link.consumers {
                if let Some(cycle) = visit(waits, consumer.tile(), path, done) {
                    return Some(cycle);
                }
            }
            path.pop();
        }
        done.insert(tile);
        None
    }
    let waits: Vec<&LinkRow> =
        t.links.iter().filter(|l| l.kind == Kind::Lossless && l.window.is_none()).collect();
    let mut done = BTreeSet::new();
    t.tiles.iter().find_map(|row| visit(&waits, row.def.name, &mut Vec::new(), &mut done))
}

/// The rules that need every instance written out.
pub(super) fn check_plan(t: &Topology, plan: &Plan) -> Result<(), E> {
    for tile in &plan.tiles {
        let links = tile.ins.len().max(tile.outs.len());
        if links > LINKS_PER_TILE_MAX {
            return Err(E::TooManyLinks { tile: tile.name, index: tile.index, links });
        }
    }
    let need = plan.link_bytes();
    if let Some(limit) = t.memory_limit_bytes.filter(|limit| need > *limit) {
        let mut rows: Vec<(u64, &str)> = t
            .links
            .iter()
            .map(|row| {
                let of_row = plan.links.iter().filter(|l| l.row == row.name);
                (of_row.map(|l| l.bytes).sum(), row.name)
            })
            .collect();
        rows.sort_unstable();
        let (largest_bytes, largest) = rows.last().copied().unwrap_or_default();
        return Err(E::Memory { need, limit, largest: largest.into(), largest_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{all, each, one};
    use super::*;
    use Kind::*;

    /// A sound table, on which each test breaks one rule.
    fn sound() -> Topology {
        let mut t = Topology::new("test");
        t.external("submit", 1);
        t.toy("validate", 2);
        t.toy("shard", 2);
        t.toy("pack", 1);
        t.link("submit_validate", 64, 64, Shed, one("submit"), each("validate"));
        t.link("validate_shard", 64, 64, Lossless, each("validate"), each("shard"));
        t.link("shard_validate", 64, 64, Lossless, each("shard"), each("validate")).window(32);
        t.link("shard_pack", 64, 64, Lossless, each("shard"), one("pack"));
        t.cores(2).place("shard", 0, 0).place("shard", 1, 1).place("pack", 0, 0);
        t.place("validate", 0, 0).place("validate", 1, 1);
        t
    }

    fn refused(break_it: impl FnOnce(&mut Topology)) -> (E, String) {
        let mut t = sound();
        t.plan().expect("the table is sound before it is broken");
        break_it(&mut t);
        let error = t.plan().expect_err("the broken table must be refused");
        let text = error.to_string();
        (error, text)
    }

    #[test]
    fn a_tile_or_link_declared_twice_is_refused() {
        let (e, text) = refused(|t| {
            t.toy("pack", 1);
        });
        assert_eq!(e, E::TileTwice { tile: "pack" });
        assert!(text.contains("pack"), "{text}");
        let (e, _) = refused(|t| {
            t.link("shard_pack", 64, 64, Lossless, each("shard"), one("pack"));
        });
        assert_eq!(e, E::LinkTwice { link: "shard_pack" });
    }

    #[test]
    fn a_link_to_a_tile_that_is_not_there_is_refused() {
        let (e, _) = refused(|t| {
            t.link("pack_store", 64, 64, Lossless, one("pack"), one("store"));
        });
        assert_eq!(e, E::NoSuchTile { link: "pack_store", tile: "store" });
    }

    #[test]
    fn one_means_exactly_one() {
        let (e, text) = refused(|t| {
            t.link("pack_shard", 64, 64, Shed, one("pack"), one("shard"));
        });
        assert_eq!(e, E::NotOne { link: "pack_shard", tile: "shard", count: 2 });
        assert!(text.contains("each(\"shard\")"), "{text}");
    }

    #[test]
    fn a_link_has_one_producer_and_at_least_one_consumer() {
        let (e, _) = refused(|t| {
            t.link("shard_pack_b", 64, 64, Shed, all("shard"), one("pack"));
        });
        assert_eq!(e, E::ManyProducers { link: "shard_pack_b", tile: "shard" });
        let (e, _) = refused(|t| {
            t.link("pack_shard", 64, 64, Shed, one("pack"), []);
        });
        assert_eq!(e, E::NoConsumer { link: "pack_shard" });
    }

    #[test]
    fn consumers_of_one_link_are_distinct_and_share_it() {
        let (e, _) = refused(|t| {
            t.link("pack_shard", 64, 64, Shed, one("pack"), [all("shard"), all("shard")]);
        });
        assert_eq!(e, E::ConsumerTwice { link: "pack_shard", tile: "shard" });
        let (e, _) = refused(|t| {
            t.link("pack_shard", 64, 64, Shed, one("pack"), [each("shard"), all("validate")]);
        });
        assert_eq!(e, E::EachAmongMany { link: "pack_shard", tile: "shard" });
    }

    #[test]
    fn a_tile_never_sends_to_itself() {
        let (e, _) = refused(|t| {
            t.link("shard_shard", 64, 64, Shed, each("shard"), each("shard"));
        });
        assert_eq!(e, E::SelfLoop { link: "shard_shard", tile: "shard" });
    }

    #[test]
    fn a_link_is_named_after_its_ends() {
        let (e, text) = refused(|t| {
            t.link("accepted", 64, 64, Shed, one("pack"), each("shard"));
        });
        assert_eq!(e, E::Misnamed { link: "accepted", expected: "pack_shard".into() });
        assert!(text.contains("pack_shard"), "{text}");
        let mut t = sound();
        t.link("pack_shard_blocks", 64, 64, Shed, one("pack"), each("shard"));
        t.plan().expect("a suffix is allowed");
    }

    #[test]
    fn a_depth_is_a_power_of_two_and_at_least_two() {
        for (depth, nearest) in [(0, 2), (1, 2), (3, 4), (100, 128), (u32::MAX, DEPTH_MAX)] {
            let (e, _) = refused(|t| t.links[0].depth = depth);
            assert_eq!(e, E::Depth { link: "submit_validate", depth, nearest });
        }
    }

    #[test]
    fn a_burst_fits_its_link() {
        let (e, text) = refused(|t| t.tiles[2].def.burst = 65);
        assert!(matches!(e, E::Burst { burst: 65, depth: 64, tile: "shard", .. }), "{e:?}");
        assert!(text.contains("65") && text.contains("64"), "{text}");
    }

    #[test]
    fn a_window_fits_its_link() {
        let (e, _) = refused(|t| t.links[2].window = Some(65));
        assert_eq!(e, E::Window { link: "shard_validate", window: 65, depth: 64 });
    }

    #[test]
    fn a_cycle_of_lossless_links_needs_a_window() {
        let (e, text) = refused(|t| t.links[2].window = None);
        assert_eq!(e, E::Cycle { links: vec!["validate_shard", "shard_validate"] });
        assert!(text.contains("validate_shard -> shard_validate"), "{text}");
        let (e, _) = refused(|t| {
            t.link("pack_validate", 64, 64, Lossless, one("pack"), each("validate"));
        });
        assert_eq!(e, E::Cycle { links: vec!["validate_shard", "shard_pack", "pack_validate"] });
    }

    #[test]
    fn a_cycle_through_a_link_that_sheds_cannot_hang() {
        let mut t = sound();
        t.link("pack_validate", 64, 64, Shed, one("pack"), each("validate"));
        t.plan().expect("the producer of a shed link never waits");
    }

    #[test]
    fn every_instance_has_a_place_on_a_core_that_exists() {
        let (e, _) = refused(|t| t.tiles[1].places[1] = Place::Nowhere);
        assert_eq!(e, E::Unplaced { tile: "validate", index: 1 });
        let (e, text) = refused(|t| {
            t.place("pack", 0, 2);
        });
        assert_eq!(e, E::NoSuchCore { tile: "pack", index: 0, core: 2, cores: 2 });
        assert!(text.contains("0 to 1"), "{text}");
        let (e, _) = refused(|t| {
            t.place("pack", 1, 0);
        });
        assert_eq!(e, E::Misplaced { tile: "pack", index: 1 });
    }

    #[test]
    fn a_tile_without_a_link_is_refused() {
        let (e, _) = refused(|t| {
            t.toy("idle", 1).place("idle", 0, 0);
        });
        assert_eq!(e, E::Unlinked { tile: "idle" });
    }

    #[test]
    fn the_memory_of_all_links_is_summed_before_boot() {
        let (e, text) = refused(|t| {
            t.links[3].arena(1 << 30);
            t.memory_limit(1 << 20);
        });
        assert!(matches!(&e, E::Memory { largest, .. } if largest == "shard_pack"), "{e:?}");
        assert!(text.contains("shard_pack"), "{text}");
    }
}
