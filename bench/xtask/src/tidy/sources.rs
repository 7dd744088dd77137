//! Rules about Rust files: module docs first, `unsafe` only where the list says, no file too long to read.
//!
//! In: the files. Out: findings. The list of modules with `unsafe` is here and nowhere else.

use super::{Finding, Source, lex};

/// Modules that may contain `unsafe`, and do: one that has none leaves the list.
const UNSAFE_MODULES: [&str; 18] = [
    "bench/emulator/src/sys.rs",
    "dataplane/ring/src/region.rs",
    "dataplane/ring/src/dcache.rs",
    "dataplane/ring/src/words.rs",
    "dataplane/src/mem/seal.rs",
    "dataplane/src/driver/pin.rs",
    "dataplane/sigbatch/src/hasher.rs",
    "dataplane/sigbatch/src/ifma/zmm.rs",
    "dataplane/sigbatch/src/lanes.rs",
    "dataplane/sigbatch/src/streams.rs",
    "dataplane/sigbatch/tests/allocations.rs",
    "hwconfig/src/flows.rs",
    "relay/src/fec/x86.rs",
    "relay/src/io/sys.rs",
    "relay/src/io/uring.rs",
    "relay/src/io/uring_buffers.rs",
    "utxo-shard/src/disk/uring.rs",
    "utxo-shard/src/table.rs",
];

/// Lines after which a file is two files.
const LINES_MAX: usize = 1_000;

/// `unsafe` stands in listed modules only, and crates without one forbid it.
pub fn unsafe_list(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let lines = lex::find_word(&lex::code_only(&source.text), "unsafe");
        let listed = UNSAFE_MODULES.contains(&source.path.as_str());
        if listed && lines.is_empty() {
            let text =
                "has no `unsafe` any more: take it off the list in bench/xtask/src/tidy/sources.rs";
            findings.push(Finding::new(&source.path, 1, text));
        }
        for line in lines.into_iter().filter(|_| !listed) {
            let text = "`unsafe` outside the listed modules; move it into one, or argue for a new one \
                        in bench/xtask/src/tidy/sources.rs";
            findings.push(Finding::new(&source.path, line, text));
        }
        if let Some(folder) = crate_root_folder(&source.path) {
            let has_list = UNSAFE_MODULES.iter().any(|module| module.starts_with(folder));
            let word = if has_list { "deny" } else { "forbid" };
            if !source.text.contains(&format!("#![{word}(unsafe_code)]")) {
                let text = format!("a crate root says `#![{word}(unsafe_code)]`");
                findings.push(Finding::new(&source.path, 1, text));
            }
        }
    }
    findings
}

/// `x/src/` when the path is the root file of a library or program.
fn crate_root_folder(path: &str) -> Option<&str> {
    if path.contains("/fuzz/") {
        return None;
    }
    path.strip_suffix("lib.rs")
        .or_else(|| path.strip_suffix("main.rs"))
        .filter(|p| p.ends_with("src/"))
}

/// The first line of every file is `//!`.
pub fn module_docs(sources: &[Source]) -> Vec<Finding> {
    let bare = |source: &&Source| {
        source.is_rust() && !source.text.trim_start_matches("#![no_main]\n").starts_with("//!")
    };
    let text = "starts without `//!`: say what this room is for, what comes in, what goes out";
    sources.iter().filter(bare).map(|source| Finding::new(&source.path, 1, text)).collect()
}

/// No Rust file is longer than [`LINES_MAX`].
pub fn length(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            let text = format!("{lines} lines, more than {LINES_MAX}: one object, one file");
            findings.push(Finding::new(&source.path, LINES_MAX + 1, text));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_outside_the_list_is_found_and_words_about_it_are_not() {
        let bad = Source::planted("relay/src/door.rs", "//! x\nfn f() { unsafe { g() } }\n");
        let fine =
            Source::planted("relay/src/hall.rs", "//! unsafe\n#![x(unsafe_code)]\n// unsafe\n");
        let listed = Source::planted("dataplane/src/mem/seal.rs", "//! x\nunsafe fn f() {}\n");
        let emptied = Source::planted("dataplane/src/driver/pin.rs", "//! x\nfn f() {}\n");
        let findings = unsafe_list(&[bad, fine, listed, emptied]);
        assert_eq!(
            findings.iter().map(|finding| finding.line).collect::<Vec<_>>(),
            [2, 1],
            "{findings:?}"
        );
    }

    #[test]
    fn a_crate_without_listed_modules_must_forbid_unsafe() {
        let bare = Source::planted("bench/load/src/lib.rs", "//! x\n");
        let denies = Source::planted("dataplane/ring/src/lib.rs", "//! x\n#![deny(unsafe_code)]\n");
        let findings = unsafe_list(&[bare, denies]);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].text.contains("forbid"));
    }

    #[test]
    fn a_file_without_docs_and_a_file_too_long_are_found() {
        let bare = Source::planted("a.rs", "fn f() {}\n");
        let long = Source::planted("b.rs", &"//!\n".repeat(LINES_MAX + 1));
        assert_eq!(module_docs(&[bare]).len(), 1);
        assert_eq!(length(&[long]).len(), 1);
    }
}
