//! What the system says of this process, under the names every Prometheus client uses.
//!
//! Source: `proc_pid_status(5)`, `proc_pid_stat(5)`; Prometheus, "Writing client libraries", standard metrics.

use super::page::Page;
use super::sources::Source;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Ticks of a second in `/proc/self/stat`: Linux shows 100 to every user space.
const TICKS_PER_S: f64 = 100.0;

/// The process, since it was first asked for.
#[derive(Debug)]
pub struct Process {
    started_s: u64,
}

impl Default for Process {
    fn default() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started_s: now.as_secs() }
    }
}

impl Source for Process {
    fn write(&self, page: &mut Page) {
        page.gauge(
            "metanode_build_info",
            "Always 1; the version is a label.",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1,
        );
        let start = "process_start_time_seconds";
        page.gauge(start, "When the process started, seconds since 1970.", &[], self.started_s);
        if let Some(kib) = status_kib("VmRSS:") {
            let name = "process_resident_memory_bytes";
            page.gauge(name, "Memory of the process that is in RAM.", &[], kib * 1_024);
        }
        if let Some(kib) = status_kib("VmSize:") {
            let name = "process_virtual_memory_bytes";
            page.gauge(name, "Address space of the process.", &[], kib * 1_024);
        }
        if let Some(seconds) = cpu_seconds() {
            let name = "process_cpu_seconds_total";
            page.counter(name, "Processor time of the process, user and system.", &[], seconds);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            page.gauge("process_open_fds", "Open file descriptors.", &[], files.count());
        }
    }
}

fn status_kib(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses and may hold blanks; user and system time are the 14th and 15th.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_about_this_process() {
        let mut page = Page::default();
        Process::default().write(&mut page);
        let names: Vec<_> = page.described().map(|d| d.name.to_owned()).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(cpu_seconds().is_some_and(|s| s < 1e6));
        assert!(status_kib("VmRSS:").is_some_and(|kib| kib > 1_000));
    }
}
