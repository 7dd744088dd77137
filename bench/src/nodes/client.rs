//! A client of our own node: coins and signed transactions, a keep-alive connection to `/tx`, blocks at will.

use super::metanode::MetaNode;
use super::{NodeError, failed};
use load::{Offer, Options, Plan};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Regtest's address of nobody: twenty zeros.
const NOBODY: &str = "mfWxJ45yp2SFn7UciZyNpvDKrzbhyfKrY8";

/// Coins on the node, and the plan signed.
pub fn signed(node: &MetaNode, options: Options) -> Result<Offer, NodeError> {
    let plan = Plan::new(Options { keys: 1_000, ..options });
    let authority = format!("127.0.0.1:{}", node.running.rpc_port);
    let coins = control_plane::load::coins_by_rpc(&authority, &node.running.credentials, &plan)
        .map_err(|error| failed("preparing coins", &error))?;
    Ok(plan.sign(&coins.coins))
}

/// A keep-alive connection to the submit interface.
pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    pub fn open(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Status and body of a POST.
    pub fn post(&mut self, path: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.reader.get_mut().write_all(&bytes)?;
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(0);
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.reader.read_exact(&mut answer)?;
        Ok((status, answer))
    }

    /// Sends a transaction; whether it was accepted, and the answer.
    pub fn tx(&mut self, tx: &[u8]) -> Result<(bool, String), NodeError> {
        let (status, body) =
            self.post("/tx", tx).map_err(|error| failed("posting a transaction", &error))?;
        Ok((status == 200, format!("{status} {}", String::from_utf8_lossy(&body))))
    }
}

/// Mines blocks that pay to nobody; their hashes.
pub fn mine(node: &MetaNode, count: u32) -> Result<Vec<String>, NodeError> {
    let mined = node.running.call("generatetoaddress", &json!([count, NOBODY]))?;
    let hashes = mined.as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(hashes.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_address_pays_to_twenty_zeros() {
        let nobody = consensus::address::Destination::PubKeyHash([0; 20]);
        let params = consensus::params::ChainParams::of(consensus::params::Network::Regtest);
        assert_eq!(nobody.to_address(&params), NOBODY);
    }
}
