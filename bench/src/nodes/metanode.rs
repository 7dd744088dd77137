//! Our own node, as its users start it: the binary, on regtest, on ports of its own.

use super::{NodeError, Running, exchange, failed, free_port, line_of};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(120);

/// A running node of ours.
#[derive(Debug)]
pub struct MetaNode {
    /// The process.
    pub running: Running,
    /// Of its submit interface.
    pub submit_port: u16,
    /// Of metrics and health.
    pub ops_port: u16,
}

/// The binary beside this one, unless the caller names another.
pub fn program(given: Option<&Path>) -> Result<PathBuf, NodeError> {
    let exe = std::env::current_exe().unwrap_or_default();
    let path = given.map_or_else(|| exe.with_file_name("metanode"), Path::to_owned);
    if path.is_file() {
        return Ok(path);
    }
    let hint = "build it with `cargo build --release`, or name it with --metanode";
    Err(NodeError(format!("{} is not there; {hint}", path.display())))
}

impl MetaNode {
    /// Starts and greets it; its log goes to `node.log` in its folder. `options` are flags of its `run`.
    pub fn start(program: &Path, options: &[&str]) -> Result<Self, NodeError> {
        let folder = tempfile::tempdir().map_err(|error| failed("making a data folder", &error))?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let (child, credentials) = launch(program, folder.path(), ports, options)?;
        let [rpc_port, submit_port, ops_port] = ports;
        let mut running = Running { child, rpc_port, credentials, folder };
        running.greet("metanode", "getblockcount")?;
        Ok(Self { running, submit_port, ops_port })
    }

    /// Starts it again in the folder and on the ports it had, after it ended.
    pub fn restart(&mut self, program: &Path) -> Result<(), NodeError> {
        self.restart_with(program, &[])?;
        self.running.greet("metanode", "getblockcount").map(drop)
    }

    /// The same with flags, and without waiting for more than its process and its cookie.
    pub fn restart_with(&mut self, program: &Path, options: &[&str]) -> Result<(), NodeError> {
        let ports = [self.running.rpc_port, self.submit_port, self.ops_port];
        // The cookie of the life before says nothing about this one.
        let _ = std::fs::remove_file(cookie(self.running.folder()));
        let (child, credentials) = launch(program, self.running.folder(), ports, options)?;
        self.running.child = child;
        self.running.credentials = credentials;
        Ok(())
    }

    /// Waits until it says that it is ready.
    pub fn until_ready(&mut self) -> Result<(), NodeError> {
        let request = b"GET /readiness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let until = Instant::now() + READY;
        loop {
            let answer = exchange(self.ops_port, request).unwrap_or_default();
            if answer.starts_with(b"HTTP/1.1 200") {
                return Ok(());
            }
            if let Some(status) = self.running.ended() {
                return Err(NodeError(format!("it ended before it was ready: {status}")));
            }
            if Instant::now() > until {
                let text = String::from_utf8_lossy(&answer).into_owned();
                return Err(NodeError(format!("it does not become ready: {text}")));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.running.folder().join("node.log"));
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

fn cookie(folder: &Path) -> PathBuf {
    folder.join("regtest/.cookie")
}

/// The process and its credentials.
fn launch(
    program: &Path,
    folder: &Path,
    [rpc_port, submit_port, ops_port]: [u16; 3],
    options: &[&str],
) -> Result<(Child, String), NodeError> {
    let log = OpenOptions::new().create(true).append(true).open(folder.join("node.log"));
    let log = log.map_err(|error| failed("making a log", &error))?;
    let mut child = Command::new(program)
        .args(["run", "--network", "regtest", "--data-dir"])
        .arg(folder)
        .args(["--rpc-listen", &format!("127.0.0.1:{rpc_port}")])
        .args(["--submit-listen", &format!("127.0.0.1:{submit_port}")])
        .args(["--ops-listen", &format!("127.0.0.1:{ops_port}")])
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| failed(&format!("starting {}", program.display()), &error))?;
    match line_of(&cookie(folder), &mut child) {
        Ok(credentials) => Ok((child, credentials)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(folder.join("node.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(5)..].join("\n");
            Err(NodeError(format!("starting {}: {error}\n{last}", program.display())))
        }
    }
}
