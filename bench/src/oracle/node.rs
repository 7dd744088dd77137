//! SV Node as an oracle: what it says about each case.
//!
//! In: cases. Out: for each what the node's script interpreter decides under the case's flags. How the node is found and
//! started is `nodes::svnode`.

use super::case::{Case, Said};
use crate::nodes::{NodeError, svnode::SvNode};
use consensus::script::ScriptError;
use serde_json::{Value, json};

/// How long the node may take to answer a batch.
const ANSWER_S: u64 = 120;

/// Policy limits also hold for `verifyscript`; none of them is asked about.
const NO_LIMITS: [&str; 5] = [
    "-maxstackmemoryusagepolicy=0",
    "-maxscriptsizepolicy=0",
    "-maxopsperscriptpolicy=0",
    "-maxscriptnumlengthpolicy=0",
    "-maxpubkeyspermultisigpolicy=0",
];

/// The oracle.
pub struct Oracle(SvNode);

impl Oracle {
    /// Finds, starts and greets the node.
    pub fn start() -> Result<Self, NodeError> {
        SvNode::start(&NO_LIMITS).map(Self)
    }

    /// What the node calls itself.
    pub fn version(&self) -> String {
        self.0.version()
    }

    /// What the node says about each case.
    pub fn ask(&mut self, cases: &[Case]) -> Result<Vec<Said>, NodeError> {
        if cases.is_empty() {
            return Ok(Vec::new());
        }
        let scripts: Vec<Value> = cases
            .iter()
            .map(|case| {
                json!({
                    "tx": hex::encode(&case.tx), "n": case.input, "flags": case.flags.0,
                    "txo": { "lock": hex::encode(&case.locking), "value": case.value_sat },
                })
            })
            .collect();
        let answer =
            self.0.running.call("verifyscript", &json!([scripts, false, ANSWER_S * 1_000]))?;
        let answers: Vec<Said> = answer.as_array().into_iter().flatten().map(said).collect();
        if answers.len() == cases.len() {
            Ok(answers)
        } else {
            Err(NodeError(format!("{} answers to {} cases: {answer}", answers.len(), cases.len())))
        }
    }
}

fn said(answer: &Value) -> Said {
    let description = answer["description"].as_str().unwrap_or_default();
    match answer["result"].as_str() {
        Some("ok") => Said::Accepted,
        Some("error") => Said::Rejected(
            ScriptError::ALL.iter().copied().find(|error| error.text() == description),
        ),
        Some("timeout" | "skipped") => Said::NoAnswer,
        _ => Said::Odd(answer.to_string()),
    }
}
