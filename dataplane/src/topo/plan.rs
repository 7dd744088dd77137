//! The table with every instance written out: what will be built, and nothing else.

use serde::Serialize;

use super::{End, Kind, LinkRow, Place, Topology, TopologyError};

/// One end of a link instance: which tile, and which of its links on that side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Index into [`Plan::tiles`].
    pub tile: usize,
    /// Position among the tile's in-links (or out-links).
    pub port: usize,
}

/// One link instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkPlan {
    /// `row:producer` or, where each pair has its own, `row:producer.consumer`.
    pub name: String,
    /// The row of the table.
    pub row: &'static str,
    /// Frags it holds.
    pub depth: u32,
    /// Largest payload in line, in bytes.
    pub mtu: u32,
    /// What its producer does without credit.
    #[serde(serialize_with = "kind_name")]
    pub kind: Kind,
    /// Most frags in flight, where that is bounded by requests.
    pub window: Option<u32>,
    /// Bytes of the arena beside it for larger frags.
    pub arena_bytes: u64,
    /// Most frags its producer publishes in one call.
    pub burst: u32,
    /// Who publishes.
    pub producer: Peer,
    /// Who reads.
    pub consumers: Vec<Peer>,
    /// Memory it takes.
    pub bytes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde gives a reference
fn kind_name<S: serde::Serializer>(kind: &Kind, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(kind.name())
}

/// One tile instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TilePlan {
    /// The tile's name.
    pub name: &'static str,
    /// Its number among those of that name.
    pub index: usize,
    /// Where it turns.
    pub place: Place,
    /// Its in-links (indices into [`Plan::links`]), first polled first.
    pub ins: Vec<usize>,
    /// Its out-links.
    pub outs: Vec<usize>,
    #[serde(skip)]
    pub(super) counters: &'static [crate::metrics::CounterDef],
}

impl TilePlan {
    /// `name:index`.
    pub fn label(&self) -> String {
        format!("{}:{}", self.name, self.index)
    }
}

/// A checked machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The table's name.
    pub name: &'static str,
    /// Cores for tiles.
    pub cores: usize,
    /// Every tile instance.
    pub tiles: Vec<TilePlan>,
    /// Every link instance.
    pub links: Vec<LinkPlan>,
}

impl Plan {
    /// Memory of all links.
    pub fn link_bytes(&self) -> u64 {
        self.links.iter().map(|l| l.bytes).sum()
    }

    /// Tiles of each core, in the order of the table.
    pub fn tiles_of_core(&self, core: usize) -> impl Iterator<Item = usize> {
        self.tiles
            .iter()
            .enumerate()
            .filter(move |(_, t)| t.place == Place::Core(core))
            .map(|(i, _)| i)
    }

    /// A number that differs where the memory layout differs: two processes that share links compare it first.
    pub fn layout_hash(&self) -> u64 {
        // FNV-1a: not against an adversary, only against a different build or configuration.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |bytes: &[u8]| {
            for b in bytes {
                hash = (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
            }
            hash = hash.wrapping_mul(0x0100_0000_01b3);
        };
        for tile in &self.tiles {
            eat(tile.name.as_bytes());
            eat(&(tile.index as u64).to_le_bytes());
            for counter in tile.counters {
                eat(counter.name.as_bytes());
            }
        }
        for link in &self.links {
            eat(link.name.as_bytes());
            let consumers = link.consumers.iter().map(|c| c.tile as u64);
            let shape =
                [u64::from(link.depth), u64::from(link.mtu), link.kind as u64, link.arena_bytes];
            for n in shape
                .into_iter()
                .chain([link.burst.into(), link.producer.tile as u64])
                .chain(consumers)
            {
                eat(&n.to_le_bytes());
            }
        }
        hash
    }
}

/// Writes out every instance of `t`, whose rows have been checked.
pub(super) fn expand(t: &Topology) -> Result<Plan, TopologyError> {
    let mut tiles: Vec<TilePlan> = t
        .tiles
        .iter()
        .flat_map(|row| {
            row.places.iter().enumerate().map(|(index, &place)| TilePlan {
                name: row.def.name,
                index,
                place,
                ins: Vec::new(),
                outs: Vec::new(),
                counters: row.def.counters,
            })
        })
        .collect();
    let instances = |tiles: &[TilePlan], end: End| -> Vec<usize> {
        (0..tiles.len()).filter(|&i| tiles[i].name == end.tile()).collect()
    };
    let mut links: Vec<LinkPlan> = Vec::new();
    for row in &t.links {
        let burst =
            t.tiles.iter().find(|x| x.def.name == row.producer.tile()).map_or(1, |x| x.def.burst);
        for &producer in &instances(&tiles, row.producer) {
            // Each pair has a link of its own; otherwise all consumers share the producer's.
            let from = tiles[producer].index;
            let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
            if let [End::Each(_)] = row.consumers[..] {
                for consumer in instances(&tiles, row.consumers[0]) {
                    let to = tiles[consumer].index;
                    groups.push((format!("{}:{from}.{to}", row.name), vec![consumer]));
                }
            } else {
                let readers = row.consumers.iter().flat_map(|&e| instances(&tiles, e)).collect();
                groups.push((format!("{}:{from}", row.name), readers));
            }
            for (name, readers) in groups {
                let link = links.len();
                let from = Peer { tile: producer, port: tiles[producer].outs.len() };
                tiles[producer].outs.push(link);
                let consumers = readers
                    .iter()
                    .map(|&tile| {
                        let port = tiles[tile].ins.len();
                        tiles[tile].ins.push(link);
                        Peer { tile, port }
                    })
                    .collect();
                links.push(link_plan(row, name, burst, from, consumers)?);
            }
        }
    }
    Ok(Plan { name: t.name, cores: t.cores, tiles, links })
}

fn link_plan(
    row: &LinkRow,
    name: String,
    burst: u32,
    producer: Peer,
    consumers: Vec<Peer>,
) -> Result<LinkPlan, TopologyError> {
    let mut link = LinkPlan {
        name,
        row: row.name,
        depth: row.depth,
        mtu: row.mtu,
        kind: row.kind,
        window: row.window,
        arena_bytes: row.arena_bytes,
        burst,
        producer,
        consumers,
        bytes: 0,
    };
    link.bytes = super::build::link_bytes(&link)?;
    Ok(link)
}
