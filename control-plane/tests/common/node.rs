//! A node as its users run it: a process of its own on ports the system chose, in a directory that goes away with the test.
//!
//! `RunningNode::start(&[])` waits for `node.json`; addresses, the cookie and the process stand in it. Dropped, the node is killed.

#![allow(dead_code)] // every test file uses a part of it

use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest time a node may take to say that it is ready (debug builds on a busy machine).
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A node that runs.
pub struct RunningNode {
    child: Child,
    /// As the node names it, and as the test finds it: the same, unless the node has a mount namespace of its own.
    directory: PathBuf,
    seen: PathBuf,
    enter: Vec<String>,
    args: Vec<String>,
    log: PathBuf,
    /// What `node.json` says.
    pub info: Value,
    _owned: Option<tempfile::TempDir>,
}

impl RunningNode {
    /// A regtest node in a directory of its own, with more flags.
    pub fn start(args: &[&str]) -> Self {
        let owned = tempfile::tempdir().expect("a folder");
        let directory = owned.path().to_owned();
        Self::start_in(&directory, args, Some(owned))
    }

    /// A regtest node in `directory`.
    pub fn start_in(directory: &Path, args: &[&str], owned: Option<tempfile::TempDir>) -> Self {
        Self::start_at(directory, directory, Vec::new(), args, owned)
    }

    /// A regtest node whose command line begins with `enter`; what it calls `directory` is `seen` from here.
    pub fn start_at(
        directory: &Path,
        seen: &Path,
        enter: Vec<String>,
        args: &[&str],
        owned: Option<tempfile::TempDir>,
    ) -> Self {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let log = seen.join("stderr.log");
        let child = spawn(&enter, directory, &args, &log);
        let (directory, seen) = (directory.to_owned(), seen.to_owned());
        let info = Value::Null;
        let mut node = Self { child, directory, seen, enter, args, log, info, _owned: owned };
        node.wait_until_ready();
        node
    }

    fn wait_until_ready(&mut self) {
        let file = self.folder().join("node.json");
        let deadline = Instant::now() + START_TIMEOUT;
        let pid = self.child.id();
        loop {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let info: Value = serde_json::from_str(&text).unwrap_or_default();
            // A file of the process before may still be there.
            if info["pid"] == pid && info["ready"] == true {
                self.info = info;
                return;
            }
            let ended = self.child.try_wait().expect("our child");
            assert!(ended.is_none(), "the node ended with {ended:?}:\n{}", self.log());
            assert!(
                Instant::now() < deadline,
                "not ready after {START_TIMEOUT:?}:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The folder of its network.
    pub fn folder(&self) -> PathBuf {
        self.seen.join("regtest")
    }

    /// The data directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = std::fs::File::open(&self.log) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `host:port` of one of its listeners: `submit`, `rpc` or `ops`.
    pub fn address(&self, listener: &str) -> &str {
        let said = self.info["listen"][listener].as_str();
        said.unwrap_or_else(|| panic!("no listener {listener} in {}", self.info))
    }

    /// `user:password` of its RPC.
    pub fn cookie(&self) -> String {
        let path = self.info["cookie_file"].as_str().expect("a cookie");
        let inside = Path::new(path).strip_prefix(&self.directory);
        let path = inside.map_or_else(|_| PathBuf::from(path), |rest| self.seen.join(rest));
        std::fs::read_to_string(path).expect("the cookie is readable by its owner")
    }

    /// Sends a signal by name: `TERM`, `INT`, `HUP`, `KILL`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(status.expect("kill runs").success(), "kill -s {name}");
    }

    /// Waits for its end; how it ended and how long that took.
    pub fn wait(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return (status, began.elapsed());
            }
            assert!(began.elapsed() < START_TIMEOUT, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with SIGTERM and asserts that it ended well.
    pub fn stop(&mut self) -> Duration {
        self.signal("TERM");
        let (status, took) = self.wait();
        assert!(status.success(), "ended with {status}:\n{}", self.log());
        took
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Runs it again in the same directory, after [`stop`](Self::stop) or [`kill`](Self::kill).
    pub fn restart(&mut self) {
        self.child = spawn(&self.enter, &self.directory, &self.args, &self.log);
        self.wait_until_ready();
    }

    /// Runs it once more in the same directory, and expects that it refuses to: exit code 1, no panic. What it said.
    pub fn refuses(&self) -> String {
        let out = command(&self.directory, &self.args);
        let out = prefixed(&self.enter, &out).output().expect("the binary was built");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command line of a node that takes ports from the system.
pub fn command(directory: &Path, args: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_metanode"));
    command.arg("run").arg("--data-dir").arg(directory);
    for listener in ["submit", "rpc", "ops"] {
        let flag = format!("--{listener}-listen");
        if !args.contains(&flag) {
            command.args([flag.as_str(), "127.0.0.1:0"]);
        }
    }
    command.args(args);
    command
}

/// The same command behind a few words.
fn prefixed(enter: &[String], command: &Command) -> Command {
    let words = enter.iter().map(std::ffi::OsStr::new).chain([command.get_program()]);
    let mut words = words.chain(command.get_args());
    let mut all = Command::new(words.next().expect("a program"));
    all.args(words);
    all
}

fn spawn(enter: &[String], directory: &Path, args: &[String], log: &Path) -> Child {
    let log = std::fs::File::create(log).expect("a log");
    prefixed(enter, &command(directory, args))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary was built")
}
