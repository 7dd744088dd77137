//! Rules about the prose: titles, links, and commands that a reader will type.
//!
//! In: the markdown files and the manifests. Out: findings. A command that README or docs name must be run by something in
//! this repository; the table [`RUN_BY`] says by what, and a test holds that what it names exists.

use super::arrows::Manifest;
use super::{Finding, Source};
use crate::tree;

/// Commands that README and docs may name, and the part of `cargo xtask test` (or the CI entry) that runs them. A command
/// matches when it starts with the entry.
#[rustfmt::skip]
const RUN_BY: &[(&str, &str)] = &[
    ("cargo xtask setup",                             ".ci/run"),
    ("cargo xtask test",                              ".ci/run"),
    ("cargo xtask tidy",                              "part tidy"),
    ("cargo run --release -- demo",                   "part demo"),
    ("cargo run --release -- run",                    "control-plane/tests/run.rs"),
    ("cargo run --release -- topo",                   "part topo"),
    ("metanode topo",                                 "part topo"),
    ("metanode hw",                                   "control-plane/tests/hw.rs"),
    ("metanode run",                                  "control-plane/tests/run.rs"),
    ("metanode version",                              "control-plane/tests/run.rs"),
    ("metanode dump",                                 "control-plane/tests/run.rs"),
    ("metanode top",                                  "control-plane/tests/run.rs"),
    ("metanode config",                               "control-plane/tests/run.rs"),
    ("metanode relay status --node",                  "control-plane/tests/node_relay.rs"),
    ("metanode relay",                                "control-plane/tests/relay/main.rs"),
    ("metanode load",                                 "control-plane/tests/load.rs"),
    ("cargo run --release -p bench -- storm",         "part storm"),
    ("cargo xtask rate",                              "part rate"),
    ("cargo test -p relay --test fuzz_corpora",       "part tests"),
    ("cargo xtask net",                               "part net"),
    ("cargo xtask crash",                             "part crash"),
    ("cargo xtask hostile",                           "part hostile"),
    ("cargo run --release -- verify-block",           "part verify-block"),
    ("cargo run --release -p bench -- relay",         "part race"),
    ("cargo run --release -p bench -- emulate",       "part emulate"),
    ("cargo run --release -p bench -- vectors",       "part vectors"),
    ("cargo run --release -p bench -- oracle",        "part oracle"),
    ("cargo run --release -p bench -- sim",           "part sim"),
    ("cargo run --release -p bench -- ring",          "part ring-gate"),
    ("cargo run --release -p bench -- pipeline",      "part pipeline"),
    ("cargo run --release -p bench -- consensus",     "part instructions"),
    ("cargo run --release -p bench -- utxo",          "part utxo"),
    ("cargo run --release -p bench --features rivals -- utxo", "part utxo-rivals"),
    ("cargo run --release -- utxo",                   "control-plane/tests/utxo.rs"),
    ("metanode utxo reshard",                         "control-plane/tests/utxo_node.rs"),
    ("metanode utxo",                                 "control-plane/tests/utxo.rs"),
];

const TWO_COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo xtask test"];

fn markdown(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.is("md"))
}

/// A line of markdown and whether it stands in a fenced block.
fn lines(text: &str) -> impl Iterator<Item = (usize, bool, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        Some((number + 1, fenced, line))
    })
}

/// Every markdown file has exactly one `# ` line.
pub fn one_title(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in markdown(sources) {
        let titles =
            lines(&source.text).filter(|(_, fenced, line)| !fenced && line.starts_with("# "));
        let count = titles.count();
        if count != 1 {
            findings.push(Finding::new(
                &source.path,
                1,
                format!("{count} titles (`# `), want one"),
            ));
        }
    }
    findings
}

/// Relative links lead to files of the checkout.
pub fn links(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in markdown(sources) {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (number, fenced, line) in lines(&source.text) {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for target in targets.filter(|_| !fenced) {
                let path = target.split('#').next().unwrap_or_default();
                if path.is_empty() || path.contains("://") {
                    continue;
                }
                if !tree::root().join(folder).join(path).exists() {
                    findings.push(Finding::new(
                        &source.path,
                        number,
                        format!("no such file: {target}"),
                    ));
                }
            }
        }
    }
    findings
}

/// The README's first code block is the two commands of the house.
pub fn readme_commands(sources: &[Source]) -> Vec<Finding> {
    let Some(readme) = sources.iter().find(|source| source.path == "README.md") else {
        return vec![Finding::new("README.md", 1, "there is no README")];
    };
    let first_block: Vec<&str> = readme
        .text
        .lines()
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .collect();
    if first_block == TWO_COMMANDS {
        return Vec::new();
    }
    let text = format!("the first code block is {first_block:?}, want exactly {TWO_COMMANDS:?}");
    vec![Finding::new("README.md", 1, text)]
}

/// Every `cargo ...` and `metanode ...` command in README and docs starts with an entry of [`RUN_BY`].
pub fn commands_are_run(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in markdown(sources).filter(|s| s.path == "README.md" || s.path.starts_with("docs/"))
    {
        for (number, command) in commands(&source.text) {
            if !RUN_BY.iter().any(|(run, _)| command.starts_with(run)) {
                let text = format!(
                    "`{command}` is run by nothing: give it a part and a row in RUN_BY, \
                     bench/xtask/src/tidy/docs.rs"
                );
                findings.push(Finding::new(&source.path, number, text));
            }
        }
    }
    findings
}

/// Commands in fenced lines and in inline code.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, fenced, line) in lines(text) {
        let pieces: Vec<&str> =
            if fenced { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for piece in pieces {
            let command = piece.trim().trim_start_matches("$ ");
            if ["cargo ", "metanode "].iter().any(|program| command.starts_with(program)) {
                found.push((number, command.to_owned()));
            }
        }
    }
    found
}

/// Crates.io packages of the manifests and rows of docs/dependencies.md are the same set. A row names its crate in
/// backticks in the first column; rows under "Not used yet" are for crates that no manifest may name.
pub fn dependencies(sources: &[Source]) -> Vec<Finding> {
    const PAGE: &str = "docs/dependencies.md";
    let Some(page) = sources.iter().find(|source| source.path == PAGE) else {
        return vec![Finding::new(PAGE, 1, "the page is missing")];
    };
    let mut rows: Vec<(String, usize, bool)> = Vec::new();
    let mut not_yet = false;
    for (number, line) in page.text.lines().enumerate() {
        if line.starts_with("## ") {
            not_yet = line.contains("Not used yet");
        }
        if let Some(rest) = line.strip_prefix("| `") {
            let name = rest.split('`').next().unwrap_or_default();
            rows.push((name.to_owned(), number + 1, not_yet));
        }
    }
    let mut findings = Vec::new();
    let mut used: Vec<String> = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        for (name, line) in Manifest::read(&source.text).uses {
            if Manifest::is_ours(&name) || source.path == "Cargo.toml" {
                continue;
            }
            if !rows.iter().any(|(row, _, not_yet)| *row == name && !not_yet) {
                let text = format!("`{name}` has no row in {PAGE}: where does it serve, and why?");
                findings.push(Finding::new(&source.path, line, text));
            }
            used.push(name);
        }
    }
    for (row, line, not_yet) in &rows {
        if used.contains(row) == *not_yet {
            let text =
                if *not_yet { "is used by now; move its row" } else { "is used by no manifest" };
            findings.push(Finding::new(PAGE, *line, format!("`{row}` {text}")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::PARTS;

    #[test]
    fn what_the_table_says_runs_a_command_exists() {
        for (command, run_by) in RUN_BY {
            let exists = match run_by.strip_prefix("part ") {
                Some(name) => PARTS.iter().any(|part| part.name == name),
                None => tree::root().join(run_by).exists(),
            };
            assert!(exists, "`{command}` is said to be run by {run_by}, which is not there");
        }
    }

    #[test]
    fn a_second_title_a_dead_link_and_an_untested_command_are_found() {
        let page = "# One\n\n# Two\n[x](no/such/file.rs) and `cargo frobnicate --all`\n";
        let sources = [Source::planted("docs/x.md", page)];
        assert_eq!(one_title(&sources).len(), 1);
        assert_eq!(links(&sources).len(), 1);
        assert_eq!(commands_are_run(&sources).len(), 1);
    }

    #[test]
    fn a_readme_whose_first_block_is_not_the_two_commands_is_found() {
        let good = "# M\n```sh\ncargo run --release -- demo\ncargo xtask test\n```\n";
        assert!(readme_commands(&[Source::planted("README.md", good)]).is_empty());
        let bad = "# M\n```sh\ncargo build\ncargo xtask test\n```\n";
        assert_eq!(readme_commands(&[Source::planted("README.md", bad)]).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_found() {
        let page = "# D\n| `sha2` | x |\n## Not used yet\n| `rayon` | x |\n| `loom` | x |\n";
        let manifest = "[package]\nname = \"ring\"\n[dependencies]\nlibc = \"1\"\nloom = \"1\"\n";
        let sources = [
            Source::planted("docs/dependencies.md", page),
            Source::planted("dataplane/ring/Cargo.toml", manifest),
        ];
        let found: Vec<String> = dependencies(&sources).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 4, "{found:?}");
    }
}
