//! The other end of the control connection: what `relay send`, `relay watch`, `relay status` and `relay reload` say to a running relay.
//!
//! In: the settings, which name the address and the cookie. Out: the lines of the answer. The relay writes where it really listens into
//! `node.json` of its data directory, so a port 0 is found, too. A node is asked for the status of the relay inside it over HTTP, on its ops
//! listener, which is found the same way.

use super::settings::RelaySettings;
use crate::datadir::NODE_FILE;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

/// How long a relay on this machine may take to pick up.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a node may take to answer.
const NODE_ANSWER: Duration = Duration::from_secs(10);
/// The longest answer of a node: a few hundred bytes a peer.
const NODE_ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A connection to a running relay.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
    patience: Duration,
}

/// Where the relay of these settings listens for us.
fn address(settings: &RelaySettings) -> SocketAddr {
    let told = std::fs::read_to_string(settings.data_dir.join(NODE_FILE)).ok();
    let node: Option<Value> = told.and_then(|text| serde_json::from_str(&text).ok());
    let real = node.and_then(|node| node["listen"]["control"].as_str()?.parse().ok());
    real.unwrap_or(settings.control_listen)
}

impl Client {
    /// Calls it.
    pub fn connect(settings: &RelaySettings, patience: Duration) -> Result<Self, String> {
        let address = address(settings);
        let stream = TcpStream::connect_timeout(&address, CONNECT).map_err(|error| {
            format!("calling the relay at {address}: {error}; is `metanode relay run` up?")
        })?;
        stream.set_read_timeout(Some(patience)).map_err(|error| error.to_string())?;
        Ok(Self { stream: BufReader::new(stream), patience })
    }

    /// From now on an answer may take as long as it likes.
    pub fn be_patient(&self) -> Result<(), String> {
        self.stream.get_ref().set_read_timeout(None).map_err(|error| error.to_string())
    }

    /// The object that follows a line.
    pub fn take(&mut self, bytes: u64) -> Result<Vec<u8>, String> {
        let mut object = Vec::new();
        let took = (&mut self.stream).take(bytes).read_to_end(&mut object);
        match took {
            Ok(got) if got as u64 == bytes => Ok(object),
            Ok(got) => Err(format!("the relay hung up after {got} of {bytes} bytes of an object")),
            Err(error) => Err(format!("taking an object: {error}")),
        }
    }

    /// Says one line, and the object that belongs to it.
    pub fn say(&mut self, request: &Value, object: &[u8]) -> Result<(), String> {
        let stream = self.stream.get_mut();
        let told = |error: std::io::Error| format!("speaking with the relay: {error}");
        stream.write_all(format!("{request}\n").as_bytes()).map_err(told)?;
        // A relay that refuses stops reading; its answer says why, so that a broken pipe is no news.
        match stream.write_all(object) {
            Err(error)
                if error.kind() != std::io::ErrorKind::BrokenPipe
                    && error.kind() != std::io::ErrorKind::ConnectionReset =>
            {
                Err(told(error))
            }
            _ => Ok(()),
        }
    }

    /// The next line of the answer; an error if it says that it failed.
    pub fn hear(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        let seconds = self.patience.as_secs();
        match read {
            Ok(0) => return Err("the relay hung up".into()),
            Ok(_) => {}
            Err(error) => return Err(format!("no answer within {seconds} s: {error}")),
        }
        let answer: Value = serde_json::from_str(&line)
            .map_err(|error| format!("no answer of a relay: {error}"))?;
        match answer["error"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok(answer),
        }
    }
}

/// The status of the relay inside the node that runs in `folder`.
pub fn status_of_node(folder: &Path) -> Result<Value, String> {
    let file = folder.join(NODE_FILE);
    let none = || {
        let folder = folder.display();
        format!(
            "no node runs in {folder}: there is no {NODE_FILE} that says where; name the network's folder"
        )
    };
    let text = std::fs::read_to_string(file).map_err(|_| none())?;
    let node: Value = serde_json::from_str(&text).map_err(|_| none())?;
    let address = node["listen"]["ops"].as_str().and_then(|at| at.parse().ok());
    let address: SocketAddr = address.ok_or_else(none)?;
    let told = |error: std::io::Error| format!("asking the node at {address}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, CONNECT).map_err(told)?;
    stream.set_read_timeout(Some(NODE_ANSWER)).map_err(told)?;
    // Version 1.0: the answer ends with the connection, in no chunks.
    stream.write_all(b"GET /bfr/status HTTP/1.0\r\nHost: node\r\n\r\n").map_err(told)?;
    let mut answer = String::new();
    stream.take(NODE_ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(told)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let status: Value = serde_json::from_str(body)
        .map_err(|error| format!("the node at {address} gave no status: {error}"))?;
    match status["error"].as_str() {
        Some(why) => Err(why.to_owned()),
        None => Ok(status),
    }
}

/// The line that lets us change something.
pub fn cookie(settings: &RelaySettings) -> Result<String, String> {
    let path = settings.cookie_file();
    std::fs::read_to_string(&path).map(|line| line.trim().to_owned()).map_err(|error| {
        let at = path.display();
        format!("reading the cookie {at}: {error}; is the relay up, and is it this user's?")
    })
}
