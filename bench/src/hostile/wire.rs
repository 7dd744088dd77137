//! Bytes on a socket, and the status that comes back.
//!
//! In: a port and what to write, in pieces. Out: the answer's status, or that the other side closed, or that it said nothing for
//! longer than any of its deadlines allows, which is what must not happen.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longer than every deadline of the node's listeners (10 s headers and bodies, 30 s bodies of RPC, idle).
const PATIENCE: Duration = Duration::from_secs(90);
const CONNECT: Duration = Duration::from_secs(2);
/// As much of an answer as anybody looks at.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// How the node took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this HTTP status.
    Answered(u16),
    /// It closed without a word.
    Closed,
    /// No connection: its door was crowded.
    NotConnected,
    /// It kept the connection and said nothing.
    Silent,
    /// What came back is no HTTP.
    Odd(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "{status}"),
            Self::Closed => f.write_str("closed"),
            Self::NotConnected => f.write_str("not connected"),
            Self::Silent => f.write_str("silent"),
            Self::Odd(text) => write!(f, "odd: {text}"),
        }
    }
}

/// An open connection.
pub struct Wire(TcpStream);

impl Wire {
    pub fn open(port: u16) -> Option<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, CONNECT).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self(stream))
    }

    /// Writes; false when the other side has closed.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Says that nothing more comes, but listens on.
    pub fn end(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }

    /// Waits for the status line.
    pub fn status(&mut self) -> Outcome {
        let mut head = Vec::new();
        let mut piece = [0; 512];
        let began = Instant::now();
        loop {
            match self.0.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => head.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) if began.elapsed() >= PATIENCE => return Outcome::Silent,
                // Reset: closed, with what we had not read thrown away.
                Err(_) => break,
            }
            if head.windows(2).any(|pair| pair == b"\r\n") || head.len() > 4_096 {
                break;
            }
        }
        if head.is_empty() {
            return Outcome::Closed;
        }
        let text = String::from_utf8_lossy(&head);
        let status = text
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split_whitespace().nth(1))
            .and_then(|status| status.parse().ok());
        status.map_or_else(|| Outcome::Odd(text.chars().take(40).collect()), Outcome::Answered)
    }

    /// Reads to the end.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let _ = (&mut self.0).take(ANSWER_BYTES_MAX as u64).read_to_end(&mut all);
        all
    }
}

/// Opens, writes, waits for the status.
pub fn send(port: u16, bytes: &[u8]) -> Outcome {
    let Some(mut wire) = Wire::open(port) else { return Outcome::NotConnected };
    // The other side may answer and close before it has read all; its answer is what counts.
    wire.write(bytes);
    wire.status()
}

/// A request with a body.
pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A GET.
pub fn get(port: u16, path: &str) -> Outcome {
    send(port, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
}

/// The body of a GET that was answered with 200.
pub fn get_text(port: u16, path: &str) -> Option<String> {
    let mut wire = Wire::open(port)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n");
    if !wire.write(request.as_bytes()) {
        return None;
    }
    let answer = wire.rest();
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let is_ok = head.split_whitespace().nth(1) == Some("200");
    is_ok.then(|| body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that reads a little, says `answer` and closes, once for each connection.
    fn says(answer: &'static [u8], times: usize) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for _ in 0..times {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let _ = stream.read(&mut [0; 4_096]);
                let _ = stream.write_all(answer);
            }
        });
        port
    }

    #[test]
    fn an_answer_a_close_and_nonsense_are_told_apart() {
        let request = post("/tx", "", b"abc");
        let answered = send(says(b"HTTP/1.1 422 No\r\n\r\n", 1), &request);
        assert_eq!(answered, Outcome::Answered(422));
        assert_eq!(send(says(b"", 1), &request), Outcome::Closed);
        assert!(matches!(send(says(b"SSH-2.0\r\n", 1), &request), Outcome::Odd(_)));
        let port = {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
            listener.local_addr().expect("an address").port()
        };
        assert_eq!(send(port, &request), Outcome::NotConnected);
    }

    #[test]
    fn only_a_body_that_came_with_200_is_read() {
        let port = says(b"HTTP/1.0 200 OK\r\n\r\na 1\n", 1);
        assert_eq!(get_text(port, "/metrics").as_deref(), Some("a 1\n"));
        assert_eq!(get_text(says(b"HTTP/1.0 503 No\r\n\r\na 1\n", 1), "/metrics"), None);
    }
}
