//! What a stage is: a name, words for the guide, the keys it may write, and what it finds on a host.
//!
//! In: a host and a demand. Out: an [`Assessment`]: findings, each with the value it saw, the value it wants, and why. The rest
//! (state, capabilities, shell lines, changes, verification) follows from the findings, so a stage is a function that only reads.

use crate::demand::Demand;
use crate::host::{Host, same_value};
use crate::write::{Capability, shell};

/// One stage.
#[derive(Debug)]
pub struct Stage {
    /// Its name, as `--stage` takes it.
    pub name: &'static str,
    /// Its page in the guide.
    pub words: Words,
    /// Every key it may write on this host, whatever the demand.
    pub keys: fn(&Host) -> Vec<String>,
    /// What it finds.
    pub assess: fn(&Host, &Demand) -> Assessment,
}

/// What an operator wants to know before agreeing.
#[derive(Debug)]
pub struct Words {
    /// What it changes.
    pub what: &'static str,
    /// Why that matters to the node.
    pub why: &'static str,
    /// What is gained, and how to see it.
    pub gain: &'static str,
    /// What may go wrong.
    pub risk: &'static str,
    /// How it is taken back.
    pub undo: &'static str,
}

/// One value that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its key; of a finding that cannot be fixed from here, where it was seen.
    pub key: String,
    /// The value found.
    pub now: Option<String>,
    /// The value to write; `None` if there is nothing to write.
    pub want: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// What this means.
    pub verdict: Verdict,
}

/// What a finding means for its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// As wanted.
    Fine = 0,
    /// Off, and apply writes it.
    Off = 1,
    /// Off, and apply tries; if the kernel says no, the stage goes on without it.
    OffIfPossible = 2,
    /// Off, and nothing that runs can change it (a boot parameter, a permission not given).
    OffForGood = 3,
    /// Not as recommended; told, never written.
    Warn = 4,
}

/// What a stage found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// In the order in which they are written.
    pub findings: Vec<Finding>,
    /// Why the stage has no say on this host.
    pub unavailable: Option<String>,
    /// What to say when nothing is off.
    pub note: String,
}

/// State of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Everything is as wanted.
    Ok = 0,
    /// Nothing is.
    Absent = 1,
    /// Some of it is.
    Partial = 2,
    /// The host does not have what the stage is about, or says absurd things about it.
    Unavailable = 3,
}

impl State {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::Partial => "partial",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Assessment {
    /// The stage does not apply here, and why.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self { unavailable: Some(reason.into()), ..Self::default() }
    }

    /// Nothing is asked for, so nothing is off.
    pub fn nothing_asked(note: &str) -> Self {
        Self { note: note.to_owned(), ..Self::default() }
    }

    /// `key` shall be `want`; absent keys are skipped when `optional`.
    pub fn exact(&mut self, host: &Host, key: &str, want: &str, why: &str) {
        self.exact_if(host, key, want, why, Verdict::Off);
    }

    /// As `exact`, and a kernel that refuses is forgiven.
    pub fn exact_if(&mut self, host: &Host, key: &str, want: &str, why: &str, off: Verdict) {
        let now = host.read(key);
        let fine = now.as_deref().is_some_and(|now| same_value(key, now, want));
        let found = now.as_deref().unwrap_or("absent").to_owned();
        self.findings.push(Finding {
            key: key.to_owned(),
            now,
            want: (!fine && off != Verdict::Warn).then(|| want.to_owned()),
            reason: if fine {
                String::new()
            } else {
                format!("{key} is `{found}`, want `{want}`: {why}")
            },
            verdict: if fine { Verdict::Fine } else { off },
        });
    }

    /// Something is off that cannot be written.
    pub fn off_for_good(&mut self, key: &str, now: Option<String>, reason: String) {
        let verdict = Verdict::OffForGood;
        self.findings.push(Finding { key: key.to_owned(), now, want: None, reason, verdict });
    }

    /// Something is as wanted.
    pub fn fine(&mut self, key: &str, now: Option<String>) {
        let verdict = Verdict::Fine;
        self.findings.push(Finding {
            key: key.to_owned(),
            now,
            want: None,
            reason: String::new(),
            verdict,
        });
    }

    /// Something is not as recommended.
    pub fn warn(&mut self, key: &str, now: Option<String>, reason: String) {
        let verdict = Verdict::Warn;
        self.findings.push(Finding { key: key.to_owned(), now, want: None, reason, verdict });
    }

    /// What to write, in order.
    pub fn to_write(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| matches!(finding.verdict, Verdict::Off | Verdict::OffIfPossible))
            .filter(|finding| finding.want.is_some())
    }

    /// The state, leaving out keys that the kernel refused.
    pub fn state_without(&self, refused: &[String]) -> State {
        if self.unavailable.is_some() {
            return State::Unavailable;
        }
        let counted = self
            .findings
            .iter()
            .filter(|finding| finding.verdict != Verdict::Warn && !refused.contains(&finding.key));
        let (fine, off): (Vec<_>, Vec<_>) =
            counted.partition(|finding| finding.verdict == Verdict::Fine);
        match (fine.is_empty(), off.is_empty()) {
            (_, true) => State::Ok,
            (true, false) => State::Absent,
            (false, false) => State::Partial,
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state_without(&[])
    }

    /// Why it is in that state, in one line.
    pub fn reason(&self) -> String {
        if let Some(reason) = &self.unavailable {
            return reason.clone();
        }
        let told: Vec<&str> = self
            .findings
            .iter()
            .filter(|finding| finding.verdict != Verdict::Fine)
            .map(|finding| finding.reason.as_str())
            .collect();
        match told.len() {
            0 if self.note.is_empty() => "already as wanted".to_owned(),
            0 => self.note.clone(),
            1..=3 => told.join("; "),
            more => format!("{}; and {} more", told[..3].join("; "), more - 3),
        }
    }

    /// Shell lines of what apply would write.
    pub fn run(&self) -> Vec<String> {
        self.to_write().map(|finding| shell(&finding.key, finding.want.as_deref())).collect()
    }

    /// Capabilities that writing it needs, each with the first thing that needs it.
    pub fn needs(&self) -> Vec<(Capability, String)> {
        let mut needs: Vec<(Capability, String)> = Vec::new();
        for finding in self.to_write() {
            let capability = Capability::to_write(&finding.key);
            if !needs.iter().any(|(known, _)| *known == capability) {
                needs.push((capability, shell(&finding.key, finding.want.as_deref())));
            }
        }
        needs.sort();
        needs
    }
}
