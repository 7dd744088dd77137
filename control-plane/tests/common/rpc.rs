//! A small JSON-RPC client for tests: one call a connection, whole answers, errors as values.

#![allow(dead_code)] // every test file uses a part of it

use base64::Engine;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Header lines, as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", &self.body[..self.body.len().min(500)]))
    }
}

/// What a call failed with: code and message.
pub type Failed = (i64, String);

/// Calls one node.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    credentials: Option<String>,
}

impl Client {
    /// A client of `host:port` with `user:password`.
    pub fn new(address: &str, credentials: &str) -> Self {
        Self { address: address.to_owned(), credentials: Some(credentials.to_owned()) }
    }

    /// The same node, without credentials.
    pub fn nobody(&self) -> Self {
        Self { address: self.address.clone(), credentials: None }
    }

    /// The same node, with other credentials.
    pub fn with(&self, credentials: &str) -> Self {
        Self::new(&self.address, credentials)
    }

    /// Posts a body.
    pub fn post(&self, body: &str) -> Reply {
        self.send("POST", "/", body)
    }

    /// Any request.
    pub fn send(&self, verb: &str, path: &str, body: &str) -> Reply {
        self.request(verb, path, "", body)
    }

    /// A request whose body is plain text.
    pub fn send_text(&self, verb: &str, path: &str, body: &str) -> Reply {
        self.request(verb, path, "Content-Type: text/plain\r\n", body)
    }

    /// The same to a node that may be gone, or go amid it.
    pub fn try_send_text(&self, verb: &str, path: &str, body: &str) -> std::io::Result<Reply> {
        self.try_request(verb, path, "Content-Type: text/plain\r\n", body)
    }

    fn request(&self, verb: &str, path: &str, headers: &str, body: &str) -> Reply {
        self.try_request(verb, path, headers, body).expect("an answer")
    }

    fn try_request(
        &self,
        verb: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> std::io::Result<Reply> {
        let authorization = self.credentials.as_ref().map_or(String::new(), |credentials| {
            let text = base64::engine::general_purpose::STANDARD.encode(credentials);
            format!("Authorization: Basic {text}\r\n")
        });
        // Version 1.0: the answer ends with the connection, in no chunks.
        let head = format!(
            "{verb} {path} HTTP/1.0\r\nHost: test\r\n{authorization}{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).expect("a socket");
        // A server that refuses early may close before it has read everything.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let text = String::from_utf8(bytes).expect("text");
        let cut = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(cut)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.expect("a status");
        Ok(Reply { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// One call: its result, or what it failed with.
    pub fn call(&self, method: &str, params: &Value) -> Result<Value, Failed> {
        let reply = self.post(&json!({ "id": 1, "method": method, "params": params }).to_string());
        let answer = reply.json();
        if answer["error"].is_null() {
            return Ok(answer["result"].clone());
        }
        let error = &answer["error"];
        let message = error["message"].as_str().unwrap_or_default().to_owned();
        Err((error["code"].as_i64().unwrap_or(0), message))
    }

    /// One call that must succeed.
    pub fn get(&self, method: &str, params: &Value) -> Value {
        self.call(method, params).unwrap_or_else(|error| panic!("{method} {params}: {error:?}"))
    }
}

/// An address of regtest whose key nobody needs.
pub const ADDRESS: &str = "mgwuYJgJx5L7M8g926E36WXqM8FUmRsens";
