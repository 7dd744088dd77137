//! Stages about processors: who else runs where the tiles spin.

use crate::cpus::CpuSet;
use crate::demand::Demand;
use crate::host::Host;
use crate::stage::{Assessment, Stage, Verdict, Words};

/// The control group of the tiles.
pub const CGROUP: &str = "metanode";
const V1: &str = "/sys/fs/cgroup/cpuset";
const V2: &str = "/sys/fs/cgroup";
const CPU: &str = "/sys/devices/system/cpu";
/// A sleep state that takes longer to leave is switched off on tile processors.
const EXIT_LATENCY_US_MAX: u64 = 10;

/// What most stages here start from.
struct Tiles {
    online: CpuSet,
    tiles: CpuSet,
}

impl Tiles {
    /// The processors of the demand, if they make sense on this host; otherwise what to say instead.
    fn on(host: &Host, demand: &Demand) -> Result<Self, Assessment> {
        let tiles = demand.tile_cpus.clone();
        if tiles.is_empty() {
            return Err(Assessment::nothing_asked("no processors are asked for"));
        }
        let online = host.online().map_err(Assessment::unavailable)?;
        if online.is_empty() {
            return Err(Assessment::unavailable(format!("{CPU}/online names no processor")));
        }
        let absent = tiles.minus(&online);
        if !absent.is_empty() {
            let reason = format!("processors {absent} are asked for and only {online} are online");
            return Err(Assessment::unavailable(reason));
        }
        if online.minus(&tiles).is_empty() {
            let reason =
                format!("all processors ({online}) are asked for; the kernel needs one of them");
            return Err(Assessment::unavailable(reason));
        }
        Ok(Self { online, tiles })
    }

    /// `mask` without tile processors; all other processors if nothing is left.
    fn spare(&self, mask: &CpuSet) -> CpuSet {
        let rest = mask.minus(&self.tiles);
        if rest.and(&self.online).is_empty() { self.online.minus(&self.tiles) } else { rest }
    }
}

/// A mask that shall not name tile processors.
fn keep_off(
    host: &Host,
    tiles: &Tiles,
    key: &str,
    why: &str,
    off: Verdict,
    found: &mut Assessment,
) {
    let Some(text) = host.read(key) else { return };
    match CpuSet::parse_mask(&text) {
        Ok(mask) if mask.and(&tiles.tiles).is_empty() => found.fine(key, Some(text)),
        Ok(mask) => found.exact_if(host, key, &tiles.spare(&mask).mask(), why, off),
        Err(error) => found.warn(key, Some(text), format!("{key}: {error}")),
    }
}

/// The same for several masks, each with its reason and with what it means if it is off; a host without any has no say.
fn keep_all_off(
    host: &Host,
    demand: &Demand,
    masks: impl IntoIterator<Item = (String, &'static str, Verdict)>,
    absent: &str,
) -> Assessment {
    let tiles = match Tiles::on(host, demand) {
        Ok(tiles) => tiles,
        Err(say) => return say,
    };
    let mut found = Assessment::default();
    for (key, why, off) in masks {
        keep_off(host, &tiles, &key, why, off, &mut found);
    }
    if found.findings.is_empty() { Assessment::unavailable(absent) } else { found }
}

/// SMT siblings.
pub const SMT: Stage = Stage {
    name: "smt",
    words: Words {
        what: "Checks that no two tiles share a physical core, and takes the siblings of tile processors offline when that is asked \
               for.",
        why: "Two threads of a core share its execution units and caches; a spinning neighbour takes its share of a tile's speed.",
        gain: "the execution units and caches of the whole core, and no jitter from its neighbour",
        risk: "The host has fewer processors for everything else.",
        undo: "The siblings come online again.",
    },
    keys: |host| {
        host.numbered(CPU, "cpu")
            .iter()
            .map(|cpu| format!("{CPU}/cpu{cpu}/online"))
            .filter(|key| host.read(key).is_some())
            .collect()
    },
    assess: |host, demand| {
        let tiles = match Tiles::on(host, demand) {
            Ok(tiles) => tiles,
            Err(say) => return say,
        };
        let mut found = Assessment::default();
        for cpu in tiles.tiles.iter() {
            let key = format!("{CPU}/cpu{cpu}/topology/thread_siblings_list");
            let siblings = match host.cpu_list(&key) {
                Ok(siblings) => siblings.unwrap_or_default(),
                Err(absurd) => return Assessment::unavailable(absurd),
            };
            let others = siblings.minus(&CpuSet::from_iter([cpu])).and(&tiles.online);
            for other in others.iter() {
                if tiles.tiles.contains(other) {
                    if cpu < other {
                        let reason = format!(
                            "tiles on processors {cpu} and {other} share one core; make a plan with fewer tiles"
                        );
                        found.off_for_good(&key, Some(siblings.to_string()), reason);
                    }
                } else if demand.offline_siblings {
                    let why = format!("it shares a core with a tile on processor {cpu}");
                    found.exact(host, &format!("{CPU}/cpu{other}/online"), "0", &why);
                } else {
                    found.fine(&key, Some(siblings.to_string()));
                }
            }
        }
        found
    },
};

/// A set of processors for the tiles alone.
pub const CPUSET: Stage = Stage {
    name: "cpuset",
    words: Words {
        what: "Makes the control group `metanode` with the tile processors. With control groups v2 it is an isolated partition: the \
               scheduler takes the processors out of its balancing. With v1 the group is exclusive among its siblings and is \
               not balanced inside; processes of the root group can still be scheduled there.",
        why: "A tile that is preempted stops its shard for a whole time slice.",
        gain: "no other process on tile processors (v2): no time slice lost to a neighbour",
        risk: "A process must join the group before it pins itself to those processors, or pinning fails.",
        undo: "The group is removed; processes must have left it.",
    },
    keys: |host| {
        let (group, files) = match version(host) {
            Some(2) => (format!("{V2}/{CGROUP}"), &["cpuset.cpus", "cpuset.cpus.partition"][..]),
            Some(_) => (
                format!("{V1}/{CGROUP}"),
                &[
                    "cpuset.cpus",
                    "cpuset.mems",
                    "cpuset.cpu_exclusive",
                    "cpuset.sched_load_balance",
                ][..],
            ),
            None => return Vec::new(),
        };
        let mut keys = vec![format!("dir:{group}")];
        if version(host) == Some(2) {
            keys.push(format!("control:{V2}#cpuset"));
        }
        keys.extend(files.iter().map(|file| format!("{group}/{file}")));
        keys
    },
    assess: cpuset,
};

/// The version of control groups that holds cpusets here.
fn version(host: &Host) -> Option<u8> {
    let controllers = host.text(&format!("{V2}/cgroup.controllers")).unwrap_or_default();
    if controllers.split_whitespace().any(|name| name == "cpuset") {
        return Some(2);
    }
    host.text(&format!("{V1}/cpuset.cpus")).map(|_| 1)
}

fn cpuset(host: &Host, demand: &Demand) -> Assessment {
    let tiles = match Tiles::on(host, demand) {
        Ok(tiles) => tiles,
        Err(say) => return say,
    };
    let list = tiles.tiles.to_string();
    let mut found = Assessment::default();
    match version(host) {
        Some(2) => {
            let group = format!("{V2}/{CGROUP}");
            found.exact(host, &format!("control:{V2}#cpuset"), "on", "groups below get cpusets");
            found.exact(host, &format!("dir:{group}"), "present", "the tiles' control group");
            found.exact(host, &format!("{group}/cpuset.cpus"), &list, "the tiles' processors");
            let why = "the scheduler leaves the processors alone";
            found.exact(host, &format!("{group}/cpuset.cpus.partition"), "isolated", why);
        }
        Some(_) => {
            let Some(nodes) = host.text(&format!("{V1}/cpuset.mems")) else {
                return Assessment::unavailable(format!("{V1}/cpuset.mems is not there"));
            };
            let group = format!("{V1}/{CGROUP}");
            found.exact(host, &format!("dir:{group}"), "present", "the tiles' control group");
            found.exact(host, &format!("{group}/cpuset.cpus"), &list, "the tiles' processors");
            found.exact(host, &format!("{group}/cpuset.mems"), &nodes, "a group needs memory");
            let why = "no sibling group gets these processors";
            found.exact(host, &format!("{group}/cpuset.cpu_exclusive"), "1", why);
            let why = "tiles are pinned, so there is nothing to balance";
            found.exact(host, &format!("{group}/cpuset.sched_load_balance"), "0", why);
        }
        None => {
            return Assessment::unavailable("no control group hierarchy with cpusets is mounted");
        }
    }
    found
}

/// The daemon that moves interrupts.
pub const IRQBALANCE: Stage = Stage {
    name: "irqbalance",
    words: Words {
        what: "Tells a running irqbalance to leave tile processors alone, over its socket.",
        why: "The daemon would move interrupts back every ten seconds.",
        gain: "what irq-affinity sets stays",
        risk: "The daemon applies it at its next round; until then a check reads the new list and the interrupts may still move.",
        undo: "The daemon gets its former list.",
    },
    keys: |host| {
        host.read("irqbalance:banned").map(|_| "irqbalance:banned".to_owned()).into_iter().collect()
    },
    assess: |host, demand| {
        const KEY: &str = "irqbalance:banned";
        let tiles = match Tiles::on(host, demand) {
            Ok(tiles) => tiles,
            Err(say) => return say,
        };
        let Some(text) = host.read(KEY) else {
            if host.irqbalance_pids().is_empty() {
                return Assessment::unavailable("irqbalance does not run, so it moves nothing");
            }
            let mut found = Assessment::default();
            let reason = "irqbalance runs and does not answer on its socket; stop it, or start it with \
                          IRQBALANCE_BANNED_CPULIST";
            found.off_for_good(KEY, None, reason.to_owned());
            return found;
        };
        let mut found = Assessment::default();
        match CpuSet::parse_list(&text) {
            Ok(banned) if tiles.tiles.minus(&banned).is_empty() => found.fine(KEY, Some(text)),
            Ok(banned) => {
                let want = banned.or(&tiles.tiles).to_string();
                found.exact(host, KEY, &want, "it would move interrupts to tiles");
            }
            Err(error) => return Assessment::unavailable(format!("irqbalance: {error}")),
        }
        found
    },
};

/// Interrupts.
pub const IRQ_AFFINITY: Stage = Stage {
    name: "irq-affinity",
    words: Words {
        what: "Takes tile processors out of the mask of every interrupt, and out of the mask for new ones.",
        why: "An interrupt stops a tile while its handler runs, and evicts its caches.",
        gain: "one handler less in a tile's time per interrupt (/proc/interrupts counts them)",
        risk: "The remaining processors serve all interrupts. Some interrupts cannot be moved (timers, queues the kernel manages): \
               those are tried, told and left.",
        undo: "Every mask gets its former value.",
    },
    keys: |host| {
        let mut keys = vec!["/proc/irq/default_smp_affinity".to_owned()];
        keys.extend(
            host.numbered("/proc/irq", "")
                .iter()
                .map(|irq| format!("/proc/irq/{irq}/smp_affinity")),
        );
        keys
    },
    assess: |host, demand| {
        let default = "/proc/irq/default_smp_affinity".to_owned();
        let first = (default, "new interrupts start there", Verdict::Off);
        let each = host.numbered("/proc/irq", "").into_iter().map(|irq| {
            let key = format!("/proc/irq/{irq}/smp_affinity");
            (key, "it would interrupt a tile", Verdict::OffIfPossible)
        });
        let masks = std::iter::once(first).chain(each);
        keep_all_off(host, demand, masks, "/proc/irq is empty here")
    },
};

/// Work queues of the kernel.
pub const KWORKERS: Stage = Stage {
    name: "kworkers",
    words: Words {
        what: "Takes tile processors out of the mask of unbound kernel work queues.",
        why: "Deferred work of drivers and file systems runs wherever it finds an idle core, and a tile that yields looks idle.",
        gain: "no deferred kernel work in a tile's time",
        risk: "The remaining processors do all deferred work.",
        undo: "Both masks get their former values.",
    },
    keys: |host| {
        ["cpumask", "writeback/cpumask"]
            .map(|name| format!("/sys/devices/virtual/workqueue/{name}"))
            .into_iter()
            .filter(|key| host.read(key).is_some())
            .collect()
    },
    assess: |host, demand| {
        let masks = ["cpumask", "writeback/cpumask"].map(|name| {
            let key = format!("/sys/devices/virtual/workqueue/{name}");
            (key, "kernel work would run on a tile", Verdict::Off)
        });
        keep_all_off(host, demand, masks, "this kernel shows no mask of its work queues")
    },
};

/// Clock frequency.
pub const GOVERNOR: Stage = Stage {
    name: "governor",
    words: Words {
        what: "Sets the frequency governor of tile processors to `performance`.",
        why: "A governor that follows the load lowers the clock whenever a tile waits.",
        gain: "full clock from the first packet of a burst",
        risk: "More power and heat; other cores may boost less.",
        undo: "Every policy gets its former governor.",
    },
    keys: |host| {
        host.numbered(&format!("{CPU}/cpufreq"), "policy")
            .iter()
            .map(|policy| format!("{CPU}/cpufreq/policy{policy}/scaling_governor"))
            .collect()
    },
    assess: |host, demand| {
        let tiles = match Tiles::on(host, demand) {
            Ok(tiles) => tiles,
            Err(say) => return say,
        };
        let policies = host.numbered(&format!("{CPU}/cpufreq"), "policy");
        if policies.is_empty() {
            return Assessment::unavailable(
                "no frequency control here (a virtual machine, or a fixed clock)",
            );
        }
        let mut found = Assessment::default();
        for policy in policies {
            let folder = format!("{CPU}/cpufreq/policy{policy}");
            let text = host.text(&format!("{folder}/affected_cpus")).unwrap_or_default();
            let of: CpuSet = text.split_whitespace().filter_map(|cpu| cpu.parse().ok()).collect();
            if of.and(&tiles.tiles).is_empty() {
                continue;
            }
            let key = format!("{folder}/scaling_governor");
            let known =
                host.text(&format!("{folder}/scaling_available_governors")).unwrap_or_default();
            if known.split_whitespace().any(|name| name == "performance") {
                found.exact(host, &key, "performance", "the clock drops whenever a tile waits");
            } else {
                let reason = format!("{folder} has no governor `performance` (it has `{known}`)");
                found.off_for_good(&key, host.read(&key), reason);
            }
        }
        found
    },
};

fn sleep_states(host: &Host, cpu: u32) -> Vec<String> {
    let folder = format!("{CPU}/cpu{cpu}/cpuidle");
    host.numbered(&folder, "state").iter().map(|state| format!("{folder}/state{state}")).collect()
}

/// Sleep states.
pub const C_STATES: Stage = Stage {
    name: "c-states",
    words: Words {
        what: "Switches off sleep states of tile processors that take more than 10 microseconds to leave.",
        why: "A core with nothing to do sleeps, and the first packet pays for its waking.",
        gain: "the exit latency of the deepest state, on the first packet after a pause",
        risk: "More power and heat; other cores may boost less.",
        undo: "Every state gets its former switch.",
    },
    keys: |host| {
        host.numbered(CPU, "cpu")
            .iter()
            .flat_map(|cpu| sleep_states(host, *cpu))
            .map(|state| state + "/disable")
            .collect()
    },
    assess: |host, demand| {
        let tiles = match Tiles::on(host, demand) {
            Ok(tiles) => tiles,
            Err(say) => return say,
        };
        let mut found = Assessment::default();
        let mut seen = false;
        for cpu in tiles.tiles.iter() {
            for state in sleep_states(host, cpu) {
                seen = true;
                let latency = match host.number(&format!("{state}/latency")) {
                    Ok(latency) => latency.unwrap_or(0),
                    Err(absurd) => return Assessment::unavailable(absurd),
                };
                if latency > EXIT_LATENCY_US_MAX {
                    let why = format!("leaving it takes {latency} microseconds");
                    found.exact(host, &format!("{state}/disable"), "1", &why);
                }
            }
        }
        if !seen {
            return Assessment::unavailable("tile processors have no sleep states to choose from");
        }
        found
    },
};

fn of_command_line(host: &Host, name: &str) -> CpuSet {
    let line = host.text("/proc/cmdline").unwrap_or_default();
    let values =
        line.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    values
        .filter_map(|value| CpuSet::parse_list(value).ok())
        .fold(CpuSet::new(), |all, one| all.or(&one))
}

fn boot_parameter(host: &Host, demand: &Demand, name: &str, has: &CpuSet, why: &str) -> Assessment {
    let tiles = match Tiles::on(host, demand) {
        Ok(tiles) => tiles,
        Err(say) => return say,
    };
    let mut found = Assessment::default();
    let missing = tiles.tiles.minus(has);
    let now = Some(has.to_string());
    if missing.is_empty() {
        found.fine("/proc/cmdline", now);
    } else {
        let line = format!("{name}={}", has.or(&tiles.tiles));
        let reason = format!("{why} on processors {missing}; boot with `{line}`");
        found.off_for_good("/proc/cmdline", now, reason);
    }
    found
}

fn tickless(host: &Host) -> CpuSet {
    let file = host.text(&format!("{CPU}/nohz_full")).unwrap_or_default();
    CpuSet::parse_list(&file).unwrap_or_default().or(&of_command_line(host, "nohz_full"))
}

/// The timer tick; a boot parameter.
pub const NOHZ_FULL: Stage = Stage {
    name: "nohz-full",
    words: Words {
        what: "Checks that the timer tick is off on tile processors. Only a boot parameter can do that: the line is printed.",
        why: "The tick stops every tile as often as CONFIG_HZ says.",
        gain: "no tick on tile processors (/proc/interrupts, line LOC, counts them)",
        risk: "A kernel built without it ignores the parameter; the first processor must stay out of it.",
        undo: "Take the parameter out and reboot.",
    },
    keys: |_| Vec::new(),
    assess: |host, demand| {
        boot_parameter(host, demand, "nohz_full", &tickless(host), "the timer ticks")
    },
};

/// Callbacks of RCU; a boot parameter.
pub const RCU_NOCBS: Stage = Stage {
    name: "rcu-nocbs",
    words: Words {
        what: "Checks that RCU callbacks run elsewhere than on tile processors. Only a boot parameter can do that: the line is \
               printed.",
        why: "Callbacks free kernel memory in batches, on the core that released it.",
        gain: "no batches of callbacks in a tile's time",
        risk: "The threads `rcuo` need room on the remaining processors.",
        undo: "Take the parameter out and reboot.",
    },
    keys: |_| Vec::new(),
    assess: |host, demand| {
        let has = of_command_line(host, "rcu_nocbs").or(&tickless(host));
        boot_parameter(host, demand, "rcu_nocbs", &has, "RCU callbacks run")
    },
};
