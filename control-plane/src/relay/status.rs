//! What `relay status` shows, of a relay of its own and of one inside a node.
//!
//! In: the engine's numbers, the socket's, and what does not change while it runs. Out: one object; whoever hosts the relay adds its own.

use relay::engine::Status;
use relay::io::{Caps, IoStats};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Instant;

/// What does not change while a relay runs.
#[derive(Clone, Debug)]
pub struct Socket<'a> {
    /// How packets move.
    pub caps: Caps,
    /// Where they arrive.
    pub listen: Option<SocketAddr>,
    /// Who we are.
    pub public_key: &'a str,
    /// When it started.
    pub began: Instant,
}

/// The object.
pub fn shown(socket: &Socket<'_>, engine: &Status, io: &IoStats) -> Value {
    let mut status = serde_json::to_value(engine).unwrap_or_default();
    let own = json!({
        "backend": socket.caps.backend,
        "mode": socket.caps.mode(),
        "caps": socket.caps,
        "listen": socket.listen.map(|at| at.to_string()),
        "public_key": socket.public_key,
        "pid": std::process::id(),
        "uptime_s": socket.began.elapsed().as_secs(),
        "io": io,
    });
    if let (Some(status), Value::Object(own)) = (status.as_object_mut(), own) {
        status.extend(own);
    }
    status
}
