//! The only module that changes the host.
//!
//! In: a key and its new value. Out, in this order: the shell line that would do the same, the journal entry (synced), the change,
//! and the value read back. A dry run stops after the shell line. Everything else in this crate only reads.

use crate::host::{Host, Key, same_value};
use crate::journal::{Entry, Journal, JournalError};
use crate::{ethtool, fixture, flows, irqbalance};
use std::fmt;
use std::io::{Error, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a change needs that an ordinary process does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Capability {
    /// Kernel parameters outside the network look at the user, not at capabilities.
    Root = 0,
    /// To write files that root owns.
    DacOverride = 1,
    /// Network devices and parameters.
    NetAdmin = 12,
    /// Mounts.
    SysAdmin = 21,
}

impl Capability {
    /// As the manual page capabilities(7) calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "uid 0",
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }

    /// Whether this process has it. A fixture without `/proc/self/status` grants everything.
    pub fn held(self, host: &Host) -> bool {
        let Some(status) = host.text("/proc/self/status") else { return host.is_fixture() };
        let word = |name: &str, index| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.split_whitespace().nth(index))
                .map(str::to_owned)
        };
        if self == Self::Root {
            return word("Uid:", 1).as_deref() == Some("0");
        }
        let effective = word("CapEff:", 0).and_then(|hex| u64::from_str_radix(&hex, 16).ok());
        effective.is_some_and(|bits| bits >> (self as u8) & 1 == 1)
    }

    /// What writing `key` needs.
    pub fn to_write(key: &str) -> Self {
        match Key::of(key) {
            Key::Kernel(path) if path.starts_with("/proc/sys/net/") => Self::NetAdmin,
            Key::Kernel(path) if path.starts_with("/sys/class/net/") => Self::NetAdmin,
            Key::Kernel(path) if path.starts_with("/proc/sys/") => Self::Root,
            Key::Netlink { .. } => Self::NetAdmin,
            Key::Mount(_) => Self::SysAdmin,
            Key::Irqbalance => Self::Root,
            Key::Kernel(_) | Key::Directory(_) | Key::Controller { .. } | Key::File(_) => {
                Self::DacOverride
            }
        }
    }
}

/// One change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The stage that asked for it.
    pub stage: String,
    /// What was changed.
    pub path: String,
    /// Value before.
    pub before: Option<String>,
    /// Value asked for.
    pub after: Option<String>,
    /// Whether the value read back is the one asked for.
    pub verified: bool,
}

/// A change that was not made, or did not last.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The kernel said no.
    #[error("`{run}` failed: {text}")]
    Refused {
        /// The shell line.
        run: String,
        /// What the kernel said.
        text: String,
    },
    /// The kernel said yes and did something else.
    #[error("`{run}` was accepted, but the value is `{got}` now")]
    NotTaken {
        /// The shell line.
        run: String,
        /// Value read back.
        got: String,
    },
    /// No way back, so no change.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A test stopped the world here.
    #[error("stopped here, as the test asked")]
    Stopped,
}

/// What became of an entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// The value is what it was.
    Yes,
    /// It is gone with what it belonged to (an unplugged card), so there is nothing to restore.
    Gone,
    /// It could not be, and why.
    No(String),
}

/// Called before (even numbers) and after (odd numbers) each change; `true` stops everything at once, as a crash would.
pub type Stopper = Box<dyn FnMut(u64) -> bool>;

/// Makes changes.
pub struct Writer<'a> {
    host: &'a Host,
    journal: Option<Journal>,
    log: &'a mut dyn Write,
    stop: Option<Stopper>,
    moment: u64,
}

impl fmt::Debug for Writer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("host", &self.host).finish_non_exhaustive()
    }
}

impl<'a> Writer<'a> {
    /// A writer; without a journal it is a dry run.
    pub fn new(
        host: &'a Host,
        journal: Option<Journal>,
        log: &'a mut dyn Write,
        stop: Option<Stopper>,
    ) -> Self {
        Self { host, journal, log, stop, moment: 0 }
    }

    /// A line for the operator.
    pub fn say(&mut self, text: &str) {
        // The operator's terminal may be gone; that must not stop an undo half-way.
        let _ = writeln!(self.log, "{text}");
    }

    /// Live entries of the journal.
    pub fn entries(&self) -> Vec<Entry> {
        self.journal.as_ref().map(|journal| journal.entries().to_vec()).unwrap_or_default()
    }

    /// Sets `key` to `after` for `stage`.
    pub fn set(
        &mut self,
        stage: &str,
        key: &str,
        after: Option<&str>,
    ) -> Result<Action, WriteError> {
        let before = self.host.read(key);
        let run = shell(key, after);
        self.say(&format!("RUN: `{run}`"));
        let mut action = Action {
            stage: stage.to_owned(),
            path: key.to_owned(),
            before: before.clone(),
            after: after.map(str::to_owned),
            verified: false,
        };
        let Some(journal) = &mut self.journal else { return Ok(action) };
        let seq = journal.intend(Entry {
            seq: 0,
            stage: stage.to_owned(),
            path: key.to_owned(),
            before,
            after: after.map(str::to_owned),
            boot_id: self.host.boot_id(),
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        })?;
        self.pause()?;
        let written = put(self.host, key, after);
        self.pause()?;
        if let Err(error) = written {
            // Nothing was changed, so there is nothing to undo.
            if let Some(journal) = &mut self.journal {
                journal.undone(seq)?;
            }
            return Err(WriteError::Refused { run, text: error.to_string() });
        }
        if !self.is(key, after) && key.ends_with("/nr_hugepages") {
            self.find_pages(key, after);
        }
        if !self.is(key, after) {
            let got = self.host.read(key).unwrap_or_else(|| "absent".to_owned());
            return Err(WriteError::NotTaken { run, got });
        }
        action.verified = true;
        Ok(action)
    }

    /// Puts back what was there before `entry`. With `force` also where somebody else changed it since.
    pub fn restore(&mut self, entry: &Entry, force: bool) -> Result<Restored, JournalError> {
        let key = entry.path.as_str();
        let now = self.host.read(key);
        let is_before = equal(key, now.as_deref(), entry.before.as_deref());
        let is_ours =
            equal(key, now.as_deref(), entry.after.as_deref()) || between(entry, now.as_deref());
        let result = if is_before {
            Restored::Yes
        } else if entry.before.is_some() && self.is_gone(key) {
            Restored::Gone
        } else if !is_ours && !force {
            Restored::No(format!(
                "is `{}` now, and we wrote `{}`: somebody changed it since; --force puts back `{}`",
                now.as_deref().unwrap_or("absent"),
                entry.after.as_deref().unwrap_or("absent"),
                entry.before.as_deref().unwrap_or("absent"),
            ))
        } else {
            let run = shell(key, entry.before.as_deref());
            self.say(&format!("RUN: `{run}`"));
            if self.journal.is_none() {
                return Ok(Restored::Yes);
            }
            match put(self.host, key, entry.before.as_deref()) {
                Err(error) => {
                    Restored::No(format!("`{run}` failed: {error}{}", advice(key, &error)))
                }
                Ok(()) if self.is(key, entry.before.as_deref()) => Restored::Yes,
                Ok(()) => Restored::No(format!("`{run}` was accepted and did not last")),
            }
        };
        if !matches!(result, Restored::No(_)) {
            self.forget(entry)?;
        }
        Ok(result)
    }

    /// Drops an entry without restoring anything.
    pub fn forget(&mut self, entry: &Entry) -> Result<(), JournalError> {
        self.journal.as_mut().map_or(Ok(()), |journal| journal.undone(entry.seq))
    }

    /// Asks the kernel to move memory together, then for the pages again. Neither can be undone nor needs to be: no
    /// setting changes.
    fn find_pages(&mut self, key: &str, after: Option<&str>) {
        for trigger in [
            "/proc/sys/vm/compact_memory 1",
            "/proc/sys/vm/drop_caches 3",
            "/proc/sys/vm/compact_memory 1",
        ] {
            if let Some((path, value)) = trigger.split_once(' ') {
                self.say(&format!("RUN: `{}`", shell(path, Some(value))));
                let _ = put(self.host, path, Some(value));
            }
        }
        self.say(&format!("RUN: `{}`", shell(key, after)));
        let _ = put(self.host, key, after);
    }

    fn is(&self, key: &str, value: Option<&str>) -> bool {
        equal(key, self.host.read(key).as_deref(), value)
    }

    fn is_gone(&self, key: &str) -> bool {
        match Key::of(key) {
            Key::Netlink { device, .. } => {
                !self.host.is_fixture()
                    && !self.host.path(&format!("/sys/class/net/{device}")).exists()
            }
            Key::Kernel(path) => !self.host.path(path).exists(),
            _ => false,
        }
    }

    fn pause(&mut self) -> Result<(), WriteError> {
        let moment = self.moment;
        self.moment += 1;
        let stopped = self.stop.as_mut().is_some_and(|stop| stop(moment));
        if stopped { Err(WriteError::Stopped) } else { Ok(()) }
    }
}

fn equal(key: &str, left: Option<&str>, right: Option<&str>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => same_value(key, left, right),
        (left, right) => left.is_none() && right.is_none(),
    }
}

/// A pool of huge pages that was interrupted half-way stands between its two values.
fn between(entry: &Entry, now: Option<&str>) -> bool {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    entry.path.ends_with("/nr_hugepages")
        && match (number(entry.before.as_deref()), number(now), number(entry.after.as_deref())) {
            (Some(before), Some(now), Some(after)) => {
                (before.min(after)..=before.max(after)).contains(&now)
            }
            _ => false,
        }
}

fn advice(key: &str, error: &Error) -> String {
    const EBUSY: i32 = 16;
    if error.raw_os_error() != Some(EBUSY) {
        return String::new();
    }
    match Key::of(key) {
        Key::Directory(path) => {
            format!(
                "; processes are still in it, see {path}/cgroup.procs; end them, then undo again"
            )
        }
        Key::Mount(path) => {
            format!("; files in {path} are still mapped; end the node, then undo again")
        }
        _ => String::new(),
    }
}

/// The shell line that does what setting `key` to `value` does.
pub fn shell(key: &str, value: Option<&str>) -> String {
    let text = value.unwrap_or_default();
    match Key::of(key) {
        Key::Kernel(path) => format!("echo {} > {path}", quoted(text)),
        Key::Netlink { device, group, attribute } => match group {
            "channels" => format!("ethtool -L {device} {attribute} {text}"),
            "rings" => format!("ethtool -G {device} {attribute} {text}"),
            "coalesce" if attribute.starts_with("adaptive") => {
                let text = if text == "0" { "off" } else { "on" };
                format!("ethtool -C {device} {attribute} {text}")
            }
            "coalesce" => format!("ethtool -C {device} {attribute} {text}"),
            "rss" => format!("ethtool -X {device} # table: {text}"),
            ethtool::FLOWS => match attribute.split_once('-') {
                Some((family, port)) if value.is_some() => {
                    format!("ethtool -N {device} flow-type {family} dst-port {port} action {text}")
                }
                _ => format!("ethtool -N {device} delete N # the rule {attribute} of `ethtool -n`"),
            },
            _ => format!("ethtool -K {device} {attribute} {text}"),
        },
        Key::Directory(path) => {
            format!("{} {path}", if value.is_some() { "mkdir" } else { "rmdir" })
        }
        Key::Mount(path) if value.is_some() => {
            format!("mount -t hugetlbfs -o pagesize={text}K none {path}")
        }
        Key::Mount(path) => format!("umount {path}"),
        Key::Controller { group, name } => {
            let sign = if text == "on" { '+' } else { '-' };
            format!("echo {sign}{name} > {group}/cgroup.subtree_control")
        }
        Key::File(path) if value.is_some() => {
            format!("printf %s {} > {path}", quoted(&text.replace('\n', "\\n")))
        }
        Key::File(path) => format!("rm {path}"),
        Key::Irqbalance => {
            let list = if text.is_empty() { "NULL" } else { text };
            format!(
                "echo settings cpus {list} | socat - UNIX-CONNECT:/run/irqbalance/irqbalance$(pidof irqbalance).sock"
            )
        }
    }
}

fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.,:/+".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Changes the host.
fn put(host: &Host, key: &str, value: Option<&str>) -> std::io::Result<()> {
    let outside = |path: &str| !path.starts_with('/') || path.split('/').any(|piece| piece == "..");
    match Key::of(key) {
        Key::Kernel(path) | Key::Directory(path) | Key::Mount(path) | Key::File(path)
            if outside(path) =>
        {
            return Err(Error::other(format!("{path} is not a plain absolute path")));
        }
        Key::Kernel(path) if !["/proc/", "/sys/"].iter().any(|tree| path.starts_with(tree)) => {
            return Err(Error::other(format!("{path} is not a kernel file")));
        }
        _ => {}
    }
    if host.is_fixture() {
        return fixture::write(host, key, value);
    }
    let text = value.unwrap_or_default();
    match Key::of(key) {
        Key::Kernel(path) => kernel(path, text),
        Key::Netlink { device, group: ethtool::FLOWS, attribute } => {
            flows::set(device, attribute, value)
        }
        Key::Netlink { device, group, attribute } => ethtool::set(device, group, attribute, text)
            .map_err(|error| Error::other(error.to_string())),
        Key::Directory(path) if value.is_some() => std::fs::create_dir(path),
        Key::Directory(path) => std::fs::remove_dir(path),
        Key::Mount(path) if value.is_some() => {
            let options = std::ffi::CString::new(format!("pagesize={text}K"))?;
            let flags = rustix::mount::MountFlags::empty();
            Ok(rustix::mount::mount("none", path, "hugetlbfs", flags, options.as_c_str())?)
        }
        Key::Mount(path) => Ok(rustix::mount::unmount(path, rustix::mount::UnmountFlags::empty())?),
        Key::Controller { group, name } => {
            let sign = if text == "on" { '+' } else { '-' };
            kernel(&format!("{group}/cgroup.subtree_control"), &format!("{sign}{name}"))
        }
        Key::File(path) => match value {
            Some(text) => {
                let temporary = format!("{path}.metanode-new");
                let mut file = std::fs::File::create(&temporary)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                std::fs::rename(temporary, path)
            }
            None => std::fs::remove_file(path),
        },
        Key::Irqbalance => irqbalance::ban(&host.irqbalance_pids(), text),
    }
}

/// A kernel file takes its value in one write; it is neither made nor cut.
fn kernel(path: &str, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(format!("{text}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_the_shell_line_that_does_the_same() {
        let line = |key, value| shell(key, Some(value));
        assert_eq!(
            line("/proc/sys/vm/nr_hugepages", "1024"),
            "echo 1024 > /proc/sys/vm/nr_hugepages"
        );
        assert_eq!(
            line("/proc/sys/kernel/printk", "4 4 1 7"),
            "echo '4 4 1 7' > /proc/sys/kernel/printk"
        );
        assert_eq!(line("netlink:va/rings/rx", "512"), "ethtool -G va rx 512");
        assert_eq!(line("netlink:va/features/rx-gro", "off"), "ethtool -K va rx-gro off");
        assert_eq!(line("netlink:va/coalesce/adaptive-rx", "0"), "ethtool -C va adaptive-rx off");
        let rule = "netlink:va/ntuple/udp4-9999";
        assert_eq!(line(rule, "1"), "ethtool -N va flow-type udp4 dst-port 9999 action 1");
        assert!(shell(rule, None).starts_with("ethtool -N va delete "));
        assert_eq!(
            line("control:/sys/fs/cgroup#cpuset", "on"),
            "echo +cpuset > /sys/fs/cgroup/cgroup.subtree_control"
        );
        assert_eq!(shell("dir:/sys/fs/cgroup/metanode", None), "rmdir /sys/fs/cgroup/metanode");
        assert_eq!(
            line("mount:/run/x", "2048"),
            "mount -t hugetlbfs -o pagesize=2048K none /run/x"
        );
    }

    #[test]
    fn a_key_that_is_no_kernel_file_or_climbs_out_is_not_written() {
        let tree = tempfile::tempdir().expect("a folder");
        let host = Host::fixture(tree.path());
        for key in ["/etc/passwd", "/proc/../etc/passwd", "relative", "dir:/sys/../../x", "file:x"]
        {
            assert!(put(&host, key, Some("1")).is_err(), "{key}");
        }
        assert_eq!(std::fs::read_dir(tree.path()).expect("a folder").count(), 0);
    }
}
