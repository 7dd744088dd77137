//! What a listener allows: every bound of the HTTP server in one struct, each with a counter for when it is reached.
//!
//! The defaults suit a listener on loopback with clients that keep their connections. Memory of a listener is at most
//! `bodies_bytes_max` for bodies and about `connections_max` times `head_bytes_max` for everything else.

use std::time::Duration;

/// Bounds of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; the next is answered 503 at the door and closed.
    pub connections_max: usize,
    /// From the first byte of a request to the end of its header.
    pub head_deadline: Duration,
    /// Bytes of a request's header.
    pub head_bytes_max: usize,
    /// From the end of the header to the end of the body.
    pub body_deadline: Duration,
    /// Bytes of one body; more is answered 413.
    pub body_bytes_max: usize,
    /// Bytes of all bodies that are being read or worked on; what does not fit is answered 503.
    pub bodies_bytes_max: usize,
    /// How long a connection may stay open between two requests.
    pub idle_max: Duration,
    /// How long a client may leave an answer unread before the connection is cut.
    pub write_deadline: Duration,
    /// What a stopping server gives requests that are being worked on.
    pub stop_grace: Duration,
    /// Refused connections that are kept a moment, so that the client reads why; the rest are closed at once.
    pub lingering_max: usize,
    /// That moment.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 256,
            head_deadline: Duration::from_secs(10),
            head_bytes_max: 16 << 10,
            body_deadline: Duration::from_secs(10),
            body_bytes_max: 32 << 20,
            bodies_bytes_max: 256 << 20,
            idle_max: Duration::from_secs(60),
            write_deadline: Duration::from_secs(10),
            stop_grace: Duration::from_millis(1_500),
            lingering_max: 64,
            linger: Duration::from_millis(500),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_http_states_these_bounds() {
        let page = include_str!("../../../docs/interfaces/http.md");
        let limits = Limits::default();
        let seconds = |d: Duration| format!("{} s", d.as_secs_f64());
        let bytes = |n: usize| format!("{n} bytes");
        for (name, value) in [
            ("connections_max", limits.connections_max.to_string()),
            ("head_deadline", seconds(limits.head_deadline)),
            ("head_bytes_max", bytes(limits.head_bytes_max)),
            ("body_deadline", seconds(limits.body_deadline)),
            ("body_bytes_max", bytes(limits.body_bytes_max)),
            ("bodies_bytes_max", bytes(limits.bodies_bytes_max)),
            ("idle_max", seconds(limits.idle_max)),
            ("write_deadline", seconds(limits.write_deadline)),
            ("stop_grace", seconds(limits.stop_grace)),
        ] {
            let row = format!("| `{name}` | {value} |");
            assert!(page.contains(&row), "docs/interfaces/http.md lacks {row}");
        }
    }
}
