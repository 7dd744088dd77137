//! The stages on this machine, inside what a test may change and put back: devices and parameters of a network namespace that
//! the test makes, a few huge pages, a mount in a mount namespace, a control group.
//!
//! In: root. Out: `show --state` is the same text before apply and after undo, also when apply is killed in between. Without root, or
//! where the kernel forbids namespaces, each test says so and ends.

use hwconfig::demand::{Demand, HugePages, Nic};
use hwconfig::host::Host;
use hwconfig::journal::Journal;
use hwconfig::machine::{self, Exit, Options};
use hwconfig::stage::State;
use hwconfig::write::Writer;
use hwconfig::{stages, state};
use std::path::Path;
use std::process::Command;

/// Set in a process that already stands in its own namespaces; its value is the journal's folder.
const INSIDE: &str = "HWCONFIG_TEST_INSIDE";
/// Set in a process that shall apply and be killed at this moment.
const KILL_AT: &str = "HWCONFIG_TEST_KILL_AT";

/// Runs the test `name` again in namespaces of its own; `true` if this is that run.
fn inside(name: &str, namespaces: &[&str], script: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let probe = Command::new("unshare").args(namespaces).arg("true").output();
    if !probe.is_ok_and(|out| out.status.success()) {
        eprintln!("{name}: skipped, namespaces need root");
        return false;
    }
    // The state that is compared is the whole host's, so these tests run one at a time, also of two checkouts.
    let lock =
        std::fs::File::create(std::env::temp_dir().join("hwconfig-test.lock")).expect("a file");
    lock.lock().expect("nobody holds it forever");
    let folder = tempfile::tempdir().expect("a folder");
    let program = std::env::current_exe().expect("a test has a program");
    let out = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-ec", &format!("{script}\nexec \"$0\" --exact {name} --nocapture")])
        .arg(program)
        .env(INSIDE, folder.path())
        .output()
        .expect("unshare ran a moment ago");
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}");
    eprintln!("{text}");
    false
}

fn options(folder: &Path) -> Options {
    Options { folder: Some(folder.to_owned()), ..Options::default() }
}

/// Applies, compares, undoes, compares; then again with a kill at every moment.
fn there_and_back(name: &str, demand: &Demand, names: &[&str]) {
    let folder = std::path::PathBuf::from(std::env::var_os(INSIDE).expect("inside"));
    let host = Host::real();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let chosen = stages::chosen(&names).expect("known stages");
    let mut log = Vec::new();
    if let Some(moment) = std::env::var_os(KILL_AT) {
        let moment: u64 = moment.to_str().and_then(|text| text.parse().ok()).expect("a number");
        let stop = Box::new(move |now| {
            if now == moment {
                let us = rustix::process::getpid();
                rustix::process::kill_process(us, rustix::process::Signal::KILL)
                    .expect("our own process");
            }
            false
        });
        let options = Options { stop: Some(stop), ..options(&folder) };
        machine::apply(&host, demand, &chosen, options, &mut log).expect("a journal");
        return;
    }
    let before = state::text(&host);
    let applied =
        machine::apply(&host, demand, &chosen, options(&folder), &mut log).expect("a journal");
    let during = state::text(&host);
    let undone = machine::undo(&host, &[], &options(&folder), &mut log).expect("a journal");
    let after = state::text(&host);
    let log = String::from_utf8_lossy(&log);
    assert_eq!(undone.left, [], "{log}");
    assert_eq!(after, before, "{log}");
    assert_eq!(applied.exit, Exit::Ok, "{log}{:?}", applied.stages);
    assert_ne!(during, before, "{log}");
    assert!(applied.actions.iter().all(|action| action.verified), "{log}");

    let moments = 2 * applied.actions.len() as u64;
    let mut killed = 0;
    for moment in 0..moments {
        let program = std::env::current_exe().expect("a test has a program");
        let child = Command::new(program)
            .args(["--exact", name, "--nocapture"])
            .env(KILL_AT, moment.to_string())
            .output()
            .expect("it runs");
        killed +=
            u64::from(std::os::unix::process::ExitStatusExt::signal(&child.status) == Some(9));
        let undone =
            machine::undo(&host, &[], &options(&folder), &mut Vec::new()).expect("a journal");
        assert_eq!(undone.left, [], "killed at {moment}");
        assert_eq!(state::text(&host), before, "killed at {moment}");
    }
    assert_eq!(killed, moments);
    eprintln!("{name}: {} changes, {killed} kills, state unchanged", applied.actions.len());
}

#[test]
fn cards_and_network_parameters_of_a_namespace_go_there_and_back() {
    let script = "mount -t sysfs none /sys\n\
                  ip link set lo up\n\
                  ip link add va numtxqueues 4 numrxqueues 4 type veth peer name vb numtxqueues 4 numrxqueues 4";
    let name = "cards_and_network_parameters_of_a_namespace_go_there_and_back";
    if !inside(name, &["--net", "--mount"], script) {
        return;
    }
    let host = Host::real();
    let demand = Demand {
        nics: vec![Nic { name: "va".to_owned(), queues: 2, udp_port: 9_999 }],
        busy_poll: true,
        ring_entries: 1_024,
        ..Demand::default()
    };
    if std::env::var_os(KILL_AT).is_none() {
        let devices = host.network_devices();
        assert_eq!(devices, ["lo", "va", "vb"], "a namespace of our own");
        // Something to switch off: the kernel starts with forwarding off.
        let folder =
            std::path::PathBuf::from(std::env::var_os(INSIDE).expect("inside")).join("prepare");
        let journal = Journal::open(&folder).expect("a journal");
        let mut log = Vec::new();
        let mut writer = Writer::new(&host, Some(journal), &mut log, None);
        for key in ["netlink:va/features/rx-udp-gro-forwarding", "netlink:va/features/rx-gro-list"]
        {
            writer.set("test", key, Some("on")).expect("veth has it");
        }
        // What a virtual card does not have is told, not failed.
        let chosen =
            stages::chosen(&["nic-coalesce", "nic-rings", "nic-ntuple"].map(str::to_owned))
                .expect("known");
        for report in machine::check(&host, &demand, &chosen) {
            assert_eq!(report.state, State::Unavailable, "{}: {}", report.name, report.reason);
        }
    }
    there_and_back(
        name,
        &demand,
        &["nic-channels", "nic-offloads", "loopback", "napi", "multicast"],
    );
}

#[test]
fn huge_pages_mounts_and_a_control_group_of_this_machine_go_there_and_back() {
    let name = "huge_pages_mounts_and_a_control_group_of_this_machine_go_there_and_back";
    if !inside(name, &["--mount"], "true") {
        return;
    }
    let host = Host::real();
    let pool = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB";
    let free = host.number(&format!("{pool}/free_hugepages")).ok().flatten();
    let online = host.online().unwrap_or_default();
    let (Some(free), Some(last)) = (free, online.iter().skip(1).last()) else {
        eprintln!("{name}: skipped, no huge pages or one processor");
        return;
    };
    // A second run of this test, or somebody's own node: not ours to touch.
    if host.read("dir:/run/metanode").is_some() && std::env::var_os(KILL_AT).is_none() {
        eprintln!("{name}: skipped, /run/metanode is in use");
        return;
    }
    // The child that is killed must ask for the same pages as its parent did, whatever is free at that moment.
    let asked = std::env::var("HWCONFIG_TEST_PAGES").ok().and_then(|text| text.parse().ok());
    let pages = asked.unwrap_or(free + 3);
    let demand = Demand {
        tile_cpus: std::iter::once(last).collect(),
        huge: vec![HugePages { node: 0, page_kb: 2_048, pages }],
        huge_mounts: true,
        ..Demand::default()
    };
    there_and_back(name, &demand, &["hugetlbfs", "cpuset"]);
}
