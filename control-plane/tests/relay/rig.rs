//! A relay of a test: its folder, its settings, its process, and the commands about it.

use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Machines are shared; what should take milliseconds may take seconds there.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn metanode(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_metanode")).args(args).output().expect("the binary was built")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
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
pub struct Relay {
    name: &'static str,
    pub folder: tempfile::TempDir,
    pub public_key: String,
    /// Settings above the peers.
    pub head: String,
    pub child: Option<Child>,
}

impl Relay {
    pub fn new(name: &'static str) -> Self {
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

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes the settings: these peers, each called where it listens now, or only known.
    pub fn peers(&self, peers: &[&Relay]) {
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

    pub fn node(&self) -> Option<Value> {
        serde_json::from_str(&std::fs::read_to_string(self.data().join("node.json")).ok()?).ok()
    }

    pub fn listens(&self) -> Option<String> {
        Some(self.node()?["listen"]["data"].as_str()?.to_owned())
    }

    pub fn start(&mut self) {
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

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A command about this relay.
    pub fn ask(&self, args: &[&str]) -> Output {
        let config = self.config().to_string_lossy().into_owned();
        metanode(&[&["relay"], args, &["--config", &config]].concat())
    }

    pub fn status(&self) -> Value {
        let out = self.ask(&["status", "--json"]);
        assert!(out.status.success(), "{}: {}", self.name, text(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("JSON")
    }

    pub fn is_up(&self, peer: &str) -> bool {
        let status = self.status();
        let peers = status["peers"].as_array().expect("peers");
        peers.iter().any(|row| row["name"] == peer && row["state"] == "up")
    }

    pub fn wait_for(&self, peers: &[&str]) {
        until("links come up", || peers.iter().all(|peer| self.is_up(peer)).then_some(()));
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Ends it and says with which code, and how long that took.
    pub fn end(&mut self, signal: &str) -> (Option<i32>, Duration) {
        self.signal(signal);
        let began = Instant::now();
        let mut child = self.child.take().expect("it runs");
        (child.wait().expect("ended").code(), began.elapsed())
    }

    pub fn inbox(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.data().join("inbox"));
        folder.map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }

    /// Waits until the inbox holds `want`.
    pub fn has(&self, want: &[u8]) -> PathBuf {
        until(&format!("{} has it", self.name), || {
            let mut all = self.inbox().into_iter();
            all.find(|path| std::fs::read(path).is_ok_and(|bytes| bytes == want))
        })
    }

    pub fn send(&self, object: &[u8], more: &[&str]) -> Output {
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

pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
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
pub const GENESIS: &str = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e\
    67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c0101000000010000000000000000000000000000000000000000000000\
    000000000000000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e20627269\
    6e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7\
    105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000";

/// Two relays that know and see each other.
pub fn two() -> (Relay, Relay) {
    let (mut a, mut b) = (Relay::new("a"), Relay::new("b"));
    a.peers(&[&b]);
    a.start();
    b.peers(&[&a]);
    b.start();
    a.wait_for(&["b"]);
    b.wait_for(&["a"]);
    (a, b)
}

pub fn resident_kib(relay: &Relay) -> u64 {
    let pid = relay.child.as_ref().expect("it runs").id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a row");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}
