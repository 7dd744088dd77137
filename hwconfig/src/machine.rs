//! The stage machine: check, apply, undo.
//!
//! In: a host, a demand, a choice of stages. Out: a report for each. Check reads. Apply goes through the stages in order, each all
//! or nothing: a change that fails or does not last takes the stage back to where it was, and the run ends there. After each
//! stage its own check must say `ok`. Undo goes through the journal backwards.

use crate::demand::Demand;
use crate::host::Host;
use crate::journal::{Entry, Journal, JournalError};
use crate::stage::{Assessment, Stage, State, Verdict};
use crate::write::{Action, Capability, Restored, Stopper, WriteError, Writer};
use std::io::Write;
use std::path::PathBuf;

/// What a command ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is as wanted, or was brought there.
    Ok = 0,
    /// Something is off.
    Off = 1,
    /// The command line is not understood.
    Usage = 2,
    /// A capability is missing; nothing was changed.
    Privilege = 3,
    /// A stage was begun, failed, and was taken back.
    RolledBack = 4,
}

/// One stage in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageReport {
    /// Its name.
    pub name: &'static str,
    /// Its state.
    pub state: State,
    /// Why.
    pub reason: String,
    /// What a fix would gain; empty where nothing is off.
    pub gain: &'static str,
    /// Capabilities that a fix needs, and what for.
    pub needs: Vec<(Capability, String)>,
    /// Shell lines of a fix.
    pub run: Vec<String>,
}

/// What apply did.
#[derive(Debug)]
pub struct Applied {
    /// The stages afterwards.
    pub stages: Vec<StageReport>,
    /// Every change made, also those taken back.
    pub actions: Vec<Action>,
    /// Capabilities that were missing.
    pub missing: Vec<(Capability, String)>,
    /// How it ended.
    pub exit: Exit,
}

/// What undo did.
#[derive(Debug)]
pub struct Undone {
    /// Entries whose value is again what it was.
    pub restored: Vec<Entry>,
    /// Entries of an earlier boot: the kernel forgot those values itself.
    pub dropped_other_boot: Vec<Entry>,
    /// Entries that could not be restored, and why.
    pub left: Vec<(Entry, String)>,
    /// Capabilities that were missing.
    pub missing: Vec<(Capability, String)>,
    /// How it ended.
    pub exit: Exit,
}

/// How apply and undo go about it.
#[derive(Default)]
pub struct Options {
    /// Where the journal stands; the default is [`crate::journal::FOLDER`] on the host.
    pub folder: Option<PathBuf>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Undo also what somebody else changed since.
    pub force: bool,
    /// For tests: stops at a moment, as a crash would.
    pub stop: Option<Stopper>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("folder", &self.folder)
            .field("dry_run", &self.dry_run)
            .field("force", &self.force)
            .finish_non_exhaustive()
    }
}

impl Options {
    fn journal(&self, host: &Host) -> PathBuf {
        self.folder.clone().unwrap_or_else(|| host.path(crate::journal::FOLDER))
    }
}

fn report(stage: &'static Stage, found: &Assessment, refused: &[String]) -> StageReport {
    let state = found.state_without(refused);
    let off = matches!(state, State::Absent | State::Partial);
    StageReport {
        name: stage.name,
        state,
        reason: found.reason(),
        gain: if off { stage.words.gain } else { "" },
        needs: found.needs(),
        run: found.run(),
    }
}

/// Looks at every stage; changes nothing and needs no privileges.
pub fn check(host: &Host, demand: &Demand, stages: &[&'static Stage]) -> Vec<StageReport> {
    stages.iter().map(|stage| report(stage, &(stage.assess)(host, demand), &[])).collect()
}

/// How a check ends.
pub fn verdict(stages: &[StageReport]) -> Exit {
    let fine = |stage: &StageReport| matches!(stage.state, State::Ok | State::Unavailable);
    if stages.iter().all(fine) { Exit::Ok } else { Exit::Off }
}

/// Capabilities among `needs` that this process does not have, each once.
fn missing(
    host: &Host,
    needs: impl Iterator<Item = (Capability, String)>,
) -> Vec<(Capability, String)> {
    let mut missing: Vec<(Capability, String)> = Vec::new();
    for (capability, why) in needs {
        let known = missing.iter().any(|(known, _)| *known == capability);
        if !known && !capability.held(host) {
            missing.push((capability, why));
        }
    }
    missing
}

/// Brings the stages to what the demand asks for.
pub fn apply(
    host: &Host,
    demand: &Demand,
    stages: &[&'static Stage],
    options: Options,
    log: &mut dyn Write,
) -> Result<Applied, JournalError> {
    let before = check(host, demand, stages);
    let mut applied =
        Applied { stages: Vec::new(), actions: Vec::new(), missing: Vec::new(), exit: Exit::Ok };
    if !options.dry_run {
        applied.missing = missing(host, before.iter().flat_map(|stage| stage.needs.clone()));
        if !applied.missing.is_empty() {
            applied.stages = before;
            applied.exit = Exit::Privilege;
            return Ok(applied);
        }
    }
    let acts = before.iter().any(|stage| !stage.run.is_empty());
    let journal =
        if options.dry_run || !acts { None } else { Some(Journal::open(&options.journal(host))?) };
    let mut writer = Writer::new(host, journal, log, options.stop);
    for (index, stage) in stages.iter().enumerate() {
        let first = writer.entries().last().map_or(0, |entry| entry.seq);
        let mut refused = Vec::new();
        let failure =
            apply_stage(&mut writer, host, demand, stage, &mut applied.actions, &mut refused)?;
        let Some(failure) = failure else {
            applied.stages.push(report(stage, &(stage.assess)(host, demand), &refused));
            continue;
        };
        if let WriteError::Stopped = failure {
            applied.exit = Exit::RolledBack;
            return Ok(applied);
        }
        writer.say(&format!("{}: {failure}; taking the stage back", stage.name));
        let mut left = Vec::new();
        for entry in writer.entries().iter().rev().filter(|entry| entry.seq > first) {
            if let Restored::No(why) = writer.restore(entry, true)? {
                left.push(format!("{} {why}", entry.path));
            }
        }
        let mut told = report(stage, &(stage.assess)(host, demand), &[]);
        told.reason = format!("{failure}; taken back");
        if !left.is_empty() {
            told.reason += ", but not all of it (`hw undo` tries again): ";
            told.reason += &left.join("; ");
        }
        applied.stages.push(told);
        applied.stages.extend(check(host, demand, &stages[index + 1..]));
        applied.exit = Exit::RolledBack;
        return Ok(applied);
    }
    if !options.dry_run {
        applied.exit = verdict(&applied.stages);
    }
    Ok(applied)
}

/// One stage. Gives what went wrong; an error is a journal that cannot be written.
fn apply_stage(
    writer: &mut Writer<'_>,
    host: &Host,
    demand: &Demand,
    stage: &'static Stage,
    actions: &mut Vec<Action>,
    refused: &mut Vec<String>,
) -> Result<Option<WriteError>, JournalError> {
    let found = (stage.assess)(host, demand);
    let writes: Vec<_> = found.to_write().cloned().collect();
    if writes.is_empty() {
        return Ok(None);
    }
    writer.say(&format!("{}: {}", stage.name, found.reason()));
    let mut dry = false;
    for finding in &writes {
        match writer.set(stage.name, &finding.key, finding.want.as_deref()) {
            Ok(action) => {
                dry |= !action.verified;
                actions.push(action);
            }
            Err(WriteError::Journal(error)) => return Err(error),
            Err(error @ (WriteError::Refused { .. } | WriteError::NotTaken { .. }))
                if finding.verdict == Verdict::OffIfPossible =>
            {
                writer.say(&format!("{}: {error}; going on without it", stage.name));
                refused.push(finding.key.clone());
            }
            Err(error) => return Ok(Some(error)),
        }
    }
    if dry {
        return Ok(None);
    }
    // Every action is verified by the stage's own check; what nothing can change was off before and stays off.
    let after = (stage.assess)(host, demand);
    let still: Vec<&str> = after
        .to_write()
        .filter(|finding| !refused.contains(&finding.key))
        .map(|finding| finding.reason.as_str())
        .collect();
    Ok((!still.is_empty()).then(|| WriteError::Refused {
        run: format!("hw check --stage {}", stage.name),
        text: format!("still off after all changes were made: {}", still.join("; ")),
    }))
}

/// Puts back what the journal says was there, newest first. `names` chooses stages; empty means all.
pub fn undo(
    host: &Host,
    names: &[&str],
    options: &Options,
    log: &mut dyn Write,
) -> Result<Undone, JournalError> {
    let folder = options.journal(host);
    let mut undone = Undone {
        restored: Vec::new(),
        dropped_other_boot: Vec::new(),
        left: Vec::new(),
        missing: Vec::new(),
        exit: Exit::Ok,
    };
    let chosen = |entry: &Entry| names.is_empty() || names.contains(&entry.stage.as_str());
    let mut entries = Journal::peek(&folder)?;
    if entries.is_empty() {
        return Ok(undone);
    }
    let boot_id = host.boot_id();
    // What stands in a file outlives the kernel; what stands in the kernel does not.
    let outlived = |entry: &Entry| entry.path.starts_with("file:") || entry.boot_id == boot_id;
    if !options.dry_run {
        let needs = entries
            .iter()
            .filter(|entry| chosen(entry) && outlived(entry))
            .map(|entry| (Capability::to_write(&entry.path), format!("restore {}", entry.path)));
        undone.missing = missing(host, needs);
        if !undone.missing.is_empty() {
            undone.exit = Exit::Privilege;
            return Ok(undone);
        }
    }
    let journal = if options.dry_run { None } else { Some(Journal::open(&folder)?) };
    let mut writer = Writer::new(host, journal, log, None);
    if !options.dry_run {
        entries = writer.entries();
    }
    for entry in entries.iter().rev().filter(|entry| chosen(entry)) {
        if !outlived(entry) {
            writer.say(&format!(
                "{}: {} was changed before the last boot, which restored it already; dropped",
                entry.stage, entry.path
            ));
            writer.forget(entry)?;
            undone.dropped_other_boot.push(entry.clone());
            continue;
        }
        match writer.restore(entry, options.force)? {
            Restored::Yes => undone.restored.push(entry.clone()),
            Restored::Gone => {
                writer.say(&format!("{}: {} is gone; nothing to restore", entry.stage, entry.path));
                undone.restored.push(entry.clone());
            }
            Restored::No(why) => {
                writer.say(&format!("{}: {} {why}", entry.stage, entry.path));
                undone.left.push((entry.clone(), why));
            }
        }
    }
    if !undone.left.is_empty() {
        undone.exit = Exit::Off;
    }
    Ok(undone)
}
