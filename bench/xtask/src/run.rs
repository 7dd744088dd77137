//! `cargo xtask test`: runs the parts of the table, one line each, and ends with the counts of all.
//!
//! In: the table of `parts.rs`, names of parts to run (none means all), `CI` in the environment. Out: one line a part with
//! its seconds and counts, the end of the output of each that failed, then `N passed, N failed, N skipped` alone on a line.
//! A part that the machine lacks something for is SKIPPED with the reason; with `CI=true` that fails unless
//! `bench/xtask/skips.txt` names the part.

use crate::counts::Counts;
use crate::need::Need;
use crate::parts::{PARTS, Part};
use crate::tree;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Lines of a failed part's output that are shown; the rest is in its log.
const TAIL_LINES: usize = 120;
/// How often a running part is looked at.
const POLL: Duration = Duration::from_millis(50);

/// How one part ended.
enum Outcome {
    Ran { ok: bool, counts: Counts, why: String },
    Skipped { why: String, fails: bool },
}

/// Runs `args` (names of parts; none means all), or lists them with `--list`.
pub fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|arg| arg == "--list") {
        list();
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = args.iter().find(|arg| PARTS.iter().all(|part| part.name != **arg)) {
        eprintln!("xtask: no part is called `{unknown}`; `cargo xtask test --list` shows them");
        return ExitCode::from(2);
    }
    let seed = draw_seed();
    println!("seed {seed} (METANODE_SEED={seed} replays it)");
    let began = Instant::now();
    let mut total = Counts::default();
    let mut seconds = Vec::new();
    for part in PARTS.iter().filter(|part| args.is_empty() || args.iter().any(|a| a == part.name)) {
        print!("{:<12} ", part.name);
        let _ = std::io::stdout().flush();
        let start = Instant::now();
        let outcome = run(part, seed);
        let elapsed_s = start.elapsed().as_secs_f64();
        seconds.push((part.name, elapsed_s));
        match outcome {
            Outcome::Ran { ok: true, counts, .. } => {
                println!("ok      {elapsed_s:8.1} s  {}", say(counts));
                total.add(counts);
            }
            Outcome::Ran { ok: false, counts, why } => {
                println!("FAILED  {elapsed_s:8.1} s  {}; {why}", say(counts));
                print!("{}", tail(part));
                println!("---- the whole output: {}", log(part).display());
                total.add(Counts { failed: counts.failed.max(1), ..counts });
            }
            Outcome::Skipped { why, fails } => {
                let note =
                    if fails { " (CI=true and not in bench/xtask/skips.txt: fails)" } else { "" };
                println!("SKIPPED {elapsed_s:8.1} s  {why}{note}");
                total.add(Counts {
                    failed: u64::from(fails),
                    skipped: u64::from(!fails),
                    passed: 0,
                });
            }
        }
    }
    println!("\nseconds per part, {:.1} in all:", began.elapsed().as_secs_f64());
    for (name, elapsed_s) in seconds {
        println!("  {name:<12} {elapsed_s:8.1}");
    }
    println!("\n{}", say(total));
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Names of parts that may be skipped with `CI=true`: one a line, `#` starts a comment.
pub fn may_skip() -> Vec<String> {
    tree::read("bench/xtask/skips.txt")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

fn say(counts: Counts) -> String {
    format!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped)
}

/// The table for a reader; one write, so that a reader who stops early is no failure.
fn list() {
    let mut lines = Vec::new();
    for part in PARTS {
        let env: Vec<String> =
            part.env.iter().map(|(key, value)| format!("{key}='{value}' ")).collect();
        lines.push(format!("{:<12} {}", part.name, part.what));
        lines.push(format!("{:<12}   {}{}", "", env.concat(), part.command));
        let missing = part.needs.iter().filter_map(|need| need.missing());
        lines.extend(missing.map(|why| format!("{:<12}   not now: {why}", "")));
    }
    let _ = std::io::stdout().write_all((lines.join("\n") + "\n").as_bytes());
}

fn run(part: &Part, seed: u64) -> Outcome {
    let missing = part.needs.iter().copied().find_map(Need::missing);
    let command = match missing {
        None => part.command,
        Some(_) if !part.fallback.is_empty() => part.fallback,
        Some(why) => {
            let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            let fails = in_ci && !may_skip().iter().any(|name| name == part.name);
            return Outcome::Skipped { why, fails };
        }
    };
    match execute(part, command, seed) {
        Ok(why) => {
            let output = std::fs::read(log(part)).unwrap_or_default();
            let read = Counts::read(&String::from_utf8_lossy(&output));
            let ok = why.is_none() && read.is_none_or(|counts| counts.failed == 0);
            let one = Counts { passed: u64::from(ok), failed: u64::from(!ok), skipped: 0 };
            Outcome::Ran { ok, counts: read.unwrap_or(one), why: why.unwrap_or_default() }
        }
        Err(error) => Outcome::Ran {
            ok: false,
            counts: Counts { failed: 1, ..Counts::default() },
            why: format!("starting `{command}`: {error}"),
        },
    }
}

/// Runs a command line with its output in the part's log. `Ok(Some(why))` when it did not end with exit code 0.
fn execute(part: &Part, command: &str, seed: u64) -> std::io::Result<Option<String>> {
    let path = log(part);
    std::fs::create_dir_all(path.parent().expect("a log lies in a folder"))?;
    let out = File::create(&path)?;
    let target = tree::target();
    let fill = |text: &str| {
        text.replace("{target}", &target.to_string_lossy()).replace("{seed}", &seed.to_string())
    };
    let mut words = command.split_whitespace().map(fill);
    let mut child = Command::new(words.next().unwrap_or_default())
        .args(words)
        .current_dir(tree::root())
        .env("CARGO_TERM_COLOR", "never")
        .env("RUST_BACKTRACE", "1")
        .env("METANODE_SEED", seed.to_string())
        .envs(part.env.iter().map(|(key, value)| (key, fill(value))))
        .stdin(Stdio::null())
        .stderr(out.try_clone()?)
        .stdout(out)
        .process_group(0)
        .spawn()?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((!status.success()).then(|| format!("{status}")));
        }
        if start.elapsed() > Duration::from_secs(part.limit_s) {
            // The whole process group: a test binary must not live on after its runner.
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            child.wait()?;
            return Ok(Some(format!("stopped after its limit of {} s", part.limit_s)));
        }
        std::thread::sleep(POLL);
    }
}

fn log(part: &Part) -> PathBuf {
    tree::target().join("xtask").join(format!("{}.log", part.name))
}

fn tail(part: &Part) -> String {
    let output = std::fs::read(log(part)).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    let mut shown = String::new();
    for line in &lines[from..] {
        shown.push_str("    | ");
        shown.push_str(line);
        shown.push('\n');
    }
    shown
}

/// The seed of this run: `METANODE_SEED` when set, else a fresh one from the clock.
fn draw_seed() -> u64 {
    let given = std::env::var("METANODE_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |since| u64::from(since.subsec_nanos()) ^ (since.as_secs() << 20))
            % 1_000_000_007
    })
}
