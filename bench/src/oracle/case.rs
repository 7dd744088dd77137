//! A case: one input to verify, and what somebody says about it.

use consensus::script::{Flags, Outcome, ScriptError, TxContext};
use consensus::tx::{TxLayout, parse};
use consensus::vectors::judge;
use serde_json::{Value, json};
use std::fmt;

/// How a case was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any bytes.
    RandomBytes,
    /// Opcodes whose operands are mostly there.
    Script,
    /// The same, with bytes changed afterwards.
    MutatedScript,
    /// A signed spend of a standard output, perhaps broken.
    Signed,
    /// The same, under Chronicle's flags.
    Chronicle,
}

impl Kind {
    /// The name in the evidence.
    pub fn name(self) -> &'static str {
        match self {
            Self::RandomBytes => "random_bytes",
            Self::Script => "script",
            Self::MutatedScript => "mutated_script",
            Self::Signed => "signed",
            Self::Chronicle => "chronicle",
        }
    }
}

/// One input to verify.
#[derive(Clone, Debug)]
pub struct Case {
    pub kind: Kind,
    pub tx: Vec<u8>,
    pub input: usize,
    pub value_sat: u64,
    pub locking: Vec<u8>,
    pub flags: Flags,
}

/// What somebody says about a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The scripts are satisfied.
    Accepted,
    /// They are not; with the error, if the text was one we know.
    Rejected(Option<ScriptError>),
    /// Nothing: out of time, or skipped.
    NoAnswer,
    /// Something that is no verdict.
    Odd(String),
}

impl Said {
    /// Equal verdicts, and equal errors where both name one.
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Accepted, Self::Accepted) | (Self::Rejected(None), Self::Rejected(_)) => true,
            (Self::Rejected(_), Self::Rejected(None)) => true,
            (Self::Rejected(ours), Self::Rejected(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("OK"),
            Self::Rejected(Some(error)) => f.write_str(error.vector_name()),
            Self::Rejected(None) => f.write_str("rejected"),
            Self::NoAnswer => f.write_str("no answer"),
            Self::Odd(text) => f.write_str(text),
        }
    }
}

impl Case {
    /// Whether the flags ask for rules the node does not know.
    pub fn is_chronicle(&self) -> bool {
        self.flags.has_any(Flags::CHRONICLE.with(Flags::UTXO_AFTER_CHRONICLE))
    }

    /// What our engine says, run in every way it can be run; ways that differ are no verdict.
    pub fn ours(&self) -> Said {
        let mut layout = TxLayout::default();
        let view = match parse(&self.tx, &mut layout) {
            Ok(view) => view,
            Err(error) => return Said::Odd(error.to_string()),
        };
        let unlocking = view.input(self.input).unlocking_script;
        let context = TxContext::new(view, self.input, self.value_sat);
        match judge(unlocking, &self.locking, self.flags, context) {
            Ok(Outcome::Accepted) => Said::Accepted,
            Ok(Outcome::Rejected(error)) => Said::Rejected(Some(error)),
            Ok(other) => Said::Odd(format!("{other:?}")),
            Err(failure) => Said::Odd(format!("{} but {}", failure.want, failure.got)),
        }
    }

    /// The case with both verdicts, so that a person can replay it.
    pub fn to_json(&self, theirs: &Said, ours: &Said) -> Value {
        json!({
            "kind": self.kind.name(), "tx": hex::encode(&self.tx), "n": self.input, "amount": self.value_sat,
            "scriptPubKey": hex::encode(&self.locking), "flags": self.flags.0,
            "flag_names": self.flags.names().collect::<Vec<_>>().join(","),
            "theirs": theirs.to_string(), "ours": ours.to_string(),
        })
    }
}
