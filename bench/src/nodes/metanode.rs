//! Our own node, as its users start it: the binary, on regtest, on ports of its own.

use super::{NodeError, Running, failed, free_port, line_of};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
        let (rpc_port, submit_port, ops_port) = (free_port()?, free_port()?, free_port()?);
        let log = File::create(folder.path().join("node.log"))
            .map_err(|error| failed("making a log", &error))?;
        let mut child = Command::new(program)
            .args(["run", "--network", "regtest"])
            .arg("--data-dir")
            .arg(folder.path())
            .args(["--rpc-listen", &format!("127.0.0.1:{rpc_port}")])
            .args(["--submit-listen", &format!("127.0.0.1:{submit_port}")])
            .args(["--ops-listen", &format!("127.0.0.1:{ops_port}")])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| failed(&format!("starting {}", program.display()), &error))?;
        let credentials = match line_of(&folder.path().join("regtest/.cookie"), &mut child) {
            Ok(credentials) => credentials,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(folder.path().join("node.log"));
                let last: Vec<String> =
                    log.unwrap_or_default().lines().map(str::to_owned).collect();
                let last = last[last.len().saturating_sub(5)..].join("\n");
                return Err(NodeError(format!("starting {}: {error}\n{last}", program.display())));
            }
        };
        let mut running = Running { child, rpc_port, credentials, folder };
        running.greet("metanode", "getblockcount")?;
        Ok(Self { running, submit_port, ops_port })
    }
}
