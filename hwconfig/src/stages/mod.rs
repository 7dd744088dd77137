//! All stages, as one table, in the order in which apply goes through them; undo goes the other way.

mod kernel;
mod memory;
mod network;
mod processors;

use crate::stage::Stage;

pub use memory::HUGE_MOUNTS;
pub use processors::CGROUP;

/// The table.
pub static STAGES: [Stage; 22] = [
    memory::HUGETLBFS,
    kernel::SYSCTL,
    memory::MEMLOCK,
    processors::SMT,
    processors::CPUSET,
    processors::IRQBALANCE,
    processors::IRQ_AFFINITY,
    processors::KWORKERS,
    processors::GOVERNOR,
    processors::C_STATES,
    processors::NOHZ_FULL,
    processors::RCU_NOCBS,
    network::CHANNELS,
    network::RSS,
    network::NTUPLE,
    network::RINGS,
    network::COALESCE,
    network::OFFLOADS,
    network::LOOPBACK,
    network::NAPI,
    kernel::MULTICAST,
    kernel::CONSOLE,
];

/// Stages of these names, in the order of the table; no name means all. `Err` is a name that is not there.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Stage>, String> {
    if let Some(unknown) =
        names.iter().find(|name| !STAGES.iter().any(|stage| stage.name == **name))
    {
        let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        return Err(format!("no stage is called `{unknown}`; there are {}", known.join(", ")));
    }
    let chosen = |stage: &&Stage| names.is_empty() || names.iter().any(|name| name == stage.name);
    Ok(STAGES.iter().filter(chosen).collect())
}
