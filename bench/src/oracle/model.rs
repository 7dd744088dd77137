//! The Python model of the script rules as an oracle for Chronicle, which the node on PyPI does not know.
//!
//! The model lies beside the checkout (`../shared/prototypes/script-model`). A driver of a few lines reads cases as JSON
//! lines and prints the name of the verdict of each.

use super::case::{Case, Said};
use consensus::script::ScriptError;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/prototypes/script-model");

const DRIVER: &str = r"
import json, sys
import bsv_script_ref as model
for line in sys.stdin:
    c = json.loads(line)
    tx = model.parse(bytes.fromhex(c['tx']))
    unlocking = tx[1][c['n']][2]
    print(model.verifyscript(unlocking, bytes.fromhex(c['lock']), c['flags'], model.Ctx(tx, c['n'], c['value'])), flush=True)
";

/// The running model.
pub struct Model {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Model {
    /// Starts the driver.
    pub fn start() -> Result<Self, String> {
        if !Path::new(FOLDER).join("bsv_script_ref.py").is_file() {
            return Err(format!("the model is not at {FOLDER}"));
        }
        let mut child = Command::new("python3")
            .args(["-c", DRIVER])
            .env("PYTHONPATH", FOLDER)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("starting python3: {error}"))?;
        let to = child.stdin.take().ok_or("python3 has no stdin")?;
        let from = BufReader::new(child.stdout.take().ok_or("python3 has no stdout")?);
        Ok(Self { child, to, from })
    }

    /// What the model says about each case, one after the other.
    pub fn ask(&mut self, cases: &[Case]) -> Result<Vec<Said>, String> {
        let mut answers = Vec::new();
        for case in cases {
            let line = json!({
                "tx": hex::encode(&case.tx), "n": case.input, "flags": case.flags.0,
                "lock": hex::encode(&case.locking), "value": case.value_sat,
            });
            writeln!(self.to, "{line}")
                .map_err(|error| format!("writing to the model: {error}"))?;
            let mut answer = String::new();
            let read = self.from.read_line(&mut answer);
            read.map_err(|error| format!("reading from the model: {error}"))?;
            answers.push(said(answer.trim(), &line.to_string())?);
        }
        Ok(answers)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(answer: &str, case: &str) -> Result<Said, String> {
    match answer {
        "OK" => Ok(Said::Accepted),
        "" => Err(format!("the model ended at {case}")),
        name => match ScriptError::ALL.iter().copied().find(|error| error.vector_name() == name) {
            Some(error) => Ok(Said::Rejected(Some(error))),
            None => Ok(Said::Odd(name.to_owned())),
        },
    }
}
