//! The accept loop: takes connections up to a bound, refuses the rest with a word, and ends in time when told to stop.
//!
//! In: a listener, [`Limits`], [`HttpCounters`], a router, and a future that completes when the node stops. Out: nothing;
//! [`serve`] returns when the last connection is closed or the grace is over. A connection costs one task; a refused one
//! costs an accept, one write and a close, so ten thousand of them are some milliseconds of one thread.

use super::connection::{self, Shared};
use super::counters::{HttpCount, HttpCounters};
use super::limits::Limits;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections the system queues for the accept loop.
const BACKLOG: u32 = 1_024;
/// How long the loop rests when the system has no descriptor for the next connection.
const REST: Duration = Duration::from_millis(20);

/// Binds `address` (port 0: any); ask the listener for the real one. Must be called inside a tokio runtime.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted node finds its port although old connections linger in the system.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `router` on `listener` until `stop` completes, then for at most `limits.stop_grace`.
pub async fn serve(
    listener: TcpListener,
    limits: Limits,
    counters: Arc<HttpCounters>,
    router: Router,
    stop: impl Future<Output = ()> + Send,
) {
    let (tell, told) = watch::channel(false);
    // The bound on bodies is this server's, not the extractors'.
    let router = router.layer(DefaultBodyLimit::disable());
    let shared = Arc::new(Shared { limits, counters, router, started: Instant::now() });
    let (mut open, mut lingering) = (JoinSet::new(), JoinSet::new());
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = open.join_next() => shared.counters.sub(HttpCount::Open, 1),
            Some(_) = lingering.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) if open.len() < shared.limits.connections_max => {
                    shared.counters.bump(HttpCount::Accepted);
                    shared.counters.bump(HttpCount::Open);
                    open.spawn(connection::run(stream, peer, Arc::clone(&shared), told.clone()));
                }
                Ok((stream, _)) => refuse(stream, &shared, &mut lingering),
                Err(error) => {
                    shared.counters.bump(HttpCount::AcceptErrors);
                    tracing::debug!(listener = shared.counters.listener(), %error, "accept failed");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }
    drop(listener);
    tell.send_replace(true);
    let closing = async { while open.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(shared.limits.stop_grace, closing).await; // who is late is cut below
    open.abort_all();
    while open.join_next().await.is_some() {}
    shared.counters.sub(HttpCount::Open, shared.counters.get(HttpCount::Open));
}

/// One connection too many: a word, and the door.
fn refuse(mut stream: TcpStream, shared: &Shared, lingering: &mut JoinSet<()>) {
    shared.counters.bump(HttpCount::Refused);
    let why = "too many connections are open; try again later";
    let word = connection::last_word(StatusCode::SERVICE_UNAVAILABLE, why);
    let written = stream.try_write(&word).is_ok();
    // Who has sent nothing yet gets the word with a plain close; the others need the stream read to its end.
    if written && lingering.len() < shared.limits.lingering_max {
        let at_most = shared.limits.linger;
        lingering.spawn(async move { connection::linger(&mut stream, at_most).await });
    }
}

#[cfg(test)]
mod tests;
