//! Evidence: what every measuring or checking command says about itself, in one JSON object.
//!
//! In: what a command found. Out: one object as the last line of stdout (`--json`) or the same as readable lines, and an
//! exit code. Progress goes to stderr. The keys `schema, ok, commit, machine, seed, elapsed_s, aims, skipped` are in every
//! object; a command adds its own.

use serde_json::{Map, Value, json};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// One command's findings, on the way to being printed.
#[derive(Debug)]
pub struct Evidence {
    schema: &'static str,
    seed: u64,
    began: Instant,
    aims: Vec<Value>,
    skipped: Vec<String>,
    own: Map<String, Value>,
}

impl Evidence {
    /// Starts the clock. `schema` is `NAME/VERSION`; `seed` is 0 for commands that draw nothing.
    pub fn new(schema: &'static str, seed: u64) -> Self {
        let (aims, skipped, own) = (Vec::new(), Vec::new(), Map::new());
        Self { schema, seed, began: Instant::now(), aims, skipped, own }
    }

    /// Adds one of the command's own keys.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.own.insert(key.to_owned(), value.into());
    }

    /// Says what was hoped for beside what was measured. A missed aim is reported and fails nothing.
    pub fn aim(&mut self, name: &str, wanted: f64, got: f64, met: bool) {
        self.aims.push(json!({ "name": name, "wanted": wanted, "got": got, "met": met }));
    }

    /// Says what was not done, and why.
    pub fn skip(&mut self, what: impl Into<String>) {
        self.skipped.push(what.into());
    }

    /// Seconds since [`Evidence::new`].
    pub fn elapsed_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Prints everything; exit code 0 when `ok`, else 1.
    pub fn finish(self, ok: bool, as_json: bool) -> ExitCode {
        let elapsed_s = (self.elapsed_s() * 1_000.0).round() / 1_000.0;
        let mut object = Map::new();
        object.insert("schema".into(), self.schema.into());
        object.insert("ok".into(), ok.into());
        object.insert("commit".into(), commit().into());
        object.insert("machine".into(), machine());
        object.insert("seed".into(), self.seed.into());
        object.insert("elapsed_s".into(), elapsed_s.into());
        object.insert("aims".into(), self.aims.into());
        object.insert("skipped".into(), self.skipped.into());
        object.extend(self.own);
        if as_json {
            println!("{}", Value::Object(object));
        } else {
            for (key, value) in &object {
                print_readable(key, value);
            }
        }
        if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn print_readable(key: &str, value: &Value) {
    match value {
        Value::Array(rows) => {
            println!("{key}: {}", rows.len());
            for row in rows {
                println!("  {row}");
            }
        }
        other => println!("{key}: {other}"),
    }
}

/// The commit the sources stand at, with `-dirty` when something is not committed; `unknown` outside a checkout.
fn commit() -> String {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        out.ok().filter(|out| out.status.success()).map(|out| out.stdout)
    };
    let Some(head) = git(&["rev-parse", "HEAD"]) else { return "unknown".to_owned() };
    let clean = git(&["status", "--porcelain"]).is_some_and(|out| out.is_empty());
    let head = String::from_utf8_lossy(&head).trim().to_owned();
    if clean { head } else { head + "-dirty" }
}

fn machine() -> Value {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |key: &str| {
        let found = cpuinfo.lines().find(|line| line.starts_with(key));
        found.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim())
    };
    let all = line("flags");
    let flags: Vec<&str> = ["sse4_1", "avx2", "bmi2", "adx", "avx512f", "avx512ifma", "sha_ni"]
        .into_iter()
        .filter(|flag| all.split_whitespace().any(|has| has == *flag))
        .collect();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    json!({ "cpu": line("model name"), "cores": cores, "flags": flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_the_commit_are_named() {
        assert!(machine()["cores"].as_u64().is_some_and(|cores| cores > 0));
        assert!(commit() == "unknown" || commit().len() >= 40);
    }
}
