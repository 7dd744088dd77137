//! `metanode relay` as its users run it: processes on this machine that move files between their inboxes.
//!
//! Read in this order: `rig` (a relay of a test), this file (what operators do), `page` (the commands of the manual), `foreign` (a peer
//! that was written from the specification), `hostile` (everybody else).

mod foreign;
mod hostile;
mod page;
mod rig;

use rig::{GENESIS, PATIENCE, Relay, bytes, metanode, text, two, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_file_of_a_megabyte_moves_and_the_sender_is_told_after_how_long() {
    let (mut a, mut b) = two();
    let object = bytes(1_000_000, 7);
    let sent = a.send(&object, &["--wait"]);
    assert!(sent.status.success(), "{}\n{}", text(&sent.stderr), a.log());
    let lines: Vec<Value> =
        text(&sent.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(lines[0]["sent"]["peers"], serde_json::json!(["b"]));
    assert_eq!(lines[1]["delivered"]["peer"], "b");
    let last = lines.last().expect("a last line");
    assert!(last["ok"] == true && last["done"]["ms"].as_f64().is_some_and(|ms| ms > 0.0), "{last}");
    let file = b.has(&object);
    let id = lines[0]["sent"]["id"].as_str().expect("an id");
    assert_eq!(file.file_name().expect("a name").to_string_lossy(), format!("{id}.opaque"));
    let again = a.send(&object, &["--wait"]);
    assert!(again.status.success(), "the same once more: {}", text(&again.stderr));
    assert_eq!(b.inbox().len(), 1);

    let status = b.status();
    assert_eq!((&status["backend"], status["mode"].is_string()), (&Value::from("udp"), true));
    let peer = &status["peers"][0];
    for key in ["id", "addr", "rtt_us", "loss", "rate_mbit", "parity_pct"] {
        assert!(!peer[key].is_null(), "{key} is not in {peer}");
    }
    assert!(status["objects"].is_object() && status["drops"].is_object(), "{status}");
    assert!(status["io"]["rx_packets"].as_u64().is_some_and(|n| n >= 800), "{status}");
    assert_eq!(status["inbox"]["written"], 1);

    for relay in [&mut a, &mut b] {
        let (code, took) = relay.end("-TERM");
        assert_eq!(code, Some(0), "{}", relay.log());
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(relay.node().is_none(), "nothing listens any more");
        let log = relay.log();
        assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
        assert!(log.lines().last().is_some_and(|line| line.contains("stopped")), "{log}");
    }
}

#[test]
fn whoever_watches_gets_a_line_for_each_object_and_the_object_itself() {
    let (a, b) = two();
    let out = b.folder.path().join("out");
    let config = b.config().to_string_lossy().into_owned();
    let args =
        ["relay", "watch", "--count", "2", "--class", "opaque", "--config", &config, "--out"];
    let mut watch = Command::new(env!("CARGO_BIN_EXE_metanode"))
        .args(args)
        .arg(&out)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut next = || -> Value {
        serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON")
    };
    assert_eq!(next()["watching"], true);
    assert_eq!(b.status()["watchers"]["now"], 1);
    let genesis = hex::decode(GENESIS).expect("hex");
    assert!(a.send(&genesis, &["--class", "block", "--wait"]).status.success(), "{}", a.log());
    for (n, len) in [(1, 300_000), (2, 9)] {
        let object = bytes(len, n);
        assert!(a.send(&object, &["--wait"]).status.success(), "{}", a.log());
        let seen = next();
        let seen = &seen["object"];
        assert_eq!((seen["class"].as_str(), seen["from"].as_str()), (Some("opaque"), Some("a")));
        assert_eq!(seen["bytes"], len);
        let file = out.join(format!("{}.opaque", seen["id"].as_str().expect("an id")));
        assert_eq!(std::fs::read(file).expect("written"), object);
    }
    assert!(watch.wait().expect("it ends").success(), "it ends after two");
    let told = &b.status()["watchers"];
    assert_eq!((&told["told"], &told["lost"]), (&Value::from(2), &Value::from(0)));

    // Without the cookie nobody watches.
    let node = b.node().expect("it runs");
    let at = node["listen"]["control"].as_str().expect("an address").to_owned();
    let mut stranger = TcpStream::connect(at).expect("loopback");
    stranger.write_all(b"{\"do\":\"watch\",\"auth\":\"guess\"}\n").expect("said");
    let mut answer = String::new();
    stranger.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("not the cookie"), "{answer}");
}

#[test]
fn an_origin_that_is_known_is_believed_through_a_neighbour_that_is_not_trusted() {
    let (mut a, mut b, mut c) = (Relay::new("a"), Relay::new("b"), Relay::new("c"));
    let key = a.data().join("origin.key");
    let made = metanode(&["relay", "keygen", "--origin", "--out", &key.to_string_lossy()]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let origin = text(&made.stdout).trim().to_owned();
    a.head += &format!("origin_key_file = \"{}\"\n", key.display());
    b.head += "io_threads = 2\n";
    b.peers(&[&a, &c]);
    b.start();
    a.peers(&[&b]);
    a.start();
    c.peers(&[&b]);
    let known = format!("[[origin]]\nname = \"a\"\npublic_key = \"{origin}\"\n");
    let untrusted = |relay: &Relay, more: &str| {
        let text = std::fs::read_to_string(relay.config()).expect("settings");
        let text = text.replace("trusted = true", "trusted = false");
        std::fs::write(relay.config(), format!("{text}{more}")).expect("written");
    };
    untrusted(&c, &known);
    c.start();
    b.wait_for(&["a", "c"]);
    a.wait_for(&["b"]);
    assert_eq!(a.status()["origins"]["own"], Value::from(origin.as_str()));
    assert_eq!(b.status()["caps"]["threads"], 2);

    // b does not know the origin: it says so, and nothing goes on to c.
    let refused = a.send(&bytes(200_000, 1), &["--wait"]);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    assert!(b.inbox().is_empty() && c.inbox().is_empty());

    untrusted(&b, &known);
    let told = b.ask(&["reload"]);
    assert!(text(&told.stdout).contains("\"origins\":1"), "{}", text(&told.stdout));
    until("b knows a", || {
        (b.status()["origins"]["known"] == serde_json::json!(["a"])).then_some(())
    });
    let object = bytes(200_000, 2);
    let sent = a.send(&object, &["--wait"]);
    assert!(sent.status.success(), "{}\n{}", text(&sent.stderr), a.log());
    b.has(&object);
    c.has(&object);
    let told = until("c took the signed roots", || {
        let taken = c.status()["objects"]["roots_taken"].as_u64();
        taken.filter(|taken| *taken > 0)
    });
    // 200 kB in symbols of 1,024 bytes: four groups.
    assert!(told >= 4, "{told}");
    assert!(b.status()["objects"]["roots_refused"].as_u64().is_some_and(|refused| refused > 0));
}

#[test]
fn relays_with_different_backends_understand_each_other() {
    let (mut a, mut b) = (Relay::new("a"), Relay::new("b"));
    a.head += "backend = \"uring\"\n";
    b.head += "runs = false\n";
    a.peers(&[&b]);
    a.start();
    b.peers(&[&a]);
    b.start();
    a.wait_for(&["b"]);
    for (n, (from, to)) in [(&a, &b), (&b, &a)].into_iter().enumerate() {
        let object = bytes(400_000, 11 + n as u64);
        let sent = from.send(&object, &["--wait"]);
        assert!(sent.status.success(), "{}\n{}", text(&sent.stderr), from.log());
        to.has(&object);
    }
    let status = a.status();
    // Where io_uring is forbidden the log says so.
    let is_told = a.log().contains("io_uring is not to be had here");
    assert!(status["backend"] == "uring" || is_told, "{status}\n{}", a.log());
    assert_eq!(b.status()["mode"], "plain");
    let at = a.listens().expect("it listens");
    let (code, _) = a.end("-TERM");
    assert_eq!(code, Some(0), "{}", a.log());
    drop(UdpSocket::bind(at).expect("the port is free again"));
}

#[test]
fn a_relay_in_the_middle_passes_an_object_on() {
    let (mut a, mut b, mut c) = (Relay::new("a"), Relay::new("b"), Relay::new("c"));
    b.peers(&[&a, &c]);
    b.start();
    a.peers(&[&b]);
    a.start();
    c.peers(&[&b]);
    c.start();
    b.wait_for(&["a", "c"]);
    a.wait_for(&["b"]);
    let genesis = hex::decode(GENESIS).expect("hex");
    let objects = [("opaque", bytes(300_000, 1)), ("opaque", bytes(10, 2)), ("block", genesis)];
    for (class, object) in objects {
        let sent = a.send(&object, &["--class", class]);
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        b.has(&object);
        c.has(&object);
    }
}

#[test]
fn a_reload_adds_drops_and_rekeys_peers_and_the_other_links_do_not_notice() {
    let (mut a, b) = two();
    let mut c = Relay::new("c");
    c.peers(&[&a]);
    c.start();
    assert!(!a.is_up("c"), "a does not know c yet");
    a.peers(&[&b, &c]);
    let told = a.ask(&["reload"]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    assert!(text(&told.stdout).contains("\"peers\":2"), "{}", text(&told.stdout));
    a.wait_for(&["b", "c"]);
    let object = bytes(50_000, 1);
    assert!(a.send(&object, &["--wait"]).status.success(), "{}", a.log());
    c.has(&object);

    // Another key under the same name, by signal this time.
    let new_key = Relay::new("c");
    let _ = c.end("-TERM");
    std::fs::copy(new_key.data().join("relay.key"), c.data().join("relay.key")).expect("copied");
    c.public_key.clone_from(&new_key.public_key);
    c.start();
    a.peers(&[&b, &c]);
    a.signal("-HUP");
    a.wait_for(&["b", "c"]);

    a.peers(&[&b]);
    a.signal("-HUP");
    until("c is dropped", || {
        (a.status()["peers"].as_array().expect("peers").len() == 1).then_some(())
    });
    let log = b.log();
    assert_eq!(log.matches("peer is up").count(), 1, "the link of b never changed:\n{log}");
    assert_eq!(log.matches("peer is down").count(), 0, "{log}");

    // A mistake changes nothing.
    std::fs::write(a.config(), format!("{}\nlisen = \"x\"\n", a.head)).expect("written");
    let config = a.config();
    let refused = metanode(&["relay", "reload", "--config", &config.to_string_lossy()]);
    assert_eq!(refused.status.code(), Some(78), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("did you mean listen?"), "{}", text(&refused.stderr));
    a.signal("-HUP");
    until("the refusal is logged", || a.log().contains("stay as they were").then_some(()));
    a.peers(&[&b]);
    assert!(a.is_up("b"));
    let (code, _) = a.end("-INT");
    assert_eq!(code, Some(0));
}

#[test]
fn a_peer_that_was_killed_is_back_within_two_seconds_of_its_start() {
    let (a, mut b) = two();
    let at = b.listens().expect("it listens");
    b.head = b.head.replacen("127.0.0.1:0", &at, 1);
    b.peers(&[&a]);
    for round in 0..2 {
        let (code, _) = b.end("-KILL");
        assert_eq!(code, None);
        b.start();
        let began = Instant::now();
        b.wait_for(&["a"]);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "round {round}: {took:?}\n{}", b.log());
        let object = bytes(100_000, round);
        until("a sends again", || a.is_up("b").then_some(()));
        let sent = a.send(&object, &["--wait", "--timeout", "10"]);
        assert!(sent.status.success(), "{}\n{}\n{}", text(&sent.stderr), a.log(), b.log());
        b.has(&object);
    }
}

#[test]
fn a_peer_with_another_key_never_comes_up_and_nothing_is_sent_to_it() {
    let (mut a, mut b, stranger) = (Relay::new("a"), Relay::new("b"), Relay::new("b"));
    // a was told the key of somebody else.
    a.peers(&[&stranger]);
    a.start();
    b.peers(&[&a]);
    b.start();
    until("a has refused it", || {
        let status = a.status();
        let refused = status["drops"].as_object().expect("reasons").values();
        (refused.filter_map(Value::as_u64).sum::<u64>() > 0).then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(!b.is_up("a") && !a.is_up("b"));
    let sent = a.send(b"secret", &["--wait", "--timeout", "1"]);
    assert!(!sent.status.success());
    assert!(text(&sent.stderr).contains("no peer is up"), "{}", text(&sent.stderr));
    assert!(b.inbox().is_empty());
}

#[test]
fn the_control_connection_answers_strangers_nothing_that_changes_anything() {
    let mut a = Relay::new("a");
    a.peers(&[]);
    a.start();
    let node = a.node().expect("it runs");
    let control = node["listen"]["control"].as_str().expect("an address").to_owned();
    let say = |line: &[u8]| {
        let mut stream = TcpStream::connect(&control).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        // Who is refused early may find the door shut.
        let _ = stream.write_all(line);
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    };
    let cookie = std::fs::read_to_string(a.data().join("control.cookie")).expect("a cookie");
    let mode =
        std::fs::metadata(a.data().join("control.cookie")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(say(b"{\"do\":\"status\"}\n").contains("\"ok\":true"));
    for (line, wanted) in [
        (&b"{\"do\":\"reload\",\"auth\":\"\"}\n"[..], "not the cookie"),
        (b"{\"do\":\"reload\"}\n", "no request"),
        (b"{\"do\":\"send\",\"auth\":\"x\",\"class\":\"opaque\",\"bytes\":1}\nx", "not the cookie"),
        (b"{\"do\":\"dance\"}\n", "no request"),
        (b"{\"do\":\"status\",\"more\":1}\n", "no request"),
        (b"GET / HTTP/1.1\r\n", "no request"),
        (&[b'x'; 9_000][..], "at most 4096 bytes"),
    ] {
        let answer = say(line);
        assert!(answer.contains("\"ok\":false") && answer.contains(wanted), "{wanted}: {answer}");
    }
    let big = format!(
        "{{\"do\":\"send\",\"auth\":\"{cookie}\",\"class\":\"opaque\",\"bytes\":99999999999}}\n"
    );
    assert!(say(big.as_bytes()).contains("object_bytes_max"));
    let odd = format!("{{\"do\":\"send\",\"auth\":\"{cookie}\",\"class\":\"gas\",\"bytes\":1}}\n");
    assert!(say(odd.as_bytes()).contains("no class"));

    let metrics = node["listen"]["metrics"].as_str().expect("an address");
    let mut stream = TcpStream::connect(metrics).expect("connected");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("read");
    assert!(page.contains("metanode_relay_control_total{what=\"strangers\"} 2"), "{page}");
    assert!(page.contains("metanode_relay_rx_packets_total 0"), "{page}");
    // There was trouble on the control connection; the log tells of strangers, and never of the cookie.
    assert!(a.log().contains("without this relay's cookie") && !a.log().contains(&cookie));
}

fn refused(config: &Path, more: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metanode"));
    command.args(["relay", "run", "--config", &config.to_string_lossy()]);
    command.envs(more.iter().copied());
    let out = command.output().expect("runs");
    (out.status.code(), text(&out.stderr))
}

#[test]
fn a_relay_does_not_start_with_mistakes_or_with_a_key_others_may_read() {
    let a = Relay::new("a");
    a.peers(&[]);
    let (code, said) = refused(&a.config(), &[("METANODE_BFR_RATE_MBITS", "7")]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("did you mean METANODE_BFR_RATE_MBIT?"), "{said}");
    let key = a.data().join("relay.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("ours");
    let (code, said) = refused(&a.config(), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("chmod 600"), "{said}");
    let again = metanode(&["relay", "keygen", "--out", &key.to_string_lossy()]);
    assert!(!again.status.success() && text(&again.stderr).contains("exists"));
    let manual = metanode(&["relay", "config"]);
    assert!(text(&manual.stdout).contains("#listen = \"[::]:9333\""));
}

#[test]
fn two_relays_do_not_share_a_data_directory() {
    let mut a = Relay::new("a");
    a.peers(&[]);
    a.start();
    let (code, said) = refused(&a.config(), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by process"), "{said}");
}
