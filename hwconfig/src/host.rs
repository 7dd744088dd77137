//! The host, read only: this machine, or a directory tree that stands for one.
//!
//! Everything a stage looks at or changes has a *key*, a line of text, so that the journal, `show --state`, dry runs and
//! fixtures speak of one thing in one way:
//!
//! ```text
//! /proc/..., /sys/...            a kernel file; its value is its text without the last newline
//! netlink:DEV/GROUP/ATTR         an ethtool attribute; in a fixture the file netlink/DEV/GROUP/ATTR. The group
//!                                ntuple holds flow rules, udp4-PORT = QUEUE; a rule that is not there is absent
//! dir:/PATH                      a directory: "present" or absent
//! mount:/PATH                    a hugetlbfs: its page size in kB, or absent
//! control:/CGROUP#NAME           a controller handed down to the groups below: "on" or "off"
//! file:/PATH                     a whole file outside the kernel; survives a reboot
//! irqbalance:banned              processors that the daemon leaves alone
//! ```

use crate::cpus::CpuSet;
use crate::{ethtool, flows, irqbalance};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A kernel file longer than this is not read to the end: no value a stage looks at is.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Where values are read.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    fixture: bool,
}

impl Host {
    /// This machine.
    pub fn real() -> Self {
        Self { root: PathBuf::from("/"), fixture: false }
    }

    /// A directory tree that stands for a machine; nothing outside of it is read or written.
    pub fn fixture(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), fixture: true }
    }

    /// Whether this is a directory tree.
    pub fn is_fixture(&self) -> bool {
        self.fixture
    }

    /// The place of an absolute path on this host.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The value behind `key`; `None` where it is absent or cannot be read.
    pub fn read(&self, key: &str) -> Option<String> {
        match Key::of(key) {
            Key::Kernel(path) => self.text(path),
            Key::Netlink { device, group, attribute } => {
                self.netlink(device, group).get(attribute).cloned()
            }
            Key::Directory(path) => self.path(path).is_dir().then(|| "present".to_owned()),
            Key::Mount(path) => self.hugetlbfs_kb(path).map(|kb| kb.to_string()),
            Key::Controller { group, name } => {
                let handed_down = self.text(&format!("{group}/cgroup.subtree_control"))?;
                let on = handed_down.split_whitespace().any(|word| word == name);
                Some(if on { "on" } else { "off" }.to_owned())
            }
            Key::File(path) => std::fs::read_to_string(self.path(path)).ok(),
            Key::Irqbalance => {
                if self.fixture {
                    self.text("/irqbalance/banned")
                } else {
                    irqbalance::banned(&self.irqbalance_pids())
                }
            }
        }
    }

    /// A kernel file's text, without the newline at its end.
    pub fn text(&self, path: &str) -> Option<String> {
        let bytes = std::fs::read(self.path(path)).ok()?;
        let bytes = &bytes[..bytes.len().min(VALUE_BYTES_MAX)];
        Some(String::from_utf8_lossy(bytes).trim_end().to_owned())
    }

    /// A kernel file that holds a number. `Err` says what it holds instead.
    pub fn number(&self, path: &str) -> Result<Option<u64>, String> {
        self.text(path)
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("{path} says `{}`, expected a number", excerpt(&text)))
            })
            .transpose()
    }

    /// A kernel file that holds a list of processors. `Err` says what it holds instead.
    pub fn cpu_list(&self, path: &str) -> Result<Option<CpuSet>, String> {
        self.text(path)
            .map(|text| CpuSet::parse_list(&text).map_err(|error| format!("{path}: {error}")))
            .transpose()
    }

    /// Names in a directory, sorted, numbers by value.
    pub fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(path)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by_key(|name| {
            let digits: String = name.chars().filter(char::is_ascii_digit).collect();
            (digits.parse::<u64>().unwrap_or(0), name.clone())
        });
        names
    }

    /// Numbers behind `prefix` among the names of a directory: `numbered("/sys/devices/system/node", "node")`.
    pub fn numbered(&self, path: &str, prefix: &str) -> Vec<u32> {
        self.names(path).iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect()
    }

    /// Processors that run, or nothing where the kernel does not say.
    pub fn online(&self) -> Result<CpuSet, String> {
        Ok(self.cpu_list("/sys/devices/system/cpu/online")?.unwrap_or_default())
    }

    /// Network devices, `lo` too.
    pub fn network_devices(&self) -> Vec<String> {
        let mut names = self.names("/sys/class/net");
        names.retain(|name| self.path(&format!("/sys/class/net/{name}")).is_dir());
        names
    }

    /// Devices that carry a default route.
    pub fn default_route_devices(&self) -> Vec<String> {
        let mut found = Vec::new();
        for line in self.text("/proc/net/route").unwrap_or_default().lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [device, destination, _, _, _, _, _, mask, ..] = words[..]
                && destination == "00000000"
                && mask == "00000000"
            {
                found.push(device.to_owned());
            }
        }
        for line in self.text("/proc/net/ipv6_route").unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let (Some(destination), Some(length), Some(device)) =
                (words.first(), words.get(1), words.last())
                && destination.bytes().all(|byte| byte == b'0')
                && *length == "00"
                && *device != "lo"
            {
                found.push((*device).to_owned());
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// All attributes of a group (`channels`, `rings`, `coalesce`, `features`, `rss`, `ntuple`) of a device; empty where it has none.
    pub fn netlink(&self, device: &str, group: &str) -> BTreeMap<String, String> {
        if !self.fixture && group == ethtool::FLOWS {
            return flows::read(device).unwrap_or_default();
        }
        if !self.fixture {
            return ethtool::read(device, group).unwrap_or_default();
        }
        let folder = format!("/netlink/{device}/{group}");
        self.names(&folder)
            .into_iter()
            .filter_map(|name| Some((name.clone(), self.text(&format!("{folder}/{name}"))?)))
            .collect()
    }

    /// Identity of the running kernel's life: a value that changes with every boot.
    pub fn boot_id(&self) -> String {
        self.text("/proc/sys/kernel/random/boot_id").unwrap_or_else(|| "unknown".to_owned())
    }

    /// Page size of the hugetlbfs mounted at `path`.
    fn hugetlbfs_kb(&self, path: &str) -> Option<u64> {
        let mounts = self.text("/proc/self/mounts")?;
        mounts.lines().rev().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (at, kind, options) = (*words.get(1)?, *words.get(2)?, *words.get(3)?);
            if at != path || kind != "hugetlbfs" {
                return None;
            }
            options.split(',').find_map(|option| {
                let size = option.strip_prefix("pagesize=")?;
                match size.split_at_checked(size.len().checked_sub(1)?)? {
                    (digits, "K") => digits.parse().ok(),
                    (digits, "M") => digits.parse::<u64>().ok()?.checked_mul(1 << 10),
                    (digits, "G") => digits.parse::<u64>().ok()?.checked_mul(1 << 20),
                    _ => None,
                }
            })
        })
    }

    /// Processes that call themselves irqbalance.
    pub fn irqbalance_pids(&self) -> Vec<u32> {
        self.names("/proc")
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|pid: &u32| {
                self.text(&format!("/proc/{pid}/comm")).is_some_and(|comm| comm == "irqbalance")
            })
            .collect()
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// A key, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    Kernel(&'a str),
    Netlink { device: &'a str, group: &'a str, attribute: &'a str },
    Directory(&'a str),
    Mount(&'a str),
    Controller { group: &'a str, name: &'a str },
    File(&'a str),
    Irqbalance,
}

impl<'a> Key<'a> {
    /// Takes `key` apart. A key is made by our own stages, or was written by them into the journal; whatever is of no known
    /// kind is a kernel file, and then its name is checked where it is written.
    pub(crate) fn of(key: &'a str) -> Self {
        if let Some(rest) = key.strip_prefix("netlink:") {
            let mut pieces = rest.splitn(3, '/');
            if let (Some(device), Some(group), Some(attribute)) =
                (pieces.next(), pieces.next(), pieces.next())
            {
                return Self::Netlink { device, group, attribute };
            }
        }
        if let Some((group, name)) =
            key.strip_prefix("control:").and_then(|rest| rest.split_once('#'))
        {
            return Self::Controller { group, name };
        }
        if key == "irqbalance:banned" {
            return Self::Irqbalance;
        }
        match key.split_once(':') {
            Some(("dir", path)) => Self::Directory(path),
            Some(("mount", path)) => Self::Mount(path),
            Some(("file", path)) => Self::File(path),
            _ => Self::Kernel(key),
        }
    }
}

/// Whether two texts are one value of `key`: masks and lists compare as sets, words by word.
pub fn same_value(key: &str, left: &str, right: &str) -> bool {
    if let Key::File(_) = Key::of(key) {
        return left == right;
    }
    let mask = key.ends_with("smp_affinity") || key.ends_with("/cpumask");
    let list = key.ends_with("cpuset.cpus") || key == "irqbalance:banned";
    let parse = if mask { CpuSet::parse_mask } else { CpuSet::parse_list };
    if (mask || list)
        && let (Ok(left), Ok(right)) = (parse(left), parse(right))
    {
        return left == right;
    }
    left.split_whitespace().eq(right.split_whitespace())
}

/// The beginning of a text, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 40 {
        line.chars().take(40).chain("...".chars()).collect()
    } else {
        line.to_owned()
    }
}
