//! Stages about kernel parameters: limits, multicast, console.

use crate::demand::Demand;
use crate::host::Host;
use crate::stage::{Assessment, Stage, Verdict, Words};

/// How a row is held against the kernel's value.
#[derive(Clone, Copy)]
enum Mode {
    /// At least this much; never lowered.
    Minimum,
    /// This value.
    Exact,
    /// This value is better; told, not written.
    Warn,
}

/// Path below `/proc/sys`, how, value, why.
type Row = (&'static str, Mode, u64, &'static str);

#[rustfmt::skip]
const LIMITS: [Row; 14] = [
    ("vm/max_map_count",            Mode::Minimum, 1_000_000,  "every arena and link is a mapping of its own"),
    ("fs/file-max",                 Mode::Minimum, 393_216,    "peers, journals and blobs are open files"),
    ("fs/nr_open",                  Mode::Minimum, 1_048_576,  "one process holds all of the node's files"),
    ("net/core/rmem_max",           Mode::Minimum, 67_108_864, "a burst of a block's symbols must fit into the socket"),
    ("net/core/wmem_max",           Mode::Minimum, 67_108_864, "a burst of a block's symbols must fit into the socket"),
    ("net/core/netdev_max_backlog", Mode::Minimum, 16_384,     "packets wait here when a softirq is late"),
    ("net/core/somaxconn",          Mode::Minimum, 4_096,      "peers that connect at once"),
    ("kernel/numa_balancing",       Mode::Exact,   0,          "it unmaps pages to see who touches them: a fault in the hot loop"),
    ("net/core/bpf_jit_enable",     Mode::Warn,    1,          "an XDP program is interpreted without it"),
    ("kernel/nmi_watchdog",         Mode::Warn,    0,          "it interrupts every core and takes a performance counter"),
    ("kernel/timer_migration",      Mode::Warn,    0,          "timers of other cores move to tiles that look idle"),
    ("vm/stat_interval",            Mode::Warn,    120,        "statistics are folded on every core this often"),
    ("vm/zone_reclaim_mode",        Mode::Warn,    0,          "reclaim on the local node stalls an allocation"),
    ("kernel/io_uring_disabled",    Mode::Warn,    0,          "journals fall back to plain files"),
];

#[rustfmt::skip]
const GROUPS: [Row; 4] = [
    ("net/ipv6/mld_max_msf",         Mode::Minimum, 512,     "sources that one IPv6 group membership may name"),
    ("net/ipv4/igmp_max_memberships", Mode::Minimum, 512,    "IPv4 groups that one socket may join"),
    ("net/ipv4/igmp_max_msf",        Mode::Minimum, 512,     "sources that one IPv4 group membership may name"),
    ("net/core/optmem_max",          Mode::Minimum, 131_072, "memberships of a socket are charged against this"),
];

fn written(rows: &[Row]) -> Vec<String> {
    rows.iter()
        .filter(|(_, mode, _, _)| !matches!(mode, Mode::Warn))
        .map(|(path, _, _, _)| format!("/proc/sys/{path}"))
        .collect()
}

fn compare(host: &Host, rows: &[Row]) -> Assessment {
    let mut found = Assessment::default();
    for (path, mode, value, why) in rows {
        let key = format!("/proc/sys/{path}");
        let now = match host.number(&key) {
            // A kernel built without the feature, or a network namespace without it: nothing to hold.
            Ok(None) => continue,
            Ok(Some(now)) => now,
            Err(absurd) => return Assessment::unavailable(absurd),
        };
        let text = value.to_string();
        match mode {
            Mode::Minimum if now >= *value => found.fine(&key, Some(now.to_string())),
            Mode::Minimum => {
                found.exact(host, &key, &text, &format!("at least that, because {why}"));
            }
            Mode::Exact => found.exact(host, &key, &text, why),
            Mode::Warn if now == *value => found.fine(&key, Some(now.to_string())),
            Mode::Warn => {
                let reason = format!("{key} is `{now}`, `{value}` is better: {why}");
                found.warn(&key, Some(now.to_string()), reason);
            }
        }
    }
    if found.findings.is_empty() {
        return Assessment::unavailable("/proc/sys has none of these parameters");
    }
    found
}

/// Limits of the kernel.
pub const SYSCTL: Stage = Stage {
    name: "sysctl",
    words: Words {
        what: "Raises kernel limits that are too low (mappings, files, socket buffers, backlog), turns automatic NUMA balancing \
               off, and warns about others (BPF compiler, watchdog, statistics).",
        why: "A limit that is met shows as a refused mapping at start, or as packets lost in a burst.",
        gain: "no loss in bursts of up to 64 MB per socket, no NUMA faults in hot loops",
        risk: "A larger socket buffer is memory that a slow reader can hold.",
        undo: "Every parameter gets its former value.",
    },
    keys: |_| written(&LIMITS),
    assess: |host, _: &Demand| compare(host, &LIMITS),
};

/// Limits of multicast memberships.
pub const MULTICAST: Stage = Stage {
    name: "multicast",
    words: Words {
        what: "Raises the numbers of groups and sources that a socket may join, for IPv6 and IPv4.",
        why: "Subtrees and symbols are spread over many groups; a join beyond the limit fails, and its packets never arrive.",
        gain: "512 sources a group instead of 64, and 512 groups a socket instead of 20 (IPv4)",
        risk: "None known: the limits guard memory, and each membership is small.",
        undo: "Every parameter gets its former value.",
    },
    keys: |_| written(&GROUPS),
    assess: |host, demand| {
        if demand.nics.is_empty() {
            return Assessment::nothing_asked("no network card is asked for");
        }
        compare(host, &GROUPS)
    },
};

const CURSOR: &str = "/sys/class/graphics/fbcon/cursor_blink";
const PRINTK: &str = "/proc/sys/kernel/printk";
const LOG_LEVEL_MAX: u64 = 4;

/// The console.
pub const CONSOLE: Stage = Stage {
    name: "console",
    words: Words {
        what: "Stops the cursor of the frame buffer console from blinking, and keeps kernel messages below errors off the console.",
        why: "A message printed inside a tile's system call is drawn on that tile's core; a serial console is slow.",
        gain: "no stalls when the kernel has something to say",
        risk: "Warnings are in the kernel log only.",
        undo: "Both get their former values.",
    },
    keys: |_| vec![CURSOR.to_owned(), PRINTK.to_owned()],
    assess: console,
};

fn console(host: &Host, _: &Demand) -> Assessment {
    let mut found = Assessment::default();
    if host.read(CURSOR).is_some() {
        found.exact_if(host, CURSOR, "0", "its timer draws on a core of its choice", Verdict::Off);
    }
    if let Some(levels) = host.read(PRINTK) {
        let words: Vec<&str> = levels.split_whitespace().collect();
        let numbers: Vec<u64> = words.iter().filter_map(|word| word.parse().ok()).collect();
        if numbers.len() != 4 || words.len() != 4 {
            return Assessment::unavailable(format!(
                "{PRINTK} says `{levels}`, expected four numbers"
            ));
        }
        let level = numbers[0].min(LOG_LEVEL_MAX);
        let want = format!("{level}\t{}\t{}\t{}", words[1], words[2], words[3]);
        found.exact(host, PRINTK, &want, "warnings are drawn by the core that caused them");
    }
    if found.findings.is_empty() {
        return Assessment::unavailable("no console and no log level here");
    }
    found
}
