//! Nodes as other programs see them: started in a folder of their own, asked over JSON-RPC, stopped.
//!
//! In: a program and its options. Out: a running node with a port and credentials. Two of them are known: SV Node (`svnode`) and
//! ours (`metanode`). Both listen on the loopback address only; their folders go away with them.

pub mod client;
pub mod metanode;
pub mod svnode;

use base64::Engine;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// How long a node may take to answer its first call.
const START: Duration = Duration::from_secs(120);
/// How long it may take to answer any.
const ANSWER: Duration = Duration::from_secs(600);

/// Why a node does not run or does not answer.
#[derive(Debug)]
pub struct NodeError(pub String);

impl std::fmt::Display for NodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An error that says what was tried and what came of it.
pub fn failed(what: &str, error: &dyn std::fmt::Display) -> NodeError {
    NodeError(format!("{what}: {error}"))
}

/// A process with a JSON-RPC port.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Of its JSON-RPC.
    pub rpc_port: u16,
    /// `NAME:PASSWORD`.
    pub credentials: String,
    /// Removed when dropped, after the node.
    folder: tempfile::TempDir,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until it answers `method`.
    fn greet(&mut self, name: &str, method: &str) -> Result<Value, NodeError> {
        let until = Instant::now() + START;
        loop {
            match self.call(method, &json!([])) {
                Ok(result) => return Ok(result),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => {}
            }
            if let Some(status) = self.ended() {
                return Err(NodeError(format!("{name} ended before it answered: {status}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as a power failure would; its folder stays.
    pub fn kill(&mut self) -> Result<(), NodeError> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|error| failed("killing the node", &error))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// One JSON-RPC call over a connection of its own.
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, NodeError> {
        let answer = self.post(method, &json!({ "id": 1, "method": method, "params": params }))?;
        if answer["error"].is_null() {
            Ok(answer["result"].clone())
        } else {
            Err(NodeError(format!("calling {method}: {}", answer["error"])))
        }
    }

    /// Many calls of one method in one request; the results in their order.
    pub fn call_many(&self, method: &str, params: &[Value]) -> Result<Vec<Value>, NodeError> {
        let call =
            |(id, params): (usize, &Value)| json!({ "id": id, "method": method, "params": params });
        let body: Value = params.iter().enumerate().map(call).collect();
        let answers = self.post(method, &body)?;
        let answers = answers.as_array().map_or(&[][..], Vec::as_slice);
        let bad = answers.iter().find(|answer| !answer["error"].is_null());
        match bad {
            None if answers.len() == params.len() => {
                Ok(answers.iter().map(|answer| answer["result"].clone()).collect())
            }
            _ => Err(NodeError(format!(
                "calling {method} {} times: {} answers, {bad:?}",
                params.len(),
                answers.len()
            ))),
        }
    }

    fn post(&self, method: &str, body: &Value) -> Result<Value, NodeError> {
        let body = body.to_string();
        let basic = base64::engine::general_purpose::STANDARD.encode(&self.credentials);
        let request = format!(
            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {basic}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(self.rpc_port, request.as_bytes())
            .map_err(|error| failed(&format!("calling {method}"), &error))?;
        let text = String::from_utf8_lossy(&answer);
        let Some((_, body)) = text.split_once("\r\n\r\n") else {
            return Err(NodeError(format!("calling {method}: no HTTP answer: {text}")));
        };
        serde_json::from_str(body)
            .map_err(|error| NodeError(format!("calling {method}: {error}: {body}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A node that is asked politely writes its state first; this one's state goes away anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `request` to a loopback port and reads until the other side closes.
pub fn exchange(port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A port nobody listens on; somebody else may take it before it is used.
pub fn free_port() -> Result<u16, NodeError> {
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|error| failed("finding a free port", &error))
}

/// The first line of a file, once it is there and ends.
pub fn line_of(path: &Path, child: &mut Child) -> Result<String, NodeError> {
    let until = Instant::now() + START;
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
            _ if Instant::now() > until => {
                return Err(NodeError(format!("{} did not appear", path.display())));
            }
            _ => {}
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(NodeError(format!("ended before {} appeared: {status}", path.display())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
