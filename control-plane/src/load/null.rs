//! A server that takes everything and looks at nothing: what the generator could send if the node cost nothing.
//!
//! In: any request. Out: the shortest answer that means "accepted" in its interface. It runs on a thread of its own in the
//! same process, so its cost stands in for a node's connection handling, and the rate it gives is a lower bound of the
//! generator's own ceiling.

use super::target::Speech;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A running null server; it ends when dropped.
#[derive(Debug)]
pub struct NullServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl NullServer {
    /// Listens on a free loopback port and answers as a node spoken to in `speech` would.
    pub fn start(speech: Speech) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = Bytes::from_static(match speech {
            Speech::HttpOne | Speech::HttpMany => b"OK",
            Speech::RpcOne | Speech::RpcMany | Speech::RpcArray => {
                br#"{"result":{},"error":null,"id":0}"#
            }
        });
        let thread = std::thread::Builder::new().name("load-null".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, answer) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// `HOST:PORT`.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("load: the null server failed");
        }
    }
}

async fn serve(listener: std::net::TcpListener, answer: Bytes) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    while let Ok((stream, _)) = listener.accept().await {
        // A small answer must not wait for the next one.
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move {
                // Read and drop: a node has to read it too.
                let _ = request.into_body().collect().await;
                Ok::<_, Infallible>(Response::new(Full::new(answer)))
            }
        });
        tokio::spawn(async move {
            // A client that goes away ends its connection, and nobody else's.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
