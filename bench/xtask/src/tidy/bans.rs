//! Items that do not pass, each with what to write instead.
//!
//! In: the files. Out: findings. Comments, strings, tests and loom models are blanked out before the search.

use super::{Finding, Source, lex};

/// Where a ban holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Everywhere, tests too.
    Everywhere,
    /// Outside tests.
    Product,
    /// Outside tests, in crates that other crates use.
    Libraries,
    /// Outside tests, in crates whose tiles are replayed by the simulator.
    Tiles,
}

#[rustfmt::skip]
const BANS: [(&str, Where, &str); 11] = [
    ("dbg!",              Where::Everywhere, "a counter, a verdict, or an assertion with its numbers"),
    ("todo!",             Where::Everywhere, "leave out what is not built"),
    ("unimplemented!",    Where::Everywhere, "leave out what is not built"),
    (".unwrap()",         Where::Product,    "`?`, or `expect` with the invariant that makes it true"),
    ("SeqCst",            Where::Product,    "the acquire/release pair or the fence the loom model proves"),
    ("println!",          Where::Libraries,  "hand the text to the caller"),
    ("print!",            Where::Libraries,  "hand the text to the caller"),
    ("process::exit",     Where::Libraries,  "an error to the caller; only a `main` ends the process"),
    ("Instant::now",      Where::Tiles,      "the clock that the driver hands in, so that one seed replays the run"),
    ("SystemTime::now",   Where::Tiles,      "the clock that the driver hands in, so that one seed replays the run"),
    ("thread_rng",        Where::Tiles,      "the seeded generator that is handed in"),
];

/// Folders of crates that others use.
const LIBRARIES: [&str; 6] = [
    "dataplane/",
    "utxo-shard/",
    "relay/src/",
    "hwconfig/src/",
    "bench/load/src/",
    "bench/sim/src/",
];
/// Programs inside those folders.
const PROGRAMS: [&str; 4] = ["/main.rs", "/src/bin/", "/examples/", "build.rs"];
/// Folders of crates that hold tiles or what tiles are made of.
const TILES: [&str; 4] =
    ["dataplane/consensus/src/", "dataplane/src/tile/", "dataplane/src/tiles/", "utxo-shard/src/"];
/// File names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] =
    ["utils.rs", "util.rs", "helpers.rs", "misc.rs", "common.rs", "manager.rs"];

/// Finds every banned item and every file name that says nothing.
pub fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let for_tests = files_for_tests(sources);
    for source in sources.iter().filter(|source| source.is_rust()) {
        let name = source.path.rsplit('/').next().unwrap_or_default();
        if EMPTY_NAMES.contains(&name) && !source.path.contains("/tests/") {
            findings.push(Finding::new(
                &source.path,
                1,
                "name the file after the one object it holds",
            ));
        }
        let code = lex::code_only(&source.text);
        let product = if is_test_file(&source.path, &for_tests) {
            String::new()
        } else {
            lex::product_only(&code)
        };
        for (item, place, instead) in BANS {
            let text = if place == Where::Everywhere { &code } else { &product };
            if !holds(place, &source.path) {
                continue;
            }
            for line in lex::find_word(text, item) {
                findings.push(Finding::new(&source.path, line, format!("`{item}`: use {instead}")));
            }
        }
    }
    findings
}

fn holds(place: Where, path: &str) -> bool {
    let in_any = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
    match place {
        Where::Everywhere | Where::Product => true,
        Where::Libraries => {
            in_any(&LIBRARIES) && !PROGRAMS.iter().any(|program| path.contains(program))
        }
        Where::Tiles => in_any(&TILES),
    }
}

/// Paths (without `.rs`) of modules that some file declares under a test attribute.
fn files_for_tests(sources: &[Source]) -> Vec<String> {
    let mut paths = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let (folder, name) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
        let folder = match name {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            _ => source.path.trim_end_matches(".rs").to_owned(),
        };
        for module in lex::test_modules(&lex::code_only(&source.text)) {
            paths.push(format!("{folder}/{module}"));
        }
    }
    paths
}

/// Files that are compiled for tests only.
fn is_test_file(path: &str, for_tests: &[String]) -> bool {
    let stem = path.trim_end_matches(".rs");
    ["/tests/", "/benches/", "/fuzz/"].iter().any(|folder| path.contains(folder))
        || for_tests.iter().any(|module| stem == module || path.starts_with(&format!("{module}/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_found(path: &str, text: &str) -> Vec<usize> {
        check(&[Source::planted(path, text)]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn banned_items_are_found_in_the_product_and_tests_may_unwrap() {
        let text = "//! x\nfn f() { a.unwrap(); }\n#[cfg(test)]\nmod tests {\n fn g() { a.unwrap(); dbg!(1); }\n}\n";
        assert_eq!(lines_found("bench/src/x.rs", text), [5, 2]);
        assert_eq!(lines_found("bench/tests/x.rs", text), [5]);
    }

    #[test]
    fn a_file_that_is_a_module_for_tests_may_unwrap() {
        let root =
            Source::planted("relay/src/lib.rs", "//! x\nmod a;\n#[cfg(loom)]\nmod models;\n");
        let model = Source::planted("relay/src/models.rs", "//! x\nfn f() { a.unwrap(); }\n");
        let product = Source::planted("relay/src/a.rs", "//! x\nfn f() { a.unwrap(); }\n");
        let found = check(&[root, model, product]);
        assert_eq!(
            found.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(),
            ["relay/src/a.rs"]
        );
    }

    #[test]
    fn a_library_does_not_print_and_a_program_does() {
        let text = "//! x\nfn f() { println!(\"println!\"); }\n";
        assert_eq!(lines_found("dataplane/src/x.rs", text), [2]);
        assert_eq!(lines_found("bench/xtask/src/x.rs", text), []);
        assert_eq!(lines_found("control-plane/src/main.rs", text), []);
    }

    #[test]
    fn a_tile_reads_no_clock_of_its_own() {
        let text = "//! x\nfn f() { Instant::now(); }\n";
        assert_eq!(lines_found("utxo-shard/src/x.rs", text), [2]);
        assert_eq!(lines_found("bench/src/x.rs", text), []);
    }

    #[test]
    fn a_file_is_named_after_what_it_holds() {
        assert_eq!(lines_found("relay/src/utils.rs", "//! x\n"), [1]);
    }
}
