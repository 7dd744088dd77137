//! Stages about memory: pools of huge pages and their mounts, and the limit on locked memory.

use crate::demand::{Demand, HugePages};
use crate::host::Host;
use crate::stage::{Assessment, Stage, Verdict, Words};

/// Folder of the hugetlbfs mounts.
pub const HUGE_MOUNTS: &str = "/run/metanode";
const LIMITS_FILE: &str = "file:/etc/security/limits.d/90-metanode.conf";
const CAP_IPC_LOCK: u32 = 14;

/// Pools of huge pages.
pub const HUGETLBFS: Stage = Stage {
    name: "hugetlbfs",
    words: Words {
        what: "Raises the pool of huge pages (2 MB and 1 GB) of each NUMA node until as many are free as the node asks for, \
               and mounts a hugetlbfs for each size when mounts are asked for. A pool is never lowered by apply.",
        why: "A shard touches its index at random places: with 4 kB pages nearly every probe misses the TLB as well.",
        gain: "one page walk less per UTXO probe, and no page faults after start",
        risk: "The pages are taken from other programs. If memory is fragmented the kernel is asked to compact it, which takes \
               seconds.",
        undo: "The pool gets its former size; pages in use stay until their owner ends.",
    },
    keys: |host| {
        let mut keys = Vec::new();
        for node in host.numbered("/sys/devices/system/node", "node") {
            for kb in sizes(host, node) {
                keys.push(pool(node, kb) + "/nr_hugepages");
            }
        }
        keys.push(format!("dir:{HUGE_MOUNTS}"));
        for kb in [2_048, 1_048_576] {
            keys.push(format!("dir:{HUGE_MOUNTS}/huge-{kb}kB"));
            keys.push(format!("mount:{HUGE_MOUNTS}/huge-{kb}kB"));
        }
        keys
    },
    assess: hugetlbfs,
};

fn pool(node: u32, kb: u64) -> String {
    format!("/sys/devices/system/node/node{node}/hugepages/hugepages-{kb}kB")
}

fn sizes(host: &Host, node: u32) -> Vec<u64> {
    host.names(&format!("/sys/devices/system/node/node{node}/hugepages"))
        .iter()
        .filter_map(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok())
        .collect()
}

fn hugetlbfs(host: &Host, demand: &Demand) -> Assessment {
    if demand.huge.is_empty() {
        return Assessment::nothing_asked("no huge pages are asked for");
    }
    let mut found = Assessment::default();
    for asked in &demand.huge {
        if let Err(absurd) = one_pool(host, asked, &mut found) {
            return Assessment::unavailable(absurd);
        }
    }
    if demand.huge_mounts {
        let mut sizes: Vec<u64> = demand.huge.iter().map(|asked| asked.page_kb).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let why = "the node maps its memory from there";
        found.exact(host, &format!("dir:{HUGE_MOUNTS}"), "present", why);
        for kb in sizes {
            found.exact(host, &format!("dir:{HUGE_MOUNTS}/huge-{kb}kB"), "present", why);
            found.exact(host, &format!("mount:{HUGE_MOUNTS}/huge-{kb}kB"), &kb.to_string(), why);
        }
    }
    found
}

fn one_pool(host: &Host, asked: &HugePages, found: &mut Assessment) -> Result<(), String> {
    let HugePages { node, page_kb, pages } = *asked;
    let folder = pool(node, page_kb);
    let key = format!("{folder}/nr_hugepages");
    let (Some(all), Some(free)) =
        (host.number(&key)?, host.number(&format!("{folder}/free_hugepages"))?)
    else {
        let have = sizes(host, node);
        let reason = format!(
            "node {node} has no pages of {page_kb} kB (it has {have:?}); for pages of 1 GB the processor needs `pdpe1gb`"
        );
        found.off_for_good(&key, None, reason);
        return Ok(());
    };
    if free > all {
        return Err(format!("{folder} says {free} pages of {all} are free"));
    }
    if free >= pages {
        found.fine(&key, Some(all.to_string()));
        return Ok(());
    }
    let short = pages - free;
    let total_kb = node_memory_kb(host, node);
    let room = total_kb.map(|total_kb| total_kb.saturating_sub(all.saturating_mul(page_kb)));
    if short.checked_mul(page_kb).is_none() || room.is_some_and(|room| short * page_kb > room) {
        found.off_for_good(
            &key,
            Some(all.to_string()),
            format!("{short} more pages of {page_kb} kB do not fit into node {node}, which has {} kB in all", total_kb.unwrap_or(0)),
        );
        return Ok(());
    }
    let why = format!("{free} of {all} pages are free and {pages} are asked for");
    found.exact(host, &key, &(all + short).to_string(), &why);
    Ok(())
}

fn node_memory_kb(host: &Host, node: u32) -> Option<u64> {
    let text = host.text(&format!("/sys/devices/system/node/node{node}/meminfo"))?;
    let line = text.lines().find(|line| line.contains("MemTotal:"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// The limit on locked memory.
pub const MEMLOCK: Stage = Stage {
    name: "memlock",
    words: Words {
        what: "Writes /etc/security/limits.d/90-metanode.conf with the limit on locked memory that the node needs. It holds from \
               the next login; a systemd unit says LimitMEMLOCK itself.",
        why: "Rings that a card or io_uring writes into must not be paged out, and registering them counts against the limit.",
        gain: "registered buffers: one copy and one page-table walk less per packet",
        risk: "A program of any user may lock that much memory.",
        undo: "The file gets its former text, or is removed; also after a reboot.",
    },
    keys: |_| vec![LIMITS_FILE.to_owned()],
    assess: memlock,
};

fn memlock(host: &Host, demand: &Demand) -> Assessment {
    let asked = demand.memlock_bytes;
    if asked == 0 {
        return Assessment::nothing_asked("no locked memory is asked for");
    }
    let status = host.text("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    if bits >> CAP_IPC_LOCK & 1 == 1 {
        return Assessment::nothing_asked("CAP_IPC_LOCK is held, so no limit counts");
    }
    let limits = host.text("/proc/self/limits").unwrap_or_default();
    let Some(line) = limits.lines().find_map(|line| line.strip_prefix("Max locked memory")) else {
        return Assessment::unavailable("/proc/self/limits has no line about locked memory");
    };
    let mut found = Assessment::default();
    let soft = line.split_whitespace().next().unwrap_or_default();
    let enough = soft == "unlimited" || soft.parse::<u64>().is_ok_and(|limit| limit >= asked);
    if enough {
        found.fine("/proc/self/limits", Some(soft.to_owned()));
        return found;
    }
    if soft.parse::<u64>().is_err() {
        return Assessment::unavailable(format!(
            "/proc/self/limits says `{soft}` about locked memory"
        ));
    }
    let text = format!("# written by metanode hw\n* - memlock {}\n", asked.div_ceil(1024));
    let why = format!(
        "this process may lock {soft} bytes and the node locks {asked}; holds from the next login"
    );
    found.exact_if(host, LIMITS_FILE, &text, &why, Verdict::Off);
    if let Some(finding) = found.findings.last_mut()
        && finding.verdict == Verdict::Fine
    {
        "written already; holds from the next login".clone_into(&mut found.note);
    }
    found
}
