//! The stage machine on trees that stand for hosts: every stage in every state, failures, crashes, and the way back.
//!
//! In: the tree of `tree`, with changes. Out: states, exit codes, and pictures that must be equal byte for byte.

mod tree;

use hwconfig::demand::Demand;
use hwconfig::host::Host;
use hwconfig::machine::{self, Applied, Exit, Options, Undone};
use hwconfig::stage::State;
use hwconfig::{persist, stages, state};
use tree::{Tree, demand};

fn apply(host: &Host, demand: &Demand, names: &[&str], options: Options) -> (Applied, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut log = Vec::new();
    let chosen = stages::chosen(&names).expect("known stages");
    let applied = machine::apply(host, demand, &chosen, options, &mut log).expect("a journal");
    (applied, String::from_utf8(log).expect("text"))
}

fn undo(host: &Host, options: &Options) -> (Undone, String) {
    let mut log = Vec::new();
    let undone = machine::undo(host, &[], options, &mut log).expect("a journal");
    (undone, String::from_utf8(log).expect("text"))
}

fn state_of(tree: &Tree, demand: &Demand, name: &str) -> (State, String) {
    let chosen = stages::chosen(&[name.to_owned()]).expect("a known stage");
    let report = machine::check(&tree.host(), demand, &chosen).remove(0);
    (report.state, report.reason)
}

const BOOT_ONLY: [&str; 2] = ["nohz-full", "rcu-nocbs"];

#[test]
fn apply_brings_every_stage_to_ok_and_undo_puts_every_byte_back() {
    let tree = Tree::new();
    let before = tree.picture();
    let host = tree.host();
    let (applied, log) = apply(&host, &demand(), &[], Options::default());
    for stage in &applied.stages {
        let want = if BOOT_ONLY.contains(&stage.name) { State::Absent } else { State::Ok };
        assert_eq!(stage.state, want, "{}: {}", stage.name, stage.reason);
    }
    assert_eq!(applied.exit, Exit::Off, "boot parameters are off, and apply cannot change them");
    assert!(applied.actions.iter().all(|action| action.verified), "{:?}", applied.actions);
    assert_eq!(log.matches("RUN: `").count(), applied.actions.len(), "{log}");
    assert!(log.contains("RUN: `echo 1000000 > /proc/sys/vm/max_map_count`"), "{log}");
    assert_ne!(tree.picture(), before);
    assert_eq!(tree.get("proc/irq/24/smp_affinity"), "f9");
    assert_eq!(tree.get("proc/irq/25/smp_affinity"), "f9", "nothing was left of its mask");
    assert_eq!(tree.get("sys/fs/cgroup/metanode/cpuset.cpus.partition"), "isolated");

    let (again, log) = apply(&host, &demand(), &[], Options::default());
    assert_eq!((again.actions.len(), log.as_str()), (0, ""), "a second apply has nothing to do");

    let (undone, _) = undo(&host, &Options::default());
    assert_eq!(undone.left, []);
    assert_eq!(undone.restored.len(), applied.actions.len());
    assert_eq!(tree.picture(), before);
    let (undone, log) = undo(&host, &Options::default());
    assert_eq!((undone.restored.len(), log.as_str()), (0, ""));
}

#[test]
fn a_crash_at_any_moment_of_apply_is_undone_to_the_last_byte() {
    for moment in 0.. {
        let tree = Tree::new();
        let before = tree.picture();
        let stop = Box::new(move |now| now == moment);
        let options = Options { stop: Some(stop), ..Options::default() };
        let (applied, _) = apply(&tree.host(), &demand(), &[], options);
        let (undone, _) = undo(&tree.host(), &Options::default());
        assert_eq!(undone.left, [], "moment {moment}");
        assert_eq!(tree.picture(), before, "moment {moment}");
        if applied.exit == Exit::Off {
            assert!(moment > 60, "only {moment} moments were tried");
            return;
        }
    }
}

#[test]
fn after_a_crash_a_second_apply_finishes_and_undo_still_knows_the_first_values() {
    let tree = Tree::new();
    let before = tree.picture();
    let stop = Box::new(|now| now == 21);
    apply(&tree.host(), &demand(), &[], Options { stop: Some(stop), ..Options::default() });
    let (applied, _) = apply(&tree.host(), &demand(), &[], Options::default());
    assert_eq!(applied.exit, Exit::Off);
    let mut more = demand();
    more.huge[0].pages = 200;
    apply(&tree.host(), &more, &[], Options::default());
    assert_eq!(undo(&tree.host(), &Options::default()).0.left, []);
    assert_eq!(tree.picture(), before);
}

#[test]
fn a_stage_that_fails_at_any_of_its_changes_is_taken_back_whole() {
    let (all, _) =
        apply(&Tree::new().host(), &demand(), &[], Options { dry_run: true, ..Options::default() });
    let mut tried = 0;
    for action in &all.actions {
        for fault in ["EIO", "ignored"] {
            let tree = Tree::new();
            std::fs::write(tree.path("faults"), format!("{}\t{fault}\n", action.path))
                .expect("a file");
            let before = tree.picture();
            let (applied, log) =
                apply(&tree.host(), &demand(), &[&action.stage], Options::default());
            let tolerated = ["irq-affinity", "nic-rss", "nic-ntuple"]
                .contains(&action.stage.as_str())
                && action.path != "/proc/irq/default_smp_affinity";
            if tolerated {
                assert!(log.contains("going on without it"), "{log}");
                assert_eq!(applied.exit, Exit::Ok, "{log}");
                assert_eq!(undo(&tree.host(), &Options::default()).0.left, []);
            } else {
                assert_eq!(applied.exit, Exit::RolledBack, "{} {fault}: {log}", action.path);
                assert!(
                    applied.stages[0].reason.ends_with("; taken back"),
                    "{}",
                    applied.stages[0].reason
                );
                assert_eq!(
                    undo(&tree.host(), &Options::default()).0.restored,
                    [],
                    "nothing is left to undo"
                );
            }
            assert_eq!(tree.picture(), before, "{} {fault}", action.path);
            tried += 1;
        }
    }
    assert!(tried > 60, "only {tried} failures were tried");
}

#[test]
fn a_kernel_that_gives_fewer_pages_is_asked_to_compact_and_then_the_stage_is_taken_back() {
    let tree = Tree::new();
    let pool = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages";
    std::fs::write(tree.path("faults"), format!("{pool}\tat-most 50\n")).expect("a file");
    let before = tree.picture();
    let (applied, log) = apply(&tree.host(), &demand(), &["hugetlbfs"], Options::default());
    assert_eq!(applied.exit, Exit::RolledBack);
    assert!(log.contains("RUN: `echo 1 > /proc/sys/vm/compact_memory`"), "{log}");
    assert!(
        applied.stages[0].reason.contains("the value is `50` now"),
        "{}",
        applied.stages[0].reason
    );
    assert_eq!(tree.picture(), before);
}

#[test]
fn without_privileges_nothing_is_changed_and_all_that_is_missing_is_listed_together() {
    let tree = Tree::new();
    tree.set("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000");
    let before = tree.picture();
    let (applied, log) = apply(&tree.host(), &demand(), &[], Options::default());
    assert_eq!((applied.exit, log.as_str()), (Exit::Privilege, ""));
    let missing: Vec<&str> =
        applied.missing.iter().map(|(capability, _)| capability.name()).collect();
    for name in ["uid 0", "CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"] {
        assert!(missing.contains(&name), "{missing:?}");
    }
    assert_eq!(tree.picture(), before);
    // A stage that would not act asks for nothing.
    let nothing = Demand::default();
    assert_eq!(apply(&tree.host(), &nothing, &["cpuset"], Options::default()).0.exit, Exit::Ok);
    // CAP_NET_ADMIN is bit 12, and all that a card's stage needs.
    tree.set("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000001000");
    assert_eq!(apply(&tree.host(), &demand(), &["nic-rings"], Options::default()).0.exit, Exit::Ok);
}

#[test]
fn a_dry_run_prints_every_line_and_changes_nothing_not_even_the_journal() {
    let tree = Tree::new();
    let before = tree.picture();
    let options = Options { dry_run: true, ..Options::default() };
    let (applied, log) = apply(&tree.host(), &demand(), &[], options);
    assert_eq!(applied.exit, Exit::Ok);
    assert_eq!(log.matches("RUN: `").count(), applied.actions.len());
    assert!(applied.actions.len() > 30 && applied.actions.iter().all(|action| !action.verified));
    assert_eq!(tree.picture(), before);
    assert!(!tree.path("var").exists());
}

#[test]
fn entries_of_an_earlier_boot_are_dropped_with_a_note_and_files_are_restored_all_the_same() {
    let tree = Tree::new();
    apply(&tree.host(), &demand(), &["sysctl", "memlock"], Options::default());
    tree.set("proc/sys/kernel/random/boot_id", "boot-two");
    tree.set("proc/sys/vm/max_map_count", "77");
    let (undone, log) = undo(&tree.host(), &Options::default());
    assert!(undone.dropped_other_boot.len() >= 4 && undone.restored.len() == 1, "{undone:?}");
    assert!(log.contains("was changed before the last boot"), "{log}");
    assert_eq!(
        tree.get("proc/sys/vm/max_map_count"),
        "77",
        "this boot's value is nobody's business"
    );
    assert!(!tree.path("etc/security/limits.d/90-metanode.conf").exists());
}

#[test]
fn what_somebody_else_changed_since_is_left_and_told_unless_forced() {
    let tree = Tree::new();
    apply(&tree.host(), &demand(), &["sysctl"], Options::default());
    tree.set("proc/sys/vm/max_map_count", "2000000");
    let (undone, _) = undo(&tree.host(), &Options::default());
    assert_eq!((undone.exit, undone.left.len()), (Exit::Off, 1));
    assert!(undone.left[0].1.contains("somebody changed it since"), "{:?}", undone.left);
    assert_eq!(tree.get("proc/sys/vm/max_map_count"), "2000000");
    let (undone, _) = undo(&tree.host(), &Options { force: true, ..Options::default() });
    assert_eq!((undone.exit, undone.restored.len()), (Exit::Ok, 1));
    assert_eq!(tree.get("proc/sys/vm/max_map_count"), "65530");
}

#[test]
fn a_control_group_with_processes_in_it_is_left_with_advice() {
    let tree = Tree::new();
    apply(&tree.host(), &demand(), &["cpuset"], Options::default());
    tree.set("sys/fs/cgroup/metanode/cgroup.procs", "4711");
    let (undone, _) = undo(&tree.host(), &Options::default());
    let why =
        &undone.left.iter().find(|(entry, _)| entry.path.starts_with("dir:")).expect("busy").1;
    assert!(why.contains("cgroup.procs; end them"), "{why}");
    tree.set("sys/fs/cgroup/metanode/cgroup.procs", "");
    assert_eq!(undo(&tree.host(), &Options::default()).0.left, []);
    assert!(!tree.path("sys/fs/cgroup/metanode").exists());
}

#[test]
fn whatever_a_stage_writes_is_listed_by_show_state() {
    let tree = Tree::new();
    let listed = state::state(&tree.host());
    let options = Options { dry_run: true, ..Options::default() };
    let (applied, _) = apply(&tree.host(), &demand(), &[], options);
    let missing: Vec<&str> = applied
        .actions
        .iter()
        .map(|action| action.path.as_str())
        // Of flow rules only those that are there are listed: a card could have one for every port.
        .filter(|path| !listed.contains_key(*path) && !path.contains("/ntuple/"))
        .collect();
    // The files of a control group that is not there yet are listed too: they are absent.
    assert!(missing.is_empty(), "{missing:?}");
    let before = state::text(&tree.host());
    apply(&tree.host(), &demand(), &[], Options::default());
    assert_ne!(state::text(&tree.host()), before);
    let listed = state::state(&tree.host());
    assert_eq!(listed["netlink:fast0/ntuple/udp6-10000"].as_deref(), Some("1"));
    assert_eq!(listed["netlink:fast0/ntuple/rule-7"].as_deref(), Some("0a0b"));
    undo(&tree.host(), &Options::default());
    assert_eq!(state::text(&tree.host()), before);
}

#[test]
fn the_unit_is_written_and_taken_away_and_outlives_a_boot() {
    let tree = Tree::new();
    let before = tree.picture();
    let text = persist::unit("/usr/bin/metanode", " --cores 2");
    let mut log = Vec::new();
    let action = persist::apply(&tree.host(), &text, Options::default(), &mut log).expect("room");
    assert!(action.is_some_and(|action| action.verified));
    let again = persist::apply(&tree.host(), &text, Options::default(), &mut log).expect("room");
    assert_eq!(again, None);
    assert!(tree.get("etc/systemd/system/metanode-hw.service").contains("hw apply --cores 2\n"));
    tree.set("proc/sys/kernel/random/boot_id", "boot-two");
    let undone = machine::undo(&tree.host(), &[persist::STAGE], &Options::default(), &mut log);
    assert_eq!(undone.expect("a journal").left, []);
    tree.set("proc/sys/kernel/random/boot_id", "boot-one");
    assert_eq!(tree.picture(), before);
    let parameters = persist::boot_parameters(&"1-2".parse().expect("a list"));
    assert_eq!(parameters, "nohz_full=1-2 rcu_nocbs=1-2");
}

/// A stage, changes to the tree (`-` takes a path away), the state, and a piece of the reason.
type Case = (&'static str, &'static [(&'static str, &'static str)], State, &'static str);

const POOL: &str = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages";
const ONE_G: &str = "sys/devices/system/node/node0/hugepages/hugepages-1048576kB";

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("hugetlbfs",    &[],                                               State::Absent,      "4 of 10 pages are free and 100 are asked for"),
    ("hugetlbfs",    &[(POOL, "104"), ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "200")],
                                                                        State::Partial,     "0 of 0 pages are free and 2"),
    ("hugetlbfs",    &[(POOL, "11")],                                   State::Unavailable, "11 pages of 10 are free"),
    ("hugetlbfs",    &[(POOL, "banana")],                               State::Unavailable, "says `banana`, expected a number"),
    ("hugetlbfs",    &[(ONE_G, "-")],                                   State::Absent,      "has no pages of 1048576 kB"),
    ("sysctl",       &[],                                               State::Partial,     "max_map_count is `65530`, want `1000000`"),
    ("sysctl",       &[("proc/sys/fs/nr_open", "1"), ("proc/sys/kernel/io_uring_disabled", "2")],
                                                                        State::Absent,      ""),
    ("sysctl",       &[("proc/sys/vm/max_map_count", "-1")],            State::Unavailable, "says `-1`, expected a number"),
    ("sysctl",       &[("proc/sys", "-")],                              State::Unavailable, "none of these"),
    ("memlock",      &[],                                               State::Absent,      "may lock 8388608 bytes"),
    ("memlock",      &[("proc/self/limits", "Max locked memory  unlimited unlimited bytes")], State::Ok, ""),
    ("memlock",      &[("proc/self/limits", "Max locked memory  much unlimited bytes")], State::Unavailable, "says `much`"),
    ("memlock",      &[("proc/self/limits", "-")],                      State::Unavailable, "no line about locked memory"),
    ("smt",          &[],                                               State::Absent,      "shares a core with a tile"),
    ("smt",          &[("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1"), ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2")],
                                                                        State::Ok,          ""),
    ("smt",          &[("sys/devices/system/cpu/cpu5/online", "0")],    State::Partial,     "cpu6/online"),
    ("smt",          &[("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1-2")], State::Absent, "share one core"),
    ("smt",          &[("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "9-1")], State::Unavailable, "not a processor list"),
    ("cpuset",       &[],                                               State::Absent,      "control group"),
    ("cpuset",       &[("sys/fs/cgroup/cgroup.subtree_control", "cpuset")], State::Partial, ""),
    ("cpuset",       &[("sys/fs/cgroup", "-")],                         State::Unavailable, "no control group hierarchy"),
    ("cpuset",       &[("sys/fs/cgroup", "-"), ("sys/fs/cgroup/cpuset/cpuset.cpus", "0-7"), ("sys/fs/cgroup/cpuset/cpuset.mems", "0")],
                                                                        State::Absent,      "cgroup/cpuset/metanode"),
    ("irqbalance",   &[],                                               State::Absent,      "would move interrupts"),
    ("irqbalance",   &[("irqbalance/banned", "0-3")],                   State::Ok,          ""),
    ("irqbalance",   &[("irqbalance/banned", "all")],                   State::Unavailable, "not a processor list"),
    ("irqbalance",   &[("irqbalance", "-")],                            State::Unavailable, "does not run"),
    ("irqbalance",   &[("irqbalance", "-"), ("proc/99/comm", "irqbalance")], State::Absent, "does not answer"),
    ("irq-affinity", &[],                                               State::Partial,     "would interrupt a tile"),
    ("irq-affinity", &[("proc/irq/26/smp_affinity", "ff")],             State::Absent,      "and 1 more"),
    ("irq-affinity", &[("proc/irq/24/smp_affinity", "1"), ("proc/irq/25/smp_affinity", "1"), ("proc/irq/default_smp_affinity", "f9")],
                                                                        State::Ok,          ""),
    ("irq-affinity", &[("proc/irq/24/smp_affinity", "zz")],             State::Partial,     "not a processor mask"),
    ("irq-affinity", &[("proc/irq", "-")],                              State::Unavailable, "is empty"),
    ("kworkers",     &[],                                               State::Absent,      "would run on a tile"),
    ("kworkers",     &[("sys/devices/virtual/workqueue/cpumask", "f9")], State::Partial,    "writeback"),
    ("kworkers",     &[("sys/devices/virtual/workqueue", "-")],         State::Unavailable, "shows no mask"),
    ("governor",     &[],                                               State::Absent,      "want `performance`"),
    ("governor",     &[("sys/devices/system/cpu/cpufreq/policy1/scaling_governor", "performance")], State::Partial, "policy2"),
    ("governor",     &[("sys/devices/system/cpu/cpufreq/policy1/scaling_available_governors", "userspace")], State::Absent, "no governor `performance`"),
    ("governor",     &[("sys/devices/system/cpu/cpufreq", "-")],        State::Unavailable, "no frequency control"),
    ("c-states",     &[],                                               State::Absent,      "takes 130 microseconds"),
    ("c-states",     &[("sys/devices/system/cpu/cpu1/cpuidle/state2/disable", "1")], State::Partial, "cpu2"),
    ("c-states",     &[("sys/devices/system/cpu/cpu1/cpuidle/state2/latency", "soon")], State::Unavailable, "says `soon`"),
    ("c-states",     &[("sys/devices/system/cpu/cpu1/cpuidle", "-"), ("sys/devices/system/cpu/cpu2/cpuidle", "-")],
                                                                        State::Unavailable, "no sleep states"),
    ("c-states",     &[("sys/devices/system/cpu/online", "0")],         State::Unavailable, "1-2 are asked for and only 0"),
    ("c-states",     &[("sys/devices/system/cpu/online", "1-2")],       State::Unavailable, "the kernel needs one"),
    ("c-states",     &[("sys/devices/system/cpu/online", "0-99999")],   State::Unavailable, "above 8191"),
    ("nohz-full",    &[],                                               State::Absent,      "boot with `nohz_full=1-2`"),
    ("nohz-full",    &[("sys/devices/system/cpu/nohz_full", "1-7")],    State::Ok,          ""),
    ("nohz-full",    &[("proc/cmdline", "ro nohz_full=2")],             State::Absent,      "boot with `nohz_full=1-2`"),
    ("rcu-nocbs",    &[],                                               State::Absent,      "boot with `rcu_nocbs=1-2`"),
    ("rcu-nocbs",    &[("proc/cmdline", "ro nohz_full=2 rcu_nocbs=1")], State::Ok,          ""),
    ("nic-channels", &[],                                               State::Absent,      "want `2`"),
    ("nic-channels", &[("netlink/fast0/channels/combined-max", "0"), ("netlink/fast0/channels/rx-max", "4"), ("netlink/fast0/channels/rx", "2"), ("netlink/fast0/channels/tx-max", "4"), ("netlink/fast0/channels/tx", "4")],
                                                                        State::Partial,     "channels/tx"),
    ("nic-channels", &[("netlink/fast0/channels/combined-max", "1")],   State::Absent,      "at most"),
    ("nic-channels", &[("netlink/fast0/channels/combined-max", "many")], State::Unavailable, "expected a number"),
    ("nic-channels", &[("netlink/fast0/channels", "-")],                State::Unavailable, "has no channels"),
    ("nic-channels", &[("sys/class/net/fast0", "-")],                   State::Absent,      "no network card is called `fast0`"),
    ("nic-channels", &[("netlink/fast0/channels/combined", "2")],       State::Ok,          ""),
    ("nic-rss",      &[],                                               State::Absent,      "even load"),
    ("nic-rss",      &[("netlink/fast0/rss/table", "0 1 1 0")],         State::Partial,     "rx-ntuple-filter"),
    ("nic-rss",      &[("netlink/fast0/features", "-")],                State::Unavailable, ""),
    ("nic-ntuple",   &[],                                               State::Absent,      "ntuple/udp4-9999 is `absent`, want `0`"),
    ("nic-ntuple",   &[("netlink/fast0/ntuple/udp4-9999", "3")],        State::Absent,      "udp4-9999 is `3`, want `0`"),
    ("nic-ntuple",   &[("netlink/fast0/ntuple/udp6-10000", "1")],       State::Partial,     "udp4-9999"),
    ("nic-ntuple",   &[("netlink/fast0/ntuple/udp4-9999", "0"), ("netlink/fast0/ntuple/udp4-10000", "1"), ("netlink/fast0/ntuple/udp6-9999", "0"), ("netlink/fast0/ntuple/udp6-10000", "1")],
                                                                        State::Ok,          ""),
    ("nic-ntuple",   &[("netlink/fast0/ntuple/rules-max", "lots")],     State::Unavailable, "expected a number"),
    ("nic-ntuple",   &[("netlink/fast0/ntuple", "-")],                  State::Unavailable, "has no ntuple"),
    ("nic-rings",    &[],                                               State::Partial,     "rings/rx is `256`, want `4096`"),
    ("nic-rings",    &[("netlink/fast0/rings/tx", "1")],                State::Absent,      "want `512`"),
    ("nic-rings",    &[("netlink/fast0/rings/rx", "4096")],             State::Ok,          ""),
    ("nic-rings",    &[("netlink/fast0/rings/rx", "x")],                State::Unavailable, "expected a number"),
    ("nic-coalesce", &[],                                               State::Absent,      "held back"),
    ("nic-coalesce", &[("netlink/fast0/coalesce/rx-usecs", "8")],       State::Partial,     "adaptive-rx"),
    ("nic-coalesce", &[("netlink/fast0/coalesce", "-")],                State::Unavailable, "has no coalesce"),
    ("nic-offloads", &[],                                               State::Partial,     "rx-udp-gro-forwarding"),
    ("nic-offloads", &[("netlink/fast0/features/rx-lro", "on fixed")],  State::Absent,      "does not let it go"),
    ("nic-offloads", &[("netlink/fast0/features", "-")],                State::Unavailable, "has no features"),
    ("loopback",     &[],                                               State::Absent,      "tx-udp-segmentation"),
    ("loopback",     &[("netlink/lo/features/tx-udp-segmentation", "off")], State::Ok,      ""),
    ("loopback",     &[("netlink/lo/features/tx-udp-segmentation", "-")], State::Unavailable, ""),
    ("napi",         &[],                                               State::Absent,      "polls this card"),
    ("napi",         &[("sys/class/net/fast0/napi_defer_hard_irqs", "100")], State::Partial, "gro_flush_timeout"),
    ("napi",         &[("sys/class/net/fast0/napi_defer_hard_irqs", "-1")], State::Unavailable, "says `-1`"),
    ("multicast",    &[],                                               State::Absent,      "mld_max_msf"),
    ("multicast",    &[("proc/sys/net/ipv6/mld_max_msf", "512")],       State::Partial,     "igmp_max_memberships"),
    ("multicast",    &[("proc/sys", "-")],                              State::Unavailable, "none of these"),
    ("console",      &[],                                               State::Absent,      "cursor_blink"),
    ("console",      &[("sys/class/graphics/fbcon/cursor_blink", "0")], State::Partial,     "printk"),
    ("console",      &[("proc/sys/kernel/printk", "7 4")],              State::Unavailable, "expected four numbers"),
    ("console",      &[("proc/sys/kernel/printk", "4\t4\t1\t7"), ("sys/class/graphics", "-")], State::Ok, ""),
];

#[test]
fn every_stage_is_seen_in_every_state_and_absurd_values_are_told() {
    for (name, changes, want, piece) in CASES {
        let tree = Tree::new();
        for (path, text) in *changes {
            match *text {
                "-" => tree.remove(path),
                text => tree.set(path, text),
            }
        }
        let (state, reason) = state_of(&tree, &demand(), name);
        assert_eq!(state, *want, "{name} {changes:?}: {reason}");
        assert!(reason.contains(piece), "{name} {changes:?}: {reason}");
    }
    for stage in &stages::STAGES {
        let seen = |state| CASES.iter().any(|case| case.0 == stage.name && case.2 == state);
        assert!(seen(State::Absent), "{} is never absent", stage.name);
        let boot = BOOT_ONLY.contains(&stage.name);
        assert!(seen(State::Unavailable) || boot, "{} is never unavailable", stage.name);
        let single = ["memlock", "irqbalance", "loopback"].contains(&stage.name);
        assert!(seen(State::Partial) || boot || single, "{} is never partial", stage.name);
    }
}

#[test]
fn a_card_with_the_default_route_keeps_its_link_unless_that_is_allowed() {
    let tree = Tree::new();
    let mut demand = demand();
    demand.nics[0].name = "eth0".to_owned();
    for name in ["nic-channels", "nic-rings"] {
        let (state, reason) = state_of(&tree, &demand, name);
        assert_eq!(state, State::Absent);
        assert!(reason.contains("--allow-link-flap"), "{reason}");
        let (applied, log) = apply(&tree.host(), &demand, &[name], Options::default());
        assert_eq!((applied.exit, log.as_str()), (Exit::Off, ""));
    }
    demand.allow_link_flap = true;
    let (applied, _) =
        apply(&tree.host(), &demand, &["nic-channels", "nic-rings"], Options::default());
    assert_eq!(applied.exit, Exit::Ok);
    assert_eq!(tree.get("netlink/eth0/channels/combined"), "2");
}

#[test]
fn control_groups_of_version_one_are_used_where_the_host_has_those() {
    let tree = Tree::new();
    tree.remove("sys/fs/cgroup");
    tree.set("sys/fs/cgroup/cpuset/cpuset.cpus", "0-7");
    tree.set("sys/fs/cgroup/cpuset/cpuset.mems", "0");
    tree.set("sys/fs/cgroup/cpuset/cgroup.procs", "1");
    let before = tree.picture();
    let (applied, _) = apply(&tree.host(), &demand(), &["cpuset"], Options::default());
    assert_eq!(applied.exit, Exit::Ok, "{:?}", applied.stages);
    assert_eq!(tree.get("sys/fs/cgroup/cpuset/metanode/cpuset.cpu_exclusive"), "1");
    assert_eq!(undo(&tree.host(), &Options::default()).0.left, []);
    assert_eq!(tree.picture(), before);
}
