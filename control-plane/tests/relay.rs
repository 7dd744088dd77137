//! `metanode relay` as its users run it: processes on this machine that move files between their inboxes.

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Machines are shared; what should take milliseconds may take seconds there.
const PATIENCE: Duration = Duration::from_secs(30);

fn metanode(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_metanode")).args(args).output().expect("the binary was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A configured relay; its process may run, or not.
struct Relay {
    name: &'static str,
    folder: tempfile::TempDir,
    public_key: String,
    /// Settings above the peers.
    head: String,
    child: Option<Child>,
}

impl Relay {
    fn new(name: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let key = data.join("relay.key");
        let made = metanode(&["relay", "keygen", "--out", &key.to_string_lossy()]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let public_key = text(&made.stdout).trim().to_owned();
        let head = format!(
            "listen = \"127.0.0.1:0\"\ncontrol_listen = \"127.0.0.1:0\"\nmetrics_listen = \"127.0.0.1:0\"\n\
             data_dir = \"{}\"\n",
            data.display()
        );
        Self { name, folder, public_key, head, child: None }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes the settings: these peers, each called where it listens now, or only known.
    fn peers(&self, peers: &[&Relay]) {
        let mut settings = self.head.clone();
        for peer in peers {
            let addr = peer.listens().map_or_else(String::new, |at| format!("addr = \"{at}\"\n"));
            write!(
                settings,
                "[[peer]]\nname = \"{}\"\n{addr}public_key = \"{}\"\ntrusted = true\n",
                peer.name, peer.public_key
            )
            .expect("a string");
        }
        std::fs::write(self.config(), settings).expect("written");
    }

    fn node(&self) -> Option<Value> {
        serde_json::from_str(&std::fs::read_to_string(self.data().join("node.json")).ok()?).ok()
    }

    fn listens(&self) -> Option<String> {
        Some(self.node()?["listen"]["data"].as_str()?.to_owned())
    }

    fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_metanode"))
            .args(["relay", "run", "--config", &self.config().to_string_lossy()])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("started");
        let pid = child.id();
        self.child = Some(child);
        until("node.json", || self.node().filter(|node| node["pid"] == pid));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A command about this relay.
    fn ask(&self, args: &[&str]) -> Output {
        let config = self.config().to_string_lossy().into_owned();
        metanode(&[&["relay"], args, &["--config", &config]].concat())
    }

    fn status(&self) -> Value {
        let out = self.ask(&["status", "--json"]);
        assert!(out.status.success(), "{}: {}", self.name, text(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("JSON")
    }

    fn is_up(&self, peer: &str) -> bool {
        let status = self.status();
        let peers = status["peers"].as_array().expect("peers");
        peers.iter().any(|row| row["name"] == peer && row["state"] == "up")
    }

    fn wait_for(&self, peers: &[&str]) {
        until("links come up", || peers.iter().all(|peer| self.is_up(peer)).then_some(()));
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Ends it and says with which code, and how long that took.
    fn end(&mut self, signal: &str) -> (Option<i32>, Duration) {
        self.signal(signal);
        let began = Instant::now();
        let mut child = self.child.take().expect("it runs");
        (child.wait().expect("ended").code(), began.elapsed())
    }

    fn inbox(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.data().join("inbox"));
        folder.map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }

    /// Waits until the inbox holds `want`.
    fn has(&self, want: &[u8]) -> PathBuf {
        until(&format!("{} has it", self.name), || {
            let mut all = self.inbox().into_iter();
            all.find(|path| std::fs::read(path).is_ok_and(|bytes| bytes == want))
        })
    }

    fn send(&self, object: &[u8], more: &[&str]) -> Output {
        let path = self.folder.path().join("object");
        std::fs::write(&path, object).expect("written");
        self.ask(&[&["send", &path.to_string_lossy()], more].concat())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended on its own; a test that failed wants to see why.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
    }
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// Mainnet's first block.
const GENESIS: &str = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e\
    67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c0101000000010000000000000000000000000000000000000000000000\
    000000000000000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e20627269\
    6e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7\
    105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000";

/// Two relays that know and see each other.
fn two() -> (Relay, Relay) {
    let (mut a, mut b) = (Relay::new("a"), Relay::new("b"));
    a.peers(&[&b]);
    a.start();
    b.peers(&[&a]);
    b.start();
    a.wait_for(&["b"]);
    b.wait_for(&["a"]);
    (a, b)
}

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

fn resident_kib(relay: &Relay) -> u64 {
    let pid = relay.child.as_ref().expect("it runs").id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a row");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[test]
fn rubbish_from_anywhere_is_counted_and_costs_no_memory() {
    let (a, b) = two();
    let to = a.listens().expect("it listens");
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let drops = |relay: &Relay| -> u64 {
        let status = relay.status();
        let drops = status["drops"].as_object().expect("reasons").values();
        drops.filter_map(Value::as_u64).sum()
    };
    let shower = |count: u64| {
        for n in 0..count {
            let mut packet = bytes(1 + (n as usize * 37) % 1_232, n + 1);
            // Every type the protocol has, and some that it has not.
            packet[0] = n as u8;
            stranger.send_to(&packet, &to).expect("sent");
            if n % 64 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    shower(2_000);
    until("the first are counted", || (drops(&a) > 1_000).then_some(()));
    let before = resident_kib(&a);
    shower(10_000);
    until("the rest is counted", || (drops(&a) > 8_000).then_some(()));
    let after = resident_kib(&a);
    assert!(after < before + 4_096, "{before} KiB before, {after} KiB after");
    let object = bytes(200_000, 3);
    let sent = a.send(&object, &["--wait"]);
    assert!(sent.status.success(), "{}\n{}", text(&sent.stderr), a.log());
    b.has(&object);
    assert_eq!(b.inbox().len(), 1);
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
