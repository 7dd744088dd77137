//! The same after a reboot: one systemd unit, and the boot parameters that only a boot loader can set.
//!
//! In: the command line that applies the stages. Out: the text of the unit, written through the journal like every other
//! change, and lines for the operator. Boot parameters are printed and never written: every distribution keeps them elsewhere.

use crate::cpus::CpuSet;
use crate::host::Host;
use crate::journal::{Journal, JournalError};
use crate::machine::Options;
use crate::write::{Action, WriteError, Writer};
use std::io::Write;

/// The unit's place.
pub const KEY: &str = "file:/etc/systemd/system/metanode-hw.service";
/// Its name in the journal, beside those of the stages.
pub const STAGE: &str = "persist";

/// The unit: applies at boot, before a node starts, and undoes when it is stopped.
pub fn unit(program: &str, arguments: &str) -> String {
    format!(
        "# written by metanode hw apply --persist; taken away by metanode hw undo --persist\n\
         [Unit]\n\
         Description=Host tuning for MetaNode\n\
         After=local-fs.target systemd-modules-load.service network-pre.target\n\
         Before=metanode.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={program} hw apply{arguments}\n\
         ExecStop={program} hw undo\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// Boot parameters for these tile processors; empty where there are none.
pub fn boot_parameters(tiles: &CpuSet) -> String {
    if tiles.is_empty() {
        return String::new();
    }
    format!("nohz_full={tiles} rcu_nocbs={tiles}")
}

/// Writes the unit, unless it is there already.
pub fn apply(
    host: &Host,
    text: &str,
    options: Options,
    log: &mut dyn Write,
) -> Result<Option<Action>, WriteError> {
    if host.read(KEY).as_deref() == Some(text) {
        return Ok(None);
    }
    let folder = options.folder.clone().unwrap_or_else(|| host.path(crate::journal::FOLDER));
    let journal = if options.dry_run { None } else { Some(Journal::open(&folder)?) };
    Writer::new(host, journal, log, options.stop).set(STAGE, KEY, Some(text)).map(Some)
}

/// Whether the journal knows of a unit.
pub fn is_applied(host: &Host, options: &Options) -> Result<bool, JournalError> {
    let folder = options.folder.clone().unwrap_or_else(|| host.path(crate::journal::FOLDER));
    Ok(Journal::peek(&folder)?.iter().any(|entry| entry.stage == STAGE))
}
