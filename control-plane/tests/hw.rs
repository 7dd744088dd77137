//! `metanode hw` as an operator types it, on a directory tree that stands for a host: exit codes, keys of the JSON, and the walk-through
//! of docs/operate/tuning.md, whose output is captured here and compared with the page.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate/tuning.md");

fn set(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    std::fs::create_dir_all(file.parent().expect("below the root")).expect("a folder");
    std::fs::write(file, format!("{text}\n")).expect("a file");
}

/// Four cores, no card, a kernel as it comes.
fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    set(root, "proc/sys/kernel/random/boot_id", "boot-one");
    set(root, "proc/sys/vm/max_map_count", "65530");
    set(root, "proc/sys/kernel/numa_balancing", "1");
    set(root, "proc/irq/default_smp_affinity", "f");
    set(root, "proc/irq/24/smp_affinity", "f");
    set(root, "proc/cmdline", "ro quiet");
    set(root, "sys/devices/system/cpu/online", "0-3");
    for cpu in 0..4 {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}/topology");
        set(root, &format!("{folder}/thread_siblings_list"), &cpu.to_string());
    }
    folder
}

fn hw(root: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_metanode"))
        .arg("hw")
        .args(arguments.split_whitespace())
        .arg("--root")
        .arg(root)
        .output()
        .expect("the binary runs")
}

fn json(out: &Output) -> Value {
    let text = String::from_utf8_lossy(&out.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("one object")
}

#[test]
fn exit_codes_and_keys_are_those_of_the_contract() {
    let tree = tree();
    let root = tree.path();
    let check = hw(root, "check --stage sysctl --json");
    assert_eq!(check.status.code(), Some(1));
    let object = json(&check);
    for key in
        ["schema", "ok", "commit", "machine", "seed", "elapsed_s", "aims", "skipped", "stages"]
    {
        assert!(object.get(key).is_some(), "{key}");
    }
    for key in ["name", "state", "reason", "needs", "run"] {
        assert!(object["stages"][0].get(key).is_some(), "{key}");
    }
    assert_eq!(object["stages"][0]["run"][0], "echo 1000000 > /proc/sys/vm/max_map_count");

    for wrong in ["check --stage nosuch", "check --cores 4", "plan --layout /no/such/file", "tune"]
    {
        assert_eq!(hw(root, wrong).status.code(), Some(2), "{wrong}");
    }

    set(root, "proc/self/status", "Uid:\t9\t9\t9\t9\nCapEff:\t0000000000000000");
    let refused = hw(root, "apply --stage sysctl --json");
    assert_eq!(refused.status.code(), Some(3));
    assert_eq!(json(&refused)["missing"][0]["capability"], "uid 0");
    std::fs::remove_file(root.join("proc/self/status")).expect("it was there");

    set(root, "faults", "/proc/sys/kernel/numa_balancing\tEIO");
    assert_eq!(hw(root, "apply --stage sysctl").status.code(), Some(4));
    std::fs::remove_file(root.join("faults")).expect("it was there");

    let applied = hw(root, "apply --stage sysctl --json");
    assert_eq!(applied.status.code(), Some(0));
    for key in ["stage", "path", "before", "after", "verified"] {
        assert!(json(&applied)["actions"][0].get(key).is_some(), "{key}");
    }
    let undone = hw(root, "undo --json");
    assert_eq!(undone.status.code(), Some(0));
    for key in ["restored", "dropped_other_boot", "left"] {
        assert!(json(&undone).get(key).is_some(), "{key}");
    }
    assert_eq!(json(&undone)["restored"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_plan_that_was_printed_is_a_layout_that_is_taken_and_the_unit_says_how_it_was_applied() {
    let tree = tree();
    let plan = hw(tree.path(), "plan --json");
    assert_eq!(plan.status.code(), Some(0));
    let file = tree.path().join("layout.json");
    std::fs::write(&file, &plan.stdout).expect("a file");
    let check =
        hw(tree.path(), &format!("check --stage irq-affinity --json --layout {}", file.display()));
    assert_eq!(json(&check)["stages"][0]["run"][0], "echo 1 > /proc/irq/default_smp_affinity");

    std::fs::create_dir_all(tree.path().join("etc/systemd/system")).expect("a folder");
    let persist = hw(tree.path(), "apply --stage sysctl --persist --json");
    assert_eq!(json(&persist)["boot_parameters"], "nohz_full=1-3 rcu_nocbs=1-3");
    let unit = tree.path().join("etc/systemd/system/metanode-hw.service");
    let text = std::fs::read_to_string(&unit).expect("the unit");
    assert!(text.contains(" hw apply --stage sysctl --root "), "{text}");
    assert_eq!(hw(tree.path(), "undo").status.code(), Some(0));
    assert!(unit.exists(), "without --persist the unit stays");
    assert_eq!(hw(tree.path(), "undo --persist").status.code(), Some(0));
    assert!(!unit.exists());
}

/// With METANODE_BLESS=1 the page is written anew.
#[test]
fn the_page_about_tuning_is_what_the_stages_say_and_what_the_walk_through_prints() {
    let tree = tree();
    let mut walk = String::new();
    for command in [
        "show --state",
        "check --stage sysctl --stage irq-affinity --stage nohz-full",
        "apply --stage sysctl --stage irq-affinity",
        "check --stage sysctl --stage irq-affinity",
        "undo",
        "show --state",
    ] {
        let out = hw(tree.path(), command);
        let said = String::from_utf8_lossy(&out.stderr);
        let printed = String::from_utf8_lossy(&out.stdout);
        let shown = [&said, &printed].map(|text| text.trim_end()).join("\n");
        walk += &["$ metanode hw ", command, "\n", shown.trim(), "\n\n"].concat();
    }
    let page = [
        "# Tuning the host\n\n\
         `metanode hw check` says what is off and what a fix would gain; it changes nothing and needs no privileges. \
         `metanode hw apply` makes the changes: it prints the shell line of each first, writes the value before into a journal, and \
         reads the value back. `metanode hw undo` puts back what was there, also after a crash in the middle. `--dry-run` only prints.\n\n\
         This page is written by a test from the stages and from what the commands print.\n\n\
         ## A walk-through\n\nOn a host with four cores (`--root` left out here):\n\n```text\n",
        walk.trim_end(),
        "\n```\n\n## Stages\n\n",
        hwconfig::guide::stages().trim_end(),
        "\n",
    ]
    .concat();
    if std::env::var_os("METANODE_BLESS").is_some() {
        std::fs::create_dir_all(Path::new(PAGE).parent().expect("a folder")).expect("a folder");
        std::fs::write(PAGE, &page).expect("the page");
    }
    let kept = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(kept == page, "docs/operate/tuning.md is out of date; write it with METANODE_BLESS=1");
}
