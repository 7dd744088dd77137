//! A small client of bitcoind's JSON-RPC, for what prepares and checks a run.
//!
//! In: a method and its parameters. Out: the result, or what the node said. Credentials are those of a cookie file or a name
//! and a password; the password is read from a file, so that it stands in no process list.

use super::connection::{CallError, Connection};
use base64::Engine;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one call may take: mining a hundred blocks on a slow node does.
const DEADLINE: Duration = Duration::from_secs(600);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// No answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The node said no.
    #[error("{method} at {authority}: error {code}: {message}")]
    Refused {
        /// The method.
        method: String,
        /// `HOST:PORT`.
        authority: String,
        /// JSON-RPC's code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// The answer is not JSON-RPC.
    #[error(
        "{method} at {authority}: HTTP {status} with no JSON-RPC answer ({text}); expected a node's RPC \
         port and its credentials (--cookie, or --user and --password-file)"
    )]
    NoAnswer {
        /// The method.
        method: String,
        /// `HOST:PORT`.
        authority: String,
        /// Of the answer.
        status: u16,
        /// Its beginning.
        text: String,
    },
    /// The answer has another shape than bitcoind's.
    #[error("{method} at {authority} answered {got}, expected {expected}")]
    Shape {
        /// The method.
        method: String,
        /// `HOST:PORT`.
        authority: String,
        /// The beginning of the result.
        got: String,
        /// What was wanted.
        expected: &'static str,
    },
    /// The credentials cannot be read.
    #[error("reading credentials from {path}: {text}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        text: String,
    },
}

/// `NAME:PASSWORD` from a cookie file, or from a name and a password file.
pub fn credentials(
    cookie: Option<&Path>,
    user: Option<&str>,
    password_file: Option<&Path>,
) -> Result<Option<String>, RpcError> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map(|text| text.trim_end().to_owned()).map_err(|error| {
            RpcError::Credentials { path: path.to_owned(), text: error.to_string() }
        })
    };
    match (cookie, user, password_file) {
        (Some(path), _, _) => {
            let text = read(path)?;
            if text.contains(':') {
                return Ok(Some(text));
            }
            let text = "no colon in it; a cookie is NAME:PASSWORD on one line".to_owned();
            Err(RpcError::Credentials { path: path.to_owned(), text })
        }
        (None, Some(user), Some(path)) => Ok(Some(format!("{user}:{}", read(path)?))),
        (None, Some(user), None) => Ok(Some(format!("{user}:"))),
        (None, None, _) => Ok(None),
    }
}

/// The `Authorization` header for `NAME:PASSWORD`.
pub fn authorization(credentials: Option<&str>) -> Option<HeaderValue> {
    let text = base64::engine::general_purpose::STANDARD.encode(credentials?);
    let mut value = HeaderValue::from_str(&format!("Basic {text}"))
        .expect("base64 has no character a header forbids");
    value.set_sensitive(true);
    Some(value)
}

/// A client with one connection.
#[derive(Debug)]
pub struct Rpc {
    authority: String,
    connection: Connection,
}

impl Rpc {
    /// To `authority` with `NAME:PASSWORD`.
    pub fn new(authority: &str, credentials: Option<&str>) -> Result<Self, RpcError> {
        let connection = Connection::new(authority, authorization(credentials), DEADLINE)?;
        Ok(Self { authority: authority.to_owned(), connection })
    }

    /// One call.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        let body = json!({ "jsonrpc": "1.0", "id": 0, "method": method, "params": params });
        let mut answer = self.post(method, body.to_string().into_bytes()).await?;
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            return Err(RpcError::Refused {
                method: method.to_owned(),
                authority: self.authority.clone(),
                code: error["code"].as_i64().unwrap_or(0),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            });
        }
        Ok(answer["result"].take())
    }

    /// A call whose result is a number.
    pub async fn number(&mut self, method: &str, params: Value) -> Result<u64, RpcError> {
        let result = self.call(method, params).await?;
        result.as_u64().ok_or_else(|| self.shape(method, &result, "a number"))
    }

    /// A call whose result is text.
    pub async fn text(&mut self, method: &str, params: Value) -> Result<String, RpcError> {
        match self.call(method, params).await? {
            Value::String(text) => Ok(text),
            other => Err(self.shape(method, &other, "text")),
        }
    }

    /// Whether the node knows a method; it is called without parameters.
    pub async fn knows(&mut self, method: &str) -> Result<bool, RpcError> {
        match self.call(method, json!([])).await {
            Ok(_) => Ok(true),
            // JSON-RPC: method not found.
            Err(RpcError::Refused { code, .. }) => Ok(code != -32601),
            Err(error) => Err(error),
        }
    }

    /// How many transactions the pool holds.
    pub async fn pool_size(&mut self) -> Result<u64, RpcError> {
        let info = self.call("getmempoolinfo", json!([])).await?;
        info["size"].as_u64().ok_or_else(|| self.shape("getmempoolinfo", &info, "a key `size`"))
    }

    /// An error about a result of another shape.
    pub fn shape(&self, method: &str, got: &Value, expected: &'static str) -> RpcError {
        let got = got.to_string().chars().take(200).collect();
        RpcError::Shape {
            method: method.to_owned(),
            authority: self.authority.clone(),
            got,
            expected,
        }
    }

    async fn post(&mut self, method: &str, body: Vec<u8>) -> Result<Value, RpcError> {
        let (status, body) = self.connection.call("/", "application/json", None, body).await?;
        match serde_json::from_slice::<Value>(&body) {
            Ok(answer) if answer.is_object() => Ok(answer),
            _ => {
                let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
                Err(RpcError::NoAnswer {
                    method: method.to_owned(),
                    authority: self.authority.clone(),
                    status: status.as_u16(),
                    text: text.trim().to_owned(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_or_a_name_and_a_password_file_give_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let (cookie, secret) = (folder.path().join(".cookie"), folder.path().join("secret"));
        std::fs::write(&cookie, "__cookie__:abc\n").unwrap();
        std::fs::write(&secret, "p w\n").unwrap();
        let got = credentials(Some(&cookie), None, None).unwrap();
        assert_eq!(got.as_deref(), Some("__cookie__:abc"));
        let got = credentials(None, Some("u"), Some(&secret)).unwrap();
        assert_eq!(got.as_deref(), Some("u:p w"));
        assert_eq!(credentials(None, None, None).unwrap(), None);
        assert!(credentials(Some(&secret), None, None).is_err(), "a cookie has a colon");
        assert!(credentials(Some(folder.path()), None, None).is_err());
        let header = authorization(Some("u:p")).unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic dTpw");
    }
}
