//! What the node asks of a host, as plain data.
//!
//! In: a plan made from the topology, or an operator's flags. Out: the values the stages compare the host with. An empty
//! demand asks for nothing, and then only the stages that need no demand (kernel limits, console) have something to say.

use crate::cpus::CpuSet;
use serde::{Deserialize, Serialize};

/// Everything the stages want to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Demand {
    /// Processors that tiles spin on: nothing else shall run there.
    pub tile_cpus: CpuSet,
    /// Huge pages that must be free, by NUMA node and page size.
    pub huge: Vec<HugePages>,
    /// Mount a hugetlbfs for each page size asked for; without it the pages are for anonymous memory only.
    pub huge_mounts: bool,
    /// Bytes the node locks in memory.
    pub memlock_bytes: u64,
    /// Network cards the node drives itself.
    pub nics: Vec<Nic>,
    /// Descriptors a queue of those cards shall have, as far as the card goes; 0 leaves them alone.
    pub ring_entries: u32,
    /// The cards are polled by the tiles, so their interrupts are put off.
    pub busy_poll: bool,
    /// Take SMT siblings of tile processors offline, instead of only leaving them idle.
    pub offline_siblings: bool,
    /// A card that carries the default route may lose its link for a moment.
    pub allow_link_flap: bool,
}

/// Huge pages of one size on one NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// NUMA node.
    pub node: u32,
    /// Page size: 2,048 or 1,048,576 on x86.
    pub page_kb: u64,
    /// Pages that must be free before the node starts.
    pub pages: u64,
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its name, as in `ip link`.
    pub name: String,
    /// Queues: one for each tile that reads packets.
    pub queues: u32,
    /// UDP port of the packets that go to its first queue, the next port to the next queue, and so on; 0: no rule says so.
    #[serde(default)]
    pub udp_port: u16,
}
