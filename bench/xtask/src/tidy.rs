//! The rules about the checkout that no compiler holds: `cargo xtask tidy`, and one test for each.
//!
//! In: the tracked and new files. Out: findings, each with its place and what to do instead. A rule is a function from
//! files to findings, in the table below; adding one adds a row and a test that plants a violation.

mod arrows;
mod bans;
mod docs;
mod folders;
mod lex;
mod sources;

use crate::tree;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

/// A place that breaks a rule, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    path: String,
    line: usize,
    text: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// A file of the checkout with its text (empty for files that are not text).
pub struct Source {
    path: String,
    text: String,
    bytes: u64,
}

impl Source {
    #[cfg(test)]
    fn planted(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), bytes: text.len() as u64 }
    }

    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    fn is_rust(&self) -> bool {
        self.is("rs")
    }
}

type Rule = (&'static str, fn(&[Source]) -> Vec<Finding>);

#[rustfmt::skip]
const RULES: [Rule; 12] = [
    ("a crate uses only what the design lets it use",                 arrows::check),
    ("`unsafe` lives in a short list of modules",                     sources::unsafe_list),
    ("every Rust file starts with its module docs",                   sources::module_docs),
    ("files stay readable in one sitting",                            sources::length),
    ("banned items have a replacement",                               bans::check),
    ("top-level folders are the rooms of the house",                  folders::top_level),
    ("no large blob is committed",                                    folders::blobs),
    ("a markdown file has one title",                                 docs::one_title),
    ("links in markdown lead to files that are there",                docs::links),
    ("the README starts with two commands",                           docs::readme_commands),
    ("every command named in README and docs is run by a test",       docs::commands_are_run),
    ("docs/dependencies.md lists what the manifests use",             docs::dependencies),
];

/// Prints every finding; exit code 1 when there is one.
pub fn main(_args: &[String]) -> ExitCode {
    let sources = load();
    let mut broken = 0;
    for (rule, check) in RULES {
        let findings = check(&sources);
        for finding in &findings {
            println!("{finding}  [{rule}]");
        }
        broken += usize::from(!findings.is_empty());
    }
    println!("tidy: {} files, {} rules, {broken} broken", sources.len(), RULES.len());
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn load() -> Vec<Source> {
    let root = tree::root();
    tree::files()
        .into_iter()
        .map(|path| {
            let bytes = std::fs::metadata(root.join(&path)).map_or(0, |meta| meta.len());
            let text = std::fs::read_to_string(root.join(&path)).unwrap_or_default();
            Source { path, text, bytes }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkout_breaks_no_rule() {
        let sources = load();
        assert!(sources.len() > 20, "{} files: is this a checkout?", sources.len());
        let mut findings = Vec::new();
        for (rule, check) in RULES {
            findings.extend(check(&sources).iter().map(|found| format!("{found}  [{rule}]")));
        }
        assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
    }
}
