//! How a run ends when it does not end well.

use std::fmt;

/// What kind of bad end. The numbers are the exit codes of `bench sim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FailureKind {
    /// A tile panicked.
    Crash = 1,
    /// A rule was broken: a wrong verdict, a coin spent twice, a count that does not reconcile.
    Incorrect = 2,
    /// Something never came to rest, or was left behind.
    Stuck = 3,
}

impl FailureKind {
    /// As reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Incorrect => "incorrect",
            Self::Stuck => "stuck",
        }
    }
}

/// A run that found something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of which kind.
    pub kind: FailureKind,
    /// In which run.
    pub seed: u64,
    /// At which step.
    pub step: u64,
    /// What was got and what was expected.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, seed, step, what } = self;
        write!(f, "{}: seed={seed} step={step}: {what}", kind.name())
    }
}

/// What a check gives back: nothing, or what kind of failure and why.
pub(crate) type Checked<T = ()> = Result<T, (FailureKind, String)>;

/// An `Incorrect` unless `holds`.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err((FailureKind::Incorrect, what())) }
}

/// A `Stuck` unless `holds`.
pub(crate) fn ensure_live(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err((FailureKind::Stuck, what())) }
}
