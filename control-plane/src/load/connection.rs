//! One keep-alive connection: a request goes out, an answer comes back, one at a time.
//!
//! In: path, headers, body. Out: status and body, or why there is none. A connection that broke is opened again at the next
//! call; the call that met the break is lost and says so, since nobody knows whether the server had read it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection.
    #[error("connecting to {authority}: {source}")]
    Connect {
        /// `HOST:PORT`.
        authority: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke or the answer is not HTTP.
    #[error("calling {authority}: {text}")]
    Broken {
        /// `HOST:PORT`.
        authority: String,
        /// What was seen.
        text: String,
    },
    /// No answer in time.
    #[error("no answer from {authority} within {seconds} s")]
    Late {
        /// `HOST:PORT`.
        authority: String,
        /// How long it was waited for.
        seconds: u64,
    },
}

impl CallError {
    /// A few words that are the same for every connection.
    pub fn kind(&self) -> String {
        match self {
            Self::Connect { source, .. } => format!("connect: {}", source.kind()),
            Self::Broken { text, .. } => super::target::reason(text),
            Self::Late { .. } => "no answer in time".to_owned(),
        }
    }
}

/// A connection, open or to be opened.
#[derive(Debug)]
pub struct Connection {
    authority: String,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    deadline: Duration,
    sender: Option<SendRequest<Full<Bytes>>>,
    opened: u64,
}

impl Connection {
    /// To `authority`, with the value of an `Authorization` header; every call has `deadline` to be answered.
    pub fn new(
        authority: &str,
        authorization: Option<HeaderValue>,
        deadline: Duration,
    ) -> Result<Self, CallError> {
        let host = HeaderValue::from_str(authority).map_err(|error| CallError::Broken {
            authority: authority.to_owned(),
            text: format!("no host name: {error}"),
        })?;
        let authority = authority.to_owned();
        Ok(Self { authority, host, authorization, deadline, sender: None, opened: 0 })
    }

    /// How often it was opened.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Opens it unless it is open.
    pub async fn open(&mut self) -> Result<(), CallError> {
        // Ready is the only moment that says both: the answer before is read, and the server has not closed.
        if let Some(sender) = &mut self.sender
            && sender.ready().await.is_ok()
        {
            return Ok(());
        }
        self.sender = None;
        let connect = |source| CallError::Connect { authority: self.authority.clone(), source };
        let stream = tokio::time::timeout(CONNECT, TcpStream::connect(&self.authority))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let opened = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| self.broken(&error))?;
        // It ends with the last request or when the server closes; the sender learns of either.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        self.sender = Some(sender);
        self.opened += 1;
        Ok(())
    }

    /// Sends one request and reads its answer.
    pub async fn call(
        &mut self,
        path: &'static str,
        content_type: &'static str,
        accept: Option<&'static str>,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let deadline = self.deadline;
        let answered =
            tokio::time::timeout(deadline, self.exchange(path, content_type, accept, body)).await;
        let result = answered.unwrap_or_else(|_| {
            let authority = self.authority.clone();
            Err(CallError::Late { authority, seconds: deadline.as_secs() })
        });
        if result.is_err() {
            self.sender = None;
        }
        result
    }

    async fn exchange(
        &mut self,
        path: &'static str,
        content_type: &'static str,
        accept: Option<&'static str>,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        self.open().await?;
        let mut request = Request::post(path)
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(accept) = accept {
            request = request.header(ACCEPT, HeaderValue::from_static(accept));
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .expect("a path and header values that were checked make a request");
        let sender = self.sender.as_mut().expect("open gives a sender");
        let answer = match sender.send_request(request).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.broken(&error)),
        };
        let status = answer.status();
        match Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await {
            Ok(body) => Ok((status, body.to_bytes())),
            Err(error) => Err(self.broken(&*error)),
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> CallError {
        // hyper says what happened in the cause.
        let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        CallError::Broken { authority: self.authority.clone(), text }
    }
}
