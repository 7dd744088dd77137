//! Instruction counts: the same number on a busy machine as on an idle one, so they can be a gate.
//!
//! Valgrind runs this program again with a hidden mode that does some work, once with less of it and once with more; the
//! difference is the work, whatever the start cost. Valgrind's processor has neither SHA nor AVX-512 instructions, so counts
//! compare versions of our code, not machines. Baselines are committed in `bench/baseline`.

use load::evidence::Evidence;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Instructions above the baseline that fail, in percent.
const GATE_PERCENT: f64 = 5.0;

/// Why nothing can be counted here; `None` where it can.
pub fn unavailable() -> Option<&'static str> {
    let runs = Command::new("valgrind").arg("--version").stdin(Stdio::null()).output();
    let why = "valgrind does not run here; `cargo xtask setup` installs it";
    if runs.is_ok_and(|out| out.status.success()) { None } else { Some(why) }
}

/// Instructions this program executes when called with `args`; below functions that match `within` only, if given.
pub fn of_run(args: &[&str], within: Option<&str>) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|e| format!("this binary cannot be found: {e}"))?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    if let Some(functions) = within {
        command.arg(format!("--toggle-collect={functions}"));
    }
    let out = command
        .arg(own)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("valgrind cannot be started: {e}"))?;
    let text = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        let last = text.lines().last().unwrap_or_default();
        return Err(format!("the counted run of {args:?} ended with {}: {last}", out.status));
    }
    let line = text.lines().find(|line| line.contains("Collected :"));
    let count = line.and_then(|line| line.rsplit(':').next()?.trim().parse().ok());
    match (count, within) {
        (None, _) => Err(format!("valgrind printed no count for {args:?}")),
        (Some(0), Some(functions)) => Err(format!(
            "valgrind met no function {functions} in {args:?}: it was inlined or renamed, and nothing was counted"
        )),
        (Some(count), _) => Ok(count),
    }
}

/// Counts beside the committed ones of the same names.
#[derive(Debug)]
pub struct Baseline {
    file: &'static str,
    was: Map<String, Value>,
    now: Map<String, Value>,
    regressions: Vec<Value>,
}

impl Baseline {
    /// Reads `bench/baseline/FILE`; a file that is not there holds nothing.
    pub fn read(file: &'static str) -> Self {
        let text = std::fs::read_to_string(path(file)).unwrap_or_default();
        let was = serde_json::from_str(&text).unwrap_or_default();
        Self { file, was, now: Map::new(), regressions: Vec::new() }
    }

    /// Notes a count; percent above the committed one.
    pub fn note(&mut self, name: &str, count: u64) -> Option<f64> {
        self.now.insert(name.to_owned(), count.into());
        let was = self.was.get(name).and_then(Value::as_f64)?;
        let percent = (count as f64 / was - 1.0) * 100.0;
        if percent > GATE_PERCENT {
            self.regressions
                .push(json!({ "name": name, "was": was, "now": count, "percent": percent }));
        }
        Some(percent)
    }

    /// Puts what was found into the evidence; false if the gate is closed.
    pub fn judge(self, evidence: &mut Evidence) -> bool {
        let open = self.regressions.is_empty();
        for regression in &self.regressions {
            eprintln!("{}: more than {GATE_PERCENT} % above the baseline: {regression}", self.file);
        }
        evidence.set("gate_percent", GATE_PERCENT);
        evidence.set("regressions", self.regressions);
        open
    }

    /// Makes the present counts the committed ones; rows that were not counted stay.
    pub fn write(mut self) -> std::io::Result<()> {
        self.was.extend(self.now);
        let text = serde_json::to_string_pretty(&self.was).unwrap_or_default() + "\n";
        std::fs::write(path(self.file), text)
    }
}

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline").join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_percent_more_than_the_baseline_closes_the_gate_and_less_does_not() {
        let was = serde_json::from_str(r#"{"a": 1000, "b": 1000}"#).expect("an object");
        let mut baseline =
            Baseline { file: "none.json", was, now: Map::new(), regressions: Vec::new() };
        assert_eq!(baseline.note("a", 1_040).map(f64::round), Some(4.0));
        assert_eq!(baseline.note("new", 7), None);
        assert!(baseline.regressions.is_empty());
        assert!(baseline.note("b", 1_060).is_some());
        assert!(!baseline.judge(&mut Evidence::new("test/1", 0)));
    }
}
