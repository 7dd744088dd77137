//! A plan for people and for programs: a table, a graph for Graphviz, JSON.

use std::fmt::{self, Write as _};

use super::{Kind, Place, Plan, TilePlan};

impl Plan {
    /// The plan as a Graphviz graph: tiles grouped by core, one arrow a row of the table.
    pub fn dot(&self) -> String {
        let mut out =
            format!("digraph {} {{\n  rankdir=LR;\n  node [shape=box];\n", quoted(self.name));
        for core in 0..self.cores {
            let _ = writeln!(out, "  subgraph cluster_core{core} {{\n    label=\"core {core}\";");
            for tile in self.tiles_of_core(core) {
                let _ = writeln!(out, "    {};", quoted(&self.tiles[tile].label()));
            }
            out.push_str("  }\n");
        }
        for tile in self.tiles.iter().filter(|t| !matches!(t.place, Place::Core(_))) {
            let _ = writeln!(out, "  {} [style=dashed];", quoted(&tile.label()));
        }
        for link in &self.links {
            let from = quoted(&self.tiles[link.producer.tile].label());
            let style = match link.kind {
                Kind::Lossless => "solid",
                Kind::Shed => "dashed",
                Kind::Tap => "dotted",
            };
            for consumer in &link.consumers {
                let to = quoted(&self.tiles[consumer.tile].label());
                let label = quoted(link.row);
                let _ = writeln!(out, "  {from} -> {to} [label={label}, style={style}];");
            }
        }
        out.push_str("}\n");
        out
    }

    /// The plan as one JSON object.
    pub fn json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("link_bytes".into(), self.link_bytes().into());
            object.insert("layout_hash".into(), format!("{:016x}", self.layout_hash()).into());
        }
        value
    }

    fn tiles_where(&self, place: impl Fn(Place) -> bool) -> String {
        let names: Vec<_> =
            self.tiles.iter().filter(|t| place(t.place)).map(TilePlan::label).collect();
        names.join(" ")
    }
}

/// One row of the printed table: all instances of one row of the topology.
struct Row<'a> {
    name: &'a str,
    links: usize,
    depth: u32,
    mtu: u32,
    kind: Kind,
    window: Option<u32>,
    arena_bytes: u64,
    bytes: u64,
    producer: &'static str,
    consumers: Vec<&'static str>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for link in &self.links {
            let at = rows.iter().position(|r| r.name == link.row).unwrap_or_else(|| {
                let mut consumers: Vec<_> =
                    link.consumers.iter().map(|c| self.tiles[c.tile].name).collect();
                consumers.dedup();
                rows.push(Row {
                    name: link.row,
                    links: 0,
                    depth: link.depth,
                    mtu: link.mtu,
                    kind: link.kind,
                    window: link.window,
                    arena_bytes: link.arena_bytes,
                    bytes: 0,
                    producer: self.tiles[link.producer.tile].name,
                    consumers,
                });
                rows.len() - 1
            });
            rows[at].links += 1;
            rows[at].bytes += link.bytes;
        }
        let tiles = self.tiles.len();
        writeln!(
            f,
            "topology {}: {tiles} tiles, {} links, {} of memory, layout {:016x}\n",
            self.name,
            self.links.len(),
            size(self.link_bytes()),
            self.layout_hash()
        )?;
        writeln!(
            f,
            "{:<26} {:>5} {:>8} {:>8} {:<8} {:>7} {:>10} {:>10}  producer -> consumers",
            "link", "links", "depth", "mtu", "kind", "window", "arena", "memory"
        )?;
        for r in &rows {
            writeln!(
                f,
                "{:<26} {:>5} {:>8} {:>8} {:<8} {:>7} {:>10} {:>10}  {} -> {}",
                r.name,
                r.links,
                r.depth,
                r.mtu,
                format!("{:?}", r.kind),
                r.window.map_or_else(|| "-".into(), |w| w.to_string()),
                if r.arena_bytes == 0 { "-".into() } else { size(r.arena_bytes) },
                size(r.bytes),
                r.producer,
                r.consumers.join(", ")
            )?;
        }
        writeln!(f)?;
        for core in 0..self.cores {
            writeln!(f, "core {core:<4} {}", self.tiles_where(|p| p == Place::Core(core)))?;
        }
        for (label, place) in [("floating", Place::Floating), ("external", Place::External)] {
            let tiles = self.tiles_where(|p| p == place);
            if !tiles.is_empty() {
                writeln!(f, "{label:<9} {tiles}")?;
            }
        }
        Ok(())
    }
}

/// Bytes for people, in binary units.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Topology, each, one};
    use super::*;

    fn plan() -> Plan {
        let mut t = Topology::new("test");
        t.external("submit", 1);
        t.toy("validate", 2);
        t.link("submit_validate", 64, 64, Kind::Shed, one("submit"), each("validate"))
            .arena(1 << 20);
        t.cores(2).place("validate", 0, 0).place("validate", 1, 1);
        t.plan().expect("sound")
    }

    #[test]
    fn the_table_shows_links_cores_and_memory() {
        let text = plan().to_string();
        for part in
            ["submit_validate", "Shed", "1.0 MiB", "core 0    validate:0", "external  submit:0"]
        {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_graph_has_every_tile_and_every_link() {
        let dot = plan().dot();
        assert!(
            dot.contains(
                "\"submit:0\" -> \"validate:1\" [label=\"submit_validate\", style=dashed]"
            )
        );
        assert!(dot.contains("cluster_core1"), "{dot}");
    }

    #[test]
    fn the_json_names_links_tiles_and_the_layout() {
        let json = plan().json();
        assert_eq!(json["links"][1]["name"], "submit_validate:0.1");
        assert_eq!(json["tiles"][1]["place"]["Core"], 0);
        assert_eq!(json["layout_hash"].as_str().map(str::len), Some(16));
    }

    #[test]
    fn the_layout_hash_changes_with_the_layout_only() {
        let (a, mut b) = (plan(), plan());
        assert_eq!(a.layout_hash(), b.layout_hash());
        b.links[0].depth *= 2;
        assert_ne!(a.layout_hash(), b.layout_hash());
    }
}
