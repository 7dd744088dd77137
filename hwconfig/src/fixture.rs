//! How a directory tree answers writes, where a kernel would do more than keep the text.
//!
//! In: a write to a fixture. Out: the files around it changed as a kernel would change them (a pool of huge pages has free
//! pages, a new control group has files, a mount has a line), or the failure that the file `faults` asks for.
//!
//! ```text
//! faults:   KEY <tab> EIO            the write fails with that error
//!           KEY <tab> ignored        the write succeeds and nothing happens
//!           KEY <tab> at-most N      the kernel gives N at most, and says nothing
//! ```

use crate::host::{Host, Key};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Writes `value` behind `key`, or removes it.
pub fn write(host: &Host, key: &str, value: Option<&str>) -> Result<()> {
    let mut value = value.map(str::to_owned);
    match fault(host, key).as_deref() {
        None => {}
        Some("ignored") => return Ok(()),
        Some("EIO") => return Err(Error::from_raw_os_error(5)),
        Some("EACCES") => return Err(Error::from(ErrorKind::PermissionDenied)),
        Some(word) => {
            let most: Option<u64> = word.strip_prefix("at-most ").and_then(|n| n.parse().ok());
            let asked: Option<u64> = value.as_deref().and_then(|value| value.parse().ok());
            if let (Some(most), Some(asked)) = (most, asked) {
                value = Some(asked.min(most).to_string());
            }
        }
    }
    match Key::of(key) {
        Key::Kernel(path) => {
            let value = value.unwrap_or_default();
            if let Some(folder) = path.strip_suffix("/nr_hugepages") {
                let free = format!("{folder}/free_hugepages");
                let number = |path: &str| host.number(path).ok().flatten().unwrap_or(0);
                let pages: u64 = value.parse().map_err(|_| Error::from(ErrorKind::InvalidInput))?;
                let now = (number(&free) + pages).saturating_sub(number(path));
                std::fs::write(host.path(&free), format!("{now}\n"))?;
            }
            let file = host.path(path);
            if !file.exists() {
                return Err(Error::from(ErrorKind::NotFound));
            }
            std::fs::write(file, format!("{value}\n"))
        }
        Key::Netlink { device, group, attribute } => {
            let file = host.path(&format!("/netlink/{device}/{group}/{attribute}"));
            match value {
                Some(text) => std::fs::write(file, format!("{text}\n")),
                None => std::fs::remove_file(file),
            }
        }
        Key::Directory(path) => directory(&host.path(path), value.is_some()),
        Key::Mount(path) => {
            let mounts = host.path("/proc/self/mounts");
            let text = std::fs::read_to_string(&mounts).unwrap_or_default();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            match value {
                Some(kb) => {
                    lines.push(format!("none {path} hugetlbfs rw,relatime,pagesize={kb}K 0 0"));
                }
                None => lines.retain(|line| line.split_whitespace().nth(1) != Some(path)),
            }
            std::fs::write(mounts, lines.join("\n") + if lines.is_empty() { "" } else { "\n" })
        }
        Key::Controller { group, name } => {
            let file = host.path(&format!("{group}/cgroup.subtree_control"));
            let text = std::fs::read_to_string(&file)?;
            let mut words: Vec<&str> =
                text.split_whitespace().filter(|word| *word != name).collect();
            if value.as_deref() == Some("on") {
                words.push(name);
            }
            std::fs::write(file, words.join(" ") + "\n")
        }
        Key::File(path) => {
            let file = host.path(path);
            match value {
                Some(text) => {
                    std::fs::create_dir_all(file.parent().unwrap_or(host.root()))?;
                    std::fs::write(file, text)
                }
                None => std::fs::remove_file(file),
            }
        }
        Key::Irqbalance => {
            std::fs::write(host.path("/irqbalance/banned"), value.unwrap_or_default() + "\n")
        }
    }
}

/// A control group comes with its files and goes with them.
fn directory(path: &Path, present: bool) -> Result<()> {
    let group = path.parent().is_some_and(|parent| parent.join("cgroup.procs").exists());
    let files: &[(&str, &str)] = &[
        ("cgroup.procs", ""),
        ("cpuset.cpus", ""),
        ("cpuset.mems", ""),
        ("cpuset.cpus.partition", "member"),
        ("cpuset.cpu_exclusive", "0"),
        ("cpuset.sched_load_balance", "1"),
    ];
    if present {
        std::fs::create_dir_all(path)?;
        for (name, text) in files.iter().filter(|_| group) {
            std::fs::write(path.join(name), format!("{text}\n"))?;
        }
        return Ok(());
    }
    if group {
        if std::fs::read_to_string(path.join("cgroup.procs"))
            .is_ok_and(|text| !text.trim().is_empty())
        {
            return Err(Error::from_raw_os_error(16));
        }
        for (name, _) in files {
            std::fs::remove_file(path.join(name)).or_else(|error| {
                if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
            })?;
        }
    }
    std::fs::remove_dir(path)
}

fn fault(host: &Host, key: &str) -> Option<String> {
    let faults = std::fs::read_to_string(host.path("/faults")).ok()?;
    faults.lines().find_map(|line| {
        let (of, what) = line.split_once('\t')?;
        (of == key).then(|| what.to_owned())
    })
}
