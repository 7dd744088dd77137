//! `hw plan`: cores of the topology onto processors of a host.
//!
//! In: what each core of the topology runs, how much memory it wants, and which card it reads from; and an inventory. Out: a
//! [`Layout`]: one physical core for each, near its card where it has one, SMT siblings idle, one physical core left for the
//! kernel and everything else, huge pages on the node of the core that uses them; and the demand that follows.

use crate::cpus::CpuSet;
use crate::demand::{Demand, HugePages, Nic};
use crate::inventory::{Cpu, Inventory};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

const HUGE_2M_KB: u64 = 2_048;
const HUGE_1G_KB: u64 = 1_048_576;
/// Cores in one plan, at most: as many as processors.
const CORES_MAX: usize = crate::cpus::CPU_MAX as usize + 1;

/// One core of the topology.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoreDemand {
    /// Tiles that turn on it, such as `validate:0`.
    pub tiles: Vec<String>,
    /// The card it reads from.
    pub nic: Option<String>,
    /// Memory on huge pages.
    pub huge_bytes: u64,
}

/// Where a core of the topology runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// Index of the core in the topology.
    pub core: usize,
    /// Its tiles.
    pub tiles: Vec<String>,
    /// The processor.
    pub cpu: u32,
    /// Its NUMA node.
    pub node: u32,
    /// Processors that share its physical core and stay idle.
    pub idle: CpuSet,
    /// The card it reads from.
    pub nic: Option<String>,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Where the cores run, in the order of the topology.
    pub cores: Vec<Placed>,
    /// Processors for the kernel and everything else.
    pub kernel: CpuSet,
    /// What follows for the host.
    pub demand: Demand,
}

/// No plan for this host.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// More cores than there are.
    #[error(
        "{asked} cores are asked for; of {physical} physical cores that this process may use ({allowed}), {fit} can run tiles \
             and one is the kernel's; ask for `--cores {fit}`"
    )]
    TooFew {
        /// Cores of the topology.
        asked: usize,
        /// Physical cores.
        physical: usize,
        /// Allowed processors.
        allowed: CpuSet,
        /// Cores that fit.
        fit: usize,
    },
    /// A card that is not there.
    #[error("no network card is called `{0}`")]
    NoSuchNic(String),
}

/// Cores of a topology that fit on a host: all physical cores but one, and one where there is only one.
pub fn cores_that_fit(host: &Inventory) -> usize {
    physical(host).len().saturating_sub(1).max(1)
}

/// One processor of each physical core that this process may use, in ascending order.
fn physical(host: &Inventory) -> Vec<&Cpu> {
    let mut seen = CpuSet::new();
    let mut firsts = Vec::new();
    for cpu in host.cpus.iter().filter(|cpu| host.allowed.contains(cpu.cpu)) {
        if !seen.contains(cpu.cpu) {
            seen = seen.or(&cpu.siblings);
            seen.insert(cpu.cpu);
            firsts.push(cpu);
        }
    }
    firsts
}

/// Makes a plan. `page_kb` is the size of huge pages, 2,048 or 1,048,576.
pub fn plan(host: &Inventory, cores: &[CoreDemand], page_kb: u64) -> Result<Layout, PlanError> {
    let mut free = physical(host);
    let (count, fit) = (free.len(), free.len().saturating_sub(1));
    if cores.len() > fit || cores.len() > CORES_MAX {
        return Err(PlanError::TooFew {
            asked: cores.len(),
            physical: count,
            allowed: host.allowed.clone(),
            fit,
        });
    }
    // The first physical core takes the boot processor's interrupts anyway, so it is the kernel's.
    free.remove(0);
    let mut placed: Vec<Option<Placed>> = vec![None; cores.len()];
    // Cores with a card choose first; the others then fill the node where most of those are.
    let node_of = |name: &str| host.nics.iter().find(|nic| nic.name == name).map(|nic| nic.node);
    for (index, core) in cores.iter().enumerate() {
        let Some(nic) = &core.nic else { continue };
        let near = node_of(nic).ok_or_else(|| PlanError::NoSuchNic(nic.clone()))?;
        let at = free.iter().position(|cpu| near.is_none_or(|node| cpu.node == node)).unwrap_or(0);
        placed[index] = Some(place(index, core, free.remove(at)));
    }
    let home = placed.iter().flatten().map(|core| core.node).next();
    for (index, core) in cores.iter().enumerate() {
        if placed[index].is_none() {
            let at =
                free.iter().position(|cpu| home.is_none_or(|node| cpu.node == node)).unwrap_or(0);
            placed[index] = Some(place(index, core, free.remove(at)));
        }
    }
    let placed: Vec<Placed> = placed.into_iter().flatten().collect();
    let tiles: CpuSet = placed.iter().map(|core| core.cpu).collect();
    let idle = placed.iter().fold(CpuSet::new(), |all, core| all.or(&core.idle));
    let mut demand = Demand { tile_cpus: tiles.clone(), ..Demand::default() };
    let mut memory: BTreeMap<u32, u64> = BTreeMap::new();
    let mut nics: BTreeMap<String, u32> = BTreeMap::new();
    for (core, asked) in placed.iter().zip(cores) {
        *memory.entry(core.node).or_default() += asked.huge_bytes;
        if let Some(nic) = &asked.nic {
            *nics.entry(nic.clone()).or_default() += 1;
        }
    }
    let page_kb = if page_kb == HUGE_1G_KB { HUGE_1G_KB } else { HUGE_2M_KB };
    for (node, bytes) in memory.into_iter().filter(|(_, bytes)| *bytes > 0) {
        demand.huge.push(HugePages { node, page_kb, pages: bytes.div_ceil(page_kb << 10) });
        demand.memlock_bytes += bytes;
    }
    demand.nics =
        nics.into_iter().map(|(name, queues)| Nic { name, queues, udp_port: 0 }).collect();
    Ok(Layout { cores: placed, kernel: host.online.minus(&tiles).minus(&idle), demand })
}

fn place(index: usize, core: &CoreDemand, cpu: &Cpu) -> Placed {
    Placed {
        core: index,
        tiles: core.tiles.clone(),
        cpu: cpu.cpu,
        node: cpu.node,
        idle: cpu.siblings.minus(&CpuSet::from_iter([cpu.cpu])),
        nic: core.nic.clone(),
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "core  cpu  node  idle      nic       tiles")?;
        for core in &self.cores {
            let idle = if core.idle.is_empty() { "-".to_owned() } else { core.idle.to_string() };
            let nic = core.nic.as_deref().unwrap_or("-");
            let tiles = core.tiles.join(" ");
            writeln!(
                f,
                "{:<5} {:<4} {:<5} {idle:<9} {nic:<9} {tiles}",
                core.core, core.cpu, core.node
            )?;
        }
        writeln!(f, "kernel and everything else: {}", self.kernel)?;
        for huge in &self.demand.huge {
            let mb = (huge.pages * huge.page_kb) >> 10;
            writeln!(
                f,
                "memory: node {}, {} pages of {} kB ({mb} MB)",
                huge.node, huge.pages, huge.page_kb
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::inventory::NicFacts;

    /// Two sockets with four cores of two threads each; siblings are 8 apart, as Intel numbers them.
    fn host() -> Inventory {
        let tree = tempfile::tempdir().expect("a folder");
        let mut host = Inventory::read(&Host::fixture(tree.path()));
        host.online = (0..16).collect();
        host.allowed = host.online.clone();
        host.cpus = (0..16)
            .map(|cpu| Cpu {
                cpu,
                socket: cpu % 8 / 4,
                node: cpu % 8 / 4,
                siblings: [cpu % 8, cpu % 8 + 8].into_iter().collect(),
            })
            .collect();
        host.nics = vec![NicFacts {
            name: "fast0".to_owned(),
            driver: None,
            node: Some(1),
            state: "up".to_owned(),
            default_route: false,
            queues: [1, 1],
            channels: BTreeMap::new(),
            rings: BTreeMap::new(),
            offloads: Vec::new(),
            xdp: None,
        }];
        host
    }

    fn core(tile: &str, nic: Option<&str>) -> CoreDemand {
        CoreDemand {
            tiles: vec![tile.to_owned()],
            nic: nic.map(str::to_owned),
            huge_bytes: 3 << 20,
        }
    }

    #[test]
    fn tiles_stand_near_their_card_on_cores_of_their_own_and_the_kernel_keeps_one() {
        let asked = [core("shard:0", None), core("bfr", Some("fast0")), core("shard:1", None)];
        let layout = plan(&host(), &asked, 2_048).expect("eight cores");
        let cpus: Vec<u32> = layout.cores.iter().map(|core| core.cpu).collect();
        assert_eq!(cpus, [5, 4, 6], "the card is on node 1");
        assert_eq!(layout.cores[1].idle.to_string(), "12");
        assert_eq!(layout.kernel.to_string(), "0-3,7-11,15");
        assert_eq!(layout.demand.huge, [HugePages { node: 1, page_kb: 2_048, pages: 5 }]);
        assert_eq!(layout.demand.nics, [Nic { name: "fast0".to_owned(), queues: 1, udp_port: 0 }]);
        let json = serde_json::to_string(&layout).expect("plain data");
        assert_eq!(serde_json::from_str::<Layout>(&json).expect("our own"), layout);
    }

    #[test]
    fn a_plan_that_would_leave_the_kernel_nothing_is_refused_with_the_number_that_fits() {
        let asked: Vec<CoreDemand> = (0..8).map(|_| core("x", None)).collect();
        let refused = plan(&host(), &asked, 2_048).expect_err("one is the kernel's");
        assert!(refused.to_string().contains("`--cores 7`"), "{refused}");
        assert!(plan(&host(), &asked[..7], 2_048).is_ok());
        let missing = plan(&host(), &[core("x", Some("eth9"))], 2_048);
        assert_eq!(missing, Err(PlanError::NoSuchNic("eth9".to_owned())));
        let mut small = host();
        small.allowed = CpuSet::from_iter([3]);
        assert!(plan(&small, &[core("x", None)], 2_048).is_err());
    }
}
