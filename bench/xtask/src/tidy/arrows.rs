//! The arrows of the house: which crate may use which, read from the manifests.
//!
//! In: every `Cargo.toml`. Out: findings for an arrow that design.md section 2 does not draw, and for a crate it does not
//! name. Normal, dev and build dependencies count alike.

use super::{Finding, Source};

/// A crate, its folder, and the crates of ours it may use.
type Room = (&'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const ROOMS: [Room; 13] = [
    ("consensus",     "dataplane/consensus", &[]),
    ("sigbatch",      "dataplane/sigbatch",  &[]),
    ("ring",          "dataplane/ring",      &[]),
    ("dataplane",     "dataplane",           &["consensus", "sigbatch", "ring"]),
    ("utxo-shard",    "utxo-shard",          &["consensus", "ring", "dataplane"]),
    ("relay",         "relay",               &["ring", "dataplane", "consensus", "sigbatch"]),
    ("hwconfig",      "hwconfig",            &[]),
    ("emulator",      "bench/emulator",      &["dataplane"]),
    ("load",          "bench/load",          &["consensus", "sigbatch", "ring", "dataplane"]),
    ("control-plane", "control-plane",       &["consensus", "sigbatch", "ring", "dataplane", "utxo-shard", "relay", "hwconfig", "load"]),
    ("sim",           "bench/sim",           &["consensus", "sigbatch", "ring", "dataplane", "utxo-shard", "relay", "hwconfig", "load"]),
    ("bench",         "bench",               &["consensus", "sigbatch", "ring", "dataplane", "utxo-shard", "relay", "hwconfig", "emulator", "load", "sim", "control-plane"]),
    ("xtask",         "bench/xtask",         &[]),
];

/// Async runtimes live in the control plane (and in what measures it) only.
const RUNTIMES: [&str; 2] = ["tokio", "async-std"];
const MAY_HAVE_RUNTIME: [&str; 2] = ["control-plane", "bench"];

/// Compares every manifest with the table.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let Some(folder) = source.path.strip_suffix("/Cargo.toml") else { continue };
        let manifest = Manifest::read(&source.text);
        let allowed: &[&str] = if let Some(owner) = folder.strip_suffix("/fuzz") {
            // Fuzz targets are a package of their own, outside the workspace; they see their crate only.
            let owner = ROOMS.iter().find(|(_, at, _)| *at == owner);
            owner.map_or(&[], |(name, _, _)| std::slice::from_ref(name))
        } else if let Some((_, _, allowed)) =
            ROOMS.iter().find(|(name, at, _)| *at == folder && *name == manifest.name)
        {
            allowed
        } else {
            let text =
                format!("crate `{}` in {folder} is not in design.md section 2", manifest.name);
            findings.push(Finding::new(&source.path, 1, text));
            continue;
        };
        for (used, line) in &manifest.uses {
            let ours = ROOMS.iter().any(|(name, _, _)| name == used);
            if ours && !allowed.contains(&used.as_str()) {
                let text =
                    format!("`{}` may not use `{used}`: no such arrow in design.md", manifest.name);
                findings.push(Finding::new(&source.path, *line, text));
            }
            if RUNTIMES.contains(&used.as_str())
                && !MAY_HAVE_RUNTIME.contains(&manifest.name.as_str())
            {
                let text = format!("`{used}` belongs to control-plane only");
                findings.push(Finding::new(&source.path, *line, text));
            }
        }
    }
    findings
}

/// What tidy reads of a manifest.
pub struct Manifest {
    /// The package's name.
    pub name: String,
    /// Dependencies of every kind, with their lines.
    pub uses: Vec<(String, usize)>,
}

impl Manifest {
    /// Reads the subset of TOML that our manifests are written in: one key a line.
    pub fn read(text: &str) -> Self {
        let mut name = String::new();
        let mut uses = Vec::new();
        let mut section = "";
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_matches(['[', ']']);
                if let Some((_, used)) = section.rsplit_once("dependencies.") {
                    uses.push((used.trim_matches('"').to_owned(), number + 1));
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let key = key.trim().split('.').next().unwrap_or_default().trim_matches('"');
            if section == "package" && key == "name" {
                value.trim().trim_matches('"').clone_into(&mut name);
            }
            let is_key =
                !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "-_".contains(c));
            if section.ends_with("dependencies") && section != "workspace.dependencies" && is_key {
                uses.push((key.to_owned(), number + 1));
            }
        }
        Self { name, uses }
    }

    /// Whether `name` is one of our own crates.
    pub fn is_ours(name: &str) -> bool {
        ROOMS.iter().any(|(ours, _, _)| *ours == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_that_the_design_does_not_draw_is_found() {
        let text = "[package]\nname = \"utxo-shard\"\n[dependencies]\nring.workspace = true\n\
                    [dev-dependencies]\nrelay = { path = \"../relay\" }\n";
        let findings = check(&[Source::planted("utxo-shard/Cargo.toml", text)]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].line, 6);
    }

    #[test]
    fn a_crate_that_the_design_does_not_name_and_a_runtime_in_a_tile_are_found() {
        let unknown = Source::planted("relay/extra/Cargo.toml", "[package]\nname = \"extra\"\n");
        let runtime =
            "[package]\nname = \"ring\"\n[target.'cfg(unix)'.dependencies]\ntokio = \"1\"\n";
        let runtime = Source::planted("dataplane/ring/Cargo.toml", runtime);
        assert_eq!(check(&[unknown, runtime]).len(), 2);
    }

    #[test]
    fn fuzz_targets_see_their_own_crate_only() {
        let text = "[package]\nname = \"consensus-fuzz\"\n[dependencies.consensus]\npath = \"..\"\n\
                    [dependencies]\nring = \"1\"\n";
        let findings = check(&[Source::planted("dataplane/consensus/fuzz/Cargo.toml", text)]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].line, 6);
    }
}
