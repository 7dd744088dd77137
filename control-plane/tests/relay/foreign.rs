//! A peer that knows nothing but the specification: `bfr_peer.py`, in Python, with PyPI's Noise and AEGIS.
//!
//! In: `docs/bfr.md`, as somebody else understood it. Out: objects that cross between it and our relay in both directions, whole, with
//! symbols lost on the way that only parity (its and ours) brings back. A change of the protocol that the page does not tell, or a page
//! that does not say enough, fails here. `cargo xtask setup` installs what the script needs.

use crate::rig::{GENESIS, Relay, bytes, text};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/relay/bfr_peer.py");
const SECRET: &str = "4b1d4b1d4b1d4b1d4b1d4b1d4b1d4b1d4b1d4b1d4b1d4b1d4b1d4b1d4b1d4b1d";

/// Where `cargo xtask setup` puts libraries; `None` says that this test is skipped.
fn libraries() -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let python = target.join("tools/python");
    let is_there = python.join("noise").is_dir() && python.join("pyaegis").is_dir();
    if !is_there {
        eprintln!(
            "SKIPPED: {} has no noise and pyaegis; try `cargo xtask setup`",
            python.display()
        );
    }
    is_there.then_some(python)
}

fn python(libraries: &PathBuf) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", "100", "python3", SCRIPT, "--secret", SECRET]);
    command.env("PYTHONPATH", libraries);
    command
}

fn lines(out: &Output) -> Vec<Value> {
    assert!(out.status.success(), "{}\n{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn said<'a>(lines: &'a [Value], key: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| !line[key].is_null()).collect()
}

#[test]
fn a_peer_written_from_the_specification_calls_and_sends_and_what_it_loses_is_mended() {
    let Some(libraries) = libraries() else { return };
    let key = text(&python(&libraries).arg("key").output().expect("python3 runs").stdout);
    let mut a = Relay::new("a");
    let peer =
        format!("[[peer]]\nname = \"foreign\"\npublic_key = \"{}\"\ntrusted = true\n", key.trim());
    a.head += &peer;
    a.peers(&[]);
    a.start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path.display().to_string()
    };
    // One symbol, one group, several groups of two sizes; then with losses that need parity and requests for more of it.
    let objects = [bytes(10, 1), bytes(20_000, 2), bytes(300_000, 3), bytes(250_000, 4)];
    let paths: Vec<String> =
        objects.iter().enumerate().map(|(n, object)| file(&n.to_string(), object)).collect();
    let genesis = hex::decode(GENESIS).expect("hex");
    let block = file("block", &genesis);
    let out = python(&libraries)
        .args(["--peer", &a.public_key, "--addr", &a.listens().expect("it listens"), "call"])
        .args(paths[..3].iter().map(|path| format!("send:opaque:{path}")))
        .args([&format!("send:block:{block}"), "lose:0.12", &format!("send:opaque:{}", paths[3])])
        .arg("close")
        .output()
        .expect("python3 runs");
    let lines = lines(&out);
    let sent = said(&lines, "sent");
    assert_eq!(sent.len(), 5, "{lines:?}\n{}", a.log());
    assert!(sent.iter().all(|line| line["answer"] == "has all"), "{lines:?}");
    let counts = &lines.last().expect("a last line")["done"];
    assert!(counts["lost_out"].as_u64().is_some_and(|lost| lost > 10), "{counts}");
    for object in objects.iter().chain([&genesis]) {
        a.has(object);
    }
    let status = a.status();
    for wrong in ["mac_wrong", "frame_malformed", "shape_wrong", "hash_wrong", "malformed"] {
        assert!(status["drops"][wrong].is_null(), "{wrong}: {status}");
    }
}

#[test]
fn a_peer_written_from_the_specification_is_called_and_takes_what_we_send_through_losses() {
    let Some(libraries) = libraries() else { return };
    let key = text(&python(&libraries).arg("key").output().expect("python3 runs").stdout);
    let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let at = free.local_addr().expect("bound").to_string();
    drop(free);
    let mut a = Relay::new("a");
    let peer = format!(
        "[[peer]]\nname = \"foreign\"\naddr = \"{at}\"\npublic_key = \"{}\"\nrate_mbit = 40\n",
        key.trim()
    );
    a.head += &peer;
    a.peers(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let child = python(&libraries)
        .args([
            "--peer",
            &a.public_key,
            "--listen",
            &at,
            "answer",
            &format!("take:{}", path("one")),
        ])
        .args(["lose:0.08", &format!("take:{}", path("two")), &format!("take:{}", path("three"))])
        .arg("keep:0.5")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    a.start();
    a.wait_for(&["foreign"]);
    let (one, two, three) =
        (bytes(50_000, 6), bytes(300_000, 7), hex::decode(GENESIS).expect("hex"));
    for (object, class) in [(&one, "opaque"), (&two, "opaque"), (&three, "block")] {
        let sent = a.send(object, &["--wait", "--class", class]);
        assert!(sent.status.success(), "{class}: {}\n{}", text(&sent.stderr), a.log());
    }
    let lines = lines(&child.wait_with_output().expect("it ended"));
    assert_eq!(said(&lines, "took").len(), 3, "{lines:?}");
    let counts = &lines.last().expect("a last line")["done"];
    let lost = counts["lost_in"].as_u64().expect("a number");
    assert!(lost > 5 && counts["decoded"].as_u64().is_some_and(|n| n >= 1), "{counts}");
    for (name, object) in [("one", &one), ("two", &two), ("three", &three)] {
        assert!(std::fs::read(path(name)).is_ok_and(|got| got == *object), "{name} is another");
    }
}
