//! The page about running a relay: its commands, run as they stand there.

use std::process::Command;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operate/relay.md");

#[test]
fn the_commands_of_the_page_about_running_a_relay_do_what_it_says() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let blocks = page.split("```sh\n").skip(1);
    let script: String = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(script.lines().count() > 15, "{script}");
    let home = tempfile::tempdir().expect("a folder");
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_metanode"));
    let folder = binary.parent().expect("a folder").display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    // Ports of the page are free on the reader's machine, and need not be on this one.
    let free = |_| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.local_addr().expect("bound").port()
    };
    let [one, other, control] = [0, 1, 2].map(free);
    let script = [("9333", one), ("9334", other), ("9001", control)]
        .iter()
        .fold(script, |text, (was, is)| text.replace(was, &is.to_string()));
    let script = format!("set -eu\ntrap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
    let out = Command::new("timeout")
        .args(["-s", "KILL", "120", "bash", "-c", &script])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("PATH", path)
        .env("METANODE_BFR_CONTROL_LISTEN", "127.0.0.1:0")
        .env("METANODE_RPC_LISTEN", "127.0.0.1:0")
        .env("METANODE_SUBMIT_LISTEN", "127.0.0.1:0")
        .env("METANODE_OPS_LISTEN", "127.0.0.1:0")
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    for wanted in
        ["\"done\":{\"ms\":", "\"state\":\"up\"", "\"reload\":{\"needs_restart\":false", "name two"]
    {
        assert!(said.replace("\": ", "\":").contains(wanted), "no {wanted} in:\n{said}");
    }
}
