//! Evidence: what every command that measures or checks says about itself, in one JSON object.
//!
//! In: what a command found. Out: one object as the last line of stdout, or the same for people, and whether all is well.
//! Progress goes to stderr. Every object carries `schema, ok, commit, machine{cpu,cores,flags}, seed, elapsed_s, aims, skipped`;
//! a command adds its own keys. `ok` speaks of correctness only; `aims` of speed, and a missed aim fails nothing.

use serde_json::{Map, Value, json};
use std::io::Write;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// One command's findings, on the way to being printed.
#[derive(Debug)]
pub struct Evidence {
    schema: &'static str,
    seed: u64,
    began: Instant,
    aims: Vec<Value>,
    skipped: Vec<Value>,
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

    /// Says what was hoped for beside what was measured.
    pub fn aim(&mut self, name: &str, want: f64, got: f64, met: bool) {
        self.aims.push(json!({ "name": name, "want": want, "got": got, "met": met }));
    }

    /// Says what was not done, and why.
    pub fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.skipped.push(json!({ "what": what.into(), "why": why.into() }));
    }

    /// Seconds since [`Evidence::new`].
    pub fn elapsed_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// The whole object.
    pub fn object(self, ok: bool) -> Value {
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
        Value::Object(object)
    }

    /// Prints everything; exit code 0 when `ok`, else 1.
    pub fn finish(self, ok: bool, as_json: bool) -> ExitCode {
        let object = self.object(ok);
        let mut out = std::io::stdout().lock();
        let text = if as_json { format!("{object}\n") } else { readable(&object) };
        // A reader that went away has no use for the rest.
        let _ = out.write_all(text.as_bytes());
        if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn readable(object: &Value) -> String {
    let mut text = String::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match value {
            Value::Array(rows) => {
                text += &format!("{key}: {}\n", rows.len());
                for row in rows {
                    text += &format!("  {row}\n");
                }
            }
            other => text += &format!("{key}: {other}\n"),
        }
    }
    text
}

/// The commit the sources stand at, with `-dirty` when something is not committed; `unknown` outside a checkout.
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        out.ok().filter(|out| out.status.success()).map(|out| out.stdout)
    };
    let Some(head) = git(&["rev-parse", "HEAD"]) else { return "unknown".to_owned() };
    let clean = git(&["status", "--porcelain"]).is_some_and(|out| out.is_empty());
    let head = String::from_utf8_lossy(&head).trim().to_owned();
    if clean { head } else { head + "-dirty" }
}

/// The processor, how many cores this process may use, and the flags our kernels ask for.
pub fn machine() -> Value {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = |key: &str| {
        let found = cpuinfo.lines().find(|line| line.starts_with(key));
        found.and_then(|line| line.split_once(':')).map_or("unknown", |(_, value)| value.trim())
    };
    let all = line("flags");
    let flags: Vec<&str> =
        ["sse4_1", "avx2", "bmi2", "adx", "avx512f", "avx512ifma", "gfni", "sha_ni"]
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
    fn every_object_carries_the_common_keys() {
        let mut evidence = Evidence::new("test/1", 5);
        evidence.aim("speed", 2.0, 1.0, false);
        evidence.skip("a thing", "no machine for it");
        let object = evidence.object(true);
        for key in ["schema", "ok", "commit", "machine", "seed", "elapsed_s", "aims", "skipped"] {
            assert!(object.get(key).is_some(), "{key}");
        }
        assert_eq!(object["aims"][0]["met"], false);
        assert_eq!(object["skipped"][0]["why"], "no machine for it");
        assert!(object["machine"]["cores"].as_u64().is_some_and(|cores| cores > 0));
    }
}
