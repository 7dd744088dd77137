//! `metanode run` as an operator meets it: start, second start, stop, kill, restart, and mistakes on the command line.

mod common;

use common::node::{RunningNode, command};
use std::time::Duration;

#[test]
fn a_second_process_is_refused_and_told_the_first_and_a_killed_one_leaves_no_lock() {
    let mut node = RunningNode::start(&[]);
    let second = command(node.directory(), &[]).output().expect("it runs");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("in use by process {}", node.pid())), "{said}");
    node.kill();
    node.restart();
    let took = node.stop();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(!node.folder().join("node.json").exists());
}

#[test]
fn an_interrupt_ends_it_within_two_seconds_and_it_starts_again() {
    let mut node = RunningNode::start(&[]);
    node.signal("INT");
    let (status, took) = node.wait();
    assert!(status.success() && took < Duration::from_secs(2), "{status} {took:?}\n{}", node.log());
    node.restart();
    node.stop();
}

#[test]
fn the_level_of_the_log_is_read_again_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("metanode.toml");
    std::fs::write(&file, "[log]\nlevel = \"info\"\nformat = \"json\"\n").expect("a file");
    let mut node = RunningNode::start(&["--config", file.to_str().expect("UTF-8")]);
    let lines: Vec<serde_json::Value> = node
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .collect();
    let ready = lines.iter().find(|line| line["message"] == "ready").expect("it says so");
    assert_eq!(ready["level"], "INFO");
    assert!(ready["started_ms"].is_u64(), "{ready}");

    std::fs::write(&file, "[log]\nlevel = \"error\"\nformat = \"json\"\n").expect("a file");
    let before = node.log().len();
    node.signal("HUP");
    std::thread::sleep(Duration::from_millis(500));
    node.stop();
    let after = &node.log()[before..];
    assert!(!after.contains("stopping"), "info is off: {after}");

    std::fs::write(&file, "[log]\nlevel = \"loud\"\n").expect("a file");
    let refused = command(folder.path(), &["--config".into(), file.display().to_string()]).output();
    let refused = refused.expect("it runs");
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("log.level: got `loud`, expected LEVELS"), "{said}");
}

#[test]
fn a_directory_that_cannot_be_written_and_a_flag_that_does_not_exist_are_told() {
    let refused = command("/proc/nowhere".as_ref(), &[]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("creating /proc/nowhere/regtest") && said.contains("--data-dir"),
        "{said}"
    );

    let folder = tempfile::tempdir().expect("a folder");
    let refused = command(folder.path(), &["--rpc-listn=1".into()]).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--rpc-listen"), "{said}");
}

#[test]
fn the_default_file_is_printed_and_what_is_in_effect_says_where_it_came_from() {
    let metanode = |args: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_metanode"))
            .arg("config")
            .args(args)
            .env("METANODE_RPC_PORT", "18332")
            .output()
            .expect("it runs")
    };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("metanode.toml");
    std::fs::write(&file, metanode(&["--default"]).stdout).expect("a file");
    let out = metanode(&["--json", "--log-level=warn", "--config", file.to_str().expect("UTF-8")]);
    assert!(out.status.success());
    let object: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one object");
    let row = |key: &str| {
        let rows = object["settings"].as_array().expect("rows");
        rows.iter().find(|row| row["key"] == key).cloned().unwrap_or_else(|| panic!("no {key}"))
    };
    let said = |key: &str| (row(key)["value"].clone(), row(key)["from"].clone());
    assert_eq!(said("rpc.listen"), ("127.0.0.1:18332".into(), "METANODE_RPC_PORT".into()));
    assert_eq!(said("log.level"), ("warn".into(), "flag".into()));
    assert_eq!(said("network"), ("regtest".into(), "default".into()));
}

#[test]
fn top_shows_every_cell_of_every_tile_and_every_link_of_a_running_node() {
    let mut node = RunningNode::start(&["--cores", "2", "--memory", "2G"]);
    let directory = node.directory().to_str().expect("UTF-8").to_owned();
    let (code, object) =
        common::run(&["top", "--json", "--interval-ms", "300", "--data-dir", &directory]);
    assert_eq!((code, &object["pid"]), (0, &node.pid().into()));
    let tiles = object["tiles"].as_array().expect("tiles");
    let names: Vec<_> = tiles.iter().map(|t| t["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["validate:0", "validate:1", "long:0", "shard:0", "pack:0", "store:0"]);
    for tile in tiles {
        assert_eq!(tile["state"], "run", "{tile}");
        let cell = |phase: &str, regime: &str| tile["percent"][phase][regime].as_f64();
        for phase in ["housekeeping", "prefrag", "postfrag"] {
            for regime in ["caught_up", "processing", "backpressure"] {
                assert!(cell(phase, regime).is_some_and(|p| (0.0..=101.0).contains(&p)), "{tile}");
            }
        }
        assert!(tile["counters"].is_object());
    }
    let links = object["links"].as_array().expect("links");
    let link = |name: &str| links.iter().find(|l| l["name"] == name).expect("a link").clone();
    assert_eq!(link("validate_shard:0.0")["depth"], 256);
    for key in ["used", "frags_per_s", "backpressure_per_s", "shed", "overrun", "large"] {
        assert!(link("submit_validate:0.1")[key].is_number(), "{key}");
    }
    let once = std::process::Command::new(env!("CARGO_BIN_EXE_metanode"))
        .args(["top", "--once", "--interval-ms", "50", "--data-dir", &directory])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&once.stdout).into_owned();
    assert!(once.status.success() && text.contains("validate_shard:1.0"), "{text}");
    node.stop();
    let gone = std::process::Command::new(env!("CARGO_BIN_EXE_metanode"))
        .args(["top", "--json", "--data-dir", &directory])
        .output()
        .expect("it runs");
    assert_eq!(gone.status.code(), Some(1));
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(said.contains("no node runs in"), "{said}");
}

#[test]
fn memory_is_divided_and_what_is_too_small_is_refused_with_the_least_that_works() {
    let (code, object) = common::run(&["topo", "--json", "--cores", "2", "--memory", "4G"]);
    assert_eq!(code, 0);
    let memory = &object["memory"];
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    assert_eq!(number(&memory["total_bytes"]), 4 << 30);
    let parts = memory["parts"].as_array().expect("parts");
    let sum: u64 = parts.iter().map(|part| number(&part["bytes"])).sum();
    assert!(sum == number(&memory["sum_bytes"]) && sum <= 4 << 30, "{memory}");
    for what in ["shard", "validate", "arenas of links", "pack and pool index"] {
        assert!(parts.iter().any(|part| part["what"] == what), "{what}");
    }

    let folder = tempfile::tempdir().expect("a folder");
    let args = ["--cores", "2", "--memory", "64M"].map(String::from);
    let refused = command(folder.path(), &args).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    let least = said.split("give --memory ").nth(1).and_then(|rest| rest.split(',').next());
    let least = least.unwrap_or_else(|| panic!("no least in {said}"));
    let mut node = RunningNode::start(&["--cores", "2", "--memory", least]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("Linux");
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).expect("a line");
    let kb: u64 = resident.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("kB");
    assert!(kb < 400_000, "what is not used is not taken: {resident}");
    node.stop();
}

#[test]
fn version_says_of_every_kernel_why_it_was_chosen() {
    let (code, object) = common::run(&["version", "--json"]);
    assert_eq!(code, 0);
    let kernels = object["kernels"].as_array().expect("kernels");
    for job in ["signatures", "hashes", "huge pages", "io_uring", "wake-ups", "clock"] {
        let kernel = kernels.iter().find(|k| k["job"] == job).unwrap_or_else(|| panic!("no {job}"));
        for key in ["name", "why"] {
            assert!(kernel[key].as_str().is_some_and(|text| text.len() > 2), "{kernel}");
        }
    }
    let signatures = kernels.iter().find(|k| k["job"] == "signatures").expect("there");
    assert!(
        signatures["others"].as_array().is_some_and(|others| others.len() == 2),
        "{signatures}"
    );
    assert!(object["rustc"].as_str().is_some_and(|text| text.starts_with("rustc 1.")), "{object}");
}

#[test]
fn a_planned_layout_binds_each_core_to_its_processor_and_the_host_is_checked_at_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("layout.json");
    let path = file.to_str().expect("UTF-8");
    let (code, plan) = common::run(&["hw", "plan", "--cores", "1", "--json"]);
    assert_eq!(code, 0, "{plan}");
    std::fs::write(&file, plan.to_string()).expect("a file");
    let mut node = RunningNode::start(&["--layout", path]);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).expect("Linux");
    let bound: Vec<String> = tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .filter(|status| status.starts_with("Name:\tcore 0\n"))
        .filter_map(|status| {
            let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:"))?;
            Some(line.split_whitespace().nth(1)?.to_owned())
        })
        .collect();
    assert_eq!(bound, [plan["layout"]["cores"][0]["cpu"].to_string()]);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !node.log().contains("host: checked") {
        assert!(std::time::Instant::now() < deadline, "no word about the host:\n{}", node.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (_, check) = common::run(&["hw", "check", "--json", "--layout", path]);
    for stage in check["stages"].as_array().expect("stages") {
        let name = stage["name"].as_str().expect("a name");
        let gain = stage["gain"].as_str().expect("a text");
        let told = node.log().contains(&format!("host: {name}: "));
        assert_eq!(told, !gain.is_empty(), "{stage}");
        assert!(gain.is_empty() || node.log().contains(gain), "{stage}");
    }
    node.stop();

    let moved = plan.to_string().replace("pack:0", "pack:1");
    std::fs::write(&file, moved).expect("a file");
    let args = ["--layout".to_owned(), path.to_owned()];
    let refused = command(folder.path(), &args).output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("core 0 of the layout runs") && !refused.status.success(), "{said}");
}

#[test]
fn the_commands_of_the_page_about_running_a_node_do_what_it_says() {
    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate/running.md");
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let blocks = page.split("```sh\n").skip(1);
    let script: String = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(script.lines().count() > 20, "{script}");
    let port = |_| {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        socket.local_addr().expect("bound").port()
    };
    let [submit, rpc, ops] = [0, 1, 2].map(port);
    let script =
        [(8833, submit), (8545, rpc), (9545, ops)].iter().fold(script, |text, (was, is)| {
            text.replace(&format!("127.0.0.1:{was}"), &format!("127.0.0.1:{is}"))
        });
    let home = tempfile::tempdir().expect("a folder");
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_metanode"));
    let folder = binary.parent().expect("a folder").display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    let script = format!("set -eu\ntrap 'kill -9 $! 2>/dev/null || true' EXIT\n{script}");
    let out = std::process::Command::new("timeout")
        .args(["-s", "KILL", "120", "bash", "-c", &script])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("PATH", path)
        .env("METANODE_SUBMIT_LISTEN", format!("127.0.0.1:{submit}"))
        .env("METANODE_RPC_LISTEN", format!("127.0.0.1:{rpc}"))
        .env("METANODE_OPS_LISTEN", format!("127.0.0.1:{ops}"))
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    let log = std::fs::read_to_string(home.path().join("metanode.log")).unwrap_or_default();
    assert!(out.status.success(), "{text}\n{log}");
    assert!(log.contains("log levels were read again"), "{log}");
}

#[test]
fn a_dump_of_a_link_counts_what_it_writes_and_what_it_loses() {
    let mut node = RunningNode::start(&["--map-links=true"]);
    let directory = node.directory().to_str().expect("UTF-8").to_owned();
    let file = node.directory().join("link.pcap");
    let out = file.to_str().expect("UTF-8").to_owned();
    let dump = |link: &str, seconds: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_metanode"))
            .args(["dump", "--json", "--link", link, "--out", &out, "--seconds", seconds])
            .args(["--data-dir", &directory])
            .output()
            .expect("it runs")
    };
    let refused = dump("nosuch:0", "1");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("there is no link nosuch:0") && said.contains("control_pack:0"),
        "{said}"
    );

    let mining = std::thread::scope(|scope| {
        let dumping = scope.spawn(|| dump("control_pack:0", "3"));
        std::thread::sleep(Duration::from_millis(700));
        let body = r#"{"method":"generate","params":[5]}"#;
        let answer = http(node.address("rpc"), &node.cookie(), body);
        assert!(answer.contains("\"error\":null"), "{answer}");
        dumping.join().expect("no panic")
    });
    assert!(mining.status.success(), "{}", String::from_utf8_lossy(&mining.stderr));
    let object: serde_json::Value = serde_json::from_slice(&mining.stdout).expect("one object");
    let number = |key: &str| object[key].as_u64().unwrap_or_else(|| panic!("no {key}: {object}"));
    assert!(number("frags") >= 10, "a candidate and a mined block at least, five times: {object}");
    assert_eq!((number("lost"), number("malformed")), (0, 0), "{object}");
    let bytes = std::fs::metadata(&file).expect("written").len();
    assert_eq!(bytes, 24 + number("frags") * 40 + number("bytes"));
    let links = node.info["link_dir"].as_str().expect("told").to_owned();
    assert!(std::path::Path::new(&links).exists());
    node.stop();
    assert!(!std::path::Path::new(&links).exists(), "they go away with the node");
}

/// One POST, by hand; the answer with its head.
fn http(address: &str, cookie: &str, body: &str) -> String {
    use base64::Engine;
    use std::io::{Read, Write};
    let auth = base64::engine::general_purpose::STANDARD.encode(cookie);
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let request = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {auth}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_port_that_is_taken_is_told_with_the_flag_that_chooses_another() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    for listener in ["submit", "rpc", "ops"] {
        let folder = tempfile::tempdir().expect("a folder");
        let args = [format!("--{listener}-listen"), address.clone()];
        let refused = command(folder.path(), &args).output().expect("it runs");
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(&format!("listening on {address}")), "{said}");
        assert!(said.contains(&format!("--{listener}-listen")), "{said}");
    }
}
