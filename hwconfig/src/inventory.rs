//! `hw show`: what this host is, as far as it matters to the node.
//!
//! In: a host. Out: an [`Inventory`], which prints as a table and serialises as JSON. What the kernel does not tell is absent,
//! never guessed.

use crate::cpus::CpuSet;
use crate::ethtool;
use crate::host::Host;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Flags of x86 that kernels of ours choose by.
const FLAGS: [&str; 8] =
    ["sha_ni", "avx2", "adx", "bmi2", "avx512f", "avx512ifma", "avx512vl", "pdpe1gb"];

/// A host.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inventory {
    /// Model name of the processor.
    pub cpu: String,
    /// Sockets, physical cores, online processors.
    pub sockets: usize,
    /// Physical cores that have a processor online.
    pub cores: usize,
    /// Online processors.
    pub online: CpuSet,
    /// Processors that this process may use.
    pub allowed: CpuSet,
    /// Memory of the machine, as the kernel counts it.
    pub memory_kb: u64,
    /// Every online processor.
    pub cpus: Vec<Cpu>,
    /// Caches of the first processor, smallest first.
    pub caches: Vec<Cache>,
    /// Flags our kernels choose by: present or not.
    pub flags: BTreeMap<&'static str, bool>,
    /// NUMA nodes.
    pub nodes: Vec<Node>,
    /// Network devices.
    pub nics: Vec<NicFacts>,
    /// Whether io_uring is compiled in, and who may use it.
    pub io_uring: String,
    /// Limit on locked memory, soft, as the kernel writes it.
    pub memlock: String,
    /// What the control group allows.
    pub cgroup: Cgroup,
    /// The hypervisor, or `none`.
    pub virtualisation: String,
    /// The container, or `none`.
    pub container: String,
    /// The kernel.
    pub kernel: String,
}

/// A processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Its number.
    pub cpu: u32,
    /// Its socket.
    pub socket: u32,
    /// Its NUMA node.
    pub node: u32,
    /// Itself and the processors that share its physical core.
    pub siblings: CpuSet,
}

/// A cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Level.
    pub level: u64,
    /// Data, Instruction or Unified.
    pub kind: String,
    /// As the kernel writes it, such as 2048K.
    pub size: String,
    /// Who shares it.
    pub shared: CpuSet,
}

/// A NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its number.
    pub node: u32,
    /// Its processors.
    pub cpus: CpuSet,
    /// Memory.
    pub memory_kb: u64,
    /// Pools of huge pages.
    pub pools: Vec<Pool>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Page size.
    pub page_kb: u64,
    /// Pages in the pool.
    pub pages: u64,
    /// Pages nobody uses.
    pub free: u64,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NicFacts {
    /// Its name.
    pub name: String,
    /// Its driver; absent for virtual devices.
    pub driver: Option<String>,
    /// Its NUMA node; absent where it has none.
    pub node: Option<u32>,
    /// `up`, `down`, `unknown`.
    pub state: String,
    /// Whether a default route goes through it.
    pub default_route: bool,
    /// Queues that exist, receive and transmit.
    pub queues: [usize; 2],
    /// Channels and their maxima.
    pub channels: BTreeMap<String, String>,
    /// Rings and their maxima.
    pub rings: BTreeMap<String, String>,
    /// Offloads that are on.
    pub offloads: Vec<String>,
    /// XDP modes of the driver; absent where the kernel does not tell.
    pub xdp: Option<Vec<String>>,
}

/// Limits of the control group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cgroup {
    /// `v1`, `v2` or `none`.
    pub version: String,
    /// Processors' worth of time; absent for no limit.
    pub quota_cpus: Option<f64eq::Hundredths>,
    /// Processors.
    pub cpuset: Option<CpuSet>,
    /// Bytes of memory; absent for no limit.
    pub memory_bytes: Option<u64>,
}

/// A share of processors with two digits, which compares.
pub mod f64eq {
    use serde::{Serialize, Serializer};

    /// Hundredths.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Hundredths(pub u64);

    impl Serialize for Hundredths {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_f64(self.0 as f64 / 100.0)
        }
    }
}

impl Inventory {
    /// Reads the host.
    pub fn read(host: &Host) -> Self {
        let cpuinfo = host.text("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            cpuinfo
                .lines()
                .find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let words = field("flags");
        let has: Vec<&str> = words.split_whitespace().collect();
        let online = host.online().unwrap_or_default();
        let cpus: Vec<Cpu> = online.iter().map(|cpu| read_cpu(host, cpu)).collect();
        let mut sockets: Vec<u32> = cpus.iter().map(|cpu| cpu.socket).collect();
        sockets.sort_unstable();
        sockets.dedup();
        let mut cores: Vec<Option<u32>> = cpus.iter().map(|cpu| cpu.siblings.first()).collect();
        cores.sort_unstable();
        cores.dedup();
        Self {
            cpu: field("model name"),
            sockets: sockets.len(),
            cores: cores.len(),
            allowed: allowed(host, &online),
            memory_kb: memory_kb(host),
            cpus,
            caches: caches(host, online.first().unwrap_or(0)),
            flags: FLAGS.iter().map(|flag| (*flag, has.contains(flag))).collect(),
            nodes: nodes(host),
            nics: nics(host),
            io_uring: io_uring(host),
            memlock: memlock(host),
            cgroup: cgroup(host),
            virtualisation: virtualisation(host, has.contains(&"hypervisor")),
            container: container(host),
            kernel: host.text("/proc/sys/kernel/osrelease").unwrap_or_default(),
            online,
        }
    }
}

fn read_cpu(host: &Host, cpu: u32) -> Cpu {
    let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
    let siblings = host.cpu_list(&format!("{folder}/topology/thread_siblings_list")).ok().flatten();
    let socket = host.number(&format!("{folder}/topology/physical_package_id")).ok().flatten();
    Cpu {
        cpu,
        socket: socket.unwrap_or(0) as u32,
        node: host.numbered(&folder, "node").first().copied().unwrap_or(0),
        siblings: siblings.unwrap_or_else(|| CpuSet::from_iter([cpu])),
    }
}

/// Processors this process may use, and those of the tiles' own control group, which the kernel takes out of everybody's.
fn allowed(host: &Host, online: &CpuSet) -> CpuSet {
    let status = host.text("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let allowed = line.and_then(|list| CpuSet::parse_list(list).ok());
    let group = format!("/sys/fs/cgroup/{}/cpuset.cpus", crate::stages::CGROUP);
    let ours = host.cpu_list(&group).ok().flatten().unwrap_or_default();
    allowed.map_or_else(|| online.clone(), |allowed| allowed.or(&ours)).and(online)
}

fn caches(host: &Host, cpu: u32) -> Vec<Cache> {
    let folder = format!("/sys/devices/system/cpu/cpu{cpu}/cache");
    host.numbered(&folder, "index")
        .iter()
        .filter_map(|index| {
            let read = |name: &str| host.text(&format!("{folder}/index{index}/{name}"));
            Some(Cache {
                level: read("level")?.parse().ok()?,
                kind: read("type")?,
                size: read("size")?,
                shared: CpuSet::parse_list(&read("shared_cpu_list")?).ok()?,
            })
        })
        .collect()
}

fn nodes(host: &Host) -> Vec<Node> {
    let read_node = |node: u32| {
        let folder = format!("/sys/devices/system/node/node{node}");
        let meminfo = host.text(&format!("{folder}/meminfo")).unwrap_or_default();
        let total = meminfo.lines().find(|line| line.contains("MemTotal:"));
        let kb = total.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
        let pools = host.names(&format!("{folder}/hugepages")).into_iter().filter_map(|name| {
            let count = |what: &str| {
                host.number(&format!("{folder}/hugepages/{name}/{what}")).ok().flatten()
            };
            Some(Pool {
                page_kb: name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?,
                pages: count("nr_hugepages")?,
                free: count("free_hugepages")?,
            })
        });
        Node {
            node,
            cpus: host.cpu_list(&format!("{folder}/cpulist")).ok().flatten().unwrap_or_default(),
            memory_kb: kb.unwrap_or(0),
            pools: pools.collect(),
        }
    };
    host.numbered("/sys/devices/system/node", "node").into_iter().map(read_node).collect()
}

fn nics(host: &Host) -> Vec<NicFacts> {
    let routed = host.default_route_devices();
    let read_nic = |name: String| {
        let folder = format!("/sys/class/net/{name}");
        let queues = host.names(&format!("{folder}/queues"));
        let count = |prefix: &str| queues.iter().filter(|queue| queue.starts_with(prefix)).count();
        let driver = std::fs::read_link(host.path(&format!("{folder}/device/driver"))).ok();
        let driver = driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
        let on = |(name, value): (String, String)| value.starts_with("on").then_some(name);
        let ifindex = host.number(&format!("{folder}/ifindex")).ok().flatten();
        let xdp = ifindex
            .filter(|_| !host.is_fixture())
            .and_then(|index| ethtool::xdp_modes(index as u32));
        NicFacts {
            driver: driver.or_else(|| host.text(&format!("{folder}/device/driver_name"))),
            node: host
                .text(&format!("{folder}/device/numa_node"))
                .and_then(|node| node.parse().ok()),
            state: host
                .text(&format!("{folder}/operstate"))
                .unwrap_or_else(|| "unknown".to_owned()),
            default_route: routed.contains(&name),
            queues: [count("rx-"), count("tx-")],
            channels: host.netlink(&name, "channels"),
            rings: host.netlink(&name, "rings"),
            offloads: host.netlink(&name, "features").into_iter().filter_map(on).collect(),
            xdp: xdp.map(|modes| modes.into_iter().map(str::to_owned).collect()),
            name,
        }
    };
    host.network_devices().into_iter().map(read_nic).collect()
}

fn memory_kb(host: &Host) -> u64 {
    let text = host.text("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

fn io_uring(host: &Host) -> String {
    match host.text("/proc/sys/kernel/io_uring_disabled").as_deref() {
        Some("0") => "available to all (a seccomp profile may still forbid it)".to_owned(),
        Some("1") => "for CAP_SYS_ADMIN and the group of kernel.io_uring_group only".to_owned(),
        Some("2") => "disabled by kernel.io_uring_disabled".to_owned(),
        Some(other) => format!("kernel.io_uring_disabled says `{other}`"),
        None => "the kernel does not say (older than 6.6, or built without it)".to_owned(),
    }
}

fn memlock(host: &Host) -> String {
    let limits = host.text("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    line.and_then(|rest| rest.split_whitespace().next()).unwrap_or("unknown").to_owned()
}

fn cgroup(host: &Host) -> Cgroup {
    let of = host.text("/proc/self/cgroup").unwrap_or_default();
    let group = |controller: &str| {
        of.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            names
                .split(',')
                .any(|name| name == controller)
                .then(|| path.trim_end_matches('/').to_owned())
        })
    };
    let number = |path: String| host.text(&path).and_then(|text| text.parse::<u64>().ok());
    if host.path("/sys/fs/cgroup/cgroup.controllers").exists() {
        let folder = format!("/sys/fs/cgroup{}", group("").unwrap_or_default());
        let max = host.text(&format!("{folder}/cpu.max")).unwrap_or_default();
        let mut words = max.split_whitespace().map(str::parse::<u64>);
        let quota = match (words.next(), words.next()) {
            (Some(Ok(quota)), Some(Ok(period))) if period > 0 => {
                Some(quota.saturating_mul(100) / period)
            }
            _ => None,
        };
        return Cgroup {
            version: "v2".to_owned(),
            quota_cpus: quota.map(f64eq::Hundredths),
            cpuset: host.cpu_list(&format!("{folder}/cpuset.cpus.effective")).ok().flatten(),
            memory_bytes: number(format!("{folder}/memory.max")),
        };
    }
    let Some(cpu) = group("cpu") else {
        return Cgroup {
            version: "none".to_owned(),
            quota_cpus: None,
            cpuset: None,
            memory_bytes: None,
        };
    };
    let quota = number(format!("/sys/fs/cgroup/cpu{cpu}/cpu.cfs_quota_us"));
    let period =
        number(format!("/sys/fs/cgroup/cpu{cpu}/cpu.cfs_period_us")).filter(|period| *period > 0);
    let set = format!(
        "/sys/fs/cgroup/cpuset{}/cpuset.effective_cpus",
        group("cpuset").unwrap_or_default()
    );
    let memory = format!(
        "/sys/fs/cgroup/memory{}/memory.limit_in_bytes",
        group("memory").unwrap_or_default()
    );
    Cgroup {
        version: "v1".to_owned(),
        quota_cpus: quota
            .zip(period)
            .map(|(quota, period)| f64eq::Hundredths(quota.saturating_mul(100) / period)),
        cpuset: host.cpu_list(&set).ok().flatten(),
        // Without a limit v1 shows the largest multiple of a page.
        memory_bytes: number(memory).filter(|bytes| *bytes < 1 << 60),
    }
}

fn virtualisation(host: &Host, flagged: bool) -> String {
    if let Some(name) = host.text("/sys/hypervisor/type") {
        return name;
    }
    let product = host.text("/sys/class/dmi/id/product_name").unwrap_or_default();
    let vendor = host.text("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    match (flagged, format!("{vendor} {product}").trim()) {
        (false, _) => "none".to_owned(),
        (true, "") => "a hypervisor that does not say its name".to_owned(),
        (true, name) => name.to_owned(),
    }
}

fn container(host: &Host) -> String {
    if host.path("/.dockerenv").exists() {
        return "docker".to_owned();
    }
    if host.path("/run/.containerenv").exists() {
        return "podman".to_owned();
    }
    host.text("/run/systemd/container").unwrap_or_else(|| "none".to_owned())
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let have: Vec<&str> =
            self.flags.iter().filter(|(_, has)| **has).map(|(flag, _)| *flag).collect();
        let lack: Vec<&str> =
            self.flags.iter().filter(|(_, has)| !**has).map(|(flag, _)| *flag).collect();
        writeln!(f, "kernel          {}", self.kernel)?;
        writeln!(f, "cpu             {}", self.cpu)?;
        writeln!(
            f,
            "sockets, cores  {}, {}; online {}, allowed {}",
            self.sockets, self.cores, self.online, self.allowed
        )?;
        writeln!(f, "flags           has {}; lacks {}", have.join(" "), lack.join(" "))?;
        for cache in &self.caches {
            writeln!(
                f,
                "cache L{}        {} {}, shared by {}",
                cache.level, cache.size, cache.kind, cache.shared
            )?;
        }
        for node in &self.nodes {
            writeln!(
                f,
                "node {}          cpus {}, {} MB",
                node.node,
                node.cpus,
                node.memory_kb >> 10
            )?;
            for pool in &node.pools {
                writeln!(
                    f,
                    "                {} of {} pages of {} kB free",
                    pool.free, pool.pages, pool.page_kb
                )?;
            }
        }
        for nic in &self.nics {
            let driver = nic.driver.as_deref().unwrap_or("virtual");
            let route = if nic.default_route { ", default route" } else { "" };
            let [rx, tx] = nic.queues;
            let node = nic.node.map(|node| format!(", node {node}")).unwrap_or_default();
            let xdp = nic.xdp.as_ref().map_or_else(
                || "unknown".to_owned(),
                |modes| {
                    if modes.is_empty() { "generic only".to_owned() } else { modes.join(" ") }
                },
            );
            writeln!(
                f,
                "nic {:<11} {driver}, {}{route}{node}, queues {rx} rx {tx} tx, xdp {xdp}",
                nic.name, nic.state
            )?;
        }
        let cgroup = &self.cgroup;
        let quota = cgroup.quota_cpus.map_or_else(
            || "none".to_owned(),
            |f64eq::Hundredths(n)| format!("{}.{:02}", n / 100, n % 100),
        );
        let set = cgroup.cpuset.as_ref().map_or_else(|| "all".to_owned(), ToString::to_string);
        let memory = cgroup
            .memory_bytes
            .map_or_else(|| "none".to_owned(), |bytes| format!("{} MB", bytes >> 20));
        writeln!(
            f,
            "cgroup          {}, cpu quota {quota}, cpus {set}, memory limit {memory}",
            cgroup.version
        )?;
        writeln!(f, "io_uring        {}", self.io_uring)?;
        writeln!(f, "memlock         {}", self.memlock)?;
        writeln!(f, "virtualisation  {}", self.virtualisation)?;
        write!(f, "container       {}", self.container)
    }
}
