//! A directory tree that stands for a host with four cores of two threads, two cards and nothing tuned.
//!
//! In: nothing, or changes to single files. Out: a [`Tree`] that a `Host` reads, and pictures of it to compare.

#![allow(dead_code, missing_docs)]

use hwconfig::demand::{Demand, HugePages, Nic};
use hwconfig::host::Host;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub struct Tree(tempfile::TempDir);

#[rustfmt::skip]
const FILES: &[(&str, &str)] = &[
    ("proc/sys/kernel/random/boot_id", "boot-one"),
    ("proc/sys/kernel/osrelease", "6.18.0"),
    ("proc/sys/kernel/io_uring_disabled", "0"),
    ("proc/sys/kernel/numa_balancing", "1"),
    ("proc/sys/kernel/nmi_watchdog", "1"),
    ("proc/sys/kernel/printk", "7\t4\t1\t7"),
    ("proc/sys/vm/max_map_count", "65530"),
    ("proc/sys/vm/compact_memory", ""),
    ("proc/sys/vm/drop_caches", "0"),
    ("proc/sys/fs/file-max", "1000"),
    ("proc/sys/fs/nr_open", "1048576"),
    ("proc/sys/net/core/rmem_max", "212992"),
    ("proc/sys/net/core/optmem_max", "20480"),
    ("proc/sys/net/ipv6/mld_max_msf", "64"),
    ("proc/sys/net/ipv4/igmp_max_memberships", "20"),
    ("proc/self/limits", "Limit  Soft  Hard  Units\nMax locked memory         8388608              8388608              bytes"),
    ("proc/self/mounts", "proc /proc proc rw 0 0"),
    ("proc/self/cgroup", "0::/"),
    ("proc/cmdline", "quiet ro"),
    ("proc/cpuinfo", "model name\t: Example 9000\nflags\t\t: fpu avx2 sha_ni avx512f avx512ifma pdpe1gb"),
    ("proc/net/route", "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000"),
    ("proc/irq/default_smp_affinity", "ff"),
    ("proc/irq/24/smp_affinity", "ff"),
    ("proc/irq/25/smp_affinity", "02"),
    ("proc/irq/26/smp_affinity", "01"),
    ("irqbalance/banned", ""),
    ("etc/security/limits.d/README", "x"),
    ("etc/systemd/system/README", "x"),
    ("run/README", "x"),
    ("sys/devices/virtual/workqueue/cpumask", "ff"),
    ("sys/devices/virtual/workqueue/writeback/cpumask", "ff"),
    ("sys/devices/system/cpu/online", "0-7"),
    ("sys/devices/system/cpu/nohz_full", "(null)"),
    ("sys/devices/system/node/node0/cpulist", "0-7"),
    ("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       16777216 kB\nNode 0 MemFree: 8388608 kB"),
    ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "10"),
    ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "4"),
    ("sys/devices/system/node/node0/hugepages/hugepages-1048576kB/nr_hugepages", "0"),
    ("sys/devices/system/node/node0/hugepages/hugepages-1048576kB/free_hugepages", "0"),
    ("sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory"),
    ("sys/fs/cgroup/cgroup.subtree_control", "cpu memory"),
    ("sys/fs/cgroup/cgroup.procs", "1"),
    ("sys/class/graphics/fbcon/cursor_blink", "1"),
    ("sys/class/net/lo/operstate", "unknown"),
    ("sys/class/net/fast0/operstate", "up"),
    ("sys/class/net/fast0/napi_defer_hard_irqs", "0"),
    ("sys/class/net/fast0/gro_flush_timeout", "0"),
    ("sys/class/net/fast0/device/numa_node", "0"),
    ("sys/class/net/eth0/operstate", "up"),
    ("netlink/lo/features/tx-udp-segmentation", "on"),
    ("netlink/fast0/channels/combined-max", "8"),
    ("netlink/fast0/channels/combined", "8"),
    ("netlink/fast0/rings/rx-max", "4096"),
    ("netlink/fast0/rings/tx-max", "512"),
    ("netlink/fast0/rings/rx", "256"),
    ("netlink/fast0/rings/tx", "512"),
    ("netlink/fast0/coalesce/adaptive-rx", "1"),
    ("netlink/fast0/coalesce/rx-usecs", "50"),
    ("netlink/fast0/features/rx-udp-gro-forwarding", "on"),
    ("netlink/fast0/features/rx-lro", "off fixed"),
    ("netlink/fast0/features/tx-gre-segmentation", "on"),
    ("netlink/fast0/features/rx-gro", "on"),
    ("netlink/fast0/features/rx-ntuple-filter", "off"),
    ("netlink/fast0/rss/table", "0 1 2 3 4 5 6 7"),
    ("netlink/fast0/ntuple/rules-max", "1024"),
    ("netlink/fast0/ntuple/rule-7", "0a0b"),
    ("netlink/eth0/channels/combined-max", "4"),
    ("netlink/eth0/channels/combined", "4"),
    ("netlink/eth0/rings/rx-max", "1024"),
    ("netlink/eth0/rings/rx", "256"),
];

impl Tree {
    pub fn new() -> Self {
        // In memory where that is possible: the journal is synced before every change.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let tree = Self(folder.expect("a folder"));
        for (path, text) in FILES {
            tree.set(path, text);
        }
        for cpu in 0..8 {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            tree.set(&format!("{folder}/online"), "1");
            tree.set(&format!("{folder}/topology/physical_package_id"), "0");
            let first = cpu % 4;
            tree.set(
                &format!("{folder}/topology/thread_siblings_list"),
                &format!("{first},{}", first + 4),
            );
            tree.set(&format!("{folder}/node0/x"), "");
            for (state, latency) in [("state0", "0"), ("state1", "2"), ("state2", "130")] {
                tree.set(&format!("{folder}/cpuidle/{state}/latency"), latency);
                tree.set(&format!("{folder}/cpuidle/{state}/disable"), "0");
            }
            let policy = format!("sys/devices/system/cpu/cpufreq/policy{cpu}");
            tree.set(&format!("{policy}/affected_cpus"), &cpu.to_string());
            tree.set(&format!("{policy}/scaling_governor"), "schedutil");
            tree.set(&format!("{policy}/scaling_available_governors"), "performance schedutil");
        }
        tree
    }

    pub fn host(&self) -> Host {
        Host::fixture(self.0.path())
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    pub fn set(&self, path: &str, text: &str) {
        let file = self.path(path);
        std::fs::create_dir_all(file.parent().expect("below the root")).expect("a folder");
        std::fs::write(file, format!("{text}\n")).expect("a file");
    }

    pub fn remove(&self, path: &str) {
        let path = self.path(path);
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        removed.expect("it was there");
    }

    pub fn get(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).expect("a file").trim_end().to_owned()
    }

    /// Every folder and file with its bytes, but the journal and the faults that the test planted.
    pub fn picture(&self) -> BTreeMap<String, Vec<u8>> {
        let mut picture = BTreeMap::new();
        walk(self.0.path(), self.0.path(), &mut picture);
        picture
    }
}

fn walk(root: &Path, folder: &Path, picture: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
        // Triggers hold no setting.
        let skipped = ["var", "faults", "proc/sys/vm/compact_memory", "proc/sys/vm/drop_caches"];
        if skipped.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            picture.insert(name + "/", Vec::new());
            walk(root, &path, picture);
        } else {
            picture.insert(name, std::fs::read(&path).expect("a file"));
        }
    }
}

/// Everything that can be asked of that host.
pub fn demand() -> Demand {
    Demand {
        tile_cpus: "1-2".parse().expect("a list"),
        huge: vec![
            HugePages { node: 0, page_kb: 2_048, pages: 100 },
            HugePages { node: 0, page_kb: 1_048_576, pages: 2 },
        ],
        huge_mounts: true,
        memlock_bytes: 1 << 30,
        nics: vec![Nic { name: "fast0".to_owned(), queues: 2, udp_port: 9_999 }],
        ring_entries: 4_096,
        busy_poll: true,
        offline_siblings: true,
        allow_link_flap: false,
    }
}
