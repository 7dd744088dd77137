//! One connection, from its first byte to its close.
//!
//! Hyper reads and writes HTTP/1; this room watches the clock. A connection is *idle* (no byte of the next request), in a
//! *head* (some bytes, no whole header), or *busy* (a body is read, a handler works). Idle and head have a deadline, a body
//! has its own, and an answer the client does not read has one too: nothing a client does or leaves undone keeps a
//! connection for longer than these add up to. The handler's time is the handler's.

use super::body;
use super::counters::{HttpCount, HttpCounters};
use super::limits::Limits;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tower::ServiceExt;

/// What every connection of a listener shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) counters: Arc<HttpCounters>,
    pub(super) router: Router,
    pub(super) started: Instant,
}

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// What a connection does, since when. Written and read by one task only; atomic because the task moves between threads.
#[derive(Debug)]
struct Doing {
    phase: AtomicU8,
    since_ms: AtomicU64,
    refused_body: AtomicBool,
    write_late: AtomicBool,
    started: Instant,
}

impl Doing {
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn set(&self, phase: u8) {
        self.phase.store(phase, Relaxed);
        self.since_ms.store(self.now_ms(), Relaxed);
    }

    /// When the phase has lasted too long; never while busy.
    fn deadline(&self, limits: &Limits) -> Option<Instant> {
        let allowed = match self.phase.load(Relaxed) {
            IDLE => limits.idle_max,
            HEAD => limits.head_deadline,
            _ => return None,
        };
        Some(self.started + Duration::from_millis(self.since_ms.load(Relaxed)) + allowed)
    }
}

/// The stream under hyper: notes the first byte of a request, and cuts a client that does not read.
struct Watched {
    stream: TcpStream,
    doing: Arc<Doing>,
    write_deadline: Duration,
    /// Runs while a write waits.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    /// A write that waits too long is an error.
    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stuck = None;
            if self.doing.phase.load(Relaxed) == IDLE {
                self.doing.set(IDLE);
            }
            return poll;
        }
        let deadline = self.write_deadline;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
        ready!(stuck.as_mut().poll(cx));
        self.doing.write_late.store(true, Relaxed);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads no answer")))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before && self.doing.phase.load(Relaxed) == IDLE {
            self.doing.set(HEAD);
        }
        poll
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch_write(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch_write(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Answers one request: body, handler, count.
async fn answer(
    shared: &Shared,
    doing: &Doing,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Body> {
    doing.set(BUSY);
    let (mut parts, incoming) = request.into_parts();
    parts.extensions.insert(ConnectInfo(peer));
    let counters = &shared.counters;
    let mut response = match body::read(incoming, &shared.limits, counters).await {
        Ok((bytes, _held)) => {
            counters.bump(HttpCount::Requests);
            let _in_flight = InFlight::new(counters);
            let request = Request::from_parts(parts, Body::from(bytes));
            let Ok(response) = shared.router.clone().oneshot(request).await;
            response
        }
        Err(refused) => {
            counters.bump(refused.count);
            doing.refused_body.store(true, Relaxed);
            plain(refused.status, refused.text)
        }
    };
    counters.bump(match response.status().as_u16() {
        500.. => HttpCount::AnswersServerError,
        400.. => HttpCount::AnswersClientError,
        _ => HttpCount::AnswersOk,
    });
    if doing.refused_body.load(Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    doing.set(IDLE);
    response
}

/// A request a handler works on, until this is dropped.
struct InFlight<'a>(&'a HttpCounters);

impl<'a> InFlight<'a> {
    fn new(counters: &'a HttpCounters) -> Self {
        counters.bump(HttpCount::InFlight);
        Self(counters)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.sub(HttpCount::InFlight, 1);
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// How a connection ended.
enum End {
    Hyper(hyper::Result<()>),
    Late,
}

/// Serves one connection to its end.
pub(super) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are small; waiting to fill a segment only costs.
    let _ = stream.set_nodelay(true); // a socket that refuses is only slower
    let doing = Arc::new(Doing {
        phase: AtomicU8::new(IDLE),
        since_ms: AtomicU64::new(0),
        refused_body: AtomicBool::new(false),
        write_late: AtomicBool::new(false),
        started: shared.started,
    });
    // A fresh connection owes a request: it has the time of a header, not of an idle one.
    doing.set(HEAD);
    let watched = Watched {
        stream,
        doing: Arc::clone(&doing),
        write_deadline: shared.limits.write_deadline,
        stuck: None,
    };
    let service = service_fn(|request| {
        let (shared, doing) = (Arc::clone(&shared), Arc::clone(&doing));
        Box::pin(async move { Ok::<_, Infallible>(answer(&shared, &doing, peer, request).await) })
    });
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(shared.limits.head_bytes_max.max(8 << 10))
        .half_close(true)
        .serve_connection(TokioIo::new(watched), service);
    let mut stopping = Box::pin(async move { stop.wait_for(|stop| *stop).await.is_ok() });
    let mut told = false;
    let mut alarm: Option<(Instant, Pin<Box<Sleep>>)> = None;
    let end = poll_fn(|cx| {
        if !told && stopping.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.poll_without_shutdown(cx) {
            return Poll::Ready(End::Hyper(ended));
        }
        let Some(deadline) = doing.deadline(&shared.limits) else {
            alarm = None;
            return Poll::Pending;
        };
        match &mut alarm {
            Some((armed, _)) if *armed == deadline => {}
            Some((armed, sleep)) => {
                *armed = deadline;
                sleep.as_mut().reset(deadline);
            }
            None => alarm = Some((deadline, Box::pin(tokio::time::sleep_until(deadline)))),
        }
        let (_, sleep) = alarm.as_mut().expect("armed above");
        sleep.as_mut().poll(cx).map(|()| End::Late)
    })
    .await;
    let mut stream = connection.into_parts().io.into_inner().stream;
    match end {
        End::Late if doing.phase.load(Relaxed) == HEAD => {
            shared.counters.bump(HttpCount::HeadTimeouts);
            // A client that still listens learns why.
            let word = last_word(StatusCode::REQUEST_TIMEOUT, "the header did not arrive in time");
            let _ = stream.try_write(&word); // or does not
        }
        End::Late => shared.counters.bump(HttpCount::IdleClosed),
        End::Hyper(Ok(())) => {}
        End::Hyper(Err(ref error)) => shared.counters.bump(match () {
            () if doing.write_late.load(Relaxed) => HttpCount::WriteTimeouts,
            () if error.is_parse_too_large() => HttpCount::HeadsTooLarge,
            () if error.is_parse() => HttpCount::HeadsInvalid,
            () => HttpCount::Broken,
        }),
    }
    let unread = match end {
        End::Late => true,
        End::Hyper(Err(error)) => error.is_parse(),
        End::Hyper(Ok(())) => doing.refused_body.load(Relaxed),
    };
    if unread {
        linger(&mut stream, shared.limits.linger).await;
    }
}

/// A whole answer with `connection: close`, for where no request was read.
pub(super) fn last_word(status: StatusCode, text: &str) -> Vec<u8> {
    let retry = if status == StatusCode::SERVICE_UNAVAILABLE { "retry-after: 1\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\n{retry}content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{text}",
        text.len(),
    )
    .into_bytes()
}

/// Says that nothing more comes and reads what the client still sends: closing a socket with unread bytes resets it, and the
/// client would not see its answer.
pub(super) async fn linger(stream: &mut TcpStream, at_most: Duration) {
    let reading = async {
        let _ = stream.shutdown().await; // the client may be gone, which is as good
        let mut sink = vec![0; 16 << 10];
        while stream.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    };
    let _ = tokio::time::timeout(at_most, reading).await; // either way the connection ends here
}
